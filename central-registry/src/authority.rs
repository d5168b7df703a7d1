//! The authority that certifies servers and members. From a request it takes the two public keys, whose possession was
//! proved, and nothing else: every name, use and date in a certificate comes from the register and from here.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use proto::certificate::{MEMBER_URI, SERVER_URI, dns_name};
use proto::global_configuration::document::Der;
use proto::identifier::InstanceId;
use proto::signature::{PublicKey, SigningKey};
use proto::time::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::register::{Applied, KeyUse};

/// How long the authority's own certificate is good.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long an authentication certificate is good. Its server renews it each day.
pub const AUTHENTICATION_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a signing certificate is good.
pub const SIGNING_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long the certificate of the registry's timestamping key is good. A start makes it anew in its last year.
pub const TIMESTAMPING_VALIDITY: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Certificates begin this much earlier, for clocks that are behind.
pub const BACKDATED: Duration = Duration::from_secs(300);

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub enum NotCertified {
    /// The key is not one that we take.
    #[error("the key applied for is not P-256")]
    Key,
    /// The certificate could not be built.
    #[error("the certificate cannot be made: {0}")]
    Build(#[from] rcgen::Error),
}

/// The authority's certificate and its key, in use.
pub struct CertificateAuthority {
    issuer: Issuer<'static, Signer>,
}

impl CertificateAuthority {
    /// Makes the self-signed certificate of a new authority.
    pub fn found(instance: &InstanceId, key: SigningKey, now: Time) -> Result<Der, NotCertified> {
        let mut params = params(now, AUTHORITY_VALIDITY, &format!("Causeway authority of {instance}"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params.self_signed(&Signer(key))?.der().to_vec().into())
    }

    /// Takes up the authority's work.
    pub fn open(certificate: &Der, key: SigningKey) -> Result<Self, NotCertified> {
        let der = CertificateDer::from(certificate.as_bytes().to_vec());
        Ok(Self { issuer: Issuer::from_ca_cert_der(&der, Signer(key))? })
    }

    /// Certifies the key of an applicant by which its server is to be known in TLS.
    pub fn authentication(&self, applied: &Applied, now: Time) -> Result<Der, NotCertified> {
        let server = applied.server.clone();
        self.certify(&KeyUse::Authentication { server }, &key(&applied.authentication_key)?, now)
    }

    /// Certifies the key of an applicant by which the member is to seal its messages at the server.
    pub fn signing(&self, applied: &Applied, now: Time) -> Result<Der, NotCertified> {
        let (member, server) = (applied.member.clone(), applied.server.clone());
        self.certify(&KeyUse::Signing { member, server }, &key(&applied.signing_key)?, now)
    }

    /// Certifies the registry's own timestamping key: for timestamps, critically, and for nothing else.
    pub fn timestamping(&self, key: &PublicKey, now: Time) -> Result<Der, NotCertified> {
        let mut params = params(now, TIMESTAMPING_VALIDITY, "Causeway timestamping authority")?;
        // SEQUENCE of id-kp-timeStamping. The library has it too, and not critical.
        let usage = vec![0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
        let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], usage);
        usage.set_criticality(true);
        params.custom_extensions = vec![usage];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&Subject(key.clone()), &self.issuer)?.der().to_vec().into())
    }

    /// Certifies a key for this use. Nothing in the certificate but the key comes from whoever asks for it.
    pub fn certify(&self, for_what: &KeyUse, key: &PublicKey, now: Time) -> Result<Der, NotCertified> {
        let mut params = match for_what {
            KeyUse::Forgotten => return Err(NotCertified::Key),
            KeyUse::Authentication { server } => {
                let mut params = params(now, AUTHENTICATION_VALIDITY, last_segment(server.as_str()))?;
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
                params.subject_alt_names = vec![
                    SanType::DnsName(dns_name(server).try_into()?),
                    SanType::URI(format!("{SERVER_URI}{server}").try_into()?),
                ];
                params
            }
            KeyUse::Signing { member, server } => {
                let mut params = params(now, SIGNING_VALIDITY, last_segment(member.as_str()))?;
                params.subject_alt_names = vec![
                    SanType::URI(format!("{MEMBER_URI}{member}").try_into()?),
                    SanType::URI(format!("{SERVER_URI}{server}").try_into()?),
                ];
                params
            }
        };
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&Subject(key.clone()), &self.issuer)?.der().to_vec().into())
    }
}

/// The registry's own TLS certificate. Its key is what everybody pins; the certificate only carries it.
pub fn self_signed_for_tls(instance: &InstanceId, key: SigningKey, now: Time) -> Result<Der, NotCertified> {
    let mut params = params(now, AUTHORITY_VALIDITY, &format!("Causeway registry of {instance}"))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::DnsName("registry.causeway.invalid".try_into()?)];
    Ok(params.self_signed(&Signer(key))?.der().to_vec().into())
}

fn key(spki: &Der) -> Result<PublicKey, NotCertified> {
    PublicKey::from_spki(spki.as_bytes()).map_err(|_| NotCertified::Key)
}

fn params(now: Time, validity: Duration, name: &str) -> Result<CertificateParams, NotCertified> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.not_before = instant(now.minus(BACKDATED));
    params.not_after = instant(now.plus(validity));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    params.serial_number = Some(serial());
    Ok(params)
}

/// 128 random bits under a first byte that keeps the number positive and its length the same.
fn serial() -> SerialNumber {
    let mut bytes = [0; 17];
    SystemRandom::new().fill(&mut bytes[1..]).expect("the system's random source works, or nothing does");
    bytes[0] = 1;
    SerialNumber::from_slice(&bytes)
}

fn instant(time: Time) -> OffsetDateTime {
    let seconds = i64::try_from(time.as_millis() / 1000).unwrap_or(i64::MAX);
    // X.509 knows no year after 9999.
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC))
}

fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// Our key, as the builder of certificates wants one.
struct Signer(SigningKey);

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.0.public().point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message))
    }
}

/// The key of whoever is certified.
struct Subject(PublicKey);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use proto::certificate::{Authentication, Authority, Signing};

    use super::*;
    use crate::register::Hex;

    #[test]
    fn what_the_authority_issues_keeps_its_profiles() {
        let now = Time::from_millis(1_800_000_000_000);
        let instance = "VN".parse().unwrap();
        let (key, pkcs8) = SigningKey::generate();
        let der = CertificateAuthority::found(&instance, key, now).unwrap();
        let authority = CertificateAuthority::open(&der, SigningKey::from_pkcs8(&pkcs8).unwrap()).unwrap();
        let ((authentication, _), (signing, _)) = (SigningKey::generate(), SigningKey::generate());
        let long = "s".repeat(64);
        let applied = Applied {
            digest: Hex(proto::digest::Digest::ZERO),
            member: format!("VN/{long}/{long}").parse().unwrap(),
            server: format!("VN/{long}/{long}/{long}").parse().unwrap(),
            address: "a:1".parse().unwrap(),
            subsystems: Vec::new(),
            authentication_key: authentication.public().to_spki().into(),
            signing_key: signing.public().to_spki().into(),
        };
        let first = authority.authentication(&applied, now).unwrap();
        let second = authority.signing(&applied, now).unwrap();
        let trusted = Authority::parse(der.as_bytes()).unwrap();
        assert_eq!((trusted.issued(first.as_bytes()), trusted.issued(second.as_bytes())), (Ok(()), Ok(())));
        let first = Authentication::parse(first.as_bytes()).unwrap();
        assert_eq!((&first.server, &first.key), (&applied.server, authentication.public()));
        assert_eq!(first.not_after, now.plus(AUTHENTICATION_VALIDITY));
        let second = Signing::parse(second.as_bytes()).unwrap();
        assert_eq!((&second.member, &second.key), (&applied.member, signing.public()));
        assert_eq!(second.not_before, now.minus(BACKDATED));
    }
}
