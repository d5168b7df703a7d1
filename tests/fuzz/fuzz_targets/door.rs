//! Whatever bytes there are at the clients' doors of running security servers. The first byte says at which.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tests::knocked::Doors;

static DOORS: OnceLock<Doors> = OnceLock::new();

fuzz_target!(|input: &[u8]| DOORS.get_or_init(Doors::open).knock(input));
