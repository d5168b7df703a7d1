//! What the steps of a registration stand on: the register at its desk, the authority, the keys, the clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proto::identifier::InstanceId;
use proto::registration::{COMMAND_WINDOW, CommandId};
use proto::time::Time;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::authority::CertificateAuthority;
use crate::history::{self, History};
use crate::publish::{Publication, RoleKeys};
use crate::register::{Admitted, By, Entry, Event, Refused, Register};

/// Most commands that only read and are remembered, so that none is answered twice.
const MAX_READING_COMMANDS: usize = 100_000;

/// A registry at work.
pub(crate) struct Registry {
    pub instance: InstanceId,
    pub authority: CertificateAuthority,
    pub role_keys: RoleKeys,
    /// Where the published files stand.
    pub public: PathBuf,
    pub clock: Clock,
    /// One at a time: whoever decides holds it until the decision is durable.
    pub desk: Mutex<Desk>,
    /// The newest publication, for whoever watches.
    pub published: watch::Sender<Arc<Publication>>,
    /// Changes whenever the register did, for applicants who wait.
    pub changed: watch::Sender<()>,
    pub closing: CancellationToken,
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
        self.register.admit(Entry { at: now.as_millis(), by, from: None, event })
    }

    /// The same, asked from there.
    pub fn admit_from(&self, from: String, now: Time, by: Option<By>, event: Event) -> Result<Admitted, Refused> {
        self.register.admit(Entry { at: now.as_millis(), by, from: Some(from), event })
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
