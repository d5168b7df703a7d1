//! Which server is asked? Named by the call or bound by the admin; a change of the catalogue never changes a route.

use std::sync::Arc;

use proto::identifier::ServerId;
use proto::message::Route;
use proto::refusal::Code;
use tokio::sync::OwnedSemaphorePermit;

use crate::authorize::Authorized;
use crate::listen::{Call, MAX_EXCHANGES_WITH_PEER};
use crate::moment::Judged;
use crate::refusal::Refusal;
use crate::relay::{Peers, Target};

/// A call that has its route, both servers named: the seal binds it. Only [`provider`] makes one.
#[must_use]
pub struct Routed<T> {
    route: Route,
    target: (Arc<Peers>, Target),
    share: OwnedSemaphorePermit,
    call: T,
}

impl Routed<Authorized<Judged<Call>>> {
    /// The route, where it leads, its share of the exchanges with that server, and the call.
    pub(crate) fn spent(self) -> (Route, (Arc<Peers>, Target), OwnedSemaphorePermit, Judged<Call>) {
        (self.route, self.target, self.share, self.call.spent())
    }
}

/// The provider's server: one that hosts the subsystem and is not in maintenance, and took exchanges a moment ago if there is
/// a choice; else the one that has had the longest time to come back.
pub fn provider(
    peers: &Arc<Peers>,
    call: Authorized<Judged<Call>>,
) -> Result<Routed<Authorized<Judged<Call>>>, Refusal> {
    let judged = call.call();
    let configuration = judged.in_force().map_err(|_| Refusal::new(Code::ConfigurationExpired, "it expired"))?;
    let asked = &judged.message().asked;
    let member = asked.provider.member();
    if configuration.members.contains_key(&member) && configuration.active_member(&member).is_none() {
        return Err(Refusal::new(Code::ProviderSuspended, format!("{member} is suspended")));
    }
    let unknown = || Refusal::new(Code::ProviderUnknown, format!("no registered server hosts {}", asked.provider));
    let hosts = configuration.servers_of(&asked.provider).ok_or_else(unknown)?;
    let named = |server: &&ServerId| asked.server.as_ref().is_none_or(|named| named == *server);
    if !hosts.iter().any(|server| named(&server)) {
        let why = format!("{} is not hosted at the server that the call names", asked.provider);
        return Err(Refusal::new(Code::ProviderUnknown, why.clone()).telling(why));
    }
    let notice = |server: &ServerId| configuration.servers.get(server).and_then(|server| server.maintenance.as_ref());
    let open = hosts.iter().filter(named).filter(|server| notice(server).is_none());
    let chosen = open.min_by_key(|server| peers.avoided_since(server)).ok_or_else(|| {
        let closed = hosts.iter().filter(named).find_map(|server| notice(server).map(|notice| (server, notice)));
        closed.map_or_else(unknown, |(server, notice)| {
            Refusal::new(Code::ProviderInMaintenance, format!("{server} is in maintenance: {notice}"))
        })
    })?;
    // A provider that hangs must not take the exchanges with all others.
    let share = peers.share(chosen).ok_or_else(|| {
        Refusal::new(Code::TooManyExchanges, format!("{MAX_EXCHANGES_WITH_PEER} exchanges run with {chosen}"))
    })?;
    let address = configuration.servers.get(chosen).ok_or_else(unknown)?.address.clone();
    let route = Route {
        instance: configuration.instance.clone(),
        consumer: call.consumer().clone(),
        consumer_server: call.server().clone(),
        provider: asked.provider.clone(),
        provider_server: chosen.clone(),
        operation: asked.operation.clone(),
    };
    let target = (Arc::clone(peers), Target { server: chosen.clone(), address });
    Ok(Routed { route, target, share, call })
}
