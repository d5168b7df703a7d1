//! The first start after the registry was put back from a backup. Its journal ends where the backup was made, and the world
//! went on: versions were published since that the journal does not know, of members that it does not know.
//!
//! Two things follow, both recorded before anything is signed. What was published since and is at hand counts, since
//! everybody was told. And no version that may have been given to anybody is ever signed again: the registry passes over
//! more of them than there can have been.

use std::collections::{BTreeMap, BTreeSet};

use proto::global_configuration::document::MemberDocument;
use proto::global_configuration::ledger::{Genesis, Ledger};
use proto::head::Head;
use proto::identifier::MemberId;
use proto::signature::KeyId;
use proto::time::Time;

use crate::history::History;
use crate::publish::Publication;
use crate::register::{Entry, Event, Hex, Refused, Register};

/// Versions that are passed over, whatever the time: two years of one a minute.
pub const PASSED_OVER: u64 = 1_000_000;
/// And so many more for each second since the last entry of the journal: more than decisions can be made.
pub const PASSED_OVER_A_SECOND: u64 = 1;

/// Leaves of the ledger in one entry that takes them up; of more there are several.
pub const ADOPTED_LEAVES: usize = 4096;

/// Records what follows from the restore. `found` is what was published last, as far as it is at hand. A crash in here is
/// a start that does it again: what was adopted is no difference any more, and more versions are passed over.
pub(crate) async fn note(
    history: &mut History,
    register: &mut Register,
    found: &Publication,
    backup: String,
    now: Time,
) -> Result<(), Refused> {
    let version = found.version();
    let since = now.as_millis().saturating_sub(register.last().as_millis()) / 1000;
    let newest = version.max(register.published());
    let passes_over = newest + PASSED_OVER + since * PASSED_OVER_A_SECOND;
    if version > register.published() {
        for (member, document) in differences(register, found) {
            let is_there = if document.is_some() { "as it was published" } else { "gone, as was published" };
            tracing::warn!(%member, version, "after the restore the register takes this member up {is_there}");
            let document = document.map(Box::new);
            record(history, register, now, Event::Adopted { version, member, document }).await?;
        }
    }
    if version > register.published() {
        for (key, last_head) in revocations(register, found) {
            tracing::warn!(%key, version, "after the restore the register takes up that this key is revoked");
            record(history, register, now, Event::AdoptedRevocation { version, key: Hex(key), last_head }).await?;
        }
    }
    tracing::warn!(
        backup,
        taken_up = newest,
        passes_over,
        "THE REGISTRY WAS PUT BACK FROM A BACKUP: what was decided since and not published is lost. Look at `members` and \
         `requests`, and decide again what is missing"
    );
    let lacking = if version > register.published() { leaves_since(register, found) } else { Vec::new() };
    let follows = |known: &Ledger| found.ledger().is_none_or(|published| published.name() == known.name());
    if lacking.is_empty()
        && version > register.published()
        && !register.ledger().is_some_and(follows)
        && found.ledger().is_some()
    {
        tracing::error!(
            version,
            "THE LEDGER THAT WAS PUBLISHED CANNOT BE FOLLOWED: the copy of what was published has not all pages in ledger/, and servers \
             that hold that ledger will refuse what comes. Stop, and restore again with a mirror's copy or the old public/"
        );
    }
    for (genesis, leaves) in lacking {
        // A ledger of which no leaf is at hand is taken up, too: what comes next follows it.
        let none: &[Hex] = &[];
        let chunks = leaves.chunks(ADOPTED_LEAVES).chain(leaves.is_empty().then_some(none));
        for leaves in chunks {
            let leaves = Event::AdoptedLeaves { genesis: genesis.clone(), leaves: leaves.to_vec() };
            record(history, register, now, leaves).await?;
        }
    }
    record(history, register, now, Event::PutBack { backup, taken_up: newest, passes_over }).await
}

/// What the journal lacks of the ledgers that were published, the oldest first: of each its genesis and the leaves that come after
/// those that are known. Without them the ledger that the journal knows is given up where it ends there, and servers that
/// hold more of it say so.
fn leaves_since(register: &Register, found: &Publication) -> Vec<(Genesis, Vec<Hex>)> {
    let Some(published) = found.ledger() else { return Vec::new() };
    let (known, geneses) = (register.ledger(), published.geneses());
    let is_next = |genesis: &Genesis| match known {
        Some(known) => genesis.name() == known.name(),
        None => genesis.before.is_none(),
    };
    let Some(from) = geneses.iter().position(is_next) else { return Vec::new() };
    let (mut grown, mut lacking) = (known.cloned(), Vec::new());
    for at in (0..=from).rev() {
        let genesis = &geneses[at];
        // Each genesis says how the ledger before it ended.
        let newest = published.ended();
        let ended = at.checked_sub(1).and_then(|after| geneses[after].before.as_ref()).unwrap_or(&newest);
        let begun = match grown.take() {
            Some(ledger) if ledger.name() == genesis.name() => ledger,
            before => match Ledger::begun(genesis, before.as_ref()) {
                Some(begun) => begun,
                None => return Vec::new(),
            },
        };
        let leaves = found.leaves().after(&ended.ledger, begun.size(), ended.size).unwrap_or_default();
        let mut whole = begun.clone();
        leaves.iter().for_each(|leaf| whole.append_leaf(*leaf));
        // What was published must go on from what the journal knows, or it is another history.
        if whole.ended() != *ended {
            // Servers that hold the newest ledger follow what follows it, and say that its end is lost. What leads to it from
            // the journal's must be whole.
            let is_new = known.is_none_or(|known| known.name() != genesis.name());
            return if at == 0 && is_new {
                [lacking, vec![(genesis.clone(), Vec::new())]].concat()
            } else {
                Vec::new()
            };
        }
        lacking.push((genesis.clone(), leaves.into_iter().map(Hex).collect()));
        grown = Some(whole);
    }
    lacking
}

async fn record(history: &mut History, register: &mut Register, now: Time, event: Event) -> Result<(), Refused> {
    let admitted = register.admit(Entry::of(now.as_millis(), None, event))?;
    history.record(register, admitted).await
}

/// Keys of which the publication says that they are revoked, or under which last head, and the register does not.
fn revocations(register: &Register, found: &Publication) -> Vec<(KeyId, Option<String>)> {
    let configuration = found.trusted().configuration();
    let said = configuration.revoked.iter().map(|key| (*key, configuration.last_heads.get(key).map(Head::to_text)));
    let is_new = |(key, last_head): &(KeyId, Option<String>)| {
        register.revoked(*key).is_none_or(|known| last_head.is_some() && known.last_head != *last_head)
    };
    said.filter(is_new).collect()
}

/// Members of which the publication says something else than the register, and what it says.
fn differences(register: &Register, found: &Publication) -> Vec<(MemberId, Option<MemberDocument>)> {
    // Every one of these files was named by signed metadata and has its hash.
    let published = found.files().iter().filter(|(name, _)| name.starts_with("members/"));
    let published = published.filter_map(|(_, bytes)| serde_json::from_slice::<MemberDocument>(bytes).ok());
    let published: BTreeMap<MemberId, MemberDocument> =
        published.map(|document| (document.member.clone(), document)).collect();
    let registered: BTreeMap<&MemberId, &MemberDocument> =
        register.members().map(|document| (&document.member, document)).collect();
    let all: BTreeSet<&MemberId> = published.keys().chain(registered.keys().copied()).collect();
    let differs = |member: &&MemberId| published.get(*member) != registered.get(*member).copied();
    all.into_iter().filter(differs).map(|member| (member.clone(), published.get(member).cloned())).collect()
}
