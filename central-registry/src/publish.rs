//! THE LIFE OF A GLOBAL CONFIGURATION: a view of the register becomes documents, documents become signed files, and the
//! files become the next version, whole or not at all.
//!
//! Pure: no file, no clock, no network. What it hands out was read first by the very code that every security server reads
//! it with ([`update`]), so nothing is published that a server would reject.
//!
//! ```text
//! root                      which keys sign what, and how many of them must
//! targets                   names instance.json, and delegates:
//!  |- members   members/*/*/*.json    to m-00 … m-ff by the hash of the path: one document per member
//!  |- catalogue catalogue/*/*/*.json  to c-00 … c-ff likewise
//!  '- revoked   revoked/*.json        16 documents of revoked keys; its keys sign nothing else
//! snapshot                  the version of each of these, and the bytes of all of them in one digest
//! timestamp                 version, length and hash of the snapshot, and when it was signed
//! checkpoint                of the ledger, whose last leaf is this very timestamp
//! ```
//!
//! The files are named as in any TUF repository with consistent snapshots, so they can be written to a directory as they are
//! and served by anything: only `timestamp.json` is ever overwritten, and it is written last. A role's version is the version
//! of the whole in which it was last signed; the root alone counts by itself. One change of a member signs its bin, the
//! snapshot and the timestamp again, and nothing else.

pub(crate) mod metadata;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::digest::Digest;
use proto::global_configuration::document::{
    INSTANCE_PATH, InstanceDocument, LastHead, MemberDocument, REVOKED_SHARDS, RevokedDocument,
};
use proto::global_configuration::ledger::{CheckpointFile, Ledger, Signature, checkpoint_file, leaf};
use proto::global_configuration::listed::CatalogueDocument;
use proto::global_configuration::update::{
    Anchor, Files, LEDGER, ROLES_SHA256, Rejected, TIMESTAMP, Trusted, digest_of_roles, root_file, target_file, update,
};
use proto::head::Head;
use proto::identifier::MemberId;
use proto::server_request::SETTLED_AFTER;
use proto::signature::{KeyId, SigningKey};
use proto::time::Time;
use proto::wire::registry::File;
use serde_json::{Map, Value, json};

use crate::leaves::Leaves;
use crate::persons::Persons;
use metadata::{Body, Issued, key_table, sign};

/// How long the timestamp holds, and with it the version: so long a registry may be gone, and so long whoever stands in its
/// place can hold back a newer version.
pub const ONLINE_VALIDITY: Duration = Duration::from_secs(72 * 3600);
const _: () = assert!(ONLINE_VALIDITY.as_secs() < SETTLED_AFTER.as_secs());
/// How long the snapshot and the list of revoked keys hold. They are signed again when half of it is over: what is left is
/// never less than the timestamp's, so that a version holds for as long as its timestamp says. Whoever has the timestamp's
/// key can hold back newer versions until then.
pub const SNAPSHOT_VALIDITY: Duration = Duration::from_secs(2 * ONLINE_VALIDITY.as_secs());
/// How long the roles hold that say who is a member.
pub const TARGETS_VALIDITY: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a root holds.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
/// The field of the root that states who may order what.
const PERSONS: &str = "persons";
/// Into how many bins the members, and the catalogue, are spread.
pub const BINS: usize = 256;
/// How many differences between a version and an older one are kept at hand: nearly everybody has one of the last few.
const DIFFERENCES: usize = 16;

/// The keys of each role that are at hand. A role whose keys are elsewhere has none here, and cannot change.
#[derive(Debug, Default)]
pub struct RoleKeys {
    /// Says which keys sign what.
    pub root: Vec<SigningKey>,
    /// Names the instance, and delegates.
    pub targets: Vec<SigningKey>,
    /// Says who is a member.
    pub members: Vec<SigningKey>,
    /// Carries the members' own entries.
    pub catalogue: Vec<SigningKey>,
    /// May only deny.
    pub revoked: Vec<SigningKey>,
    /// Says what belongs together.
    pub snapshot: Vec<SigningKey>,
    /// Says what is newest.
    pub timestamp: Vec<SigningKey>,
}

/// How many keys of each role must sign. Fields of the signed root and of its delegations from the first version on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// Of the root's keys.
    pub root: usize,
    /// Of the keys of `targets`.
    pub targets: usize,
    /// Of the keys of `members` and of each of its bins.
    pub members: usize,
    /// Of the keys of `catalogue` and of each of its bins.
    pub catalogue: usize,
    /// Of the keys of `revoked`.
    pub revoked: usize,
    /// Of the keys of `snapshot`.
    pub snapshot: usize,
    /// Of the keys of `timestamp`.
    pub timestamp: usize,
}

impl Thresholds {
    /// One key signs each role: a country on a laptop.
    pub const SANDBOX: Thresholds =
        Thresholds { root: 1, targets: 1, members: 1, catalogue: 1, revoked: 1, snapshot: 1, timestamp: 1 };
}

/// What the register holds and everybody is to know.
#[derive(Clone, Debug)]
pub struct View {
    /// The instance.
    pub instance: InstanceDocument,
    /// Its members, in any order.
    pub members: Vec<MemberDocument>,
    /// Keys that are revoked.
    pub revoked: Vec<RevokedKey>,
    /// What members list, one document each.
    pub catalogue: Vec<CatalogueDocument>,
}

/// A key that is revoked, and the last head that it may have signed, where that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RevokedKey {
    /// Its name.
    pub key: KeyId,
    /// The last head.
    pub last_head: Option<Head>,
}

impl From<KeyId> for RevokedKey {
    fn from(key: KeyId) -> Self {
        Self { key, last_head: None }
    }
}

/// One version of the whole repository, signed, and read by the servers' own code.
#[derive(Clone, Debug)]
pub struct Publication {
    trusted: Trusted,
    roles: BTreeMap<String, Arc<Issued>>,
    /// The version that first had each file.
    introduced: BTreeMap<String, u64>,
    /// Members as they were written. None of those that a start read from files: each is written again once, and compared.
    written: AsWritten,
    /// What was published, up to this version; none: of a registry that kept no ledger yet.
    ledger: Option<Ledger>,
    leaves: Leaves,
    /// No version up to this one is signed any more.
    passed: u64,
    /// What somebody lacks who has some older version: reckoned once, however many ask.
    differences: Arc<Mutex<Differences>>,
}

/// What whoever has a version, and the checkpoint of another, lacks.
type Differences = BTreeMap<(u64, u64), Arc<[File]>>;

/// The documents of each member, as they were written.
#[derive(Clone, Debug, Default)]
struct AsWritten {
    members: ByMember<MemberDocument>,
    catalogue: ByMember<CatalogueDocument>,
}

type ByMember<D> = BTreeMap<MemberId, Arc<Written<D>>>;

/// A member's document as it was written, and what its bin says of it.
#[derive(Debug)]
struct Written<D> {
    document: D,
    path: String,
    digest: Digest,
    bytes: Bytes,
}

/// Why nothing is published. What was published before stays.
#[derive(Debug, thiserror::Error)]
pub enum Unpublishable {
    /// Two documents of one member.
    #[error("the register holds two documents of {0}: a member has one")]
    MemberTwice(MemberId),
    /// A role must be signed and no key of it is at hand.
    #[error("{0} must be signed, and none of its keys is at hand: unlock them, or let their holders sign")]
    NoKey(String),
    /// Files of a publication that cannot be taken up again.
    #[error("the published files cannot be taken up again: {0}; restore them from the journal or a mirror")]
    Files(String),
    /// Every server would reject it.
    #[error("no server would take this version: {0}")]
    Rejected(#[from] Rejected),
}

impl Publication {
    /// The first version: makes the root, which is the anchor that joining servers are given.
    pub fn first(keys: &RoleKeys, thresholds: &Thresholds, view: &View, now: Time) -> Result<Self, Unpublishable> {
        Self::governed(keys, thresholds, None, view, now)
    }

    /// The same; the root states who may order what.
    pub fn governed(
        keys: &RoleKeys,
        thresholds: &Thresholds,
        persons: Option<&Persons>,
        view: &View,
        now: Time,
    ) -> Result<Self, Unpublishable> {
        let mut root = root_body(keys, thresholds);
        root.extend(persons.map(|persons| (PERSONS.to_owned(), json!(persons))));
        let root = Issued::new(1, now, ROOT_VALIDITY, root);
        let root = sign("root", "root", &root, &keys.root)?;
        let Change { mut bodies, documents, written } = Change::of(view, &AsWritten::default())?;
        for bin in all_bins() {
            bodies.entry(bin).or_insert_with(|| targets_body(Map::new()));
        }
        bodies.entry("targets".into()).or_default().insert("delegations".into(), top_delegations(keys, thresholds));
        bodies.insert("members".into(), bin_delegations("m", &keys.members, thresholds.members));
        bodies.insert("catalogue".into(), bin_delegations("c", &keys.catalogue, thresholds.catalogue));
        let (prior, kept) = (BTreeMap::new(), Files::new());
        let ledger = Ledger::awaiting(None, &view.instance.instance, 1);
        let mut draft = Draft::of(1, &prior, &kept, keys, now, Some(ledger));
        draft.files.insert(root_file(1), root.clone());
        draft.write(bodies, documents)?;
        let trusted = Anchor::read(root)?.first(&draft.files, now)?;
        let introduced = trusted.files().keys().map(|file| (file.clone(), 1)).collect();
        let Draft { roles, ledger, leaf, .. } = draft;
        let mut first = Self::of(trusted, roles, introduced, written);
        (first.ledger, first.passed) = (ledger, 1);
        first.grow(leaf);
        Ok(first)
    }

    /// Takes up a publication from its files, as [`Publication::files`] gave them.
    pub fn read(files: &Files) -> Result<Self, Unpublishable> {
        let broken = |reason: String| Unpublishable::Files(reason);
        let root = files.get(&root_file(1)).ok_or_else(|| broken(format!("{} is missing", root_file(1))))?;
        let trusted = Anchor::read(root.clone())
            .and_then(|anchor| Trusted::load(&anchor, files))
            .map_err(|error| broken(error.to_string()))?;
        let mut roles = BTreeMap::new();
        // Later roots are handed to everybody who asks: whoever has one already does not look at it again.
        let mut introduced: BTreeMap<String, u64> =
            trusted.files().keys().map(|file| (file.clone(), trusted.version())).collect();
        // A root of a ceremony was put there after this version was given to everybody.
        let roots = trusted.files().keys().filter(|file| file.ends_with(".root.json"));
        introduced.extend(roots.map(|root| (root.clone(), trusted.version() + 1)));
        for (file, bytes) in trusted.files() {
            let Some((role, issued)) = metadata::role_of(file, bytes) else { continue };
            introduced.insert(file.clone(), issued.version);
            introduced.extend(issued.target_files().into_iter().map(|target| (target, issued.version)));
            roles.insert(role, Arc::new(issued));
        }
        introduced.insert(root_file(1), 1);
        let mut read = Self::of(trusted, roles, introduced, AsWritten::default());
        read.ledger = read.trusted.configuration().ledger.as_ref().map(|standing| standing.ledger.clone());
        Ok(read)
    }

    fn of(
        trusted: Trusted,
        roles: BTreeMap<String, Arc<Issued>>,
        introduced: BTreeMap<String, u64>,
        written: AsWritten,
    ) -> Self {
        let (passed, differences) = (trusted.version(), Arc::default());
        Publication {
            trusted,
            roles,
            introduced,
            written,
            ledger: None,
            leaves: Leaves::default(),
            passed,
            differences,
        }
    }

    /// The same, where versions up to `passed` may have been signed, and the ledger goes on from here.
    pub(crate) fn passing_over(mut self, passed: u64, ledger: Option<Ledger>, leaves: Leaves) -> Self {
        (self.passed, self.ledger, self.leaves) = (self.passed.max(passed), ledger, leaves);
        self
    }

    /// Keeps the newest leaf with those before it.
    fn grow(&mut self, leaf: Option<Digest>) {
        if let (Some(ledger), Some(leaf)) = (&self.ledger, leaf) {
            self.leaves.push(ledger.name(), &leaf);
        }
    }

    /// What was published, up to this version.
    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The leaves of the ledger, as far as they are at hand.
    pub(crate) fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// The next version: what `view` says now. Gives the files that changed, `timestamp.json` last.
    ///
    /// Make the change durable before, and the files before they are pushed: a version is never signed twice with two
    /// contents. A crash in between leaves this publication, and signs the next version from the journal again, which
    /// nobody has seen.
    pub fn next(&self, keys: &RoleKeys, view: &View, now: Time) -> Result<(Self, Vec<File>), Unpublishable> {
        let Change { mut bodies, documents, written } = Change::of(view, &self.written)?;
        let known = [("m-", !self.written.members.is_empty()), ("c-", !self.written.catalogue.is_empty())];
        for (kind, _) in known.into_iter().filter(|(_, known)| !known) {
            // Nothing is known of what was written: a bin that nobody is in may have had somebody.
            for bin in all_bins().filter(|bin| bin.starts_with(kind)) {
                bodies.entry(bin).or_insert_with(|| targets_body(Map::new()));
            }
        }
        for (role, body) in &mut bodies {
            let prior = self.roles.get(role).map(|prior| &prior.body).into_iter().flatten();
            // What a role says beside its targets stays: its delegations.
            let beside =
                prior.filter(|(field, _)| *field != "targets").map(|(field, says)| (field.clone(), says.clone()));
            let beside: Vec<_> = beside.collect();
            body.extend(beside);
        }
        self.issue(keys, bodies, documents, written, now)
    }

    /// The same content in the next version: the timestamp signed again, and each role that is half way to its expiry.
    pub fn re_signed(&self, keys: &RoleKeys, now: Time) -> Result<(Self, Vec<File>), Unpublishable> {
        self.issue(keys, BTreeMap::new(), Files::new(), self.written.clone(), now)
    }

    /// The same content in this version, every role signed again whose keys are at hand, and every file new to everybody:
    /// after a restore, when files of later versions than these may be out, under names that these must not have.
    pub fn anew(&self, keys: &RoleKeys, version: u64, now: Time) -> Result<Self, Unpublishable> {
        let without_key = self.roles.iter().filter(|(role, _)| keys_of(role, keys).is_empty());
        let prior = without_key.map(|(role, issued)| (role.clone(), issued.clone())).collect();
        let bodies = self.roles.iter().map(|(role, issued)| (role.clone(), issued.body.clone())).collect();
        let kept = self.trusted.files();
        let mut draft = Draft::of(version, &prior, kept, keys, now, None);
        draft.write(bodies, Files::new())?;
        // Nobody is given this version, so it is no leaf; the one after it is, of the ledger that the journal knows.
        let files: Files = kept.iter().chain(&draft.files).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        let trusted = Anchor::read(self.anchor().clone())?.first(&files, now)?;
        let introduced = trusted.files().keys().map(|file| (file.clone(), version)).collect();
        Ok(Self::of(trusted, draft.roles, introduced, self.written.clone()))
    }

    fn issue(
        &self,
        keys: &RoleKeys,
        bodies: BTreeMap<String, Body>,
        documents: Files,
        written: AsWritten,
        now: Time,
    ) -> Result<(Self, Vec<File>), Unpublishable> {
        let version = self.passed.max(self.version()) + 1;
        let (prior, kept) = (&self.roles, self.trusted.files());
        let instance = &self.trusted.configuration().instance;
        let ledger = Ledger::awaiting(self.ledger.as_ref(), instance, version);
        let mut draft = Draft::of(version, prior, kept, keys, now, Some(ledger));
        draft.write(bodies, documents)?;
        // Versions that were passed over have their leaves, too: a server would be given their pages.
        let (ledger, mut leaves) = (draft.ledger.as_ref(), self.leaves.clone());
        ledger.into_iter().zip(draft.leaf).for_each(|(ledger, leaf)| leaves.push(ledger.name(), &leaf));
        let pages = ledger.map(|ledger| leaves.since(ledger, self.version())).unwrap_or_default();
        let pages = pages.into_iter().map(|file| (file.name, file.content));
        let offered: Files =
            draft.files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).chain(pages).collect();
        let trusted = update(&self.trusted, &offered, now)?;
        let changed: Vec<String> = trusted.since(&self.trusted).map(|(file, _)| file.clone()).collect();
        let mut introduced = self.introduced.clone();
        introduced.retain(|file, _| trusted.files().contains_key(file));
        introduced.extend(changed.into_iter().map(|file| (file, version)));
        let mut next = Self::of(trusted, draft.roles, introduced, written);
        (next.ledger, next.leaves) = (draft.ledger, leaves);
        let files = next.since(self.version()).to_vec();
        Ok((next, files))
    }

    /// Its version: the timestamp's.
    pub fn version(&self) -> u64 {
        self.trusted.version()
    }

    /// The anchor: the first root, which joining servers are given, and whose digest they are told another way.
    pub fn anchor(&self) -> &Bytes {
        self.trusted.files().get(&root_file(1)).expect("no publication is made without it")
    }

    /// The whole repository.
    pub fn files(&self) -> &Files {
        self.trusted.files()
    }

    /// What the security servers make of it.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// When each role expires, the root's newest included.
    pub fn expiries(&self) -> impl Iterator<Item = (&str, Time)> {
        let root = self.root().and_then(|root| metadata::expires(&root)).map(|expires| ("root", expires));
        root.into_iter().chain(self.roles.iter().map(|(role, issued)| (role.as_str(), issued.expires)))
    }

    /// The first of these roles whose key at hand is none that the root, or `targets`, names for it: no server would take
    /// what it signs.
    pub fn foreign_key(&self, keys: &RoleKeys) -> Option<&'static str> {
        let roles = [
            ("root", &keys.root),
            ("targets", &keys.targets),
            ("snapshot", &keys.snapshot),
            ("timestamp", &keys.timestamp),
            ("members", &keys.members),
            ("catalogue", &keys.catalogue),
            ("revoked", &keys.revoked),
        ];
        let root = self.root().unwrap_or_default();
        let delegations = self.roles.get("targets").and_then(|targets| targets.body["delegations"]["roles"].as_array());
        let delegated = |role: &str| delegations?.iter().find(|delegated| delegated["name"] == role);
        let foreign = |(role, keys): &(&'static str, &Vec<SigningKey>)| {
            let named = delegated(role).unwrap_or(&root["roles"][role])["keyids"].as_array();
            let is_named = |id: &String| named.is_some_and(|named| named.iter().any(|named| named == id));
            !metadata::key_ids(keys).iter().all(is_named)
        };
        roles.into_iter().find(foreign).map(|(role, _)| role)
    }

    /// What the newest root states of persons, and its version; none: it states nothing of them.
    pub fn persons(&self) -> Result<Option<(u64, Persons)>, Unpublishable> {
        let broken = |reason: String| Unpublishable::Files(format!("the root's `{PERSONS}`: {reason}"));
        let Some(mut root) = self.root() else { return Ok(None) };
        let version = root["version"].as_u64().unwrap_or_default();
        if root[PERSONS].is_null() {
            return Ok(None);
        }
        let persons: Persons =
            serde_json::from_value(root[PERSONS].take()).map_err(|error| broken(error.to_string()))?;
        persons.check().map_err(|error| broken(error.to_string()))?;
        Ok(Some((version, persons)))
    }

    /// What the newest root says.
    fn root(&self) -> Option<Value> {
        let versions = (1u64..).map(root_file).take_while(|file| self.files().contains_key(file));
        let mut root: Value = serde_json::from_slice(self.files().get(&versions.last()?)?).ok()?;
        Some(root["signed"].take())
    }

    /// The files that a server lacks that has `version`, `timestamp.json` last, with the pages of the ledger that lead from that
    /// version's checkpoint to this one's; all files for 0.
    pub fn since(&self, version: u64) -> Arc<[File]> {
        self.since_checkpoint(version, version)
    }

    /// The pages of the ledger, as they are published beside the files.
    pub fn pages(&self) -> Vec<File> {
        self.leaves.all()
    }

    /// The same for whoever has all of version `version`, and holds the checkpoint of version `logged`.
    pub fn since_checkpoint(&self, version: u64, logged: u64) -> Arc<[File]> {
        // What is behind the lock changes by one assignment each.
        let mut kept = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = kept.get(&(version, logged)) {
            return files.clone();
        }
        let pages = self.ledger.as_ref().map(|ledger| self.leaves.since(ledger, logged)).unwrap_or_default();
        let lacking = |file: &&String| self.introduced.get(*file).is_none_or(|introduced| *introduced > version);
        let file = |name: &String| File { name: name.clone(), content: self.files()[name].clone() };
        let before = self.files().keys().filter(|name| *name != TIMESTAMP).filter(lacking);
        let timestamp = self.files().keys().filter(|name| *name == TIMESTAMP).filter(lacking);
        let files: Arc<[File]> = pages.into_iter().chain(before.map(file)).chain(timestamp.map(file)).collect();
        if kept.len() >= DIFFERENCES {
            kept.clear();
        }
        kept.insert((version, logged), files.clone());
        files
    }
}

/// One version being written.
struct Draft<'a> {
    version: u64,
    prior: &'a BTreeMap<String, Arc<Issued>>,
    /// The files of the version before.
    kept: &'a Files,
    keys: &'a RoleKeys,
    now: Time,
    roles: BTreeMap<String, Arc<Issued>>,
    files: Files,
    /// What it is to be the next leaf of, and then is the last one of; none: it is given to nobody.
    ledger: Option<Ledger>,
    /// Its leaf.
    leaf: Option<Digest>,
}

impl<'a> Draft<'a> {
    fn of(
        version: u64,
        prior: &'a BTreeMap<String, Arc<Issued>>,
        kept: &'a Files,
        keys: &'a RoleKeys,
        now: Time,
        ledger: Option<Ledger>,
    ) -> Self {
        let (roles, files) = (BTreeMap::new(), Files::new());
        Self { version, prior, kept, keys, now, roles, files, ledger, leaf: None }
    }

    /// Writes these roles and documents, and what follows from them. Of other roles nothing changed.
    fn write(&mut self, mut bodies: BTreeMap<String, Body>, documents: Files) -> Result<(), Unpublishable> {
        bodies.remove("snapshot");
        bodies.remove("timestamp");
        for (role, prior) in self.prior {
            if !matches!(role.as_str(), "snapshot" | "timestamp") && !bodies.contains_key(role) {
                self.unchanged(role, prior)?;
            }
        }
        for (role, body) in bodies {
            self.role(&role, body)?;
        }
        self.snapshot()?;
        self.timestamp()?;
        self.checkpoint();
        self.files.extend(documents);
        Ok(())
    }

    /// Pins each role by its version; those that delegate by their bytes too, which whoever has only some of the files can
    /// check; and the bytes of all of them together.
    fn snapshot(&mut self) -> Result<(), Unpublishable> {
        let mut digests = BTreeMap::new();
        for (role, issued) in &self.roles {
            let file = format!("{}.{role}.json", issued.version);
            let bytes = self.files.get(&file).or_else(|| self.kept.get(&file));
            let bytes = bytes.ok_or_else(|| Unpublishable::Files(format!("{file} is missing")))?;
            digests.insert(role.as_str(), Digest::of(&[bytes]));
        }
        let pin = |(role, issued): (&String, &Arc<Issued>)| {
            let mut pin = json!({ "version": issued.version });
            if !is_bin(role) {
                pin["hashes"] = json!({ "sha256": digests[role.as_str()].to_string() });
            }
            (format!("{role}.json"), pin)
        };
        let meta: Map<String, Value> = self.roles.iter().map(pin).collect();
        let all = Value::String(digest_of_roles(&digests).to_string());
        self.role(
            "snapshot",
            Body::from_iter([("meta".to_owned(), Value::Object(meta)), (ROLES_SHA256.to_owned(), all)]),
        )
    }

    /// Signs the role again if it changed or is due; else keeps it, file and version.
    fn role(&mut self, role: &str, body: Body) -> Result<(), Unpublishable> {
        match self.prior.get(role) {
            Some(prior) if prior.body == body => self.unchanged(role, prior),
            _ => self.sign(role, body),
        }
    }

    /// Keeps the role, file and version, or signs it again if it is due.
    fn unchanged(&mut self, role: &str, prior: &Arc<Issued>) -> Result<(), Unpublishable> {
        let due = self.now.plus(validity_of(role) / 2) >= prior.expires;
        if due && !keys_of(role, self.keys).is_empty() {
            return self.sign(role, prior.body.clone());
        }
        self.roles.insert(role.into(), prior.clone());
        Ok(())
    }

    fn sign(&mut self, role: &str, body: Body) -> Result<(), Unpublishable> {
        let issued = Issued::new(self.version, self.now, validity_of(role), body);
        let kind = if role == "snapshot" { "snapshot" } else { "targets" };
        let bytes = sign(role, kind, &issued, keys_of(role, self.keys))?;
        self.files.insert(format!("{}.{role}.json", self.version), bytes);
        self.roles.insert(role.into(), Arc::new(issued));
        Ok(())
    }

    /// Signed with every version. It pins the snapshot's bytes, which are in the files if they are new.
    fn timestamp(&mut self) -> Result<(), Unpublishable> {
        let snapshot = self.roles.get("snapshot").expect("it was written just before").version;
        let pin = match (self.files.get(&format!("{snapshot}.snapshot.json")), self.prior.get("timestamp")) {
            (Some(bytes), _) => json!({
                "hashes": { "sha256": Digest::of(&[bytes]).to_string() },
                "length": bytes.len(),
                "version": snapshot,
            }),
            // The snapshot was kept, and so is its pin.
            (None, Some(prior)) => prior.body["meta"]["snapshot.json"].clone(),
            (None, None) => return Err(Unpublishable::Files("timestamp.json is missing".into())),
        };
        let mut body = Body::from_iter([
            ("meta".to_owned(), json!({ "snapshot.json": pin })),
            ("signed_at".to_owned(), Value::String(metadata::seconds(self.now).to_string())),
        ]);
        body.extend(self.ledger.as_ref().map(|ledger| (LEDGER.to_owned(), Value::String(ledger.name().to_string()))));
        let issued = Issued::new(self.version, self.now, ONLINE_VALIDITY, body);
        let bytes = sign("timestamp", "timestamp", &issued, &self.keys.timestamp)?;
        self.files.insert(TIMESTAMP.into(), bytes);
        self.roles.insert("timestamp".into(), Arc::new(issued));
        Ok(())
    }

    /// The timestamp is the ledger's next leaf, and the checkpoint with it is signed by the same keys.
    fn checkpoint(&mut self) {
        let (Some(ledger), Some(timestamp)) = (&mut self.ledger, self.files.get(TIMESTAMP)) else { return };
        let digest = Digest::of(&[timestamp]);
        let path = ledger.append(&digest);
        let checkpoint = ledger.checkpoint().to_text();
        let signature = |key: &SigningKey| Signature {
            keyid: metadata::key_id(key.public()),
            sig: hex::encode(key.sign(checkpoint.as_bytes())),
        };
        let signatures = self.keys.timestamp.iter().map(signature).collect();
        let geneses = ledger.geneses().to_vec();
        let file = CheckpointFile { checkpoint, geneses, path, signatures };
        self.files.insert(checkpoint_file(self.version), file.to_bytes());
        self.leaf = Some(leaf(self.version, &digest));
    }
}

/// What a view says that was not written: the roles whose targets may differ, and the new documents by their files' names.
struct Change {
    bodies: BTreeMap<String, Body>,
    documents: Files,
    /// All of each member, as it is written now.
    written: AsWritten,
}

impl Change {
    /// What is as it was written is not written again, and bins without others are not looked at.
    fn of(view: &View, before: &AsWritten) -> Result<Self, Unpublishable> {
        let (mut documents, mut targets) = (Files::new(), BTreeMap::new());
        let members = view.members.iter().map(|document| (&document.member, document));
        let members = bins("m", members, &before.members, Written::of_member, &mut documents, &mut targets)?;
        let listed = view.catalogue.iter().map(|document| (&document.member, document));
        let catalogue = bins("c", listed, &before.catalogue, Written::of_listed, &mut documents, &mut targets)?;
        let written = AsWritten { members, catalogue };
        let instance = Bytes::from(view.instance.to_bytes());
        for (role, path, bytes) in revoked(view).map(|(path, bytes)| ("revoked", path, bytes)).chain([(
            "targets",
            INSTANCE_PATH.into(),
            instance,
        )]) {
            let digest = Digest::of(&[&bytes]);
            targets.entry(role.into()).or_default().insert(path.clone(), target(&bytes, &digest));
            documents.insert(target_file(&path, &digest), bytes);
        }
        let bodies = targets.into_iter().map(|(role, targets)| (role, targets_body(targets))).collect();
        Ok(Self { bodies, documents, written })
    }
}

/// Puts the documents of one kind into the bins that change, and gives all of them as they are written now.
fn bins<'a, D: PartialEq + 'a>(
    kind: &str,
    all: impl Iterator<Item = (&'a MemberId, &'a D)>,
    before: &ByMember<D>,
    write: fn(&D) -> Written<D>,
    documents: &mut Files,
    targets: &mut BTreeMap<String, Map<String, Value>>,
) -> Result<ByMember<D>, Unpublishable> {
    let (mut written, mut touched) = (ByMember::new(), BTreeSet::new());
    for (member, document) in all {
        let same = before.get(member).filter(|before| before.document == *document);
        let now = same.cloned().unwrap_or_else(|| Arc::new(write(document)));
        if same.is_none() {
            touched.insert(bin_of(&now.path));
            documents.insert(target_file(&now.path, &now.digest), now.bytes.clone());
        }
        if written.insert(member.clone(), now).is_some() {
            return Err(Unpublishable::MemberTwice(member.clone()));
        }
    }
    let gone = before.iter().filter(|(member, _)| !written.contains_key(*member));
    touched.extend(gone.map(|(_, before)| bin_of(&before.path)));
    targets.extend(touched.iter().map(|bin| (bin_name(kind, *bin), Map::new())));
    for member in written.values() {
        if let Some(bin) = targets.get_mut(&bin_name(kind, bin_of(&member.path))) {
            bin.insert(member.path.clone(), target(&member.bytes, &member.digest));
        }
    }
    Ok(written)
}

impl Written<MemberDocument> {
    fn of_member(document: &MemberDocument) -> Self {
        Self::of(document.clone(), MemberDocument::path_of(&document.member), document.to_bytes())
    }
}

impl Written<CatalogueDocument> {
    fn of_listed(document: &CatalogueDocument) -> Self {
        Self::of(document.clone(), CatalogueDocument::path_of(&document.member), document.to_bytes())
    }
}

impl<D> Written<D> {
    fn of(document: D, path: String, bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        let digest = Digest::of(&[&bytes]);
        Self { document, path, digest, bytes }
    }
}

/// The documents of revoked keys by their paths.
fn revoked(view: &View) -> impl Iterator<Item = (String, Bytes)> {
    let mut shards = vec![RevokedDocument::default(); REVOKED_SHARDS];
    let revoked: BTreeMap<KeyId, Option<Head>> =
        view.revoked.iter().map(|revoked| (revoked.key, revoked.last_head)).collect();
    for (key, last_head) in revoked {
        let shard = &mut shards[RevokedDocument::shard_of(&key)];
        shard.keys.push(key);
        shard.last_heads.extend(last_head.map(|head| LastHead { key, head }));
    }
    shards
        .into_iter()
        .enumerate()
        .map(|(shard, document)| (RevokedDocument::path_of(shard), document.to_bytes().into()))
}

/// What a role says of a target.
fn target(bytes: &Bytes, digest: &Digest) -> Value {
    json!({ "hashes": { "sha256": digest.to_string() }, "length": bytes.len() })
}

fn targets_body(targets: Map<String, Value>) -> Body {
    Body::from_iter([("targets".to_owned(), Value::Object(targets))])
}

fn all_bins() -> impl Iterator<Item = String> {
    (0..BINS).flat_map(|bin| [bin_name("m", bin), bin_name("c", bin)])
}

fn bin_of(path: &str) -> usize {
    usize::from(Digest::of(&[path.as_bytes()]).as_bytes()[0])
}

fn is_bin(role: &str) -> bool {
    role.starts_with("m-") || role.starts_with("c-")
}

fn bin_name(kind: &str, bin: usize) -> String {
    format!("{kind}-{bin:02x}")
}

fn root_body(keys: &RoleKeys, thresholds: &Thresholds) -> Body {
    let roles = [
        ("root", &keys.root, thresholds.root),
        ("snapshot", &keys.snapshot, thresholds.snapshot),
        ("targets", &keys.targets, thresholds.targets),
        ("timestamp", &keys.timestamp, thresholds.timestamp),
    ];
    let all = roles.iter().flat_map(|(_, keys, _)| keys.iter());
    let bindings = roles.iter().map(|(role, keys, threshold)| {
        (role.to_string(), json!({ "keyids": metadata::key_ids(keys), "threshold": threshold }))
    });
    Body::from_iter([
        ("consistent_snapshot".to_owned(), Value::Bool(true)),
        ("keys".to_owned(), key_table(all)),
        ("roles".to_owned(), Value::Object(bindings.collect())),
    ])
}

fn top_delegations(keys: &RoleKeys, thresholds: &Thresholds) -> Value {
    let roles = [
        ("revoked", &keys.revoked, thresholds.revoked, "revoked/*.json"),
        ("members", &keys.members, thresholds.members, "members/*/*/*.json"),
        ("catalogue", &keys.catalogue, thresholds.catalogue, "catalogue/*/*/*.json"),
    ];
    let delegated = roles.iter().map(|(role, keys, threshold, path)| {
        json!({
            "keyids": metadata::key_ids(keys), "name": role, "paths": [path], "terminating": true, "threshold": threshold,
        })
    });
    let delegated: Vec<Value> = delegated.collect();
    json!({ "keys": key_table(roles.iter().flat_map(|(_, keys, _, _)| keys.iter())), "roles": delegated })
}

fn bin_delegations(kind: &str, keys: &[SigningKey], threshold: usize) -> Body {
    let ids = metadata::key_ids(keys);
    let bins = (0..BINS).map(|bin| {
        json!({
            "keyids": ids, "name": bin_name(kind, bin), "path_hash_prefixes": [format!("{bin:02x}")],
            "terminating": true, "threshold": threshold,
        })
    });
    let delegations = json!({ "keys": key_table(keys.iter()), "roles": bins.collect::<Vec<Value>>() });
    Body::from_iter([("delegations".to_owned(), delegations), ("targets".to_owned(), json!({}))])
}

fn keys_of<'a>(role: &str, keys: &'a RoleKeys) -> &'a [SigningKey] {
    match role {
        "targets" => &keys.targets,
        "revoked" => &keys.revoked,
        "snapshot" => &keys.snapshot,
        "timestamp" => &keys.timestamp,
        "catalogue" => &keys.catalogue,
        bin if bin.starts_with("c-") => &keys.catalogue,
        _ => &keys.members,
    }
}

fn validity_of(role: &str) -> Duration {
    match role {
        "revoked" | "snapshot" => SNAPSHOT_VALIDITY,
        _ => TARGETS_VALIDITY,
    }
}
