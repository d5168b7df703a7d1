//! Reading a directory without its lock: for an auditor, for evidence, or for a view that is built again.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;

use crate::disk::Disk;
use crate::format::Snapshot;
use crate::remains::remains_name;
use crate::scan::{self, Scanned, Unreadable};
use crate::writer::FAILED_FILE;
use crate::{Entry, Position};

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file is damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A segment between two others is not there.
    #[error("{0} is missing between two others; put it back from the archive")]
    Missing(String),
    /// The disk failed.
    #[error("the journal cannot be read: {0}")]
    Disk(#[from] io::Error),
}

/// Damage that no crash explains.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at offset {offset}: {what}; it was left as it is; put it back from the archive or a backup")]
pub struct Damage {
    /// The file, with its directory.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// Shows every whole entry at or after `from`, in order; a running server's too, up to what it has written. Entries at the
/// very end may not be durable yet. A tail that is not whole is left out; its place is logged.
pub fn read(disk: &dyn Disk, from: Option<Position>, each: &mut dyn FnMut(Entry)) -> Result<(), ReadError> {
    let numbers = segments(disk)?;
    let Some((last, older)) = numbers.split_last() else { return Ok(()) };
    let before = read_whole(disk, older, from, each)?;
    let file = segment(disk, *last)?;
    let scanned = match scan::scan(*last, &file) {
        Ok(scanned) => scanned,
        // Nothing was ever in it.
        Err(Unreadable::Unfinished) => return Ok(()),
        Err(Unreadable::Damaged(offset, what)) => return Err(damage(disk, *last, offset, what).into()),
    };
    check_follows(disk, before.as_ref(), &scanned)?;
    if scanned.torn_bytes > 0 {
        tracing::warn!(file = file_name(*last), offset = scanned.end, "the journal's tail is not whole");
    }
    scanned.entries(&file, from, each);
    Ok(())
}

/// How a journal ends, as a start would find it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// How many segments are there.
    pub segments: usize,
    /// Bytes at its end that are not whole, and that a start would cut. A running journal's may be on their way.
    pub torn_bytes: u64,
    /// Whether a failed write left word of itself.
    pub failed: bool,
}

/// Reads the last segment as a start does, and shows its entries; what is refused here, a start refuses. `None` where no
/// journal is.
pub fn tail(disk: &dyn Disk, each: &mut dyn FnMut(Entry)) -> Result<Option<Tail>, ReadError> {
    let failed = disk.list()?.iter().any(|name| name == FAILED_FILE);
    let mut numbers = segments(disk)?;
    let segments = numbers.len();
    let mut torn_bytes = 0;
    while let Some(number) = numbers.pop() {
        let file = segment(disk, number)?;
        match scan::scan(number, &file) {
            Ok(scanned) => {
                torn_bytes += scanned.torn_bytes as u64;
                scanned.entries(&file, None, each);
                return Ok(Some(Tail { segments, torn_bytes, failed }));
            }
            // Only the last may never have become whole (8.4).
            Err(Unreadable::Unfinished) if numbers.len() + 1 == segments => torn_bytes += file.len() as u64,
            Err(Unreadable::Unfinished) => {
                return Err(damage(disk, number, 0, "its header is not whole, and it is not the last").into());
            }
            Err(Unreadable::Damaged(offset, what)) => return Err(damage(disk, number, offset, what).into()),
        }
    }
    Ok(None)
}

/// The entries at these positions, which are in order; each segment is read once. Positions where none is are left out.
pub fn entries(disk: &dyn Disk, positions: &[Position]) -> Result<Vec<Entry>, ReadError> {
    let there = segments(disk)?;
    let mut found = Vec::new();
    for of_segment in positions.chunk_by(|one, next| one.segment == next.segment) {
        let number = of_segment[0].segment;
        if !there.contains(&number) {
            continue;
        }
        let file = segment(disk, number)?;
        match scan::scan(number, &file) {
            Ok(scanned) => found.extend(of_segment.iter().filter_map(|position| scanned.entry(&file, *position))),
            Err(Unreadable::Unfinished) => {}
            Err(Unreadable::Damaged(offset, what)) => return Err(damage(disk, number, offset, what).into()),
        }
    }
    Ok(found)
}

/// The entry at this position; `None` where none is.
pub fn entry(disk: &dyn Disk, position: Position) -> Result<Option<Entry>, ReadError> {
    if !segments(disk)?.contains(&position.segment) {
        return Ok(None);
    }
    let file = segment(disk, position.segment)?;
    match scan::scan(position.segment, &file) {
        Ok(scanned) => Ok(scanned.entry(&file, position)),
        Err(Unreadable::Unfinished) => Ok(None),
        Err(Unreadable::Damaged(offset, what)) => Err(damage(disk, position.segment, offset, what).into()),
    }
}

/// Reads segments that must be whole (8.7), those of them that `from` asks for, and returns the trees as the last of
/// them ends.
pub(crate) fn read_whole(
    disk: &dyn Disk,
    numbers: &[u64],
    from: Option<Position>,
    each: &mut dyn FnMut(Entry),
) -> Result<Option<Vec<Snapshot>>, ReadError> {
    let mut before: Option<Vec<Snapshot>> = None;
    for number in numbers.iter().copied().filter(|number| from.is_none_or(|from| *number >= from.segment)) {
        let file = segment(disk, number)?;
        let scanned = scan::scan(number, &file).and_then(|scanned| match scanned.torn_bytes {
            0 => Ok(scanned),
            _ => Err(Unreadable::Damaged(scanned.end as u64, "it cannot be read from here on, and is not the last")),
        });
        let scanned = scanned.map_err(|error| match error {
            Unreadable::Unfinished => damage(disk, number, 0, "its header is not whole, and it is not the last"),
            Unreadable::Damaged(offset, what) => damage(disk, number, offset, what),
        })?;
        check_follows(disk, before.as_ref(), &scanned)?;
        scanned.entries(&file, from, each);
        before = Some(scanned.trees);
    }
    Ok(before)
}

pub(crate) fn check_follows(disk: &dyn Disk, before: Option<&Vec<Snapshot>>, next: &Scanned) -> Result<(), Damage> {
    let Some(before) = before else { return Ok(()) };
    scan::follows(before, &next.header).map_err(|what| damage(disk, next.header.number, 0, what))
}

/// Numbers of the segments that are there, in order and without a gap (1.1). One below a segment that was removed counts as removed
/// (10.5): a power cut may bring it back, and so may an operator.
pub(crate) fn segments(disk: &dyn Disk) -> Result<Vec<u64>, ReadError> {
    let names = disk.list()?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let is_gap = |pair: &[u64]| pair[0] + 1 != pair[1];
    let Some(first) = numbers.windows(2).find(|pair| is_gap(pair)).map(|pair| pair[0] + 1) else { return Ok(numbers) };
    let last = numbers.windows(2).rposition(is_gap).unwrap_or_default();
    let left: HashSet<&str> = names.iter().map(String::as_str).collect();
    if (numbers[0]..numbers[last + 1]).all(|number| left.contains(remains_name(number).as_str())) {
        return Ok(numbers.split_off(last + 1));
    }
    Err(ReadError::Missing(format!("{disk}/{}", file_name(first))))
}

pub(crate) fn segment(disk: &dyn Disk, number: u64) -> io::Result<Bytes> {
    disk.read(&file_name(number)).map(Bytes::from)
}

pub(crate) fn damage(disk: &dyn Disk, number: u64, offset: u64, what: &'static str) -> Damage {
    Damage { file: format!("{disk}/{}", file_name(number)), offset, what }
}

/// Name of the segment of this number (1.1).
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.segment")
}

/// The number in a segment's name; none where it is no such name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let number: u64 = name.strip_suffix(".segment")?.parse().ok()?;
    (file_name(number) == name && number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        assert_eq!(number_of("0000000012.segment"), Some(12));
        for other in ["12.segment", "+000000012.segment", "0000000012.segment.new", "0000000000.segment", "lock", ""] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
