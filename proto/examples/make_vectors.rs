//! Writes `proto/vectors`: language-neutral cases, each an input with what it leads to or the step of PROTOCOL.md that
//! refuses it. Run by hand (`cargo run --example make_vectors`) and committed: ECDSA signatures are random, so a second
//! run writes other files that mean the same. With the word `container` it writes the containers alone, of the evidence that is there.

#[path = "make_vectors/checkpoints.rs"]
mod checkpoints;
#[path = "make_vectors/configuration.rs"]
mod configuration;
#[path = "make_vectors/container.rs"]
mod container;
#[path = "make_vectors/directions.rs"]
mod directions;
#[path = "make_vectors/evidence.rs"]
mod evidence;
#[path = "../tests/support/facts.rs"]
mod facts;
#[path = "make_vectors/headers.rs"]
mod headers;
#[path = "make_vectors/heads.rs"]
mod heads;
#[path = "make_vectors/logs.rs"]
mod logs;
#[path = "make_vectors/payloads.rs"]
mod payloads;
#[path = "make_vectors/seals.rs"]
mod seals;
#[path = "make_vectors/timestamps.rs"]
mod timestamps;

use std::path::Path;

use proto::digest::Digest;
use proto::signature::SigningKey;
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    std::fs::create_dir_all(&folder)?;
    if std::env::args().nth(1).as_deref() == Some("container") {
        return write_containers(&folder);
    }
    for (file, about, cases) in [
        ("header.json", "Bytes (hex) of a header: what it says, or the step that refuses.", headers::cases()),
        ("head.json", "Bytes (hex) of a head: what it says, or 5.3.", heads::cases()),
        ("commitment.json", "Commitments, and the messages of one direction with their payloads.", payloads::cases()),
        ("path.json", "Inclusion paths and consistency proofs: accepted, or 5.2.6.", logs::paths()),
        ("record.json", "Records, commits, trees, genesis and seals: their bytes and hashes.", logs::records()),
        ("seal.json", "A header, its seal and its genesis, judged with the keys listed, at `now`.", seals::cases()),
        ("direction.json", "Headers of one exchange in the order of judging.", directions::cases()),
        (
            "checkpoint.json",
            "Files (hex) of checkpoints, judged with these keys, of this version.",
            checkpoints::cases(),
        ),
        ("timestamp.json", "Tokens over bytes, judged under these authorities and revoked keys.", timestamps::cases()),
    ] {
        write(&folder.join(file), about, &cases)?;
    }
    let corpus = evidence::corpus();
    std::fs::create_dir_all(folder.join("evidence"))?;
    std::fs::write(folder.join("evidence/anchor.json"), &corpus.anchor)?;
    for (file, evidence) in
        [("unary.json", &corpus.unary), ("stream.json", &corpus.stream), ("stamped.json", &corpus.stamped)]
    {
        std::fs::write(folder.join("evidence").join(file), format!("{evidence:#}\n"))?;
    }
    let about = "Changes to unary.json, stream.json and stamped.json beside this file, verified with anchor.json or the anchor given.";
    write(&folder.join("evidence/cases.json"), about, &corpus.cases)?;
    let keys = ["consumer", "provider", "stranger"].map(|name| {
        json!({ "name": name, "pkcs8": hex::encode(pkcs8(name)), "spki": hex::encode(key(name).public().to_spki()) })
    });
    write(
        &folder.join("keys.json"),
        "The private keys of these vectors, good for nothing else. No cases to judge.",
        &keys,
    )?;
    write_containers(&folder)
}

fn write_containers(folder: &Path) -> std::io::Result<()> {
    let about = "Containers beside this file, of the evidence in ../evidence, verified with ../evidence/anchor.json: as they are, or with `length` bytes of \
                 them and other bytes at some offsets (hex).";
    let cases = container::write(folder)?;
    write(&folder.join("container/cases.json"), about, &cases)
}

/// One case a line, so that a difference shows which case changed.
fn write(path: &Path, about: &str, cases: &[Value]) -> std::io::Result<()> {
    let lines: Vec<String> = cases.iter().map(|case| format!("    {case}")).collect();
    std::fs::write(
        path,
        format!("{{\n  \"about\": {},\n  \"cases\": [\n{}\n  ]\n}}\n", json!(about), lines.join(",\n")),
    )
}

/// A case that is accepted, with what it leads to.
fn accept(name: &str, input: Value, leads_to: Value) -> Value {
    case(name, input, json!({ "accept": leads_to }))
}

/// A case that a step refuses.
fn refuse(name: &str, input: Value, step: &str) -> Value {
    case(name, input, json!({ "refused": step }))
}

fn case(name: &str, input: Value, expected: Value) -> Value {
    json!({ "name": name, "input": input, "expected": expected })
}

/// A key that is the same in each run: its private number is the hash of its name.
fn key(name: &str) -> SigningKey {
    SigningKey::from_pkcs8(&pkcs8(name)).expect("the hash of each name in use is below the curve's order")
}

fn pkcs8(name: &str) -> Vec<u8> {
    const BEFORE: [u8; 35] = [
        0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
    ];
    [&BEFORE[..], Digest::of(&[b"causeway vectors ", name.as_bytes()]).as_bytes()].concat()
}
