//! Zip archives of one form: whatever they hold, there is one way to write it. What a reader of zip files could take in two
//! ways (a name twice, a file that one list has and the other not, bytes between files, names that lead elsewhere) is none.
//!
//! Every file is stored as it is, in the order of its name (but a `mimetype` before all others), dated 1980-01-01; there are no
//! comments, no extra fields and no directories. Python's `zipfile` writes the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Most files in an archive: what the format counts without its extension for more.
pub const MAX_FILES: usize = 65_535;
/// Longest archive, in bytes.
pub const MAX_ARCHIVE_BYTES: usize = 1024 * 1024 * 1024;
/// The file that stands first, where it is there: by it others tell what an archive is without reading the zip (ETSI EN 319
/// 162-1).
pub const FIRST: &str = "mimetype";
/// Longest name of a file.
pub const MAX_NAME_BYTES: usize = 512;

/// Files by name.
pub type Files = BTreeMap<String, Bytes>;

/// Bytes that are no archive of this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnArchive {
    /// Too long, or of too many files.
    #[error("it has {0}, and at most {1} are taken")]
    TooMuch(String, usize),
    /// It is cut off, or something else follows.
    #[error("it is cut off, or is no zip of stored files alone")]
    Form,
    /// A name that could lead out of the directory into which it is unpacked, or be read in two ways.
    #[error(
        "a file is named {0:?}: letters, digits, `.`, `_` and `-` between slashes are taken, no part beginning with a dot"
    )]
    Name(String),
    /// Two files have one name.
    #[error("{0:?} is there twice")]
    Twice(String),
    /// The files read, and are written otherwise.
    #[error(
        "its files are written otherwise than in the one form: stored, in the order of their names and `mimetype` first, dated 1980-01-01, each listed once, nothing between or after them"
    )]
    Otherwise,
}

/// Whether these bytes begin as an archive does.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(LOCAL)
}

/// Whether a file may have this name.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && part.bytes().all(plain);
    name.len() <= MAX_NAME_BYTES && name.split('/').all(part)
}

const LOCAL: &[u8] = b"PK\x03\x04";
const LISTED: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
/// Needs version 2.0; no flags; stored; midnight, 1980-01-01.
const FIXED: [u8; 10] = [20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
const LOCAL_BYTES: usize = 30;
const LISTED_BYTES: usize = 46;
const END_BYTES: usize = 22;

/// Writes the archive of these files.
pub fn write(files: &Files) -> Result<Vec<u8>, NotAnArchive> {
    if files.len() > MAX_FILES {
        return Err(NotAnArchive::TooMuch(format!("{} files", files.len()), MAX_FILES));
    }
    // Each name stands before its file and in the list.
    let of_file = |(name, bytes): (&String, &Bytes)| LOCAL_BYTES + LISTED_BYTES + 2 * name.len() + bytes.len();
    let size = files.iter().map(of_file).sum::<usize>() + END_BYTES;
    if size > MAX_ARCHIVE_BYTES {
        return Err(NotAnArchive::TooMuch(format!("{size} bytes"), MAX_ARCHIVE_BYTES));
    }
    let (mut archive, mut list) = (Vec::new(), Vec::new());
    for (name, bytes) in in_order(files) {
        if !is_name(name) {
            return Err(NotAnArchive::Name(name.clone()));
        }
        let (size, at) = ((bytes.len() as u32).to_le_bytes(), (archive.len() as u32).to_le_bytes());
        let sums = [crc32fast::hash(bytes).to_le_bytes(), size, size].concat();
        let length = (name.len() as u16).to_le_bytes();
        for part in [LOCAL, &FIXED, &sums, &length, &[0, 0], name.as_bytes(), bytes] {
            archive.extend_from_slice(part);
        }
        // Made by version 2.0 on Unix; a regular file, mode 0644.
        let mode = (0o100_644_u32 << 16).to_le_bytes();
        for part in [LISTED, &[20, 3], &FIXED, &sums, &length, &[0; 8], &mode, &at, name.as_bytes()] {
            list.extend_from_slice(part);
        }
    }
    let counted = (files.len() as u16).to_le_bytes();
    let (size, at) = ((list.len() as u32).to_le_bytes(), (archive.len() as u32).to_le_bytes());
    for part in [&list, END, &[0; 4], &counted, &counted, &size, &at, &[0, 0]] {
        archive.extend_from_slice(part);
    }
    Ok(archive)
}

/// The files as they stand in their archive.
fn in_order(files: &Files) -> impl Iterator<Item = (&String, &Bytes)> {
    files.get_key_value(FIRST).into_iter().chain(files.iter().filter(|(name, _)| *name != FIRST))
}

/// Reads an archive's files. They are those that [`write()`] makes these very bytes of.
pub fn read(archive: &Bytes) -> Result<Files, NotAnArchive> {
    if archive.len() > MAX_ARCHIVE_BYTES {
        return Err(NotAnArchive::TooMuch(format!("{} bytes", archive.len()), MAX_ARCHIVE_BYTES));
    }
    let number = |at: usize, length: usize| {
        let bytes = archive.get(at..at + length).ok_or(NotAnArchive::Form)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (mut files, mut at) = (Files::new(), 0);
    while archive[at..].starts_with(LOCAL) {
        let (size, length) = (number(at + 18, 4)?, number(at + 26, 2)?);
        let name = at + LOCAL_BYTES..at + LOCAL_BYTES + length;
        let bytes = name.end..name.end + size;
        let named = archive.get(name).ok_or(NotAnArchive::Form)?;
        let name = std::str::from_utf8(named).map_err(|_| NotAnArchive::Form)?.to_owned();
        if !is_name(&name) {
            return Err(NotAnArchive::Name(name));
        }
        archive.get(bytes.clone()).ok_or(NotAnArchive::Form)?;
        at = bytes.end;
        if files.insert(name.clone(), archive.slice(bytes)).is_some() {
            return Err(NotAnArchive::Twice(name));
        }
        if files.len() > MAX_FILES {
            return Err(NotAnArchive::TooMuch("more files".into(), MAX_FILES));
        }
    }
    match write(&files)? == *archive {
        true => Ok(files),
        false if archive[at..].starts_with(LISTED) => Err(NotAnArchive::Otherwise),
        false => Err(NotAnArchive::Form),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(list: &[(&str, &'static [u8])]) -> Files {
        list.iter().map(|(name, bytes)| ((*name).to_owned(), Bytes::from_static(bytes))).collect()
    }

    #[test]
    fn what_is_written_is_read_and_no_byte_of_it_may_be_another_but_a_files_own() {
        let files = files(&[("a.txt", b"content"), ("b/c.txt", b""), ("b/d", b"more")]);
        let archive = write(&files).unwrap();
        assert_eq!(read(&archive.clone().into()).unwrap(), files);
        for at in 0..archive.len() {
            let mut other = archive.clone();
            other[at] ^= 1;
            // A byte of a file has another sum than the one listed.
            assert!(read(&other.into()).is_err(), "byte {at}");
            assert!(read(&archive[..at].to_vec().into()).is_err(), "cut at {at}");
        }
        for more in [&b"x"[..], b"PK\x05\x06"] {
            assert_eq!(read(&[&archive[..], more].concat().into()), Err(NotAnArchive::Otherwise));
            assert_eq!(read(&[more, &archive[..]].concat().into()), Err(NotAnArchive::Form));
        }
    }

    #[test]
    fn the_type_stands_first_where_others_look_for_it_and_nowhere_else() {
        let archive = write(&files(&[("META-INF/a", b"1"), ("mimetype", b"a/type"), ("z", b"2")])).unwrap();
        assert_eq!(&archive[30..44], b"mimetypea/type");
        assert_eq!(read(&archive.clone().into()).unwrap().keys().collect::<Vec<_>>(), ["META-INF/a", "mimetype", "z"]);
        // The same files in the order of their names alone.
        let renamed = |from: &[u8], to: &[u8], archive: &[u8]| -> Vec<u8> {
            let mut other = archive.to_vec();
            while let Some(at) = other.windows(from.len()).position(|part| part == from) {
                other[at..at + to.len()].copy_from_slice(to);
            }
            other
        };
        let other = write(&files(&[("META-INF/a", b"1"), ("mimetypf", b"a/type"), ("z", b"2")])).unwrap();
        assert_eq!(read(&renamed(b"mimetypf", b"mimetype", &other).into()), Err(NotAnArchive::Otherwise));
    }

    #[test]
    fn a_name_leads_nowhere_else_and_stands_once() {
        for name in ["../x", "/x", "a/../b", "a//b", "a/", ".x", "a/.x", "-rf", "a\\b", "a b", "", "ế", "c:x"] {
            let files = Files::from([(name.to_owned(), Bytes::new())]);
            assert_eq!(write(&files), Err(NotAnArchive::Name(name.into())), "{name}");
        }
        // The same length as a good name, put in its place in both lists.
        let good = write(&files(&[("aa/x", b"")])).unwrap();
        let replaced = |from: &[u8], to: &[u8], archive: &[u8]| -> Bytes {
            let mut other = archive.to_vec();
            while let Some(at) = other.windows(from.len()).position(|part| part == from) {
                other[at..at + to.len()].copy_from_slice(to);
            }
            other.into()
        };
        assert_eq!(read(&replaced(b"aa/x", b"../x", &good)), Err(NotAnArchive::Name("../x".into())));
        let two = write(&files(&[("aa", b"1"), ("ab", b"2")])).unwrap();
        assert_eq!(read(&replaced(b"ab", b"aa", &two)), Err(NotAnArchive::Twice("aa".into())));
        assert_eq!(read(&replaced(b"aa", b"ac", &two)), Err(NotAnArchive::Otherwise), "in another order");
    }

    #[test]
    fn limits_are_limits() {
        let named = |count: usize| (0..count).map(|number| (format!("{number:05}"), Bytes::new())).collect::<Files>();
        let most = write(&named(MAX_FILES)).unwrap();
        assert_eq!(read(&most.into()).unwrap().len(), MAX_FILES);
        assert!(matches!(write(&named(MAX_FILES + 1)), Err(NotAnArchive::TooMuch(..))));
        // What is written is read: all of it counts, and not the contents alone.
        let part = Bytes::from(vec![0; MAX_ARCHIVE_BYTES / 16]);
        let all: Files = (0..16).map(|number| (number.to_string(), part.clone())).collect();
        assert!(matches!(write(&all), Err(NotAnArchive::TooMuch(..))));
        let three = files(&[("a.txt", b"content"), ("b/c.txt", b""), ("b/d", b"more")]);
        let counted = three.iter().map(|(name, bytes)| 76 + 2 * name.len() + bytes.len()).sum::<usize>() + 22;
        assert_eq!(write(&three).unwrap().len(), counted);
        assert!(is_name(&"a".repeat(MAX_NAME_BYTES)) && !is_name(&"a".repeat(MAX_NAME_BYTES + 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), begin: bool) {
            let bytes = if begin { [LOCAL, &bytes].concat() } else { bytes };
            let _ = read(&bytes.into());
        }
    }
}
