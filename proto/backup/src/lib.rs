//! A backup: one file of named parts, encrypted and authenticated with a passphrase. `FORMAT.md` says what stands in it.
//!
//! It is data: nothing in it is executed, and no name in it is a path before a server's own list knows it. Both servers
//! write theirs with it and put them back with it; which parts there are is theirs to say.

mod files;
mod read;
mod recipient;
mod sealed;
mod write;

use std::fmt;
use std::str::FromStr;

use proto::digest::Digest;
use proto::identifier::InstanceId;
use serde::{Deserialize, Serialize};

pub use files::{Aside, NewFile, NotRestored};
pub use read::{NotABackup, Part, Reader};
pub use recipient::{MAX_RECIPIENTS, Recipient, RecipientKey, open_with, recipients, seal_to};
pub use write::Writer;

/// Says what a backup's first part is.
pub const FORMAT: &str = "causeway/v1/backup";
/// Longest name of a part, in bytes.
pub const MAX_NAME_BYTES: usize = 160;
/// Most parts of a backup.
pub const MAX_PARTS: usize = 65_536;
const MAX_ABOUT_BYTES: u64 = 64 << 10;
const MAX_MANIFEST_BYTES: usize = 16 << 20;
const ABOUT: &str = "about";

/// Whose backup it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// A member's.
    SecurityServer,
    /// The governing authority's.
    CentralRegistry,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecurityServer => "security-server",
            Self::CentralRegistry => "central-registry",
        })
    }
}

/// What a backup says of itself, first and last.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// [`FORMAT`].
    pub format: String,
    /// Whose it is.
    pub program: Program,
    /// The program's version.
    pub version: String,
    /// The instance.
    pub instance: InstanceId,
    /// The server's name.
    pub server: String,
    /// When, in milliseconds since 1970, by the clock of the machine that it was made on.
    pub made: u64,
    /// Whether signing keys are in it.
    pub signing_keys: bool,
    /// Whether every segment of the message log is in it that was there.
    pub complete: bool,
}

/// What a backup holds: its last word.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// As at the beginning.
    pub about: About,
    /// Each part, in their order.
    pub parts: Vec<Listed>,
}

impl Manifest {
    /// SHA-256 of the manifest: the name of just this backup.
    pub fn digest(&self) -> String {
        Digest::of(&[&serde_json::to_vec(self).expect("texts and numbers")]).to_string()
    }
}

/// A part, as the manifest lists it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: PartName,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: String,
}

/// The name of a part: never absolute, never upwards.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartName(String);

/// Not the name of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the name of a part: one to four segments of letters, digits, '.', '_' and '-' are wanted")]
pub struct NotAPartName;

impl PartName {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory and the rest, where there is one.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.split_once('/') {
            Some((directory, rest)) => (Some(directory), rest),
            None => (None, &self.0),
        }
    }
}

impl FromStr for PartName {
    type Err = NotAPartName;
    fn from_str(text: &str) -> Result<Self, NotAPartName> {
        let is_segment = |segment: &str| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        let good = text.len() <= MAX_NAME_BYTES && text.split('/').count() <= 4 && text.split('/').all(is_segment);
        if good { Ok(Self(text.to_owned())) } else { Err(NotAPartName) }
    }
}

impl TryFrom<String> for PartName {
    type Error = NotAPartName;
    fn try_from(text: String) -> Result<Self, NotAPartName> {
        text.parse()
    }
}

impl From<PartName> for String {
    fn from(name: PartName) -> Self {
        name.0
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_part_leads_out_of_the_directory() {
        for good in ["a", "keys/signing.pem", "message-log/0000000001.segment", "a/b/c/d"] {
            assert_eq!(good.parse::<PartName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/",
            ".ssh/x",
            "a\\b",
            "a b",
            "a\0",
            "a/b/c/d/e",
            "ä",
            &long,
        ] {
            assert_eq!(bad.parse::<PartName>(), Err(NotAPartName), "{bad:?}");
        }
    }
}
