//! Lanes: one runtime of one thread for each core, to which connections are dealt in turn. What a connection brings is done
//! in its lane, with connections of the lane's own to peers and services: no task moves from core to core, and few wake one
//! on another. Nothing else knows of them: without lanes everything runs in the runtime that it was begun in.
//!
//! Calls a second against the runtime that steals: 1.1 times with 1 or 16 at once, 1.4 with 256, undecided with 64 (medians of
//! four rounds, on a machine that others used).

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// The lanes of a server. Dropped, they end with what still runs in them.
#[derive(Default)]
pub struct Lanes {
    lanes: Vec<Handle>,
    next: AtomicUsize,
    _until: Option<DropGuard>,
}

impl Lanes {
    /// One for each core.
    pub fn one_per_core() -> io::Result<Self> {
        let until = CancellationToken::new();
        let mut lanes = Vec::new();
        for number in 1..=std::thread::available_parallelism()?.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            lanes.push(runtime.handle().clone());
            let until = until.clone();
            std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
                LANE.set(number);
                runtime.block_on(async {
                    // A task, and so behind those that are ready: what they bring is one batch.
                    let _releasing = tokio::spawn(journal::release_in_this_thread());
                    until.cancelled().await;
                });
            })?;
        }
        Ok(Self { lanes, next: AtomicUsize::new(0), _until: Some(until.drop_guard()) })
    }

    /// Begins this in the next lane.
    pub(crate) fn spawn<F>(&self, tasks: &TaskTracker, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        match self.lanes.get(next % self.lanes.len().max(1)) {
            Some(lane) => drop(tasks.spawn_on(task, lane)),
            None => drop(tasks.spawn(task)),
        }
    }
}

/// The lane of this thread, from 1; 0 outside.
pub(crate) fn current() -> usize {
    LANE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_dealt_to_lanes_is_done_in_each_in_turn_and_stays_there() {
        let lanes = Lanes::one_per_core().unwrap();
        let count = lanes.lanes.len();
        let (tasks, (says, mut heard)) = (TaskTracker::new(), tokio::sync::mpsc::unbounded_channel());
        for _ in 0..2 * count {
            let says = says.clone();
            lanes.spawn(&tasks, async move {
                let began = current();
                tokio::task::yield_now().await;
                assert_eq!(tokio::spawn(async { current() }).await.unwrap(), began);
                says.send(began).unwrap();
            });
        }
        let mut done = Vec::new();
        for _ in 0..2 * count {
            done.push(heard.recv().await.unwrap());
        }
        done.sort_unstable();
        assert_eq!(done, (1..=count).flat_map(|lane| [lane, lane]).collect::<Vec<_>>());
        assert_eq!(current(), 0);
    }
}
