//! Who may call what of ours, for which purpose, until when. Default deny. The dry run and the door ask one function,
//! `AccessRights::decide`, which nothing else can: it is private to this module, and only it makes a [`Granted`].
//!
//! A grant is a numbered document that the provider's key signs. Grants and their ends are entries of this server's
//! audit log, durable before they are answered; what is in memory is a view of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use command_line::did_you_mean;
use proto::access::fields::Fields;
use proto::access::{
    AccessAcceptance, AccessDecision, AccessRequest, Decided, GrantEnd, MAX_DOCUMENT_BYTES, MAX_ITEMS, NotTaken,
    Priority, RequestDigest, SignedDocument,
};
pub use proto::access::{Grant, GrantNumber};
use proto::digest::Digest;
use proto::global_configuration::Configuration;
use proto::identifier::{MemberId, MethodPath, ServerId, SubsystemId};
use proto::message::{Header, Operation};
use proto::minimise::Table;
use proto::purposes::PurposeCode;
use proto::record::Kind;
use proto::refusal::Code;
use proto::registration::{Malformed, Text};
use proto::seal::MAX_SIGNATURE_BYTES;
use proto::signature::{KeyId, SigningKey, purpose};
use proto::time::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::access_requests::{self, Received, Sent};
use crate::audit::{Actor, AuditLog, Kept, Noted, OpenError, Past};
use crate::flow::Told;
use crate::granted_fields;
use crate::quota::Bucket;
use crate::rest::CalledOperation;
use crate::services::{Service, Services};
use crate::spread_grants::{Proven, Spread};

/// What an admin asks to be granted: a grant without its number.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Who may call.
    pub consumer: SubsystemId,
    /// Whose service it is.
    pub provider: SubsystemId,
    /// Exact method paths.
    pub methods: BTreeSet<String>,
    /// Purposes of the instance's list.
    pub purposes: BTreeSet<String>,
    /// The law that allows it.
    #[serde(default)]
    pub legal_basis: String,
    /// First instant, in milliseconds since 1970. None: now.
    #[serde(default)]
    pub valid_from: Option<u64>,
    /// How many days it lasts.
    pub valid_days: u32,
    /// Exchanges a second.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Whether its calls are refused later or sooner than others where there is no room for all.
    #[serde(default, skip_serializing_if = "is_ordinary")]
    pub priority: Priority,
    /// By method, the fields of its response that may be received, by name or number. Of a method that is not here, all may.
    #[serde(default, skip_serializing_if = "NamedFields::is_empty")]
    pub fields: NamedFields,
}

fn is_ordinary(priority: &Priority) -> bool {
    *priority == Priority::Ordinary
}

/// Fields by method, as an admin names them: `person.name`, or `1.2`.
pub type NamedFields = BTreeMap<String, BTreeSet<String>>;

/// A proposal for purposes of the instance's list, and the fields that it names. Only [`Proposal::listed`] makes one.
#[must_use]
pub struct Listed(Proposal, Fields);

/// Who wants to call what, for which purpose.
#[derive(Clone, PartialEq, Debug)]
pub struct Question<'q> {
    /// Who asks.
    pub consumer: &'q SubsystemId,
    /// Whom.
    pub provider: &'q SubsystemId,
    /// For what.
    pub path: &'q MethodPath,
    /// Why.
    pub purpose: &'q str,
}

/// In what a grant is less than the request that it answers.
#[derive(Default)]
pub(crate) struct Narrowed {
    /// It ends earlier.
    pub(crate) until: Option<Time>,
    /// These fields only may be received.
    pub(crate) fields: Fields,
}

/// What the look-up of an opening's grant found: kept until the signature holds, then pronounced.
#[derive(Debug)]
pub enum Looked {
    /// A grant allows it.
    Granted(Granted),
    /// None does.
    Refused(Code),
}

impl Looked {
    /// That of the grant; what is refused comes no sooner than others.
    pub(crate) fn priority(&self) -> Priority {
        match self {
            Self::Granted(granted) => granted.grant.priority,
            Self::Refused(_) => Priority::Ordinary,
        }
    }
}

/// A service that may be called, for one exchange, and the grant that allows it. Only [`AccessRights::look_up`] makes one.
#[derive(Debug)]
pub struct Granted {
    pub(crate) service: Arc<Service>,
    pub(crate) path: MethodPath,
    pub(crate) grant: Arc<Grant>,
    /// Of a REST service: what of it is asked.
    pub(crate) operation: Option<CalledOperation>,
    /// The fields that may be received, where not all.
    pub(crate) table: Option<Arc<Table>>,
    /// Keeps others from making one.
    _made: (),
}

impl Granted {
    /// The number of the grant.
    pub fn number(&self) -> GrantNumber {
        self.grant.number
    }
}

/// Why a change of the access rights was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotGranted {
    /// The proposal breaks a rule.
    #[error("the grant is not made: {0}; see `security-server access grant --help`")]
    Rule(String),
    /// A purpose that is not on the instance's list.
    #[error("there is no purpose {purpose} in this instance's list; {remedy}")]
    Unlisted {
        /// As asked.
        purpose: String,
        /// One that is near, or those that are.
        remedy: String,
    },
    /// No such grant in force.
    #[error("there is no grant {number} in force; {remedy}")]
    Unknown {
        /// The number asked for.
        number: u64,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// No such request waits.
    #[error("no request {asked} waits here; {remedy}")]
    NoRequest {
        /// As asked.
        asked: String,
        /// Where to look, or what became of it.
        remedy: String,
    },
    /// Why a grant should end is not said, or cannot stand on one line.
    #[error("the grant is not ended, because of its reason: {0}")]
    Reason(Malformed),
    /// Nobody is asked through the bus for this.
    #[error("the request is not made: {0}")]
    NotAsked(String),
    /// The audit log ended.
    #[error("the audit log has ended ({0}): nothing was changed; check the disk and restart the server")]
    Ended(Arc<str>),
}

/// Why a request was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReceived {
    /// A rule of PROTOCOL.md 19.2.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// The audit log ended.
    #[error("the audit log has ended ({0})")]
    Ended(#[from] journal::Ended),
}

/// Why a decision was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its grant is none.
    #[error("the grant in it is none: {0}")]
    Grant(#[from] serde_json::Error),
    /// There is no key to accept it with.
    #[error(transparent)]
    Key(#[from] NotGranted),
    /// The audit log ended.
    #[error("the audit log has ended ({0})")]
    Ended(#[from] journal::Ended),
}

/// The grants in force, and the audit log that they are a view of.
pub struct AccessRights {
    view: ArcSwap<View>,
    rates: Mutex<HashMap<GrantNumber, Bucket>>,
    requests: Mutex<access_requests::View>,
    audit: Arc<AuditLog>,
    server: ServerId,
    /// Held while a change is made: they get their numbers one after another.
    changing: tokio::sync::Mutex<()>,
    keys: Mutex<HashMap<MemberId, Arc<SigningKey>>>,
    changes: watch::Sender<u64>,
    /// What providers said of the grants of ours that stand in their logs.
    pub(crate) told: Told,
}

/// The grants as the entries of the audit log make them.
#[derive(Clone, Default)]
pub(crate) struct View {
    grants: BTreeMap<GrantNumber, Arc<Grant>>,
    by_path: HashMap<(SubsystemId, String), Vec<GrantNumber>>,
    last: u64,
    /// Each as it was signed, by its number here: what the member's other servers are told. Those that ended stay until their
    /// time is over, so that none comes back.
    signed: BTreeMap<GrantNumber, Arc<Spread>>,
    /// This server. None: for whoever only reads.
    server: Option<ServerId>,
}

impl AccessRights {
    /// Opens the audit log and reads the grants from it. With what else it says of the time before.
    pub fn open(
        disk: Arc<dyn journal::Disk>,
        options: journal::Options,
        server: &ServerId,
        keys: &[(MemberId, Arc<SigningKey>)],
    ) -> Result<(Self, Past), OpenError> {
        let mut grants = View { server: Some(server.clone()), ..View::default() };
        let mut requests = access_requests::View::default();
        let mut take = |noted: &Noted| grants.take(noted).and_then(|()| requests.take(noted));
        let (audit, past) = AuditLog::open(disk, options, server, keys, &mut take)?;
        Ok((Self::of(Arc::new(audit), server.clone(), grants, requests, keys), past))
    }

    /// The audit log that the grants stand in.
    pub(crate) fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    /// The grants that the audit log held at the start.
    fn of(
        audit: Arc<AuditLog>,
        server: ServerId,
        mut grants: View,
        requests: access_requests::View,
        keys: &[(MemberId, Arc<SigningKey>)],
    ) -> Self {
        grants.index();
        Self {
            view: ArcSwap::from_pointee(grants),
            rates: Mutex::default(),
            requests: Mutex::new(requests),
            audit,
            server,
            changing: tokio::sync::Mutex::default(),
            keys: Mutex::new(keys.iter().cloned().collect()),
            changes: watch::Sender::new(0),
            told: Told::default(),
        }
    }

    /// The grants of an audit log, for whoever changes nothing: without its lock, of a running server too.
    pub fn read(disk: &dyn journal::Disk) -> Result<Vec<Arc<Grant>>, OpenError> {
        let (mut view, mut foreign) = (View::default(), None);
        let mut take = |entry: journal::Entry| {
            let noted = || serde_json::from_slice::<Noted>(&entry.record.body());
            if entry.record.kind() == Kind::Entry && noted().and_then(|noted| view.take(&noted)).is_err() {
                foreign.get_or_insert(entry.position);
            }
        };
        journal::read(disk, None, &mut take).map_err(journal::OpenError::from)?;
        match foreign {
            Some(position) => Err(OpenError::Entry(position)),
            None => Ok(view.grants.into_values().collect()),
        }
    }

    /// `access why`: which grant would allow this now, or why none does. It takes nothing of a grant's rate.
    pub fn why(&self, services: &Services, question: &Question<'_>, now: Time) -> Result<Arc<Grant>, Code> {
        self.decide(services, question, now, |_| true).map(|(grant, _)| grant)
    }

    /// The door: the same for an opening. It takes one of the grant's rate.
    pub fn look_up(&self, services: &Services, header: &Header, now: Time) -> Looked {
        match &header.route.operation {
            Operation::Grpc(path) => self.looked_up(services, header, path, None, now),
            Operation::Http { .. } => Looked::Refused(Code::GrantMissing),
        }
    }

    /// The same for an operation of a REST service.
    pub(crate) fn look_up_operation(
        &self,
        services: &Services,
        header: &Header,
        called: CalledOperation,
        now: Time,
    ) -> Looked {
        let path = called.name.clone();
        self.looked_up(services, header, &path, Some(called), now)
    }

    fn looked_up(
        &self,
        services: &Services,
        header: &Header,
        path: &MethodPath,
        operation: Option<CalledOperation>,
        now: Time,
    ) -> Looked {
        let purpose = header.opening.as_ref().map_or("", |opening| &opening.purpose);
        let question = Question { consumer: &header.route.consumer, provider: &header.route.provider, path, purpose };
        match self.decide(services, &question, now, |grant| self.within_rate(grant)) {
            // What is asked in gRPC, a REST service does not understand, and the other way round.
            Ok((_, service)) if service.web().is_some() != operation.is_some() => Looked::Refused(Code::ServiceUnknown),
            Ok((grant, service)) => {
                let table = grant.fields.table(path.as_str()).cloned();
                Looked::Granted(Granted { service, path: path.clone(), operation, grant, table, _made: () })
            }
            Err(code) => Looked::Refused(code),
        }
    }

    /// The decision: the first grant that allows this now, and the service that is asked; or why not. Of several grants
    /// that do not allow it, the one that comes nearest says why. `within_rate` is asked last, of a grant that would allow it.
    fn decide(
        &self,
        services: &Services,
        question: &Question<'_>,
        now: Time,
        within_rate: impl Fn(&Grant) -> bool,
    ) -> Result<(Arc<Grant>, Arc<Service>), Code> {
        let view = self.view.load();
        let key = (question.consumer.clone(), question.path.as_str().to_owned());
        let of_path = view.by_path.get(&key).into_iter().flatten().filter_map(|number| view.grants.get(number));
        let mut nearest = (0, Code::GrantMissing);
        for grant in of_path.filter(|grant| grant.provider == *question.provider) {
            let refused = if !grant.purposes.contains(question.purpose) {
                (1, Code::GrantPurpose)
            } else if !grant.is_valid(now) {
                (2, Code::GrantExpired)
            } else if let Some(service) = services.find(question.provider, question.path.service()) {
                if within_rate(grant) {
                    return Ok((Arc::clone(grant), service));
                }
                (4, Code::RateExceeded)
            } else {
                (3, Code::ServiceUnknown)
            };
            nearest = nearest.max(refused);
        }
        Err(nearest.1)
    }

    fn within_rate(&self, grant: &Grant) -> bool {
        let Some(per_second) = grant.per_second else { return true };
        let mut rates = self.rates.lock().expect("no panic while it is held");
        let rate = f64::from(per_second);
        rates.entry(grant.number).or_insert_with(|| Bucket::new(rate * 10.0, rate)).take()
    }

    /// One of a grant's rate that a look-up took, and nothing was carried for.
    pub(crate) fn give_back(&self, grant: &Grant) {
        if grant.per_second.is_none() {
            return;
        }
        if let Some(rate) = self.rates.lock().expect("no panic while it is held").get_mut(&grant.number) {
            rate.give_back();
        }
    }

    /// Whether a grant that an exchange runs under is still good.
    pub fn is_good(&self, number: GrantNumber, now: Time) -> bool {
        self.view.load().grants.get(&number).is_some_and(|grant| grant.is_valid(now))
    }

    /// The grants in force or to come, in the order of their numbers.
    pub fn list(&self) -> Vec<Arc<Grant>> {
        self.view.load().grants.values().cloned().collect()
    }

    /// The methods that a consumer may ask a provider for now, for one purpose or another.
    pub(crate) fn allowed(&self, consumer: &SubsystemId, provider: &SubsystemId, now: Time) -> BTreeSet<String> {
        let view = self.view.load();
        let of_both = |grant: &&Arc<Grant>| grant.consumer == *consumer && grant.provider == *provider;
        let valid = view.grants.values().filter(of_both).filter(|grant| grant.is_valid(now));
        valid.flat_map(|grant| grant.methods.iter().cloned()).collect()
    }

    /// Counts the changes; running exchanges are judged again at each.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The grant as it would be made now: the rules of [`grant`](Self::grant), without making it.
    pub async fn foreseen_grant(&self, listed: Listed, now: Time) -> Result<Grant, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        self.may_grant(listed, now)
    }

    fn may_grant(&self, Listed(proposal, fields): Listed, now: Time) -> Result<Grant, NotGranted> {
        self.goes_on()?;
        let grant = proposal.grant(GrantNumber(self.view.load().last + 1), fields, now)?;
        self.is_readable(&grant, now)?;
        Ok(grant)
    }

    /// Whether its documents will be read again once they are signed and noted: at the next start, and by whoever is told of it.
    fn is_readable(&self, grant: &Grant, now: Time) -> Result<(), NotGranted> {
        let key = self.key_of(&grant.provider.member())?.public().id();
        let document = serde_json::to_vec(grant).map_err(|error| NotGranted::Rule(error.to_string()))?;
        readable("its document", document.len())?;
        let Some(request) = grant.request else { return Ok(()) };
        // As long as a signature may be: what is foreseen is made.
        let signature = vec![0u8; MAX_SIGNATURE_BYTES].into();
        let decided = Decided::Granted(SignedDocument { document: document.into(), key, signature });
        let decision = AccessDecision { request, server: self.server.clone(), time: now, decided };
        readable("the decision, which holds it,", decision.to_bytes().len())
    }

    /// The grant that would be ended: the rules of [`end`](Self::end), without ending it.
    pub async fn foreseen_end(&self, number: GrantNumber) -> Result<Arc<Grant>, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        self.may_end(number)
    }

    fn may_end(&self, number: GrantNumber) -> Result<Arc<Grant>, NotGranted> {
        self.goes_on()?;
        let view = self.view.load();
        let grant = view.grants.get(&number).cloned();
        let grant = grant.ok_or_else(|| {
            let known = view.grants.keys().map(|known| known.0.to_string());
            let remedy =
                did_you_mean(&number.0.to_string(), known, "`security-server access list` shows those that are");
            NotGranted::Unknown { number: number.0, remedy }
        })?;
        self.key_of(&grant.provider.member())?;
        Ok(grant)
    }

    /// What could not be recorded is not promised either.
    fn goes_on(&self) -> Result<(), NotGranted> {
        self.audit.ended().map_or(Ok(()), |why| Err(NotGranted::Ended(why)))
    }

    /// Grants without holding its purposes against the instance's list, as nobody does who was asked for a grant: tests only. Signed, durable in the
    /// audit log, then in force.
    pub async fn dangerously_grant(&self, proposal: Proposal, now: Time) -> Result<Arc<Grant>, NotGranted> {
        let fields = granted_fields::numbered(&proposal.fields)?;
        self.change_by(None, Listed(proposal, fields), now).await
    }

    /// Grants, as this operator asked, for purposes of the instance's list only: signed, durable in the audit log, then in force.
    pub async fn grant_for(&self, by: Actor, listed: Listed, now: Time) -> Result<Arc<Grant>, NotGranted> {
        self.change_by(Some(by), listed, now).await
    }

    async fn change_by(&self, by: Option<Actor>, listed: Listed, now: Time) -> Result<Arc<Grant>, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        let grant = self.may_grant(listed, now)?;
        self.make(by, grant, None, now).await.map(|(grant, _)| grant)
    }

    /// Signs a grant, and the decision where a request asked for it; durable in one entry, then in force.
    async fn make(
        &self,
        by: Option<Actor>,
        grant: Grant,
        asked: Option<RequestDigest>,
        now: Time,
    ) -> Result<(Arc<Grant>, Option<SignedDocument>), NotGranted> {
        let mut view = View::clone(&self.view.load());
        let member = grant.provider.member();
        let key = self.key_of(&member)?;
        let document = serde_json::to_vec(&grant).map_err(|error| NotGranted::Rule(error.to_string()))?;
        let signed = SignedDocument::sign(purpose::GRANT, document, &key);
        let decision = asked.map(|request| {
            let decided = Decided::Granted(signed.clone());
            let decision = AccessDecision { request, server: self.server.clone(), time: now, decided };
            SignedDocument::sign(purpose::ACCESS_DECISION, decision.to_bytes(), &key)
        });
        let granted = Noted::Granted {
            grant: STANDARD.encode(&signed.document),
            key: signed.key.to_string(),
            signature: STANDARD.encode(&signed.signature),
            at: Some(now.as_millis()),
            by,
            decision: decision.as_ref().map(Kept::of),
        };
        self.audit.note_of(&member, &granted).await.map_err(|ended| NotGranted::Ended(ended.0))?;
        let grant = Arc::new(grant);
        view.last = grant.number.0;
        view.grants.insert(grant.number, Arc::clone(&grant));
        let spread = Spread { server: self.server.clone(), grant: signed, end: None, read: Grant::clone(&grant) };
        view.signed.insert(grant.number, Arc::new(spread));
        view.forget(now);
        self.put_in_force(view);
        Ok((grant, decision))
    }

    // ---- requests, at the provider

    /// The requests that came, and those that were sent.
    pub(crate) fn requests(&self) -> MutexGuard<'_, access_requests::View> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in (PROTOCOL.md 19.2, steps 8 and 9): within the limits, durable, then it waits. The same request
    /// again is the one that is here.
    pub(crate) async fn receive(
        &self,
        request: AccessRequest,
        signed: SignedDocument,
        now: Time,
    ) -> Result<(), NotReceived> {
        let _one_at_a_time = self.changing.lock().await;
        let id = RequestDigest(signed.digest());
        {
            let mut requests = self.requests();
            requests.forget(now);
            if requests.received.contains_key(&id) {
                return Ok(());
            }
            requests.has_room(&request.consumer.member(), now).map_err(NotReceived::NotTaken)?;
        }
        let noted = Noted::AccessReceived { at: now.as_millis(), request: Kept::of(&signed) };
        self.audit.note_of(&request.provider.member(), &noted).await?;
        self.requests().received.insert(id, Received::new(request, now));
        Ok(())
    }

    /// The grant that approving this request would make: what was asked, until then or until an earlier day.
    pub(crate) async fn foreseen_approval(
        &self,
        configuration: &Configuration,
        asked: &str,
        narrowed: Narrowed,
        now: Time,
    ) -> Result<Grant, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        self.may_approve(configuration, asked, narrowed, now).map(|(grant, _)| grant)
    }

    fn may_approve(
        &self,
        configuration: &Configuration,
        asked: &str,
        Narrowed { until, fields }: Narrowed,
        now: Time,
    ) -> Result<(Grant, RequestDigest), NotGranted> {
        self.goes_on()?;
        let (id, request) = self.requests().open(asked, now)?;
        may_be_granted(configuration, request.purpose.as_str())?;
        if request.until <= now {
            return Err(NotGranted::Rule("the time that the request asks for is over; reject it".to_owned()));
        }
        let until = until.unwrap_or(request.until);
        if until > request.until || until <= now {
            let asked = format!("the request asks for access until {}, and nothing longer is granted", request.until);
            return Err(NotGranted::Rule(asked));
        }
        of_methods(&fields, &request.methods)?;
        let grant = Grant {
            number: GrantNumber(self.view.load().last + 1),
            consumer: request.consumer,
            provider: request.provider,
            methods: request.methods,
            purposes: [request.purpose.to_string()].into(),
            legal_basis: request.legal_basis.to_string(),
            valid_from: now.as_millis(),
            valid_until: until.as_millis(),
            per_second: None,
            priority: Default::default(),
            request: Some(id),
            fields,
        };
        self.is_readable(&grant, now)?;
        Ok((grant, id))
    }

    /// Grants what a request asks, as this operator decided: never more, and a shorter time or fewer fields where that is said.
    pub(crate) async fn approve(
        &self,
        configuration: &Configuration,
        by: Actor,
        asked: &str,
        narrowed: Narrowed,
        now: Time,
    ) -> Result<Arc<Grant>, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        let (grant, id) = self.may_approve(configuration, asked, narrowed, now)?;
        let (grant, decision) = self.make(Some(by), grant, Some(id), now).await?;
        if let (Some(received), Some(decision)) = (self.requests().received.get_mut(&id), decision) {
            received.decided(decision).map_err(|error| NotGranted::Rule(error.to_string()))?;
        }
        Ok(grant)
    }

    /// Refuses what a request asks, as this operator decided, and says why. Returns what was asked.
    pub(crate) async fn reject(
        &self,
        by: Actor,
        asked: &str,
        reason: Text,
        now: Time,
    ) -> Result<(RequestDigest, AccessRequest), NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        self.goes_on()?;
        let (id, request) = self.requests().open(asked, now)?;
        let member = request.provider.member();
        let key = self.key_of(&member)?;
        let (server, decided) = (self.server.clone(), Decided::Rejected(reason));
        let decision = AccessDecision { request: id, server, time: now, decided };
        let decision = SignedDocument::sign(purpose::ACCESS_DECISION, decision.to_bytes(), &key);
        let noted = Noted::AccessRejected { at: now.as_millis(), by, decision: Kept::of(&decision) };
        self.audit.note_of(&member, &noted).await.map_err(|ended| NotGranted::Ended(ended.0))?;
        if let Some(received) = self.requests().received.get_mut(&id) {
            received.decided(decision).map_err(|error| NotGranted::Rule(error.to_string()))?;
        }
        Ok((id, request))
    }

    /// Keeps the consumer's acceptance of a grant, once.
    pub(crate) async fn keep_acceptance(
        &self,
        id: RequestDigest,
        acceptance: SignedDocument,
        now: Time,
    ) -> Result<(), journal::Ended> {
        let _one_at_a_time = self.changing.lock().await;
        let provider = match self.requests().received.get(&id) {
            Some(received) if received.acceptance.is_none() => received.request.provider.member(),
            _ => return Ok(()),
        };
        let noted = Noted::AccessAccepted { at: now.as_millis(), acceptance: Kept::of(&acceptance) };
        self.audit.note_of(&provider, &noted).await?;
        if let Some(received) = self.requests().received.get_mut(&id) {
            received.acceptance = Some(acceptance);
        }
        // Whoever oversees grants is to hear of it.
        self.tell_of_a_change();
        Ok(())
    }

    // ---- requests, at the consumer

    /// Signs a request and keeps it, before it is sent. One that asks the same and is not decided is that one.
    pub(crate) async fn send(
        &self,
        by: Actor,
        request: AccessRequest,
        now: Time,
    ) -> Result<(RequestDigest, bool), NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        self.goes_on()?;
        {
            let mut requests = self.requests();
            requests.forget(now);
            if let Some(same) = requests.asks_already(&request) {
                return Ok((same, false));
            }
            let id = RequestDigest(Digest::of(&[&request.to_bytes()]));
            if requests.sent.contains_key(&id) {
                return Ok((id, false));
            }
            requests.may_send()?;
        }
        let member = request.consumer.member();
        let signed = SignedDocument::sign(purpose::ACCESS_REQUEST, request.to_bytes(), &*self.key_of(&member)?);
        let id = RequestDigest(signed.digest());
        let noted = Noted::AccessSent { at: now.as_millis(), by, request: Kept::of(&signed) };
        self.audit.note_of(&member, &noted).await.map_err(|ended| NotGranted::Ended(ended.0))?;
        self.requests().sent.insert(id, Sent::new(request, signed));
        Ok((id, true))
    }

    /// Keeps which server of the provider took a request of ours, once: after a restart too it is asked, and no other one.
    pub(crate) async fn keep_taker(
        &self,
        id: RequestDigest,
        server: ServerId,
        now: Time,
    ) -> Result<(), journal::Ended> {
        let _one_at_a_time = self.changing.lock().await;
        let member = match self.requests().sent.get(&id) {
            Some(sent) if sent.taken_by.as_ref() != Some(&server) => sent.request().consumer.member(),
            _ => return Ok(()),
        };
        let noted = Noted::AccessTaken { at: now.as_millis(), request: id, server: server.to_string() };
        self.audit.note_of(&member, &noted).await?;
        if let Some(sent) = self.requests().sent.get_mut(&id) {
            sent.taken_by = Some(server);
        }
        Ok(())
    }

    /// Keeps a decision that the provider signed, with our acceptance where the grant is what we asked: durable, before it
    /// is told to anybody.
    pub(crate) async fn keep_decision(
        &self,
        id: RequestDigest,
        decision: SignedDocument,
        now: Time,
    ) -> Result<(), NotKept> {
        let _one_at_a_time = self.changing.lock().await;
        let Some(request) = self.requests().sent.get(&id).filter(|sent| sent.decision.is_none()).map(Sent::request)
        else {
            return Ok(());
        };
        let member = request.consumer.member();
        let AccessDecision { decided, time, .. } = AccessDecision::parse(&decision.document)?;
        let acceptance = match decided {
            Decided::Granted(signed) => {
                let grant: Grant = serde_json::from_slice(&signed.document)?;
                let same = request.differs(&grant, id, time).is_empty();
                let key = self.key_of(&member)?;
                same.then(|| {
                    let server = self.server.clone();
                    let acceptance = AccessAcceptance { request: id, grant: signed.digest(), server, time: now };
                    SignedDocument::sign(purpose::ACCESS_ACCEPTANCE, acceptance.to_bytes(), &key)
                })
            }
            Decided::Rejected(_) => None,
        };
        let noted = Noted::AccessAnswered {
            at: now.as_millis(),
            decision: Kept::of(&decision),
            acceptance: acceptance.as_ref().map(Kept::of),
        };
        self.audit.note_of(&member, &noted).await?;
        if let Some(sent) = self.requests().sent.get_mut(&id) {
            sent.answered(decision, acceptance)?;
        }
        Ok(())
    }

    /// Ends a grant: durable, then out of force, for running exchanges too.
    pub async fn end(&self, number: GrantNumber, reason: String, now: Time) -> Result<Arc<Grant>, NotGranted> {
        self.end_by(None, number, reason, now).await
    }

    /// The same, as this operator asked.
    pub async fn end_for(
        &self,
        by: Actor,
        number: GrantNumber,
        reason: String,
        now: Time,
    ) -> Result<Arc<Grant>, NotGranted> {
        self.end_by(Some(by), number, reason, now).await
    }

    async fn end_by(
        &self,
        by: Option<Actor>,
        number: GrantNumber,
        reason: String,
        now: Time,
    ) -> Result<Arc<Grant>, NotGranted> {
        let reason = reason.parse::<Text>().map_err(NotGranted::Reason)?.to_string();
        let _one_at_a_time = self.changing.lock().await;
        let grant = self.may_end(number)?;
        let mut view = View::clone(&self.view.load());
        let member = grant.provider.member();
        let end = match view.signed.get(&number) {
            Some(spread) => {
                let (grant, server, reason) = (spread.grant.digest(), self.server.clone(), reason.clone());
                let end = GrantEnd { grant, server, time: now, reason };
                Some(SignedDocument::sign(purpose::GRANT_END, end.to_bytes(), &*self.key_of(&member)?))
            }
            None => None,
        };
        let (at, kept) = (now.as_millis(), end.as_ref().map(Kept::of));
        let ended = Noted::Ended { number: number.0, at, reason, by, end: kept };
        let noted = self.audit.note_of(&member, &ended).await;
        noted.map_err(|ended| NotGranted::Ended(ended.0))?;
        view.ended(number, end);
        view.forget(now);
        self.put_in_force(view);
        Ok(grant)
    }

    /// Every grant as it was signed, and every end, of which the time is not over.
    pub(crate) fn spread(&self, now: Time) -> Vec<Arc<Spread>> {
        self.signed(now).into_iter().map(|(_, spread)| spread).collect()
    }

    /// The same, each with its number here.
    pub(crate) fn signed(&self, now: Time) -> Vec<(GrantNumber, Arc<Spread>)> {
        let view = self.view.load();
        let lasts = view.signed.iter().filter(|(_, spread)| spread.read.valid_until > now.as_millis());
        lasts.map(|(number, spread)| (*number, Arc::clone(spread))).collect()
    }

    /// The number of each here, and the SHA-256 of its document, which is the same everywhere.
    pub(crate) fn names(&self, now: Time) -> Vec<(GrantNumber, Digest)> {
        self.signed(now).into_iter().map(|(number, spread)| (number, spread.grant.digest())).collect()
    }

    /// Takes what another server of the member's granted or ended: durable, then in force, or out of it. What ended stays so.
    /// Returns how much of it was new.
    pub(crate) async fn take_spread(
        &self,
        from: &ServerId,
        came: Vec<Proven>,
        now: Time,
    ) -> Result<usize, journal::Ended> {
        let _one_at_a_time = self.changing.lock().await;
        let (mut view, mut taken) = (View::clone(&self.view.load()), 0);
        for (spread, is_known) in came.into_iter().map(Proven::spent) {
            let (member, from, at) = (spread.read.provider.member(), from.to_string(), now.as_millis());
            let known = view.signed.iter().find(|(_, known)| known.grant.digest() == spread.grant.digest());
            let noted = match (known, &spread.end) {
                (None, end) if !is_known => Noted::GrantSpread {
                    at,
                    from,
                    server: spread.server.to_string(),
                    number: view.last + 1,
                    grant: Kept::of(&spread.grant),
                    end: end.as_ref().map(Kept::of),
                },
                (Some((number, known)), Some(end)) if known.end.is_none() => {
                    Noted::EndSpread { at, from, number: number.0, end: Kept::of(end) }
                }
                // Known already; or it was, and its time is over meanwhile.
                _ => continue,
            };
            self.audit.note_of(&member, &noted).await?;
            // What was written reads: it is what was parsed a moment ago.
            taken += usize::from(view.take(&noted).is_ok());
        }
        if taken > 0 {
            view.forget(now);
            self.put_in_force(view);
        }
        Ok(taken)
    }

    /// From here on grants and the audit log's heads are signed with this key.
    pub(crate) async fn change_key(
        &self,
        member: &MemberId,
        before: KeyId,
        key: &Arc<SigningKey>,
    ) -> Result<(), journal::Ended> {
        let _one_at_a_time = self.changing.lock().await;
        self.audit.change_key(member, before, key).await?;
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(member.clone(), Arc::clone(key));
        Ok(())
    }

    /// The key with which this member signs here now.
    pub(crate) fn key_of(&self, member: &MemberId) -> Result<Arc<SigningKey>, NotGranted> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(member).cloned().ok_or_else(|| {
            NotGranted::Rule(format!("this server holds no signing key of {member}: name a provider that it hosts"))
        })
    }

    fn put_in_force(&self, mut view: View) {
        view.index();
        self.view.store(Arc::new(view));
        self.tell_of_a_change();
    }

    fn tell_of_a_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

fn readable(what: &str, bytes: usize) -> Result<(), NotGranted> {
    if bytes <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    let why = format!("{what} would be {bytes} bytes long, and at most {MAX_DOCUMENT_BYTES} are read");
    Err(NotGranted::Rule(format!("{why}; grant fewer methods or fields at once, or shorten the legal basis")))
}

/// Fields are named of methods that are granted.
fn of_methods(fields: &Fields, methods: &BTreeSet<String>) -> Result<(), NotGranted> {
    match fields.methods().find(|method| !methods.contains(*method)) {
        None => Ok(()),
        Some(other) => Err(NotGranted::Rule(format!("fields of {other} are named, and that is no method of it"))),
    }
}

/// Whether data may be asked for this purpose: it is on the instance's list, or the instance publishes none.
pub(crate) fn may_be_granted(configuration: &Configuration, purpose: &str) -> Result<(), NotGranted> {
    let listed = &configuration.purposes;
    if listed.is_empty() || listed.keys().any(|known| known.as_str() == purpose) {
        return Ok(());
    }
    let known: Vec<&str> = listed.keys().map(PurposeCode::as_str).collect();
    let all = format!("the list is {}", known.join(", "));
    Err(NotGranted::Unlisted { purpose: purpose.to_owned(), remedy: did_you_mean(purpose, known, &all) })
}

impl Proposal {
    /// For purposes of the instance's list only, as it is now. `fields`: what its names mean.
    pub fn listed(self, configuration: &Configuration, fields: Fields) -> Result<Listed, NotGranted> {
        self.purposes.iter().try_for_each(|purpose| may_be_granted(configuration, purpose))?;
        Ok(Listed(self, fields))
    }

    fn grant(self, number: GrantNumber, fields: Fields, now: Time) -> Result<Grant, NotGranted> {
        let rule = |rule: &str| Err(NotGranted::Rule(rule.to_owned()));
        if self.methods.is_empty() || self.methods.len() > MAX_ITEMS {
            return rule("it names 1 to 256 methods, each as /package.Service/Method");
        }
        if self.purposes.is_empty() || self.purposes.len() > MAX_ITEMS || self.purposes.contains("") {
            return rule("it names 1 to 256 purposes, none empty");
        }
        if self.valid_days == 0 || self.valid_days > 3660 {
            return rule("it lasts 1 to 3660 days");
        }
        if self.per_second == Some(0) {
            return rule("a rate is at least 1 a second; end the grant to allow nothing");
        }
        for method in &self.methods {
            method.parse::<MethodPath>().map_err(|error| NotGranted::Rule(error.to_string()))?;
        }
        of_methods(&fields, &self.methods)?;
        let valid_from = self.valid_from.unwrap_or(now.as_millis());
        Ok(Grant {
            number,
            consumer: self.consumer,
            provider: self.provider,
            methods: self.methods,
            purposes: self.purposes,
            legal_basis: self.legal_basis,
            valid_from,
            valid_until: valid_from.saturating_add(u64::from(self.valid_days) * 86_400_000),
            per_second: self.per_second,
            priority: self.priority,
            request: None,
            fields,
        })
    }
}

impl View {
    /// Takes in an entry, where it is one about grants.
    pub(crate) fn take(&mut self, noted: &Noted) -> Result<(), serde_json::Error> {
        match noted {
            Noted::Granted { grant, key, signature, .. } => {
                let kept = Kept { document: grant.clone(), key: key.clone(), signature: signature.clone() };
                let document = STANDARD.decode(grant).map_err(serde::de::Error::custom)?;
                let read: Grant = serde_json::from_slice(&document)?;
                let number = read.number;
                self.last = self.last.max(number.0);
                if let (Some(server), Ok(grant)) = (&self.server, kept.read()) {
                    let spread = Spread { server: server.clone(), grant, end: None, read: read.clone() };
                    self.signed.insert(number, Arc::new(spread));
                }
                self.grants.insert(number, Arc::new(read));
            }
            Noted::Ended { number, end, .. } => {
                self.ended(GrantNumber(*number), end.as_ref().map(Kept::read).transpose()?);
            }
            Noted::GrantSpread { server, number, grant, end, .. } => {
                let (grant, end) = (grant.read()?, end.as_ref().map(Kept::read).transpose()?);
                let (read, number): (Grant, _) = (serde_json::from_slice(&grant.document)?, GrantNumber(*number));
                let server = server.parse().map_err(serde::de::Error::custom)?;
                self.last = self.last.max(number.0);
                if end.is_none() {
                    self.grants.insert(number, Arc::new(Grant { number, ..read.clone() }));
                }
                self.signed.insert(number, Arc::new(Spread { server, grant, end, read }));
            }
            Noted::EndSpread { number, end, .. } => self.ended(GrantNumber(*number), Some(end.read()?)),
            _ => {}
        }
        Ok(())
    }

    /// It is out of force. The others are told so where its end is signed.
    fn ended(&mut self, number: GrantNumber, end: Option<SignedDocument>) {
        self.grants.remove(&number);
        match (self.signed.get_mut(&number), end) {
            (Some(spread), Some(end)) => *spread = Arc::new(Spread { end: Some(end), ..Spread::clone(spread) }),
            _ => _ = self.signed.remove(&number),
        }
    }

    /// What is over by its own time is told to nobody any more.
    fn forget(&mut self, now: Time) {
        self.signed.retain(|_, spread| spread.read.valid_until > now.as_millis());
    }

    fn index(&mut self) {
        self.by_path.clear();
        for grant in self.grants.values() {
            for method in &grant.methods {
                self.by_path.entry((grant.consumer.clone(), method.clone())).or_default().push(grant.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use journal::faulty::Faulty;

    use super::*;

    const NOW: Time = Time::from_millis(1_800_000_000_000);

    fn rights(disk: &Arc<Faulty>, key: &Arc<SigningKey>, first: bool) -> AccessRights {
        let options = journal::Options { first, ..journal::Options::default() };
        let (member, server) = ("VN/GOV/moj".parse().unwrap(), "VN/GOV/moj/ss1".parse().unwrap());
        AccessRights::open(disk.clone(), options, &server, &[(member, Arc::clone(key))]).unwrap().0
    }

    fn proposal(legal_basis: usize) -> Listed {
        let proposal = Proposal {
            consumer: "VN/GOV/portal/one-stop".parse().unwrap(),
            provider: "VN/GOV/moj/civil-registry".parse().unwrap(),
            methods: ["/civil.v1.Births/Register".to_owned()].into(),
            purposes: ["testing".to_owned()].into(),
            legal_basis: "x".repeat(legal_basis),
            valid_from: None,
            valid_days: 1,
            per_second: None,
            priority: Default::default(),
            fields: NamedFields::new(),
        };
        Listed(proposal, Fields::default())
    }

    #[tokio::test]
    async fn a_grant_that_could_not_be_read_again_is_refused_before_it_is_noted() {
        let (disk, key) = (Faulty::new(), Arc::new(SigningKey::generate().0));
        let rights = rights(&disk, &key, true);
        let grant = rights.foreseen_grant(proposal(0), NOW).await.unwrap();
        let most = MAX_DOCUMENT_BYTES - serde_json::to_vec(&grant).unwrap().len();
        for refused in [
            rights.foreseen_grant(proposal(most + 1), NOW).await.unwrap_err(),
            rights.change_by(None, proposal(most + 1), NOW).await.unwrap_err(),
        ] {
            assert!(refused.to_string().contains("131073 bytes long, and at most 131072 are read"), "{refused}");
        }
        assert_eq!(rights.change_by(None, proposal(most), NOW).await.unwrap().number, GrantNumber(1));
        drop(rights);
        assert_eq!(self::rights(&disk, &key, false).list().len(), 1, "as long as it may be it is read again");
    }

    #[tokio::test]
    async fn a_grant_fits_in_the_decision_that_holds_it() {
        let rights = rights(&Faulty::new(), &Arc::new(SigningKey::generate().0), true);
        let asked = Some(RequestDigest(Digest::ZERO));
        let grant = Grant { request: asked, ..rights.foreseen_grant(proposal(0), NOW).await.unwrap() };
        let left = MAX_DOCUMENT_BYTES - serde_json::to_vec(&grant).unwrap().len();
        let of = |bytes: usize| Grant { legal_basis: "x".repeat(bytes), ..grant.clone() };
        rights.is_readable(&of(left - 500), NOW).unwrap();
        let refused = rights.is_readable(&of(left), NOW).unwrap_err().to_string();
        assert!(refused.contains("the decision, which holds it, would be"), "{refused}");
        rights.is_readable(&Grant { request: None, ..of(left) }, NOW).unwrap();
    }
}
