//! What an entry would take off the road, told before it is made. It is the register's own rules that say so: the entry is
//! applied to a copy, and what served before and does not after is what it would take.

use std::collections::BTreeSet;

use proto::global_configuration::Standing;
use proto::global_configuration::document::{Der, MemberDocument};
use proto::identifier::{MemberId, ServerId, SubsystemId};

use super::{Admitted, Hex, Register};

/// What would be lost, as far as the register knows: it knows no services, no grants and no traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreseen {
    /// Members that could exchange nothing any more.
    pub members: Vec<MemberId>,
    /// Servers with which nobody would speak any more.
    pub servers: Vec<ServerId>,
    /// Subsystems that no server would serve any more.
    pub subsystems: Vec<SubsystemId>,
    /// Subsystems that would lose this server, and keep another.
    pub thinned: Vec<(SubsystemId, ServerId)>,
    /// How many active members there would still be besides: among them are consumers and providers of what is lost.
    pub other_members: usize,
    /// How many subsystems they have.
    pub other_subsystems: usize,
}

impl Register {
    /// What this entry would take off the road.
    pub fn foresee(&self, admitted: &Admitted) -> Foreseen {
        let mut after = self.clone();
        after.apply(Admitted(admitted.0.clone()));
        let (before, after) = (self.road(), after.road());
        let kept: BTreeSet<&SubsystemId> = after.served.iter().map(|(subsystem, _)| subsystem).collect();
        let lost = before.served.difference(&after.served);
        let (thinned, gone): (Vec<_>, Vec<_>) = lost.cloned().partition(|(subsystem, _)| kept.contains(subsystem));
        let gone: BTreeSet<SubsystemId> = gone.into_iter().map(|(subsystem, _)| subsystem).collect();
        let touched: BTreeSet<MemberId> = gone
            .iter()
            .map(SubsystemId::member)
            .chain(thinned.iter().map(|(subsystem, _)| subsystem.member()))
            .collect();
        let members: Vec<_> = before.members.difference(&after.members).cloned().collect();
        let others: Vec<_> = after.members.iter().filter(|member| !touched.contains(*member)).collect();
        let of_others = kept.iter().filter(|subsystem| !touched.contains(&subsystem.member()));
        Foreseen {
            members,
            servers: before.servers.difference(&after.servers).cloned().collect(),
            subsystems: gone.into_iter().collect(),
            thinned,
            other_members: others.len(),
            other_subsystems: of_others.count(),
        }
    }

    fn road(&self) -> Road {
        let mut road = Road::default();
        for member in self.members.values() {
            road.servers.extend(member.servers.iter().filter_map(|server| {
                server.authentication.iter().any(|der| self.is_good(der)).then(|| server.server.clone())
            }));
        }
        for member in self.members.values().filter(|member| member.standing == Standing::Active) {
            road.members.insert(member.member.clone());
            let serves = |server: &ServerId| road.servers.contains(server) && self.signs_at(member, server);
            for each in &member.subsystems {
                let served = each.servers.iter().filter(|server| serves(server));
                road.served.extend(served.map(|server| (each.subsystem.clone(), server.clone())));
            }
        }
        road
    }

    fn signs_at(&self, member: &MemberDocument, server: &ServerId) -> bool {
        member.signing.iter().any(|each| each.server == *server && self.is_good(&each.certificate))
    }

    fn is_good(&self, certificate: &Der) -> bool {
        let key = proto::certificate::public_key(certificate.as_bytes());
        key.is_ok_and(|key| !self.revoked.contains_key(&Hex(key.id())))
    }
}

/// Who is on the road, and what is served there.
#[derive(Default)]
struct Road {
    members: BTreeSet<MemberId>,
    servers: BTreeSet<ServerId>,
    served: BTreeSet<(SubsystemId, ServerId)>,
}
