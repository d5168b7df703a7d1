//! What a server needs while nothing is said: without a connection, with so many of clients, with so many of peers.
//!
//! Each connection is a real one of HTTP/2 that answers pings, in plain at the client's door, and with mutual TLS 1.3 and a
//! registered server's key at the peers'. Each is a descriptor, here and at the server: `ulimit -n` bounds them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystore::Passphrase;
use proto::certificate::public_key;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use security_server::keys::ring::{self, Use};
use security_server::tls::{self, Identity, Own};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::figures::{self, rounded};
use crate::processes::{Instance, Member, Process, programs_stand_in};

/// What is measured of idleness.
#[derive(clap::Args)]
pub struct Arguments {
    /// Connections of clients.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Connections of peers. All show one server's key: a connection is the same to the server, whoever's it is.
    #[arg(long, default_value_t = 1000)]
    peers: usize,
    /// Seconds in which CPU is counted.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

type Held = Vec<SendRequest<Empty<Bytes>>>;

/// The greatest values that `[limits]` takes: what is measured must fit.
const LIMITS: &str = "\n[limits]\nconnections = 16384\nconnections_of_address = 16384\nconnections_of_peer = 4096\n\
                      idle_seconds = 86400\n";

/// Measures, and prints.
pub async fn run(arguments: Arguments) {
    if let Some(programs) = arguments.programs.clone() {
        programs_stand_in(programs);
    }
    let instance = Instance::founded().await;
    let _registry = instance.serve_registry().await;
    let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
    for member in [&portal, &moj] {
        instance.join(member).await;
        member.configure(instance.directory.path(), &[]);
        let file = instance.path(&member.file());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + LIMITS).unwrap();
    }
    let (portals, mojs) = (instance.serve(&portal).await, instance.serve(&moj).await);
    let lasting = Duration::from_secs_f64(arguments.seconds);

    let alone = at_rest(&portals, lasting).await;
    eprintln!("{} connections of clients", arguments.clients);
    let (mut clients, before) = (Held::new(), figures::resident_mb(portals.id()));
    while clients.len() < arguments.clients {
        clients.push(spoken(TcpStream::connect(portal.clients).await.unwrap()).await);
    }
    let of_clients = beside(&portals, before, &mut clients, lasting).await;
    drop(clients);
    eprintln!("{} connections of peers", arguments.peers);
    let dial = Dial::of(&instance, &portal, &moj);
    let (mut peers, before) = (Held::new(), figures::resident_mb(mojs.id()));
    while peers.len() < arguments.peers {
        peers.push(spoken(dial.connected().await).await);
    }
    let of_peers = beside(&mojs, before, &mut peers, lasting).await;

    let told = json!({ "alone": alone, "clients": of_clients, "peers": of_peers, "machine": figures::machine() });
    if arguments.json {
        println!("{told}");
    } else {
        print!("{}", as_table(&told));
    }
}

/// Milliseconds of CPU that a server takes in a second, and its memory.
async fn at_rest(server: &Process, lasting: Duration) -> Value {
    let before = figures::cpu_us(server.id());
    tokio::time::sleep(lasting).await;
    let used = (figures::cpu_us(server.id()) - before) / 1000.0 / lasting.as_secs_f64();
    json!({ "memory_mb": rounded(figures::resident_mb(server.id())), "cpu_ms_per_second": rounded(used) })
}

/// The same with these connections, all of which are there in the end.
async fn beside(server: &Process, before: f64, held: &mut Held, lasting: Duration) -> Value {
    let mut told = at_rest(server, lasting).await;
    for connection in held.iter_mut() {
        connection.ready().await.expect("it is kept while nothing is said");
    }
    let grew = figures::resident_mb(server.id()) - before;
    told["connections"] = json!(held.len());
    told["bytes_per_connection"] = json!((grew * 1024.0 * 1024.0 / held.len().max(1) as f64).round());
    told
}

async fn spoken<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Empty<Bytes>> {
    let (requests, connection) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    requests
}

/// How one server reaches another.
struct Dial {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
}

impl Dial {
    fn of(instance: &Instance, from: &Member, to: &Member) -> Self {
        let directory = instance.path(from.name);
        let passphrase = std::fs::read_to_string(instance.path("credentials").join(from.name)).unwrap();
        let passphrase = Passphrase::new(passphrase.trim().to_owned()).unwrap();
        let key = keystore::open_pkcs8(&ring::key_in_use(&directory, Use::Authentication), &passphrase).unwrap();
        let own = Own::new(&Identity { chain: chain(instance, from), key }).unwrap();
        let pin = public_key(&chain(instance, to)[0]).unwrap().id();
        Self { address: to.peers, config: tls::to_service(pin, Some(own)).unwrap() }
    }

    async fn connected(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await.unwrap()
    }
}

fn chain(instance: &Instance, member: &Member) -> Vec<Vec<u8>> {
    let pem = std::fs::read(ring::certificate_in_use(&instance.path(member.name), Use::Authentication)).unwrap();
    CertificateDer::pem_slice_iter(&pem).map(|der| der.unwrap().to_vec()).collect()
}

fn as_table(told: &Value) -> String {
    let mut table =
        format!("{:<8} {:>11} {:>10} {:>12} {:>11}\n", "with", "connections", "bytes each", "CPU ms/s", "memory MB");
    for with in ["alone", "clients", "peers"] {
        let of = |name: &str| told[with].get(name).map(Value::to_string).unwrap_or_default();
        table += &format!(
            "{with:<8} {:>11} {:>10} {:>12} {:>11}\n",
            of("connections"),
            of("bytes_per_connection"),
            of("cpu_ms_per_second"),
            of("memory_mb")
        );
    }
    table
}
