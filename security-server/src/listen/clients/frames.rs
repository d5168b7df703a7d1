//! gRPC's messages in a body, one after the other, however the body is cut.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;

/// What stands before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// A body, read message by message.
pub(super) struct Frames<B> {
    body: B,
    read: BytesMut,
    /// Longest message.
    most: usize,
}

/// What comes next.
pub(super) enum Next {
    /// A message.
    Message(Bytes),
    /// The body's end, with its trailers where it has some.
    End(Option<HeaderMap>),
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// A message is compressed, which was not asked for.
    Compressed,
    /// A message is too long.
    TooLong,
    /// The body ends within a message.
    Cut,
    /// The body was broken off.
    BrokenOff,
}

impl<B: Body<Data = Bytes> + Unpin> Frames<B> {
    /// Of this body, with messages of at most so many bytes.
    pub(super) fn of(body: B, most: usize) -> Self {
        Self { body, read: BytesMut::new(), most }
    }

    /// The next message, or the end.
    pub(super) async fn next(&mut self) -> Result<Next, Unread> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(Next::Message(message));
            }
            let ended =
                |read: &BytesMut, trailers| if read.is_empty() { Ok(Next::End(trailers)) } else { Err(Unread::Cut) };
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.read.extend_from_slice(&data),
                    Err(frame) => return ended(&self.read, frame.into_trailers().ok()),
                },
                Some(Err(_)) => return Err(Unread::BrokenOff),
                None => return ended(&self.read, None),
            }
        }
    }

    fn message(&mut self) -> Result<Option<Bytes>, Unread> {
        let Some(head) = self.read.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 {
            return Err(Unread::Compressed);
        }
        if length > self.most {
            return Err(Unread::TooLong);
        }
        if self.read.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.read.advance(HEAD_BYTES);
        Ok(Some(self.read.split_to(length).freeze()))
    }
}

/// A message as it stands in a body.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("no message here is near 4 GiB: each kind has its limit"));
    frame.put_slice(message);
    frame.freeze()
}
