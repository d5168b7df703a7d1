//! `security-server doctor`: looks at this server and at all that it rests on, in the order of cause. The first line that
//! failed is the cause; what rests on it is skipped, and says so.
//!
//! It looks with the server's own eyes: the functions that read the file, open the keys, verify the configuration, set up
//! TLS and dial are those that the server itself calls. It works whether or not the server runs. It takes no lock, makes
//! no file, changes nothing, and shows no secret. In the archive, where there is one, it writes a word and removes it.

mod archive;
mod arguments;
mod clock;
mod doors;
mod in_force;
mod logs;
mod own;
mod peers;
mod reflection;
mod registry;
mod services;
mod timestamps;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use checks::keys::{self, Unlock};
use checks::{Found, Limit, Report, blocking, disk, failed, failed_by, names, ok};
use command_line::file_remedy;
use proto::certificate::Authentication;
use proto::global_configuration::update::Trusted;

pub use arguments::{Arguments, run};

use self::doors::State;
use crate::access_rights::Grant;
use crate::clock::Clock;
use crate::config::{Configuration, INDEX, NoConfiguration, OPERATORS_TOKEN, operators_token};
use crate::global_configuration::{Store, StoreError};
use crate::join::{AUDIT_LOG, CERTIFICATES, GLOBAL_CONFIGURATION, MESSAGE_LOG};
use crate::keys::ring::{self, Use};
use crate::keys::{KEYS, Keys};
use crate::relay::Peers;

/// How long verifying what is stored may take: the configuration of a whole country.
pub const READING: Duration = Duration::from_secs(3);
/// How long connecting to the registry may take.
pub const REGISTRY: Duration = Duration::from_secs(2);
/// How long the registry, or a server on this machine, may take to answer.
pub const ANSWER: Duration = Duration::from_secs(1);
/// How long a peer, or a service of ours, may take for all that is asked of it.
pub const OTHERS: Duration = Duration::from_secs(3);

/// The parts of the examination, in the order of cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    File,
    Disk,
    Keys,
    Stored,
    Registry,
    Clock,
    InForce,
    Own,
    Doors,
    Peers,
    Services,
    Logs,
    Timestamps,
    Archive,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "the configuration file",
            Self::Disk => "the disk",
            Self::Keys => "keys",
            Self::Stored => "the global configuration on disk",
            Self::Registry => "the registry",
            Self::Clock => "the clock",
            Self::InForce => "the global configuration in force",
            Self::Own => "this server as it is registered",
            Self::Doors => "doors",
            Self::Peers => "peers",
            Self::Services => "services and grants",
            Self::Logs => "logs",
            Self::Timestamps => "timestamps",
            Self::Archive => "the archive",
        })
    }
}

type Sheet = checks::Sheet<Part>;

/// What is examined, and with what.
pub struct Options {
    /// The server's configuration file.
    pub file: PathBuf,
    /// What opens the keys.
    pub unlock: Unlock,
    /// The clock that is compared with others.
    pub clock: Clock,
}

/// The configuration file, read.
struct File {
    path: PathBuf,
    text: String,
    configuration: Configuration,
}

impl File {
    /// The file, and the line in it, where this stands: keys, and numbers of elements.
    fn at(&self, path: &[&str]) -> String {
        match names::line(&self.text, path) {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }

    /// The server's directory.
    fn directory(&self) -> PathBuf {
        disk::directory(&self.configuration.directory)
    }

    /// A file or directory of the server's.
    fn beside(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The command that starts the server.
    fn start(&self) -> String {
        format!("systemctl start security-server, or: security-server serve --config {}", self.path.display())
    }

    /// The command that stops and starts it.
    fn restart(&self) -> String {
        format!("systemctl restart security-server, or stop it, and: {}", self.start())
    }
}

/// Examines a server.
pub async fn examine(options: &Options) -> Report {
    let of = format!("security-server doctor: {}", options.file.display());
    checks::examine(of, async |sheet| look(sheet, options).await).await
}

async fn look(sheet: &Sheet, options: &Options) {
    let here = Here::look(sheet, options).await;

    // Whatever waits for others waits at once.
    let called = peers::wanted(&here);
    let (told, last_time, (), dialled, (), ()) = tokio::join!(
        registry::ask(sheet, &here),
        logs::messages(sheet, &here),
        doors::each(sheet, &here),
        peers::dial(&here, &called),
        services::each(sheet, &here),
        archive::try_out(sheet, &here.file),
    );

    let clock = clock::compare(sheet, &here, &told, &dialled, last_time);
    let newest = in_force::newest(sheet, &here, &clock, &told).await;
    in_force::freshness(sheet, &here, &clock, &newest);
    let validity = own::registered(sheet, &here, &clock, &newest);
    // A fault of our own is why others do not talk to us: they are not blamed for it.
    let ours = [clock.get().err(), validity.get().err()].into_iter().flatten().next();
    doors::registered(sheet, &here, &called, &dialled, ours.as_ref());
    peers::bindings(sheet, &here);
    peers::tell(sheet, &here, &called, &dialled, ours.as_ref());
    timestamps::ask(sheet, &here, &told, &clock).await;
}

/// What is found on this machine, before others are asked.
struct Here {
    clock: Clock,
    file: Found<File>,
    keys: Found<Keys>,
    stored: Found<Trusted>,
    certificate: Found<Authentication>,
    tls: Found<Arc<Peers>>,
    grants: Found<Vec<Arc<Grant>>>,
    state: Found<State>,
}

impl Here {
    async fn look(sheet: &Sheet, options: &Options) -> Self {
        let clock = options.clock.clone();
        let file = read(sheet, options).await;
        let token = disk(sheet, &file).await;
        let keys = keys(sheet, options, &file).await;
        let stored = stored(sheet, &file).await;
        let certificate = own::certificate(sheet, &file, &keys, &stored).await;
        let tls = own::tls(sheet, &file, &keys, &stored, &certificate, &clock);
        let grants = logs::audit(sheet, &file).await;
        let state = doors::server(sheet, &file, &token).await;
        Self { clock, file, keys, stored, certificate, tls, grants, state }
    }
}

async fn read(sheet: &Sheet, options: &Options) -> Found<File> {
    let path = options.file.clone();
    let example = "every key is explained in deploy/security-server.toml";
    let line = sheet.line(Part::File, "configuration file", path.display().to_string());
    let slow = disk::slow(&path);
    let look = blocking(move || {
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let maker = "give the file that `security-server join` wrote: --config FILE, or CAUSEWAY_CONFIG";
            failed(error.to_string(), file_remedy(&error, maker))
        })?;
        let configuration = Configuration::parse(&path, &text).and_then(|configuration| {
            configuration.known_services(None)?;
            Ok(configuration)
        });
        let configuration = configuration.map_err(|error| {
            let line = match &error {
                NoConfiguration::Value { value, .. } => text.lines().position(|line| line.contains(value)),
                _ => None,
            };
            let place = line.map_or_else(|| shown.to_string(), |line| format!("{shown}:{}", line + 1));
            let remedy = format!("correct {place}; {example}");
            match error {
                // Its rule is what it breaks, and no remedy.
                NoConfiguration::Value { key, value, rule, .. } => {
                    failed(format!("{shown}: {key} = {value:?} cannot be: {rule}"), remedy)
                }
                error => failed_by(error, remedy),
            }
        })?;
        let (doors, services) = (configuration.doors().count(), configuration.services.len());
        let found = format!("{}, {doors} clients' doors, {services} services", configuration.server);
        Ok(ok(File { path, text, configuration }, found))
    });
    line.looks(slow, look).await
}

/// The disk, and last the operators' token, if there is one.
async fn disk(sheet: &Sheet, file: &Found<File>) -> Found<Option<String>> {
    let directory = file.get().map(File::directory).unwrap_or_default();
    let kept = [KEYS, CERTIFICATES, GLOBAL_CONFIGURATION, MESSAGE_LOG, AUDIT_LOG].map(|name| directory.join(name));
    // The index is a view: it may be missing, and is made again.
    let index = Some(directory.join(INDEX)).filter(|index| index.exists());
    let kept: Vec<_> = kept.into_iter().chain(index).collect();
    let ours = disk::lines(sheet, Part::Disk, file, &directory, &kept).await;
    let keys = directory.join(KEYS);
    let line = sheet.line(Part::Disk, "key files", keys.display().to_string());
    let (listed, place) = (directory.clone(), keys.clone());
    let looked = async {
        ours.get()?;
        blocking(move || {
            let back = || format!("put {} back from a copy", place.display());
            let mut files = ring::key_files(&listed).map_err(|error| failed(error.to_string(), back()))?;
            // Those in use are missed by name.
            files.extend(Use::ALL.map(|what| ring::key_in_use(&listed, what)));
            keys::private(BTreeSet::from_iter(files))
        })
        .await
    };
    line.looks(disk::slow(&keys), looked).await;
    let token = directory.join(OPERATORS_TOKEN);
    let line = sheet.line(Part::Disk, "operators' token", token.display().to_string());
    let looked = async {
        ours.get()?;
        let remedy = format!("chmod 600 {}", token.display());
        blocking(move || {
            let read = operators_token(&directory).map_err(|error| failed(error.to_string(), remedy))?;
            let found = if read.is_some() { "for its owner only" } else { "not made yet: the server never ran" };
            Ok(ok(read, found))
        })
        .await
    };
    line.looks(disk::slow(&token), looked).await
}

async fn keys(sheet: &Sheet, options: &Options, file: &Found<File>) -> Found<Keys> {
    let source = file.get().map(|file| file.configuration.unlock.to_string()).unwrap_or_default();
    let at = file.get().map(|file| file.at(&["unlock"])).unwrap_or_default();
    let passphrase = sheet.line(Part::Keys, "passphrase", source).says(options.unlock.looked(&at));
    let directory = file.get().map(File::directory).unwrap_or_default();
    let keys = directory.join(KEYS);
    let looked = async {
        file.get()?;
        let passphrase = passphrase.get()?.clone();
        blocking(move || Ok(ok(Keys::in_use(&directory, &passphrase).map_err(keys::key)?, "both open"))).await
    };
    sheet.line(Part::Keys, "keys", keys.display().to_string()).looks(disk::slow(&keys), looked).await
}

async fn stored(sheet: &Sheet, file: &Found<File>) -> Found<Trusted> {
    let directory = file.get().map(|file| file.beside(GLOBAL_CONFIGURATION)).unwrap_or_default();
    let line = sheet.line(Part::Stored, "stored configuration", directory.display().to_string());
    let slow = Limit::new(READING, disk::slow(&directory).remedy);
    line.looks(slow, async {
        file.get()?;
        blocking(move || {
            let trusted = Store::read(&directory).map_err(|error| {
                let remedy = match &error {
                    StoreError::NotJoined(_) => "security-server join: the server has not joined yet".to_owned(),
                    _ => format!(
                        "put {0} back from a copy made after the last change; or move it away and join again with a new \
                         invitation",
                        directory.display()
                    ),
                };
                failed_by(error, remedy)
            })?;
            let configuration = Arc::clone(trusted.configuration());
            let found = format!(
                "version {} of {}, verified from the anchor: {} members, {} servers",
                configuration.version,
                configuration.instance,
                configuration.members.len(),
                configuration.servers.len()
            );
            Ok(ok(trusted, found))
        })
        .await
    })
    .await
}
