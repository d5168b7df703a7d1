//! What every parser of bytes that somebody else chose promises: whatever it is given it takes or refuses, and that is all.
//! The fuzzer under `tests/fuzz` asks the same of the same parsers for as long as it is let.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;

use tests::parsers::{ALL, MAX_INPUT_BYTES, seeds};
use tests::pets::PetTown;

/// How many inputs are made of each seed.
const MADE: usize = 60;

/// SplitMix64: the same inputs in every run.
struct Chosen(u64);

impl Chosen {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound.max(1)
    }

    /// A few changes: bits, cuts, runs that stand twice, and runs of another seed.
    fn changed(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut changed = seed.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(changed.len() + 1);
            let length = self.below(9);
            match self.below(5) {
                0 if at < changed.len() => changed[at] ^= 1 << self.below(8),
                1 if at < changed.len() => changed[at] = [0, 0xff, 0x7f, 0x80, b'/', b'%', b'"'][self.below(7)],
                2 => changed.truncate(at),
                3 => {
                    let end = (at + length).min(changed.len());
                    changed.splice(at..at, changed[at..end].to_vec());
                }
                _ => {
                    let from = self.below(other.len() + 1);
                    let end = (from + length).min(other.len());
                    changed.splice(at..at, other[from..end].to_vec());
                }
            }
        }
        changed.truncate(MAX_INPUT_BYTES);
        changed
    }
}

/// One that takes none of the seeds is not shown to take anything: the fuzzer would knock at a closed door.
#[tokio::test(flavor = "multi_thread")]
async fn every_parser_takes_something_and_survives_what_becomes_of_it() {
    let town = PetTown::new().await;
    let directory = town.realm.directory.path().to_owned();
    let seeds: BTreeMap<_, _> = tokio::task::spawn_blocking(move || seeds(&directory)).await.unwrap();
    let closed: Vec<_> = seeds.iter().filter(|(_, taken)| taken.is_empty()).map(|(name, _)| name).collect();
    assert!(closed.is_empty(), "these take none of the seeds: {closed:?}");
    let mut chosen = Chosen(1);
    for parser in ALL {
        let of = &seeds[parser.name];
        for seed in of {
            for _ in 0..MADE {
                let other = &of[chosen.below(of.len())];
                (parser.takes)(&chosen.changed(seed, other));
            }
        }
    }
    town.realm.stops().await;
}
