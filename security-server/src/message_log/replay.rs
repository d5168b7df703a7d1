//! The replay window: which openings were seen. It survives a restart, because it is read back from the log.

use std::collections::{BTreeMap, HashSet};

use proto::identifier::ExchangeId;
use proto::refusal::Code;
use proto::time::Time;
use proto::transport::MAX_SKEW;

use crate::refusal::BareRefusal;

/// Openings whose time a fresh request could still bear.
#[derive(Default)]
pub(super) struct Seen {
    openings: HashSet<(ExchangeId, u32)>,
    by_time: BTreeMap<Time, Vec<(ExchangeId, u32)>>,
    /// Openings of this time or an earlier one may have been seen by the log that was lost.
    lost: Option<Time>,
}

impl Seen {
    pub(super) fn of(openings: Vec<(ExchangeId, u32, Time)>) -> Self {
        let mut seen = Self::default();
        for (exchange, attempt, time) in openings {
            seen.insert((exchange, attempt), time);
        }
        seen
    }

    /// The log was put back from a backup, and this server started with it at this time. What was seen before is not
    /// known, and bore a time of at most a minute later. Without openings of that time there is nothing to replay.
    pub(super) fn lost_until(&mut self, restored: Time) {
        self.lost = Some(restored.plus(MAX_SKEW));
    }

    /// Up to which time openings are refused because the log that held them was lost.
    pub(super) fn is_lost_until(&self) -> Option<Time> {
        self.lost
    }

    /// Notes an opening of this time. Forgets those that are no longer fresh: their time alone refuses them.
    pub(super) fn note(&mut self, opening: (ExchangeId, u32), time: Time, now: Time) -> Result<(), BareRefusal> {
        // Twice the window: another thread may have been judged earlier, and waited for the lock.
        let oldest = now.minus(2 * MAX_SKEW);
        while let Some(entry) = self.by_time.first_entry().filter(|entry| *entry.key() < oldest) {
            for old in entry.remove() {
                self.openings.remove(&old);
            }
        }
        if self.openings.contains(&opening) {
            return Err(BareRefusal::new(
                Code::Replayed,
                format!("exchange {} attempt {} was seen", opening.0, opening.1),
            ));
        }
        if let Some(lost) = self.lost.filter(|lost| time <= *lost) {
            return Err(BareRefusal::new(
                Code::NotReady,
                format!(
                    "this server was put back from a backup: openings up to {lost} may be replays, this one is of {time}"
                ),
            ));
        }
        self.insert(opening, time);
        Ok(())
    }

    /// Notes an opening that was forgotten by a clock that was wrong.
    pub(super) fn remember(&mut self, opening: (ExchangeId, u32), time: Time) {
        self.insert(opening, time);
    }

    fn insert(&mut self, opening: (ExchangeId, u32), time: Time) {
        if self.openings.insert(opening) {
            self.by_time.entry(time).or_default().push(opening);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lost_log_may_have_seen_is_refused_and_nothing_later() {
        let restored = Time::from_millis(1_000_000);
        let mut seen = Seen::default();
        seen.lost_until(restored);
        let mut note = |byte, time: Time, now| seen.note((ExchangeId::from_bytes([byte; 16]), 1), time, now);
        assert!(note(1, restored, restored).is_err());
        // Accepted just before the loss, from a peer whose clock was as far ahead as it may be.
        assert!(note(2, restored.plus(MAX_SKEW), restored.plus(MAX_SKEW)).is_err());
        assert!(note(3, restored.plus(MAX_SKEW).plus(std::time::Duration::from_millis(1)), restored).is_ok());
    }

    #[test]
    fn an_opening_is_seen_as_long_as_it_is_fresh() {
        let (opening, at) = ((ExchangeId::from_bytes([1; 16]), 1), Time::from_millis(1_000_000));
        let mut seen = Seen::default();
        assert!(seen.note(opening, at, at).is_ok());
        assert!(seen.note(opening, at, at.plus(MAX_SKEW)).is_err(), "still fresh, so still remembered");
        assert!(seen.note((opening.0, 2), at, at).is_ok(), "another attempt is another message");
        let mut again = Seen::of(vec![(opening.0, opening.1, at)]);
        assert!(again.note(opening, at, at).is_err(), "a restart forgets nothing");
        assert!(again.note((ExchangeId::from_bytes([2; 16]), 1), at, at.plus(3 * MAX_SKEW)).is_ok());
        assert!(again.openings.len() == 1, "what its time refuses is forgotten");
    }
}
