//! What is believed of a peer. A member's security server gone bad has the member's real keys; whatever it sends, with one
//! thing in it that is not so, proves nothing: not as an opening, not as an answer, not on the connection of another.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::commitment::Secret;
use proto::digest::Digest;
use proto::head::Head;
use proto::identifier::ExchangeId;
use proto::merkle;
use proto::message::{Commitments, Contents, End, Facts, Header, Operation};
use proto::record::{Commit, Kind, Record};
use proto::refusal::Code;
use proto::transport::{FETCH_PATH, encode};
use proto::wire::relay as wire;
use tests::echo::{Heard, said};
use tests::raw::{self, Answer};
use tests::rogue::{self, Draft, Rogue};
use tests::soon;
use tests::world::{TOKEN, World};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// The one code that is said before a signature holds, and no word more.
fn is_unproven(answer: &Answer, what: &str) {
    assert_eq!(answer.refusal(), Some(Code::Unproven.as_str()), "{what}");
    assert_eq!(answer.status(), Code::Unproven.grpc_status(), "{what}");
    assert!(answer.field("grpc-message").is_none() && answer.body.is_empty(), "{what}");
}

/// Commits to other contents.
fn carrying(mut draft: Draft, contents: Contents) -> Draft {
    let committed = Commitments::default().commit(&contents, || Secret::from_bytes([9; 32]));
    draft.facts.metadata = committed.metadata;
    draft.facts.pieces = committed.pieces;
    draft.payload = committed.payload;
    draft
}

fn hello() -> Contents {
    Contents { metadata: Some(Vec::new()), pieces: vec![raw::message(&said("hello"))], trailers: None }
}

// ---- openings

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_on_the_connection_of_another_is_not_believed() {
    let mut world = World::new().await;
    let (portal, moj) = (Rogue::of(&world, "portal"), Rogue::of(&world, "moj"));
    let frame = portal.seal(portal.opening(&world)).await;
    let mut of_moj = moj.connect(&world, "moj").await;
    is_unproven(&rogue::say(&mut of_moj, &frame).await, "its server does not host the client");
    // Not even where it does: the message is another server's.
    let server = world.members["moj"].server.clone();
    world.publish(|members| members.get_mut("portal").unwrap().document.subsystems[0].servers.push(server), Vec::new());
    is_unproven(&rogue::say(&mut of_moj, &frame).await, "its server hosts the client too");
    let answer = rogue::say(&mut portal.connect(&world, "moj").await, &frame).await;
    assert_eq!(answer.refusal(), None, "on its own connection it is good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_ours_sent_back_opens_nothing() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let answered = rogue::say(&mut client, &rogue.seal(rogue.opening(&world)).await).await;
    let answer = rogue::frames(&answered).remove(0);
    assert!(!answer.genesis.is_empty(), "it is whole: signed, and with its log's beginning");
    is_unproven(&rogue::say(&mut client, &answer).await, "our own answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_with_one_thing_wrong_is_not_believed() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;

    let mut later = carrying(rogue.opening(&world), Contents { metadata: None, ..hello() });
    later.facts.position = 1;
    later.facts.previous = Some(Digest::of(&[b"a message that never was"]));
    later.facts.opening = None;
    assert!(Header::parse(Header::new(later.facts.clone()).as_bytes().clone()).is_ok(), "it is well formed");
    is_unproven(&rogue::say(&mut client, &rogue.seal(later).await).await, "a later message");

    let mut elsewhere = rogue.opening(&world);
    elsewhere.facts.route.provider = "VN/GOV/moj/nowhere".parse().unwrap();
    is_unproven(&rogue::say(&mut client, &rogue.seal(elsewhere).await).await, "a subsystem that nobody registered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_nothing_learns_nothing() {
    let world = World::without_grants().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let unsigned = |mut frame: wire::Frame| {
        let seal = frame.seal.as_mut().unwrap();
        let mut signature = seal.signature.to_vec();
        *signature.last_mut().unwrap() ^= 1;
        seal.signature = signature.into();
        frame
    };
    let not_granted = unsigned(rogue.seal(rogue.opening(&world)).await);
    is_unproven(&rogue::say(&mut client, &not_granted).await, "which grants there are");
    let mut old = rogue.opening(&world);
    old.facts.time = world.now().minus(Duration::from_secs(3600));
    let old = unsigned(rogue.seal(old).await);
    is_unproven(&rogue::say(&mut client, &old).await, "how late it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_head_of_a_size_that_was_seen_is_not_believed() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let mut client = rogue.connect(&world, "moj").await;
    let good = rogue.seal(rogue.opening(&world)).await;
    assert_eq!(rogue::say(&mut client, &good).await.refusal(), None);

    // Another message in the place of the one that was signed: every path leads to the head, and nobody signed that.
    let draft = rogue.opening(&world);
    let header = Header::new(draft.facts);
    let seal = good.seal.clone().unwrap();
    let digests = |path: &[Bytes]| path.iter().map(|hash| hash[..].try_into().unwrap()).collect::<Vec<Digest>>();
    let head = Head::parse(&seal.head).unwrap();
    let record = Record::new(Kind::Sent, &seal.nonce[..].try_into().unwrap(), &[header.as_bytes()]);
    let path = digests(&seal.record_path);
    let root = merkle::root_of_path(record.hash(), seal.record.into(), seal.records.into(), &path).unwrap();
    let commit = Commit { count: seal.records, root };
    let root = merkle::root_of_path(commit.hash(), seal.commit, head.size, &digests(&seal.commit_path)).unwrap();
    let forged = wire::Frame {
        exchange: Bytes::copy_from_slice(header.exchange.as_bytes()),
        header: header.as_bytes().clone(),
        payload: draft.payload,
        seal: Some(wire::Seal { head: Head { root, ..head }.to_text().into(), ..seal }),
        genesis: good.genesis,
        priority: 0,
    };
    is_unproven(&rogue::say(&mut client, &forged).await, "a head that nobody signed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_does_not_speak_to_a_service_in_the_name_of_the_bus() {
    let mut world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let field = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    let metadata = vec![
        field("content-type", "application/grpc"),
        field("causeway-consumer", "VN/GOV/moj/civil-registry"),
        field("causeway-represented-party", "the prime minister"),
        field("causeway-anything", "at all"),
    ];
    let draft = carrying(rogue.opening(&world), Contents { metadata: Some(metadata), ..hello() });
    let answer = rogue::say(&mut rogue.connect(&world, "moj").await, &rogue.seal(draft).await).await;
    assert_eq!(answer.refusal(), None);
    let Some(Heard::Call(_, fields)) = soon(world.heard.recv()).await else { panic!("the service is called") };
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["causeway-consumer", "causeway-exchange", "causeway-purpose"]);
    assert_eq!(fields[0].1, world.members["portal"].subsystem.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_no_party_to_an_exchange_fetches_nothing() {
    let world = World::new().await;
    let called = world.client().await.unary(said("between us")).await.unwrap();
    let exchange = called.metadata().get("causeway-exchange").unwrap().to_str().unwrap();
    let exchange: ExchangeId = exchange.parse().unwrap();
    world.quiet().await;
    let asked = wire::Frame { exchange: Bytes::copy_from_slice(exchange.as_bytes()), ..Default::default() };
    // The civil registry's server has two that ask: the party, and itself, which was not the other party.
    for (name, party) in [("portal", true), ("moj", false)] {
        let mut client = Rogue::of(&world, name).connect(&world, "moj").await;
        let request = rogue::exchange().uri(format!("https://peer{FETCH_PATH}"));
        let answer = soon(client.call(request, encode(&asked))).await;
        assert_eq!((answer.refusal(), answer.status()), (None, 0), "{name}");
        assert_eq!(!rogue::frames(&answer).is_empty(), party, "{name}");
    }
}

// ---- answers

/// The civil registry's server is a rogue that answers as the test says.
async fn answering<F>(answer: impl Fn(Arc<Rogue>, wire::Frame) -> F + Clone + Send + Sync + 'static) -> World
where
    F: Future<Output = Vec<wire::Frame>> + Send + 'static,
{
    let mut world = World::new().await;
    let started = world.servers.remove("moj").unwrap();
    let (address, rogue) = (started.peers, Arc::new(Rogue::of(&world, "moj")));
    started.shutdown().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let answers = Arc::clone(&rogue);
    rogue
        .serve(&world, listener, move |request| {
            let (rogue, answer) = (Arc::clone(&answers), answer.clone());
            async move {
                let opening = rogue::first_frame(request).await;
                rogue::streamed(answer(rogue, opening).await)
            }
        })
        .await;
    world
}

async fn call(world: &World) -> Answer {
    soon(async { world.raw().await.call(world.post("Unary"), raw::message(&said(""))).await }).await
}

/// Whether the log of the consumer's server kept what was withheld.
fn kept(world: &World, answer: &Answer) -> bool {
    let log = world.log_of("portal", answer.field("causeway-exchange").unwrap());
    assert!(log.iter().all(|line| line.direction != Some("answer")), "it is no answer: {log:?}");
    log.iter().any(|line| line.kind == "withheld")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_request_sent_back_is_no_answer() {
    let world = answering(|_, opening| async move { vec![opening] }).await;
    let answer = call(&world).await;
    assert_eq!(answer.refusal(), Some("PROVIDER_UNPROVEN"));
    world.quiet().await;
    assert!(kept(&world, &answer));
}

/// The one answer as two messages: the metadata, then all the rest.
fn in_two(draft: Draft) -> (Draft, Facts, Contents, Commitments) {
    let pieces = draft.payload.unwrap().pieces;
    let mut commitments = Commitments::default();
    let first = Contents { metadata: Some(Vec::new()), ..Default::default() };
    let committed = commitments.commit(&first, || Secret::from_bytes([8; 32]));
    let facts = Facts { metadata: committed.metadata, pieces: Vec::new(), end: None, ..draft.facts.clone() };
    let second =
        Facts { position: 1, metadata: None, previous: Some(Header::new(facts.clone()).digest()), ..draft.facts };
    let trailers = Some(vec![("grpc-status".into(), Bytes::from_static(b"0"))]);
    (Draft { facts, payload: committed.payload }, second, Contents { metadata: None, pieces, trailers }, commitments)
}

type Wrong = (&'static str, fn(&mut Facts));

/// One thing wrong in an answer of one message.
const IN_ONE: [Wrong; 6] = [
    ("another exchange", |facts| facts.exchange = ExchangeId::from_bytes([0xee; 16])),
    ("another attempt", |facts| facts.attempt = 2),
    ("another question", |facts| {
        facts.route.operation = Operation::Grpc("/echo.v1.Echo/Both".parse().unwrap());
    }),
    ("another opening", |facts| facts.answer.as_mut().unwrap().opening = Digest::of(&[b"another"])),
    ("more handed on than was sent", |facts| facts.answer.as_mut().unwrap().handed_on = 1_000),
    ("another status than in the trailers", |facts| {
        if let Some(End::Trailers { status, .. }) = &mut facts.end {
            *status = 7;
        }
    }),
];

/// One thing wrong in the second message of an answer.
const IN_TWO: [Wrong; 3] = [
    ("a message left out", |facts| facts.position = 2),
    ("another message before it", |facts| facts.previous = Some(Digest::of(&[b"another"]))),
    ("fewer handed on than before", |facts| facts.answer.as_mut().unwrap().handed_on = 0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_one_thing_wrong_is_withheld() {
    let cases: Vec<&str> = ["nothing", "nothing in two messages", "the frame of another exchange"]
        .into_iter()
        .chain(IN_ONE.iter().chain(&IN_TWO).map(|(what, _)| *what))
        .collect();
    let next = Arc::new(AtomicUsize::new(0));
    let world = answering(move |rogue, opening| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut draft = rogue::answer_to(&opening);
            match number {
                0 => return vec![rogue.seal(draft).await],
                2 => {
                    let mut frame = rogue.seal(draft).await;
                    frame.exchange = Bytes::from_static(&[0xee; 16]);
                    return vec![frame];
                }
                3..9 => {
                    IN_ONE[number - 3].1(&mut draft.facts);
                    let (header, exchange) =
                        (Header::new(draft.facts), Header::parse(opening.header).unwrap().exchange);
                    return vec![rogue.seal_bytes(exchange, header.as_bytes().clone(), draft.payload).await];
                }
                _ => {}
            }
            let (first, mut second, contents, mut commitments) = in_two(draft);
            let committed = commitments.commit(&contents, || unreachable!("a direction has one secret"));
            second.pieces = committed.pieces;
            second.end = Some(End::Trailers { commitment: committed.trailers.unwrap(), status: 0 });
            if number > 8 {
                IN_TWO[number - 9].1(&mut second);
            }
            vec![rogue.seal(first).await, rogue.seal(Draft { facts: second, payload: committed.payload }).await]
        }
    })
    .await;
    for (number, what) in cases.into_iter().enumerate() {
        let answer = call(&world).await;
        if number < 2 {
            assert_eq!((answer.refusal(), answer.status()), (None, 0), "{what}: {answer:?}");
            assert_eq!(answer.body, raw::message(&said("answer")), "{what}");
            continue;
        }
        assert_eq!(answer.refusal(), Some("PROVIDER_UNPROVEN"), "{what}");
        assert!(answer.body.is_empty(), "{what}");
        world.quiet().await;
        let log = world.log_of("portal", answer.field("causeway-exchange").unwrap());
        assert!(log.iter().any(|line| line.kind == "withheld"), "{what}: {log:?}");
        assert_eq!(log.last().unwrap().end.as_deref(), Some("silent"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_does_not_say_what_is_our_own_servers_to_say() {
    // Its own service, and its own grants, a provider may speak of; not of how the client called us.
    for (said, heard) in [("GRANT_MISSING", "GRANT_MISSING"), ("CLIENT_UNKNOWN", "OUTCOME_UNKNOWN")] {
        let world = answering(move |rogue, opening| async move {
            let mut draft = rogue::answer_to(&opening);
            draft.facts.end = Some(End::Refused(said.into()));
            (draft.facts.metadata, draft.facts.pieces, draft.payload) = (None, Vec::new(), None);
            vec![rogue.seal(draft).await]
        })
        .await;
        assert_eq!(call(&world).await.refusal(), Some(heard), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_answers_that_prove_nothing_sixteen_are_kept() {
    let world = answering(|_, opening| async move { vec![opening] }).await;
    let mut count = 0;
    for _ in 0..20 {
        let answer = call(&world).await;
        world.quiet().await;
        count += usize::from(kept(&world, &answer));
    }
    assert_eq!(count, 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_credential_of_a_client_never_leaves_its_door() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let world = answering(move |rogue, opening| {
        tell.send(opening.clone()).unwrap();
        async move { vec![rogue.answer(&opening).await] }
    })
    .await;
    let mut request = world.post("Unary");
    request.headers_mut().unwrap().append("authorization", "Bearer of-the-application".parse().unwrap());
    let answer = soon(async { world.raw().await.call(request, raw::message(&said(""))).await }).await;
    assert_eq!(answer.refusal(), None);
    let crossed = encode(&soon(told.recv()).await.unwrap());
    let holds = |text: &str| crossed.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("of-the-application"), "what is the application's passes");
    for ours in [TOKEN, "causeway-token", "causeway-service"] {
        assert!(!holds(ours), "{ours} crossed the border");
    }
}
