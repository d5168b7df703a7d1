//! To and from our own system: the client that asked, or the service that is asked. The message knows its way.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use proto::digest::Digest;
use proto::identifier::ServerId;
use proto::message::{Cause, Contents, End, Fields, Operation};
use proto::minimise::{Minimiser, NotMinimised, Table};
use proto::refusal::{Code, Form, Language, Speaker};
use proto::rest::STATUS_FIELD;
use proto::transport::{MAX_PAYLOAD_BYTES, MAX_PIECE_BYTES, MAX_PIECES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::access_rights::Granted;
use crate::body::{self, Outgoing};
use crate::limits::Limits;
use crate::message_log::{Recorded, Said, Source};
use crate::request::{self, NoResponse};
use crate::rest::{BodyHash, CalledOperation};
use crate::services::Service;
use crate::way::{Shared, Side, Stop, StopSwitch, Way};
use crate::{fields, rest};

/// How long a service may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request that was broken off may take to be reset as one, before it is cancelled.
const BROKEN_OFF_TIMEOUT: Duration = Duration::from_secs(1);

/// A response on its way, from a service or from a peer.
pub type AnswerFuture = Pin<Box<dyn Future<Output = Result<Response<Incoming>, NoResponse>> + Send>>;

/// Our own system, as messages of theirs are handed on to it.
pub enum OwnSystem {
    /// The client that asked.
    Client(Client),
    /// The service that is asked.
    Service(Box<CalledService>),
    /// No service: a refusal is the answer, whatever is asked.
    Refusing,
    /// Its direction has ended.
    Done,
}

/// The client that asked, waiting at its door.
pub struct Client {
    /// Where the door waits for the response.
    pub(crate) head: Option<oneshot::Sender<Response<Outgoing>>>,
    pub(crate) body: Option<body::Sender>,
    /// Stops the exchange when the client hangs up.
    pub(crate) hang_up: StopSwitch,
    /// What refusals are worded in.
    pub(crate) language: Language,
}

/// A service that is being called.
pub struct CalledService {
    granted: Granted,
    answer: Option<oneshot::Sender<Result<AnswerFuture, Code>>>,
    body: Option<body::Sender>,
    is_whole: Arc<AtomicBool>,
    /// Whether it is called with its first message only: its requests name persons, and may be refused.
    waits: bool,
    /// What its call is to bring, until it is made.
    metadata: Option<Fields>,
    /// Messages that were not handed on whole yet.
    held: u64,
    /// A REST service was called with a request that has no body.
    has_no_body: bool,
}

/// A service's answer that is waited for. Dropped, it cancels the request; but some libraries take a cancelled request for
/// one that ended well (tonic's), so that one that is not whole is waited for until its body's end has reset it.
struct Awaited {
    answer: Option<AnswerFuture>,
    /// Whether the request was sent: what was not asked yet is not asked any more.
    begun: bool,
    request_is_whole: Arc<AtomicBool>,
}

impl Future for Awaited {
    type Output = Result<Response<Incoming>, NoResponse>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.begun = true;
        let answer = self.answer.as_mut().expect("it is not polled after its end");
        let polled = answer.as_mut().poll(cx);
        if polled.is_ready() {
            self.answer = None;
        }
        polled
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let broken_off = self.begun && !self.request_is_whole.load(Ordering::Acquire);
        let unanswered = self.answer.take().filter(|_| broken_off);
        if let (Some(answer), Ok(runtime)) = (unanswered, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(BROKEN_OFF_TIMEOUT, answer));
        }
    }
}

/// The number of a message that was handed on. Only `hand_on` makes one.
pub struct HandedOn(());

/// The end of their direction, handed on. Only `hand_on` makes one.
pub struct TheirEnd {
    silent: bool,
}

impl TheirEnd {
    /// Whether the end is not their word, but our giving up on it.
    pub fn is_silence(&self) -> bool {
        self.silent
    }
}

/// Hands a durable message on, in its order. What cannot be handed on stops the exchange.
pub async fn hand_on(message: Recorded) -> ControlFlow<TheirEnd, HandedOn> {
    let Recorded { way, said } = message;
    let mut own = way.own.lock().await;
    let (silent, ended) = match said {
        Said::Message { contents, end, opening, held } => {
            let handed = match &mut *own {
                OwnSystem::Client(client) => client.take(&way, contents, end.as_ref()).await,
                OwnSystem::Service(service) => {
                    // Said in a signed answer: only what a service was there to take counts.
                    let taken = service.take(&way, contents, end.as_ref(), opening, held).await;
                    way.note_handed_on(taken);
                    Ok(())
                }
                OwnSystem::Refusing | OwnSystem::Done => Ok(()),
            };
            if let Err(stop) = handed {
                way.stop(stop);
                // What is missing a piece is handed nothing more.
                own.stop(&way, stop);
            }
            (false, end)
        }
        Said::Stopped(stop) => {
            own.stop(&way, stop);
            (false, None)
        }
        Said::Nothing(stop) => {
            own.stop(&way, stop);
            (true, Some(End::Abort(stop.cause)))
        }
    };
    let Some(end) = ended else { return ControlFlow::Continue(HandedOn(())) };
    *own = OwnSystem::Done;
    match (way.side, end) {
        // The answer is whole: nothing more is asked.
        (Side::Consumer, _) => way.stop(Cause::Answered),
        // The consumer broke off: the service is to see it, and has nothing more to say to anyone.
        (Side::Provider, End::Abort(cause)) if cause != Cause::Answered => way.stop(cause),
        (Side::Provider, _) => {}
    }
    ControlFlow::Break(TheirEnd { silent })
}

impl OwnSystem {
    /// The service of a grant, not yet called, and where its answer will come from.
    pub(crate) fn to_service(granted: Granted, consumer: &ServerId, waits: bool) -> (Self, OwnSource) {
        let (answer, waiting) = oneshot::channel();
        let mut source = OwnSource::new(Origin::Waiting(waiting));
        source.rest = granted.operation.as_ref().map(|_| 0);
        source.minimising =
            granted.table.as_ref().map(|table| Box::new(Minimising::of(table, &granted.service, consumer)));
        let is_whole = Arc::default();
        let (answer, body, metadata) = (Some(answer), None, None);
        let called = CalledService { granted, answer, body, is_whole, waits, metadata, held: 0, has_no_body: false };
        (Self::Service(Box::new(called)), source)
    }

    /// Hears no more of the exchange. A client is told why; a service sees a reset.
    pub(crate) fn stop(&mut self, way: &Way, stop: Stop) {
        if let Self::Client(client) = self {
            client.refuse(way, code_of_silence(stop), stop.said_by);
        }
        *self = Self::Done;
    }

    /// No service: this refusal is the answer.
    pub(crate) fn refusing(code: Code) -> (Self, OwnSource) {
        (Self::Refusing, OwnSource::new(Origin::Refusing(code)))
    }
}

impl Client {
    async fn take(&mut self, way: &Way, contents: Contents, end: Option<&End>) -> Result<(), Stop> {
        let Contents { metadata, pieces, trailers } = contents;
        if let Some(metadata) = metadata {
            // All of a REST answer, and no body: where HTTP has none, nobody would read its end.
            if is_rest(way) && pieces.is_empty() && matches!(end, Some(End::Trailers { .. })) {
                return self.begin(way, &metadata, true);
            }
            self.begin(way, &metadata, false)?;
        }
        for piece in pieces {
            let Some(body) = &mut self.body else {
                return Err(Stop::because(Cause::Malformed, Code::ProviderUnproven));
            };
            pushed(way, body.data(piece)).await?;
        }
        match end {
            None => Ok(()),
            Some(End::Trailers { .. }) => self.end(way, &trailers.unwrap_or_default()),
            Some(End::Refused(code)) => {
                // A seal proves who says it, and not that it is theirs to say: what our server finds out, it says itself.
                let theirs = code.parse().ok().filter(|code: &Code| code.form() == Form::Sealed);
                self.refuse(way, theirs.unwrap_or(Code::OutcomeUnknown), Speaker::ProviderServer);
                Ok(())
            }
            Some(End::Abort(cause)) => {
                self.refuse(way, code_of_abort(*cause), Speaker::ProviderServer);
                Ok(())
            }
            Some(End::HalfClose) => Err(Stop::because(Cause::Malformed, Code::ProviderUnproven)),
        }
    }

    /// The response's head, once. `whole`: there is nothing behind it.
    fn begin(&mut self, way: &Way, metadata: &Fields, whole: bool) -> Result<(), Stop> {
        let Some(head) = self.head.take() else { return Err(Stop::because(Cause::Malformed, Code::ProviderUnproven)) };
        let hang_up = self.hang_up.clone();
        let on_hang_up = Box::new(move || hang_up.stop(Stop::from(Cause::Cancelled)));
        let (sender, body) = if whole {
            Outgoing::empty()
        } else {
            let (sender, body) = body::outgoing(Some(on_hang_up));
            (Some(sender), body)
        };
        let mut response = Response::new(body);
        if is_rest(way) {
            // Verified: it is there, once.
            let said = metadata.iter().find(|(name, _)| name == STATUS_FIELD);
            let status = said.and_then(|(_, status)| StatusCode::from_bytes(status).ok());
            *response.status_mut() = status.ok_or(Stop::because(Cause::Malformed, Code::ProviderUnproven))?;
        }
        *response.headers_mut() = fields::to_headers(metadata);
        response.headers_mut().insert(fields::EXCHANGE, fields::exchange_value(&way.exchange));
        self.body = sender;
        head.send(response).map_err(|_| Stop::from(Cause::Cancelled))
    }

    fn end(&mut self, way: &Way, trailers: &Fields) -> Result<(), Stop> {
        match self.body.take() {
            // Of a REST answer the head was said before, or it is none.
            None if is_rest(way) => Err(Stop::because(Cause::Malformed, Code::ProviderUnproven)),
            Some(body) if is_rest(way) => body.finish(None).map_err(|body::Gone| Stop::from(Cause::Cancelled)),
            // Trailers only: the one block of fields is the head.
            None => self.begin(way, trailers, true),
            Some(body) => {
                body.finish(Some(fields::to_headers(trailers))).map_err(|body::Gone| Stop::from(Cause::Cancelled))
            }
        }
    }

    /// Tells the client why there is no answer, or no more of it. A client that is gone is told nothing.
    fn refuse(&mut self, way: &Way, code: Code, said_by: Speaker) {
        metrics::counter!("causeway_refusals_total", "code" => code.as_str()).increment(1);
        let trailers = fields::refusal(code, self.language, Some(&way.exchange), said_by);
        let told = match self.body.take() {
            None => match self.head.take() {
                None => return,
                Some(head) => {
                    let mut response = Response::new(Outgoing::empty().1);
                    *response.headers_mut() = trailers;
                    let _ = response.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
                    head.send(response).is_ok()
                }
            },
            // Its status was said: what is missing of it is seen by nothing but a connection that breaks off.
            Some(body) if is_rest(way) => {
                drop(body);
                false
            }
            Some(body) => body.finish(Some(trailers)).is_ok(),
        };
        tracing::info!(exchange = %way.exchange, code = %code, told, "refused");
    }
}

impl CalledService {
    /// How many messages the service has been handed with this one, whole or in part: none where it is not there to take it, or
    /// where all of it is held back; those before it too where it completes them.
    async fn take(&mut self, way: &Way, contents: Contents, end: Option<&End>, opening: bool, held: bool) -> u64 {
        if opening {
            self.metadata = contents.metadata;
        }
        // Where its requests name persons it hears of none before the first whole message.
        let begins = if self.waits { !contents.pieces.is_empty() } else { opening };
        if begins {
            let whole = matches!(end, Some(End::HalfClose)).then(|| contents.pieces.iter().map(Bytes::len).sum());
            self.call(way, whole).await;
        }
        let (taken, mut some) = (self.body.is_some() || self.has_no_body, !held);
        if let Some(body) = &mut self.body {
            for piece in contents.pieces {
                some = true;
                // A service that reads no more may still answer: its answer ends the exchange, not this.
                if pushed(way, body.data(piece)).await.is_err() {
                    self.body = None;
                    break;
                }
            }
        }
        if let Some(end) = end {
            // Dropped without its end, the body becomes a reset: the service sees the cancel.
            let body = self.body.take();
            if let (End::HalfClose, Some(body)) = (end, body) {
                self.is_whole.store(true, Ordering::Release);
                let _ = body.finish(None);
            }
        }
        self.held += 1;
        if taken && some { std::mem::take(&mut self.held) } else { 0 }
    }

    /// `whole`: all of the request's body is here, and this is its length.
    async fn call(&mut self, way: &Way, whole: Option<usize>) {
        let Some(answer) = self.answer.take() else { return };
        let metadata = self.metadata.take();
        if let Some(operation) = &self.granted.operation {
            let called = self.call_rest(way, operation, metadata.as_ref(), whole).map(|(body, answer)| {
                self.has_no_body = body.is_none();
                self.body = body;
                answer
            });
            let _ = answer.send(called);
            return;
        }
        let (sender, body) = body::outgoing(None);
        let request = self.request(way, metadata.as_ref(), body);
        let connection = tokio::select! { biased;
            _ = way.until_stopped() => return,
            connection = self.granted.service.connection() => connection,
        };
        let called = match connection {
            Ok(connection) => {
                self.body = Some(sender);
                let service = Arc::clone(&self.granted.service);
                let again = async move || service.connection().await;
                let answer: AnswerFuture = Box::pin(request::ask(connection, request, again));
                let request_is_whole = Arc::clone(&self.is_whole);
                Ok(Box::pin(Awaited { answer: Some(answer), begun: false, request_is_whole }) as AnswerFuture)
            }
            Err(error) => {
                tracing::warn!(exchange = %way.exchange, service = %self.granted.service, %error, "the service is out of reach");
                Err(Code::ServiceUnreachable)
            }
        };
        let _ = answer.send(called);
    }

    /// A REST service: its own verb, path and fields, and any body.
    fn call_rest(
        &self,
        way: &Way,
        operation: &CalledOperation,
        metadata: Option<&Fields>,
        whole: Option<usize>,
    ) -> Result<(Option<body::Sender>, AnswerFuture), Code> {
        let web = self.granted.service.web().ok_or(Code::ServiceUnknown)?;
        let (sender, body) = match whole {
            Some(0) => {
                self.is_whole.store(true, Ordering::Release);
                Outgoing::empty()
            }
            Some(_) | None => {
                let (sender, body) = body::outgoing(None);
                (Some(sender), body)
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = operation.verb.clone();
        *request.uri_mut() = web.uri(&operation.target).ok_or(Code::GrantMissing)?;
        let headers = request.headers_mut();
        *headers = rest::carried(&fields::to_headers(metadata.unwrap_or(&Vec::new())));
        match whole {
            Some(0) => {}
            Some(length) => _ = headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length)),
            // Said, because of a GET hyper would leave such a body out.
            None => _ = headers.insert(http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        }
        self.say_who_asks(way, headers);
        // X-Road's services know who asks by this field: what the other side wrote there is not its word.
        headers.remove(rest::X_ROAD_CLIENT);
        if let Ok(client) = HeaderValue::from_str(way.route.consumer.as_str()) {
            headers.insert(rest::X_ROAD_CLIENT, client);
        }
        let request_is_whole = Arc::clone(&self.is_whole);
        let answer = Awaited { answer: Some(web.ask(request)), begun: false, request_is_whole };
        Ok((sender, Box::pin(answer)))
    }

    /// Who asks is the bus's word: a field of this name from the other side was taken out at its door.
    fn say_who_asks(&self, way: &Way, headers: &mut HeaderMap) {
        for (name, value) in [(fields::CONSUMER, way.route.consumer.as_str()), (fields::PURPOSE, &way.why.purpose)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers.insert(fields::EXCHANGE, fields::exchange_value(&way.exchange));
    }

    fn request(&self, way: &Way, metadata: Option<&Fields>, body: Outgoing) -> Request<Outgoing> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.granted.service.uri(&self.granted.path);
        let headers = request.headers_mut();
        if let Some(metadata) = metadata {
            *headers = fields::to_headers(metadata);
        }
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        if self.waits || self.granted.table.is_some() {
            // What is read here as protobuf, the service reads as protobuf: by another content type it might read another request.
            headers.insert(http::header::CONTENT_TYPE, fields::GRPC);
        }
        if self.granted.table.is_some() {
            // Of what is compressed no field can be removed: the service is offered nothing.
            headers.remove(fields::GRPC_ACCEPT_ENCODING);
        }
        if let Some(left) = way.remaining_ms() {
            headers.insert(fields::GRPC_TIMEOUT, fields::timeout_value(left));
        }
        self.say_who_asks(way, headers);
        request
    }
}

async fn pushed(way: &Shared, push: impl Future<Output = Result<(), body::Gone>>) -> Result<(), Stop> {
    tokio::select! { biased;
        pushed = push => pushed.map_err(|_| Stop::from(Cause::Cancelled)),
        // A stalled reader must not hide that the exchange was stopped.
        stop = way.until_stopped() => Err(stop),
    }
}

/// Whether it is a REST service that is asked.
fn is_rest(way: &Shared) -> bool {
    matches!(way.route.operation, Operation::Http { .. })
}

/// What our client is told when the other side says nothing.
fn code_of_silence(stop: Stop) -> Code {
    stop.code.unwrap_or(match stop.cause {
        Cause::Deadline => Code::DeadlinePassed,
        Cause::Unreachable => Code::ProviderUnreachable,
        Cause::Forbidden => Code::AccessEnded,
        Cause::Disproved => Code::ProviderUnproven,
        Cause::Shutdown => Code::ShuttingDown,
        Cause::Unspecified
        | Cause::Cancelled
        | Cause::Disconnected
        | Cause::Answered
        | Cause::Malformed
        | Cause::TooLarge => Code::OutcomeUnknown,
    })
}

/// What our client is told when the other side broke off.
fn code_of_abort(cause: Cause) -> Code {
    match cause {
        Cause::Deadline => Code::DeadlinePassed,
        Cause::Unreachable => Code::ServiceUnreachable,
        Cause::Forbidden => Code::AccessEnded,
        Cause::Shutdown => Code::ShuttingDown,
        Cause::Disconnected | Cause::Malformed | Cause::TooLarge => Code::ServiceMalformed,
        Cause::Disproved => Code::Unproven,
        Cause::Unspecified | Cause::Cancelled | Cause::Answered => Code::OutcomeUnknown,
    }
}

/// What had arrived from our own system when it was asked.
#[derive(Debug, Default)]
pub struct OwnArrived {
    /// What is to be carried.
    pub contents: Contents,
    /// What was removed of the answer since the message before: there exactly where the answer is minimised and pieces go.
    pub removed: Option<Vec<u8>>,
    /// Its end, if it has come.
    pub end: Option<OwnEnd>,
}

/// How our own system, or we in its stead, end our direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnEnd {
    /// The client has said all.
    HalfClose,
    /// The service ended its answer, with this status.
    Trailers {
        /// The gRPC status.
        status: u32,
    },
    /// Broken off.
    Abort(Cause),
    /// Answered in the service's stead.
    Refused(Code),
}

impl OwnEnd {
    /// What ends our direction when the exchange was stopped: an abort, or what this server refuses in the service's place.
    fn of(stop: Stop) -> Self {
        match stop.code {
            Some(code @ (Code::SubjectMissing | Code::SubjectUnreadable | Code::RateExceeded)) => Self::Refused(code),
            _ => Self::Abort(stop.cause),
        }
    }

    /// Whether our own system broke off or was never called, rather than ended.
    fn is_broken_off(self) -> bool {
        matches!(
            self,
            Self::Refused(Code::ServiceMalformed) | Self::Abort(Cause::Disconnected) | Self::Abort(Cause::Cancelled)
        )
    }

    /// As a header says it.
    pub(crate) fn sealed(self, trailers: Option<Digest>) -> End {
        match (self, trailers) {
            (Self::HalfClose, _) => End::HalfClose,
            (Self::Trailers { status }, Some(commitment)) => End::Trailers { commitment, status },
            (Self::Trailers { .. }, None) => End::Abort(Cause::Malformed),
            (Self::Abort(cause), _) => End::Abort(cause),
            (Self::Refused(code), _) => End::Refused(code.as_str().to_owned()),
        }
    }
}

/// Many systems write a call's head and its body one after the other, microseconds apart. A message of its own for each would
/// be sealed and synced by itself; a turn costs a microsecond, and a sync some hundreds of it.
const TURNS_FOR_A_BODY: usize = 16;

/// Where the messages of our own system come from.
pub struct OwnSource {
    from: Origin,
    gathered: Contents,
    gathered_bytes: usize,
    end: Option<OwnEnd>,
    /// What arrived beyond one message's limit.
    over: Option<Bytes>,
    /// Bytes of its body so far, and the most that may be.
    said: (u64, u64),
    /// Where the grant names fields, what takes the others out of the service's answer before anything else sees it.
    minimising: Option<Box<Minimising>>,
    /// Of a REST service that answers, the HTTP status; 0: it did not answer yet.
    rest: Option<u16>,
    /// What reads a request's body as it comes, for X-Road's hash of it.
    reading: Option<BodyHash>,
}

/// An answer that is minimised, and its room for a message that is held until it is whole.
struct Minimising {
    minimiser: Minimiser,
    room: Arc<Semaphore>,
    holds: Option<OwnedSemaphorePermit>,
    /// And for what has passed and was not carried yet: it is there for as long as the client reads no further.
    unread: Arc<Semaphore>,
    passing: Option<OwnedSemaphorePermit>,
}

/// A message up to this length is held without asking for room: HTTP/2 holds as much of each answer anyway.
const HELD_WITHOUT_ROOM: usize = 64 * 1024;

impl Minimising {
    fn of(table: &Arc<Table>, service: &Service, consumer: &ServerId) -> Self {
        let (room, unread) = (service.room(), service.unread(consumer));
        Self { minimiser: Minimiser::new(Arc::clone(table)), room, holds: None, unread, passing: None }
    }

    /// Waits until there is room for the message that has begun, all of it at once: two that each held a half would wait for
    /// each other. It is asked when what passed before was taken to be carried. Dropped half-way, nothing is lost.
    async fn has_room(&mut self) {
        let awaited = self.minimiser.awaited();
        if awaited <= HELD_WITHOUT_ROOM {
            (self.holds, self.passing) = (None, None);
        } else if self.holds.is_none() {
            let bytes = u32::try_from(awaited).unwrap_or(u32::MAX);
            self.passing = None;
            // Its own consumer's first: a client that does not read keeps the service's room from nobody else.
            let passing = Arc::clone(&self.unread).acquire_many_owned(bytes).await.ok();
            self.holds = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok();
            self.passing = passing;
        }
    }

    fn take(&mut self, data: Bytes) -> Result<Bytes, NotMinimised> {
        let before = self.minimiser.awaited();
        let passes = self.minimiser.take(data)?;
        if self.minimiser.awaited() != before {
            // Another message than the one that had the room.
            self.holds = None;
        }
        Ok(passes)
    }
}

enum Origin {
    /// The client's request.
    Client(Incoming),
    /// The client's request, translated at its door.
    Translated(Outgoing),
    /// The service was not called yet.
    Waiting(oneshot::Receiver<Result<AnswerFuture, Code>>),
    /// The service was called.
    Called(AnswerFuture),
    /// The service answers.
    Service(Incoming),
    /// No service is called.
    Refusing(Code),
    /// Nothing more comes.
    Done,
}

impl OwnSource {
    fn new(from: Origin) -> Self {
        let (gathered, said) = (Contents::default(), (0, Limits::default().stream_bytes));
        Self {
            from,
            gathered,
            gathered_bytes: 0,
            end: None,
            over: None,
            said,
            minimising: None,
            rest: None,
            reading: None,
        }
    }

    /// It may say no more than so many bytes.
    pub(crate) fn says_at_most(&mut self, bytes: u64) {
        self.said.1 = bytes;
    }

    /// The client's request: its metadata, and its body as it comes.
    pub(crate) fn of_client(metadata: Fields, body: Incoming) -> Self {
        let mut source = Self::new(Origin::Client(body));
        source.gathered.metadata = Some(metadata);
        source
    }

    /// The same, where its body is hashed as it comes.
    pub(crate) fn hashed(self, hash: BodyHash) -> Self {
        Self { reading: Some(hash), ..self }
    }

    /// The same, where the door translates the body into gRPC as it comes.
    pub(crate) fn translated(metadata: Fields, body: Outgoing) -> Self {
        let mut source = Self::new(Origin::Translated(body));
        source.gathered.metadata = Some(metadata);
        source
    }

    /// What has arrived already, within a turn of the scheduler: a sender that waits must not be waited for. Where it is
    /// no more than a head, within [`TURNS_FOR_A_BODY`].
    pub(crate) async fn arrived(&mut self) -> OwnArrived {
        self.gather_what_is_there();
        for turn in 0..TURNS_FOR_A_BODY {
            if self.is_full() || turn > 0 && !self.gathered.pieces.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
            self.gather_what_is_there();
        }
        self.take()
    }

    fn gather_what_is_there(&mut self) {
        while !self.is_full() && self.gather().now_or_never().is_some() {}
    }

    fn is_full(&self) -> bool {
        self.end.is_some() || self.over.is_some() || self.gathered.pieces.len() >= MAX_PIECES
    }

    fn take(&mut self) -> OwnArrived {
        self.gathered_bytes = 0;
        let end = if self.over.is_none() { self.end.take() } else { None };
        let contents = std::mem::take(&mut self.gathered);
        let minimising = self.minimising.as_mut().filter(|_| !contents.pieces.is_empty());
        OwnArrived { removed: minimising.map(|minimising| minimising.minimiser.removed()), contents, end }
    }

    /// Takes in one thing more. Dropped half-way, nothing is lost.
    async fn gather(&mut self) {
        match &mut self.from {
            Origin::Client(body) | Origin::Service(body) => {
                if let Some(minimising) = &mut self.minimising {
                    minimising.has_room().await;
                }
                let frame = body.frame().await;
                let is_client = matches!(self.from, Origin::Client(_));
                self.take_frame(frame, is_client);
            }
            Origin::Translated(body) => {
                let frame = body.frame().await;
                self.take_frame(frame, true);
            }
            Origin::Waiting(waiting) => match waiting.await {
                Ok(Ok(answer)) => self.from = Origin::Called(answer),
                Ok(Err(code)) => self.finish(OwnEnd::Refused(code)),
                // Never called: the exchange was stopped before.
                Err(_) => self.finish(OwnEnd::Abort(Cause::Cancelled)),
            },
            Origin::Called(answer) => match answer.await {
                Ok(response) => self.take_response(response),
                Err(error) => {
                    tracing::warn!(%error, "the service broke off before its answer");
                    self.finish(OwnEnd::Refused(match error {
                        NoResponse::NotSent(_) | NoResponse::NotTaken => Code::ServiceUnreachable,
                        NoResponse::Broke(_) => Code::ServiceMalformed,
                    }));
                }
            },
            Origin::Refusing(code) => {
                let code = *code;
                self.finish(OwnEnd::Refused(code));
            }
            Origin::Done => std::future::pending().await,
        }
    }

    fn take_response(&mut self, response: Response<Incoming>) {
        let (head, body) = response.into_parts();
        if self.rest.is_some() {
            return self.take_rest(&head, body);
        }
        let is_grpc = fields::is_grpc(&head.headers);
        if head.status != http::StatusCode::OK || !is_grpc {
            tracing::warn!(status = %head.status, "the service does not answer in gRPC");
            return self.finish(OwnEnd::Refused(Code::ServiceMalformed));
        }
        if self.minimising.is_some() && !fields::is_protobuf(&head.headers) {
            return self.is_not_minimised(&NotMinimised::NoProtobuf);
        }
        let Some(metadata) = fields::from_headers(&head.headers) else {
            return self.finish(OwnEnd::Refused(Code::ServiceMalformed));
        };
        // Trailers only: kept apart from an answer with a head.
        if body.is_end_stream() {
            return self.take_trailers(&head.headers, metadata);
        }
        // An answer has one status, and it is at its end.
        if head.headers.contains_key(fields::GRPC_STATUS) {
            tracing::warn!("the service says a status before its answer has ended");
            return self.finish(OwnEnd::Refused(Code::ServiceMalformed));
        }
        self.gathered.metadata = Some(metadata);
        self.from = Origin::Service(body);
    }

    /// What a REST service answers, whatever its status.
    fn take_rest(&mut self, head: &http::response::Parts, body: Incoming) {
        let carried = fields::from_headers(&rest::carried(&head.headers));
        let Some(mut metadata) = carried.filter(|_| head.status.as_u16() >= 200) else {
            tracing::warn!(status = %head.status, "the service's answer has too long a head, or is none");
            return self.finish(OwnEnd::Refused(Code::ServiceMalformed));
        };
        metadata.insert(0, (STATUS_FIELD.to_owned(), Bytes::copy_from_slice(head.status.as_str().as_bytes())));
        if !fields::are_within(&metadata) {
            tracing::warn!("the service's answer has too long a head");
            return self.finish(OwnEnd::Refused(Code::ServiceMalformed));
        }
        self.gathered.metadata = Some(metadata);
        self.rest = Some(head.status.as_u16());
        self.from = Origin::Service(body);
        self.finish_rest_at_its_end();
    }

    /// HTTP says that an answer has ended by ending it: the status is said again, where gRPC has its trailers.
    fn finish_rest(&mut self, status: u16) {
        self.gathered.trailers = Some(vec![(STATUS_FIELD.to_owned(), Bytes::from(status.to_string()))]);
        self.finish(OwnEnd::Trailers { status: status.into() });
    }

    fn finish_rest_at_its_end(&mut self) {
        // What is over goes with the next message, and the end with it.
        if let (Some(status), Origin::Service(body), None) = (self.rest, &self.from, &self.over)
            && body.is_end_stream()
        {
            self.finish_rest(status);
        }
    }

    fn take_frame<E>(&mut self, frame: Option<Result<http_body::Frame<Bytes>, E>>, is_client: bool) {
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    if let Some(hash) = &mut self.reading {
                        hash.take(&data);
                    }
                    self.take_body(data);
                    self.finish_rest_at_its_end();
                    let ended = matches!(&self.from, Origin::Client(body) if body.is_end_stream());
                    if ended {
                        self.finish(OwnEnd::HalfClose);
                    }
                }
                Err(frame) if !is_client && self.rest.is_none() => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    match fields::from_headers(&trailers) {
                        Some(fields) => self.take_trailers(&trailers, fields),
                        None => self.finish(OwnEnd::Abort(Cause::Malformed)),
                    }
                }
                // HTTP's own trailers are not carried: they are the end.
                Err(_) if !is_client => self.finish_rest(self.rest.unwrap_or_default()),
                // A request has no trailers in gRPC: they are its end.
                Err(_) => self.finish(OwnEnd::HalfClose),
            },
            None if is_client => self.finish(OwnEnd::HalfClose),
            None if self.rest.is_some() => self.finish_rest(self.rest.unwrap_or_default()),
            // An answer without trailers is no gRPC.
            None => self.finish(OwnEnd::Abort(Cause::Malformed)),
            Some(Err(_)) if is_client => self.finish(OwnEnd::Abort(Cause::Cancelled)),
            Some(Err(_)) => self.finish(OwnEnd::Abort(Cause::Disconnected)),
        }
    }

    fn take_trailers(&mut self, trailers: &HeaderMap, fields: Fields) {
        let Some(status) = fields::grpc_status(trailers) else {
            return self.finish(OwnEnd::Abort(Cause::Malformed));
        };
        if let Some(Err(why)) = self.minimising.as_ref().map(|minimising| minimising.minimiser.finish()) {
            return self.is_not_minimised(&why);
        }
        self.gathered.trailers = Some(fields);
        self.finish(OwnEnd::Trailers { status });
    }

    /// Bytes of the body as they come. Of a minimised answer only what the grant names goes on.
    fn take_body(&mut self, data: Bytes) {
        let (said, most) = &mut self.said;
        *said = said.saturating_add(data.len() as u64);
        if said > most {
            return self.finish(OwnEnd::Abort(Cause::TooLarge));
        }
        match &mut self.minimising {
            None => self.take_data(data),
            Some(minimising) => match minimising.take(data) {
                Ok(passes) => self.take_data(passes),
                Err(why) => self.is_not_minimised(&why),
            },
        }
    }

    /// In doubt nothing passes, not even what was not sealed yet.
    fn is_not_minimised(&mut self, why: &NotMinimised) {
        tracing::warn!(%why, "the service answers in a form of which no field can be removed");
        (self.gathered, self.over) = (Contents::default(), None);
        self.finish(OwnEnd::Refused(why.code()));
    }

    fn take_data(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            if self.gathered.pieces.len() >= MAX_PIECES || self.gathered_bytes + MAX_PIECE_BYTES > MAX_PAYLOAD_BYTES {
                // The rest goes with the next message.
                self.over = Some(data);
                return;
            }
            let piece = data.split_to(data.len().min(MAX_PIECE_BYTES));
            self.gathered_bytes += piece.len();
            self.gathered.pieces.push(piece);
        }
    }

    fn finish(&mut self, end: OwnEnd) {
        if let (Some(hash), OwnEnd::HalfClose) = (self.reading.take(), end) {
            hash.finish();
        }
        // Dropping where it came from tells the service of a cancel; a client's door has its own ending.
        self.from = Origin::Done;
        self.end = Some(end);
    }
}

impl Source for OwnSource {
    type Arrived = OwnArrived;

    async fn next(&mut self, way: &Way) -> OwnArrived {
        if let Some(stop) = way.stopped().filter(|_| self.end.is_none()) {
            self.over = None;
            self.finish(OwnEnd::of(stop));
        }
        if let Some(over) = self.over.take() {
            self.take_data(over);
        } else if self.end.is_none() && self.gathered == Contents::default() {
            tokio::select! { biased;
                () = self.gather() => {}
                stop = way.until_stopped() => self.finish(OwnEnd::of(stop)),
            }
        }
        loop {
            let mut arrived = self.arrived().await;
            // Of a REST service it is known only here whether it was there to take anything.
            if self.rest == Some(0) && arrived.end == Some(OwnEnd::Refused(Code::ServiceUnreachable)) {
                way.note_nothing_handed_on();
            }
            // A service that is cut off breaks off: what cut it off is the cause, whichever is seen first.
            if let (Some(stop), Some(end)) = (way.stopped(), &mut arrived.end)
                && end.is_broken_off()
            {
                *end = OwnEnd::of(stop);
            }
            if arrived.end == Some(OwnEnd::Abort(Cause::TooLarge)) {
                tracing::warn!(exchange = %way.exchange, "our own system says more than [limits] stream_bytes");
                way.stop(Stop::because(Cause::TooLarge, Code::MessageTooLarge));
            }
            if arrived.end.is_some() || arrived.contents != Contents::default() {
                return arrived;
            }
            // Something was gathered that is nothing to carry yet, such as the call of a service.
            tokio::select! { biased;
                () = self.gather() => {}
                stop = way.until_stopped() => self.finish(OwnEnd::of(stop)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::minimise::FieldPath;

    use super::*;
    use crate::services::{MAX_MINIMISED_AT_ONCE, MAX_UNREAD_AT_ONCE};

    #[tokio::test]
    async fn what_a_consumer_does_not_read_keeps_its_own_room_and_nobody_elses() {
        const LENGTH: usize = 4_000_000;
        let subsystem = "VN/GOV/moj/civil-registry".parse().unwrap();
        let service = Service::new(subsystem, "civil.v1.Births".into(), "localhost:1".into(), None);
        let table = Arc::new(Table::of([&"2".parse::<FieldPath>().unwrap()]).unwrap());
        let of = |consumer: &str| Minimising::of(&table, &service, &consumer.parse().unwrap());
        // One field of that length, which is kept.
        let mut message = vec![0];
        message.extend((LENGTH as u32 + 5).to_be_bytes());
        message.extend([0x12, 0x80 | (LENGTH & 0x7f) as u8, 0x80 | (LENGTH >> 7 & 0x7f) as u8]);
        message.extend([0x80 | (LENGTH >> 14 & 0x7f) as u8, (LENGTH >> 21) as u8]);
        message.resize(message.len() + LENGTH, 7);
        let message = Bytes::from(message);
        let passes = async |answer: &mut Minimising| {
            assert_eq!(answer.take(message.slice(..10)).unwrap(), "");
            answer.has_room().await;
            assert_eq!(answer.take(message.slice(10..)).unwrap().len(), message.len());
        };
        let mut unread = Vec::new();
        for _ in 0..MAX_UNREAD_AT_ONCE / message.len() {
            let mut answer = of("VN/GOV/portal/ss1");
            passes(&mut answer).await;
            unread.push(answer);
        }
        assert_eq!(
            service.room().available_permits(),
            MAX_MINIMISED_AT_ONCE,
            "what is whole takes none of the service's"
        );
        let mut next = of("VN/GOV/portal/ss1");
        assert_eq!(next.take(message.slice(..10)).unwrap(), "");
        assert!(next.has_room().now_or_never().is_none(), "there is no room for one more");
        passes(&mut of("VN/GOV/other/ss1")).await;
        // What was taken to be carried has gone when the answer is read on.
        unread[0].has_room().await;
        assert!(next.has_room().now_or_never().is_some());
    }
}
