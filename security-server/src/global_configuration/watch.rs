//! Following the registry: it pushes each version, and we apply it. No timer asks for anything; a timer only spaces the
//! attempts to connect again. Between two attempts the mirrors are asked, if there are any.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use proto::global_configuration::update::Files;
use proto::registration::Address;
use proto::wire::registry::{Version, WatchRequest};
use registry_client::{Fingerprint, GlobalConfigurationClient, MAX_ANSWER_BYTES, NoConnection};
use tokio_util::sync::CancellationToken;

use super::mirror::{self, Mirror, NotFetched};
use super::{Applied, NotApplied, Store};
use crate::clock::Clock;

/// The wait before the second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A registry that is connected and says nothing for so long is asked anew: it signs again every minute.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// The registry, as this server was told of it when it joined.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Host and port.
    pub address: Address,
    /// Its key.
    pub key: Fingerprint,
}

/// Follows the registry until `stop`. The registry may be gone for as long as the configuration is valid, and for longer
/// where a mirror has what it signed.
pub async fn watch(registry: Registry, mirrors: Vec<Mirror>, store: Arc<Store>, clock: Clock, stop: CancellationToken) {
    let mut follower = Follower { registry, mirrors, store, clock, wait: FIRST_WAIT, from_nothing: false };
    loop {
        let interrupted = tokio::select! {
            () = stop.cancelled() => return,
            interrupted = follower.follow() => interrupted,
        };
        follower.report(&interrupted);
        tokio::select! {
            () = stop.cancelled() => return,
            () = follower.ask_the_mirrors() => {}
        }
        let wait = jittered(follower.wait);
        follower.wait = longer(follower.wait);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    #[error("the watch ended: {}", .0.message())]
    Ended(#[from] tonic::Status),
    #[error("the registry closed the watch")]
    Closed,
    #[error("the registry has said nothing for {LONGEST_SILENCE:?}")]
    Silent,
    #[error(transparent)]
    NotApplied(#[from] NotApplied),
}

struct Follower {
    registry: Registry,
    mirrors: Vec<Mirror>,
    store: Arc<Store>,
    clock: Clock,
    wait: Duration,
    /// After a version that was rejected everything is asked for once: a difference may have been reckoned wrongly.
    from_nothing: bool,
}

impl Follower {
    async fn follow(&mut self) -> Interrupted {
        let ended: Result<std::convert::Infallible, Interrupted> = self.follow_until_interrupted().await;
        match ended {
            Err(interrupted) => interrupted,
        }
    }

    async fn follow_until_interrupted(&mut self) -> Result<std::convert::Infallible, Interrupted> {
        let channel = registry_client::connect(&self.registry.address, self.registry.key).await?;
        let mut client = GlobalConfigurationClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let in_force = self.store.current().load();
        let version = if self.from_nothing { 0 } else { in_force.version };
        // What is held of the ledger stays held, though everything else is asked for anew.
        let logged = if in_force.ledger.is_some() { in_force.version } else { 0 };
        drop(in_force);
        let mut versions = heard(client.watch(WatchRequest { version, logged })).await??.into_inner();
        tracing::info!(version, "watching the registry");
        while let Some(pushed) = heard(versions.message()).await?? {
            self.take(pushed).await?;
            self.wait = FIRST_WAIT;
        }
        Err(Interrupted::Closed)
    }

    async fn take(&mut self, pushed: Version) -> Result<(), NotApplied> {
        let files: Files = pushed.files.into_iter().map(|file| (file.name, file.content)).collect();
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let applied = tokio::task::spawn_blocking(move || store.apply(&files, now)).await;
        self.from_nothing = true;
        match applied.expect("apply does not panic, and nothing aborts it")? {
            Applied::InForce(version) => tracing::info!(version, "a new global configuration is in force"),
            Applied::Known(version) => tracing::debug!(version, "the registry sent what is in force already"),
        }
        self.from_nothing = false;
        Ok(())
    }

    /// Takes the first newer version that a mirror has. One that has what is in force may be behind: the next is asked, too.
    async fn ask_the_mirrors(&mut self) {
        for mirror in &self.mirrors {
            match mirror::fetch(mirror, &self.store, &self.clock).await {
                Ok(Applied::InForce(version)) => {
                    tracing::info!(version, %mirror, "a new global configuration is in force, from a mirror");
                    break;
                }
                Ok(Applied::Known(version)) => {
                    tracing::debug!(version, %mirror, "the mirror has what is in force already")
                }
                Err(error @ NotFetched::Refused { .. }) => {
                    self.store.current().note_refused(&error);
                    tracing::error!(%error, "what a mirror offers is not in force; whoever runs the mirror should know");
                }
                Err(error) => tracing::warn!(%error, "nothing was fetched from a mirror"),
            }
        }
        // The mirrors of a country are not all asked first by everybody.
        if !self.mirrors.is_empty() {
            self.mirrors.rotate_left(1);
        }
    }

    fn report(&self, interrupted: &Interrupted) {
        let in_force = self.store.current().load().version;
        match interrupted {
            Interrupted::NotApplied(error) => tracing::error!(
                %error, in_force,
                "a version that the registry sent is not in force; the one before stays; its admins should know"
            ),
            other => tracing::warn!(error = %other, in_force, "the registry is not being followed; trying again"),
        }
    }
}

async fn heard<F: Future>(what: F) -> Result<F::Output, Interrupted> {
    tokio::time::timeout(LONGEST_SILENCE, what).await.map_err(|_| Interrupted::Silent)
}

/// The wait after this one.
fn longer(wait: Duration) -> Duration {
    (wait * 2).min(LONGEST_WAIT)
}

/// Between half of the wait and all of it, so that a country's servers do not come back at one instant.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    rand::fill(&mut random).expect("the system's random source works, or nothing does");
    wait.mul_f64(0.5 + 0.5 * f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_spaced_further_and_further_up_to_a_bound_and_never_all_at_one_instant() {
        let waits: Vec<_> = std::iter::successors(Some(FIRST_WAIT), |wait| Some(longer(*wait))).take(12).collect();
        assert!(waits.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(LONGEST_WAIT)), "{waits:?}");
        assert_eq!(waits.last(), Some(&LONGEST_WAIT));
        for wait in waits {
            let drawn: Vec<_> = (0..100).map(|_| jittered(wait)).collect();
            assert!(drawn.iter().all(|drawn| (wait / 2..=wait).contains(drawn)), "{wait:?}: {drawn:?}");
            assert!(drawn.iter().any(|other| *other != drawn[0]), "{wait:?}: always the same");
        }
    }
}
