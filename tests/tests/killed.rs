//! A stream whose server is killed has its end at once, and in both logs. That no answered call is lost and none carried out
//! twice, whenever servers are killed, is `chaos.rs`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use tests::echo::Parrot;
use tests::processes::{SOON, Two};
use tests::wire::Said;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_server_is_killed_ends_at_once_and_in_both_logs() {
    let (address, _heard) = Parrot::serve().await;
    let (two, [registry, mut portals, mut mojs]) = Two::before(address).await;
    let said = |number| Said { number, ..Said::default() };
    for (killed, outcomes) in [("moj", ["silent", "unknown"]), ("portal", ["unknown", "silent"])] {
        let (says, asked) = mpsc::channel(1);
        says.send(said(1)).await.unwrap();
        let answers = two.client().both(ReceiverStream::new(asked)).await.unwrap();
        let exchange = answers.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        let mut answers = answers.into_inner();
        assert_eq!(answers.message().await.unwrap(), Some(said(1)));
        let broken = if killed == "moj" {
            mojs.kill().await;
            let broken = tokio::time::timeout(SOON, answers.message()).await.unwrap().unwrap_err();
            assert_eq!(broken.metadata().get("causeway-refusal").unwrap(), "OUTCOME_UNKNOWN", "{broken}");
            mojs = two.instance.serve(&two.moj).await;
            broken
        } else {
            portals.kill().await;
            let broken = tokio::time::timeout(SOON, answers.message()).await.unwrap().unwrap_err();
            portals = two.instance.serve(&two.portal).await;
            broken
        };
        drop(says);
        for (member, outcome) in [&two.portal, &two.moj].into_iter().zip(outcomes) {
            let line = format!("security-server exchange {exchange} --json --config {}", member.file());
            let closed = tokio::time::timeout(SOON, async {
                loop {
                    let records = two.instance.run(&line).await.json();
                    let closed = records["records"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .find(|record| record["kind"] == "closed")
                        .cloned();
                    if let Some(closed) = closed {
                        return closed;
                    }
                }
            });
            let closed = closed.await.unwrap();
            assert!(
                closed["end"].as_str().unwrap().ends_with(outcome),
                "{} at {}: {closed}, {broken}",
                killed,
                member.name
            );
        }
        // And the next call is answered.
        assert_eq!(two.client().unary(said(2)).await.unwrap().into_inner(), said(2));
    }
    for process in [portals, mojs, registry] {
        process.stops().await;
    }
}
