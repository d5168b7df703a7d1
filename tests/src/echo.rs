//! The service that the tests call: plain tonic, and nothing of ours.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::wire::Said;
use crate::wire::echo_server::{Echo, EchoServer};

/// Says back what it hears. What it hears of metadata beginning with `x-`, it says back in metadata and in trailers.
#[derive(Clone)]
pub struct Parrot {
    heard: mpsc::UnboundedSender<Heard>,
}

/// What the service noticed.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A call of this method, with these fields of the bus.
    Call(String, Vec<(String, String)>),
    /// The caller of `Hang` is gone.
    Gone,
    /// The request of `ClientStream` ended well.
    Whole,
    /// It was broken off.
    BrokenOff,
}

/// What the service says of itself: a descriptor set.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo.descriptors"));

type Says = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;

impl Parrot {
    /// Serves on a listener; what it hears is told.
    pub async fn serve() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<Heard>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, hears) = mpsc::unbounded_channel();
        let server = tonic::transport::Server::builder()
            .add_service(
                EchoServer::new(Parrot { heard })
                    .max_decoding_message_size(64 << 20)
                    .max_encoding_message_size(64 << 20),
            )
            .serve_with_incoming(
                TcpListenerStream::new(listener)
                    .map(|stream| stream.inspect(|stream| stream.set_nodelay(true).unwrap())),
            );
        tokio::spawn(server);
        (address, hears)
    }

    /// Serves with gRPC reflection, version 1, as many services of others do.
    pub async fn serve_reflected() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(EchoServer::new(Parrot { heard: mpsc::unbounded_channel().0 }))
            .add_service(reflection)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }

    fn hear<T>(&self, method: &str, request: &Request<T>) -> MetadataMap {
        let mut back = MetadataMap::new();
        let mut ours = Vec::new();
        for field in request.metadata().iter() {
            match field {
                tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                    if key.as_str().starts_with("x-") {
                        back.append(key, value.clone());
                    }
                    if key.as_str().starts_with("causeway-") || key == "grpc-timeout" {
                        ours.push((key.to_string(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned()));
                    }
                }
                tonic::metadata::KeyAndValueRef::Binary(key, value) => _ = back.append_bin(key, value.clone()),
            }
        }
        ours.sort();
        let _ = self.heard.send(Heard::Call(method.into(), ours));
        back
    }
}

fn with<T>(body: T, metadata: MetadataMap) -> Response<T> {
    let mut response = Response::new(body);
    *response.metadata_mut() = metadata;
    response
}

#[tonic::async_trait]
impl Echo for Parrot {
    async fn unary(&self, request: Request<Said>) -> Result<Response<Said>, Status> {
        let back = self.hear("Unary", &request);
        Ok(with(request.into_inner(), back))
    }

    type ServerStreamStream = Says;
    async fn server_stream(&self, request: Request<Said>) -> Result<Response<Says>, Status> {
        let back = self.hear("ServerStream", &request);
        let said = request.into_inner();
        let says = tokio_stream::iter((0..said.number).map(move |number| Ok(Said { number, ..said.clone() })));
        Ok(with(Box::pin(says), back))
    }

    async fn client_stream(&self, request: Request<Streaming<Said>>) -> Result<Response<Said>, Status> {
        let back = self.hear("ClientStream", &request);
        let mut hears = request.into_inner();
        let mut sum = Said::default();
        loop {
            match hears.message().await {
                Ok(Some(said)) => {
                    sum.number += said.number;
                    sum.text.push_str(&said.text);
                }
                Ok(None) => {
                    let _ = self.heard.send(Heard::Whole);
                    return Ok(with(sum, back));
                }
                Err(status) => {
                    let _ = self.heard.send(Heard::BrokenOff);
                    return Err(status);
                }
            }
        }
    }

    type BothStream = Says;
    async fn both(&self, request: Request<Streaming<Said>>) -> Result<Response<Says>, Status> {
        let back = self.hear("Both", &request);
        Ok(with(Box::pin(request.into_inner()), back))
    }

    type SpeaksFirstStream = Says;
    async fn speaks_first(&self, request: Request<Streaming<Said>>) -> Result<Response<Says>, Status> {
        let back = self.hear("SpeaksFirst", &request);
        let first = tokio_stream::once(Ok(Said { text: "first".into(), ..Default::default() }));
        Ok(with(Box::pin(first.chain(request.into_inner())), back))
    }

    async fn hang(&self, request: Request<Said>) -> Result<Response<Said>, Status> {
        self.hear("Hang", &request);
        struct Tells(mpsc::UnboundedSender<Heard>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(Heard::Gone);
            }
        }
        let _tells = Tells(self.heard.clone());
        std::future::pending().await
    }

    async fn fail(&self, request: Request<Said>) -> Result<Response<Said>, Status> {
        let back = self.hear("Fail", &request);
        let said = request.into_inner();
        let code = Code::from(i32::try_from(said.number).unwrap_or(i32::MAX));
        Err(Status::with_details_and_metadata(code, said.text, Bytes::from(said.bytes), back))
    }
}

/// A message with this text.
pub fn said(text: &str) -> Said {
    Said { text: text.into(), ..Default::default() }
}

/// Keeps a channel's receiver alive as a stream.
pub fn says(from: mpsc::Receiver<Said>) -> ReceiverStream<Said> {
    ReceiverStream::new(from)
}
