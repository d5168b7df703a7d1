//! A member's security server gone bad: it has the real keys of a member, and sends and answers what it likes.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use journal::{Directory, Journal, Options, Owner, Tree, TreeIndex};
use proto::commitment::Secret;
use proto::identifier::ExchangeId;
use proto::message::{
    self, Commitments, ConfigurationVersion, Contents, Direction, End, Facts, Header, Opening, Operation, Route,
};
use proto::record::{Kind, Record};
use proto::refusal::Code;
use proto::transport::{EXCHANGE_PATH, FrameReader, encode};
use proto::wire::relay as wire;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::raw::{self, Answer, Client};
use crate::wire::Said;
use crate::world::{PURPOSE, World};

/// See the module.
pub struct Rogue {
    journal: Journal,
    name: &'static str,
    /// The next exchange id that it makes up.
    next: std::sync::atomic::AtomicU8,
}

/// A message to be sealed, and what it commits to.
#[derive(Clone, Debug)]
pub struct Draft {
    pub facts: Facts,
    pub payload: Option<wire::Payload>,
}

impl Rogue {
    /// With the keys of this member, and a log of its own.
    pub fn of(world: &World, name: &'static str) -> Self {
        let member = &world.members[name];
        let directory = tempfile::tempdir_in(world.directory.path()).unwrap().keep();
        let owner = Owner {
            instance: world.instance.instance.clone(),
            member: member.subsystem.member().to_string(),
            server: member.server.to_string(),
        };
        let trees = vec![Tree { owner, key: Arc::clone(&member.signing) }];
        let options = Options { first: true, ..Options::default() };
        let journal = Journal::open(Arc::new(Directory(directory)), trees, options, None, &mut |_| {}).unwrap();
        Self { journal, name, next: 1.into() }
    }

    /// A connection to the peers' door of this member's server, as a registered server makes it.
    pub async fn connect(&self, world: &World, to: &'static str) -> Client {
        Client::over(self.dial(world, to).await).await
    }

    /// The same, but once it is up it hears nothing before it is notified.
    pub async fn connect_deaf(&self, world: &World, to: &'static str) -> (Client, Arc<Notify>) {
        let (mut from, mut into) = tokio::io::split(self.dial(world, to).await);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut of_client, mut to_client) = tokio::io::split(far);
        let hears = Arc::new(Notify::new());
        let heard = Arc::clone(&hears);
        tokio::spawn(async move { tokio::io::copy(&mut of_client, &mut into).await });
        tokio::spawn(async move {
            heard.notified().await;
            tokio::io::copy(&mut from, &mut to_client).await
        });
        (Client::over(near).await, hears)
    }

    async fn dial(&self, world: &World, to: &'static str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(world.servers[to].peers).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(proto::certificate::dns_name(&world.members[to].server)).unwrap();
        let tls = TlsConnector::from(Arc::new(self.connecting(world)));
        tls.connect(name, stream).await.unwrap()
    }

    fn connecting(&self, world: &World) -> rustls::ClientConfig {
        let member = &world.members[self.name];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(world.instance.authorities[0].as_bytes().to_vec())).unwrap();
        let time = Arc::new(Standing(world.now().as_millis()));
        let mut config = rustls::ClientConfig::builder_with_details(security_server::tls::provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain(&member.chain), key(&member.authentication))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// Takes the place of its member's server, which must be stopped: answers what asks it as the test says.
    pub async fn serve<F>(
        &self,
        world: &World,
        listener: TcpListener,
        answer: impl Fn(http::Request<hyper::body::Incoming>) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = http::Response<raw::Body>> + Send + 'static,
    {
        let member = &world.members[self.name];
        let time = Arc::new(Standing(world.now().as_millis()));
        let mut config = rustls::ServerConfig::builder_with_details(security_server::tls::provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain(&member.chain), key(&member.authentication))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        raw::speak(stream, answer).await;
                    }
                });
            }
        });
    }

    /// An opening that is right in every respect: a unary call of the echo service at the civil registry.
    pub fn opening(&self, world: &World) -> Draft {
        let (consumer, provider) = (&world.members["portal"], &world.members["moj"]);
        let configuration = world.servers["portal"].server.store.current().load();
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let contents = Contents {
            metadata: Some(vec![("content-type".into(), Bytes::from_static(b"application/grpc"))]),
            pieces: vec![raw::message(&Said { text: "rogue".into(), ..Default::default() })],
            trailers: None,
        };
        let committed = Commitments::default().commit(&contents, || Secret::from_bytes([number; 32]));
        let facts = Facts {
            route: Route {
                instance: world.instance.instance.clone(),
                consumer: consumer.subsystem.clone(),
                consumer_server: consumer.server.clone(),
                provider: provider.subsystem.clone(),
                provider_server: provider.server.clone(),
                operation: Operation::Grpc("/echo.v1.Echo/Unary".parse().unwrap()),
            },
            exchange: ExchangeId::from_bytes([number; 16]),
            attempt: 1,
            direction: Direction::Request,
            position: 0,
            time: world.now(),
            configuration: ConfigurationVersion { version: configuration.version, digest: configuration.digest },
            opening: Some(Opening { purpose: PURPOSE.into(), ..Default::default() }),
            answer: None,
            previous: None,
            metadata: committed.metadata,
            pieces: committed.pieces,
            end: Some(End::HalfClose),
        };
        Draft { facts, payload: committed.payload }
    }

    /// An answer that is right in every respect, sealed.
    pub async fn answer(&self, opening: &wire::Frame) -> wire::Frame {
        self.seal(Self::drafted_answer(opening)).await
    }

    /// An answer that is right in every respect: one message, "answer", and status 0.
    pub fn drafted_answer(opening: &wire::Frame) -> Draft {
        let asked = Header::parse(opening.header.clone()).unwrap();
        let contents = Contents {
            metadata: Some(vec![("content-type".into(), Bytes::from_static(b"application/grpc"))]),
            pieces: vec![raw::message(&Said { text: "answer".into(), ..Default::default() })],
            trailers: Some(vec![("grpc-status".into(), Bytes::from_static(b"0"))]),
        };
        let committed = Commitments::default().commit(&contents, || Secret::from_bytes([8; 32]));
        let facts = Facts {
            direction: Direction::Answer,
            opening: None,
            answer: Some(message::Answer { opening: asked.digest(), handed_on: 1 }),
            metadata: committed.metadata,
            pieces: committed.pieces,
            end: Some(End::Trailers { commitment: committed.trailers.unwrap(), status: 0 }),
            ..Facts::clone(&asked)
        };
        Draft { facts, payload: committed.payload }
    }

    /// Seals a draft in its log.
    pub async fn seal(&self, draft: Draft) -> wire::Frame {
        let header = Header::new(draft.facts);
        self.seal_bytes(header.exchange, header.as_bytes().clone(), draft.payload).await
    }

    /// Seals these bytes as if they were a header.
    pub async fn seal_bytes(&self, exchange: ExchangeId, header: Bytes, payload: Option<wire::Payload>) -> wire::Frame {
        let record = Record::new(Kind::Sent, &[7; 16], &[&header]);
        let committed = self.journal.append(TreeIndex(0), record, Bytes::new(), true).await.unwrap();
        wire::Frame {
            exchange: Bytes::copy_from_slice(exchange.as_bytes()),
            header,
            seal: committed.seal(),
            payload,
            genesis: self.genesis(),
        }
    }

    /// The genesis of its log.
    pub fn genesis(&self) -> Bytes {
        self.journal.genesis(TreeIndex(0)).as_bytes().clone()
    }
}

/// The request by which a peer begins an exchange.
pub fn exchange() -> http::request::Builder {
    http::Request::post(format!("https://peer{EXCHANGE_PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// Sends this one frame, and reads what comes.
pub async fn say(client: &mut Client, frame: &wire::Frame) -> Answer {
    client.call(exchange(), encode(frame)).await
}

/// The opening that a request begins with.
pub async fn first_frame(request: http::Request<hyper::body::Incoming>) -> wire::Frame {
    let mut body = request.into_body();
    let mut reader = FrameReader::default();
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            return frame;
        }
        if let Ok(data) = body.frame().await.unwrap().unwrap().into_data() {
            reader.take(data);
        }
    }
}

/// A response of these frames.
pub fn streamed(frames: Vec<wire::Frame>) -> http::Response<raw::Body> {
    let (mut sender, response) = raw::answer();
    tokio::spawn(async move {
        for frame in frames {
            let _ = sender.send_data(encode(&frame)).await;
        }
        let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
    });
    response
}

/// The frames of an answer's body.
pub fn frames(answer: &Answer) -> Vec<wire::Frame> {
    let mut reader = FrameReader::default();
    reader.take(answer.body.clone());
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

/// The code of the sealed refusal that an answer is.
pub fn sealed_refusal(answer: &Answer) -> Option<Code> {
    let last = frames(answer).pop()?;
    match &Header::parse(last.header).unwrap().end {
        Some(End::Refused(code)) => code.parse().ok(),
        _ => None,
    }
}

fn chain(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

fn key(pkcs8: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(pkcs8.to_vec().into())
}

/// The time of the world when a connection is made.
#[derive(Debug)]
struct Standing(u64);

impl TimeProvider for Standing {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(self.0)))
    }
}
