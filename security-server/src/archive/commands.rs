//! `security-server archive`, as a person or a timer calls it. It reads the store itself, beside a server that runs or without one.

use std::path::PathBuf;

use backup::RecipientKey;
use command_line::{Changing, Ended, Exit, Foreseen, Progress, Reading as Shown, show};
use serde_json::json;

use super::reading::{Listed, NotRead, Reading, verify};
use crate::keys::Source;
use crate::usage::ConfigurationFile;
use crate::whole_log::judges;

/// What is asked.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List the segments of the message log that are in the archive, and those that should be.
    List {
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How they are shown.
        #[command(flatten)]
        reading: Shown,
    },
    /// Bring segments back into a directory, each checked and whole or not at all.
    Fetch {
        /// The directory; it is made where it is not there.
        directory: PathBuf,
        /// The first segment.
        #[arg(long, default_value_t = 1, value_name = "NUMBER")]
        from: u64,
        /// The last segment. None: the last that is archived.
        #[arg(long, value_name = "NUMBER")]
        to: Option<u64>,
        /// What opens encrypted segments.
        #[command(flatten)]
        key: KeyFile,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// Whether it is carried out, and how the outcome is shown.
        #[command(flatten)]
        changing: Changing,
    },
    /// Check the whole archive: that no segment is missing, there twice or another than the audit log says, and every
    /// record, commit and signature over all of them, as `log verify` does.
    Verify {
        /// What opens encrypted segments.
        #[command(flatten)]
        key: KeyFile,
        /// Which server.
        #[command(flatten)]
        server: ConfigurationFile,
        /// How the findings are shown.
        #[command(flatten)]
        reading: Shown,
    },
}

/// The private key of a recipient.
#[derive(clap::Args)]
pub struct KeyFile {
    /// The private key of a recipient, where segments are encrypted: PKCS#8 in PEM, encrypted, mode 0600.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where its passphrase comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt", value_name = "SOURCE")]
    passphrase: Source,
}

impl KeyFile {
    fn read(&self) -> Result<Option<RecipientKey>, Ended> {
        let Some(path) = &self.key else { return Ok(None) };
        let passphrase = self.passphrase.read().map_err(|error| Ended::new(Exit::Usage, error))?;
        let pkcs8 = keystore::open_pkcs8(path, &passphrase).map_err(|error| failed(error.into()))?;
        RecipientKey::from_pkcs8(&pkcs8).map(Some).map_err(|_| failed(NotRead::NotAKey(path.clone())))
    }
}

/// Does as asked, on standard output.
pub async fn run(command: Command) -> Result<Exit, Ended> {
    match command {
        Command::List { server, reading } => {
            let (archive, _) = Reading::begin(&server.config, None).await.map_err(failed)?;
            let listed = archive.listed();
            let shown = json!({ "archive": archive.place().to_string(), "segments": listed });
            show(reading.json, &shown, || in_words(&archive, &listed));
            Ok(Exit::Ok)
        }
        Command::Fetch { directory, from, to, key, server, changing } => {
            let key = key.read()?;
            let (archive, _) = Reading::begin(&server.config, key).await.map_err(failed)?;
            let to = to.unwrap_or(u64::MAX);
            let (numbers, gone) = (archive.numbers(from, to), archive.gone(from, to));
            if numbers.is_empty() && gone.is_empty() {
                return Err(failed(NotRead::Missing(format!("a segment from {from} on"))));
            }
            let not_noted: Vec<u64> = numbers.iter().copied().filter(|number| !archive.is_noted(*number)).collect();
            // Those that are there are brought back all the same.
            let lost = gone.first().map(|number| failed(archive.missing(*number)));
            if changing.dry_run {
                let change = |number| format!("write {}", directory.join(journal::segment_name(number)).display());
                let foreseen = Foreseen::new(numbers.into_iter().map(change).collect());
                show(changing.json, &foreseen, || foreseen.to_string());
                return lost.map_or(Ok(Exit::Ok), Err);
            }
            let fetched = {
                let _shown = Progress::of("fetching from the archive");
                let place = directory.clone();
                let work = move || {
                    let unmade = |source| NotRead::File { path: place.clone(), source };
                    std::fs::create_dir_all(&place).map_err(unmade)?;
                    let fetched = numbers.into_iter().map(|number| Ok((number, archive.fetch(number, &place)?)));
                    fetched.collect::<Result<Vec<_>, NotRead>>()
                };
                tokio::task::spawn_blocking(work)
                    .await
                    .map_err(|error| Ended::new(Exit::Failed, error))?
                    .map_err(failed)?
            };
            let bytes: u64 = fetched.iter().map(|(_, bytes)| bytes).sum();
            let segments: Vec<_> = fetched.iter().map(|(number, _)| number).collect();
            let shown = json!({
                "directory": directory.display().to_string(), "segments": segments, "bytes": bytes,
                "not_noted": not_noted, "gone": gone,
            });
            show(changing.json, &shown, || {
                let mut text = format!("{} segments, {bytes} bytes, in {}\n", segments.len(), directory.display());
                for number in &not_noted {
                    text += &format!("  {}: the audit log does not know it\n", journal::segment_name(*number));
                }
                text
            });
            lost.map_or(Ok(Exit::Ok), Err)
        }
        Command::Verify { key, server, reading } => {
            let key = key.read()?;
            let (archive, configuration) = Reading::begin(&server.config, key).await.map_err(failed)?;
            let found = {
                let _shown = Progress::of("verifying the archive");
                let work = move || {
                    let (keys, registered) = judges(&configuration)?;
                    verify(&archive, &keys, &registered)
                };
                tokio::task::spawn_blocking(work)
                    .await
                    .map_err(|error| Ended::new(Exit::Failed, error))?
                    .map_err(failed)?
            };
            show(reading.json, &found.to_json(), || found.to_string());
            match found.faults.first() {
                None => Ok(Exit::Ok),
                Some(fault) => {
                    let (place, what) = (&fault.place, &fault.what);
                    let why = format!(
                        "the archive does not hold: at {place}: {what}; keep it as it is, and compare it with a backup"
                    );
                    Err(Ended::new(Exit::EvidenceInvalid, why))
                }
            }
        }
    }
}

fn failed(error: NotRead) -> Ended {
    Ended::new(error.exit(), error)
}

fn in_words(archive: &Reading, listed: &[Listed]) -> String {
    let mut text = format!("{}: {} segments\n", archive.place(), listed.len());
    for Listed { object, bytes, sha256, .. } in listed {
        let bytes = bytes.map_or("IT IS NOT THERE".to_owned(), |bytes| format!("{bytes} bytes"));
        let sha256 =
            sha256.as_ref().map_or("the audit log does not know it".to_owned(), |sha256| format!("sha256 {sha256}"));
        text += &format!("  {object}  {bytes}, {sha256}\n");
    }
    text
}
