//! A message log made by hand, with a member's real keys: any record, any tree, any head, and what proves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use prost::Message;
use proto::digest::Digest;
use proto::head::Head;
use proto::merkle;
use proto::message::Header;
use proto::record::{Commit, Kind, NONCE_BYTES, Record, TreeName};
use proto::signature::SigningKey;
use proto::wire::relay as wire;

use crate::rogue::Draft;
use crate::world::World;

/// Whose log it is, and the keys that its server holds.
#[derive(Clone)]
pub struct Owner {
    pub content: wire::Genesis,
    pub key: Arc<SigningKey>,
    /// The key of its TLS certificate, which signs no head.
    pub tls: Arc<SigningKey>,
}

/// One tree of a message log, all in memory.
#[derive(Clone)]
pub struct ForgedLog {
    pub genesis: Record,
    pub key: Arc<SigningKey>,
    commits: Vec<Vec<Record>>,
}

impl Owner {
    /// This member at its server.
    pub fn of(world: &World, name: &str) -> Self {
        let member = &world.members[name];
        let content = wire::Genesis {
            instance: world.instance.instance.to_string(),
            member: member.subsystem.member().to_string(),
            server: member.server.to_string(),
            why: wire::Why::First as i32,
            ..Default::default()
        };
        let tls = Arc::new(SigningKey::from_pkcs8(&member.authentication).unwrap());
        Self { content, key: Arc::clone(&member.signing), tls }
    }

    /// A new tree, whose name nobody has seen.
    pub fn log(&self) -> ForgedLog {
        self.log_that_begins(|_| {})
    }

    /// A new tree with a genesis that says what the test likes.
    pub fn log_that_begins(&self, change: impl FnOnce(&mut wire::Genesis)) -> ForgedLog {
        let mut content = wire::Genesis { random: unique(), ..self.content.clone() };
        change(&mut content);
        let genesis = record(Kind::Genesis, &content.encode_to_vec());
        let commits = vec![vec![genesis.clone()], vec![filler()]];
        ForgedLog { genesis, key: Arc::clone(&self.key), commits }
    }

    /// A frame with this message in a new tree of its own.
    pub fn frame(&self, draft: Draft) -> wire::Frame {
        self.log().frame(draft)
    }

    /// The frames of a direction, each message in a commit of one new tree.
    pub fn frames(&self, drafts: Vec<Draft>) -> Vec<wire::Frame> {
        let mut log = self.log();
        drafts.into_iter().map(|draft| log.frame(draft)).collect()
    }
}

impl ForgedLog {
    /// Commits records together; the number of their commit.
    pub fn commit(&mut self, records: Vec<Record>) -> usize {
        self.commits.push(records);
        self.commits.len() - 1
    }

    /// Puts other records in the place of a commit that was made.
    pub fn rewrite(&mut self, commit: usize) {
        self.commits[commit] = vec![filler()];
    }

    /// The head of the first `size` commits.
    pub fn head(&self, size: usize) -> Head {
        Head { tree: TreeName::of(&self.genesis), size: size as u64, root: merkle::root(&self.leaves()[..size]) }
    }

    /// How many commits it has.
    pub fn size(&self) -> usize {
        self.commits.len()
    }

    /// The seal of a record under the head of `size` commits.
    pub fn seal(&self, commit: usize, record: usize, size: usize) -> wire::Seal {
        let records: Vec<Digest> = self.commits[commit].iter().map(Record::hash).collect();
        let head = self.head(size).to_text();
        wire::Seal {
            nonce: self.commits[commit][record].nonce().to_vec().into(),
            record: record as u32,
            records: records.len() as u32,
            record_path: merkle::path(&records, record).iter().map(Digest::to_wire).collect(),
            commit: commit as u64,
            commit_path: merkle::path(&self.leaves()[..size], commit).iter().map(Digest::to_wire).collect(),
            key: self.key.public().id().to_wire(),
            signature: signature_of_71_bytes(&self.key, head.as_bytes()),
            head: head.into_bytes().into(),
        }
    }

    /// Commits a message between two other records, and seals it under the head of its own commit.
    pub fn frame(&mut self, draft: Draft) -> wire::Frame {
        let header = Header::new(draft.facts);
        self.frame_of(header.exchange.as_bytes(), header.as_bytes().clone(), draft.payload)
    }

    /// The same with these bytes for a header, whatever they are.
    pub fn frame_of(&mut self, exchange: &[u8], header: Bytes, payload: Option<wire::Payload>) -> wire::Frame {
        let commit = self.commit(vec![filler(), sent(&header), filler()]);
        let (seal, genesis) = (Some(self.seal(commit, 1, self.size())), self.genesis.as_bytes().clone());
        wire::Frame { exchange: Bytes::copy_from_slice(exchange), header, seal, payload, genesis, priority: 0 }
    }

    /// Messages in one commit, each under the one head.
    pub fn frames_of_one_commit(&mut self, drafts: Vec<Draft>) -> Vec<wire::Frame> {
        let headers = drafts.iter().map(|draft| sent(Header::new(draft.facts.clone()).as_bytes()));
        let records = headers.collect();
        let commit = self.commit(records);
        let place = drafts.into_iter().enumerate();
        place.map(|(record, draft)| self.framed(draft, commit, record, self.size())).collect()
    }

    /// The frame of a message that stands there, under the head of `size` commits.
    pub fn framed(&self, draft: Draft, commit: usize, record: usize, size: usize) -> wire::Frame {
        let header = Header::new(draft.facts);
        wire::Frame {
            exchange: Bytes::copy_from_slice(header.exchange.as_bytes()),
            header: header.as_bytes().clone(),
            seal: Some(self.seal(commit, record, size)),
            payload: draft.payload,
            genesis: self.genesis.as_bytes().clone(),
            priority: 0,
        }
    }

    /// What an honest server with this log answers that is asked about a head of this size (PROTOCOL.md 5.6).
    pub fn joined(&self, asked: usize) -> wire::Joined {
        let leaves = self.leaves();
        let there = (1..=leaves.len()).contains(&asked);
        let proof = if there { merkle::consistency(&leaves, asked) } else { Vec::new() };
        wire::Joined {
            geneses: Vec::new(),
            root: if there { merkle::root(&leaves[..asked]).to_wire() } else { Bytes::new() },
            proof: proof.iter().map(Digest::to_wire).collect(),
            newest: Some(self.signed(leaves.len())),
        }
    }

    /// The same of a server that shows the head of `shown` commits, and knows all of them.
    pub fn joined_from(&self, shown: usize) -> wire::Joined {
        let leaves = self.leaves();
        let proof = merkle::consistency(&leaves, shown).iter().map(Digest::to_wire).collect();
        wire::Joined {
            geneses: Vec::new(),
            root: merkle::root(&leaves).to_wire(),
            proof,
            newest: Some(self.signed(shown)),
        }
    }

    /// The head of `size` commits, signed.
    pub fn signed(&self, size: usize) -> wire::SignedHead {
        let head = self.head(size).to_text();
        let signature = signature_of_71_bytes(&self.key, head.as_bytes());
        wire::SignedHead { head: head.into_bytes().into(), key: self.key.public().id().to_wire(), signature }
    }

    fn leaves(&self) -> Vec<Digest> {
        let hashes = |records: &Vec<Record>| records.iter().map(Record::hash).collect::<Vec<_>>();
        self.commits.iter().map(|records| Commit::of(&hashes(records)).hash()).collect()
    }
}

/// The record of a message of ours.
pub fn sent(header: &[u8]) -> Record {
    record(Kind::Sent, header)
}

/// Some record that is no message.
pub fn filler() -> Record {
    record(Kind::Closed, &unique())
}

fn record(kind: Kind, body: &[u8]) -> Record {
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&unique()[..NONCE_BYTES]);
    Record::new(kind, &nonce, &[body])
}

/// 32 bytes that were not there before.
fn unique() -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Digest::of(&[b"unique", &NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()]).to_wire()
}

/// A signature in DER of the commonest length, so that a frame is as long each time it is made.
fn signature_of_71_bytes(key: &SigningKey, signed: &[u8]) -> Bytes {
    loop {
        let signature = key.sign(signed);
        if signature.len() == 71 {
            return signature.into();
        }
    }
}

/// The two numbers of a signature in DER.
pub fn numbers(signature: &[u8]) -> [[u8; 32]; 2] {
    let length = usize::from(signature[3]);
    let (r, rest) = signature[4..].split_at(length);
    [r, &rest[2..]].map(|bytes| {
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        let mut number = [0; 32];
        number[32 - bytes.len()..].copy_from_slice(bytes);
        number
    })
}

/// A signature of these numbers in DER: an INTEGER is as short as it can be, and positive.
pub fn der(numbers: [[u8; 32]; 2]) -> Bytes {
    let integer = |number: [u8; 32]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(31);
        let bytes = &number[zeros..];
        let sign: &[u8] = if bytes[0] >= 0x80 { &[0] } else { &[] };
        [&[2, (sign.len() + bytes.len()) as u8], sign, bytes].concat()
    };
    let body = numbers.map(integer).concat();
    [&[0x30, body.len() as u8], &body[..]].concat().into()
}

/// The other signature that holds for the same bytes and key: r and n - s.
pub fn malleated(signature: &[u8]) -> Bytes {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let [r, s] = numbers(signature);
    let (mut less, mut borrowed) = ([0; 32], 0);
    for at in (0..32).rev() {
        let digit = i16::from(ORDER[at]) - i16::from(s[at]) - borrowed;
        borrowed = i16::from(digit < 0);
        less[at] = digit.rem_euclid(256) as u8;
    }
    der([r, less])
}
