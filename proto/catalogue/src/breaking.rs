//! Whether a new version breaks what consumers rely on: stubs that were made from the old one, and JSON that was written for
//! it. What is only added breaks nothing.

use std::collections::BTreeSet;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor};

/// Most findings that are told.
const MAX_TOLD: usize = 20;

/// What `new` breaks of `old`, each in a sentence that names the field.
pub fn breaks(old: &ServiceDescriptor, new: &ServiceDescriptor) -> Vec<String> {
    let mut compared = Compared::default();
    for before in old.methods() {
        let name = format!("{}/{}", old.full_name(), before.name());
        let Some(after) = new.methods().find(|method| method.name() == before.name()) else {
            compared.found(format!("method {name} is gone"));
            continue;
        };
        let streams = |client, server| match (client, server) {
            (false, false) => "one request, one response",
            (true, false) => "a stream of requests",
            (false, true) => "a stream of responses",
            (true, true) => "streams both ways",
        };
        let was = streams(before.is_client_streaming(), before.is_server_streaming());
        let is = streams(after.is_client_streaming(), after.is_server_streaming());
        if was != is {
            compared.found(format!("method {name} was {was}, and is {is}"));
        }
        for (what, before, after) in
            [("request", before.input(), after.input()), ("response", before.output(), after.output())]
        {
            if before.full_name() != after.full_name() {
                let (before, after) = (before.full_name(), after.full_name());
                compared.found(format!("the {what} of {name} was a {before}, and is a {after}"));
            } else {
                compared.messages(&before, &after);
            }
        }
    }
    compared.findings
}

#[derive(Default)]
struct Compared {
    findings: Vec<String>,
    seen: BTreeSet<String>,
    /// Types that are still to be compared: no call goes as deep as a hostile set might.
    waiting: Vec<(MessageDescriptor, MessageDescriptor)>,
}

impl Compared {
    fn found(&mut self, finding: String) {
        if self.findings.len() < MAX_TOLD && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn messages(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        self.waiting.push((old.clone(), new.clone()));
        while let Some((old, new)) = self.waiting.pop() {
            if self.seen.insert(old.full_name().to_owned()) {
                self.message(&old, &new);
            }
        }
    }

    fn message(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) {
        for before in old.fields() {
            let name = format!("field {} ({})", before.full_name(), before.number());
            match new.get_field(before.number()) {
                None => self.found(format!("{name} is gone")),
                Some(after) => self.field(&name, &before, &after),
            }
        }
        let required = new.fields().filter(|field| field.is_required() && old.get_field(field.number()).is_none());
        for field in required {
            self.found(format!("field {} ({}) is new, and required", field.full_name(), field.number()));
        }
    }

    fn field(&mut self, name: &str, before: &FieldDescriptor, after: &FieldDescriptor) {
        if before.name() != after.name() || before.json_name() != after.json_name() {
            self.found(format!("{name} is called {} now", after.name()));
        }
        if (before.is_list(), before.is_map()) != (after.is_list(), after.is_map()) {
            let word = |field: &FieldDescriptor| match (field.is_map(), field.is_list()) {
                (true, _) => "a map",
                (_, true) => "repeated",
                _ => "single",
            };
            self.found(format!("{name} was {}, and is {}", word(before), word(after)));
        }
        if after.is_required() && !before.is_required() {
            self.found(format!("{name} is required now"));
        }
        let oneof = |field: &FieldDescriptor| {
            let real = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            real.map(|oneof| oneof.name().to_owned())
        };
        match (oneof(before), oneof(after)) {
            (before, after) if before == after => {}
            (_, Some(after)) => self.found(format!("{name} is one of {after} now")),
            (Some(before), None) => self.found(format!("{name} is not one of {before} any more")),
            (None, None) => {}
        }
        match (before.kind(), after.kind()) {
            (Kind::Message(old), Kind::Message(new))
                if old.full_name() == new.full_name() || (old.is_map_entry() && new.is_map_entry()) =>
            {
                self.waiting.push((old, new));
            }
            (Kind::Enum(old), Kind::Enum(new)) if old.full_name() == new.full_name() => self.values(&old, &new),
            (old, new) if kind_word(&old) == kind_word(&new) => {}
            (old, new) => {
                self.found(format!("{name} was a {}, and is a {}", kind_word(&old), kind_word(&new)));
            }
        }
    }

    fn values(&mut self, old: &EnumDescriptor, new: &EnumDescriptor) {
        if !self.seen.insert(old.full_name().to_owned()) {
            return;
        }
        for before in old.values() {
            let name = format!("value {}.{} ({})", old.full_name(), before.name(), before.number());
            match new.get_value_by_name(before.name()) {
                None => self.found(format!("{name} is gone")),
                Some(after) if after.number() != before.number() => {
                    self.found(format!("{name} has the number {} now", after.number()));
                }
                Some(_) => {}
            }
        }
    }
}

/// As the .proto file says it.
pub(crate) fn kind_word(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        Kind::Double => "double".into(),
        Kind::Float => "float".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Uint32 => "uint32".into(),
        Kind::Uint64 => "uint64".into(),
        Kind::Sint32 => "sint32".into(),
        Kind::Sint64 => "sint64".into(),
        Kind::Fixed32 => "fixed32".into(),
        Kind::Fixed64 => "fixed64".into(),
        Kind::Sfixed32 => "sfixed32".into(),
        Kind::Sfixed64 => "sfixed64".into(),
        Kind::Bool => "bool".into(),
        Kind::String => "string".into(),
        Kind::Bytes => "bytes".into(),
    }
}
