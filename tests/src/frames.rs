//! HTTP/2 frame by frame, for what no library would send: see RFC 9113 and, for the fields, RFC 7541.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A connection of whatever kind.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for S {}

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    headed(u32::try_from(payload.len()).unwrap(), kind, flags, stream, payload)
}

/// A frame whose head says another length than its payload has.
pub fn headed(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection's beginning: the preface and settings, each an identifier and a value.
pub fn beginning(settings: &[(u16, u32)]) -> Vec<u8> {
    let said = settings.iter().flat_map(|(setting, value)| [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat());
    [PREFACE, &frame(SETTINGS, 0, 0, &said.collect::<Vec<_>>())].concat()
}

/// A field as a literal that is not remembered.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &text(name)[..], &text(value)].concat()
}

/// A field as a literal that is remembered: from then on `0xbe` is it, until another is.
pub fn remembered(name: &str, value: &str) -> Vec<u8> {
    [&[0x40], &text(name)[..], &text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&number(text.len())[..], text.as_bytes()].concat()
}

/// RFC 7541, 5.1, with a prefix of seven bits.
fn number(mut rest: usize) -> Vec<u8> {
    if rest < 127 {
        return vec![u8::try_from(rest).unwrap()];
    }
    let mut bytes = vec![127];
    rest -= 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The fields of a gRPC call of this method, and those besides.
pub fn call(path: &str, besides: &[(&str, &str)]) -> Vec<u8> {
    let first = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    first.iter().chain(besides).flat_map(|(name, value)| field(name, value)).collect()
}

/// What a connection that ended was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// The code of each stream that was reset.
    pub resets: Vec<u32>,
    /// How many streams were answered with a head.
    pub answered: usize,
}

/// Reads until the connection ends, however that is.
pub async fn until_ended(stream: &mut (impl AsyncRead + Unpin)) -> Ended {
    let mut ended = Ended::default();
    while let Some((kind, payload)) = next(stream).await {
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            GOAWAY => ended.goaway = Some(code(4)),
            RST_STREAM => ended.resets.push(code(0)),
            HEADERS => ended.answered += 1,
            _ => {}
        }
    }
    ended
}

/// The next frame: its kind and payload.
pub async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}
