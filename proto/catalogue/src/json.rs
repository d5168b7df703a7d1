//! Messages as JSON and back, by the proto3 JSON mapping and a service's own descriptors: no code is generated.
//!
//! Reading is strict: a name that is no field, a name that stands twice, a number that does not fit are refused with their place.
//! Neither way depends on how large or deep what is given is: both have limits that the caller states.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;

use prost::Message;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, SerializeOptions,
};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The deepest nesting that may be allowed: what the decoders of protobuf stop at.
pub const MAX_DEPTH: usize = 100;
/// Most names that an error lists.
const MAX_NAMES: usize = 24;

/// Why a text is no message of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    /// No JSON at all, too deep, or with a name that stands twice in one object.
    #[error("it is no JSON that is taken: {0}")]
    NoJson(String),
    /// A name that is no field.
    #[error("{}{name:?} is no field of {message}", place(.at))]
    UnknownField {
        /// Where it stands.
        at: String,
        /// The name.
        name: String,
        /// The type of the object that it stands in.
        message: String,
        /// The fields that there are.
        known: Vec<String>,
    },
    /// A name that is no value of an enum.
    #[error("{}{name:?} is no value of {enumeration}", place(.at))]
    UnknownValue {
        /// Where it stands.
        at: String,
        /// The name.
        name: String,
        /// The enum.
        enumeration: String,
        /// The values that there are.
        known: Vec<String>,
    },
    /// A value that does not fit.
    #[error("{}{why}", place(.at))]
    Value {
        /// Where it stands.
        at: String,
        /// What is wrong with it.
        why: String,
    },
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!("at {at}: ") }
}

impl Misread {
    /// A name that nobody knows here, and those that are known.
    pub fn names(&self) -> Option<(&str, &[String])> {
        match self {
            Self::UnknownField { name, known, .. } | Self::UnknownValue { name, known, .. } => Some((name, known)),
            Self::NoJson(_) | Self::Value { .. } => None,
        }
    }
}

/// Why a message cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unwritable(String);

/// The value that the text is, of whatever type, by the rules by which a message is read.
pub fn value(text: &[u8], max_depth: usize) -> Result<Value, Misread> {
    strict(text, max_depth)?;
    serde_json::from_slice(text).map_err(|error| Misread::NoJson(error.to_string()))
}

fn strict(text: &[u8], max_depth: usize) -> Result<(), Misread> {
    let mut strict = serde_json::Deserializer::from_slice(text);
    let depth = max_depth.min(MAX_DEPTH);
    let walked = Strict { depth, most: depth }.deserialize(&mut strict).and_then(|()| strict.end());
    walked.map_err(|error| Misread::NoJson(error.to_string()))
}

/// The message of this type that the text is, encoded.
pub fn read(kind: &MessageDescriptor, text: &[u8], max_depth: usize) -> Result<Vec<u8>, Misread> {
    strict(text, max_depth)?;
    let mut from = serde_json::Deserializer::from_slice(text);
    match DynamicMessage::deserialize_with_options(kind.clone(), &mut from, &strictly()) {
        Ok(message) => Ok(message.encode_to_vec()),
        Err(error) => Err(found(kind, text, &error)),
    }
}

/// A message of this type as JSON, in at most so many bytes.
pub fn write(kind: &MessageDescriptor, message: &[u8], max_bytes: usize) -> Result<Vec<u8>, Unwritable> {
    let message = DynamicMessage::decode(kind.clone(), message).map_err(|error| Unwritable(error.to_string()))?;
    written(&message, max_bytes)
}

/// One field of a message of this type as JSON, whether it is set or not.
pub fn write_part(
    kind: &MessageDescriptor,
    field: &str,
    message: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, Unwritable> {
    let message = DynamicMessage::decode(kind.clone(), message).map_err(|error| Unwritable(error.to_string()))?;
    let field = kind.get_field_by_name(field).ok_or_else(|| Unwritable(format!("{field:?} is no field of it")))?;
    // Of what is not set the default is told, and of what is in it nothing that is not.
    let is_set = message.has_field(&field);
    let mut part = DynamicMessage::new(kind.clone());
    if is_set {
        part.set_field(&field, message.get_field(&field).into_owned());
    }
    let part = written_as(&part, max_bytes, &SerializeOptions::new().skip_default_fields(is_set))?;
    let part: Value = serde_json::from_slice(&part).map_err(|error| Unwritable(error.to_string()))?;
    Ok(part[field.json_name()].to_string().into_bytes())
}

/// A message whose type was found already as JSON.
fn written(message: &DynamicMessage, max_bytes: usize) -> Result<Vec<u8>, Unwritable> {
    written_as(message, max_bytes, &SerializeOptions::new())
}

fn written_as(message: &DynamicMessage, max_bytes: usize, options: &SerializeOptions) -> Result<Vec<u8>, Unwritable> {
    let mut serializer = serde_json::Serializer::new(Bounded { written: Vec::new(), most: max_bytes });
    message
        .serialize_with_options(&mut serializer, options)
        .map_err(|error| Unwritable(format!("{} cannot be written: {error}", message.descriptor().full_name())))?;
    Ok(serializer.into_inner().written)
}

fn strictly() -> DeserializeOptions {
    DeserializeOptions::new().deny_unknown_fields(true)
}

/// Where in the text the first thing is that is wrong. Only what failed is looked through, level by level.
fn found(kind: &MessageDescriptor, text: &[u8], error: &serde_json::Error) -> Misread {
    let why = Misread::Value { at: String::new(), why: error.to_string() };
    match serde_json::from_slice(text) {
        Ok(value) => wrong_in(kind, &value, "").unwrap_or(why),
        Err(error) => Misread::NoJson(error.to_string()),
    }
}

/// What is wrong in this value of the type, as near to its place as can be said.
fn wrong_in(kind: &MessageDescriptor, value: &Value, at: &str) -> Option<Misread> {
    let error = DynamicMessage::deserialize_with_options(kind.clone(), value, &strictly()).err()?;
    let here = || Some(Misread::Value { at: at.to_owned(), why: error.to_string() });
    let Value::Object(members) = value else { return here() };
    if kind.full_name().starts_with("google.protobuf.") {
        return here();
    }
    for (name, value) in members {
        let field = kind.get_field_by_json_name(name).or_else(|| kind.get_field_by_name(name));
        let Some(field) = field else {
            if kind.get_extension_by_json_name(name).is_some() {
                continue;
            }
            let known = kind.fields().take(MAX_NAMES).map(|field| field.json_name().to_owned()).collect();
            let (name, message) = (name.clone(), kind.full_name().to_owned());
            return Some(Misread::UnknownField { at: at.to_owned(), name, message, known });
        };
        let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        if let Some(wrong) = wrong_in_field(kind, &field, name, value, &inner) {
            return Some(wrong);
        }
    }
    // Each field is well alone: it is what they are together.
    here()
}

fn wrong_in_field(
    kind: &MessageDescriptor,
    field: &FieldDescriptor,
    name: &str,
    value: &Value,
    at: &str,
) -> Option<Misread> {
    let alone = Value::Object([(name.to_owned(), value.clone())].into_iter().collect());
    let error = DynamicMessage::deserialize_with_options(kind.clone(), &alone, &strictly()).err()?;
    let parts: Vec<(String, &Value)> = match value {
        Value::Array(items) if field.is_list() => {
            items.iter().enumerate().map(|(number, item)| (format!("{at}[{number}]"), item)).collect()
        }
        Value::Object(items) if field.is_map() => {
            items.iter().map(|(key, item)| (format!("{at}[{key:?}]"), item)).collect()
        }
        whole => vec![(at.to_owned(), whole)],
    };
    let of_part = match (field.is_map(), field.kind()) {
        (true, Kind::Message(entry)) => entry.map_entry_value_field().kind(),
        (_, kind) => kind,
    };
    for (at, part) in &parts {
        let wrong = match (&of_part, part) {
            (Kind::Message(message), part) => wrong_in(message, part, at),
            (Kind::Enum(values), Value::String(name)) if values.get_value_by_name(name).is_none() => {
                let known = values.values().take(MAX_NAMES).map(|value| value.name().to_owned()).collect();
                let (name, enumeration) = (name.clone(), values.full_name().to_owned());
                Some(Misread::UnknownValue { at: at.clone(), name, enumeration, known })
            }
            _ => None,
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    Some(Misread::Value { at: at.to_owned(), why: error.to_string() })
}

/// Walks through a text and keeps nothing: how deep it is, and that no name stands twice in one object.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
    most: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        depth
            .map(|depth| Self { depth, most: self.most })
            .ok_or_else(|| E::custom(format!("it is nested more than {} levels deep", self.most)))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper::<A::Error>()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (inner, mut names) = (self.deeper::<A::Error>()?, BTreeSet::new());
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(inner)?;
            if let Some(twice) = names.replace(name) {
                return Err(A::Error::custom(format!("{twice:?} stands twice in one object")));
            }
        }
        Ok(())
    }
}

/// What is written, until it is too much: a few bytes of a message may be names of any length.
struct Bounded {
    written: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.written.len() + bytes.len() > self.most {
            return Err(std::io::Error::other(format!("it would be longer than {} bytes", self.most)));
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
