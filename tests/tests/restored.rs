//! A server that was put back from a backup: what it forgot is neither done twice nor taken for a forgery, and who talked to it
//! says what is missing.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::path::Path;
use std::time::Duration;

use journal::{RESTORED_FILE, Segments};
use proto::identifier::ExchangeId;
use proto::refusal::Code;
use security_server::audit::{Alarm, Finding};
use serde_json::Value;
use tests::echo::{Parrot, said};
use tests::processes::{SOON, Two};
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::world::World;
use tokio::net::TcpListener;
use tonic::Request;

/// Both logs of a member's server, copied while it runs.
struct Copied {
    name: &'static str,
    at: tempfile::TempDir,
}

const LOGS: [&str; 2] = ["log", "audit"];

impl Copied {
    fn of(world: &World, name: &'static str) -> Self {
        let at = tempfile::tempdir().unwrap();
        for log in LOGS {
            let to = at.path().join(log);
            std::fs::create_dir(&to).unwrap();
            let from = world.directory.path().join(name).join(log);
            journal::copy(&from, Segments::All, &mut |name, bytes| std::fs::write(to.join(name), bytes)).unwrap();
        }
        Self { name, at }
    }

    /// Stops the server, takes its logs and all views of them away, and starts it with the copies: with the word that a
    /// restore leaves, or as a copy of a disk is put back by hand.
    async fn put_back(self, world: &mut World, word: bool) {
        let started = world.servers.remove(self.name).unwrap();
        let address = started.peers;
        started.shutdown().await;
        let directory = world.directory.path().join(self.name);
        std::fs::remove_dir_all(directory.join("index")).unwrap();
        for log in LOGS {
            std::fs::remove_dir_all(directory.join(log)).unwrap();
            std::fs::rename(self.at.path().join(log), directory.join(log)).unwrap();
            if word {
                std::fs::write(directory.join(log).join(RESTORED_FILE), "a backup").unwrap();
            }
        }
        let listener = TcpListener::bind(address).await.unwrap();
        world.start(self.name, listener, false).await;
    }
}

async fn call(world: &World) -> Result<String, tonic::Status> {
    let answer = world.client().await.unary(Request::new(said("x"))).await?;
    Ok(answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned())
}

fn code(refused: &tonic::Status) -> &str {
    refused.metadata().get("causeway-refusal").unwrap().to_str().unwrap()
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

/// The lost log had this opening, the copy of it has not: a replay of it comes while it is still fresh, at once and after
/// another restart, and is refused until its own time refuses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_lost_log_may_have_seen_is_refused_for_a_minute() {
    let mut world = World::new().await;
    let copied = Copied::of(&world, "moj");
    let rogue = Rogue::of(&world, "portal");
    let frame = rogue.seal(rogue.opening(&world)).await;
    let heard = async |world: &mut World| {
        world.quiet().await;
        std::iter::from_fn(|| world.heard.try_recv().ok()).count()
    };
    assert_eq!(rogue::say(&mut rogue.connect(&world, "moj").await, &frame).await.refusal(), None);
    assert_eq!(heard(&mut world).await, 1);

    copied.put_back(&mut world, true).await;
    let restored = world.now();
    for restart in [false, true] {
        if restart {
            world.set_time(restored.plus(Duration::from_secs(59)));
            world.restart("moj").await;
        }
        let replayed = rogue::say(&mut rogue.connect(&world, "moj").await, &frame).await;
        assert_eq!(replayed.refusal(), Some(Code::NotReady.as_str()), "restart: {restart}");
        assert_eq!(code(&call(&world).await.unwrap_err()), "NOT_READY", "restart: {restart}");
        let health = world.servers["moj"].server.health();
        let waits = if restart { 1_001 } else { 60_001 };
        assert_eq!((health.ready, health.waits_after_restore_ms), (false, waits));
    }
    world.set_time(restored.plus(Duration::from_secs(60)));
    assert_eq!(code(&call(&world).await.unwrap_err()), "NOT_READY", "the last moment of the minute");
    world.set_time(restored.plus(Duration::from_millis(60_001)));
    let replayed = rogue::say(&mut rogue.connect(&world, "moj").await, &frame).await;
    assert_eq!(replayed.refusal(), Some(Code::NotFresh.as_str()));
    assert_eq!(heard(&mut world).await, 0, "nothing was asked twice");
    call(&world).await.unwrap();
    assert!(world.servers["moj"].server.health().ready);
    assert_eq!(heard(&mut world).await, 1);
}

/// It asks before its minute is over: what it sends is new by its own random ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_says_what_is_lost_and_refuses_nothing() {
    for (word, restarted) in [(true, false), (false, false), (true, true)] {
        let mut world = World::new().await;
        let kept = call(&world).await.unwrap();
        let copied = Copied::of(&world, "portal");
        let mut lost = vec![call(&world).await.unwrap()];
        if restarted {
            world.set_time(world.now().plus(Duration::from_secs(1)));
            world.restart("portal").await;
            lost.push(call(&world).await.unwrap());
        }
        world.quiet().await;
        // What the peer remembers survives its own restart.
        world.restart("moj").await;
        world.set_time(world.now().plus(Duration::from_secs(1)));
        copied.put_back(&mut world, word).await;
        assert_eq!(world.servers["moj"].server.audit.alarms().1, 0);

        let after = call(&world).await.unwrap();
        let alarms = alarms(&world, "moj", lost.len() as u64).await;
        for (alarm, exchange) in alarms.iter().zip(&lost) {
            let Finding::LostTail { ended, held, .. } = &alarm.finding else { panic!("{alarm:?}") };
            assert!(ended < held, "{alarm:?}");
            assert_eq!((&alarm.held_in, &alarm.seen_in), (exchange, &after), "{alarms:?}");
            assert_eq!((&*alarm.member, &*alarm.server), ("VN/GOV/portal", "VN/GOV/portal/ss1"));
        }
        if restarted {
            let Finding::LostTail { ended, .. } = &alarms[1].finding else { panic!("{alarms:?}") };
            assert_eq!(*ended, 0, "the new tree knows nothing of the tree between");
        }
        // What is lost there is proved here.
        for exchange in lost.iter().chain([&kept]) {
            let id: ExchangeId = exchange.parse().unwrap();
            let moj = &world.servers["moj"].server;
            let found = moj.message_log.find(id).unwrap();
            let evidence = security_server::evidence::file(moj, id, &found).unwrap();
            assert!(proto::evidence::verify(&evidence, world.anchor()).unwrap().holds());
            let known = !world.log_of("portal", exchange).is_empty();
            assert_eq!(known, exchange == &kept, "the portal itself has forgotten it");
        }
        // Said once: not at the next call, not at the next starts.
        call(&world).await.unwrap();
        for name in ["portal", "moj"] {
            world.set_time(world.now().plus(Duration::from_secs(1)));
            world.restart(name).await;
            call(&world).await.unwrap();
        }
        world.quiet().await;
        assert_eq!(world.servers["moj"].server.audit.alarms().1, lost.len() as u64);
    }
}

/// Nobody calls: it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_finds_the_lost_tail_and_has_the_proof() {
    let mut world = World::new().await;
    call(&world).await.unwrap();
    let copied = Copied::of(&world, "portal");
    let lost = call(&world).await.unwrap();
    world.quiet().await;
    world.set_time(world.now().plus(Duration::from_secs(1)));
    copied.put_back(&mut world, true).await;
    for _ in 0..2 {
        world.servers["moj"].server.ask_the_peers().await;
    }
    let alarms = alarms(&world, "moj", 1).await;
    let Finding::LostTail { ended, held, .. } = &alarms[0].finding else { panic!("{alarms:?}") };
    assert!(ended < held);
    assert_eq!((&alarms[0].held_in, &*alarms[0].seen_in), (&lost, "asked"));
    let proved = security_server::audit::proved_alarms(&journal::Directory(world.directory.path().join("moj/audit")));
    let proof = proved.unwrap()[0].proof().unwrap();
    let report = proto::contradiction::verify(&proof, world.anchor()).unwrap();
    assert_eq!(report.contradiction, Some("lost_tail"), "{report}");
    // It is known, and said once, across restarts too.
    world.restart("moj").await;
    world.servers["moj"].server.ask_the_peers().await;
    world.quiet().await;
    assert_eq!(world.servers["moj"].server.audit.alarms().1, 1);
}

/// What `evidence traffic` writes of this member's log.
fn traffic(world: &World, name: &str, peer: &str) -> String {
    let member = |name: &str| world.members[name].subsystem.member();
    let holder = proto::seal::Sender { member: member(name), server: world.members[name].server.clone() };
    let always = (proto::time::Time::from_millis(0), proto::time::Time::from_millis(u64::MAX));
    let begin = proto::traffic::Begin::new(holder, member(peer), always, world.now());
    let (disk, files) = (&*world.members[name].log, world.servers[name].server.store.files());
    let mut written = Vec::new();
    security_server::traffic::write(disk, begin, &files, &mut written).unwrap();
    String::from_utf8(written).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_logs_agree_or_every_message_that_one_lacks_is_named() {
    let mut world = World::new().await;
    let verified = |world: &World, file: &str| proto::traffic::Traffic::verify(file.as_bytes(), world.anchor());
    let both = |world: &World| {
        let [portal, moj] = [("portal", "moj"), ("moj", "portal")].map(|(name, peer)| traffic(world, name, peer));
        [verified(world, &portal).unwrap(), verified(world, &moj).unwrap()]
    };
    let reconciled = |[a, b]: &[proto::traffic::Traffic; 2]| proto::traffic::reconcile(a, b).unwrap();
    for _ in 0..2 {
        call(&world).await.unwrap();
    }
    world.quiet().await;
    let found = reconciled(&both(&world));
    assert_eq!((found.agreed, found.agrees()), (0, true), "what is younger than a minute may be on its way");
    let copied = Copied::of(&world, "portal");
    let lost = call(&world).await.unwrap();
    let mut texts = Vec::new();
    for text in ["one", "two", "three"] {
        texts.push(said(text));
    }
    let stream = world.client().await.both(tokio_stream::iter(texts)).await.unwrap();
    let streamed = stream.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let mut answers = stream.into_inner();
    while answers.message().await.unwrap().is_some() {}
    world.quiet().await;
    world.set_time(world.now().plus(Duration::from_secs(120)));
    let found = reconciled(&both(&world));
    assert!(found.agrees() && found.not_proven.is_empty() && found.agreed >= 8, "{found}");
    let all = found.agreed;

    copied.put_back(&mut world, true).await;
    let files = both(&world);
    let found = reconciled(&files);
    assert!(!found.agrees());
    assert_eq!(found.agreed + (found.missing.len() + found.not_proven.len()) as u64, all, "{found}");
    for exchange in [&lost, &streamed] {
        let of = |disputed: &[proto::traffic::Disputed], direction: &str| {
            disputed.iter().filter(|each| each.exchange == *exchange && each.direction == direction).count()
        };
        // What the portal sealed, it must have; of the last answer nothing shows that it came.
        assert!(of(&found.missing, "request") > 0 && of(&found.not_proven, "request") == 0, "{found}");
        assert!(of(&found.not_proven, "answer") > 0 && of(&found.missing, "answer") == 0, "{found}");
    }
    assert!(found.missing.iter().all(|each| each.lacks == "VN/GOV/portal at VN/GOV/portal/ss1"), "{found}");
    assert_eq!(reconciled(&[files[1].clone(), files[0].clone()]).missing, found.missing, "whichever is first");

    // A file with anything else in it is refused, and says where.
    let (whole, of_moj) = (traffic(&world, "moj", "portal"), &files[1]);
    let lines: Vec<&str> = whole.lines().collect();
    let without = |at: usize| {
        let left: Vec<_> = lines.iter().enumerate().filter(|(line, _)| *line != at).map(|(_, line)| *line).collect();
        left.join("\n") + "\n"
    };
    for (file, why) in [
        (without(lines.len() - 1), "line"),
        (without(2), "messages, and"),
        (without(1), "messages, and"),
        (without(0), "line 1"),
        (whole[..whole.len() - 1].to_owned(), "last line"),
        (whole.replacen("VN/GOV/portal\"", "VN/GOV/moj\"", 1), "line"),
        (whole.replacen("\"seal\":\"Ch", "\"seal\":\"Ci", 1), "line 2"),
    ] {
        let refused = verified(&world, &file).unwrap_err().to_string();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    assert!(proto::traffic::Traffic::verify(whole.as_bytes(), b"{}").is_err(), "another anchor");
    assert!(proto::traffic::reconcile(of_moj, of_moj).is_err(), "a file and itself");
}

/// An alarm is for what no honest server does: these all do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_either_server_alarm_nobody() {
    let mut world = World::new().await;
    for name in ["portal", "moj", "portal", "portal", "moj"] {
        call(&world).await.unwrap();
        world.restart(name).await;
    }
    call(&world).await.unwrap();
    world.quiet().await;
    for name in ["portal", "moj"] {
        assert_eq!(world.servers[name].server.audit.alarms().1, 0, "{name}");
    }
}

// ---- by the programs themselves

/// A server is backed up while it runs, lost, and put back by its commands: it goes on, its peer says what is missing and
/// has the proof of it, and both audit logs tell the story and hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_lost_and_put_back_by_its_commands_goes_on() {
    let (service, _heard) = Parrot::serve().await;
    let (two, [_registry, portals, mojs]) = Two::before(service).await;
    let (instance, portal, moj) = (&two.instance, &two.portal, &two.moj);
    std::fs::write(instance.path("credentials").join("backup"), "correct horse battery staple\n").unwrap();
    let mut client = two.client();
    let mut call = async || {
        let answer = tokio::time::timeout(SOON, client.unary(Request::new(said("x")))).await.unwrap().unwrap();
        answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned()
    };
    let kept = call().await;

    let create = "security-server backup create portal.backup --passphrase credential:backup --json --config";
    let made = instance.run(&format!("{create} {}", portal.file())).await.json();
    let parts = names(&made["parts"]);
    for part in [
        "security-server.toml",
        "keys/authentication.pem",
        "global-configuration/anchor.json",
        "certificates/signing.pem",
    ] {
        assert!(parts.contains(&part.to_owned()), "{part} is not in {parts:?}");
    }
    for none in ["signing.pem", "operators.token", "lock", "index", "join.json"] {
        let in_it = parts.iter().filter(|part| part.starts_with("keys/") || !part.ends_with("signing.pem"));
        assert!(!in_it.clone().any(|part| part.ends_with(none)), "{none} is in {parts:?}");
    }
    let lost = [call().await, call().await];
    let found =
        instance.run("security-server backup verify portal.backup --passphrase credential:backup --json").await.json();
    assert_eq!(
        (&found["about"]["server"], &found["manifest_sha256"]),
        (&"VN/GOV/portal/ss1".into(), &made["manifest_sha256"])
    );
    assert_eq!(found["message_log"]["trees"].as_array().unwrap().len(), 2, "of `join` and of the start");

    // What the peer holds survives its own restart too.
    mojs.stops().await;
    let mojs = instance.serve(moj).await;
    portals.kill().await;
    std::fs::rename(instance.path("portal/keys/signing.pem"), instance.path("signing.pem")).unwrap();
    std::fs::rename(instance.path("portal"), instance.path("lost")).unwrap();
    let restore =
        "security-server backup restore portal.backup portal --passphrase credential:backup --server VN/GOV/portal/ss1";
    let without = "central-registry backup restore registry.backup registry --passphrase credential:backup";
    let without = instance.run(without).await;
    assert!(without.code == Some(3) && without.err.contains("give --published a mirror's copy"), "{without:?}");
    let would = instance.run(&format!("{restore} --dry-run")).await.well();
    assert!(would.contains("nothing was changed") && !instance.path("portal").exists(), "{would}");
    let restored = instance.run(restore).await.well();
    assert!(restored.contains("put the signing key back"), "{restored}");
    std::fs::rename(instance.path("signing.pem"), instance.path("portal/keys/signing.pem")).unwrap();
    let portals = instance.serve(portal).await;
    let status = instance.run(&format!("security-server status --json --config {}", portal.file())).await.json();
    assert!(status["health"]["waits_after_restore_ms"].as_u64().unwrap() > 0, "{status}");

    let after = call().await;
    let status = soon(async {
        loop {
            let status = instance.run(&format!("security-server status --json --config {}", moj.file())).await.json();
            if status["health"]["alarms"] == 1 {
                return status;
            }
        }
    })
    .await;
    let alarm = &status["alarms"][0];
    let (ended, held) = (&alarm["finding"]["lost_tail"]["ended"], &alarm["finding"]["lost_tail"]["held"]);
    assert!(ended.as_u64().unwrap() > 0 && ended.as_u64() < held.as_u64(), "{alarm}");
    assert_eq!((&alarm["held_in"], &alarm["seen_in"]), (&lost[1].as_str().into(), &after.as_str().into()), "{alarm}");
    for exchange in lost.iter().chain([&kept, &after]) {
        let evidence =
            instance.run(&format!("security-server evidence get {exchange} --config {}", moj.file())).await.well();
        std::fs::write(instance.path("evidence.json"), evidence).unwrap();
        instance.run("security-server evidence verify evidence.json --anchor registry/anchor.json").await.well();
    }
    let forgotten = instance.run(&format!("security-server exchange {} --config {}", lost[0], portal.file())).await;
    assert_eq!(forgotten.code, Some(6), "the portal itself has forgotten it");

    let listed = async |file: String| {
        let listed = instance.run(&format!("security-server audit list --json --config {file}")).await.json();
        let entries = listed["entries"].as_array().unwrap().iter().map(|entry| entry["noted"].clone());
        entries.collect::<Vec<_>>()
    };
    let of_portal = listed(portal.file()).await;
    let told: Vec<_> = of_portal.iter().filter_map(|noted| noted["entry"].as_str()).collect();
    assert_eq!(told, ["opened", "opened", "started", "backed_up", "opened", "restored", "started"], "{of_portal:?}");
    let (backed_up, restored) = (&of_portal[3], &of_portal[5]);
    assert_eq!((&backed_up["signing_keys"], &backed_up["by"]["token"]), (&false.into(), &"operators.token".into()));
    assert!(backed_up["by"]["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{backed_up}");
    let from = restored["from"].as_str().unwrap();
    assert!(from.contains("VN/GOV/portal/ss1") && from.contains(made["manifest_sha256"].as_str().unwrap()), "{from}");
    assert_eq!(of_portal[4]["why"], "restored");
    let of_moj = listed(moj.file()).await;
    for entry in ["granted", "alarm", "read"] {
        assert!(of_moj.iter().any(|noted| noted["entry"] == entry), "{entry} is not in {of_moj:?}");
    }
    for member in [portal, moj] {
        let holds =
            instance.run(&format!("security-server audit verify --json --config {}", member.file())).await.json();
        assert_eq!((&holds["holds"], &holds["log"]["torn_bytes"]), (&true.into(), &0.into()), "{holds}");
    }
    portals.stops().await;
    mojs.stops().await;
}

fn names(parts: &Value) -> Vec<String> {
    parts.as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap().to_owned()).collect()
}

/// All refusals of the commands, of one server that is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_does_not_hold_is_refused_and_nothing_is_left_behind() {
    let instance = tests::processes::Instance::founded().await;
    let registry = instance.serve_registry().await;
    let moj = tests::processes::Member::new("moj", "civil-registry");
    instance.join(&moj).await;
    registry.stops().await;
    for (name, passphrase) in
        [("backup", "correct horse battery staple\n"), ("other", "correct house battery staple\n")]
    {
        std::fs::write(instance.path("credentials").join(name), passphrase).unwrap();
    }
    let create = |file: &str, more: &str| {
        format!("security-server backup create {file} --passphrase credential:backup{more} --config {}", moj.file())
    };
    let restore = |file: &str, to: &str, more: &str| {
        format!("security-server backup restore {file} {to} --passphrase credential:backup{more}")
    };
    let well = async |line: String| instance.run(&line).await.well();
    let refused = async |line: String, code: i32, why: &str| {
        let said = instance.run(&line).await;
        assert_eq!(said.code, Some(code), "{line}: {said:?}");
        assert!(said.err.contains(why), "{line}: {}", said.err);
    };
    let files = || {
        let entries = std::fs::read_dir(instance.directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<std::collections::BTreeSet<_>>()
    };

    // Made of a server that is stopped; a dry run makes nothing.
    let before = files();
    assert!(well(create("none", " --dry-run")).await.contains("nothing was changed"));
    assert_eq!(files(), before);
    well(create("backup", "")).await;
    refused(create("backup", ""), 1, "exists").await;
    let whole = std::fs::read(instance.path("backup")).unwrap();
    assert!(!contains(&whole, b"VN/GOV"), "nothing of it can be read");

    // Changed, cut, of another passphrase, of another kind: refused by name, and nothing is put back.
    std::fs::write(instance.path("cut"), &whole[..whole.len() - 1]).unwrap();
    for (name, at) in [("early", 100), ("middle", whole.len() / 2), ("late", whole.len() - 1)] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(instance.path(name), changed).unwrap();
    }
    let before = files();
    for damaged in ["cut", "early", "middle", "late"] {
        refused(format!("security-server backup verify {damaged} --passphrase credential:backup"), 7, "damaged").await;
        refused(restore(damaged, "new", ""), 7, "damaged").await;
        refused(restore(damaged, "new", " --dry-run"), 7, "damaged").await;
    }
    refused("security-server backup verify backup --passphrase credential:other".into(), 7, "this passphrase").await;
    refused(format!("security-server backup verify {} --passphrase credential:backup", moj.file()), 7, "no backup")
        .await;
    refused(restore("backup", "new", " --server VN/GOV/tax/ss1"), 3, "not of VN/GOV/tax/ss1").await;
    refused(restore("backup", "moj", ""), 3, "not empty").await;
    assert_eq!(files(), before, "nothing was left behind");

    // Only where it is asked for, the signing key is in it; then what was put back starts as it is.
    let made: Value = serde_json::from_str(&well(create("whole", " --with-signing-keys --json")).await).unwrap();
    assert!(names(&made["parts"]).contains(&"keys/signing.pem".to_owned()), "{made}");
    let said = well(restore("whole", "again", "")).await;
    assert!(!said.contains("put the signing key back"), "{said}");
    for file in ["security-server.toml", "keys/signing.pem", "keys/authentication.pem", "global-configuration/current"]
    {
        let [was, is] = ["moj", "again"].map(|directory| std::fs::read(instance.path(directory).join(file)).unwrap());
        assert_eq!(was, is, "{file}");
    }
    assert!(instance.path("again/message-log").join(RESTORED_FILE).exists());
    std::fs::rename(instance.path("moj"), instance.path("old")).unwrap();
    std::fs::rename(instance.path("again"), instance.path("moj")).unwrap();
    moj.configure(instance.directory.path(), &[]);
    instance.serve(&moj).await.stops().await;

    // A log that does not hold is not backed up as if it did, and no verification passes it.
    let segment = instance.path("moj/audit-log/0000000001.segment");
    let mut damaged = std::fs::read(&segment).unwrap();
    let at = damaged.len() - 100;
    damaged[at] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    refused(create("damaged", ""), 7, "audit-log/0000000001.segment is damaged").await;
    assert!(!instance.path("damaged").exists() && !instance.path("damaged.part").exists());
    refused(format!("security-server audit verify --config {}", moj.file()), 5, "is damaged").await;
    assert!(Path::new(&segment).exists());
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

// ---- the registry

/// After the backup another member joins, and versions go by. The registry is lost and put back, with what a security server
/// was told last: the member is there, no version is signed twice, and every server takes the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_put_back_takes_up_what_was_published_and_signs_no_version_twice() {
    let lost = LostRegistry::with_a_member_after_the_backup().await;
    let LostRegistry { instance, portal, portals, version } = lost;
    let restore = "central-registry backup restore registry.backup registry --published portal/global-configuration \
                   --passphrase credential:backup";
    let without = "central-registry backup restore registry.backup registry --passphrase credential:backup";
    let without = instance.run(without).await;
    assert!(without.code == Some(3) && without.err.contains("give --published a mirror's copy"), "{without:?}");
    let would = instance.run(&format!("{restore} --dry-run")).await.well();
    assert!(would.contains("nothing was changed") && !instance.path("registry").exists(), "{would}");
    instance.run(restore).await.well();
    for file in ["keys", "admin-admin.toml", "admin-admin.pem"] {
        put_in_place(&instance.path("old").join(file), &instance.path("registry").join(file));
    }
    let registry = instance.serve_registry().await;

    // The server was told of a version that it takes: newer than any that it has seen, and fresh.
    let (told, members) = until_told(&instance, &portal, version).await;
    assert!(told > version + 1_000_000, "{told} is no version that may have been given to anybody: {version} was");
    assert!(members.contains("VN/GOV/moj ") && members.contains("VN/GOV/portal "), "{members}");

    let entries =
        instance.run("central-registry audit list --json --config registry/central-registry.toml").await.json();
    let entries = entries["entries"].as_array().unwrap().clone();
    let events: Vec<&str> =
        entries.iter().filter_map(|entry| entry["event"].as_object()?.keys().next().map(String::as_str)).collect();
    for event in ["founded", "started", "invited", "applied", "approved", "backed_up", "adopted", "put_back"] {
        assert!(events.contains(&event), "{event} is not in {events:?}");
    }
    let of = |name: &str| entries.iter().find(|entry| !entry["event"][name].is_null()).unwrap();
    assert!(of("backed_up")["from"].as_str().unwrap().starts_with("this machine, user "), "{}", of("backed_up"));
    for (event, admin) in [("invited", "admin"), ("approved", "admin")] {
        assert_eq!(of(event)["admin"], admin, "{}", of(event));
        assert!(of(event)["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", of(event));
    }
    assert!(of("applied")["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", of("applied"));
    let holds =
        instance.run("central-registry audit verify --json --config registry/central-registry.toml").await.json();
    assert_eq!((&holds["holds"], &holds["orders_without_signature"]), (&true.into(), &0.into()), "{holds}");

    // A command of the lost minute could be told again: none of it is taken.
    let suspend = "central-registry suspend VN/GOV/portal --reason x --yes --passphrase credential:registry";
    let refused = instance.run(suspend).await;
    assert!(refused.code == Some(3) && refused.err.contains("put back from a backup"), "{refused:?}");

    // The next start is one like any other.
    registry.stops().await;
    assert!(!instance.path("registry/journal").join(RESTORED_FILE).exists());
    let registry = instance.serve_registry().await;
    let (again, _) = until_told(&instance, &portal, told).await;
    assert!(again < told + 100, "{again} follows {told}");
    registry.stops().await;
    portals.stops().await;
}

/// An instance whose registry was backed up, then registered another member, and is gone.
struct LostRegistry {
    instance: tests::processes::Instance,
    portal: tests::processes::Member,
    portals: tests::processes::Process,
    /// The newest version that the portal's server was told of.
    version: u64,
}

impl LostRegistry {
    async fn with_a_member_after_the_backup() -> Self {
        let instance = tests::processes::Instance::founded().await;
        std::fs::write(instance.path("credentials").join("backup"), "correct horse battery staple\n").unwrap();
        let registry = instance.serve_registry().await;
        let [portal, moj] = [("portal", "one-stop"), ("moj", "civil-registry")]
            .map(|(name, subsystem)| tests::processes::Member::new(name, subsystem));
        instance.join(&portal).await;
        portal.configure(instance.directory.path(), &[]);
        let portals = instance.serve(&portal).await;
        let create = "central-registry backup create registry.backup --passphrase credential:backup --json \
                      --config registry/central-registry.toml";
        let made = instance.run(create).await.json();
        let parts = names(&made["parts"]);
        assert!(parts.contains(&"keys/tls.pem".to_owned()) && parts.contains(&"public.pack".to_owned()), "{parts:?}");
        let keys: Vec<_> = parts.iter().filter(|part| part.starts_with("keys/") || part.contains("root-")).collect();
        assert_eq!(keys, ["keys/tls.pem"], "no key that signs is in it");
        let found = instance
            .run("central-registry backup verify registry.backup --passphrase credential:backup --json")
            .await
            .json();
        assert_eq!((&found["members"], &found["manifest_sha256"]), (&1.into(), &made["manifest_sha256"]));
        instance.join(&moj).await;
        let (version, _) = until_told_of(&instance, &portal, "VN/GOV/moj ").await;
        registry.kill().await;
        std::fs::rename(instance.path("registry"), instance.path("old")).unwrap();
        Self { instance, portal, portals, version }
    }
}

fn put_in_place(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            put_in_place(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

/// The version that this member's server has in force, when it is newer than this one, and the members in it.
async fn until_told(
    instance: &tests::processes::Instance,
    member: &tests::processes::Member,
    after: u64,
) -> (u64, String) {
    until(instance, member, |version, _| version > after).await
}

async fn until_told_of(
    instance: &tests::processes::Instance,
    member: &tests::processes::Member,
    of: &str,
) -> (u64, String) {
    until(instance, member, |_, members| members.contains(of)).await
}

async fn until(
    instance: &tests::processes::Instance,
    member: &tests::processes::Member,
    is_it: impl Fn(u64, &str) -> bool,
) -> (u64, String) {
    let line = format!("security-server status --json --config {}", member.file());
    let waiting = async {
        loop {
            let status = instance.run(&line).await.json();
            assert_eq!(status["health"]["configuration"], "fresh");
            let version = status["health"]["configuration_version"].as_u64().unwrap();
            let store = instance.path(member.name).join("global-configuration");
            let Ok((_, trusted)) = security_server::global_configuration::Store::copied(&store) else { continue };
            let known = trusted.configuration();
            let members: String = known.members.keys().map(|member| format!("{member} ")).collect();
            if known.version == version && is_it(version, &members) {
                return (version, members);
            }
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("the server was told")
}
