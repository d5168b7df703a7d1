//! A small signed configuration, and every way to sign a wrong one. The registry's own writer is another program; this one
//! signs whatever it is told.

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::digest::Digest;
use proto::global_configuration::update::{Files, target_file};
use proto::signature::PublicKey;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

use crate::{key, pkcs8};

/// What is to be signed, and by whom.
#[derive(Clone)]
pub struct Draft {
    /// `signed` of each role, without the pins: those are made when it is signed.
    pub roles: BTreeMap<String, Value>,
    /// The names of the keys that sign each role.
    pub signers: BTreeMap<String, Vec<&'static str>>,
    pub documents: BTreeMap<String, Value>,
    /// A second root, and who signs it.
    pub second_root: Option<(Value, Vec<&'static str>)>,
}

const ROOTS: [&str; 3] = ["root 1", "root 2", "root 3"];
const PERSONS: [&str; 2] = ["person 1", "person 2"];
const EXPIRES: &str = "2027-03-01T00:00:00Z";
const SOON: &str = "2027-01-17T00:00:00Z";

impl Draft {
    /// A right one.
    pub fn new() -> Self {
        let body = |kind: &str, expires: &str, version: u64| json!({ "_type": kind, "spec_version": "1.0.31", "version": version, "expires": expires });
        let targets = |expires: &str, version: u64| {
            let mut targets = body("targets", expires, version);
            targets["targets"] = json!({});
            targets
        };
        let mut roles = BTreeMap::from([
            ("root".to_owned(), root(1, &["timestamp"])),
            ("targets".to_owned(), targets(EXPIRES, 1)),
            ("members".to_owned(), targets(EXPIRES, 1)),
            ("revoked".to_owned(), targets(SOON, 3)),
            ("snapshot".to_owned(), body("snapshot", SOON, 3)),
            ("timestamp".to_owned(), body("timestamp", SOON, 3)),
        ]);
        roles.get_mut("timestamp").expect("it is there")["signed_at"] = json!("2027-01-15T07:59:00Z");
        roles.get_mut("targets").expect("it is there")["delegations"] = json!({
            "keys": keys(&["person 1", "person 2", "duty"]),
            "roles": [
                delegation("revoked", &["duty"], 1, json!({ "paths": ["revoked/*.json"] })),
                delegation("members", &PERSONS, 2, json!({ "paths": ["members/*/*/*.json"] })),
            ],
        });
        let bins = (0..=255u8).map(|bin| {
            let prefixes = json!({ "path_hash_prefixes": [format!("{bin:02x}")] });
            delegation(&format!("m-{bin:02x}"), &PERSONS, 2, prefixes)
        });
        roles.get_mut("members").expect("it is there")["delegations"] =
            json!({ "keys": keys(&PERSONS), "roles": bins.collect::<Vec<_>>() });
        let mut draft = Self {
            roles,
            signers: BTreeMap::from([
                ("root".to_owned(), ROOTS[..2].to_vec()),
                ("revoked".to_owned(), vec!["duty"]),
                ("snapshot".to_owned(), vec!["snapshot"]),
                ("timestamp".to_owned(), vec!["timestamp"]),
            ]),
            documents: documents(),
            second_root: None,
        };
        for path in draft.documents.keys().filter(|path| path.starts_with("members/")) {
            draft.roles.insert(bin_of(path), targets(EXPIRES, 2));
        }
        draft
    }

    pub fn role(&mut self, name: &str) -> &mut Value {
        self.roles.get_mut(name).expect("the draft has this role")
    }

    pub fn document(&mut self, path: &str) -> &mut Value {
        self.documents.get_mut(path).expect("the draft has this document")
    }

    /// The anchor and the files. What was signed before with the same content is the same file.
    pub fn signed(&self) -> (Bytes, Files) {
        self.signed_with(|_| ())
    }

    /// The same; `change` is shown each role with its pins, before it is signed.
    pub fn signed_with(&self, change: impl Fn(&mut BTreeMap<String, Value>)) -> (Bytes, Files) {
        let mut files = Files::new();
        let mut roles = self.roles.clone();
        for (path, document) in &self.documents {
            let bytes = Bytes::from(serde_json::to_vec(document).expect("JSON"));
            let digest = Digest::of(&[&bytes]);
            let role = match path.split('/').next() {
                Some("members") => bin_of(path),
                Some("revoked") => "revoked".into(),
                _ => "targets".into(),
            };
            let target = json!({ "length": bytes.len(), "hashes": { "sha256": digest.to_string() } });
            if let Some(role) = roles.get_mut(&role) {
                role["targets"][path] = target;
            }
            files.insert(target_file(path, &digest), bytes);
        }
        let pins: BTreeMap<String, Value> = roles
            .iter()
            .filter(|(role, _)| !["root", "snapshot", "timestamp"].contains(&role.as_str()))
            .map(|(role, body)| (format!("{role}.json"), json!({ "version": body["version"] })))
            .collect();
        roles.get_mut("snapshot").expect("it is there")["meta"] = json!(pins);
        change(&mut roles);
        for (role, body) in roles.iter().filter(|(role, _)| !["root", "timestamp"].contains(&role.as_str())) {
            files.insert(format!("{}.{role}.json", body["version"]), self.file(role, body));
        }
        let timestamp = roles.get_mut("timestamp").expect("it is there");
        if timestamp["meta"].is_null() {
            let version = &self.roles["snapshot"]["version"];
            let snapshot = &files[&format!("{version}.snapshot.json")];
            timestamp["meta"] = json!({ "snapshot.json": {
                "version": version,
                "length": snapshot.len(),
                "hashes": { "sha256": Digest::of(&[snapshot]).to_string() },
            } });
        }
        files.insert("timestamp.json".into(), self.file("timestamp", &roles["timestamp"]));
        if let Some((root, signers)) = &self.second_root {
            files.insert("2.root.json".into(), sign(root, signers));
        }
        (self.file("root", &roles["root"]), files)
    }

    fn file(&self, role: &str, body: &Value) -> Bytes {
        let signers = self.signers.get(role).map_or(&PERSONS[..], Vec::as_slice);
        sign(body, signers)
    }
}

/// A root of this version whose timestamps are signed by one of these keys.
pub fn root(version: u64, timestamp: &[&'static str]) -> Value {
    let all: Vec<&str> = [&ROOTS[..], &PERSONS[..], &["snapshot"], timestamp].concat();
    json!({
        "_type": "root",
        "spec_version": "1.0.31",
        "version": version,
        "expires": "2028-01-01T00:00:00Z",
        "consistent_snapshot": true,
        "keys": keys(&all),
        "roles": {
            "root": { "keyids": ids(&ROOTS), "threshold": 2 },
            "targets": { "keyids": ids(&PERSONS), "threshold": 2 },
            "snapshot": { "keyids": ids(&["snapshot"]), "threshold": 1 },
            "timestamp": { "keyids": ids(timestamp), "threshold": 1 },
        },
    })
}

/// The bin of a member's document.
pub fn bin_of(path: &str) -> String {
    format!("m-{:02x}", Digest::of(&[path.as_bytes()]).as_bytes()[0])
}

pub fn delegation(name: &str, signers: &[&str], threshold: usize, allowed: Value) -> Value {
    let mut delegation = json!({ "name": name, "keyids": ids(signers), "threshold": threshold, "terminating": true });
    let fields = delegation.as_object_mut().expect("it is one");
    fields.extend(allowed.as_object().expect("it is one").clone());
    delegation
}

fn documents() -> BTreeMap<String, Value> {
    let server = |server: &str, key: &str| json!({ "server": server, "address": "127.0.0.1:5500", "authentication": [certificate(key, (2027, 2028))] });
    let member = |member: &str, name: &str, system: &str, servers: &[(&str, &str, &str)]| {
        let named: Vec<String> = servers.iter().map(|(server, ..)| format!("{member}/{server}")).collect();
        let at = |n: usize| named[n].as_str();
        json!({
            "member": member,
            "name": name,
            "standing": "active",
            "subsystems": [{ "subsystem": format!("{member}/{system}"), "servers": named.clone() }],
            "servers": servers.iter().enumerate().map(|(n, (_, tls, _))| server(at(n), tls)).collect::<Vec<_>>(),
            "signing": servers.iter().enumerate().map(|(n, (_, _, signing))| {
                json!({ "server": at(n), "certificate": certificate(signing, (2027, 2028)) })
            }).collect::<Vec<_>>(),
        })
    };
    let mut documents = BTreeMap::from([
        (
            "instance.json".to_owned(),
            json!({ "instance": "VN", "name": "Vectors", "authorities": [certificate("authority", (2026, 2030))] }),
        ),
        (
            "members/VN/GOV/portal.json".to_owned(),
            member("VN/GOV/portal", "One-stop portal", "one-stop", &[("ss1", "consumer's TLS", "consumer")]),
        ),
        (
            "members/VN/GOV/moj.json".to_owned(),
            member(
                "VN/GOV/moj",
                "Ministry of Justice",
                "civil-registry",
                &[("ss1", "provider's TLS", "provider"), ("ss2", "provider's second TLS", "provider's second")],
            ),
        ),
    ]);
    for shard in 0..16 {
        documents.insert(format!("revoked/{shard:x}.json"), json!({ "keys": [] }));
    }
    documents
}

/// A certificate of a key by itself, from one new year to another, in base64.
pub fn certificate(name: &str, (from, to): (i32, i32)) -> String {
    once(format!("certificate {name} {from} {to}").into_bytes(), || {
        let pair = rcgen::KeyPair::try_from(pkcs8(name)).expect("a P-256 key");
        let mut wanted = rcgen::CertificateParams::default();
        wanted.not_before = rcgen::date_time_ymd(from, 1, 1);
        wanted.not_after = rcgen::date_time_ymd(to, 1, 1);
        wanted.serial_number = Some(rcgen::SerialNumber::from(1));
        let der = wanted.self_signed(&pair).expect("it signs itself").der().to_vec();
        Bytes::from(STANDARD.encode(der))
    })
    .iter()
    .map(|byte| char::from(*byte))
    .collect()
}

pub fn sign(body: &Value, signers: &[&str]) -> Bytes {
    let canonical = to_canonical_bytes(body).expect("whole numbers only");
    once([signers.join(",").as_bytes(), &canonical].concat(), || {
        let signatures: Vec<Value> = signers
            .iter()
            .map(|name| json!({ "keyid": id(name), "sig": hex::encode(key(name).sign(&canonical)) }))
            .collect();
        let file = json!({ "signatures": signatures, "signed": body });
        serde_json::to_vec(&file).expect("JSON").into()
    })
}

thread_local! {
    static MADE: RefCell<BTreeMap<Vec<u8>, Bytes>> = const { RefCell::new(BTreeMap::new()) };
}

/// What is random is made once for all cases, so that they differ in what they are about only.
fn once(what: Vec<u8>, make: impl FnOnce() -> Bytes) -> Bytes {
    if let Some(made) = MADE.with_borrow(|made| made.get(&what).cloned()) {
        return made;
    }
    let new = make();
    MADE.with_borrow_mut(|made| made.insert(what, new.clone()));
    new
}

fn keys(names: &[&str]) -> Value {
    names.iter().map(|name| (id(name), key_object(key(name).public()))).collect::<serde_json::Map<_, _>>().into()
}

pub fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| id(name)).collect()
}

fn id(name: &str) -> String {
    let canonical = to_canonical_bytes(&key_object(key(name).public())).expect("it holds no numbers");
    Digest::of(&[&canonical]).to_string()
}

fn key_object(key: &PublicKey) -> Value {
    let spki = STANDARD.encode(key.to_spki());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &spki[..64], &spki[64..]);
    json!({ "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": { "public": pem } })
}
