//! The configuration file of a server, from its text to what a server is started with. Nothing secret stands in it.
//!
//! What a file says is checked whole before anything is started: an error names the file, the key, the rule and the
//! remedy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use command_line::{Exit, file_remedy, read_toml};
use journal::Directory;
use proto::digest::Digest;
use proto::identifier::{MemberId, MethodPath, ServerId, SubsystemId};
use proto::purposes::PurposeCode;
use proto::registration::Address;
use proto::rest::{RestTarget, TARGET_PREFIX};
use registry_client::Fingerprint;
use serde::Deserialize;

use crate::Settings;
use crate::archive::store::Place;
use crate::archive::{self, Archiving, KeepLocal, NoArchive, REGION};
use crate::audit::MAX_NAME_BYTES;
use crate::authenticate::Clients;
use crate::clock::Clock;
use crate::disclosures::over_the_bus;
use crate::global_configuration::{Mirror, Registry, Store, StoreError};
use crate::join::{AUDIT_LOG, GLOBAL_CONFIGURATION, MESSAGE_LOG};
use crate::keys::ring::{self, Ring, RingError, Use};
use crate::keys::{Keys, Passphrase, Source};
use crate::lanes::Lanes;
use crate::limits::{Beyond, Limits, RawLimits};
use crate::listen::Listener;
use crate::listen::clients::json;
use crate::listen::clients::xroad::AssignedPurpose;
use crate::listen::clients::{Bindings, Door};
use crate::lookout::DiskMarks;
use crate::names::Names;
use crate::payloads::{self, Keep, MAX_DAYS, Payloads, Policy};
use crate::renewal::{self, Renewal};
use crate::services::{Service, Services, Twice};
use crate::stamping::ToleratedOutage;
use crate::subjects::SUBJECTS;
use crate::tls::{self, Identity, Own};

/// Where the index of the message log stands: a view, which may be deleted while the server is stopped.
pub const INDEX: &str = "index";
/// What was fetched of the catalogue.
const CONTENT: &str = "content";
/// Where the day of each grant's last use stands: a view, for oversight only.
pub const LAST_USED: &str = "last-used.json";
/// The operators' token: whoever reads this file may grant access and read evidence.
pub const OPERATORS_TOKEN: &str = "operators.token";

/// In the place of a service's address: this server answers it itself.
pub const BUILT_IN: &str = "built-in";
const MIRROR_RULE: &str = "it is http://HOST:PORT/DIRECTORY, without TLS: all that a mirror serves is signed";

/// What a configuration file says, meant.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The server's directory: where the file stands.
    pub directory: PathBuf,
    /// Who this server is.
    pub server: ServerId,
    /// The member that it speaks for.
    pub member: MemberId,
    /// Where the passphrase of the keys comes from.
    pub unlock: Source,
    /// Where the registry is, and its key.
    pub registry: (Address, Fingerprint),
    /// Where versions are fetched from while the registry cannot be followed.
    pub mirrors: Vec<Mirror>,
    /// The peers' door.
    pub peers: SocketAddr,
    /// The operators' door.
    pub operators: SocketAddr,
    /// When the disk is called low, and when full.
    pub disk_marks: DiskMarks,
    /// For how long messages may be exchanged while nothing is stamped.
    pub tolerated_outage: ToleratedOutage,
    /// Where finished segments of the message log go. None: nowhere.
    pub archive: Option<Archiving>,
    /// What each who reaches it may take.
    pub limits: Limits,
    /// What the clients' doors take as JSON.
    pub json: json::Limits,
    doors: Vec<RawDoor>,
    clients: Vec<RawClient>,
    xroad: Vec<RawXroad>,
    payloads: Vec<RawPayloads>,
    named_operators: Vec<RawOperator>,
    pub(crate) services: Vec<RawService>,
    pub(crate) bind: BTreeMap<String, SubsystemId>,
}

/// Why a configuration file is not taken, or a server with it not started.
#[derive(Debug, thiserror::Error)]
pub enum NoConfiguration {
    /// It cannot be read.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "`security-server join` writes one"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read the operators' token.
    #[error("{path} has mode {mode:03o}, and must be for its owner only; chmod 600 {path}")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not of its form.
    #[error("{path}: {reason}; every key is explained in deploy/security-server.toml")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        reason: String,
    },
    /// A value breaks a rule.
    #[error("{path}: {key} = {value:?} cannot be; {rule}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// The keys and their certificates.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The global configuration.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] NoArchive),
    /// A listener.
    #[error("cannot listen on {address}: {source}; stop the program that is there, or name another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// TLS with a service or at the clients' door.
    #[error("TLS: {0}; check the certificates in the server's directory, and the key pins of its services")]
    Tls(#[from] rustls::Error),
}

impl NoConfiguration {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Listen { .. } | Self::Store(_) => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: ServerId,
    member: MemberId,
    /// As registered: for the reader of the file. The registry's word counts.
    #[serde(default)]
    #[allow(dead_code, reason = "it may stand in the file")]
    subsystems: Vec<SubsystemId>,
    unlock: String,
    registry: RawRegistry,
    peers: RawListener,
    operators: RawListener,
    #[serde(default)]
    disk: RawDisk,
    #[serde(default)]
    timestamping: RawTimestamping,
    #[serde(default)]
    archive: Option<RawArchive>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    json: RawJson,
    #[serde(default)]
    clients: Vec<RawDoor>,
    #[serde(default)]
    client: Vec<RawClient>,
    #[serde(default)]
    operator: Vec<RawOperator>,
    #[serde(default)]
    service: Vec<RawService>,
    #[serde(default)]
    xroad: Vec<RawXroad>,
    #[serde(default)]
    payloads: Vec<RawPayloads>,
    #[serde(default)]
    bind: BTreeMap<String, SubsystemId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    address: String,
    fingerprint: String,
    #[serde(default)]
    mirrors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListener {
    listen: SocketAddr,
}

/// `[disk]`: when the disk of the logs is called low, and when full.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDisk {
    warn_at_percent: u8,
    refuse_at_percent: u8,
}

impl Default for RawDisk {
    fn default() -> Self {
        Self { warn_at_percent: DiskMarks::WARN, refuse_at_percent: DiskMarks::REFUSE }
    }
}

/// `[timestamping]`: how long an outage of the timestamping authorities is tolerated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTimestamping {
    tolerated_outage_hours: u32,
}

impl Default for RawTimestamping {
    fn default() -> Self {
        Self { tolerated_outage_hours: ToleratedOutage::HOURS }
    }
}

/// `[archive]`: where finished segments of the message log go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArchive {
    to: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default = "usual_region")]
    region: String,
    #[serde(default = "from_the_environment")]
    credentials: String,
    #[serde(default)]
    encrypt_to: Vec<PathBuf>,
    #[serde(default)]
    keep_local_days: Option<u32>,
}

fn usual_region() -> String {
    REGION.to_owned()
}

fn from_the_environment() -> String {
    "environment".to_owned()
}

/// `[json]`: what the clients' doors take as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawJson {
    message_bytes: usize,
    depth: usize,
    calls: usize,
}

impl Default for RawJson {
    fn default() -> Self {
        let json::Limits { message_bytes, depth, calls } = json::Limits::default();
        Self { message_bytes, depth, calls }
    }
}

/// `[[clients]]`: a door for our own systems.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDoor {
    listen: SocketAddr,
    #[serde(default)]
    subsystem: Option<SubsystemId>,
    #[serde(default)]
    tls: bool,
    #[serde(default)]
    hosts: BTreeSet<String>,
}

/// `[[client]]`: a system of ours, and what it is known by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    subsystem: SubsystemId,
    #[serde(default)]
    token_sha256: Option<String>,
    #[serde(default)]
    certificate_key_sha256: Option<String>,
}

/// `[[operator]]`: a person at the operators' door, with a token of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperator {
    name: String,
    token_sha256: String,
}

/// `[[service]]`: a gRPC service of ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawService {
    pub(crate) subsystem: SubsystemId,
    pub(crate) name: String,
    pub(crate) address: String,
    #[serde(default)]
    certificate_key_sha256: Option<String>,
    #[serde(default)]
    pub(crate) mutual_tls: bool,
    #[serde(default)]
    pub(crate) speaks: Speaks,
}

/// What a service of ours speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaks {
    /// gRPC, over HTTP/2.
    #[default]
    Grpc,
    /// JSON over HTTP/1.1: a gRPC service to everybody else. The address may have a path.
    Json,
    /// It is a REST service. The address may have a path.
    Rest,
}

/// `[[xroad]]`: for what an application asks that was written for X-Road.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawXroad {
    subsystem: SubsystemId,
    #[serde(default)]
    service: Option<String>,
    purpose: String,
    #[serde(default)]
    legal_basis: String,
}

/// `[[payloads]]`: what is kept of what is exchanged with a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPayloads {
    subsystem: SubsystemId,
    service: String,
    keep: RawKeep,
    #[serde(default)]
    days: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKeep {
    /// Nothing but the header, which commits to it.
    Digest,
    Days,
    Always,
}

/// An address as it is shown where it is wrong: what stands before '@' may be a secret.
fn before_at_hidden(address: &str) -> String {
    address.rsplit_once('@').map_or_else(|| address.to_owned(), |(_, host)| format!("...@{host}"))
}

impl RawPayloads {
    fn kept(&self) -> Option<(SubsystemId, String, Keep)> {
        let keep = match self.keep {
            RawKeep::Always => Keep::Always,
            RawKeep::Days => Keep::Days(self.days.and_then(|days| days.try_into().ok())?),
            RawKeep::Digest => return None,
        };
        Some((self.subsystem.clone(), self.service.clone(), keep))
    }
}

impl Configuration {
    /// Reads a file. Relative paths are meant from where it stands.
    pub fn read(path: &Path) -> Result<Self, NoConfiguration> {
        let text =
            fs::read_to_string(path).map_err(|source| NoConfiguration::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, NoConfiguration> {
        let form = |reason: String| NoConfiguration::Form { path: path.to_owned(), reason };
        let raw: Raw = read_toml(text).map_err(form)?;
        let wrong = |key: &str, value: &dyn std::fmt::Display, rule: &str| NoConfiguration::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            rule: rule.to_owned(),
        };
        let unlock = "it says where the passphrase comes from: credential:NAME, fd:NUMBER or prompt";
        let marks = format!(
            "warn_at_percent is less than it, and both are from {} to {}",
            DiskMarks::LEAST,
            DiskMarks::GREATEST
        );
        let RawDisk { warn_at_percent, refuse_at_percent } = raw.disk;
        let hours = raw.timestamping.tolerated_outage_hours;
        let (least, most) = (ToleratedOutage::LEAST_HOURS, ToleratedOutage::MOST_HOURS);
        let outage = format!("it is a number of hours, from {least} to {most}");
        let within = |key: &str, value: usize, least: usize, most: usize| {
            let rule = format!("it is a number from {least} to {most}");
            if (least..=most).contains(&value) { Ok(value) } else { Err(wrong(key, &value, &rule)) }
        };
        let (asked, least, most) = (raw.json, json::Limits::LEAST_BYTES, json::Limits::MOST);
        let json = json::Limits {
            message_bytes: within("json.message_bytes", asked.message_bytes, least, most.message_bytes)?,
            depth: within("json.depth", asked.depth, 1, most.depth)?,
            calls: within("json.calls", asked.calls, 1, most.calls)?,
        };
        let archive = raw.archive.map(|raw| {
            let RawArchive { to, endpoint, region, credentials, encrypt_to, keep_local_days } = raw;
            let keep_local = keep_local_days.map(|days| {
                let rule = format!("it is a number from {} to {}", KeepLocal::LEAST_DAYS, KeepLocal::MOST_DAYS);
                KeepLocal::days(days).ok_or_else(|| wrong("archive.keep_local_days", &days, &rule))
            });
            let keep_local = keep_local.transpose()?;
            if encrypt_to.len() > Archiving::MOST_RECIPIENTS {
                let rule = format!("it names {} files at the most", Archiving::MOST_RECIPIENTS);
                return Err(wrong("archive.encrypt_to", &encrypt_to.len(), &rule));
            }
            let place = Place::of(&to, endpoint.clone(), region.clone(), &credentials);
            let place = place.map_err(|(key, rule)| {
                let value = match key {
                    "endpoint" => before_at_hidden(endpoint.as_deref().unwrap_or_default()),
                    "region" => region.clone(),
                    // What stands in its place by mistake may be a secret.
                    "credentials" => "...".to_owned(),
                    _ => before_at_hidden(&to),
                };
                wrong(&format!("archive.{key}"), &value, rule)
            })?;
            Ok(Archiving { place, encrypt_to, keep_local })
        });
        let archive = archive.transpose()?;
        let beyond = |beyond: Beyond| wrong(&format!("limits.{}", beyond.key), &beyond.value, &beyond.to_string());
        let limits = raw.limits.checked().map_err(beyond)?;
        let fingerprint = "it is sha256: and 64 hexadecimal digits, as `central-registry init` printed it";
        let configuration = Self {
            directory: path.parent().unwrap_or(Path::new("")).to_owned(),
            unlock: raw.unlock.parse().map_err(|_| wrong("unlock", &raw.unlock, unlock))?,
            registry: (
                raw.registry
                    .address
                    .parse()
                    .map_err(|_| wrong("registry.address", &raw.registry.address, "it is a host and a port"))?,
                raw.registry
                    .fingerprint
                    .parse()
                    .map_err(|_| wrong("registry.fingerprint", &raw.registry.fingerprint, fingerprint))?,
            ),
            mirrors: raw
                .registry
                .mirrors
                .iter()
                .map(|mirror| mirror.parse().map_err(|_| wrong("registry.mirrors", mirror, MIRROR_RULE)))
                .collect::<Result<_, _>>()?,
            peers: raw.peers.listen,
            operators: raw.operators.listen,
            disk_marks: DiskMarks::new(warn_at_percent, refuse_at_percent)
                .ok_or_else(|| wrong("disk.refuse_at_percent", &refuse_at_percent, &marks))?,
            tolerated_outage: ToleratedOutage::of_hours(hours)
                .ok_or_else(|| wrong("timestamping.tolerated_outage_hours", &hours, &outage))?,
            archive,
            limits,
            json,
            doors: raw.clients,
            clients: raw.client,
            named_operators: raw.operator,
            services: raw.service,
            xroad: raw.xroad,
            payloads: raw.payloads,
            bind: raw.bind,
            server: raw.server,
            member: raw.member,
        };
        configuration.check(&wrong)?;
        Ok(configuration)
    }

    fn check(
        &self,
        wrong: &dyn Fn(&str, &dyn std::fmt::Display, &str) -> NoConfiguration,
    ) -> Result<(), NoConfiguration> {
        if self.server.owner() != self.member {
            return Err(wrong("server", &self.server, "a server is named after the member that owns it"));
        }
        if !self.operators.ip().is_loopback() {
            let rule = "it is a loopback address: the operators' token must not travel in clear. Reach it over ssh";
            return Err(wrong("operators.listen", &self.operators, rule));
        }
        for door in &self.doors {
            if door.subsystem.is_some() && (door.tls || !door.listen.ip().is_loopback()) {
                let rule = "only a loopback address without TLS may be bound to a subsystem: whoever reaches it is that subsystem";
                return Err(wrong("clients.subsystem", &door.listen, rule));
            }
            if door.subsystem.is_none() && !door.tls && !door.listen.ip().is_loopback() {
                let rule = "beyond this machine tokens travel in TLS only: set tls = true, or listen on loopback";
                return Err(wrong("clients.listen", &door.listen, rule));
            }
        }
        for (door, host) in self.doors.iter().flat_map(|door| door.hosts.iter().map(move |host| (door, host))) {
            let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if door.tls || host.is_empty() || !host.bytes().all(of_name) {
                let rule = "it is a name by which a door without TLS is called, and no port: localhost and addresses pass anyway";
                return Err(wrong("clients.hosts", host, rule));
            }
        }
        for client in &self.clients {
            let known_by = [
                ("client.token_sha256", &client.token_sha256),
                ("client.certificate_key_sha256", &client.certificate_key_sha256),
            ];
            if known_by.iter().all(|(_, value)| value.is_none()) {
                return Err(wrong(
                    "client.subsystem",
                    &client.subsystem,
                    "it is known by nothing: give token_sha256, from `security-server token`",
                ));
            }
            for (key, value) in known_by {
                if let Some(value) = value.as_ref().filter(|value| value.parse::<Digest>().is_err()) {
                    return Err(wrong(key, value, "it is 64 lower-case hexadecimal digits"));
                }
            }
        }
        for line in &self.xroad {
            let service = line.service.as_deref();
            if service.is_some_and(|service| RestTarget::parse(&format!("{TARGET_PREFIX}{service}")).is_err()) {
                let rule = "it is INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE, as VN/GOV/moj/civil-registry/pets.v1";
                return Err(wrong("xroad.service", &service.unwrap_or_default(), rule));
            }
            if line.purpose.parse::<PurposeCode>().is_err() {
                return Err(wrong("xroad.purpose", &line.purpose, "it is a purpose of the instance's list"));
            }
        }
        let mut names = BTreeSet::from([OPERATORS_TOKEN]);
        for operator in &self.named_operators {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
            let name = operator.name.as_str();
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) || !names.insert(name) {
                let rule = "it is 1 to 64 letters, digits, '.', '_', '-' and '@', and stands once";
                return Err(wrong("operator.name", &name, rule));
            }
            if operator.token_sha256.parse::<Digest>().is_err() {
                let rule = "it is 64 lower-case hexadecimal digits, from `security-server token`";
                return Err(wrong("operator.token_sha256", &operator.token_sha256, rule));
            }
        }
        for subsystem in self
            .doors
            .iter()
            .filter_map(|door| door.subsystem.as_ref())
            .chain(self.clients.iter().map(|client| &client.subsystem))
            .chain(self.services.iter().map(|service| &service.subsystem))
            .chain(self.xroad.iter().map(|line| &line.subsystem))
        {
            if subsystem.member() != self.member {
                return Err(wrong("subsystem", subsystem, "this server speaks for its own member's subsystems only"));
            }
        }
        self.check_payloads(wrong)?;
        for service in self.bind.keys() {
            if format!("/{service}/M").parse::<MethodPath>().is_err() {
                return Err(wrong("bind", service, "it is a gRPC service's full name, like civil.v1.Births"));
            }
        }
        for service in &self.services {
            if format!("/{}/M", service.name).parse::<MethodPath>().is_err() {
                return Err(wrong(
                    "service.name",
                    &service.name,
                    "it is a gRPC service's full name, like civil.v1.Births",
                ));
            }
            if service.is_built_in() {
                let plain = service.certificate_key_sha256.is_none() && !service.mutual_tls;
                let plain = plain && service.speaks == Speaks::Grpc;
                if plain && service.name == over_the_bus::SERVICE {
                    continue;
                }
                let rule =
                    format!("this server answers {} itself, without a key, and nothing else", over_the_bus::SERVICE);
                return Err(wrong("service.address", &service.address, &rule));
            }
            let rule = match service.speaks {
                Speaks::Json | Speaks::Rest => "it is http://HOST:PORT/PATH or https://HOST:PORT/PATH",
                Speaks::Grpc => {
                    "it is http://HOST:PORT or https://HOST:PORT; speaks says what it speaks, where not gRPC"
                }
            };
            let may_have_path = service.speaks != Speaks::Grpc;
            let found = endpoint(&service.address).filter(|(_, _, path)| may_have_path || path.is_empty());
            let Some((tls, host, _)) = found else {
                return Err(wrong("service.address", &service.address, rule));
            };
            let pin = service.certificate_key_sha256.as_ref();
            if tls != pin.is_some() || pin.is_some_and(|pin| pin.parse::<Digest>().is_err()) {
                let rule = "https:// wants certificate_key_sha256, the SHA-256 of the service's public key; http:// wants none";
                return Err(wrong("service.certificate_key_sha256", &host, rule));
            }
            if service.mutual_tls && !tls {
                return Err(wrong("service.mutual_tls", &service.address, "it wants an https:// address"));
            }
        }
        Ok(())
    }

    fn check_payloads(
        &self,
        wrong: &dyn Fn(&str, &dyn std::fmt::Display, &str) -> NoConfiguration,
    ) -> Result<(), NoConfiguration> {
        let mut named = BTreeSet::new();
        for RawPayloads { subsystem, service, keep, days } in &self.payloads {
            if format!("/{service}/M").parse::<MethodPath>().is_err() {
                let rule = "it is a service's full name, like civil.v1.Births or pets.v1";
                return Err(wrong("payloads.service", service, rule));
            }
            // Of another member's services the catalogue need not know; ours stand in this file.
            let is_ours = |known: &RawService| known.subsystem == *subsystem && known.name == *service;
            let is_bound = self.bind.get(service) == Some(subsystem);
            if subsystem.member() == self.member && !self.services.iter().any(is_ours) && !is_bound {
                let rule =
                    format!("{subsystem} has no such [[service]] in this file; write its name as it stands there");
                return Err(wrong("payloads.service", service, &rule));
            }
            if !named.insert((subsystem, service)) {
                let rule = format!("it stands twice for {subsystem}: what is kept of a service is said once");
                return Err(wrong("payloads.service", service, &rule));
            }
            let days_rule = format!("it is a number from 1 to {MAX_DAYS}; keep = \"always\" keeps for longer");
            match (keep, days) {
                (RawKeep::Days, None) => {
                    let rule = format!("keep = \"days\" wants days = NUMBER, from 1 to {MAX_DAYS}");
                    return Err(wrong("payloads.keep", &format_args!("days of {service}"), &rule));
                }
                (RawKeep::Days, Some(days)) if !(1..=i64::from(MAX_DAYS)).contains(days) => {
                    return Err(wrong("payloads.days", days, &days_rule));
                }
                (RawKeep::Digest | RawKeep::Always, Some(days)) => {
                    return Err(wrong("payloads.days", days, "only keep = \"days\" takes days"));
                }
                (RawKeep::Digest | RawKeep::Always, None) | (RawKeep::Days, Some(_)) => {}
            }
        }
        Ok(())
    }

    /// Which payloads are kept.
    pub fn payload_policy(&self) -> Policy {
        Policy::of(self.payloads.iter().filter_map(RawPayloads::kept))
    }

    /// What a server is started with: keys unlocked, listeners bound, the global configuration read.
    pub async fn settings(&self, passphrase: &Passphrase, clock: Clock) -> Result<Settings, NoConfiguration> {
        let mut ring = Ring::open(&self.directory, passphrase)?;
        let store = Arc::new(Store::open(&self.directory.join(GLOBAL_CONFIGURATION))?);
        for what in Use::ALL {
            // A server that was off goes on with the key that its peers expect by now.
            let configuration = store.current().load();
            if let Some(next) = renewal::next_in_use(&ring, &configuration, &self.server, what, clock.now(), false) {
                ring.take_up(&next)?;
            }
        }
        let own = Own::new(&renewal::identity(ring.in_use(Use::Authentication)))?;
        let signing = Arc::clone(&ring.in_use(Use::Signing).key);
        let policy = self.payload_policy();
        let blocks = payloads::open_blocks(&self.directory, passphrase, ring.cost(), !policy.is_empty());
        let registry = Registry { address: self.registry.0.clone(), key: self.registry.1 };
        let mut client_doors = Vec::new();
        for door in &self.doors {
            let tls = if door.tls { Some(tls::for_clients(Arc::clone(&own))?) } else { None };
            let opened = Door { bound: door.subsystem.clone(), tls, hosts: door.hosts.clone() };
            client_doors.push((listen(door.listen).await?, opened));
        }
        let token = match operators_token(&self.directory)? {
            Some(token) => token,
            None => make_operators_token(&self.directory)?,
        };
        Ok(Settings {
            id: self.server.clone(),
            keys: vec![(self.member.clone(), signing)],
            renewal: Some(Renewal::new(self.server.clone(), registry.clone(), ring, Arc::clone(&own))),
            registry: Some(registry),
            mirrors: self.mirrors.clone(),
            store,
            lanes: Lanes::default(),
            clock,
            log: Arc::new(Directory(self.directory.join(MESSAGE_LOG))),
            log_options: journal::Options::default(),
            index: self.directory.join(INDEX),
            content: self.directory.join(CONTENT),
            last_used: self.directory.join(LAST_USED),
            subjects: self.directory.join(SUBJECTS),
            payloads: Payloads::new(policy, blocks),
            audit: Arc::new(Directory(self.directory.join(AUDIT_LOG))),
            audit_options: journal::Options::default(),
            disk_marks: self.disk_marks,
            tolerated_outage: self.tolerated_outage,
            archive: self.archiving()?,
            names: Names::system(),
            clients: self.known_clients(),
            bindings: self.bindings(),
            services: self.known_services(Some(&own))?,
            identity: own,
            peers: listen(self.peers).await?,
            client_doors,
            limits: self.limits,
            json: self.json,
            operators: (listen(self.operators).await?, Digest::of(&[token.as_bytes()])),
            named_operators: self.known_operators(),
            xroad: self.assigned_purposes(),
            described: self.described(),
        })
    }

    /// What archives are made with: credentials and recipients' keys read.
    fn archiving(&self) -> Result<Option<archive::Settings>, NoConfiguration> {
        let settings = self.archive.as_ref().map(|archive| archive.settings(&self.server, &self.directory));
        Ok(settings.transpose()?)
    }

    /// What the file says, setting by setting, for the audit log. Of what opens a door there is the beginning of a digest.
    pub fn described(&self) -> BTreeMap<String, String> {
        let short = |digest: &str| digest.chars().take(16).collect::<String>();
        let mut said = BTreeMap::from([
            ("server".to_owned(), self.server.to_string()),
            ("member".to_owned(), self.member.to_string()),
            ("unlock".to_owned(), self.unlock.to_string()),
            ("registry.address".to_owned(), self.registry.0.to_string()),
            ("disk".to_owned(), self.disk_marks.to_string()),
            ("timestamping.tolerated_outage".to_owned(), self.tolerated_outage.to_string()),
            ("registry.fingerprint".to_owned(), self.registry.1.to_string()),
            ("peers.listen".to_owned(), self.peers.to_string()),
            ("operators.listen".to_owned(), self.operators.to_string()),
        ]);
        if let Some(archive) = &self.archive {
            said.insert("archive".to_owned(), archive.to_string());
        }
        let json::Limits { message_bytes, depth, calls } = self.json;
        said.insert("json".to_owned(), format!("{message_bytes} bytes, {depth} deep, {calls} calls"));
        let others = self.limits.each().zip(Limits::default().each()).filter(|(said, usual)| said != usual);
        said.extend(others.map(|((key, value), _)| (format!("limits.{key}"), value.to_string())));
        if !self.mirrors.is_empty() {
            let mirrors: Vec<_> = self.mirrors.iter().map(Mirror::to_string).collect();
            said.insert("registry.mirrors".to_owned(), mirrors.join(", "));
        }
        for door in &self.doors {
            let bound = door.subsystem.as_ref().map_or_else(|| "to nobody".to_owned(), ToString::to_string);
            let tls = if door.tls { "with TLS" } else { "without TLS" };
            let hosts = door.hosts.iter().map(|host| format!(", called {host}")).collect::<String>();
            said.insert(format!("clients {}", door.listen), format!("{tls}, bound {bound}{hosts}"));
        }
        for client in &self.clients {
            for (kind, digest) in [("token", &client.token_sha256), ("certificate", &client.certificate_key_sha256)] {
                if let Some(digest) = digest {
                    said.insert(format!("client {kind} {}", short(digest)), client.subsystem.to_string());
                }
            }
        }
        for operator in &self.named_operators {
            said.insert(format!("operator {}", operator.name), format!("token {}", short(&operator.token_sha256)));
        }
        for service in &self.services {
            let pin = service.certificate_key_sha256.as_ref();
            let pin = pin.map(|pin| format!(", key {}", short(pin))).unwrap_or_default();
            let mutual = if service.mutual_tls { ", shows its certificate" } else { "" };
            let speaks = match service.speaks {
                Speaks::Grpc => "",
                Speaks::Json => ", JSON",
                Speaks::Rest => ", REST",
            };
            let at = format!("{}{pin}{mutual}{speaks}", service.address);
            said.insert(format!("service {} {}", service.subsystem, service.name), at);
        }
        for line in &self.xroad {
            let of = line.service.as_deref().unwrap_or("every service");
            let for_what = format!("{}, {}", line.purpose, line.legal_basis);
            said.insert(format!("xroad {} {of}", line.subsystem), for_what);
        }
        for (subsystem, service, keep) in self.payload_policy().services() {
            said.insert(format!("payloads {subsystem} {service}"), format!("kept {keep}"));
        }
        for (service, provider) in &self.bind {
            said.insert(format!("bind {service}"), provider.to_string());
        }
        said
    }

    fn assigned_purposes(&self) -> Vec<AssignedPurpose> {
        let assigned = self.xroad.iter().cloned().map(|line| {
            let RawXroad { subsystem, service, purpose, legal_basis } = line;
            AssignedPurpose { subsystem, service, purpose, legal_basis }
        });
        assigned.collect()
    }

    fn known_operators(&self) -> HashMap<Digest, String> {
        let known = self.named_operators.iter();
        known.filter_map(|operator| Some((operator.token_sha256.parse().ok()?, operator.name.clone()))).collect()
    }

    /// Who this server is in TLS, with the keys in use: for whoever only looks.
    pub(crate) fn identity(&self, keys: &Keys) -> Result<Arc<Own>, NoConfiguration> {
        let identity = Identity { chain: self.chain(Use::Authentication)?, key: keys.authentication.clone() };
        Ok(Own::new(&identity)?)
    }

    /// The certificates of the key in use, DER.
    pub(crate) fn chain(&self, what: Use) -> Result<Vec<Vec<u8>>, NoConfiguration> {
        let path = ring::certificate_in_use(&self.directory, what);
        let unreadable = |source| NoConfiguration::Unreadable { path: path.clone(), source };
        let text = fs::read(&path).map_err(unreadable)?;
        let chain: Vec<_> = rustls_pki_types::pem::PemObject::pem_slice_iter(&text)
            .filter_map(|der: Result<rustls_pki_types::CertificateDer<'_>, _>| der.ok())
            .map(|der| der.to_vec())
            .collect();
        if chain.is_empty() {
            return Err(unreadable(std::io::Error::other("no certificate in PEM is there")));
        }
        Ok(chain)
    }

    fn known_clients(&self) -> Clients {
        let mut clients = Clients::default();
        for client in &self.clients {
            if let Some(token) = client.token_sha256.as_ref().and_then(|token| token.parse().ok()) {
                clients.tokens.insert(token, client.subsystem.clone());
            }
            if let Some(key) = client.certificate_key_sha256.as_ref().and_then(|key| key.parse().ok()) {
                clients.certificates.insert(key, client.subsystem.clone());
            }
        }
        clients
    }

    /// Where this system's door is found from this machine, and whether it is bound to it; of no system in particular the
    /// first door.
    pub fn door_of(&self, client: Option<&SubsystemId>) -> Option<(String, bool)> {
        let its_own = |door: &&RawDoor| client.is_none_or(|client| door.subsystem.as_ref() == Some(client));
        let of_all = |door: &&RawDoor| door.subsystem.is_none() && self.clients().any(|known| Some(known) == client);
        let door = self.doors.iter().find(its_own).or_else(|| self.doors.iter().find(of_all))?;
        let ip = if door.listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { door.listen.ip() };
        let scheme = if door.tls { "https" } else { "http" };
        Some((format!("{scheme}://{}", SocketAddr::new(ip, door.listen.port())), door.subsystem.is_some()))
    }

    /// The clients' doors: where each listens, and the subsystem that it is bound to.
    pub(crate) fn doors(&self) -> impl Iterator<Item = (SocketAddr, Option<&SubsystemId>)> {
        self.doors.iter().map(|door| (door.listen, door.subsystem.as_ref()))
    }

    /// The subsystems of the systems that are known by a credential.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &SubsystemId> {
        self.clients.iter().map(|client| &client.subsystem)
    }

    fn bindings(&self) -> Bindings {
        HashMap::from_iter(self.bind.clone())
    }

    /// Our services. Those that want to see our certificate are shown this identity.
    pub(crate) fn known_services(&self, own: Option<&Arc<Own>>) -> Result<Services, NoConfiguration> {
        let called = |listed: &RawService| listed.called_by(own);
        let services: Vec<_> = self.services.iter().map(called).collect::<Result<_, _>>()?;
        Services::new(services).map_err(|Twice(service)| NoConfiguration::Value {
            path: self.directory.join(crate::join::CONFIGURATION_FILE),
            key: "service.name".into(),
            value: service,
            rule: "it stands twice: each service of a subsystem has one address".into(),
        })
    }
}

impl RawService {
    /// Whether this server answers it itself.
    pub(crate) fn is_built_in(&self) -> bool {
        self.address == BUILT_IN
    }

    /// The service as this server calls it. It is shown the identity if it wants to see one.
    pub(crate) fn called_by(&self, own: Option<&Arc<Own>>) -> Result<Service, rustls::Error> {
        if self.is_built_in() {
            return Ok(Service::disclosures(self.subsystem.clone()));
        }
        let pin = self.certificate_key_sha256.as_ref().and_then(|pin| pin.parse().ok());
        let client = own.filter(|_| self.mutual_tls).cloned();
        let tls = pin.map(|pin| tls::to_service(pin, client)).transpose()?;
        let (_, host, path) = endpoint(&self.address).unwrap_or_default();
        let (subsystem, name) = (self.subsystem.clone(), self.name.clone());
        Ok(match self.speaks {
            Speaks::Grpc => Service::new(subsystem, name, host, tls),
            Speaks::Json => Service::json(subsystem, name, (host, path), tls),
            Speaks::Rest => Service::rest(subsystem, name, (host, path), tls),
        })
    }
}

/// Whether it is over TLS, host and port, and the path.
fn endpoint(address: &str) -> Option<(bool, String, &str)> {
    let (tls, host) = match (address.strip_prefix("http://"), address.strip_prefix("https://")) {
        (Some(host), None) => (false, host),
        (None, Some(host)) => (true, host),
        _ => return None,
    };
    let (host, path) = host.split_at(host.find('/').unwrap_or(host.len()));
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"#%<>?\\^`{|}".contains(&byte));
    let host = host.parse::<Address>().ok().filter(|_| plain);
    host.map(|host| (tls, host.as_str().to_owned(), path))
}

async fn listen(address: SocketAddr) -> Result<Listener, NoConfiguration> {
    crate::listen::bind(address).await.map_err(|source| NoConfiguration::Listen { address, source })
}

/// Reads a token that only its owner can read.
pub fn read_token(path: &Path) -> Result<String, NoConfiguration> {
    let file = |source| NoConfiguration::Unreadable { path: path.to_owned(), source };
    let token = fs::read_to_string(path).map_err(file)?;
    let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(NoConfiguration::Readable { path: path.to_owned(), mode });
    }
    Ok(token.trim().to_owned())
}

/// Reads the operators' token. None: the server never ran, and has made none.
pub fn operators_token(directory: &Path) -> Result<Option<String>, NoConfiguration> {
    match read_token(&directory.join(OPERATORS_TOKEN)) {
        Ok(token) => Ok(Some(token)),
        Err(NoConfiguration::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the operators' token: 32 random bytes, for the owner's eyes only.
fn make_operators_token(directory: &Path) -> Result<String, NoConfiguration> {
    let path = directory.join(OPERATORS_TOKEN);
    let token = random_token();
    let make = || {
        let mut made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        made.write_all(token.as_bytes())?;
        made.sync_all()
    };
    make().map_err(|source| NoConfiguration::Unreadable { path: path.clone(), source })?;
    Ok(token)
}

/// 32 random bytes, in hexadecimal.
pub fn random_token() -> String {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the system's random source works, or nothing does");
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"
server = "VN/GOV/moj/ss1"
member = "VN/GOV/moj"
unlock = "credential:moj"
[registry]
address = "registry.gov.vn:4001"
fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
[peers]
listen = "0.0.0.0:5500"
[operators]
listen = "127.0.0.1:5580"
"#;

    fn parse(more: &str) -> Result<Configuration, String> {
        let text = format!("{GOOD}{more}");
        Configuration::parse(Path::new("/etc/causeway/security-server.toml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mistake_is_named_with_its_rule() {
        assert!(parse("").is_ok());
        let kept = |subsystem: &str, service: &str, keep: &str| {
            format!("[[payloads]]\nsubsystem = \"{subsystem}\"\nservice = \"{service}\"\n{keep}\n")
        };
        let twice =
            kept("VN/GOV/tax/a", "a.B", "keep = \"always\"") + &kept("VN/GOV/tax/a", "a.B", "keep = \"digest\"");
        assert!(parse("[disk]\nwarn_at_percent = 60\nrefuse_at_percent = 61\n").is_ok());
        for (more, named) in [
            ("[[clients]]\nlisten = \"0.0.0.0:1\"\n", "tls = true"),
            ("[[clients]]\nlisten = \"0.0.0.0:1\"\nsubsystem = \"VN/GOV/moj/a\"\n", "only a loopback address"),
            ("[[client]]\nsubsystem = \"VN/GOV/moj/a\"\n", "known by nothing"),
            ("[[client]]\nsubsystem = \"VN/GOV/moj/a\"\ntoken_sha256 = \"abc\"\n", "64 lower-case"),
            (
                "[[client]]\nsubsystem = \"VN/GOV/tax/a\"\ntoken_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n",
                "its own member's",
            ),
            ("[[client]]\nsubsystem = \"moj\"\n", "four segments"),
            ("[[operator]]\nname = \"a b\"\ntoken_sha256 = \"00\"\n", "letters, digits"),
            ("[[operator]]\nname = \"operators.token\"\ntoken_sha256 = \"00\"\n", "stands once"),
            ("[[operator]]\nname = \"nguyen\"\ntoken_sha256 = \"00\"\n", "64 lower-case"),
            (
                "[[service]]\nsubsystem = \"VN/GOV/moj/a\"\nname = \"a.B\"\naddress = \"127.0.0.1:1\"\n",
                "http://HOST:PORT",
            ),
            (
                "[[service]]\nsubsystem = \"VN/GOV/moj/a\"\nname = \"a.B\"\naddress = \"built-in\"\n",
                "causeway.disclosures.v1.Disclosures itself",
            ),
            (
                "[[service]]\nsubsystem = \"VN/GOV/moj/a\"\nname = \"a.B\"\naddress = \"https://a:1\"\n",
                "certificate_key_sha256",
            ),
            ("[[service]]\nsubsystem = \"VN/GOV/moj/a\"\nname = \"/a.B\"\naddress = \"http://a:1\"\n", "full name"),
            ("[bind]\n\"a/b\" = \"VN/GOV/moj/a\"\n", "full name"),
            ("[turbo]\n", "turbo"),
            ("[disk]\nrefuse_at_percent = 98\n", "from 50 to 97"),
            ("[disk]\nwarn_at_percent = 97\n", "warn_at_percent is less"),
            ("[disk]\nrefuse_at_percent = 100\n", "from 50 to 97"),
            ("[disk]\nrefuse = false\n", "refuse"),
            ("[limits]\nconnections = 63\n", "limits.connections = \"63\" cannot be; it is a number from 64 to 16384"),
            ("[limits]\nstream_bytes = -1\n", "it is a number from 1048576 to"),
            ("[limits]\nidle_second = 10\n", "idle_second"),
            ("[timestamping]\ntolerated_outage_hours = 0\n", "from 1 to 720"),
            ("[timestamping]\ntolerated_outage_hours = 721\n", "from 1 to 720"),
            ("[archive]\n", "to"),
            ("[archive]\nto = \"/var/archive\"\n", "file:///DIRECTORY or s3://BUCKET/PREFIX"),
            ("[archive]\nto = \"s3://bucket\"\nendpoint = \"http://s3.gov.vn\"\n", "does not travel in clear"),
            ("[archive]\nto = \"s3://bucket\"\nregion = \"\"\n", "name of a region"),
            ("[archive]\nto = \"s3://bucket\"\ncredentials = \"AKIA x\"\n", "environment or credential:NAME"),
            ("[archive]\nto = \"file:///a\"\nkeep_local_days = 0\n", "from 1 to 36500"),
            ("[archive]\nto = \"file:///a\"\nkeep_local_days = 36501\n", "from 1 to 36500"),
            ("[archive]\nto = \"file:///a\"\npassphrase = \"x\"\n", "passphrase"),
            (
                "[archive]\nto = \"file:///a\"\nencrypt_to = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"]\n",
                "8 files at the most",
            ),
            (&kept("VN/GOV/tax/a", "a/b", "keep = \"always\""), "a service's full name"),
            (&kept("VN/GOV/moj/a", "a.B", "keep = \"always\""), "VN/GOV/moj/a has no such [[service]]"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"days\""), "wants days = NUMBER"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"days\"\ndays = 0"), "from 1 to 36500"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"days\"\ndays = 36501"), "from 1 to 36500"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"days\"\ndays = -1"), "payloads.days"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"digest\"\ndays = 3"), "only keep = \"days\" takes days"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"always\"\ndays = 3"), "only keep = \"days\" takes days"),
            (&kept("VN/GOV/tax/a", "a.B", "keep = \"forever\""), "forever"),
            (&kept("VN/GOV/tax/a", "a.B", ""), "keep"),
            (&kept("tax", "a.B", "keep = \"always\""), "four segments"),
            (&twice, "stands twice for VN/GOV/tax/a"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(named) && error.contains("security-server.toml"), "{error}");
        }
        for secret in [
            "[archive]\nto = \"s3://AKIA:SE@CRET@bucket\"\n",
            "[archive]\nto = \"s3://bucket\"\nendpoint = \"https://AKIA:SE@CRET@s3.gov.vn\"\n",
        ] {
            let error = parse(secret).unwrap_err();
            assert!(
                error.contains("\"...@") && !["AKIA", "SE@", "CRET"].iter().any(|each| error.contains(each)),
                "{error}"
            );
        }
    }

    #[test]
    fn the_example_in_deploy_is_read() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/security-server.toml"));
        let policy = Configuration::read(path).unwrap().payload_policy();
        let kept: Vec<_> = policy.services().iter().map(|(_, service, keep)| format!("{service} {keep}")).collect();
        assert_eq!(kept, ["civil.v1.Births 90 days", "population.v1.People always"]);
    }

    #[test]
    fn what_is_kept_is_said_of_each_service_and_of_others_nothing_is() {
        let service = "[[service]]\nsubsystem = \"VN/GOV/moj/a\"\nname = \"a.B\"\naddress = \"http://a:1\"\n";
        let kept = "[[payloads]]\nsubsystem = \"VN/GOV/moj/a\"\nservice = \"a.B\"\nkeep = \"days\"\ndays = 36500\n";
        let digest = "[[payloads]]\nsubsystem = \"VN/GOV/tax/a\"\nservice = \"a.B\"\nkeep = \"digest\"\n";
        let read = parse(&format!("{service}{kept}{digest}")).unwrap();
        let subsystem: SubsystemId = "VN/GOV/moj/a".parse().unwrap();
        assert_eq!(read.payload_policy().services(), [(&subsystem, "a.B", Keep::Days(MAX_DAYS))]);
        assert_eq!(read.described()["payloads VN/GOV/moj/a a.B"], "kept 36500 days");
        assert!(parse(digest).unwrap().payload_policy().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = Configuration::parse(Path::new("x"), &text);
        }
    }
}
