//! Streams: nothing waits for what comes later, nothing is kept that is not read, and every end reaches both sides.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use bytes::Bytes;
use http_body_util::BodyExt;
use tests::echo::{Heard, said, says};
use tests::raw::{self, Answer};
use tests::soon;
use tests::tap::{Tap, Toward, Weather};
use tests::wire::Said;
use tests::world::World;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_wait_for_each_answer_before_it_says_more() {
    let world = World::new().await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    for number in 0..50 {
        sender.send(Said { number, ..said("ping") }).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(Said { number, ..said("ping") }));
    }
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_may_speak_first() {
    let world = World::new().await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.speaks_first(says(receiver))).await.unwrap().into_inner();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("first")));
    sender.send(said("second")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("second")));
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_close_reaches_the_service_and_the_answer_goes_on() {
    // Says nothing until the request has ended, then says much.
    let service = raw::serve(|request| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            let heard = raw::body_of(request).await;
            for _ in 0..100 {
                let _ = sender.send_data(heard.clone()).await;
            }
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let (mut sender, response) = world.raw().await.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    sender.send_data(raw::message(&said("x"))).await.unwrap();
    drop(sender);
    let answer = soon(Answer::read(response)).await;
    assert_eq!(raw::messages::<Said>(answer.body.clone()).len(), 100);
    assert_eq!(answer.status(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_its_sender() {
    let world = World::new().await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    // Nobody reads the answers: at some point the next message cannot be sent any more.
    let mut sent: u64 = 0;
    let message = |number| Said { number, bytes: vec![1; 64 * 1024], ..Default::default() };
    while let Ok(taken) = tokio::time::timeout(std::time::Duration::from_secs(2), sender.send(message(sent))).await {
        taken.unwrap();
        sent += 1;
        assert!(sent < 512, "32 MiB are on their way, and nobody reads");
    }
    // And nothing of it is lost.
    for number in 0..sent {
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().number, number);
    }
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_request_has_ended_ends_the_exchange_cleanly() {
    let service = raw::serve(|request| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            let _request = request;
            let _ = sender.send_data(raw::message(&said("enough"))).await;
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "9")])).await;
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let (mut sender, response) = world.raw().await.open(world.post("ClientStream"));
    sender.send_data(raw::message(&said("I have more to say"))).await.unwrap();
    let answer = soon(async { Answer::read(response.await.unwrap()).await }).await;
    assert_eq!(raw::messages::<Said>(answer.body.clone()), [said("enough")]);
    assert_eq!((answer.status(), answer.broken), (9, false));
    world.quiet().await;
    for name in ["portal", "moj"] {
        let log = world.log_of(name, answer.field("causeway-exchange").unwrap());
        let end = |direction| log.iter().rfind(|line| line.direction == Some(direction)).unwrap().end.clone().unwrap();
        assert_eq!((end("request").as_str(), end("answer").as_str()), ("abort answered", "status 9"), "{name}");
        assert_eq!(log.last().unwrap().end.as_deref(), Some("completed"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_before_the_answer_reaches_the_service() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    let call = tokio::spawn(async move { client.hang(said("")).await });
    assert!(matches!(soon(world.heard.recv()).await, Some(Heard::Call(method, _)) if method == "Hang"));
    call.abort();
    assert_eq!(soon(world.heard.recv()).await, Some(Heard::Gone));
    world.quiet().await;
}

/// Some libraries take a stream that is reset with CANCEL for one that ended well, tonic's among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_line_broke_off_is_not_taken_for_a_whole_one() {
    let mut line = None;
    let mut world = World::arranged(async |world| {
        let moj = &mut world.members.get_mut("moj").unwrap().document.servers[0];
        let tap = Tap::before(moj.address.parse().unwrap()).await;
        moj.address = tap.address.to_string();
        line = Some(tap);
    })
    .await;
    world.grant_all().await;
    let line = line.unwrap();
    let mut client = world.client().await;
    let (sender, receiver) = mpsc::channel(1);
    sender.send(said("half of it")).await.unwrap();
    let call = tokio::spawn(async move { client.client_stream(says(receiver)).await });
    assert!(matches!(soon(world.heard.recv()).await, Some(Heard::Call(method, _)) if method == "ClientStream"));
    line.befall(Toward::Target, Weather::Reset);
    assert_eq!(soon(world.heard.recv()).await, Some(Heard::BrokenOff));
    let refused = soon(call).await.unwrap().unwrap_err();
    assert_eq!(refused.metadata().get("causeway-refusal").unwrap(), "OUTCOME_UNKNOWN", "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_after_the_answer_began_reaches_the_service() {
    let (gone, mut is_gone) = mpsc::unbounded_channel();
    let service = raw::serve(move |request| {
        let gone = gone.clone();
        async move {
            let (mut sender, response) = raw::answer();
            tokio::spawn(async move {
                let mut request = request.into_body();
                let _ = sender.send_data(raw::message(&said("first"))).await;
                // The request is not half-closed: its next part is the cancel.
                while let Some(Ok(_)) = request.frame().await {}
                let _ = gone.send(());
            });
            response
        }
    })
    .await;
    let world = World::with_service(service).await;
    let (sender, response) = world.raw().await.open(world.post("Both"));
    let mut response = soon(response).await.unwrap();
    assert!(soon(response.frame()).await.unwrap().unwrap().is_data());
    let exchange = response.headers()["causeway-exchange"].to_str().unwrap().to_owned();
    sender.abort(std::io::Error::other("the client is gone"));
    drop(response);
    soon(is_gone.recv()).await.unwrap();
    world.quiet().await;
    let ends: Vec<_> = world.log_of("moj", &exchange).into_iter().filter_map(|line| line.end).collect();
    assert!(ends.contains(&"abort cancelled".to_owned()), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_heard_while_nobody_reads() {
    let world = World::new().await;
    let mut client = world.raw().await;
    let (mut sender, response) = client.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    let message = raw::message(&Said { bytes: vec![1; 64 * 1024], ..Default::default() });
    let second = std::time::Duration::from_secs(1);
    while let Ok(taken) = tokio::time::timeout(second, sender.send_data(message.clone())).await {
        taken.unwrap();
    }
    // Every window is full now.
    client.cut();
    world.quiet().await;
    let exchange = response.headers()["causeway-exchange"].to_str().unwrap();
    for name in ["portal", "moj"] {
        let log = world.log_of(name, exchange);
        assert_eq!(log.last().unwrap().end.as_deref(), Some("completed"), "{name}");
        let request = log.iter().rfind(|line| line.direction == Some("request")).unwrap();
        assert_eq!(request.end.as_deref(), Some("abort cancelled"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_shrinks_on_its_way_and_is_kept_though_the_service_hangs() {
    let mut world = World::new().await;
    let request = world.post("Hang").header("grpc-timeout", "2500m");
    let answer = soon(world.raw().await.call(request, raw::message(&said("")))).await;
    assert_eq!((answer.status(), answer.refusal()), (4, Some("DEADLINE_PASSED")));
    let Some(Heard::Call(_, fields)) = soon(world.heard.recv()).await else { panic!("the service was called") };
    let timeout = &fields.iter().find(|(name, _)| name == "grpc-timeout").expect("the service has a deadline").1;
    let left: u64 = timeout.strip_suffix('m').expect("in milliseconds").parse().unwrap();
    assert!(left < 2500, "{left} ms");
    assert_eq!(soon(world.heard.recv()).await, Some(Heard::Gone));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_cut_by_its_deadline_too() {
    let world = World::new().await;
    let (mut sender, response) = world.raw().await.open(world.post("Both").header("grpc-timeout", "2S"));
    let response = soon(response).await.unwrap();
    sender.send_data(raw::message(&said("in time"))).await.unwrap();
    let answer = soon(Answer::read(response)).await;
    assert_eq!(raw::messages::<Said>(answer.body.clone()), [said("in time")]);
    assert_eq!((answer.status(), answer.refusal()), (4, Some("DEADLINE_PASSED")));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_breaks_off_is_seen_by_the_client() {
    let service = raw::serve(|_| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            let _ = sender.send_data(raw::message(&said("half"))).await;
            sender.abort(std::io::Error::other("broken"));
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let answer = soon(world.raw().await.call(world.post("ServerStream"), Bytes::new())).await;
    assert_eq!(answer.refusal(), Some("SERVICE_MALFORMED"));
    assert_eq!(answer.status(), 13);
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_come_out_in_the_order_they_went_in() {
    let world = World::new().await;
    let asked = tokio_stream::iter((0..5_000).map(|number| Said { number, ..said("in order") }));
    let answers = soon(world.client().await.both(asked)).await.unwrap().into_inner();
    let numbers: Vec<_> = soon(answers.map(|said| said.unwrap().number).collect()).await;
    assert!(numbers.into_iter().eq(0..5_000));
}
