//! Evidence out of this server's log: what it sealed and what it received in one exchange, for anyone to verify.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use journal::{Entry, Position};
use proto::evidence::archive::{self, NotArchived};
use proto::evidence::container::Unsigned;
use proto::evidence::{EvidenceFile, Kept, commits, time_proven};
use proto::head::Head;
use proto::identifier::{ExchangeId, MemberId, ServerId};
use proto::message::{Direction, End, Header};
use proto::record::{Kind, Record, TreeName};
use proto::seal::Sender;
use proto::time::Time;
use proto::wire::relay as wire;
use serde::Serialize;

use crate::SecurityServer;
use crate::global_configuration::StoreError;
use crate::message_log::{OpenError, beside, kept_beside, salt};
use crate::payloads::{Missing, Reading};

/// Most bytes of payloads that go into one evidence file, which is made in memory.
pub const MAX_PAYLOADS_BYTES: usize = 32 << 20;

/// A message out of the log, with what proves it.
struct Logged<'e> {
    header: Header,
    seal: wire::Seal,
    genesis: Bytes,
    sent: bool,
    entry: &'e Entry,
}

/// Reads a record of the log. None for what is no message, and for a message whose seal is not on this disk.
fn logged<'e>(entry: &'e Entry, geneses: &Geneses) -> Option<Logged<'e>> {
    let body = entry.record.body();
    match entry.record.kind() {
        Kind::Sent => {
            let genesis = geneses.get(&entry.tree)?.clone();
            Some(Logged { header: Header::parse(body).ok()?, seal: entry.seal.clone()?, genesis, sent: true, entry })
        }
        Kind::Received if body.len() > 32 => {
            let seal = beside(entry).filter(|beside| beside.withheld.is_empty())?.seal?;
            let tree = Head::parse(&seal.head).ok()?.tree;
            let genesis = geneses.get(&tree)?.clone();
            Some(Logged { header: Header::parse(body.slice(32..)).ok()?, seal, genesis, sent: false, entry })
        }
        _ => None,
    }
}

/// What this server sealed in an exchange with `peer`, as frames without their payload.
pub(crate) fn sealed_frames(records: Vec<Entry>, peer: &ServerId) -> Vec<wire::Frame> {
    let geneses = geneses(&records);
    let ours = records.iter().filter_map(|entry| logged(entry, &geneses)).filter(|logged| logged.sent);
    ours.filter(|logged| {
        let other = match logged.header.direction {
            Direction::Request => &logged.header.route.provider_server,
            Direction::Answer => &logged.header.route.consumer_server,
        };
        other == peer
    })
    .map(|logged| wire::Frame {
        exchange: Bytes::copy_from_slice(logged.header.exchange.as_bytes()),
        header: logged.header.as_bytes().clone(),
        seal: Some(logged.seal),
        payload: None,
        genesis: logged.genesis,
        priority: 0,
    })
    .collect()
}

/// Genesis records by the name of their tree.
type Geneses = HashMap<TreeName, Bytes>;

/// Of our own trees, as the log has them, and of the peers', as their first messages brought them.
fn geneses(records: &[Entry]) -> Geneses {
    let mut geneses = Geneses::new();
    for entry in records {
        geneses.entry(entry.tree).or_insert_with(|| entry.genesis.record.as_bytes().clone());
        let theirs = beside(entry).and_then(|beside| Record::parse(beside.genesis).ok());
        if let Some(record) = theirs {
            geneses.insert(TreeName::of(&record), record.as_bytes().clone());
        }
    }
    geneses
}

/// Reads messages out of a log, one entry after another: a genesis is there from the first message of its tree on.
#[derive(Default)]
pub(crate) struct Messages(Geneses);

impl Messages {
    /// A message with its sender's seal and the genesis of the seal's tree; none for what is no message, was withheld, or
    /// has no seal here.
    pub(crate) fn read(&mut self, entry: &Entry) -> Option<(Header, wire::Seal, Bytes)> {
        let theirs = beside(entry).and_then(|beside| Record::parse(beside.genesis).ok());
        if let Some(record) = theirs {
            self.0.insert(TreeName::of(&record), record.as_bytes().clone());
        }
        // Where the segment that it began in is in the archive, the next one's header has it.
        self.0.entry(entry.tree).or_insert_with(|| entry.genesis.record.as_bytes().clone());
        logged(entry, &self.0).map(|Logged { header, seal, genesis, .. }| (header, seal, genesis))
    }
}

/// Why there is no evidence file.
#[derive(Debug, thiserror::Error)]
pub enum NoEvidence {
    /// The log's messages of this exchange are not all signed on disk yet.
    #[error("the log holds no sealed message of exchange {0}: its first commit is perhaps a second old, ask again")]
    NotSealed(ExchangeId),
    /// The file cannot be made.
    #[error(transparent)]
    File(#[from] proto::evidence::NoEvidence),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The anchor cannot be read.
    #[error(transparent)]
    Anchor(#[from] StoreError),
    /// Its payloads are too long for a file.
    #[error(
        "the payloads of exchange {0} have more than {MAX_PAYLOADS_BYTES} bytes, and no evidence file takes more: ask for it without \
         --with-payloads, which proves all but what was said"
    )]
    TooLong(ExchangeId),
    /// It cannot be an archive.
    #[error("no archive can be made of this evidence: {0}")]
    Archive(#[from] NotArchived),
    /// It cannot be a container.
    #[error("no container can be made of this evidence: {0}")]
    Container(NotArchived),
    /// Whose evidence it is has no signing key here any more.
    #[error("this server holds no signing key of {0}, and nobody else can sign its container; take it as an archive")]
    NoKey(MemberId),
}

/// The payloads of an exchange that go into its evidence file.
struct Released<'p> {
    kept: HashMap<Position, wire::KeptPayload>,
    reading: Reading<'p>,
    /// Whether one is missing of the request, and of the answer: with it the secret, so that those after it open nothing
    /// (PROTOCOL.md 7.6).
    broken: [bool; 2],
}

impl<'p> Released<'p> {
    /// Of these messages those that can still be read: nothing else that bears the exchange's id takes their room.
    fn begin(server: &'p SecurityServer, exchange: ExchangeId, logged: &[Logged<'_>]) -> Result<Self, NoEvidence> {
        let of_file: HashSet<Position> = logged.iter().map(|logged| logged.entry.position).collect();
        let mut reading = server.reading_payloads();
        let mut is_wanted =
            |position: Position, kept: &wire::KeptPayload| of_file.contains(&position) && reading.key(kept).is_ok();
        let kept = server.message_log.kept_payloads(exchange, MAX_PAYLOADS_BYTES, &mut is_wanted)?;
        Ok(Self { kept: kept.ok_or(NoEvidence::TooLong(exchange))?, reading, broken: [false; 2] })
    }

    fn of(&mut self, logged: &Logged<'_>) -> Option<wire::Payload> {
        let Logged { header, entry, .. } = logged;
        let broken = &mut self.broken[usize::from(header.direction == Direction::Answer)];
        let kept = self.kept.get(&entry.position);
        let payload = kept.and_then(|kept| self.reading.open(kept, header).ok()).filter(|_| !*broken);
        *broken |= payload.is_none() && commits(header);
        payload
    }
}

/// The evidence file of an exchange (PROTOCOL.md 7), with the first timestamps over its records. Reads the disk: not for the
/// message path.
pub fn file(server: &SecurityServer, exchange: ExchangeId, records: &[Entry]) -> Result<Vec<u8>, NoEvidence> {
    made(server, exchange, records, false)
}

/// The same, with the payloads that are kept.
pub fn file_with_payloads(
    server: &SecurityServer,
    exchange: ExchangeId,
    records: &[Entry],
) -> Result<Vec<u8>, NoEvidence> {
    made(server, exchange, records, true)
}

fn made(
    server: &SecurityServer,
    exchange: ExchangeId,
    records: &[Entry],
    with_payloads: bool,
) -> Result<Vec<u8>, NoEvidence> {
    let geneses = geneses(records);
    let logged = of_one_opening(records.iter().filter_map(|entry| logged(entry, &geneses)).collect());
    let first = logged.first().ok_or(NoEvidence::NotSealed(exchange))?;
    let member = match (first.sent, first.header.direction) {
        (true, Direction::Request) | (false, Direction::Answer) => first.header.route.consumer.member(),
        (true, Direction::Answer) | (false, Direction::Request) => first.header.route.provider.member(),
    };
    let holder = Sender { member, server: server.id.clone() };
    let mut released = with_payloads.then(|| Released::begin(server, exchange, &logged)).transpose()?;
    let configuration = server.configuration.load();
    let holds = |stamp: &wire::Stamp| time_proven(stamp, &configuration).is_ok();
    let mut timestamps = server.message_log.timestamps(&holds);
    let kept = |logged: Logged<'_>| {
        let payload = released.as_mut().and_then(|released| released.of(&logged));
        let kept = Kept::new(&logged.header, &logged.seal, logged.genesis, payload.as_ref());
        Ok(match timestamps.over(logged.entry)? {
            Some((stamp, place)) => kept.stamped(stamp, place),
            None => kept,
        })
    };
    let messages = logged.into_iter().map(kept).collect::<Result<_, NoEvidence>>()?;
    Ok(EvidenceFile::new(exchange, holder, &server.store.files(), messages)?.to_bytes())
}

/// An evidence file as an archive (PROTOCOL.md 7), verified before it is given out. Reads the disk: not for the message path.
pub fn archive(server: &SecurityServer, file: &[u8]) -> Result<Vec<u8>, NoEvidence> {
    Ok(archive::pack(file, &server.store.anchor()?)?)
}

/// An evidence file as a container (PROTOCOL.md 7.22), verified before it is signed with the key by which its holder signs here
/// now. Reads the disk: not for the message path. It writes nothing: after a crash here there is no container, and nothing to mend.
pub fn container(server: &SecurityServer, file: &[u8]) -> Result<Vec<u8>, NoEvidence> {
    let file = EvidenceFile::parse(file).map_err(|error| NoEvidence::Container(error.into()))?;
    let member = &file.holder().member;
    let key = server.access_rights.key_of(member).map_err(|_| NoEvidence::NoKey(member.clone()))?;
    let now = server.message_log.not_before_last(server.clock.now());
    let file = file.about_also(key.public().id(), &server.store.files())?.to_bytes();
    let unsigned = Unsigned::of(&file, &server.store.anchor()?, key.public().id(), now);
    unsigned.and_then(|unsigned| unsigned.signed_with(&key)).map_err(NoEvidence::Container)
}

/// The messages of the first opening among them, on the side that it stands on. An exchange id is the consumer's to
/// choose, so a peer may use one twice; and where one server is on both sides, each message is there twice.
fn of_one_opening(logged: Vec<Logged<'_>>) -> Vec<Logged<'_>> {
    let opens = |logged: &&Logged<'_>| logged.header.direction == Direction::Request && logged.header.position == 0;
    let Some((opening, asked_here)) = logged.iter().find(opens).map(|first| (first.header.digest(), first.sent)) else {
        return Vec::new();
    };
    let mut previous = opening;
    let mut belongs = |logged: &Logged<'_>| match (logged.header.direction, &logged.header.answer) {
        (Direction::Request, _) => {
            let next = logged.header.previous == Some(previous) || logged.header.digest() == opening;
            if next {
                previous = logged.header.digest();
            }
            next && logged.sent == asked_here
        }
        (Direction::Answer, answer) => {
            answer.is_some_and(|answer| answer.opening == opening) && logged.sent != asked_here
        }
    };
    logged.into_iter().filter(|logged| belongs(logged)).collect()
}

/// One record of an exchange, for a screen.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Where it stands in the log.
    pub position: String,
    /// `sent`, `received`, `withheld` (received, and kept from our system) or `closed`.
    pub kind: &'static str,
    /// `request` or `answer`.
    pub direction: Option<&'static str>,
    /// Its place in the direction.
    pub number: Option<u64>,
    /// The sender's clock, RFC 3339.
    pub time: Option<String>,
    /// How it ends, if it does; for `closed`, the outcome.
    pub end: Option<String>,
    /// In a minimised answer, the commitment to the fields that were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
    /// Its salt, where the answer was sent from here: with it and the bytes it can be shown what was removed (PROTOCOL.md 3.6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Of a message that carries something, whether that is kept, until when, or why it is not there.
    pub payload: Option<String>,
}

impl Line {
    /// Of what is no message of an exchange.
    fn of(position: String, kind: &'static str, end: Option<String>) -> Self {
        Self {
            position,
            kind,
            direction: None,
            number: None,
            time: None,
            end,
            removed: None,
            salt: None,
            payload: None,
        }
    }
}

/// The records of an exchange, one line each, and what is kept of them. Reads the disk: not for the message path.
pub fn lines(server: &SecurityServer, records: &[Entry]) -> Vec<Line> {
    let mut reading = server.reading_payloads();
    let with_payload = |entry: &Entry| {
        let mut line = line(entry)?;
        if line.payload.is_some() {
            line.payload = Some(match kept_beside(entry) {
                None => Missing::NeverKept.to_string(),
                Some(kept) => match reading.key(&kept) {
                    Ok(_) if kept.expires == 0 => "kept".to_owned(),
                    Ok(_) => format!("kept until {}", Time::from_millis(kept.expires)),
                    Err(missing) => missing.to_string(),
                },
            });
        }
        Some(line)
    };
    records.iter().filter_map(with_payload).collect()
}

/// The records of an exchange, one line each.
pub fn summary(records: &[Entry]) -> Vec<Line> {
    records.iter().filter_map(line).collect()
}

fn line(entry: &Entry) -> Option<Line> {
    let body = entry.record.body();
    let (kind, header) = match entry.record.kind() {
        Kind::Sent => ("sent", Header::parse(body).ok()?),
        Kind::Received if beside(entry).is_none_or(|beside| !beside.withheld.is_empty()) => {
            // What it says of itself is nobody's word.
            let position = entry.position.to_string();
            return Some(Line::of(position, "withheld", None));
        }
        Kind::Received if body.len() > 32 => ("received", Header::parse(body.slice(32..)).ok()?),
        Kind::Closed => {
            let closed = <wire::Closed as prost::Message>::decode(body).ok()?;
            let end = Some(closed.outcome().as_str_name().to_lowercase());
            let position = entry.position.to_string();
            return Some(Line::of(position, "closed", end));
        }
        _ => return None,
    };
    Some(Line {
        position: entry.position.to_string(),
        kind,
        direction: Some(match header.direction {
            Direction::Request => "request",
            Direction::Answer => "answer",
        }),
        number: Some(header.position),
        time: Some(header.time.to_string()),
        removed: header.removed.map(|commitment| commitment.to_string()),
        salt: salt(entry).map(hex::encode),
        payload: commits(&header).then(|| Missing::NeverKept.to_string()),
        end: header.end.as_ref().map(|end| match end {
            End::HalfClose => "half-close".into(),
            End::Trailers { status, .. } => format!("status {status}"),
            End::Abort(cause) => format!("abort {}", cause.as_str_name().to_lowercase()),
            End::Refused(code) => format!("refused {code}"),
        }),
    })
}
