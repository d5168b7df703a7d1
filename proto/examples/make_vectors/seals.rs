//! Seals: each step of PROTOCOL.md 5.4 refused once and more.

use bytes::Bytes;
use prost::Message;
use proto::digest::Digest;
use proto::head::Head;
use proto::message::Header;
use proto::record::Record;
use proto::seal::Sender;
use proto::signature::SigningKey;
use proto::wire::relay as wire;
use serde_json::{Value, json};

use crate::headers::opening;
use crate::logs::{Log, answered, flipped, genesis, genesis_of, longer, other, received, sent};
use crate::{accept, key, refuse};

const NOW: u64 = 1_800_000_000_500;
const PORTAL: (&str, &str) = ("VN/GOV/portal", "VN/GOV/portal/ss1");
const MINISTRY: (&str, &str) = ("VN/GOV/moj", "VN/GOV/moj/ss1");

/// What a case gives to the judge.
#[derive(Clone)]
struct Input {
    header: Vec<u8>,
    seal: Vec<u8>,
    genesis: Vec<u8>,
    keys: Vec<Value>,
}

pub fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    let header = Header::new(opening());
    let mut portal = Log::new(PORTAL.0, PORTAL.1, key("consumer"));
    portal.commit(vec![other(1), other(2)]);
    let commit = portal.commit(vec![other(3), other(4), sent(header.as_bytes()), other(5), other(6)]);
    portal.commit(vec![other(7)]);
    portal.commit(vec![other(8)]);
    let seal = portal.seal(commit, 2, 5);
    let good = Input {
        header: header.as_bytes().to_vec(),
        seal: seal.encode_to_vec(),
        genesis: portal.genesis.as_bytes().to_vec(),
        keys: vec![listed(PORTAL, &portal.key), listed(MINISTRY, &key("provider"))],
    };

    accepted(&mut cases, &header, &portal, commit, &good);
    let mut add = |name: &str, step: &str, input: Input| cases.push(refuse(name, input.json(), step));
    let resealed = |change: &dyn Fn(&mut wire::Seal)| {
        let mut seal = seal.clone();
        change(&mut seal);
        Input { seal: seal.encode_to_vec(), ..good.clone() }
    };
    let with_genesis = |genesis: Record| Input { genesis: genesis.as_bytes().to_vec(), ..good.clone() };

    // Step 1.
    let with_header = |header: Vec<u8>| Input { header, ..good.clone() };
    add("a repeated header field", "3.1.2", with_header([&good.header[..], &[0x6a, 0x02, 0x0a, 0x00]].concat()));
    add("an unknown header field", "3.1.2", with_header([&good.header[..], &[0xa8, 0x06, 0x01]].concat()));
    add("a header cut off", "3.1.5", with_header(good.header[..good.header.len() - 1].to_vec()));

    // Step 2.
    add("no genesis", "5.4.2", Input { genesis: vec![], ..good.clone() });
    add("a genesis of another kind", "5.4.2", with_genesis(sent(&portal.genesis.body())));
    add("a genesis of another server", "5.4.2", with_genesis(genesis_of(&genesis(PORTAL.0, "VN/GOV/portal/ss2"))));
    add("a genesis of another member", "5.4.2", with_genesis(genesis_of(&genesis(MINISTRY.0, PORTAL.1))));
    let elsewhere = wire::Genesis { instance: "EE".into(), ..genesis(PORTAL.0, PORTAL.1) };
    add("a genesis of another instance", "5.4.2", with_genesis(genesis_of(&elsewhere)));
    let mut ministry = Log::new(MINISTRY.0, MINISTRY.1, key("provider"));
    let by_ministry = ministry.sent(&header);
    add(
        "the provider's log, tree and key for the consumer's request",
        "5.4.2",
        Input { seal: by_ministry.encode_to_vec(), genesis: ministry.genesis.as_bytes().to_vec(), ..good.clone() },
    );
    let reasonless = wire::Genesis { why: 5, ..genesis(PORTAL.0, PORTAL.1) };
    add("a genesis with a reason of no list", "5.4.2", with_genesis(genesis_of(&reasonless)));
    add(
        "a genesis with an unknown field",
        "5.4.2",
        Input { genesis: [&good.genesis[..], &[0xa8, 0x06, 0x01]].concat(), ..good.clone() },
    );

    // Step 3.
    add("a truncated seal", "5.4.3", Input { seal: good.seal[..good.seal.len() - 1].to_vec(), ..good.clone() });
    add("no seal", "5.4.3", Input { seal: vec![], ..good.clone() });
    add("a head of another member", "5.4.3", Input { seal: by_ministry.encode_to_vec(), ..good.clone() });
    let again = genesis_of(&wire::Genesis { random: vec![9; 32].into(), ..genesis(PORTAL.0, PORTAL.1) });
    add("a genesis of another tree of the sender", "5.4.3", with_genesis(again));
    add("a nonce of 15 bytes", "5.4.3", resealed(&|seal| seal.nonce.truncate(15)));
    add("a key of 31 bytes", "5.4.3", resealed(&|seal| seal.key.truncate(31)));
    add("a hash of 31 bytes in the record's path", "5.4.3", resealed(&|seal| seal.record_path[0].truncate(31)));
    add("a hash of 33 bytes in the commit's path", "5.4.3", resealed(&|seal| seal.commit_path[0] = vec![1; 33].into()));
    add("17 hashes in the record's path", "5.4.3", resealed(&|seal| seal.record_path = hashes(17)));
    add("65 hashes in the commit's path", "5.4.3", resealed(&|seal| seal.commit_path = hashes(65)));
    add("a last record past 65,536, its path short and right", "5.4.3", {
        let mut long = Log::new(PORTAL.0, PORTAL.1, key("consumer"));
        let commit = long.commit([vec![other(1); 65_536], vec![sent(header.as_bytes())]].concat());
        let seal = long.seal(commit, 65_536, 2);
        assert_eq!((seal.records, seal.record_path.len()), (65_537, 1));
        Input { seal: seal.encode_to_vec(), ..good.clone() }
    });
    add("a signature of 73 bytes", "5.4.3", resealed(&|seal| seal.signature = vec![0x30; 73].into()));
    let text = String::from_utf8(seal.head.to_vec()).expect("a head is text");
    for (name, other) in [
        ("a head with a leading zero in its size, signed", text.replace("\n5\n", "\n05\n")),
        ("a head with lines ended as in DOS, signed", text.replace('\n', "\r\n")),
        ("a head with an extension line, signed", format!("{text}extension\n")),
        ("a head of another origin, signed", text.replace("causeway.v1/", "causeway.v2/")),
    ] {
        add(name, "5.4.3", resealed(&|seal| sign_again(seal, &portal.key, other.as_bytes())));
    }

    // Step 4.
    let path = digests(&seal.record_path);
    add("a record path one hash too long", "5.4.4", resealed(&|seal| seal.record_path = wires(&longer(&path))));
    add("a record path one hash too short", "5.4.4", resealed(&|seal| _ = seal.record_path.pop()));
    add("a record past the number of records", "5.4.4", resealed(&|seal| seal.record = seal.records));
    add("no records", "5.4.4", resealed(&|seal| (seal.record, seal.records) = (0, 0)));

    // Step 5.
    let path = digests(&seal.commit_path);
    add("a commit path one hash too long", "5.4.5", resealed(&|seal| seal.commit_path = wires(&longer(&path))));
    add("a commit path one hash too short", "5.4.5", resealed(&|seal| _ = seal.commit_path.pop()));
    add("a commit past the size", "5.4.5", resealed(&|seal| seal.commit = 5));
    add("a commit with an unused high bit", "5.4.5", resealed(&|seal| seal.commit |= 1 << 63));
    add("another number of records", "5.4.5", resealed(&|seal| seal.records = 6));
    add("another record's index", "5.4.5", resealed(&|seal| seal.record = 3));
    add("another commit's index", "5.4.5", resealed(&|seal| seal.commit = 3));
    add("another nonce", "5.4.5", resealed(&|seal| seal.nonce = vec![1; 16].into()));
    add(
        "a bit of the record's path flipped",
        "5.4.5",
        resealed(&|seal| {
            seal.record_path[0] = flipped(&digests(&seal.record_path)[0], 200).to_wire();
        }),
    );
    add(
        "a bit of the commit's path flipped",
        "5.4.5",
        resealed(&|seal| {
            seal.commit_path[1] = flipped(&digests(&seal.commit_path)[1], 0).to_wire();
        }),
    );
    add(
        "a header of another message",
        "5.4.5",
        with_header({
            let mut facts = opening();
            facts.attempt = 2;
            Header::new(facts).as_bytes().to_vec()
        }),
    );
    add(
        "a head of another root, signed",
        "5.4.5",
        resealed(&|seal| {
            let head = Head { root: Digest::of(&[b"another root"]), ..portal.head(5) };
            sign_again(seal, &portal.key, head.to_text().as_bytes());
        }),
    );
    add(
        "a head of another size, signed",
        "5.4.5",
        resealed(&|seal| {
            sign_again(seal, &portal.key, portal.head(4).to_text().as_bytes());
        }),
    );
    let mut fork = Log::new(PORTAL.0, PORTAL.1, key("consumer"));
    fork.commit(vec![other(11)]);
    let forked = fork.commit(vec![other(12), sent(header.as_bytes())]);
    let in_fork = fork.seal(forked, 1, 3);
    add(
        "a right signature with a path to another tree",
        "5.4.5",
        resealed(&|seal| {
            let (head, signature) = (seal.head.clone(), seal.signature.clone());
            *seal = wire::Seal { head, signature, ..in_fork.clone() };
        }),
    );
    let record = received(header.as_bytes(), &seal);
    let commit = portal.commit(vec![record]);
    let own = portal.seal(commit, 0, 6);
    add("a received record offered as sent", "5.4.5", Input { seal: own.encode_to_vec(), ..good.clone() });
    add(
        "a received record offered as sent, digest and all",
        "3.1",
        Input { seal: own.encode_to_vec(), header: received(header.as_bytes(), &seal).body().to_vec(), ..good.clone() },
    );

    // Step 6.
    let with_keys = |keys: Vec<Value>| Input { keys, ..good.clone() };
    add("a key that is not listed", "5.4.6", with_keys(vec![listed(MINISTRY, &key("provider"))]));
    add(
        "a key that is listed for another member",
        "5.4.6",
        with_keys(vec![listed(("VN/GOV/moj", PORTAL.1), &portal.key)]),
    );
    add(
        "a key that is listed at another server",
        "5.4.6",
        with_keys(vec![listed((PORTAL.0, "VN/GOV/portal/ss2"), &portal.key)]),
    );
    let mut late = listed(PORTAL, &portal.key);
    late["not_before"] = json!(NOW + 1);
    add("a key whose certificate begins a millisecond later", "5.4.6", with_keys(vec![late]));
    let mut expired = listed(PORTAL, &portal.key);
    expired["not_after"] = json!(NOW - 1);
    add("a key whose certificate ended a millisecond ago", "5.4.6", with_keys(vec![expired]));
    let mut revoked = listed(PORTAL, &portal.key);
    revoked["revoked"] = json!(true);
    add("a revoked key", "5.4.6", with_keys(vec![revoked]));
    add(
        "a stranger's key with its own signature",
        "5.4.6",
        resealed(&|seal| {
            let stranger = key("stranger");
            seal.key = stranger.public().id().to_wire();
            seal.signature = stranger.sign(&seal.head).into();
        }),
    );

    // Step 7.
    add(
        "a stranger's signature under the sender's key",
        "5.4.7",
        resealed(&|seal| {
            seal.signature = key("stranger").sign(&seal.head).into();
        }),
    );
    add(
        "a signature over another head",
        "5.4.7",
        resealed(&|seal| {
            seal.signature = portal.key.sign(portal.head(4).to_text().as_bytes()).into();
        }),
    );
    add(
        "a trailing byte in the signature",
        "5.4.7",
        resealed(&|seal| {
            seal.signature = [&short_signature(&portal.key, &seal.head)[..], &[0]].concat().into();
        }),
    );
    add("no signature", "5.4.7", resealed(&|seal| seal.signature = Bytes::new()));
    add("a signature cut off", "5.4.7", resealed(&|seal| seal.signature.truncate(seal.signature.len() - 1)));
    add(
        "a signature of r and s without DER",
        "5.4.7",
        resealed(&|seal| {
            let (r, s) = numbers(&seal.signature);
            seal.signature = [r, s].concat().into();
        }),
    );
    add(
        "a signature with r and s exchanged",
        "5.4.7",
        resealed(&|seal| {
            let (r, s) = numbers(&seal.signature);
            seal.signature = der(&s, &r).into();
        }),
    );
    add("a signature of two zeros", "5.4.7", resealed(&|seal| seal.signature = der(&[0; 32], &[0; 32]).into()));
    add("another listed key of the sender, not its signature", "5.4.7", {
        let second = key("consumer's second");
        let mut input = resealed(&|seal| seal.key = key("consumer's second").public().id().to_wire());
        input.keys.push(listed(PORTAL, &second));
        input
    });
    cases
}

fn accepted(cases: &mut Vec<Value>, header: &Header, portal: &Log, commit: usize, good: &Input) {
    let mut add = |name: &str, input: Input| {
        let seal = wire::Seal::decode(&input.seal[..]).expect("a good one");
        let head = Head::parse(&seal.head).expect("a good one");
        cases.push(accept(
            name,
            input.json(),
            json!({
                "key": hex::encode(&seal.key),
                "tree": head.tree.to_string(),
                "size": head.size,
                "root": head.root.to_string(),
            }),
        ));
    };
    let sealed = |seal: wire::Seal| Input { seal: seal.encode_to_vec(), ..good.clone() };
    add("a request in the middle of its commit and its log", good.clone());
    add("the same under the head of its own commit", sealed(portal.seal(commit, 2, commit + 1)));
    let mut same = portal.seal(commit, 2, 5);
    same.signature = malleated(&same.signature).into();
    add("the signature's other form, r and n - s, of the same head", sealed(same));
    let mut turned = good.clone();
    let member = listed(PORTAL, &portal.key);
    turned.keys = vec![listed(PORTAL, &key("consumer's second")), member];
    turned.keys[1]["not_before"] = json!(NOW);
    turned.keys[1]["not_after"] = json!(NOW);
    add("a key at the first and last instant of its certificate, among two", turned);
    let mut ministry = Log::new(MINISTRY.0, MINISTRY.1, key("provider"));
    let answer = answered(header);
    let seal = ministry.sent(&answer);
    add(
        "an answer, by the provider's server",
        Input {
            header: answer.as_bytes().to_vec(),
            seal: seal.encode_to_vec(),
            genesis: ministry.genesis.as_bytes().to_vec(),
            ..good.clone()
        },
    );
    let mut alone = Log::new(PORTAL.0, PORTAL.1, key("consumer"));
    let only = alone.commit(vec![sent(header.as_bytes())]);
    add("a commit of one record: no path in it", sealed(alone.seal(only, 0, 2)));
    let mut full = Log::new(PORTAL.0, PORTAL.1, key("consumer"));
    let commit = full.commit([vec![other(1); 65_535], vec![sent(header.as_bytes())]].concat());
    add("a commit of 65,536 records: 16 hashes in its path", sealed(full.seal(commit, 65_535, 2)));
}

impl Input {
    fn json(&self) -> Value {
        let speaker = Header::parse(self.header.clone().into())
            .ok()
            .map(|header| Sender::of(&header))
            .map(|sender| json!({ "member": sender.member, "server": sender.server }));
        json!({
            "header": hex::encode(&self.header),
            "seal": hex::encode(&self.seal),
            "genesis": hex::encode(&self.genesis),
            "speaker": speaker,
            "keys": self.keys,
            "now": NOW,
        })
    }
}

fn listed((member, server): (&str, &str), key: &SigningKey) -> Value {
    json!({
        "member": member,
        "server": server,
        "spki": hex::encode(key.public().to_spki()),
        "not_before": NOW - 86_400_000,
        "not_after": NOW + 86_400_000,
        "revoked": false,
    })
}

fn sign_again(seal: &mut wire::Seal, key: &SigningKey, head: &[u8]) {
    seal.head = Bytes::copy_from_slice(head);
    seal.signature = key.sign(head).into();
}

/// A signature that leaves room for a byte below the limit of 72.
fn short_signature(key: &SigningKey, signed: &[u8]) -> Vec<u8> {
    loop {
        let signature = key.sign(signed);
        if signature.len() < 72 {
            return signature;
        }
    }
}

fn hashes(count: usize) -> Vec<Bytes> {
    vec![Bytes::from_static(&[1; 32]); count]
}

fn digests(path: &[Bytes]) -> Vec<Digest> {
    path.iter().map(|hash| hash.as_ref().try_into().expect("of a good seal")).collect()
}

fn wires(path: &[Digest]) -> Vec<Bytes> {
    path.iter().map(Digest::to_wire).collect()
}

/// The other signature that holds for the same bytes and key: r and n - s.
pub fn malleated(signature: &[u8]) -> Vec<u8> {
    let (r, s) = numbers(signature);
    der(&r, &order_minus(&s))
}

/// The two numbers of a DER signature, 32 bytes each.
fn numbers(signature: &[u8]) -> ([u8; 32], [u8; 32]) {
    let number = |der: &[u8]| {
        let length = usize::from(der[1]);
        let digits = &der[2..2 + length];
        let digits = &digits[digits.len().saturating_sub(32)..];
        let mut number = [0; 32];
        number[32 - digits.len()..].copy_from_slice(digits);
        (number, 2 + length)
    };
    let (r, length) = number(&signature[2..]);
    (r, number(&signature[2 + length..]).0)
}

fn der(r: &[u8; 32], s: &[u8; 32]) -> Vec<u8> {
    let number = |number: &[u8; 32]| {
        let first = number.iter().position(|byte| *byte != 0).unwrap_or(31);
        let sign: &[u8] = if number[first] & 0x80 == 0 { &[] } else { &[0] };
        let digits = [sign, &number[first..]].concat();
        [&[0x02, digits.len() as u8], &digits[..]].concat()
    };
    let both = [number(r), number(s)].concat();
    [&[0x30, both.len() as u8], &both[..]].concat()
}

/// The order of P-256, less this number.
fn order_minus(number: &[u8; 32]) -> [u8; 32] {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let mut rest = [0; 32];
    hex::decode_to_slice(ORDER, &mut rest).expect("64 digits");
    let mut borrow = 0;
    for (digit, less) in rest.iter_mut().zip(number).rev() {
        let difference = i16::from(*digit) - i16::from(*less) - borrow;
        borrow = i16::from(difference < 0);
        *digit = difference.rem_euclid(256) as u8;
    }
    rest
}
