//! `security-server log verify`: a whole message log, read without trusting it. Every record, commit and signature as the
//! journal's own verification reads them, and what the records say: headers, seals of peers, each direction's chain, and one
//! end for every opening. It reads the directory of a server that runs or is stopped, and asks nobody.
//!
//! Memory is bounded by the exchanges that are open at one place of the log and by its timestamps, one a minute, not by its
//! length.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use command_line::{Ended, Exit, Progress, file_remedy, show};
use journal::{Damage, Directory, Disk, Entry, Position, ReadError, Remains, Verified};
use proto::digest::Digest;
use proto::evidence::time_proven;
use proto::global_configuration::Configuration as Registered;
use proto::head::Head;
use proto::merkle::Frontier;
use proto::message::{Direction, Header};
use proto::record::{Genesis, Kind, TreeName, decode_canonical};
use proto::seal::{self, Sender};
use proto::signature::{KeyId, PublicKey};
use proto::timestamp::NotATimestamp;
use proto::wire::relay::{self as wire, Side};
use serde_json::{Value, json};

use crate::archive::{FETCHED, History};
use crate::audit::{journal_as_json, journal_in_words, unproven};
use crate::config::{Configuration, NoConfiguration};
use crate::global_configuration::{Store, StoreError};
use crate::join::{CERTIFICATES, GLOBAL_CONFIGURATION, MESSAGE_LOG};
use crate::log_keys::{self, LogKeys};
use crate::message_log::{beside, is_withheld};
use crate::usage::{ConfigurationFile, Log};

/// Faults that are told of one log: whoever reads them mends the first.
pub const FAULTS_TOLD: usize = 100;
/// Signatures of peers that wait for a thread to check them.
const SIGNATURES_WAITING: usize = 4096;
/// Signatures that held and need not be checked again where they come again.
const SIGNATURES_REMEMBERED: usize = 65_536;

/// Why a log was not verified.
#[derive(Debug, thiserror::Error)]
pub enum NotVerified {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The global configuration, from which the keys are known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error("the message log: {0}")]
    Disk(ReadError),
    /// A file.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "put it back from a backup"))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NotVerified {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Configuration(error) => error.exit(),
            Self::Store(_) => Exit::CheckFailed,
            Self::Disk(_) | Self::File { .. } => Exit::Failed,
        }
    }
}

/// Something that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where: a record's position, or a file with an offset.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct Found {
    /// Of the journal. Up to the damage, where there is some.
    pub journal: Verified,
    /// Messages that this server sealed.
    pub sent: u64,
    /// Messages of peers, with the seals that prove them.
    pub received: u64,
    /// Messages of peers that were kept from our systems.
    pub withheld: u64,
    /// Ends of exchanges.
    pub closed: u64,
    /// Exchanges that have no end at the end of the log: they run, or the server was killed.
    pub open: u64,
    /// Messages of peers whose seal is not here any more.
    pub without_seal: u64,
    /// Signatures of peers by keys that the configuration does not list any more: they were not checked.
    pub unknown_signatures: u64,
    /// Timestamps that hold, over heads of this log.
    pub timestamps: u64,
    /// Timestamps of authorities that the configuration does not approve any more: they were not checked.
    pub unknown_timestamps: u64,
    /// Records before the first segment that is here: exchanges that began there are not judged.
    pub begins_late: bool,
    /// The first and the last segment that were removed here because they are in the archive.
    pub removed: Option<(u64, u64)>,
    /// Why those were not read, where they were not.
    pub unread: Option<String>,
    /// What the log says was taken out of it: the hash of each segment, and where it says so.
    pub cuts: BTreeMap<u64, (Digest, Position)>,
    /// What is wrong, in the order of the log; the first hundred.
    pub faults: Vec<Fault>,
}

/// Does as asked.
pub fn run(command: Log) -> Result<Exit, Ended> {
    let Log::Verify { server: ConfigurationFile { config }, reading } = command;
    let verified = {
        let _shown = Progress::of("verifying the message log");
        Configuration::read(&config).map_err(NotVerified::from).and_then(|configuration| verify(&configuration))
    };
    let found = verified.map_err(|error| Ended::new(error.exit(), error))?;
    show(reading.json, &found.to_json(), || found.to_string());
    match found.faults.first() {
        None => Ok(Exit::Ok),
        Some(Fault { place, what }) => {
            let why = format!(
                "the message log does not hold: at {place}: {what}; keep it as it is, and compare it with a backup"
            );
            Err(Ended::new(Exit::EvidenceInvalid, why))
        }
    }
}

/// Verifies the message log of the server with this configuration.
pub fn verify(configuration: &Configuration) -> Result<Found, NotVerified> {
    let (keys, registered) = judges(configuration)?;
    let here: Arc<dyn Disk> = Arc::new(Directory(configuration.directory.join(MESSAGE_LOG)));
    let removed = journal::removed(&*here).map_err(NotVerified::Disk)?;
    let archive = configuration.archive.as_ref().filter(|_| !removed.is_empty());
    let store = archive.map(|archive| archive.place.open(&configuration.server)).transpose();
    let (store, unopened) = match store {
        Ok(store) => (store, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let history = History::of(Arc::clone(&here), store, Some(configuration.directory.join(FETCHED)));
    let mut found = verify_with_removed(&*here, &history, &keys, &registered)?;
    if let (Some(why), Some(unopened)) = (&mut found.unread, unopened) {
        *why = unopened;
    }
    Ok(found)
}

/// Verifies a log from which segments were removed: all of it where they can be read, and what is here where they cannot, which is
/// said then. `history`: what is here, with what was removed.
pub fn verify_with_removed(
    here: &dyn Disk,
    history: &History,
    keys: &LogKeys,
    registered: &Registered,
) -> Result<Found, NotVerified> {
    let removed = journal::removed(here).map_err(NotVerified::Disk)?;
    let (Some(first), Some(last)) = (removed.first().copied(), removed.last().copied()) else {
        let mut found = verify_log(here, keys, registered)?;
        held_against_the_cuts(here, &removed, &mut found)?;
        return Ok(found);
    };
    let mut found = match verify_log(history, keys, registered) {
        Ok(found) => found,
        Err(NotVerified::Disk(ReadError::Disk(error))) => {
            let mut found = verify_log(here, keys, registered)?;
            match error.kind() {
                // What is under its name is not what was removed.
                io::ErrorKind::InvalidData => {
                    found.faults.insert(0, Fault { place: "the archive".into(), what: error.to_string() });
                }
                _ => found.unread = Some(error.to_string()),
            }
            found
        }
        Err(error) => return Err(error),
    };
    found.removed = Some((first, last));
    match journal::check_remains(here) {
        Ok(()) => {}
        Err(ReadError::Damaged(Damage { file, what, .. })) => {
            found.faults.push(Fault { place: file, what: what.into() });
        }
        Err(error) => return Err(NotVerified::Disk(error)),
    }
    held_against_the_cuts(here, &removed, &mut found)?;
    Ok(found)
}

/// What the log says was taken out of it must be what is known of it here, and of what was taken out it must say so.
fn held_against_the_cuts(here: &dyn Disk, removed: &[u64], found: &mut Found) -> Result<(), NotVerified> {
    // Where it was not read to its end, nobody knows what it says there.
    let is_read = found.faults.is_empty();
    for (segment, (sha256, position)) in &found.cuts {
        let what = match Remains::read(here, *segment) {
            Ok(Some(remains)) if remains.sha256 == *sha256 => continue,
            Ok(Some(_)) => "with another hash than what is left of it has".to_owned(),
            Ok(None) if is_here(here, *segment)? => continue,
            Ok(None) => format!("and {} is not here; put it back from a backup", journal::remains_name(*segment)),
            // That is told already.
            Err(ReadError::Damaged(_)) => continue,
            Err(error) => return Err(NotVerified::Disk(error)),
        };
        let what = format!("it says that segment {segment} was taken out, {what}");
        found.faults.push(Fault { place: position.to_string(), what });
    }
    // The cut of the last one stands behind it, so in what is here; those of the others may stand in what was not read.
    let judged = if found.unread.is_some() || found.begins_late { removed.len().saturating_sub(1) } else { 0 };
    for segment in removed.iter().skip(judged).filter(|segment| is_read && !found.cuts.contains_key(segment)) {
        let what = format!("segment {segment} was removed, and the log does not say so: somebody else took it out");
        found.faults.push(Fault { place: journal::remains_name(*segment), what });
    }
    Ok(())
}

fn is_here(here: &dyn Disk, segment: u64) -> Result<bool, NotVerified> {
    let names = here.list().map_err(|error| NotVerified::Disk(ReadError::Disk(error)))?;
    Ok(names.contains(&journal::segment_name(segment)))
}

/// By what the log of the server with this configuration is judged: the keys of its heads, and what is registered.
pub(crate) fn judges(configuration: &Configuration) -> Result<(LogKeys, Arc<Registered>), NotVerified> {
    let directory = &configuration.directory;
    let (_, trusted) = Store::copied(&directory.join(GLOBAL_CONFIGURATION))?;
    let place = directory.join(CERTIFICATES);
    let certificates = log_keys::certificates(&place).map_err(|source| NotVerified::File { path: place, source })?;
    let pems = certificates.values().map(Vec::as_slice);
    let keys = LogKeys::of(&configuration.server, trusted.configuration(), pems);
    Ok((keys, Arc::clone(trusted.configuration())))
}

/// Verifies the log on this disk under these keys; peers' keys are those that are registered.
pub fn verify_log(disk: &dyn Disk, keys: &LogKeys, registered: &Registered) -> Result<Found, NotVerified> {
    match verify_as_far_as_it_is_read(disk, keys, registered) {
        (found, None) => Ok(found),
        (_, Some(error)) => Err(error),
    }
}

/// The same, and what was found before the disk failed.
pub(crate) fn verify_as_far_as_it_is_read(
    disk: &dyn Disk,
    keys: &LogKeys,
    registered: &Registered,
) -> (Found, Option<NotVerified>) {
    let (sender, waiting) = mpsc::sync_channel::<Signature>(SIGNATURES_WAITING);
    let (waiting, refused) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let (mut found, failed) = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| check_signatures(&waiting, &refused));
        }
        let mut messages = Messages::of(registered, sender);
        let journal = journal::verify(disk, &|id| keys.find(id), &mut |entry| messages.see(&entry));
        let (mut found, stamped) = messages.found();
        let mut failed = None;
        match journal {
            Ok(journal) => {
                let unproven = unproven(&journal).map(|what| Fault { place: "the heads".into(), what });
                found.faults.extend(unproven);
                found.journal = journal;
                match held_against_the_trees(disk, stamped) {
                    Ok(over_no_head) => {
                        found.timestamps -= over_no_head.len() as u64;
                        found.faults.extend(over_no_head);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            Err(ReadError::Damaged(Damage { file, offset, what })) => {
                found.faults.push(Fault { place: format!("{file}, offset {offset}"), what: what.into() });
            }
            Err(ReadError::Missing(file)) => {
                found.faults.push(Fault { place: file, what: "it is missing between two others".into() });
            }
            Err(error @ ReadError::Disk(_)) => failed = Some(NotVerified::Disk(error)),
        }
        (found, failed)
    });
    let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
    let fault = |position: Position| Fault {
        place: position.to_string(),
        what: "the signature of the peer's head does not hold".into(),
    };
    found.faults.extend(refused.into_iter().map(fault).take(FAULTS_TOLD));
    (found, failed)
}

/// The heads whose timestamps hold, by tree and size: the root, and where the timestamp stands. One a minute.
type Stamped = BTreeMap<(TreeName, u64), Vec<(Digest, Position)>>;

/// Reads the log once more, and holds the stamped heads against its trees. A tree whose beginning is elsewhere has no heads to
/// hold against.
fn held_against_the_trees(disk: &dyn Disk, mut stamped: Stamped) -> Result<Vec<Fault>, NotVerified> {
    if stamped.is_empty() {
        return Ok(Vec::new());
    }
    let (mut wrong, mut trees, mut cut) = (Vec::new(), HashMap::<TreeName, Frontier>::new(), HashSet::new());
    let mut see = |entry: Entry| {
        if entry.position.record > 0 || cut.contains(&entry.tree) {
            return;
        }
        let frontier = trees.entry(entry.tree).or_default();
        if frontier.size() != entry.commit {
            cut.insert(entry.tree);
            return;
        }
        frontier.append(entry.leaf);
        let here = stamped.remove(&(entry.tree, frontier.size())).unwrap_or_default();
        wrong.extend(here.into_iter().filter(|(root, _)| *root != frontier.root()));
    };
    journal::read(disk, None, &mut see).map_err(NotVerified::Disk)?;
    // What is left is over a size or a tree that the log does not have.
    let left = stamped.into_iter().filter(|((tree, _), _)| !cut.contains(tree));
    wrong.extend(left.flat_map(|(_, stamps)| stamps));
    let what = "the timestamp is over no head of this log";
    let fault = |(_, position): (Digest, Position)| Fault { place: position.to_string(), what: what.into() };
    Ok(wrong.into_iter().map(fault).collect())
}

/// A peer's signature that is to be checked.
struct Signature {
    position: Position,
    key: PublicKey,
    head: Bytes,
    signature: Bytes,
}

fn check_signatures(waiting: &Mutex<mpsc::Receiver<Signature>>, refused: &Mutex<Vec<Position>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Signature { position, key, head, signature }) = next else { return };
        if key.verify(&head, &signature).is_err() {
            refused.lock().unwrap_or_else(PoisonError::into_inner).push(position);
        }
    }
}

/// An exchange that has no end yet, by its side and the digest of its opening.
struct Open {
    request: (u64, Digest),
    answer: Option<(u64, Digest)>,
    ended: [bool; 2],
}

/// The records, held against each other.
struct Messages<'c> {
    registered: &'c Registered,
    signatures: mpsc::SyncSender<Signature>,
    remembered: HashSet<Digest>,
    open: HashMap<(Side, Digest), Open>,
    /// The last message of each request that is open, and its opening.
    requests: HashMap<(Side, Digest), Digest>,
    /// Whose each tree of a peer is.
    owners: HashMap<TreeName, (String, String)>,
    begun: bool,
    stamped: Stamped,
    found: Found,
}

impl<'c> Messages<'c> {
    fn of(registered: &'c Registered, signatures: mpsc::SyncSender<Signature>) -> Self {
        Self {
            registered,
            signatures,
            remembered: HashSet::new(),
            open: HashMap::new(),
            requests: HashMap::new(),
            owners: HashMap::new(),
            begun: false,
            stamped: Stamped::new(),
            found: Found::default(),
        }
    }

    fn found(mut self) -> (Found, Stamped) {
        self.found.open = self.open.len() as u64;
        (self.found, self.stamped)
    }

    fn see(&mut self, entry: &Entry) {
        if !std::mem::replace(&mut self.begun, true) {
            self.found.begins_late = entry.position.segment > 1;
        }
        let what = match entry.record.kind() {
            Kind::Sent => self.sent(entry),
            Kind::Received => self.received(entry),
            Kind::Closed => self.closed(entry),
            Kind::Stamp => self.stamp(entry),
            Kind::Subjects => self.subjects(entry),
            Kind::Cut => self.cut(entry),
            Kind::Genesis | Kind::Key => Ok(()),
            Kind::Entry => Err("an entry of an audit log stands in a message log".into()),
        };
        if let Err(what) = what
            && self.found.faults.len() < FAULTS_TOLD
        {
            self.found.faults.push(Fault { place: entry.position.to_string(), what });
        }
    }

    /// What was taken out of the log, as PROTOCOL.md 5.7 has it. Logs of several members may say it of one segment.
    fn cut(&mut self, entry: &Entry) -> Result<(), String> {
        let cut: wire::Cut =
            decode_canonical(&entry.record.body(), "Cut").map_err(|error| format!("a cut: {error}"))?;
        let sha256 = Digest::try_from(cut.sha256.as_ref()).map_err(|error| format!("a cut: {error}"))?;
        let is_whole = |commits: &wire::CutCommits| commits.tree.len() == 32 && commits.from < commits.to;
        let named = !cut.commits.is_empty() && cut.commits.iter().all(is_whole);
        if cut.segment == 0 || cut.why() == wire::CutReason::Unspecified || !named {
            return Err("a cut: it does not say what was taken out, or why".into());
        }
        if cut.segment >= entry.position.segment {
            return Err("a cut: it is of a segment that was not before it".into());
        }
        match self.found.cuts.insert(cut.segment, (sha256, entry.position)) {
            Some((before, _)) if before != sha256 => Err("a cut: the same segment had another hash before".into()),
            _ => Ok(()),
        }
    }

    /// A token, as PROTOCOL.md 16.3 has it. Of an authority that is not approved any more nothing can be said.
    fn stamp(&mut self, entry: &Entry) -> Result<(), String> {
        let stamp: wire::Stamp =
            decode_canonical(&entry.record.body(), "Stamp").map_err(|error| format!("a timestamp: {error}"))?;
        let head = Head::parse(&stamp.head).map_err(|error| format!("a timestamp: {error}"))?;
        match time_proven(&stamp, self.registered) {
            Ok(_) => {
                self.found.timestamps += 1;
                self.stamped.entry((head.tree, head.size)).or_default().push((head.root, entry.position));
                Ok(())
            }
            Err(NotATimestamp::NotApproved | NotATimestamp::Policy | NotATimestamp::Revoked(_)) => {
                self.found.unknown_timestamps += 1;
                Ok(())
            }
            Err(error) => Err(format!("a timestamp: {error}")),
        }
    }

    /// Whom a request was about: one that is open here, at the provider.
    fn subjects(&self, entry: &Entry) -> Result<(), String> {
        let subjects: wire::Subjects =
            decode_canonical(&entry.record.body(), "Subjects").map_err(|error| format!("subjects: {error}"))?;
        let opening = Digest::try_from(subjects.opening.as_ref()).map_err(|error| format!("subjects: {error}"))?;
        if subjects.subjects.is_empty() || subjects.subjects.iter().any(|subject| subject.len() != 32) {
            return Err("subjects: each has 32 bytes, and there is one at least".into());
        }
        // A log whose beginning is in the archive may have opened it there.
        if self.found.begins_late || self.open.contains_key(&(Side::Provider, opening)) {
            return Ok(());
        }
        Err("subjects: they are of a request that is not open here".into())
    }

    fn sent(&mut self, entry: &Entry) -> Result<(), String> {
        self.found.sent += 1;
        let header = Header::parse(entry.record.body()).map_err(|error| format!("its header: {error}"))?;
        let (sender, owner) = (Sender::of(&header), &entry.genesis.content);
        if owner.member != sender.member.as_str() || owner.server != sender.server.as_str() {
            return Err(format!("it is sent by {} at {}, whose log this is not", sender.member, sender.server));
        }
        self.follows(&header, if header.direction == Direction::Request { Side::Consumer } else { Side::Provider })
    }

    fn received(&mut self, entry: &Entry) -> Result<(), String> {
        let body = entry.record.body();
        if is_withheld(entry).is_some() {
            self.found.withheld += 1;
            return Ok(());
        }
        self.found.received += 1;
        let digest = body.get(..32).and_then(|digest| Digest::try_from(digest).ok());
        let digest = digest.ok_or("it is shorter than the digest of a seal")?;
        let header = Header::parse(body.slice(32..)).map_err(|error| format!("its header: {error}"))?;
        let (route, owner) = (&header.route, &entry.genesis.content);
        let (member, server, side) = match header.direction {
            Direction::Request => (route.provider.member(), &route.provider_server, Side::Provider),
            Direction::Answer => (route.consumer.member(), &route.consumer_server, Side::Consumer),
        };
        if owner.member != member.as_str() || owner.server != server.as_str() {
            return Err(format!("it is for {member} at {server}, whose log this is not"));
        }
        match beside(entry).filter(|beside| beside.seal.is_some()) {
            None => self.found.without_seal += 1,
            Some(beside) => self.sealed(entry.position, &header, digest, beside)?,
        }
        self.follows(&header, side)
    }

    /// The peer's seal, as PROTOCOL.md 5.4 has it; whether the key was good then is for evidence to say.
    fn sealed(
        &mut self,
        position: Position,
        header: &Header,
        digest: Digest,
        beside: wire::Beside,
    ) -> Result<(), String> {
        let seal = beside.seal.unwrap_or_default();
        if seal::digest(&seal) != digest {
            return Err("the seal beside it is not the one that its record names".into());
        }
        let sender = Sender::of(header);
        let walked = seal::walk(&seal, header.as_bytes()).map_err(|error| format!("the peer's seal: {error}"))?;
        let tree = walked.head().tree;
        if !beside.genesis.is_empty() {
            let genesis = Genesis::parse(beside.genesis).map_err(|error| format!("the peer's genesis: {error}"))?;
            self.owners.insert(genesis.tree, (genesis.content.member, genesis.content.server));
        }
        match self.owners.get(&tree) {
            Some((member, server)) if *member != sender.member.as_str() || *server != sender.server.as_str() => {
                return Err(format!("its seal is of the log of {member} at {server}, and not of its sender's"));
            }
            None if !self.found.begins_late => return Err("nothing before it says whose its seal's tree is".into()),
            Some(_) | None => {}
        }
        let known = Digest::of(&[seal.key.as_ref(), seal.head.as_ref(), seal.signature.as_ref()]);
        if self.remembered.contains(&known) {
            return Ok(());
        }
        let listed = |key: &KeyId| self.registered.members.get(&sender.member)?.signing_keys.get(key);
        let Some(signing) = listed(&walked.key()).filter(|signing| signing.server == sender.server) else {
            self.found.unknown_signatures += 1;
            return Ok(());
        };
        if self.remembered.len() >= SIGNATURES_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(known);
        let (key, head, signature) = (signing.key.clone(), seal.head, seal.signature);
        self.signatures
            .send(Signature { position, key, head, signature })
            .map_err(|_| "nobody checks signatures".into())
    }

    /// Each message follows the one before it in its direction, and none follows its end.
    fn follows(&mut self, header: &Header, side: Side) -> Result<(), String> {
        let (digest, ends) = (header.digest(), header.end.is_some());
        let opening = match (header.direction, header.position, &header.answer, &header.previous) {
            (Direction::Request, 0, ..) => {
                let open = Open { request: (0, digest), answer: None, ended: [ends, false] };
                self.requests.insert((side, digest), digest);
                if self.open.insert((side, digest), open).is_some() {
                    return Err("the same opening stands here a second time".into());
                }
                return Ok(());
            }
            (Direction::Request, _, _, Some(previous)) => self.requests.remove(&(side, *previous)),
            (Direction::Answer, _, Some(answer), _) => Some(answer.opening),
            _ => None,
        };
        let known = opening.and_then(|opening| Some((opening, self.open.get_mut(&(side, opening))?)));
        let Some((opening, open)) = known else {
            let unknown = "no message before it in its direction is open here";
            return if self.found.begins_late { Ok(()) } else { Err(unknown.into()) };
        };
        let (before, ended) = match header.direction {
            Direction::Request => (Some(open.request), &mut open.ended[0]),
            Direction::Answer => (open.answer, &mut open.ended[1]),
        };
        let (position, previous) = before.map_or((0, None), |(position, digest)| (position + 1, Some(digest)));
        if header.position != position || header.previous != previous {
            return Err("it does not follow the message before it in its direction".into());
        }
        if std::mem::replace(ended, ends) {
            return Err("it stands after the end of its direction".into());
        }
        match header.direction {
            Direction::Request => {
                open.request = (position, digest);
                self.requests.insert((side, digest), opening);
            }
            Direction::Answer => open.answer = Some((position, digest)),
        }
        Ok(())
    }

    fn closed(&mut self, entry: &Entry) -> Result<(), String> {
        self.found.closed += 1;
        let closed: wire::Closed =
            decode_canonical(&entry.record.body(), "Closed").map_err(|error| format!("an end: {error}"))?;
        let opening = Digest::try_from(closed.opening.as_ref()).map_err(|error| format!("an end: {error}"))?;
        match self.open.remove(&(closed.side(), opening)) {
            Some(open) => {
                self.requests.remove(&(closed.side(), open.request.1));
                Ok(())
            }
            None if self.found.begins_late => Ok(()),
            None => Err("it ends an exchange that is not open here".into()),
        }
    }
}

impl Found {
    /// As `--json` shows it.
    pub fn to_json(&self) -> Value {
        let faults: Vec<_> =
            self.faults.iter().map(|fault| json!({ "place": fault.place, "what": fault.what })).collect();
        json!({
            "holds": self.faults.is_empty(),
            "faults": faults,
            "sent": self.sent, "received": self.received, "withheld": self.withheld, "closed": self.closed,
            "open": self.open, "without_seal": self.without_seal, "unknown_signatures": self.unknown_signatures,
            "timestamps": self.timestamps, "unknown_timestamps": self.unknown_timestamps,
            "begins_late": self.begins_late,
            "removed": self.removed.map(|(first, last)| json!({ "first": first, "last": last, "unread": self.unread })),
            "log": journal_as_json(&self.journal),
        })
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", journal_in_words(&self.journal))?;
        let Self { sent, received, withheld, closed, open, .. } = self;
        writeln!(
            f,
            "  {sent} sent, {received} received, {withheld} withheld, {closed} ends, {open} exchanges without one"
        )?;
        writeln!(f, "  {} timestamps over its heads", self.timestamps)?;
        if self.unknown_timestamps > 0 {
            writeln!(
                f,
                "  {} timestamps are of authorities that are approved no more: not checked",
                self.unknown_timestamps
            )?;
        }
        if self.begins_late {
            writeln!(f, "  its first segments are elsewhere: exchanges that began in them were not judged")?;
        }
        match (self.removed, &self.unread) {
            (Some((first, last)), Some(why)) => {
                writeln!(f, "  segments {first} to {last} were removed here and NOT READ: {why}")?;
            }
            (Some((first, last)), None) => {
                writeln!(f, "  segments {first} to {last} were removed here: they were read where they are kept")?;
            }
            (None, _) => {}
        }
        if self.without_seal > 0 {
            writeln!(f, "  {} messages of peers have no seal any more", self.without_seal)?;
        }
        if self.unknown_signatures > 0 {
            writeln!(f, "  {} signatures are by keys that are listed no more: not checked", self.unknown_signatures)?;
        }
        for Fault { place, what } in &self.faults {
            writeln!(f, "  WRONG at {place}: {what}")?;
        }
        writeln!(f, "{}", if self.faults.is_empty() { "It holds." } else { "It does not hold." })
    }
}
