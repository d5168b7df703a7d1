//! A registry's door gone bad: it has the key that every server pins, and pushes to them whatever the test says.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use proto::global_configuration::update::Files;
use proto::signature::SigningKey;
use proto::wire::registry::{File, Version, WatchRequest};
use registry_client::Fingerprint;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use security_server::global_configuration::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::{raw, soon};

/// See the module.
pub struct RogueRegistry {
    /// Where servers find it, and the key that they pin.
    pub registry: Registry,
    door: Arc<Door>,
}

#[derive(Default)]
struct Door {
    /// The versions from which was asked, in order.
    asked: watch::Sender<Vec<u64>>,
    /// What was pushed, in order. A server gets what is pushed after it asked.
    pushed: watch::Sender<Vec<Bytes>>,
    /// What an admin's command is answered with.
    answer: std::sync::Mutex<Bytes>,
}

impl RogueRegistry {
    /// Opens the door.
    pub async fn open() -> Self {
        let (key, pkcs8) = SigningKey::generate();
        let (instance, now) = ("VN".parse().unwrap(), proto::time::Time::from_millis(1_800_000_000_000));
        let fingerprint = Fingerprint(key.public().id());
        let certificate = central_registry::authority::self_signed_for_tls(&instance, key, now).unwrap();
        let chain = vec![CertificateDer::from(certificate.as_bytes().to_vec())];
        let mut tls = rustls::ServerConfig::builder_with_provider(security_server::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(pkcs8.into()))
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let door = Arc::new(Door::default());
        let serving = Arc::clone(&door);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, door) = (acceptor.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        raw::speak(stream, move |request| answer(Arc::clone(&door), request)).await;
                    }
                });
            }
        });
        Self { registry: Registry { address, key: fingerprint }, door }
    }

    /// Pushes these files to whoever watches.
    pub fn push(&self, version: u64, files: &Files) {
        let file = |(name, content): (&String, &Bytes)| File { name: name.clone(), content: content.clone() };
        self.push_bytes(raw::message(&Version { version, files: files.iter().map(file).collect() }));
    }

    /// Pushes these bytes in the place of a message.
    pub fn push_bytes(&self, bytes: Bytes) {
        self.door.pushed.send_modify(|pushed| pushed.push(bytes));
    }

    /// How often it was asked for versions so far.
    pub fn asked(&self) -> usize {
        self.door.asked.borrow().len()
    }

    /// Waits until it was asked more often than so. Who is asked again knows that the one who asks took nothing of what
    /// came last: it asks for everything.
    pub async fn asked_more_often_than(&self, times: usize) -> u64 {
        let mut asked = self.door.asked.subscribe();
        let asked = soon(asked.wait_for(|asked| asked.len() > times)).await.unwrap();
        *asked.last().unwrap()
    }

    /// From now on an admin's command is answered so.
    pub fn answer_commands(&self, answer: &impl Message) {
        *self.door.answer.lock().unwrap() = raw::message(answer);
    }
}

async fn answer(door: Arc<Door>, request: http::Request<Incoming>) -> http::Response<raw::Body> {
    let watches = request.uri().path() == "/causeway.registry.v1.GlobalConfiguration/Watch";
    let mut body = request.into_body().collect().await.unwrap().to_bytes();
    let (mut sender, response) = raw::answer();
    if watches {
        body.advance(5);
        let version = WatchRequest::decode(body).unwrap().version;
        let mut pushed = door.pushed.subscribe();
        let mut given = pushed.borrow().len();
        door.asked.send_modify(|asked| asked.push(version));
        tokio::spawn(async move {
            loop {
                let Ok(message) = pushed.wait_for(|pushed| pushed.len() > given).await.map(|all| all[given].clone())
                else {
                    return;
                };
                given += 1;
                if sender.send_data(message).await.is_err() {
                    return;
                }
            }
        });
    } else {
        let answer = door.answer.lock().unwrap().clone();
        tokio::spawn(async move {
            let _ = sender.send_data(answer).await;
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
        });
    }
    response
}
