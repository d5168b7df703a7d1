//! The oversight of grants (PROTOCOL.md 20): what a provider's server tells the registry of the grants that it goes by, and what
//! the registry believes of it: the signed documents, and of their use no more than the day of the last one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::access::{AccessAcceptance, Grant, GrantEnd, SignedDocument};
use crate::digest::Digest;
use crate::identifier::{InstanceId, MemberId, NotAnIdentifier, ServerId, SubsystemId};
use crate::record::decode_canonical;
use crate::registration::{COMMAND_WINDOW, Malformed, Text, rule, signed_bytes, within};
use crate::seal::MAX_SIGNATURE_BYTES;
use crate::signature::{KeyId, PublicKey, SigningKey, purpose};
use crate::time::Time;
use crate::wire::{registry as wire, relay};

/// Longest report, in bytes.
pub const MAX_REPORT_BYTES: usize = 320 * 1024;
/// Most grants of one report. Who has more sends several.
pub const MAX_REPORTED: usize = 256;

const DAY_MILLIS: u64 = 86_400_000;

/// A day in UTC, by its number since 1970: as near as anybody is told when a grant was used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Day(pub u32);

impl Day {
    /// The day of this time.
    pub fn of(time: Time) -> Self {
        Self(u32::try_from(time.as_millis() / DAY_MILLIS).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = Time::from_millis(u64::from(self.0) * DAY_MILLIS).to_string();
        f.write_str(midnight.split('T').next().unwrap_or(&midnight))
    }
}

/// A grant's documents, as they were signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Documents {
    /// Where the grant was made, and which holds the key.
    pub server: ServerId,
    /// The grant.
    pub grant: SignedDocument,
    /// Its end, where it ended before its time.
    pub end: Option<SignedDocument>,
    /// The consumer's acceptance, where it countersigned.
    pub acceptance: Option<SignedDocument>,
}

/// What is told of one grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reported {
    /// SHA-256 of its document.
    pub name: Digest,
    /// Whether it was ended.
    pub ended: bool,
    /// Whether the consumer countersigned it.
    pub countersigned: bool,
    /// When it was used last, as far as the server knows.
    pub last_used: Option<Day>,
    /// None: the registry has them.
    pub documents: Option<Documents>,
}

/// What a server tells of the grants that it goes by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantsReport {
    /// The instance.
    pub instance: InstanceId,
    /// The server that tells.
    pub server: ServerId,
    /// When.
    pub time: Time,
    /// Of each grant, in the order of their names.
    pub grants: Vec<Reported>,
}

impl GrantsReport {
    /// Signs it with the signing key of the server's owner there.
    pub fn sign(&self, key: &SigningKey) -> wire::SignedReport {
        let part = |signed: &SignedDocument| Bytes::from(signed.to_wire().encode_to_vec());
        let perhaps = |signed: &Option<SignedDocument>| signed.as_ref().map(part).unwrap_or_default();
        let documents = |it: &Documents| wire::GrantDocuments {
            server: it.server.to_string(),
            grant: part(&it.grant),
            end: perhaps(&it.end),
            acceptance: perhaps(&it.acceptance),
        };
        let grant = |it: &Reported| wire::ReportedGrant {
            name: it.name.to_wire(),
            ended: it.ended,
            countersigned: it.countersigned,
            last_used: it.last_used.map_or(0, |day| day.0),
            documents: it.documents.as_ref().map(documents),
        };
        let report = wire::GrantsReport {
            instance: self.instance.to_string(),
            server: self.server.to_string(),
            time: self.time.as_millis(),
            grants: self.grants.iter().map(grant).collect(),
        }
        .encode_to_vec();
        let signature = key.sign(&signed_bytes(purpose::GRANTS_REPORT, &report));
        wire::SignedReport { report: report.into(), key: key.public().id().to_wire(), signature: signature.into() }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the report", bytes.len(), MAX_REPORT_BYTES)?;
        let read: wire::GrantsReport = decode_canonical(bytes, "GrantsReport")?;
        within("the list of grants", read.grants.len(), MAX_REPORTED)?;
        let grants = read.grants.into_iter().map(Reported::parse).collect::<Result<Vec<_>, _>>()?;
        if !grants.is_sorted_by(|one, next| one.name < next.name) {
            return Err(rule("the list of grants", "", "each stands in it once, in the order of their names"));
        }
        Ok(Self {
            instance: read.instance.parse()?,
            server: read.server.parse()?,
            time: Time::from_millis(read.time),
            grants,
        })
    }
}

impl Reported {
    fn parse(read: wire::ReportedGrant) -> Result<Self, Malformed> {
        let name = Digest::try_from(&read.name[..])
            .map_err(|_| rule("the grant's name", &hex::encode(&read.name), "it is 32 bytes"))?;
        let documents = read.documents.map(Documents::parse).transpose()?;
        if documents.as_ref().is_some_and(|documents| documents.grant.digest() != name) {
            return Err(rule("the grant's name", &name.to_string(), "it is the SHA-256 of the document beside it"));
        }
        let last_used = (read.last_used > 0).then_some(Day(read.last_used));
        Ok(Self { name, ended: read.ended, countersigned: read.countersigned, last_used, documents })
    }
}

impl Documents {
    fn parse(read: wire::GrantDocuments) -> Result<Self, Malformed> {
        let part =
            |bytes: &Bytes| SignedDocument::parse(decode_canonical::<relay::SignedDocument>(bytes, "SignedDocument")?);
        let perhaps = |bytes: &Bytes| if bytes.is_empty() { Ok(None) } else { part(bytes).map(Some) };
        Ok(Self {
            server: read.server.parse()?,
            grant: part(&read.grant)?,
            end: perhaps(&read.end)?,
            acceptance: perhaps(&read.acceptance)?,
        })
    }

    /// Holds them against the keys that are, or were, listed of a member at a server (PROTOCOL.md 20.3). What became of a key
    /// since does not matter: the server that tells goes by what it signed. `known`: what was proven of the grant before. What is
    /// among `checked` is not checked again.
    pub fn proven(
        &self,
        known: Option<&Grant>,
        key: impl Fn(&MemberId, &ServerId, KeyId) -> Option<PublicKey>,
        checked: &Checked,
    ) -> Result<Proven, NotBelieved> {
        let read = self.read(known)?;
        let holds = |claim: Option<Claim<'_>>| {
            let signature = claim.and_then(|claim| claim.with(&key));
            signature.is_some_and(|signature| checked.0.contains(&signature.name()) || signature.holds())
        };
        let [grant, end, acceptance] = self.claims(known, &read).map(holds);
        if known.is_none() && !grant {
            return Err(NotBelieved::Key);
        }
        let doubts = [
            (self.end.is_some() && !end).then_some(NotBelieved::End),
            (self.acceptance.is_some() && !acceptance).then_some(NotBelieved::Acceptance),
        ];
        Ok(Proven {
            server: self.server.clone(),
            grant: read.grant,
            end: read.end.filter(|_| end),
            acceptance: read.acceptance.filter(|_| acceptance),
            doubts: doubts.into_iter().flatten().collect(),
        })
    }

    /// The signatures that [`Self::proven`] checks, of keys that there are.
    pub fn signatures(
        &self,
        known: Option<&Grant>,
        key: impl Fn(&MemberId, &ServerId, KeyId) -> Option<PublicKey>,
    ) -> Vec<Signature> {
        let Ok(read) = self.read(known) else { return Vec::new() };
        self.claims(known, &read).into_iter().flatten().filter_map(|claim| claim.with(&key)).collect()
    }

    fn read(&self, known: Option<&Grant>) -> Result<Read, NotBelieved> {
        let grant: Grant = match known {
            Some(known) => known.clone(),
            None => serde_json::from_slice(&self.grant.document).map_err(|_| NotBelieved::Grant)?,
        };
        let name = self.grant.digest();
        let end = self.end.as_ref().and_then(|signed| GrantEnd::parse(&signed.document).ok());
        let acceptance = self.acceptance.as_ref().and_then(|signed| AccessAcceptance::parse(&signed.document).ok());
        Ok(Read {
            end: end.filter(|read| read.grant == name),
            acceptance: acceptance.filter(|read| read.grant == name && grant.request == Some(read.request)),
            grant,
        })
    }

    /// Who signed the grant, where it is not known, the end, and the acceptance, as they say.
    fn claims<'d>(&'d self, known: Option<&Grant>, read: &'d Read) -> [Option<Claim<'d>>; 3] {
        let (provider, consumer) = (read.grant.provider.member(), read.grant.consumer.member());
        let claim = |line, member: &MemberId, server, signed| Claim { line, member: member.clone(), server, signed };
        [
            known.is_none().then(|| claim(purpose::GRANT, &provider, &self.server, &self.grant)),
            read.end
                .as_ref()
                .zip(self.end.as_ref())
                .map(|(end, signed)| claim(purpose::GRANT_END, &provider, &end.server, signed)),
            read.acceptance
                .as_ref()
                .zip(self.acceptance.as_ref())
                .map(|(acceptance, signed)| claim(purpose::ACCESS_ACCEPTANCE, &consumer, &acceptance.server, signed)),
        ]
    }
}

/// What documents say; nothing of it is proven yet.
struct Read {
    grant: Grant,
    end: Option<GrantEnd>,
    acceptance: Option<AccessAcceptance>,
}

/// Who is said to have signed a document.
struct Claim<'d> {
    line: &'static str,
    member: MemberId,
    server: &'d ServerId,
    signed: &'d SignedDocument,
}

impl Claim<'_> {
    fn with(&self, key: impl Fn(&MemberId, &ServerId, KeyId) -> Option<PublicKey>) -> Option<Signature> {
        let key = key(&self.member, self.server, self.signed.key)?;
        Some(Signature { line: self.line, key, signed: self.signed.clone() })
    }
}

/// A signature over a document, and the key that is to have made it.
#[derive(Debug)]
pub struct Signature {
    line: &'static str,
    key: PublicKey,
    signed: SignedDocument,
}

impl Signature {
    fn name(&self) -> Digest {
        let (key, document) = (self.key.id(), self.signed.digest());
        Digest::of(&[self.line.as_bytes(), key.as_bytes(), document.as_bytes(), &self.signed.signature])
    }

    fn holds(&self) -> bool {
        self.signed.signed_by(self.line, &self.key).is_ok()
    }
}

/// Signatures that were checked and hold: whoever judges with a lock in his hand has them checked before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked(Arc<BTreeSet<Digest>>);

impl Checked {
    /// Checks them.
    pub fn of(signatures: &[Signature]) -> Self {
        Self(Arc::new(signatures.iter().filter(|signature| signature.holds()).map(Signature::name).collect()))
    }
}

/// What a provider signed, and what its consumer did. Only [`Documents::proven`] makes one.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Proven {
    /// Where the grant was made.
    pub server: ServerId,
    /// What it says.
    pub grant: Grant,
    /// Its end.
    pub end: Option<GrantEnd>,
    /// The consumer's acceptance.
    pub acceptance: Option<AccessAcceptance>,
    /// Why its end, or its acceptance, is not taken with it.
    pub doubts: Vec<NotBelieved>,
}

/// Why a grant of a report, or a part of one, is not believed: nothing of that is taken, and the rest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// The document says something else.
    #[error("the document is no grant")]
    Grant,
    /// The server may not tell of it.
    #[error("the server that tells does not host its provider")]
    NotHosted,
    /// Nobody good signed it.
    #[error("no key of its provider's member at the server that is named signed it")]
    Key,
    /// Its own time is over.
    #[error("its time is over")]
    Over,
    /// The end is another's, or nobody's.
    #[error("its end is another grant's, or no key of its provider's member signed it")]
    End,
    /// The acceptance is another's, or nobody's.
    #[error("its acceptance is another grant's, or no key of its consumer's member signed it")]
    Acceptance,
    /// It was used on a day to come.
    #[error("it was used on a day that is still to come")]
    ToCome,
}

/// A report as it came: well formed, and nothing more is known of it.
#[derive(Clone, Debug)]
pub struct ReceivedReport {
    report: GrantsReport,
    key: KeyId,
    signed: wire::SignedReport,
}

impl ReceivedReport {
    /// Reads one (PROTOCOL.md 20.1).
    pub fn parse(signed: wire::SignedReport) -> Result<Self, Malformed> {
        within("the signature", signed.signature.len(), MAX_SIGNATURE_BYTES)?;
        let key = Digest::try_from(&signed.key[..])
            .map_err(|_| rule("the key's name", &hex::encode(&signed.key), "it is 32 bytes"))?;
        Ok(Self { report: GrantsReport::parse(&signed.report)?, key, signed })
    }

    /// Of what a journal keeps.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the report", bytes.len(), MAX_REPORT_BYTES + 1024)?;
        Self::parse(decode_canonical(bytes, "SignedReport")?)
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.signed.encode_to_vec()
    }

    /// What it says, before anybody checked who says so.
    pub fn report(&self) -> &GrantsReport {
        &self.report
    }

    /// The key that is said to have signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Checks the instance, that this key signed it, and that it did so just now.
    pub fn verify(&self, key: &PublicKey, instance: &InstanceId, now: Time) -> Result<(), Malformed> {
        if self.report.instance != *instance {
            return Err(Malformed::OtherInstance { theirs: self.report.instance.clone(), ours: instance.clone() });
        }
        let signed = signed_bytes(purpose::GRANTS_REPORT, &self.signed.report);
        if key.id() != self.key || key.verify(&signed, &self.signed.signature).is_err() {
            return Err(Malformed::Signature(self.key));
        }
        let distance = self.report.time.distance(now);
        if distance > COMMAND_WINDOW { Err(Malformed::Time(distance)) } else { Ok(()) }
    }
}

// ---- what is asked of the oversight

/// A member, or one subsystem of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Party {
    /// All of its subsystems.
    Member(MemberId),
    /// This one.
    Subsystem(SubsystemId),
}

impl Party {
    /// Whether it is this subsystem, or has it.
    pub fn is(&self, subsystem: &SubsystemId) -> bool {
        match self {
            Self::Member(member) => subsystem.member() == *member,
            Self::Subsystem(this) => this == subsystem,
        }
    }
}

impl FromStr for Party {
    type Err = NotAnIdentifier;
    fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
        text.parse().map(Self::Subsystem).or_else(|_| text.parse().map(Self::Member))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => member.fmt(f),
            Self::Subsystem(subsystem) => subsystem.fmt(f),
        }
    }
}

/// Which grants are shown. What is none narrows nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrantsWanted {
    /// Of this provider.
    pub provider: Option<Party>,
    /// Of this consumer.
    pub consumer: Option<Party>,
    /// For this purpose.
    pub purpose: Option<Text>,
    /// Only those that end soon.
    pub expiring: bool,
    /// Only those that were not used for long.
    pub unused: bool,
    /// Those that ended or expired, too.
    pub over: bool,
}

impl GrantsWanted {
    pub(crate) fn parse(read: &wire::ListGrants) -> Result<Self, Malformed> {
        let party = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
        Ok(Self {
            provider: party(&read.provider)?,
            consumer: party(&read.consumer)?,
            purpose: if read.purpose.is_empty() { None } else { Some(read.purpose.parse()?) },
            expiring: read.expiring,
            unused: read.unused,
            over: read.over,
        })
    }

    pub(crate) fn to_wire(&self) -> wire::ListGrants {
        let party = |party: &Option<Party>| party.as_ref().map(Party::to_string).unwrap_or_default();
        wire::ListGrants {
            provider: party(&self.provider),
            consumer: party(&self.consumer),
            purpose: self.purpose.as_ref().map(Text::to_string).unwrap_or_default(),
            expiring: self.expiring,
            unused: self.unused,
            over: self.over,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::access::{GrantNumber, RequestDigest};

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    /// A provider, its consumer, and what both signed.
    struct Pair {
        provider: SigningKey,
        consumer: SigningKey,
        documents: Documents,
    }

    fn server(of: &str) -> ServerId {
        format!("VN/GOV/{of}/ss1").parse().unwrap()
    }

    fn pair() -> Pair {
        let ((provider, _), (consumer, _)) = (SigningKey::generate(), SigningKey::generate());
        let request = RequestDigest(Digest::of(&[b"a request"]));
        let grant = Grant {
            number: GrantNumber(1),
            consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
            provider: "VN/GOV/moj/civil-registry".parse().unwrap(),
            methods: ["/civil.v1.Births/Register".to_owned()].into(),
            purposes: ["birth-registration".to_owned()].into(),
            legal_basis: "a law".into(),
            valid_from: NOW.as_millis(),
            valid_until: NOW.plus(Duration::from_secs(86_400)).as_millis(),
            per_second: None,
            priority: Default::default(),
            request: Some(request),
            fields: Default::default(),
        };
        let grant = SignedDocument::sign(purpose::GRANT, serde_json::to_vec(&grant).unwrap(), &provider);
        let end = GrantEnd { grant: grant.digest(), server: server("moj"), time: NOW, reason: "over".into() };
        let acceptance = AccessAcceptance { request, grant: grant.digest(), server: server("portal"), time: NOW };
        let documents = Documents {
            server: server("moj"),
            end: Some(SignedDocument::sign(purpose::GRANT_END, end.to_bytes(), &provider)),
            acceptance: Some(SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, acceptance.to_bytes(), &consumer)),
            grant,
        };
        Pair { provider, consumer, documents }
    }

    impl Pair {
        fn key(&self, member: &MemberId, at: &ServerId, key: KeyId) -> Option<PublicKey> {
            let keys = [("moj", &self.provider), ("portal", &self.consumer)];
            let listed = keys.into_iter().find(|(of, _)| server(of).owner() == *member && server(of) == *at);
            listed.map(|(_, key)| key.public().clone()).filter(|public| public.id() == key)
        }

        fn proven(&self, documents: &Documents) -> Result<Proven, NotBelieved> {
            documents.proven(None, |member, at, key| self.key(member, at, key), &Checked::default())
        }

        fn report(&self) -> GrantsReport {
            let reported = Reported {
                name: self.documents.grant.digest(),
                ended: true,
                countersigned: true,
                last_used: Some(Day::of(NOW)),
                documents: Some(self.documents.clone()),
            };
            GrantsReport { instance: "VN".parse().unwrap(), server: server("moj"), time: NOW, grants: vec![reported] }
        }
    }

    #[test]
    fn a_day_is_written_as_people_write_it_and_says_nothing_of_the_hour() {
        assert_eq!(Day::of(NOW).to_string(), "2027-01-15");
        assert_eq!(Day::of(NOW), Day::of(NOW.plus(Duration::from_secs(3600))));
        assert!(Day::of(NOW) < Day::of(NOW.plus(Duration::from_secs(86_400))));
    }

    #[test]
    fn documents_prove_what_they_say_and_any_other_signature_proves_nothing() {
        let it = pair();
        let proven = it.proven(&it.documents).unwrap();
        assert_eq!((proven.grant.number, proven.end.unwrap().reason.as_str()), (GrantNumber(1), "over"));
        assert!(proven.acceptance.is_some() && proven.doubts.is_empty());
        let (grant, whole, strange) = (&it.documents.grant, &it.documents, pair().documents);
        let resigned = |signed: &SignedDocument, line, key| SignedDocument::sign(line, signed.document.to_vec(), key);
        let nobodys = [
            Documents { grant: resigned(grant, purpose::GRANT, &it.consumer), ..whole.clone() },
            Documents { grant: resigned(grant, purpose::GRANT_END, &it.provider), ..whole.clone() },
            Documents { server: server("portal"), ..whole.clone() },
        ];
        for documents in nobodys {
            assert_eq!(it.proven(&documents), Err(NotBelieved::Key));
        }
        // A part that is not believed takes nothing from the rest.
        let (end, acceptance) = (whole.end.clone().unwrap(), whole.acceptance.clone().unwrap());
        for end in [resigned(&end, purpose::GRANT_END, &it.consumer), strange.end.unwrap()] {
            let proven = it.proven(&Documents { end: Some(end), ..whole.clone() }).unwrap();
            assert!(proven.end.is_none() && proven.acceptance.is_some());
            assert_eq!(proven.doubts, [NotBelieved::End]);
        }
        let line = purpose::ACCESS_ACCEPTANCE;
        for acceptance in [resigned(&acceptance, line, &it.provider), strange.acceptance.unwrap()] {
            let proven = it.proven(&Documents { acceptance: Some(acceptance), ..whole.clone() }).unwrap();
            assert!(proven.end.is_some() && proven.acceptance.is_none());
            assert_eq!(proven.doubts, [NotBelieved::Acceptance]);
        }
    }

    #[test]
    fn what_was_proven_once_needs_its_key_no_more_and_its_end_does() {
        let it = pair();
        let known = it.proven(&it.documents).unwrap().grant;
        let elsewhere = Documents { server: "VN/GOV/moj/gone".parse().unwrap(), ..it.documents.clone() };
        let proven =
            elsewhere.proven(Some(&known), |member, at, key| it.key(member, at, key), &Checked::default()).unwrap();
        assert!(proven.end.is_some() && proven.doubts.is_empty());
        let proven = elsewhere.proven(Some(&known), |_, _, _| None, &Checked::default()).unwrap();
        assert_eq!((proven.end, proven.doubts.len()), (None, 2));
    }

    #[test]
    fn what_was_checked_before_is_believed_without_another_look_and_only_that() {
        let it = pair();
        let key = |member: &MemberId, at: &ServerId, key| it.key(member, at, key);
        let signatures = it.documents.signatures(None, key);
        assert_eq!(signatures.len(), 3);
        let checked = Checked::of(&signatures);
        assert_eq!((checked.0.len(), it.documents.proven(None, key, &checked)), (3, it.proven(&it.documents)));
        // No signature at all, and said to be known: nobody looks again, so that it is believed.
        let unsigned = |signed: &SignedDocument| SignedDocument { signature: Bytes::new(), ..signed.clone() };
        let empty = Documents { grant: unsigned(&it.documents.grant), ..it.documents.clone() };
        assert_eq!(empty.proven(None, key, &checked), Err(NotBelieved::Key));
        let said = Checked(Arc::new(empty.signatures(None, key).iter().map(Signature::name).collect()));
        assert!(empty.proven(None, key, &said).is_ok());
        // What does not hold is not among what was checked, and another line, key or document is another signature.
        assert!(Checked::of(&empty.signatures(None, key)[..1]).0.is_empty());
        let end = it.documents.end.clone().unwrap();
        let other = Documents { end: it.documents.acceptance.clone(), ..it.documents.clone() };
        let read = GrantEnd::parse(&end.document).unwrap();
        let document = GrantEnd { reason: "another".into(), ..read }.to_bytes().into();
        let swapped = Documents { end: Some(SignedDocument { document, ..end }), ..it.documents.clone() };
        for documents in [other, swapped] {
            assert_eq!(documents.proven(None, key, &checked).unwrap().doubts, [NotBelieved::End]);
        }
    }

    #[test]
    fn a_report_is_its_servers_of_this_instance_and_of_just_now() {
        let it = pair();
        let report = it.report();
        let read = ReceivedReport::parse(report.sign(&it.provider)).unwrap();
        assert_eq!(read.report(), &report);
        assert_eq!(ReceivedReport::from_bytes(&read.to_bytes()).unwrap().report(), &report);
        let verify = |key: &SigningKey, instance: &str, now| read.verify(key.public(), &instance.parse().unwrap(), now);
        assert!(verify(&it.provider, "VN", NOW.plus(COMMAND_WINDOW)).is_ok());
        assert!(matches!(verify(&it.consumer, "VN", NOW), Err(Malformed::Signature(_))));
        assert!(matches!(verify(&it.provider, "LA", NOW), Err(Malformed::OtherInstance { .. })));
        let late = NOW.plus(COMMAND_WINDOW + Duration::from_millis(1));
        assert!(matches!(verify(&it.provider, "VN", late), Err(Malformed::Time(_))));
        let other = GrantsReport { time: NOW.plus(Duration::from_millis(1)), ..report }.sign(&it.provider);
        let swapped = wire::SignedReport { report: other.report, ..it.report().sign(&it.provider) };
        let swapped = ReceivedReport::parse(swapped).unwrap();
        assert!(swapped.verify(it.provider.public(), &"VN".parse().unwrap(), NOW).is_err());
    }

    #[test]
    fn a_report_has_each_grant_once_under_its_own_name_and_not_too_many() {
        let it = pair();
        let named = |number: usize| Reported {
            name: Digest::of(&[&number.to_be_bytes()]),
            documents: None,
            ..it.report().grants[0].clone()
        };
        let parse = |mut grants: Vec<Reported>, sorted: bool| {
            if sorted {
                grants.sort_by_key(|grant| grant.name);
            }
            ReceivedReport::parse(GrantsReport { grants, ..it.report() }.sign(&it.provider)).map(drop)
        };
        assert!(parse((0..MAX_REPORTED).map(named).collect(), true).is_ok());
        assert!(parse((0..=MAX_REPORTED).map(named).collect(), true).is_err());
        assert!(parse(vec![named(1), named(1)], true).is_err());
        let mut backwards = vec![named(1), named(2)];
        backwards.sort_by_key(|grant| std::cmp::Reverse(grant.name));
        assert!(parse(backwards, false).is_err());
        assert!(parse(vec![Reported { documents: Some(it.documents.clone()), ..named(1) }], true).is_err());
    }

    #[test]
    fn a_party_is_a_member_with_all_that_it_has_or_one_subsystem() {
        let subsystem: SubsystemId = "VN/GOV/moj/civil-registry".parse().unwrap();
        for (party, is) in [
            ("VN/GOV/moj", true),
            ("VN/GOV/moj/civil-registry", true),
            ("VN/GOV/portal", false),
            ("VN/GOV/moj/other", false),
        ] {
            let read: Party = party.parse().unwrap();
            assert_eq!((read.is(&subsystem), read.to_string().as_str()), (is, party));
        }
        assert!("VN/GOV".parse::<Party>().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ReceivedReport::from_bytes(&bytes);
            let key = Bytes::from_static(&[0; 32]);
            let _ = ReceivedReport::parse(wire::SignedReport { report: bytes.into(), key, signature: Bytes::new() });
        }
    }
}
