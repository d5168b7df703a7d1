//! A member's security server gone bad: it has the real keys of a member, and sends and answers what it likes.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use journal::{Directory, Journal, Options, Owner, Tree, TreeIndex};
use proto::commitment::Secret;
use proto::digest::Digest;
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
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
    next: std::sync::atomic::AtomicU32,
}

/// A message to be sealed, and what it commits to.
#[derive(Clone, Debug)]
pub struct Draft {
    pub facts: Facts,
    pub payload: Option<wire::Payload>,
}

/// More than a connection of HTTP/2 begins with, and less than any frame of an exchange has.
const BEGINNING_BYTES: usize = 256;

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

    /// The same, but once it is up it hears nothing before it is notified, and has said more than a connection begins with.
    pub async fn connect_deaf(&self, world: &World, to: &'static str) -> (Client, Arc<Notify>) {
        let (mut from, mut into) = tokio::io::split(self.dial(world, to).await);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut of_client, mut to_client) = tokio::io::split(far);
        let hears = Arc::new(Notify::new());
        let heard = Arc::clone(&hears);
        let (said, mut spoke) = watch::channel(0);
        tokio::spawn(async move {
            let mut chunk = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = of_client.read(&mut chunk).await {
                if into.write_all(&chunk[..length]).await.and(into.flush().await).is_err() {
                    return;
                }
                said.send_modify(|said| *said += length);
            }
        });
        tokio::spawn(async move {
            heard.notified().await;
            let _ = spoke.wait_for(|said| *said > BEGINNING_BYTES).await;
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

    /// Stops a member's server, and answers in its place and with its keys as the test says.
    pub async fn takes_over<F>(
        world: &mut World,
        name: &'static str,
        answer: impl Fn(http::Request<hyper::body::Incoming>) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = http::Response<raw::Body>> + Send + 'static,
    {
        let started = world.servers.remove(name).unwrap();
        let address = started.peers;
        started.shutdown().await;
        let listener = TcpListener::bind(address).await.unwrap();
        Self::of(world, name).serve(world, listener, answer).await;
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
        let mut number_of_id = [0x5a; 16];
        number_of_id[12..].copy_from_slice(&number.to_be_bytes());
        let facts = Facts {
            route: Route {
                instance: world.instance.instance.clone(),
                consumer: consumer.subsystem.clone(),
                consumer_server: consumer.server.clone(),
                provider: provider.subsystem.clone(),
                provider_server: provider.server.clone(),
                operation: Operation::Grpc("/echo.v1.Echo/Unary".parse().unwrap()),
            },
            exchange: ExchangeId::from_bytes(number_of_id),
            attempt: 1,
            direction: Direction::Request,
            position: 0,
            time: world.now(),
            configuration: ConfigurationVersion { version: configuration.version, digest: configuration.digest },
            opening: Some(Opening { purpose: PURPOSE.into(), ..Default::default() }),
            answer: None,
            previous: None,
            metadata: None,
            pieces: Vec::new(),
            end: None,
            removed: None,
        };
        Speech::of(facts).says(beginning(&["rogue"]), Some(End::HalfClose))
    }

    /// The request of a stream that is right in every respect: the opening says the first text, each text is a message
    /// of its own, and the last one has the end.
    pub fn stream(&self, world: &World, texts: &[&str]) -> Vec<Draft> {
        let mut opening = self.opening(world);
        opening.facts.route.operation = Operation::Grpc("/echo.v1.Echo/Both".parse().unwrap());
        let mut speech = Speech::of(Facts { metadata: None, pieces: Vec::new(), end: None, ..opening.facts });
        let drafts = texts.iter().enumerate().map(|(number, text)| {
            let contents = if number == 0 { beginning(&[text]) } else { saying(&[text]) };
            speech.says(contents, (number + 1 == texts.len()).then_some(End::HalfClose))
        });
        drafts.collect()
    }

    /// An answer that is right in every respect, sealed.
    pub async fn answer(&self, opening: &wire::Frame) -> wire::Frame {
        self.seal(answer_to(opening)).await
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
            priority: 0,
        }
    }

    /// The genesis of its log.
    pub fn genesis(&self) -> Bytes {
        self.journal.genesis(TreeIndex(0)).as_bytes().clone()
    }
}

/// An answer that is right in every respect, not yet sealed: one message, "answer", and status 0.
pub fn answer_to(opening: &wire::Frame) -> Draft {
    Speech::answering(opening).says(ending(beginning(&["answer"]), "0"), None)
}

/// One direction of an exchange as its speaker makes it: message after message, committed to and chained.
pub struct Speech {
    facts: Facts,
    commitments: Commitments,
    secret: Secret,
}

impl Speech {
    /// Whose first message says this, and nothing yet of contents and end.
    pub fn of(facts: Facts) -> Self {
        let secret = Secret::from_bytes(*Digest::of(&[facts.exchange.as_bytes(), &[facts.direction as u8]]).as_bytes());
        Self { facts, commitments: Commitments::default(), secret }
    }

    /// An answer to this opening.
    pub fn answering(opening: &wire::Frame) -> Self {
        let asked = Header::parse(opening.header.clone()).unwrap();
        Self::of(Facts {
            direction: Direction::Answer,
            opening: None,
            answer: Some(message::Answer { opening: asked.digest(), handed_on: 1 }),
            metadata: None,
            pieces: Vec::new(),
            end: None,
            ..Facts::clone(&asked)
        })
    }

    /// The next message. Trailers end an answer with the status in them.
    pub fn says(&mut self, contents: Contents, end: Option<End>) -> Draft {
        let secret = self.secret.clone();
        let committed = self.commitments.commit(&contents, || secret);
        let status = contents.trailers.iter().flatten().find(|(name, _)| name == "grpc-status");
        let trailers = committed.trailers.map(|commitment| {
            let status = std::str::from_utf8(&status.unwrap().1).unwrap().parse().unwrap();
            End::Trailers { commitment, status }
        });
        let facts = Facts {
            metadata: committed.metadata,
            pieces: committed.pieces,
            end: trailers.or(end),
            ..self.facts.clone()
        };
        self.facts.position += 1;
        self.facts.opening = None;
        self.facts.previous = Some(Header::new(facts.clone()).digest());
        Draft { facts, payload: committed.payload }
    }
}

/// Pieces that say these texts.
pub fn saying(texts: &[&str]) -> Contents {
    let message = |text: &&str| raw::message(&Said { text: (*text).into(), ..Default::default() });
    Contents { pieces: texts.iter().map(message).collect(), ..Default::default() }
}

/// The same, at the beginning of a direction.
pub fn beginning(texts: &[&str]) -> Contents {
    let metadata = vec![("content-type".into(), Bytes::from_static(b"application/grpc"))];
    Contents { metadata: Some(metadata), ..saying(texts) }
}

/// The same, with the service's own end.
pub fn ending(contents: Contents, status: &'static str) -> Contents {
    Contents { trailers: Some(vec![("grpc-status".into(), Bytes::from_static(status.as_bytes()))]), ..contents }
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

/// The opening that a request begins with. The rest is read, and nothing made of it.
pub async fn first_frame(request: http::Request<hyper::body::Incoming>) -> wire::Frame {
    let mut body = request.into_body();
    let mut reader = FrameReader::default();
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
            return frame;
        }
        if let Ok(data) = body.frame().await.unwrap().unwrap().into_data() {
            reader.take(data);
        }
    }
}

/// A response of these frames.
pub fn streamed(frames: Vec<wire::Frame>) -> http::Response<raw::Body> {
    streamed_bytes(frames.iter().map(encode).collect())
}

/// A response of these bytes, and the good end of a stream.
pub fn streamed_bytes(parts: Vec<Bytes>) -> http::Response<raw::Body> {
    let (mut sender, response) = raw::answer();
    tokio::spawn(async move {
        for part in parts {
            let _ = sender.send_data(part).await;
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
