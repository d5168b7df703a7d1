//! Where a passphrase comes from: a systemd credential, a file descriptor, or a person. Never a configuration file, a
//! flag or an environment variable: those are read by others.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Shortest passphrase, in bytes.
pub const MIN_PASSPHRASE_BYTES: usize = 8;
const MAX_PASSPHRASE_BYTES: u64 = 1024;

/// What opens key files. Wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

/// Where it is read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A systemd credential of this name (`LoadCredentialEncrypted=`): a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An open file descriptor of this number, read to its end.
    Descriptor(u32),
    /// The person at the terminal.
    Prompt,
}

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum NoPassphrase {
    /// The source is not of the three.
    #[error("{0:?} is no source of a passphrase; write credential:NAME, fd:NUMBER or prompt")]
    Source(String),
    /// systemd gave no credentials.
    #[error(
        "there is no credential {0:?}: $CREDENTIALS_DIRECTORY is not set; start under systemd with LoadCredentialEncrypted={0}:FILE"
    )]
    NoCredentials(String),
    /// It cannot be read.
    #[error(
        "the passphrase cannot be read from {from}: {source}; give it there, or name another source: credential:NAME, fd:NUMBER or prompt"
    )]
    Unreadable {
        /// Where it should be.
        from: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not fit.
    #[error(
        "the passphrase from {0} is not fit; give one line of {MIN_PASSPHRASE_BYTES} to {MAX_PASSPHRASE_BYTES} bytes"
    )]
    Unfit(String),
    /// The person typed two different ones.
    #[error("the two passphrases are not the same; start again")]
    NotTheSame,
}

impl Passphrase {
    /// From a text that the caller holds; the line's end is not part of it.
    pub fn new(text: String) -> Result<Self, NoPassphrase> {
        Self::fit(Zeroizing::new(text), "the caller")
    }

    /// 32 random bytes: for a sandbox, whose keys nobody opens again.
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *bytes).expect("the system's random source works");
        Self(Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The passphrase itself, for whoever opens a key with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn fit(text: Zeroizing<String>, from: &str) -> Result<Self, NoPassphrase> {
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() < MIN_PASSPHRASE_BYTES || line.len() as u64 > MAX_PASSPHRASE_BYTES || line.contains('\n') {
            return Err(NoPassphrase::Unfit(from.to_owned()));
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Source {
    /// Reads the passphrase of keys that exist.
    pub fn read(&self) -> Result<Passphrase, NoPassphrase> {
        let from = self.to_string();
        let text = match self {
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| NoPassphrase::NoCredentials(name.clone()))?;
                read_all(&PathBuf::from(directory).join(name), &from)?
            }
            Self::Descriptor(number) => read_all(&PathBuf::from(format!("/dev/fd/{number}")), &from)?,
            Self::Prompt => prompt("Passphrase: ")?,
        };
        Passphrase::fit(text, &from)
    }

    /// Reads the passphrase for keys that are about to be made: a person types it twice.
    pub fn read_new(&self) -> Result<Passphrase, NoPassphrase> {
        let first = self.read()?;
        if *self == Self::Prompt && *prompt("The same again: ")? != *first.0 {
            return Err(NoPassphrase::NotTheSame);
        }
        Ok(first)
    }
}

fn read_all(path: &std::path::Path, from: &str) -> Result<Zeroizing<String>, NoPassphrase> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_PASSPHRASE_BYTES as usize + 3));
    File::open(path)
        .and_then(|file| file.take(MAX_PASSPHRASE_BYTES + 3).read_to_string(&mut text))
        .map_err(|source| NoPassphrase::Unreadable { from: from.to_owned(), source })?;
    Ok(text)
}

fn prompt(question: &str) -> Result<Zeroizing<String>, NoPassphrase> {
    rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|source| NoPassphrase::Unreadable { from: "the terminal".to_owned(), source })
}

impl FromStr for Source {
    type Err = NoPassphrase;
    fn from_str(text: &str) -> Result<Self, NoPassphrase> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        match text.split_once(':') {
            Some(("credential", name)) if is_name(name) => Ok(Self::Credential(name.to_owned())),
            Some(("fd", number)) => {
                number.parse().map(Self::Descriptor).map_err(|_| NoPassphrase::Source(text.to_owned()))
            }
            None if text == "prompt" => Ok(Self::Prompt),
            _ => Err(NoPassphrase::Source(text.chars().take(80).collect())),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::Prompt => f.write_str("prompt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_passphrase_is_read_from_a_descriptor() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"correct horse\n").unwrap();
        let read = File::open(file.path()).unwrap();
        let source: Source = format!("fd:{}", read.as_raw_fd()).parse().unwrap();
        assert_eq!(source.read().unwrap().reveal(), "correct horse");
    }

    #[test]
    fn a_passphrase_has_its_limits_and_is_never_shown() {
        assert!(Passphrase::new("12345678".into()).is_ok());
        assert!(Passphrase::new("1234567".into()).is_err());
        assert!(Passphrase::new("a".repeat(1024)).is_ok());
        assert!(Passphrase::new("a".repeat(1025)).is_err());
        assert!(Passphrase::new("two lines\nof text".into()).is_err());
        assert_eq!(format!("{:?}", Passphrase::random()), "Passphrase(..)");
    }

    #[test]
    fn a_source_is_one_of_three() {
        for good in ["credential:keys", "fd:3", "prompt"] {
            assert_eq!(good.parse::<Source>().unwrap().to_string(), good);
        }
        for bad in ["", "secret", "fd:", "fd:x", "credential:", "credential:../etc/passwd", "credential:.x", "env:KEY"]
        {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
