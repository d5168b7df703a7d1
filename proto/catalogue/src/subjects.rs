//! Whom a request is about: the fields marked `subject`, found in a message's bytes by number. What there is to know of a
//! service is worked out once, when it is listed; a message is read without its descriptors.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost_reflect::{Kind, MessageDescriptor};
use proto::catalogue::{ElementName, Entry, Part, shortened};
use proto::identifier::MethodPath;
use proto::rest::{Operations, Place};
use serde::{Deserialize, Serialize};

use crate::described::{Comments, Described, Undescribed};
use crate::marks::Marks;
use crate::wire_fields::{MAX_DEPTH, NoMessage, OnWire, WireFields, chunk, varint};

/// Most subjects that one message may name.
pub const MAX_SUBJECTS: usize = 1_000;

/// What a service is, for whoever tells people of its calls, and where its requests say whom they are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// Its name for people.
    pub title: String,
    /// Its methods by their names.
    pub methods: BTreeMap<String, MethodFacts>,
}

/// The same of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodFacts {
    /// Its comment.
    pub description: String,
    /// The data elements that its answers carry.
    pub gives: BTreeSet<ElementName>,
    /// Where its requests say whom they are about. None: they are about nobody.
    pub subjects: Option<SubjectFields>,
    /// Where it stands, if it is an operation of a REST service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The way to each subject of a request: messages by the place in this list, the request first, and of each the fields
/// that are a subject or lead to one. Types that hold themselves make it a circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectFields(Vec<BTreeMap<u32, Step>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Into(usize),
    /// The same where the message is a group: parsers know it by no other wire type.
    Group(usize),
    Text,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Fixed32,
    Fixed64,
}

/// Why nobody can say whom a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is none.
    #[error(transparent)]
    NoMessage(#[from] NoMessage),
    /// Deeper than any parser reads.
    #[error("it holds messages deeper than {MAX_DEPTH} in one another")]
    TooDeep,
    /// More persons than a message may be about.
    #[error("it names more than {MAX_SUBJECTS} subjects; send several messages")]
    TooMany,
}

impl ServiceFacts {
    /// Of a service of these descriptors.
    pub fn of(described: &Described, service: &str, title: &str) -> Result<Self, Undescribed> {
        let service = described.service(service)?;
        let comments = Comments::of(&service.parent_file());
        let methods = service.methods().map(|method| {
            let facts = MethodFacts {
                description: shortened(comments.at(method.path())),
                gives: elements(described.marks(), method.output()),
                subjects: SubjectFields::of(described.marks(), method.input()),
                place: None,
            };
            (method.name().to_owned(), facts)
        });
        Ok(Self { title: title.to_owned(), methods: methods.collect() })
    }

    /// Of a REST service, of which its entry says all. Its requests name no subject (PROTOCOL.md 17.8).
    pub fn of_rest(entry: &Entry) -> Self {
        let methods = entry.methods.iter().map(|operation| {
            let gives = entry.elements.iter().filter(|each| {
                let of_it = each.field.split('.').next() == Some(&operation.name);
                of_it && matches!(each.part, Part::Gives | Part::Authoritative)
            });
            let facts = MethodFacts {
                description: operation.description.clone(),
                gives: gives.map(|each| each.element.clone()).collect(),
                subjects: None,
                place: operation.place.clone(),
            };
            (operation.name.clone(), facts)
        });
        Self { title: entry.title.to_string(), methods: methods.collect() }
    }

    /// The operations of a REST service that has this name; none where it is no REST service.
    pub fn operations(&self, service: &str) -> Option<Operations> {
        let path = |name: &str| format!("/{service}/{name}").parse::<MethodPath>().ok();
        let of = self.methods.iter().map(|(name, facts)| Some((facts.place.clone()?, path(name)?)));
        Operations::new(of.collect::<Option<Vec<_>>>()?).ok()
    }
}

/// The elements of all messages that this one holds, however deep.
fn elements(marks: &Marks, message: MessageDescriptor) -> BTreeSet<ElementName> {
    let (mut seen, mut waiting, mut found) = (BTreeSet::new(), vec![message], BTreeSet::new());
    while let Some(message) = waiting.pop() {
        if !seen.insert(message.full_name().to_owned()) {
            continue;
        }
        for field in message.fields() {
            found.extend(marks.of(&field).and_then(|mark| mark.element.clone()));
            waiting.extend(field.kind().as_message().cloned());
        }
    }
    found
}

impl SubjectFields {
    fn of(marks: &Marks, request: MessageDescriptor) -> Option<Self> {
        let (mut places, mut messages, mut steps) = (HashMap::new(), vec![request.clone()], Vec::new());
        places.insert(request.full_name().to_owned(), 0);
        while let Some(message) = messages.get(steps.len()).cloned() {
            let mut of_message = BTreeMap::new();
            for field in message.fields() {
                let step = match field.kind() {
                    Kind::Message(inner) => {
                        let place = *places.entry(inner.full_name().to_owned()).or_insert_with(|| {
                            messages.push(inner);
                            messages.len() - 1
                        });
                        Some(if field.is_group() { Step::Group(place) } else { Step::Into(place) })
                    }
                    kind if marks.of(&field).is_some_and(|mark| mark.subject) => Step::of(&kind),
                    _ => None,
                };
                of_message.extend(step.map(|step| (field.number(), step)));
            }
            steps.push(of_message);
        }
        // What leads to no subject is left out: its bytes are not looked into.
        let mut leading = vec![false; steps.len()];
        loop {
            let leads = |of_message: &BTreeMap<u32, Step>| {
                of_message.values().any(|step| step.place().is_none_or(|place| leading[place]))
            };
            let now: Vec<bool> = steps.iter().map(leads).collect();
            if now == leading {
                break;
            }
            leading = now;
        }
        for of_message in &mut steps {
            of_message.retain(|_, step| step.place().is_none_or(|place| leading[place]));
        }
        leading[0].then_some(Self(steps))
    }

    /// The one field of a request that is a text and its subject.
    pub fn text(number: u32) -> Self {
        Self(vec![BTreeMap::from([(number, Step::Text)])])
    }

    /// Gives every subject that a message names: of a field that is there twice both, though parsers take the last. A text as
    /// its bytes are, a number in decimal digits; empty texts and zeros, which proto3 does not tell from nothing, are none.
    pub fn each(&self, message: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
        self.walk(0, message, 0, &mut 0, found)
    }

    fn walk(
        &self,
        place: usize,
        message: &[u8],
        depth: usize,
        count: &mut usize,
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Unreadable> {
        if depth > MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        let steps = self.0.get(place).ok_or(Unreadable::TooDeep)?;
        let mut one = |subject: &[u8]| {
            if subject.is_empty() || subject == b"0" {
                return Ok(());
            }
            *count += 1;
            if *count > MAX_SUBJECTS {
                return Err(Unreadable::TooMany);
            }
            found(subject);
            Ok(())
        };
        let mut inner = Vec::new();
        for field in WireFields::of(message) {
            let (number, value) = field?;
            let Some(step) = steps.get(&number) else { continue };
            match (step, value) {
                (Step::Into(place), OnWire::Bytes(bytes)) | (Step::Group(place), OnWire::Group(bytes)) => {
                    inner.push((*place, bytes));
                }
                // Of another wire type than it has: parsers take it for a field that they do not know.
                (Step::Group(_), _) | (Step::Into(_), OnWire::Varint(_)) => {}
                (Step::Text, OnWire::Bytes(bytes)) => one(bytes)?,
                // Packed, as a field that repeats may be.
                (step, OnWire::Bytes(mut rest)) => {
                    while !rest.is_empty() {
                        one(step.packed(&mut rest)?.as_bytes())?;
                    }
                }
                (step, OnWire::Varint(number)) => one(step.number(number).as_bytes())?,
                (Step::Fixed64, OnWire::Fixed64(number)) => one(number.to_string().as_bytes())?,
                (Step::Fixed32, OnWire::Fixed32(number)) => one(number.to_string().as_bytes())?,
                (_, OnWire::Group(_) | OnWire::Fixed64(_) | OnWire::Fixed32(_)) => {}
            }
        }
        inner.into_iter().try_for_each(|(place, bytes)| self.walk(place, bytes, depth + 1, count, found))
    }
}

impl Step {
    fn of(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::String => Self::Text,
            Kind::Int32 => Self::Int32,
            Kind::Int64 => Self::Int64,
            Kind::Uint32 => Self::Uint32,
            Kind::Uint64 => Self::Uint64,
            Kind::Fixed32 => Self::Fixed32,
            Kind::Fixed64 => Self::Fixed64,
            _ => return None,
        })
    }

    /// The message that it leads to.
    fn place(self) -> Option<usize> {
        match self {
            Self::Into(place) | Self::Group(place) => Some(place),
            _ => None,
        }
    }

    /// A varint as the field's type reads it. Empty where the type has none.
    fn number(self, varint: u64) -> String {
        match self {
            Self::Int32 => (varint as u32 as i32).to_string(),
            Self::Int64 => (varint as i64).to_string(),
            Self::Uint32 => (varint as u32).to_string(),
            Self::Uint64 => varint.to_string(),
            Self::Into(_) | Self::Group(_) | Self::Text | Self::Fixed32 | Self::Fixed64 => String::new(),
        }
    }

    fn packed(self, rest: &mut &[u8]) -> Result<String, NoMessage> {
        Ok(match self {
            Self::Fixed32 => u32::from_le_bytes(chunk(rest)?).to_string(),
            Self::Fixed64 => u64::from_le_bytes(chunk(rest)?).to_string(),
            _ => self.number(varint(rest)?),
        })
    }
}
