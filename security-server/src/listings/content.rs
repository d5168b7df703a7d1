//! Entries and descriptors by their SHA-256: in memory, on disk, from the registry, and where that is out of reach from a
//! mirror. What has such a name is never another, wherever it came from, so it is checked once: when it is fetched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use catalogue::Described;
use catalogue::routes::Route;
use futures_util::future::{BoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use proto::digest::Digest;
use proto::identifier::MethodPath;
use proto::rest::Operations;
use proto::wire::registry as wire;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::Code;

use super::{Unlisted, answered, client_of};
use crate::SecurityServer;
use crate::global_configuration::{Mirror, Registry, content_of};

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

/// Most services whose operations are kept, those included that are gRPC services.
const MAX_KEPT_OPERATIONS: usize = 1024;

/// How long whoever needs something of the catalogue waits for it. What comes later is there for the next.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where one says nothing for so long, the next is asked too.
const SLOW: Duration = Duration::from_secs(2);

/// So long nobody is asked who failed.
const REST: Duration = Duration::from_secs(10);

/// What is there so soon, on disk or from a registry that answers, as many may wait for as call.
const SOON: Duration = Duration::from_millis(250);

/// Most that wait longer for something of the catalogue at once: they are not to hold the places of calls that could go on.
const MAX_WAITING: usize = 64;

/// Most that is fetched at once.
const FETCHED_AT_ONCE: usize = 16;

/// What is being fetched, for all who wait for it.
type Fetching = Shared<BoxFuture<'static, Result<Bytes, Arc<Unlisted>>>>;

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
    operations: Mutex<BTreeMap<Digest, Option<Arc<Operations>>>>,
    /// How many bytes are on disk, once that was looked at; and only one writes.
    on_disk: Mutex<Option<u64>>,
    fetchings: Mutex<HashMap<Digest, Fetching>>,
    /// Who failed, when, and which version was in force then.
    resting: Mutex<HashMap<String, (Instant, u64)>>,
    waiting: Semaphore,
    at_once: Semaphore,
}

impl Content {
    /// Kept in this directory, a view that may be deleted at any time, and fetched from these mirrors.
    pub fn of(directory: PathBuf, mirrors: Vec<Mirror>) -> Self {
        let (fetched, read, routes, operations, on_disk) = Default::default();
        let (fetchings, resting) = Default::default();
        let (waiting, at_once) = (Semaphore::new(MAX_WAITING), Semaphore::new(FETCHED_AT_ONCE));
        Self { directory, mirrors, fetched, read, routes, operations, on_disk, fetchings, resting, waiting, at_once }
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

    pub(super) fn operations(&self, entry: &Digest) -> Option<Option<Arc<Operations>>> {
        locked(&self.operations).get(entry).cloned()
    }

    pub(super) fn keep_operations(&self, entry: Digest, found: &Option<Arc<Operations>>) {
        let mut kept = locked(&self.operations);
        if kept.len() >= MAX_KEPT_OPERATIONS {
            kept.clear();
        }
        kept.insert(entry, found.clone());
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

/// What this SHA-256 names. However many ask for it, it is fetched once; a call does not wait for that to its end.
pub(super) async fn fetched(server: &SecurityServer, digest: Digest) -> Result<Bytes, Unlisted> {
    if let Some(content) = server.content.get(&digest) {
        return Ok(content);
    }
    let registry = server.renewal.as_ref().map(|renewal| renewal.registry().clone());
    server.content.waited_for(registry, server.configuration.load().version, digest).await
}

impl Content {
    async fn waited_for(
        self: &Arc<Self>,
        registry: Option<Registry>,
        version: u64,
        digest: Digest,
    ) -> Result<Bytes, Unlisted> {
        let fetching = self.fetching(registry, version, digest);
        let fetched = match tokio::time::timeout(SOON, fetching.clone()).await {
            Ok(fetched) => fetched,
            Err(_) => {
                let _place = self.waiting.try_acquire().map_err(|_| Unlisted::Crowded)?;
                tokio::time::timeout(PATIENCE, fetching).await.map_err(|_| Unlisted::NotYet)?
            }
        };
        fetched.map_err(Unlisted::NotFetched)
    }

    /// One for all who want the same.
    fn fetching(self: &Arc<Self>, registry: Option<Registry>, version: u64, digest: Digest) -> Fetching {
        let mut fetchings = locked(&self.fetchings);
        let begin = || {
            let this = Arc::clone(self);
            // A task of its own: it goes on when nobody waits any more, and whoever asks next finds what came.
            let fetching = tokio::spawn(async move {
                let fetched = Arc::clone(&this).fetch(registry, version, digest).await;
                locked(&this.fetchings).remove(&digest);
                fetched
            });
            let fetching = fetching.map(|fetched| fetched.expect("fetching does not panic, and nothing aborts it"));
            fetching.boxed().shared()
        };
        fetchings.entry(digest).or_insert_with(begin).clone()
    }

    async fn fetch(
        self: Arc<Self>,
        registry: Option<Registry>,
        version: u64,
        digest: Digest,
    ) -> Result<Bytes, Arc<Unlisted>> {
        if let Some(content) = self.get(&digest) {
            return Ok(content);
        }
        let kept = Arc::clone(&self);
        let kept = tokio::task::spawn_blocking(move || kept.read_from_disk(&digest)).await;
        if let Some(content) = kept.expect("reading does not panic, and nothing aborts it") {
            self.keep(digest, &content);
            return Ok(content);
        }
        let content = self.sought(registry, version, digest).await?;
        self.keep(digest, &content);
        let (keeps, written) = (Arc::clone(&self), content.clone());
        let kept = tokio::task::spawn_blocking(move || keeps.to_disk(&digest, &written)).await;
        if let Err(error) = kept.expect("writing does not panic, and nothing aborts it") {
            tracing::warn!(%error, %digest, "what was fetched of the catalogue is not kept on disk, and is fetched again after a start");
        }
        Ok(content)
    }

    /// From the registry, or where it fails or says nothing for a while, from a mirror.
    async fn sought(&self, registry: Option<Registry>, version: u64, digest: Digest) -> Result<Bytes, Unlisted> {
        let _one = self.at_once.acquire().await.expect("nobody closes it");
        let registry = registry.ok_or(Unlisted::NoRegistry);
        let mut sources: Vec<Source> = self.mirrors.iter().map(Source::Mirror).collect();
        let none = registry.map(|registry| sources.insert(0, Source::Registry(registry))).err();
        sources.retain(|source| !self.rests(source, version));
        let failed = Mutex::new(none);
        let asked = sources.iter().map(|source| {
            let failed = &failed;
            let asked = async move {
                let (why, dead) = match source.give(digest).await {
                    Ok(given) => return given,
                    Err(failure) => failure,
                };
                if dead {
                    self.rest(source, version);
                }
                let mut failed = locked(failed);
                // What the registry said says most.
                if failed.is_none() {
                    *failed = why;
                }
                None
            };
            asked.boxed()
        });
        let (given, overtaken) = first_of(asked.collect()).await;
        overtaken.into_iter().for_each(|slow| self.rest(&sources[slow], version));
        let why = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        given.ok_or_else(|| why.unwrap_or(Unlisted::AllRest))
    }

    /// Whether it failed a moment ago. A new version of the configuration came from somewhere: all are asked again.
    fn rests(&self, source: &Source<'_>, version: u64) -> bool {
        let resting = locked(&self.resting);
        resting.get(&source.to_string()).is_some_and(|(since, then)| since.elapsed() < REST && *then == version)
    }

    fn rest(&self, source: &Source<'_>, version: u64) {
        locked(&self.resting).insert(source.to_string(), (Instant::now(), version));
    }
}

/// Where something of the catalogue may be had.
enum Source<'c> {
    Registry(Registry),
    Mirror(&'c Mirror),
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(registry) => registry.address.fmt(f),
            Self::Mirror(mirror) => mirror.fmt(f),
        }
    }
}

impl Source<'_> {
    /// What it has by this name. Where it gives none, why, if that says something, and whether it is out of reach.
    async fn give(&self, digest: Digest) -> Result<Option<Bytes>, (Option<Unlisted>, bool)> {
        match self {
            Self::Registry(registry) => from_registry(registry, digest).await.map(Some).map_err(|why| {
                let dead = match &why {
                    Unlisted::Connection(_) | Unlisted::Silent => true,
                    Unlisted::Refused(status) => status.code() == Code::Unavailable || status.source().is_some(),
                    _ => false,
                };
                (Some(why), dead)
            }),
            Self::Mirror(mirror) => match content_of(mirror, digest, MAX_FILE_BYTES).await {
                Ok(Some(content)) => Ok(Some(content)),
                Ok(None) => {
                    tracing::debug!(%mirror, %digest, "the mirror has it not");
                    Err((None, false))
                }
                Err(error) => {
                    tracing::warn!(%error, "nothing of the catalogue was fetched from a mirror");
                    Err((None, true))
                }
            },
        }
    }
}

async fn from_registry(registry: &Registry, digest: Digest) -> Result<Bytes, Unlisted> {
    let request = wire::FetchRequest { digest: digest.to_wire() };
    let content = answered(client_of(registry).await?.fetch(request)).await?.into_inner().content;
    if Digest::of(&[&content]) == digest { Ok(content) } else { Err(Unlisted::OtherContent(digest)) }
}

/// What the first of them gives. The next is asked as soon as one fails, or all that were asked say nothing for [`SLOW`]. Those that were
/// asked before the one that gave it, and say nothing yet, are named.
async fn first_of<T>(sources: Vec<BoxFuture<'_, Option<T>>>) -> (Option<T>, Vec<usize>) {
    let (mut next, mut asked) = (sources.into_iter().enumerate(), FuturesUnordered::new());
    let mut silent = BTreeSet::new();
    loop {
        if let Some((number, source)) = next.next() {
            silent.insert(number);
            asked.push(source.map(move |given| (number, given)));
        }
        let answer = if next.len() == 0 {
            asked.next().await
        } else {
            match tokio::time::timeout(SLOW, asked.next()).await {
                Ok(answer) => answer,
                Err(_) => continue,
            }
        };
        match answer {
            Some((number, Some(given))) => {
                return (Some(given), silent.into_iter().filter(|asked| *asked < number).collect());
            }
            Some((number, None)) => _ = silent.remove(&number),
            None => return (None, Vec::new()),
        }
    }
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Gives this, or nothing, after so many seconds; or says nothing at all.
    fn source(seconds: Option<u64>, gives: Option<&'static str>) -> BoxFuture<'static, Option<&'static str>> {
        let source = async move {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
            gives
        };
        source.boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_overtaken_by_the_next_and_remembered() {
        let begun = Instant::now();
        let found = first_of(vec![source(None, None), source(Some(1), None), source(Some(1), Some("it"))]).await;
        assert_eq!(found, (Some("it"), vec![0]));
        assert_eq!(begun.elapsed(), SLOW + Duration::from_secs(2));
        // Who fails is not waited for, and who answers in time is asked alone.
        let begun = Instant::now();
        assert_eq!(first_of(vec![source(Some(0), None), source(Some(0), Some("it"))]).await, (Some("it"), Vec::new()));
        let found = first_of(vec![source(Some(1), Some("it")), source(Some(0), Some("other"))]).await;
        assert_eq!((found, begun.elapsed()), ((Some("it"), Vec::new()), Duration::from_secs(1)));
        // Whoever was slow may still be the one that has it.
        assert_eq!(first_of(vec![source(Some(5), Some("it")), source(None, None)]).await, (Some("it"), Vec::new()));
        assert_eq!(first_of(vec![source(Some(5), None), source(Some(0), None)]).await, (None, Vec::new()));
    }

    /// A mirror that answers with this when it is told to, and how often it was asked.
    async fn mirror(content: &'static str, answers: Arc<Semaphore>) -> (Mirror, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mirror = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut line, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(line.read_u8().await.unwrap());
                }
                count.fetch_add(1, Ordering::SeqCst);
                let _ = answers.acquire().await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
                line.write_all(format!("{head}{content}").as_bytes()).await.unwrap();
            }
        });
        (mirror, asked)
    }

    #[tokio::test]
    async fn what_many_want_is_fetched_once_and_only_so_many_wait_for_it() {
        let (directory, answers) = (tempfile::tempdir().unwrap(), Arc::new(Semaphore::new(0)));
        let (mirror, asked) = mirror("an entry", Arc::clone(&answers)).await;
        let content = Arc::new(Content::of(directory.path().to_owned(), vec![mirror]));
        let digest = Digest::of(&[b"an entry"]);
        let mut waiting: FuturesUnordered<_> = (0..=MAX_WAITING).map(|_| content.waited_for(None, 1, digest)).collect();
        // The one too many is told so while the others wait.
        assert!(matches!(waiting.next().await, Some(Err(Unlisted::Crowded))));
        answers.add_permits(1);
        let given: Vec<_> = waiting.collect().await;
        assert_eq!(given.len(), MAX_WAITING);
        assert!(given.into_iter().all(|given| given.is_ok_and(|given| given == "an entry")));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(kept_in(directory.path()).read_from_disk(&digest).as_deref(), Some(&b"an entry"[..]));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_fetched_all_the_same_and_leaves_nothing() {
        let (directory, answers) = (tempfile::tempdir().unwrap(), Arc::new(Semaphore::new(0)));
        let (mirror, asked) = mirror("an entry", Arc::clone(&answers)).await;
        let content = Arc::new(Content::of(directory.path().to_owned(), vec![mirror]));
        let digest = Digest::of(&[b"an entry"]);
        drop(content.fetching(None, 1, digest));
        answers.add_permits(1);
        assert_eq!(content.waited_for(None, 1, digest).await.unwrap(), "an entry");
        assert!(asked.load(Ordering::SeqCst) == 1 && locked(&content.fetchings).is_empty());
    }

    #[tokio::test]
    async fn a_mirror_that_failed_is_left_alone_for_a_while_or_until_there_is_another_version() {
        let (directory, answers) = (tempfile::tempdir().unwrap(), Arc::new(Semaphore::new(1)));
        let (mirror, asked) = mirror("something else", answers).await;
        let content = Arc::new(Content::of(directory.path().to_owned(), vec![mirror]));
        let ask = async |version| content.waited_for(None, version, Digest::of(&[b"an entry"])).await.unwrap_err();
        for (version, times) in [(1, 1), (1, 1), (2, 2), (2, 2)] {
            let why = ask(version).await;
            assert!(matches!(&why, Unlisted::NotFetched(why) if matches!(**why, Unlisted::NoRegistry)), "{why}");
            assert_eq!(asked.load(Ordering::SeqCst), times);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_so_long() {
        let directory = tempfile::tempdir().unwrap();
        let content = Arc::new(Content::of(directory.path().to_owned(), Vec::new()));
        let _none = content.at_once.acquire_many(FETCHED_AT_ONCE as u32).await.unwrap();
        let begun = Instant::now();
        let why = content.waited_for(None, 1, Digest::of(&[b"an entry"])).await.unwrap_err();
        assert!(matches!(why, Unlisted::NotYet) && begun.elapsed() >= PATIENCE, "{why}");
    }

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
