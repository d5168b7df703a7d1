//! Access requests (PROTOCOL.md 19): a consumer's admin asks, the provider's admin decides, and both servers keep it. What is
//! here is a view of the audit log; requests and answers go from server to server beside the exchanges, and none waits for them.
//!
//! A request is carried until it is decided: at once, whenever an operator looks, and every minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use command_line::did_you_mean;
use futures_util::{StreamExt, stream};
use proto::access::{
    AccessAcceptance, AccessDecision, AccessRequest, Decided, Grant, MAX_OPEN, MAX_OPEN_OF_MEMBER, NotTaken,
    REQUEST_WAITS, RequestDigest, SignedDocument,
};
use proto::catalogue::ServiceName;
use proto::digest::Digest;
use proto::global_configuration::Configuration;
use proto::identifier::{MemberId, MethodPath, ServerId, SubsystemId};
use proto::purposes::PurposeCode;
use proto::registration::{Malformed, Text};
use proto::signature::purpose;
use proto::time::Time;
use proto::wire::relay as wire;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::access_rights::{NotGranted, NotReceived, may_be_granted};
use crate::audit::{Actor, Noted};
use crate::listings::{is_seen, seen};
use crate::relay::{NotAnswered, Target};
use crate::{SecurityServer, listings};

/// How often what was asked and is not decided is carried again.
pub const CARRY_INTERVAL: Duration = Duration::from_secs(60);
/// For how long access is asked where nobody says.
pub const ASKED_DAYS: u64 = 365;
/// Requests that are carried at once: one provider that does not answer keeps no other one waiting.
const CARRIED_AT_ONCE: usize = 16;
/// How long whoever looks at what was sent waits for the providers. What is not answered by then is carried on.
pub const LOOK_WAITS: Duration = Duration::from_secs(10);
/// Requests of this server's own subsystems that may be on their way.
const MAX_SENT: usize = 1024;
/// Fewest letters of a request's name that name it.
const MIN_NAMED: usize = 6;

/// The requests, as the entries of the audit log make them.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) received: BTreeMap<RequestDigest, Received>,
    pub(crate) sent: BTreeMap<RequestDigest, Sent>,
}

/// A request that came.
pub(crate) struct Received {
    pub(crate) request: AccessRequest,
    at: Time,
    decision: Option<(SignedDocument, AccessDecision)>,
    pub(crate) acceptance: Option<SignedDocument>,
}

/// A request that is ours.
pub(crate) struct Sent {
    request: AccessRequest,
    signed: SignedDocument,
    pub(crate) decision: Option<(SignedDocument, AccessDecision)>,
    acceptance: Option<SignedDocument>,
    /// The server that took it: the same is asked what became of it.
    pub(crate) taken_by: Option<ServerId>,
    /// What the last attempt came to, where it is not at the provider, or its answer is not believed.
    hindered: Option<String>,
    /// The provider has all that we have.
    settled: bool,
    /// Whoever carries it has this.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Received {
    pub(crate) fn new(request: AccessRequest, at: Time) -> Self {
        Self { request, at, decision: None, acceptance: None }
    }

    pub(crate) fn decided(&mut self, decision: SignedDocument) -> Result<(), Malformed> {
        let read = AccessDecision::parse(&decision.document)?;
        self.decision = Some((decision, read));
        Ok(())
    }

    fn waits(&self, now: Time) -> bool {
        self.decision.is_none() && !self.request.lapsed(now)
    }

    /// Whether it counts among those that a member may have here: from when it came, not from the time that it says.
    fn takes_room(&self, now: Time) -> bool {
        self.decision.is_none() && self.at.plus(REQUEST_WAITS) > now
    }

    fn grant(&self) -> Option<(&SignedDocument, Grant)> {
        self.decision.as_ref().and_then(|(_, decision)| grant_of(decision))
    }
}

impl Sent {
    pub(crate) fn new(request: AccessRequest, signed: SignedDocument) -> Self {
        let (decision, acceptance, taken_by, hindered) = (None, None, None, None);
        Self { request, signed, decision, acceptance, taken_by, hindered, settled: false, turn: Arc::default() }
    }

    pub(crate) fn request(&self) -> AccessRequest {
        self.request.clone()
    }

    pub(crate) fn answered(
        &mut self,
        decision: SignedDocument,
        acceptance: Option<SignedDocument>,
    ) -> Result<(), Malformed> {
        let read = AccessDecision::parse(&decision.document)?;
        (self.decision, self.acceptance, self.hindered) = (Some((decision, read)), acceptance, None);
        Ok(())
    }

    /// The provider's server that has it: where it was decided, or the one that took it.
    fn at(&self) -> Option<&ServerId> {
        self.decision.as_ref().map(|(_, decision)| &decision.server).or(self.taken_by.as_ref())
    }

    /// Whether the provider is to be asked again: it did not decide, or has not our acceptance.
    fn is_carried(&self, now: Time) -> bool {
        match &self.decision {
            None => !self.request.lapsed(now),
            Some(_) => self.acceptance.is_some() && !self.settled && self.request.until > now,
        }
    }
}

fn grant_of(decision: &AccessDecision) -> Option<(&SignedDocument, Grant)> {
    let Decided::Granted(signed) = &decision.decided else { return None };
    Some((signed, serde_json::from_slice(&signed.document).ok()?))
}

impl View {
    /// Takes in an entry, where it is one about requests.
    pub(crate) fn take(&mut self, noted: &Noted) -> Result<(), serde_json::Error> {
        let malformed = |error: Malformed| serde_json::Error::custom(error);
        match noted {
            Noted::AccessReceived { at, request } => {
                let signed = request.read()?;
                let request = AccessRequest::parse(&signed.document).map_err(malformed)?;
                let id = RequestDigest(signed.digest());
                self.received.insert(id, Received::new(request, Time::from_millis(*at)));
            }
            Noted::Granted { decision: Some(decision), .. } | Noted::AccessRejected { decision, .. } => {
                let decision = decision.read()?;
                let id = AccessDecision::parse(&decision.document).map_err(malformed)?.request;
                if let Some(received) = self.received.get_mut(&id) {
                    received.decided(decision).map_err(malformed)?;
                }
            }
            Noted::AccessAccepted { acceptance, .. } => {
                let acceptance = acceptance.read()?;
                let id = AccessAcceptance::parse(&acceptance.document).map_err(malformed)?.request;
                if let Some(received) = self.received.get_mut(&id) {
                    received.acceptance = Some(acceptance);
                }
            }
            Noted::AccessSent { request, .. } => {
                let signed = request.read()?;
                let request = AccessRequest::parse(&signed.document).map_err(malformed)?;
                self.sent.insert(RequestDigest(signed.digest()), Sent::new(request, signed));
            }
            Noted::AccessTaken { request, server, .. } => {
                if let Some(sent) = self.sent.get_mut(request) {
                    sent.taken_by = Some(server.parse().map_err(serde_json::Error::custom)?);
                }
            }
            Noted::AccessAnswered { decision, acceptance, .. } => {
                let decision = decision.read()?;
                let id = AccessDecision::parse(&decision.document).map_err(malformed)?.request;
                let acceptance = acceptance.as_ref().map(|acceptance| acceptance.read()).transpose()?;
                if let Some(sent) = self.sent.get_mut(&id) {
                    sent.answered(decision, acceptance).map_err(malformed)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What lapsed is gone from memory: by its own time it can never be taken again. A grant that is in force stays, with
    /// what was asked.
    pub(crate) fn forget(&mut self, now: Time) {
        self.received.retain(|_, it| {
            !it.request.lapsed(now) || it.takes_room(now) || (it.grant().is_some() && it.request.until > now)
        });
        self.sent.retain(|_, it| !it.request.lapsed(now) || (it.decision.is_some() && it.request.until > now));
    }

    /// The consumer's acceptance of this grant, where it came here.
    pub(crate) fn accepted(&self, request: &RequestDigest, grant: Digest) -> Option<SignedDocument> {
        let acceptance = self.received.get(request)?.acceptance.as_ref()?;
        let read = AccessAcceptance::parse(&acceptance.document).ok()?;
        (read.grant == grant).then(|| acceptance.clone())
    }

    /// Whether one more request of this member may wait.
    pub(crate) fn has_room(&self, member: &MemberId, now: Time) -> Result<(), NotTaken> {
        let waiting = || self.received.values().filter(|received| received.takes_room(now));
        let of_member = waiting().filter(|received| received.request.consumer.member() == *member).count();
        let room = of_member < MAX_OPEN_OF_MEMBER && waiting().count() < MAX_OPEN;
        if room { Ok(()) } else { Err(NotTaken::TooMany) }
    }

    /// The request that waits under this name, or its beginning.
    pub(crate) fn open(&self, asked: &str, now: Time) -> Result<(RequestDigest, AccessRequest), NotGranted> {
        let (id, received) = named(&self.received, asked)?;
        match &received.decision {
            None if received.waits(now) => Ok((id, received.request.clone())),
            None => Err(no_request(asked, "it waited for 90 days and lapsed; the consumer may ask again")),
            Some((_, AccessDecision { decided: Decided::Granted(_), .. })) => {
                Err(no_request(asked, "it is granted already: `security-server access list` shows the grant"))
            }
            Some((_, AccessDecision { decided: Decided::Rejected(_), .. })) => {
                Err(no_request(asked, "it is rejected already; the consumer may ask again"))
            }
        }
    }

    /// A request of ours that asks the same and is not decided.
    pub(crate) fn asks_already(&self, request: &AccessRequest) -> Option<RequestDigest> {
        let mut open = self.sent.iter().filter(|(_, sent)| sent.decision.is_none());
        open.find(|(_, sent)| sent.request.asks_the_same(request)).map(|(id, _)| *id)
    }

    pub(crate) fn may_send(&self) -> Result<(), NotGranted> {
        let open = self.sent.values().filter(|sent| sent.decision.is_none()).count();
        let room = open < MAX_SENT;
        if room {
            Ok(())
        } else {
            Err(NotGranted::NotAsked(format!("{MAX_SENT} wait already; let some be decided first")))
        }
    }
}

fn no_request(asked: &str, remedy: &str) -> NotGranted {
    NotGranted::NoRequest { asked: asked.to_owned(), remedy: remedy.to_owned() }
}

fn named<'v, T>(requests: &'v BTreeMap<RequestDigest, T>, asked: &str) -> Result<(RequestDigest, &'v T), NotGranted> {
    let look = "`security-server access list` shows those that came, and `--sent` those that were sent";
    let mut begins = requests.iter().filter(|(id, _)| asked.len() >= MIN_NAMED && id.to_string().starts_with(asked));
    match (begins.next(), begins.next()) {
        (Some((id, found)), None) => Ok((*id, found)),
        (Some(_), Some(_)) => Err(no_request(asked, "several begin so: give more of its letters")),
        (None, _) => Err(no_request(asked, look)),
    }
}

// ---- what an operator asks for

/// What an operator wants to be granted at another member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// A method, `/package.Service/Method`, or a service with all of its methods.
    pub what: String,
    /// Whose service it is. None: the one member that lists it.
    #[serde(default)]
    pub provider: Option<SubsystemId>,
    /// Which subsystem of ours would call. None: the only one here.
    #[serde(default)]
    pub consumer: Option<SubsystemId>,
    /// For what.
    pub purpose: String,
    /// The law that allows it.
    pub legal_basis: Text,
    /// Until when, in milliseconds since 1970. None: a year from now, or as an open request for the same says.
    #[serde(default)]
    pub until: Option<u64>,
}

/// A request, as operators see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// SHA-256 of its document: its name.
    pub request: String,
    /// `waiting`, `granted`, `rejected` or `lapsed`.
    pub standing: String,
    /// Who would call.
    pub consumer: SubsystemId,
    /// Whom.
    pub provider: SubsystemId,
    /// What.
    pub methods: BTreeSet<String>,
    /// For what.
    pub purpose: String,
    /// The law that allows it.
    pub legal_basis: String,
    /// Until when, RFC 3339.
    pub until: String,
    /// When it was asked, RFC 3339.
    pub asked_at: String,
    /// When it came here, RFC 3339; of one that was sent, none.
    #[serde(default)]
    pub received_at: Option<String>,
    /// When it was decided, RFC 3339.
    #[serde(default)]
    pub decided_at: Option<String>,
    /// Why it was rejected.
    #[serde(default)]
    pub reason: Option<String>,
    /// The grant.
    #[serde(default)]
    pub grant: Option<Grant>,
    /// Whether the consumer countersigned the grant.
    pub countersigned: bool,
    /// In what the grant differs from what was asked.
    #[serde(default)]
    pub differs: Vec<String>,
    /// The provider's server that has it.
    #[serde(default)]
    pub at: Option<ServerId>,
    /// Why it is not there, or its answer is not believed.
    #[serde(default)]
    pub hindered: Option<String>,
    /// Whether it was made now: false, where the same waited already.
    #[serde(default)]
    pub made: Option<bool>,
}

/// Requests, the oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShownRequests {
    /// Them.
    pub requests: Vec<Shown>,
}

fn shown(id: RequestDigest, request: &AccessRequest, decision: Option<&AccessDecision>, now: Time) -> Shown {
    let grant = decision.and_then(grant_of).map(|(_, grant)| grant);
    let reason = match decision.map(|decision| &decision.decided) {
        Some(Decided::Rejected(reason)) => Some(reason.to_string()),
        _ => None,
    };
    let standing = match (&grant, &reason) {
        (Some(_), _) => "granted",
        (_, Some(_)) => "rejected",
        _ if request.lapsed(now) => "lapsed",
        _ => "waiting",
    };
    Shown {
        request: id.to_string(),
        standing: standing.to_owned(),
        consumer: request.consumer.clone(),
        provider: request.provider.clone(),
        methods: request.methods.clone(),
        purpose: request.purpose.to_string(),
        legal_basis: request.legal_basis.to_string(),
        until: request.until.to_string(),
        asked_at: request.time.to_string(),
        received_at: None,
        decided_at: decision.map(|decision| decision.time.to_string()),
        reason,
        differs: decision
            .zip(grant.as_ref())
            .map(|(decision, grant)| request.differs(grant, id, decision.time))
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect(),
        grant,
        countersigned: false,
        at: None,
        hindered: None,
        made: None,
    }
}

impl SecurityServer {
    /// The requests that came to this server and are known still.
    pub fn requests_received(&self) -> ShownRequests {
        let now = self.moment().now();
        let requests = self.access_rights.requests();
        let each = requests.received.iter().map(|(id, received)| received.shown(*id, now));
        ShownRequests { requests: by_age(each.collect()) }
    }

    /// The requests that this server sent.
    pub fn requests_sent(&self) -> ShownRequests {
        let now = self.moment().now();
        let requests = self.access_rights.requests();
        let each = requests.sent.iter().map(|(id, sent)| sent.shown(*id, now));
        ShownRequests { requests: by_age(each.collect()) }
    }

    /// The request of this name, or of this beginning of it, sent or received.
    pub fn request_named(&self, asked: &str) -> Result<Shown, NotGranted> {
        let now = self.moment().now();
        let requests = self.access_rights.requests();
        if let Ok((id, sent)) = named(&requests.sent, asked) {
            return Ok(sent.shown(id, now));
        }
        named(&requests.received, asked).map(|(id, received)| received.shown(id, now))
    }

    /// What this operator would ask for, and nothing is asked yet.
    pub async fn may_ask_for_access(&self, asking: Asking) -> Result<AccessRequest, NotGranted> {
        let moment = self.moment();
        let not = |why: String| NotGranted::NotAsked(why);
        let configuration =
            moment.in_force().map_err(|_| not("the configuration expired: is the registry reachable?".into()))?;
        may_be_granted(configuration, &asking.purpose)?;
        let purpose: PurposeCode = asking.purpose.parse().map_err(|error: Malformed| not(error.to_string()))?;
        let consumer = self.consumer_of(configuration, asking.consumer)?;
        let asked_of = self.asked_of(configuration, &consumer.member(), &asking.what, asking.provider).await?;
        let (provider, methods) = asked_of;
        let (now, year) = (moment.now(), Duration::from_secs(ASKED_DAYS * 86_400));
        let mut request = AccessRequest {
            instance: configuration.instance.clone(),
            consumer,
            server: self.id.clone(),
            provider,
            methods,
            purpose,
            legal_basis: asking.legal_basis,
            until: asking.until.map_or(now.plus(year), Time::from_millis),
            time: now,
        };
        if asking.until.is_none() {
            // The same words again mean the same request, though a year from now is another instant.
            let requests = self.access_rights.requests();
            let same = |sent: &&Sent| {
                AccessRequest { until: sent.request.until, ..request.clone() }.asks_the_same(&sent.request)
            };
            let until =
                requests.sent.values().filter(|sent| sent.decision.is_none()).find(same).map(|sent| sent.request.until);
            request.until = until.unwrap_or(request.until);
        }
        if !request.is_timely(now) {
            return Err(not(format!("access until {} is over, or more than 3660 days away", request.until)));
        }
        Ok(request)
    }

    /// Asks for access: signed and kept first, then carried to the provider.
    pub async fn ask_for_access(self: &Arc<Self>, by: Actor, asking: Asking) -> Result<Shown, NotGranted> {
        let request = self.may_ask_for_access(asking).await?;
        let now = request.time;
        let (id, made) = self.access_rights.send(by, request, now).await?;
        self.carry_request(id).await;
        let shown = self.request_named(&id.to_string())?;
        Ok(Shown { made: Some(made), ..shown })
    }

    fn consumer_of(
        &self,
        configuration: &Configuration,
        named: Option<SubsystemId>,
    ) -> Result<SubsystemId, NotGranted> {
        let subsystems = configuration.members.values().flat_map(|member| member.subsystems.keys());
        let here: Vec<&SubsystemId> = subsystems.filter(|id| configuration.hosts(&self.id, id)).collect();
        let not = |why: String| Err(NotGranted::NotAsked(why));
        match (named, &here[..]) {
            (Some(named), _) if here.contains(&&named) => Ok(named),
            (Some(named), _) => {
                let remedy =
                    did_you_mean(named.as_str(), here.iter().map(|id| id.as_str()), "name one of its subsystems");
                not(format!("this server does not host {named}; {remedy}"))
            }
            (None, [only]) => Ok((*only).clone()),
            (None, _) => {
                not("this server hosts several subsystems, or none: say which would call with --consumer".into())
            }
        }
    }

    /// Whose service it is, and the methods of it that are meant.
    async fn asked_of(
        &self,
        configuration: &Configuration,
        member: &MemberId,
        what: &str,
        provider: Option<SubsystemId>,
    ) -> Result<(SubsystemId, BTreeSet<String>), NotGranted> {
        let not = |why: String| NotGranted::NotAsked(why);
        let method: Option<MethodPath> = what.starts_with('/').then(|| what.parse()).transpose().map_err(|_| {
            not(format!("{what} is no method; it is /package.Service/Method, or a service as package.Service"))
        })?;
        let service = method.as_ref().map_or(what, MethodPath::service);
        let service: ServiceName = service.parse().map_err(|error: Malformed| not(error.to_string()))?;
        let offers = seen(configuration, member, None).filter(|it| it.service == service);
        let offers: Vec<&SubsystemId> = offers.map(|it| &it.subsystem).collect();
        let provider = match (provider, &offers[..]) {
            (Some(provider), _) => provider,
            (None, [only]) => (*only).clone(),
            (None, []) => {
                let known = seen(configuration, member, None).map(|it| it.service.as_str());
                let remedy = did_you_mean(service.as_str(), known, "say whose it is with --provider");
                return Err(not(format!("nobody lists the service {service}; {remedy}")));
            }
            (None, several) => {
                let all = several.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
                return Err(not(format!("{all} offer {service}; say which one is asked with --provider")));
            }
        };
        if configuration.servers_of(&provider).is_none() {
            return Err(not(format!(
                "nobody is registered as {provider}; `security-server services list` shows who offers what"
            )));
        }
        let listed = configuration.service_at(&provider, &service).filter(|listed| is_seen(listed, member));
        let entry = match listed {
            Some(_) => Some(
                listings::entry(self, service.as_str(), Some(&provider))
                    .await
                    .map_err(|error| not(error.to_string()))?,
            ),
            None => None,
        };
        let methods = match (method, entry) {
            (Some(method), None) => [method.to_string()].into(),
            (None, None) => return Err(not(format!("{provider} lists no {service}: name its methods, one by one"))),
            (method, Some(entry)) => {
                let shown = listings::shown(&entry);
                let all: BTreeSet<String> = shown.methods.iter().map(|it| format!("/{service}/{}", it.name)).collect();
                match method.map(|method| method.to_string()) {
                    None => all,
                    Some(method) if all.contains(&method) => [method].into(),
                    Some(method) => {
                        let look = format!("`security-server services show {service}` shows its methods");
                        let remedy = did_you_mean(&method, &all, &look);
                        return Err(not(format!("{service} has no method {method}; {remedy}")));
                    }
                }
            }
        };
        Ok((provider, methods))
    }

    // ---- at the consumer: carrying

    /// Carries to the providers what is not settled, once.
    pub async fn carry_requests(self: &Arc<Self>) {
        let now = self.moment().now();
        let open: Vec<RequestDigest> = {
            let mut requests = self.access_rights.requests();
            requests.forget(now);
            requests.sent.iter().filter(|(_, sent)| sent.is_carried(now)).map(|(id, _)| *id).collect()
        };
        stream::iter(open).for_each_concurrent(CARRIED_AT_ONCE, |id| self.carry_request(id)).await;
    }

    /// Carries one request, and, where it is granted as asked, our acceptance. What comes of it is kept with the request. One at
    /// a time: two might bring it to two servers of the provider's.
    pub async fn carry_request(self: &Arc<Self>, id: RequestDigest) {
        let Some(turn) = self.access_rights.requests().sent.get(&id).map(|sent| Arc::clone(&sent.turn)) else { return };
        let _turn = turn.lock().await;
        // The second time brings the acceptance of what the first brought.
        for _ in 0..2 {
            let hindered = match self.carry_once(id).await {
                Ok(Carried::Settled) => None,
                Ok(Carried::Again) => continue,
                Err(why) => Some(why),
            };
            if let Some(sent) = self.access_rights.requests().sent.get_mut(&id) {
                sent.hindered = hindered;
            }
            return;
        }
    }

    async fn carry_once(self: &Arc<Self>, id: RequestDigest) -> Result<Carried, String> {
        let (question, provider, taken_by) = {
            let requests = self.access_rights.requests();
            let Some(sent) = requests.sent.get(&id) else { return Ok(Carried::Settled) };
            if sent.decision.is_some() && (sent.acceptance.is_none() || sent.settled) {
                return Ok(Carried::Settled);
            }
            let acceptance = sent.acceptance.as_ref().map(SignedDocument::to_wire);
            let question = wire::AccessAsked { request: Some(sent.signed.to_wire()), acceptance };
            (question, sent.request.provider.clone(), sent.at().cloned())
        };
        let brings = question.acceptance.is_some();
        let (server, answer) = self.put_to_one_of(&provider, taken_by, &question).await?;
        match answer.standing {
            Some(wire::access_answered::Standing::Waiting(_)) => {
                let kept = self.access_rights.keep_taker(id, server, self.moment().now()).await;
                kept.map(|()| Carried::Settled).map_err(|error| error.to_string())
            }
            Some(wire::access_answered::Standing::NotTaken(code)) => {
                // Its own words, and not the other server's: an operator's terminal shows them.
                let why = NotTaken::of(&code).map_or_else(
                    || "for a reason that is not known here".to_owned(),
                    |it| format!("{}: {it}", it.as_str()),
                );
                Err(format!("{server} does not take it: {why}"))
            }
            Some(wire::access_answered::Standing::Decision(decision)) => {
                let decision = self.believed(id, &provider, decision).map_err(|why| format!("{server}: {why}"))?;
                let now = self.moment().now();
                self.access_rights.keep_decision(id, decision, now).await.map_err(|error| error.to_string())?;
                let mut requests = self.access_rights.requests();
                let Some(sent) = requests.sent.get_mut(&id) else { return Ok(Carried::Settled) };
                sent.settled = brings || sent.acceptance.is_none();
                Ok(if sent.settled { Carried::Settled } else { Carried::Again })
            }
            None => Err(format!("{server} does not say how the request stands: is it of an older version?")),
        }
    }

    /// Asks the server that took the request, or the first of the provider's that is there.
    async fn put_to_one_of(
        self: &Arc<Self>,
        provider: &SubsystemId,
        taken_by: Option<ServerId>,
        question: &wire::AccessAsked,
    ) -> Result<(ServerId, wire::AccessAnswered), String> {
        let targets: Vec<Target> = {
            let moment = self.moment();
            let configuration =
                moment.in_force().map_err(|_| "the configuration expired: is the registry reachable?")?;
            let hosts = configuration.servers_of(provider).cloned().unwrap_or_default();
            let only = taken_by.filter(|server| hosts.contains(server));
            let asked = hosts.into_iter().filter(|server| only.as_ref().is_none_or(|only| only == server));
            let target = |server: ServerId| {
                let address = configuration.servers.get(&server)?.address.clone();
                Some(Target { server, address })
            };
            asked.filter_map(target).collect()
        };
        let mut hindered = format!("no server of {provider} is registered");
        for target in targets {
            match self.peers.ask_for_access(&target, question).await {
                Ok(answer) => return Ok((target.server, answer)),
                // Nothing was sent: the next one may be asked. What was perhaps sent is not sent to two.
                Err(error @ NotAnswered::Unreachable(_)) => hindered = format!("{}: {error}", target.server),
                Err(error) => return Err(format!("{}: {error}", target.server)),
            }
        }
        Err(hindered)
    }

    /// A decision that is of this request, and that a good key of the provider's signed, with the grant in it (PROTOCOL.md
    /// 19.3).
    fn believed(
        &self,
        id: RequestDigest,
        provider: &SubsystemId,
        decision: wire::SignedDocument,
    ) -> Result<SignedDocument, String> {
        let signed = SignedDocument::parse(decision).map_err(|error| error.to_string())?;
        let read = AccessDecision::parse(&signed.document).map_err(|error| error.to_string())?;
        if read.request != id {
            return Err("its decision is about another request".to_owned());
        }
        let moment = self.moment();
        let configuration = moment.in_force().map_err(|_| "the configuration expired")?;
        if !configuration.hosts(&read.server, provider) {
            return Err(format!("its decision names {}, which does not host {provider}", read.server));
        }
        let member = provider.member();
        let key = configuration.standing_key(&member, &read.server, &signed.key, moment.now());
        let key = key.ok_or("its decision is signed by no good key of the provider's")?;
        signed.signed_by(purpose::ACCESS_DECISION, key).map_err(|_| "the signature of its decision does not hold")?;
        if let Decided::Granted(grant) = &read.decided {
            grant.signed_by(purpose::GRANT, key).map_err(|_| "the signature of its grant does not hold")?;
            let _: Grant = serde_json::from_slice(&grant.document).map_err(|_| "its grant is none")?;
        }
        Ok(signed)
    }

    // ---- at the provider: the door

    /// What a peer asks (PROTOCOL.md 19.2): the request is taken in, or is here, and its standing is the answer.
    pub(crate) async fn answer_about_access(
        self: &Arc<Self>,
        peer: ServerId,
        asked: wire::AccessAsked,
    ) -> Result<wire::AccessAnswered, NotReceived> {
        use wire::access_answered::Standing;
        let standing = match self.take_request(&peer, asked).await {
            Ok(standing) => standing,
            Err(NotReceived::NotTaken(not_taken)) => {
                tracing::warn!(%peer, code = not_taken.as_str(), "an access request is not taken");
                metrics::counter!("causeway_access_requests_not_taken_total", "code" => not_taken.as_str())
                    .increment(1);
                Standing::NotTaken(not_taken.as_str().to_owned())
            }
            Err(ended) => return Err(ended),
        };
        Ok(wire::AccessAnswered { standing: Some(standing) })
    }

    async fn take_request(
        &self,
        peer: &ServerId,
        asked: wire::AccessAsked,
    ) -> Result<wire::access_answered::Standing, NotReceived> {
        use wire::access_answered::Standing;
        // Step 2: "The request is read: it has one encoding, and names this instance."
        let signed = asked.request.and_then(|signed| SignedDocument::parse(signed).ok()).ok_or(NotTaken::Malformed)?;
        let request = AccessRequest::parse(&signed.document).map_err(|_| NotTaken::Malformed)?;
        let id = RequestDigest(signed.digest());
        let moment = self.moment();
        let configuration = moment.in_force().map_err(|_| NotTaken::NotHosted)?;
        if request.instance != configuration.instance {
            return Err(NotTaken::Malformed.into());
        }
        // Step 3: "It names the server that asks, and this hosts the consumer."
        if request.server != *peer || !configuration.hosts(peer, &request.consumer) {
            return Err(NotTaken::NotTheConsumers.into());
        }
        let member = request.consumer.member();
        // Step 4: "The provider is hosted here, and what it lists of the services that are asked for is open to the consumer."
        let is_closed = |method: &String| {
            let service = method.parse::<MethodPath>().ok().and_then(|path| path.service().parse::<ServiceName>().ok());
            let listed = service.and_then(|service| configuration.service_at(&request.provider, &service));
            listed.is_some_and(|listed| !is_seen(listed, &member))
        };
        if !configuration.hosts(&self.id, &request.provider) || request.methods.iter().any(is_closed) {
            return Err(NotTaken::NotHosted.into());
        }
        if !self.access_rights.requests().received.contains_key(&id) {
            // Step 5: "A key of the consumer's member at that server signed it, and stands (19.3): another may have taken its
            // place meanwhile."
            let key =
                configuration.standing_key(&member, peer, &signed.key, moment.now()).ok_or(NotTaken::Signature)?;
            signed.signed_by(purpose::ACCESS_REQUEST, key).map_err(|_| NotTaken::Signature)?;
            // Step 6: "It is timely."
            if !request.is_timely(moment.now()) {
                return Err(NotTaken::Time.into());
            }
            // Step 7: "Its purpose is on the list."
            may_be_granted(configuration, request.purpose.as_str()).map_err(|_| NotTaken::PurposeUnlisted)?;
            self.access_rights.receive(request, signed, moment.now()).await?;
        }
        if let Some(acceptance) = asked.acceptance {
            // Step 10: "The acceptance names the request and the grant, and a good key of the consumer's signed it."
            let signed = SignedDocument::parse(acceptance).map_err(|_| NotTaken::NotAccepted)?;
            let read = AccessAcceptance::parse(&signed.document).map_err(|_| NotTaken::NotAccepted)?;
            let granted = {
                let requests = self.access_rights.requests();
                let received = requests.received.get(&id);
                received.and_then(|received| received.grant().map(|(grant, _)| grant.digest()))
            };
            if read.request != id || read.server != *peer || granted != Some(read.grant) {
                return Err(NotTaken::NotAccepted.into());
            }
            let key = configuration.standing_key(&member, peer, &signed.key, moment.now());
            let key = key.ok_or(NotTaken::NotAccepted)?;
            signed.signed_by(purpose::ACCESS_ACCEPTANCE, key).map_err(|_| NotTaken::NotAccepted)?;
            self.access_rights.keep_acceptance(id, signed, moment.now()).await?;
        }
        let requests = self.access_rights.requests();
        let decision = requests.received.get(&id).and_then(|received| received.decision.as_ref());
        Ok(match decision {
            Some((decision, _)) => Standing::Decision(decision.to_wire()),
            None => Standing::Waiting(wire::AccessWaiting {}),
        })
    }
}

enum Carried {
    Settled,
    Again,
}

impl Received {
    fn shown(&self, id: RequestDigest, now: Time) -> Shown {
        Shown {
            received_at: Some(self.at.to_string()),
            countersigned: self.acceptance.is_some(),
            ..shown(id, &self.request, self.decision.as_ref().map(|(_, decision)| decision), now)
        }
    }
}

impl Sent {
    fn shown(&self, id: RequestDigest, now: Time) -> Shown {
        Shown {
            countersigned: self.acceptance.is_some(),
            at: self.at().cloned(),
            hindered: self.hindered.clone(),
            ..shown(id, &self.request, self.decision.as_ref().map(|(_, decision)| decision), now)
        }
    }
}

fn by_age(mut requests: Vec<Shown>) -> Vec<Shown> {
    requests.sort_by(|a, b| (&a.asked_at, &a.request).cmp(&(&b.asked_at, &b.request)));
    requests
}

/// Carries again and again, until the last.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    loop {
        tokio::select! {
            () = last.cancelled() => return,
            () = server.carry_requests() => {}
        }
        tokio::select! {
            () = last.cancelled() => return,
            () = tokio::time::sleep(CARRY_INTERVAL) => {}
        }
    }
}
