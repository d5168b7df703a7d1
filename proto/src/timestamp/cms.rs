//! The signed data of a token (RFC 5652), its signer, and whether that is an approved authority. Everything that a signature
//! is over is taken as it stands in the token, never written anew.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Reader, SliceReader, Tag, TagNumber};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Version};

use super::answer::{CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2};
use super::{Approved, NotATimestamp, SHA_256, SIGNED_DATA, algorithm, bytes_of, rest, tlv, whole};
use crate::digest::Digest;
use crate::signature::KeyId;
use crate::time::Time;

const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// RFC 2634, with SHA-1: names a certificate that was proved otherwise.
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const EC_KEY: &str = "1.2.840.10045.2.1";
const RSA_KEY: &str = "1.2.840.113549.1.1.1";
const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P_521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// Most certificates in a token, and so of a chain.
const MAX_CERTIFICATES: usize = 6;

const TAGGED_0: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };

/// A SignedData with one signer.
pub struct SignedData<'a> {
    pub content: &'a [u8],
    pub certificates: Vec<&'a [u8]>,
    /// Which certificate, by its issuer and serial number, or by its key's identifier.
    names: &'a [u8],
    digest: ObjectIdentifier,
    /// The contents of the signed attributes, as they stand.
    attributes: &'a [u8],
    signature_algorithm: ObjectIdentifier,
    signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    /// Of a ContentInfo with content of this type.
    pub fn read(bytes: &'a [u8], content_type: ObjectIdentifier) -> Result<Self, NotATimestamp> {
        let signed = whole(bytes, |outer| {
            let oid: ObjectIdentifier = outer.decode()?;
            Ok((oid, bytes_of(outer, TAGGED_0)?))
        })?;
        if signed.0 != SIGNED_DATA {
            return Err(NotATimestamp::Form("not signed data"));
        }
        let (kind, content, certificates, signers) = whole(signed.1, |signed| {
            signed.decode::<u8>()?;
            bytes_of(signed, Tag::Set)?;
            let (kind, content) = signed.sequence(|content| {
                let kind: ObjectIdentifier = content.decode()?;
                Ok((kind, bytes_of(content, TAGGED_0)?))
            })?;
            let mut certificates: &[u8] = &[];
            let mut signers = None;
            while !signed.is_finished() {
                let tag = signed.peek_header()?.tag;
                let value = bytes_of(signed, tag)?;
                match tag {
                    TAGGED_0 => certificates = value,
                    Tag::Set => signers = Some(value),
                    // Revocation lists: who is revoked is said by the configuration alone.
                    _ => {}
                }
            }
            Ok((kind, content, certificates, signers))
        })?;
        if kind != content_type {
            return Err(NotATimestamp::Form("its content is no time"));
        }
        let mut inner = SliceReader::new(content)?;
        let content = inner.decode::<OctetStringRef<'a>>()?.as_bytes();
        inner.finish(())?;
        let certificates = each(certificates)?;
        if certificates.len() > MAX_CERTIFICATES {
            return Err(NotATimestamp::Form("too many certificates"));
        }
        let signers = each(signers.unwrap_or_default())?;
        let [signer] = signers[..] else { return Err(NotATimestamp::Form("one signer is wanted")) };
        let signer = whole(signer, |signer| {
            signer.decode::<u8>()?;
            let names = signer.tlv_bytes()?;
            let digest = algorithm(signer)?;
            let attributes = bytes_of(signer, TAGGED_0)?;
            let signature_algorithm = algorithm(signer)?;
            let signature = signer.decode::<OctetStringRef<'a>>()?.as_bytes();
            // Nobody signed what follows.
            rest(signer)?;
            Ok((names, digest, attributes, signature_algorithm, signature))
        })?;
        let (names, digest, attributes, signature_algorithm, signature) = signer;
        Ok(Self { content, certificates, names, digest, attributes, signature_algorithm, signature })
    }

    /// The certificate that the signed attributes name by its hash and the signer by its name: the same one.
    pub fn signer(&self) -> Result<Signer<'a>, NotATimestamp> {
        let hash = self.named()?;
        let of = |certificate: &&&[u8]| match &hash {
            Named::Sha256(hash) => digest(&SHA256, certificate).as_ref() == *hash,
            Named::Sha1(hash) => digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref() == *hash,
        };
        let der = self.certificates.iter().find(of).ok_or(NotATimestamp::Certificate("it is not in the token"))?;
        let signer = Signer::read(der)?;
        let certificate = &signer.certificate;
        let serial = [certificate.issuer().as_raw(), &super::integer(certificate.raw_serial())].concat();
        let mut key_ids = certificate.extensions().iter().filter_map(|each| match each.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        let by_serial = tlv(Tag::Sequence, &[&serial]) == self.names;
        let short = Tag::ContextSpecific { constructed: false, number: TagNumber::N0 };
        if by_serial || key_ids.any(|id| tlv(short, &[id]) == self.names) {
            Ok(signer)
        } else {
            Err(NotATimestamp::Certificate("the token's signer names another"))
        }
    }

    /// What the attribute of a signing certificate names: the hash of the first one.
    fn named(&self) -> Result<Named<'a>, NotATimestamp> {
        let (value, is_v2) = match (self.attribute(SIGNING_CERTIFICATE_V2)?, self.attribute(SIGNING_CERTIFICATE)?) {
            (Some(value), _) => (value, true),
            (None, Some(value)) => (value, false),
            (None, None) => return Err(NotATimestamp::Certificate("the token does not name it")),
        };
        let (algorithm, hash) = whole(value, |signing| {
            let certificates = bytes_of(signing, Tag::Sequence)?;
            rest(signing)?;
            let mut certificates = SliceReader::new(certificates)?;
            let first = certificates.sequence(|first| {
                let given = is_v2 && first.peek_header()?.tag == Tag::Sequence;
                let algorithm = if given { algorithm(first)? } else { SHA_256 };
                let hash = first.decode::<OctetStringRef<'a>>()?.as_bytes();
                rest(first)?;
                Ok((algorithm, hash))
            })?;
            rest(&mut certificates)?;
            Ok(first)
        })?;
        match (is_v2, algorithm) {
            (false, _) => Ok(Named::Sha1(hash)),
            (true, SHA_256) => Ok(Named::Sha256(hash)),
            (true, _) => Err(NotATimestamp::Certificate("the token names it by a hash that is not SHA-256")),
        }
    }

    /// The one value of a signed attribute that may be there once.
    fn attribute(&self, wanted: ObjectIdentifier) -> Result<Option<&'a [u8]>, NotATimestamp> {
        let mut found = None;
        for attribute in each(self.attributes)? {
            let (oid, values) = whole(attribute, |attribute| {
                let oid: ObjectIdentifier = attribute.decode()?;
                Ok((oid, bytes_of(attribute, Tag::Set)?))
            })?;
            if oid == wanted {
                let values = each(values)?;
                let ([value], None) = (&values[..], found) else {
                    return Err(NotATimestamp::Form("a signed attribute is there twice"));
                };
                found = Some(*value);
            }
        }
        Ok(found)
    }

    /// 16.3.6: the attributes are those of this content, and the signature over them is the signer's.
    pub fn signed_by(&self, signer: &Signer<'_>) -> Result<(), NotATimestamp> {
        let kind =
            self.attribute(CONTENT_TYPE)?.ok_or(NotATimestamp::Signature("it does not sign the content's type"))?;
        if kind != super::oid(super::A_TIME) {
            return Err(NotATimestamp::Signature("it signs another type of content"));
        }
        let signed = self.attribute(MESSAGE_DIGEST)?.ok_or(NotATimestamp::Signature("it signs no digest"))?;
        let hash = match self.digest {
            SHA_256 => &SHA256,
            SHA_384 => &SHA384,
            SHA_512 => &SHA512,
            _ => return Err(NotATimestamp::Signature("its digest is none of SHA-256, SHA-384 and SHA-512")),
        };
        if signed != tlv(Tag::OctetString, &[digest(hash, self.content).as_ref()]) {
            return Err(NotATimestamp::Signature("it is over other content"));
        }
        let key = signer.verifying(self.digest, self.signature_algorithm)?;
        let attributes = tlv(Tag::Set, &[self.attributes]);
        key.verify(&attributes, self.signature)
            .map_err(|_| NotATimestamp::Signature("it is not the certificate's key that made it"))
    }
}

enum Named<'a> {
    Sha256(&'a [u8]),
    Sha1(&'a [u8]),
}

/// Each value of a SET or SEQUENCE, by its contents.
fn each(contents: &[u8]) -> der::Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(contents)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes()?);
    }
    Ok(found)
}

/// The certificate that signed a token.
pub struct Signer<'a> {
    der: &'a [u8],
    certificate: X509Certificate<'a>,
}

impl<'a> Signer<'a> {
    /// Reads a certificate.
    pub fn read(der: &'a [u8]) -> Result<Self, NotATimestamp> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| NotATimestamp::Certificate("it is not X.509 in DER"))?;
        if !rest.is_empty() || certificate.version() != X509Version::V3 || certificate.extensions_map().is_err() {
            return Err(NotATimestamp::Certificate("it is not one X.509 certificate of version 3"));
        }
        Ok(Self { der, certificate })
    }

    /// The name of its key.
    pub fn key(&self) -> KeyId {
        Digest::of(&[self.certificate.public_key().raw])
    }

    /// The last instant of its validity.
    pub fn not_after(&self) -> Time {
        seconds(self.certificate.validity().not_after.timestamp())
    }

    /// 16.3.4: for timestamps and nothing else, critically; good at that time.
    pub fn is_for_timestamps(&self, at: Time) -> Result<(), NotATimestamp> {
        let wrong = |rule| Err(NotATimestamp::Certificate(rule));
        let malformed = |_| NotATimestamp::Certificate("an extension cannot be read");
        let Some(usage) = self.certificate.extended_key_usage().map_err(malformed)? else {
            return wrong("it has no extended key usage");
        };
        let (critical, usage) = (usage.critical, usage.value);
        let others = usage.any || usage.server_auth || usage.client_auth || usage.code_signing;
        let others = others || usage.email_protection || usage.ocsp_signing || !usage.other.is_empty();
        if !usage.time_stamping || others {
            return wrong("its extended key usage must be timeStamping and nothing else");
        }
        if !critical {
            return wrong("its extended key usage must be critical");
        }
        if let Some(usage) = self.certificate.key_usage().map_err(malformed)?
            && !(usage.value.digital_signature() || usage.value.non_repudiation())
        {
            return wrong("its key usage is not to sign");
        }
        if self.certificate.basic_constraints().map_err(malformed)?.is_some_and(|constraints| constraints.value.ca) {
            return wrong("it is an authority's");
        }
        self.has_no_unread_critical_extension()?;
        self.was_good(at)
    }

    fn was_good(&self, at: Time) -> Result<(), NotATimestamp> {
        let validity = self.certificate.validity();
        let (from, until) = (seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp()));
        if from <= at && at <= until { Ok(()) } else { Err(NotATimestamp::Outside(at)) }
    }

    fn has_no_unread_critical_extension(&self) -> Result<(), NotATimestamp> {
        let read = |extension: &ParsedExtension<'_>| {
            matches!(
                extension,
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
            )
        };
        if self.certificate.extensions().iter().any(|each| each.critical && !read(each.parsed_extension())) {
            return Err(NotATimestamp::Certificate("it has a critical extension of an unknown kind"));
        }
        Ok(())
    }

    /// 16.3.5: the approved authority that this one is, or that is at the end of its chain.
    pub fn approved<'c>(
        &self,
        approved: &'c [Approved],
        certificates: &[&'a [u8]],
        at: Time,
    ) -> Result<&'c Approved, NotATimestamp> {
        if let Some(own) = approved.iter().find(|each| each.certificate == self.der) {
            return Ok(own);
        }
        let mut chain = Self::read(self.der)?;
        for _ in 0..MAX_CERTIFICATES {
            for authority in approved {
                if let Ok(issuer) = Signer::read(&authority.certificate)
                    && issuer.issued(&chain, at)
                {
                    return Ok(authority);
                }
            }
            let above = certificates.iter().filter(|der| **der != chain.der).filter_map(|der| Self::read(der).ok());
            let Some(above) = above.into_iter().find(|above| above.issued(&chain, at)) else { break };
            chain = above;
        }
        Err(NotATimestamp::NotApproved)
    }

    /// Whether this authority issued that certificate, being one, and good then.
    fn issued(&self, other: &Signer<'_>, at: Time) -> bool {
        let is_authority = self.certificate.basic_constraints().ok().flatten().is_some_and(|each| each.value.ca)
            && self.certificate.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        is_authority
            && self.has_no_unread_critical_extension().is_ok()
            && self.was_good(at).is_ok()
            && self.certificate.subject().as_raw() == other.certificate.issuer().as_raw()
            && other.certificate.verify_signature(Some(self.certificate.public_key())).is_ok()
    }

    /// Its key, and the one way in which it signs with this digest.
    fn verifying(
        &self,
        digest: ObjectIdentifier,
        signature: ObjectIdentifier,
    ) -> Result<UnparsedPublicKey<&[u8]>, NotATimestamp> {
        let unknown =
            NotATimestamp::Signature("its algorithm is none of ECDSA (P-256, P-384, P-521) and RSA (PKCS #1)");
        let key = self.certificate.public_key();
        let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
        let curve = curve.and_then(|curve| curve.to_id_string().parse::<ObjectIdentifier>().ok());
        let kind = key.algorithm.algorithm.to_id_string();
        let signature = signature.to_string();
        let ecdsa =
            [(SHA_256, "1.2.840.10045.4.3.2"), (SHA_384, "1.2.840.10045.4.3.3"), (SHA_512, "1.2.840.10045.4.3.4")];
        let rsa = [
            (SHA_256, "1.2.840.113549.1.1.11"),
            (SHA_384, "1.2.840.113549.1.1.12"),
            (SHA_512, "1.2.840.113549.1.1.13"),
        ];
        let with_rsa = kind == RSA_KEY
            && (signature == RSA_KEY || rsa.iter().any(|(hash, oid)| *hash == digest && *oid == signature));
        let with_ecdsa = kind == EC_KEY && ecdsa.iter().any(|(hash, oid)| *hash == digest && *oid == signature);
        let way: &'static dyn VerificationAlgorithm = match (with_rsa, with_ecdsa, curve, digest) {
            (true, _, _, SHA_256) => &RSA_PKCS1_2048_8192_SHA256,
            (true, _, _, SHA_384) => &RSA_PKCS1_2048_8192_SHA384,
            (true, _, _, SHA_512) => &RSA_PKCS1_2048_8192_SHA512,
            (_, true, Some(P_256), SHA_256) => &ECDSA_P256_SHA256_ASN1,
            (_, true, Some(P_256), SHA_384) => &ECDSA_P256_SHA384_ASN1,
            (_, true, Some(P_384), SHA_256) => &ECDSA_P384_SHA256_ASN1,
            (_, true, Some(P_384), SHA_384) => &ECDSA_P384_SHA384_ASN1,
            (_, true, Some(P_521), SHA_512) => &ECDSA_P521_SHA512_ASN1,
            _ => return Err(unknown),
        };
        Ok(UnparsedPublicKey::new(way, key.subject_public_key.data.as_ref()))
    }
}

/// Times before 1970 become 1970.
fn seconds(timestamp: i64) -> Time {
    Time::from_millis(u64::try_from(timestamp).unwrap_or(0).saturating_mul(1000))
}
