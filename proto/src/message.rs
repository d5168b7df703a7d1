//! Messages: headers parsed from the bytes that were sealed, and the payload that they commit to (PROTOCOL.md 3).
//!
//! A header has one encoding, so what was authorised and what is forwarded can never be two readings of the same bytes.

use std::ops::Deref;

use bytes::Bytes;
use prost::Message;

use crate::commitment::{Committer, Kind, Secret};
use crate::digest::{Digest, NotADigest};
use crate::identifier::{ExchangeId, InstanceId, MethodPath, NotAnIdentifier, ServerId, SubsystemId};
use crate::record::{NotCanonical, decode_canonical};
use crate::time::Time;
use crate::transport::{
    MAX_FIELDS, MAX_HEADER_BYTES, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, MAX_PIECE_BYTES, MAX_PIECES, MAX_TEXT_BYTES,
};
use crate::wire::relay as wire;

/// A header and the bytes that were, or will be, sealed.
#[derive(Clone, Debug)]
pub struct Header {
    facts: Facts,
    bytes: Bytes,
}

/// What a header says.
#[derive(Clone, PartialEq, Debug)]
pub struct Facts {
    /// Who asks whom for what: the same in every message of an exchange.
    pub route: Route,
    /// The exchange.
    pub exchange: ExchangeId,
    /// From 1; another address is a new attempt.
    pub attempt: u32,
    /// Which way it goes.
    pub direction: Direction,
    /// Its place in the direction, from 0.
    pub position: u64,
    /// The sender's clock when it was sealed.
    pub time: Time,
    /// The configuration that the sender judged it by.
    pub configuration: ConfigurationVersion,
    /// Exactly in the request's message 0.
    pub opening: Option<Opening>,
    /// Exactly in the messages of an answer.
    pub answer: Option<Answer>,
    /// The digest of the message before; exactly at the positions past 0.
    pub previous: Option<Digest>,
    /// Commitment to the metadata; only at position 0.
    pub metadata: Option<Digest>,
    /// Commitments to pieces of the body.
    pub pieces: Vec<Digest>,
    /// The direction's end, in its last message.
    pub end: Option<End>,
    /// Commitment to the fields that were removed from an answer; only where it is minimised, beside pieces.
    pub removed: Option<Digest>,
}

/// Who asks whom for what, and through which two servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The instance.
    pub instance: InstanceId,
    /// The subsystem that asks.
    pub consumer: SubsystemId,
    /// Its security server.
    pub consumer_server: ServerId,
    /// The subsystem that is asked.
    pub provider: SubsystemId,
    /// Its security server: the audience.
    pub provider_server: ServerId,
    /// What is asked for.
    pub operation: Operation,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// A gRPC method.
    Grpc(MethodPath),
    /// An HTTP verb and target.
    Http {
        /// `GET`, `POST` and so on.
        verb: String,
        /// Path and query, beginning with `/`.
        target: String,
    },
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// From the consumer to the provider.
    Request,
    /// From the provider to the consumer.
    Answer,
}

/// A version of the global configuration, named so that no two can be taken for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigurationVersion {
    /// The timestamp document's version.
    pub version: u64,
    /// SHA-256 of the timestamp document.
    pub digest: Digest,
}

/// Why the consumer asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    /// A purpose of the instance's list.
    pub purpose: String,
    /// The law that allows it.
    pub legal_basis: String,
    /// Whom it is about: a pseudonym.
    pub subject: String,
    /// For whom the consumer acts.
    pub represented_party: String,
    /// What is left of the caller's deadline, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// What an answer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The digest of the request's message 0.
    pub opening: Digest,
    /// How many request messages the service had been handed when this was sealed.
    pub handed_on: u64,
}

/// The one end of a direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The client has said all.
    HalfClose,
    /// The service's own end.
    Trailers {
        /// Commitment to the trailers.
        commitment: Digest,
        /// The gRPC status in them.
        status: u32,
    },
    /// Broken off.
    Abort(Cause),
    /// The provider's server answers in the service's place: a code of the closed list.
    Refused(String),
}

/// Why a direction was broken off.
pub use crate::wire::relay::Cause;

/// Why bytes are no header.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// More than one reading, or none.
    #[error(transparent)]
    Encoding(#[from] NotCanonical),
    /// An identifier is none.
    #[error(transparent)]
    Identifier(#[from] NotAnIdentifier),
    /// A digest has not its length.
    #[error("{0}")]
    Digest(#[from] NotADigest),
    /// A field that must be there is not, or the other way round.
    #[error("the header's field {0} is missing, or not allowed here")]
    Field(&'static str),
    /// A limit is exceeded.
    #[error("the header's field {0} is beyond its limit")]
    Limit(&'static str),
}

impl Malformed {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Encoding(refused) => refused.step(),
            Self::Identifier(_) => "3.2.1",
            Self::Digest(_) => "3.2.6",
            Self::Field(field) | Self::Limit(field) => match *field {
                "route" | "configuration" | "operation" | "direction" | "instance" | "attempt" | "verb" | "target" => {
                    "3.2.1"
                }
                "opening" | "answer" => "3.2.2",
                "previous" | "metadata" => "3.2.3",
                "pieces" | "removed" => "3.2.4",
                "header" => "3.2.7",
                _ => "3.2.5",
            },
        }
    }
}

impl Deref for Header {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl Header {
    /// The header of these facts, in its one encoding.
    pub fn new(facts: Facts) -> Self {
        let bytes = to_wire(&facts).encode_to_vec().into();
        Self { facts, bytes }
    }

    /// Reads a header (PROTOCOL.md 3.1 and 3.2).
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(Malformed::Limit("header"));
        }
        let facts = from_wire(decode_canonical(&bytes, "Header")?)?;
        Ok(Self { facts, bytes })
    }

    /// The bytes that are sealed.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256("causeway/v1/message\n" || header): how the next message, and the answer, name this one.
    pub fn digest(&self) -> Digest {
        Digest::of(&[b"causeway/v1/message\n", &self.bytes])
    }
}

fn to_wire(facts: &Facts) -> wire::Header {
    let digest = Digest::to_wire;
    wire::Header {
        route: Some(wire::Route {
            instance: facts.route.instance.to_string(),
            consumer: facts.route.consumer.to_string(),
            consumer_server: facts.route.consumer_server.to_string(),
            provider: facts.route.provider.to_string(),
            provider_server: facts.route.provider_server.to_string(),
            operation: Some(match &facts.route.operation {
                Operation::Grpc(path) => wire::route::Operation::GrpcPath(path.to_string()),
                Operation::Http { verb, target } => {
                    wire::route::Operation::Http(wire::HttpOperation { verb: verb.clone(), target: target.clone() })
                }
            }),
        }),
        exchange: Bytes::copy_from_slice(facts.exchange.as_bytes()),
        attempt: facts.attempt,
        direction: match facts.direction {
            Direction::Request => wire::Direction::Request,
            Direction::Answer => wire::Direction::Answer,
        } as i32,
        position: facts.position,
        time: facts.time.as_millis(),
        configuration: Some(wire::ConfigurationVersion {
            version: facts.configuration.version,
            digest: digest(&facts.configuration.digest),
        }),
        opening: facts.opening.as_ref().map(|opening| wire::Opening {
            purpose: opening.purpose.clone(),
            legal_basis: opening.legal_basis.clone(),
            subject: opening.subject.clone(),
            represented_party: opening.represented_party.clone(),
            timeout_ms: opening.timeout_ms.unwrap_or(0),
        }),
        answer: facts
            .answer
            .map(|answer| wire::Answer { opening: digest(&answer.opening), handed_on: answer.handed_on }),
        previous: facts.previous.as_ref().map(digest).unwrap_or_default(),
        metadata: facts.metadata.as_ref().map(digest).unwrap_or_default(),
        pieces: facts.pieces.iter().map(digest).collect(),
        end: facts.end.as_ref().map(|end| wire::End {
            how: Some(match end {
                End::HalfClose => wire::end::How::HalfClose(wire::HalfClose {}),
                End::Trailers { commitment, status } => {
                    wire::end::How::Trailers(wire::Trailers { commitment: digest(commitment), status: *status })
                }
                End::Abort(cause) => wire::end::How::Abort(wire::Abort { cause: *cause as i32 }),
                End::Refused(code) => wire::end::How::Refused(wire::Refused { code: code.clone() }),
            }),
        }),
        removed: facts.removed.as_ref().map(digest).unwrap_or_default(),
    }
}

fn from_wire(header: wire::Header) -> Result<Facts, Malformed> {
    let route = header.route.ok_or(Malformed::Field("route"))?;
    let configuration = header.configuration.ok_or(Malformed::Field("configuration"))?;
    let direction = match wire::Direction::try_from(header.direction) {
        Ok(wire::Direction::Request) => Direction::Request,
        Ok(wire::Direction::Answer) => Direction::Answer,
        _ => return Err(Malformed::Field("direction")),
    };
    let facts = Facts {
        route: Route {
            instance: route.instance.parse()?,
            consumer: route.consumer.parse()?,
            consumer_server: route.consumer_server.parse()?,
            provider: route.provider.parse()?,
            provider_server: route.provider_server.parse()?,
            operation: match route.operation.ok_or(Malformed::Field("operation"))? {
                wire::route::Operation::GrpcPath(path) => Operation::Grpc(path.parse()?),
                wire::route::Operation::Http(http) => http_operation(http)?,
            },
        },
        exchange: header.exchange.as_ref().try_into()?,
        attempt: header.attempt,
        direction,
        position: header.position,
        time: Time::from_millis(header.time),
        configuration: ConfigurationVersion {
            version: configuration.version,
            digest: configuration.digest.as_ref().try_into()?,
        },
        opening: header.opening.map(opening).transpose()?,
        answer: header
            .answer
            .map(|answer| {
                Ok::<_, NotADigest>(Answer {
                    opening: answer.opening.as_ref().try_into()?,
                    handed_on: answer.handed_on,
                })
            })
            .transpose()?,
        previous: optional(&header.previous)?,
        metadata: optional(&header.metadata)?,
        pieces: header.pieces.iter().map(|piece| piece.as_ref().try_into()).collect::<Result<_, _>>()?,
        end: header.end.map(end).transpose()?,
        removed: optional(&header.removed)?,
    };
    check_shape(&facts)?;
    Ok(facts)
}

/// Which fields stand where (PROTOCOL.md 3.2).
fn check_shape(facts: &Facts) -> Result<(), Malformed> {
    let (request, first) = (facts.direction == Direction::Request, facts.position == 0);
    let route = &facts.route;
    let instance = |id: &str| id.split('/').next() == Some(route.instance.as_str());
    let of_instance = [
        route.consumer.as_str(),
        route.consumer_server.as_str(),
        route.provider.as_str(),
        route.provider_server.as_str(),
    ];
    for (wrong, field) in [
        (!of_instance.into_iter().all(instance), "instance"),
        (facts.attempt == 0, "attempt"),
        (facts.opening.is_some() != (request && first), "opening"),
        (facts.answer.is_some() == request, "answer"),
        (facts.previous.is_some() == first, "previous"),
        (facts.metadata.is_some() && !first, "metadata"),
        (facts.metadata.is_none() && request && first, "metadata"),
        (!first && facts.pieces.is_empty() && facts.end.is_none(), "pieces"),
        (facts.removed.is_some() && (request || facts.pieces.is_empty()), "removed"),
    ] {
        if wrong {
            return Err(Malformed::Field(field));
        }
    }
    if facts.pieces.len() > MAX_PIECES {
        return Err(Malformed::Limit("pieces"));
    }
    match &facts.end {
        Some(End::HalfClose) if !request => Err(Malformed::Field("half_close")),
        Some(End::Trailers { .. }) if request => Err(Malformed::Field("trailers")),
        Some(End::Refused(_)) if request => Err(Malformed::Field("refused")),
        _ => Ok(()),
    }
}

fn http_operation(http: wire::HttpOperation) -> Result<Operation, Malformed> {
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if http.verb.is_empty() || http.verb.len() > 16 || !http.verb.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(Malformed::Field("verb"));
    }
    if !http.target.starts_with('/') || http.target.len() > MAX_METADATA_BYTES / 2 || !visible(&http.target) {
        return Err(Malformed::Field("target"));
    }
    Ok(Operation::Http { verb: http.verb, target: http.target })
}

fn opening(opening: wire::Opening) -> Result<Opening, Malformed> {
    for (text, field) in [
        (&opening.purpose, "purpose"),
        (&opening.legal_basis, "legal_basis"),
        (&opening.subject, "subject"),
        (&opening.represented_party, "represented_party"),
    ] {
        if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            return Err(Malformed::Limit(field));
        }
    }
    Ok(Opening {
        purpose: opening.purpose,
        legal_basis: opening.legal_basis,
        subject: opening.subject,
        represented_party: opening.represented_party,
        timeout_ms: (opening.timeout_ms != 0).then_some(opening.timeout_ms),
    })
}

fn end(end: wire::End) -> Result<End, Malformed> {
    Ok(match end.how.ok_or(Malformed::Field("end"))? {
        wire::end::How::HalfClose(_) => End::HalfClose,
        wire::end::How::Trailers(trailers) => {
            End::Trailers { commitment: trailers.commitment.as_ref().try_into()?, status: trailers.status }
        }
        wire::end::How::Abort(abort) => match Cause::try_from(abort.cause) {
            Ok(Cause::Unspecified) | Err(_) => return Err(Malformed::Field("cause")),
            Ok(cause) => End::Abort(cause),
        },
        wire::end::How::Refused(refused) if refused.code.len() <= 64 => End::Refused(refused.code),
        wire::end::How::Refused(_) => return Err(Malformed::Limit("code")),
    })
}

fn optional(digest: &Bytes) -> Result<Option<Digest>, NotADigest> {
    if digest.is_empty() { Ok(None) } else { digest.as_ref().try_into().map(Some) }
}

/// Header fields in their order, duplicates kept: names in lower case, values as they came.
pub type Fields = Vec<(String, Bytes)>;

/// What a message carries for the systems at both ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// The fields at the start of a direction.
    pub metadata: Option<Fields>,
    /// Runs of the body's bytes.
    pub pieces: Vec<Bytes>,
    /// The fields at the end of an answer.
    pub trailers: Option<Fields>,
}

/// The payload is not what the header commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCommitted {
    /// Another number of things than the header commits to.
    #[error("the payload has not the parts that the header commits to")]
    Parts,
    /// The secret is missing, comes twice, or has not its length.
    #[error("the secret of the direction is missing, comes twice or is not 32 bytes long")]
    Secret,
    /// Bytes differ from what was committed to.
    #[error("the payload differs from what the header commits to")]
    Differs,
    /// The fields are not canonical, or not fields of HTTP.
    #[error("the fields of the metadata or trailers are malformed")]
    Fields,
    /// A limit is exceeded.
    #[error("the payload is beyond its limit")]
    Limit,
}

impl NotCommitted {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Fields | Self::Limit => "3.4",
            Self::Parts => "3.5.1",
            Self::Secret => "3.5.2",
            Self::Differs => "3.5.3",
        }
    }
}

/// One direction's commitments, on either side: made or checked in order.
#[derive(Debug, Default)]
pub struct Commitments(Option<Box<Committer>>);

/// The commitments to one message's contents.
#[derive(Debug, Default)]
pub struct Committed {
    /// To the metadata.
    pub metadata: Option<Digest>,
    /// To the pieces.
    pub pieces: Vec<Digest>,
    /// To the trailers.
    pub trailers: Option<Digest>,
    /// What travels beside the header; none where nothing is committed to.
    pub payload: Option<wire::Payload>,
}

impl Commitments {
    /// Commits to a message's contents. `draw` draws the direction's secret, once.
    pub fn commit(&mut self, contents: &Contents, draw: impl FnOnce() -> Secret) -> Committed {
        if contents.metadata.is_none() && contents.pieces.is_empty() && contents.trailers.is_none() {
            return Committed::default();
        }
        let mut payload = wire::Payload { pieces: contents.pieces.clone(), ..Default::default() };
        let committer = match &mut self.0 {
            Some(committer) => committer,
            none => {
                let secret = draw();
                payload.secret = Bytes::copy_from_slice(secret.as_bytes());
                none.insert(Box::new(Committer::new(&secret)))
            }
        };
        let mut fields = |kind, fields: &Option<Fields>, place: &mut Bytes| {
            fields.as_ref().map(|fields| {
                *place = encode_fields(fields);
                committer.commit(kind, place)
            })
        };
        let metadata = fields(Kind::Metadata, &contents.metadata, &mut payload.metadata);
        let pieces = contents.pieces.iter().map(|piece| committer.commit(Kind::Piece, piece)).collect();
        let trailers = contents.trailers.as_ref().map(|fields| {
            payload.trailers = encode_fields(fields);
            committer.commit(Kind::Trailers, &payload.trailers)
        });
        Committed { metadata, pieces, trailers, payload: Some(payload) }
    }

    /// Checks a message's payload against its header (PROTOCOL.md 3.5), the messages of a direction in their order.
    pub fn check(&mut self, header: &Facts, payload: Option<wire::Payload>) -> Result<Contents, NotCommitted> {
        let payload = payload.unwrap_or_default();
        let trailers = match &header.end {
            Some(End::Trailers { commitment, .. }) => Some(*commitment),
            _ => None,
        };
        let total: usize = payload.pieces.iter().map(Bytes::len).sum();
        if total > MAX_PAYLOAD_BYTES || payload.pieces.iter().any(|piece| piece.len() > MAX_PIECE_BYTES) {
            return Err(NotCommitted::Limit);
        }
        // An empty encoding is a list of no fields, so presence is the header's word, not the payload's.
        if payload.pieces.len() != header.pieces.len()
            || (header.metadata.is_none() && !payload.metadata.is_empty())
            || (trailers.is_none() && !payload.trailers.is_empty())
        {
            return Err(NotCommitted::Parts);
        }
        if header.metadata.is_none() && header.pieces.is_empty() && trailers.is_none() {
            return if payload.secret.is_empty() { Ok(Contents::default()) } else { Err(NotCommitted::Secret) };
        }
        let committer = match (&mut self.0, payload.secret.as_ref().try_into()) {
            (Some(committer), Err(_)) if payload.secret.is_empty() => committer,
            (none @ None, Ok(secret)) => none.insert(Box::new(Committer::new(&Secret::from_bytes(secret)))),
            _ => return Err(NotCommitted::Secret),
        };
        let mut differs = false;
        let mut contents = Contents::default();
        if let Some(commitment) = header.metadata {
            differs |= committer.commit(Kind::Metadata, &payload.metadata) != commitment;
            contents.metadata = Some(decode_fields(&payload.metadata)?);
        }
        for (piece, commitment) in payload.pieces.iter().zip(&header.pieces) {
            differs |= committer.commit(Kind::Piece, piece) != *commitment;
        }
        if let Some(commitment) = trailers {
            differs |= committer.commit(Kind::Trailers, &payload.trailers) != commitment;
            contents.trailers = Some(decode_fields(&payload.trailers)?);
        }
        contents.pieces = payload.pieces;
        if differs { Err(NotCommitted::Differs) } else { Ok(contents) }
    }
}

fn encode_fields(fields: &Fields) -> Bytes {
    let fields = fields.iter().map(|(name, value)| wire::Field { name: name.clone(), value: value.clone() }).collect();
    wire::Metadata { fields }.encode_to_vec().into()
}

fn decode_fields(bytes: &Bytes) -> Result<Fields, NotCommitted> {
    if bytes.len() > MAX_METADATA_BYTES {
        return Err(NotCommitted::Limit);
    }
    let metadata: wire::Metadata = decode_canonical(bytes, "Metadata").map_err(|_| NotCommitted::Fields)?;
    if metadata.fields.len() > MAX_FIELDS {
        return Err(NotCommitted::Limit);
    }
    let token = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.!#$%&'*+^`|~".contains(&byte))
    };
    let text = |value: &[u8]| value.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f));
    if metadata.fields.iter().any(|field| !token(&field.name) || !text(&field.value)) {
        return Err(NotCommitted::Fields);
    }
    Ok(metadata.fields.into_iter().map(|field| (field.name, field.value)).collect())
}

/// Both directions of one exchange, as far as their messages came (PROTOCOL.md 3.3).
#[derive(Debug, Default)]
pub struct Directions {
    request: Came,
    answer: Came,
}

/// What the next message of a direction is held against.
#[derive(Debug, Default)]
struct Came {
    first: Option<Header>,
    last: Option<Header>,
    count: u64,
}

/// A message that does not follow those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTurn {
    /// Not the next position, or another message before it.
    #[error("the message does not follow the one before it in its direction")]
    Position,
    /// Another route, exchange or attempt.
    #[error("the message names another route, exchange or attempt than those before it")]
    OtherExchange,
    /// Another opening, or a number of messages that cannot have been handed on.
    #[error("the answer is to another opening, or states messages handed on that cannot have been")]
    NoAnswer,
    /// The direction had ended.
    #[error("the direction had its end before this message")]
    Ended,
}

impl OutOfTurn {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Position => "3.3.1",
            Self::OtherExchange => "3.3.2",
            Self::NoAnswer => "3.3.3",
            Self::Ended => "3.3.4",
        }
    }
}

impl Directions {
    /// Takes the next message of either direction, in an order in which each answer comes after the request messages
    /// that it says were handed on. Step 4 of PROTOCOL.md 3.3 is judged first, then 1 to 3.
    pub fn take(&mut self, header: &Header) -> Result<(), OutOfTurn> {
        let came = match header.direction {
            Direction::Request => &self.request,
            Direction::Answer => &self.answer,
        };
        if came.last.as_ref().is_some_and(|last| last.end.is_some()) {
            return Err(OutOfTurn::Ended);
        }
        if header.position != came.count || header.previous != came.last.as_ref().map(Header::digest) {
            return Err(OutOfTurn::Position);
        }
        let first = self.request.first.as_ref().or(self.answer.first.as_ref());
        if first.is_some_and(|first| {
            first.route != header.route || first.exchange != header.exchange || first.attempt != header.attempt
        }) {
            return Err(OutOfTurn::OtherExchange);
        }
        if let Some(answer) = &header.answer {
            let before = self.answer.last.as_ref().and_then(|last| last.answer).map_or(0, |answer| answer.handed_on);
            if self.request.first.as_ref().map(Header::digest) != Some(answer.opening)
                || answer.handed_on < before
                || answer.handed_on > self.request.count
            {
                return Err(OutOfTurn::NoAnswer);
            }
        }
        let came = match header.direction {
            Direction::Request => &mut self.request,
            Direction::Answer => &mut self.answer,
        };
        came.first.get_or_insert_with(|| header.clone());
        came.last = Some(header.clone());
        came.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The opening of a birth's registration, as the portal's server would seal it.
    pub(crate) fn opening() -> Facts {
        Facts {
            route: Route {
                instance: "VN".parse().unwrap(),
                consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
                consumer_server: "VN/GOV/portal/ss1".parse().unwrap(),
                provider: "VN/GOV/moj/civil-registry".parse().unwrap(),
                provider_server: "VN/GOV/moj/ss1".parse().unwrap(),
                operation: Operation::Grpc("/civil.v1.Births/Register".parse().unwrap()),
            },
            exchange: ExchangeId::from_bytes([7; 16]),
            attempt: 1,
            direction: Direction::Request,
            position: 0,
            time: Time::from_millis(1_800_000_000_000),
            configuration: ConfigurationVersion { version: 3, digest: Digest::of(&[b"timestamp"]) },
            opening: Some(Opening {
                purpose: "birth-registration".into(),
                timeout_ms: Some(30_000),
                ..Default::default()
            }),
            answer: None,
            previous: None,
            metadata: Some(Digest::of(&[b"metadata"])),
            pieces: vec![Digest::of(&[b"piece"])],
            end: Some(End::HalfClose),
            removed: None,
        }
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        let header = Header::new(opening());
        let read = Header::parse(header.as_bytes().clone()).unwrap();
        assert_eq!(*read, opening());
        assert_eq!(read.digest(), header.digest());
    }

    #[test]
    fn a_second_reading_is_refused() {
        let header = Header::new(opening()).as_bytes().to_vec();
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = header.clone();
            change(&mut bytes);
            assert!(Header::parse(bytes.into()).is_err());
        };
        changed(&|bytes| bytes.extend([0xa8, 0x06, 0x01])); // an unknown field, 101
        changed(&|bytes| bytes.extend([0x18, 0x02])); // attempt once more
        changed(&|bytes| bytes.extend([0x20, 0x00])); // a written default
        changed(&|bytes| bytes.push(0)); // trailing bytes
        let attempt = header.windows(2).position(|pair| pair == [0x18, 0x01]).unwrap();
        changed(&|bytes| {
            bytes.splice(attempt..attempt + 2, [0x18, 0x81, 0x00]); // a long varint
        });
    }

    #[test]
    fn fields_stand_only_where_they_belong() {
        let refused = |change: &dyn Fn(&mut Facts)| {
            let mut facts = opening();
            change(&mut facts);
            assert!(Header::parse(Header::new(facts).as_bytes().clone()).is_err());
        };
        refused(&|facts| facts.opening = None);
        refused(&|facts| facts.attempt = 0);
        refused(&|facts| facts.metadata = None);
        refused(&|facts| facts.position = 1);
        refused(&|facts| facts.previous = Some(Digest::ZERO));
        refused(&|facts| facts.answer = Some(Answer { opening: Digest::ZERO, handed_on: 0 }));
        refused(&|facts| facts.direction = Direction::Answer);
        refused(&|facts| facts.end = Some(End::Refused("GRANT_MISSING".into())));
        refused(&|facts| facts.end = Some(End::Trailers { commitment: Digest::ZERO, status: 0 }));
        refused(&|facts| facts.route.provider = "EE/GOV/moj/civil-registry".parse().unwrap());
        refused(&|facts| facts.pieces = vec![Digest::ZERO; MAX_PIECES + 1]);
        refused(&|facts| facts.removed = Some(Digest::ZERO));
    }

    #[test]
    fn what_was_committed_to_is_what_is_handed_on() {
        let contents = Contents {
            metadata: Some(vec![("x-a".into(), Bytes::from_static(b"1")), ("x-a".into(), Bytes::from_static(b"2"))]),
            pieces: vec![Bytes::from_static(b"\0\0\0\0\x01x")],
            trailers: None,
        };
        let committed = Commitments::default().commit(&contents, || Secret::from_bytes([9; 32]));
        let mut facts = opening();
        facts.metadata = committed.metadata;
        facts.pieces = committed.pieces;
        assert_eq!(Commitments::default().check(&facts, committed.payload.clone()), Ok(contents));
        for change in [
            |payload: &mut wire::Payload| payload.secret = vec![8; 32].into(),
            |payload: &mut wire::Payload| payload.secret = Bytes::new(),
            |payload: &mut wire::Payload| payload.pieces.clear(),
            |payload: &mut wire::Payload| payload.pieces[0] = Bytes::from_static(b"\0\0\0\0\x01y"),
            |payload: &mut wire::Payload| payload.metadata = Bytes::new(),
            |payload: &mut wire::Payload| payload.trailers = payload.metadata.clone(),
        ] {
            let mut payload = committed.payload.clone().unwrap();
            change(&mut payload);
            assert!(Commitments::default().check(&facts, Some(payload)).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_header_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Header::parse(bytes.into());
        }

        #[test]
        fn no_bytes_make_the_metadata_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_fields(&bytes.into());
        }

        #[test]
        fn metadata_reads_as_it_was_written_or_is_refused(
            fields in proptest::collection::vec((".{0,12}", proptest::collection::vec(any::<u8>(), 0..12)), 0..6),
        ) {
            let fields: Fields = fields.into_iter().map(|(name, value)| (name, value.into())).collect();
            if let Ok(read) = decode_fields(&encode_fields(&fields)) {
                prop_assert_eq!(read, fields);
            }
        }

        #[test]
        fn no_payload_makes_its_check_panic(
            secret in proptest::collection::vec(any::<u8>(), 0..40),
            fields in proptest::collection::vec(any::<u8>(), 0..60),
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..3),
        ) {
            let payload = wire::Payload {
                secret: secret.into(),
                metadata: fields.clone().into(),
                pieces: pieces.into_iter().map(Bytes::from).collect(),
                trailers: fields.into(),
            };
            prop_assert!(Commitments::default().check(&opening(), Some(payload)).is_err());
        }

        #[test]
        fn a_changed_byte_is_another_message(at in 0usize..300, to in any::<u8>()) {
            let header = Header::new(opening());
            let mut bytes = header.as_bytes().to_vec();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(read) = Header::parse(bytes.into()) {
                prop_assert_ne!(read.digest(), header.digest());
                prop_assert_ne!(&*read, &opening());
            }
        }
    }
}
