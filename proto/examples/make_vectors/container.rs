//! Containers of the evidence beside them (PROTOCOL.md 7.22, 7.23), and what is refused of them: other bytes at places of theirs.

use std::path::Path;

use proto::evidence;
use proto::evidence::archive::EVIDENCE;
use proto::evidence::container::{ASIC_MANIFEST, MIMETYPE, SIGNATURE, Unsigned};
use proto::time::Time;
use proto::zip::{self, Files};
use serde_json::{Value, json};

use crate::{accept, key, refuse};

/// After the messages of the evidence, while the key of its holder is good.
const SIGNED_AT: Time = Time::from_millis(1_800_000_060_000);

/// Writes `container/` with containers of the evidence in `evidence/` as it stands there.
pub fn write(folder: &Path) -> std::io::Result<Vec<Value>> {
    let read = |name: &str| std::fs::read(folder.join("evidence").join(name));
    let anchor = read("anchor.json")?;
    std::fs::create_dir_all(folder.join("container"))?;
    let mut cases = Vec::new();
    for name in ["unary", "stream", "stamped"] {
        let container = made(&read(&format!("{name}.json"))?, &anchor);
        let file = format!("{name}.asice");
        std::fs::write(folder.join("container").join(&file), &container)?;
        cases.push(accept(&format!("{name}, signed by its holder"), json!({ "container": file }), json!({})));
        let refused = |what: &str, step: &str, changed: Vec<u8>| {
            let found = evidence::verify(&changed, &anchor);
            let found = found.map_or_else(|error| error.step(), |report| report.refused().map_or("none", |it| it.step));
            assert_eq!(found, step, "{name}: {what}");
            let edits = difference(&container, &changed);
            refuse(
                &format!("{name}: {what}"),
                json!({ "container": file, "length": changed.len(), "edits": edits }),
                step,
            )
        };
        let files = zip::read(&container.clone().into()).expect("it was just written");
        let (manifest, signature) = (&files[ASIC_MANIFEST], &files[SIGNATURE]);
        let in_manifest = |text: &str| place(manifest, text.as_bytes());
        let time = place(signature, &[0x17, 0x0d]) + 2 + 11;
        let digest = place(signature, &hex::decode("06092a864886f70d010904").expect("hexadecimal")) + 11 + 4;
        for (what, step, of, at) in [
            ("another type", "7.22", MIMETYPE, 12),
            ("a digest of the manifest changed", "7.22", ASIC_MANIFEST, in_manifest("<ds:DigestValue>") + 16),
            ("another name in the manifest", "7.22", ASIC_MANIFEST, in_manifest("URI=\"configuration/") + 6),
            ("another root in the manifest", "7.22", ASIC_MANIFEST, in_manifest("Rootfile=\"true\"") + 10),
            ("the signature's last byte changed", "7.23", SIGNATURE, signature.len() - 1),
            ("the signed digest changed", "7.23", SIGNATURE, digest),
            ("another time of signing", "7.23", SIGNATURE, time),
            ("a certificate changed", "7.23", SIGNATURE, place(signature, &[0x55, 0x04, 0x03]) + 6),
            ("a message's header changed", "7.21", "messages/00000/header.bin", 8),
            ("a brace of the evidence file changed", "7.1", EVIDENCE, 0),
        ] {
            cases.push(refused(what, step, changed(&files, of, at)));
        }
        let middle = container.len() / 2;
        cases.push(refused("cut off", "7.20", container[..middle].to_vec()));
        cases.push(refused("a bit of a file's checksum changed", "7.20", flipped(&container, 14)));
    }
    Ok(cases)
}

fn made(json: &[u8], anchor: &[u8]) -> Vec<u8> {
    let signed = ["consumer", "provider"].iter().find_map(|name| {
        let key = key(name);
        let unsigned = Unsigned::of(json, anchor, key.public().id(), SIGNED_AT).ok()?;
        unsigned.signed_with(&key).ok()
    });
    signed.expect("one of both holds it")
}

fn place(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it stands there")
}

/// With another byte in a file of it, and a right checksum.
fn changed(files: &Files, name: &str, at: usize) -> Vec<u8> {
    let mut files = files.clone();
    let other = flipped(&files[name], at);
    files.insert(name.to_owned(), other.into());
    zip::write(&files).expect("names and lengths are the same")
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Where `to` has other bytes than the beginning of `from`, and which.
fn difference(from: &[u8], to: &[u8]) -> Vec<Value> {
    let differs: Vec<usize> = (0..to.len()).filter(|at| from[*at] != to[*at]).collect();
    differs
        .chunk_by(|one, next| one + 1 == *next)
        .map(|run| json!([run[0], hex::encode(&to[run[0]..=run[run.len() - 1]])]))
        .collect()
}
