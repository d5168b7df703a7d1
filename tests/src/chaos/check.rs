//! What must be true when all is over, whatever befell: the invariants, asked of the ledgers, the logs and the processes'
//! own words. Each finding is a sentence.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use proto::message::End;

use super::admin::Sure;
use super::ledger::{Asked, Carried, Line};
use super::schedule::{EDGES, MEMBERS, Who};
use super::stage::{Size, Stage};
use crate::logs::{self, Log};

/// No server is ever bigger than this: idle, loaded or in trouble, built for tests.
pub const MOST_RESIDENT_KIB: u64 = 256 * 1024;
/// How many descriptors and threads more than at the beginning a server may have when nothing runs on it: connections that
/// are kept, and threads that wait for the next read of the disk.
const MORE_DESCRIPTORS: u64 = 16;
const MORE_THREADS: u64 = 16;

/// What all ledgers say.
pub struct Ledgers {
    asked: Vec<Asked>,
    carried: Vec<Carried>,
}

impl Ledgers {
    pub fn read(stage: &Stage) -> Self {
        let asked = stage.askers().iter().filter(|path| path.exists()).map(|path| Asked::read(path)).collect();
        let carried = (0..MEMBERS.len()).map(|member| Carried::read(&stage.carrier(member))).collect();
        Self { asked, carried }
    }

    /// Answered calls: number, exchange, and the line.
    pub fn answered(&self) -> impl Iterator<Item = (u64, &str, &Line)> {
        self.asked.iter().flat_map(|asked| &asked.answered).filter_map(|(number, line)| match line {
            Line::Answered { exchange, .. } => Some((*number, exchange.as_str(), line)),
            _ => None,
        })
    }

    /// How many calls were made, and why those that were not answered were not.
    pub fn summary(&self) -> String {
        let sent: usize = self.asked.iter().map(|asked| asked.sent.len()).sum();
        let mut by_kind: BTreeMap<&str, u64> = BTreeMap::new();
        let mut why: BTreeMap<&str, u64> = BTreeMap::new();
        for asked in &self.asked {
            for number in asked.answered.keys() {
                if let Some(Line::Sent { kind, .. }) = asked.sent.get(number) {
                    *by_kind.entry(kind).or_default() += 1;
                }
            }
            for line in asked.broken.values() {
                if let Line::Broken { why: reason, .. } = line {
                    *why.entry(reason).or_default() += 1;
                }
            }
        }
        let heard: usize = self.carried.iter().map(|carried| carried.heard.len()).sum();
        let why: String = why.iter().map(|(reason, count)| format!("\n  {count:6} {reason}")).collect();
        format!("{sent} calls asked, {heard} heard by a service, answered: {by_kind:?}; of the others:{why}")
    }

    /// I3, I4, I5, and what the clients and services found themselves.
    pub fn found(&self, sure: &Sure) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let wrong = self.asked.iter().flat_map(|asked| &asked.wrong);
        found.extend(
            wrong.chain(self.carried.iter().flat_map(|carried| &carried.wrong)).map(|line| format!("{line:?}")),
        );
        let sent: HashMap<u64, &Line> =
            self.asked.iter().flat_map(|asked| &asked.sent).map(|(number, line)| (*number, line)).collect();
        for (provider, carried) in self.carried.iter().enumerate() {
            for (number, heard) in &carried.heard {
                if heard.len() > 1 {
                    found.push(format!("call {number} was carried out {} times: {heard:?}", heard.len()));
                }
                for line in heard {
                    let sent = sent.get(number).copied();
                    found.extend(unasked(provider, *number, line, sent));
                    found.extend(ungranted(*number, line, sent, sure));
                }
            }
        }
        for (number, line) in self.asked.iter().flat_map(|asked| &asked.broken) {
            found.extend(refused_though_granted(*number, line, sent.get(number).copied(), sure));
        }
        for (number, _, line) in self.answered() {
            let (_, provider) = EDGES[Stage::edge_of(number)];
            let carried = &self.carried[provider];
            found.extend(not_as_said(number, line, sent.get(&number).copied(), carried.whole.get(&number)));
        }
        found
    }

    /// Every exchange that a service heard, and whether it heard the whole request.
    fn heard(&self, provider: usize) -> impl Iterator<Item = (&str, bool)> {
        let carried = &self.carried[provider];
        carried.heard.iter().flat_map(|(number, lines)| lines.iter().map(move |line| (number, line))).filter_map(
            |(number, line)| match line {
                Line::Heard { exchange, .. } => Some((exchange.as_str(), carried.whole.contains_key(number))),
                _ => None,
            },
        )
    }
}

/// A call that a service heard, and that was not asked so: by another, of another, for something else.
fn unasked(provider: usize, number: u64, heard: &Line, sent: Option<&Line>) -> Option<String> {
    let (Line::Heard { kind, consumer, .. }, Some(Line::Sent { kind: asked, .. })) = (heard, sent) else {
        return Some(format!("nobody asked {heard:?}"));
    };
    let edge = EDGES.get(Stage::edge_of(number))?;
    let right = kind == asked && edge.1 == provider && consumer.contains(&format!("/{}/", MEMBERS[edge.0]));
    (!right).then(|| format!("{heard:?} was asked as {sent:?}"))
}

/// A call that was carried out though its grant had ended, as its admin had been told.
fn ungranted(number: u64, heard: &Line, sent: Option<&Line>, sure: &Sure) -> Option<String> {
    let (Line::Heard { kind, at: heard_at, .. }, Some(Line::Sent { at, .. })) = (heard, sent) else { return None };
    let edge = Stage::edge_of(number);
    let ungranted = kind == "lent" && sure.was_denied(edge, *at, *heard_at);
    ungranted.then(|| format!("{heard:?} was carried out though not granted: {sent:?}"))
}

/// A call that was refused though it was granted, as its admin had been told.
fn refused_though_granted(number: u64, broken: &Line, sent: Option<&Line>, sure: &Sure) -> Option<String> {
    let (Line::Broken { why, at: broken_at, .. }, Some(Line::Sent { kind, at, .. })) = (broken, sent) else {
        return None;
    };
    let for_want_of_it = ["GRANT_MISSING", "GRANT_EXPIRED", "ACCESS_ENDED"].contains(&why.as_str());
    let granted = match kind.as_str() {
        "lent" => sure.was_granted(Stage::edge_of(number), *at, *broken_at),
        "forbidden" => false,
        _ => true,
    };
    (for_want_of_it && granted).then(|| format!("call {number} was refused though granted: {sent:?}, {broken:?}"))
}

/// An answered call whose request did not reach the service whole, as it was said.
fn not_as_said(number: u64, answered: &Line, sent: Option<&Line>, whole: Option<&Line>) -> Option<String> {
    let (
        Line::Answered { exchange, count, .. },
        Some(Line::Sent { count: asked, digest, .. }),
        Some(Line::Whole { exchange: heard_in, count: heard, digest: of_heard, .. }),
    ) = (answered, sent, whole)
    else {
        return Some(format!("call {number} was answered, and not carried out: {answered:?}, {sent:?}, {whole:?}"));
    };
    let right = exchange == heard_in && count == asked && asked == heard && digest == of_heard;
    (!right).then(|| format!("call {number} was carried out otherwise than asked: {sent:?}, {whole:?}, {answered:?}"))
}

/// I1, I2, I6: the logs, when every process has ended.
pub fn logs(stage: &Stage, ledgers: &Ledgers) -> (String, Vec<String>) {
    let mut found = Vec::new();
    let mut logs = Vec::new();
    for name in MEMBERS {
        let directory = stage.instance.path(name);
        let log = Log::read(&directory.join("message-log"), &signing_key(&directory));
        found.extend(log.wrong.iter().cloned());
        for (exchange, held) in &log.exchanges {
            if held.closed != 1 || held.request.messages().is_empty() {
                found.push(format!("{exchange} has not one opening and one end at {name}: {held:?}"));
            }
        }
        found.extend(logs::count(&directory.join("audit-log")).err());
        logs.push(log);
    }
    found.extend(logs::count(&stage.instance.path("registry/journal")).err());
    for (number, exchange, line) in ledgers.answered() {
        let (consumer, provider) = EDGES[Stage::edge_of(number)];
        for member in [consumer, provider] {
            let whole = logs[member].exchanges.get(exchange).is_some_and(|held| {
                let half_closed = matches!(held.request.end, Some(End::HalfClose));
                let Line::Answered { status: said, .. } = line else { return false };
                half_closed && matches!(held.answer.end, Some(End::Trailers { status, .. }) if status == *said)
            });
            if !whole {
                let held = logs[member].exchanges.get(exchange);
                found.push(format!("call {number} was answered, and is not whole at {}: {held:?}", MEMBERS[member]));
            }
        }
    }
    for (provider, log) in logs.iter().enumerate() {
        for (exchange, whole) in ledgers.heard(provider) {
            let held = log.exchanges.get(exchange);
            let recorded = held.is_some_and(|held| {
                !held.request.received.is_empty() && (!whole || held.request.end == Some(End::HalfClose))
            });
            if !recorded {
                let name = MEMBERS[provider];
                found.push(format!("{exchange} was carried out at {name}, and is not recorded there: {held:?}"));
            }
        }
        for (exchange, held) in log.exchanges.iter().filter(|(_, held)| !held.request.received.is_empty()) {
            let asked =
                logs.iter().filter_map(|log| log.exchanges.get(exchange)).find(|held| !held.request.sent.is_empty());
            let agrees = asked.is_some_and(|asked| {
                asked.request.sent.starts_with(&held.request.received)
                    && held.answer.sent.starts_with(&asked.answer.received)
            });
            if !agrees {
                found.push(format!("the logs do not agree about {exchange}: {held:?}, {asked:?}"));
            }
        }
    }
    let (exchanges, heads) =
        logs.iter().fold((0, 0), |(exchanges, heads), log| (exchanges + log.exchanges.len() as u64, heads + log.heads));
    (format!("{exchanges} exchanges in the logs, under {heads} signed heads"), found)
}

fn signing_key(directory: &Path) -> proto::signature::PublicKey {
    let pem = std::fs::read(directory.join("certificates/signing.pem")).unwrap();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(&pem);
    let der: rustls::pki_types::CertificateDer<'_> = der.unwrap();
    proto::certificate::public_key(&der).unwrap()
}

/// I7: nobody panicked, by the processes' own words.
pub fn words(stage: &Stage) -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(stage.notes()).unwrap() {
        let path = file.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let panics = text.lines().filter(|line| line.contains("panicked at") || line.contains("overflowed its stack"));
        found.extend(panics.map(|line| format!("{}: {line}", path.display())));
    }
    found
}

/// I8.
pub fn too_big(sizes: &BTreeMap<Who, Size>) -> Vec<String> {
    let too_big = sizes.iter().filter(|(_, size)| size.resident_kib > MOST_RESIDENT_KIB);
    too_big
        .map(|(who, size)| format!("{who} has {} KiB of memory, beyond {MOST_RESIDENT_KIB}", size.resident_kib))
        .collect()
}

/// I7: what nothing runs on is as small again as at the beginning.
pub fn leaks(now: &BTreeMap<Who, Size>, before: &BTreeMap<Who, Size>) -> Vec<String> {
    let leaks = now.iter().filter(|(who, now)| {
        before.get(who).is_none_or(|before| {
            now.descriptors > before.descriptors + MORE_DESCRIPTORS || now.threads > before.threads + MORE_THREADS
        })
    });
    leaks.map(|(who, now)| format!("{who} was {:?} at the beginning, and is {now:?}", before.get(who))).collect()
}
