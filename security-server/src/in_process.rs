//! Services that are no others' programs: this server answers for them, over a connection within the process, so that each is called
//! like any other and the message path knows nothing of it.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::DuplexStream;

use crate::SecurityServer;
use crate::body::Outgoing;
use crate::listen::{CONNECTION_WINDOW, MAX_HEADER_LIST, MAX_STREAMS, STREAM_WINDOW};

/// Bytes that may wait within the connection.
const WITHIN: usize = 64 * 1024;

/// The server that answers, from its start on.
#[derive(Clone, Default)]
pub struct Answering(Arc<OnceLock<Weak<SecurityServer>>>);

impl Answering {
    /// It is this one.
    pub(crate) fn by(&self, server: &Arc<SecurityServer>) {
        // A service is of one server, which starts once.
        let _ = self.0.set(Arc::downgrade(server));
    }

    /// None before its start, and when it is gone.
    pub(crate) fn server(&self) -> Option<Arc<SecurityServer>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

/// A connection to a service that answers so.
pub(crate) fn connection<A, F>(answer: A) -> DuplexStream
where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Outgoing>> + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(WITHIN);
    let answered = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    tokio::spawn(async move {
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(theirs), answered);
        // It ends with the other end of the connection.
        let _ = serving.await;
    });
    ours
}
