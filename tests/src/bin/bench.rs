//! What a call costs. Prints; asserts only that answers are right.
//!
//! `cargo run --release -p tests --bin bench -- relay`: two security servers, each a process, with the service and the load,
//! beside two hops of nginx and of HAProxy where they are installed. `TMPDIR` chooses the disk.
//!
//! `… -- overload`: the same at so many times what can be carried. `… -- stream`: 100 MiB and 1 GiB, down and up. `… -- idle`:
//! 10,000 connections of clients and 1,000 of peers on which nothing is said. `… -- connect`: a start with 10,000 members, and many peers
//! and consumers at once. `… -- cores`: with one core, and with all.
//!
//! `cargo run --release -p tests --bin bench -- national`: a registry of 10,000 members with 100,000 services, and 10,000
//! connections that watch it.
//!
//! `cargo run --release -p tests --bin bench -- log`: what it costs to record, and to open, verify and search a log of a million
//! records.
//!
//! `cargo run --release -p tests --bin bench -- catalogue`: the same registry, where one member publishes what it asks for.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use tests::bench::{catalogue, connect, cores, idle, national, overload, recording, relay, service, stream};

/// What a call costs.
#[derive(Parser)]
#[command(name = "bench")]
struct CommandLine {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Unary calls through two security servers, two hops of nginx and two of HAProxy, in turn.
    Relay(relay::Arguments),
    /// More unary calls than can be carried: what becomes of those that are taken, and of the rest.
    Overload(overload::Arguments),
    /// Long streams, down and up, through two security servers and two hops of nginx, in turn.
    Stream(stream::Arguments),
    /// Connections on which nothing is said, and a server with no traffic.
    Idle(idle::Arguments),
    /// Many others: a start with 10,000 members, a server that calls many peers, one that serves many consumers'.
    Connect(connect::Arguments),
    /// The unary calls with one core and with all of them.
    Cores(cores::Arguments),
    /// A country's global configuration: the cost of a change, of a start from nothing, and of telling everybody.
    National(national::Arguments),
    /// What publishing costs where 100,000 services are listed already.
    Catalogue(catalogue::Arguments),
    /// The message log: to record, beside a bare sync; to open, verify and search a million records.
    Log(recording::Arguments),
    /// A process of `national`.
    #[command(hide = true, subcommand)]
    NationalPart(national::Part),
    /// The service that is asked: for a real pair of servers, on the provider's host.
    Service {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
    },
}

#[tokio::main]
async fn main() {
    match CommandLine::parse().what {
        What::Relay(arguments) => relay::run(arguments, std::env::current_exe().unwrap()).await,
        What::Overload(arguments) => overload::run(arguments, std::env::current_exe().unwrap()).await,
        What::Stream(arguments) => stream::run(arguments, std::env::current_exe().unwrap()).await,
        What::Idle(arguments) => idle::run(arguments).await,
        What::Connect(arguments) => connect::run(arguments).await,
        What::Cores(arguments) => cores::run(arguments, std::env::current_exe().unwrap()).await,
        What::National(arguments) => national::run(arguments, std::env::current_exe().unwrap()).await,
        What::Catalogue(arguments) => catalogue::run(arguments).await,
        What::Log(arguments) => recording::run(arguments).await,
        What::NationalPart(part) => national::play(part).await,
        What::Service { listen } => service::serve(listen).await,
    }
}
