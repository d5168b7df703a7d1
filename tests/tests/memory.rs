//! A long stream costs no more memory than a short one. Alone in its file: it measures the whole process.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use tests::echo::says;
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_pass_with_memory_flat() {
    pass(100_000, 1024, 64 << 20).await;
}

/// A minute or more: `cargo test --workspace --test memory -- --ignored`. Client, both servers and service are in this process. Once,
/// about a minute into it, some 80 MB are added, and no more after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute or more, and says nothing that the test before does not say of less"]
async fn a_gibibyte_each_way_passes_with_memory_flat() {
    pass(16 * 1024, 64 * 1024, 128 << 20).await;
}

/// Says so many messages of so many bytes, and hears them again; from a tenth of them on no more than so much memory is added.
async fn pass(messages: u64, bytes: usize, most: u64) {
    let world = World::new().await;
    let (sender, receiver) = mpsc::channel(16);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    let says_all = tokio::spawn(async move {
        for number in 0..messages {
            sender.send(Said { number, bytes: vec![7; bytes], ..Default::default() }).await.unwrap();
        }
    });
    let mut warm = 0;
    for number in 0..messages {
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().number, number);
        if (number + 1) % (messages / 10) == 0 {
            let now = resident();
            println!("{now} bytes are resident after {} messages", number + 1);
            warm = if warm == 0 { now } else { warm };
        }
    }
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    says_all.await.unwrap();
    let growth = resident().saturating_sub(warm);
    assert!(growth < most, "{growth} bytes more are resident after {messages} messages of {bytes} bytes each way");
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
