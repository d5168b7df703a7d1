//! A contradiction: two words of one log that cannot both be true, for a stranger to verify with the anchor and nothing else
//! (PROTOCOL.md 7.8 to 7.12).
//!
//! Verifying never panics, whatever the bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::consistency::{Joined, NotJoined, SignedHead, Verdict};
use crate::evidence::{Base64, Finding, Verdict as Held};
use crate::global_configuration::Configuration;
use crate::global_configuration::excerpt::{Excerpt, Subjects, Unverified};
use crate::global_configuration::update::Files;
use crate::identifier::ServerId;
use crate::record::{Genesis, decode_canonical};
use crate::seal::Sender;
use crate::time::Time;
use crate::wire::relay as wire;

/// What such a file calls its form.
pub const FORMAT: &str = "causeway/v1/contradiction";
/// Longest file, in bytes.
pub const MAX_CONTRADICTION_BYTES: usize = 32 * 1024 * 1024;

/// What a contradiction does not prove.
pub const NOT_PROVEN: [&str; 3] = [
    "why: a restore from a backup loses a tail as a deletion does",
    "when it happened: the time is the clock of the server that noticed",
    "what stood in the commits that are lost or rewritten: evidence of the exchanges in them does",
];

/// A head that somebody kept, and what the same log said later.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// Whose log it is.
    pub of: Sender,
    /// The genesis record of the tree of the head that was kept.
    pub genesis: Bytes,
    /// The head that was kept.
    pub held: SignedHead,
    /// What the log said later.
    pub joined: wire::Joined,
}

/// A contradiction's file, as it is written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContradictionFile {
    format: String,
    holder: ServerId,
    of: Sender,
    at: u64,
    configuration: BTreeMap<String, Base64>,
    genesis: Base64,
    held: Base64,
    joined: Base64,
}

impl ContradictionFile {
    /// Puts together what `holder` noticed at this time. `configuration` are the files of the version in force then.
    pub fn new(
        contradiction: &Contradiction,
        holder: &ServerId,
        at: Time,
        configuration: &Files,
    ) -> Result<Self, Unverified> {
        let first = configuration.iter().filter_map(|(file, bytes)| {
            let version: u64 = file.strip_suffix(".root.json")?.parse().ok()?;
            Some((version, bytes))
        });
        let root = first.min_by_key(|(version, _)| *version).map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        let (held, joined) = (contradiction.held.to_wire(), &contradiction.joined);
        let excerpt = Excerpt::verify(&root, configuration, &subjects(&contradiction.of, &held, joined), at)?;
        Ok(Self {
            format: FORMAT.into(),
            holder: holder.clone(),
            of: contradiction.of.clone(),
            at: at.as_millis(),
            configuration: excerpt.files().iter().map(|(file, bytes)| (file.clone(), Base64(bytes.clone()))).collect(),
            genesis: Base64(contradiction.genesis.clone()),
            held: Base64(held.encode_to_vec().into()),
            joined: Base64(joined.encode_to_vec().into()),
        })
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a contradiction's file has string keys only")
    }
}

/// What was found in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Who noticed, as the file says.
    pub holder: ServerId,
    /// Whose log contradicts itself.
    pub of: Sender,
    /// `fork`, `lost_tail` or `lost_tree`; none where a step was refused.
    pub contradiction: Option<&'static str>,
    /// Each step that was judged, in order; one that refuses is the last.
    pub findings: Vec<Finding>,
    /// What is proven, in sentences.
    pub proven: Vec<String>,
    /// What is not.
    pub not_proven: Vec<String>,
}

impl Report {
    /// Whether every step holds: the log contradicts itself.
    pub fn holds(&self) -> bool {
        self.contradiction.is_some()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "The log of {} at {}, as {} noticed", self.of.member, self.of.server, self.holder)?;
        match self.findings.iter().find(|finding| finding.verdict == Held::Refused) {
            None => writeln!(f, "Every one of {} findings holds.", self.findings.len())?,
            Some(refused) => {
                writeln!(f, "REFUSED by step {}: {}: {}", refused.step, refused.subject, refused.explanation)?;
            }
        }
        self.proven.iter().try_for_each(|proven| writeln!(f, "  proven      {proven}"))?;
        self.not_proven.iter().try_for_each(|not_proven| writeln!(f, "  not proven  {not_proven}"))
    }
}

/// Bytes that are no contradiction's file (7.8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no file of a contradiction: {0}")]
pub struct NotAContradiction(String);

/// Whether these bytes call themselves a contradiction's file.
pub fn is_one(file: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Form {
        format: String,
    }
    file.len() <= MAX_CONTRADICTION_BYTES
        && serde_json::from_slice::<Form>(file).is_ok_and(|form| form.format == FORMAT)
}

/// Verifies a file with the anchor and nothing else (7.8 to 7.12). Bytes that are no such file are an error; whatever else
/// is wrong is a finding.
pub fn verify(file: &[u8], anchor: &[u8]) -> Result<Report, NotAContradiction> {
    if file.len() > MAX_CONTRADICTION_BYTES {
        return Err(NotAContradiction(format!(
            "{} bytes, and at most {MAX_CONTRADICTION_BYTES} are taken",
            file.len()
        )));
    }
    let file: ContradictionFile = serde_json::from_slice(file).map_err(|error| NotAContradiction(error.to_string()))?;
    if file.format != FORMAT {
        return Err(NotAContradiction(format!("its format is {:?} and not {FORMAT:?}", file.format)));
    }
    let mut findings = Vec::new();
    let judged = judge(&file, anchor, &mut findings);
    let (contradiction, proven) = match judged {
        Ok((word, proven)) => (Some(word), vec![proven]),
        Err(refused) => {
            findings.push(refused);
            (None, Vec::new())
        }
    };
    let mut not_proven: Vec<String> = NOT_PROVEN.map(str::to_owned).to_vec();
    if contradiction.is_none() {
        not_proven.insert(0, "anything: a step was refused".into());
    }
    Ok(Report { holder: file.holder, of: file.of, contradiction, findings, proven, not_proven })
}

/// The steps, in order; the first that refuses ends it.
fn judge(
    file: &ContradictionFile,
    anchor: &[u8],
    findings: &mut Vec<Finding>,
) -> Result<(&'static str, String), Finding> {
    let mut holds = |step, subject: &str, explanation: String| {
        findings.push(Finding { step, subject: subject.into(), verdict: Held::Holds, explanation });
    };
    let (owner, at) = (&file.of, Time::from_millis(file.at));

    // 7.8: "The file has this form."
    let held = decode_canonical::<wire::SignedHead>(&file.held.0, "SignedHead");
    let held = held.map_err(|error| refuse("7.8", "held", error))?;
    let joined = decode_canonical::<wire::Joined>(&file.joined.0, "Joined");
    let joined = joined.map_err(|error| refuse("7.8", "joined", error))?;
    holds("7.8", "file", "a head that was kept, and what the same log said later".into());

    // 7.9: "The configuration verifies from the anchor."
    let files: Files = file.configuration.iter().map(|(name, bytes)| (name.clone(), bytes.0.clone())).collect();
    let excerpt = Excerpt::verify(&Bytes::copy_from_slice(anchor), &files, &subjects(owner, &held, &joined), at);
    let excerpt = excerpt.map_err(|Unverified { step, reason }| refuse(step, "configuration", reason))?;
    let configuration = excerpt.configuration();
    let version = configuration.version;
    holds("7.9", "configuration", format!("version {version} of {}", configuration.instance));

    // 7.10: "The head that was kept is of a tree of this log, and signed."
    let refused = |error: NotJoined| refuse(error.step(), "held", error);
    let held = SignedHead::parse(&held).map_err(refused)?;
    let genesis = Genesis::parse(file.genesis.0.clone()).map_err(|error| refuse("7.10", "genesis", error))?;
    let content = &genesis.content;
    let of_owner = content.member == owner.member.as_str() && content.server == owner.server.as_str();
    if genesis.tree != held.head.tree || !of_owner {
        return Err(refuse("7.10", "genesis", "it is not of this log, or the head is of another tree"));
    }
    check(configuration, owner, &held, at).map_err(|error| refuse("7.10", "held", error))?;
    holds("7.10", "held", format!("size {} of the tree {}, key {}", held.head.size, held.head.tree, held.key));

    // 7.11: "The later word is signed, of the same log."
    let joined = Joined::parse(&joined).map_err(|error| refuse(error.step(), "joined", error))?;
    check(configuration, owner, joined.newest(), at).map_err(|error| refuse("7.11", "joined", error))?;
    let newest = &joined.newest().head;
    holds("7.11", "joined", format!("size {} of the tree {}, key {}", newest.size, newest.tree, joined.newest().key));

    // 7.12: "They contradict each other."
    let verdict = joined.judge(owner, &held.head).map_err(|error| refuse(error.step(), "joined", error))?;
    let (tree, size) = (held.head.tree, held.head.size);
    let whose = format!("{} at {}", owner.member, owner.server);
    let (word, proven) = match verdict {
        Verdict::Contained | Verdict::Late => {
            return Err(refuse("7.12", "joined", "the log contains the head that was kept: they do not contradict"));
        }
        Verdict::Fork { root } => (
            "fork",
            format!(
                "the log of {whose} was rewritten: it signed the root {} at {size} commits of the tree {tree}, and later \
                 that it has the root {root} there",
                held.head.root
            ),
        ),
        Verdict::LostTail { ended, successor } => (
            "lost_tail",
            format!(
                "the log of {whose} has lost commits: it signed {size} commits of the tree {tree}, and later in the tree \
                 {successor} that it ended at {ended}"
            ),
        ),
        Verdict::LostTree { first } => (
            "lost_tree",
            format!(
                "the log of {whose} has lost the tree {tree}, of which it signed {size} commits: later its first tree is \
                 {first}, and none that follows is this one"
            ),
        ),
    };
    holds("7.12", "joined", proven.clone());
    Ok((word, proven))
}

fn refuse(step: &'static str, subject: &str, explanation: impl ToString) -> Finding {
    Finding { step, subject: subject.into(), verdict: Held::Refused, explanation: explanation.to_string() }
}

fn check(configuration: &Configuration, owner: &Sender, signed: &SignedHead, at: Time) -> Result<(), String> {
    let key = configuration.signing_key_of(&owner.member, &owner.server, &signed.key, at, &signed.head);
    let key = key.ok_or("the key is not a good signing key of this member at this server")?;
    signed.signed_by(key).map_err(|error| error.to_string())
}

/// The member, and the keys that are named.
fn subjects(owner: &Sender, held: &wire::SignedHead, joined: &wire::Joined) -> Subjects {
    let keys = [Some(held), joined.newest.as_ref()].into_iter().flatten();
    Subjects {
        members: [owner.member.clone()].into(),
        keys: keys.filter_map(|signed| signed.key.as_ref().try_into().ok()).collect(),
    }
}
