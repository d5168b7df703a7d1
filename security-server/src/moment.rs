//! Clock and configuration, read together, once per message. A moment is never a value of its own: it comes with the
//! message that it judges, so it cannot judge another.

use std::sync::Arc;

use proto::global_configuration::{Configuration, Freshness};
use proto::time::Time;

use crate::SecurityServer;

/// A message and the moment that it is judged by. Only [`SecurityServer::judged`] makes one. Judging never fails: an
/// expired configuration is a moment too, at which no check passes but an end can still be sealed.
#[must_use]
pub struct Judged<T> {
    message: T,
    moment: Moment,
}

/// Clock and configuration of one message. Private to this module but for reading.
#[derive(Clone)]
pub(crate) struct Moment {
    now: Time,
    configuration: Arc<Configuration>,
    freshness: Freshness,
}

/// The configuration is past its validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired(());

/// What a door or a half takes in: nothing that was judged already.
pub trait FromOutside {}
impl FromOutside for crate::listen::Call {}
impl FromOutside for crate::listen::ClaimedOpening {}
impl FromOutside for crate::message_log::Handed<'_> {}
impl FromOutside for crate::message_log::Claimed<'_> {}

impl SecurityServer {
    pub(crate) fn moment(&self) -> Moment {
        let (now, configuration) = (self.now(), self.configuration.load());
        let freshness = self.configuration.freshness(&configuration, now);
        Moment { now, configuration, freshness }
    }

    /// How old the configuration is now.
    pub(crate) fn freshness(&self) -> Freshness {
        self.configuration.freshness(&self.configuration.load(), self.now())
    }

    /// The clock, or the last recorded time where that is later.
    fn now(&self) -> Time {
        self.message_log.not_before_last(self.clock.now())
    }

    /// Reads the clock and the configuration for this message. The clock never goes below the last recorded time.
    pub fn judged<T: FromOutside>(&self, message: T) -> Judged<T> {
        Judged { message, moment: self.moment() }
    }
}

impl Moment {
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn in_force(&self) -> Result<&Arc<Configuration>, Expired> {
        match self.freshness {
            Freshness::Expired => Err(Expired(())),
            Freshness::Fresh | Freshness::Stale => Ok(&self.configuration),
        }
    }
}

impl<T> Judged<T> {
    /// What it is judged by.
    pub(crate) fn moment(&self) -> &Moment {
        &self.moment
    }

    /// The message.
    pub fn message(&self) -> &T {
        &self.message
    }

    /// The message, to be filled in by the step that holds it.
    pub(crate) fn message_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The clock of this moment.
    pub fn now(&self) -> Time {
        self.moment.now
    }

    /// The configuration, while it is in force.
    pub fn in_force(&self) -> Result<&Arc<Configuration>, Expired> {
        self.moment.in_force()
    }

    /// The configuration that a header names, in force or not: an end can still be sealed.
    pub fn named_configuration(&self) -> &Configuration {
        &self.moment.configuration
    }

    /// The message, for the log. Its moment ends here.
    pub(crate) fn spent(self) -> T {
        self.message
    }
}
