//! Whether a new version of a REST service breaks what consumers rely on: clients that were made from the old document. What is
//! only added breaks nothing, unless consumers must send it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::schema::{Alternative, Schema, Side, address, child};
use super::{Document, MAX_STEPS, Object, OpenApi, Operation, Undocumented, limit, text};

/// Most findings that are told.
const MAX_TOLD: usize = 20;
/// Most types of one schema that are told: as many as JSON has.
const MAX_TYPES: usize = 7;
/// What a schema says that says nothing.
const ANYTHING: &Value = &Value::Bool(true);

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

/// Whether a schema is `false`, and where its parts stand.
type Kept = (bool, Vec<usize>);

struct Compared<'d> {
    old: Document<'d>,
    new: Document<'d>,
    findings: Vec<String>,
    /// Those that were compared.
    seen: BTreeSet<(Side, Kept, Kept)>,
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

    fn step(&mut self, steps: usize) -> Result<(), Undocumented> {
        self.steps += steps;
        limit("words of schemas to compare", self.steps, MAX_STEPS)
    }

    fn parameters(&mut self, before: &Operation<'d>, after: &Operation<'d>) -> Result<(), Undocumented> {
        let is_new = |key: &(&str, String)| !before.parameters.contains_key(key);
        for (key, old) in &before.parameters {
            let at = before.field(key.0, old);
            let Some(new) = after.parameters.get(key) else {
                self.step(after.parameters.len())?;
                let elsewhere = after.parameters.keys().find(|new| new.1.eq_ignore_ascii_case(&key.1) && is_new(new));
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
            self.step(1 + old.len() + new.len())?;
            self.waiting.push_back(Pair { at, side: Side::Asked, old, new });
        }
        for (key, new) in &after.parameters {
            // What was in another place is told already.
            let is_moved =
                |old: &(&str, String)| old.1.eq_ignore_ascii_case(&key.1) && !after.parameters.contains_key(old);
            if !is_required(new) || !is_new(key) {
                continue;
            }
            self.step(before.parameters.len())?;
            if !before.parameters.keys().any(is_moved) {
                self.found(format!("parameter {} is new, and required", after.field(key.0, new)));
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
        let at = format!("{}.response", before.name);
        let is_success = |status: &str| status.starts_with('2');
        for (status, old) in &before.responses {
            match after.responses.get(status) {
                Some(new) => self.contents(&at, Side::Answered, old, new)?,
                None if is_success(status) => {
                    self.found(format!("{}: status {} is gone", before.name, short(status)));
                }
                None => {}
            }
        }
        let Some(old) =
            before.responses.get("default").filter(|_| !before.responses.keys().any(|each| is_success(each)))
        else {
            return Ok(());
        };
        // It was the answer to what succeeds: what takes its place is held against it.
        let mut instead = after.responses.iter().filter(|(status, _)| is_success(status)).peekable();
        if instead.peek().is_none() && !after.responses.contains_key("default") {
            self.found(format!("{}: status default is gone", before.name));
        }
        for (_, new) in instead {
            self.contents(&at, Side::Answered, old, new)?;
        }
        Ok(())
    }

    fn contents(&mut self, at: &str, side: Side, old: Object<'d>, new: Object<'d>) -> Result<(), Undocumented> {
        let (old, new) = (self.old.contents(old, at)?, self.new.contents(new, at)?);
        self.step(1 + old.len() + new.len())?;
        for (media, old) in old {
            match new.get(media) {
                None => self.found(format!("{at}: {} is gone", short(media))),
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
            self.step(old.read + new.read)?;
            let kept = |schema: &Schema<'_>| -> Kept {
                (schema.is_never, schema.parts.iter().map(|part| address(part)).collect())
            };
            if self.seen.insert((pair.side, kept(&old), kept(&new))) {
                self.step(1 + old.words() + new.words())?;
                self.schema(&pair.at, pair.side, &old, &new);
            }
        }
        Ok(())
    }

    fn schema(&mut self, at: &str, side: Side, old: &Schema<'d>, new: &Schema<'d>) {
        if old.is_never || new.is_never {
            if !old.is_never {
                self.found(format!("{at} cannot be there any more"));
            }
            return;
        }
        // What is sent by the one must be what the other takes: consumers send requests, and take responses.
        let (sent, taken) = if side == Side::Asked { (old, new) } else { (new, old) };
        let fits = fit(sent.types(), taken.types()) && old.word("format") == new.word("format");
        if !fits {
            self.found(format!("{at} was {}, and is {}", kind(old), kind(new)));
        } else if sent.says_nullable() && !taken.may_be_null() {
            self.found(match side {
                Side::Asked => format!("{at} may not be null any more"),
                Side::Answered => format!("{at} may be null now"),
            });
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
        self.further(at, side, old, new);
        self.alternatives(at, side, old, new);
    }

    /// Items, and the properties that it does not name. Where nothing is said of them they may be anything.
    fn further(&mut self, at: &str, side: Side, old: &Schema<'d>, new: &Schema<'d>) {
        const WORDS: [(&str, &str, &str); 3] = [
            ("items", "array", "items"),
            ("additionalProperties", "object", "further properties"),
            ("unevaluatedProperties", "object", "further properties"),
        ];
        let is_none = |schemas: &[&Value]| schemas.iter().any(|schema| **schema == Value::Bool(false));
        let or_any = |schemas: Vec<&'d Value>| if schemas.is_empty() { vec![ANYTHING] } else { schemas };
        for (word, kind, are) in WORDS {
            let (before, after) = (old.all(word), new.all(word));
            let is_said_once = before.is_empty() || after.is_empty();
            let are_there = !is_said_once || (old.may_be(kind) && new.may_be(kind));
            if !are_there || (before.is_empty() && after.is_empty()) {
                continue;
            }
            if !is_none(&after) {
                let (old, new) = (or_any(before), or_any(after));
                self.waiting.push_back(Pair { at: at.to_owned(), side, old, new });
            } else if side == Side::Asked && !is_none(&before) {
                self.found(format!("{at} takes no {are} any more"));
            }
        }
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
        let (before, after) = (old.alternatives(), new.alternatives());
        match (side, before.is_empty(), after.is_empty()) {
            (Side::Asked, true, false) => self.found(format!("{at} is one of several now")),
            (Side::Answered, false, true) => self.found(format!("{at} is not one of several any more")),
            _ => {}
        }
        let is_of_several = !after.is_empty();
        let Matched { pairs, gone, added } = matched(before, after);
        for (old, new) in pairs {
            self.waiting.push_back(Pair { at: at.to_owned(), side, old: vec![old], new: vec![new] });
        }
        for each in gone.iter().filter(|_| side == Side::Asked && is_of_several) {
            self.found(format!("{at}: the alternative {} is gone", short(&each.shown())));
        }
        for each in added.iter().filter(|_| side == Side::Answered) {
            self.found(format!("{at}: the alternative {} is new", short(&each.shown())));
        }
    }
}

struct Matched<'d> {
    pairs: Vec<(&'d Value, &'d Value)>,
    gone: Vec<Alternative<'d>>,
    added: Vec<Alternative<'d>>,
}

/// Which alternative is which: those that say the same, then those that are called the same, then the others in their order.
fn matched<'d>(before: Vec<Alternative<'d>>, after: Vec<Alternative<'d>>) -> Matched<'d> {
    let (mut pairs, mut gone, mut added) = (Vec::new(), before, after);
    let ways: [fn(&Alternative<'d>) -> Option<String>; 3] =
        [Alternative::content, Alternative::called, Alternative::written_here];
    for way in ways {
        let (mut waiting, mut rest) = (BTreeMap::<String, VecDeque<Alternative<'d>>>::new(), Vec::new());
        for new in added {
            match way(&new) {
                Some(key) => waiting.entry(key).or_default().push_back(new),
                None => rest.push(new),
            }
        }
        gone.retain(|old| {
            let new = way(old).and_then(|key| waiting.get_mut(&key)?.pop_front());
            pairs.extend(new.as_ref().map(|new| (old.schema, new.schema)));
            new.is_none()
        });
        rest.extend(waiting.into_values().flatten());
        rest.sort_by_key(|new| new.place);
        added = rest;
    }
    Matched { pairs, gone, added }
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
    let types =
        schema.types().map(|types| types.into_iter().take(MAX_TYPES).map(short).collect::<Vec<_>>().join(" or "));
    let types = types.unwrap_or_else(|| "anything".to_owned());
    schema.word("format").map_or(types.clone(), |format| format!("{types} ({})", short(format)))
}

/// A word of the document, no longer than a line takes.
fn short(word: &str) -> String {
    word.chars().take(60).filter(|letter| !letter.is_control()).collect()
}
