//! What a call costs, in counts that no machine changes: a change that makes a call's work half as much again fails here.
//! Alone in its file: it counts the whole process, with the client and the service in it.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tests::echo::said;
use tests::soon;
use tests::world::World;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls before anything counts, until maps and buffers have grown, and calls that count.
const WARM: usize = 50;
const CALLS: usize = 100;
/// Allocations of a unary call of 1 KiB both ways, at both servers, the client and the service: an eighth more than there are.
const MAX_ALLOCATIONS: usize = 680;
/// Bytes of them, of a build for tests.
const MAX_ALLOCATED_BYTES: usize = 177_000;
/// Calls of the system that write, of the same: to sockets from several buffers, and to the logs' files. An eighth more than there are.
const MAX_WRITES: u64 = 22;

#[tokio::test]
async fn a_call_costs_no_more_records_signatures_and_memory_than_are_told_here() {
    let world = World::arranged(async |world| {
        // A tail that is signed after a second would be counted or not, as the machine is fast or slow.
        world.log_options.tail_signed_within = None;
    })
    .await;
    world.grant_all().await;
    let mut client = world.client().await;
    let text = "x".repeat(1024);
    let mut calls = async |count: usize| {
        for _ in 0..count {
            soon(client.unary(said(&text))).await.unwrap();
            // Each is concluded before the next begins: no two share a commit, however fast the machine is.
            world.quiet().await;
        }
    };
    calls(WARM).await;
    let counts = || ["portal", "moj"].map(|name| world.servers[name].server.message_log.counts());
    let (before, written, region) = (counts(), writes(), Region::new(ALLOCATOR));
    calls(CALLS).await;
    let (after, written, change) = (counts(), writes() - written, region.change());
    for (before, after) in before.into_iter().zip(after) {
        let records = (after.records - before.records) as usize;
        assert_eq!(records, 3 * CALLS, "its request, its answer and its end");
        let heads_signed = (after.heads_signed - before.heads_signed) as usize;
        assert_eq!(heads_signed, CALLS, "only what leaves is signed");
        let syncs = (after.syncs - before.syncs) as usize;
        assert_eq!(syncs, 3 * CALLS, "one a record, since each waited for the one before");
    }
    let allocations = (change.allocations + change.reallocations) / CALLS;
    let bytes = change.bytes_allocated / CALLS;
    println!("{allocations} allocations of {bytes} bytes a call");
    let writes = written / CALLS as u64;
    println!("{writes} writes a call");
    assert!(writes <= MAX_WRITES, "{writes} writes a call");
    assert!(allocations <= MAX_ALLOCATIONS, "{allocations} allocations a call");
    assert!(bytes <= MAX_ALLOCATED_BYTES, "{bytes} bytes allocated a call");
}

/// How often this process has written, as the kernel counts it.
fn writes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
}
