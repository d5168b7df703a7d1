//! The tide of the global configuration: what is in force now, kept on disk, and followed from the registry,
//! or fetched from a mirror while the registry cannot be followed.
//!
//! An exchange loads [`Current`] once per message and never waits for any of this. A new version goes through
//! [`Store::apply`] only: verified on top of what is trusted, then on disk, then in force, then told to whoever listens.

mod mirror;
mod store;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use proto::global_configuration::ledger::LostTail;
use proto::global_configuration::{Configuration, Freshness};
use proto::time::Time;
use tokio::sync::{Notify, watch as channel};

pub(crate) use mirror::content_of;
pub use mirror::{Mirror, NotAMirror, NotFetched};
pub use store::{Applied, NotApplied, Store, StoreError, Stored};
pub(crate) use watch::jittered;
pub use watch::{LONGEST_SILENCE, Registry, watch};

/// What the registry showed that waits to be judged and noted, at the most: what comes then is shown again.
const DOUBTS: usize = 16;

/// What the registry showed this server, and what is to be judged and noted beside the way of versions.
#[derive(Clone, Debug)]
pub(crate) enum Doubt {
    /// A checkpoint beside a version that was refused.
    Refused(Bytes),
    /// The version that said that the end of the ledger is lost, the checkpoint that was held, and what was lost.
    Lost(u64, Bytes, LostTail),
}

/// The configuration in force. Loading it takes no lock.
#[derive(Debug)]
pub struct Current {
    configuration: ArcSwap<Configuration>,
    versions: channel::Sender<u64>,
    /// The newest version that was seen to be past its validity; 0 before there is one.
    expired: AtomicU64,
    refused: ArcSwapOption<String>,
    doubts: Mutex<Vec<Doubt>>,
    doubted: Notify,
}

impl Current {
    /// With this configuration in force, until [`Store::apply`] has a newer one.
    pub fn new(configuration: Arc<Configuration>) -> Self {
        let versions = channel::Sender::new(configuration.version);
        Current {
            configuration: ArcSwap::new(configuration),
            versions,
            expired: AtomicU64::new(0),
            refused: ArcSwapOption::empty(),
            doubts: Mutex::default(),
            doubted: Notify::new(),
        }
    }

    /// What is in force now.
    pub fn load(&self) -> Arc<Configuration> {
        self.configuration.load_full()
    }

    /// How old this configuration is at `now`. What was once past its validity is so for good, though the clock be set
    /// back: only a version that was signed again is in force again.
    pub fn freshness(&self, configuration: &Configuration, now: Time) -> Freshness {
        if configuration.freshness(now) == Freshness::Expired {
            self.note_expired(configuration.version);
        }
        if self.expired() >= configuration.version { Freshness::Expired } else { configuration.freshness(now) }
    }

    fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    fn note_expired(&self, version: u64) {
        self.expired.fetch_max(version, Ordering::Relaxed);
    }

    /// Takes back that it expired: the clock was wrong, says an operator.
    fn forget_expired(&self) {
        self.expired.store(0, Ordering::Relaxed);
    }

    /// Tells of each version after it came into force. Who is slow sees the newest only.
    pub fn versions(&self) -> channel::Receiver<u64> {
        self.versions.subscribe()
    }

    /// Why what was offered last is not in force, where it is not: for operators.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    fn doubt(&self, doubt: Doubt) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.len() < DOUBTS {
            doubts.push(doubt);
        }
        drop(doubts);
        self.doubted.notify_one();
    }

    /// Waits until the registry showed what is to be judged, and gives it.
    pub(crate) async fn doubts(&self) -> Vec<Doubt> {
        loop {
            let doubts = std::mem::take(&mut *self.doubts.lock().unwrap_or_else(PoisonError::into_inner));
            if !doubts.is_empty() {
                return doubts;
            }
            self.doubted.notified().await;
        }
    }

    /// Notes why what a mirror offered is not in force.
    fn note_refused(&self, why: &dyn std::fmt::Display) {
        self.refused.store(Some(Arc::new(why.to_string())));
    }

    fn replace(&self, configuration: Arc<Configuration>) {
        let version = configuration.version;
        self.refused.store(None);
        self.configuration.store(configuration);
        self.versions.send_replace(version);
    }
}
