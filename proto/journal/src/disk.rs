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

    fn begin(&self, name: &str) -> io::Result<AppendedFile> {
        let create = owner_only().write(true).create_new(true).open(self.0.join(name));
        let file = create.map_err(|error| self.naming(name, &error))?;
        let (directory, name) = (self.clone(), name.to_owned());
        Ok(AppendedFile { file, length: 0, tail: straight::Blocks::new(), way: Way::Cached, ahead: 0, directory, name })
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
        Ok(Box::new(self.begin(name)?))
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
    /// What was appended.
    length: u64,
    /// What was appended after the last whole block, and, on the straight way, since the last sync.
    tail: straight::Blocks,
    way: Way,
    /// Where the zeros end.
    ahead: u64,
    directory: Directory,
    name: String,
}

/// How what is appended comes to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the system's cache, and nothing is written ahead: before the first sync, so that a file that is written once and
    /// synced once is as long as what is in it; and after a failure, so that the next start sees the file as it was left.
    Cached,
    /// The same, with zeros written ahead: where the file system has no other.
    CachedAhead,
    /// Past the cache: a write in whole blocks that returns when it is on the disk. One call in place of two, without a copy
    /// in the kernel and without a search for what is to be written. With 64 callers 1.3 times the calls a second.
    Straight,
}

impl AppendedFile {
    /// A crash at any time leaves zeros at the end, or none of them: what is read is the same (FORMAT.md 2.4).
    fn write_ahead(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        // Where there is no room for them, there is still some for what was appended.
        if self.file.write_all(&[0; AHEAD_BYTES as usize]).is_ok() {
            self.ahead = self.length + AHEAD_BYTES;
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    fn append_cached(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        if self.way == Way::CachedAhead && self.ahead < self.length {
            self.write_ahead()?;
        }
        Ok(())
    }

    fn sync_straight(&mut self) -> io::Result<()> {
        let (from, until) = (self.tail.from(), self.tail.until());
        if until > self.ahead {
            // The zeros come with it: it is the one write in many that makes the file longer.
            match straight::write(&self.file, self.tail.padded(AHEAD_BYTES), from) {
                Ok(()) => self.ahead = until + AHEAD_BYTES,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    straight::write(&self.file, self.tail.padded(0), from)?;
                }
                Err(error) => return Err(error),
            }
        } else {
            straight::write(&self.file, self.tail.padded(0), from)?;
        }
        self.tail.synced();
        Ok(())
    }

    /// The file system takes no such write after all: it wrote nothing, and what it was for goes through the cache.
    fn leave_straight(&mut self) -> io::Result<()> {
        straight::set(&self.file, false)?;
        (self.way, self.ahead) = (Way::CachedAhead, 0);
        self.file.seek(SeekFrom::Start(self.tail.from()))?;
        self.file.write_all(self.tail.bytes())?;
        self.file.sync_data()
    }

    fn failed(&mut self, error: &io::Error) -> io::Error {
        // The file is left as it is, for the next start to see.
        (self.way, self.ahead) = (Way::Cached, 0);
        self.directory.naming(&self.name, error)
    }
}

impl File for AppendedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.way {
            Way::Straight => {
                self.tail.add(bytes);
                self.length += bytes.len() as u64;
                return Ok(());
            }
            Way::Cached => self.tail.pass(bytes),
            Way::CachedAhead => {}
        }
        self.append_cached(bytes).map_err(|error| self.failed(&error))
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.way == Way::Straight {
            let synced = match self.sync_straight() {
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                    self.leave_straight()
                }
                synced => synced,
            };
            return synced.map_err(|error| self.failed(&error));
        }
        // fdatasync: the data and the length, not the times.
        self.file.sync_data().map_err(|error| self.failed(&error))?;
        if self.way == Way::Cached {
            self.ahead = self.length;
            self.way = if straight::set(&self.file, true).is_ok() { Way::Straight } else { Way::CachedAhead };
        }
        Ok(())
    }
}

/// A file that was closed well has nothing behind what was appended. Nobody depends on it.
impl Drop for AppendedFile {
    fn drop(&mut self) {
        if self.way != Way::Cached {
            let _ = self.file.set_len(self.length);
        }
    }
}

/// Writes past the system's cache: whole blocks, from memory that begins at a block.
mod straight {
    use std::fs::File;
    use std::io::{self, IoSlice};

    /// No disk has larger blocks that a write must keep to.
    const BLOCK: usize = 4096;

    /// The bytes of a file from a block on: those of its last block, if that is not full, and those after it.
    pub struct Blocks {
        /// More by a block than what is in it, so that a block begins somewhere in its first one.
        memory: Vec<u8>,
        /// Where they begin in `memory`.
        begin: usize,
        length: usize,
        from: u64,
    }

    impl Blocks {
        pub fn new() -> Self {
            Self { memory: Vec::new(), begin: 0, length: 0, from: 0 }
        }

        /// Where they begin in the file.
        pub fn from(&self) -> u64 {
            self.from
        }

        /// Where the last of their blocks ends in the file.
        pub fn until(&self) -> u64 {
            self.from + self.length.next_multiple_of(BLOCK) as u64
        }

        pub fn bytes(&self) -> &[u8] {
            &self.memory[self.begin..self.begin + self.length]
        }

        pub fn add(&mut self, bytes: &[u8]) {
            self.make_room(self.length + bytes.len());
            let end = self.begin + self.length;
            self.memory[end..end + bytes.len()].copy_from_slice(bytes);
            self.length += bytes.len();
        }

        /// The same of bytes that came to the file another way: what is in whole blocks is done with.
        pub fn pass(&mut self, bytes: &[u8]) {
            let all = self.length + bytes.len();
            if all < BLOCK {
                return self.add(bytes);
            }
            let rest = all % BLOCK;
            (self.length, self.from) = (0, self.from + (all - rest) as u64);
            self.add(&bytes[bytes.len() - rest..]);
        }

        /// Their blocks, the last filled up with zeros, and so many zeros after it.
        pub fn padded(&mut self, zeros: u64) -> &[u8] {
            let padded = self.length.next_multiple_of(BLOCK) + zeros as usize;
            self.make_room(padded);
            self.memory[self.begin + self.length..self.begin + padded].fill(0);
            &self.memory[self.begin..self.begin + padded]
        }

        /// What is in them is durable: all but the last block is done with.
        pub fn synced(&mut self) {
            let whole = self.length / BLOCK * BLOCK;
            self.memory.copy_within(self.begin + whole..self.begin + self.length, self.begin);
            (self.length, self.from) = (self.length - whole, self.from + whole as u64);
        }

        fn make_room(&mut self, length: usize) {
            if self.begin + length <= self.memory.len() {
                return;
            }
            let mut memory = vec![0; length.next_power_of_two() + BLOCK];
            let begin = memory.as_ptr().align_offset(BLOCK);
            memory[begin..begin + self.length].copy_from_slice(&self.memory[self.begin..self.begin + self.length]);
            (self.memory, self.begin) = (memory, begin);
        }
    }

    /// Has the file written past the cache from now on, or through it again. An error where its file system has no such way.
    #[cfg(target_os = "linux")]
    pub fn set(file: &File, straight: bool) -> io::Result<()> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let mut flags = fcntl_getfl(file)?;
        flags.set(OFlags::DIRECT, straight);
        Ok(fcntl_setfl(file, flags)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub fn set(_: &File, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns when the bytes are on the disk.
    #[cfg(target_os = "linux")]
    pub fn write(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        use rustix::io::{Errno, ReadWriteFlags, pwritev2};
        while !bytes.is_empty() {
            match pwritev2(file, &[IoSlice::new(bytes)], at, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => (bytes, at) = (&bytes[wrote..], at + wrote as u64),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    pub fn write(_: &File, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends runs of these lengths, with a sync after each, and looks at the file after each sync and at the end. From the
    /// run of this index on, the file system takes no writes past the cache.
    fn appended_in(directory: &Directory, lengths: &[usize], refuses_from: usize) {
        let mut file = directory.begin("runs").unwrap();
        let (mut all, mut byte) = (Vec::new(), 0_u8);
        for (index, length) in lengths.iter().enumerate() {
            let run: Vec<u8> = std::iter::repeat_with(|| (byte, byte = byte.wrapping_mul(31).wrapping_add(7)).0.max(1))
                .take(*length)
                .collect();
            // In two halves: what is synced together is not always appended together.
            file.append(&run[..length / 2]).unwrap();
            file.append(&run[length / 2..]).unwrap();
            match (file.way, index >= refuses_from) {
                (Way::Straight, true) => file.leave_straight().unwrap(),
                _ => file.sync().unwrap(),
            }
            all.extend(run);
            let there = directory.read("runs").unwrap();
            assert!(there.starts_with(&all), "{length} more than {}", all.len() - length);
            assert!(there[all.len()..].iter().all(|byte| *byte == 0), "only zeros are ahead");
        }
        drop(file);
        assert!(directory.read("runs").unwrap() == all, "a file that was closed well has nothing behind it");
        directory.remove("runs").unwrap();
    }

    /// Less than a block, a block, around a block, more than is written ahead, and more than all that before.
    const LENGTHS: [usize; 14] = [5, 1, 4085, 1, 4096, 4095, 4097, 0, 100_000, 1, 300_000, 8192, 2_000_000, 3];

    #[test]
    fn what_is_appended_is_there_after_each_sync_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for refuses_from in [1, 2, 3, 7, 10, LENGTHS.len()] {
            appended_in(&Directory(directory.path().to_owned()), &LENGTHS, refuses_from);
        }
    }

    #[test]
    fn what_went_through_the_cache_is_kept_no_longer_than_its_last_block() {
        for lengths in [&[0, 1, 4095, 1][..], &[4096, 4096], &[100_000, 3, 4093, 4096], &[5_000_000]] {
            let (mut tail, mut all) = (straight::Blocks::new(), Vec::new());
            for length in lengths {
                let bytes: Vec<u8> = (0..*length).map(|n| (n % 251) as u8).collect();
                tail.pass(&bytes);
                all.extend(bytes);
                let from = all.len() / 4096 * 4096;
                assert_eq!((tail.from(), tail.bytes()), (from as u64, &all[from..]), "{length} of {lengths:?}");
            }
        }
    }

    #[test]
    fn a_file_that_is_synced_once_is_as_long_as_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory(directory.path().to_owned());
        let mut file = directory.create("once").unwrap();
        file.append(b"all of it").unwrap();
        file.sync().unwrap();
        assert_eq!(directory.read("once").unwrap(), b"all of it");
    }

    #[test]
    fn a_directory_says_how_much_room_its_file_system_has() {
        let directory = tempfile::tempdir().unwrap();
        let space = Directory(directory.path().to_owned()).space().unwrap();
        assert!(0 < space.free && space.free <= space.total, "{space:?}");
        let error = Directory(directory.path().join("nowhere")).space().unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
