//! What a timestamping authority answers: the registry's own, and those of tests.

use der::asn1::ObjectIdentifier;
use der::{Encode, Tag, TagNumber};

use super::{A_TIME, Asked, OWN_POLICY, SHA_256, SIGNED_DATA, imprint, integer, oid, sequence, tlv};
use crate::digest::Digest;
use crate::signature::SigningKey;
use crate::time::Time;

pub(crate) const ECDSA_WITH_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
pub(crate) const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
pub(crate) const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
pub(crate) const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// A timestamping authority: its key, and its certificate for it.
pub struct Authority<'a> {
    /// Signs tokens and nothing else.
    pub key: &'a SigningKey,
    /// DER.
    pub certificate: &'a [u8],
}

/// What a token is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// SHA-256 of what is stamped.
    pub imprint: Digest,
    /// DER of the policy's object identifier, without tag and length.
    pub policy: Vec<u8>,
    /// Told apart from every other token's by chance: 16 random bytes.
    pub serial: [u8; 16],
    /// When.
    pub time: Time,
    /// The query's, as it came.
    pub nonce: Option<Vec<u8>>,
}

/// Bytes that are no query, and what is answered to them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a query that is answered: one over SHA-256, without extensions, under this authority's policy or none is wanted"
)]
pub struct NoQuery(pub Vec<u8>);

impl Statement {
    /// What the answer to a query says.
    pub fn answering(query: &[u8], serial: [u8; 16], now: Time) -> Result<Self, NoQuery> {
        let refused = || NoQuery(refusal());
        let asked = Asked::read(query).ok_or_else(refused)?;
        // A verifier has to know whose token it is: none is given without its certificate.
        if asked.policy.is_some_and(|policy| policy != OWN_POLICY) || !asked.certificate {
            return Err(refused());
        }
        let nonce = asked.nonce.map(<[u8]>::to_vec);
        Ok(Self { imprint: asked.imprint, policy: OWN_POLICY.to_vec(), serial, time: now, nonce })
    }

    /// `TSTInfo`. The time is a whole second that is not before the clock's: what is stamped was there before it.
    fn to_der(&self) -> Vec<u8> {
        let second = self.time.as_millis().div_ceil(1000);
        let time = der::asn1::GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(second));
        let time = time.and_then(|time| time.to_der()).expect("a clock before the year 10000");
        let mut serial = self.serial;
        serial[0] = serial[0] & 0x3f | 0x40;
        let nonce = self.nonce.as_ref().map(|nonce| integer(nonce)).unwrap_or_default();
        let policy = tlv(Tag::ObjectIdentifier, &[&self.policy]);
        sequence(&[&integer(&[1]), &policy, &imprint(&self.imprint), &integer(&serial), &time, &nonce])
    }
}

impl Authority<'_> {
    /// A `TimeStampResp` that grants the token of this statement.
    pub fn answer(&self, statement: &Statement) -> Vec<u8> {
        sequence(&[&sequence(&[&integer(&[0])]), &self.token(statement)])
    }

    /// The token: a CMS SignedData over the statement, with the certificate and its digest.
    pub fn token(&self, statement: &Statement) -> Vec<u8> {
        let said = statement.to_der();
        let sha_256 = sequence(&[&oid(SHA_256)]);
        let set = |value: &[u8]| tlv(Tag::Set, &[value]);
        let octets = |digest: Digest| tlv(Tag::OctetString, &[digest.as_bytes()]);
        let mut attributes = [
            sequence(&[&oid(CONTENT_TYPE), &set(&oid(A_TIME))]),
            sequence(&[&oid(MESSAGE_DIGEST), &set(&octets(Digest::of(&[&said])))]),
            sequence(&[&oid(SIGNING_CERTIFICATE_V2), &set(&signing_certificate(self.certificate))]),
        ];
        attributes.sort();
        let attributes = attributes.concat();
        let signature = self.key.sign(&tlv(Tag::Set, &[&attributes]));
        let tagged = |number| Tag::ContextSpecific { constructed: true, number };
        let signer = sequence(&[
            &integer(&[1]),
            &issuer_and_serial(self.certificate),
            &sha_256,
            &tlv(tagged(TagNumber::N0), &[&attributes]),
            &sequence(&[&oid(ECDSA_WITH_SHA_256)]),
            &tlv(Tag::OctetString, &[&signature]),
        ]);
        let content = sequence(&[&oid(A_TIME), &tlv(tagged(TagNumber::N0), &[&tlv(Tag::OctetString, &[&said])])]);
        let signed = sequence(&[
            &integer(&[3]),
            &set(&sha_256),
            &content,
            &tlv(tagged(TagNumber::N0), &[self.certificate]),
            &set(&signer),
        ]);
        sequence(&[&oid(SIGNED_DATA), &tlv(tagged(TagNumber::N0), &[&signed])])
    }
}

/// `TimeStampResp` without a token: rejected, badRequest.
fn refusal() -> Vec<u8> {
    sequence(&[&sequence(&[&integer(&[2]), &tlv(Tag::BitString, &[&[5, 0x20]])])])
}

/// `SigningCertificateV2`, its hash algorithm left out: SHA-256 is the default.
pub(crate) fn signing_certificate(certificate: &[u8]) -> Vec<u8> {
    let hash = tlv(Tag::OctetString, &[Digest::of(&[certificate]).as_bytes()]);
    sequence(&[&sequence(&[&sequence(&[&hash])])])
}

/// How the signer names its certificate.
pub(crate) fn issuer_and_serial(certificate: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    match X509Certificate::from_der(certificate) {
        Ok((_, read)) => sequence(&[read.issuer().as_raw(), &integer(read.raw_serial())]),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
pub(super) fn refused_for_tests() -> Vec<u8> {
    refusal()
}
