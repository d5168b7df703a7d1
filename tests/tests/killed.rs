//! Servers that are killed at any moment lose no call that was answered, and no service is asked twice.
//!
//! `CAUSEWAY_KILLS` is how often each of the two servers is killed (default 6), `CAUSEWAY_SEED` draws the moments.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream;
use journal::Directory;
use prost::Message;
use proto::message::{Direction, End, Header};
use proto::record::Kind;
use proto::wire::relay::Closed;
use tests::echo::Parrot;
use tests::processes::{PURPOSE, Process, SOON, Two};
use tests::wire::Said;
use tests::wire::echo_server::{Echo, EchoServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Most answered calls between two kills.
const MOST_CALLS: u64 = 40;
/// Most microseconds between such a call and the kill.
const MOST_MICROS: u64 = 8_000;
/// Calls whose evidence is verified, of those answered last before a kill.
const PROVED: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answered_call_is_lost_and_none_is_carried_out_twice_when_servers_are_killed_at_any_moment() {
    let kills: usize = std::env::var("CAUSEWAY_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let seed =
        std::env::var("CAUSEWAY_SEED").map_or_else(|_| RandomState::new().hash_one(0), |seed| seed.parse().unwrap());
    println!("CAUSEWAY_SEED={seed} CAUSEWAY_KILLS={kills}");
    let mut drawn = Drawn(seed);

    let (address, asked) = Counting::serve().await;
    let (two, [registry, portals, mojs]) = Two::before(address).await;
    let Two { instance, portal, moj } = &two;
    let mut servers = [portals, mojs];
    let mut ledger = {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ledger"));
        command.arg(portal.clients.to_string()).arg(instance.path("ledger")).args([&moj.subsystem, PURPOSE]);
        Process::start(command)
    };

    let mut last_words = Vec::new();
    for which in drawn.shuffled(kills) {
        let mut last = None;
        for _ in 0..=drawn.below(MOST_CALLS) {
            last = Some(ledger.says(acknowledged).await);
        }
        last_words.extend(last);
        // Not a wait for anything: the moment of the kill is to be no one's.
        tokio::time::sleep(Duration::from_micros(drawn.below(MOST_MICROS))).await;
        let [portals, mojs] = servers;
        servers = if which == 0 {
            portals.kill().await;
            [instance.serve(portal).await, mojs]
        } else {
            mojs.kill().await;
            [portals, instance.serve(moj).await]
        };
    }
    for _ in 0..10 {
        ledger.says(acknowledged).await;
    }
    drop(ledger.input());
    let ended = ledger.says_that("ended").await;
    assert_eq!(ledger.ended().await.code(), Some(0));

    for exchange in last_words.iter().rev().take(PROVED) {
        for member in [portal, moj] {
            let evidence =
                instance.run(&format!("security-server evidence get {exchange} --config {}", member.file())).await;
            std::fs::write(instance.path("evidence.json"), evidence.well()).unwrap();
            instance.run("security-server evidence verify evidence.json --anchor registry/anchor.json").await.well();
        }
    }
    for server in servers {
        server.stops().await;
    }
    registry.stops().await;

    let ledger = std::fs::read_to_string(instance.path("ledger")).unwrap();
    let ledger: HashMap<u64, &str> = ledger
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(n, exchange)| (n.parse().unwrap(), exchange))
        .collect();
    let asked = asked.lock().unwrap();
    println!("{} calls answered; the client {ended}; the service was asked {} times", ledger.len(), asked.len());
    let mut by_number: HashMap<u64, Vec<&str>> = HashMap::new();
    for (number, exchange) in asked.iter() {
        by_number.entry(*number).or_default().push(exchange);
    }
    for (number, exchanges) in &by_number {
        assert_eq!(exchanges.len(), 1, "call {number} was carried out as {exchanges:?}");
    }
    let logs = [Ours::Request, Ours::Answer]
        .into_iter()
        .zip([portal, moj])
        .map(|(ours, member)| (member.name, ours, read(&instance.path(member.name).join("message-log"))))
        .collect::<Vec<_>>();
    for (number, exchange) in &ledger {
        assert_eq!(by_number.get(number).map(Vec::as_slice), Some(&[*exchange][..]), "call {number}");
        for (name, ours, log) in &logs {
            let held = log.get(*exchange).unwrap_or_else(|| panic!("call {number}, {exchange}, is lost at {name}"));
            assert!(held.is_whole(*ours), "call {number}, {exchange}, is not whole at {name}: {held:?}");
        }
    }
    for (name, _, log) in &logs {
        for (exchange, held) in log {
            assert_eq!((held.openings, held.closed), (1, 1), "{exchange} at {name}: {held:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_server_is_killed_ends_at_once_and_in_both_logs() {
    let (address, _heard) = Parrot::serve().await;
    let (two, [registry, mut portals, mut mojs]) = Two::before(address).await;
    let said = |number| Said { number, ..Said::default() };
    for (killed, outcomes) in [("moj", ["silent", "unknown"]), ("portal", ["unknown", "silent"])] {
        let (says, asked) = mpsc::channel(1);
        says.send(said(1)).await.unwrap();
        let answers = two.client().both(ReceiverStream::new(asked)).await.unwrap();
        let exchange = answers.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        let mut answers = answers.into_inner();
        assert_eq!(answers.message().await.unwrap(), Some(said(1)));
        let broken = if killed == "moj" {
            mojs.kill().await;
            let broken = tokio::time::timeout(SOON, answers.message()).await.unwrap().unwrap_err();
            assert_eq!(broken.metadata().get("causeway-refusal").unwrap(), "OUTCOME_UNKNOWN", "{broken}");
            mojs = two.instance.serve(&two.moj).await;
            broken
        } else {
            portals.kill().await;
            let broken = tokio::time::timeout(SOON, answers.message()).await.unwrap().unwrap_err();
            portals = two.instance.serve(&two.portal).await;
            broken
        };
        drop(says);
        for (member, outcome) in [&two.portal, &two.moj].into_iter().zip(outcomes) {
            let line = format!("security-server exchange {exchange} --json --config {}", member.file());
            let closed = tokio::time::timeout(SOON, async {
                loop {
                    let records = two.instance.run(&line).await.json();
                    let closed = records["records"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .find(|record| record["kind"] == "closed")
                        .cloned();
                    if let Some(closed) = closed {
                        return closed;
                    }
                }
            });
            let closed = closed.await.unwrap();
            assert!(
                closed["end"].as_str().unwrap().ends_with(outcome),
                "{} at {}: {closed}, {broken}",
                killed,
                member.name
            );
        }
        // And the next call is answered.
        assert_eq!(two.client().unary(said(2)).await.unwrap().into_inner(), said(2));
    }
    for process in [portals, mojs, registry] {
        process.stops().await;
    }
}

fn acknowledged(line: &str) -> Option<String> {
    let (number, exchange) = line.split_once(' ')?;
    number.parse::<u64>().ok().map(|_| exchange.to_owned())
}

// ---- what the logs hold

/// Which direction a server sealed itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ours {
    Request,
    Answer,
}

/// The records of one exchange in one log.
#[derive(Default, Debug)]
struct Held {
    openings: usize,
    closed: usize,
    request: OneWay,
    answer: OneWay,
}

#[derive(Default, Debug)]
struct OneWay {
    sent: usize,
    received: usize,
    begins: bool,
    ends: Option<End>,
}

impl Held {
    fn is_whole(&self, ours: Ours) -> bool {
        let (sealed, recorded) = match ours {
            Ours::Request => (&self.request, &self.answer),
            Ours::Answer => (&self.answer, &self.request),
        };
        let ended = matches!(self.request.ends, Some(End::HalfClose))
            && matches!(self.answer.ends, Some(End::Trailers { status: 0, .. }));
        sealed.begins && sealed.received == 0 && recorded.begins && recorded.sent == 0 && ended
    }
}

/// Everything that is in a log on disk, by exchange.
fn read(directory: &Path) -> BTreeMap<String, Held> {
    let mut log: BTreeMap<String, Held> = BTreeMap::new();
    let mut take = |entry: journal::Entry| {
        let body = entry.record.body();
        let (header, sent) = match entry.record.kind() {
            Kind::Sent => (Header::parse(body).unwrap(), true),
            Kind::Received => (Header::parse(body.slice(32..)).unwrap(), false),
            Kind::Closed => {
                let closed = Closed::decode(body).unwrap();
                let exchange = proto::identifier::ExchangeId::try_from(closed.exchange.as_ref()).unwrap();
                log.entry(exchange.to_string()).or_default().closed += 1;
                return;
            }
            _ => return,
        };
        let held = log.entry(header.exchange.to_string()).or_default();
        let way = match header.direction {
            Direction::Request => &mut held.request,
            Direction::Answer => &mut held.answer,
        };
        if sent {
            way.sent += 1;
        } else {
            way.received += 1;
        }
        way.begins |= header.position == 0;
        way.ends = header.end.clone().or(way.ends.take());
        if header.direction == Direction::Request && header.position == 0 {
            held.openings += 1;
        }
    };
    journal::read(&Directory(directory.to_owned()), None, &mut take).unwrap();
    log
}

// ---- the service

/// Which numbers were asked, and in which exchange.
type Asked = Arc<Mutex<Vec<(u64, String)>>>;

/// Says back a number, and remembers that it was asked.
struct Counting(Asked);

type Says = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;

impl Counting {
    async fn serve() -> (std::net::SocketAddr, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Asked::default());
        let service = EchoServer::new(Counting(asked.clone()));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (address, asked)
    }
}

#[tonic::async_trait]
impl Echo for Counting {
    async fn unary(&self, request: Request<Said>) -> Result<Response<Said>, Status> {
        let exchange = request.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        self.0.lock().unwrap().push((request.get_ref().number, exchange));
        Ok(Response::new(request.into_inner()))
    }

    async fn client_stream(&self, _: Request<Streaming<Said>>) -> Result<Response<Said>, Status> {
        Err(Status::unimplemented("unary only"))
    }

    async fn hang(&self, _: Request<Said>) -> Result<Response<Said>, Status> {
        Err(Status::unimplemented("unary only"))
    }

    async fn fail(&self, _: Request<Said>) -> Result<Response<Said>, Status> {
        Err(Status::unimplemented("unary only"))
    }

    type ServerStreamStream = Says;
    async fn server_stream(&self, _: Request<Said>) -> Result<Response<Says>, Status> {
        Err(Status::unimplemented("unary only"))
    }

    type BothStream = Says;
    async fn both(&self, _: Request<Streaming<Said>>) -> Result<Response<Says>, Status> {
        Err(Status::unimplemented("unary only"))
    }

    type SpeaksFirstStream = Says;
    async fn speaks_first(&self, _: Request<Streaming<Said>>) -> Result<Response<Says>, Status> {
        Err(Status::unimplemented("unary only"))
    }
}

// ---- chance that can be repeated

/// splitmix64.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Each of two servers so many times, in any order.
    fn shuffled(&mut self, times: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..2 * times).map(|at| at % 2).collect();
        for at in (1..order.len()).rev() {
            let other = usize::try_from(self.below(at as u64 + 1)).unwrap();
            order.swap(at, other);
        }
        order
    }
}
