//! Timestamps over our logs' heads (PROTOCOL.md 16), once a minute and never on the message path. The approved authorities are
//! asked in the order of the global configuration until one gives a token that holds; it is kept in the log.
//!
//! No outage of theirs holds up a message before it has lasted for as long as is tolerated. Since when it lasts is in the log:
//! what is exchanged and under no stamped head is as old as it is, whatever was restarted meanwhile.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::digest::Digest;
use proto::global_configuration::TimestampingAuthority;
use proto::head::Head;
use proto::signature::KeyId;
use proto::time::Time;
use proto::timestamp::Stamped;
use registry_client::timestamping::token;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::global_configuration::Registry;
use crate::message_log::OpenError;

/// How often heads are stamped.
pub const STAMP_INTERVAL: Duration = Duration::from_secs(60);
/// After this long without a token there is an alarm.
pub const ALARM_AFTER: Duration = Duration::from_secs(600);

/// For how long messages may be exchanged while nothing is stamped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToleratedOutage(Duration);

impl ToleratedOutage {
    /// If nothing else was said, in hours.
    pub const HOURS: u32 = 72;
    /// Fewest hours.
    pub const LEAST_HOURS: u32 = 1;
    /// Most hours: 30 days. It cannot be turned off.
    pub const MOST_HOURS: u32 = 720;

    /// Between [`ToleratedOutage::LEAST_HOURS`] and [`ToleratedOutage::MOST_HOURS`].
    pub fn of_hours(hours: u32) -> Option<Self> {
        let within = (Self::LEAST_HOURS..=Self::MOST_HOURS).contains(&hours);
        within.then(|| Self(Duration::from_secs(3600 * u64::from(hours))))
    }
}

impl Default for ToleratedOutage {
    fn default() -> Self {
        Self::of_hours(Self::HOURS).expect("it is within the bounds")
    }
}

impl fmt::Display for ToleratedOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hours", self.0.as_secs() / 3600)
    }
}

/// What is known of our logs' timestamps.
pub(crate) struct Stamping {
    tolerated: ToleratedOutage,
    registry: Option<Registry>,
    /// Since when something exchanged is not stamped, in milliseconds; the greatest number: nothing is.
    since: AtomicU64,
    failing: Mutex<Option<String>>,
}

const NOTHING: u64 = u64::MAX;

impl Stamping {
    pub fn new(tolerated: ToleratedOutage, registry: Option<Registry>) -> Self {
        Self { tolerated, registry, since: AtomicU64::new(NOTHING), failing: Mutex::default() }
    }

    /// Since when something waits for its timestamp.
    pub fn since(&self) -> Option<Time> {
        let since = self.since.load(Ordering::Relaxed);
        (since != NOTHING).then(|| Time::from_millis(since))
    }

    /// For how long by now.
    fn waits(&self, now: Time) -> Duration {
        self.since().filter(|since| *since < now).map_or(Duration::ZERO, |since| now.distance(since))
    }

    /// Whether somebody should be told.
    pub fn is_late(&self, now: Time) -> bool {
        self.waits(now) > ALARM_AFTER
    }

    /// Whether it lasts longer than is tolerated.
    pub fn is_overdue(&self, now: Time) -> bool {
        self.waits(now) > self.tolerated.0
    }

    /// Why no token came the last time.
    pub fn failing(&self) -> Option<String> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, since: Option<Time>, failing: Option<String>) {
        self.since.store(since.map_or(NOTHING, Time::as_millis), Ordering::Relaxed);
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }
}

/// Stamps again and again, until the last.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    loop {
        tokio::select! {
            () = last.cancelled() => return,
            () = tokio::time::sleep(STAMP_INTERVAL) => {}
        }
        tokio::select! {
            () = last.cancelled() => return,
            stamped = server.stamp_the_heads() => if let Err(error) = stamped {
                tracing::error!(%error, "the message log's heads are not stamped");
            }
        }
    }
}

/// Why heads were not stamped: nothing to do with the authorities.
#[derive(Debug, thiserror::Error)]
pub enum NotStamped {
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A task.
    #[error("it ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl SecurityServer {
    /// Looks since when something waits for its timestamp, before anybody is let in. Blocks on the disk.
    pub fn look_at_the_stamps(&self) -> Result<(), OpenError> {
        let approves = !self.configuration.load().timestamping.is_empty();
        let waiting = self.message_log.unstamped()?;
        let since = waiting.iter().map(|head| head.since).min().filter(|_| approves);
        let failing = self.stamping.failing().filter(|_| since.is_some());
        self.stamping.note(since, failing);
        let seconds = self.stamping.waits(self.clock.now()).as_secs_f64();
        metrics::gauge!("causeway_log_unstamped_seconds", "server" => self.id.to_string()).set(seconds);
        Ok(())
    }

    /// Has every head stamped under which something waits for it. Returns how many were.
    pub async fn stamp_the_heads(self: &Arc<Self>) -> Result<usize, NotStamped> {
        let looking = Arc::clone(self);
        let waiting = tokio::task::spawn_blocking(move || {
            looking.message_log.catch_up()?;
            looking.message_log.unstamped()
        });
        let (waiting, mut stamped, mut failing) = (waiting.await??, 0, None);
        let approved = self.configuration.load().timestamping.clone();
        for waiting in waiting.into_iter().filter(|_| !approved.is_empty()) {
            let Some(head) = waiting.head else { continue };
            match self.stamped(&head, &approved).await {
                Ok((token, said)) => {
                    tracing::debug!(tree = %head.tree, size = head.size, authority = said.authority, "a head is stamped");
                    self.message_log.keep_stamp(&waiting.member, &head, token).await.map_err(OpenError::from)?;
                    stamped += 1;
                }
                // The others would fare no better.
                Err(why) => {
                    metrics::counter!("causeway_log_not_stamped_total", "server" => self.id.to_string()).increment(1);
                    tracing::warn!(why, "no timestamping authority stamps the message log's head; trying again");
                    failing = Some(why);
                    break;
                }
            }
        }
        *self.stamping.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
        let looking = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            looking.message_log.catch_up()?;
            looking.look_at_the_stamps()
        });
        looked.await??;
        Ok(stamped)
    }

    /// A token over a head, of the first approved authority that gives one that holds; or why none does.
    async fn stamped(&self, head: &Head, approved: &[TimestampingAuthority]) -> Result<(Bytes, Stamped), String> {
        let imprint = Digest::of(&[head.to_text().as_bytes()]);
        let registry = self.stamping.registry.as_ref().map(|registry| (&registry.address, registry.key));
        let is_revoked = |key: &KeyId| self.configuration.load().revoked.contains(key);
        let mut failed = Vec::new();
        for authority in approved {
            match token(authority, imprint, registry, &is_revoked, &|| self.clock.now()).await {
                Ok(given) => return Ok(given),
                Err(error) => failed.push(format!("{}: {error}", authority.approved.name)),
            }
        }
        Err(failed.join("; "))
    }
}
