//! The first start after the registry was put back from a backup. Its journal ends where the backup was made, and the world
//! went on: versions were published since that the journal does not know, of members that it does not know.
//!
//! Two things follow, both recorded before anything is signed. What was published since and is at hand counts, since
//! everybody was told. And no version that may have been given to anybody is ever signed again: the registry passes over
//! more of them than there can have been.

use std::collections::{BTreeMap, BTreeSet};

use proto::global_configuration::document::MemberDocument;
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
    record(history, register, now, Event::PutBack { backup, taken_up: newest, passes_over }).await
}

async fn record(history: &mut History, register: &mut Register, now: Time, event: Event) -> Result<(), Refused> {
    let admitted = register.admit(Entry { at: now.as_millis(), by: None, from: None, event })?;
    history.record(register, admitted).await
}

/// Keys of which the publication says that they are revoked, or under which last head, and the register does not.
fn revocations(register: &Register, found: &Publication) -> Vec<(KeyId, Option<String>)> {
    let configuration = found.trusted().configuration();
    let said = configuration.revoked.iter().map(|key| (*key, configuration.last_heads.get(key).map(Head::to_text)));
    let is_new = |(key, last_head): &(KeyId, Option<String>)| match register.revoked(*key) {
        None => true,
        Some(known) => last_head.is_some() && known.last_head != *last_head,
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
