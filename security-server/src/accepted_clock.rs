//! An operator's word that the clock is right, though the log holds later times: the one way out for a server whose clock
//! was once far ahead. It is recorded before it counts, and no opening that was received is taken a second time for it.

use std::sync::Arc;

use proto::global_configuration::Freshness;
use proto::time::Time;
use proto::transport::{MAX_SKEW, MAX_TEXT_BYTES};

use crate::audit::{Actor, Noted};
use crate::message_log::ClockAccepted;
use crate::{SecurityServer, global_configuration, message_log};

/// What an operator's word about the clock changed.
#[derive(Clone, Copy, Debug)]
pub struct ClockWas {
    /// The clock that is accepted.
    pub clock: Time,
    /// The last time that the log had.
    pub log_had: Time,
}

/// Why a clock is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// There is nothing to accept.
    #[error(
        "the clock is not behind what the log has recorded, and the configuration is in force: there is nothing to accept"
    )]
    NotBehind,
    /// No word.
    #[error(
        "say in --reason how you know that the clock is right now, in at most {MAX_TEXT_BYTES} bytes: it is recorded"
    )]
    NoReason,
    /// It is wrong still.
    #[error(
        "the clock says {clock}, and the global configuration in force was signed at {signed_at}: set the clock first"
    )]
    BeforeConfiguration {
        /// What the clock says.
        clock: Time,
        /// When the configuration was signed.
        signed_at: Time,
    },
    /// It is not the clock.
    #[error(
        "by this clock, {clock}, the global configuration expired at {expires_at}: restore the connection to the registry"
    )]
    Expired {
        /// What the clock says.
        clock: Time,
        /// When the configuration expired.
        expires_at: Time,
    },
    /// Something runs.
    #[error("{0} exchanges still run: try again when they have ended, or restart the server first")]
    Running(usize),
    /// The message log.
    #[error(transparent)]
    Log(#[from] message_log::OpenError),
    /// The audit log.
    #[error("the audit log: {0}; nothing was changed")]
    Audit(#[from] journal::Ended),
    /// The store.
    #[error(transparent)]
    Store(#[from] global_configuration::StoreError),
    /// A thread.
    #[error("the work was broken off: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl SecurityServer {
    /// Takes the clock as it is for right, though the log holds later times or the configuration was seen expired: an
    /// operator says that the clock had been wrong. What was received by the wrong clock stays received.
    pub async fn accept_clock(self: &Arc<Self>, reason: String, by: Actor) -> Result<ClockWas, NotAccepted> {
        let ClockWas { clock: at, log_had: was } = self.may_accept_clock(&reason)?;
        let accepted = ClockAccepted { at, end: self.message_log.end() };
        let (log, store) = (self.message_log.clone(), Arc::clone(&self.store));
        tokio::task::spawn_blocking(move || log.remember_openings_for(at)).await??;
        // A crash after this: the next start finds it in the audit log, and remembers the same.
        let noted = Noted::ClockAccepted {
            at: at.as_millis(),
            instead_of: was.as_millis(),
            end: hex::encode(accepted.end.to_bytes()),
            reason: reason.clone(),
            by,
        };
        self.audit.note(&noted).await?;
        self.message_log.accept_clock(accepted)?;
        tokio::task::spawn_blocking(move || store.take_back_that_it_expired()).await??;
        tracing::warn!(%at, %was, reason, "AN OPERATOR ACCEPTED THE CLOCK though the log holds later times");
        Ok(ClockWas { clock: at, log_had: was })
    }

    /// Whether the clock could be accepted now, and what that would change.
    pub fn may_accept_clock(&self, reason: &str) -> Result<ClockWas, NotAccepted> {
        let (at, behind) = (self.clock.now(), self.clock_behind());
        let configuration = self.configuration.load();
        if behind <= MAX_SKEW && self.freshness() != Freshness::Expired {
            return Err(NotAccepted::NotBehind);
        }
        if reason.trim().is_empty() || reason.len() > MAX_TEXT_BYTES {
            return Err(NotAccepted::NoReason);
        }
        if at < configuration.signed_at.minus(MAX_SKEW) {
            return Err(NotAccepted::BeforeConfiguration { clock: at, signed_at: configuration.signed_at });
        }
        if at >= configuration.expires_at {
            return Err(NotAccepted::Expired { clock: at, expires_at: configuration.expires_at });
        }
        // One that runs would go on sealing, by the old time or by the new. Nothing is let in meanwhile.
        if self.running() > 0 {
            return Err(NotAccepted::Running(self.running()));
        }
        Ok(ClockWas { clock: at, log_had: self.message_log.last_time() })
    }
}
