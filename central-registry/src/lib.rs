//! The governing authority's record of who is who: it enrols members and spreads their certificates and addresses as
//! one signed global configuration.
//!
//! Read [`registration`] first, then [`publish`].

pub mod audit;
pub mod authority;
pub mod backup;
pub mod caution;
pub mod ceremony;
pub mod command;
pub mod configuration;
pub mod doctor;
pub mod history;
pub mod init;
pub mod journal_key;
mod leaves;
pub mod listing;
mod local;
pub mod oversight;
pub mod persons;
pub mod public_door;
pub mod publish;
pub mod register;
pub mod registration;
mod registry;
mod restored;
mod reuse;
mod serve;
mod shelf;
mod spread;
pub mod timestamping;
pub mod tsa;
pub mod usage;

use std::sync::Arc;

use proto::time::Time;

pub use init::{InitError, Initialised, Options, init};
pub use serve::{DRAIN_TIMEOUT, MAX_CONNECTIONS, Running, Settings, StartError, start};

/// Tells the time. A test holds it still.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// The machine's own clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Time::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}
