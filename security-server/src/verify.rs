//! Is it proven? Headers, chains, seals and payloads of the peer (PROTOCOL.md 5.4, 6.2 and 6.3). The header is read
//! before the payload, and what look-ups can refuse is refused before a signature is checked.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use proto::consistency::SignedHead;
use proto::digest::Digest;
use proto::global_configuration::Configuration;
use proto::head::Head;
use proto::identifier::ServerId;
use proto::message::{Cause, Contents, Direction, End, Fields, Header, Operation};
use proto::record::{Genesis, TreeName};
use proto::refusal::Code;
use proto::rest::STATUS_FIELD;
use proto::seal;
use proto::signature::KeyId;
use proto::time::Time;
use proto::transport::MAX_SKEW;
use proto::wire::relay as wire;

use crate::access_rights::Looked;
use crate::authenticate::Authenticated;
use crate::flow::{InHand, OfOne};
use crate::listen::ClaimedOpening;
use crate::message_log::{Claimed, TheirDirection};
use crate::moment::Judged;
use crate::refusal::BareRefusal;
use crate::relay::LineArrived;
use crate::subjects::{Gate, NotDescribed};
use crate::way::{Side, Stop};
use crate::witness::Witness;
use crate::{SecurityServer, rest};

/// Heads remembered for one key; twice as many at the most.
pub const REMEMBERED_HEADS: usize = 512;

/// Heads whose signatures held, by key, what was signed and how, shared by all threads. A hit still asks the
/// configuration whether the key is good. Another signature of a head that is remembered is checked like any other: what
/// is kept with a message must verify for whoever reads it later.
pub struct VerifiedHeads {
    roots: Mutex<HashMap<KeyId, [Roots; 2]>>,
    pub(crate) witness: Witness,
}

/// The root of each tree at each size that was seen, and the signature that held for it.
type Roots = HashMap<(TreeName, u64), (Digest, Box<[u8]>)>;

impl VerifiedHeads {
    /// None yet; what they show of the peers' logs, the witness holds against what it knows of them.
    pub fn shown_to(witness: Witness) -> Self {
        Self { roots: Mutex::default(), witness }
    }

    fn remembers(&self, key: &KeyId, head: &Head, signature: &[u8]) -> bool {
        let heads = self.roots.lock().expect("no panic while it is held");
        let Some(generations) = heads.get(key) else { return false };
        let seen = |roots: &Roots| {
            roots.get(&(head.tree, head.size)).is_some_and(|(root, held)| *root == head.root && **held == *signature)
        };
        generations.iter().any(seen)
    }

    /// Remembers a head whose signature held. Two roots of one tree at one size conflict (PROTOCOL.md 5.3). It is an
    /// alarm, not a refusal: both heads are in the log, with the messages.
    fn remember(&self, key: KeyId, head: &Head, signature: &[u8], genesis: &Genesis, header: &Header, now: Time) {
        let place = (head.tree, head.size);
        let mut heads = self.roots.lock().expect("no panic while it is held");
        let generations = heads.entry(key).or_default();
        let mut seen = generations.iter().filter_map(|roots| roots.get(&place)).cloned();
        let other = seen.find(|(root, _)| *root != head.root);
        let [young, old] = generations;
        young.insert(place, (head.root, signature.into()));
        if young.len() >= REMEMBERED_HEADS {
            *old = std::mem::take(young);
        }
        drop(heads);
        let signed = SignedHead { head: *head, key, signature: Bytes::copy_from_slice(signature) };
        if let Some((root, signature)) = other {
            metrics::counter!("causeway_conflicting_heads_total").increment(1);
            let other = SignedHead { head: Head { root, ..*head }, key, signature: signature.into() };
            self.witness.fork(genesis, &signed, &other, header, now);
        }
        self.witness.see(genesis, &signed, header, now);
    }
}

/// A message that its sender's log proves. Only this module makes one.
#[must_use]
pub struct Verified<T> {
    header: Header,
    contents: Contents,
    message: T,
}

/// A verified opening, with what the look-up of its grant found and where its direction stands.
#[must_use]
pub struct VerifiedOpening {
    pub(crate) verified: Verified<Judged<ClaimedOpening>>,
    pub(crate) direction: TheirDirection,
    pub(crate) looked: Looked,
    /// Where requests of this method say whom they are about, if they do.
    pub(crate) gate: Result<Option<Box<Gate>>, NotDescribed>,
    pub(crate) peer: ServerId,
}

/// A message that proves nothing, or no message at all. Only this module makes one.
#[must_use]
pub struct Disproved<'m> {
    stop: Stop,
    message: Judged<Claimed<'m>>,
}

impl<T> Verified<T> {
    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The header, and what it carries.
    pub(crate) fn parts_mut(&mut self) -> (&Header, &mut Contents) {
        (&self.header, &mut self.contents)
    }

    pub(crate) fn spent(self) -> (Header, Contents, T) {
        (self.header, self.contents, self.message)
    }
}

impl<'m> Disproved<'m> {
    pub(crate) fn spent(self) -> (Stop, Judged<Claimed<'m>>) {
        (self.stop, self.message)
    }
}

/// An opening: hosted by this peer, addressed to this server, signed, fresh (PROTOCOL.md 6.2, steps 2 to 7). Every
/// refusal before the signature holds is the same bare code.
pub fn opening(
    server: &SecurityServer,
    opening: Authenticated<Judged<ClaimedOpening>, ServerId>,
) -> Result<VerifiedOpening, BareRefusal> {
    let (peer, mut opening) = opening.spent();
    let now = opening.now();
    let configuration = opening.in_force().map_err(|_| BareRefusal::unproven("the configuration expired"))?.clone();
    let frame = std::mem::take(&mut opening.message_mut().frame);

    // Step 2: the frame decoded; its header has one reading and opens a request.
    let header = Header::parse(frame.header.clone()).map_err(BareRefusal::unproven)?;
    if header.direction != Direction::Request
        || header.position != 0
        || frame.exchange != header.exchange.as_bytes()[..]
    {
        return Err(BareRefusal::unproven("the first frame is not the opening of its exchange"));
    }
    // Step 3: addressed to this server, for a subsystem that it hosts.
    let route = &header.route;
    if route.provider_server != server.id
        || route.instance != configuration.instance
        || !configuration.hosts(&server.id, &route.provider)
    {
        return Err(BareRefusal::unproven(format!(
            "{} at {} is not hosted here",
            route.provider, route.provider_server
        )));
    }
    // Step 4: the client is hosted by the server at the other end of this very connection.
    if route.consumer_server != peer || !configuration.hosts(&peer, &route.consumer) {
        return Err(BareRefusal::unproven(format!("{} is not hosted by {peer}", route.consumer)));
    }
    // Step 5: looked up now, pronounced when the signature holds.
    let (looked, gate) = match &route.operation {
        Operation::Grpc(path) => {
            let looked = server.access_rights.look_up(&server.services, &header, now);
            (Some(looked), server.subjects.asked_about(&configuration, &route.provider, path))
        }
        // By the path that the payload has: below.
        Operation::Http { .. } => (None, Ok(None)),
    };
    let gate = gate.map(|fields| fields.map(|fields| Box::new(server.subjects.gate(fields, &peer))));
    // Refused before a signature costs anything where more comes than can be carried: all that the answer tells is what this
    // very peer may know, the priority of a grant to a subsystem of its own.
    let of_one = opening.message_mut().of_one.clone();
    let mut in_hand = looked.as_ref().map(|looked| taken_in_hand(server, &of_one, looked)).transpose()?;

    // Step 6: the seal, then the payload.
    let mut direction = TheirDirection::default();
    let contents = proven(&server.verified_heads, &configuration, now, &mut direction, &header, &frame)
        .map_err(BareRefusal::unproven)?;
    let looked = looked.unwrap_or_else(|| match rest::called(&server.subjects, &configuration, &header, &contents) {
        Ok(called) => server.access_rights.look_up_operation(&server.services, &header, called, now),
        Err(code) => Looked::Refused(code),
    });
    if in_hand.is_none() {
        in_hand = Some(taken_in_hand(server, &of_one, &looked)?);
    }
    // Step 7: fresh. Said only to who signed.
    if header.time.distance(now) > MAX_SKEW {
        return Err(BareRefusal::new(
            Code::NotFresh,
            format!("its time {} is more than 60 s from ours, {now}", header.time),
        ));
    }
    let message = opening.message_mut();
    message.frame = frame;
    in_hand.into_iter().for_each(|in_hand| message.permit.in_hand(in_hand));
    Ok(VerifiedOpening { verified: Verified { header, contents, message: opening }, direction, looked, gate, peer })
}

fn taken_in_hand(server: &SecurityServer, of_one: &OfOne, looked: &Looked) -> Result<InHand, BareRefusal> {
    server.flow.take(looked.priority(), of_one).map_err(|full| {
        // Nothing was carried: who asks again, as it is told to, is not refused for its rate then.
        if let Looked::Granted(granted) = looked {
            server.access_rights.give_back(&granted.grant);
        }
        BareRefusal::new(Code::TooManyExchanges, full.to_string())
    })
}

/// A later message: next in its direction, its key still good, signed; or disproved (PROTOCOL.md 6.3).
pub fn message<'m>(
    heads: &VerifiedHeads,
    mut message: Judged<Claimed<'m>>,
) -> Result<Verified<Judged<Claimed<'m>>>, Disproved<'m>> {
    match check(heads, &mut message) {
        Ok((header, contents)) => Ok(Verified { header, contents, message }),
        Err(stop) => Err(Disproved { stop, message }),
    }
}

fn check(heads: &VerifiedHeads, message: &mut Judged<Claimed<'_>>) -> Result<(Header, Contents), Stop> {
    let now = message.now();
    let configuration =
        message.in_force().map(Clone::clone).map_err(|_| Stop::because(Cause::Forbidden, Code::ConfigurationExpired));
    let (way, direction, arrived) = message.message_mut().claim();
    let frame = match arrived {
        LineArrived::Stopped(stop) | LineArrived::Silence(stop) => return Err(*stop),
        LineArrived::Frame(frame) => frame,
    };
    let configuration = configuration?;
    let disproved = |why: &dyn std::fmt::Display| {
        tracing::warn!(exchange = %way.exchange, why = %why, "a message of the peer proves nothing");
        Stop::from(Cause::Disproved)
    };
    let header = Header::parse(frame.header.clone()).map_err(|error| disproved(&error))?;
    let theirs = match way.side {
        Side::Consumer => Direction::Answer,
        Side::Provider => Direction::Request,
    };
    let stands = header.direction == theirs
        && header.exchange == way.exchange
        && frame.exchange == way.exchange.as_bytes()[..]
        && header.attempt == way.attempt
        && header.route == way.route
        // Not sealed before the exchange began, and not later than now: its evidence is judged at this time.
        && header.time.plus(MAX_SKEW) >= way.opened
        && header.time <= now.plus(MAX_SKEW)
        && header.position == direction.position
        && header.previous == direction.previous
        && header.answer.is_none_or(|answer| {
            answer.opening == way.opening && (direction.handed_on..=way.sealed()).contains(&answer.handed_on)
        });
    if !stands {
        return Err(disproved(&"it does not stand where it must in its direction"));
    }
    if let Some(answer) = header.answer {
        direction.handed_on = answer.handed_on;
    }
    let contents = proven(heads, &configuration, now, direction, &header, frame)
        .map_err(|why| if why.is_standing() { Stop::from(Cause::Forbidden) } else { disproved(&why) })?;
    let sender = seal::Sender::of(&header);
    let good_then = |key: KeyId| configuration.signing_key(&sender.member, &sender.server, &key, header.time).is_some();
    if !direction.key.is_some_and(good_then) {
        return Err(disproved(&"its key was not good at the time that it bears"));
    }
    way.note_peer_signing_key(direction.key);
    Ok((header, contents))
}

/// Why a message proves nothing.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error(transparent)]
    Genesis(#[from] proto::record::NotCanonical),
    #[error("the first message of the direction brings no genesis")]
    NoGenesis,
    #[error("it brings the genesis of another tree than the direction began in")]
    OtherTree,
    #[error(
        "it names another configuration of the version in force here: either the registry shows two of them, or the \
         peer does not say what it has"
    )]
    OtherConfiguration,
    #[error("the frame has no seal")]
    NoSeal,
    #[error("the header's status is not the one and only in the trailers")]
    OtherStatus,
    #[error(transparent)]
    Seal(#[from] seal::Unproven),
    #[error(transparent)]
    Payload(#[from] proto::message::NotCommitted),
}

impl Unproven {
    /// Whether the sender's standing ended, rather than its proof failed.
    fn is_standing(&self) -> bool {
        matches!(self, Self::Seal(seal::Unproven::KeyNotGood))
    }
}

/// An answer's status is in its end, and once in its trailers: no reader finds another one.
fn says_its_status_once(direction: &mut TheirDirection, header: &Header, contents: &Contents) -> bool {
    if header.direction == Direction::Request {
        return true;
    }
    let is_rest = matches!(header.route.operation, Operation::Http { .. });
    let name = if is_rest { STATUS_FIELD } else { "grpc-status" };
    let statuses = |fields: &Option<Fields>| -> Vec<Bytes> {
        let of_status = fields.iter().flatten().filter(|(each, _)| each == name);
        of_status.map(|(_, value)| value.clone()).collect()
    };
    let ended = match &header.end {
        Some(End::Trailers { status, .. }) => vec![Bytes::from(status.to_string())],
        _ => Vec::new(),
    };
    let of_head = statuses(&contents.metadata);
    let head = match &contents.metadata {
        None => true,
        // A REST answer's head says it too: it goes to the caller before the end does.
        Some(_) if is_rest => {
            direction.status = http_status(&of_head);
            direction.status.is_some()
        }
        Some(_) => of_head.is_empty(),
    };
    // And no other in the end than it had in the head.
    let same = match &header.end {
        Some(End::Trailers { status, .. }) if is_rest => direction.status == Some(*status),
        _ => true,
    };
    head && same && statuses(&contents.trailers) == ended
}

/// The one status, from 200 to 999.
fn http_status(said: &[Bytes]) -> Option<u32> {
    let [status] = said else { return None };
    let digits = status.len() == 3 && status.iter().all(u8::is_ascii_digit);
    let status = std::str::from_utf8(status).ok().filter(|_| digits)?.parse().ok()?;
    (200..1000).contains(&status).then_some(status)
}

/// The seal (PROTOCOL.md 5.4) and then the payload (3.5). Moves the direction on. A key must be good now, whatever is
/// remembered of its signatures.
fn proven(
    heads: &VerifiedHeads,
    configuration: &Configuration,
    now: Time,
    direction: &mut TheirDirection,
    header: &Header,
    frame: &wire::Frame,
) -> Result<Contents, Unproven> {
    if !frame.genesis.is_empty() {
        let genesis = Genesis::parse(frame.genesis.clone())?;
        // A tree ends with its server, and an exchange with it. What is kept of the direction is its first genesis.
        if direction.tree.as_ref().is_some_and(|began| began.tree != genesis.tree) {
            return Err(Unproven::OtherTree);
        }
        direction.tree = Some(genesis);
    }
    let genesis = direction.tree.as_ref().ok_or(Unproven::NoGenesis)?;
    let seal = frame.seal.as_ref().ok_or(Unproven::NoSeal)?;
    let good_key =
        |sender: &seal::Sender, key: &KeyId| configuration.signing_key(&sender.member, &sender.server, key, now);
    let mut remembered = false;
    let proven = seal::verify(header, seal, genesis, good_key, |key, head| {
        remembered = heads.remembers(key, head, &seal.signature);
        remembered
    })?;
    if !remembered {
        heads.remember(proven.key, &proven.head, &seal.signature, genesis, header, now);
    }
    direction.key = Some(proven.key);
    let named = &header.configuration;
    if named.version == configuration.version && named.digest != configuration.digest {
        heads.witness.names_another(&seal::Sender::of(header).server, named.version);
        return Err(Unproven::OtherConfiguration);
    }
    // An older one is no fault of the message's, and may still show that the registry says two things (PROTOCOL.md 8.5).
    if named.version < configuration.version
        && configuration.ledger.as_ref().is_some_and(|standing| standing.contradicts(named.version, &named.digest))
    {
        heads.witness.names_another(&seal::Sender::of(header).server, named.version);
    }
    let contents = direction.commitments.check(header, frame.payload.clone())?;
    if !says_its_status_once(direction, header, &contents) {
        return Err(Unproven::OtherStatus);
    }
    direction.position += 1;
    direction.previous = Some(header.digest());
    Ok(contents)
}
