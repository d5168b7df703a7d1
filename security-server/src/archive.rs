//! Archives of the message log: each segment to which nothing is written any more is put into a directory or an S3-compatible
//! store, read back and compared, and noted in the audit log. It runs beside everything else and holds up nothing: while the store
//! is away, segments wait here, and an alarm says so.
//!
//! It never overwrites and never removes anything, here or there: an object of another content under a segment's name is an alarm,
//! and stays. What is encrypted is encrypted to recipients' keys, so that this server cannot read it afterwards.

mod commands;
mod reading;
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
pub use reading::{Listed, NotRead, Reading, verify};
use store::{NotOpened, Object, Place, Put, Store, Unavailable};

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
}

impl fmt::Display for Archiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, recipients) = (&self.place, self.encrypt_to.len());
        match (&self.place.endpoint, recipients) {
            (None, 0) => write!(f, "{to}, not encrypted"),
            (None, _) => write!(f, "{to}, encrypted to {recipients}"),
            (Some(endpoint), 0) => write!(f, "{to} at {endpoint}, not encrypted"),
            (Some(endpoint), _) => write!(f, "{to} at {endpoint}, encrypted to {recipients}"),
        }
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
        Ok(Settings { store: self.place.open(server)?, recipients })
    }
}

/// What an archive is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where.
    pub store: Store,
    /// For whom it is encrypted. None: it is not.
    pub recipients: Vec<Recipient>,
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
    waiting: u64,
    since: Option<Time>,
    failing: Option<String>,
    differs: Option<String>,
}

/// Why segments wait.
#[derive(Debug, thiserror::Error)]
pub enum NotArchived {
    /// The store.
    #[error(transparent)]
    Store(#[from] Unavailable),
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

impl Archive {
    pub fn new(settings: Settings, past: &mut Past) -> Self {
        let to = settings.store.to();
        let archived = past.archived.remove(&to).unwrap_or_default();
        let announced = past.archiving.remove(&to).unwrap_or_default();
        Self {
            settings,
            state: Mutex::new(State { archived, announced, ..State::default() }),
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
        wait = match archived {
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
    /// Archives every finished segment that is not archived yet. Returns how many were. One that differs from what is there is
    /// left, and those after it are archived all the same.
    pub async fn archive_segments(self: &Arc<Self>) -> Result<usize, NotArchived> {
        let Some(archive) = &self.archive else { return Ok(0) };
        let _passing = archive.passing.lock().await;
        let done = self.archive_each(archive).await;
        let failed =
            || metrics::counter!("causeway_archive_failures_total", "server" => self.id.to_string()).increment(1);
        let mut state = archive.state();
        match &done {
            Ok(_) => (state.failing, state.differs) = (None, None),
            Err(NotArchived::Differs(what)) => {
                failed();
                (state.failing, state.differs) = (None, Some(what.clone()));
            }
            Err(error) => {
                failed();
                state.failing = Some(error.to_string());
            }
        }
        done
    }

    async fn archive_each(self: &Arc<Self>, archive: &Archive) -> Result<usize, NotArchived> {
        let log = self.message_log.clone();
        let finished = tokio::task::spawn_blocking(move || log.finished_segments()).await??;
        let waiting: Vec<u64> = {
            let state = archive.state();
            finished.into_iter().filter(|number| !state.archived.contains_key(number)).collect()
        };
        self.note_waiting(archive, waiting.len());
        let (mut archived, mut differs) = (0, None);
        for number in waiting.iter().copied() {
            match self.archive_one(archive, number).await {
                Ok(()) => {
                    archived += 1;
                    metrics::counter!("causeway_archived_segments_total", "server" => self.id.to_string()).increment(1);
                    self.note_waiting(archive, waiting.len() - archived);
                }
                Err(NotArchived::Differs(what)) => _ = differs.get_or_insert(what),
                Err(error) => return Err(error),
            }
        }
        differs.map_or(Ok(archived), |what| Err(NotArchived::Differs(what)))
    }

    fn note_waiting(&self, archive: &Archive, waiting: usize) {
        let mut state = archive.state();
        state.waiting = waiting as u64;
        state.since = (waiting > 0).then(|| state.since.unwrap_or(self.clock.now()));
        metrics::gauge!("causeway_archive_segments_waiting", "server" => self.id.to_string()).set(waiting as f64);
    }

    /// Archives a segment: announced where it is encrypted, put where nothing is, read back, compared, noted. A crash between any
    /// two of these: the next attempt finds the object and knows it by its SHA-256, or finds none and puts it.
    async fn archive_one(self: &Arc<Self>, archive: &Archive, number: u64) -> Result<(), NotArchived> {
        let log = self.message_log.clone();
        let segment = tokio::task::spawn_blocking(move || log.finished_segment(number)).await??;
        let sha256 = Digest::of(&[&segment.bytes]);
        let store = &archive.settings.store;
        let sealed = match self.recognised(archive, number, &sha256).await? {
            Some(sealed) => sealed,
            None => {
                let (object, content) = self.object(archive, &segment, &sha256).await?;
                let wanted = Digest::of(&[&content]);
                // A crash before this returns: it is there whole or not at all.
                let put = store.put(&object, content).await?;
                let there = store.digest(&object).await?;
                if there != Some(wanted) {
                    return Err(NotArchived::Differs(match (put, there) {
                        (Put::Existed, Some(there)) => differs(store, &object, &there),
                        (_, Some(there)) => {
                            format!("{store}/{}: what is read back, {there}, is not what was written", object.name)
                        }
                        (_, None) => format!("{store}/{}: it was written, and is not there", object.name),
                    }));
                }
                object.sealed
            }
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
        tracing::info!(segment = number, archive = %store, "a segment of the message log is archived");
        Ok(())
    }

    /// What is there already, if it is this segment: whether it is encrypted.
    async fn recognised(&self, archive: &Archive, number: u64, sha256: &Digest) -> Result<Option<bool>, NotArchived> {
        let (store, mut found) = (&archive.settings.store, None);
        for sealed in [false, true] {
            let object = Object::of(number, sealed, 0);
            let Some(there) = store.digest(&object).await? else { continue };
            let is_ours = match sealed {
                false => there == *sha256,
                true => archive.state().announced.get(&number).is_some_and(|ours| ours.contains(&there.to_string())),
            };
            if !is_ours || found.replace(sealed).is_some() {
                return Err(NotArchived::Differs(differs(store, &object, &there)));
            }
        }
        Ok(found)
    }

    /// The object of a segment. One that is encrypted is announced first: afterwards nobody here can tell whose it is.
    async fn object(
        &self,
        archive: &Archive,
        segment: &Finished,
        sha256: &Digest,
    ) -> Result<(Object, Bytes), NotArchived> {
        let Settings { store, recipients } = &archive.settings;
        let (number, length) = (segment.number, segment.bytes.len() as u64);
        if recipients.is_empty() {
            return Ok((Object::of(number, false, length), segment.bytes.clone()));
        }
        let (about, recipients, content) = (self.about(), recipients.clone(), segment.clone());
        let sealed = tokio::task::spawn_blocking(move || sealed(&content, &recipients, about)).await?;
        let sealed = sealed.map_err(NotArchived::Encrypted)?;
        let object_sha256 = Digest::of(&[&sealed]).to_string();
        let (at, to, sha256) = (self.clock.now().as_millis(), store.to(), sha256.to_string());
        let noted = Noted::Archiving { at, to, segment: number, sha256, object_sha256: object_sha256.clone() };
        self.audit.note(&noted).await?;
        archive.state().announced.entry(number).or_default().insert(object_sha256);
        Ok((Object::of(number, true, sealed.len() as u64), sealed))
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
