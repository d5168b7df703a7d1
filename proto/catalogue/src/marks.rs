//! What the options of `causeway/options.proto` say of a field, read from the bytes by their numbers: whatever else a hostile set
//! calls by these names or numbers, they have one meaning.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor};
use proto::catalogue::{ElementField, ElementName, Part};
use proto::registration::Text;

/// The name by which publishers import the options.
pub const OPTIONS_FILE: &str = "causeway/options.proto";
/// The file that has them.
pub const OPTIONS_SOURCE: &str = include_str!("../../causeway/options.proto");

const ELEMENT: u32 = 51001;
const AUTHORITATIVE: u32 = 51002;
const SUBJECT: u32 = 51003;
const COLLECTED: u32 = 51004;
const REASON_TO_COLLECT: u32 = 51005;
/// Numbers of `google.protobuf.FieldOptions` that are ours.
const OURS: std::ops::RangeInclusive<u32> = 51000..=51099;
const OPTIONS: [(&str, u32, Kind); 5] = [
    ("causeway.element", ELEMENT, Kind::String),
    ("causeway.authoritative", AUTHORITATIVE, Kind::Bool),
    ("causeway.subject", SUBJECT, Kind::Bool),
    ("causeway.collected", COLLECTED, Kind::Bool),
    ("causeway.reason_to_collect", REASON_TO_COLLECT, Kind::String),
];

/// What is wrong with an option of a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismarked {
    /// A value that the option does not have.
    #[error("{field}: ({option}) has no such value: {reason}")]
    Value {
        /// The field.
        field: String,
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An option of a later version, or of nobody.
    #[error(
        "{field}: there is no option {number} in {OPTIONS_FILE}; take the file of this version, or leave the option out"
    )]
    Unknown {
        /// The field.
        field: String,
        /// Its number.
        number: u32,
    },
    /// Options that cannot both be meant.
    #[error("{field}: {what}")]
    Contradiction {
        /// The field.
        field: String,
        /// Which, and what to do.
        what: &'static str,
    },
    /// An option where it can say nothing.
    #[error("{field} cannot carry ({option}): {why}")]
    CannotCarry {
        /// The field.
        field: String,
        /// The option.
        option: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// Another's options under our name or number.
    #[error(
        "{name} is not as in {OPTIONS_FILE}: its numbers 51000 to 51099 and its names are Causeway's; import that file"
    )]
    OtherOptions {
        /// The extension.
        name: String,
    },
}

/// The options of one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub element: Option<ElementName>,
    pub authoritative: bool,
    pub subject: bool,
    pub collected: bool,
    pub reason: Option<Text>,
}

impl Mark {
    /// As the .proto file says it.
    pub fn written(&self) -> Vec<String> {
        let flags = [("authoritative", self.authoritative), ("subject", self.subject), ("collected", self.collected)];
        let element = self.element.iter().map(|element| format!("(causeway.element) = \"{element}\""));
        let flags = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| format!("(causeway.{name}) = true"));
        let reason = self.reason.iter().map(|reason| {
            let text = reason.as_str().replace('\\', "\\\\").replace('"', "\\\"");
            format!("(causeway.reason_to_collect) = \"{text}\"")
        });
        element.chain(flags).chain(reason).collect()
    }

    /// Reads the options of a field. What is not ours is passed over.
    fn read(field: &str, mut options: &[u8]) -> Result<Self, Mismarked> {
        let mut mark = Self::default();
        while options.has_remaining() {
            let (number, wire) = decode_key(&mut options).map_err(|error| unreadable(field, &error))?;
            if !OURS.contains(&number) {
                skip_field(wire, number, &mut options, DecodeContext::default())
                    .map_err(|error| unreadable(field, &error))?;
                continue;
            }
            let Some((option, _, kind)) = OPTIONS.iter().find(|(_, known, _)| *known == number) else {
                return Err(Mismarked::Unknown { field: field.to_owned(), number });
            };
            let wrong = |reason: String| Mismarked::Value { field: field.to_owned(), option, reason };
            match (kind, wire) {
                (Kind::Bool, WireType::Varint) => {
                    let value = decode_varint(&mut options).map_err(|error| wrong(error.to_string()))?;
                    let value = match value {
                        0 => false,
                        1 => true,
                        other => return Err(wrong(format!("{other} is neither true nor false"))),
                    };
                    match number {
                        AUTHORITATIVE => mark.authoritative = value,
                        SUBJECT => mark.subject = value,
                        _ => mark.collected = value,
                    }
                }
                (Kind::String, WireType::LengthDelimited) => {
                    let mut text = String::new();
                    prost::encoding::string::merge(wire, &mut text, &mut options, DecodeContext::default())
                        .map_err(|error| wrong(error.to_string()))?;
                    if number == ELEMENT {
                        mark.element = Some(text.parse().map_err(|error| wrong(format!("{error}")))?);
                    } else {
                        mark.reason = Some(text.parse().map_err(|error| wrong(format!("{error}")))?);
                    }
                }
                _ => return Err(wrong("it is of another type".to_owned())),
            }
        }
        Ok(mark)
    }

    /// Options that cannot both be meant.
    pub fn contradiction(&self) -> Option<&'static str> {
        let Self { element, authoritative, collected, reason, subject: _ } = self;
        match (element, authoritative, collected, reason) {
            (None, true, _, _) => Some("it is authoritative for nothing; say for which element"),
            (None, _, true, _) => Some("it is said that people are asked for it, and not what it is; give its element"),
            (_, true, _, Some(_)) => Some(
                "it is authoritative, and gives a reason to ask people again; the source needs none: leave one of both out",
            ),
            (_, _, false, Some(_)) => Some(
                "it has a reason to ask people, and does not ask them; mark it as collected, or leave the reason out",
            ),
            _ => None,
        }
    }
}

fn unreadable(field: &str, error: &prost::DecodeError) -> Mismarked {
    Mismarked::Value { field: field.to_owned(), option: "its options", reason: error.to_string() }
}

/// The options of all fields of a set, by the fields' full names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks(BTreeMap<String, Mark>);

impl Marks {
    /// Reads them, and holds them against where their fields stand.
    pub fn read(bytes: &[u8], pool: &DescriptorPool) -> Result<Self, Mismarked> {
        only_our_options(pool)?;
        let mut marks = Self::default();
        let Ok(set) = raw::Set::decode(bytes) else { return Ok(marks) };
        for file in &set.file {
            for extension in &file.extension {
                not_on_an_extension(extension)?;
            }
            for message in &file.message_type {
                marks.message(&file.package, message)?;
            }
        }
        if !marks.0.is_empty() {
            marks.fit(pool)?;
        }
        Ok(marks)
    }

    /// What is said of this field.
    pub fn of(&self, field: &FieldDescriptor) -> Option<&Mark> {
        if self.0.is_empty() { None } else { self.0.get(field.full_name()) }
    }

    /// The fields of a service that carry an element, as an entry has them.
    pub fn of_service(&self, service: &ServiceDescriptor) -> Vec<ElementField> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let (asked, answered) = reached(std::slice::from_ref(service));
        let mut fields = BTreeSet::new();
        for (messages, of_request) in [(asked, true), (answered, false)] {
            for field in messages.values().flat_map(|message| message.fields().collect::<Vec<_>>()) {
                let Some(mark) = self.of(&field) else { continue };
                let Some(element) = mark.element.clone() else { continue };
                let part = match (of_request, mark.collected, mark.authoritative) {
                    (true, true, _) => Part::Collects,
                    (true, false, _) => Part::Takes,
                    (false, _, true) => Part::Authoritative,
                    (false, _, false) => Part::Gives,
                };
                let reason = mark.reason.clone().filter(|_| part == Part::Collects);
                fields.insert(ElementField { element, field: field.full_name().to_owned(), part, reason });
            }
        }
        fields.into_iter().collect()
    }

    fn message(&mut self, scope: &str, message: &raw::Message) -> Result<(), Mismarked> {
        let name = if scope.is_empty() { message.name.clone() } else { format!("{scope}.{}", message.name) };
        message.extension.iter().try_for_each(not_on_an_extension)?;
        for field in message.field.iter().filter(|field| !field.options.is_empty()) {
            let full_name = format!("{name}.{}", field.name);
            let mark = Mark::read(&full_name, &field.options.concat())?;
            if let Some(what) = mark.contradiction() {
                return Err(Mismarked::Contradiction { field: full_name, what });
            }
            if mark != Mark::default() {
                self.0.insert(full_name, mark);
            }
        }
        message.nested_type.iter().try_for_each(|nested| self.message(&name, nested))
    }

    /// Each option stands where it can say something.
    fn fit(&self, pool: &DescriptorPool) -> Result<(), Mismarked> {
        let services: Vec<_> = pool.services().collect();
        let (asked, answered) = reached(&services);
        for message in pool.all_messages() {
            let (is_asked, is_answered) =
                (asked.contains_key(message.full_name()), answered.contains_key(message.full_name()));
            for field in message.fields() {
                let Some(mark) = self.of(&field) else { continue };
                let cannot =
                    |option, why| Err(Mismarked::CannotCarry { field: field.full_name().to_owned(), option, why });
                let any = match mark {
                    Mark { element: Some(_), .. } => OPTIONS[0].0,
                    _ => OPTIONS[2].0,
                };
                if field.is_map() || message.is_map_entry() {
                    return cannot(any, "it is a map; mark the fields of a message that repeats");
                }
                if field.is_group() {
                    return cannot(any, "it is a group; make it a message");
                }
                let identifies = matches!(
                    field.kind(),
                    Kind::String
                        | Kind::Int32
                        | Kind::Int64
                        | Kind::Uint32
                        | Kind::Uint64
                        | Kind::Fixed32
                        | Kind::Fixed64
                );
                if mark.subject && !identifies {
                    return cannot("causeway.subject", "a person's identifier is a string or an integer");
                }
                if mark.authoritative && is_asked && !is_answered {
                    return cannot("causeway.authoritative", "it is in requests only, and a source answers");
                }
                if mark.collected && is_answered && !is_asked {
                    return cannot("causeway.collected", "it is in responses only, and people are asked in requests");
                }
            }
        }
        Ok(())
    }
}

/// The messages that requests, and that responses, of these services hold, however deep.
fn reached(
    services: &[ServiceDescriptor],
) -> (BTreeMap<String, MessageDescriptor>, BTreeMap<String, MessageDescriptor>) {
    let methods = || services.iter().flat_map(|service| service.methods().collect::<Vec<_>>());
    let within = |mut waiting: Vec<MessageDescriptor>| {
        let mut found = BTreeMap::new();
        while let Some(message) = waiting.pop() {
            if found.contains_key(message.full_name()) {
                continue;
            }
            waiting.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
            found.insert(message.full_name().to_owned(), message);
        }
        found
    };
    (
        within(methods().map(|method| method.input()).collect()),
        within(methods().map(|method| method.output()).collect()),
    )
}

/// Nobody else's options have our names or numbers: what a publisher reads in his files is what is read here.
fn only_our_options(pool: &DescriptorPool) -> Result<(), Mismarked> {
    for extension in pool.all_extensions() {
        let of_fields = extension.containing_message().full_name() == "google.protobuf.FieldOptions";
        let named_ours = extension.full_name().starts_with("causeway.");
        let numbered_ours = of_fields && OURS.contains(&extension.number());
        if !named_ours && !numbered_ours {
            continue;
        }
        let known = OPTIONS.iter().any(|(name, number, kind)| {
            (*name, *number) == (extension.full_name(), extension.number()) && *kind == extension.kind()
        });
        if !known || !of_fields || extension.is_list() {
            return Err(Mismarked::OtherOptions { name: extension.full_name().to_owned() });
        }
    }
    Ok(())
}

fn not_on_an_extension(extension: &raw::Field) -> Result<(), Mismarked> {
    let mark = Mark::read(&extension.name, &extension.options.concat())?;
    if mark == Mark::default() {
        return Ok(());
    }
    let why = "it extends another's message; mark fields of your own";
    Err(Mismarked::CannotCarry { field: extension.name.clone(), option: "causeway.element", why })
}

/// As much of a descriptor set as options need, with their bytes as they are.
mod raw {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub file: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "4")]
        pub message_type: Vec<Message>,
        #[prost(message, repeated, tag = "7")]
        pub extension: Vec<Field>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Message {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub field: Vec<Field>,
        #[prost(message, repeated, tag = "3")]
        pub nested_type: Vec<Message>,
        #[prost(message, repeated, tag = "6")]
        pub extension: Vec<Field>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Field {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(bytes = "vec", repeated, tag = "8")]
        pub options: Vec<Vec<u8>>,
    }
}
