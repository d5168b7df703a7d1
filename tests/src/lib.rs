//! A world to tell promises against: an instance, members with their security servers, services and clients, on
//! loopback, with a clock that the test holds. Everything in it is the real thing, started as `main` starts it.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests are read, not called")]

pub mod attack;
pub mod bench;
pub mod chaos;
pub mod country;
pub mod echo;
pub mod forged_log;
pub mod frames;
pub mod knocked;
pub mod logs;
pub mod matrix;
pub mod operator;
pub mod parsers;
pub mod pets;
pub mod plain;
pub mod processes;
pub mod programs;
pub mod raw;
pub mod realm;
pub mod rogue;
pub mod rogue_registry;
pub mod roomy;
pub mod tap;
pub mod tsa;
pub mod world;

/// Waits for what must come. It fails where the test would hang; no test depends on how long it is. Where the environment
/// says so it fails sooner: a mutant that is to die need not take its time.
pub async fn soon<F: Future>(what: F) -> F::Output {
    let seconds = std::env::var("CAUSEWAY_SOON").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(20);
    let came = tokio::time::timeout(std::time::Duration::from_secs(seconds), what).await;
    came.unwrap_or_else(|_| panic!("it did not come within {seconds} seconds"))
}

/// The tests' own service, generated.
#[allow(clippy::all)]
pub mod wire {
    tonic::include_proto!("echo.v1");
}
