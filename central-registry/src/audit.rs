//! The audit journal as people read and verify it: who decided what, when and from where. It reads the directory of a
//! registry that runs or is stopped, and asks nobody.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use command_line::{Exit, Progress, Reading, file_remedy, say, show};
use journal::{Directory, ReadError, Verified};
use proto::catalogue::ReceivedEntry;
use proto::digest::Digest;
use proto::identifier::{InstanceId, SubsystemId};
use proto::record::Kind;
use proto::time::Time;
use registry_client::Fingerprint;
use serde_json::{Value, json};

use crate::configuration::{Configuration, NoConfiguration};
use crate::history::JOURNAL;
use crate::journal_key::{self, JOURNAL_KEY};
use crate::persons::{Person, may_order};
use crate::publish::Publication;
use crate::register::{Asked, By, Entry, Event, Hex, Lost, Register, listed_entries, reported};
use crate::spread::{self, NotTakenUp, PUBLIC};
use crate::usage::ConfigurationFile;

/// What is asked of the journal.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show who decided what, when and from where.
    List {
        /// Only so many of the newest.
        #[arg(long, value_name = "NUMBER")]
        last: Option<usize>,
        /// The versions that were signed too: one a minute.
        #[arg(long)]
        versions: bool,
        /// Which registry.
        #[command(flatten)]
        registry: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Reading,
    },
    /// Verify the whole journal: every hash, every signature of a head, every rule, every admin's signature on its order, and every
    /// server's on what it asked.
    Verify {
        /// The key that must have signed the journal, as it was noted elsewhere: sha256:...
        #[arg(long, value_name = "sha256:...")]
        key: Option<Fingerprint>,
        /// A copy of what was published, from elsewhere: a mirror's public/, or global-configuration/ of a security server.
        /// The journal must know its version, with just its content. The registry's own is always held against it.
        #[arg(long, value_name = "DIRECTORY")]
        published: Vec<PathBuf>,
        /// Which registry.
        #[command(flatten)]
        registry: ConfigurationFile,
        /// How the findings are shown.
        #[command(flatten)]
        reading: Reading,
    },
}

/// Why the journal was not shown, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The journal cannot be read, or is damaged.
    #[error("the audit journal: {0}")]
    Journal(#[from] ReadError),
    /// A file.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "a start of the registry writes it"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is another one.
    #[error("{JOURNAL_KEY} is sha256:{found}, not {wanted}; find out who changed it before you trust this directory")]
    OtherKey {
        /// What is there.
        found: Digest,
        /// What was noted elsewhere.
        wanted: Fingerprint,
    },
    /// What is published cannot be read.
    #[error("{}: {why}; give another copy of {PUBLIC}/, or global-configuration/ of any security server", .path.display())]
    Published {
        /// Where.
        path: PathBuf,
        /// Why.
        why: NotTakenUp,
    },
    /// It does not hold.
    #[error("the audit journal does not hold: {0}; keep it as it is, and compare it with a backup")]
    DoesNotHold(String),
}

impl AuditError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Usage,
            Self::Journal(ReadError::Disk(_)) | Self::File { .. } => Exit::Failed,
            Self::Published { .. } => Exit::CheckFailed,
            Self::Journal(_) | Self::OtherKey { .. } | Self::DoesNotHold(_) => Exit::EvidenceInvalid,
        }
    }
}

/// Does as asked, on standard output.
pub fn run(command: Command) -> Result<(), AuditError> {
    match command {
        Command::List { last, versions, registry, reading } => {
            list(&Configuration::read(&registry.config)?, last, versions, reading.json)
        }
        Command::Verify { key, published, registry, reading } => {
            let found = {
                let _shown = Progress::of("verifying the audit journal");
                verify(&Configuration::read(&registry.config)?, key, &published)?
            };
            show(reading.json, &found.to_json(), || found.to_string());
            found.holds()
        }
    }
}

fn list(configuration: &Configuration, last: Option<usize>, versions: bool, json: bool) -> Result<(), AuditError> {
    let disk = Directory(configuration.directory.join(JOURNAL));
    let mut replayed = Replayed::default();
    let mut lines = VecDeque::new();
    journal::read(&disk, None, &mut |entry| {
        let read = replayed.see(&entry);
        let is_version = read.as_ref().is_some_and(|read| matches!(read.event, Event::Published { .. }));
        let is_shown = matches!(entry.record.kind(), Kind::Entry | Kind::Genesis) && (versions || !is_version);
        if !is_shown || last == Some(0) {
            return;
        }
        if last.is_some_and(|last| lines.len() >= last) {
            lines.pop_front();
        }
        lines.push_back(Line::of(&entry, read, &replayed.register));
    })?;
    if json {
        let entries: Vec<_> = lines.iter().map(Line::to_json).collect();
        show(true, &json!({ "entries": entries }), String::new);
    } else {
        lines.iter().for_each(|line| say(&line.to_text()));
    }
    Ok(())
}

/// An entry as it is shown.
struct Line {
    position: String,
    read: Option<Entry>,
    opened: Option<String>,
    admin: Option<String>,
}

impl Line {
    fn of(entry: &journal::Entry, read: Option<Entry>, register: &Register) -> Self {
        let opened = (entry.record.kind() == Kind::Genesis)
            .then(|| entry.genesis.content.why().as_str_name().to_lowercase().replace('_', " "));
        let key = read.as_ref().and_then(|read| read.by.as_ref()).map(|by| by.admin.0);
        let admin = key.and_then(|key| register.admin_name(key)).map(ToString::to_string);
        Self { position: entry.position.to_string(), read, opened, admin }
    }

    fn to_json(&self) -> Value {
        match (&self.read, &self.opened) {
            (Some(read), _) => json!({
                "position": self.position, "at": Time::from_millis(read.at).to_string(), "from": read.from,
                "admin": self.admin, "by": read.by, "confirms": read.confirms, "asked": read.asked, "event": read.event,
            }),
            (None, opened) => json!({ "position": self.position, "opened": opened }),
        }
    }

    fn to_text(&self) -> String {
        let (at, what) = match (&self.read, &self.opened) {
            (Some(read), _) => (Time::from_millis(read.at).to_string(), read.event.in_words()),
            (None, Some(why)) => ("-".to_owned(), format!("the journal was opened: {why}")),
            (None, None) => ("-".to_owned(), "an entry that this program does not know".to_owned()),
        };
        let mut text = format!("{at:24}  {what}");
        let by = self.read.as_ref().and_then(|read| read.by.as_ref());
        let from = self.read.as_ref().and_then(|read| read.from.as_ref());
        let by = by.map(|By { admin, signed, .. }| {
            let signed = if signed.is_some() { "" } else { ", whose signature was not kept" };
            format!("by {} (key {}{signed})", self.admin.as_deref().unwrap_or("nobody known"), admin.0)
        });
        let from = from.map(|from| format!("from {from}"));
        let asked = self.read.as_ref().and_then(|read| read.asked.as_ref());
        let asked = asked.map(|asked| format!("as {} asked (key {})", asked.server, asked.key.0));
        let confirms = self.read.as_ref().and_then(|read| read.confirms);
        let confirms = confirms.map(|command| format!("confirming the command {}", command.0));
        let who: Vec<String> = by.into_iter().chain(confirms).chain(asked).chain(from).collect();
        if !who.is_empty() {
            text += &format!("\n{:26}{}", "", who.join(", "));
        }
        text
    }
}

/// The services of these entries, each with its version.
fn listed(entries: &[String]) -> String {
    let read = listed_entries(entries).unwrap_or_default();
    let each = read
        .iter()
        .map(ReceivedEntry::entry)
        .map(|said| format!("{} {} of {}", said.service, said.version, said.subsystem));
    each.collect::<Vec<_>>().join(", ")
}

impl Event {
    /// What happened, for people.
    fn in_words(&self) -> String {
        match self {
            Self::Founded { instance, admin, .. } => {
                format!("founded {}, \"{}\", with the admin {admin}", instance.instance, instance.name)
            }
            Self::Invited { invitation, .. } => {
                let subsystems = invitation.subsystems.iter().map(SubsystemId::as_str).collect::<Vec<_>>().join(", ");
                format!("invited {} of {} to host {subsystems}", invitation.server, invitation.member)
            }
            Self::Applied { request, application, .. } => {
                format!("{request}: {} asked to join, at {}", application.server, application.address)
            }
            Self::Approved { request, .. } => format!("approved {request}"),
            Self::Rejected { request, reason } => format!("rejected {request}: {reason}"),
            Self::Suspended { member, reason } => format!("suspended {member}: {reason}"),
            Self::Restored { member } => format!("restored {member}"),
            Self::Revoked { key, reason, last_head: None } => format!("revoked the key {}: {reason}", key.0),
            Self::Revoked { key, reason, last_head: Some(head) } => {
                format!("revoked the key {}, with its last head {}: {reason}", key.0, head.replace('\n', " "))
            }
            Self::Renewed { for_what, certificate } => {
                let key = proto::certificate::public_key(certificate.as_bytes());
                let key = key.map_or_else(|_| "that cannot be read".to_owned(), |key| key.id().to_string());
                format!("certified the key {key}, {for_what}")
            }
            Self::Moved { server, address } => format!("published that {server} is reached at {address}"),
            Self::Maintained { server, notice: Some(notice) } => format!("{server} is in maintenance: {notice}"),
            Self::Maintained { server, notice: None } => format!("{server} is back from maintenance"),
            Self::Hosted { subsystem, server } => format!("let {server} speak for {subsystem}"),
            Self::Unhosted { subsystem, server } => format!("let {server} speak for {subsystem} no more"),
            Self::Leaving { member, reason } => format!("{member} asked to leave: {reason}"),
            Self::Removed { what, reason } => format!("removed {what}: {reason}"),
            Self::Governed { root, persons, .. } => {
                let person = |person: &Person| {
                    let roles: Vec<_> = person.roles.iter().map(|role| role.word()).collect();
                    format!("{} ({})", person.name, roles.join(", "))
                };
                let all: Vec<_> = persons.persons.iter().map(person).collect();
                format!("root {root} states: {} persons for what matters, of {}", persons.threshold, all.join(", "))
            }
            Self::Proposed { number, expires } => {
                format!("proposed P-{number}, which waits for others until {}", Time::from_millis(*expires))
            }
            Self::Confirmed { command } => format!("confirmed the command {}", command.0),
            Self::AdoptedRevocation { version, key, .. } => {
                format!("took up that the key {} is revoked, as version {version} had said before the restore", key.0)
            }
            Self::Started { program, changed } => {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
                let changes = changed.iter().map(|change| {
                    format!("\n{:26}{}: {} -> {}", "", change.setting, value(&change.before), value(&change.after))
                });
                let changes = if changed.is_empty() { ", settings as before".to_owned() } else { changes.collect() };
                format!("started, version {program}{changes}")
            }
            Self::Listed { entries, .. } => format!("listed {} in the catalogue", listed(entries)),
            Self::GrantsTold { report, .. } => match reported(report) {
                Ok(read) => {
                    let (server, grants) = (&read.report().server, read.report().grants.len());
                    format!("was told by {server} of {grants} grants, with something new")
                }
                Err(_) => "was told of grants in a report that cannot be read".to_owned(),
            },
            Self::BackedUp { signing_keys: true } => "made a backup, WITH the keys that sign".to_owned(),
            Self::BackedUp { signing_keys: false } => "made a backup, without the keys that sign".to_owned(),
            Self::Adopted { version, member, document } => {
                let what = if document.is_some() { "as" } else { "no more, as" };
                format!("took {member} up {what} version {version} had said before the restore")
            }
            Self::AdoptedLeaves { genesis, leaves } => {
                let (count, name) = (leaves.len(), genesis.name());
                format!("took up {count} leaves of the ledger {name} that were published before the restore")
            }
            Self::PutBack { backup, taken_up, passes_over, .. } => {
                format!(
                    "started after it was put back: {backup}; version {taken_up} was taken up, and no version up to {passes_over} is signed again"
                )
            }
            Self::Published { version, .. } => format!("signed version {version}"),
            Self::PurposeSet { purpose } => {
                format!("put the purpose {} on the list: {}; {}", purpose.purpose, purpose.en, purpose.vi)
            }
            Self::PurposeRemoved { purpose, reason } => format!("took the purpose {purpose} off the list: {reason}"),
            Self::Timestamping { approved } => {
                let names = approved.iter().map(|each| match &each.address {
                    Some(address) => format!("{} at {address}", each.name),
                    None => format!("{}, the registry's own", each.name),
                });
                format!("approved the timestamping authorities: {}", names.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// Verifies the journal of the registry with this configuration.
pub fn verify(
    configuration: &Configuration,
    wanted: Option<Fingerprint>,
    copies: &[PathBuf],
) -> Result<Found, AuditError> {
    let directory = &configuration.directory;
    let key = journal_key::read(directory)
        .map_err(|source| AuditError::File { path: directory.join(JOURNAL_KEY), source })?;
    if let Some(wanted) = wanted.filter(|wanted| wanted.0 != key.id()) {
        return Err(AuditError::OtherKey { found: key.id(), wanted });
    }
    // Read before the journal: a registry that runs records a version before it writes it.
    let own = directory.join(PUBLIC);
    let told: Result<Vec<Told>, AuditError> = [&own].into_iter().chain(copies).map(|place| Told::at(place)).collect();
    let disk = Directory(directory.join(JOURNAL));
    // What was published after the backup is taken up by the next start.
    let waits = directory.join(JOURNAL).join(journal::RESTORED_FILE).exists();
    let mut replayed = Replayed { told: told?, waits, ..Replayed::default() };
    let known = |id: &Digest| (*id == key.id()).then(|| key.clone());
    let journal = journal::verify(&disk, &known, &mut |entry| drop(replayed.see(&entry)))?;
    Ok(replayed.found(journal))
}

/// The entries of a journal, held against the register's rules and the admins' keys.
#[derive(Default)]
pub(crate) struct Replayed {
    pub register: Register,
    entries: u64,
    orders: u64,
    unsigned: u64,
    /// A server's request was kept with what it asked for.
    keeps_requests: bool,
    told: Vec<Told>,
    /// It was put back, and has not started since.
    waits: bool,
    wrong: Vec<String>,
}

/// A version that somebody was told, and what the journal says of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Where it is.
    pub place: PathBuf,
    /// Which.
    pub version: u64,
    timestamp: Digest,
    recorded: Option<Digest>,
}

impl Told {
    fn at(place: &Path) -> Result<Self, AuditError> {
        let failed = |why| AuditError::Published { path: place.to_owned(), why };
        spread::copied(place).map_err(failed).map(|publication| Self::of(place, &publication))
    }

    fn of(place: &Path, publication: &Publication) -> Self {
        let (version, timestamp) = (publication.version(), spread::timestamp(publication));
        Self { place: place.to_owned(), version, timestamp, recorded: None }
    }

    /// What contradicts the journal that made this register.
    fn contradicts(&self, register: &Register, waits: bool) -> Option<String> {
        let (version, known) = (self.version, register.published());
        let place = self.place.display();
        match self.recorded {
            Some(recorded) if recorded == self.timestamp => None,
            Some(_) => Some(format!("{place} holds version {version} with another content than the one recorded here")),
            None if self.is_lost(register, waits) => None,
            None if version > known => {
                Some(format!("{place} holds version {version}, and {known} is the last one here: the end was cut off"))
            }
            None => Some(format!("{place} holds version {version}, which is not recorded here")),
        }
    }

    /// Whether it was signed after the backup from which the journal was put back.
    fn is_lost(&self, register: &Register, waits: bool) -> bool {
        let is_within = |lost: &Lost| lost.known < self.version && self.version <= lost.passes_over;
        self.recorded.is_none()
            && (waits && self.version > register.published() || register.lost().iter().any(is_within))
    }
}

impl Replayed {
    /// Holds this version against the entries that come.
    pub fn hold(&mut self, place: &Path, publication: &Publication) {
        self.told.push(Told::of(place, publication));
    }

    /// Takes the next entry; returns what it says, where it says anything.
    pub fn see(&mut self, entry: &journal::Entry) -> Option<Entry> {
        if entry.record.kind() != Kind::Entry {
            return None;
        }
        self.entries += 1;
        let wrong = |why: &dyn std::fmt::Display| format!("at {}: {why}", entry.position);
        let read = match serde_json::from_slice::<Entry>(&entry.record.body()) {
            Ok(read) => read,
            Err(error) => {
                self.wrong.push(wrong(&format_args!("no entry that this program knows: {error}")));
                return None;
            }
        };
        if let Some(by) = &read.by {
            self.orders += 1;
            match self.ordered(by, &read) {
                Ok(true) => {}
                // A version that keeps signatures is followed by none that does not.
                Ok(false) if self.orders > self.unsigned + 1 => {
                    self.wrong.push(wrong(&"an order without its signature, after others that have theirs"));
                }
                Ok(false) => self.unsigned += 1,
                Err(why) => self.wrong.push(wrong(&why)),
            }
        }
        if read.event.is_ordered() && read.by.is_none() && read.asked.is_none() {
            self.wrong.push(wrong(&"a decision that nobody ordered"));
        }
        if let Some(asked) = &read.asked
            && let Err(why) = self.asked(asked, &read)
        {
            self.wrong.push(wrong(&why));
        }
        if let Event::Published { version, timestamp, .. } = &read.event {
            let told = self.told.iter_mut().filter(|told| told.version == *version);
            told.for_each(|told| told.recorded = Some(timestamp.0));
        }
        match self.register.admit(read.clone()) {
            Ok(admitted) => self.register.apply(admitted),
            Err(refused) => self.wrong.push(wrong(&refused)),
        }
        Some(read)
    }

    /// Whether the admin's signature was kept; why not, where it does not hold.
    fn ordered(&self, by: &By, read: &Entry) -> Result<bool, String> {
        let instance: Option<InstanceId> = self.register.instance().map(|founded| founded.instance.clone());
        let key = self.register.admin(by.admin.0).map_err(|refused| refused.to_string())?;
        let instance = instance.ok_or("an order before the founding")?;
        if let Some(command) = read.confirms {
            by.confirms(&key, &instance, command).map_err(|error| error.to_string())?;
            return self.proposed(command, read, &instance).map(|()| true);
        }
        if let (Event::Proposed { .. }, Some(Ok(order))) = (&read.event, by.order(&key, &instance)) {
            self.register.has_role(by.admin.0, may_order(&order)).map_err(|refused| refused.to_string())?;
        }
        match by.verify(&key, &instance, &read.event) {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    /// Whether the person who proposed it signed just this. Those who confirmed it in between were verified with their entries.
    fn proposed(&self, command: Hex, read: &Entry, instance: &InstanceId) -> Result<(), String> {
        let proposal =
            self.register.proposal(command, Time::from_millis(read.at)).map_err(|refused| refused.to_string())?;
        let first = proposal.by.first().ok_or("a proposal of nobody")?;
        let key = self.register.admin(first.admin.0).map_err(|refused| refused.to_string())?;
        let verified = first.verify(&key, instance, &read.event).ok_or("a proposal whose signature was not kept")?;
        verified.map_err(|error| error.to_string())
    }

    /// Whether the server's signature holds, where its request was kept. A version that keeps requests is followed by none
    /// that does not.
    fn asked(&mut self, asked: &Asked, read: &Entry) -> Result<(), String> {
        let instance = self.register.instance().map(|founded| founded.instance.clone());
        let instance = instance.ok_or("a request before the founding")?;
        let key = self.register.asker(asked, &read.event, Time::from_millis(read.at));
        let key = key.map_err(|refused| refused.to_string())?;
        match asked.verify(&key, &instance, &read.event) {
            None if self.keeps_requests => {
                Err("a server's request that was not kept, after others that were".to_owned())
            }
            None => Ok(()),
            Some(verified) => {
                self.keeps_requests = true;
                verified.map_err(|error| error.to_string())
            }
        }
    }

    pub fn found(self, journal: Verified) -> Found {
        let Self { register, entries, orders, unsigned, keeps_requests: _, told, waits, mut wrong } = self;
        wrong.extend(told.iter().filter_map(|told| told.contradicts(&register, waits)));
        let told = told.into_iter().map(|told| (told.is_lost(&register, waits), told)).collect();
        let unproven: Vec<_> = journal.unproven().map(|tree| tree.head.tree.to_string()).collect();
        if !unproven.is_empty() {
            wrong.push(format!("no head of {} is signed by the key of {JOURNAL_KEY}", unproven.join(", ")));
        }
        Found { journal, entries, orders, unsigned, told, wrong }
    }
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The journal's own: hashes, order, heads.
    pub journal: Verified,
    /// Entries in it.
    pub entries: u64,
    /// Orders of admins among them.
    pub orders: u64,
    /// Orders whose signature was not kept: of a version that kept none.
    pub unsigned: u64,
    /// The versions that were held against it, and whether each is of the time that a restore lost.
    pub told: Vec<(bool, Told)>,
    /// What does not hold.
    pub wrong: Vec<String>,
}

impl Found {
    /// Nothing where it holds.
    pub fn holds(&self) -> Result<(), AuditError> {
        if self.wrong.is_empty() { Ok(()) } else { Err(AuditError::DoesNotHold(self.wrong.join("; "))) }
    }

    pub(crate) fn to_json(&self) -> Value {
        let trees = self.journal.trees.iter().map(|tree| {
            json!({
                "tree": tree.head.tree.to_string(), "why": tree.genesis.content.why().as_str_name().to_lowercase(),
                "commits": tree.head.size, "root": tree.head.root.to_string(),
                "signed_commits": tree.signed.map(|head| head.size), "unsigned_commits": tree.unsigned(),
                "by": tree.signatures.keys().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        let told = self.told.iter().map(|(lost, told)| {
            json!({ "place": told.place, "version": told.version, "recorded": told.recorded.is_some(), "lost": lost })
        });
        json!({
            "published": told.collect::<Vec<_>>(),
            "holds": self.wrong.is_empty(), "wrong": self.wrong, "entries": self.entries, "orders": self.orders,
            "orders_without_signature": self.unsigned, "records": self.journal.records,
            "segments": self.journal.segments, "torn_bytes": self.journal.torn_bytes, "trees": trees.collect::<Vec<_>>(),
        })
    }

    /// From which head to which, and what is in between.
    pub(crate) fn in_words(&self) -> String {
        let signatures: u64 = self.journal.trees.iter().flat_map(|tree| tree.signatures.values()).sum();
        let mut text = format!(
            "{} entries, {} orders of admins, {signatures} signed heads, {} trees in {} segments",
            self.entries,
            self.orders,
            self.journal.trees.len(),
            self.journal.segments
        );
        if let (Some(first), Some(last)) = (self.journal.trees.first(), self.journal.trees.last()) {
            let (tree, size, root) = (last.head.tree, last.head.size, last.head.root);
            text += &format!("\n  from  tree {}\n  to    tree {tree}: {size} commits, root {root}", first.head.tree);
            let keys: Vec<_> = last.signatures.keys().map(|key| format!("sha256:{key}")).collect();
            text += &format!("\n  signed by {}", keys.join(", "));
        }
        for (lost, told) in &self.told {
            let found = match told.recorded {
                Some(_) => "which is recorded here",
                None if *lost => "which was signed after the backup that this journal was put back from",
                None => "which is not recorded here",
            };
            text += &format!("\n  {} holds version {}, {found}", told.place.display(), told.version);
        }
        if self.unsigned > 0 {
            text += &format!("\n  {} orders are of a version that did not keep their signatures", self.unsigned);
        }
        let unsigned: u64 = self.journal.trees.iter().map(journal::VerifiedTree::unsigned).sum();
        if unsigned > 0 {
            text += &format!("\n  the last {unsigned} commits are signed by nobody yet");
        }
        if self.journal.torn_bytes > 0 {
            text +=
                &format!("\n  {} bytes at the end are not whole: the next start cuts them", self.journal.torn_bytes);
        }
        text
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.in_words())?;
        for wrong in &self.wrong {
            writeln!(f, "  WRONG: {wrong}")?;
        }
        write!(f, "{}", if self.wrong.is_empty() { "It holds." } else { "It does not hold." })
    }
}
