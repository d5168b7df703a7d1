//! Schemas of an OpenAPI document: what several that hold together say, as far as it is compared and looked through.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Document, MAX_FIELD_BYTES, Object, Undocumented, limit, object, wrong};

/// Most schemas that hold together of one value.
const MAX_TOGETHER: usize = 256;
/// Words that have one schema, of data that the schema has.
const ONE_BELOW: [&str; 11] = [
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "contentSchema",
    "propertyNames",
    "if",
    "then",
    "else",
];

/// Of a request, or of a response.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Side {
    Asked,
    Answered,
}

/// All that must hold of one value: a schema, what it refers to, and the members of its `allOf`.
pub(super) struct Schema<'d> {
    pub parts: Vec<Object<'d>>,
    /// One of them is `false`: there is no such value.
    pub is_never: bool,
    /// How many were looked at to find them.
    pub read: usize,
}

/// Where an object stands in memory: its name while the document is read.
pub(super) fn address(object: &Map<String, Value>) -> usize {
    std::ptr::from_ref(object) as usize
}

/// The name of a field in another, cut where it is longer than any that is listed. What no name of a field in the catalogue has
/// becomes `_`.
pub(super) fn child(at: &str, name: &str) -> String {
    let Some(room) = MAX_FIELD_BYTES.checked_sub(at.len()) else { return at.to_owned() };
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    format!("{at}.{}", name.chars().map(plain).take(room).collect::<String>())
}

fn list<'d>(part: Object<'d>, name: &str, at: &str) -> Result<&'d [Value], Undocumented> {
    match part.get(name) {
        None => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(wrong(at, format!("{name} is no list; mend the document"))),
    }
}

/// The members of what has this name, which may be missing: each name is one of the document's.
pub(super) fn names<'d>(part: Object<'d>, name: &str, at: &str) -> Result<Vec<(&'d str, &'d Value)>, Undocumented> {
    let members = part.get(name).map(|value| object(value, format_args!("{at}, {name}"))).transpose()?;
    Ok(members.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect())
}

/// Whether a property is no part of this side.
fn is_of_the_other(schema: &Value, side: Side) -> bool {
    let word = if side == Side::Asked { "readOnly" } else { "writeOnly" };
    schema.get(word).and_then(Value::as_bool) == Some(true)
}

/// The schemas in this one, but those that hold of the same value all together.
pub(super) fn below<'d>(part: Object<'d>, at: &str, side: Side) -> Result<Vec<(String, &'d Value)>, Undocumented> {
    let mut found = Vec::new();
    for (name, schema) in names(part, "properties", at)? {
        if !is_of_the_other(schema, side) {
            found.push((child(at, name), schema));
        }
    }
    for name in ["patternProperties", "dependentSchemas"] {
        found.extend(names(part, name, at)?.into_iter().map(|(_, schema)| (at.to_owned(), schema)));
    }
    for name in ONE_BELOW {
        found.extend(part.get(name).map(|schema| (at.to_owned(), schema)));
    }
    for name in ["oneOf", "anyOf", "prefixItems"] {
        found.extend(list(part, name, at)?.iter().map(|schema| (at.to_owned(), schema)));
    }
    Ok(found)
}

/// Its properties that are no part of this side, by where they stand.
pub(super) fn aside<'d>(part: Object<'d>, at: &str, side: Side) -> Result<Vec<(usize, &'d Value)>, Undocumented> {
    let properties = names(part, "properties", at)?.into_iter().map(|(_, schema)| schema);
    let others = properties.filter(|schema| is_of_the_other(schema, side));
    Ok(others.filter_map(|schema| Some((address(schema.as_object()?), schema))).collect())
}

/// How much there is to read of a value: each that it has in it, and sixteen bytes of a text, are a word.
fn length(value: &Value) -> usize {
    let text = |text: &str| 1 + text.len() / 16;
    match value {
        Value::String(said) => text(said),
        Value::Array(values) => 1 + values.iter().map(length).sum::<usize>(),
        Value::Object(members) => 1 + members.iter().map(|(name, value)| text(name) + length(value)).sum::<usize>(),
        _ => 1,
    }
}

impl<'d> Schema<'d> {
    /// Of schemas of this document, all of which hold.
    pub fn of(document: Document<'d>, schemas: &[&'d Value], at: &str) -> Result<Self, Undocumented> {
        let (mut parts, mut seen, mut waiting) = (Vec::new(), BTreeSet::new(), schemas.to_vec());
        let (mut is_never, mut read) = (false, 0);
        while let Some(value) = waiting.pop() {
            read += 1;
            limit("schemas that hold together of one value", read, MAX_TOGETHER)?;
            if let Value::Bool(is_any) = value {
                is_never |= !is_any;
                continue;
            }
            let part = object(value, at)?;
            if !seen.insert(address(part)) {
                continue;
            }
            if let Some(reference) = part.get("$ref") {
                let reference =
                    reference.as_str().ok_or_else(|| wrong(at, "its $ref is no text; mend the document"))?;
                waiting.push(document.target(reference, "schemas", at)?);
            }
            waiting.extend(list(part, "allOf", at)?);
            parts.push(part);
        }
        Ok(Self { parts, is_never, read })
    }

    /// How many words are read of it to compare it.
    pub fn words(&self) -> usize {
        let whole = ["enum", "const", "title", "oneOf", "anyOf"];
        let words = |(name, value): (&String, &Value)| match value {
            value if whole.contains(&name.as_str()) => length(value),
            Value::Array(values) => values.len(),
            Value::Object(members) => members.len(),
            _ => 1,
        };
        self.parts.iter().flat_map(|part| part.iter()).map(words).sum::<usize>() + self.parts.len()
    }

    /// Whether it may be of this type.
    pub fn may_be(&self, kind: &str) -> bool {
        self.types().is_none_or(|types| types.contains(kind))
    }

    /// Whether a part says that it may be null, beside a type or not.
    pub fn says_nullable(&self) -> bool {
        self.parts.iter().any(|part| part.get("nullable").and_then(Value::as_bool) == Some(true))
    }

    /// Whether it may be null.
    pub fn may_be_null(&self) -> bool {
        let alternatives = self.alternatives();
        let is_null = |schema: &Value| match schema.get("type") {
            Some(Value::String(one)) => one == "null",
            Some(Value::Array(several)) => several.iter().any(|one| one == "null"),
            _ => schema.get("nullable").and_then(Value::as_bool) == Some(true),
        };
        let is_open = alternatives.is_empty() || alternatives.iter().any(|one| is_null(one.schema));
        self.says_nullable() || self.types().map_or(is_open, |types| types.contains("null"))
    }

    /// The types that it may be; none: any.
    pub fn types(&self) -> Option<BTreeSet<&'d str>> {
        let mut types: Option<BTreeSet<&str>> = None;
        for part in &self.parts {
            let mut said: BTreeSet<&str> = match part.get("type") {
                Some(Value::String(one)) => BTreeSet::from([one.as_str()]),
                Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
                _ => continue,
            };
            if part.get("nullable").and_then(Value::as_bool) == Some(true) {
                said.insert("null");
            }
            let both: Option<BTreeSet<&str>> = types.as_ref().map(|types| types.intersection(&said).copied().collect());
            types = Some(both.filter(|both| !both.is_empty()).unwrap_or(said));
        }
        types
    }

    /// A word that the parts say of it: the first.
    pub fn word(&self, name: &str) -> Option<&'d str> {
        self.parts.iter().find_map(|part| part.get(name)?.as_str())
    }

    /// The only values that it has, as JSON; none: any.
    pub fn values(&self) -> Option<BTreeSet<String>> {
        let mut values: Option<BTreeSet<String>> = None;
        for part in &self.parts {
            let constant = part.get("const").map(std::slice::from_ref);
            let listed = part.get("enum").and_then(Value::as_array).map(Vec::as_slice);
            let Some(said) = constant.or(listed) else { continue };
            let said: BTreeSet<String> = said.iter().map(Value::to_string).collect();
            values = Some(values.map_or(said.clone(), |values| values.intersection(&said).cloned().collect()));
        }
        values
    }

    /// Its properties on this side, each with the schemas that hold of it.
    pub fn properties(&self, side: Side) -> BTreeMap<&'d str, Vec<&'d Value>> {
        let mut properties: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for (name, schema) in self.parts.iter().filter_map(|part| part.get("properties")?.as_object()).flatten() {
            properties.entry(name).or_default().push(schema);
        }
        let is_none = |schema: &&Value| is_of_the_other(schema, side) || **schema == Value::Bool(false);
        properties.retain(|_, schemas| !schemas.iter().any(is_none));
        properties
    }

    /// The properties that it must have, of those that there are on this side.
    pub fn required(&self, side: Side) -> BTreeSet<&'d str> {
        let listed = self.parts.iter().filter_map(|part| part.get("required")?.as_array()).flatten();
        let all: BTreeMap<&str, Vec<&Value>> = self.properties(side);
        let known: BTreeSet<&str> = self
            .parts
            .iter()
            .filter_map(|part| part.get("properties")?.as_object())
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        listed.filter_map(Value::as_str).filter(|name| all.contains_key(name) || !known.contains(name)).collect()
    }

    /// What the parts have under this name: of its items, or of the properties that it does not name.
    pub fn all(&self, name: &str) -> Vec<&'d Value> {
        self.parts.iter().filter_map(|part| part.get(name)).collect()
    }

    /// The schemas of which one holds.
    pub fn alternatives(&self) -> Vec<Alternative<'d>> {
        let several = self.parts.iter().flat_map(|part| ["oneOf", "anyOf"].map(|name| part.get(name)));
        let lists = several.flatten().filter_map(Value::as_array);
        let alternatives = lists.flat_map(|list| list.iter().enumerate());
        let placed = alternatives.enumerate();
        placed.map(|(place, (at, schema))| Alternative { place, number: at + 1, schema }).collect()
    }
}

/// One schema of those of which one holds.
pub(super) struct Alternative<'d> {
    /// Among all of them.
    pub place: usize,
    /// In its list, from 1.
    number: usize,
    pub schema: &'d Value,
}

impl<'d> Alternative<'d> {
    fn word(&self, name: &str) -> Option<&'d str> {
        self.schema.get(name).and_then(Value::as_str)
    }

    /// What people know it by: what it refers to, its title, or its number.
    pub fn shown(&self) -> String {
        let called = self.word("$ref").or_else(|| self.word("title"));
        called.map_or_else(|| self.number.to_string(), |called| called.rsplit('/').next().unwrap_or(called).to_owned())
    }

    /// All that it says, but how it is called.
    pub fn content(&self) -> Option<String> {
        let mut content = self.schema.clone();
        if let Some(members) = content.as_object_mut() {
            ["title", "description"].iter().for_each(|name| _ = members.remove(*name));
        }
        Some(content.to_string())
    }

    /// What it refers to, or its title.
    pub fn called(&self) -> Option<String> {
        let reference = self.word("$ref").map(|reference| format!("$ref {reference}"));
        reference.or_else(|| self.word("title").map(|title| format!("title {title}")))
    }

    /// What is written in its place has none but its place.
    pub fn written_here(&self) -> Option<String> {
        self.word("$ref").is_none().then(String::new)
    }
}
