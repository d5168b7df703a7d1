//! Whether a new version of a REST service breaks what consumers rely on: clients that were made from the old document. What is
//! only added breaks nothing, unless consumers must send it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::schema::{Schema, Side, address, child};
use super::{Document, MAX_STEPS, Object, OpenApi, Operation, Undocumented, limit, text};

/// Most findings that are told.
const MAX_TOLD: usize = 20;

/// What `new` breaks of `old`, each in a sentence that names the operation and the field.
pub fn breaks(old: &OpenApi, new: &OpenApi) -> Result<Vec<String>, Undocumented> {
    let (old, new) = (old.as_document(), new.as_document());
    let mut compared =
        Compared { old, new, findings: Vec::new(), seen: BTreeSet::new(), waiting: VecDeque::new(), steps: 0 };
    let after = new.operations()?;
    for before in old.operations()? {
        let name = &before.name;
        let Some(after) = after.iter().find(|operation| operation.name == *name) else {
            compared.found(format!("operation {name} ({}) is gone", before.place));
            continue;
        };
        if before.place != after.place {
            compared.found(format!("operation {name} was {}, and is {}", before.place, after.place));
        }
        compared.parameters(&before, after)?;
        compared.bodies(&before, after)?;
        compared.responses(&before, after)?;
        compared.schemas()?;
    }
    Ok(compared.findings)
}

/// Schemas of one field that are still to be compared.
struct Pair<'d> {
    at: String,
    side: Side,
    old: Vec<&'d Value>,
    new: Vec<&'d Value>,
}

struct Compared<'d> {
    old: Document<'d>,
    new: Document<'d>,
    findings: Vec<String>,
    /// By where their parts stand.
    seen: BTreeSet<(Side, Vec<usize>, Vec<usize>)>,
    /// The nearest first: a finding names the shortest way to a field.
    waiting: VecDeque<Pair<'d>>,
    steps: usize,
}

impl<'d> Compared<'d> {
    fn found(&mut self, finding: String) {
        if self.findings.len() < MAX_TOLD && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn parameters(&mut self, before: &Operation<'d>, after: &Operation<'d>) -> Result<(), Undocumented> {
        let field = |(place, name): &(&str, &str)| child(&format!("{}.{place}", before.name), name);
        for (key, old) in &before.parameters {
            let at = field(key);
            let Some(new) = after.parameters.get(key) else {
                let elsewhere = after.parameters.keys().find(|(_, name)| *name == key.1);
                self.found(match elsewhere {
                    Some((place, _)) => format!("parameter {at} was in the {}, and is in the {place}", key.0),
                    None => format!("parameter {at} is gone"),
                });
                continue;
            };
            if is_required(new) && !is_required(old) {
                self.found(format!("parameter {at} is required now"));
            }
            if written(key.0, old) != written(key.0, new) {
                self.found(format!("parameter {at} is written in another way now (style, explode)"));
            }
            let (old, new) = (self.old.parameter(old, &at)?, self.new.parameter(new, &at)?);
            self.waiting.push_back(Pair { at, side: Side::Asked, old, new });
        }
        for (key, new) in &after.parameters {
            let elsewhere = before.parameters.keys().any(|(_, name)| *name == key.1);
            if is_required(new) && !elsewhere {
                self.found(format!("parameter {} is new, and required", field(key)));
            }
        }
        Ok(())
    }

    fn bodies(&mut self, before: &Operation<'d>, after: &Operation<'d>) -> Result<(), Undocumented> {
        let at = format!("{}.request", before.name);
        match (before.body, after.body) {
            (None, Some(new)) if is_required(new) => self.found(format!("{at} is new, and required")),
            (Some(_), None) => self.found(format!("{at} is gone")),
            (Some(old), Some(new)) => {
                if is_required(new) && !is_required(old) {
                    self.found(format!("{at} is required now"));
                }
                self.contents(&at, Side::Asked, old, new)?;
            }
            (None, _) => {}
        }
        Ok(())
    }

    fn responses(&mut self, before: &Operation<'d>, after: &Operation<'d>) -> Result<(), Undocumented> {
        for (status, old) in &before.responses {
            let is_success = status.starts_with('2');
            match after.responses.get(status) {
                Some(new) => self.contents(&format!("{}.response", before.name), Side::Answered, old, new)?,
                None if is_success => self.found(format!("{}: status {status} is gone", before.name)),
                None => {}
            }
        }
        Ok(())
    }

    fn contents(&mut self, at: &str, side: Side, old: Object<'d>, new: Object<'d>) -> Result<(), Undocumented> {
        let (old, new) = (self.old.contents(old, at)?, self.new.contents(new, at)?);
        for (media, old) in old {
            match new.get(media) {
                None => self.found(format!("{at}: {media} is gone")),
                Some(new) => {
                    let (old, new) = (old.into_iter().collect(), new.iter().copied().collect());
                    self.waiting.push_back(Pair { at: at.to_owned(), side, old, new });
                }
            }
        }
        Ok(())
    }

    fn schemas(&mut self) -> Result<(), Undocumented> {
        while let Some(pair) = self.waiting.pop_front() {
            let old = Schema::of(self.old, &pair.old, &pair.at)?;
            let new = Schema::of(self.new, &pair.new, &pair.at)?;
            self.steps += 1 + old.words() + new.words();
            limit("words of schemas to compare", self.steps, MAX_STEPS)?;
            let places = |schema: &Schema<'_>| schema.parts.iter().map(|part| address(part)).collect::<Vec<_>>();
            if self.seen.insert((pair.side, places(&old), places(&new))) {
                self.schema(&pair.at, pair.side, &old, &new);
            }
        }
        Ok(())
    }

    fn schema(&mut self, at: &str, side: Side, old: &Schema<'d>, new: &Schema<'d>) {
        // What is sent by the one must be what the other takes: consumers send requests, and take responses.
        let (sent, taken) = if side == Side::Asked { (old, new) } else { (new, old) };
        let fits = fit(sent.types(), taken.types()) && old.word("format") == new.word("format");
        if !fits {
            self.found(format!("{at} was {}, and is {}", kind(old), kind(new)));
        }
        self.values(at, side, old, new);
        let (before, after) = (old.properties(side), new.properties(side));
        let (needed, needs) = (old.required(side), new.required(side));
        for name in needs.difference(&needed).filter(|_| side == Side::Asked) {
            let is = if before.contains_key(name) { "is required now" } else { "is new, and required" };
            self.found(format!("{} {is}", child(at, name)));
        }
        for name in needed.difference(&needs).filter(|name| side == Side::Answered && after.contains_key(**name)) {
            self.found(format!("{} is not always there any more", child(at, name)));
        }
        for (name, old) in before {
            let at = child(at, name);
            match after.get(name) {
                None => self.found(format!("{at} is gone")),
                Some(new) => self.waiting.push_back(Pair { at, side, old, new: new.clone() }),
            }
        }
        for name in ["items", "additionalProperties"] {
            let (old, new) = (old.all(name), new.all(name));
            if !old.is_empty() && !new.is_empty() {
                self.waiting.push_back(Pair { at: at.to_owned(), side, old, new });
            }
        }
        self.alternatives(at, side, old, new);
    }

    fn values(&mut self, at: &str, side: Side, old: &Schema<'d>, new: &Schema<'d>) {
        let (old, new) = (old.values(), new.values());
        match (side, old, new) {
            (Side::Asked, Some(old), Some(new)) => {
                old.difference(&new).for_each(|value| self.found(format!("{at}: the value {} is gone", short(value))));
            }
            (Side::Answered, Some(old), Some(new)) => {
                new.difference(&old).for_each(|value| self.found(format!("{at}: the value {} is new", short(value))));
            }
            (Side::Asked, None, Some(_)) => self.found(format!("{at} takes some values only now")),
            (Side::Answered, Some(_), None) => self.found(format!("{at} may have any value now")),
            (_, _, None) | (Side::Answered, None, _) => {}
        }
    }

    fn alternatives(&mut self, at: &str, side: Side, old: &Schema<'d>, new: &Schema<'d>) {
        let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.alternatives(), new.alternatives());
        match (side, before.is_empty(), after.is_empty()) {
            (Side::Asked, true, false) => self.found(format!("{at} is one of several now")),
            (Side::Answered, false, true) => self.found(format!("{at} is not one of several any more")),
            _ => {}
        }
        for (name, schema) in &before {
            match after.get(name) {
                Some(new) => {
                    self.waiting.push_back(Pair { at: at.to_owned(), side, old: vec![schema], new: vec![new] })
                }
                None if side == Side::Asked && !after.is_empty() => {
                    self.found(format!("{at}: the alternative {} is gone", short(name)));
                }
                None => {}
            }
        }
        for name in after.keys().filter(|name| side == Side::Answered && !before.contains_key(*name)) {
            self.found(format!("{at}: the alternative {} is new", short(name)));
        }
    }
}

fn is_required(of: &Map<String, Value>) -> bool {
    of.get("required").and_then(Value::as_bool) == Some(true)
}

/// How a parameter's value is written, which has a meaning where it is not said.
fn written<'d>(place: &str, parameter: Object<'d>) -> (&'d str, bool, bool) {
    let style = match text(parameter, "style") {
        "" if matches!(place, "query" | "cookie") => "form",
        "" => "simple",
        said => said,
    };
    let explode = parameter.get("explode").and_then(Value::as_bool).unwrap_or(style == "form");
    (style, explode, parameter.contains_key("content"))
}

/// Whether all that is of the one is of the other.
fn fit(sent: Option<BTreeSet<&str>>, taken: Option<BTreeSet<&str>>) -> bool {
    let Some(taken) = taken else { return true };
    let holds = |each: &&str| taken.contains(each) || (*each == "integer" && taken.contains("number"));
    sent.is_some_and(|sent| sent.iter().all(holds))
}

fn kind(schema: &Schema<'_>) -> String {
    let types = schema.types().map(|types| types.into_iter().map(short).collect::<Vec<_>>().join(" or "));
    let types = types.unwrap_or_else(|| "anything".to_owned());
    schema.word("format").map_or(types.clone(), |format| format!("{types} ({})", short(format)))
}

/// A word of the document, no longer than a line takes.
fn short(word: &str) -> String {
    word.chars().take(60).filter(|letter| !letter.is_control()).collect()
}
