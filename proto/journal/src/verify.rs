//! Reading a journal without trusting it: every checksum, hash and order, as each start reads them, and every signature of
//! a head besides, under the keys that whoever asks knows.
//!
//! A tree is proved up to its last signed head, and what follows that in the tree by the genesis of its successor, which
//! names the tree's end and is signed itself. Only the newest tree may have a tail that nothing signed: at most a second of
//! a server that runs, or that was killed.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use proto::digest::Digest;
use proto::head::Head;
use proto::record::{Genesis, TreeName};
use proto::signature::{KeyId, PublicKey};

use crate::Entry;
use crate::disk::Disk;
use crate::format::Snapshot;
use crate::proof::{self, SignedHead};
use crate::read::{self, Damage, ReadError};
use crate::scan::{self, Unreadable};

/// What was found of one tree.
#[derive(Clone, Debug)]
pub struct VerifiedTree {
    /// How it begins: whose it is, what came before and why it was opened.
    pub genesis: Arc<Genesis>,
    /// Where it ends, or stands.
    pub head: Head,
    /// The last head of it that a known key signed.
    pub signed: Option<Head>,
    /// Signatures that held, by key.
    pub signatures: BTreeMap<KeyId, u64>,
    /// Signatures by keys that are not known here, which are not checked.
    pub unknown: BTreeMap<KeyId, u64>,
    /// Records of it that were read.
    pub records: u64,
    /// Whether its successor's signed genesis names its end.
    pub succeeded: bool,
}

impl VerifiedTree {
    /// Commits at its end that neither a known key signed nor a successor names.
    pub fn unsigned(&self) -> u64 {
        if self.succeeded { 0 } else { self.head.size - self.signed.map_or(0, |head| head.size) }
    }
}

/// What was found of a journal.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Its trees, in the order in which they begin.
    pub trees: Vec<VerifiedTree>,
    /// Segments that were read.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Records that were read.
    pub records: u64,
    /// Bytes after the last whole block, which a start would cut.
    pub torn_bytes: u64,
}

impl Verified {
    /// Trees of which no head is signed by a known key: nothing shows whose word they are.
    pub fn unproven(&self) -> impl Iterator<Item = &VerifiedTree> {
        self.trees.iter().filter(|tree| tree.signed.is_none())
    }
}

/// Finds a key that may sign heads.
type FindKey<'k> = dyn Fn(&KeyId) -> Option<PublicKey> + 'k;

/// Takes a journal's segments in their order.
pub struct Verifier<'k> {
    /// Names the journal in errors.
    place: String,
    key: Box<FindKey<'k>>,
    before: Option<(u64, Vec<Snapshot>)>,
    by_name: HashMap<TreeName, usize>,
    /// The segment that is not whole, and where: it must be the last.
    torn: Option<(String, u64)>,
    found: Verified,
}

impl<'k> Verifier<'k> {
    /// Of the journal at this place; `key` finds a key that may sign its heads.
    pub fn new(place: impl Into<String>, key: impl Fn(&KeyId) -> Option<PublicKey> + 'k) -> Self {
        Self {
            place: place.into(),
            key: Box::new(key),
            before: None,
            by_name: HashMap::new(),
            torn: None,
            found: Verified::default(),
        }
    }

    /// The next segment, by its file's name. Its entries are shown when all of it held.
    pub fn segment(&mut self, name: &str, file: &Bytes, each: &mut dyn FnMut(Entry)) -> Result<(), Damage> {
        let number = read::number_of(name).ok_or_else(|| self.damage(name, 0, "this is no segment's name"))?;
        if let Some((before, end)) = self.torn.take() {
            return Err(self.damage(&before, end, "it cannot be read from here on, and is not the last"));
        }
        if self.before.as_ref().is_some_and(|(before, _)| before + 1 != number) {
            return Err(self.damage(name, 0, "the segment before it is missing"));
        }
        let scanned = scan::scan(number, file).map_err(|unreadable| match unreadable {
            Unreadable::Unfinished => self.damage(name, 0, "its header is not whole"),
            Unreadable::Damaged(offset, what) => self.damage(name, offset, what),
        })?;
        if let Some((_, before)) = &self.before {
            scan::follows(before, &scanned.header).map_err(|what| self.damage(name, 0, what))?;
        }
        for tree in &scanned.header.trees {
            self.begins(tree);
        }
        let mut signatures = Vec::new();
        for (offset, genesis, commit) in scanned.commits() {
            let tree = &mut self.found.trees[self.by_name[&genesis.tree]];
            tree.records += u64::from(commit.records.count());
            self.found.records += u64::from(commit.records.count());
            tree.head = commit.head;
            let Some(signed) = commit.signed_head() else { continue };
            let Ok(id) = KeyId::try_from(&signed.key[..]) else { continue };
            match (self.key)(&id) {
                None => *tree.unknown.entry(id).or_default() += 1,
                Some(key) => {
                    signatures.push(Signature { offset, key, signed });
                    *tree.signatures.entry(id).or_default() += 1;
                    tree.signed = Some(commit.head);
                }
            }
        }
        if let Some(offset) = first_forged(&signatures) {
            return Err(self.damage(name, offset, "the signature of this commit's head does not hold"));
        }
        self.succeed(&scanned.header.trees);
        self.found.segments += 1;
        self.found.bytes += scanned.end().offset + scanned.torn_bytes as u64;
        self.found.torn_bytes = scanned.torn_bytes as u64;
        self.torn = (self.found.torn_bytes > 0).then(|| (name.to_owned(), scanned.end().offset));
        scanned.entries(file, None, each);
        self.before = Some((number, scanned.trees));
        Ok(())
    }

    /// What was found in all of them.
    pub fn finish(self) -> Verified {
        self.found
    }

    fn begins(&mut self, tree: &Snapshot) {
        let name = tree.name();
        if self.by_name.contains_key(&name) {
            return;
        }
        self.by_name.insert(name, self.found.trees.len());
        self.found.trees.push(VerifiedTree {
            genesis: Arc::clone(&tree.genesis),
            head: proof::head(name, &tree.frontier),
            signed: None,
            signatures: BTreeMap::new(),
            unknown: BTreeMap::new(),
            records: 0,
            succeeded: false,
        });
    }

    /// `scan::follows` has checked that a successor names the end of the tree before it.
    fn succeed(&mut self, trees: &[Snapshot]) {
        for tree in trees {
            let before = Digest::try_from(&tree.genesis.content.before[..]).map(TreeName);
            let signed = self.found.trees[self.by_name[&tree.name()]].signed.is_some();
            if let Some(before) = before.ok().and_then(|before| self.by_name.get(&before)).filter(|_| signed) {
                self.found.trees[*before].succeeded = true;
            }
        }
    }

    fn damage(&self, name: &str, offset: u64, what: &'static str) -> Damage {
        Damage { file: format!("{}/{name}", self.place), offset, what }
    }
}

/// A signature to be checked, and where its commit begins.
struct Signature<'s> {
    offset: u64,
    key: PublicKey,
    signed: &'s SignedHead,
}

/// The least that a thread is begun for: some 20 ms of one core.
const SHARE: usize = 256;

/// Where the first is that does not hold. A signature is by far the dearest of a commit, and no one waits for another: every core
/// takes a share.
fn first_forged(signatures: &[Signature<'_>]) -> Option<u64> {
    let forged = |share: &[Signature<'_>]| {
        let mut share = share.iter();
        share.find(|it| it.key.verify(&it.signed.text, &it.signed.signature).is_err()).map(|it| it.offset)
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut shares = signatures.chunks(signatures.len().div_ceil(cores).max(SHARE));
    let ours = shares.next()?;
    thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(move || forged(share))).collect();
        let ours = forged(ours);
        let mut others =
            others.into_iter().filter_map(|other| other.join().expect("a check of a signature does not panic"));
        ours.or_else(|| others.next())
    })
}

/// Verifies a whole directory without its lock, a running server's too, and shows every entry. A tail that is not whole is
/// left out.
pub fn verify(
    disk: &dyn Disk,
    key: &dyn Fn(&KeyId) -> Option<PublicKey>,
    each: &mut dyn FnMut(Entry),
) -> Result<Verified, ReadError> {
    let mut verifier = Verifier::new(disk.to_string(), key);
    let numbers = read::segments(disk)?;
    for number in &numbers {
        let file = read::segment(disk, *number)?;
        let unfinished =
            numbers.last() == Some(number) && matches!(scan::scan(*number, &file), Err(Unreadable::Unfinished));
        if !unfinished {
            verifier.segment(&read::file_name(*number), &file, each)?;
        }
    }
    Ok(verifier.finish())
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::record::{Kind, Record};
    use proto::signature::SigningKey;
    use proto::wire::relay as wire;

    use super::*;
    use crate::format::{self, Header, Place, SignatureBody};

    /// A segment with one tree of one commit, signed by this key with this signature; every checksum is right.
    fn segment(key: KeyId, sign: impl FnOnce(&Head) -> Vec<u8>) -> Bytes {
        let mark = *b"testmark";
        let genesis = wire::Genesis { random: vec![7; 32].into(), why: 1, ..wire::Genesis::default() };
        let tree = Snapshot::unborn(Record::new(Kind::Genesis, &[0; 16], &[&genesis.encode_to_vec()])).unwrap();
        let mut file = Header { number: 1, mark, trees: vec![tree.clone()] }.encode();
        let place = Place { mark: &mark, batch: file.len() as u64 };
        let (record, mut batch, mut grown) = (tree.genesis_record.clone(), Vec::new(), tree.clone());
        format::put_commit(&mut batch, place, &tree, &record.hash(), std::slice::from_ref(&record));
        grown.frontier.append(proto::record::Commit { count: 1, root: record.hash() }.hash());
        let head = proof::head(tree.name(), &grown.frontier);
        let signature = SignatureBody { tree: tree.name(), size: 1, key, signature: &sign(&head) };
        format::put_signature(&mut batch, place, &signature);
        file.extend_from_slice(&batch);
        file.into()
    }

    fn verified(file: &Bytes, known: &SigningKey) -> Result<Verified, Damage> {
        let key = |id: &KeyId| (*id == known.public().id()).then(|| known.public().clone());
        let mut verifier = Verifier::new("log", key);
        verifier.segment("0000000001.segment", file, &mut |_| {})?;
        Ok(verifier.finish())
    }

    #[test]
    fn a_signature_of_a_head_is_checked_and_not_only_its_checksum() {
        let ((key, _), (other, _)) = (SigningKey::generate(), SigningKey::generate());
        let right = verified(&segment(key.public().id(), |head| proof::sign(head, &key)), &key).unwrap();
        assert_eq!((right.trees[0].signed.map(|head| head.size), right.unproven().count()), (Some(1), 0));
        let forged = verified(&segment(key.public().id(), |head| proof::sign(head, &other)), &key).unwrap_err();
        assert_eq!(forged.what, "the signature of this commit's head does not hold");
        let foreign = verified(&segment(other.public().id(), |head| proof::sign(head, &other)), &key).unwrap();
        assert_eq!(
            (foreign.unproven().count(), foreign.trees[0].unknown.len()),
            (1, 1),
            "nobody knows whose word it is"
        );
    }
}
