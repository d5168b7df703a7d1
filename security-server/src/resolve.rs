//! Which server is asked? Named by the call or bound by the admin; a change of the catalogue never changes a route.

use std::sync::Arc;

use proto::message::{Operation, Route};
use proto::refusal::Code;

use crate::authorize::Authorized;
use crate::listen::Call;
use crate::moment::Judged;
use crate::refusal::Refusal;
use crate::relay::{Peers, Target};

/// A call that has its route, both servers named: the seal binds it. Only [`provider`] makes one.
#[must_use]
pub struct Routed<T> {
    route: Route,
    target: (Arc<Peers>, Target),
    call: T,
}

impl Routed<Authorized<Judged<Call>>> {
    /// The route, where it leads, and the call.
    pub(crate) fn spent(self) -> (Route, (Arc<Peers>, Target), Judged<Call>) {
        (self.route, self.target, self.call.spent())
    }
}

/// The provider's server: one that hosts the subsystem, and was not out of reach a moment ago if there is a choice.
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
    let chosen = hosts.iter().find(|server| !peers.is_avoided(server)).or_else(|| hosts.first()).ok_or_else(unknown)?;
    let address = configuration.servers.get(chosen).ok_or_else(unknown)?.address.clone();
    let route = Route {
        instance: configuration.instance.clone(),
        consumer: call.consumer().clone(),
        consumer_server: call.server().clone(),
        provider: asked.provider.clone(),
        provider_server: chosen.clone(),
        operation: Operation::Grpc(asked.path.clone()),
    };
    let target = (Arc::clone(peers), Target { server: chosen.clone(), address });
    Ok(Routed { route, target, call })
}
