//! THE LIFE OF A LISTING in the catalogue: receive, recognise, describe, compare, record, keep, publish. Read this file from
//! the top.
//!
//! Each step takes what only an earlier step can make. Descriptors are read only when their member is known to have signed for
//! them; nothing of a publication is listed unless all of it is.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalogue::{Described, Undescribed, breaks};
use proto::catalogue::{Entry, MAX_AT_ONCE, MAX_DESCRIPTORS_BYTES, ReceivedEntry, VerifiedEntry};
use proto::digest::Digest;
use proto::registration::MAX_SIGNED_BYTES;
use proto::time::Time;
use proto::wire::registry as wire;

use crate::register::{Event, Refused, Register};
use crate::registry::Registry;
use crate::shelf::Shelf;
use crate::spread;

/// Largest request to publish.
pub const MAX_PUBLISH_BYTES: usize = MAX_DESCRIPTORS_BYTES + MAX_AT_ONCE * (MAX_SIGNED_BYTES + 1024);

/// A member's server lists services.
pub(crate) async fn publish(
    registry: Arc<Registry>,
    request: wire::PublishRequest,
    from: String,
) -> Result<wire::PublishAnswer, Refused> {
    let received = receive(request)?;
    let recognised = {
        let desk = registry.desk.lock().await;
        recognise(&desk.register, received, registry.now(&desk))?
    };
    let described = tokio::task::spawn_blocking(move || describe(recognised));
    let described = described.await.map_err(|error| Refused::Failed(error.to_string()))??;
    let mut desk = registry.desk.lock().await;
    let now = registry.now(&desk);
    let compared = compare(&registry.shelf, &desk.register, described)?;
    let event = listed(&registry.shelf, &compared);
    if compared.is_dry_run() {
        // The same rules as `admit` asks, and no record.
        let entries: Vec<ReceivedEntry> = compared.entries().map(|entry| entry.received().clone()).collect();
        desk.register.may_list(&entries, now)?;
        return Ok(wire::PublishAnswer { version: 0 });
    }
    let admitted = desk.admit_from(from, now, None, event)?;
    // A crash before the record leaves nothing: the member publishes again. After it, the next start keeps and publishes.
    desk.record(admitted).await?;
    desk.unpublished = true;
    keep(&registry.shelf, &compared)?;
    let version = spread::publish(&registry, &mut desk, now).await?;
    for entry in compared.entries() {
        let Entry { subsystem, service, version, .. } = entry.entry();
        tracing::info!(%subsystem, %service, %version, "a service is listed");
        registry.shelf.show(entry.received().clone());
    }
    registry.changed.send_replace(());
    Ok(wire::PublishAnswer { version })
}

/// The entries that have each word of the query.
pub(crate) async fn find(registry: &Registry, query: &str) -> wire::FoundEntries {
    // Of members that were removed meanwhile nothing is told.
    registry.shelf.forget_all_but(&registry.desk.lock().await.register);
    registry.shelf.find(query)
}

/// What has this SHA-256.
pub(crate) fn fetch(registry: &Registry, digest: Digest) -> Result<Bytes, Refused> {
    registry.shelf.get(&digest).ok_or(Refused::NoContent(digest))
}

// ---- the steps

struct Received {
    entries: Vec<ReceivedEntry>,
    descriptors: Bytes,
}

/// Reads the entries: well formed, within their limits, one reading only.
fn receive(request: wire::PublishRequest) -> Result<Received, Refused> {
    if request.descriptors.len() > MAX_DESCRIPTORS_BYTES {
        let found = request.descriptors.len();
        return Err(Undescribed::Limit { what: "bytes", found, most: MAX_DESCRIPTORS_BYTES }.into());
    }
    if request.entries.len() > MAX_AT_ONCE {
        return Err(Refused::EntriesDiffer);
    }
    let entries = request.entries.into_iter().map(ReceivedEntry::parse).collect::<Result<_, _>>()?;
    Ok(Received { entries, descriptors: request.descriptors })
}

struct Recognised {
    entries: Vec<VerifiedEntry>,
    descriptors: Bytes,
}

/// Who says so: a server that hosts the subsystem, with its member's key (PROTOCOL.md 17.2).
fn recognise(register: &Register, received: Received, now: Time) -> Result<Recognised, Refused> {
    let Received { entries, descriptors } = received;
    Ok(Recognised { entries: register.may_list(&entries, now)?, descriptors })
}

struct DescribedEntries {
    entries: Vec<VerifiedEntry>,
    descriptors: Bytes,
    described: Described,
}

/// Reads the descriptors, and holds each entry against them (PROTOCOL.md 17.3).
fn describe(recognised: Recognised) -> Result<DescribedEntries, Refused> {
    let Recognised { entries, descriptors } = recognised;
    let digest = Digest::of(&[&descriptors]);
    let described = Described::read(&descriptors)?;
    for entry in entries.iter().map(VerifiedEntry::entry) {
        let said = described.said_of(entry.service.as_str())?;
        if entry.descriptors != digest || said != (entry.description.clone(), entry.methods.clone()) {
            return Err(Refused::NotAsDescribed { service: entry.service.clone() });
        }
    }
    Ok(DescribedEntries { entries, descriptors, described })
}

/// What may be listed beside what is. Only [`compare`] makes one.
struct Compared(DescribedEntries);

impl Compared {
    fn entries(&self) -> impl Iterator<Item = &VerifiedEntry> {
        self.0.entries.iter()
    }

    fn is_dry_run(&self) -> bool {
        self.entries().any(|entry| entry.entry().dry_run)
    }
}

/// Nothing that consumers rely on breaks without a new major version (PROTOCOL.md 17.3), and something is new.
fn compare(shelf: &Shelf, register: &Register, offered: DescribedEntries) -> Result<Compared, Refused> {
    let mut all_so_already = true;
    for entry in offered.entries.iter().map(VerifiedEntry::entry) {
        let Some(listed) = register.listed_service(&entry.subsystem, &entry.service) else {
            all_so_already = false;
            continue;
        };
        let newest = shelf.newest(&entry.subsystem, &entry.service);
        all_so_already &= newest.is_some_and(|newest| says_the_same(&newest, entry));
        if listed.version.major != entry.version.major || listed.descriptors.0 == entry.descriptors {
            continue;
        }
        let before = shelf.get(&listed.descriptors.0).ok_or(Refused::NoContent(listed.descriptors.0))?;
        let before = Described::read(&before)?;
        let name = entry.service.as_str();
        let findings = breaks(&before.service(name)?, &offered.described.service(name)?);
        if !findings.is_empty() {
            let (service, listed, offered) = (entry.service.clone(), listed.version, entry.version);
            return Err(Refused::Breaks { service, listed, offered, findings });
        }
    }
    if all_so_already {
        return Err(Refused::SoAlready("all of it is listed so already".to_owned()));
    }
    Ok(Compared(offered))
}

fn says_the_same(before: &Entry, after: &Entry) -> bool {
    let Entry { version, server, time, dry_run, .. } = before.clone();
    Entry { version, server, time, dry_run, ..after.clone() } == *before
}

fn listed(shelf: &Shelf, compared: &Compared) -> Event {
    let entries = compared.entries().map(|entry| STANDARD.encode(entry.received().to_bytes())).collect();
    let descriptors = &compared.0.descriptors;
    let known = shelf.get(&Digest::of(&[descriptors])).is_some();
    Event::Listed { entries, descriptors: (!known).then(|| STANDARD.encode(descriptors)) }
}

/// On disk before anybody is told of it. Where that fails, the next start writes it from the journal.
fn keep(shelf: &Shelf, compared: &Compared) -> Result<(), Refused> {
    let kept = shelf
        .keep(&compared.0.descriptors)
        .and_then(|_| compared.entries().try_for_each(|entry| shelf.keep(&entry.received().to_bytes()).map(drop)));
    kept.map_err(|error| Refused::Failed(format!("what is listed is recorded, but could not be written: {error}")))
}
