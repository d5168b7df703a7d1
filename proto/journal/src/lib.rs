//! The append-only Merkle journal that the message log and the registry's audit log stand on.
//!
//! Records go in, are committed in batches with one write and one sync each, and come out proved: `FORMAT.md` says what
//! stands on the disk, and how a start recovers. What is not here: what a record means, who may write one, and any
//! index: views of a journal are built by whoever reads it, and can be built again.
//!
//! ```text
//! append --> queue --> one thread: commit, sign, write, sync --> release
//! ```

mod copy;
pub mod disk;
pub mod faulty;
mod finished;
mod format;
mod pending;
mod proof;
mod queue;
mod read;
mod recover;
mod release;
mod remains;
mod scan;
mod verify;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use proto::digest::Digest;
use proto::identifier::InstanceId;
use proto::record::{Genesis, Record, TreeName};
use proto::signature::SigningKey;
use proto::wire::relay::Seal;

pub use copy::{NotCopied, Segments, copy};
pub use disk::{Directory, Disk, Space};
pub use finished::{Commits, Finished, finished, segment_name, segment_number};
pub use pending::{Committed, Ended, Pending};
pub use proof::RecordTree;
use queue::Core;
pub use queue::RIDES_WITHIN;
pub use read::{Damage, ReadError, Tail, entries, entry, read, tail};
pub use recover::{OpenError, RESTORED_FILE};
pub use release::release_in_this_thread;
pub use remains::{NotRemoved, Remains, TreeRemains, check_remains, is_remains_name, remains_name, removed};
pub use verify::{Verified, VerifiedTree, Verifier, verify};
use writer::{Request, Shared};

/// Whose tree it is: goes into the genesis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The instance that member and server belong to.
    pub instance: InstanceId,
    /// The member, as a `MemberId` is written, or the registry's name.
    pub member: String,
    /// The server that keeps the log.
    pub server: String,
}

/// One tree of the journal, and the key that signs its heads.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Whose it is.
    pub owner: Owner,
    /// Signs its heads.
    pub key: Arc<SigningKey>,
}

/// Which of the trees given to [`Journal::open`], by its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeIndex(pub usize);

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length in bytes at which a segment is full and the next one begins. Default: 64 MiB.
    pub segment_bytes: u64,
    /// True only where a server comes into being (`init`, `join`): the directory must be empty then. Otherwise an
    /// empty directory is refused: a lost disk is never taken for a first use. Default: false.
    pub first: bool,
    /// How long a tail that nothing leaving has signed may stay unsigned. `None`: until the journal is closed or its
    /// segment is full. Default: one second.
    pub tail_signed_within: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, first: false, tail_signed_within: Some(Duration::from_secs(1)) }
    }
}

/// Largest record with what lies beside it, in bytes. Messages are far smaller; a larger one is a mistake of the caller.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// What a journal has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Batches written, each with one sync.
    pub syncs: u64,
    /// Records in them.
    pub records: u64,
    /// Heads signed.
    pub heads_signed: u64,
}

/// An open journal. Dropping it closes it.
pub struct Journal {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    geneses: Vec<(TreeName, Record)>,
    recovered_end: Position,
    disk: Arc<dyn Disk>,
    restored: Option<String>,
    /// Let go of last, after the thread has ended.
    _lock: Box<dyn disk::Lock>,
}

impl Journal {
    /// Locks the directory, recovers, opens a new tree for each of `trees`, durable and signed when this returns, and
    /// starts the thread that writes. `each` is shown every recovered entry at or after `from`, in order; `None`:
    /// everything that is there.
    pub fn open(
        disk: Arc<dyn Disk>,
        trees: Vec<Tree>,
        options: Options,
        from: Option<Position>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Journal, OpenError> {
        let opened = recover::open(Arc::clone(&disk), trees, options, from, each)?;
        let recover::Opened { lock, writing, recovered_end, restored } = opened;
        let geneses = writing.geneses();
        let shared = Arc::new(Shared::new(writing.end()));
        let core = Arc::new(Core::new(writing, Arc::clone(&shared)));
        let running = Arc::clone(&core);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || running.run())
            .map_err(OpenError::Thread)?;
        let thread = Some(thread);
        Ok(Journal { core, thread, shared, geneses, recovered_end, disk, restored, _lock: lock })
    }

    /// Queues a record; never blocks, never waits. `leaving`: its seal will be given to somebody, so the head of its
    /// commit is signed before it is released. `beside` is kept with the record, and not in the Merkle tree.
    ///
    /// # Panics
    /// Where `tree` is none of this journal's, or the record is larger than [`MAX_RECORD_BYTES`].
    pub fn append(&self, tree: TreeIndex, record: Record, beside: Bytes, leaving: bool) -> Pending {
        assert!(tree.0 < self.geneses.len(), "tree {} is none of this journal's {}", tree.0, self.geneses.len());
        assert!(record.as_bytes().len() + beside.len() <= MAX_RECORD_BYTES, "a record of more than 64 MiB");
        let (request, pending) = Request::new(tree, record, beside, leaving, self.shared.clone());
        self.core.append(request);
        pending
    }

    /// Queues a record for which nothing waits that leaves: it rides with the next commit, in its place in the queue, or has
    /// one of its own within [`RIDES_WITHIN`].
    ///
    /// # Panics
    /// As [`Journal::append`].
    pub fn append_riding(&self, tree: TreeIndex, record: Record) -> Pending {
        assert!(tree.0 < self.geneses.len(), "tree {} is none of this journal's {}", tree.0, self.geneses.len());
        assert!(record.as_bytes().len() <= MAX_RECORD_BYTES, "a record of more than 64 MiB");
        let (request, pending) = Request::riding(tree, record, self.shared.clone());
        self.core.append(request);
        pending
    }

    /// Changes the key that signs a tree's heads. `record` says so in the tree: the head of its commit is the last that the
    /// key before signs, and what is queued after it is signed with the new key. Resolves when the record is durable.
    ///
    /// # Panics
    /// As [`Journal::append`].
    pub fn change_key(&self, tree: TreeIndex, key: Arc<SigningKey>, record: Record) -> Pending {
        assert!(tree.0 < self.geneses.len(), "tree {} is none of this journal's {}", tree.0, self.geneses.len());
        let (request, pending) = Request::changing_key(tree, record, key, self.shared.clone());
        self.core.append(request);
        pending
    }

    /// The genesis record of a tree.
    pub fn genesis(&self, tree: TreeIndex) -> &Record {
        &self.geneses[tree.0].1
    }

    /// The name of a tree.
    pub fn name(&self, tree: TreeIndex) -> TreeName {
        self.geneses[tree.0].0
    }

    /// Where what was recovered ends. A view that holds entries at or past this position, from before this start, is
    /// ahead of the journal: those entries were lost with the tail, and the view must drop them.
    pub fn recovered_end(&self) -> Position {
        self.recovered_end
    }

    /// Where what is durable ends. [`read`] shows a running journal's entries as they are written, and what it shows at
    /// or past this position must not be given to anybody: its sync has not returned, or has failed.
    pub fn durable_end(&self) -> Position {
        self.shared.durable_end()
    }

    /// What was done since it was opened.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// The batch that is being written and synced right now, by a number that no other batch has. `None`: nothing waits
    /// for the disk.
    pub fn writing(&self) -> Option<u64> {
        self.shared.writing()
    }

    /// What the word of a restore says (FORMAT.md 1.5), where the directory was put back from a backup and nobody has
    /// taken note of it yet.
    pub fn restored(&self) -> Option<&str> {
        self.restored.as_deref()
    }

    /// Takes the word of a restore away, when all that follows from it is durable. A crash before this: the next start
    /// says `restored` once more than it happened, and what follows from it is done again.
    pub fn restore_is_noted(&self) -> std::io::Result<()> {
        if self.restored.is_some() {
            self.disk.remove(RESTORED_FILE)?;
            self.disk.sync_directory()?;
        }
        Ok(())
    }

    /// Why the journal has ended, if a failed write or sync ended it.
    pub fn ended(&self) -> Option<Arc<str>> {
        self.shared.ended()
    }

    /// Resolves when the journal has ended, with the reason; and when it is closed.
    pub fn until_ended(&self) -> impl Future<Output = Arc<str>> + Send + use<> {
        self.shared.until_ended()
    }

    /// Stops after everything queued is durable and the tails are signed. Blocks meanwhile.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The thread writes what is queued, signs the tails and returns.
        self.core.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("trees", &self.geneses.len()).field("ended", &self.ended()).finish()
    }
}

/// The place of a record, which never changes (FORMAT.md 7). Sorts as the records were written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the commit block in the segment.
    pub offset: u64,
    /// Index of the record in the commit.
    pub record: u32,
}

impl Position {
    /// Length of [`Position::to_bytes`].
    pub const BYTES: usize = 20;

    /// Bytes that sort as the positions do.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        bytes[16..].copy_from_slice(&self.record.to_be_bytes());
        bytes
    }

    /// Back from [`Position::to_bytes`].
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, o0, o1, o2, o3, o4, o5, o6, o7, r0, r1, r2, r3] = *bytes;
        Self {
            segment: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            offset: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            record: u32::from_be_bytes([r0, r1, r2, r3]),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.segment, self.offset, self.record)
    }
}

/// One record as read back.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// The tree it is in.
    pub tree: TreeName,
    /// That tree's genesis.
    pub genesis: Arc<Genesis>,
    /// The index of its commit in the tree.
    pub commit: u64,
    /// That commit's leaf hash in the tree.
    pub leaf: Digest,
    /// That commit's records, for the record's path in it.
    pub records: Arc<RecordTree>,
    /// The record.
    pub record: Record,
    /// What lies beside it.
    pub beside: Bytes,
    /// Its path under the signed head of its own commit, where that signature is on the disk. The signature itself is
    /// not checked: whose key is good is not the journal's to say.
    pub seal: Option<Seal>,
}
