//! Finished segments of the message log are archived: each byte read back before it counts, nothing ever overwritten, nothing held
//! up while the store is away; and whatever somebody does to an archive is found, and where.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup::{Recipient, RecipientKey};
use bytes::Bytes;
use command_line::Exit;
use journal::{Directory, Finished, finished, segment_name};
use proto::digest::Digest;
use proto::record::Kind;
use proto::signature::SigningKey;
use security_server::archive::store::{MAX_OBJECT_BYTES, Place, Store};
use security_server::archive::{ALARM_AFTER, ArchiveHealth, NotArchived, NotRead, Reading, Settings, verify};
use security_server::audit::{Noted, archived};
use security_server::log_keys::LogKeys;
use security_server::lookout::Alarm;
use security_server::whole_log::Found;
use serde_json::Value;
use tests::echo::said;
use tests::programs::repository;
use tests::soon;
use tests::world::World;

/// A world in which the civil registry's server archives what it logs into a directory.
struct Archiving {
    world: World,
    place: tempfile::TempDir,
    settings: Settings,
}

impl Archiving {
    async fn new(recipients: Vec<Recipient>) -> Self {
        let (world, place) = (World::new().await, tempfile::tempdir().unwrap());
        let settings = Settings { store: directory(&world, place.path()), recipients, keep_local: None, fetched: None };
        let mut archiving = Self { world, place, settings };
        archiving.world.log_options.segment_bytes = 4096;
        archiving.restart().await;
        archiving
    }

    /// Stops the server and starts it again: with it a segment ends, and another begins.
    async fn restart(&mut self) {
        self.world.archive = Some(self.settings.clone());
        self.world.restart("moj").await;
    }

    /// Makes the log longer by some segments.
    async fn exchange(&mut self) {
        for _ in 0..6 {
            soon(self.world.client().await.unary(said("kept"))).await.unwrap();
        }
        self.world.quiet().await;
        self.restart().await;
    }

    async fn archive(&self) -> Result<usize, NotArchived> {
        let server = Arc::clone(&self.world.servers["moj"].server);
        server.archive_segments().await
    }

    fn health(&self) -> ArchiveHealth {
        self.world.servers["moj"].server.health().archive.unwrap()
    }

    /// The alarms of the archive that are raised.
    async fn raised(&self) -> Vec<String> {
        let server = Arc::clone(&self.world.servers["moj"].server);
        let looking = Arc::clone(&server);
        tokio::task::spawn_blocking(move || looking.look_around()).await.unwrap();
        let of_the_archive = [Alarm::LogNotArchived, Alarm::ArchiveDiffers].map(Alarm::as_str);
        server.health().raised.into_iter().filter(|alarm| of_the_archive.contains(&alarm.as_str())).collect()
    }

    fn log(&self) -> Directory {
        Directory(self.world.directory.path().join("moj/log"))
    }

    /// What the log has of a segment that is finished.
    fn segment(&self, number: u64) -> Vec<u8> {
        Finished::read(&self.log(), number).unwrap().bytes.to_vec()
    }

    fn finished(&self) -> Vec<u64> {
        finished(&self.log()).unwrap()
    }

    /// Where the archive's objects stand.
    fn objects(&self) -> PathBuf {
        objects(&self.world, self.place.path())
    }

    /// Encrypted objects of this segment that the audit log announces.
    fn announced(&self, number: u64) -> usize {
        let audit = Directory(self.world.directory.path().join("moj/audit"));
        let mut announced = 0;
        let mut see = |entry: journal::Entry| {
            let noted = (entry.record.kind() == Kind::Entry).then(|| serde_json::from_slice(&entry.record.body()).ok());
            if let Some(Some(Noted::Archiving { segment, .. })) = noted {
                announced += usize::from(segment == number);
            }
        };
        journal::read(&audit, None, &mut see).unwrap();
        announced
    }

    fn noted(&self) -> BTreeMap<u64, String> {
        let audit = Directory(self.world.directory.path().join("moj/audit"));
        archived(&audit, &self.settings.store.to()).unwrap()
    }

    async fn verified(&self, key: Option<&[u8]>) -> Result<Found, NotRead> {
        verified(&self.world, &self.settings.store, key, self.noted()).await
    }
}

fn objects(world: &World, place: &Path) -> PathBuf {
    place.join(world.members["moj"].server.to_string()).join("message-log")
}

fn directory(world: &World, place: &Path) -> Store {
    let place = Place::of(&format!("file://{}", place.display()), None, "us-east-1".into(), "environment").unwrap();
    place.open(&world.members["moj"].server).unwrap()
}

fn key(pkcs8: &[u8]) -> RecipientKey {
    RecipientKey::from_pkcs8(pkcs8).unwrap()
}

/// A recipient, and the private key that it keeps elsewhere.
fn recipient() -> (Recipient, Vec<u8>) {
    use base64::Engine;
    let (key, pkcs8) = SigningKey::generate();
    let der = base64::engine::general_purpose::STANDARD.encode(key.public().to_spki());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    (Recipient::from_pem(pem.as_bytes()).unwrap(), pkcs8)
}

async fn verified(
    world: &World,
    store: &Store,
    opens: Option<&[u8]>,
    noted: BTreeMap<u64, String>,
) -> Result<Found, NotRead> {
    let configuration = world.servers["moj"].server.store.current().load();
    let keys = LogKeys::of(&world.members["moj"].server, &configuration, []);
    let reading = Reading::of(store.clone(), opens.map(key), noted).await?;
    tokio::task::spawn_blocking(move || verify(&reading, &keys, &configuration)).await.unwrap()
}

fn faults(found: &Found) -> Vec<String> {
    found.faults.iter().map(|fault| format!("{}: {}", fault.place, fault.what)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_finished_is_archived_once_and_the_archive_holds_as_the_log_does() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    let numbers = archiving.finished();
    assert!(numbers.len() > 3, "{numbers:?}");
    let health = archiving.health();
    assert_eq!(
        (health.archived, health.waiting, health.failing, health.differs),
        (numbers.len() as u64, 0, None, None)
    );
    for number in &numbers {
        let there = fs::read(archiving.objects().join(segment_name(*number))).unwrap();
        assert!(there == archiving.segment(*number), "segment {number}");
        assert_eq!(archiving.noted()[number], Digest::of(&[&there]).to_string());
    }
    let last = archiving.finished().len() + 1;
    assert!(!archiving.objects().join(segment_name(last as u64)).exists(), "the last is still written to");
    let found = archiving.verified(None).await.unwrap();
    assert_eq!(faults(&found), Vec::<String>::new());
    assert_eq!((found.journal.segments, found.begins_late), (numbers.len() as u64, false));
    assert!(found.received >= 6 && found.sent >= 6 && found.closed >= 6, "{found:?}");

    // A start knows what is there, and writes none of it again.
    let inodes = |numbers: &[u64]| -> Vec<u64> {
        let inode = |number: &u64| fs::metadata(archiving.objects().join(segment_name(*number))).unwrap().ino();
        numbers.iter().map(inode).collect()
    };
    let before = inodes(&numbers);
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    assert_eq!(
        numbers
            .iter()
            .map(|number| fs::metadata(archiving.objects().join(segment_name(*number))).unwrap().ino())
            .collect::<Vec<_>>(),
        before
    );
    assert_eq!(archiving.health().archived, archiving.finished().len() as u64);
    assert!(archiving.finished().len() > numbers.len());
    assert_eq!(faults(&archiving.verified(None).await.unwrap()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_done_to_an_archive_is_found_and_where() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    let (numbers, place) = (archiving.finished(), archiving.objects());
    let noted = archiving.noted();
    let path = |number: u64| place.join(segment_name(number));
    let there: BTreeMap<u64, Vec<u8>> =
        numbers.iter().map(|number| (*number, fs::read(path(*number)).unwrap())).collect();
    let (world, store) = (&archiving.world, &archiving.settings.store);
    let judged = async |audited: bool| {
        let noted = if audited { noted.clone() } else { BTreeMap::new() };
        let found = verified(world, store, None, noted).await.unwrap();
        assert!(!found.faults.is_empty(), "nothing was found");
        faults(&found)
    };

    // Bits, of any segment. Without the audit log the log's own checks find and place each.
    let mut drawn = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: usize| {
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (drawn >> 33) as usize % below
    };
    for attempt in 0..500 {
        let number = numbers[draw(numbers.len())];
        let mut bytes = there[&number].clone();
        let (at, bit) = (draw(bytes.len()), draw(8));
        bytes[at] ^= 1 << bit;
        fs::write(path(number), &bytes).unwrap();
        let faults = judged(attempt % 2 == 0).await;
        fs::write(path(number), &there[&number]).unwrap();
        let name = segment_name(number);
        assert!(faults.iter().any(|fault| fault.contains(&name)), "bit {bit} of byte {at} of {name}: {faults:?}");
    }
    // Cut: any segment but the last is told by itself, the last by the audit log.
    for _ in 0..200 {
        let number = numbers[draw(numbers.len())];
        let length = draw(there[&number].len());
        fs::write(path(number), &there[&number][..length]).unwrap();
        let faults = judged(true).await;
        fs::write(path(number), &there[&number]).unwrap();
        assert!(faults.iter().any(|fault| fault.contains(&segment_name(number))), "{number} to {length}: {faults:?}");
    }
    // Spliced: the beginning of one and the end of another, or of itself with something left out or there twice.
    for attempt in 0..200 {
        let [one, other] = [(); 2].map(|()| numbers[draw(numbers.len())]);
        let (from, to) = (draw(there[&one].len()), draw(there[&other].len()));
        let spliced = [&there[&one][..from], &there[&other][to..]].concat();
        if spliced == there[&one] {
            continue;
        }
        fs::write(path(one), &spliced).unwrap();
        // What is cut by it from the end of the last nobody knows but the audit log.
        let faults = judged(one == numbers[numbers.len() - 1] || attempt % 2 == 0).await;
        fs::write(path(one), &there[&one]).unwrap();
        let told = faults.iter().any(|fault| fault.contains(&segment_name(one)));
        assert!(told, "{one} to {from}, then {other} from {to}: {faults:?}");
    }
    // Two swapped, whichever.
    for _ in 0..100 {
        let (one, other) = (draw(numbers.len()), draw(numbers.len() - 1));
        let mut pair = [numbers[one], numbers[if other < one { other } else { other + 1 }]];
        pair.sort_unstable();
        fs::write(path(pair[0]), &there[&pair[1]]).unwrap();
        fs::write(path(pair[1]), &there[&pair[0]]).unwrap();
        let faults = judged(false).await;
        assert!(faults[0].contains(&segment_name(pair[0])) && faults[0].contains("number"), "{faults:?}");
        for number in pair {
            fs::write(path(number), &there[&number]).unwrap();
        }
    }
    // One missing: the first, one between, the last.
    for number in &numbers {
        fs::remove_file(path(*number)).unwrap();
        let faults = judged(true).await;
        fs::write(path(*number), &there[number]).unwrap();
        assert!(faults.iter().any(|fault| fault.contains(&segment_name(*number))), "{number}: {faults:?}");
    }
    fs::remove_file(path(numbers[1])).unwrap();
    let faults = judged(false).await;
    fs::write(path(numbers[1]), &there[&numbers[1]]).unwrap();
    assert!(faults[0].contains(&segment_name(numbers[1])) && faults[0].contains("missing"), "{faults:?}");
    // One there twice, and something that is no segment.
    let twice = place.join(format!("{}.sealed", segment_name(2)));
    fs::write(&twice, &there[&2]).unwrap();
    assert!(judged_locked(&archiving).await.contains("is encrypted"), "nobody has a key for it");
    fs::remove_file(&twice).unwrap();
    fs::write(place.join("notes.txt"), "mine").unwrap();
    assert!(judged(true).await[0].contains("notes.txt: this is no segment's name"));
    fs::remove_file(place.join("notes.txt")).unwrap();
    assert_eq!(faults_of(&archiving).await, Vec::<String>::new());
}

async fn faults_of(archiving: &Archiving) -> Vec<String> {
    faults(&archiving.verified(None).await.unwrap())
}

/// Why it was not verified at all.
async fn judged_locked(archiving: &Archiving) -> String {
    archiving.verified(None).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_somebody_else_is_an_alarm_and_stays() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    let second = archiving.objects().join(segment_name(2));
    fs::create_dir_all(archiving.objects()).unwrap();
    let mut other = archiving.segment(2);
    *other.last_mut().unwrap() ^= 1;
    // As long as the segment, and a piece of it, as an upload that another program tore.
    for content in [&other[..], &other[..other.len() / 2], b""] {
        fs::write(&second, content).unwrap();
        let refused = archiving.archive().await.unwrap_err();
        assert!(matches!(&refused, NotArchived::Differs(what) if what.contains(&segment_name(2))), "{refused}");
        assert_eq!(fs::read(&second).unwrap(), content, "it was touched");
        let health = archiving.health();
        assert_eq!(
            (health.archived, health.waiting),
            (archiving.finished().len() as u64 - 1, 1),
            "the others are there"
        );
        assert!(health.differs.is_some_and(|what| what.contains("it was left as it is")));
        assert_eq!(archiving.raised().await, ["archive_differs"]);
    }
    // Longer than any segment: what is read of it has an end.
    let file = fs::File::create(&second).unwrap();
    file.set_len(MAX_OBJECT_BYTES + 1).unwrap();
    let refused = archiving.archive().await.unwrap_err();
    assert!(matches!(&refused, NotArchived::Differs(what) if what.contains("longer than any segment")), "{refused}");
    file.set_len(MAX_OBJECT_BYTES).unwrap();
    assert!(matches!(archiving.archive().await, Err(NotArchived::Differs(_))));
    // Somebody looked after it.
    fs::remove_file(&second).unwrap();
    archiving.archive().await.unwrap();
    assert_eq!((archiving.health().differs, archiving.raised().await), (None, Vec::new()));
    assert_eq!(faults_of(&archiving).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_too_long_holds_up_no_other() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    fs::create_dir_all(archiving.objects()).unwrap();
    let second = archiving.objects().join(segment_name(2));
    fs::File::create(&second).unwrap().set_len(MAX_OBJECT_BYTES + 1).unwrap();
    let refused = archiving.archive().await.unwrap_err();
    assert!(matches!(&refused, NotArchived::Differs(what) if what.contains(&segment_name(2))), "{refused}");
    let health = archiving.health();
    assert_eq!((health.archived, health.waiting, health.failing), (archiving.finished().len() as u64 - 1, 1, None));
    assert_eq!(archiving.raised().await, ["archive_differs"]);

    // Whoever verifies it is told of this object, and of what else is there.
    fs::write(archiving.objects().join("notes.txt"), "mine").unwrap();
    let found = faults_of(&archiving).await;
    assert!(found[0].contains("0000000002.segment: it is longer than any segment"), "{found:?}");
    assert!(found.iter().any(|fault| fault.contains("notes.txt: this is no segment's name")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_cannot_be_read_holds_up_no_other() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    fs::create_dir_all(archiving.objects()).unwrap();
    fs::write(archiving.objects().join(segment_name(3)), "of somebody else").unwrap();
    let log = archiving.world.directory.path().join("moj/log");
    let (path, segment) = (log.join(segment_name(2)), fs::read(log.join(segment_name(2))).unwrap());
    let mut damaged = segment.clone();
    damaged[segment.len() / 2] ^= 1;
    damaged[100] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let refused = archiving.archive().await.unwrap_err();
    assert!(matches!(&refused, NotArchived::Log(_)), "{refused}");
    let health = archiving.health();
    assert_eq!((health.archived, health.waiting), (archiving.finished().len() as u64 - 2, 2));
    assert!(health.failing.is_some_and(|why| why.contains(&segment_name(2))));
    assert!(health.differs.is_some_and(|what| what.contains(&segment_name(3))));
    fs::write(&path, &segment).unwrap();
    fs::remove_file(archiving.objects().join(segment_name(3))).unwrap();
    archiving.archive().await.unwrap();
    let health = archiving.health();
    assert_eq!((health.waiting, health.waiting_since, health.failing, health.differs), (0, None, None, None));

    // Nobody knows how many wait: since when is known all the same, and an alarm comes of it.
    fs::rename(&log, log.with_extension("away")).unwrap();
    let refused = archiving.archive().await.unwrap_err();
    assert!(matches!(&refused, NotArchived::Log(_)), "{refused}");
    fs::rename(log.with_extension("away"), &log).unwrap();
    assert!(archiving.health().waiting_since.is_some());
    archiving.archive().await.unwrap();
    assert_eq!(archiving.health().waiting_since, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_not_mounted_is_not_begun_anew() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    let (place, away) = (archiving.place.path().to_owned(), archiving.place.path().with_extension("away"));
    fs::rename(&place, &away).unwrap();
    fs::create_dir(&place).unwrap();
    archiving.exchange().await;
    let refused = archiving.archive().await.unwrap_err();
    assert!(
        matches!(refused, NotArchived::Store(_)) && refused.to_string().contains("mount what it stands on"),
        "{refused}"
    );
    // The doctor's word does not make it look begun.
    assert!(!archiving.settings.store.try_out().await.unwrap());
    assert!(archiving.archive().await.is_err());
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "something was begun there");
    let since = archiving.world.now();
    archiving.world.set_time(since.plus(ALARM_AFTER + Duration::from_millis(1)));
    assert_eq!(archiving.raised().await, ["log_not_archived"]);

    fs::remove_dir(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    archiving.archive().await.unwrap();
    assert_eq!(archiving.raised().await, Vec::<String>::new());
    assert_eq!(faults_of(&archiving).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_from_an_archive_is_told_from_what_never_was_there() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    let (into, store, mut noted) = (tempfile::tempdir().unwrap(), archiving.settings.store.clone(), archiving.noted());
    noted.remove(&3);
    fs::remove_file(archiving.objects().join(segment_name(2))).unwrap();
    let reading = Reading::of(store.clone(), None, noted.clone()).await.unwrap();
    assert_eq!(reading.numbers(1, 3).into_iter().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(reading.gone(1, 3).into_iter().collect::<Vec<_>>(), [2]);
    assert!(reading.gone(3, u64::MAX).is_empty() && reading.is_noted(1) && !reading.is_noted(3));
    let directory = into.path().to_owned();
    let fetched = tokio::task::spawn_blocking(move || {
        let gone = reading.fetch(2, &directory).unwrap_err();
        assert!(matches!(gone, NotRead::Gone(_)) && gone.exit() == Exit::EvidenceInvalid, "{gone}");
        let never = reading.fetch(99, &directory).unwrap_err();
        assert!(matches!(never, NotRead::Missing(_)) && never.exit() == Exit::NotFound, "{never}");
        reading.fetch(3, &directory).unwrap();
    });
    fetched.await.unwrap();

    // A store that fails in the middle: what was found before is told.
    let configuration = archiving.world.servers["moj"].server.store.current().load();
    let keys = LogKeys::of(&archiving.world.members["moj"].server, &configuration, []);
    let last = segment_name(*noted.last_key_value().unwrap().0);
    fs::write(archiving.objects().join(segment_name(2)), archiving.segment(2)).unwrap();
    fs::remove_file(archiving.objects().join(&last)).unwrap();
    let reading = Reading::of(store, None, noted).await.unwrap();
    fs::remove_file(archiving.objects().join(segment_name(1))).unwrap();
    let found = tokio::task::spawn_blocking(move || verify(&reading, &keys, &configuration)).await.unwrap().unwrap();
    let found = faults(&found);
    assert!(found[0].contains("it was not read to its end"), "{found:?}");
    assert!(found.iter().any(|fault| fault.contains(&format!("{last}: the audit log says"))), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_nothing_more_adds_nothing_to_the_audit_log_and_what_differs_is_read_once() {
    let mut archiving = Archiving::new(vec![recipient().0]).await;
    archiving.exchange().await;
    archiving.exchange().await;
    assert!(archiving.finished().len() > 4);
    let (address, gotten) = bad_store_and_what_it_was_asked(StoreFault::IsFull).await;
    let endpoint = Some(format!("http://{address}"));
    let place = Place::of("s3://evidence", endpoint, "us-east-1".into(), "environment").unwrap();
    archiving.settings.store = place.open_with(&archiving.world.members["moj"].server, "id".into(), "secret".into());
    archiving.restart().await;
    for attempt in 0..3 {
        let refused = archiving.archive().await.unwrap_err();
        assert!(matches!(refused, NotArchived::Store(_)), "{refused}");
        let health = archiving.health();
        assert!(health.failing.is_some(), "{health:?}");
        assert!(health.differs.is_some_and(|what| what.contains(&segment_name(2))), "attempt {attempt}");
        assert_eq!(health.archived, 2, "attempt {attempt}");
        assert_eq!([1, 2, 3, 4, 5].map(|number| archiving.announced(number)), [1, 1, 1, 1, 0], "attempt {attempt}");
    }
    assert_eq!(archiving.raised().await, ["archive_differs"]);
    let second = format!("{}.sealed", segment_name(2));
    let gotten = gotten.lock().unwrap().iter().filter(|name| name.ends_with(&second)).count();
    // Before it was put, after it, and when it was found to be no other than it was.
    assert_eq!(gotten, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_overwrites_is_no_archive() {
    let address = bad_store(StoreFault::None).await;
    let endpoint = Some(format!("http://{address}"));
    let place = Place::of("s3://evidence", endpoint, "us-east-1".into(), "environment").unwrap();
    let store = place.open_with(&"VN/GOV/moj/ss1".parse().unwrap(), "id".into(), "secret".into());
    let refused = store.try_out().await.unwrap_err();
    assert!(refused.to_string().contains("it overwrites what is there"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_holds_up_nothing_and_what_waited_is_archived_when_it_is_back() {
    let mut archiving = Archiving::new(Vec::new()).await;
    let away = archiving.place.path().with_extension("away");
    fs::rename(archiving.place.path(), &away).unwrap();
    archiving.exchange().await;
    let refused = archiving.archive().await.unwrap_err();
    assert!(refused.to_string().contains("nothing is made in its place"), "{refused}");
    let health = archiving.health();
    assert!(
        health.waiting > 0 && health.archived == 0 && health.waiting_since.is_some() && health.failing.is_some(),
        "{health:?}"
    );
    assert_eq!(archiving.raised().await, Vec::<String>::new());
    assert!(!archiving.place.path().exists(), "a directory was made in place of the one that is not mounted");
    let since = archiving.world.now();
    archiving.world.set_time(since.plus(ALARM_AFTER));
    assert_eq!(archiving.raised().await, Vec::<String>::new());
    archiving.world.set_time(since.plus(ALARM_AFTER + Duration::from_millis(1)));
    assert_eq!(archiving.raised().await, ["log_not_archived"]);
    archiving.world.publish(|_| {}, Vec::new());
    soon(archiving.world.client().await.unary(said("exchanges go on"))).await.unwrap();
    archiving.world.quiet().await;

    fs::rename(&away, archiving.place.path()).unwrap();
    archiving.archive().await.unwrap();
    let health = archiving.health();
    assert_eq!((health.waiting, health.waiting_since, health.failing), (0, None, None));
    assert_eq!(archiving.raised().await, Vec::<String>::new());
    assert_eq!(faults_of(&archiving).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_between_any_two_writes_knows_its_own_objects_again() {
    let ((public, opens), (other, _)) = (recipient(), recipient());
    let mut archiving = Archiving::new(vec![public, other]).await;
    archiving.exchange().await;
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    let numbers = archiving.finished();

    // The same log, into another archive: what a kill leaves there is put there by hand.
    let (encrypted, second) = (archiving.objects(), tempfile::tempdir().unwrap());
    let store = directory(&archiving.world, second.path());
    let place = objects(&archiving.world, second.path());
    fs::create_dir_all(&place).unwrap();
    let sealed = |number: u64| format!("{}.sealed", segment_name(number));
    let noted = archiving.noted();
    let announce = |number: u64, object_sha256: String| Noted::Archiving {
        at: archiving.world.now().as_millis(),
        to: store.to(),
        segment: number,
        sha256: noted[&number].clone(),
        object_sha256,
    };
    let audit = Arc::clone(&archiving.world.servers["moj"].server.audit);
    // Announced, and not put; before that, once more.
    for lost in ["00", "01"] {
        audit.note(&announce(1, lost.repeat(32))).await.unwrap();
    }
    // Announced and put, and not noted; a try before that was never put.
    let object = fs::read(encrypted.join(sealed(2))).unwrap();
    audit.note(&announce(2, "02".repeat(32))).await.unwrap();
    audit.note(&announce(2, Digest::of(&[&object]).to_string())).await.unwrap();
    fs::write(place.join(sealed(2)), &object).unwrap();
    // Not encrypted, put, and not noted: the setting came after it.
    fs::write(place.join(segment_name(3)), archiving.segment(3)).unwrap();
    // Half of it written, before it had its name.
    fs::write(place.join(format!("{}#1", sealed(4))), b"half").unwrap();
    // Encrypted, and announced by nobody.
    fs::write(place.join(sealed(5)), fs::read(encrypted.join(sealed(5))).unwrap()).unwrap();
    drop(audit);

    archiving.settings.store = store;
    archiving.restart().await;
    let refused = archiving.archive().await.unwrap_err();
    assert!(matches!(&refused, NotArchived::Differs(what) if what.contains(&sealed(5))), "{refused}");
    assert_eq!(fs::read(place.join(sealed(2))).unwrap(), object, "it was written again");
    assert!(!place.join(sealed(3)).exists(), "it is there twice");
    fs::remove_file(place.join(sealed(5))).unwrap();
    archiving.archive().await.unwrap();
    for number in numbers {
        assert!(place.join(sealed(number)).exists() || number == 3, "segment {number}");
    }
    assert_eq!(faults(&archiving.verified(Some(&opens)).await.unwrap()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_archive_is_read_by_its_recipients_only_and_no_byte_of_it_can_change() {
    let ((one, one_opens), (two, two_opens), (_, stranger)) = (recipient(), recipient(), recipient());
    let mut archiving = Archiving::new(vec![one, two]).await;
    archiving.exchange().await;
    archiving.archive().await.unwrap();
    let path = archiving.objects().join(format!("{}.sealed", segment_name(2)));
    let object = fs::read(&path).unwrap();
    let segment = archiving.segment(2);
    assert!(!object.windows(64).any(|window| window == &segment[100..164]), "it stands there in clear");
    for opens in [&one_opens, &two_opens] {
        assert_eq!(faults(&archiving.verified(Some(opens)).await.unwrap()), Vec::<String>::new());
    }
    let refused = archiving.verified(None).await.unwrap_err();
    assert!(matches!(refused, NotRead::Encrypted(_)), "{refused}");
    let found = faults(&archiving.verified(Some(&stranger)).await.unwrap());
    assert!(found[0].contains(".segment.sealed: it is not for the key"), "{found:?}");
    for at in [0, 20, 21, 60, 130, 200, 300, object.len() / 2, object.len() - 1] {
        let mut changed = object.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let found = faults(&archiving.verified(Some(&one_opens)).await.unwrap());
        assert!(found.iter().any(|fault| fault.contains("0000000002.segment.sealed")), "byte {at}: {found:?}");
    }
    // Another segment, which its recipient may read, under this one's name.
    fs::copy(archiving.objects().join(format!("{}.sealed", segment_name(3))), &path).unwrap();
    let found = faults(&archiving.verified(Some(&one_opens)).await.unwrap());
    assert!(found[0].contains("0000000002.segment.sealed") && found[0].contains("does not hold"), "{found:?}");
    fs::write(&path, &object).unwrap();

    // Brought back, it is the log's own file.
    let (into, store, noted) = (tempfile::tempdir().unwrap(), archiving.settings.store.clone(), archiving.noted());
    let reading = Reading::of(store, Some(key(&two_opens)), noted).await.unwrap();
    let directory = into.path().to_owned();
    let fetched = tokio::task::spawn_blocking(move || {
        for number in reading.numbers(1, 3) {
            reading.fetch(number, &directory).unwrap();
            // A second time there is nothing to do.
            reading.fetch(number, &directory).unwrap();
        }
        fs::write(directory.join(segment_name(1)), b"another").unwrap();
        let refused = reading.fetch(1, &directory).unwrap_err();
        assert!(matches!(refused, NotRead::Other(_)), "{refused}");
        assert!(matches!(reading.fetch(99, &directory), Err(NotRead::Missing(_))));
    });
    fetched.await.unwrap();
    for number in [2, 3] {
        assert_eq!(fs::read(into.path().join(segment_name(number))).unwrap(), archiving.segment(number));
    }
    assert_eq!(fs::read(into.path().join(segment_name(1))).unwrap(), b"another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_holds_an_archive_and_says_what_is_wrong_with_the_way_to_it() {
    let moto = Moto::start();
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    let server = archiving.world.members["moj"].server.clone();
    let at = |to: &str, endpoint: &str, secret: &str| {
        let place = Place::of(to, Some(endpoint.to_owned()), "us-east-1".into(), "environment").unwrap();
        place.open_with(&server, moto.id.clone(), secret.to_owned())
    };
    let gone = tests::processes::reserved();
    for (store, said) in [
        (at("s3://evidence/vn", &moto.address, "wrong"), "refuses these credentials"),
        (at("s3://nowhere/vn", &moto.address, &moto.secret), "make the bucket"),
        (at("s3://evidence/vn", &format!("http://{gone}"), &moto.secret), "is it reachable"),
    ] {
        archiving.settings.store = store.clone();
        archiving.restart().await;
        let refused = archiving.archive().await.unwrap_err();
        assert!(matches!(refused, NotArchived::Store(_)) && refused.to_string().contains(said), "{refused}");
        assert!(!refused.to_string().contains(&moto.secret) && !refused.to_string().contains('\n'), "{refused}");
        assert!(archiving.health().failing.is_some_and(|why| why.contains(said)));
        soon(archiving.world.client().await.unary(said_all())).await.unwrap();
        archiving.world.quiet().await;
        let refused = store.try_out().await.unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
    }
    // The store is back, as the credentials and the bucket are.
    archiving.settings.store = at("s3://evidence/vn", &moto.address, &moto.secret);
    archiving.restart().await;
    archiving.archive().await.unwrap();
    assert_eq!(archiving.health().archived, archiving.finished().len() as u64);
    assert_eq!(faults_of(&archiving).await, Vec::<String>::new());
    let store = &archiving.settings.store;
    assert!(!store.try_out().await.unwrap(), "the word was removed");
    let listed: Vec<_> = store.list().await.unwrap().into_iter().filter_map(|object| object.segment).collect();
    assert_eq!(listed, archiving.finished());

    // Another log of the same name, as a server that was put back in part has it, does not write over this one.
    let mut other = Archiving::new(Vec::new()).await;
    other.settings.store = archiving.settings.store.clone();
    other.restart().await;
    other.exchange().await;
    assert!(matches!(other.archive().await, Err(NotArchived::Differs(_))));
    assert_eq!(faults_of(&archiving).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_gives_back_is_compared_before_it_counts() {
    let mut archiving = Archiving::new(Vec::new()).await;
    archiving.exchange().await;
    for (fault, said) in [
        (StoreFault::Changes, "is not what was written"),
        (StoreFault::Cuts, "is not what was written"),
        (StoreFault::Loses, "is not there"),
    ] {
        let address = bad_store(fault).await;
        let endpoint = Some(format!("http://{address}"));
        let place = Place::of("s3://evidence", endpoint, "us-east-1".into(), "environment").unwrap();
        let server = &archiving.world.members["moj"].server;
        archiving.settings.store = place.open_with(server, "id".into(), "secret".into());
        archiving.restart().await;
        let refused = archiving.archive().await.unwrap_err();
        assert!(matches!(&refused, NotArchived::Differs(what) if what.contains(said)), "{fault:?}: {refused}");
        assert_eq!(archiving.health().archived, 0, "{fault:?}");
        assert_eq!(archiving.raised().await, ["archive_differs"]);
        assert!(archiving.noted().is_empty(), "{fault:?}");
    }
    // One that keeps what it is given, by the same code: it counts.
    let address = bad_store(StoreFault::None).await;
    let endpoint = Some(format!("http://{address}"));
    let place = Place::of("s3://evidence", endpoint, "us-east-1".into(), "environment").unwrap();
    archiving.settings.store = place.open_with(&archiving.world.members["moj"].server, "id".into(), "secret".into());
    archiving.restart().await;
    archiving.archive().await.unwrap();
    assert_eq!(archiving.health().archived, archiving.finished().len() as u64);
}

#[derive(Clone, Copy, Debug)]
enum StoreFault {
    None,
    Changes,
    Cuts,
    Loses,
    /// It changes the second segment, and takes the fourth not at all.
    IsFull,
}

/// A store that takes what is put under a new name, and gives something else back.
async fn bad_store(fault: StoreFault) -> std::net::SocketAddr {
    bad_store_and_what_it_was_asked(fault).await.0
}

/// The same, and the names of the objects that were read wholly.
async fn bad_store_and_what_it_was_asked(fault: StoreFault) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    use http_body_util::{BodyExt, Full};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
    let gotten: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = Arc::clone(&gotten);
    async fn answer(
        fault: StoreFault,
        request: http::Request<hyper::body::Incoming>,
        kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    ) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
        let (name, method) = (request.uri().path().to_owned(), request.method().clone());
        let is_new = request.headers().get("if-none-match").is_some_and(|value| value == "*");
        let response =
            http::Response::builder().header("etag", "\"1\"").header("last-modified", "Sun, 22 Nov 2026 10:00:00 GMT");
        let empty = |status: u16| http::Response::builder().status(status).body(Full::new(Bytes::new())).unwrap();
        let answered = if method == http::Method::PUT {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            // Whoever would overwrite is refused.
            if !is_new {
                return Ok(empty(400));
            }
            if matches!(fault, StoreFault::IsFull) && name.contains(&segment_name(4)) {
                return Ok(empty(507));
            }
            kept.lock().unwrap().insert(name, body.to_vec());
            response.body(Full::new(Bytes::new())).unwrap()
        } else {
            let Some(mut body) = kept.lock().unwrap().get(&name).cloned() else { return Ok(empty(404)) };
            match fault {
                StoreFault::None => {}
                StoreFault::Changes => *body.last_mut().unwrap() ^= 1,
                StoreFault::Cuts => body.truncate(body.len() - 1),
                StoreFault::Loses => return Ok(empty(404)),
                StoreFault::IsFull if name.contains(&segment_name(2)) => *body.last_mut().unwrap() ^= 1,
                StoreFault::IsFull => {}
            }
            response.header("content-length", body.len()).body(Full::new(body.into())).unwrap()
        };
        Ok(answered)
    }
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (kept, asked) = (Arc::clone(&kept), Arc::clone(&asked));
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                if request.method() == http::Method::GET {
                    asked.lock().unwrap().push(request.uri().path().to_owned());
                }
                answer(fault, request, Arc::clone(&kept))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (address, gotten)
}

fn said_all() -> tests::wire::Said {
    said("exchanges go on")
}

/// An S3 store that is none of ours. It ends with the test.
struct Moto {
    address: String,
    id: String,
    secret: String,
    child: Child,
}

impl Moto {
    fn start() -> Self {
        let program = repository().join("tests/python/s3.py");
        let mut command = std::process::Command::new(environment().join("bin/python"));
        command.arg(program).arg("{}").env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let told = |key: &str| told[key].as_str().unwrap().to_owned();
        Self { address: told("address"), id: told("id"), secret: told("secret"), child }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The virtual environment with the store in it, made once in the target directory and kept. Whoever holds the lock makes it; its
/// last file is a copy of the requirements, so one that a crash left half made, or made of others, is made again.
fn environment() -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python-s3");
    let requirements = repository().join("tests/python/s3-requirements.txt");
    let (wanted, made_of) = (fs::read(&requirements).unwrap(), environment.join("made-of.txt"));
    let lock = fs::File::create(environment.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !fs::read(&made_of).is_ok_and(|made| made == wanted) {
        let run = |command: &mut std::process::Command| {
            let ran = command.output().unwrap();
            assert!(
                ran.status.success(),
                "this test needs Python with venv, and a package index, and is never skipped: {}",
                String::from_utf8_lossy(&ran.stderr)
            );
        };
        run(std::process::Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
        run(std::process::Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--only-binary", ":all:", "--requirement"])
            .arg(&requirements));
        fs::write(made_of, wanted).unwrap();
    }
    environment
}
