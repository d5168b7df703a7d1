//! How those who wait for a commit are told, and how what a thread appends comes to be written. A runtime of one thread is woken from
//! outside with a system call for each task; so such a thread takes all that a commit releases at once, and wakes its tasks
//! itself. And it has the journal look at what it appended once a turn.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::sync::{mpsc, oneshot};

use crate::pending::Committed;
use crate::queue::Core;

type Waiter = oneshot::Sender<Committed>;
/// Durable, and to be told.
type Told = Vec<(Waiter, Committed)>;
type Taking = mpsc::UnboundedSender<Told>;

thread_local! {
    static LANE: RefCell<Option<Lane>> = const { RefCell::new(None) };
}

/// A thread that takes what is released to it.
struct Lane {
    taking: Taking,
    /// Journals to which something was appended in this turn.
    appended: Vec<Arc<Core>>,
    turn_ends: Option<Waker>,
}

/// Until this future is dropped, it releases what is appended in the thread in which it is first polled, and has it written when the
/// tasks that are ready have had their turn: a thread that runs nothing but the one runtime of which this is a task. It never
/// resolves.
///
/// Threads without one are released by the journal's own, which is a system call for each record that is waited for.
pub async fn release_in_this_thread() {
    let (taking, taken) = mpsc::unbounded_channel();
    LANE.set(Some(Lane { taking, appended: Vec::new(), turn_ends: None }));
    let mut taken = Taken(taken);
    std::future::poll_fn(|cx| {
        while let Poll::Ready(Some(released)) = taken.0.poll_recv(cx) {
            tell(released);
        }
        for core in appended_until_now(Some(cx.waker())) {
            core.wake();
        }
        Poll::Pending
    })
    .await
}

/// Where there is a lane, it says at the end of its turn that something was appended here. False: there is none.
pub(crate) fn at_the_end_of_the_turn(core: &Arc<Core>) -> bool {
    LANE.with_borrow_mut(|lane| {
        let Some(Lane { appended, turn_ends: Some(turn_ends), .. }) = lane else { return false };
        if !appended.iter().any(|there| Arc::ptr_eq(there, core)) {
            appended.push(Arc::clone(core));
            turn_ends.wake_by_ref();
        }
        true
    })
}

fn appended_until_now(turn_ends: Option<&Waker>) -> Vec<Arc<Core>> {
    LANE.with_borrow_mut(|lane| {
        let Some(lane) = lane else { return Vec::new() };
        if !lane.turn_ends.as_ref().zip(turn_ends).is_some_and(|(before, now)| before.will_wake(now)) {
            lane.turn_ends = turn_ends.cloned();
        }
        std::mem::take(&mut lane.appended)
    })
}

/// What is released to a thread. Dropped, it still tells those that it was given.
struct Taken(mpsc::UnboundedReceiver<Told>);

impl Drop for Taken {
    fn drop(&mut self) {
        for core in appended_until_now(None) {
            core.wake();
        }
        self.0.close();
        while let Ok(released) = self.0.try_recv() {
            tell(released);
        }
    }
}

/// Who waits for a record, and in which thread.
pub(crate) struct Release {
    waiter: Waiter,
    taking: Option<Taking>,
}

/// A release to whoever appends in this thread, and what it waits for.
pub(crate) fn to_this_thread() -> (Release, oneshot::Receiver<Committed>) {
    let (waiter, released) = oneshot::channel();
    let taking = LANE.with_borrow(|lane| lane.as_ref().map(|lane| lane.taking.clone()));
    (Release { waiter, taking }, released)
}

/// What a batch releases, by thread.
#[derive(Default)]
pub(crate) struct Released(Vec<(Option<Taking>, Told)>);

impl Released {
    pub fn add(&mut self, release: Release, committed: Committed) {
        let Release { waiter, taking } = release;
        let same = |there: &Option<Taking>| match (there, &taking) {
            (Some(there), Some(taking)) => there.same_channel(taking),
            (there, taking) => there.is_none() && taking.is_none(),
        };
        match self.0.iter_mut().find(|(there, _)| same(there)) {
            Some((_, released)) => released.push((waiter, committed)),
            None => self.0.push((taking, vec![(waiter, committed)])),
        }
    }

    pub fn tell(self) {
        for (taking, released) in self.0 {
            match taking {
                None => tell(released),
                // The thread's runtime has ended: so have most that wait, and the others must hear of it all the same.
                Some(taking) => taking.send(released).unwrap_or_else(|unsent| tell(unsent.0)),
            }
        }
    }
}

fn tell(released: Told) {
    for (waiter, committed) in released {
        // A waiter that no longer waits is none: the record is durable all the same.
        let _ = waiter.send(committed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proto::record::{Kind, Record};
    use proto::signature::SigningKey;

    use super::*;
    use crate::{Directory, Journal, Options, Owner, Pending, Tree, TreeIndex};

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(Directory(directory.path().to_owned()));
        let owner = Owner { instance: "VN".parse().unwrap(), member: "VN/GOV/a".into(), server: "VN/GOV/a/s".into() };
        let tree = Tree { owner, key: Arc::new(SigningKey::generate().0) };
        let options = Options { first: true, ..Options::default() };
        (directory, Journal::open(disk, vec![tree], options, None, &mut |_| {}).unwrap())
    }

    fn appended(journal: &Journal, number: u64) -> Pending {
        let record = Record::new(Kind::Sent, &[0; 16], &[&number.to_be_bytes()]);
        journal.append(TreeIndex(0), record, Bytes::new(), true)
    }

    #[tokio::test]
    async fn a_thread_releases_what_was_appended_in_it_and_the_journal_does_again_when_it_has_ended() {
        let (_directory, journal) = journal();
        let mut releasing = Box::pin(release_in_this_thread());
        assert!(futures_util::poll!(&mut releasing).is_pending());
        let mut pending: Vec<_> = (0..50).map(|number| appended(&journal, number)).collect();
        // Durable behind all of those, and told by the journal: nobody releases in its thread.
        std::thread::scope(|scope| scope.spawn(|| appended(&journal, 50).wait().unwrap()).join().unwrap());
        assert!(pending.iter_mut().all(|pending| pending.now().is_none()));
        assert!(futures_util::poll!(&mut releasing).is_pending());
        assert!(pending.iter_mut().all(|pending| pending.now().is_some()));
        // Released, and not taken yet.
        let waiting = appended(&journal, 51);
        std::thread::scope(|scope| scope.spawn(|| appended(&journal, 52).wait().unwrap()).join().unwrap());
        drop(releasing);
        waiting.await.unwrap();
        appended(&journal, 53).await.unwrap();
    }
}
