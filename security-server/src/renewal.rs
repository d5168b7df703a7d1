//! The tide of this server's own keys: another one is made before the certificate of the one in use ends, certified by the
//! registry, published, and taken into use when everybody knows it. Nothing stops meanwhile, and nobody has to do anything.
//!
//! ```text
//! due            a day after the newest authentication certificate began, two thirds into the newest signing certificate
//! make, ask      the new key is on disk before the registry is asked; asked twice, the registry gives the same certificate
//! wait           until it is in the configuration, and no valid configuration lacks it any more (PROTOCOL.md 15.4)
//! take up        on disk first; then new connections show it, and what is sealed from here on is sealed with it
//! erase          the key before
//! ```
//!
//! No timer is kept: what is due follows from the certificates on disk, the clock and the configuration, at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use proto::certificate::{Authentication, Authority, NotACertificate, Signing};
use proto::global_configuration::Configuration;
use proto::identifier::{MemberId, ServerId};
use proto::server_request::{SETTLED_AFTER, ServerRequest, Signer, Wish};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::ServerAnswer;
use registry_client::{NoConnection, RegistrationClient};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::SecurityServer;
use crate::audit::{Actor, Noted};
use crate::global_configuration::{Registry, jittered};
use crate::keys::ring::{HeldKey, Ring, RingError, Use};
use crate::message_log::LogEnded;
use crate::tls::{Identity, Own};

/// How old the newest authentication certificate is when the next one is asked for.
pub const AUTHENTICATION_RENEWED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The last part of that time is drawn for each key, so that a country's servers do not come at one instant.
const JITTER: u32 = 6;
/// How often it is looked whether something is due, where no new configuration makes us look.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the registry may take to certify a key.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// The wait before the second attempt.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How long after it was due a renewal that fails is cried out: five days before an authentication certificate ends.
const ALARMED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What renews this server's keys.
pub struct Renewal {
    server: ServerId,
    registry: Registry,
    own: Arc<Own>,
    ring: Arc<Mutex<Ring>>,
    /// Of these uses the newest key is wanted in use as soon as it is listed.
    at_once: Mutex<BTreeSet<Use>>,
    /// The version that lists the newest key of each use, as the registry said when it certified it.
    listed_from: Mutex<BTreeMap<Use, u64>>,
    /// Why the last attempt failed, of each use of which it did.
    failing: Mutex<BTreeMap<Use, String>>,
    /// One step at a time.
    turn: tokio::sync::Mutex<()>,
    asked: Notify,
    changes: watch::Sender<u64>,
}

/// Why a key was not renewed. What is in use stays in use.
#[derive(Debug, thiserror::Error)]
pub enum NotRenewed {
    /// The registry cannot be reached.
    #[error(transparent)]
    Connection(#[from] NoConnection),
    /// The registry refused.
    #[error("the registry refused: {}", .0.message())]
    Refused(#[from] tonic::Status),
    /// The registry took the request and says nothing.
    #[error("the registry does not answer within {ASK_TIMEOUT:?}; its admin is to run `central-registry doctor`")]
    Silent,
    /// What the registry issued is not right.
    #[error("the registry issued a wrong certificate: {0}; tell its admins")]
    Certificate(String),
    /// A file.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// TLS does not take the key and its certificate.
    #[error("TLS does not take the new key: {0}; see the diagnostics")]
    Tls(#[from] rustls::Error),
    /// The change could not be recorded in the message log.
    #[error(transparent)]
    Log(#[from] LogEnded),
    /// Nor in the audit log.
    #[error("the audit log has ended ({0}): no key was changed; check the disk and restart the server")]
    NotNoted(#[from] journal::Ended),
    /// No key that is still good can ask for another.
    #[error(
        "no {0} key of this server is good any more; ask the registry's admins for another invitation for this server, and \
         join with it: `security-server join`"
    )]
    NoGoodKey(&'static str),
    /// This server follows no registry.
    #[error(
        "this server follows no registry that could certify a key; start it with a configuration file that names one"
    )]
    NoRegistry,
}

/// A key of this server, for its operator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeyState {
    /// What it is for.
    pub what: Use,
    /// Which one, counted from 1.
    pub number: u32,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: String,
    /// `in use`, `waiting`, `asked for`, `replaced` or `revoked`.
    pub state: String,
    /// First instant of its certificate, RFC 3339.
    pub not_before: Option<String>,
    /// Last instant of its certificate.
    pub not_after: Option<String>,
    /// Of one that waits: from when on it may be taken into use.
    pub used_from: Option<String>,
}

impl Renewal {
    /// Of the keys in this ring.
    pub fn new(server: ServerId, registry: Registry, ring: Ring, own: Arc<Own>) -> Self {
        Self {
            server,
            registry,
            own,
            ring: Arc::new(Mutex::new(ring)),
            at_once: Mutex::default(),
            listed_from: Mutex::default(),
            failing: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            asked: Notify::new(),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells of each change of the keys, and of each attempt that ended.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The keys, the oldest first.
    pub fn keys(&self, configuration: &Configuration) -> Vec<KeyState> {
        let ring = self.ring();
        let state = |held: &Arc<HeldKey>| {
            let certificate = held.certificate.as_ref();
            let waits = certificate.is_some_and(|certificate| !certificate.taken_up);
            let state = match certificate {
                _ if configuration.revoked.contains(&held.id()) => "revoked",
                None => "asked for",
                Some(_) if waits => "waiting",
                Some(_) if held.number == ring.in_use(held.what).number => "in use",
                Some(_) => "replaced",
            };
            KeyState {
                what: held.what,
                number: held.number,
                key: held.id().to_string(),
                state: state.to_owned(),
                not_before: certificate.map(|certificate| certificate.not_before.to_string()),
                not_after: certificate.map(|certificate| certificate.not_after.to_string()),
                used_from: certificate.filter(|_| waits).map(|it| it.not_before.plus(SETTLED_AFTER).to_string()),
            }
        };
        ring.all().map(state).collect()
    }

    /// Whether peers take the key in use at this moment. What suspends its member is no fault of the key.
    pub(crate) fn is_good(&self, configuration: &Configuration, what: Use, now: Time) -> bool {
        is_good(configuration, &self.server, self.ring().in_use(what), now)
    }

    /// When the certificate in use ends.
    pub fn ends(&self, what: Use) -> Time {
        self.ring().in_use(what).certificate.as_ref().map_or(Time::default(), |certificate| certificate.not_after)
    }

    /// Why keys of this server are not renewed, where the last attempt failed.
    pub fn failing(&self) -> Option<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let each: Vec<_> = failing.iter().map(|(what, why)| format!("{}: {why}", what.word())).collect();
        (!each.is_empty()).then(|| each.join("; "))
    }

    /// The registry that certifies them.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The signing key in use, if what it signs now is taken.
    pub(crate) fn good_signing_key(&self, configuration: &Configuration, now: Time) -> Option<Arc<HeldKey>> {
        let ring = self.ring();
        let held = ring.in_use(Use::Signing);
        is_good(configuration, &self.server, held, now).then(|| Arc::clone(held))
    }

    /// Looks now whether something is due, and not when a minute is over.
    pub fn look(&self) {
        self.asked.notify_one();
    }

    /// Another key of this use, now. It is taken into use when everybody knows it, or, `at_once`, as soon as it is published:
    /// then a peer that does not hear of the registry at present refuses us until it does.
    pub async fn rotate(&self, server: &SecurityServer, what: Use, at_once: bool, by: Actor) -> Result<(), NotRenewed> {
        let _turn = self.turn.lock().await;
        server.audit.note(&Noted::KeyWanted { at: at(server), by, what, at_once }).await?;
        let waits = self.ring().waiting(what).next_back().is_some();
        if !(at_once && waits) {
            self.ask(server, what).await?;
        }
        if at_once {
            self.at_once.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
        }
        // The registry may have published it by now; if not, the next version is looked at.
        self.look();
        Ok(())
    }

    /// Asks the registry for something else for this server or its member. Returns the version that says so; 0: it is not
    /// published.
    pub async fn wish(&self, server: &SecurityServer, wish: Wish, by: Actor) -> Result<u64, NotRenewed> {
        let configuration = server.configuration.load();
        let what = match wish.signer() {
            Signer::Authentication => Use::Authentication,
            Signer::Signing(_) => Use::Signing,
        };
        let words = match &wish {
            Wish::Move(address) => format!("to be reached at {address}"),
            Wish::Maintain(Some(notice)) => format!("to be in maintenance: {notice}"),
            Wish::Maintain(None) => "to be back from maintenance".to_owned(),
            Wish::Leave(member, reason) => format!("that {member} be removed: {reason}"),
            Wish::RenewAuthentication(_) | Wish::RenewSigning(..) => "another key".to_owned(),
        };
        server.audit.note(&Noted::Asked { at: at(server), by, what: words }).await?;
        let signer = self.signer(&configuration, what).ok_or(NotRenewed::NoGoodKey(what.word()))?;
        Ok(self.answered(server, &configuration, wish, &signer.key, None).await?.version)
    }

    /// Does what is due now. What fails of one use does not keep the other from its turn.
    async fn step(&self, server: &SecurityServer) -> Result<(), NotRenewed> {
        let _turn = self.turn.lock().await;
        let mut failed = Ok(());
        for what in Use::ALL {
            let outcome = self.step_of(server, what).await;
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) => _ = failing.remove(&what),
                Err(error) => {
                    failing.insert(what, error.to_string());
                    drop(failing);
                    self.report(what, &error);
                    failed = Err(error);
                }
            }
        }
        self.changes.send_modify(|changes| *changes += 1);
        failed
    }

    async fn step_of(&self, server: &SecurityServer, what: Use) -> Result<(), NotRenewed> {
        self.take_up_what_is_due(server, what).await?;
        if self.is_due(server, what) {
            self.ask(server, what).await?;
            self.take_up_what_is_due(server, what).await?;
        }
        Ok(())
    }

    // ---- asking

    fn is_due(&self, server: &SecurityServer, what: Use) -> bool {
        let (configuration, now) = (server.configuration.load(), server.clock.now());
        let listed_from = self.listed_from.lock().unwrap_or_else(PoisonError::into_inner).get(&what).copied();
        if listed_from.is_some_and(|version| configuration.version < version) {
            // One was certified a moment ago, and the version that says so is on its way.
            return false;
        }
        let ring = self.ring();
        let Some(due) = due(ring.newest(what)) else { return true };
        let follows = ring.waiting(what).any(|held| is_good(&configuration, &self.server, held, now));
        now >= due || !(follows || is_good(&configuration, &self.server, ring.in_use(what), now))
    }

    /// Makes a key, unless one was made that has no certificate yet, and has it certified.
    async fn ask(&self, server: &SecurityServer, what: Use) -> Result<(), NotRenewed> {
        let configuration = server.configuration.load();
        let signer = self.signer(&configuration, what);
        let signer = signer.ok_or(NotRenewed::NoGoodKey(what.word()))?;
        let made = self.with_ring(move |ring| {
            let newest = ring.newest(what).clone();
            if newest.certificate.is_none() { Ok(newest) } else { ring.make(what) }
        });
        let made = made.await?;
        match self.certified(server, &configuration, &signer.key, &made).await {
            Ok((der, version)) => {
                let key = made.id();
                let kept = self.with_ring(move |ring| ring.certify(&made, &der)).await?;
                let not_after = kept.certificate.as_ref().map_or(Time::default(), |certificate| certificate.not_after);
                let (key_named, not_after) = (key.to_string(), not_after.to_string());
                let certified = Noted::KeyCertified { at: at(server), what, key: key_named, not_after };
                server.audit.note(&certified).await?;
                self.listed_from.lock().unwrap_or_else(PoisonError::into_inner).insert(what, version);
                tracing::info!(what = what.word(), %key, "a new key was certified; it is used when everybody knows it");
                Ok(())
            }
            // It is somebody's already: another one is made in its place.
            Err(NotRenewed::Refused(status)) if status.code() == Code::AlreadyExists => {
                self.with_ring(move |ring| ring.erase(&made)).await?;
                Err(status.into())
            }
            Err(error) => Err(error),
        }
    }

    /// The key with which the registry takes what is asked.
    fn signer(&self, configuration: &Configuration, what: Use) -> Option<Arc<HeldKey>> {
        let ring = self.ring();
        let may_ask = |held: &&Arc<HeldKey>| is_listed(configuration, &self.server, held);
        let in_use = Some(ring.in_use(what)).filter(may_ask);
        in_use.or_else(|| ring.waiting(what).rev().find(may_ask)).cloned()
    }

    async fn certified(
        &self,
        server: &SecurityServer,
        configuration: &Configuration,
        signer: &SigningKey,
        made: &HeldKey,
    ) -> Result<(Vec<u8>, u64), NotRenewed> {
        let new_key = made.key.public().clone();
        let wish = match made.what {
            Use::Authentication => Wish::RenewAuthentication(new_key),
            Use::Signing => Wish::RenewSigning(self.member(), new_key),
        };
        let answer = self.answered(server, configuration, wish, signer, Some(&made.key)).await?;
        let der = answer.certificate.to_vec();
        self.check(configuration, made, &der).map_err(NotRenewed::Certificate)?;
        Ok((der, answer.version))
    }

    async fn answered(
        &self,
        server: &SecurityServer,
        configuration: &Configuration,
        wish: Wish,
        signer: &SigningKey,
        new_key: Option<&SigningKey>,
    ) -> Result<ServerAnswer, NotRenewed> {
        let mut id = [0; 16];
        rand::fill(&mut id).expect("the system's random source works, or nothing does");
        let (instance, time) = (configuration.instance.clone(), server.clock.now());
        let request = ServerRequest { instance, server: self.server.clone(), id, time, wish };
        let channel = registry_client::connect(&self.registry.address, self.registry.key).await?;
        let mut client = RegistrationClient::new(channel);
        Ok(answered(client.ask(request.sign(signer, new_key))).await??.into_inner())
    }

    /// It is for this key, this server and this member, and by an authority of the instance.
    fn check(&self, configuration: &Configuration, made: &HeldKey, der: &[u8]) -> Result<(), String> {
        let named = |error: NotACertificate| error.to_string();
        let issued = |authority: &Vec<u8>| Authority::parse(authority)?.issued(der);
        if !configuration.authorities.iter().any(|authority| issued(authority).is_ok()) {
            return Err(NotACertificate::Issuer.to_string());
        }
        let right = match made.what {
            Use::Authentication => {
                let read = Authentication::parse(der).map_err(named)?;
                read.server == self.server && read.key == *made.key.public()
            }
            Use::Signing => {
                let read = Signing::parse(der).map_err(named)?;
                read.server == self.server && read.member == self.member() && read.key == *made.key.public()
            }
        };
        if right { Ok(()) } else { Err("it names another server or key than asked for".to_owned()) }
    }

    // ---- taking into use

    async fn take_up_what_is_due(&self, server: &SecurityServer, what: Use) -> Result<(), NotRenewed> {
        if let Some(next) = self.next_in_use(server, what) {
            // A crash before this leaves the key before in use, and one after it the new one.
            self.with_ring(move |ring| ring.take_up(&next)).await?;
            self.at_once.lock().unwrap_or_else(PoisonError::into_inner).remove(&what);
        }
        self.let_go(server, what).await
    }

    /// The key that is to be in use from now on, if it is another than the one that is (PROTOCOL.md 15.4).
    fn next_in_use(&self, server: &SecurityServer, what: Use) -> Option<Arc<HeldKey>> {
        let (configuration, now) = (server.configuration.load(), server.clock.now());
        let at_once = self.at_once.lock().unwrap_or_else(PoisonError::into_inner).contains(&what);
        next_in_use(&self.ring(), &configuration, &self.server, what, now, at_once)
    }

    /// Shows the key in use from now on, and erases those before it. After a start that a crash came before, too.
    async fn let_go(&self, server: &SecurityServer, what: Use) -> Result<(), NotRenewed> {
        let (in_use, replaced) = {
            let ring = self.ring();
            (Arc::clone(ring.in_use(what)), ring.replaced(what).cloned().collect::<Vec<_>>())
        };
        let Some(before) = replaced.last() else { return Ok(()) };
        let before = before.id();
        let last_head = match what {
            Use::Authentication => {
                self.own.replace(&identity(&in_use))?;
                None
            }
            Use::Signing => {
                let member = self.member();
                let last_head = server.message_log.change_key(&member, before, &in_use.key).await?;
                server.access_rights.change_key(&member, before, &in_use.key).await?;
                Some(last_head.to_string())
            }
        };
        // A crash before this is durable: the next start changes the keys again, and notes it.
        let (key, before) = (in_use.id().to_string(), before.to_string());
        server.audit.note(&Noted::KeyTakenUp { at: at(server), what, before, key, last_head }).await?;
        tracing::info!(what = what.word(), key = %in_use.id(), "another key is in use");
        metrics::counter!("causeway_keys_taken_up_total", "use" => what.word()).increment(1);
        // A crash from here on: they are erased at the next start.
        self.with_ring(move |ring| replaced.iter().try_for_each(|held| ring.erase(held))).await?;
        Ok(())
    }

    /// Whether a key of this server is not renewed a day after it was due.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ring = self.ring();
        let overdue =
            |what| due(ring.newest(what)).unwrap_or_else(|| asked_since(&ring, what)).plus(ALARMED_AFTER) <= now;
        failing.keys().any(|what| overdue(*what))
    }

    fn report(&self, what: Use, error: &NotRenewed) {
        metrics::counter!("causeway_renewals_failed_total", "use" => what.word()).increment(1);
        tracing::warn!(what = what.word(), ends = %self.ends(what), %error, "a key was not renewed; trying again");
    }

    fn member(&self) -> MemberId {
        self.server.owner()
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ring on a thread that may wait for the disk.
    async fn with_ring<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Ring) -> Result<T, RingError> + Send + 'static,
    ) -> Result<T, RingError> {
        let ring = Arc::clone(&self.ring);
        let changed =
            tokio::task::spawn_blocking(move || change(&mut ring.lock().unwrap_or_else(PoisonError::into_inner)));
        let changed = changed.await.expect("a change of the ring does not panic, and nothing aborts it");
        self.changes.send_modify(|changes| *changes += 1);
        changed
    }
}

async fn answered<F: Future>(asked: F) -> Result<F::Output, NotRenewed> {
    tokio::time::timeout(ASK_TIMEOUT, asked).await.map_err(|_| NotRenewed::Silent)
}

/// Renews what is due until `stop`.
pub(crate) async fn renew(server: Arc<SecurityServer>, stop: CancellationToken) {
    let Some(renewal) = &server.renewal else { return };
    let mut versions = server.configuration.versions();
    let mut wait = FIRST_WAIT;
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = renewal.step(&server) => outcome,
        };
        let pause = match outcome {
            Ok(()) => {
                wait = FIRST_WAIT;
                LOOK_EVERY
            }
            Err(_) => {
                let pause = jittered(wait);
                wait = (wait * 2).min(LONGEST_WAIT);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            Ok(()) = versions.changed() => {}
            () = renewal.asked.notified() => {}
        }
    }
}

/// The moment of the audit log's entries.
fn at(server: &SecurityServer) -> u64 {
    server.clock.now().as_millis()
}

/// When another key is to follow this one, the newest. None: it has no certificate, and is asked for.
pub(crate) fn due(newest: &HeldKey) -> Option<Time> {
    let certificate = newest.certificate.as_ref()?;
    let interval = match newest.what {
        Use::Authentication => AUTHENTICATION_RENEWED_AFTER,
        Use::Signing => certificate.not_after.distance(certificate.not_before) / 3 * 2,
    };
    let drawn = u32::from(newest.id().as_bytes()[0]);
    Some(certificate.not_before.plus(interval - interval / JITTER / 256 * drawn))
}

/// Since when a key without a certificate is asked for: since the newest that has one was due.
fn asked_since(ring: &Ring, what: Use) -> Time {
    let certified = ring.waiting(what).next_back().unwrap_or_else(|| ring.in_use(what));
    due(certified).unwrap_or_default()
}

/// The key that is to be in use at this moment, if it is another than the one that is: one that has settled; or, where the one
/// in use is not good any more, or `at_once`, the newest that is listed.
pub(crate) fn next_in_use(
    ring: &Ring,
    configuration: &Configuration,
    server: &ServerId,
    what: Use,
    now: Time,
    at_once: bool,
) -> Option<Arc<HeldKey>> {
    let in_haste = at_once || !is_good(configuration, server, ring.in_use(what), now);
    let settled = |held: &HeldKey| {
        held.certificate.as_ref().is_some_and(|certificate| now >= certificate.not_before.plus(SETTLED_AFTER))
    };
    let mut waiting = ring.waiting(what).rev();
    waiting.find(|held| is_good(configuration, server, held, now) && (in_haste || settled(held))).cloned()
}

/// The key and its certificate, as TLS takes them.
pub(crate) fn identity(held: &HeldKey) -> Identity {
    let chain = held.certificate.as_ref().map(|certificate| certificate.chain.clone()).unwrap_or_default();
    Identity { chain, key: held.pkcs8.clone() }
}

/// The configuration lists it for this use, not revoked.
fn is_listed(configuration: &Configuration, server: &ServerId, held: &HeldKey) -> bool {
    let key = held.id();
    let listed = match held.what {
        Use::Authentication => configuration.authenticates(server, &key),
        Use::Signing => {
            let member = configuration.members.get(&server.owner());
            member.and_then(|member| member.signing_keys.get(&key)).is_some_and(|listed| listed.server == *server)
        }
    };
    listed && !configuration.revoked.contains(&key)
}

/// And its certificate holds now.
fn is_good(configuration: &Configuration, server: &ServerId, held: &HeldKey, now: Time) -> bool {
    let holds = held.certificate.as_ref().is_some_and(|it| it.not_before <= now && now <= it.not_after);
    let until = match held.what {
        Use::Authentication => None,
        Use::Signing => {
            let member = configuration.members.get(&server.owner());
            member.and_then(|member| member.signing_keys.get(&held.id())).and_then(|listed| listed.until)
        }
    };
    holds && until.is_none_or(|until| now <= until) && is_listed(configuration, server, held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_says_nothing_is_waited_for_so_long_and_no_longer() {
        let after = async |wait| answered(tokio::time::sleep(wait)).await;
        assert!(after(ASK_TIMEOUT - Duration::from_millis(1)).await.is_ok());
        assert!(matches!(after(ASK_TIMEOUT + Duration::from_millis(1)).await, Err(NotRenewed::Silent)));
    }
}
