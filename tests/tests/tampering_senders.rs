//! Who says it, when, and out of which log: a member in another's name, a request for the second time, a log with two
//! pasts. What is not the sender's own to say reaches nobody, and what a log cannot be is an alarm with both heads kept.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::global_configuration::document::SubsystemDocument;
use proto::head::Head;
use proto::message::{Facts, Header};
use proto::record::Kind;
use proto::transport::{FETCH_PATH, MAX_SKEW, encode};
use proto::wire::relay as wire;
use security_server::access_rights::Proposal;
use tests::attack::{self, AtConsumer, AtProvider, end_of, told};
use tests::echo::{Heard, said};
use tests::forged_log::{ForgedLog, Owner, filler, sent};
use tests::matrix::{Came, Family};
use tests::raw;
use tests::rogue::{self, Draft, Rogue, Speech, answer_to, beginning};
use tests::soon;
use tests::world::{Member, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is recorded of a request that is answered.
const ANSWERED: [&str; 2] = ["received request 0 half-close", "closed completed"];
/// What is recorded of an answer that is taken, and of one that is not.
const TAKEN: [&str; 2] = ["received answer 0 status 0", "closed completed"];
const WITHHELD: [&str; 1] = ["closed silent"];

// ---- in another's name

/// Lets this subsystem call what the portal may call, so that a refusal is not for want of a grant.
async fn granted(world: &World, at: &str, consumer: &str) {
    let methods = ["Unary", "Both"];
    let proposal = Proposal { consumer: consumer.parse().unwrap(), ..world.proposal(&methods) };
    world.servers[at].server.access_rights.dangerously_grant(proposal, world.now()).await.unwrap();
}

/// The same opening with other facts.
fn with(draft: Draft, change: impl FnOnce(&mut Facts)) -> Draft {
    let mut draft = draft;
    change(&mut draft.facts);
    draft
}

/// Keys of one, in the name of another.
fn in_the_name_of(owner: &Owner, member: &str, server: &str) -> Owner {
    let content = wire::Genesis { member: member.into(), server: server.into(), ..owner.content.clone() };
    Owner { content, ..owner.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_member_asks_in_the_name_of_another() {
    let mut family = Family::of("no_member_asks_in_the_name_of_another", "another member with all its keys");
    let mut world = attack::world().await;
    world.enroll("tax", "ledger").await;
    let hosted = |subsystem: &str, server: &str| SubsystemDocument {
        subsystem: subsystem.parse().unwrap(),
        servers: vec![server.parse().unwrap()],
    };
    world.publish(
        |members| {
            // Each hosts something of another.
            let mut host = |name, subsystem, server| {
                members.get_mut(name).unwrap().document.subsystems.push(hosted(subsystem, server));
            };
            host("tax", "VN/GOV/tax/elsewhere", "VN/GOV/portal/ss1");
            host("portal", "VN/GOV/portal/visiting", "VN/GOV/tax/ss1");
            host("moj", "VN/GOV/moj/outpost", "VN/GOV/tax/ss1");
        },
        Vec::new(),
    );
    for consumer in ["VN/GOV/tax/ledger", "VN/GOV/tax/elsewhere", "VN/GOV/portal/visiting", "VN/GOV/portal/ghost"] {
        granted(&world, "moj", consumer).await;
    }
    let (portal, tax) = (Owner::of(&world, "portal"), Owner::of(&world, "tax"));
    let mut on_taxes = Rogue::of(&world, "tax").connect(&world, "moj").await;
    let mut at = AtProvider::of(world).await;
    let mut on_portals = at.client.clone();
    let by_tax = |draft: Draft| {
        with(draft, |facts| {
            facts.route.consumer = "VN/GOV/tax/ledger".parse().unwrap();
            facts.route.consumer_server = "VN/GOV/tax/ss1".parse().unwrap();
        })
    };
    let opening = |at: &AtProvider| at.rogue.opening(&at.world);

    let frames = [
        ("the portal's own message, on its own connection", portal.frame(opening(&at))),
        ("the portal's message, in its own log", tax.frame(opening(&at))),
        (
            "the portal's message, in a log that calls itself the portal's",
            in_the_name_of(&tax, "VN/GOV/portal", "VN/GOV/portal/ss1").frame(opening(&at)),
        ),
        (
            "the portal's subsystem, at its own server",
            tax.frame(with(opening(&at), |facts| {
                facts.route.consumer_server = "VN/GOV/tax/ss1".parse().unwrap();
            })),
        ),
        (
            "its own subsystem, at the portal's server",
            tax.frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer_server = "VN/GOV/portal/ss1".parse().unwrap();
            })),
        ),
        (
            "its own subsystem, which the portal's server hosts",
            tax.frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer = "VN/GOV/tax/elsewhere".parse().unwrap();
            })),
        ),
        (
            "its own subsystem, which nobody registered",
            tax.frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer = "VN/GOV/tax/ghost".parse().unwrap();
            })),
        ),
        (
            "the portal's subsystem, which it hosts, with its own key",
            in_the_name_of(&tax, "VN/GOV/portal", "VN/GOV/tax/ss1").frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer = "VN/GOV/portal/visiting".parse().unwrap();
            })),
        ),
        (
            "the portal's subsystem, which it hosts, with its own log",
            tax.frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer = "VN/GOV/portal/visiting".parse().unwrap();
            })),
        ),
        (
            "the portal's subsystem, which it hosts, with the portal's key of another server",
            in_the_name_of(&portal, "VN/GOV/portal", "VN/GOV/tax/ss1").frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer = "VN/GOV/portal/visiting".parse().unwrap();
            })),
        ),
        (
            "another of its servers, which is not registered",
            in_the_name_of(&tax, "VN/GOV/tax", "VN/GOV/tax/ss2").frame(with(by_tax(opening(&at)), |facts| {
                facts.route.consumer_server = "VN/GOV/tax/ss2".parse().unwrap();
            })),
        ),
        (
            "itself, to a subsystem of the provider that another server hosts",
            tax.frame(with(by_tax(opening(&at)), |facts| {
                facts.route.provider = "VN/GOV/moj/outpost".parse().unwrap();
            })),
        ),
        (
            "itself, to another member",
            tax.frame(with(by_tax(opening(&at)), |facts| {
                facts.route.provider = "VN/GOV/portal/one-stop".parse().unwrap();
                facts.route.provider_server = "VN/GOV/portal/ss1".parse().unwrap();
            })),
        ),
    ];
    for (what, frame) in frames {
        family.refused(what, "UNPROVEN", &[], at.came_by(&mut on_taxes, encode(&frame)).await);
    }
    let frame = tax.frame(by_tax(opening(&at)));
    family.refused(
        "its own message, on the portal's connection",
        "UNPROVEN",
        &[],
        at.came_by(&mut on_portals, encode(&frame)).await,
    );
    family.passes("itself", "status 0", &ANSWERED, at.came_by(&mut on_taxes, encode(&frame)).await);

    // Who asks is the bus's word: the service hears it from nobody else.
    let facts = opening(&at).facts;
    let mut contents = beginning(&["rogue"]);
    for (name, value) in [("causeway-consumer", "VN/GOV/tax/ledger"), ("causeway-purpose", "another")] {
        contents.metadata.as_mut().unwrap().push((name.into(), Bytes::from_static(value.as_bytes())));
    }
    let facts = Facts { metadata: None, pieces: Vec::new(), end: None, ..facts };
    let frame = portal.frame(Speech::of(facts).says(contents, Some(proto::message::End::HalfClose)));
    let answer = soon(on_portals.call(rogue::exchange(), encode(&frame))).await;
    let heard = at.world.heard.try_recv();
    let (consumer, purpose) = ("VN/GOV/portal/one-stop".to_owned(), tests::world::PURPOSE.to_owned());
    let judged = match heard {
        Ok(Heard::Call(_, fields))
            if fields.contains(&("causeway-consumer".into(), consumer))
                && fields.contains(&("causeway-purpose".into(), purpose))
                && fields.iter().filter(|(name, _)| name == "causeway-consumer").count() == 1 =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}, {}", end_of(&answer))),
    };
    family.judged_to_pass("itself, with another consumer in its metadata", judged);
    at.world.quiet().await;

    // What was sealed for one party is not given to another.
    let exchange = Header::parse(frame.header.clone()).unwrap().exchange;
    let asked = wire::FetchRequest { exchange: Bytes::copy_from_slice(exchange.as_bytes()) };
    let fetch = || rogue::exchange().uri(format!("https://peer{FETCH_PATH}"));
    let asked = raw::message(&asked);
    let answer = soon(on_taxes.call(fetch(), asked.clone())).await;
    let came =
        Came { end: format!("status {}", answer.status()), recorded: vec![], reached: attack::messages(&answer.body) };
    family.refused("the answer to the portal, fetched", "status 0", &[], came);
    let answer = soon(on_portals.call(fetch(), asked)).await;
    let frames = rogue::frames(&answer).len();
    let judged = if frames > 0 { Ok(()) } else { Err("no frame".to_owned()) };
    family.judged_to_pass("the answer, fetched by whom it is for", judged);
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_member_answers_in_the_name_of_another() {
    let mut family = Family::of("no_member_answers_in_the_name_of_another", "another member with all its keys");
    let mut at = AtConsumer::new().await;
    at.world.enroll("tax", "ledger").await;
    let (moj, tax, portal) = (at.owner.clone(), Owner::of(&at.world, "tax"), Owner::of(&at.world, "portal"));
    let calling_itself = in_the_name_of(&tax, "VN/GOV/moj", "VN/GOV/moj/ss1");
    let moj_at_tax = in_the_name_of(&moj, "VN/GOV/moj", "VN/GOV/tax/ss1");
    for (what, owner, end) in [
        ("in its own log", tax.clone(), "PROVIDER_UNPROVEN"),
        ("in a log that calls itself the provider's", calling_itself, "ACCESS_ENDED"),
        ("in the consumer's own log", portal, "PROVIDER_UNPROVEN"),
        ("with the provider's key, at another server", moj_at_tax, "PROVIDER_UNPROVEN"),
    ] {
        let came = at.came(move |opening| vec![encode(&owner.frame(answer_to(&opening)))]).await;
        family.refused(what, end, &WITHHELD, came);
    }
    let owner = tax.clone();
    let came = at.came(move |opening| {
        let draft = with(answer_to(&opening), |facts| {
            facts.route.provider = "VN/GOV/tax/ledger".parse().unwrap();
            facts.route.provider_server = "VN/GOV/tax/ss1".parse().unwrap();
        });
        vec![encode(&owner.frame(draft))]
    });
    family.refused("as itself", "PROVIDER_UNPROVEN", &WITHHELD, came.await);
    let came = at.came(move |opening| vec![encode(&moj.frame(answer_to(&opening)))]).await;
    family.passes("the provider itself", "status 0", &TAKEN, came);
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_takes_the_place_of_another() {
    let mut family = Family::of("no_server_takes_the_place_of_another", "another member with all its keys");
    let mut world = attack::world().await;
    world.enroll("tax", "ledger").await;
    let mut client = world.raw().await;
    for (what, end, closed) in [
        ("the provider's server", "status 0", "closed completed"),
        ("at its address, with its own certificate", "PROVIDER_UNREACHABLE", "closed not_sent"),
    ] {
        let known = world.records("portal");
        let answer = soon(client.call(world.post("Unary"), raw::message(&said("asked")))).await;
        world.quiet().await;
        let recorded = world.recorded("portal", known).into_iter().filter(|line| line.starts_with("closed")).collect();
        let came = Came { end: told(&answer), recorded, reached: attack::messages(&answer.body) };
        match end {
            "status 0" => family.passes(what, end, &[closed], came),
            _ => family.refused(what, end, &[closed], came),
        }
        // For the second call: somebody else answers where the configuration says that the provider's server is.
        if let Some(started) = world.servers.remove("moj") {
            let address = started.peers;
            started.shutdown().await;
            let listener = TcpListener::bind(address).await.unwrap();
            let owner = Owner::of(&world, "moj");
            let answer = move |request| {
                let owner = owner.clone();
                async move { rogue::streamed(vec![owner.frame(answer_to(&rogue::first_frame(request).await))]) }
            };
            Rogue::of(&world, "tax").serve(&world, listener, answer).await;
        }
    }
    family.holds();
}

/// A member may have two keys at a server while one follows the other. What a key signs is not older than its certificate:
/// whoever verifies the evidence asks whether it was good at the time that the message bears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_not_older_than_the_key_that_seals_it() {
    let (ten, one) = (Duration::from_secs(600), Duration::from_secs(60));
    for (dated, end) in [(ten, "status 0"), (one, "abort disproved")] {
        let mut at = AtProvider::new().await;
        let began = at.world.now();
        let mut drafts = at.rogue.stream(&at.world, &["one", "two"]);
        let (second, first) = (drafts.pop().unwrap(), drafts.pop().unwrap());
        let mut log = at.owner.log();
        let (mut sender, response) = at.client.open(rogue::exchange());
        sender.send_data(encode(&log.frame(first))).await.unwrap();
        let response = soon(response).await.unwrap();
        soon(at.world.heard.recv()).await.unwrap();
        // Ten minutes later it has another key, whose certificate is five minutes old.
        at.world.set_time(began.plus(ten));
        let successor = Member::certified(&at.world, &at.world.members["portal"], "127.0.0.1:1".parse().unwrap());
        let listed = successor.document.signing.clone();
        at.world.publish(|members| members.get_mut("portal").unwrap().document.signing.extend(listed), Vec::new());
        log.key = Arc::clone(&successor.signing);
        let second = log.frame(with(second, |facts| facts.time = began.plus(dated)));
        sender.send_data(encode(&second)).await.unwrap();
        drop(sender);
        let answer = soon(raw::Answer::read(response)).await;
        assert_eq!(end_of(&answer), end, "dated {dated:?} after the beginning");
        at.world.quiet().await;
        let exchange = Header::parse(second.header).unwrap().exchange;
        attack::evidence(&at.world, "moj", exchange).unwrap();
    }
}

/// Nor is it older than its exchange, by more than clocks may differ: its evidence would be judged at a time when nobody had
/// asked anything. The key is old enough here to have signed it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_not_older_than_the_exchange_that_it_is_of() {
    for (early, end, messages) in [
        (MAX_SKEW, "status 0", ["received request 0", "received request 1 half-close", "closed completed"].as_slice()),
        (MAX_SKEW + Duration::from_millis(1), "abort disproved", &["received request 0", "closed silent"]),
    ] {
        let mut at = AtProvider::new().await;
        let opened = at.world.now().plus(Duration::from_secs(600));
        at.world.set_time(opened);
        let mut drafts = at.rogue.stream(&at.world, &["one", "two"]);
        let exchange = drafts[0].facts.exchange;
        drafts[1].facts.time = opened.minus(early);
        let came = at.came_of(&at.owner.frames(drafts)).await;
        assert_eq!(came.end, end, "dated {early:?} before the exchange began");
        assert_eq!(came.recorded, messages, "dated {early:?} before the exchange began");
        attack::evidence(&at.world, "moj", exchange).unwrap();
    }
}

// ---- again

/// What comes of a frame at this server, on this connection.
async fn came(world: &mut World, to: &str, client: &mut raw::Client, frame: &wire::Frame) -> Came {
    let known = world.records(to);
    let answer = soon(client.call(rogue::exchange(), encode(frame))).await;
    world.quiet().await;
    let recorded = world.recorded(to, known).into_iter().filter(|line| !line.starts_with("sent ")).collect();
    let reached = std::iter::from_fn(|| world.heard.try_recv().ok()).count();
    Came { end: end_of(&answer), recorded, reached }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_taken_twice() {
    let mut family =
        Family::of("no_request_is_taken_twice", "whoever has a request that was good, and every connection");
    let mut world = World::new().await;
    world.enroll("tax", "ledger").await;
    world.second_server("moj", "moj2").await;
    granted(&world, "moj2", "VN/GOV/portal/one-stop").await;
    let (rogue, owner) = (Rogue::of(&world, "portal"), Owner::of(&world, "portal"));
    let began = world.now();
    let draft = rogue.opening(&world);
    let original = owner.frame(draft.clone());
    let mut to_moj = rogue.connect(&world, "moj").await;
    family.passes("for the first time", "status 0", &ANSWERED, came(&mut world, "moj", &mut to_moj, &original).await);

    // The same bytes, or the same exchange and attempt in other bytes.
    let mut attempt = wire::Header::decode(original.header.clone()).unwrap();
    attempt.attempt = 2;
    let renumbered = wire::Frame { header: attempt.encode_to_vec().into(), ..original.clone() };
    let mut renamed = original.clone();
    renamed.exchange = rogue.opening(&world).facts.exchange.as_bytes().to_vec().into();
    let facts = Facts { metadata: None, pieces: Vec::new(), end: None, ..draft.facts.clone() };
    let others = Speech::of(facts).says(beginning(&["something else"]), Some(proto::message::End::HalfClose));
    for (what, frame, end) in [
        ("at once, on the same connection", original.clone(), "REPLAYED"),
        ("under a new head of its log", owner.frame(draft.clone()), "REPLAYED"),
        ("the exchange and attempt with other contents", owner.frame(others), "REPLAYED"),
        ("under another attempt, the same otherwise", renumbered, "UNPROVEN"),
        ("under another exchange, the same otherwise", renamed, "UNPROVEN"),
    ] {
        family.refused(what, end, &[], came(&mut world, "moj", &mut to_moj, &frame).await);
    }
    let mut again = rogue.connect(&world, "moj").await;
    family.refused("on another connection", "REPLAYED", &[], came(&mut world, "moj", &mut again, &original).await);

    // Elsewhere: a request names the one server that may take it.
    let moj = Rogue::of(&world, "moj");
    for (what, who, to) in [
        ("to another server of its provider", &rogue, "moj2"),
        ("to another provider", &rogue, "tax"),
        ("by its provider, to another server of its own", &moj, "moj2"),
        ("by its provider, to another provider", &moj, "tax"),
        ("by its provider, back to who asked", &moj, "portal"),
    ] {
        let mut client = who.connect(&world, to).await;
        family.refused(what, "UNPROVEN", &[], came(&mut world, to, &mut client, &original).await);
    }

    // While the first still runs.
    let mut running = rogue.stream(&world, &["one", "two"]);
    let running = owner.frame(running.swap_remove(0));
    let (mut sender, response) = to_moj.open(rogue::exchange());
    sender.send_data(encode(&running)).await.unwrap();
    let response = soon(response).await.unwrap();
    soon(world.heard.recv()).await.unwrap();
    let known = world.records("moj");
    let answer = soon(again.call(rogue::exchange(), encode(&running))).await;
    let received = world.recorded("moj", known).iter().filter(|line| line.starts_with("received")).count();
    let reached = std::iter::from_fn(|| world.heard.try_recv().ok()).count();
    let judged = Came { end: end_of(&answer), recorded: vec![], reached: reached + received };
    family.refused("while it runs", "REPLAYED", &[], judged);
    drop(sender);
    let _ = soon(raw::Answer::read(response)).await;
    world.quiet().await;

    // What was refused was answered, too.
    let refused = owner.frame(with(rogue.opening(&world), |facts| {
        facts.opening.as_mut().unwrap().purpose = "later".into();
    }));
    family.refused(
        "for a purpose that is not granted",
        "refused GRANT_PURPOSE",
        &ANSWERED,
        came(&mut world, "moj", &mut to_moj, &refused).await,
    );
    world.grant_as(Proposal { purposes: ["later".to_owned()].into(), ..world.proposal(&["Unary"]) }).await;
    family.refused(
        "the same, when it is granted",
        "REPLAYED",
        &[],
        came(&mut world, "moj", &mut to_moj, &refused).await,
    );

    // Later.
    world.publish(|_| {}, Vec::new());
    family.refused(
        "under another configuration",
        "REPLAYED",
        &[],
        came(&mut world, "moj", &mut to_moj, &original).await,
    );
    world.restart("moj").await;
    let mut client = rogue.connect(&world, "moj").await;
    family.refused("after a restart", "REPLAYED", &[], came(&mut world, "moj", &mut client, &original).await);
    let started = world.servers.remove("moj").unwrap();
    let address = started.peers;
    started.shutdown().await;
    std::fs::remove_dir_all(world.directory.path().join("moj/index")).unwrap();
    world.start("moj", TcpListener::bind(address).await.unwrap(), false).await;
    let mut client = rogue.connect(&world, "moj").await;
    let what = "after a restart with its index lost";
    family.refused(what, "REPLAYED", &[], came(&mut world, "moj", &mut client, &original).await);
    world.set_time(began.plus(Duration::from_secs(3600)));
    family.refused("an hour later", "NOT_FRESH", &[], came(&mut world, "moj", &mut client, &original).await);
    world.set_time(began);
    family.refused(
        "when the clock was set back",
        "REPLAYED",
        &[],
        came(&mut world, "moj", &mut client, &original).await,
    );
    world.restart("moj").await;
    let mut client = rogue.connect(&world, "moj").await;
    let what = "when the clock was set back and the server restarted";
    family.refused(what, "REPLAYED", &[], came(&mut world, "moj", &mut client, &original).await);

    let next = owner.frame(with(draft, |facts| facts.attempt = 2));
    family.passes("another attempt", "status 0", &ANSWERED, came(&mut world, "moj", &mut client, &next).await);
    family.holds();
}

// ---- out of a log with two pasts

/// How often this process has cried that a peer's log forked. Every server in it counts in the same place.
async fn alarms(operators: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(operators).await.unwrap();
    let asked = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("causeway_conflicting_heads_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Whether this member's log holds two signed heads of one tree and one size with different roots.
fn keeps_both_heads(world: &World, name: &str, tree: &ForgedLog) -> bool {
    let mut heads = Vec::new();
    journal::read(&*world.members[name].log, None, &mut |entry| {
        if entry.record.kind() == Kind::Received
            && let Some(seal) = wire::Beside::decode(entry.beside).unwrap().seal
            && tree.key.public().verify(&seal.head, &seal.signature).is_ok()
        {
            heads.push(Head::parse(&seal.head).unwrap());
        }
    })
    .unwrap();
    let of_tree = heads.iter().filter(|head| head.tree == tree.head(1).tree);
    of_tree.clone().any(|one| of_tree.clone().any(|other| one.size == other.size && one.root != other.root))
}

/// What a log says first and then, and how many alarms that is.
type Story = (&'static str, u64, Vec<wire::Frame>, ForgedLog);

fn stories(at: &AtProvider) -> Vec<Story> {
    let opening = || at.rogue.opening(&at.world);
    let log = || at.owner.log();
    let mut stories = Vec::new();

    let mut one = log();
    let mut other = one.clone();
    let frames = vec![one.frame(opening()), other.frame(opening())];
    stories.push(("forked: the same size with another root", 1, frames, one));

    let mut one = log();
    let first = one.frame(opening());
    let mut other = one.clone();
    other.rewrite(2);
    let frames = vec![first, one.frame(opening()), other.frame(opening())];
    stories.push(("rewritten behind what we saw, to a size that we saw", 1, frames, one));

    let mut one = log();
    let cut = one.clone();
    let mut frames: Vec<wire::Frame> = (0..4).map(|_| one.frame(opening())).collect();
    let mut grown = cut;
    frames.push(grown.frame(opening()));
    stories.push(("cut, and grown again to a size that we saw", 1, frames, one));

    // Heads of a log that has one past: they come in any order, and are signed as often as one likes.
    let mut one = log();
    let drafts = [opening(), opening(), opening()];
    for draft in &drafts {
        one.commit(vec![sent(Header::new(draft.facts.clone()).as_bytes())]);
    }
    let places = drafts.into_iter().zip([(2, 5), (3, 4), (4, 5)]);
    let frames = places.map(|(draft, (commit, size))| one.framed(draft, commit, 0, size)).collect();
    stories.push(("one past, and its heads signed again", 0, frames, one));

    // What no head that we remember contradicts is not noticed yet: nobody asks for a proof of consistency.
    let mut one = log();
    let first = one.frame(opening());
    let mut other = one.clone();
    other.rewrite(2);
    other.commit(vec![filler()]);
    let frames = vec![first, other.frame(opening())];
    stories.push(("rewritten, to a size that we never saw", 0, frames, one));

    let ministry = Owner::of(&at.world, "moj").log();
    let claims = at.owner.log_that_begins(|genesis| {
        genesis.why = wire::Why::Start as i32;
        genesis.before = ministry.head(1).tree.0.to_wire();
        genesis.before_size = 1;
        genesis.before_root = ministry.head(1).root.to_wire();
    });
    let mut one = claims.clone();
    stories.push(("a genesis that claims another tree's past", 0, vec![one.frame(opening())], claims));
    stories
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_two_pasts_is_an_alarm_and_both_heads_are_kept() {
    let mut family =
        Family::of("a_log_with_two_pasts_is_an_alarm_and_both_heads_are_kept", "a member that rewrites its own log");
    let mut at = AtProvider::new().await;
    let operators = at.world.servers["moj"].operators;
    for (what, expected, frames, log) in stories(&at) {
        let before = alarms(operators).await;
        let count = frames.len();
        let mut exchanges = Vec::new();
        for frame in frames {
            exchanges.push(Header::parse(frame.header.clone()).unwrap().exchange);
            // A peer does not cut off a ministry on its own: each message stands in a log that its sender signed.
            family.passes(what, "status 0", &ANSWERED, at.came_of(&[frame]).await);
        }
        let alarms = alarms(operators).await - before;
        let both = keeps_both_heads(&at.world, "moj", &log);
        let proven = exchanges.iter().filter(|exchange| attack::evidence(&at.world, "moj", **exchange).is_ok()).count();
        let judged = if alarms == expected && both == (expected > 0) && proven == count {
            Ok(())
        } else {
            Err(format!("{alarms} alarms, both heads kept: {both}, evidence of {proven} of {count}"))
        };
        family.judged(what, judged);
    }
    // A fork that somebody else signs is none.
    let mut log = at.owner.log();
    let mut forged = log.clone();
    forged.key = Owner::of(&at.world, "moj").key;
    let frames = [log.frame(at.rogue.opening(&at.world)), forged.frame(at.rogue.opening(&at.world))];
    family.passes("the log itself", "status 0", &ANSWERED, at.came_of(&frames[..1]).await);
    let before = alarms(operators).await;
    family.refused("a fork that another member signs", "UNPROVEN", &[], at.came_of(&frames[1..]).await);
    assert_eq!(alarms(operators).await, before, "it is nothing against the log's owner");

    // The same, seen by the consumer.
    let mut at = AtConsumer::new().await;
    let operators = at.world.servers["portal"].operators;
    let before = alarms(operators).await;
    let log = at.owner.log();
    for _ in 0..2 {
        let log = Arc::new(Mutex::new(log.clone()));
        let came = at.came(move |opening| vec![encode(&log.lock().unwrap().frame(answer_to(&opening)))]).await;
        family.passes("an answer of a forked log", "status 0", &TAKEN, came);
    }
    let alarms = alarms(operators).await - before;
    let both = keeps_both_heads(&at.world, "portal", &log);
    let judged = if alarms == 1 && both { Ok(()) } else { Err(format!("{alarms} alarms, both heads kept: {both}")) };
    family.judged("forked: two answers under one size", judged);
    family.holds();
}
