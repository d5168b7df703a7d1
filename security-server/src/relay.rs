//! To the peer and from it. The message knows its line; the first one dials it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use proto::access::{MAX_ACCESS_BYTES, Priority};
use proto::identifier::{ExchangeId, ServerId};
use proto::message::Cause;
use proto::refusal::{Code, Form};
use proto::transport::{
    self, ACCESS_PATH, ALLOWED_PATH, CHECKPOINTS_PATH, CONSISTENCY_PATH, EXCHANGE_PATH, FrameReader, GRANTS_PATH,
    MAX_ALLOWED_BYTES, MAX_CHECKPOINTS_BYTES, MAX_GRANTS_BYTES, MAX_JOINED_BYTES,
};
use proto::wire::relay as wire;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::body::{self, Outgoing};
use crate::forward::AnswerFuture;
use crate::gathered_writes::GatheredWrites;
use crate::listen::MAX_EXCHANGES_WITH_PEER;
use crate::message_log::{Sealed, Source};
use crate::request::{self, NoResponse};
use crate::tls::{Keys, PeerTls};
use crate::way::{Shared, Side, Stop, Way};
use crate::{fields, flow, lanes};

/// How long a peer may take until its connection is up: TCP, TLS and its HTTP/2 settings.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to prove that its log contains a head, or to say how a request stands.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that could not be reached, or took nothing, is asked last for so long.
pub const AVOID_FOR: Duration = Duration::from_secs(10);
/// What a server says that takes nothing from anybody for a while: another one of its member's may. That it has too much to do,
/// it says of one call, and takes the next: were it avoided for that, all would go to its neighbour, and then back.
const TAKES_NOTHING: [Code; 8] = [
    Code::ProviderUnreachable,
    Code::ShuttingDown,
    Code::LogEnded,
    Code::LogFull,
    Code::NotStamped,
    Code::PayloadKeysMissing,
    Code::NotReady,
    Code::ConfigurationExpired,
];
/// The gRPC status of a method that a server does not know.
const UNIMPLEMENTED: u32 = 12;
/// How long the end of a finished stream is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The server that a request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name: its certificate must be the one registered for it.
    pub server: ServerId,
    /// Host and port of its peers' door.
    pub address: String,
}

/// The line to the other server, as our messages go onto it.
pub enum Line {
    /// To the provider's server; dialled by the first message.
    ToProvider(Box<Outward>),
    /// To the consumer's server: the response to its request. Taken at its end.
    ToConsumer(Option<body::Sender>),
}

/// A line that we dial.
pub struct Outward {
    peers: Arc<Peers>,
    target: Target,
    answer: Option<oneshot::Sender<AnswerFuture>>,
    body: Option<body::Sender>,
    left: bool,
}

/// Sent, or given up on; the next message knows.
pub struct Sent(());

/// The end of our direction: sealed, durable, sent or not (then: delivery not proven). Only `send` makes one.
pub struct OurEnd {
    left: bool,
}

impl OurEnd {
    /// Whether any byte of our direction left this server.
    pub fn left(&self) -> bool {
        self.left
    }
}

/// Puts a durable, sealed message onto its line. What cannot be delivered stops the exchange: the next message is the
/// abort. An end that cannot be delivered is an end all the same.
pub async fn send(message: Sealed) -> ControlFlow<OurEnd, Sent> {
    let Sealed { way, frame, opening, end } = message;
    let mut line = way.line.lock().await;
    let sent = line.put(&way, &frame, opening).await;
    if let Err(stop) = sent {
        way.stop(stop);
    }
    if !end {
        return ControlFlow::Continue(Sent(()));
    }
    line.finish();
    if way.side == Side::Provider {
        // The answer is whole: the consumer's own end is waited for, and not for ever.
        way.stop(Cause::Answered);
    }
    ControlFlow::Break(OurEnd { left: line.left() })
}

impl Line {
    /// A line to this target, not yet dialled, and where its answers will come from.
    pub(crate) fn to_provider((peers, target): (Arc<Peers>, Target), exchange: ExchangeId) -> (Self, LineSource) {
        let (answer, waiting) = oneshot::channel();
        let asked = Some((Arc::clone(&peers), target.server.clone()));
        let outward = Outward { peers, target, answer: Some(answer), body: None, left: false };
        let source = LineSource { from: Origin::Waiting(waiting), asked, exchange, stopped: false };
        (Self::ToProvider(Box::new(outward)), source)
    }

    async fn put(&mut self, way: &Shared, frame: &wire::Frame, opening: bool) -> Result<(), Stop> {
        if let (Self::ToProvider(outward), true) = (&mut *self, opening) {
            outward.dial(way).await?;
        }
        let body = match self {
            Self::ToProvider(outward) => &mut outward.body,
            Self::ToConsumer(body) => body,
        };
        let Some(sender) = body else {
            return if self.left() { Ok(()) } else { Err(Stop::from(Cause::Unreachable)) };
        };
        // Not even a stop takes a message out of its order: the last word is chained to it.
        let pushed = tokio::select! { biased;
            pushed = sender.data(transport::encode(frame)) => pushed,
            _ = way.until_given_up() => Err(body::Gone),
        };
        if let Err(body::Gone) = pushed {
            // Nothing goes after what did not go.
            *body = None;
            return match self {
                // Who reads no more may have answered: what it said, or that it said nothing, ends the exchange.
                Self::ToProvider(_) if way.stopped().is_none() => Ok(()),
                Self::ToProvider(_) | Self::ToConsumer(_) => Err(Stop::from(Cause::Disconnected)),
            };
        }
        if let Self::ToProvider(outward) = self {
            outward.left = true;
        }
        Ok(())
    }

    fn finish(&mut self) {
        let (body, trailers) = match self {
            Self::ToProvider(outward) => {
                // Not dialled by now, it never is.
                outward.answer = None;
                (outward.body.take(), None)
            }
            Self::ToConsumer(body) => {
                let ok = HeaderMap::from_iter([(fields::GRPC_STATUS, HeaderValue::from_static("0"))]);
                (body.take(), Some(ok))
            }
        };
        if let Some(body) = body {
            let _ = body.finish(trailers);
        }
    }

    pub(crate) fn left(&self) -> bool {
        match self {
            Self::ToProvider(outward) => outward.left,
            Self::ToConsumer(_) => true,
        }
    }
}

impl Outward {
    async fn dial(&mut self, way: &Shared) -> Result<(), Stop> {
        let connected = tokio::select! { biased;
            stop = way.until_stopped() => return Err(stop),
            connected = self.peers.connection(&self.target) => connected,
        };
        let up = connected.map_err(|error| {
            tracing::warn!(exchange = %way.exchange, peer = %self.target.server, %error, "the peer is out of reach");
            Stop::because(Cause::Unreachable, Code::ProviderUnreachable)
        })?;
        way.note_peer_key(up.keys.peer);
        let (sender, body) = body::outgoing(None);
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.target.uri(EXCHANGE_PATH);
        request.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
        request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
        let (peers, target) = (Arc::clone(&self.peers), self.target.clone());
        let again = async move || peers.connection(&target).await.map(|up| up.requests);
        let response = request::ask(up.requests, request, again);
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Box::pin(response));
        }
        self.body = Some(sender);
        Ok(())
    }
}

impl Target {
    pub(crate) fn uri(&self, path: &str) -> http::Uri {
        let uri = format!("https://{}{path}", self.address);
        uri.parse().unwrap_or_else(|_| http::Uri::from_static("https://unnamed/"))
    }
}

/// What came from the peer.
pub enum LineArrived {
    /// A frame, unread.
    Frame(Box<wire::Frame>),
    /// The exchange was stopped. Their end is still waited for, for a moment.
    Stopped(Stop),
    /// Their direction ends without their word.
    Silence(Stop),
}

/// Where the peer's messages come from.
pub struct LineSource {
    from: Origin,
    /// The server that we asked; none where it asked us.
    asked: Option<(Arc<Peers>, ServerId)>,
    exchange: ExchangeId,
    /// Whether it was said that the exchange is stopped.
    stopped: bool,
}

enum Origin {
    /// The peer was not dialled yet.
    Waiting(oneshot::Receiver<AnswerFuture>),
    /// The peer was asked.
    Asked(AnswerFuture),
    /// Frames come.
    Reading(Box<(Incoming, FrameReader)>),
    /// Nothing more comes.
    Done,
}

impl LineSource {
    /// The rest of a stream whose first frame was read at the door.
    pub(crate) fn reading(body: Incoming, frames: FrameReader, exchange: ExchangeId) -> Self {
        Self { from: Origin::Reading(Box::new((body, frames))), asked: None, exchange, stopped: false }
    }

    /// Takes in one thing more. Dropped half-way, nothing is lost.
    async fn read(&mut self, way: &Way) -> Option<LineArrived> {
        match &mut self.from {
            Origin::Waiting(waiting) => match waiting.await {
                Ok(answer) => self.from = Origin::Asked(answer),
                Err(_) => return Some(LineArrived::Silence(Stop::from(Cause::Unreachable))),
            },
            Origin::Asked(answer) => match answer.await {
                Ok(response) => return self.take_response(response),
                Err(error) => {
                    tracing::warn!(exchange = %self.exchange, %error, "the line to the peer broke");
                    if matches!(error, NoResponse::NotSent(_)) {
                        way.note_unsent();
                    }
                    return Some(LineArrived::Silence(self.stop_without(&error)));
                }
            },
            Origin::Reading(reading) => {
                let (body, frames) = &mut **reading;
                match next_frame(body, frames).await {
                    Ok(frame) => return Some(LineArrived::Frame(Box::new(frame))),
                    Err(stop) => return Some(LineArrived::Silence(stop)),
                }
            }
            Origin::Done => std::future::pending().await,
        }
        None
    }

    fn stop_without(&self, response: &NoResponse) -> Stop {
        let stop = match response {
            NoResponse::NotSent(_) => Stop::because(Cause::Unreachable, Code::ProviderUnreachable),
            NoResponse::NotTaken => Stop::refused_by_the_provider(Code::ShuttingDown),
            NoResponse::Broke(_) => Stop::from(Cause::Disconnected),
        };
        self.note_refusal(&stop);
        stop
    }

    fn note_refusal(&self, stop: &Stop) {
        if let (Some(code), Some((peers, server))) = (stop.code, &self.asked)
            && TAKES_NOTHING.contains(&code)
        {
            peers.avoid(server);
        }
    }

    fn take_response(&mut self, response: Response<Incoming>) -> Option<LineArrived> {
        let (head, body) = response.into_parts();
        if let Some(stop) = bare_refusal(&head.headers) {
            self.note_refusal(&stop);
            return Some(LineArrived::Silence(stop));
        }
        // It does not know the method: that is how versions are negotiated.
        let is_unimplemented = fields::grpc_status(&head.headers) == Some(UNIMPLEMENTED);
        if head.status != http::StatusCode::OK || !fields::is_grpc(&head.headers) || is_unimplemented {
            return Some(LineArrived::Silence(Stop::because(Cause::Disconnected, Code::ProtocolUnsupported)));
        }
        self.from = Origin::Reading(Box::new((body, FrameReader::default())));
        None
    }

    /// Reads a finished stream to its end, so that closing it is not a reset.
    pub(crate) async fn drain(mut self) {
        if let Origin::Reading(reading) = &mut self.from {
            let body = &mut reading.0;
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { while let Some(Ok(_)) = body.frame().await {} }).await;
        }
    }
}

impl Source for LineSource {
    type Arrived = LineArrived;

    async fn next(&mut self, way: &Way) -> LineArrived {
        loop {
            let arrived = tokio::select! { biased;
                // A peer that never ends is given up though it goes on talking.
                stop = way.until_given_up() => Some(LineArrived::Silence(stop)),
                // A frame that is here is taken before a stop is heard: a last word that arrived is not lost.
                arrived = self.read(way) => arrived,
                stop = way.until_stopped(), if !self.stopped => {
                    self.stopped = true;
                    Some(LineArrived::Stopped(stop))
                }
            };
            match arrived {
                None => {}
                Some(LineArrived::Silence(stop)) => {
                    self.from = Origin::Done;
                    return LineArrived::Silence(way.stopped().unwrap_or(stop));
                }
                Some(arrived) => return arrived,
            }
        }
    }
}

/// The next frame of a stream. Dropped half-way, nothing is lost.
pub(crate) async fn next_frame(body: &mut Incoming, frames: &mut FrameReader) -> Result<wire::Frame, Stop> {
    loop {
        match frames.next_frame() {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(_) => return Err(Stop::from(Cause::Disproved)),
        }
        match body.frame().await {
            Some(Ok(part)) => match part.into_data() {
                Ok(data) => frames.take(data),
                Err(part) => {
                    let trailers = part.into_trailers().unwrap_or_default();
                    return Err(bare_refusal(&trailers).unwrap_or(Stop::from(Cause::Disconnected)));
                }
            },
            Some(Err(_)) | None => return Err(Stop::from(Cause::Disconnected)),
        }
    }
}

/// The one message of a stream, which has at most so many bytes.
pub(crate) async fn read_alone<M: prost::Message + Default>(body: Incoming, most: usize) -> Result<M, NotAnswered> {
    let body = Limited::new(body, most + 5).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => NotAnswered::Broke(error.to_string()),
        Err(_) => NotAnswered::Malformed(format!("it has more than {most} bytes")),
    })?;
    let refused = body.trailers().and_then(fields::grpc_status).filter(|status| *status != 0);
    if let Some(status) = refused {
        return Err(NotAnswered::Refused(format!("gRPC status {status}")));
    }
    transport::decode_alone(body.to_bytes()).map_err(|error| NotAnswered::Malformed(error.to_string()))
}

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NotAnswered {
    /// It is out of reach.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The line broke, or it took too long.
    #[error("the line broke: {0}")]
    Broke(String),
    /// It refused, or does not know the question.
    #[error("it refused: {0}")]
    Refused(String),
    /// What it answered is no answer.
    #[error("what it answered is none: {0}")]
    Malformed(String),
}

/// A refusal without a seal. It is believed to say that there is no answer, and why is passed on only where the code is
/// one that a server says without a seal.
fn bare_refusal(fields: &HeaderMap) -> Option<Stop> {
    let code = fields.get(fields::REFUSAL)?.to_str().ok()?.parse::<Code>().ok();
    let believed = code.filter(|code| code.form() == Form::Bare).unwrap_or(Code::OutcomeUnknown);
    Some(Stop::refused_by_the_provider(believed))
}

/// The other security servers: connections that are kept and shared by many exchanges.
pub struct Peers {
    tls: Arc<PeerTls>,
    /// Each lane's own, by its number.
    connections: Mutex<HashMap<(usize, ServerId), Slot>>,
    unreachable: Mutex<HashMap<ServerId, Instant>>,
    /// Of registered servers only, so their number is bounded.
    shares: Mutex<HashMap<ServerId, Arc<Semaphore>>>,
}

/// Held by whoever dials, so that nobody else does.
type Slot = Arc<tokio::sync::Mutex<Connection>>;

#[derive(Default)]
struct Connection {
    up: Option<Up>,
    failed: Option<Instant>,
}

/// A connection that is up.
#[derive(Clone)]
pub(crate) struct Up {
    address: String,
    /// The keys that it was made with.
    keys: Keys,
    requests: SendRequest<Outgoing>,
    /// Another one took its place, though nothing is wrong with it.
    retired: Arc<AtomicBool>,
}

impl Up {
    /// Where requests are sent.
    pub(crate) fn requests(&self) -> SendRequest<Outgoing> {
        self.requests.clone()
    }
}

/// Why a peer cannot be reached, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The socket.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// TLS, or its certificates. With TLS 1.3 a refused client certificate shows only here, after the handshake.
    #[error("TLS with {address}: {error}")]
    Tls {
        /// Where to.
        address: String,
        /// What was wrong.
        error: std::io::Error,
    },
    /// HTTP/2.
    #[error("HTTP/2 with {address}: {error}")]
    Http {
        /// Where to.
        address: String,
        /// What was wrong.
        error: hyper::Error,
    },
    /// The try before this one failed while this one waited for it.
    #[error("{0} was out of reach just now")]
    JustNow(String),
    /// It took too long.
    #[error("{0} did not answer within {CONNECT_TIMEOUT:?}")]
    Timeout(String),
}

impl Peers {
    /// No connection yet.
    pub fn new(tls: Arc<PeerTls>) -> Arc<Self> {
        Arc::new(Self { tls, connections: Mutex::default(), unreachable: Mutex::default(), shares: Mutex::default() })
    }

    /// The right to one more exchange with this server.
    pub(crate) fn share(&self, server: &ServerId, priority: Priority) -> Option<OwnedSemaphorePermit> {
        let share = {
            let mut shares = self.shares.lock().expect("no panic while it is held");
            let made = || Arc::new(Semaphore::new(MAX_EXCHANGES_WITH_PEER));
            Arc::clone(shares.entry(server.clone()).or_insert_with(made))
        };
        flow::share_of(share, MAX_EXCHANGES_WITH_PEER, priority)
    }

    /// This server takes nothing at present: for a while it is asked last.
    pub(crate) fn avoid(&self, server: &ServerId) {
        let mut unreachable = self.unreachable.lock().expect("no panic while it is held");
        unreachable.insert(server.clone(), Instant::now());
    }

    /// Since when this server is asked last, because it took nothing a moment ago.
    pub fn avoided_since(&self, server: &ServerId) -> Option<Instant> {
        let mut unreachable = self.unreachable.lock().expect("no panic while it is held");
        unreachable.retain(|_, since| since.elapsed() < AVOID_FOR);
        unreachable.get(server).copied()
    }

    /// A connection that is up. The first to ask dials, the others wait for it.
    pub(crate) async fn connection(self: &Arc<Self>, target: &Target) -> Result<Up, Unreachable> {
        let asked = Instant::now();
        let slot = {
            let mut connections = self.connections.lock().expect("no panic while it is held");
            Arc::clone(connections.entry((lanes::current(), target.server.clone())).or_default())
        };
        let mut slot = slot.lock().await;
        // A connection is held against the configuration each time, not only when it was made. One that is not usable any
        // more is let go of: it closes when what runs on it has ended.
        let usable = |up: &Up| {
            up.address == target.address && self.tls.may_be_used(&target.server, &up.keys) && !up.requests.is_closed()
        };
        if let Some(up) = slot.up.as_ref().filter(|up| usable(up)) {
            return Ok(up.clone());
        }
        if let Some(up) = &slot.up {
            up.retired.store(true, Ordering::Relaxed);
        }
        // Who waited while the one before dialled in vain does not dial again: a queue of tries would never end.
        if slot.failed.is_some_and(|failed| failed > asked) {
            return Err(Unreachable::JustNow(target.address.clone()));
        }
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(self.dial(target))).await;
        let dialled = dialled.unwrap_or_else(|_| Err(Unreachable::Timeout(target.address.clone())));
        match dialled {
            Ok(up) => {
                *slot = Connection { up: Some(up.clone()), failed: None };
                Ok(up)
            }
            Err(error) => {
                *slot = Connection { up: None, failed: Some(Instant::now()) };
                self.avoid(&target.server);
                Err(error)
            }
        }
    }

    /// Asks a server how its log goes on from a head of it (PROTOCOL.md 5.6).
    pub(crate) async fn ask_to_join(
        self: &Arc<Self>,
        target: &Target,
        held: &wire::SignedHead,
    ) -> Result<wire::Joined, NotAnswered> {
        self.ask_alone(target, CONSISTENCY_PATH, held, MAX_JOINED_BYTES).await
    }

    /// Asks a server for the checkpoints that it took (PROTOCOL.md 8.5).
    pub(crate) async fn ask_for_checkpoints(
        self: &Arc<Self>,
        target: &Target,
        asked: &wire::CheckpointsAsked,
    ) -> Result<wire::CheckpointsShown, NotAnswered> {
        self.ask_alone(target, CHECKPOINTS_PATH, asked, MAX_CHECKPOINTS_BYTES).await
    }

    /// Asks a provider's server for access, and what became of a request (PROTOCOL.md 19).
    pub(crate) async fn ask_for_access(
        self: &Arc<Self>,
        target: &Target,
        asked: &wire::AccessAsked,
    ) -> Result<wire::AccessAnswered, NotAnswered> {
        self.ask_alone(target, ACCESS_PATH, asked, MAX_ACCESS_BYTES).await
    }

    /// Asks a provider's server what a consumer may ask for (PROTOCOL.md 22.6).
    pub(crate) async fn ask_what_is_allowed(
        self: &Arc<Self>,
        target: &Target,
        asked: &wire::AllowedAsked,
    ) -> Result<wire::AllowedMethods, NotAnswered> {
        self.ask_alone(target, ALLOWED_PATH, asked, MAX_ALLOWED_BYTES).await
    }

    /// Asks another server of the same member for its grants, and brings it ours (PROTOCOL.md 19.7).
    pub(crate) async fn ask_about_grants(
        self: &Arc<Self>,
        target: &Target,
        asked: &wire::GrantsAsked,
    ) -> Result<wire::GrantsGiven, NotAnswered> {
        self.ask_alone(target, GRANTS_PATH, asked, MAX_GRANTS_BYTES).await
    }

    /// Puts a question that is one message, of which the answer is one message of so many bytes at the most.
    async fn ask_alone<A: prost::Message + Default>(
        self: &Arc<Self>,
        target: &Target,
        path: &'static str,
        question: &impl prost::Message,
        most: usize,
    ) -> Result<A, NotAnswered> {
        let asked = tokio::time::timeout(ASK_TIMEOUT, async {
            let up = self.connection(target).await?;
            let (mut sender, body) = body::outgoing(None);
            let mut request = Request::new(body);
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = target.uri(path);
            request.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
            request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
            let again = async || self.connection(target).await.map(|up| up.requests);
            let response = request::ask(up.requests, request, again);
            let said = async {
                let _ = sender.data(transport::encode_alone(question)).await;
                let _ = sender.finish(None);
            };
            let (response, ()) = tokio::join!(response, said);
            let response = response.map_err(|error| NotAnswered::Broke(error.to_string()))?;
            let (head, body) = response.into_parts();
            if let Some(code) = head.headers.get(fields::REFUSAL) {
                return Err(NotAnswered::Refused(String::from_utf8_lossy(code.as_bytes()).into_owned()));
            }
            let status = fields::grpc_status(&head.headers).filter(|status| *status != 0);
            if head.status != http::StatusCode::OK || status.is_some() {
                return Err(NotAnswered::Refused(format!("gRPC status {}", status.unwrap_or_default())));
            }
            read_alone(body, most).await
        });
        asked.await.unwrap_or_else(|_| Err(NotAnswered::Broke(format!("no answer within {ASK_TIMEOUT:?}"))))
    }

    async fn dial(self: &Arc<Self>, target: &Target) -> Result<Up, Unreachable> {
        let address = || target.address.clone();
        let (keys, stream) = self.tls.connect(target).await?;
        let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        builder
            .timer(hyper_util::rt::TokioTimer::new())
            .initial_stream_window_size(crate::listen::STREAM_WINDOW)
            .initial_connection_window_size(crate::listen::CONNECTION_WINDOW)
            .max_header_list_size(crate::listen::MAX_HEADER_LIST)
            .keep_alive_interval(crate::listen::KEEP_ALIVE)
            .keep_alive_timeout(crate::listen::KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let (requests, connection) = builder
            .handshake(hyper_util::rt::TokioIo::new(GatheredWrites::new(stream)))
            .await
            .map_err(|error| Unreachable::Http { address: address(), error })?;
        let (peers, peer) = (Arc::downgrade(self), target.server.clone());
        let retired = Arc::new(AtomicBool::new(false));
        let was_retired = Arc::clone(&retired);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::info!(%peer, %error, "connection to the peer closed");
            }
            // It stops, or is gone: another server of its member's may not be.
            if let Some(peers) = peers.upgrade().filter(|_| !was_retired.load(Ordering::Relaxed)) {
                peers.avoid(&peer);
            }
        });
        Ok(Up { address: target.address.clone(), keys, requests, retired })
    }
}
