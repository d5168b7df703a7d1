//! The ledger of the global configuration: every version that the registry publishes is a leaf of a Merkle tree, and the
//! tree's checkpoint is signed and published with it (PROTOCOL.md 8.4). Who holds a checkpoint takes only what continues it,
//! and two who compare theirs see whether the registry shows both the same.
//!
//! Pure, like all of this crate: leaves and files are arguments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::identifier::InstanceId;
use crate::merkle::{Frontier, leaf_hash};
use crate::signature::{PublicKey, purpose};

/// Leaves in a page.
pub const PAGE: u64 = 256;
/// Most pages that lead from one checkpoint to the next: four years of a version a minute.
pub const MAX_PAGES: u64 = 8_192;
/// Most ledgers of which a checkpoint names the beginning: each restore of a registry begins another.
pub const MAX_GENESES: usize = 64;
/// Most signatures of a checkpoint.
pub const MAX_SIGNATURES: usize = 16;
/// Longest file of a checkpoint.
pub const MAX_CHECKPOINT_BYTES: usize = 32 * 1024;
/// Versions that are remembered, with their checkpoints: an hour of one a minute.
pub const SEEN: usize = 64;
/// Leaves that are remembered, those of versions that were passed over among them: four hours of one a minute.
pub const TAIL: usize = 256;
/// The first line of a genesis.
const GENESIS: &str = "causeway/v1/ledger\n";
/// What a leaf begins with.
const LEAF: &[u8] = b"causeway/v1/ledger-version\n";

/// The name of the file with the checkpoint of a version.
pub fn checkpoint_file(version: u64) -> String {
    format!("{version}.checkpoint.json")
}

/// The name of a page: so many leaves of it, 32 bytes each.
pub fn page_file(ledger: &Digest, page: u64, leaves: u64) -> String {
    format!("ledger/{ledger}/{page}-{leaves}")
}

/// The leaf of a version: its number, and the digest that headers name (PROTOCOL.md 3.2).
pub fn leaf(version: u64, digest: &Digest) -> Digest {
    // Messages are held against it: nothing is allocated.
    let mut bytes = [0; LEAF.len() + 40];
    bytes[..LEAF.len()].copy_from_slice(LEAF);
    bytes[LEAF.len()..LEAF.len() + 8].copy_from_slice(&version.to_be_bytes());
    bytes[LEAF.len() + 8..].copy_from_slice(digest.as_bytes());
    leaf_hash(&bytes)
}

/// Where a ledger ended that another follows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Its name.
    #[serde(with = "in_hex")]
    pub ledger: Digest,
    /// Its leaves, as the registry knows them.
    pub size: u64,
    /// The root over them.
    #[serde(with = "in_hex")]
    pub root: Digest,
}

/// How a ledger began. Its SHA-256 is the ledger's name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Of which instance.
    pub instance: InstanceId,
    /// The version of its first leaf; each leaf after it is the next version.
    pub first: u64,
    /// What it follows; none: the instance had no ledger before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Ended>,
}

impl Genesis {
    /// The ledger's name.
    pub fn name(&self) -> Digest {
        let mut text = format!("{GENESIS}{}\n{}\n", self.instance, self.first);
        if let Some(Ended { ledger, size, root }) = &self.before {
            text.push_str(&format!("{ledger}\n{size}\n{root}\n"));
        }
        Digest::of(&[text.as_bytes()])
    }
}

/// What is signed of a ledger: a C2SP checkpoint with an origin of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The ledger.
    pub ledger: Digest,
    /// Its leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed: origin, size and root, a line each.
    pub fn to_text(&self) -> String {
        let root = STANDARD.encode(self.root.as_bytes());
        format!("{}{}\n{}\n{root}\n", purpose::LEDGER_ORIGIN, self.ledger, self.size)
    }

    /// Reads a checkpoint. Only the very bytes that [`Checkpoint::to_text`] makes are taken.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let read = Self {
            ledger: origin.strip_prefix(purpose::LEDGER_ORIGIN)?.parse().ok()?,
            size: size.parse().ok()?,
            root: STANDARD.decode(root).ok()?.as_slice().try_into().ok()?,
        };
        (read.to_text() == text).then_some(read)
    }
}

/// A ledger as far as it has come: enough to append to it, and to say its checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Ledger {
    /// Its own genesis, and those of the ledgers before it, the newest first.
    geneses: Vec<Genesis>,
    name: Digest,
    frontier: Frontier,
}

/// A ledger as it is written down.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    geneses: Vec<Genesis>,
    size: u64,
    #[serde(with = "all_in_hex")]
    subtrees: Vec<Digest>,
}

impl From<Ledger> for Written {
    fn from(ledger: Ledger) -> Self {
        let (size, subtrees) = (ledger.frontier.size(), ledger.frontier.subtrees().to_vec());
        Self { geneses: ledger.geneses, size, subtrees }
    }
}

impl TryFrom<Written> for Ledger {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let name = chained(&written.geneses)?;
        let frontier = Frontier::from_parts(written.size, written.subtrees).map_err(|error| error.to_string())?;
        Ok(Self { geneses: written.geneses, name, frontier })
    }
}

impl Ledger {
    /// The ledger whose next leaf is this version: the one before, where the version follows its last one, and else another
    /// that begins with it and says how the one before ended.
    pub fn awaiting(before: Option<&Ledger>, instance: &InstanceId, version: u64) -> Self {
        if let Some(before) = before.filter(|before| before.next() == version) {
            return before.clone();
        }
        let genesis = Genesis { instance: instance.clone(), first: version, before: before.map(Ledger::ended) };
        Self::with(genesis, before)
    }

    /// The ledger of this genesis, without a leaf, if the genesis says of the one before how it ended.
    pub fn begun(genesis: &Genesis, before: Option<&Ledger>) -> Option<Self> {
        let follows = genesis.before == before.map(Ledger::ended)
            && before.is_none_or(|before| *before.instance() == genesis.instance);
        follows.then(|| Self::with(genesis.clone(), before))
    }

    fn with(genesis: Genesis, before: Option<&Ledger>) -> Self {
        let name = genesis.name();
        let older = before.map(|before| before.geneses.as_slice()).unwrap_or_default();
        let geneses = std::iter::once(&genesis).chain(older).take(MAX_GENESES).cloned().collect();
        Self { geneses, name, frontier: Frontier::default() }
    }

    /// What a ledger says that follows it.
    pub fn ended(&self) -> Ended {
        let Checkpoint { ledger, size, root } = self.checkpoint();
        Ended { ledger, size, root }
    }

    /// Its name.
    pub fn name(&self) -> Digest {
        self.name
    }

    /// Its own genesis, and those before, the newest first.
    pub fn geneses(&self) -> &[Genesis] {
        &self.geneses
    }

    /// The instance that it is of.
    pub fn instance(&self) -> &InstanceId {
        &self.geneses[0].instance
    }

    /// Its leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The version that its next leaf is.
    pub fn next(&self) -> u64 {
        self.geneses[0].first.saturating_add(self.size())
    }

    /// Appends its next version, and gives the path of that leaf.
    pub fn append(&mut self, digest: &Digest) -> Vec<Digest> {
        self.frontier.append(leaf(self.next(), digest))
    }

    /// Appends the leaf of a version of which only the leaf is known.
    pub fn append_leaf(&mut self, leaf: Digest) {
        self.frontier.append(leaf);
    }

    /// What is signed of it.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { ledger: self.name, size: self.size(), root: self.frontier.root() }
    }
}

/// A signature of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The key's name in the root.
    pub keyid: String,
    /// ECDSA with SHA-256 in DER, in hexadecimal.
    pub sig: String,
}

/// The file of a checkpoint, as it is written: compact JSON, its fields in this order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// The text that is signed.
    pub checkpoint: String,
    /// How the ledger, and those before it, began.
    pub geneses: Vec<Genesis>,
    /// The path of the last leaf, which is the version's, from the leaf's sibling upwards.
    #[serde(with = "all_in_hex")]
    pub path: Vec<Digest>,
    /// By keys of the root's role `timestamp`.
    pub signatures: Vec<Signature>,
}

impl CheckpointFile {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("it has string keys only").into()
    }

    /// Reads a file, whose signatures are not judged: [`Shown::verify`] does that.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for (what, found, most) in [
            ("geneses", read.geneses.len(), MAX_GENESES),
            ("signatures", read.signatures.len(), MAX_SIGNATURES),
            ("hashes of a path", read.path.len(), u64::BITS as usize),
        ] {
            if found > most {
                return Err(format!("{found} {what}, and at most {most} are taken"));
            }
        }
        if read.to_bytes() == bytes { Ok(read) } else { Err("it is not in its one form".into()) }
    }
}

/// The keys of the root's role `timestamp`, and how many must sign.
#[derive(Clone, Debug)]
pub struct Signers {
    /// How many.
    pub threshold: usize,
    /// By the names that they have in the root.
    pub keys: BTreeMap<String, PublicKey>,
}

impl Signers {
    /// The names of the keys in one digest: another root with the same keys has the same.
    pub fn name(&self) -> Digest {
        let names: String = self.keys.keys().map(|name| format!("{name}\n")).collect();
        Digest::of(&[names.as_bytes()])
    }
}

/// Why a version is not in the ledger, or the ledger not the one that is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotInLedger {
    /// The file of the checkpoint.
    #[error("the file of the checkpoint is none: {0}")]
    Malformed(String),
    /// Too few signatures.
    #[error("the checkpoint bears {found} good signatures of the role timestamp, and {threshold} are needed")]
    Signatures {
        /// Good ones.
        found: usize,
        /// Needed.
        threshold: usize,
    },
    /// The checkpoint is that of another version, or its path does not lead to its root from this one's leaf.
    #[error("the checkpoint does not contain version {version}: the registry keeps another ledger than it shows")]
    NotContained {
        /// The version.
        version: u64,
    },
    /// It is of another ledger, which does not follow the one that is held.
    #[error(
        "the checkpoint is of the ledger {shown}, and {held} is held, which it does not follow: the registry shows two \
         histories, or an older copy of it was put back; tell its admins, and compare with other members"
    )]
    OtherLedger {
        /// The one that is held.
        held: Digest,
        /// The one that was shown.
        shown: Digest,
    },
    /// The ledger does not contain what is held of it.
    #[error(
        "the ledger {ledger} does not continue the {size} leaves that are held of it: the registry shows two histories; \
         tell its admins, and compare with other members"
    )]
    OtherHistory {
        /// The ledger.
        ledger: Digest,
        /// The leaves that are held.
        size: u64,
    },
    /// A page is not of its length.
    #[error("{page} has {found} bytes, and {wanted} are wanted")]
    Page {
        /// Its file.
        page: String,
        /// Its bytes.
        found: usize,
        /// What it should have.
        wanted: u64,
    },
    /// So many pages are not read.
    #[error("{pages} pages lie between the checkpoint that is held and this one, and at most {MAX_PAGES} are read")]
    TooFar {
        /// How many.
        pages: u64,
    },
}

impl NotInLedger {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "8.4.4",
            Self::Signatures { .. } | Self::NotContained { .. } => "8.4.5",
            Self::OtherLedger { .. } | Self::OtherHistory { .. } => "8.4.6",
            Self::Page { .. } | Self::TooFar { .. } => "8.4.8",
        }
    }
}

/// A checkpoint whose signatures hold.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The file.
    pub file: Bytes,
    /// What was signed.
    pub checkpoint: Checkpoint,
    geneses: Vec<Genesis>,
    path: Vec<Digest>,
}

impl Shown {
    /// Reads the file of a checkpoint, and holds its signatures against these keys. Each key counts once.
    pub fn verify(file: Bytes, signers: &Signers) -> Result<Self, NotInLedger> {
        let malformed = |reason: &str| NotInLedger::Malformed(reason.to_owned());
        if file.len() > MAX_CHECKPOINT_BYTES {
            return Err(malformed(&format!("{} bytes, and at most {MAX_CHECKPOINT_BYTES} are taken", file.len())));
        }
        let read = CheckpointFile::parse(&file).map_err(NotInLedger::Malformed)?;
        let checkpoint = Checkpoint::parse(&read.checkpoint).ok_or_else(|| malformed("its text is no checkpoint"))?;
        if chained(&read.geneses).map_err(NotInLedger::Malformed)? != checkpoint.ledger {
            return Err(malformed("its first genesis is not that of the ledger"));
        }
        if checkpoint.size == 0 {
            return Err(malformed("it has no leaf"));
        }
        let mut good = BTreeSet::new();
        for signature in &read.signatures {
            let Some(key) = signers.keys.get(&signature.keyid) else { continue };
            let bytes = hex::decode(&signature.sig).unwrap_or_default();
            let has_one_form = hex::encode(&bytes) == signature.sig;
            if has_one_form && key.verify(read.checkpoint.as_bytes(), &bytes).is_ok() {
                good.insert(&signature.keyid);
            }
        }
        let (found, threshold) = (good.len(), signers.threshold.max(1));
        if found < threshold {
            return Err(NotInLedger::Signatures { found, threshold });
        }
        Ok(Self { file, checkpoint, geneses: read.geneses, path: read.path })
    }

    /// The version of its last leaf.
    pub fn version(&self) -> u64 {
        self.geneses[0].first.saturating_add(self.checkpoint.size - 1)
    }

    /// The instance that it is of.
    pub fn instance(&self) -> &InstanceId {
        &self.geneses[0].instance
    }

    /// Whether it is of this ledger, or says that its own follows it.
    pub fn follows_from(&self, ledger: &Digest) -> bool {
        self.geneses.iter().any(|genesis| genesis.name() == *ledger)
    }

    /// Whether it names every ledger before its own.
    pub fn names_all_before(&self) -> bool {
        self.geneses.last().is_some_and(|oldest| oldest.before.is_none())
    }

    /// The ledger as far as this checkpoint, if its last leaf is this version.
    pub fn containing(&self, version: u64, digest: &Digest) -> Result<Ledger, NotInLedger> {
        let (size, name) = (self.checkpoint.size, self.checkpoint.ledger);
        let before = self.path.iter().rev().copied().collect();
        let grown = Frontier::from_parts(size - 1, before).ok().map(|mut frontier| {
            frontier.append(leaf(version, digest));
            frontier
        });
        match grown {
            Some(frontier) if version == self.version() && frontier.root() == self.checkpoint.root => {
                Ok(Ledger { geneses: self.geneses.clone(), name, frontier })
            }
            _ => Err(NotInLedger::NotContained { version }),
        }
    }

    /// How this goes on from what is held. `last` is its own last leaf.
    pub fn follows(&self, held: &Ledger, last: Digest) -> Result<Way, NotInLedger> {
        let (name, size) = (held.name(), held.size());
        let Checkpoint { ledger: shown, size: end, root } = self.checkpoint;
        let (end, root, last) = if shown == name {
            (end, root, Some(last))
        } else {
            let ended = self.geneses.iter().filter_map(|genesis| genesis.before.as_ref()).find(|at| at.ledger == name);
            let ended = ended.ok_or(NotInLedger::OtherLedger { held: name, shown })?;
            if ended.size < size {
                return Ok(Way::Lost(LostTail { ledger: name, ended: ended.size, held: size }));
            }
            (ended.size, ended.root, None)
        };
        if end < size {
            return Err(NotInLedger::OtherHistory { ledger: name, size });
        }
        let last = last.filter(|_| end > size);
        let to = end - u64::from(last.is_some());
        let pages = if size == to { 0 } else { (to - 1) / PAGE + 1 - size / PAGE };
        if pages > MAX_PAGES {
            return Err(NotInLedger::TooFar { pages });
        }
        Ok(Way::On(Stretch { ledger: name, from: size, to, end, last, root }))
    }
}

/// How a ledger goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// These leaves come after what is held.
    On(Stretch),
    /// The ledger that is held was given up before what is held of it: the registry was put back from an older copy.
    Lost(LostTail),
}

/// What a registry lost of its ledger when it was put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostTail {
    /// The ledger.
    pub ledger: Digest,
    /// The leaves that it still knew.
    pub ended: u64,
    /// The leaves that are held.
    pub held: u64,
}

/// Leaves between two states of one ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    ledger: Digest,
    from: u64,
    /// Up to here they are read from pages.
    to: u64,
    end: u64,
    /// The last leaf, where it is known without a page.
    last: Option<Digest>,
    root: Digest,
}

impl Stretch {
    /// The pages that it is read from, by file, each with its number and its leaves.
    pub fn pages(&self) -> impl Iterator<Item = (String, u64, u64)> + '_ {
        let pages = if self.from == self.to { 0..0 } else { self.from / PAGE..(self.to - 1) / PAGE + 1 };
        pages.map(|page| {
            let leaves = PAGE.min(self.end - page * PAGE);
            (page_file(&self.ledger, page, leaves), page, leaves)
        })
    }

    /// Appends the leaves to what is held, and holds the root against the one that was signed: only what was held, and
    /// these leaves, make it.
    pub fn check(&self, held: &Ledger, page: impl Fn(&str) -> Option<Bytes>) -> Result<(), NotJoined> {
        self.check_each(held, page, |_| {})
    }

    /// The same, and gives each leaf that it appends.
    fn check_each(
        &self,
        held: &Ledger,
        page: impl Fn(&str) -> Option<Bytes>,
        mut each: impl FnMut(Digest),
    ) -> Result<(), NotJoined> {
        let mut frontier = held.frontier.clone();
        for (file, number, leaves) in self.pages() {
            let bytes = page(&file).ok_or_else(|| NotJoined::Missing(file.clone()))?;
            if bytes.len() as u64 != leaves * 32 {
                return Err(NotInLedger::Page { page: file, found: bytes.len(), wanted: leaves * 32 }.into());
            }
            let at = number * PAGE;
            let (from, to) = (self.from.max(at) - at, self.to.min(at.saturating_add(PAGE)) - at);
            for leaf in bytes[from as usize * 32..to as usize * 32].chunks_exact(32) {
                let leaf = Digest::try_from(leaf).expect("a chunk of 32 bytes");
                frontier.append(leaf);
                each(leaf);
            }
        }
        if let Some(last) = self.last {
            frontier.append(last);
            each(last);
        }
        if (frontier.size(), frontier.root()) == (self.end, self.root) {
            Ok(())
        } else {
            Err(NotInLedger::OtherHistory { ledger: self.ledger, size: self.from }.into())
        }
    }
}

/// Why a stretch does not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotJoined {
    /// A page is not there.
    Missing(String),
    /// It leads elsewhere.
    Refused(NotInLedger),
}

impl From<NotInLedger> for NotJoined {
    fn from(refused: NotInLedger) -> Self {
        Self::Refused(refused)
    }
}

/// A version that was in force here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
    /// The file of its checkpoint.
    pub checkpoint: Bytes,
}

/// The last leaves of a ledger, as this process took them: what was in force, and what was passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tail {
    ledger: Digest,
    /// The tree before them.
    base: Frontier,
    leaves: VecDeque<Digest>,
}

impl Tail {
    /// None of them yet.
    pub fn of(ledger: &Ledger) -> Self {
        Self { ledger: ledger.name, base: ledger.frontier.clone(), leaves: VecDeque::new() }
    }

    fn push(&mut self, leaf: Digest) {
        self.leaves.push_back(leaf);
        if self.leaves.len() > TAIL {
            self.leaves.pop_front().into_iter().for_each(|oldest| drop(self.base.append(oldest)));
        }
    }

    /// What they are after this stretch, if it joins.
    pub fn along(
        &self,
        stretch: &Stretch,
        held: &Ledger,
        page: impl Fn(&str) -> Option<Bytes>,
    ) -> Result<Self, NotJoined> {
        let mut grown = self.clone();
        stretch.check_each(held, page, |leaf| grown.push(leaf))?;
        Ok(grown)
    }
}

/// What leads from a shorter state of a ledger to a longer one: whoever has both knows whether they are one history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The roots of the complete subtrees of the shorter one, the largest first.
    #[serde(with = "all_in_hex")]
    pub subtrees: Vec<Digest>,
    /// The leaves that come after it.
    #[serde(with = "all_in_hex")]
    pub leaves: Vec<Digest>,
}

impl Between {
    /// The roots of a tree of this size, and of the one that these leaves make of it. None: it is of no such size.
    pub fn roots(&self, size: u64) -> Option<(Digest, Checkpointed)> {
        let mut frontier = Frontier::from_parts(size, self.subtrees.clone()).ok()?;
        let shorter = frontier.root();
        self.leaves.iter().for_each(|leaf| drop(frontier.append(*leaf)));
        Some((shorter, (frontier.size(), frontier.root())))
    }
}

/// A size, and the root of the tree of that size.
pub type Checkpointed = (u64, Digest);

/// Where a configuration stands in the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The ledger, this version its last leaf.
    pub ledger: Ledger,
    /// What the registry lost since the version before, where it did.
    pub lost: Option<LostTail>,
    /// The versions that were in force in this process, the newest last.
    seen: Vec<Seen>,
    tail: Tail,
    /// The names of the keys that sign checkpoints now, in one digest.
    pub signers: Digest,
}

impl Standing {
    /// After the version before.
    pub(super) fn after(
        before: Option<&Arc<Standing>>,
        ledger: Ledger,
        lost: Option<LostTail>,
        now: Seen,
        tail: Option<Tail>,
        signers: &Signers,
    ) -> Arc<Self> {
        let older = before.map(|before| before.seen.as_slice()).unwrap_or_default();
        let mut seen = older.to_vec();
        seen.retain(|seen| seen.version != now.version);
        seen.push(now);
        seen.drain(..seen.len().saturating_sub(SEEN));
        // Another ledger's leaves are no beginning of this one's.
        let tail = tail.filter(|tail| tail.ledger == ledger.name).unwrap_or_else(|| Tail::of(&ledger));
        Arc::new(Self { ledger, lost, seen, tail, signers: signers.name() })
    }

    /// Whether this version had another digest here, be it that it was passed over. Compares what is in memory, and allocates
    /// nothing.
    pub fn contradicts(&self, version: u64, digest: &Digest) -> bool {
        match self.seen.iter().find(|seen| seen.version == version) {
            Some(seen) => seen.digest != *digest,
            // It was passed over here, and its leaf came with a later one.
            None => self.leaf_of(version).is_some_and(|held| *held != leaf(version, digest)),
        }
    }

    fn leaf_of(&self, version: u64) -> Option<&Digest> {
        let before = self.ledger.geneses[0].first.checked_add(self.tail.base.size())?;
        self.tail.leaves.get(usize::try_from(version.checked_sub(before)?).ok()?)
    }

    /// What the ledger was at the size of this checkpoint, and what leads from there to what it is; none: it is of another
    /// ledger, or so short that its leaves are forgotten, or not shorter.
    pub fn between(&self, shorter: &Checkpoint) -> Option<Between> {
        if shorter.ledger != self.ledger.name || shorter.size >= self.ledger.size() {
            return None;
        }
        let known = usize::try_from(shorter.size.checked_sub(self.tail.base.size())?).ok()?;
        let mut frontier = self.tail.base.clone();
        self.tail.leaves.iter().take(known).for_each(|leaf| drop(frontier.append(*leaf)));
        let leaves = self.tail.leaves.iter().skip(known).copied().collect();
        Some(Between { subtrees: frontier.subtrees().to_vec(), leaves })
    }

    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The versions that were in force in this process, the newest last.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }
}

/// The name of the first, if each of these follows the next.
fn chained(geneses: &[Genesis]) -> Result<Digest, String> {
    let first = geneses.first().ok_or("it has no genesis")?;
    for pair in geneses.windows(2) {
        let before = pair[0].before.as_ref();
        if before.is_none_or(|before| before.ledger != pair[1].name()) || pair[0].instance != pair[1].instance {
            return Err("its geneses do not follow one another".into());
        }
    }
    Ok(first.name())
}

mod in_hex {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::digest::Digest;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod all_in_hex {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::digest::Digest;

    pub fn serialize<S: Serializer>(digests: &[Digest], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(digests.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Digest>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signature::SigningKey;
    use crate::split_view::contradict;

    fn digest(version: u64) -> Digest {
        Digest::of(&[&version.to_be_bytes()])
    }

    struct Registry {
        key: SigningKey,
        ledger: Ledger,
        leaves: BTreeMap<Digest, Vec<Digest>>,
        shown: Bytes,
    }

    impl Registry {
        fn beginning_with(version: u64) -> Self {
            let ledger = Ledger::awaiting(None, &"VN".parse().unwrap(), version);
            let (key, leaves) = (SigningKey::generate().0, BTreeMap::new());
            let mut registry = Self { key, ledger, leaves, shown: Bytes::new() };
            registry.publish(version, digest(version));
            registry
        }

        fn publish(&mut self, version: u64, digest: Digest) {
            self.ledger = Ledger::awaiting(Some(&self.ledger), self.ledger.instance(), version);
            let path = self.ledger.append(&digest);
            self.leaves.entry(self.ledger.name()).or_default().push(leaf(version, &digest));
            let checkpoint = self.ledger.checkpoint().to_text();
            let sig = hex::encode(self.key.sign(checkpoint.as_bytes()));
            let (geneses, signatures) = (self.ledger.geneses().to_vec(), vec![Signature { keyid: "k".into(), sig }]);
            self.shown = CheckpointFile { checkpoint, geneses, path, signatures }.to_bytes();
        }

        fn publish_up_to(&mut self, version: u64) {
            (self.ledger.next()..=version).for_each(|version| self.publish(version, digest(version)));
        }

        fn signers(&self) -> Signers {
            Signers { threshold: 1, keys: BTreeMap::from([("k".to_owned(), self.key.public().clone())]) }
        }

        fn shown(&self) -> Shown {
            Shown::verify(self.shown.clone(), &self.signers()).unwrap()
        }

        fn page(&self, file: &str) -> Option<Bytes> {
            let (name, page) = file.strip_prefix("ledger/")?.split_once('/')?;
            let (page, count) = page.split_once('-')?;
            let (page, count): (usize, usize) = (page.parse().ok()?, count.parse().ok()?);
            let leaves = self.leaves.get(&name.parse().ok()?)?;
            let leaves = leaves.get(page * PAGE as usize..page * PAGE as usize + count)?;
            Some(leaves.iter().flat_map(|leaf| *leaf.as_bytes()).collect::<Vec<u8>>().into())
        }

        fn follows(&self, held: &Ledger, page: impl Fn(&str) -> Option<Bytes>) -> Result<(), NotJoined> {
            let shown = self.shown();
            match shown.follows(held, leaf(shown.version(), &digest(shown.version())))? {
                Way::On(stretch) => stretch.check(held, page),
                Way::Lost(_) => panic!("nothing was lost"),
            }
        }
    }

    #[test]
    fn a_version_is_the_last_leaf_of_its_checkpoint_and_no_other_is() {
        let mut registry = Registry::beginning_with(7);
        for version in 7..80 {
            registry.publish_up_to(version);
            let shown = registry.shown();
            assert_eq!(shown.containing(version, &digest(version)).unwrap(), registry.ledger);
            for (other, what) in [(version, digest(0)), (version + 1, digest(version)), (version - 1, digest(version))]
            {
                assert_eq!(shown.containing(other, &what), Err(NotInLedger::NotContained { version: other }));
            }
        }
    }

    #[test]
    fn a_checkpoint_with_a_bit_changed_is_refused_or_says_nothing_else() {
        let mut registry = Registry::beginning_with(1);
        registry.publish_up_to(7);
        registry.publish(20, digest(20));
        let signers = registry.signers();
        for at in 0..registry.shown.len() {
            for bit in 0..8 {
                let mut bytes = registry.shown.to_vec();
                bytes[at] ^= 1 << bit;
                let Ok(shown) = Shown::verify(bytes.into(), &signers) else { continue };
                assert!(shown.containing(20, &digest(20)).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn signatures_of_others_and_too_few_are_refused_and_one_key_counts_once() {
        let registry = Registry::beginning_with(1);
        let stranger = Registry::beginning_with(1);
        let none = NotInLedger::Signatures { found: 0, threshold: 1 };
        assert_eq!(Shown::verify(registry.shown.clone(), &stranger.signers()).unwrap_err(), none);
        let mut twice = CheckpointFile::parse(&registry.shown).unwrap();
        twice.signatures.push(twice.signatures[0].clone());
        let signers = Signers { threshold: 2, ..registry.signers() };
        let one = NotInLedger::Signatures { found: 1, threshold: 2 };
        assert_eq!(Shown::verify(twice.to_bytes(), &signers).unwrap_err(), one);
        // A root that wants no signature at all gets one all the same.
        let nobody = Signers { threshold: 0, keys: BTreeMap::new() };
        assert_eq!(Shown::verify(registry.shown.clone(), &nobody).unwrap_err(), none);
    }

    #[test]
    fn each_limit_has_two_sides() {
        let registry = Registry::beginning_with(1);
        let file = CheckpointFile::parse(&registry.shown).unwrap();
        for (count, taken) in [(MAX_SIGNATURES, true), (MAX_SIGNATURES + 1, false)] {
            let signatures = vec![file.signatures[0].clone(); count];
            let file = CheckpointFile { signatures, ..file.clone() }.to_bytes();
            assert_eq!(Shown::verify(file, &registry.signers()).is_ok(), taken, "{count}");
        }
        let mut registry = Registry::beginning_with(1);
        (1..=MAX_GENESES as u64 + 3).for_each(|at| registry.publish(at * 10, digest(at)));
        assert_eq!(registry.ledger.geneses().len(), MAX_GENESES, "the oldest are left out");
        registry.shown();
        let held = Registry::beginning_with(1).ledger;
        let far = |size: u64| Shown {
            file: Bytes::new(),
            checkpoint: Checkpoint { ledger: held.name(), size, root: Digest::ZERO },
            geneses: held.geneses().to_vec(),
            path: Vec::new(),
        };
        assert!(matches!(far(MAX_PAGES * PAGE + 1).follows(&held, Digest::ZERO), Ok(Way::On(_))));
        let refused = far(MAX_PAGES * PAGE + 2).follows(&held, Digest::ZERO);
        assert_eq!(refused, Err(NotInLedger::TooFar { pages: MAX_PAGES + 1 }));
        assert!(far(u64::MAX).follows(&held, Digest::ZERO).is_err());
        let long = Bytes::from(vec![b' '; MAX_CHECKPOINT_BYTES + 1]);
        assert!(matches!(Shown::verify(long, &registry.signers()), Err(NotInLedger::Malformed(_))));
    }

    #[test]
    fn a_ledger_of_another_beginning_follows_only_what_it_says_that_it_follows() {
        let mut registry = Registry::beginning_with(1);
        registry.publish_up_to(10);
        let held = registry.ledger.clone();
        registry.publish_up_to(300);
        registry.publish(1_000, digest(1_000));
        registry.publish(2_000, digest(2_000));
        // Two ledgers later it is still known how the first one ended, and that it went on from what is held.
        registry.follows(&held, |file| registry.page(file)).unwrap();
        let mut lost = Registry { key: SigningKey::generate().0, ledger: held.clone(), ..Registry::beginning_with(1) };
        lost.publish(1_000, digest(1_000));
        let known = registry.ledger.clone();
        let shown = lost.shown();
        let tail = LostTail { ledger: held.name(), ended: 10, held: 11 };
        let mut longer = held.clone();
        longer.append(&digest(11));
        assert_eq!(shown.follows(&longer, Digest::ZERO), Ok(Way::Lost(tail)));
        assert!(matches!(shown.follows(&known, Digest::ZERO), Err(NotInLedger::OtherLedger { .. })));
        let elsewhere = Registry::beginning_with(2);
        assert!(matches!(elsewhere.shown().follows(&held, Digest::ZERO), Err(NotInLedger::OtherLedger { .. })));
    }

    #[test]
    fn what_was_seen_is_bounded_and_a_version_said_twice_is_noticed_though_it_was_passed_over() {
        let mut registry = Registry::beginning_with(1);
        let mut standing: Option<Arc<Standing>> = None;
        let last = 2 * (TAIL as u64 + 5);
        // Every other version is passed over.
        for version in (2..=last).step_by(2) {
            registry.publish_up_to(version);
            let seen = Seen { version, digest: digest(version), checkpoint: registry.shown.clone() };
            let tail = standing.as_ref().map(|standing| {
                let way = registry.shown().follows(&standing.ledger, leaf(version, &digest(version)));
                let Ok(Way::On(stretch)) = way else { panic!("{way:?}") };
                standing.tail().along(&stretch, &standing.ledger, |file| registry.page(file)).unwrap()
            });
            let (ledger, signers) = (registry.ledger.clone(), registry.signers());
            standing = Some(Standing::after(standing.as_ref(), ledger, None, seen, tail, &signers));
        }
        let standing = standing.unwrap();
        assert_eq!((standing.seen().len(), standing.seen()[0].version), (SEEN, last - 2 * SEEN as u64 + 2));
        let oldest = last - TAIL as u64 + 1;
        for version in oldest..=last {
            assert!(standing.contradicts(version, &digest(0)) && !standing.contradicts(version, &digest(version)));
        }
        assert!(!standing.contradicts(oldest - 1, &digest(0)), "it is forgotten");
        assert!(!standing.contradicts(last + 1, &digest(0)), "it is not known yet");

        let mut shorter = Registry::beginning_with(1);
        for version in 1..last {
            shorter.publish_up_to(version);
            let checkpoint = shorter.shown().checkpoint;
            let between = standing.between(&checkpoint);
            assert_eq!(between.is_some(), version >= oldest - 1, "{version}");
            let Some(between) = between else { continue };
            let roots = between.roots(version).unwrap();
            assert_eq!(roots, (checkpoint.root, (last, registry.shown().checkpoint.root)), "{version}");
        }
    }

    #[test]
    fn two_histories_contradict_each_other_wherever_they_part_and_one_never_does() {
        let mut registry = Registry::beginning_with(1);
        registry.publish_up_to(5);
        let first = registry.shown();
        let base = registry.ledger.clone();
        registry.publish_up_to(9);
        let longer = registry.shown();
        let leaves: Vec<Digest> = (6..=9).map(|version| leaf(version, &digest(version))).collect();
        let between = Between { subtrees: base.frontier.subtrees().to_vec(), leaves };
        assert!(contradict(&longer, &first, Some(&between)).is_err(), "one is the beginning of the other");
        assert!(contradict(&longer, &first, None).is_err());

        // The same key signed another history as long as the first.
        let mut other = Registry { key: SigningKey::generate().0, ..Registry::beginning_with(1) };
        other.publish_up_to(4);
        other.publish(5, digest(0));
        assert_eq!(contradict(&longer, &other.shown(), Some(&between)), Ok(5));
        for forged in [
            Between { subtrees: vec![between.subtrees[0], digest(0)], ..between.clone() },
            Between { leaves: between.leaves[1..].to_vec(), ..between.clone() },
            Between { subtrees: Vec::new(), ..between.clone() },
        ] {
            assert!(contradict(&longer, &other.shown(), Some(&forged)).is_err(), "{forged:?}");
        }

        // Put back, it goes on in a ledger that follows, whether all of the one before is known or its end is lost.
        registry.publish(1_000, digest(1_000));
        let mut lost = Registry { key: SigningKey::generate().0, ledger: base, ..Registry::beginning_with(1) };
        lost.publish(1_000, digest(1_000));
        for (restored, known) in [(registry.shown(), longer), (lost.shown(), first)] {
            assert!(contradict(&restored, &known, None).is_err() && contradict(&known, &restored, None).is_err());
        }
        // Two that follow one, and not one another, are two histories.
        let mut another = Registry { key: SigningKey::generate().0, ..Registry::beginning_with(1) };
        another.publish(2_000, digest(2_000));
        assert_eq!(contradict(&registry.shown(), &another.shown(), None), Ok(2_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_held_is_continued_leaf_by_leaf(held in 1u64..600, more in 0u64..600, other in any::<prop::sample::Index>()) {
            let mut registry = Registry::beginning_with(1);
            registry.publish_up_to(held);
            let before = registry.ledger.clone();
            registry.publish_up_to(held + more);
            prop_assert_eq!(registry.follows(&before, |file| registry.page(file)), Ok(()));

            // A page with another bit, or none, or too many bytes, is none.
            let flipped = |file: &str| {
                let mut bytes = registry.page(file)?.to_vec();
                let at = other.index(bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
                Some(bytes.into())
            };
            let longer = |file: &str| Some([&registry.page(file)?[..], &[0; 32]].concat().into());
            if more > 1 {
                prop_assert!(registry.follows(&before, |_| None).is_err());
                prop_assert!(registry.follows(&before, longer).is_err());
                let at = before.size() % PAGE;
                if (more - 1) + at <= PAGE && at == 0 && held + more <= PAGE {
                    prop_assert!(registry.follows(&before, flipped).is_err());
                }
            }

            // Another history of the same length is not the one that is held, whatever pages come with it.
            let mut rewritten = Registry { key: SigningKey::generate().0, ..Registry::beginning_with(1) };
            rewritten.publish_up_to(held - 1);
            rewritten.publish(held, digest(0));
            rewritten.publish_up_to(held + more);
            prop_assume!(held > 1);
            prop_assert!(rewritten.follows(&before, |file| rewritten.page(file)).is_err());
            prop_assert!(rewritten.follows(&before, |file| registry.page(file)).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let nobody = Signers { threshold: 1, keys: BTreeMap::new() };
            prop_assert!(Shown::verify(bytes.into(), &nobody).is_err());
        }

        #[test]
        fn a_ledger_is_read_back_as_it_was_written(versions in 1u64..200) {
            let mut registry = Registry::beginning_with(3);
            registry.publish_up_to(3 + versions);
            registry.publish(1_000_000, digest(1));
            let written = serde_json::to_vec(&registry.ledger).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Ledger>(&written).unwrap(), registry.ledger);
        }
    }
}
