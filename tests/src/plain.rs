//! Plain HTTP/1.1, as curl and old systems speak it: a connection for each request.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Plain {
    pub head: http::response::Parts,
    pub body: Bytes,
    /// The body, as far as it is text.
    pub text: String,
    /// The body was broken off.
    pub broken: bool,
}

/// Makes a request and reads the answer.
pub async fn ask(address: SocketAddr, request: http::request::Builder, body: impl Into<Bytes>) -> Plain {
    Plain::read(begin(address, request.body(Full::new(body.into())).unwrap()).await).await
}

/// Makes a request; the answer is read by the test. Dropped, it cuts the connection.
pub async fn begin<B>(address: SocketAddr, mut request: Request<B>) -> http::Response<Incoming>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    if !request.headers().contains_key("host") {
        request.headers_mut().insert("host", address.to_string().parse().unwrap());
    }
    requests.send_request(request).await.unwrap()
}

impl Plain {
    /// Reads a response to its end.
    pub async fn read(response: http::Response<Incoming>) -> Self {
        let (head, mut body) = response.into_parts();
        let (mut read, mut broken) = (BytesMut::new(), false);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        let body = read.freeze();
        Self { head, text: String::from_utf8_lossy(&body).into_owned(), body, broken }
    }

    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// The JSON of each line.
    pub fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
