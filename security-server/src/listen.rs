//! The doors. Each takes a permit first and gives it along: as many exchanges run as there are permits.

pub(crate) mod calls;
pub mod clients;
pub mod operators;
pub mod peers;
mod silence;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use proto::access::Priority;
use proto::digest::Digest;
use proto::identifier::{ServerId, SubsystemId};
use proto::message::{Opening, Operation};
use proto::refusal::Language;
use proto::signature::KeyId;
use proto::wire::relay as wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::calls::Calls;
use self::silence::Begins;
use crate::body::{self, Outgoing};
use crate::flow::{InHand, OfOne};
use crate::forward::{Client, OwnArrived, OwnSource};
use crate::gathered_writes::GatheredWrites;
use crate::lanes::Lanes;
use crate::limits::{self, Limits};
use crate::quota::{Share, Shares};
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
/// Fetches among them that wait for where removed segments are kept: what is here is fetched meanwhile.
pub const MAX_FETCHES_ELSEWHERE: usize = 1;
/// How long an answer to a fetch may take to be read.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
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
/// Calls of one connection that it has reset and nobody has taken up yet; who resets more has its connection closed (RFC 9113, 10.5).
pub const MAX_RESETS_AWAITING: usize = 50;
/// Streams of one connection that this server has reset because of an error of its client's; who makes more is closed out.
pub const MAX_RESETS_FOR_ERRORS: usize = 1024;
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
    of_client: Option<Share<SubsystemId>>,
    in_hand: Option<InHand>,
}

impl Permit {
    /// One of these.
    pub(crate) fn new(of_all: OwnedSemaphorePermit) -> Self {
        Self { of_all, of_peer: None, of_service: None, of_client: None, in_hand: None }
    }

    /// And one of the peer's own share.
    pub(crate) fn of_peer(self, of_peer: OwnedSemaphorePermit) -> Self {
        Self { of_peer: Some(of_peer), ..self }
    }

    /// And one of the service's own share.
    pub(crate) fn of_service(self, of_service: OwnedSemaphorePermit) -> Self {
        Self { of_service: Some(of_service), ..self }
    }

    /// And one of our own subsystem's share.
    pub(crate) fn of_client(self, of_client: Share<SubsystemId>) -> Self {
        Self { of_client: Some(of_client), ..self }
    }

    /// And its room while it is in hand.
    pub(crate) fn in_hand(&mut self, in_hand: InHand) {
        self.in_hand = Some(in_hand);
    }

    /// That of its call, while it is in hand.
    pub(crate) fn priority(&self) -> Priority {
        self.in_hand.as_ref().map_or(Priority::Ordinary, InHand::priority)
    }

    /// That room, for whoever knows when it goes on.
    pub(crate) fn take_in_hand(&mut self) -> Option<InHand> {
        self.in_hand.take()
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
    /// By which of its servers, where the caller names one.
    pub server: Option<ServerId>,
    /// For what.
    pub operation: Operation,
    /// Why, and how long it may take.
    pub why: Opening,
    /// What refusals are worded in.
    pub language: Language,
}

/// A peer's opening as it claims to be: its frame, and the key that its connection showed.
pub struct ClaimedOpening {
    pub(crate) permit: Permit,
    /// What the peer has in hand.
    pub(crate) of_one: OfOne,
    pub(crate) connection_key: KeyId,
    pub(crate) frame: wire::Frame,
    pub(crate) source: LineSource,
    pub(crate) answer: body::Sender,
    pub(crate) stop: StopSwitch,
}

/// Where a connection comes from: an address, and of IPv6 the network of 64 bits that one system has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        })
    }
}

/// Accepts until it is told to stop, then waits for the connections' own endings. A failed accept is not the end: a
/// server out of descriptors goes on when it has some again.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    lanes: &Lanes,
    limits: Limits,
    listener: TcpListener,
    shutdown: CancellationToken,
    serve: impl Fn(TcpStream, Network) -> F + Send + Sync + 'static,
) {
    let serve = Arc::new(serve);
    let connections = TaskTracker::new();
    let permits = Arc::new(tokio::sync::Semaphore::new(limits::count(limits.connections)));
    let of_addresses = Shares::of_each(limits::count(limits.connections_of_address));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.expect("it is never closed");
                listener.accept().await.map(|accepted| (permit, accepted))
            } => accepted,
        };
        match accepted {
            Ok((permit, (stream, address))) => {
                let from = Network::of(address.ip());
                let Some(of_address) = of_addresses.take(from) else {
                    refused_connection("connections_of_address");
                    continue;
                };
                // Nagle and delayed acknowledgements together cost 50 ms a call.
                if let (Ok(()), Ok(stream)) = (stream.set_nodelay(true), stream.into_std()) {
                    let serve = Arc::clone(&serve);
                    lanes.spawn(&connections, async move {
                        // Its lane's own runtime reads it from here on.
                        match TcpStream::from_std(stream) {
                            Ok(stream) => serve(stream, from).await,
                            Err(error) => tracing::warn!(%error, "a connection could not be taken up"),
                        }
                        drop((permit, of_address));
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

/// Notes that one was closed because of this limit. Not at more length: who floods a door does not fill the log of diagnostics.
pub(crate) fn refused_connection(limit: &'static str) {
    tracing::debug!(limit, "a connection more than may be is closed");
    metrics::counter!("causeway_connections_refused_total", "limit" => limit).increment(1);
}

/// Speaks on a connection until it closes; after it was told to go, because a shutdown was asked for, it has been without a call for
/// `idle` or resets too much, until what runs on it has ended.
pub(crate) async fn speak<S, F>(
    idle: Option<Duration>,
    limits: Limits,
    spoken: auto::Builder<TokioExecutor>,
    stream: S,
    shutdown: CancellationToken,
    answer: impl Fn(Request<Incoming>) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Outgoing>> + Send + 'static,
{
    let calls = Calls::within(&limits);
    let of_connection = Arc::clone(&calls);
    let service = service_fn(move |request: Request<Incoming>| {
        let call = of_connection.begin();
        let answered = answer(request);
        async move {
            let answered = answered.await;
            Ok::<_, Infallible>(answered.map(|body| body.of_call(call.answered())))
        }
    });
    let stream = GatheredWrites::new(Begins::within(limits.begin(), stream));
    let connection = spoken.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let until_idle = async {
        match idle {
            Some(idle) => calls.until_idle(idle).await,
            None => std::future::pending().await,
        }
    };
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = shutdown.cancelled() => None,
        () = until_idle => None,
        () = calls.until_too_many_resets() => {
            metrics::counter!("causeway_connections_told_to_go_total", "limit" => "resets_per_second").increment(1);
            None
        }
    };
    let served = match served {
        Some(served) => served,
        None => {
            // GOAWAY, and the streams that run go on to their ends.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = calls.until_given_up(limits.begin()) => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection closed");
    }
}

/// HTTP/2 or HTTP/1.1, as the client begins: the clients' door.
pub(crate) fn http1_or_2(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.begin())
        .max_buf_size(MAX_HEADER_LIST as usize)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_RESETS_AWAITING)
        .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// HTTP/2 and nothing else, within the same limits: the peers' door.
pub(crate) fn http2(limits: &Limits) -> auto::Builder<TokioExecutor> {
    http1_or_2(limits).http2_only()
}
