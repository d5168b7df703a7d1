//! What the journal promises, told against the whole journal on a disk that fails where a test says, and on a real one.
#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod ledger;
mod order;
mod removed;
mod restored;
mod segments;
