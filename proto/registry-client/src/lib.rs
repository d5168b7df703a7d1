//! Calls to the central registry. Whoever calls knows the registry by the fingerprint of its key, given by a person or
//! kept from joining: no authority vouches for it, so none can vouch for another.

pub mod timestamping;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::certificate;
use proto::digest::Digest;
use proto::registration::Address;
use proto::signature::KeyId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// The generated clients.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/causeway.registry.v1.rs"));
}

pub use generated::administration_client::AdministrationClient;
pub use generated::catalogue_client::CatalogueClient;
pub use generated::global_configuration_client::GlobalConfigurationClient;
pub use generated::oversight_client::OversightClient;
pub use generated::registration_client::RegistrationClient;
pub use generated::timestamping_client::TimestampingClient;

/// How long connecting may take, the handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read: a whole configuration at once.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// The name that a pinned connection asks for: what counts is the key.
const ASKED_NAME: &str = "registry.causeway.invalid";

/// The SHA-256 of a registry's public key (SubjectPublicKeyInfo), written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub KeyId);

/// Not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no fingerprint; it is sha256: and 64 lower-case hexadecimal digits, as `central-registry init` printed it"
)]
pub struct NotAFingerprint(String);

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse::<Digest>().ok());
        digest.map(Self).ok_or_else(|| NotAFingerprint(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no connection to the registry.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// It answers with another key.
    #[error(
        "what answers at {address} has the key {found}, not {pinned}: this is not the registry that you were told of; \
         check the address, and if the registry changed its key, have its admin tell you the new fingerprint"
    )]
    OtherRegistry {
        /// Where.
        address: Address,
        /// The key expected.
        pinned: Fingerprint,
        /// The key that it has.
        found: Fingerprint,
    },
    /// Nothing answers.
    #[error(
        "the registry at {address} cannot be reached: {reason}; check the address, and that a firewall lets it pass"
    )]
    Unreachable {
        /// Where.
        address: Address,
        /// Why.
        reason: String,
    },
}

/// Connects to the registry at `address` and stays connected: the channel connects again when it has to, and every
/// connection is pinned. The first is made now, so that a wrong address or key is told now.
pub async fn connect(address: &Address, pinned: Fingerprint) -> Result<Channel, NoConnection> {
    let unreachable = |reason: String| NoConnection::Unreachable { address: address.clone(), reason };
    let tls = TlsConnector::from(Arc::new(pinned_config(pinned)));
    let first = tokio::time::timeout(CONNECT_TIMEOUT, dial(address, &tls))
        .await
        .map_err(|_| unreachable(format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs())))?;
    let first = first.map_err(|error| match other_key(&error) {
        Some(found) => NoConnection::OtherRegistry { address: address.clone(), pinned, found },
        None => unreachable(error.to_string()),
    })?;
    let mut first = Some(first);
    let to = address.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (first, tls, to) = (first.take(), tls.clone(), to.clone());
        async move {
            match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => dial(&to, &tls).await.map(TokioIo::new),
            }
        }
    });
    Endpoint::from_static("http://registry.causeway.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| unreachable(error.to_string()))
}

async fn dial(address: &Address, tls: &TlsConnector) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address.as_str()).await?;
    stream.set_nodelay(true)?;
    tls.connect(ServerName::try_from(ASKED_NAME).expect("it is a DNS name"), stream).await
}

/// TLS 1.3 to whoever holds the pinned key, and to nobody else.
pub fn pinned_config(pinned: Fingerprint) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { key: pinned, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Accepts the one key: no name, no authority, no validity of a certificate is asked.
#[derive(Debug)]
struct Pinned {
    key: Fingerprint,
    provider: Arc<CryptoProvider>,
}

/// The certificate is not the pinned one: it has this key.
#[derive(Debug, thiserror::Error)]
#[error("the key is {0}, another is pinned")]
struct OtherKey(Fingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let found = certificate::public_key(certificate).map_err(|_| CertificateError::BadEncoding)?.id();
        if found == self.key.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::Other(rustls::OtherError(Arc::new(OtherKey(Fingerprint(found))))).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// The key found, where that is why the handshake failed.
fn other_key(error: &std::io::Error) -> Option<Fingerprint> {
    let tls = error.get_ref()?.downcast_ref::<TlsError>()?;
    let TlsError::InvalidCertificate(CertificateError::Other(other)) = tls else { return None };
    other.0.downcast_ref::<OtherKey>().map(|OtherKey(found)| *found)
}
