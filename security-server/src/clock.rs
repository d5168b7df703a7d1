//! The one clock of the server, passed in so that a test can hold it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::time::Time;

/// Says what time it is.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Time + Send + Sync>,
    ticks: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// The machine's clock. Before 1970 it is 1970.
    pub fn system() -> Self {
        let began = Instant::now();
        let now = || {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Time::default().plus(since_1970)
        };
        Self::from_fns(now, move || began.elapsed())
    }

    /// A clock that a test holds. It ticks as it goes, so it neither jumps ahead nor stands still.
    pub fn from_fn(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        let now = Arc::new(now);
        let ticks = Arc::clone(&now);
        Self::from_fns(move || now(), move || Duration::from_millis(ticks().as_millis()))
    }

    /// A clock of which a test holds both: the time, and how long the machine has been running, which nobody sets.
    pub fn from_fns(
        now: impl Fn() -> Time + Send + Sync + 'static,
        ticks: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), ticks: Arc::new(ticks) }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        (self.now)()
    }

    /// How long the machine has been running, from a beginning of its own: what tells a clock that was set from one that
    /// goes.
    pub fn ticks(&self) -> Duration {
        (self.ticks)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
