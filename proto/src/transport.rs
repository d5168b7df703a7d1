//! Framing between servers, and every limit of the wire by name (PROTOCOL.md 6.1 and 9).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::wire::relay::Frame;

/// Longest header, in bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Most encoded metadata or trailers, in bytes.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Most fields in metadata or trailers.
pub const MAX_FIELDS: usize = 100;
/// Longest text in an opening (purpose, legal basis, subject, represented party), in bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// Longest piece, in bytes.
pub const MAX_PIECE_BYTES: usize = 64 * 1024;
/// Most pieces in a message.
pub const MAX_PIECES: usize = 64;
/// Most bytes in the pieces of one message.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// Longest frame: the payload with everything beside it.
pub const MAX_FRAME_BYTES: usize = MAX_PAYLOAD_BYTES + MAX_HEADER_BYTES + 2 * MAX_METADATA_BYTES + 16 * 1024;
const _: () = assert!(MAX_FRAME_BYTES == 327_680, "PROTOCOL.md 6.1 and 9");
/// An opening's time may differ from the receiver's clock by so much.
pub const MAX_SKEW: std::time::Duration = std::time::Duration::from_secs(60);

/// Where security servers exchange messages.
pub const EXCHANGE_PATH: &str = "/causeway.relay.v1.Relay/Exchange";
/// Where a sealed answer is fetched again.
pub const FETCH_PATH: &str = "/causeway.relay.v1.Relay/Fetch";

/// Where a peer is asked how its log goes on from a head of it.
pub const CONSISTENCY_PATH: &str = "/causeway.relay.v1.Relay/Consistency";
/// Longest answer to that, in bytes.
pub const MAX_JOINED_BYTES: usize = 300 * 1024;
/// Longest request for it, in bytes.
pub const MAX_SIGNED_HEAD_BYTES: usize = 512;

/// Where a provider is asked for a grant, and what became of the request.
pub const ACCESS_PATH: &str = "/causeway.relay.v1.Relay/Access";
/// Where the servers of one member keep each other's grants.
pub const GRANTS_PATH: &str = "/causeway.relay.v1.Relay/Grants";
/// Where a provider is asked which methods a consumer may ask for.
pub const ALLOWED_PATH: &str = "/causeway.relay.v1.Relay/Allowed";
/// Longest question or answer there, in bytes.
pub const MAX_ALLOWED_BYTES: usize = 1024 * 1024;
/// Longest question or answer of [`GRANTS_PATH`], in bytes.
pub const MAX_GRANTS_BYTES: usize = 2 * 1024 * 1024;

/// Where a peer is asked for the checkpoints that it took.
pub const CHECKPOINTS_PATH: &str = "/causeway.relay.v1.Relay/Checkpoints";
/// Longest question there, in bytes.
pub const MAX_CHECKPOINTS_ASKED_BYTES: usize = 64;
/// Longest answer there, in bytes.
pub const MAX_CHECKPOINTS_BYTES: usize = 256 * 1024;
/// Most checkpoints in an answer.
pub const MAX_CHECKPOINTS: usize = 17;

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAFrame {
    /// The gRPC prefix announces compression, which frames do not use.
    #[error("a frame is not compressed")]
    Compressed,
    /// The gRPC prefix announces more than a frame may hold.
    #[error("a frame of {0} bytes is beyond the limit of {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// The protobuf does not decode.
    #[error("not a protobuf Frame: {0}")]
    Undecodable(String),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Cut,
}

/// A frame as it goes onto the stream: the gRPC prefix and the protobuf.
pub fn encode(frame: &Frame) -> Bytes {
    encode_alone(frame)
}

/// A message that stands alone in its stream: the gRPC prefix and the protobuf.
pub fn encode_alone(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a message is bounded far below"));
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// Reads the one message of a stream from all of its bytes.
pub fn decode_alone<M: Message + Default>(mut bytes: Bytes) -> Result<M, NotAFrame> {
    if bytes.len() < 5 {
        return Err(NotAFrame::Cut);
    }
    if bytes.get_u8() != 0 {
        return Err(NotAFrame::Compressed);
    }
    match bytes.get_u32() as usize {
        length if length > bytes.len() => Err(NotAFrame::Cut),
        length if length < bytes.len() => Err(NotAFrame::TooLong(bytes.len())),
        _ => M::decode(bytes).map_err(|error| NotAFrame::Undecodable(error.to_string())),
    }
}

/// Cuts frames out of a stream's bytes. Holds at most one frame and what arrived with its end.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// What arrived last, while nothing before it is held: a frame that is whole is not copied.
    arrived: Bytes,
    held: BytesMut,
}

impl FrameReader {
    /// Takes bytes as they arrive.
    pub fn take(&mut self, bytes: Bytes) {
        if self.held.is_empty() && self.arrived.is_empty() {
            self.arrived = bytes;
        } else {
            self.hold();
            self.held.extend_from_slice(&bytes);
        }
    }

    fn hold(&mut self) {
        self.held.extend_from_slice(&std::mem::take(&mut self.arrived));
    }

    /// The next whole frame, if it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, NotAFrame> {
        let frame = match frame_length(&self.arrived)? {
            Some(length) => {
                self.arrived.advance(PREFIX_BYTES);
                self.arrived.split_to(length)
            }
            None => {
                self.hold();
                let Some(length) = frame_length(&self.held)? else { return Ok(None) };
                self.held.advance(PREFIX_BYTES);
                self.held.split_to(length).freeze()
            }
        };
        Frame::decode(frame).map(Some).map_err(|error| NotAFrame::Undecodable(error.to_string()))
    }

    /// At the stream's end: nothing may be left.
    pub fn finish(&self) -> Result<(), NotAFrame> {
        if self.held.is_empty() && self.arrived.is_empty() { Ok(()) } else { Err(NotAFrame::Cut) }
    }
}

/// The gRPC prefix: a flag for compression and the length.
const PREFIX_BYTES: usize = 5;

/// The length of the frame that these bytes begin with, if it is whole.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>, NotAFrame> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 {
        return Err(NotAFrame::Compressed);
    }
    if length > MAX_FRAME_BYTES {
        return Err(NotAFrame::TooLong(length));
    }
    Ok((bytes.len() >= PREFIX_BYTES + length).then_some(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_cut_at_any_place() {
        let frame = Frame { exchange: vec![1; 16].into(), header: vec![2; 300].into(), ..Default::default() };
        let bytes = [encode(&frame), encode(&Frame::default()), encode(&frame)].concat();
        for step in 1..bytes.len() {
            let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
            for chunk in bytes.chunks(step) {
                reader.take(Bytes::copy_from_slice(chunk));
                while let Some(frame) = reader.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [frame.clone(), Frame::default(), frame.clone()]);
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_at_its_prefix() {
        let mut reader = FrameReader::default();
        reader.take(Bytes::from_static(&[0]));
        reader.take(Bytes::copy_from_slice(&(MAX_FRAME_BYTES as u32 + 1).to_be_bytes()));
        assert_eq!(reader.next_frame(), Err(NotAFrame::TooLong(MAX_FRAME_BYTES + 1)));
        let mut reader = FrameReader::default();
        reader.take(Bytes::from_static(&[0]));
        reader.take(Bytes::copy_from_slice(&(MAX_FRAME_BYTES as u32).to_be_bytes()));
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(reader.finish(), Err(NotAFrame::Cut));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_frame_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::default();
            reader.take(bytes.into());
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
