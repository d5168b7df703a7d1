//! Entries and descriptors by their SHA-256, as plain files that any mirror can carry, and the newest entries in memory for
//! whoever searches. A view: the journal has all of it, and what is missing at a start is written from there again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use catalogue::search::{Query, folded};
use proto::catalogue::{Entry, ReceivedEntry, ServiceName};
use proto::digest::Digest;
use proto::identifier::SubsystemId;
use proto::wire::registry::{FoundEntries, SignedEntry};

use crate::history::{self, HistoryError};
use crate::register::Register;

/// Where the files stand below the published ones.
const CONTENT: &str = "content";
/// Most entries that one search gives.
pub const MAX_FOUND: usize = 100;

/// What is kept of the catalogue.
pub(crate) struct Shelf {
    directory: PathBuf,
    newest: RwLock<BTreeMap<(SubsystemId, ServiceName), Shelved>>,
}

struct Shelved {
    /// Its names, the best place to find a word.
    named: String,
    /// All of its words.
    words: String,
    received: ReceivedEntry,
}

impl Shelf {
    /// Of what the register lists. What is not among the files is taken from the journal in `directory`.
    pub fn open(public: &Path, directory: &Path, register: &Register) -> Result<Self, HistoryError> {
        let shelf = Self { directory: public.join(CONTENT), newest: RwLock::default() };
        let named = register.listed_services().flat_map(|(_, _, listed)| [listed.entry.0, listed.descriptors.0]);
        let mut missing: BTreeSet<Digest> = named.filter(|digest| shelf.get(digest).is_none()).collect();
        if !missing.is_empty() {
            tracing::warn!(
                files = missing.len(),
                "files of the catalogue are missing, and are written from the journal again"
            );
            let mut failed = Ok(());
            history::listed(directory, &mut |content| {
                if missing.remove(&Digest::of(&[&content])) && failed.is_ok() {
                    failed = shelf.keep(&content).map(drop);
                }
            })?;
            failed?;
        }
        for (_, _, listed) in register.listed_services() {
            let bytes = shelf.get(&listed.entry.0).ok_or_else(|| lost(&listed.entry.0))?;
            shelf.show(ReceivedEntry::from_bytes(&bytes).map_err(|_| lost(&listed.entry.0))?);
        }
        match missing.first() {
            None => Ok(shelf),
            Some(digest) => Err(lost(digest).into()),
        }
    }

    /// What has this SHA-256.
    pub fn get(&self, digest: &Digest) -> Option<Bytes> {
        let bytes = fs::read(self.place(digest)).ok()?;
        // Whoever changed a file here changed it for nobody.
        (Digest::of(&[&bytes]) == *digest).then(|| bytes.into())
    }

    /// Keeps it on disk. A crash before this: the next start writes it from the journal.
    pub fn keep(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(&[content]);
        if self.get(&digest).is_some() {
            return Ok(digest);
        }
        let place = self.place(&digest);
        fs::create_dir_all(place.parent().unwrap_or(&self.directory))?;
        let new = place.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, place)?;
        Ok(digest)
    }

    /// The entry is found from now on, in the place of the one before.
    pub fn show(&self, received: ReceivedEntry) {
        let said = received.entry();
        let methods = said.methods.iter().map(|method| format!("{} {}", method.name, method.description));
        let named = folded(&format!("{} {}", said.title, said.service));
        let others = format!("{} {} {}", said.subsystem, said.description, methods.collect::<Vec<_>>().join(" "));
        let (key, words) = ((said.subsystem.clone(), said.service.clone()), format!("{named} {}", folded(&others)));
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        newest.insert(key, Shelved { named, words, received });
    }

    /// The newest entry of this service.
    pub fn newest(&self, subsystem: &SubsystemId, service: &ServiceName) -> Option<Entry> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.get(&(subsystem.clone(), service.clone())).map(|shelved| shelved.received.entry().clone())
    }

    /// The entries of what `register` lists that have each word, those that are so named first.
    pub fn find(&self, query: &str) -> FoundEntries {
        let query = Query::new(query);
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let found = || newest.values().filter(|shelved| query.finds(&shelved.words));
        let first = found().filter(|shelved| query.finds(&shelved.named));
        let then = found().filter(|shelved| !query.finds(&shelved.named));
        let mut entries: Vec<SignedEntry> =
            first.chain(then).take(MAX_FOUND + 1).map(|shelved| shelved.received.signed().clone()).collect();
        let more = entries.len() > MAX_FOUND;
        entries.truncate(MAX_FOUND);
        FoundEntries { entries, more }
    }

    /// What is not listed any more is not found any more.
    pub fn forget_all_but(&self, register: &Register) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        newest.retain(|(subsystem, service), _| register.listed_service(subsystem, service).is_some());
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.directory.join(&name[..2]).join(name)
    }
}

fn lost(digest: &Digest) -> io::Error {
    let why = format!("{CONTENT}/{digest} is not there, and not in the journal; put the journal back from a copy");
    io::Error::new(io::ErrorKind::NotFound, why)
}
