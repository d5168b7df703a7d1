//! TUF metadata as bytes: what a role says, signed over its canonical form, written as compact sorted JSON.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::global_configuration::update::{TIMESTAMP, target_file};
use proto::signature::{PublicKey, SigningKey};
use proto::time::Time;
use serde_json::{Map, Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

use super::Unpublishable;

const SPEC_VERSION: &str = "1.0.31";

/// What a role says, without its type, version and expiry.
pub(crate) type Body = Map<String, Value>;

/// A role as it was signed.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub version: u64,
    pub expires: Time,
    pub body: Body,
}

impl Issued {
    pub fn new(version: u64, now: Time, validity: Duration, body: Body) -> Self {
        Issued { version, expires: Time::from_jiff(seconds(now.plus(validity))), body }
    }

    /// The names of the files of the targets that it names.
    pub fn target_files(&self) -> Vec<String> {
        let Some(Value::Object(targets)) = self.body.get("targets") else { return Vec::new() };
        let file = |(path, target): (&String, &Value)| {
            let digest = target["hashes"]["sha256"].as_str()?.parse().ok()?;
            Some(target_file(path, &digest))
        };
        targets.iter().filter_map(file).collect()
    }
}

/// The file of a role, signed by each of the keys. `kind` is the metadata's `_type`.
pub(super) fn sign(role: &str, kind: &str, issued: &Issued, keys: &[SigningKey]) -> Result<Bytes, Unpublishable> {
    if keys.is_empty() {
        return Err(Unpublishable::NoKey(role.into()));
    }
    let signed = signed(kind, issued);
    let canonical = canonical(&signed).expect("all our numbers are whole");
    let signature =
        |key: &SigningKey| json!({ "keyid": key_id(key.public()), "sig": hex::encode(key.sign(&canonical)) });
    let signatures: Vec<Value> = keys.iter().map(signature).collect();
    let file = json!({ "signatures": signatures, "signed": signed });
    Ok(serde_json::to_vec(&file).expect("a JSON value has string keys only").into())
}

/// What a file's signatures are over.
pub(crate) fn signed(kind: &str, issued: &Issued) -> Value {
    let mut signed = issued.body.clone();
    signed.insert("_type".into(), kind.into());
    signed.insert("expires".into(), issued.expires.to_jiff().to_string().into());
    signed.insert("spec_version".into(), SPEC_VERSION.into());
    signed.insert("version".into(), issued.version.into());
    Value::Object(signed)
}

/// Its canonical form, which is signed. It is no JSON, since a PEM's newlines stand in it as they are. None where a number is
/// not whole: such a file is nobody's.
pub(crate) fn canonical(signed: &Value) -> Option<Vec<u8>> {
    to_canonical_bytes(signed).ok()
}

/// The role and what it says, if this file is the metadata of one other than the root.
pub(super) fn role_of(file: &str, bytes: &Bytes) -> Option<(String, Issued)> {
    let role = match file.strip_suffix(".json")?.split_once('.') {
        None if file == TIMESTAMP => "timestamp",
        Some((version, role)) if version.parse::<u64>().is_ok() && role != "root" => role,
        _ => return None,
    };
    let mut file: Value = serde_json::from_slice(bytes).ok()?;
    let Value::Object(mut body) = file.get_mut("signed")?.take() else { return None };
    let version = body.remove("version")?.as_u64()?;
    let expires = time_of(&body.remove("expires")?)?;
    body.remove("_type")?;
    body.remove("spec_version")?;
    Some((role.to_owned(), Issued { version, expires, body }))
}

/// When what is signed expires.
pub(super) fn expires(signed: &Value) -> Option<Time> {
    time_of(&signed["expires"])
}

fn time_of(expires: &Value) -> Option<Time> {
    Some(Time::from_jiff(expires.as_str()?.parse().ok()?))
}

/// The keys by their names, each once.
pub(super) fn key_table<'a>(keys: impl Iterator<Item = &'a SigningKey>) -> Value {
    let table: Map<String, Value> = keys.map(|key| (key_id(key.public()), key_object(key.public()))).collect();
    Value::Object(table)
}

/// The names of the keys.
pub(super) fn key_ids(keys: &[SigningKey]) -> Vec<String> {
    keys.iter().map(|key| key_id(key.public())).collect()
}

/// TUF 4.2: the SHA-256 of the key's canonical form.
pub(crate) fn key_id(key: &PublicKey) -> String {
    let canonical = to_canonical_bytes(&key_object(key)).expect("it holds no numbers");
    proto::digest::Digest::of(&[&canonical]).to_string()
}

/// The key as metadata names it.
pub(crate) fn key_object(key: &PublicKey) -> Value {
    let spki = STANDARD.encode(key.to_spki());
    let lines: Vec<&str> =
        spki.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    json!({ "keytype": "ecdsa", "keyval": { "public": pem }, "scheme": "ecdsa-sha2-nistp256" })
}

/// The second that the instant lies in: TUF knows no smaller ones.
pub(super) fn seconds(time: Time) -> jiff::Timestamp {
    Time::from_millis(time.as_millis() / 1000 * 1000).to_jiff()
}
