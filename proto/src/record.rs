//! Records and commits, the contents of a log's Merkle tree (PROTOCOL.md 5.1 and 5.2).

use bytes::Bytes;
use prost::Message;

use crate::digest::Digest;
use crate::merkle;
use crate::wire::relay as wire;

/// What a record is about; its number is the record's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The first record of a tree: whose it is, and what came before. Body: canonical `Genesis`.
    Genesis = 1,
    /// A message of ours. Body: the header's bytes.
    Sent = 2,
    /// A message of a peer. Body: the digest of its seal, then the header's bytes.
    Received = 3,
    /// The end of an exchange in this log. Body: canonical `Closed`.
    Closed = 4,
    /// A change of the signing key. Body: canonical `KeyChange`.
    Key = 5,
    /// A timestamp over an earlier head. Body: canonical `Stamp`.
    Stamp = 6,
    /// What was taken out of the log, and why.
    Cut = 7,
    /// Whom a request was about, under this server's own secret. Body: canonical `Subjects`.
    Subjects = 8,
    /// An entry of an audit log: one decision. Body: JSON.
    Entry = 16,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Genesis,
            Self::Sent,
            Self::Received,
            Self::Closed,
            Self::Key,
            Self::Stamp,
            Self::Cut,
            Self::Subjects,
            Self::Entry,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a record: a known kind, 16 random bytes and a body are wanted")]
pub struct NotARecord;

/// One record: kind, 16 random bytes, body. The random bytes keep a sibling's hash from revealing a guessable body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record(Bytes);

/// Length of the random bytes after the kind.
pub const NONCE_BYTES: usize = 16;

impl Record {
    /// A record of these parts. `nonce` is drawn at random by whoever writes the record.
    pub fn new(kind: Kind, nonce: &[u8; NONCE_BYTES], body: &[&[u8]]) -> Self {
        let length = 1 + NONCE_BYTES + body.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(length);
        bytes.push(kind as u8);
        bytes.extend_from_slice(nonce);
        for part in body {
            bytes.extend_from_slice(part);
        }
        Self(bytes.into())
    }

    /// Reads a record as it stands in a log.
    pub fn parse(bytes: Bytes) -> Result<Self, NotARecord> {
        if bytes.len() < 1 + NONCE_BYTES || Kind::from_byte(bytes[0]).is_none() {
            return Err(NotARecord);
        }
        Ok(Self(bytes))
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.0[0]).expect("checked when it was made")
    }

    /// Its random bytes.
    pub fn nonce(&self) -> [u8; NONCE_BYTES] {
        self.0[1..=NONCE_BYTES].try_into().expect("checked when it was made")
    }

    /// What follows the random bytes.
    pub fn body(&self) -> Bytes {
        self.0.slice(1 + NONCE_BYTES..)
    }

    /// The whole record.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Its leaf hash in the commit's tree.
    pub fn hash(&self) -> Digest {
        merkle::leaf_hash(&self.0)
    }
}

/// The name of a tree: SHA-256 of its genesis record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TreeName(pub Digest);

impl std::fmt::Display for TreeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl TreeName {
    /// The name of the tree that begins with this record.
    pub fn of(genesis: &Record) -> Self {
        Self(Digest::of(&[genesis.as_bytes()]))
    }
}

/// A leaf of a log's tree: how many records were committed together, and the root over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Number of records, at least 1.
    pub count: u32,
    /// RFC 6962 root over the records' leaf hashes.
    pub root: Digest,
}

impl Commit {
    /// The commit of these records' leaf hashes, in order.
    pub fn of(records: &[Digest]) -> Self {
        let count = u32::try_from(records.len()).expect("a commit is bounded far below");
        Self { count, root: merkle::root(records) }
    }

    /// Its leaf hash in the log's tree: of "causeway/v1/commit\n", the count as four bytes big-endian, and the root.
    pub fn hash(&self) -> Digest {
        let mut leaf = Vec::with_capacity(55);
        leaf.extend_from_slice(b"causeway/v1/commit\n");
        leaf.extend_from_slice(&self.count.to_be_bytes());
        leaf.extend_from_slice(self.root.as_bytes());
        merkle::leaf_hash(&leaf)
    }
}

/// Bytes that are not the one encoding of the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// No protobuf of this message.
    #[error("not a protobuf {0}: {1}")]
    Undecodable(&'static str, String),
    /// A second reading is possible: an unknown field, a repeated singular field, a long varint, fields out of
    /// order, a written default or trailing bytes.
    #[error("not the canonical encoding of {0}")]
    Ambiguous(&'static str),
    /// It decodes, and lacks what it must hold.
    #[error("{0} lacks its random bytes, or a reason of the list")]
    Incomplete(&'static str),
}

impl NotCanonical {
    /// The step of PROTOCOL.md that refuses: which of its rules was broken, comparing encodings does not tell.
    pub fn step(&self) -> &'static str {
        "3.1"
    }
}

/// Decodes a message of which only one encoding is accepted: fields in the order of their numbers, none unknown,
/// no singular one twice, defaults not written, varints as short as they can be (PROTOCOL.md 3.1).
pub fn decode_canonical<M: Message + Default>(bytes: &[u8], name: &'static str) -> Result<M, NotCanonical> {
    let message = M::decode(bytes).map_err(|error| NotCanonical::Undecodable(name, error.to_string()))?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(NotCanonical::Ambiguous(name));
    }
    Ok(message)
}

/// Longest genesis record, in bytes.
pub const MAX_GENESIS_BYTES: usize = 1024;

/// A genesis record, read.
#[derive(Clone, PartialEq, Debug)]
pub struct Genesis {
    /// The name of the tree that it begins.
    pub tree: TreeName,
    /// The record itself.
    pub record: Record,
    /// What it says.
    pub content: wire::Genesis,
}

impl Genesis {
    /// Reads the genesis record that came with a message.
    pub fn parse(record: Bytes) -> Result<Self, NotCanonical> {
        let record = Record::parse(record).map_err(|_| NotCanonical::Ambiguous("genesis record"))?;
        if record.kind() != Kind::Genesis {
            return Err(NotCanonical::Ambiguous("genesis record"));
        }
        let content: wire::Genesis = decode_canonical(&record.body(), "Genesis")?;
        let why = wire::Why::try_from(content.why).unwrap_or(wire::Why::Unspecified);
        let digest = |bytes: &Bytes| bytes.is_empty() || bytes.len() == 32;
        if record.as_bytes().len() > MAX_GENESIS_BYTES || !digest(&content.before) || !digest(&content.before_root) {
            return Err(NotCanonical::Incomplete("Genesis"));
        }
        if content.random.len() != 32 || why == wire::Why::Unspecified {
            return Err(NotCanonical::Incomplete("Genesis"));
        }
        Ok(Self { tree: TreeName::of(&record), record, content })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first() -> wire::Genesis {
        wire::Genesis {
            instance: "VN".into(),
            member: "VN/GOV/moj".into(),
            server: "VN/GOV/moj/ss1".into(),
            random: vec![7; 32].into(),
            why: wire::Why::First as i32,
            ..Default::default()
        }
    }

    fn read(content: &wire::Genesis) -> Result<Genesis, NotCanonical> {
        Genesis::parse(Record::new(Kind::Genesis, &[1; NONCE_BYTES], &[&content.encode_to_vec()]).as_bytes().clone())
    }

    #[test]
    fn a_genesis_has_a_reason_of_the_list() {
        for why in -1..=6 {
            assert_eq!(read(&wire::Genesis { why, ..first() }).is_ok(), (1..=4).contains(&why), "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let genesis = [&[Kind::Genesis as u8][..], &bytes].concat();
            let _ = (Record::parse(bytes.clone().into()), Genesis::parse(genesis.into()));
            let _ = decode_canonical::<wire::Seal>(&bytes, "Seal");
            let _ = decode_canonical::<wire::Closed>(&bytes, "Closed");
            let _ = decode_canonical::<wire::KeyChange>(&bytes, "KeyChange");
        }

        #[test]
        fn a_genesis_with_a_byte_changed_is_another_or_none(at in any::<proptest::sample::Index>(), to in any::<u8>()) {
            let genesis = read(&first()).unwrap();
            let mut bytes = genesis.record.as_bytes().to_vec();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(other) = Genesis::parse(bytes.into()) {
                prop_assert_ne!(other.tree, genesis.tree);
            }
        }
    }
}
