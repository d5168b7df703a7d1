//! Segments that are in the archive are removed here when they are old enough and nothing in them is open; and everything that they
//! answered for is still answered: evidence, searches, proofs over the trees, `log verify`, and that no opening is taken twice.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup::{Recipient, RecipientKey};
use command_line::Paint;
use journal::disk::{File, Lock};
use journal::{Directory, Disk, Remains, Space, finished, remains_name, removed, segment_name};
use proto::consistency::Verdict;
use proto::identifier::ExchangeId;
use proto::record::Kind;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::transport::{FETCH_PATH, encode};
use proto::wire::relay as wire;
use security_server::archive::store::{Place, Store};
use security_server::archive::{
    ArchiveHealth, FETCHED, History, KeepLocal, MAX_REMOVED_IN_A_PASS, NotRemoved, Reading, Settings,
};
use security_server::audit::{Noted, archived};
use security_server::evidence;
use security_server::log_keys::LogKeys;
use security_server::lookout::Alarm;
use security_server::message_log::Index;
use security_server::message_log::exchanges::Search;
use security_server::shown;
use security_server::whole_log::{Found, verify_with_removed};
use tests::echo::said;
use tests::raw::{self, Answer, Client};
use tests::rogue::{self, Rogue};
use tests::roomy::Roomy;
use tests::soon;
use tests::tsa::{Fault, Tsa};
use tests::world::World;

const DAY: Duration = Duration::from_secs(86_400);

/// A world in which the civil registry's server archives into a directory, and keeps for a day what it archived.
struct Kept {
    world: World,
    place: tempfile::TempDir,
    settings: Settings,
}

impl Kept {
    async fn new(recipients: Vec<Recipient>) -> Self {
        let (world, place) = (World::new().await, tempfile::tempdir().unwrap());
        let to = Place::of(&format!("file://{}", place.path().display()), None, "us-east-1".into(), "environment");
        let store = to.unwrap().open(&world.members["moj"].server).unwrap();
        let fetched = Some(world.directory.path().join("moj").join(FETCHED));
        let settings = Settings { store, recipients, keep_local: KeepLocal::days(1), fetched };
        let mut kept = Self { world, place, settings };
        kept.world.log_options.segment_bytes = 8192;
        kept.restart().await;
        kept
    }

    async fn restart(&mut self) {
        self.world.archive = Some(self.settings.clone());
        self.world.restart("moj").await;
    }

    /// Exchanges, whose names are returned, until some segments are finished and archived.
    async fn archived(&mut self) -> Vec<ExchangeId> {
        let named = self.exchanged().await;
        self.restart().await;
        soon(self.server().archive_segments()).await.unwrap();
        named
    }

    /// The same, two days ago.
    async fn old(&mut self) -> Vec<ExchangeId> {
        let named = self.archived().await;
        self.later(DAY * 2);
        named
    }

    /// So much later, with the registry at work.
    fn later(&mut self, by: Duration) {
        self.world.set_time(self.world.now().plus(by));
        self.world.publish(|_| {}, Vec::new());
    }

    async fn exchanged(&self) -> Vec<ExchangeId> {
        let mut named = Vec::new();
        for _ in 0..8 {
            let answer = soon(self.world.client().await.unary(said("kept"))).await.unwrap();
            named.push(answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().parse().unwrap());
        }
        self.world.quiet().await;
        named
    }

    fn server(&self) -> Arc<security_server::SecurityServer> {
        Arc::clone(&self.world.servers["moj"].server)
    }

    /// Removes what may be removed: two segments at least, if not by this then by the tide before it.
    async fn removed(&self) {
        self.remove().await.unwrap();
        assert!(removed(&self.log()).unwrap().len() >= 2);
    }

    async fn remove(&self) -> Result<usize, NotRemoved> {
        let server = self.server();
        soon(server.remove_segments()).await
    }

    fn health(&self) -> ArchiveHealth {
        self.server().health().archive.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.directory.path().join("moj").join(name)
    }

    fn log(&self) -> Directory {
        Directory(self.path("log"))
    }

    /// Where the archive's objects stand.
    fn objects(&self) -> PathBuf {
        self.place.path().join(self.world.members["moj"].server.to_string()).join("message-log")
    }

    /// In which segment an exchange begins.
    fn begins(&self, exchange: ExchangeId) -> u64 {
        self.server().message_log.find(exchange).unwrap()[0].position.segment
    }

    /// The evidence of an exchange, made as an operator has it made.
    async fn evidence(&self, exchange: ExchangeId) -> Result<Vec<u8>, String> {
        let server = self.server();
        let made = move || {
            let found = server.message_log.find(exchange).map_err(|error| error.to_string())?;
            evidence::file(&server, exchange, &found).map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(made).await.unwrap()
    }

    fn verified(&self) -> Found {
        let configuration = self.server().store.current().load();
        let keys = LogKeys::of(&self.world.members["moj"].server, &configuration, []);
        let here: Arc<dyn Disk> = Arc::new(self.log());
        let (store, fetched) = (Some(self.settings.store.clone()), self.settings.fetched.clone());
        let history = History::of(Arc::clone(&here), store, fetched);
        verify_with_removed(&*here, &history, &keys, &configuration).unwrap()
    }

    /// Segments that the audit log says were to be removed, as often as it says so.
    fn noted(&self) -> Vec<u64> {
        let mut noted = Vec::new();
        journal::read(&Directory(self.path("audit")), None, &mut |entry| {
            if entry.record.kind() == Kind::Entry
                && let Ok(Noted::Removing { segment, .. }) = serde_json::from_slice(&entry.record.body())
            {
                noted.push(segment);
            }
        })
        .unwrap();
        noted
    }

    /// How many records say that something was taken out of the log.
    fn cuts(&self) -> usize {
        let mut cuts = 0;
        journal::read(&self.log(), None, &mut |entry| cuts += usize::from(entry.record.kind() == Kind::Cut)).unwrap();
        cuts
    }

    /// Whether the portal finds all that it holds of this server's log in it.
    async fn is_contained(&self) -> bool {
        let told = soon(self.world.servers["portal"].server.ask_the_peers()).await;
        !told.is_empty() && told.iter().all(|told| matches!(told.answer, Ok(Verdict::Contained)))
    }

    /// Stops the server, does something to its directory, and starts it again.
    async fn stopped(&mut self, work: impl FnOnce(&Self)) {
        let started = self.world.servers.remove("moj").unwrap();
        let address = started.peers;
        started.shutdown().await;
        work(self);
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        self.world.start("moj", listener, false).await;
    }

    fn forget_the_index(&self) {
        fs::remove_dir_all(self.path("index")).unwrap();
    }
}

fn faults(found: &Found) -> Vec<String> {
    found.faults.iter().map(|fault| format!("{}: {}", fault.place, fault.what)).collect()
}

fn recipient() -> (Recipient, Vec<u8>) {
    use base64::Engine;
    let (key, pkcs8) = SigningKey::generate();
    let der = base64::engine::general_purpose::STANDARD.encode(key.public().to_spki());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    (Recipient::from_pem(pem.as_bytes()).unwrap(), pkcs8)
}

async fn fetched(store: Store, key: &[u8], audit: &Path, into: PathBuf) {
    let noted = archived(&Directory(audit.to_owned()), &store.to()).unwrap();
    let reading = Reading::of(store, Some(RecipientKey::from_pkcs8(key).unwrap()), noted).await.unwrap();
    fs::create_dir_all(&into).unwrap();
    let fetch =
        move || reading.numbers(1, u64::MAX).into_iter().for_each(|number| _ = reading.fetch(number, &into).unwrap());
    tokio::task::spawn_blocking(fetch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_is_answered_for_as_before() {
    let mut kept = Kept::new(Vec::new()).await;
    let named = kept.archived().await;
    // A day is not over: nothing goes.
    kept.later(DAY - Duration::from_secs(60));
    kept.remove().await.unwrap();
    let first = kept.begins(named[0]);
    assert!(removed(&kept.log()).unwrap().iter().all(|number| *number < first), "what is young is gone");
    kept.later(DAY);
    let evidence = kept.evidence(named[0]).await.unwrap();
    kept.removed().await;
    let gone = removed(&kept.log()).unwrap();
    assert!(gone.contains(&first) && gone[0] == 1, "{gone:?}");
    for number in &gone {
        assert!(!kept.path("log").join(segment_name(*number)).exists(), "segment {number} is here");
    }
    // Once each: in the audit log before it went, and in the log itself.
    assert_eq!((kept.noted(), kept.cuts()), (gone.clone(), gone.len()));
    let health = kept.health();
    assert_eq!((health.removed, health.held, health.kept_for), (gone.len() as u64, None, Some("1 days".into())));
    assert_eq!(health.here, finished(&kept.log()).unwrap().len() as u64 + 1);

    for restarted in [false, true] {
        if restarted {
            kept.restart().await;
        }
        assert!(kept.evidence(named[0]).await.unwrap() == evidence, "restarted {restarted}");
        let server = kept.server();
        let found = server.message_log.search(&Search { limit: 100, ..Search::default() }).unwrap();
        assert!(found.exchanges.len() >= named.len());
        assert!(kept.is_contained().await);
    }
    let found = kept.verified();
    assert_eq!(faults(&found), Vec::<String>::new());
    assert_eq!((found.removed, &found.unread, found.begins_late), (Some((1, gone.len() as u64)), &None, false));
    assert_eq!(found.cuts.keys().copied().collect::<Vec<_>>(), gone);
    // It goes on, and what is old by then goes too.
    kept.old().await;
    assert!(kept.remove().await.unwrap() > 0 && removed(&kept.log()).unwrap().len() > gone.len());
    assert_eq!(faults(&kept.verified()), Vec::<String>::new());
    // In it the configuration of now.
    kept.evidence(named[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_built_anew_proves_as_before_and_says_what_it_does_not_know() {
    let mut kept = Kept::new(Vec::new()).await;
    let named = kept.old().await;
    let evidence = kept.evidence(named[0]).await.unwrap();
    kept.removed().await;
    let (index, mut seen) = (kept.path("index"), Vec::new());
    let mut look = || {
        let index = Index::open(&index).unwrap();
        seen.push((index.received_since(Time::default()).unwrap(), index.last_time().unwrap()));
    };
    // What must not be taken twice, and the time before which it is not, are known as before.
    kept.stopped(|kept| {
        look();
        kept.forget_the_index();
    })
    .await;
    kept.stopped(|_| look()).await;
    assert!(named.iter().all(|exchange| seen[0].0.iter().any(|(known, ..)| known == exchange)));
    assert!(seen[0] == seen[1] && seen[0].1 > Time::default(), "{seen:?}");
    let later = kept.exchanged().await;
    assert!(kept.is_contained().await, "the leaves of what was removed are here");
    // Half of an exchange is nobody's evidence, and none is not told from one that is not known.
    for unknown in [named[0], named[1]] {
        let why = kept.evidence(unknown).await.unwrap_err();
        assert!(why.contains("built anew after segments 1 to") && why.contains("archive fetch"), "{why}");
    }
    kept.evidence(later[0]).await.unwrap();
    // Of a person nothing is told rather than half; a search says that it is half.
    let about = Search { limit: 100, subject: Some(kept.server().subjects.of("id:1")), ..Search::default() };
    let why = kept.server().message_log.disclosed(&about).unwrap_err().to_string();
    assert!(why.contains("built anew after segments 1 to"), "{why}");
    kept.server().message_log.search(&about).unwrap_err();
    let all = Search { limit: 100, ..Search::default() };
    let found = kept.server().message_log.search(&all).unwrap();
    assert!(found.not_indexed.is_some_and(|last| last >= 2) && !found.exchanges.is_empty(), "{found:?}");
    assert!(shown::exchanges(&found, Paint::none()).contains("NOT ALL: segments 1 to"));

    // Brought back as the error says, all of it is known again; and goes again.
    let objects = kept.objects();
    kept.stopped(|kept| {
        for number in removed(&kept.log()).unwrap() {
            fs::copy(objects.join(segment_name(number)), kept.path("log").join(segment_name(number))).unwrap();
        }
        kept.forget_the_index();
    })
    .await;
    assert_eq!(removed(&kept.log()).unwrap(), Vec::<u64>::new());
    assert!(kept.evidence(named[0]).await.unwrap() == evidence);
    assert_eq!(kept.server().message_log.search(&all).unwrap().not_indexed, None);
    kept.server().message_log.disclosed(&about).unwrap();
    kept.removed().await;
    assert!(kept.evidence(named[0]).await.unwrap() == evidence);
    assert_eq!(kept.cuts(), removed(&kept.log()).unwrap().len(), "what is taken out twice is said once");
    assert_eq!(faults(&kept.verified()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_away_or_is_another_is_named_and_the_rest_is_verified() {
    let mut kept = Kept::new(Vec::new()).await;
    let named = kept.old().await;
    let number = kept.begins(named[0]);
    kept.remove().await.unwrap();
    let name = segment_name(number);
    let (objects, aside) = (kept.objects(), kept.place.path().join("aside"));
    // In memory nothing is left of what was read.
    kept.restart().await;
    fs::rename(&objects, &aside).unwrap();
    let why = kept.evidence(named[0]).await.unwrap_err();
    assert!(
        why.contains(&format!("{name} was removed here, and is in file://")) && why.contains("ask who runs"),
        "{why}"
    );
    let found = kept.verified();
    assert_eq!(faults(&found), Vec::<String>::new());
    assert!(found.unread.is_some_and(|why| why.contains("it is not in")) && found.begins_late);
    fs::rename(&aside, &objects).unwrap();
    // Another segment under its name is no evidence, and a fault.
    let first = objects.join(&name);
    let whole = fs::read(&first).unwrap();
    for changed in
        [fs::read(objects.join(segment_name(number + 1))).unwrap(), whole[..whole.len() - 1].to_vec(), Vec::new()]
    {
        fs::write(&first, changed).unwrap();
        let why = kept.evidence(named[0]).await.unwrap_err();
        assert!(why.contains(&format!("{name} is not the segment that was removed here")), "{why}");
        let found = kept.verified();
        assert!(faults(&found)[0].contains(&format!("{name} is not the segment")), "{found:?}");
    }
    fs::write(&first, whole).unwrap();
    kept.evidence(named[0]).await.unwrap();
    // What is left of a segment is held against the trees that go on.
    let remains = kept.path("log").join(remains_name(2));
    let mut changed = Remains::parse(&fs::read(&remains).unwrap().into()).unwrap();
    let right = changed.encode();
    *changed.trees[0].leaves.last_mut().unwrap() = changed.sha256;
    fs::write(&remains, changed.encode()).unwrap();
    assert!(faults(&kept.verified()).iter().any(|fault| fault.contains("0000000002.removed")));
    changed = Remains::parse(&right.into()).unwrap();
    changed.sha256 = changed.trees[0].leaves[0];
    fs::write(&remains, changed.encode()).unwrap();
    let told = faults(&kept.verified());
    assert!(
        told.iter().any(|fault| fault.contains("it says that segment 2 was taken out, with another hash")),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_segment_is_brought_back_by_who_can_open_it() {
    let (one, opens) = recipient();
    let id = one.id().to_string();
    let mut kept = Kept::new(vec![one]).await;
    let named = kept.old().await;
    let (evidence, number) = (kept.evidence(named[0]).await.unwrap(), kept.begins(named[0]));
    kept.removed().await;
    assert!(kept.is_contained().await);
    let why = kept.evidence(named[0]).await.unwrap_err();
    let fetch = format!("archive fetch fetched --from {number} --to {number}");
    assert!(why.contains(&segment_name(number)) && why.contains(&id) && why.contains(&fetch), "{why}");
    let found = kept.verified();
    assert_eq!(faults(&found), Vec::<String>::new());
    assert!(found.unread.is_some_and(|why| why.contains("encrypted")));
    // As the error says.
    let into = kept.path(FETCHED);
    fetched(kept.settings.store.clone(), &opens, &kept.path("audit"), into.clone()).await;
    assert!(kept.evidence(named[0]).await.unwrap() == evidence);
    let found = kept.verified();
    assert_eq!((faults(&found), found.unread), (Vec::new(), None));
    // What is put there by somebody else is not believed.
    fs::write(into.join(segment_name(number)), "another").unwrap();
    kept.restart().await;
    assert!(kept.evidence(named[0]).await.unwrap_err().contains("is not the segment that was removed here"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_over_or_not_in_the_archive_stays_and_is_told() {
    let mut kept = Kept::new(Vec::new()).await;
    kept.exchanged().await;
    // An exchange that runs: its opening stands in a segment that is full soon.
    let (say, says) = tokio::sync::mpsc::channel(4);
    say.send(said("first")).await.unwrap();
    let mut client = kept.world.client().await;
    let mut answers = client.both(tokio_stream::wrappers::ReceiverStream::new(says)).await.unwrap().into_inner();
    soon(answers.message()).await.unwrap();
    for _ in 0..12 {
        soon(kept.world.client().await.unary(said("kept"))).await.unwrap();
    }
    soon(kept.server().archive_segments()).await.unwrap();
    // By a clock that jumped ahead nothing is old.
    kept.world.set_time(kept.world.now().plus(DAY * 2));
    assert_eq!(kept.remove().await.unwrap(), 0);
    kept.later(Duration::ZERO);
    let why = kept.remove().await.unwrap_err().to_string();
    assert!(why.contains("has records in it and no end yet"), "{why}");
    let raised = async |kept: &Kept| {
        let server = kept.server();
        let looking = Arc::clone(&server);
        tokio::task::spawn_blocking(move || looking.look_around()).await.unwrap();
        server.health().raised.contains(&Alarm::SegmentsNotRemoved.as_str().to_owned())
    };
    assert!(!raised(&kept).await, "an hour is not over");
    kept.later(Duration::from_secs(3601));
    assert!(raised(&kept).await && kept.health().held.is_some_and(|told| told == why));
    drop(say);
    while soon(answers.message()).await.unwrap().is_some() {}
    kept.world.quiet().await;

    // Not what was archived, not there, not as long: it stays here.
    let (number, noted) = (finished(&kept.log()).unwrap()[0], kept.noted());
    let object = kept.objects().join(segment_name(number));
    let whole = fs::read(&object).unwrap();
    for changed in [Some(&whole[..whole.len() - 1]), Some(&b""[..]), None] {
        match changed {
            Some(changed) => fs::write(&object, changed).unwrap(),
            None => fs::remove_file(&object).unwrap(),
        }
        let why = kept.remove().await.unwrap_err().to_string();
        assert!(why.contains("something else is in") || why.contains("it is not in"), "{why}");
        assert_eq!((finished(&kept.log()).unwrap()[0], kept.noted()), (number, noted.clone()), "it was touched");
    }
    fs::write(&object, whole).unwrap();
    // What the log says of the removal may finish a segment that is old already: it is archived, and goes too.
    while kept.remove().await.is_err() {
        soon(kept.server().archive_segments()).await.unwrap();
    }
    assert!(removed(&kept.log()).unwrap().contains(&number));
    assert!(!raised(&kept).await && kept.health().held.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_timestamp_is_over_stays() {
    let mut kept = Kept::new(Vec::new()).await;
    let tsa = Tsa::serve(&kept.world, "tsa").await;
    tsa.goes_wrong(Fault::Refuses);
    kept.world.approve(vec![tsa.approved()]);
    kept.old().await;
    let why = kept.remove().await.unwrap_err().to_string();
    assert!(why.contains("no timestamp is over all of tree"), "{why}");
    tsa.goes_wrong(Fault::None);
    while soon(kept.server().stamp_the_heads()).await.unwrap() > 0 {}
    assert!(kept.remove().await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_a_peer_made_up_keeps_no_segment_here() {
    let mut kept = Kept::new(Vec::new()).await;
    let rogue = Rogue::of(&kept.world, "portal");
    let mut drafts = rogue.stream(&kept.world, &["first", "made up"]);
    let exchange = drafts[0].facts.exchange;
    // The end of the year 9999: it is disproved, and recorded as it came.
    drafts[1].facts.time = Time::from_millis(253_402_300_799_000);
    let mut sent = Vec::new();
    for draft in drafts {
        sent.extend_from_slice(&encode(&rogue.seal(draft).await));
    }
    soon(rogue.connect(&kept.world, "moj").await.call(rogue::exchange(), sent.into())).await;
    kept.world.quiet().await;
    let recorded = kept.world.log_of("moj", &exchange.to_string());
    assert!(recorded.iter().any(|line| line.kind == "withheld"), "{recorded:?}");
    let number = kept.begins(exchange);
    kept.old().await;
    kept.removed().await;
    assert!(removed(&kept.log()).unwrap().contains(&number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_said_while_a_timestamp_was_made_is_not_under_it() {
    let mut kept = Kept::new(Vec::new()).await;
    // The authority takes its time: it reads its clock when it is let, and that is later than all that is said meanwhile.
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (clock, released) = (kept.world.clock(), Mutex::new(released));
    let (first, later) = (AtomicUsize::new(0), Duration::from_secs(30));
    let slow = Arc::new(move || match first.fetch_add(1, Ordering::SeqCst) {
        // Its certificate.
        0 => clock(),
        _ => {
            let _ = asked.send(());
            let _ = tokio::task::block_in_place(|| released.lock().unwrap().recv());
            clock().plus(later)
        }
    });
    let tsa = Tsa::serve_under(&kept.world.authority, "tsa", slow).await;
    kept.world.approve(vec![tsa.approved()]);
    kept.exchanged().await;
    let server = kept.server();
    let stamping = tokio::spawn(async move { soon(server.stamp_the_heads()).await.map_err(|error| error.to_string()) });
    soon(is_asked.recv()).await.unwrap();
    let said = kept.exchanged().await;
    let number = kept.begins(said[7]);
    // From here on it answers at once, and then no more.
    release.send(()).unwrap();
    assert!(soon(stamping).await.unwrap().unwrap() > 0);
    tsa.goes_wrong(Fault::Refuses);
    drop(release);
    kept.old().await;
    let why = loop {
        match kept.remove().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(why) => break why.to_string(),
        }
    };
    assert!(why.contains("no timestamp is over all of tree"), "{why}");
    assert!(removed(&kept.log()).unwrap().iter().all(|removed| *removed < number), "{number} is gone: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_does_not_tell_of_was_taken_out_by_somebody_else() {
    let mut kept = Kept::new(Vec::new()).await;
    kept.old().await;
    kept.removed().await;
    kept.archived().await;
    assert_eq!(faults(&kept.verified()), Vec::<String>::new());
    // One more is taken out, with all that is computed from it beside it, and no word in the log.
    let number = finished(&kept.log()).unwrap()[0];
    let segment = journal::Finished::read(&kept.log(), number).unwrap();
    Remains::of(&segment, Vec::new().into()).unwrap().write(&kept.log()).unwrap();
    let (path, aside) = (kept.path("log").join(segment_name(number)), kept.place.path().join("taken"));
    fs::rename(&path, &aside).unwrap();
    let told = faults(&kept.verified());
    let what = format!("{}: segment {number} was removed, and the log does not say so", remains_name(number));
    assert!(told.iter().any(|fault| fault.contains(&what)), "{told:?}");
    fs::rename(&aside, &path).unwrap();
    assert_eq!(faults(&kept.verified()), Vec::<String>::new());
    // What the log tells of is still known.
    for number in removed(&kept.log()).unwrap() {
        fs::remove_file(kept.path("log").join(remains_name(number))).unwrap();
        let told = faults(&kept.verified());
        let what = format!("that segment {number} was taken out, and {} is not here", remains_name(number));
        assert!(told.iter().any(|fault| fault.contains(&what)), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_removes_so_many_and_the_next_goes_on() {
    let mut kept = Kept::new(Vec::new()).await;
    while finished(&kept.log()).unwrap().len() <= MAX_REMOVED_IN_A_PASS {
        kept.exchanged().await;
    }
    kept.old().await;
    let mut passes = Vec::new();
    while passes.last() != Some(&0) {
        passes.push(kept.remove().await.unwrap());
    }
    assert!(passes.len() > 1 && passes.iter().all(|removed| *removed <= MAX_REMOVED_IN_A_PASS), "{passes:?}");
    assert!(removed(&kept.log()).unwrap().len() > MAX_REMOVED_IN_A_PASS);
}

/// Fetches as the portal's server what the civil registry's sealed in an exchange.
async fn fetched_by(client: &mut Client, exchange: ExchangeId) -> Answer {
    let asked = wire::FetchRequest { exchange: exchange.as_bytes().to_vec().into() };
    let request = rogue::exchange().uri(format!("https://peer{FETCH_PATH}"));
    soon(client.call(request, raw::message(&asked))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_what_was_removed_and_goes_away_takes_no_more_threads_than_one() {
    let mut kept = Kept::new(Vec::new()).await;
    let named = kept.old().await;
    let number = kept.begins(named[0]);
    kept.removed().await;
    let here = kept.exchanged().await;
    // In memory nothing is left of what was read.
    kept.restart().await;
    // Where a segment is looked for first stands a pipe: who reads it waits until it is written.
    let pipe = kept.path(FETCHED).join(segment_name(number));
    fs::create_dir_all(kept.path(FETCHED)).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let portal = Rogue::of(&kept.world, "portal");
    let mut gone = portal.connect(&kept.world, "moj").await;
    let asked = named[0];
    let asking = tokio::spawn(async move { fetched_by(&mut gone, asked).await });
    let opened = pipe.clone();
    let hanging = soon(tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(opened))).await;
    let hanging = hanging.unwrap().unwrap();
    // It reads. Whoever asked dies.
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let mut client = portal.connect(&kept.world, "moj").await;
    let answer = fetched_by(&mut client, here[0]).await;
    assert!(answer.refusal().is_none() && !rogue::frames(&answer).is_empty(), "what is here is given");
    for _ in 0..20 {
        assert_eq!(fetched_by(&mut client, named[0]).await.refusal(), Some("TOO_MANY_EXCHANGES"));
    }
    // It gives nothing that is the segment.
    fs::remove_file(&pipe).unwrap();
    drop(hanging);
    let answered = async {
        loop {
            let answer = fetched_by(&mut client, named[0]).await;
            if answer.refusal() != Some("TOO_MANY_EXCHANGES") {
                return answer;
            }
        }
    };
    let answer = soon(answered).await;
    assert!(answer.refusal().is_none() && !rogue::frames(&answer).is_empty(), "{answer:?}");
    // What cannot be read is no fault of who asks.
    kept.restart().await;
    fs::remove_dir_all(kept.objects()).unwrap();
    let mut client = portal.connect(&kept.world, "moj").await;
    assert_eq!(fetched_by(&mut client, named[0]).await.refusal(), Some("NOT_READY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_silent_is_not_waited_for_longer_than_was_said() {
    let mut kept = Kept::new(Vec::new()).await;
    let number = kept.old().await.first().map(|exchange| kept.begins(*exchange)).unwrap();
    kept.removed().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    let place = Place::of("s3://evidence", endpoint, "us-east-1".into(), "environment").unwrap();
    let store = place.open_with(&kept.world.members["moj"].server, "id".into(), "secret".into());
    let history = History::of(Arc::new(kept.log()), Some(store), None).within(Duration::from_millis(20));
    let read = tokio::task::spawn_blocking(move || history.read(&segment_name(number)).unwrap_err().to_string());
    let why = soon(read).await.unwrap();
    assert!(why.contains("did not give it within 20ms") && why.contains("archive fetch"), "{why}");
}

/// A directory on which one operation fails, however often it is tried: what is there is what a crash before it leaves.
struct Stumbling {
    directory: Roomy,
    at: Arc<Mutex<Option<&'static str>>>,
    stumbled: Arc<AtomicUsize>,
}

impl Stumbling {
    fn stumbles(&self, operation: &str) -> io::Result<()> {
        if self.at.lock().unwrap().is_some_and(|at| operation.contains(at)) {
            self.stumbled.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::other("the test's disk fails here"));
        }
        Ok(())
    }
}

impl std::fmt::Display for Stumbling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.directory.fmt(f)
    }
}

impl Disk for Stumbling {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.directory.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.directory.read(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.stumbles(&format!("create {name}"))?;
        self.directory.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.stumbles(&format!("rename {to}"))?;
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.stumbles(&format!("remove {name}"))?;
        self.directory.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.stumbles("sync")?;
        self.directory.sync_directory()
    }

    fn space(&self) -> io::Result<Space> {
        self.directory.space()
    }
}

/// Each write of one removal on the disk of the log; what journal and disk do between them is tested where they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_between_any_two_steps_a_segment_is_there_or_gone_as_noted() {
    let mut kept = Kept::new(Vec::new()).await;
    let named = kept.old().await;
    let evidence = kept.evidence(named[0]).await.unwrap();
    let (at, stumbled) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
    let member = kept.world.members.get_mut("moj").unwrap();
    let directory = Roomy::at(kept.world.directory.path().join("moj").join("log"));
    member.log = Arc::new(Stumbling { directory, at: Arc::clone(&at), stumbled: Arc::clone(&stumbled) });
    kept.restart().await;
    let number = finished(&kept.log()).unwrap()[0];
    let steps =
        [("create 0000000001.removed", 0, 0), ("rename 0000000001.removed", 0, 0), ("remove 0000000001.segment", 1, 1)];
    for (step, noted, cut) in steps {
        *at.lock().unwrap() = Some(step);
        let before = stumbled.load(Ordering::SeqCst);
        kept.remove().await.unwrap_err();
        assert!(stumbled.load(Ordering::SeqCst) > before, "{step}");
        // The process that saw it dies; the next one finds the segment, and everything is answered.
        assert_eq!(finished(&kept.log()).unwrap()[0], number, "{step}");
        let told = kept.noted().into_iter().collect::<BTreeSet<_>>();
        assert_eq!((told.len(), kept.cuts()), (noted, cut), "{step}");
        kept.stopped(|_| *at.lock().unwrap() = None).await;
        assert_eq!(faults(&kept.verified()), Vec::<String>::new(), "{step}");
        assert!(kept.evidence(named[0]).await.unwrap() == evidence, "{step}");
    }
    soon(kept.server().archive_segments()).await.unwrap();
    kept.removed().await;
    let gone = removed(&kept.log()).unwrap();
    assert_eq!(kept.noted().into_iter().collect::<BTreeSet<_>>(), gone.iter().copied().collect());
    assert_eq!(kept.cuts(), gone.len(), "each is said once");
    assert_eq!(faults(&kept.verified()), Vec::<String>::new());
    assert!(kept.evidence(named[0]).await.unwrap() == evidence);
}
