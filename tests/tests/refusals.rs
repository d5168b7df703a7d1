//! Every refusal, provoked through a real socket. A caller learns the code, and what to do, in its language; a stranger
//! learns nothing.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::time::Duration;

use bytes::Bytes;
use proto::digest::Digest;
use proto::message::{Direction, End, Header};
use proto::refusal::{Code, Form, Language};
use proto::transport::encode;
use proto::wire::relay as wire;
use security_server::listen::MAX_EXCHANGES_OF_PEER;
use tests::echo::said;
use tests::raw::{self, Answer};
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tokio::net::TcpListener;

/// A refusal, by whomever: its code, its status, and its words in both languages.
async fn is_refused(world: &World, request: impl Fn() -> http::request::Builder, code: Code) -> Answer {
    is_refused_with(world, request, raw::message(&said("")), code).await
}

async fn is_refused_with(
    world: &World,
    request: impl Fn() -> http::request::Builder,
    body: Bytes,
    code: Code,
) -> Answer {
    let mut last = None;
    for (accepted, language) in [("en", Language::English), ("vi-VN, en;q=0.5", Language::Vietnamese)] {
        let request = request().header("accept-language", accepted);
        let answer = soon(async { world.raw().await.call(request, body.clone()).await }).await;
        assert_eq!(answer.refusal(), Some(code.as_str()));
        assert_eq!(answer.head.status, 200);
        assert_eq!(answer.status(), code.grpc_status(), "{code}");
        assert_eq!(answer.message(), format!("{} {}", code.title(language), code.remedy(language)));
        assert!(answer.field("grpc-status-details-bin").is_some());
        assert!(answer.body.is_empty());
        last = Some(answer);
    }
    last.unwrap()
}

/// The same, and the provider's server sealed it: its log holds the refusal, and so does the consumer's.
async fn is_refused_sealed(world: &World, request: impl Fn() -> http::request::Builder, code: Code) {
    let answer = is_refused(world, request, code).await;
    assert_eq!(code.form(), Form::Sealed);
    world.quiet().await;
    let exchange = answer.field("causeway-exchange").expect("a sealed refusal names its exchange");
    for (name, kind) in [("moj", "sent"), ("portal", "received")] {
        let log = world.log_of(name, exchange);
        let refused = log.iter().find(|line| line.direction == Some("answer")).unwrap();
        assert_eq!(refused.end.as_deref(), Some(format!("refused {code}").as_str()));
        assert_eq!(refused.kind, kind);
        assert_eq!(log.last().unwrap().end.as_deref(), Some("completed"));
    }
}

/// A bare refusal, as a peer gets it: the code and the status, and no word more.
fn is_bare(answer: &Answer, code: Code) {
    assert_eq!(answer.refusal(), Some(code.as_str()));
    assert_eq!(answer.status(), code.grpc_status());
    assert_eq!(code.form() != Form::Local, answer.field("grpc-message").is_none());
    assert!(answer.field("grpc-status-details-bin").is_none() && answer.body.is_empty());
}

/// A good call, with one field changed, added or (without a value) left out.
fn with(world: &World, name: &'static str, value: Option<&str>) -> http::request::Builder {
    world.post_with("Unary", name, value)
}

// ---- at the clients' door

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_door_refuses_what_is_not_well_asked() {
    let world = World::new().await;
    let long = "v".repeat(257);
    for (name, value, code) in [
        ("causeway-token", None, Code::ClientUnknown),
        ("causeway-token", Some("another token"), Code::ClientUnknown),
        ("causeway-service", None, Code::ServiceNotNamed),
        ("causeway-service", Some("VN/GOV/moj"), Code::IdentifierMalformed),
        ("causeway-service", Some("VN/GOV/moj/../portal"), Code::IdentifierMalformed),
        ("causeway-service", Some("VN/GOV/moj/nothing-here"), Code::ProviderUnknown),
        ("causeway-service", Some("VN/GOV/nobody/x"), Code::ProviderUnknown),
        ("causeway-service", Some("EE/GOV/moj/civil-registry"), Code::ProviderUnknown),
        ("causeway-purpose", None, Code::PurposeMissing),
        ("causeway-purpose", Some(""), Code::PurposeMissing),
        ("causeway-purpose", Some(&long), Code::MetadataTooLarge),
        ("causeway-purpose", Some("mục đích"), Code::MetadataMalformed),
        ("causeway-consumer", Some("VN/GOV/moj/civil-registry"), Code::MetadataReserved),
        ("causeway-exchange", Some("00000000000000000000000000000001"), Code::MetadataReserved),
        ("causeway-refusal", Some("NONE"), Code::MetadataReserved),
        ("causeway-anything", Some("x"), Code::MetadataReserved),
        ("grpc-timeout", Some("soon"), Code::MetadataMalformed),
        ("grpc-timeout", Some("123456789S"), Code::MetadataMalformed),
        ("origin", Some("http://127.0.0.1"), Code::BrowserRefused),
        ("sec-fetch-site", Some("cross-site"), Code::BrowserRefused),
        ("host", Some("evil.example"), Code::BrowserRefused),
        ("x-large", Some(&"v".repeat(17_000)), Code::MetadataTooLarge),
    ] {
        is_refused(&world, || with(&world, name, value), code).await;
    }
    // What is not gRPC is refused in HTTP's own words (`raw::Answer` holds them against the code).
    for kind in [None, Some("text/html"), Some("application/grpcweb")] {
        let answer = world.raw().await.call(with(&world, "content-type", kind), Bytes::new()).await;
        assert_eq!((answer.refusal(), answer.head.status.as_u16()), (Some("CONTENT_TYPE_UNKNOWN"), 415));
    }
    let twice = || with(&world, "causeway-purpose", Some("testing")).header("causeway-purpose", "another");
    is_refused(&world, twice, Code::MetadataReserved).await;
    let many = || (0..101).fold(world.post("Unary"), |request, n| request.header("x-many", n));
    is_refused(&world, many, Code::MetadataTooLarge).await;
    let get = || with(&world, "te", Some("trailers")).method("GET");
    is_refused_with(&world, get, Bytes::new(), Code::MethodNotPost).await;
    assert!(world.servers["moj"].server.running() == 0, "nothing of it left the house");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_subsystem_is_not_registered_here_is_unknown() {
    let mut world = World::new().await;
    let moves = |members: &mut std::collections::BTreeMap<_, tests::world::Member>| {
        let document = &mut members.get_mut("portal").unwrap().document;
        document.subsystems[0].subsystem = "VN/GOV/portal/another".parse().unwrap();
    };
    world.publish(moves, Vec::new());
    let answer = is_refused(&world, || world.post("Unary"), Code::ClientUnknown).await;
    assert!(answer.field("causeway-exchange").is_none(), "it came to no exchange");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_besides_a_listener_that_is_bound_is_refused() {
    let world = World::new().await;
    let bound = world.servers["portal"].clients[1];
    let answer = raw::Client::to(bound).await.call(world.post("Unary"), raw::message(&said(""))).await;
    assert_eq!(answer.refusal(), Some("METADATA_RESERVED"));
    let without = with(&world, "causeway-token", None);
    let answer = raw::Client::to(bound).await.call(without, raw::message(&said("bound"))).await;
    assert_eq!(raw::messages::<Said>(answer.body.clone()), [said("bound")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_matched_byte_for_byte_and_never_mended() {
    let world = World::new().await;
    for path in [
        "/",
        "/echo.v1.Echo",
        "/echo.v1.Echo/",
        "//echo.v1.Echo/Unary",
        "/echo.v1.Echo//Unary",
        "/echo.v1.Echo/Unary/",
        "/echo.v1.Echo/Unary/Unary",
        "/x/../echo.v1.Echo/Unary",
        "/./echo.v1.Echo/Unary",
        "/echo.v1.Echo/%55nary",
        "/echo.v1.Echo%2FUnary",
        "/echo.v1.Echo/Unary%00",
        "/echo.v1.Echo/Unary?x=1",
        "/echo.v1.Echo/Unary?",
        "/echo.v1.Echo/Una;ry",
        "/echo.v1.Echo/Un-ary",
        "/1cho.v1.Echo/Unary",
        "/echo.v1.Echo/1",
    ] {
        let evil = || world.post("Unary").uri(format!("http://bus{path}"));
        let answer = is_refused(&world, evil, Code::PathMalformed).await;
        assert!(answer.field("causeway-exchange").is_none(), "{path}");
    }
    // Of the grammar, and another method: not the granted one.
    for path in ["/Echo.v1.Echo/Unary", "/echo.v1.Echo/unary", "/echo.v1.Echo./Unary", "/echo.v1.Echo/Unary_"] {
        let other = || world.post("Unary").uri(format!("http://bus{path}"));
        is_refused(&world, other, Code::GrantMissing).await;
    }
}

// ---- standing, as the configuration says it

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suspended_neither_asks_nor_is_asked() {
    let mut world = World::new().await;
    let suspend = |world: &mut World, name: &'static str, standing| {
        world.publish(|members| members.get_mut(name).unwrap().document.standing = standing, Vec::new());
    };
    use proto::global_configuration::Standing;
    suspend(&mut world, "moj", Standing::Suspended);
    is_refused(&world, || world.post("Unary"), Code::ProviderSuspended).await;
    suspend(&mut world, "moj", Standing::Active);
    suspend(&mut world, "portal", Standing::Suspended);
    is_refused(&world, || world.post("Unary"), Code::MemberSuspended).await;
    suspend(&mut world, "portal", Standing::Active);
    assert_eq!(world.client().await.unary(said("again")).await.unwrap().into_inner(), said("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_configuration_trusts_nobody() {
    let mut world = World::new().await;
    world.set_time(world.now().plus(Duration::from_secs(73 * 3600)));
    is_refused(&world, || world.post("Unary"), Code::ConfigurationExpired).await;
    let rogue = Rogue::of(&world, "portal");
    let frame = rogue.seal(rogue.opening(&world)).await;
    is_bare(&rogue::say(&mut rogue.connect(&world, "moj").await, &frame).await, Code::ConfigurationExpired);
    world.publish(|_| {}, Vec::new());
    assert_eq!(world.client().await.unary(said("again")).await.unwrap().into_inner(), said("again"));
}

// ---- the provider's server, sealed

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_granted_is_refused_with_a_seal() {
    let world = World::without_grants().await;
    is_refused_sealed(&world, || world.post("Unary"), Code::GrantMissing).await;
    let number = world.grant(&["Unary"]).await;
    is_refused_sealed(&world, || world.post("Both"), Code::GrantMissing).await;
    is_refused_sealed(&world, || with(&world, "causeway-purpose", Some("curiosity")), Code::GrantPurpose).await;
    let rights = &world.servers["moj"].server.access_rights;
    rights.end(number, "a test".into(), world.now()).await.unwrap();
    is_refused_sealed(&world, || world.post("Unary"), Code::GrantMissing).await;

    let later = world.now().plus(Duration::from_secs(3600)).as_millis();
    let not_yet = security_server::access_rights::Proposal { valid_from: Some(later), ..world.proposal(&["Unary"]) };
    world.grant_as(not_yet).await;
    is_refused_sealed(&world, || world.post("Unary"), Code::GrantExpired).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept() {
    let world = World::without_grants().await;
    let proposal = security_server::access_rights::Proposal { per_second: Some(1), ..world.proposal(&["Unary"]) };
    world.grant_as(proposal).await;
    let mut client = world.client().await;
    // A burst of ten, and one for each second that passes meanwhile.
    let mut passed = 0;
    while client.unary(said("")).await.is_ok() {
        passed += 1;
        assert!(passed < 100, "no rate is kept");
    }
    assert!(passed >= 10, "{passed} of the burst");
    is_refused_soon(&world, Code::RateExceeded).await;
}

/// Provokes a refusal that time could undo between two calls.
async fn is_refused_soon(world: &World, code: Code) {
    let mut client = world.raw().await;
    soon(async {
        loop {
            let answer = client.call(world.post("Unary"), raw::message(&said(""))).await;
            if answer.refusal() == Some(code.as_str()) {
                assert_eq!(answer.status(), code.grpc_status());
                let exchange = answer.field("causeway-exchange").unwrap().to_owned();
                world.quiet().await;
                let log = world.log_of("moj", &exchange);
                assert!(log.iter().any(|line| line.end.as_deref() == Some(format!("refused {code}").as_str())));
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_offered_is_unknown() {
    let world = World::new().await;
    let methods = ["/echo.v1.Other/Unary".to_owned()].into();
    world.grant_as(security_server::access_rights::Proposal { methods, ..world.proposal(&[]) }).await;
    let other = || world.post("Unary").uri("http://bus/echo.v1.Other/Unary");
    is_refused_sealed(&world, other, Code::ServiceUnknown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_out_of_reach_is_said_to_be() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::with_service(closed).await;
    is_refused_sealed(&world, || world.post("Unary"), Code::ServiceUnreachable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_speaks_no_grpc_is_said_to() {
    for (status, content_type) in [(404, "application/grpc"), (200, "text/html")] {
        let service = raw::serve(move |_| async move {
            let (_, mut response) = raw::answer();
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            response
        })
        .await;
        let world = World::with_service(service).await;
        is_refused_sealed(&world, || world.post("Unary"), Code::ServiceMalformed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_refused_too_often_is_refused_bare() {
    let world = World::without_grants().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let (mut sealed, mut said_bare) = (0, None);
    for number in 0..150 {
        let mut draft = rogue.opening(&world);
        draft.facts.attempt = number + 1;
        let answer = rogue::say(&mut client, &rogue.seal(draft).await).await;
        match rogue::sealed_refusal(&answer) {
            Some(code) => assert_eq!(code, Code::GrantMissing),
            None => {
                said_bare = Some(answer);
                break;
            }
        }
        sealed += 1;
    }
    assert!(sealed >= 100, "{sealed} of the burst");
    is_bare(&said_bare.expect("the quota has an end"), Code::OverQuota);
}

// ---- the provider's server out of reach, or not what it should be

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_out_of_reach_is_said_to_be_and_nothing_was_sent() {
    let mut world = World::new().await;
    world.servers.remove("moj").unwrap().shutdown().await;
    let answer = is_refused(&world, || world.post("Unary"), Code::ProviderUnreachable).await;
    world.quiet().await;
    let log = world.log_of("portal", answer.field("causeway-exchange").unwrap());
    assert_eq!(log.last().unwrap().end.as_deref(), Some("not_sent"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_proves_nothing_is_withheld_and_kept() {
    let mut world = World::new().await;
    let started = world.servers.remove("moj").unwrap();
    let (address, rogue) = (started.peers, std::sync::Arc::new(Rogue::of(&world, "moj")));
    started.shutdown().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let answering = std::sync::Arc::clone(&rogue);
    rogue
        .serve(&world, listener, move |request| {
            let rogue = std::sync::Arc::clone(&answering);
            async move {
                let opening = rogue::first_frame(request).await;
                let mut frame = rogue.answer(&opening).await;
                // What is handed over is not what was committed to.
                frame.payload.as_mut().unwrap().pieces = vec![raw::message(&said("forged"))];
                rogue::streamed(vec![frame])
            }
        })
        .await;
    let answer = is_refused(&world, || world.post("Unary"), Code::ProviderUnproven).await;
    world.quiet().await;
    let log = world.log_of("portal", answer.field("causeway-exchange").unwrap());
    assert!(log.iter().any(|line| line.kind == "withheld"), "{log:?}");
    assert!(log.iter().all(|line| line.direction != Some("answer")), "it is no answer: {log:?}");
    assert_eq!(log.last().unwrap().end.as_deref(), Some("silent"), "it is no end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_answer_of_the_same_rogue_passes() {
    let mut world = World::new().await;
    let started = world.servers.remove("moj").unwrap();
    let (address, rogue) = (started.peers, std::sync::Arc::new(Rogue::of(&world, "moj")));
    started.shutdown().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let answering = std::sync::Arc::clone(&rogue);
    rogue
        .serve(&world, listener, move |request| {
            let rogue = std::sync::Arc::clone(&answering);
            async move {
                let opening = rogue::first_frame(request).await;
                rogue::streamed(vec![rogue.answer(&opening).await])
            }
        })
        .await;
    let answer = world.client().await.unary(said("")).await.unwrap();
    assert_eq!(answer.into_inner(), said("answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_know_the_method_speaks_another_version() {
    let mut world = World::new().await;
    let started = world.servers.remove("moj").unwrap();
    let (address, rogue) = (started.peers, Rogue::of(&world, "moj"));
    started.shutdown().await;
    let listener = TcpListener::bind(address).await.unwrap();
    rogue
        .serve(&world, listener, |_| async {
            let (_, mut response) = raw::answer();
            response.headers_mut().insert("grpc-status", "12".parse().unwrap());
            response
        })
        .await;
    is_refused(&world, || world.post("Unary"), Code::ProtocolUnsupported).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_cannot_put_words_into_the_mouth_of_our_server() {
    let mut world = World::new().await;
    let started = world.servers.remove("moj").unwrap();
    let (address, rogue) = (started.peers, Rogue::of(&world, "moj"));
    started.shutdown().await;
    let listener = TcpListener::bind(address).await.unwrap();
    rogue
        .serve(&world, listener, |_| async {
            let (_, mut response) = raw::answer();
            response.headers_mut().insert("grpc-status", "7".parse().unwrap());
            // Only ever said with a seal: bare, it is not believed.
            response.headers_mut().insert("causeway-refusal", "GRANT_MISSING".parse().unwrap());
            response
        })
        .await;
    is_refused(&world, || world.post("Unary"), Code::OutcomeUnknown).await;
}

// ---- at the peers' door

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rogue_sends_is_taken_when_it_is_right() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let frame = rogue.seal(rogue.opening(&world)).await;
    let answer = rogue::say(&mut rogue.connect(&world, "moj").await, &frame).await;
    let last = rogue::frames(&answer).pop().unwrap();
    assert!(matches!(Header::parse(last.header).unwrap().end, Some(End::Trailers { status: 0, .. })));
}

/// One change to an opening that was right, before it is sealed or after.
async fn disproved(world: &World, what: &str, frame: wire::Frame) {
    let rogue = Rogue::of(world, "portal");
    let answer = rogue::say(&mut rogue.connect(world, "moj").await, &frame).await;
    assert_eq!(answer.refusal(), Some("UNPROVEN"), "{what}");
    is_bare(&answer, Code::Unproven);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_believed_that_is_not_proven() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let (portal, moj) = (&world.members["portal"], &world.members["moj"]);

    // Sealed, and not what may be asked here.
    type Change<'c> = (&'static str, Box<dyn Fn(&mut proto::message::Facts) + 'c>);
    let changes: Vec<Change<'_>> = vec![
        ("another audience", Box::new(|facts| facts.route.provider_server = portal.server.clone())),
        ("a provider that is not hosted here", Box::new(|facts| facts.route.provider = portal.subsystem.clone())),
        ("another instance", Box::new(|facts| facts.route.instance = "EE".parse().unwrap())),
        ("a client of somebody else", Box::new(|facts| facts.route.consumer = moj.subsystem.clone())),
        ("another server's client", Box::new(|facts| facts.route.consumer_server = moj.server.clone())),
        ("a client that nobody registered", Box::new(|f| f.route.consumer = "VN/GOV/portal/ghost".parse().unwrap())),
        ("no opening, though position 0", Box::new(|facts| facts.opening = None)),
        ("a second message first", Box::new(|facts| facts.position = 1)),
        ("an answer", Box::new(|facts| facts.direction = Direction::Answer)),
        ("attempt 0", Box::new(|facts| facts.attempt = 0)),
        ("other pieces", Box::new(|facts| facts.pieces = vec![Digest::ZERO])),
    ];
    for (what, change) in changes {
        let mut draft = rogue.opening(&world);
        change(&mut draft.facts);
        disproved(&world, what, rogue.seal(draft).await).await;
    }

    // Changed after it was sealed.
    let good = rogue.seal(rogue.opening(&world)).await;
    let other = rogue.seal(rogue.opening(&world)).await;
    let foreign = Rogue::of(&world, "moj");
    let of_foreign_log = foreign.seal(rogue.opening(&world)).await;
    let changed = |change: &dyn Fn(&mut wire::Frame)| {
        let mut frame = good.clone();
        change(&mut frame);
        frame
    };
    let seal = |change: &dyn Fn(&mut wire::Seal)| changed(&|frame| change(frame.seal.as_mut().unwrap()));
    let flipped = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        Bytes::from(bytes)
    };
    for (what, frame) in [
        ("another header", changed(&|frame| frame.header = other.header.clone())),
        ("a header cut short", changed(&|frame| frame.header = frame.header.slice(..frame.header.len() - 1))),
        ("a header with one field more", changed(&|f| f.header = [&f.header[..], &[0xa8, 6, 1]].concat().into())),
        ("an empty header", changed(&|frame| frame.header = Bytes::new())),
        ("another exchange", changed(&|frame| frame.exchange = other.exchange.clone())),
        ("no exchange", changed(&|frame| frame.exchange = Bytes::new())),
        ("no seal", changed(&|frame| frame.seal = None)),
        ("the seal of another message", changed(&|frame| frame.seal = other.seal.clone())),
        ("no genesis", changed(&|frame| frame.genesis = Bytes::new())),
        ("another log's genesis", changed(&|frame| frame.genesis = foreign.genesis())),
        ("a genesis with a flipped bit", changed(&|frame| frame.genesis = flipped(&frame.genesis))),
        ("another member's log", of_foreign_log),
        ("a flipped bit in the signature", seal(&|seal| seal.signature = flipped(&seal.signature))),
        ("another key's name", seal(&|seal| seal.key = flipped(&seal.key))),
        ("another head", seal(&|seal| seal.head = other.seal.clone().unwrap().head)),
        ("another nonce", seal(&|seal| seal.nonce = flipped(&seal.nonce))),
        ("a longer path", seal(&|seal| seal.commit_path.push(Bytes::from_static(&[0; 32])))),
        ("a path of odd hashes", seal(&|seal| seal.record_path.push(Bytes::from_static(&[0; 31])))),
        ("no payload", changed(&|frame| frame.payload = None)),
        ("another payload", changed(&|frame| frame.payload = other.payload.clone())),
    ] {
        disproved(&world, what, frame).await;
    }
    // None of it is in the log, and the exchange that it bore is not used up.
    world.quiet().await;
    let exchange = Header::parse(good.header.clone()).unwrap().exchange;
    assert!(world.log_of("moj", &exchange.to_string()).is_empty());
    let answer = rogue::say(&mut rogue.connect(&world, "moj").await, &good).await;
    assert_eq!(answer.refusal(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_frame_are_refused() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let good = encode(&rogue.seal(rogue.opening(&world)).await);
    for (what, bytes) in [
        ("nothing", Bytes::new()),
        ("no protobuf", raw::flagged(0, &[0xff; 40])),
        ("compressed", raw::flagged(1, &good[5..])),
        ("cut", good.slice(..good.len() - 1)),
        ("too long", Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])),
        ("empty", raw::flagged(0, &[])),
    ] {
        let answer = soon(client.call(rogue::exchange(), bytes)).await;
        assert_eq!(answer.refusal(), Some("UNPROVEN"), "{what}");
        is_bare(&answer, Code::Unproven);
    }
    let unknown = client.call(rogue::exchange().uri("https://peer/causeway.relay.v2.Relay/Exchange"), good).await;
    assert_eq!((unknown.status(), unknown.refusal()), (12, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_message_that_proves_nothing_ends_the_exchange_and_is_kept() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let mut draft = rogue.opening(&world);
    draft.facts.end = None;
    draft.facts.route.operation = proto::message::Operation::Grpc("/echo.v1.Echo/Both".parse().unwrap());
    let exchange = draft.facts.exchange;
    let opening = rogue.seal(draft.clone()).await;
    // The opening once more, in the place of the second message.
    let body = [encode(&opening), encode(&opening)].concat();
    let answer = soon(client.call(rogue::exchange(), body.into())).await;
    let last = rogue::frames(&answer).pop().unwrap();
    let end = Header::parse(last.header).unwrap().end.clone();
    assert_eq!(end, Some(End::Abort(proto::message::Cause::Disproved)));
    world.quiet().await;
    let log = world.log_of("moj", &exchange.to_string());
    assert_eq!(log.last().unwrap().end.as_deref(), Some("silent"));
    assert!(log.iter().any(|line| line.kind == "withheld"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_of_another_time_is_not_fresh() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let minute = Duration::from_secs(60);
    let millisecond = Duration::from_millis(1);
    let now = world.now();
    for (time, fresh) in [
        (now.minus(minute), true),
        (now.minus(minute + millisecond), false),
        (now.plus(minute), true),
        (now.plus(minute + millisecond), false),
    ] {
        let mut draft = rogue.opening(&world);
        draft.facts.time = time;
        let answer = rogue::say(&mut client, &rogue.seal(draft).await).await;
        match fresh {
            true => assert_eq!(answer.refusal(), None),
            false => is_bare(&answer, Code::NotFresh),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_request_is_refused() {
    let mut world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let began = world.now();
    let frame = rogue.seal(rogue.opening(&world)).await;
    let again = async |world: &World| rogue::say(&mut rogue.connect(world, "moj").await, &frame).await;
    assert_eq!(again(&world).await.refusal(), None);
    // At once, and on another connection.
    is_bare(&again(&world).await, Code::Replayed);
    // After a restart.
    world.quiet().await;
    world.restart("moj").await;
    is_bare(&again(&world).await, Code::Replayed);
    // When it is no longer fresh, its time alone refuses it.
    world.set_time(began.plus(Duration::from_secs(3600)));
    is_bare(&again(&world).await, Code::NotFresh);
    // After a clock that was wrong for a while, restarts included, was set back.
    world.restart("moj").await;
    world.set_time(began);
    world.restart("moj").await;
    is_bare(&again(&world).await, Code::Replayed);
    // Another attempt of the same exchange is another message.
    let mut draft = rogue.opening(&world);
    draft.facts.exchange = Header::parse(frame.header.clone()).unwrap().exchange;
    draft.facts.attempt = 2;
    let second = rogue.seal(draft).await;
    assert_eq!(rogue::say(&mut rogue.connect(&world, "moj").await, &second).await.refusal(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_while_the_server_runs_opens_no_replay() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let began = world.now();
    let frame = rogue.seal(rogue.opening(&world)).await;
    let mut client = rogue.connect(&world, "moj").await;
    assert_eq!(rogue::say(&mut client, &frame).await.refusal(), None);
    world.set_time(began.plus(Duration::from_secs(3600)));
    let mut later = rogue.opening(&world);
    later.facts.time = world.now();
    assert_eq!(rogue::say(&mut client, &rogue.seal(later).await).await.refusal(), None, "the first is forgotten now");
    world.set_time(began);
    is_bare(&rogue::say(&mut client, &frame).await, Code::NotReady);
    // A little back, it goes on, and its own time does not go back.
    world.set_time(began.plus(Duration::from_secs(3570)));
    let mut again = rogue.opening(&world);
    again.facts.time = began.plus(Duration::from_secs(3600));
    let answer = rogue::say(&mut client, &rogue.seal(again).await).await;
    let sealed = rogue::frames(&answer).pop().unwrap();
    assert_eq!(Header::parse(sealed.header).unwrap().time, began.plus(Duration::from_secs(3600)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_than_may_run_is_refused() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    // A stream that has not opened yet holds a permit already: a peer's share is as many as one connection carries.
    let mut held = Vec::new();
    let mut client = rogue.connect(&world, "moj").await;
    for _ in 0..MAX_EXCHANGES_OF_PEER {
        let (sender, response) = client.open(rogue::exchange());
        held.push((sender, tokio::spawn(response)));
    }
    // They arrive in an order of their own: the first that finds no permit says so.
    let mut client = rogue.connect(&world, "moj").await;
    let (sender, response) = client.open(rogue::exchange());
    held.push((sender, tokio::spawn(response)));
    let (first, _, _) = soon(futures_util::future::select_all(held.iter_mut().map(|(_, answer)| answer))).await;
    let response = first.unwrap().unwrap();
    is_bare(&Answer::read(response).await, Code::TooManyExchanges);
    // What one peer takes, the others do not lack.
    let other = Rogue::of(&world, "moj");
    let answer = rogue::say(&mut other.connect(&world, "moj").await, &other.seal(other.opening(&world)).await).await;
    is_bare(&answer, Code::Unproven);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_takes_no_new_call() {
    let mut world = World::new().await;
    let mut client = world.raw().await;
    let (running, response) = client.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    // A peer whose word that the server goes has not arrived: its bytes wait unread.
    let rogue = Rogue::of(&world, "portal");
    let frame = rogue.seal(rogue.opening(&world)).await;
    let (mut deaf, hears) = rogue.connect_deaf(&world, "moj").await;
    let mut shutdown = Box::pin(world.servers.remove("moj").unwrap().shutdown());
    assert!(futures_util::poll!(&mut shutdown).is_pending(), "a call still runs");
    let (mut sender, refused) = deaf.open(rogue::exchange());
    sender.send_data(encode(&frame)).await.unwrap();
    let (shut, answer) = tokio::join!(tokio::spawn(shutdown), async {
        hears.notify_one();
        let answer = Answer::read(soon(refused).await.unwrap()).await;
        drop(running);
        let whole = soon(Answer::read(response)).await;
        assert_eq!(whole.status(), 0, "what ran was let end");
        answer
    });
    shut.unwrap();
    is_bare(&answer, Code::ShuttingDown);
}
