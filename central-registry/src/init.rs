//! The beginning of an instance: its keys, its authority, its first admin, the first version of its configuration.
//! Everything is made in a new directory beside the one asked for, which gets its name when all is there: a crash leaves
//! no half registry.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use command_line::{Exit, Foreseen};
use keystore::{Cost, KeyError, Passphrase, Source};
use proto::certificate::pem;
use proto::digest::Digest;
use proto::global_configuration::document::InstanceDocument;
use proto::identifier::InstanceId;
use proto::registration::{Address, Text};
use proto::signature::SigningKey;
use proto::time::Time;
use registry_client::Fingerprint;

use crate::Clock;
use crate::authority::{CertificateAuthority, NotCertified, self_signed_for_tls};
use crate::command::AdminFile;
use crate::configuration::Configuration;
use crate::history::{History, HistoryError};
use crate::journal_key::{self, JOURNAL_KEY};
use crate::persons::{Appointed, CannotGovern, Person, Persons};
use crate::publish::{Publication, RoleKeys, Thresholds, Unpublishable, View};
use crate::register::{Entry, Event, Hex};
use crate::spread::{self, PUBLIC};
use crate::tsa::TSA;

/// Where keys in use stand.
pub(crate) const KEYS: &str = "keys";
/// Where the root keys stand until they are taken away.
pub(crate) const OFFLINE: &str = "offline";
/// The authority's certificate.
pub(crate) const AUTHORITY: &str = "authority.pem";
/// The certificate that carries the pinned key.
pub(crate) const TLS: &str = "tls.pem";
/// The anchor: the first root document.
pub const ANCHOR: &str = "anchor.json";
/// The configuration file.
pub const CONFIGURATION: &str = "central-registry.toml";
/// The names of the keys in use.
pub(crate) const KEY_NAMES: [&str; 9] =
    ["authority", "tls", "journal", "targets", "members", "catalogue", "revoked", "snapshot", "timestamp"];
/// Most root keys.
const MAX_ROOT_KEYS: usize = 16;

/// What a new instance is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instance.
    pub instance: InstanceId,
    /// Its name for people.
    pub name: Text,
    /// Who commands first: also the name of that admin's files.
    pub admin: Text,
    /// Who else has a key, and for what.
    pub others: Vec<Appointed>,
    /// How many persons what matters needs.
    pub persons_threshold: usize,
    /// Where the registry will listen.
    pub listen: SocketAddr,
    /// Where the registry will be reached, for the admin's file.
    pub address: Address,
    /// How many root keys are made.
    pub root_keys: usize,
    /// How many of them must sign a new root.
    pub root_threshold: usize,
    /// Where the passphrase will come from at each start.
    pub unlock: Source,
    /// What all keys are encrypted with.
    pub passphrase: Passphrase,
    /// How dear a try of a passphrase is.
    pub cost: Cost,
}

/// What was made, and what to tell people.
#[derive(Clone, Debug)]
pub struct Initialised {
    /// The registry's directory.
    pub directory: PathBuf,
    /// What everybody pins.
    pub fingerprint: Fingerprint,
    /// The anchor's file.
    pub anchor: PathBuf,
    /// SHA-256 of the anchor.
    pub anchor_digest: Digest,
    /// The first admin's file.
    pub admin: PathBuf,
    /// The root keys, to be taken away.
    pub offline: PathBuf,
}

/// Why no instance began.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something already.
    #[error("{0} is not empty, and an instance begins once; give another directory")]
    NotEmpty(PathBuf),
    /// The admin's name cannot name a file.
    #[error(
        "the admin's name {0:?} cannot name files; use letters, digits, '.', '_' and '-', and begin with a letter or digit"
    )]
    AdminName(String),
    /// The root keys do not fit together.
    #[error("{threshold} of {keys} root keys cannot be; make 1 to {MAX_ROOT_KEYS} keys, and let 1 to all of them sign")]
    RootKeys {
        /// How many are made.
        keys: usize,
        /// How many must sign.
        threshold: usize,
    },
    /// A person's public key cannot be read.
    #[error("{}: {source}; give the file that `central-registry person` made beside that person's key", .path.display())]
    PersonKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// These persons cannot govern.
    #[error(transparent)]
    Persons(#[from] CannotGovern),
    /// A file could not be written.
    #[error("{path}: {source}; check the disk and who may write there, and begin again")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key could not be kept.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] NotCertified),
    /// The first version could not be made.
    #[error(transparent)]
    Publication(#[from] Unpublishable),
    /// The journal could not begin.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl InitError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotEmpty(_)
            | Self::AdminName(_)
            | Self::RootKeys { .. }
            | Self::Persons(_)
            | Self::PersonKey { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// What beginning it would make. The rules of [`init`], and nothing is made.
pub fn foresee(directory: &Path, options: &Options) -> Result<Foreseen, InitError> {
    check(directory, options)?;
    let (keys, threshold) = (options.root_keys, options.root_threshold);
    let directory = directory.display();
    Ok(Foreseen::new(vec![
        format!("begin the instance {}, \"{}\", in {directory}", options.instance, options.name),
        format!("make {keys} root keys in {directory}/{OFFLINE}, of which {threshold} must sign a new root"),
        format!("make the keys in use in {directory}/{KEYS}, all encrypted with this passphrase"),
        format!("make the first admin's key and {directory}/{}", admin_file(&options.admin)),
        format!(
            "state in the root that what matters needs {} of {} persons",
            options.persons_threshold,
            options.others.len() + 1
        ),
        format!("write {directory}/{CONFIGURATION}: listen at {}, reached at {}", options.listen, options.address),
    ]))
}

/// Begins an instance in `directory`, which must be empty or not there.
pub fn init(directory: &Path, options: Options, clock: &Clock) -> Result<Initialised, InitError> {
    check(directory, &options)?;
    let beside = beside(directory);
    let file = |source| InitError::File { path: beside.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&beside).map_err(file)?;
    let made = make(&beside, &options, clock()).inspect_err(|_| {
        // What was made is no use without the rest.
        let _ = fs::remove_dir_all(&beside);
    })?;
    // The one moment at which the registry begins to be there.
    fs::rename(&beside, directory)
        .and_then(|()| sync(directory.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))))
        .map_err(|source| InitError::File { path: directory.to_owned(), source })?;
    let (fingerprint, anchor_digest) = made;
    Ok(Initialised {
        fingerprint,
        anchor_digest,
        anchor: directory.join(ANCHOR),
        admin: directory.join(admin_file(&options.admin)),
        offline: directory.join(OFFLINE),
        directory: directory.to_owned(),
    })
}

fn check(directory: &Path, options: &Options) -> Result<(), InitError> {
    let is_empty = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !is_empty {
        return Err(InitError::NotEmpty(directory.to_owned()));
    }
    if options.admin.as_str().parse::<InstanceId>().is_err() {
        return Err(InitError::AdminName(options.admin.to_string()));
    }
    let (keys, threshold) = (options.root_keys, options.root_threshold);
    if !(1..=MAX_ROOT_KEYS).contains(&keys) || !(1..=keys).contains(&threshold) {
        return Err(InitError::RootKeys { keys, threshold });
    }
    // With keys that nobody keeps: what counts here is who there is.
    appointed(options, |_| Ok(SigningKey::generate().0)).map(drop)
}

/// Makes a person's own key in a directory, encrypted, and beside it the public half, which `init` is given. Returns both
/// files.
pub fn person(directory: &Path, name: &Text, passphrase: &Passphrase, cost: Cost) -> Result<[PathBuf; 2], InitError> {
    if name.as_str().parse::<InstanceId>().is_err() {
        return Err(InitError::AdminName(name.to_string()));
    }
    let [path, public] = ["pem", "pub.pem"].map(|ending| directory.join(format!("admin-{name}.{ending}")));
    let keep = Keeping { directory, passphrase, cost };
    // A crash in between leaves a key that nobody was told of: make another one.
    let key = keep.key(&format!("admin-{name}.pem"))?;
    keep.write(&format!("admin-{name}.pub.pem"), journal_key::pem(key.public()).as_bytes())?;
    Ok([path, public])
}

/// All persons with their keys, the first admin first; refused where these cannot govern.
fn appointed(
    options: &Options,
    mut key: impl FnMut(&Text) -> Result<SigningKey, InitError>,
) -> Result<Persons, InitError> {
    let first = Appointed::with_all_roles(options.admin.clone());
    let mut persons = Vec::new();
    for Appointed { name, roles, key: made } in [first].into_iter().chain(options.others.clone()) {
        let key = match made {
            Some(path) => {
                let read = fs::read(&path).and_then(|pem| journal_key::parse(&pem));
                read.map_err(|source| InitError::PersonKey { path, source })?
            }
            None => key(&name)?.public().clone(),
        };
        persons.push(Person { name, roles, key: key.to_spki().into() });
    }
    let persons = Persons { threshold: options.persons_threshold, persons };
    persons.check()?;
    Ok(persons)
}

fn beside(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    directory.with_file_name(name)
}

fn admin_file(admin: &Text) -> String {
    format!("admin-{admin}.toml")
}

fn make(directory: &Path, options: &Options, now: Time) -> Result<(Fingerprint, Digest), InitError> {
    let keep = Keeping { directory, passphrase: &options.passphrase, cost: options.cost };
    for each in [KEYS, OFFLINE, PUBLIC] {
        let path = directory.join(each);
        fs::DirBuilder::new()
            .mode(if each == PUBLIC { 0o755 } else { 0o700 })
            .create(&path)
            .map_err(|source| InitError::File { path, source })?;
    }
    // Its certificate is the registry's first start's to make.
    keep.online(TSA)?;
    let authority = CertificateAuthority::found(&options.instance, keep.online("authority")?, now)?;
    let tls = keep.online("tls")?;
    let fingerprint = Fingerprint(tls.public().id());
    let tls = self_signed_for_tls(&options.instance, tls, now)?;
    let instance = InstanceDocument {
        instance: options.instance.clone(),
        name: options.name.to_string(),
        authorities: vec![authority.clone()],
        timestamping: Vec::new(),
        purposes: Vec::new(),
    };

    let keys = RoleKeys {
        root: (1..=options.root_keys)
            .map(|n| keep.key(&format!("{OFFLINE}/root-{n}.pem")))
            .collect::<Result<_, _>>()?,
        targets: vec![keep.online("targets")?],
        members: vec![keep.online("members")?],
        catalogue: vec![keep.online("catalogue")?],
        revoked: vec![keep.online("revoked")?],
        snapshot: vec![keep.online("snapshot")?],
        timestamp: vec![keep.online("timestamp")?],
    };
    let thresholds = Thresholds { root: options.root_threshold, ..Thresholds::SANDBOX };
    let view = View { instance: instance.clone(), members: Vec::new(), revoked: Vec::new(), catalogue: Vec::new() };
    let persons = appointed(options, |name| keep.key(&format!("admin-{name}.pem")))?;
    let publication = Publication::governed(&keys, &thresholds, Some(&persons), &view, now)?;

    let key = persons.persons[0].key.clone();
    let founded = Event::Founded { instance, admin: options.admin.clone(), key };
    let anchor = Hex(Digest::of(&[publication.anchor()]));
    let governed = Event::Governed { root: 1, anchor, persons: persons.clone() };
    let published = spread::published(&publication);
    let entries = [founded, governed, published].map(|event| Entry::of(now.as_millis(), None, event));
    let journal = keep.online("journal")?;
    let path = directory.join(JOURNAL_KEY);
    journal_key::write(directory, journal.public()).map_err(|source| InitError::File { path, source })?;
    History::found(directory, &options.instance, journal, entries)?;

    let public = directory.join(PUBLIC);
    spread::write(&public, &publication.leaves().all())
        .and_then(|()| spread::write(&public, &publication.since(0)))
        .map_err(|source| InitError::File { path: public, source })?;
    keep.write(AUTHORITY, pem("CERTIFICATE", authority.as_bytes()).as_bytes())?;
    keep.write(TLS, pem("CERTIFICATE", tls.as_bytes()).as_bytes())?;
    keep.write(ANCHOR, publication.anchor())?;
    keep.write(CONFIGURATION, Configuration::text(options.listen, &options.unlock).as_bytes())?;
    for Person { name, .. } in &persons.persons {
        let profile = AdminFile {
            instance: options.instance.clone(),
            registry: options.address.clone(),
            fingerprint,
            key: format!("admin-{name}.pem").into(),
        };
        keep.write(&admin_file(name), profile.text().as_bytes())?;
    }
    Ok((fingerprint, Digest::of(&[publication.anchor()])))
}

/// Where and how keys and files are kept.
struct Keeping<'a> {
    directory: &'a Path,
    passphrase: &'a Passphrase,
    cost: Cost,
}

impl Keeping<'_> {
    fn online(&self, name: &str) -> Result<SigningKey, InitError> {
        self.key(&format!("{KEYS}/{name}.pem"))
    }

    fn key(&self, name: &str) -> Result<SigningKey, InitError> {
        let (key, pkcs8) = SigningKey::generate();
        keystore::create(&self.directory.join(name), &pkcs8, self.passphrase, self.cost)?;
        Ok(key)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), InitError> {
        let path = self.directory.join(name);
        let write = || {
            let mut file = fs::File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            sync(self.directory)
        };
        write().map_err(|source| InitError::File { path: path.clone(), source })
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
