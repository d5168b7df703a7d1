//! Entries and descriptors by their SHA-256, as plain files that any mirror can carry; and in memory, for whoever searches, the
//! newest entries and the elements that they carry. A view: the journal has all of it, and what is missing at a start is
//! written from there again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use catalogue::once::{Elements, Offer};
use catalogue::search::{Query, folded};
use proto::catalogue::{ElementName, Entry, ReceivedEntry, ServiceName};
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
    listed: RwLock<Listing>,
}

/// What is listed now, by what it is asked for.
#[derive(Default)]
pub(crate) struct Listing {
    newest: BTreeMap<Offer, Shelved>,
    elements: Elements,
    /// How many names the register had removed when this last let go of what is not listed any more.
    removed: usize,
}

struct Shelved {
    /// Its names, the best place to find a word.
    named: String,
    /// All of its words.
    words: String,
    received: ReceivedEntry,
}

impl Listing {
    /// Who is the source of what, and who asks people for it.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The newest entry of this service.
    pub fn newest(&self, offer: &(SubsystemId, ServiceName)) -> Option<&Entry> {
        self.newest.get(offer).map(|shelved| shelved.received.entry())
    }

    /// The newest entry of each service.
    pub fn entries(&self) -> impl Iterator<Item = (&Offer, &Entry)> {
        self.newest.iter().map(|(offer, shelved)| (offer, shelved.received.entry()))
    }

    fn put(&mut self, received: ReceivedEntry) {
        let said = received.entry();
        let methods = said.methods.iter().map(|method| format!("{} {}", method.name, method.description));
        let named = folded(&format!("{} {}", said.title, said.service));
        let others = format!("{} {} {}", said.subsystem, said.description, methods.collect::<Vec<_>>().join(" "));
        let words = format!("{named} {}", folded(&others));
        let offer: Offer = Arc::new((said.subsystem.clone(), said.service.clone()));
        if let Some(before) = self.newest.remove(&offer) {
            self.elements.forget(&offer, &before.received.entry().elements);
        }
        self.elements.list(&offer, &said.elements);
        self.newest.insert(offer, Shelved { named, words, received });
    }

    fn forget_all_but(&mut self, register: &Register) {
        let elements = &mut self.elements;
        self.newest.retain(|offer, shelved| {
            let stays = register.listed_service(&offer.0, &offer.1).is_some();
            if !stays {
                elements.forget(offer, &shelved.received.entry().elements);
            }
            stays
        });
    }
}

impl Shelf {
    /// Of what the register lists. What is not among the files is taken from the journal in `directory`.
    pub fn open(public: &Path, directory: &Path, register: &Register) -> Result<Self, HistoryError> {
        let listed = Listing { removed: register.removals(), ..Listing::default() };
        let shelf = Self { directory: public.join(CONTENT), listed: RwLock::new(listed) };
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
        self.write().put(received);
    }

    /// What is listed now.
    pub fn read(&self) -> RwLockReadGuard<'_, Listing> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries that have each word, those that are so named first; of an element, only those that carry it.
    pub fn find(&self, query: &str, element: Option<&ElementName>) -> FoundEntries {
        let query = Query::new(query);
        let listed = self.read();
        let carry = element.map(|element| listed.elements.get(element).map(|users| users.all()).unwrap_or_default());
        let all: Vec<&Shelved> = match carry {
            Some(offers) => offers.iter().filter_map(|offer| listed.newest.get(offer)).collect(),
            None => listed.newest.values().collect(),
        };
        let found = || all.iter().filter(|shelved| query.finds(&shelved.words));
        let first = found().filter(|shelved| query.finds(&shelved.named));
        let then = found().filter(|shelved| !query.finds(&shelved.named));
        let mut entries: Vec<SignedEntry> =
            first.chain(then).take(MAX_FOUND + 1).map(|shelved| shelved.received.signed().clone()).collect();
        let more = entries.len() > MAX_FOUND;
        entries.truncate(MAX_FOUND);
        FoundEntries { entries, more }
    }

    /// What is not listed any more is not found any more. It is looked for only where a name was removed meanwhile.
    pub fn follow(&self, register: &Register) {
        if self.read().removed == register.removals() {
            return;
        }
        let mut listed = self.write();
        listed.forget_all_but(register);
        listed.removed = register.removals();
    }

    fn write(&self) -> RwLockWriteGuard<'_, Listing> {
        self.listed.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.directory.join(&name[..2]).join(name)
    }
}

/// The SHA-256 that this name of a published file stands for: `content/`, its first two digits, a slash, all 64.
pub(crate) fn named(name: &str) -> Option<Digest> {
    let (first, digits) = name.strip_prefix(CONTENT)?.strip_prefix('/')?.split_once('/')?;
    let digest = digits.parse::<Digest>().ok()?;
    (digest.to_string() == digits && digits.starts_with(first) && first.len() == 2).then_some(digest)
}

fn lost(digest: &Digest) -> io::Error {
    let why = format!("{CONTENT}/{digest} is not there, and not in the journal; put the journal back from a copy");
    io::Error::new(io::ErrorKind::NotFound, why)
}
