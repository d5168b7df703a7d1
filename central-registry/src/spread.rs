//! Spreading the global configuration: what the register says is signed, recorded, written as plain files that any
//! mirror can carry, and pushed to whoever watches. In this order, so that nobody ever has a version that the registry
//! could forget and sign again with another content.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup::PartName;
use prost::Message;
use proto::digest::Digest;
use proto::global_configuration::update::{Files, TIMESTAMP, root_file};
use proto::time::Time;
use proto::wire::registry::{File, Version};

use crate::history;
use crate::init::ANCHOR;
use crate::leaves::{self, Leaves};
use crate::publish::{Publication, Unpublishable, View};
use crate::register::{Event, Hex, Refused, Register};
use crate::registry::{Desk, Registry};

/// How often the configuration is signed again, so that its readers know it is not held back.
pub(crate) const SIGNED_EVERY: Duration = Duration::from_secs(60);
/// Where the files stand in the registry's directory.
pub(crate) const PUBLIC: &str = "public";
/// How often what is published is read again where it changed meanwhile.
const READ_AGAIN: usize = 16;

/// Makes the next version of what the register says now, and gives it to everybody. Returns its number.
pub(crate) async fn publish(registry: &Registry, desk: &mut Desk, now: Time) -> Result<u64, Refused> {
    let next = if desk.unpublished {
        desk.publication.next(&registry.role_keys, &view(&desk.register)?, now)
    } else {
        desk.publication.re_signed(&registry.role_keys, now)
    };
    let (publication, _) = next.map_err(|error| not_published(&error))?;
    let (version, recorded) = (publication.version(), published(&publication));
    // A crash before this leaves nothing of the version: nobody saw it.
    let admitted = desk.admit(now, None, recorded)?;
    desk.record(admitted).await?;
    // A crash from here on leaves the version in the journal and perhaps not in the files: `take_up` passes over it.
    desk.publication = Arc::new(publication);
    let (public, publication, before) = (registry.public.clone(), Arc::clone(&desk.publication), desk.written);
    let written = tokio::task::spawn_blocking(move || {
        // Files of pages first: whoever copies meanwhile and has the timestamp has all that leads to it.
        let pages = publication.ledger().map(|ledger| publication.leaves().newest(ledger)).unwrap_or_default();
        put(&public, &pages.iter().collect::<Vec<_>>())?;
        write(&public, &publication.since_checkpoint(before, before))?;
        // One that stays behind is no harm.
        let outdated = publication.ledger().and_then(leaves::outdated);
        outdated.into_iter().for_each(|page| drop(fs::remove_file(public.join(page))));
        Ok(())
    });
    let written = written.await.map_err(io::Error::other);
    if let Err(error) = written.and_then(|written| written) {
        return Err(not_published(&error));
    }
    desk.unpublished = false;
    desk.written = version;
    registry.published.send_replace(desk.publication.clone());
    // Applicants who wait are told now, also where this try made good an earlier one.
    registry.changed.send_replace(());
    Ok(version)
}

/// The entry that a version makes in the journal.
pub(crate) fn published(publication: &Publication) -> Event {
    let checkpoint = publication.ledger().map(|ledger| ledger.checkpoint().to_text());
    Event::Published { version: publication.version(), timestamp: Hex(timestamp(publication)), checkpoint }
}

/// SHA-256 of what names all the rest of a version.
pub(crate) fn timestamp(publication: &Publication) -> Digest {
    Digest::of(&[publication.files().get(TIMESTAMP).map_or(&[][..], |bytes| bytes)])
}

fn not_published(error: &dyn std::fmt::Display) -> Refused {
    tracing::error!(%error, "the decision is recorded, but the configuration could not be published; tried again in a minute");
    Refused::Failed(format!(
        "what was decided is recorded, but could not be published: {error}; it is tried each minute"
    ))
}

/// What everybody is to know of the register.
pub(crate) fn view(register: &Register) -> Result<View, Refused> {
    let instance = register.instance().ok_or(Refused::OutOfPlace)?.clone();
    let (members, revoked) = (register.members().cloned().collect(), register.revoked_keys().collect());
    Ok(View { instance, members, revoked, catalogue: register.catalogue() })
}

/// Why what was published cannot be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum NotTakenUp {
    /// The files cannot be read.
    #[error("{PUBLIC}/ cannot be read: {0}; put it back from a copy or a mirror")]
    File(#[from] io::Error),
    /// They are not whole.
    #[error(transparent)]
    Files(#[from] Unpublishable),
    /// They are of another ledger than the journal's.
    #[error(
        "{PUBLIC}/ holds version {version} with another checkpoint of the ledger than the audit journal knows: one of the \
         two is not this registry's; put {PUBLIC}/ back from a mirror, or the journal from a copy"
    )]
    OtherLedger {
        /// The version.
        version: u64,
    },
    /// The journal does not give the leaves of the ledger.
    #[error(
        "the ledger of what was published cannot be read from the audit journal: {0}; put the journal back from a copy"
    )]
    Leaves(String),
    /// The journal is older than they are.
    #[error(
        "{PUBLIC}/ holds version {files}, but the audit journal knows only {journal}: the journal is an older copy, and \
         what was decided since is not in it; put the newest journal back"
    )]
    JournalBehind {
        /// The version of the files.
        files: u64,
        /// The version that the journal knows.
        journal: u64,
    },
}

/// Reads what was published before a start, and lets go of files that no longer belong to it.
pub(crate) fn found(public: &Path) -> Result<Publication, NotTakenUp> {
    let files = files(public)?;
    let publication = Publication::read(&files)?;
    for superseded in files.keys().filter(|name| !publication.files().contains_key(*name)) {
        fs::remove_file(public.join(superseded))?;
    }
    Ok(publication)
}

/// Passes over the versions that the journal knows and the files do not, unseen: the next one that is given to anybody is
/// newer than any that may have been. The ledger goes on from what the journal says of each.
pub(crate) fn pass_over(found: Publication, directory: &Path, register: &Register) -> Result<Publication, NotTakenUp> {
    let (files, journal) = (found.version(), register.published());
    if files > journal {
        return Err(NotTakenUp::JournalBehind { files, journal });
    }
    if files == journal && found.ledger() != register.ledger() {
        return Err(NotTakenUp::OtherLedger { version: files });
    }
    let leaves = leaves_of(directory, register)?;
    Ok(found.passing_over(journal, register.ledger().cloned(), leaves))
}

/// The leaves of the register's ledger: from their pages where those are whole, and else from the journal. Then the pages
/// are written again; a crash meanwhile leaves some of them, and the next start writes them all.
pub(crate) fn leaves_of(directory: &Path, register: &Register) -> Result<Leaves, NotTakenUp> {
    let Some(ledger) = register.ledger() else { return Ok(Leaves::default()) };
    let public = directory.join(PUBLIC);
    let read = Leaves::read(&public, ledger)?;
    if read.are_all_of(ledger) {
        return Ok(read);
    }
    let recorded = history::leaves(directory).map_err(|error| NotTakenUp::Leaves(error.to_string()))?;
    if !recorded.are_all_of(ledger) {
        return Err(NotTakenUp::Leaves("its leaves do not make the ledger that the register has".to_owned()));
    }
    tracing::warn!("the pages of the ledger in {PUBLIC}/ are not whole, and are written again from the journal");
    write(&public, &recorded.all())?;
    Ok(recorded)
}

/// What is published in a directory: plain files as a registry or a mirror has them, or the store of a security server. Read
/// beside whoever writes it: the timestamp first, since all that it names was there before it.
pub(crate) fn copied(directory: &Path) -> Result<Publication, NotTakenUp> {
    let read = || {
        let files = if directory.join("current").exists() { stored(directory)? } else { plain(directory)? };
        with_leaves(directory, Publication::read(&files)?)
    };
    (0..READ_AGAIN).map(|_| read()).find(Result::is_ok).unwrap_or_else(read)
}

/// The same, with the leaves of its ledger where the directory has all of them: a registry, a mirror.
pub(crate) fn with_leaves(directory: &Path, publication: Publication) -> Result<Publication, NotTakenUp> {
    let Some(ledger) = publication.ledger().cloned() else { return Ok(publication) };
    let leaves = Leaves::read(directory, &ledger)?;
    let version = publication.version();
    let leaves = if leaves.are_all_of(&ledger) { leaves } else { Leaves::default() };
    Ok(publication.passing_over(version, Some(ledger), leaves))
}

fn plain(directory: &Path) -> io::Result<Files> {
    let path = directory.join(TIMESTAMP);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let timestamp = fs::read(&path).map_err(named)?;
    let mut files = files(directory)?;
    files.insert(TIMESTAMP.to_owned(), timestamp.into());
    Ok(files)
}

/// `current` names the anchor and the packs that count, in their order.
fn stored(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let current = fs::read_to_string(directory.join("current"))?;
    for name in current.lines().filter_map(|line| line.split_once("  ").map(|(_, name)| name)) {
        if name == ANCHOR {
            files.insert(root_file(1), fs::read(directory.join(ANCHOR))?.into());
        } else if let Ok(name) = name.parse::<PartName>() {
            let pack = Version::decode(&fs::read(directory.join(name.as_str()))?[..]).map_err(io::Error::other)?;
            files.extend(pack.files.into_iter().map(|file| (file.name, file.content)));
        }
    }
    Ok(files)
}

/// Every file in this directory and below it, by its name in a repository.
pub(crate) fn files(public: &Path) -> io::Result<Files> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut files = Files::new();
    let mut directories = vec![public.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(|error| named(&directory, error))? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if let Some(name) = path.strip_prefix(public).ok().and_then(Path::to_str)
                && name.ends_with(".json")
            {
                files.insert(name.to_owned(), fs::read(&path).map_err(|error| named(&path, error))?.into());
            }
        }
    }
    Ok(files)
}

/// Writes files whole or not at all, `timestamp.json` after all others: whoever copies the directory meanwhile has the
/// version before, or this one. All are on disk when this returns.
pub(crate) fn write(public: &Path, files: &[File]) -> io::Result<()> {
    let (timestamp, before): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name == TIMESTAMP);
    put(public, &before)?;
    put(public, &timestamp)
}

/// How many syncs wait for the disk at a time: it makes several durable as fast as one.
const SYNCS_AT_A_TIME: usize = 16;

/// Writes all, then syncs all, then names all.
fn put(public: &Path, files: &[&File]) -> io::Result<()> {
    let mut written = Vec::with_capacity(files.len());
    let mut directories = BTreeSet::from([public.to_owned()]);
    for file in files {
        let path = public.join(&file.name);
        let directory = path.parent().unwrap_or(public).to_owned();
        fs::create_dir_all(&directory)?;
        directories.insert(directory);
        let new = path.with_extension("new");
        let mut open = fs::File::create(&new)?;
        open.write_all(&file.content)?;
        written.push((new, path));
    }
    sync_all(&written)?;
    for (new, path) in &written {
        fs::rename(new, path)?;
    }
    directories.iter().try_for_each(|directory| fs::File::open(directory)?.sync_all())
}

fn sync_all(written: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    let share = written.len().div_ceil(SYNCS_AT_A_TIME).max(1);
    let sync = |share: &[(PathBuf, PathBuf)]| share.iter().try_for_each(|(new, _)| fs::File::open(new)?.sync_all());
    std::thread::scope(|scope| {
        let syncing: Vec<_> = written.chunks(share).map(|share| scope.spawn(move || sync(share))).collect();
        syncing.into_iter().try_for_each(|each| each.join().map_err(|_| io::Error::other("a sync panicked"))?)
    })
}

/// Signs again each minute until the registry closes.
pub(crate) async fn keep_fresh(registry: Arc<Registry>) {
    let mut minute = tokio::time::interval_at(tokio::time::Instant::now() + SIGNED_EVERY, SIGNED_EVERY);
    minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = registry.closing.cancelled() => return,
            _ = minute.tick() => {}
        }
        let mut desk = registry.desk.lock().await;
        let now = registry.now(&desk);
        // What failed is in the log already, and tried again in a minute.
        let _ = publish(&registry, &mut desk, now).await;
    }
}
