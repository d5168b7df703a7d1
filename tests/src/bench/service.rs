//! The service of the bench: says each message back, and does as little else as it can.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Either};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::raw::Body;

/// What is said where the service listens, for who started it.
pub const LISTENING: &str = "the service listens at ";

/// Serves at this address until it is killed.
pub async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    println!("{LISTENING}{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(4096).initial_connection_window_size(16 << 20);
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Either<Echoed, Body>>, Infallible> {
    if request.uri().path().ends_with("/Both") {
        return Ok(super::stream::served(request).map(Either::Right));
    }
    // A caller that goes is no fault of ours: it gets no answer.
    let said = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Either::Left(Echoed { said: Some(said), ended: false }));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// What was said, then the good end.
struct Echoed {
    said: Option<Bytes>,
    ended: bool,
}

impl hyper::body::Body for Echoed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match (self.said.take(), std::mem::replace(&mut self.ended, true)) {
            (Some(said), _) => {
                self.ended = false;
                Some(Ok(Frame::data(said)))
            }
            (None, false) => {
                let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
                Some(Ok(Frame::trailers(HeaderMap::from_iter([status]))))
            }
            (None, true) => None,
        })
    }
}
