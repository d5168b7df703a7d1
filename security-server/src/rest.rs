//! REST services of ours: what a request asks of one, and the connections to it. Any HTTP method and body goes through; what it
//! may ask for is decided on the bytes that the service is sent (PROTOCOL.md 22).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest::{Context as Context512, SHA512};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{EXPECT, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, TRAILER, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::global_configuration::Configuration;
use proto::identifier::MethodPath;
use proto::message::{Contents, Header, Operation};
use proto::refusal::Code;
use proto::rest::{Operations, RestTarget, TARGET_FIELD};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::body::Outgoing;
use crate::forward::{AnswerFuture, CONNECT_TIMEOUT};
use crate::names::Names;
use crate::request::NoResponse;
use crate::services;
use crate::subjects::Subjects;

/// Who asks, as X-Road's systems are told it.
pub(crate) const X_ROAD_CLIENT: HeaderName = HeaderName::from_static("x-road-client");
/// Connections to one service that are kept open while nothing is asked.
const MAX_IDLE: usize = 64;
/// How long they are kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// By which a caller may ask a service to take a request for another than it is: never carried, in either direction.
const OVERRIDES: [&str; 13] = [
    "proxy",
    "x-envoy-original-path",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether a field would have a service take a request for another one, or its caller for somebody else: many read `_` in a name
/// as `-`, and so a name with one may be any of ours.
pub(crate) fn misleads(name: &HeaderName) -> bool {
    name.as_str().contains('_') || OVERRIDES.contains(&name.as_str())
}

/// The fields that X-Road carries over the border: all but those of one connection, and those that mislead.
pub(crate) fn carried(headers: &HeaderMap) -> HeaderMap {
    const OF_CONNECTION: [HeaderName; 7] =
        [EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, TRAILER, USER_AGENT, HeaderName::from_static("te")];
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| !OF_CONNECTION.contains(name) && !misleads(name)) {
        kept.append(name, value.clone());
    }
    kept
}

/// What a request asks of a service of ours. Only [`called`] makes one.
#[derive(Debug)]
pub struct CalledOperation {
    pub(crate) name: MethodPath,
    pub(crate) verb: Method,
    /// Path and query, as they go behind the service's address.
    pub(crate) target: String,
}

/// The operation that an opening asks for, of a service of ours as it is listed (PROTOCOL.md 22.4).
pub(crate) fn called(
    subjects: &Subjects,
    configuration: &Configuration,
    header: &Header,
    contents: &Contents,
) -> Result<CalledOperation, Code> {
    let name = named(header)?;
    let target = target(&name, header, contents)?;
    let operations = subjects.operations(configuration, &header.route.provider, name.service());
    let operations = operations.map_err(|_| Code::NotReady)?.ok_or(Code::ServiceUnknown)?;
    meant(&operations, name, header, &target)
}

fn named(header: &Header) -> Result<MethodPath, Code> {
    let Operation::Http { target, .. } = &header.route.operation else { return Err(Code::GrantMissing) };
    target.parse().map_err(|_| Code::GrantMissing)
}

/// What the caller wrote, once, and of the route's own provider and service.
fn target<'c>(name: &MethodPath, header: &Header, contents: &'c Contents) -> Result<RestTarget<'c>, Code> {
    let mut said = contents.metadata.iter().flatten().filter(|(name, _)| name == TARGET_FIELD);
    let (Some((_, target)), None) = (said.next(), said.next()) else { return Err(Code::GrantMissing) };
    let target = std::str::from_utf8(target).ok().and_then(|target| RestTarget::parse(target).ok());
    let provider = &header.route.provider;
    let of_route = |target: &RestTarget<'_>| target.provider == *provider && target.service == name.service();
    target.filter(of_route).ok_or(Code::GrantMissing)
}

/// The operation of this name, if it is the one that the very path asks for that the service is sent.
fn meant(
    operations: &Operations,
    name: MethodPath,
    header: &Header,
    target: &RestTarget<'_>,
) -> Result<CalledOperation, Code> {
    let Operation::Http { verb, .. } = &header.route.operation else { return Err(Code::GrantMissing) };
    if operations.asked(verb, target.path_of_operation()) != Ok(&name) {
        return Err(Code::GrantMissing);
    }
    let verb = Method::from_bytes(verb.as_bytes()).map_err(|_| Code::GrantMissing)?;
    let query = target.query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(CalledOperation { name, verb, target: format!("{}{query}", target.path) })
}

type Connector = BoxCloneSyncService<Uri, TokioIo<Stream>, io::Error>;

/// Where a REST service is, and the connections to it.
pub(crate) struct Web {
    /// Scheme, host, port and path, without a slash at its end.
    base: String,
    connector: Connector,
    client: Client<Connector, Outgoing>,
}

impl Web {
    /// At this host and port, below this path.
    pub(crate) fn at(host: &str, path: &str, tls: Option<Arc<rustls::ClientConfig>>, names: &Names) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{host}{}", path.trim_end_matches('/'));
        let tls = tls.map(|tls| {
            let mut tls = (*tls).clone();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsConnector::from(Arc::new(tls))
        });
        let (host, names) = (host.to_owned(), names.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (host, names, tls) = (host.clone(), names.clone(), tls.clone());
            async move {
                let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&host, &names, tls)).await;
                connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
            }
        });
        let connector = BoxCloneSyncService::new(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(64 * 1024)
            .build(connector.clone());
        Self { base, connector, client }
    }

    /// Where path and query go.
    pub(crate) fn uri(&self, target: &str) -> Option<Uri> {
        format!("{}{target}", self.base).parse().ok()
    }

    /// Connects, and nothing else: for the doctor.
    pub(crate) async fn reach(&self) -> io::Result<()> {
        let connected = self.connector.clone().oneshot(Uri::from_static("http://there/")).await;
        connected.map(drop)
    }

    /// Asks. A redirect is an answer like any other: nobody follows it.
    pub(crate) fn ask(&self, request: Request<Outgoing>) -> AnswerFuture {
        let asked = self.client.request(request);
        Box::pin(async move { asked.await.map_err(no_response) })
    }
}

fn no_response(error: Error) -> NoResponse {
    if error.is_connect() { NoResponse::NotSent(told(&error)) } else { NoResponse::Broke(told(&error)) }
}

/// An error and what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(source) = behind {
        text = format!("{text}: {source}");
        behind = source.source();
    }
    text
}

async fn connect(host: &str, names: &Names, tls: Option<TlsConnector>) -> io::Result<Stream> {
    let stream = names.connect(host).await?;
    services::keep_alive(&stream)?;
    let Some(tls) = tls else { return Ok(Stream(Box::pin(stream))) };
    let name = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    Ok(Stream(Box::pin(tls.connect(name, stream).await?)))
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Io for S {}

/// A connection, with TLS or without.
struct Stream(Pin<Box<dyn Io>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// SHA-512 of a request's body as it comes, for the hash that X-Road gives back with the answer.
pub(crate) struct BodyHash {
    hash: Context512,
    is_there: bool,
    whole: WholeBody,
}

/// What the body was: none before it ended, then its hash, where there was any of it.
pub(crate) type WholeBody = Arc<OnceLock<Option<Hash512>>>;

impl BodyHash {
    /// Nothing yet, and where it is told when it is whole.
    pub(crate) fn begun() -> (Self, WholeBody) {
        let whole = WholeBody::default();
        (Self { hash: Context512::new(&SHA512), is_there: false, whole: Arc::clone(&whole) }, whole)
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.is_there |= !bytes.is_empty();
        self.hash.update(bytes);
    }

    pub(crate) fn finish(self) {
        let hash = self.hash.finish();
        let _ = self.whole.set(self.is_there.then_some(hash));
    }
}

/// A SHA-512.
pub(crate) type Hash512 = aws_lc_rs::digest::Digest;

/// SHA-512 of a request's head.
pub(crate) fn head_hash(verb: &str, target: &str, fields: &[(String, Bytes)]) -> Hash512 {
    let mut head = Context512::new(&SHA512);
    head.update(format!("{verb}\r\n{target}\r\n").as_bytes());
    for (name, value) in fields {
        [name.as_bytes(), b":", value, b"\r\n"].iter().for_each(|part| head.update(part));
    }
    head.finish()
}

/// X-Road's hash of a request (`x-road-request-hash`): that of its head, or of both hashes where it has a body, in base64.
pub(crate) fn request_hash(head: &Hash512, body: Option<&Hash512>) -> String {
    let Some(body) = body else { return STANDARD.encode(head) };
    let mut both = Context512::new(&SHA512);
    both.update(head.as_ref());
    both.update(body.as_ref());
    STANDARD.encode(both.finish())
}

#[cfg(test)]
mod tests {
    use proto::digest::Digest;
    use proto::identifier::ExchangeId;
    use proto::message::{ConfigurationVersion, Direction, Facts, Opening, Route};
    use proto::rest::Place;
    use proto::time::Time;

    use super::*;

    #[test]
    fn a_consumer_s_server_that_names_another_operation_than_its_path_asks_for_is_refused() {
        let place = |verb: &str, path: &str| Place { verb: verb.parse().unwrap(), path: path.parse().unwrap() };
        let of = |name: &str| format!("/pets.v1/{name}").parse::<MethodPath>().unwrap();
        let operations = Operations::new([
            (place("GET", "/pets/{id}"), of("getPet")),
            (place("GET", "/pets/secret"), of("secretPet")),
            (place("DELETE", "/pets/{id}"), of("deletePet")),
        ]);
        let operations = operations.unwrap();
        let asked = |verb: &str, name: &str, targets: &[&str]| {
            let route = Route {
                instance: "VN".parse().unwrap(),
                consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
                consumer_server: "VN/GOV/portal/ss1".parse().unwrap(),
                provider: "VN/GOV/moj/a".parse().unwrap(),
                provider_server: "VN/GOV/moj/ss1".parse().unwrap(),
                operation: Operation::Http { verb: verb.into(), target: name.into() },
            };
            let header = Header::new(Facts {
                route,
                exchange: ExchangeId::from_bytes([7; 16]),
                attempt: 1,
                direction: Direction::Request,
                position: 0,
                time: Time::from_millis(1),
                configuration: ConfigurationVersion { version: 1, digest: Digest::ZERO },
                opening: Some(Opening::default()),
                answer: None,
                previous: None,
                metadata: None,
                pieces: Vec::new(),
                end: None,
                removed: None,
            });
            let field = |target: &&str| (TARGET_FIELD.to_owned(), Bytes::copy_from_slice(target.as_bytes()));
            let contents = Contents { metadata: Some(targets.iter().map(field).collect()), ..Contents::default() };
            let name = named(&header)?;
            let target = target(&name, &header, &contents)?;
            meant(&operations, name, &header, &target)
        };
        let base = "/r1/VN/GOV/moj/a/pets.v1";
        let at = |path: &str| format!("{base}{path}");
        let called = asked("GET", "/pets.v1/getPet", &[&at("/pets/7?x=%2F")]).unwrap();
        assert_eq!((called.verb.as_str(), called.target.as_str()), ("GET", "/pets/7?x=%2F"));
        for (verb, name, targets) in [
            ("GET", "/pets.v1/getPet", vec![at("/pets/secret")]),
            ("GET", "/pets.v1/getPet", vec![at("/pets/%73ecret")]),
            ("DELETE", "/pets.v1/getPet", vec![at("/pets/7")]),
            ("GET", "/pets.v1/deletePet", vec![at("/pets/7")]),
            ("GET", "/pets.v2/getPet", vec![at("/pets/7")]),
            ("GET", "/pets.v1/getPet", vec!["/r1/VN/GOV/moj/b/pets.v1/pets/7".into()]),
            ("GET", "/pets.v1/getPet", vec!["/r1/VN/GOV/moj/a/pets.v2/pets/7".into()]),
            ("GET", "/pets.v1/getPet", vec!["/pets/7".into()]),
            ("GET", "/pets.v1/getPet", vec![at("/pets/7"), at("/pets/secret")]),
            ("GET", "/pets.v1/getPet", vec![]),
            ("GET", "/pets/7", vec![at("/pets/7")]),
            ("get", "/pets.v1/getPet", vec![at("/pets/7")]),
        ] {
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            assert_eq!(asked(verb, name, &targets).unwrap_err(), Code::GrantMissing, "{verb} {name} {targets:?}");
        }
    }

    #[test]
    fn a_request_is_hashed_as_x_road_does() {
        let fields = |fields: &[(&str, &'static str)]| -> Vec<(String, Bytes)> {
            fields.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from_static(value.as_bytes()))).collect()
        };
        let get = fields(&[
            ("Accept", "application/json"),
            ("X-Road-Client", "INSTANCE/CLASS1/MEMBER1/SUBSYSTEM1"),
            ("x-road-request-id", "f92591a3-6bf0-49b1-987b-0dd78c034cc3"),
            ("x-road-id", "fa2e18a5-c2cb-4d09-b994-f57727f7c3fb"),
        ]);
        let base = "/r1/INSTANCE/CLASS2/MEMBER2/SUBSYSTEM2/BARSERVICE/v1/bar";
        assert_eq!(
            request_hash(&head_hash("GET", &format!("{base}/zyggy?quu=1"), &get), None),
            "xwnjbVn0LpyQETxBePCkXec+55QsQltKKSoO0GYE42fAupb0BeAWNCgsh3a2tR1Vhc4jR+z4kfk8unrh2TEiZg=="
        );
        let post = fields(&[
            ("Content-Type", "application/json"),
            ("X-Road-Client", "INSTANCE/CLASS1/MEMBER1/SUBSYSTEM1"),
            ("X-Road-Id", "fa2e18a5-c2cb-4d09-b994-f57727f7c3fb"),
            ("x-road-request-id", "f92591a3-6bf0-49b1-987b-0dd78c034cc3"),
        ]);
        let (mut body, whole) = BodyHash::begun();
        body.take(b"{\"value\" ");
        body.take(b": 42}");
        assert!(whole.get().is_none(), "it did not end yet");
        body.finish();
        assert_eq!(
            request_hash(&head_hash("POST", base, &post), whole.get().unwrap().as_ref()),
            "DToyJViW6Fe1B1SWmFgLtnJnzMy9EHj3Y9O2qf+c1zF/c4RW//WpAZES0U+6tTHpYh9mifObF5LgE53pRoCKbw=="
        );
        let (nothing, whole) = BodyHash::begun();
        nothing.finish();
        assert!(whole.get().is_some_and(Option::is_none), "no bytes are no body");
    }
}
