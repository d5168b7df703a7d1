//! What is made of descriptor sets, good and hostile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;

use catalogue::described::{MAX_FILES, MAX_NESTING};
use catalogue::{Described, Said, Undescribed, breaks, reduced, source};
use proptest::prelude::*;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions,
    MethodDescriptorProto, ServiceDescriptorProto,
};

const CIVIL: &str = r#"
syntax = "proto3";
package civil.v1;
import "google/protobuf/timestamp.proto";
// Hộ tịch: births.
service Births {
  // Registers a birth.
  rpc Register(Birth) returns (Receipt);
  rpc Follow(stream Birth) returns (stream Receipt);
}
message Birth {
  // The child's name.
  string name = 1;
  google.protobuf.Timestamp born = 2;
  repeated string parents = 3;
  oneof place { string town = 4; string country = 5; }
  map<string, Note> notes = 6;
  optional Sex sex = 7;
  message Note { string text = 1; }
  Birth twin = 8;
}
enum Sex { UNKNOWN = 0; FEMALE = 1; MALE = 2; }
message Receipt { int64 number = 1; reserved 2 to 3; reserved "old"; }
"#;

fn compiled(source: &str) -> Vec<u8> {
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(InMemory(source.to_owned()));
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true).open_file("civil.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

struct InMemory(String);

impl protox::file::FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        if name == "civil.proto" {
            protox::file::File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

fn read(source: &str) -> Described {
    Described::read(&compiled(source)).unwrap()
}

fn broken(change: (&str, &str)) -> Vec<String> {
    assert!(CIVIL.contains(change.0), "{change:?}");
    let (old, new) = (read(CIVIL), read(&CIVIL.replacen(change.0, change.1, 1)));
    breaks(&old.service("civil.v1.Births").unwrap(), &new.service("civil.v1.Births").unwrap())
}

#[test]
fn methods_and_comments_are_those_of_the_source() {
    let Said { description, methods, .. } = read(CIVIL).said_of("civil.v1.Births").unwrap();
    assert_eq!(description, "Hộ tịch: births.");
    let told: Vec<_> = methods.iter().map(|method| (&method.name[..], &method.description[..])).collect();
    assert_eq!(told, [("Register", "Registers a birth."), ("Follow", "")]);
    assert_eq!((&methods[0].request[..], &methods[0].response[..]), ("civil.v1.Birth", "civil.v1.Receipt"));
    assert!(methods[1].client_streaming && methods[1].server_streaming && !methods[0].client_streaming);
}

#[test]
fn what_breaks_consumers_is_named_and_what_is_added_is_not() {
    let breaking = [
        (("rpc Register(Birth) returns (Receipt);", ""), "method civil.v1.Births/Register is gone"),
        (
            ("rpc Register(Birth)", "rpc Register(stream Birth)"),
            "was one request, one response, and is a stream of requests",
        ),
        (
            ("rpc Register(Birth)", "rpc Register(Receipt)"),
            "the request of civil.v1.Births/Register was a civil.v1.Birth",
        ),
        (("string name = 1;", ""), "field civil.v1.Birth.name (1) is gone"),
        (("string name = 1;", "string name = 9;"), "field civil.v1.Birth.name (1) is gone"),
        (("string name = 1;", "string full_name = 1;"), "field civil.v1.Birth.name (1) is called full_name now"),
        (("string name = 1;", "bytes name = 1;"), "field civil.v1.Birth.name (1) was a string, and is a bytes"),
        (("repeated string parents", "string parents"), "field civil.v1.Birth.parents (3) was repeated, and is single"),
        (("string name = 1;", "oneof who { string name = 1; }"), "field civil.v1.Birth.name (1) is one of who now"),
        (
            ("oneof place { string town = 4; string country = 5; }", "string town = 4; string country = 5;"),
            "not one of place",
        ),
        (("string text = 1;", "int32 text = 1;"), "field civil.v1.Birth.Note.text (1) was a string"),
        (("MALE = 2", "MALE = 3"), "value civil.v1.Sex.MALE (2) has the number 3 now"),
        (("FEMALE = 1;", ""), "value civil.v1.Sex.FEMALE (1) is gone"),
        (("int64 number = 1;", "sint64 number = 1;"), "field civil.v1.Receipt.number (1) was a int64"),
    ];
    for (change, named) in breaking {
        let findings = broken(change);
        assert!(findings.iter().any(|finding| finding.contains(named)), "{change:?}: {findings:?}");
    }
    let harmless = [
        ("string name = 1;", "string name = 1; string second_name = 10;"),
        ("MALE = 2;", "MALE = 2; OTHER = 3;"),
        ("// The child's name.", "// As in the certificate."),
        ("service Births {", "service Births { rpc Correct(Birth) returns (Receipt);"),
    ];
    for change in harmless {
        assert_eq!(broken(change), Vec::<String>::new(), "{change:?}");
    }
}

#[test]
fn what_is_written_as_text_compiles_to_the_same() {
    let described = read(CIVIL);
    let files = source::files(&described, &described.service("civil.v1.Births").unwrap());
    assert_eq!(files.len(), 1, "a well-known file needs no text");
    let text = &files[0].1;
    assert!(text.contains("// Hộ tịch: births.") && text.contains("// The child's name."), "{text}");
    let again = read(text);
    let service = |described: &Described| described.service("civil.v1.Births").unwrap();
    assert_eq!(breaks(&service(&described), &service(&again)), Vec::<String>::new(), "{text}");
    assert_eq!(breaks(&service(&again), &service(&described)), Vec::<String>::new(), "{text}");
    assert_eq!(source::files(&again, &service(&again))[0].1, *text);
    assert_eq!(again.said_of("civil.v1.Births").unwrap(), described.said_of("civil.v1.Births").unwrap());
}

#[test]
fn a_reduced_set_says_the_same_in_fewer_bytes() {
    let bytes = compiled(CIVIL);
    let small = reduced(&bytes, &["civil.v1.Births".to_owned()]).unwrap();
    assert!(small.len() < bytes.len() / 2, "{} of {}", small.len(), bytes.len());
    let (all, few) = (Described::read(&bytes).unwrap(), Described::read(&small).unwrap());
    assert_eq!(all.said_of("civil.v1.Births").unwrap(), few.said_of("civil.v1.Births").unwrap());
    assert_eq!(reduced(&small, &["civil.v1.Births".to_owned()]).unwrap(), small, "it is reduced once");
    let here = BTreeSet::from(["civil.proto".to_owned()]);
    assert_eq!(few.services_of(&here), ["civil.v1.Births"]);
}

#[test]
fn symbols_are_found_in_their_file() {
    let described = read(CIVIL);
    let symbols =
        ["civil.v1.Births", "civil.v1.Births.Register", "civil.v1.Birth.Note", "civil.v1.Birth.name", "civil.v1.Sex"];
    for symbol in symbols {
        assert_eq!(described.file_of(symbol).unwrap().name(), "civil.proto", "{symbol}");
    }
    for symbol in ["civil.v1.Birth.nothing", "civil.v1", ".", "", "civil.v1.Births.Nothing"] {
        assert!(described.file_of(symbol).is_none(), "{symbol}");
    }
}

// ---- hostile

fn file(name: &str, imports: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.into()),
        package: Some("a.v1".into()),
        syntax: Some("proto3".into()),
        dependency: imports.iter().map(|import| (*import).to_owned()).collect(),
        ..Default::default()
    }
}

fn refused(files: Vec<FileDescriptorProto>) -> Undescribed {
    Described::read(&FileDescriptorSet { file: files }.encode_to_vec()).unwrap_err()
}

fn message(name: &str) -> DescriptorProto {
    DescriptorProto { name: Some(name.into()), ..Default::default() }
}

#[test]
fn a_hostile_set_is_refused_by_name() {
    let import = Undescribed::Import { file: "a.proto".into(), import: "b.proto".into() };
    assert_eq!(refused(vec![file("a.proto", &["b.proto"])]), import);
    let circle = refused(vec![file("a.proto", &["b.proto"]), file("b.proto", &["a.proto"])]);
    assert_eq!(circle, Undescribed::Circle("a.proto".into()));
    assert_eq!(refused(vec![file("a.proto", &["a.proto"])]), Undescribed::Circle("a.proto".into()));
    assert_eq!(refused(vec![file("a.proto", &[]), file("a.proto", &[])]), Undescribed::FileTwice("a.proto".into()));
    assert_eq!(refused(vec![FileDescriptorProto::default()]), Undescribed::Nameless);
    assert!(matches!(Described::read(b"no descriptors").unwrap_err(), Undescribed::Unreadable(_)));
    let named = |name: &str| FileDescriptorProto { message_type: vec![message("M")], ..file(name, &[]) };
    let clash = refused(vec![named("a.proto"), named("b.proto")]).to_string();
    assert!(clash.contains("a.v1.M"), "{clash}");
    let unknown = FileDescriptorProto { syntax: Some("proto9".into()), ..named("a.proto") };
    let unknown = refused(vec![unknown]);
    let entry = DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
        ..message("M")
    };
    let entry = refused(vec![FileDescriptorProto { message_type: vec![entry], ..file("a.proto", &[]) }]).to_string();
    assert!(entry.contains("a.v1.M calls itself the entry of a map"), "{entry}");
    let field = |number: i32, name: &str, kind: Type| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        ..Default::default()
    };
    for (key, is_key) in [(Type::String, true), (Type::Sfixed64, true), (Type::Double, false), (Type::Bytes, false)] {
        let entry = DescriptorProto {
            field: vec![field(1, "key", key), field(2, "value", Type::Bool)],
            options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
            ..message("M")
        };
        let set =
            FileDescriptorSet { file: vec![FileDescriptorProto { message_type: vec![entry], ..file("a.proto", &[]) }] };
        assert_eq!(Described::read(&set.encode_to_vec()).is_ok(), is_key, "{key:?}");
    }
    assert!(matches!(&unknown, Undescribed::Syntax { syntax, .. } if syntax == "proto9"), "{unknown}");
    let method = MethodDescriptorProto {
        name: Some("Call".into()),
        input_type: Some(".a.v1.Nothing".into()),
        output_type: Some(".a.v1.Nothing".into()),
        ..Default::default()
    };
    let service = ServiceDescriptorProto { name: Some("S".into()), method: vec![method], options: None };
    let missing = refused(vec![FileDescriptorProto { service: vec![service], ..file("a.proto", &[]) }]).to_string();
    assert!(missing.contains("Nothing"), "{missing}");
}

#[test]
fn every_limit_holds_on_both_sides() {
    let files =
        |count: usize| FileDescriptorSet { file: (0..count).map(|n| file(&format!("{n}.proto"), &[])).collect() };
    let read = |set: FileDescriptorSet| Described::read(&set.encode_to_vec());
    assert!(read(files(MAX_FILES)).is_ok());
    assert!(matches!(read(files(MAX_FILES + 1)), Err(Undescribed::Limit { what: "files", .. })));
    let nested = |depth: usize| {
        let deepest =
            (1..depth).fold(message("M"), |inner, _| DescriptorProto { nested_type: vec![inner], ..message("M") });
        FileDescriptorSet { file: vec![FileDescriptorProto { message_type: vec![deepest], ..file("a.proto", &[]) }] }
    };
    assert!(read(nested(MAX_NESTING)).is_ok());
    assert!(matches!(read(nested(MAX_NESTING + 1)), Err(Undescribed::Limit { .. })));
    assert!(matches!(read(nested(90)), Err(Undescribed::Limit { .. })));
    let types = |count: usize| {
        let message_type = (0..count).map(|number| message(&format!("M{number}"))).collect();
        FileDescriptorSet { file: vec![FileDescriptorProto { message_type, ..file("a.proto", &[]) }] }
    };
    assert!(read(types(catalogue::described::MAX_TYPES)).is_ok());
    assert!(matches!(read(types(catalogue::described::MAX_TYPES + 1)), Err(Undescribed::Limit { .. })));
    let long = vec![0; proto::catalogue::MAX_DESCRIPTORS_BYTES + 1];
    assert!(matches!(Described::read(&long), Err(Undescribed::Limit { what: "bytes", .. })));
}

#[test]
fn a_group_that_holds_itself_has_an_end_when_it_is_written() {
    let field = FieldDescriptorProto {
        name: Some("m".into()),
        number: Some(1),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::Group.into()),
        type_name: Some(".a.v1.M".into()),
        ..Default::default()
    };
    let method = MethodDescriptorProto {
        name: Some("Call".into()),
        input_type: Some(".a.v1.M".into()),
        output_type: Some(".a.v1.M".into()),
        ..Default::default()
    };
    let files = vec![FileDescriptorProto {
        syntax: Some("proto2".into()),
        message_type: vec![DescriptorProto { field: vec![field], ..message("M") }],
        service: vec![ServiceDescriptorProto { name: Some("S".into()), method: vec![method], ..Default::default() }],
        ..file("a.proto", &[])
    }];
    let described = Described::read(&FileDescriptorSet { file: files }.encode_to_vec()).unwrap();
    let written = source::files(&described, &described.service("a.v1.S").unwrap());
    assert!(written.iter().any(|(_, text)| text.contains(".a.v1.M m = 1;")), "{written:?}");
}

proptest! {
    #[test]
    fn no_set_with_bytes_changed_makes_the_reader_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = reduced(&compiled(CIVIL), &["civil.v1.Births".to_owned()]).unwrap();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(described) = Described::read(&bytes) {
            for service in described.pool().services() {
                let _ = described.said_of(service.full_name());
                let _ = source::files(&described, &service);
                let _ = breaks(&service, &service);
            }
            let _ = reduced(&bytes, &described.services());
        }
    }
}
