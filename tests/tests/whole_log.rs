//! A whole message log is verified offline: what honest servers wrote holds, whatever befell them, and of anything else the
//! place is named.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use journal::{Directory, Journal, Options, Segments, Tree, TreeIndex};
use prost::Message;
use proto::digest::Digest;
use proto::head::Head;
use proto::message::Header;
use proto::record::{Kind, Record};
use proto::seal;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::relay as wire;
use security_server::log_keys::LogKeys;
use security_server::whole_log::{Found, verify_log};
use tests::echo::said;
use tests::forged_log::{ForgedLog, Owner};
use tests::raw;
use tests::rogue::{Rogue, answer_to};
use tests::soon;
use tests::tsa::Tsa;
use tests::world::World;
use tonic::Request;

/// The log in this directory, under the keys of this member's server.
fn verified(world: &World, name: &str, directory: &Path) -> Found {
    let configuration = world.servers[name].server.store.current().load();
    let keys = LogKeys::of(&world.members[name].server, &configuration, []);
    verify_log(&Directory(directory.to_owned()), &keys, &configuration).unwrap()
}

fn log_of(world: &World, name: &str) -> PathBuf {
    world.directory.path().join(name).join("log")
}

fn faults(found: &Found) -> Vec<String> {
    found.faults.iter().map(|fault| format!("{}: {}", fault.place, fault.what)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_wrote_holds_while_they_run_and_after_restarts() {
    let mut world = World::new().await;
    world.log_options.segment_bytes = 4096;
    for name in ["portal", "moj"] {
        world.restart(name).await;
    }
    for round in 0..3 {
        for _ in 0..3 {
            world.client().await.unary(Request::new(said("x"))).await.unwrap();
        }
        // A stream, one that fails, one that is not granted, and one that runs until the server stops.
        let texts: Vec<_> = (0..5).map(|_| said("y")).collect();
        let mut answers = world.client().await.both(tokio_stream::iter(texts)).await.unwrap().into_inner();
        while answers.message().await.unwrap().is_some() {}
        let _ = world.client().await.fail(Request::new(said("z"))).await;
        let refused = world.post_with("Unary", "causeway-purpose", Some("another"));
        let refused = soon(async { world.raw().await.call(refused, raw::message(&said(""))).await }).await;
        assert_eq!(refused.refusal(), Some("GRANT_PURPOSE"));
        world.quiet().await;
        for name in ["portal", "moj"] {
            let found = verified(&world, name, &log_of(&world, name));
            assert_eq!(faults(&found), Vec::<String>::new(), "{name}");
            let expected = 6 * (round + 1);
            assert_eq!((found.closed, found.open), (expected, 0), "{name}");
            assert!(found.sent >= expected && found.received >= expected && found.journal.segments > 2, "{found:?}");
            assert_eq!((found.unknown_signatures, found.without_seal, found.begins_late), (0, 0, false));
        }
        world.set_time(world.now().plus(Duration::from_secs(1)));
        world.restart(["portal", "moj", "portal"][round as usize]).await;
    }
    // Its first segments are in the archive: what is here holds.
    let to = tempfile::tempdir().unwrap();
    journal::copy(&log_of(&world, "moj"), Segments::All, &mut |name, bytes| {
        std::fs::write(to.path().join(name), bytes)
    })
    .unwrap();
    std::fs::remove_file(to.path().join("0000000001.segment")).unwrap();
    let found = verified(&world, "moj", to.path());
    assert_eq!((faults(&found), found.begins_late), (Vec::new(), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_log_is_another_unnoticed() {
    let mut world = World::new().await;
    for _ in 0..4 {
        world.client().await.unary(Request::new(said("x"))).await.unwrap();
    }
    world.quiet().await;
    for _ in 0..2 {
        world.restart("moj").await;
    }
    let files = tempfile::tempdir().unwrap();
    journal::copy(&log_of(&world, "moj"), Segments::All, &mut |name, bytes| {
        std::fs::write(files.path().join(name), bytes)
    })
    .unwrap();
    assert_eq!(faults(&verified(&world, "moj", files.path())), Vec::<String>::new());
    let mut names: Vec<_> = std::fs::read_dir(files.path()).unwrap().map(|file| file.unwrap().path()).collect();
    names.sort();
    let last = names.pop().unwrap();
    assert!(names.len() >= 2 && last.to_string_lossy().ends_with("0000000003.segment"), "{names:?}");
    for file in names {
        let whole = std::fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(61) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&file, changed).unwrap();
            let found = verified(&world, "moj", files.path());
            let fault = found.faults.first().unwrap_or_else(|| panic!("byte {at} of {}", file.display()));
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(fault.place.contains(name), "byte {at}: {fault:?}");
            let offset: usize = fault.place.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(offset <= at, "byte {at}: {fault:?}");
        }
        std::fs::write(&file, &whole).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert!(!verified(&world, "moj", files.path()).faults.is_empty(), "cut");
        std::fs::write(&file, &whole).unwrap();
    }
    std::fs::remove_file(files.path().join("0000000002.segment")).unwrap();
    assert!(verified(&world, "moj", files.path()).faults[0].what.contains("missing"));
}

/// A log of the portal's that somebody with its key wrote: every hash and signature of its own is right.
struct Written {
    journal: Journal,
    directory: tempfile::TempDir,
    /// The head that each record made.
    heads: Mutex<Vec<Head>>,
}

impl Written {
    fn new(world: &World) -> Self {
        let (directory, member) = (tempfile::tempdir().unwrap(), &world.members["portal"]);
        let owner = journal::Owner {
            instance: world.instance.instance.clone(),
            member: member.subsystem.member().to_string(),
            server: member.server.to_string(),
        };
        let key: Arc<SigningKey> = Arc::clone(&member.signing);
        let disk = Arc::new(Directory(directory.path().to_owned()));
        let options = Options { first: true, ..Options::default() };
        let journal = Journal::open(disk, vec![Tree { owner, key }], options, None, &mut |_| {}).unwrap();
        Self { journal, directory, heads: Mutex::default() }
    }

    async fn put(&self, kind: Kind, body: &[&[u8]], beside: Bytes) {
        let record = Record::new(kind, &[7; 16], body);
        let committed = self.journal.append(TreeIndex(0), record, beside, kind == Kind::Sent).await.unwrap();
        self.heads.lock().unwrap().push(committed.head());
    }

    /// A timestamp over this head, as an authority gives one for these bytes.
    async fn stamped(&self, tsa: &Tsa, head: &Head, over: &[u8], now: Time) {
        let token = tsa.token(over, now);
        let stamp = wire::Stamp { head: head.to_text().into(), token: token.into() };
        self.put(Kind::Stamp, &[&stamp.encode_to_vec()], Bytes::new()).await;
    }

    async fn sent(&self, header: &[u8]) {
        self.put(Kind::Sent, &[header], Bytes::new()).await;
    }

    async fn received(&self, frame: &wire::Frame) {
        let seal = frame.seal.clone().unwrap();
        let beside = wire::Beside { seal: Some(seal.clone()), genesis: frame.genesis.clone(), ..Default::default() };
        let digest = seal::digest(&seal);
        self.put(Kind::Received, &[digest.as_bytes(), &frame.header], beside.encode_to_vec().into()).await;
    }

    async fn closed(&self, opening: &Header) {
        let closed = wire::Closed {
            exchange: opening.exchange.as_bytes().to_vec().into(),
            attempt: 1,
            outcome: wire::Outcome::Completed as i32,
            side: wire::Side::Consumer as i32,
            opening: opening.digest().to_wire(),
        };
        self.put(Kind::Closed, &[&closed.encode_to_vec()], Bytes::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_timestamp_of_a_log_is_checked_and_held_against_its_trees() {
    let mut world = World::new().await;
    let (tsa, other) = (Tsa::serve(&world, "tsa").await, Tsa::serve(&world, "other").await);
    world.approve(vec![tsa.approved()]);
    let head_of = |log: &Written| log.heads.lock().unwrap().last().copied().unwrap();
    for case in 0..6 {
        let log = Written::new(&world);
        log.sent(Header::new(Rogue::of(&world, "portal").opening(&world).facts).as_bytes()).await;
        let head = head_of(&log);
        let (text, now) = (head.to_text(), world.now());
        let longer = Head { size: 40, ..head };
        let rewritten = Head { root: Digest::ZERO, ..head };
        let (expected, checked) = match case {
            0 => {
                log.stamped(&tsa, &head, text.as_bytes(), now).await;
                (None, (1, 0))
            }
            1 => {
                log.stamped(&other, &head, text.as_bytes(), now).await;
                (None, (0, 1))
            }
            2 => {
                log.stamped(&tsa, &head, b"another head", now).await;
                (Some("over other bytes"), (0, 0))
            }
            3 => {
                log.stamped(&tsa, &longer, longer.to_text().as_bytes(), now).await;
                (Some("over no head of this log"), (0, 0))
            }
            4 => {
                log.stamped(&tsa, &rewritten, rewritten.to_text().as_bytes(), now).await;
                (Some("over no head of this log"), (0, 0))
            }
            _ => {
                log.put(Kind::Stamp, &[b"no stamp"], Bytes::new()).await;
                (Some("a timestamp: "), (0, 0))
            }
        };
        let Written { journal, directory, .. } = log;
        journal.close();
        let found = verified(&world, "portal", directory.path());
        let told = faults(&found);
        match expected {
            None => assert_eq!(told, Vec::<String>::new(), "{case}"),
            Some(what) => assert!(told.len() == 1 && told[0].contains(what), "{case}: {told:?}"),
        }
        assert_eq!((found.timestamps, found.unknown_timestamps), checked, "{case}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_does_not_stand_where_it_must_is_named_by_its_place() {
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let of_moj = || Owner::of(&world, "moj").log();
    let opening = |rogue: &Rogue| Header::new(rogue.opening(&world).facts);
    let answered = |opening: &Header, log: &mut ForgedLog| {
        let frame = wire::Frame { header: opening.as_bytes().clone(), ..Default::default() };
        log.frame(answer_to(&frame))
    };
    let signed_wrong = |mut frame: wire::Frame| {
        let seal = frame.seal.as_mut().unwrap();
        let mut signature = seal.signature.to_vec();
        *signature.last_mut().unwrap() ^= 1;
        seal.signature = signature.into();
        frame
    };
    for case in 0..10 {
        let (log, mut moj) = (Written::new(&world), of_moj());
        let first = opening(&rogue);
        log.sent(first.as_bytes()).await;
        let answer = answered(&first, &mut moj);
        let expected = match case {
            0 => {
                log.received(&answer).await;
                log.closed(&first).await;
                None
            }
            1 => {
                log.sent(first.as_bytes()).await;
                Some("a second time")
            }
            2 => {
                log.received(&answered(&opening(&rogue), &mut moj)).await;
                Some("no message before it")
            }
            3 => {
                log.received(&answer).await;
                log.received(&answer).await;
                Some("does not follow")
            }
            4 => {
                log.closed(&opening(&rogue)).await;
                Some("not open here")
            }
            5 => {
                log.sent(&answer.header).await;
                Some("whose log this is not")
            }
            6 => {
                log.received(&signed_wrong(answer)).await;
                Some("signature of the peer's head does not hold")
            }
            7 => {
                let other = wire::Frame { seal: answered(&opening(&rogue), &mut moj).seal, ..answer };
                log.received(&other).await;
                Some("the peer's seal")
            }
            8 => {
                log.put(Kind::Received, &[&[1; 32], &answer.header], {
                    let beside = wire::Beside { seal: answer.seal, genesis: answer.genesis, ..Default::default() };
                    beside.encode_to_vec().into()
                })
                .await;
                Some("not the one that its record names")
            }
            _ => {
                log.sent(b"no header").await;
                Some("its header")
            }
        };
        let Written { journal, directory, .. } = log;
        let end = journal.durable_end();
        journal.close();
        let found = verified(&world, "portal", directory.path());
        match expected {
            None => assert_eq!((faults(&found), found.open), (Vec::new(), 0)),
            Some(what) => {
                let told = faults(&found);
                assert!(told.len() == 1 && told[0].contains(what), "{case}: {told:?}");
                let place: Vec<u64> = found.faults[0].place.split(':').map(|part| part.parse().unwrap()).collect();
                assert!(place[0] == end.segment && place[1] < end.offset && place[2] == 0, "{case}: {told:?}");
            }
        }
    }
}
