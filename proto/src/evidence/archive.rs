//! Evidence as an archive (PROTOCOL.md 7, "An archive of evidence"): the evidence file, and all that is in it once more as
//! files of its own, so that `openssl` can be used on them; with `verify.sh`, which does so.
//!
//! Every file but the evidence file is made of it, so an archive says nothing that its evidence file does not.

use bytes::Bytes;

use super::{EvidenceFile, Finding, Kept, NotEvidence, Report};
use crate::certificate::pem;
use crate::digest::Digest;
use crate::global_configuration::Configuration;
use crate::message::Header;
use crate::record::decode_canonical;
use crate::seal::Sender;
use crate::signature::KeyId;
use crate::wire::relay as wire;
use crate::zip::{self, Files};

/// The evidence file in it.
pub const EVIDENCE: &str = "evidence.json";
/// The list of its files, with their digests.
pub const MANIFEST: &str = "manifest.txt";
/// What verifies it with a shell and `openssl`.
pub const SCRIPT: &str = "verify.sh";
/// Its bytes: the same in every archive.
pub const SCRIPT_BYTES: &[u8] = include_bytes!("verify.sh");
/// Most messages of an exchange whose evidence is made an archive.
pub const MAX_ARCHIVED: usize = 5_000;

/// Why evidence cannot be made an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotArchived {
    /// It is none.
    #[error(transparent)]
    Evidence(#[from] NotEvidence),
    /// It proves nothing.
    #[error("it does not hold: {0}")]
    Refused(String),
    /// It is to be signed, and cannot be with this key.
    #[error("the container is not signed: {0}")]
    Key(String),
    /// Something in it cannot be a file, or there is too much of it.
    #[error("{0}; take it as plain JSON")]
    Form(String),
}

impl NotArchived {
    /// The first that refuses.
    pub(super) fn of_report(report: &Report) -> Self {
        let said = |refused: &Finding| format!("{} by step {}: {}", refused.subject, refused.step, refused.explanation);
        Self::Refused(report.refused().map_or_else(|| "no configuration".into(), said))
    }
}

/// Makes an archive of an evidence file, which is verified with this anchor first: certificates are given out that are
/// proven to be those of the keys.
pub fn pack(json: &[u8], anchor: &[u8]) -> Result<Vec<u8>, NotArchived> {
    let file = EvidenceFile::parse(json)?;
    let (report, excerpt) = super::judged(&file, anchor, None, None);
    let excerpt = excerpt.ok_or_else(|| NotArchived::of_report(&report))?;
    let files = files(json, &file, excerpt.configuration()).map_err(NotArchived::Form)?;
    zip::write(&files).map_err(|error| NotArchived::Form(error.to_string()))
}

/// The files of an archive (PROTOCOL.md 7.21), or why there is none.
pub fn files(json: &[u8], file: &EvidenceFile, configuration: &Configuration) -> Result<Files, String> {
    if file.messages.len() > MAX_ARCHIVED {
        return Err(format!("it has {} messages, and an archive takes {MAX_ARCHIVED}", file.messages.len()));
    }
    let mut files = Files::new();
    files.insert(EVIDENCE.into(), Bytes::copy_from_slice(json));
    files.insert(SCRIPT.into(), Bytes::from_static(SCRIPT_BYTES));
    for (name, bytes) in &file.configuration {
        if !zip::is_name(name) {
            return Err(format!("{name:?} in its configuration is no name of a file"));
        }
        files.insert(format!("configuration/{name}"), bytes.0.clone());
    }
    for (n, kept) in file.messages.iter().enumerate() {
        message(&format!("messages/{n:05}"), kept, configuration, &mut files)?;
    }
    for (n, stamp) in file.timestamps.iter().flatten().enumerate() {
        let read: wire::Stamp = decode_canonical(&stamp.0, "Stamp").map_err(|error| error.to_string())?;
        for (name, bytes) in [("stamp.bin", stamp.0.clone()), ("head.txt", read.head), ("token.der", read.token)] {
            files.insert(format!("timestamps/{n:05}/{name}"), bytes);
        }
    }
    if file.timestamps.is_some() {
        let approved =
            configuration.timestamping.iter().map(|authority| pem("CERTIFICATE", &authority.approved.certificate));
        files.insert("timestamping.pem".into(), approved.collect::<String>().into());
    }
    let line = |(name, bytes): (&String, &Bytes)| format!("{}  {name}\n", Digest::of(&[bytes]));
    let manifest: String = files.iter().map(line).collect();
    files.insert(MANIFEST.into(), manifest.into());
    Ok(files)
}

/// What differs between an archive and the one that its evidence file makes: the first such file, and how.
pub(super) fn difference(found: &Files, made: &Files) -> Option<(String, &'static str)> {
    let missing = made.keys().find(|name| !found.contains_key(*name)).map(|name| (name, "it is missing"));
    let surplus =
        found.keys().find(|name| !made.contains_key(*name)).map(|name| (name, "nothing of evidence.json makes it"));
    let other = found.iter().find(|(name, bytes)| made.get(*name).is_some_and(|made| made != *bytes));
    let other = other.map(|(name, _)| (name, "it is not what evidence.json makes it"));
    missing.or(surplus).or(other).map(|(name, why)| (name.clone(), why))
}

fn message(at: &str, kept: &Kept, configuration: &Configuration, files: &mut Files) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("{at}: {error}");
    let header = Header::parse(kept.header.0.clone()).map_err(|error| said(&error))?;
    let seal: wire::Seal = decode_canonical(&kept.seal.0, "Seal").map_err(|error| said(&error))?;
    let key = KeyId::try_from(seal.key.as_ref()).map_err(|_| said(&"its seal names no key"))?;
    let sender = Sender::of(&header);
    let listed = configuration.members.get(&sender.member).and_then(|member| member.signing_keys.get(&key));
    let certificate = &listed.ok_or_else(|| said(&"its key is not listed"))?.certificate;
    files.insert(format!("keys/{key}.pem"), pem("CERTIFICATE", certificate).into());
    let wire::Seal { record, records, record_path, commit, commit_path, .. } = &seal;
    let path = path((*record, *records, record_path), (*commit, commit_path));
    let parts = [
        ("header.bin", kept.header.0.clone()),
        ("seal.bin", kept.seal.0.clone()),
        ("genesis.bin", kept.genesis.0.clone()),
        ("nonce.bin", seal.nonce.clone()),
        ("path.txt", format!("key {key}\n{path}").into()),
        ("head.txt", seal.head.clone()),
        ("signature.der", seal.signature.clone()),
    ];
    files.extend(parts.map(|(name, bytes)| (format!("{at}/{name}"), bytes)));
    if let Some(payload) = &kept.payload {
        files.insert(format!("{at}/payload.bin"), payload.0.clone());
    }
    if let Some(place) = &kept.place {
        let read: wire::Place = decode_canonical(&place.0, "Place").map_err(|error| said(&error))?;
        let wire::Place { timestamp, record, records, record_path, commit, commit_path, .. } = &read;
        let path = self::path((*record, *records, record_path), (*commit, commit_path));
        let kind = if read.received { "received" } else { "sent" };
        files.insert(format!("{at}/place.bin"), place.0.clone());
        files.insert(format!("{at}/place-nonce.bin"), read.nonce.clone());
        files.insert(format!("{at}/place.txt"), format!("timestamp {timestamp}\nkind {kind}\n{path}").into());
    }
    Ok(())
}

/// Two paths in words: where the record is in its commit and the commit in its tree, and the hashes on the way.
fn path(record: (u32, u32, &[Bytes]), commit: (u64, &[Bytes])) -> String {
    let with = |hashes: &[Bytes]| hashes.iter().map(|hash| format!("with {}\n", hex::encode(hash))).collect::<String>();
    let (index, records, record_path) = record;
    let (number, commit_path) = commit;
    format!("record {index} of {records}\n{}commit {number}\n{}", with(record_path), with(commit_path))
}
