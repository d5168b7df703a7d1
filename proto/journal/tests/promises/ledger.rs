//! What a test knows of a journal besides the journal: everything that was ever acknowledged, kept where no fault
//! reaches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use journal::{Committed, Disk, Entry, Journal, OpenError, Options, Owner, Position, Tree, TreeIndex};
use proto::digest::Digest;
use proto::merkle;
use proto::record::{Commit, Kind, Record, TreeName};
use proto::seal;
use proto::signature::SigningKey;
use proto::wire::relay::Seal;

pub fn key() -> Arc<SigningKey> {
    static KEY: OnceLock<Arc<SigningKey>> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate().0.into()).clone()
}

pub fn tree(member: &str) -> Tree {
    let owner = Owner { instance: "VN".parse().unwrap(), member: member.into(), server: "VN/GOV/moj/ss1".into() };
    Tree { owner, key: key() }
}

pub fn two_trees() -> Vec<Tree> {
    vec![tree("VN/GOV/moj"), tree("VN/GOV/moh")]
}

/// No timer: what is written depends on the test alone.
pub fn options() -> Options {
    Options { tail_signed_within: None, ..Options::default() }
}

pub fn first() -> Options {
    Options { first: true, ..options() }
}

pub fn record(number: u64) -> Record {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    Record::new(Kind::Sent, &nonce, &[format!("header {number}").as_bytes()])
}

/// Opens with two trees, and returns what was recovered too.
pub fn open(disk: &Arc<impl Disk + 'static>, options: Options) -> Result<(Journal, Vec<Entry>), OpenError> {
    let mut entries = Vec::new();
    let journal = Journal::open(disk.clone(), two_trees(), options, None, &mut |entry| entries.push(entry))?;
    Ok((journal, entries))
}

pub fn read_all(disk: &dyn Disk) -> Vec<Entry> {
    let mut entries = Vec::new();
    journal::read(disk, None, &mut |entry| entries.push(entry)).unwrap();
    entries
}

/// Appends one record and waits for it.
pub fn append(journal: &Journal, tree: usize, number: u64, leaving: bool) -> Committed {
    journal.append(TreeIndex(tree), record(number), Bytes::new(), leaving).wait().unwrap()
}

/// Checks that a seal proves a record under the test's key. The same signature over the same head is checked once.
pub fn assert_proves(seal: &Seal, record: &Record) {
    static HELD: Mutex<BTreeSet<(Bytes, Bytes)>> = Mutex::new(BTreeSet::new());
    let signed = (seal.head.clone(), seal.signature.clone());
    let held = HELD.lock().unwrap().contains(&signed);
    seal::walk_record(seal, record).unwrap().signed_by(key().public(), |_, _| held).unwrap();
    HELD.lock().unwrap().insert(signed);
}

/// Everything that was acknowledged.
#[derive(Clone, Default)]
pub struct Ledger {
    acknowledged: BTreeMap<Position, (Record, Bytes, Option<Seal>)>,
    /// Every signed head that anybody was given.
    heads: HashMap<TreeName, BTreeMap<u64, Digest>>,
    names: Vec<TreeName>,
}

impl Ledger {
    /// Notes what a journal began: names that were never there before.
    pub fn opened(&mut self, journal: &Journal) {
        for tree in [0, 1] {
            let name = journal.name(TreeIndex(tree));
            assert!(!self.names.contains(&name), "every start opens a new tree");
            self.names.push(name);
        }
    }

    pub fn acknowledged(&mut self, record: Record, beside: Bytes, committed: &Committed) {
        let seal = committed.seal();
        if let Some(seal) = &seal {
            assert_proves(seal, &record);
            self.head(committed.head().tree, committed.head().size, committed.head().root);
        }
        let twice = self.acknowledged.insert(committed.position(), (record, beside, seal));
        assert!(twice.is_none(), "two records at {}", committed.position());
    }

    /// "Two heads conflict if they bear the same name" and differ in root at one size. Different sizes are compared
    /// through the log, in [`Ledger::check_heads`].
    fn head(&mut self, tree: TreeName, size: u64, root: Digest) {
        let known = *self.heads.entry(tree).or_default().entry(size).or_insert(root);
        assert_eq!(known, root, "two heads of tree {tree} at size {size} conflict");
    }

    /// Checks that the log still holds all that was acknowledged, as it was, and proves it.
    pub fn check_nothing_is_lost(&mut self, entries: &[Entry]) {
        let found: BTreeMap<_, _> = entries.iter().map(|entry| (entry.position, entry)).collect();
        assert_eq!(found.len(), entries.len(), "every entry has a place of its own");
        for (position, (record, beside, seal)) in &self.acknowledged {
            let entry = found.get(position).unwrap_or_else(|| panic!("the record at {position} is lost"));
            assert_eq!((&entry.record, &entry.beside), (record, beside));
            if seal.is_some() {
                assert_eq!(&entry.seal, seal, "the seal that left is the seal that is there");
            }
        }
        let leaves = self.check_heads(entries);
        for (tree, heads) in &self.heads {
            let largest = heads.keys().next_back().copied().unwrap_or(0);
            assert!(largest <= leaves[tree].len() as u64, "a signed head beyond the end of its tree");
        }
    }

    /// Checks that each signed head that is known is the root of a beginning of its tree, as far as the log goes.
    pub fn check_heads(&mut self, entries: &[Entry]) -> HashMap<TreeName, Vec<Digest>> {
        for entry in entries {
            if let Some(seal) = &entry.seal {
                let head = *seal::walk_record(seal, &entry.record).unwrap().head();
                assert_proves(seal, &entry.record);
                self.head(head.tree, head.size, head.root);
            }
        }
        let leaves = leaves(entries);
        for (tree, heads) in &self.heads {
            let Some(leaves) = leaves.get(tree) else { continue };
            for (size, root) in heads.range(..=leaves.len() as u64) {
                assert_eq!(merkle::root(&leaves[..*size as usize]), *root, "head {size} of tree {tree}");
            }
        }
        leaves
    }
}

/// The commits' leaf hashes of each tree, made anew from the records alone.
fn leaves(entries: &[Entry]) -> HashMap<TreeName, Vec<Digest>> {
    let mut leaves: HashMap<_, Vec<_>> = HashMap::new();
    for commit in entries.chunk_by(|one, next| {
        (one.position.segment, one.position.offset) == (next.position.segment, next.position.offset)
    }) {
        let records: Vec<_> = commit.iter().map(|entry| entry.record.hash()).collect();
        leaves.entry(commit[0].tree).or_default().push(Commit::of(&records).hash());
    }
    leaves
}
