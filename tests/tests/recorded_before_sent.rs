//! Nothing leaves a server, to a peer, to a service or to a client, before it is on disk there; and where the disk
//! fails, nothing leaves at all.
//!
//! Both logs are on disks that a test holds or breaks at one of four syncs: that of the opening and that of the answer,
//! at the consumer's server and at the provider's. Taps on all three connections see every byte that is given to a
//! socket. The runtime has one thread: what could have run after [`settle`] has run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use journal::faulty::{Fault, Faulty, Moment, Operation, Survival};
use proto::identifier::ExchangeId;
use proto::message::{Direction, Header};
use proto::record::Kind;
use proto::wire::relay::{Closed, Outcome};
use tests::echo::Heard;
use tests::tap::{Tap, Toward};
use tests::wire::Said;
use tests::world::{Client, World};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

/// HTTP/2's RST_STREAM in a TLS record: all that a peer learns of an exchange whose log ended.
const RESET_BYTES: u64 = 13 + 22;

/// A sync that something waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    OpeningAtConsumer,
    OpeningAtProvider,
    AnswerAtProvider,
    AnswerAtConsumer,
}

#[tokio::test]
async fn no_byte_of_an_opening_leaves_the_consumers_server_before_its_sync() {
    nothing_leaves_before_the_sync_at(Point::OpeningAtConsumer).await;
}

#[tokio::test]
async fn no_byte_of_an_opening_reaches_the_service_before_its_sync() {
    nothing_leaves_before_the_sync_at(Point::OpeningAtProvider).await;
}

#[tokio::test]
async fn no_byte_of_an_answer_leaves_the_providers_server_before_its_sync() {
    nothing_leaves_before_the_sync_at(Point::AnswerAtProvider).await;
}

#[tokio::test]
async fn no_byte_of_an_answer_reaches_the_client_before_its_sync() {
    nothing_leaves_before_the_sync_at(Point::AnswerAtConsumer).await;
}

#[tokio::test]
async fn an_opening_that_the_consumer_cannot_record_goes_nowhere() {
    nothing_leaves_where_the_sync_fails_at(Point::OpeningAtConsumer, "LOG_ENDED").await;
}

#[tokio::test]
async fn an_opening_that_the_provider_cannot_record_reaches_no_service() {
    nothing_leaves_where_the_sync_fails_at(Point::OpeningAtProvider, "OUTCOME_UNKNOWN").await;
}

#[tokio::test]
async fn an_answer_that_the_provider_cannot_record_is_withheld() {
    nothing_leaves_where_the_sync_fails_at(Point::AnswerAtProvider, "OUTCOME_UNKNOWN").await;
}

#[tokio::test]
async fn an_answer_that_the_consumer_cannot_record_is_withheld() {
    nothing_leaves_where_the_sync_fails_at(Point::AnswerAtConsumer, "ANSWER_UNRECORDED").await;
}

#[tokio::test]
async fn when_a_caller_has_its_answer_a_power_cut_at_both_servers_takes_nothing_of_it() {
    let bus = Bus::new().await;
    let exchange = answered(bus.client.clone().unary(said("again")).await.unwrap());
    // At once: perhaps neither server has written `closed`.
    for disk in bus.disks.values() {
        let log = Log::of(&disk.power_cut(Survival::Nothing));
        assert!(log.holds_request_and_answer(&exchange), "{log:?}");
    }
}

#[tokio::test]
async fn a_piece_of_a_stream_waits_for_its_own_sync_while_the_stream_is_open() {
    let mut bus = Bus::new().await;
    let (says, hears) = mpsc::channel(4);
    says.send(said("one")).await.unwrap();
    let mut answers = bus.client.both(tests::echo::says(hears)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap(), Some(said("one")));
    bus.until_synced().await;

    for point in [Point::OpeningAtConsumer, Point::OpeningAtProvider] {
        let before = bus.must_not_flow(point);
        let mut gate = Gate::on(bus.disk(point));
        says.send(said("two")).await.unwrap();
        gate.until_a_sync_waits().await;
        settle().await;
        assert_eq!(bus.must_not_flow(point), before, "{point:?}");
        drop(gate);
        assert_eq!(answers.message().await.unwrap(), Some(said("two")));
        bus.until_synced().await;
    }
    drop(says);
    assert_eq!(answers.message().await.unwrap(), None);
}

async fn nothing_leaves_before_the_sync_at(point: Point) {
    let mut bus = Bus::new().await;
    let (call, before, mut gate) = bus.call_up_to(point, Gate::on).await;
    gate.until_a_sync_waits().await;
    settle().await;
    assert_eq!(bus.must_not_flow(point), before, "bytes flowed while the sync was held");
    assert!(!call.is_finished(), "the client has its answer while the sync is held");

    drop(gate);
    answered(call.await.unwrap().unwrap());
    for (now, before) in bus.must_not_flow(point).into_iter().zip(before) {
        assert!(now > before, "what was held has flowed");
    }
}

async fn nothing_leaves_where_the_sync_fails_at(point: Point, code: &str) {
    for fault in [Fault::Lost, Fault::Kept, Fault::Torn] {
        let mut bus = Bus::new().await;
        let mut acknowledged = vec![bus.first.clone()];
        // An append, then its sync.
        let (call, before, ()) = bus.call_up_to(point, |disk| disk.fail(1, fault)).await;
        let refused = call.await.unwrap().unwrap_err();
        assert_eq!(code_of(&refused), code, "{fault:?}");
        settle().await;
        // All but the last, which is the client's: it carried the refusal.
        for (now, before) in bus.must_not_flow(point).into_iter().zip(before).rev().skip(1) {
            assert!(now - before <= RESET_BYTES, "{fault:?}: something was handed on");
        }

        let health = bus.world.servers[point.server()].server.health();
        assert!(!health.ready && health.message_log.starts_with("ended: "), "{fault:?}: {}", health.message_log);
        let refused = bus.client.unary(said("later")).await.unwrap_err();
        assert_eq!(code_of(&refused), "LOG_ENDED", "{fault:?}");

        bus.restart_after_a_power_cut(point.server()).await;
        acknowledged.push(answered(bus.client.unary(said("after")).await.unwrap()));
        bus.until_all_is_concluded().await;
        let logs = bus.disks.values().map(|disk| Log::of(disk)).collect::<Vec<_>>();
        for log in &logs {
            assert!(acknowledged.iter().all(|exchange| log.holds_request_and_answer(exchange)), "{fault:?}: {log:?}");
            assert!(log.0.values().all(|told| told.closed.is_some()), "{fault:?}: each has its end: {log:?}");
        }
        let failed = Log::of(&bus.disks[point.server()]);
        let mut others = failed.0.iter().filter(|(exchange, _)| !acknowledged.contains(exchange));
        match others.next() {
            Some((_, told)) => assert_eq!(told.closed, Some(Outcome::Unknown), "{fault:?}: {failed:?}"),
            // What was not on the disk was not left open either.
            None => {
                assert!(point.is_opening() && fault != Fault::Kept, "{fault:?}: the opening was durable: {failed:?}")
            }
        }
        assert_eq!(others.next().map(|(_, told)| told), None, "no other exchange");
    }
}

/// The world, with both message logs on disks of the test and a tap on each connection.
struct Bus {
    world: World,
    disks: BTreeMap<&'static str, Arc<Faulty>>,
    /// Between the client and the consumer's server, between the servers, and before the service.
    door: Tap,
    line: Tap,
    service: Tap,
    client: Client,
    /// A call that was answered: every connection is up.
    first: String,
}

type Call = JoinHandle<Result<Response<Said>, Status>>;

impl Bus {
    async fn new() -> Self {
        let disks = BTreeMap::from([("portal", Faulty::new()), ("moj", Faulty::new())]);
        let mut taps = None;
        let world = World::arranged(async |world| {
            // Each sync is then that of a message, or of a `closed`.
            world.log_options.tail_signed_within = None;
            for (name, disk) in &disks {
                world.members.get_mut(name).unwrap().log = Arc::clone(disk) as _;
            }
            let moj = &mut world.members.get_mut("moj").unwrap().document.servers[0];
            let listens: SocketAddr = moj.address.parse().unwrap();
            let (line, service) = (Tap::before(listens).await, Tap::before(world.service).await);
            (moj.address, world.service) = (line.address.to_string(), service.address);
            taps = Some((line, service));
        })
        .await;
        let (line, service) = taps.unwrap();
        world.grant_all().await;
        let door = Tap::before(world.servers["portal"].clients[0]).await;
        let client = world.client_at(door.address, world.fields()).await;
        let mut bus = Self { world, disks, door, line, service, client, first: String::new() };
        bus.first = answered(bus.client.unary(said("first")).await.unwrap());
        bus.world.heard.recv().await.unwrap();
        bus.until_all_is_concluded().await;
        bus
    }

    /// Calls, and does this to the disk when the point's sync is the next that the disk will be asked for. What had
    /// flowed by then is returned with what it gave.
    async fn call_up_to<T>(&mut self, point: Point, act: impl FnOnce(&Faulty) -> T) -> (Call, Vec<u64>, T) {
        // The answer is kept from where it is to be recorded, until all of the request is.
        let held = match point {
            Point::OpeningAtConsumer | Point::OpeningAtProvider => None,
            Point::AnswerAtProvider => Some(&self.service),
            Point::AnswerAtConsumer => Some(&self.line),
        };
        let mut client = self.client.clone();
        let call = async move { client.unary(said("hello")).await };
        let Some(held) = held else {
            let (before, done) = (self.must_not_flow(point), act(self.disk(point)));
            return (tokio::spawn(call), before, done);
        };
        held.hold_back(Toward::Origin);
        let call = tokio::spawn(call);
        assert!(matches!(self.world.heard.recv().await, Some(Heard::Call(..))));
        settle().await;
        let (before, done) = (self.must_not_flow(point), act(self.disk(point)));
        held.let_on(Toward::Origin);
        (call, before, done)
    }

    /// What has flowed where nothing may flow before the sync of this point returned; the client's own last.
    fn must_not_flow(&self, point: Point) -> Vec<u64> {
        let Self { door, line, service, .. } = self;
        let flows: &[(&Tap, Toward)] = match point {
            Point::OpeningAtConsumer => &[(line, Toward::Target), (service, Toward::Target), (door, Toward::Origin)],
            Point::OpeningAtProvider => &[(service, Toward::Target), (door, Toward::Origin)],
            Point::AnswerAtProvider => &[(line, Toward::Origin), (door, Toward::Origin)],
            Point::AnswerAtConsumer => &[(door, Toward::Origin)],
        };
        flows.iter().map(|(tap, toward)| tap.given(*toward)).collect()
    }

    fn disk(&self, point: Point) -> &Faulty {
        &self.disks[point.server()]
    }

    /// The server starts again from what a power cut leaves of its log.
    async fn restart_after_a_power_cut(&mut self, name: &'static str) {
        let left = self.disks[name].power_cut(Survival::Nothing);
        self.world.members.get_mut(name).unwrap().log = Arc::clone(&left) as _;
        self.disks.insert(name, left);
        self.world.restart(name).await;
        self.line.until_closed().await;
        settle().await;
        // The portal's door is a new one.
        self.client = self.world.client().await;
    }

    /// Waits until every exchange at both servers has its `closed` on disk, or its log has ended.
    async fn until_all_is_concluded(&self) {
        while self.world.servers.values().any(|started| started.server.running() > 0) {
            tokio::task::yield_now().await;
        }
        settle().await;
    }

    /// Waits until neither log has anything in its queue.
    async fn until_synced(&self) {
        settle().await;
        for disk in self.disks.values() {
            let mut operations = None;
            while operations.replace(disk.operations()) != Some(disk.operations()) {
                settle().await;
            }
        }
    }
}

impl Point {
    fn server(self) -> &'static str {
        match self {
            Point::OpeningAtConsumer | Point::AnswerAtConsumer => "portal",
            Point::OpeningAtProvider | Point::AnswerAtProvider => "moj",
        }
    }

    fn is_opening(self) -> bool {
        matches!(self, Point::OpeningAtConsumer | Point::OpeningAtProvider)
    }
}

/// Holds a journal's thread at each sync until it is dropped.
struct Gate {
    arrived: mpsc::UnboundedReceiver<()>,
    _held: std::sync::mpsc::Sender<()>,
}

impl Gate {
    fn on(disk: &Faulty) -> Self {
        let (arrive, arrived) = mpsc::unbounded_channel();
        let (held, until_dropped) = std::sync::mpsc::channel::<()>();
        let until_dropped = Mutex::new(until_dropped);
        disk.observe(move |operation, moment| {
            if matches!((operation, moment), (Operation::Sync(_), Moment::Before)) && arrive.send(()).is_ok() {
                let _ = until_dropped.lock().unwrap().recv();
            }
        });
        Self { arrived, _held: held }
    }

    async fn until_a_sync_waits(&mut self) {
        self.arrived.recv().await.unwrap();
    }
}

/// Lets all go on that can. The test, both servers, the client, the service and the taps share one thread, so after so
/// many turns each of them ran and read its sockets as often as it could. Only the logs' own threads are not waited for.
async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

/// What a log tells of each exchange, by its name.
#[derive(Debug)]
struct Log(BTreeMap<String, Told>);

#[derive(Default, PartialEq, Debug)]
struct Told {
    opened: bool,
    request_ended: bool,
    answer_ended: bool,
    closed: Option<Outcome>,
}

impl Log {
    fn of(disk: &Faulty) -> Self {
        let mut log = BTreeMap::<String, Told>::new();
        journal::read(disk, None, &mut |entry| {
            let body = entry.record.body();
            let header = match entry.record.kind() {
                Kind::Sent => body,
                Kind::Received => body.slice(32..),
                Kind::Closed => {
                    let closed = <Closed as prost::Message>::decode(body).unwrap();
                    let exchange = ExchangeId::try_from(closed.exchange.as_ref()).unwrap();
                    let told = log.entry(exchange.to_string()).or_default();
                    assert_eq!(told.closed.replace(closed.outcome()), None, "closed once");
                    return;
                }
                _ => return,
            };
            let header = Header::parse(header).unwrap();
            let told = log.entry(header.exchange.to_string()).or_default();
            told.opened |= header.direction == Direction::Request && header.position == 0;
            match header.direction {
                Direction::Request => told.request_ended |= header.end.is_some(),
                Direction::Answer => told.answer_ended |= header.end.is_some(),
            }
        })
        .unwrap();
        Self(log)
    }

    fn holds_request_and_answer(&self, exchange: &str) -> bool {
        self.0.get(exchange).is_some_and(|told| told.opened && told.request_ended && told.answer_ended)
    }
}

fn said(text: &str) -> Said {
    Said { text: text.into(), ..Default::default() }
}

/// The exchange of a call that was answered.
fn answered(answer: Response<Said>) -> String {
    answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned()
}

fn code_of(refused: &Status) -> &str {
    let code = refused.metadata().get("causeway-refusal");
    code.unwrap_or_else(|| panic!("no refusal of the bus: {refused:?}")).to_str().unwrap()
}
