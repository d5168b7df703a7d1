//! Exchanges as the index lists them: when, with whom, what, and how each ended. One row each, keyed by time, so that the
//! newest are found first and a span of time reads nothing outside of it.

use std::str::FromStr;

use proto::identifier::{ExchangeId, MemberId, MethodPath, SubsystemId};
use proto::message::{Cause, End, Header, Operation};
use proto::refusal::Code;
use proto::time::Time;
use proto::wire::relay::{Outcome, Side};
use serde::{Deserialize, Serialize};

use crate::subjects::Subject;

/// Most exchanges that one search gives. The next one goes on before the last of them.
pub const MAX_FOUND: usize = 1000;

/// When, which, of which attempt and on which side: the row's key. Rows stand in the order of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RowKey {
    pub(super) time: Time,
    pub(super) exchange: ExchangeId,
    pub(super) attempt: u32,
    pub(super) side: Side,
}

impl RowKey {
    pub(super) const BYTES: usize = 8 + 16 + 4 + 1;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.time.as_millis().to_be_bytes());
        bytes[8..24].copy_from_slice(self.exchange.as_bytes());
        bytes[24..28].copy_from_slice(&self.attempt.to_be_bytes());
        bytes[28] = self.side as u8;
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (exchange, rest) = rest.split_first_chunk::<16>()?;
        let (attempt, side) = rest.split_first_chunk::<4>()?;
        let &[side] = side else { return None };
        Some(Self {
            time: Time::from_millis(u64::from_be_bytes(*time)),
            exchange: ExchangeId::from_bytes(*exchange),
            attempt: u32::from_be_bytes(*attempt),
            side: Side::try_from(i32::from(side)).ok()?,
        })
    }
}

impl std::fmt::Display for RowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

/// Bytes that name no place in a list of exchanges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no place in a list of exchanges: `next` of the list before is")]
pub struct NotAPlace;

impl FromStr for RowKey {
    type Err = NotAPlace;
    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        hex::decode(text).ok().and_then(|bytes| Self::from_bytes(&bytes)).ok_or(NotAPlace)
    }
}

/// How the answer's direction ended, as its sealed end has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AnswerEnd<'r> {
    /// It has none in the log.
    None,
    /// The service's own, with its gRPC status.
    Trailers(u32),
    /// Broken off.
    Abort(Cause),
    /// The provider's server in the service's place.
    Refused(&'r str),
}

/// What a row says beside its key. Texts are borrowed: a search reads a million of them and keeps a few.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row<'r> {
    /// Unspecified: it is still open.
    outcome: Outcome,
    end: AnswerEnd<'r>,
    consumer: &'r str,
    provider: &'r str,
    operation: &'r str,
}

impl<'r> Row<'r> {
    /// Of an exchange that begins. Gives what [`Self::from_bytes`] reads.
    pub fn opened(header: &Header) -> Vec<u8> {
        // Of a REST service's operation the name, by which rights are given too.
        let operation = match &header.route.operation {
            Operation::Grpc(path) => path.as_str(),
            Operation::Http { target, .. } => target,
        };
        let (consumer, provider) = (header.route.consumer.as_str(), header.route.provider.as_str());
        let end = AnswerEnd::None;
        Row { outcome: Outcome::Unspecified, end, consumer, provider, operation }.to_bytes()
    }

    /// With the answer's end in it.
    pub fn answered(self, end: &'r End) -> Self {
        let end = match end {
            End::HalfClose => AnswerEnd::None,
            End::Trailers { status, .. } => AnswerEnd::Trailers(*status),
            End::Abort(cause) => AnswerEnd::Abort(*cause),
            End::Refused(code) => AnswerEnd::Refused(code),
        };
        Self { end, ..self }
    }

    /// Open no more.
    pub fn closed(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// No text but the last has a NUL: identifiers, paths, verbs and targets have none.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, number, code) = match self.end {
            AnswerEnd::None => (0, 0, ""),
            AnswerEnd::Trailers(status) => (1, status, ""),
            AnswerEnd::Abort(cause) => (2, cause as u32, ""),
            AnswerEnd::Refused(code) => (3, 0, code),
        };
        let mut bytes = vec![self.outcome as u8, kind];
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice([self.consumer, self.provider, self.operation, code].join("\0").as_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &'r [u8]) -> Option<Self> {
        let (&[outcome, kind], rest) = bytes.split_first_chunk::<2>()?;
        let (number, texts) = rest.split_first_chunk::<4>()?;
        let number = u32::from_be_bytes(*number);
        let mut texts = std::str::from_utf8(texts).ok()?.splitn(4, '\0');
        let (consumer, provider, operation) = (texts.next()?, texts.next()?, texts.next()?);
        let end = match kind {
            0 => AnswerEnd::None,
            1 => AnswerEnd::Trailers(number),
            2 => AnswerEnd::Abort(Cause::try_from(i32::try_from(number).ok()?).ok()?),
            _ => AnswerEnd::Refused(texts.next()?),
        };
        Some(Self { outcome: Outcome::try_from(i32::from(outcome)).ok()?, end, consumer, provider, operation })
    }

    fn result(&self) -> ResultKind {
        match (self.end, self.outcome) {
            (_, Outcome::Unspecified) => ResultKind::Open,
            (AnswerEnd::Trailers(_), _) => ResultKind::Answered,
            (AnswerEnd::Abort(_), _) => ResultKind::Aborted,
            (AnswerEnd::Refused(_), _) => ResultKind::Refused,
            (AnswerEnd::None, _) => ResultKind::Unanswered,
        }
    }

    /// The member of this log that was on this side of it.
    pub fn own(&self, side: Side) -> Option<MemberId> {
        let own = if side == Side::Consumer { self.consumer } else { self.provider };
        Some(own.parse::<SubsystemId>().ok()?.member())
    }

    /// The other side's subsystem.
    fn peer(&self, side: Side) -> &'r str {
        if side == Side::Consumer { self.provider } else { self.consumer }
    }

    /// In words, for who found it.
    pub fn found(&self, key: RowKey) -> FoundExchange {
        let (mut status, mut code, mut cause) = (None, None, None);
        match self.end {
            AnswerEnd::None => {}
            AnswerEnd::Trailers(number) => status = Some(number),
            AnswerEnd::Abort(why) => cause = Some(why.as_str_name().to_lowercase()),
            AnswerEnd::Refused(text) => code = Some(text.to_owned()),
        }
        FoundExchange {
            time: key.time.to_string(),
            exchange: key.exchange.to_string(),
            attempt: key.attempt,
            side: if key.side == Side::Consumer { "consumer" } else { "provider" }.into(),
            consumer: self.consumer.into(),
            provider: self.provider.into(),
            operation: self.operation.into(),
            result: self.result(),
            status,
            code,
            cause,
            outcome: (self.outcome != Outcome::Unspecified).then(|| self.outcome.as_str_name().to_lowercase()),
        }
    }
}

/// How an exchange ended, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultKind {
    /// It has no end in the log yet.
    Open,
    /// The service answered to its end, with whatever status.
    Answered,
    /// The provider's server answered in its place.
    Refused,
    /// The answer was broken off.
    Aborted,
    /// No end of an answer came.
    Unanswered,
}

impl ResultKind {
    const ALL: [(Self, &str); 5] = [
        (Self::Open, "open"),
        (Self::Answered, "answered"),
        (Self::Refused, "refused"),
        (Self::Aborted, "aborted"),
        (Self::Unanswered, "unanswered"),
    ];

    /// As people write it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// One exchange that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FoundExchange {
    /// Of its opening, by its sender's clock, RFC 3339.
    pub time: String,
    /// Its id.
    pub exchange: String,
    /// From 1.
    pub attempt: u32,
    /// On which side this server was: `consumer` or `provider`.
    pub side: String,
    /// Who asked.
    pub consumer: String,
    /// Who was asked.
    pub provider: String,
    /// The gRPC path, or verb and target.
    pub operation: String,
    /// How it ended.
    pub result: ResultKind,
    /// The gRPC status of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// The code that it was refused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why the answer was broken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the log says at its end; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl FoundExchange {
    /// Where its row stands.
    pub(super) fn row(&self) -> Option<RowKey> {
        let side = if self.side == "consumer" { Side::Consumer } else { Side::Provider };
        let (time, exchange) = (self.time.parse().ok()?, self.exchange.parse().ok()?);
        Some(RowKey { time, exchange, attempt: self.attempt, side })
    }
}

/// Whom an exchange was with: a member, or one subsystem of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Any of its subsystems.
    Member(MemberId),
    /// This one.
    Subsystem(SubsystemId),
}

impl Peer {
    fn is(&self, subsystem: &str) -> bool {
        match self {
            Self::Member(member) => subsystem.strip_prefix(member.as_str()).is_some_and(|rest| rest.starts_with('/')),
            Self::Subsystem(id) => id.as_str() == subsystem,
        }
    }
}

impl FromStr for Peer {
    type Err = proto::identifier::NotAnIdentifier;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is neither is told as a member's name, the shorter of the two.
        text.parse().map(Self::Subsystem).or_else(|_| text.parse().map(Self::Member))
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(member) => member.fmt(f),
            Self::Subsystem(subsystem) => subsystem.fmt(f),
        }
    }
}

/// Which result is asked for: a word of [`ResultKind`], or the code of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WantedResult {
    /// Any of this kind.
    Kind(ResultKind),
    /// Refused with this code.
    Code(Code),
}

impl WantedResult {
    fn is_of(self, row: &Row<'_>) -> bool {
        match self {
            Self::Kind(kind) => row.result() == kind,
            Self::Code(code) => row.end == AnswerEnd::Refused(code.as_str()),
        }
    }
}

/// No result that there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is neither open, answered, refused, aborted, unanswered nor a code; {0}")]
pub struct NotAResult(String);

impl FromStr for WantedResult {
    type Err = NotAResult;
    fn from_str(text: &str) -> Result<Self, NotAResult> {
        let kind = ResultKind::ALL.iter().find(|(_, word)| *word == text).map(|(kind, _)| Self::Kind(*kind));
        kind.or_else(|| text.to_uppercase().parse().ok().map(Self::Code)).ok_or_else(|| {
            let words = ResultKind::ALL.iter().map(|(_, word)| *word);
            let known = words.chain(Code::ALL.iter().map(|code| code.as_str()));
            NotAResult(command_line::did_you_mean(text, known, "`security-server explain` shows the codes"))
        })
    }
}

impl std::fmt::Display for WantedResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => f.write_str(kind.word()),
            Self::Code(code) => code.fmt(f),
        }
    }
}

/// What is looked for. Whatever is absent asks nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Search {
    /// Of this id.
    pub exchange: Option<ExchangeId>,
    /// About this person, as the fields say that are marked so. Only what this server provided is.
    pub subject: Option<Subject>,
    /// Opened at this time or later.
    pub since: Option<Time>,
    /// Opened before this time.
    pub until: Option<Time>,
    /// Older than this one, which an earlier search gave last.
    pub before: Option<RowKey>,
    /// That this subsystem was asked in.
    pub provider: Option<SubsystemId>,
    /// With this one on the other side.
    pub peer: Option<Peer>,
    /// Of this method, exactly.
    pub method: Option<MethodPath>,
    /// That ended so.
    pub result: Option<WantedResult>,
    /// At most so many, the newest.
    pub limit: usize,
}

impl Search {
    pub(super) fn takes(&self, key: RowKey, row: &Row<'_>) -> bool {
        self.exchange.is_none_or(|exchange| exchange == key.exchange)
            && self.since.is_none_or(|since| key.time >= since)
            && self.until.is_none_or(|until| key.time < until)
            && self.before.is_none_or(|before| key < before)
            && self.provider.as_ref().is_none_or(|provider| provider.as_str() == row.provider)
            && self.peer.as_ref().is_none_or(|peer| peer.is(row.peer(key.side)))
            && self.method.as_ref().is_none_or(|method| method.as_str() == row.operation)
            && self.result.is_none_or(|result| result.is_of(row))
    }
}

/// What was found, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FoundExchanges {
    /// One for each exchange, attempt and side.
    pub exchanges: Vec<FoundExchange>,
    /// Where to go on, if there are older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Exchanges in the segments up to this are not among them: they were removed here before the index was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_indexed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn row<'r>(end: AnswerEnd<'r>, outcome: Outcome) -> Row<'r> {
        let (consumer, provider) = ("VN/GOV/portal/one-stop", "VN/GOV/moj/civil-registry");
        Row { outcome, end, consumer, provider, operation: "/echo.v1.Echo/Unary" }
    }

    #[test]
    fn a_row_reads_as_it_was_written() {
        for end in [
            AnswerEnd::None,
            AnswerEnd::Trailers(0),
            AnswerEnd::Trailers(u32::MAX),
            AnswerEnd::Abort(Cause::TooLarge),
            AnswerEnd::Refused("GRANT_MISSING"),
            AnswerEnd::Refused("with a \0 in it"),
        ] {
            for outcome in [Outcome::Unspecified, Outcome::Completed, Outcome::Silent] {
                let row = row(end, outcome);
                assert_eq!(Row::from_bytes(&row.to_bytes()), Some(row));
            }
        }
    }

    #[test]
    fn a_member_is_no_beginning_of_another_members_name() {
        let peer = |text: &str| text.parse::<Peer>().unwrap();
        assert!(peer("VN/GOV/moj").is("VN/GOV/moj/civil-registry"));
        assert!(!peer("VN/GOV/moj").is("VN/GOV/mojo/civil-registry"));
        assert!(peer("VN/GOV/moj/civil-registry").is("VN/GOV/moj/civil-registry"));
        assert!(!peer("VN/GOV/moj/civil").is("VN/GOV/moj/civil-registry"));
        assert!("VN/GOV".parse::<Peer>().is_err());
    }

    #[test]
    fn a_result_is_a_word_or_a_code_and_a_near_one_is_named() {
        assert_eq!("open".parse(), Ok(WantedResult::Kind(ResultKind::Open)));
        assert_eq!("grant_missing".parse(), Ok(WantedResult::Code(Code::GrantMissing)));
        let wrong = "anwsered".parse::<WantedResult>().unwrap_err();
        assert!(wrong.to_string().contains("answered"), "{wrong}");
        let wanted = WantedResult::Code(Code::GrantMissing);
        assert!(wanted.is_of(&row(AnswerEnd::Refused("GRANT_MISSING"), Outcome::Completed)));
        assert!(!wanted.is_of(&row(AnswerEnd::Refused("GRANT"), Outcome::Completed)));
    }

    proptest! {
        #[test]
        fn rows_stand_in_the_order_of_time(one in any::<(u64, u32)>(), other in any::<(u64, u32)>()) {
            let key = |(time, attempt): (u64, u32)| RowKey {
                time: Time::from_millis(time), exchange: ExchangeId::from_bytes([7; 16]), attempt, side: Side::Provider,
            };
            let (one, other) = (key(one), key(other));
            prop_assert_eq!(one.to_bytes().cmp(&other.to_bytes()), one.cmp(&other));
            prop_assert_eq!(one.to_string().parse(), Ok(one));
        }
    }
}
