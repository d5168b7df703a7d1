//! Who plays: a registry, three members' servers and services, a client for each edge, all processes; a tap in every line
//! between two of them; and what can befall each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::chance::Chance;
use super::ledger::Ledger;
use super::load::Caller;
use super::schedule::{Between, EDGES, Fault, MEMBERS, Round, What, Who};
use crate::processes::{Instance, Member, Process, reserved};
use crate::tap::{Tap, Toward, Weather};

/// After the last fault of a round is over, a call of each edge is answered within this time.
pub const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
/// A server that is told to stop has ended within this time: twice what it gives to its exchanges, and some.
const STOPS_WITHIN: Duration = Duration::from_secs(90);
/// The deadline of a call that asks whether all is well again.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// Numbers of calls: of which edge they are stands in the highest byte, and whether they are probes.
const EDGE_BITS: u32 = 56;
const PROBE: u64 = 0x80;
/// Which start of the client they are of.
const START_BITS: u32 = 36;

/// See the module.
pub struct Stage {
    pub instance: Instance,
    pub members: Vec<Member>,
    services: Vec<SocketAddr>,
    lines: BTreeMap<Between, Tap>,
    slots: BTreeMap<Who, Mutex<Slot>>,
    /// The program of clients and services.
    itself: PathBuf,
    seed: u64,
    probes: Vec<(Arc<Ledger>, Arc<AtomicU64>)>,
}

#[derive(Default)]
struct Slot {
    process: Option<Process>,
    starts: u64,
}

/// How big a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub resident_kib: u64,
    pub threads: u64,
    pub descriptors: u64,
}

impl Stage {
    /// Everybody is there but the clients: joined, granted, served, and a call of each edge was answered.
    pub async fn set(seed: u64, itself: PathBuf) -> Self {
        let mut instance = Instance::founded().await;
        // What happened stays to be looked at, unless all was well.
        instance.directory.disable_cleanup(true);
        for directory in ["notes", "ledgers"] {
            std::fs::create_dir(instance.path(directory)).unwrap();
        }
        let mut lines = BTreeMap::new();
        let (mut members, mut services) = (Vec::new(), Vec::new());
        for (at, name) in MEMBERS.into_iter().enumerate() {
            let mut member = Member::new(name, "echo");
            let service = reserved();
            for (between, target) in [
                (Between::Clients(at), member.clients),
                (Between::Peers(at), member.peers),
                (Between::Service(at), service),
                (Between::Registry(at), instance.registry()),
            ] {
                lines.insert(between, Tap::before(target).await);
            }
            member.registered = lines[&Between::Peers(at)].address;
            member.registry = Some(lines[&Between::Registry(at)].address);
            members.push(member);
            services.push(service);
        }
        let everybody = [Who::Registry]
            .into_iter()
            .chain((0..MEMBERS.len()).flat_map(|member| [Who::Service(member), Who::Server(member)]))
            .chain((0..EDGES.len()).map(Who::Client));
        let slots = everybody.map(|who| (who, Mutex::default())).collect();
        let probes = (0..EDGES.len())
            .map(|edge| {
                let ledger = Ledger::append(&instance.path(&format!("ledgers/probe-{edge}")));
                (Arc::new(ledger), Arc::new(AtomicU64::new((PROBE | edge as u64) << EDGE_BITS)))
            })
            .collect();
        let stage = Self { instance, members, services, lines, slots, itself, seed, probes };

        stage.start(Who::Registry).await;
        for (at, member) in stage.members.iter().enumerate() {
            stage.instance.join(member).await;
            let service = stage.lines[&Between::Service(at)].address;
            member.configure(stage.instance.directory.path(), &[("echo.v1.Echo", service)]);
            stage.start(Who::Service(at)).await;
            stage.start(Who::Server(at)).await;
        }
        for (consumer, provider) in EDGES {
            let methods = ["/echo.v1.Echo/Unary", "/echo.v1.Echo/Fail", "/echo.v1.Echo/Both"];
            stage.instance.grant(&stage.members[consumer], &stage.members[provider], &methods).await;
        }
        stage
    }

    /// The edge of a call with this number.
    pub fn edge_of(number: u64) -> usize {
        usize::try_from((number >> EDGE_BITS) & !PROBE).unwrap()
    }

    /// The clients' ledgers and the probes'.
    pub fn askers(&self) -> Vec<PathBuf> {
        let names =
            (0..EDGES.len()).flat_map(|edge| [format!("ledgers/client-{edge}"), format!("ledgers/probe-{edge}")]);
        names.map(|name| self.instance.path(&name)).collect()
    }

    /// A service's ledger.
    pub fn carrier(&self, member: usize) -> PathBuf {
        self.instance.path(&format!("ledgers/service-{}", MEMBERS[member]))
    }

    /// What the processes said.
    pub fn notes(&self) -> PathBuf {
        self.instance.path("notes")
    }

    // ---- processes

    /// Starts it and waits until it is there.
    pub async fn start(&self, who: Who) {
        let mut slot = self.slots[&who].lock().await;
        let process = self.begin(who, slot.starts);
        slot.starts += 1;
        slot.process = Some(self.until_there(who, process).await);
    }

    fn begin(&self, who: Who, starts: u64) -> Process {
        let notes = self.notes().join(who.to_string().replace(' ', "-"));
        match who {
            Who::Registry => self.instance.start_registry(Some(&notes)),
            Who::Server(member) => {
                let command = self.instance.server_command(&self.members[member]);
                Process::start_noting(told_of_full_disks(&command), Some(&notes))
            }
            Who::Service(member) => {
                let mut command = Command::new(&self.itself);
                command.args(["service", "--listen", &self.services[member].to_string(), "--ledger"]);
                command.arg(self.carrier(member));
                Process::start_noting(command, Some(&notes))
            }
            Who::Client(edge) => {
                let (consumer, provider) = EDGES[edge];
                let first = (edge as u64) << EDGE_BITS | starts << START_BITS;
                let mut command = Command::new(&self.itself);
                command.args(["client", "--door", &self.lines[&Between::Clients(consumer)].address.to_string()]);
                command.args(["--provider", &self.members[provider].subsystem, "--first", &first.to_string()]);
                command.args(["--seed", &self.seed.to_string(), "--ledger"]);
                command.arg(self.instance.path(&format!("ledgers/client-{edge}")));
                Process::start_noting(command, Some(&notes))
            }
        }
    }

    async fn until_there(&self, who: Who, mut process: Process) -> Process {
        match who {
            Who::Registry => self.instance.until_registry_serves(&mut process).await,
            Who::Server(member) => self.instance.until_serves(&mut process, &self.members[member]).await,
            Who::Service(_) => _ = process.says_that("serves").await,
            Who::Client(_) => _ = process.says_that("calls").await,
        }
        process.listen_no_more();
        process
    }

    /// Those that ended, though nobody ended them.
    pub async fn gone(&self) -> Vec<String> {
        let mut gone = Vec::new();
        for (who, slot) in &self.slots {
            let ended = slot.lock().await.process.as_mut().and_then(Process::has_ended);
            gone.extend(ended.map(|how| format!("{who} ended by itself: {how}")));
        }
        gone
    }

    /// How big each server and the registry are.
    pub async fn sizes(&self) -> BTreeMap<Who, Size> {
        let mut sizes = BTreeMap::new();
        for (who, slot) in self.slots.iter().filter(|(who, _)| matches!(who, Who::Server(_) | Who::Registry)) {
            if let Some(process) = &slot.lock().await.process {
                sizes.insert(*who, Size::of(process.id()));
            }
        }
        sizes
    }

    /// The clients make no more calls, and have ended.
    pub async fn stop_clients(&self) -> Vec<String> {
        let mut found = Vec::new();
        for edge in 0..EDGES.len() {
            found.extend(self.stop(Who::Client(edge)).await);
        }
        found
    }

    /// Everything else stops, the services last.
    pub async fn stop_all(&self) -> Vec<String> {
        let mut found = Vec::new();
        let servers = (0..MEMBERS.len()).map(Who::Server);
        for who in servers.chain([Who::Registry]).chain((0..MEMBERS.len()).map(Who::Service)) {
            found.extend(self.stop(who).await);
        }
        found
    }

    /// As it is stopped by who runs it: a server by SIGTERM, one of ours by the end of its input. What was wrong.
    async fn stop(&self, who: Who) -> Option<String> {
        let mut process = self.slots[&who].lock().await.process.take().expect("it was started");
        if let Some(how) = process.has_ended() {
            return Some(format!("{who} ended by itself: {how}"));
        }
        match who {
            Who::Registry | Who::Server(_) => process.terminate().await,
            Who::Service(_) | Who::Client(_) => drop(process.input()),
        }
        match until_ended(&mut process).await {
            Some(how) if how.success() => None,
            Some(how) => Some(format!("{who} was told to stop, and ended with {how}")),
            None => Some(format!("{who} was told to stop, and still runs after {STOPS_WITHIN:?}")),
        }
    }

    // ---- faults

    /// Lets the round's faults befall, and returns when all are over and everybody is there again.
    pub async fn befall(self: &Arc<Self>, round: &Round) -> Vec<String> {
        let began = tokio::time::Instant::now();
        let mut faults = tokio::task::JoinSet::new();
        for fault in round.faults.clone() {
            let stage = Arc::clone(self);
            faults.spawn(async move {
                // The moments are the schedule's: nothing is waited for.
                tokio::time::sleep_until(began + fault.at).await;
                stage.befall_one(&fault).await
            });
        }
        faults.join_all().await.into_iter().flatten().collect()
    }

    async fn befall_one(&self, Fault { lasting, what, .. }: &Fault) -> Option<String> {
        let over = tokio::time::sleep(*lasting);
        match what {
            What::Killed(who, again) => {
                let mut slot = self.slots[who].lock().await;
                let mut process = slot.process.take().expect("it was started");
                if let Some(how) = process.has_ended() {
                    slot.process = Some(process);
                    return Some(format!("{who} ended by itself: {how}"));
                }
                process.kill().await;
                over.await;
                for after in again {
                    let mut process = self.begin(*who, slot.starts);
                    slot.starts += 1;
                    tokio::time::sleep(*after).await;
                    if let Some(how) = process.has_ended() {
                        return Some(format!("{who} ended by itself while it started: {how}"));
                    }
                    process.kill().await;
                }
                drop(slot);
                self.start(*who).await;
                None
            }
            What::Stopped(who) => {
                let mut slot = self.slots[who].lock().await;
                let process = slot.process.as_mut().expect("it was started");
                if let Some(how) = process.has_ended() {
                    return Some(format!("{who} ended by itself: {how}"));
                }
                process.signal("STOP").await;
                over.await;
                process.signal("CONT").await;
                None
            }
            What::Full(member, room) => {
                let who = Who::Server(*member);
                let longest = self.longest_file(*member);
                let process = self.slots[&who].lock().await.process.as_ref().expect("it was started").id();
                limit_files(process, &(longest + room).to_string()).await;
                over.await;
                // The limit is the process's own: the next start has none.
                let found = self.stop(who).await;
                self.start(who).await;
                found
            }
            What::Line(between, out, back) => {
                let line = &self.lines[between];
                for (toward, weather) in [(Toward::Target, *out), (Toward::Origin, *back)] {
                    line.befall(toward, weather);
                }
                over.await;
                for toward in [Toward::Target, Toward::Origin] {
                    line.befall(toward, Weather::Fair);
                }
                None
            }
        }
    }

    /// Of a server's message log: the one that it writes into is its last.
    fn longest_file(&self, member: usize) -> u64 {
        let log = self.instance.path(MEMBERS[member]).join("message-log");
        let segments = std::fs::read_dir(log).unwrap().map(|file| file.unwrap());
        let last = segments.filter(|file| file.path().extension().is_some()).max_by_key(|file| file.file_name());
        last.map_or(0, |file| file.metadata().map_or(0, |metadata| metadata.len()))
    }

    // ---- recovery

    /// Waits until a call of each edge is answered: how long the slowest took, and which were not.
    pub async fn recover(self: &Arc<Self>) -> (Duration, Vec<String>) {
        let mut edges = tokio::task::JoinSet::new();
        for edge in 0..EDGES.len() {
            let stage = Arc::clone(self);
            edges.spawn(async move { stage.until_answered(edge).await });
        }
        let (mut slowest, mut found) = (Duration::ZERO, Vec::new());
        for outcome in edges.join_all().await {
            match outcome {
                Ok(took) => slowest = slowest.max(took),
                Err(why) => found.push(why),
            }
        }
        (slowest, found)
    }

    async fn until_answered(&self, edge: usize) -> Result<Duration, String> {
        let began = Instant::now();
        let (consumer, provider) = EDGES[edge];
        let (ledger, next) = &self.probes[edge];
        let door = self.lines[&Between::Clients(consumer)].address;
        let mut tries = 0;
        while began.elapsed() < RECOVERS_WITHIN {
            // A connection of its own each time, as a client has that was just started.
            let mut caller = Caller::new(
                door,
                &self.members[provider].subsystem,
                Arc::clone(ledger),
                Arc::clone(next),
                Chance::of(&[self.seed, edge as u64]),
            );
            if caller.asks(PROBE_DEADLINE).await {
                return Ok(began.elapsed());
            }
            tries += 1;
        }
        let (consumer, provider) = (MEMBERS[consumer], MEMBERS[provider]);
        Err(format!("no call of {consumer} to {provider} was answered within {RECOVERS_WITHIN:?}, of {tries} tries"))
    }

    /// The version of the configuration that the registry published last.
    pub fn published(&self) -> u64 {
        let timestamp = std::fs::read(self.instance.path("registry/public/timestamp.json")).unwrap();
        serde_json::from_slice::<Value>(&timestamp).unwrap()["signed"]["version"].as_u64().unwrap()
    }

    /// What a server's operator sees.
    pub async fn status(&self, member: usize) -> Value {
        let line = format!("security-server status --json --config {}", self.members[member].file());
        self.instance.run(&line).await.json()
    }
}

impl Size {
    fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let told = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        Self { resident_kib: told("VmRSS:"), threads: told("Threads:"), descriptors: descriptors as u64 }
    }
}

async fn until_ended(process: &mut Process) -> Option<ExitStatus> {
    tokio::time::timeout(STOPS_WITHIN, process.until_ended()).await.ok()
}

/// The same command, with a write beyond a limit failing where it would end the process.
fn told_of_full_disks(command: &Command) -> Command {
    let command = command.as_std();
    let mut told = Command::new("env");
    told.arg("--ignore-signal=XFSZ").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => told.env(name, value),
            None => told.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        told.current_dir(directory);
    }
    told
}

/// No file of this process grows beyond so many bytes.
async fn limit_files(process: u32, bytes: &str) {
    let limited =
        Command::new("prlimit").args(["--pid", &process.to_string(), &format!("--fsize={bytes}:")]).status().await;
    assert!(limited.as_ref().is_ok_and(ExitStatus::success), "prlimit (util-linux) is not here: {limited:?}");
}

/// Takes away all that was left.
pub fn forget(directory: &Path) {
    std::fs::remove_dir_all(directory).unwrap();
}
