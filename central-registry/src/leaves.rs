//! The leaves of the ledger of what was published, for whoever must see that it only grew (PROTOCOL.md 8.4). They stand in
//! pages beside the published files, are shared between one publication and the next, and are a view: the register knows
//! the ledger itself, and the journal every leaf.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use proto::digest::Digest;
use proto::global_configuration::ledger::{Ended, Ledger, PAGE, page_file};
use proto::merkle::Frontier;
use proto::wire::registry::File;

/// Unfinished pages of older versions that are kept for mirrors which are being copied meanwhile.
const UNFINISHED_KEPT: u64 = 64;
const LEAF_BYTES: usize = 32;
const PAGE_BYTES: usize = PAGE as usize * LEAF_BYTES;

/// The leaves of each ledger, by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaves(BTreeMap<Digest, Grown>);

/// Finished pages, and the leaves of the next one.
#[derive(Clone, Debug, Default)]
struct Grown {
    finished: Vec<Bytes>,
    unfinished: Vec<u8>,
}

impl Grown {
    fn size(&self) -> u64 {
        self.finished.len() as u64 * PAGE + (self.unfinished.len() / LEAF_BYTES) as u64
    }

    fn push(&mut self, leaf: &Digest) {
        self.unfinished.extend(leaf.as_bytes());
        if self.unfinished.len() == PAGE_BYTES {
            self.finished.push(std::mem::take(&mut self.unfinished).into());
        }
    }

    /// The page, with so many leaves.
    fn page(&self, page: u64, leaves: u64) -> Option<Bytes> {
        let bytes = match self.finished.get(usize::try_from(page).ok()?) {
            Some(finished) => finished.clone(),
            None if page == self.finished.len() as u64 => Bytes::copy_from_slice(&self.unfinished),
            None => return None,
        };
        let length = usize::try_from(leaves).ok()?.checked_mul(LEAF_BYTES)?;
        (length <= bytes.len() && length > 0).then(|| bytes.slice(..length))
    }

    fn leaves(&self) -> impl Iterator<Item = Digest> + '_ {
        let all = self.finished.iter().map(AsRef::as_ref).chain([self.unfinished.as_slice()]);
        let all = all.flat_map(|page: &[u8]| page.chunks_exact(LEAF_BYTES));
        all.map(|leaf| Digest::try_from(leaf).expect("a chunk of 32 bytes"))
    }

    fn is(&self, size: u64, root: Digest) -> bool {
        let mut frontier = Frontier::default();
        self.leaves().for_each(|leaf| drop(frontier.append(leaf)));
        (frontier.size(), frontier.root()) == (size, root)
    }
}

impl Leaves {
    /// One more of this ledger.
    pub fn push(&mut self, ledger: Digest, leaf: &Digest) {
        self.0.entry(ledger).or_default().push(leaf);
    }

    /// Reads the pages of these files.
    pub fn read(public: &Path, ledger: &Ledger) -> io::Result<Self> {
        let mut leaves = Self::default();
        for (name, size) in ends(ledger) {
            let grown = leaves.0.entry(name).or_default();
            for page in 0..size.div_ceil(PAGE) {
                let path = public.join(page_file(&name, page, PAGE.min(size - page * PAGE)));
                let Ok(bytes) = fs::read(&path) else { break };
                let read = bytes.chunks_exact(LEAF_BYTES).take(PAGE as usize);
                read.for_each(|leaf| grown.push(&Digest::try_from(leaf).expect("a chunk of 32 bytes")));
            }
        }
        Ok(leaves)
    }

    /// Whether these are all leaves of the ledger, and of those before it.
    pub fn are_all_of(&self, ledger: &Ledger) -> bool {
        let own = ledger.checkpoint();
        let before = ledger.geneses().iter().filter_map(|genesis| genesis.before.as_ref());
        let before = before.map(|Ended { ledger, size, root }| (*ledger, *size, *root));
        let mut all = before.chain([(own.ledger, own.size, own.root)]);
        all.all(|(name, size, root)| self.0.get(&name).map_or(size == 0, |grown| grown.is(size, root)))
    }

    /// Those of this ledger after so many, if they are known up to this size.
    pub fn after(&self, ledger: &Digest, known: u64, size: u64) -> Option<Vec<Digest>> {
        let grown = self.0.get(ledger).filter(|grown| grown.size() == size)?;
        Some(grown.leaves().skip(usize::try_from(known).ok()?).collect())
    }

    /// The file, if it is a page of these leaves.
    pub fn file(&self, name: &str) -> Option<Bytes> {
        let (ledger, page) = name.strip_prefix("ledger/")?.split_once('/')?;
        let (page, leaves) = page.split_once('-')?;
        let (ledger, page, leaves) = (ledger.parse().ok()?, page.parse().ok()?, leaves.parse().ok()?);
        let is_name = page_file(&ledger, page, leaves) == name && leaves <= PAGE;
        self.0.get(&ledger).filter(|_| is_name)?.page(page, leaves)
    }

    /// The pages that lead from what holds the checkpoint of this version to the ledger as it is.
    pub fn since(&self, ledger: &Ledger, version: u64) -> Vec<File> {
        let mut end = ledger.size();
        for (at, genesis) in ledger.geneses().iter().enumerate() {
            if genesis.first <= version {
                let (name, from) = (genesis.name(), version - genesis.first + 1);
                // Of the ledger that goes on, the last leaf is the version itself.
                let to = if at == 0 { end.saturating_sub(1) } else { end };
                return if from < to { self.pages(&name, from / PAGE, end) } else { Vec::new() };
            }
            end = genesis.before.as_ref().map_or(0, |before| before.size);
        }
        Vec::new()
    }

    /// Every page, of every ledger.
    pub fn all(&self) -> Vec<File> {
        self.0.iter().flat_map(|(name, grown)| self.pages(name, 0, grown.size())).collect()
    }

    /// The page that the last leaf is in.
    pub fn newest(&self, ledger: &Ledger) -> Vec<File> {
        let size = ledger.size();
        self.pages(&ledger.name(), size.saturating_sub(1) / PAGE, size)
    }

    fn pages(&self, ledger: &Digest, first: u64, size: u64) -> Vec<File> {
        let Some(grown) = self.0.get(ledger) else { return Vec::new() };
        let page = |page: u64| {
            let leaves = PAGE.min(size - page * PAGE);
            Some(File { name: page_file(ledger, page, leaves), content: grown.page(page, leaves)? })
        };
        (first..size.div_ceil(PAGE)).filter_map(page).collect()
    }
}

/// The unfinished page that nobody copies any more.
pub(crate) fn outdated(ledger: &Ledger) -> Option<String> {
    let size = ledger.size().checked_sub(UNFINISHED_KEPT).filter(|size| size % PAGE != 0)?;
    Some(page_file(&ledger.name(), size / PAGE, size % PAGE))
}

/// The ledger and those before it, each with its size.
fn ends(ledger: &Ledger) -> impl Iterator<Item = (Digest, u64)> + '_ {
    let before = ledger.geneses().iter().filter_map(|genesis| genesis.before.as_ref());
    before.map(|before| (before.ledger, before.size)).chain([(ledger.name(), ledger.size())])
}

#[cfg(test)]
mod tests {
    use proto::global_configuration::ledger::leaf;

    use super::*;

    fn grown(versions: u64) -> (Ledger, Leaves) {
        let instance = "VN".parse().unwrap();
        let (mut ledger, mut leaves) = (Ledger::awaiting(None, &instance, 5), Leaves::default());
        for version in 5..5 + versions {
            let digest = Digest::of(&[&version.to_be_bytes()]);
            ledger.append(&digest);
            leaves.push(ledger.name(), &leaf(version, &digest));
        }
        (ledger, leaves)
    }

    #[test]
    fn pages_are_read_back_as_they_were_written() {
        for versions in [1, 255, 256, 257, 600] {
            let directory = tempfile::tempdir().unwrap();
            let (ledger, leaves) = grown(versions);
            assert!(leaves.are_all_of(&ledger));
            crate::spread::write(directory.path(), &leaves.all()).unwrap();
            let read = Leaves::read(directory.path(), &ledger).unwrap();
            assert!(read.are_all_of(&ledger), "{versions}");
            assert_eq!(read.all(), leaves.all());
            // A bit that is another is noticed, and so is a page that is gone.
            let last = directory.path().join(&leaves.all().last().unwrap().name);
            let mut bytes = fs::read(&last).unwrap();
            bytes[0] ^= 1;
            fs::write(&last, &bytes).unwrap();
            assert!(!Leaves::read(directory.path(), &ledger).unwrap().are_all_of(&ledger));
            fs::remove_file(&last).unwrap();
            assert!(!Leaves::read(directory.path(), &ledger).unwrap().are_all_of(&ledger));
        }
    }

    #[test]
    fn who_lacks_nothing_is_given_no_page_and_who_lacks_much_only_the_pages_of_it() {
        let (ledger, leaves) = grown(600);
        let names = |version| leaves.since(&ledger, version).into_iter().map(|file| file.name).collect::<Vec<_>>();
        let page = |page, count| page_file(&ledger.name(), page, count);
        assert_eq!(names(604), Vec::<String>::new());
        assert_eq!(names(603), Vec::<String>::new(), "its leaf is known to whoever has the version");
        assert_eq!(names(602), [page(2, 88)]);
        assert_eq!(names(5 + 255), [page(1, 256), page(2, 88)]);
        assert_eq!(names(5 + 254), [page(0, 256), page(1, 256), page(2, 88)]);
        assert_eq!(names(4), Vec::<String>::new(), "before there was a ledger");
        assert_eq!(leaves.file(&page(2, 88)).unwrap().len(), 88 * 32);
        assert_eq!(leaves.file(&page(2, 87)).unwrap().len(), 87 * 32);
        for none in [page(2, 89), page(3, 1), page(2, 0), page(0, 256).replace("/0-", "/00-"), "ledger/x/0-1".into()] {
            assert_eq!(leaves.file(&none), None, "{none}");
        }
    }
}
