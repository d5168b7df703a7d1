//! A disk for tests: it models a page cache, fails where it is told to, and shows what a kill or a power cut would
//! leave. It keeps everything in memory and is never used by a server.
//!
//! Each write and each sync is an operation with a number; [`Faulty::fail`] gives one of them a [`Fault`]. Bytes that
//! were written reach the cache, and the disk when a sync says so; names likewise with the directory's sync. It is as
//! large as a test says ([`Faulty::limit`]), and takes part of what does not fit, as a file system does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, File, Lock, Space};

/// What a power cut leaves whole or takes: a disk writes no less than this at once.
const SECTOR_BYTES: usize = 512;

/// How an operation goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails, and nothing of it happened. After a sync that failed so, the cache takes its pages for clean: a later
    /// sync returns well and writes none of them.
    Lost,
    /// It fails, and yet all of it happened.
    Kept,
    /// It fails, and about half of it happened.
    Torn,
    /// It returns well, and the disk will never have it: what no journal can make good, but every journal can notice.
    Lie,
    /// The process dies just before it: this operation and all later ones of this process fail and do nothing.
    Death,
}

impl Fault {
    /// Each fault that an honest disk, or death, can have.
    pub const HONEST: [Fault; 4] = [Fault::Lost, Fault::Kept, Fault::Torn, Fault::Death];
}

/// Which of the bytes and names that no sync had promised survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// None.
    Nothing,
    /// All that had not been taken for clean.
    Everything,
    /// Some sectors and some names, drawn from this seed.
    Some(u64),
}

/// An operation that changes something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A file is created.
    Create(String),
    /// So many bytes are appended to a file.
    Append(String, usize),
    /// A file is synced.
    Sync(String),
    /// A file is renamed.
    Rename(String, String),
    /// A file is removed.
    Remove(String),
    /// The directory is synced.
    SyncDirectory,
}

/// When an observer is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Just before the operation: as long as the observer does not return, it has not happened.
    Before,
    /// Just after it; whether it returned well.
    After(bool),
}

type Observer = Arc<dyn Fn(&Operation, Moment) + Send + Sync>;

/// The disk, as one process sees it. A kill or a power cut gives another one for the next process; what this process
/// still does is nothing to that one.
pub struct Faulty {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    /// Names as the process sees them, and as the disk has them.
    cached: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes of names that no sync has promised yet, in order.
    changes: Vec<Change>,
    locked: bool,
    dead: bool,
    read_only: bool,
    size: Size,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    observer: Option<Observer>,
}

/// How large the disk is, and how much of it something else has taken, in bytes.
#[derive(Clone, Copy)]
struct Size {
    total: u64,
    taken: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { total: 1 << 40, taken: 0 }
    }
}

#[derive(Clone, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in the cache that no sync has promised yet.
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
enum Change {
    Name(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl Faulty {
    /// An empty disk that works, until told otherwise.
    pub fn new() -> Arc<Self> {
        Self::of(State::default())
    }

    fn of(state: State) -> Arc<Self> {
        Arc::new(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// Gives the operation that comes after `skipped` more a fault.
    pub fn fail(&self, skipped: u64, fault: Fault) {
        let mut state = self.state();
        let number = state.operations + skipped;
        state.faults.insert(number, fault);
    }

    /// It is so large, and something else on it takes so much, in bytes.
    pub fn limit(&self, total: u64, taken: u64) {
        self.state().size = Size { total, taken };
    }

    /// From now on it is mounted read-only, or no longer.
    pub fn mount_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Calls this before and after each operation, from the thread that asks for it. It may block there.
    pub fn observe(&self, observer: impl Fn(&Operation, Moment) + Send + Sync + 'static) {
        self.state().observer = Some(Arc::new(observer));
    }

    /// The disk as the next process finds it after a `kill -9` now: the cache survives, with what it takes for clean.
    pub fn kill(&self) -> Arc<Self> {
        Self::of(self.state().clone().reopened())
    }

    /// The disk as the next process finds it after a power cut now.
    pub fn power_cut(&self, survival: Survival) -> Arc<Self> {
        let mut state = self.state().clone().reopened();
        let mut random = Random::of(survival);
        for inode in &mut state.inodes {
            inode.lose(&mut random);
        }
        for change in std::mem::take(&mut state.changes) {
            if random.survives() {
                change.apply(&mut state.durable);
            }
        }
        state.cached = state.durable.clone();
        Self::of(state)
    }

    /// Puts a file there, whole and durable, in place of what it was.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { cached: bytes.clone(), durable: bytes, dirty: BTreeSet::new() });
        state.cached.insert(name.to_owned(), inode);
        state.durable.insert(name.to_owned(), inode);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A panic of a test's own thread leaves the disk as it is.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl State {
    fn reopened(mut self) -> Self {
        (self.locked, self.dead, self.faults, self.observer) = (false, false, BTreeMap::new(), None);
        self
    }

    fn free(&self) -> u64 {
        let named: BTreeSet<_> = self.cached.values().collect();
        let used: u64 = named.into_iter().map(|inode| self.inodes[*inode].cached.len() as u64).sum();
        self.size.total.saturating_sub(self.size.taken).saturating_sub(used)
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.cached.get(name).copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_owned()))
    }
}

/// How much of an operation happens, and what it returns.
struct Verdict {
    happens: Happens,
    returns_well: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Happens {
    Not,
    Half,
    Whole,
    /// In the cache only, which takes it for clean.
    NeverOnDisk,
}

/// Runs one operation: its observer, its fault, its effect.
fn operate(
    state: &Mutex<State>,
    operation: &Operation,
    effect: impl FnOnce(&mut State, Happens) -> io::Result<()>,
) -> io::Result<()> {
    let observer = lock(state).observer.clone();
    if let Some(observer) = &observer {
        observer(operation, Moment::Before);
    }
    let result = {
        let mut state = lock(state);
        let verdict = state.verdict();
        let done = match state.read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => effect(&mut state, verdict.happens),
        };
        done.and_then(|()| match verdict.returns_well {
            true => Ok(()),
            false => Err(io::Error::other(format!("{operation:?}: a test made it fail"))),
        })
    };
    if let Some(observer) = &observer {
        observer(operation, Moment::After(result.is_ok()));
    }
    result
}

impl State {
    fn verdict(&mut self) -> Verdict {
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        self.dead |= fault == Some(Fault::Death);
        let (happens, returns_well) = match fault {
            _ if self.dead => (Happens::Not, false),
            None => (Happens::Whole, true),
            Some(Fault::Lost | Fault::Death) => (Happens::Not, false),
            Some(Fault::Kept) => (Happens::Whole, false),
            Some(Fault::Torn) => (Happens::Half, false),
            Some(Fault::Lie) => (Happens::NeverOnDisk, true),
        };
        Verdict { happens, returns_well }
    }

    /// A change of names: half of one is none of it.
    fn change(&mut self, change: Change, happens: Happens) {
        if matches!(happens, Happens::Not | Happens::Half) {
            return;
        }
        change.apply(&mut self.cached);
        if happens == Happens::Whole {
            self.changes.push(change);
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Name(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Change::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Change::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    fn append(&mut self, bytes: &[u8], happens: Happens) {
        let bytes = match happens {
            Happens::Not => &[],
            Happens::Half => &bytes[..bytes.len() / 2],
            Happens::Whole | Happens::NeverOnDisk => bytes,
        };
        let begins = self.cached.len();
        self.cached.extend_from_slice(bytes);
        if happens != Happens::NeverOnDisk && !bytes.is_empty() {
            self.dirty.extend(begins / SECTOR_BYTES..=(self.cached.len() - 1) / SECTOR_BYTES);
        }
    }

    fn sync(&mut self, happens: Happens) {
        let dirty = std::mem::take(&mut self.dirty);
        match happens {
            Happens::Whole => dirty.into_iter().for_each(|sector| self.persist(sector)),
            // The later ones first: what is torn need not be torn at the end.
            Happens::Half => dirty.into_iter().skip(1).step_by(2).for_each(|sector| self.persist(sector)),
            Happens::Not | Happens::NeverOnDisk => {}
        }
    }

    fn persist(&mut self, sector: usize) {
        let begins = sector * SECTOR_BYTES;
        let ends = self.cached.len().min(begins + SECTOR_BYTES);
        if self.durable.len() < ends {
            self.durable.resize(ends, 0);
        }
        self.durable[begins..ends].copy_from_slice(&self.cached[begins..ends]);
    }

    fn lose(&mut self, random: &mut Random) {
        for sector in std::mem::take(&mut self.dirty) {
            if random.survives() {
                self.persist(sector);
            }
        }
        self.cached = self.durable.clone();
    }
}

/// Draws what survives; the same for the same seed.
struct Random {
    survival: Survival,
    drawn: u64,
}

impl Random {
    fn of(survival: Survival) -> Self {
        let seed = if let Survival::Some(seed) = survival { seed } else { 0 };
        Self { survival, drawn: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn survives(&mut self) -> bool {
        // xorshift64
        self.drawn ^= self.drawn << 13;
        self.drawn ^= self.drawn >> 7;
        self.drawn ^= self.drawn << 17;
        match self.survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Some(_) => self.drawn >> 40 & 1 == 1,
        }
    }
}

impl Disk for Faulty {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if state.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held(self.state.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().cached.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        let inode = state.inode(name)?;
        Ok(state.inodes[inode].cached.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut created = 0;
        operate(&self.state, &Operation::Create(name.to_owned()), |state, happens| {
            if state.cached.contains_key(name) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
            }
            created = state.inodes.len();
            state.inodes.push(Inode::default());
            state.change(Change::Name(name.to_owned(), created), happens);
            Ok(())
        })?;
        Ok(Box::new(FaultyFile { state: self.state.clone(), inode: created }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        operate(&self.state, &Operation::Rename(from.to_owned(), to.to_owned()), |state, happens| {
            let inode = state.inode(from)?;
            state.change(Change::Rename(from.to_owned(), to.to_owned(), inode), happens);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        operate(&self.state, &Operation::Remove(name.to_owned()), |state, happens| {
            state.inode(name)?;
            state.change(Change::Remove(name.to_owned()), happens);
            Ok(())
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        operate(&self.state, &Operation::SyncDirectory, |state, happens| {
            let changes = std::mem::take(&mut state.changes);
            let kept = match happens {
                Happens::Whole => changes.len(),
                Happens::Half => changes.len() / 2,
                Happens::Not | Happens::NeverOnDisk => 0,
            };
            changes[..kept].iter().for_each(|change| change.apply(&mut state.durable));
            Ok(())
        })
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        Ok(Space { total: state.size.total, free: state.free() })
    }
}

struct Held(Arc<Mutex<State>>);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0).locked = false;
    }
}

struct FaultyFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

impl FaultyFile {
    /// The name that it has now.
    fn name(&self) -> String {
        let state = lock(&self.state);
        let name = state.cached.iter().find(|(_, inode)| **inode == self.inode);
        name.map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

impl File for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        operate(&self.state, &Operation::Append(self.name(), bytes.len()), |state, happens| {
            let fits = usize::try_from(state.free()).unwrap_or(usize::MAX).min(bytes.len());
            state.inodes[self.inode].append(&bytes[..fits], happens);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        operate(&self.state, &Operation::Sync(self.name()), |state, happens| {
            state.inodes[self.inode].sync(happens);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(bytes: &[u8]) -> (Arc<Faulty>, Box<dyn File>) {
        let disk = Faulty::new();
        let mut file = disk.create("file").unwrap();
        disk.sync_directory().unwrap();
        file.append(bytes).unwrap();
        (disk, file)
    }

    #[test]
    fn only_a_sync_survives_a_power_cut() {
        let (disk, mut file) = disk_with(b"one");
        assert_eq!(disk.power_cut(Survival::Nothing).read("file").unwrap(), b"");
        assert_eq!(disk.power_cut(Survival::Everything).read("file").unwrap(), b"one");
        assert_eq!(disk.kill().read("file").unwrap(), b"one");
        file.sync().unwrap();
        file.append(b"two").unwrap();
        assert_eq!(disk.power_cut(Survival::Nothing).read("file").unwrap(), b"one");
    }

    #[test]
    fn a_name_survives_only_with_the_directory() {
        let disk = Faulty::new();
        disk.create("file").unwrap().sync().unwrap();
        assert!(disk.power_cut(Survival::Nothing).list().unwrap().is_empty());
        disk.sync_directory().unwrap();
        disk.rename("file", "other").unwrap();
        assert_eq!(disk.power_cut(Survival::Nothing).list().unwrap(), ["file"]);
        assert_eq!(disk.power_cut(Survival::Everything).list().unwrap(), ["other"]);
    }

    #[test]
    fn a_failed_sync_leaves_clean_pages_that_a_later_sync_does_not_write() {
        let (disk, mut file) = disk_with(&[7; 600]);
        disk.fail(0, Fault::Lost);
        file.sync().unwrap_err();
        let disk = disk.kill();
        assert_eq!(disk.read("file").unwrap().len(), 600);
        assert_eq!(disk.power_cut(Survival::Everything).read("file").unwrap(), b"");
    }

    #[test]
    fn what_does_not_fit_is_taken_in_part_and_refused() {
        let (disk, mut file) = disk_with(b"one");
        disk.limit(100, 95);
        assert_eq!(disk.space().unwrap(), Space { total: 100, free: 2 });
        assert_eq!(file.append(b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read("file").unwrap(), b"onetw");
        disk.mount_read_only(true);
        assert_eq!(file.sync().unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    }

    #[test]
    fn a_torn_sync_leaves_a_hole() {
        let (disk, mut file) = disk_with(&[7; 4 * SECTOR_BYTES]);
        disk.fail(0, Fault::Torn);
        file.sync().unwrap_err();
        let found = disk.power_cut(Survival::Everything).read("file").unwrap();
        assert_eq!((found[0], found[SECTOR_BYTES], found.len()), (0, 7, 4 * SECTOR_BYTES));
    }
}
