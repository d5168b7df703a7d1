//! TLS 1.3, mutual, with the crypto provider named. The WebPki verifiers check chains and dates; the pin to the
//! configuration comes on top, so a certificate that an authority issued by mistake opens no door.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use proto::certificate;
use proto::global_configuration::Configuration;
use proto::identifier::ServerId;
use proto::signature::KeyId;
use proto::time::Time;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::clock::Clock;
use crate::global_configuration::Current;
use crate::names::Names;
use crate::relay::{Target, Unreachable};

/// A server's own certificate and key for TLS.
pub struct Identity {
    /// DER, the server's own first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8, unencrypted, in memory.
    pub key: zeroize::Zeroizing<Vec<u8>>,
}

impl Identity {
    fn certified(&self) -> Result<CertifiedKey, rustls::Error> {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        CertifiedKey::from_der(chain, key, &provider())
    }
}

/// This server's identity as it is now. A renewal replaces it while connections run: those that are up keep the one that
/// they were made with, new ones show the new one.
#[derive(Debug)]
pub struct Own(ArcSwap<Shown>);

/// One identity, as TLS shows it.
#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    key: KeyId,
    not_after: Time,
}

impl Own {
    /// Beginning with this one.
    pub fn new(identity: &Identity) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(Shown::of(identity)?))))
    }

    /// From now on this one.
    pub fn replace(&self, identity: &Identity) -> Result<(), rustls::Error> {
        self.0.store(Arc::new(Shown::of(identity)?));
        Ok(())
    }

    /// The key that new connections show.
    pub fn key(&self) -> KeyId {
        self.0.load().key
    }

    /// The last instant of the certificate that they show.
    pub fn not_after(&self) -> Time {
        self.0.load().not_after
    }
}

impl Shown {
    fn of(identity: &Identity) -> Result<Self, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let leaf = identity.chain.first().ok_or_else(bad)?;
        let key = certificate::public_key(leaf).map_err(|_| bad())?.id();
        let not_after = certificate::not_after(leaf).map_err(|_| bad())?;
        Ok(Self { certified: Arc::new(identity.certified()?), key, not_after })
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS between security servers: who we are, and whom the configuration lists.
pub struct PeerTls {
    own: Arc<Own>,
    configuration: Arc<Current>,
    clock: Clock,
    names: Names,
    accepting: ArcSwapOption<(u64, Arc<ServerConfig>)>,
}

/// Why TLS with peers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key.
    #[error("TLS cannot be set up: {0}; check the certificates and keys in the server's directory")]
    Rustls(#[from] rustls::Error),
    /// The configuration's authorities.
    #[error("the configuration's authorities cannot be used for TLS: {0}; tell the registry's admins")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl PeerTls {
    /// With this server's identity; the configuration is asked anew for each connection.
    pub fn new(own: Arc<Own>, configuration: Arc<Current>, clock: Clock, names: Names) -> Self {
        Self { own, configuration, clock, names, accepting: ArcSwapOption::empty() }
    }

    /// What the peers' door accepts with: made anew when the configuration changed.
    pub fn accepting(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let configuration = self.configuration.load();
        if let Some(made) = &*self.accepting.load()
            && made.0 == configuration.version
        {
            return Ok(Arc::clone(&made.1));
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&configuration)?, provider()).build()?;
        let mut config = ServerConfig::builder_with_details(provider(), self.time())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.own) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let config = Arc::new(config);
        self.accepting.store(Some(Arc::new((configuration.version, Arc::clone(&config)))));
        Ok(config)
    }

    /// A connection to a peer that is up: its certificate is one that is registered for it, and it has sent its HTTP/2
    /// settings, so it did not refuse ours.
    pub(crate) async fn connect(
        &self,
        target: &Target,
    ) -> Result<(Keys, Greeted<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>), Unreachable> {
        let tls = |error: std::io::Error| Unreachable::Tls { address: target.address.clone(), error };
        let shown = self.own.0.load_full();
        let own = shown.key;
        let config = self.connecting(&target.server, shown).map_err(|error| tls(std::io::Error::other(error)))?;
        let connect = |error| Unreachable::Connect { address: target.address.clone(), error };
        let stream = self.names.connect(&target.address).await.map_err(connect)?;
        let name = ServerName::try_from(certificate::dns_name(&target.server))
            .map_err(|error| tls(std::io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(tls)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = certificate.and_then(|der| certificate::Authentication::parse(der).ok());
        let peer = peer.ok_or_else(|| tls(std::io::Error::other("the peer showed no server's certificate")))?;
        let keys = Keys { own, peer: peer.key.id(), until: peer.not_after.minus(NOT_USED_BEFORE_END) };
        Ok((keys, greeted(stream).await.map_err(tls)?))
    }

    /// Whether a connection that was made with these keys takes new exchanges now: the peer's is registered for it, and ours
    /// is the one that we show.
    pub(crate) fn may_be_used(&self, server: &ServerId, keys: &Keys) -> bool {
        self.configuration.load().authenticates(server, &keys.peer)
            && keys.own == self.own.key()
            && self.clock.now() < keys.until
    }

    fn connecting(&self, server: &ServerId, shown: Arc<Shown>) -> Result<ClientConfig, TlsError> {
        let configuration = self.configuration.load();
        let registered =
            configuration.servers.get(server).map(|server| server.authentication_keys.clone()).unwrap_or_default();
        let pinned = registered.difference(&configuration.revoked).copied().collect();
        let chain = WebPkiServerVerifier::builder_with_provider(roots(&configuration)?, provider()).build()?;
        let verifier = Arc::new(Registered { chain, pinned });
        let mut config = ClientConfig::builder_with_details(provider(), self.time())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Ticking(self.clock.clone()))
    }
}

/// A connection takes no new exchange in the last day of its peer's certificate: by the time that the peer's key leaves the
/// configuration, and with it what runs on the connection, only what began a day before can still run there.
const NOT_USED_BEFORE_END: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// With which keys a connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Keys {
    /// Ours.
    pub own: KeyId,
    /// The peer's.
    pub peer: KeyId,
    /// From here on it takes no new exchange.
    pub until: Time,
}

/// The crypto provider, by name: no process-wide default is relied on.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(configuration: &Configuration) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in &configuration.authorities {
        roots.add(CertificateDer::from(authority.clone()))?;
    }
    Ok(Arc::new(roots))
}

/// Our clock, as rustls asks for it.
#[derive(Debug)]
struct Ticking(Clock);

impl TimeProvider for Ticking {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(self.0.now().as_millis())))
    }
}

/// The chain as WebPki checks it, and then the pin: the key is one that is registered for the server wanted.
#[derive(Debug)]
struct Registered {
    chain: Arc<WebPkiServerVerifier>,
    pinned: BTreeSet<KeyId>,
}

impl ServerCertVerifier for Registered {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(certificate, intermediates, name, ocsp, now)?;
        require_pinned(certificate, &self.pinned)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// One certificate and no chain: how a service of our own is known. Its dates do not count, its key does.
#[derive(Debug)]
struct Pinned {
    provider: Arc<CryptoProvider>,
    key: BTreeSet<KeyId>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        require_pinned(certificate, &self.key)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn require_pinned(certificate: &CertificateDer<'_>, pinned: &BTreeSet<KeyId>) -> Result<(), rustls::Error> {
    let key = certificate::public_key(certificate).map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
    if pinned.contains(&key.id()) { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
}

/// TLS towards a service of our own, pinned to its certificate's key; with our client certificate where it wants one.
pub fn to_service(key: KeyId, client: Option<Arc<Own>>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = Arc::new(Pinned { provider: provider(), key: BTreeSet::from([key]) });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match client {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// TLS at the clients' door: any client certificate is let in, and `authenticate` says whose it is.
pub fn for_clients(own: Arc<Own>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyClient(provider())))
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A client shows a certificate or none; that it holds its key is checked here, whether we know it in `authenticate`.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl rustls::server::danger::ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A stream whose first bytes were read to see that the other side lets us in, and are given back.
pub(crate) struct Greeted<S> {
    read: std::io::Cursor<[u8; GREETING_BYTES]>,
    stream: S,
}

/// The head of the HTTP/2 SETTINGS frame that every server sends first.
const GREETING_BYTES: usize = 9;

async fn greeted<S: AsyncRead + Unpin>(mut stream: S) -> std::io::Result<Greeted<S>> {
    let mut greeting = [0; GREETING_BYTES];
    stream.read_exact(&mut greeting).await?;
    Ok(Greeted { read: std::io::Cursor::new(greeting), stream })
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let position = usize::try_from(self.read.position()).unwrap_or(GREETING_BYTES);
        if position < GREETING_BYTES {
            let count = buffer.remaining().min(GREETING_BYTES - position);
            buffer.put_slice(&self.read.get_ref()[position..position + count]);
            self.read.set_position((position + count) as u64);
            return std::task::Poll::Ready(Ok(()));
        }
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
