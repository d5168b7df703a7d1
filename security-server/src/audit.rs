//! The audit log: who changed what at this server, when and from where, and what this server noticed of others. An entry is
//! durable before what it tells of is answered.
//!
//! Grants and their ends are entries of it, and count from here: the rest of the file is a view. What stands in it holds no
//! secret: of a token or a key there is a digest.

mod commands;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hex::FromHex;
use journal::{Entry, Journal, Position, TreeIndex};
use proto::access::{RequestDigest, SignedDocument};
use proto::digest::Digest;
use proto::identifier::{ExchangeId, MemberId, ServerId};
use proto::record::{Kind, NONCE_BYTES, Record};
use proto::signature::{KeyId, SigningKey};
use proto::time::Time;
use serde::{Deserialize, Serialize};

pub use commands::{AuditError, Command, archived, contradictions, proved_alarms, run, verify};
pub(crate) use commands::{journal_as_json, journal_in_words, unproven};

use crate::keys::ring::Use;
use crate::message_log::{ClockAccepted, key_change, trees};
use crate::quota::Bucket;

/// Refused attempts at the operators' door that get an entry each: a burst, and a second's worth. The next entry counts
/// those that got none.
const REFUSED_NOTED: (f64, f64) = (10.0, 1.0 / 60.0);
/// Alarms that `status` shows.
const ALARMS_SHOWN: usize = 16;
/// Longest name that an operator may go by.
pub const MAX_NAME_BYTES: usize = 64;

/// Who did something at the operators' door, as far as this server knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Whose token was shown: a name of `[[operator]]`, or `operators.token`. This is proved: who did it had the token.
    pub token: String,
    /// From which address.
    pub from: String,
    /// What the asking program says of who uses it. Nobody's word but its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_itself: Option<String>,
}

/// An entry of the audit log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case", deny_unknown_fields)]
pub enum Noted {
    /// Somebody may call something of ours.
    Granted {
        /// The document as signed, base64.
        grant: String,
        /// The key that signed it.
        key: String,
        /// Over "causeway/v1/grant\n" and the document, base64.
        signature: String,
        /// When, in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<u64>,
        /// By whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Actor>,
        /// The decision, where a request asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<Kept>,
    },
    /// A consumer's server asks for access.
    AccessReceived {
        /// When.
        at: u64,
        /// What it signed (PROTOCOL.md 19.1).
        request: Kept,
    },
    /// An operator refused what a request asks.
    AccessRejected {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// The decision.
        decision: Kept,
    },
    /// A consumer countersigned a grant.
    AccessAccepted {
        /// When.
        at: u64,
        /// What it signed.
        acceptance: Kept,
    },
    /// An operator asks a provider for access.
    AccessSent {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// The request.
        request: Kept,
    },
    /// A server of the provider's took a request of ours.
    AccessTaken {
        /// When.
        at: u64,
        /// The request.
        request: RequestDigest,
        /// Which server.
        server: String,
    },
    /// The provider decided.
    AccessAnswered {
        /// When it was heard here.
        at: u64,
        /// The decision.
        decision: Kept,
        /// Our acceptance, where the grant is what was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acceptance: Option<Kept>,
    },
    /// A grant ended before its time.
    Ended {
        /// Which.
        number: u64,
        /// When.
        at: u64,
        /// Why.
        reason: String,
        /// By whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Actor>,
        /// The end as it was signed (PROTOCOL.md 19.7).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<Kept>,
    },
    /// Another server of this member granted something, and perhaps ended it: it counts here too.
    GrantSpread {
        /// When it was heard here.
        at: u64,
        /// Which server told it.
        from: String,
        /// Where it was made.
        server: String,
        /// Its number here.
        number: u64,
        /// The grant.
        grant: Kept,
        /// Its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<Kept>,
    },
    /// Another server of this member ended a grant that is known here.
    EndSpread {
        /// When it was heard here.
        at: u64,
        /// Which server told it.
        from: String,
        /// Its number here.
        number: u64,
        /// The end.
        end: Kept,
    },
    /// The server started with these settings, bindings, clients, services and keys.
    Started {
        /// When.
        at: u64,
        /// The program's version.
        version: String,
        /// SHA-256 of all settings: the JSON object of them, its keys sorted.
        settings: String,
        /// How they differ from those of the start before.
        changed: Vec<Changed>,
    },
    /// An operator read what the log holds of an exchange.
    Read {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// What: `evidence`, `container` (the same, signed), each perhaps `with payloads`; `exchange`, `search` or `traffic`.
        what: String,
        /// Of which exchange; of `traffic`, with which member; of `search`, what was asked, as a query.
        exchange: String,
    },
    /// An operator has the payloads erased that are kept of an exchange. Noted first: a crash may have left them.
    PayloadsErased {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// Of which exchange.
        exchange: String,
        /// Why.
        reason: String,
    },
    /// A backup was begun: this entry is in it.
    BackedUp {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// Whether with the signing keys.
        signing_keys: bool,
    },
    /// A finished segment of the message log was encrypted, and is put into the archive next.
    Archiving {
        /// When.
        at: u64,
        /// Where, as the configuration file names the archive.
        to: String,
        /// The segment's number.
        segment: u64,
        /// SHA-256 of it.
        sha256: String,
        /// SHA-256 of what it became.
        object_sha256: String,
    },
    /// A finished segment of the message log is in the archive: it was read back, and is the same.
    Archived {
        /// When.
        at: u64,
        /// Where, as the configuration file names the archive.
        to: String,
        /// The segment's number.
        segment: u64,
        /// Its length in bytes.
        bytes: u64,
        /// SHA-256 of it, before it was encrypted.
        sha256: String,
        /// Whether it is encrypted there.
        encrypted: bool,
        /// The commits in it.
        trees: Vec<ArchivedTree>,
    },
    /// A segment of the message log that is in the archive is removed here next: it was read back once more, and is the same.
    Removing {
        /// When.
        at: u64,
        /// The archive, as the configuration file names it.
        to: String,
        /// The segment's number.
        segment: u64,
        /// Its length in bytes.
        bytes: u64,
        /// SHA-256 of it.
        sha256: String,
        /// For how many days segments stay here.
        kept_days: u32,
    },
    /// The server was put back from a backup: what it did between the backup and now is not in its logs. Openings that may
    /// have been seen meanwhile are refused.
    Restored {
        /// When it started again.
        at: u64,
        /// From which backup.
        from: String,
    },
    /// An operator said that the clock is right, though the message log held later times.
    ClockAccepted {
        /// What the clock said.
        at: u64,
        /// The last time that the log held.
        instead_of: u64,
        /// Where the message log ended then, its position in hexadecimal digits: times before it count no more.
        end: String,
        /// How the operator knew.
        reason: String,
        /// By whom.
        by: Actor,
    },
    /// Somebody asked at the operators' door without a token that opens it.
    Refused {
        /// When.
        at: u64,
        /// From which address, the last one.
        from: String,
        /// How often since the entry before of this kind.
        attempts: u64,
    },
    /// An operator had the registry asked for something.
    Asked {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// For what, in words.
        what: String,
    },
    /// An operator wanted another key to follow.
    KeyWanted {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// Of which use.
        what: Use,
        /// As soon as it is published, or when everybody knows it.
        at_once: bool,
    },
    /// An operator has services of ours listed in the catalogue.
    Publishing {
        /// When.
        at: u64,
        /// By whom.
        by: Actor,
        /// The subsystem that offers them.
        subsystem: String,
        /// Each with its version.
        services: Vec<String>,
    },
    /// The registry certified another key of this server.
    KeyCertified {
        /// When.
        at: u64,
        /// For which use.
        what: Use,
        /// The key.
        key: String,
        /// The last instant of its certificate, RFC 3339.
        not_after: String,
    },
    /// Another key is in use, and the one before is erased after this.
    KeyTakenUp {
        /// When.
        at: u64,
        /// For which use.
        what: Use,
        /// The key before.
        before: String,
        /// The key in use from here on.
        key: String,
        /// Of a signing key: the last head of the message log that the key before has signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_head: Option<String>,
    },
    /// A peer's log contradicts what this server holds of it. No refusal: the messages are in this log, and are evidence.
    Alarm(Alarm),
}

/// A signed document, as an entry holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What was signed, base64.
    pub document: String,
    /// The key that signed it.
    pub key: String,
    /// Over its line and the document, base64.
    pub signature: String,
}

impl Kept {
    /// Of this document.
    pub fn of(signed: &SignedDocument) -> Self {
        let (document, signature) = (STANDARD.encode(&signed.document), STANDARD.encode(&signed.signature));
        Self { document, key: signed.key.to_string(), signature }
    }

    /// The document.
    pub fn read(&self) -> Result<SignedDocument, serde_json::Error> {
        let bytes = |text: &str| STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom);
        let key = self.key.parse().map_err(serde::de::Error::custom)?;
        Ok(SignedDocument { document: bytes(&self.document)?, key, signature: bytes(&self.signature)? })
    }
}

/// A setting that changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// Which.
    pub setting: String,
    /// What it was; none: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is; none: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What this server noticed of a peer's log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Whose log.
    pub member: String,
    /// At which server.
    pub server: String,
    /// What.
    pub finding: Finding,
    /// An exchange in this server's log whose message bears what is held: `evidence get` gives the proof.
    pub held_in: String,
    /// The exchange with the message that contradicts it; `asked`, where the log itself was asked.
    pub seen_in: String,
    /// The file of the contradiction (PROTOCOL.md 7.8), base64, where both heads are signed: `evidence contradiction` writes
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// What contradicts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Finding {
    /// The peer's new tree says that `tree` ended at `ended`, and this server holds a signed head of it at `held`: commits
    /// are lost there. A restore from a backup does that; so does a copy of a disk that was put back.
    LostTail {
        /// The tree.
        tree: String,
        /// Its commits, as its successor says; 0 where the new tree does not know of it at all.
        ended: u64,
        /// Its commits, as its own head says that this server holds.
        held: u64,
        /// The root of that head.
        root: String,
        /// The new tree.
        successor: String,
    },
    /// Two roots of one tree at one size, both signed or one named by the tree's successor: the log was rewritten.
    Fork {
        /// The tree.
        tree: String,
        /// Its commits.
        size: u64,
        /// The two roots.
        roots: [String; 2],
    },
    /// A tree that its owner's newer tree had left behind is written on: two servers run with one key and one name.
    RunsTwice {
        /// The tree left behind.
        tree: String,
        /// The newer one.
        other: String,
    },
    /// The log was asked whether it still contains a head that it signed, and its answer proves nothing.
    Unproven {
        /// The tree.
        tree: String,
        /// Its commits, as its own head says that this server holds.
        held: u64,
        /// What is wrong with the answer.
        why: String,
    },
    /// The registry signed two histories of the configuration, and the peer has the other one (PROTOCOL.md 8.5). It is no fault of
    /// the peer's. Where this server stands in its place, the registry showed it both.
    SplitView {
        /// The keys that signed both, in one digest, `@`, and the peer's server.
        of: String,
        /// The version of which two things were said.
        version: u64,
        /// Our checkpoint, and the peer's.
        checkpoints: [String; 2],
    },
    /// The registry gave up its ledger before what was held of it here: it was put back from an older copy (PROTOCOL.md 8.4.7).
    LostEnd {
        /// The ledger.
        ledger: String,
        /// The leaves that the registry still knew.
        ended: u64,
        /// The leaves that were held.
        held: u64,
        /// The checkpoint that was held.
        checkpoint: String,
    },
}

impl Finding {
    /// In a word: the label of its counter.
    pub fn word(&self) -> &'static str {
        match self {
            Self::LostTail { .. } => "lost_tail",
            Self::Fork { .. } => "fork",
            Self::RunsTwice { .. } => "runs_twice",
            Self::Unproven { .. } => "unproven",
            Self::SplitView { .. } => "split_view",
            Self::LostEnd { .. } => "lost_end",
        }
    }

    /// The tree that it is about; of a split view the ledger, and whose server has another.
    pub fn tree(&self) -> &str {
        match self {
            Self::LostTail { tree, .. }
            | Self::Fork { tree, .. }
            | Self::RunsTwice { tree, .. }
            | Self::Unproven { tree, .. } => tree,
            Self::SplitView { of, .. } => of,
            Self::LostEnd { ledger, .. } => ledger,
        }
    }
}

/// The audit log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal refused.
    #[error("the audit log: {0}")]
    Journal(#[from] journal::OpenError),
    /// An entry is none of ours.
    #[error("the audit log holds an entry that this program does not know, at {0}: was it written by a newer version?")]
    Entry(journal::Position),
}

/// The open audit log.
pub struct AuditLog {
    journal: Journal,
    trees: HashMap<MemberId, TreeIndex>,
    refused: Mutex<(Bucket, u64)>,
    alarms: Mutex<VecDeque<Alarm>>,
    alarms_ever: AtomicU64,
}

/// Commits of a tree in a segment that is archived.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivedTree {
    /// The tree's name.
    pub tree: String,
    /// Commits before the segment.
    pub from: u64,
    /// Commits at its end.
    pub to: u64,
}

/// What the entries come to that were there at the start.
#[derive(Default)]
pub struct Past {
    /// The settings of the last start.
    pub settings: BTreeMap<String, String>,
    /// When the server started after it was put back from a backup, the last time.
    pub restored: Option<Time>,
    /// The last word of an operator about the clock.
    pub clock_accepted: Option<ClockAccepted>,
    /// Trees of peers' logs whose loss is proved here.
    pub told: BTreeSet<String>,
    /// Segments of the message log that are archived, by archive and number: SHA-256 of each.
    pub archived: BTreeMap<String, BTreeMap<u64, String>>,
    /// SHA-256 of each encrypted segment that was announced and is not archived yet.
    pub archiving: BTreeMap<String, BTreeMap<u64, BTreeSet<String>>>,
    /// The same of every one that ever was.
    pub sealed: BTreeMap<String, BTreeMap<u64, BTreeSet<String>>>,
    alarms: VecDeque<Alarm>,
    alarms_ever: u64,
}

impl Past {
    fn take(&mut self, noted: &Noted) {
        match noted {
            Noted::Started { changed, .. } => apply(&mut self.settings, changed),
            Noted::Archiving { to, segment, object_sha256, .. } => {
                for of_archive in [&mut self.archiving, &mut self.sealed] {
                    let announced = of_archive.entry(to.clone()).or_default().entry(*segment).or_default();
                    announced.insert(object_sha256.clone());
                }
            }
            Noted::Archived { to, segment, sha256, .. } => {
                self.archiving.entry(to.clone()).or_default().remove(segment);
                self.archived.entry(to.clone()).or_default().insert(*segment, sha256.clone());
            }
            Noted::Restored { at, .. } => self.restored = Some(Time::from_millis(*at)),
            Noted::ClockAccepted { at, end, .. } => {
                let at = Time::from_millis(*at);
                // By the clock that was wrong, the minute after a restore could be years.
                self.restored = self.restored.map(|restored| restored.min(at));
                let end = <[u8; Position::BYTES]>::from_hex(end).ok();
                self.clock_accepted = end.map(|end| ClockAccepted { at, end: Position::from_bytes(&end) });
            }
            Noted::Alarm(alarm) => {
                self.alarms_ever += 1;
                self.told.extend(alarm.evidence.is_some().then(|| alarm.finding.tree().to_owned()));
                keep(&mut self.alarms, alarm.clone());
            }
            _ => {}
        }
    }
}

impl AuditLog {
    /// Opens the log, and shows each entry that is there, in order.
    pub fn open(
        disk: Arc<dyn journal::Disk>,
        options: journal::Options,
        server: &ServerId,
        keys: &[(MemberId, Arc<SigningKey>)],
        each: &mut dyn FnMut(&Noted) -> Result<(), serde_json::Error>,
    ) -> Result<(Self, Past), OpenError> {
        let (mut past, mut foreign) = (Past::default(), None);
        let journal = Journal::open(disk, trees(server, keys), options, None, &mut |entry: Entry| {
            if entry.record.kind() == Kind::Entry {
                let read = serde_json::from_slice::<Noted>(&entry.record.body());
                match read.and_then(|noted| each(&noted).map(|()| noted)) {
                    Ok(noted) => past.take(&noted),
                    Err(_) => _ = foreign.get_or_insert(entry.position),
                }
            }
        })?;
        if let Some(position) = foreign {
            return Err(OpenError::Entry(position));
        }
        let (burst, per_second) = REFUSED_NOTED;
        let log = Self {
            trees: keys.iter().enumerate().map(|(tree, (member, _))| (member.clone(), TreeIndex(tree))).collect(),
            journal,
            refused: Mutex::new((Bucket::new(burst, per_second), 0)),
            alarms: Mutex::new(std::mem::take(&mut past.alarms)),
            alarms_ever: AtomicU64::new(past.alarms_ever),
        };
        Ok((log, past))
    }

    /// From which backup the log was put back, if it was and nobody has noted it yet.
    pub fn restored(&self) -> Option<&str> {
        self.journal.restored()
    }

    /// What follows from the restore is durable.
    pub fn restore_is_noted(&self) -> std::io::Result<()> {
        self.journal.restore_is_noted()
    }

    /// Why the log has ended, if it has: nothing can be noted any more.
    pub fn ended(&self) -> Option<Arc<str>> {
        self.journal.ended()
    }

    /// Notes what is the whole server's. A crash before this returns leaves nothing of it or all of it.
    pub async fn note(&self, noted: &Noted) -> Result<(), journal::Ended> {
        self.write(TreeIndex(0), noted).await
    }

    /// Notes what is this member's, in its own tree.
    pub async fn note_of(&self, member: &MemberId, noted: &Noted) -> Result<(), journal::Ended> {
        self.write(self.trees.get(member).copied().unwrap_or(TreeIndex(0)), noted).await
    }

    async fn write(&self, tree: TreeIndex, noted: &Noted) -> Result<(), journal::Ended> {
        let body = serde_json::to_vec(noted).expect("an entry has string keys only");
        let record = Record::new(Kind::Entry, &nonce(), &[&body]);
        self.journal.append(tree, record, Bytes::new(), false).await.map(drop)
    }

    /// From here on heads of this member's tree are signed with this key. The tree goes on, and a `key` record names both.
    pub(crate) async fn change_key(
        &self,
        member: &MemberId,
        before: KeyId,
        key: &Arc<SigningKey>,
    ) -> Result<(), journal::Ended> {
        let Some(tree) = self.trees.get(member).copied() else { return Ok(()) };
        let record = key_change(&nonce(), before, key.public().id());
        self.journal.change_key(tree, Arc::clone(key), record).await.map(drop)
    }

    /// Notes the settings that the server starts with.
    pub async fn note_start(&self, past: &Past, now: BTreeMap<String, String>, at: Time) -> Result<(), journal::Ended> {
        let started = Noted::Started {
            at: at.as_millis(),
            version: env!("CARGO_PKG_VERSION").into(),
            settings: digest(&now),
            changed: difference(&past.settings, &now),
        };
        self.note(&started).await
    }

    /// Notes that somebody had no token, within a limit: whoever reaches the door can do no more than fill an entry now
    /// and then.
    pub async fn note_refused(&self, from: String, at: Time) -> Result<(), journal::Ended> {
        let attempts = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.1 += 1;
            if !refused.0.take() {
                return Ok(());
            }
            std::mem::take(&mut refused.1)
        };
        self.note(&Noted::Refused { at: at.as_millis(), from, attempts }).await
    }

    /// Notes an alarm.
    pub async fn note_alarm(&self, alarm: Alarm) -> Result<(), journal::Ended> {
        self.note(&Noted::Alarm(alarm.clone())).await?;
        keep(&mut self.alarms.lock().unwrap_or_else(PoisonError::into_inner), alarm);
        // Counted last: who sees the count finds the alarm.
        self.alarms_ever.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The newest alarms, and how many there ever were.
    pub fn alarms(&self) -> (Vec<Alarm>, u64) {
        let ever = self.alarms_ever.load(Ordering::Acquire);
        (self.alarms.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(), ever)
    }
}

fn nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut nonce).expect("the system's random source works, or nothing does");
    nonce
}

/// Without the file: that stays in the log.
fn keep(alarms: &mut VecDeque<Alarm>, alarm: Alarm) {
    let alarm = Alarm { evidence: None, ..alarm };
    if alarms.len() == ALARMS_SHOWN {
        alarms.pop_front();
    }
    alarms.push_back(alarm);
}

/// An exchange, as an entry names it.
pub(crate) fn named(exchange: ExchangeId) -> String {
    exchange.to_string()
}

/// SHA-256 of all settings.
fn digest(settings: &BTreeMap<String, String>) -> String {
    Digest::of(&[&serde_json::to_vec(settings).expect("texts by text")]).to_string()
}

fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Changed> {
    let gone = before.iter().filter(|(setting, _)| !after.contains_key(*setting)).map(|(setting, value)| Changed {
        setting: setting.clone(),
        before: Some(value.clone()),
        after: None,
    });
    let changed = after.iter().filter(|(setting, value)| before.get(*setting) != Some(value));
    let changed = changed.map(|(setting, value)| Changed {
        setting: setting.clone(),
        before: before.get(setting).cloned(),
        after: Some(value.clone()),
    });
    gone.chain(changed).collect()
}

fn apply(settings: &mut BTreeMap<String, String>, changed: &[Changed]) {
    for Changed { setting, after, .. } in changed {
        match after {
            Some(value) => _ = settings.insert(setting.clone(), value.clone()),
            None => _ = settings.remove(setting),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differences_one_after_another_make_the_settings_again(
            starts in proptest::collection::vec(proptest::collection::btree_map("[a-d]", "[xy]", 0..4), 1..6)
        ) {
            let mut told = BTreeMap::new();
            for settings in starts {
                let changed = difference(&told, &settings);
                prop_assert_eq!(changed.is_empty(), told == settings);
                apply(&mut told, &changed);
                prop_assert_eq!(digest(&told), digest(&settings));
            }
        }
    }

    #[test]
    fn an_entry_of_the_first_version_is_read() {
        for old in [
            r#"{"entry":"granted","grant":"e30=","key":"00","signature":"AA=="}"#,
            r#"{"entry":"ended","number":1,"at":2,"reason":"x"}"#,
        ] {
            let noted: Noted = serde_json::from_str(old).unwrap();
            assert_eq!(serde_json::to_string(&noted).unwrap(), old);
        }
        assert!(serde_json::from_str::<Noted>(r#"{"entry":"of the future"}"#).is_err());
    }
}
