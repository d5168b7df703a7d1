//! gRPC's messages in a body, or lines of text, one after the other, however the body is cut.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;

/// What stands before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// A body, read message by message.
pub(crate) struct Frames<B> {
    body: B,
    read: BytesMut,
    /// Longest message.
    most: usize,
}

/// What comes next.
pub(crate) enum Next {
    /// A message.
    Message(Bytes),
    /// The body's end, with its trailers where it has some.
    End(Option<HeaderMap>),
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
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
    pub(crate) fn of(body: B, most: usize) -> Self {
        Self { body, read: BytesMut::new(), most }
    }

    /// The next message, or the end.
    pub(crate) async fn next(&mut self) -> Result<Next, Unread> {
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

/// A body, read line by line. Lines of nothing but spaces are left out, and counted.
pub(crate) struct Lines<B> {
    body: B,
    read: BytesMut,
    looked: usize,
    number: usize,
    ended: bool,
    /// Longest line.
    most: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Lines<B> {
    /// Of this body, with lines of at most so many bytes.
    pub(crate) fn of(body: B, most: usize) -> Self {
        Self { body, read: BytesMut::new(), looked: 0, number: 0, ended: false, most }
    }

    /// The next line with its number, from 1; none at the body's end.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, Bytes)>, Unread> {
        loop {
            // What was looked through is not looked through again, however small the parts are that come.
            let end = self.read[self.looked..].iter().position(|byte| *byte == b'\n').map(|end| self.looked + end);
            self.looked = if end.is_some() { 0 } else { self.read.len() };
            if end.unwrap_or(self.read.len()) > self.most {
                return Err(Unread::TooLong);
            }
            let text = match end {
                Some(end) => self.read.split_to(end + 1).freeze(),
                None if !self.ended => {
                    match self.body.frame().await {
                        Some(Ok(frame)) => self.read.extend_from_slice(&frame.into_data().unwrap_or_default()),
                        Some(Err(_)) => return Err(Unread::BrokenOff),
                        None => self.ended = true,
                    }
                    continue;
                }
                None if self.read.is_empty() => return Ok(None),
                None => {
                    self.looked = 0;
                    self.read.split().freeze()
                }
            };
            self.number += 1;
            if !text.trim_ascii().is_empty() {
                return Ok(Some((self.number, text)));
            }
        }
    }
}

/// A message as it stands in a body.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("no message here is near 4 GiB: each kind has its limit"));
    frame.put_slice(message);
    frame.freeze()
}
