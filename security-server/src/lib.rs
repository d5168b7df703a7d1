//! A member's door to every other member: seals, records and relays its messages, and lets in only what is proven,
//! granted and addressed to it.
//!
//! Read `exchange.rs` first: it is the life of one exchange, in order. Everything else hangs off it.

pub mod accepted_clock;
pub mod access_requests;
pub mod access_rights;
pub mod announce;
pub mod archive;
pub mod asking;
pub mod audit;
pub mod authenticate;
pub mod authorize;
pub mod backup;
mod body;
pub mod clock;

pub mod config;
pub mod disclosures;
pub mod doctor;
pub mod evidence;
pub mod exchange;
mod fields;
mod files;
pub mod flow;
pub mod forward;
mod gathered_writes;
pub mod global_configuration;
mod granted_fields;
pub mod in_process;
pub mod join;
mod json_service;
pub mod keys;
pub mod operate;
pub mod oversight;
pub mod payloads;

pub mod lanes;
pub mod limits;
pub mod listen;
pub mod listings;
pub mod log_keys;
pub mod lookout;
pub mod message_log;
pub mod moment;
pub mod names;
pub mod quota;
pub mod refusal;
pub mod relay;
pub mod renewal;
mod request;
pub mod resolve;
mod rest;
mod running;
pub mod services;
pub mod shown;
pub mod snippet;
pub mod spread_grants;
pub mod stamping;
pub mod subjects;
pub mod tls;
pub mod traffic;
pub mod usage;
pub mod verify;
pub mod way;
pub mod whole_log;
pub mod witness;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::contradiction::ContradictionFile;
use proto::identifier::{ExchangeId, MemberId, ServerId};
use proto::refusal::Code;
use proto::signature::{KeyId, SigningKey};
use proto::time::Time;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::running::Running;

use crate::access_rights::AccessRights;
use crate::archive::{ANSWERS_WITHIN, Archive, History};
use crate::audit::{AuditLog, Noted};
use crate::authenticate::Clients;
use crate::clock::Clock;
use crate::flow::{Flow, OfOne};
use crate::global_configuration::{Current, Mirror, Registry, Store};
use crate::lanes::Lanes;
use crate::limits::Limits;
use crate::listen::clients::health::Places;
use crate::listen::clients::json::{self, Translation};
use crate::listen::clients::xroad::AssignedPurpose;
use crate::listen::clients::{Bindings, Door};
use crate::listen::{MAX_EXCHANGES, MAX_EXCHANGES_OF_PEER, MAX_FETCHES, MAX_FETCHES_ELSEWHERE, Permit};
use crate::lookout::{DiskMarks, Lookout};
use crate::message_log::{Index, MessageLog};
use crate::names::Names;
use crate::oversight::Oversight;
use crate::payloads::Payloads;
use crate::quota::{OfClients, Quotas, Share, Shares};
use crate::refusal::BareRefusal;
use crate::relay::Peers;
use crate::renewal::Renewal;
use crate::services::Services;
use crate::stamping::{Stamping, ToleratedOutage};
use crate::subjects::Subjects;
use crate::tls::{Own, PeerTls};
use crate::verify::VerifiedHeads;
use crate::witness::Witness;

/// How long running exchanges may go on after a shutdown was asked for.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the index of the message log is caught up where nobody asks for it.
pub const INDEX_INTERVAL: Duration = Duration::from_secs(60);

/// A security server, as its exchanges see it.
pub struct SecurityServer {
    /// Its name.
    pub id: ServerId,
    /// Our own systems.
    pub clients: Clients,
    /// Our own services.
    pub services: Services,
    /// gRPC services whose provider is bound.
    pub bindings: Bindings,
    /// Who may call what of ours.
    pub access_rights: AccessRights,
    /// Who changed what here, and what was noticed of others.
    pub audit: Arc<AuditLog>,
    /// What peers may make us write.
    pub quotas: Quotas,
    /// How often peers may ask how our log goes on.
    pub(crate) questions: Quotas,
    /// Of each peer: how often it is asked for its checkpoints because of what it names.
    pub(crate) views_asked: Quotas,
    /// How often peers may ask for access, and what became of it.
    pub(crate) requests: Quotas,
    /// Of each peer: questions what is allowed.
    pub(crate) allowances: Quotas,
    /// Heads of peers whose signatures held.
    pub verified_heads: VerifiedHeads,
    /// Where every message goes first.
    pub message_log: MessageLog,
    /// The other security servers.
    pub peers: Arc<Peers>,
    /// Where what connections bring is done.
    lanes: Lanes,
    /// The global configuration, kept on disk.
    pub store: Arc<Store>,
    /// What renews its keys. None: they stay as they are.
    pub renewal: Option<Renewal>,
    /// What was fetched of the catalogue.
    content: Arc<listings::content::Content>,
    /// Whom requests are about.
    pub subjects: Subjects,
    /// Which payloads are kept, and their keys.
    pub payloads: Arc<Payloads>,
    /// What translates JSON at the clients' doors.
    translation: Translation,
    xroad: Vec<AssignedPurpose>,
    /// Who asks at the clients' doors how it is.
    health: Places,
    own: Arc<Own>,
    configuration: Arc<Current>,
    clock: Clock,
    lookout: Lookout,
    oversight: Oversight,
    stamping: Stamping,
    /// Where finished segments of the message log go. None: nowhere.
    archive: Option<Archive>,
    /// What each who reaches it may take.
    limits: Limits,
    of_clients: OfClients,
    connections_of_peers: Arc<Shares<KeyId>>,
    permits: Arc<Semaphore>,
    /// How many exchanges are taken up at once.
    pub flow: Arc<Flow>,
    peer_permits: Mutex<HashMap<KeyId, (Arc<Semaphore>, OfOne)>>,
    fetches: Arc<Semaphore>,
    /// Those among them that wait for where removed segments are kept.
    fetches_elsewhere: Semaphore,
    exchanges: TaskTracker,
    ways: running::Ways,
    draining: CancellationToken,
    stopping: CancellationToken,
}

/// What a security server is started with: meant values only, every file read and every listener bound.
pub struct Settings {
    /// Its name.
    pub id: ServerId,
    /// The members that it hosts, and their signing keys.
    pub keys: Vec<(MemberId, Arc<SigningKey>)>,
    /// Its certificate and key for TLS.
    pub identity: Arc<Own>,
    /// What renews its keys. None: they stay as they are.
    pub renewal: Option<Renewal>,
    /// The global configuration, kept on disk.
    pub store: Arc<Store>,
    /// Where new versions come from. None: the configuration stays as it is.
    pub registry: Option<Registry>,
    /// Where they are fetched from while the registry cannot be followed.
    pub mirrors: Vec<Mirror>,
    /// Its clock.
    pub clock: Clock,
    /// Where what connections bring is done. The default: where they are accepted.
    pub lanes: Lanes,
    /// The message log's files.
    pub log: Arc<dyn journal::Disk>,
    /// How the message log is opened.
    pub log_options: journal::Options,
    /// The index's directory: a view that may be deleted while the server is stopped.
    pub index: PathBuf,
    /// What was fetched of the catalogue: a view that may be deleted at any time.
    pub content: PathBuf,
    /// The file with the day of each grant's last use: a view, for oversight only.
    pub last_used: PathBuf,
    /// Where the secret stands under which people are found in the log.
    pub subjects: PathBuf,
    /// Which payloads are kept, and their keys.
    pub payloads: Payloads,
    /// The audit log's files.
    pub audit: Arc<dyn journal::Disk>,
    /// How the audit log is opened.
    pub audit_options: journal::Options,
    /// When their disk is called low, and when full.
    pub disk_marks: DiskMarks,
    /// For how long messages may be exchanged while no timestamping authority stamps them.
    pub tolerated_outage: ToleratedOutage,
    /// Where finished segments of the message log go. None: nowhere.
    pub archive: Option<archive::Settings>,
    /// Where peers and services are found.
    pub names: Names,
    /// Our own systems.
    pub clients: Clients,
    /// gRPC services whose provider is bound.
    pub bindings: Bindings,
    /// Our own services.
    pub services: Services,
    /// The peers' door.
    pub peers: TcpListener,
    /// The clients' doors.
    pub client_doors: Vec<(TcpListener, Door)>,
    /// What each who reaches it may take.
    pub limits: Limits,
    /// What the clients' doors take as JSON.
    pub json: json::Limits,
    /// For what applications ask that were written for X-Road.
    pub xroad: Vec<AssignedPurpose>,
    /// The operators' door, and SHA-256 of the token that its changing and revealing routes ask for.
    pub operators: (TcpListener, proto::digest::Digest),
    /// SHA-256 of each operator's own token, and the name by which the audit log knows its operator.
    pub named_operators: HashMap<proto::digest::Digest, String>,
    /// What the configuration says, setting by setting and without a secret: the audit log holds what changed.
    pub described: BTreeMap<String, String>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The message log.
    #[error("the message log: {0}")]
    Log(#[from] message_log::OpenError),
    /// The message log's index.
    #[error(transparent)]
    Index(#[from] message_log::IndexError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The audit log ended while the start was noted in it.
    #[error("the start cannot be noted in the audit log: {0}")]
    NotNoted(#[from] journal::Ended),
    /// The secret under which people are found.
    #[error(transparent)]
    Subjects(#[from] subjects::NoSubjects),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A listener.
    #[error("a listener: {0}; is another program there?")]
    Listener(#[from] std::io::Error),
    /// Another program's metrics are in this process in a form that cannot be shared.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// A server that runs. Dropping it lets it run on; [`Started::shutdown`] ends it.
pub struct Started {
    /// The server.
    pub server: Arc<SecurityServer>,
    /// The address of the peers' door.
    pub peers: SocketAddr,
    /// The addresses of the clients' doors, in the order of the settings.
    pub clients: Vec<SocketAddr>,
    /// The address of the operators' door.
    pub operators: SocketAddr,
    doors: TaskTracker,
    tides: TaskTracker,
    last: CancellationToken,
}

/// Starts a server: opens its logs, closes what was left open, then opens its doors.
pub async fn start(settings: Settings) -> Result<Started, StartError> {
    let configuration = Arc::clone(settings.store.current());
    let index = Index::open(&settings.index)?;
    let keys = settings.keys;
    let disks = vec![Arc::clone(&settings.log), Arc::clone(&settings.audit)];
    let lookout = Lookout::new(disks, settings.disk_marks, settings.log_options.segment_bytes, &settings.clock);
    let subjects = Subjects::open(&settings.subjects, keys.iter().map(|(member, _)| member.clone()).collect())?;
    let mut described = described(settings.described, &settings.identity, &keys);
    described.insert("subjects.secret".to_owned(), subjects.name());
    let (access_rights, mut past) = AccessRights::open(settings.audit, settings.audit_options, &settings.id, &keys)?;
    let audit = Arc::clone(access_rights.audit());
    let names = access_rights.names(settings.clock.now());
    let oversight = Oversight::of(settings.registry.clone(), settings.last_used, &names);
    let (log, options) = (settings.log, settings.log_options);
    let payloads = Arc::new(settings.payloads);
    let (id, kept) = (settings.id.clone(), Arc::clone(&payloads));
    let of_archive = settings.archive.as_ref();
    let store = of_archive.map(|archive| archive.store.clone());
    let fetched = of_archive.and_then(|archive| archive.fetched.clone());
    let history: Arc<dyn journal::Disk> =
        Arc::new(History::of(Arc::clone(&log), store, fetched).within(ANSWERS_WITHIN));
    let message_log = MessageLog::open((log, history), options, index, id, keys, past.clock_accepted, kept).await?;
    let now = message_log.not_before_last(settings.clock.now());
    let restored = note_restore(&audit, &message_log, now).await?.or(past.restored);
    if let Some(restored) = restored {
        message_log.wait_out(restored);
    }
    audit.note_start(&past, described, now).await?;
    let archive = settings.archive.map(|settings| Archive::new(settings, &mut past));
    let (witness, alarms) = Witness::of(message_log.seen_trees()?, past.told);
    let (own, names) = (Arc::clone(&settings.identity), settings.names);
    let tls = PeerTls::new(own, Arc::clone(&configuration), settings.clock.clone(), names);
    let tls = Arc::new(tls);
    tls.accepting()?;
    let server = Arc::new(SecurityServer {
        id: settings.id,
        clients: settings.clients,
        services: settings.services,
        bindings: settings.bindings,
        access_rights,
        audit,
        quotas: Quotas::of_each(quota::SEALED_REFUSALS),
        questions: Quotas::of_each(quota::QUESTIONS),
        views_asked: Quotas::of_each(quota::VIEWS),
        requests: Quotas::of_each(quota::ACCESS_REQUESTS),
        allowances: Quotas::of_each(quota::ALLOWANCES),
        verified_heads: VerifiedHeads::shown_to(witness),
        message_log,
        peers: Peers::new(Arc::clone(&tls)),
        lanes: settings.lanes,
        store: settings.store,
        renewal: settings.renewal,
        content: Arc::new(listings::content::Content::of(settings.content, settings.mirrors.clone())),
        subjects,
        payloads,
        translation: Translation::within(settings.json),
        xroad: settings.xroad,
        health: Places::within(&settings.limits),
        own: settings.identity,
        configuration,
        clock: settings.clock,
        lookout,
        oversight,
        stamping: Stamping::new(settings.tolerated_outage, settings.registry.clone()),
        archive,
        limits: settings.limits,
        of_clients: OfClients::within(&settings.limits),
        connections_of_peers: Shares::of_each(limits::count(settings.limits.connections_of_peer)),
        permits: Arc::new(Semaphore::new(MAX_EXCHANGES)),
        flow: Flow::on_cores(std::thread::available_parallelism().map_or(1, usize::from)),
        peer_permits: Mutex::default(),
        fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
        fetches_elsewhere: Semaphore::new(MAX_FETCHES_ELSEWHERE),
        exchanges: TaskTracker::new(),
        ways: running::Ways::default(),
        draining: CancellationToken::new(),
        stopping: CancellationToken::new(),
    });

    server.services.answered_by(&server);
    // Before anybody is let in: a log that nobody has stamped for too long, a disk that is full, a clock that is behind.
    server.look_at_the_stamps()?;
    let looking = Arc::clone(&server);
    let looked = tokio::task::spawn_blocking(move || {
        // What it cannot make is an alarm, and refused by name; of all else exchanges are taken.
        let _ = looking.turn_payload_keys();
        looking.look_around();
    });
    let _ = looked.await;
    let (doors, tides, last) = (TaskTracker::new(), TaskTracker::new(), CancellationToken::new());
    tides.spawn(running::watch(Arc::clone(&server), last.clone()));
    let peers = settings.peers.local_addr()?;
    doors.spawn(listen::peers::serve(Arc::clone(&server), tls, settings.peers, server.draining.clone()));
    let mut clients = Vec::new();
    for (listener, door) in settings.client_doors {
        clients.push(listener.local_addr()?);
        doors.spawn(listen::clients::serve(Arc::clone(&server), listener, door, server.draining.clone()));
    }
    let (operators_listener, token) = settings.operators;
    let operators = operators_listener.local_addr()?;
    let mut tokens = settings.named_operators;
    tokens.insert(token, config::OPERATORS_TOKEN.to_owned());
    // Until the very end: who drains a server wants to see it.
    let door = listen::operators::door(Arc::clone(&server), tokens).map_err(StartError::Metrics)?;
    tides.spawn(listen::operators::serve(door, operators_listener, last.clone()));
    if let Some(registry) = settings.registry {
        let (store, clock) = (Arc::clone(&server.store), server.clock.clone());
        tides.spawn(global_configuration::watch(registry, settings.mirrors, store, clock, last.clone()));
    }
    tides.spawn(renewal::renew(Arc::clone(&server), last.clone()));
    tides.spawn(lookout::watch(Arc::clone(&server), last.clone()));
    tides.spawn(keep_the_index(server.message_log.clone(), last.clone()));
    tides.spawn(note_the_alarms(Arc::clone(&server), alarms, last.clone()));
    tides.spawn(asking::watch(Arc::clone(&server), last.clone()));
    tides.spawn(asking::watch_the_views(Arc::clone(&server), last.clone()));
    tides.spawn(access_requests::watch(Arc::clone(&server), last.clone()));
    tides.spawn(spread_grants::watch(Arc::clone(&server), last.clone()));
    tides.spawn(oversight::watch(Arc::clone(&server), last.clone()));
    tides.spawn(subjects::watch(Arc::clone(&server), last.clone()));
    tides.spawn(stamping::watch(Arc::clone(&server), last.clone()));
    tides.spawn(archive::watch(Arc::clone(&server), last.clone()));
    tides.spawn(payloads::watch(Arc::clone(&server), last.clone()));
    doors.close();
    tides.close();
    Ok(Started { server, peers, clients, operators, doors, tides, last })
}

/// What the audit log is to hold of the keys, besides the configuration.
fn described(
    mut settings: BTreeMap<String, String>,
    own: &Own,
    keys: &[(MemberId, Arc<SigningKey>)],
) -> BTreeMap<String, String> {
    settings.insert("key authentication".to_owned(), own.key().to_string());
    settings.extend(keys.iter().map(|(member, key)| (format!("key signing {member}"), key.public().id().to_string())));
    settings
}

/// Notes that the logs were put back from a backup, where they were, before anything is exchanged. A crash before the word
/// of it is gone from both: the next start notes it again, with its own time, and waits as long again.
async fn note_restore(audit: &AuditLog, messages: &MessageLog, now: Time) -> Result<Option<Time>, StartError> {
    let Some(from) = messages.restored().or(audit.restored()).map(str::to_owned) else { return Ok(None) };
    tracing::warn!(
        from,
        "the server was put back from a backup: calls of peers are refused for a minute, and peers will notice"
    );
    audit.note(&Noted::Restored { at: now.as_millis(), from }).await?;
    messages.restore_is_noted()?;
    audit.restore_is_noted()?;
    Ok(Some(now))
}

/// Keeps what is noticed of peers' logs, and the proof of it.
async fn note_the_alarms(
    server: Arc<SecurityServer>,
    mut alarms: mpsc::Receiver<witness::Raised>,
    last: CancellationToken,
) {
    loop {
        let raised = tokio::select! { biased;
            raised = alarms.recv() => raised,
            () = last.cancelled() => None,
        };
        let Some(witness::Raised { mut alarm, contradiction }) = raised else { return };
        if let Some(contradiction) = contradiction {
            let at = Time::from_millis(alarm.at);
            match ContradictionFile::new(&contradiction, &server.id, at, &server.store.files()) {
                Ok(file) => alarm.evidence = Some(STANDARD.encode(file.to_bytes())),
                Err(error) => tracing::error!(%error, "an alarm about a peer's log has no evidence of its own"),
            }
        }
        if let Err(error) = server.audit.note_alarm(alarm).await {
            return tracing::error!(%error, "alarms about peers' logs cannot be noted any more");
        }
    }
}

/// Keeps the index close behind the log, so that the next start has little to read.
async fn keep_the_index(log: MessageLog, last: CancellationToken) {
    loop {
        tokio::select! {
            () = last.cancelled() => return,
            () = tokio::time::sleep(INDEX_INTERVAL) => {}
        }
        let log = log.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.catch_up()).await {
            tracing::error!(%error, "the message log's index is behind");
        }
    }
}

impl Started {
    /// Refuses what is new, lets what runs end, then closes the log. Exchanges that run longer than
    /// [`DRAIN_TIMEOUT`] are stopped, sealed and recorded like any other end.
    pub async fn shutdown(self) {
        self.server.draining.cancel();
        self.server.exchanges.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.server.exchanges.wait()).await.is_err() {
            tracing::warn!("exchanges still run after {DRAIN_TIMEOUT:?}: they are stopped");
            self.server.stopping.cancel();
            let stopped = tokio::time::timeout(DRAIN_TIMEOUT, self.server.exchanges.wait()).await;
            if stopped.is_err() {
                tracing::error!("exchanges do not end: the next start closes them, outcome unknown");
            }
        }
        // Their last words are with the doors now; an idle connection is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.doors.wait()).await;
        self.last.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tides.wait()).await;
        // Closing a log waits for its thread: not for a thread of the runtime to do.
        let server = self.server;
        let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    }
}

impl SecurityServer {
    /// The right to run one more exchange, or why not.
    pub(crate) fn permit(&self) -> Result<Permit, Code> {
        self.takes_more()?;
        Arc::clone(&self.permits).try_acquire_owned().map(Permit::new).map_err(|_| Code::TooManyExchanges)
    }

    /// The right of the server with this authentication key to have one more exchange here, with what it has in hand; or why
    /// not. Kept for registered servers only, so that strangers' keys take no memory.
    pub(crate) fn permit_of_peer(&self, key: KeyId) -> Result<(OwnedSemaphorePermit, OfOne), Code> {
        self.takes_more()?;
        if self.configuration.load().authenticated(&key).is_none() {
            return Err(Code::Unproven);
        }
        let (share, in_hand) = {
            let mut shares = self.peer_permits.lock().unwrap_or_else(PoisonError::into_inner);
            let made = || (Arc::new(Semaphore::new(MAX_EXCHANGES_OF_PEER)), OfOne::default());
            shares.entry(key).or_insert_with(made).clone()
        };
        Ok((share.try_acquire_owned().map_err(|_| Code::TooManyExchanges)?, in_hand))
    }

    /// The right to one more connection by this key. None: it has as many as it may.
    pub(crate) fn connection_of_peer(&self, key: KeyId) -> Option<Share<KeyId>> {
        self.connections_of_peers.take(key)
    }

    /// The right to run one more fetch, or why not.
    pub(crate) fn permit_to_fetch(&self) -> Result<OwnedSemaphorePermit, Code> {
        self.runs()?;
        Arc::clone(&self.fetches).try_acquire_owned().map_err(|_| Code::TooManyExchanges)
    }

    fn takes_more(&self) -> Result<(), Code> {
        self.runs()?;
        self.lags()
    }

    fn runs(&self) -> Result<(), Code> {
        if self.draining.is_cancelled() {
            return Err(Code::ShuttingDown);
        }
        if self.message_log.ended().is_some() {
            return Err(Code::LogEnded);
        }
        Ok(())
    }

    /// Whether a shutdown was asked for.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// What this server sealed in an exchange, for the server that was the other party to it; nothing for any other. Whoever asked may
    /// go away meanwhile: the thread that reads goes on, so the permit is with it and comes back with what was read.
    pub(crate) async fn sealed_for(
        self: &Arc<Self>,
        exchange: ExchangeId,
        peer: ServerId,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Vec<proto::wire::relay::Frame>, OwnedSemaphorePermit), BareRefusal> {
        // Nothing is wrong with the question: it is this server that cannot read.
        let unread = |error: String| BareRefusal::new(Code::NotReady, error);
        let server = Arc::clone(self);
        let read = move || {
            let elsewhere = server.message_log.is_elsewhere(exchange).map_err(|error| unread(error.to_string()))?;
            let _one = elsewhere.then(|| server.fetches_elsewhere.try_acquire()).transpose().map_err(|_| {
                BareRefusal::new(Code::TooManyExchanges, "a segment that was removed is read for another already")
            })?;
            let found = server.message_log.find(exchange).map_err(|error| unread(error.to_string()))?;
            Ok((evidence::sealed_frames(found, &peer), permit))
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| unread(error.to_string()))?
    }

    /// How our log goes on from a head of it, for the server that holds the head. The permit is kept for as long as is read.
    pub(crate) async fn joined(
        self: &Arc<Self>,
        member: MemberId,
        asked: proto::head::Head,
        permit: OwnedSemaphorePermit,
    ) -> Result<proto::wire::relay::Joined, String> {
        let server = Arc::clone(self);
        let read = move || {
            let _permit = permit;
            server.message_log.joined(&member, &asked)
        };
        let joined = tokio::task::spawn_blocking(read).await;
        let joined = joined.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        joined.ok_or_else(|| "there is no signed head of that member's log here".to_owned())
    }
}
