//! Which server is asked? Named by the call or bound by the admin; a change of the catalogue never changes a route.

use std::sync::Arc;

use proto::global_configuration::Configuration;
use proto::identifier::{ServerId, SubsystemId};
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

/// Where the call goes: the provider's server (see [`target`]), and a share of the exchanges with it.
pub fn provider(
    peers: &Arc<Peers>,
    call: Authorized<Judged<Call>>,
) -> Result<Routed<Authorized<Judged<Call>>>, Refusal> {
    let judged = call.call();
    let configuration = judged.in_force().map_err(|_| Refusal::new(Code::ConfigurationExpired, "it expired"))?;
    let asked = &judged.message().asked;
    let target = target(peers, configuration, &asked.provider, asked.server.as_ref())?;
    // A provider that hangs must not take the exchanges with all others.
    let share = peers.share(&target.server, judged.message().permit.priority()).ok_or_else(|| {
        let why = format!("{MAX_EXCHANGES_WITH_PEER} exchanges run with {}", target.server);
        Refusal::new(Code::TooManyExchanges, why)
    })?;
    let route = Route {
        instance: configuration.instance.clone(),
        consumer: call.consumer().clone(),
        consumer_server: call.server().clone(),
        provider: asked.provider.clone(),
        provider_server: target.server.clone(),
        operation: asked.operation.clone(),
    };
    Ok(Routed { route, target: (Arc::clone(peers), target), share, call })
}

/// The provider's server: one that hosts the subsystem and is not in maintenance, and took exchanges a moment ago if there is
/// a choice; else the one that has had the longest time to come back.
pub(crate) fn target(
    peers: &Peers,
    configuration: &Configuration,
    provider: &SubsystemId,
    named: Option<&ServerId>,
) -> Result<Target, Refusal> {
    let member = provider.member();
    if configuration.members.contains_key(&member) && configuration.active_member(&member).is_none() {
        return Err(Refusal::new(Code::ProviderSuspended, format!("{member} is suspended")));
    }
    let unknown = || Refusal::new(Code::ProviderUnknown, format!("no registered server hosts {provider}"));
    let hosts = configuration.servers_of(provider).ok_or_else(unknown)?;
    let is_meant = |server: &&ServerId| named.is_none_or(|named| named == *server);
    if !hosts.iter().any(|server| is_meant(&server)) {
        let why = format!("{provider} is not hosted at the server that the call names");
        return Err(Refusal::new(Code::ProviderUnknown, why.clone()).telling(why));
    }
    let notice = |server: &ServerId| configuration.servers.get(server).and_then(|server| server.maintenance.as_ref());
    let open = hosts.iter().filter(is_meant).filter(|server| notice(server).is_none());
    let chosen = open.min_by_key(|server| peers.avoided_since(server)).ok_or_else(|| {
        let closed = hosts.iter().filter(is_meant).find_map(|server| notice(server).map(|notice| (server, notice)));
        closed.map_or_else(unknown, |(server, notice)| {
            Refusal::new(Code::ProviderInMaintenance, format!("{server} is in maintenance: {notice}"))
        })
    })?;
    let address = configuration.servers.get(chosen).ok_or_else(unknown)?.address.clone();
    Ok(Target { server: chosen.clone(), address })
}
