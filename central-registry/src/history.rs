//! The register's history: an append-only audit journal, and a view of it that can be thrown away.
//!
//! An entry is durable in the journal before anybody is told of it, and the register changes only then. sled holds the
//! register as it was at some entry, so that a start need not read everything: it may be missing, behind, ahead or
//! spoiled, and is rebuilt from the journal then. The journal is trusted, the view is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use journal::{Directory, Journal, OpenError, Options, Owner, Position, ReadError, Tree, TreeIndex};
use proto::digest::Digest;
use proto::global_configuration::ledger::{Checkpoint, leaf};
use proto::identifier::InstanceId;
use proto::record::{Kind, NONCE_BYTES, Record};
use proto::signature::SigningKey;
use proto::time::Time;
use serde::{Deserialize, Serialize};

use crate::leaves::Leaves;
use crate::register::{Admitted, Entry, Event, Refused, Register};

/// Where the journal stands in the registry's directory.
pub const JOURNAL: &str = "journal";
/// Where the view stands.
pub const VIEW: &str = "view";
/// The view is written after this many entries; a start reads at most so many of them again.
const VIEW_EVERY: usize = 256;
const TREE: TreeIndex = TreeIndex(0);
const VIEW_KEY: &str = "register";

/// Why the history cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The journal does not open.
    #[error("the audit journal does not open: {0}")]
    Journal(#[from] OpenError),
    /// The journal cannot be read.
    #[error("the audit journal cannot be read: {0}; put it back from a copy")]
    Read(#[from] ReadError),
    /// An entry of the journal is not one that may stand there.
    #[error(
        "the audit journal's entry at {position} cannot be followed: {reason}; restore the journal from a copy, and \
         let nobody use what was published since"
    )]
    Entry {
        /// Where it stands.
        position: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process has it.
    #[error("{} is in use by another process; stop that one, a registry has one process", .0.display())]
    InUse(PathBuf),
    /// The view cannot be opened at all.
    #[error("the view {VIEW}/ cannot be opened: {0}; it holds nothing of its own, so delete it and start again")]
    View(sled::Error),
    /// The journal founds no register.
    #[error("the audit journal founds no register of this instance; use a directory that `init` made, whole")]
    NotFounded,
    /// A file of the directory.
    #[error("{0}")]
    File(#[from] std::io::Error),
}

/// The open journal and its view.
pub struct History {
    journal: Option<Journal>,
    view: sled::Db,
    last: Option<(Position, Digest)>,
    unsaved: usize,
}

impl History {
    /// Begins the history of a new registry with its founding, who governs it, and its first version.
    pub fn found(
        directory: &Path,
        instance: &InstanceId,
        key: SigningKey,
        entries: [Entry; 3],
    ) -> Result<(), HistoryError> {
        let place = directory.join(JOURNAL);
        std::fs::create_dir(&place)?;
        let refused =
            |error: Refused| HistoryError::Entry { position: "the beginning".into(), reason: error.to_string() };
        let options = Options { first: true, ..Options::default() };
        let disk = Arc::new(Directory(place));
        let journal = Journal::open(disk, vec![tree(instance, key)], options, None, &mut |_| {})?;
        let mut register = Register::default();
        let mut appended = Vec::new();
        for entry in entries {
            let admitted = register.admit(entry).map_err(refused)?;
            appended.push(journal.append(TREE, record(&admitted), Bytes::new(), false));
            register.apply(admitted);
        }
        // Dropping the journal waits for its thread, which writes all that is queued; each outcome is there then.
        journal.close();
        for mut pending in appended {
            let outcome = pending.now().ok_or_else(|| std::io::Error::other("the journal did not answer"))?;
            outcome.map_err(|ended| std::io::Error::other(ended.to_string()))?;
        }
        Ok(())
    }

    /// Takes the history up again, and the register that it makes.
    pub fn open(directory: &Path, instance: &InstanceId, key: SigningKey) -> Result<(Self, Register), HistoryError> {
        let disk = Arc::new(Directory(directory.join(JOURNAL)));
        // Flushed when it is written, and by no timer.
        let view = view::open(&directory.join(VIEW), sled::Config::new().flush_every_ms(None));
        let view = view.map_err(|error| Self::unopened(directory, error))?;
        let saved = Saved::read(&view);
        let mut rebuilt = Rebuilt::after(saved);
        let from = rebuilt.from();
        let trees = vec![tree(instance, key)];
        let journal = Journal::open(disk.clone(), trees, Options::default(), from, &mut |entry| rebuilt.see(&entry))?;
        if !rebuilt.view_held() {
            tracing::warn!("the view does not fit the journal and is built again from the beginning");
            rebuilt = Rebuilt::after(None);
            // The new tree's genesis is read back too, which changes nothing.
            journal::read(&*disk, None, &mut |entry| rebuilt.see(&entry))?;
        }
        let Rebuilt { register, last, wrong, .. } = rebuilt;
        if let Some((position, reason)) = wrong {
            return Err(HistoryError::Entry { position: position.to_string(), reason });
        }
        if register.instance().is_none_or(|founded| founded.instance != *instance) {
            return Err(HistoryError::NotFounded);
        }
        let mut history = Self { journal: Some(journal), view, last, unsaved: 0 };
        history.save(&register);
        Ok((history, register))
    }

    /// Whoever deleted the view of a registry that runs would take it from under it. sled says so in words only.
    fn unopened(directory: &Path, error: sled::Error) -> HistoryError {
        if error.to_string().contains("could not acquire lock") {
            HistoryError::InUse(directory.to_owned())
        } else {
            HistoryError::View(error)
        }
    }

    /// Makes an entry durable, then so. A crash before the sync leaves nothing of it, a crash after it the whole of it:
    /// whoever asked and was not answered asks again and is told.
    pub async fn record(&mut self, register: &mut Register, admitted: Admitted) -> Result<(), Refused> {
        let ended = |reason: String| Refused::NotRecorded(reason);
        let journal = self.journal.as_ref().ok_or_else(|| ended("it is closing".to_owned()))?;
        let record = record(&admitted);
        let digest = Digest::of(&[record.as_bytes()]);
        let committed =
            journal.append(TREE, record, Bytes::new(), false).await.map_err(|error| ended(error.to_string()))?;
        register.apply(admitted);
        self.last = Some((committed.position(), digest));
        self.unsaved += 1;
        if self.unsaved >= VIEW_EVERY {
            self.save(register);
        }
        Ok(())
    }

    /// From which backup the journal was put back, if it was and nobody has noted it yet.
    pub fn restored(&self) -> Option<&str> {
        self.journal.as_ref().and_then(Journal::restored)
    }

    /// All that follows from the restore is durable.
    pub fn restore_is_noted(&self) -> std::io::Result<()> {
        self.journal.as_ref().map_or(Ok(()), Journal::restore_is_noted)
    }

    /// Resolves when the journal has ended: nothing can be decided any more.
    pub fn until_ended(&self) -> impl Future<Output = Arc<str>> + Send + use<> {
        let ended = self.journal.as_ref().map(Journal::until_ended);
        async move {
            match ended {
                Some(ended) => ended.await,
                None => "it is closed".into(),
            }
        }
    }

    /// Everything queued is durable when this returns. Blocks meanwhile.
    pub fn close(&mut self, register: &Register) {
        self.save(register);
        drop(self.journal.take());
    }

    /// Writes the view. Where that fails the next start reads more of the journal, and that is all.
    fn save(&mut self, register: &Register) {
        self.unsaved = 0;
        let Some((position, digest)) = self.last else { return };
        let saved = Saved {
            position: hex::encode(position.to_bytes()),
            digest: digest.to_string(),
            register: register.clone(),
        };
        let bytes = serde_json::to_vec(&saved).expect("the register has string keys only");
        if let Err(error) = self.view.insert(VIEW_KEY, bytes).and_then(|_| self.view.flush()) {
            tracing::warn!(%error, "the view could not be written; the next start reads the journal from further back");
        }
    }
}

/// How the audit journal ends.
pub(crate) struct Ending {
    pub tail: journal::Tail,
    /// The time of its last entry, where the last segment has one.
    pub last: Option<Time>,
    /// The last version in it that was signed, and the SHA-256 of its timestamp document.
    pub published: Option<(u64, Digest)>,
}

/// Reads the journal's last segment, for whoever changes nothing: without its lock, and with a registry perhaps at work on
/// it. `None` where no journal is.
pub(crate) fn ending(directory: &Path) -> Result<Option<Ending>, HistoryError> {
    let (mut last, mut published, mut wrong) = (None, None, None);
    let tail = journal::tail(&Directory(directory.join(JOURNAL)), &mut |entry| {
        if entry.record.kind() != Kind::Entry {
            return;
        }
        match serde_json::from_slice::<Entry>(&entry.record.body()) {
            Ok(read) => {
                last = Some(Time::from_millis(read.at));
                if let Event::Published { version, timestamp, .. } = read.event {
                    published = Some((version, timestamp.0));
                }
            }
            Err(error) => _ = wrong.get_or_insert((entry.position, error)),
        }
    })?;
    match wrong {
        Some((position, error)) => {
            Err(HistoryError::Entry { position: position.to_string(), reason: error.to_string() })
        }
        None => Ok(tail.map(|tail| Ending { tail, last, published })),
    }
}

/// Every entry and every descriptor set that was ever listed, as it was published.
pub(crate) fn listed(directory: &Path, each: &mut dyn FnMut(Bytes)) -> Result<(), HistoryError> {
    journal::read(&Directory(directory.join(JOURNAL)), None, &mut |entry| {
        let read = (entry.record.kind() == Kind::Entry)
            .then(|| serde_json::from_slice::<Entry>(&entry.record.body()).ok())
            .flatten();
        if let Some(Entry { event: Event::Listed { entries, descriptors, .. }, .. }) = read {
            let contents = entries.iter().chain(&descriptors).filter_map(|text| STANDARD.decode(text).ok());
            contents.for_each(|content| each(content.into()));
        }
    })?;
    Ok(())
}

/// The leaves of the ledgers of what was published, as the journal has them.
pub(crate) fn leaves(directory: &Path) -> Result<Leaves, HistoryError> {
    let mut leaves = Leaves::default();
    journal::read(&Directory(directory.join(JOURNAL)), None, &mut |entry| {
        let read = (entry.record.kind() == Kind::Entry)
            .then(|| serde_json::from_slice::<Entry>(&entry.record.body()).ok())
            .flatten();
        match read.map(|read| read.event) {
            Some(Event::Published { version, timestamp, checkpoint: Some(text) }) => {
                let ledger = Checkpoint::parse(&text).map(|checkpoint| checkpoint.ledger);
                ledger.into_iter().for_each(|ledger| leaves.push(ledger, &leaf(version, &timestamp.0)));
            }
            Some(Event::AdoptedLeaves { genesis, leaves: taken_up }) => {
                taken_up.iter().for_each(|leaf| leaves.push(genesis.name(), &leaf.0));
            }
            _ => {}
        }
    })?;
    Ok(leaves)
}

/// What sled holds: the register, and the entry that it stands at.
#[derive(Serialize, Deserialize)]
struct Saved {
    position: String,
    digest: String,
    register: Register,
}

impl Saved {
    fn read(view: &sled::Db) -> Option<(Position, Digest, Register)> {
        let bytes = view.get(VIEW_KEY).ok()??;
        let saved: Saved = serde_json::from_slice(&bytes).ok()?;
        let mut position = [0; Position::BYTES];
        hex::decode_to_slice(&saved.position, &mut position).ok()?;
        Some((Position::from_bytes(&position), saved.digest.parse().ok()?, saved.register))
    }
}

/// A register being made from the journal, by the calls that made it the first time.
struct Rebuilt {
    register: Register,
    last: Option<(Position, Digest)>,
    /// The entry that the view stands at, until the journal showed it.
    awaited: Option<(Position, Digest)>,
    wrong: Option<(Position, String)>,
}

impl Rebuilt {
    fn after(saved: Option<(Position, Digest, Register)>) -> Self {
        match saved {
            Some((position, digest, register)) => {
                let stands_at = Some((position, digest));
                Self { register, last: stands_at, awaited: stands_at, wrong: None }
            }
            None => Self { register: Register::default(), last: None, awaited: None, wrong: None },
        }
    }

    fn from(&self) -> Option<Position> {
        self.awaited.map(|(position, _)| position)
    }

    /// Whether the entry that the view stands at is in the journal as it was, and all that came after could follow.
    fn view_held(&self) -> bool {
        self.awaited.is_none() && self.wrong.is_none()
    }

    fn see(&mut self, entry: &journal::Entry) {
        if entry.record.kind() != Kind::Entry || self.wrong.is_some() {
            return;
        }
        let here = (entry.position, Digest::of(&[entry.record.as_bytes()]));
        match self.awaited.take() {
            Some(awaited) if awaited == here => return,
            // Not what the view stands at: it is of another history, and stays unfit.
            Some(awaited) => {
                self.awaited = Some(awaited);
                return;
            }
            None => {}
        }
        let admitted = serde_json::from_slice(&entry.record.body())
            .map_err(|error| error.to_string())
            .and_then(|read: Entry| self.register.admit(read).map_err(|refused| refused.to_string()));
        match admitted {
            Ok(admitted) => {
                self.register.apply(admitted);
                self.last = Some(here);
            }
            Err(reason) => self.wrong = Some((entry.position, reason)),
        }
    }
}

fn record(admitted: &Admitted) -> Record {
    let mut nonce = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut nonce).expect("the system's random source works, or nothing does");
    let body = serde_json::to_vec(admitted.entry()).expect("an entry has string keys only");
    Record::new(Kind::Entry, &nonce, &[&body])
}

fn tree(instance: &InstanceId, key: SigningKey) -> Tree {
    let owner =
        Owner { instance: instance.clone(), member: "central-registry".into(), server: "central-registry".into() };
    Tree { owner, key: Arc::new(key) }
}

/// The registry's time: the clock's, but never below the last entry's, so that a clock set back opens nothing.
pub fn now(clock: Time, register: &Register) -> Time {
    clock.max(register.last())
}
