//! Archives of the message log: each segment to which nothing is written any more is put into a directory or an S3-compatible
//! store, read back and compared, and noted in the audit log. It runs beside everything else and holds up nothing: while the store
//! is away, segments wait here, and an alarm says so.
//!
//! In the archive it never overwrites and never removes anything: an object of another content under a segment's name is an alarm,
//! and stays. Here it removes what may be removed (`retention.rs`), and reads it back from there (`history.rs`). What is encrypted is encrypted to recipients' keys, so that this server cannot read it afterwards.

mod commands;
mod history;
mod reading;
mod retention;
pub mod store;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup::{About, MAX_RECIPIENTS, Program, Recipient, seal_to};
use bytes::Bytes;
use command_line::file_remedy;
use journal::{Commits, Finished, ReadError};
use proto::digest::Digest;
use proto::identifier::ServerId;
use proto::time::Time;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use commands::{Command, run};
pub use history::{ANSWERS_WITHIN, FETCHED, History};
pub use reading::{Listed, NotRead, Reading, verify};
pub use retention::{KeepLocal, MAX_REMOVED_IN_A_PASS, NotRemoved};
use store::{NotOpened, Object, Place, Put, Store, Unavailable, Version};

use crate::SecurityServer;
use crate::audit::{ArchivedTree, Noted, Past};
use crate::global_configuration::jittered;

/// How often it is looked whether a segment is finished.
pub const ARCHIVE_INTERVAL: Duration = Duration::from_secs(60);
/// The wait after a first failure; twice as long after each further one.
pub const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// A segment that waits for longer is an alarm.
pub const ALARM_AFTER: Duration = Duration::from_secs(3600);
/// The region that is named to a store, if none is configured.
pub const REGION: &str = "us-east-1";

/// `[archive]`, meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archiving {
    /// Where archives go.
    pub place: Place,
    /// Files with the recipients' public keys. None: they are not encrypted.
    pub encrypt_to: Vec<PathBuf>,
    /// For how long a segment that is archived stays here too. None: for ever.
    pub keep_local: Option<KeepLocal>,
}

impl fmt::Display for Archiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, recipients) = (&self.place, self.encrypt_to.len());
        match (&self.place.endpoint, recipients) {
            (None, 0) => write!(f, "{to}, not encrypted"),
            (None, _) => write!(f, "{to}, encrypted to {recipients}"),
            (Some(endpoint), 0) => write!(f, "{to} at {endpoint}, not encrypted"),
            (Some(endpoint), _) => write!(f, "{to} at {endpoint}, encrypted to {recipients}"),
        }?;
        self.keep_local.map_or(Ok(()), |keep| write!(f, ", kept here for {keep}"))
    }
}

/// Why nothing can be archived with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum NoArchive {
    /// The store.
    #[error(transparent)]
    Store(#[from] NotOpened),
    /// A recipient's key cannot be read.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "put the recipient's public key there"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is none.
    #[error("{} holds no public key of P-256 in PEM; make one as deploy/README.md says", .0.display())]
    Recipient(PathBuf),
}

impl Archiving {
    /// Most recipients.
    pub const MOST_RECIPIENTS: usize = MAX_RECIPIENTS;

    /// What a server is started with: credentials and recipients' keys read. Asks nobody.
    pub fn settings(&self, server: &ServerId, directory: &Path) -> Result<Settings, NoArchive> {
        let recipient = |file: &PathBuf| {
            let path = directory.join(file);
            let pem = std::fs::read(&path).map_err(|source| NoArchive::File { path: path.clone(), source })?;
            Recipient::from_pem(&pem).map_err(|_| NoArchive::Recipient(path))
        };
        let recipients = self.encrypt_to.iter().map(recipient).collect::<Result<_, _>>()?;
        let (keep_local, fetched) = (self.keep_local, Some(directory.join(FETCHED)));
        Ok(Settings { store: self.place.open(server)?, recipients, keep_local, fetched })
    }
}

/// What an archive is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where.
    pub store: Store,
    /// For whom it is encrypted. None: it is not.
    pub recipients: Vec<Recipient>,
    /// For how long a segment that is archived stays here too. None: for ever.
    pub keep_local: Option<KeepLocal>,
    /// Where an operator brings removed segments back to that this server cannot open.
    pub fetched: Option<PathBuf>,
}

/// How archiving goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveHealth {
    /// Finished segments that are in the archive, read back and the same.
    pub archived: u64,
    /// Finished segments that are not.
    pub waiting: u64,
    /// Since when some wait without a break, RFC 3339, as far as this run of the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<String>,
    /// Why, where the store did not do what it should the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// What is there in place of what should be: nothing of it was touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// Segments that are here, the one that is written to among them. 0 where nothing was looked at yet.
    #[serde(default)]
    pub here: u64,
    /// Segments that are in the archive only.
    #[serde(default)]
    pub removed: u64,
    /// For how many days segments stay here; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_for: Option<String>,
    /// Why the oldest stays, though it should have been removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The archive of a server that runs.
pub(crate) struct Archive {
    settings: Settings,
    state: Mutex<State>,
    /// One at a time: two would take each other's objects for somebody else's.
    passing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// SHA-256 of each segment that is there, by number, as the audit log has it.
    archived: BTreeMap<u64, String>,
    /// SHA-256 of encrypted objects that were announced: they are ours, whoever can read them.
    announced: BTreeMap<u64, BTreeSet<String>>,
    /// The same of all that ever were.
    sealed: BTreeMap<u64, BTreeSet<String>>,
    kept: retention::Kept,
    /// Objects that differed, by their names, as they were then: they are not read again until they changed.
    differed: BTreeMap<String, (Version, Digest)>,
    /// An encrypted object that was announced and is not there yet: the next attempt puts the same, and announces nothing.
    ready: Option<Ready>,
    waiting: u64,
    since: Option<Time>,
    failing: Option<String>,
    differs: Option<String>,
}

/// A segment as it is put.
#[derive(Clone)]
struct Ready {
    object: Object,
    content: Bytes,
    sha256: Digest,
}

/// Why segments wait.
#[derive(Debug, thiserror::Error)]
pub enum NotArchived {
    /// The store.
    #[error(transparent)]
    Store(Unavailable),
    /// The message log cannot be read.
    #[error("the message log: {0}")]
    Log(#[from] ReadError),
    /// The audit log cannot say so.
    #[error("the audit log: {0}")]
    Audit(#[from] journal::Ended),
    /// There is something else under its name.
    #[error("{0}")]
    Differs(String),
    /// It could not be encrypted.
    #[error("a segment cannot be encrypted: {0}")]
    Encrypted(std::io::Error),
    /// A task.
    #[error("it ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<Unavailable> for NotArchived {
    fn from(error: Unavailable) -> Self {
        match error {
            // Nobody here wrote that: it is of one segment, and says nothing of the others.
            Unavailable::TooLong(_) => Self::Differs(error.to_string()),
            Unavailable::Failed { .. } | Unavailable::Slow(_) => Self::Store(error),
        }
    }
}

impl NotArchived {
    /// Whether the next segment would end as this one did.
    fn is_of_all(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Audit(_))
    }
}

/// What one look at every segment came to.
#[derive(Default)]
struct Pass {
    archived: usize,
    /// The first that differs.
    differs: Option<String>,
    /// The first error that is none of what is there.
    failed: Option<NotArchived>,
    /// Whether it ended before the last segment.
    is_cut: bool,
}

impl Archive {
    pub fn new(settings: Settings, past: &mut Past) -> Self {
        let to = settings.store.to();
        let archived = past.archived.remove(&to).unwrap_or_default();
        let announced = past.archiving.remove(&to).unwrap_or_default();
        let sealed = past.sealed.remove(&to).unwrap_or_default();
        Self {
            settings,
            state: Mutex::new(State { archived, announced, sealed, ..State::default() }),
            passing: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> ArchiveHealth {
        let state = self.state();
        ArchiveHealth {
            archived: state.archived.len() as u64,
            waiting: state.waiting,
            waiting_since: state.since.map(|since| since.to_string()),
            failing: state.failing.clone(),
            differs: state.differs.clone(),
            here: state.kept.here,
            removed: state.kept.removed,
            kept_for: self.settings.keep_local.map(|keep| keep.to_string()),
            held: state.kept.held.as_ref().map(|(why, _)| why.clone()),
        }
    }

    /// Whether segments wait for so long that somebody should be told.
    pub fn is_late(&self, now: Time) -> bool {
        self.state().since.is_some_and(|since| since < now && now.distance(since) > ALARM_AFTER)
    }

    /// Whether something else is there under a segment's name.
    pub fn differs(&self) -> bool {
        self.state().differs.is_some()
    }
}

/// Archives again and again, until the last.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    if server.archive.is_none() {
        return;
    }
    let mut wait = FIRST_WAIT;
    loop {
        tokio::select! {
            () = last.cancelled() => return,
            () = tokio::time::sleep(jittered(wait)) => {}
        }
        let archived = tokio::select! {
            () = last.cancelled() => return,
            archived = server.archive_segments() => archived,
        };
        let removed = tokio::select! {
            () = last.cancelled() => return,
            removed = server.remove_segments() => removed,
        };
        let more = match removed {
            Ok(removed) => removed == MAX_REMOVED_IN_A_PASS,
            Err(error) => {
                tracing::warn!(%error, "a segment of the message log is not removed; trying again");
                false
            }
        };
        wait = match archived {
            Ok(_) if more => FIRST_WAIT,
            Ok(_) => ARCHIVE_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "segments of the message log are not archived; trying again");
                if wait == ARCHIVE_INTERVAL { FIRST_WAIT } else { longer(wait) }
            }
        };
    }
}

/// The wait after this one.
fn longer(wait: Duration) -> Duration {
    (wait * 2).min(LONGEST_WAIT)
}

impl SecurityServer {
    /// Archives every finished segment that is not archived yet. Returns how many were. One that differs from what is there, or
    /// cannot be read here, is left, and those after it are archived all the same.
    pub async fn archive_segments(self: &Arc<Self>) -> Result<usize, NotArchived> {
        let Some(archive) = &self.archive else { return Ok(0) };
        let _passing = archive.passing.lock().await;
        let pass = self.archive_each(archive).await;
        if pass.failed.is_some() || pass.differs.is_some() {
            metrics::counter!("causeway_archive_failures_total", "server" => self.id.to_string()).increment(1);
        }
        let mut state = archive.state();
        state.failing = pass.failed.as_ref().map(ToString::to_string);
        if !pass.is_cut {
            state.differs.clone_from(&pass.differs);
        }
        match (pass.failed, pass.differs) {
            (Some(error), _) => Err(error),
            (None, Some(what)) => Err(NotArchived::Differs(what)),
            (None, None) => Ok(pass.archived),
        }
    }

    async fn archive_each(self: &Arc<Self>, archive: &Archive) -> Pass {
        let mut pass = Pass::default();
        let waiting = match self.waiting_segments(archive).await {
            Ok(waiting) => waiting,
            Err(error) => {
                // How many wait nobody knows, and that they do, an alarm says in time.
                archive.state().since.get_or_insert(self.clock.now());
                (pass.failed, pass.is_cut) = (Some(error), true);
                return pass;
            }
        };
        self.note_waiting(archive, waiting.len());
        for number in waiting.iter().copied() {
            match self.archive_one(archive, number).await {
                Ok(()) => {
                    pass.archived += 1;
                    metrics::counter!("causeway_archived_segments_total", "server" => self.id.to_string()).increment(1);
                    self.note_waiting(archive, waiting.len() - pass.archived);
                }
                Err(NotArchived::Differs(what)) => {
                    // Said here already: what comes after may end this look.
                    archive.state().differs = Some(pass.differs.get_or_insert(what).clone());
                    // What was put is gone again: so would be the next, and each would be announced.
                    if archive.state().ready.as_ref().is_some_and(|ready| ready.object.segment == Some(number)) {
                        pass.is_cut = true;
                        return pass;
                    }
                }
                Err(error) => {
                    pass.is_cut = error.is_of_all();
                    if pass.is_cut {
                        pass.failed = Some(error);
                        return pass;
                    }
                    pass.failed.get_or_insert(error);
                }
            }
        }
        pass
    }

    async fn waiting_segments(&self, archive: &Archive) -> Result<Vec<u64>, NotArchived> {
        let log = self.message_log.clone();
        let finished = tokio::task::spawn_blocking(move || log.finished_segments()).await??;
        let state = archive.state();
        Ok(finished.into_iter().filter(|number| !state.archived.contains_key(number)).collect())
    }

    fn note_waiting(&self, archive: &Archive, waiting: usize) {
        let mut state = archive.state();
        state.waiting = waiting as u64;
        state.since = (waiting > 0).then(|| state.since.unwrap_or(self.clock.now()));
        metrics::gauge!("causeway_archive_segments_waiting", "server" => self.id.to_string()).set(waiting as f64);
    }

    /// Archives a segment: announced where it is encrypted, put where nothing is, read back, compared, noted. A crash between any
    /// two of these: the next attempt finds the object and knows it by its SHA-256, or finds none and puts it.
    async fn archive_one(&self, archive: &Archive, number: u64) -> Result<(), NotArchived> {
        let log = self.message_log.clone();
        let read = move || {
            let segment = log.finished_segment(number)?;
            let sha256 = Digest::of(&[&segment.bytes]);
            Ok::<_, ReadError>((segment, sha256))
        };
        let (segment, sha256) = tokio::task::spawn_blocking(read).await??;
        let store = &archive.settings.store;
        if !archive.state().archived.is_empty() {
            store.is_begun().await?;
        }
        let sealed = match self.recognised(archive, number, &sha256).await? {
            Some(sealed) => sealed,
            None => self.put(archive, &segment, sha256).await?,
        };
        let tree =
            |commits: &Commits| ArchivedTree { tree: commits.tree.to_string(), from: commits.from, to: commits.to };
        let noted = Noted::Archived {
            at: self.clock.now().as_millis(),
            to: store.to(),
            segment: number,
            bytes: segment.bytes.len() as u64,
            sha256: sha256.to_string(),
            encrypted: sealed,
            trees: segment.trees.iter().map(tree).collect(),
        };
        // A crash before this is durable: the object is recognised, and this is noted then.
        self.audit.note(&noted).await?;
        let mut state = archive.state();
        state.archived.insert(number, sha256.to_string());
        state.announced.remove(&number);
        state.ready.take_if(|ready| ready.object.segment == Some(number));
        for is_sealed in [false, true] {
            state.differed.remove(&Object::of(number, is_sealed, 0).name);
        }
        tracing::info!(segment = number, archive = %store, "a segment of the message log is archived");
        Ok(())
    }

    /// What is there already, if it is this segment: whether it is encrypted.
    async fn recognised(&self, archive: &Archive, number: u64, sha256: &Digest) -> Result<Option<bool>, NotArchived> {
        let (store, mut found) = (&archive.settings.store, None);
        for sealed in [false, true] {
            let object = Object::of(number, sealed, 0);
            let Some(there) = self.there(archive, &object).await? else { continue };
            let is_ours = match sealed {
                false => there == *sha256,
                true => archive.state().announced.get(&number).is_some_and(|ours| ours.contains(&there.to_string())),
            };
            if !is_ours || found.replace(sealed).is_some() {
                archive.state().ready.take_if(|ready| ready.object.segment == Some(number));
                return Err(NotArchived::Differs(differs(store, &object, &there)));
            }
        }
        Ok(found)
    }

    /// What is there under this name, read to its end. What differed once is read again only when it changed.
    async fn there(&self, archive: &Archive, object: &Object) -> Result<Option<Digest>, NotArchived> {
        let store = &archive.settings.store;
        let known = archive.state().differed.get(&object.name).cloned();
        if let Some((version, digest)) = known
            && store.version(object).await? == Some(version)
        {
            return Ok(Some(digest));
        }
        let Some((digest, version)) = store.digest(object).await? else {
            archive.state().differed.remove(&object.name);
            return Ok(None);
        };
        archive.state().differed.insert(object.name.clone(), (version, digest));
        Ok(Some(digest))
    }

    /// Puts a segment where nothing is, and reads back what was put: whether it is encrypted.
    async fn put(&self, archive: &Archive, segment: &Finished, sha256: Digest) -> Result<bool, NotArchived> {
        let store = &archive.settings.store;
        let Ready { object, content, sha256: wanted } = self.object(archive, segment, sha256).await?;
        // A crash before this returns: it is there whole or not at all.
        let put = store.put(&object, content).await?;
        let there = store.digest(&object).await?.map(|(digest, _)| digest);
        if there != Some(wanted) {
            if there.is_some() {
                archive.state().ready = None;
            }
            return Err(NotArchived::Differs(match (put, there) {
                (Put::Existed, Some(there)) => differs(store, &object, &there),
                (_, Some(there)) => {
                    format!("{store}/{}: what is read back, {there}, is not what was written", object.name)
                }
                (_, None) => format!("{store}/{}: it was written, and is not there", object.name),
            }));
        }
        Ok(object.sealed)
    }

    /// The object of a segment. One that is encrypted is announced first: afterwards nobody here can tell whose it is. While
    /// this process lives it is encrypted and announced once, however often it is put.
    async fn object(&self, archive: &Archive, segment: &Finished, sha256: Digest) -> Result<Ready, NotArchived> {
        let Settings { store, recipients, .. } = &archive.settings;
        let (number, length) = (segment.number, segment.bytes.len() as u64);
        if recipients.is_empty() {
            return Ok(Ready { object: Object::of(number, false, length), content: segment.bytes.clone(), sha256 });
        }
        if let Some(ready) = archive.state().ready.clone().filter(|ready| ready.object.segment == Some(number)) {
            return Ok(ready);
        }
        let (about, recipients, content) = (self.about(), recipients.clone(), segment.clone());
        let seal = move || {
            let content = sealed(&content, &recipients, about)?;
            let sha256 = Digest::of(&[&content]);
            Ok::<_, std::io::Error>((content, sha256))
        };
        let (content, wanted) = tokio::task::spawn_blocking(seal).await?.map_err(NotArchived::Encrypted)?;
        let object_sha256 = wanted.to_string();
        let (at, to, sha256) = (self.clock.now().as_millis(), store.to(), sha256.to_string());
        let noted = Noted::Archiving { at, to, segment: number, sha256, object_sha256: object_sha256.clone() };
        // A crash after this: the object is not put, and another is announced.
        self.audit.note(&noted).await?;
        let ready = Ready { object: Object::of(number, true, content.len() as u64), content, sha256: wanted };
        let mut state = archive.state();
        state.announced.entry(number).or_default().insert(object_sha256.clone());
        state.sealed.entry(number).or_default().insert(object_sha256);
        state.ready = Some(ready.clone());
        Ok(ready)
    }

    fn about(&self) -> About {
        About {
            format: backup::FORMAT.into(),
            program: Program::SecurityServer,
            version: env!("CARGO_PKG_VERSION").into(),
            instance: self.id.owner().instance(),
            server: self.id.to_string(),
            made: self.clock.now().as_millis(),
            signing_keys: false,
            complete: false,
        }
    }
}

fn differs(store: &Store, object: &Object, there: &Digest) -> String {
    format!("{store}/{}: something else is there under this name, sha256 {there}; it was left as it is", object.name)
}

fn sealed(segment: &Finished, recipients: &[Recipient], about: About) -> std::io::Result<Bytes> {
    let mut file = seal_to(Vec::with_capacity(segment.bytes.len() + (1 << 20)), recipients, about)?;
    let name = reading::part_name(segment.number);
    file.part(&name, segment.bytes.len() as u64, &mut &segment.bytes[..])?;
    Ok(file.finish()?.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_spaced_further_and_further_up_to_a_bound() {
        let waits: Vec<_> = std::iter::successors(Some(FIRST_WAIT), |wait| Some(longer(*wait))).take(12).collect();
        assert!(waits.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(LONGEST_WAIT)), "{waits:?}");
        assert_eq!(waits.last(), Some(&LONGEST_WAIT));
        assert!(!waits.contains(&ARCHIVE_INTERVAL), "the wait after a success is told from those after failures");
    }
}
