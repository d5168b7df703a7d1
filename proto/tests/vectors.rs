//! The committed vectors hold: what they say is accepted leads where they say, what they say is refused is refused at
//! that step.

// A vector that does not read is a failure of its test.
#![allow(clippy::unwrap_used)]

#[path = "support/changes.rs"]
mod changes;
#[path = "support/facts.rs"]
mod facts;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use proto::commitment::{Committer, Kind, Secret};
use proto::digest::Digest;
use proto::evidence;
use proto::global_configuration::ledger::{NotInLedger, Shown, Signers};
use proto::head::Head;
use proto::merkle;
use proto::message::{Commitments, Directions, Header};
use proto::record::{Commit, Genesis, Kind as RecordKind, Record, decode_canonical};
use proto::seal::{self, Sender};
use proto::signature::PublicKey;
use proto::timestamp::{self, Approved};
use proto::wire::relay as wire;
use serde_json::{Value, json};

/// Where a case leads, or the step that refuses it.
type Judged = Result<Value, String>;

fn check(file: &str, judge: impl Fn(&Value) -> Judged) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() > 10, "{file} has its cases");
    for case in cases {
        let (name, expected) = (&case["name"], &case["expected"]);
        match (judge(&case["input"]), expected["refused"].as_str()) {
            (Ok(leads_to), None) => assert_eq!(leads_to, expected["accept"], "{file}: {name}"),
            (Err(step), Some(refused)) => {
                // Comparing encodings does not tell which rule of 3.1 was broken.
                let section = refused.starts_with("3.1").then_some("3.1");
                assert!(step == refused || section == Some(&step), "{file}: {name}: {refused} expected, {step} found");
            }
            (judged, _) => panic!("{file}: {name}: {expected} expected, {judged:?} found"),
        }
    }
}

#[test]
fn every_header_reads_one_way_or_not_at_all() {
    check("header.json", |input| {
        let header = Header::parse(bytes(&input["header"])).map_err(|refused| refused.step().to_owned())?;
        Ok(facts::of(&header))
    });
}

#[test]
fn every_head_has_one_form() {
    check("head.json", |input| {
        let head = Head::parse(&bytes(&input["head"])).map_err(|_| "5.3".to_owned())?;
        Ok(json!({ "tree": head.tree.to_string(), "size": head.size, "root": head.root.to_string() }))
    });
}

#[test]
fn every_checkpoint_contains_its_version_or_is_refused() {
    check("checkpoint.json", |input| {
        let key = |listed: &Value| {
            let key = PublicKey::from_spki(&bytes(&listed["spki"])).unwrap();
            (listed["keyid"].as_str().unwrap().to_owned(), key)
        };
        let keys = input["keys"].as_array().unwrap().iter().map(key).collect();
        let signers = Signers { threshold: input["threshold"].as_u64().unwrap() as usize, keys };
        let step = |refused: NotInLedger| refused.step().to_owned();
        let shown = Shown::verify(bytes(&input["file"]), &signers).map_err(step)?;
        let (version, digest) = (input["version"].as_u64().unwrap(), input["digest"].as_str().unwrap());
        let checkpoint = shown.containing(version, &digest.parse().unwrap()).map_err(step)?.checkpoint();
        let (ledger, root) = (checkpoint.ledger.to_string(), checkpoint.root.to_string());
        Ok(json!({ "ledger": ledger, "size": checkpoint.size, "root": root }))
    });
}

#[test]
fn every_payload_is_what_was_committed_to() {
    check("commitment.json", |input| {
        if let Some(messages) = input["direction"].as_array() {
            let mut commitments = Commitments::default();
            for message in messages {
                let header = Header::parse(bytes(&message["header"])).unwrap();
                let payload =
                    message["payload"].as_str().map(|_| wire::Payload::decode(bytes(&message["payload"])).unwrap());
                commitments.check(&header, payload).map_err(|refused| refused.step().to_owned())?;
            }
            return Ok(json!({}));
        }
        let input = &input["commitment"];
        let secret: [u8; 32] = bytes(&input["secret"])[..].try_into().unwrap();
        let kind = [Kind::Piece, Kind::Metadata, Kind::Trailers][number(&input["flags"]) as usize];
        let mut committer = Committer::new(&Secret::from_bytes(secret));
        for _ in 0..number(&input["n"]) {
            committer.commit(Kind::Piece, b"before");
        }
        Ok(json!({ "commitment": committer.commit(kind, &bytes(&input["bytes"])).to_string() }))
    });
}

#[test]
fn every_path_leads_to_its_root_or_nowhere() {
    check("path.json", |input| {
        let refused = || Err("5.2.6".to_owned());
        if input["inclusion"].is_object() {
            let input = &input["inclusion"];
            let (index, size) = (number(&input["index"]), number(&input["size"]));
            let root = merkle::root_of_path(digest(&input["leaf"]), index, size, &digests(&input["path"]));
            return if root == Ok(digest(&input["root"])) { Ok(json!({})) } else { refused() };
        }
        let input = &input["consistency"];
        let old = (number(&input["old_size"]), digest(&input["old_root"]));
        let new = (number(&input["new_size"]), digest(&input["new_root"]));
        merkle::check_consistency(old, new, &digests(&input["proof"])).map(|()| json!({})).or_else(|_| refused())
    });
}

#[test]
fn every_record_has_its_bytes_and_hashes() {
    check("record.json", |input| {
        let input = input.as_object().unwrap().iter().next().unwrap();
        Ok(match (input.0.as_str(), input.1) {
            ("record", parts) => {
                let kind = [RecordKind::Genesis, RecordKind::Sent, RecordKind::Received, RecordKind::Closed]
                    [number(&parts["kind"]) as usize - 1];
                let nonce = bytes(&parts["nonce"])[..].try_into().unwrap();
                let record = Record::new(kind, &nonce, &[&bytes(&parts["body"])]);
                assert_eq!(Record::parse(record.as_bytes().clone()).as_ref(), Ok(&record));
                json!({ "bytes": hex::encode(record.as_bytes()), "leaf": record.hash().to_string() })
            }
            ("commit", parts) => {
                let commit = Commit::of(&digests(&parts["records"]));
                json!({ "root": commit.root.to_string(), "leaf": commit.hash().to_string() })
            }
            ("tree", parts) => json!({ "root": merkle::root(&digests(&parts["leaves"])).to_string() }),
            ("seal", seal) => {
                json!({ "digest": seal::digest(&wire::Seal::decode(bytes(seal)).unwrap()).to_string() })
            }
            ("genesis", record) => {
                let genesis = Genesis::parse(bytes(record)).map_err(|_| "5.4.2".to_owned())?;
                let wire::Genesis { instance, member, server, .. } = genesis.content;
                json!({ "tree": genesis.tree.to_string(), "instance": instance, "member": member, "server": server })
            }
            (other, _) => panic!("an unknown input {other}"),
        })
    });
}

#[test]
fn every_seal_proves_its_header_or_nothing() {
    check("seal.json", |input| {
        let header = Header::parse(bytes(&input["header"])).map_err(|refused| refused.step().to_owned())?;
        let genesis = Genesis::parse(bytes(&input["genesis"])).map_err(|_| "5.4.2".to_owned())?;
        let keys: Vec<(Sender, PublicKey)> =
            input["keys"].as_array().unwrap().iter().filter_map(|key| good(key, &input["now"])).collect();
        let good_key = |sender: &Sender, id: &Digest| {
            assert_eq!(json!({ "member": sender.member, "server": sender.server }), input["speaker"]);
            keys.iter().find(|(owner, key)| owner == sender && key.id() == *id).map(|(_, key)| key)
        };
        // The genesis is judged before the seal is: one that does not decode is refused where a head is wanted.
        let seal = decode_canonical(&bytes(&input["seal"]), "Seal").unwrap_or_default();
        let proven = seal::verify(&header, &seal, &genesis, good_key, |_, _| false)
            .map_err(|refused| refused.step().to_owned())?;
        Ok(json!({
            "key": proven.key.to_string(),
            "tree": proven.head.tree.to_string(),
            "size": proven.head.size,
            "root": proven.head.root.to_string(),
        }))
    });
}

#[test]
fn every_direction_is_one_sequence() {
    check("direction.json", |input| {
        let mut directions = Directions::default();
        for header in input["headers"].as_array().unwrap() {
            let header = Header::parse(bytes(header)).unwrap();
            directions.take(&header).map_err(|refused| refused.step().to_owned())?;
        }
        Ok(json!({}))
    });
}

#[test]
fn every_token_says_a_time_or_nothing() {
    check("timestamp.json", |input| {
        let approved = |each: &Value| Approved {
            name: each["name"].as_str().unwrap().into(),
            certificate: bytes(&each["certificate"]).to_vec(),
            policy: each["policy"].as_str().map(|policy| timestamp::policy(policy).unwrap()),
        };
        let approved: Vec<_> = input["approved"].as_array().unwrap().iter().map(approved).collect();
        let revoked = digests(&input["revoked"]);
        let imprint = Digest::of(&[&bytes(&input["data"])]);
        let stamped = timestamp::verify(&bytes(&input["token"]), &imprint, &approved, &|key| revoked.contains(key))
            .map_err(|refused| refused.step().to_owned())?;
        let (key, time) = (stamped.key.to_string(), stamped.time.as_millis());
        Ok(json!({ "authority": stamped.authority, "key": key, "time": time }))
    });
}

#[test]
fn every_evidence_file_proves_what_it_should_or_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/evidence");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    check("evidence/cases.json", |input| {
        let anchor =
            input["anchor"].as_str().map_or_else(|| read("anchor.json"), |text| STANDARD.decode(text).unwrap());
        let file = match input["text"].as_str() {
            Some(text) => text.to_owned(),
            None => {
                let mut file: Value = serde_json::from_slice(&read(input["file"].as_str().unwrap())).unwrap();
                input["changes"].as_array().unwrap().iter().for_each(|change| changes::apply(&mut file, change));
                file.to_string()
            }
        };
        let report = evidence::verify(file.as_bytes(), &anchor).map_err(|refused| refused.step().to_owned())?;
        assert_eq!(report.holds(), !report.proven.is_empty());
        report.refused().map_or(Ok(json!({})), |finding| Err(finding.step.to_owned()))
    });
}

#[test]
fn every_container_proves_what_its_evidence_does_or_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let anchor = std::fs::read(folder.join("evidence/anchor.json")).unwrap();
    check("container/cases.json", |input| {
        let mut container = std::fs::read(folder.join("container").join(input["container"].as_str().unwrap())).unwrap();
        container.truncate(input["length"].as_u64().map_or(container.len(), |length| length as usize));
        for edit in input["edits"].as_array().into_iter().flatten() {
            let (at, other) = (edit[0].as_u64().unwrap() as usize, bytes(&edit[1]));
            container[at..at + other.len()].copy_from_slice(&other);
        }
        let report = evidence::verify(&container, &anchor).map_err(|refused| refused.step().to_owned())?;
        assert_eq!(report.holds(), !report.proven.is_empty());
        report.refused().map_or(Ok(json!({})), |finding| Err(finding.step.to_owned()))
    });
}

#[test]
fn any_byte_of_an_evidence_file_may_be_changed_and_nothing_else_is_proven() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/evidence");
    let anchor = std::fs::read(folder.join("anchor.json")).unwrap();
    let file = std::fs::read(folder.join("unary.json")).unwrap();
    let good = evidence::verify(&file, &anchor).unwrap();
    assert!(good.holds());
    let messages = file.windows(10).position(|ten| ten == b"\"messages\"").unwrap();
    for at in (messages..file.len()).step_by(11) {
        let mut other = file.clone();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        // What is no evidence file proves nothing.
        let Ok(report) = evidence::verify(&other, &anchor) else { continue };
        assert!(report.proven.is_empty() || report.proven == good.proven, "byte {at}");
    }
}

/// The key of a list's entry and whose it is, if it is good at `now`.
fn good(key: &Value, now: &Value) -> Option<(Sender, PublicKey)> {
    let now = number(now);
    let good = number(&key["not_before"]) <= now && now <= number(&key["not_after"]) && key["revoked"] == json!(false);
    let text = |field: &str| key[field].as_str().unwrap().to_owned();
    let sender = Sender { member: text("member").parse().unwrap(), server: text("server").parse().unwrap() };
    good.then(|| (sender, PublicKey::from_spki(&bytes(&key["spki"])).unwrap()))
}

fn bytes(text: &Value) -> Bytes {
    hex::decode(text.as_str().unwrap()).unwrap().into()
}

fn number(number: &Value) -> u64 {
    number.as_u64().unwrap()
}

fn digest(text: &Value) -> Digest {
    text.as_str().unwrap().parse().unwrap()
}

fn digests(texts: &Value) -> Vec<Digest> {
    texts.as_array().unwrap().iter().map(digest).collect()
}
