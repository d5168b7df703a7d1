//! Every refusal of the list, seen through a real socket, and what it gives away: its code.
//!
//! A code that nobody sees here fails. Each answer is held against what its code says, byte for byte, when it is read
//! (`raw::Answer`); here it is searched once more for what an attacker would like to find.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use journal::Options;
use journal::faulty::{Fault, Faulty};
use proto::global_configuration::Standing;
use proto::message::{End, Facts, Header};
use proto::record::Genesis;
use proto::refusal::{Code, Language, Speaker};
use proto::transport::encode;
use security_server::access_rights::Proposal;
use security_server::limits::Limits;
use security_server::listen::MAX_EXCHANGES_OF_PEER;
use security_server::payloads::{Keep, Policy};
use tests::echo::{Parrot, said};
use tests::processes::PURPOSE;
use tests::raw::{self, Answer};
use tests::realm::Realm;
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::tsa;
use tests::world::World;
use tokio::net::TcpListener;

/// What was seen: which servers said each code, to whom.
#[derive(Default)]
struct Seen(BTreeMap<Code, BTreeSet<&'static str>>);

impl Seen {
    /// At the clients' door.
    fn client(&mut self, world: &World, code: Code, answer: &Answer) {
        assert_eq!(answer.refusal(), Some(code.as_str()));
        let details = answer.details();
        if code.speaker() != Speaker::Either {
            assert_eq!(details["said-by"], code.speaker().as_str());
        }
        assert_ne!(details["side"], "speaker", "{code}: a caller learns whose side it is");
        let how = if details["said-by"] == "consumer-server" { "own" } else { "theirs" };
        self.note(world, code, how, &told(answer));
    }

    /// At the clients' door, in HTTP's words.
    fn problem(&mut self, code: Code, answer: &Answer) {
        assert_eq!(answer.refusal(), Some(code.as_str()), "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        self.0.entry(code).or_default().insert("own");
    }

    /// At the peers' door, without a seal.
    fn bare(&mut self, world: &World, code: Code, answer: &Answer) {
        assert_eq!(answer.refusal(), Some(code.as_str()));
        assert!(answer.field("grpc-message").is_none(), "{code}");
        self.note(world, code, "bare", &told(answer));
    }

    /// At the peers' door, with a seal: who asked whom for what, as it was asked, and the code. The rest is proof: hashes, a
    /// signature, and the beginning of the log, which names whose it is.
    fn sealed(&mut self, code: Code, asked: &Facts, answer: &Answer) {
        assert_eq!(rogue::sealed_refusal(answer), Some(code));
        let frame = rogue::frames(answer).pop().unwrap();
        let header = Header::parse(frame.header.clone()).unwrap();
        assert!(frame.payload.is_none() && header.metadata.is_none() && header.pieces.is_empty(), "{code}");
        assert_eq!((&header.route, &header.end), (&asked.route, &Some(End::Refused(code.to_string()))));
        let log = Genesis::parse(frame.genesis).unwrap().content;
        assert_eq!(log.member, asked.route.provider.member().as_str());
        assert_eq!(log.server, asked.route.provider_server.as_str());
        self.0.entry(code).or_default().insert("sealed");
    }

    fn note(&mut self, world: &World, code: Code, how: &'static str, said: &str) {
        // Its own words, which hold an example or two, and the name of the form that they come in.
        let own = Language::ALL.map(|language| code.message(language));
        let said = own.iter().fold(said.replace("google.rpc.ErrorInfo", ""), |said, words| said.replace(words, ""));
        for started in world.servers.values() {
            for address in started.clients.iter().chain([&started.peers, &started.operators]) {
                assert!(!said.contains(&format!(":{}", address.port())), "{code}: {address} in {said}");
            }
        }
        let service = format!(":{}", world.service.port());
        let directory = world.directory.path().to_str().unwrap();
        for never in [
            &service,
            directory,
            "127.0.0.1",
            "localhost",
            "/tmp",
            "VN/",
            "portal",
            "moj",
            "echo.v1",
            "testing",
            "panicked",
            ".rs",
            "src/",
            "Error",
            "Err(",
            "Some(",
            "None",
            "unwrap",
            "{ ",
            "::",
            "os error",
            "tokio",
            "rustls",
            "sled",
            "grants:",
        ] {
            assert!(!said.contains(never), "{code}: {never:?} in {said:?}");
        }
        self.0.entry(code).or_default().insert(how);
    }
}

/// All that an answer says: every field, with the words and the details as they are meant, and the body.
fn told(answer: &Answer) -> String {
    let mut told = String::new();
    for fields in [Some(&answer.head.headers), answer.trailers.as_ref()].into_iter().flatten() {
        for (name, value) in fields.iter().filter(|(name, _)| !ENCODED.contains(&name.as_str())) {
            told.push_str(&format!("{name}={}\n", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    if let Some(details) = answer.field("grpc-status-details-bin") {
        let details = STANDARD_NO_PAD.decode(details).unwrap();
        told.push_str(&format!("{}\n{}\n", answer.message(), String::from_utf8_lossy(&details)));
    }
    told + &String::from_utf8_lossy(&answer.body)
}

/// Fields that say what they say in another writing.
const ENCODED: [&str; 2] = ["grpc-message", "grpc-status-details-bin"];

async fn call(world: &World, request: http::request::Builder) -> Answer {
    soon(async { world.raw().await.call(request, raw::message(&said(""))).await }).await
}

/// Every code of the list, each provoked. What takes no other world is asked of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_of_the_list_is_seen_and_says_its_code_and_nothing_else() {
    let mut seen = Seen::default();
    asked_badly(&mut seen).await;
    translated(&mut seen).await;
    about_whom(&mut seen).await;
    unstamped(&mut seen).await;
    unkept(&mut seen).await;
    not_allowed(&mut seen).await;
    standing(&mut seen).await;
    services(&mut seen).await;
    providers(&mut seen).await;
    while_it_runs(&mut seen).await;
    logs(&mut seen).await;
    peers(&mut seen).await;
    full(&mut seen).await;
    for code in Code::ALL {
        assert!(seen.0.contains_key(code), "{code} is seen");
    }
    assert_eq!(seen.0[&Code::PayloadKeysMissing], ["own", "theirs"].into());
    // What a peer says without a seal is told on as the peer's word.
    assert_eq!(seen.0[&Code::ConfigurationExpired], ["bare", "own", "theirs"].into());
}

async fn asked_badly(seen: &mut Seen) {
    let world = World::new().await;
    let field = |name, value| world.post_with("Unary", name, value);
    for (request, code) in [
        (field("causeway-token", Some("another")), Code::ClientUnknown),
        (field("origin", Some("http://bus")), Code::BrowserRefused),
        (field("te", Some("trailers")).method("PUT"), Code::MethodNotPost),
        (field("te", Some("trailers")).uri("http://bus/echo.v1.Echo/Unary?x"), Code::PathMalformed),
        (field("causeway-service", Some("VN/GOV/moj")), Code::IdentifierMalformed),
        (field("causeway-exchange", Some("x")), Code::MetadataReserved),
        (field("grpc-timeout", Some("soon")), Code::MetadataMalformed),
        (field("x-large", Some(&"v".repeat(17_000))), Code::MetadataTooLarge),
        (field("causeway-service", None), Code::ServiceNotNamed),
        (field("causeway-purpose", None), Code::PurposeMissing),
        (field("causeway-service", Some("VN/GOV/moj/nothing-here")), Code::ProviderUnknown),
    ] {
        seen.client(&world, code, &call(&world, request.header("accept-language", "vi")).await);
    }
    seen.problem(
        Code::ContentTypeUnknown,
        &call(&world, world.post_with("Unary", "content-type", Some("text/html"))).await,
    );
    seen.problem(
        Code::MethodUnknown,
        &call(&world, world.post_with("Unary", "content-type", Some("application/json"))).await,
    );
}

/// What is said where JSON is translated: in problem documents, which are held against their codes as they are read.
async fn translated(seen: &mut Seen) {
    let service = raw::serve(|_| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            // No message of any type.
            let _ = sender.send_data(raw::flagged(0, &[0xff])).await;
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
        });
        response
    })
    .await;
    let (mut realm, portal, moj) = Realm::of_two(service).await;
    realm.list(&moj, &[]).await;
    let post = || {
        http::Request::post(format!("http://{}/echo.v1.Echo/Unary", portal.clients))
            .header("content-type", "application/json")
            .header("causeway-service", &moj.subsystem)
            .header("causeway-purpose", PURPOSE)
    };
    let asked =
        async |body: Bytes| soon(async { raw::Client::to(portal.clients).await.call(post(), body).await }).await;
    seen.problem(Code::AnswerUntranslatable, &asked(Bytes::from_static(b"{}")).await);
    seen.problem(Code::MessageMalformed, &asked(Bytes::from_static(b"[]")).await);
    seen.problem(Code::MessageTooLarge, &asked(Bytes::from(vec![b' '; 4 * 1024 * 1024 + 1])).await);
    realm.stop(&portal).await;
    std::fs::remove_dir_all(realm.path(&portal.file()).with_file_name("content")).unwrap();
    realm.serve(&portal).await;
    realm.stop_registry().await;
    seen.problem(Code::DescriptionUnavailable, &asked(Bytes::from_static(b"{}")).await);
    realm.stops().await;
}

/// What is said of a request of a method about persons that names none, or cannot be read.
async fn about_whom(seen: &mut Seen) {
    let (service, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(service).await;
    let echo = include_str!("../protos/echo/v1/echo.proto")
        .replace("package echo.v1;", "package echo.v1;\nimport \"causeway/options.proto\";")
        .replace("string text = 1;", "string text = 1 [(causeway.subject) = true];");
    let protos = realm.path("protos");
    std::fs::create_dir_all(&protos).unwrap();
    std::fs::write(protos.join("echo.proto"), echo).unwrap();
    let marked = security_server::announce::compiled(&[protos.join("echo.proto")], &[protos]).unwrap();
    realm.list_as(&moj, &marked.descriptors, &[]).await.unwrap();
    realm.settled().await;
    let long = format!(r#"{{"text":"somebody","bytes":"{}"}}"#, "A".repeat(1536 * 1024));
    for (body, code) in [("{}".to_owned(), Code::SubjectMissing), (long, Code::SubjectUnreadable)] {
        let request = http::Request::post(format!("http://{}/echo.v1.Echo/Unary", portal.clients))
            .header("content-type", "application/json")
            .header("causeway-service", &moj.subsystem)
            .header("causeway-purpose", PURPOSE);
        let answer = soon(async { raw::Client::to(portal.clients).await.call(request, body.into()).await }).await;
        seen.problem(code, &answer);
    }
    realm.stops().await;
}

async fn not_allowed(seen: &mut Seen) {
    let world = World::without_grants().await;
    let later = world.now().plus(Duration::from_secs(3600)).as_millis();
    world.grant(&["Unary"]).await;
    world.grant_as(Proposal { valid_from: Some(later), ..world.proposal(&["Both"]) }).await;
    world.grant_as(Proposal { per_second: Some(1), ..world.proposal(&["ServerStream"]) }).await;
    let methods = ["/echo.v1.Other/Unary".to_owned()].into();
    world.grant_as(Proposal { methods, ..world.proposal(&[]) }).await;
    // What others may is nobody's to know.
    let consumer = "VN/GOV/portal/another-system".parse().unwrap();
    world.grant_as(Proposal { consumer, ..world.proposal(&["Fail", "Hang"]) }).await;

    let other = || world.post("Unary").uri("http://bus/echo.v1.Other/Unary");
    for (request, code) in [
        (world.post("Fail"), Code::GrantMissing),
        (world.post("ClientStream"), Code::GrantMissing),
        (world.post_with("Unary", "causeway-purpose", Some("curiosity")), Code::GrantPurpose),
        (world.post("Both"), Code::GrantExpired),
        (other(), Code::ServiceUnknown),
    ] {
        seen.client(&world, code, &call(&world, request).await);
    }
    let over = soon(async {
        loop {
            let answer = call(&world, world.post("ServerStream")).await;
            if answer.refusal().is_some() {
                return answer;
            }
        }
    });
    seen.client(&world, Code::RateExceeded, &over.await);

    let rogue = Rogue::of(&world, "portal");
    let mut draft = rogue.opening(&world);
    draft.facts.opening.as_mut().unwrap().purpose = "curiosity".into();
    let asked = draft.facts.clone();
    let answer = rogue::say(&mut rogue.connect(&world, "moj").await, &rogue.seal(draft).await).await;
    seen.sealed(Code::GrantPurpose, &asked, &answer);
}

async fn standing(seen: &mut Seen) {
    let mut world = World::new().await;
    for (name, code) in [("portal", Code::MemberSuspended), ("moj", Code::ProviderSuspended)] {
        let stands = |world: &mut World, standing| {
            world.publish(|members| members.get_mut(name).unwrap().document.standing = standing, Vec::new());
        };
        stands(&mut world, Standing::Suspended);
        seen.client(&world, code, &call(&world, world.post("Unary")).await);
        stands(&mut world, Standing::Active);
    }
    let maintained = |world: &mut World, notice: Option<&str>| {
        let notice = notice.map(|notice| notice.parse().unwrap());
        world.publish(|members| members.get_mut("moj").unwrap().document.servers[0].maintenance = notice, Vec::new());
    };
    maintained(&mut world, Some("back at noon"));
    seen.client(&world, Code::ProviderInMaintenance, &call(&world, world.post("Unary")).await);
    maintained(&mut world, None);
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let frame = rogue.seal(rogue.opening(&world)).await;
    // Only the provider's server has not heard of the newest version.
    let moj = world.servers.remove("moj").unwrap();
    world.set_time(world.now().plus(Duration::from_secs(73 * 3600)));
    seen.client(&world, Code::ConfigurationExpired, &call(&world, world.post("Unary")).await);
    world.publish(|_| {}, Vec::new());
    world.servers.insert("moj", moj);
    seen.bare(&world, Code::ConfigurationExpired, &rogue::say(&mut client, &frame).await);
    let answer = call(&world, world.post("Unary")).await;
    seen.client(&world, Code::ConfigurationExpired, &answer);
    assert_eq!(answer.details()["side"], "provider-server", "it is not the caller's own server that lacks it");
}

async fn services(seen: &mut Seen) {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::with_service(closed).await;
    seen.client(&world, Code::ServiceUnreachable, &call(&world, world.post("Unary")).await);
    let service = raw::serve(|_| async {
        let (mut sender, mut response) = raw::answer();
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response.headers_mut().insert("content-type", "text/html".parse().unwrap());
        let stack =
            "thread 'main' panicked at src/main.rs:7: called `Option::unwrap()` on a `None` value, at 127.0.0.1";
        tokio::spawn(async move { sender.send_data(Bytes::from_static(stack.as_bytes())).await });
        response
    })
    .await;
    let world = World::with_service(service).await;
    seen.client(&world, Code::ServiceMalformed, &call(&world, world.post("Unary")).await);
    // Fields are named, and the answer is compressed, or longer than can be held.
    let unseen = raw::flagged(1, b"thread 'main' panicked at src/main.rs:7");
    let endless = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]);
    for (message, code) in [(unseen, Code::NotMinimised), (endless, Code::TooLargeToMinimise)] {
        let service = raw::serve(move |_| {
            let message = message.clone();
            async move {
                let (mut sender, response) = raw::answer();
                tokio::spawn(async move { sender.send_data(message).await });
                response
            }
        })
        .await;
        let world = World::arranged(async |world| world.service = service).await;
        let fields = [("/echo.v1.Echo/Unary".to_owned(), ["1".to_owned()].into())].into();
        world.grant_as(Proposal { fields, ..world.proposal(&["Unary"]) }).await;
        seen.client(&world, code, &call(&world, world.post("Unary")).await);
    }
}

async fn providers(seen: &mut Seen) {
    let mut world = World::new().await;
    let started = world.servers.remove("moj").unwrap();
    let (address, rogue) = (started.peers, Arc::new(Rogue::of(&world, "moj")));
    started.shutdown().await;
    seen.client(&world, Code::ProviderUnreachable, &call(&world, world.post("Unary")).await);

    let (answers, next) = (Arc::clone(&rogue), AtomicUsize::new(0));
    let next = Arc::new(next);
    let listener = TcpListener::bind(address).await.unwrap();
    rogue
        .serve(&world, listener, move |request| {
            let (rogue, number) = (Arc::clone(&answers), next.fetch_add(1, Ordering::Relaxed));
            async move {
                let opening = rogue::first_frame(request).await;
                let (_, mut response) = raw::answer();
                let fields = response.headers_mut();
                match number {
                    0 => return rogue::streamed(vec![opening]),
                    1 => fields.extend(raw::fields(&[("grpc-status", "12")])),
                    // Only ever said with a seal: bare, it is not believed.
                    2 => fields.extend(raw::fields(&[("grpc-status", "7"), ("causeway-refusal", "GRANT_MISSING")])),
                    // With a seal, and not a provider's to say.
                    3 => {
                        let mut draft = rogue::answer_to(&opening);
                        draft.facts.end = Some(End::Refused("CLIENT_UNKNOWN".into()));
                        (draft.facts.metadata, draft.facts.pieces, draft.payload) = (None, Vec::new(), None);
                        return rogue::streamed(vec![rogue.seal(draft).await]);
                    }
                    _ => fields.extend(raw::fields(&[
                        ("grpc-status", "14"),
                        ("causeway-refusal", "LOG_ENDED"),
                        ("grpc-message", "at 10.0.0.1: src/main.rs panicked, ask VN/GOV/tax"),
                    ])),
                }
                response
            }
        })
        .await;
    for code in
        [Code::ProviderUnproven, Code::ProtocolUnsupported, Code::OutcomeUnknown, Code::OutcomeUnknown, Code::LogEnded]
    {
        // A peer that could not be reached is tried again at once where there is no other.
        seen.client(&world, code, &call(&world, world.post("Unary")).await);
    }
}

async fn while_it_runs(seen: &mut Seen) {
    let world = World::without_grants().await;
    world.grant(&["Hang"]).await;
    let number = world.grant(&["Both"]).await;
    seen.client(&world, Code::DeadlinePassed, &call(&world, world.post("Hang").header("grpc-timeout", "50m")).await);
    let (_sender, response) = world.raw().await.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    world.servers["moj"].server.access_rights.end(number, "a test".into(), world.now()).await.unwrap();
    seen.client(&world, Code::AccessEnded, &soon(Answer::read(response)).await);
}

async fn logs(seen: &mut Seen) {
    let mut world = World::new().await;
    let disk = Faulty::new();
    world.members.get_mut("portal").unwrap().log = disk.clone();
    let started = world.servers.remove("portal").unwrap();
    let address = started.peers;
    started.shutdown().await;
    std::fs::remove_dir_all(world.directory.path().join("portal/index")).unwrap();
    let mut settings = world.settings("portal", TcpListener::bind(address).await.unwrap(), false).await;
    settings.log_options = Options { first: true, ..Options::default() };
    world.servers.insert("portal", security_server::start(settings).await.unwrap());
    let (mut sender, response) = world.raw().await.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    let whole = 1 << 40;
    disk.limit(whole, whole / 100 * 98);
    look_around(&world, "portal").await;
    seen.client(&world, Code::LogFull, &call(&world, world.post("Unary")).await);
    disk.limit(whole, 0);
    disk.fail(0, Fault::Lost);
    sender.send_data(raw::message(&said("lost"))).await.unwrap();
    seen.client(&world, Code::AnswerUnrecorded, &soon(Answer::read(response)).await);
    seen.client(&world, Code::LogEnded, &call(&world, world.post("Unary")).await);
}

async fn unstamped(seen: &mut Seen) {
    let mut world = World::new().await;
    let tsa = tsa::Tsa::serve(&world, "tsa").await;
    tsa.goes_wrong(tsa::Fault::Refuses);
    world.approve(vec![tsa.approved()]);
    assert_eq!(call(&world, world.post("Unary")).await.status(), 0);
    world.set_time(world.now().plus(std::time::Duration::from_secs(72 * 3600 + 1)));
    world.publish(|_| {}, Vec::new());
    assert_eq!(world.servers["portal"].server.stamp_the_heads().await.unwrap(), 0);
    seen.client(&world, Code::NotStamped, &call(&world, world.post("Unary")).await);
}

async fn unkept(seen: &mut Seen) {
    for name in ["portal", "moj"] {
        let full = Faulty::new();
        full.limit(1000, 0);
        let world = World::arranged(async |world| {
            let kept = (world.members["moj"].subsystem.clone(), "echo.v1.Echo".to_owned(), Keep::Always);
            let disk: Arc<dyn journal::Disk> = full;
            world.payloads.insert(name, (Policy::of([kept]), disk));
        })
        .await;
        world.grant_all().await;
        seen.client(&world, Code::PayloadKeysMissing, &call(&world, world.post("Unary")).await);
    }
}

async fn peers(seen: &mut Seen) {
    let world = World::without_grants().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let mut wrong = rogue.opening(&world);
    wrong.facts.route.provider = "VN/GOV/moj/nothing-here".parse().unwrap();
    seen.bare(&world, Code::Unproven, &rogue::say(&mut client, &rogue.seal(wrong).await).await);
    let mut late = rogue.opening(&world);
    late.facts.time = world.now().minus(Duration::from_secs(61));
    seen.bare(&world, Code::NotFresh, &rogue::say(&mut client, &rogue.seal(late).await).await);
    let frame = rogue.seal(rogue.opening(&world)).await;
    assert_eq!(rogue::sealed_refusal(&rogue::say(&mut client, &frame).await), Some(Code::GrantMissing));
    seen.bare(&world, Code::Replayed, &rogue::say(&mut client, &frame).await);
    let too_often = soon(async {
        for attempt in 1.. {
            let mut draft = rogue.opening(&world);
            draft.facts.attempt = attempt + 1;
            let answer = rogue::say(&mut client, &rogue.seal(draft).await).await;
            if answer.refusal().is_some() {
                return answer;
            }
        }
        unreachable!("the quota has an end")
    });
    seen.bare(&world, Code::OverQuota, &too_often.await);
    world.set_time(world.now().minus(Duration::from_secs(61)));
    let early = rogue.seal(rogue.opening(&world)).await;
    seen.bare(&world, Code::NotReady, &rogue::say(&mut client, &early).await);
}

async fn look_around(world: &World, name: &str) {
    let server = Arc::clone(&world.servers[name].server);
    tokio::task::spawn_blocking(move || server.look_around()).await.unwrap();
}

async fn full(seen: &mut Seen) {
    let mut world = World::new().await;
    let seldom = Limits { calls_of_client_per_second: 1, ..Limits::default() };
    let hurried = World::arranged(async |world| world.limits = seldom).await;
    let calls =
        (0..50).map(|_| async { hurried.raw().await.call(hurried.post("Unary"), raw::message(&said(""))).await });
    let answers = soon(futures_util::future::join_all(calls)).await;
    let refused = answers.iter().find(|answer| answer.refusal() == Some("CALLED_TOO_OFTEN")).unwrap();
    seen.client(&hurried, Code::CalledTooOften, refused);
    let rogue = Rogue::of(&world, "portal");
    let mut held = Vec::new();
    let mut client = rogue.connect(&world, "moj").await;
    for _ in 0..MAX_EXCHANGES_OF_PEER {
        let (sender, response) = client.open(rogue::exchange());
        held.push((sender, tokio::spawn(response)));
    }
    let mut client = rogue.connect(&world, "moj").await;
    let (sender, response) = client.open(rogue::exchange());
    held.push((sender, tokio::spawn(response)));
    let (first, _, _) = soon(futures_util::future::select_all(held.iter_mut().map(|(_, answer)| answer))).await;
    seen.bare(&world, Code::TooManyExchanges, &Answer::read(first.unwrap().unwrap()).await);
    drop(held);

    // A peer whose word that the server goes has not arrived: its bytes wait unread.
    let mut caller = world.raw().await;
    let (running, response) = caller.open(world.post("Both"));
    let _running_on = soon(response).await.unwrap();
    let frame = rogue.seal(rogue.opening(&world)).await;
    let (mut deaf, hears) = rogue.connect_deaf(&world, "moj").await;
    let mut shutdown = Box::pin(world.servers.remove("moj").unwrap().shutdown());
    assert!(futures_util::poll!(&mut shutdown).is_pending(), "a call still runs");
    let (mut sender, refused) = deaf.open(rogue::exchange());
    sender.send_data(encode(&frame)).await.unwrap();
    let ends = tokio::spawn(shutdown);
    hears.notify_one();
    seen.bare(&world, Code::ShuttingDown, &Answer::read(soon(refused).await.unwrap()).await);
    drop(running);
    soon(ends).await.unwrap();
}
