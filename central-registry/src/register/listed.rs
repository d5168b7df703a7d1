//! What the register says of the catalogue, and who may list what in it. Nothing here knows what descriptors mean.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use catalogue::once::Asked;
use proto::catalogue::{MAX_AT_ONCE, ReceivedEntry, ServiceName, VerifiedEntry};
use proto::digest::Digest;
use proto::global_configuration::document::MAX_DOCUMENT_BYTES;
use proto::global_configuration::listed::{CatalogueDocument, ListedService, MAX_SERVICES};
use proto::identifier::{MemberId, SubsystemId};
use proto::registration::{COMMAND_WINDOW, Malformed};
use proto::time::Time;

use super::{AskedThen, Hex, KeyUse, Listed, Refused, Register};

/// Of how many versions of a service it is told what they asked for.
const MAX_VERSIONS_TOLD: usize = 32;

/// Reads the entries of an event.
pub(crate) fn signed(entries: &[String]) -> Result<Vec<ReceivedEntry>, Refused> {
    let read =
        |entry: &String| Ok(ReceivedEntry::from_bytes(&STANDARD.decode(entry).map_err(|_| Refused::OutOfPlace)?)?);
    entries.iter().map(read).collect()
}

impl Register {
    /// What this subsystem lists of this service.
    pub fn listed_service(&self, subsystem: &SubsystemId, service: &ServiceName) -> Option<&Listed> {
        self.catalogue.get(subsystem)?.get(service)
    }

    /// Every service that is listed.
    pub fn listed_services(&self) -> impl Iterator<Item = (&SubsystemId, &ServiceName, &Listed)> {
        self.catalogue.iter().flat_map(|(subsystem, services)| {
            services.iter().map(move |(service, listed)| (subsystem, service, listed))
        })
    }

    /// The document of each member that lists something.
    pub fn catalogue(&self) -> Vec<CatalogueDocument> {
        let mut members: BTreeMap<MemberId, CatalogueDocument> = BTreeMap::new();
        for (subsystem, service, listed) in self.listed_services() {
            let member = subsystem.member();
            let empty = || CatalogueDocument { member: member.clone(), services: Vec::new() };
            let document = members.entry(member.clone()).or_insert_with(empty);
            document.services.push(row(subsystem, service, listed));
        }
        members.into_values().collect()
    }

    /// Whether these may be listed (PROTOCOL.md 17.2): by a server that hosts the subsystem, signed just now with its member's
    /// key there, each in a newer version, as many as the member's document takes.
    pub fn may_list(&self, entries: &[ReceivedEntry], now: Time) -> Result<Vec<VerifiedEntry>, Refused> {
        let first = entries.first().map(ReceivedEntry::entry).ok_or(Refused::EntriesDiffer)?;
        let alike = entries.iter().map(ReceivedEntry::entry).all(|entry| {
            (&entry.subsystem, &entry.server, entry.descriptors) == (&first.subsystem, &first.server, first.descriptors)
                && entry.dry_run == first.dry_run
        });
        if entries.len() > MAX_AT_ONCE || !alike {
            return Err(Refused::EntriesDiffer);
        }
        let subsystem = self.subsystem(&first.subsystem)?;
        if !subsystem.servers.contains(&first.server) {
            let (subsystem, server) = (first.subsystem.clone(), first.server.clone());
            return Err(Refused::NotHosted { subsystem, server });
        }
        let for_what = KeyUse::Signing { member: first.subsystem.member(), server: first.server.clone() };
        let mut verified = Vec::with_capacity(entries.len());
        let mut after = self.catalogue.get(&first.subsystem).cloned().unwrap_or_default();
        for received in entries {
            let key = self.asks_with(&for_what, received.key(), now)?;
            let entry = received.clone().verify(&key)?;
            let said = entry.entry();
            let distance = said.time.distance(now);
            if distance > COMMAND_WINDOW {
                return Err(Malformed::Time(distance).into());
            }
            if let Some(before) = after.get(&said.service).filter(|before| said.version <= before.version) {
                let (listed, offered) = (before.version, said.version);
                return Err(Refused::VersionNotNewer { service: said.service.clone(), listed, offered });
            }
            after.insert(said.service.clone(), Listed::of(&entry));
            verified.push(entry);
        }
        self.takes(&first.subsystem, &after)?;
        Ok(verified)
    }

    /// What is published must be read: a document that nobody could take would hold back everything after it.
    fn takes(&self, subsystem: &SubsystemId, after: &BTreeMap<ServiceName, Listed>) -> Result<(), Refused> {
        let member = subsystem.member();
        let registered = self.members.get(&member).into_iter().flat_map(|document| &document.subsystems);
        let others = registered.map(|each| &each.subsystem).filter(|other| *other != subsystem).flat_map(|other| {
            let services = self.catalogue.get(other).into_iter().flatten();
            services.map(move |(service, listed)| (other, service, listed))
        });
        let own = after.iter().map(|(service, listed)| (subsystem, service, listed));
        let services = others.chain(own).map(|(subsystem, service, listed)| row(subsystem, service, listed)).collect();
        let document = CatalogueDocument { member, services };
        if document.services.len() > MAX_SERVICES {
            return Err(Refused::Limit { what: "services of one member", limit: MAX_SERVICES });
        }
        if document.to_bytes().len() > MAX_DOCUMENT_BYTES {
            return Err(Refused::Limit { what: "bytes of one member in the catalogue", limit: MAX_DOCUMENT_BYTES });
        }
        Ok(())
    }

    pub(super) fn list(&mut self, entries: &[String], asked: &[Asked], at: u64) {
        for (place, entry) in signed(entries).unwrap_or_default().iter().enumerate() {
            let said = entry.entry();
            let services = self.catalogue.entry(said.subsystem.clone()).or_default();
            let mut listed = Listed::received(entry);
            listed.asked = services.remove(&said.service).map(|before| before.asked).unwrap_or_default();
            if let Some(asked) = asked.get(place).copied().filter(|asked| !asked.is_nothing()) {
                listed.asked.push(AskedThen { version: said.version, at, asked });
            }
            let oldest = listed.asked.len().saturating_sub(MAX_VERSIONS_TOLD);
            listed.asked.drain(..oldest);
            services.insert(said.service.clone(), listed);
        }
    }
}

impl Listed {
    fn of(entry: &VerifiedEntry) -> Self {
        Self::received(entry.received())
    }

    fn received(entry: &ReceivedEntry) -> Self {
        let said = entry.entry();
        Self {
            version: said.version,
            form: said.form,
            entry: Hex(Digest::of(&[&entry.to_bytes()])),
            descriptors: Hex(said.descriptors),
            open_to: said.open_to.clone(),
            asked: Vec::new(),
        }
    }
}

fn row(subsystem: &SubsystemId, service: &ServiceName, listed: &Listed) -> ListedService {
    ListedService {
        subsystem: subsystem.clone(),
        service: service.clone(),
        version: listed.version,
        form: listed.form,
        entry: listed.entry.0,
        open_to: listed.open_to.clone(),
    }
}
