//! Real processes in trouble: a registry, three members' security servers, their services and clients, with a tap in every
//! line between two of them, and faults drawn from a seed: kills, stops, full disks, and the weather on the lines. Clients
//! and services keep ledgers that no fault touches. When all is healed, the invariants are asked of ledgers and logs.
//!
//! The seed draws the faults, where and when, and nothing else: two runs of one seed have the same schedule, and their
//! processes are in other moments of their work when it befalls them.

pub mod admin;
pub mod chance;
pub mod check;
pub mod ledger;
pub mod load;
pub mod schedule;
pub mod stage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::chance::Chance;
use self::check::Ledgers;
use self::schedule::{EDGES, MEMBERS, Round, Who};
use self::stage::{Size, Stage};

/// Calls whose evidence is fetched from both servers and verified offline, in each minute of the run.
const PROVED_PER_MINUTE: u64 = 4;
/// And in all.
const MOST_PROVED: u64 = 60;
/// What nothing runs on is quiet within this time.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// What is to be run.
pub struct Options {
    /// What the faults are drawn from.
    pub seed: u64,
    /// Rounds begin as long as no more than this is over.
    pub lasting: Duration,
    /// The program whose `client` and `service` are the load.
    pub itself: PathBuf,
}

/// Runs rounds of faults: what was found that must not be. It prints what it does.
pub async fn run(options: Options) -> Vec<String> {
    let began = Instant::now();
    let stage = Arc::new(Stage::set(options.seed, options.itself).await);
    let directory = stage.instance.directory.path().to_owned();
    println!("all of it stands in {}", directory.display());
    let (_, mut found) = stage.recover().await;
    let before = stage.sizes().await;
    for edge in 0..EDGES.len() {
        stage.start(Who::Client(edge)).await;
    }
    println!("set in {:.1?}; {}", began.elapsed(), sizes(&before));
    let admins_stop = CancellationToken::new();
    let admins = admin::work(Arc::clone(&stage), Chance::of(&[options.seed, 1]), admins_stop.clone());
    let admins = tokio::spawn(admins);

    let rounds_began = Instant::now();
    let (mut number, mut slowest, mut biggest) = (0, Duration::ZERO, before.clone());
    while found.is_empty() && rounds_began.elapsed() < options.lasting {
        let round = Round::drawn(options.seed, number);
        println!("{round}");
        found.extend(stage.befall(&round).await);
        let (took, unanswered) = stage.recover().await;
        found.extend(unanswered);
        found.extend(stage.gone().await);
        let now = stage.sizes().await;
        found.extend(check::too_big(&now));
        println!("  {:.0?} s: answered again after {took:.1?}; {}", rounds_began.elapsed().as_secs_f64(), sizes(&now));
        for (who, now) in now {
            let biggest = biggest.entry(who).or_insert(now);
            biggest.resident_kib = biggest.resident_kib.max(now.resident_kib);
        }
        slowest = slowest.max(took);
        number += 1;
    }
    let lasted = rounds_began.elapsed();

    admins_stop.cancel();
    let sure = admins.await.unwrap();
    if found.is_empty() {
        found.extend(stage.stop_clients().await);
        found.extend(quiet(&stage, &before).await);
        let proved = (PROVED_PER_MINUTE * (1 + lasted.as_secs() / 60)).min(MOST_PROVED);
        found.extend(prove(&stage, Chance::of(&[options.seed]), proved).await);
        found.extend(stage.stop_all().await);
        let ledgers = Ledgers::read(&stage);
        println!("{}", ledgers.summary());
        println!("{}", sure.summary());
        found.extend(ledgers.found(&sure));
        found.extend(sure.forgotten(&stage.instance.path("registry/journal")));
        let (summary, in_logs) = check::logs(&stage, &ledgers);
        println!("{summary}; {proved} of those answered were proved at both servers");
        found.extend(in_logs);
    }
    found.extend(check::words(&stage));
    println!(
        "{number} rounds in {lasted:.0?}; answered again after {slowest:.1?} at most; at their biggest: {}",
        sizes(&biggest)
    );
    if found.is_empty() {
        stage::forget(&directory);
    }
    found
}

/// Waits until nothing runs on any server, each is as small again as it was, and has the configuration that is published.
async fn quiet(stage: &Stage, before: &BTreeMap<Who, Size>) -> Vec<String> {
    let began = Instant::now();
    loop {
        let mut found = check::leaks(&stage.sizes().await, before);
        let published = stage.published();
        for (member, name) in MEMBERS.iter().enumerate() {
            let status = stage.status(member).await;
            if status["running"] != 0 {
                found.push(format!("exchanges still run on {name}'s server: {status}"));
            }
            if status["health"]["configuration_version"].as_u64() < Some(published) {
                found.push(format!("{name}'s server has not version {published} of the configuration: {status}"));
            }
        }
        if found.is_empty() || began.elapsed() > QUIET_WITHIN {
            println!("quiet after {:.1?}", began.elapsed());
            return found;
        }
    }
}

/// Evidence of some answered calls, from both servers, verified with nothing but the anchor.
async fn prove(stage: &Stage, mut chance: Chance, count: u64) -> Vec<String> {
    let ledgers = Ledgers::read(stage);
    let mut answered: Vec<_> = ledgers.answered().collect();
    answered.sort_by_key(|(number, ..)| *number);
    let mut found = Vec::new();
    if answered.is_empty() {
        found.push("no call was answered at all".to_owned());
        return found;
    }
    for _ in 0..count {
        let at = usize::try_from(chance.below(answered.len() as u64)).unwrap();
        let (number, exchange, _) = answered[at];
        let (consumer, provider) = EDGES[Stage::edge_of(number)];
        for member in [consumer, provider].map(|member| &stage.members[member]) {
            let line = format!("security-server evidence get {exchange} --config {}", member.file());
            let evidence = stage.instance.run(&line).await;
            std::fs::write(stage.instance.path("evidence.json"), &evidence.out).unwrap();
            let line = "security-server evidence verify evidence.json --anchor registry/anchor.json";
            let verified = stage.instance.run(line).await;
            if (evidence.code, verified.code) != (Some(0), Some(0)) {
                found.push(format!("{exchange} is not proved at {}: {evidence:?}, {verified:?}", member.name));
            }
        }
    }
    found
}

fn sizes(sizes: &BTreeMap<Who, Size>) -> String {
    let sizes: Vec<_> = sizes
        .iter()
        .map(|(who, Size { resident_kib, threads, descriptors })| {
            format!("{who} {} MiB, {threads} threads, {descriptors} fds", resident_kib / 1024)
        })
        .collect();
    sizes.join("; ")
}
