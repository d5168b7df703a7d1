//! Keys at rest, as both servers have them: what opens them, and whether they are for their owner only.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use keystore::{KeyError, NoPassphrase, Passphrase, Source};

use crate::disk::DISK;
use crate::{Limit, Looked, Wrong, blocking, failed, not_checked, ok};

/// What opens the keys.
pub enum Unlock {
    /// This.
    With(Passphrase),
    /// It could not be read from where the file says.
    Unreadable(NoPassphrase),
    /// It is not to be had here, for this reason. That says nothing against the server.
    NotHere(String),
}

impl Unlock {
    /// Nobody wants it asked for.
    pub fn unasked() -> Self {
        Self::NotHere("--no-passphrase was given".to_owned())
    }

    /// Reads the passphrase from where it was said, or else from where the file says; before an examination begins, since
    /// a person takes their time.
    pub async fn read(source: Option<Source>, told: impl FnOnce() -> Option<Source> + Send + 'static) -> Self {
        let source = match source {
            Some(source) => Some(source),
            // The disk may hang: then the examination says so.
            None => Limit::new(DISK, "").cut(blocking(|| Ok(told()))).await.and_then(|told| told).unwrap_or(None),
        };
        let Some(source) = source else {
            return Self::NotHere("the file that says where it comes from cannot be read".to_owned());
        };
        if source == Source::Prompt && !io::stdin().is_terminal() {
            let why = "nobody is at a terminal to be asked; --unlock credential:NAME or fd:NUMBER gives it another way";
            return Self::NotHere(why.to_owned());
        }
        match source.read() {
            Ok(passphrase) => Self::With(passphrase),
            // Without systemd around us there is no credential; the server has its own.
            Err(NoPassphrase::NoCredentials(name)) => Self::NotHere(format!(
                "there is no credential {name:?} here; to look at the keys too, ask as the server is started: systemd-run \
                 --pty -p LoadCredentialEncrypted={name}:FILE and this command"
            )),
            Err(error) => Self::Unreadable(error),
        }
    }

    /// The passphrase, as a check. `at`: where the file says where it comes from.
    pub fn looked(&self, at: &str) -> Looked<Passphrase> {
        match self {
            Self::With(passphrase) => Ok(ok(passphrase.clone(), "it is there")),
            Self::NotHere(why) => Err(not_checked(why)),
            Self::Unreadable(error) => {
                Err(failed(error.to_string(), format!("give the credential, or correct {at}: unlock")))
            }
        }
    }
}

/// Whether these key files are there, and for their owner only.
pub fn private(files: impl IntoIterator<Item = PathBuf>) -> Looked<()> {
    let mut count = 0;
    for path in files {
        keystore::for_its_owner_only(&path).map_err(key)?;
        count += 1;
    }
    Ok(ok((), format!("{count}, for their owner only")))
}

/// What is wrong with a key, and what to do.
pub fn key(error: KeyError) -> Wrong {
    let remedy = match &error {
        KeyError::Readable { path, .. } => format!("chmod 600 {}", path.display()),
        KeyError::File { path, .. } | KeyError::Format { path } | KeyError::Kind { path } => {
            format!("put {} back from a copy", path.display())
        }
        KeyError::Passphrase { .. } => {
            "give the passphrase that it was made with: another credential, or another --unlock".into()
        }
    };
    failed(error.to_string(), remedy)
}
