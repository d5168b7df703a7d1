//! Plain HTTP/1.1 to an operators' door.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Asks; gives the status and the body.
pub async fn ask(door: SocketAddr, request: http::request::Builder, body: String) -> (u16, String) {
    let stream = TcpStream::connect(door).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body))).unwrap();
    let response = requests.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Asks as who holds the operators' token.
pub async fn get(door: SocketAddr, path: &str) -> serde_json::Value {
    let token = format!("Bearer {}", crate::world::OPERATORS_TOKEN);
    let request = http::Request::get(path).header("host", "localhost").header("authorization", token);
    let (status, body) = ask(door, request, String::new()).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Changes something, as who holds the operators' token; gives the status and the answer.
pub async fn post(door: SocketAddr, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let token = format!("Bearer {}", crate::world::OPERATORS_TOKEN);
    let request = http::Request::post(path).header("host", "localhost").header("authorization", token);
    let (status, body) = ask(door, request, body.to_string()).await;
    (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
}
