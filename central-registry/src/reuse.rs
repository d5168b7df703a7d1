//! Questions about the catalogue as a whole: which elements there are, who is their source, and how much of what services ask for
//! is reused. Answered from the index beside the desk, one question at a time: whoever publishes does not wait for them.

use std::sync::Arc;

use catalogue::once::{Asked, Offer, Users};
use catalogue::search::{Query, folded};
use proto::catalogue::{ElementName, Part, ServiceName};
use proto::wire::registry as wire;

use crate::register::{AskedThen, Refused};
use crate::registry::Registry;
use crate::shelf::Listing;

/// Most elements, and most services, that one answer has.
const MAX_ROWS: usize = 500;
/// Most services that are named with one element.
const MAX_NAMED: usize = 20;

/// The elements that services carry.
pub(crate) async fn elements(
    registry: Arc<Registry>,
    request: wire::ElementsRequest,
) -> Result<wire::FoundElements, Refused> {
    registry.shelf.follow(&registry.desk.lock().await.register);
    apart(registry, move |registry| {
        let (listed, query) = (registry.shelf.read(), Query::new(&request.query));
        let wanted = |(name, users): &(&ElementName, &Users)| {
            (!request.duplicates || users.asked_again().next().is_some()) && query.finds(&folded(name.as_str()))
        };
        let found = listed.elements().iter().filter(wanted).take(MAX_ROWS + 1);
        let mut elements: Vec<_> = found.map(|(name, users)| row(&listed, name, users)).collect();
        let more = elements.len() > MAX_ROWS;
        elements.truncate(MAX_ROWS);
        wire::FoundElements { elements, more }
    })
    .await
}

/// How much of what services ask for is reused.
pub(crate) async fn report(registry: Arc<Registry>, request: wire::ReuseRequest) -> Result<wire::ReuseReport, Refused> {
    let service = Some(&request.service).filter(|service| !service.is_empty());
    let service: Option<ServiceName> = service.map(|service| service.parse()).transpose()?;
    registry.shelf.follow(&registry.desk.lock().await.register);
    let asking = registry.clone();
    let (rows, more, sum) = apart(asking, move |registry| {
        let listed = registry.shelf.read();
        let (mut rows, mut sum) = (Vec::new(), Asked::default());
        for (offer, entry) in listed.entries() {
            if service.as_ref().is_some_and(|service| *service != offer.1) {
                continue;
            }
            let asked = listed.elements().asked(&offer.0, &entry.elements);
            sum += asked;
            if !asked.is_nothing() || service.is_some() {
                rows.push((offer.clone(), asked));
            }
        }
        rows.sort_by_key(|(_, asked)| std::cmp::Reverse((asked.again, asked.first, asked.reused)));
        let more = rows.len() > MAX_ROWS;
        rows.truncate(MAX_ROWS);
        (rows, more, sum)
    })
    .await?;
    let desk = registry.desk.lock().await;
    let told = |(offer, now): (Offer, Asked)| {
        let then = desk.register.listed_service(&offer.0, &offer.1).map_or(&[][..], |listed| &listed.asked);
        wire::ServiceReuse {
            subsystem: offer.0.to_string(),
            service: offer.1.to_string(),
            now: Some(counted(now)),
            versions: then.iter().map(version).collect(),
        }
    };
    Ok(wire::ReuseReport { services: rows.into_iter().map(told).collect(), more, sum: Some(counted(sum)) })
}

/// Off the threads that answer everybody else.
async fn apart<T: Send + 'static>(
    registry: Arc<Registry>,
    work: impl FnOnce(&Registry) -> T + Send + 'static,
) -> Result<T, Refused> {
    let one = registry.one_question.clone().lock_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&registry);
        drop(one);
        done
    });
    done.await.map_err(|error| Refused::Failed(error.to_string()))
}

fn row(listed: &Listing, name: &ElementName, users: &Users) -> wire::FoundElement {
    let count = |part: Part| users.with(part).len() as u64;
    let again = users.asked_again().take(MAX_NAMED);
    wire::FoundElement {
        element: name.to_string(),
        source: users.source().map(|source| offer(listed, name, source, Part::Authoritative)),
        given: count(Part::Gives),
        taken: count(Part::Takes),
        collected: count(Part::Collects),
        asked_again: again.map(|asking| offer(listed, name, asking, Part::Collects)).collect(),
    }
}

fn offer(listed: &Listing, name: &ElementName, offer: &Offer, part: Part) -> wire::Offer {
    let fields = listed.newest(offer).map_or(&[][..], |entry| &entry.elements);
    let field = fields.iter().find(|field| field.element == *name && field.part == part);
    wire::Offer {
        subsystem: offer.0.to_string(),
        service: offer.1.to_string(),
        field: field.map(|field| field.field.clone()).unwrap_or_default(),
        reason: field.and_then(|field| field.reason.as_ref()).map(ToString::to_string).unwrap_or_default(),
    }
}

fn counted(asked: Asked) -> wire::Asked {
    wire::Asked { reused: asked.reused, first: asked.first, again: asked.again }
}

fn version(then: &AskedThen) -> wire::AskedThen {
    wire::AskedThen { version: then.version.to_string(), time: then.at, asked: Some(counted(then.asked)) }
}
