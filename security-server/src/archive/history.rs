//! The message log with the segments that were removed from it: what is not here is read from where it was brought back to, or from
//! the archive, and is what the log says it was, or an error. One such segment is in memory at a time, and stays there for the next
//! reader.
//!
//! It is a disk to which nothing can be written. Whoever reads it may wait for a store: no message does.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use journal::disk::{File, Lock};
use journal::{Directory, Disk, Remains, Space, removed, segment_name, segment_number};
use proto::digest::Digest;
use proto::wire::relay::RemovedSegment;

use super::store::{Object, Store};
use crate::message_log::retained::note;

/// The directory into which an operator brings back what this server cannot open, beside `message-log`.
pub const FETCHED: &str = "fetched";

/// For how long a server that answers waits for the store. Who verifies a whole log waits for as long as the store's own limit has it.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// See the module.
pub struct History {
    here: Arc<dyn Disk>,
    store: Option<Store>,
    fetched: Option<Directory>,
    within: Option<Duration>,
    last: Mutex<Option<(u64, Bytes)>>,
}

impl History {
    /// Of this log. `store`: the archive, where one is configured; `fetched`: where segments may have been brought back to.
    pub fn of(here: Arc<dyn Disk>, store: Option<Store>, fetched: Option<PathBuf>) -> Self {
        Self { here, store, fetched: fetched.map(Directory), within: None, last: Mutex::default() }
    }

    /// The same, waiting for the store no longer than this.
    pub fn within(self, within: Duration) -> Self {
        Self { within: Some(within), ..self }
    }

    /// A removed segment. Whoever else wants one waits meanwhile.
    fn removed(&self, remains: &Remains) -> io::Result<Bytes> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last.as_ref().filter(|(number, _)| *number == remains.number) {
            return Ok(bytes.clone());
        }
        // The one before is let go of first.
        *last = None;
        let bytes = self.brought(remains)?;
        *last = Some((remains.number, bytes.clone()));
        Ok(bytes)
    }

    fn brought(&self, remains: &Remains) -> io::Result<Bytes> {
        let name = segment_name(remains.number);
        match self.fetched.as_ref().map(|fetched| fetched.read(&name)) {
            Some(Ok(bytes)) => return known(remains, bytes.into(), "what was brought back"),
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let said = note(remains);
        let place = match said.archive.as_str() {
            "" => "an archive".to_owned(),
            archive => archive.to_owned(),
        };
        let failed = |why: String| io::Error::other(format!("{name} was removed here, and is in {place}: {why}"));
        if !said.recipients.is_empty() {
            return Err(failed(who_can(remains.number, &said)));
        }
        let store = self.store.as_ref().ok_or_else(|| {
            failed(
                "the configuration names no archive; name it under [archive], as deploy/security-server.toml says"
                    .into(),
            )
        })?;
        let got = got(store, remains.number, self.within).map_err(|error| failed(error.to_string()))?;
        let bytes = got.ok_or_else(|| failed(format!("it is not in {store}; ask who runs the store")))?;
        known(remains, bytes, &store.to_string())
    }
}

/// Who can bring back a segment that is encrypted, and how.
fn who_can(number: u64, said: &RemovedSegment) -> String {
    let keys: Vec<String> = said.recipients.iter().map(|key| hex::encode(key.as_ref())).collect();
    format!(
        "it is encrypted there, and this server has no key for it; who has the private key whose public key has SHA-256 {} brings it \
         back, in the server's directory: `security-server archive fetch {FETCHED} --from {number} --to {number} --key FILE`",
        keys.join(" or ")
    )
}

/// These bytes, if they are the segment that was removed.
fn known(remains: &Remains, bytes: Bytes, place: &str) -> io::Result<Bytes> {
    if (bytes.len() as u64, Digest::of(&[&bytes])) == (remains.bytes, remains.sha256) {
        return Ok(bytes);
    }
    let name = segment_name(remains.number);
    let what = format!(
        "{place}: {name} is not the segment that was removed here; keep it as it is, and compare it with a backup"
    );
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

/// An object of the store, read in a thread with a runtime of its own: whoever asks may be in one that only its own thread drives.
fn got(store: &Store, number: u64, within: Option<Duration>) -> io::Result<Option<Bytes>> {
    let read = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let get = async {
            let object = Object::of(number, false, 0);
            let get = store.get(&object);
            match within {
                Some(within) => tokio::time::timeout(within, get).await.map_err(|_| late(within))?,
                None => get.await,
            }
            .map_err(|error| io::Error::other(error.to_string()))
        };
        runtime.block_on(get)
    };
    let ended = || io::Error::other("the thread that read it ended early");
    std::thread::scope(|scope| scope.spawn(read).join().map_err(|_| ended())?)
}

fn late(within: Duration) -> io::Error {
    let why = format!(
        "the store did not give it within {within:?}; ask who runs it, or bring the segment back: `security-server archive fetch {FETCHED}`"
    );
    io::Error::new(ErrorKind::TimedOut, why)
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.here.fmt(f)
    }
}

fn never() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "a log that is read is not written")
}

impl Disk for History {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        Err(never())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.here.list()?;
        let removed = removed(&*self.here).map_err(|error| io::Error::other(error.to_string()))?;
        names.extend(removed.into_iter().map(segment_name));
        // One may have been removed between the two looks.
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let absent = match (self.here.read(name), segment_number(name)) {
            (Err(error), Some(number)) if error.kind() == ErrorKind::NotFound => (error, number),
            (read, _) => return read,
        };
        let remains = Remains::read(&*self.here, absent.1).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(self.removed(&remains.ok_or(absent.0)?)?.into())
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn File>> {
        Err(never())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(never())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(never())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Err(never())
    }

    fn space(&self) -> io::Result<Space> {
        self.here.space()
    }
}
