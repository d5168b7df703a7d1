//! What this server holds of its peers' logs, and whether what it sees now follows from it (PROTOCOL.md 5.5). A peer that was
//! put back from a backup has lost what came after it, and does not know what; who talked to it does.
//!
//! Nothing is refused here: a lost tail is an alarm, and the messages themselves are in this server's log.

mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use proto::consistency::{SignedHead, Verdict, shown_by_genesis, shown_by_head};
use proto::contradiction::Contradiction;
use proto::digest::Digest;
use proto::head::Head;
use proto::identifier::ServerId;
use proto::message::Header;
use proto::record::{Genesis, TreeName};
use proto::seal::Sender;
use proto::time::Time;
use proto::transport::MAX_SKEW;
use proto::wire::relay as wire;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::audit::{Alarm, Finding, named};
use crate::quota::Bucket;

pub use views::SUSPECTS;
pub(crate) use views::Split;

/// Trees that are remembered of one owner's log: each start of a peer makes one.
pub const REMEMBERED_TREES: usize = 64;
/// Alarms that one owner's log may raise: a burst, and a second's worth. A peer cannot fill the audit log.
const ALARMS_OF_ONE: (f64, f64) = (16.0, 16.0 / 3600.0);
/// Alarms that wait to be noted.
const ALARMS_WAITING: usize = 256;
/// Heads of one owner's log that it is asked about in one round.
pub const ASKED_AT_ONCE: usize = 8;

/// Whose log: the member and the server of its geneses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogOwner {
    /// The member.
    pub member: String,
    /// The server.
    pub server: String,
}

impl LogOwner {
    /// As the genesis says, which was found to be the sender's.
    pub fn of(genesis: &Genesis) -> Self {
        Self { member: genesis.content.member.clone(), server: genesis.content.server.clone() }
    }
}

impl LogOwner {
    /// As evidence names it. None where it is no name of the grammar.
    pub fn sender(&self) -> Option<Sender> {
        Some(Sender { member: self.member.parse().ok()?, server: self.server.parse().ok()? })
    }
}

/// A tree of a peer's log, as far as it was seen. Every time is the sender's.
#[derive(Clone, PartialEq, Debug)]
pub struct SeenTree {
    /// Its name.
    tree: Digest,
    /// The tree before, its size and root, as this one's genesis says.
    before: Option<(Digest, u64, Option<Digest>)>,
    /// The largest head of it that was seen signed.
    size: u64,
    root: Digest,
    /// The signature over it, and whose.
    key: Digest,
    signature: Bytes,
    /// The tree's genesis record.
    genesis: Bytes,
    /// The exchange whose message bore that head.
    exchange: String,
    first: Time,
    last: Time,
    /// Up to which size the log itself was asked, and contained it.
    proved: u64,
    /// Whether it ended, and a newer tree was seen to follow from it: there is nothing left to ask.
    joined: bool,
    /// When a newer tree of the same owner was seen that does not follow from it.
    left: Option<(Time, Digest)>,
}

impl SeenTree {
    /// Of a message that was verified.
    pub fn of(genesis: &Genesis, signed: &SignedHead, header: &Header) -> Self {
        let digest = |bytes: &[u8]| Digest::try_from(bytes).ok();
        let (content, head) = (&genesis.content, &signed.head);
        Self {
            tree: head.tree.0,
            before: digest(&content.before).map(|tree| (tree, content.before_size, digest(&content.before_root))),
            size: head.size,
            root: head.root,
            key: signed.key,
            signature: signed.signature.clone(),
            genesis: genesis.record.as_bytes().clone(),
            exchange: named(header.exchange),
            first: header.time,
            last: header.time,
            proved: 0,
            joined: false,
            left: None,
        }
    }

    /// The largest head of it that was seen.
    pub fn signed(&self) -> SignedHead {
        let head = Head { tree: TreeName(self.tree), size: self.size, root: self.root };
        SignedHead { head, key: self.key, signature: self.signature.clone() }
    }

    /// When it was heard of last.
    pub fn last(&self) -> Time {
        self.last
    }

    /// As the index keeps it, with its owner.
    pub fn to_bytes(&self, owner: &LogOwner) -> Vec<u8> {
        let kept = Kept {
            member: owner.member.clone(),
            server: owner.server.clone(),
            tree: self.tree.to_string(),
            before: self.before.map(|(tree, size, root)| (tree.to_string(), size, root.map(|root| root.to_string()))),
            size: self.size,
            root: self.root.to_string(),
            key: self.key.to_string(),
            signature: hex::encode(&self.signature),
            genesis: hex::encode(&self.genesis),
            exchange: self.exchange.clone(),
            first: self.first.as_millis(),
            last: self.last.as_millis(),
        };
        serde_json::to_vec(&kept).expect("texts and numbers")
    }

    /// Back from [`SeenTree::to_bytes`]; none where it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<(LogOwner, Self)> {
        let kept: Kept = serde_json::from_slice(bytes).ok()?;
        let before = match kept.before {
            None => None,
            Some((tree, size, None)) => Some((tree.parse().ok()?, size, None)),
            Some((tree, size, Some(root))) => Some((tree.parse().ok()?, size, Some(root.parse().ok()?))),
        };
        let seen = Self {
            tree: kept.tree.parse().ok()?,
            before,
            size: kept.size,
            root: kept.root.parse().ok()?,
            key: kept.key.parse().ok()?,
            signature: hex::decode(kept.signature).ok()?.into(),
            genesis: hex::decode(kept.genesis).ok()?.into(),
            exchange: kept.exchange,
            first: Time::from_millis(kept.first),
            last: Time::from_millis(kept.last),
            proved: 0,
            joined: false,
            left: None,
        };
        Some((LogOwner { member: kept.member, server: kept.server }, seen))
    }

    /// Takes in what another message of the same tree shows.
    pub fn extend_to(&mut self, signed: &SignedHead, header: &Header) {
        (self.first, self.last) = (self.first.min(header.time), self.last.max(header.time));
        if signed.head.size > self.size {
            (self.size, self.root) = (signed.head.size, signed.head.root);
            (self.key, self.signature) = (signed.key, signed.signature.clone());
            self.exchange = named(header.exchange);
        }
    }
}

/// A tree as the index keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    member: String,
    server: String,
    tree: String,
    before: Option<(String, u64, Option<String>)>,
    size: u64,
    root: String,
    key: String,
    signature: String,
    genesis: String,
    exchange: String,
    first: u64,
    last: u64,
}

/// What the threads share.
pub struct Witness {
    owners: Mutex<HashMap<LogOwner, Owned>>,
    /// Trees of which it was proved that they were lost or rewritten: nobody is asked about them again.
    told: Mutex<BTreeSet<String>>,
    alarms: mpsc::Sender<Raised>,
    /// Peers that named another digest of a version, and of which.
    suspects: Mutex<BTreeMap<ServerId, u64>>,
    suspected: Notify,
    /// Whose checkpoints were asked for last, in the rounds of all peers.
    last_compared: Mutex<Option<ServerId>>,
}

/// An alarm that is to be noted, and the proof of it where there is one.
pub struct Raised {
    /// The alarm.
    pub alarm: Alarm,
    /// What contradicts what.
    pub contradiction: Option<Contradiction>,
}

struct Owned {
    trees: Vec<SeenTree>,
    /// The newest head that the log showed when it was asked, its tree's genesis, and the exchange of the head that was asked
    /// about.
    shown: Option<Asked>,
    /// Whether it was said that the log proves nothing, and has proved nothing since.
    unproven: bool,
    alarms: Bucket,
}

impl Owned {
    fn of(trees: Vec<SeenTree>) -> Self {
        let (burst, per_second) = ALARMS_OF_ONE;
        Self { trees, shown: None, unproven: false, alarms: Bucket::new(burst, per_second) }
    }
}

/// A head that its log is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The head.
    pub held: SignedHead,
    /// The genesis record of its tree.
    pub genesis: Bytes,
    /// The exchange in which it was seen, or by which it was found.
    pub exchange: String,
}

/// What contradicts what was held.
struct Found {
    finding: Finding,
    held_in: String,
    shown: Option<(SignedHead, Bytes, wire::Joined)>,
}

impl Found {
    fn of(known: &SeenTree, finding: Finding, joined: Option<wire::Joined>) -> Self {
        let shown = joined.map(|joined| (known.signed(), known.genesis.clone(), joined));
        Self { finding, held_in: known.exchange.clone(), shown }
    }
}

impl Witness {
    /// Begins with what the log held at the start, and the trees whose loss is proved in the audit log. Alarms come out of
    /// the other end.
    pub fn of(seen: Vec<(LogOwner, SeenTree)>, told: BTreeSet<String>) -> (Self, mpsc::Receiver<Raised>) {
        let mut owners: HashMap<LogOwner, Owned> = HashMap::new();
        for (owner, tree) in seen {
            owners.entry(owner).or_insert_with(|| Owned::of(Vec::new())).trees.push(tree);
        }
        for owned in owners.values_mut() {
            owned.trees.sort_by_key(|tree| tree.first);
            // What was found when each was new, without crying out again.
            for at in 1..owned.trees.len() {
                let (known, new) = owned.trees.split_at_mut(at);
                contradictions(known, &new[0]);
            }
        }
        let (alarms, noted) = mpsc::channel(ALARMS_WAITING);
        let (suspects, suspected) = (Mutex::default(), Notify::new());
        let (owners, told, last_compared) = (Mutex::new(owners), Mutex::new(told), Mutex::default());
        (Self { owners, told, alarms, suspects, suspected, last_compared }, noted)
    }

    /// Takes in a head whose signature held, with the message that bore it. `now` is this server's time.
    pub fn see(&self, genesis: &Genesis, signed: &SignedHead, header: &Header, now: Time) {
        let (owner, seen) = (LogOwner::of(genesis), SeenTree::of(genesis, signed, header));
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = owners.entry(owner.clone()).or_insert_with(|| Owned::of(Vec::new()));
        let found = match owned.trees.iter_mut().find(|known| known.tree == seen.tree) {
            Some(known) => {
                known.extend_to(signed, header);
                goes_on(known, header.time).into_iter().collect()
            }
            None => {
                let found = contradictions(&mut owned.trees, &seen);
                owned.trees.push(seen);
                forget_the_oldest(&mut owned.trees);
                found
            }
        };
        for found in found {
            self.raise(owned, &owner, found, &named(header.exchange), now);
        }
    }

    /// Two signed heads of one tree at one size bear two roots (PROTOCOL.md 5.3): no crash, restore or clone does that.
    pub fn fork(&self, genesis: &Genesis, signed: &SignedHead, other: &SignedHead, header: &Header, now: Time) {
        let (owner, head) = (LogOwner::of(genesis), &signed.head);
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = owners.entry(owner.clone()).or_insert_with(|| Owned::of(Vec::new()));
        let known = owned.trees.iter().find(|known| known.tree == head.tree.0);
        let held_in = known.map_or_else(|| named(header.exchange), |known| known.exchange.clone());
        let roots = [other.head.root.to_string(), head.root.to_string()];
        let finding = Finding::Fork { tree: head.tree.to_string(), size: head.size, roots };
        let shown = Some((other.clone(), genesis.record.as_bytes().clone(), shown_by_head(signed)));
        self.raise(owned, &owner, Found { finding, held_in, shown }, &named(header.exchange), now);
    }

    /// What the logs are to be asked about: of each the heads that were seen and not proved yet, and the newest one that it
    /// showed itself.
    pub fn to_ask(&self) -> Vec<(LogOwner, Vec<Asked>)> {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let of_owner = |owned: &Owned| {
            let mut trees: Vec<_> = owned.trees.iter().filter(|tree| !tree.joined && tree.size > tree.proved).collect();
            trees.sort_by_key(|tree| std::cmp::Reverse(tree.last));
            let seen = trees.into_iter().map(|tree| {
                let (held, genesis) = (tree.signed(), tree.genesis.clone());
                Asked { held, genesis, exchange: tree.exchange.clone() }
            });
            let asked = owned.shown.iter().cloned().chain(seen);
            asked.filter(|asked| !told.contains(&asked.held.head.tree.to_string())).take(ASKED_AT_ONCE).collect()
        };
        owners
            .iter()
            .map(|(owner, owned)| (owner.clone(), of_owner(owned)))
            .filter(|(_, asked): &(_, Vec<_>)| !asked.is_empty())
            .collect()
    }

    /// Takes in what a log answered, whose newest head's signature held, and what that comes to.
    pub fn answered(&self, owner: &LogOwner, asked: &Asked, answer: Answer, now: Time) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(owned) = owners.get_mut(owner) else { return };
        let Answer { joined, verdict, newest, genesis } = answer;
        let head = &asked.held.head;
        let (tree, held, root) = (head.tree.to_string(), head.size, head.root.to_string());
        let finding = match verdict {
            Verdict::Late => return,
            Verdict::Contained => {
                owned.unproven = false;
                for known in owned.trees.iter_mut().filter(|known| known.tree == head.tree.0) {
                    known.proved = known.proved.max(head.size);
                    known.joined |= newest.head.tree != head.tree && known.size <= head.size;
                }
                let genesis = genesis.unwrap_or_else(|| asked.genesis.clone());
                owned.shown = Some(Asked { held: newest, genesis, exchange: asked.exchange.clone() });
                return;
            }
            Verdict::LostTail { ended, successor } => {
                Finding::LostTail { tree: tree.clone(), ended, held, root, successor: successor.to_string() }
            }
            Verdict::LostTree { .. } => {
                let successor = newest.head.tree.to_string();
                Finding::LostTail { tree: tree.clone(), ended: 0, held, root, successor }
            }
            Verdict::Fork { root: other } => {
                Finding::Fork { tree: tree.clone(), size: held, roots: [root, other.to_string()] }
            }
        };
        if !self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(tree) {
            return;
        }
        owned.shown = None;
        let shown = Some((asked.held.clone(), asked.genesis.clone(), joined));
        self.raise(owned, owner, Found { finding, held_in: asked.exchange.clone(), shown }, ASKED, now);
    }

    /// A log answered, and its answer proves nothing. Said once, until it proves something again.
    pub fn proves_nothing(&self, owner: &LogOwner, asked: &Asked, why: String, now: Time) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(owned) = owners.get_mut(owner) else { return };
        if std::mem::replace(&mut owned.unproven, true) {
            return;
        }
        let head = &asked.held.head;
        let finding = Finding::Unproven { tree: head.tree.to_string(), held: head.size, why };
        let found = Found { finding, held_in: asked.exchange.clone(), shown: None };
        self.raise(owned, owner, found, ASKED, now);
    }

    /// A log shows two newest trees, again and again: two servers answer.
    pub fn shows_two(&self, owner: &LogOwner, [tree, other]: [TreeName; 2], exchange: &str, now: Time) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(owned) = owners.get_mut(owner) else { return };
        if std::mem::replace(&mut owned.unproven, true) {
            return;
        }
        let finding = Finding::RunsTwice { tree: tree.to_string(), other: other.to_string() };
        self.raise(owned, owner, Found { finding, held_in: exchange.to_owned(), shown: None }, ASKED, now);
    }

    /// Cries out at once; the entry follows, and no exchange waits for it.
    fn raise(&self, owned: &mut Owned, owner: &LogOwner, found: Found, seen_in: &str, now: Time) {
        let (Found { finding, held_in, shown }, LogOwner { member, server }) = (found, owner);
        metrics::counter!("causeway_peer_log_alarms_total", "finding" => finding.word()).increment(1);
        cry(&finding, member, server, &held_in, seen_in);
        if !owned.alarms.take() {
            return;
        }
        let contradiction = shown
            .and_then(|(held, genesis, joined)| Some(Contradiction { of: owner.sender()?, genesis, held, joined }));
        let (member, server, seen_in) = (member.clone(), server.clone(), seen_in.to_owned());
        let alarm = Alarm { at: now.as_millis(), member, server, finding, held_in, seen_in, evidence: None };
        if self.alarms.try_send(Raised { alarm, contradiction }).is_err() {
            tracing::error!("an alarm about a peer's log could not be noted in the audit log: too many wait");
        }
    }
}

/// What an alarm names in the place of an exchange, where the log itself was asked.
pub const ASKED: &str = "asked";

/// Says at once what was found, to whoever reads the diagnostics.
fn cry(finding: &Finding, member: &str, server: &str, held_in: &str, seen_in: &str) {
    match finding {
        Finding::LostTail { tree, ended, held, .. } => tracing::error!(
            member,
            server,
            tree,
            held_in,
            seen_in,
            "A PEER'S LOG HAS LOST ITS TAIL: by its own word it ended at {ended} commits, and this server holds its signed \
             head at {held}. Was it put back from a backup? Keep this server's log: it has what is lost there"
        ),
        Finding::Fork { tree, size, .. } => tracing::error!(
            member,
            server,
            tree,
            size,
            held_in,
            seen_in,
            "A PEER'S LOG HAS FORKED: two heads of one size conflict. Keep this server's log, and tell the central registry"
        ),
        Finding::RunsTwice { tree, other } => tracing::error!(
            member,
            server,
            tree,
            other,
            held_in,
            seen_in,
            "A PEER RUNS TWICE with one key and one name: tell its admin to stop one of the two"
        ),
        Finding::Unproven { tree, held, why } => tracing::error!(
            member,
            server,
            tree,
            held_in,
            why,
            "A PEER'S LOG DOES NOT PROVE that it still contains the {held} commits that it signed: ask its admin why"
        ),
        Finding::LostEnd { ledger, ended, held, .. } => tracing::error!(
            ledger,
            held_in,
            "THE END OF THE REGISTRY'S LEDGER IS LOST, by its own word: {ended} leaves are left of {held} that were held here"
        ),
        Finding::SplitView { of, version, checkpoints } => tracing::error!(
            server,
            of,
            version,
            ours = checkpoints[0],
            theirs = checkpoints[1],
            "THE REGISTRY SHOWS TWO CONFIGURATIONS: it signed two histories of what it published, and this server has one of them. \
             `evidence contradiction` writes the proof. Tell the other members and the holders of the root, on another way than \
             this bus; exchanges go on as far as both say the same"
        ),
    }
}

/// What a log answered.
pub struct Answer {
    /// As it came.
    pub joined: wire::Joined,
    /// What it comes to.
    pub verdict: Verdict,
    /// The head that it shows.
    pub newest: SignedHead,
    /// The genesis record of that head's tree, where it is another than the one asked about.
    pub genesis: Option<Bytes>,
}

fn forget_the_oldest(trees: &mut Vec<SeenTree>) {
    if trees.len() > REMEMBERED_TREES
        && let Some((oldest, _)) = trees.iter().enumerate().min_by_key(|(_, tree)| tree.last)
    {
        trees.swap_remove(oldest);
    }
}

/// What a tree that is new here contradicts of those that are known (PROTOCOL.md 5.5). Each finding comes with the exchange
/// that bore what is held.
fn contradictions(known: &mut [SeenTree], new: &SeenTree) -> Vec<Found> {
    let mut found = Vec::new();
    let Some((before, ended, root)) = new.before else {
        // A log that begins anew knows of no tree before it.
        leave_behind(known, new, None, &mut found);
        return found;
    };
    let Some(at) = known.iter().position(|tree| tree.tree == before) else {
        // It may have started several times since it was last heard of: nothing can be said.
        return found;
    };
    if known[at].size > ended {
        let shown = shown_by_genesis(new.genesis.clone(), None, &new.signed());
        found.push(Found::of(&known[at], known[at].lost(ended, new), Some(shown)));
        known[at].left = Some((new.first, new.tree));
    }
    if let Some(root) = root.filter(|root| known[at].size == ended && known[at].root != *root) {
        let roots = [known[at].root.to_string(), root.to_string()];
        let fork = Finding::Fork { tree: before.to_string(), size: ended, roots };
        let shown = shown_by_genesis(new.genesis.clone(), Some(root), &new.signed());
        found.push(Found::of(&known[at], fork, Some(shown)));
    }
    // A server's time never goes back, not by a restart neither: what it sealed after the tree that the new one names as
    // the one before, and before the new one, is in no past of the new one.
    let after = known[at].last;
    leave_behind(known, new, Some(after), &mut found);
    found
}

fn leave_behind(known: &mut [SeenTree], new: &SeenTree, after: Option<Time>, found: &mut Vec<Found>) {
    // A log that begins anew proves by its genesis that it has no tree before. Between two trees it is the times that tell,
    // and only the log's own answer proves it.
    let shown = after.is_none().then(|| shown_by_genesis(new.genesis.clone(), None, &new.signed()));
    let is_between = |tree: &SeenTree| match after {
        None => tree.first < new.first,
        Some(after) => after < tree.first && tree.first < new.first,
    };
    for tree in known.iter_mut().filter(|tree| is_between(tree)) {
        found.push(Found::of(tree, tree.lost(0, new), shown.clone()));
        tree.left = Some((new.first, new.tree));
    }
}

/// Whether a tree that was left behind is written on. Its last messages may be late, by no more than clocks may differ.
fn goes_on(known: &mut SeenTree, time: Time) -> Option<Found> {
    let (left, other) = known.left?;
    if time <= left.plus(MAX_SKEW) {
        return None;
    }
    known.left = None;
    let twice = Finding::RunsTwice { tree: known.tree.to_string(), other: other.to_string() };
    Some(Found::of(known, twice, None))
}

impl SeenTree {
    fn lost(&self, ended: u64, successor: &SeenTree) -> Finding {
        Finding::LostTail {
            tree: self.tree.to_string(),
            ended,
            held: self.size,
            root: self.root.to_string(),
            successor: successor.tree.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(&[name.as_bytes()])
    }

    /// A tree of this name after another that ended at a size, seen at a size and from one second to another.
    fn tree(name: &str, before: Option<(&str, u64)>, size: u64, seconds: (u64, u64)) -> SeenTree {
        SeenTree {
            tree: digest(name),
            before: before.map(|(before, ended)| (digest(before), ended, Some(digest(&format!("{before}{ended}"))))),
            size,
            root: digest(&format!("{name}{size}")),
            key: digest("key"),
            signature: Bytes::from_static(b"signature"),
            genesis: Bytes::from(format!("genesis of {name}")),
            exchange: format!("of {name}"),
            first: Time::from_millis(seconds.0 * 1000),
            last: Time::from_millis(seconds.1 * 1000),
            proved: 0,
            joined: false,
            left: None,
        }
    }

    fn found(known: &[SeenTree], new: &SeenTree) -> Vec<String> {
        let found = contradictions(&mut known.to_vec(), new);
        let shown = found.iter().map(|Found { finding, held_in, .. }| match finding {
            Finding::LostTail { ended, held, .. } => format!("{held_in}: lost, {ended} of {held}"),
            Finding::Fork { size, .. } => format!("{held_in}: fork at {size}"),
            Finding::RunsTwice { .. } => format!("{held_in}: twice"),
            Finding::Unproven { .. } | Finding::SplitView { .. } | Finding::LostEnd { .. } => {
                format!("{held_in}: {}", finding.word())
            }
        });
        shown.collect()
    }

    #[test]
    fn restarts_and_crashes_contradict_nothing() {
        let a = tree("a", None, 10, (0, 10));
        assert!(found(std::slice::from_ref(&a), &tree("b", Some(("a", 10)), 1, (11, 11))).is_empty());
        assert!(
            found(std::slice::from_ref(&a), &tree("b", Some(("a", 12)), 1, (11, 11))).is_empty(),
            "more than we saw"
        );
        assert!(found(std::slice::from_ref(&a), &tree("d", Some(("c", 3)), 1, (30, 30))).is_empty(), "starts unseen");
        let b = tree("b", Some(("a", 10)), 5, (11, 20));
        assert!(found(&[a.clone(), b.clone()], &tree("c", Some(("b", 5)), 1, (21, 21))).is_empty());
        // A late message of an older tree, when younger ones are known already.
        assert!(found(std::slice::from_ref(&b), &a).is_empty());
        let d = tree("d", Some(("c", 3)), 1, (30, 30));
        assert!(found(&[a, d], &tree("b", Some(("a", 10)), 1, (15, 15))).is_empty());
    }

    #[test]
    fn a_successor_that_ends_a_tree_too_early_has_lost_its_tail() {
        let a = tree("a", None, 10, (0, 10));
        assert_eq!(found(&[a], &tree("r", Some(("a", 7)), 1, (20, 20))), ["of a: lost, 7 of 10"]);
    }

    #[test]
    fn a_tree_between_the_one_before_and_the_new_one_is_lost_whole() {
        let (a, b) = (tree("a", None, 10, (0, 10)), tree("b", Some(("a", 12)), 5, (11, 20)));
        let restored = tree("r", Some(("a", 7)), 1, (30, 30));
        assert_eq!(found(&[a.clone(), b.clone()], &restored), ["of a: lost, 7 of 10", "of b: lost, 0 of 5"]);
        // The tree between need not be the one that directly followed.
        let d = tree("d", Some(("unseen", 3)), 4, (15, 20));
        assert_eq!(found(&[a.clone(), d], &tree("r", Some(("a", 10)), 1, (30, 30))), ["of d: lost, 0 of 4"]);
        assert_eq!(found(&[a, b], &tree("n", None, 1, (30, 30))), ["of a: lost, 0 of 10", "of b: lost, 0 of 5"]);
    }

    #[test]
    fn another_root_at_the_end_of_a_tree_is_a_fork() {
        let mut a = tree("a", None, 10, (0, 10));
        a.root = digest("rewritten");
        assert_eq!(found(&[a], &tree("b", Some(("a", 10)), 1, (11, 11))), ["of a: fork at 10"]);
    }

    #[test]
    fn a_tree_left_behind_that_goes_on_runs_twice() {
        let mut known = [tree("a", None, 10, (0, 10))];
        assert_eq!(contradictions(&mut known, &tree("r", Some(("a", 7)), 1, (20, 20))).len(), 1);
        let after = |seconds: u64| Time::from_millis(20_000 + seconds * 1000);
        assert!(goes_on(&mut known[0], after(60)).is_none(), "sent before, come late");
        assert!(matches!(goes_on(&mut known[0], after(61)), Some(Found { finding: Finding::RunsTwice { .. }, .. })));
        assert!(goes_on(&mut known[0], after(62)).is_none(), "said once");
    }

    #[test]
    fn the_index_gives_back_what_was_seen() {
        let owner = LogOwner { member: "VN/GOV/moj".into(), server: "VN/GOV/moj/ss1".into() };
        for seen in [tree("a", None, 10, (0, 10)), tree("b", Some(("a", 10)), 1, (11, 12))] {
            assert_eq!(SeenTree::from_bytes(&seen.to_bytes(&owner)), Some((owner.clone(), seen)));
        }
        assert_eq!(SeenTree::from_bytes(b"{}"), None);
    }

    #[test]
    fn what_is_remembered_of_one_log_is_bounded_and_the_youngest() {
        let mut trees: Vec<_> = (0..=REMEMBERED_TREES as u64).map(|n| tree(&n.to_string(), None, 1, (n, n))).collect();
        forget_the_oldest(&mut trees);
        assert_eq!(trees.len(), REMEMBERED_TREES);
        assert!(trees.iter().all(|tree| tree.tree != digest("0")));
    }
}
