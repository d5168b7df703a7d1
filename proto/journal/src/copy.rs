//! Copying a journal's directory for a backup, beside a server that runs or in place of one that is stopped. Writes
//! nothing into the directory.
//!
//! A journal only grows, so a copy of its segments in their order is the journal as it was at some moment: what a start
//! would find after a kill at that moment. The last segment is synced here before it is given out: what a copy holds is on
//! the journal's own disk too, whatever the writer had come to.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

use crate::disk::Directory;
use crate::format::Snapshot;
use crate::read::{self, ReadError};
use crate::scan::{self, Unreadable};

/// Which segments are copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segments {
    /// Every one that is there.
    All,
    /// So many of the newest, at least one: the last says all that a start has to know.
    Newest(usize),
}

/// Why a journal was not copied.
#[derive(Debug, thiserror::Error)]
pub enum NotCopied {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// There is none.
    #[error("{0} holds no journal")]
    None(String),
    /// The copy could not be written.
    #[error("the copy cannot be written: {0}")]
    Copy(io::Error),
}

/// Gives each segment's name and its whole beginning, in order, one at a time. Damage is refused as a start refuses it: a
/// copy of what no start would accept is none.
pub fn copy(
    directory: &Path,
    segments: Segments,
    each: &mut dyn FnMut(&str, Bytes) -> io::Result<()>,
) -> Result<(), NotCopied> {
    let disk = Directory(directory.to_owned());
    let mut numbers = read::segments(&disk)?;
    if let Segments::Newest(newest) = segments {
        numbers.drain(..numbers.len().saturating_sub(newest.max(1)));
    }
    let last = *numbers.last().ok_or_else(|| NotCopied::None(disk.to_string()))?;
    let mut before: Option<Vec<Snapshot>> = None;
    for number in numbers {
        let name = read::file_name(number);
        let path = directory.join(&name);
        let file = match synced(&path) {
            Ok(file) => file,
            // The lowest may be removed meanwhile, where all of it is kept elsewhere (FORMAT.md 10).
            Err(error) if error.kind() == io::ErrorKind::NotFound && before.is_none() && number != last => continue,
            Err(error) => {
                let named = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                return Err(ReadError::Disk(named).into());
            }
        };
        let scanned = match scan::scan(number, &file) {
            Ok(scanned) if scanned.torn_bytes > 0 && number != last => {
                Err(("it cannot be read from here on, and is not the last", scanned.end as u64))
            }
            Ok(scanned) => Ok(scanned),
            // Nothing was ever in it (FORMAT.md 8.4): the one before is the last.
            Err(Unreadable::Unfinished) if number == last && before.is_some() => return Ok(()),
            Err(Unreadable::Unfinished) => Err(("its header is not whole", 0)),
            Err(Unreadable::Damaged(offset, what)) => Err((what, offset)),
        };
        let scanned =
            scanned.map_err(|(what, offset)| ReadError::Damaged(read::damage(&disk, number, offset, what)))?;
        read::check_follows(&disk, before.as_ref(), &scanned).map_err(ReadError::Damaged)?;
        each(&name, file.slice(..scanned.end)).map_err(NotCopied::Copy)?;
        before = Some(scanned.trees);
    }
    Ok(())
}

/// A whole file, as it is on the disk when this returns and not in the kernel's memory only.
fn synced(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    file.sync_data()?;
    Ok(bytes.into())
}
