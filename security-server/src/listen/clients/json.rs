//! JSON at the clients' door: `POST /package.Service/Method`, or a route that the service declares, with the message as JSON, translated by the service's descriptors in
//! the catalogue. No code is generated and no other road is taken: what comes of a translation is the gRPC call that it stands
//! for, and it goes through `exchange::consume` like any other.

use std::sync::Arc;

use bytes::Bytes;
use catalogue::json::{self, MAX_DEPTH, Misread};
use command_line::did_you_mean;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use proto::catalogue::{ServiceForm, ServiceName};
use proto::identifier::{MethodPath, SubsystemId};
use proto::refusal::{Code, Language};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::frames::{Frames, Lines, Next, Unread, framed};
use super::problem::{Problem, whole};
use super::routed::{Routed, routed};
use super::{Line, Waiting, asked_of, begin, carried, credential, openapi, page};
use crate::body::{Outgoing, Sender, outgoing};
use crate::forward::OwnSource;
use crate::listings::{self, Unlisted};
use crate::refusal::Refusal;
use crate::{SecurityServer, authenticate, authorize, fields};

/// How long the message of a call may take to arrive.
pub const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// Longest message that is translated where it arrived; a longer one is translated aside, so that the calls beside it wait
/// for none of it.
const MAX_IN_PLACE: usize = 16 * 1024;
/// Long messages that are translated at once: what each needs of memory is many times its length.
const MAX_ASIDE: usize = 2;
/// How many times as long as its message JSON may be that is written of it.
const MAX_GROWTH: usize = 8;
/// What curl sends where nothing else is asked of it. A page's form cannot send JSON under it: it would be escaped.
const FORM: &str = "application/x-www-form-urlencoded";

/// What this door takes as JSON: `[json]` in the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, either way, in bytes.
    pub message_bytes: usize,
    /// How deep JSON may be nested.
    pub depth: usize,
    /// Calls that run at once.
    pub calls: usize,
}

impl Limits {
    /// The greatest of each that a file may ask for; the least is 1, and of bytes 1 KiB.
    pub const MOST: Self = Self { message_bytes: 64 * 1024 * 1024, depth: MAX_DEPTH, calls: 1024 };
    /// The fewest bytes.
    pub const LEAST_BYTES: usize = 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 4 * 1024 * 1024, depth: 64, calls: 256 }
    }
}

/// What translates, for all doors together.
pub(crate) struct Translation {
    limits: Limits,
    calls: Arc<Semaphore>,
    aside: Semaphore,
}

impl Translation {
    /// Within these limits.
    pub(crate) fn within(limits: Limits) -> Self {
        Self { limits, calls: Arc::new(Semaphore::new(limits.calls)), aside: Semaphore::new(MAX_ASIDE) }
    }

    /// Longest message, in bytes.
    pub(crate) fn message_bytes(&self) -> usize {
        self.limits.message_bytes
    }

    pub(crate) fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let why = || Refusal::new(Code::TooManyExchanges, format!("{} translated calls run", self.limits.calls));
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| why())
    }

    /// The message that a text is; by a route, with what its path and query say.
    async fn read(
        &self,
        method: &MethodDescriptor,
        routed: Option<&Arc<Routed>>,
        text: Bytes,
    ) -> Result<Bytes, Refusal> {
        let (kind, depth, routed) = (method.input(), self.limits.depth, routed.cloned());
        let read = self.translated(text.len(), move || {
            let text = match &routed {
                Some(routed) => routed.said(&kind, &text, depth)?,
                None => text,
            };
            json::read(&kind, &text, depth).map_err(|misread| malformed(&misread))
        });
        Ok(framed(&read.await?))
    }

    /// A message as text: all of it, or this field.
    async fn write(&self, method: &MethodDescriptor, part: Option<&str>, message: Bytes) -> Result<Vec<u8>, Refusal> {
        let (kind, most) = (method.output(), self.limits.message_bytes.saturating_mul(MAX_GROWTH));
        let part = part.map(str::to_owned);
        let written = self.translated(message.len(), move || match &part {
            Some(part) => json::write_part(&kind, part, &message, most),
            None => json::write(&kind, &message, most),
        });
        written.await.map_err(|error| untranslatable(&error.to_string()))
    }

    /// A message of this kind, of JSON.
    pub(crate) async fn read_as(&self, kind: MessageDescriptor, text: Bytes) -> Result<Bytes, Misread> {
        let depth = self.limits.depth;
        let read = self.translated(text.len(), move || json::read(&kind, &text, depth));
        Ok(framed(&read.await?))
    }

    /// JSON of a message of this kind. None: it is no such message, or its text is too long.
    pub(crate) async fn write_as(&self, kind: MessageDescriptor, message: Bytes) -> Option<Vec<u8>> {
        let most = self.limits.message_bytes.saturating_mul(MAX_GROWTH);
        self.translated(message.len(), move || json::write(&kind, &message, most).ok()).await
    }

    async fn translated<T: Send + 'static>(&self, bytes: usize, translate: impl FnOnce() -> T + Send + 'static) -> T {
        if bytes <= MAX_IN_PLACE {
            return translate();
        }
        let _permit = self.aside.acquire().await.expect("it is never closed");
        let translated = tokio::task::spawn_blocking(translate).await;
        translated.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

pub(super) fn malformed(misread: &Misread) -> Refusal {
    let remedy = misread.names().map(|(name, known)| {
        let all = if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
        format!("; {}", did_you_mean(name, known, &all))
    });
    let detail = format!("{misread}{}", remedy.unwrap_or_default());
    Refusal::new(Code::MessageMalformed, "the JSON is not the method's request").telling(detail)
}

fn untranslatable(why: &str) -> Refusal {
    Refusal::new(Code::AnswerUntranslatable, why).telling(why)
}

/// Answers a call that is not gRPC.
pub(super) async fn answer(
    server: Arc<SecurityServer>,
    line: Arc<Line>,
    request: Request<Incoming>,
    language: Language,
) -> Response<Outgoing> {
    if openapi::is_asked(&request) {
        let told = openapi::answer(&server, &line, &request.into_parts().0).await;
        return told.unwrap_or_else(|refusal| Problem::refused(&refusal, language, None).response());
    }
    match open(&server, &line, request, language).await {
        Ok(translated) => translated.answer(&server, language).await,
        Err(refusal) => Problem::refused(&refusal, language, None).response(),
    }
}

/// A call that was translated and runs.
struct Translated {
    method: MethodDescriptor,
    /// The field of the answer that is told, where it is not all of it.
    part: Option<String>,
    waiting: Waiting,
    /// What was wrong with a later message of the caller's.
    failed: Failed,
    form: Form,
    permit: OwnedSemaphorePermit,
}

/// How an answer of several messages is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A JSON object a line.
    Lines,
    /// Server-sent events.
    Events,
}

async fn open(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<Incoming>,
    language: Language,
) -> Result<Translated, Refusal> {
    let (permit, place) = (server.translation.permit()?, server.permit());
    let place = place.map_err(|code| Refusal::new(code, "at the clients' door"))?;
    let (head, body) = request.into_parts();
    page::is_none(line.hosts.as_ref(), &head)?;
    let routed = routed(server, line, &head).await?.map(Arc::new);
    if routed.is_none() && head.method != http::Method::POST {
        let detail = "no route of a provider that the call names is this method and path";
        return Err(Refusal::new(Code::MethodNotPost, format!("the method is {}", head.method)).telling(detail));
    }
    let are_lines = routed.as_ref().is_none_or(|routed| routed.has_body()) && are_lines(&head.headers)?;
    let credential = credential(&line.showed, &head.headers)?;
    let path = match &routed {
        Some(routed) => routed.path.clone(),
        None => super::method(&head)?,
    };
    let asked = asked_of(&server.bindings, &head.headers, path.clone(), language)?;
    let client = authenticate::known(&server.clients, &credential)?;
    let method = described(server, client, &asked.provider, &path).await?;
    let metadata = carried(&metadata(&head.headers))?;
    let form = if accepts_events(&head.headers) { Form::Events } else { Form::Lines };

    let most = server.translation.limits.message_bytes;
    let (mut sender, outgoing) = outgoing(None);
    let failed = if method.is_client_streaming() && are_lines {
        let (fails, failed) = oneshot::channel();
        let (server, method) = (Arc::clone(server), method.clone());
        tokio::spawn(async move {
            // What the other end heard no more is nobody's to hear.
            if let Err(refusal) = hand_on(&server.translation, &method, body, sender).await {
                let _ = fails.send(refusal);
            }
        });
        Failed(Some(failed))
    } else {
        let message = server.translation.read(&method, routed.as_ref(), arrived(body, most).await?).await?;
        // The source that reads it is here and holds four.
        sender.data(message).await.map_err(|_| Refusal::new(Code::MessageMalformed, "nobody reads it"))?;
        let _ = sender.finish(None);
        Failed(None)
    };
    let source = OwnSource::translated(metadata, outgoing);
    let waiting = begin(server, place, credential, asked, source, language).await?;
    let part = routed.and_then(|routed| routed.answer().map(str::to_owned));
    Ok(Translated { method, part, waiting, failed, form, permit })
}

/// The method, as the catalogue describes it to this caller. What is closed to it is not told from what is not there.
async fn described(
    server: &SecurityServer,
    client: SubsystemId,
    provider: &SubsystemId,
    path: &MethodPath,
) -> Result<MethodDescriptor, Refusal> {
    let moment = server.moment();
    let configuration = moment
        .in_force()
        .map_err(|_| Refusal::new(Code::ConfigurationExpired, "the configuration is past its validity"))?;
    let member = authorize::at_home(&server.id, configuration, client)?.member();
    let service = path.service();
    let listed = service.parse().ok().and_then(|name: ServiceName| configuration.service_at(provider, &name));
    let Some(listed) = listed.filter(|listed| listings::is_seen(listed, &member)) else {
        let seen = |provider| listings::seen(configuration, &member, provider).map(|each| each.service.as_str());
        let elsewhere = listings::seen(configuration, &member, None).find(|each| each.service.as_str() == service);
        let remedy = match elsewhere {
            Some(elsewhere) => format!("{} lists it", elsewhere.subsystem),
            None => did_you_mean(service, seen(Some(provider)).chain(seen(None)), "GET /openapi lists what there is"),
        };
        let detail = format!("{provider} lists no {service} for your agency; {remedy}");
        return Err(Refusal::new(Code::MethodUnknown, "no such service is listed").telling(detail));
    };
    let entry = listings::verified(server, configuration, listed).await.map_err(undescribed)?;
    if entry.entry().form == ServiceForm::Rest {
        let place = listings::rest_path(entry.entry());
        let detail = format!(
            "{service} is a REST service: its operations are called below {place}, and GET /openapi/{provider}/{service} has them"
        );
        return Err(Refusal::new(Code::MethodUnknown, "no gRPC service has this name").telling(detail));
    }
    let described = listings::described(server, &entry).await.map_err(undescribed)?;
    let of_service = described.service(service).map_err(Unlisted::from).map_err(undescribed)?;
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    of_service.methods().find(|method| method.name() == name).ok_or_else(|| {
        let known: Vec<String> = of_service.methods().map(|method| method.name().to_owned()).collect();
        let detail = format!(
            "{service} has no method {name}; {}",
            did_you_mean(name, &known, &format!("it has {}", known.join(", ")))
        );
        Refusal::new(Code::MethodUnknown, "no such method is listed").telling(detail)
    })
}

pub(super) fn undescribed(why: Unlisted) -> Refusal {
    Refusal::new(Code::DescriptionUnavailable, why.to_string())
}

/// Whether the content type is that of a message a line; else of one message.
fn are_lines(headers: &HeaderMap) -> Result<bool, Refusal> {
    let why =
        |why: &str| Refusal::new(Code::ContentTypeUnknown, "the content type is none of this door's").telling(why);
    let given = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(why("the body is compressed: send it without Content-Encoding"));
    }
    let mut parts = given.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let other = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or_default();
        name.eq_ignore_ascii_case("charset") && !value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    if parts.any(other) {
        return Err(why("JSON is UTF-8: leave the charset out"));
    }
    match kind.as_str() {
        "application/json" | FORM => Ok(false),
        "application/x-ndjson" => Ok(true),
        "" => Err(why("there is no Content-Type: send application/json")),
        kind if kind.starts_with("application/grpc-web") => Err(why(
            "gRPC-Web is spoken with protobuf's messages: send application/grpc-web or application/grpc-web-text",
        )),
        kind if kind.starts_with("application/grpc") => Err(why("gRPC is spoken over HTTP/2")),
        _ => Err(why("send application/json, or application/x-ndjson for a message a line")),
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// What a gRPC client would have sent along: HTTP's own fields speak of the JSON, and not of the call.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let of_http = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "accept" | "accept-encoding" | "content-encoding" | "content-type" | "cookie" | "expect" | "sec-fetch-site"
        ) || name.as_str().starts_with("grpc-")
    };
    let kept = headers.iter().filter(|(name, _)| !of_http(name)).map(|(name, value)| (name.clone(), value.clone()));
    let mut metadata = HeaderMap::new();
    kept.for_each(|(name, value)| _ = metadata.append(name, value));
    metadata.insert(CONTENT_TYPE, fields::GRPC);
    metadata
}

/// The one message of a call, as it came.
pub(super) async fn arrived(body: Incoming, most: usize) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(arrived)) => Ok(arrived.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Ok(Err(_)) => Err(Refusal::new(Code::MessageMalformed, "the body was broken off")),
        Err(_) => {
            let detail = format!("the message did not arrive within {} seconds", BODY_TIMEOUT.as_secs());
            Err(Refusal::new(Code::MessageMalformed, "the body is slow").telling(detail))
        }
    }
}

pub(super) fn too_large(most: usize) -> Refusal {
    let detail = format!("a message of at most {most} bytes is translated");
    Refusal::new(Code::MessageTooLarge, "a message over [json] message_bytes").telling(detail)
}

/// Translates a message a line, as they come, no faster than they are taken. Dropped before its end, the sender breaks off.
async fn hand_on(
    translation: &Translation,
    method: &MethodDescriptor,
    body: Incoming,
    mut sender: Sender,
) -> Result<(), Refusal> {
    let most = translation.limits.message_bytes;
    let mut lines = Lines::of(body, most);
    loop {
        let line = match lines.next().await {
            Ok(line) => line,
            Err(Unread::TooLong) => return Err(too_large(most)),
            Err(_) => return Err(Refusal::new(Code::MessageMalformed, "the body was broken off")),
        };
        let Some((number, text)) = line else {
            let _ = sender.finish(None);
            return Ok(());
        };
        let message = translation.read(method, None, text).await.map_err(|refusal| {
            let detail = format!("line {number}: {}", refusal.detail().unwrap_or_default());
            refusal.telling(detail)
        })?;
        if sender.data(message).await.is_err() {
            return Ok(());
        }
    }
}

/// Where it is told that a later message of the caller's was wrong.
struct Failed(Option<oneshot::Receiver<Refusal>>);

impl Failed {
    /// Waits until one was. Where none was it waits for ever.
    async fn until_so(&mut self) -> Refusal {
        if let Some(failed) = &mut self.0
            && let Ok(refusal) = failed.await
        {
            self.0 = None;
            return refusal;
        }
        self.0 = None;
        std::future::pending().await
    }

    fn now(&mut self) -> Option<Refusal> {
        self.0.as_mut().and_then(|failed| failed.try_recv().ok())
    }
}

impl Translated {
    async fn answer(self, server: &Arc<SecurityServer>, language: Language) -> Response<Outgoing> {
        let Self { method, part, waiting, mut failed, form, permit } = self;
        let response = tokio::select! { biased;
            refusal = failed.until_so() => return Problem::refused(&refusal, language, None).response(),
            response = waiting.response(language) => response,
        };
        let (head, body) = response.into_parts();
        let exchange = head.headers.get(fields::EXCHANGE).cloned();
        let is_stream = method.is_server_streaming();
        let most = server.translation.limits.message_bytes;
        let told = Told { frames: Frames::of(body, most), failed, exchange, language, part, method };
        // Trailers only: there is nothing but an end.
        if head.headers.contains_key(fields::GRPC_STATUS)
            && let Some(problem) = told.problem(&head.headers)
        {
            return problem.response();
        }
        if is_stream { told.stream(server, &head.headers, form, permit) } else { told.one(server, &head.headers).await }
    }
}

/// An answer that is being told.
struct Told {
    frames: Frames<Outgoing>,
    failed: Failed,
    exchange: Option<HeaderValue>,
    language: Language,
    part: Option<String>,
    method: MethodDescriptor,
}

impl Told {
    /// What the end of the answer says. None: it ended well.
    fn problem(&self, trailers: &HeaderMap) -> Option<Problem> {
        Problem::of_end(trailers, self.exchange.clone(), self.language, self.method.parent_pool())
    }

    fn refused(&self, refusal: &Refusal) -> Problem {
        Problem::refused(refusal, self.language, self.exchange.clone())
    }

    fn unread(&self, unread: Unread) -> Problem {
        let refusal = match unread {
            Unread::Compressed => untranslatable("the answer is compressed, which was not asked for"),
            Unread::TooLong => untranslatable("the answer is longer than this door writes as JSON"),
            Unread::Cut => untranslatable("the answer ends within a message"),
            Unread::BrokenOff => Refusal::new(Code::OutcomeUnknown, "the answer was broken off"),
        };
        self.refused(&refusal)
    }

    /// The one message of an answer, and its good end.
    async fn one(mut self, server: &SecurityServer, head: &HeaderMap) -> Response<Outgoing> {
        let mut message = None;
        let trailers = loop {
            let next = tokio::select! { biased;
                refusal = self.failed.until_so() => return self.refused(&refusal).response(),
                next = self.frames.next() => next,
            };
            match next {
                Ok(Next::Message(next)) if message.is_none() => message = Some(next),
                Ok(Next::Message(_)) => {
                    return self
                        .refused(&untranslatable("the answer has several messages, and is described as one"))
                        .response();
                }
                Ok(Next::End(trailers)) => break trailers.unwrap_or_default(),
                Err(unread) => return self.unread(unread).response(),
            }
        };
        if let Some(problem) = self.problem(&trailers).filter(|_| trailers.contains_key(fields::GRPC_STATUS)) {
            return problem.response();
        }
        let Some(message) = message else {
            return self.refused(&untranslatable("the answer has no message, and is described as one")).response();
        };
        match server.translation.write(&self.method, self.part.as_deref(), message).await {
            Ok(text) => {
                let mut response = whole(StatusCode::OK, HeaderValue::from_static("application/json"), text);
                said_along(head, "grpc-metadata-", response.headers_mut());
                said_along(&trailers, "grpc-trailer-", response.headers_mut());
                self.exchange.into_iter().for_each(|id| _ = response.headers_mut().insert(fields::EXCHANGE, id));
                response
            }
            Err(refusal) => self.refused(&refusal).response(),
        }
    }

    /// As many messages as come, each when it comes.
    fn stream(
        mut self,
        server: &Arc<SecurityServer>,
        head: &HeaderMap,
        form: Form,
        permit: OwnedSemaphorePermit,
    ) -> Response<Outgoing> {
        let (gone, server) = (CancellationToken::new(), Arc::clone(server));
        let hung_up = gone.clone();
        let (mut sender, body) = outgoing(Some(Box::new(move || hung_up.cancel())));
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let kind = match form {
            Form::Lines => "application/x-ndjson",
            Form::Events => "text/event-stream",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        said_along(head, "grpc-metadata-", headers);
        self.exchange.iter().for_each(|id| _ = headers.insert(fields::EXCHANGE, id.clone()));
        tokio::spawn(async move {
            let _permit = permit;
            let telling = self.tell(&server, form, &mut sender);
            // Dropped with what is left of the answer, the exchange is cancelled.
            let told = tokio::select! { biased; () = gone.cancelled() => false, told = telling => told };
            if told {
                let _ = sender.finish(None);
            }
        });
        response
    }

    /// Tells all of it. False: nobody listens any more.
    async fn tell(&mut self, server: &SecurityServer, form: Form, sender: &mut Sender) -> bool {
        loop {
            let next = self.frames.next().await;
            let problem = match next {
                Ok(Next::Message(message)) => match server.translation.write(&self.method, None, message).await {
                    Ok(text) => {
                        if sender.data(form.message(&text)).await.is_err() {
                            return false;
                        }
                        continue;
                    }
                    Err(refusal) => Some(self.refused(&refusal)),
                },
                Ok(Next::End(trailers)) => match self.failed.now() {
                    Some(refusal) => Some(self.refused(&refusal)),
                    None => trailers.as_ref().and_then(|trailers| self.problem(trailers)),
                },
                Err(unread) => Some(self.unread(unread)),
            };
            return match form.end(problem.as_ref()) {
                Some(end) => sender.data(end).await.is_ok(),
                None => true,
            };
        }
    }
}

impl Form {
    fn message(self, text: &[u8]) -> Bytes {
        match self {
            Self::Lines => [b"{\"result\":", text, b"}\n"].concat().into(),
            Self::Events => [b"data: ", text, b"\n\n"].concat().into(),
        }
    }

    /// What stands at the end: why it is one, where it is not a good one.
    fn end(self, problem: Option<&Problem>) -> Option<Bytes> {
        match (self, problem.map(Problem::text)) {
            (Self::Lines, None) => None,
            (Self::Lines, Some(text)) => Some([b"{\"error\":", &text[..], b"}\n"].concat().into()),
            (Self::Events, None) => Some(Bytes::from_static(b"event: end\ndata: {}\n\n")),
            (Self::Events, Some(text)) => Some([b"event: error\ndata: ", &text[..], b"\n\n"].concat().into()),
        }
    }
}

/// What the service said along, under names that HTTP gives no meaning to.
fn said_along(said: &HeaderMap, prefix: &str, headers: &mut HeaderMap) {
    let of_grpc = |name: &str| matches!(name, "content-type" | "date") || name.starts_with("grpc-");
    for (name, value) in said.iter().filter(|(name, _)| !fields::is_ours(name) && !of_grpc(name.as_str())) {
        if let Ok(name) = HeaderName::try_from(format!("{prefix}{name}")) {
            headers.append(name, value.clone());
        }
    }
}
