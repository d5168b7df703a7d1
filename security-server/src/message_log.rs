//! The message log: the one place that seals, records and remembers. Nothing leaves this server, to a peer or to a
//! service, before the log has it on disk.

pub mod exchanges;
mod index;
mod opened;
mod replay;
pub(crate) mod retained;

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use journal::{Entry, Journal, Pending, Position, TreeIndex};
use prost::Message;
use proto::access::Priority;
use proto::commitment::{self, Secret};
use proto::consistency::MAX_GENESES;
use proto::digest::Digest;
use proto::head::Head;
use proto::identifier::{ExchangeId, MemberId, ServerId};
use proto::merkle;
use proto::message::{Answer, Cause, Commitments, ConfigurationVersion, Contents, Direction, End, Facts, Header};
use proto::record::{Genesis, Kind, NONCE_BYTES, Record, TreeName, decode_canonical};
use proto::refusal::Code;
use proto::seal;
use proto::signature::{KeyId, SigningKey};
use proto::time::Time;
use proto::transport::MAX_SKEW;
use proto::wire::relay as wire;

use self::exchanges::{FoundExchange, FoundExchanges, Search};
pub use self::index::{ClockAccepted, Found, Index, IndexError, Open};
pub(crate) use self::opened::Source;
pub use self::opened::{BothEnded, Opened, WINDOW_BYTES, WINDOW_MESSAGES};
use self::replay::Seen;
use crate::authorize::{Admitted, Answerer, Authorized, MayBeHandedOn, MayGoOn, Verdict};
use crate::forward::{OwnArrived, OwnEnd, OwnSystem};
use crate::listen::Call;
use crate::moment::Judged;
use crate::payloads::Payloads;
use crate::quota::Quotas;
use crate::refusal::{BareRefusal, Refusal};
use crate::relay::{Line, LineArrived};
use crate::resolve::Routed;
use crate::subjects::{self, Gate, Subject};
use crate::way::{Beginning, Side, Stop, Way};
use crate::witness::{LogOwner, SeenTree};

/// How many messages are kept of one peer that proved nothing, and in what time: 16 in an hour. As many, beside them, of those that
/// prove what they are and were refused.
const WITHHELD_KEPT: (f64, f64) = (16.0, 16.0 / 3600.0);

/// What is kept of messages that were withheld. What a peer may be refused does not keep the proof out that it cheats.
struct Withheld {
    disproved: Quotas,
    refused: Quotas,
}

impl Default for Withheld {
    fn default() -> Self {
        Self { disproved: Quotas::of_each(WITHHELD_KEPT), refused: Quotas::of_each(WITHHELD_KEPT) }
    }
}

impl Withheld {
    fn keeps(&self, peer: &ServerId, cause: Cause) -> bool {
        let quotas = if cause == Cause::Disproved { &self.disproved } else { &self.refused };
        quotas.within(peer)
    }
}

/// Where every message of every hosted member goes. Cheap to clone.
#[derive(Clone)]
pub struct MessageLog(Arc<Inner>);

struct Inner {
    journal: Journal,
    disk: Arc<dyn journal::Disk>,
    /// The same with the segments that were removed from it, wherever they are kept.
    history: Arc<dyn journal::Disk>,
    trees: HashMap<MemberId, TreeIndex>,
    index: Index,
    seen: Mutex<Seen>,
    last_time: AtomicU64,
    withheld: Withheld,
    payloads: Arc<Payloads>,
    random: SystemRandom,
    catching_up: Mutex<()>,
}

/// A tree of ours in which something waits for a timestamp.
#[derive(Clone, Debug)]
pub struct Unstamped {
    /// Whose log it is of.
    pub member: Option<MemberId>,
    /// The head that is to be stamped. None: the beginning of its tree is not here.
    pub head: Option<Head>,
    /// Since when it waits.
    pub since: Time,
}

/// The tree is finished: nothing leaves any more; the next start closes what was open.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the message log has ended: {0}, and nothing is exchanged; check the disk, then restart the server")]
pub struct LogEnded(Arc<str>);

impl From<journal::Ended> for LogEnded {
    fn from(ended: journal::Ended) -> Self {
        Self(ended.0)
    }
}

/// The message log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] journal::ReadError),
    /// The index, a view of it, cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The journal ended while exchanges left open were being closed.
    #[error(transparent)]
    Ended(#[from] LogEnded),
    /// Where it stands, the index does not know any more.
    #[error(
        "the index was built anew after segments 1 to {0} were removed, and does not know what stands in them: stop the server, bring \
         them back into message-log with `security-server archive fetch`, delete index and start it again"
    )]
    NotIndexed(u64),
}

/// A later message from our own system: pieces, or the end that a hang-up, deadline or stop is too. Only the half
/// makes one.
pub struct Handed<'m> {
    way: Way,
    direction: &'m mut OurDirection,
    arrived: OwnArrived,
    one: One<'m>,
}

/// A later message from the peer as it claims to be, or its silence. Only the half makes one.
pub struct Claimed<'m> {
    way: Way,
    direction: &'m mut TheirDirection,
    arrived: LineArrived,
    one: One<'m>,
}

/// Sets one message apart from every other (invariant): what a step returns was made of what it was given.
type One<'m> = PhantomData<fn(&'m ()) -> &'m ()>;

/// Where our direction stands: what the next message is chained to.
#[derive(Default)]
pub struct OurDirection {
    position: u64,
    previous: Option<Digest>,
    commitments: Commitments,
}

/// Where their direction stands: what the next message must be chained to.
#[derive(Default)]
pub struct TheirDirection {
    pub(crate) position: u64,
    pub(crate) previous: Option<Digest>,
    pub(crate) commitments: Commitments,
    pub(crate) handed_on: u64,
    pub(crate) tree: Option<proto::record::Genesis>,
    /// The key that signed the last message that was proven.
    pub(crate) key: Option<KeyId>,
    /// Where its messages wait until they are known to be about somebody.
    pub(crate) gate: Option<Box<Gate>>,
    /// Of a REST answer, the HTTP status that its head said.
    pub(crate) status: Option<u32>,
}

/// Signed by a head and durable. Only a finished commit makes one.
pub struct Sealed {
    pub(crate) way: Way,
    pub(crate) frame: wire::Frame,
    pub(crate) opening: bool,
    pub(crate) end: bool,
}

/// Durable, verified or kept as disproved. Only a finished commit makes one.
pub struct Recorded {
    pub(crate) way: Way,
    pub(crate) said: Said,
}

/// What their message comes to.
pub enum Said {
    /// To be handed on.
    Message {
        /// What it carries.
        contents: Contents,
        /// How it ends, if it does.
        end: Option<End>,
        /// Whether it is the request's first message.
        opening: bool,
        /// Whether part of it is held back until its rest is here.
        held: bool,
    },
    /// Nothing more is handed on. Their end may still come.
    Stopped(Stop),
    /// Nothing is handed on: the direction ends without their word.
    Nothing(Stop),
}

/// What a commit releases.
pub trait Release: Sized {
    /// With the proof of its commit; none where nothing was recorded.
    fn durable(self, committed: Option<journal::Committed>) -> Self;
}

impl Release for Sealed {
    fn durable(mut self, committed: Option<journal::Committed>) -> Self {
        self.frame.seal = committed.and_then(|committed| committed.seal());
        self
    }
}

impl Release for Recorded {
    fn durable(self, _: Option<journal::Committed>) -> Self {
        self
    }
}

/// In the writer's queue, in its place. Released when the commit is signed and durable.
#[must_use]
pub struct Committing<'m, T> {
    pending: Option<Pending>,
    release: Option<T>,
    last: bool,
    bytes: usize,
    one: One<'m>,
}

impl<T> Committing<'static, T> {
    /// Of this message: what comes out was made of what went in.
    fn of<'m>(self, _: One<'m>) -> Committing<'m, T> {
        let Self { pending, release, last, bytes, one: _ } = self;
        Committing { pending, release, last, bytes, one: PhantomData }
    }
}

impl<'m, T: Release> Committing<'m, T> {
    fn apart(self) -> Committing<'static, T> {
        let Self { pending, release, last, bytes, one: _ } = self;
        Committing { pending, release, last, bytes, one: PhantomData }
    }

    fn released(self, committed: Option<journal::Committed>) -> Option<T> {
        self.release.map(|message| message.durable(committed))
    }
}

/// A tree for each hosted member, in the order of the keys.
pub(crate) fn trees(server: &ServerId, keys: &[(MemberId, Arc<SigningKey>)]) -> Vec<journal::Tree> {
    let tree = |(member, key): &(MemberId, Arc<SigningKey>)| journal::Tree {
        owner: journal::Owner { instance: member.instance(), member: member.to_string(), server: server.to_string() },
        key: Arc::clone(key),
    };
    keys.iter().map(tree).collect()
}

/// The record that names a key and its successor (PROTOCOL.md 15.6).
pub(crate) fn key_change(nonce: &[u8; NONCE_BYTES], before: KeyId, after: KeyId) -> Record {
    let change = wire::KeyChange { before: before.to_wire(), after: after.to_wire() };
    Record::new(Kind::Key, nonce, &[&change.encode_to_vec()])
}

/// What a `closed` record ends.
struct Ending {
    side: wire::Side,
    opening: Digest,
    exchange: ExchangeId,
    attempt: u32,
}

impl Ending {
    fn of(way: &Way) -> Self {
        let side = match way.side {
            Side::Consumer => wire::Side::Consumer,
            Side::Provider => wire::Side::Provider,
        };
        Self { side, opening: way.opening, exchange: way.exchange, attempt: way.attempt }
    }
}

/// Where a message's record stands, with its paths to the root of a tree.
fn place(entry: &Entry, path: &[Digest]) -> wire::Place {
    let record = entry.position.record;
    wire::Place {
        timestamp: 0,
        received: entry.record.kind() == Kind::Received,
        nonce: entry.record.nonce().to_vec().into(),
        record,
        records: entry.records.count(),
        record_path: entry.records.path(record).map(|hash| hash.to_wire()).collect(),
        commit: entry.commit,
        commit_path: path.iter().map(Digest::to_wire).collect(),
    }
}

/// What lies beside a received record: the peer's seal, and where it was withheld.
pub(crate) fn beside(entry: &Entry) -> Option<wire::Beside> {
    let received = entry.record.kind() == Kind::Received;
    received.then(|| wire::Beside::decode(entry.beside.clone()).ok()).flatten()
}

/// Both ends and the `closed` record are in the log, or the log has ended.
#[must_use]
pub struct Concluded(Result<(), LogEnded>);

impl Concluded {
    /// Whether the log holds the exchange's end.
    pub fn is_in_the_log(&self) -> bool {
        self.0.is_ok()
    }
}

impl<'m> Handed<'m> {
    fn new(way: Way, direction: &'m mut OurDirection, arrived: OwnArrived) -> Self {
        Self { way, direction, arrived, one: PhantomData }
    }

    /// Its way.
    pub fn way(&self) -> &Way {
        &self.way
    }

    pub(crate) fn arrived_mut(&mut self) -> &mut OwnArrived {
        &mut self.arrived
    }
}

impl<'m> Claimed<'m> {
    fn new(way: Way, direction: &'m mut TheirDirection, arrived: LineArrived) -> Self {
        Self { way, direction, arrived, one: PhantomData }
    }

    /// Its way.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Whom it names, where its requests name persons: of what it carries, whole messages stay (PROTOCOL.md 21.3).
    pub(crate) fn named(&mut self, header: &Header, contents: &mut Contents) -> Result<Vec<Subject>, Code> {
        let Some(gate) = &mut self.direction.gate else { return Ok(Vec::new()) };
        gate.take(contents, header.end.as_ref())
    }

    /// At the consumer, with the first message of an answer: which priority the provider says that the call's grant has. A
    /// refusal was given under no grant, and says nothing of it.
    pub(crate) fn said_priority(&self, header: &Header) -> Option<Priority> {
        let is_answered = header.direction == Direction::Answer
            && header.position == 0
            && !matches!(header.end, Some(End::Refused(_)));
        match &self.arrived {
            LineArrived::Frame(frame) if is_answered => Some(Priority::of_wire(frame.priority)),
            _ => None,
        }
    }

    /// What it claims to be, and where it must stand.
    pub(crate) fn claim(&mut self) -> (&Way, &mut TheirDirection, &mut LineArrived) {
        (&self.way, self.direction, &mut self.arrived)
    }
}

/// See [`MessageLog::timestamps`].
pub struct Timestamps<'l> {
    log: &'l MessageLog,
    holds: &'l dyn Fn(&wire::Stamp) -> bool,
    /// The one over the record before: where its head has this one too, it is the first over this one too.
    found: Option<(Head, wire::Stamp)>,
    /// A tree that has none from the record before on.
    none_over: Option<TreeName>,
}

impl Timestamps<'_> {
    /// The first over this record, and the place of the record under the stamped head. None where there is none yet, or where
    /// the beginning of the tree is not here. Reads the disk: not for the message path.
    pub fn over(&mut self, entry: &Entry) -> Result<Option<(wire::Stamp, wire::Place)>, OpenError> {
        let index = &self.log.0.index;
        let over = |head: &Head| head.tree == entry.tree && head.size > entry.commit;
        if self.found.as_ref().is_none_or(|(head, _)| !over(head)) && self.none_over != Some(entry.tree) {
            self.found = self.first(entry)?;
            self.none_over = self.found.is_none().then_some(entry.tree);
        }
        let Some((head, stamp)) = self.found.as_ref().filter(|(head, _)| over(head)) else { return Ok(None) };
        let path = index.path(entry.tree, entry.commit, head.size)?;
        Ok(path.map(|path| (stamp.clone(), place(entry, &path))))
    }

    fn first(&self, entry: &Entry) -> Result<Option<(Head, wire::Stamp)>, OpenError> {
        for position in self.log.0.index.stamps_over(entry.tree, entry.commit) {
            let Some(found) = journal::entry(&*self.log.0.history, position?)? else { continue };
            let Ok(stamp) = decode_canonical::<wire::Stamp>(&found.record.body(), "Stamp") else { continue };
            if let Some(head) = Head::parse(&stamp.head).ok().filter(|_| (self.holds)(&stamp)) {
                return Ok(Some((head, stamp)));
            }
        }
        Ok(None)
    }
}

impl MessageLog {
    /// Opens the log of the members that this server hosts. Every exchange found open is closed, outcome unknown.
    /// `accepted`: the last word of an operator that the clock had been wrong, as the audit log has it. The second disk is the first
    /// with the segments that were removed from it: no start asks for one of them.
    pub async fn open(
        (disk, history): (Arc<dyn journal::Disk>, Arc<dyn journal::Disk>),
        options: journal::Options,
        index: Index,
        server: ServerId,
        keys: Vec<(MemberId, Arc<SigningKey>)>,
        accepted: Option<ClockAccepted>,
        payloads: Arc<Payloads>,
    ) -> Result<Self, OpenError> {
        let trees = trees(&server, &keys);
        // It has forgotten openings by a time that does not count any more, and they are read again; or what it would read next was
        // removed.
        if index.accepted() != accepted || retained::is_behind(&*disk, &index)? {
            retained::begin(&*disk, &index, accepted)?;
        }
        let mut failed = None;
        let mut take = |entry: Entry| {
            if failed.is_none() {
                failed = index.add(&entry).err();
            }
        };
        let journal = Journal::open(Arc::clone(&disk), trees, options, index.position(), &mut take)?;
        if index.position().is_some_and(|position| position > journal.recovered_end()) {
            // It is ahead: it knows records that were lost with the tail. The journal alone counts.
            retained::begin(&*disk, &index, accepted)?;
            journal::read(&*disk, None, &mut take)?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        // By the log's time, not by the clock's: a clock that is set back later must find what it could be shown again.
        let last_time = index.last_time()?;
        let window = index.received_since(last_time.minus(2 * MAX_SKEW))?;
        let log = Self(Arc::new(Inner {
            trees: keys.iter().enumerate().map(|(tree, (member, _))| (member.clone(), TreeIndex(tree))).collect(),
            seen: Mutex::new(Seen::of(window)),
            last_time: AtomicU64::new(last_time.as_millis()),
            withheld: Withheld::default(),
            payloads,
            random: SystemRandom::new(),
            catching_up: Mutex::default(),
            index,
            journal,
            disk,
            history,
        }));
        log.close_what_was_open().await?;
        Ok(log)
    }

    /// What was seen of the peers' logs, as far as the log held it at the start.
    pub fn seen_trees(&self) -> Result<Vec<(LogOwner, SeenTree)>, IndexError> {
        self.0.index.seen_trees()
    }

    /// From which backup the log was put back, if it was and nobody has noted it yet.
    pub fn restored(&self) -> Option<&str> {
        self.0.journal.restored()
    }

    /// What follows from the restore is durable.
    pub fn restore_is_noted(&self) -> std::io::Result<()> {
        self.0.journal.restore_is_noted()
    }

    /// This server started at this time with a log that was put back from a backup: openings that the lost part may have
    /// held are refused from here on, `NOT_READY`.
    pub fn wait_out(&self, restored: Time) {
        self.0.seen.lock().expect("no panic while it is held").lost_until(restored);
    }

    /// How long it is from now until openings of that very moment are taken again.
    pub fn waits_after_restore(&self, now: Time) -> std::time::Duration {
        let lost = self.0.seen.lock().expect("no panic while it is held").is_lost_until();
        lost.filter(|lost| *lost >= now)
            .map_or(std::time::Duration::ZERO, |lost| lost.plus(std::time::Duration::from_millis(1)).distance(now))
    }

    /// The time given, or the last recorded time where that is later: a clock set back opens no replay.
    pub fn not_before_last(&self, now: Time) -> Time {
        now.max(self.last_time())
    }

    /// The last time at which something was sealed here, or an opening taken.
    pub fn last_time(&self) -> Time {
        Time::from_millis(self.0.last_time.load(Ordering::Relaxed))
    }

    fn note_time(&self, time: Time) {
        self.0.last_time.fetch_max(time.as_millis(), Ordering::Relaxed);
    }

    /// The batch that waits for the disk, if one does.
    pub fn writing(&self) -> Option<u64> {
        self.0.journal.writing()
    }

    /// Where what is in the log now ends: times before it count no more once a clock is accepted there.
    pub fn end(&self) -> Position {
        self.0.journal.durable_end()
    }

    /// Numbers of its segments to which nothing is written any more, and that are durable.
    pub fn finished_segments(&self) -> Result<Vec<u64>, journal::ReadError> {
        let durable = self.0.journal.durable_end().segment;
        Ok(journal::finished(&*self.0.disk)?.into_iter().filter(|number| *number < durable).collect())
    }

    /// One of them, read and checked as a start would.
    pub fn finished_segment(&self, number: u64) -> Result<journal::Finished, journal::ReadError> {
        journal::Finished::read(&*self.0.disk, number)
    }

    /// First half of accepting a clock: remembers again every opening that would be fresh by it or later, so that none
    /// of them is taken a second time. Reads the whole log.
    pub fn remember_openings_for(&self, clock: Time) -> Result<(), OpenError> {
        let since = clock.minus(2 * MAX_SKEW);
        let mut seen = |exchange, attempt, time| {
            if time >= since {
                self.0.seen.lock().expect("no panic while it is held").remember((exchange, attempt), time);
            }
        };
        retained::removed_openings(&*self.0.disk, &mut seen)?;
        journal::read(&*self.0.disk, None, &mut |entry| {
            if let Some((exchange, attempt, time)) = received_opening(&entry) {
                seen(exchange, attempt, time);
            }
        })?;
        Ok(())
    }

    /// Second half, once an operator's word is in the audit log: from here on `now` may be this.
    pub fn accept_clock(&self, accepted: ClockAccepted) -> Result<(), OpenError> {
        self.0.index.accept(Some(accepted))?;
        // A crash before this: the next start finds another word in the index than in the audit log, and builds it anew, without what
        // stood in removed segments.
        self.0.index.flush()?;
        let mut seen = self.0.seen.lock().expect("no panic while it is held");
        if seen.is_lost_until().is_some_and(|lost| lost > accepted.at) {
            // The minute after a restore, by the clock that is right.
            seen.lost_until(accepted.at);
        }
        drop(seen);
        self.0.last_time.store(accepted.at.as_millis(), Ordering::Relaxed);
        Ok(())
    }

    /// What was written since the start.
    pub fn counts(&self) -> journal::Counts {
        self.0.journal.counts()
    }

    /// Why the log ended, if it did: nothing is exchanged then.
    pub fn ended(&self) -> Option<Arc<str>> {
        self.0.journal.ended()
    }

    /// Resolves when the log has ended.
    pub async fn until_ended(&self) -> Arc<str> {
        self.0.journal.until_ended().await
    }

    /// The records of an exchange, in the order of the log, and of payloads that are kept no more than under which key. Reads
    /// the disk: not for the message path.
    pub fn find(&self, exchange: ExchangeId) -> Result<Vec<Entry>, OpenError> {
        self.catch_up()?;
        let mut found = Vec::new();
        // A stream may be longer than memory: of no more than a segment the payloads are held.
        for of_segment in self.0.index.find(exchange)?.chunk_by(|one, next| one.segment == next.segment) {
            found.extend(journal::entries(&*self.0.history, of_segment)?.into_iter().map(without_ciphertext));
        }
        self.is_indexed(&found)?;
        Ok(found)
    }

    /// The payloads that are kept of an exchange and wanted, by where their messages stand, still encrypted. None: they have more
    /// bytes than `most`. Reads the disk: not for the message path.
    pub(crate) fn kept_payloads(
        &self,
        exchange: ExchangeId,
        most: usize,
        is_wanted: &mut dyn FnMut(Position, &wire::KeptPayload) -> bool,
    ) -> Result<Option<HashMap<Position, wire::KeptPayload>>, OpenError> {
        self.catch_up()?;
        let (mut kept, mut bytes) = (HashMap::new(), 0);
        for of_segment in self.0.index.find(exchange)?.chunk_by(|one, next| one.segment == next.segment) {
            for entry in journal::entries(&*self.0.history, of_segment)? {
                let wanted = kept_beside(&entry).filter(|payload| is_wanted(entry.position, payload));
                let Some(payload) = wanted else { continue };
                bytes += payload.ciphertext.len();
                if bytes > most {
                    return Ok(None);
                }
                kept.insert(entry.position, payload);
            }
        }
        Ok(Some(kept))
    }

    /// The exchanges that are looked for, newest first, from the index. Those about a person are all of them, or none is shown. Reads the
    /// disk: not for the message path.
    pub fn search(&self, search: &Search) -> Result<FoundExchanges, OpenError> {
        self.catch_up()?;
        let not_indexed = self.not_indexed()?;
        if let Some(last) = not_indexed.filter(|_| search.subject.is_some()) {
            return Err(OpenError::NotIndexed(last));
        }
        Ok(FoundExchanges { not_indexed, ..self.0.index.search(search)? })
    }

    /// The exchanges about a person that are looked for, each with why it was asked; and where to go on. Reads the disk: not for
    /// the message path.
    #[allow(clippy::type_complexity, reason = "what was found, and where to go on")]
    pub fn disclosed(
        &self,
        search: &Search,
    ) -> Result<(Vec<(FoundExchange, wire::Subjects)>, Option<String>), OpenError> {
        let FoundExchanges { exchanges, next, .. } = self.search(search)?;
        let mut disclosed = Vec::new();
        for found in exchanges {
            let Some((row, subject)) = found.row().zip(search.subject.as_ref()) else { continue };
            disclosed.extend(self.0.index.about(subject, row)?.map(|position| (position, found)));
        }
        // A segment is long: each is read once, whatever stands in it.
        let mut positions: Vec<Position> = disclosed.iter().map(|(position, _)| *position).collect();
        positions.sort_unstable();
        positions.dedup();
        let entries = journal::entries(&*self.0.history, &positions)?;
        let why = |position: Position| {
            let entry = entries.iter().find(|entry| entry.position == position)?;
            decode_canonical(&entry.record.body(), "Subjects").ok()
        };
        let disclosed = disclosed.into_iter().filter_map(|(position, found)| Some((found, why(position)?)));
        Ok((disclosed.collect(), next))
    }

    /// How the log of this member, as it is on disk now, goes on from a head of it (PROTOCOL.md 5.6). None where there is no
    /// such member here. Reads the disk: not for the message path.
    pub fn joined(&self, member: &MemberId, asked: &Head) -> Result<Option<wire::Joined>, OpenError> {
        let Some(&tree) = self.0.trees.get(member) else { return Ok(None) };
        self.catch_up()?;
        let index = &self.0.index;
        let of_member = |genesis: &Genesis| genesis.content.member == member.as_str();
        let there = index.genesis(asked.tree)?.filter(of_member);
        let (mut geneses, mut newest) = (VecDeque::new(), asked.tree);
        if there.is_some() {
            while geneses.len() < MAX_GENESES
                && let Some(next) = index.successor(newest)?
                && let Some(genesis) = index.genesis(next)?
            {
                newest = next;
                geneses.push_front(genesis);
            }
        } else {
            // What there is of the log, back to its beginning: the tree is not among it.
            newest = self.0.journal.name(tree);
            let mut next = Some(newest);
            while geneses.len() < MAX_GENESES
                && let Some(name) = next
                && let Some(genesis) = index.genesis(name)?
            {
                next = Digest::try_from(genesis.content.before.as_ref()).ok().map(TreeName);
                geneses.push_back(genesis);
            }
        }
        let Some(signed) = index.signed_head(newest)? else { return Ok(None) };
        let ended = geneses.back().map(|after: &Genesis| after.content.before_size);
        let end = if there.is_some() { ended.unwrap_or(signed.head.size) } else { 0 };
        let mut joined = wire::Joined {
            geneses: geneses.iter().map(|genesis| genesis.record.as_bytes().clone()).collect(),
            newest: Some(signed.to_wire()),
            ..Default::default()
        };
        // The last tree has perhaps commits after the last signed head: what was asked about may be one of them.
        let has = if geneses.is_empty() { index.commits(asked.tree)?.unwrap_or_default() } else { end };
        if (1..=has).contains(&asked.size) && end > 0 {
            let mut whole = true;
            let mut root = |range| {
                let root = index.root(asked.tree, range)?;
                whole &= root.is_some();
                Ok::<_, IndexError>(root.unwrap_or(Digest::ZERO))
            };
            let shown = root(0..asked.size)?;
            let proof = merkle::consistency_of(asked.size.min(end), asked.size.max(end), &mut root)?;
            if whole {
                (joined.root, joined.proof) = (shown.to_wire(), proof.iter().map(Digest::to_wire).collect());
            }
        }
        Ok(Some(joined))
    }

    /// The heads under which something waits for a timestamp, as far as the index reads.
    pub fn unstamped(&self) -> Result<Vec<Unstamped>, OpenError> {
        let index = &self.0.index;
        let mut heads = Vec::new();
        for (tree, since) in index.waiting()? {
            let genesis = index.genesis(tree)?;
            let member = genesis.and_then(|genesis| genesis.content.member.parse().ok());
            let after = match index.successor(tree)? {
                Some(after) => index.genesis(after)?,
                None => None,
            };
            // Of a tree that ended, the end that the next one names; of one that grows, all that is durable: a timestamp
            // over a head that is not signed yet binds what will be.
            let head = match after {
                Some(after) => Digest::try_from(after.content.before_root.as_ref()).ok().map(|root| Head {
                    tree,
                    size: after.content.before_size,
                    root,
                }),
                None => match index.commits(tree)?.filter(|size| *size > 0) {
                    Some(size) => index.root(tree, 0..size)?.map(|root| Head { tree, size, root }),
                    None => None,
                },
            };
            heads.push(Unstamped { member, head, since });
        }
        Ok(heads)
    }

    /// The timestamps over records of this log that `holds` takes, for records in the order of the log.
    pub fn timestamps<'l>(&'l self, holds: &'l dyn Fn(&wire::Stamp) -> bool) -> Timestamps<'l> {
        Timestamps { log: self, holds, found: None, none_over: None }
    }

    /// Keeps a timestamp over a head of this member's log, in its tree of today. Resolves when it is durable.
    pub(crate) async fn keep_stamp(
        &self,
        member: &Option<MemberId>,
        head: &Head,
        token: Bytes,
    ) -> Result<(), LogEnded> {
        let tree = member.as_ref().and_then(|member| self.0.trees.get(member)).copied().unwrap_or(TreeIndex(0));
        let stamp = wire::Stamp { head: head.to_text().into(), token };
        let record = Record::new(Kind::Stamp, &self.draw(), &[&stamp.encode_to_vec()]);
        self.append(tree, record, Bytes::new(), false).await?;
        Ok(())
    }

    /// Reads into the index what was written since it was caught up last. Reads the disk: not for the message path.
    pub fn catch_up(&self) -> Result<(), OpenError> {
        let _alone = self.0.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        // The file shows a commit before its sync returned, and for ever where it failed: that is nobody's to see.
        let durable_end = self.0.journal.durable_end();
        if self.0.index.position().is_some_and(|position| position >= durable_end) {
            return Ok(());
        }
        let mut failed = None;
        journal::read(&*self.0.disk, self.0.index.position(), &mut |entry| {
            if failed.is_none() && entry.position < durable_end {
                failed = self.0.index.add(&entry).err();
            }
        })?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Seals our opening. From here on the exchange has an end in the log, whatever happens.
    pub fn seal_opening(&self, call: Routed<Authorized<Judged<Call>>>) -> Result<Opened, Refusal> {
        if let Some(why) = self.ended() {
            return Err(Refusal::new(Code::LogEnded, &*why));
        }
        let (route, target, share, call) = call.spent();
        let (now, configuration) = (call.now(), version(&call));
        let Call { permit, asked, source, mut first, client, stop, .. } = call.spent();
        let Some(&tree) = self.0.trees.get(&route.consumer.member()) else {
            return Err(Refusal::new(
                Code::ClientUnknown,
                format!("this server holds no signing key of {}", route.consumer.member()),
            ));
        };
        let keeping =
            self.0.payloads.key_for(&route, now).map_err(|why| Refusal::new(Code::PayloadKeysMissing, why))?;
        let mut direction = OurDirection::default();
        let committed = direction.commitments.commit(&first.contents, || self.draw_secret());
        let exchange = ExchangeId::from_bytes(self.draw());
        let header = Header::new(Facts {
            route: route.clone(),
            exchange,
            attempt: 1,
            direction: Direction::Request,
            position: 0,
            time: now,
            configuration,
            opening: Some(asked.why.clone()),
            answer: None,
            previous: None,
            metadata: committed.metadata,
            pieces: committed.pieces,
            end: first.end.take().map(|end| end.sealed(None)),
            removed: None,
        });
        let permit = permit.of_peer(share);
        self.note_time(now);
        let (line, line_source) = Line::to_provider(target, exchange);
        let way = Way::new(Beginning {
            side: Side::Consumer,
            route,
            exchange,
            attempt: 1,
            why: asked.why,
            opening: header.digest(),
            opened: header.time,
            tree,
            grant: None,
            keeping,
            line,
            own: OwnSystem::Client(client),
            stop,
        });
        let opening = self.queue_sent(&way, &mut direction, &header, committed.payload, None);
        Ok(Opened::by_us(self.clone(), way, permit, (source, line_source), direction, opening))
    }

    /// Records their opening. A request whose exchange and attempt were seen before is a replay.
    pub fn record_opening(&self, admitted: Admitted) -> Result<Opened, BareRefusal> {
        if let Some(why) = self.ended() {
            return Err(BareRefusal::new(Code::LogEnded, &*why));
        }
        let (answerer, verified, direction, about) = admitted.spent();
        let (header, contents, opening) = verified.spent();
        let now = opening.now();
        let claimed = opening.spent();
        let Some(&tree) = self.0.trees.get(&header.route.provider.member()) else {
            return Err(BareRefusal::unproven(format!(
                "this server holds no signing key of {}",
                header.route.provider.member()
            )));
        };
        self.0.seen.lock().expect("no panic while it is held").note(
            (header.exchange, header.attempt),
            header.time,
            now,
        )?;
        // By this time openings were forgotten: from here on it is not earlier.
        self.note_time(now);
        // Of what is refused nothing is kept.
        let keeping = match &answerer {
            Answerer::Service(..) => self.0.payloads.key_for(&header.route, now),
            Answerer::Refusal(_) => Ok(None),
        };
        let keeping = keeping.map_err(|why| BareRefusal::new(Code::PayloadKeysMissing, why))?;
        let (grant, permit, (own, own_source)) = match answerer {
            Answerer::Service(granted, share) => {
                let grant = Arc::clone(&granted.grant);
                let consumer = &header.route.consumer_server;
                let own = OwnSystem::to_service(granted, consumer, direction.gate.is_some());
                (Some(grant), claimed.permit.of_service(share), own)
            }
            Answerer::Refusal(code) => (None, claimed.permit, OwnSystem::refusing(code)),
        };
        let way = Way::new(Beginning {
            side: Side::Provider,
            route: header.route.clone(),
            exchange: header.exchange,
            attempt: header.attempt,
            why: header.opening.clone().unwrap_or_default(),
            opening: header.digest(),
            opened: header.time,
            tree,
            grant,
            keeping,
            line: Line::ToConsumer(Some(claimed.answer)),
            own,
            stop: claimed.stop,
        });
        way.note_peer_key(claimed.connection_key);
        way.note_peer_signing_key(direction.key);
        let held = direction.gate.as_ref().is_some_and(|gate| gate.holds());
        let opening = self.queue_received(&way, &header, &claimed.frame, contents, (true, held), &about);
        Ok(Opened::by_them(self.clone(), way, permit, (own_source, claimed.source), direction, opening))
    }

    /// Seals a message of ours: chained to the one before, naming what the service had been handed.
    pub fn seal<'m>(&self, message: MayGoOn<'m>) -> Committing<'m, Sealed> {
        let message = message.spent();
        let (now, configuration) = (message.now(), version(&message));
        let Handed { way, direction, arrived: OwnArrived { contents, removed, end }, one } = message.spent();
        if !matches!(end, Some(OwnEnd::Abort(_) | OwnEnd::Refused(_))) {
            self.note_time(now);
        }
        let committed = direction.commitments.commit(&contents, || self.draw_secret());
        // Whoever knows the salt can try what was removed: it stays here.
        let removed = removed.map(|bytes| {
            let salt = self.draw();
            (commitment::removed(&salt, &bytes), wire::Beside { salt: salt.to_vec().into(), ..Default::default() })
        });
        let header = Header::new(Facts {
            route: way.route.clone(),
            exchange: way.exchange,
            attempt: way.attempt,
            direction: match way.side {
                Side::Consumer => Direction::Request,
                Side::Provider => Direction::Answer,
            },
            position: direction.position,
            time: now,
            configuration,
            opening: None,
            answer: (way.side == Side::Provider).then(|| Answer { opening: way.opening, handed_on: way.handed_on() }),
            previous: direction.previous,
            metadata: committed.metadata,
            pieces: committed.pieces,
            end: end.map(|end| end.sealed(committed.trailers)),
            removed: removed.as_ref().map(|(commitment, _)| *commitment),
        });
        let beside = removed.map(|(_, beside)| beside);
        self.queue_sent(&way, direction, &header, committed.payload, beside).of(one)
    }

    /// Records a message of theirs, or keeps what was disproved: the one proof that a peer cheats.
    pub fn record<'m>(&self, message: MayBeHandedOn<'m>) -> Committing<'m, Recorded> {
        let (verdict, message) = message.spent();
        let Claimed { way, direction, arrived, one } = message.spent();
        match verdict {
            Verdict::HandOn { header, contents, about } => {
                let LineArrived::Frame(frame) = &arrived else {
                    return Committing::nothing(way, Stop::from(Cause::Disconnected)).of(one);
                };
                let held = direction.gate.as_ref().is_some_and(|gate| gate.holds());
                self.queue_received(&way, &header, frame, contents, (false, held), &about).of(one)
            }
            Verdict::Withhold(stop) => {
                // Stops the other direction first: its abort says why.
                way.stop(stop);
                let kept = match arrived {
                    LineArrived::Stopped(stop) => return Committing::stopped(way, stop).of(one),
                    LineArrived::Frame(frame) if self.keeps_withheld(&way, stop.cause) => {
                        Some(self.queue_withheld(&way, &frame, stop))
                    }
                    LineArrived::Frame(_) | LineArrived::Silence(_) => None,
                };
                Committing { pending: kept, ..Committing::nothing(way, stop) }.of(one)
            }
        }
    }

    /// Writes `closed`, waits until it is durable, then gives the permit back.
    pub async fn conclude(&self, ended: BothEnded) -> Concluded {
        let way = ended.way().clone();
        let (ends, permit) = ended.spent();
        let concluded = match ends {
            Err(ended) => {
                // What cannot be recorded is withheld, and a client that waits for it learns so.
                let left = way.line.lock().await.left() && !way.is_unsent();
                let code = if left { Code::AnswerUnrecorded } else { Code::LogEnded };
                let unrecorded = Stop::because(Cause::Unspecified, code);
                way.own.lock().await.stop(&way, unrecorded);
                Err(ended)
            }
            Ok((ours, theirs)) => {
                let outcome = match (ours.left() && !way.is_unsent(), theirs.is_silence()) {
                    (false, _) => wire::Outcome::NotSent,
                    (true, false) => wire::Outcome::Completed,
                    (true, true) => wire::Outcome::Silent,
                };
                let side = if way.side == Side::Consumer { "consumer" } else { "provider" };
                let name = outcome.as_str_name();
                metrics::counter!("causeway_exchanges_total", "side" => side, "outcome" => name).increment(1);
                self.queue_closed(way.tree, Ending::of(&way), outcome).await.map(|_| ()).map_err(LogEnded::from)
            }
        };
        drop(permit);
        Concluded(concluded)
    }

    /// From here on the member's heads are signed with this key. The tree goes on, and a `key` record names both. Returns the
    /// last head that the key before has signed.
    pub(crate) async fn change_key(
        &self,
        member: &MemberId,
        before: KeyId,
        key: &Arc<SigningKey>,
    ) -> Result<Head, LogEnded> {
        let tree = self.0.trees.get(member).copied().unwrap_or(TreeIndex(0));
        let record = key_change(&self.draw(), before, key.public().id());
        let committed = self.0.journal.change_key(tree, Arc::clone(key), record).await?;
        Ok(committed.head())
    }

    fn abandon(&self, way: &Way) {
        // Nobody waits for it: the task is gone. A crash before it is durable is found at the next start.
        drop(self.queue_closed(way.tree, Ending::of(way), wire::Outcome::Abandoned));
    }

    async fn close_what_was_open(&self) -> Result<(), OpenError> {
        let mut queued = Vec::new();
        for open in self.0.index.open_exchanges()? {
            // A tree of a member that is hosted no longer has nobody who could sign for it: its first tree does.
            let tree = self.0.trees.get(&open.member).copied().unwrap_or(TreeIndex(0));
            let Open { side, opening, exchange, attempt, .. } = open;
            queued.push(self.queue_closed(tree, Ending { side, opening, exchange, attempt }, wire::Outcome::Unknown));
        }
        let count = queued.len();
        for pending in queued {
            pending.await.map_err(LogEnded::from)?;
        }
        if count > 0 {
            tracing::warn!(count, "exchanges found open at the start are closed: outcome unknown");
        }
        Ok(())
    }

    fn queue_sent(
        &self,
        way: &Way,
        direction: &mut OurDirection,
        header: &Header,
        payload: Option<wire::Payload>,
        beside: Option<wire::Beside>,
    ) -> Committing<'static, Sealed> {
        let opening = direction.position == 0;
        direction.position += 1;
        direction.previous = Some(header.digest());
        way.note_sealed();
        let record = Record::new(Kind::Sent, &self.draw(), &[header.as_bytes()]);
        let bytes = payload.as_ref().map_or(0, |payload| payload.pieces.iter().map(Bytes::len).sum());
        let kept = way.keeping.as_ref().and_then(|keeping| keeping.kept(header, payload.as_ref()));
        let beside = match (beside, kept) {
            (None, None) => Bytes::new(),
            (beside, kept) => wire::Beside { kept, ..beside.unwrap_or_default() }.encode_to_vec().into(),
        };
        let pending = self.append(way.tree, record, beside, true);
        let frame = wire::Frame {
            exchange: Bytes::copy_from_slice(way.exchange.as_bytes()),
            header: header.as_bytes().clone(),
            seal: None,
            payload,
            genesis: if opening { self.0.journal.genesis(way.tree).as_bytes().clone() } else { Bytes::new() },
            // An answer's: a request's way has no grant here.
            priority: way.grant.as_ref().map_or(0, |grant| grant.priority.to_wire()),
        };
        let sealed = Sealed { way: way.clone(), frame, opening, end: header.end.is_some() };
        Committing { pending: Some(pending), last: sealed.end, release: Some(sealed), bytes, one: PhantomData }
    }

    fn queue_received(
        &self,
        way: &Way,
        header: &Header,
        frame: &wire::Frame,
        contents: Contents,
        (opening, held): (bool, bool),
        about: &[Subject],
    ) -> Committing<'static, Recorded> {
        let seal = frame.seal.clone().unwrap_or_default();
        let record = Record::new(Kind::Received, &self.draw(), &[seal::digest(&seal).as_bytes(), header.as_bytes()]);
        // The peer's seal is kept beside the record: what is in the tree is its digest.
        let genesis = if header.position == 0 { frame.genesis.clone() } else { Bytes::new() };
        let kept = way.keeping.as_ref().and_then(|keeping| keeping.kept(header, frame.payload.as_ref()));
        let beside = wire::Beside { seal: Some(seal), genesis, kept, ..Default::default() };
        let mut pending = self.append(way.tree, record, beside.encode_to_vec().into(), false);
        if !about.is_empty() {
            // Behind the message and in its batch: what is handed on waits for both.
            pending = self.append(way.tree, self.subjects_of(way, about), Bytes::new(), false);
        }
        let bytes = contents.pieces.iter().map(Bytes::len).sum();
        let said = Said::Message { contents, end: header.end.clone(), opening, held };
        Committing {
            pending: Some(pending),
            last: header.end.is_some(),
            release: Some(Recorded { way: way.clone(), said }),
            bytes,
            one: PhantomData,
        }
    }

    /// Whom a request names, and why it may (PROTOCOL.md 21.4).
    fn subjects_of(&self, way: &Way, about: &[Subject]) -> Record {
        let (grant, granted) = way.grant.as_ref().map_or((0, ""), |grant| (grant.number.0, grant.legal_basis.as_str()));
        let legal_basis = if granted.is_empty() { &way.why.legal_basis } else { granted };
        let subjects = wire::Subjects {
            exchange: Bytes::copy_from_slice(way.exchange.as_bytes()),
            attempt: way.attempt,
            opening: way.opening.to_wire(),
            grant,
            purpose: way.why.purpose.clone(),
            legal_basis: legal_basis.to_owned(),
            subjects: subjects::bytes_of(about),
        };
        Record::new(Kind::Subjects, &self.draw(), &[&subjects.encode_to_vec()])
    }

    /// Whole, as it came, where it was disproved: whoever reads it verifies it again, and sees that it fails. What was
    /// withheld for another reason is kept without what it said. It is kept with the exchange in which it came, whatever
    /// it says of itself.
    fn queue_withheld(&self, way: &Way, frame: &wire::Frame, stop: Stop) -> Pending {
        let seal = frame.seal.clone().unwrap_or_default();
        let record = Record::new(Kind::Received, &self.draw(), &[seal::digest(&seal).as_bytes(), &frame.header]);
        let beside = wire::Beside {
            payload: frame.payload.clone().filter(|_| stop.cause == Cause::Disproved),
            genesis: frame.genesis.clone(),
            seal: Some(seal),
            withheld: Bytes::copy_from_slice(way.exchange.as_bytes()),
            ..Default::default()
        };
        self.append(way.tree, record, beside.encode_to_vec().into(), false)
    }

    fn keeps_withheld(&self, way: &Way, cause: Cause) -> bool {
        let peer = match way.side {
            Side::Consumer => &way.route.provider_server,
            Side::Provider => &way.route.consumer_server,
        };
        self.0.withheld.keeps(peer, cause)
    }

    fn queue_closed(&self, tree: TreeIndex, ending: Ending, outcome: wire::Outcome) -> Pending {
        let closed = wire::Closed {
            exchange: Bytes::copy_from_slice(ending.exchange.as_bytes()),
            attempt: ending.attempt,
            outcome: outcome as i32,
            side: ending.side as i32,
            opening: ending.opening.to_wire(),
        };
        let record = Record::new(Kind::Closed, &self.draw(), &[&closed.encode_to_vec()]);
        // Whoever it would hold up has what it asked for: it needs no sync of its own.
        self.0.journal.append_riding(tree, record)
    }

    fn append(&self, tree: TreeIndex, record: Record, beside: Bytes, leaving: bool) -> Pending {
        self.0.journal.append(tree, record, beside, leaving)
    }

    fn draw<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.random.fill(&mut bytes).expect("the system's random source works, or nothing does");
        bytes
    }

    fn draw_secret(&self) -> Secret {
        Secret::from_bytes(self.draw())
    }
}

impl Committing<'static, Recorded> {
    fn stopped(way: Way, stop: Stop) -> Self {
        let release = Some(Recorded { way, said: Said::Stopped(stop) });
        Self { pending: None, release, last: false, bytes: 0, one: PhantomData }
    }

    fn nothing(way: Way, stop: Stop) -> Self {
        let release = Some(Recorded { way, said: Said::Nothing(stop) });
        Self { pending: None, release, last: true, bytes: 0, one: PhantomData }
    }
}

/// The opening that an entry received and admitted, and its time.
pub(crate) fn received_opening(entry: &Entry) -> Option<(ExchangeId, u32, Time)> {
    let body = entry.record.body();
    if entry.record.kind() != Kind::Received || body.len() <= 32 || is_withheld(entry).is_some() {
        return None;
    }
    let header = Header::parse(body.slice(32..)).ok()?;
    let opens = header.direction == Direction::Request && header.position == 0;
    opens.then_some((header.exchange, header.attempt, header.time))
}

/// The salt of what was removed of an answer that was sent.
pub(crate) fn salt(entry: &Entry) -> Option<Bytes> {
    let beside = (entry.record.kind() == Kind::Sent).then(|| wire::Beside::decode(entry.beside.clone()).ok());
    beside.flatten().map(|beside| beside.salt).filter(|salt| !salt.is_empty())
}

/// The payload that is kept beside a message, still encrypted.
pub(crate) fn kept_beside(entry: &Entry) -> Option<wire::KeptPayload> {
    let is_message = matches!(entry.record.kind(), Kind::Sent | Kind::Received);
    is_message.then(|| wire::Beside::decode(entry.beside.clone()).ok()).flatten()?.kept
}

/// The same record with the name of its payload's key, and without the payload.
fn without_ciphertext(entry: Entry) -> Entry {
    let is_message = matches!(entry.record.kind(), Kind::Sent | Kind::Received);
    let beside = is_message.then(|| wire::Beside::decode(entry.beside.clone()).ok()).flatten();
    let Some(beside) = beside.filter(|beside| beside.kept.is_some()) else { return entry };
    let kept = beside.kept.map(|kept| wire::KeptPayload { ciphertext: Bytes::new(), ..kept });
    Entry { beside: wire::Beside { kept, ..beside }.encode_to_vec().into(), ..entry }
}

/// The exchange in which a received message came that was kept from our system. None for what was handed on.
pub(crate) fn is_withheld(entry: &Entry) -> Option<ExchangeId> {
    ExchangeId::try_from(beside(entry)?.withheld.as_ref()).ok()
}

fn version<T>(judged: &Judged<T>) -> ConfigurationVersion {
    let configuration = judged.named_configuration();
    ConfigurationVersion { version: configuration.version, digest: configuration.digest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_keeps_nothing_out_that_is_disproved_nor_one_peer_another() {
        let withheld = Withheld::default();
        let (peer, other) = ("VN/GOV/portal/ss1".parse().unwrap(), "VN/GOV/moj/ss1".parse().unwrap());
        let kept = |peer: &ServerId, cause| (0..100).filter(|_| withheld.keeps(peer, cause)).count();
        assert_eq!(kept(&peer, Cause::Malformed), 16);
        assert_eq!(kept(&peer, Cause::Disproved), 16);
        assert_eq!((kept(&peer, Cause::Forbidden), kept(&peer, Cause::Disproved)), (0, 0));
        assert_eq!((kept(&other, Cause::Disproved), kept(&other, Cause::Malformed)), (16, 16));
    }
}
