//! TLS on both sides of a security server: towards its own services, and at its own systems' door.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use central_registry::authority::CertificateAuthority;
use central_registry::register::KeyUse;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::certificate::public_key;

use proto::signature::{KeyId, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use security_server::authenticate::Clients;
use security_server::listen::clients::Door;
use security_server::services::{Service, Services};
use security_server::tls::{self, Identity, Own};
use tests::world::{PURPOSE, World};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A gRPC message of one field, as any client would frame it.
const HELLO: &[u8] = b"\0\0\0\0\x07\x0a\x05hello";

/// A P-256 key with a certificate that nobody issued.
fn self_signed() -> (Identity, KeyId) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let der = certified.cert.der().to_vec();
    let key = public_key(&der).unwrap().id();
    (Identity { chain: vec![der], key: certified.signing_key.serialize_der().into() }, key)
}

/// A service over TLS that says back what it hears, and tells which client certificate's key it was shown.
async fn service(identity: &Identity) -> (SocketAddr, mpsc::UnboundedReceiver<Option<KeyId>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(tls::for_clients(Own::new(identity).unwrap()).unwrap());
    let (showed, shown) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let certificates = stream.get_ref().1.peer_certificates();
            let key = certificates.and_then(|chain| chain.first()).map(|der| public_key(der).unwrap().id());
            let _ = showed.send(key);
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(say_back)));
        }
    });
    (address, shown)
}

async fn say_back(
    request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let heard = request.into_body().collect().await.unwrap().to_bytes();
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let mut response = Response::new(Full::new(heard).with_trailers(async { Some(Ok(trailers)) }).boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Starts the civil registry's server again with this service and these doors in front of it.
async fn restart_with(world: &mut World, name: &'static str, change: impl FnOnce(&mut security_server::Settings)) {
    let started = world.servers.remove(name).unwrap();
    let address = started.peers;
    started.shutdown().await;
    let mut settings = world.settings(name, TcpListener::bind(address).await.unwrap(), false).await;
    change(&mut settings);
    world.servers.insert(name, security_server::start(settings).await.unwrap());
}

/// One call, as any HTTP/2 client makes it: the whole body, and the headers and trailers together.
async fn call<S>(stream: S, fields: &[(&'static str, String)]) -> (Bytes, HeaderMap)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut requests, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post("http://localhost/echo.v1.Echo/Unary").header("content-type", "application/grpc");
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    let response = requests.send_request(request.body(Full::new(Bytes::from_static(HELLO))).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let mut all = head.headers;
    all.extend(body.trailers().cloned().unwrap_or_default());
    (body.to_bytes(), all)
}

async fn call_of_the_portal(world: &World) -> (Bytes, HeaderMap) {
    call(TcpStream::connect(world.servers["portal"].clients[0]).await.unwrap(), &world.fields()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_over_tls_is_known_by_its_key() {
    let mut world = World::new().await;
    let (identity, key) = self_signed();
    let (address, mut shown) = service(&identity).await;
    let subsystem = world.members["moj"].subsystem.clone();
    let own =
        Identity { chain: world.members["moj"].chain.clone(), key: world.members["moj"].authentication.clone().into() };
    let own_key = public_key(&own.chain[0]).unwrap().id();
    for (client, expected) in [(None, None), (Some(&own), Some(own_key))] {
        let tls = tls::to_service(key, client.map(|client| Own::new(client).unwrap())).unwrap();
        let at = Service::new(subsystem.clone(), "echo.v1.Echo".into(), address.to_string(), Some(tls));
        restart_with(&mut world, "moj", |settings| settings.services = Services::new([at]).unwrap()).await;
        let (body, fields) = call_of_the_portal(&world).await;
        assert_eq!((&body[..], fields["grpc-status"].as_bytes()), (HELLO, &b"0"[..]), "{fields:?}");
        assert_eq!(shown.recv().await.unwrap(), expected, "the service sees our certificate exactly where it is to");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_another_key_gets_nothing() {
    let mut world = World::new().await;
    let ((identity, _), (_, other_key)) = (self_signed(), self_signed());
    let (address, _shown) = service(&identity).await;
    let subsystem = world.members["moj"].subsystem.clone();
    let tls = tls::to_service(other_key, None).unwrap();
    let at = Service::new(subsystem, "echo.v1.Echo".into(), address.to_string(), Some(tls));
    restart_with(&mut world, "moj", |settings| settings.services = Services::new([at]).unwrap()).await;
    let (body, fields) = call_of_the_portal(&world).await;
    assert!(body.is_empty());
    assert_eq!(fields["causeway-refusal"], "SERVICE_UNREACHABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_known_by_its_certificate_and_by_no_other() {
    let mut world = World::new().await;
    let ((known, known_key), (stranger, _)) = (self_signed(), self_signed());
    let member = &world.members["portal"];
    let own = Identity { chain: member.chain.clone(), key: member.authentication.clone().into() };
    let (own_key, subsystem) = (public_key(&own.chain[0]).unwrap().id(), member.subsystem.clone());
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    restart_with(&mut world, "portal", |settings| {
        settings.client_doors = vec![(
            door,
            Door {
                bound: None,
                tls: Some(tls::for_clients(Own::new(&own).unwrap()).unwrap()),
                hosts: Default::default(),
            },
        )];
        settings.clients = Clients { tokens: HashMap::new(), certificates: HashMap::from([(known_key, subsystem)]) };
    })
    .await;
    let fields =
        [("causeway-service", world.members["moj"].subsystem.to_string()), ("causeway-purpose", PURPOSE.to_owned())];
    for (client, refused) in
        [(Some(&known), None), (Some(&stranger), Some("CLIENT_UNKNOWN")), (None, Some("CLIENT_UNKNOWN"))]
    {
        let config = tls::to_service(own_key, client.map(|client| Own::new(client).unwrap())).unwrap();
        let stream = TcpStream::connect(world.servers["portal"].clients[0]).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
        let (_, answered) = call(stream, &fields).await;
        assert_eq!(answered.get("causeway-refusal").map(|code| code.to_str().unwrap()), refused);
    }
}

// ---- certificates that are not what they should be

/// A certificate with a key that is not its own: all that a thief has who saw it pass.
fn without_its_key(chain: &[Vec<u8>]) -> Arc<rustls::sign::SingleCertAndKey> {
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.into())).unwrap();
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    Arc::new(rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key)))
}

/// A certificate of this key that its holder made for itself.
fn self_made(pkcs8: &[u8], name: String) -> Vec<u8> {
    let key = rcgen::KeyPair::try_from(pkcs8).unwrap();
    rcgen::CertificateParams::new(vec![name]).unwrap().self_signed(&key).unwrap().der().to_vec()
}

fn pkcs8(key: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.to_vec().into())
}

fn der(certificates: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    certificates.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

/// Takes the place of the civil registry's server with this certificate; says back what it hears.
async fn take_its_place(world: &mut World, shows: impl FnOnce(ServerParts) -> rustls::ServerConfig) {
    let started = world.servers.remove("moj").unwrap();
    let address = started.peers;
    started.shutdown().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let parts = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth();
    let mut config = shows(parts);
    config.alpn_protocols = vec![b"h2".to_vec()];
    serve(listener, TlsAcceptor::from(Arc::new(config)));
}

type ServerParts = rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>;

fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(say_back)));
        }
    });
}

async fn nobody_is_called(world: &World) {
    let (body, fields) = call_of_the_portal(world).await;
    assert!(body.is_empty());
    assert_eq!(fields["causeway-refusal"], "PROVIDER_UNREACHABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_called_by_its_registered_key_only() {
    let mut world = World::new().await;
    // Its certificate is the authority's, of its name and of today; another is registered.
    let (other, _) = self_signed();
    let registers = |members: &mut std::collections::BTreeMap<_, tests::world::Member>| {
        members.get_mut("moj").unwrap().document.servers[0].authentication = vec![other.chain[0].clone().into()];
    };
    world.publish(registers, Vec::new());
    nobody_is_called(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_certificate_is_nobodys_is_not_called() {
    for in_its_profile in [false, true] {
        let mut world = World::new().await;
        let moj = &world.members["moj"];
        let (key, server) = (moj.authentication.clone(), moj.server.clone());
        let made = match in_its_profile {
            false => self_made(&key, proto::certificate::dns_name(&server)),
            // An authority of the same name, of somebody else's key.
            true => {
                let (signs, pkcs8) = SigningKey::generate();
                let instance = world.instance.instance.clone();
                let founded = CertificateAuthority::found(&instance, signs, world.now()).unwrap();
                let another = CertificateAuthority::open(&founded, SigningKey::from_pkcs8(&pkcs8).unwrap()).unwrap();
                let public = public_key(&moj.chain[0]).unwrap();
                let of = KeyUse::Authentication { server };
                another.certify(&of, &public, world.now()).unwrap().as_bytes().to_vec()
            }
        };
        take_its_place(&mut world, |parts| parts.with_single_cert(der(&[made]), pkcs8(&key)).unwrap()).await;
        nobody_is_called(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_hold_its_key_is_not_called() {
    let mut world = World::new().await;
    let shown = without_its_key(&world.members["moj"].chain);
    take_its_place(&mut world, |parts| parts.with_cert_resolver(shown)).await;
    nobody_is_called(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_certificate_of_the_authority_does_not_get_in() {
    let world = World::new().await;
    let (portal, moj) = (&world.members["portal"], &world.members["moj"]);
    // With the very key that is registered for the portal's server, and a certificate that nobody issued.
    let made = self_made(&portal.authentication, proto::certificate::dns_name(&portal.server));
    let own_key = public_key(&moj.chain[0]).unwrap().id();
    let made = Identity { chain: vec![made], key: portal.authentication.clone().into() };
    let issued = Identity { chain: portal.chain.clone(), key: portal.authentication.clone().into() };
    for (shown, gets_in) in [(None, false), (Some(&made), false), (Some(&issued), true)] {
        let stream = TcpStream::connect(world.servers["moj"].peers).await.unwrap();
        let config = tls::to_service(own_key, shown.map(|shown| Own::new(shown).unwrap())).unwrap();
        let name = "peer.example".try_into().unwrap();
        // With TLS 1.3 a client is up before the server has looked at its certificate.
        let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("https://peer/causeway.relay.v1.Relay/Exchange").body(Full::new(Bytes::new()));
        let answered = requests.send_request(request.unwrap()).await;
        assert_eq!(answered.is_ok(), gets_in, "{answered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_hold_its_key_gets_nothing() {
    let mut world = World::new().await;
    let (identity, key) = self_signed();
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(without_its_key(&identity.chain));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, TlsAcceptor::from(Arc::new(config)));
    let subsystem = world.members["moj"].subsystem.clone();
    let tls = tls::to_service(key, None).unwrap();
    let at = Service::new(subsystem, "echo.v1.Echo".into(), address.to_string(), Some(tls));
    restart_with(&mut world, "moj", |settings| settings.services = Services::new([at]).unwrap()).await;
    let (body, fields) = call_of_the_portal(&world).await;
    assert!(body.is_empty());
    assert_eq!(fields["causeway-refusal"], "SERVICE_UNREACHABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_hold_its_key_is_nobody() {
    let mut world = World::new().await;
    let (known, known_key) = self_signed();
    let member = &world.members["portal"];
    let own = Identity { chain: member.chain.clone(), key: member.authentication.clone().into() };
    let subsystem = member.subsystem.clone();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    restart_with(&mut world, "portal", |settings| {
        let tls = tls::for_clients(Own::new(&own).unwrap()).unwrap();
        settings.client_doors = vec![(door, Door { bound: None, tls: Some(tls), hosts: Default::default() })];
        settings.clients = Clients { tokens: HashMap::new(), certificates: HashMap::from([(known_key, subsystem)]) };
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(world.instance.authorities[0].as_bytes().to_vec())).unwrap();
    let time = Arc::new(At(world.now().as_millis()));
    let mut config = rustls::ClientConfig::builder_with_details(tls::provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(without_its_key(&known.chain));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.servers["portal"].clients[0]).await.unwrap();
    let name = proto::certificate::dns_name(&world.members["portal"].server).try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://localhost/echo.v1.Echo/Unary").body(Full::new(Bytes::new())).unwrap();
    assert!(requests.send_request(request).await.is_err(), "it is not answered at all");
}

/// The time of the world.
#[derive(Debug)]
struct At(u64);

impl rustls::time_provider::TimeProvider for At {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_millis(self.0)))
    }
}
