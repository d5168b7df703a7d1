//! Our own services: where each is, and the connections to them, kept and shared.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::access::Priority;
use proto::identifier::{MethodPath, ServerId, SubsystemId};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::SecurityServer;
use crate::body::Outgoing;
use crate::disclosures::over_the_bus::{self, SERVICE as DISCLOSURES};
use crate::forward::CONNECT_TIMEOUT;
use crate::gathered_writes::GatheredWrites;
use crate::in_process::Answering;
use crate::json_service::JsonService;
use crate::listen::{KEEP_ALIVE, MAX_EXCHANGES_OF_SERVICE};
use crate::names::Names;
use crate::rest::Web;
use crate::{flow, lanes};

/// How often a service is asked by HTTP/2 whether it lives, while a call runs. The gRPC libraries close a connection on
/// which they are asked more often than every five minutes.
pub const PING_INTERVAL: Duration = Duration::from_secs(310);
/// How often TCP asks again, once an idle connection did not answer for [`KEEP_ALIVE`].
const TCP_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Most bytes of long messages of one service that are held until fields can be removed of them.
pub const MAX_MINIMISED_AT_ONCE: usize = 64 * 1024 * 1024;

/// Most bytes of long messages of one service that were minimised for one consumer's server, and that it has not read.
pub const MAX_UNREAD_AT_ONCE: usize = 64 * 1024 * 1024;

/// The services of the subsystems that this server hosts.
#[derive(Debug, Default)]
pub struct Services(HashMap<(SubsystemId, String), Arc<Service>>);

/// One service of ours.
pub struct Service {
    subsystem: SubsystemId,
    name: String,
    host: String,
    tls: Option<Arc<rustls::ClientConfig>>,
    names: Names,
    /// Each lane's own, by its number.
    connections: Mutex<HashMap<usize, Arc<tokio::sync::Mutex<Kept>>>>,
    share: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// For what each consumer's server has not read. They are registered, so their number is bounded.
    unread: Mutex<HashMap<ServerId, Arc<Semaphore>>>,
    /// Where this server answers it itself, or in its place.
    here: Option<Here>,
    /// Where it is a REST service.
    web: Option<Arc<Web>>,
}

/// What answers within this process.
enum Here {
    /// Who received what about a person.
    Disclosures(Answering),
    /// A service that speaks JSON.
    Json(JsonService),
}

#[derive(Default)]
struct Kept {
    up: Option<SendRequest<Outgoing>>,
    failed: Option<Instant>,
}

/// Two services of one name at one subsystem.
#[derive(Debug, thiserror::Error)]
#[error("{0} stands twice")]
pub struct Twice(pub String);

impl Services {
    /// Of these services.
    pub fn new(services: impl IntoIterator<Item = Service>) -> Result<Self, Twice> {
        let mut known = HashMap::new();
        for service in services {
            let key = (service.subsystem.clone(), service.name.clone());
            if known.contains_key(&key) {
                return Err(Twice(service.to_string()));
            }
            known.insert(key, Arc::new(service));
        }
        Ok(Self(known))
    }

    /// What this server answers itself, it answers by this one.
    pub(crate) fn answered_by(&self, server: &Arc<SecurityServer>) {
        self.0.values().filter_map(|service| service.here.as_ref()).for_each(|here| match here {
            Here::Disclosures(here) => here.by(server),
            Here::Json(service) => service.here().by(server),
        });
    }

    /// The service of this name at this subsystem.
    pub fn find(&self, subsystem: &SubsystemId, name: &str) -> Option<Arc<Service>> {
        self.0.get(&(subsystem.clone(), name.to_owned())).cloned()
    }
}

impl Service {
    /// At `host` (host and port), over TLS where there is a configuration for it, else over plain HTTP/2.
    pub fn new(subsystem: SubsystemId, name: String, host: String, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let share = Arc::new(Semaphore::new(MAX_EXCHANGES_OF_SERVICE));
        let room = Arc::new(Semaphore::new(MAX_MINIMISED_AT_ONCE));
        let (names, connections, unread) = (Names::system(), Mutex::default(), Mutex::default());
        Self { subsystem, name, host, tls, names, connections, share, room, unread, here: None, web: None }
    }

    /// Who received what about a person, as this server tells it of this subsystem.
    pub fn disclosures(subsystem: SubsystemId) -> Self {
        let here = Some(Here::Disclosures(Answering::default()));
        Self { here, ..Self::new(subsystem, DISCLOSURES.to_owned(), "localhost:0".to_owned(), None) }
    }

    /// A REST service: below this path, over TLS where there is a configuration for it.
    pub fn rest(
        subsystem: SubsystemId,
        name: String,
        (host, path): (String, &str),
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Self {
        let web = Some(Arc::new(Web::at(&host, path, tls.clone(), &Names::system())));
        Self { web, ..Self::new(subsystem, name, host, tls) }
    }

    /// A gRPC service that speaks JSON: below this path, over TLS where there is a configuration for it.
    pub fn json(
        subsystem: SubsystemId,
        name: String,
        (host, path): (String, &str),
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Self {
        let here = Some(Here::Json(JsonService::at(Web::at(&host, path, tls.clone(), &Names::system()))));
        Self { here, ..Self::new(subsystem, name, host, tls) }
    }

    /// How a REST service is asked; none where it is a gRPC service.
    pub(crate) fn web(&self) -> Option<&Web> {
        self.web.as_deref()
    }

    /// How it is reached over plain HTTP; none where it speaks gRPC.
    pub(crate) fn over_http(&self) -> Option<&Web> {
        match &self.here {
            Some(Here::Json(service)) => Some(service.web()),
            Some(Here::Disclosures(_)) | None => self.web(),
        }
    }

    /// The same, found by these names.
    pub fn found_by(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// The right to one more exchange with this service: one that hangs must not take those of the others.
    pub(crate) fn share(&self, priority: Priority) -> Option<OwnedSemaphorePermit> {
        flow::share_of(Arc::clone(&self.share), MAX_EXCHANGES_OF_SERVICE, priority)
    }

    /// The room, in bytes, for messages of its answers that are held until fields can be removed of them: one that answers
    /// slowly takes none of the others'.
    pub(crate) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// The room, in bytes, for long messages that were minimised for this server: one that does not read takes none of others'.
    pub(crate) fn unread(&self, consumer: &ServerId) -> Arc<Semaphore> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(unread.entry(consumer.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_UNREAD_AT_ONCE))))
    }

    /// Its full name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is: host and port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The URI of a method.
    pub(crate) fn uri(&self, path: &MethodPath) -> http::Uri {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri =
            http::Uri::builder().scheme(scheme).authority(self.host.as_str()).path_and_query(path.as_str()).build();
        uri.expect("the configuration's host was parsed, and a method path is a path")
    }

    /// A connection that is up. The first to ask connects, the others wait for it.
    pub(crate) async fn connection(&self) -> std::io::Result<SendRequest<Outgoing>> {
        let asked = Instant::now();
        let slot = {
            let mut connections = self.connections.lock().expect("no panic while it is held");
            Arc::clone(connections.entry(lanes::current()).or_default())
        };
        let mut kept = slot.lock().await;
        if let Some(connection) = kept.up.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        // Who waited while the one before tried in vain does not try again: a queue of tries would never end.
        if kept.failed.is_some_and(|failed| failed > asked) {
            return Err(std::io::ErrorKind::NotConnected.into());
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(self.connect())).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        *kept = match &connected {
            Ok(connection) => Kept { up: Some(connection.clone()), failed: None },
            Err(_) => Kept { up: None, failed: Some(Instant::now()) },
        };
        connected
    }

    async fn connect(&self) -> std::io::Result<SendRequest<Outgoing>> {
        if let Some(here) = &self.here {
            return match here {
                Here::Disclosures(here) => self.speak(over_the_bus::connect(here, &self.subsystem)).await,
                Here::Json(service) => self.speak(service.connect(&self.subsystem)).await,
            };
        }
        let stream = self.names.connect(&self.host).await?;
        keep_alive(&stream)?;
        match &self.tls {
            None => self.speak(stream).await,
            Some(tls) => {
                let host = self.host.rsplit_once(':').map_or(self.host.as_str(), |(host, _)| host);
                let name =
                    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(std::io::Error::other)?;
                self.speak(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?).await
            }
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
    ) -> std::io::Result<SendRequest<Outgoing>> {
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(crate::listen::STREAM_WINDOW)
            .initial_connection_window_size(crate::listen::CONNECTION_WINDOW)
            .max_header_list_size(crate::listen::MAX_HEADER_LIST)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE);
        let (requests, connection) =
            builder.handshake(TokioIo::new(GatheredWrites::new(stream))).await.map_err(std::io::Error::other)?;
        let service = self.name.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::info!(%service, %error, "connection to the service closed");
            }
        });
        Ok(requests)
    }
}

/// A machine that vanished is found by TCP: a service need not like being asked by HTTP/2 so often, and HTTP/1.1 asks nothing.
pub(crate) fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(TCP_KEEP_ALIVE_INTERVAL).with_retries(2);
    socket.set_tcp_keepalive(&keep_alive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(2 * KEEP_ALIVE))?;
    Ok(())
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.subsystem)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} at {}", self.host)
    }
}
