//! Segments that are finished: a later one was begun, and no byte of them changes any more (FORMAT.md 8.7). They may be kept
//! elsewhere, and what is brought back is held to the same checks.

use bytes::Bytes;
use proto::record::TreeName;

use crate::Entry;
use crate::disk::Disk;
use crate::read::{self, Damage, ReadError};
use crate::scan::{self, Unreadable};

/// A segment that holds as a start would have it: every checksum, hash and order in it.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its number.
    pub number: u64,
    /// Its bytes, without zeros that were written ahead (FORMAT.md 2.4).
    pub bytes: Bytes,
    /// The commits in it, tree by tree.
    pub trees: Vec<Commits>,
}

/// Commits of a tree that a segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commits {
    /// The tree.
    pub tree: TreeName,
    /// Commits before the segment.
    pub from: u64,
    /// Commits at its end.
    pub to: u64,
}

impl Finished {
    /// The name of its file.
    pub fn name(&self) -> String {
        read::file_name(self.number)
    }

    /// These bytes as the finished segment of this number, if they are one. `place` names them in the error.
    pub fn check(place: &str, number: u64, file: &Bytes) -> Result<Self, Damage> {
        let name = read::file_name(number);
        let damage = |offset, what| Damage { file: format!("{place}/{name}"), offset, what };
        let scanned = scan::scan(number, file).map_err(|unreadable| match unreadable {
            Unreadable::Unfinished => damage(0, "its header is not whole"),
            Unreadable::Damaged(offset, what) => damage(offset, what),
        })?;
        if scanned.torn_bytes > 0 {
            return Err(damage(scanned.end as u64, "it cannot be read from here on, and is finished"));
        }
        let before = |name: TreeName| scanned.header.trees.iter().find(|tree| tree.name() == name);
        let trees = scanned.trees.iter().filter_map(|tree| {
            let from = before(tree.name())?.frontier.size();
            let to = tree.frontier.size();
            (from < to).then(|| Commits { tree: tree.name(), from, to })
        });
        Ok(Self { number, bytes: file.slice(..scanned.end), trees: trees.collect() })
    }

    /// Shows its entries, in order.
    pub fn entries(&self, each: &mut dyn FnMut(Entry)) {
        if let Ok(scanned) = scan::scan(self.number, &self.bytes) {
            scanned.entries(&self.bytes, None, each);
        }
    }

    /// Reads it from where it was written.
    pub fn read(disk: &dyn Disk, number: u64) -> Result<Self, ReadError> {
        let file = read::segment(disk, number)?;
        Ok(Self::check(&disk.to_string(), number, &file)?)
    }
}

/// Numbers of the finished segments that are there, in order.
pub fn finished(disk: &dyn Disk) -> Result<Vec<u64>, ReadError> {
    let mut numbers = read::segments(disk)?;
    numbers.pop();
    Ok(numbers)
}

/// Name of the file of a segment of this number (FORMAT.md 1.1).
pub fn segment_name(number: u64) -> String {
    read::file_name(number)
}

/// The number in the name of a segment's file; none where it is no such name.
pub fn segment_number(name: &str) -> Option<u64> {
    read::number_of(name)
}
