//! Peers ask each other whether their logs still contain what they signed. An honest log does, across every restart; one that
//! was rewritten or cut is named, and the proof of it needs nobody's word but its own.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use proto::consistency::{MAX_GENESES, MAX_PROOF, Verdict};
use proto::contradiction;
use proto::digest::Digest;
use proto::head::Head;
use proto::refusal::Code;
use proto::transport::{CONSISTENCY_PATH, MAX_JOINED_BYTES, encode_alone};
use proto::wire::relay as wire;
use security_server::asking::Told;
use security_server::audit::{Alarm, Finding, proved_alarms};
use tests::echo::said;
use tests::forged_log::{ForgedLog, Owner};
use tests::raw::Answer;
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::world::World;
use tonic::Request;

async fn call(world: &World) -> String {
    let answer = world.client().await.unary(Request::new(said("x"))).await.unwrap();
    answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned()
}

async fn ask(world: &World, name: &str) -> Vec<Told> {
    soon(world.servers[name].server.ask_the_peers()).await
}

/// The alarms that this server has noted, when there are so many.
async fn alarms(world: &World, name: &str, count: u64) -> Vec<Alarm> {
    let audit = &world.servers[name].server.audit;
    soon(async {
        while audit.alarms().1 < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(audit.alarms().1, count, "{:?}", audit.alarms());
    audit.alarms().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_log_contains_all_that_it_signed_across_restarts() {
    let mut world = World::new().await;
    for restarted in [None, Some("portal"), Some("moj"), Some("portal"), Some("portal")] {
        if let Some(restarted) = restarted {
            world.restart(restarted).await;
            // Nothing was said since: what is asked about is in a tree that has ended.
            for name in ["portal", "moj"] {
                let told = ask(&world, name).await;
                assert!(told.iter().all(|told| matches!(told.answer, Ok(Verdict::Contained))), "{told:?}");
            }
        }
        for _ in 0..3 {
            call(&world).await;
        }
        world.quiet().await;
        for name in ["portal", "moj"] {
            for again in [false, true] {
                let told = ask(&world, name).await;
                assert!(!told.is_empty(), "{name} {restarted:?}");
                assert!(told.iter().all(|told| matches!(told.answer, Ok(Verdict::Contained))), "{told:?}");
                // What was proved is not asked again, but for the newest head.
                assert!(!again || told.len() == 1, "{told:?}");
            }
        }
    }
    for name in ["portal", "moj"] {
        assert_eq!(world.servers[name].server.audit.alarms().1, 0, "{name}");
    }
}

/// The portal's server is a rogue with a log of its own making. It has sent the civil registry's one message under the head of
/// all commits, and answers what it is asked as the test says.
struct Asked {
    world: World,
    log: ForgedLog,
    owner: Owner,
    exchange: String,
    answer: Arc<Mutex<Bytes>>,
}

impl Asked {
    async fn about_a_log() -> Self {
        let mut world = World::new().await;
        let owner = Owner::of(&world, "portal");
        let rogue = Rogue::of(&world, "portal");
        let mut log = owner.log();
        let draft = rogue.opening(&world);
        let exchange = draft.facts.exchange.to_string();
        let frame = log.frame(draft);
        let said = rogue::say(&mut rogue.connect(&world, "moj").await, &frame).await;
        assert_eq!(said.refusal(), None);
        world.quiet().await;
        let answer = Arc::new(Mutex::new(Bytes::new()));
        let answered = Arc::clone(&answer);
        Rogue::takes_over(&mut world, "portal", move |request| {
            assert_eq!(request.uri().path(), CONSISTENCY_PATH);
            let answer = answered.lock().unwrap().clone();
            async move { rogue::streamed_bytes(vec![answer]) }
        })
        .await;
        Self { world, log, owner, exchange, answer }
    }

    fn answers(&self, joined: &wire::Joined) {
        *self.answer.lock().unwrap() = encode_alone(joined);
    }

    /// What it comes to that this is answered: one alarm more, and the proof of it, which verifies from the anchor alone.
    async fn is_proved(&self, joined: &wire::Joined) -> (Finding, contradiction::Report) {
        self.answers(joined);
        ask(&self.world, "moj").await;
        let alarm = alarms(&self.world, "moj", 1).await.remove(0);
        assert_eq!((&alarm.held_in, &*alarm.seen_in), (&self.exchange, "asked"));
        assert_eq!((&*alarm.member, &*alarm.server), ("VN/GOV/portal", "VN/GOV/portal/ss1"));
        let proof = self.proof();
        let report = contradiction::verify(&proof, self.world.anchor()).unwrap();
        assert!(report.holds() && !report.proven.is_empty(), "{report}");
        // Whoever changes a word of it has proved nothing.
        assert!(!contradiction::verify(&proof, b"{}").unwrap().holds(), "another anchor");
        let text = String::from_utf8(proof).unwrap();
        for (was, is) in [("VN/GOV/portal\"", "VN/GOV/moj\""), ("VN/GOV/portal/ss1\"", "VN/GOV/moj/ss1\"")] {
            let changed = contradiction::verify(text.replacen(was, is, 1).as_bytes(), self.world.anchor()).unwrap();
            assert!(!changed.holds(), "{changed}");
        }
        // Said once.
        ask(&self.world, "moj").await;
        assert_eq!(self.world.servers["moj"].server.audit.alarms().1, 1);
        (alarm.finding, report)
    }

    fn proof(&self) -> Vec<u8> {
        let audit = journal::Directory(self.world.directory.path().join("moj/audit"));
        proved_alarms(&audit).unwrap()[0].proof().unwrap()
    }

    /// A later tree of its log that says that the one before ended so.
    fn successor(&self, before: Option<Head>) -> ForgedLog {
        self.owner.log_that_begins(|genesis| {
            if let Some(before) = before {
                genesis.before = before.tree.0.to_wire();
                genesis.before_size = before.size;
                genesis.before_root = before.root.to_wire();
            }
        })
    }

    /// The answer of a log that went on in this tree.
    fn went_on(&self, mut joined: wire::Joined, after: &ForgedLog) -> wire::Joined {
        joined.geneses = vec![after.genesis.as_bytes().clone()];
        joined.newest = Some(after.signed(after.size()));
        joined
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_log_is_a_fork_though_it_went_on_and_restarted() {
    for restarted in [false, true] {
        let asked = Asked::about_a_log().await;
        let held = asked.log.size();
        let mut rewritten = asked.log.clone();
        rewritten.rewrite(1);
        for _ in 0..3 {
            rewritten.commit(vec![tests::forged_log::filler()]);
        }
        let mut joined = rewritten.joined(held);
        if restarted {
            let after = asked.successor(Some(rewritten.head(rewritten.size())));
            joined = asked.went_on(joined, &after);
        }
        let (finding, report) = asked.is_proved(&joined).await;
        let roots = [asked.log.head(held).root, rewritten.head(held).root].map(|root: Digest| root.to_string());
        assert_eq!(finding, Finding::Fork { tree: asked.log.head(held).tree.to_string(), size: held as u64, roots });
        assert_eq!(report.contradiction, Some("fork"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_has_lost_its_tail() {
    let asked = Asked::about_a_log().await;
    let held = asked.log.size();
    let after = asked.successor(Some(asked.log.head(held - 1)));
    let (finding, report) = asked.is_proved(&asked.went_on(wire::Joined::default(), &after)).await;
    let Finding::LostTail { ended, held: known, .. } = finding else { panic!("{finding:?}") };
    assert_eq!((ended, known), (held as u64 - 1, held as u64));
    assert_eq!(report.contradiction, Some("lost_tail"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_begins_anew_has_lost_its_tree() {
    let asked = Asked::about_a_log().await;
    let anew = asked.successor(None);
    let (finding, report) = asked.is_proved(&asked.went_on(wire::Joined::default(), &anew)).await;
    assert!(matches!(finding, Finding::LostTail { ended: 0, .. }), "{finding:?}");
    assert_eq!(report.contradiction, Some("lost_tree"));
}

/// None of it is a proof against the peer, and all of it is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_proves_nothing_is_an_alarm_once_and_the_next_good_one_ends_it() {
    let asked = Asked::about_a_log().await;
    let good = asked.log.joined(asked.log.size());
    let hash = Bytes::from_static(&[1; 32]);
    let unsigned = |mut joined: wire::Joined| {
        let newest = joined.newest.as_mut().unwrap();
        let mut signature = newest.signature.to_vec();
        *signature.last_mut().unwrap() ^= 1;
        newest.signature = signature.into();
        joined
    };
    let mut behind = asked.log.joined(1);
    (behind.newest, behind.root) = (Some(asked.log.signed(1)), Bytes::new());
    let genesis = asked.log.genesis.as_bytes().clone();
    let mut too_large = BytesMut::from(&[0][..]);
    too_large.put_u32(MAX_JOINED_BYTES as u32 + 1);
    too_large.resize(5 + MAX_JOINED_BYTES + 1, 0);
    let mut cut = encode_alone(&good).to_vec();
    cut.pop();
    let bad = [
        ("no bytes", Bytes::new(), "ended"),
        ("too large", too_large.freeze(), "more than"),
        ("cut", cut.into(), "ended"),
        ("no message", Bytes::from_static(&[0, 0, 0, 0, 1, 7]), "protobuf"),
        ("nothing", encode_alone(&wire::Joined::default()), "newest"),
        (
            "too many hashes",
            encode_alone(&wire::Joined { proof: vec![hash.clone(); MAX_PROOF + 1], ..good.clone() }),
            "65",
        ),
        (
            "too many geneses",
            encode_alone(&wire::Joined { geneses: vec![genesis; MAX_GENESES + 1], ..good.clone() }),
            "256",
        ),
        ("another proof", encode_alone(&wire::Joined { proof: vec![hash], ..good.clone() }), "does not join"),
        ("a head that nobody signed", encode_alone(&unsigned(good.clone())), "signature"),
        ("an older head, and no word of the newer", encode_alone(&behind), "says nothing of"),
    ];
    for (number, (what, answer, why)) in bad.into_iter().enumerate() {
        for _ in 0..2 {
            *asked.answer.lock().unwrap() = answer.clone();
            let told = ask(&asked.world, "moj").await.remove(0).answer.unwrap_err();
            assert!(told.contains(why), "{what}: {told}");
        }
        let alarms = alarms(&asked.world, "moj", number as u64 + 1).await;
        assert!(matches!(alarms.last().unwrap().finding, Finding::Unproven { .. }), "{what}: {alarms:?}");
        asked.answers(&good);
        let told = ask(&asked.world, "moj").await;
        assert!(told.iter().all(|told| matches!(told.answer, Ok(Verdict::Contained))), "{what}: {told:?}");
    }
    let audit = journal::Directory(asked.world.directory.path().join("moj/audit"));
    assert!(proved_alarms(&audit).unwrap().is_empty(), "nothing of it is proved");
}

/// A late head: what is shown is older than what is held, and goes on to it. Neither alarm nor proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_head_alarms_nobody() {
    let asked = Asked::about_a_log().await;
    let size = asked.log.size();
    asked.answers(&asked.log.joined_from(size - 1));
    let told = ask(&asked.world, "moj").await;
    assert!(matches!(told[0].answer, Ok(Verdict::Late)), "{told:?}");
    asked.world.quiet().await;
    assert_eq!(asked.world.servers["moj"].server.audit.alarms().1, 0);
}

// ---- at the door

async fn question(world: &World, name: &'static str, body: Bytes) -> Answer {
    let mut client = Rogue::of(world, name).connect(world, "moj").await;
    let request = rogue::exchange().uri(format!("https://peer{CONSISTENCY_PATH}"));
    soon(client.call(request, body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_has_a_head_of_ours_learns_how_our_log_goes_on_and_not_too_often() {
    let world = World::new().await;
    call(&world).await;
    world.quiet().await;
    let name = world.members["moj"].signing.public().id();
    let signed = |head: Head, key: &proto::signature::SigningKey| wire::SignedHead {
        head: head.to_text().into_bytes().into(),
        key: name.to_wire(),
        signature: key.sign(head.to_text().as_bytes()).into(),
    };
    let somewhere = Head { tree: proto::record::TreeName(Digest::of(&[b"x"])), size: 1, root: Digest::ZERO };
    let of_another = signed(somewhere, &world.members["portal"].signing);
    let unproven = |answer: &Answer, what| assert_eq!(answer.refusal(), Some(Code::Unproven.as_str()), "{what}");
    unproven(&question(&world, "portal", encode_alone(&of_another)).await, "a signature of another");
    let named = wire::SignedHead { key: world.members["portal"].signing.public().id().to_wire(), ..of_another };
    unproven(&question(&world, "portal", encode_alone(&named)).await, "another's head");
    unproven(&question(&world, "portal", Bytes::new()).await, "nothing");
    unproven(&question(&world, "portal", vec![0; 1024].into()).await, "too much");
    let good = encode_alone(&signed(somewhere, &world.members["moj"].signing));
    let answer = question(&world, "portal", good.clone()).await;
    assert_eq!((answer.refusal(), answer.status()), (None, 0));
    let mut refused = 0;
    for _ in 0..80 {
        refused += usize::from(question(&world, "portal", good.clone()).await.refusal() == Some("TOO_MANY_EXCHANGES"));
    }
    assert!(refused > 0, "a burst of 64, and one a second");
    assert_eq!(question(&world, "moj", good).await.refusal(), None, "each peer has its own");
}
