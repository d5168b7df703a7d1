//! The door for mirrors and caches: the published files as plain files over HTTP, to whoever asks, without TLS. All of them
//! are signed, and none of them is secret. A name is one of the newest version's files, which are in memory, or `content/`
//! and a SHA-256 that the catalogue has; or there is no such file.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use proto::digest::Digest;
use proto::global_configuration::update::TIMESTAMP;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::registry::Registry;
use crate::shelf;

/// Most connections at a time. Mirrors and caches ask here, and they are few.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a request may take to be written, and a connection may wait for its next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one connection may go on.
const LONGEST_CONNECTION: Duration = Duration::from_secs(600);
/// The one file whose bytes change under its name: a cache asks again after a second.
const OF_THE_TIMESTAMP: &str = "public, max-age=1";
/// Every other name stands for its bytes for ever.
const OF_THE_OTHERS: &str = "public, max-age=31536000, immutable";

/// Answers until the registry closes.
pub(crate) async fn serve(registry: Arc<Registry>, listener: TcpListener) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = registry.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for published files could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = registry.closing.clone().cancelled_owned() => {}
                () = tokio::time::sleep(LONGEST_CONNECTION) => {}
                () = answer_all(&registry, stream) => {}
            }
            drop(permit);
        });
    }
}

async fn answer_all(registry: &Arc<Registry>, stream: TcpStream) {
    let service =
        service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(answer(registry, &request).await) });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for published files ended early");
    }
}

async fn answer<B>(registry: &Arc<Registry>, request: &Request<B>) -> Response<Full<Bytes>> {
    let said = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    // hyper leaves the body of an answer to HEAD out by itself.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "published files are read only\n");
        refused.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let name = request.uri().path().trim_start_matches('/');
    let publication = registry.published.borrow().clone();
    let page = publication.leaves().file(name);
    let (found, kind) = match (publication.files().get(name).cloned(), shelf::named(name)) {
        _ if page.is_some() => (page, "application/octet-stream"),
        (Some(file), _) => (Some(file), "application/json"),
        (None, Some(digest)) => (of_the_catalogue(registry, digest).await, "application/octet-stream"),
        (None, None) => (None, ""),
    };
    let Some(content) = found else {
        return said(StatusCode::NOT_FOUND, "no such file in the newest version; begin with timestamp.json\n");
    };
    let mut response = Response::new(Full::new(content));
    let kept = if name == TIMESTAMP { OF_THE_TIMESTAMP } else { OF_THE_OTHERS };
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static(kept));
    response
}

async fn of_the_catalogue(registry: &Arc<Registry>, digest: Digest) -> Option<Bytes> {
    let registry = Arc::clone(registry);
    let read = tokio::task::spawn_blocking(move || registry.shelf.get(&digest)).await;
    read.expect("reading does not panic, and nothing aborts it")
}
