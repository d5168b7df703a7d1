//! What this server trusts, on disk: the floor below which no version is ever taken again.
//!
//! ```text
//! anchor.json   the root that was handed over at joining
//! 57.0.pack     files of the configuration: all of one version, or what a later version changed
//! current       which of these count, each with its SHA-256, as `sha256sum --check` reads it; replaced by renaming
//! expired       the newest version that was seen to be past its validity: setting the clock back does not revive it
//! lock          held while a process uses the directory
//! ```
//!
//! The directory is not trusted to be right, only to be ours: everything is verified from the anchor on when it is read.
//! What cannot be read stops the server. There is no way from a lost or torn file back to the first use: only
//! [`Store::create`], which is joining, makes a store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prost::Message;
use proto::digest::Digest;
use proto::global_configuration::ledger::Signers;
use proto::global_configuration::update::{Anchor, Files, MAX_TOTAL_BYTES, Rejected, Trusted, lacking, update};
use proto::time::Time;
use proto::wire::registry::{File as WireFile, Version};

use super::{Current, Doubt};

const ANCHOR: &str = "anchor.json";
const CURRENT: &str = "current";
const CURRENT_NEW: &str = "current.new";
const EXPIRED: &str = "expired";
const EXPIRED_NEW: &str = "expired.new";
const LOCK: &str = "lock";
/// How the names of checkpoints end.
const CHECKPOINT: &str = ".checkpoint.json";
/// How often a store is read again that changed while it was copied.
const READ_AGAIN: usize = 16;
/// After so many packs the next one holds everything again, and the others go.
const MAX_PACKS: usize = 64;

/// Files of a store by name: the pointer and all that it names.
pub type Stored = BTreeMap<String, Bytes>;

/// The durable store, and what is in force.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    current: Arc<Current>,
    kept: Mutex<Kept>,
    _lock: File,
}

/// What the pointer says. The lock around it makes one change follow another.
#[derive(Debug)]
struct Kept {
    trusted: Trusted,
    anchor: Entry,
    packs: Vec<Entry>,
    /// What the file `expired` says; 0 where there is none.
    expired: u64,
}

/// A file that the pointer names.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    digest: Digest,
}

/// What became of files that were offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// They are in force now, as this version.
    InForce(u64),
    /// This version was in force already.
    Known(u64),
}

/// Why files that were offered are not in force.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// They are no next version.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// They could not be made durable, and so are not in force: a restart would go back behind them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no store, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was ever stored here.
    #[error("{}: this server has no global configuration; `security-server join` gives it its first one", .0.display())]
    NotJoined(PathBuf),
    /// Something is stored here.
    #[error("{}: there is a global configuration already, and joining again would forget what it guards against; \
             move the directory away first if that is what you want", .0.display())]
    Exists(PathBuf),
    /// Another process uses it.
    #[error("{}: another process uses this directory; stop it, one security server has one directory", .0.display())]
    InUse(PathBuf),
    /// What is stored cannot be trusted.
    #[error(
        "{}: {reason}, and an older configuration could be slipped under the server; put the \
         directory back from a copy made after the last change, or move it away and join again with a new invitation",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files that came with joining.
    #[error("the global configuration that came with joining is not taken: {0}; tell the registry's admins")]
    First(Rejected),
    /// Writing failed.
    #[error("{}: {error}: nothing of the new configuration is in force; check the disk", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Store {
    /// The first creation, which is part of joining. `anchor` is the root whose digest a person compared, `files` the
    /// whole configuration as the registry gave it. `directory` must hold no configuration yet.
    pub fn create(directory: &Path, anchor: Bytes, files: &Files, now: Time) -> Result<Store, StoreError> {
        fs::create_dir_all(directory).map_err(|error| write_error(directory, error))?;
        let lock = locked(directory)?;
        if directory.join(CURRENT).exists() {
            return Err(StoreError::Exists(directory.to_owned()));
        }
        let trusted =
            Anchor::read(anchor.clone()).and_then(|anchor| anchor.first(files, now)).map_err(StoreError::First)?;
        // A crash before the pointer is there leaves files that nothing names: joining again replaces them.
        let path = directory.join(ANCHOR);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&anchor)?;
            file.sync_all()
        });
        written.map_err(|error| write_error(&path, error))?;
        let anchor = Entry { name: ANCHOR.into(), digest: Digest::of(&[&anchor]) };
        let packs = vec![pack(directory, trusted.version(), trusted.files().iter())?];
        point(directory, &anchor, &packs)?;
        sync_directory(directory.parent().unwrap_or(directory))?;
        Ok(Self::holding(directory, lock, Kept { trusted, anchor, packs, expired: 0 }))
    }

    /// Takes up what was stored. That it expired meanwhile is no fault: the configuration itself says so.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        let pointer = directory.join(CURRENT);
        if !directory.join(ANCHOR).exists() && !pointer.exists() {
            return Err(StoreError::NotJoined(directory.to_owned()));
        }
        let lock = locked(directory)?;
        let kept = Kept { expired: expired(directory)?, ..load(directory, &|name| read(directory, name))? };
        remove_unnamed(directory, &kept.packs);
        Ok(Self::holding(directory, lock, kept))
    }

    /// What is stored, for whoever changes nothing: without the lock, and with a server perhaps at work on it.
    pub fn read(directory: &Path) -> Result<Trusted, StoreError> {
        if !directory.join(ANCHOR).exists() && !directory.join(CURRENT).exists() {
            return Err(StoreError::NotJoined(directory.to_owned()));
        }
        Self::copied(directory).map(|(_, trusted)| trusted)
    }

    /// What files with these names would make a store of: verified from their anchor on, as a start does it.
    pub fn check(place: &Path, files: &Stored) -> Result<Trusted, StoreError> {
        let missing = |name: &str| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"));
        let read = |name: &str| files.get(name).cloned().ok_or_else(|| missing(name));
        load(place, &|name| read(name).map_err(|error| damaged(&place.join(name), error.to_string())))
            .map(|kept| kept.trusted)
    }

    /// The files of the version in force, without the lock and beside a server that runs: the pointer may move on meanwhile,
    /// and the packs go that the new one does not name; then it is read again.
    pub fn copied(directory: &Path) -> Result<(Stored, Trusted), StoreError> {
        let mut left = READ_AGAIN;
        loop {
            let named = read(directory, CURRENT).and_then(|current| {
                let pointer = directory.join(CURRENT);
                let text = std::str::from_utf8(&current).map_err(|error| damaged(&pointer, error.to_string()))?;
                let entries = entries(text).map_err(|reason| damaged(&pointer, reason))?;
                let mut files = Stored::from([(CURRENT.to_owned(), current.clone())]);
                for entry in entries {
                    files.insert(entry.name.clone(), read(directory, &entry.name)?);
                }
                Ok(files)
            });
            match named.and_then(|files| Ok((Self::check(directory, &files)?, files))) {
                Ok((trusted, files)) => return Ok((files, trusted)),
                Err(StoreError::Damaged { .. }) if left > 0 => left -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn holding(directory: &Path, lock: File, kept: Kept) -> Store {
        let current = Arc::new(Current::new(kept.trusted.configuration().clone()));
        current.note_expired(kept.expired);
        Store { directory: directory.to_owned(), current, kept: Mutex::new(kept), _lock: lock }
    }

    /// What is in force, shared with the exchange.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// The files of the version in force, as they were published.
    pub fn files(&self) -> Files {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).trusted.files().clone()
    }

    /// The keys that sign checkpoints of the ledger.
    pub fn ledger_signers(&self) -> Result<Signers, Rejected> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).trusted.ledger_signers()
    }

    /// The root that was handed over at joining. Reads the disk.
    pub fn anchor(&self) -> Result<Bytes, StoreError> {
        let digest = self.kept.lock().unwrap_or_else(PoisonError::into_inner).anchor.digest;
        let path = self.directory.join(ANCHOR);
        let bytes = std::fs::read(&path).map_err(|error| damaged(&path, error.to_string()))?;
        match Digest::of(&[&bytes]) == digest {
            true => Ok(bytes.into()),
            false => Err(damaged(&path, format!("its bytes are not those that {CURRENT} names"))),
        }
    }

    /// The name of the root that would follow the newest one.
    pub fn next_root(&self) -> String {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).trusted.next_root()
    }

    /// The files that are to be fetched next of the version that `fetched` begins. None: [`Store::apply`] has all.
    pub fn lacking(&self, fetched: &Files, now: Time) -> Result<Vec<String>, Rejected> {
        // A version that comes into force meanwhile need not wait.
        let trusted = self.kept.lock().unwrap_or_else(PoisonError::into_inner).trusted.clone();
        lacking(&trusted, fetched, now)
    }

    /// Makes durable that the version in force was seen to be past its validity. Blocks on the disk, once a version.
    pub fn keep_that_it_expired(&self) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = self.current.expired();
        if expired > kept.expired {
            // A crash before this: the clock alone says so at the next start.
            self.write_expired(expired)?;
            kept.expired = expired;
        }
        Ok(())
    }

    /// Takes back that it expired, where the clock that said so was wrong.
    pub fn take_back_that_it_expired(&self) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A crash before this: it is expired still, and can be taken back again.
        self.write_expired(0)?;
        kept.expired = 0;
        self.current.forget_expired();
        Ok(())
    }

    fn write_expired(&self, version: u64) -> Result<(), StoreError> {
        replace(&self.directory, (EXPIRED, EXPIRED_NEW), &format!("{version}\n"))?;
        sync_directory(&self.directory)
    }

    /// Verifies the files on top of what is trusted, makes them durable, and puts them in force. Blocks on the disk.
    pub fn apply(&self, fetched: &Files, now: Time) -> Result<Applied, NotApplied> {
        let applied = self.take(fetched, now);
        match &applied {
            // What came into force said so itself, before anybody was told.
            Ok(Applied::InForce(_)) => {}
            Ok(Applied::Known(_)) => self.current.refused.store(None),
            Err(why) => {
                self.current.refused.store(Some(Arc::new(why.to_string())));
                if let NotApplied::Rejected(Rejected::Ledger(_) | Rejected::TwoOfOneName { .. }) = why {
                    // Rightly signed, it may prove that the registry shows two histories.
                    let is_checkpoint = |name: &&String| name.ends_with(CHECKPOINT);
                    let newest = fetched.keys().filter(is_checkpoint).max_by_key(|name| (name.len(), *name));
                    newest.into_iter().for_each(|name| self.current.doubt(Doubt::Refused(fetched[name].clone())));
                }
            }
        }
        applied
    }

    fn take(&self, fetched: &Files, now: Time) -> Result<Applied, NotApplied> {
        // What is behind the lock changes by one assignment each: a panic elsewhere leaves it whole.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let trusted = update(&kept.trusted, fetched, now)?;
        if trusted.version() == kept.trusted.version() && trusted.files() == kept.trusted.files() {
            return Ok(Applied::Known(trusted.version()));
        }
        let version = trusted.version();
        let whole = kept.packs.len() >= MAX_PACKS;
        let mut packs = if whole { Vec::new() } else { kept.packs.clone() };
        packs.push(if whole {
            pack(&self.directory, version, trusted.files().iter())?
        } else {
            pack(&self.directory, version, trusted.since(&kept.trusted))?
        });
        // A crash before this keeps the version before, and one after it has the new one, which nobody acted on yet.
        point(&self.directory, &kept.anchor, &packs)?;
        self.current.replace(trusted.configuration().clone());
        if let Some(lost) = trusted.configuration().ledger.as_ref().and_then(|standing| standing.lost) {
            metrics::counter!("causeway_configuration_ledger_lost_total").increment(1);
            tracing::error!(
                ledger = %lost.ledger, ended = lost.ended, held = lost.held, version,
                "THE REGISTRY HAS LOST THE END OF ITS LEDGER: it was put back from an older copy, and begins another ledger. What it \
                 published meanwhile is in none; its admins should have said so. If they did not, tell the holders of the root"
            );
            let held = kept.trusted.configuration().ledger.as_ref().and_then(|standing| standing.seen().last());
            held.into_iter().for_each(|seen| self.current.doubt(Doubt::Lost(version, seen.checkpoint.clone(), lost)));
        }
        kept.trusted = trusted;
        kept.packs = packs;
        if whole {
            remove_unnamed(&self.directory, &kept.packs);
        }
        Ok(Applied::InForce(version))
    }
}

/// Takes up what the files say that `read` gives.
fn load(directory: &Path, read: &dyn Fn(&str) -> Result<Bytes, StoreError>) -> Result<Kept, StoreError> {
    let pointer = directory.join(CURRENT);
    let text = read(CURRENT)?;
    let text = std::str::from_utf8(&text).map_err(|error| damaged(&pointer, error.to_string()))?;
    let mut packs = entries(text).map_err(|reason| damaged(&pointer, reason))?;
    if packs.first().is_none_or(|first| first.name != ANCHOR) {
        return Err(damaged(&pointer, format!("its first line does not name {ANCHOR}")));
    }
    let content = |entry: &Entry| {
        let bytes = read(&entry.name)?;
        if Digest::of(&[&bytes]) != entry.digest {
            let why = format!("its bytes are not those that {CURRENT} names");
            return Err(damaged(&directory.join(&entry.name), why));
        }
        Ok(bytes)
    };
    let anchor = packs.remove(0);
    let root = Anchor::read(content(&anchor)?).map_err(|error| damaged(&directory.join(ANCHOR), error.to_string()))?;
    let mut files = Files::new();
    for entry in &packs {
        let version = Version::decode(content(entry)?)
            .map_err(|error| damaged(&directory.join(&entry.name), error.to_string()))?;
        files.extend(version.files.into_iter().map(|file| (file.name, file.content)));
    }
    let trusted = Trusted::load(&root, &files).map_err(|error| damaged(&pointer, error.to_string()))?;
    Ok(Kept { trusted, anchor, packs, expired: 0 })
}

fn damaged(path: &Path, reason: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason }
}

/// Writes files under a name that no file had, synced before anything names it.
fn pack<'a>(
    directory: &Path,
    version: u64,
    files: impl Iterator<Item = (&'a String, &'a Bytes)>,
) -> Result<Entry, StoreError> {
    let files = files.map(|(name, content)| WireFile { name: name.clone(), content: content.clone() }).collect();
    let bytes = Version { version, files }.encode_to_vec();
    // After a failed sync the kernel believes that a file is clean: a name is never written to again.
    for attempt in 0u32.. {
        let name = format!("{version}.{attempt}.pack");
        let path = directory.join(&name);
        let written = match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => Err(error),
            Ok(mut file) => file.write_all(&bytes).and_then(|()| file.sync_all()),
        };
        written.map_err(|error| write_error(&path, error))?;
        return Ok(Entry { name, digest: Digest::of(&[&bytes]) });
    }
    Err(write_error(directory, io::ErrorKind::AlreadyExists.into()))
}

/// Makes these files the ones that count.
fn point(directory: &Path, anchor: &Entry, packs: &[Entry]) -> Result<(), StoreError> {
    // The names of the packs must be on disk before the pointer that holds them.
    sync_directory(directory)?;
    let line = |entry: &Entry| format!("{}  {}\n", entry.digest, entry.name);
    let text: String = std::iter::once(anchor).chain(packs).map(line).collect();
    replace(directory, (CURRENT, CURRENT_NEW), &text)?;
    sync_directory(directory)
}

/// Puts a file with this text in place of another, by way of one with a name of its own.
fn replace(directory: &Path, (name, new): (&str, &str), text: &str) -> Result<(), StoreError> {
    let path = directory.join(new);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&path, directory.join(name))).map_err(|error| write_error(&path, error))
}

/// The newest version that was seen to be past its validity; 0 where none was.
fn expired(directory: &Path) -> Result<u64, StoreError> {
    let path = directory.join(EXPIRED);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim_end().parse().map_err(|_| damaged(&path, format!("{text:?} is no version"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(damaged(&path, error.to_string())),
    }
}

fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let entry = |line: &str| {
        let (digest, name) = line.split_once("  ")?;
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        plain.then_some(Entry { name: name.to_owned(), digest: digest.parse().ok()? })
    };
    text.lines().map(|line| entry(line).ok_or_else(|| format!("{line:?} is no SHA-256 and file name"))).collect()
}

fn read(directory: &Path, name: &str) -> Result<Bytes, StoreError> {
    let path = directory.join(name);
    let length = fs::metadata(&path).map_err(|error| damaged(&path, error.to_string()))?.len();
    if length > 2 * MAX_TOTAL_BYTES as u64 {
        return Err(damaged(&path, format!("{length} bytes are more than any configuration has")));
    }
    fs::read(&path).map(Bytes::from).map_err(|error| damaged(&path, error.to_string()))
}

/// Removes packs of no use. That one stays behind is no harm: it is tried again at the next start.
fn remove_unnamed(directory: &Path, packs: &[Entry]) {
    let Ok(listed) = fs::read_dir(directory) else { return };
    for file in listed.flatten() {
        let name = file.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".pack") && !packs.iter().any(|entry| entry.name == name) {
            let _ = fs::remove_file(file.path());
        }
    }
}

fn locked(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let file = File::create(&path).map_err(|error| write_error(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(write_error(&path, error)),
    }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| write_error(directory, error))
}

fn write_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::Write { path: path.to_owned(), error }
}
