//! A world to tell promises against: an instance, members with their security servers, services and clients, on
//! loopback, with a clock that the test holds. Everything in it is the real thing, started as `main` starts it.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests are read, not called")]

pub mod echo;
pub mod processes;
pub mod tap;
pub mod world;

/// The tests' own service, generated.
#[allow(clippy::all)]
pub mod wire {
    tonic::include_proto!("echo.v1");
}
