//! The matrix of attacks. A family's rows are attacks, each tried alone: a row says what is changed, how it must end and
//! what the log must hold. An attack that reaches the system behind the server got through; a family counts them, has
//! rows that must pass, so that it cannot hold by refusing everything, and stands in SECURITY.md with its figures.

use std::collections::BTreeMap;

use crate::programs::repository;

/// The page that says what was tried.
pub const PAGE: &str = "SECURITY.md";

/// What came of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Came {
    /// How it ended for who tried it, or for the caller: a code, or the end that was sealed.
    pub end: String,
    /// What the log of the server under attack holds of it now.
    pub recorded: Vec<String>,
    /// How much of it reached the system behind that server.
    pub reached: usize,
}

/// See the module.
#[must_use]
pub struct Family {
    test: &'static str,
    by: &'static str,
    attacks: usize,
    passed: usize,
    through: Vec<String>,
    wrong: Vec<String>,
}

/// A family as the page has it.
#[derive(PartialEq, Eq, Debug)]
pub struct Line {
    pub attacks: usize,
    pub passed: usize,
}

impl Family {
    /// The family that this test is about, and who attacks in it.
    pub fn of(test: &'static str, by: &'static str) -> Self {
        Self { test, by, attacks: 0, passed: 0, through: Vec::new(), wrong: Vec::new() }
    }

    /// An attack. It must end so, leave this record, and reach nobody.
    pub fn refused(&mut self, what: &str, end: &str, recorded: &[&str], came: Came) {
        self.attacks += 1;
        if came.reached > 0 {
            self.through.push(self.row(what));
        }
        self.compare(what, end, recorded, 0, &came);
    }

    /// An attack that has done what it can before it is noticed: so much has reached the other side, and no more.
    pub fn stopped(&mut self, what: &str, end: &str, recorded: &[&str], reached: usize, came: Came) {
        self.attacks += 1;
        if came.reached > reached {
            self.through.push(self.row(what));
        }
        self.compare(what, end, recorded, reached.min(came.reached), &came);
    }

    /// What must pass: the same without the attack, or what is its sender's own to say.
    pub fn passes(&mut self, what: &str, end: &str, recorded: &[&str], came: Came) {
        self.passed += 1;
        self.compare(what, end, recorded, 1, &came);
    }

    /// An attack that is judged by itself. `Err` says what came of it instead.
    pub fn judged(&mut self, what: &str, judged: Result<(), String>) {
        self.attacks += 1;
        if let Err(came) = judged {
            self.wrong.push(format!("{}: {came}", self.row(what)));
        }
    }

    /// What must pass, judged by itself.
    pub fn judged_to_pass(&mut self, what: &str, judged: Result<(), String>) {
        self.judged(what, judged);
        self.attacks -= 1;
        self.passed += 1;
    }

    fn row(&self, what: &str) -> String {
        format!("{what}, by {}", self.by)
    }

    fn compare(&mut self, what: &str, end: &str, recorded: &[&str], reached: usize, came: &Came) {
        let recorded = recorded.iter().map(|line| (*line).to_owned()).collect();
        let expected = Came { end: end.to_owned(), recorded, reached };
        if *came != expected {
            self.wrong.push(format!("{}\n    expected {expected:?}\n    came     {came:?}", self.row(what)));
        }
    }

    /// Each row came to what it must, nothing got through, and the page says how many rows there were.
    pub fn holds(self) {
        let (test, count) = (self.test, self.wrong.len());
        assert!(self.through.is_empty(), "{test}: these got through:\n  {}", self.through.join("\n  "));
        assert!(count == 0, "{test}: {count} rows came to something else:\n  {}", self.wrong.join("\n  "));
        assert!(self.passed > 0, "{test}: without a row that passes, nothing says that it is the attack that fails");
        let line = Line { attacks: self.attacks, passed: self.passed };
        assert_eq!(page().get(test), Some(&line), "{PAGE} has one line for {test}, with its figures");
    }
}

/// The families that the page names, by their tests: `| ... | attacks | passed | ... | `test` |`.
pub fn page() -> BTreeMap<String, Line> {
    let text = std::fs::read_to_string(repository().join(PAGE)).unwrap();
    let (_, after) = text.split_once("## What was tried, and what happened").expect("the page has the section");
    let section = after.split("\n## ").next().unwrap();
    let mut families = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [.., attacks, passed, _, test] = cells[..] else { continue };
        let (Ok(attacks), Ok(passed)) = (attacks.parse(), passed.parse()) else { continue };
        let test = test.trim_matches('`').to_owned();
        assert!(families.insert(test, Line { attacks, passed }).is_none(), "{line} stands twice");
    }
    families
}
