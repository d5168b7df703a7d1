//! The global configuration as a security server reads it: who is a member, which servers speak for it, with which
//! keys. Every question that an exchange asks is a look-up in memory, asked of one version that does not change.
//!
//! It is read from the documents of [`document`], which come in signed files: [`update`](mod@update) checks who signed them.

pub mod document;
pub mod excerpt;
pub mod ledger;
pub mod listed;
pub mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::ServiceName;
use crate::digest::Digest;
use crate::head::Head;
use crate::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use crate::purposes::Purposes;
use crate::registration::{Address, Text};
use crate::signature::{KeyId, PublicKey};
use crate::time::Time;
use crate::timestamp::Approved;

use ledger::Standing as InLedger;
use listed::{CatalogueDocument, ListedService};

/// One verified version of the global configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The instance that it governs.
    pub instance: InstanceId,
    /// The version of the timestamp document.
    pub version: u64,
    /// SHA-256 of the timestamp document.
    pub digest: Digest,
    /// When it was signed last.
    pub signed_at: Time,
    /// From here on nothing is exchanged under it.
    pub expires_at: Time,
    /// Members, whatever their standing. One that did not change is shared with the version before.
    pub members: BTreeMap<MemberId, Arc<Member>>,
    /// Security servers, shared likewise.
    pub servers: BTreeMap<ServerId, Arc<Server>>,
    /// The servers' authentication keys, and whose each is.
    pub authentication: BTreeMap<KeyId, ServerId>,
    /// DER of the authorities whose authentication certificates are accepted in TLS.
    pub authorities: Vec<Vec<u8>>,
    /// The timestamping authorities that are approved, in the order in which they are asked.
    pub timestamping: Vec<TimestampingAuthority>,
    /// For what data may be asked. None: the instance publishes no list.
    pub purposes: Purposes,
    /// Keys that are revoked, by the SHA-256 of their SubjectPublicKeyInfo. It may only deny.
    pub revoked: BTreeSet<KeyId>,
    /// Of revoked signing keys, the last head that the key may have signed, where it is known. It concerns evidence only:
    /// nothing is exchanged with a revoked key.
    pub last_heads: BTreeMap<KeyId, Head>,
    /// What each member lists in the catalogue. No exchange asks it.
    pub catalogue: BTreeMap<MemberId, Arc<CatalogueDocument>>,
    /// Where it stands in the ledger of what was published. None: its registry keeps none yet, or it is an excerpt.
    pub ledger: Option<Arc<InLedger>>,
}

/// A timestamping authority that is approved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimestampingAuthority {
    /// By what its tokens are known.
    pub approved: Approved,
    /// Where it is asked. None: at the registry's own door.
    pub address: Option<HttpAddress>,
}

/// Where a timestamping authority is asked over HTTP: host and port, and path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpAddress {
    /// Host and port.
    pub host: Address,
    /// From its `/` on.
    pub path: String,
}

/// Not `http://HOST[:PORT]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address like http://tsa.example:318/tsr")]
pub struct NotAnHttpAddress;

impl std::str::FromStr for HttpAddress {
    type Err = NotAnHttpAddress;
    fn from_str(text: &str) -> Result<Self, NotAnHttpAddress> {
        let rest = text.strip_prefix("http://").ok_or(NotAnHttpAddress)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(NotAnHttpAddress);
        }
        let named = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let host = if named { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { host: host.parse().map_err(|_| NotAnHttpAddress)?, path: path.to_owned() })
    }
}

impl std::fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

/// A member as registered.
#[derive(Clone, Debug)]
pub struct Member {
    /// The agency's name, for people.
    pub name: String,
    /// Whether it may exchange messages.
    pub standing: Standing,
    /// Its subsystems, and the servers that host each.
    pub subsystems: BTreeMap<SubsystemId, BTreeSet<ServerId>>,
    /// Its signing keys, each at the one server that holds it.
    pub signing_keys: BTreeMap<KeyId, SigningCertificate>,
}

/// Whether a member may exchange messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It may.
    Active,
    /// For a time it may not.
    Suspended,
}

/// The certificate of a member's signing key at one server.
#[derive(Clone, Debug)]
pub struct SigningCertificate {
    /// The server that holds the key.
    pub server: ServerId,
    /// The key.
    pub key: PublicKey,
    /// The certificate's DER.
    pub certificate: Vec<u8>,
    /// First instant of its validity.
    pub not_before: Time,
    /// Last instant of its validity.
    pub not_after: Time,
    /// The last instant at which the key signs, where another took its place before that.
    pub until: Option<Time>,
}

/// A security server as registered.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where its peers' door is: host and port.
    pub address: String,
    /// The keys of its authentication certificates.
    pub authentication_keys: BTreeSet<KeyId>,
    /// It is in maintenance, and says so in these words.
    pub maintenance: Option<Text>,
}

impl SigningCertificate {
    fn holds(&self, time: Time) -> bool {
        self.not_before <= time && time <= self.not_after
    }
}

/// How old the configuration is, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Re-signed lately.
    Fresh,
    /// Not re-signed for longer than [`STALE_AFTER`]: alarmed, and still in force.
    Stale,
    /// Past its validity: nothing is exchanged under it.
    Expired,
}

/// After this long without a new signature a configuration is stale. The registry signs every minute.
pub const STALE_AFTER: Duration = Duration::from_secs(600);

impl Configuration {
    /// The timestamping authorities that are approved, by what their tokens are known.
    pub fn approved_for_timestamps(&self) -> Vec<Approved> {
        self.timestamping.iter().map(|authority| authority.approved.clone()).collect()
    }

    /// How old it is at `now`.
    pub fn freshness(&self, now: Time) -> Freshness {
        if now >= self.expires_at {
            Freshness::Expired
        } else if now >= self.signed_at.plus(STALE_AFTER) {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }

    /// The member, if it may exchange messages.
    pub fn active_member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id).map(Arc::as_ref).filter(|member| member.standing == Standing::Active)
    }

    /// Whether `server` hosts this subsystem of an active member.
    pub fn hosts(&self, server: &ServerId, subsystem: &SubsystemId) -> bool {
        self.servers_of(subsystem).is_some_and(|servers| servers.contains(server))
    }

    /// The servers that host this subsystem of an active member.
    pub fn servers_of(&self, subsystem: &SubsystemId) -> Option<&BTreeSet<ServerId>> {
        self.active_member(&subsystem.member())?.subsystems.get(subsystem)
    }

    /// The services that subsystems of active members list.
    pub fn services(&self) -> impl Iterator<Item = &ListedService> {
        self.catalogue.iter().flat_map(|(member, document)| self.listed_by(member, document))
    }

    /// This service of this subsystem. Only its member's services are looked through.
    pub fn service_at(&self, subsystem: &SubsystemId, service: &ServiceName) -> Option<&ListedService> {
        let member = subsystem.member();
        let mut listed = self.listed_by(&member, self.catalogue.get(&member)?);
        listed.find(|listed| listed.subsystem == *subsystem && listed.service == *service)
    }

    /// The services of this subsystem. Only its member's are looked through.
    pub fn services_of(&self, subsystem: &SubsystemId) -> impl Iterator<Item = &ListedService> {
        let (member, subsystem) = (subsystem.member(), subsystem.clone());
        let listed = self.catalogue.get(&member).into_iter();
        let listed = listed.flat_map(move |document| self.listed_by(&member, document));
        listed.filter(move |listed| listed.subsystem == subsystem)
    }

    fn listed_by<'a>(
        &'a self,
        member: &MemberId,
        document: &'a CatalogueDocument,
    ) -> impl Iterator<Item = &'a ListedService> + use<'a> {
        let active = self.active_member(member);
        let registered = move |listed: &&ListedService| {
            active.is_some_and(|member| member.subsystems.contains_key(&listed.subsystem))
        };
        document.services.iter().filter(registered)
    }

    /// The member's signing key of this name at this server, good at `now`: registered, within its certificate's
    /// validity, in use until then, not revoked.
    pub fn signing_key(&self, member: &MemberId, server: &ServerId, key: &KeyId, now: Time) -> Option<&PublicKey> {
        if self.revoked.contains(key) {
            return None;
        }
        self.listed_signing_key(member, server, key, now)
    }

    /// The same for evidence of a message that was sealed at `time` under `head`: a revoked key still proves what is under
    /// the very head that its revocation names (PROTOCOL.md 7.5).
    pub fn signing_key_of(
        &self,
        member: &MemberId,
        server: &ServerId,
        key: &KeyId,
        time: Time,
        head: &Head,
    ) -> Option<&PublicKey> {
        if self.revoked.contains(key) && self.last_heads.get(key) != Some(head) {
            return None;
        }
        self.listed_signing_key(member, server, key, time)
    }

    /// The key, if what it signed before now still stands: it is registered, its certificate holds, it is not revoked. That
    /// another key took its place meanwhile is no fault of what it signed.
    pub fn standing_key(&self, member: &MemberId, server: &ServerId, key: &KeyId, now: Time) -> Option<&PublicKey> {
        let listed = self.listed_at(member, server, key).filter(|listed| listed.holds(now))?;
        (!self.revoked.contains(key)).then_some(&listed.key)
    }

    /// Whether what this key signed before now still stands.
    pub fn stands_by(&self, member: &MemberId, server: &ServerId, key: &KeyId, now: Time) -> bool {
        self.standing_key(member, server, key, now).is_some()
    }

    /// The key, if it is not revoked, though its certificate may have ended: what it signed lasts longer than a certificate.
    pub fn lasting_key(&self, member: &MemberId, server: &ServerId, key: &KeyId) -> Option<&PublicKey> {
        self.listed_key(member, server, key).filter(|_| !self.revoked.contains(key))
    }

    /// The key, whatever became of it: for what only takes something away, and must be heard of all the same.
    pub fn listed_key(&self, member: &MemberId, server: &ServerId, key: &KeyId) -> Option<&PublicKey> {
        self.listed_at(member, server, key).map(|listed| &listed.key)
    }

    fn listed_signing_key(&self, member: &MemberId, server: &ServerId, key: &KeyId, time: Time) -> Option<&PublicKey> {
        let listed = self.listed_at(member, server, key)?;
        let signs = listed.holds(time) && listed.until.is_none_or(|until| time <= until);
        signs.then_some(&listed.key)
    }

    fn listed_at(&self, member: &MemberId, server: &ServerId, key: &KeyId) -> Option<&SigningCertificate> {
        self.active_member(member)?.signing_keys.get(key).filter(|listed| listed.server == *server)
    }

    /// Whether this is a registered authentication key of this server, and not revoked.
    pub fn authenticates(&self, server: &ServerId, key: &KeyId) -> bool {
        let registered = self.servers.get(server).is_some_and(|server| server.authentication_keys.contains(key));
        registered && !self.revoked.contains(key)
    }

    /// The server whose registered authentication key this is, if it is not revoked.
    pub fn authenticated(&self, key: &KeyId) -> Option<&ServerId> {
        if self.revoked.contains(key) {
            return None;
        }
        self.authentication.get(key)
    }
}
