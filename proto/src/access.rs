//! Access requests and grants (PROTOCOL.md 19): what a consumer asks to be granted, what the provider decides, what the
//! consumer accepts. The bytes that are signed, and the checks that need nobody's memory.

pub mod fields;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use self::fields::Fields;
use crate::digest::Digest;
use crate::identifier::{InstanceId, MethodPath, ServerId, SubsystemId};
use crate::purposes::PurposeCode;
use crate::record::decode_canonical;
use crate::registration::{Malformed, Text, rule, signed_bytes, within};
use crate::seal::MAX_SIGNATURE_BYTES;
use crate::signature::{KeyId, PublicKey, SigningKey};
use crate::time::Time;
use crate::wire::relay as wire;

/// Most methods, and most purposes, of one grant or request.
pub const MAX_ITEMS: usize = 256;
/// Longest document of a request, a decision or an acceptance, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 128 * 1024;
/// Longest question or answer about a request, in bytes.
pub const MAX_ACCESS_BYTES: usize = 3 * MAX_DOCUMENT_BYTES;
/// How long a request waits; then it lapses, and is known no more.
pub const REQUEST_WAITS: Duration = Duration::from_secs(90 * 86_400);
/// How far ahead of the provider's clock the time of a request may be.
pub const REQUEST_SKEW: Duration = Duration::from_secs(60);
/// Longest time for which access is asked, from the request on.
pub const MAX_ASKED: Duration = Duration::from_secs(3660 * 86_400);
/// Requests of one member that may wait at a provider's server.
pub const MAX_OPEN_OF_MEMBER: usize = 32;
/// Requests that may wait at a provider's server.
pub const MAX_OPEN: usize = 4096;

/// A grant's number at a server, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GrantNumber(pub u64);

/// Whose calls come first where there is no room for all (PROTOCOL.md 19.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Refused first: what can be asked again at night.
    Bulk,
    /// As nearly all are.
    #[default]
    Ordinary,
    /// Refused last.
    Urgent,
}

impl Priority {
    /// All of them, those first that are refused first.
    pub const ALL: [Self; 3] = [Self::Bulk, Self::Ordinary, Self::Urgent];

    /// As it stands in a grant.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Ordinary => "ordinary",
            Self::Urgent => "urgent",
        }
    }

    /// As it stands in the frames of an answer.
    pub fn to_wire(self) -> i32 {
        match self {
            Self::Bulk => wire::Priority::Bulk,
            Self::Ordinary => wire::Priority::Ordinary,
            Self::Urgent => wire::Priority::Urgent,
        }
        .into()
    }

    /// As a frame of an answer says it. What this version does not know is ordinary.
    pub fn of_wire(said: i32) -> Self {
        match wire::Priority::try_from(said) {
            Ok(wire::Priority::Bulk) => Self::Bulk,
            Ok(wire::Priority::Urgent) => Self::Urgent,
            Ok(wire::Priority::Ordinary) | Err(_) => Self::Ordinary,
        }
    }

    fn is_ordinary(&self) -> bool {
        *self == Self::Ordinary
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a priority is urgent, ordinary or bulk")]
pub struct NoPriority;

impl FromStr for Priority {
    type Err = NoPriority;
    fn from_str(text: &str) -> Result<Self, NoPriority> {
        Self::ALL.into_iter().find(|each| each.as_str() == text).ok_or(NoPriority)
    }
}

/// What a provider grants: the document that its key signs, as JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its number.
    pub number: GrantNumber,
    /// Who may call.
    pub consumer: SubsystemId,
    /// Whose service it is.
    pub provider: SubsystemId,
    /// Exact method paths.
    pub methods: BTreeSet<String>,
    /// Purposes of the instance's list.
    pub purposes: BTreeSet<String>,
    /// The law that allows it.
    pub legal_basis: String,
    /// First instant, in milliseconds since 1970.
    pub valid_from: u64,
    /// From here on no more.
    pub valid_until: u64,
    /// Exchanges a second, with a burst of ten seconds' worth. None: as many as the server carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Whether its calls are refused later or sooner than others where there is no room for all.
    #[serde(default, skip_serializing_if = "Priority::is_ordinary")]
    pub priority: Priority,
    /// The request that it grants. None: nobody asked through the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestDigest>,
    /// The fields of answers that the consumer may receive, where not all.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub fields: Fields,
}

impl fmt::Display for Grant {
    /// In a sentence without its end, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
        let (from, until) = (Time::from_millis(self.valid_from), Time::from_millis(self.valid_until));
        write!(f, "grant {}: {} may call {}", self.number.0, self.consumer, self.provider)?;
        write!(f, ", {}, for {}, from {from} until {until}", list(&self.methods), list(&self.purposes))?;
        if !self.fields.is_empty() {
            write!(f, ", and receive no more than {}", self.fields)?;
        }
        if !self.priority.is_ordinary() {
            write!(f, ", as {} calls", self.priority)?;
        }
        Ok(())
    }
}

impl Grant {
    /// Whether it allows anything at `now`.
    pub fn is_valid(&self, now: Time) -> bool {
        self.valid_from <= now.as_millis() && now.as_millis() < self.valid_until
    }

    /// Bytes of the texts in it.
    pub fn text_bytes(&self) -> usize {
        let names = self.methods.iter().chain(&self.purposes).map(String::len).sum::<usize>();
        names + self.legal_basis.len() + self.fields.text_bytes()
    }
}

/// SHA-256 of a request's document: how it is named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestDigest(pub Digest);

impl TryFrom<String> for RequestDigest {
    type Error = crate::digest::NotADigest;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for RequestDigest {
    type Err = crate::digest::NotADigest;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl From<RequestDigest> for String {
    fn from(digest: RequestDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A document, and a signature over it that was not checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDocument {
    /// What was signed, behind its line.
    pub document: Bytes,
    /// By which key.
    pub key: KeyId,
    /// DER.
    pub signature: Bytes,
}

impl SignedDocument {
    /// Signs the line that says what it is, and the document.
    pub fn sign(line: &str, document: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&signed_bytes(line, &document)).into();
        Self { document: document.into(), key: key.public().id(), signature }
    }

    /// Of what came over the wire, or stands in a log.
    pub fn parse(signed: wire::SignedDocument) -> Result<Self, Malformed> {
        within("the document", signed.document.len(), MAX_DOCUMENT_BYTES)?;
        within("the signature", signed.signature.len(), MAX_SIGNATURE_BYTES)?;
        let key = Digest::try_from(&signed.key[..])
            .map_err(|_| rule("the key's name", &hex::encode(&signed.key), "it is 32 bytes"))?;
        Ok(Self { document: signed.document, key, signature: signed.signature })
    }

    /// As it goes over the wire.
    pub fn to_wire(&self) -> wire::SignedDocument {
        let (document, signature) = (self.document.clone(), self.signature.clone());
        wire::SignedDocument { document, key: self.key.to_wire(), signature }
    }

    /// Its name.
    pub fn digest(&self) -> Digest {
        Digest::of(&[&self.document])
    }

    /// Checks that this key signed this line and the document.
    pub fn signed_by(&self, line: &str, key: &PublicKey) -> Result<(), Malformed> {
        let holds = key.id() == self.key && key.verify(&signed_bytes(line, &self.document), &self.signature).is_ok();
        if holds { Ok(()) } else { Err(Malformed::Signature(self.key)) }
    }
}

/// What a consumer asks to be granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRequest {
    /// The instance.
    pub instance: InstanceId,
    /// Who would call.
    pub consumer: SubsystemId,
    /// The server that asks, and holds the key.
    pub server: ServerId,
    /// Whose service it is.
    pub provider: SubsystemId,
    /// Exact method paths.
    pub methods: BTreeSet<String>,
    /// For what.
    pub purpose: PurposeCode,
    /// The law that allows it.
    pub legal_basis: Text,
    /// Until when.
    pub until: Time,
    /// When it was asked.
    pub time: Time,
}

impl AccessRequest {
    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::AccessRequest {
            instance: self.instance.to_string(),
            consumer: self.consumer.to_string(),
            server: self.server.to_string(),
            provider: self.provider.to_string(),
            methods: self.methods.iter().cloned().collect(),
            purpose: self.purpose.to_string(),
            legal_basis: self.legal_basis.to_string(),
            until: self.until.as_millis(),
            time: self.time.as_millis(),
        }
        .encode_to_vec()
    }

    /// Reads one (PROTOCOL.md 19.2, step 2).
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the request", bytes.len(), MAX_DOCUMENT_BYTES)?;
        let read: wire::AccessRequest = decode_canonical(bytes, "AccessRequest")?;
        let request = Self {
            instance: read.instance.parse()?,
            consumer: read.consumer.parse()?,
            server: read.server.parse()?,
            provider: read.provider.parse()?,
            methods: methods(&read.methods)?,
            purpose: read.purpose.parse()?,
            legal_basis: read.legal_basis.parse()?,
            until: Time::from_millis(read.until),
            time: Time::from_millis(read.time),
        };
        let instance = request.instance.clone();
        for of in [request.consumer.member().instance(), request.provider.member().instance()] {
            if of != instance {
                return Err(Malformed::OtherInstance { theirs: of, ours: instance });
            }
        }
        Ok(request)
    }

    /// Whether it may be taken at `now`: it is not from the future, did not lapse, and asks for a time to come.
    pub fn is_timely(&self, now: Time) -> bool {
        self.time <= now.plus(REQUEST_SKEW)
            && !self.lapsed(now)
            && self.until > now
            && self.until <= self.time.plus(MAX_ASKED)
    }

    /// Whether it waited too long.
    pub fn lapsed(&self, now: Time) -> bool {
        self.time.plus(REQUEST_WAITS) <= now
    }

    /// Whether the two ask for the same thing, whenever they were made.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        Self { time: other.time, ..self.clone() } == *other
    }

    /// In what a grant that was decided at `decided` differs from what was asked. Nothing: it is what the consumer signed, from
    /// then on.
    pub fn differs(&self, grant: &Grant, id: RequestDigest, decided: Time) -> Vec<&'static str> {
        let purposes: BTreeSet<String> = [self.purpose.to_string()].into();
        let checks = [
            ("the request", grant.request == Some(id)),
            ("the consumer", grant.consumer == self.consumer),
            ("the provider", grant.provider == self.provider),
            ("the methods", grant.methods == self.methods),
            ("the purpose", grant.purposes == purposes),
            ("the legal basis", grant.legal_basis == self.legal_basis.as_str()),
            ("the beginning", grant.valid_from <= decided.as_millis()),
            ("the end", grant.valid_until == self.until.as_millis()),
            ("the rate", grant.per_second.is_none()),
            ("the priority", grant.priority.is_ordinary()),
            ("the fields", grant.fields.is_empty()),
        ];
        checks.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
    }
}

impl fmt::Display for AccessRequest {
    /// In a sentence without its end, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.methods.iter().cloned().collect::<Vec<_>>().join(", ");
        let Self { consumer, provider, purpose, legal_basis, until, .. } = self;
        write!(f, "{consumer} asks to call {provider}, {methods}, for {purpose} until {until}, by \"{legal_basis}\"")
    }
}

fn methods(listed: &[String]) -> Result<BTreeSet<String>, Malformed> {
    let set: BTreeSet<String> = listed.iter().cloned().collect();
    if listed.is_empty() || listed.len() > MAX_ITEMS || !listed.iter().eq(&set) {
        return Err(rule("the list of methods", "", "it is 1 to 256 method paths, sorted, each once"));
    }
    for method in &set {
        method.parse::<MethodPath>().map_err(|_| rule("the method", method, "it is /package.Service/Method"))?;
    }
    Ok(set)
}

/// What the provider decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decided {
    /// This grant, signed.
    Granted(SignedDocument),
    /// Nothing, and why.
    Rejected(Text),
}

/// A decision about a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessDecision {
    /// Which request.
    pub request: RequestDigest,
    /// The server where it was decided, which holds the key.
    pub server: ServerId,
    /// When.
    pub time: Time,
    /// How.
    pub decided: Decided,
}

impl AccessDecision {
    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let how = match &self.decided {
            Decided::Granted(grant) => wire::access_decision::How::Grant(grant.to_wire()),
            Decided::Rejected(reason) => wire::access_decision::How::Rejected(reason.to_string()),
        };
        wire::AccessDecision {
            request: self.request.0.to_wire(),
            server: self.server.to_string(),
            time: self.time.as_millis(),
            how: Some(how),
        }
        .encode_to_vec()
    }

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the decision", bytes.len(), MAX_DOCUMENT_BYTES)?;
        let read: wire::AccessDecision = decode_canonical(bytes, "AccessDecision")?;
        let how = read.how.ok_or_else(|| rule("the decision", "", "it is a grant, or why there is none"))?;
        Ok(Self {
            request: request_digest(&read.request)?,
            server: read.server.parse()?,
            time: Time::from_millis(read.time),
            decided: match how {
                wire::access_decision::How::Grant(grant) => Decided::Granted(SignedDocument::parse(grant)?),
                wire::access_decision::How::Rejected(reason) => Decided::Rejected(reason.parse()?),
            },
        })
    }
}

/// The consumer's own word that it takes a grant, with its purpose and its terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessAcceptance {
    /// The request that was granted.
    pub request: RequestDigest,
    /// SHA-256 of the grant's document.
    pub grant: Digest,
    /// The server that accepts, and holds the key.
    pub server: ServerId,
    /// When.
    pub time: Time,
}

impl AccessAcceptance {
    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::AccessAcceptance {
            request: self.request.0.to_wire(),
            grant: self.grant.to_wire(),
            server: self.server.to_string(),
            time: self.time.as_millis(),
        }
        .encode_to_vec()
    }

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the acceptance", bytes.len(), MAX_DOCUMENT_BYTES)?;
        let read: wire::AccessAcceptance = decode_canonical(bytes, "AccessAcceptance")?;
        Ok(Self {
            request: request_digest(&read.request)?,
            grant: Digest::try_from(&read.grant[..])
                .map_err(|_| rule("the grant's name", &hex::encode(&read.grant), "it is 32 bytes"))?,
            server: read.server.parse()?,
            time: Time::from_millis(read.time),
        })
    }
}

/// That a grant ended before its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantEnd {
    /// SHA-256 of the grant's document.
    pub grant: Digest,
    /// The server where it was ended, which holds the key.
    pub server: ServerId,
    /// When.
    pub time: Time,
    /// Why: a [`Text`] where it is made. Of one that was made before that was demanded, anything.
    pub reason: String,
}

impl GrantEnd {
    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (grant, server) = (self.grant.to_wire(), self.server.to_string());
        wire::GrantEnd { grant, server, time: self.time.as_millis(), reason: self.reason.clone() }.encode_to_vec()
    }

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the end of a grant", bytes.len(), MAX_DOCUMENT_BYTES)?;
        let read: wire::GrantEnd = decode_canonical(bytes, "GrantEnd")?;
        Ok(Self {
            grant: Digest::try_from(&read.grant[..])
                .map_err(|_| rule("the grant's name", &hex::encode(&read.grant), "it is 32 bytes"))?,
            server: read.server.parse()?,
            time: Time::from_millis(read.time),
            reason: read.reason,
        })
    }
}

fn request_digest(bytes: &[u8]) -> Result<RequestDigest, Malformed> {
    let digest = Digest::try_from(bytes).map(RequestDigest);
    digest.map_err(|_| rule("the request's name", &hex::encode(bytes), "it is 32 bytes"))
}

/// Why a request is not taken: one closed list, with a code each (PROTOCOL.md 19.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotTaken {
    /// It cannot be read.
    #[error("the request is none: its bytes are not the one encoding of a request")]
    Malformed,
    /// The server that asks does not host the consumer, or is not the one that the request names.
    #[error("the server that asks does not speak for the consumer")]
    NotTheConsumers,
    /// The provider is not here.
    #[error("the subsystem that is asked is not hosted there, or does not offer this to the consumer")]
    NotHosted,
    /// Nobody good signed it.
    #[error("no good key of the consumer's member at that server signed it")]
    Signature,
    /// It lapsed, is from the future, or asks for a time that is over or too far.
    #[error("it lapsed, is from the future, or asks for a time that is over or more than 3660 days long")]
    Time,
    /// The purpose is not on the list.
    #[error("its purpose is not on the instance's list: `central-registry purposes list` shows those that are")]
    PurposeUnlisted,
    /// Too many wait.
    #[error("too many requests wait here: let the provider's admin decide those first")]
    TooMany,
    /// The acceptance is none of this grant.
    #[error("the acceptance is not of what was granted, or no good key of the consumer's signed it")]
    NotAccepted,
}

impl NotTaken {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::NotTheConsumers,
        Self::NotHosted,
        Self::Signature,
        Self::Time,
        Self::PurposeUnlisted,
        Self::TooMany,
        Self::NotAccepted,
    ];

    /// Its code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "REQUEST_MALFORMED",
            Self::NotTheConsumers => "REQUEST_NOT_THE_CONSUMERS",
            Self::NotHosted => "REQUEST_NOT_HOSTED",
            Self::Signature => "REQUEST_SIGNATURE",
            Self::Time => "REQUEST_TIME",
            Self::PurposeUnlisted => "REQUEST_PURPOSE_UNLISTED",
            Self::TooMany => "REQUESTS_TOO_MANY",
            Self::NotAccepted => "ACCEPTANCE_INVALID",
        }
    }

    /// The one with this code.
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.as_str() == code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signature::purpose;

    fn request() -> AccessRequest {
        AccessRequest {
            instance: "VN".parse().unwrap(),
            consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
            server: "VN/GOV/portal/ss1".parse().unwrap(),
            provider: "VN/GOV/moj/civil-registry".parse().unwrap(),
            methods: ["/civil.v1.Births/Register".to_owned()].into(),
            purpose: "birth-registration".parse().unwrap(),
            legal_basis: "Law on civil status, article 13".parse().unwrap(),
            until: Time::from_millis(2_000_000_000_000),
            time: Time::from_millis(1_800_000_000_000),
        }
    }

    fn granted(request: &AccessRequest, id: RequestDigest) -> Grant {
        Grant {
            number: GrantNumber(1),
            consumer: request.consumer.clone(),
            provider: request.provider.clone(),
            methods: request.methods.clone(),
            purposes: [request.purpose.to_string()].into(),
            legal_basis: request.legal_basis.to_string(),
            valid_from: request.time.as_millis(),
            valid_until: request.until.as_millis(),
            per_second: None,
            priority: Default::default(),
            request: Some(id),
            fields: Fields::default(),
        }
    }

    #[test]
    fn documents_read_as_they_were_written() {
        let (key, _) = SigningKey::generate();
        let request = request();
        assert_eq!(AccessRequest::parse(&request.to_bytes()).unwrap(), request);
        let signed = SignedDocument::sign(purpose::ACCESS_REQUEST, request.to_bytes(), &key);
        assert_eq!(SignedDocument::parse(signed.to_wire()).unwrap(), signed);
        let id = RequestDigest(signed.digest());
        for decided in [Decided::Rejected("no law".parse().unwrap()), Decided::Granted(signed.clone())] {
            let server = "VN/GOV/moj/ss1".parse().unwrap();
            let decision = AccessDecision { request: id, server, time: request.time, decided };
            assert_eq!(AccessDecision::parse(&decision.to_bytes()).unwrap(), decision);
        }
        let server = request.server.clone();
        let acceptance = AccessAcceptance { request: id, grant: signed.digest(), server, time: request.time };
        assert_eq!(AccessAcceptance::parse(&acceptance.to_bytes()).unwrap(), acceptance);
        let (server, reason) = (request.server.clone(), "over".to_owned());
        let end = GrantEnd { grant: signed.digest(), server, time: request.time, reason };
        assert_eq!(GrantEnd::parse(&end.to_bytes()).unwrap(), end);
        // What ended is heard of, whatever was said of why.
        for reason in [String::new(), "x".repeat(1000), "one\nother".to_owned()] {
            let end = GrantEnd { reason, ..end.clone() };
            assert_eq!(GrantEnd::parse(&end.to_bytes()).unwrap(), end);
        }
        let long = GrantEnd { reason: "x".repeat(MAX_DOCUMENT_BYTES), ..end };
        assert!(GrantEnd::parse(&long.to_bytes()).is_err());
        for each in NotTaken::ALL {
            assert_eq!(NotTaken::of(each.as_str()), Some(each));
        }
    }

    #[test]
    fn a_signature_is_good_for_one_line_one_document_and_one_key() {
        let ((key, _), (other, _)) = (SigningKey::generate(), SigningKey::generate());
        let signed = SignedDocument::sign(purpose::ACCESS_REQUEST, request().to_bytes(), &key);
        assert!(signed.signed_by(purpose::ACCESS_REQUEST, key.public()).is_ok());
        assert!(signed.signed_by(purpose::ACCESS_DECISION, key.public()).is_err());
        assert!(signed.signed_by(purpose::ACCESS_REQUEST, other.public()).is_err());
        let altered = SignedDocument { document: Bytes::from_static(b"other"), ..signed };
        assert!(altered.signed_by(purpose::ACCESS_REQUEST, key.public()).is_err());
    }

    #[test]
    fn methods_out_of_order_twice_or_not_there_are_refused() {
        let with = |methods: &[&str]| {
            let mut wire = wire::AccessRequest::decode(&request().to_bytes()[..]).unwrap();
            wire.methods = methods.iter().map(|method| (*method).to_owned()).collect();
            AccessRequest::parse(&wire.encode_to_vec()).is_ok()
        };
        assert!(with(&["/a.B/C", "/a.B/D"]));
        for bad in [&[][..], &["/a.B/D", "/a.B/C"], &["/a.B/C", "/a.B/C"], &["a.B"]] {
            assert!(!with(bad), "{bad:?}");
        }
        let many: Vec<String> = (0..=MAX_ITEMS).map(|number| format!("/a.B/C{number:04}")).collect();
        assert!(with(&many[1..].iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(!with(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    }

    #[test]
    fn a_request_is_timely_from_when_it_was_made_until_it_lapses() {
        let request = request();
        let at = |now: Time| request.is_timely(now);
        assert!(at(request.time) && at(request.time.minus(REQUEST_SKEW)));
        assert!(!at(request.time.minus(REQUEST_SKEW + Duration::from_millis(1))));
        let lapses = request.time.plus(REQUEST_WAITS);
        assert!(at(lapses.minus(Duration::from_millis(1))) && !at(lapses));
        let until = |until: Time| AccessRequest { until, ..request.clone() }.is_timely(request.time);
        assert!(!until(request.time) && until(request.time.plus(Duration::from_millis(1))));
        assert!(until(request.time.plus(MAX_ASKED)) && !until(request.time.plus(MAX_ASKED + Duration::from_millis(1))));
    }

    #[test]
    fn a_grant_that_says_anything_else_than_the_request_differs() {
        let request = request();
        let id = RequestDigest(Digest::of(&[b"it"]));
        let grant = granted(&request, id);
        assert!(request.differs(&grant, id, request.time).is_empty());
        let others = [
            Grant { request: None, ..grant.clone() },
            Grant { consumer: "VN/GOV/portal/other".parse().unwrap(), ..grant.clone() },
            Grant { provider: "VN/GOV/moj/other".parse().unwrap(), ..grant.clone() },
            Grant { methods: ["/civil.v1.Births/Get".to_owned()].into(), ..grant.clone() },
            Grant { purposes: ["tax".to_owned()].into(), ..grant.clone() },
            Grant { legal_basis: String::new(), ..grant.clone() },
            Grant { valid_from: grant.valid_from + 1, ..grant.clone() },
            Grant { valid_until: grant.valid_until - 1, ..grant.clone() },
            Grant { per_second: Some(1), ..grant.clone() },
            Grant { priority: Priority::Bulk, ..grant.clone() },
            Grant {
                fields: serde_json::from_str(r#"{"/civil.v1.Births/Register":{"1":"name"}}"#).unwrap(),
                ..grant.clone()
            },
        ];
        for other in others {
            assert_eq!(request.differs(&other, id, request.time).len(), 1, "{other:?}");
        }
    }

    #[test]
    fn a_grant_without_fields_is_written_as_before_and_one_with_a_key_that_is_not_known_is_none() {
        let grant = granted(&request(), RequestDigest(Digest::ZERO));
        let text = serde_json::to_string(&grant).unwrap();
        let before = format!(
            r#"{{"number":1,"consumer":"VN/GOV/portal/one-stop","provider":"VN/GOV/moj/civil-registry","methods":["/civil.v1.Births/Register"],"purposes":["birth-registration"],"legal_basis":"Law on civil status, article 13","valid_from":1800000000000,"valid_until":2000000000000,"request":"{}"}}"#,
            Digest::ZERO
        );
        assert_eq!(text, before);
        assert_eq!(serde_json::from_str::<Grant>(&before).unwrap(), grant);
        // What a server of before makes of fields: no grant, and not one of everything.
        assert!(serde_json::from_str::<Grant>(&before.replacen('{', r#"{"fields_of_tomorrow":{},"#, 1)).is_err());
    }

    #[test]
    fn a_priority_reads_as_it_was_written_and_an_ordinary_grant_does_not_name_it() {
        let grant = granted(&request(), RequestDigest(Digest::ZERO));
        for priority in Priority::ALL {
            assert_eq!((priority.as_str().parse(), Priority::of_wire(priority.to_wire())), (Ok(priority), priority));
            let text = serde_json::to_string(&Grant { priority, ..grant.clone() }).unwrap();
            assert_eq!(serde_json::from_str::<Grant>(&text).unwrap().priority, priority);
            assert_eq!(text.contains("priority"), priority != Priority::Ordinary);
        }
        assert_eq!(Priority::of_wire(77), Priority::Ordinary);
        assert_eq!("Urgent".parse::<Priority>(), Err(NoPriority));
        assert!(
            serde_json::from_str::<Grant>(&serde_json::to_string(&grant).unwrap().replacen(
                '{',
                r#"{"priority":"first","#,
                1
            ))
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (AccessRequest::parse(&bytes), AccessDecision::parse(&bytes), AccessAcceptance::parse(&bytes));
        }
    }
}
