//! What a holder's key has signed, in a file beside the key: `VERSION SHA-256`, a line for each root. It is the holder's own, and
//! so holds wherever the ceremony's file comes from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proto::digest::Digest;

use super::NoCeremony;

/// See the module.
pub(super) struct Record {
    path: PathBuf,
    lines: Vec<(u64, Digest)>,
}

impl Record {
    /// Of the key in this file. A key without one has signed nothing.
    pub fn of(key: &Path) -> Result<Self, NoCeremony> {
        let mut path = key.as_os_str().to_owned();
        path.push(".signed");
        let path = PathBuf::from(path);
        let unreadable = || NoCeremony::Record(path.display().to_string());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(_) => return Err(unreadable()),
        };
        let line = |line: &str| {
            let (version, digest) = line.split_once(' ')?;
            Some((version.parse().ok()?, digest.parse().ok()?))
        };
        let lines: Option<_> = text.lines().map(line).collect();
        // A line that is cut off is one whose signature was never made, and still it is not guessed at.
        let lines = lines.filter(|_| text.is_empty() || text.ends_with('\n')).ok_or_else(unreadable)?;
        Ok(Self { path, lines })
    }

    /// No other root of this version was signed.
    pub fn may_sign(&self, version: u64, digest: Digest) -> Result<(), NoCeremony> {
        match self.lines.iter().find(|(signed, other)| *signed == version && *other != digest) {
            Some((_, other)) => Err(NoCeremony::AnotherSigned { version, other: other.to_string() }),
            None => Ok(()),
        }
    }

    /// Notes that this root is signed. It is on disk when this returns, whole or not at all.
    pub fn note(&self, version: u64, digest: Digest) -> Result<(), NoCeremony> {
        self.may_sign(version, digest)?;
        let lines = self.lines.iter().filter(|(signed, _)| *signed != version).copied().chain([(version, digest)]);
        let text: String = lines.map(|(version, digest)| format!("{version} {digest}\n")).collect();
        replace(&self.path, text.as_bytes())
    }
}

/// Puts a file in the place of another, whole or not at all, and on disk when this returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), NoCeremony> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| NoCeremony::File { path: path.display().to_string(), source })
}
