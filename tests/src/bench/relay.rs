//! Unary calls through each stack: how many, how fast, at what cost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use super::figures::{self, Row, medians, ratio, rounded};
use super::load::{Answered, Asked, Door, load};
use super::service::LISTENING;
use super::stacks::{Counts, HOPS, Stack};
use crate::processes::{Process, programs_stand_in};

/// What is measured of relaying.
#[derive(clap::Args)]
pub struct Arguments {
    /// Callers at once, a row of the table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    at_once: Vec<usize>,
    /// How often each stack has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that are counted of each turn.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of each message, both ways.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Begins so many calls a second, whether those before were answered or not, instead of asking again when answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Only these of causeway, nginx, haproxy and straight (no hop at all).
    #[arg(long, value_delimiter = ',', default_value = "causeway,nginx,haproxy")]
    stacks: Vec<String>,
    /// Host and port of the client door of a real pair of servers, to be measured instead; `bench service` serves behind it.
    #[arg(long, requires = "service")]
    door: Option<SocketAddr>,
    /// The subsystem that the real pair's provider is.
    #[arg(long)]
    service: Option<String>,
    /// The purpose that it grants.
    #[arg(long, default_value = "birth-registration")]
    purpose: String,
    /// The token that its client door asks for, if it does.
    #[arg(long)]
    token: Option<String>,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What stands between, or nothing.
enum Between {
    Stack(Box<Stack>),
    Nothing(&'static str, Door),
}

impl Between {
    fn name(&self) -> &'static str {
        match self {
            Self::Stack(stack) => stack.name,
            Self::Nothing(name, _) => name,
        }
    }

    fn door(&self) -> &Door {
        match self {
            Self::Stack(stack) => &stack.door,
            Self::Nothing(_, door) => door,
        }
    }
}

/// All rounds of each stack, by callers at once and by stack.
type Rounds = BTreeMap<usize, Vec<(&'static str, Vec<Row>)>>;

/// Measures, and prints.
pub async fn run(arguments: Arguments, itself: PathBuf) {
    let (mut between, mut service) = (Vec::new(), None);
    if let Some(programs) = arguments.programs.clone() {
        programs_stand_in(programs);
    }
    if let Some(address) = arguments.door {
        let mut fields = vec![("causeway-purpose", arguments.purpose.clone())];
        fields.extend(arguments.service.clone().map(|service| ("causeway-service", service)));
        fields.extend(arguments.token.clone().map(|token| ("causeway-token", token)));
        between.push(Between::Nothing("causeway", Door { address, fields }));
    } else {
        let (process, address) = served_by(itself).await;
        service = Some(process);
        for name in &arguments.stacks {
            if name == "straight" {
                between.push(Between::Nothing("straight", Door { address, fields: Vec::new() }));
            } else if let Some(stack) = Stack::named(name, address).await {
                between.push(Between::Stack(Box::new(stack)));
            }
        }
    }
    let mut rounds = Rounds::new();
    for at_once in &arguments.at_once {
        let rows = rounds.entry(*at_once).or_default();
        rows.extend(between.iter().map(|between| (between.name(), Vec::new())));
        for round in 1..=arguments.rounds {
            for (between, (name, of_stack)) in between.iter().zip(rows.iter_mut()) {
                eprintln!("{at_once} at once, round {round} of {}: {name}", arguments.rounds);
                of_stack.push(turn(between, service.as_ref(), &arguments, *at_once).await);
            }
        }
    }
    let sync_us = figures::sync_us();
    if arguments.json {
        println!("{}", as_json(&rounds, sync_us));
    } else {
        print!("{}", as_table(&rounds, sync_us));
    }
}

/// The service, in a process of its own.
pub(super) async fn served_by(itself: PathBuf) -> (Process, SocketAddr) {
    let mut command = Command::new(itself);
    command.args(["service", "--listen", "127.0.0.1:0"]);
    let mut process = Process::start(command);
    let address = process.says(|line| line.strip_prefix(LISTENING)?.parse().ok()).await;
    (process, address)
}

/// What is read when counting begins and again when it stops.
struct Reading {
    cpu: [f64; 2],
    service: f64,
    load: f64,
    machine: f64,
    counts: Option<[Counts; 2]>,
}

impl Reading {
    fn of(between: &Between, service: Option<&Process>) -> Self {
        let (cpu, counts) = match between {
            Between::Stack(stack) => (stack.processes().map(figures::cpu_us), stack.counts()),
            Between::Nothing(..) => ([0.0; 2], None),
        };
        let service = service.map_or(0.0, |service| figures::cpu_us(service.id()));
        // The children are the stacks: they are not the load's.
        let load = figures::own_cpu_us();
        Self { cpu, service, load, machine: figures::machine_us(), counts }
    }
}

async fn turn(between: &Between, service: Option<&Process>, arguments: &Arguments, at_once: usize) -> Row {
    let lasting = Duration::from_secs_f64(arguments.seconds);
    let asked = Asked { at_once, rate: arguments.rate, bytes: arguments.bytes, warm: lasting.div_f64(5.0), lasting };
    let mut readings = Vec::new();
    let answered = load(between.door(), asked, || readings.push(Reading::of(between, service))).await;
    let [before, after] = readings.try_into().ok().expect("it counts once");
    row(between, &answered, &before, &after)
}

fn row(between: &Between, answered: &Answered, before: &Reading, after: &Reading) -> Row {
    let calls = answered.each.len() as f64;
    assert!(calls > 0.0, "no call was answered");
    let at = |share: usize| f64::from(answered.each[(answered.each.len() - 1) * share / 100]);
    let mut row = Row::from([
        ("calls_per_second", calls / answered.took.as_secs_f64()),
        ("p50_us", at(50)),
        ("p99_us", at(99)),
        ("refused", answered.refused.len() as f64),
        ("cpu_us_load", (after.load - before.load) / calls),
    ]);
    let Between::Stack(stack) = between else { return row };
    let used = |hop: usize| (after.cpu[hop] - before.cpu[hop]) / calls;
    row.extend([
        ("cpu_per_call", used(0) + used(1)),
        ("cpu_us_consumer", used(0)),
        ("cpu_us_provider", used(1)),
        ("cpu_us_service", (after.service - before.service) / calls),
        ("cpu_us_machine", (after.machine - before.machine) / calls),
    ]);
    let [consumer, provider] = stack.processes().map(figures::resident_mb);
    row.extend([("mb_consumer", consumer), ("mb_provider", provider)]);
    if let (Some(before), Some(after)) = (&before.counts, &after.counts) {
        let names = [
            ("commits_per_call_consumer", "records_per_commit_consumer", "heads_per_call_consumer"),
            ("commits_per_call_provider", "records_per_commit_provider", "heads_per_call_provider"),
        ];
        for (hop, (commits_per_call, records_per_commit, heads_per_call)) in names.into_iter().enumerate() {
            let grown = |name: &str| {
                let of = |counts: &Counts| counts.iter().find(|(is, _)| is.starts_with(name)).map_or(0.0, |it| *it.1);
                of(&after[hop]) - of(&before[hop])
            };
            let commits = grown("causeway_log_syncs_total");
            row.insert(commits_per_call, commits / calls);
            row.insert(records_per_commit, grown("causeway_log_records_total") / commits);
            row.insert(heads_per_call, grown("causeway_log_heads_signed_total") / calls);
        }
    }
    row
}

/// A stack's rounds, if it was measured.
fn of<'r>(rows: &'r [(&'static str, Vec<Row>)], name: &str) -> Option<&'r [Row]> {
    rows.iter().find(|(is, _)| *is == name).map(|(_, rows)| rows.as_slice())
}

fn as_json(rounds: &Rounds, sync_us: f64) -> Value {
    let (mut ratios, mut of_all) = (serde_json::Map::new(), serde_json::Map::new());
    for (at_once, rows) in rounds {
        let stacks = rows.iter().map(|(name, rows)| {
            let row = medians(rows).into_iter().map(|(name, value)| (name.to_owned(), json!(rounded(value))));
            ((*name).to_owned(), Value::Object(row.collect()))
        });
        of_all.insert(at_once.to_string(), Value::Object(stacks.collect()));
        if let (Some(ours), Some(theirs)) = (of(rows, "causeway"), of(rows, "nginx")) {
            let compared = ["calls_per_second", "cpu_per_call", "p50_us", "p99_us"];
            let compared = compared.map(|name| (name.to_owned(), json!(rounded(ratio(ours, theirs, name)))));
            ratios.insert(at_once.to_string(), Value::Object(compared.into_iter().collect()));
        }
    }
    let mut machine = figures::machine();
    machine["sync_us"] = json!(rounded(sync_us));
    json!({ "ratios": ratios, "figures": of_all, "machine": machine })
}

/// Columns: heading, name of the figure, width.
const COLUMNS: [(&str, &str, usize); 16] = [
    ("calls/s", "calls_per_second", 8),
    ("p50 us", "p50_us", 7),
    ("p99 us", "p99_us", 7),
    ("CPU us", "cpu_per_call", 7),
    ("cons.", "cpu_us_consumer", 6),
    ("prov.", "cpu_us_provider", 6),
    ("serv.", "cpu_us_service", 6),
    ("load", "cpu_us_load", 5),
    ("all", "cpu_us_machine", 6),
    ("MB c.", "mb_consumer", 6),
    ("MB p.", "mb_provider", 6),
    ("syncs c.", "commits_per_call_consumer", 9),
    ("syncs p.", "commits_per_call_provider", 9),
    ("rec. c.", "records_per_commit_consumer", 8),
    ("rec. p.", "records_per_commit_provider", 8),
    ("refused", "refused", 8),
];

fn as_table(rounds: &Rounds, sync_us: f64) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut table = format!(
        "{cores} cores; a write and sync of 4 KiB takes {sync_us:.0} us. CPU, syncs: per call; CPU us: both hops; rec.: \
         records per sync; all: the whole machine. {} and {} are the hops.\n{:>5} {:<9}",
        HOPS[0], HOPS[1], "calls", "stack"
    );
    table.extend(COLUMNS.map(|(heading, _, width)| format!(" {heading:>width$}")));
    table += "   x calls/s    x CPU\n";
    for (at_once, rows) in rounds {
        for (name, of_stack) in rows {
            table += &format!("{at_once:>5} {name:<9}");
            let row = medians(of_stack);
            table.extend(COLUMNS.map(|(_, figure, width)| match row.get(figure) {
                Some(value) => format!(" {:>width$}", rounded(*value)),
                None => format!(" {:>width$}", ""),
            }));
            if let Some(theirs) = of(rows, "nginx").filter(|_| row.contains_key("cpu_per_call")) {
                let ratio = |name| ratio(of_stack, theirs, name);
                table += &format!("   {:>9.2} {:>8.2}", ratio("calls_per_second"), ratio("cpu_per_call"));
            }
            table.push('\n');
        }
    }
    table
}
