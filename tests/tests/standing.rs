//! Standing: a right that ends, ends what runs under it, on open connections and streams too.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::BodyExt;
use proto::global_configuration::Standing;
use security_server::access_rights::Proposal;
use tests::echo::{said, says};
use tests::raw::{self, Answer, BodySender};
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

/// A service whose one call is in the test's hands: what it hears, as it comes and then nothing, and what it says.
async fn service() -> (SocketAddr, mpsc::UnboundedReceiver<Bytes>, mpsc::UnboundedReceiver<BodySender>) {
    let ((hears, heard), (hands, says)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let address = raw::serve(move |request| {
        let (hears, hands) = (hears.clone(), hands.clone());
        async move {
            let (sender, response) = raw::answer();
            hands.send(sender).unwrap();
            let mut body = request.into_body();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    let _ = frame.into_data().map(|data| hears.send(data));
                }
                let _ = hears.send(Bytes::new());
            });
            response
        }
    })
    .await;
    (address, heard, says)
}

/// A world with this service, and a grant of it for a day.
async fn for_a_day(service: SocketAddr) -> World {
    let mut world = World::without_grants().await;
    world.service = service;
    world.restart("moj").await;
    world.grant_as(Proposal { valid_days: 1, ..world.proposal(&["Both"]) }).await;
    world
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

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
    let (service, mut heard, mut says) = service().await;
    let world = for_a_day(service).await;
    let (mut sender, response) = world.raw().await.open(world.post("Both"));
    sender.send_data(raw::message(&said("before"))).await.unwrap();
    assert_eq!(soon(heard.recv()).await.unwrap(), raw::message(&said("before")));
    let _held = soon(says.recv()).await.unwrap();
    let response = soon(response).await.unwrap();
    world.set_time(world.now().plus(DAY));
    sender.send_data(raw::message(&said("after"))).await.unwrap();
    assert_eq!(soon(Answer::read(response)).await.refusal(), Some("ACCESS_ENDED"));
    world.quiet().await;
    assert_eq!(soon(heard.recv()).await.unwrap(), Bytes::new(), "the service heard no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_time_is_over_lets_no_further_answer_through() {
    let (service, _heard, mut says) = service().await;
    let world = for_a_day(service).await;
    let (_sender, response) = world.raw().await.open(world.post("Both"));
    let mut service = soon(says.recv()).await.unwrap();
    service.send_data(raw::message(&said("before"))).await.unwrap();
    let mut response = soon(response).await.unwrap();
    let first = soon(response.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), raw::message(&said("before")));
    world.set_time(world.now().plus(DAY));
    service.send_data(raw::message(&said("after"))).await.unwrap();
    let answer = soon(Answer::read(response)).await;
    assert!(answer.body.is_empty(), "nothing more of it came");
    assert_eq!(answer.refusal(), Some("ACCESS_ENDED"));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_after_the_right_to_it_ended_is_not_kept() {
    let (service, mut heard, mut says) = service().await;
    let world = for_a_day(service).await;
    let (mut sender, response) = world.raw().await.open(world.post("Both"));
    sender.send_data(raw::message(&said("before"))).await.unwrap();
    soon(heard.recv()).await.unwrap();
    let _held = soon(says.recv()).await.unwrap();
    let response = soon(response).await.unwrap();
    world.set_time(world.now().plus(DAY));
    sender.send_data(raw::message(&said("a birth's particulars"))).await.unwrap();
    let answer = soon(Answer::read(response)).await;
    world.quiet().await;
    let exchange = answer.field("causeway-exchange").unwrap();
    assert!(world.log_of("moj", exchange).iter().any(|line| line.kind == "withheld"), "that it came is kept");
    let records = world.servers["moj"].server.message_log.find(exchange.parse().unwrap()).unwrap();
    let said = |bytes: &[u8]| bytes.windows(7).any(|part| part == b"a birth");
    assert!(!records.iter().any(|entry| said(entry.record.as_bytes()) || said(&entry.beside)), "what it said is not");
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
    for (name, other) in [("portal", "moj"), ("moj", "portal")] {
        // It is registered no more, or at the server of another member.
        for elsewhere in [false, true] {
            let mut world = World::new().await;
            let (_sender, mut answers) = stream(&world).await;
            let server = world.members[other].server.clone();
            let moves = |members: &mut std::collections::BTreeMap<_, tests::world::Member>| {
                let moved = &mut members.get_mut(name).unwrap().document.subsystems[0];
                if elsewhere {
                    moved.servers = vec![server];
                } else {
                    moved.subsystem = format!("VN/GOV/{name}/another").parse().unwrap();
                }
            };
            world.publish(moves, Vec::new());
            let status = soon(answers.message()).await.unwrap_err();
            assert_eq!(refusal(&status), "ACCESS_ENDED", "{name}");
            world.quiet().await;
        }
    }
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
