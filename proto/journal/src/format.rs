//! Bytes of segments, as FORMAT.md paragraphs 3 to 6 lay them down. Pure: never touches a file.

use bytes::Bytes;
use proto::digest::Digest;
use proto::merkle::Frontier;
use proto::record::{Genesis, Record, TreeName};
use proto::seal::MAX_SIGNATURE_BYTES;
use proto::signature::KeyId;

/// First bytes of every segment.
pub(crate) const MAGIC: &[u8; 20] = b"causeway.journal.v1\n";
/// Most records in one commit: a seal's path has at most 16 hashes.
pub(crate) const MAX_COMMIT_RECORDS: usize = 65_536;
/// Most trees in one journal.
pub(crate) const MAX_TREES: usize = 4_096;
/// Longest genesis record.
pub(crate) use proto::record::MAX_GENESIS_BYTES;
const MAX_HEADER_REST: usize = 16 << 20;
const _: () = assert!(4 + MAX_TREES * (32 + 4 + MAX_GENESIS_BYTES + 8 + 64 * 32 + 32) <= MAX_HEADER_REST);
const HEADER_FIXED: usize = 20 + 8 + 8 + 4 + 4;
const BLOCK_HEAD: usize = 8 + 4 + 1 + 8 + 8 + 4;
const COMMIT_FIXED: usize = 32 + 8 + 32 + 4 + 32;
const COMMIT_ROW: usize = 12;
const SIGNATURE_FIXED: usize = 32 + 8 + 32;
const KIND_COMMIT: u8 = 1;
const KIND_SIGNATURE: u8 = 2;

/// Random bytes of one segment, before each of its blocks (4.1).
pub(crate) type Mark = [u8; 8];

/// What a segment says before its first block (3).
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Header {
    pub number: u64,
    pub mark: Mark,
    pub trees: Vec<Snapshot>,
}

/// A tree as it stands between two commits: all that is needed to go on with it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Snapshot {
    pub genesis_record: Record,
    pub genesis: std::sync::Arc<Genesis>,
    pub frontier: Frontier,
    /// Leaf hash of the last commit.
    pub previous: Digest,
}

impl Snapshot {
    /// A tree before its first commit.
    pub fn unborn(genesis_record: Record) -> Option<Self> {
        let genesis = Genesis::parse(genesis_record.as_bytes().clone()).ok()?.into();
        Some(Self { genesis_record, genesis, frontier: Frontier::default(), previous: Digest::ZERO })
    }

    pub fn name(&self) -> TreeName {
        self.genesis.tree
    }
}

/// Why bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoHeader {
    /// It never became whole: the file ends within it, or holds nothing but zeros.
    Unfinished,
    /// Its first part is whole and names this mark, the rest is not.
    RestUnreadable(Mark),
    /// Something else stands there, with this wrong about it.
    Damaged(&'static str),
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        rest.extend_from_slice(&(self.trees.len() as u32).to_be_bytes());
        for tree in &self.trees {
            let genesis = tree.genesis_record.as_bytes();
            rest.extend_from_slice(tree.name().0.as_bytes());
            rest.extend_from_slice(&(genesis.len() as u32).to_be_bytes());
            rest.extend_from_slice(genesis);
            rest.extend_from_slice(&tree.frontier.size().to_be_bytes());
            for subtree in tree.frontier.subtrees() {
                rest.extend_from_slice(subtree.as_bytes());
            }
            rest.extend_from_slice(tree.previous.as_bytes());
        }
        let mut bytes = Vec::with_capacity(HEADER_FIXED + 4 + rest.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.mark);
        bytes.extend_from_slice(&(rest.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&rest).to_be_bytes());
        bytes.extend_from_slice(&rest);
        bytes
    }

    /// Reads the header at the beginning of `file`, and says where the first block begins.
    pub fn parse(file: &[u8]) -> Result<(Self, usize), NoHeader> {
        if file.iter().all(|byte| *byte == 0) {
            return Err(NoHeader::Unfinished);
        }
        let known = file.len().min(MAGIC.len());
        if file[..known] != MAGIC[..known] {
            return Err(NoHeader::Damaged(
                "this is no segment of a journal: it does not begin with causeway.journal.v1",
            ));
        }
        let mut cursor = Cursor(&file[known..]);
        let fixed = (|| Some((cursor.u64()?, cursor.array::<8>()?, cursor.u32()?, cursor.u32()?)))();
        let Some((number, mark, length, checksum)) = fixed else {
            return Err(NoHeader::Unfinished);
        };
        if checksum != crc32c::crc32c(&file[..HEADER_FIXED - 4]) {
            return Err(NoHeader::Damaged("the header's checksum does not fit"));
        }
        let length = length as usize;
        if length > MAX_HEADER_REST {
            return Err(NoHeader::Damaged("the header is longer than 16 MiB"));
        }
        let rest = (|| {
            let checksum = cursor.u32()?;
            let rest = cursor.take(length)?;
            (crc32c::crc32c(rest) == checksum).then_some(rest)
        })();
        // Whether it ends too early or does not fit: a readable block after it would show that it once was whole.
        let rest = rest.ok_or(NoHeader::RestUnreadable(mark))?;
        let trees = Self::parse_trees(rest).ok_or(NoHeader::Damaged("the header's trees are not as they must be"))?;
        Ok((Self { number, mark, trees }, HEADER_FIXED + 4 + length))
    }

    fn parse_trees(rest: &[u8]) -> Option<Vec<Snapshot>> {
        let mut cursor = Cursor(rest);
        let count = cursor.u32()? as usize;
        if !(1..=MAX_TREES).contains(&count) {
            return None;
        }
        let mut trees = Vec::new();
        for _ in 0..count {
            let name = TreeName(cursor.digest()?);
            let length = cursor.u32()? as usize;
            if length > MAX_GENESIS_BYTES {
                return None;
            }
            let record = Record::parse(Bytes::copy_from_slice(cursor.take(length)?)).ok()?;
            let mut tree = Snapshot::unborn(record)?;
            let size = cursor.u64()?;
            let subtrees = (0..size.count_ones()).map(|_| cursor.digest()).collect::<Option<Vec<_>>>()?;
            tree.frontier = Frontier::from_parts(size, subtrees).ok()?;
            tree.previous = cursor.digest()?;
            if tree.name() != name || (size == 0) != (tree.previous == Digest::ZERO) {
                return None;
            }
            trees.push(tree);
        }
        cursor.0.is_empty().then_some(trees)
    }
}

/// One block, read (4).
#[derive(Debug)]
pub(crate) struct Block<'b> {
    /// Offset at which its batch begins.
    pub batch: u64,
    /// Its length in the file, head and body.
    pub length: usize,
    pub body: Body<'b>,
}

#[derive(Debug)]
pub(crate) enum Body<'b> {
    Commit(CommitBody<'b>),
    Signature(SignatureBody<'b>),
}

#[derive(Debug)]
pub(crate) struct CommitBody<'b> {
    pub tree: TreeName,
    pub index: u64,
    pub previous: Digest,
    pub root: Digest,
    /// Where the records' bytes begin, counted from the block's beginning.
    pub records_at: usize,
    /// Each record with what lies beside it.
    pub records: Vec<(&'b [u8], &'b [u8])>,
}

#[derive(Debug)]
pub(crate) struct SignatureBody<'b> {
    pub tree: TreeName,
    pub size: u64,
    pub key: KeyId,
    pub signature: &'b [u8],
}

/// Reads the block at `offset` of `file`. `None`: no whole block of this segment begins there.
pub(crate) fn block<'b>(file: &'b [u8], offset: usize, mark: &Mark) -> Option<Block<'b>> {
    let bytes = file.get(offset..)?;
    let mut cursor = Cursor(bytes);
    if cursor.take(8)? != mark {
        return None;
    }
    let checksum = cursor.u32()?;
    let (kind, here, batch, length) = (cursor.array::<1>()?[0], cursor.u64()?, cursor.u64()?, cursor.u32()? as usize);
    if here != offset as u64 || batch > here {
        return None;
    }
    let mut body = Cursor(cursor.take(length)?);
    // How far the checksum reaches (5.1, 6.1); what it says is believed only when it fits.
    let covered = match kind {
        KIND_COMMIT => {
            let count = u32::from_be_bytes(body.0.get(72..76)?.try_into().ok()?) as usize;
            COMMIT_FIXED.checked_add(count.checked_mul(COMMIT_ROW)?)?
        }
        KIND_SIGNATURE => length,
        _ => return None,
    };
    if covered > length || checksum != crc32c::crc32c(&bytes[12..BLOCK_HEAD + covered]) {
        return None;
    }
    let read = if kind == KIND_COMMIT { commit(&mut body, covered)? } else { signature(&mut body)? };
    Some(Block { batch, length: BLOCK_HEAD + length, body: read })
}

fn commit<'b>(body: &mut Cursor<'b>, covered: usize) -> Option<Body<'b>> {
    let (tree, index, previous) = (TreeName(body.digest()?), body.u64()?, body.digest()?);
    let (count, root) = (body.u32()? as usize, body.digest()?);
    if !(1..=MAX_COMMIT_RECORDS).contains(&count) {
        return None;
    }
    let table = body.take(count * COMMIT_ROW)?;
    let mut records = Vec::with_capacity(count);
    for row in table.chunks_exact(COMMIT_ROW) {
        let mut row = Cursor(row);
        let (length, beside, checksum) = (row.u32()? as usize, row.u32()? as usize, row.u32()?);
        let (record, beside) = (body.take(length)?, body.take(beside)?);
        if checksum != checksum_of(record, beside) {
            return None;
        }
        records.push((record, beside));
    }
    body.0.is_empty().then_some(())?;
    let records_at = BLOCK_HEAD + covered;
    Some(Body::Commit(CommitBody { tree, index, previous, root, records_at, records }))
}

fn signature<'b>(body: &mut Cursor<'b>) -> Option<Body<'b>> {
    let (tree, size, key) = (TreeName(body.digest()?), body.u64()?, body.digest()?);
    let signature = std::mem::take(&mut body.0);
    (signature.len() <= MAX_SIGNATURE_BYTES).then_some(())?;
    Some(Body::Signature(SignatureBody { tree, size, key, signature }))
}

/// The next offset at or after `from` where a block of this segment can be read.
pub(crate) fn next_block<'b>(file: &'b [u8], from: usize, mark: &Mark) -> Option<(usize, Block<'b>)> {
    (from..file.len().saturating_sub(BLOCK_HEAD - 1))
        .filter(|at| file[*at] == mark[0])
        .find_map(|at| Some((at, block(file, at, mark)?)))
}

/// The checksum of a record and what lies beside it (5).
pub(crate) fn checksum_of(record: &[u8], beside: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(record), beside)
}

/// A record on its way into a commit block.
pub(crate) trait Row {
    fn record(&self) -> &[u8];
    fn beside(&self) -> &[u8];
    fn checksum(&self) -> u32;
}

/// Where a block comes to stand.
#[derive(Clone, Copy)]
pub(crate) struct Place<'m> {
    pub mark: &'m Mark,
    /// Offset in the file of the batch that is being put together, which is where the buffer begins.
    pub batch: u64,
}

/// Adds a commit block to a batch.
pub(crate) fn put_commit(batch: &mut Vec<u8>, place: Place<'_>, before: &Snapshot, root: &Digest, rows: &[impl Row]) {
    let bytes: usize = rows.iter().map(|row| row.record().len() + row.beside().len()).sum();
    let start = begin_block(batch, place, KIND_COMMIT, COMMIT_FIXED + rows.len() * COMMIT_ROW + bytes);
    batch.extend_from_slice(before.name().0.as_bytes());
    batch.extend_from_slice(&before.frontier.size().to_be_bytes());
    batch.extend_from_slice(before.previous.as_bytes());
    batch.extend_from_slice(&(rows.len() as u32).to_be_bytes());
    batch.extend_from_slice(root.as_bytes());
    for row in rows {
        batch.extend_from_slice(&(row.record().len() as u32).to_be_bytes());
        batch.extend_from_slice(&(row.beside().len() as u32).to_be_bytes());
        batch.extend_from_slice(&row.checksum().to_be_bytes());
    }
    finish_checksum(batch, start);
    for row in rows {
        batch.extend_from_slice(row.record());
        batch.extend_from_slice(row.beside());
    }
}

/// Adds a signature block to a batch.
pub(crate) fn put_signature(batch: &mut Vec<u8>, place: Place<'_>, of: &SignatureBody<'_>) {
    let start = begin_block(batch, place, KIND_SIGNATURE, SIGNATURE_FIXED + of.signature.len());
    batch.extend_from_slice(of.tree.0.as_bytes());
    batch.extend_from_slice(&of.size.to_be_bytes());
    batch.extend_from_slice(of.key.as_bytes());
    batch.extend_from_slice(of.signature);
    finish_checksum(batch, start);
}

fn begin_block(batch: &mut Vec<u8>, place: Place<'_>, kind: u8, length: usize) -> usize {
    let start = batch.len();
    let length = u32::try_from(length).expect("a batch is bounded far below 4 GiB");
    batch.reserve(BLOCK_HEAD + length as usize);
    batch.extend_from_slice(place.mark);
    batch.extend_from_slice(&[0; 4]);
    batch.push(kind);
    batch.extend_from_slice(&(place.batch + start as u64).to_be_bytes());
    batch.extend_from_slice(&place.batch.to_be_bytes());
    batch.extend_from_slice(&length.to_be_bytes());
    start
}

/// Fills in the checksum of the block at `start`, over all that was written of it after the checksum's place.
fn finish_checksum(batch: &mut [u8], start: usize) {
    let checksum = crc32c::crc32c(&batch[start + 12..]);
    batch[start + 8..start + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// Reads from the front of bytes; `None` at their end.
pub(crate) struct Cursor<'b>(pub &'b [u8]);

impl<'b> Cursor<'b> {
    pub fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.array()?))
    }

    pub fn digest(&mut self) -> Option<Digest> {
        Some(Digest::from_bytes(self.array()?))
    }
}
