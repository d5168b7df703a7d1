//! The message log and the audit log, read without their locks: what is refused here, a start refuses.

use std::path::Path;
use std::sync::Arc;

use checks::{Found, Looked, blocking, disk, failed, ok, warning};
use journal::{Directory, Entry, ReadError, Tail, tail};
use proto::message::Header;
use proto::record::Kind;
use proto::time::Time;

use super::doors::State;
use super::{File, Here, Part, Sheet};
use crate::access_rights::{AccessRights, Grant};
use crate::join::{AUDIT_LOG, MESSAGE_LOG};

/// The audit log, and the grants that it is the record of.
pub(super) async fn audit(sheet: &Sheet, file: &Found<File>) -> Found<Vec<Arc<Grant>>> {
    let directory = file.get().map(|file| file.beside(AUDIT_LOG)).unwrap_or_default();
    let line = sheet.line(Part::Logs, "audit log", directory.display().to_string());
    let looked = async {
        file.get()?;
        let directory = directory.clone();
        blocking(move || {
            let disk = Directory(directory.clone());
            end_of(&directory, &mut |_| {})?;
            let grants = AccessRights::read(&disk).map_err(|error| failed(error.to_string(), put_back(&directory)))?;
            let found = format!("whole, {} grants", grants.len());
            Ok(ok(grants, found))
        })
        .await
    };
    line.looks(disk::slow(&directory), looked).await
}

/// The message log. The last time in it, where it says one.
pub(super) async fn messages(sheet: &Sheet, here: &Here) -> Option<Time> {
    let Here { file, state, .. } = here;
    let directory = file.get().map(|file| file.beside(MESSAGE_LOG)).unwrap_or_default();
    let line = sheet.line(Part::Logs, "message log", directory.display().to_string());
    let is_running = matches!(state.get(), Ok(State::Running(_)));
    let looked = async {
        let restart = file.get()?.restart();
        let directory = directory.clone();
        blocking(move || {
            let mut last = None;
            let tail = end_of(&directory, &mut |entry| last = last.max(time_of(&entry)))?;
            told(&tail, is_running, &restart).map(|seen| seen.with(last))
        })
        .await
    };
    let found = line.looks(disk::slow(&directory), looked).await;
    found.get().ok().copied().flatten()
}

/// How a log ends. None at all is a lost disk: `join` made one.
fn end_of(directory: &Path, each: &mut dyn FnMut(Entry)) -> Result<Tail, checks::Wrong> {
    let found = tail(&Directory(directory.to_owned()), each);
    let found = found.map_err(|error: ReadError| failed(error.to_string(), put_back(directory)))?;
    found.ok_or_else(|| {
        failed("there is no log, and `join` made one: the disk is another, or was emptied", put_back(directory))
    })
}

fn told(tail: &Tail, is_running: bool, restart: &str) -> Looked<()> {
    let segments = format!("{} segments", tail.segments);
    if tail.failed {
        let finding =
            format!("{segments}; a write has failed, and the log has ended: the next start begins a new tree");
        return Ok(warning((), finding, format!("look into `dmesg` and df -h first; then {restart}")));
    }
    if tail.torn_bytes > 0 && !is_running {
        return Ok(ok((), format!("{segments}; the next start cuts {} bytes that were never whole", tail.torn_bytes)));
    }
    Ok(ok((), format!("{segments}, the last of them whole")))
}

/// The time of a message of ours. A peer's own may be a minute ahead.
fn time_of(entry: &Entry) -> Option<Time> {
    let sent = entry.record.kind() == Kind::Sent;
    sent.then(|| Header::parse(entry.record.body()).ok()).flatten().map(|header| header.time)
}

fn put_back(directory: &Path) -> String {
    format!(
        "stop the server; put {} back from a copy or the archive, whole; never remove a segment",
        directory.display()
    )
}
