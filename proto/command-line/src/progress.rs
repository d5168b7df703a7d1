//! How long something goes on, for whoever waits: on a terminal a line that counts the seconds and vanishes at the end,
//! in a pipe one line and no more. Always on standard error.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is over sooner is not worth a line.
const SOON: Duration = Duration::from_secs(1);

/// Something that goes on. Dropped, it is over.
#[derive(Debug)]
pub struct Progress {
    over: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// What perhaps takes long: shown when it does.
    pub fn of(what: &str) -> Self {
        Self::begin(what.to_owned(), Instant::now() + SOON)
    }

    /// What somebody else has to end: shown at once.
    pub fn waiting(what: &str) -> Self {
        if std::io::stderr().is_terminal() {
            return Self::begin(what.to_owned(), Instant::now());
        }
        let _ = writeln!(std::io::stderr(), "{what}");
        Self { over: None }
    }

    fn begin(what: String, first: Instant) -> Self {
        let (over, is_over) = channel::<()>();
        let began = Instant::now();
        let shown = std::thread::spawn(move || {
            let is_terminal = std::io::stderr().is_terminal();
            let mut next = first;
            // Nobody ever sends: the sender is dropped when it is over.
            while is_over.recv_timeout(next.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout)
            {
                if !is_terminal {
                    let _ = writeln!(std::io::stderr(), "{what}");
                    let _ = is_over.recv();
                    return;
                }
                let _ = write!(std::io::stderr(), "\r\u{1b}[K{what}, {} s", began.elapsed().as_secs());
                next += SOON;
            }
            if is_terminal && next > first {
                let _ = write!(std::io::stderr(), "\r\u{1b}[K");
            }
        });
        Self { over: Some((over, shown)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((over, shown)) = self.over.take() {
            drop(over);
            let _ = shown.join();
        }
    }
}
