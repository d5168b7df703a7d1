//! The clients' door: our own systems call any gRPC method of any service here, as if it were the service; in gRPC-Web where they
//! have no HTTP/2; or with JSON, where the catalogue describes it.

pub(crate) mod frames;
pub mod health;
pub mod json;
mod openapi;
mod page;
mod problem;
mod reflection;
mod routed;
mod web;
pub mod xroad;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use command_line::did_you_mean;
use http::{HeaderMap, HeaderName, Request, Response};
use hyper::body::{Body, Incoming};
use proto::digest::Digest;
use proto::identifier::{MethodPath, SubsystemId};
use proto::message::{Cause, Fields, Opening, Operation};
use proto::refusal::{Code, Language, Speaker};
use proto::transport::MAX_TEXT_BYTES;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Asked, Call, Credential, Network, Permit, accept, http1_or_2, speak};
use crate::body::Outgoing;
use crate::forward::{Client, OwnSource};
use crate::refusal::Refusal;
use crate::way::{Stop, StopSwitch};
use crate::{SecurityServer, authenticate, authorize, exchange, fields, flow};

use reflection::Conversation;

/// One listener for our own systems.
#[derive(Clone)]
pub struct Door {
    /// Every call by this listener is this subsystem's. Only a loopback address may be bound so.
    pub bound: Option<SubsystemId>,
    /// TLS, where it is not plain HTTP on loopback.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The names by which it is called where it is plain, besides `localhost` and addresses.
    pub hosts: BTreeSet<String>,
}

/// gRPC services whose provider the admin bound, by full name.
pub type Bindings = HashMap<String, SubsystemId>;

/// Serves the door until shutdown; then finishes what runs.
pub async fn serve(server: Arc<SecurityServer>, listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let (stopping, serving, limits) = (shutdown.clone(), Arc::clone(&server), server.limits);
    accept(&serving.lanes, limits, listener, shutdown, move |stream, from| {
        let (server, door, stopping) = (Arc::clone(&server), door.clone(), stopping.clone());
        async move {
            match &door.tls {
                None => {
                    let showed = door.bound.map_or(Showed::Nothing, Showed::Listener);
                    serve_calls(server, stream, Line { showed, from, hosts: Some(door.hosts) }, stopping).await;
                }
                Some(tls) => {
                    let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
                    match tokio::time::timeout(limits.handshake(), handshake).await {
                        Ok(Ok(stream)) => {
                            let showed = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                            let showed = match showed.map(|certificate| proto::certificate::public_key(certificate)) {
                                Some(Ok(key)) => Showed::Certificate(key.id()),
                                Some(Err(_)) | None => Showed::Nothing,
                            };
                            serve_calls(server, stream, Line { showed, from, hosts: None }, stopping).await;
                        }
                        Ok(Err(error)) => tracing::info!(%error, "a client's TLS handshake failed"),
                        Err(_) => tracing::info!("a client's TLS handshake took too long"),
                    }
                }
            }
        }
    })
    .await;
}

/// What a connection showed of its client.
#[derive(Clone)]
enum Showed {
    Listener(SubsystemId),
    Certificate(proto::signature::KeyId),
    Nothing,
}

/// A connection of a client.
struct Line {
    showed: Showed,
    from: Network,
    /// The names by which it called, where it has no TLS.
    hosts: Option<BTreeSet<String>>,
}

async fn serve_calls<S>(server: Arc<SecurityServer>, stream: S, line: Line, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (line, limits) = (Arc::new(line), server.limits);
    speak(Some(limits.idle()), limits, http1_or_2(&limits), stream, shutdown, move |request| {
        let (server, line) = (Arc::clone(&server), Arc::clone(&line));
        async move {
            // gRPC pays nothing for what else is spoken here.
            if fields::is_grpc(request.headers()) && request.version() == http::Version::HTTP_2 {
                call(&server, &line, request, OwnSource::of_client).await
            } else {
                Box::pin(otherwise(server, line, request)).await
            }
        }
    })
    .await;
}

/// Answers what is not gRPC over HTTP/2.
async fn otherwise(server: Arc<SecurityServer>, line: Arc<Line>, request: Request<Incoming>) -> Response<Outgoing> {
    if let Some(form) = web::Form::of(request.headers()) {
        return web::answer(&server, &line, request, form).await;
    }
    let language = language(request.headers());
    if xroad::is_asked(&request) {
        return xroad::answer(&server, &line, request, language).await;
    }
    json::answer(server, line, request, language).await
}

/// Answers a gRPC call, however its body came here: `source` makes of it what an exchange takes.
async fn call<B>(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<B>,
    source: fn(Fields, B) -> OwnSource,
) -> Response<Outgoing>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let language = language(request.headers());
    let answer = match own(server, &request) {
        Some(Own::Reflection) => conversation(server, line, request),
        Some(Own::Health(method)) => told_health(server, line, method, request),
        None => match open(server, line, request, source, language).await {
            Ok(waiting) => Ok(waiting.response(language).await),
            Err(refusal) => Err(refusal),
        },
    };
    answer.unwrap_or_else(|refusal| refused(&refusal, language))
}

async fn open<B>(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<B>,
    source: fn(Fields, B) -> OwnSource,
    language: Language,
) -> Result<Waiting, Refusal> {
    let permit = server.permit().map_err(|code| Refusal::new(code, "at the clients' door"))?;
    let (head, body) = request.into_parts();
    is_a_call(line, &head)?;
    let credential = credential(&line.showed, &head.headers)?;
    let asked = asked(&server.bindings, &head, language)?;
    let source = source(carried(&head.headers)?, body);
    begin(server, permit, credential, asked, source, language).await
}

/// What goes over the border with the call.
fn carried(headers: &HeaderMap) -> Result<Fields, Refusal> {
    fields::from_headers(headers).ok_or_else(|| Refusal::new(Code::MetadataTooLarge, "beyond 100 fields or 16 KiB"))
}

/// The exchange of a call, in whatever words it came.
async fn begin(
    server: &Arc<SecurityServer>,
    permit: Permit,
    credential: Credential,
    asked: Asked,
    mut source: OwnSource,
    language: Language,
) -> Result<Waiting, Refusal> {
    let client = authenticate::known(&server.clients, &credential)?;
    let priority = server.access_rights.told.of((&client, &asked.provider), &asked.operation, &asked.why.purpose);
    // Its own quota first: who is beyond that says nothing of how much the server has to do.
    let (of_client, of_one) = server.of_clients.take(client)?;
    let full = |full: flow::Full| Refusal::new(Code::TooManyExchanges, full.to_string());
    let mut permit = permit.of_client(of_client);
    permit.in_hand(server.flow.take(priority, &of_one).map_err(full)?);
    let first = source.arrived().await;
    let (sender, waiting) = oneshot::channel();
    let stop = StopSwitch::default();
    let client = Client { head: Some(sender), body: None, hang_up: stop.clone(), language };
    let hang_up = HangUp(Some(stop.clone()));
    // The exchange runs by itself from here: that its client waits is not what keeps it going.
    let _running = exchange::consume(server, Call { permit, credential, asked, source, first, client, stop })?;
    Ok(Waiting { head: waiting, hang_up })
}

/// What this server answers itself, unless the admin bound it to somebody's service.
enum Own {
    Reflection,
    Health(health::Method),
}

fn own<B>(server: &SecurityServer, request: &Request<B>) -> Option<Own> {
    let path = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let path: MethodPath = path.starts_with("/grpc.").then(|| path.parse().ok())??;
    let own = if reflection::is_asked(&path) {
        Some(Own::Reflection)
    } else {
        // Whoever names a provider asks how that one's service is, which only a call of it tells.
        health::Method::asked(&path).filter(|_| !request.headers().contains_key(fields::SERVICE)).map(Own::Health)
    };
    own.filter(|_| !server.bindings.contains_key(path.service()))
}

/// Health is told to whoever reaches the door; that of a service, to whom it may be shown.
fn told_health<B>(
    server: &Arc<SecurityServer>,
    line: &Line,
    method: health::Method,
    request: Request<B>,
) -> Result<Response<Outgoing>, Refusal>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let (head, body) = request.into_parts();
    is_a_call(line, &head)?;
    let asker = match credential(&line.showed, &head.headers)? {
        Credential::None => health::Asker::Stranger(line.from),
        credential => health::Asker::Client(authenticate::known(&server.clients, &credential)?),
    };
    health::answer(server, method, asker, body)
}

fn conversation<B>(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<B>,
) -> Result<Response<Outgoing>, Refusal>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let permit = server.permit().map_err(|code| Refusal::new(code, "at the clients' door"))?;
    let (head, body) = request.into_parts();
    is_a_call(line, &head)?;
    let credential = credential(&line.showed, &head.headers)?;
    let provider = named(&head.headers)?;
    let client = authenticate::known(&server.clients, &credential)?;
    let moment = server.moment();
    let configuration = moment
        .in_force()
        .map_err(|_| Refusal::new(Code::ConfigurationExpired, "the configuration is past its validity"))?;
    let client = authorize::at_home(&server.id, configuration, client)?;
    let permit = permit.of_client(server.of_clients.take(client.clone())?.0);
    Ok(Conversation { client, provider, permit }.answer(Arc::clone(server), body))
}

/// A client waiting for its response.
struct Waiting {
    head: oneshot::Receiver<Response<Outgoing>>,
    hang_up: HangUp,
}

/// Stops the exchange when the client goes before its response came.
struct HangUp(Option<StopSwitch>);

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(stop) = self.0.take() {
            stop.stop(Stop::from(Cause::Cancelled));
        }
    }
}

impl Waiting {
    async fn response(mut self, language: Language) -> Response<Outgoing> {
        let response = (&mut self.head).await;
        self.hang_up.0 = None;
        // The exchange ended without a word for its client: only a finished log does that.
        response.unwrap_or_else(|_| refused(&Refusal::new(Code::AnswerUnrecorded, "the log has ended"), language))
    }
}

fn refused(refusal: &Refusal, language: Language) -> Response<Outgoing> {
    let code = refusal.code();
    if code == Code::TooManyExchanges {
        // Who is flooded does not flood its diagnostics as well: these are counted.
        tracing::debug!(%code, %refusal, "refused");
    } else {
        tracing::info!(%code, %refusal, "refused");
    }
    metrics::counter!("causeway_refusals_total", "code" => code.as_str()).increment(1);
    let mut response = Response::new(Outgoing::empty().1);
    *response.headers_mut() = fields::refusal(code, language, None, Speaker::ConsumerServer);
    response.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
    response
}

fn language(headers: &HeaderMap) -> Language {
    let accepted = headers.get(http::header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    accepted.map(Language::preferred).unwrap_or_default()
}

/// A listener that is bound is one subsystem's, whatever else the call says: a token besides it is a mistake.
fn credential(showed: &Showed, headers: &HeaderMap) -> Result<Credential, Refusal> {
    let token = one(headers, &fields::TOKEN)?;
    match (showed, token) {
        (Showed::Listener(subsystem), None) => Ok(Credential::Bound(subsystem.clone())),
        (Showed::Certificate(key), None) => Ok(Credential::Certificate(*key)),
        (Showed::Nothing, Some(token)) => Ok(Credential::Token(Digest::of(&[token.as_bytes()]))),
        (Showed::Nothing, None) => Ok(Credential::None),
        (Showed::Listener(_) | Showed::Certificate(_), Some(_)) => {
            Err(Refusal::new(Code::MetadataReserved, "a causeway-token beside another credential"))
        }
    }
}

/// A gRPC call, and no web page's.
fn is_a_call(line: &Line, head: &http::request::Parts) -> Result<(), Refusal> {
    page::is_none(line.hosts.as_ref(), head)?;
    if head.method != http::Method::POST {
        return Err(Refusal::new(Code::MethodNotPost, format!("the method is {}", head.method)));
    }
    Ok(())
}

fn asked(bindings: &Bindings, head: &http::request::Parts, language: Language) -> Result<Asked, Refusal> {
    asked_of(bindings, &head.headers, method(head)?, language)
}

/// The gRPC method that a path is.
fn method(head: &http::request::Parts) -> Result<MethodPath, Refusal> {
    // The path as it came, query and all: what is not of the grammar is refused, never normalised.
    let path = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    path.parse().map_err(|_| {
        // Not what it was: a query may hold personal data.
        Refusal::new(Code::PathMalformed, "the path is not /package.Service/Method")
    })
}

/// Which fields of ours a caller may set.
fn may_set(headers: &HeaderMap) -> Result<(), Refusal> {
    if let Some(name) = headers.keys().find(|name| fields::is_ours(name) && !fields::OF_CALLERS.contains(name)) {
        let known = fields::OF_CALLERS;
        let known = known.each_ref().map(HeaderName::as_str);
        let all = format!("they may set {}", known.join(", "));
        let detail = format!("callers may not set {name}; {}", did_you_mean(name.as_str(), known, &all));
        return Err(Refusal::new(Code::MetadataReserved, format!("callers may not set {name}")).telling(detail));
    }
    Ok(())
}

/// What is asked of this method.
fn asked_of(bindings: &Bindings, headers: &HeaderMap, path: MethodPath, language: Language) -> Result<Asked, Refusal> {
    may_set(headers)?;
    let provider = match named(headers)? {
        Some(named) => named,
        None => bindings.get(path.service()).cloned().ok_or_else(|| {
            Refusal::new(Code::ServiceNotNamed, format!("no causeway-service, and {} is not bound", path.service()))
        })?,
    };
    let why = why(headers)?;
    if why.purpose.is_empty() {
        return Err(Refusal::new(Code::PurposeMissing, "no causeway-purpose"));
    }
    Ok(Asked { provider, server: None, operation: Operation::Grpc(path), why, language })
}

/// Why it is asked, as far as the caller says it.
fn why(headers: &HeaderMap) -> Result<Opening, Refusal> {
    let timeout_ms = fields::timeout_ms(headers)
        .map_err(|()| malformed("grpc-timeout is not up to 8 digits and a unit, H, M, S, m, u or n".to_owned()))?;
    let text = |name| one(headers, name).map(Option::unwrap_or_default);
    Ok(Opening {
        purpose: text(&fields::PURPOSE)?,
        legal_basis: text(&fields::LEGAL_BASIS)?,
        subject: text(&fields::SUBJECT)?,
        represented_party: text(&fields::REPRESENTED_PARTY)?,
        timeout_ms,
    })
}

/// The provider that a call names.
fn named(headers: &HeaderMap) -> Result<Option<SubsystemId>, Refusal> {
    let named = one(headers, &fields::SERVICE)?.map(|named| named.parse());
    named.transpose().map_err(|error| {
        Refusal::new(Code::IdentifierMalformed, format!("{error}")).telling(format!("causeway-service: {error}"))
    })
}

/// A field of the caller's that may stand once, as text.
fn one(headers: &HeaderMap, name: &http::HeaderName) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let why = format!("{name} stands more than once");
        return Err(Refusal::new(Code::MetadataReserved, why.clone()).telling(why));
    }
    match value.to_str() {
        Ok(text) if text.contains('\t') => Err(malformed(format!("{name} holds a tab"))),
        Ok(text) if text.len() <= MAX_TEXT_BYTES => Ok(Some(text.to_owned())),
        Ok(_) => {
            let why = format!("{name} is longer than {MAX_TEXT_BYTES} bytes");
            Err(Refusal::new(Code::MetadataTooLarge, why.clone()).telling(why))
        }
        Err(_) => Err(malformed(format!("{name} is not printable ASCII"))),
    }
}

fn malformed(why: String) -> Refusal {
    Refusal::new(Code::MetadataMalformed, why.clone()).telling(why)
}
