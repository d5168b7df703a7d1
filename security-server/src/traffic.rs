//! `security-server evidence traffic` and `evidence reconcile`: what this log has of its exchanges with another member, as a
//! file with every seal, and two such files held against each other.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use command_line::{Ended, Exit, Progress, file_remedy, show};
use journal::{Directory, Disk, ReadError};
use proto::global_configuration::update::Files;
use proto::identifier::MemberId;
use proto::seal::Sender;
use proto::time::Time;
use proto::traffic::{Begin, NotTraffic, Traffic, Writer, reconcile};
use serde_json::Value;

use crate::archive::store::NotOpened;
use crate::archive::{FETCHED, History};
use crate::clock::Clock;
use crate::config::{Configuration, NoConfiguration};
use crate::evidence::Messages;
use crate::global_configuration::{Store, StoreError};
use crate::join::{GLOBAL_CONFIGURATION, MESSAGE_LOG};
use crate::listen::operators::Exporting;
use crate::operate::{Failed, Operator};

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum NotExported {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The global configuration.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be read.
    #[error("the message log: {0}")]
    Log(#[from] ReadError),
    /// The archive, which holds some of it.
    #[error(transparent)]
    Archive(NotOpened),
    /// The running server cannot note it.
    #[error("the server cannot note in its audit log that its messages are exported: {0}")]
    NotNoted(#[source] Failed),
    /// The file cannot be written.
    #[error("the file cannot be written: {0}")]
    Written(#[from] io::Error),
    /// The configuration does not prove whose the keys are.
    #[error(transparent)]
    NotTraffic(#[from] NotTraffic),
}

impl NotExported {
    fn exit(&self) -> Exit {
        match self {
            Self::Configuration(error) => error.exit(),
            Self::NotNoted(failed) => failed.exit(),
            Self::Store(_) | Self::NotTraffic(_) => Exit::CheckFailed,
            Self::Archive(_) => Exit::Usage,
            Self::Log(_) | Self::Written(_) => Exit::Failed,
        }
    }
}

/// Writes the messages exchanged with this member to standard output. A server that runs notes it first.
pub async fn export(config: &Path, peer: MemberId, times: (Time, Time)) -> Result<Exit, Ended> {
    let exported = async {
        let configuration = Configuration::read(config)?;
        // A server that is stopped notes nothing, as for a backup: who reads its directory could copy it.
        let locked = Directory(configuration.directory.join(MESSAGE_LOG)).lock();
        if locked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            let told = async { Operator::of(config)?.post("/v1/traffic", &Exporting { peer: peer.clone() }).await };
            let _: Value = told.await.map_err(NotExported::NotNoted)?;
        }
        let _shown = Progress::of("reading the message log");
        let (_, trusted) = Store::copied(&configuration.directory.join(GLOBAL_CONFIGURATION))?;
        let disk = history(&configuration).map_err(NotExported::Archive)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let holder = Sender { member: configuration.member.clone(), server: configuration.server.clone() };
        let begin = Begin::new(holder, peer.clone(), times, Clock::system().now());
        write(&disk, begin, trusted.files(), &mut out)?;
        Ok(out.flush()?)
    };
    exported.await.map(|()| Exit::Ok).map_err(|error: NotExported| Ended::new(error.exit(), error))
}

/// The log of the server with this configuration, with the segments that were removed from it.
fn history(configuration: &Configuration) -> Result<History, NotOpened> {
    let here = Arc::new(Directory(configuration.directory.join(MESSAGE_LOG)));
    // Where nothing was removed, nobody is asked for the archive's credentials.
    let is_whole = journal::removed(&*here).is_ok_and(|removed| removed.is_empty());
    let archive = configuration.archive.as_ref().filter(|_| !is_whole);
    let store = archive.map(|archive| archive.place.open(&configuration.server)).transpose()?;
    Ok(History::of(here, store, Some(configuration.directory.join(FETCHED))))
}

/// Writes a file of the log on this disk.
pub fn write(disk: &dyn Disk, begin: Begin, configuration: &Files, out: &mut dyn Write) -> Result<(), NotExported> {
    let holder = begin.holder.clone();
    let (mut writer, first) = Writer::new(begin);
    out.write_all(first.as_bytes())?;
    let (mut messages, mut failed) = (Messages::default(), None);
    journal::read(disk, None, &mut |entry| {
        let content = &entry.genesis.content;
        if content.member != holder.member.as_str() || content.server != holder.server.as_str() {
            return;
        }
        if let Some((header, seal, genesis)) = messages.read(&entry)
            && let Some(line) = writer.message(&header, &seal, &genesis)
            && failed.is_none()
        {
            failed = out.write_all(line.as_bytes()).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(out.write_all(writer.end(configuration)?.as_bytes())?)
}

/// Holds two files against each other.
pub fn compare(files: [&PathBuf; 2], anchor: &Path, json: bool) -> Result<Exit, Ended> {
    let read = |path: &Path, maker| {
        let told =
            |error| Ended::new(Exit::Usage, format!("{}: {error}; {}", path.display(), file_remedy(&error, maker)));
        std::fs::read(path).map_err(told)
    };
    let anchor = read(anchor, "it is global-configuration/anchor.json of any server's directory")?;
    let _shown = Progress::of("verifying both files");
    let verified = |path: &PathBuf| {
        let file = read(path, "`security-server evidence traffic` writes one")?;
        let told = |error| Ended::new(Exit::EvidenceInvalid, format!("{} proves nothing: {error}", path.display()));
        Traffic::verify(&file, &anchor).map_err(told)
    };
    let [a, b] = [verified(files[0])?, verified(files[1])?];
    let found = reconcile(&a, &b).map_err(|error| Ended::new(Exit::Usage, error))?;
    show(json, &found, || found.to_string());
    if found.agrees() {
        return Ok(Exit::Ok);
    }
    let why = format!("{} messages are missing in one of the logs", found.missing.len());
    Err(Ended::new(Exit::CheckFailed, format!("{why}; who has them can prove them: `security-server evidence get`")))
}
