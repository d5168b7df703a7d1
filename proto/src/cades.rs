//! CAdES at its baseline level B-B (ETSI EN 319 122-1): CMS signed data over bytes that stand elsewhere, in the one form that
//! PROTOCOL.md 7.23 gives it. It is read only to be made again and compared: no reader of ours follows what somebody put in it.

use std::time::Duration;

use der::asn1::{GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};

use crate::certificate::{Authority, MAX_CERTIFICATE_BYTES};
use crate::digest::Digest;
use crate::seal::MAX_SIGNATURE_BYTES;
use crate::signature::{BadSignature, PublicKey, SigningKey, purpose};
use crate::time::Time;
use crate::timestamp::{
    CONTENT_TYPE, ECDSA_WITH_SHA_256, MESSAGE_DIGEST, SHA_256, SIGNED_DATA, SIGNING_CERTIFICATE_V2, algorithm,
    bytes_of, integer, issuer_and_serial, oid, sequence, signing_certificate, tlv, whole,
};

/// Longest signature file, in bytes: two certificates, and what is around them.
pub const MAX_BYTES: usize = 2 * MAX_CERTIFICATE_BYTES + 1024;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const SIGNING_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");
const TAGGED_0: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };

/// What a signature of this kind is over, and what stands around it. It signs the DER of these attributes and nothing else:
/// they begin with [`purpose::ATTRIBUTES_TAG`], and so are never what a member's key signs otherwise (PROTOCOL.md 4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedAttributes {
    /// The contents of the SET, in the order of DER.
    attributes: Vec<u8>,
    certificate: Vec<u8>,
    /// The contents of the SET of certificates, in the order of DER.
    certificates: Vec<u8>,
}

/// What a signature file says of itself, unproven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// The certificate that the signed attributes name by its hash.
    pub certificate: Vec<u8>,
    /// When it was signed, by the clock of who signed.
    pub at: Time,
    /// The signature.
    pub signature: Vec<u8>,
}

impl SignedAttributes {
    /// Over this content, by the key of this certificate at that time, a whole second. The one authority that issued the
    /// certificate goes with it, where one of these did. None: a certificate that is none, or a time that DER cannot say.
    pub fn over(content: &[u8], certificate: &[u8], authorities: &[Vec<u8>], at: Time) -> Option<Self> {
        let names = issuer_and_serial(certificate);
        if names.is_empty() {
            return None;
        }
        let digest = tlv(Tag::OctetString, &[Digest::of(&[content]).as_bytes()]);
        let attributes = [
            attribute(CONTENT_TYPE, &oid(DATA)),
            attribute(SIGNING_TIME, &time(at)?),
            attribute(MESSAGE_DIGEST, &digest),
            attribute(SIGNING_CERTIFICATE_V2, &signing_certificate(certificate)),
        ];
        let issued =
            |der: &&Vec<u8>| Authority::parse(der).is_ok_and(|authority| authority.issued(certificate).is_ok());
        let issuer = authorities.iter().find(issued).filter(|issuer| issuer[..] != *certificate);
        let certificates = [certificate].into_iter().chain(issuer.map(|issuer| &issuer[..]));
        Some(Self {
            attributes: set_of(attributes),
            certificate: certificate.to_vec(),
            certificates: set_of(certificates),
        })
    }

    /// What is signed.
    fn to_der(&self) -> Vec<u8> {
        let signed = tlv(Tag::Set, &[&self.attributes]);
        debug_assert_eq!(signed[0], purpose::ATTRIBUTES_TAG);
        signed
    }

    /// Signs them: the whole CMS.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        self.with(&key.sign(&self.to_der()))
    }

    /// Checks that the key of the certificate made this signature.
    pub fn verify(&self, key: &PublicKey, signature: &[u8]) -> Result<(), BadSignature> {
        key.verify(&self.to_der(), signature)
    }

    /// The CMS with this signature: `ContentInfo` of `SignedData`, without the content.
    pub fn with(&self, signature: &[u8]) -> Vec<u8> {
        let sha_256 = sequence(&[&oid(SHA_256)]);
        let signer = sequence(&[
            &integer(&[1]),
            &issuer_and_serial(&self.certificate),
            &sha_256,
            &tlv(TAGGED_0, &[&self.attributes]),
            &sequence(&[&oid(ECDSA_WITH_SHA_256)]),
            &tlv(Tag::OctetString, &[signature]),
        ]);
        let signed = sequence(&[
            &integer(&[1]),
            &tlv(Tag::Set, &[&sha_256]),
            &sequence(&[&oid(DATA)]),
            &tlv(TAGGED_0, &[&self.certificates]),
            &tlv(Tag::Set, &[&signer]),
        ]);
        sequence(&[&oid(SIGNED_DATA), &tlv(TAGGED_0, &[&signed])])
    }
}

impl Claimed {
    /// Reads what a signature file says. None: it does not even look like one of the form.
    pub fn read(cms: &[u8]) -> Option<Self> {
        if cms.len() > MAX_BYTES {
            return None;
        }
        let signed = whole(cms, |outer| {
            outer.decode::<ObjectIdentifier>()?;
            bytes_of(outer, TAGGED_0)
        });
        let (certificates, signer) = whole(signed.ok()?, |signed| {
            signed.decode::<u8>()?;
            bytes_of(signed, Tag::Set)?;
            bytes_of(signed, Tag::Sequence)?;
            Ok((bytes_of(signed, TAGGED_0)?, bytes_of(signed, Tag::Set)?))
        })
        .ok()?;
        let (attributes, signature) = whole(signer, |signer| {
            signer.decode::<u8>()?;
            bytes_of(signer, Tag::Sequence)?;
            algorithm(signer)?;
            let attributes = bytes_of(signer, TAGGED_0)?;
            algorithm(signer)?;
            Ok((attributes, signer.decode::<OctetStringRef<'_>>()?.as_bytes()))
        })
        .ok()?;
        let mut attributes = SliceReader::new(attributes).ok()?;
        let (mut at, mut named) = (None, None);
        while !attributes.is_finished() {
            let (kind, value) = attributes
                .sequence(|attribute| {
                    let kind: ObjectIdentifier = attribute.decode()?;
                    Ok((kind, bytes_of(attribute, Tag::Set)?))
                })
                .ok()?;
            match kind {
                SIGNING_TIME => at = read_time(value),
                SIGNING_CERTIFICATE_V2 => named = Some(value),
                _ => {}
            }
        }
        let mut certificates = SliceReader::new(certificates).ok()?;
        let mut certificate = None;
        while !certificates.is_finished() {
            let each = certificates.tlv_bytes().ok()?;
            if named.is_some_and(|named| named == signing_certificate(each)) {
                certificate = Some(each.to_vec());
            }
        }
        let signature = Some(signature.to_vec()).filter(|signature| signature.len() <= MAX_SIGNATURE_BYTES)?;
        Some(Self { certificate: certificate?, at: at?, signature })
    }
}

fn attribute(kind: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(kind), &tlv(Tag::Set, &[value])])
}

/// The contents of a SET OF in DER: in the order of the bytes.
fn set_of(values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut values: Vec<Vec<u8>> = values.into_iter().map(|value| value.as_ref().to_vec()).collect();
    values.sort();
    values.concat()
}

/// UTCTime up to 2049, GeneralizedTime from then on (RFC 5652 11.3).
fn time(at: Time) -> Option<Vec<u8>> {
    let since = Duration::from_secs(at.as_millis() / 1000);
    let short = UtcTime::from_unix_duration(since).and_then(|time| time.to_der());
    short.or_else(|_| GeneralizedTime::from_unix_duration(since)?.to_der()).ok()
}

fn read_time(der: &[u8]) -> Option<Time> {
    let any = der::asn1::AnyRef::from_der(der).ok()?;
    let since = match any.tag() {
        Tag::UtcTime => UtcTime::from_der(der).ok()?.to_unix_duration(),
        _ => GeneralizedTime::from_der(der).ok()?.to_unix_duration(),
    };
    Some(Time::from_millis(u64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

    use super::*;

    const AT: Time = Time::from_millis(1_800_000_000_000);

    struct Held {
        key: SigningKey,
        certificate: Vec<u8>,
        authority: Vec<u8>,
    }

    fn held() -> Held {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(vec![]).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = authority.self_signed(&authority_key).unwrap().der().to_vec();
        let mut leaf = CertificateParams::new(vec![]).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, "moj");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap().der().to_vec();
        Held { key: SigningKey::from_pkcs8(&key.serialize_der()).unwrap(), certificate, authority: issuer }
    }

    #[test]
    fn what_is_signed_is_read_and_made_again() {
        let held = held();
        for (authorities, at) in [
            (vec![], AT),
            (vec![held.authority.clone()], AT),
            // Another authority of the same instance is left out.
            (vec![self::held().authority, held.authority.clone()], AT),
            (vec![], Time::from_millis(2_524_607_999_000)),
            (vec![], Time::from_millis(2_524_608_000_000)),
        ] {
            let made = SignedAttributes::over(b"a manifest", &held.certificate, &authorities, at).unwrap();
            let cms = made.sign(&held.key);
            assert!(cms.len() <= MAX_BYTES);
            let Claimed { certificate, at: said, signature } = Claimed::read(&cms).unwrap();
            assert_eq!((&certificate, said), (&held.certificate, at));
            let again = SignedAttributes::over(b"a manifest", &certificate, &authorities, said).unwrap();
            assert_eq!(again.with(&signature), cms);
            assert_eq!(again.verify(held.key.public(), &signature), Ok(()));
            let other = SignedAttributes::over(b"a manifesto", &certificate, &authorities, said).unwrap();
            assert_ne!(other.with(&signature), cms);
            assert!(other.verify(held.key.public(), &signature).is_err());
            assert!(again.verify(self::held().key.public(), &signature).is_err());
        }
        assert!(SignedAttributes::over(b"", b"no certificate", &[], AT).is_none());
        assert!(SignedAttributes::over(b"", &held.certificate, &[], Time::from_millis(u64::MAX)).is_none());
    }

    #[test]
    fn a_signature_file_has_so_many_bytes_and_no_more() {
        let key = KeyPair::generate().unwrap();
        // A certificate's own signature has 70 to 72 bytes, as chance has it: so long until the length is the wanted one.
        let of_length = |wanted: usize| {
            let mut filling = wanted - 700;
            loop {
                let mut params = CertificateParams::new(vec![]).unwrap();
                params.custom_extensions =
                    vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![7; filling])];
                let certificate = params.self_signed(&key).unwrap().der().to_vec();
                let cms = SignedAttributes::over(b"", &certificate, &[], AT).unwrap().with(&[0x55; 70]);
                if cms.len() == wanted {
                    return cms;
                }
                filling = (filling + wanted).saturating_sub(cms.len());
            }
        };
        assert!(Claimed::read(&of_length(MAX_BYTES)).is_some());
        assert!(Claimed::read(&of_length(MAX_BYTES + 1)).is_none());
    }

    #[test]
    fn what_is_signed_begins_like_nothing_else_that_a_members_key_signs() {
        let held = held();
        let made = SignedAttributes::over(b"causeway/v1/grant\n", &held.certificate, &[], AT).unwrap();
        assert_eq!(made.to_der()[0], purpose::ATTRIBUTES_TAG);
        for line in [
            purpose::HEAD_ORIGIN,
            purpose::JOIN,
            purpose::COMMAND,
            purpose::SERVER,
            purpose::GRANT,
            purpose::GRANT_END,
            purpose::ACCESS_REQUEST,
            purpose::ACCESS_DECISION,
            purpose::ACCESS_ACCEPTANCE,
            purpose::GRANTS_REPORT,
            purpose::CATALOGUE,
        ] {
            assert_ne!(line.as_bytes()[0], purpose::ATTRIBUTES_TAG, "{line}");
        }
    }

    #[test]
    fn a_byte_changed_anywhere_makes_it_another_file_or_breaks_the_signature() {
        let held = held();
        let authorities = [held.authority.clone()];
        let cms = SignedAttributes::over(b"a manifest", &held.certificate, &authorities, AT).unwrap().sign(&held.key);
        for at in 0..cms.len() {
            let mut changed = cms.clone();
            changed[at] ^= 1;
            let Some(Claimed { certificate, at: said, signature }) = Claimed::read(&changed) else { continue };
            let again = SignedAttributes::over(b"a manifest", &certificate, &authorities, said);
            let taken = again.is_some_and(|again| {
                again.with(&signature) == changed && again.verify(held.key.public(), &signature).is_ok()
            });
            // Of the certificate itself the configuration says which it is.
            assert!(!taken || certificate != held.certificate, "byte {at}");
        }
        for cut in 0..cms.len() {
            assert!(Claimed::read(&cms[..cut]).is_none());
        }
        assert!(Claimed::read(&[&cms[..], b"x"].concat()).is_none());
        let signature = [0x55; MAX_SIGNATURE_BYTES + 1];
        let made = SignedAttributes::over(b"a manifest", &held.certificate, &authorities, AT).unwrap();
        assert!(Claimed::read(&made.with(&signature)).is_none());
        assert!(Claimed::read(&made.with(&signature[1..])).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Claimed::read(&bytes).is_none());
        }
    }
}
