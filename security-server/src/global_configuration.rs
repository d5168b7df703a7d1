//! The tide of the global configuration: what is in force now, kept on disk, and followed from the registry.
//!
//! An exchange loads [`Current`] once per message and never waits for any of this. A new version goes through
//! [`Store::apply`] only: verified on top of what is trusted, then on disk, then in force, then told to whoever listens.

mod store;
mod watch;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use proto::global_configuration::Configuration;
use tokio::sync::watch as channel;

pub use store::{Applied, NotApplied, Store, StoreError, Stored};
pub use watch::{Registry, watch};

/// The configuration in force. Loading it takes no lock.
#[derive(Debug)]
pub struct Current {
    configuration: ArcSwap<Configuration>,
    versions: channel::Sender<u64>,
    refused: ArcSwapOption<String>,
}

impl Current {
    /// With this configuration in force, until [`Store::apply`] has a newer one.
    pub fn new(configuration: Arc<Configuration>) -> Self {
        let versions = channel::Sender::new(configuration.version);
        Current { configuration: ArcSwap::new(configuration), versions, refused: ArcSwapOption::empty() }
    }

    /// What is in force now.
    pub fn load(&self) -> Arc<Configuration> {
        self.configuration.load_full()
    }

    /// Tells of each version after it came into force. Who is slow sees the newest only.
    pub fn versions(&self) -> channel::Receiver<u64> {
        self.versions.subscribe()
    }

    /// Why what was offered last is not in force, where it is not: for operators.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    fn replace(&self, configuration: Arc<Configuration>) {
        let version = configuration.version;
        self.refused.store(None);
        self.configuration.store(configuration);
        self.versions.send_replace(version);
    }
}
