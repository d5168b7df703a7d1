//! A start: lock, recover, begin new trees (FORMAT.md 8). The same code runs after a crash and after a clean stop.

use std::io;
use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::Bytes;
use prost::Message;
use proto::digest::Digest;
use proto::record::{Kind, NONCE_BYTES, Record};
use proto::wire::relay as wire;

use crate::disk::{Disk, Lock};
use crate::format::{MAX_TREES, Snapshot};
use crate::proof;
use crate::read::{self, Damage, ReadError};
use crate::scan::{self, Scanned, Unreadable};
use crate::writer::{self, Growing, Writing};
use crate::{Entry, Options, Owner, Position, Tree};

/// Where who puts a directory back from a backup leaves word of it (FORMAT.md 1.5).
pub const RESTORED_FILE: &str = "restored";
/// More of such a word is not read.
const MAX_WORD_BYTES: usize = 4096;

/// Why a journal does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody has it.
    #[error("{0} is in use by another process; stop that one, or give this server a directory of its own")]
    Locked(String),
    /// An empty directory, where a journal should be.
    #[error("{0} holds no journal, and this is not the first use; put the journal back, or join anew")]
    NeverFirstUse(String),
    /// A journal, where none should be.
    #[error("{0} holds a journal already; a first use wants an empty directory")]
    NotEmpty(String),
    /// The trees asked for cannot be.
    #[error("these trees cannot be opened: {0}")]
    Trees(&'static str),
    /// What is there cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The disk failed while it was made ready.
    #[error("the journal cannot be made ready: {0}")]
    Disk(#[from] io::Error),
    /// No thread.
    #[error("the journal's thread cannot be started: {0}")]
    Thread(io::Error),
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        OpenError::Unreadable(damage.into())
    }
}

/// A journal that is ready to be written.
pub(crate) struct Opened {
    pub lock: Box<dyn Lock>,
    pub writing: Writing,
    pub recovered_end: Position,
    /// What the word of a restore says, where there is one.
    pub restored: Option<String>,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    trees: Vec<Tree>,
    options: Options,
    from: Option<Position>,
    each: &mut dyn FnMut(Entry),
) -> Result<Opened, OpenError> {
    check_owners(&trees)?;
    // 8.1 Take the lock; only then read.
    let lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked(disk.to_string()),
        _ => OpenError::Disk(error),
    })?;
    let found = find(&*disk, &options, from, each)?;
    make_durable(&*disk, &found)?;
    if let Some(last) = &found.last {
        last.scanned.entries(&last.file, from, each);
    }
    let recovered_end =
        found.last.as_ref().map_or(Position { segment: 0, offset: 0, record: 0 }, |last| last.scanned.end());
    let writing = begin_trees(disk.clone(), trees, options, &found)?;
    if found.failed {
        // A crash here, or before: the next start says `failed write` once more than it happened.
        disk.remove(writer::FAILED_FILE)?;
    }
    Ok(Opened { lock, writing, recovered_end, restored: found.restored })
}

fn check_owners(trees: &[Tree]) -> Result<(), OpenError> {
    if trees.is_empty() {
        return Err(OpenError::Trees("a journal has at least one"));
    }
    let twice = trees.iter().enumerate().any(|(index, tree)| trees[..index].iter().any(|it| it.owner == tree.owner));
    if twice {
        return Err(OpenError::Trees("two trees have the same owner"));
    }
    Ok(())
}

/// What a start finds.
struct Found {
    /// The last segment with anything in it; none at a first use.
    last: Option<Last>,
    /// Number of the segment that this start begins.
    next: u64,
    /// Bytes to cut.
    cut: u64,
    /// Whether a failed write left word of itself.
    failed: bool,
    /// What who put the directory back left word of.
    restored: Option<String>,
    /// Files that never became one.
    unfinished: Vec<String>,
}

struct Last {
    file: Bytes,
    scanned: Scanned,
}

/// Reads, and changes nothing: whatever is refused is left as it is.
fn find(
    disk: &dyn Disk,
    options: &Options,
    from: Option<Position>,
    each: &mut dyn FnMut(Entry),
) -> Result<Found, OpenError> {
    let names = disk.list()?;
    let failed = names.iter().any(|name| name == writer::FAILED_FILE);
    let restored = match names.iter().any(|name| name == RESTORED_FILE) {
        true => Some(word(&disk.read(RESTORED_FILE)?)),
        false => None,
    };
    let unfinished = names.into_iter().filter(|name| name.ends_with(writer::UNFINISHED)).collect();
    let mut numbers = read::segments(disk)?;
    match (options.first, numbers.is_empty()) {
        (true, false) => return Err(OpenError::NotEmpty(disk.to_string())),
        (false, true) => return Err(OpenError::NeverFirstUse(disk.to_string())),
        (true, true) => return Ok(Found { last: None, next: 1, cut: 0, failed, restored, unfinished }),
        (false, false) => {}
    }
    // 8.2 Read the last segment. 8.4 One whose header never became whole is cut, and the one before is the last.
    let (mut next, mut cut, mut unfinished_last) = (numbers[numbers.len() - 1] + 1, 0, false);
    let last = loop {
        let Some(number) = numbers.pop() else {
            return Err(OpenError::NeverFirstUse(disk.to_string()));
        };
        let file = read::segment(disk, number)?;
        match scan::scan(number, &file) {
            Ok(scanned) => {
                // 8.3 The scan refused damage with a later batch behind it; what is left to cut is the last batch.
                cut += scanned.torn_bytes as u64;
                break Last { file, scanned };
            }
            Err(Unreadable::Unfinished) if !unfinished_last => {
                (next, cut, unfinished_last) = (number, file.len() as u64, true);
            }
            Err(Unreadable::Unfinished) => {
                return Err(read::damage(disk, number, 0, "its header is not whole, and it is not the last").into());
            }
            Err(Unreadable::Damaged(offset, what)) => return Err(read::damage(disk, number, offset, what).into()),
        }
    };
    let before = read::read_whole(disk, &numbers, from, each)?;
    read::check_follows(disk, before.as_ref(), &last.scanned)?;
    Ok(Found { last: Some(last), next, cut, failed, restored, unfinished })
}

/// The text of a word that was left, as far as it is one.
fn word(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_WORD_BYTES)]).into_owned()
}

/// 8.5 The accepted beginning is copied to a new file, which is synced and renamed over the old one, and the directory
/// is synced; always.
fn make_durable(disk: &dyn Disk, found: &Found) -> io::Result<()> {
    for name in &found.unfinished {
        // A crash here: some are gone and some are not, and none of them is ever read.
        disk.remove(name)?;
    }
    let Some(Last { file, scanned }) = &found.last else { return Ok(()) };
    if found.cut > 0 {
        let number = scanned.header.number;
        tracing::warn!(segment = number, offset = scanned.end, bytes = found.cut, "the journal's torn tail is cut");
    }
    // A crash anywhere in here: the old file is there with its tail, or the new one without; the next start reads the
    // same beginning from either.
    writer::create_whole(disk, scanned.header.number, &file[..scanned.end]).map(drop)
}

/// 8.6 Each tree's successor begins, in a new segment.
fn begin_trees(disk: Arc<dyn Disk>, trees: Vec<Tree>, options: Options, found: &Found) -> Result<Writing, OpenError> {
    let before = found.last.as_ref().map_or(&[][..], |last| &last.scanned.trees);
    let begun = trees.iter().map(|tree| Growing::new(genesis(&tree.owner, before, found), tree.key.clone()));
    let begun = begun.collect::<Option<Vec<_>>>().ok_or(OpenError::Trees("an owner's names are too long"))?;
    // A tree whose owner is not served at present is carried along (3.2).
    let carried: Vec<_> =
        before.iter().filter(|old| !trees.iter().any(|tree| owns(&tree.owner, old))).cloned().collect();
    if begun.len() + carried.len() > MAX_TREES {
        return Err(OpenError::Trees("a journal has at most 4,096, with those whose owner is no longer served"));
    }
    // A crash in here: the new segment is there with every genesis in it, or not at all. If it is, the next start names
    // these trees as the ones before, with one commit; if not, those that they would have named.
    Ok(Writing::begin(disk, options, found.next, begun, carried)?)
}

fn genesis(owner: &Owner, trees: &[Snapshot], found: &Found) -> Record {
    let before = trees.iter().find(|tree| owns(owner, tree));
    let why = match before {
        None => wire::Why::First,
        Some(_) if found.restored.is_some() => wire::Why::Restored,
        Some(_) if found.failed || found.cut > 0 => wire::Why::FailedWrite,
        Some(_) => wire::Why::Start,
    };
    let head = before.map(|tree| proof::head(tree.name(), &tree.frontier));
    let content = wire::Genesis {
        instance: owner.instance.to_string(),
        member: owner.member.clone(),
        server: owner.server.clone(),
        random: Bytes::copy_from_slice(&random::<32>()),
        before: head.map(|head| head.tree.0.to_wire()).unwrap_or_default(),
        before_size: head.map(|head| head.size).unwrap_or_default(),
        before_root: head.map(|head| Digest::to_wire(&head.root)).unwrap_or_default(),
        cut_bytes: before.map(|_| found.cut).unwrap_or_default(),
        why: why.into(),
    };
    Record::new(Kind::Genesis, &random::<NONCE_BYTES>(), &[&content.encode_to_vec()])
}

fn owns(owner: &Owner, tree: &Snapshot) -> bool {
    let content = &tree.genesis.content;
    (owner.instance.as_str(), &owner.member, &owner.server) == (&content.instance, &content.member, &content.server)
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works, or nothing does");
    bytes
}
