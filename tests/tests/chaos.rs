//! Whatever befalls processes and lines, every promise is kept: about a minute of faults, drawn from a seed of its own.
//!
//! `CAUSEWAY_SEED` gives the seed, `CAUSEWAY_SECONDS` how long rounds of faults begin. By hand, for hours:
//! `cargo run --package tests --bin chaos -- --seconds 3600`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::hash::{BuildHasher, RandomState};
use std::process::Command;

use tests::processes;

#[test]
fn whatever_befalls_processes_and_lines_no_promise_is_broken() {
    let seed = std::env::var("CAUSEWAY_SEED").unwrap_or_else(|_| RandomState::new().hash_one(0).to_string());
    let seconds = std::env::var("CAUSEWAY_SECONDS").unwrap_or_else(|_| "40".into());
    println!("CAUSEWAY_SEED={seed} CAUSEWAY_SECONDS={seconds} cargo test --workspace --test chaos");
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos.args(["--seed", &seed, "--seconds", &seconds, "--programs"]);
    chaos.arg(processes::program("security-server").parent().unwrap());
    let ended = chaos.output().unwrap();
    print!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{}", ended.status);
}
