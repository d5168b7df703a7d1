//! The tide of the global configuration: pushed, kept, and never gone back behind.
// A test tells what went wrong by panicking, wherever it does so.
#![allow(clippy::unwrap_used)]

#[path = "outages/held_time.rs"]
mod held_time;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use central_registry::publish::{Publication, RoleKeys, Thresholds, View};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::global_configuration::document::{INSTANCE_PATH, InstanceDocument, MemberDocument};
use proto::global_configuration::update::{Files, Rejected, TIMESTAMP};
use proto::global_configuration::{Freshness, Standing};
use proto::registration::Order;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::{File, Version, WatchRequest};
use registry_client::Fingerprint;
use rustls::pki_types::PrivateKeyDer;
use security_server::clock::Clock;
use security_server::global_configuration::{Applied, LONGEST_SILENCE, NotApplied, Registry, Store, StoreError, watch};
use tempfile::TempDir;
use tests::processes::{Member, reserved};
use tests::realm::Realm;
use tokio::net::TcpListener;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::held_time::HeldTime;

const NOW: Time = Time::from_millis(1_795_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
/// What may pass between publishing and being in force; a hundred times what is usual, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

// --- pushed

#[tokio::test]
async fn a_published_version_is_in_force_within_a_second_while_the_clock_stands_still() {
    let country = Country::founded();
    let registry = Pushing::start(&country).await;
    let server = Watching::start(&country, registry.registry());
    let mut versions = server.store.current().versions();
    registry.watched(1).await;
    let began = std::time::Instant::now();
    registry.publish(&country, "m1");
    tokio::time::timeout(SOON, versions.wait_for(|version| *version == 2)).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(server.store.current().load().members.contains_key(&"VN/GOV/m1".parse().unwrap()));
}

#[tokio::test]
async fn a_registry_that_was_gone_is_followed_again_from_where_it_was() {
    let country = Country::founded();
    let registry = Pushing::start(&country).await;
    let server = Watching::start(&country, registry.registry());
    let mut versions = server.store.current().versions();
    registry.watched(1).await;
    let stopped = registry.stop().await;
    assert_eq!(server.store.current().load().version, 1, "it goes on with what it has");
    stopped.publish(&country, "m1");
    stopped.publish(&country, "m2");
    let registry = stopped.start_again().await;
    tokio::time::timeout(SOON, versions.wait_for(|version| *version == 3)).await.unwrap().unwrap();
    assert_eq!(registry.asked(), [1, 1]);
}

/// Connected as it is, it may have forgotten its watchers, or a box in between may hold the line without a far end.
#[tokio::test]
async fn a_registry_that_says_nothing_for_minutes_is_asked_anew() {
    let time = HeldTime::begin();
    let country = Country::founded();
    let registry = Pushing::start(&country).await;
    let server = Watching::start(&country, registry.registry());
    let mut versions = server.store.current().versions();
    time.comes(registry.watched(1)).await;
    for _ in 0..LONGEST_SILENCE.as_secs() / 5 - 2 {
        time.pass(Duration::from_secs(5)).await;
    }
    assert_eq!(registry.asked(), [1], "not yet");
    // The silence is over; then it waits a moment, and on a busy machine its timers began late.
    for _ in 0..20 {
        if registry.asked().len() == 2 {
            break;
        }
        time.pass(Duration::from_secs(5)).await;
    }
    assert_eq!(registry.asked(), [1, 1]);
    registry.publish(&country, "m1");
    time.comes(versions.wait_for(|version| *version == 2)).await.unwrap();
}

#[tokio::test]
async fn a_version_with_a_file_missing_is_not_in_force_and_everything_is_asked_for() {
    let country = Country::founded();
    let registry = Pushing::start(&country).await;
    let server = Watching::start(&country, registry.registry());
    let mut versions = server.store.current().versions();
    registry.watched(1).await;
    registry.forget.lock().unwrap().replace("snapshot".into());
    registry.publish(&country, "m1");
    tokio::time::timeout(SOON, versions.wait_for(|version| *version == 2)).await.unwrap().unwrap();
    assert_eq!(registry.asked(), [1, 0]);
}

#[tokio::test]
async fn whoever_has_another_key_than_the_registry_is_not_listened_to() {
    let country = Country::founded();
    let registry = Pushing::start(&country).await;
    let stranger = Fingerprint(SigningKey::generate().0.public().id());
    let pinned = Registry { key: stranger, ..registry.registry() };
    let server = Watching::start(&country, pinned);
    registry.publish(&country, "m1");
    registry.connected(2).await;
    assert_eq!(registry.asked(), [] as [u64; 0], "no request is made of it");
    assert_eq!(server.store.current().load().version, 1);
}

// --- fetched

#[tokio::test]
async fn a_server_starts_and_takes_a_change_from_a_mirror_alone_while_the_registry_is_gone() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    drop(store);
    country.publish("m1");
    country.re_sign();
    let mirror = Serving::copy_of(&country).await;
    let joined = Store::open(directory.path()).unwrap();
    let server = Watching::alone_with((directory, joined), &[&mirror]);
    let mut versions = server.store.current().versions();
    tokio::time::timeout(SOON, versions.wait_for(|version| *version == 3)).await.unwrap().unwrap();
    country.publish("m2");
    mirror.copies(&country);
    tokio::time::timeout(SOON, versions.wait_for(|version| *version == 4)).await.unwrap().unwrap();
    let in_force = server.store.current().load();
    assert!(["m1", "m2"].iter().all(|name| in_force.members.contains_key(&format!("VN/GOV/{name}").parse().unwrap())));
    assert_eq!(server.store.current().refused(), None);
}

/// Only what a server lacks is fetched: a country's configuration is not fetched again for a change of one member.
#[tokio::test]
async fn of_a_mirror_only_what_changed_is_fetched() {
    let country = Country::founded();
    let joined = country.joined();
    let changed = country.publish("m1");
    let mirror = Serving::copy_of(&country).await;
    let server = Watching::alone_with(joined, &[&mirror]);
    let mut versions = server.store.current().versions();
    tokio::time::timeout(SOON, versions.wait_for(|version| *version == 2)).await.unwrap().unwrap();
    let mut fetched = mirror.asked.borrow().clone();
    fetched.truncate(changed.len() + 1);
    fetched.sort();
    let mut expected: Vec<_> = changed.into_keys().chain(["2.root.json".to_owned()]).collect();
    expected.sort();
    assert_eq!(fetched, expected);
}

#[tokio::test]
async fn a_mirror_that_is_old_mixed_or_tampering_is_refused_by_name_and_the_next_one_asked() {
    let country = Country::founded();
    let first = country.publication.borrow().files().clone();
    let second = country.publish("m1");
    country.publish("m2");
    let third = country.publication.borrow().files().clone();
    let name = |begins: &str, ends: &str| {
        third.keys().find(|name| name.starts_with(begins) && name.ends_with(ends)).unwrap().clone()
    };
    let (snapshot, bin, document) = (name("3.snapshot", ""), name("3.m-", ""), name("members/", ".m2.json"));
    let with = |file: &str, bytes: Bytes| {
        let mut files = third.clone();
        files.insert(file.to_owned(), bytes);
        files
    };
    let mut not_whole = third.clone();
    not_whole.remove(&document);
    let mut signed: serde_json::Value = serde_json::from_slice(&third[&bin]).unwrap();
    signed["signed"]["targets"][INSTANCE_PATH] = signed["signed"]["version"].clone();
    let tampered = serde_json::to_vec(&signed).unwrap();
    let longer = [&third[&document][..], b" "].concat();
    for (files, why) in [
        (first, "timestamp goes back from version 2 to 1".to_owned()),
        (with(&snapshot, second["2.snapshot.json"].clone()), format!("{snapshot} is not the file that was signed for")),
        (with(&bin, tampered.into()), format!("{bin} is no metadata of its kind")),
        (with(&document, longer.into()), format!("{document} is not the file that was signed for")),
        (not_whole, format!("{document} is named by the version and missing")),
    ] {
        let (directory, store) = country.joined_with(&second);
        let (bad, good) = (Serving::of(files).await, Serving::copy_of(&country).await);
        let server = Watching::alone_with((directory, store), &[&bad]);
        // When it is asked again, what it gave was judged.
        bad.asked_for_the_timestamp(2).await;
        let refused = server.store.current().refused().expect("it is told to operators");
        assert!(refused.starts_with(&format!("the mirror {} is refused: ", bad.place)), "{refused}");
        assert!(refused.contains(&why), "{refused} is not {why}");
        assert_eq!(server.store.current().load().version, 2, "{why}");
        drop(server);

        let server = Watching::alone_with(country.joined_with(&second), &[&bad, &good]);
        let mut versions = server.store.current().versions();
        tokio::time::timeout(SOON, versions.wait_for(|version| *version == 3)).await.unwrap().unwrap();
    }
}

/// The registry's own door for mirrors serves what it publishes, and nothing else.
#[tokio::test]
async fn a_server_that_cannot_reach_the_registry_follows_its_plain_files() {
    let mut realm = Realm::founded().await;
    let member = Member::new("portal", "one-stop");
    realm.join(&member, &[]).await;
    let path = realm.directory.path().join(member.file());
    let door = realm.registry().public().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let (reached, gone) = (realm.registry().address().to_string(), reserved().to_string());
    let text = text
        .replace(&format!("address = \"{reached}\""), &format!("address = \"{gone}\"\nmirrors = [\"http://{door}\"]"));
    assert!(text.contains("mirrors") && !text.contains(&reached));
    fs::write(&path, text).unwrap();
    realm.serve(&member).await;
    let version = realm.decided(Order::Suspend("VN/GOV/portal".parse().unwrap(), "a test".parse().unwrap())).await;
    realm.in_force(version).await;
    let in_force = realm.servers["portal"].server.store.current().load();
    assert_eq!(in_force.members[&"VN/GOV/portal".parse().unwrap()].standing, Standing::Suspended);
    for (method, path, status) in [
        ("GET", "/../keys/tls.pem", 404),
        ("GET", "/content/../keys/tls.pem", 404),
        ("GET", &format!("/content/00/{}", "0".repeat(64)), 404),
        ("GET", "/", 404),
        ("POST", "/timestamp.json", 405),
        ("HEAD", "/timestamp.json", 200),
    ] {
        assert_eq!(status_of(door, method, path).await, status, "{method} {path}");
    }
    realm.stops().await;
}

async fn status_of(door: SocketAddr, method: &str, path: &str) -> u16 {
    let stream = tokio::net::TcpStream::connect(door).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "registry");
    let answer = sender.send_request(request.body(http_body_util::Empty::<Bytes>::new()).unwrap()).await.unwrap();
    answer.status().as_u16()
}

// --- kept

#[test]
fn what_was_in_force_is_in_force_after_a_restart() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    let old = country.publication.borrow().files().clone();
    let changed = country.publish("m1");
    assert_eq!(store.apply(&changed, NOW).unwrap(), Applied::InForce(2));
    assert_eq!(store.apply(&changed, NOW).unwrap(), Applied::Known(2));
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.current().load().version, 2);
    assert!(matches!(
        store.apply(&old, NOW),
        Err(NotApplied::Rejected(Rejected::Rollback { trusted: 2, offered: 1, .. }))
    ));
    assert_eq!(store.current().load().freshness(NOW.plus(1000 * HOUR)), Freshness::Expired);
}

#[test]
fn a_rejected_version_changes_nothing_in_memory_or_on_disk() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    let before = listed(directory.path());
    let mut changed = country.publish("m1");
    changed.remove(&*changed.keys().find(|name| name.contains("snapshot")).unwrap().clone());
    assert!(matches!(store.apply(&changed, NOW), Err(NotApplied::Rejected(Rejected::Missing { .. }))));
    assert_eq!(listed(directory.path()), before);
    assert_eq!(store.current().load().version, 1);
}

#[test]
fn what_cannot_be_written_is_not_in_force() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    let changed = country.publish("m1");
    let away = directory.path().with_extension("away");
    fs::rename(directory.path(), &away).unwrap();
    let error = store.apply(&changed, NOW).unwrap_err();
    assert!(matches!(error, NotApplied::Store(StoreError::Write { .. })), "{error}");
    assert_eq!(store.current().load().version, 1);
    fs::rename(&away, directory.path()).unwrap();
    // Its files can be written, and the pointer to them cannot.
    fs::create_dir(directory.path().join("current.new")).unwrap();
    let error = store.apply(&changed, NOW).unwrap_err();
    assert!(matches!(error, NotApplied::Store(StoreError::Write { .. })), "{error}");
    assert_eq!(store.current().load().version, 1);
    fs::remove_dir(directory.path().join("current.new")).unwrap();
    assert_eq!(store.apply(&changed, NOW).unwrap(), Applied::InForce(2), "the disk is back");
}

#[test]
fn nothing_unreadable_is_ever_a_first_use() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    store.apply(&country.publish("m1"), NOW).unwrap();
    drop(store);
    let names: Vec<String> = listed(directory.path()).into_iter().filter(|name| name != "lock").collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let path = directory.path().join(&name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for broken in [None, Some(Vec::new()), Some(whole[..whole.len() / 2].to_vec()), Some(flipped)] {
            match &broken {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => fs::write(&path, bytes).unwrap(),
            }
            let error = Store::open(directory.path()).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
            assert!(error.to_string().contains("join again"), "{error}");
            fs::write(&path, &whole).unwrap();
        }
    }
    assert_eq!(Store::open(directory.path()).unwrap().current().load().version, 2);
}

#[test]
fn what_a_crash_left_behind_is_not_read_and_not_in_the_way() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    drop(store);
    // The pack of a version whose pointer was never renamed, torn, and the pointer half written.
    fs::write(directory.path().join("2.0.pack"), b"torn").unwrap();
    fs::write(directory.path().join("current.new"), b"0000").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.current().load().version, 1);
    fs::write(directory.path().join("2.0.pack"), b"torn").unwrap();
    assert_eq!(store.apply(&country.publish("m1"), NOW).unwrap(), Applied::InForce(2));
    drop(store);
    assert_eq!(Store::open(directory.path()).unwrap().current().load().version, 2);
}

#[test]
fn signing_again_every_minute_does_not_fill_the_directory() {
    let country = Country::founded();
    let (directory, store) = country.joined();
    for _ in 0..150 {
        store.apply(&country.re_sign(), NOW).unwrap();
        assert!(listed(directory.path()).len() <= 64 + 3);
    }
    drop(store);
    assert_eq!(Store::open(directory.path()).unwrap().current().load().version, 151);
}

#[test]
fn a_store_is_made_by_joining_only_and_once() {
    let country = Country::founded();
    let empty = TempDir::new().unwrap();
    assert!(matches!(Store::open(empty.path()).unwrap_err(), StoreError::NotJoined(_)));
    let (directory, store) = country.joined();
    assert!(matches!(Store::open(directory.path()).unwrap_err(), StoreError::InUse(_)));
    drop(store);
    let publication = country.publication.borrow().clone();
    let again = Store::create(directory.path(), publication.anchor().clone(), publication.files(), NOW);
    assert!(matches!(again.unwrap_err(), StoreError::Exists(_)));
    let late = Store::create(empty.path(), publication.anchor().clone(), publication.files(), NOW.plus(72 * HOUR));
    assert!(matches!(late.unwrap_err(), StoreError::First(Rejected::Expired { .. })));
    let mut torn = publication.files().clone();
    torn.remove(TIMESTAMP);
    let torn = Store::create(empty.path(), publication.anchor().clone(), &torn, NOW);
    assert!(matches!(torn.unwrap_err(), StoreError::First(Rejected::Missing { .. })));
}

fn listed(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

// --- the country

struct Country {
    keys: RoleKeys,
    view: Mutex<View>,
    publication: channel::Sender<Arc<Publication>>,
    first: Publication,
}

impl Country {
    fn founded() -> Arc<Self> {
        let key = || vec![SigningKey::generate().0];
        let keys = RoleKeys {
            root: key(),
            targets: key(),
            members: key(),
            catalogue: key(),
            revoked: key(),
            snapshot: key(),
            timestamp: key(),
        };
        let instance = InstanceDocument {
            instance: "VN".parse().unwrap(),
            name: "A country".into(),
            authorities: Vec::new(),
            timestamping: Vec::new(),
            purposes: Vec::new(),
        };
        let view = View { instance, members: vec![member("m0")], revoked: Vec::new(), catalogue: Vec::new() };
        let publication = Publication::first(&keys, &Thresholds::SANDBOX, &view, NOW).unwrap();
        let first = publication.clone();
        let publication = channel::Sender::new(Arc::new(publication));
        Arc::new(Country { keys, view: Mutex::new(view), publication, first })
    }

    fn joined(&self) -> (TempDir, Store) {
        let directory = TempDir::new().unwrap();
        let publication = self.publication.borrow().clone();
        let store = Store::create(directory.path(), publication.anchor().clone(), publication.files(), NOW).unwrap();
        (directory, store)
    }

    /// The same, with the next version in force.
    fn joined_with(&self, second: &Files) -> (TempDir, Store) {
        let (directory, store) = (TempDir::new().unwrap(), self.first.clone());
        let store = Store::create(directory.path(), store.anchor().clone(), store.files(), NOW).unwrap();
        assert_eq!(store.apply(second, NOW).unwrap(), Applied::InForce(2));
        (directory, store)
    }

    fn publish(&self, newcomer: &str) -> Files {
        let mut view = self.view.lock().unwrap();
        view.members.push(member(newcomer));
        let before = self.publication.borrow().clone();
        let (next, changed) = before.next(&self.keys, &view, NOW).unwrap();
        self.publication.send_replace(Arc::new(next));
        changed.into_iter().map(|file| (file.name, file.content)).collect()
    }

    fn re_sign(&self) -> Files {
        let before = self.publication.borrow().clone();
        let (next, changed) = before.re_signed(&self.keys, NOW).unwrap();
        self.publication.send_replace(Arc::new(next));
        changed.into_iter().map(|file| (file.name, file.content)).collect()
    }
}

fn member(name: &str) -> MemberDocument {
    MemberDocument {
        member: format!("VN/GOV/{name}").parse().unwrap(),
        name: format!("The agency {name}"),
        standing: Standing::Active,
        subsystems: Vec::new(),
        servers: Vec::new(),
        signing: Vec::new(),
    }
}

/// A security server's tide.
struct Watching {
    store: Arc<Store>,
    stop: CancellationToken,
    _directory: TempDir,
}

impl Watching {
    fn start(country: &Country, registry: Registry) -> Self {
        Self::from(country.joined(), registry, &[])
    }

    /// From what it joined with, while the registry cannot be reached.
    fn alone_with(joined: (TempDir, Store), mirrors: &[&Serving]) -> Self {
        let key = Fingerprint(SigningKey::generate().0.public().id());
        let registry = Registry { address: reserved().to_string().parse().unwrap(), key };
        Self::from(joined, registry, mirrors)
    }

    fn from((directory, store): (TempDir, Store), registry: Registry, mirrors: &[&Serving]) -> Self {
        let (store, stop) = (Arc::new(store), CancellationToken::new());
        let mirrors = mirrors.iter().map(|mirror| mirror.place.parse().unwrap()).collect();
        tokio::spawn(watch(registry, mirrors, Arc::clone(&store), Clock::from_fn(|| NOW), stop.clone()));
        Watching { store, stop, _directory: directory }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A mirror: a web server with files.
struct Serving {
    place: String,
    files: Arc<Mutex<Files>>,
    /// What was asked for, in order.
    asked: channel::Sender<Vec<String>>,
}

impl Serving {
    async fn copy_of(country: &Country) -> Self {
        Self::of(published(country)).await
    }

    async fn of(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("http://{}/causeway", listener.local_addr().unwrap());
        let (files, asked) = (Arc::new(Mutex::new(files)), channel::Sender::<Vec<String>>::default());
        let serving = Serving { place, files: Arc::clone(&files), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (files, asked) = (Arc::clone(&files), asked.clone());
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let name = request.uri().path().strip_prefix("/causeway/").unwrap().to_owned();
                    let found = files.lock().unwrap().get(&name).cloned();
                    asked.send_modify(|asked| asked.push(name));
                    let status = if found.is_some() { 200 } else { 404 };
                    let body = http_body_util::Full::new(found.unwrap_or_default());
                    std::future::ready(http::Response::builder().status(status).body(body))
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        serving
    }

    fn copies(&self, country: &Country) {
        *self.files.lock().unwrap() = published(country);
    }

    async fn asked_for_the_timestamp(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        let often = |asked: &Vec<String>| asked.iter().filter(|name| *name == TIMESTAMP).count() >= times;
        tokio::time::timeout(SOON, asked.wait_for(often)).await.unwrap().unwrap();
    }
}

/// What a registry has in its directory: the files, and the pages of the ledger.
fn published(country: &Country) -> Files {
    let publication = country.publication.borrow();
    let pages = publication.pages().into_iter().map(|file| (file.name, file.content));
    publication.files().clone().into_iter().chain(pages).collect()
}

/// A registry's door, with no more than the watch behind it, and faults of our choosing.
struct Pushing {
    country: Arc<Country>,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    key: Fingerprint,
    asked: channel::Sender<Vec<u64>>,
    connected: channel::Sender<usize>,
    /// Left out of the next push: files whose name holds this.
    forget: Arc<Mutex<Option<String>>>,
    running: JoinSet<()>,
}

impl Pushing {
    async fn start(country: &Arc<Country>) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let pinned = Fingerprint(proto::certificate::public_key(certificate.der()).unwrap().id());
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let pushing = Pushing {
            country: Arc::clone(country),
            address: ([127, 0, 0, 1], 0).into(),
            tls: Arc::new(tls),
            key: pinned,
            asked: channel::Sender::default(),
            connected: channel::Sender::default(),
            forget: Arc::default(),
            running: JoinSet::new(),
        };
        pushing.start_again().await
    }

    async fn start_again(mut self) -> Self {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.tls));
        let (country, asked, connected) = (Arc::clone(&self.country), self.asked.clone(), self.connected.clone());
        let forget = Arc::clone(&self.forget);
        self.running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connected) = (acceptor.clone(), connected.clone());
                let (country, asked, forget) = (Arc::clone(&country), asked.clone(), Arc::clone(&forget));
                connections.spawn(async move {
                    let handshake = acceptor.accept(stream).await;
                    connected.send_modify(|count| *count += 1);
                    let Ok(stream) = handshake else { return };
                    let service = hyper::service::service_fn(move |request| {
                        answer(Arc::clone(&country), asked.clone(), Arc::clone(&forget), request)
                    });
                    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        self
    }

    async fn stop(mut self) -> Self {
        self.running.shutdown().await;
        self
    }

    fn registry(&self) -> Registry {
        Registry { address: self.address.to_string().parse().unwrap(), key: self.key }
    }

    fn publish(&self, country: &Country, newcomer: &str) {
        country.publish(newcomer);
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.borrow().clone()
    }

    async fn watched(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| asked.len() >= times).await.unwrap();
    }

    async fn connected(&self, times: usize) {
        let mut connected = self.connected.subscribe();
        tokio::time::timeout(SOON, connected.wait_for(|count| *count >= times)).await.unwrap().unwrap();
    }
}

async fn answer(
    country: Arc<Country>,
    asked: channel::Sender<Vec<u64>>,
    forget: Arc<Mutex<Option<String>>>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<http_body_util::channel::Channel<Bytes>>, std::convert::Infallible> {
    assert_eq!(request.uri().path(), "/causeway.registry.v1.GlobalConfiguration/Watch");
    let mut body = request.into_body().collect().await.unwrap().to_bytes();
    body.advance(5);
    let mut version = WatchRequest::decode(body).unwrap().version;
    let (mut pushes, body) = http_body_util::channel::Channel::new(4);
    tokio::spawn(async move {
        let mut published = country.publication.subscribe();
        asked.send_modify(|asked| asked.push(version));
        loop {
            let newer = published.wait_for(|publication| publication.version() > version).await;
            let Ok(publication) = newer.map(|publication| Arc::clone(&publication)) else { return };
            let mut files = publication.since(version).to_vec();
            if let Some(part) = forget.lock().unwrap().take() {
                files.retain(|File { name, .. }| !name.contains(&part));
            }
            version = publication.version();
            let message = Version { version, files }.encode_to_vec();
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(message.len().try_into().unwrap());
            frame.put_slice(&message);
            if pushes.send_data(frame.freeze()).await.is_err() {
                return;
            }
        }
    });
    Ok(http::Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
