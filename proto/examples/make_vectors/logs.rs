//! Logs: records, commits, trees, the paths through them, and the seals that they give.

use prost::Message;
use proto::digest::Digest;
use proto::head::Head;
use proto::merkle;
use proto::message::Header;
use proto::record::{Commit, Genesis, Kind, NONCE_BYTES, Record, TreeName};
use proto::seal;
use proto::signature::SigningKey;
use proto::wire::relay as wire;
use serde_json::{Value, json};

use crate::headers::{answer, opening};
use crate::{accept, key, refuse};

/// One tree of a message log, all in memory.
pub struct Log {
    pub genesis: Record,
    pub key: SigningKey,
    commits: Vec<Vec<Record>>,
}

impl Log {
    /// A tree that begins with its genesis alone.
    pub fn new(member: &str, server: &str, key: SigningKey) -> Self {
        let genesis = genesis_of(&genesis(member, server));
        Self { commits: vec![vec![genesis.clone()]], genesis, key }
    }

    /// Commits records together; the number of their commit.
    pub fn commit(&mut self, records: Vec<Record>) -> usize {
        self.commits.push(records);
        self.commits.len() - 1
    }

    /// Commits one header as sent, after a record of something else, and seals it under the head of its own commit.
    pub fn sent(&mut self, header: &Header) -> wire::Seal {
        let commit = self.commit(vec![other(self.commits.len()), sent(header.as_bytes())]);
        self.seal(commit, 1, self.commits.len())
    }

    pub fn head(&self, size: usize) -> Head {
        let root = merkle::root(&self.leaves()[..size]);
        Head { tree: TreeName::of(&self.genesis), size: size as u64, root }
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
            signature: self.key.sign(head.as_bytes()).into(),
            head: head.into_bytes().into(),
        }
    }

    fn leaves(&self) -> Vec<Digest> {
        self.commits.iter().map(|records| commit_of(records).hash()).collect()
    }
}

fn commit_of(records: &[Record]) -> Commit {
    Commit::of(&records.iter().map(Record::hash).collect::<Vec<_>>())
}

/// The record of a message of ours. The nonce is made of what it says, so that every run writes the same.
pub fn sent(header: &[u8]) -> Record {
    Record::new(Kind::Sent, &nonce(header), &[header])
}

/// The record of a peer's message.
pub fn received(header: &[u8], seal: &wire::Seal) -> Record {
    Record::new(Kind::Received, &nonce(header), &[seal::digest(seal).as_bytes(), header])
}

/// Some record that is no message.
pub fn other(n: usize) -> Record {
    let closed = wire::Closed {
        exchange: vec![n as u8; 16].into(),
        attempt: 1,
        outcome: wire::Outcome::Completed as i32,
        side: wire::Side::Consumer as i32,
        opening: vec![n as u8; 32].into(),
    };
    let body = closed.encode_to_vec();
    Record::new(Kind::Closed, &nonce(&body), &[&body])
}

pub fn genesis(member: &str, server: &str) -> wire::Genesis {
    wire::Genesis {
        instance: member.split('/').next().unwrap_or_default().into(),
        member: member.into(),
        server: server.into(),
        random: Digest::of(&[b"random", member.as_bytes(), server.as_bytes()]).to_wire(),
        why: wire::Why::First as i32,
        ..Default::default()
    }
}

pub fn genesis_of(content: &wire::Genesis) -> Record {
    let body = content.encode_to_vec();
    Record::new(Kind::Genesis, &nonce(&body), &[&body])
}

fn nonce(bytes: &[u8]) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&Digest::of(&[b"nonce", bytes]).as_bytes()[..NONCE_BYTES]);
    nonce
}

pub fn records() -> Vec<Value> {
    let mut cases = Vec::new();
    let header = Header::new(opening());
    let log = Log::new("VN/GOV/portal", "VN/GOV/portal/ss1", key("consumer"));
    let seal = log.seal(0, 0, 1);
    let records = [log.genesis.clone(), sent(header.as_bytes()), received(header.as_bytes(), &seal), other(9)];
    for record in &records {
        cases.push(accept(
            &format!("a record of kind {}", record.kind() as u8),
            json!({ "record": {
                "kind": record.kind() as u8,
                "nonce": hex::encode(record.nonce()),
                "body": hex::encode(record.body()),
            } }),
            json!({ "bytes": hex::encode(record.as_bytes()), "leaf": record.hash().to_string() }),
        ));
    }
    for count in 1..=records.len() {
        let commit = commit_of(&records[..count]);
        let leaves: Vec<String> = records[..count].iter().map(|record| record.hash().to_string()).collect();
        cases.push(accept(
            &format!("a commit of {count}"),
            json!({ "commit": { "records": leaves } }),
            json!({ "root": commit.root.to_string(), "leaf": commit.hash().to_string() }),
        ));
    }
    let mut leaves = Vec::new();
    for size in 0..=9u8 {
        let names: Vec<String> = leaves.iter().map(Digest::to_string).collect();
        let root = merkle::root(&leaves).to_string();
        cases.push(accept(
            &format!("a tree of {size}"),
            json!({ "tree": { "leaves": names } }),
            json!({ "root": root }),
        ));
        leaves.push(merkle::leaf_hash(&[size]));
    }
    cases.push(accept(
        "the digest of a seal",
        json!({ "seal": hex::encode(seal.encode_to_vec()) }),
        json!({ "digest": seal::digest(&seal).to_string() }),
    ));
    let first = genesis("VN/GOV/portal", "VN/GOV/portal/ss1");
    let start = wire::Genesis {
        before: TreeName::of(&log.genesis).0.to_wire(),
        before_size: 12,
        before_root: log.head(1).root.to_wire(),
        cut_bytes: 77,
        why: wire::Why::Start as i32,
        ..first.clone()
    };
    for (name, content) in [("the genesis of a first tree", &first), ("the genesis of a later tree", &start)] {
        let record = genesis_of(content);
        let read = Genesis::parse(record.as_bytes().clone()).expect("it was just made");
        cases.push(accept(
            name,
            json!({ "genesis": hex::encode(record.as_bytes()) }),
            json!({
                "tree": read.tree.to_string(),
                "instance": content.instance,
                "member": content.member,
                "server": content.server,
            }),
        ));
    }
    let bytes = log.genesis.as_bytes().to_vec();
    let changed = |change: &dyn Fn(&mut wire::Genesis)| {
        let mut content = first.clone();
        change(&mut content);
        genesis_of(&content).as_bytes().to_vec()
    };
    for (name, genesis) in [
        ("a genesis of another kind", [&[2], &bytes[1..]].concat()),
        ("a genesis of an unknown kind", [&[9], &bytes[1..]].concat()),
        ("a genesis of 16 bytes", bytes[..16].to_vec()),
        ("a genesis with trailing bytes", [&bytes[..], &[0xa8, 0x06, 0x01]].concat()),
        ("a genesis that repeats its member", [&bytes[..], b"\x12\x01x"].concat()),
        ("a genesis with 31 random bytes", changed(&|content| content.random = vec![1; 31].into())),
        ("a genesis without a reason", changed(&|content| content.why = 0)),
        ("a genesis with a reason of no list", changed(&|content| content.why = 5)),
        ("a genesis with a negative reason", changed(&|content| content.why = -1)),
    ] {
        assert!(Genesis::parse(genesis.clone().into()).is_err(), "{name}");
        cases.push(refuse(name, json!({ "genesis": hex::encode(genesis) }), "5.4.2"));
    }
    cases
}

pub fn paths() -> Vec<Value> {
    let mut cases = Vec::new();
    let leaves: Vec<Digest> = (0..13u8).map(|n| merkle::leaf_hash(&[n])).collect();
    for (size, index) in [(1, 0), (2, 0), (2, 1), (3, 2), (5, 4), (7, 3), (8, 5), (13, 0), (13, 12), (13, 8)] {
        inclusion(&mut cases, &leaves[..size], index);
    }
    for (old, new) in [(1, 1), (1, 2), (2, 3), (3, 7), (4, 8), (6, 13), (8, 13), (12, 13), (13, 13)] {
        consistency(&mut cases, &leaves, old, new);
    }
    cases
}

fn inclusion(cases: &mut Vec<Value>, leaves: &[Digest], index: usize) {
    let (size, root, path) = (leaves.len() as u64, merkle::root(leaves), merkle::path(leaves, index));
    let about = |what: &str| format!("leaf {index} of {size}{what}");
    let mut add = |what: &str, index: u64, size: u64, path: &[Digest], root: Digest, holds: bool| {
        let leaf = leaves[(index as usize) % leaves.len()];
        assert_eq!(merkle::root_of_path(leaf, index, size, path) == Ok(root), holds, "{}", about(what));
        let input = json!({ "inclusion": {
            "leaf": leaf.to_string(), "index": index, "size": size, "path": texts(path), "root": root.to_string(),
        } });
        let name = about(what);
        cases.push(if holds { accept(&name, input, json!({})) } else { refuse(&name, input, "5.2.6") });
    };
    let at = index as u64;
    add("", at, size, &path, root, true);
    add(", one hash too many", at, size, &longer(&path), root, false);
    add(", another root", at, size, &path, flipped(&root, 0), false);
    add(", an index past the size", at + size, size, &path, root, false);
    add(", an index with an unused high bit", at | 1 << 63, size, &path, root, false);
    add(", a size of 0", at, 0, &path, root, false);
    if let Some((_, shorter)) = path.split_last() {
        add(", one hash too few", at, size, shorter, root, false);
        for bit in [0, 255] {
            let mut path = path.clone();
            path[0] = flipped(&path[0], bit);
            add(&format!(", bit {bit} flipped"), at, size, &path, root, false);
        }
        add(", the sibling's index", at ^ 1, size, &path, root, false);
        add(", twice the size", at, size * 2, &path, root, false);
    }
    if path.len() > 1 {
        let backwards: Vec<Digest> = path.iter().rev().copied().collect();
        add(", the path backwards", at, size, &backwards, root, false);
    }
}

fn consistency(cases: &mut Vec<Value>, leaves: &[Digest], old_size: usize, new_size: usize) {
    let new = &leaves[..new_size];
    let proof = merkle::consistency(new, old_size);
    let (old_root, new_root) = (merkle::root(&new[..old_size]), merkle::root(new));
    let mut add = |what: &str, old: (u64, Digest), new: (u64, Digest), proof: &[Digest], holds: bool| {
        let name = format!("the first {old_size} of {new_size}{what}");
        assert_eq!(merkle::check_consistency(old, new, proof).is_ok(), holds, "{name}");
        let input = json!({ "consistency": {
            "old_size": old.0, "old_root": old.1.to_string(), "new_size": new.0, "new_root": new.1.to_string(),
            "proof": texts(proof),
        } });
        cases.push(if holds { accept(&name, input, json!({})) } else { refuse(&name, input, "5.2.6") });
    };
    let (old, new) = ((old_size as u64, old_root), (new_size as u64, new_root));
    add("", old, new, &proof, true);
    add(", one hash too many", old, new, &longer(&proof), false);
    add(", another old root", (old.0, flipped(&old.1, 3)), new, &proof, false);
    add(", another new root", old, (new.0, flipped(&new.1, 3)), &proof, false);
    add(", an old size of 0", (0, old.1), new, &proof, false);
    if let Some((_, shorter)) = proof.split_last() {
        add(", one hash too few", old, new, shorter, false);
        add(", old and new exchanged", new, old, &proof, false);
        let mut other = proof.clone();
        other[0] = flipped(&other[0], 77);
        add(", bit 77 flipped", old, new, &other, false);
    }
}

fn texts(digests: &[Digest]) -> Vec<String> {
    digests.iter().map(Digest::to_string).collect()
}

pub fn longer(path: &[Digest]) -> Vec<Digest> {
    [path, &[Digest::of(&[b"one too many"])]].concat()
}

pub fn flipped(digest: &Digest, bit: usize) -> Digest {
    let mut bytes = *digest.as_bytes();
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
    Digest::from_bytes(bytes)
}

/// An exchange of two messages in two logs, for seals.
pub fn answered(first: &Header) -> Header {
    Header::new(answer(first))
}
