//! How an examination is told: for people, or as one JSON object.

use std::fmt;
use std::time::Duration;

use command_line::{Exit, Paint, Reading, show};
use serde_json::{Value, json};

use crate::{Check, Outcome};

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

    /// How the program ends with it: well, where no check failed.
    pub fn exit(&self) -> Exit {
        if self.first_failed().is_some() { Exit::CheckFailed } else { Exit::Ok }
    }

    /// Prints it and ends the program: a name server or a disk that hangs is not waited for.
    pub fn told(&self, reading: Reading) -> ! {
        show(reading.json, &self.to_json(), || Painted(self, Paint::out()).to_string());
        std::process::exit(self.exit().code().into())
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
        Painted(self, Paint::none()).fmt(f)
    }
}

/// A report as people read it.
struct Painted<'r>(&'r Report, Paint);

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report, paint) = self;
        writeln!(f, "{}", report.of)?;
        let width = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let mut part = "";
        for check in &report.checks {
            if check.part != part {
                part = &check.part;
                writeln!(f, "\n{}", paint.name(part))?;
            }
            // Capitals: what failed is found at a glance, and by grep.
            let outcome = match check.outcome {
                Outcome::Ok => paint.good(&column("ok")),
                Outcome::Warning => paint.doubtful(&column("warning")),
                Outcome::Failed => paint.bad(&column("FAILED")),
                Outcome::Skipped => column("skipped"),
            };
            let told = match (check.looked_at.as_str(), check.finding.as_str()) {
                ("", finding) => finding.to_owned(),
                (looked_at, "") => looked_at.to_owned(),
                (looked_at, finding) => format!("{looked_at}: {finding}"),
            };
            let indent = " ".repeat(OUTCOME_WIDTH + 1);
            let told = told.replace('\n', &format!("\n  {indent}"));
            writeln!(f, "  {outcome} {:width$}  {told}", check.name)?;
            if let Some(remedy) = &check.remedy {
                writeln!(f, "  {indent}do: {}", remedy.replace('\n', &format!("\n  {indent}    ")))?;
            }
        }
        let seconds = report.took.as_secs_f64();
        let [ok, warnings, failed, skipped] =
            [Outcome::Ok, Outcome::Warning, Outcome::Failed, Outcome::Skipped].map(|outcome| report.count(outcome));
        let all = report.checks.len();
        writeln!(
            f,
            "\n{all} checks in {seconds:.1} s: {ok} ok, {warnings} warnings, {failed} failed, {skipped} skipped"
        )?;
        match report.first_failed() {
            Some(first) => writeln!(f, "Begin with \"{}\": what failed first is the cause", first.name),
            None => Ok(()),
        }
    }
}

fn column(word: &str) -> String {
    format!("{word:OUTCOME_WIDTH$}")
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
        assert_eq!((well.exit(), &well.to_json()["healthy"]), (Exit::Ok, &true.into()));
        assert!(!well.to_string().contains("Begin with"));
        let ill = report(&[Outcome::Warning, Outcome::Failed, Outcome::Failed]);
        assert_eq!((ill.exit(), &ill.to_json()["first_failed"]), (Exit::CheckFailed, &"check 1".into()));
        let told = ill.to_string();
        let failed = told.lines().find(|line| line.contains("FAILED")).unwrap();
        assert!(failed.contains("check 1") && failed.contains("/tmp: two"), "{told}");
        assert!(told.contains("do: mend it") && told.contains("Begin with \"check 1\""), "{told}");
        assert!(told.contains("3 checks in 1.2 s: 0 ok, 1 warnings, 2 failed, 0 skipped"), "{told}");
    }
}
