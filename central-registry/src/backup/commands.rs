//! `central-registry backup`, as a person or a timer calls it.

use std::path::{Path, PathBuf};

use command_line::{Changing, Ended, Exit, Foreseen, Progress, Reading, show};
use keystore::{NoPassphrase, Source};
use proto::time::Time;
use serde_json::{Value, json};

use super::{BackupError, Found, Made, create, restore, verify, would_create, would_restore};
use crate::publish::Publication;
use crate::system_clock;
use crate::usage::ConfigurationFile;

/// What is asked.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Write one encrypted file with all that this registry is, the keys that sign left out. It may run meanwhile.
    Create(Box<Create>),
    /// Check a backup to its end, the journal's own hashes, signatures and rules included, and say what is in it.
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
    Restore(Box<Restore>),
}

/// What is to be backed up.
#[derive(clap::Args)]
pub struct Create {
    /// The file to write; never over another.
    pub file: PathBuf,
    /// Where the backup's own passphrase comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt", value_name = "SOURCE")]
    pub passphrase: Source,
    /// Put the keys that sign in as well, encrypted as they are here: who has the file and both passphrases is the registry.
    #[arg(long)]
    pub with_signing_keys: bool,
    /// Which registry.
    #[command(flatten)]
    pub registry: ConfigurationFile,
    /// Whether it is carried out, and how the outcome is shown.
    #[command(flatten)]
    pub changing: Changing,
}

/// What is to be put back.
#[derive(clap::Args)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// The directory to make.
    pub directory: PathBuf,
    /// What was published last: a mirror's copy of public/, or global-configuration/ of any security server. Give several,
    /// and the newest counts. Members, suspensions and revocations that it shows are taken up: nothing is restored without.
    #[arg(long, value_name = "DIRECTORY")]
    pub published: Vec<PathBuf>,
    /// Where its passphrase comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt", value_name = "SOURCE")]
    pub passphrase: Source,
    /// Whether it is carried out, and how the outcome is shown. A dry run checks all of the backup too.
    #[command(flatten)]
    pub changing: Changing,
}

/// Does as asked, on standard output.
pub fn run(command: Command) -> Result<Exit, Ended> {
    match command {
        Command::Create(asked) => make(*asked),
        Command::Verify { file, passphrase, reading } => {
            let passphrase = passphrase.read().map_err(wrong)?;
            let found = {
                let _shown = Progress::of("checking the backup");
                verify(&file, &passphrase).map_err(failed)?
            };
            show(reading.json, &found.to_json(), || format!("{}It holds.", found.in_words()));
            Ok(Exit::Ok)
        }
        Command::Restore(asked) => put_back(*asked),
    }
}

fn make(asked: Create) -> Result<Exit, Ended> {
    let Create { file, passphrase, with_signing_keys, registry, changing } = asked;
    if changing.dry_run {
        let made = would_create(&registry.config, with_signing_keys, &system_clock()).map_err(failed)?;
        let mut changes = vec![format!("write {}, of {} parts:", file.display(), made.parts.len())];
        changes.extend(made.parts.iter().map(|(name, bytes)| format!("{name}, {bytes} bytes")));
        let foreseen = Foreseen::new(changes);
        show(changing.json, &foreseen, || foreseen.to_string());
        return Ok(Exit::Ok);
    }
    let passphrase = passphrase.read_new().map_err(wrong)?;
    let made = {
        let _shown = Progress::of("writing the backup");
        create(&registry.config, &file, &passphrase, with_signing_keys, &system_clock()).map_err(failed)?
    };
    show(changing.json, &made.to_json(), || made.in_words(&file));
    Ok(Exit::Ok)
}

fn put_back(asked: Restore) -> Result<Exit, Ended> {
    let Restore { file, directory, published, passphrase, changing } = asked;
    let passphrase = passphrase.read().map_err(wrong)?;
    let _shown = Progress::of("checking the backup");
    if changing.dry_run {
        let (found, newest) = would_restore(&file, &directory, &passphrase, &published).map_err(failed)?;
        let made = Time::from_millis(found.manifest.about.made);
        let (parts, place) = (found.manifest.parts.len() - 1, directory.display());
        let newest = in_words(&newest);
        let change = format!("write {parts} parts as of {made}, and what was published as {newest}, into {place}");
        let foreseen = Foreseen::new(vec![change]);
        show(changing.json, &foreseen, || foreseen.to_string());
    } else {
        let (found, newest) = restore(&file, &directory, &passphrase, &published).map_err(failed)?;
        let mut json = found.to_json();
        json["taken_up"] = json!({ "version": newest.version() });
        show(changing.json, &json, || format!("{}{}", found.in_words(), next(&found, &directory, &newest)));
    }
    Ok(Exit::Ok)
}

fn wrong(error: NoPassphrase) -> Ended {
    Ended::new(Exit::Usage, error)
}

fn failed(error: BackupError) -> Ended {
    Ended::new(error.exit(), error)
}

impl Made {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    fn to_json(&self) -> Value {
        let parts: Vec<_> = self.parts.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        json!({ "about": self.about, "parts": parts, "bytes": self.bytes(), "manifest_sha256": self.manifest })
    }

    fn in_words(&self, file: &Path) -> String {
        let manifest = self.manifest.as_deref().unwrap_or_default();
        let mut text = format!(
            "{}\n  manifest sha256:{manifest}\n  {} parts, {} bytes, of {}\n",
            file.display(),
            self.parts.len(),
            self.bytes(),
            self.about.instance
        );
        text += if self.about.signing_keys {
            "  WITH the keys that sign: who has this file and both passphrases is the registry\n"
        } else {
            "  without the keys that sign: keep a copy of keys/ elsewhere, they are made once\n"
        };
        text + &format!("\nNext: central-registry backup verify {}\n", file.display())
    }
}

impl Found {
    fn to_json(&self) -> Value {
        let configuration = self.published.trusted().configuration();
        json!({
            "about": self.manifest.about,
            "made": Time::from_millis(self.manifest.about.made).to_string(),
            "manifest_sha256": self.manifest.digest(),
            "parts": self.manifest.parts,
            "keys": self.keys,
            "published": { "version": configuration.version, "expires": configuration.expires_at.to_string() },
            "members": self.members,
            "journal": self.audited.to_json(),
        })
    }

    fn in_words(&self) -> String {
        let (about, configuration) = (&self.manifest.about, self.published.trusted().configuration());
        format!(
            "A backup of the registry of {}, made {} by version {}\n  keys          {}{}\n  published     version {}, expires {}\n  \
             register      {} members\n  journal       {}\n",
            about.instance,
            Time::from_millis(about.made),
            about.version,
            self.keys.join(", "),
            if about.signing_keys { "" } else { " (none that signs)" },
            configuration.version,
            configuration.expires_at,
            self.members,
            self.audited.in_words().replace('\n', "\n  "),
        )
    }
}

/// Which version it is, and of when: whoever gives a copy that is not the newest is to see it.
fn in_words(newest: &Publication) -> String {
    let configuration = newest.trusted().configuration();
    format!("version {}, signed {}", configuration.version, configuration.signed_at)
}

fn next(found: &Found, directory: &Path, newest: &Publication) -> String {
    let (directory, newest) = (directory.display(), in_words(newest));
    let mut text = format!(
        "It was put back into {directory}, with what was published as {newest}.\nWhat was decided after that is forgotten: \
         if any mirror or security server has a later version, begin again with that.\n\nNext:\n"
    );
    if !found.manifest.about.signing_keys {
        text += &format!("  put the keys that sign back, from where you keep them: {directory}/keys/, mode 0600\n");
    }
    text + &format!(
        "  make sure that the registry that this was never runs again\n  \
           central-registry serve --config {directory}/{}\n  \
           central-registry members, and central-registry requests: decide again what is missing\n\
         Its next version is about a million further: none that may have been given to anybody is signed again. For its first \
         minute it takes no command.\n",
        super::CONFIGURATION
    )
}
