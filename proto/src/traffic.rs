//! What one log has of its exchanges with another member, as a file, and two such files held against each other (PROTOCOL.md
//! 7.13 to 7.17). Every message in a file is proved by its sender's seal, so that neither side can invent one of the other's.
//!
//! Reading never panics, whatever the bytes: they come from one of the parties.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::evidence::Base64;
use crate::global_configuration::excerpt::{Excerpt, Subjects};
use crate::global_configuration::update::Files;
use crate::head::Head;
use crate::identifier::{ExchangeId, MemberId};
use crate::message::{Direction, Header};
use crate::record::{Genesis, TreeName, decode_canonical};
use crate::seal::{self, Sender};
use crate::signature::KeyId;
use crate::time::Time;
use crate::transport::MAX_SKEW;
use crate::wire::relay as wire;

/// What such a file calls its form.
pub const FORMAT: &str = "causeway/v1/traffic";
/// Longest file, in bytes.
pub const MAX_TRAFFIC_BYTES: usize = 1 << 30;

/// The first line of a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    format: String,
    /// From whose log it was taken.
    pub holder: Sender,
    /// With whom the exchanges were.
    pub peer: MemberId,
    /// Messages of this time and later, in milliseconds.
    pub since: u64,
    /// Messages before this time.
    pub until: u64,
    /// When it was made.
    pub made: u64,
}

impl Begin {
    /// Of the exchanges of `holder` with `peer` from one time to another.
    pub fn new(holder: Sender, peer: MemberId, (since, until): (Time, Time), made: Time) -> Self {
        let (since, until, made) = (since.as_millis(), until.as_millis(), made.as_millis());
        Self { format: FORMAT.into(), holder, peer, since, until, made }
    }
}

/// A line for each message, in the order of the log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    header: Base64,
    seal: Base64,
    /// Of the seal's tree, with the first message of it in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    genesis: Option<Base64>,
}

/// The last line: a file that was cut has none.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    messages: u64,
    configuration: BTreeMap<String, Base64>,
}

/// Writes a file, line by line.
#[derive(Debug)]
pub struct Writer {
    begin: Begin,
    trees: HashSet<TreeName>,
    subjects: Subjects,
    messages: u64,
    last: Time,
}

impl Writer {
    /// Begins a file, with its first line.
    pub fn new(begin: Begin) -> (Self, String) {
        let line = text(&begin);
        let members = [begin.holder.member.clone(), begin.peer.clone()].into();
        let subjects = Subjects { members, keys: BTreeSet::new() };
        let last = Time::from_millis(begin.since);
        (Self { begin, trees: HashSet::new(), subjects, messages: 0, last }, line)
    }

    /// The line of a message; none where it is not of this file.
    pub fn message(&mut self, header: &Header, seal: &wire::Seal, genesis: &Bytes) -> Option<String> {
        let parties = [header.route.consumer.member(), header.route.provider.member()];
        let time = header.time.as_millis();
        if !parties.contains(&self.begin.peer)
            || !parties.contains(&self.begin.holder.member)
            || !(self.begin.since..self.begin.until).contains(&time)
        {
            return None;
        }
        let tree = Head::parse(&seal.head).ok()?.tree;
        self.subjects.keys.extend(KeyId::try_from(seal.key.as_ref()).ok());
        self.messages += 1;
        self.last = self.last.max(header.time);
        let genesis = self.trees.insert(tree).then(|| Base64(genesis.clone()));
        let (header, seal) = (Base64(header.as_bytes().clone()), Base64(seal.encode_to_vec().into()));
        Some(text(&Line { header, seal, genesis }))
    }

    /// The last line, with what proves whose the keys are.
    pub fn end(self, configuration: &Files) -> Result<String, NotTraffic> {
        let roots = configuration.iter().filter_map(|(file, bytes)| {
            let version: u64 = file.strip_suffix(".root.json")?.parse().ok()?;
            Some((version, bytes.clone()))
        });
        let root = roots.min_by_key(|(version, _)| *version).map(|(_, root)| root).unwrap_or_default();
        let excerpt = Excerpt::verify(&root, configuration, &self.subjects, self.last)
            .map_err(|error| NotTraffic(format!("the configuration does not prove whose the keys are: {error}")))?;
        let configuration = excerpt.files().iter().map(|(file, bytes)| (file.clone(), Base64(bytes.clone())));
        Ok(text(&End { messages: self.messages, configuration: configuration.collect() }))
    }
}

fn text(line: &impl Serialize) -> String {
    let mut line = serde_json::to_string(line).expect("a line has string keys only");
    line.push('\n');
    line
}

/// Bytes that are no such file, or that prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotTraffic(String);

/// Where a message stands. An exchange id is the consumer's to choose, so the opening is named too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    exchange: String,
    attempt: u32,
    answer: bool,
    position: u64,
}

#[derive(Clone, Debug)]
struct Known {
    time: Time,
    sender: Sender,
    receiver: Sender,
    /// Of the request that an answer had been handed when it was sealed.
    handed_on: u64,
}

/// A file, every message of which is proved by its sender's seal.
#[derive(Clone, Debug)]
pub struct Traffic {
    begin: Begin,
    messages: BTreeMap<(Place, Digest), Known>,
}

impl Traffic {
    /// Reads a file and verifies all of it with the anchor (7.13 to 7.15).
    pub fn verify(file: &[u8], anchor: &[u8]) -> Result<Self, NotTraffic> {
        let refuse = |line: usize, why: &dyn fmt::Display| NotTraffic(format!("line {line}: {why}"));
        if file.len() > MAX_TRAFFIC_BYTES {
            return Err(NotTraffic(format!("{} bytes, and at most {MAX_TRAFFIC_BYTES} are taken", file.len())));
        }
        let body = file.strip_suffix(b"\n").ok_or_else(|| NotTraffic("it does not end with its last line".into()))?;
        let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
        let [first, messages @ .., last] = &lines[..] else {
            return Err(NotTraffic("it has no first and last line".into()));
        };
        let begin: Begin = serde_json::from_slice(first).map_err(|error| refuse(1, &error))?;
        if begin.format != FORMAT {
            return Err(refuse(1, &format!("its format is {:?} and not {FORMAT:?}", begin.format)));
        }
        let end: End = serde_json::from_slice(last).map_err(|error| refuse(lines.len(), &error))?;
        if end.messages != messages.len() as u64 {
            return Err(refuse(
                lines.len(),
                &format!("it says {} messages, and {} are there", end.messages, messages.len()),
            ));
        }
        let read = messages.iter().enumerate().map(|(at, line)| Read::of(line).map_err(|why| refuse(at + 2, &why)));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let subjects = Subjects {
            members: [begin.holder.member.clone(), begin.peer.clone()].into(),
            keys: read.iter().filter_map(|read| KeyId::try_from(read.seal.key.as_ref()).ok()).collect(),
        };
        let now = read.iter().map(|read| read.header.time).max().unwrap_or(Time::from_millis(begin.since));
        let files: Files = end.configuration.iter().map(|(name, bytes)| (name.clone(), bytes.0.clone())).collect();
        let excerpt = Excerpt::verify(&Bytes::copy_from_slice(anchor), &files, &subjects, now)
            .map_err(|error| refuse(lines.len(), &format!("the configuration, step {}: {error}", error.step)))?;
        let (mut traffic, mut trees) = (Self { begin, messages: BTreeMap::new() }, HashMap::new());
        let mut held: HashSet<(KeyId, Bytes, Bytes)> = HashSet::new();
        for (at, read) in read.into_iter().enumerate() {
            let Read { header, seal, genesis } = read;
            if let Some(genesis) = genesis {
                trees.insert(genesis.tree, genesis);
            }
            let head = Head::parse(&seal.head).map_err(|error| refuse(at + 2, &error))?;
            let genesis = trees.get(&head.tree);
            let genesis = genesis.ok_or_else(|| refuse(at + 2, &"no line before it has the genesis of its tree"))?;
            let good = |sender: &Sender, key: &KeyId| {
                excerpt.configuration().signing_key_of(&sender.member, &sender.server, key, header.time, &head)
            };
            let remembered = |key: &KeyId, _: &Head| held.contains(&(*key, seal.head.clone(), seal.signature.clone()));
            let proven = seal::verify(&header, &seal, genesis, good, remembered).map_err(|why| refuse(at + 2, &why))?;
            held.insert((proven.key, seal.head.clone(), seal.signature.clone()));
            traffic.take(&header).map_err(|why| refuse(at + 2, &why))?;
        }
        Ok(traffic)
    }

    /// From whose log it was taken.
    pub fn holder(&self) -> &Sender {
        &self.begin.holder
    }

    fn take(&mut self, header: &Header) -> Result<(), &'static str> {
        let sender = Sender::of(header);
        let route = &header.route;
        let receiver = match header.direction {
            Direction::Request => Sender { member: route.provider.member(), server: route.provider_server.clone() },
            Direction::Answer => Sender { member: route.consumer.member(), server: route.consumer_server.clone() },
        };
        let Begin { holder, peer, since, until, .. } = &self.begin;
        let ours = (sender == *holder && receiver.member == *peer) || (receiver == *holder && sender.member == *peer);
        if !ours {
            return Err("it is no message between the holder and the peer");
        }
        if !(*since..*until).contains(&header.time.as_millis()) {
            return Err("it is not of the time that the file is of");
        }
        let place = place(header.exchange, header.attempt, header.direction, header.position);
        let handed_on = header.answer.map_or(0, |answer| answer.handed_on);
        let known = Known { time: header.time, sender, receiver, handed_on };
        self.messages.insert((place, header.digest()), known);
        Ok(())
    }
}

fn place(exchange: ExchangeId, attempt: u32, direction: Direction, position: u64) -> Place {
    Place { exchange: exchange.to_string(), attempt, answer: direction == Direction::Answer, position }
}

/// A line that reads.
struct Read {
    header: Header,
    seal: wire::Seal,
    genesis: Option<Genesis>,
}

impl Read {
    fn of(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let header = Header::parse(line.header.0).map_err(|error| error.to_string())?;
        let seal = decode_canonical::<wire::Seal>(&line.seal.0, "Seal").map_err(|error| error.to_string())?;
        let genesis = line.genesis.map(|genesis| Genesis::parse(genesis.0)).transpose();
        Ok(Self { header, seal, genesis: genesis.map_err(|error| error.to_string())? })
    }
}

/// A message that the two files do not agree about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disputed {
    /// The exchange.
    pub exchange: String,
    /// The attempt.
    pub attempt: u32,
    /// `request` or `answer`.
    pub direction: String,
    /// Its place in the direction.
    pub position: u64,
    /// The sender's clock, RFC 3339.
    pub time: String,
    /// Who sealed it.
    pub sender: String,
    /// Whose log lacks it.
    pub lacks: String,
    /// What shows that it must be there.
    pub why: String,
}

/// What two files come to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reconciled {
    /// From whose logs they were taken.
    pub holders: [Sender; 2],
    /// Of which time messages were compared, RFC 3339.
    pub since: String,
    /// Before which.
    pub until: String,
    /// Messages that both have.
    pub agreed: u64,
    /// Messages that one has, and the other must have had: its log lost them.
    pub missing: Vec<Disputed>,
    /// Messages that their sender sealed, and nothing shows that they arrived.
    pub not_proven: Vec<Disputed>,
}

impl Reconciled {
    /// Whether neither log has lost anything that the other has.
    pub fn agrees(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Two files cannot be held against each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotComparable {
    /// They are not of each other.
    #[error("{0} with {1}, and {2} with {3}: each file must be of the other's exchanges; export them anew")]
    OtherParties(MemberId, MemberId, MemberId, MemberId),
    /// They have no time in common.
    #[error("they are of no common time: one ends before the other begins; export them anew, of the same time")]
    OtherTime,
}

/// Holds two files against each other (7.16 and 7.17). Compared is what both are of, and what was a minute old when either
/// was made: what was on its way then is nobody's loss.
pub fn reconcile(a: &Traffic, b: &Traffic) -> Result<Reconciled, NotComparable> {
    let [of_a, of_b] = [&a.begin, &b.begin];
    if of_a.peer != of_b.holder.member || of_b.peer != of_a.holder.member || of_a.holder == of_b.holder {
        let member = |begin: &Begin| begin.holder.member.clone();
        return Err(NotComparable::OtherParties(member(of_a), of_a.peer.clone(), member(of_b), of_b.peer.clone()));
    }
    let settled = Time::from_millis(of_a.made.min(of_b.made)).minus(MAX_SKEW);
    let since = Time::from_millis(of_a.since.max(of_b.since));
    let until = Time::from_millis(of_a.until.min(of_b.until)).min(settled);
    if since >= until {
        return Err(NotComparable::OtherTime);
    }
    let between = |known: &Known| {
        let two = [&of_a.holder, &of_b.holder];
        (since..until).contains(&known.time) && two.contains(&&known.sender) && two.contains(&&known.receiver)
    };
    let mut found = Reconciled {
        holders: [of_a.holder.clone(), of_b.holder.clone()],
        since: since.to_string(),
        until: until.to_string(),
        agreed: 0,
        missing: Vec::new(),
        not_proven: Vec::new(),
    };
    for (one, other) in [(a, b), (b, a)] {
        let had = Had::of(other);
        for (message @ (place, _), known) in one.messages.iter().filter(|(_, known)| between(known)) {
            if other.messages.contains_key(message) {
                found.agreed += u64::from(std::ptr::eq(one, a));
                continue;
            }
            let why = if known.sender == other.begin.holder {
                Some("it is sealed by the very log that lacks it")
            } else {
                had.must_have(one, place)
            };
            let disputed = Disputed {
                exchange: place.exchange.clone(),
                attempt: place.attempt,
                direction: if place.answer { "answer" } else { "request" }.into(),
                position: place.position,
                time: known.time.to_string(),
                sender: format!("{} at {}", known.sender.member, known.sender.server),
                lacks: format!("{} at {}", other.begin.holder.member, other.begin.holder.server),
                why: why.unwrap_or("its sender sealed it, and nothing shows that it arrived").into(),
            };
            if why.is_some() { found.missing.push(disputed) } else { found.not_proven.push(disputed) }
        }
    }
    Ok(found)
}

/// What a log shows that it must have had, though it was sent by the other.
struct Had<'t> {
    /// The last position of each direction that it has.
    last: HashMap<(&'t str, u32, bool), u64>,
}

impl<'t> Had<'t> {
    fn of(traffic: &'t Traffic) -> Self {
        let mut last = HashMap::new();
        for (place, _) in traffic.messages.keys() {
            let at = last.entry((&place.exchange[..], place.attempt, place.answer)).or_insert(place.position);
            *at = place.position.max(*at);
        }
        Self { last }
    }

    /// A later message of the direction is taken only after this one; an answer says how much of the request was handed on.
    fn must_have(&self, one: &Traffic, place: &Place) -> Option<&'static str> {
        let direction = (&place.exchange[..], place.attempt, place.answer);
        if self.last.get(&direction).is_some_and(|last| *last > place.position) {
            return Some("the log that lacks it has a later message of the same direction");
        }
        if place.answer {
            return None;
        }
        let from = Place { answer: true, position: 0, ..place.clone() };
        let answers = one.messages.range((from, Digest::ZERO)..).take_while(|((answer, _), _)| {
            answer.exchange == place.exchange && answer.attempt == place.attempt && answer.answer
        });
        let handed_on = answers.map(|(_, known)| known.handed_on).max().unwrap_or_default();
        (handed_on > place.position).then_some("an answer that the log that lacks it sealed says that it was handed on")
    }
}

impl fmt::Display for Reconciled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = &self.holders;
        writeln!(f, "{} at {} and {} at {}, {} to {}", a.member, a.server, b.member, b.server, self.since, self.until)?;
        writeln!(f, "  {} messages agreed", self.agreed)?;
        let each = [("MISSING", &self.missing), ("delivery not proven", &self.not_proven)];
        for (word, disputed) in each {
            for Disputed { exchange, attempt, direction, position, time, sender, lacks, why } in disputed {
                writeln!(
                    f,
                    "  {word}: message {position} of the {direction} of {exchange}, attempt {attempt}, of {time}\n    \
                     sealed by {sender}\n    not in the log of {lacks}\n    {why}"
                )?;
            }
        }
        if self.agrees() { writeln!(f, "Neither log has lost what the other has.") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(lines in proptest::collection::vec(".{0,80}", 0..5), anchor in ".{0,40}") {
            prop_assert!(Traffic::verify(lines.join("\n").as_bytes(), anchor.as_bytes()).is_err());
            let sender = Sender { member: "VN/GOV/moj".parse().unwrap(), server: "VN/GOV/moj/ss1".parse().unwrap() };
            let times = (Time::from_millis(0), Time::from_millis(9));
            let begin = Begin::new(sender, "VN/GOV/portal".parse().unwrap(), times, Time::from_millis(9));
            let (_, mut file) = Writer::new(begin);
            for line in lines {
                file.push_str(&line.replace('\n', ""));
                file.push('\n');
            }
            prop_assert!(Traffic::verify(file.as_bytes(), anchor.as_bytes()).is_err());
        }
    }
}
