//! Timers that move on when the test says so, and only then: a minute's silence takes no minute.
//!
//! One thread runs the test, both servers, the client, the service and the taps. What reads sockets or waits for a log's own
//! thread goes on as it always does.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What the system takes to carry bytes on loopback, a hundred times over.
const CARRIED: Duration = Duration::from_millis(5);

/// As long as it lives, timers stand still but for [`HeldTime::pass`]. Wants a runtime of one thread.
pub struct HeldTime {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

impl HeldTime {
    pub fn begin() -> Self {
        // Held timers still jump ahead when everybody waits, unless somebody works in a thread: this one does to the end.
        let (held, until_dropped) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = until_dropped.recv();
        });
        tokio::time::pause();
        Self { _until_dropped: held }
    }

    /// So much time passes, and what it woke has run.
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.settle().await;
    }

    /// Lets all go on that can, and gives the system the moment that it takes to carry bytes from one socket to another.
    pub async fn settle(&self) {
        let began = Instant::now();
        let mut turns = 0;
        while turns < 2_000 || began.elapsed() < CARRIED {
            tokio::task::yield_now().await;
            turns += 1;
        }
    }

    /// Waits for what comes without time passing. It fails where the test would hang.
    pub async fn comes<F: Future>(&self, what: F) -> F::Output {
        let limit = Instant::now() + Duration::from_secs(20);
        let mut what = pin!(what);
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(come) => Poll::Ready(come),
            Poll::Pending => {
                assert!(Instant::now() < limit, "it did not come");
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }
}
