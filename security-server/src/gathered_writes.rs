//! What a connection's frames go through on their way to the socket: HTTP/2 writes and flushes each data frame by itself, and a
//! write is the dearest thing that a small call does. Here a flush waits until the connection's task has had its turn again
//! and nothing more was written: by then every exchange that was ready has added its frame, and one write takes them all.
//!
//! With one wake-up a commit (`journal::release_in_this_thread`), and both servers counted, a call uses 0.75 of the CPU with 64
//! callers, 0.64 with 256, no more and no less with one.
//!
//! Nothing waits for time: where one frame is all there is, it leaves in the task's next turn.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most, in bytes: a TLS record. A write of as much is not copied.
const FULL: usize = 16 << 10;

/// How often a flush may be put off for what is gathered: a connection that never falls silent still sends.
const MOST_PUT_OFF: u8 = 64;

/// A stream whose writes are gathered. The task that writes must flush each time that it is polled, as HTTP/1.1's and HTTP/2's
/// connections do.
#[derive(Debug)]
pub(crate) struct GatheredWrites<S> {
    stream: S,
    /// Holds room only while something is gathered: an idle connection costs none.
    gathered: Vec<u8>,
    /// Bytes of `gathered` that were written already.
    written: usize,
    /// Whether something was gathered since the last flush.
    grew: bool,
    put_off: u8,
    /// Whether the other side has spoken. Until then nothing is put off: it may wait for our first frame with its own, and a
    /// connection that is shaking hands does not flush twice.
    heard: bool,
}

impl<S: AsyncWrite + Unpin> GatheredWrites<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, gathered: Vec::new(), written: 0, grew: false, put_off: 0, heard: false }
    }

    fn poll_write_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.gathered.len() {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered[self.written..]))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote;
        }
        room::give_back(std::mem::take(&mut self.gathered));
        (self.written, self.grew, self.put_off) = (0, false, 0);
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least a byte.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= FULL {
            ready!(self.poll_write_gathered(cx))?;
        }
        if self.gathered.capacity() == 0 {
            self.gathered = room::take();
        }
        Poll::Ready(Ok(FULL - self.gathered.len()))
    }
}

/// Room for what connections of a thread gather, used again by the next that writes.
mod room {
    use std::cell::RefCell;

    use super::FULL;

    /// Kept for the connections that write at the same time.
    const MOST_KEPT: usize = 16;

    thread_local! {
        static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }

    pub fn take() -> Vec<u8> {
        KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(FULL))
    }

    pub fn give_back(mut room: Vec<u8>) {
        room.clear();
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < MOST_KEPT {
                kept.push(room);
            }
        });
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatheredWrites<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.gathered.is_empty() && all >= FULL {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        let room = ready!(self.poll_room(cx))?;
        let mut left = room.min(all);
        let taken = left;
        for slice in slices {
            let part = left.min(slice.len());
            self.gathered.extend_from_slice(&slice[..part]);
            left -= part;
        }
        self.grew |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.heard && self.grew && self.put_off < MOST_PUT_OFF {
            self.grew = false;
            self.put_off += 1;
            // The next turn comes after every task that is ready now.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_write_gathered(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_gathered(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatheredWrites<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.heard |= read.is_ready();
        read
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Notes each write, and takes so many bytes before it blocks.
    #[derive(Default)]
    struct Noting {
        writes: Vec<Vec<u8>>,
        takes: Option<usize>,
        ended: bool,
    }

    impl AsyncWrite for Noting {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let takes = self.takes.unwrap_or(usize::MAX).min(bytes.len());
            if takes == 0 {
                // It takes more when it is asked again.
                self.takes = Some(3);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.takes = self.takes.map(|left| left - takes);
            self.writes.push(bytes[..takes].to_vec());
            Poll::Ready(Ok(takes))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.ended = true;
            Poll::Ready(Ok(()))
        }
    }

    fn heard(stream: Noting) -> GatheredWrites<Noting> {
        GatheredWrites { heard: true, ..GatheredWrites::new(stream) }
    }

    /// One turn of a connection: a frame, if there is one, and a flush.
    async fn turn(stream: &mut GatheredWrites<Noting>, frame: &[u8]) {
        poll_fn(|cx| {
            if !frame.is_empty() {
                assert!(matches!(Pin::new(&mut *stream).poll_write(cx, frame), Poll::Ready(Ok(_))));
            }
            Pin::new(&mut *stream).poll_flush(cx)
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn frames_of_turns_that_follow_each_other_are_one_write_and_a_turn_without_any_sends_them() {
        let mut stream = heard(Noting::default());
        turn(&mut stream, b"one").await;
        turn(&mut stream, b"two").await;
        assert!(stream.stream.writes.is_empty());
        turn(&mut stream, b"").await;
        assert_eq!(stream.stream.writes, [b"onetwo"]);
        assert_eq!(stream.gathered.capacity(), 0, "an idle connection keeps room");
    }

    #[tokio::test]
    async fn nothing_is_put_off_before_the_other_side_has_spoken() {
        let mut stream = GatheredWrites::new(Noting::default());
        turn(&mut stream, b"SETTINGS").await;
        assert_eq!(stream.stream.writes, [b"SETTINGS"]);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = GatheredWrites::new(ours);
        theirs.write_all(b"hello").await.unwrap();
        assert!(!ours.heard);
        ours.read_exact(&mut [0; 5]).await.unwrap();
        assert!(ours.heard);
    }

    #[tokio::test]
    async fn a_connection_that_never_falls_silent_sends_all_the_same() {
        let mut stream = heard(Noting::default());
        for _ in 0..=MOST_PUT_OFF {
            turn(&mut stream, b"more").await;
        }
        assert_eq!(stream.stream.writes.len(), 1);
    }

    #[tokio::test]
    async fn what_is_gathered_is_sent_before_the_end_and_at_most_a_record_of_it_waits() {
        let mut stream = heard(Noting::default());
        turn(&mut stream, &vec![7; FULL - 1]).await;
        stream.write_all(b"last words").await.unwrap();
        assert_eq!(stream.stream.writes.iter().map(Vec::len).collect::<Vec<_>>(), [FULL]);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.stream.writes[1], b"ast words");
        assert!(stream.stream.ended);
    }

    #[tokio::test]
    async fn a_large_write_is_not_gathered() {
        let mut stream = heard(Noting::default());
        stream.write_all(&vec![7; FULL]).await.unwrap();
        assert_eq!(stream.stream.writes.len(), 1);
    }

    #[tokio::test]
    async fn a_stream_that_blocks_loses_nothing() {
        let mut stream = heard(Noting { takes: Some(2), ..Noting::default() });
        turn(&mut stream, b"a frame").await;
        turn(&mut stream, b" and another").await;
        stream.flush().await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.stream.writes.concat(), b"a frame and another");
    }
}
