//! More comes than can be carried: what is taken goes on, the rest is refused at once with advice, bulk calls first and urgent ones
//! last. And who waits for a peer, a service or a reader that is slow takes nothing of it.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use journal::faulty::{Faulty, Moment, Operation};
use proto::access::Priority;
use proto::digest::Digest;
use proto::global_configuration::document::SubsystemDocument;
use proto::refusal::Code;
use security_server::SecurityServer;
use security_server::access_rights::Proposal;
use security_server::flow::{Flow, LEAST_IN_HAND, MOST_IN_HAND, MOST_IN_HAND_AT_LEAST};
use security_server::limits::Limits;
use tests::echo::said;
use tests::raw::{self, Answer};
use tests::soon;
use tests::tap::{Tap, Toward};
use tests::wire::Said;
use tests::world::{TOKEN, World};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const SERVERS: [&str; 2] = ["portal", "moj"];
/// A method for each priority.
const METHODS: [(&str, Priority); 3] =
    [("Unary", Priority::Ordinary), ("ClientStream", Priority::Urgent), ("Both", Priority::Bulk)];

async fn granted(world: &World) {
    for (method, priority) in METHODS {
        world.grant_as(Proposal { priority, ..world.proposal(&[method]) }).await;
    }
}

/// Calls that wait for a log that does not become durable.
struct Crowd<'w> {
    world: &'w World,
    at: Arc<SecurityServer>,
    waiting: JoinSet<Answer>,
    client: raw::Client,
}

impl Crowd<'_> {
    /// Calls until so many are in hand where they wait.
    async fn fill(&mut self, method: &str, to: usize) {
        while self.at.flow.in_hand() < to {
            let before = self.at.flow.in_hand();
            let (mut client, request) = (self.client.clone(), self.world.post(method));
            self.waiting.spawn(async move { client.call(request, raw::message(&said("waits"))).await });
            soon(async {
                while self.at.flow.in_hand() == before {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }

    async fn is_refused(&self, method: &str) {
        let mut client = self.client.clone();
        let refused = soon(client.call(self.world.post(method), raw::message(&said("too many")))).await;
        assert_eq!((refused.status(), refused.refusal()), (8, Some("TOO_MANY_EXCHANGES")), "{method}");
        // That it bears google.rpc.RetryInfo then, `raw::Answer` has compared byte for byte.
        assert!(
            refused.field("grpc-status-details-bin").is_some()
                && Code::TooManyExchanges.retry_after_seconds().is_some()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_either_server_as_many_are_taken_as_fit_and_one_more_is_refused_at_once_bulk_first_and_urgent_last() {
    for name in SERVERS {
        let disk = Faulty::new();
        let world = World::arranged(async |world| {
            world.members.get_mut(name).unwrap().log = Arc::clone(&disk) as _;
        })
        .await;
        granted(&world).await;
        let mut client = world.raw().await;
        for (method, _) in METHODS {
            // The consumer's server learns of the grant's priority.
            assert_eq!(soon(client.call(world.post(method), raw::message(&said("first")))).await.status(), 0);
        }
        world.quiet().await;
        let held = held(&disk);
        let at = Arc::clone(&world.servers[name].server);
        let bound = at.flow.bound();
        assert!((MOST_IN_HAND_AT_LEAST..=MOST_IN_HAND).contains(&bound));
        let mut crowd = Crowd { world: &world, at, waiting: JoinSet::new(), client };
        crowd.fill("Both", bound / 2).await;
        crowd.is_refused("Both").await;
        crowd.fill("Unary", bound).await;
        crowd.is_refused("Unary").await;
        crowd.is_refused("Both").await;
        crowd.fill("ClientStream", bound + bound / 4 + 4).await;
        crowd.is_refused("ClientStream").await;
        assert_eq!(crowd.waiting.len(), bound + bound / 4 + 4);

        // What was taken goes on to its good end, and what comes then is taken.
        drop(held);
        let mut ended = 0;
        while let Some(answer) = soon(crowd.waiting.join_next()).await {
            let answer = answer.unwrap();
            match (answer.status(), answer.refusal()) {
                (0, None) => ended += 1,
                // What a consumer's server lets go of all at once may be more than the provider's takes in hand.
                (8, Some("TOO_MANY_EXCHANGES")) if name == "portal" => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(ended >= bound / 2, "{name}: {ended} of {bound}");
        world.quiet().await;
        assert_eq!(crowd.at.flow.in_hand(), 0);
        assert_eq!(soon(crowd.client.call(world.post("Unary"), raw::message(&said("after")))).await.status(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_client_or_of_one_peer_harms_its_own_calls_only() {
    for name in SERVERS {
        let disk = Faulty::new();
        let mut world = World::arranged(async |world| {
            world.members.get_mut(name).unwrap().log = Arc::clone(&disk) as _;
            let portal = world.members.get_mut("portal").unwrap();
            let servers = vec![portal.server.clone()];
            portal.document.subsystems.push(SubsystemDocument { subsystem: OTHER.parse().unwrap(), servers });
        })
        .await;
        granted(&world).await;
        world.enroll("tax", "register").await;
        restart_with_another_client(&mut world).await;
        // Beside a client another one at the same server; beside a peer another one's client.
        let (consumer, of, token) = match name {
            "portal" => (OTHER.parse().unwrap(), "portal", OTHERS_TOKEN),
            _ => (world.members["tax"].subsystem.clone(), "tax", TOKEN),
        };
        world.grant_as(Proposal { consumer, ..world.proposal(&["Unary"]) }).await;
        let mut other = raw::Client::to(world.servers[of].clients[0]).await;
        let post = || world.post_with("Unary", "causeway-token", Some(token));
        assert_eq!(soon(other.call(post(), raw::message(&said("first")))).await.status(), 0);
        world.quiet().await;

        let held = held(&disk);
        let (at, client) = (Arc::clone(&world.servers[name].server), world.raw().await);
        let bound = at.flow.bound();
        let mut crowd = Crowd { world: &world, at, waiting: JoinSet::new(), client };
        crowd.fill("Unary", bound).await;
        for number in 1..=3 {
            crowd.is_refused("Unary").await;
            let (mut other, request) = (other.clone(), post());
            crowd.waiting.spawn(async move { other.call(request, raw::message(&said("beside"))).await });
            soon(async {
                while crowd.at.flow.in_hand() < bound + number {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        drop(held);
        while let Some(answer) = soon(crowd.waiting.join_next()).await {
            let answer = answer.unwrap();
            assert!(name == "portal" || answer.status() == 0, "{:?}", answer.refusal());
        }
        world.quiet().await;
        assert_eq!(crowd.at.flow.in_hand(), 0);
        assert_eq!(soon(other.call(post(), raw::message(&said("after")))).await.status(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_refusal_says_nothing_of_a_grants_priority() {
    let disk = Faulty::new();
    let world = World::arranged(async |world| {
        world.members.get_mut("portal").unwrap().log = Arc::clone(&disk) as _;
    })
    .await;
    world.grant_as(Proposal { priority: Priority::Bulk, per_second: Some(1), ..world.proposal(&["Both"]) }).await;
    let mut client = world.raw().await;
    assert_eq!(soon(client.call(world.post("Both"), raw::message(&said("first")))).await.status(), 0);
    soon(async {
        while client.call(world.post("Both"), raw::message(&said("much"))).await.refusal() != Some("RATE_EXCEEDED") {}
    })
    .await;
    world.quiet().await;
    let held = held(&disk);
    let at = Arc::clone(&world.servers["portal"].server);
    let half = at.flow.bound() / 2;
    let mut crowd = Crowd { world: &world, at, waiting: JoinSet::new(), client };
    crowd.fill("Both", half).await;
    crowd.is_refused("Both").await;
    drop(held);
    while soon(crowd.waiting.join_next()).await.is_some() {}
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_for_load_takes_nothing_of_a_grants_rate_and_makes_nobody_avoid_the_server() {
    let disk = Faulty::new();
    let world = World::arranged(async |world| {
        world.members.get_mut("moj").unwrap().log = Arc::clone(&disk) as _;
    })
    .await;
    world.grant(&["Unary"]).await;
    world.grant_as(Proposal { per_second: Some(1), ..world.proposal(&["ServerStream"]) }).await;
    let held = held(&disk);
    let (at, client) = (Arc::clone(&world.servers["moj"].server), world.raw().await);
    let bound = at.flow.bound();
    let mut crowd = Crowd { world: &world, at, waiting: JoinSet::new(), client };
    crowd.fill("Unary", bound).await;
    for _ in 0..20 {
        crowd.is_refused("ServerStream").await;
    }
    assert!(world.servers["portal"].server.peers.avoided_since(&world.members["moj"].server).is_none());
    drop(held);
    while soon(crowd.waiting.join_next()).await.is_some() {}
    // The burst of its rate is there, whole.
    for _ in 0..10 {
        let answer = soon(crowd.client.call(world.post("ServerStream"), raw::message(&said("after")))).await;
        assert_eq!((answer.status(), answer.refusal()), (0, None));
    }
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_beyond_its_own_quota_is_told_so_however_much_the_server_has_to_do() {
    let disk = Faulty::new();
    let most = Flow::on_cores(std::thread::available_parallelism().map_or(1, usize::from)).bound();
    let world = World::arranged(async |world| {
        world.members.get_mut("portal").unwrap().log = Arc::clone(&disk) as _;
        // Enough to fill the room with; and quicker than a door refuses.
        world.limits = Limits { calls_of_client_per_second: most as u64 + 10, ..Limits::default() };
    })
    .await;
    world.grant_all().await;
    let held = held(&disk);
    let (at, client) = (Arc::clone(&world.servers["portal"].server), world.raw().await);
    let mut crowd = Crowd { world: &world, at, waiting: JoinSet::new(), client };
    crowd.fill("Unary", most).await;
    // Its quota counts those that are refused for load too: at some time it is what stands against one more.
    soon(async {
        loop {
            let some = (0..200).map(|_| {
                let (mut client, request) = (crowd.client.clone(), world.post("Unary"));
                async move { client.call(request, raw::message(&said("one more"))).await }
            });
            let answers = join_all(some).await;
            assert!(answers.iter().all(|answer| answer.status() == 8));
            if answers.iter().any(|answer| answer.refusal() == Some("CALLED_TOO_OFTEN")) {
                break;
            }
        }
    })
    .await;
    drop(held);
    while soon(crowd.waiting.join_next()).await.is_some() {}
    world.quiet().await;
}

const OTHER: &str = "VN/GOV/portal/two-stops";
const OTHERS_TOKEN: &str = "another system's token, as long as one must be";

/// As it was, with one more system that has a token of its own.
async fn restart_with_another_client(world: &mut World) {
    let started = world.servers.remove("portal").unwrap();
    let address = started.peers;
    started.shutdown().await;
    let mut settings = world.settings("portal", TcpListener::bind(address).await.unwrap(), false).await;
    settings.clients.tokens.insert(Digest::of(&[OTHERS_TOKEN.as_bytes()]), OTHER.parse().unwrap());
    world.servers.insert("portal", security_server::start(settings).await.unwrap());
}

/// From now on nothing becomes durable on this disk, until what comes back is dropped.
fn held(disk: &Faulty) -> Sender<()> {
    let (held, until_dropped) = std::sync::mpsc::channel::<()>();
    let until_dropped = Mutex::new(until_dropped);
    disk.observe(move |operation, moment| {
        if matches!((operation, moment), (Operation::Sync(_), Moment::Before)) {
            let _ = until_dropped.lock().unwrap().recv();
        }
    });
    held
}

/// More than may be in hand, and less than one peer, client or service may have.
const SLOW: usize = MOST_IN_HAND + 50;

/// Beside what is slow, one call after another is answered, though more is under way than may be in hand.
async fn others_go_on(world: &World, provider: &str, beside: &[&'static str]) {
    let mut client = world.client_to(provider).await;
    for _ in 0..20 {
        assert_eq!(soon(client.unary(said("quick"))).await.unwrap().into_inner(), said("quick"));
    }
    for name in beside {
        let server = &world.servers[name].server;
        assert!(server.running() >= SLOW, "{name}");
        soon(async {
            while server.flow.in_hand() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// So many calls that nobody answers, at the pace at which this server takes them: as load comes that can be carried.
async fn slow_calls(world: &World, client: &mut raw::Client, method: &str, at: &str) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for number in 1..=SLOW {
        let (mut sender, response) = client.open(world.post(method));
        let _ = sender.send_data(raw::message(&said("slow"))).await;
        held.push(Box::new((sender, tokio::spawn(response))));
        soon(async {
            let server = &world.servers[at].server;
            while server.running() < number || server.flow.in_hand() >= LEAST_IN_HAND / 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_service_harms_its_own_calls_only() {
    let world = World::new().await;
    let mut client = world.raw().await;
    let _held = slow_calls(&world, &mut client, "Hang", "moj").await;
    others_go_on(&world, "moj", &SERVERS).await;
    client.cut();
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_harms_its_own_calls_only() {
    let world = World::new().await;
    let mut client = world.raw().await;
    let mut unread = Vec::new();
    for _ in 0..SLOW {
        let (mut sender, response) = client.open(world.post("Both"));
        sender.send_data(raw::message(&Said { bytes: vec![7; 1024], ..said("unread") })).await.unwrap();
        // It is answered, and goes on, and nobody reads what it says.
        unread.push((sender, soon(response).await.unwrap()));
    }
    others_go_on(&world, "moj", &SERVERS).await;
    client.cut();
    drop(unread);
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_peer_harms_its_own_calls_only() {
    let mut line = None;
    let mut world = World::arranged(async |world| {
        let moj = &mut world.members.get_mut("moj").unwrap().document.servers[0];
        let tap = Tap::before(moj.address.parse().unwrap()).await;
        moj.address = tap.address.to_string();
        line = Some(tap);
    })
    .await;
    world.grant_all().await;
    world.enroll("tax", "register").await;
    world.grant_to("tax").await;
    let (line, mut client) = (line.unwrap(), world.raw().await);
    assert_eq!(soon(client.call(world.post("Unary"), raw::message(&said("first")))).await.status(), 0);
    world.quiet().await;
    line.hold_back(Toward::Target);
    let _held = slow_calls(&world, &mut client, "Unary", "portal").await;
    others_go_on(&world, "tax", &["portal"]).await;
    client.cut();
    line.let_on(Toward::Target);
    world.quiet().await;
}
