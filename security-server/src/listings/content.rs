//! Entries and descriptors by their SHA-256: in memory, on disk, from the registry, and where that is out of reach from a
//! mirror. What has such a name is never another, wherever it came from, so it is checked once: when it is fetched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use catalogue::Described;
use catalogue::routes::Route;
use proto::digest::Digest;
use proto::identifier::MethodPath;
use proto::wire::registry as wire;

use super::{Unlisted, answered, client, renewal};
use crate::SecurityServer;
use crate::global_configuration::{Mirror, content_of};

/// Most bytes of entries and descriptors that are kept in memory.
const MAX_KEPT_BYTES: usize = 32 * 1024 * 1024;

/// Most bytes of them that are kept on disk. Above it the oldest go.
const MAX_BYTES_ON_DISK: u64 = 256 * 1024 * 1024;

/// Longest file of them: the longest descriptor set, and something.
const MAX_FILE_BYTES: usize = 2 * 1024 * 1024;

/// Most bytes of descriptors that are kept as they were read, which takes several times as much memory.
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// Most routes that are kept, those included that a service has none of.
const MAX_KEPT_ROUTES: usize = 16 * 1024;

/// The methods that routes lead to.
pub(crate) type Routes = Arc<[(MethodPath, Route)]>;

/// What was fetched. Descriptors also as they were read, with how many bytes they were read from.
#[derive(Debug)]
pub(crate) struct Content {
    directory: PathBuf,
    mirrors: Vec<Mirror>,
    fetched: Mutex<BTreeMap<Digest, Bytes>>,
    read: Mutex<BTreeMap<Digest, (usize, Described)>>,
    routes: Mutex<BTreeMap<Digest, Routes>>,
    /// How many bytes are on disk, once that was looked at; and only one writes.
    on_disk: Mutex<Option<u64>>,
}

impl Content {
    /// Kept in this directory, a view that may be deleted at any time, and fetched from these mirrors.
    pub fn of(directory: PathBuf, mirrors: Vec<Mirror>) -> Self {
        let (fetched, read, routes, on_disk) = Default::default();
        Self { directory, mirrors, fetched, read, routes, on_disk }
    }

    fn get(&self, digest: &Digest) -> Option<Bytes> {
        locked(&self.fetched).get(digest).cloned()
    }

    pub(super) fn read(&self, digest: &Digest) -> Option<Described> {
        locked(&self.read).get(digest).map(|(_, described)| described.clone())
    }

    pub(super) fn keep_read(&self, digest: Digest, bytes: usize, described: &Described) {
        let mut read = locked(&self.read);
        if read.values().map(|(bytes, _)| bytes).sum::<usize>() + bytes > MAX_READ_BYTES {
            read.clear();
        }
        read.insert(digest, (bytes, described.clone()));
    }

    pub(super) fn routes(&self, entry: &Digest) -> Option<Routes> {
        locked(&self.routes).get(entry).cloned()
    }

    pub(super) fn keep_routes(&self, entry: Digest, found: &Routes) {
        let mut routes = locked(&self.routes);
        if routes.values().map(|routes| routes.len() + 1).sum::<usize>() + found.len() + 1 > MAX_KEPT_ROUTES {
            routes.clear();
        }
        routes.insert(entry, Arc::clone(found));
    }

    /// Where there is no room in memory, all of it goes: what is asked for is soon here again.
    fn keep(&self, digest: Digest, content: &Bytes) {
        let mut kept = locked(&self.fetched);
        if kept.values().map(Bytes::len).sum::<usize>() + content.len() > MAX_KEPT_BYTES {
            kept.clear();
        }
        kept.insert(digest, content.clone());
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.directory.join(&name[..2]).join(name)
    }

    /// What is on disk by this name. A file that has other bytes is as good as none, and written again.
    fn read_from_disk(&self, digest: &Digest) -> Option<Bytes> {
        let bytes = fs::read(self.place(digest)).ok()?;
        (Digest::of(&[&bytes]) == *digest).then(|| bytes.into())
    }

    /// Not synced: what a power cut takes is fetched again.
    fn to_disk(&self, digest: &Digest, content: &[u8]) -> io::Result<()> {
        let mut on_disk = locked(&self.on_disk);
        let mut sum = match *on_disk {
            Some(sum) => sum,
            None => files(&self.directory)?.iter().map(|file| file.bytes).sum(),
        };
        // Until it is known again.
        *on_disk = None;
        if sum + content.len() as u64 > MAX_BYTES_ON_DISK {
            sum = make_room(&self.directory, MAX_BYTES_ON_DISK / 4 * 3)?;
        }
        let place = self.place(digest);
        fs::create_dir_all(place.parent().unwrap_or(&self.directory))?;
        let new = place.with_extension("new");
        fs::write(&new, content)?;
        fs::rename(new, place)?;
        *on_disk = Some(sum + content.len() as u64);
        Ok(())
    }
}

/// What this SHA-256 names.
pub(super) async fn fetched(server: &SecurityServer, digest: Digest) -> Result<Bytes, Unlisted> {
    if let Some(content) = server.content.get(&digest) {
        return Ok(content);
    }
    let kept = Arc::clone(&server.content);
    let kept = tokio::task::spawn_blocking(move || kept.read_from_disk(&digest)).await;
    if let Some(content) = kept.expect("reading does not panic, and nothing aborts it") {
        server.content.keep(digest, &content);
        return Ok(content);
    }
    let content = match from_registry(server, digest).await {
        Ok(content) => content,
        Err(why) => from_mirrors(&server.content.mirrors, digest).await.ok_or(why)?,
    };
    server.content.keep(digest, &content);
    let (keeps, written) = (Arc::clone(&server.content), content.clone());
    let kept = tokio::task::spawn_blocking(move || keeps.to_disk(&digest, &written)).await;
    if let Err(error) = kept.expect("writing does not panic, and nothing aborts it") {
        tracing::warn!(%error, %digest, "what was fetched of the catalogue is not kept on disk, and is fetched again after a start");
    }
    Ok(content)
}

async fn from_registry(server: &SecurityServer, digest: Digest) -> Result<Bytes, Unlisted> {
    let request = wire::FetchRequest { digest: digest.to_wire() };
    let content = answered(client(renewal(server)?).await?.fetch(request)).await?.into_inner().content;
    if Digest::of(&[&content]) == digest { Ok(content) } else { Err(Unlisted::OtherContent(digest)) }
}

async fn from_mirrors(mirrors: &[Mirror], digest: Digest) -> Option<Bytes> {
    for mirror in mirrors {
        match content_of(mirror, digest, MAX_FILE_BYTES).await {
            Ok(Some(content)) => return Some(content),
            Ok(None) => tracing::debug!(%mirror, %digest, "the mirror has it not"),
            Err(error) => tracing::warn!(%error, "nothing of the catalogue was fetched from a mirror"),
        }
    }
    None
}

struct File {
    written: SystemTime,
    bytes: u64,
    path: PathBuf,
}

fn files(directory: &Path) -> io::Result<Vec<File>> {
    let mut found = Vec::new();
    let below = |directory: &Path| match fs::read_dir(directory) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    for directory in below(directory)?.into_iter().filter(|each| each.file_type().is_ok_and(|kind| kind.is_dir())) {
        for file in below(&directory.path())? {
            let about = file.metadata()?;
            found.push(File { written: about.modified()?, bytes: about.len(), path: file.path() });
        }
    }
    Ok(found)
}

/// Removes the oldest until no more than this is left, and says how much is.
fn make_room(directory: &Path, most: u64) -> io::Result<u64> {
    let mut files = files(directory)?;
    files.sort_by_key(|file| file.written);
    let mut sum = files.iter().map(|file| file.bytes).sum();
    for file in files {
        if sum <= most {
            break;
        }
        // What cannot be removed is in the way of nothing but itself.
        if fs::remove_file(&file.path).is_ok() {
            sum -= file.bytes;
        }
    }
    Ok(sum)
}

fn locked<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_in(directory: &Path) -> Content {
        Content::of(directory.to_owned(), Vec::new())
    }

    fn write(content: &Content, bytes: &[u8]) -> Digest {
        let digest = Digest::of(&[bytes]);
        content.to_disk(&digest, bytes).unwrap();
        digest
    }

    #[test]
    fn what_is_on_disk_is_read_after_a_start_and_what_was_changed_there_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let content = kept_in(directory.path());
        let (one, other) = (write(&content, b"one"), write(&content, b"other"));
        let again = kept_in(directory.path());
        assert_eq!(again.read_from_disk(&one).as_deref(), Some(&b"one"[..]));
        fs::write(again.place(&other), "another").unwrap();
        assert_eq!(again.read_from_disk(&other), None);
        write(&again, b"other");
        assert_eq!(again.read_from_disk(&other).as_deref(), Some(&b"other"[..]), "it is written again");
    }

    #[test]
    fn the_oldest_make_room_for_what_comes() {
        let directory = tempfile::tempdir().unwrap();
        let content = kept_in(directory.path());
        assert_eq!(make_room(directory.path(), 0).unwrap(), 0, "there is nothing");
        let written: Vec<Digest> = (0..4u64)
            .map(|number| {
                let digest = write(&content, &[number as u8; 100]);
                let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
                fs::File::options().write(true).open(content.place(&digest)).unwrap().set_modified(then).unwrap();
                digest
            })
            .collect();
        assert_eq!(make_room(directory.path(), 250).unwrap(), 200);
        let left: Vec<bool> = written.iter().map(|digest| content.read_from_disk(digest).is_some()).collect();
        assert_eq!(left, [false, false, true, true]);
    }
}
