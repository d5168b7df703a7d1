//! A backup of this server: made beside a server that runs or of one that is stopped, verified, and put back into a
//! directory of its own. `proto/backup/FORMAT.md` says how the file looks.
//!
//! What is in it: the configuration file with bindings, services and the digests of clients' tokens; certificates; the
//! authentication key, encrypted as it is on disk; the secret under which people are found in the log, and what the fields of our
//! listed services mean; the global configuration; the audit log; the message log. What is never
//! in it: the operators' token, which the next start makes anew; the index, which is built again; the keys of payloads that are
//! kept, so that what is erased is in no backup. The signing key is in it
//! only where that was asked for: whoever has it and its passphrase speaks for the member.

mod commands;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup::{About, Aside, Manifest, NewFile, NotABackup, NotRestored, PartName, Program, Reader, Writer};
use bytes::Bytes;
use command_line::{Exit, file_remedy};
use journal::{Directory, Disk, NotCopied, Remains, Segments, Verified, Verifier, is_remains_name, remains_name};
use proto::global_configuration::Configuration as Global;
use proto::global_configuration::update::MAX_TOTAL_BYTES;
use proto::identifier::ServerId;
use proto::record::Kind;
use proto::time::Time;
use serde_json::Value;

pub use commands::{Command, run};

use crate::audit::{Noted, unproven};
use crate::clock::Clock;
use crate::config::{Configuration, NoConfiguration};
use crate::global_configuration::{Store, StoreError, Stored};
use crate::join::{AUDIT_LOG, CERTIFICATES, CONFIGURATION_FILE, GLOBAL_CONFIGURATION, MESSAGE_LOG};
use crate::keys::{KEYS, Passphrase};
use crate::listen::operators::BackingUp;
use crate::log_keys::{self, LogKeys, MAX_CERTIFICATES_BYTES};
use crate::operate::{Failed, Operator};
use crate::subjects::{self, MAX_SERVICES_BYTES, SECRET, SERVICES, SUBJECTS};

/// Longest configuration file.
const MAX_CONFIGURATION_BYTES: u64 = 1 << 20;
/// Longest segment that is read: a full one, its last batch and its header stay below it.
const MAX_SEGMENT_BYTES: u64 = 256 << 20;
/// Segments of the message log in a backup that is to be small: the last says all that a start has to know, and the one
/// before it most of what may still be open.
const NEWEST: usize = 2;

/// What a backup is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The signing keys too.
    pub signing_keys: bool,
    /// The whole message log, or only its newest segments.
    pub whole_log: bool,
}

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The running server was not told.
    #[error("the server runs, and what copies it is noted in its audit log first: {0}")]
    NotNoted(Failed),
    /// A log.
    #[error("{0}: {1}")]
    Log(&'static str, NotCopied),
    /// The global configuration.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "check the path, and the space on its disk"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no backup that holds.
    #[error("{}: {why}", .path.display())]
    Backup {
        /// Which.
        path: PathBuf,
        /// Why.
        why: NotABackup,
    },
    /// It is another server's.
    #[error("{}: it is a backup of {found}, not of {wanted}; give the backup of that server", .path.display())]
    OtherServer {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// Nothing was put back.
    #[error(transparent)]
    NotRestored(#[from] NotRestored),
}

impl BackupError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(error) => error.exit(),
            Self::NotNoted(failed) => failed.exit(),
            Self::OtherServer { .. } | Self::NotRestored(NotRestored::NotEmpty(_)) => Exit::Refused,
            Self::Log(_, NotCopied::Unreadable(journal::ReadError::Damaged(_) | journal::ReadError::Missing(_))) => {
                Exit::CheckFailed
            }
            Self::Backup { why: NotABackup::Unreadable(_), .. } => Exit::Usage,
            Self::Backup { .. } | Self::Store(_) => Exit::CheckFailed,
            Self::Log(..) | Self::File { .. } | Self::NotRestored(_) => Exit::Failed,
        }
    }
}

/// What was put into a backup, or would be.
#[derive(Clone, Debug)]
pub struct Made {
    /// What it says of itself.
    pub about: About,
    /// Each part and its length.
    pub parts: Vec<(PartName, u64)>,
    /// SHA-256 of the manifest; none where nothing was written.
    pub manifest: Option<String>,
}

/// Makes a backup of the server with this configuration file. A server that runs is told first, so that its audit log says
/// so, the copy of it in the backup included.
pub async fn create(
    config: &Path,
    to: &Path,
    passphrase: &Passphrase,
    wanted: Wanted,
    clock: &Clock,
) -> Result<Made, BackupError> {
    let configuration = Configuration::read(config)?;
    let stopped = Stopped::held(&configuration.directory)?;
    if stopped.is_none() {
        let noted = BackingUp { signing_keys: wanted.signing_keys };
        let told = async { Operator::of(config)?.post("/v1/backup", &noted).await };
        let _: Value = told.await.map_err(BackupError::NotNoted)?;
    }
    let about = about(&configuration, wanted, clock);
    let (config, to, passphrase) = (config.to_owned(), to.to_owned(), passphrase.clone());
    let written = tokio::task::spawn_blocking(move || {
        let _stopped = stopped;
        write(&configuration, &config, &to, &passphrase, wanted, about)
    });
    written.await.map_err(|error| BackupError::File { path: PathBuf::new(), source: io::Error::other(error) })?
}

/// What a backup would hold now. Writes nothing, and tells nobody.
pub fn would_create(config: &Path, wanted: Wanted, clock: &Clock) -> Result<Made, BackupError> {
    let configuration = Configuration::read(config)?;
    let mut parts = Vec::new();
    gather(&configuration, config, wanted, &mut |name, content| {
        parts.push((name, content.len() as u64));
        Ok(())
    })?;
    Ok(Made { about: about(&configuration, wanted, clock), parts, manifest: None })
}

fn about(configuration: &Configuration, wanted: Wanted, clock: &Clock) -> About {
    About {
        format: backup::FORMAT.into(),
        program: Program::SecurityServer,
        version: env!("CARGO_PKG_VERSION").into(),
        instance: configuration.member.instance(),
        server: configuration.server.to_string(),
        made: clock.now().as_millis(),
        signing_keys: wanted.signing_keys,
        complete: wanted.whole_log,
    }
}

/// A server that does not run, and does not start as long as this is held.
struct Stopped {
    _locks: [Box<dyn journal::disk::Lock>; 2],
}

impl Stopped {
    /// None: it runs.
    fn held(directory: &Path) -> Result<Option<Self>, BackupError> {
        let mut locks = Vec::new();
        for log in [AUDIT_LOG, MESSAGE_LOG] {
            let path = directory.join(log);
            match Directory(path.clone()).lock() {
                Ok(lock) => locks.push(lock),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(source) => return Err(BackupError::File { path, source }),
            }
        }
        Ok(locks.try_into().ok().map(|locks| Self { _locks: locks }))
    }
}

/// Writes the file whole or not at all.
fn write(
    configuration: &Configuration,
    config: &Path,
    to: &Path,
    passphrase: &Passphrase,
    wanted: Wanted,
    about: About,
) -> Result<Made, BackupError> {
    let file = |source| BackupError::File { path: to.to_owned(), source };
    let mut writer = Writer::begin(NewFile::create(to).map_err(file)?, passphrase, about.clone()).map_err(file)?;
    gather(configuration, config, wanted, &mut |name, content| {
        writer.part(&name, content.len() as u64, &mut &content[..])
    })?;
    let (written, manifest) = writer.finish().map_err(file)?;
    written.keep().map_err(file)?;
    let parts = manifest.parts.iter().map(|part| (part.name.clone(), part.bytes)).collect();
    Ok(Made { about, parts, manifest: Some(manifest.digest()) })
}

/// Every part in the order of [`Place`], one in memory at a time.
fn gather(
    configuration: &Configuration,
    config: &Path,
    wanted: Wanted,
    each: &mut dyn FnMut(PartName, Bytes) -> io::Result<()>,
) -> Result<(), BackupError> {
    let directory = &configuration.directory;
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    let mut add = |name: String, content: Bytes| {
        let named =
            name.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {error}")));
        named.and_then(|name| each(name, content)).map_err(|source| BackupError::File { path: name.into(), source })
    };
    add(CONFIGURATION_FILE.into(), fs::read(config).map_err(file(config))?.into())?;
    let certificates = directory.join(CERTIFICATES);
    for (name, content) in log_keys::certificates(&certificates).map_err(file(&certificates))? {
        add(format!("{CERTIFICATES}/{name}"), content.into())?;
    }
    let keys = directory.join(KEYS);
    for name in names(&keys).map_err(file(&keys))?.iter().filter(|name| name.ends_with(".pem")) {
        if wanted.signing_keys || is_no_signing_key(name) {
            let path = keys.join(name);
            add(format!("{KEYS}/{name}"), fs::read(&path).map_err(file(&path))?.into())?;
        }
    }
    let secret = directory.join(SUBJECTS).join(SECRET);
    match fs::read(&secret) {
        Ok(content) => add(format!("{SUBJECTS}/{SECRET}"), content.into())?,
        // A server that never ran has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file(&secret)(error)),
    }
    // A view, but without it calls of listed services wait for a registry that may be gone, too.
    if let Some(content) = subjects::kept_services(&directory.join(SUBJECTS)) {
        add(format!("{SUBJECTS}/{SERVICES}"), content.into())?;
    }
    let (stored, _) = Store::copied(&directory.join(GLOBAL_CONFIGURATION))?;
    for (name, content) in stored {
        add(format!("{GLOBAL_CONFIGURATION}/{name}"), content)?;
    }
    let newest = if wanted.whole_log { Segments::All } else { Segments::Newest(NEWEST) };
    for (log, segments) in [(AUDIT_LOG, Segments::All), (MESSAGE_LOG, newest)] {
        let mut copied = |name: &str, content: Bytes| {
            add(format!("{log}/{name}"), content).map_err(|error| io::Error::other(error.to_string()))
        };
        journal::copy(&directory.join(log), segments, &mut copied).map_err(|error| BackupError::Log(log, error))?;
    }
    // After the segments: what is removed meanwhile is not there, and what is left of it is.
    let messages = directory.join(MESSAGE_LOG);
    for name in names(&messages).map_err(file(&messages))?.iter().filter(|name| is_remains_name(name)) {
        let path = messages.join(name);
        add(format!("{MESSAGE_LOG}/{name}"), fs::read(&path).map_err(file(&path))?.into())?;
    }
    Ok(())
}

fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    entries.filter_map(Result::transpose).collect()
}

/// Whose key opens connections and seals nothing. Every other one is taken for a signing key.
fn is_no_signing_key(name: &str) -> bool {
    name.starts_with("authentication")
}

/// What a backup holds, verified.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it holds, as it says.
    pub manifest: Manifest,
    /// SHA-256 of its manifest.
    pub digest: String,
    /// The key files in it.
    pub keys: Vec<String>,
    /// The version of its global configuration, and when that expires.
    pub configuration: (u64, Time),
    /// Its audit log.
    pub audit_log: Verified,
    /// Its message log.
    pub message_log: Verified,
}

/// Reads a backup to its end and checks all that is in it: each chunk, each part against the manifest, the global
/// configuration from its anchor on, and both logs with every hash and signature. Writes nothing.
pub fn verify(file: &Path, passphrase: &Passphrase) -> Result<Found, BackupError> {
    read(file, passphrase, None, &mut |_, _| Ok(()))
}

/// Puts a backup into this directory, which must be empty or not there. `server`: whose it must be.
///
/// All of it is checked as [`verify`] does before the directory gets its name. The logs get word that they were put back: the
/// next start opens new trees for that reason, and refuses openings that the lost part may have seen.
pub fn restore(
    file: &Path,
    directory: &Path,
    passphrase: &Passphrase,
    server: Option<&ServerId>,
) -> Result<Found, BackupError> {
    let aside = Aside::beside(directory)?;
    let found = read(file, passphrase, server, &mut |name, content| aside.write(name, content))?;
    let About { server, made, .. } = &found.manifest.about;
    let word = format!("a backup of {server} made {}, manifest {}", Time::from_millis(*made), found.digest);
    for log in [AUDIT_LOG, MESSAGE_LOG] {
        let name = format!("{log}/{}", journal::RESTORED_FILE);
        aside.write(&name.parse().expect("a name like any other"), word.as_bytes())?;
    }
    aside.become_it()?;
    Ok(found)
}

/// Whether [`restore`] would do it. Writes nothing.
pub fn would_restore(
    file: &Path,
    directory: &Path,
    passphrase: &Passphrase,
    server: Option<&ServerId>,
) -> Result<Found, BackupError> {
    Aside::may_become(directory)?;
    read(file, passphrase, server, &mut |_, _| Ok(()))
}

fn read(
    path: &Path,
    passphrase: &Passphrase,
    wanted: Option<&ServerId>,
    each: &mut dyn FnMut(&PartName, &Bytes) -> Result<(), NotRestored>,
) -> Result<Found, BackupError> {
    let not = |why| BackupError::Backup { path: path.to_owned(), why };
    let opened = fs::File::open(path).map_err(|error| not(NotABackup::Unreadable(error)))?;
    let mut reader = Reader::open(io::BufReader::new(opened), passphrase).map_err(not)?;
    let about = reader.about().clone();
    if about.program != Program::SecurityServer {
        return Err(not(NotABackup::Foreign(format!("it is a backup of a {}", about.program))));
    }
    if let Some(wanted) = wanted.filter(|wanted| wanted.as_str() != about.server) {
        let (found, wanted) = (about.server, wanted.to_string());
        return Err(BackupError::OtherServer { path: path.to_owned(), found, wanted });
    }
    let mut checking = Checking::of(about);
    while let Some(part) = reader.part().map_err(not)? {
        let name = part.name().clone();
        let place = Place::of(&name).ok_or_else(|| not(NotABackup::Foreign(format!("it holds {name}"))))?;
        let content = part.whole(place.most_bytes()).map_err(not)?;
        checking.take(place, &name, &content).map_err(not)?;
        each(&name, &content)?;
    }
    let manifest = reader.manifest().expect("it is there after the last part").clone();
    checking.finish(manifest).map_err(not)
}

/// Where a part of a backup belongs. They come in this order, and nothing else is put back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    Configuration,
    Certificate,
    Key,
    Subjects,
    Services,
    GlobalConfiguration,
    AuditLog,
    MessageLog,
    Remains,
}

impl Place {
    fn of(name: &PartName) -> Option<Self> {
        let is_plain = |rest: &str| !rest.contains('/');
        match name.split() {
            (None, CONFIGURATION_FILE) => Some(Self::Configuration),
            (Some(directory), rest) if is_plain(rest) => match (directory, rest) {
                (CERTIFICATES, rest) if rest.ends_with(".pem") => Some(Self::Certificate),
                (KEYS, rest) if rest.ends_with(".pem") => Some(Self::Key),
                (SUBJECTS, SECRET) => Some(Self::Subjects),
                (SUBJECTS, SERVICES) => Some(Self::Services),
                (GLOBAL_CONFIGURATION, "anchor.json" | "current") => Some(Self::GlobalConfiguration),
                (GLOBAL_CONFIGURATION, rest) if rest.ends_with(".pack") => Some(Self::GlobalConfiguration),
                (AUDIT_LOG, rest) if rest.ends_with(".segment") => Some(Self::AuditLog),
                (MESSAGE_LOG, rest) if rest.ends_with(".segment") => Some(Self::MessageLog),
                (MESSAGE_LOG, rest) if is_remains_name(rest) => Some(Self::Remains),
                _ => None,
            },
            _ => None,
        }
    }

    fn most_bytes(self) -> u64 {
        match self {
            Self::Configuration => MAX_CONFIGURATION_BYTES,
            Self::Certificate => MAX_CERTIFICATES_BYTES,
            Self::Key => keystore::MAX_KEY_FILE_BYTES,
            Self::Subjects => 32,
            Self::Services => MAX_SERVICES_BYTES,
            Self::GlobalConfiguration => 2 * MAX_TOTAL_BYTES as u64,
            Self::AuditLog | Self::MessageLog | Self::Remains => MAX_SEGMENT_BYTES,
        }
    }
}

/// The parts of a backup, as far as they were read.
struct Checking {
    about: About,
    last: Place,
    server: Option<ServerId>,
    certificates: BTreeMap<String, Bytes>,
    keys: Vec<String>,
    stored: Stored,
    logs: Option<Logs>,
}

/// Both logs, when all is known by which they are judged.
struct Logs {
    configuration: Arc<Global>,
    audit: Verifier<'static>,
    messages: Verifier<'static>,
}

impl Checking {
    fn of(about: About) -> Self {
        let (certificates, stored) = (BTreeMap::new(), Stored::new());
        Self { about, last: Place::Configuration, server: None, certificates, keys: Vec::new(), stored, logs: None }
    }

    fn take(&mut self, place: Place, name: &PartName, content: &Bytes) -> Result<(), NotABackup> {
        let damaged = |why: &dyn std::fmt::Display| NotABackup::Damaged(format!("{name}: {why}"));
        if place < self.last {
            return Err(NotABackup::Foreign(format!("{name} is out of place")));
        }
        self.last = place;
        let (_, rest) = name.split();
        match place {
            Place::Configuration => {
                let text = std::str::from_utf8(content).map_err(|error| damaged(&error))?;
                let read = Configuration::parse(Path::new(name.as_str()), text).map_err(|error| damaged(&error))?;
                if read.server.as_str() != self.about.server {
                    return Err(damaged(&format_args!("it is the configuration of {}", read.server)));
                }
                self.server = Some(read.server);
            }
            Place::Certificate => _ = self.certificates.insert(rest.to_owned(), content.clone()),
            Place::Key => {
                if !self.about.signing_keys && !is_no_signing_key(rest) {
                    return Err(damaged(&"it says of itself that it holds no signing key"));
                }
                self.keys.push(rest.to_owned());
            }
            Place::Subjects if content.len() == 32 => {}
            Place::Subjects => return Err(damaged(&"it has not 32 bytes")),
            // What does not fit what is listed is forgotten at a start.
            Place::Services => {}
            Place::GlobalConfiguration => {
                if self.stored.values().map(Bytes::len).sum::<usize>() > 4 * MAX_TOTAL_BYTES {
                    return Err(damaged(&"the global configuration is larger than any"));
                }
                self.stored.insert(rest.to_owned(), content.clone());
            }
            Place::AuditLog => {
                let mut unknown = None;
                let logs = self.logs()?;
                let seen = logs.audit.segment(rest, content, &mut |entry| {
                    let body = entry.record.body();
                    if entry.record.kind() == Kind::Entry && serde_json::from_slice::<Noted>(&body).is_err() {
                        unknown = Some(entry.position);
                    }
                });
                seen.map_err(|error| damaged(&error))?;
                if let Some(position) = unknown {
                    return Err(damaged(&format_args!("the entry at {position} is none that this program knows")));
                }
            }
            Place::MessageLog => {
                self.logs()?.messages.segment(rest, content, &mut |_| {}).map_err(|error| damaged(&error))?;
            }
            Place::Remains => {
                let remains = Remains::parse(content).filter(|remains| remains_name(remains.number) == rest);
                remains.ok_or_else(|| damaged(&"it does not say what is left of a segment"))?;
            }
        }
        Ok(())
    }

    fn logs(&mut self) -> Result<&mut Logs, NotABackup> {
        if self.logs.is_none() {
            let server = self.server.as_ref();
            let server = server.ok_or_else(|| NotABackup::Damaged(format!("{CONFIGURATION_FILE} is not in it")))?;
            let trusted = Store::check(Path::new(GLOBAL_CONFIGURATION), &self.stored)
                .map_err(|error| NotABackup::Damaged(error.to_string()))?;
            let configuration = Arc::clone(trusted.configuration());
            let certificates = self.certificates.values().map(|pem| &pem[..]);
            let keys = Arc::new(LogKeys::of(server, &configuration, certificates));
            let verifier = |place: &str| {
                let keys = Arc::clone(&keys);
                Verifier::new(place, move |id| keys.find(id))
            };
            self.stored.clear();
            self.logs = Some(Logs { configuration, audit: verifier(AUDIT_LOG), messages: verifier(MESSAGE_LOG) });
        }
        Ok(self.logs.as_mut().expect("it was just made"))
    }

    fn finish(mut self, manifest: Manifest) -> Result<Found, NotABackup> {
        self.logs()?;
        let Some(Logs { configuration, audit, messages }) = self.logs else {
            return Err(NotABackup::Damaged("there is no log in it".into()));
        };
        let (audit_log, message_log) = (audit.finish(), messages.finish());
        for (name, log) in [(AUDIT_LOG, &audit_log), (MESSAGE_LOG, &message_log)] {
            if log.segments == 0 || log.torn_bytes > 0 {
                return Err(NotABackup::Damaged(format!("{name} is not whole")));
            }
            if let Some(unproven) = unproven(log) {
                return Err(NotABackup::Damaged(format!("{name}: {unproven}")));
            }
        }
        Ok(Found {
            digest: manifest.digest(),
            manifest,
            keys: self.keys,
            configuration: (configuration.version, configuration.expires_at),
            audit_log,
            message_log,
        })
    }
}
