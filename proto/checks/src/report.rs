//! How an examination is told: for people, or as one JSON object.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Check, Outcome};

/// The exit code of an examination in which a check failed.
pub const FAILED: u8 = 7;

/// Width of the column that says how a check went.
const OUTCOME_WIDTH: usize = 8;

/// An examination, told.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who was examined.
    pub of: String,
    /// The checks, in the order of cause.
    pub checks: Vec<Check>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// The first check that failed: the cause.
    pub fn first_failed(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.outcome == Outcome::Failed)
    }

    /// 0 where no check failed, else [`FAILED`].
    pub fn exit_code(&self) -> u8 {
        if self.first_failed().is_some() { FAILED } else { 0 }
    }

    /// Prints it and ends the program: a name server or a disk that hangs is not waited for.
    pub fn told(&self, as_json: bool) -> ! {
        let told = if as_json { format!("{:#}\n", self.to_json()) } else { self.to_string() };
        // Where nobody reads the output any more, the exit code says it all the same.
        let mut out = io::stdout();
        let _ = out.write_all(told.as_bytes()).and_then(|()| out.flush());
        std::process::exit(self.exit_code().into())
    }

    /// How many checks went so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|check| check.outcome == outcome).count()
    }

    /// The whole as one object.
    pub fn to_json(&self) -> Value {
        json!({
            "of": self.of,
            "healthy": self.first_failed().is_none(),
            "first_failed": self.first_failed().map(|check| &check.name),
            "ok": self.count(Outcome::Ok),
            "warnings": self.count(Outcome::Warning),
            "failed": self.count(Outcome::Failed),
            "skipped": self.count(Outcome::Skipped),
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "checks": self.checks,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.of)?;
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let mut part = "";
        for check in &self.checks {
            if check.part != part {
                part = &check.part;
                writeln!(f, "\n{part}")?;
            }
            // Capitals: what failed is found at a glance, and by grep.
            let outcome = match check.outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "warning",
                Outcome::Failed => "FAILED",
                Outcome::Skipped => "skipped",
            };
            let told = match (check.looked_at.as_str(), check.finding.as_str()) {
                ("", finding) => finding.to_owned(),
                (looked_at, "") => looked_at.to_owned(),
                (looked_at, finding) => format!("{looked_at}: {finding}"),
            };
            let indent = " ".repeat(OUTCOME_WIDTH + 1);
            let told = told.replace('\n', &format!("\n  {indent}"));
            writeln!(f, "  {outcome:OUTCOME_WIDTH$} {:width$}  {told}", check.name)?;
            if let Some(remedy) = &check.remedy {
                writeln!(f, "  {indent}do: {}", remedy.replace('\n', &format!("\n  {indent}    ")))?;
            }
        }
        let seconds = self.took.as_secs_f64();
        let [ok, warnings, failed, skipped] =
            [Outcome::Ok, Outcome::Warning, Outcome::Failed, Outcome::Skipped].map(|outcome| self.count(outcome));
        let all = self.checks.len();
        writeln!(
            f,
            "\n{all} checks in {seconds:.1} s: {ok} ok, {warnings} warnings, {failed} failed, {skipped} skipped"
        )?;
        match self.first_failed() {
            Some(first) => writeln!(f, "Begin with \"{}\": what failed first is the cause", first.name),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> Report {
        let check = |(number, outcome): (usize, &Outcome)| Check {
            part: "the disk".into(),
            name: format!("check {number}"),
            looked_at: "/tmp".into(),
            outcome: *outcome,
            finding: "two\nlines".into(),
            remedy: (*outcome == Outcome::Failed).then(|| "mend it".into()),
        };
        let checks = outcomes.iter().enumerate().map(check).collect();
        Report { of: "a server".into(), checks, took: Duration::from_millis(1234) }
    }

    #[test]
    fn the_first_that_failed_is_named_and_decides_the_exit_code() {
        let well = report(&[Outcome::Ok, Outcome::Warning, Outcome::Skipped]);
        assert_eq!((well.exit_code(), &well.to_json()["healthy"]), (0, &true.into()));
        assert!(!well.to_string().contains("Begin with"));
        let ill = report(&[Outcome::Warning, Outcome::Failed, Outcome::Failed]);
        assert_eq!((ill.exit_code(), &ill.to_json()["first_failed"]), (FAILED, &"check 1".into()));
        let told = ill.to_string();
        let failed = told.lines().find(|line| line.contains("FAILED")).unwrap();
        assert!(failed.contains("check 1") && failed.contains("/tmp: two"), "{told}");
        assert!(told.contains("do: mend it") && told.contains("Begin with \"check 1\""), "{told}");
        assert!(told.contains("3 checks in 1.2 s: 0 ok, 1 warnings, 2 failed, 0 skipped"), "{told}");
    }
}
