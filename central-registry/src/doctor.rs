//! `central-registry doctor`: looks at this registry and at all that it rests on, in the order of cause. The first line
//! that failed is the cause; what rests on it is skipped, and says so.
//!
//! What reads the file, opens the keys and takes up what was published is what the registry itself starts with. It works
//! whether or not the registry runs. It takes no lock, makes no file, signs nothing, changes nothing, and shows no secret.

mod door;
mod keys;
mod published;
mod timestamps;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use checks::keys::Unlock;
use checks::{Found, Report, blocking, disk, failed, failed_by, names, ok};
use command_line::{Reading, file_remedy};
use keystore::Source;

use crate::Clock;
use crate::configuration::{Configuration, NoConfiguration};
use crate::history::{JOURNAL, VIEW};
use crate::init::{KEY_NAMES, KEYS};
use crate::spread::PUBLIC;
use crate::system_clock;

/// How long a registry on this machine may take to answer.
pub const ANSWER: Duration = Duration::from_secs(1);
/// How long reading what was published may take: the configuration of a whole country.
pub const READING: Duration = Duration::from_secs(3);
/// How long a timestamping authority may take.
pub const OTHERS: Duration = Duration::from_secs(3);

/// The doctor's options.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The configuration file that `init` wrote.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where the passphrase comes from, instead of what the file says.
    #[arg(long, value_name = "SOURCE")]
    pub unlock: Option<Source>,
    /// Ask for no passphrase: whatever needs the keys is skipped.
    #[arg(long, conflicts_with = "unlock")]
    pub no_passphrase: bool,
    /// How the report is shown.
    #[command(flatten)]
    pub reading: Reading,
}

/// What is examined, and with what.
pub struct Options {
    /// The registry's configuration file.
    pub file: PathBuf,
    /// What opens the keys.
    pub unlock: Unlock,
    /// The clock that is compared with what was written down.
    pub clock: Clock,
}

/// The parts of the examination, in the order of cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    File,
    Disk,
    Keys,
    Published,
    Clock,
    Validity,
    Door,
    Members,
    Timestamps,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "the configuration file",
            Self::Disk => "the disk",
            Self::Keys => "keys and certificates",
            Self::Published => "what was decided and published",
            Self::Clock => "the clock",
            Self::Validity => "how long it holds",
            Self::Door => "the door",
            Self::Members => "members",
            Self::Timestamps => "timestamps",
        })
    }
}

type Sheet = checks::Sheet<Part>;

/// The configuration file, read.
struct File {
    path: PathBuf,
    text: String,
    configuration: Configuration,
}

impl File {
    /// The file, and the line in it, where this stands.
    fn at(&self, key: &str) -> String {
        match names::line(&self.text, &[key]) {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }

    /// The registry's directory.
    fn directory(&self) -> PathBuf {
        disk::directory(&self.configuration.directory)
    }

    /// The command that starts the registry.
    fn start(&self) -> String {
        format!("systemctl start central-registry, or: central-registry serve --config {}", self.path.display())
    }
}

/// Examines as asked, tells, and ends the program.
pub async fn run(arguments: Arguments) -> ! {
    let Arguments { config: file, unlock, no_passphrase, reading } = arguments;
    let read = file.clone();
    let told = move || Configuration::read(&read).ok().map(|configuration| configuration.unlock);
    let unlock = if no_passphrase { Unlock::unasked() } else { Unlock::read(unlock, told).await };
    examine(&Options { file, unlock, clock: system_clock() }).await.told(reading)
}

/// Examines a registry.
pub async fn examine(options: &Options) -> Report {
    let of = format!("central-registry doctor: {}", options.file.display());
    checks::examine(of, async |sheet| look(sheet, options).await).await
}

async fn look(sheet: &Sheet, options: &Options) {
    let now = (options.clock)();
    let file = read(sheet, options).await;
    let ours = disk(sheet, &file).await;
    let keys = keys::open(sheet, options, &file).await;
    let (published, journal) =
        tokio::join!(published::files(sheet, &file, &ours), published::journal(sheet, &file, &ours));
    published::fit(sheet, &published, &journal);
    keys::fit(sheet, &keys, &published);
    let clock = published::clock(sheet, now, &published, &journal);
    let state = door::serves(sheet, &file, &keys, &published).await;
    published::validity(sheet, now, &clock, &published, &keys, &state, &file);
    door::admins(sheet, &file, &keys.fingerprint);
    published::members(sheet, now, &clock, &published).await;
    timestamps::ask(sheet, options, &file, &keys, &published, &clock, &state).await;
}

async fn read(sheet: &Sheet, options: &Options) -> Found<File> {
    let path = options.file.clone();
    let line = sheet.line(Part::File, "configuration file", path.display().to_string());
    let slow = disk::slow(&path);
    let look = blocking(move || {
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let maker = "give the file that `central-registry init` wrote: --config FILE";
            failed(error.to_string(), file_remedy(&error, maker))
        })?;
        let configuration = Configuration::parse(&path, &text).map_err(|error| {
            let line = match &error {
                NoConfiguration::Value { key, .. } => names::line(&text, &[*key]),
                NoConfiguration::Unreadable { .. } | NoConfiguration::Form { .. } => None,
            };
            let place = line.map_or_else(|| shown.to_string(), |line| format!("{shown}:{line}"));
            let remedy = format!("correct {place}; every key is explained in deploy/central-registry.toml");
            match error {
                // Its rule is what it breaks, and no remedy.
                NoConfiguration::Value { key, value, rule, .. } => {
                    failed(format!("{shown}: {key} = {value:?} cannot be: {rule}"), remedy)
                }
                error => failed_by(error, remedy),
            }
        })?;
        let found = format!("it listens at {}", configuration.listen);
        Ok(ok(File { path, text, configuration }, found))
    });
    line.looks(slow, look).await
}

async fn disk(sheet: &Sheet, file: &Found<File>) -> Found<()> {
    let directory = file.get().map(File::directory).unwrap_or_default();
    let kept = [KEYS, JOURNAL, PUBLIC].map(|name| directory.join(name));
    // The view is a view: it may be missing, and is made again.
    let view = Some(directory.join(VIEW)).filter(|view| view.exists());
    let kept: Vec<_> = kept.into_iter().chain(view).collect();
    let ours = disk::lines(sheet, Part::Disk, file, &directory, &kept).await;
    let keys = directory.join(KEYS);
    let files = KEY_NAMES.map(|name| keys.join(format!("{name}.pem")));
    let looked = async {
        ours.get()?;
        blocking(move || checks::keys::private(files)).await
    };
    sheet.line(Part::Disk, "key files", keys.display().to_string()).looks(disk::slow(&keys), looked).await;
    ours
}
