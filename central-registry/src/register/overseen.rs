//! What providers told of their grants (PROTOCOL.md 20), and who may tell it. Nothing is allowed or refused by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::access::{Grant, GrantEnd};
use proto::digest::Digest;
use proto::identifier::{MemberId, ServerId, SubsystemId};
use proto::oversight::{Checked, Day, Documents, NotBelieved, Proven, ReceivedReport, Reported, Signature};
use proto::registration::{COMMAND_WINDOW, MAX_TEXT_BYTES};
use proto::signature::{KeyId, PublicKey};
use proto::time::Time;
use serde::{Deserialize, Serialize};

use super::{Hex, KeyUse, Refused, Register};

/// Most grants of one provider's member that are known.
pub const MAX_GRANTS_OF_PROVIDER: usize = 10_000;
/// Most bytes of texts in them: several times what so many grants have.
pub const MAX_GRANT_BYTES_OF_PROVIDER: usize = 32 * 1024 * 1024;
/// For so long a grant is known after its own time is over.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);

/// A grant that its provider signed, and goes by or went by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overseen {
    /// What the document says.
    pub grant: Grant,
    /// Where it was made.
    pub server: ServerId,
    /// When the registry was told of it first, in milliseconds since 1970.
    pub told: u64,
    /// That it was ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedGrant>,
    /// Whether its consumer countersigned it.
    pub countersigned: bool,
    /// When it was used last, as far as any server told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Day>,
}

/// When a grant was ended, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedGrant {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Why.
    pub reason: String,
}

/// What a report comes to in the register as it is. Only [`Register::judged_report`] makes one.
#[derive(Debug)]
pub(crate) struct JudgedReport {
    /// Grants of which documents are wanted.
    pub lacks: Vec<Digest>,
    /// What is not taken.
    pub not_believed: Vec<(Digest, NotBelieved)>,
    /// What of it is new, as it will be known.
    new: BTreeMap<Hex, Overseen>,
}

impl JudgedReport {
    pub fn adds_nothing(&self) -> bool {
        self.new.is_empty()
    }

    /// What nothing is known of yet.
    fn unknown<'j>(&'j self, register: &'j Register) -> impl Iterator<Item = &'j Overseen> {
        self.new.iter().filter(|(name, _)| !register.overseen.contains_key(*name)).map(|(_, overseen)| overseen)
    }
}

/// Whether more is told of a grant than what is known.
fn is_wanted(known: Option<&Overseen>, told: &Reported) -> bool {
    known.is_none_or(|known| (told.ended && known.ended.is_none()) || (told.countersigned && !known.countersigned))
}

/// Reads the report of an event.
pub(crate) fn reported(report: &str) -> Result<ReceivedReport, Refused> {
    Ok(ReceivedReport::from_bytes(&STANDARD.decode(report).map_err(|_| Refused::OutOfPlace)?)?)
}

impl Overseen {
    fn of(proven: &Proven, told: Time) -> Self {
        let (grant, server) = (proven.grant.clone(), proven.server.clone());
        Self { grant, server, told: told.as_millis(), ended: None, countersigned: false, last_used: None }
    }

    /// How much is kept for it, at the least.
    fn bytes(&self) -> usize {
        self.grant.text_bytes() + self.ended.as_ref().map_or(0, |ended| ended.reason.len())
    }

    /// With what is told now. What was ended or countersigned stays so, and the last day of use is the last one that anybody told.
    fn and(&self, proven: Option<&Proven>, last_used: Option<Day>) -> Self {
        let ended = proven.and_then(|proven| proven.end.as_ref()).map(EndedGrant::of);
        let countersigned = proven.is_some_and(|proven| proven.acceptance.is_some());
        Self {
            ended: self.ended.clone().or(ended),
            countersigned: self.countersigned || countersigned,
            last_used: self.last_used.max(last_used),
            ..self.clone()
        }
    }
}

impl EndedGrant {
    fn of(end: &GrantEnd) -> Self {
        // Servers of before took any reason. Of a longer one it is shown that there was more.
        let kept = end.reason.floor_char_boundary(MAX_TEXT_BYTES + '\u{10ffff}'.len_utf8());
        Self { at: end.time.as_millis(), reason: end.reason[..kept].to_owned() }
    }
}

impl Register {
    /// What is known of grants.
    pub fn overseen(&self) -> impl Iterator<Item = (Digest, &Overseen)> {
        self.overseen.iter().map(|(name, overseen)| (name.0, overseen))
    }

    /// Whether its server signed this report just now (PROTOCOL.md 20.1).
    pub(crate) fn is_the_servers(&self, received: &ReceivedReport, now: Time) -> Result<(), Refused> {
        let server = &received.report().server;
        let for_what = KeyUse::Signing { member: server.owner(), server: server.clone() };
        let key = self.asks_with(&for_what, received.key(), now)?;
        let instance = self.instance().ok_or(Refused::OutOfPlace)?;
        Ok(received.verify(&key, &instance.instance, now)?)
    }

    /// The signatures that judging the report asks for, so that they are checked before, and by nobody who holds the desk.
    pub(crate) fn signatures(&self, received: &ReceivedReport) -> Vec<Signature> {
        let of_one = |told: &Reported| {
            let known = self.overseen.get(&Hex(told.name));
            let key = |member: &MemberId, at: &ServerId, key| self.was_key(member, at, key);
            let signatures = |documents: &Documents| documents.signatures(known.map(|known| &known.grant), key);
            told.documents.as_ref().filter(|_| is_wanted(known, told)).map(signatures).unwrap_or_default()
        };
        received.report().grants.iter().flat_map(of_one).collect()
    }

    /// What the report comes to, grant by grant (PROTOCOL.md 20.3).
    pub(crate) fn judged_report(
        &self,
        received: &ReceivedReport,
        now: Time,
        checked: &Checked,
    ) -> Result<JudgedReport, Refused> {
        self.is_the_servers(received, now)?;
        let report = received.report();
        let mut judged = JudgedReport { lacks: Vec::new(), not_believed: Vec::new(), new: BTreeMap::new() };
        for each in &report.grants {
            if let Err(why) = self.judge(&report.server, each, now, checked, &mut judged) {
                judged.not_believed.push((each.name, why));
            }
        }
        self.has_room_for(&judged)?;
        Ok(judged)
    }

    fn judge(
        &self,
        server: &ServerId,
        told: &Reported,
        now: Time,
        checked: &Checked,
        judged: &mut JudgedReport,
    ) -> Result<(), NotBelieved> {
        let known = self.overseen.get(&Hex(told.name));
        let wanted = is_wanted(known, told);
        let proven = match &told.documents {
            // What is known already is not read again.
            Some(documents) if wanted => {
                let key = |member: &MemberId, at: &ServerId, key| self.was_key(member, at, key);
                Some(documents.proven(known.map(|known| &known.grant), key, checked)?)
            }
            _ => None,
        };
        let before = known.cloned().or_else(|| proven.as_ref().map(|proven| Overseen::of(proven, now)));
        let Some(before) = before else {
            judged.lacks.push(told.name);
            return Ok(());
        };
        if !self.hosts(server, &before.grant.provider) {
            return Err(NotBelieved::NotHosted);
        }
        if known.is_none() && before.grant.valid_until <= now.as_millis() {
            return Err(NotBelieved::Over);
        }
        if told.last_used.is_some_and(|day| day > Day::of(now.plus(COMMAND_WINDOW))) {
            return Err(NotBelieved::ToCome);
        }
        if wanted && proven.is_none() {
            judged.lacks.push(told.name);
        }
        let doubts = proven.iter().flat_map(|proven| &proven.doubts);
        judged.not_believed.extend(doubts.map(|doubt| (told.name, *doubt)));
        let after = before.and(proven.as_ref(), told.last_used);
        if known != Some(&after) {
            judged.new.insert(Hex(told.name), after);
        }
        Ok(())
    }

    fn has_room_for(&self, judged: &JudgedReport) -> Result<(), Refused> {
        let mut more: BTreeMap<MemberId, usize> = BTreeMap::new();
        for overseen in judged.unknown(self) {
            *more.entry(overseen.grant.provider.member()).or_default() += 1;
        }
        for (member, more) in more {
            let there = self.overseen.values().filter(|known| known.grant.provider.member() == member).count();
            if there + more > MAX_GRANTS_OF_PROVIDER {
                return Err(Refused::Limit { what: "grants of one member", limit: MAX_GRANTS_OF_PROVIDER });
            }
        }
        Ok(())
    }

    /// Whether the texts of what is new have room beside their member's others. It is asked before a report is recorded, and of no
    /// journal: what was taken once is taken again.
    pub(crate) fn has_room_for_texts(&self, judged: &JudgedReport) -> Result<(), Refused> {
        let of_member = |member: &MemberId| {
            let others = self.overseen.iter().filter(|(name, _)| !judged.new.contains_key(*name));
            let all = others.chain(&judged.new).map(|(_, overseen)| overseen);
            all.filter(|overseen| overseen.grant.provider.member() == *member).map(Overseen::bytes).sum::<usize>()
        };
        let members: BTreeSet<MemberId> =
            judged.unknown(self).map(|overseen| overseen.grant.provider.member()).collect();
        let limit = MAX_GRANT_BYTES_OF_PROVIDER;
        if members.iter().any(|member| of_member(member) > limit) {
            return Err(Refused::Limit { what: "bytes of one member's grants", limit });
        }
        Ok(())
    }

    fn hosts(&self, server: &ServerId, subsystem: &SubsystemId) -> bool {
        self.subsystem(subsystem).is_ok_and(|listed| listed.servers.contains(server))
    }

    /// The member's key of this name at this server, whatever became of it since.
    fn was_key(&self, member: &MemberId, server: &ServerId, key: KeyId) -> Option<PublicKey> {
        let for_what = KeyUse::Signing { member: member.clone(), server: server.clone() };
        let read = self.listed(&for_what).filter_map(|(der, _)| for_what.read(der).ok());
        read.map(|(public, _)| public).find(|public| public.id() == key)
    }

    /// Takes the report in. What is over for long is known no more.
    pub(super) fn oversee(&mut self, report: &str, at: u64, checked: &Checked) {
        let now = Time::from_millis(at);
        let judged = reported(report).and_then(|received| self.judged_report(&received, now, checked));
        self.overseen.retain(|_, known| Time::from_millis(known.grant.valid_until).plus(REMEMBERED) > now);
        self.overseen.extend(judged.map(|judged| judged.new).unwrap_or_default());
    }

    /// Of a provider that is gone nothing is known.
    pub(super) fn oversee_no_more(&mut self, gone: impl Fn(&SubsystemId) -> bool) {
        self.overseen.retain(|_, known| !gone(&known.grant.provider));
    }
}

#[cfg(test)]
mod tests {
    use proto::access::GrantNumber;

    use super::*;

    fn overseen(member: &str, text: usize) -> Overseen {
        let grant = Grant {
            number: GrantNumber(1),
            consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
            provider: format!("{member}/data").parse().unwrap(),
            methods: Default::default(),
            purposes: Default::default(),
            legal_basis: "x".repeat(text),
            valid_from: 0,
            valid_until: 1,
            per_second: None,
            priority: Default::default(),
            request: None,
            fields: Default::default(),
        };
        let server = format!("{member}/ss1").parse().unwrap();
        Overseen { grant, server, told: 0, ended: None, countersigned: false, last_used: None }
    }

    fn judged(member: &str, name: u8, text: usize) -> JudgedReport {
        let new = BTreeMap::from([(Hex(Digest::of(&[&[name]])), overseen(member, text))]);
        JudgedReport { lacks: Vec::new(), not_believed: Vec::new(), new }
    }

    #[test]
    fn the_texts_of_one_members_grants_have_so_much_room_and_no_other_members_has_less_for_it() {
        const HALF: usize = MAX_GRANT_BYTES_OF_PROVIDER / 2;
        let mut register = Register::default();
        register.overseen.extend(judged("VN/GOV/moj", 1, HALF).new);
        assert!(register.has_room_for_texts(&judged("VN/GOV/moj", 2, HALF)).is_ok());
        let refused = register.has_room_for_texts(&judged("VN/GOV/moj", 2, HALF + 1)).unwrap_err();
        assert!(refused.to_string().contains("bytes of one member's grants"), "{refused}");
        assert!(register.has_room_for_texts(&judged("VN/GOV/portal", 2, HALF + 1)).is_ok());
        // What is known already is ended, though there is no room for more.
        register.overseen.extend(judged("VN/GOV/moj", 2, 2 * HALF).new);
        assert!(register.has_room_for_texts(&judged("VN/GOV/moj", 1, HALF)).is_ok());
    }

    #[test]
    fn of_a_reason_so_much_is_kept_that_its_length_is_seen() {
        let end = |reason: &str| GrantEnd {
            grant: Digest::of(&[b"a grant"]),
            server: "VN/GOV/moj/ss1".parse().unwrap(),
            time: Time::from_millis(1),
            reason: reason.to_owned(),
        };
        assert_eq!(EndedGrant::of(&end("the law changed")).reason, "the law changed");
        let kept = EndedGrant::of(&end(&"Đ".repeat(60_000))).reason;
        assert!((MAX_TEXT_BYTES + 1..=MAX_TEXT_BYTES + 4).contains(&kept.len()), "{}", kept.len());
    }
}
