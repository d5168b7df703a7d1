//! The way of one exchange: what both of its directions share. The line to the peer, our own system, why it stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use journal::TreeIndex;
use proto::digest::Digest;
use proto::identifier::ExchangeId;
use proto::message::{Cause, Opening, Route};
use proto::refusal::{Code, Speaker};
use proto::signature::KeyId;
use proto::time::Time;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::access_rights::Grant;
use crate::forward::OwnSystem;
use crate::payloads::Keeping;
use crate::relay::Line;

/// Shared by both directions of an exchange and by the messages on their way.
#[derive(Clone)]
pub struct Way(Arc<Shared>);

/// See [`Way`].
pub struct Shared {
    /// Which side of the exchange this server is on.
    pub side: Side,
    /// Who asks whom for what.
    pub route: Route,
    /// Its name.
    pub exchange: ExchangeId,
    /// From 1.
    pub attempt: u32,
    /// Why the consumer asks.
    pub why: Opening,
    /// The digest of the request's message 0.
    pub opening: Digest,
    /// Its time.
    pub opened: Time,
    /// Our member's tree in the log.
    pub tree: TreeIndex,
    /// At the provider: the grant that the exchange runs under. None where it is refused.
    pub grant: Option<Arc<Grant>>,
    /// What the payloads of its messages are kept under, where they are.
    pub(crate) keeping: Option<Box<Keeping>>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// To the peer.
    pub(crate) line: Mutex<Line>,
    /// To our own system: the client that asked, or the service.
    pub(crate) own: Mutex<OwnSystem>,
    stop: watch::Sender<Option<Stopped>>,
    handed_on: AtomicU64,
    sealed: AtomicU64,
    unsent: AtomicBool,
    peer_key: OnceLock<KeyId>,
    /// In the order of their first seals: few, because each is registered.
    peer_signing_keys: std::sync::Mutex<Vec<KeyId>>,
}

/// Which side of an exchange a server is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Our own system asks.
    Consumer,
    /// Our own system is asked.
    Provider,
}

/// Why an exchange stopped: for the peer a cause, for our own client perhaps a more telling code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// What the abort says.
    pub cause: Cause,
    /// What our client is told; derived from the cause where there is none.
    pub code: Option<Code>,
    /// Which server says so.
    pub said_by: Speaker,
}

impl From<Cause> for Stop {
    fn from(cause: Cause) -> Self {
        Self { cause, code: None, said_by: Speaker::ConsumerServer }
    }
}

impl Stop {
    /// With what our client is to be told.
    pub fn because(cause: Cause, code: Code) -> Self {
        Self { cause, code: Some(code), said_by: Speaker::ConsumerServer }
    }

    /// This server refuses what the request asks, in the service's place.
    pub fn refused(code: Code) -> Self {
        Self { cause: Cause::Malformed, code: Some(code), said_by: Speaker::ProviderServer }
    }

    /// The provider's server said so, without a seal: there is no answer.
    pub fn refused_by_the_provider(code: Code) -> Self {
        Self { cause: Cause::Unreachable, code: Some(code), said_by: Speaker::ProviderServer }
    }
}

impl std::ops::Deref for Way {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What is known of an exchange when its way is made.
pub(crate) struct Beginning {
    pub side: Side,
    pub route: Route,
    pub exchange: ExchangeId,
    pub attempt: u32,
    pub why: Opening,
    pub opening: Digest,
    pub opened: Time,
    pub tree: TreeIndex,
    pub grant: Option<Arc<Grant>>,
    pub keeping: Option<Box<Keeping>>,
    pub line: Line,
    pub own: OwnSystem,
    pub stop: StopSwitch,
}

/// How long after a stop the last words of both sides are waited for.
pub const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(5);

/// A stop, and since when.
#[derive(Clone, Copy)]
struct Stopped {
    stop: Stop,
    since: Instant,
}

/// Stops an exchange that is perhaps not yet opened: a client can hang up at any time.
#[derive(Clone)]
pub struct StopSwitch(watch::Sender<Option<Stopped>>);

impl Default for StopSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl StopSwitch {
    /// The first cause counts.
    pub fn stop(&self, stop: Stop) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(Stopped { stop, since: Instant::now() });
            }
            first
        });
    }
}

impl Way {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let deadline =
            beginning.why.timeout_ms.and_then(|timeout| Instant::now().checked_add(Duration::from_millis(timeout)));
        Self(Arc::new(Shared {
            side: beginning.side,
            route: beginning.route,
            exchange: beginning.exchange,
            attempt: beginning.attempt,
            why: beginning.why,
            opening: beginning.opening,
            opened: beginning.opened,
            tree: beginning.tree,
            grant: beginning.grant,
            keeping: beginning.keeping,
            deadline,
            line: Mutex::new(beginning.line),
            own: Mutex::new(beginning.own),
            stop: beginning.stop.0,
            handed_on: AtomicU64::new(0),
            sealed: AtomicU64::new(0),
            unsent: AtomicBool::new(false),
            peer_key: OnceLock::new(),
            peer_signing_keys: std::sync::Mutex::default(),
        }))
    }
}

impl Shared {
    /// What stops one direction stops the other: its source yields the end next.
    pub fn stop(&self, cause: impl Into<Stop>) {
        StopSwitch(self.stop.clone()).stop(cause.into());
    }

    /// Why it stopped, if it did.
    pub fn stopped(&self) -> Option<Stop> {
        self.stop.borrow().map(|stopped| stopped.stop)
    }

    /// Waits until it stops.
    pub async fn until_stopped(&self) -> Stop {
        self.stopping().await.stop
    }

    /// Waits until it has been stopped for so long that no last word is waited for any more.
    pub async fn until_given_up(&self) -> Stop {
        let Stopped { stop, since } = self.stopping().await;
        tokio::time::sleep_until(since + LAST_WORD_TIMEOUT).await;
        stop
    }

    async fn stopping(&self) -> Stopped {
        let mut stop = self.stop.subscribe();
        let stopped = stop.wait_for(Option::is_some).await.map(|stopped| *stopped);
        match stopped {
            Ok(Some(stopped)) => stopped,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The key of the connection to the peer, and the keys that have signed its messages: what `still` asks the
    /// configuration about. Known from the first message on that shows them.
    pub fn peer_keys(&self) -> (Option<&KeyId>, Vec<KeyId>) {
        let signing = self.peer_signing_keys.lock().unwrap_or_else(PoisonError::into_inner);
        (self.peer_key.get(), signing.clone())
    }

    pub(crate) fn note_peer_key(&self, key: KeyId) {
        // Set once: an exchange has one connection.
        let _ = self.peer_key.set(key);
    }

    pub(crate) fn note_peer_signing_key(&self, key: Option<KeyId>) {
        let Some(key) = key else { return };
        let mut keys = self.peer_signing_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.last() != Some(&key) && !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// How many request messages the service has been handed.
    pub fn handed_on(&self) -> u64 {
        self.handed_on.load(Ordering::Acquire)
    }

    pub(crate) fn note_handed_on(&self, messages: u64) {
        self.handed_on.fetch_add(messages, Ordering::AcqRel);
    }

    /// The service turned out not to be there.
    pub(crate) fn note_nothing_handed_on(&self) {
        self.handed_on.store(0, Ordering::Release);
    }

    /// Whether it turned out that no byte of our request left, though a connection was given it.
    pub fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Acquire)
    }

    pub(crate) fn note_unsent(&self) {
        self.unsent.store(true, Ordering::Release);
    }

    /// How many messages of ours were sealed.
    pub fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn note_sealed(&self) {
        self.sealed.fetch_add(1, Ordering::AcqRel);
    }

    /// Milliseconds until the deadline, at least 1: what the next hop is told.
    pub fn remaining_ms(&self) -> Option<u64> {
        self.deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
        })
    }
}
