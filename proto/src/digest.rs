//! SHA-256 digests, and the lines that keep one use of the hash from another.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256 digest. Shown in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The bytes given are not 32 long.
#[derive(Debug, thiserror::Error)]
#[error("a digest is 32 bytes long, this one is {0}")]
pub struct NotADigest(pub usize);

impl Digest {
    /// 32 zero bytes, where PROTOCOL.md says that nothing came before.
    pub const ZERO: Digest = Digest([0; 32]);

    /// SHA-256 of the parts, one after another.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hashing = Context::new(&SHA256);
        for part in parts {
            hashing.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hashing.finish().as_ref());
        Self(bytes)
    }

    /// These very bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A copy for a wire message.
    pub fn to_wire(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0)
    }
}

/// Each of them, in one buffer: however often a path is cloned and encoded, it is allocated once.
pub fn all_to_wire(digests: &[Digest]) -> Vec<bytes::Bytes> {
    let all: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
    let (all, length) = (bytes::Bytes::from(all), size_of::<Digest>());
    (0..digests.len()).map(|at| all.slice(at * length..(at + 1) * length)).collect()
}

impl TryFrom<&[u8]> for Digest {
    type Error = NotADigest;
    fn try_from(bytes: &[u8]) -> Result<Self, NotADigest> {
        bytes.try_into().map(Digest).map_err(|_| NotADigest(bytes.len()))
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotADigest(text.len() / 2))?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotADigest(text.len() / 2));
        }
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
