//! What was sent, answered, heard and carried out: a line each, in files that no fault touches. A line that must outlive
//! whatever comes is synced before the next step is done.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// One line of a ledger. Times are microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// A client is about to ask: so many messages, with this digest.
    Sent { number: u64, at: u64, kind: String, count: u64, digest: String },
    /// A client has its whole answer.
    Answered { number: u64, exchange: String, count: u64, status: u32, digest: String },
    /// A client has no answer, or not all of it.
    Broken { number: u64, at: u64, why: String },
    /// A service begins to carry out a call.
    Heard { number: u64, at: u64, exchange: String, kind: String, consumer: String },
    /// A service has the whole request.
    Whole { number: u64, exchange: String, count: u64, digest: String },
    /// Something that must never be.
    Wrong { number: u64, what: String },
}

/// A ledger that is being kept.
pub struct Ledger(Mutex<File>);

impl Ledger {
    /// At the end of this file.
    pub fn append(path: &Path) -> Self {
        Self(Mutex::new(File::options().create(true).append(true).open(path).unwrap()))
    }

    /// A kill of this process leaves the line; it is synced with the next that is.
    pub fn note(&self, line: &Line) {
        self.0.lock().unwrap().write_all(&encoded(line)).unwrap();
    }

    /// Written and synced.
    pub fn note_for_ever(&self, line: &Line) {
        let mut file = self.0.lock().unwrap();
        file.write_all(&encoded(line)).and_then(|()| file.sync_data()).unwrap();
    }
}

fn encoded(line: &Line) -> Vec<u8> {
    let mut line = serde_json::to_vec(line).unwrap();
    // A line that a kill cut short is not to spoil the next.
    line.insert(0, b'\n');
    line.push(b'\n');
    line
}

/// A client's ledger, read: what it asked, and what came of it.
#[derive(Default)]
pub struct Asked {
    pub sent: HashMap<u64, Line>,
    pub answered: HashMap<u64, Line>,
    pub broken: HashMap<u64, Line>,
    pub wrong: Vec<Line>,
}

/// A service's ledger, read: what it heard, each time that it did.
#[derive(Default)]
pub struct Carried {
    pub heard: HashMap<u64, Vec<Line>>,
    pub whole: HashMap<u64, Line>,
    pub wrong: Vec<Line>,
}

impl Asked {
    pub fn read(path: &Path) -> Self {
        let mut asked = Self::default();
        for line in lines(path) {
            match &line {
                Line::Sent { number, .. } => _ = asked.sent.insert(*number, line),
                Line::Answered { number, .. } => _ = asked.answered.insert(*number, line),
                Line::Broken { number, .. } => _ = asked.broken.insert(*number, line),
                Line::Heard { .. } | Line::Whole { .. } | Line::Wrong { .. } => asked.wrong.push(line),
            }
        }
        asked
    }
}

impl Carried {
    pub fn read(path: &Path) -> Self {
        let mut carried = Self::default();
        for line in lines(path) {
            match &line {
                Line::Heard { number, .. } => carried.heard.entry(*number).or_default().push(line),
                Line::Whole { number, .. } => _ = carried.whole.insert(*number, line),
                _ => carried.wrong.push(line),
            }
        }
        carried
    }
}

fn lines(path: &Path) -> impl Iterator<Item = Line> {
    let text = std::fs::read_to_string(path).unwrap();
    // A line that is not whole was cut by a kill, before what it would have said was done.
    let whole = text.lines().filter(|line| line.ends_with('}'));
    let lines: Vec<_> = whole.map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.into_iter()
}
