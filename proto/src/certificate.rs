//! What the certificates of an instance look like (PROTOCOL.md 10), and reading them. A certificate that differs from
//! its profile in anything that could give it another power is refused, whoever signed it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, KeyUsage, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Version};
use x509_parser::time::ASN1Time;

use crate::digest::Digest;
use crate::identifier::{MemberId, NotAnIdentifier, ServerId};
use crate::signature::PublicKey;
use crate::time::Time;

/// Longest certificate that is read, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 4096;
/// How a certificate names its server: a URI among its alternative names.
pub const SERVER_URI: &str = "causeway:server:";
/// How a signing certificate names its member.
pub const MEMBER_URI: &str = "causeway:member:";
/// The domain of the names that TLS asks for. It is in no public DNS and never will be (RFC 6761).
const DNS_SUFFIX: &str = ".causeway.invalid";

/// DER as PEM, which `openssl` reads: of a `CERTIFICATE`, a `PUBLIC KEY`.
pub fn pem(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

/// Why bytes are no certificate of the wanted profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotACertificate {
    /// Not one DER certificate and nothing after it.
    #[error("not a certificate: one DER X.509 v3 certificate of at most {MAX_CERTIFICATE_BYTES} bytes is wanted")]
    Malformed,
    /// The key is not of the one kind that we take.
    #[error("the certificate's key is not P-256: make the key with `security-server join`")]
    Key,
    /// Something in it is not as its profile says.
    #[error("not {profile}: {rule}; only the registry's `approve` makes one that is right")]
    Profile {
        /// Which profile was wanted.
        profile: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// It names no server or member, or names it wrongly.
    #[error("the certificate's name is not right: {0}")]
    Name(#[from] NotAnIdentifier),
    /// The authority did not sign it.
    #[error("the certificate was not signed by this authority: get the authority's certificate from the configuration")]
    Issuer,
}

/// The certificate by which a security server is known in TLS, as client and as server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authentication {
    /// The server that it names.
    pub server: ServerId,
    /// Its key.
    pub key: PublicKey,
    /// First instant of its validity.
    pub not_before: Time,
    /// Last instant of its validity.
    pub not_after: Time,
}

/// The certificate of the key by which a member seals its messages at one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signing {
    /// The member that it names.
    pub member: MemberId,
    /// The server that holds the key.
    pub server: ServerId,
    /// Its key.
    pub key: PublicKey,
    /// First instant of its validity.
    pub not_before: Time,
    /// Last instant of its validity.
    pub not_after: Time,
}

/// The certificate of an instance's authority: it signs the two others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Its key.
    pub key: PublicKey,
    /// First instant of its validity.
    pub not_before: Time,
    /// Last instant of its validity.
    pub not_after: Time,
}

impl Authentication {
    /// Reads a server's authentication certificate: for client and server authentication in TLS, for nothing else, of
    /// no authority, with the server's URI and DNS name.
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        let read = Read::of(der, "an authentication certificate")?;
        read.is_no_authority()?;
        read.may_only_sign()?;
        read.is_for_tls()?;
        let server: ServerId = read.uri(SERVER_URI)?.parse()?;
        read.require(read.names_dns(&dns_name(&server)), "its DNS name must be the one made of its server's id")?;
        Ok(Self { server, key: read.key()?, not_before: read.not_before(), not_after: read.not_after() })
    }
}

impl Signing {
    /// Reads a member's signing certificate: for digital signatures, for nothing else, of no authority, with the
    /// member's and the server's URI.
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        let read = Read::of(der, "a signing certificate")?;
        read.is_no_authority()?;
        read.may_only_sign()?;
        read.is_not_for_tls()?;
        let member: MemberId = read.uri(MEMBER_URI)?.parse()?;
        let server: ServerId = read.uri(SERVER_URI)?.parse()?;
        Ok(Self { member, server, key: read.key()?, not_before: read.not_before(), not_after: read.not_after() })
    }
}

impl Authority {
    /// Reads an authority's certificate: it may sign certificates.
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        let read = Read::of(der, "an authority's certificate")?;
        read.is_authority()?;
        Ok(Self { key: read.key()?, not_before: read.not_before(), not_after: read.not_after() })
    }

    /// Checks that this authority signed the certificate.
    pub fn issued(&self, der: &[u8]) -> Result<(), NotACertificate> {
        let read = Read::of(der, "a certificate")?;
        let signature = &read.certificate.signature_value;
        let signed = read.certificate.tbs_certificate.as_ref();
        self.key.verify(signed, signature.as_ref()).map_err(|_| NotACertificate::Issuer)
    }
}

/// The key of any certificate, whatever its profile: what a pinned connection compares.
pub fn public_key(der: &[u8]) -> Result<PublicKey, NotACertificate> {
    Read::of(der, "a certificate")?.key()
}

/// The last instant of any certificate's validity, whatever its profile.
pub fn not_after(der: &[u8]) -> Result<Time, NotACertificate> {
    Ok(Read::of(der, "a certificate")?.not_after())
}

/// The name that TLS asks a server for: 128 bits of the hash of its id, because an id may hold what a DNS name may not.
pub fn dns_name(server: &ServerId) -> String {
    let digest = Digest::of(&[b"causeway/v1/server-name\n", server.as_str().as_bytes()]);
    format!("{}{DNS_SUFFIX}", hex::encode(&digest.as_bytes()[..16]))
}

/// A certificate taken apart, and the profile that it is read for.
struct Read<'a> {
    certificate: X509Certificate<'a>,
    profile: &'static str,
}

impl<'a> Read<'a> {
    fn of(der: &'a [u8], profile: &'static str) -> Result<Self, NotACertificate> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(NotACertificate::Malformed);
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| NotACertificate::Malformed)?;
        if !rest.is_empty() || certificate.version() != X509Version::V3 {
            return Err(NotACertificate::Malformed);
        }
        // No extension twice, and none critical that we do not read.
        certificate.extensions_map().map_err(|_| NotACertificate::Malformed)?;
        let unread = |extension: &ParsedExtension<'_>| {
            !matches!(
                extension,
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
            )
        };
        if certificate.extensions().iter().any(|each| each.critical && unread(each.parsed_extension())) {
            return Err(NotACertificate::Profile { profile, rule: "it has a critical extension of an unknown kind" });
        }
        Ok(Self { certificate, profile })
    }

    fn require(&self, holds: bool, rule: &'static str) -> Result<(), NotACertificate> {
        if holds { Ok(()) } else { Err(NotACertificate::Profile { profile: self.profile, rule }) }
    }

    fn key(&self) -> Result<PublicKey, NotACertificate> {
        PublicKey::from_spki(self.certificate.public_key().raw).map_err(|_| NotACertificate::Key)
    }

    fn not_before(&self) -> Time {
        time(self.certificate.validity().not_before)
    }

    fn not_after(&self) -> Time {
        time(self.certificate.validity().not_after)
    }

    fn is_no_authority(&self) -> Result<(), NotACertificate> {
        let constraints = self.certificate.basic_constraints().map_err(|_| NotACertificate::Malformed)?;
        let no_authority = constraints.is_some_and(|each| each.critical && !each.value.ca);
        self.require(no_authority, "it must say, critically, that it is no authority")
    }

    fn is_authority(&self) -> Result<(), NotACertificate> {
        let constraints = self.certificate.basic_constraints().map_err(|_| NotACertificate::Malformed)?;
        let authority = constraints.is_some_and(|each| each.critical && each.value.ca);
        self.require(authority, "it must say, critically, that it is an authority")?;
        self.require(self.usage()?.is_some_and(KeyUsage::key_cert_sign), "its key usage must be to sign certificates")
    }

    fn may_only_sign(&self) -> Result<(), NotACertificate> {
        let only = self.usage()?.is_some_and(|usage| usage.digital_signature() && usage.flags == 1);
        self.require(only, "its key usage must be digitalSignature and nothing else")
    }

    fn usage(&self) -> Result<Option<&KeyUsage>, NotACertificate> {
        let usage = self.certificate.key_usage().map_err(|_| NotACertificate::Malformed)?;
        Ok(usage.map(|each| each.value))
    }

    fn is_for_tls(&self) -> Result<(), NotACertificate> {
        let usage = self.certificate.extended_key_usage().map_err(|_| NotACertificate::Malformed)?;
        let holds = usage.is_some_and(|each| {
            let usage = each.value;
            usage.client_auth
                && usage.server_auth
                && !(usage.any || usage.code_signing || usage.email_protection)
                && !(usage.time_stamping || usage.ocsp_signing)
                && usage.other.is_empty()
        });
        self.require(holds, "its extended key usage must be clientAuth and serverAuth and nothing else")
    }

    fn is_not_for_tls(&self) -> Result<(), NotACertificate> {
        let usage = self.certificate.extended_key_usage().map_err(|_| NotACertificate::Malformed)?;
        self.require(usage.is_none(), "it must have no extended key usage")
    }

    /// What follows `prefix` in the one URI that begins with it.
    fn uri(&self, prefix: &str) -> Result<&str, NotACertificate> {
        let mut found = self.alternative_names()?.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(prefix),
            _ => None,
        });
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(NotACertificate::Profile {
                profile: self.profile,
                rule: "it must have exactly one URI for each thing it names, like causeway:server:VN/GOV/moj/ss1",
            }),
        }
    }

    fn names_dns(&self, wanted: &str) -> bool {
        let Ok(names) = self.alternative_names() else { return false };
        let mut dns = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
        dns.next() == Some(wanted) && dns.next().is_none()
    }

    fn alternative_names(&self) -> Result<&[GeneralName<'a>], NotACertificate> {
        let names = self.certificate.subject_alternative_name().map_err(|_| NotACertificate::Malformed)?;
        Ok(names.map_or(&[], |each| &each.value.general_names))
    }
}

/// Times before 1970 become 1970.
fn time(time: ASN1Time) -> Time {
    Time::from_millis(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use rcgen::{KeyUsagePurpose, SanType};

    use super::*;

    fn server() -> ServerId {
        "VN/GOV/moj/ss1".parse().unwrap()
    }

    fn authentication() -> CertificateParams {
        let mut params = CertificateParams::new(vec![dns_name(&server())]).unwrap();
        params.subject_alt_names.push(SanType::URI(format!("{SERVER_URI}{}", server()).try_into().unwrap()));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params
    }

    fn made(params: CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_of_the_profile_is_read() {
        let read = Authentication::parse(&made(authentication())).unwrap();
        assert_eq!(read.server, server());
        assert!(read.not_before < read.not_after);
    }

    #[test]
    fn a_certificate_with_any_other_power_is_refused() {
        type Change = fn(&mut CertificateParams);
        let changes: [(&str, Change); 10] = [
            ("an authority", |it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ("silent about authority", |it| it.is_ca = IsCa::NoCa),
            ("may sign certificates", |it| it.key_usages.push(KeyUsagePurpose::KeyCertSign)),
            ("no key usage", |it| it.key_usages.clear()),
            ("may sign code", |it| it.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning)),
            ("only a client", |it| it.extended_key_usages.truncate(1)),
            ("names nobody", |it| it.subject_alt_names.truncate(1)),
            ("names another host too", |it| {
                it.subject_alt_names.push(SanType::DnsName("example.org".try_into().unwrap()));
            }),
            ("names another server too", |it| {
                it.subject_alt_names.push(SanType::URI("causeway:server:VN/GOV/moj/ss2".try_into().unwrap()));
            }),
            ("has an unknown critical extension", |it| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                extension.set_criticality(true);
                it.custom_extensions.push(extension);
            }),
        ];
        for (what, change) in changes {
            let mut params = authentication();
            change(&mut params);
            assert!(Authentication::parse(&made(params)).is_err(), "{what}");
        }
    }

    #[test]
    fn a_certificate_of_one_kind_is_not_one_of_another() {
        assert!(Signing::parse(&made(authentication())).is_err());
        assert!(Authority::parse(&made(authentication())).is_err());
        let mut signing = authentication();
        signing.extended_key_usages.clear();
        signing.subject_alt_names = [format!("{SERVER_URI}VN/GOV/moj/ss1"), format!("{MEMBER_URI}VN/GOV/moj")]
            .map(|uri| SanType::URI(uri.try_into().unwrap()))
            .into();
        let signing = made(signing);
        assert_eq!(Signing::parse(&signing).unwrap().member.as_str(), "VN/GOV/moj");
        assert!(Authentication::parse(&signing).is_err());
    }

    #[test]
    fn a_certificate_of_another_authority_is_told_apart() {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let ours = Authority::parse(params.self_signed(&key).unwrap().der()).unwrap();
        let theirs = Authority::parse(params.self_signed(&other).unwrap().der()).unwrap();
        let issuer = Issuer::new(params, key);
        let issued = authentication().signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        assert_eq!(ours.issued(issued.der()), Ok(()));
        assert_eq!(theirs.issued(issued.der()), Err(NotACertificate::Issuer));
    }

    #[test]
    fn a_certificate_has_its_limit_of_size_and_one_end() {
        let mut der = made(authentication());
        der.push(0);
        assert_eq!(Authentication::parse(&der), Err(NotACertificate::Malformed));
        assert_eq!(Authentication::parse(&vec![0x30; MAX_CERTIFICATE_BYTES + 1]), Err(NotACertificate::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (Authentication::parse(&bytes), Signing::parse(&bytes), Authority::parse(&bytes), public_key(&bytes));
        }

        #[test]
        fn a_certificate_with_a_byte_changed_never_panics(at in any::<proptest::sample::Index>(), to in any::<u8>()) {
            let mut der = made(authentication());
            let at = at.index(der.len());
            der[at] = to;
            let _ = (Authentication::parse(&der), Signing::parse(&der), Authority::parse(&der), public_key(&der));
        }
    }
}
