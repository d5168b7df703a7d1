//! Bodies that we send: what is pushed in at one end leaves at the other, no faster than the receiver reads.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::mpsc;

/// Runs of bytes that may wait in a body for its reader. HTTP/2's windows do the rest.
const WAITING_FRAMES: usize = 4;

/// A body of which we hold the other end.
pub struct Outgoing {
    frames: mpsc::Receiver<Part>,
    finished: bool,
    on_hang_up: Option<Box<dyn FnOnce() + Send + Sync>>,
}

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// The end that we hold. Dropped without [`Sender::finish`], the body is broken off.
pub struct Sender(mpsc::Sender<Part>);

impl Outgoing {
    /// A body with nothing in it, and no end to push into.
    pub fn empty() -> (Option<Sender>, Self) {
        (None, Self { frames: mpsc::channel(1).1, finished: true, on_hang_up: None })
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
    let (sender, frames) = mpsc::channel(WAITING_FRAMES);
    (Sender(sender), Outgoing { frames, finished: false, on_hang_up })
}

impl Sender {
    /// Pushes bytes, once there is room.
    pub async fn data(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.0.send(Part::Data(bytes)).await.map_err(|_| Gone)
    }

    /// The body's good end.
    pub async fn finish(self, trailers: Option<HeaderMap>) -> Result<(), Gone> {
        let end = trailers.map_or(Part::End, Part::Trailers);
        self.0.send(end).await.map_err(|_| Gone)
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        match self.frames.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Part::Data(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Some(Part::Trailers(trailers))) => {
                self.finished = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Some(Part::End)) => {
                self.finished = true;
                Poll::Ready(None)
            }
            Poll::Ready(None) => Poll::Ready(Some(Err(BrokenOff))),
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
