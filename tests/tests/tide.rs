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
use proto::global_configuration::document::{InstanceDocument, MemberDocument};
use proto::global_configuration::update::{Files, Rejected, TIMESTAMP};
use proto::global_configuration::{Freshness, Standing};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::{File, Version, WatchRequest};
use registry_client::Fingerprint;
use rustls::pki_types::PrivateKeyDer;
use security_server::clock::Clock;
use security_server::global_configuration::{Applied, LONGEST_SILENCE, NotApplied, Registry, Store, StoreError, watch};
use tempfile::TempDir;
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
        let instance =
            InstanceDocument { instance: "VN".parse().unwrap(), name: "A country".into(), authorities: Vec::new() };
        let view = View { instance, members: vec![member("m0")], revoked: Vec::new(), catalogue: Vec::new() };
        let publication = Publication::first(&keys, &Thresholds::SANDBOX, &view, NOW).unwrap();
        Arc::new(Country { keys, view: Mutex::new(view), publication: channel::Sender::new(Arc::new(publication)) })
    }

    fn joined(&self) -> (TempDir, Store) {
        let directory = TempDir::new().unwrap();
        let publication = self.publication.borrow().clone();
        let store = Store::create(directory.path(), publication.anchor().clone(), publication.files(), NOW).unwrap();
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
        let (directory, store) = country.joined();
        let (store, stop) = (Arc::new(store), CancellationToken::new());
        tokio::spawn(watch(registry, Arc::clone(&store), Clock::from_fn(|| NOW), stop.clone()));
        Watching { store, stop, _directory: directory }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.cancel();
    }
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
            let mut files = publication.since(version);
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
