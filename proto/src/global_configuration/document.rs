//! The documents of the global configuration: what the governing authority writes down, as JSON, and what it means.
//!
//! Raw and meant are different types. [`MemberDocument`] is what stands in the file; [`RegisteredMember`] is what is left
//! once the document was checked on its own; [`Configuration::of`] puts them together and refuses documents that contradict
//! each other. Nothing here knows who signed what: that is `update`'s part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::listed::CatalogueDocument;
use super::{Configuration, Member, Server, SigningCertificate, Standing, TimestampingAuthority};
use crate::digest::Digest;
use crate::head::Head;
use crate::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use crate::purposes::{MAX_PURPOSES, PurposeDocument, Purposes, TextMissing};
use crate::registration::{Address, Text};
use crate::signature::{KeyId, PublicKey};
use crate::time::Time;
use crate::timestamp::{self, Approved, Signer};

/// Where the document of the instance stands.
pub const INSTANCE_PATH: &str = "instance.json";
/// Longest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Longest certificate, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
/// Longest name of an agency or an instance, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Most subsystems of one member.
pub const MAX_SUBSYSTEMS: usize = 512;
/// Most security servers of one member, and most that host one subsystem.
pub const MAX_SERVERS: usize = 64;
/// Most authentication certificates of one server: one for each day of a certificate's life, and some made by hand.
pub const MAX_AUTHENTICATION: usize = 12;
/// Most signing certificates of one member.
pub const MAX_SIGNING: usize = 128;
/// Most authorities of one instance.
pub const MAX_AUTHORITIES: usize = 32;
/// Most timestamping authorities that an instance approves.
pub const MAX_TIMESTAMPING: usize = 8;
/// Longest name of a timestamping authority, and longest way to it, in bytes.
pub const MAX_TIMESTAMPING_TEXT_BYTES: usize = 256;
/// The revoked keys are spread over this many documents, by the first hexadecimal digit of the key's name.
pub const REVOKED_SHARDS: usize = 16;

/// `instance.json`: the instance itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceDocument {
    /// The instance.
    pub instance: InstanceId,
    /// Its name, for people.
    pub name: String,
    /// The authorities whose authentication certificates are accepted in TLS.
    pub authorities: Vec<Der>,
    /// The timestamping authorities that are approved, in the order in which servers ask them. None: nothing is stamped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timestamping: Vec<TimestampingDocument>,
    /// For what data may be asked. None: there is no list, and a provider names any purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purposes: Vec<PurposeDocument>,
}

/// A timestamping authority that the instance approves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampingDocument {
    /// What it is called.
    pub name: Text,
    /// Where it is asked: `http://HOST[:PORT]/PATH`. None: at the registry's own door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its certificate, or that of the authority under which it stands.
    pub certificate: Der,
    /// The policy that its tokens must name, like `1.2.3.4`. None: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// `members/<INSTANCE>/<CLASS>/<MEMBER>.json`: one member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberDocument {
    /// The member.
    pub member: MemberId,
    /// The agency's name, for people.
    pub name: String,
    /// Whether it may exchange messages.
    pub standing: Standing,
    /// Its subsystems.
    pub subsystems: Vec<SubsystemDocument>,
    /// The security servers that it owns.
    pub servers: Vec<ServerDocument>,
    /// The certificates of its signing keys.
    pub signing: Vec<SigningDocument>,
}

/// A subsystem, in its member's document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubsystemDocument {
    /// The subsystem.
    pub subsystem: SubsystemId,
    /// The servers that host it: its member's own, or another member's.
    pub servers: Vec<ServerId>,
}

/// A security server, in its owner's document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerDocument {
    /// The server.
    pub server: ServerId,
    /// Where its peers' door is: host and port.
    pub address: String,
    /// Its authentication certificates.
    pub authentication: Vec<Der>,
    /// It is in maintenance, and says so in these words: peers turn to another server, or refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Text>,
}

/// A member's signing certificate at one server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningDocument {
    /// The server that holds the key.
    pub server: ServerId,
    /// The certificate.
    pub certificate: Der,
    /// The last instant at which the key signs, in milliseconds since 1970, where that is before the certificate's end:
    /// another key took its place. What it signed before stays provable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// `revoked/<x>.json`: the revoked keys whose names begin with the hexadecimal digit `x`. It may only deny.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedDocument {
    /// SHA-256 of each key's SubjectPublicKeyInfo, in lower-case hexadecimal.
    #[serde(with = "key_ids")]
    pub keys: Vec<KeyId>,
    /// Of signing keys among them, the last head that the key may have signed, where it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_heads: Vec<LastHead>,
}

/// The last head that a revoked key may have signed: what is proven under that very head stays proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastHead {
    /// The key's name, in lower-case hexadecimal.
    #[serde(with = "as_text")]
    pub key: KeyId,
    /// The head's text.
    #[serde(with = "as_text")]
    pub head: Head,
}

/// What the documents of revoked keys mean: each key, and the last head that it may have signed.
pub type Revoked = BTreeMap<KeyId, Option<Head>>;

/// DER, written as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(Vec<u8>);

/// Why a document is not taken, and with it the whole version that it came in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not JSON, or not of the document's form.
    #[error("{path} is no document of its kind: {reason}")]
    Unreadable {
        /// Where it stands.
        path: String,
        /// What the parser said.
        reason: String,
    },
    /// Over one of the limits of this module.
    #[error("{path} has {found} {what}, and between {least} and {most} are taken")]
    Limit {
        /// Where it stands.
        path: String,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// Fewest that are taken.
        least: usize,
        /// Most that are taken.
        most: usize,
    },
    /// A document under a path that is not its own.
    #[error("{path} speaks of {owner}: a document stands at its own path only")]
    ElsewheresDocument {
        /// Where it stands.
        path: String,
        /// Whom it speaks of.
        owner: String,
    },
    /// A member of another instance.
    #[error("{member} is no member of the instance {instance}")]
    ForeignMember {
        /// The member.
        member: MemberId,
        /// The instance that is governed here.
        instance: InstanceId,
    },
    /// A server in a document of a member that does not own it.
    #[error("{member} lists the server {server}, which belongs to {}: a server is listed by its owner only", server.owner())]
    ForeignServer {
        /// The member whose document it is.
        member: MemberId,
        /// The server.
        server: ServerId,
    },
    /// A subsystem in a document of another member.
    #[error("{member} lists the subsystem {subsystem}, which belongs to {}", subsystem.member())]
    ForeignSubsystem {
        /// The member whose document it is.
        member: MemberId,
        /// The subsystem.
        subsystem: SubsystemId,
    },
    /// A name that is there twice.
    #[error("{path} lists {what} twice")]
    Twice {
        /// Where it stands.
        path: String,
        /// What is listed twice.
        what: String,
    },
    /// A server that hosts or signs, and that no member's document lists.
    #[error("{member} names the server {server}, which no member lists")]
    UnknownServer {
        /// The member whose document names it.
        member: MemberId,
        /// The server.
        server: ServerId,
    },
    /// Not an address.
    #[error("{address:?} is no address of {server}: host:port is wanted, for example ss1.moj.example:5500")]
    Address {
        /// The server.
        server: ServerId,
        /// What stands there.
        address: String,
    },
    /// Not an X.509 certificate.
    #[error("{path}: the {what} certificate is no X.509 certificate in DER")]
    NotACertificate {
        /// Where it stands.
        path: String,
        /// What it was to be.
        what: &'static str,
    },
    /// A timestamping authority that cannot be asked, or whose tokens nothing could prove.
    #[error("the timestamping authority {name}: {rule}")]
    Timestamping {
        /// Its name.
        name: Text,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// A purpose that not everybody could read.
    #[error("{INSTANCE_PATH}: {0}")]
    Purpose(#[from] TextMissing),
    /// A signing certificate whose key is not P-256.
    #[error("{member}: a signing certificate's key is not P-256, the one kind that seals")]
    NotASigningKey {
        /// The member.
        member: MemberId,
    },
    /// A last head of a key that is not listed.
    #[error("{path} names a last head of the key {key}, which it does not list")]
    HeadOfNoKey {
        /// Where it stands.
        path: String,
        /// The key.
        key: KeyId,
    },
    /// One key at two places: nobody may claim another's key.
    #[error("the key {key} is registered both as {first} and as {second}: a key has one holder and one use")]
    SharedKey {
        /// The key.
        key: KeyId,
        /// One place.
        first: String,
        /// The other.
        second: String,
    },
}

/// What a member's document means, checked on its own. Only [`MemberDocument::parse`] makes one.
#[derive(Clone, Debug)]
pub struct RegisteredMember {
    id: MemberId,
    member: Arc<Member>,
    servers: BTreeMap<ServerId, Arc<Server>>,
    /// The servers that host and sign for it: its own, or others'.
    names: BTreeSet<ServerId>,
}

/// What the instance's document means. Only [`InstanceDocument::parse`] makes one.
#[derive(Clone, Debug)]
pub struct GovernedInstance {
    id: InstanceId,
    authorities: Vec<Vec<u8>>,
    timestamping: Vec<TimestampingAuthority>,
    purposes: Purposes,
}

/// When a version was signed, until when it holds, and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Edition {
    pub version: u64,
    pub digest: Digest,
    pub signed_at: Time,
    pub expires_at: Time,
}

impl Configuration {
    /// Puts the documents together. What each says of the others must agree.
    pub(super) fn of<'a>(
        edition: Edition,
        instance: &GovernedInstance,
        members: impl Iterator<Item = &'a RegisteredMember>,
        revoked: impl Iterator<Item = &'a Revoked>,
        catalogue: impl Iterator<Item = &'a Arc<CatalogueDocument>>,
    ) -> Result<Configuration, Refused> {
        let mut configuration = Configuration {
            instance: instance.id.clone(),
            version: edition.version,
            digest: edition.digest,
            signed_at: edition.signed_at,
            expires_at: edition.expires_at,
            members: BTreeMap::new(),
            servers: BTreeMap::new(),
            authentication: BTreeMap::new(),
            authorities: instance.authorities.clone(),
            timestamping: instance.timestamping.clone(),
            purposes: instance.purposes.clone(),
            revoked: BTreeSet::new(),
            last_heads: BTreeMap::new(),
            catalogue: catalogue.map(|document| (document.member.clone(), Arc::clone(document))).collect(),
            ledger: None,
        };
        revoked.for_each(|revoked| configuration.revoke(revoked));
        let mut named = Vec::new();
        // A server is listed by its owner only, and a member has one path: neither can come twice from here on.
        for registered in members {
            if registered.id.instance() != configuration.instance {
                let (member, instance) = (registered.id.clone(), configuration.instance);
                return Err(Refused::ForeignMember { member, instance });
            }
            configuration.servers.extend(registered.servers.clone());
            configuration.members.insert(registered.id.clone(), registered.member.clone());
            named.extend(registered.names.iter().map(|server| (server, &registered.id)));
        }
        if let Some((server, member)) =
            named.into_iter().find(|(server, _)| !configuration.servers.contains_key(*server))
        {
            return Err(Refused::UnknownServer { member: member.clone(), server: server.clone() });
        }
        configuration.every_key_has_one_holder()?;
        configuration.index();
        Ok(configuration)
    }

    /// Takes in what a document of revoked keys means.
    pub(super) fn revoke(&mut self, revoked: &Revoked) {
        self.revoked.extend(revoked.keys());
        self.last_heads.extend(revoked.iter().filter_map(|(key, head)| Some((*key, (*head)?))));
    }

    /// Finds each authentication key's server, so that a call need not look through a country's servers.
    pub(super) fn index(&mut self) {
        let keys = |(id, server): (&ServerId, &Arc<Server>)| {
            server.authentication_keys.iter().map(|key| (*key, id.clone())).collect::<Vec<_>>()
        };
        self.authentication = self.servers.iter().flat_map(keys).collect();
    }

    fn every_key_has_one_holder(&self) -> Result<(), Refused> {
        let signing = self.members.iter().flat_map(|(id, member)| {
            member.signing_keys.keys().map(move |key| (*key, Holder { use_of: "the signing key of", who: id.as_str() }))
        });
        let authentication = self.servers.iter().flat_map(|(id, server)| {
            let holder = Holder { use_of: "the authentication key of", who: id.as_str() };
            server.authentication_keys.iter().map(move |key| (*key, holder))
        });
        let mut holders: BTreeMap<KeyId, Holder<'_>> = BTreeMap::new();
        for (key, holder) in signing.chain(authentication) {
            if let Some(first) = holders.insert(key, holder) {
                return Err(Refused::SharedKey { key, first: first.to_string(), second: holder.to_string() });
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Holder<'a> {
    use_of: &'static str,
    who: &'a str,
}

impl std::fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.use_of, self.who)
    }
}

impl InstanceDocument {
    /// Reads and checks what stands at [`INSTANCE_PATH`].
    pub fn parse(bytes: &[u8]) -> Result<GovernedInstance, Refused> {
        let document: InstanceDocument = read(INSTANCE_PATH, bytes)?;
        within(INSTANCE_PATH, "bytes of name", document.name.len(), 1, MAX_NAME_BYTES)?;
        within(INSTANCE_PATH, "authorities", document.authorities.len(), 0, MAX_AUTHORITIES)?;
        for authority in &document.authorities {
            certificate(INSTANCE_PATH, "authority's", authority)?;
        }
        let timestamping = timestamping(document.timestamping)?;
        let purposes = purposes(&document.purposes)?;
        let authorities = document.authorities.into_iter().map(|Der(der)| der).collect();
        Ok(GovernedInstance { id: document.instance, authorities, timestamping, purposes })
    }

    /// The document's bytes: the same document always has the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(self)
    }
}

impl MemberDocument {
    /// Where a member's document stands.
    pub fn path_of(member: &MemberId) -> String {
        format!("members/{member}.json")
    }

    /// Reads and checks what stands at `path`.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<RegisteredMember, Refused> {
        let document: MemberDocument = read(path, bytes)?;
        let id = document.member.clone();
        if path != Self::path_of(&id) {
            return Err(Refused::ElsewheresDocument { path: path.into(), owner: id.to_string() });
        }
        within(path, "bytes of name", document.name.len(), 1, MAX_NAME_BYTES)?;
        within(path, "subsystems", document.subsystems.len(), 0, MAX_SUBSYSTEMS)?;
        within(path, "servers", document.servers.len(), 0, MAX_SERVERS)?;
        within(path, "signing certificates", document.signing.len(), 0, MAX_SIGNING)?;
        let servers = servers(path, &id, &document.servers)?;
        let subsystems = subsystems(path, &id, document.subsystems)?;
        let signing_keys = signing_keys(path, &id, document.signing)?;
        let signers = signing_keys.values().map(|certificate| &certificate.server);
        let names = subsystems.values().flatten().chain(signers).cloned().collect();
        let member = Member { name: document.name, standing: document.standing, subsystems, signing_keys };
        Ok(RegisteredMember { id, member: Arc::new(member), servers, names })
    }

    /// The document's bytes: the same document always has the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(self)
    }
}

impl RegisteredMember {
    /// Puts it into a configuration that holds some members only, and so cannot be checked as a whole.
    pub(super) fn add_to(self, configuration: &mut Configuration) {
        configuration.servers.extend(self.servers);
        configuration.members.insert(self.id, self.member);
        configuration.index();
    }
}

impl GovernedInstance {
    /// Its identifier, the DER of its authorities, its timestamping authorities, and its purposes.
    pub(super) fn into_parts(self) -> (InstanceId, Vec<Vec<u8>>, Vec<TimestampingAuthority>, Purposes) {
        (self.id, self.authorities, self.timestamping, self.purposes)
    }
}

fn timestamping(listed: Vec<TimestampingDocument>) -> Result<Vec<TimestampingAuthority>, Refused> {
    within(INSTANCE_PATH, "timestamping authorities", listed.len(), 0, MAX_TIMESTAMPING)?;
    let mut meant: Vec<TimestampingAuthority> = Vec::new();
    for TimestampingDocument { name, address, certificate, policy } in listed {
        let wrong = |rule| Refused::Timestamping { name: name.clone(), rule };
        let text = address.iter().map(String::len).chain([name.as_str().len()]).max().unwrap_or_default();
        within(
            INSTANCE_PATH,
            "bytes of a timestamping authority's name or address",
            text,
            1,
            MAX_TIMESTAMPING_TEXT_BYTES,
        )?;
        if meant.iter().any(|each| each.approved.name == name.as_str()) {
            return Err(Refused::Twice {
                path: INSTANCE_PATH.into(),
                what: format!("the timestamping authority {name}"),
            });
        }
        let within = certificate.0.len() <= MAX_CERTIFICATE_BYTES && Signer::read(&certificate.0).is_ok();
        if !within {
            return Err(wrong("its certificate is no X.509 certificate in DER"));
        }
        let address = address.map(|address| address.parse().map_err(|_| wrong(NOT_AN_ADDRESS))).transpose()?;
        let policy =
            policy.map(|policy| timestamp::policy(&policy).ok_or_else(|| wrong("its policy is no object identifier")));
        let approved = Approved { name: name.to_string(), certificate: certificate.0, policy: policy.transpose()? };
        meant.push(TimestampingAuthority { approved, address });
    }
    Ok(meant)
}

fn purposes(listed: &[PurposeDocument]) -> Result<Purposes, Refused> {
    within(INSTANCE_PATH, "purposes", listed.len(), 0, MAX_PURPOSES)?;
    let mut meant = Purposes::new();
    for document in listed {
        if meant.insert(document.purpose.clone(), document.meaning()?).is_some() {
            let what = format!("the purpose {}", document.purpose);
            return Err(Refused::Twice { path: INSTANCE_PATH.into(), what });
        }
    }
    Ok(meant)
}

const NOT_AN_ADDRESS: &str =
    "its address must be like http://tsa.example:318/tsr; its tokens are signed and need no TLS";

fn servers(
    path: &str,
    member: &MemberId,
    listed: &[ServerDocument],
) -> Result<BTreeMap<ServerId, Arc<Server>>, Refused> {
    let mut servers = BTreeMap::new();
    for document in listed {
        let server = &document.server;
        if server.owner() != *member {
            return Err(Refused::ForeignServer { member: member.clone(), server: server.clone() });
        }
        if document.address.parse::<Address>().is_err() {
            return Err(Refused::Address { server: server.clone(), address: document.address.clone() });
        }
        within(path, "authentication certificates of a server", document.authentication.len(), 1, MAX_AUTHENTICATION)?;
        let mut authentication_keys = BTreeSet::new();
        for der in &document.authentication {
            // Two certificates of one key are one key.
            authentication_keys.insert(Digest::of(&[certificate(path, "authentication", der)?.public_key().raw]));
        }
        let maintenance = document.maintenance.clone();
        let meant = Server { address: document.address.clone(), authentication_keys, maintenance };
        if servers.insert(server.clone(), Arc::new(meant)).is_some() {
            return Err(Refused::Twice { path: path.into(), what: format!("the server {server}") });
        }
    }
    Ok(servers)
}

fn subsystems(
    path: &str,
    member: &MemberId,
    listed: Vec<SubsystemDocument>,
) -> Result<BTreeMap<SubsystemId, BTreeSet<ServerId>>, Refused> {
    let mut subsystems = BTreeMap::new();
    for SubsystemDocument { subsystem, servers } in listed {
        if subsystem.member() != *member {
            return Err(Refused::ForeignSubsystem { member: member.clone(), subsystem });
        }
        within(path, "servers of a subsystem", servers.len(), 0, MAX_SERVERS)?;
        if subsystems.insert(subsystem.clone(), servers.into_iter().collect()).is_some() {
            return Err(Refused::Twice { path: path.into(), what: format!("the subsystem {subsystem}") });
        }
    }
    Ok(subsystems)
}

fn signing_keys(
    path: &str,
    member: &MemberId,
    listed: Vec<SigningDocument>,
) -> Result<BTreeMap<KeyId, SigningCertificate>, Refused> {
    let mut keys = BTreeMap::new();
    for SigningDocument { server, certificate: der, until } in listed {
        let parsed = certificate(path, "signing", &der)?;
        let key = PublicKey::from_spki(parsed.public_key().raw)
            .map_err(|_| Refused::NotASigningKey { member: member.clone() })?;
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (seconds(not_before.timestamp()), seconds(not_after.timestamp()));
        let id = key.id();
        let until = until.map(Time::from_millis);
        let meant = SigningCertificate { server, key, certificate: der.0, not_before, not_after, until };
        if keys.insert(id, meant).is_some() {
            return Err(Refused::Twice { path: path.into(), what: format!("the signing key {id}") });
        }
    }
    Ok(keys)
}

impl RevokedDocument {
    /// Where the shard of the hexadecimal digit `shard` (below [`REVOKED_SHARDS`]) stands.
    pub fn path_of(shard: usize) -> String {
        format!("revoked/{shard:x}.json")
    }

    /// The shard that a key belongs to.
    pub fn shard_of(key: &KeyId) -> usize {
        usize::from(key.as_bytes()[0] >> 4)
    }

    /// Reads and checks the keys that stand at `path`.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Revoked, Refused> {
        let document: RevokedDocument = read(path, bytes)?;
        if let Some(key) = document.keys.iter().find(|key| Self::path_of(Self::shard_of(key)) != path) {
            return Err(Refused::ElsewheresDocument { path: path.into(), owner: format!("the key {key}") });
        }
        let mut revoked: Revoked = document.keys.into_iter().map(|key| (key, None)).collect();
        for LastHead { key, head } in document.last_heads {
            let listed = revoked.get_mut(&key).ok_or_else(|| Refused::HeadOfNoKey { path: path.into(), key })?;
            if listed.replace(head).is_some() {
                return Err(Refused::Twice { path: path.into(), what: format!("a last head of the key {key}") });
            }
        }
        Ok(revoked)
    }

    /// The document's bytes: the same document always has the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(self)
    }
}

impl Der {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Der {
    fn from(der: Vec<u8>) -> Self {
        Der(der)
    }
}

impl std::fmt::Debug for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Der).map_err(serde::de::Error::custom)
    }
}

mod key_ids {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::signature::KeyId;

    pub(super) fn serialize<S: Serializer>(keys: &[KeyId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(keys.iter().map(KeyId::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyId>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

pub(super) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn read<'a, T: Deserialize<'a>>(path: &str, bytes: &'a [u8]) -> Result<T, Refused> {
    within(path, "bytes", bytes.len(), 0, MAX_DOCUMENT_BYTES)?;
    serde_json::from_slice(bytes).map_err(|error| Refused::Unreadable { path: path.into(), reason: error.to_string() })
}

fn write<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("a document has string keys only")
}

fn within(path: &str, what: &'static str, found: usize, least: usize, most: usize) -> Result<(), Refused> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(Refused::Limit { path: path.into(), what, found, least, most })
    }
}

fn certificate<'a>(path: &str, what: &'static str, der: &'a Der) -> Result<X509Certificate<'a>, Refused> {
    within(path, "bytes of certificate", der.0.len(), 0, MAX_CERTIFICATE_BYTES)?;
    match X509Certificate::from_der(&der.0) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Refused::NotACertificate { path: path.into(), what }),
    }
}

fn seconds(since_1970: i64) -> Time {
    Time::from_millis(u64::try_from(since_1970).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop};
    use proptest::proptest;
    use serde_json::{Value, json};

    use super::*;
    use crate::record::TreeName;

    const PATH: &str = "members/VN/GOV/moj.json";

    #[test]
    fn what_is_written_is_what_is_read() {
        let document = member();
        let registered = MemberDocument::parse(PATH, &document.to_bytes()).unwrap();
        assert_eq!(registered.id.as_str(), "VN/GOV/moj");
        assert_eq!(registered.member.standing, Standing::Active);
        assert_eq!(serde_json::from_slice::<MemberDocument>(&document.to_bytes()).unwrap(), document);
        let text = String::from_utf8(document.to_bytes()).unwrap();
        assert!(text.contains(r#""standing":"active""#), "{text}");
        let key = Digest::of(&[b"a key"]);
        let path = RevokedDocument::path_of(RevokedDocument::shard_of(&key));
        assert_eq!(path, format!("revoked/{}.json", &key.to_string()[..1]));
        let bytes = RevokedDocument { keys: vec![key], ..Default::default() }.to_bytes();
        assert_eq!(RevokedDocument::parse(&path, &bytes).unwrap(), Revoked::from([(key, None)]));
        let elsewhere = RevokedDocument::path_of((RevokedDocument::shard_of(&key) + 1) % REVOKED_SHARDS);
        assert!(matches!(RevokedDocument::parse(&elsewhere, &bytes), Err(Refused::ElsewheresDocument { .. })));
    }

    #[test]
    fn a_revoked_key_may_have_a_last_head_and_no_other_key_has_one() {
        let key = Digest::of(&[b"a key"]);
        let path = RevokedDocument::path_of(RevokedDocument::shard_of(&key));
        let head = Head { tree: TreeName(Digest::of(&[b"tree"])), size: 7, root: Digest::of(&[b"root"]) };
        let document = RevokedDocument { keys: vec![key], last_heads: vec![LastHead { key, head }] };
        let read = RevokedDocument::parse(&path, &document.to_bytes()).unwrap();
        assert_eq!(read, Revoked::from([(key, Some(head))]));
        let unlisted = RevokedDocument { keys: Vec::new(), ..document.clone() };
        let refused = RevokedDocument::parse(&path, &unlisted.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::HeadOfNoKey { .. }), "{refused}");
        let twice = RevokedDocument { last_heads: vec![LastHead { key, head }; 2], ..document.clone() };
        let refused = RevokedDocument::parse(&path, &twice.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::Twice { .. }), "{refused}");
        let text = String::from_utf8(document.to_bytes()).unwrap();
        for broken in [text.replace("\\n7\\n", "\\n07\\n"), text.replace("last_heads", "heads")] {
            let refused = RevokedDocument::parse(&path, broken.as_bytes()).unwrap_err();
            assert!(matches!(refused, Refused::Unreadable { .. }), "{refused}");
        }
    }

    #[test]
    fn a_field_that_is_unknown_repeated_or_missing_is_refused() {
        let written = String::from_utf8(member().to_bytes()).unwrap();
        for broken in [
            written.replacen('{', r#"{"extra":1,"#, 1),
            written.replacen('{', r#"{"name":"twice","#, 1),
            written.replacen(r#""name""#, r#""nom""#, 1),
            written.replace("active", "Active"),
            format!("{written}x"),
        ] {
            let refused = MemberDocument::parse(PATH, broken.as_bytes()).unwrap_err();
            assert!(matches!(refused, Refused::Unreadable { .. }), "{refused}");
        }
    }

    /// Gives a document so many of something.
    type Give = fn(&mut MemberDocument, usize);

    #[test]
    fn every_limit_holds_on_both_sides() {
        let limits: [(usize, Give); 7] = [
            (MAX_NAME_BYTES, |document, count| document.name = "n".repeat(count)),
            (MAX_SUBSYSTEMS, |document, count| {
                let subsystem = |number| format!("VN/GOV/moj/s{number}").parse().unwrap();
                let servers = Vec::new;
                document.subsystems = (0..count)
                    .map(|number| SubsystemDocument { subsystem: subsystem(number), servers: servers() })
                    .collect();
            }),
            (MAX_SERVERS, |document, count| {
                let one = document.servers[0].clone();
                let server = |number| format!("VN/GOV/moj/ss{number}").parse().unwrap();
                document.servers =
                    (0..count).map(|number| ServerDocument { server: server(number), ..one.clone() }).collect();
            }),
            (MAX_SERVERS, |document, count| {
                document.subsystems[0].servers = vec!["VN/GOV/moj/ss1".parse().unwrap(); count];
            }),
            (MAX_AUTHENTICATION, |document, count| {
                document.servers[0].authentication = vec![certificate_of(&rcgen::PKCS_ED25519); count];
            }),
            (MAX_SIGNING, |document, count| {
                let server = document.servers[0].server.clone();
                let certificate = || certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256);
                document.signing = (0..count)
                    .map(|_| SigningDocument { server: server.clone(), certificate: certificate(), until: None })
                    .collect();
            }),
            (MAX_DOCUMENT_BYTES, |document, count| {
                // Spaces are no part of the meaning, and count all the same: `sized` below adds them.
                document.name = count.to_string();
            }),
        ];
        for (number, (most, set)) in limits.into_iter().enumerate() {
            let sized = |count: usize| {
                let mut document = member();
                set(&mut document, count);
                let mut bytes = document.to_bytes();
                if most == MAX_DOCUMENT_BYTES {
                    bytes.resize(count, b' ');
                }
                MemberDocument::parse(PATH, &bytes)
            };
            assert!(sized(most).is_ok(), "{number}: {:?}", sized(most).err());
            let refused = sized(most + 1).unwrap_err();
            assert!(matches!(refused, Refused::Limit { .. }), "{number}: {refused}");
        }
        let mut document = member();
        document.servers[0].authentication.clear();
        let refused = MemberDocument::parse(PATH, &document.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::Limit { found: 0, least: 1, .. }), "{refused}");
        document.servers[0].authentication = vec![vec![0x30; MAX_CERTIFICATE_BYTES].into()];
        let refused = MemberDocument::parse(PATH, &document.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::NotACertificate { .. }), "{refused}");
        document.servers[0].authentication = vec![vec![0x30; MAX_CERTIFICATE_BYTES + 1].into()];
        let refused = MemberDocument::parse(PATH, &document.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::Limit { .. }), "{refused}");
    }

    #[test]
    fn too_many_authorities_are_refused() {
        let with = |count: usize| {
            let authorities = vec![certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256); count];
            let document = InstanceDocument {
                instance: "VN".parse().unwrap(),
                name: "A country".into(),
                authorities,
                timestamping: Vec::new(),
                purposes: Vec::new(),
            };
            InstanceDocument::parse(&document.to_bytes())
        };
        assert!(with(MAX_AUTHORITIES).is_ok());
        assert!(matches!(with(MAX_AUTHORITIES + 1), Err(Refused::Limit { .. })));
    }

    #[test]
    fn purposes_that_are_too_many_or_listed_twice_or_without_a_text_are_refused() {
        let purpose = |number: usize| PurposeDocument {
            purpose: format!("purpose-{number}").parse().unwrap(),
            en: "To test".into(),
            vi: "Kiểm thử".into(),
        };
        let with = |purposes: Vec<PurposeDocument>| {
            let document = InstanceDocument {
                instance: "VN".parse().unwrap(),
                name: "A country".into(),
                authorities: Vec::new(),
                timestamping: Vec::new(),
                purposes,
            };
            InstanceDocument::parse(&document.to_bytes()).map(|read| read.purposes.len())
        };
        assert_eq!(with((0..MAX_PURPOSES).map(purpose).collect()), Ok(MAX_PURPOSES));
        assert!(matches!(with((0..=MAX_PURPOSES).map(purpose).collect()), Err(Refused::Limit { .. })));
        assert!(matches!(with(vec![purpose(1), purpose(1)]), Err(Refused::Twice { .. })));
        let silent = PurposeDocument { vi: String::new(), ..purpose(1) };
        let refused = with(vec![silent]).unwrap_err().to_string();
        assert!(refused.contains("purpose-1") && refused.contains("Vietnamese"), "{refused}");
    }

    #[test]
    fn a_notice_of_maintenance_cannot_forge_a_line() {
        let mut document = member();
        document.servers[0].maintenance = Some("back at noon".parse().unwrap());
        let read = MemberDocument::parse(PATH, &document.to_bytes()).unwrap();
        assert!(read.servers.values().all(|server| server.maintenance.is_some()));
        let text = String::from_utf8(document.to_bytes()).unwrap();
        for notice in ["", "one\\ntwo", "a\\u001b[2J"] {
            let refused = MemberDocument::parse(PATH, text.replace("back at noon", notice).as_bytes()).unwrap_err();
            assert!(matches!(refused, Refused::Unreadable { .. }), "{notice}: {refused}");
        }
    }

    #[test]
    fn a_certificate_with_anything_behind_it_is_refused() {
        let mut document = member();
        let mut der = document.signing[0].certificate.as_bytes().to_vec();
        der.push(0);
        document.signing[0].certificate = der.into();
        let refused = MemberDocument::parse(PATH, &document.to_bytes()).unwrap_err();
        assert!(matches!(refused, Refused::NotACertificate { what: "signing", .. }), "{refused}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), der: Vec<u8>) {
            assert!(MemberDocument::parse(PATH, &bytes).is_err());
            assert!(InstanceDocument::parse(&bytes).is_err());
            assert!(RevokedDocument::parse("revoked/0.json", &bytes).is_err());
            let mut document = member_with(der.clone().into());
            assert!(MemberDocument::parse(PATH, &document.to_bytes()).is_err());
            document = member_with(bytes.into());
            assert!(MemberDocument::parse(PATH, &document.to_bytes()).is_err());
        }

        #[test]
        fn a_changed_certificate_never_panics(at in any::<prop::sample::Index>(), byte: u8) {
            let mut der = member().signing[0].certificate.as_bytes().to_vec();
            let at = at.index(der.len());
            der[at] = byte;
            let _ = MemberDocument::parse(PATH, &member_with(der.into()).to_bytes());
        }

        #[test]
        fn a_changed_field_never_panics(which in 0usize..6, text: String, number: i64) {
            let mut document: Value = serde_json::from_slice(&member().to_bytes()).unwrap();
            let field = ["member", "name", "standing", "subsystems", "servers", "signing"][which];
            for value in [json!(text), json!(number), json!([text]), json!({ "server": text, "certificate": text })] {
                document[field] = value;
                let _ = MemberDocument::parse(PATH, &serde_json::to_vec(&document).unwrap());
            }
        }
    }

    fn member() -> MemberDocument {
        member_with(certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256))
    }

    fn member_with(signing: Der) -> MemberDocument {
        let server: ServerId = "VN/GOV/moj/ss1".parse().unwrap();
        MemberDocument {
            member: "VN/GOV/moj".parse().unwrap(),
            name: "Ministry of Justice".into(),
            standing: Standing::Active,
            subsystems: vec![SubsystemDocument {
                subsystem: "VN/GOV/moj/civil-registry".parse().unwrap(),
                servers: vec![server.clone()],
            }],
            servers: vec![ServerDocument {
                server: server.clone(),
                address: "ss1.moj.example:5500".into(),
                authentication: vec![certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256)],
                maintenance: None,
            }],
            signing: vec![SigningDocument { server, certificate: signing, until: None }],
        }
    }

    fn certificate_of(algorithm: &'static rcgen::SignatureAlgorithm) -> Der {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        certificate.der().to_vec().into()
    }
}
