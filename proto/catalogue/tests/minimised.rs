//! What passes of a minimised message is what its descriptor says: divided by numbers alone, and held against prost-reflect, which
//! knows the message.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use catalogue::Described;
use catalogue::named::named;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};
use proto::minimise::{FieldPath, Table};

const KINDS: &str = r#"
syntax = "proto2";
package kinds.v1;
service Kinds { rpc Get(All) returns (All); }
message All {
  optional int32 int32 = 1;
  optional sint64 sint64 = 2;
  optional fixed64 fixed64 = 3;
  optional float float = 4;
  optional string text = 5;
  optional bytes bytes = 16;
  repeated uint32 apart = 17;
  repeated uint32 packed = 18 [packed = true];
  repeated string texts = 19;
  optional Part part = 20;
  repeated Part parts = 21;
  map<string, uint32> numbers = 22;
  map<int32, Part> by_number = 23;
  oneof either { string this = 24; Part that = 25; }
  optional group Grouped = 26 { optional string inner = 1; optional Part part = 2; }
  repeated group Many = 27 { optional uint64 inner = 1; }
  optional All all = 536870911;
}
message Part { optional string name = 1; optional uint64 number = 2; repeated Part parts = 3; optional Kind kind = 4; }
enum Kind { NONE = 0; SOME = 1; }
"#;

struct InMemory;

impl protox::file::FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        protox::file::File::from_source(name, KINDS)
    }
}

static ALL: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let mut compiler = protox::Compiler::with_file_resolver(InMemory);
    compiler.include_imports(true).open_file("kinds.proto").unwrap();
    let described = Described::read(&compiler.encode_file_descriptor_set()).unwrap();
    described.pool().get_message_by_name("kinds.v1.All").unwrap()
});

/// Draws the same from the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.below(1 << 32) as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(-(self.below(1 << 33) as i64)),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.below(1 << 32) as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.below(1 << 33) << 20),
            Kind::Float => Value::F32(self.below(100) as f32),
            Kind::Double => Value::F64(self.below(100) as f64),
            Kind::Bool => Value::Bool(self.below(2) == 1),
            Kind::String => Value::String("x".repeat(self.below(200) as usize)),
            Kind::Bytes => Value::Bytes(vec![7; self.below(300) as usize].into()),
            Kind::Enum(_) => Value::EnumNumber(self.below(2) as i32),
            Kind::Message(message) => Value::Message(self.message(message, depth + 1)),
        }
    }

    fn message(&mut self, of: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields() {
            if depth > 3 || self.below(2) == 0 {
                continue;
            }
            let value = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
                let entries = (0..self.below(3)).map(|at| {
                    let key = match entry.map_entry_key_field().kind() {
                        Kind::String => MapKey::String(format!("key {at}")),
                        _ => MapKey::I32(at as i32),
                    };
                    (key, self.value(&entry.map_entry_value_field().kind(), depth))
                });
                Value::Map(entries.collect())
            } else if field.is_list() {
                Value::List((0..self.below(3)).map(|_| self.value(&field.kind(), depth)).collect())
            } else {
                self.value(&field.kind(), depth)
            };
            message.set_field(&field, value);
        }
        message
    }

    /// Some paths, none in another; of a map that is gone into, its keys too.
    fn paths(&mut self, of: &MessageDescriptor, before: &[u32], paths: &mut BTreeSet<FieldPath>) {
        for field in of.fields() {
            let numbers = [before, &[field.number()]].concat();
            let within = match field.kind() {
                Kind::Message(message) if !field.is_group() && before.len() < 3 => Some(message),
                _ => None,
            };
            match (self.below(4), within) {
                (0, _) => _ = paths.insert(FieldPath::of(&numbers).unwrap()),
                (1, Some(entry)) if field.is_map() => {
                    paths.insert(FieldPath::of(&[&numbers[..], &[1]].concat()).unwrap());
                    let value = [&numbers[..], &[2]].concat();
                    match entry.map_entry_value_field().kind() {
                        Kind::Message(message) => self.paths(&message, &value, paths),
                        _ if self.below(2) == 0 => _ = paths.insert(FieldPath::of(&value).unwrap()),
                        _ => {}
                    }
                }
                (1, Some(message)) => self.paths(&message, &numbers, paths),
                _ => {}
            }
        }
    }
}

/// The message with the named fields and no others, as its descriptor says.
fn with_named(message: &DynamicMessage, paths: &BTreeSet<FieldPath>, before: &[u32]) -> DynamicMessage {
    let mut passes = DynamicMessage::new(message.descriptor());
    for (field, value) in message.fields() {
        let numbers = [before, &[field.number()]].concat();
        let within = paths.iter().any(|path| path.numbers().starts_with(&numbers));
        if paths.contains(&FieldPath::of(&numbers).unwrap()) {
            passes.set_field(&field, value.clone());
        } else if within {
            passes.set_field(&field, named_of(&field, value, paths, &numbers));
        }
    }
    passes
}

fn named_of(field: &FieldDescriptor, value: &Value, paths: &BTreeSet<FieldPath>, at: &[u32]) -> Value {
    match value {
        Value::Message(message) => Value::Message(with_named(message, paths, at)),
        Value::List(items) => Value::List(items.iter().map(|item| named_of(field, item, paths, at)).collect()),
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { panic!("a map has entries") };
            let at = [at, &[2]].concat();
            let value = |value: &Value| match value {
                _ if paths.contains(&FieldPath::of(&at).unwrap()) => value.clone(),
                Value::Message(message) => Value::Message(with_named(message, paths, &at)),
                _ => Value::default_value(&entry.map_entry_value_field().kind()),
            };
            Value::Map(entries.iter().map(|(key, each)| (key.clone(), value(each))).collect::<HashMap<_, _>>())
        }
        other => panic!("{other:?} is not gone into"),
    }
}

fn divided(paths: &BTreeSet<FieldPath>, bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    Table::of(paths).ok()?.divide(bytes, &mut kept, &mut removed).unwrap();
    Some((kept, removed))
}

proptest! {
    #[test]
    fn what_passes_is_what_the_descriptor_says_and_the_two_halves_are_the_whole(seed in any::<u64>()) {
        let (of, mut dice) = (ALL.clone(), Dice(seed));
        let encoded = dice.message(&of, 0).encode_to_vec();
        let message = DynamicMessage::decode(of.clone(), &encoded[..]).unwrap();
        let mut paths = BTreeSet::new();
        dice.paths(&of, &[], &mut paths);
        // Unknown fields before and behind: of a number below, between and above the known ones.
        let unknown = [&[0x7a, 2, 1, 2][..], &[0xf8, 0x06, 9], &[0xf5, 0xff, 0xff, 0xff, 0x07, 1, 2, 3, 4]].concat();
        let bytes = [&unknown[..], &encoded, &unknown].concat();
        if let Some((kept, removed)) = divided(&paths, &bytes) {
            let passed = DynamicMessage::decode(of.clone(), &kept[..]).unwrap();
            // Not shown where they differ: the type has itself as a field, and so has no end.
            prop_assert!(passed == with_named(&message, &paths, &[]), "{paths:?}");
            prop_assert_eq!(passed.unknown_fields().count(), 0);
            // The other half is what the first one lacks: with no field twice it is the whole again.
            let left = DynamicMessage::decode(of.clone(), &removed[..]).unwrap();
            prop_assert_eq!(left.unknown_fields().count(), 6);
            let whole: BTreeSet<FieldPath> = of.fields().map(|field| FieldPath::of(&[field.number()]).unwrap()).collect();
            if paths.is_subset(&whole) {
                let both = DynamicMessage::decode(of, &[kept, removed].concat()[..]).unwrap();
                prop_assert!(with_named(&both, &whole, &[]) == message, "{paths:?}");
            }
        }
    }

    #[test]
    fn of_any_bytes_that_pass_no_field_is_there_that_was_not_named(
        seed in any::<u64>(),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
    ) {
        let (of, mut dice) = (ALL.clone(), Dice(seed));
        let mut bytes = dice.message(&of, 0).encode_to_vec();
        let mut paths = BTreeSet::new();
        dice.paths(&of, &[], &mut paths);
        prop_assume!(!bytes.is_empty());
        for (at, to) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = to;
        }
        let Ok(table) = Table::of(&paths) else { return Ok(()) };
        let (mut kept, mut removed) = (Vec::new(), Vec::new());
        if table.divide(&bytes, &mut kept, &mut removed).is_ok()
            && let Ok(passed) = DynamicMessage::decode(of, &kept[..])
        {
            prop_assert!(with_named(&passed, &paths, &[]) == passed, "{paths:?}");
        }
    }
}

#[test]
fn the_messages_that_are_tried_have_something_to_pass_and_something_to_remove_at_each_depth() {
    let (mut divided_in_earnest, mut deep) = (0, 0);
    for seed in 0..100 {
        let mut dice = Dice(seed * 7919);
        let bytes = dice.message(&ALL, 0).encode_to_vec();
        let mut paths = BTreeSet::new();
        dice.paths(&ALL, &[], &mut paths);
        let (kept, removed) = divided(&paths, &bytes).unwrap_or_default();
        divided_in_earnest += usize::from(kept.len() > 50 && removed.len() > 50);
        deep += usize::from(paths.iter().any(|path| path.numbers().len() > 2));
    }
    assert!(divided_in_earnest > 50 && deep > 30, "{divided_in_earnest} and {deep} of 100");
}

#[test]
fn fields_are_named_as_the_descriptors_have_them_and_what_is_no_field_is_refused_by_name() {
    let of = ALL.clone();
    let meant = |names: &[&str]| named(&of, names.iter().copied()).map_err(|why| why.to_string());
    let shown = |names: &[&str]| {
        let meant = meant(names).unwrap();
        meant.iter().map(|(path, name)| format!("{path} {name}")).collect::<Vec<_>>()
    };
    assert_eq!(shown(&["part.parts.name", "text"]), ["5 text", "20.3.1 part.parts.name"]);
    assert_eq!(shown(&["20.name", "5", "part.2"]), ["5 text", "20.1 part.name", "20.2 part.number"]);
    assert_eq!(shown(&["grouped", "numbers"]), ["22 numbers", "26 grouped"]);
    assert_eq!(
        shown(&["by_number.key", "by_number.value.name"]),
        ["23.1 by_number.key", "23.2.1 by_number.value.name"]
    );
    for (wrong, why) in [
        ("txt", "\"txt\" is no field of kinds.v1.All"),
        ("part.txt", "\"txt\" is no field of kinds.v1.Part"),
        ("999", "\"999\" is no field of kinds.v1.All"),
        ("", "\"\" is no field of kinds.v1.All"),
        ("text.name", "text is no message, so \"text.name\" is not in it"),
        ("grouped.inner", "grouped is a group, which is not gone into"),
        ("by_number.value.name", "by_number is a map: name by_number.key too"),
        (&["all"; 17].join("."), "is no path to a field"),
    ] {
        let refused = meant(&[wrong]).unwrap_err();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
}
