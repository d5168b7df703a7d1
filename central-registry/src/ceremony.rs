//! THE CEREMONY OF THE ROOT: its holders, each with a key of their own that no server ever sees, sign the next root. It says
//! which keys sign what from then on. A file goes from hand to hand, and whoever has it sees what it would change, who has
//! signed, and who is still to sign: a ceremony that stopped half way goes on with the same file.
//!
//! ```text
//! key     makes a holder's key, encrypted with the holder's own passphrase, and the public half to hand in
//! begin   writes the next root into a file: other holders, another threshold, or the same ones for another year
//! show    says what the file would change, and whose signatures are missing
//! sign    adds a holder's signature. The holder's own record beside the key says what was signed: no version twice
//! finish  puts the root among the published files, if the present root's holders and the new one's are enough
//! ```
//!
//! Nothing here is trusted: what counts is what every security server asks of a root (TUF 5.3), and [`Ceremony::root`] asks it
//! before anything is published.

mod commands;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use command_line::Exit;
use keystore::{KeyError, NoPassphrase};
use proto::digest::Digest;
use proto::signature::{PublicKey, SigningKey};
use proto::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sigstore_tuf::TrustedMetadataSet;

use crate::publish::ROOT_VALIDITY;
use crate::publish::metadata::{self, Issued};
use crate::spread::NotTakenUp;

pub use commands::{Command, run};

const FORMAT: &str = "causeway/v1/ceremony";
/// Most holders of the root.
pub const MAX_HOLDERS: usize = 16;
/// Longest file of a ceremony, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// A root that is being signed, and the one before it.
#[derive(Clone, Debug)]
pub struct Ceremony {
    before: Value,
    next: Value,
    /// What is signed of the next root.
    canonical: Vec<u8>,
}

/// The file that goes from hand to hand. Two metadata files as they are published, the second with the signatures so far.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    before: Value,
    next: Value,
}

/// What a new root is to change.
#[derive(Clone, Default, Debug)]
pub struct Changes {
    /// Keys of new holders.
    pub add: Vec<PublicKey>,
    /// All that are there go.
    pub replace: bool,
    /// Names of keys that are to go: whole, or as many first digits as name one key.
    pub remove: Vec<String>,
    /// How many holders must sign from then on.
    pub threshold: Option<usize>,
}

/// How many of the holders signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Signed {
    /// The names of the keys that did.
    pub by: Vec<String>,
    /// The names of those that did not.
    pub missing: Vec<String>,
    /// How many must.
    pub threshold: usize,
}

impl Signed {
    fn is_enough(&self) -> bool {
        self.by.len() >= self.threshold
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |names: &[String]| names.iter().map(|name| name[..16].to_owned()).collect::<Vec<_>>().join(", ");
        write!(f, "{} of {} signatures", self.by.len(), self.threshold)?;
        if !self.missing.is_empty() {
            write!(f, ", not signed by {}", short(&self.missing))?;
        }
        Ok(())
    }
}

/// Why a ceremony does not go on.
#[derive(Debug, thiserror::Error)]
pub enum NoCeremony {
    /// A file of it.
    #[error("{path}: {source}; check the file, and who may read and write it")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is something else.
    #[error("{path} is not the file of a ceremony: {reason}; use the one that `central-registry ceremony begin` wrote")]
    Form {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// A ceremony was begun here and stands half way.
    #[error(
        "{path} holds a ceremony already, for root version {version}; sign or finish that one, or move its file away"
    )]
    Begun {
        /// Where.
        path: String,
        /// Of which version.
        version: u64,
    },
    /// No public key.
    #[error("{0} holds no public key of a holder; give the .pub file that `central-registry ceremony key` wrote")]
    NoPublicKey(String),
    /// What is to be removed is not there, or not one.
    #[error("{0:?} names no key of the root, or several; `central-registry ceremony show` lists them")]
    NoHolder(String),
    /// A holder that is there already.
    #[error("the key {0} is the root's already; add another")]
    HolderAlready(String),
    /// Keys and threshold do not fit together.
    #[error("{threshold} of {holders} holders cannot be; have 1 to {MAX_HOLDERS}, and let 1 to all of them sign")]
    Threshold {
        /// How many there would be.
        holders: usize,
        /// How many would have to sign.
        threshold: usize,
    },
    /// The key is not asked for.
    #[error("the key {0} is neither the present root's nor the new one's; take the key file of a holder")]
    NotAHolder(String),
    /// The key's signature is there.
    #[error("the key {0} has signed this root already; pass the file on to the next holder")]
    SignedAlready(String),
    /// The holder signed something else as this version.
    #[error(
        "this key has signed another root as version {version} (sha256:{other}), and a version is signed once; finish the \
         ceremony of that one, and begin another after it"
    )]
    AnotherSigned {
        /// The version.
        version: u64,
        /// SHA-256 of what was signed.
        other: String,
    },
    /// The holder's record is damaged.
    #[error("{0} is the record of what this key signed, and cannot be read; put it back from a copy, do not delete it")]
    Record(String),
    /// Some signatures are missing.
    #[error(
        "the ceremony for root version {version} is half finished: the present root's holders gave {before}; the new root's \
         holders gave {next}; `central-registry ceremony sign` goes on with the same file"
    )]
    HalfFinished {
        /// The version.
        version: u64,
        /// Of the holders before.
        before: Box<Signed>,
        /// Of the new holders.
        next: Box<Signed>,
    },
    /// Another root is published meanwhile.
    #[error(
        "the root before is not the one that is published, version {published}; begin the ceremony again with --from {place}"
    )]
    OtherRoot {
        /// What is published.
        published: u64,
        /// Where.
        place: String,
    },
    /// No server would take it.
    #[error("no server would take this root: {0}; begin the ceremony again")]
    Refused(String),
    /// The published files.
    #[error(transparent)]
    Published(#[from] NotTakenUp),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A passphrase.
    #[error(transparent)]
    Passphrase(#[from] NoPassphrase),
    /// The registry's file.
    #[error(transparent)]
    Configuration(#[from] crate::configuration::NoConfiguration),
}

impl NoCeremony {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::AnotherSigned { .. }
            | Self::SignedAlready(_)
            | Self::HalfFinished { .. }
            | Self::NotAHolder(_)
            | Self::OtherRoot { .. }
            | Self::Refused(_) => Exit::Refused,
            Self::Published(_) => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}

impl Ceremony {
    /// Writes the root that would follow this one.
    pub fn begin(root: &[u8], changes: &Changes, now: Time) -> Result<Self, NoCeremony> {
        let before: Value =
            serde_json::from_slice(root).map_err(|error| NoCeremony::Refused(format!("the root before: {error}")))?;
        let signed = &before["signed"];
        let version = signed["version"].as_u64().unwrap_or(0) + 1;
        let mut body = match signed.as_object() {
            Some(body)
                if body.get("keys").is_some_and(Value::is_object)
                    && body.get("roles").is_some_and(Value::is_object) =>
            {
                body.clone()
            }
            _ => return Err(NoCeremony::Refused("the root before is none".into())),
        };
        for of_the_form in ["_type", "version", "expires", "spec_version"] {
            body.remove(of_the_form);
        }
        let mut holders = holders(signed);
        let mut gone = if changes.replace { holders.clone() } else { Vec::new() };
        for part in &changes.remove {
            let named: Vec<_> = holders.iter().filter(|name| !part.is_empty() && name.starts_with(part)).collect();
            let [one] = named[..] else { return Err(NoCeremony::NoHolder(part.clone())) };
            gone.push(one.clone());
        }
        holders.retain(|name| !gone.contains(name));
        for name in gone.iter().filter(|name| !names_of_other_roles(signed).any(|other| other == **name)) {
            if let Some(keys) = body["keys"].as_object_mut() {
                keys.remove(name);
            }
        }
        for key in &changes.add {
            let name = metadata::key_id(key);
            if holders.contains(&name) {
                return Err(NoCeremony::HolderAlready(name));
            }
            body["keys"][&name] = metadata::key_object(key);
            holders.push(name);
        }
        let threshold = changes.threshold.unwrap_or_else(|| threshold(signed));
        if !(1..=MAX_HOLDERS).contains(&holders.len()) || !(1..=holders.len()).contains(&threshold) {
            return Err(NoCeremony::Threshold { holders: holders.len(), threshold });
        }
        body["roles"]["root"] = json!({ "keyids": holders, "threshold": threshold });
        let next = metadata::signed("root", &Issued::new(version, now, ROOT_VALIDITY, body));
        let canonical = metadata::canonical(&next);
        let canonical = canonical.ok_or_else(|| NoCeremony::Refused("the root before has no canonical form".into()))?;
        Ok(Self { before, next: json!({ "signatures": [], "signed": next }), canonical })
    }

    /// Reads the file that goes from hand to hand.
    pub fn read(path: &str, bytes: &[u8]) -> Result<Self, NoCeremony> {
        let form = |reason: String| NoCeremony::Form { path: path.to_owned(), reason };
        if bytes.len() > MAX_BYTES {
            return Err(form(format!("it has {} bytes", bytes.len())));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
        let Written { format, before, next } = written;
        if format != FORMAT {
            return Err(form(format!("its format is {format:?}")));
        }
        let canonical = metadata::canonical(&next["signed"]);
        let canonical = canonical.ok_or_else(|| form("its root has no canonical form".to_owned()))?;
        let ceremony = Self { before, next, canonical };
        let next_version = ceremony.before["signed"]["version"].as_u64().and_then(|version| version.checked_add(1));
        if next_version.is_none() || ceremony.next["signed"]["version"].as_u64() != next_version {
            return Err(form("its root does not follow the one before".to_owned()));
        }
        // Whose root it really is, its holders and the published files tell.
        let before = serde_json::to_vec(&ceremony.before).expect("JSON values have texts for keys");
        TrustedMetadataSet::from_root(&before).map_err(|error| form(format!("the root before: {error}")))?;
        Ok(ceremony)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written { format: FORMAT.into(), before: self.before.clone(), next: self.next.clone() };
        serde_json::to_vec_pretty(&written).expect("JSON values have texts for keys")
    }

    /// The version of the root that is signed.
    pub fn version(&self) -> u64 {
        self.next["signed"]["version"].as_u64().unwrap_or(0)
    }

    /// SHA-256 of what is signed: what holders compare before they sign.
    pub fn digest(&self) -> Digest {
        Digest::of(&[&self.canonical])
    }

    /// SHA-256 of what was signed of the root before: holders know it from the last ceremony.
    pub fn follows_digest(&self) -> Digest {
        Digest::of(&[&metadata::canonical(&self.before["signed"]).unwrap_or_default()])
    }

    /// The signatures of the present root's holders, and of the new one's.
    pub fn signed(&self) -> [Signed; 2] {
        [&self.before, &self.next].map(|root| self.signed_by(&root["signed"]))
    }

    fn signed_by(&self, root: &Value) -> Signed {
        let keys = keys(root);
        let signatures: BTreeMap<&str, &str> = self.next["signatures"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|each| Some((each["keyid"].as_str()?, each["sig"].as_str()?)))
            .collect();
        let holds = |name: &String| {
            let key = keys.get(name)?;
            let signature = hex::decode(signatures.get(name.as_str())?).ok()?;
            key.verify(&self.canonical, &signature).ok()
        };
        let (by, missing) = holders(root).into_iter().partition(|name| holds(name).is_some());
        Signed { by, missing, threshold: threshold(root) }
    }

    /// Adds a holder's signature. `record` is the holder's own: what was signed stands in it before the signature is there.
    fn sign(&mut self, key: &SigningKey, record: &record::Record) -> Result<(), NoCeremony> {
        let name = metadata::key_id(key.public());
        self.may_sign(&name, record)?;
        // A crash after this: the same root may be signed again, and no other of this version.
        record.note(self.version(), self.digest())?;
        let signature = json!({ "keyid": name, "sig": hex::encode(key.sign(&self.canonical)) });
        if let Some(signatures) = self.next["signatures"].as_array_mut() {
            // One of this name that did not hold goes.
            signatures.retain(|each| each["keyid"] != signature["keyid"]);
            signatures.push(signature);
        }
        Ok(())
    }

    fn may_sign(&self, name: &str, record: &record::Record) -> Result<(), NoCeremony> {
        let signed = self.signed();
        if !signed.iter().any(|of| of.by.iter().chain(&of.missing).any(|holder| holder == name)) {
            return Err(NoCeremony::NotAHolder(name.to_owned()));
        }
        if signed.iter().any(|of| of.by.iter().any(|holder| holder == name)) {
            return Err(NoCeremony::SignedAlready(name.to_owned()));
        }
        record.may_sign(self.version(), self.digest())
    }

    /// The root to publish: enough holders of both roots signed it, and a server that has the one before takes it.
    pub fn root(&self) -> Result<Bytes, NoCeremony> {
        let [before, next] = self.signed();
        if !before.is_enough() || !next.is_enough() {
            let (version, before, next) = (self.version(), Box::new(before), Box::new(next));
            return Err(NoCeremony::HalfFinished { version, before, next });
        }
        let refused = |error: &dyn fmt::Display| NoCeremony::Refused(error.to_string());
        let bytes = |root: &Value| serde_json::to_vec(root).expect("JSON values have texts for keys");
        let mut set = TrustedMetadataSet::from_root(&bytes(&self.before)).map_err(|error| refused(&error))?;
        let root = bytes(&self.next);
        set.update_root(&root).map_err(|error| refused(&error))?;
        Ok(root.into())
    }

    /// Whether this is the root that the new one follows.
    fn follows(&self, root: &[u8]) -> bool {
        serde_json::from_slice::<Value>(root).is_ok_and(|root| root == self.before)
    }

    /// What changes, in sentences.
    pub fn changes(&self) -> Vec<String> {
        let (before, next) = (&self.before["signed"], &self.next["signed"]);
        let (had, has) = (holders(before), holders(next));
        let gone = had.iter().filter(|name| !has.contains(name)).map(|name| format!("the holder {name} goes"));
        let come = has.iter().filter(|name| !had.contains(name)).map(|name| format!("the holder {name} comes"));
        let expires = next["expires"].as_str().unwrap_or_default();
        let mut changes: Vec<_> = gone.chain(come).collect();
        changes.push(format!("{} of {} holders must sign the root after it", threshold(next), has.len()));
        for role in names(&before["roles"], &next["roles"]).filter(|role| *role != "root") {
            if before["roles"][role] != next["roles"][role] || !same_keys(before, next, role) {
                changes.push(format!("OTHER KEYS SIGN {role}"));
            }
        }
        // Whatever else the root states, whoever signs is to see that it differs.
        let told = ["_type", "version", "expires", "spec_version", "keys", "roles"];
        for field in names(before, next).filter(|field| !told.contains(field) && before[*field] != next[*field]) {
            changes.push(format!("{field} CHANGES from {} to {}", before[field], next[field]));
        }
        changes.push(format!("it holds until {expires}"));
        changes
    }
}

/// The fields that one or the other has, each once.
fn names<'a>(one: &'a Value, other: &'a Value) -> impl Iterator<Item = &'a str> {
    let both = [one, other].into_iter().filter_map(Value::as_object).flatten().map(|(field, _)| field.as_str());
    both.collect::<BTreeSet<_>>().into_iter()
}

/// Whether the role's keys are the same under their names.
fn same_keys(one: &Value, other: &Value, role: &str) -> bool {
    let mut names = one["roles"][role]["keyids"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.all(|name| one["keys"][name] == other["keys"][name])
}

fn holders(root: &Value) -> Vec<String> {
    let names = root["roles"]["root"]["keyids"].as_array().into_iter().flatten();
    // A name is a SHA-256; what is shorter is no key's and cannot be shown.
    names.filter_map(|name| name.as_str().filter(|name| name.parse::<Digest>().is_ok()).map(str::to_owned)).collect()
}

fn threshold(root: &Value) -> usize {
    let threshold = root["roles"]["root"]["threshold"].as_u64().and_then(|threshold| usize::try_from(threshold).ok());
    // Without one nobody can be enough.
    threshold.filter(|threshold| *threshold > 0).unwrap_or(usize::MAX)
}

fn names_of_other_roles(root: &Value) -> impl Iterator<Item = &str> {
    let roles = root["roles"].as_object().into_iter().flatten().filter(|(role, _)| *role != "root");
    roles.flat_map(|(_, role)| role["keyids"].as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn keys(root: &Value) -> BTreeMap<String, PublicKey> {
    let keys = root["keys"].as_object().into_iter().flatten();
    keys.filter_map(|(name, key)| Some((name.clone(), public_key(key["keyval"]["public"].as_str()?)?))).collect()
}

/// The key in a PEM.
fn public_key(pem: &str) -> Option<PublicKey> {
    let lines = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = lines.split_whitespace().collect();
    PublicKey::from_spki(&STANDARD.decode(base64).ok()?).ok()
}
