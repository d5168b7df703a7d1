//! A country's global configuration: what one change of it moves and costs, what a server needs to start from nothing, and
//! how long a change takes to reach everybody who watches. The registry is the real program over a journal of that many
//! members; the server is a process of its own, with the real store; a watcher is a connection that the registry pushes to.

mod parts;
pub(super) mod populate;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use central_registry::command::{Admin, AdminFile};
use proto::registration::Order;
use proto::wire::registry::command_result::Result as Answer;
use serde_json::{Value, json};
use tokio::process::Command;

use super::figures::{self, median, rounded};
use crate::processes::{Instance, Process, programs_stand_in};

pub use parts::{Part, run as play};

/// Connections that one process of watchers holds.
const WATCHERS_A_PROCESS: usize = 5_000;
/// How long a step may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What is measured of a country's configuration.
#[derive(clap::Args)]
pub struct Arguments {
    /// Members, each with a server of its own.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// Services, spread over the members. A member's document names one subsystem for each, under which it is asked for.
    #[arg(long, default_value_t = 100_000)]
    services: usize,
    /// Connections that watch while the changes are made.
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Changes of a member.
    #[arg(long, default_value_t = 10)]
    changes: usize,
    /// Where `central-registry` stands. It is built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Measures, and prints.
pub async fn run(arguments: Arguments, itself: PathBuf) {
    if let Some(programs) = arguments.programs.clone() {
        // They are started in directories of their own.
        programs_stand_in(programs.canonicalize().expect("--programs is a directory"));
    }
    let load_before = load();
    let instance = Instance::founded().await;
    eprintln!("{} members with {} services enter the journal", arguments.members, arguments.services);
    let began = Instant::now();
    let passphrase = populate::passphrase(&instance);
    let members = populate::populate(&instance, &passphrase, arguments.members, arguments.services).await;
    eprintln!("entered in {:.0?}", began.elapsed());

    let began = Instant::now();
    let mut registry = instance.start_registry(None);
    patiently(&mut registry, "listening ").await;
    let registry_start = milliseconds(began.elapsed());
    let fresh_memory = figures::resident_mb(registry.id());
    let file = instance.path("registry/admin-admin.toml");
    let profile = AdminFile::read(&file).unwrap();
    let admin = Admin {
        instance: profile.instance,
        registry: profile.registry,
        fingerprint: profile.fingerprint,
        key: keystore::open(&profile.key, &passphrase).unwrap(),
        clock: central_registry::system_clock(),
    };
    let public = size_of(&instance.path("registry/public"));

    // A server that starts from nothing.
    let at = [admin.registry.to_string(), admin.fingerprint.to_string()];
    let (anchor, store) = (instance.path("registry/anchor.json"), instance.path("store"));
    let mut server = part(&itself, "server", &at, &[&anchor, &store], None);
    let started = said(&mut server, "started").await;
    eprintln!("a server started from nothing: {started}");

    // Everybody watches.
    let began = Instant::now();
    let mut watchers = Vec::new();
    let mut left = arguments.watchers;
    while left > 0 {
        let count = left.min(WATCHERS_A_PROCESS);
        watchers.push(part(&itself, "watchers", &at, &[], Some(count)));
        left -= count;
    }
    for process in &mut watchers {
        said(process, "watching").await;
    }
    let connected = began.elapsed().as_secs_f64();
    eprintln!("{} watchers are connected after {connected:.0} s", arguments.watchers);
    let memory = figures::resident_mb(registry.id());

    // Changes, one after another, each until everybody has it.
    let mut rounds = Rounds::default();
    for round in 0..arguments.changes {
        let member = &members[round * 7919 % members.len()];
        let cpu = figures::cpu_us(registry.id());
        let asked = epoch_us();
        let Answer::Decided(decided) =
            admin.submit(&Order::Suspend(member.clone(), "a bench".parse().unwrap())).await.unwrap()
        else {
            panic!("a decision was expected")
        };
        let answered = epoch_us();
        let version = decided.version;
        let since = |at: &Value| at.as_f64().unwrap() / 1000.0 - asked as f64 / 1000.0;
        let applied = said_of(&mut server, "applied", version).await;
        let mut arrived = Vec::new();
        for process in &mut watchers {
            let told = said_of(process, "arrived", version).await;
            arrived.extend(told["at_us"].as_array().unwrap().iter().map(since));
        }
        rounds.publish_ms.push((answered - asked) as f64 / 1000.0);
        rounds.registry_cpu_ms.push((figures::cpu_us(registry.id()) - cpu) / 1000.0);
        rounds.bytes.push(applied["bytes"].as_f64().unwrap());
        rounds.apply_ms.push(applied["apply_ms"].as_f64().unwrap());
        rounds.in_force_ms.push(since(&applied["at_us"]));
        rounds.server_mb.push(applied["memory_mb"].as_f64().unwrap());
        arrived.sort_by(f64::total_cmp);
        if let Some(last) = arrived.len().checked_sub(1) {
            rounds.p50_ms.push(arrived[last / 2]);
            rounds.p99_ms.push(arrived[last * 99 / 100]);
            rounds.all_ms.push(arrived[last]);
        }
        eprintln!("version {version}: {:.0} ms to the answer", rounds.publish_ms[round]);
    }
    let serving = figures::resident_mb(registry.id());

    // The same server again, from what it has on its disk.
    server.kill().await;
    let mut server = part(&itself, "restart", &[], &[&store], None);
    let again = said(&mut server, "started").await;

    let of = |values: &[f64]| json!(rounded(median(values.to_vec())));
    let report = json!({
        "members": members.len(),
        "services": arguments.services,
        "watchers": arguments.watchers,
        "machine": {
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "load_before": load_before,
            "load_after": load(),
            "sync_us": rounded(figures::sync_us()),
        },
        "configuration": { "files": public.0, "bytes": public.1 },
        "registry": { "start_ms": registry_start, "memory_mb": rounded(fresh_memory) },
        "change": {
            "bytes": of(&rounds.bytes),
            "publish_ms": of(&rounds.publish_ms),
            "registry_cpu_ms": of(&rounds.registry_cpu_ms),
            "apply_ms": of(&rounds.apply_ms),
            "in_force_ms": of(&rounds.in_force_ms),
        },
        "server": {
            "from_nothing": started,
            "from_its_disk": again,
            "memory_after_changes_mb": rounds.server_mb.last(),
        },
        "fan_out": {
            "connected_s": rounded(connected),
            "p50_ms": of(&rounds.p50_ms),
            "p99_ms": of(&rounds.p99_ms),
            "all_ms": of(&rounds.all_ms),
            "registry_memory_connected_mb": rounded(memory),
            "registry_memory_serving_mb": rounded(serving),
        },
    });
    if arguments.json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
}

/// What the changes gave, one after another.
#[derive(Default)]
struct Rounds {
    bytes: Vec<f64>,
    publish_ms: Vec<f64>,
    registry_cpu_ms: Vec<f64>,
    apply_ms: Vec<f64>,
    in_force_ms: Vec<f64>,
    server_mb: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    all_ms: Vec<f64>,
}

fn part(itself: &Path, name: &str, words: &[String], paths: &[&Path], count: Option<usize>) -> Process {
    let mut command = Command::new(itself);
    command.args(["national-part", name]).args(words).args(paths).args(count.map(|count| count.to_string()));
    Process::start(command)
}

/// Waits for what a part tells under this name.
async fn said(process: &mut Process, name: &str) -> Value {
    told(process, name, |_| true).await
}

/// The same, of this version.
async fn said_of(process: &mut Process, name: &str, version: u64) -> Value {
    told(process, name, |told| told["version"] == version).await
}

async fn told(process: &mut Process, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let find = |line: &str| {
        let mut line: Value = serde_json::from_str(line).ok()?;
        let found = line.get_mut(name)?.take();
        is_it(&found).then_some(found)
    };
    process.says_within(PATIENCE, find).await
}

pub(super) async fn patiently(process: &mut Process, part: &str) {
    process.says_within(PATIENCE, |line| line.contains(part).then_some(())).await;
}

/// How many files, and how many bytes in them.
fn size_of(directory: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (more, of_them) =
            if entry.path().is_dir() { size_of(&entry.path()) } else { (1, entry.metadata().unwrap().len()) };
        files += more;
        bytes += of_them;
    }
    (files, bytes)
}

pub(super) fn milliseconds(took: Duration) -> f64 {
    rounded(took.as_secs_f64() * 1000.0)
}

/// Now, on the clock that all processes of the machine have.
pub(super) fn epoch_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// How busy the machine was in the last minute.
pub(super) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}
