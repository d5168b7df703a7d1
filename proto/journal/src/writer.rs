//! What the one thread writes: it takes a batch of what is queued (`queue.rs`), commits, signs, writes and syncs it, and only then
//! releases it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use proto::digest::Digest;
use proto::record::{Record, TreeName};
use proto::signature::SigningKey;
use tokio::sync::watch;

use crate::disk::{Disk, File};
use crate::format::{self, Header, MAX_COMMIT_RECORDS, MAX_GENESIS_BYTES, Mark, Place, Row, SignatureBody, Snapshot};
use crate::pending::{Committed, Ended, Pending};
use crate::proof::{self, CommitProof, RecordTree};
use crate::read::file_name;
use crate::recover::random;
use crate::release::{Release, Released, to_this_thread};
use crate::{Counts, Options, Position, TreeIndex};

/// Most records in a batch.
const MAX_BATCH_RECORDS: usize = 4_096;
/// A batch that has this many bytes takes no further record.
const MAX_BATCH_BYTES: usize = 8 << 20;
const _: () = assert!(MAX_BATCH_RECORDS <= MAX_COMMIT_RECORDS);

/// Where a failed write leaves word (FORMAT.md 1.4).
pub(crate) const FAILED_FILE: &str = "failed";
/// How the name of a file ends that is not finished yet (1.3).
pub(crate) const UNFINISHED: &str = ".new";

/// One record in the queue. Dropped without release, its waiter learns that the journal has ended.
pub(crate) struct Request {
    tree: TreeIndex,
    record: Record,
    beside: Bytes,
    leaving: bool,
    /// Whether a commit is made for it, rather than it waiting for one that is made anyway.
    urgent: bool,
    /// Signs from the next commit on.
    next_key: Option<Arc<SigningKey>>,
    /// Both computed where the record comes from, not in the one thread that all wait for.
    hash: Digest,
    checksum: u32,
    release: Release,
}

impl Request {
    pub fn new(tree: TreeIndex, record: Record, beside: Bytes, leaving: bool, shared: Arc<Shared>) -> (Self, Pending) {
        let (release, released) = to_this_thread();
        let (hash, checksum) = (record.hash(), format::checksum_of(record.as_bytes(), &beside));
        let next_key = None;
        let request = Self { tree, record, beside, leaving, urgent: true, next_key, hash, checksum, release };
        (request, Pending { released, shared })
    }

    /// The same, for which no commit is made at once.
    pub fn riding(tree: TreeIndex, record: Record, shared: Arc<Shared>) -> (Self, Pending) {
        let (request, pending) = Self::new(tree, record, Bytes::new(), false, shared);
        (Self { urgent: false, ..request }, pending)
    }

    /// The record after which another key signs. Its own commit is signed, by the key before.
    pub fn changing_key(tree: TreeIndex, record: Record, key: Arc<SigningKey>, shared: Arc<Shared>) -> (Self, Pending) {
        let (request, pending) = Self::new(tree, record, Bytes::new(), true, shared);
        (Self { next_key: Some(key), ..request }, pending)
    }

    /// Whether a commit is made for it.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    fn length(&self) -> usize {
        self.record.as_bytes().len() + self.beside.len()
    }
}

impl Row for Request {
    fn record(&self) -> &[u8] {
        self.record.as_bytes()
    }
    fn beside(&self) -> &[u8] {
        &self.beside
    }
    fn checksum(&self) -> u32 {
        self.checksum
    }
}

/// What the thread, the journal and every waiter know together: why it ended.
pub(crate) struct Shared {
    ended: OnceLock<Arc<str>>,
    watch: watch::Sender<Option<Arc<str>>>,
    durable_end: Mutex<Position>,
    /// Counted up when a batch begins to be written and when its sync returned: odd in between.
    written: AtomicU64,
    counted: Counted,
}

/// What was done since the journal was opened. Counted for people; nothing depends on it.
#[derive(Default)]
struct Counted {
    syncs: AtomicU64,
    records: AtomicU64,
    heads_signed: AtomicU64,
}

impl Shared {
    /// Where what is durable ends now.
    pub fn new(durable_end: Position) -> Self {
        let (ended, watch, durable_end) = (OnceLock::new(), watch::Sender::new(None), Mutex::new(durable_end));
        Self { ended, watch, durable_end, written: AtomicU64::new(0), counted: Counted::default() }
    }

    /// The batch that is being written, if one is.
    pub fn writing(&self) -> Option<u64> {
        Some(self.written.load(Ordering::Relaxed)).filter(|written| written % 2 == 1)
    }

    fn count_writing(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let Counted { syncs, records, heads_signed } = &self.counted;
        let of = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
        Counts { syncs: of(syncs), records: of(records), heads_signed: of(heads_signed) }
    }

    fn count(&self, records: usize, heads_signed: usize) {
        self.counted.syncs.fetch_add(1, Ordering::Relaxed);
        self.counted.records.fetch_add(records as u64, Ordering::Relaxed);
        self.counted.heads_signed.fetch_add(heads_signed as u64, Ordering::Relaxed);
    }

    /// Every entry before it is durable; one at or past it may yet be lost.
    pub fn durable_end(&self) -> Position {
        *self.durable_end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a sync returned, and before anybody is told.
    fn is_durable_up_to(&self, end: Position) {
        *self.durable_end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

impl Shared {
    pub fn ended(&self) -> Option<Arc<str>> {
        self.ended.get().cloned()
    }

    /// For a waiter whose request was dropped.
    pub fn reason(&self) -> Ended {
        Ended(self.ended().unwrap_or_else(|| "it was closed".into()))
    }

    pub fn until_ended(&self) -> impl Future<Output = Arc<str>> + Send + use<> {
        let mut watched = self.watch.subscribe();
        async move {
            let ended = watched.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
            ended.unwrap_or_else(|| "it was closed".into())
        }
    }

    pub fn end(&self, reason: &str) {
        let reason: Arc<str> = self.ended.get_or_init(|| reason.into()).clone();
        self.watch.send_replace(Some(reason));
    }
}

/// A tree that this journal appends to.
pub(crate) struct Growing {
    state: Snapshot,
    key: Arc<SigningKey>,
    /// The key that signs after the batch that is being put together.
    next_key: Option<Arc<SigningKey>>,
    /// The last commit, while its head is not signed.
    unsigned: Option<Arc<CommitProof>>,
    /// Requests of the batch that is being put together.
    queued: Vec<Request>,
}

impl Growing {
    /// `None` where the genesis is too long.
    pub fn new(genesis: Record, key: Arc<SigningKey>) -> Option<Self> {
        let state = Snapshot::unborn(genesis).filter(|it| it.genesis_record.as_bytes().len() <= MAX_GENESIS_BYTES)?;
        Some(Self { state, key, next_key: None, unsigned: None, queued: Vec::new() })
    }

    /// Commits what is queued for this tree: its block goes to the batch.
    fn commit(
        &mut self,
        batch: &mut Vec<u8>,
        place: Place<'_>,
        rows: &[impl Row],
        hashes: Vec<Digest>,
    ) -> Arc<CommitProof> {
        let records = RecordTree::over(hashes);
        format::put_commit(batch, place, &self.state, &records.root(), rows);
        let commit = Arc::new(CommitProof::append(&mut self.state, records));
        self.unsigned = Some(commit.clone());
        commit
    }

    /// Signs the tree's head, if it is not signed yet: the signature's block goes to the batch. No size is signed
    /// twice. Says whether it signed.
    fn sign(&mut self, batch: &mut Vec<u8>, place: Place<'_>) -> bool {
        let Some(commit) = self.unsigned.take() else { return false };
        let (key, signature) = (self.key.public().id(), proof::sign(&commit.head, &self.key));
        let (tree, size) = (commit.head.tree, commit.head.size);
        format::put_signature(batch, place, &SignatureBody { tree, size, key, signature: &signature });
        // Whoever asks sees it before the sync, which is as it may be: the commit is either durable already or not
        // released, and a head signed again is the same head.
        commit.signed(key, &signature);
        true
    }
}

/// A genesis on its way into its tree.
impl Row for Record {
    fn record(&self) -> &[u8] {
        self.as_bytes()
    }
    fn beside(&self) -> &[u8] {
        &[]
    }
    fn checksum(&self) -> u32 {
        format::checksum_of(self.as_bytes(), &[])
    }
}

/// The journal as its thread holds it.
pub(crate) struct Writing {
    disk: Arc<dyn Disk>,
    options: Options,
    trees: Vec<Growing>,
    carried: Vec<Snapshot>,
    number: u64,
    mark: Mark,
    file: Box<dyn File>,
    length: u64,
    /// Since when some tree has an unsigned tail.
    unsigned_since: Option<Instant>,
    batch: Vec<u8>,
}

/// What was dealt out to the trees, and is written next.
#[derive(Default)]
pub(crate) struct Batch {
    records: usize,
    bytes: usize,
    changes_key: bool,
}

impl Batch {
    /// What comes after a change of the key is signed with the new one: it is for the next batch.
    pub fn is_full(&self) -> bool {
        self.records >= MAX_BATCH_RECORDS || self.bytes >= MAX_BATCH_BYTES || self.changes_key
    }
}

/// Why a batch is written, besides what is queued.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tails {
    /// Sign only where something leaves.
    MayWait,
    /// Sign every tail.
    Sign,
}

impl Writing {
    /// Begins a segment with trees that begin in it, each with its genesis, signed.
    pub fn begin(
        disk: Arc<dyn Disk>,
        options: Options,
        number: u64,
        mut trees: Vec<Growing>,
        carried: Vec<Snapshot>,
    ) -> io::Result<Self> {
        let (mut bytes, mark) = header(number, &trees, &carried);
        let place = Place { mark: &mark, batch: bytes.len() as u64 };
        let mut batch = Vec::new();
        for tree in &mut trees {
            let genesis = tree.state.genesis_record.clone();
            let hash = genesis.hash();
            tree.commit(&mut batch, place, &[genesis], vec![hash]);
            tree.sign(&mut batch, place);
        }
        bytes.extend_from_slice(&batch);
        let file = create_whole(&*disk, number, &bytes)?;
        let length = bytes.len() as u64;
        Ok(Self { disk, options, trees, carried, number, mark, file, length, unsigned_since: None, batch })
    }

    /// Where the segment ends.
    pub fn end(&self) -> Position {
        Position { segment: self.number, offset: self.length, record: 0 }
    }

    /// The trees' names and geneses.
    pub fn geneses(&self) -> Vec<(TreeName, Record)> {
        self.trees.iter().map(|tree| (tree.state.name(), tree.state.genesis_record.clone())).collect()
    }

    /// When tails must be signed that nothing leaving has signed; `None`: not while nothing comes.
    pub fn tails_due(&self) -> Option<Instant> {
        Some(self.unsigned_since? + self.options.tail_signed_within?)
    }

    /// Deals a request out to its tree, for this batch.
    pub fn take(&mut self, mut request: Request, batch: &mut Batch) {
        let tree = &mut self.trees[request.tree.0];
        tree.next_key = request.next_key.take();
        batch.records += 1;
        batch.bytes += request.length();
        batch.changes_key |= tree.next_key.is_some();
        tree.queued.push(request);
    }

    /// "Write, sync, release" (SEAL 1, rule 1). A crash before the write is whole leaves a torn tail, which the next start
    /// cuts: nobody was told. A crash after it and before the sync: the batch is there or not, and nobody was told. A
    /// crash after the sync: it is there, told or not. An error is the end of the journal in each of these states.
    pub fn write(&mut self, batch: Batch, tails: Tails, shared: &Shared) -> io::Result<()> {
        let idle = batch.records == 0;
        if idle && (tails == Tails::MayWait || self.trees.iter().all(|tree| tree.unsigned.is_none())) {
            return Ok(());
        }
        shared.count_writing();
        if self.length >= self.options.segment_bytes && !idle {
            self.begin_next_segment()?;
        }
        let place = Place { mark: &self.mark, batch: self.length };
        self.batch.clear();
        let (mut committed, mut heads_signed) = (Vec::new(), 0);
        for tree in &mut self.trees {
            let requests = std::mem::take(&mut tree.queued);
            if !requests.is_empty() {
                let offset = place.batch + self.batch.len() as u64;
                let hashes = requests.iter().map(|request| request.hash).collect();
                let commit = tree.commit(&mut self.batch, place, &requests, hashes);
                if requests.iter().any(|request| request.leaving) {
                    heads_signed += usize::from(tree.sign(&mut self.batch, place));
                }
                committed.push((commit, offset, requests));
            }
        }
        // The last batch of a segment signs all tails (2.2), so that no commit's signature is in another file.
        let full = place.batch + self.batch.len() as u64 >= self.options.segment_bytes;
        if full || tails == Tails::Sign {
            heads_signed +=
                self.trees.iter_mut().filter_map(|tree| tree.sign(&mut self.batch, place).then_some(())).count();
        }
        if let Err(error) = self.file.append(&self.batch).and_then(|()| self.file.sync()) {
            // Before the requests are dropped: that is how their waiters wake up, and they ask why.
            shared.end(&error.to_string());
            return Err(error);
        }
        shared.count_writing();
        self.length += self.batch.len() as u64;
        for tree in &mut self.trees {
            // A crash before this: the record of the change is there or not, and nothing was signed with the new key.
            if let Some(key) = tree.next_key.take() {
                tree.key = key;
            }
        }
        shared.is_durable_up_to(self.end());
        shared.count(committed.iter().map(|(_, _, requests)| requests.len()).sum(), heads_signed);
        let unsigned = self.trees.iter().any(|tree| tree.unsigned.is_some());
        self.unsigned_since = if unsigned { self.unsigned_since.or_else(|| Some(Instant::now())) } else { None };
        release(self.number, committed);
        Ok(())
    }

    /// Everything in the full segment is synced and signed. A crash before the rename leaves it the last one; after it,
    /// the new one is the last and says the same of every tree.
    fn begin_next_segment(&mut self) -> io::Result<()> {
        let (header, mark) = header(self.number + 1, &self.trees, &self.carried);
        self.file = create_whole(&*self.disk, self.number + 1, &header)?;
        (self.number, self.mark, self.length) = (self.number + 1, mark, header.len() as u64);
        Ok(())
    }

    /// Tries once to leave word for the next start; that works without it too (8.5).
    pub fn leave_word(&self, error: &io::Error) {
        let left = self.disk.create(FAILED_FILE).and_then(|mut file| {
            file.append(error.to_string().as_bytes())?;
            file.sync()?;
            self.disk.sync_directory()
        });
        if let Err(error) = left {
            tracing::warn!(%error, "no word of the failed write could be left");
        }
    }
}

/// Tells all who wait for what these commits, each at its offset, made durable.
fn release(segment: u64, committed: Vec<(Arc<CommitProof>, u64, Vec<Request>)>) {
    let mut released = Released::default();
    for (commit, offset, requests) in committed {
        for (record, request) in (0..).zip(requests) {
            let position = Position { segment, offset, record };
            let nonce = request.record.nonce();
            released.add(request.release, Committed { commit: Arc::clone(&commit), position, nonce });
        }
    }
    released.tell();
}

/// The header of a segment for these trees as they stand, and its mark.
fn header(number: u64, trees: &[Growing], carried: &[Snapshot]) -> (Vec<u8>, Mark) {
    let mut mark: Mark = random();
    // No block begins with a zero: what was written ahead is told from one by its first byte (2.4).
    mark[0] = mark[0].max(1);
    let trees = trees.iter().map(|tree| &tree.state).chain(carried).cloned().collect();
    (Header { number, mark, trees }.encode(), mark)
}

/// A segment that comes into being whole (1.3), in place of one that may be there. A crash before the rename leaves a
/// `.new` file, which the next start removes. A crash after it and before the directory's sync leaves either name.
pub(crate) fn create_whole(disk: &dyn Disk, number: u64, bytes: &[u8]) -> io::Result<Box<dyn File>> {
    let name = file_name(number);
    let unfinished = format!("{name}{UNFINISHED}");
    let mut file = disk.create(&unfinished)?;
    file.append(bytes)?;
    file.sync()?;
    disk.rename(&unfinished, &name)?;
    disk.sync_directory()?;
    Ok(file)
}
