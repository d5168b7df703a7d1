//! Files of checkpoints of the ledger, and what is wrong with others.

use proto::digest::Digest;
use proto::global_configuration::ledger::{CheckpointFile, Ledger, Signature};
use serde_json::{Value, json};

use crate::{accept, key, refuse};

fn digest(version: u64) -> Digest {
    Digest::of(&[b"version ", version.to_string().as_bytes()])
}

/// The file of the checkpoint after these versions, signed by these.
fn file(versions: &[u64], signers: &[&str]) -> (Ledger, CheckpointFile) {
    let instance = "VN".parse().expect("an instance");
    let (mut ledger, mut path) = (None::<Ledger>, Vec::new());
    for version in versions {
        let mut next = Ledger::awaiting(ledger.as_ref(), &instance, *version);
        path = next.append(&digest(*version));
        ledger = Some(next);
    }
    let ledger = ledger.expect("there is a version");
    let checkpoint = ledger.checkpoint().to_text();
    let signature =
        |name: &&str| Signature { keyid: (*name).to_owned(), sig: hex::encode(key(name).sign(checkpoint.as_bytes())) };
    let signatures = signers.iter().map(signature).collect();
    let geneses = ledger.geneses().to_vec();
    (ledger, CheckpointFile { checkpoint, geneses, path, signatures })
}

fn input(file: &[u8], threshold: usize, version: u64) -> Value {
    let key = |name: &str| json!({ "keyid": name, "spki": hex::encode(key(name).public().to_spki()) });
    json!({
        "file": hex::encode(file), "keys": [key("consumer"), key("provider")], "threshold": threshold,
        "version": version, "digest": digest(version).to_string(),
    })
}

pub fn cases() -> Vec<Value> {
    let says = |ledger: &Ledger| {
        let checkpoint = ledger.checkpoint();
        let (name, root) = (checkpoint.ledger.to_string(), checkpoint.root.to_string());
        json!({ "ledger": name, "size": checkpoint.size, "root": root })
    };
    let mut cases = Vec::new();
    for (name, versions) in [
        ("the first version", &[1][..]),
        ("two", &[1, 2]),
        ("seven", &[4, 5, 6, 7, 8, 9, 10]),
        ("another ledger after one that was put back", &[1, 2, 3, 100, 101]),
        ("and one after that", &[1, 2, 3, 100, 101, 5000]),
    ] {
        let (ledger, made) = file(versions, &["consumer"]);
        let last = *versions.last().expect("there is one");
        cases.push(accept(name, input(&made.to_bytes(), 1, last), says(&ledger)));
    }
    let (ledger, both) = file(&[1, 2, 3], &["consumer", "provider"]);
    cases.push(accept("two sign", input(&both.to_bytes(), 2, 3), says(&ledger)));
    let (_, good) = file(&[1, 2, 3], &["consumer"]);
    let bytes = good.to_bytes();
    cases.push(refuse("one of two signs", input(&bytes, 2, 3), "8.4.5"));
    let mut twice = good.clone();
    twice.signatures.push(twice.signatures[0].clone());
    cases.push(refuse("one signs twice", input(&twice.to_bytes(), 2, 3), "8.4.5"));
    cases.push(refuse("a stranger signs", input(&file(&[1, 2, 3], &["stranger"]).1.to_bytes(), 1, 3), "8.4.5"));
    cases.push(refuse("another version", input(&bytes, 1, 2), "8.4.5"));
    let mut other = input(&bytes, 1, 3);
    other["digest"] = digest(2).to_string().into();
    cases.push(refuse("another digest", other, "8.4.5"));
    let mut changed = good.clone();
    changed.path.pop();
    cases.push(refuse("a hash too few", input(&changed.to_bytes(), 1, 3), "8.4.5"));
    changed = good.clone();
    changed.path.push(Digest::ZERO);
    cases.push(refuse("a hash too many", input(&changed.to_bytes(), 1, 3), "8.4.5"));
    changed = good.clone();
    changed.geneses[0].first = 2;
    cases.push(refuse("another genesis", input(&changed.to_bytes(), 1, 3), "8.4.4"));
    changed = good.clone();
    changed.geneses.clear();
    cases.push(refuse("no genesis", input(&changed.to_bytes(), 1, 3), "8.4.4"));
    changed = file(&[1, 2, 3, 100], &["consumer"]).1;
    changed.geneses.swap(0, 1);
    cases.push(refuse("geneses in another order", input(&changed.to_bytes(), 1, 100), "8.4.4"));
    changed = good.clone();
    changed.checkpoint = changed.checkpoint.replace("\n3\n", "\n03\n");
    cases.push(refuse("a size with a zero before it", input(&changed.to_bytes(), 1, 3), "8.4.4"));
    cases.push(refuse("white space behind it", input(&[&bytes[..], b"\n"].concat(), 1, 3), "8.4.4"));
    cases.push(refuse("no JSON", input(b"causeway.ledger.v1/", 1, 3), "8.4.4"));
    cases
}
