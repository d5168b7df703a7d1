//! Calls of all four kinds, by an unmodified client of an unmodified service: what goes in comes out.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use tests::echo::{Heard, said, says};
use tests::raw;
use tests::soon;
use tests::wire::Said;
use tests::world::{PURPOSE, World};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::metadata::{AsciiMetadataValue, BinaryMetadataValue};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unary_call_is_answered() {
    let world = World::new().await;
    let answer = world.client().await.unary(said("hello")).await.unwrap();
    assert!(answer.metadata().get("causeway-exchange").is_some());
    assert_eq!(answer.into_inner(), said("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_four_kinds_of_call_pass() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert_eq!(client.unary(said("one")).await.unwrap().into_inner(), said("one"));

    let asked = Said { number: 5, ..said("many") };
    let answers = client.server_stream(asked).await.unwrap().into_inner();
    let numbers: Vec<_> = answers.map(|said| said.unwrap().number).collect().await;
    assert_eq!(numbers, [0, 1, 2, 3, 4]);

    let asked = tokio_stream::iter(["a", "b", "c"].map(|text| Said { number: 2, ..said(text) }));
    assert_eq!(client.client_stream(asked).await.unwrap().into_inner(), Said { number: 6, ..said("abc") });

    let asked = tokio_stream::iter(["a", "b", "c"].map(said));
    let answers = client.both(asked).await.unwrap().into_inner();
    let texts: Vec<_> = answers.map(|said| said.unwrap().text).collect().await;
    assert_eq!(texts, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_both_ways_whole() {
    let world = World::new().await;
    let mut client = world.client().await;
    for mebibytes in [4, 8] {
        let bytes: Vec<u8> = (0..mebibytes << 20).map(|n: u32| (n % 251) as u8).collect();
        let sent = Said { bytes, ..said("large") };
        let answer = soon(client.unary(sent.clone())).await.unwrap().into_inner();
        assert!(answer == sent, "{mebibytes} MiB came back as they were");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_message_and_no_message_are_two_things() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert_eq!(client.unary(Said::default()).await.unwrap().into_inner(), Said::default());
    let answers = client.both(tokio_stream::iter([Said::default()])).await.unwrap().into_inner();
    assert_eq!(answers.collect::<Vec<_>>().await.len(), 1);
    let answers = client.both(tokio_stream::empty()).await.unwrap().into_inner();
    assert_eq!(answers.collect::<Vec<_>>().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_passes_with_its_duplicates_in_order_and_its_binary_values() {
    let world = World::new().await;
    let mut request = tonic::Request::new(said(""));
    for value in ["first", "second", "third, with a comma"] {
        request.metadata_mut().append("x-many", AsciiMetadataValue::from_static(value));
    }
    request.metadata_mut().append("x-other", AsciiMetadataValue::from_static("alone"));
    for value in [&b"\0\x01\xff"[..], b"", b"binary"] {
        request.metadata_mut().append_bin("x-bytes-bin", BinaryMetadataValue::from_bytes(value));
    }
    let answer = world.client().await.unary(request).await.unwrap();
    let texts: Vec<_> = answer.metadata().get_all("x-many").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(texts, ["first", "second", "third, with a comma"]);
    assert_eq!(answer.metadata().get("x-other").unwrap(), "alone");
    let bytes: Vec<_> = answer.metadata().get_all_bin("x-bytes-bin").iter().map(|v| v.to_bytes().unwrap()).collect();
    assert_eq!(bytes, [&b"\0\x01\xff"[..], b"", b"binary"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_passes_with_its_message_details_and_trailers() {
    let world = World::new().await;
    let mut client = world.client().await;
    let text = "Không tìm thấy: 100 % sai\nở dòng 2";
    for number in 1..=16 {
        let details = b"details \0\xff".to_vec();
        let mut request = tonic::Request::new(Said { number, bytes: details.clone(), ..said(text) });
        request.metadata_mut().insert("x-kept", AsciiMetadataValue::from_static("yes"));
        let status = client.fail(request).await.unwrap_err();
        assert_eq!(status.code() as i32, i32::try_from(number).unwrap());
        assert_eq!(status.message(), text);
        assert_eq!(status.details(), details);
        assert_eq!(status.metadata().get("x-kept").unwrap(), "yes");
        assert!(status.metadata().get("causeway-refusal").is_none(), "the service's own word is no refusal");
        assert!(status.metadata().get("causeway-exchange").is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_nobody_knows_passes_as_it_is() {
    let service = raw::serve(|_| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            let trailers = raw::fields(&[("grpc-status", "4711"), ("grpc-message", "%E1%BA%A5%zz"), ("x-last", "1")]);
            let _ = sender.send_trailers(trailers).await;
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let answer = world.raw().await.call(world.post("Unary"), Bytes::new()).await;
    let trailers = answer.trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "4711");
    assert_eq!(trailers["grpc-message"], "%E1%BA%A5%zz", "not decoded and encoded again");
    assert_eq!(trailers["x-last"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_trailers_only_stays_one() {
    let world = World::new().await;
    let mut client = world.raw().await;
    let failing = raw::message(&Said { number: 5, ..said("none") });
    let only = client.call(world.post("Fail"), failing).await;
    assert_eq!(only.head.headers["grpc-status"], "5", "in the head");
    assert!(only.trailers.is_none() && only.body.is_empty());
    assert!(only.head.headers.contains_key("causeway-exchange"));

    let with_head = client.call(world.post("ServerStream"), raw::message(&said("no answer at all"))).await;
    assert!(!with_head.head.headers.contains_key("grpc-status"));
    assert!(with_head.body.is_empty());
    assert_eq!(with_head.trailers.unwrap()["grpc-status"], "0");
    assert!(with_head.head.headers.contains_key("causeway-exchange"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_pass_untouched() {
    let service = raw::serve(|request| async {
        let encoding = request.headers()["grpc-encoding"].clone();
        let body = raw::body_of(request).await;
        let (mut sender, mut response) = raw::answer();
        response.headers_mut().insert("grpc-encoding", encoding);
        tokio::spawn(async move {
            let _ = sender.send_data(body).await;
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let body = [raw::flagged(1, b"as if compressed"), raw::flagged(0, b""), raw::flagged(255, b"odd")].concat();
    let request = world.post("Both").header("grpc-encoding", "gzip").header("grpc-accept-encoding", "gzip,identity");
    let answer = world.raw().await.call(request, body.clone().into()).await;
    assert_eq!(answer.body, body);
    assert_eq!(answer.head.headers["grpc-encoding"], "gzip");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_learns_who_asks_and_why_and_never_the_credential() {
    let mut world = World::new().await;
    let answer = world.client().await.unary(said("who")).await.unwrap();
    let exchange = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let expected = [
        ("causeway-consumer", world.members["portal"].subsystem.to_string()),
        ("causeway-exchange", exchange),
        ("causeway-purpose", PURPOSE.to_owned()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value)).to_vec();
    assert_eq!(soon(world.heard.recv()).await, Some(Heard::Call("Unary".into(), expected)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_cannot_speak_in_the_name_of_the_bus() {
    let service = raw::serve(|_| async {
        let (mut sender, mut response) = raw::answer();
        response.headers_mut().insert("causeway-exchange", "00000000000000000000000000000000".parse().unwrap());
        tokio::spawn(async move {
            let trailers = raw::fields(&[("grpc-status", "7"), ("causeway-refusal", "GRANT_MISSING")]);
            let _ = sender.send_trailers(trailers).await;
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let answer = world.raw().await.call(world.post("Unary"), raw::message(&said(""))).await;
    assert_eq!(answer.status(), 7);
    assert_eq!(answer.refusal(), None);
    assert_ne!(answer.field("causeway-exchange"), Some("00000000000000000000000000000000"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_logs_hold_every_message_and_its_end() {
    let world = World::new().await;
    let answer = world.client().await.unary(said("logged")).await.unwrap();
    let exchange = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    world.quiet().await;
    for (name, first, second) in [("portal", "sent", "received"), ("moj", "received", "sent")] {
        let log = world.log_of(name, &exchange);
        let of = |direction| log.iter().filter(move |line| line.direction == Some(direction)).collect::<Vec<_>>();
        let (request, answer) = (of("request"), of("answer"));
        assert!(request.iter().all(|line| line.kind == first) && answer.iter().all(|line| line.kind == second));
        assert_eq!(request.last().unwrap().end.as_deref(), Some("half-close"), "{name}");
        assert_eq!(answer.last().unwrap().end.as_deref(), Some("status 0"), "{name}");
        let closed = log.last().unwrap();
        assert_eq!((closed.kind, closed.end.as_deref()), ("closed", Some("completed")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_at_once_do_not_mix() {
    let world = World::new().await;
    let client = world.client().await;
    let calls = (0..200).map(|number| {
        let mut client = client.clone();
        async move { (number, client.unary(Said { number, ..said(&format!("call {number}")) }).await) }
    });
    for (number, answer) in soon(join_all(calls)).await {
        assert_eq!(answer.unwrap().into_inner(), Said { number, ..said(&format!("call {number}")) });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_streams_at_once_do_not_mix() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (sender, receiver) = mpsc::channel(1);
        streams.push((sender, client.both(says(receiver)).await.unwrap()));
    }
    let exchanges: Vec<_> =
        streams.iter().map(|(_, answer)| answer.metadata().get("causeway-exchange").unwrap().clone()).collect();
    assert_ne!(exchanges[0], exchanges[1]);
    for round in 0..10 {
        for (index, (sender, answers)) in streams.iter_mut().enumerate() {
            let sent = Said { number: round, ..said(&format!("stream {index}")) };
            sender.send(sent.clone()).await.unwrap();
            assert_eq!(soon(answers.get_mut().message()).await.unwrap(), Some(sent));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_the_door_lets_in_is_let_in_at_the_other_server_too() {
    // A service that takes more than ours do.
    let service = raw::serve(|_| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move { sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let mut client = world.raw().await;
    let mut passed = Vec::new();
    for count in 40..50 {
        // Names and values of more than 127 bytes: their encoding adds the most.
        let request =
            (0..count).fold(world.post("Unary"), |request, n| request.header(format!("x-{n:0>150}"), "v".repeat(180)));
        let answer = soon(client.call(request, raw::message(&said("")))).await;
        match answer.refusal() {
            None => passed.push(count),
            Some(code) => assert_eq!(code, "METADATA_TOO_LARGE", "{count} fields"),
        }
    }
    assert!((1..10).contains(&passed.len()), "the limit lies between: {passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_begins_before_it_is_whole() {
    let world = World::new().await;
    let (mut sender, response) = world.raw().await.open(world.post("Both"));
    let mut response = soon(response).await.unwrap();
    assert!(response.headers().contains_key("causeway-exchange"));
    sender.send_data(raw::message(&said("piece"))).await.unwrap();
    let frame = soon(response.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), raw::message(&said("piece")));
}
