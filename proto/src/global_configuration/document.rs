//! The documents of the global configuration: what the governing authority writes down, as JSON, and what it means.
//!
//! Raw and meant are different types. [`MemberDocument`] is what stands in the file; [`RegisteredMember`] is what is left
//! once the document was checked on its own; [`Configuration::of`] puts them together and refuses documents that contradict
//! each other. Nothing here knows who signed what: that is `update`'s part.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Configuration, Member, Server, SigningCertificate, Standing};
use crate::digest::Digest;
use crate::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use crate::registration::Address;
use crate::signature::{KeyId, PublicKey};
use crate::time::Time;

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
/// Authentication certificates of one server: one, or two while it changes.
pub const MAX_AUTHENTICATION: usize = 2;
/// Most signing certificates of one member.
pub const MAX_SIGNING: usize = 128;
/// Most authorities of one instance.
pub const MAX_AUTHORITIES: usize = 32;
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
}

/// A member's signing certificate at one server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningDocument {
    /// The server that holds the key.
    pub server: ServerId,
    /// The certificate.
    pub certificate: Der,
}

/// `revoked/<x>.json`: the revoked keys whose names begin with the hexadecimal digit `x`. It may only deny.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedDocument {
    /// SHA-256 of each key's SubjectPublicKeyInfo, in lower-case hexadecimal.
    #[serde(with = "key_ids")]
    pub keys: Vec<KeyId>,
}

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
    /// A signing certificate whose key is not P-256.
    #[error("{member}: a signing certificate's key is not P-256, the one kind that seals")]
    NotASigningKey {
        /// The member.
        member: MemberId,
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
    member: Member,
    servers: BTreeMap<ServerId, Server>,
}

/// What the instance's document means. Only [`InstanceDocument::parse`] makes one.
#[derive(Clone, Debug)]
pub struct GovernedInstance {
    id: InstanceId,
    authorities: Vec<Vec<u8>>,
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
        revoked: BTreeSet<KeyId>,
    ) -> Result<Configuration, Refused> {
        let mut configuration = Configuration {
            instance: instance.id.clone(),
            version: edition.version,
            digest: edition.digest,
            signed_at: edition.signed_at,
            expires_at: edition.expires_at,
            members: BTreeMap::new(),
            servers: BTreeMap::new(),
            authorities: instance.authorities.clone(),
            revoked,
        };
        // A server is listed by its owner only, and a member has one path: neither can come twice from here on.
        for registered in members {
            if registered.id.instance() != configuration.instance {
                let (member, instance) = (registered.id.clone(), configuration.instance);
                return Err(Refused::ForeignMember { member, instance });
            }
            configuration.servers.extend(registered.servers.clone());
            configuration.members.insert(registered.id.clone(), registered.member.clone());
        }
        configuration.every_named_server_is_listed()?;
        configuration.every_key_has_one_holder()?;
        Ok(configuration)
    }

    fn every_named_server_is_listed(&self) -> Result<(), Refused> {
        for (id, member) in &self.members {
            let hosts = member.subsystems.values().flatten();
            let signers = member.signing_keys.values().map(|certificate| &certificate.server);
            if let Some(server) = hosts.chain(signers).find(|server| !self.servers.contains_key(*server)) {
                return Err(Refused::UnknownServer { member: id.clone(), server: server.clone() });
            }
        }
        Ok(())
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
        let authorities = document.authorities.into_iter().map(|Der(der)| der).collect();
        Ok(GovernedInstance { id: document.instance, authorities })
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
        let member = Member { name: document.name, standing: document.standing, subsystems, signing_keys };
        Ok(RegisteredMember { id, member, servers })
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
    }
}

impl GovernedInstance {
    /// Its identifier, and the DER of its authorities.
    pub(super) fn into_parts(self) -> (InstanceId, Vec<Vec<u8>>) {
        (self.id, self.authorities)
    }
}

fn servers(path: &str, member: &MemberId, listed: &[ServerDocument]) -> Result<BTreeMap<ServerId, Server>, Refused> {
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
        let meant = Server { address: document.address.clone(), authentication_keys };
        if servers.insert(server.clone(), meant).is_some() {
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
    for SigningDocument { server, certificate: der } in listed {
        let parsed = certificate(path, "signing", &der)?;
        let key = PublicKey::from_spki(parsed.public_key().raw)
            .map_err(|_| Refused::NotASigningKey { member: member.clone() })?;
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (seconds(not_before.timestamp()), seconds(not_after.timestamp()));
        let id = key.id();
        let meant = SigningCertificate { server, key, certificate: der.0, not_before, not_after };
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
    pub fn parse(path: &str, bytes: &[u8]) -> Result<BTreeSet<KeyId>, Refused> {
        let document: RevokedDocument = read(path, bytes)?;
        if let Some(key) = document.keys.iter().find(|key| Self::path_of(Self::shard_of(key)) != path) {
            return Err(Refused::ElsewheresDocument { path: path.into(), owner: format!("the key {key}") });
        }
        Ok(document.keys.into_iter().collect())
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
