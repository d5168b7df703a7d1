//! Whether the registry shows its peers the configuration that it shows this server (PROTOCOL.md 8.5). A message that names
//! another digest of a version that was in force here makes its sender a suspect of having been shown another history; it is
//! asked for its checkpoints, in the background, and two signed ones that contradict each other are the proof.
//!
//! Nothing is refused here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use proto::digest::Digest;
use proto::global_configuration::ledger::LostTail;
use proto::identifier::ServerId;
use proto::time::Time;

use super::{Raised, Witness, cry};
use crate::audit::{Alarm, Finding};

/// Peers that wait to be asked for their checkpoints. One more is asked when it names another digest again.
pub const SUSPECTS: usize = 64;
/// Where a split view was seen: no exchange brought the checkpoints.
const ASKED: &str = "asked";

impl Witness {
    /// A message of this server names another digest of this version than the one that was in force here.
    pub fn names_another(&self, server: &ServerId, version: u64) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.len() < SUSPECTS || suspects.contains_key(server) {
            suspects.insert(server.clone(), version);
        }
        drop(suspects);
        self.suspected.notify_one();
    }

    /// Waits until there is a suspect, and gives all of them, each with the version of which it said something else.
    pub(crate) async fn suspects(&self) -> BTreeMap<ServerId, u64> {
        loop {
            let suspects = std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner));
            if !suspects.is_empty() {
                return suspects;
            }
            self.suspected.notified().await;
        }
    }

    /// The servers whose messages were seen, so many at the most, from the one on that comes after the last that was compared.
    pub(crate) fn next_to_compare(&self, most: usize) -> Vec<ServerId> {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let servers: BTreeSet<ServerId> = owners.keys().filter_map(|owner| owner.server.parse().ok()).collect();
        drop(owners);
        let last = self.last_compared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_later = |server: &&ServerId| last.as_ref().is_none_or(|last| *server > last);
        let (later, earlier): (Vec<_>, Vec<_>) = servers.iter().partition(is_later);
        later.into_iter().chain(earlier).take(most).cloned().collect()
    }

    /// The next round goes on after this one.
    pub(crate) fn compared_with(&self, server: &ServerId) {
        *self.last_compared.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.clone());
    }

    /// Whether two histories were found that these keys signed.
    pub fn knows_a_split_by(&self, signers: &Digest) -> bool {
        let (told, from) = (self.told.lock().unwrap_or_else(PoisonError::into_inner), format!("{signers}@"));
        told.range(from.clone()..).next().is_some_and(|first| first.starts_with(&from))
    }

    /// The registry gave up its ledger before what was held of it.
    pub(crate) fn lost_end(&self, here: &ServerId, version: u64, held: String, tail: LostTail, now: Time) {
        let LostTail { ledger, ended, held: leaves } = tail;
        let finding = Finding::LostEnd { ledger: ledger.to_string(), ended, held: leaves, checkpoint: held };
        self.note_of(here, finding, version, None, now);
    }

    /// A peer has a signed checkpoint that contradicts ours, or the registry showed it to this server. Told once of each peer and
    /// keys, with the proof.
    pub(crate) fn split_view(&self, peer: &ServerId, split: Split, evidence: String, now: Time) {
        let Split { signers, version, checkpoints } = split;
        let of = format!("{signers}@{peer}");
        if !self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(of.clone()) {
            return;
        }
        let finding = Finding::SplitView { of: of.clone(), version, checkpoints };
        if !self.note_of(peer, finding, version, Some(evidence), now) {
            // What is not noted is found again.
            self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&of);
        }
    }

    /// Says it, and queues it for the audit log.
    fn note_of(&self, server: &ServerId, finding: Finding, version: u64, evidence: Option<String>, now: Time) -> bool {
        let (member, server) = (server.owner().to_string(), server.to_string());
        let held_in = format!("version {version}");
        metrics::counter!("causeway_peer_log_alarms_total", "finding" => finding.word()).increment(1);
        cry(&finding, &member, &server, &held_in, ASKED);
        let (at, seen_in) = (now.as_millis(), ASKED.to_owned());
        let alarm = Alarm { at, member, server, finding, held_in, seen_in, evidence };
        let queued = self.alarms.try_send(Raised { alarm, contradiction: None }).is_ok();
        if !queued {
            tracing::error!("what the registry shows could not be noted in the audit log: too many alarms wait");
        }
        queued
    }
}

/// Two checkpoints that contradict each other.
pub(crate) struct Split {
    /// The keys that signed both, by the name of all of them.
    pub signers: Digest,
    /// The version of which two things were said.
    pub version: u64,
    /// Ours, and the peer's, as they were signed.
    pub checkpoints: [String; 2],
}

#[cfg(test)]
mod tests {
    use super::super::{ALARMS_WAITING, LogOwner, Owned};
    use super::*;

    fn peer(at: usize) -> ServerId {
        format!("VN/GOV/m{at:04}/ss1").parse().unwrap()
    }

    fn found(witness: &Witness, at: usize, signers: &[u8]) {
        let split = Split { signers: Digest::of(&[signers]), version: 7, checkpoints: ["a".into(), "b".into()] };
        witness.split_view(&peer(at), split, "proof".into(), Time::from_millis(1));
    }

    #[test]
    fn a_split_is_told_once_of_each_peer_and_stands_until_other_keys_sign() {
        let (witness, mut alarms) = Witness::of(Vec::new(), BTreeSet::new());
        (0..3).for_each(|_| found(&witness, 1, b"keys"));
        assert!(alarms.try_recv().is_ok() && alarms.try_recv().is_err());
        assert!(witness.knows_a_split_by(&Digest::of(&[b"keys"])), "whatever ledger is begun meanwhile");
        assert!(!witness.knows_a_split_by(&Digest::of(&[b"new keys"])));
        found(&witness, 1, b"new keys");
        assert!(alarms.try_recv().is_ok(), "the new keys did it again");
    }

    #[test]
    fn what_could_not_be_queued_is_found_again() {
        let (witness, mut alarms) = Witness::of(Vec::new(), BTreeSet::new());
        (0..=ALARMS_WAITING).for_each(|at| found(&witness, at, b"keys"));
        let told: Vec<Raised> = std::iter::from_fn(|| alarms.try_recv().ok()).collect();
        assert_eq!(told.len(), ALARMS_WAITING);
        (0..=ALARMS_WAITING).for_each(|at| found(&witness, at, b"keys"));
        assert_eq!(alarms.try_recv().unwrap().alarm.server, peer(ALARMS_WAITING).to_string());
        assert!(alarms.try_recv().is_err());
    }

    #[test]
    fn each_round_goes_on_after_the_last_so_that_all_have_their_turn() {
        let (witness, _alarms) = Witness::of(Vec::new(), BTreeSet::new());
        for at in 0..5 {
            let (member, server) = (peer(at).owner().to_string(), peer(at).to_string());
            witness.owners.lock().unwrap().insert(LogOwner { member, server }, Owned::of(Vec::new()));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            let next = witness.next_to_compare(2);
            next.iter().for_each(|peer| witness.compared_with(peer));
            seen.extend(next);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 0, 1, 2].map(peer));
    }
}
