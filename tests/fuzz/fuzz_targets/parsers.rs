//! The first byte of an input says which parser of `tests::parsers::ALL` takes the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::parsers::ALL;

fuzz_target!(|input: &[u8]| {
    if let [which, bytes @ ..] = input
        && let Some(parser) = ALL.get(usize::from(*which))
    {
        (parser.takes)(bytes);
    }
});
