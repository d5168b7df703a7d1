//! An archive, read without trusting it: listed, brought back, and verified by the same code as the message log itself. What the
//! audit log says was archived is held against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use backup::{NotABackup, PartName, RecipientKey, open_with};
use bytes::Bytes;
use command_line::{Exit, file_remedy};
use journal::disk::{File, Lock};
use journal::{Damage, Directory, Disk, Finished, ReadError, Space, segment_name, segment_number};
use keystore::KeyError;
use proto::digest::Digest;
use proto::global_configuration::Configuration as Registered;
use serde::Serialize;
use tokio::runtime::Handle;

use super::store::{MAX_OBJECT_BYTES, NotOpened, Object, Store, Unavailable};
use crate::audit::archived;
use crate::config::{Configuration, NoConfiguration};
use crate::join::{AUDIT_LOG, MESSAGE_LOG};
use crate::log_keys::LogKeys;
use crate::whole_log::{Fault, Found, NotVerified, verify_as_far_as_it_is_read};

/// Why an archive was not read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// It names none.
    #[error("{} names no archive; write [archive] into it, as deploy/security-server.toml explains it", .0.display())]
    None(PathBuf),
    /// Its credentials.
    #[error(transparent)]
    NotOpened(#[from] NotOpened),
    /// The store.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// The audit log.
    #[error("the audit log: {0}")]
    Audit(ReadError),
    /// The key of a recipient.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is no recipient's.
    #[error("{} holds no key that could be a recipient's; give the private key to one under encrypt_to", .0.display())]
    NotAKey(PathBuf),
    /// There is no key.
    #[error("{0} is encrypted; give a recipient's key: --key FILE")]
    Encrypted(String),
    /// It is not what it should be.
    #[error("{place}: {what}; keep it as it is, and compare it with a backup")]
    Fault {
        /// Which.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// There was such a segment.
    #[error("{0}: the audit log says that it was archived, and it is not there; ask who runs the store")]
    Gone(String),
    /// There is no such segment.
    #[error("{0} is not in the archive; `security-server archive list` shows what is")]
    Missing(String),
    /// Another content is there.
    #[error("{} is there with another content; give another directory", .0.display())]
    Other(PathBuf),
    /// A file.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "check the path, and the space on its disk"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log in it.
    #[error(transparent)]
    NotVerified(#[from] NotVerified),
}

impl NotRead {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(error) => error.exit(),
            Self::None(_) | Self::NotOpened(_) | Self::Key(_) | Self::NotAKey(_) | Self::Encrypted(_) => Exit::Usage,
            Self::Fault { .. } | Self::Gone(_) => Exit::EvidenceInvalid,
            Self::Missing(_) => Exit::NotFound,
            Self::Other(_) => Exit::Refused,
            Self::NotVerified(error) => error.exit(),
            Self::Store(_) | Self::Audit(_) | Self::File { .. } => Exit::Failed,
        }
    }
}

/// A segment of an archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Listed {
    /// Its number.
    pub segment: u64,
    /// The name of its object.
    pub object: String,
    /// The object's length; none where it is not there.
    pub bytes: Option<u64>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// SHA-256 of the segment, as the audit log has it.
    pub sha256: Option<String>,
}

/// An archive that is read: a disk to which nothing can be written.
pub struct Reading {
    store: Store,
    handle: Handle,
    key: Option<RecipientKey>,
    objects: Vec<Object>,
    /// SHA-256 of each segment that was archived, as the audit log has it.
    noted: BTreeMap<u64, String>,
    faults: Mutex<Vec<Fault>>,
}

/// The name of a segment within its encrypted object.
pub(super) fn part_name(number: u64) -> PartName {
    format!("{MESSAGE_LOG}/{}", segment_name(number)).parse().expect("it is a name like any other")
}

impl Reading {
    /// Lists the archive of the server with this configuration file.
    pub async fn begin(config: &Path, key: Option<RecipientKey>) -> Result<(Self, Configuration), NotRead> {
        let configuration = Configuration::read(config)?;
        let archiving = configuration.archive.as_ref().ok_or_else(|| NotRead::None(config.to_owned()))?;
        let store = archiving.place.open(&configuration.server)?;
        let audit = Directory(configuration.directory.join(AUDIT_LOG));
        let noted = archived(&audit, &store.to()).map_err(NotRead::Audit)?;
        Ok((Self::of(store, key, noted).await?, configuration))
    }

    /// The same, of this store, held against these digests.
    pub async fn of(store: Store, key: Option<RecipientKey>, noted: BTreeMap<u64, String>) -> Result<Self, NotRead> {
        let objects = store.list().await?;
        Ok(Self { store, handle: Handle::current(), key, objects, noted, faults: Mutex::default() })
    }

    /// What is there, and what should be.
    pub fn listed(&self) -> Vec<Listed> {
        let there = self.objects.iter().filter_map(|object| {
            let segment = object.segment?;
            let (object, bytes, encrypted) = (object.name.clone(), Some(object.bytes), object.sealed);
            Some(Listed { segment, object, bytes, encrypted, sha256: self.noted.get(&segment).cloned() })
        });
        let numbers: BTreeSet<u64> = self.objects.iter().filter_map(|object| object.segment).collect();
        let missing =
            self.noted.iter().filter(|(number, _)| !numbers.contains(number)).map(|(number, sha256)| Listed {
                segment: *number,
                object: segment_name(*number),
                bytes: None,
                encrypted: false,
                sha256: Some(sha256.clone()),
            });
        let mut listed: Vec<_> = there.chain(missing).collect();
        listed.sort_by(|one, other| (one.segment, &one.object).cmp(&(other.segment, &other.object)));
        listed
    }

    /// What can be told without opening anything: what is missing, there twice, or no segment.
    fn look(&self) -> Vec<Fault> {
        let fault = |name: &str, what: &str| Fault { place: format!("{}/{name}", self.store), what: what.to_owned() };
        let mut faults = Vec::new();
        for object in self.objects.iter().filter(|object| object.segment.is_none()) {
            faults.push(fault(&object.name, "this is no segment's name"));
        }
        for pair in self.objects.windows(2) {
            if pair[0].segment.is_some() && pair[0].segment == pair[1].segment {
                faults.push(fault(&pair[1].name, "the segment is there twice"));
            }
        }
        for listed in self.listed().iter().filter(|listed| listed.bytes.is_none()) {
            faults.push(fault(&listed.object, "the audit log says that it was archived, and it is not there"));
        }
        faults
    }

    /// A segment's bytes as they were archived. Blocks.
    pub fn segment(&self, number: u64) -> Result<Bytes, NotRead> {
        let object = self.objects.iter().find(|object| object.segment == Some(number));
        let object = object.ok_or_else(|| self.missing(number))?;
        let place = format!("{}/{}", self.store, object.name);
        let got = self.handle.block_on(self.store.get(object)).map_err(|error| match error {
            Unavailable::TooLong(_) => {
                NotRead::Fault { place: place.clone(), what: "it is longer than any segment".into() }
            }
            error => error.into(),
        })?;
        let content = got.ok_or_else(|| self.missing(number))?;
        let content = match object.sealed {
            false => content,
            true => self.opened(number, &place, &content)?,
        };
        let digest = Digest::of(&[&content]).to_string();
        if self.noted.get(&number).is_some_and(|noted| *noted != digest) {
            // What else is wrong with it, its own checks say, and where.
            self.note(Fault { place, what: "it is not what the audit log says was archived".into() });
        }
        Ok(content)
    }

    /// Why it is not read: it is not there.
    pub(super) fn missing(&self, number: u64) -> NotRead {
        let place = format!("{}/{}", self.store, segment_name(number));
        if self.is_noted(number) { NotRead::Gone(place) } else { NotRead::Missing(place) }
    }

    fn opened(&self, number: u64, place: &str, content: &[u8]) -> Result<Bytes, NotRead> {
        let key = self.key.as_ref().ok_or_else(|| NotRead::Encrypted(place.to_owned()))?;
        let open = || {
            let mut file = open_with(content, key)?;
            let part = file.part()?.filter(|part| *part.name() == part_name(number));
            let part = part.ok_or_else(|| NotABackup::Foreign(format!("it does not hold {}", part_name(number))))?;
            let bytes = part.whole(MAX_OBJECT_BYTES)?;
            match file.part()? {
                None => Ok(bytes),
                Some(more) => Err(NotABackup::Foreign(format!("it holds {} too", more.name()))),
            }
        };
        open().map_err(|error: NotABackup| NotRead::Fault { place: place.to_owned(), what: in_a_line(&error) })
    }

    fn note(&self, fault: Fault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    /// Writes a segment into a directory, checked: whole or not at all. Blocks.
    pub fn fetch(&self, number: u64, directory: &Path) -> Result<u64, NotRead> {
        let content = self.segment(number)?;
        let wrong = |fault: &Fault| NotRead::Fault { place: fault.place.clone(), what: fault.what.clone() };
        let noted = self.faults.lock().unwrap_or_else(PoisonError::into_inner).last().map(wrong);
        let checked = Finished::check(&self.store.to_string(), number, &content);
        checked.map_err(|Damage { file, offset, what }| NotRead::Fault {
            place: format!("{file}, offset {offset}"),
            what: what.to_owned(),
        })?;
        if let Some(noted) = noted {
            return Err(noted);
        }
        let path = directory.join(segment_name(number));
        if path.exists() {
            let there = fs::read(&path).map_err(|source| NotRead::File { path: path.clone(), source })?;
            return if there == content { Ok(content.len() as u64) } else { Err(NotRead::Other(path)) };
        }
        put_whole(&path, &content).map_err(|source| NotRead::File { path, source })?;
        Ok(content.len() as u64)
    }

    /// Numbers of the segments that are there, within these bounds.
    pub fn numbers(&self, from: u64, to: u64) -> BTreeSet<u64> {
        self.objects.iter().filter_map(|object| object.segment).filter(|number| (from..=to).contains(number)).collect()
    }

    /// Numbers of the segments that the audit log says were archived, within these bounds, and that are not there.
    pub fn gone(&self, from: u64, to: u64) -> BTreeSet<u64> {
        let there = self.numbers(from, to);
        self.noted.keys().copied().filter(|number| (from..=to).contains(number) && !there.contains(number)).collect()
    }

    /// Whether the audit log says that this segment was archived.
    pub fn is_noted(&self, number: u64) -> bool {
        self.noted.contains_key(&number)
    }

    /// Where it is.
    pub fn place(&self) -> &Store {
        &self.store
    }
}

/// As a segment comes into being (proto/journal/FORMAT.md 1.3): a crash before the name leaves a file that is never read.
fn put_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let new = path.with_extension("segment.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(directory)?.sync_all()
}

fn in_a_line(error: &dyn fmt::Display) -> String {
    error.to_string().split("; ").next().unwrap_or_default().to_owned()
}

/// Verifies a whole archive: each segment, the chain of commits over all of them, every signature, every record. Blocks.
pub fn verify(reading: &Reading, keys: &LogKeys, registered: &Registered) -> Result<Found, NotRead> {
    if let Some(sealed) = reading.objects.iter().find(|object| object.sealed && reading.key.is_none()) {
        return Err(NotRead::Encrypted(format!("{}/{}", reading.store, sealed.name)));
    }
    let faults = reading.look();
    let (mut found, failed) = verify_as_far_as_it_is_read(reading, keys, registered);
    let mut told = std::mem::take(&mut *reading.faults.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(error) = failed {
        if told.is_empty() && faults.is_empty() && found.faults.is_empty() {
            return Err(error.into());
        }
        // A segment that cannot be opened at all is a fault of the archive, and named. Where it is the store, what was found before
        // is told all the same.
        if told.is_empty() {
            told.push(Fault { place: reading.store.to_string(), what: format!("it was not read to its end: {error}") });
        }
        // First: what else is wrong may follow from it.
        found.faults.splice(0..0, told.drain(..));
    }
    if found.journal.torn_bytes > 0 {
        let last = reading.objects.iter().rev().find(|object| object.segment.is_some());
        let place = format!("{}/{}", reading.store, last.map_or("", |object| &object.name));
        // First: what else is wrong may follow from it.
        found.faults.insert(0, Fault { place, what: "it is finished, and its end cannot be read".into() });
    }
    found.faults.extend(told);
    found.faults.extend(faults);
    Ok(found)
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

fn never() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "an archive that is read is not written")
}

impl Disk for Reading {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        Err(never())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let numbers: BTreeSet<u64> = self.objects.iter().filter_map(|object| object.segment).collect();
        Ok(numbers.into_iter().map(segment_name).collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let number = segment_number(name).ok_or_else(never)?;
        match self.segment(number) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => {
                if let NotRead::Fault { place, what } = &error {
                    self.note(Fault { place: place.clone(), what: what.clone() });
                }
                Err(io::Error::other(error.to_string()))
            }
        }
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn File>> {
        Err(never())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(never())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(never())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Err(never())
    }

    fn space(&self) -> io::Result<Space> {
        Err(never())
    }
}
