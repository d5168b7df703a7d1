//! The log's index: a view in sled, rebuilt from the journal whenever it is behind it, ahead of it or gone. It finds
//! exchanges by id, knows which are open, and remembers the openings that a replay would repeat.
//!
//! Not trusted: nothing is proved by it. It is caught up at a start and when it is asked, never on the message path.
//! Whoever adds to it does so alone and in the order of the log.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use journal::{Entry, Position, Remains};
use proto::consistency::SignedHead;
use proto::digest::Digest;
use proto::head::Head;
use proto::identifier::{ExchangeId, MemberId};
use proto::merkle;
use proto::message::{Direction, End, Header};
use proto::record::{Genesis, Kind, TreeName};
use proto::time::Time;
use proto::wire::relay::{self as wire, Outcome, Side};

use super::exchanges::{FoundExchanges, MAX_FOUND, Row, RowKey, Search};
use crate::subjects::Subject;
use crate::witness::{LogOwner, REMEMBERED_TREES, SeenTree};

/// Key prefixes of the one tree. `x` exchange position: a record of an exchange; of an opening, its value the key of its row.
/// `u` subject time exchange attempt side: an exchange about a person, its value where the log says so.
/// `f` time exchange attempt side: an exchange that has its end, its value the row. `o` side opening: an exchange that is
/// open, its value the key and the row that it will have. `r` time exchange attempt: a received opening. `h` tree: what was
/// seen of a peer's tree. `n` tree level number: a node of one of our trees. `e` tree: how many commits it has. `g` tree: its
/// genesis. `w` tree: since when something in it waits for a timestamp, and its last commit. `y` tree size: the first stamp of
/// that head. `s` tree: the tree after it. `k` tree: the last head of it that is signed on the disk. `c` segment tree: where
/// the log says that it was taken out. `b`: the first segment whose records are in it. `v`: which keys there are. `p`: how far it
/// reads. `t`: the last time. `a`: from which position on times count, and the time that was accepted there.
const RECORD: u8 = b'x';
const ABOUT: u8 = b'u';
const ENDED: u8 = b'f';
const OPEN: u8 = b'o';
const RECEIVED: u8 = b'r';
const SEEN_TREE: u8 = b'h';
const NODE: u8 = b'n';
const COMMITS: u8 = b'e';
const GENESIS: u8 = b'g';
const SUCCESSOR: u8 = b's';
const SIGNED: u8 = b'k';
const WAITING: u8 = b'w';
const STAMPED: u8 = b'y';
const FORM: &[u8] = b"v";
/// An index of another form is read again from the log.
const THIS_FORM: &[u8] = b"6";
/// A node of a level has 256 of the level below.
const NODE_BITS: u32 = 8;
const POSITION: &[u8] = b"p";
const LAST_TIME: &[u8] = b"t";
const ACCEPTED: &[u8] = b"a";
const CUT: u8 = b'c';
const BEGINS: &[u8] = b"b";

/// See the module.
#[derive(Clone)]
pub struct Index(sled::Db);

/// The index cannot be used. It holds nothing that the journal does not: it may be deleted.
#[derive(Debug, thiserror::Error)]
#[error(
    "the message log's index cannot be used ({0}); stop the server and delete its directory, it is rebuilt at the next start"
)]
pub struct IndexError(#[from] sled::Error);

/// An operator's word that the clock is right though the log holds later times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockAccepted {
    /// What the clock said.
    pub at: Time,
    /// Where the log ended then: times before it count no more.
    pub end: Position,
}

/// An exchange without an end in the log.
pub struct Open {
    /// On which side of it this server is.
    pub side: Side,
    /// The digest of its opening.
    pub opening: Digest,
    /// Its name.
    pub exchange: ExchangeId,
    /// From 1.
    pub attempt: u32,
    /// In whose tree it stands.
    pub member: MemberId,
}

/// An exchange that is open, with its row.
type OpenRow = (RowKey, Vec<u8>);

/// Where the records of an exchange are.
pub type Found = Vec<Position>;

impl Index {
    /// Opens or makes the view in this directory.
    pub fn open(directory: &Path) -> Result<Self, IndexError> {
        let index = Self(view::open(directory, sled::Config::new().cache_capacity(16 << 20))?);
        if index.0.get(FORM)?.as_deref() != Some(THIS_FORM) {
            let accepted = index.accepted();
            index.clear()?;
            index.accept(accepted)?;
        }
        Ok(index)
    }

    /// Up to where it reads, exclusive. None: it is empty.
    pub fn position(&self) -> Option<Position> {
        let bytes = self.0.get(POSITION).ok().flatten()?;
        let position = Position::from_bytes(bytes.as_ref().try_into().ok()?);
        Some(Position { record: position.record.checked_add(1)?, ..position })
    }

    /// Forgets everything: the journal is read again from its beginning.
    pub fn clear(&self) -> Result<(), IndexError> {
        self.0.clear()?;
        self.0.insert(FORM, THIS_FORM)?;
        Ok(())
    }

    /// The operator's word that it reckons with.
    pub fn accepted(&self) -> Option<ClockAccepted> {
        let bytes = self.0.get(ACCEPTED).ok().flatten()?;
        let (end, at) = bytes.split_first_chunk::<{ Position::BYTES }>()?;
        let at = Time::from_millis(u64::from_be_bytes(at.try_into().ok()?));
        Some(ClockAccepted { at, end: Position::from_bytes(end) })
    }

    /// From here on the last time is the accepted one, and later ones.
    pub fn accept(&self, accepted: Option<ClockAccepted>) -> Result<(), IndexError> {
        let Some(ClockAccepted { at, end }) = accepted else { return Ok(()) };
        let millis = at.as_millis().to_be_bytes();
        self.0.insert(ACCEPTED, [&end.to_bytes()[..], &millis].concat())?;
        self.0.insert(LAST_TIME, &millis)?;
        Ok(())
    }

    /// Takes in one entry of the journal. A crash between any two of its writes is mended by reading the entry again:
    /// the position moves last, and every write can be repeated.
    pub fn add(&self, entry: &Entry) -> Result<(), IndexError> {
        if entry.position.record == 0 {
            self.add_commit(entry)?;
        }
        let body = entry.record.body();
        match entry.record.kind() {
            Kind::Sent => self.add_message(entry, &body, false)?,
            Kind::Received if body.len() > 32 => match super::is_withheld(entry) {
                None => {
                    self.add_message(entry, &body.slice(32..), true)?;
                    self.add_head(entry, &body.slice(32..))?;
                }
                // It opens nothing and is no replay, whatever it says of itself.
                Some(exchange) => _ = self.0.insert(record_key(exchange, entry.position), &[][..])?,
            },
            Kind::Closed => {
                if let Ok(closed) = <wire::Closed as prost::Message>::decode(body)
                    && let Ok(exchange) = ExchangeId::try_from(closed.exchange.as_ref())
                {
                    self.0.insert(record_key(exchange, entry.position), &[][..])?;
                    self.end(open_key(closed.side(), &closed.opening), closed.outcome())?;
                }
            }
            Kind::Stamp => self.add_stamp(&body, entry.position)?,
            Kind::Subjects => self.add_subjects(&body, entry.position)?,
            Kind::Cut => {
                if let Ok(cut) = proto::record::decode_canonical::<wire::Cut>(&body, "Cut") {
                    for commits in &cut.commits {
                        self.0.insert(cut_key(cut.segment, &commits.tree), &entry.position.to_bytes())?;
                    }
                }
            }
            Kind::Received | Kind::Genesis | Kind::Key | Kind::Entry => {}
        }
        self.0.insert(POSITION, &entry.position.to_bytes())?;
        Ok(())
    }

    /// Whom an exchange is about that is open, on the provider's side.
    fn add_subjects(&self, body: &[u8], position: Position) -> Result<(), IndexError> {
        let Ok(about) = <wire::Subjects as prost::Message>::decode(body) else { return Ok(()) };
        let Some(value) = self.0.get(open_key(Side::Provider, &about.opening))? else { return Ok(()) };
        let Some((row, _)) = open_row(&value) else { return Ok(()) };
        for subject in &about.subjects {
            let key = [&[ABOUT][..], subject, &row.to_bytes()].concat();
            // Messages of one request may name a person each: the first says why as well as any.
            if self.0.get(&key)?.is_none() {
                self.0.insert(key, &position.to_bytes())?;
            }
        }
        Ok(())
    }

    /// Where the log says that this exchange is about this person.
    pub fn about(&self, subject: &Subject, row: RowKey) -> Result<Option<Position>, IndexError> {
        let found = self.0.get([&[ABOUT][..], subject.as_bytes(), &row.to_bytes()].concat())?;
        Ok(found.and_then(|position| Some(Position::from_bytes(position.as_ref().try_into().ok()?))))
    }

    /// A leaf of one of our trees, the nodes that it completes, and its head where that is signed.
    fn add_commit(&self, entry: &Entry) -> Result<(), IndexError> {
        self.add_leaf(&entry.genesis, entry.commit, entry.leaf)?;
        if let Some(signed) = entry.seal.as_ref().and_then(|seal| SignedHead::of(&Head::parse(&seal.head).ok()?, seal))
        {
            self.0.insert(of_tree(SIGNED, entry.tree), prost::Message::encode_to_vec(&signed.to_wire()))?;
        }
        Ok(())
    }

    fn add_leaf(&self, genesis: &Genesis, commit: u64, leaf: Digest) -> Result<(), IndexError> {
        let tree = genesis.tree;
        if commit == 0 {
            self.0.insert(of_tree(GENESIS, tree), genesis.record.as_bytes().as_ref())?;
            if let Ok(before) = Digest::try_from(genesis.content.before.as_ref()) {
                self.0.insert(of_tree(SUCCESSOR, TreeName(before)), tree.0.as_bytes())?;
            }
        }
        let (mut level, mut number, mut node) = (0, commit, leaf);
        loop {
            self.0.insert(node_key(tree, level, number), node.as_bytes())?;
            if (number + 1).trailing_zeros() < NODE_BITS {
                break;
            }
            (level, number) = (level + 1, number >> NODE_BITS);
            let first = number << (u32::from(level) * NODE_BITS);
            match self.root(tree, first..first + (1 << (u32::from(level) * NODE_BITS)))? {
                Some(root) => node = root,
                // The beginning of the tree is not here: nothing can be proved of it.
                None => break,
            }
        }
        self.0.insert(of_tree(COMMITS, tree), &(commit + 1).to_be_bytes())?;
        Ok(())
    }

    /// Takes in what is left of a segment that was removed: its trees' leaves, the openings received in it and what was seen of peers'
    /// logs. Which exchanges were in it is not among that.
    pub fn add_remains(&self, remains: &Remains) -> Result<(), IndexError> {
        for tree in &remains.trees {
            for (commit, leaf) in (tree.from..).zip(&tree.leaves) {
                self.add_leaf(&tree.genesis, commit, *leaf)?;
            }
            if let Some(signed) = &tree.signed {
                self.0.insert(of_tree(SIGNED, tree.name()), prost::Message::encode_to_vec(&signed.to_wire()))?;
            }
        }
        let note = super::retained::note(remains);
        for (exchange, attempt, time) in super::retained::openings(&note) {
            self.0.insert(received_key(exchange, attempt, time), &[][..])?;
        }
        for seen in &note.seen {
            if let Some((_, tree)) = SeenTree::from_bytes(seen) {
                self.0.insert(of_tree(SEEN_TREE, tree.signed().head.tree), seen.as_ref())?;
            }
        }
        let counts = self.accepted().is_none_or(|accepted| accepted.end.segment <= remains.number);
        if counts && Time::from_millis(note.last_time) > self.last_time()? {
            self.0.insert(LAST_TIME, &note.last_time.to_be_bytes())?;
        }
        self.0.insert(BEGINS, &(remains.number + 1).to_be_bytes())?;
        Ok(())
    }

    /// The first segment whose records are in it, where those before it were removed when it was built.
    pub fn begins(&self) -> Result<u64, IndexError> {
        let begins = self.0.get(BEGINS)?.and_then(|begins| begins.as_ref().try_into().ok());
        Ok(begins.map_or(1, u64::from_be_bytes).max(1))
    }

    /// Whether the log says, as far as this reads it, that the commits of a tree in a segment were taken out.
    pub fn is_cut(&self, segment: u64, tree: TreeName) -> Result<bool, IndexError> {
        Ok(self.0.get(cut_key(segment, tree.0.as_bytes()))?.is_some())
    }

    /// Returns when all that it holds would survive a power cut.
    pub fn flush(&self) -> Result<(), IndexError> {
        self.0.flush()?;
        Ok(())
    }

    /// The root over a range of a tree's commits that is where RFC 6962 divides trees. None where not all of them are here.
    pub fn root(&self, tree: TreeName, range: Range<u64>) -> Result<Option<Digest>, IndexError> {
        let size = range.end - range.start;
        if size.is_power_of_two() && size.trailing_zeros().is_multiple_of(NODE_BITS) {
            let level = (size.trailing_zeros() / NODE_BITS) as u8;
            let node = self.0.get(node_key(tree, level, range.start / size))?;
            if node.is_some() || level == 0 {
                return Ok(node.and_then(|node| Digest::try_from(node.as_ref()).ok()));
            }
        }
        let middle = range.start + merkle::divided(size);
        let halves = (self.root(tree, range.start..middle)?, self.root(tree, middle..range.end)?);
        Ok(match halves {
            (Some(left), Some(right)) => Some(merkle::node_hash(&left, &right)),
            _ => None,
        })
    }

    /// How many commits a tree of ours has.
    pub fn commits(&self, tree: TreeName) -> Result<Option<u64>, IndexError> {
        let commits = self.0.get(of_tree(COMMITS, tree))?;
        Ok(commits.and_then(|commits| commits.as_ref().try_into().ok()).map(u64::from_be_bytes))
    }

    /// The genesis record of a tree of ours.
    pub fn genesis(&self, tree: TreeName) -> Result<Option<Genesis>, IndexError> {
        let genesis = self.0.get(of_tree(GENESIS, tree))?;
        Ok(genesis.and_then(|record| Genesis::parse(bytes::Bytes::copy_from_slice(&record)).ok()))
    }

    /// The tree that came after one of ours.
    pub fn successor(&self, tree: TreeName) -> Result<Option<TreeName>, IndexError> {
        let successor = self.0.get(of_tree(SUCCESSOR, tree))?;
        Ok(successor.and_then(|name| Digest::try_from(name.as_ref()).ok()).map(TreeName))
    }

    /// The last head of a tree of ours that is signed on the disk.
    pub fn signed_head(&self, tree: TreeName) -> Result<Option<SignedHead>, IndexError> {
        let signed = self.0.get(of_tree(SIGNED, tree))?;
        let signed = signed.and_then(|bytes| <wire::SignedHead as prost::Message>::decode(bytes.as_ref()).ok());
        Ok(signed.and_then(|signed| SignedHead::parse(&signed).ok()))
    }

    /// What a stamped head covers waits no longer; what came after it has waited since then at the most.
    fn add_stamp(&self, body: &[u8], position: Position) -> Result<(), IndexError> {
        let Some((head, time)) = stamp(body) else { return Ok(()) };
        let key = stamped_key(head.tree, head.size);
        if self.0.get(&key)?.is_none() {
            self.0.insert(key, &position.to_bytes())?;
        }
        match self.waiting_in(head.tree)? {
            Some((_, last)) if last < head.size => _ = self.0.remove(of_tree(WAITING, head.tree))?,
            Some((since, last)) => self.waits(head.tree, since.max(time), last)?,
            None => {}
        }
        Ok(())
    }

    /// Where the stamps are over heads of this tree with more commits than this one's number, the smallest head first.
    pub fn stamps_over(
        &self,
        tree: TreeName,
        commit: u64,
    ) -> impl Iterator<Item = Result<Position, IndexError>> + use<> {
        let from = stamped_key(tree, commit.saturating_add(1));
        let stamps = self.0.range(from..=stamped_key(tree, u64::MAX));
        stamps.filter_map(|entry| match entry {
            Ok((_, position)) => Some(Ok(Position::from_bytes(position.as_ref().try_into().ok()?))),
            Err(error) => Some(Err(error.into())),
        })
    }

    /// The path of a commit in its tree at this size. None where not all of it is here.
    pub fn path(&self, tree: TreeName, commit: u64, size: u64) -> Result<Option<Vec<Digest>>, IndexError> {
        let mut whole = true;
        let mut root = |range| {
            let root = self.root(tree, range)?;
            whole &= root.is_some();
            Ok::<_, IndexError>(root.unwrap_or(Digest::ZERO))
        };
        let path = merkle::path_of(commit, size, &mut root)?;
        Ok(Some(path).filter(|_| whole))
    }

    fn waits(&self, tree: TreeName, since: Time, last: u64) -> Result<(), IndexError> {
        let value = [since.as_millis().to_be_bytes(), last.to_be_bytes()].concat();
        self.0.insert(of_tree(WAITING, tree), value)?;
        Ok(())
    }

    fn waiting_in(&self, tree: TreeName) -> Result<Option<(Time, u64)>, IndexError> {
        Ok(self.0.get(of_tree(WAITING, tree))?.and_then(|value| waiting(&value)))
    }

    /// The trees in which something waits for a timestamp, and since when.
    pub fn waiting(&self) -> Result<Vec<(TreeName, Time)>, IndexError> {
        let mut found = Vec::new();
        for entry in self.0.scan_prefix([WAITING]) {
            let (key, value) = entry?;
            let tree = key.get(1..).and_then(|name| Digest::try_from(name).ok()).map(TreeName);
            found.extend(tree.zip(waiting(&value).map(|(since, _)| since)));
        }
        Ok(found)
    }

    fn add_message(&self, entry: &Entry, header: &bytes::Bytes, received: bool) -> Result<(), IndexError> {
        let Ok(header) = Header::parse(header.clone()) else { return Ok(()) };
        match self.waiting_in(entry.tree)? {
            Some((_, last)) if last >= entry.commit => {}
            Some((since, _)) => self.waits(entry.tree, since, entry.commit)?,
            None => self.waits(entry.tree, header.time, entry.commit)?,
        }
        if let (Some(answer), Some(end)) = (&header.answer, &header.end) {
            let side = if received { Side::Consumer } else { Side::Provider };
            self.answer_ended(open_key(side, answer.opening.as_bytes()), end)?;
        }
        if header.direction != Direction::Request || header.position > 0 {
            self.0.insert(record_key(header.exchange, entry.position), &[][..])?;
        } else {
            let side = if received { Side::Provider } else { Side::Consumer };
            let (time, exchange, attempt) = (header.time, header.exchange, header.attempt);
            let key = RowKey { time, exchange, attempt, side }.to_bytes();
            self.0.insert(record_key(exchange, entry.position), &key)?;
            let open = [&key[..], &Row::opened(&header)].concat();
            self.0.insert(open_key(side, header.digest().as_bytes()), open)?;
            if received {
                self.0.insert(received_key(exchange, attempt, time), &[][..])?;
            }
        }
        // Our own clock only: a peer's may be up to a minute ahead. Off-spec: an end that we gave in another's place does
        // not count. It is sealed though the configuration expired, so a clock that is years ahead for a moment would be
        // the last time; and it opens nothing that could be replayed.
        let given_up = matches!(header.end, Some(End::Abort(_) | End::Refused(_)));
        let counts = !received && !given_up && self.accepted().is_none_or(|accepted| entry.position >= accepted.end);
        if counts && header.time > self.last_time()? {
            self.0.insert(LAST_TIME, &header.time.as_millis().to_be_bytes())?;
        }
        Ok(())
    }

    /// The answer's end stands in the row of the exchange.
    fn answer_ended(&self, open: Vec<u8>, end: &End) -> Result<(), IndexError> {
        let Some(value) = self.0.get(&open)? else { return Ok(()) };
        if let Some((key, Some(row))) = open_row(&value).map(|(key, row)| (key, Row::from_bytes(row))) {
            self.0.insert(open, [&key.to_bytes()[..], &row.answered(end).to_bytes()].concat())?;
        }
        Ok(())
    }

    /// It is open no more. Its row stands before it is taken from the open ones: a crash between repeats both.
    fn end(&self, open: Vec<u8>, outcome: Outcome) -> Result<(), IndexError> {
        let Some(value) = self.0.get(&open)? else { return Ok(()) };
        if let Some((key, Some(row))) = open_row(&value).map(|(key, row)| (key, Row::from_bytes(row))) {
            self.0.insert([&[ENDED][..], &key.to_bytes()].concat(), row.closed(outcome).to_bytes())?;
        }
        self.0.remove(open)?;
        Ok(())
    }

    /// What a received message shows of its sender's log: the tree of its seal's head, and how far it was then.
    fn add_head(&self, entry: &Entry, header: &bytes::Bytes) -> Result<(), IndexError> {
        let Some((signed, genesis)) = super::beside(entry).and_then(|beside| {
            let seal = beside.seal?;
            Some((SignedHead::of(&Head::parse(&seal.head).ok()?, &seal)?, beside.genesis))
        }) else {
            return Ok(());
        };
        let Ok(header) = Header::parse(header.clone()) else { return Ok(()) };
        let tree = signed.head.tree;
        let key = of_tree(SEEN_TREE, tree);
        let known = self.0.get(&key)?.and_then(|bytes| SeenTree::from_bytes(&bytes));
        let kept = match (known, Genesis::parse(genesis)) {
            (Some((owner, mut known)), _) => {
                known.extend_to(&signed, &header);
                known.to_bytes(&owner)
            }
            (None, Ok(genesis)) if genesis.tree == tree => {
                SeenTree::of(&genesis, &signed, &header).to_bytes(&LogOwner::of(&genesis))
            }
            // Its genesis came with an earlier message, which is no longer here.
            (None, _) => return Ok(()),
        };
        self.0.insert(key, kept)?;
        Ok(())
    }

    /// What was seen of the peers' logs: of each the youngest trees. The others are forgotten.
    pub fn seen_trees(&self) -> Result<Vec<(LogOwner, SeenTree)>, IndexError> {
        let mut of_owner: HashMap<LogOwner, Vec<(SeenTree, sled::IVec)>> = HashMap::new();
        for entry in self.0.scan_prefix([SEEN_TREE]) {
            let (key, value) = entry?;
            if let Some((owner, seen)) = SeenTree::from_bytes(&value) {
                of_owner.entry(owner).or_default().push((seen, key));
            }
        }
        let mut kept = Vec::new();
        for (owner, mut trees) in of_owner {
            trees.sort_by_key(|(seen, _)| std::cmp::Reverse(seen.last()));
            for (_, key) in trees.drain(REMEMBERED_TREES.min(trees.len())..) {
                self.0.remove(key)?;
            }
            kept.extend(trees.into_iter().map(|(seen, _)| (owner.clone(), seen)));
        }
        Ok(kept)
    }

    /// The last time that this server sealed.
    pub fn last_time(&self) -> Result<Time, IndexError> {
        let bytes = self.0.get(LAST_TIME)?;
        let millis = bytes.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(Time::from_millis(millis))
    }

    /// The openings received with a time from `since` on; older ones are forgotten.
    pub fn received_since(&self, since: Time) -> Result<Vec<(ExchangeId, u32, Time)>, IndexError> {
        let mut received = Vec::new();
        for key in self.0.scan_prefix([RECEIVED]).keys() {
            let key = key?;
            let Some((time, rest)) = key.get(1..).and_then(|rest| rest.split_first_chunk::<8>()) else { continue };
            let time = Time::from_millis(u64::from_be_bytes(*time));
            match attempt(rest) {
                Some((exchange, attempt)) if time >= since => received.push((exchange, attempt, time)),
                Some(_) | None => _ = self.0.remove(&key)?,
            }
        }
        Ok(received)
    }

    /// The exchanges that have no end in the log.
    pub fn open_exchanges(&self) -> Result<Vec<Open>, IndexError> {
        let mut open = Vec::new();
        for entry in self.0.scan_prefix([OPEN]) {
            let (key, value) = entry?;
            let read = open_row(&value).and_then(|(key, row)| Some((key, Row::from_bytes(row)?.own(key.side)?)));
            if let (Some((side, opening)), Some((row, member))) = (opening(&key), read) {
                open.push(Open { side, opening, exchange: row.exchange, attempt: row.attempt, member });
            }
        }
        Ok(open)
    }

    /// The exchanges that are looked for, the newest first, as far as the index reads. A span of time costs what is in it.
    pub fn search(&self, search: &Search) -> Result<FoundExchanges, IndexError> {
        let limit = search.limit.min(MAX_FOUND);
        let mut open = self.open_rows(search)?;
        let (mut exchanges, mut last, mut more) = (Vec::new(), None, false);
        let mut ended = self.ended_rows(search)?;
        let mut next = ended.next().transpose()?;
        loop {
            // It ended while it was looked for: its row stood before it was taken from the open ones.
            if open.last().zip(next.as_ref()).is_some_and(|((open, _), (ended, _))| open == ended) {
                open.pop();
            }
            let newest_is_open = match (open.last(), &next) {
                (Some((open, _)), Some((ended, _))) => open > ended,
                (open, _) => open.is_some(),
            };
            let found =
                if newest_is_open { open.pop() } else { std::mem::replace(&mut next, ended.next().transpose()?) };
            let Some((key, row)) = found else { break };
            if exchanges.len() == limit {
                more = true;
                break;
            }
            exchanges.extend(Row::from_bytes(&row).map(|row| row.found(key)));
            last = Some(key);
        }
        Ok(FoundExchanges { exchanges, next: last.filter(|_| more).map(|key| key.to_string()), not_indexed: None })
    }

    /// Those among the open ones, the newest last. As many are open as run.
    fn open_rows(&self, search: &Search) -> Result<Vec<OpenRow>, IndexError> {
        let mut rows = Vec::new();
        for value in self.0.scan_prefix([OPEN]).values() {
            let value = value?;
            let Some((key, row)) = open_row(&value) else { continue };
            let about = match &search.subject {
                Some(subject) => self.about(subject, key)?.is_some(),
                None => true,
            };
            if about && Row::from_bytes(row).is_some_and(|read| search.takes(key, &read)) {
                rows.push((key, row.to_vec()));
            }
        }
        rows.sort_unstable_by_key(|(key, _)| *key);
        Ok(rows)
    }

    /// Those among the ended ones, the newest first.
    fn ended_rows<'s>(
        &'s self,
        search: &'s Search,
    ) -> Result<Box<dyn Iterator<Item = Result<OpenRow, IndexError>> + 's>, IndexError> {
        let taken = |key: &[u8], value: &[u8]| {
            let (key, row) = (RowKey::from_bytes(key.get(1..)?)?, Row::from_bytes(value)?);
            search.takes(key, &row).then(|| (key, value.to_vec()))
        };
        if let Some(exchange) = search.exchange {
            // One id is of few exchanges: the rows of their openings say where they are.
            let mut keys = Vec::new();
            for key in self.0.scan_prefix([&[RECORD][..], exchange.as_bytes()].concat()).values() {
                keys.extend(Some(key?).filter(|key| !key.is_empty()));
            }
            keys.sort_unstable();
            keys.dedup();
            let mut rows = Vec::new();
            for key in keys.iter().rev().map(|key| [&[ENDED][..], key].concat()) {
                rows.extend(self.0.get(&key)?.and_then(|value| taken(&key, &value)).map(Ok));
            }
            return Ok(Box::new(rows.into_iter()));
        }
        let of_subject = search.subject.map(|subject| [&[ABOUT][..], subject.as_bytes()].concat());
        let kind = of_subject.clone().unwrap_or_else(|| vec![ENDED]);
        let at = |key: &[u8]| [&kind[..], key].concat();
        let of_time = |time: Time| at(&time.as_millis().to_be_bytes());
        let since = of_time(search.since.unwrap_or_default());
        let ends = [search.until.map(of_time), search.before.map(|before| at(&before.to_bytes()))];
        let end = ends.into_iter().flatten().min().unwrap_or_else(|| at(&[0xff; RowKey::BYTES]));
        if end <= since {
            return Ok(Box::new(std::iter::empty()));
        }
        if let Some(of_subject) = of_subject {
            // Those that are still open have no row of this kind: they are among the open ones.
            let row = move |found: Result<(sled::IVec, sled::IVec), sled::Error>| {
                let key = [&[ENDED][..], found?.0.get(of_subject.len()..).unwrap_or_default()].concat();
                Ok(self.0.get(&key)?.and_then(|value| taken(&key, &value)))
            };
            return Ok(Box::new(self.0.range(since..end).rev().filter_map(move |found| row(found).transpose())));
        }
        Ok(Box::new(self.0.range(since..end).rev().filter_map(move |row| match row {
            Ok((key, value)) => taken(&key, &value).map(Ok),
            Err(error) => Some(Err(error.into())),
        })))
    }

    /// Where the records of an exchange are, in the order of the log.
    pub fn find(&self, exchange: ExchangeId) -> Result<Found, IndexError> {
        let mut prefix = vec![RECORD];
        prefix.extend_from_slice(exchange.as_bytes());
        let mut found = Vec::new();
        for key in self.0.scan_prefix(&prefix).keys() {
            if let Ok(position) = key?[prefix.len()..].try_into() {
                found.push(Position::from_bytes(position));
            }
        }
        Ok(found)
    }
}

/// The head and the time of a `stamp` record. The token was checked before it was kept.
pub(super) fn stamp(body: &[u8]) -> Option<(Head, Time)> {
    let stamp: wire::Stamp = proto::record::decode_canonical(body, "Stamp").ok()?;
    Some((Head::parse(&stamp.head).ok()?, proto::timestamp::time_of(&stamp.token)?))
}

fn waiting(value: &[u8]) -> Option<(Time, u64)> {
    let (since, last) = value.split_first_chunk::<8>()?;
    Some((Time::from_millis(u64::from_be_bytes(*since)), u64::from_be_bytes(last.try_into().ok()?)))
}

fn of_tree(prefix: u8, tree: TreeName) -> Vec<u8> {
    [&[prefix][..], tree.0.as_bytes()].concat()
}

fn stamped_key(tree: TreeName, size: u64) -> Vec<u8> {
    [&of_tree(STAMPED, tree)[..], &size.to_be_bytes()].concat()
}

fn node_key(tree: TreeName, level: u8, number: u64) -> Vec<u8> {
    [&of_tree(NODE, tree)[..], &[level], &number.to_be_bytes()].concat()
}

fn record_key(exchange: ExchangeId, position: Position) -> Vec<u8> {
    let mut key = vec![RECORD];
    key.extend_from_slice(exchange.as_bytes());
    key.extend_from_slice(&position.to_bytes());
    key
}

fn received_key(exchange: ExchangeId, attempt: u32, time: Time) -> Vec<u8> {
    [&[RECEIVED][..], &time.as_millis().to_be_bytes(), &named(exchange, attempt)].concat()
}

fn cut_key(segment: u64, tree: &[u8]) -> Vec<u8> {
    [&[CUT][..], &segment.to_be_bytes(), tree].concat()
}

fn open_key(side: Side, opening: &[u8]) -> Vec<u8> {
    let mut key = vec![OPEN, side as u8];
    key.extend_from_slice(opening);
    key
}

fn opening(key: &[u8]) -> Option<(Side, Digest)> {
    let side = Side::try_from(i32::from(*key.get(1)?)).ok()?;
    Some((side, key.get(2..)?.try_into().ok()?))
}

fn named(exchange: ExchangeId, attempt: u32) -> Vec<u8> {
    let mut named = exchange.as_bytes().to_vec();
    named.extend_from_slice(&attempt.to_be_bytes());
    named
}

fn open_row(value: &[u8]) -> Option<(RowKey, &[u8])> {
    let (key, row) = value.split_at_checked(RowKey::BYTES)?;
    Some((RowKey::from_bytes(key)?, row))
}

fn attempt(key: &[u8]) -> Option<(ExchangeId, u32)> {
    let (exchange, attempt) = key.split_first_chunk::<16>()?;
    Some((ExchangeId::from_bytes(*exchange), u32::from_be_bytes(attempt.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_while_it_is_looked_for_is_found_once() {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::open(directory.path()).unwrap();
        let row = b"\0\0\0\0\0\0VN/GOV/portal/one-stop\0VN/GOV/moj/civil-registry\0/civil.v1.Births/Get\0".to_vec();
        let key = |number: u8| RowKey {
            time: Time::from_millis(u64::from(number)),
            exchange: ExchangeId::from_bytes([number; 16]),
            attempt: 1,
            side: Side::Provider,
        };
        for number in 1..=5 {
            let key = key(number).to_bytes();
            if number != 2 {
                index.0.insert([&[ENDED][..], &key].concat(), row.clone()).unwrap();
            }
            if number % 2 == 0 {
                index.0.insert(open_key(Side::Provider, &[number; 32]), [&key[..], &row].concat()).unwrap();
            }
        }
        let found = |limit| index.search(&Search { limit, ..Search::default() }).unwrap();
        let names: Vec<RowKey> = found(10).exchanges.iter().map(|found| found.row().unwrap()).collect();
        assert_eq!(names, [5, 4, 3, 2, 1].map(key));
        assert_eq!(found(2).next, Some(key(4).to_string()));
    }
}
