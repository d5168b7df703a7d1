//! `security-server backup`, as a person or a timer calls it.

use std::io::{self, Write};
use std::path::PathBuf;

use journal::Verified;
use proto::identifier::ServerId;
use proto::time::Time;
use serde_json::{Value, json};

use super::{BackupError, Found, Made, Wanted, create, restore, verify, would_create, would_restore};
use crate::audit::{journal_as_json, journal_in_words};
use crate::clock::Clock;
use crate::keys::{NoPassphrase, Source};

/// What is asked.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Write one encrypted file with all that this server is, its signing key left out. It may run meanwhile.
    Create(Box<Create>),
    /// Check a backup to its end, the logs' own hashes and signatures included, and say what is in it.
    Verify {
        /// The backup.
        file: PathBuf,
        /// Where its passphrase comes from: credential:NAME, fd:NUMBER or prompt.
        #[arg(long, default_value = "prompt", value_name = "SOURCE")]
        passphrase: Source,
        /// The findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a backup into a directory that is empty or not there, whole or not at all.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The directory to make.
        directory: PathBuf,
        /// Refuse a backup of any other server than this one.
        #[arg(long)]
        server: Option<ServerId>,
        /// Where its passphrase comes from: credential:NAME, fd:NUMBER or prompt.
        #[arg(long, default_value = "prompt", value_name = "SOURCE")]
        passphrase: Source,
        /// Check all of it, say what would be put back, and write nothing.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What is to be backed up.
#[derive(clap::Args, Debug)]
pub struct Create {
    /// The file to write; never over another.
    pub file: PathBuf,
    /// Where the backup's own passphrase comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt", value_name = "SOURCE")]
    pub passphrase: Source,
    /// Put the signing key in as well, encrypted as it is here: who has the file and both passphrases speaks for the member.
    #[arg(long)]
    pub with_signing_keys: bool,
    /// Leave out all but the newest segments of the message log: the others must be kept elsewhere, they are evidence.
    #[arg(long)]
    pub newest_messages_only: bool,
    /// Say what would be in it, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// The server's configuration file.
    #[arg(long, env = "CAUSEWAY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// There is no passphrase.
    #[error(transparent)]
    Passphrase(#[from] NoPassphrase),
    /// The rest.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// It was interrupted.
    #[error("the work ended early: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl Failed {
    /// The exit code that stands for it: see [`BackupError::exit_code`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Passphrase(_) => 2,
            Self::Backup(error) => error.exit_code(),
            Self::Ended(_) => 1,
        }
    }
}

/// Does as asked, on standard output.
pub async fn run(command: Command) -> Result<(), Failed> {
    match command {
        Command::Create(asked) => {
            let wanted = Wanted { signing_keys: asked.with_signing_keys, whole_log: !asked.newest_messages_only };
            let made = if asked.dry_run {
                would_create(&asked.config, wanted, &Clock::system())?
            } else {
                let passphrase = asked.passphrase.read_new()?;
                create(&asked.config, &asked.file, &passphrase, wanted, &Clock::system()).await?
            };
            say(&if asked.json { format!("{:#}\n", made.to_json()) } else { made.in_words(&asked.file) });
        }
        Command::Verify { file, passphrase, json } => {
            let passphrase = passphrase.read()?;
            let found = tokio::task::spawn_blocking(move || verify(&file, &passphrase)).await??;
            say(&if json { format!("{:#}\n", found.to_json()) } else { format!("{}It holds.\n", found.in_words()) });
        }
        Command::Restore { file, directory, server, passphrase, dry_run, json } => {
            let passphrase = passphrase.read()?;
            let place = directory.clone();
            let found = tokio::task::spawn_blocking(move || {
                if dry_run {
                    would_restore(&file, &place, &passphrase, server.as_ref())
                } else {
                    restore(&file, &place, &passphrase, server.as_ref())
                }
            });
            let found = found.await??;
            let next = if dry_run { would_be_next() } else { next(&found, &directory) };
            say(&if json { format!("{:#}\n", found.to_json()) } else { format!("{}{next}", found.in_words()) });
        }
    }
    Ok(())
}

impl Made {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    fn to_json(&self) -> Value {
        let parts: Vec<_> = self.parts.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        json!({ "about": self.about, "parts": parts, "bytes": self.bytes(), "manifest_sha256": self.manifest })
    }

    fn in_words(&self, file: &std::path::Path) -> String {
        let mut text = match &self.manifest {
            Some(manifest) => format!("{}\n  manifest sha256:{manifest}\n", file.display()),
            None => "Nothing was written. It would hold:\n".to_owned(),
        };
        text += &format!("  {} parts, {} bytes, of {}\n", self.parts.len(), self.bytes(), self.about.server);
        text += if self.about.signing_keys {
            "  WITH the signing key: who has this file and both passphrases speaks for the member\n"
        } else {
            "  without the signing key: keep a copy of keys/signing.pem elsewhere, or the server joins anew\n"
        };
        if !self.about.complete {
            text += "  with the newest segments of the message log only: keep the others, they are evidence\n";
        }
        if self.manifest.is_some() {
            text += &format!("\nNext: security-server backup verify {}\n", file.display());
        }
        text
    }
}

impl Found {
    fn to_json(&self) -> Value {
        let (version, expires) = self.configuration;
        json!({
            "about": self.manifest.about,
            "made": Time::from_millis(self.manifest.about.made).to_string(),
            "manifest_sha256": self.digest,
            "parts": self.manifest.parts,
            "keys": self.keys,
            "global_configuration": { "version": version, "expires": expires.to_string() },
            "audit_log": journal_as_json(&self.audit_log),
            "message_log": journal_as_json(&self.message_log),
        })
    }

    fn in_words(&self) -> String {
        let about = &self.manifest.about;
        let (version, expires) = self.configuration;
        let log = |log: &Verified| journal_in_words(log).replace('\n', "\n  ");
        format!(
            "A backup of {}, instance {}, made {} by version {}\n  keys          {}{}\n  configuration version {version}, \
             expires {expires}\n  audit log     {}\n  message log   {}{}\n",
            about.server,
            about.instance,
            Time::from_millis(about.made),
            about.version,
            self.keys.join(", "),
            if about.signing_keys { "" } else { " (no signing key)" },
            log(&self.audit_log),
            if about.complete { "" } else { "the newest segments only: " },
            log(&self.message_log),
        )
    }
}

fn would_be_next() -> String {
    "Nothing was written: all of it holds, and would be put back.\n".to_owned()
}

fn next(found: &Found, directory: &std::path::Path) -> String {
    let directory = directory.display();
    let mut text = format!("It was put back into {directory}.\n\nNext:\n");
    if !found.manifest.about.signing_keys {
        text +=
            &format!("  put the signing key back, from where you keep it: {directory}/keys/signing.pem, mode 0600\n");
    }
    text += &format!(
        "  make sure that the server that this was never runs again\n  \
           security-server serve --config {directory}/security-server.toml\n\
         For its first minute it refuses calls of peers (NOT_READY). Peers that hold more of its log than it does will say so.\n"
    );
    text
}

/// Where nobody reads the output any more, the work was done all the same.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
