//! What the steps of a registration stand on: the register at its desk, the authority, the keys, the clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::identifier::InstanceId;
use proto::registration::{COMMAND_WINDOW, CommandId};
use proto::time::Time;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::authority::CertificateAuthority;
use crate::history::{self, History};
use crate::oversight::Allowances;
use crate::publish::{Publication, RoleKeys};
use crate::register::{Admitted, Asked, By, Entry, Event, Hex, Lost, Refused, Register};
use crate::shelf::Shelf;
use crate::tsa::TimestampingAuthority;

/// Most commands that only read and are remembered, so that none is answered twice.
const MAX_READING_COMMANDS: usize = 100_000;
/// How often the same alarm is told at the most: whoever asks could fill the diagnostics with it.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A registry at work.
pub(crate) struct Registry {
    pub instance: InstanceId,
    pub authority: CertificateAuthority,
    pub role_keys: RoleKeys,
    pub tsa: TimestampingAuthority,
    /// Where the published files stand.
    pub public: PathBuf,
    pub clock: Clock,
    /// One at a time: whoever decides holds it until the decision is durable.
    pub desk: tokio::sync::Mutex<Desk>,
    /// The newest publication, for whoever watches.
    pub published: watch::Sender<Arc<Publication>>,
    /// Changes whenever the register did, for applicants who wait.
    pub changed: watch::Sender<()>,
    pub closing: CancellationToken,
    /// What restores lost, and who knows more.
    pub forgotten: Forgotten,
    /// Entries and descriptors of the catalogue.
    pub shelf: Shelf,
    /// Questions about the whole catalogue are answered one at a time: each looks through all of it.
    pub one_question: Arc<tokio::sync::Mutex<()>>,
    /// Signatures in servers' reports are checked for one report at a time: each has hundreds.
    pub one_report: std::sync::Arc<tokio::sync::Mutex<()>>,
    /// What servers may still report of their grants.
    pub allowances: Allowances,
}

/// Whether somebody has a version that this registry, put back from a backup, does not know to have signed.
pub(crate) struct Forgotten {
    lost: Vec<Lost>,
    heard: Mutex<Heard>,
}

/// What was heard last, and when it was told last.
#[derive(Default)]
struct Heard {
    version: Option<u64>,
    told: Option<Instant>,
}

impl Forgotten {
    pub fn of(register: &Register) -> Self {
        Self { lost: register.lost().to_vec(), heard: Mutex::default() }
    }

    /// Somebody says that it has this version, where `newest` is the newest one here. It proves nothing, so it is an alarm
    /// and no more.
    pub fn hear_of(&self, version: u64, newest: u64) {
        let is_within = |lost: &&Lost| lost.taken_up < version && version <= lost.passes_over;
        let taken_up = self.lost.iter().find(is_within).map(|lost| lost.taken_up);
        let Some(known) = taken_up.or((version > newest).then_some(newest)) else { return };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.version = Some(version);
        if heard.told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            heard.told = Some(Instant::now());
            tracing::error!(
                version,
                known,
                "A SERVER HAS A LATER VERSION than the last one known here: the registry was put back with an older copy, and \
                 what was decided between the two is forgotten. Decide it again, or stop the registry and restore anew with \
                 `backup restore --published` and that server's global-configuration/"
            );
        }
    }

    /// The last version of which somebody said so.
    pub fn heard_of(&self) -> Option<u64> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).version
    }
}

/// The register, its history, and what was published of it.
pub(crate) struct Desk {
    pub register: Register,
    pub history: History,
    /// The newest version that was signed and recorded.
    pub publication: Arc<Publication>,
    /// The version that the public files have.
    pub written: u64,
    /// The register says more than what was published: publishing failed, or was not tried yet.
    pub unpublished: bool,
    /// Commands that changed nothing and so stand in no entry, and when they came.
    read: BTreeMap<CommandId, Time>,
}

impl Registry {
    /// The time at this desk.
    pub fn now(&self, desk: &Desk) -> Time {
        history::now((self.clock)(), &desk.register)
    }
}

impl Desk {
    pub fn new(register: Register, history: History, publication: Arc<Publication>, written: u64) -> Self {
        Self { register, history, publication, written, unpublished: true, read: BTreeMap::new() }
    }

    /// Whether an event may follow now.
    pub fn admit(&self, now: Time, by: Option<By>, event: Event) -> Result<Admitted, Refused> {
        self.register.admit(Entry::of(now.as_millis(), by, event))
    }

    /// Whether an event may follow now that a server asked for, from there.
    pub fn admit_asked(&self, from: String, now: Time, asked: Asked, event: Event) -> Result<Admitted, Refused> {
        let (asked, from) = (Some(asked), Some(from));
        self.register.admit(Entry { asked, from, ..Entry::of(now.as_millis(), None, event) })
    }

    /// The same, asked from there.
    pub fn admit_from(&self, from: String, now: Time, by: Option<By>, event: Event) -> Result<Admitted, Refused> {
        self.register.admit(Entry { from: Some(from), ..Entry::of(now.as_millis(), by, event) })
    }

    /// Whether an event may follow now that others proposed with this command, and this one confirms.
    pub fn admit_confirmed(
        &self,
        from: String,
        now: Time,
        by: By,
        command: Hex,
        event: Event,
    ) -> Result<Admitted, Refused> {
        let entry = Entry::of(now.as_millis(), Some(by), event);
        self.register.admit(Entry { from: Some(from), confirms: Some(command), ..entry })
    }

    /// Makes what was admitted durable, and so.
    pub async fn record(&mut self, admitted: Admitted) -> Result<(), Refused> {
        self.history.record(&mut self.register, admitted).await
    }

    /// A command is carried out once, also one that only reads.
    pub fn is_new(&self, command: CommandId) -> Result<(), Refused> {
        self.register.is_new(&hex::encode(command))?;
        if self.read.contains_key(&command) {
            return Err(Refused::CommandRepeated(hex::encode(command)));
        }
        Ok(())
    }

    /// Remembers a command that changes nothing, for as long as its time could be taken for a fresh one.
    pub fn remember(&mut self, command: CommandId, now: Time) -> Result<(), Refused> {
        self.read.retain(|_, time| *time >= now.minus(2 * COMMAND_WINDOW));
        if self.read.len() >= MAX_READING_COMMANDS {
            return Err(Refused::Limit { what: "reading commands in two minutes", limit: MAX_READING_COMMANDS });
        }
        self.read.insert(command, now);
        Ok(())
    }
}
