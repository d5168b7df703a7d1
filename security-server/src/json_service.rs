//! A service of ours that speaks JSON over HTTP, and appears as a gRPC service: what our own clients' door says of JSON, spoken
//! towards the service. It is called like any other, by a connection within this process, where each message is translated by
//! the descriptors of the service as it is listed (PROTOCOL.md 17): the message path knows nothing of it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use prost_reflect::MethodDescriptor;
use proto::catalogue::ServiceName;
use proto::identifier::{MethodPath, SubsystemId};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

use crate::body::{Outgoing, Sender, outgoing};
use crate::in_process::{self, Answering};
use crate::listen::clients::frames::{Frames, Lines, Next, Unread};
use crate::request::NoResponse;
use crate::rest::Web;
use crate::{SecurityServer, fields, listings, rest};

/// Longest problem document that is read of the service.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;
/// Longest reason of a failure that is told: encoded it stands in a field.
const MAX_WHY_BYTES: usize = 1024;
/// What stands before a field that the service says along: its name alone means something to HTTP.
const SAID_ALONG: &str = "grpc-metadata-";

const UNKNOWN: u32 = 2;
const INVALID_ARGUMENT: u32 = 3;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// One of them, and the server that translates, from its start on.
pub(crate) struct JsonService {
    web: Arc<Web>,
    here: Answering,
}

/// How a call ends that has no answer: its gRPC status, and why.
struct Ended(u32, String);

impl JsonService {
    /// There.
    pub(crate) fn at(web: Web) -> Self {
        Self { web: Arc::new(web), here: Answering::default() }
    }

    /// How it is reached.
    pub(crate) fn web(&self) -> &Web {
        &self.web
    }

    /// The server that translates, from its start on.
    pub(crate) fn here(&self) -> &Answering {
        &self.here
    }

    /// A connection to the service as this subsystem offers it.
    pub(crate) fn connect(&self, provider: &SubsystemId) -> DuplexStream {
        let (web, here, provider) = (Arc::clone(&self.web), self.here.clone(), provider.clone());
        in_process::connection(move |request| {
            let (web, server, provider) = (Arc::clone(&web), here.server(), provider.clone());
            async move {
                let answered = answered(server, &web, &provider, request).await;
                answered.unwrap_or_else(|Ended(status, why)| {
                    let mut response = Response::new(Outgoing::empty().1);
                    *response.headers_mut() = trailers(status, &why);
                    response.headers_mut().insert(CONTENT_TYPE, fields::GRPC);
                    response
                })
            }
        })
    }
}

async fn answered(
    server: Option<Arc<SecurityServer>>,
    web: &Web,
    provider: &SubsystemId,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Ended> {
    let server = server.ok_or_else(|| Ended(UNAVAILABLE, "the server begins or ends".to_owned()))?;
    let (head, body) = request.into_parts();
    let path: MethodPath =
        head.uri.path().parse().map_err(|_| Ended(UNIMPLEMENTED, "the path is no method's".to_owned()))?;
    let method = described(&server, provider, &path).await?;
    if !fields::is_protobuf(&head.headers) {
        return Err(Ended(
            UNIMPLEMENTED,
            "the service speaks JSON: only messages of protobuf are translated".to_owned(),
        ));
    }
    let most = server.translation.message_bytes();
    let frames = Frames::of(body, most);
    let asked = if method.is_client_streaming() {
        let (sender, body) = outgoing(None);
        tokio::spawn(hand_on(Arc::clone(&server), method.clone(), frames, sender));
        body
    } else {
        one(&server, &method, frames).await?
    };
    let mut asking = Request::new(asked);
    *asking.method_mut() = Method::POST;
    *asking.uri_mut() =
        web.uri(path.as_str()).ok_or_else(|| Ended(INTERNAL, "the service's address has no such path".to_owned()))?;
    let kind = |lines| HeaderValue::from_static(if lines { "application/x-ndjson" } else { "application/json" });
    let headers = asking.headers_mut();
    *headers = said_along_to(&head.headers);
    headers.insert(CONTENT_TYPE, kind(method.is_client_streaming()));
    headers.insert(ACCEPT, kind(method.is_server_streaming()));
    let response = web.ask(asking).await.map_err(|error| match error {
        NoResponse::NotSent(_) | NoResponse::NotTaken => Ended(UNAVAILABLE, "the service is out of reach".to_owned()),
        NoResponse::Broke(_) => Ended(UNAVAILABLE, "the service broke off".to_owned()),
    })?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let told = Limited::new(body, MAX_PROBLEM_BYTES).collect().await.map(|told| told.to_bytes());
        return Err(of_problem(head.status.as_u16(), &told.unwrap_or_default()));
    }
    let says_its_end = head.headers.contains_key(TRANSFER_ENCODING) || head.headers.contains_key(CONTENT_LENGTH);
    if method.is_server_streaming() && !says_its_end {
        let why = "the service's stream ends with its connection: nobody could tell whether it is whole";
        return Err(Ended(INTERNAL, why.to_owned()));
    }
    let gone = CancellationToken::new();
    let hung_up = gone.clone();
    let (sender, answer) = outgoing(Some(Box::new(move || hung_up.cancel())));
    let mut response = Response::new(answer);
    *response.headers_mut() = said_along_by(&head.headers);
    response.headers_mut().insert(CONTENT_TYPE, fields::GRPC);
    if method.is_server_streaming() {
        tokio::spawn(async move {
            let telling = tell(server, method, Lines::of(body, most), sender);
            // Who asked is gone: so is the connection to the service.
            tokio::select! { () = gone.cancelled() => {}, () = telling => {} }
        });
        return Ok(response);
    }
    let told = Limited::new(body, most).collect().await;
    let told = told.map_err(|_| Ended(INTERNAL, "the service's answer was broken off, or is too long".to_owned()))?;
    let message = read(&server, &method, told.to_bytes()).await?;
    let mut sender = sender;
    // There is room for one run; a reader that is gone misses nothing.
    let _ = sender.data(message).await;
    let _ = sender.finish(Some(trailers(0, "")));
    Ok(response)
}

/// The method, as the service is listed for this provider.
async fn described(
    server: &SecurityServer,
    provider: &SubsystemId,
    path: &MethodPath,
) -> Result<MethodDescriptor, Ended> {
    let configuration = server.configuration.load();
    let name: Option<ServiceName> = path.service().parse().ok();
    let listed = name.and_then(|name| configuration.service_at(provider, &name));
    let listed = listed.ok_or_else(|| {
        let why =
            "the service speaks JSON, which is translated by what the catalogue lists of it, and it is not listed";
        Ended(UNIMPLEMENTED, why.to_owned())
    })?;
    let unknown = |error: &dyn std::fmt::Display| {
        tracing::warn!(service = %path.service(), %error, "a service that speaks JSON cannot be called: its descriptors are not at hand");
        Ended(UNAVAILABLE, "what the service's messages are is not known here yet".to_owned())
    };
    let entry = listings::verified(server, &configuration, listed).await.map_err(|error| unknown(&error))?;
    let described = listings::described(server, &entry).await.map_err(|error| unknown(&error))?;
    let service = described.service(path.service()).map_err(|error| unknown(&error))?;
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let method = service.methods().find(|method| method.name() == name);
    method.ok_or_else(|| Ended(UNIMPLEMENTED, "the service has no such method".to_owned()))
}

/// The one message of a request, as JSON.
async fn one(
    server: &SecurityServer,
    method: &MethodDescriptor,
    mut frames: Frames<Incoming>,
) -> Result<Outgoing, Ended> {
    let Next::Message(message) = frames.next().await.map_err(unread)? else {
        return Err(Ended(INVALID_ARGUMENT, "the request has no message".to_owned()));
    };
    let Next::End(_) = frames.next().await.map_err(unread)? else {
        return Err(Ended(INVALID_ARGUMENT, "the request has several messages".to_owned()));
    };
    let text = server.translation.write_as(method.input(), message).await;
    let text = text.ok_or_else(|| Ended(INVALID_ARGUMENT, "the request is not the method's message".to_owned()))?;
    let (sender, body) = outgoing(None);
    sender.whole(text.into());
    Ok(body)
}

fn unread(unread: Unread) -> Ended {
    match unread {
        Unread::Compressed => Ended(UNIMPLEMENTED, "the service speaks JSON: send messages uncompressed".to_owned()),
        Unread::TooLong => Ended(RESOURCE_EXHAUSTED, "a message is longer than is translated".to_owned()),
        Unread::Cut | Unread::BrokenOff => Ended(INVALID_ARGUMENT, "the request was broken off".to_owned()),
    }
}

/// A message a line, as they come. Dropped before its end, the sender breaks off.
async fn hand_on(
    server: Arc<SecurityServer>,
    method: MethodDescriptor,
    mut frames: Frames<Incoming>,
    mut sender: Sender,
) {
    loop {
        match frames.next().await {
            Ok(Next::Message(message)) => {
                let Some(mut text) = server.translation.write_as(method.input(), message).await else { return };
                text.push(b'\n');
                if sender.data(text.into()).await.is_err() {
                    return;
                }
            }
            Ok(Next::End(_)) => {
                let _ = sender.finish(None);
                return;
            }
            Err(_) => return,
        }
    }
}

/// Tells what the service says line by line: `{"result": MESSAGE}` each, and `{"error": PROBLEM}` where it ends badly.
async fn tell(server: Arc<SecurityServer>, method: MethodDescriptor, mut lines: Lines<Incoming>, mut sender: Sender) {
    let ended = loop {
        let said = match lines.next().await {
            Ok(Some((_, text))) => said(&text),
            Ok(None) => break Ended(0, String::new()),
            Err(_) => {
                break Ended(UNAVAILABLE, "the service's answer was broken off, or has too long a line".to_owned());
            }
        };
        let message = match said {
            Ok(message) => read(&server, &method, message).await,
            Err(ended) => Err(ended),
        };
        match message {
            Ok(message) => {
                if sender.data(message).await.is_err() {
                    return;
                }
            }
            Err(ended) => break ended,
        }
    };
    let _ = sender.finish(Some(trailers(ended.0, &ended.1)));
}

fn said(line: &[u8]) -> Result<Bytes, Ended> {
    let other =
        || Ended(INTERNAL, "a line of the service's answer is neither {\"result\": …} nor {\"error\": …}".to_owned());
    let Ok(Value::Object(mut said)) = serde_json::from_slice::<Value>(line) else { return Err(other()) };
    let mut part = |name: &str| said.remove(name).filter(|part| !part.is_null());
    match (part("result"), part("error")) {
        (Some(result), None) => Ok(result.to_string().into()),
        (None, Some(problem)) => Err(of_problem(500, problem.to_string().as_bytes())),
        _ => Err(other()),
    }
}

async fn read(server: &SecurityServer, method: &MethodDescriptor, text: Bytes) -> Result<Bytes, Ended> {
    let read = server.translation.read_as(method.output(), text).await;
    read.map_err(|misread| {
        tracing::warn!(%misread, method = %method.full_name(), "the service's JSON is not the method's response");
        Ended(INTERNAL, "the service's JSON is not the method's response".to_owned())
    })
}

/// What a service says that it does not answer: its own gRPC status where the problem document has one, else the one that
/// gRPC gives to this status of HTTP.
fn of_problem(status: u16, text: &[u8]) -> Ended {
    let problem: Value = serde_json::from_slice(text).unwrap_or_default();
    let said = problem["grpcStatus"].as_u64().and_then(|said| u32::try_from(said).ok()).filter(|said| *said != 0);
    let status = said.unwrap_or(match problem["status"].as_u64().unwrap_or(status.into()) {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    });
    let text = ["detail", "title"].iter().find_map(|name| problem[*name].as_str());
    Ended(status, text.unwrap_or("the service says no more").to_owned())
}

fn trailers(status: u32, why: &str) -> HeaderMap {
    let mut trailers = HeaderMap::from_iter([(fields::GRPC_STATUS, HeaderValue::from(status))]);
    if !why.is_empty() {
        let most = (0..=MAX_WHY_BYTES.min(why.len())).rev().find(|end| why.is_char_boundary(*end));
        let said = fields::percent_encoded(&why[..most.unwrap_or(0)]);
        trailers.insert(fields::GRPC_MESSAGE, HeaderValue::from_str(&said).expect("it was just encoded"));
    }
    trailers
}

/// What a gRPC caller says along, as a system that knows HTTP reads it.
fn said_along_to(headers: &HeaderMap) -> HeaderMap {
    // Of what is compressed, or a part, no message could be read.
    let of_grpc = |name: &HeaderName| {
        [CONTENT_TYPE, ACCEPT_ENCODING, CONTENT_ENCODING, RANGE].contains(name) || name.as_str().starts_with("grpc-")
    };
    let mut said = HeaderMap::new();
    for (name, value) in rest::carried(headers).iter().filter(|(name, _)| !of_grpc(name)) {
        said.append(name, value.clone());
    }
    said
}

/// What the service says along, as a gRPC caller reads it.
fn said_along_by(headers: &HeaderMap) -> HeaderMap {
    let mut said = HeaderMap::new();
    for (name, value) in headers {
        let named = name.as_str().strip_prefix(SAID_ALONG).and_then(|name| HeaderName::try_from(name).ok());
        if let Some(name) = named.filter(|name| !name.as_str().starts_with("grpc-") && name != CONTENT_TYPE) {
            said.append(name, value.clone());
        }
    }
    said
}
