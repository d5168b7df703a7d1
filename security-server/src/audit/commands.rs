//! `security-server audit`: shows the audit log and verifies it. It reads the directory, of a server that runs or is stopped,
//! and asks nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use command_line::{Exit, Progress, Reading, file_remedy, say, show};
use journal::{Directory, Entry, ReadError, Verified};
use proto::access::{AccessAcceptance, AccessDecision, AccessRequest, Decided, Grant, GrantEnd};
use proto::record::{Genesis, Kind};
use proto::signature::{KeyId, PublicKey, purpose};
use proto::time::Time;
use serde_json::{Value, json};

use super::{Actor, Alarm, Finding, Kept, Noted, Past, digest};
use crate::config::{Configuration, NoConfiguration};
use crate::global_configuration::{Store, StoreError};
use crate::join::{AUDIT_LOG, CERTIFICATES, GLOBAL_CONFIGURATION};
use crate::log_keys::{self, LogKeys};
use crate::usage::ConfigurationFile;

/// What is asked of the audit log.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show who changed what at this server, when and from where, and what it noticed of others.
    List {
        /// Only so many of the newest.
        #[arg(long, value_name = "NUMBER")]
        last: Option<usize>,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Verify the whole audit log: every hash, every signature of a head and of a grant, every difference of settings.
    Verify {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How the findings are shown.
        #[command(flatten)]
        reading: Reading,
    },
}

/// Why the audit log was not shown, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The log cannot be read, or is damaged.
    #[error("the audit log: {0}")]
    Log(#[from] ReadError),
    /// The global configuration, from which the keys are known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "put it back from a backup"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such contradiction.
    #[error(
        "there is no contradiction {number}: {known} are noted; `security-server evidence contradiction` lists them"
    )]
    NoContradiction {
        /// Which was asked for.
        number: usize,
        /// How many there are.
        known: usize,
    },
    /// It does not hold.
    #[error("the audit log does not hold: {0}; keep it as it is, and compare it with a backup")]
    DoesNotHold(String),
}

impl AuditError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(error) => error.exit(),
            Self::NoContradiction { .. } => Exit::NotFound,
            Self::Log(ReadError::Disk(_)) | Self::File { .. } => Exit::Failed,
            Self::Store(_) => Exit::CheckFailed,
            Self::Log(_) | Self::DoesNotHold(_) => Exit::EvidenceInvalid,
        }
    }
}

/// The contradictions of peers' logs in this audit log that have a proof of their own, in the order of the log.
pub fn proved_alarms(disk: &dyn journal::Disk) -> Result<Vec<Alarm>, ReadError> {
    let mut proved = Vec::new();
    journal::read(disk, None, &mut |entry| {
        let noted = (entry.record.kind() == Kind::Entry).then(|| serde_json::from_slice(&entry.record.body()).ok());
        if let Some(Some(Noted::Alarm(alarm))) = noted {
            proved.extend(alarm.evidence.is_some().then_some(alarm));
        }
    })?;
    Ok(proved)
}

/// What the audit log on this disk says of segments in this archive: SHA-256 of each, by number.
pub fn archived(disk: &dyn journal::Disk, archive: &str) -> Result<BTreeMap<u64, String>, ReadError> {
    let mut found = BTreeMap::new();
    journal::read(disk, None, &mut |entry| {
        let noted = (entry.record.kind() == Kind::Entry).then(|| serde_json::from_slice(&entry.record.body()).ok());
        if let Some(Some(Noted::Archived { to, segment, sha256, .. })) = noted
            && to == archive
        {
            found.insert(segment, sha256);
        }
    })?;
    Ok(found)
}

impl Alarm {
    /// The file of the contradiction, where there is one.
    pub fn proof(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.evidence.as_ref()?).ok()
    }
}

/// Shows the contradictions that the server with this configuration file has noted, or writes the proof of one.
pub fn contradictions(file: &std::path::Path, number: Option<usize>, json: bool) -> Result<(), AuditError> {
    let configuration = Configuration::read(file)?;
    let alarms = proved_alarms(&Directory(configuration.directory.join(AUDIT_LOG)))?;
    let Some(number) = number else {
        let listed: Vec<_> = alarms
            .iter()
            .enumerate()
            .map(|(at, alarm)| {
                let mut shown = json!(Alarm { evidence: None, ..alarm.clone() });
                shown["number"] = json!(at + 1);
                shown
            })
            .collect();
        show(json, &json!({ "contradictions": listed }), || {
            let line = |(at, alarm): (usize, &Alarm)| {
                let (time, what, _) = in_words(&Noted::Alarm(alarm.clone()));
                let time = time.map(|time| Time::from_millis(time).to_string()).unwrap_or_default();
                format!("{:4}  {time}  {what}\n", at + 1)
            };
            let lines: String = alarms.iter().enumerate().map(line).collect();
            if lines.is_empty() {
                "No peer's log was found to contradict itself, and the registry to show two configurations to nobody."
                    .into()
            } else {
                lines
            }
        });
        return Ok(());
    };
    let found = number.checked_sub(1).and_then(|at| alarms.get(at)).and_then(Alarm::proof);
    let found = found.ok_or(AuditError::NoContradiction { number, known: alarms.len() })?;
    say(&String::from_utf8_lossy(&found));
    Ok(())
}

/// Does as asked, on standard output.
pub fn run(command: Command) -> Result<(), AuditError> {
    match command {
        Command::List { last, server, reading } => list(&Configuration::read(&server.config)?, last, reading.json),
        Command::Verify { server, reading } => {
            let found = {
                let _shown = Progress::of("verifying the audit log");
                verify(&Configuration::read(&server.config)?)?
            };
            show(reading.json, &found.to_json(), || found.to_string());
            found.holds()
        }
    }
}

fn list(configuration: &Configuration, last: Option<usize>, json: bool) -> Result<(), AuditError> {
    let disk = Directory(configuration.directory.join(AUDIT_LOG));
    let mut entries = VecDeque::new();
    journal::read(&disk, None, &mut |entry| {
        let is_shown = matches!(entry.record.kind(), Kind::Entry | Kind::Genesis);
        if is_shown && last != Some(0) {
            if last.is_some_and(|last| entries.len() >= last) {
                entries.pop_front();
            }
            entries.push_back(entry);
        }
    })?;
    if json {
        let entries: Vec<_> = entries.iter().map(as_json).collect();
        show(true, &json!({ "entries": entries }), String::new);
    } else {
        entries.iter().for_each(|entry| say(&as_text(entry)));
    }
    Ok(())
}

fn as_json(entry: &Entry) -> Value {
    let body = match entry.record.kind() {
        Kind::Genesis => json!({ "entry": "opened", "why": entry.genesis.content.why().as_str_name().to_lowercase() }),
        _ => serde_json::from_slice::<Value>(&entry.record.body()).unwrap_or(Value::Null),
    };
    let (position, tree) = (entry.position.to_string(), entry.tree.to_string());
    json!({ "position": position, "tree": tree, "member": entry.genesis.content.member, "noted": body })
}

fn as_text(entry: &Entry) -> String {
    let noted: Option<Noted> = serde_json::from_slice(&entry.record.body()).ok();
    let (at, what, by) = match (entry.record.kind(), &noted) {
        (Kind::Genesis, _) => {
            let why = entry.genesis.content.why().as_str_name().to_lowercase().replace('_', " ");
            (None, format!("the log was opened: {why}"), None)
        }
        (_, Some(noted)) => in_words(noted),
        (_, None) => (None, "an entry that this program does not know".into(), None),
    };
    let at = at.map_or_else(|| "-".to_owned(), |at| Time::from_millis(at).to_string());
    let by = by.map(|by| format!("\n{:26}{}", "", by.in_words())).unwrap_or_default();
    format!("{at:24}  {what}{by}")
}

impl Actor {
    fn in_words(&self) -> String {
        let calls_itself = self.calls_itself.as_ref().map(|name| format!(", calls itself {name}")).unwrap_or_default();
        format!("by the token {}, from {}{calls_itself}", self.token, self.from)
    }
}

/// When, what, and by whom.
fn in_words(noted: &Noted) -> (Option<u64>, String, Option<&Actor>) {
    match noted {
        Noted::Granted { grant, at, by, .. } => {
            let grant = STANDARD.decode(grant).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let grant = grant.unwrap_or_default();
            let text = |key: &str| grant[key].as_str().unwrap_or("?").to_owned();
            let all = |key: &str| {
                let values = grant[key].as_array().map(Vec::as_slice).unwrap_or_default();
                values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            };
            let (number, consumer, provider) = (&grant["number"], text("consumer"), text("provider"));
            let what = format!(
                "granted {number}: {consumer} may call {} of {provider} for {}",
                all("methods"),
                all("purposes")
            );
            (*at, what, by.as_ref())
        }
        Noted::AccessReceived { at, request } => (Some(*at), format!("was asked for access: {}", asked(request)), None),
        Noted::AccessSent { at, by, request } => (Some(*at), format!("asked for access: {}", asked(request)), Some(by)),
        Noted::AccessRejected { at, by, decision } => {
            (Some(*at), format!("rejected an access request: {}", decided(decision)), Some(by))
        }
        Noted::AccessTaken { at, request, server } => {
            (Some(*at), format!("heard that {server} took the access request {request}"), None)
        }
        Noted::AccessAnswered { at, decision, acceptance } => {
            let accepted = if acceptance.is_some() { ", and countersigned it" } else { "" };
            (Some(*at), format!("heard of an access request: {}{accepted}", decided(decision)), None)
        }
        Noted::AccessAccepted { at, acceptance } => {
            let read = acceptance.read().ok().and_then(|it| AccessAcceptance::parse(&it.document).ok());
            let request = read.map_or_else(|| "?".to_owned(), |it| it.request.to_string());
            (Some(*at), format!("the consumer countersigned the grant of its request {request}"), None)
        }
        Noted::GrantSpread { at, from, server, number, grant, end } => {
            let read = grant.read().ok().and_then(|it| serde_json::from_slice::<Grant>(&it.document).ok());
            let what = read.map_or_else(|| "a grant that cannot be read".to_owned(), |grant| grant.to_string());
            let ended = if end.is_some() { ", and its end" } else { "" };
            (Some(*at), format!("took as {number} from {from} what {server} granted{ended}: {what}"), None)
        }
        Noted::EndSpread { at, from, number, end } => {
            let read = end.read().ok().and_then(|it| GrantEnd::parse(&it.document).ok());
            let what = read.map_or_else(|| "?".to_owned(), |end| format!("{} ended it: {}", end.server, end.reason));
            (Some(*at), format!("took from {from} that grant {number} ended: {what}"), None)
        }
        Noted::Ended { number, at, reason, by, .. } => {
            (Some(*at), format!("ended grant {number}: {reason}"), by.as_ref())
        }
        Noted::Started { at, version, changed, .. } => {
            let changes = changed.iter().map(|change| {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
                format!("\n{:26}{}: {} -> {}", "", change.setting, value(&change.before), value(&change.after))
            });
            let changes = if changed.is_empty() { ", settings as before".to_owned() } else { changes.collect() };
            (Some(*at), format!("started, version {version}{changes}"), None)
        }
        Noted::Read { at, by, what, exchange } if what == "search" => {
            (Some(*at), format!("searched the message log: {exchange}"), Some(by))
        }
        Noted::Read { at, by, what, exchange } if what.starts_with("container") => {
            (Some(*at), format!("had the evidence of {exchange} signed, as a {what}"), Some(by))
        }
        Noted::Read { at, by, what, exchange } => (Some(*at), format!("read the {what} of {exchange}"), Some(by)),
        Noted::PayloadsErased { at, by, exchange, reason } => {
            (Some(*at), format!("had the payloads of {exchange} erased: {reason}"), Some(by))
        }
        Noted::BackedUp { at, by, signing_keys } => {
            let keys = if *signing_keys { "with the signing keys" } else { "without signing keys" };
            (Some(*at), format!("made a backup, {keys}"), Some(by))
        }
        Noted::ClockAccepted { at, instead_of, reason, by, .. } => {
            let was = Time::from_millis(*instead_of);
            (Some(*at), format!("accepted the clock, though the message log held {was}: {reason}"), Some(by))
        }
        Noted::Archiving { at, to, segment, object_sha256, .. } => {
            (Some(*at), format!("encrypted segment {segment} for {to}: sha256 {object_sha256}"), None)
        }
        Noted::Removing { at, to, segment, bytes, sha256, .. } => (
            Some(*at),
            format!("removed segment {segment} here, which is in {to}: {bytes} bytes, sha256 {sha256}"),
            None,
        ),
        Noted::Archived { at, to, segment, bytes, sha256, encrypted, .. } => {
            let encrypted = if *encrypted { ", encrypted" } else { "" };
            (Some(*at), format!("archived segment {segment} to {to}{encrypted}: {bytes} bytes, sha256 {sha256}"), None)
        }
        Noted::Restored { at, from } => (Some(*at), format!("started after it was put back: {from}"), None),
        Noted::Refused { at, from, attempts } => {
            (Some(*at), format!("refused {attempts} at the operators' door without a token, last from {from}"), None)
        }
        Noted::Asked { at, by, what } => (Some(*at), format!("had the registry asked {what}"), Some(by)),
        Noted::KeyWanted { at, by, what, at_once } => {
            let when = if *at_once { "as soon as it is published" } else { "when everybody knows it" };
            (Some(*at), format!("wanted another {} key, in use {when}", what.word()), Some(by))
        }
        Noted::Publishing { at, by, subsystem, services } => {
            (Some(*at), format!("had {} of {subsystem} listed in the catalogue", services.join(", ")), Some(by))
        }
        Noted::KeyCertified { at, what, key, not_after } => {
            (Some(*at), format!("the registry certified the {} key {key} until {not_after}", what.word()), None)
        }
        Noted::KeyTakenUp { at, what, before, key, last_head } => {
            let last = last_head
                .as_ref()
                .map(|head| format!("; the last head of the one before: {}", head.trim_end().replace('\n', " ")));
            let last = last.unwrap_or_default();
            (Some(*at), format!("took the {} key {key} into use in the place of {before}{last}", what.word()), None)
        }
        Noted::Alarm(Alarm { at, server, finding: Finding::SplitView { version, checkpoints, .. }, .. }) => {
            let [ours, theirs] = checkpoints.each_ref().map(|text| text.trim_end().replace('\n', " "));
            let what = format!(
                "ALARM: the registry shows two configurations: it signed two histories, which differ at version {version}. Here: \
                 {ours}; at {server}: {theirs}"
            );
            (Some(*at), what, None)
        }
        Noted::Alarm(Alarm { at, held_in, finding: Finding::LostEnd { ledger, ended, held, checkpoint }, .. }) => {
            let checkpoint = checkpoint.trim_end().replace('\n', " ");
            let what = format!(
                "ALARM: the registry lost the end of its ledger {ledger}, as {held_in} says: {ended} leaves are left of {held}. \
                 Held was: {checkpoint}"
            );
            (Some(*at), what, None)
        }
        Noted::Alarm(alarm) => {
            let what = match &alarm.finding {
                // Told above: it is not about a log of the peer's.
                Finding::SplitView { of: what, .. } | Finding::LostEnd { ledger: what, .. } => what.clone(),
                Finding::LostTail { tree, ended, held, .. } => {
                    format!("has lost the tail of {tree}: {ended} commits are left of {held} that are proved here")
                }
                Finding::Fork { tree, size, .. } => format!("has forked: {tree} has two roots at {size} commits"),
                Finding::RunsTwice { tree, other } => format!("runs twice: {tree} goes on beside {other}"),
                Finding::Unproven { tree, held, why } => {
                    format!("does not prove that it contains {held} commits of {tree}: {why}")
                }
            };
            let Alarm { member, server, held_in, seen_in, .. } = alarm;
            let what = format!("ALARM: the log of {member} at {server} {what} (exchange {held_in}; seen in {seen_in})");
            (Some(alarm.at), what, None)
        }
    }
}

fn asked(request: &Kept) -> String {
    let read =
        request.read().ok().and_then(|it| AccessRequest::parse(&it.document).ok().map(|read| (it.digest(), read)));
    read.map_or_else(|| "a request that cannot be read".to_owned(), |(id, request)| format!("{request} (request {id})"))
}

fn decided(decision: &Kept) -> String {
    match decision.read().ok().and_then(|it| AccessDecision::parse(&it.document).ok()) {
        Some(AccessDecision { request, decided: Decided::Rejected(reason), .. }) => format!("{request}: {reason}"),
        Some(AccessDecision { request, .. }) => format!("{request} is granted"),
        None => "a decision that cannot be read".to_owned(),
    }
}

/// What a verification found.
pub struct Found {
    journal: Verified,
    entries: u64,
    grants: u64,
    unknown_keys: BTreeSet<KeyId>,
    wrong: Vec<String>,
}

/// Verifies the audit log of the server with this configuration.
pub fn verify(configuration: &Configuration) -> Result<Found, AuditError> {
    let directory = &configuration.directory;
    let (_, trusted) = Store::copied(&directory.join(GLOBAL_CONFIGURATION))?;
    let place = directory.join(CERTIFICATES);
    let certificates = log_keys::certificates(&place).map_err(|source| AuditError::File { path: place, source })?;
    let pems = certificates.values().map(Vec::as_slice);
    let keys = LogKeys::of(&configuration.server, trusted.configuration(), pems);
    let mut entries = Entries::of(&keys);
    let disk = Directory(directory.join(AUDIT_LOG));
    let journal = journal::verify(&disk, &|id| keys.find(id), &mut |entry| entries.see(&entry))?;
    Ok(entries.found(journal))
}

/// The entries of an audit log, held against each other and against the keys.
pub(crate) struct Entries<'k> {
    keys: &'k LogKeys,
    past: Past,
    entries: u64,
    grants: u64,
    wrong: Vec<String>,
}

impl<'k> Entries<'k> {
    pub(crate) fn of(keys: &'k LogKeys) -> Self {
        Self { keys, past: Past::default(), entries: 0, grants: 0, wrong: Vec::new() }
    }

    pub(crate) fn see(&mut self, entry: &Entry) {
        if entry.record.kind() != Kind::Entry {
            return;
        }
        self.entries += 1;
        let wrong = match serde_json::from_slice::<Noted>(&entry.record.body()) {
            Err(error) => Some(format!("no entry that this program knows: {error}")),
            Ok(noted) => {
                self.past.take(&noted);
                self.check(&noted)
            }
        };
        self.wrong.extend(wrong.map(|wrong| format!("at {}: {wrong}", entry.position)));
    }

    fn check(&mut self, noted: &Noted) -> Option<String> {
        match noted {
            Noted::Granted { grant, key, signature, decision, .. } => {
                self.grants += 1;
                let read = || {
                    let (document, signature) = (STANDARD.decode(grant).ok()?, STANDARD.decode(signature).ok()?);
                    Some((document, signature, key.parse().ok()?))
                };
                let Some((document, signature, key)) = read() else {
                    return Some("a grant that cannot be read".into());
                };
                let known: Option<PublicKey> = self.keys.find(&key);
                let signed = [purpose::GRANT.as_bytes(), &document].concat();
                match known {
                    None => Some(format!("a grant signed by the key {key}, of which no certificate is here")),
                    Some(known) if known.verify(&signed, &signature).is_err() => {
                        Some("a grant whose signature does not hold".into())
                    }
                    Some(_) => self.check_own("a decision", purpose::ACCESS_DECISION, decision.as_ref()),
                }
            }
            Noted::Ended { end, .. } => self.check_own("the end of a grant", purpose::GRANT_END, end.as_ref()),
            Noted::AccessRejected { decision, .. } => {
                self.check_own("a decision", purpose::ACCESS_DECISION, Some(decision))
            }
            Noted::AccessSent { request, .. } => {
                self.check_own("an access request", purpose::ACCESS_REQUEST, Some(request))
            }
            Noted::AccessAnswered { acceptance, .. } => {
                self.check_own("an acceptance", purpose::ACCESS_ACCEPTANCE, acceptance.as_ref())
            }
            Noted::Started { settings, .. } if *settings != digest(&self.past.settings) => {
                Some("the settings of a start are not those that all differences make".into())
            }
            _ => None,
        }
    }

    /// What this server itself signed, where it is there.
    fn check_own(&self, what: &str, line: &str, kept: Option<&Kept>) -> Option<String> {
        let Ok(signed) = kept?.read() else { return Some(format!("{what} that cannot be read")) };
        match self.keys.find(&signed.key) {
            None => Some(format!("{what} signed by the key {}, of which no certificate is here", signed.key)),
            Some(key) => signed.signed_by(line, &key).err().map(|_| format!("{what} whose signature does not hold")),
        }
    }

    pub(crate) fn found(self, journal: Verified) -> Found {
        let unknown_keys = journal.trees.iter().flat_map(|tree| tree.unknown.keys().copied()).collect();
        let Self { entries, grants, mut wrong, .. } = self;
        wrong.extend(unproven(&journal));
        Found { journal, entries, grants, unknown_keys, wrong }
    }
}

/// Trees that nothing shows to be this server's word.
pub(crate) fn unproven(journal: &Verified) -> Option<String> {
    let unproven: Vec<_> = journal.unproven().map(|tree| tree.head.tree.to_string()).collect();
    (!unproven.is_empty()).then(|| {
        format!(
            "no head of {} is signed by a key whose certificate is here: put the older certificates into {CERTIFICATES}/",
            unproven.join(", ")
        )
    })
}

impl Found {
    /// Nothing where it holds.
    pub fn holds(&self) -> Result<(), AuditError> {
        if self.wrong.is_empty() { Ok(()) } else { Err(AuditError::DoesNotHold(self.wrong.join("; "))) }
    }

    fn to_json(&self) -> Value {
        json!({
            "holds": self.wrong.is_empty(),
            "wrong": self.wrong,
            "entries": self.entries,
            "grants": self.grants,
            "log": journal_as_json(&self.journal),
        })
    }
}

/// A verified journal as JSON.
pub(crate) fn journal_as_json(journal: &Verified) -> Value {
    let tree = |genesis: &Arc<Genesis>| genesis.content.why().as_str_name().to_lowercase();
    let trees: Vec<_> = journal
        .trees
        .iter()
        .map(|each| {
            json!({
                "tree": each.head.tree.to_string(), "member": each.genesis.content.member, "why": tree(&each.genesis),
                "commits": each.head.size, "root": each.head.root.to_string(), "records": each.records,
                "signed_commits": each.signed.map(|head| head.size), "unsigned_commits": each.unsigned(),
                "signatures": each.signatures.values().sum::<u64>(),
                "by": each.signatures.keys().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "segments": journal.segments, "bytes": journal.bytes, "records": journal.records,
        "torn_bytes": journal.torn_bytes, "trees": trees,
    })
}

/// A verified journal in words: from which head to which.
pub(crate) fn journal_in_words(journal: &Verified) -> String {
    let signatures: u64 = journal.trees.iter().flat_map(|tree| tree.signatures.values()).sum();
    let mut text = format!(
        "{} records in {} segments, {} trees, {signatures} signed heads",
        journal.records,
        journal.segments,
        journal.trees.len()
    );
    if let (Some(first), Some(last)) = (journal.trees.first(), journal.trees.last()) {
        let size = |head: &proto::head::Head| format!("{} commits, root {}", head.size, head.root);
        text += &format!(
            "\n  from  tree {} ({})\n  to    tree {}: {}",
            first.head.tree,
            first.genesis.content.why().as_str_name().to_lowercase().replace('_', " "),
            last.head.tree,
            size(&last.head)
        );
    }
    let unsigned: u64 = journal.trees.iter().map(journal::VerifiedTree::unsigned).sum();
    if unsigned > 0 {
        text += &format!("\n  the last {unsigned} commits are signed by nobody yet");
    }
    if journal.torn_bytes > 0 {
        text += &format!("\n  {} bytes at the end are not whole: the next start cuts them", journal.torn_bytes);
    }
    text
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", journal_in_words(&self.journal))?;
        writeln!(f, "  {} entries, {} grants with their signatures", self.entries, self.grants)?;
        if !self.unknown_keys.is_empty() {
            writeln!(
                f,
                "  heads signed by {} keys without a certificate here were not checked",
                self.unknown_keys.len()
            )?;
        }
        for wrong in &self.wrong {
            writeln!(f, "  WRONG: {wrong}")?;
        }
        writeln!(f, "{}", if self.wrong.is_empty() { "It holds." } else { "It does not hold." })
    }
}
