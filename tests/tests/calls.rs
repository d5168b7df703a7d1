//! Calls of all four kinds, by an unmodified client of an unmodified service.

use tests::wire::Said;
use tests::world::World;

fn said(text: &str) -> Said {
    Said { text: text.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unary_call_is_answered() {
    let world = World::new().await;
    let answer = world.client().await.unary(said("hello")).await.unwrap();
    assert!(answer.metadata().get("causeway-exchange").is_some());
    assert_eq!(answer.into_inner(), said("hello"));
}
