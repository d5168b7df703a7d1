//! How a program ends: the one table of exit codes, and an error in two lines.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use crate::Paint;

/// How a program ends. Scripts rely on the numbers: they never change their meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done as asked.
    Ok = 0,
    /// It was tried, and did not work.
    Failed = 1,
    /// The command line, or a file that it names, is wrong.
    Usage = 2,
    /// A rule forbids it.
    Refused = 3,
    /// Whom it concerns cannot be reached.
    Unreachable = 4,
    /// The evidence does not hold.
    EvidenceInvalid = 5,
    /// There is no such thing.
    NotFound = 6,
    /// Something that was checked is not as it must be.
    CheckFailed = 7,
    /// Somebody else has to decide first.
    Waiting = 8,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::Unreachable,
        Self::EvidenceInvalid,
        Self::NotFound,
        Self::CheckFailed,
        Self::Waiting,
    ];

    /// The code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "failed",
            Self::Usage => "wrong usage or configuration",
            Self::Refused => "refused by a rule",
            Self::Unreachable => "unreachable",
            Self::EvidenceInvalid => "evidence invalid",
            Self::NotFound => "not found",
            Self::CheckFailed => "a check failed",
            Self::Waiting => "waiting for approval",
        }
    }

    /// What to do where the error itself does not say it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Ok | Self::Waiting => "nothing is to be done",
            Self::Failed => "the diagnostics say more: set CAUSEWAY_LOG=debug and try again",
            Self::Usage => "see --help",
            Self::Refused => "ask whoever administers it",
            Self::Unreachable => "check that it runs, and what is between",
            Self::EvidenceInvalid => "do not rely on it, and ask the other side for the evidence that its server holds",
            Self::NotFound => "check the name",
            Self::CheckFailed => "mend what is named",
        }
    }

    /// The table, as help shows it.
    pub fn table() -> String {
        let rows = Self::ALL.iter().map(|exit| format!("\n  {}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:{}", rows.collect::<String>())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a program ends otherwise than well: a line that says what was wrong, and one that says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    exit: Exit,
    what: String,
    remedy: String,
}

impl Ended {
    /// From an error, in whose text the last `; ` stands between what was wrong and what to do.
    pub fn new(exit: Exit, error: impl Display) -> Self {
        let text = one_line(&error.to_string());
        match text.rsplit_once("; ") {
            Some((what, remedy)) => Self { exit, what: what.to_owned(), remedy: remedy.to_owned() },
            None => Self { exit, what: text, remedy: exit.remedy().to_owned() },
        }
    }

    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on standard error, and ends the program.
    pub fn report(&self, program: &str) -> ExitCode {
        let program = Paint::err().bad(&format!("{program}:"));
        // Where nobody reads it, the exit code still says it.
        let _ = writeln!(std::io::stderr(), "{program} {}\n  {}", self.what, self.remedy);
        self.exit.into()
    }
}

/// On one line, and without what could act on a terminal: some of it was written by another machine.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ").chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_the_place_in_the_table() {
        for (place, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), place);
        }
    }

    #[test]
    fn an_error_says_what_was_wrong_and_what_to_do() {
        let ended = Ended::new(Exit::Usage, "a.toml: line 2, column 1: no; such key; see the example");
        assert_eq!((&*ended.what, &*ended.remedy), ("a.toml: line 2, column 1: no; such key", "see the example"));
        assert_eq!(Ended::new(Exit::NotFound, "no such thing").remedy, "check the name");
    }

    proptest! {
        #[test]
        fn no_error_writes_more_than_two_lines_or_moves_the_cursor(text in "\\PC{0,40}[\n\r\u{1b}\u{7}]{0,3}\\PC{0,40}") {
            let ended = Ended::new(Exit::Failed, text);
            prop_assert!(!(ended.what + &ended.remedy).chars().any(char::is_control));
        }
    }
}
