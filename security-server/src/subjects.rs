//! Whom requests are about. A field that its publisher marked `subject` makes the exchange findable for that person: by a
//! keyed hash under a secret of this server's own, in the message log, and never by the identifier itself (PROTOCOL.md 21).
//!
//! What is listed of our services is worked out once for each listing and kept on disk: the message path reads no descriptor
//! and asks nobody. A call of a method whose requests name persons is handed to the service message by message, each when it
//! is whole and its subject is known; one that names nobody is refused before the service hears of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::{Bytes, BytesMut};
use catalogue::subjects::{ServiceFacts, SubjectFields, Unreadable};
use command_line::file_remedy;
use futures_util::{StreamExt, stream};
use proto::digest::Digest;
use proto::global_configuration::Configuration;
use proto::global_configuration::listed::ListedService;
use proto::identifier::{MemberId, MethodPath, ServerId, SubsystemId};
use proto::message::{Contents, End};
use proto::refusal::Code;
use proto::rest::Operations;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::disclosures::over_the_bus::{LIST, SUBJECT_FIELD};
use crate::files;
use crate::listings::{self, Unlisted};

/// Where the secret and what is known of our listed services stand, in the server's directory.
pub const SUBJECTS: &str = "subjects";
/// The secret: 32 random bytes. Without it nobody is found; whoever has it and a log can try identifiers.
pub const SECRET: &str = "secret";
/// What is known of our listed services: a view of the catalogue, which may be deleted.
pub const SERVICES: &str = "services.json";
/// Longest file of it that goes into a backup.
pub const MAX_SERVICES_BYTES: u64 = 64 * 1024 * 1024;
/// Longest message of a request that names persons: it is held until it is whole.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Most persons that one request may name, in all of its messages: a record of each is written.
pub const MAX_SUBJECTS_OF_REQUEST: usize = 4_096;
/// A message up to this length is held without asking for room: HTTP/2 holds as much of each request anyway.
const HELD_WITHOUT_ROOM: usize = 64 * 1024;
/// Most bytes of longer messages of one peer's requests that are held until they are whole.
const MAX_HELD_OF_PEER: usize = 128 * 1024 * 1024;
/// And of all peers' requests.
const MAX_HELD: usize = 512 * 1024 * 1024;
/// Listings of ours that may be on their way at once.
const MAX_TO_COME: usize = 256;
/// Listings of ours that are fetched at once.
const LEARNT_AT_ONCE: usize = 8;
/// Who may read the log over the bus at once: each reads whole segments.
const MAX_TURNS: usize = 2;
/// How long after a registry was out of reach the descriptors of our own services are asked for again.
const AGAIN: Duration = Duration::from_secs(60);

/// A person, as the log knows them: HMAC-SHA-256 of the identifier under this server's secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subject(Digest);

impl Subject {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The secret or what is kept beside it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; {}", .path.display(), file_remedy(.source, "put it back from a backup: without this secret nobody is found in the log"))]
pub struct NoSubjects {
    path: PathBuf,
    source: io::Error,
}

/// The secret, and what our listed services are.
pub struct Subjects {
    secret: Secret,
    directory: PathBuf,
    /// By the SHA-256 of the entry that lists them.
    known: Mutex<BTreeMap<Digest, Arc<ServiceFacts>>>,
    /// Of the known ones those that are being published: they are kept though nothing lists them yet.
    to_come: Mutex<HashSet<Digest>>,
    members: Vec<MemberId>,
    view: ArcSwap<View>,
    /// One writes `services.json` at a time, and no call waits for it.
    writing: Mutex<()>,
    /// Who reads the log for others over the bus.
    pub(crate) turns: Arc<Semaphore>,
    room: Room,
}

/// Room, in bytes, for messages that are not whole: in all, and of each peer. Peers are registered, so their number is bounded.
struct Room {
    all: Arc<Semaphore>,
    of: Mutex<HashMap<ServerId, Arc<Semaphore>>>,
}

impl Room {
    fn of_peer(&self, peer: &ServerId) -> [Arc<Semaphore>; 2] {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = of.entry(peer.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_HELD_OF_PEER)));
        [Arc::clone(of_peer), Arc::clone(&self.all)]
    }
}

#[derive(Clone)]
struct Secret(hmac::Key);

impl Secret {
    fn subject(&self, identifier: &[u8]) -> Subject {
        let mut signed = hmac::Context::with_key(&self.0);
        signed.update(b"causeway/v1/subject\n");
        signed.update(identifier);
        Subject(Digest::try_from(signed.sign().as_ref()).expect("HMAC-SHA-256 has 32 bytes"))
    }
}

/// What one version of the configuration lists of ours.
#[derive(Default)]
struct View {
    /// None: it was made of no version yet.
    of: Option<(u64, Digest)>,
    services: HashMap<SubsystemId, Listed>,
}

#[derive(Default)]
struct Listed {
    /// Of which it is not known yet what their fields mean.
    unknown: HashSet<String>,
    /// The methods whose requests name persons, by their paths.
    methods: HashMap<String, Arc<SubjectFields>>,
    facts: HashMap<String, Arc<ServiceFacts>>,
    /// Of those that are REST services.
    operations: HashMap<String, Arc<Operations>>,
}

/// A service is listed, and what its fields mean is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDescribed;

impl Subjects {
    /// Opens the directory, and makes it with a new secret at the first start. For the services of these members.
    pub fn open(directory: &Path, members: Vec<MemberId>) -> Result<Self, NoSubjects> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| NoSubjects { path, source }
        };
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join(SECRET);
        let secret = match std::fs::read(&path) {
            Ok(secret) => secret,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                SystemRandom::new().fill(&mut secret).expect("the system's random source works, or nothing does");
                files::write(&path, &secret, 0o600).map_err(at(&path))?;
                secret.to_vec()
            }
            Err(error) => return Err(at(&path)(error)),
        };
        let secret: [u8; 32] = secret
            .try_into()
            .map_err(|_| at(&path)(io::Error::new(io::ErrorKind::InvalidData, "it has not 32 bytes")))?;
        // A view: what cannot be read is fetched again.
        let known = kept_services(directory).and_then(|bytes| read_services(&bytes)).unwrap_or_default();
        let known = known.into_iter().filter_map(|(entry, facts)| Some((entry.parse().ok()?, Arc::new(facts))));
        Ok(Self {
            secret: Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
            directory: directory.to_owned(),
            known: Mutex::new(known.collect()),
            to_come: Mutex::default(),
            members,
            view: ArcSwap::default(),
            writing: Mutex::default(),
            turns: Arc::new(Semaphore::new(MAX_TURNS)),
            room: Room { all: Arc::new(Semaphore::new(MAX_HELD)), of: Mutex::default() },
        })
    }

    /// The name of the secret: says which one it is, and nothing of it.
    pub(crate) fn name(&self) -> String {
        let name = hmac::sign(&self.secret.0, b"causeway/v1/subjects-name\n");
        hex::encode(&name.as_ref()[..8])
    }

    /// A person by the identifier that requests name: its very bytes, nothing trimmed, folded or completed.
    pub fn of(&self, identifier: &str) -> Subject {
        self.secret.subject(identifier.as_bytes())
    }

    /// The members whose services are meant.
    pub(crate) fn members(&self) -> &[MemberId] {
        &self.members
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<ServiceFacts>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where requests of this method say whom they are about, as it is listed. None: they name nobody, or nobody listed it.
    pub(crate) fn asked_about(
        &self,
        configuration: &Configuration,
        provider: &SubsystemId,
        path: &MethodPath,
    ) -> Result<Option<Arc<SubjectFields>>, NotDescribed> {
        if path.as_str() == LIST {
            return Ok(Some(Arc::new(SubjectFields::text(SUBJECT_FIELD))));
        }
        let view = self.view(configuration);
        let Some(listed) = view.services.get(provider) else { return Ok(None) };
        match listed.methods.get(path.as_str()) {
            Some(fields) => Ok(Some(Arc::clone(fields))),
            None if listed.unknown.contains(path.service()) => Err(NotDescribed),
            None => Ok(None),
        }
    }

    /// What is known of a service of ours as it is listed now.
    pub(crate) fn facts(
        &self,
        configuration: &Configuration,
        provider: &SubsystemId,
        service: &str,
    ) -> Option<Arc<ServiceFacts>> {
        self.view(configuration).services.get(provider)?.facts.get(service).cloned()
    }

    /// The operations of a REST service of ours as it is listed now. None: nobody listed it, or it is no REST service.
    pub fn operations(
        &self,
        configuration: &Configuration,
        provider: &SubsystemId,
        service: &str,
    ) -> Result<Option<Arc<Operations>>, NotDescribed> {
        let view = self.view(configuration);
        let Some(listed) = view.services.get(provider) else { return Ok(None) };
        match listed.operations.get(service) {
            Some(operations) => Ok(Some(Arc::clone(operations))),
            None if listed.unknown.contains(service) => Err(NotDescribed),
            None => Ok(None),
        }
    }

    /// Made once for each version of the configuration, from what is in memory.
    fn view(&self, configuration: &Configuration) -> Arc<View> {
        let (view, of) = (self.view.load(), Some((configuration.version, configuration.digest)));
        if view.of == of {
            return Arc::clone(&view);
        }
        let known = self.known();
        let mut services: HashMap<SubsystemId, Listed> = HashMap::new();
        for listed in self.ours(configuration) {
            let (name, of_subsystem) = (listed.service.as_str(), services.entry(listed.subsystem.clone()).or_default());
            let Some(facts) = known.get(&listed.entry) else {
                of_subsystem.unknown.insert(name.to_owned());
                continue;
            };
            for (method, facts) in &facts.methods {
                let fields = facts.subjects.clone().map(Arc::new);
                of_subsystem.methods.extend(fields.map(|fields| (format!("/{name}/{method}"), fields)));
            }
            let operations = facts.operations(name).map(|operations| (name.to_owned(), Arc::new(operations)));
            of_subsystem.operations.extend(operations);
            of_subsystem.facts.insert(name.to_owned(), Arc::clone(facts));
        }
        let view = Arc::new(View { of, services });
        self.view.store(Arc::clone(&view));
        view
    }

    fn ours<'c>(&'c self, configuration: &'c Configuration) -> impl Iterator<Item = &'c ListedService> {
        let subsystems = self.members.iter().filter_map(|member| configuration.members.get(member));
        subsystems
            .flat_map(|member| member.subsystems.keys())
            .flat_map(|subsystem| configuration.services_of(subsystem))
    }

    /// Keeps what a listing says that is being published: it is known when it comes into force.
    pub(crate) fn foresee(&self, entry: Digest, facts: ServiceFacts) {
        let mut to_come = self.to_come();
        if to_come.len() >= MAX_TO_COME {
            to_come.clear();
        }
        to_come.insert(entry);
        drop(to_come);
        self.learn(entry, facts);
        self.keep();
    }

    fn to_come(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.to_come.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Knows what a listing says, in memory.
    fn learn(&self, entry: Digest, facts: ServiceFacts) {
        self.known().insert(entry, Arc::new(facts));
        // Whoever reads next makes the view anew.
        self.view.store(Arc::default());
    }

    /// Forgets what is not listed.
    fn forget(&self, configuration: &Configuration) {
        let listed: HashSet<Digest> = self.ours(configuration).map(|listed| listed.entry).collect();
        let mut to_come = self.to_come();
        to_come.retain(|entry| !listed.contains(entry));
        let mut known = self.known();
        let before = known.len();
        known.retain(|entry, _| listed.contains(entry) || to_come.contains(entry));
        if known.len() != before {
            drop((known, to_come));
            self.keep();
        }
    }

    /// Writes what is known now. A view of the catalogue: where it cannot be written, the next start fetches it.
    fn keep(&self) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known().clone();
        let known: BTreeMap<String, &ServiceFacts> =
            known.iter().map(|(entry, facts)| (entry.to_string(), &**facts)).collect();
        let path = self.directory.join(SERVICES);
        let written = serde_json::to_vec(&known).map_err(io::Error::other);
        if let Err(error) = written.and_then(|bytes| files::write(&path, &bytes, 0o600)) {
            tracing::warn!(path = %path.display(), %error, "what is known of our listed services is not kept");
        }
    }

    /// For one request of such a method, from this peer.
    pub(crate) fn gate(&self, fields: Arc<SubjectFields>, peer: &ServerId) -> Gate {
        let (secret, room) = (self.secret.clone(), self.room.of_peer(peer));
        Gate { fields, secret, held: BytesMut::new(), room, holds: None, passed: false, noted: HashSet::new() }
    }
}

/// What is kept of our listed services, as a backup takes it. None: nothing that can be read.
pub(crate) fn kept_services(directory: &Path) -> Option<Vec<u8>> {
    let bytes =
        std::fs::read(directory.join(SERVICES)).ok().filter(|bytes| bytes.len() as u64 <= MAX_SERVICES_BYTES)?;
    read_services(&bytes).map(|_| bytes)
}

fn read_services(bytes: &[u8]) -> Option<BTreeMap<String, ServiceFacts>> {
    serde_json::from_slice(bytes).ok()
}

/// Learns what is listed of our services, with each version of the configuration: from a registry that is out of reach each
/// minute again. Meanwhile calls of what is not known are refused.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    if server.renewal.is_none() {
        return;
    }
    let mut versions = server.store.current().versions();
    loop {
        let Some(whole) = learn_all(&server, &last).await else { return };
        tokio::select! {
            changed = versions.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !whole => {}
            () = last.cancelled() => return,
        }
    }
}

/// Whether all is known; none where the last has come. What has begun to be written is written to its end.
async fn learn_all(server: &Arc<SecurityServer>, last: &CancellationToken) -> Option<bool> {
    let configuration = server.configuration.load();
    let mut unknown: Vec<_> = server.subjects.ours(&configuration).cloned().collect();
    {
        let known = server.subjects.known();
        unknown.retain(|listed| !known.contains_key(&listed.entry));
    }
    let (whole, learnt) = (AtomicBool::new(true), !unknown.is_empty());
    // One that nobody gives makes none of the others wait.
    let learning = stream::iter(unknown).for_each_concurrent(LEARNT_AT_ONCE, async |listed| {
        let learnt = async {
            let entry = listings::verified(server, &configuration, &listed).await?;
            server.subjects.learn(listed.entry, listings::facts(server, &entry).await?);
            Ok::<_, Unlisted>(())
        };
        if let Err(error) = learnt.await {
            whole.store(false, Ordering::Relaxed);
            tracing::warn!(service = %listed.service, %error, "what its fields mean is not known yet: calls of it are refused");
        }
    });
    tokio::select! {
        () = learning => {}
        () = last.cancelled() => return None,
    }
    let whole = whole.into_inner();
    let keeping = Arc::clone(server);
    let kept = tokio::task::spawn_blocking(move || {
        if learnt {
            keeping.subjects.keep();
        }
        if whole {
            keeping.subjects.forget(&configuration);
        }
    });
    kept.await.expect("writing does not panic, and nothing aborts it");
    Some(whole)
}

/// Holds a request's messages until each is whole and is known to be about somebody.
pub struct Gate {
    fields: Arc<SubjectFields>,
    secret: Secret,
    held: BytesMut,
    room: [Arc<Semaphore>; 2],
    /// The room of the message that is held, where it needs any.
    holds: Option<[OwnedSemaphorePermit; 2]>,
    /// Whether a message has passed.
    passed: bool,
    noted: HashSet<Subject>,
}

impl Gate {
    /// Takes what arrived and leaves of it what may be handed on: whole messages, each of which names somebody. Gives whom,
    /// where they were not given before.
    pub(crate) fn take(&mut self, contents: &mut Contents, end: Option<&End>) -> Result<Vec<Subject>, Code> {
        let mut subjects = Vec::new();
        for piece in std::mem::take(&mut contents.pieces) {
            let passes = if self.held.is_empty() {
                let whole = self.whole(&piece, &mut subjects)?;
                self.held.extend_from_slice(&piece[whole..]);
                piece.slice(..whole)
            } else {
                self.held.extend_from_slice(&piece);
                let held = std::mem::take(&mut self.held);
                let whole = self.whole(&held, &mut subjects);
                self.held = held;
                self.held.split_to(whole?).freeze()
            };
            if !passes.is_empty() {
                contents.pieces.push(passes);
                // Another message than the one that had the room.
                self.holds = None;
            }
        }
        self.has_room()?;
        match end {
            Some(End::HalfClose) if !self.held.is_empty() => Err(Code::SubjectUnreadable),
            Some(End::HalfClose) if !self.passed => Err(Code::SubjectMissing),
            _ => Ok(subjects),
        }
    }

    /// Whether part of a message waits here for its rest.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Room for all of the message that has begun: a half could only wait for the other.
    fn has_room(&mut self) -> Result<(), Code> {
        let prefix = self.held.first_chunk::<5>();
        let awaited = prefix.map_or(0, |[_, length @ ..]| 5 + u32::from_be_bytes(*length));
        if awaited as usize > HELD_WITHOUT_ROOM && self.holds.is_none() {
            let [of_peer, all] = &self.room;
            let room = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(awaited);
            self.holds = room(of_peer).and_then(|of_peer| Ok([of_peer, room(all)?])).ok();
            if self.holds.is_none() {
                return Err(Code::RateExceeded);
            }
        }
        Ok(())
    }

    /// How many of these bytes are whole messages that name somebody.
    fn whole(&mut self, bytes: &[u8], subjects: &mut Vec<Subject>) -> Result<usize, Code> {
        let mut whole = 0;
        while let Some(prefix) = bytes[whole..].first_chunk::<5>() {
            // A compressed message could not be read here, and nobody would find it.
            let [0, length @ ..] = *prefix else { return Err(Code::SubjectUnreadable) };
            let length = u32::from_be_bytes(length) as usize;
            if length > MAX_MESSAGE_BYTES {
                return Err(Code::SubjectUnreadable);
            }
            let Some(message) = bytes[whole + 5..].get(..length) else { break };
            self.named(message, subjects)?;
            whole += 5 + length;
        }
        Ok(whole)
    }

    fn named(&mut self, message: &[u8], subjects: &mut Vec<Subject>) -> Result<(), Code> {
        let (secret, noted, mut names_somebody) = (&self.secret, &mut self.noted, false);
        let mut found = |identifier: &[u8]| {
            names_somebody = true;
            let subject = secret.subject(identifier);
            if noted.len() <= MAX_SUBJECTS_OF_REQUEST && noted.insert(subject) {
                subjects.push(subject);
            }
        };
        let read = self.fields.each(message, &mut found);
        read.map_err(|_: Unreadable| Code::SubjectUnreadable)?;
        if noted.len() > MAX_SUBJECTS_OF_REQUEST {
            return Err(Code::SubjectUnreadable);
        }
        if !names_somebody {
            return Err(Code::SubjectMissing);
        }
        self.passed = true;
        Ok(())
    }
}

/// What a record says of a request, for the log.
pub(crate) fn bytes_of(subjects: &[Subject]) -> Vec<Bytes> {
    subjects.iter().map(|subject| Bytes::copy_from_slice(subject.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(directory: &Path) -> Subjects {
        Subjects::open(directory, Vec::new()).unwrap()
    }

    fn gate(subjects: &Subjects, peer: &str) -> Gate {
        subjects.gate(Arc::new(SubjectFields::text(1)), &peer.parse().unwrap())
    }

    /// A message of gRPC that names these, and has so many other bytes.
    fn message<'t>(identifiers: impl IntoIterator<Item = &'t str>, others: usize) -> Bytes {
        let mut fields = Vec::new();
        for identifier in identifiers {
            fields.extend([0x0a, identifier.len() as u8]);
            fields.extend(identifier.as_bytes());
        }
        for _ in 0..others / 6 {
            // A fixed32 of another number: five bytes and its tag.
            fields.extend([0x95, 0x01, 0, 0, 0, 0]);
        }
        let mut message = vec![0];
        message.extend((fields.len() as u32).to_be_bytes());
        message.extend(fields);
        message.into()
    }

    fn taken(gate: &mut Gate, bytes: &Bytes) -> Result<(usize, usize), Code> {
        let mut contents = Contents { pieces: vec![bytes.clone()], ..Contents::default() };
        let named = gate.take(&mut contents, None)?;
        Ok((named.len(), contents.pieces.iter().map(Bytes::len).sum()))
    }

    #[test]
    fn a_request_names_so_many_persons_in_all_its_messages_and_those_again_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut gate = gate(&subjects(directory.path()), "VN/GOV/portal/ss1");
        let names: Vec<String> = (0..=MAX_SUBJECTS_OF_REQUEST).map(|number| format!("p{number}")).collect();
        for part in names[..MAX_SUBJECTS_OF_REQUEST].chunks(1_000) {
            let message = message(part.iter().map(String::as_str), 0);
            assert_eq!(taken(&mut gate, &message), Ok((part.len(), message.len())));
            assert_eq!(taken(&mut gate, &message), Ok((0, message.len())), "each is written once");
        }
        let one_more = message([names[MAX_SUBJECTS_OF_REQUEST].as_str()], 0);
        assert_eq!(taken(&mut gate, &one_more), Err(Code::SubjectUnreadable));
    }

    #[test]
    fn half_messages_of_one_peer_have_so_much_room_and_take_none_from_another() {
        let directory = tempfile::tempdir().unwrap();
        let subjects = subjects(directory.path());
        let whole = message(["079181001234"], MAX_MESSAGE_BYTES - 100);
        let (half, rest) = (whole.slice(..10), whole.slice(10..));
        let mut gates: Vec<Gate> =
            (0..MAX_HELD_OF_PEER / whole.len()).map(|_| gate(&subjects, "VN/GOV/portal/ss1")).collect();
        for gate in &mut gates {
            assert_eq!(taken(gate, &half), Ok((0, 0)));
        }
        let refused = |peer: &str, bytes: &Bytes| taken(&mut gate(&subjects, peer), bytes);
        assert_eq!(refused("VN/GOV/portal/ss1", &half), Err(Code::RateExceeded));
        assert_eq!(refused("VN/GOV/portal/ss1", &whole), Ok((1, whole.len())), "what is whole needs none");
        let small = message(["079181001234"], HELD_WITHOUT_ROOM / 2);
        assert_eq!(refused("VN/GOV/portal/ss1", &small.slice(..10)), Ok((0, 0)), "what is short needs none");
        assert_eq!(refused("VN/GOV/moj/ss1", &half), Ok((0, 0)));
        // What became whole gives its room to the next, and what was dropped too.
        assert_eq!(taken(&mut gates[0], &rest), Ok((1, whole.len())));
        assert_eq!(taken(&mut gates[0], &half), Ok((0, 0)));
        gates.pop();
        assert_eq!(refused("VN/GOV/portal/ss1", &half), Ok((0, 0)));
    }
}
