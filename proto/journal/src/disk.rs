//! The fewest things that a journal asks of a disk, so that a test can stand in for one. Two disks exist: a directory
//! of the real file system, here, and [`crate::faulty`], which fails where a test says.

use std::fmt;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// A directory that one journal owns. Its `Display` is how error messages name it.
pub trait Disk: Send + Sync + fmt::Display {
    /// Takes the directory for this process until the value is dropped. `WouldBlock` where another has it.
    fn lock(&self) -> io::Result<Box<dyn Lock>>;
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new, empty file. Fails where one of this name exists.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when creations, renames and removals up to now would survive a power cut.
    fn sync_directory(&self) -> io::Result<()>;
    /// The room on its file system, as this process may use it.
    fn space(&self) -> io::Result<Space>;
}

/// The room on a file system, in bytes, as `df` reckons it: what is kept for root is neither used nor free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Used or free.
    pub total: u64,
    /// Free.
    pub free: u64,
}

/// A file being written.
pub trait File: Send {
    /// Writes after what is there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything appended up to now would survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// The hold on a directory: dropping it lets go.
pub trait Lock: Send + Sync {}

/// Name of the file that is locked (FORMAT.md 1.2).
pub const LOCK_FILE: &str = "lock";

/// A directory of the real file system.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// An error that names the file it is about.
    fn naming(&self, name: &str, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.0.join(name).display()))
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Disk for Directory {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        let open = owner_only().write(true).create(true).open(self.0.join(LOCK_FILE));
        let file = open.map_err(|error| self.naming(LOCK_FILE, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(LockedFile(file))),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(self.naming(LOCK_FILE, &error)),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = || {
            fs::read_dir(&self.0)?
                .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
                .collect::<io::Result<Vec<_>>>()
        };
        names().map_err(|error| self.naming("", &error))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name)).map_err(|error| self.naming(name, &error))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        match owner_only().write(true).create_new(true).open(self.0.join(name)) {
            Ok(file) => Ok(Box::new(AppendedFile {
                file,
                length: 0,
                ahead: None,
                directory: self.clone(),
                name: name.to_owned(),
            })),
            Err(error) => Err(self.naming(name, &error)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to)).map_err(|error| self.naming(from, &error))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name)).map_err(|error| self.naming(name, &error))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let sync = || fs::File::open(&self.0)?.sync_all();
        sync().map_err(|error| self.naming("", &error))
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.0).map_err(|error| self.naming("", &error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(Space { total: bytes(used.saturating_add(stat.f_bavail)), free: bytes(stat.f_bavail) })
    }
}

/// What is in a journal is nobody's business but its owner's.
fn owner_only() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Closing the file, which the system does for a process that dies, gives the lock back.
struct LockedFile(#[expect(dead_code, reason = "held, never read")] fs::File);
impl Lock for LockedFile {}

/// So many zeros are written ahead of what is appended. A sync of a file that did not grow writes its data and nothing of
/// the file system's own: 0.16 ms in place of 0.27 (ext4 on a virtual disk, alone). More at once makes the sync that has
/// them with it longer, fewer make more of those.
const AHEAD_BYTES: u64 = 256 << 10;

struct AppendedFile {
    file: fs::File,
    /// What was appended, which is where the file's cursor stands.
    length: u64,
    /// Where the zeros end. `None`: nothing is written ahead, before the first sync and after a failure.
    ahead: Option<u64>,
    directory: Directory,
    name: String,
}

impl AppendedFile {
    /// A crash at any time leaves zeros at the end, or none of them: what is read is the same (FORMAT.md 2.4).
    fn write_ahead(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&[0; AHEAD_BYTES as usize]);
        self.file.seek(SeekFrom::Start(self.length))?;
        // Where there is no room for them, there is still some for what was appended.
        self.ahead = written.ok().map(|()| self.length + AHEAD_BYTES);
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) -> io::Error {
        // The file is left as it is, for the next start to see.
        self.ahead = None;
        self.directory.naming(&self.name, error)
    }
}

impl File for AppendedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(&error))?;
        self.length += bytes.len() as u64;
        if self.ahead.is_some_and(|ahead| ahead < self.length) {
            self.write_ahead().map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync: the data and the length, not the times.
        self.file.sync_data().map_err(|error| self.failed(&error))?;
        // A file that is written once and synced once is as long as what is in it.
        self.ahead = self.ahead.or(Some(self.length));
        Ok(())
    }
}

/// A file that was closed well has nothing behind what was appended. Nobody depends on it.
impl Drop for AppendedFile {
    fn drop(&mut self) {
        if self.ahead.is_some_and(|ahead| ahead > self.length) {
            let _ = self.file.set_len(self.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_how_much_room_its_file_system_has() {
        let directory = tempfile::tempdir().unwrap();
        let space = Directory(directory.path().to_owned()).space().unwrap();
        assert!(0 < space.free && space.free <= space.total, "{space:?}");
        let error = Directory(directory.path().join("nowhere")).space().unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
