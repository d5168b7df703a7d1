//! Schemas of an OpenAPI document: what several that hold together say, as far as it is compared and looked through.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Document, Object, Undocumented, limit, object, wrong};

/// Most schemas that hold together of one value.
const MAX_TOGETHER: usize = 256;

/// Of a request, or of a response.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Side {
    Asked,
    Answered,
}

/// All that must hold of one value: a schema, what it refers to, and the members of its `allOf`.
pub(super) struct Schema<'d> {
    pub parts: Vec<Object<'d>>,
}

/// Where an object stands in memory: its name while the document is read.
pub(super) fn address(object: &Map<String, Value>) -> usize {
    std::ptr::from_ref(object) as usize
}

/// The name of a field in another. What no name of a field in the catalogue has becomes `_`.
pub(super) fn child(at: &str, name: &str) -> String {
    if at.len() > super::MAX_FIELD_BYTES {
        return at.to_owned();
    }
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    format!("{at}.{}", name.chars().map(plain).collect::<String>())
}

fn list<'d>(part: Object<'d>, name: &str, at: &str) -> Result<&'d [Value], Undocumented> {
    match part.get(name) {
        None => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(wrong(at, format!("{name} is no list; mend the document"))),
    }
}

fn names<'d>(part: Object<'d>, name: &str, at: &str) -> Result<Vec<(&'d str, &'d Value)>, Undocumented> {
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
    for name in ["additionalProperties", "unevaluatedProperties", "items", "then", "else"] {
        found.extend(part.get(name).map(|schema| (at.to_owned(), schema)));
    }
    for name in ["oneOf", "anyOf", "prefixItems"] {
        found.extend(list(part, name, at)?.iter().map(|schema| (at.to_owned(), schema)));
    }
    Ok(found)
}

impl<'d> Schema<'d> {
    /// Of schemas of this document, all of which hold.
    pub fn of(document: Document<'d>, schemas: &[&'d Value], at: &str) -> Result<Self, Undocumented> {
        let (mut parts, mut seen, mut waiting) = (Vec::new(), BTreeSet::new(), schemas.to_vec());
        while let Some(value) = waiting.pop() {
            if value.is_boolean() {
                continue;
            }
            let part = object(value, at)?;
            if !seen.insert(address(part)) {
                continue;
            }
            limit("schemas that hold together of one value", seen.len(), MAX_TOGETHER)?;
            if let Some(reference) = part.get("$ref") {
                let reference =
                    reference.as_str().ok_or_else(|| wrong(at, "its $ref is no text; mend the document"))?;
                waiting.push(document.target(reference, "schemas", at)?);
            }
            waiting.extend(list(part, "allOf", at)?);
            parts.push(part);
        }
        Ok(Self { parts })
    }

    /// How many words are read of it.
    pub fn words(&self) -> usize {
        let length = |value: &Value| match value {
            Value::Array(values) => values.len(),
            Value::Object(members) => members.len(),
            _ => 1,
        };
        self.parts.iter().flat_map(|part| part.values()).map(length).sum::<usize>() + self.parts.len()
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
        properties.retain(|_, schemas| !schemas.iter().any(|schema| is_of_the_other(schema, side)));
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

    /// The schemas of which one holds, by what they refer to or their place.
    pub fn alternatives(&self) -> BTreeMap<String, &'d Value> {
        let mut alternatives = BTreeMap::new();
        for (part, name) in self.parts.iter().flat_map(|part| ["oneOf", "anyOf"].map(|name| (part, name))) {
            for (at, schema) in part.get(name).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let called = schema.get("$ref").or_else(|| schema.get("title")).and_then(Value::as_str);
                let called = called.map(|called| called.rsplit('/').next().unwrap_or(called).to_owned());
                alternatives.insert(called.unwrap_or_else(|| format!("{}", at + 1)), schema);
            }
        }
        alternatives
    }
}
