//! A split view: two checkpoints of the ledger of the global configuration, both signed by the registry, that cannot both be
//! true: they say two things of one version, one is no beginning of the other, or neither's ledger follows the other's. For a stranger to verify with the anchor and nothing else (PROTOCOL.md 8.6).
//!
//! Verifying never panics, whatever the bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::evidence::Base64;
use crate::global_configuration::ledger::{Between, Shown, Signers};
use crate::global_configuration::update::{Anchor, Files, ledger_signers};
use crate::identifier::ServerId;
use crate::time::Time;

/// What such a file calls its form.
pub const FORMAT: &str = "causeway/v1/split-view";
/// Longest file, in bytes.
pub const MAX_SPLIT_VIEW_BYTES: usize = 16 * 1024 * 1024;
/// What a split view does not prove.
pub const NOT_PROVEN: [&str; 2] = [
    "who did it: whoever holds the key of the role timestamp can, be it the registry's admins or a thief",
    "what differs: the two versions themselves say so, and both servers have them",
];

/// The file, as it is written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitViewFile {
    format: String,
    holder: ServerId,
    peer: ServerId,
    at: u64,
    roots: BTreeMap<String, Base64>,
    held: Base64,
    shown: Base64,
    /// What leads from the one that was shown to the one that was held, where that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    between: Option<Between>,
}

/// A split view that holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Who noticed, as the file says.
    pub holder: ServerId,
    /// Whose server showed the other checkpoint, as the file says.
    pub peer: ServerId,
    /// The version of which two things were said.
    pub version: u64,
    /// The checkpoints, as they were signed.
    pub checkpoints: [String; 2],
    /// What is proven.
    pub proven: String,
    /// What is not.
    pub not_proven: [&'static str; 2],
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "A split view of the registry, as {} noticed in what {} has", self.holder, self.peer)?;
        writeln!(f, "  proven      {}", self.proven)?;
        for checkpoint in &self.checkpoints {
            writeln!(f, "              {}", checkpoint.trim_end().replace('\n', " "))?;
        }
        self.not_proven.iter().try_for_each(|not_proven| writeln!(f, "  not proven  {not_proven}"))
    }
}

/// Bytes that prove no split view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    /// No such file.
    #[error("this is no file of a split view: {0}")]
    Malformed(String),
    /// The roots, or a checkpoint's signatures.
    #[error("the {part} does not hold: {why}")]
    DoesNotHold {
        /// What.
        part: &'static str,
        /// Why.
        why: String,
    },
    /// Both can be true.
    #[error("the checkpoints do not contradict each other: {0}")]
    NoContradiction(&'static str),
}

/// Whether two checkpoints of one instance cannot both be true; and of which version two things were said. The last leaf of both
/// is one version, in other ledgers or under other roots: a version is signed once. Or the first was another tree when it
/// had the other's size, as what lies between them proves. Or neither's ledger follows the other's.
pub fn contradict(one: &Shown, other: &Shown, between: Option<&Between>) -> Result<u64, NotProved> {
    if one.instance() != other.instance() {
        return Err(NotProved::NoContradiction("they are of two instances"));
    }
    if one.checkpoint == other.checkpoint {
        return Err(NotProved::NoContradiction("they are the same"));
    }
    let (own, others) = (one.checkpoint.ledger, other.checkpoint.ledger);
    let all_is_named = one.names_all_before() && other.names_all_before();
    if all_is_named && !one.follows_from(&others) && !other.follows_from(&own) {
        return Ok(other.version());
    }
    if let Some(between) = between {
        return was_another(one, other, between);
    }
    if one.version() != other.version() {
        return Err(NotProved::NoContradiction("they are of two versions"));
    }
    Ok(one.version())
}

/// Whether the longer one was another tree when it was as long as the shorter one.
fn was_another(longer: &Shown, shorter: &Shown, between: &Between) -> Result<u64, NotProved> {
    let none = |why| Err(NotProved::NoContradiction(why));
    if longer.checkpoint.ledger != shorter.checkpoint.ledger {
        return none("they are of two ledgers, of which one follows the other");
    }
    let Some((root, grown)) = between.roots(shorter.checkpoint.size) else {
        return none("what lies between them is of another size");
    };
    if grown != (longer.checkpoint.size, longer.checkpoint.root) {
        return none("what lies between them does not lead to the longer one");
    }
    if root == shorter.checkpoint.root {
        return none("one is the beginning of the other");
    }
    Ok(shorter.version())
}

impl SplitViewFile {
    /// The same, with what leads from the one that was shown to the one that was held.
    pub fn with(self, between: Option<Between>) -> Self {
        Self { between, ..self }
    }

    /// Puts together what `holder` noticed at this time in what `peer` showed. `configuration` are the files of the version in
    /// force then. Whether it proves anything is for [`verify`].
    pub fn new(holder: &ServerId, peer: &ServerId, at: Time, configuration: &Files, checkpoints: [Bytes; 2]) -> Self {
        let roots = configuration.iter().filter(|(file, _)| file.ends_with(".root.json"));
        let [held, shown] = checkpoints.map(Base64);
        Self {
            format: FORMAT.into(),
            holder: holder.clone(),
            peer: peer.clone(),
            at: at.as_millis(),
            roots: roots.map(|(file, bytes)| (file.clone(), Base64(bytes.clone()))).collect(),
            held,
            shown,
            between: None,
        }
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a split view's file has string keys only")
    }
}

/// Whether these bytes call themselves a split view's file.
pub fn is_one(file: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Form {
        format: String,
    }
    file.len() <= MAX_SPLIT_VIEW_BYTES && serde_json::from_slice::<Form>(file).is_ok_and(|form| form.format == FORMAT)
}

/// Verifies a file with the anchor and nothing else.
pub fn verify(file: &[u8], anchor: &[u8]) -> Result<Report, NotProved> {
    let malformed = |reason: String| NotProved::Malformed(reason);
    // Step 1: "The file has this form."
    if file.len() > MAX_SPLIT_VIEW_BYTES {
        return Err(malformed(format!("{} bytes, and at most {MAX_SPLIT_VIEW_BYTES} are taken", file.len())));
    }
    let file: SplitViewFile = serde_json::from_slice(file).map_err(|error| malformed(error.to_string()))?;
    if file.format != FORMAT {
        return Err(malformed(format!("its format is {:?} and not {FORMAT:?}", file.format)));
    }
    // Step 2: "The roots verify from the anchor."
    let roots: Files = file.roots.iter().map(|(name, bytes)| (name.clone(), bytes.0.clone())).collect();
    let no_roots = |why: String| NotProved::DoesNotHold { part: "chain of roots", why };
    let signers = Anchor::read(Bytes::copy_from_slice(anchor))
        .and_then(|anchor| ledger_signers(&anchor, &roots, Time::from_millis(file.at)))
        .map_err(|error| no_roots(error.to_string()))?;
    // Step 3: "Both checkpoints are signed."
    let shown = |part, bytes: &Base64, signers: &Signers| {
        Shown::verify(bytes.0.clone(), signers).map_err(|error| NotProved::DoesNotHold { part, why: error.to_string() })
    };
    let held = shown("checkpoint that was held", &file.held, &signers)?;
    let shown = shown("checkpoint that was shown", &file.shown, &signers)?;
    // Step 4: "They contradict each other."
    let version = contradict(&held, &shown, file.between.as_ref())?;
    let instance = held.instance();
    Ok(Report {
        holder: file.holder,
        peer: file.peer,
        version,
        checkpoints: [held.checkpoint.to_text(), shown.checkpoint.to_text()],
        proven: format!(
            "the key of the role timestamp of {instance} signed two histories of what was published, which are not the same \
             at version {version}"
        ),
        not_proven: NOT_PROVEN,
    })
}
