//! Plain HTTP/2, without a gRPC library: for what such a library hides, and for what it would never send.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::identifier::ExchangeId;
use proto::refusal::{Code, Form, Language, Speaker, status_details};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A body that is written as the test goes on. Dropping its sender is its good end.
pub type Body = Channel<Bytes, std::io::Error>;
/// The end of a body that the test holds.
pub type BodySender = Sender<Bytes, std::io::Error>;

/// A client's connection.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<Body>,
    connection: tokio::task::AbortHandle,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub head: http::response::Parts,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// The body was broken off.
    pub broken: bool,
}

impl Client {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    pub async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut stream: S) -> Self {
        // The socket is behind a pipe of ours, because hyper keeps what it is given until every request has ended.
        let (near, mut far) = tokio::io::duplex(16 * 1024);
        let connection = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut stream).await });
        let (requests, running) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(running);
        Self { requests, connection: connection.abort_handle() }
    }

    /// Cuts the connection, as a client does that dies.
    pub fn cut(&self) {
        self.connection.abort();
    }

    /// Begins a request; its body is written with the sender.
    pub fn open(
        &mut self,
        request: http::request::Builder,
    ) -> (BodySender, impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<>) {
        let (sender, body) = Channel::new(16);
        (sender, self.requests.send_request(request.body(body).unwrap()))
    }

    /// Makes a request with this body and reads the answer.
    pub async fn call(&mut self, request: http::request::Builder, body: Bytes) -> Answer {
        let (mut sender, response) = self.open(request);
        if !body.is_empty() {
            // A door that refuses the head may have answered already.
            let _ = sender.send_data(body).await;
        }
        drop(sender);
        Answer::read(response.await.unwrap()).await
    }
}

impl Answer {
    /// Reads a response to its end. Whoever refuses says its code and nothing else, in whatever test.
    pub async fn read(response: Response<Incoming>) -> Self {
        let (head, mut incoming) = response.into_parts();
        let mut answer = Self { head, body: Bytes::new(), trailers: None, broken: false };
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => body.put(data),
                Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
                Err(_) => {
                    answer.broken = true;
                    break;
                }
            }
        }
        answer.body = body.freeze();
        if let Some(code) = answer.refusal() {
            let code = code.parse().unwrap();
            if answer.field("content-type") == Some("application/problem+json") {
                answer.is_the_problem_of(code);
            } else {
                answer.says_no_more_than(code);
            }
        }
        answer
    }

    /// The same of a problem document: what is not of the code is a detail of the caller's own call.
    fn is_the_problem_of(&self, code: Code) {
        assert_eq!(self.head.status, code.http_status(), "{code}");
        let said: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&self.body).unwrap();
        let language = Language::ALL.into_iter().find(|language| said["title"] == code.title(*language));
        let language = language.unwrap_or_else(|| panic!("{code} says {said:?}"));
        let of_code = [Speaker::ConsumerServer, Speaker::ProviderServer].iter().any(|said_by| {
            let said_by = code.speaker_or(*said_by);
            said["saidBy"] == said_by.as_str() && said["side"] == code.side_when(said_by).as_str()
        });
        assert!(of_code, "{code}: {said:?}");
        assert_eq!(said["remedy"], code.remedy(language));
        assert_eq!((&said["grpcStatus"], &said["status"]), (&code.grpc_status().into(), &code.http_status().into()));
        assert_eq!(
            (&said["code"], &said["type"]),
            (&code.as_str().into(), &format!("urn:causeway:refusal:{code}").into())
        );
        if let Some(exchange) = said.get("exchange") {
            assert_eq!(self.field("causeway-exchange"), exchange.as_str());
        }
        let known = ["code", "detail", "exchange", "grpcStatus", "remedy", "saidBy", "side", "status", "title", "type"];
        assert!(said.keys().all(|key| known.contains(&key.as_str())), "{code}: {said:?}");
    }

    /// A refusal is made of its code, a language, the exchange, and which server says it; to a peer of its code alone.
    /// There is no room in it for an address, a stack, a name or a grant.
    fn says_no_more_than(&self, code: Code) {
        let fields = self.trailers.as_ref().unwrap_or(&self.head.headers);
        let mut expected = vec!["causeway-refusal", "grpc-status"];
        if self.trailers.is_none() {
            expected.extend(["content-type", "date"]);
            assert_eq!(self.field("content-type"), Some("application/grpc"), "{code}");
            assert!(self.body.is_empty(), "{code}");
        }
        assert_eq!(self.status(), code.grpc_status(), "{code}");
        if self.field("grpc-message").is_some() {
            expected.extend(["grpc-message", "grpc-status-details-bin"]);
            let exchange = self.field("causeway-exchange").map(|exchange| exchange.parse::<ExchangeId>().unwrap());
            if fields.contains_key("causeway-exchange") {
                expected.push("causeway-exchange");
            }
            let language = Language::ALL.into_iter().find(|language| self.message() == code.message(*language));
            let language = language.unwrap_or_else(|| panic!("{code} says {:?}", self.message()));
            let details = STANDARD_NO_PAD.decode(self.field("grpc-status-details-bin").unwrap()).unwrap();
            let of_code = [Speaker::ConsumerServer, Speaker::ProviderServer].iter().any(|said_by| {
                let exchange = exchange.unwrap_or(ExchangeId::from_bytes([0; 16]));
                details == status_details(code, language, &exchange, *said_by)
            });
            assert!(of_code, "{code} has other details: {}", String::from_utf8_lossy(&details));
        } else {
            assert_ne!(code.form(), Form::Local, "{code} is for our own systems, and has words");
        }
        let mut found: Vec<_> = fields.keys().map(http::HeaderName::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{code}");
    }

    /// The metadata of the ErrorInfo in a refusal's details, as any gRPC library reads it.
    pub fn details(&self) -> BTreeMap<String, String> {
        let details = STANDARD_NO_PAD.decode(self.field("grpc-status-details-bin").unwrap()).unwrap();
        let status = Status::decode(&details[..]).unwrap();
        ErrorInfo::decode(&status.details[0].value[..]).unwrap().metadata
    }

    /// A field of the trailers, or else of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.trailers.as_ref().and_then(|trailers| trailers.get(name));
        found.or_else(|| self.head.headers.get(name))?.to_str().ok()
    }

    pub fn status(&self) -> u32 {
        self.field("grpc-status").expect("an answer has a status").parse().unwrap()
    }

    pub fn refusal(&self) -> Option<&str> {
        self.field("causeway-refusal")
    }

    /// `grpc-message` as it is meant.
    pub fn message(&self) -> String {
        unescaped(self.field("grpc-message").unwrap_or_default())
    }
}

/// A `grpc-message` as it is meant.
pub fn unescaped(message: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = message.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// google.rpc.Status, as far as we read it.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// google.protobuf.Any
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// google.rpc.ErrorInfo
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// A gRPC message as it stands in a body.
pub fn message(message: &impl Message) -> Bytes {
    flagged(0, &message.encode_to_vec())
}

/// Bytes as a gRPC message with this flag.
pub fn flagged(flag: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(payload.len()).unwrap());
    bytes.put(payload);
    bytes.freeze()
}

/// The gRPC messages of a body.
pub fn messages<M: Message + Default>(mut body: Bytes) -> Vec<M> {
    let mut messages = Vec::new();
    while body.has_remaining() {
        assert_eq!(body.get_u8(), 0, "not compressed");
        let length = body.get_u32() as usize;
        messages.push(M::decode(body.split_to(length)).unwrap());
    }
    messages
}

/// A service that answers as the test says.
pub async fn serve<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(speak(stream, answer.clone()));
        }
    });
    address
}

/// One connection of such a service.
pub async fn speak<S, F>(stream: S, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The start of a gRPC answer, and where its body and trailers are written.
pub fn answer() -> (BodySender, Response<Body>) {
    let (sender, body) = Channel::new(1);
    let response = Response::builder().header("content-type", "application/grpc").body(body).unwrap();
    (sender, response)
}

/// Fields, for trailers and heads.
pub fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// Reads a request's body to its end.
pub async fn body_of(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}
