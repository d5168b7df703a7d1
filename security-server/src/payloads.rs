//! Payloads that are kept. Of each service the configuration file says whether, and for how long; of all others nothing is kept.
//!
//! A payload is kept beside its message's record, outside of the tree, encrypted (proto/journal/FORMAT.md 9): there it is durable with
//! the record, and is never touched again. What can be erased is its key. Each exchange has a key of its own, and each of its
//! messages one that is derived from it: as a direction's commitments open with the secret in its first payload only, less than an
//! exchange could not be shown anyway. Keys are made in advance, a block of them for a day at which they are erased, so that an
//! exchange takes one from memory. Where there is none, the exchange is refused, rather than recorded without what is to be kept.

mod blocks;
mod policy;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use bytes::Bytes;
use journal::{Directory, Disk};
use keystore::{Cost, KeyError, Passphrase};
use prost::Message;
use proto::digest::Digest;
use proto::global_configuration::Freshness;
use proto::identifier::ExchangeId;
use proto::message::{Header, Route};
use proto::record::decode_canonical;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::relay as wire;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use blocks::{Blocks, KEYS_OF_BLOCK, NoBlock, Secret};
pub use policy::{Keep, MAX_DAYS, Policy};

use crate::SecurityServer;
use crate::audit::{Actor, Noted, named};
use crate::files;
use crate::message_log::{OpenError, kept_beside};

use self::blocks::{BlockName, ERASED, KEY_BYTES, Keys};

/// Where the blocks of keys stand, in the server's directory.
pub const PAYLOAD_KEYS: &str = "payload-keys";
/// The key file under which they are encrypted at rest: a private key that nothing else is done with.
pub const SECRET: &str = "secret.pem";
/// How often the tide looks for blocks whose time is over, and for a day that is about to begin.
pub const TURN_INTERVAL: Duration = Duration::from_secs(60);
/// How long it waits after a turn that failed, however many exchanges want a key.
const AGAIN: Duration = Duration::from_secs(1);
/// Blocks of today's keys that are in memory: one that is taken from, and one ahead.
const BLOCKS_AHEAD: usize = 2;
/// The nonce of every payload: each has a key of its own.
const NONCE: [u8; 12] = [0; 12];
const DAY: Duration = Duration::from_millis(policy::DAY_MS);

// What is kept always fits beside its record: the encoding adds a few bytes to each piece.
const _: () = assert!(2 * proto::transport::MAX_FRAME_BYTES < journal::MAX_RECORD_BYTES);

/// What is kept, and the keys for it.
pub struct Payloads {
    policy: Policy,
    keys: Result<Blocks, NoSecret>,
    /// Keys that were not given out, by when they are erased.
    ready: Mutex<BTreeMap<Option<Time>, VecDeque<Ready>>>,
    wanted: Notify,
    /// One turn at a time; and of which day it is known that all is erased that is over.
    turning: Mutex<Option<u64>>,
    failed: Mutex<Option<String>>,
}

/// Keys of a block that were not given out: the last is the next.
struct Ready {
    block: BlockName,
    keys: Keys,
}

/// No key can be made or read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoSecret(String);

/// Where there is nothing to open.
const NEVER: &str = "no payload was ever kept here";

/// What the payloads of one exchange are kept under, on one side of it.
pub struct Keeping {
    until: Option<Time>,
    block: BlockName,
    slot: u32,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keeping {
    /// What is kept beside a message. None: it carries nothing.
    pub(crate) fn kept(&self, header: &Header, payload: Option<&wire::Payload>) -> Option<wire::KeptPayload> {
        let mut bytes = payload.filter(|payload| **payload != wire::Payload::default())?.encode_to_vec();
        let digest = header.digest();
        let key = key_of_message(&self.key, &digest);
        let (nonce, about) = (Nonce::assume_unique_for_key(NONCE), Aad::from(digest.as_bytes()));
        key.seal_in_place_append_tag(nonce, about, &mut bytes).expect("far below its limit");
        Some(wire::KeptPayload {
            block: Bytes::copy_from_slice(&self.block.0),
            slot: self.slot,
            expires: self.until.unwrap_or_default().as_millis(),
            ciphertext: bytes.into(),
        })
    }
}

/// HMAC-SHA-256 under the exchange's key of "causeway/v1/payload\n" and the header's digest: no other message has it.
fn key_of_message(key: &[u8; KEY_BYTES], header: &Digest) -> LessSafeKey {
    let mut signed = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    signed.update(b"causeway/v1/payload\n");
    signed.update(header.as_bytes());
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, signed.sign().as_ref()).expect("HMAC-SHA-256 has 32 bytes"))
}

/// Why a payload is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// It was not kept, or there was nothing to keep.
    NeverKept,
    /// The time for which it was kept is over.
    Expired(Time),
    /// Somebody erased it.
    Erased,
    /// It should be there.
    Lost(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverKept => f.write_str("never kept"),
            Self::Expired(at) => write!(f, "expired {at}"),
            Self::Erased => f.write_str("erased"),
            Self::Lost(why) => write!(f, "lost: {why}"),
        }
    }
}

/// Opens the blocks of a server with this directory. Makes directory and secret where payloads are to be kept for the first time.
/// What cannot be used stops no server: what is to be kept is refused, and everything else goes on.
pub fn open_blocks(directory: &Path, passphrase: &Passphrase, cost: Cost, first: bool) -> Result<Blocks, NoSecret> {
    let keys = directory.join(PAYLOAD_KEYS);
    if !first && !keys.exists() {
        return Err(NoSecret(NEVER.into()));
    }
    let pkcs8 = secret(&keys, passphrase, cost)?;
    Ok(Blocks::new(Arc::new(Directory(keys)), Secret::of(&pkcs8)))
}

fn secret(keys: &Path, passphrase: &Passphrase, cost: Cost) -> Result<Zeroizing<Vec<u8>>, NoSecret> {
    let file = |error: io::Error| NoSecret(format!("{}: {error}; check the directory and its disk", keys.display()));
    let path = keys.join(SECRET);
    // Its file, its name and its directory's own: whoever made it was perhaps killed before they were durable.
    let sync = || [&path, keys, keys.parent().unwrap_or(Path::new("."))].iter().try_for_each(|each| files::sync(each));
    let opened = match keystore::open_pkcs8(&path, passphrase) {
        Ok(pkcs8) => return sync().map(|()| pkcs8).map_err(file),
        Err(error) => error,
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(keys).map_err(file)?;
    let blocks = Directory(keys.to_owned()).list().map_err(file)?;
    let made_half = match &opened {
        KeyError::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
        // A crash while it was made: nothing was ever encrypted under it.
        KeyError::Format { .. } => true,
        _ => false,
    };
    if !made_half || blocks.iter().any(|name| name != SECRET) {
        return Err(NoSecret(format!(
            "{opened}. Without it nothing that is kept can be read: put the file back, or, to give that up, remove {}",
            keys.display()
        )));
    }
    files::remove(&path).map_err(file)?;
    let (_, pkcs8) = SigningKey::generate();
    let unmade = |error: KeyError| NoSecret(error.to_string());
    keystore::create(&path, &Zeroizing::new(pkcs8), passphrase, cost).map_err(unmade)?;
    sync().map_err(file)?;
    keystore::open_pkcs8(&path, passphrase).map_err(unmade)
}

impl Payloads {
    /// With this policy, and these blocks of keys.
    pub fn new(policy: Policy, keys: Result<Blocks, NoSecret>) -> Self {
        let (ready, turning, failed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { policy, keys, ready, wanted: Notify::new(), turning, failed }
    }

    /// Of a server that keeps nothing, and never did.
    pub fn nothing() -> Self {
        Self::new(Policy::default(), Err(NoSecret(NEVER.into())))
    }

    /// What is kept of which service.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Why payloads that are to be kept cannot be, or keys that are over not be erased, where that is so.
    pub fn hindered(&self) -> Option<String> {
        match &self.keys {
            // What was kept before cannot be read or erased, whatever is to be kept from now on.
            Err(no_secret) => (!self.policy.is_empty() || no_secret.0 != NEVER).then(|| no_secret.to_string()),
            Ok(_) => self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What the payloads of an exchange on this route are kept under. None: they are not kept. Waits for nothing: where no key is
    /// in memory, it says so.
    pub(crate) fn key_for(&self, route: &Route, now: Time) -> Result<Option<Box<Keeping>>, &'static str> {
        if self.policy.is_empty() {
            return Ok(None);
        }
        let Some(keep) = self.policy.for_route(route) else { return Ok(None) };
        let until = keep.until(now);
        let mut ready = self.ready();
        let taken = ready.get_mut(&until).and_then(|blocks| {
            while blocks.front()?.keys.is_empty() {
                blocks.pop_front();
            }
            let Ready { block, keys } = blocks.front_mut()?;
            let (block, key) = (*block, Zeroizing::new(keys.pop()?));
            Some((Keeping { until, block, slot: keys.len() as u32, key }, blocks.len() < BLOCKS_AHEAD))
        });
        drop(ready);
        if taken.as_ref().is_none_or(|(_, few)| *few) {
            self.wanted.notify_one();
        }
        let none = "payloads of this service are kept, and no key is ready for them: is the disk full? See status";
        taken.map(|(keeping, _)| Some(Box::new(keeping))).ok_or(none)
    }

    fn ready(&self) -> MutexGuard<'_, BTreeMap<Option<Time>, VecDeque<Ready>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One turn of the tide: makes the keys of today, one block ahead, and of tomorrow, and, where the clock is one to be believed,
    /// erases those whose time is over. Blocks on the disk.
    pub fn turn(&self, now: Time, believed: bool) -> Result<(), NoSecret> {
        let mut erased_on = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(blocks) = &self.keys else { return Ok(()) };
        let mut turned = self.make_keys(blocks, now);
        // Whatever the clock says next, within one day nothing more is over.
        let today = Some(now.as_millis() / policy::DAY_MS);
        if believed && *erased_on != today {
            match blocks.expire(now) {
                Ok(removed) => {
                    *erased_on = today;
                    if removed > 0 {
                        tracing::info!(removed, "blocks of payloads' keys are over, and erased");
                    }
                }
                Err(error) => {
                    turned = turned.and(Err(NoSecret(format!("keys that are over cannot be erased: {error}"))));
                }
            }
        }
        let failed = turned.as_ref().err().map(|failed| failed.to_string());
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        turned
    }

    fn make_keys(&self, blocks: &Blocks, now: Time) -> Result<(), NoSecret> {
        let mut wanted = BTreeMap::new();
        for term in self.policy.terms() {
            // An exchange that was judged just before midnight may still come for its key.
            wanted.entry(term.until(now.minus(DAY))).or_insert(0);
            wanted.entry(term.until(now.plus(DAY))).or_insert(1);
            wanted.insert(term.until(now), BLOCKS_AHEAD);
        }
        self.ready().retain(|until, _| wanted.contains_key(until));
        for (until, count) in wanted {
            while self.ready().get(&until).map_or(0, |ready| ready.iter().filter(|each| !each.keys.is_empty()).count())
                < count
            {
                let made = blocks.make(until);
                let (block, keys) =
                    made.map_err(|error| NoSecret(format!("keys for payloads cannot be made: {error}")))?;
                self.ready().entry(until).or_default().push_back(Ready { block, keys });
            }
        }
        Ok(())
    }

    /// For reading what is kept, now.
    pub(crate) fn reading(&self, now: Time) -> Reading<'_> {
        Reading { payloads: self, now, blocks: HashMap::new() }
    }
}

/// Reads payloads, each block of keys once.
pub(crate) struct Reading<'p> {
    payloads: &'p Payloads,
    now: Time,
    blocks: HashMap<(Option<Time>, BlockName), Result<Keys, String>>,
}

impl Reading<'_> {
    /// Whether the key of a payload is there.
    pub fn key(&mut self, kept: &wire::KeptPayload) -> Result<Zeroizing<[u8; KEY_BYTES]>, Missing> {
        let named = Named::of(kept)?;
        match named.until.filter(|until| *until <= self.now) {
            Some(until) => Err(Missing::Expired(until)),
            None => self.stored(named),
        }
    }

    /// Whether this key is on disk, over or not.
    fn stored(&mut self, Named { until, block, slot }: Named) -> Result<Zeroizing<[u8; KEY_BYTES]>, Missing> {
        let blocks = self.payloads.keys.as_ref().map_err(|no_secret| Missing::Lost(no_secret.to_string()))?;
        let keys = self.blocks.entry((until, block));
        let keys = keys.or_insert_with(|| blocks.read(until, block).map_err(|why| why.to_string()));
        match keys.as_ref().map_err(|why| Missing::Lost(why.clone()))?.get(slot as usize) {
            Some(&ERASED) => Err(Missing::Erased),
            Some(key) => Ok(Zeroizing::new(*key)),
            None => Err(Missing::Lost("no block has so many keys".into())),
        }
    }

    /// The payload of the message with this header.
    pub fn open(&mut self, kept: &wire::KeptPayload, header: &Header) -> Result<wire::Payload, Missing> {
        let key = self.key(kept)?;
        let digest = header.digest();
        let mut bytes = kept.ciphertext.to_vec();
        let (nonce, about) = (Nonce::assume_unique_for_key(NONCE), Aad::from(digest.as_bytes()));
        let opened = key_of_message(&key, &digest).open_in_place(nonce, about, &mut bytes).ok();
        let payload = opened.and_then(|opened| decode_canonical(&Bytes::copy_from_slice(opened), "Payload").ok());
        payload.ok_or_else(|| Missing::Lost("what is kept does not open with its key; verify the log".into()))
    }
}

/// Which key a payload is kept under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    until: Option<Time>,
    block: BlockName,
    slot: u32,
}

impl Named {
    fn of(kept: &wire::KeptPayload) -> Result<Self, Missing> {
        let block = kept.block.as_ref().try_into().map(BlockName);
        let block = block.map_err(|_| Missing::Lost("the name of its block of keys has not 16 bytes".into()))?;
        let until = (kept.expires != 0).then(|| Time::from_millis(kept.expires));
        Ok(Self { until, block, slot: kept.slot })
    }
}

/// Keeps keys ready, and erases those whose time is over.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    if server.payloads.keys.is_err() {
        return;
    }
    loop {
        let turning = Arc::clone(&server);
        let turned = tokio::task::spawn_blocking(move || turning.turn_payload_keys()).await;
        let failed = !matches!(turned, Ok(Ok(())));
        if let Ok(Err(error)) = turned {
            tracing::error!(%error, "keys for payloads");
        }
        let pause = async {
            if failed {
                tokio::time::sleep(AGAIN).await;
            }
            tokio::select! {
                () = server.payloads.wanted.notified() => {}
                () = tokio::time::sleep(TURN_INTERVAL) => {}
            }
        };
        tokio::select! {
            () = last.cancelled() => return,
            () = pause => {}
        }
    }
}

/// The payloads of an exchange, erased or to be erased.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErasedPayloads {
    /// Of which exchange.
    pub exchange: String,
    /// Of how many of its messages.
    pub messages: usize,
}

/// Why payloads were not erased.
#[derive(Debug, thiserror::Error)]
pub enum NotErased {
    /// There is no such exchange.
    #[error("exchange {0} is not in this server's log; ask at the server that the call went through")]
    Unknown(ExchangeId),
    /// Nothing of it is there.
    #[error(
        "no payload of exchange {0} is kept here: none ever was, or they have expired or were erased before; `security-server \
         exchange {0}` says which"
    )]
    NothingKept(ExchangeId),
    /// A block of keys cannot be changed.
    #[error("not all of it is erased: {0}; do it again when that is mended")]
    Block(String),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// It cannot be noted.
    #[error("nothing is erased, as it cannot be noted in the audit log: {0}")]
    NotNoted(#[from] journal::Ended),
    /// A thread.
    #[error("not all of it is erased: {0}; do it again")]
    Thread(#[from] tokio::task::JoinError),
}

impl SecurityServer {
    /// One turn of the payloads' tide. The clock is believed to say that a day is over while the global configuration, which the
    /// registry signs each minute, is fresh by it: a clock that jumps ahead erases nothing, and while the registry is away nothing
    /// is erased either.
    pub fn turn_payload_keys(&self) -> Result<(), NoSecret> {
        let now = self.message_log.not_before_last(self.clock.now());
        self.payloads.turn(now, self.freshness() == Freshness::Fresh)
    }

    /// For reading what is kept, by the clock of now: never earlier than what the log has.
    pub(crate) fn reading_payloads(&self) -> Reading<'_> {
        self.payloads.reading(self.message_log.not_before_last(self.clock.now()))
    }

    /// How many messages' payloads [`SecurityServer::erase_payloads`] would erase. Reads the disk.
    pub fn erasable_payloads(&self, exchange: ExchangeId) -> Result<ErasedPayloads, NotErased> {
        let Stored { messages, lost, .. } = self.stored_keys(exchange)?;
        match (messages, lost) {
            (0, Some(why)) => Err(NotErased::Block(why)),
            (0, None) => Err(NotErased::NothingKept(exchange)),
            _ => Ok(ErasedPayloads { exchange: named(exchange), messages }),
        }
    }

    /// Erases the keys of all payloads that are kept of an exchange, which is noted first: a crash in between leaves the note, and
    /// whoever was not answered asks again.
    pub async fn erase_payloads(
        self: Arc<Self>,
        exchange: ExchangeId,
        reason: String,
        by: Actor,
    ) -> Result<ErasedPayloads, NotErased> {
        let server = Arc::clone(&self);
        let Stored { messages, keys, lost } =
            tokio::task::spawn_blocking(move || server.stored_keys(exchange)).await??;
        if messages > 0 {
            let at = self.clock.now().as_millis();
            self.audit.note(&Noted::PayloadsErased { at, by, exchange: named(exchange), reason }).await?;
        }
        // Those that were erased before too: that was perhaps not durable.
        tokio::task::spawn_blocking(move || self.payloads.erase(&keys)).await??;
        match (messages, lost) {
            (_, Some(why)) => Err(NotErased::Block(why)),
            (0, None) => Err(NotErased::NothingKept(exchange)),
            _ => Ok(ErasedPayloads { exchange: named(exchange), messages }),
        }
    }

    fn stored_keys(&self, exchange: ExchangeId) -> Result<Stored, NotErased> {
        let records = self.message_log.find(exchange)?;
        if records.is_empty() {
            return Err(NotErased::Unknown(exchange));
        }
        let mut reading = self.reading_payloads();
        let mut stored = Stored::default();
        for kept in records.iter().filter_map(kept_beside) {
            let named = match Named::of(&kept) {
                Ok(named) => named,
                Err(why) => {
                    stored.lost.get_or_insert(why.to_string());
                    continue;
                }
            };
            match reading.stored(named) {
                Ok(_) => stored.messages += 1,
                Err(Missing::Erased) => {}
                // Its time is over, and it is gone.
                Err(_) if named.until.is_some_and(|until| until <= reading.now) => continue,
                Err(why) => {
                    stored.lost.get_or_insert(why.to_string());
                    continue;
                }
            }
            stored.keys.insert(named);
        }
        Ok(stored)
    }
}

/// The keys of an exchange's payloads that are on disk.
#[derive(Default)]
struct Stored {
    /// Of how many messages the key was not erased yet.
    messages: usize,
    /// All of them, those that were erased too.
    keys: BTreeSet<Named>,
    /// Why another one is not there, though its time is not over.
    lost: Option<String>,
}

impl Payloads {
    fn erase(&self, keys: &BTreeSet<Named>) -> Result<(), NotErased> {
        if keys.is_empty() {
            return Ok(());
        }
        let blocks = self.keys.as_ref().map_err(|no_secret| NotErased::Block(no_secret.to_string()))?;
        let mut of_block: BTreeMap<(Option<Time>, BlockName), BTreeSet<u32>> = BTreeMap::new();
        for Named { until, block, slot } in keys {
            of_block.entry((*until, *block)).or_default().insert(*slot);
        }
        for ((until, block), slots) in of_block {
            blocks.erase(until, block, &slots).map_err(|why| NotErased::Block(why.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use journal::faulty::Faulty;
    use proto::message::Operation;

    use super::*;

    fn payloads(disk: &Arc<Faulty>, keep: Keep) -> Payloads {
        let kept = ("VN/GOV/moj/civil-registry".parse().unwrap(), "echo.v1.Echo".to_owned(), keep);
        let disk: Arc<dyn Disk> = Arc::clone(disk) as Arc<dyn Disk>;
        Payloads::new(Policy::of([kept]), Ok(Blocks::new(disk, Secret::of(b"a secret"))))
    }

    fn route(path: &str) -> Route {
        Route {
            instance: "VN".parse().unwrap(),
            consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
            consumer_server: "VN/GOV/portal/ss1".parse().unwrap(),
            provider: "VN/GOV/moj/civil-registry".parse().unwrap(),
            provider_server: "VN/GOV/moj/ss1".parse().unwrap(),
            operation: Operation::Grpc(path.parse().unwrap()),
        }
    }

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    #[test]
    fn no_key_is_given_out_twice_also_after_a_start_and_none_where_none_is_kept() {
        let disk = Faulty::new();
        let mut seen = HashSet::new();
        for _ in 0..2 {
            let payloads = payloads(&disk, Keep::Days(1));
            assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW).is_err(), "none is ready yet");
            payloads.turn(NOW, true).unwrap();
            for taken in 0..2 * KEYS_OF_BLOCK {
                let keeping = payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW).unwrap();
                let keeping = keeping.unwrap_or_else(|| panic!("{taken}"));
                assert!(seen.insert((keeping.block, keeping.slot)) && seen.len() <= 4 * KEYS_OF_BLOCK);
                assert_ne!(*keeping.key, ERASED);
            }
            assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW).is_err(), "the tide is behind");
            payloads.turn(NOW, true).unwrap();
            assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW).unwrap().is_some());
            for other in ["/echo.v1.Echo2/Unary", "/echo.v1/Unary"] {
                assert!(payloads.key_for(&route(other), NOW).unwrap().is_none());
            }
            assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW.plus(DAY)).unwrap().is_some(), "tomorrow's");
            assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW.plus(2 * DAY)).is_err());
        }
    }

    #[test]
    fn a_disk_that_is_full_is_told_and_goes_on_by_itself() {
        let disk = Faulty::new();
        let payloads = payloads(&disk, Keep::Always);
        disk.limit(1000, 0);
        payloads.turn(NOW, true).unwrap_err();
        assert!(payloads.hindered().unwrap().contains("cannot be made"));
        assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW).is_err());
        disk.limit(1 << 30, 0);
        payloads.turn(NOW, true).unwrap();
        assert_eq!(payloads.hindered(), None);
        assert!(payloads.key_for(&route("/echo.v1.Echo/Unary"), NOW).unwrap().is_some());
    }

    #[test]
    fn a_clock_that_is_not_believed_erases_nothing() {
        let disk = Faulty::new();
        let payloads = payloads(&disk, Keep::Days(1));
        payloads.turn(NOW, true).unwrap();
        let before = payloads.keys.as_ref().unwrap().count().unwrap();
        payloads.turn(NOW.plus(1000 * DAY), false).unwrap();
        assert!(payloads.keys.as_ref().unwrap().count().unwrap() > before);
        payloads.turn(NOW, true).unwrap();
        let after = payloads.keys.as_ref().unwrap().count().unwrap();
        payloads.turn(NOW.plus(1000 * DAY), true).unwrap();
        assert!(payloads.keys.as_ref().unwrap().count().unwrap() < after);
    }

    #[test]
    fn keys_that_are_over_and_cannot_be_erased_are_told_also_where_nothing_is_kept_any_more() {
        let disk = Faulty::new();
        payloads(&disk, Keep::Days(1)).turn(NOW, true).unwrap();
        let blocks = Blocks::new(Arc::clone(&disk) as Arc<dyn Disk>, Secret::of(b"a secret"));
        let (later, payloads) = (NOW.plus(4 * DAY), Payloads::new(Policy::default(), Ok(blocks)));
        disk.mount_read_only(true);
        payloads.turn(later, true).unwrap_err();
        assert!(payloads.hindered().unwrap().contains("cannot be erased"));
        disk.mount_read_only(false);
        payloads.turn(later, true).unwrap();
        assert_eq!((payloads.hindered(), payloads.keys.as_ref().unwrap().count().unwrap()), (None, 0));
    }

    #[test]
    fn a_secret_is_made_once_and_never_again_over_blocks_that_need_it() {
        let directory = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::new("correct horse".to_owned()).unwrap();
        let open = |first| open_blocks(directory.path(), &passphrase, Cost::dangerously_cheap(), first);
        assert!(open(false).is_err() && !directory.path().join(PAYLOAD_KEYS).exists());
        let secret = directory.path().join(PAYLOAD_KEYS).join(SECRET);
        // What a crash leaves that made it half.
        fs::create_dir(directory.path().join(PAYLOAD_KEYS)).unwrap();
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let (name, made) = open(true).unwrap().make(None).unwrap();
        assert_eq!(*open(false).unwrap().read(None, name).unwrap(), *made);
        let other = Passphrase::new("another horse".to_owned()).unwrap();
        let refused = open_blocks(directory.path(), &other, Cost::dangerously_cheap(), true).err().unwrap();
        assert!(refused.to_string().contains("put the file back"), "{refused}");
        // That is told though nothing is to be kept any more; of a server that never kept anything there is nothing to tell.
        let told = Payloads::new(Policy::default(), Err(refused)).hindered();
        assert!(told.is_some_and(|why| why.contains("put the file back")));
        assert_eq!(
            Payloads::new(
                Policy::default(),
                open_blocks(&directory.path().join("x"), &other, Cost::dangerously_cheap(), false)
            )
            .hindered(),
            None
        );
        assert_eq!(Payloads::nothing().hindered(), None);
        fs::remove_file(&secret).unwrap();
        let refused = open(true).err().unwrap().to_string();
        assert!(refused.contains("secret.pem") && refused.contains("put the file back"), "{refused}");
        assert!(!secret.exists());
    }
}
