//! The preamble and the chunks (FORMAT.md 1 and 2): AES-256-GCM in a chain whose every place and whose end is
//! authenticated, so that a file of any length is written and read a chunk at a time and nothing of it is believed before
//! its chunk held.

use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::pbkdf2;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use keystore::Passphrase;
use zeroize::Zeroizing;

use crate::read::NotABackup;

const MAGIC: &[u8; 19] = b"causeway.backup.v1\n";
/// What every version's first bytes are.
const ANY_VERSION: &[u8] = b"causeway.backup.v";
/// How often PBKDF2 runs: a try of a passphrase takes about a quarter of a second, for the file may be anywhere.
pub(crate) const ITERATIONS: u32 = 600_000;
/// What a reader takes: dearer would let a file keep it busy, cheaper none of ours is.
pub(crate) const TAKEN: RangeInclusive<u32> = 100_000..=10_000_000;
const SALT_BYTES: usize = 32;
const SAID_BYTES: usize = MAGIC.len() + 4 + SALT_BYTES;
const PREAMBLE_BYTES: usize = SAID_BYTES + 32;
const CHUNK_BYTES: usize = 65_536;

type Preamble = [u8; PREAMBLE_BYTES];

struct Keys {
    check: hmac::Key,
    chunks: LessSafeKey,
}

impl Keys {
    fn derive(passphrase: &Passphrase, salt: &[u8], iterations: u32) -> Self {
        let mut main = Zeroizing::new([0; 32]);
        let iterations = NonZeroU32::new(iterations).expect("it was checked, or is ours");
        let secret = passphrase.reveal().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, secret, &mut *main);
        let main = hmac::Key::new(hmac::HMAC_SHA256, &*main);
        let derived = |purpose: &str| hmac::sign(&main, purpose.as_bytes());
        let chunks = UnboundKey::new(&AES_256_GCM, derived("causeway/v1/backup chunks").as_ref());
        Self {
            check: hmac::Key::new(hmac::HMAC_SHA256, derived("causeway/v1/backup check").as_ref()),
            chunks: LessSafeKey::new(chunks.expect("32 bytes are a key of AES-256")),
        }
    }
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    Nonce::assume_unique_for_key(nonce)
}

/// Seals what is written to it. Nothing of the last chunk is there before [`Sealing::finish`].
pub(crate) struct Sealing<W> {
    to: W,
    key: LessSafeKey,
    preamble: Preamble,
    held: Zeroizing<Vec<u8>>,
    next: u64,
}

impl<W: Write> Sealing<W> {
    pub fn begin(mut to: W, passphrase: &Passphrase, iterations: u32) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).expect("the system's random source works, or nothing does");
        let keys = Keys::derive(passphrase, &salt, iterations);
        let mut preamble = [0; PREAMBLE_BYTES];
        preamble[..MAGIC.len()].copy_from_slice(MAGIC);
        preamble[MAGIC.len()..][..4].copy_from_slice(&iterations.to_be_bytes());
        preamble[MAGIC.len() + 4..SAID_BYTES].copy_from_slice(&salt);
        let check = hmac::sign(&keys.check, &preamble[..SAID_BYTES]);
        preamble[SAID_BYTES..].copy_from_slice(check.as_ref());
        to.write_all(&preamble)?;
        let held = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + MAX_TAG_LEN));
        Ok(Self { to, key: keys.chunks, preamble, held, next: 0 })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let (nonce, aad) = (nonce(self.next, last), Aad::from(self.preamble));
        let sealed = self.key.seal_in_place_append_tag(nonce, aad, &mut *self.held);
        sealed.map_err(|_| io::Error::other("a chunk cannot be encrypted"))?;
        self.to.write_all(&self.held)?;
        self.held.clear();
        self.next += 1;
        Ok(())
    }

    /// Seals what is left as the last chunk.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for the byte after it: only then is it known not to be the last.
        if self.held.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what is read from it, chunk by chunk.
pub(crate) struct Opening<R> {
    from: R,
    key: LessSafeKey,
    preamble: Preamble,
    /// What was read ahead of this chunk's end, to know whether it is the last.
    ahead: Option<u8>,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    next: u64,
    ended: bool,
}

/// A chunk does not hold; it travels in an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("chunk {0} is not as it was written: the file was changed, or ends too early")]
pub(crate) struct Changed(u64);

impl<R: Read> Opening<R> {
    pub fn begin(mut from: R, passphrase: &Passphrase, taken: &RangeInclusive<u32>) -> Result<Self, NotABackup> {
        let mut preamble = [0; PREAMBLE_BYTES];
        let mut known = 0;
        while known < PREAMBLE_BYTES {
            match from.read(&mut preamble[known..]).map_err(NotABackup::Unreadable)? {
                0 => break,
                read => known += read,
            }
        }
        if !preamble.starts_with(MAGIC) {
            let other = preamble[..known].starts_with(ANY_VERSION);
            return Err(if other { NotABackup::OtherVersion } else { NotABackup::None });
        }
        if known < PREAMBLE_BYTES {
            return Err(NotABackup::Damaged("it ends within its preamble".into()));
        }
        let iterations = preamble[MAGIC.len()..][..4].try_into().map(u32::from_be_bytes).unwrap_or_default();
        if !taken.contains(&iterations) {
            return Err(NotABackup::Passphrase);
        }
        let keys = Keys::derive(passphrase, &preamble[MAGIC.len() + 4..SAID_BYTES], iterations);
        hmac::verify(&keys.check, &preamble[..SAID_BYTES], &preamble[SAID_BYTES..])
            .map_err(|_| NotABackup::Passphrase)?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + MAX_TAG_LEN));
        Ok(Self { from, key: keys.chunks, preamble, ahead: None, chunk, at: 0, next: 0, ended: false })
    }

    fn open(&mut self) -> io::Result<()> {
        self.chunk.clear();
        self.chunk.extend(self.ahead.take());
        let wanted = CHUNK_BYTES + MAX_TAG_LEN - self.chunk.len();
        self.from.by_ref().take(wanted as u64).read_to_end(&mut self.chunk)?;
        let mut ahead = [0];
        let more = self.chunk.len() == CHUNK_BYTES + MAX_TAG_LEN && read_one(&mut self.from, &mut ahead)?;
        self.ahead = more.then_some(ahead[0]);
        let (nonce, aad) = (nonce(self.next, !more), Aad::from(self.preamble));
        let opened = self.key.open_in_place(nonce, aad, &mut self.chunk);
        let changed = || io::Error::new(io::ErrorKind::InvalidData, Changed(self.next));
        let length = opened.map_err(|_| changed())?.len();
        self.chunk.truncate(length);
        (self.at, self.ended) = (0, !more);
        self.next += 1;
        Ok(())
    }
}

fn read_one(from: &mut impl Read, into: &mut [u8; 1]) -> io::Result<bool> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map(|read| read == 1),
        }
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.ended || into.is_empty() {
                return Ok(0);
            }
            self.open()?;
        }
        let taken = into.len().min(self.chunk.len() - self.at);
        into[..taken].copy_from_slice(&self.chunk[self.at..][..taken]);
        self.at += taken;
        Ok(taken)
    }
}
