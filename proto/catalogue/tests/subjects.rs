//! Whom a message names, read by number from its bytes, whatever they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use catalogue::subjects::{MAX_SUBJECTS, ServiceFacts, SubjectFields, Unreadable};
use catalogue::wire_fields::{NoMessage, OnWire, WireFields};
use catalogue::{Described, OPTIONS_FILE, OPTIONS_SOURCE};
use proptest::prelude::*;
use prost::Message;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

const FAMILIES: &str = r#"
syntax = "proto2";
package families.v1;
import "causeway/options.proto";
// Families, as they are asked for.
service Families {
  // One family.
  rpc Get(Asked) returns (Family);
  rpc All(Empty) returns (Family);
  rpc Stray(Strays) returns (Empty);
}
message Empty {}
message Asked {
  optional string number = 1 [(causeway.subject) = true];
  repeated Asked also = 2;
  map<string, Asked> named = 3;
  repeated int32 signed = 4 [(causeway.subject) = true];
  repeated fixed64 fixed = 5 [(causeway.subject) = true];
  optional string plain = 6;
  repeated group Old = 7 { optional uint32 number = 1 [(causeway.subject) = true]; }
  optional Empty nothing = 8;
}
message Strays { optional Empty nothing = 1; optional Strays more = 2; }
message Family {
  repeated string names = 1 [(causeway.element) = "person.name"];
  optional Home home = 2;
}
message Home { optional string street = 1 [(causeway.element) = "person.residence"]; }
"#;

struct InMemory;

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "families.proto" => File::from_source(name, FAMILIES),
            OPTIONS_FILE => File::from_source(name, OPTIONS_SOURCE),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

fn facts() -> ServiceFacts {
    let mut resolver = ChainFileResolver::new();
    resolver.add(InMemory);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true).open_file("families.proto").unwrap();
    let described = Described::read(&compiler.encode_file_descriptor_set()).unwrap();
    ServiceFacts::of(&described, "families.v1.Families", "Families").unwrap()
}

fn fields() -> SubjectFields {
    facts().methods["Get"].subjects.clone().unwrap()
}

fn named(fields: &SubjectFields, message: &[u8]) -> Result<Vec<String>, Unreadable> {
    let mut found = Vec::new();
    let read = fields.each(message, &mut |subject| found.push(String::from_utf8_lossy(subject).into_owned()));
    found.sort();
    read.map(|()| found)
}

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, optional, tag = "1")]
    number: Option<String>,
    #[prost(message, repeated, tag = "2")]
    also: Vec<Asked>,
    #[prost(btree_map = "string, message", tag = "3")]
    named: std::collections::BTreeMap<String, Asked>,
    #[prost(int32, repeated, packed = "true", tag = "4")]
    signed: Vec<i32>,
    #[prost(fixed64, repeated, packed = "false", tag = "5")]
    fixed: Vec<u64>,
    #[prost(string, optional, tag = "6")]
    plain: Option<String>,
    #[prost(group, repeated, tag = "7")]
    old: Vec<Old>,
}

#[derive(Clone, PartialEq, Message)]
struct Old {
    #[prost(uint32, optional, tag = "1")]
    number: Option<u32>,
}

impl Asked {
    /// Whom it names, by the generated type.
    fn subjects(&self) -> Vec<String> {
        let texts = self.number.iter().cloned();
        let numbers = self.signed.iter().map(ToString::to_string).chain(self.fixed.iter().map(ToString::to_string));
        let old = self.old.iter().filter_map(|old| old.number.map(|number| number.to_string()));
        let inner = self.also.iter().chain(self.named.values()).flat_map(Asked::subjects);
        let mut all: Vec<_> =
            texts.chain(numbers).chain(old).chain(inner).filter(|subject| !matches!(&**subject, "" | "0")).collect();
        all.sort();
        all
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let leaf = (any::<Option<String>>(), prop::collection::vec(any::<i32>(), 0..3), any::<Vec<u64>>())
        .prop_map(|(number, signed, fixed)| Asked { number, signed, fixed, ..Asked::default() });
    leaf.prop_recursive(4, 24, 3, |inner| {
        let inners = prop::collection::vec(inner.clone(), 0..3);
        let named = prop::collection::btree_map(".{0,4}", inner, 0..3);
        (inners, named, any::<Option<String>>(), any::<Vec<Option<u32>>>()).prop_map(|(also, named, plain, old)| {
            let old = old.into_iter().map(|number| Old { number }).collect();
            Asked { also, named, plain, old, ..Asked::default() }
        })
    })
}

#[test]
fn a_service_is_worked_out_once_and_reads_the_same_from_a_file() {
    let facts = facts();
    let get = &facts.methods["Get"];
    assert_eq!((facts.title.as_str(), get.description.as_str()), ("Families", "One family."));
    let gives: Vec<_> = get.gives.iter().map(ToString::to_string).collect();
    assert_eq!(gives, ["person.name", "person.residence"]);
    // What leads to no subject is none, though it holds itself.
    assert!(facts.methods["All"].subjects.is_none() && facts.methods["Stray"].subjects.is_none());
    let written = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<ServiceFacts>(&written).unwrap(), facts);
    assert_eq!(
        named(&SubjectFields::text(1), &Asked { number: Some("a".into()), ..Asked::default() }.encode_to_vec()),
        Ok(vec!["a".into()])
    );
}

#[test]
fn what_parsers_read_otherwise_is_found_both_ways_or_refused() {
    let fields = fields();
    let number = |text: &str| Asked { number: Some(text.into()), ..Asked::default() }.encode_to_vec();
    assert_eq!(named(&fields, &[number("a"), number("b")].concat()), Ok(vec!["a".into(), "b".into()]));
    // A negative int32 has ten bytes; one of more bits than it has is cut, as parsers do.
    let signed = Asked { signed: vec![-7], ..Asked::default() }.encode_to_vec();
    assert_eq!(named(&fields, &signed), Ok(vec!["-7".into()]));
    assert_eq!(named(&fields, &[0x20, 0x85, 0x80, 0x80, 0x80, 0x10]), Ok(vec!["5".into()]));
    // A text where a number is wanted is another field to parsers.
    assert_eq!(named(&fields, &[0x08, 0x07]), Ok(Vec::new()));
    for none in [
        &[0x0a, 0x05, b'a'][..],
        &[0x00, 0x00],
        &[0x07],
        &[0x0c],
        &[0x3b, 0x08, 0x01],
        &[0x3b, 0x44],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0x8a, 0x80, 0x80, 0x80, 0x80, 0x02, 0x01, b'a'],
        &[0x22, 0x01, 0x80],
    ] {
        assert_eq!(named(&fields, none), Err(Unreadable::NoMessage(NoMessage)), "{none:x?}");
    }
    let deep = |depth| (0..depth).fold(Asked::default(), |inner, _| Asked { also: vec![inner], ..Asked::default() });
    assert_eq!(named(&fields, &deep(100).encode_to_vec()), Ok(Vec::new()));
    assert_eq!(named(&fields, &deep(101).encode_to_vec()), Err(Unreadable::TooDeep));
    let many = |count| Asked { fixed: vec![7; count], ..Asked::default() }.encode_to_vec();
    assert_eq!(named(&fields, &many(MAX_SUBJECTS)).unwrap().len(), MAX_SUBJECTS);
    assert_eq!(named(&fields, &many(MAX_SUBJECTS + 1)), Err(Unreadable::TooMany));
    // Groups deeper than any parser takes them, which are of nobody.
    let groups = [vec![0x4b; 200_000], vec![0x4c; 200_000]].concat();
    assert_eq!(named(&fields, &groups), Err(Unreadable::NoMessage(NoMessage)));
    let within: Vec<_> = WireFields::of(&[0x4b, 0x10, 0x07, 0x4c]).collect();
    assert_eq!(within, [Ok((9, OnWire::Group(&[0x10, 0x07])))]);
}

proptest! {
    #[test]
    fn every_subject_of_a_message_is_found_and_nothing_else(asked in asked()) {
        prop_assume!(asked.subjects().len() <= MAX_SUBJECTS);
        prop_assert_eq!(named(&fields(), &asked.encode_to_vec()), Ok(asked.subjects()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = named(&fields(), &bytes);
    }

    #[test]
    fn a_message_that_parses_is_read_with_a_byte_changed(asked in asked(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = asked.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = to;
        // Whoever parses it as the type that it has finds no person whom we do not find.
        if let (Ok(parsed), Ok(found)) = (Asked::decode(&bytes[..]), named(&fields(), &bytes)) {
            for subject in parsed.subjects() {
                prop_assert!(found.contains(&subject), "{} is not among {:?}", subject, found);
            }
        }
    }
}
