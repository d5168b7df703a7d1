//! What both doctors are made of: checks in the order of cause, each with its limit, and how they are told; and what they
//! look at alike: the disk, key files, names and ports. It changes nothing.
//!
//! A check looks at one thing. What rests on a check that failed is skipped and says so, so the first line that failed is
//! the cause, and what merely follows from it is not told as if it were another.
//!
//! ```text
//! sheet.line(Part::Registry, "registry", address)      a line in its place, said by nobody yet
//!      .looks(limit, async {
//!          let file = file.get()?;                     skipped, if the file's check did not hold
//!          ... Ok(ok(channel, "it answers"))           or Err(failed(finding, remedy))
//!      }).await                                        what was found, for whatever rests on it
//! ```

pub mod disk;
pub mod keys;
pub mod names;
pub mod reach;
pub mod report;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use report::Report;
use serde::Serialize;

/// How long a whole examination may take.
pub const WHOLE: Duration = Duration::from_millis(4800);

/// One check, as it is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// The part of the report that it stands in.
    pub part: String,
    /// Its name.
    pub name: String,
    /// What it looked at.
    pub looked_at: String,
    /// How it went.
    pub outcome: Outcome,
    /// What it found.
    pub finding: String,
    /// What to do: a command, or the line of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and will not for ever.
    Warning,
    /// It does not work.
    Failed,
    /// Not looked at: it rests on what failed, or cannot be looked at from here.
    Skipped,
}

/// The lines of an examination, in their places. `P`: its parts, in the order of cause.
#[derive(Debug)]
pub struct Sheet<P>(Mutex<BTreeMap<Place<P>, Check>>);

/// The part, and the line's number in it.
type Place<P> = (P, usize);

/// A line that nobody has said yet.
#[must_use]
pub struct Line<'s, P: Copy + Ord> {
    sheet: &'s Sheet<P>,
    place: Place<P>,
}

/// What a check found that could look.
pub struct Seen<T> {
    value: T,
    outcome: Outcome,
    finding: String,
    remedy: Option<String>,
}

/// Why a check found nothing that others may rest on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is not as it should be.
    Failed {
        /// How it is.
        finding: String,
        /// What to do.
        remedy: String,
    },
    /// It rests on another check, which did not hold.
    RestsOn(Because),
    /// It cannot be looked at from here, which says nothing against it.
    NotChecked(String),
}

/// The check that came first of those that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Because {
    check: String,
    failed: bool,
}

/// What a check comes to.
pub type Looked<T> = Result<Seen<T>, Wrong>;

/// What a check found, for the checks that rest on it. Only a line that was said makes one.
#[derive(Debug)]
pub struct Found<T>(Result<T, Because>);

/// How long a check may look, and what to do where that is too short.
#[derive(Clone, Debug)]
pub struct Limit {
    /// How long.
    pub within: Duration,
    /// What to do.
    pub remedy: String,
}

impl<T> Seen<T> {
    /// How it went.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What was found.
    pub fn finding(&self) -> &str {
        &self.finding
    }

    /// The same, with this for whatever rests on it.
    pub fn with<U>(self, value: U) -> Seen<U> {
        let Self { value: _, outcome, finding, remedy } = self;
        Seen { value, outcome, finding, remedy }
    }
}

/// It is as it should be.
pub fn ok<T>(value: T, finding: impl Into<String>) -> Seen<T> {
    Seen { value, outcome: Outcome::Ok, finding: finding.into(), remedy: None }
}

/// It works, and will not for ever.
pub fn warning<T>(value: T, finding: impl Into<String>, remedy: impl Into<String>) -> Seen<T> {
    Seen { value, outcome: Outcome::Warning, finding: finding.into(), remedy: Some(remedy.into()) }
}

/// It does not work.
pub fn failed(finding: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong::Failed { finding: finding.into(), remedy: remedy.into() }
}

/// It does not work, as this error says; what it says to do, behind its last `; `, is said better here.
pub fn failed_by(error: impl fmt::Display, remedy: impl Into<String>) -> Wrong {
    let told = error.to_string();
    failed(told.rsplit_once("; ").map_or(&*told, |(what, _)| what), remedy)
}

/// It cannot be looked at from here.
pub fn not_checked(why: impl Into<String>) -> Wrong {
    Wrong::NotChecked(why.into())
}

/// Looks, for as long as the whole may take, and tells. What was not said by then stands there as not finished.
pub async fn examine<P: Copy + Ord + fmt::Display>(of: String, look: impl AsyncFnOnce(&Sheet<P>)) -> Report {
    let began = Instant::now();
    let sheet = Sheet::default();
    let _ = tokio::time::timeout(WHOLE, look(&sheet)).await;
    Report { of, checks: sheet.checks(), took: began.elapsed() }
}

impl<P> Default for Sheet<P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<P: Copy + Ord + fmt::Display> Sheet<P> {
    /// Takes the next place of a part for a line. Until it is said it stands as one that nobody finished.
    pub fn line(&self, part: P, name: impl Into<String>, looked_at: impl Into<String>) -> Line<'_, P> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = lines.range((part, 0)..=(part, usize::MAX)).count();
        let unfinished = Check {
            part: part.to_string(),
            name: name.into(),
            looked_at: looked_at.into(),
            outcome: Outcome::Failed,
            finding: "not finished in the time that the whole examination has".to_owned(),
            remedy: Some("look what is slow here: the disk, the name server or the network; then ask again".to_owned()),
        };
        lines.insert((part, number), unfinished);
        Line { sheet: self, place: (part, number) }
    }

    /// The checks as they stand, in the order of cause.
    pub fn checks(&self) -> Vec<Check> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl<P: Copy + Ord> Line<'_, P> {
    /// Looks, for as long as the limit allows, and says what was found.
    pub async fn looks<T>(self, limit: Limit, look: impl Future<Output = Looked<T>>) -> Found<T> {
        let looked = limit.cut(look).await.and_then(|looked| looked);
        self.says(looked)
    }

    /// Says what was found.
    pub fn says<T>(self, looked: Looked<T>) -> Found<T> {
        let mut lines = self.sheet.0.lock().unwrap_or_else(PoisonError::into_inner);
        let check = lines.get_mut(&self.place).expect("the line took this place");
        let because = |check: &Check, failed| Found(Err(Because { check: check.name.clone(), failed }));
        match looked {
            Ok(Seen { value, outcome, finding, remedy }) => {
                (check.outcome, check.finding) = (outcome, plain(&finding));
                check.remedy = remedy.map(|remedy| plain(&remedy));
                Found(Ok(value))
            }
            Err(Wrong::Failed { finding, remedy }) => {
                (check.outcome, check.finding) = (Outcome::Failed, plain(&finding));
                check.remedy = Some(plain(&remedy));
                because(check, true)
            }
            Err(Wrong::RestsOn(first)) => {
                (check.outcome, check.finding, check.remedy) = (Outcome::Skipped, first.to_string(), None);
                Found(Err(first))
            }
            Err(Wrong::NotChecked(why)) => {
                (check.outcome, check.finding, check.remedy) = (Outcome::Skipped, format!("not checked: {why}"), None);
                because(check, false)
            }
        }
    }
}

impl Wrong {
    /// No more than a warning, for this reason. What was not looked at stays so.
    pub fn softened(self, reason: &str) -> Looked<()> {
        match self {
            Self::Failed { finding, remedy } => Ok(warning((), format!("{finding}; {reason}"), remedy)),
            Self::RestsOn(_) | Self::NotChecked(_) => Err(self),
        }
    }
}

impl<T> Found<T> {
    /// What was found; or that whatever asks is skipped, and because of what.
    pub fn get(&self) -> Result<&T, Wrong> {
        self.0.as_ref().map_err(|because| Wrong::RestsOn(because.clone()))
    }
}

impl<T> Found<T> {
    /// What was found, made into this.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Found<U> {
        Found(self.0.map(make))
    }
}

impl Limit {
    /// So long, and then this is what to do.
    pub fn new(within: Duration, remedy: impl Into<String>) -> Self {
        Self { within, remedy: remedy.into() }
    }

    /// Waits for as long as the limit allows.
    pub async fn cut<T>(self, waiting: impl Future<Output = T>) -> Result<T, Wrong> {
        let cut = |_| failed(format!("no answer within {:?}", self.within), self.remedy);
        tokio::time::timeout(self.within, waiting).await.map_err(cut)
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.failed { "failed" } else { "was not checked" };
        write!(f, "skipped because \"{}\" {how}", self.check)
    }
}

/// Without what could act on a terminal: some of it was written by another machine.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect()
}

/// Runs what blocks on the disk on a thread of its own, so that a disk that hangs is cut like anything else.
pub async fn blocking<T: Send + 'static>(look: impl FnOnce() -> Result<T, Wrong> + Send + 'static) -> Result<T, Wrong> {
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| {
        Err(failed(format!("the check itself broke off: {error}"), "tell the maintainers, with this line"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    enum Part {
        First,
        Second,
    }

    impl fmt::Display for Part {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{self:?}")
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn said(sheet: &Sheet<Part>) -> Vec<(String, Outcome, String)> {
        sheet.checks().into_iter().map(|check| (check.name, check.outcome, check.finding)).collect()
    }

    #[test]
    fn lines_stand_in_the_order_of_cause_whenever_they_were_said() {
        let sheet = Sheet::default();
        let late = sheet.line(Part::First, "one", "");
        sheet.line(Part::Second, "three", "").says(Ok(ok((), "")));
        sheet.line(Part::First, "two", "").says(Ok(ok((), "")));
        late.says(Ok(ok((), "")));
        let names: Vec<_> = sheet.checks().into_iter().map(|check| check.name).collect();
        assert_eq!(names, ["one", "two", "three"]);
    }

    #[test]
    fn what_rests_on_a_check_that_failed_is_skipped_and_names_the_first() {
        let sheet = Sheet::default();
        let first: Found<u8> = sheet.line(Part::First, "first", "").says(Err(failed("it is gone", "put it back")));
        let rests = |found: &Found<u8>| found.get().map(|value| ok(*value, "fine"));
        let second = sheet.line(Part::First, "second", "").says(rests(&first));
        sheet.line(Part::Second, "third", "").says(rests(&second));
        let absent: Found<u8> = sheet.line(Part::Second, "absent", "").says(Err(not_checked("nobody is here")));
        sheet.line(Part::Second, "last", "").says(rests(&absent));
        let skipped = |name: &str, why: &str| (name.to_owned(), Outcome::Skipped, why.to_owned());
        assert_eq!(
            said(&sheet)[1..],
            [
                skipped("second", "skipped because \"first\" failed"),
                skipped("third", "skipped because \"first\" failed"),
                skipped("absent", "not checked: nobody is here"),
                skipped("last", "skipped because \"absent\" was not checked"),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_cut_by_its_limit_and_one_that_ends_in_time_is_not() {
        let sheet = Sheet::default();
        let limit = || Limit::new(SECOND, "ask again");
        let takes = async |time: Duration| {
            tokio::time::sleep(time).await;
            Ok(ok((), "it came"))
        };
        sheet.line(Part::First, "in time", "").looks(limit(), takes(SECOND - Duration::from_millis(1))).await;
        sheet.line(Part::First, "too late", "").looks(limit(), takes(SECOND + Duration::from_millis(1))).await;
        sheet.line(Part::First, "never", "").looks::<()>(limit(), std::future::pending()).await;
        let outcomes: Vec<_> = sheet.checks().into_iter().map(|check| (check.outcome, check.remedy)).collect();
        let cut = (Outcome::Failed, Some("ask again".to_owned()));
        assert_eq!(outcomes, [(Outcome::Ok, None), cut.clone(), cut]);
        assert_eq!(said(&sheet)[1].2, "no answer within 1s");
    }

    #[test]
    fn what_another_machine_says_does_not_act_on_a_terminal() {
        let sheet = Sheet::default();
        let told = "it says \u{1b}[2Jnothing\r\u{7}\nmore";
        sheet.line(Part::First, "first", "").says::<()>(Err(failed(told, told)));
        sheet.line(Part::First, "second", "").says(Ok(warning((), told, told)));
        for check in sheet.checks() {
            assert_eq!((&*check.finding, check.remedy.as_deref()), ("it says [2Jnothing\nmore", Some(&*check.finding)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_is_cut_by_its_limit_and_what_was_not_said_by_then_says_so() {
        let ends_after = async |time: Duration| {
            let look = async |sheet: &Sheet<Part>| {
                sheet.line(Part::First, "first", "").says(Ok(ok((), "fine")));
                let second = sheet.line(Part::Second, "second", "");
                tokio::time::sleep(time).await;
                second.says(Ok(ok((), "fine")));
            };
            let report = examine("it".to_owned(), look).await;
            report.checks.into_iter().map(|check| check.outcome).collect::<Vec<_>>()
        };
        let instant = Duration::from_millis(1);
        assert_eq!(ends_after(WHOLE - instant).await, [Outcome::Ok, Outcome::Ok]);
        assert_eq!(ends_after(WHOLE + instant).await, [Outcome::Ok, Outcome::Failed]);
    }
}
