//! Quotas: how much a peer, a client or a grant may ask of us before it is told to wait; and shares, how much of a thing one of
//! many may hold at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use proto::identifier::{ServerId, SubsystemId};
use proto::refusal::Code;
use tokio::time::Instant;

use crate::flow::OfOne;
use crate::limits::{self, Limits};
use crate::refusal::Refusal;

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

    /// Puts back one that was taken for nothing.
    pub(crate) fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }
}

/// Proofs of consistency that one peer may ask for: a burst, and a second's worth.
pub const QUESTIONS: (f64, f64) = (64.0, 1.0);

/// Questions for a peer's checkpoints because of what its messages name: a burst, and a second's worth.
pub const VIEWS: (f64, f64) = (4.0, 1.0 / 60.0);

/// Questions about access that one peer may put: a burst, and a second's worth. Each may be about another request.
pub const ACCESS_REQUESTS: (f64, f64) = (256.0, 4.0);

/// Questions of one peer what its consumers are allowed: a burst, and a second's worth.
pub const ALLOWANCES: (f64, f64) = (64.0, 8.0);

/// What each may make us do.
#[derive(Debug)]
pub struct Quotas<K = ServerId> {
    each: (f64, f64),
    of: Mutex<HashMap<K, Bucket>>,
}

impl<K: Clone + Eq + Hash> Quotas<K> {
    /// A burst, and a second's worth, for each.
    pub fn of_each(each: (f64, f64)) -> Self {
        Self { each, of: Mutex::new(HashMap::new()) }
    }

    /// Whether one more of this one is within its quota. Peers are registered, and clients stand in a file, so their number is
    /// bounded.
    pub fn within(&self, who: &K) -> bool {
        let mut quotas = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = quotas.get_mut(who) {
            return bucket.take();
        }
        let (burst, per_second) = self.each;
        quotas.entry(who.clone()).or_insert_with(|| Bucket::new(burst, per_second)).take()
    }
}

/// How many of a thing each of many holds at once. Who holds none takes no memory.
#[derive(Debug)]
pub struct Shares<K: Eq + Hash> {
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// So many for each.
    pub fn of_each(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::new(HashMap::new()) })
    }

    /// One more for this one, until it is dropped. None: it holds as many as it may.
    pub fn take(self: &Arc<Self>, who: K) -> Option<Share<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(who.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { of: Arc::clone(self), who })
    }
}

/// What our own subsystems may take: exchanges at once, and calls in a second.
#[derive(Debug)]
pub struct OfClients {
    exchanges: Arc<Shares<SubsystemId>>,
    calls: (f64, f64),
    each: Mutex<HashMap<SubsystemId, OfClient>>,
}

#[derive(Debug)]
struct OfClient {
    calls: Bucket,
    in_hand: OfOne,
}

impl OfClients {
    /// Each within these limits.
    pub fn within(limits: &Limits) -> Self {
        let exchanges = Shares::of_each(limits::count(limits.exchanges_of_client));
        Self { exchanges, calls: limits.calls_of_client(), each: Mutex::default() }
    }

    /// The right of this one to begin one more exchange, with what it has in hand; or why not.
    pub(crate) fn take(&self, client: SubsystemId) -> Result<(Share<SubsystemId>, OfOne), Refusal> {
        let in_hand = self.one_call(&client)?;
        let why = || {
            let detail = "this system has as many calls running as [limits] exchanges_of_client";
            Refusal::new(Code::TooManyExchanges, "a client has as many exchanges as it may").telling(detail)
        };
        Ok((self.exchanges.take(client).ok_or_else(why)?, in_hand))
    }

    /// Clients stand in a file, so their number is bounded.
    fn one_call(&self, client: &SubsystemId) -> Result<OfOne, Refusal> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if !each.contains_key(client) {
            let (burst, per_second) = self.calls;
            each.insert(client.clone(), OfClient { calls: Bucket::new(burst, per_second), in_hand: OfOne::default() });
        }
        let of_one = each.get_mut(client).expect("it was put there");
        if !of_one.calls.take() {
            let detail = "this system calls more often than [limits] calls_of_client_per_second";
            return Err(Refusal::new(Code::CalledTooOften, format!("{client} calls too often")).telling(detail));
        }
        Ok(of_one.in_hand.clone())
    }
}

/// What one of many holds. Given back when it is dropped.
#[derive(Debug)]
pub struct Share<K: Clone + Eq + Hash> {
    of: Arc<Shares<K>>,
    who: K,
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.who.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
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

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_for_nothing_is_put_back_and_never_more_than_fits() {
        let mut bucket = Bucket::new(2.0, 1.0);
        assert!(bucket.take() && bucket.take() && !bucket.take());
        bucket.give_back();
        assert!(bucket.take() && !bucket.take());
        (0..3).for_each(|_| bucket.give_back());
        assert!(bucket.take() && bucket.take() && !bucket.take());
    }

    #[test]
    fn a_share_is_given_back_and_one_holds_no_more_than_its_own() {
        let shares = Shares::of_each(2);
        let (first, second) = (shares.take("a").unwrap(), shares.take("a").unwrap());
        assert!(shares.take("a").is_none());
        let other = shares.take("b").unwrap();
        drop(first);
        let third = shares.take("a").unwrap();
        assert!(shares.take("a").is_none());
        drop((second, third, other));
        assert!(shares.taken.lock().unwrap().is_empty(), "who holds none takes no memory");
    }
}
