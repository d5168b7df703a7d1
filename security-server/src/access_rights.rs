//! Who may call what of ours, for which purpose, until when. Default deny. The dry run and the door ask one function,
//! `AccessRights::decide`, which nothing else can: it is private to this module, and only it makes a [`Granted`].
//!
//! A grant is a numbered document that the provider's key signs. Grants and their ends are entries of this server's
//! audit log, durable before they are answered; what is in memory is a view of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use command_line::did_you_mean;
use proto::identifier::{MemberId, MethodPath, ServerId, SubsystemId};
use proto::message::{Header, Operation};
use proto::record::Kind;
use proto::refusal::Code;
use proto::signature::{KeyId, SigningKey, purpose};
use proto::time::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::audit::{Actor, AuditLog, Noted, OpenError, Past};
use crate::quota::Bucket;
use crate::services::{Service, Services};

/// Most methods, and most purposes, of one grant.
pub const MAX_ITEMS: usize = 256;

/// A grant's number at this server, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GrantNumber(pub u64);

/// What a provider grants: the document that its key signs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its number.
    pub number: GrantNumber,
    /// Who may call.
    pub consumer: SubsystemId,
    /// Whose service it is.
    pub provider: SubsystemId,
    /// Exact method paths.
    pub methods: BTreeSet<String>,
    /// Purposes of the instance's list.
    pub purposes: BTreeSet<String>,
    /// The law that allows it.
    pub legal_basis: String,
    /// First instant, in milliseconds since 1970.
    pub valid_from: u64,
    /// From here on no more.
    pub valid_until: u64,
    /// Exchanges a second, with a burst of ten seconds' worth. None: as many as the server carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

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
}

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

/// What the look-up of an opening's grant found: kept until the signature holds, then pronounced.
#[derive(Debug)]
pub enum Looked {
    /// A grant allows it.
    Granted(Granted),
    /// None does.
    Refused(Code),
}

/// A service that may be called, for one exchange, and the grant that allows it. Only [`AccessRights::look_up`] makes one.
#[derive(Debug)]
pub struct Granted {
    pub(crate) service: Arc<Service>,
    pub(crate) path: MethodPath,
    pub(crate) grant: GrantNumber,
    /// Keeps others from making one.
    _made: (),
}

impl Granted {
    /// The number of the grant.
    pub fn number(&self) -> GrantNumber {
        self.grant
    }
}

/// Why a change of the access rights was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotGranted {
    /// The proposal breaks a rule.
    #[error("the grant is not made: {0}; see `security-server access grant --help`")]
    Rule(String),
    /// No such grant in force.
    #[error("there is no grant {number} in force; {remedy}")]
    Unknown {
        /// The number asked for.
        number: u64,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// The audit log ended.
    #[error("the audit log has ended ({0}): nothing was changed; check the disk and restart the server")]
    Ended(Arc<str>),
}

/// The grants in force, and the audit log that they are a view of.
pub struct AccessRights {
    view: ArcSwap<View>,
    rates: Mutex<HashMap<GrantNumber, Bucket>>,
    audit: Arc<AuditLog>,
    /// Held while a change is made: they get their numbers one after another.
    changing: tokio::sync::Mutex<()>,
    keys: Mutex<HashMap<MemberId, Arc<SigningKey>>>,
    changes: watch::Sender<u64>,
}

/// The grants as the entries of the audit log make them.
#[derive(Clone, Default)]
pub(crate) struct View {
    grants: BTreeMap<GrantNumber, Arc<Grant>>,
    by_path: HashMap<(SubsystemId, String), Vec<GrantNumber>>,
    last: u64,
}

impl AccessRights {
    /// Opens the audit log and reads the grants from it. With what else it says of the time before.
    pub fn open(
        disk: Arc<dyn journal::Disk>,
        options: journal::Options,
        server: &ServerId,
        keys: &[(MemberId, Arc<SigningKey>)],
    ) -> Result<(Self, Past), OpenError> {
        let mut grants = View::default();
        let (audit, past) = AuditLog::open(disk, options, server, keys, &mut |noted| grants.take(noted))?;
        Ok((Self::of(Arc::new(audit), grants, keys), past))
    }

    /// The audit log that the grants stand in.
    pub(crate) fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    /// The grants that the audit log held at the start.
    fn of(audit: Arc<AuditLog>, mut grants: View, keys: &[(MemberId, Arc<SigningKey>)]) -> Self {
        grants.index();
        Self {
            view: ArcSwap::from_pointee(grants),
            rates: Mutex::default(),
            audit,
            changing: tokio::sync::Mutex::default(),
            keys: Mutex::new(keys.iter().cloned().collect()),
            changes: watch::Sender::new(0),
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
        let Operation::Grpc(path) = &header.route.operation else { return Looked::Refused(Code::GrantMissing) };
        let purpose = header.opening.as_ref().map_or("", |opening| &opening.purpose);
        let question = Question { consumer: &header.route.consumer, provider: &header.route.provider, path, purpose };
        match self.decide(services, &question, now, |grant| self.within_rate(grant)) {
            Ok((grant, service)) => {
                Looked::Granted(Granted { service, path: path.clone(), grant: grant.number, _made: () })
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

    /// Whether a grant that an exchange runs under is still good.
    pub fn is_good(&self, number: GrantNumber, now: Time) -> bool {
        self.view.load().grants.get(&number).is_some_and(|grant| grant.is_valid(now))
    }

    /// The grants in force or to come, in the order of their numbers.
    pub fn list(&self) -> Vec<Arc<Grant>> {
        self.view.load().grants.values().cloned().collect()
    }

    /// Counts the changes; running exchanges are judged again at each.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The grant as it would be made now: the rules of [`grant`](Self::grant), without making it.
    pub async fn foreseen_grant(&self, proposal: Proposal, now: Time) -> Result<Grant, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        self.may_grant(proposal, now)
    }

    fn may_grant(&self, proposal: Proposal, now: Time) -> Result<Grant, NotGranted> {
        self.goes_on()?;
        let grant = proposal.grant(GrantNumber(self.view.load().last + 1), now)?;
        self.key_of(&grant.provider.member())?;
        Ok(grant)
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

    /// Grants, by whom it is that runs this server: signed, durable in the audit log, then in force.
    pub async fn grant(&self, proposal: Proposal, now: Time) -> Result<Arc<Grant>, NotGranted> {
        self.change_by(None, proposal, now).await
    }

    /// The same, as this operator asked.
    pub async fn grant_for(&self, by: Actor, proposal: Proposal, now: Time) -> Result<Arc<Grant>, NotGranted> {
        self.change_by(Some(by), proposal, now).await
    }

    async fn change_by(&self, by: Option<Actor>, proposal: Proposal, now: Time) -> Result<Arc<Grant>, NotGranted> {
        let _one_at_a_time = self.changing.lock().await;
        let grant = self.may_grant(proposal, now)?;
        let mut view = View::clone(&self.view.load());
        let member = grant.provider.member();
        let key = self.key_of(&member)?;
        let document = serde_json::to_vec(&grant).map_err(|error| NotGranted::Rule(error.to_string()))?;
        let signature = key.sign(&[purpose::GRANT.as_bytes(), &document].concat());
        let granted = Noted::Granted {
            grant: STANDARD.encode(&document),
            key: key.public().id().to_string(),
            signature: STANDARD.encode(signature),
            at: Some(now.as_millis()),
            by,
        };
        self.audit.note_of(&member, &granted).await.map_err(|ended| NotGranted::Ended(ended.0))?;
        view.last = grant.number.0;
        view.grants.insert(grant.number, Arc::new(grant.clone()));
        self.put_in_force(view);
        Ok(Arc::new(grant))
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
        let _one_at_a_time = self.changing.lock().await;
        let grant = self.may_end(number)?;
        let mut view = View::clone(&self.view.load());
        view.grants.remove(&number);
        let ended = Noted::Ended { number: number.0, at: now.as_millis(), reason, by };
        let noted = self.audit.note_of(&grant.provider.member(), &ended).await;
        noted.map_err(|ended| NotGranted::Ended(ended.0))?;
        self.put_in_force(view);
        Ok(grant)
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

    fn key_of(&self, member: &MemberId) -> Result<Arc<SigningKey>, NotGranted> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(member).cloned().ok_or_else(|| {
            NotGranted::Rule(format!("this server holds no signing key of {member}: name a provider that it hosts"))
        })
    }

    fn put_in_force(&self, mut view: View) {
        view.index();
        self.view.store(Arc::new(view));
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Proposal {
    fn grant(self, number: GrantNumber, now: Time) -> Result<Grant, NotGranted> {
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
        })
    }
}

impl std::fmt::Display for Grant {
    /// In a sentence without its end, for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |items: &BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
        let (from, until) = (Time::from_millis(self.valid_from), Time::from_millis(self.valid_until));
        write!(f, "grant {}: {} may call {}", self.number.0, self.consumer, self.provider)?;
        write!(f, ", {}, for {}, from {from} until {until}", list(&self.methods), list(&self.purposes))
    }
}

impl Grant {
    fn is_valid(&self, now: Time) -> bool {
        self.valid_from <= now.as_millis() && now.as_millis() < self.valid_until
    }
}

impl View {
    /// Takes in an entry, where it is one about grants.
    pub(crate) fn take(&mut self, noted: &Noted) -> Result<(), serde_json::Error> {
        match noted {
            Noted::Granted { grant, .. } => {
                let document = STANDARD.decode(grant).map_err(serde::de::Error::custom)?;
                let grant: Grant = serde_json::from_slice(&document)?;
                self.last = self.last.max(grant.number.0);
                self.grants.insert(grant.number, Arc::new(grant));
            }
            Noted::Ended { number, .. } => _ = self.grants.remove(&GrantNumber(*number)),
            _ => {}
        }
        Ok(())
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
