//! How many calls a second the relay carries, beside the same calls made straight to the service. Prints; asserts nothing.
//!
//! `cargo run --release --package tests --bin bench` — two security servers, the service and the clients share this one
//! process and its cores, and every message is signed and synced to the disk of the temporary directory at both servers
//! (`TMPDIR` chooses it). So the figures compare with each other, and with nothing that was measured elsewhere.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::time::{Duration, Instant};

use tests::wire::Said;
use tests::wire::echo_client::EchoClient;
use tests::world::{Client, Fields, World};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Bytes of a message's text.
const MESSAGE_BYTES: usize = 1024;
/// Calls of one row.
const CALLS: usize = 4000;

#[tokio::main]
async fn main() {
    let world = World::new().await;
    let straight = Channel::from_shared(format!("http://{}", world.service)).unwrap().connect().await.unwrap();
    let straight = EchoClient::with_interceptor(straight, Fields(Vec::new()));
    let relayed = world.client().await;
    println!("unary calls of {MESSAGE_BYTES} bytes both ways, {CALLS} a row, one client connection");
    println!("{:<10} {:>10} {:>10} {:>10} {:>10}", "", "at once", "calls/s", "p50 us", "p99 us");
    for at_once in [1, 16, 64, 256] {
        for (name, client) in [("straight", &straight), ("relayed", &relayed)] {
            let (took, mut each) = run(client, at_once).await;
            each.sort_unstable();
            let at = |share: usize| each[(each.len() - 1) * share / 100].as_micros();
            let rate = each.len() as f64 / took.as_secs_f64();
            println!("{name:<10} {at_once:>10} {rate:>10.0} {:>10} {:>10}", at(50), at(99));
        }
    }
}

async fn run(client: &Client, at_once: usize) -> (Duration, Vec<Duration>) {
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..at_once {
        let mut client = client.clone();
        callers.spawn(async move {
            let mut each = Vec::with_capacity(CALLS / at_once);
            for _ in 0..CALLS / at_once {
                let said = Said { text: "x".repeat(MESSAGE_BYTES), ..Default::default() };
                let called = Instant::now();
                client.unary(said).await.unwrap();
                each.push(called.elapsed());
            }
            each
        });
    }
    let each = callers.join_all().await.into_iter().flatten().collect();
    (began.elapsed(), each)
}
