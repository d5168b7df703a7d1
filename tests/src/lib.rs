//! A world to tell promises against: an instance, members with their security servers, services and clients, on
//! loopback, with a clock that the test holds. Everything in it is the real thing, started as `main` starts it.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests are read, not called")]

pub mod attack;
pub mod echo;
pub mod forged_log;
pub mod matrix;
pub mod processes;
pub mod programs;
pub mod raw;
pub mod rogue;
pub mod rogue_registry;
pub mod tap;
pub mod world;

/// Waits for what must come. It fails where the test would hang; no test depends on how long it is.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(std::time::Duration::from_secs(20), what).await.expect("it came within 20 seconds")
}

/// The tests' own service, generated.
#[allow(clippy::all)]
pub mod wire {
    tonic::include_proto!("echo.v1");
}
