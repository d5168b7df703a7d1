//! Outages, one property a file: a disk that fills, fails, hangs or is read-only; a clock that jumps or stands still; a
//! registry that is gone; a line, a peer, a service or a name that is; a server that stops, moves or is started twice.
//!
//! Each ends in a refusal that names it, an alarm where somebody is needed, and recovery by itself where that can be. Of
//! what was acknowledged nothing is lost. Time that passes is the test's: clocks are held, and timers are moved on by hand.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

mod clock;
mod disk;
mod held_time;
mod line;
mod registry;
mod seen;
mod servers;
mod timestamps;
