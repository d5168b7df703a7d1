//! What waits to be written by the journal's own thread, and when it is woken.
//!
//! To wake a thread costs a system call and a change of threads. So a lane (`release_in_this_thread`) says at the end of its turn that
//! something waits, and what the turn brought is one batch; and a record that rides wakes nobody while the journal is in use. Calls a
//! second against a thread that is woken for each record: 1.13 times with 16 callers at 0.85 of the CPU, 1.16 with 64 at 0.86, 1.19
//! with 256 at 0.84. A lane that wrote its one lone record itself was no faster, and stood still with the disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::release::at_the_end_of_the_turn;
use crate::writer::{Batch, Request, Shared, Tails, Writing};

/// How long a record that nothing is made to wait for may wait for a commit to ride with. A call's two `closed` records cost
/// no commit of their own then: four syncs a call in place of six.
pub const RIDES_WITHIN: Duration = Duration::from_millis(5);
/// For so long after a record the thread looks by itself for what rides; after that it sleeps until it is woken.
const WATCHES_FOR: Duration = Duration::from_millis(500);

/// The journal as the threads that append share it with the one that writes. Who holds `writing` may take `queue`, and nobody
/// takes them the other way round.
pub(crate) struct Core {
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// None once it has ended: who waited for its turn then writes nothing more.
    writing: Mutex<Option<Writing>>,
    shared: Arc<Shared>,
}

/// What is queued, and what is known of who writes it.
struct Queue {
    requests: VecDeque<Request>,
    /// How many of them are waited for. The others ride.
    urgent: usize,
    /// Since when the first that rides waits.
    riding_since: Option<Instant>,
    /// When tails must be signed that nothing leaving has signed.
    tails_due: Option<Instant>,
    last_arrival: Instant,
    thread: Thread,
    is_open: bool,
}

/// What the thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    Writes,
    /// It looks for what rides within [`RIDES_WITHIN`].
    Watches,
    /// It is woken for whatever comes.
    Sleeps,
}

impl Core {
    pub fn new(writing: Writing, shared: Arc<Shared>) -> Self {
        let queue = Queue {
            requests: VecDeque::new(),
            urgent: 0,
            riding_since: None,
            tails_due: None,
            last_arrival: Instant::now(),
            thread: Thread::Writes,
            is_open: true,
        };
        Self { queue: Mutex::new(queue), arrived: Condvar::new(), writing: Mutex::new(Some(writing)), shared }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a record, and sees to it that somebody writes it. Where the journal has ended the request is dropped, and its
    /// waiter learns why.
    pub fn append(self: &Arc<Self>, request: Request) {
        let mut queue = self.queue();
        if !queue.is_open {
            return;
        }
        queue.last_arrival = Instant::now();
        let wakes = if request.is_urgent() {
            queue.urgent += 1;
            queue.thread != Thread::Writes
        } else {
            queue.riding_since = queue.riding_since.or(Some(queue.last_arrival));
            queue.thread == Thread::Sleeps
        };
        queue.requests.push_back(request);
        drop(queue);
        if wakes && !at_the_end_of_the_turn(self) {
            self.wake();
        }
    }

    /// Wakes the thread, if it would not look by itself.
    pub fn wake(&self) {
        let mut queue = self.queue();
        let wakes = match queue.thread {
            Thread::Writes => false,
            Thread::Watches => queue.urgent > 0 || !queue.is_open,
            Thread::Sleeps => true,
        };
        if wakes {
            queue.thread = Thread::Writes;
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// Takes no more: the thread writes what is queued, and returns.
    pub fn close(&self) {
        self.queue().is_open = false;
        self.wake();
    }

    /// The thread's work: to write until the journal is closed and nothing is queued, or has ended. It signs the tails last.
    pub fn run(&self) {
        loop {
            let work = self.wait_for_work();
            let Ok(mut slot) = self.writing.lock() else { return };
            if self.write(&mut slot, work.unwrap_or(Tails::Sign)).is_err() || work.is_none() {
                return;
            }
        }
    }

    /// Waits until there is something to write. None: the journal was closed, or has ended, and nothing is queued.
    fn wait_for_work(&self) -> Option<Tails> {
        let mut queue = self.queue();
        loop {
            let now = Instant::now();
            let tails_are_due = queue.tails_due.is_some_and(|due| due <= now);
            if !queue.is_open && queue.requests.is_empty() {
                return None;
            }
            let due =
                [queue.tails_due, queue.riding_since.map(|since| since + RIDES_WITHIN)].into_iter().flatten().min();
            if queue.urgent > 0 || !queue.is_open || due.is_some_and(|due| due <= now) {
                queue.thread = Thread::Writes;
                return Some(if tails_are_due { Tails::Sign } else { Tails::MayWait });
            }
            let is_in_use = now.duration_since(queue.last_arrival) < WATCHES_FOR;
            queue.thread = if is_in_use { Thread::Watches } else { Thread::Sleeps };
            let until_due = due.map(|due| due.duration_since(now));
            let longest = until_due.into_iter().chain(is_in_use.then_some(RIDES_WITHIN)).min();
            queue = match longest {
                Some(longest) => self.arrived.wait_timeout(queue, longest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes what is queued as one batch, and tells who waits for it. An error is the journal's end: nothing is written after it,
    /// and what was dealt out is dropped, so that its waiters wake up.
    fn write(&self, slot: &mut Option<Writing>, tails: Tails) -> io::Result<()> {
        let Some(mut writing) = slot.take() else { return Err(io::Error::other("the journal has ended")) };
        let _guard = EndOnPanic(self);
        let batch = self.queue().deal_out(&mut writing);
        if let Err(error) = writing.write(batch, tails, &self.shared) {
            tracing::error!(%error, "the journal has ended: nothing more is written until the next start");
            // Said before the requests are dropped, whose waiters ask why.
            self.end(&error.to_string());
            writing.leave_word(&error);
            return Err(error);
        }
        self.queue().tails_due = writing.tails_due();
        *slot = Some(writing);
        Ok(())
    }

    /// Nothing is taken any more, and what waits is dropped: each waiter learns that the journal has ended.
    fn end(&self, reason: &str) {
        self.shared.end(reason);
        let mut queue = self.queue();
        queue.is_open = false;
        queue.urgent = 0;
        let dropped = std::mem::take(&mut queue.requests);
        drop(queue);
        drop(dropped);
        self.wake();
    }
}

impl Queue {
    /// Deals out to the trees what is queued, up to a batch's limits.
    fn deal_out(&mut self, writing: &mut Writing) -> Batch {
        let mut batch = Batch::default();
        while !batch.is_full()
            && let Some(request) = self.requests.pop_front()
        {
            self.urgent -= usize::from(request.is_urgent());
            writing.take(request, &mut batch);
        }
        if self.requests.is_empty() {
            self.riding_since = None;
        }
        batch
    }
}

/// Says that the journal has ended even where it dies of a panic.
struct EndOnPanic<'c>(&'c Core);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end("its thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use bytes::Bytes;
    use futures_util::task::noop_waker;
    use proto::record::{Kind, Record};
    use proto::signature::SigningKey;

    use super::*;
    use crate::faulty::{Fault, Faulty, Moment, Operation};
    use crate::{Journal, Options, Owner, Tree, TreeIndex, release_in_this_thread};

    /// A journal on a disk, and the names of the threads that synced.
    fn journal() -> (Journal, Arc<Faulty>, Arc<Mutex<Vec<String>>>) {
        let (disk, synced) = (Faulty::new(), Arc::<Mutex<Vec<String>>>::default());
        let owner = Owner { instance: "VN".parse().unwrap(), member: "VN/GOV/a".into(), server: "VN/GOV/a/s".into() };
        let tree = Tree { owner, key: Arc::new(SigningKey::generate().0) };
        let options = Options { first: true, ..Options::default() };
        let observed: Arc<dyn crate::Disk> = Arc::clone(&disk) as _;
        let journal = Journal::open(observed, vec![tree], options, None, &mut |_| {}).unwrap();
        let notes = Arc::clone(&synced);
        disk.observe(move |operation, moment| {
            if let (Operation::Sync(_), Moment::After(true)) = (operation, moment) {
                notes.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
            }
        });
        (journal, disk, synced)
    }

    fn append(journal: &Journal, number: u64) -> crate::Pending {
        let record = Record::new(Kind::Sent, &[0; 16], &[&number.to_be_bytes()]);
        journal.append(TreeIndex(0), record, Bytes::new(), true)
    }

    /// From then on nothing is written that nobody asks for.
    fn until_its_thread_sleeps(journal: &Journal) {
        while journal.core.queue().thread != Thread::Sleeps {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_lanes_turn_brought_is_one_batch_of_the_threads() {
        let (journal, _disk, synced) = journal();
        let waker = noop_waker();
        let (mut turn, mut releasing) = (Context::from_waker(&waker), Box::pin(release_in_this_thread()));
        let mut ends_turn = || assert!(releasing.as_mut().poll(&mut turn).is_pending());
        ends_turn();
        until_its_thread_sleeps(&journal);
        let mut two = [append(&journal, 1), append(&journal, 2)];
        assert!(synced.lock().unwrap().is_empty(), "the turn has not ended");
        while two[1].now().is_none() {
            ends_turn();
            std::thread::yield_now();
        }
        assert!(two[0].now().unwrap().is_ok());
        assert_eq!(*synced.lock().unwrap(), ["journal"], "both in one batch");
    }

    /// As a disk that dies does it: one writes and waits, the other waits for its turn, and the write fails.
    #[test]
    fn who_waited_for_its_turn_writes_nothing_after_an_error() {
        let (journal, disk, _) = journal();
        let core = Arc::clone(&journal.core);
        until_its_thread_sleeps(&journal);
        let mut slot = core.writing.lock().unwrap();
        let mut pending = append(&journal, 0);
        // The thread has left the queue for its turn.
        while core.queue().thread != Thread::Writes {
            std::thread::yield_now();
        }
        disk.fail(0, Fault::Torn);
        assert!(core.write(&mut slot, Tails::MayWait).is_err());
        let operations = disk.operations();
        drop(slot);
        assert!(pending.now().unwrap().is_err());
        drop(journal);
        assert_eq!(disk.operations(), operations);
    }

    #[test]
    fn what_rides_in_more_than_one_batch_is_written_before_the_journal_is_closed() {
        let (journal, _disk, _) = journal();
        let record = || Record::new(Kind::Closed, &[0; 16], &[b"x"]);
        let riding: Vec<_> = (0..5_000).map(|_| journal.append_riding(TreeIndex(0), record())).collect();
        journal.close();
        assert!(riding.into_iter().all(|pending| pending.wait().is_ok()));
    }
}
