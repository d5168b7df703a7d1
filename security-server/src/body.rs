//! Bodies that we send: what is pushed in at one end leaves at the other, no faster than the receiver reads.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::{mpsc, oneshot};

use crate::listen::calls::OneCall;

/// Runs of bytes that may wait in a body for its reader. HTTP/2's windows do the rest.
const WAITING_RUNS: usize = 4;

/// A body of which we hold the other end.
pub struct Outgoing {
    runs: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<Option<HeaderMap>>,
    finished: bool,
    on_hang_up: Option<Box<dyn FnOnce() + Send + Sync>>,
    of_call: Option<OneCall>,
}

/// The end that we hold. Dropped without [`Sender::finish`], the body is broken off.
pub struct Sender {
    runs: mpsc::Sender<Bytes>,
    end: oneshot::Sender<Option<HeaderMap>>,
}

impl Outgoing {
    /// A body with nothing in it, and no end to push into.
    pub fn empty() -> (Option<Sender>, Self) {
        (
            None,
            Self {
                runs: mpsc::channel(1).1,
                end: oneshot::channel().1,
                finished: true,
                on_hang_up: None,
                of_call: None,
            },
        )
    }

    /// The answer of this call, which runs until it is read.
    pub(crate) fn of_call(mut self, call: OneCall) -> Self {
        self.of_call = Some(call);
        self
    }
}

/// The reader is gone.
#[derive(Debug)]
pub struct Gone;

/// The body was broken off: it becomes a reset of the stream.
#[derive(Debug, thiserror::Error)]
#[error("broken off")]
pub struct BrokenOff;

/// A body and the end to push into. `on_hang_up` is called when the body is dropped before its end was read.
pub fn outgoing(on_hang_up: Option<Box<dyn FnOnce() + Send + Sync>>) -> (Sender, Outgoing) {
    let ((runs, waiting), (end, ended)) = (mpsc::channel(WAITING_RUNS), oneshot::channel());
    (Sender { runs, end }, Outgoing { runs: waiting, end: ended, finished: false, on_hang_up, of_call: None })
}

impl Sender {
    /// Pushes bytes, once there is room.
    pub async fn data(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.runs.send(bytes).await.map_err(|_| Gone)
    }

    /// All of a body whose reader has not begun.
    pub fn whole(self, bytes: Bytes) {
        // There is room: nothing was pushed. A reader that is gone misses nothing.
        let _ = self.runs.try_send(bytes);
        let _ = self.finish(None);
    }

    /// The body's good end, behind all that was pushed. It waits for no reader: a slow one must not lose it.
    pub fn finish(self, trailers: Option<HeaderMap>) -> Result<(), Gone> {
        // Said before `runs` is dropped: who finds no more runs finds the end.
        self.end.send(trailers).map_err(|_| Gone)
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        match self.runs.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(None) => match self.end.try_recv() {
                Ok(trailers) => {
                    self.finished = true;
                    Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
                }
                Err(_) => Poll::Ready(Some(Err(BrokenOff))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.finished
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(on_hang_up) = self.on_hang_up.take().filter(|_| !self.finished) {
            on_hang_up();
        }
    }
}
