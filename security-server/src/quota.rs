//! Quotas: how much a peer, or a grant, may ask of us before it is told to wait.

use std::collections::HashMap;
use std::sync::Mutex;

use proto::identifier::ServerId;
use tokio::time::Instant;

/// Refusals that are sealed and recorded for one peer: a burst, and a second's worth (PROTOCOL.md 6.2, step 8).
pub const SEALED_REFUSALS: (f64, f64) = (100.0, 10.0);

/// A bucket of tokens that fills with time.
#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    /// Full at first.
    pub fn new(burst: f64, per_second: f64) -> Self {
        Self { tokens: burst, burst, per_second, filled: Instant::now() }
    }

    /// Whether there was a token to take.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let since = now.duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * self.per_second).min(self.burst);
        self.filled = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// Proofs of consistency that one peer may ask for: a burst, and a second's worth.
pub const QUESTIONS: (f64, f64) = (64.0, 1.0);

/// Questions about access that one peer may put: a burst, and a second's worth. Each may be about another request.
pub const ACCESS_REQUESTS: (f64, f64) = (256.0, 4.0);

/// What each peer may make us do.
#[derive(Debug)]
pub struct Quotas {
    each: (f64, f64),
    of: Mutex<HashMap<ServerId, Bucket>>,
}

impl Quotas {
    /// A burst, and a second's worth, for each.
    pub fn of_each(each: (f64, f64)) -> Self {
        Self { each, of: Mutex::default() }
    }

    /// Whether one more of this peer is within its quota. Peers are registered, so their number is bounded.
    pub fn within(&self, peer: &ServerId) -> bool {
        let mut quotas = self.of.lock().expect("no panic while it is held");
        let (burst, per_second) = self.each;
        quotas.entry(peer.clone()).or_insert_with(|| Bucket::new(burst, per_second)).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quota_has_a_burst_and_refills() {
        let quotas = Quotas::of_each(SEALED_REFUSALS);
        let peer: ServerId = "VN/GOV/moj/ss1".parse().unwrap();
        assert_eq!((0..101).filter(|_| quotas.within(&peer)).count(), 100);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!((0..20).filter(|_| quotas.within(&peer)).count(), 10);
    }
}
