//! What a command says when it has been carried out: text for people, one JSON object for programs.

use std::io::Write;

use serde::{Deserialize, Serialize};

/// The options of every command that reads.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Reading {
    /// Print one JSON object, for a program.
    #[arg(long)]
    pub json: bool,
}

/// The options of every command that changes something.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Changing {
    /// Change nothing: ask whether it may be done, and say what it would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object, for a program.
    #[arg(long)]
    pub json: bool,
}

/// What a command would change, as its dry run says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Foreseen {
    /// Nothing was changed: always true.
    pub dry_run: bool,
    /// What would change, in sentences.
    pub changes: Vec<String>,
}

impl Foreseen {
    /// These changes would be made, and nothing was.
    pub fn new(changes: Vec<String>) -> Self {
        Self { dry_run: true, changes }
    }
}

impl std::fmt::Display for Foreseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("It may be done, and nothing was changed. Without --dry-run:")?;
        self.changes.iter().try_for_each(|change| write!(f, "\n  {change}"))
    }
}

/// Says the value as JSON where that is wanted, else its text.
pub fn show(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    if json {
        say(&serde_json::to_string_pretty(value).expect("what we print has texts for keys"));
    } else {
        say(&text());
    }
}

/// Says it on standard output, on lines of its own. Where nobody reads it any more, the work was done all the same.
pub fn say(text: &str) {
    let text = text.trim_end_matches('\n');
    let _ = writeln!(std::io::stdout(), "{text}");
}
