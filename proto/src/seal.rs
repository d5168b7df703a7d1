//! A seal: the proof that a record is in its sender's log, and that the sender's key signed that log (PROTOCOL.md 5.4).

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::head::{Head, NotAHead};
use crate::identifier::{MemberId, ServerId};
use crate::merkle::{self, Misplaced};
use crate::message::{Direction, Facts, Header};
use crate::record::{Commit, Genesis, Kind, NONCE_BYTES, Record};
use crate::signature::{BadSignature, KeyId, PublicKey};
use crate::wire::relay as wire;

/// Most records in a commit.
pub const MAX_RECORDS: u32 = 65_536;
/// Most hashes in the path of a record in its commit, which is as high as [`MAX_RECORDS`] make it.
pub const MAX_RECORD_PATH: usize = MAX_RECORDS.ilog2() as usize;
/// Most hashes in the path of a commit in its tree.
pub const MAX_COMMIT_PATH: usize = 64;
/// Longest DER signature of P-256, in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 72;

/// Why a seal proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// A field has not its length, or there are more records in the commit than one holds.
    #[error("a field of the seal has not its length, or `records` is beyond {MAX_RECORDS}")]
    Malformed,
    /// The head is none.
    #[error(transparent)]
    Head(#[from] NotAHead),
    /// The genesis is another instance's, member's or server's than the sender's.
    #[error("the genesis is not of the sender's instance, member and server")]
    OtherOwner,
    /// The head is of another tree than the genesis.
    #[error("the head is not of the tree that the genesis begins")]
    OtherTree,
    /// The record's path does not fit its place.
    #[error("{0}")]
    RecordPath(Misplaced),
    /// The commit's path does not fit its place.
    #[error("{0}")]
    CommitPath(Misplaced),
    /// The paths lead to another root than the head states.
    #[error("the paths lead to another root than the head states")]
    OtherRoot,
    /// The configuration does not list the key for the sender, or it is not good.
    #[error("the key is not a good signing key of the sender's member at the sender's server")]
    KeyNotGood,
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl Unproven {
    /// The step of PROTOCOL.md that refuses.
    pub fn step(&self) -> &'static str {
        match self {
            Self::OtherOwner => "5.4.2",
            Self::Malformed | Self::Head(_) | Self::OtherTree => "5.4.3",
            Self::RecordPath(_) => "5.4.4",
            Self::CommitPath(_) | Self::OtherRoot => "5.4.5",
            Self::KeyNotGood => "5.4.6",
            Self::Signature(_) => "5.4.7",
        }
    }
}

/// Who sealed a message: the member whose log it is in and the server that keeps that log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// The member.
    pub member: MemberId,
    /// Its server.
    pub server: ServerId,
}

impl Sender {
    /// The sender of a message: of a request the consumer, of an answer the provider.
    pub fn of(header: &Facts) -> Self {
        let (subsystem, server) = match header.direction {
            Direction::Request => (&header.route.consumer, &header.route.consumer_server),
            Direction::Answer => (&header.route.provider, &header.route.provider_server),
        };
        Self { member: subsystem.member(), server: server.clone() }
    }
}

/// Verifies the seal of a header with the genesis of its tree (PROTOCOL.md 5.4, steps 2 to 7, in their order).
/// `good_key` finds the sender's key of this name, if the configuration says that it is good; `remembered` is asked as
/// in [`Walked::signed_by`].
pub fn verify<'k>(
    header: &Header,
    seal: &wire::Seal,
    genesis: &Genesis,
    good_key: impl FnOnce(&Sender, &KeyId) -> Option<&'k PublicKey>,
    remembered: impl FnOnce(&KeyId, &Head) -> bool,
) -> Result<Proven, Unproven> {
    let sender = Sender::of(header);
    let owner = &genesis.content;
    if owner.instance != header.route.instance.as_str()
        || owner.member != sender.member.as_str()
        || owner.server != sender.server.as_str()
    {
        return Err(Unproven::OtherOwner);
    }
    if Head::parse(&seal.head)?.tree != genesis.tree {
        return Err(Unproven::OtherTree);
    }
    let walked = walk(seal, header.as_bytes())?;
    let key = good_key(&sender, &walked.key()).ok_or(Unproven::KeyNotGood)?;
    walked.signed_by(key, remembered)
}

/// A seal whose paths lead from the header to the head's root. Nobody's signature is checked yet.
#[derive(Debug)]
pub struct Walked<'s> {
    head: Head,
    key: KeyId,
    seal: &'s wire::Seal,
}

/// A header that its sender's log holds as sent, under a head that this key signed. Only [`Walked::signed_by`] makes
/// one.
#[derive(Debug, Clone, Copy)]
pub struct Proven {
    /// The signed head.
    pub head: Head,
    /// The key that signed it.
    pub key: KeyId,
}

/// Walks from a header, as the body of a `sent` record, to the head's root (PROTOCOL.md 5.4, steps 1 to 6).
pub fn walk<'s>(seal: &'s wire::Seal, header: &[u8]) -> Result<Walked<'s>, Unproven> {
    let nonce: &[u8; NONCE_BYTES] = seal.nonce.as_ref().try_into().map_err(|_| Unproven::Malformed)?;
    let record = Record::new(Kind::Sent, nonce, &[header]);
    walk_record(seal, &record)
}

/// The same for any record, as an auditor walks it.
pub fn walk_record<'s>(seal: &'s wire::Seal, record: &Record) -> Result<Walked<'s>, Unproven> {
    let head = Head::parse(&seal.head)?;
    let key = KeyId::try_from(seal.key.as_ref()).map_err(|_| Unproven::Malformed)?;
    if seal.records > MAX_RECORDS || seal.signature.len() > MAX_SIGNATURE_BYTES || record.nonce()[..] != seal.nonce[..]
    {
        return Err(Unproven::Malformed);
    }
    let wire::Seal { record_path, commit_path, .. } = seal;
    let paths = Paths { record: seal.record, records: seal.records, record_path, commit: seal.commit, commit_path };
    let root = paths.root(record, head.size)?;
    if root != head.root {
        return Err(Unproven::OtherRoot);
    }
    Ok(Walked { head, key, seal })
}

/// Where a record is in a log, and the paths from it to a root.
pub(crate) struct Paths<'p> {
    pub record: u32,
    pub records: u32,
    pub record_path: &'p [bytes::Bytes],
    pub commit: u64,
    pub commit_path: &'p [bytes::Bytes],
}

impl Paths<'_> {
    /// The root that they lead to in a tree of this many commits (PROTOCOL.md 5.4, steps 4 and 5).
    pub fn root(&self, record: &Record, size: u64) -> Result<Digest, Unproven> {
        let in_commit = digests(self.record_path, MAX_RECORD_PATH)?;
        let in_tree = digests(self.commit_path, MAX_COMMIT_PATH)?;
        let root = merkle::root_of_path(record.hash(), self.record.into(), self.records.into(), &in_commit)
            .map_err(Unproven::RecordPath)?;
        let commit = Commit { count: self.records, root };
        merkle::root_of_path(commit.hash(), self.commit, size, &in_tree).map_err(Unproven::CommitPath)
    }
}

impl Walked<'_> {
    /// The head that the paths lead to.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The key that the seal names.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Checks the signature over the head (PROTOCOL.md 5.4, step 7). `remembered` says whether this very signature by
    /// this key over this head held before. To remember the head alone would let any bytes pass for its signature.
    pub fn signed_by(
        self,
        key: &PublicKey,
        remembered: impl FnOnce(&KeyId, &Head) -> bool,
    ) -> Result<Proven, Unproven> {
        if key.id() != self.key {
            return Err(BadSignature.into());
        }
        if !remembered(&self.key, &self.head) {
            key.verify(&self.seal.head, &self.seal.signature)?;
        }
        Ok(Proven { head: self.head, key: self.key })
    }
}

/// The digest of a seal, which a `received` record holds: so that what a peer sent is never offered as what we said.
pub fn digest(seal: &wire::Seal) -> Digest {
    Digest::of(&[b"causeway/v1/seal\n", &seal.encode_to_vec()])
}

fn digests(path: &[bytes::Bytes], most: usize) -> Result<Vec<Digest>, Unproven> {
    if path.len() > most {
        return Err(Unproven::Malformed);
    }
    path.iter().map(|hash| Digest::try_from(hash.as_ref()).map_err(|_| Unproven::Malformed)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::record::TreeName;
    use crate::signature::SigningKey;

    /// Some header's bytes, alone in their commit, which is alone in its tree; and the key.
    fn sealed() -> (wire::Seal, SigningKey) {
        let (key, _) = SigningKey::generate();
        let record = Record::new(Kind::Sent, &[3; NONCE_BYTES], &[b"header"]);
        let root = Commit::of(&[record.hash()]).hash();
        let head = Head { tree: TreeName(Digest::of(&[b"tree"])), size: 1, root }.to_text();
        let seal = wire::Seal {
            nonce: vec![3; NONCE_BYTES].into(),
            records: 1,
            key: key.public().id().to_wire(),
            signature: key.sign(head.as_bytes()).into(),
            head: head.into_bytes().into(),
            ..Default::default()
        };
        (seal, key)
    }

    fn holds(seal: &wire::Seal, key: &SigningKey) -> bool {
        walk(seal, b"header").and_then(|walked| walked.signed_by(key.public(), |_, _| false)).is_ok()
    }

    #[test]
    fn a_commit_has_its_limit_of_records() {
        let (mut seal, key) = sealed();
        assert!(holds(&seal, &key));
        seal.records = MAX_RECORDS;
        seal.record_path = vec![Bytes::from_static(&[1; 32]); MAX_RECORD_PATH];
        assert_eq!(walk(&seal, b"header").unwrap_err(), Unproven::OtherRoot);
        seal.records += 1;
        assert_eq!(walk(&seal, b"header").unwrap_err(), Unproven::Malformed);
    }

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    fn path() -> impl Strategy<Value = Vec<Bytes>> {
        proptest::collection::vec(prop_oneof![Just(Bytes::from_static(&[1; 32])), bytes(40)], 0..70)
    }

    proptest! {
        #[test]
        fn no_seal_makes_the_walk_panic(
            nonce in any::<[u8; NONCE_BYTES]>(), places in any::<(u32, u32, u64, u64)>(), paths in (path(), path()),
            key in any::<[u8; 32]>(), signature in bytes(80),
        ) {
            let (record, records, commit, size) = places;
            let (record_path, commit_path) = paths;
            let head = Head { tree: TreeName(Digest::ZERO), size, root: Digest::ZERO }.to_text().into_bytes().into();
            let (nonce, key) = (nonce.to_vec().into(), key.to_vec().into());
            let seal =
                wire::Seal { nonce, record, records, record_path, commit, commit_path, head, key, signature };
            prop_assert!(walk(&seal, b"header").is_err());
            let within = wire::Seal { records: records % (MAX_RECORDS + 1), ..seal };
            prop_assert!(walk(&within, b"header").is_err());
        }

        #[test]
        fn a_seal_with_a_byte_changed_proves_nothing_or_the_same(
            at in any::<proptest::sample::Index>(), to in any::<u8>(),
        ) {
            let (good, key) = sealed();
            let mut bytes = good.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(seal) = wire::Seal::decode(&bytes[..]) && holds(&seal, &key) {
                prop_assert_eq!((seal.nonce, seal.head, seal.key), (good.nonce, good.head, good.key));
            }
        }
    }
}
