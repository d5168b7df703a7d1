//! THE LIFE OF A LISTING in the catalogue: receive, recognise, describe, compare, judge, record, keep, publish. Read this file
//! from the top.
//!
//! Each step takes what only an earlier step can make. Descriptors are read only when their member is known to have signed for
//! them; nothing of a publication is listed unless all of it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalogue::once::{Asked, Finding, Rule};
use catalogue::{Described, OpenApi, Said, Undescribed, breaks};
use command_line::did_you_mean;
use proto::catalogue::{
    ElementField, ElementName, Entry, MAX_AT_ONCE, MAX_DESCRIPTORS_BYTES, Part, ReceivedEntry, ServiceForm,
    VerifiedEntry,
};
use proto::digest::Digest;
use proto::registration::MAX_SIGNED_BYTES;
use proto::time::Time;
use proto::wire::registry as wire;

use crate::register::{Event, Refused, Register};
use crate::registry::Registry;
use crate::shelf::{Listing, Shelf};
use crate::spread;

/// Largest request to publish.
pub const MAX_PUBLISH_BYTES: usize = MAX_DESCRIPTORS_BYTES + MAX_AT_ONCE * (MAX_SIGNED_BYTES + 1024);

/// Most findings, and most remarks, that one publication is told.
const MAX_TOLD: usize = 20;

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
    let reading = registry.clone();
    let described = tokio::task::spawn_blocking(move || {
        let described = describe(recognised)?;
        let remarks = unheard_of(&reading.shelf.read(), &described);
        Ok::<_, Refused>((described, remarks))
    });
    let (described, mut remarks) = described.await.map_err(|error| Refused::Failed(error.to_string()))??;
    // From here to the record nobody else publishes: of two who claim one element, the second finds the first.
    let mut desk = registry.desk.lock().await;
    let now = registry.now(&desk);
    let compared = compare(&registry.shelf, &desk.register, described)?;
    let judged = judge(&registry.shelf, &desk.register, compared)?;
    remarks.splice(..0, judged.remarks.iter().cloned());
    let event = listed(&registry.shelf, &judged);
    if judged.is_dry_run() {
        // The same rules as `admit` asks, and no record.
        let entries: Vec<ReceivedEntry> = judged.entries().map(|entry| entry.received().clone()).collect();
        desk.register.may_list(&entries, now)?;
        return Ok(wire::PublishAnswer { version: 0, remarks });
    }
    let admitted = desk.admit_from(from, now, None, event)?;
    // A crash before the record leaves nothing: the member publishes again. After it, the next start keeps and publishes.
    desk.record(admitted).await?;
    desk.unpublished = true;
    // What is recorded counts for whoever publishes next, whatever becomes of the rest.
    for entry in judged.entries() {
        let Entry { subsystem, service, version, .. } = entry.entry();
        tracing::info!(%subsystem, %service, %version, "a service is listed");
        registry.shelf.show(entry.received().clone());
    }
    keep(&registry.shelf, &judged)?;
    let version = spread::publish(&registry, &mut desk, now).await?;
    registry.changed.send_replace(());
    Ok(wire::PublishAnswer { version, remarks })
}

/// The entries that have each word of the query.
pub(crate) async fn find(registry: &Registry, request: wire::FindRequest) -> Result<wire::FoundEntries, Refused> {
    let element = Some(&request.element).filter(|element| !element.is_empty());
    let element: Option<ElementName> = element.map(|element| element.parse()).transpose()?;
    // Of members that were removed meanwhile nothing is told.
    registry.shelf.follow(&registry.desk.lock().await.register);
    Ok(registry.shelf.find(&request.query, element.as_ref()))
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
    content: Content,
}

/// What describes services, read.
enum Content {
    Grpc(Described),
    Rest(OpenApi),
}

impl Content {
    fn read(form: ServiceForm, bytes: &[u8]) -> Result<Self, Refused> {
        match form {
            ServiceForm::Grpc => Ok(Self::Grpc(Described::read(bytes)?)),
            ServiceForm::Rest => Ok(Self::Rest(OpenApi::read(bytes)?)),
        }
    }

    fn said_of(&self, service: &str) -> Result<Said, Undescribed> {
        match self {
            Self::Grpc(described) => described.said_of(service),
            Self::Rest(openapi) => Ok(openapi.said().clone()),
        }
    }

    /// What a new version of a service breaks; it is of the same form.
    fn breaks(&self, new: &Self, service: &str) -> Result<Vec<String>, Refused> {
        match (self, new) {
            (Self::Grpc(old), Self::Grpc(new)) => Ok(breaks(&old.service(service)?, &new.service(service)?)),
            (Self::Rest(old), Self::Rest(new)) => Ok(catalogue::rest::breaking::breaks(old, new)?),
            (Self::Grpc(_), Self::Rest(_)) | (Self::Rest(_), Self::Grpc(_)) => Ok(Vec::new()),
        }
    }
}

/// Reads the descriptors or the OpenAPI document, and holds each entry against it (PROTOCOL.md 17.3, 17.9).
fn describe(recognised: Recognised) -> Result<DescribedEntries, Refused> {
    let Recognised { entries, descriptors } = recognised;
    let digest = Digest::of(&[&descriptors]);
    let form = entries.first().map_or(ServiceForm::Grpc, |entry| entry.entry().form);
    let content = Content::read(form, &descriptors)?;
    for entry in entries.iter().map(VerifiedEntry::entry) {
        let said = content.said_of(entry.service.as_str())?;
        let (description, methods, elements) = (&entry.description, &entry.methods, &entry.elements);
        if entry.descriptors != digest
            || entry.form != form
            || (&said.description, &said.methods, &said.elements) != (description, methods, elements)
        {
            return Err(Refused::NotAsDescribed { service: entry.service.clone() });
        }
    }
    if let Content::Grpc(described) = &content {
        described.routable(entries.iter().map(|entry| entry.entry().service.as_str()))?;
    }
    Ok(DescribedEntries { entries, descriptors, content })
}

/// What breaks nothing that consumers rely on. Only [`compare`] makes one.
struct Compared(DescribedEntries);

/// Nothing that consumers rely on breaks without a new major version (PROTOCOL.md 17.3), and something is new.
fn compare(shelf: &Shelf, register: &Register, offered: DescribedEntries) -> Result<Compared, Refused> {
    let mut all_so_already = true;
    // What was listed is read once, and of REST services compared once, however many of them have one document.
    let (mut read, mut unbroken): (Option<(Digest, Content)>, _) = (None, BTreeSet::new());
    for entry in offered.entries.iter().map(VerifiedEntry::entry) {
        let Some(listed) = register.listed_service(&entry.subsystem, &entry.service) else {
            all_so_already = false;
            continue;
        };
        let offer = (entry.subsystem.clone(), entry.service.clone());
        all_so_already &= shelf.read().newest(&offer).is_some_and(|newest| says_the_same(newest, entry));
        if listed.version.major != entry.version.major || listed.descriptors.0 == entry.descriptors {
            continue;
        }
        let before = shelf.get(&listed.descriptors.0).ok_or(Refused::NoContent(listed.descriptors.0))?;
        if listed.form != entry.form {
            let (service, next) = (entry.service.clone(), listed.version.major.saturating_add(1));
            return Err(Refused::OtherForm { service, was: kind(listed.form), is: kind(entry.form), next });
        }
        if listed.form == ServiceForm::Rest && !unbroken.insert(listed.descriptors.0) {
            continue;
        }
        let known = read.take().filter(|(digest, _)| *digest == listed.descriptors.0);
        let (_, content) = match known {
            Some(known) => read.insert(known),
            None => read.insert((listed.descriptors.0, Content::read(listed.form, &before)?)),
        };
        let findings = content.breaks(&offered.content, entry.service.as_str())?;
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

fn kind(form: ServiceForm) -> &'static str {
    match form {
        ServiceForm::Grpc => "a gRPC service",
        ServiceForm::Rest => "a REST service",
    }
}

fn says_the_same(before: &Entry, after: &Entry) -> bool {
    let Entry { version, server, time, dry_run, .. } = before.clone();
    Entry { version, server, time, dry_run, ..after.clone() } == *before
}

/// What may be listed beside what is. Only [`judge`] makes one.
struct Judged {
    entries: Vec<VerifiedEntry>,
    descriptors: Bytes,
    /// How much of what each asks for is reused.
    asked: Vec<Asked>,
    /// What its publisher and everybody else is to know.
    remarks: Vec<String>,
}

impl Judged {
    fn entries(&self) -> impl Iterator<Item = &VerifiedEntry> {
        self.entries.iter()
    }

    fn is_dry_run(&self) -> bool {
        self.entries().any(|entry| entry.entry().dry_run)
    }
}

/// An element has one source, and people are not asked for it elsewhere without a reason that everybody can read (PROTOCOL.md
/// 17.7).
fn judge(shelf: &Shelf, register: &Register, compared: Compared) -> Result<Judged, Refused> {
    let DescribedEntries { entries, descriptors, .. } = compared.0;
    shelf.follow(register);
    let listed = shelf.read();
    let (mut refused, mut remarks, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries.iter().map(VerifiedEntry::entry) {
        for finding in listed.elements().findings(&entry.subsystem, &entry.elements) {
            match finding.excuse() {
                Some(_) => remarks.push(told(&listed, entry.form, &finding)),
                None => refused.push(told(&listed, entry.form, &finding)),
            }
        }
        remarks.extend(entry.elements.iter().filter_map(|field| still_asked(&listed, entry, field)));
        asked.push(listed.elements().asked(&entry.subsystem, &entry.elements));
    }
    drop(listed);
    if refused.is_empty() {
        remarks.truncate(MAX_TOLD);
        return Ok(Judged { entries, descriptors, asked, remarks });
    }
    let more = refused.len().saturating_sub(MAX_TOLD);
    refused.truncate(MAX_TOLD);
    refused.extend((more > 0).then(|| format!("and {more} more")));
    Err(Refused::NotOnce(refused))
}

fn told(listed: &Listing, form: ServiceForm, finding: &Finding) -> String {
    let Finding { rule, field, source } = finding;
    let (subsystem, service) = (&source.0, &source.1);
    let entry = listed.newest(source);
    let is_it = |each: &&ElementField| each.element == field.element && each.part == Part::Authoritative;
    let given = entry.and_then(|entry| entry.elements.iter().find(is_it));
    let (place, contact) =
        (given.map_or("", |given| &given.field), entry.map_or("its admin", |entry| entry.contact.as_str()));
    let (code, name, element) = (rule.code(), &field.field, &field.element);
    let (reason, authoritative) = match form {
        ServiceForm::Grpc => ("(causeway.reason_to_collect)", "(causeway.authoritative)"),
        ServiceForm::Rest => ("x-causeway-reason-to-collect", "x-causeway-authoritative"),
    };
    let is = format!("{subsystem} is its source ({place} of {service})");
    match (rule, finding.excuse()) {
        (Rule::Once001, Some(reason)) => {
            format!("{code}: {name} asks people for {element} again, and {is}; everybody can read why: {reason}")
        }
        (Rule::Once001, None) => format!(
            "{code}: {name} asks people for {element}, and {is}; ask {contact} for access (`security-server services show \
             {service}`), or say for everybody to read why people are asked again: {reason}"
        ),
        (Rule::Once002, _) => format!(
            "{code}: {name} is said to be authoritative for {element}, and {is}; leave {authoritative} out, or agree \
             with {contact} who is"
        ),
    }
}

/// Who asks people for what this service becomes the source of.
fn still_asked(listed: &Listing, entry: &Entry, field: &ElementField) -> Option<String> {
    let users = listed.elements().get(&field.element).filter(|_| field.part == Part::Authoritative)?;
    let others = users.with(Part::Collects).iter().filter(|offer| offer.0 != entry.subsystem).count();
    let element = &field.element;
    (others > 0).then(|| {
        format!(
            "{others} services of others ask people for {element}: `security-server elements show {element}` names them"
        )
    })
}

/// Elements that nobody else has, where another one is called nearly so.
fn unheard_of(listed: &Listing, described: &DescribedEntries) -> Vec<String> {
    let fields = || described.entries.iter().flat_map(|entry| &entry.entry().elements);
    let ours: BTreeSet<&ElementName> = fields()
        .filter(|each| matches!(each.part, Part::Gives | Part::Authoritative))
        .map(|each| &each.element)
        .collect();
    let asked: BTreeSet<&ElementName> =
        fields().filter(|each| matches!(each.part, Part::Takes | Part::Collects)).map(|each| &each.element).collect();
    let unknown = asked.difference(&ours).filter(|element| listed.elements().get(element).is_none()).take(MAX_TOLD);
    let near = |element: &&&ElementName| {
        let known = listed.elements().iter().map(|(name, _)| name.as_str());
        let near = did_you_mean(element.as_str(), known, "");
        (!near.is_empty()).then(|| format!("nobody else has {element}; {near}"))
    };
    unknown.filter_map(|element| near(&element)).collect()
}

fn listed(shelf: &Shelf, judged: &Judged) -> Event {
    let entries = judged.entries().map(|entry| STANDARD.encode(entry.received().to_bytes())).collect();
    let descriptors = &judged.descriptors;
    let known = shelf.get(&Digest::of(&[descriptors])).is_some();
    let asked = if judged.asked.iter().all(Asked::is_nothing) { Vec::new() } else { judged.asked.clone() };
    Event::Listed { entries, descriptors: (!known).then(|| STANDARD.encode(descriptors)), asked }
}

/// On disk before anybody is told of it. Where that fails, the next start writes it from the journal.
fn keep(shelf: &Shelf, judged: &Judged) -> Result<(), Refused> {
    let kept = shelf
        .keep(&judged.descriptors)
        .and_then(|_| judged.entries().try_for_each(|entry| shelf.keep(&entry.received().to_bytes()).map(drop)));
    kept.map_err(|error| Refused::Failed(format!("what is listed is recorded, but could not be written: {error}")))
}
