//! Standing: a right that ends, ends what runs under it, on open connections and streams too.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use proto::global_configuration::Standing;
use proto::identifier::SubsystemId;
use tests::echo::{said, says};
use tests::raw;
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

/// A stream that has been heard once.
async fn stream(world: &World) -> (mpsc::Sender<Said>, Streaming<Said>) {
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("before")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));
    (sender, answers)
}

fn refusal(status: &Status) -> &str {
    status.metadata().get("causeway-refusal").expect("a refusal").to_str().unwrap()
}

/// Suspends a member, or lets it in again.
fn let_stand(world: &mut World, name: &'static str, standing: Standing) {
    world.publish(|members| members.get_mut(name).unwrap().document.standing = standing, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_ends_stops_the_stream_that_it_allowed() {
    let world = World::without_grants().await;
    let number = world.grant(&["Both"]).await;
    let (_sender, mut answers) = stream(&world).await;
    // Nobody says anything any more: it is not the next message that finds out.
    let rights = &world.servers["moj"].server.access_rights;
    rights.end(number, "a test".into(), world.now()).await.unwrap();
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status)), (Code::PermissionDenied, "ACCESS_ENDED"));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_time_is_over_lets_no_further_message_through() {
    let world = World::without_grants().await;
    let day = std::time::Duration::from_secs(86_400);
    let proposal = security_server::access_rights::Proposal { valid_days: 1, ..world.proposal(&["Both"]) };
    world.grant_as(proposal).await;
    let (sender, mut answers) = stream(&world).await;
    world.set_time(world.now().plus(day));
    sender.send(said("after")).await.unwrap();
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&status), "ACCESS_ENDED");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_suspended_stops_its_streams_on_either_side() {
    for name in ["portal", "moj"] {
        let mut world = World::new().await;
        let (_sender, mut answers) = stream(&world).await;
        let_stand(&mut world, name, Standing::Suspended);
        let status = soon(answers.message()).await.unwrap_err();
        assert_eq!(refusal(&status), "ACCESS_ENDED", "{name}");
        world.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subsystem_that_moves_away_stops_its_streams() {
    let mut world = World::new().await;
    let (_sender, mut answers) = stream(&world).await;
    let other: SubsystemId = "VN/GOV/moj/other".parse().unwrap();
    world.publish(|members| members.get_mut("moj").unwrap().document.subsystems[0].subsystem = other, Vec::new());
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&status), "ACCESS_ENDED");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_signing_key_stops_its_streams_and_opens_no_other() {
    for name in ["portal", "moj"] {
        let mut world = World::new().await;
        let (_sender, mut answers) = stream(&world).await;
        let key = world.members[name].signing.public().id();
        world.publish(|_| {}, vec![key]);
        let status = soon(answers.message()).await.unwrap_err();
        assert_eq!(refusal(&status), "ACCESS_ENDED", "{name}");
        world.quiet().await;
        // Nor is a new exchange opened with it: the provider's server does not believe the asker, or the asker the answer.
        let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("")))).await;
        let expected = if name == "portal" { "UNPROVEN" } else { "ACCESS_ENDED" };
        assert_eq!(answer.refusal(), Some(expected), "{name}");
        world.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_authentication_key_stops_its_streams_and_no_connection_is_used_again() {
    for (name, expected) in [("portal", "UNPROVEN"), ("moj", "PROVIDER_UNREACHABLE")] {
        let mut world = World::new().await;
        let (_sender, mut answers) = stream(&world).await;
        let key = proto::certificate::public_key(&world.members[name].chain[0]).unwrap().id();
        world.publish(|_| {}, vec![key]);
        let status = soon(answers.message()).await.unwrap_err();
        assert_eq!(refusal(&status), "ACCESS_ENDED", "{name}");
        // The connection is still up, and was made with a key that was good then.
        let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("")))).await;
        assert_eq!(answer.refusal(), Some(expected), "{name}");
        world.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_concerns_nobody_here_stops_nothing() {
    let mut world = World::new().await;
    let (sender, mut answers) = stream(&world).await;
    world.publish(|_| {}, Vec::new());
    world.grant(&["Unary"]).await;
    sender.send(said("after")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("after")));
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_stays_ended_after_a_restart() {
    let mut world = World::without_grants().await;
    let number = world.grant(&["Unary"]).await;
    world.servers["moj"].server.access_rights.end(number, "a test".into(), world.now()).await.unwrap();
    world.restart("moj").await;
    let answer = world.raw().await.call(world.post("Unary"), raw::message(&said(""))).await;
    assert_eq!(answer.refusal(), Some("GRANT_MISSING"));
    let kept = world.grant(&["Unary"]).await;
    assert!(kept > number, "a number is given once");
    world.restart("moj").await;
    assert_eq!(world.client().await.unary(said("kept")).await.unwrap().into_inner(), said("kept"));
}
