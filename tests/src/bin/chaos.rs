//! Puts real processes in trouble for as long as you like, and asks afterwards whether every promise was kept.
//!
//! `cargo run --package tests --bin chaos -- --seconds 3600 --seed N`: without a seed one is drawn; it is printed first, and
//! the same seed draws the same faults. Exit code 0: nothing was found. 7: what was found is printed, with the directory in
//! which ledgers, logs and everything that the processes said still stand.

#![allow(clippy::unwrap_used, reason = "a program of the tests that cannot go on says where")]

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tests::chaos::load::{self, ClientArguments, ServiceArguments};
use tests::chaos::{self, Options};
use tests::processes;
use tokio::signal::unix::{SignalKind, signal};

/// Real processes in trouble.
#[derive(Parser)]
#[command(name = "chaos")]
struct CommandLine {
    #[command(subcommand)]
    part: Option<Part>,
    /// What the faults are drawn from.
    #[arg(long)]
    seed: Option<u64>,
    /// How long new rounds of faults begin.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// What the harness starts of itself.
#[derive(Subcommand)]
enum Part {
    /// Asks, and keeps a ledger.
    Client(ClientArguments),
    /// Is asked, and keeps a ledger.
    Service(ServiceArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let CommandLine { part, seed, seconds, programs } = CommandLine::parse();
    match part {
        Some(Part::Client(arguments)) => load::client(arguments).await,
        Some(Part::Service(arguments)) => load::service(arguments).await,
        None => return run(seed, seconds, programs).await,
    }
    ExitCode::SUCCESS
}

async fn run(seed: Option<u64>, seconds: u64, programs: Option<PathBuf>) -> ExitCode {
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let again = format!("cargo run --package tests --bin chaos -- --seconds {seconds} --seed {seed}");
    println!("{again}");
    if let Some(programs) = programs {
        processes::programs_stand_in(programs);
    }
    let began = Instant::now();
    let options = Options { seed, lasting: Duration::from_secs(seconds), itself: std::env::current_exe().unwrap() };
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let found = tokio::select! {
        found = chaos::run(options) => found,
        // What is dropped with it is killed.
        _ = terminated.recv() => return ExitCode::FAILURE,
        _ = tokio::signal::ctrl_c() => return ExitCode::FAILURE,
    };
    if found.is_empty() {
        println!("seed {seed}: nothing found in {:.0?}", began.elapsed());
        return ExitCode::SUCCESS;
    }
    println!("seed {seed}: FOUND, after the faults above:");
    for what in &found {
        println!("- {what}");
    }
    println!("The same faults again: {again}");
    ExitCode::from(7)
}
