//! What options say of fields, in good files and in hostile sets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use catalogue::{Described, Mismarked, OPTIONS_FILE, OPTIONS_SOURCE, Undescribed, reduced, source};
use proptest::prelude::*;
use prost::Message;
use proto::catalogue::{ElementField, Part};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

const PEOPLE: &str = r#"
syntax = "proto3";
package people.v1;
import "causeway/options.proto";
service People {
  rpc Get(Asked) returns (Person);
  rpc Move(Form) returns (Person);
}
service Other { rpc Nothing(Empty) returns (Empty); }
message Empty {}
message Asked { string number = 1 [(causeway.element) = "person.number", (causeway.subject) = true]; }
message Person {
  string number = 1 [(causeway.element) = "person.number", (causeway.authoritative) = true];
  Home home = 2;
  repeated Person children = 3;
}
message Home { string street = 1 [(causeway.element) = "person.residence", (causeway.authoritative) = true]; }
message Form {
  string number = 1 [(causeway.element) = "person.number"];
  string where = 2 [
    (causeway.element) = "person.residence",
    (causeway.collected) = true,
    (causeway.reason_to_collect) = "people \"move\" first, \\ and are asked where"
  ];
  string plain = 3 [deprecated = true];
}
"#;

struct InMemory(Vec<(&'static str, String)>);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

fn compiled_with(source: &str, options: &str) -> Vec<u8> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(InMemory(vec![("people.proto", source.to_owned()), (OPTIONS_FILE, options.to_owned())]));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true).open_file("people.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

fn compiled(source: &str) -> Vec<u8> {
    compiled_with(source, OPTIONS_SOURCE)
}

fn rows(described: &Described, service: &str) -> Vec<String> {
    let row = |field: &ElementField| format!("{} {} {}", field.element, field.field, field.part.word());
    described.said_of(service).unwrap().elements.iter().map(row).collect()
}

#[test]
fn each_field_that_carries_an_element_is_found_however_deep_and_nothing_else() {
    let described = Described::read(&compiled(PEOPLE)).unwrap();
    assert_eq!(
        rows(&described, "people.v1.People"),
        [
            "person.number people.v1.Asked.number takes",
            "person.number people.v1.Form.number takes",
            "person.number people.v1.Person.number authoritative",
            "person.residence people.v1.Form.where collects",
            "person.residence people.v1.Home.street authoritative",
        ]
    );
    let elements = described.said_of("people.v1.People").unwrap().elements;
    let reasons: Vec<_> = elements.iter().filter_map(|field| field.reason.as_ref()).collect();
    assert_eq!(reasons[0].as_str(), "people \"move\" first, \\ and are asked where");
    assert_eq!(reasons.len(), 1);
    assert_eq!(rows(&described, "people.v1.Other"), Vec::<String>::new());
}

#[test]
fn a_reduced_set_and_the_text_of_it_say_the_same_of_elements() {
    let bytes = compiled(PEOPLE);
    let small = reduced(&bytes, &["people.v1.People".to_owned()]).unwrap();
    assert!(small.len() < 16 * 1024, "google's comments are not carried along: {}", small.len());
    let (all, few) = (Described::read(&bytes).unwrap(), Described::read(&small).unwrap());
    let said = |described: &Described| described.said_of("people.v1.People").unwrap().elements;
    assert_eq!(said(&all), said(&few));
    let files = source::files(&few, &few.service("people.v1.People").unwrap());
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["people.proto", OPTIONS_FILE], "whoever compiles it elsewhere needs the options");
    let again = Described::read(&compiled_with(&files[0].1, &files[1].1)).unwrap();
    assert_eq!(said(&again), said(&all), "{}", files[0].1);
}

/// What is said of a form that has this one field.
fn refused(field: &str) -> String {
    let source = format!(
        "syntax = \"proto2\"; package a.v1; import \"causeway/options.proto\"; import \"google/protobuf/timestamp.proto\";
         service S {{ rpc Ask(Form) returns (Answer); }}
         message Form {{ {field} }} message Answer {{ optional string name = 1; }} enum E {{ A = 0; }}"
    );
    match Described::read(&compiled(&source)) {
        Ok(_) => "taken".to_owned(),
        Err(Undescribed::Mismarked(refused)) => refused.to_string(),
        Err(other) => panic!("{field}: {other}"),
    }
}

#[test]
fn options_that_contradict_each_other_or_stand_where_they_cannot_are_refused_by_name() {
    let element = "(causeway.element) = \"p.name\"";
    let collected = "(causeway.collected) = true";
    for (field, said) in [
        (format!("optional string a = 1 [{element}, {collected}];"), "taken"),
        (format!("optional string a = 1 [{element}, {collected}, (causeway.reason_to_collect) = \"so\"];"), "taken"),
        (format!("optional google.protobuf.Timestamp a = 1 [{element}];"), "taken"),
        (format!("optional E a = 1 [{element}];"), "taken"),
        (format!("repeated int64 a = 1 [{element}, (causeway.subject) = true];"), "taken"),
        ("optional string a = 1 [(causeway.authoritative) = false];".into(), "taken"),
        (
            format!("optional string a = 1 [{collected}];"),
            "a.v1.Form.a: it is said that people are asked for it, and not what",
        ),
        ("optional string a = 1 [(causeway.authoritative) = true];".into(), "authoritative for nothing"),
        (
            format!("optional string a = 1 [{element}, (causeway.reason_to_collect) = \"so\"];"),
            "has a reason to ask people, and does not ask them",
        ),
        (
            format!(
                "optional string a = 1 [{element}, (causeway.authoritative) = true, {collected}, \
                 (causeway.reason_to_collect) = \"so\"];"
            ),
            "the source needs none",
        ),
        (
            format!("optional string a = 1 [{element}, (causeway.authoritative) = true];"),
            "a.v1.Form.a cannot carry (causeway.authoritative): it is in requests only",
        ),
        (format!("map<string, string> a = 1 [{element}];"), "a.v1.Form.a cannot carry (causeway.element): it is a map"),
        (
            format!("optional group A = 1 [{element}] {{ }}"),
            "a.v1.Form.a cannot carry (causeway.element): it is a group",
        ),
        (
            format!("optional bool a = 1 [{element}, (causeway.subject) = true];"),
            "cannot carry (causeway.subject): a person's identifier is a string or an integer",
        ),
        (
            "optional string a = 1 [(causeway.element) = \"name\"];".into(),
            "a.v1.Form.a: (causeway.element) has no such value",
        ),
        ("optional string a = 1 [(causeway.element) = \"\"];".into(), "(causeway.element) has no such value"),
        (
            format!("optional string a = 1 [{element}, {collected}, (causeway.reason_to_collect) = \" \"];"),
            "(causeway.reason_to_collect) has no such value",
        ),
        (
            format!("extensions 9; extend Form {{ optional string e = 9 [{element}]; }}"),
            "e cannot carry (causeway.element)",
        ),
    ] {
        let refused = refused(&field);
        assert!(refused.contains(said), "{field}: {refused}");
    }
    let answer = PEOPLE.replace("(causeway.authoritative) = true", "(causeway.collected) = true");
    let refused = Described::read(&compiled(&answer)).unwrap_err().to_string();
    assert!(refused.contains("it is in responses only"), "{refused}");
}

#[test]
fn options_of_another_file_under_our_names_or_numbers_are_not_ours() {
    let moved = OPTIONS_SOURCE.replace("51001", "60001");
    let retyped = OPTIONS_SOURCE.replace("optional bool authoritative", "optional string authoritative");
    let people = PEOPLE.replace("(causeway.authoritative) = true", "(causeway.authoritative) = \"yes\"");
    let more = OPTIONS_SOURCE.replace("51005;", "51005;\n optional bool approved = 51006;");
    for (source, options, named) in [
        (PEOPLE, moved, "causeway.element"),
        (&people, retyped, "causeway.authoritative"),
        (PEOPLE, more, "causeway.approved"),
    ] {
        let refused = Described::read(&compiled_with(source, &options)).unwrap_err();
        assert!(
            matches!(&refused, Undescribed::Mismarked(Mismarked::OtherOptions { name }) if name == named),
            "{refused}"
        );
    }
    let theirs = "syntax = \"proto2\"; package theirs; import \"google/protobuf/descriptor.proto\";
                  extend google.protobuf.FieldOptions { optional string mine = 51001; }";
    let source = "syntax = \"proto3\"; package a; import \"causeway/options.proto\";
                  service S { rpc A(M) returns (M); } message M { string a = 1; }";
    let refused = Described::read(&compiled_with(source, theirs)).unwrap_err().to_string();
    assert!(refused.contains("theirs.mine is not as in causeway/options.proto"), "{refused}");
}

/// A set whose field `a.v1.M.f` has these bytes as options, and no file of ours.
fn with_options(options: &[u8]) -> Vec<u8> {
    use prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
        ServiceDescriptorProto,
    };
    let mut field = FieldDescriptorProto { name: Some("f".into()), number: Some(1), ..Default::default() };
    (field.label, field.r#type) = (Some(1), Some(9));
    let mut field = field.encode_to_vec();
    prost::encoding::bytes::encode(8, &options.to_vec(), &mut field);
    let mut message = DescriptorProto { name: Some("M".into()), ..Default::default() }.encode_to_vec();
    prost::encoding::bytes::encode(2, &field, &mut message);
    let method = MethodDescriptorProto {
        name: Some("Ask".into()),
        input_type: Some(".a.v1.M".into()),
        output_type: Some(".a.v1.M".into()),
        ..Default::default()
    };
    let service = ServiceDescriptorProto { name: Some("S".into()), method: vec![method], options: None };
    let file = FileDescriptorProto {
        name: Some("a.proto".into()),
        package: Some("a.v1".into()),
        syntax: Some("proto3".into()),
        service: vec![service],
        ..Default::default()
    };
    let mut file = file.encode_to_vec();
    prost::encoding::bytes::encode(4, &message, &mut file);
    let mut set = FileDescriptorSet::default().encode_to_vec();
    prost::encoding::bytes::encode(1, &file, &mut set);
    set
}

fn varint_option(number: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::uint64::encode(number, &value, &mut bytes);
    bytes
}

#[test]
fn options_count_by_their_numbers_though_no_file_explains_them() {
    let mut said = Vec::new();
    prost::encoding::string::encode(51001, &"p.name".to_owned(), &mut said);
    let taken = Described::read(&with_options(&[said.clone(), varint_option(51002, 1)].concat())).unwrap();
    assert_eq!(
        taken.said_of("a.v1.S").unwrap().elements.iter().map(|each| each.part).collect::<Vec<_>>(),
        [Part::Authoritative, Part::Takes]
    );
    for (options, named) in [
        (varint_option(51002, 2), "a.v1.M.f: (causeway.authoritative) has no such value: 2 is neither true nor false"),
        (varint_option(51001, 1), "a.v1.M.f: (causeway.element) has no such value: it is of another type"),
        (varint_option(51006, 1), "a.v1.M.f: there is no option 51006"),
        (varint_option(51099, 1), "there is no option 51099"),
        (vec![0xca, 0xf3, 0x18, 0x02, 0xff, 0xff], "(causeway.element) has no such value"),
    ] {
        let refused = Described::read(&with_options(&options)).unwrap_err().to_string();
        assert!(refused.contains(named), "{named}: {refused}");
    }
    assert!(Described::read(&with_options(&varint_option(51100, 1))).is_ok(), "another's number");
}

proptest! {
    #[test]
    fn no_options_make_the_reader_panic_and_none_are_half_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(described) = Described::read(&with_options(&bytes)) {
            let said = described.said_of("a.v1.S").unwrap();
            prop_assert!(said.elements.len() <= 2);
            let _ = source::files(&described, &described.service("a.v1.S").unwrap());
        }
    }

    #[test]
    fn no_marked_set_with_bytes_changed_makes_the_reader_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = reduced(&compiled(PEOPLE), &["people.v1.People".to_owned()]).unwrap();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(described) = Described::read(&bytes) {
            for service in described.pool().services() {
                let _ = described.said_of(service.full_name());
                let _ = source::files(&described, &service);
            }
        }
    }
}
