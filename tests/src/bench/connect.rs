//! Many others: how long a server takes to be ready in a country of so many members, and what a call costs it when it calls many
//! peers, or serves many consumers' servers.
//!
//! The start is that of the real program, with a registry that has so many members. Peers and consumers are in one process with
//! the server that is measured: the curve over their number is what counts, not the figure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use proto::identifier::ExchangeId;
use security_server::access_rights::Proposal;
use serde_json::{Value, json};

use super::figures::{self, median, rounded};
use super::national::{patiently, populate};
use crate::echo::said;
use crate::processes::{Instance, Member, programs_stand_in};
use crate::raw;
use crate::rogue::{self, Rogue};
use crate::world::World;

/// What is measured of many others.
#[derive(clap::Args)]
pub struct Arguments {
    /// Members of the configuration with which a server starts.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// How often it starts.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Peers that one server calls at once, a row of the table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    peers: Vec<usize>,
    /// Consumers' servers that one provider's serves, a row for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    consumers: Vec<usize>,
    /// Calls to each peer, and of each consumer, that count; one more before them does not.
    #[arg(long, default_value_t = 10)]
    calls: usize,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Calls of consumers that are under way at once: no more than are in hand without a refusal.
const AT_ONCE: usize = 64;
/// How long a server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures, and prints.
pub async fn run(arguments: Arguments) {
    if let Some(programs) = arguments.programs.clone() {
        programs_stand_in(programs);
    }
    let start_ms = started(arguments.members, arguments.starts).await;
    let mut out = Vec::new();
    for peers in &arguments.peers {
        eprintln!("one server calls {peers} peers at once");
        out.push(calling(*peers, arguments.calls).await);
    }
    let mut served = Vec::new();
    for consumers in &arguments.consumers {
        eprintln!("one server serves {consumers} consumers' servers");
        served.push(serving(*consumers, arguments.calls).await);
    }
    let told = json!({
        "start": { "members": arguments.members, "ready_ms": start_ms },
        "calling": out,
        "serving": served,
        "machine": figures::machine(),
    });
    if arguments.json {
        println!("{told}");
    } else {
        print!("{}", as_table(&told));
    }
}

/// Milliseconds from the start of the program until it runs: the median. Its first start, which fetches, does not count.
async fn started(members: usize, starts: usize) -> f64 {
    let instance = Instance::founded().await;
    eprintln!("{members} members enter the journal");
    populate::populate(&instance, &populate::passphrase(&instance), members, members).await;
    let mut registry = instance.start_registry(None);
    patiently(&mut registry, "listening ").await;
    let member = Member::new("portal", "one-stop");
    instance.join(&member).await;
    member.configure(instance.directory.path(), &[]);
    let mut took = Vec::new();
    for start in 0..=starts {
        let began = Instant::now();
        let mut server = instance.start(&format!("security-server serve --log-format json --config {}", member.file()));
        server.says_within(PATIENCE, |line| line.contains("the security server runs").then_some(())).await;
        if start > 0 {
            took.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        server.stops().await;
    }
    rounded(median(took))
}

/// The portal calls so many peers at once, each a server of its own.
async fn calling(peers: usize, calls: usize) -> Value {
    let mut world = World::new().await;
    let names = named("peer", peers);
    for name in &names {
        world.enroll(name, "register").await;
        world.grant_to(name).await;
    }
    let client = world.raw().await;
    let once = async || {
        let each = names.iter().map(|name| {
            let subsystem = world.members[name].subsystem.as_str();
            let request = world.post_with("Unary", "causeway-service", Some(subsystem));
            let mut client = client.clone();
            async move {
                let began = Instant::now();
                let answer = client.call(request, raw::message(&said("to one of many"))).await;
                assert_eq!((answer.status(), answer.refusal()), (0, None));
                micros(began)
            }
        });
        join_all(each).await
    };
    // The first of each connects.
    once().await;
    let (began, used) = (Instant::now(), figures::own_cpu_us());
    let mut each = Vec::new();
    for _ in 0..calls {
        each.extend(once().await);
    }
    row("peers", peers, each, began, figures::own_cpu_us() - used)
}

/// The civil registry's server serves so many consumers' servers, each with a key and a connection of its own.
async fn serving(consumers: usize, calls: usize) -> Value {
    let mut world = World::without_grants().await;
    let names = named("consumer", consumers);
    world.register(&names, "system");
    for name in &names {
        let consumer = world.members[name].subsystem.clone();
        let methods = BTreeSet::from(["/echo.v1.Echo/Unary".to_owned()]);
        world.grant_as(Proposal { consumer, methods, ..world.proposal(&[]) }).await;
    }
    let mut sides = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let rogue = Rogue::of(&world, name);
        let client = rogue.connect(&world, "moj").await;
        sides.push((number as u64, *name, rogue, client));
    }
    let once = async |round: u64| {
        let each = sides.iter().map(|(number, name, rogue, client)| {
            let (world, mut client) = (&world, client.clone());
            async move {
                let mut opening = rogue.opening(world);
                let member = &world.members[name];
                opening.facts.route.consumer = member.subsystem.clone();
                opening.facts.route.consumer_server = member.server.clone();
                let id = [number.to_be_bytes(), round.to_be_bytes()].concat();
                opening.facts.exchange = ExchangeId::from_bytes(id.try_into().unwrap());
                let frame = rogue.seal(opening).await;
                let began = Instant::now();
                let answer = rogue::say(&mut client, &frame).await;
                assert_eq!(answer.refusal(), None);
                assert!(!rogue::frames(&answer).is_empty(), "it is answered");
                micros(began)
            }
        });
        stream::iter(each).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await
    };
    once(0).await;
    let (began, used) = (Instant::now(), figures::own_cpu_us());
    let mut each = Vec::new();
    for round in 1..=calls as u64 {
        each.extend(once(round).await);
    }
    row("consumers", consumers, each, began, figures::own_cpu_us() - used)
}

/// Names that last as long as this program does.
fn named(what: &str, count: usize) -> Vec<&'static str> {
    (1..=count).map(|number| &*format!("{what}-{number:04}").leak()).collect()
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

fn row(of: &str, count: usize, mut each: Vec<f64>, began: Instant, cpu_us: f64) -> Value {
    let took = began.elapsed().as_secs_f64();
    each.sort_by(f64::total_cmp);
    let at = |share: usize| each.len().checked_sub(1).map(|last| each[last * share / 100].round());
    json!({
        of: count,
        "calls_per_second": rounded(each.len() as f64 / took),
        "p50_us": at(50),
        "p99_us": at(99),
        "cpu_us_per_call": rounded(cpu_us / each.len().max(1) as f64),
    })
}

fn as_table(told: &Value) -> String {
    let mut table = format!(
        "ready after {} ms with {} members; CPU: of the whole process, both sides\n{:<20} {:>8} {:>9} {:>9} {:>9}\n",
        told["start"]["ready_ms"], told["start"]["members"], "one server", "calls/s", "p50 us", "p99 us", "CPU us"
    );
    for (rows, verb, of) in [("calling", "calls", "peers"), ("serving", "serves", "consumers")] {
        for row in told[rows].as_array().into_iter().flatten() {
            let what = format!("{verb} {} {of}", row[of]);
            let of = |name: &str| row[name].to_string();
            table += &format!(
                "{what:<20} {:>8} {:>9} {:>9} {:>9}\n",
                of("calls_per_second"),
                of("p50_us"),
                of("p99_us"),
                of("cpu_us_per_call")
            );
        }
    }
    table
}
