//! Peers: the servers of those that the file binds calls to, and of those that grants let in. Each is dialled with the
//! relay's own code and this server's own certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use checks::{Wrong, failed, names, not_checked, ok, reach, warning};
use futures_util::future::join_all;
use http::{HeaderValue, Request};
use proto::global_configuration::Configuration;
use proto::identifier::{ServerId, SubsystemId};
use proto::transport::MAX_SKEW;
use rustls::{AlertDescription, CertificateError};

use super::clock::Offset;
use super::{Here, OTHERS, Part, Sheet};
use crate::body::Outgoing;
use crate::clock::Clock;
use crate::fields;
use crate::relay::{Peers, Target, Unreachable};

/// Most servers that are dialled; the rest is left out, and said to be.
pub const MAX_DIALLED: usize = 64;
/// A method that no server has: it answers UNIMPLEMENTED, and says the date.
const NO_METHOD: &str = "/causeway.relay.v1.Relay/Date";

/// Whom to dial.
#[derive(Default)]
pub(super) struct Called {
    /// This server, where others reach it.
    pub own: Option<(ServerId, String)>,
    peers: Vec<Peer>,
    /// How many servers are not dialled.
    left_out: usize,
}

/// A subsystem that we call, or that calls us.
struct Peer {
    subsystem: SubsystemId,
    side: Side,
    /// Its servers, and where each is.
    servers: Vec<(ServerId, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    /// A file binds calls to it.
    Provider,
    /// A grant lets it in.
    Consumer,
}

/// What dialling a server came to.
pub(super) struct Dialled(Result<Option<Offset>, Wrong>);

impl Dialled {
    /// This machine's clock against that server's.
    pub fn offset(&self) -> Option<Offset> {
        self.0.as_ref().ok().copied().flatten()
    }

    /// Whether it is up.
    pub fn reached(&self) -> Result<(), Wrong> {
        self.0.as_ref().map(|_| ()).map_err(Wrong::clone)
    }
}

/// Who is to be dialled: first those that we call.
pub(super) fn wanted(here: &Here) -> Called {
    let (Ok(file), Ok(stored)) = (here.file.get(), here.stored.get()) else { return Called::default() };
    let providers = file.configuration.bind.values().collect();
    let consumers = here.grants.get().into_iter().flatten().map(|grant| &grant.consumer).collect();
    called(&file.configuration.server, stored.configuration(), &providers, &consumers)
}

fn called(
    own: &ServerId,
    configuration: &Configuration,
    providers: &BTreeSet<&SubsystemId>,
    consumers: &BTreeSet<&SubsystemId>,
) -> Called {
    let sides = providers.iter().map(|subsystem| (*subsystem, Side::Provider));
    let sides = sides.chain(consumers.difference(providers).map(|subsystem| (*subsystem, Side::Consumer)));
    let address = configuration.servers.get(own).map(|registered| registered.address.clone());
    let mut called = Called { own: address.map(|address| (own.clone(), address)), ..Called::default() };
    let mut dialled = BTreeSet::new();
    for (subsystem, side) in sides {
        // One that nobody hosts is told with the bindings, or with the grants.
        let Some(servers) = configuration.servers_of(subsystem) else { continue };
        let mut reached = Vec::new();
        for server in servers {
            let Some(registered) = configuration.servers.get(server) else { continue };
            if server == own {
                continue;
            }
            if dialled.len() >= MAX_DIALLED && !dialled.contains(server) {
                called.left_out += 1;
                continue;
            }
            dialled.insert(server.clone());
            reached.push((server.clone(), registered.address.clone()));
        }
        if !reached.is_empty() {
            called.peers.push(Peer { subsystem: subsystem.clone(), side, servers: reached });
        }
    }
    called
}

/// Dials them all at once.
pub(super) async fn dial(here: &Here, called: &Called) -> BTreeMap<ServerId, Dialled> {
    let Ok(peers) = here.tls.get() else { return BTreeMap::new() };
    let servers = called.peers.iter().flat_map(|peer| &peer.servers).chain(&called.own);
    let servers: BTreeMap<_, _> = servers.cloned().collect();
    let dialling = servers.into_iter().map(async |(server, address)| {
        let cut = failed(
            format!("it says nothing within {OTHERS:?}: it hangs, or something on the way drops what is sent"),
            format!("ask {} whether its server hangs; nc -vz {}", server.owner(), reach::apart(&address)),
        );
        let target = Target { server: server.clone(), address };
        let dialled = tokio::time::timeout(OTHERS, one(peers, &target, &here.clock)).await;
        (server, Dialled(dialled.unwrap_or(Err(cut))))
    });
    join_all(dialling).await.into_iter().collect()
}

async fn one(peers: &Arc<Peers>, target: &Target, clock: &Clock) -> Result<Option<Offset>, Wrong> {
    let theirs = format!("the registry's entry of {}; its admin changes it", target.server);
    reach::name(&target.address, &theirs).await?;
    let up = peers.connection(target).await.map_err(|error| why(target, &error))?;
    let mut request = Request::new(Outgoing::empty().1);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = target.uri(NO_METHOD);
    request.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
    request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    let asked = clock.now();
    // One that says no date is reached all the same.
    let answer = up.requests().send_request(request).await.ok();
    let date = answer.as_ref().and_then(|answer| answer.headers().get(http::header::DATE)?.to_str().ok());
    Ok(date.and_then(|date| Offset::of(date, asked, clock.now())))
}

/// Why a server was not reached, and whose turn it is.
fn why(target: &Target, error: &Unreachable) -> Wrong {
    let (owner, place) = (target.server.owner(), reach::apart(&target.address));
    match error {
        Unreachable::Connect { error, .. } if error.kind() == std::io::ErrorKind::ConnectionRefused => failed(
            format!("nobody listens at {}: its server is down, or listens elsewhere", target.address),
            format!(
                "ask {owner} whether {} runs (there: security-server doctor); from here: nc -vz {place}",
                target.server
            ),
        ),
        Unreachable::Connect { error, .. } => failed(
            format!("{} cannot be reached: {error}", target.address),
            format!(
                "ip route get {}; look for a firewall between: nc -vz {place}",
                place.split(' ').next().unwrap_or_default()
            ),
        ),
        Unreachable::Tls { error, .. } => why_tls(target, error),
        Unreachable::Http { error, .. } => failed(
            format!("{} speaks no HTTP/2: {error}", target.address),
            format!("ask {owner} what listens there: it is no security server"),
        ),
        Unreachable::JustNow(_) | Unreachable::Timeout(_) => failed(
            error.to_string(),
            format!("look for a firewall that drops: nc -vz {place}; ask {owner} whether {} hangs", target.server),
        ),
    }
}

fn why_tls(target: &Target, error: &std::io::Error) -> Wrong {
    let (server, owner) = (&target.server, target.server.owner());
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let (finding, remedy) = match tls {
        Some(rustls::Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ("its certificate has expired".to_owned(), format!("{owner} is to renew the certificate of {server}"))
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                "its certificate is not good yet".to_owned(),
                "compare the clocks of both machines: timedatectl".to_owned(),
            ),
            CertificateError::ApplicationVerificationFailure => (
                "it shows a key that is not registered for it, or is revoked".to_owned(),
                format!("ask {owner} whether {server} was set up anew, and whether another machine has its address"),
            ),
            CertificateError::UnknownIssuer => (
                "no authority of the instance issued its certificate: something else answers there".to_owned(),
                format!("ask {owner} what listens at {}", target.address),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "it shows the certificate of another server".to_owned(),
                format!("ask {owner} which of its servers is at {}", target.address),
            ),
            other => (
                format!("its certificate is not taken: {other:?}"),
                format!("ask {owner} to run security-server doctor"),
            ),
        },
        Some(rustls::Error::AlertReceived(alert)) => {
            let finding = match alert {
                AlertDescription::CertificateExpired => "it says that OUR certificate has expired".to_owned(),
                AlertDescription::UnknownCA => "it does not know the authority that issued OUR certificate".to_owned(),
                alert => format!("it does not take OUR certificate ({alert:?})"),
            };
            let remedy = "see what is said of this server's certificate above; if that is fine, its clock or its configuration \
                          is old: ask it to run security-server doctor";
            (finding, remedy.to_owned())
        }
        Some(_) | None => (
            format!("it speaks no TLS as security servers do: {error}"),
            format!("ask {owner} what listens at {}", target.address),
        ),
    };
    failed(format!("{}: {finding}", target.address), remedy)
}

/// Tells of each subsystem that we call, or that calls us. `ours`: what is wrong with this server itself, which would be
/// why others do not talk to it.
pub(super) fn tell(
    sheet: &Sheet,
    here: &Here,
    called: &Called,
    dialled: &BTreeMap<ServerId, Dialled>,
    ours: Option<&Wrong>,
) {
    for Peer { subsystem, side, servers } in &called.peers {
        let places: Vec<_> = servers.iter().map(|(server, address)| format!("{server} at {address}")).collect();
        let line = sheet.line(Part::Peers, format!("peer {subsystem}"), places.join(", "));
        let looked = || {
            here.tls.get()?;
            let found = servers.iter().filter_map(|(server, _)| Some((server, dialled.get(server)?)));
            let (mut clocks, mut unreached) = (Vec::new(), Vec::new());
            for (server, dialled) in found {
                match dialled.reached() {
                    Ok(()) => clocks.extend(dialled.offset().map(|offset| (server, offset))),
                    Err(why) => unreached.push(why),
                }
            }
            if let (Some(ours), true) = (ours, !unreached.is_empty()) {
                return Err(ours.clone());
            }
            let is_down = unreached.len() == servers.len();
            match (unreached.into_iter().next(), *side) {
                (Some(why), Side::Provider) if is_down => return Err(why),
                (Some(why), Side::Provider) => return why.softened("another of its servers answers"),
                (Some(why), Side::Consumer) => return why.softened("it calls this server, not this server it"),
                (None, _) => {}
            }
            let told: Vec<_> = clocks.iter().map(|(_, offset)| offset.to("its clock")).collect();
            if let Some((server, offset)) = clocks.iter().find(|(_, offset)| offset.apart() > MAX_SKEW) {
                let finding = format!("it answers, and this clock is {}", offset.to(&format!("the clock of {server}")));
                return Ok(warning((), finding, format!("tell {}: timedatectl set-ntp true", server.owner())));
            }
            Ok(ok((), format!("it answers, and takes our certificate; {}", told.join(", "))))
        };
        line.says(looked());
    }
    if called.left_out > 0 {
        let line = sheet.line(Part::Peers, "more peers", format!("{} servers", called.left_out));
        line.says::<()>(Err(not_checked(format!("at most {MAX_DIALLED} are dialled"))));
    }
}

/// Whether whom the file binds calls to is registered.
pub(super) fn bindings(sheet: &Sheet, here: &Here) {
    let Here { file, stored, .. } = here;
    let count = file.get().map(|file| file.configuration.bind.len()).unwrap_or_default();
    let looked = || {
        let (file, configuration) = (file.get()?, stored.get()?.configuration());
        for (service, provider) in &file.configuration.bind {
            if configuration.servers_of(provider).is_some_and(|servers| !servers.is_empty()) {
                continue;
            }
            let place = file.at(&["bind", service]);
            let member = provider.member();
            if configuration.members.contains_key(&member) && configuration.active_member(&member).is_none() {
                let finding = format!("{service} is bound to {provider}, and {member} is suspended");
                return Ok(warning((), finding, format!("ask {member}; or bind another: {place}")));
            }
            let known = configuration.members.values().flat_map(|member| member.subsystems.keys());
            let near = names::did_you_mean(provider.as_str(), known.map(|subsystem| subsystem.as_str()));
            let finding = format!("{service} is bound to {provider}, which no registered server hosts{near}");
            return Err(failed(finding, format!("correct {place}")));
        }
        Ok(ok((), ""))
    };
    sheet.line(Part::Peers, "bindings", format!("{count} under [bind]")).says(looked());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::digest::Digest;
    use proto::global_configuration::{Member, Server, Standing};
    use proto::time::Time;

    use super::*;

    /// A configuration of so many members, each with one subsystem at one server.
    fn country(members: usize) -> Configuration {
        let mut configuration = Configuration {
            instance: "VN".parse().unwrap(),
            version: 1,
            digest: Digest::ZERO,
            signed_at: Time::default(),
            expires_at: Time::default(),
            members: BTreeMap::new(),
            servers: BTreeMap::new(),
            authentication: BTreeMap::new(),
            authorities: Vec::new(),
            timestamping: Vec::new(),
            purposes: Default::default(),
            revoked: BTreeSet::new(),
            last_heads: BTreeMap::new(),
            catalogue: Default::default(),
            ledger: None,
        };
        for number in 0..members {
            let server: ServerId = format!("VN/GOV/m{number}/ss1").parse().unwrap();
            let subsystem: SubsystemId = format!("VN/GOV/m{number}/a").parse().unwrap();
            let member = Member {
                name: String::new(),
                standing: Standing::Active,
                subsystems: BTreeMap::from([(subsystem.clone(), BTreeSet::from([server.clone()]))]),
                signing_keys: BTreeMap::new(),
            };
            configuration.members.insert(subsystem.member(), member.into());
            let registered =
                Server { address: format!("m{number}:1"), authentication_keys: BTreeSet::new(), maintenance: None };
            configuration.servers.insert(server, registered.into());
        }
        configuration
    }

    #[test]
    fn so_many_servers_are_dialled_and_of_the_rest_it_is_said() {
        let own = "VN/GOV/m0/ss1".parse().unwrap();
        let of = |members: usize| {
            let configuration = country(members);
            let subsystems: Vec<_> =
                configuration.members.values().flat_map(|member| member.subsystems.keys()).collect();
            let called = called(&own, &configuration, &BTreeSet::new(), &subsystems.into_iter().collect());
            assert_eq!(called.own, Some((own.clone(), "m0:1".to_owned())));
            (called.peers.len(), called.left_out)
        };
        assert_eq!(of(MAX_DIALLED + 1), (MAX_DIALLED, 0), "itself is no peer");
        assert_eq!(of(MAX_DIALLED + 2), (MAX_DIALLED, 1));
    }

    #[test]
    fn a_consumer_that_is_called_too_stands_there_once_as_one_that_is_called() {
        let (configuration, own) = (country(3), "VN/GOV/m0/ss1".parse().unwrap());
        let subsystem: SubsystemId = "VN/GOV/m1/a".parse().unwrap();
        let both = BTreeSet::from([&subsystem]);
        let called = called(&own, &configuration, &both, &both);
        let sides: Vec<_> = called.peers.iter().map(|peer| (&peer.subsystem, peer.side)).collect();
        assert_eq!(sides, [(&subsystem, Side::Provider)]);
    }
}
