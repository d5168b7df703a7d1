//! From one trusted version of the global configuration to the next, or to the reason why not.
//!
//! The files are those of a TUF repository (The Update Framework, specification 1.0) with consistent snapshots, so each
//! name but `timestamp.json` stands for its bytes for ever: `3.root.json`, `57.snapshot.json`, `12.m-0a.json`,
//! `members/VN/GOV/<sha256>.moj.json`. The state machine of signatures and versions is `sigstore_tuf`'s; what is kept from
//! one version to the next, what must be there, and what the documents may say is decided here:
//!
//! 1. Every role that a delegation names is pinned by the snapshot and present, and every target that a role names is
//!    present with its length and SHA-256, or the whole version is rejected.
//! 2. A role speaks only below the paths that every delegation on the way to it allows, and below its own first segment:
//!    `members` cannot revoke, `revoked` can do nothing but deny.
//! 3. A file of a name that is trusted already must be that very file: two files signed under one version are refused.
//! 4. Versions never go back, past a change of the root too, unless the root changed the keys of `timestamp` or `snapshot`.
//! 5. A revoked key may leave the list only when it is registered nowhere any more, and its last head, once named, stays.
//! 6. The roles are the very files that the snapshot was signed over ([`ROLES_SHA256`]): a role's own keys alone do not
//!    change what a version says.
//! 7. The version is the last leaf of the registry's ledger, whose checkpoint continues the one that is held, leaf by leaf;
//!    and once there was a checkpoint, there is always one ([`ledger`]).
//!
//! Nothing is changed in place: a rejected update leaves the trusted version as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sigstore_tuf::{DelegatedRole, Error as Tuf, Key, Root, Targets, TrustedMetadataSet};

use super::Configuration;
use super::document::{
    Edition, GovernedInstance, INSTANCE_PATH, InstanceDocument, MAX_DOCUMENT_BYTES, MemberDocument, REVOKED_SHARDS,
    Refused, RegisteredMember, Revoked, RevokedDocument,
};
use super::ledger::{self, NotInLedger, NotJoined, Seen, Shown, Signers, Standing, Way, checkpoint_file, leaf};
use super::listed::CatalogueDocument;
use crate::digest::Digest;
use crate::identifier::InstanceId;
use crate::signature::{KeyId, PublicKey};
use crate::time::Time;

/// Files by name.
pub type Files = BTreeMap<String, Bytes>;

/// The one file whose name says nothing of its version.
pub const TIMESTAMP: &str = "timestamp.json";
/// The custom field of the timestamp that says when it was signed.
pub const SIGNED_AT: &str = "signed_at";
/// The custom field of the snapshot that says which files its roles are: see [`digest_of_roles`].
pub const ROLES_SHA256: &str = "roles_sha256";
/// The custom field of the timestamp that names the ledger in which the version stands.
pub const LEDGER: &str = "ledger";
/// Most files of one version.
pub const MAX_FILES: usize = 200_000;
/// Most bytes of one version.
pub const MAX_TOTAL_BYTES: usize = 256 * 1024 * 1024;
/// Longest `timestamp.json`.
pub const MAX_TIMESTAMP_BYTES: usize = 16 * 1024;
/// Longest metadata of any other role.
pub const MAX_ROLE_BYTES: usize = 1024 * 1024;
/// Most roles of one version.
pub const MAX_ROLES: usize = 2048;
/// Most delegations from `targets` to the last role.
pub const MAX_DEPTH: usize = 3;
/// Most roots from the anchor to the newest.
pub const MAX_ROOTS: usize = 1024;

/// Roles that `targets` must delegate to: without `revoked` a revocation would be lost in silence.
const REQUIRED_ROLES: [&str; 2] = ["members", "revoked"];
const SCHEME: &str = "ecdsa-sha2-nistp256";

/// The root that a server was given when it joined. All trust begins here.
#[derive(Clone, Debug)]
pub struct Anchor {
    set: TrustedMetadataSet,
    bytes: Bytes,
}

/// One version of the global configuration, verified whole, with the files that prove it.
#[derive(Clone, Debug)]
pub struct Trusted {
    set: TrustedMetadataSet,
    files: Files,
    roles: BTreeMap<String, Arc<VerifiedRole>>,
    documents: BTreeMap<String, Arc<Document>>,
    configuration: Arc<Configuration>,
}

/// Why a version is not taken. The version before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A file that the version names is not there.
    #[error("{file} is named by the version and missing: a version is taken whole or not at all")]
    Missing {
        /// The file.
        file: String,
    },
    /// A role that a delegation names and the snapshot does not pin.
    #[error("the role {role} is delegated and the snapshot does not pin it: a version is taken whole or not at all")]
    NotPinned {
        /// The role.
        role: String,
    },
    /// A role that every version must have.
    #[error("`targets` does not delegate to {role}, without which no version is taken")]
    NotDelegated {
        /// The role.
        role: &'static str,
    },
    /// A target that every version must have.
    #[error("no role names {target}, without which no version is taken")]
    NotNamed {
        /// The target.
        target: String,
    },
    /// Over one of the limits of this module.
    #[error("{what}: {found}, at most {most} are taken")]
    TooLarge {
        /// What was measured.
        what: String,
        /// Its size.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// Not metadata of its kind.
    #[error("{file} is no metadata of its kind: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// What the parser said.
        reason: String,
    },
    /// Older than what is trusted.
    #[error("{role} goes back from version {trusted} to {offered}: an old version was offered again")]
    Rollback {
        /// The role.
        role: String,
        /// The version that is trusted.
        trusted: u64,
        /// The version that was offered.
        offered: u64,
    },
    /// Not one higher than the root before.
    #[error("the root after version {trusted} must be the next one, and this is version {offered}")]
    RootVersion {
        /// The version that is trusted.
        trusted: u64,
        /// The version that was offered.
        offered: u64,
    },
    /// Past its validity: somebody holds back newer files, or nobody signed.
    #[error("{role} expired at {at}: newer files are held back, nobody signed them, or this machine's clock is wrong")]
    Expired {
        /// The role.
        role: String,
        /// When it expired.
        at: Time,
    },
    /// Too few signatures of the role's keys.
    #[error("{role} bears {found} good signatures of its keys, and {threshold} are needed")]
    Signatures {
        /// The role.
        role: String,
        /// Good signatures of distinct keys.
        found: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// A key that signed the same file twice.
    #[error("{role} is signed twice by the key {key}: each key signs once")]
    SignedTwice {
        /// The role.
        role: String,
        /// The key.
        key: String,
    },
    /// A key that is not of the one kind taken.
    #[error("{role} names the key {key}, which is not a P-256 key: {reason}")]
    UnknownKey {
        /// The role that names it.
        role: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One key under two names could meet a threshold of two alone.
    #[error("{role} names one key twice, as {first} and as {second}")]
    SameKeyTwice {
        /// The role that names it.
        role: String,
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
    /// Not the bytes that the signed pin says.
    #[error("{file} is not the file that was signed for: {reason}")]
    OtherBytes {
        /// The file.
        file: String,
        /// What differs.
        reason: String,
    },
    /// Roles of the right names and versions, and not those that the snapshot was signed over.
    #[error(
        "the roles are not the files that the snapshot was signed over: the keys of one of them signed one version \
         twice, or a file was changed on the way"
    )]
    OtherRoles,
    /// Two files under one name, both perhaps signed.
    #[error(
        "{file} has other bytes than the file of that name that is trusted: one version was signed twice, or a file was changed on the way"
    )]
    TwoOfOneName {
        /// The file.
        file: String,
    },
    /// A role with a name that is not of the grammar, or too deep.
    #[error("{role:?} cannot be delegated to: {reason}")]
    BadDelegation {
        /// The role.
        role: String,
        /// Why not.
        reason: &'static str,
    },
    /// A role that two delegations name.
    #[error("the role {role} is delegated to twice")]
    RoleTwice {
        /// The role.
        role: String,
    },
    /// A target that two roles name.
    #[error("{target} is named by two roles, {first} and {second}")]
    TargetTwice {
        /// The target.
        target: String,
        /// One role.
        first: String,
        /// The other.
        second: String,
    },
    /// A role that speaks outside its paths.
    #[error("the role {role} names {target}, and no delegation allows it to")]
    NotAllowed {
        /// The role.
        role: String,
        /// The target.
        target: String,
    },
    /// Another instance's configuration.
    #[error("this is the configuration of {offered}, and the one of {trusted} is trusted here")]
    OtherInstance {
        /// The instance that is trusted.
        trusted: InstanceId,
        /// The instance that was offered.
        offered: InstanceId,
    },
    /// A revoked key that is no longer listed, and still registered.
    #[error(
        "the key {key} is revoked and registered, and left the list: a revoked key never comes back, register a new one"
    )]
    Unrevoked {
        /// The key.
        key: KeyId,
    },
    /// Another last head of a revoked key than the one that was named.
    #[error("the last head of the revoked key {key} changed: once named it stays, or a thief could move it")]
    OtherLastHead {
        /// The key.
        key: KeyId,
    },
    /// No checkpoint, where one is held.
    #[error(
        "version {version} names no ledger, and a checkpoint of {held} is held: who once showed a ledger shows it with every \
         version; tell the registry's admins"
    )]
    NoLedger {
        /// The version.
        version: u64,
        /// The ledger.
        held: Digest,
    },
    /// Not in the ledger, or not in the one that is held.
    #[error(transparent)]
    Ledger(#[from] NotInLedger),
    /// A document that is refused.
    #[error(transparent)]
    Document(#[from] Refused),
}

/// Reads what was fetched on top of what is trusted. Only what changed needs to be in `fetched`, and always
/// `timestamp.json`; the rest comes from `trusted`. Files that the new version does not name are not looked at.
pub fn update(trusted: &Trusted, fetched: &Files, now: Time) -> Result<Trusted, Rejected> {
    let walk = Walk::on(trusted, fetched, now.to_jiff());
    unexpired(walk.through()?, now)
}

/// The files that are to be fetched next of the version that `fetched` begins, in the order of who vouches for whom: what
/// names each was verified before. None: [`update`] has all that it needs. So whoever fetches file by file follows
/// nobody's word but the registry's.
pub fn lacking(trusted: &Trusted, fetched: &Files, now: Time) -> Result<Vec<String>, Rejected> {
    Walk::on(trusted, fetched, now.to_jiff()).lacking()
}

impl Anchor {
    /// Reads the root that was handed over at joining. That it is the right one only its digest can tell.
    pub fn read(root: Bytes) -> Result<Anchor, Rejected> {
        within("bytes of the anchor", root.len(), MAX_ROLE_BYTES)?;
        let set = TrustedMetadataSet::from_root(&root).map_err(|error| named("root", "the anchor", error))?;
        check_keys("root", &set.root().keys)?;
        Ok(Anchor { set, bytes: root })
    }

    /// SHA-256 of the root: what two people compare over the telephone.
    pub fn digest(&self) -> Digest {
        Digest::of(&[&self.bytes])
    }

    /// The root's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The first version that is ever trusted on this anchor: all files are in `fetched`.
    pub fn first(&self, fetched: &Files, now: Time) -> Result<Trusted, Rejected> {
        let walk = Walk::from(self, fetched, now.to_jiff());
        unexpired(walk.through()?, now)
    }
}

/// The keys that sign checkpoints by the newest of these roots, verified from the anchor on. Expiry is judged at `now`.
pub fn ledger_signers(anchor: &Anchor, roots: &Files, now: Time) -> Result<Signers, Rejected> {
    let mut walk = Walk::from(anchor, roots, now.to_jiff());
    walk.bounded()?;
    walk.roots()?;
    signers(walk.set.root())
}

impl Trusted {
    /// Reads the files that were trusted before a restart. They were judged by the clock then, so that they expired since
    /// is no fault: the configuration says so itself, and its versions stay the floor for what comes next.
    pub fn load(anchor: &Anchor, files: &Files) -> Result<Trusted, Rejected> {
        Walk { stored: true, ..Walk::from(anchor, files, jiff::Timestamp::MIN) }.through()
    }

    /// What it says.
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// The version of its timestamp.
    pub fn version(&self) -> u64 {
        self.configuration.version
    }

    /// All files that prove it, and no other.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The keys that sign checkpoints of the ledger, by its newest root.
    pub fn ledger_signers(&self) -> Result<Signers, Rejected> {
        signers(self.set.root())
    }

    /// The name of the root that would follow the newest one.
    pub fn next_root(&self) -> String {
        root_file(self.set.root().version.saturating_add(1))
    }

    /// The files that it has and `before` has not.
    pub fn since<'a>(&'a self, before: &'a Trusted) -> impl Iterator<Item = (&'a String, &'a Bytes)> {
        let same =
            |one: &Bytes, other: &Bytes| one.as_ptr() == other.as_ptr() && one.len() == other.len() || one == other;
        self.files
            .iter()
            .filter(move |(name, bytes)| !before.files.get(*name).is_some_and(|before| same(before, bytes)))
    }
}

fn unexpired(trusted: Trusted, now: Time) -> Result<Trusted, Rejected> {
    let at = trusted.configuration.expires_at;
    if now >= at { Err(Rejected::Expired { role: "the version".into(), at }) } else { Ok(trusted) }
}

/// What a role says, its signatures and its pin verified.
#[derive(Debug)]
struct VerifiedRole {
    delegator: Option<String>,
    expires: Time,
    targets: BTreeMap<String, Target>,
    delegated: Vec<DelegatedRole>,
}

/// A target as its role names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub length: u64,
    pub digest: Digest,
}

/// A target's document, its length and hash verified.
#[derive(Debug)]
struct Document {
    target: Target,
    meaning: Meaning,
}

#[derive(Debug)]
enum Meaning {
    Instance(GovernedInstance),
    Member(RegisteredMember),
    Revoked(Revoked),
    Catalogue(Arc<CatalogueDocument>),
}

/// The way from the root to the last target of one version.
struct Walk<'a> {
    before: Option<&'a Trusted>,
    fetched: &'a Files,
    now: jiff::Timestamp,
    set: TrustedMetadataSet,
    root_changed: bool,
    /// Roles that `set` holds now.
    fed: BTreeSet<String>,
    files: Files,
    roles: BTreeMap<String, Arc<VerifiedRole>>,
    /// The files were trusted before, and are read again.
    stored: bool,
    /// Roles' files that are not there, of a walk that looks for them and does not end at the first.
    absent: Option<Vec<String>>,
}

impl<'a> Walk<'a> {
    fn on(before: &'a Trusted, fetched: &'a Files, now: jiff::Timestamp) -> Self {
        let roots = before.files.iter().filter(|(name, _)| name.ends_with(".root.json"));
        let files = roots.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        let (set, fed, roles) = (before.set.clone(), BTreeSet::new(), BTreeMap::new());
        Walk {
            before: Some(before),
            fetched,
            now,
            set,
            root_changed: false,
            fed,
            files,
            roles,
            stored: false,
            absent: None,
        }
    }

    fn from(anchor: &Anchor, fetched: &'a Files, now: jiff::Timestamp) -> Self {
        let files = Files::from([(root_file(anchor.set.root().version), anchor.bytes.clone())]);
        let (set, fed, roles) = (anchor.set.clone(), BTreeSet::new(), BTreeMap::new());
        Walk { before: None, fetched, now, set, root_changed: false, fed, files, roles, stored: false, absent: None }
    }

    fn bounded(&self) -> Result<(), Rejected> {
        within("files", self.fetched.len(), MAX_FILES)?;
        within("bytes in all files", self.fetched.values().map(Bytes::len).sum(), MAX_TOTAL_BYTES)
    }

    fn through(mut self) -> Result<Trusted, Rejected> {
        self.bounded()?;
        self.roots()?;
        if let Some(before) = self.before
            && !self.root_changed
            && self.fetched.get(TIMESTAMP) == before.files.get(TIMESTAMP)
        {
            return Ok(before.clone());
        }
        let signed_at = self.timestamp()?;
        self.snapshot()?;
        self.no_version_goes_back()?;
        self.role("targets", None, &[])?;
        for role in REQUIRED_ROLES {
            if self.roles.get(role).is_none_or(|verified| verified.delegator.as_deref() != Some("targets")) {
                return Err(Rejected::NotDelegated { role });
            }
        }
        let documents = self.documents()?;
        self.roles_are_those_of_the_snapshot()?;
        let mut configuration = self.configuration(&documents, signed_at)?;
        configuration.ledger = self.in_the_ledger(&configuration)?;
        let configuration = Arc::new(configuration);
        Ok(Trusted { set: self.set, files: self.files, roles: self.roles, documents, configuration })
    }

    /// As far as the files lead.
    fn lacking(mut self) -> Result<Vec<String>, Rejected> {
        self.bounded()?;
        self.roots()?;
        let Some(timestamp) = self.fetched.get(TIMESTAMP) else { return Ok(vec![TIMESTAMP.into()]) };
        if self.before.is_some_and(|before| before.files.get(TIMESTAMP) == Some(timestamp)) && !self.root_changed {
            return Ok(Vec::new());
        }
        self.timestamp()?;
        match self.snapshot() {
            Err(Rejected::Missing { file }) => return Ok(vec![file]),
            read => read?,
        }
        self.no_version_goes_back()?;
        self.absent = Some(Vec::new());
        self.role("targets", None, &[])?;
        let mut absent = self.absent.take().unwrap_or_default();
        if absent.is_empty() {
            let targets = self.roles.values().flat_map(|role| &role.targets);
            let documents = targets.map(|(path, target)| target_file(path, &target.digest));
            absent = documents.filter(|file| !self.is_there(file)).collect();
        }
        if absent.is_empty() {
            absent = self.lacking_of_the_ledger()?;
        }
        within("files", self.fetched.len() + absent.len(), MAX_FILES)?;
        Ok(absent)
    }

    fn is_there(&self, file: &str) -> bool {
        self.fetched.contains_key(file) || self.before.is_some_and(|before| before.files.contains_key(file))
    }

    /// TUF 5.3: each root is signed by the one before and by itself.
    fn roots(&mut self) -> Result<(), Rejected> {
        let trusted = root_file(self.set.root().version);
        if self.fetched.get(&trusted).is_some_and(|offered| Some(offered) != self.files.get(&trusted)) {
            return Err(Rejected::TwoOfOneName { file: trusted });
        }
        loop {
            let file = root_file(self.set.root().version.saturating_add(1));
            let Some(bytes) = self.fetched.get(&file) else { break };
            within(&file, bytes.len(), MAX_ROLE_BYTES)?;
            within("roots", self.files.len(), MAX_ROOTS)?;
            self.set.update_root(bytes).map_err(|error| named("root", &file, error))?;
            check_keys("root", &self.set.root().keys)?;
            self.files.insert(file, bytes.clone());
            self.root_changed = true;
        }
        self.set.check_root_expired(self.now).map_err(|error| named("root", "root.json", error))
    }

    /// TUF 5.4. Gives the time of signing, which is a field of ours.
    fn timestamp(&mut self) -> Result<Time, Rejected> {
        let missing = || Rejected::Missing { file: TIMESTAMP.into() };
        let bytes = self.fetched.get(TIMESTAMP).ok_or_else(missing)?;
        within(TIMESTAMP, bytes.len(), MAX_TIMESTAMP_BYTES)?;
        self.set.update_timestamp(bytes, self.now).map_err(|error| named("timestamp", TIMESTAMP, error))?;
        self.files.insert(TIMESTAMP.into(), bytes.clone());
        let timestamp = self.set.timestamp().ok_or_else(missing)?;
        let signed_at = timestamp.extra.get(SIGNED_AT).and_then(|value| value.as_str());
        let signed_at: Option<jiff::Timestamp> = signed_at.and_then(|text| text.parse().ok());
        signed_at.filter(|signed_at| *signed_at <= timestamp.expires).map(Time::from_jiff).ok_or_else(|| {
            let reason = format!("{SIGNED_AT:?} is to be the time of signing, before it expires");
            Rejected::Malformed { file: TIMESTAMP.into(), reason }
        })
    }

    /// TUF 5.5. The timestamp pins it by version, length and hash.
    fn snapshot(&mut self) -> Result<(), Rejected> {
        let pin = self.set.timestamp().and_then(|timestamp| timestamp.snapshot_meta()).ok_or_else(|| {
            Rejected::Malformed { file: TIMESTAMP.into(), reason: "it does not pin snapshot.json".into() }
        })?;
        if !pin.hashes.as_ref().is_some_and(|hashes| hashes.contains_key("sha256")) {
            let reason = "it pins snapshot.json without its SHA-256".into();
            return Err(Rejected::Malformed { file: TIMESTAMP.into(), reason });
        }
        let file = format!("{}.snapshot.json", pin.version);
        let bytes = self.take(&file, MAX_ROLE_BYTES)?;
        self.set.update_snapshot(&bytes, self.now).map_err(|error| named("snapshot", &file, error))
    }

    /// TUF 5.3.11, 5.4.3 and 5.5.5. The set forgets its versions with each new root; we keep them unless the root changed
    /// the keys that may have been misused.
    fn no_version_goes_back(&self) -> Result<(), Rejected> {
        let Some(before) = self.before.filter(|before| same_online_keys(before.set.root(), self.set.root())) else {
            return Ok(());
        };
        let rollback = |role: &str, trusted: u64, offered: u64| {
            let role = role.to_owned();
            if offered < trusted { Err(Rejected::Rollback { role, trusted, offered }) } else { Ok(()) }
        };
        if let (Some(old), Some(new)) = (before.set.timestamp(), self.set.timestamp()) {
            rollback("timestamp", old.version, new.version)?;
            if old.version == new.version && before.files.get(TIMESTAMP) != self.files.get(TIMESTAMP) {
                return Err(Rejected::TwoOfOneName { file: TIMESTAMP.into() });
            }
        }
        if let (Some(old), Some(new)) = (before.set.snapshot(), self.set.snapshot()) {
            rollback("snapshot", old.version, new.version)?;
            for (file, pin) in &old.meta {
                let role = file.strip_suffix(".json").unwrap_or(file);
                let offered = new.meta.get(file).ok_or_else(|| Rejected::NotPinned { role: role.into() })?;
                rollback(role, pin.version, offered.version)?;
            }
        }
        Ok(())
    }

    /// TUF 5.6 and 5.7: a role, and all that it delegates to. `way` are the delegations that led here.
    fn role(&mut self, name: &str, delegator: Option<&str>, way: &[DelegatedRole]) -> Result<(), Rejected> {
        if way.len() > MAX_DEPTH {
            return Err(Rejected::BadDelegation { role: name.into(), reason: "too many delegations lead to it" });
        }
        within("roles", self.roles.len() + 1, MAX_ROLES)?;
        if self.absent.is_some() {
            let file = self.role_file(name)?;
            if !self.is_there(&file) {
                self.absent.get_or_insert_default().push(file);
                return Ok(());
            }
        }
        let verified = match self.retained(name, delegator)? {
            Some(verified) => verified,
            None => Arc::new(self.verified(name, delegator, way)?),
        };
        if self.roles.insert(name.into(), verified.clone()).is_some() {
            return Err(Rejected::RoleTwice { role: name.into() });
        }
        for delegated in &verified.delegated {
            let way = [way, std::slice::from_ref(delegated)].concat();
            self.role(&delegated.name, Some(name), &way)?;
        }
        Ok(())
    }

    /// The snapshot pins a role by its version, and all of them by their bytes. One of a registry that did not say so yet
    /// is taken: nobody but its keys could leave it out.
    fn roles_are_those_of_the_snapshot(&self) -> Result<(), Rejected> {
        let Some(signed) = self.set.snapshot().and_then(|snapshot| snapshot.extra.get(ROLES_SHA256)) else {
            return Ok(());
        };
        let mut roles = BTreeMap::new();
        for role in self.roles.keys() {
            let file = self.role_file(role)?;
            let bytes = self.files.get(&file).ok_or_else(|| Rejected::Missing { file: file.clone() })?;
            roles.insert(role.as_str(), Digest::of(&[bytes]));
        }
        let found = digest_of_roles(&roles).to_string();
        if signed.as_str() == Some(&found) { Ok(()) } else { Err(Rejected::OtherRoles) }
    }

    /// A role is kept only if its pin, its delegator and the root are what they were, and it has not expired.
    fn retained(&mut self, name: &str, delegator: Option<&str>) -> Result<Option<Arc<VerifiedRole>>, Rejected> {
        let file = self.role_file(name)?;
        // Taking the file comes first: its bytes must be the trusted ones, or absent from what was fetched.
        self.take(&file, MAX_ROLE_BYTES)?;
        let Some(before) = self.before.filter(|_| !self.root_changed) else { return Ok(None) };
        let Some(role) = before.roles.get(name) else { return Ok(None) };
        let same_delegator = match delegator {
            None => true,
            Some(delegator) => match (before.roles.get(delegator), self.roles.get(delegator)) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                _ => false,
            },
        };
        let pin = |set: &TrustedMetadataSet| set.snapshot()?.meta.get(&format!("{name}.json")).cloned();
        let same_pin = pin(&before.set) == pin(&self.set) && before.files.contains_key(&file);
        let same = same_pin && same_delegator && role.delegator.as_deref() == delegator;
        let fresh = role.expires > Time::from_jiff(self.now);
        Ok((same && fresh).then(|| role.clone()))
    }

    fn verified(
        &mut self,
        name: &str,
        delegator: Option<&str>,
        way: &[DelegatedRole],
    ) -> Result<VerifiedRole, Rejected> {
        let role = self.feed(name, delegator)?;
        let verified = VerifiedRole {
            delegator: delegator.map(str::to_owned),
            expires: Time::from_jiff(role.expires),
            targets: targets_of(name, role)?,
            delegated: role.delegations.as_ref().map(|delegations| delegations.roles.clone()).unwrap_or_default(),
        };
        if let Some(delegations) = &role.delegations {
            check_keys(name, &delegations.keys)?;
        }
        for delegated in &verified.delegated {
            if !is_role_name(&delegated.name) {
                let reason = "its name is 1 to 32 of a-z, 0-9 and '-'";
                return Err(Rejected::BadDelegation { role: delegated.name.clone(), reason });
            }
        }
        for target in verified.targets.keys() {
            if !allowed(target, way)? {
                return Err(Rejected::NotAllowed { role: name.into(), target: target.clone() });
            }
        }
        Ok(verified)
    }

    /// Lets the set verify a role's signatures and pin, and before it those of its delegators, retained or not.
    fn feed(&mut self, name: &str, delegator: Option<&str>) -> Result<&Targets, Rejected> {
        if let Some(delegator) = delegator
            && !self.fed.contains(delegator)
        {
            let above = self.roles.get(delegator).and_then(|role| role.delegator.clone());
            self.feed(delegator, above.as_deref())?;
        }
        let file = self.role_file(name)?;
        let bytes = self.take(&file, MAX_ROLE_BYTES)?;
        self.fed.insert(name.into());
        match delegator {
            None => self.set.update_targets(&bytes, self.now),
            Some(delegator) => self.set.update_delegated_targets(&bytes, name, delegator, self.now),
        }
        .map_err(|error| named(name, &file, error))
    }

    fn role_file(&self, name: &str) -> Result<String, Rejected> {
        let pin = self.set.snapshot().and_then(|snapshot| snapshot.meta.get(&format!("{name}.json")));
        let pin = pin.ok_or_else(|| Rejected::NotPinned { role: name.into() })?;
        Ok(format!("{}.{name}.json", pin.version))
    }

    /// The file of this name, from what was fetched or from what is trusted, and into the new version.
    fn take(&mut self, file: &str, most: usize) -> Result<Bytes, Rejected> {
        let bytes = match (self.fetched.get(file), self.before.and_then(|before| before.files.get(file))) {
            (Some(offered), Some(trusted)) if offered != trusted => {
                return Err(Rejected::TwoOfOneName { file: file.into() });
            }
            (Some(bytes), _) | (None, Some(bytes)) => bytes.clone(),
            (None, None) => return Err(Rejected::Missing { file: file.into() }),
        };
        within(file, bytes.len(), most)?;
        self.files.insert(file.into(), bytes.clone());
        Ok(bytes)
    }

    /// Every target that a role names, verified and read.
    fn documents(&mut self) -> Result<BTreeMap<String, Arc<Document>>, Rejected> {
        let mut named: BTreeMap<String, (String, Target)> = BTreeMap::new();
        for (role, verified) in &self.roles {
            for (path, target) in &verified.targets {
                if let Some((first, _)) = named.insert(path.clone(), (role.clone(), *target)) {
                    return Err(Rejected::TargetTwice { target: path.clone(), first, second: role.clone() });
                }
            }
        }
        let mut documents = BTreeMap::new();
        for (path, (_, target)) in named {
            let document = self.document(&path, target)?;
            documents.insert(path, document);
        }
        Ok(documents)
    }

    fn document(&mut self, path: &str, target: Target) -> Result<Arc<Document>, Rejected> {
        let file = target_file(path, &target.digest);
        let bytes = self.take(&file, MAX_DOCUMENT_BYTES)?;
        let before = self.before.and_then(|before| before.documents.get(path));
        if let Some(document) = before.filter(|document| document.target == target) {
            return Ok(document.clone());
        }
        if bytes.len() as u64 != target.length {
            let reason = format!("{} bytes, and {} were signed for", bytes.len(), target.length);
            return Err(Rejected::OtherBytes { file, reason });
        }
        let found = Digest::of(&[&bytes]);
        if found != target.digest {
            return Err(Rejected::OtherBytes { file, reason: format!("its SHA-256 is {found}") });
        }
        let meaning = match first_segment(path) {
            INSTANCE_PATH => Meaning::Instance(InstanceDocument::parse(&bytes)?),
            "members" => Meaning::Member(MemberDocument::parse(path, &bytes)?),
            "revoked" => Meaning::Revoked(RevokedDocument::parse(path, &bytes)?),
            _ => Meaning::Catalogue(Arc::new(CatalogueDocument::parse(path, &bytes)?)),
        };
        Ok(Arc::new(Document { target, meaning }))
    }

    fn configuration(
        &self,
        documents: &BTreeMap<String, Arc<Document>>,
        signed_at: Time,
    ) -> Result<Configuration, Rejected> {
        let not_named = |target: String| Rejected::NotNamed { target };
        let instance = match documents.get(INSTANCE_PATH).map(|document| &document.meaning) {
            Some(Meaning::Instance(instance)) => instance,
            _ => return Err(not_named(INSTANCE_PATH.into())),
        };
        if let Some(shard) =
            (0..REVOKED_SHARDS).map(RevokedDocument::path_of).find(|path| !documents.contains_key(path))
        {
            return Err(not_named(shard));
        }
        let meanings = || documents.values().map(|document| &document.meaning);
        let members = meanings().filter_map(|meaning| match meaning {
            Meaning::Member(member) => Some(member),
            _ => None,
        });
        let revoked = meanings().filter_map(|meaning| match meaning {
            Meaning::Revoked(keys) => Some(keys),
            _ => None,
        });
        let catalogue = meanings().filter_map(|meaning| match meaning {
            Meaning::Catalogue(document) => Some(document),
            _ => None,
        });
        let configuration = Configuration::of(self.edition(signed_at)?, instance, members, revoked, catalogue)?;
        if let Some(before) = self.before {
            succeeds(&before.configuration, &configuration)?;
        }
        Ok(configuration)
    }

    /// PROTOCOL.md 8.4: the version is the last leaf of the ledger that its timestamp names, and what is held is its beginning.
    fn in_the_ledger(&mut self, configuration: &Configuration) -> Result<Option<Arc<Standing>>, Rejected> {
        let (version, digest) = (configuration.version, configuration.digest);
        let held = self.held().cloned();
        let Some(named) = self.named_ledger() else {
            let held = self.before.and_then(|before| before.configuration.ledger.as_ref());
            return held.map_or(Ok(None), |held| Err(Rejected::NoLedger { version, held: held.ledger.name() }));
        };
        if self.stored && !self.is_there(&checkpoint_file(version)) {
            // A program that knew nothing of ledgers took it: the next version's checkpoint is the first that is seen here.
            return Ok(None);
        }
        let shown = self.shown(version)?;
        if shown.checkpoint.ledger.to_string() != named || *shown.instance() != configuration.instance {
            return Err(NotInLedger::NotContained { version }.into());
        }
        let grown = shown.containing(version, &digest)?;
        let (mut lost, mut tail) = (None, None);
        if let Some(held) = &held {
            match shown.follows(&held.ledger, leaf(version, &digest))? {
                Way::Lost(tail) => lost = Some(tail),
                Way::On(stretch) => {
                    let page = |file: &str| self.fetched.get(file).cloned();
                    tail = Some(held.tail().along(&stretch, &held.ledger, page).map_err(|error| match error {
                        NotJoined::Missing(file) => Rejected::Missing { file },
                        NotJoined::Refused(refused) => Rejected::from(refused),
                    })?);
                }
            }
        }
        let seen = Seen { version, digest, checkpoint: shown.file };
        let signers = signers(self.set.root())?;
        Ok(Some(Standing::after(held.as_ref(), grown, lost, seen, tail, &signers)))
    }

    /// What the ledger must continue. Where a new root took the online keys from whoever had them, the holders of the root
    /// vouch for what follows: it need not continue what those keys signed.
    fn held(&self) -> Option<&'a Arc<Standing>> {
        let before = self.before.filter(|before| same_online_keys(before.set.root(), self.set.root()))?;
        before.configuration.ledger.as_ref()
    }

    fn named_ledger(&self) -> Option<String> {
        self.set.timestamp()?.extra.get(LEDGER)?.as_str().map(str::to_owned)
    }

    fn shown(&mut self, version: u64) -> Result<Shown, Rejected> {
        let file = self.take(&checkpoint_file(version), ledger::MAX_CHECKPOINT_BYTES)?;
        Ok(Shown::verify(file, &signers(self.set.root())?)?)
    }

    /// The checkpoint, and then the pages that lead to it from what is held. What is wrong with them is said when they are taken.
    fn lacking_of_the_ledger(&mut self) -> Result<Vec<String>, Rejected> {
        let Some(timestamp) = self.set.timestamp().filter(|_| self.named_ledger().is_some()) else {
            return Ok(Vec::new());
        };
        let version = timestamp.version;
        let file = checkpoint_file(version);
        if !self.is_there(&file) {
            return Ok(vec![file]);
        }
        let (shown, held) = (self.shown(version)?, self.held());
        let Some(held) = held else { return Ok(Vec::new()) };
        let digest = Digest::of(&[self.files.get(TIMESTAMP).map_or(&[][..], |bytes| bytes)]);
        Ok(match shown.follows(&held.ledger, leaf(version, &digest))? {
            Way::Lost(_) => Vec::new(),
            Way::On(stretch) => {
                stretch.pages().map(|(file, ..)| file).filter(|file| !self.fetched.contains_key(file)).collect()
            }
        })
    }

    fn edition(&self, signed_at: Time) -> Result<Edition, Rejected> {
        let missing = || Rejected::Missing { file: TIMESTAMP.into() };
        let timestamp = self.set.timestamp().ok_or_else(missing)?;
        let snapshot = self.set.snapshot().ok_or_else(missing)?;
        let chain = [self.set.root().expires, timestamp.expires, snapshot.expires].map(Time::from_jiff);
        let roles = self.roles.values().map(|role| role.expires);
        let expires_at = chain.into_iter().chain(roles).min().unwrap_or_default();
        let digest = Digest::of(&[self.files.get(TIMESTAMP).ok_or_else(missing)?]);
        Ok(Edition { version: timestamp.version, digest, signed_at, expires_at })
    }
}

/// What one version may not change of the one before.
fn succeeds(before: &Configuration, after: &Configuration) -> Result<(), Rejected> {
    if before.instance != after.instance {
        let (trusted, offered) = (before.instance.clone(), after.instance.clone());
        return Err(Rejected::OtherInstance { trusted, offered });
    }
    let gone: BTreeSet<KeyId> = before.revoked.difference(&after.revoked).copied().collect();
    let mut last_heads = before.last_heads.iter().filter(|(key, _)| !gone.contains(*key));
    if let Some((key, _)) = last_heads.find(|(key, head)| after.last_heads.get(*key) != Some(*head)) {
        return Err(Rejected::OtherLastHead { key: *key });
    }
    if gone.is_empty() {
        return Ok(());
    }
    let signing = after.members.values().flat_map(|member| member.signing_keys.keys());
    let authentication = after.servers.values().flat_map(|server| &server.authentication_keys);
    match signing.chain(authentication).find(|key| gone.contains(*key)) {
        Some(key) => Err(Rejected::Unrevoked { key: *key }),
        None => Ok(()),
    }
}

/// The keys of the root that sign checkpoints: those of its role `timestamp`.
pub(super) fn signers(root: &Root) -> Result<Signers, Rejected> {
    let role = root.role("timestamp").ok_or_else(|| Rejected::NotPinned { role: "timestamp".into() })?;
    let key = |id: &String| {
        let lines = root.keys.get(id)?.keyval.public.lines().filter(|line| !line.starts_with("-----"));
        let der = STANDARD.decode(lines.collect::<String>()).ok()?;
        Some((id.clone(), PublicKey::from_spki(&der).ok()?))
    };
    Ok(Signers { threshold: role.threshold, keys: role.keyids.iter().filter_map(key).collect() })
}

fn same_online_keys(before: &Root, after: &Root) -> bool {
    ["timestamp", "snapshot"].iter().all(|name| {
        let keys =
            |root: &Root| -> Option<BTreeSet<String>> { Some(root.role(name)?.keyids.iter().cloned().collect()) };
        keys(before) == keys(after)
    })
}

/// One key is known by one name, and all are of the kind that a court can check.
pub(super) fn check_keys(role: &str, keys: &BTreeMap<String, Key>) -> Result<(), Rejected> {
    let mut seen: BTreeMap<Vec<u8>, &String> = BTreeMap::new();
    for (id, key) in keys {
        let unknown = |reason: String| Rejected::UnknownKey { role: role.into(), key: id.clone(), reason };
        if key.scheme != SCHEME {
            return Err(unknown(format!("its scheme is {:?} and not {SCHEME}", key.scheme)));
        }
        let material = key.verification_key().map_err(|error| unknown(error.to_string()))?;
        if let Some(first) = seen.insert(material.as_bytes().to_vec(), id) {
            return Err(Rejected::SameKeyTwice { role: role.into(), first: first.clone(), second: id.clone() });
        }
    }
    Ok(())
}

pub(super) fn targets_of(role: &str, metadata: &Targets) -> Result<BTreeMap<String, Target>, Rejected> {
    let read = |(path, file): (&String, &sigstore_tuf::TargetFile)| {
        let digest =
            file.hashes.get("sha256").and_then(|text| text.parse().ok()).ok_or_else(|| Rejected::Malformed {
                file: format!("{role}.json"),
                reason: format!("it names {path} without its SHA-256 in lower-case hexadecimal"),
            })?;
        Ok((path.clone(), Target { length: file.length, digest }))
    };
    metadata.targets.iter().map(read).collect()
}

/// Whether each delegation on the way allows the target, and the first one is of its kind.
pub(super) fn allowed(target: &str, way: &[DelegatedRole]) -> Result<bool, Rejected> {
    let kind = match way.first() {
        // `targets` itself only delegates, but for the instance.
        None => return Ok(target == INSTANCE_PATH),
        Some(first) => first.name.as_str(),
    };
    if first_segment(target) != kind || !["members", "revoked", "catalogue"].contains(&kind) {
        return Ok(false);
    }
    for delegation in way {
        let file = || format!("the delegation to {}", delegation.name);
        if !delegation.matches_path(target).map_err(|error| named(&delegation.name, &file(), error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn first_segment(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

pub(super) fn is_role_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// SHA-256 of a line for each role, in the order of their names: the name, a space, the SHA-256 of its file in lower-case
/// hexadecimal. All roles that delegations lead to, `targets` included.
pub fn digest_of_roles(roles: &BTreeMap<&str, Digest>) -> Digest {
    let lines: String = roles.iter().map(|(role, digest)| format!("{role} {digest}\n")).collect();
    Digest::of(&[lines.as_bytes()])
}

/// The name of a root's file.
pub fn root_file(version: u64) -> String {
    format!("{version}.root.json")
}

/// The name of a target's file: its SHA-256 before the last segment of its path.
pub fn target_file(path: &str, digest: &Digest) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/{digest}.{name}"),
        None => format!("{digest}.{path}"),
    }
}

pub(super) fn within(what: &str, found: usize, most: usize) -> Result<(), Rejected> {
    if found > most { Err(Rejected::TooLarge { what: what.into(), found, most }) } else { Ok(()) }
}

/// The state machine's error by our name for it.
pub(super) fn named(role: &str, file: &str, error: Tuf) -> Rejected {
    let role = role.to_owned();
    let file = file.to_owned();
    match error {
        // The set says in brackets who pinned it, and which file it is.
        Tuf::Rollback { role, trusted, new } => {
            let role = role.split([' ', '.']).next().unwrap_or(&role).to_owned();
            Rejected::Rollback { role, trusted, offered: new }
        }
        Tuf::EqualVersion { .. } => Rejected::TwoOfOneName { file },
        Tuf::BadRootVersion { trusted, new } => Rejected::RootVersion { trusted, offered: new },
        Tuf::Expired { role, expires } => Rejected::Expired { role, at: Time::from_jiff(expires) },
        Tuf::ThresholdNotMet { found, threshold, .. } => Rejected::Signatures { role, found, threshold },
        Tuf::DuplicateSignature { key_id, .. } => Rejected::SignedTwice { role, key: key_id },
        Tuf::IntegrityMismatch(reason) => Rejected::OtherBytes { file, reason },
        other => {
            let cause = std::error::Error::source(&other).map(|source| format!(": {source}")).unwrap_or_default();
            Rejected::Malformed { file, reason: format!("{other}{cause}") }
        }
    }
}
