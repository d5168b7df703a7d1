//! The registry's one door: TLS 1.3, three services. What is refused is mapped to the wire here, once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use command_line::Exit;
use futures_util::{Stream, stream};
use keystore::{KeyError, Passphrase};
use proto::certificate::NotACertificate;
use proto::digest::Digest;
use proto::global_configuration::document::Der;
use proto::oversight::MAX_REPORT_BYTES;
use proto::registration::{MAX_SIGNED_BYTES, Malformed};
use proto::signature::PublicKey;
use proto::wire::registry as wire;
use proto::wire::registry::join_state::State;
use registry_client::Fingerprint;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::Clock;
use crate::authority::{CertificateAuthority, NotCertified};
use crate::history::{self, History, HistoryError, JOURNAL};
use crate::init::{ANCHOR, AUTHORITY, KEYS, TLS};
use crate::listing::{self, MAX_PUBLISH_BYTES};
use crate::oversight::{self, Allowances};
use crate::public_door;
use crate::publish::RoleKeys;
use crate::register::{Entry, Event, Hex, Refused};
use crate::registration;
use crate::registry::{Desk, Forgotten, Registry};
use crate::restored;
use crate::reuse;
use crate::shelf::Shelf;
use crate::spread::{self, NotTakenUp, PUBLIC};
use crate::timestamping::{self, NotApproved, Timestamping};
use crate::tsa::TimestampingAuthority;
use crate::{journal_key, local};

/// The generated services.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/causeway.registry.v1.rs"));
}

use generated::administration_server::{Administration, AdministrationServer};
use generated::catalogue_server::{Catalogue, CatalogueServer};
use generated::global_configuration_server::{GlobalConfiguration, GlobalConfigurationServer};
use generated::oversight_server::{Oversight, OversightServer};
use generated::registration_server::{Registration, RegistrationServer};
use generated::timestamping_server;

/// Most connections at a time: every server keeps one.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Most calls at a time on one connection.
pub const MAX_CALLS_PER_CONNECTION: u32 = 16;
/// Largest request: an application or a command, its signatures and some room.
pub const MAX_REQUEST_BYTES: usize = MAX_SIGNED_BYTES + 4096;
/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls and connections may go on after a shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How a registry is started.
pub struct Settings {
    /// The directory that `init` made.
    pub directory: PathBuf,
    /// Where to listen; port 0: any that is free.
    pub listen: SocketAddr,
    /// The timestamping authorities to be approved, in the order in which servers ask them; one without an address and
    /// certificate is the registry's own. None: the registry's own alone.
    pub timestamping: Vec<Timestamping>,
    /// Where to give the published files to mirrors, over plain HTTP; none: nowhere.
    pub public: Option<SocketAddr>,
    /// Opens the keys.
    pub passphrase: Passphrase,
    /// Tells the time.
    pub clock: Clock,
}

/// Why a registry does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of the directory.
    #[error("{path}: {source}; `directory` in the configuration must be one that `central-registry init` made")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate in a file.
    #[error("{path} holds no certificate in PEM; put it back from a copy")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The authority cannot work.
    #[error(transparent)]
    Authority(#[from] NotCertified),
    /// The authority's file is not the one that the register knows.
    #[error("{AUTHORITY} is not the authority that the register was founded with; put it and its key back from a copy")]
    OtherAuthority,
    /// The root is another one than the journal knows.
    #[error(
        "the root in {PUBLIC}/ is not the one, or a later one of the one, that the journal knows; put {PUBLIC}/ back from a mirror"
    )]
    OtherRoot,
    /// The TLS certificate cannot be read.
    #[error("{TLS}: {0}; put it and its key back from a copy")]
    Tls(#[from] NotACertificate),
    /// TLS does not take key and certificate.
    #[error("TLS does not take {TLS} and its key: {0}; put both back from a copy")]
    Handshake(#[from] rustls::Error),
    /// A key does not open.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The history cannot be taken up.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What was published cannot be taken up.
    #[error(transparent)]
    Published(#[from] NotTakenUp),
    /// The first version after the start.
    #[error("the configuration cannot be published: {0}")]
    Publish(#[from] Refused),
    /// A timestamping authority of the configuration.
    #[error(transparent)]
    Timestamping(#[from] NotApproved),
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}; stop the program that is there, or name another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::File { .. } | Self::Certificate { .. } | Self::OtherAuthority | Self::Tls(_) | Self::Handshake(_) => {
                Exit::Usage
            }
            Self::Key(_) | Self::Authority(_) | Self::Timestamping(_) | Self::OtherRoot => Exit::Usage,
            Self::History(_) | Self::Published(_) | Self::Publish(_) | Self::Listen { .. } => Exit::Failed,
        }
    }
}

/// A registry that answers.
pub struct Running {
    address: SocketAddr,
    public: Option<SocketAddr>,
    fingerprint: Fingerprint,
    anchor: Vec<u8>,
    registry: Arc<Registry>,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
    freshening: JoinHandle<()>,
}

/// Starts a registry: from here on it answers, and what it publishes is pushed.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let Settings { directory, listen, timestamping, public: for_mirrors, passphrase, clock } = settings;
    let key = |name: &str| keystore::open(&directory.join(KEYS).join(format!("{name}.pem")), &passphrase);

    let authority_der = certificate(&directory.join(AUTHORITY))?;
    let authority = CertificateAuthority::open(&authority_der, key("authority")?)?;
    let (tls, fingerprint) = tls_config(&directory, &passphrase)?;
    let anchor = read(&directory.join(ANCHOR))?;
    let role_keys = RoleKeys {
        // Taken away after `init`, and needed only for a new root.
        root: Vec::new(),
        targets: vec![key("targets")?],
        members: vec![key("members")?],
        catalogue: vec![key("catalogue")?],
        revoked: vec![key("revoked")?],
        snapshot: vec![key("snapshot")?],
        timestamp: vec![key("timestamp")?],
    };

    let public = directory.join(PUBLIC);
    let found = spread::found(&public)?;
    let (written, instance) = (found.version(), found.trusted().configuration().instance.clone());
    let journal = key("journal")?;
    journal_key::write(&directory, journal.public())
        .map_err(|source| StartError::File { path: directory.join(journal_key::JOURNAL_KEY), source })?;
    let settings = described(listen, &authority_der, fingerprint, journal.public(), &role_keys);
    let (mut history, mut register) = History::open(&directory, &instance, journal)?;
    if !register.instance().is_some_and(|founded| founded.authorities.contains(&authority_der)) {
        return Err(StartError::OtherAuthority);
    }
    let now = history::now(clock(), &register);
    let publication = match history.restored().map(str::to_owned) {
        None => spread::pass_over(found, &directory, &register)?,
        Some(backup) => {
            let found = spread::with_leaves(&public, found)?;
            restored::note(&mut history, &mut register, &found, backup, now).await?;
            let leaves = spread::leaves_of(&directory, &register)?;
            // What a server may have seen since the backup is nothing that any of this could go back behind.
            let anew = found.anew(&role_keys, register.published(), now).map_err(NotTakenUp::from)?;
            anew.passing_over(register.published(), register.ledger().cloned(), leaves)
        }
    };
    let started = Event::Started { program: env!("CARGO_PKG_VERSION").into(), changed: register.changed_to(&settings) };
    let admitted = register.admit(Entry::of(now.as_millis(), None, started))?;
    history.record(&mut register, admitted).await?;
    let approved = timestamping::approved(&timestamping, &authority_der)?;
    if register.instance().is_some_and(|instance| instance.timestamping != approved) {
        let admitted = register.admit(Entry::of(now.as_millis(), None, Event::Timestamping { approved }))?;
        history.record(&mut register, admitted).await?;
    }
    let tsa = TimestampingAuthority::open(&directory, &passphrase, &authority, now)?;
    // Only the newest root, which the keys here cannot sign, says who may order what.
    if let Some((root, persons)) = publication.persons().map_err(NotTakenUp::from)?
        && register.governed().is_none_or(|governed| (governed.root, &governed.persons) != (root, &persons))
    {
        let governed = Event::Governed { root, anchor: Hex(Digest::of(&[publication.anchor()])), persons };
        let admitted = register.admit(Entry::of(now.as_millis(), None, governed)).map_err(|_| StartError::OtherRoot)?;
        history.record(&mut register, admitted).await?;
    }
    let publication = Arc::new(publication);
    let forgotten = Forgotten::of(&register);
    let shelf = Shelf::open(&public, &directory, &register)?;
    let registry = Arc::new(Registry {
        instance,
        authority,
        role_keys,
        tsa,
        public,
        clock,
        desk: tokio::sync::Mutex::new(Desk::new(register, history, publication.clone(), written)),
        published: watch::Sender::new(publication),
        changed: watch::Sender::new(()),
        closing: CancellationToken::new(),
        forgotten,
        shelf,
        one_question: Arc::default(),
        one_report: std::sync::Arc::default(),
        allowances: Allowances::default(),
    });

    // What was decided before a crash and not published yet is published now, before anybody is answered.
    {
        let mut desk = registry.desk.lock().await;
        let now = registry.now(&desk);
        spread::publish(&registry, &mut desk, now).await?;
        // A crash before this: the next start passes over as many versions again.
        desk.history.restore_is_noted().map_err(|source| StartError::File { path: directory.join(JOURNAL), source })?;
    }
    let unreachable = |source| StartError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(unreachable)?;
    let address = listener.local_addr().map_err(unreachable)?;
    let mut public = None;
    if let Some(listen) = for_mirrors {
        let unreachable = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(unreachable)?;
        public = Some(listener.local_addr().map_err(unreachable)?);
        tokio::spawn(public_door::serve(registry.clone(), listener));
    }
    let served = tokio::spawn(serve(registry.clone(), listener, TlsAcceptor::from(Arc::new(tls))));
    let freshening = tokio::spawn(spread::keep_fresh(registry.clone()));
    match local::listen(&directory) {
        Ok(socket) => drop(tokio::spawn(local::serve(registry.clone(), socket))),
        // Nothing else depends on it: `backup create` says what is missing.
        Err(error) => tracing::warn!(%error, "the registry cannot be told of backups on its own machine"),
    }
    tracing::info!(%address, %fingerprint, instance = %registry.instance, "the registry answers");
    Ok(Running { address, public, fingerprint, anchor, registry, served, freshening })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where mirrors find the published files.
    pub fn public(&self) -> Option<SocketAddr> {
        self.public
    }

    /// What callers pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The anchor: the first root document.
    pub fn anchor(&self) -> &[u8] {
        &self.anchor
    }

    /// SHA-256 of the anchor.
    pub fn anchor_digest(&self) -> Digest {
        Digest::of(&[&self.anchor])
    }

    /// The version that was published last.
    pub fn version(&self) -> u64 {
        self.registry.published.borrow().version()
    }

    /// The last version that a server said it has and that this registry does not know: it was put back from an older copy.
    pub fn heard_of_forgotten(&self) -> Option<u64> {
        self.registry.forgotten.heard_of()
    }

    /// Signs the configuration again now, as happens each minute. Returns the new version.
    pub async fn sign_again(&self) -> Result<u64, Refused> {
        let registry = self.registry.clone();
        detached(async move {
            let mut desk = registry.desk.lock().await;
            let now = registry.now(&desk);
            spread::publish(&registry, &mut desk, now).await
        })
        .await
    }

    /// Resolves when the journal has ended: the registry cannot decide any more, and must be started again.
    pub async fn until_ended(&self) -> Arc<str> {
        let ended = self.registry.desk.lock().await.history.until_ended();
        ended.await
    }

    /// Ends watches, lets calls finish, closes the journal.
    pub async fn shutdown(self) {
        self.registry.closing.cancel();
        let _ = self.freshening.await;
        let stop = self.served.abort_handle();
        match tokio::time::timeout(DRAIN_TIMEOUT, self.served).await {
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the door closed with an error"),
            Ok(_) => {}
            Err(_) => {
                tracing::warn!("connections that would not end were cut");
                stop.abort();
            }
        }
        let desk = self.registry.desk.lock().await;
        close(desk);
    }
}

fn close(mut desk: tokio::sync::MutexGuard<'_, Desk>) {
    let Desk { register, history, .. } = &mut *desk;
    history.close(register);
}

// ---- what is read at a start

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::File { path: path.to_owned(), source })
}

/// What the journal is to hold of a start: where it listens, and the name of each key.
fn described(
    listen: SocketAddr,
    authority: &Der,
    tls: Fingerprint,
    journal: &PublicKey,
    roles: &RoleKeys,
) -> BTreeMap<String, String> {
    let RoleKeys { root: _, targets, members, catalogue, revoked, snapshot, timestamp } = roles;
    let named = [
        ("targets", targets),
        ("members", members),
        ("catalogue", catalogue),
        ("revoked", revoked),
        ("snapshot", snapshot),
        ("timestamp", timestamp),
    ];
    let roles = named.into_iter().map(|(role, keys)| {
        let names: Vec<_> = keys.iter().map(|key| key.public().id().to_string()).collect();
        (format!("key {role}"), names.join(", "))
    });
    let settings = [
        ("listen".to_owned(), listen.to_string()),
        ("certificate of the authority".to_owned(), Digest::of(&[authority.as_bytes()]).to_string()),
        ("key tls".to_owned(), tls.0.to_string()),
        ("key journal".to_owned(), journal.id().to_string()),
    ];
    settings.into_iter().chain(roles).collect()
}

pub(crate) fn certificate(path: &Path) -> Result<Der, StartError> {
    let pem = read(path)?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|_| StartError::Certificate { path: path.to_owned() })?;
    Ok(der.to_vec().into())
}

/// TLS 1.3 only, the provider named.
pub(crate) fn tls_config(directory: &Path, passphrase: &Passphrase) -> Result<(ServerConfig, Fingerprint), StartError> {
    let certificate = certificate(&directory.join(TLS))?;
    let fingerprint = Fingerprint(proto::certificate::public_key(certificate.as_bytes())?.id());
    let key = keystore::open_pkcs8(&directory.join(KEYS).join("tls.pem"), passphrase)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.as_bytes().to_vec())],
            PrivatePkcs8KeyDer::from(key.to_vec()).into(),
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((config, fingerprint))
}

// ---- the door

async fn serve(
    registry: Arc<Registry>,
    listener: TcpListener,
    tls: TlsAcceptor,
) -> Result<(), tonic::transport::Error> {
    let closing = registry.closing.clone();
    let (ready, connections) = mpsc::channel(64);
    let accepting = tokio::spawn(accept(listener, tls, ready, closing.clone()));
    let door = Door { registry };
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(RegistrationServer::new(door.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(AdministrationServer::new(door.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(CatalogueServer::new(door.clone()).max_decoding_message_size(MAX_PUBLISH_BYTES))
        .add_service(OversightServer::new(door.clone()).max_decoding_message_size(MAX_REPORT_BYTES + 4096))
        .add_service(
            timestamping_server::TimestampingServer::new(door.clone())
                .max_decoding_message_size(2 * proto::timestamp::MAX_QUERY_BYTES),
        )
        .add_service(
            GlobalConfigurationServer::new(door)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .max_encoding_message_size(registry_client::MAX_ANSWER_BYTES),
        )
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), closing.cancelled_owned())
        .await;
    accepting.abort();
    served
}

/// Takes sockets and makes TLS connections of them, each in a task of its own: a slow handshake holds up nobody.
async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    ready: mpsc::Sender<io::Result<Connection>>,
    closing: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely no file descriptor is left; a connection that ends gives one back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_err() {
                return;
            }
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send(Ok(Connection { stream, from, _permit: permit })).await),
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
    }
}

/// A TLS connection, and its place among the most that are taken.
struct Connection {
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = SocketAddr;
    fn connect_info(&self) -> SocketAddr {
        self.from
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// ---- the services

#[derive(Clone)]
struct Door {
    registry: Arc<Registry>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Registration for Door {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReceipt>, Status> {
        let from = address(&request);
        let joined = detached(registration::join(self.registry.clone(), request.into_inner(), from)).await;
        joined.map(Response::new).map_err(|refused| status(&refused))
    }

    async fn ask(&self, request: Request<wire::SignedServerRequest>) -> Result<Response<wire::ServerAnswer>, Status> {
        let from = address(&request);
        let asked = detached(registration::ask(self.registry.clone(), request.into_inner(), from)).await;
        asked.map(Response::new).map_err(|refused| status(&refused))
    }

    type JoinStatusStream = Answers<wire::JoinState>;

    async fn join_status(
        &self,
        request: Request<wire::JoinStatusRequest>,
    ) -> Result<Response<Self::JoinStatusStream>, Status> {
        let digest = Digest::try_from(&request.get_ref().application_digest[..])
            .map_err(|error| Status::invalid_argument(format!("application_digest: {error}")))?;
        let changes = self.registry.changed.subscribe();
        // Nobody who asks of nothing is kept waiting.
        registration::standing(&self.registry, digest).await.map_err(|refused| status(&refused))?;
        let waiting = Waiting { registry: self.registry.clone(), changes, digest, said: None };
        Ok(Response::new(Box::pin(stream::unfold(waiting, Waiting::next))))
    }
}

/// An applicant that waits for a decision.
struct Waiting {
    registry: Arc<Registry>,
    changes: watch::Receiver<()>,
    digest: Digest,
    said: Option<wire::JoinState>,
}

impl Waiting {
    /// What is to be said next: the state at once, and then when it is another. Nothing after a decision.
    async fn next(mut self) -> Option<(Result<wire::JoinState, Status>, Self)> {
        if self.said.as_ref().is_some_and(|said| !matches!(said.state, Some(State::Waiting(_)))) {
            return None;
        }
        loop {
            let state = match registration::standing(&self.registry, self.digest).await {
                Ok(state) => state,
                Err(refused) => return Some((Err(status(&refused)), self)),
            };
            if self.said.as_ref() != Some(&state) {
                self.said = Some(state.clone());
                return Some((Ok(state), self));
            }
            tokio::select! {
                () = self.registry.closing.cancelled() => return None,
                changed = self.changes.changed() => changed.ok()?,
            }
        }
    }
}

#[tonic::async_trait]
impl Catalogue for Door {
    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishAnswer>, Status> {
        let from = address(&request);
        let listed = detached(listing::publish(self.registry.clone(), request.into_inner(), from)).await;
        listed.map(Response::new).map_err(|refused| status(&refused))
    }

    async fn find(&self, request: Request<wire::FindRequest>) -> Result<Response<wire::FoundEntries>, Status> {
        let found = listing::find(&self.registry, request.into_inner()).await;
        found.map(Response::new).map_err(|refused| status(&refused))
    }

    async fn elements(&self, request: Request<wire::ElementsRequest>) -> Result<Response<wire::FoundElements>, Status> {
        let found = reuse::elements(self.registry.clone(), request.into_inner()).await;
        found.map(Response::new).map_err(|refused| status(&refused))
    }

    async fn reuse(&self, request: Request<wire::ReuseRequest>) -> Result<Response<wire::ReuseReport>, Status> {
        let report = reuse::report(self.registry.clone(), request.into_inner()).await;
        report.map(Response::new).map_err(|refused| status(&refused))
    }

    async fn fetch(&self, request: Request<wire::FetchRequest>) -> Result<Response<wire::FetchAnswer>, Status> {
        let digest = Digest::try_from(&request.get_ref().digest[..])
            .map_err(|error| Status::invalid_argument(format!("digest: {error}")))?;
        let content = listing::fetch(&self.registry, digest).map_err(|refused| status(&refused))?;
        Ok(Response::new(wire::FetchAnswer { content }))
    }
}

#[tonic::async_trait]
impl Oversight for Door {
    async fn report(&self, request: Request<wire::SignedReport>) -> Result<Response<wire::ReportTaken>, Status> {
        let from = address(&request);
        let taken = detached(oversight::report(self.registry.clone(), request.into_inner(), from)).await;
        taken.map(Response::new).map_err(|refused| status(&refused))
    }
}

#[tonic::async_trait]
impl Administration for Door {
    async fn submit(&self, request: Request<wire::SignedCommand>) -> Result<Response<wire::CommandResult>, Status> {
        let from = address(&request);
        let ordered = detached(registration::order(self.registry.clone(), request.into_inner(), from)).await;
        ordered.map(Response::new).map_err(|refused| status(&refused))
    }
}

#[tonic::async_trait]
impl timestamping_server::Timestamping for Door {
    async fn stamp(&self, request: Request<wire::TimestampQuery>) -> Result<Response<wire::TimestampAnswer>, Status> {
        let now = (self.registry.clock)();
        let answer = self.registry.tsa.answer(&request.into_inner().query, now).into();
        Ok(Response::new(wire::TimestampAnswer { answer }))
    }
}

#[tonic::async_trait]
impl GlobalConfiguration for Door {
    type WatchStream = Answers<wire::Version>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let wire::WatchRequest { version: has, logged } = request.into_inner();
        self.registry.forgotten.hear_of(has, self.registry.published.borrow().version());
        let mut published = self.registry.published.subscribe();
        published.mark_changed();
        let watching = (published, has, logged, self.registry.closing.clone());
        // Whoever reads slowly gets several versions as one: only the newest is kept for it.
        let versions = stream::unfold(watching, |(mut published, has, logged, closing)| async move {
            loop {
                tokio::select! {
                    () = closing.cancelled() => return None,
                    changed = published.changed() => changed.ok()?,
                }
                let publication = published.borrow_and_update().clone();
                let version = publication.version();
                if version > has {
                    let pushed = wire::Version { version, files: publication.since_checkpoint(has, logged).to_vec() };
                    return Some((Ok(pushed), (published, version, version, closing)));
                }
            }
        });
        Ok(Response::new(Box::pin(versions)))
    }
}

/// Where the caller is, for the journal.
fn address<T>(request: &Request<T>) -> String {
    let from = request.extensions().get::<SocketAddr>();
    from.map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

/// Runs to its end whatever becomes of the caller: what was begun is recorded whole.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a task of the registry ended early");
        Err(Refused::Failed("a task ended early".to_owned()))
    })
}

/// What is refused, on the wire.
fn status(refused: &Refused) -> Status {
    let code = match refused {
        Refused::Malformed(Malformed::Possession(_)) => Code::PermissionDenied,
        Refused::Malformed(Malformed::Signature(_) | Malformed::Time(_))
        | Refused::NoAdmin(_)
        | Refused::NotTheServersKey { .. } => Code::Unauthenticated,
        Refused::Malformed(_) | Refused::NameWanted(_) | Refused::NameDiffers { .. } | Refused::NoHeadOf(_) => {
            Code::InvalidArgument
        }
        Refused::PurposeUntold(_)
        | Refused::EntriesDiffer
        | Refused::Descriptors(_)
        | Refused::OpenApi(_)
        | Refused::NotAsDescribed { .. } => Code::InvalidArgument,
        Refused::NotHosted { .. } => Code::PermissionDenied,
        Refused::VersionNotNewer { .. } => Code::AlreadyExists,
        Refused::Breaks { .. } | Refused::OtherForm { .. } | Refused::NotOnce(_) => Code::FailedPrecondition,
        Refused::NoContent(_) => Code::NotFound,
        Refused::TokenUnknown
        | Refused::TokenUsed
        | Refused::TokenExpired(_)
        | Refused::NotAsInvited { .. }
        | Refused::SubsystemNotInvited(_) => Code::PermissionDenied,
        Refused::CommandRepeated(_)
        | Refused::KeyInUse(_)
        | Refused::LooksLike { .. }
        | Refused::Removed(_)
        | Refused::ServerRegistered(_) => Code::AlreadyExists,
        Refused::NoRequest { .. }
        | Refused::NoApplication
        | Refused::NoMember { .. }
        | Refused::NoServer { .. }
        | Refused::NoPurpose { .. }
        | Refused::NoSubsystem { .. }
        | Refused::NoKey(_) => Code::NotFound,
        Refused::NotTheRole { .. } | Refused::OnePerson { .. } | Refused::SamePerson { .. } => Code::PermissionDenied,
        Refused::NoProposal => Code::NotFound,
        Refused::AfterRestore(_) | Refused::ProposalExpired { .. } => Code::FailedPrecondition,
        Refused::ServerWaiting { .. }
        | Refused::Decided { .. }
        | Refused::StandingAlready { .. }
        | Refused::RevokedAlready(_)
        | Refused::SoAlready(_)
        | Refused::SealsNothingThere { .. }
        | Refused::KeyWaits { .. }
        | Refused::LastPurpose(_) => Code::FailedPrecondition,
        Refused::Limit { .. } | Refused::KeysEnough { .. } => Code::ResourceExhausted,
        Refused::NotRecorded(_) => Code::DataLoss,
        Refused::Certificate { .. }
        | Refused::WrongCertificate { .. }
        | Refused::OutOfPlace
        | Refused::VersionPublished(_)
        | Refused::OtherCheckpoint(_)
        | Refused::Failed(_) => Code::Internal,
    };
    Status::new(code, refused.to_string())
}
