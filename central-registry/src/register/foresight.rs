//! What an entry would change, told before it is made: in sentences, and, where it takes somebody off the road, whom. It is
//! the register's own rules that say so: the entry is applied to a copy, and what served before and does not after is what it
//! takes.

use std::collections::BTreeSet;

use proto::global_configuration::Standing;
use proto::global_configuration::document::{Der, MemberDocument};
use proto::identifier::{MemberId, ServerId, SubsystemId};
use proto::registration::{RequestId, Text};
use proto::signature::KeyId;
use proto::time::Time;

use super::{Admitted, Applied, Event, Hex, KeyUse, Register};

/// What would be taken off the road, as far as the register knows: it knows no services, no grants and no traffic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
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
    /// What the entry would change, in sentences without a subject: what a dry run says.
    pub fn foreseen(&self, admitted: &Admitted) -> Vec<String> {
        let first = match &admitted.entry().event {
            Event::Invited { invitation, .. } => {
                let until = Time::from_millis(admitted.entry().at).plus(invitation.valid);
                let subsystems = invitation.subsystems.iter().map(SubsystemId::as_str).collect::<Vec<_>>().join(", ");
                let hosting = if subsystems.is_empty() { "no subsystem" } else { &subsystems };
                format!("let {} join once until {until}, hosting {hosting}", invitation.server)
            }
            Event::Approved { request, .. } => return self.foreseen_approval(*request),
            Event::Rejected { request, reason } => {
                format!("reject {request} for good; its applicant reads \"{reason}\"")
            }
            Event::Suspended { member, .. } => {
                format!("suspend {member}: from the next message on it calls nobody, and nobody calls it")
            }
            Event::Restored { member } => return self.foreseen_return(member),
            Event::Revoked { key, last_head, .. } => match (self.revoked(key.0), self.keys.get(key)) {
                (Some(_), _) => format!("name the last head of the key {}, for evidence of what is under it", key.0),
                (None, Some(held)) => {
                    let with = if last_head.is_some() { ", with its last head" } else { "" };
                    format!("revoke the key {}, {}, for good{with}: in force on the next message", key.0, held.for_what)
                }
                (None, None) => return Vec::new(),
            },
            Event::Moved { server, address } => format!("have everybody reach {server} at {address}"),
            Event::Maintained { server, notice: Some(notice) } => {
                format!("say that {server} is in maintenance: \"{notice}\"")
            }
            Event::Maintained { server, notice: None } => format!("say that {server} is back from maintenance"),
            Event::Hosted { subsystem, server } => format!("let {server} speak for {subsystem}"),
            Event::Unhosted { subsystem, server } => format!("let {server} speak for {subsystem} no more"),
            Event::PurposeSet { purpose } => {
                let known = self.purposes().iter().any(|each| each.purpose == purpose.purpose);
                let what = if known { "say of the purpose" } else { "let data be asked for the purpose" };
                format!("{what} {}: \"{}\", \"{}\"", purpose.purpose, purpose.en, purpose.vi)
            }
            Event::PurposeRemoved { purpose, .. } => {
                format!("let nobody be granted anything for {purpose} any more; grants that name it go on to their end")
            }
            Event::Leaving { member, reason } => format!("note that {member} asks to leave: \"{reason}\""),
            Event::Removed { what, .. } => format!("remove {what} for good: nobody ever gets its name again"),
            Event::Confirmed { command } => {
                format!("confirm the command {}, which still another person is to confirm", command.0)
            }
            Event::Founded { .. }
            | Event::Governed { .. }
            | Event::Proposed { .. }
            | Event::Applied { .. }
            | Event::Renewed { .. }
            | Event::Listed { .. }
            | Event::GrantsTold { .. }
            | Event::BackedUp { .. }
            | Event::Started { .. }
            | Event::Timestamping { .. }
            | Event::Adopted { .. }
            | Event::AdoptedRevocation { .. }
            | Event::AdoptedLeaves { .. }
            | Event::PutBack { .. }
            | Event::Published { .. } => return Vec::new(),
        };
        let taken = match &admitted.entry().event {
            Event::Suspended { .. } | Event::Revoked { .. } | Event::Unhosted { .. } | Event::Removed { .. } => {
                self.taken_by(admitted).sentences()
            }
            _ => Vec::new(),
        };
        let begotten = match &admitted.entry().event {
            Event::Revoked { key, .. } if self.revoked(key.0).is_none() => self.foreseen_descendants(key.0),
            _ => Vec::new(),
        };
        [first].into_iter().chain(begotten).chain(taken).collect()
    }

    /// The keys that go on holding though they came of the one that is revoked.
    fn foreseen_descendants(&self, key: KeyId) -> Vec<String> {
        let holds = |child: &KeyId| !self.revoked.contains_key(&Hex(*child)) && self.keys.contains_key(&Hex(*child));
        let line = |child: KeyId| {
            let for_what = self.keys.get(&Hex(child)).map(|held| held.for_what.to_string()).unwrap_or_default();
            format!(
                "leave the key {child} good, {for_what}: it was certified at this one's request, or at that of one that was, so \
                 whoever stole this one may have had it certified; revoke it too if its server does not hold it"
            )
        };
        self.descendants(key).into_iter().filter(holds).map(line).collect()
    }

    fn foreseen_approval(&self, id: RequestId) -> Vec<String> {
        let Some(request) = self.requests.get(&id) else { return Vec::new() };
        let Applied { member, server, address, subsystems, .. } = &request.application;
        let name = request.name.as_ref().map_or_else(|| member.as_str(), Text::as_str);
        let added = (!self.members.contains_key(member)).then(|| format!("add the member {member}, \"{name}\""));
        let certified = format!("certify two keys of the server {server} at {address}");
        let hosted = subsystems.iter().map(|subsystem| format!("let {server} speak for {subsystem}"));
        added.into_iter().chain([certified]).chain(hosted).collect()
    }

    fn foreseen_return(&self, member: &MemberId) -> Vec<String> {
        let subsystems = self.members.get(member).into_iter().flat_map(|member| &member.subsystems);
        let first = format!("restore {member}: it may call again");
        [first].into_iter().chain(subsystems.map(|each| format!("let {} be called", each.subsystem))).collect()
    }

    /// What this entry would take off the road.
    pub fn taken_by(&self, admitted: &Admitted) -> Taken {
        let mut after = self.clone();
        after.apply(Admitted(admitted.0.clone()));
        let (before, after) = (self.road(), after.road());
        let kept: BTreeSet<&SubsystemId> = after.served.iter().map(|(subsystem, _)| subsystem).collect();
        let lost = before.served.difference(&after.served).cloned();
        let (thinned, gone): (Vec<_>, Vec<_>) = lost.partition(|(subsystem, _)| kept.contains(subsystem));
        let gone: BTreeSet<SubsystemId> = gone.into_iter().map(|(subsystem, _)| subsystem).collect();
        let losers = gone.iter().chain(thinned.iter().map(|(subsystem, _)| subsystem));
        let losers: BTreeSet<MemberId> = losers.map(SubsystemId::member).collect();
        Taken {
            members: before.members.difference(&after.members).cloned().collect(),
            servers: before.servers.difference(&after.servers).cloned().collect(),
            other_members: after.members.difference(&losers).count(),
            other_subsystems: kept.iter().filter(|subsystem| !losers.contains(&subsystem.member())).count(),
            subsystems: gone.into_iter().collect(),
            thinned,
        }
    }

    fn road(&self) -> Road {
        let mut road = Road::default();
        for server in self.members.values().flat_map(|member| &member.servers) {
            if server.authentication.iter().any(|certificate| self.is_good(certificate)) {
                road.servers.insert(server.server.clone());
            }
        }
        for member in self.members.values().filter(|member| member.standing == Standing::Active) {
            road.members.insert(member.member.clone());
            for each in &member.subsystems {
                let serves = |server: &&ServerId| road.servers.contains(*server) && self.signs_at(member, server);
                let served = each.servers.iter().filter(serves);
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

impl Taken {
    /// In sentences, the last of which says what the register cannot know.
    fn sentences(&self) -> Vec<String> {
        let members = self.members.iter().map(|member| format!("take the member {member} off the road"));
        let servers = self.servers.iter().map(|server| format!("take the server {server} off the road"));
        let gone = self.subsystems.iter().map(|subsystem| format!("leave {subsystem} without a server"));
        let thinned = self.thinned.iter();
        let thinned = thinned.map(|(subsystem, server)| format!("take {server} from {subsystem}, which keeps another"));
        let unknown = format!(
            "stop what runs with these, and that is not known here: which services they offer, and who of the {} other \
             active members, with {} subsystems, asks them or is asked (`security-server access list` at each)",
            self.other_members, self.other_subsystems
        );
        members.chain(servers).chain(gone).chain(thinned).chain([unknown]).collect()
    }
}

impl std::fmt::Display for KeyUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Authentication { server } => write!(f, "by which {server} is known"),
            Self::Signing { member, server } => write!(f, "with which {member} seals at {server}"),
            Self::Forgotten => f.write_str("of a registration that was lost"),
        }
    }
}
