//! May it? Asked before anything leaves and before anything is handed on, and again with every message: a grant, key or
//! membership that ends stops a stream before its next piece.

use proto::global_configuration::Configuration;
use proto::identifier::{ServerId, SubsystemId};
use proto::message::{Cause, Contents, Header};
use proto::refusal::{Code, Form};
use tokio::sync::OwnedSemaphorePermit;

use crate::access_rights::{AccessRights, Granted, Looked};
use crate::authenticate::Authenticated;
use crate::forward::{OwnArrived, OwnEnd};
use crate::listen::{Call, ClaimedOpening};
use crate::message_log::{Claimed, Handed, TheirDirection};
use crate::moment::{Judged, Moment};
use crate::quota::Quotas;
use crate::refusal::{BareRefusal, Refusal};
use crate::subjects::{Gate, NotDescribed, Subject};
use crate::verify::{Disproved, Verified, VerifiedOpening};
use crate::way::{Side, Stop, Way};

/// A call that may be made by this subsystem from this server. Only [`departure`] makes one.
#[must_use]
pub struct Authorized<T> {
    consumer: SubsystemId,
    server: ServerId,
    call: T,
}

impl<T> Authorized<T> {
    /// The subsystem that asks.
    pub fn consumer(&self) -> &SubsystemId {
        &self.consumer
    }

    /// This server.
    pub fn server(&self) -> &ServerId {
        &self.server
    }

    /// The call.
    pub fn call(&self) -> &T {
        &self.call
    }

    pub(crate) fn spent(self) -> T {
        self.call
    }
}

/// May it ask at all? Its member is active and its subsystem registered at this server.
pub fn departure(
    server: &ServerId,
    call: Authenticated<Judged<Call>, SubsystemId>,
) -> Result<Authorized<Judged<Call>>, Refusal> {
    let (consumer, call) = call.spent();
    let configuration = call.in_force().map_err(|_| {
        Refusal::new(Code::ConfigurationExpired, "the configuration is past its validity: is the registry reachable?")
    })?;
    let consumer = at_home(server, configuration, consumer)?;
    Ok(Authorized { consumer, server: server.clone(), call })
}

/// A subsystem that is registered at this server, of an active member.
pub(crate) fn at_home(
    server: &ServerId,
    configuration: &Configuration,
    consumer: SubsystemId,
) -> Result<SubsystemId, Refusal> {
    let member = consumer.member();
    if configuration.members.contains_key(&member) && configuration.active_member(&member).is_none() {
        return Err(Refusal::new(Code::MemberSuspended, format!("{member} is suspended")));
    }
    if !configuration.hosts(server, &consumer) {
        let why = format!("{consumer} is not registered at {server}: register the subsystem, or correct [[client]]");
        return Err(Refusal::new(Code::ClientUnknown, why));
    }
    Ok(consumer)
}

/// What answers an admitted opening.
pub enum Answerer {
    /// The service, under a grant, and its share of the exchanges.
    Service(Granted, OwnedSemaphorePermit),
    /// The refusal itself.
    Refusal(Code),
}

/// Granted, or refused within the quota: then its service is the refusal itself, and nothing of the payload is kept.
#[must_use]
pub struct Admitted {
    answerer: Answerer,
    verified: Verified<Judged<ClaimedOpening>>,
    direction: TheirDirection,
    about: Vec<Subject>,
}

impl Admitted {
    pub(crate) fn spent(self) -> (Answerer, Verified<Judged<ClaimedOpening>>, TheirDirection, Vec<Subject>) {
        (self.answerer, self.verified, self.direction, self.about)
    }
}

/// Proven, and not allowed. To be answered within the peer's quota.
pub struct Refused {
    code: Code,
    opening: Box<(Verified<Judged<ClaimedOpening>>, TheirDirection, ServerId)>,
}

/// Pronounces what the look-up found, now that the signature holds (PROTOCOL.md 6.2, step 8).
#[allow(clippy::result_large_err, reason = "the refused opening is carried on: its answer is sealed like any other")]
pub fn arrival(opening: VerifiedOpening) -> Result<Admitted, Refused> {
    let VerifiedOpening { mut verified, mut direction, looked, gate, peer } = opening;
    let admitted = match looked {
        Looked::Granted(granted) => about_whom(&mut verified, &mut direction, gate).and_then(|about| {
            let share = granted.service.share(granted.grant.priority).ok_or(Code::TooManyExchanges)?;
            Ok((Answerer::Service(granted, share), about))
        }),
        Looked::Refused(code) => Err(code),
    };
    match admitted {
        Ok((answerer, about)) => Ok(Admitted { answerer, verified, direction, about }),
        Err(code) => Err(Refused { code, opening: Box::new((verified, direction, peer)) }),
    }
}

/// Whom the opening names, where the method's requests name persons (PROTOCOL.md 21.3). It has a purpose then.
fn about_whom(
    verified: &mut Verified<Judged<ClaimedOpening>>,
    direction: &mut TheirDirection,
    gate: Result<Option<Box<Gate>>, NotDescribed>,
) -> Result<Vec<Subject>, Code> {
    let Some(mut gate) = gate.map_err(|NotDescribed| Code::NotReady)? else { return Ok(Vec::new()) };
    let (header, contents) = verified.parts_mut();
    if header.opening.as_ref().is_none_or(|opening| opening.purpose.is_empty()) {
        return Err(Code::GrantPurpose);
    }
    let about = gate.take(contents, header.end.as_ref())?;
    direction.gate = Some(gate);
    Ok(about)
}

impl Refused {
    /// As a sealed, recorded answer where the peer's quota allows; bare above it, and where it says how this server is
    /// rather than what the peer may.
    pub fn within(self, quotas: &Quotas) -> Result<Admitted, BareRefusal> {
        let (verified, direction, peer) = *self.opening;
        if self.code.form() == Form::Bare {
            let why = match self.code {
                Code::NotReady => {
                    "what the fields of the service mean is not known here yet: is the registry reachable?"
                }
                _ => "the service that is asked has as many as it may",
            };
            return Err(BareRefusal::new(self.code, why));
        }
        if quotas.within(&peer) {
            let about = Vec::new();
            Ok(Admitted { answerer: Answerer::Refusal(self.code), verified, direction, about })
        } else {
            Err(BareRefusal::new(Code::OverQuota, format!("{peer} was refused too often: {}", self.code)))
        }
    }
}

/// Our message, or the abort that stands in its place. Only [`may_go_on`] makes one.
#[must_use]
pub struct MayGoOn<'m>(Judged<Handed<'m>>);

impl<'m> MayGoOn<'m> {
    pub(crate) fn spent(self) -> Judged<Handed<'m>> {
        self.0
    }
}

/// A grant, membership or configuration that ended makes a message of ours an abort.
pub fn may_go_on<'m>(rights: &AccessRights, mut message: Judged<Handed<'m>>) -> MayGoOn<'m> {
    let allowed = still(rights, message.moment(), message.message().way());
    let way = message.message().way().clone();
    let arrived = message.message_mut().arrived_mut();
    if let Err(stop) = allowed {
        // An end that is ours to give needs no permission; what came with it does.
        let end = match arrived.end {
            Some(end @ (OwnEnd::Abort(_) | OwnEnd::Refused(_))) => end,
            _ => OwnEnd::Abort(stop.cause),
        };
        *arrived = OwnArrived { end: Some(end), ..OwnArrived::default() };
        way.stop(stop);
    }
    MayGoOn(message)
}

/// Their message, or why it is kept from our system. Only [`may_be_handed_on`] makes one.
#[must_use]
pub struct MayBeHandedOn<'m> {
    verdict: Verdict,
    message: Judged<Claimed<'m>>,
}

/// What becomes of a message of theirs.
#[allow(clippy::large_enum_variant, reason = "nearly every message is handed on: boxing would cost each of them")]
pub enum Verdict {
    /// It is recorded and handed on.
    HandOn {
        /// Its header.
        header: Box<Header>,
        /// What it carries.
        contents: Contents,
        /// Whom it names.
        about: Vec<Subject>,
    },
    /// It is kept from our system, and the exchange stops.
    Withhold(Stop),
}

impl<'m> MayBeHandedOn<'m> {
    pub(crate) fn spent(self) -> (Verdict, Judged<Claimed<'m>>) {
        (self.verdict, self.message)
    }
}

/// Verified, and still allowed.
pub fn may_be_handed_on<'m>(
    rights: &AccessRights,
    message: Result<Verified<Judged<Claimed<'m>>>, Disproved<'m>>,
) -> MayBeHandedOn<'m> {
    match message {
        Ok(verified) => {
            let (header, mut contents, mut message) = verified.spent();
            // Which priority the grant of this call has, the provider knows: our door goes by it from the next call on.
            if let Some(priority) = message.message().said_priority(&header) {
                let route = &header.route;
                let whom = (&route.consumer, &route.provider);
                rights.told.note(whom, &route.operation, &message.message().way().why.purpose, priority);
            }
            let verdict = match still(rights, message.moment(), message.message().way()) {
                Ok(()) => match message.message_mut().named(&header, &mut contents) {
                    Ok(about) => Verdict::HandOn { header: Box::new(header), contents, about },
                    Err(code) => Verdict::Withhold(Stop::refused(code)),
                },
                Err(stop) => Verdict::Withhold(stop),
            };
            MayBeHandedOn { verdict, message }
        }
        Err(disproved) => {
            let (stop, message) = disproved.spent();
            MayBeHandedOn { verdict: Verdict::Withhold(stop), message }
        }
    }
}

/// Whether an exchange may still go on at this moment: both servers still host their subsystems, of active members; the
/// peer's keys, of its connection and of its seals, are still good; at the provider, so is the grant.
pub(crate) fn still(rights: &AccessRights, moment: &Moment, way: &Way) -> Result<(), Stop> {
    let configuration = moment.in_force().map_err(|_| Stop::because(Cause::Forbidden, Code::ConfigurationExpired))?;
    let route = &way.route;
    let hosted = configuration.hosts(&route.consumer_server, &route.consumer)
        && configuration.hosts(&route.provider_server, &route.provider);
    let granted = match (way.side, &way.grant) {
        (Side::Consumer, _) | (Side::Provider, None) => true,
        (Side::Provider, Some(grant)) => rights.is_good(grant.number, moment.now()),
    };
    let (peer, member) = match way.side {
        Side::Consumer => (&route.provider_server, route.provider.member()),
        Side::Provider => (&route.consumer_server, route.consumer.member()),
    };
    let (connection, signing) = way.peer_keys();
    let known = connection.is_none_or(|key| configuration.authenticates(peer, key))
        && signing.iter().all(|key| configuration.stands_by(&member, peer, key, moment.now()));
    if hosted && granted && known { Ok(()) } else { Err(Stop::because(Cause::Forbidden, Code::AccessEnded)) }
}
