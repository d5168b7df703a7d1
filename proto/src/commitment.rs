//! Salted commitments (PROTOCOL.md 3.4): evidence verifies without the bytes, and nobody guesses them from the digest.

use aws_lc_rs::hmac;
use zeroize::ZeroizeOnDrop;

use crate::digest::Digest;

/// What is committed to; its number is the flags byte that is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A run of the body's bytes.
    Piece = 0,
    /// The header fields at the start of a direction.
    Metadata = 1,
    /// The header fields at the end of an answer.
    Trailers = 2,
}

/// The key of one direction's salts: 32 random bytes, sent beside its first message, erased with the payload.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From 32 bytes that the caller drew at random or received.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for the payload that travels beside the header.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Makes the commitments of one direction, in order: what is committed to gets the numbers 0, 1, 2 and so on.
#[derive(Debug)]
pub struct Committer {
    key: hmac::Key,
    next: u64,
}

impl Committer {
    /// At the start of a direction.
    pub fn new(secret: &Secret) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), next: 0 }
    }

    /// SHA-256("causeway/v1/piece\n" || salt || flags || length || bytes), salt HMAC-SHA-256(secret, number),
    /// flags one byte, length and number eight bytes, big-endian.
    pub fn commit(&mut self, kind: Kind, bytes: &[u8]) -> Digest {
        let salt = hmac::sign(&self.key, &self.next.to_be_bytes());
        self.next += 1;
        let length = bytes.len() as u64;
        Digest::of(&[b"causeway/v1/piece\n", salt.as_ref(), &[kind as u8], &length.to_be_bytes(), bytes])
    }
}

/// To the fields that were removed from an answer (PROTOCOL.md 3.6): SHA-256("causeway/v1/removed\n" || salt || bytes). The
/// salt is 32 random bytes of its own, which stay with the provider.
pub fn removed(salt: &[u8; 32], bytes: &[u8]) -> Digest {
    Digest::of(&[b"causeway/v1/removed\n", salt, bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_never_committed_to_alike() {
        let mut one = Committer::new(&Secret::from_bytes([1; 32]));
        let mut other = Committer::new(&Secret::from_bytes([2; 32]));
        let first = one.commit(Kind::Piece, b"123456789");
        assert_ne!(first, one.commit(Kind::Piece, b"123456789"), "another number");
        assert_ne!(first, other.commit(Kind::Piece, b"123456789"), "another secret");
        let mut again = Committer::new(&Secret::from_bytes([1; 32]));
        assert_ne!(first, again.commit(Kind::Trailers, b"123456789"), "another kind");
    }
}
