//! Writes what the fuzzers begin with: `cargo run --package tests --bin seeds`, into `tests/fuzz/corpus`.

#![allow(clippy::unwrap_used, reason = "a tool for whoever tests: what fails says where")]

use std::path::Path;

use proto::digest::Digest;
use tests::knocked::knocks;
use tests::parsers::{ALL, seeds};
use tests::pets::PetTown;

#[tokio::main]
async fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let town = PetTown::new().await;
    let of_parsers = seeds(town.realm.directory.path());
    let named = ALL.iter().zip(0u8..).flat_map(|(parser, which)| {
        of_parsers[parser.name].iter().map(move |seed| [&[which], seed.as_slice()].concat())
    });
    write(&corpus.join("parsers"), named);
    write(&corpus.join("door"), knocks());
    town.realm.stops().await;
}

fn write(directory: &Path, seeds: impl IntoIterator<Item = Vec<u8>>) {
    std::fs::create_dir_all(directory).unwrap();
    let mut count = 0;
    for seed in seeds {
        std::fs::write(directory.join(Digest::of(&[&seed]).to_string()), seed).unwrap();
        count += 1;
    }
    println!("{count} in {}", directory.display());
}
