//! How many exchanges are taken up at once. A server that takes all that comes carries nothing in time once more comes than it
//! can carry; one that refuses the rest at once goes on as before for those that it takes.
//!
//! What is bounded is what is *in hand*: openings that have arrived, until they are durable and go on. From there on an exchange
//! waits for a peer, a service or a reader, who is slow for its own calls only and takes nothing of this room. The bound is
//! found, as TCP finds its window: from how long openings were in hand lately, held against how long they are where little
//! goes on (Netflix's gradient and Envoy's adaptive concurrency do the same; TCP Vegas did first). It rests at its greatest
//! value, so a burst, or many callers who each wait for their answer, are carried with large commits. Only where somebody had
//! to be refused, or openings stay in hand many times as long as they need, it is drawn in.
//!
//! A call costs two readings of the clock and some atomics: no lock, no timer, no allocation. Who closes a window of time does
//! its arithmetic, about twenty times a second.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::access::Priority;
use proto::identifier::SubsystemId;
use proto::message::Operation;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Ordinary openings in hand at once, at the least.
pub const LEAST_IN_HAND: usize = 16;
/// And where nothing is known against it: so many for each core,
pub const MOST_IN_HAND_OF_CORE: usize = 128;
/// on a machine of one or two cores so many,
pub const MOST_IN_HAND_AT_LEAST: usize = 256;
/// and on any other no more: half of what one peer may have.
pub const MOST_IN_HAND: usize = 512;
/// How long it is watched before the bound is looked at again, at the least.
pub const WINDOW: Duration = Duration::from_millis(50);
/// Openings that make a window, at the least.
pub const LEAST_SAMPLES: u64 = 16;
/// What openings may take under too much load, as a multiple of what they take where little goes on. Their 99th percentile is
/// further from the mean than this is.
pub const TOLERATED: u64 = 2;
/// Openings that take so many times as long say by themselves that there is too much.
pub const STANDING: u64 = 64;
/// And are not shorter than this: a machine that does much else is no server with too much to do.
pub const LEAST_STANDING: Duration = Duration::from_millis(100);
/// What is aimed at is not less: what two threads wait for each other is not load.
pub const LEAST_AIM: Duration = Duration::from_millis(1);
/// What is taken for little going on is not more: who starts under load learns no better.
pub const LONGEST_IDLE: Duration = Duration::from_millis(25);
/// Of the room of its priority, who has less than this part in hand finds half as much room again: beside one who fills it.
pub const PART_OF_ONE: usize = 4;
/// Calls of other than ordinary grants that are remembered, at the most. One more, and all are learned again.
pub const MAX_TOLD: usize = 4096;

/// Room for openings in hand.
pub struct Flow {
    began: Instant,
    most: usize,
    bound: AtomicUsize,
    in_hand: AtomicUsize,
    /// Microseconds, as all below. 0: not known yet.
    idle: AtomicU64,
    window_ends: AtomicU64,
    samples: AtomicU64,
    waited: AtomicU64,
    refused: AtomicU64,
}

/// An opening in hand. Dropped, it is so no more; what [`carried`](Self::carried) says is also learned from.
pub(crate) struct InHand {
    flow: Arc<Flow>,
    of: OfOne,
    since: Instant,
    priority: Priority,
}

/// How many of these one client or one peer has. It stands beside its other shares, which are looked up anyway.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfOne(Arc<AtomicUsize>);

/// There is no room for one more of this priority.
#[derive(Debug, thiserror::Error)]
#[error("more comes than can be carried: there is no room for {0} calls")]
pub(crate) struct Full(pub(crate) Priority);

/// What was seen in a window.
#[derive(Clone, Copy, Debug)]
struct Seen {
    samples: u64,
    waited: u64,
    lasted: u64,
    refused: u64,
}

/// What is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    bound: usize,
    idle: u64,
}

impl Flow {
    /// On a machine of so many cores.
    pub fn on_cores(cores: usize) -> Arc<Self> {
        let most = most_in_hand(cores);
        Arc::new(Self {
            began: Instant::now(),
            most,
            bound: AtomicUsize::new(most),
            in_hand: AtomicUsize::new(0),
            idle: AtomicU64::new(0),
            window_ends: AtomicU64::new(micros(WINDOW)),
            samples: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Takes one more of this one in hand, if there is room for its like.
    pub(crate) fn take(self: &Arc<Self>, priority: Priority, of: &OfOne) -> Result<InHand, Full> {
        // Counted first: of two that come at once for one place, one goes.
        let (before, own) = (self.in_hand.fetch_add(1, Relaxed), of.0.fetch_add(1, Relaxed));
        if before >= room_of_one(self.bound(), priority, own) {
            self.in_hand.fetch_sub(1, Relaxed);
            of.0.fetch_sub(1, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            metrics::counter!("causeway_overload_refusals_total", "priority" => priority.as_str()).increment(1);
            return Err(Full(priority));
        }
        Ok(InHand { flow: Arc::clone(self), of: of.clone(), since: Instant::now(), priority })
    }

    /// Ordinary openings that may be in hand now.
    pub fn bound(&self) -> usize {
        self.bound.load(Relaxed)
    }

    /// Openings in hand.
    pub fn in_hand(&self) -> usize {
        self.in_hand.load(Relaxed)
    }

    fn note(&self, since: Instant, now: Instant) {
        self.waited.fetch_add(micros(now.duration_since(since)), Relaxed);
        let samples = self.samples.fetch_add(1, Relaxed) + 1;
        let (ends, now) = (self.window_ends.load(Relaxed), micros(now.duration_since(self.began)));
        if now < ends || samples < LEAST_SAMPLES {
            return;
        }
        // Who moves the end does the rest; whoever else saw it goes on.
        if self.window_ends.compare_exchange(ends, now + micros(WINDOW), Relaxed, Relaxed).is_ok() {
            self.look(now + micros(WINDOW) - ends);
        }
    }

    /// What falls between two of these swaps counts for one window or the next: it is a mean.
    fn look(&self, lasted: u64) {
        let seen = Seen {
            samples: self.samples.swap(0, Relaxed).max(1),
            waited: self.waited.swap(0, Relaxed),
            lasted,
            refused: self.refused.swap(0, Relaxed),
        };
        let found = Found { bound: self.bound(), idle: self.idle.load(Relaxed) }.after(seen, self.most);
        self.bound.store(found.bound, Relaxed);
        self.idle.store(found.idle, Relaxed);
    }
}

impl InHand {
    /// That of its call.
    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    /// It is durable, and goes on.
    pub(crate) fn carried(self) {
        self.flow.note(self.since, Instant::now());
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.flow.in_hand.fetch_sub(1, Relaxed);
        self.of.0.fetch_sub(1, Relaxed);
    }
}

impl Found {
    fn after(self, seen: Seen, most: usize) -> Self {
        let mean = (seen.waited / seen.samples).max(1);
        let idle = match self.idle {
            0 => mean,
            // Fewer than two at a time: that is what it takes now, be it more or less than before.
            known if seen.refused == 0 && seen.waited < 2 * seen.lasted => (7 * known + mean) / 8,
            // Nothing shorter is left to try: what a disk takes that became slower for good is learned slowly.
            known if self.bound == LEAST_IN_HAND => mean.min(known + known / 64 + 1),
            known => known.min(mean),
        };
        let idle = idle.clamp(1, micros(LONGEST_IDLE));
        let aim = (TOLERATED * idle).max(micros(LEAST_AIM));
        let bound = self.bound as u64;
        let is_too_much = seen.refused > 0 || mean > (STANDING * idle).max(micros(LEAST_STANDING));
        let bound = if is_too_much {
            (bound * aim / mean).clamp(bound / 2, bound + bound / 16 + 1)
        } else {
            bound + bound / 4 + 1
        };
        let bound = usize::try_from(bound).unwrap_or(usize::MAX).clamp(LEAST_IN_HAND, most);
        Self { bound, idle }
    }
}

/// Of a bound, what each priority may have: bulk calls leave half of it to all others, and urgent ones have a quarter more.
fn room(bound: usize, priority: Priority) -> usize {
    match priority {
        Priority::Bulk => bound / 2,
        Priority::Ordinary => bound,
        Priority::Urgent => bound + bound / 4 + 4,
    }
}

/// The same for one who has so many in hand. Who floods fills the room and no more; beside it is room for who does not, so that
/// a flood harms its own calls only.
fn room_of_one(bound: usize, priority: Priority, own: usize) -> usize {
    let room = room(bound, priority);
    if own < room / PART_OF_ONE { room + room / 2 } else { room }
}

/// One more of a share that many exchanges have, for as long as one runs: bulk ones leave half of it to all others.
pub(crate) fn share_of(share: Arc<Semaphore>, most: usize, priority: Priority) -> Option<OwnedSemaphorePermit> {
    // Taken first: of two that come at once for one place, one goes.
    let one = share.try_acquire_owned().ok()?;
    let leaves_half = priority != Priority::Bulk || one.semaphore().available_permits() >= most / 2;
    leaves_half.then_some(one)
}

fn most_in_hand(cores: usize) -> usize {
    cores.saturating_mul(MOST_IN_HAND_OF_CORE).clamp(MOST_IN_HAND_AT_LEAST, MOST_IN_HAND)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The priorities of the grants that our own systems call under, as the providers' answers said them: those that are not
/// ordinary. By hashes alone: this orders who waits, and allows nothing.
#[derive(Default)]
pub(crate) struct Told {
    hashed: RandomState,
    priorities: ArcSwap<HashMap<u64, Priority>>,
}

impl Told {
    /// That of a call.
    pub(crate) fn of(&self, whom: (&SubsystemId, &SubsystemId), what: &Operation, purpose: &str) -> Priority {
        let told = self.priorities.load();
        if told.is_empty() {
            return Priority::Ordinary;
        }
        told.get(&self.key(whom, what, purpose)).copied().unwrap_or_default()
    }

    /// An answer said it. Nearly every answer says what is known, and changes nothing.
    pub(crate) fn note(&self, whom: (&SubsystemId, &SubsystemId), what: &Operation, purpose: &str, priority: Priority) {
        if self.of(whom, what, purpose) == priority {
            return;
        }
        let key = self.key(whom, what, purpose);
        self.priorities.rcu(|told| {
            let mut told = HashMap::clone(told);
            if priority == Priority::Ordinary {
                told.remove(&key);
            } else {
                if told.len() >= MAX_TOLD && !told.contains_key(&key) {
                    told.clear();
                }
                told.insert(key, priority);
            }
            told
        });
    }

    fn key(&self, whom: (&SubsystemId, &SubsystemId), what: &Operation, purpose: &str) -> u64 {
        self.hashed.hash_one(Of { whom, what, purpose })
    }
}

#[derive(Hash)]
struct Of<'o> {
    whom: (&'o SubsystemId, &'o SubsystemId),
    what: &'o Operation,
    purpose: &'o str,
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::time::advance;

    use super::*;

    /// A server that carries so many in a millisecond, in the order in which they came, the soonest a millisecond later.
    struct Simulated {
        flow: Arc<Flow>,
        one: OfOne,
        queue: VecDeque<(InHand, Priority)>,
        a_millisecond: usize,
        waits: Vec<(Priority, Duration)>,
        refused: Vec<Priority>,
    }

    impl Simulated {
        fn carrying(a_millisecond: usize) -> Self {
            let (flow, one, queue) = (Flow::on_cores(2), OfOne::default(), VecDeque::new());
            Self { flow, one, queue, a_millisecond, waits: Vec::new(), refused: Vec::new() }
        }

        /// Goes on for so long, with so many of each priority coming in each millisecond.
        async fn under(&mut self, coming: &[(Priority, usize)], milliseconds: usize) {
            (self.waits, self.refused) = (Vec::new(), Vec::new());
            for _ in 0..milliseconds {
                advance(Duration::from_millis(1)).await;
                for _ in 0..self.a_millisecond.min(self.queue.len()) {
                    let (one, priority) = self.queue.pop_front().unwrap();
                    self.waits.push((priority, one.since.elapsed()));
                    one.carried();
                }
                // One of each in turn, as they come from many.
                for round in 0..coming.iter().map(|(_, each)| *each).max().unwrap_or(0) {
                    for (priority, _) in coming.iter().filter(|(_, each)| round < *each) {
                        match self.flow.take(*priority, &self.one) {
                            Ok(one) => self.queue.push_back((one, *priority)),
                            Err(Full(priority)) => self.refused.push(priority),
                        }
                    }
                }
            }
        }

        fn refused(&self, priority: Priority) -> usize {
            self.refused.iter().filter(|each| **each == priority).count()
        }

        fn p99(&self) -> Duration {
            let mut waits: Vec<_> = self.waits.iter().map(|(_, wait)| *wait).collect();
            waits.sort_unstable();
            waits[(waits.len() - 1) * 99 / 100]
        }
    }

    const ORDINARY: Priority = Priority::Ordinary;

    #[tokio::test(start_paused = true)]
    async fn under_three_times_the_load_what_is_taken_goes_on_as_before_and_nothing_is_lost_of_what_can_be_carried() {
        let mut server = Simulated::carrying(10);
        server.under(&[(ORDINARY, 1)], 1000).await;
        let idle = server.p99();
        assert_eq!((idle, server.refused.len()), (Duration::from_millis(1), 0));
        server.under(&[(ORDINARY, 30)], 1000).await;
        // It was found; from here on it stays.
        server.under(&[(ORDINARY, 30)], 5000).await;
        assert!(server.p99() <= 3 * idle, "{:?} of {idle:?}", server.p99());
        assert!(server.waits.len() >= 49_000, "{} of 50,000 are carried", server.waits.len());
        assert_eq!(server.refused.len() + server.waits.len(), 150_000, "the rest is refused at once");
        // And when it is over, it is over.
        server.under(&[(ORDINARY, 1)], 2000).await;
        assert_eq!((server.refused.len(), server.flow.bound()), (0, MOST_IN_HAND_AT_LEAST));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_callers_as_may_be_in_hand_who_each_wait_for_their_answer_are_never_refused() {
        let mut server = Simulated::carrying(10);
        server.under(&[(ORDINARY, 1)], 1000).await;
        server.under(&[(ORDINARY, MOST_IN_HAND_AT_LEAST)], 1).await;
        server.under(&[(ORDINARY, 10)], 10_000).await;
        assert_eq!((server.refused.len(), server.flow.bound()), (0, MOST_IN_HAND_AT_LEAST));
        // One more at once is one too many.
        server.under(&[(ORDINARY, 11)], 1).await;
        assert_eq!(server.refused.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_calls_are_refused_last_and_bulk_calls_first() {
        let mut server = Simulated::carrying(10);
        server.under(&[(ORDINARY, 1)], 1000).await;
        let all = [(Priority::Bulk, 20), (ORDINARY, 5), (Priority::Urgent, 2)];
        server.under(&all, 1000).await;
        server.under(&all, 2000).await;
        assert_eq!(server.refused(Priority::Urgent), 0);
        assert_eq!(server.refused(ORDINARY), 0, "what is not bulk fits, and bulk leaves it its room");
        assert!(server.refused(Priority::Bulk) > 20 * 2000 / 2);
        let slow = server
            .waits
            .iter()
            .filter(|(priority, wait)| *priority == Priority::Urgent && *wait > Duration::from_millis(3));
        assert_eq!(slow.count(), 0, "and is not stuck behind it");
        let all = [(ORDINARY, 30), (Priority::Urgent, 2)];
        server.under(&all, 1000).await;
        server.under(&all, 2000).await;
        assert!(server.refused(ORDINARY) > 20 * 2000 / 2);
        assert_eq!(server.refused(Priority::Urgent), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_starts_under_load_finds_its_way_too() {
        let mut server = Simulated::carrying(10);
        server.under(&[(ORDINARY, 30)], 2000).await;
        server.under(&[(ORDINARY, 30)], 2000).await;
        assert!(server.p99() <= Duration::from_millis(60), "{:?}", server.p99());
        assert!(server.waits.len() >= 19_000, "{}", server.waits.len());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_somebody_else_takes_no_room() {
        let server = Simulated::carrying(10);
        // A service that never answers: its openings were handed on, and are in hand no more.
        let calls = 100 * MOST_IN_HAND_AT_LEAST;
        for _ in 0..calls {
            server.flow.take(ORDINARY, &server.one).unwrap().carried();
        }
        assert_eq!((server.flow.in_hand(), server.flow.bound()), (0, MOST_IN_HAND_AT_LEAST));
    }

    #[test]
    fn beside_one_who_fills_the_room_is_room_for_who_does_not_and_no_more_than_half_as_much() {
        let (flow, [flood, other]) = (Flow::on_cores(2), [OfOne::default(), OfOne::default()]);
        let most = flow.bound();
        let mut held: Vec<_> = (0..most).map(|_| flow.take(ORDINARY, &flood).unwrap()).collect();
        assert!(flow.take(ORDINARY, &flood).is_err());
        held.extend((0..most / PART_OF_ONE).map(|_| flow.take(ORDINARY, &other).unwrap()));
        assert!(flow.take(ORDINARY, &other).is_err(), "who has a quarter is one of many");
        let mut more: Vec<_> =
            (0..most / PART_OF_ONE).map(|_| flow.take(ORDINARY, &OfOne::default()).unwrap()).collect();
        assert_eq!(flow.in_hand(), most + most / 2);
        assert!(flow.take(ORDINARY, &OfOne::default()).is_err(), "however many they are");
        assert!(flow.take(Priority::Bulk, &OfOne::default()).is_err());
        more.push(flow.take(Priority::Urgent, &OfOne::default()).unwrap());
        drop((held, more));
        assert_eq!((flow.in_hand(), flood.0.load(Relaxed), other.0.load(Relaxed)), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_floods_is_refused_and_who_calls_beside_it_never_is() {
        let (mut server, other) = (Simulated::carrying(10), OfOne::default());
        server.under(&[(ORDINARY, 30)], 1000).await;
        for _ in 0..3000 {
            let one = server.flow.take(ORDINARY, &other).expect("one at a time beside a flood");
            server.queue.push_back((one, ORDINARY));
            server.under(&[(ORDINARY, 30)], 1).await;
            assert!(server.refused.len() >= 10, "{}", server.refused.len());
        }
    }

    /// A disk that takes its time for a commit, however many records are in it: all that came since the last one.
    struct Committing {
        flow: Arc<Flow>,
        one: OfOne,
        waiting: Vec<InHand>,
        written: Vec<InHand>,
        left: usize,
        carried: usize,
        refused: usize,
        longest: Duration,
    }

    impl Committing {
        fn new() -> Self {
            let (flow, one) = (Flow::on_cores(2), OfOne::default());
            let (waiting, written) = (Vec::new(), Vec::new());
            Self { flow, one, waiting, written, left: 0, carried: 0, refused: 0, longest: Duration::ZERO }
        }

        /// Goes on for so long, with so many coming in each millisecond and commits that take so many milliseconds.
        async fn under(&mut self, coming: usize, commit: usize, milliseconds: usize) {
            (self.carried, self.refused, self.longest) = (0, 0, Duration::ZERO);
            for _ in 0..milliseconds {
                advance(Duration::from_millis(1)).await;
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    for one in std::mem::take(&mut self.written) {
                        self.longest = self.longest.max(one.since.elapsed());
                        self.carried += 1;
                        one.carried();
                    }
                }
                for _ in 0..coming {
                    match self.flow.take(ORDINARY, &self.one) {
                        Ok(one) => self.waiting.push(one),
                        Err(_) => self.refused += 1,
                    }
                }
                if self.left == 0 && !self.waiting.is_empty() {
                    (self.written, self.left) = (std::mem::take(&mut self.waiting), commit);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn commits_that_take_a_time_of_their_own_however_large_carry_all_that_finds_room() {
        let mut disk = Committing::new();
        disk.under(1, 5, 1000).await;
        disk.under(20, 5, 5000).await;
        assert_eq!((disk.refused, disk.flow.bound()), (0, MOST_IN_HAND_AT_LEAST), "larger commits are no longer ones");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_became_three_times_as_slow_for_good_is_not_held_against_what_it_was() {
        let mut disk = Committing::new();
        disk.under(1, 4, 1000).await;
        disk.under(30, 12, 30_000).await;
        disk.under(30, 12, 10_000).await;
        // Sixteen in hand, at which it would stay without that, carry 13,344. More would fit: under lasting load nothing tells a
        // disk that is slow by itself from one that is slow by load, but trying.
        assert!(disk.carried >= 25_000, "{}", disk.carried);
        assert!(disk.flow.bound() > LEAST_IN_HAND);
        assert!(disk.longest <= Duration::from_millis(24), "{:?}: two commits", disk.longest);
    }

    #[test]
    fn what_little_takes_rises_slowly_where_nothing_shorter_is_left_to_try_and_falls_at_once() {
        let seen = |mean: u64| Seen { samples: 1000, waited: 1000 * mean, lasted: 50_000, refused: 1 };
        let idle = |bound, mean| Found { bound, idle: 6400 }.after(seen(mean), 256).idle;
        assert_eq!(idle(LEAST_IN_HAND, 20_000), 6501);
        assert_eq!(idle(LEAST_IN_HAND, 6450), 6450, "never above what is seen");
        assert_eq!(idle(LEAST_IN_HAND, 3000), 3000);
        assert_eq!(idle(LEAST_IN_HAND + 1, 20_000), 6400);
        assert_eq!(
            Found { bound: LEAST_IN_HAND, idle: micros(LONGEST_IDLE) }.after(seen(90_000), 256).idle,
            micros(LONGEST_IDLE)
        );
    }

    #[test]
    fn bulk_exchanges_have_half_of_a_share_and_others_all_of_it() {
        let share = Arc::new(Semaphore::new(8));
        let take = |priority| share_of(Arc::clone(&share), 8, priority);
        let bulk: Vec<_> = (0..4).map(|_| take(Priority::Bulk).unwrap()).collect();
        assert!(take(Priority::Bulk).is_none());
        let others: Vec<_> = (0..4).map(|_| take(ORDINARY).unwrap()).collect();
        assert!(take(Priority::Urgent).is_none(), "there is no more than all");
        drop(others);
        assert!(take(Priority::Bulk).is_none());
        drop(bulk);
        assert!(take(Priority::Bulk).is_some());
    }

    #[test]
    fn the_bound_has_a_least_and_a_greatest_value() {
        let found = Found { bound: LEAST_IN_HAND, idle: 1000 };
        let terrible = Seen { samples: 100, waited: 100_000_000, lasted: 50_000, refused: 1000 };
        assert_eq!(found.after(terrible, 256).bound, LEAST_IN_HAND);
        let (mut found, fine) = (found, Seen { samples: 100, waited: 100_000, lasted: 50_000, refused: 0 });
        for _ in 0..100 {
            found = found.after(fine, 256);
        }
        assert_eq!(found, Found { bound: 256, idle: 1000 });
        // Half at the most in a window, whatever happened in it; and a disk that halted for once is forgiven.
        found = found.after(terrible, 256);
        assert_eq!(found, Found { bound: 128, idle: 1000 });
        assert_eq!(found.after(fine, 256), Found { bound: 161, idle: 1000 });
        assert_eq!((most_in_hand(1), most_in_hand(2), most_in_hand(3), most_in_hand(32)), (256, 256, 384, 512));
    }

    #[test]
    fn what_takes_long_by_itself_is_too_much_and_one_microsecond_less_is_not() {
        let busy = |mean: u64| Seen { samples: 1000, waited: 1000 * mean, lasted: 50_000, refused: 0 };
        for (idle, most) in [(2000, STANDING * 2000), (1000, micros(LEAST_STANDING)), (10, micros(LEAST_STANDING))] {
            let found = Found { bound: 256, idle };
            assert_eq!(
                (found.after(busy(most), 256).bound, found.after(busy(most + 1), 256).bound),
                (256, 128),
                "{idle}"
            );
        }
    }

    #[test]
    fn what_was_told_is_known_of_this_call_only_and_forgotten_when_it_is_ordinary_again() {
        let (told, id) = (Told::default(), |text: &str| text.parse::<SubsystemId>().unwrap());
        let (portal, moj) = (id("VN/GOV/portal/one-stop"), id("VN/GOV/moj/civil-registry"));
        let grpc = |path: &str| Operation::Grpc(path.parse().unwrap());
        let (births, deaths) = (grpc("/civil.v1.Births/Register"), grpc("/civil.v1.Deaths/Register"));
        told.note((&portal, &moj), &births, "testing", Priority::Urgent);
        assert_eq!(told.of((&portal, &moj), &births, "testing"), Priority::Urgent);
        for (whom, what, purpose) in [
            ((&moj, &portal), &births, "testing"),
            ((&portal, &moj), &deaths, "testing"),
            ((&portal, &moj), &births, ""),
        ] {
            assert_eq!(told.of(whom, what, purpose), Priority::Ordinary);
        }
        told.note((&portal, &moj), &births, "testing", Priority::Ordinary);
        assert!(told.priorities.load().is_empty());
        for number in 0..MAX_TOLD {
            told.note((&portal, &moj), &births, &number.to_string(), Priority::Bulk);
        }
        assert_eq!(told.priorities.load().len(), MAX_TOLD);
        told.note((&portal, &moj), &births, "one more", Priority::Bulk);
        assert_eq!(told.priorities.load().len(), 1);
    }
}
