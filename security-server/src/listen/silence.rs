//! A connection whose client opens it and says nothing: it is not known yet what will be spoken, so neither HTTP/1.1's time for a
//! head nor HTTP/2's pings end it. Here it is ended, so that nobody holds a door's places for nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What is read until it is known what is spoken: the bytes of HTTP/2's preface (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;

/// A stream whose other side has to begin in time.
pub(super) struct Begins<S> {
    stream: S,
    /// Until when, and how many bytes are wanted yet. None: it has begun.
    awaited: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Begins<S> {
    /// Within so long.
    pub(super) fn within(time: Duration, stream: S) -> Self {
        Self { stream, awaited: Some((Box::pin(tokio::time::sleep(time)), PREFACE_BYTES)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begins<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((deadline, wanted)) = &mut this.awaited else { return Pin::new(&mut this.stream).poll_read(cx, into) };
        let before = into.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, into);
        *wanted = wanted.saturating_sub(into.filled().len() - before);
        if *wanted == 0 {
            this.awaited = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said on it")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begins<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use hyper::body::Incoming;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::body::outgoing;
    use crate::limits::Limits;
    use crate::listen::{http1_or_2, speak};

    fn begin() -> Duration {
        Limits::default().begin()
    }

    const HEAD: &[u8] = b"GET /quiet HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    async fn answered(_: Request<Incoming>) -> Response<crate::body::Outgoing> {
        let (sender, body) = outgoing(None);
        let _ = sender.finish(None);
        Response::new(body)
    }

    /// What a client hears that says this, after so long a silence; and how long its connection lived.
    async fn hears(says: &'static [u8], after: Duration) -> (Vec<u8>, Duration) {
        let (mut client, door) = tokio::io::duplex(1024);
        let began = Instant::now();
        let served = tokio::spawn(speak(
            None,
            Limits::default(),
            http1_or_2(&Limits::default()),
            door,
            CancellationToken::new(),
            answered,
        ));
        sleep(after).await;
        client.write_all(says).await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        served.await.unwrap();
        (heard, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_half_a_preface_has_no_place_at_a_door() {
        for says in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let (heard, lived) = hears(says, Duration::ZERO).await;
            assert_eq!((heard.as_slice(), lived.as_secs()), (&b""[..], begin().as_secs()), "{says:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_in_time_is_answered() {
        let late = begin() - Duration::from_millis(1);
        let (heard, _) = hears(HEAD, late).await;
        assert!(heard.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&heard));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_begun_may_be_silent_as_long_as_what_is_spoken_allows() {
        let (mut client, door) = tokio::io::duplex(1024);
        let mut door = Begins::within(begin(), door);
        client.write_all(&[b' '; PREFACE_BYTES]).await.unwrap();
        let mut read = [0; PREFACE_BYTES];
        door.read_exact(&mut read).await.unwrap();
        let read = tokio::spawn(async move { door.read_u8().await });
        sleep(begin() * 10).await;
        client.write_u8(7).await.unwrap();
        assert_eq!(read.await.unwrap().unwrap(), 7);
    }
}
