//! A backup of this registry: made beside a registry that runs or of one that is stopped, verified, and put back into a
//! directory of its own. `proto/backup/FORMAT.md` says how the file looks.
//!
//! What is in it: the configuration file, certificates and anchor, the TLS key, encrypted as it is on disk; what is published;
//! the audit journal, and with it the whole register. What is never in it: root keys and admins' keys, which are not kept
//! here; the view, which is built again. The keys that sign are in it only where that was asked for: who has them and their
//! passphrase is the registry.

mod commands;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backup::{About, Aside, Manifest, NewFile, NotABackup, NotRestored, PartName, Program, Reader, Writer};
use bytes::Bytes;
use command_line::{Exit, file_remedy};
use journal::{Directory, Disk, NotCopied, Segments, Verifier};
use keystore::Passphrase;
use prost::Message;
use proto::digest::Digest;
use proto::global_configuration::update::{Files, MAX_TOTAL_BYTES};
use proto::signature::PublicKey;
use proto::time::Time;
use proto::wire::registry::{File as WireFile, Version};

pub use commands::{Command, run};

use crate::Clock;
use crate::audit::{Found as Audited, Replayed};
use crate::configuration::{Configuration, NoConfiguration};
use crate::history::JOURNAL;
use crate::init::{ANCHOR, AUTHORITY, CONFIGURATION, KEYS, TLS};
use crate::journal_key::{self, JOURNAL_KEY};
use crate::local::{self, Note};
use crate::publish::Publication;
use crate::spread::{self, NotTakenUp, PUBLIC};

/// What is published, in one part.
const PUBLISHED: &str = "public.pack";
/// The one key that signs nothing that anybody keeps.
const TLS_KEY: &str = "tls.pem";
/// Longest file of text.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Longest segment that is read: a full one, its last batch and its header stay below it.
const MAX_SEGMENT_BYTES: u64 = 256 << 20;

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The running registry was not told.
    #[error("the registry runs, and what copies it is noted in its journal first: {0}; check its diagnostics")]
    NotNoted(io::Error),
    /// The journal.
    #[error("the audit journal: {0}")]
    Journal(#[from] NotCopied),
    /// A file.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "check the path, and the space on its disk"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is published cannot be read as one version.
    #[error("{}: {why}; give a mirror's copy of {PUBLIC}/, or global-configuration/ of any security server", .path.display())]
    Published {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nothing of what is at hand was published by this instance as late as the backup was made.
    #[error(
        "without what was published after the backup, its members, suspensions and revocations would be forgotten: give \
         --published a mirror's copy of {PUBLIC}/, or global-configuration/ of any security server"
    )]
    NothingPublished,
    /// The file is no backup that holds.
    #[error("{}: {why}", .path.display())]
    Backup {
        /// Which.
        path: PathBuf,
        /// Why.
        why: NotABackup,
    },
    /// Nothing was put back.
    #[error(transparent)]
    NotRestored(#[from] NotRestored),
}

impl BackupError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Usage,
            Self::NotNoted(_) => Exit::Unreachable,
            Self::NothingPublished | Self::NotRestored(NotRestored::NotEmpty(_)) => Exit::Refused,
            Self::Journal(NotCopied::Unreadable(journal::ReadError::Damaged(_) | journal::ReadError::Missing(_))) => {
                Exit::CheckFailed
            }
            Self::Backup { why: NotABackup::Unreadable(_), .. } => Exit::Usage,
            Self::Backup { .. } | Self::Published { .. } => Exit::CheckFailed,
            Self::Journal(_) | Self::File { .. } | Self::NotRestored(_) => Exit::Failed,
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

/// Makes a backup of the registry with this configuration file. One that runs is told first, so that its journal says so,
/// the copy of it in the backup included.
pub fn create(
    config: &Path,
    to: &Path,
    passphrase: &Passphrase,
    signing_keys: bool,
    clock: &Clock,
) -> Result<Made, BackupError> {
    let configuration = Configuration::read(config)?;
    let directory = &configuration.directory;
    // A registry that does not run does not start as long as this is held.
    let _stopped = match Directory(directory.join(JOURNAL)).lock() {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            local::tell(directory, &Note::BackingUp { signing_keys }).map_err(BackupError::NotNoted)?;
            None
        }
        Err(source) => return Err(BackupError::File { path: directory.join(JOURNAL), source }),
    };
    let published = published_in(&directory.join(PUBLIC))?;
    let about = about(&published, signing_keys, clock);
    let file = |source| BackupError::File { path: to.to_owned(), source };
    let mut writer = Writer::begin(NewFile::create(to).map_err(file)?, passphrase, about.clone()).map_err(file)?;
    gather(&configuration, config, &published, signing_keys, &mut |name, content| {
        writer.part(&name, content.len() as u64, &mut &content[..])
    })?;
    let (written, manifest) = writer.finish().map_err(file)?;
    written.keep().map_err(file)?;
    let parts = manifest.parts.iter().map(|part| (part.name.clone(), part.bytes)).collect();
    Ok(Made { about, parts, manifest: Some(manifest.digest()) })
}

/// What a backup would hold now. Writes nothing, and tells nobody.
pub fn would_create(config: &Path, signing_keys: bool, clock: &Clock) -> Result<Made, BackupError> {
    let configuration = Configuration::read(config)?;
    let published = published_in(&configuration.directory.join(PUBLIC))?;
    let mut parts = Vec::new();
    gather(&configuration, config, &published, signing_keys, &mut |name, content| {
        parts.push((name, content.len() as u64));
        Ok(())
    })?;
    Ok(Made { about: about(&published, signing_keys, clock), parts, manifest: None })
}

fn about(published: &Publication, signing_keys: bool, clock: &Clock) -> About {
    About {
        format: backup::FORMAT.into(),
        program: Program::CentralRegistry,
        version: env!("CARGO_PKG_VERSION").into(),
        instance: published.trusted().configuration().instance.clone(),
        server: "central-registry".into(),
        made: clock().as_millis(),
        signing_keys,
        complete: true,
    }
}

fn published_in(directory: &Path) -> Result<Publication, BackupError> {
    let failed = |error: NotTakenUp| BackupError::Published { path: directory.to_owned(), why: error.to_string() };
    spread::copied(directory).map_err(failed)
}

/// Every part in the order of [`Place`], one in memory at a time. What is published was read before the journal is, so that
/// the journal knows every version of it.
fn gather(
    configuration: &Configuration,
    config: &Path,
    published: &Publication,
    signing_keys: bool,
    each: &mut dyn FnMut(PartName, Bytes) -> io::Result<()>,
) -> Result<(), BackupError> {
    let directory = &configuration.directory;
    let read = |path: PathBuf| {
        let content = fs::read(&path).map(Bytes::from);
        content.map_err(|source| BackupError::File { path, source })
    };
    let mut add = |name: String, content: Bytes| {
        let named =
            name.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {error}")));
        named.and_then(|name| each(name, content)).map_err(|source| BackupError::File { path: name.into(), source })
    };
    add(CONFIGURATION.into(), read(config.to_owned())?)?;
    for name in [ANCHOR, AUTHORITY, JOURNAL_KEY, TLS] {
        add(name.into(), read(directory.join(name))?)?;
    }
    let keys = directory.join(KEYS);
    for name in names(&keys).map_err(|source| BackupError::File { path: keys.clone(), source })? {
        if name.ends_with(".pem") && (signing_keys || name == TLS_KEY) {
            add(format!("{KEYS}/{name}"), read(keys.join(&name))?)?;
        }
    }
    let files = published.files().iter();
    let files = files.map(|(name, content)| WireFile { name: name.clone(), content: content.clone() }).collect();
    add(PUBLISHED.into(), Version { version: published.version(), files }.encode_to_vec().into())?;
    let mut copied = |name: &str, content: Bytes| {
        add(format!("{JOURNAL}/{name}"), content).map_err(|error| io::Error::other(error.to_string()))
    };
    Ok(journal::copy(&directory.join(JOURNAL), Segments::All, &mut copied)?)
}

fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    entries.filter_map(Result::transpose).collect()
}

/// What a backup holds, verified.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it holds, as it says.
    pub manifest: Manifest,
    /// The key files in it.
    pub keys: Vec<String>,
    /// What was published.
    pub published: Publication,
    /// Its journal.
    pub audited: Audited,
    /// Members that its register holds.
    pub members: usize,
}

/// Reads a backup to its end and checks all that is in it: each chunk, each part against the manifest, what was published from
/// the anchor on, and the journal with every hash, signature, rule and order. Writes nothing.
pub fn verify(file: &Path, passphrase: &Passphrase) -> Result<Found, BackupError> {
    read(file, passphrase, &mut |_, _| Ok(()))
}

/// Puts a backup into this directory, which must be empty or not there.
///
/// All of it is checked as [`verify`] does before the directory gets its name. `published` are copies of what the world was
/// told last, from mirrors or security servers: the newest is put in the place of the backup's own. The journal gets word
/// that it was put back: the next start takes up what was published since, and signs no version again that may have been
/// given to anybody.
pub fn restore(
    file: &Path,
    directory: &Path,
    passphrase: &Passphrase,
    published: &[PathBuf],
) -> Result<(Found, Publication), BackupError> {
    if published.is_empty() {
        return Err(BackupError::NothingPublished);
    }
    let aside = Aside::beside(directory)?;
    let found = read(file, passphrase, &mut |name, content| {
        if name.as_str() == PUBLISHED { Ok(()) } else { aside.write(name, content) }
    })?;
    let newest = newest_of(&found, published)?;
    let public = aside.path().join(PUBLIC);
    let written = fs::create_dir(&public)
        .and_then(|()| spread::write(&public, &newest.leaves().all()))
        .and_then(|()| spread::write(&public, &newest.since(0)));
    written.map_err(|source| BackupError::File { path: public, source })?;
    let made = Time::from_millis(found.manifest.about.made);
    let word =
        format!("a backup of {} made {made}, manifest {}", found.manifest.about.instance, found.manifest.digest());
    let name = format!("{JOURNAL}/{}", journal::RESTORED_FILE);
    aside.write(&name.parse().expect("a name like any other"), word.as_bytes())?;
    aside.become_it()?;
    Ok((found, newest))
}

/// Whether [`restore`] would do it. Writes nothing.
pub fn would_restore(
    file: &Path,
    directory: &Path,
    passphrase: &Passphrase,
    published: &[PathBuf],
) -> Result<(Found, Publication), BackupError> {
    if published.is_empty() {
        return Err(BackupError::NothingPublished);
    }
    Aside::may_become(directory)?;
    let found = read(file, passphrase, &mut |_, _| Ok(()))?;
    let newest = newest_of(&found, published)?;
    Ok((found, newest))
}

/// The newest of these copies. Each is of the same instance and not before the backup.
fn newest_of(found: &Found, copies: &[PathBuf]) -> Result<Publication, BackupError> {
    let check = |directory: &PathBuf| {
        let publication = published_in(directory)?;
        let failed = |why: String| Err(BackupError::Published { path: directory.clone(), why });
        if publication.anchor() != found.published.anchor() {
            return failed("it is of another instance than the backup".into());
        }
        let (there, backed_up) = (publication.version(), found.published.version());
        if there < backed_up {
            return failed(format!("it is version {there}, and the backup itself holds version {backed_up}"));
        }
        Ok(publication)
    };
    let checked: Vec<Publication> = copies.iter().map(check).collect::<Result<_, _>>()?;
    checked.into_iter().max_by_key(Publication::version).ok_or(BackupError::NothingPublished)
}

fn read(
    path: &Path,
    passphrase: &Passphrase,
    each: &mut dyn FnMut(&PartName, &Bytes) -> Result<(), NotRestored>,
) -> Result<Found, BackupError> {
    let not = |why| BackupError::Backup { path: path.to_owned(), why };
    let opened = fs::File::open(path).map_err(|error| not(NotABackup::Unreadable(error)))?;
    let mut reader = Reader::open(io::BufReader::new(opened), passphrase).map_err(not)?;
    let about = reader.about().clone();
    if about.program != Program::CentralRegistry {
        return Err(not(NotABackup::Foreign(format!("it is a backup of a {}", about.program))));
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
    Published,
    Journal,
}

impl Place {
    fn of(name: &PartName) -> Option<Self> {
        match name.split() {
            (None, CONFIGURATION) => Some(Self::Configuration),
            (None, ANCHOR | AUTHORITY | JOURNAL_KEY | TLS) => Some(Self::Certificate),
            (None, PUBLISHED) => Some(Self::Published),
            (Some(KEYS), rest) if !rest.contains('/') && rest.ends_with(".pem") => Some(Self::Key),
            (Some(JOURNAL), rest) if !rest.contains('/') && rest.ends_with(".segment") => Some(Self::Journal),
            _ => None,
        }
    }

    fn most_bytes(self) -> u64 {
        match self {
            Self::Configuration | Self::Certificate => MAX_TEXT_BYTES,
            Self::Key => keystore::MAX_KEY_FILE_BYTES,
            Self::Published => 2 * MAX_TOTAL_BYTES as u64,
            Self::Journal => MAX_SEGMENT_BYTES,
        }
    }
}

/// The parts of a backup, as far as they were read.
struct Checking {
    about: About,
    last: Place,
    anchor: Option<Bytes>,
    journal_key: Option<PublicKey>,
    keys: Vec<String>,
    published: Option<Publication>,
    journal: Option<Verifier<'static>>,
    replayed: Replayed,
}

impl Checking {
    fn of(about: About) -> Self {
        Self {
            about,
            last: Place::Configuration,
            anchor: None,
            journal_key: None,
            keys: Vec::new(),
            published: None,
            journal: None,
            replayed: Replayed::default(),
        }
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
                Configuration::parse(Path::new(name.as_str()), text).map_err(|error| damaged(&error))?;
            }
            Place::Certificate if rest == JOURNAL_KEY => {
                self.journal_key = Some(journal_key::parse(content).map_err(|error| damaged(&error))?);
            }
            Place::Certificate if rest == ANCHOR => self.anchor = Some(content.clone()),
            Place::Certificate => {}
            Place::Key => {
                if !self.about.signing_keys && rest != TLS_KEY {
                    return Err(damaged(&"it says of itself that it holds no key that signs"));
                }
                self.keys.push(rest.to_owned());
            }
            Place::Published => {
                let pack = Version::decode(content.clone()).map_err(|error| damaged(&error))?;
                let files: Files = pack.files.into_iter().map(|file| (file.name, file.content)).collect();
                let publication = Publication::read(&files).map_err(|error| damaged(&error))?;
                if self.anchor.as_ref() != Some(publication.anchor()) {
                    return Err(damaged(&format_args!("it does not verify from {ANCHOR}")));
                }
                self.replayed.hold(Path::new(PUBLISHED), &publication);
                self.published = Some(publication);
            }
            Place::Journal => {
                let missing = || damaged(&format_args!("{JOURNAL_KEY} is not in it"));
                let key = self.journal_key.clone().ok_or_else(missing)?;
                let known = move |id: &Digest| (*id == key.id()).then(|| key.clone());
                let journal = self.journal.get_or_insert_with(|| Verifier::new(JOURNAL, known));
                let replayed = &mut self.replayed;
                journal
                    .segment(rest, content, &mut |entry| drop(replayed.see(&entry)))
                    .map_err(|error| damaged(&error))?;
            }
        }
        Ok(())
    }

    fn finish(self, manifest: Manifest) -> Result<Found, NotABackup> {
        let missing = |what: &str| NotABackup::Damaged(format!("{what} is not in it"));
        let published = self.published.ok_or_else(|| missing(PUBLISHED))?;
        let journal = self.journal.ok_or_else(|| missing(JOURNAL))?.finish();
        let founded = self.replayed.register.instance().map(|founded| founded.instance.clone());
        let members = self.replayed.register.members().count();
        let audited = self.replayed.found(journal);
        audited.holds().map_err(|error| NotABackup::Damaged(error.to_string()))?;
        let is_one = founded.as_ref() == Some(&published.trusted().configuration().instance)
            && founded.as_ref() == Some(&self.about.instance);
        if !is_one || audited.journal.torn_bytes > 0 {
            return Err(NotABackup::Damaged("its journal is not the one of what it says was published".into()));
        }
        Ok(Found { manifest, keys: self.keys, published, audited, members })
    }
}
