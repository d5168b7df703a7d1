//! Reads one segment from its bytes: what of it is whole, how its trees stand at its end, and whether what is not
//! whole is a torn tail or damage (FORMAT.md 8). Pure: never touches a file.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::record::{Genesis, Record};

use crate::format::{self, Block, Body, CommitBody, Header, Mark, NoHeader, SignatureBody, Snapshot};
use crate::proof::{self, CommitProof, RecordTree};
use crate::{Entry, Position};

/// A segment, read.
pub(crate) struct Scanned {
    pub header: Header,
    /// The trees as they stand after the last whole block.
    pub trees: Vec<Snapshot>,
    /// Length of the whole beginning.
    pub end: usize,
    /// Bytes that follow and are not whole. Zeros to the end of the file are none: they were written ahead (2.4).
    pub torn_bytes: usize,
    commits: Vec<FoundCommit>,
}

struct FoundCommit {
    offset: u64,
    genesis: Arc<Genesis>,
    proof: CommitProof,
    /// For each record where it begins in the file, its length, and the length of what lies beside it.
    places: Vec<(usize, usize, usize)>,
}

/// Why a segment cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    /// Its header never became whole, and nothing whole is in it (8.4).
    Unfinished,
    /// It is damaged at this offset.
    Damaged(u64, &'static str),
}

/// Reads the bytes of the segment of this number.
pub(crate) fn scan(number: u64, file: &Bytes) -> Result<Scanned, Unreadable> {
    let (header, mut end) = Header::parse(file).map_err(|error| match error {
        NoHeader::Unfinished => Unreadable::Unfinished,
        NoHeader::RestUnreadable(mark) if format::next_block(file, 0, &mark).is_none() => Unreadable::Unfinished,
        NoHeader::RestUnreadable(_) => Unreadable::Damaged(0, "the header is unreadable, and whole blocks follow it"),
        NoHeader::Damaged(what) => Unreadable::Damaged(0, what),
    })?;
    if header.number != number {
        return Err(Unreadable::Damaged(20, "the header's number is not the one in the file's name"));
    }
    let mut found = Found::of(&header);
    while let Some(Block { length, body, .. }) = format::block(file, end, &header.mark) {
        let follows = match body {
            Body::Commit(commit) => found.commit(file, end, &commit),
            Body::Signature(signature) => found.signature(&signature),
        };
        // A whole block in a wrong place is never the work of a crash (8.3).
        follows.map_err(|what| Unreadable::Damaged(end as u64, what))?;
        end += length;
    }
    let written = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let torn_bytes = written.saturating_sub(end);
    refuse_damage_before_a_whole_batch(file, end, &header.mark)?;
    Ok(Scanned { trees: found.trees, commits: found.commits, header, end, torn_bytes })
}

/// "A readable block whose batch begins after X proves that X was once whole and synced" (4.2).
fn refuse_damage_before_a_whole_batch(file: &[u8], end: usize, mark: &Mark) -> Result<(), Unreadable> {
    let mut from = end;
    while let Some((at, block)) = format::next_block(file, from, mark) {
        if block.batch > end as u64 {
            return Err(Unreadable::Damaged(end as u64, "it cannot be read here, yet a later batch is whole"));
        }
        from = at + block.length;
    }
    Ok(())
}

struct Found {
    trees: Vec<Snapshot>,
    by_name: HashMap<proto::record::TreeName, usize>,
    /// For each tree the last commit of this segment.
    last: Vec<Option<usize>>,
    commits: Vec<FoundCommit>,
}

impl Found {
    fn of(header: &Header) -> Self {
        let by_name = header.trees.iter().enumerate().map(|(index, tree)| (tree.name(), index)).collect();
        Self { trees: header.trees.clone(), by_name, last: vec![None; header.trees.len()], commits: Vec::new() }
    }

    fn commit(&mut self, file: &Bytes, offset: usize, block: &CommitBody<'_>) -> Result<(), &'static str> {
        let index = *self.by_name.get(&block.tree).ok_or("a commit of a tree that the header does not name")?;
        let tree = &mut self.trees[index];
        if block.index != tree.frontier.size() || block.previous != tree.previous {
            return Err("a commit that does not follow the one before it");
        }
        let mut at = offset + block.records_at;
        let mut places = Vec::with_capacity(block.records.len());
        let mut hashes = Vec::with_capacity(block.records.len());
        for (number, (record, beside)) in block.records.iter().enumerate() {
            Record::parse(file.slice_ref(record)).map_err(|_| "what should be a record is none")?;
            let genesis = &tree.genesis_record.as_bytes()[..];
            if block.index == 0 && number == 0 && *record != genesis {
                return Err("a tree that does not begin with its genesis");
            }
            hashes.push(proto::merkle::leaf_hash(record));
            places.push((at, record.len(), beside.len()));
            at += record.len() + beside.len();
        }
        let records = RecordTree::over(hashes);
        if records.root() != block.root {
            return Err("a commit whose records have another root than it says");
        }
        let proof = CommitProof::append(tree, records);
        self.last[index] = Some(self.commits.len());
        self.commits.push(FoundCommit { offset: offset as u64, genesis: tree.genesis.clone(), proof, places });
        Ok(())
    }

    fn signature(&mut self, block: &SignatureBody<'_>) -> Result<(), &'static str> {
        let index = *self.by_name.get(&block.tree).ok_or("a signature of a tree that the header does not name")?;
        if block.size != self.trees[index].frontier.size() {
            return Err("a signature of a head that is not the tree's at this place");
        }
        if let Some(last) = self.last[index] {
            self.commits[last].proof.signed(block.key, block.signature);
        }
        Ok(())
    }
}

impl Scanned {
    /// Position just after the last record.
    pub fn end(&self) -> Position {
        Position { segment: self.header.number, offset: self.end as u64, record: 0 }
    }

    /// Its commits in their order: where each stands, of which tree it is, and its proof.
    pub fn commits(&self) -> impl Iterator<Item = (u64, &Arc<Genesis>, &CommitProof)> {
        self.commits.iter().map(|commit| (commit.offset, &commit.genesis, &commit.proof))
    }

    /// Shows the entries at or after `from`, in their order. `file` is what was scanned.
    pub fn entries(&self, file: &[u8], from: Option<Position>, each: &mut dyn FnMut(Entry)) {
        let begins = from.map_or(0, |from| if from.segment == self.header.number { from.offset } else { 0 });
        let skipped = self.commits.partition_point(|commit| commit.offset < begins);
        for commit in &self.commits[skipped..] {
            for index in 0..commit.proof.records.count() {
                let position = Position { segment: self.header.number, offset: commit.offset, record: index };
                if from.is_none_or(|from| position >= from) {
                    each(commit.entry(file, position));
                }
            }
        }
    }

    /// The one entry at this position of this segment.
    pub fn entry(&self, file: &[u8], position: Position) -> Option<Entry> {
        let commit = self.commits.binary_search_by_key(&position.offset, |commit| commit.offset).ok()?;
        let commit = &self.commits[commit];
        (position.record < commit.proof.records.count()).then(|| commit.entry(file, position))
    }
}

impl FoundCommit {
    fn entry(&self, file: &[u8], position: Position) -> Entry {
        let (at, length, beside) = self.places[position.record as usize];
        // Copied, so that an entry that is kept does not keep its whole segment.
        let copy = |from: usize, length: usize| Bytes::copy_from_slice(&file[from..from + length]);
        let record = Record::parse(copy(at, length)).expect("parsed when the segment was scanned");
        let seal = self.proof.seal(position.record, record.nonce());
        let beside = copy(at + length, beside);
        let (tree, genesis) = (self.genesis.tree, self.genesis.clone());
        let (commit, leaf, records) = (self.proof.head.size - 1, self.proof.leaf, Arc::clone(&self.proof.records));
        Entry { position, tree, genesis, commit, leaf, records, record, beside, seal }
    }
}

/// Whether a segment goes on where the one before it ended.
pub(crate) fn follows(before: &[Snapshot], header: &Header) -> Result<(), &'static str> {
    for tree in &header.trees {
        let found = |name: &[u8]| before.iter().find(|before| before.name().0.as_bytes() == name);
        if tree.frontier.size() > 0 {
            if found(tree.name().0.as_bytes()) != Some(tree) {
                return Err("a tree does not go on as it ended in the segment before");
            }
        } else if !tree.genesis.content.before.is_empty() {
            let content = &tree.genesis.content;
            let Some(ended) = found(&content.before) else {
                return Err("a tree names one before it that the segment before does not hold");
            };
            let head = proof::head(ended.name(), &ended.frontier);
            if (head.size, &head.root.as_bytes()[..]) != (content.before_size, &content.before_root[..]) {
                return Err("the tree before did not end as its successor found it");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::digest::Digest;
    use proto::record::{Kind, TreeName};
    use proto::wire::relay as wire;

    use super::*;
    use crate::format::Place;

    const MARK: Mark = *b"testmark";

    fn unborn(member: &str) -> Snapshot {
        let random = Bytes::from_static(&[7; 32]);
        let genesis = wire::Genesis { member: member.into(), random, why: 1, ..wire::Genesis::default() };
        Snapshot::unborn(Record::new(Kind::Genesis, &[0; 16], &[&genesis.encode_to_vec()])).unwrap()
    }

    /// A segment with this one tree and these blocks, written one after another as if each were whole and right.
    fn segment(blocks: impl FnOnce(&mut Vec<u8>, Place<'_>)) -> Bytes {
        let mut file = Header { number: 1, mark: MARK, trees: vec![unborn("a")] }.encode();
        let mut batch = Vec::new();
        blocks(&mut batch, Place { mark: &MARK, batch: file.len() as u64 });
        file.extend_from_slice(&batch);
        file.into()
    }

    fn refused(file: &Bytes) -> &'static str {
        match scan(1, file) {
            Err(Unreadable::Damaged(_, what)) => what,
            other => panic!("accepted: {:?}", other.map(|scanned| scanned.commits.len())),
        }
    }

    /// "A block that is readable but does not follow from those before it is refused always" (8.3).
    #[test]
    fn a_whole_block_in_a_wrong_place_is_refused() {
        let tree = unborn("a");
        let genesis = tree.genesis_record.clone();
        let root = genesis.hash();
        let grown = |count: u64, previous: Digest| {
            let mut grown = tree.clone();
            (0..count).for_each(|_| drop(grown.frontier.append(root)));
            Snapshot { previous, ..grown }
        };
        let after = |before: Snapshot| {
            segment(|batch, place| {
                format::put_commit(batch, place, &tree, &root, std::slice::from_ref(&genesis));
                format::put_commit(batch, place, &before, &root, std::slice::from_ref(&genesis));
            })
        };
        let first = proto::record::Commit { count: 1, root }.hash();
        assert_eq!(scan(1, &after(grown(1, first))).unwrap().commits.len(), 2, "the twin that is right");
        for before in [grown(0, first), grown(2, first), grown(1, root), grown(1, Digest::ZERO), tree.clone()] {
            assert_eq!(refused(&after(before)), "a commit that does not follow the one before it");
        }
        let one = |before: &Snapshot, root: &Digest, record: &Record| {
            segment(|batch, place| format::put_commit(batch, place, before, root, std::slice::from_ref(record)))
        };
        let other = Record::new(Kind::Sent, &[0; 16], &[b"x"]);
        assert_eq!(refused(&one(&tree, &first, &genesis)), "a commit whose records have another root than it says");
        assert_eq!(refused(&one(&tree, &other.hash(), &other)), "a tree that does not begin with its genesis");
        assert_eq!(refused(&one(&unborn("b"), &root, &genesis)), "a commit of a tree that the header does not name");
    }

    #[test]
    fn a_signature_in_a_wrong_place_is_refused() {
        let tree = unborn("a");
        let signed = |name: TreeName, size| {
            segment(|batch, place| {
                let genesis = tree.genesis_record.clone();
                format::put_commit(batch, place, &tree, &genesis.hash(), &[genesis]);
                let signature = SignatureBody { tree: name, size, key: Digest::ZERO, signature: &[1; 70] };
                format::put_signature(batch, place, &signature);
            })
        };
        assert!(scan(1, &signed(tree.name(), 1)).is_ok());
        for size in [0, 2] {
            let wrong = "a signature of a head that is not the tree's at this place";
            assert_eq!(refused(&signed(tree.name(), size)), wrong);
        }
        let wrong = "a signature of a tree that the header does not name";
        assert_eq!(refused(&signed(unborn("b").name(), 1)), wrong);
    }

    #[test]
    fn a_segment_is_read_under_its_own_number_only() {
        let file = segment(|_, _| {});
        assert!(scan(1, &file).is_ok());
        assert!(matches!(scan(2, &file), Err(Unreadable::Damaged(20, _))));
    }
}
