//! Messages as JSON and back: by the proto3 mapping, strictly, and within limits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use catalogue::Described;
use catalogue::json::{MAX_DEPTH, Misread, read, write};
use proptest::prelude::*;
use prost_reflect::MessageDescriptor;

const KINDS: &str = r#"
syntax = "proto3";
package k.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Birth {
  string full_name = 1;
  int32 small = 2;
  int64 large = 3;
  uint64 huge = 4;
  double ratio = 5;
  bytes scan = 6;
  bool alive = 7;
  Sex sex = 8;
  repeated Birth siblings = 9;
  map<string, Note> notes = 10;
  map<int32, bool> years = 11;
  google.protobuf.Timestamp born = 12;
  google.protobuf.Duration took = 13;
  google.protobuf.Any any = 14;
  google.protobuf.Struct free = 15;
  google.protobuf.StringValue maybe = 16;
  google.protobuf.FieldMask mask = 17;
  optional int32 chosen = 18;
  oneof place { string town = 19; string country = 20; }
  repeated Long_Sex many = 21;
  message Note { string text = 1; }
}
enum Sex { UNKNOWN = 0; FEMALE = 1; MALE = 2; }
enum Long_Sex { LONG_UNKNOWN = 0; A_NAME_THAT_IS_MUCH_LONGER_THAN_THE_ONE_BYTE_THAT_IT_IS = 1; }
"#;

fn birth() -> MessageDescriptor {
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(InMemory);
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("k.proto").unwrap();
    let described = Described::read(&compiler.encode_file_descriptor_set()).unwrap();
    described.pool().get_message_by_name("k.v1.Birth").unwrap()
}

struct InMemory;

impl protox::file::FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        match name {
            "k.proto" => protox::file::File::from_source(name, KINDS),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// What becomes of it on the way there and back.
fn again(text: &str) -> String {
    let kind = birth();
    let message = read(&kind, text.as_bytes(), MAX_DEPTH).unwrap_or_else(|error| panic!("{text}: {error}"));
    String::from_utf8(write(&kind, &message, 1 << 20).unwrap()).unwrap()
}

#[test]
fn every_kind_of_value_goes_there_and_back_by_the_proto3_mapping() {
    for text in [
        r#"{}"#,
        r#"{"fullName":"Nguyễn Thị \"Hoa\""}"#,
        r#"{"small":-7,"large":"-9007199254740993","huge":"18446744073709551615"}"#,
        r#"{"ratio":0.25}"#,
        r#"{"ratio":"NaN"}"#,
        r#"{"scan":"AAH/"}"#,
        r#"{"alive":true,"sex":"FEMALE"}"#,
        r#"{"siblings":[{"fullName":"a"},{"siblings":[{"small":1}]}]}"#,
        r#"{"notes":{"a":{"text":"b"}}}"#,
        r#"{"years":{"2027":true}}"#,
        r#"{"born":"2027-01-15T08:00:00Z"}"#,
        r#"{"took":"1.500s"}"#,
        r#"{"any":{"@type":"type.googleapis.com/k.v1.Birth","small":3}}"#,
        r#"{"free":{"a":[1.5,null,"x",{"b":false}]}}"#,
        r#"{"maybe":""}"#,
        r#"{"mask":"fullName,born"}"#,
        r#"{"chosen":0}"#,
        r#"{"town":"Huế"}"#,
    ] {
        let (told, meant): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&again(text)).unwrap(), serde_json::from_str(text).unwrap());
        assert_eq!(told, meant);
    }
    // Other writings that mean the same.
    for (text, meant) in [
        (r#"{"full_name":"a"}"#, r#"{"fullName":"a"}"#),
        (r#"{"small":"7","large":8,"sex":2}"#, r#"{"small":7,"large":"8","sex":"MALE"}"#),
        (r#"{"small":null,"alive":false}"#, r#"{}"#),
        (r#"{"small":1e1}"#, r#"{"small":10}"#),
    ] {
        assert_eq!(again(text), meant, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_there_is_instead() {
    let kind = birth();
    let misread = |text: &str| read(&kind, text.as_bytes(), MAX_DEPTH).expect_err(text);
    let wrong = misread(r#"{"fulName":"a"}"#);
    let (name, known) = wrong.names().unwrap();
    assert_eq!((name, known[0].as_str()), ("fulName", "fullName"));
    for (text, said) in [
        (r#"{"siblings":[{"smal":1}]}"#, r#"at siblings[0]: "smal" is no field of k.v1.Birth"#),
        (r#"{"siblings":[{},{"notes":{"a":{"txt":""}}}]}"#, r#"at siblings[1].notes["a"]: "txt" is no field"#),
        (r#"{"sex":"FEMAL"}"#, r#"at sex: "FEMAL" is no value of k.v1.Sex"#),
        (r#"{"small":2147483648}"#, "at small: "),
        (r#"{"small":1.5}"#, "at small: expected integer value"),
        (r#"{"siblings":[{},{"huge":-1}]}"#, "at siblings[1].huge: "),
        (r#"{"scan":"not base64!"}"#, "at scan: "),
        (r#"{"born":"yesterday"}"#, "at born: "),
        (r#"{"fullName":7}"#, "at fullName: invalid type"),
        (r#"{"siblings":{}}"#, "at siblings: invalid type"),
        (r#"{"town":"a","country":"b"}"#, "multiple fields provided for oneof 'place'"),
        (r#"{"any":{"@type":"type.googleapis.com/k.v1.Nobody"}}"#, "at any: "),
        (r#"{"small":1,"small":2}"#, r#"it is no JSON that is taken: "small" stands twice in one object"#),
        (r#"[]"#, "invalid type: sequence"),
        ("", "it is no JSON that is taken: EOF"),
        (r#"{"small":1} {}"#, "it is no JSON that is taken: trailing characters"),
        (r#"{"small":01}"#, "it is no JSON that is taken: "),
        (r#"{"small":NaN}"#, "it is no JSON that is taken: "),
        ("id=7", "it is no JSON that is taken: "),
    ] {
        let told = misread(text).to_string();
        assert!(told.contains(said), "{text}: {told}");
    }
    assert!(matches!(read(&kind, b"{\"fullName\":\"\xff\"}", MAX_DEPTH), Err(Misread::NoJson(_))));
}

#[test]
fn depth_and_length_are_limited_on_both_sides() {
    let kind = birth();
    let deep = |depth: usize| format!("{}{{}}{}", "{\"siblings\":[".repeat(depth), "]}".repeat(depth));
    // Each level is an object and a list; the innermost object counts too.
    assert!(read(&kind, deep(4).as_bytes(), 9).is_ok());
    let over = read(&kind, deep(4).as_bytes(), 8).unwrap_err().to_string();
    assert!(over.contains("nested more than 8 levels deep"), "{over}");
    assert!(read(&kind, deep(100_000).as_bytes(), usize::MAX).is_err());
    let lists = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&kind, lists.as_bytes(), usize::MAX).is_err());

    // A byte each, and a name of fifty each.
    let message = read(&kind, format!("{{\"many\":[{}1]}}", "1,".repeat(999)).as_bytes(), MAX_DEPTH).unwrap();
    let whole = write(&kind, &message, usize::MAX).unwrap();
    assert!(whole.len() > 40 * message.len(), "{} of {}", whole.len(), message.len());
    assert_eq!(write(&kind, &message, whole.len()).unwrap(), whole);
    assert!(write(&kind, &message, whole.len() - 1).unwrap_err().to_string().contains("longer than"));
}

proptest! {
    #[test]
    fn no_text_and_no_bytes_make_the_reader_panic(
        text in proptest::collection::vec(any::<u8>(), 0..200),
        like in r#"[{}\[\]":,0-9a-z. ]{0,80}"#,
    ) {
        let kind = birth();
        let _ = read(&kind, &text, MAX_DEPTH);
        let _ = write(&kind, &text, 1 << 16);
        if let Ok(message) = read(&kind, like.as_bytes(), MAX_DEPTH) {
            let told = write(&kind, &message, 1 << 16).unwrap();
            prop_assert_eq!(read(&kind, &told, MAX_DEPTH).unwrap(), message);
        }
    }
}
