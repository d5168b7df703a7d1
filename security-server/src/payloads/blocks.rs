//! Blocks of keys on disk: 4096 random keys in a file, all of which are erased at one time. A block is durable before its first
//! key is given out, and no key of a block that was there at a start is ever given out.
//!
//! | bytes | what |
//! |---|---|
//! | 25 | `causeway.payload-keys.v1\n` |
//! | 8 | when it is erased, in milliseconds since 1970, big-endian; 0: never |
//! | 16 | its name, random |
//! | 12 | nonce, random |
//! | 131,072 | its keys, 32 bytes each, encrypted with AES-256-GCM under the server's secret; the bytes before are authenticated |
//! | 16 | the tag |
//!
//! A key of zeros is one that was erased.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use hex::FromHex;
use journal::Disk;
use proto::time::Time;
use zeroize::Zeroizing;

/// Keys in a block.
pub const KEYS_OF_BLOCK: usize = 4096;
pub(super) const KEY_BYTES: usize = 32;
pub(super) const ERASED: [u8; KEY_BYTES] = [0; KEY_BYTES];
const MAGIC: &[u8] = b"causeway.payload-keys.v1\n";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 16;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const FILE_BYTES: usize = HEAD_BYTES + NONCE_BYTES + KEYS_OF_BLOCK * KEY_BYTES + TAG_BYTES;
const ENDING: &str = ".keys";
const UNFINISHED: &str = ".new";

/// Under which blocks are encrypted at rest.
pub struct Secret(LessSafeKey);

impl Secret {
    /// Of a private key that nothing else is done with: the bytes of its PKCS#8 document.
    pub fn of(pkcs8: &[u8]) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pkcs8), b"causeway/v1/payload-keys\n");
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("HMAC-SHA-256 has 32 bytes")))
    }
}

/// The random name of a block. No other block ever has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockName(pub [u8; 16]);

/// The keys of a block, in their order.
pub(super) type Keys = Zeroizing<Vec<[u8; KEY_BYTES]>>;

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NoBlock {
    /// It is not there.
    #[error("its block of keys, {0}, is not there; put the file back, if there is a copy")]
    Gone(String),
    /// It is not what was written.
    #[error("its block of keys, {0}, is damaged; put the file back, if there is a copy")]
    Damaged(String),
    /// The disk.
    #[error("its block of keys, {0}, cannot be read: {1}")]
    Disk(String, io::Error),
}

/// The blocks of a server.
pub struct Blocks {
    disk: Arc<dyn Disk>,
    secret: Secret,
    /// One changes the directory at a time.
    writing: Mutex<()>,
}

impl Blocks {
    /// On this disk, under this secret.
    pub fn new(disk: Arc<dyn Disk>, secret: Secret) -> Self {
        Self { disk, secret, writing: Mutex::default() }
    }

    /// A new block, durable when this returns. A crash before leaves a file that is never read, or a block of which no key was
    /// given out.
    pub(super) fn make(&self, until: Option<Time>) -> io::Result<(BlockName, Keys)> {
        let random = SystemRandom::new();
        let mut name = [0; 16];
        let mut keys: Keys = Zeroizing::new(vec![ERASED; KEYS_OF_BLOCK]);
        random.fill(&mut name).expect("the system's random source works, or nothing does");
        random.fill(keys.as_flattened_mut()).expect("the system's random source works, or nothing does");
        let name = BlockName(name);
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(until, name, &keys)?;
        Ok((name, keys))
    }

    /// The keys of a block, those that were erased as zeros.
    pub(super) fn read(&self, until: Option<Time>, name: BlockName) -> Result<Keys, NoBlock> {
        let file = file_name(until, name);
        let bytes = match self.disk.read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoBlock::Gone(file)),
            Err(error) => return Err(NoBlock::Disk(file, error)),
        };
        self.decrypted(bytes, until, name).ok_or(NoBlock::Damaged(file))
    }

    fn decrypted(&self, mut bytes: Vec<u8>, until: Option<Time>, name: BlockName) -> Option<Keys> {
        if bytes.len() != FILE_BYTES || bytes[..HEAD_BYTES] != head(until, name) {
            return None;
        }
        let (head, rest) = bytes.split_at_mut(HEAD_BYTES);
        let (nonce, sealed) = rest.split_at_mut(NONCE_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.secret.0.open_in_place(nonce, Aad::from(head), sealed).ok()?;
        let keys = Zeroizing::new(opened.as_chunks().0.to_vec());
        opened.fill(0);
        Some(keys)
    }

    /// Erases keys of a block; gives how many of them were still there. Durable when this returns. A crash before leaves the
    /// block as it was or as it is to be: whoever asked for it asks again.
    pub(super) fn erase(&self, until: Option<Time>, name: BlockName, slots: &BTreeSet<u32>) -> Result<usize, NoBlock> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.read(until, name)?;
        let mut erased = 0;
        for slot in slots {
            let Some(key) = keys.get_mut(*slot as usize) else { continue };
            erased += usize::from(*key != ERASED);
            *key = ERASED;
        }
        // Also where all of them are gone: the write before this one is perhaps not durable.
        self.write(until, name, &keys).map_err(|error| NoBlock::Disk(file_name(until, name), error))?;
        Ok(erased)
    }

    /// Removes the blocks whose time is over; gives how many. Durable when this returns. A crash before leaves some of them for
    /// the next time.
    pub(super) fn expire(&self, now: Time) -> io::Result<usize> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        for name in self.disk.list()? {
            let over = read_name(&name).is_some_and(|(until, _)| until.is_some_and(|until| until <= now));
            if over || name.ends_with(UNFINISHED) {
                self.disk.remove(&name)?;
                removed += usize::from(over);
            }
        }
        // Also where there was none: the sync after the last removal may have failed.
        self.disk.sync_directory()?;
        Ok(removed)
    }

    /// How many blocks there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> io::Result<usize> {
        Ok(self.disk.list()?.iter().filter(|name| read_name(name).is_some()).count())
    }

    /// Writes a block whole or not at all, in the place of the one of its name.
    fn write(&self, until: Option<Time>, name: BlockName, keys: &Keys) -> io::Result<()> {
        let file = file_name(until, name);
        let unfinished = format!("{file}{UNFINISHED}");
        match self.disk.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let bytes = self.encrypted(until, name, keys);
        let put = || {
            let mut written = self.disk.create(&unfinished)?;
            written.append(&bytes)?;
            written.sync()?;
            drop(written);
            self.disk.rename(&unfinished, &file)
        };
        // What is left half on a full disk would take the room that is freed there: every try has another name.
        put().inspect_err(|_| _ = self.disk.remove(&unfinished))?;
        self.disk.sync_directory()
    }

    fn encrypted(&self, until: Option<Time>, name: BlockName, keys: &Keys) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).expect("the system's random source works, or nothing does");
        let mut bytes = head(until, name);
        bytes.reserve_exact(FILE_BYTES - HEAD_BYTES);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(keys.as_flattened());
        let (head, rest) = bytes.split_at_mut(HEAD_BYTES);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let keys = &mut rest[NONCE_BYTES..];
        let tag = self.secret.0.seal_in_place_separate_tag(nonce, Aad::from(head), keys).expect("far below its limit");
        bytes.extend_from_slice(tag.as_ref());
        bytes
    }
}

fn head(until: Option<Time>, name: BlockName) -> Vec<u8> {
    [MAGIC, &until.unwrap_or_default().as_millis().to_be_bytes(), &name.0].concat()
}

/// Says when it is erased, so that what is over can be removed without being read.
fn file_name(until: Option<Time>, name: BlockName) -> String {
    let day = until.map_or_else(|| "always".to_owned(), |until| until.to_string().chars().take(10).collect());
    format!("{day}-{}{ENDING}", hex::encode(name.0))
}

fn read_name(file: &str) -> Option<(Option<Time>, BlockName)> {
    let (day, name) = file.strip_suffix(ENDING)?.rsplit_once('-')?;
    let until = match day {
        "always" => None,
        day => Some(format!("{day}T00:00:00Z").parse().ok()?),
    };
    let name = BlockName(<[u8; 16]>::from_hex(name).ok()?);
    (file_name(until, name) == file).then_some((until, name))
}

#[cfg(test)]
mod tests {
    use journal::faulty::{Fault, Faulty, Survival};

    use super::*;

    fn blocks(disk: &Arc<Faulty>) -> Blocks {
        let disk: Arc<dyn Disk> = Arc::clone(disk) as Arc<dyn Disk>;
        Blocks::new(disk, Secret::of(b"a secret"))
    }

    fn day(text: &str) -> Option<Time> {
        Some(format!("{text}T00:00:00Z").parse().unwrap())
    }

    fn files(disk: &Faulty) -> Vec<String> {
        disk.list().unwrap()
    }

    #[test]
    fn a_block_reads_as_it_was_made_and_by_its_own_secret_and_name_only() {
        let disk = Faulty::new();
        let until = day("2027-04-12");
        let (name, made) = blocks(&disk).make(until).unwrap();
        assert_eq!(*blocks(&disk).read(until, name).unwrap(), *made);
        assert_eq!(BTreeSet::from_iter(made.iter().copied()).len(), KEYS_OF_BLOCK, "each is another");
        assert!(!made.contains(&ERASED));
        let file = files(&disk).remove(0);
        assert!(file.starts_with("2027-04-12-") && read_name(&file) == Some((until, name)), "{file}");
        let bytes = disk.read(&file).unwrap();
        assert!(!bytes.windows(KEY_BYTES).any(|window| window == made[7]), "it is encrypted");

        let other = Blocks::new(Arc::clone(&disk) as Arc<dyn Disk>, Secret::of(b"another"));
        assert!(matches!(other.read(until, name), Err(NoBlock::Damaged(_))));
        assert!(matches!(blocks(&disk).read(None, name), Err(NoBlock::Gone(_))));
        // Another day's name does not make it another day's block.
        disk.put(&file_name(None, name), bytes.clone());
        assert!(matches!(blocks(&disk).read(None, name), Err(NoBlock::Damaged(_))));
        for at in [0, 30, 40, 50, 5000, FILE_BYTES - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            disk.put(&file, bytes);
            assert!(matches!(blocks(&disk).read(until, name), Err(NoBlock::Damaged(_))), "{at}");
        }
        for length in [0, 24, 60, FILE_BYTES - 1] {
            disk.put(&file, bytes[..length].to_vec());
            assert!(matches!(blocks(&disk).read(until, name), Err(NoBlock::Damaged(_))), "{length}");
        }
    }

    #[test]
    fn what_is_erased_stays_erased_and_the_others_stay() {
        let disk = Faulty::new();
        let (name, made) = blocks(&disk).make(None).unwrap();
        assert_eq!(blocks(&disk).erase(None, name, &BTreeSet::from([3, 9])).unwrap(), 2);
        assert_eq!(blocks(&disk).erase(None, name, &BTreeSet::from([9, 10, 70_000])).unwrap(), 1);
        let disk = disk.power_cut(Survival::Nothing);
        let read = blocks(&disk).read(None, name).unwrap();
        for slot in 0..KEYS_OF_BLOCK {
            let erased = [3, 9, 10].contains(&slot);
            assert_eq!(read[slot], if erased { ERASED } else { made[slot] }, "{slot}");
        }
    }

    #[test]
    fn a_block_goes_with_its_day_and_not_before() {
        let disk = Faulty::new();
        let blocks = blocks(&disk);
        let (until, later) = (day("2027-04-12"), day("2027-04-13"));
        for until in [None, until, later] {
            blocks.make(until).unwrap();
        }
        disk.put("2027-01-01-0.keys", Vec::new());
        disk.put("of-somebody-else", Vec::new());
        let at = |time: Time| blocks.expire(time).unwrap();
        assert_eq!(at(Time::from_millis(until.unwrap().as_millis() - 1)), 0);
        assert_eq!((at(until.unwrap()), blocks.count().unwrap()), (1, 2));
        assert_eq!((at(later.unwrap()), blocks.count().unwrap()), (1, 1));
        assert_eq!(at(Time::from_millis(u64::MAX)), 0, "always is always");
        assert_eq!(blocks.count().unwrap(), 1);
        assert_eq!(files(&disk.power_cut(Survival::Nothing)).len(), 3, "what is not ours is left alone");
    }

    /// Runs it with each operation failing in turn, in each way; gives it each disk that a crash there leaves.
    fn with_every_fault(
        arrange: impl Fn(&Arc<Faulty>),
        run: impl Fn(&Blocks) -> bool,
        check: impl Fn(bool, Arc<Faulty>),
    ) {
        let operations = {
            let disk = Faulty::new();
            arrange(&disk);
            let before = disk.operations();
            assert!(run(&blocks(&disk)));
            disk.operations() - before
        };
        assert!(operations >= 3, "it writes");
        for operation in 0..operations {
            for fault in Fault::HONEST {
                let disk = Faulty::new();
                arrange(&disk);
                disk.fail(operation, fault);
                let done = run(&blocks(&disk));
                check(done, disk.kill());
                for survival in [Survival::Nothing, Survival::Everything, Survival::Some(1), Survival::Some(2)] {
                    check(done, disk.power_cut(survival));
                }
            }
        }
    }

    #[test]
    fn no_crash_gives_out_a_key_that_is_not_on_disk_or_leaves_half_a_block() {
        let name = Mutex::new(None);
        let make = |blocks: &Blocks| {
            *name.lock().unwrap() = blocks.make(day("2027-04-12")).ok().map(|(name, keys)| (name, keys[5]));
            name.lock().unwrap().is_some()
        };
        with_every_fault(
            |_| {},
            make,
            |done, disk| {
                let found = blocks(&disk);
                for file in files(&disk).iter().filter_map(|file| read_name(file)) {
                    assert_eq!(
                        found.read(file.0, file.1).unwrap().len(),
                        KEYS_OF_BLOCK,
                        "whole, where it has its name"
                    );
                }
                if let Some((name, key)) = *name.lock().unwrap() {
                    assert_eq!(found.read(day("2027-04-12"), name).unwrap()[5], key);
                }
                assert_eq!(done, name.lock().unwrap().is_some());
                assert!(found.make(day("2027-04-12")).is_ok(), "the next start makes its own");
            },
        );
    }

    #[test]
    fn a_crash_while_keys_are_erased_leaves_them_all_or_none_and_what_was_told_holds() {
        let name = Mutex::new(None);
        with_every_fault(
            |disk| *name.lock().unwrap() = Some(blocks(disk).make(None).unwrap()),
            |blocks| {
                let block = name.lock().unwrap().as_ref().unwrap().0;
                blocks.erase(None, block, &BTreeSet::from([1, 2])).is_ok()
            },
            |done, disk| {
                let guard = name.lock().unwrap();
                let (name, made) = guard.as_ref().unwrap();
                let found = blocks(&disk).read(None, *name).unwrap();
                assert_eq!(found[1] == ERASED, found[2] == ERASED);
                assert!(!done || found[1] == ERASED, "it was told that they are erased");
                assert_eq!(found[3..], made[3..], "nothing else was lost");
                blocks(&disk).erase(None, *name, &BTreeSet::from([1, 2])).unwrap();
                assert_eq!(blocks(&disk).read(None, *name).unwrap()[1], ERASED, "asked again, it is done");
            },
        );
    }

    #[test]
    fn a_crash_while_blocks_expire_is_made_good_by_the_next_turn() {
        with_every_fault(
            |disk| {
                blocks(disk).make(day("2027-04-12")).unwrap();
                blocks(disk).make(day("2027-04-13")).unwrap();
                blocks(disk).make(None).unwrap();
            },
            |blocks| blocks.expire(day("2027-04-13").unwrap()).is_ok(),
            |done, disk| {
                assert!(!done || blocks(&disk).count().unwrap() == 1);
                // Where a failed sync left the disk with names that nobody sees any more, a power cut shows them again.
                for disk in [disk.power_cut(Survival::Nothing), disk] {
                    blocks(&disk).expire(day("2027-04-13").unwrap()).unwrap();
                    assert_eq!(blocks(&disk).count().unwrap(), 1);
                }
            },
        );
    }
}
