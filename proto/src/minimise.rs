//! Minimised answers (PROTOCOL.md 3.6): of each message that a service answers only the fields pass that a grant names. They
//! are told apart by their numbers, in the wire format, without descriptors; what is not named, known or unknown, is taken out,
//! and kept apart so that it can be committed to.
//!
//! What cannot be divided for certain is refused, and none of it passes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::refusal::Code;

/// Most fields that are named of one method's response.
pub const MAX_PATHS: usize = 256;
/// Most numbers in the path to a field: how deep its message may be nested.
pub const MAX_PATH_NUMBERS: usize = 16;
/// Greatest number of a field.
pub const MAX_FIELD_NUMBER: u32 = (1 << 29) - 1;
/// Longest message that is minimised, in bytes: what gRPC libraries take where nobody says otherwise.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// How deep groups may be nested in each other.
pub const MAX_GROUPS: usize = 64;

/// Where a field is: its number, and before it those of the messages that it is in, the outermost first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldPath(Vec<u32>);

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no path to a field; it is 1 to {MAX_PATH_NUMBERS} numbers of 1 to {MAX_FIELD_NUMBER} with dots between, like 1.2"
)]
pub struct NotAPath(String);

impl FieldPath {
    /// Of these numbers.
    pub fn of(numbers: &[u32]) -> Result<Self, NotAPath> {
        let path = Self(numbers.to_vec());
        let well_formed = (1..=MAX_PATH_NUMBERS).contains(&numbers.len())
            && numbers.iter().all(|number| (1..=MAX_FIELD_NUMBER).contains(number));
        if well_formed { Ok(path) } else { Err(NotAPath(path.to_string())) }
    }

    /// Its numbers, the outermost first.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for FieldPath {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let malformed = || NotAPath(text.chars().take(100).collect());
        let number = |part: &str| {
            let canonical = !part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| canonical)
        };
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        Self::of(&numbers.ok_or_else(malformed)?).map_err(|_| malformed())
    }
}

impl TryFrom<String> for FieldPath {
    type Error = NotAPath;
    fn try_from(text: String) -> Result<Self, NotAPath> {
        text.parse()
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// The fields that pass, as messages are held against them: made once of a grant, not with each message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table(Vec<(u32, Part)>);

/// What passes of a field of one number.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// All of it.
    Whole,
    /// It is a message, and of it these.
    Within(Table),
}

/// Paths of which no table is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// None, or too many.
    #[error("{0} fields are named, and 1 to {MAX_PATHS} are taken")]
    Count(usize),
    /// One is in another.
    #[error("{0} is named, and what it is in, or what is in it: name one of them")]
    Overlap(FieldPath),
}

impl Table {
    /// Of these paths.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p FieldPath>) -> Result<Self, NoTable> {
        let (mut table, mut count) = (Self::default(), 0);
        for path in paths {
            count += 1;
            if !table.insert(&path.0) {
                return Err(NoTable::Overlap(path.clone()));
            }
        }
        if (1..=MAX_PATHS).contains(&count) { Ok(table) } else { Err(NoTable::Count(count)) }
    }

    /// Whether it went in: no other names what it is in, or what is in it.
    fn insert(&mut self, path: &[u32]) -> bool {
        let Some((number, within)) = path.split_first() else { return false };
        match self.0.binary_search_by_key(number, |(number, _)| *number) {
            Ok(at) => match &mut self.0[at].1 {
                Part::Within(table) => table.insert(within),
                Part::Whole => false,
            },
            Err(at) => {
                let mut part = Part::Whole;
                if !within.is_empty() {
                    let mut table = Self::default();
                    table.insert(within);
                    part = Part::Within(table);
                }
                self.0.insert(at, (*number, part));
                true
            }
        }
    }

    fn part(&self, number: u32) -> Option<&Part> {
        let found = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.0[found].1)
    }

    /// Divides a message: the named fields go behind `kept`, all others behind `removed`. Each of the two is a message of the
    /// same type, its fields in the order in which they came. In one pass; as deep as the paths, and no deeper.
    pub fn divide(&self, message: &[u8], kept: &mut Vec<u8>, removed: &mut Vec<u8>) -> Result<(), NotMinimised> {
        let mut rest = message;
        while !rest.is_empty() {
            let field = Field::read(&mut rest)?;
            match self.part(field.number) {
                None => removed.extend_from_slice(field.bytes),
                Some(Part::Whole) => kept.extend_from_slice(field.bytes),
                Some(Part::Within(table)) => {
                    let Some(content) = field.content else { return Err(NotMinimised::NoMessage(field.number)) };
                    let (of_kept, of_removed) = (Place::begin(kept, &field), Place::begin(removed, &field));
                    table.divide(content, kept, removed)?;
                    of_kept.end(kept);
                    of_removed.end(removed);
                }
            }
        }
        Ok(())
    }
}

/// A message within a message that is being written: its length is known at its end, and never needs more bytes than that of
/// the whole one.
struct Place {
    at: usize,
    room: usize,
}

impl Place {
    fn begin(bytes: &mut Vec<u8>, field: &Field<'_>) -> Self {
        bytes.extend_from_slice(field.tag);
        let (at, room) = (bytes.len(), varint_bytes(field.content.map_or(0, <[u8]>::len)));
        bytes.resize(at + room, 0);
        Self { at, room }
    }

    fn end(self, bytes: &mut Vec<u8>) {
        let (from, mut length) = (self.at + self.room, bytes.len() - self.at - self.room);
        let needed = varint_bytes(length);
        if needed < self.room {
            bytes.copy_within(from.., self.at + needed);
            bytes.truncate(self.at + needed + length);
        }
        for byte in &mut bytes[self.at..self.at + needed] {
            *byte = (length & 0x7f) as u8 | if length > 0x7f { 0x80 } else { 0 };
            length >>= 7;
        }
    }
}

fn varint_bytes(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize
}

/// Why a message is not minimised. None of it passes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMinimised {
    /// Its fields cannot be seen.
    #[error("the message is compressed, though no compression was offered to the service")]
    Compressed,
    /// Its bytes are not protobuf's.
    #[error("the answer's content type says that its messages are no protobuf")]
    NoProtobuf,
    /// It is no message of gRPC.
    #[error("the message's first byte is {0}, which gRPC does not know")]
    Flag(u8),
    /// It would have to be held whole.
    #[error("the message has {0} bytes, and at most {MAX_MESSAGE_BYTES} are minimised")]
    TooLarge(usize),
    /// The answer ended inside of it.
    #[error("the answer ended inside of a message")]
    Cut,
    /// It is no protobuf, or some readers would read it otherwise.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    /// Groups in groups.
    #[error("groups are nested deeper than {MAX_GROUPS}")]
    TooDeep,
    /// What the grant goes into is not what it was when the grant was made.
    #[error("field {0} is no message here (a group, a number or a fixed value), and the grant names fields within it")]
    NoMessage(u32),
}

impl NotMinimised {
    /// What the caller is told.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) => Code::TooLargeToMinimise,
            _ => Code::NotMinimised,
        }
    }
}

/// One field, as it stands in a message.
struct Field<'b> {
    number: u32,
    tag: &'b [u8],
    /// All of it, with its tag.
    bytes: &'b [u8],
    /// What is in it, where it has a length.
    content: Option<&'b [u8]>,
}

/// The wire types of protobuf.
mod wire_type {
    pub const VARINT: u32 = 0;
    pub const I64: u32 = 1;
    pub const LEN: u32 = 2;
    pub const GROUP: u32 = 3;
    pub const GROUP_END: u32 = 4;
    pub const I32: u32 = 5;
}

impl<'b> Field<'b> {
    fn read(rest: &mut &'b [u8]) -> Result<Self, NotMinimised> {
        let whole = *rest;
        let (number, kind) = tag(rest)?;
        let tag = &whole[..whole.len() - rest.len()];
        let content = match kind {
            wire_type::LEN => Some(with_length(rest)?),
            wire_type::GROUP => {
                group(number, rest)?;
                None
            }
            _ => {
                scalar(kind, rest)?;
                None
            }
        };
        Ok(Self { number, tag, bytes: &whole[..whole.len() - rest.len()], content })
    }
}

/// A field's number and wire type. Its shortest form only: readers differ in what they make of a longer one.
fn tag(rest: &mut &[u8]) -> Result<(u32, u32), NotMinimised> {
    let before = rest.len();
    let tag = varint(rest, 5)?;
    let tag = u32::try_from(tag).map_err(|_| NotMinimised::Malformed("the number of a field is too large"))?;
    if varint_bytes(tag as usize) != before - rest.len() {
        return Err(NotMinimised::Malformed("the number of a field is written longer than it need be"));
    }
    match (tag >> 3, tag & 7) {
        (0, _) => Err(NotMinimised::Malformed("a field has the number 0")),
        (_, 6 | 7) => Err(NotMinimised::Malformed("a field has a wire type that there is not")),
        (number, kind) => Ok((number, kind)),
    }
}

fn varint(rest: &mut &[u8], most: usize) -> Result<u64, NotMinimised> {
    let mut value = 0;
    for (at, byte) in rest.iter().take(most).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *rest = &rest[at + 1..];
            return Ok(value);
        }
    }
    Err(NotMinimised::Malformed("a number has no end, or is too long"))
}

fn taken<'b>(rest: &mut &'b [u8], count: usize) -> Result<&'b [u8], NotMinimised> {
    let (taken, left) =
        rest.split_at_checked(count).ok_or(NotMinimised::Malformed("a field goes on behind the end"))?;
    *rest = left;
    Ok(taken)
}

fn with_length<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], NotMinimised> {
    let length = varint(rest, 5)?;
    let length = usize::try_from(length).map_err(|_| NotMinimised::Malformed("a field goes on behind the end"))?;
    taken(rest, length)
}

fn scalar(kind: u32, rest: &mut &[u8]) -> Result<(), NotMinimised> {
    match kind {
        wire_type::VARINT => varint(rest, 10).map(|_| ()),
        wire_type::I64 => taken(rest, 8).map(|_| ()),
        wire_type::I32 => taken(rest, 4).map(|_| ()),
        _ => Err(NotMinimised::Malformed("a group ends that did not begin")),
    }
}

/// To the end of a group that begins with this number.
fn group(number: u32, rest: &mut &[u8]) -> Result<(), NotMinimised> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        match tag(rest)? {
            (_, wire_type::GROUP) if open.len() == MAX_GROUPS => return Err(NotMinimised::TooDeep),
            (number, wire_type::GROUP) => open.push(number),
            (number, wire_type::GROUP_END) if number == *innermost => _ = open.pop(),
            (_, wire_type::LEN) => _ = with_length(rest)?,
            (_, kind) => scalar(kind, rest)?,
        }
    }
    Ok(())
}

/// The prefix of a gRPC message: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// Minimises the messages of one answer, as its bytes come. Holds one message that is not whole, and what was removed since
/// it was asked.
#[derive(Debug)]
pub struct Minimiser {
    table: Arc<Table>,
    held: BytesMut,
    removed: Vec<u8>,
}

impl Minimiser {
    /// At the beginning of an answer.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table, held: BytesMut::new(), removed: Vec::new() }
    }

    /// Takes bytes of the answer. Gives the messages that are whole now, minimised, each with its prefix.
    pub fn take(&mut self, bytes: Bytes) -> Result<Bytes, NotMinimised> {
        if self.held.is_empty() {
            let (kept, read) = self.minimise(&bytes)?;
            self.held.extend_from_slice(&bytes[read..]);
            return Ok(kept.into());
        }
        self.held.extend_from_slice(&bytes);
        let held = std::mem::take(&mut self.held);
        let (kept, read) = self.minimise(&held)?;
        self.held = held;
        if read == self.held.len() {
            // Not the room of the longest message, for as long as the answer goes on.
            self.held = BytesMut::new();
        } else {
            _ = self.held.split_to(read);
        }
        Ok(kept.into())
    }

    /// The messages that are whole in these bytes, minimised, and how many of the bytes they are.
    fn minimise(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, usize), NotMinimised> {
        let (mut kept, mut read) = (Vec::new(), 0);
        while let Some(length) = announced(&bytes[read..])? {
            let Some(message) = bytes[read + PREFIX_BYTES..].get(..length) else { break };
            let (of_kept, of_removed) = (begin(&mut kept), begin(&mut self.removed));
            self.table.divide(message, &mut kept, &mut self.removed)?;
            end(&mut kept, of_kept);
            end(&mut self.removed, of_removed);
            read += PREFIX_BYTES + length;
        }
        Ok((kept, read))
    }

    /// How long the message is that has begun and is not whole; 0 where none has.
    pub fn awaited(&self) -> usize {
        announced(&self.held).ok().flatten().map_or(0, |length| PREFIX_BYTES + length)
    }

    /// What was removed since this was asked: for each message that passed one of its type, with its prefix (PROTOCOL.md 3.6).
    pub fn removed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.removed)
    }

    /// At the answer's end: no message may be left that is not whole.
    pub fn finish(&self) -> Result<(), NotMinimised> {
        if self.held.is_empty() { Ok(()) } else { Err(NotMinimised::Cut) }
    }
}

/// The length of the message that begins so, where its prefix is there.
fn announced(bytes: &[u8]) -> Result<Option<usize>, NotMinimised> {
    match bytes.first() {
        None | Some(0) => {}
        Some(1) => return Err(NotMinimised::Compressed),
        Some(flag) => return Err(NotMinimised::Flag(*flag)),
    }
    let Some([_, length @ ..]) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    match u32::from_be_bytes(*length) as usize {
        length if length > MAX_MESSAGE_BYTES => Err(NotMinimised::TooLarge(length)),
        length => Ok(Some(length)),
    }
}

fn begin(bytes: &mut Vec<u8>) -> usize {
    bytes.extend_from_slice(&[0; PREFIX_BYTES]);
    bytes.len()
}

fn end(bytes: &mut [u8], from: usize) {
    let length = u32::try_from(bytes.len() - from).expect("it is not longer than the message that it was made of");
    bytes[from - 4..from].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(paths: &[&str]) -> Table {
        let paths: Vec<FieldPath> = paths.iter().map(|path| path.parse().unwrap()).collect();
        Table::of(&paths).unwrap()
    }

    fn divided(paths: &[&str], message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), NotMinimised> {
        let (mut kept, mut removed) = (Vec::new(), Vec::new());
        table(paths).divide(message, &mut kept, &mut removed).map(|()| (kept, removed))
    }

    /// Whether there is nothing in it but messages of nothing.
    fn only_shells(mut bytes: &[u8]) -> bool {
        let mut content = || (!bytes.is_empty()).then(|| Field::read(&mut bytes).unwrap().content);
        std::iter::from_fn(&mut content).all(|content| content.is_some_and(only_shells))
    }

    /// A gRPC message with this flag.
    fn prefixed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    #[test]
    fn a_path_has_one_writing() {
        for text in ["1", "1.2", "536870911.1"] {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
        let long = ["1"; MAX_PATH_NUMBERS].join(".");
        assert!(long.parse::<FieldPath>().is_ok() && format!("{long}.1").parse::<FieldPath>().is_err());
        for text in ["", ".", "0", "01", "+1", "1.", ".1", "1..2", "536870912", "4294967297", "a", "1,2", " 1"] {
            assert!(text.parse::<FieldPath>().is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<FieldPath>("\"1.2\"").is_ok());
    }

    #[test]
    fn a_field_is_named_once_and_not_beside_what_it_is_in() {
        let made = |paths: &[&str]| {
            let paths: Vec<FieldPath> = paths.iter().map(|path| path.parse().unwrap()).collect();
            Table::of(&paths)
        };
        assert!(made(&["1.2", "1.3", "2"]).is_ok());
        for overlap in [&["1", "1.2"][..], &["1.2", "1"], &["1", "1"], &["1.2.3", "1.2"]] {
            assert!(matches!(made(overlap), Err(NoTable::Overlap(_))), "{overlap:?}");
        }
        let many: Vec<String> = (1..=MAX_PATHS + 1).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(made(&[]), Err(NoTable::Count(0)));
        assert!(made(&many[1..]).is_ok());
        assert_eq!(made(&many), Err(NoTable::Count(MAX_PATHS + 1)));
    }

    #[test]
    fn what_is_named_passes_in_its_order_and_the_rest_is_a_message_too() {
        // 1: varint 5; 2: "ab"; 3: fixed64; 4: fixed32; 2: "c"; 2 again; 5: packed 1, 2.
        let message = [
            &[0x08, 0x05][..],
            &[0x12, 2, b'a', b'b'],
            &[0x19, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x25, 1, 2, 3, 4],
            &[0x12, 1, b'c'],
            &[0x2a, 2, 1, 2],
        ];
        let (kept, removed) = divided(&["2", "4"], &message.concat()).unwrap();
        assert_eq!(kept, [message[1], message[3], message[4]].concat());
        assert_eq!(removed, [message[0], message[2], message[5]].concat());
        // A message within, in two parts, the first with a length that is longer than it need be.
        let parts = [&[0x0a, 0x86, 0x00, 0x08, 1, 0x12, 2, b'x', b'y'][..], &[0x0a, 2, 0x08, 3], &[0x18, 9]].concat();
        let (kept, removed) = divided(&["1.2"], &parts).unwrap();
        assert_eq!(kept, [0x0a, 4, 0x12, 2, b'x', b'y', 0x0a, 0]);
        assert_eq!(removed, [0x0a, 2, 0x08, 1, 0x0a, 2, 0x08, 3, 0x18, 9]);
    }

    #[test]
    fn a_length_that_shrinks_below_a_byte_less_is_written_anew() {
        let text = [&[0x12, 0x80, 0x01][..], &[b'x'; 128]].concat();
        let within = [&[0x08, 7][..], &text].concat();
        let message = [&[0x0a, 0x85, 0x01][..], &within].concat();
        assert_eq!(
            divided(&["1.1"], &message).unwrap(),
            (vec![0x0a, 2, 0x08, 7], [&[0x0a, 0x83, 0x01][..], &text].concat())
        );
    }

    #[test]
    fn groups_are_removed_or_pass_whole_and_are_not_gone_into() {
        let group = [0x0b, 0x10, 1, 0x1b, 0x1c, 0x22, 1, b'z', 0x0c];
        let message = [&group[..], &[0x10, 2]].concat();
        assert_eq!(divided(&["2"], &message).unwrap(), (vec![0x10, 2], group.to_vec()));
        assert_eq!(divided(&["1"], &message).unwrap(), (group.to_vec(), vec![0x10, 2]));
        assert_eq!(divided(&["1.2"], &message), Err(NotMinimised::NoMessage(1)));
        assert_eq!(divided(&["2.1"], &[0x10, 2]), Err(NotMinimised::NoMessage(2)));
        assert_eq!(divided(&["1.1"], &[0x09, 8, 1, 8, 1, 8, 1, 8, 1]), Err(NotMinimised::NoMessage(1)));
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert!(divided(&["2"], &nested(MAX_GROUPS)).is_ok());
        assert_eq!(divided(&["2"], &nested(MAX_GROUPS + 1)), Err(NotMinimised::TooDeep));
        for wrong in [&[0x0b, 0x14][..], &[0x0c], &[0x0b], &[0x0b, 0x10]] {
            assert!(matches!(divided(&["2"], wrong), Err(NotMinimised::Malformed(_))), "{wrong:?}");
        }
    }

    #[test]
    fn what_some_readers_would_read_otherwise_is_refused() {
        for wrong in [
            &[0x00, 1][..],                           // number 0
            &[0x90, 0x00, 1],                         // a longer tag
            &[0x90, 0x80, 0x80, 0x80, 0x10, 1],       // a tag of 33 bits
            &[0x90, 0x80, 0x80, 0x80, 0x80, 0x00, 1], // of six bytes
            &[0x16],
            &[0x17], // wire types 6 and 7
            &[0x10],
            &[0x10, 0x80],                                                          // cut in a varint
            &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // of 11 bytes
            &[0x12, 3, 1, 2],                                                       // beyond the end
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x7f],                                  // far beyond it
            &[0x12, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 1],                         // a length of six bytes
            &[0x11, 1, 2, 3, 4, 5, 6, 7],
            &[0x15, 1, 2, 3], // cut in a fixed value
        ] {
            assert!(matches!(divided(&["2"], wrong), Err(NotMinimised::Malformed(_))), "{wrong:02x?}");
            assert!(matches!(divided(&["9"], wrong), Err(NotMinimised::Malformed(_))), "{wrong:02x?} is removed");
            let length = u8::try_from(wrong.len()).unwrap();
            let within = [&[0x0a, length][..], wrong].concat();
            assert!(matches!(divided(&["1.2"], &within), Err(NotMinimised::Malformed(_))), "{wrong:02x?} within");
        }
    }

    #[test]
    fn messages_pass_when_they_are_whole_however_their_bytes_come() {
        let messages = [prefixed(0, &[0x08, 1, 0x10, 2]), prefixed(0, &[]), prefixed(0, &[0x10, 3])].concat();
        let kept = [prefixed(0, &[0x08, 1]), prefixed(0, &[]), prefixed(0, &[])].concat();
        let removed = [prefixed(0, &[0x10, 2]), prefixed(0, &[]), prefixed(0, &[0x10, 3])].concat();
        for step in 1..=messages.len() {
            let mut minimiser = Minimiser::new(Arc::new(table(&["1"])));
            let (mut passed, mut apart) = (Vec::new(), Vec::new());
            for bytes in messages.chunks(step) {
                passed.extend(minimiser.take(Bytes::copy_from_slice(bytes)).unwrap());
                apart.extend(minimiser.removed());
            }
            assert_eq!((&passed, &apart), (&kept, &removed), "in steps of {step}");
            assert_eq!((minimiser.finish(), minimiser.awaited()), (Ok(()), 0));
        }
    }

    #[test]
    fn what_cannot_be_seen_whole_is_refused_at_its_first_bytes() {
        let take = |bytes: &[u8]| {
            let mut minimiser = Minimiser::new(Arc::new(table(&["1"])));
            minimiser.take(Bytes::copy_from_slice(bytes)).map(|kept| (kept, minimiser))
        };
        assert_eq!(take(&[1]).map(|_| ()), Err(NotMinimised::Compressed));
        assert_eq!(take(&[2]).map(|_| ()), Err(NotMinimised::Flag(2)));
        let at_most = u32::try_from(MAX_MESSAGE_BYTES).unwrap();
        let announced = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
        let refused = take(&announced(at_most + 1)).map(|_| ()).unwrap_err();
        assert_eq!(
            (refused.code(), refused),
            (Code::TooLargeToMinimise, NotMinimised::TooLarge(MAX_MESSAGE_BYTES + 1))
        );
        let (kept, minimiser) = take(&announced(at_most)).unwrap();
        assert!(kept.is_empty());
        assert_eq!(
            (minimiser.awaited(), minimiser.finish()),
            (PREFIX_BYTES + MAX_MESSAGE_BYTES, Err(NotMinimised::Cut))
        );
        assert_eq!(NotMinimised::Cut.code(), Code::NotMinimised);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_of_what_passes_every_field_is_named(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok((kept, removed)) = divided(&["1", "2.1", "2.3.1"], &bytes) {
                prop_assert!(kept.len() + removed.len() <= 2 * bytes.len());
                // Once more, nothing is left to remove but empty messages.
                let (again, nothing) = divided(&["1", "2.1", "2.3.1"], &kept).unwrap();
                prop_assert_eq!(&again, &kept);
                prop_assert!(only_shells(&nothing), "{nothing:02x?}");
            }
        }

        #[test]
        fn no_stream_of_bytes_makes_it_panic(chunks in proptest::collection::vec(proptest::collection::vec(0u8..12, 0..20), 0..6)) {
            let mut minimiser = Minimiser::new(Arc::new(table(&["1"])));
            for chunk in chunks {
                if minimiser.take(chunk.into()).is_err() {
                    break;
                }
                let _ = (minimiser.awaited(), minimiser.removed(), minimiser.finish());
            }
        }
    }
}
