//! What is left of a segment that was removed because it is kept elsewhere (FORMAT.md 10): its hash, by which it is known again,
//! and the leaf of each of its commits, so that every proof over the trees can still be made here.

use std::collections::{HashMap, HashSet};
use std::io;

use bytes::Bytes;
use proto::consistency::SignedHead;
use proto::digest::Digest;
use proto::head::Head;
use proto::merkle::Frontier;
use proto::record::{Genesis, MAX_GENESIS_BYTES, Record, TreeName};
use proto::seal::MAX_SIGNATURE_BYTES;
use proto::signature::KeyId;

use crate::disk::Disk;
use crate::finished::Finished;
use crate::format::{Cursor, Header, MAX_TREES};
use crate::read::{self, Damage, ReadError};
use crate::scan::{self, Unreadable};
use crate::writer::UNFINISHED;

/// First bytes of such a file.
const MAGIC: &[u8; 20] = b"causeway.remains.v1\n";
/// What follows the number in its name.
const SUFFIX: &str = ".removed";
/// Most commits that a segment could hold: none is shorter than its block's head and one record's row.
const MAX_COMMITS: usize = 4 << 20;
/// Longest note that whoever removes a segment keeps with what is left of it.
pub const MAX_NOTE_BYTES: usize = 64 << 20;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Remains {
    /// The segment's number.
    pub number: u64,
    /// Its length, without zeros that were written ahead.
    pub bytes: u64,
    /// SHA-256 of these bytes.
    pub sha256: Digest,
    /// Its trees, as far as commits of them stand in it.
    pub trees: Vec<TreeRemains>,
    /// What whoever removes it wants to know of it.
    pub note: Bytes,
}

/// What is left of a tree in a segment.
#[derive(Clone, PartialEq, Debug)]
pub struct TreeRemains {
    /// How it begins.
    pub genesis: Genesis,
    /// Commits before the segment.
    pub from: u64,
    /// The leaf hash of each commit in it.
    pub leaves: Vec<Digest>,
    /// The last head of it that is signed there.
    pub signed: Option<SignedHead>,
}

impl Remains {
    /// Of this segment.
    pub fn of(segment: &Finished, note: Bytes) -> Result<Self, Damage> {
        let damage = |offset, what| Damage { file: segment.name(), offset, what };
        let scanned = scan::scan(segment.number, &segment.bytes).map_err(|unreadable| match unreadable {
            Unreadable::Unfinished => damage(0, "its header is not whole"),
            Unreadable::Damaged(offset, what) => damage(offset, what),
        })?;
        let mut trees: Vec<TreeRemains> = Vec::new();
        let mut places = HashMap::new();
        for (_, genesis, proof) in scanned.commits() {
            let place = *places.entry(genesis.tree).or_insert_with(|| {
                let (genesis, from) = (Genesis::clone(genesis), proof.head.size - 1);
                trees.push(TreeRemains { genesis, from, leaves: Vec::new(), signed: None });
                trees.len() - 1
            });
            let tree = &mut trees[place];
            tree.leaves.push(proof.leaf);
            if let Some(signed) = proof.signed_head()
                && let Ok(key) = KeyId::try_from(signed.key.as_ref())
            {
                tree.signed = Some(SignedHead { head: proof.head, key, signature: signed.signature.clone() });
            }
        }
        let (number, bytes) = (segment.number, segment.bytes.len() as u64);
        Ok(Self { number, bytes, sha256: Digest::of(&[&segment.bytes]), trees, note })
    }

    /// As they stand in the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.extend_from_slice(self.sha256.as_bytes());
        bytes.extend_from_slice(&(self.trees.len() as u32).to_be_bytes());
        for TreeRemains { genesis, from, leaves, signed } in &self.trees {
            let record = genesis.record.as_bytes();
            bytes.extend_from_slice(&(record.len() as u32).to_be_bytes());
            bytes.extend_from_slice(record);
            bytes.extend_from_slice(&from.to_be_bytes());
            bytes.extend_from_slice(&(leaves.len() as u32).to_be_bytes());
            leaves.iter().for_each(|leaf| bytes.extend_from_slice(leaf.as_bytes()));
            bytes.push(signed.is_some().into());
            if let Some(SignedHead { head, key, signature }) = signed {
                bytes.extend_from_slice(&head.size.to_be_bytes());
                bytes.extend_from_slice(head.root.as_bytes());
                bytes.extend_from_slice(key.as_bytes());
                bytes.push(signature.len() as u8);
                bytes.extend_from_slice(signature);
            }
        }
        bytes.extend_from_slice(&(self.note.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.note);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Reads what [`Remains::encode`] wrote; none where it is anything else.
    pub fn parse(file: &Bytes) -> Option<Self> {
        let (content, checksum) = file.split_last_chunk::<4>()?;
        if crc32c::crc32c(content).to_be_bytes() != *checksum {
            return None;
        }
        let mut cursor = Cursor(content.strip_prefix(MAGIC)?);
        let (number, bytes, sha256) = (cursor.u64()?, cursor.u64()?, cursor.digest()?);
        let count = cursor.u32()? as usize;
        if count > MAX_TREES {
            return None;
        }
        let trees = (0..count).map(|_| TreeRemains::parse(&mut cursor)).collect::<Option<Vec<_>>>()?;
        let length = cursor.u32()? as usize;
        if length > MAX_NOTE_BYTES {
            return None;
        }
        let note = file.slice_ref(cursor.take(length)?);
        cursor.0.is_empty().then_some(Self { number, bytes, sha256, trees, note })
    }

    /// What is left of the segment of this number. None: nothing was removed, or is to be.
    pub fn read(disk: &dyn Disk, number: u64) -> Result<Option<Self>, ReadError> {
        let name = remains_name(number);
        let file: Bytes = match disk.read(&name) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let what = "it does not say what is left of the segment of its name";
        let found = Self::parse(&file).filter(|remains| remains.number == number);
        found.map(Some).ok_or_else(|| Damage { file: format!("{disk}/{name}"), offset: 0, what }.into())
    }

    /// Writes them beside the segment, in place of what an attempt before may have left. A crash anywhere in here: they are there whole
    /// or not at all, and the segment is there.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let name = remains_name(self.number);
        let unfinished = format!("{name}{UNFINISHED}");
        if disk.list()?.contains(&unfinished) {
            disk.remove(&unfinished)?;
        }
        let mut file = disk.create(&unfinished)?;
        file.append(&self.encode())?;
        file.sync()?;
        drop(file);
        disk.rename(&unfinished, &name)?;
        disk.sync_directory()
    }

    /// Removes the segment that this is left of. Refused where it is not the lowest, is the last, is another, or where these remains
    /// are not beside it as they are. A crash in here: the segment is there, or is not; what is left of it is.
    pub fn remove_segment(&self, disk: &dyn Disk) -> Result<(), NotRemoved> {
        let numbers = read::segments(disk)?;
        if numbers.len() < 2 || numbers[0] != self.number {
            return Err(NotRemoved::NotTheLowest(self.number));
        }
        if Self::read(disk, self.number)?.as_ref() != Some(self) {
            return Err(NotRemoved::Unnoted(self.number));
        }
        let segment = Finished::read(disk, self.number)?;
        if (segment.bytes.len() as u64, Digest::of(&[&segment.bytes])) != (self.bytes, self.sha256) {
            return Err(NotRemoved::Unnoted(self.number));
        }
        disk.remove(&segment.name()).map_err(ReadError::from)?;
        // Before the next is removed: a power cut that brought this one back, and not the next, would leave a gap.
        Ok(disk.sync_directory().map_err(ReadError::from)?)
    }
}

/// Why a segment was not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It stands behind others, or nothing stands behind it.
    #[error("segment {0} is not the first of several: only that may be removed")]
    NotTheLowest(u64),
    /// Nothing tells of it.
    #[error("what is left of segment {0} does not stand beside it: it is not removed")]
    Unnoted(u64),
    /// The disk, or what is on it.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
}

impl TreeRemains {
    /// The tree.
    pub fn name(&self) -> TreeName {
        self.genesis.tree
    }

    fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        let length = cursor.u32()? as usize;
        if length > MAX_GENESIS_BYTES {
            return None;
        }
        let record = Record::parse(Bytes::copy_from_slice(cursor.take(length)?)).ok()?;
        let genesis = Genesis::parse(record.as_bytes().clone()).ok()?;
        let (from, count) = (cursor.u64()?, cursor.u32()? as usize);
        if count == 0 || count > MAX_COMMITS || cursor.0.len() < count * 32 {
            return None;
        }
        let leaves = (0..count).map(|_| cursor.digest()).collect::<Option<Vec<_>>>()?;
        let end = from.checked_add(count as u64)?;
        let signed = match cursor.array::<1>()?[0] {
            0 => None,
            1 => {
                let (size, root, key) = (cursor.u64()?, cursor.digest()?, KeyId::try_from(cursor.take(32)?).ok()?);
                let length = usize::from(cursor.array::<1>()?[0]);
                if length > MAX_SIGNATURE_BYTES || size <= from || size > end {
                    return None;
                }
                let signature = Bytes::copy_from_slice(cursor.take(length)?);
                Some(SignedHead { head: Head { tree: genesis.tree, size, root }, key, signature })
            }
            _ => return None,
        };
        Some(Self { genesis, from, leaves, signed })
    }
}

/// Name of the file of what is left of a segment.
pub fn remains_name(number: u64) -> String {
    format!("{number:010}{SUFFIX}")
}

/// Whether this is the name of such a file.
pub fn is_remains_name(name: &str) -> bool {
    name.strip_suffix(SUFFIX)
        .and_then(|number| number.parse().ok())
        .is_some_and(|number: u64| number > 0 && remains_name(number) == name)
}

/// Numbers of the segments that were removed, in order: those of which something is left, as far as they lead without a gap to the
/// first that is there.
pub fn removed(disk: &dyn Disk) -> Result<Vec<u64>, ReadError> {
    let Some(first) = read::segments(disk)?.first().copied() else { return Ok(Vec::new()) };
    let names = disk.list()?;
    let left: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut numbers: Vec<u64> =
        (1..first).rev().take_while(|number| left.contains(remains_name(*number).as_str())).collect();
    numbers.reverse();
    Ok(numbers)
}

/// Holds what is left of removed segments against each other, and against the first segment that is there: the leaves must be those
/// of its trees. One file is in memory at a time.
pub fn check_remains(disk: &dyn Disk) -> Result<(), ReadError> {
    let numbers = removed(disk)?;
    let Some(last) = numbers.last().copied() else { return Ok(()) };
    let damage =
        |number, what| ReadError::Damaged(Damage { file: format!("{disk}/{}", remains_name(number)), offset: 0, what });
    let mut trees = HashMap::<TreeName, Frontier>::new();
    for number in numbers {
        let remains = Remains::read(disk, number)?.ok_or_else(|| damage(number, "it is gone"))?;
        for tree in remains.trees {
            let known = trees.contains_key(&tree.name());
            if tree.from > 0 && !known {
                // Its beginning was never here.
                continue;
            }
            let frontier = trees.entry(tree.name()).or_default();
            if frontier.size() != tree.from {
                return Err(damage(number, "its commits do not follow those before them"));
            }
            for leaf in &tree.leaves {
                frontier.append(*leaf);
                let signed = tree.signed.as_ref().filter(|signed| signed.head.size == frontier.size());
                if signed.is_some_and(|signed| signed.head.root != frontier.root()) {
                    return Err(damage(number, "the signed head in it is none of its trees'"));
                }
            }
        }
    }
    let file = read::segment(disk, last + 1)?;
    // What else is wrong with it is told by whoever reads it.
    let Ok((header, _)) = Header::parse(&file) else { return Ok(()) };
    let differs = |frontier: &Frontier, name| trees.get(&name).is_some_and(|known| known != frontier);
    if header.trees.iter().any(|tree| tree.frontier.size() > 0 && differs(&tree.frontier, tree.name())) {
        return Err(damage(last, "its leaves are not those of the trees that go on after it"));
    }
    Ok(())
}
