//! Data elements, for people: which there are, who is their source, and what people are asked again. Lists and sums are the
//! registry's word, on which nothing rests; what is shown of one element is what members signed.

use std::fmt;

use command_line::did_you_mean;
use proto::catalogue::{ElementName, NotListed, Part, ServiceName, Version};
use proto::identifier::SubsystemId;
use proto::registration::Malformed;
use proto::time::Time;
use proto::wire::registry as wire;
use serde::{Deserialize, Serialize};

use super::{Unlisted, answered, client, pinned, renewal};
use crate::SecurityServer;

/// Elements, by name.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementLines {
    /// Them.
    pub elements: Vec<ElementLine>,
    /// There are others.
    pub more: bool,
}

/// An element in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementLine {
    /// Its name.
    pub element: ElementName,
    /// Where others ask for it, where somebody is its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<OfferLine>,
    /// How many services answer with it, having it from elsewhere.
    pub given: u64,
    /// How many are handed it by systems.
    pub taken: u64,
    /// How many ask people for it.
    pub collected: u64,
    /// Some of those that ask people though another is its source.
    pub asked_again: Vec<OfferLine>,
}

/// A service and the field that carries an element.
#[derive(Debug, Serialize, Deserialize)]
pub struct OfferLine {
    /// The subsystem that offers it.
    pub subsystem: SubsystemId,
    /// Its full name.
    pub service: ServiceName,
    /// The field.
    pub field: String,
    /// Why people are asked again, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for OfferLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of {})", self.subsystem, self.field, self.service)
    }
}

/// Who carries an element.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementShown {
    /// Its name.
    pub element: ElementName,
    /// Each field that does, its source's first.
    pub services: Vec<ElementUser>,
    /// There are others.
    pub more: bool,
}

/// A field that carries an element, as its member signed it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementUser {
    /// The subsystem that offers the service.
    pub subsystem: SubsystemId,
    /// The service.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// The field.
    pub field: String,
    /// What the service does with it.
    pub part: Part,
    /// Why people are asked for it, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whom people ask about the service.
    pub contact: String,
}

/// How much of what services ask for is reused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reuse {
    /// Of all services, now.
    pub sum: AskedCounts,
    /// Each, the one that asks most of it again first.
    pub services: Vec<ServiceReuse>,
    /// There are others: the sum has them.
    pub more: bool,
}

/// How much of what a service asks for is reused.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServiceReuse {
    /// The subsystem that offers it.
    pub subsystem: SubsystemId,
    /// Its full name.
    pub service: ServiceName,
    /// Now.
    pub now: AskedCounts,
    /// When each of its versions was listed, the oldest first.
    pub versions: Vec<VersionReuse>,
}

/// The same of a version, when it was listed.
#[derive(Debug, Serialize, Deserialize)]
pub struct VersionReuse {
    /// The version.
    pub version: Version,
    /// When, RFC 3339, by the registry's clock.
    pub time: String,
    /// How much.
    pub asked: AskedCounts,
}

/// Fields of requests that carry an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedCounts {
    /// A system hands them on.
    pub reused: u64,
    /// People are asked, and nobody else is their source.
    pub first: u64,
    /// People are asked, though another is their source.
    pub again: u64,
}

/// Elements of services whose names have each word; only those that people are asked again, where that is wanted.
pub async fn list(server: &SecurityServer, query: String, duplicates: bool) -> Result<ElementLines, Unlisted> {
    let request = wire::ElementsRequest { query, duplicates };
    let found = answered(client(renewal(server)?).await?.elements(request)).await?.into_inner();
    let elements = found.elements.into_iter().map(line).collect::<Result<_, Malformed>>().map_err(NotListed::from)?;
    Ok(ElementLines { elements, more: found.more })
}

/// Each service that carries an element, verified.
pub async fn show(server: &SecurityServer, element: &ElementName) -> Result<ElementShown, Unlisted> {
    let request = wire::FindRequest { query: String::new(), element: element.to_string() };
    let (found, more) = pinned(server, request).await?;
    let mut services = Vec::new();
    for said in found.iter().map(|verified| verified.entry()) {
        let fields = said.elements.iter().filter(|field| field.element == *element);
        services.extend(fields.map(|field| ElementUser {
            subsystem: said.subsystem.clone(),
            service: said.service.clone(),
            version: said.version,
            field: field.field.clone(),
            part: field.part,
            reason: field.reason.as_ref().map(ToString::to_string),
            contact: said.contact.to_string(),
        }));
    }
    if services.is_empty() {
        let known = list(server, String::new(), false).await?.elements;
        let names = known.iter().map(|line| line.element.as_str());
        let remedy =
            did_you_mean(element.as_str(), names, "`security-server elements list` shows those that there are");
        return Err(Unlisted::UnknownElement { element: element.clone(), remedy });
    }
    services.sort_by_key(|user| (user.part != Part::Authoritative, user.part));
    Ok(ElementShown { element: element.clone(), services, more })
}

/// How much of what services ask for is reused.
pub async fn report(server: &SecurityServer, service: Option<ServiceName>) -> Result<Reuse, Unlisted> {
    let request = wire::ReuseRequest { service: service.map(|service| service.to_string()).unwrap_or_default() };
    let found = answered(client(renewal(server)?).await?.reuse(request)).await?.into_inner();
    let services = found.services.into_iter().map(reuse).collect::<Result<_, Malformed>>().map_err(NotListed::from)?;
    Ok(Reuse { sum: counts(found.sum), services, more: found.more })
}

fn line(found: wire::FoundElement) -> Result<ElementLine, Malformed> {
    Ok(ElementLine {
        element: found.element.parse()?,
        source: found.source.map(offer).transpose()?,
        given: found.given,
        taken: found.taken,
        collected: found.collected,
        asked_again: found.asked_again.into_iter().map(offer).collect::<Result<_, _>>()?,
    })
}

fn offer(found: wire::Offer) -> Result<OfferLine, Malformed> {
    Ok(OfferLine {
        subsystem: found.subsystem.parse()?,
        service: found.service.parse()?,
        field: found.field,
        reason: Some(found.reason).filter(|reason| !reason.is_empty()),
    })
}

fn reuse(found: wire::ServiceReuse) -> Result<ServiceReuse, Malformed> {
    let version = |then: wire::AskedThen| {
        let (version, time) = (then.version.parse()?, Time::from_millis(then.time).to_string());
        Ok::<_, Malformed>(VersionReuse { version, time, asked: counts(then.asked) })
    };
    Ok(ServiceReuse {
        subsystem: found.subsystem.parse()?,
        service: found.service.parse()?,
        now: counts(found.now),
        versions: found.versions.into_iter().map(version).collect::<Result<_, _>>()?,
    })
}

fn counts(asked: Option<wire::Asked>) -> AskedCounts {
    let wire::Asked { reused, first, again } = asked.unwrap_or_default();
    AskedCounts { reused, first, again }
}
