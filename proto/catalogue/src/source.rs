//! A descriptor set as .proto text again, with its comments: for people who read it, and for compilers of other languages.

use std::fmt::Write;

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, ServiceDescriptor, Syntax,
};

use crate::breaking::kind_word;
use crate::described::{Comments, Described};
use crate::marks::{Marks, OPTIONS_FILE, OPTIONS_SOURCE};

/// The files that a service of a set needs, its own first: name and text.
pub fn files(described: &Described, service: &ServiceDescriptor) -> Vec<(String, String)> {
    let mut order = vec![service.parent_file()];
    let mut next = 0;
    while let Some(file) = order.get(next).cloned() {
        next += 1;
        for import in file.dependencies() {
            if !order.iter().any(|known| known.name() == import.name()) {
                order.push(import);
            }
        }
    }
    let well_known = |file: &&FileDescriptor| file.package_name() != "google.protobuf";
    let written = |file: &FileDescriptor| (file.name().to_owned(), text(described, file));
    order.iter().filter(well_known).map(written).collect()
}

/// One file.
pub fn text(described: &Described, file: &FileDescriptor) -> String {
    if file.name() == OPTIONS_FILE {
        return OPTIONS_SOURCE.to_owned();
    }
    let marks = described.marks();
    let mut writer = Writer { out: String::new(), comments: Comments::of(file), marks, indent: 0 };
    writer.file(file);
    writer.out
}

struct Writer<'a> {
    out: String,
    comments: Comments,
    marks: &'a Marks,
    indent: usize,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        let indent = "  ".repeat(if line.is_empty() { 0 } else { self.indent });
        let _ = writeln!(self.out, "{indent}{line}");
    }

    fn comment(&mut self, path: &[i32]) {
        let comment = self.comments.at(path).trim_end().to_owned();
        // A carriage return ends a line for some compilers: what follows it must not be outside the comment.
        for line in comment.split(['\n', '\r']) {
            if !comment.is_empty() {
                self.line(format!("// {}", line.trim()).trim_end());
            }
        }
    }

    fn block(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        self.line(&format!("{head} {{"));
        self.indent += 1;
        inside(self);
        self.indent -= 1;
        self.line("}");
    }

    fn file(&mut self, file: &FileDescriptor) {
        let proto3 = file.syntax() == Syntax::Proto3;
        self.line(if proto3 { "syntax = \"proto3\";" } else { "syntax = \"proto2\";" });
        if !file.package_name().is_empty() {
            self.line(&format!("package {};", file.package_name()));
        }
        for import in file.dependencies() {
            self.line(&format!("import {:?};", import.name()));
        }
        for service in file.services() {
            self.line("");
            self.service(&service);
        }
        for message in file.messages() {
            self.line("");
            self.message(&message, proto3);
        }
        for enumeration in file.enums() {
            self.line("");
            self.enumeration(&enumeration);
        }
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.comment(service.path());
        self.block(&format!("service {}", service.name()), |writer| {
            for method in service.methods() {
                writer.comment(method.path());
                let stream = |streams: bool| if streams { "stream " } else { "" };
                writer.line(&format!(
                    "rpc {}({}.{}) returns ({}.{});",
                    method.name(),
                    stream(method.is_client_streaming()),
                    method.input().full_name(),
                    stream(method.is_server_streaming()),
                    method.output().full_name(),
                ));
            }
        });
    }

    fn message(&mut self, message: &MessageDescriptor, proto3: bool) {
        self.comment(message.path());
        self.block(&format!("message {}", message.name()), |writer| {
            for range in message.reserved_ranges() {
                writer.line(&format!("reserved {} to {};", range.start, range.end.saturating_sub(1)));
            }
            for name in message.reserved_names() {
                writer.line(&format!("reserved {name:?};"));
            }
            for range in message.extension_ranges() {
                writer.line(&format!("extensions {} to {};", range.start, range.end.saturating_sub(1)));
            }
            for enumeration in message.child_enums() {
                writer.enumeration(&enumeration);
            }
            let of_group = |child: &MessageDescriptor| {
                message
                    .fields()
                    .any(|field| field.is_group() && field.kind().as_message().is_some_and(|group| group == child))
            };
            for child in message.child_messages().filter(|child| !child.is_map_entry() && !of_group(child)) {
                writer.message(&child, proto3);
            }
            let real = |field: &FieldDescriptor| field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            for field in message.fields().filter(|field| real(field).is_none()) {
                writer.field(&field, proto3, false);
            }
            for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
                writer.comment(oneof.path());
                writer.block(&format!("oneof {}", oneof.name()), |writer| {
                    oneof.fields().for_each(|field| writer.field(&field, proto3, true));
                });
            }
        });
    }

    fn field(&mut self, field: &FieldDescriptor, proto3: bool, of_oneof: bool) {
        self.comment(field.path());
        let label = match field.cardinality() {
            _ if of_oneof || field.is_map() => "",
            Cardinality::Repeated => "repeated ",
            Cardinality::Required => "required ",
            Cardinality::Optional if !proto3 || field.field_descriptor_proto().proto3_optional() => "optional ",
            Cardinality::Optional => "",
        };
        let (name, number) = (field.name(), field.number());
        let group = field.kind().as_message().cloned();
        // A group is declared where its field stands. What only says so could hold itself, and is written by its name.
        let declared = |group: &MessageDescriptor| group.parent_message().as_ref() == Some(field.parent_message());
        if let Some(group) = group.filter(|group| field.is_group() && declared(group)) {
            self.line(&format!("{label}group {} = {number} {{", group.name()));
            self.indent += 1;
            group.fields().for_each(|field| self.field(&field, proto3, false));
            self.indent -= 1;
            self.line("}");
            return;
        }
        let written = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
                format!("map<{}, {}>", typed(&key), typed(&value))
            }
            kind => typed(&kind),
        };
        let marks = self.marks.of(field).map(|mark| mark.written().join(", "));
        let marks = marks.map(|marks| format!(" [{marks}]")).unwrap_or_default();
        self.line(&format!("{label}{written} {name} = {number}{marks};"));
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptor) {
        self.comment(enumeration.path());
        self.block(&format!("enum {}", enumeration.name()), |writer| {
            if enumeration.enum_descriptor_proto().options.as_ref().is_some_and(|options| options.allow_alias()) {
                writer.line("option allow_alias = true;");
            }
            for value in enumeration.values() {
                writer.comment(value.path());
                writer.line(&format!("{} = {};", value.name(), value.number()));
            }
        });
    }
}

/// From the root of all names, so that no shorter name in between is taken for it.
fn typed(kind: &Kind) -> String {
    match kind {
        Kind::Message(_) | Kind::Enum(_) => format!(".{}", kind_word(kind)),
        kind => kind_word(kind),
    }
}
