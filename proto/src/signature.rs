//! ECDSA P-256 with SHA-256, the one algorithm of every seal: what openssl in a court can check.
//!
//! Nothing is compared or keyed by signature bytes: ECDSA is malleable.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

use crate::digest::Digest;

/// The first line of what a member's or an admin's key signs (PROTOCOL.md 4). A head begins with its origin instead.
pub mod purpose {
    /// A message log's head: the checkpoint's origin, before the tree's name.
    pub const HEAD_ORIGIN: &str = "causeway.v1/";
    /// A checkpoint of the ledger of the global configuration: its origin, before the ledger's name. The keys of the root's role
    /// `timestamp` sign it, and nothing else that begins so.
    pub const LEDGER_ORIGIN: &str = "causeway.ledger.v1/";
    /// A request to join: proof of possession of the keys in it.
    pub const JOIN: &str = "causeway/v1/join\n";
    /// An admin's decision at the registry.
    pub const COMMAND: &str = "causeway/v1/command\n";
    /// What a registered server asks of the registry for itself.
    pub const SERVER: &str = "causeway/v1/server\n";
    /// An access right that a provider grants or ends.
    pub const GRANT: &str = "causeway/v1/grant\n";
    /// What a consumer asks a provider to be granted.
    pub const ACCESS_REQUEST: &str = "causeway/v1/access-request\n";
    /// What the provider decided about it.
    pub const ACCESS_DECISION: &str = "causeway/v1/access-decision\n";
    /// The consumer's word that it takes a grant.
    pub const ACCESS_ACCEPTANCE: &str = "causeway/v1/access-acceptance\n";
    /// That a grant ended before its time.
    pub const GRANT_END: &str = "causeway/v1/grant-end\n";
    /// What a provider's server tells of its grants, for oversight (PROTOCOL.md 20).
    pub const GRANTS_REPORT: &str = "causeway/v1/grants-report\n";
    /// A member's own entry in the catalogue.
    pub const CATALOGUE: &str = "causeway/v1/catalogue\n";
    /// The signed attributes of a container's CMS (PROTOCOL.md 7.23) begin with no line: with the tag of a SET in DER, which is no
    /// letter that a line begins with.
    pub const ATTRIBUTES_TAG: u8 = 0x31;
}

/// SubjectPublicKeyInfo of an uncompressed P-256 point, before the point (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// SHA-256 of a key's SubjectPublicKeyInfo: how a key is named everywhere.
pub type KeyId = Digest;

/// A P-256 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: [u8; POINT_BYTES],
    id: KeyId,
}

/// Not a P-256 key in the one form that we take.
#[derive(Debug, thiserror::Error)]
#[error("not a P-256 public key: an uncompressed point in a 91-byte SubjectPublicKeyInfo is wanted")]
pub struct NotAKey;

/// The signature does not hold for these bytes and this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

impl PublicKey {
    /// From a DER SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> Result<Self, NotAKey> {
        let point = der.strip_prefix(&SPKI_PREFIX[..]).ok_or(NotAKey)?;
        Self::from_point(point)
    }

    fn from_point(point: &[u8]) -> Result<Self, NotAKey> {
        let point: [u8; POINT_BYTES] = point.try_into().map_err(|_| NotAKey)?;
        if point[0] != 4 {
            return Err(NotAKey);
        }
        Ok(Self { id: Digest::of(&[&SPKI_PREFIX, &point]), point })
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.point].concat()
    }

    /// The uncompressed point.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// The key's name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Checks a DER signature over `signed`.
    pub fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(signed, signature).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

/// A P-256 private key in memory.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

impl SigningKey {
    /// From the DER of an unencrypted PKCS#8 document (RFC 5958).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NotAKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(|_| NotAKey)?;
        let public = PublicKey::from_point(pair.public_key().as_ref())?;
        Ok(Self { pair, public, random: SystemRandom::new() })
    }

    /// A new key, and its PKCS#8 document for keeping.
    pub fn generate() -> (Self, Vec<u8>) {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .expect("the system's random source works, or nothing does");
        let key = Self::from_pkcs8(pkcs8.as_ref()).expect("it was just made");
        (key, pkcs8.as_ref().to_vec())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A DER signature over `signed`, which begins with one of the lines in [`purpose`], or with the tag there.
    pub fn sign(&self, signed: &[u8]) -> Vec<u8> {
        self.pair
            .sign(&self.random, signed)
            .expect("signing with a valid key and a working random source")
            .as_ref()
            .to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_only() {
        let (key, pkcs8) = SigningKey::generate();
        let (other, _) = SigningKey::generate();
        let signature = key.sign(b"causeway/v1/join\nx");
        let public = PublicKey::from_spki(&key.public().to_spki()).unwrap();
        assert_eq!(public, *SigningKey::from_pkcs8(&pkcs8).unwrap().public());
        assert_eq!(public.verify(b"causeway/v1/join\nx", &signature), Ok(()));
        assert!(public.verify(b"causeway/v1/join\ny", &signature).is_err());
        assert!(other.public().verify(b"causeway/v1/join\nx", &signature).is_err());
        assert!(public.verify(b"causeway/v1/join\nx", &[]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            point in proptest::collection::vec(any::<u8>(), POINT_BYTES - 1),
        ) {
            prop_assert!(PublicKey::from_spki(&bytes).is_err());
            prop_assert!(SigningKey::from_pkcs8(&bytes).is_err());
            // A point that is almost surely on no curve: it may be taken for a key, and no signature holds for it.
            let spki = [&SPKI_PREFIX[..], &[4], &point].concat();
            if let Ok(key) = PublicKey::from_spki(&spki) {
                prop_assert!(key.verify(b"signed", &bytes).is_err());
            }
        }
    }
}
