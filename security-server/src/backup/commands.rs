//! `security-server backup`, as a person or a timer calls it.

use std::path::PathBuf;

use backup::{About, PartName};
use command_line::{Changing, Ended, Exit, Foreseen, Progress, Reading, show};
use journal::Verified;
use proto::identifier::ServerId;
use proto::time::Time;
use serde_json::{Value, json};

use super::{BackupError, Found, Made, Wanted, create, restore, verify, would_create, would_restore};
use crate::audit::{journal_as_json, journal_in_words};
use crate::clock::Clock;
use crate::keys::ring::{self, Use};
use crate::keys::{NoPassphrase, Source};
use crate::usage::ConfigurationFile;

/// What is asked.
#[derive(clap::Subcommand)]
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
        /// How the findings are shown.
        #[command(flatten)]
        reading: Reading,
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
        /// Whether it is carried out, and how the outcome is shown. A dry run checks all of the backup too.
        #[command(flatten)]
        changing: Changing,
    },
}

/// What is to be backed up.
#[derive(clap::Args)]
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
    /// Which server.
    #[command(flatten)]
    pub server: ConfigurationFile,
    /// Whether it is carried out, and how the outcome is shown.
    #[command(flatten)]
    pub changing: Changing,
}

/// Does as asked, on standard output.
pub async fn run(command: Command) -> Result<Exit, Ended> {
    match command {
        Command::Create(asked) => make(*asked).await,
        Command::Verify { file, passphrase, reading } => {
            let found = {
                let passphrase = passphrase.read().map_err(wrong)?;
                let _shown = Progress::of("checking the backup");
                tokio::task::spawn_blocking(move || verify(&file, &passphrase)).await.map_err(ended)?.map_err(failed)?
            };
            show(reading.json, &found.to_json(), || format!("{}It holds.", found.in_words()));
            Ok(Exit::Ok)
        }
        Command::Restore { file, directory, server, passphrase, changing } => {
            let (place, dry_run) = (directory.clone(), changing.dry_run);
            let found = {
                let passphrase = passphrase.read().map_err(wrong)?;
                let _shown = Progress::of("checking the backup");
                let work = move || match dry_run {
                    true => would_restore(&file, &place, &passphrase, server.as_ref()),
                    false => restore(&file, &place, &passphrase, server.as_ref()),
                };
                tokio::task::spawn_blocking(work).await.map_err(ended)?.map_err(failed)?
            };
            if dry_run {
                let About { server, made, .. } = &found.manifest.about;
                let (parts, made) = (found.manifest.parts.len() - 1, Time::from_millis(*made));
                let change = format!("write the {parts} files of {server} as of {made} into {}", directory.display());
                let foreseen = Foreseen::new(vec![change]);
                show(changing.json, &foreseen, || foreseen.to_string());
            } else {
                let text = || format!("{}{}", found.in_words(), next(&found, &directory));
                show(changing.json, &found.to_json(), text);
            }
            Ok(Exit::Ok)
        }
    }
}

async fn make(asked: Create) -> Result<Exit, Ended> {
    let Create { file, passphrase, with_signing_keys, newest_messages_only, server, changing } = asked;
    let wanted = Wanted { signing_keys: with_signing_keys, whole_log: !newest_messages_only };
    if changing.dry_run {
        let made = would_create(&server.config, wanted, &Clock::system()).map_err(failed)?;
        let part = |(name, bytes): &(PartName, u64)| format!("{name}, {bytes} bytes");
        let mut changes = vec![format!("write {}, of {} parts:", file.display(), made.parts.len())];
        changes.extend(made.parts.iter().map(part));
        let foreseen = Foreseen::new(changes);
        show(changing.json, &foreseen, || foreseen.to_string());
        return Ok(Exit::Ok);
    }
    let passphrase = passphrase.read_new().map_err(wrong)?;
    let made = {
        let _shown = Progress::of("writing the backup");
        create(&server.config, &file, &passphrase, wanted, &Clock::system()).await.map_err(failed)?
    };
    show(changing.json, &made.to_json(), || made.in_words(&file));
    Ok(Exit::Ok)
}

fn wrong(error: NoPassphrase) -> Ended {
    Ended::new(Exit::Usage, error)
}

fn failed(error: BackupError) -> Ended {
    Ended::new(error.exit(), error)
}

fn ended(error: tokio::task::JoinError) -> Ended {
    Ended::new(Exit::Failed, error)
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
        let manifest = self.manifest.as_deref().unwrap_or_default();
        let mut text = format!("{}\n  manifest sha256:{manifest}\n", file.display());
        text += &format!("  {} parts, {} bytes, of {}\n", self.parts.len(), self.bytes(), self.about.server);
        text += if self.about.signing_keys {
            "  WITH the signing key: who has this file and both passphrases speaks for the member\n"
        } else {
            "  without the signing key: keep a copy of keys/ elsewhere, of each key anew, or the server joins anew\n"
        };
        if !self.about.complete {
            text += "  with the newest segments of the message log only: keep the others, they are evidence\n";
        }
        text + &format!("\nNext: security-server backup verify {}\n", file.display())
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

fn next(found: &Found, directory: &std::path::Path) -> String {
    let signing = ring::key_in_use(directory, Use::Signing);
    let directory = directory.display();
    let mut text = format!("It was put back into {directory}.\n\nNext:\n");
    if !found.manifest.about.signing_keys {
        text += &format!("  put the signing key back, from where you keep it: {}, mode 0600\n", signing.display());
    }
    text += &format!(
        "  make sure that the server that this was never runs again\n  \
           security-server serve --config {directory}/security-server.toml\n\
         For its first minute it refuses calls of peers (NOT_READY). Peers that hold more of its log than it does will say so.\n"
    );
    text
}
