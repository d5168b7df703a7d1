//! The load: callers that wait for each answer before they ask again, or calls that begin when they are due, whatever
//! became of those before. No two messages are equal, and each answer must be what was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::wire::Said;

/// The gRPC status of a call that a server has no room for.
const RESOURCE_EXHAUSTED: &str = "8";

/// Where calls go, and what they say of themselves.
#[derive(Clone)]
pub struct Door {
    pub address: SocketAddr,
    pub fields: Vec<(&'static str, String)>,
}

/// How much is asked.
#[derive(Clone, Copy)]
pub struct Asked {
    /// Callers, each with one call at a time; with a rate, only the connections are reckoned by it.
    pub at_once: usize,
    /// Calls a second that begin whether those before were answered or not. None: as many as the callers get answered.
    pub rate: Option<f64>,
    /// Bytes of a message.
    pub bytes: usize,
    /// How long it goes before anything counts, and how long it counts.
    pub warm: Duration,
    pub lasting: Duration,
}

/// What came of it.
pub struct Answered {
    /// Microseconds of each call that counted, sorted.
    pub each: Vec<u32>,
    /// Microseconds of each that was refused for want of room, sorted.
    pub refused: Vec<u32>,
    pub took: Duration,
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const ENDED: u8 = 2;

struct Shared {
    phase: AtomicU8,
    refused: Mutex<Vec<u32>>,
    next: AtomicU64,
    bytes: usize,
    uri: http::Uri,
    headers: HeaderMap,
    wrong: AtomicBool,
}

/// Asks; `counting` is called when it begins to count and again when it stops.
pub async fn load(door: &Door, asked: Asked, mut counting: impl FnMut()) -> Answered {
    let connections = connections(asked.at_once);
    let mut doors = Vec::new();
    for _ in 0..connections {
        doors.push(connect(door.address).await);
    }
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(WARMING),
        refused: Mutex::default(),
        // No two runs say the same either.
        next: AtomicU64::new(u64::from(std::process::id()) << 32 | u64::from(rand_start())),
        bytes: asked.bytes,
        uri: format!("http://{}/echo.v1.Echo/Unary", door.address).parse().unwrap(),
        headers: headers(&door.fields),
        wrong: AtomicBool::new(false),
    });
    let callers = match asked.rate {
        None => closed(&shared, &doors, asked.at_once),
        Some(rate) => open(&shared, &doors, rate),
    };
    tokio::time::sleep(asked.warm).await;
    counting();
    let began = Instant::now();
    shared.phase.store(COUNTING, Ordering::Relaxed);
    tokio::time::sleep(asked.lasting).await;
    shared.phase.store(ENDED, Ordering::Relaxed);
    let took = began.elapsed();
    counting();
    let mut each: Vec<u32> = callers.join_all().await.into_iter().flatten().collect();
    assert!(!shared.wrong.load(Ordering::Relaxed), "an answer was not what was asked");
    each.sort_unstable();
    let mut refused = std::mem::take(&mut *shared.refused.lock().unwrap());
    refused.sort_unstable();
    Answered { each, refused, took }
}

/// As real clients spread: one connection carries a few callers, none carries all of many.
fn connections(at_once: usize) -> usize {
    (at_once.isqrt() / 2).clamp(1, 16)
}

fn rand_start() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

fn headers(fields: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    for (name, value) in fields {
        headers.insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    headers
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_connection_window_size(16 << 20).initial_stream_window_size(1 << 20);
    let (requests, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    requests
}

fn closed(shared: &Arc<Shared>, doors: &[SendRequest<Full<Bytes>>], at_once: usize) -> JoinSet<Vec<u32>> {
    let mut callers = JoinSet::new();
    for caller in 0..at_once {
        let (shared, mut door) = (Arc::clone(shared), doors[caller % doors.len()].clone());
        callers.spawn(async move {
            let mut each = Vec::new();
            loop {
                let phase = shared.phase.load(Ordering::Relaxed);
                if phase == ENDED {
                    return each;
                }
                let began = Instant::now();
                let answered = shared.call(&mut door).await;
                // Only whole calls within the time that counts.
                if phase == COUNTING && answered && shared.phase.load(Ordering::Relaxed) == COUNTING {
                    each.push(micros(began));
                }
            }
        });
    }
    callers
}

fn open(shared: &Arc<Shared>, doors: &[SendRequest<Full<Bytes>>], rate: f64) -> JoinSet<Vec<u32>> {
    let (shared, doors) = (Arc::clone(shared), doors.to_vec());
    let mut ticking = JoinSet::new();
    ticking.spawn(async move {
        let (began, mut begun, mut calls) = (Instant::now(), 0u64, JoinSet::new());
        loop {
            let phase = shared.phase.load(Ordering::Relaxed);
            if phase == ENDED {
                break;
            }
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            while begun < due {
                let (shared, mut door) = (Arc::clone(&shared), doors[begun as usize % doors.len()].clone());
                begun += 1;
                let called = Instant::now();
                calls.spawn(async move {
                    let answered = shared.call(&mut door).await;
                    (phase == COUNTING && answered).then(|| micros(called))
                });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        calls.join_all().await.into_iter().flatten().collect()
    });
    ticking
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

impl Shared {
    /// Whether it was answered, rather than refused.
    async fn call(&self, door: &mut SendRequest<Full<Bytes>>) -> bool {
        let (began, counts) = (Instant::now(), self.phase.load(Ordering::Relaxed) == COUNTING);
        let said = message(self.next.fetch_add(1, Ordering::Relaxed), self.bytes);
        let mut request = Request::new(Full::new(said.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        door.ready().await.unwrap();
        let response = door.send_request(request).await.unwrap();
        let (head, mut body) = response.into_parts();
        let (mut heard, mut status) = (BytesMut::new(), head.headers.get("grpc-status").cloned());
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => heard.extend_from_slice(&data),
                Err(frame) => status = frame.into_trailers().unwrap().get("grpc-status").cloned(),
            }
        }
        let status = status.as_ref().and_then(|status| status.to_str().ok());
        if status == Some(RESOURCE_EXHAUSTED) {
            if counts {
                self.refused.lock().unwrap().push(micros(began));
            }
            return false;
        }
        if status != Some("0") || heard != said {
            self.wrong.store(true, Ordering::Relaxed);
            panic!("{}: status {status:?}, {} bytes for {}: {:?}", self.uri, heard.len(), said.len(), head.headers);
        }
        true
    }
}

/// A gRPC message of so many bytes that no other number has.
fn message(number: u64, bytes: usize) -> Bytes {
    let mut fill = Vec::with_capacity(bytes);
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while fill.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        fill.extend_from_slice(&state.to_le_bytes());
    }
    fill.truncate(bytes);
    let said = Said { number, bytes: fill, ..Default::default() };
    let mut message = BytesMut::with_capacity(5 + said.encoded_len());
    message.put_u8(0);
    message.put_u32(u32::try_from(said.encoded_len()).unwrap());
    said.encode(&mut message).unwrap();
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_messages_are_equal_and_all_are_as_long() {
        let messages: std::collections::BTreeSet<_> = (1 << 40..(1 << 40) + 1000).map(|n| message(n, 1024)).collect();
        assert_eq!(messages.len(), 1000);
        assert!(messages.iter().all(|message| message.len() == messages.first().unwrap().len()));
    }
}
