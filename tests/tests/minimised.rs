//! A grant names the fields that its consumer may receive: the provider's server takes the others out before it seals an answer,
//! whatever the service says, and what it cannot divide it refuses (PROTOCOL.md 3.6).

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use proto::commitment;
use proto::digest::Digest;
use proto::minimise::MAX_MESSAGE_BYTES;
use proto::refusal::{Code, Language};
use security_server::access_rights::{GrantNumber, Proposal};
use security_server::services::MAX_MINIMISED_AT_ONCE;
use serde_json::{Value, json};
use tests::country::{Country, is_problem};
use tests::processes::PURPOSE;
use tests::raw::{self, Answer};
use tests::wire::Said;
use tests::world::World;
use tests::{operator, soon};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::Request;

const SECRET: &str = "the secret of the service";

/// A message with each of its fields.
fn all() -> Said {
    Said { text: "Xin chào".into(), bytes: SECRET.into(), number: 7 }
}

fn text_of(said: &Said) -> Said {
    Said { text: said.text.clone(), ..Said::default() }
}

/// Grants the portal these fields of the responses of these methods.
async fn name(world: &World, methods: &[&str], fields: &[&str]) -> GrantNumber {
    let named =
        |method: &&str| (format!("/echo.v1.Echo/{method}"), fields.iter().map(|field| (*field).into()).collect());
    let fields = methods.iter().map(named).collect();
    world.grant_as(Proposal { fields, ..world.proposal(methods) }).await
}

/// A world before this service, in which the portal may receive these fields of `Unary`.
async fn before(service: SocketAddr, fields: &[&str]) -> World {
    let world = World::arranged(async |world| world.service = service).await;
    name(&world, &["Unary"], fields).await;
    world
}

/// A service that answers every call with these bytes, each as a frame of its own.
async fn answering(frames: Vec<Bytes>) -> SocketAddr {
    raw::serve(move |request| {
        let frames = frames.clone();
        async move {
            let (mut sender, response) = raw::answer();
            tokio::spawn(async move {
                raw::body_of(request).await;
                for frame in frames {
                    let _ = sender.send_data(frame).await;
                }
                let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
            });
            response
        }
    })
    .await
}

async fn call(world: &World) -> Answer {
    soon(async { world.raw().await.call(world.post("Unary"), raw::message(&Said::default())).await }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_receives_what_is_named_and_the_salt_opens_the_commitment_to_the_rest() {
    let world = World::without_grants().await;
    name(&world, &["Unary"], &["1"]).await;
    let response = soon(world.client().await.unary(Request::new(all()))).await.unwrap();
    let exchange = response.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    assert_eq!(response.into_inner(), text_of(&all()));
    world.quiet().await;

    let of = |name: &str| {
        let lines = world.log_of(name, &exchange);
        let removed = lines.into_iter().filter_map(|line| Some((line.kind, line.direction?, line.removed?, line.salt)));
        removed.collect::<Vec<_>>()
    };
    let (ours, theirs) = (of("moj"), of("portal"));
    assert_eq!((ours.len(), theirs.len()), (1, 1), "one message had pieces");
    let (kind, direction, commitment, salt) = &ours[0];
    assert_eq!((*kind, *direction), ("sent", "answer"));
    assert_eq!(theirs[0], ("received", "answer", commitment.clone(), None), "the consumer has no salt");
    let salt: [u8; 32] = hex::decode(salt.as_ref().unwrap()).unwrap().try_into().unwrap();
    let removed = raw::message(&Said { text: String::new(), ..all() });
    assert_eq!(commitment::removed(&salt, &removed).to_string(), *commitment);
    assert_ne!(Digest::of(&[b"causeway/v1/removed\n", &removed]).to_string(), *commitment);
    // The operator sees both, and the provider's log, put back from its segments, still has them.
    let shown = soon(operator::get(world.servers["moj"].operators, &format!("/v1/exchanges/{exchange}"))).await;
    assert!(shown.to_string().contains(&hex::encode(salt)), "{shown}");
    let mut world = world;
    world.restart("moj").await;
    let kept = world.log_of("moj", &exchange).into_iter().filter_map(|line| line.salt).collect::<Vec<_>>();
    assert_eq!(kept, [hex::encode(salt)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_which_nothing_was_removed_shows_no_difference_and_one_without_fields_named_has_no_commitment() {
    let world = World::without_grants().await;
    name(&world, &["Unary"], &["1"]).await;
    world.grant(&["ClientStream"]).await;
    let removed = async |exchange: &str| {
        world.quiet().await;
        world.log_of("portal", exchange).into_iter().filter(|line| line.removed.is_some()).count()
    };
    for said in [all(), text_of(&all()), Said::default()] {
        let response = soon(world.client().await.unary(Request::new(said.clone()))).await.unwrap();
        let exchange = response.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        assert_eq!(response.into_inner(), text_of(&said));
        assert_eq!(removed(&exchange).await, 1, "{said:?}");
    }
    let stream = tokio_stream::once(all());
    let response = soon(world.client().await.client_stream(stream)).await.unwrap();
    let exchange = response.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    assert_eq!((response.get_ref().number, removed(&exchange).await), (7, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_of_a_stream_is_minimised_as_it_comes() {
    let world = World::without_grants().await;
    name(&world, &["Both", "ServerStream"], &["3"]).await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(tests::echo::says(receiver))).await.unwrap().into_inner();
    for number in 0..20 {
        sender.send(Said { number, ..all() }).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(Said { number, ..Said::default() }));
    }
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    let asked = Said { number: 500, ..all() };
    let mut answers = soon(world.client().await.server_stream(asked)).await.unwrap().into_inner();
    for number in 0..500 {
        let said = soon(answers.next()).await.unwrap().unwrap();
        assert_eq!(said, Said { number, ..Said::default() });
    }
    assert!(soon(answers.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_many_pieces_is_minimised_whole_up_to_its_limit() {
    let world = World::without_grants().await;
    name(&world, &["Unary"], &["1"]).await;
    name(&world, &["ClientStream"], &["2"]).await;
    let long = Said { bytes: vec![9; 3 << 20], ..all() };
    let answer = soon(world.client().await.unary(Request::new(long.clone()))).await.unwrap();
    assert_eq!(answer.into_inner(), text_of(&long));
    // What passes is long, too: it goes in several messages, and is whole.
    let fits = MAX_MESSAGE_BYTES - Said { bytes: vec![9; 3 << 20], ..Said::default() }.encoded_len() + (3 << 20);
    let at = async |length: usize| {
        let service = answering(vec![raw::message(&Said { bytes: vec![9; length], ..Said::default() })]).await;
        let world = before(service, &["2"]).await;
        call(&world).await
    };
    let answer = at(fits).await;
    assert_eq!(answer.status(), 0);
    assert_eq!(raw::messages::<Said>(answer.body)[0].bytes.len(), fits);
    let answer = at(fits + 1).await;
    assert_eq!((answer.refusal(), answer.body.len()), (Some(Code::TooLargeToMinimise.as_str()), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_minimised_is_refused_by_name_and_nothing_of_it_passes() {
    let good = raw::message(&all());
    let secret = [&[0x12, SECRET.len() as u8][..], SECRET.as_bytes()].concat();
    let group = [&[0x0b][..], &secret, &[0x0c]].concat();
    // Answers with the bytes that it is asked for, in two frames where a place between them is named.
    let service = raw::serve(|request| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            let asked = raw::messages::<Said>(raw::body_of(request).await).pop().unwrap();
            let (first, second) = asked.bytes.split_at(asked.number as usize);
            for frame in [first, second].into_iter().filter(|frame| !frame.is_empty()) {
                let _ = sender.send_data(Bytes::copy_from_slice(frame)).await;
            }
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
        });
        response
    })
    .await;
    let world = before(service, &["1"]).await;
    for (method, fields) in [("ServerStream", &["1.2"][..]), ("ClientStream", &["1.1"]), ("Both", &["1.2", "3"])] {
        name(&world, &[method], fields).await;
    }
    let two = Bytes::from([good.clone(), raw::flagged(1, &secret)].concat());
    for (what, method, bytes, at) in [
        ("compressed", "Unary", raw::flagged(1, &secret), 0),
        ("of a flag that there is not", "Unary", raw::flagged(2, &secret), 0),
        ("no protobuf", "Unary", raw::flagged(0, SECRET.as_bytes()), 0),
        ("a longer tag", "Unary", raw::flagged(0, &[&[0x8a, 0x00, 1, b'x'][..], &secret].concat()), 0),
        ("a field beyond the end", "Unary", raw::flagged(0, &[&secret[..], &[0x0a, 200, b'x']].concat()), 0),
        ("a group that is gone into", "ServerStream", raw::flagged(0, &group), 0),
        ("a fixed value that is gone into", "ClientStream", raw::flagged(0, &[9, 8, 1, 8, 1, 8, 1, 8, 1]), 0),
        ("a text that is gone into", "Both", good.clone(), 0),
        ("a group without an end", "Unary", raw::flagged(0, &group[..group.len() - 1]), 0),
        ("ended inside of a message", "Unary", good.slice(..good.len() - 1), 0),
        ("the second of two", "Unary", two.clone(), good.len()),
        ("the second of two at once", "Unary", two, 0),
    ] {
        let asked = raw::message(&Said { bytes: bytes.to_vec(), number: at as u64, ..Said::default() });
        let answer = soon(async { world.raw().await.call(world.post(method), asked).await }).await;
        assert_eq!(answer.refusal(), Some(Code::NotMinimised.as_str()), "{what}");
        assert_eq!(answer.details()["side"], "service", "{what}");
        let leaks = answer.body.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
        assert!(!leaks, "{what}: {:?}", answer.body);
        world.quiet().await;
        for (name, kind) in [("moj", "sent"), ("portal", "received")] {
            let log = world.log_of(name, answer.field("causeway-exchange").unwrap());
            let end =
                log.iter().find(|line| line.kind == kind && line.direction == Some("answer") && line.end.is_some());
            assert_eq!(end.unwrap().end.as_deref(), Some("refused NOT_MINIMISED"), "{what} at {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_offered_no_compression_where_fields_are_named_and_a_group_that_is_not_named_is_removed() {
    let (told, mut hears) = mpsc::unbounded_channel();
    let message = raw::flagged(0, &[&[0x0b, 0x12, 1, b'x', 0x0c, 0x13, 0x08, 1, 0x14][..], &[0x18, 7]].concat());
    let service = raw::serve(move |request| {
        let _ = told.send(request.headers().contains_key("grpc-accept-encoding"));
        let message = message.clone();
        async move {
            let (mut sender, response) = raw::answer();
            tokio::spawn(async move {
                let _ = sender.send_data(message).await;
                let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
            });
            response
        }
    })
    .await;
    let world = before(service, &["3"]).await;
    world.grant(&["ServerStream"]).await;
    for (method, offered, body) in [("Unary", false, 5 + 2), ("ServerStream", true, 5 + 11)] {
        let request = world.post(method).header("grpc-accept-encoding", "gzip");
        let answer = soon(async { world.raw().await.call(request, raw::message(&Said::default())).await }).await;
        assert_eq!((answer.status(), answer.body.len()), (0, body), "{method}");
        assert_eq!(soon(hears.recv()).await, Some(offered), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_messages_wait_for_room_and_short_ones_do_not() {
    let at_once = MAX_MINIMISED_AT_ONCE / MAX_MESSAGE_BYTES;
    let (begun, mut begins) = mpsc::unbounded_channel();
    // Says the beginning of a message of the asked length, and the rest where it is short.
    let service = raw::serve(move |request| {
        let begun = begun.clone();
        async move {
            let (mut sender, response) = raw::answer();
            tokio::spawn(async move {
                let asked = raw::messages::<Said>(raw::body_of(request).await).pop().unwrap();
                let message = raw::message(&Said { bytes: vec![1; asked.number as usize], ..asked.clone() });
                let _ = sender.send_data(message.slice(..10)).await;
                if asked.text == "whole" {
                    let _ = sender.send_data(message.slice(10..)).await;
                    let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
                } else {
                    let _ = begun.send(());
                    sender.send_data(message.slice(10..100_000)).await.unwrap();
                    std::future::pending::<()>().await;
                }
            });
            response
        }
    })
    .await;
    let world = before(service, &["1"]).await;
    let asking = |text: &str, number: u64| raw::message(&Said { text: text.into(), number, ..Said::default() });
    let mut held = Vec::new();
    for _ in 0..at_once {
        let mut client = world.raw().await;
        let (mut sender, response) = client.open(world.post("Unary"));
        sender.send_data(asking("held", MAX_MESSAGE_BYTES as u64 - 100)).await.unwrap();
        drop(sender);
        held.push((client, tokio::spawn(response)));
    }
    for _ in 0..at_once {
        soon(begins.recv()).await.unwrap();
    }
    let said = async |number: u64| world.raw().await.call(world.post("Unary"), asking("whole", number)).await;
    assert_eq!(soon(said(1000)).await.status(), 0, "what is short needs no room");
    let waits = soon(async { tokio::join!(said(MAX_MESSAGE_BYTES as u64 - 100), async { drop(held) }).0 }).await;
    assert_eq!((waits.status(), waits.body.len()), (0, 5 + 7), "it has the room of those that hung up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_named_as_the_catalogue_has_them_and_pass_by_grpc_and_json() {
    let (country, _heard) = Country::new().await;
    let moj = &country.realm.servers["moj"];
    for number in [1, 2] {
        moj.server.access_rights.end(GrantNumber(number), "a test".into(), country.realm.now()).await.unwrap();
    }
    let token = std::fs::read_to_string(country.realm.directory.path().join("moj/operators.token")).unwrap();
    let ask = async |path: &str, body: Value| {
        let authorization = format!("Bearer {}", token.trim());
        let request = http::Request::post(path).header("host", "localhost").header("authorization", authorization);
        let (status, body) = operator::ask(moj.operators, request, body.to_string()).await;
        (status, serde_json::from_str::<Value>(&body).unwrap_or(Value::String(body)))
    };
    let grant = |fields: Value| {
        json!({
            "consumer": country.portal.subsystem, "provider": country.moj.subsystem, "purposes": [PURPOSE], "valid_days": 30,
            "methods": ["/echo.v1.Echo/Unary", "/echo.v1.Echo/ServerStream"], "fields": fields,
        })
    };
    for (fields, why) in [
        (json!({ "/echo.v1.Echo/Unary": ["txt"] }), "\"txt\" is no field of echo.v1.Said; did you mean text?"),
        (json!({ "/echo.v1.Echo/Unary": ["4"] }), "\"4\" is no field of echo.v1.Said; there are text, bytes, number"),
        (json!({ "/echo.v1.Echo/Unary": ["text.more"] }), "text is no message"),
        (json!({ "/echo.v1.Echo/Unary": [] }), "0 fields are named"),
        (json!({ "/echo.v1.Echo/Unry": ["text"] }), "echo.v1.Echo has no method Unry; did you mean Unary?"),
        (
            json!({ "/echo.v1.Echo/Fail": ["text"] }),
            "fields of /echo.v1.Echo/Fail are named, and that is no method of it",
        ),
        (json!({ "/other.v1.Echo/Unary": ["text"] }), "does not list other.v1.Echo"),
    ] {
        let (status, refused) = soon(ask("/v1/grants", grant(fields.clone()))).await;
        assert_eq!(status, 422, "{fields}: {refused}");
        assert!(refused["error"].as_str().unwrap().contains(why), "{fields}: {refused}");
    }
    let fields = json!({ "/echo.v1.Echo/Unary": ["text", "3"] });
    let (status, foreseen) = soon(ask("/v1/grants?dry_run=true", grant(fields.clone()))).await;
    assert!(
        status == 200 && foreseen.to_string().contains("no more than /echo.v1.Echo/Unary: text, number"),
        "{foreseen}"
    );
    let (status, made) = soon(ask("/v1/grants", grant(fields))).await;
    assert_eq!(
        (status, &made["grant"]["fields"]),
        (201, &json!({ "/echo.v1.Echo/Unary": { "1": "text", "3": "number" } }))
    );

    let body = r#"{"text":"Xin chào","bytes":"AP8=","number":"18"}"#;
    assert_eq!(country.said("Unary", body).await.json(), json!({ "text": "Xin chào", "number": "18" }));
    let whole = country.said("ServerStream", r#"{"text":"a","bytes":"AP8=","number":"1"}"#).await;
    assert_eq!(whole.lines(), [json!({ "result": { "text": "a", "bytes": "AP8=" } })], "of this method none are named");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_in_json_is_told_why_an_answer_was_not_minimised() {
    let service = answering(vec![raw::flagged(1, SECRET.as_bytes())]).await;
    let (realm, portal, moj) = tests::realm::Realm::of_two(service).await;
    realm.list(&moj, &[]).await;
    let rights = &realm.servers["moj"].server.access_rights;
    rights.end(GrantNumber(1), "a test".into(), realm.now()).await.unwrap();
    let proposal = Proposal {
        consumer: portal.subsystem.parse().unwrap(),
        provider: moj.subsystem.parse().unwrap(),
        methods: ["/echo.v1.Echo/Unary".to_owned()].into(),
        purposes: [PURPOSE.to_owned()].into(),
        legal_basis: String::new(),
        valid_from: None,
        valid_days: 30,
        per_second: None,
        priority: Default::default(),
        fields: [("/echo.v1.Echo/Unary".to_owned(), ["1".to_owned()].into())].into(),
    };
    rights.dangerously_grant(proposal, realm.now()).await.unwrap();
    let request = http::Request::post("/echo.v1.Echo/Unary")
        .header("content-type", "application/json")
        .header("causeway-service", &moj.subsystem)
        .header("causeway-purpose", PURPOSE)
        .header("accept-language", "vi");
    let answer = soon(tests::plain::ask(portal.clients, request, "{}")).await;
    is_problem(&answer, Code::NotMinimised, Language::Vietnamese);
    assert!(!answer.text.contains(SECRET));
    realm.stops().await;
}
