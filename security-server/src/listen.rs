//! The doors. Each takes a permit first and gives it along: as many exchanges run as there are permits.

pub mod clients;
pub mod operators;
pub mod peers;
mod silence;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use proto::digest::Digest;
use proto::identifier::{MethodPath, SubsystemId};
use proto::message::Opening;
use proto::refusal::Language;
use proto::signature::KeyId;
use proto::wire::relay as wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::silence::Begins;
use crate::body::{self, Outgoing};
use crate::forward::{Client, OwnArrived, OwnSource};
use crate::gathered_writes::GatheredWrites;
use crate::lanes::Lanes;
use crate::relay::LineSource;
use crate::way::StopSwitch;

/// Exchanges that run at once; one more is refused.
pub const MAX_EXCHANGES: usize = 4096;
/// Exchanges that one peer may have running here at once, those included whose opening is still being read.
pub const MAX_EXCHANGES_OF_PEER: usize = 1024;
/// Exchanges that our own systems may have running with one peer at once: as many as it lets us have.
pub const MAX_EXCHANGES_WITH_PEER: usize = 1024;
/// Exchanges that one service of ours may have running at once.
pub const MAX_EXCHANGES_OF_SERVICE: usize = 1024;
/// Fetches that run at once.
pub const MAX_FETCHES: usize = 2;
/// How long an answer to a fetch may take to be read.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that a door holds at once; one more waits to be accepted.
pub const MAX_CONNECTIONS: usize = 4096;
/// Streams that one connection may have at once.
pub const MAX_STREAMS: u32 = 1024;
/// Bytes of one stream that may arrive unread.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes of one connection that may arrive unread: what is held of one peer before it is verified. Sixty-four streams
/// that nobody reads leave the others of their connection alone.
pub const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Longest list of fields, in bytes.
pub const MAX_HEADER_LIST: u32 = 32 * 1024;
/// How often a connection between servers is asked whether it lives, calls or no calls, and how long it may take to say
/// so: a peer that vanished is found within twice as long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to begin, or to send the head of an HTTP/1.1 request, and how long its connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may take to send its opening.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// A bound listener, before its door is opened.
pub type Listener = TcpListener;

/// Binds a listener.
pub async fn bind(address: std::net::SocketAddr) -> std::io::Result<Listener> {
    TcpListener::bind(address).await
}

/// The right to run one exchange. Given back when it is concluded.
#[allow(dead_code, reason = "it is held, not read")]
pub struct Permit {
    of_all: OwnedSemaphorePermit,
    of_peer: Option<OwnedSemaphorePermit>,
    of_service: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// One of these.
    pub(crate) fn new(of_all: OwnedSemaphorePermit) -> Self {
        Self { of_all, of_peer: None, of_service: None }
    }

    /// And one of the peer's own share.
    pub(crate) fn of_peer(self, of_peer: OwnedSemaphorePermit) -> Self {
        Self { of_peer: Some(of_peer), ..self }
    }

    /// And one of the service's own share.
    pub(crate) fn of_service(self, of_service: OwnedSemaphorePermit) -> Self {
        Self { of_service: Some(of_service), ..self }
    }
}

/// A client's call, with what had arrived beside its opening.
pub struct Call {
    pub(crate) permit: Permit,
    pub(crate) credential: Credential,
    pub(crate) asked: Asked,
    pub(crate) source: OwnSource,
    pub(crate) first: OwnArrived,
    pub(crate) client: Client,
    pub(crate) stop: StopSwitch,
}

/// How a client shows who it is.
#[derive(Debug)]
pub enum Credential {
    /// It came by a loopback listener that is bound to one subsystem.
    Bound(SubsystemId),
    /// Its client certificate's key; TLS proved that it holds it.
    Certificate(KeyId),
    /// SHA-256 of its token.
    Token(Digest),
    /// Not at all.
    None,
}

/// What a call asks for.
#[derive(Debug)]
pub struct Asked {
    /// Whom.
    pub provider: SubsystemId,
    /// For what.
    pub path: MethodPath,
    /// Why, and how long it may take.
    pub why: Opening,
    /// What refusals are worded in.
    pub language: Language,
}

/// A peer's opening as it claims to be: its frame, and the key that its connection showed.
pub struct ClaimedOpening {
    pub(crate) permit: Permit,
    pub(crate) connection_key: KeyId,
    pub(crate) frame: wire::Frame,
    pub(crate) source: LineSource,
    pub(crate) answer: body::Sender,
    pub(crate) stop: StopSwitch,
}

/// Accepts until it is told to stop, then waits for the connections' own endings. A failed accept is not the end: a
/// server out of descriptors goes on when it has some again.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    lanes: &Lanes,
    listener: TcpListener,
    shutdown: CancellationToken,
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) {
    let serve = Arc::new(serve);
    let connections = TaskTracker::new();
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.expect("it is never closed");
                listener.accept().await.map(|(stream, _)| (permit, stream))
            } => accepted,
        };
        match accepted {
            Ok((permit, stream)) => {
                // Nagle and delayed acknowledgements together cost 50 ms a call.
                if let (Ok(()), Ok(stream)) = (stream.set_nodelay(true), stream.into_std()) {
                    let serve = Arc::clone(&serve);
                    lanes.spawn(&connections, async move {
                        // Its lane's own runtime reads it from here on.
                        match TcpStream::from_std(stream) {
                            Ok(stream) => serve(stream).await,
                            Err(error) => tracing::warn!(%error, "a connection could not be taken up"),
                        }
                        drop(permit);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// Speaks on a connection until it closes; after a shutdown was asked for, until what runs on it has ended.
pub(crate) async fn speak<S, F>(
    spoken: auto::Builder<TokioExecutor>,
    stream: S,
    shutdown: CancellationToken,
    answer: impl Fn(Request<Incoming>) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Outgoing>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection =
        spoken.serve_connection(TokioIo::new(GatheredWrites::new(Begins::within(HEAD_TIMEOUT, stream))), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            // GOAWAY, and the streams that run go on to their ends.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection closed");
    }
}

/// HTTP/2 or HTTP/1.1, as the client begins: the clients' door.
pub(crate) fn http1_or_2() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEADER_LIST as usize)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(50)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// HTTP/2 and nothing else, within the same limits: the peers' door.
pub(crate) fn http2() -> auto::Builder<TokioExecutor> {
    http1_or_2().http2_only()
}
