//! Joining an instance (PROTOCOL.md 11) and an admin's commands (PROTOCOL.md 12): the bytes that are signed, and the
//! checks that need no register. What these return was checked, and only they can make it.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use zeroize::Zeroize;

use crate::digest::Digest;
use crate::head::Head;
use crate::identifier::{InstanceId, MemberId, NotAnIdentifier, ServerId, SubsystemId};
use crate::oversight::GrantsWanted;
use crate::purposes::{PurposeCode, PurposeDocument};
use crate::record::{NotCanonical, decode_canonical};
use crate::signature::{KeyId, PublicKey, SigningKey, purpose};
use crate::time::Time;
use crate::wire::registry as wire;

/// Longest application or command, in bytes.
pub const MAX_SIGNED_BYTES: usize = 64 * 1024;
/// Most subsystems that one application or invitation names.
pub const MAX_SUBSYSTEMS: usize = 256;
/// Longest text that a person wrote: a name, a reason. In bytes.
pub const MAX_TEXT_BYTES: usize = 500;
/// Longest address, in bytes: a DNS name, a colon, a port.
pub const MAX_ADDRESS_BYTES: usize = 253 + 6;
/// How far an admin's clock may be from the registry's.
pub const COMMAND_WINDOW: Duration = Duration::from_secs(60);

/// Why a request to join or a command is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is longer than its limit.
    #[error("{what} is {length} bytes long, at most {limit} are taken; shorten it")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Its bytes are not the one encoding of what they say.
    #[error("{0}; encode the message once, sign those bytes and send them as they are")]
    NotCanonical(#[from] NotCanonical),
    /// An identifier in it is none.
    #[error("{0}")]
    Identifier(#[from] NotAnIdentifier),
    /// Something in it is not by the rule.
    #[error("{what} {value:?} cannot be; {rule}")]
    Rule {
        /// What is wrong.
        what: &'static str,
        /// As it was given, shortened.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// It is for another instance.
    #[error("it is for instance {theirs}, this is {ours}; check the instance's name and the registry's address")]
    OtherInstance {
        /// The instance that it names.
        theirs: InstanceId,
        /// This one.
        ours: InstanceId,
    },
    /// A proof of possession does not hold.
    #[error(
        "the {0} key's proof of possession does not hold; that key must sign \"causeway/v1/join\\n\" and the application"
    )]
    Possession(&'static str),
    /// A command's signature does not hold.
    #[error("the command's signature does not hold for key {0}; sign with the admin's own key")]
    Signature(KeyId),
    /// A command is too old or too new.
    #[error("the command was signed {} seconds away from the registry's time, 60 are allowed; set the clock", .0.as_secs())]
    Time(Duration),
}

pub(crate) fn rule(what: &'static str, value: &str, rule: &'static str) -> Malformed {
    Malformed::Rule { what, value: value.chars().take(120).collect(), rule }
}

// ---- the one-time token

/// The secret of an invitation: 32 random bytes, shown once, written `join_` and base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// The hash by which the registry knows a token. The token cannot be had from it.
pub type TokenDigest = Digest;

const TOKEN_PREFIX: &str = "join_";

impl Token {
    /// From 32 bytes that the caller drew at random.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its hash.
    pub fn digest(&self) -> TokenDigest {
        Digest::of(&[b"causeway/v1/token\n", &self.0])
    }

    /// The token as a person copies it. Whoever has it may join once.
    pub fn reveal(&self) -> String {
        use base64::Engine;
        format!("{TOKEN_PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for Token {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        use base64::Engine;
        let bytes = text
            .strip_prefix(TOKEN_PREFIX)
            .and_then(|rest| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(rest).ok())
            .and_then(|bytes| bytes.try_into().ok());
        // The text is not repeated: it may be a good token with one letter missing.
        bytes.map(Self).ok_or_else(|| {
            rule("the token", "(not shown)", "it is `join_` and 43 letters, digits, '-' or '_', as `invite` printed it")
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

// ---- joining

/// What a server that wants to join says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Application {
    /// The instance that it wants to join.
    pub instance: InstanceId,
    /// The member that it will speak for.
    pub member: MemberId,
    /// Its own name.
    pub server: ServerId,
    /// Where its peers' door will be.
    pub address: Address,
    /// The subsystems that it will host; none: all that the invitation names.
    pub subsystems: Vec<SubsystemId>,
    /// The invitation's secret.
    pub token: Token,
    /// The key by which it will be known in TLS.
    pub authentication_key: PublicKey,
    /// The key by which the member will seal messages there.
    pub signing_key: PublicKey,
}

/// `host:port`, the host a DNS name or an IP address.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

impl Address {
    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let host_holds = |host: &str| {
            let name = !host.is_empty()
                && host.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                        && !label.starts_with('-')
                });
            let six = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            name || six.is_some_and(|six| six.parse::<std::net::Ipv6Addr>().is_ok())
        };
        let holds = text.len() <= MAX_ADDRESS_BYTES
            && text.rsplit_once(':').is_some_and(|(host, port)| {
                host_holds(host)
                    && port.bytes().all(|byte| byte.is_ascii_digit())
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
        if holds {
            Ok(Self(text.to_owned()))
        } else {
            Err(rule("the address", text, "it is host:port, for example ss1.moj.gov.vn:5500"))
        }
    }
}

impl TryFrom<String> for Address {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Application {
    /// Signs the application with both keys, whose public halves it names.
    pub fn sign(&self, authentication: &SigningKey, signing: &SigningKey) -> wire::JoinRequest {
        Self::signed(self.to_wire(), authentication, signing)
    }

    /// The same, only to ask whether it would be taken. The mark is among what is signed: nobody makes an application of it.
    pub fn sign_dry_run(&self, authentication: &SigningKey, signing: &SigningKey) -> wire::JoinRequest {
        Self::signed(wire::Application { dry_run: true, ..self.to_wire() }, authentication, signing)
    }

    fn signed(application: wire::Application, authentication: &SigningKey, signing: &SigningKey) -> wire::JoinRequest {
        let application = application.encode_to_vec();
        let signed = signed_bytes(purpose::JOIN, &application);
        wire::JoinRequest {
            authentication_proof: authentication.sign(&signed).into(),
            signing_proof: signing.sign(&signed).into(),
            application: application.into(),
        }
    }

    fn to_wire(&self) -> wire::Application {
        wire::Application {
            instance: self.instance.to_string(),
            member: self.member.to_string(),
            server: self.server.to_string(),
            address: self.address.to_string(),
            subsystems: self.subsystems.iter().map(SubsystemId::to_string).collect(),
            token: Bytes::copy_from_slice(self.token.as_bytes()),
            authentication_key: self.authentication_key.to_spki().into(),
            signing_key: self.signing_key.to_spki().into(),
            dry_run: false,
        }
    }
}

/// A request to join, read: well formed, and nothing more is known of it.
#[derive(Debug)]
pub struct ReceivedApplication {
    application: Application,
    dry_run: bool,
    bytes: Bytes,
    authentication_proof: Bytes,
    signing_proof: Bytes,
}

impl ReceivedApplication {
    /// Reads a request to join.
    pub fn parse(request: wire::JoinRequest) -> Result<Self, Malformed> {
        within("the application", request.application.len(), MAX_SIGNED_BYTES)?;
        let read: wire::Application = decode_canonical(&request.application, "Application")?;
        within("the list of subsystems", read.subsystems.len(), MAX_SUBSYSTEMS)?;
        let application = Application {
            instance: read.instance.parse()?,
            member: read.member.parse()?,
            server: read.server.parse()?,
            address: read.address.parse()?,
            subsystems: read.subsystems.iter().map(|each| each.parse()).collect::<Result<_, _>>()?,
            token: Token::from_bytes(
                read.token[..].try_into().map_err(|_| rule("the token", "(not shown)", "it is 32 bytes"))?,
            ),
            authentication_key: key_of("the authentication key", &read.authentication_key)?,
            signing_key: key_of("the signing key", &read.signing_key)?,
        };
        Ok(Self {
            application,
            dry_run: read.dry_run,
            bytes: request.application,
            authentication_proof: request.authentication_proof,
            signing_proof: request.signing_proof,
        })
    }
}

/// A request to join whose applicant holds both keys, and whose parts fit together.
#[derive(Clone, Debug)]
pub struct VerifiedApplication {
    application: Application,
    dry_run: bool,
    digest: Digest,
}

impl VerifiedApplication {
    /// Checks what needs no register: the instance, who belongs to whom, and the proofs of possession.
    pub fn verify(received: ReceivedApplication, instance: &InstanceId) -> Result<Self, Malformed> {
        let application = received.application;
        if application.instance != *instance {
            return Err(Malformed::OtherInstance { theirs: application.instance, ours: instance.clone() });
        }
        belongs(&application.member, instance, &application.server, &application.subsystems)?;
        if application.authentication_key.id() == application.signing_key.id() {
            let id = application.signing_key.id().to_string();
            return Err(rule("the signing key", &id, "it must be another key than the authentication key"));
        }
        let signed = signed_bytes(purpose::JOIN, &received.bytes);
        let holds =
            |key: &PublicKey, proof: &[u8], which| key.verify(&signed, proof).map_err(|_| Malformed::Possession(which));
        holds(&application.authentication_key, &received.authentication_proof, "authentication")?;
        holds(&application.signing_key, &received.signing_proof, "signing")?;
        Ok(Self { digest: Digest::of(&[&received.bytes]), application, dry_run: received.dry_run })
    }

    /// What the applicant says.
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// Whether it is only asked if it would be taken.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// SHA-256 of the application's bytes: by it the applicant asks how its request stands.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

// ---- an admin's commands

/// What an admin orders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Let a server join, once.
    Invite(Invitation),
    /// Grant what a request asks.
    Approve(RequestId),
    /// Refuse what a request asks, and say why.
    Reject(RequestId, Text),
    /// Take a member off the road for a time.
    Suspend(MemberId, Text),
    /// Let a suspended member back.
    Restore(MemberId),
    /// Revoke one key for good, and say why.
    Revoke(Revocation),
    /// Have everybody reach a server elsewhere.
    Move(ServerId, Address),
    /// Send a server into maintenance with what it says to whoever asks it, or, without, bring it back.
    Maintain(ServerId, Option<Text>),
    /// Let a server of its member speak for a subsystem too.
    Host(SubsystemId, ServerId),
    /// Let a server speak for a subsystem no more.
    Unhost(SubsystemId, ServerId),
    /// Remove what is registered, for good, and say why.
    Remove(Registered, Text),
    /// Put a purpose on the instance's list, or change its words.
    SetPurpose(PurposeDocument),
    /// Take a purpose off the list, and say why.
    RemovePurpose(PurposeCode, Text),
    /// Show the purposes of the list.
    ListPurposes,
    /// Carry out what another person ordered: the command with this SHA-256.
    Confirm(Digest),
    /// Show what waits for another person.
    ListProposals,
    /// Show the requests.
    ListRequests,
    /// Show the members.
    ListMembers,
    /// Show what providers told of their grants.
    ListGrants(GrantsWanted),
}

/// Which key is revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// An authentication or a signing key.
    pub key: KeyId,
    /// Why; stands in the audit journal.
    pub reason: Text,
    /// Of a signing key: the last head that it may have signed, where that is known.
    pub last_head: Option<Head>,
}

/// Who is invited.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The member that the server will speak for.
    pub member: MemberId,
    /// The member's name for people; none: it is registered already.
    pub name: Option<Text>,
    /// The server that may join.
    pub server: ServerId,
    /// The subsystems that it may host.
    pub subsystems: Vec<SubsystemId>,
    /// How long the token is good.
    pub valid: Duration,
}

/// The number of a request to join, written `R-1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(pub u64);

impl FromStr for RequestId {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digits = text.strip_prefix("R-").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| rule("the request", text, "it is R- and a number, as `requests` shows it"))
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "R-{}", self.0)
    }
}

impl TryFrom<String> for RequestId {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

/// What a person wrote: 1 to 500 bytes without control characters, so that it cannot forge a line of a log or screen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Text {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let holds = !text.trim().is_empty()
            && text.len() <= MAX_TEXT_BYTES
            && !text.chars().any(|letter| {
                letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
        if holds {
            Ok(Self(text.to_owned()))
        } else {
            Err(rule("the text", text, "it is 1 to 500 bytes, on one line, without control characters"))
        }
    }
}

impl TryFrom<String> for Text {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is registered, and can be removed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Registered {
    /// A member, with its subsystems and servers.
    Member(MemberId),
    /// A server, with what is hosted and signed there.
    Server(ServerId),
    /// A subsystem.
    Subsystem(SubsystemId),
}

impl std::fmt::Display for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(member) => write!(f, "the member {member}"),
            Self::Server(server) => write!(f, "the server {server}"),
            Self::Subsystem(subsystem) => write!(f, "the subsystem {subsystem}"),
        }
    }
}

/// Names a command: 16 random bytes, accepted once.
pub type CommandId = [u8; 16];

/// Signs an order with an admin's key. `id` is drawn at random by the caller.
pub fn sign_command(
    order: &Order,
    instance: &InstanceId,
    id: CommandId,
    time: Time,
    key: &SigningKey,
) -> wire::SignedCommand {
    signed_command(command(order, instance, id, time), key)
}

/// The same, only to ask whether it would be carried out. The mark is among what is signed: nobody makes an order of it.
pub fn sign_dry_run(
    order: &Order,
    instance: &InstanceId,
    id: CommandId,
    time: Time,
    key: &SigningKey,
) -> wire::SignedCommand {
    signed_command(wire::Command { dry_run: true, ..command(order, instance, id, time) }, key)
}

fn command(order: &Order, instance: &InstanceId, id: CommandId, time: Time) -> wire::Command {
    wire::Command {
        instance: instance.to_string(),
        id: Bytes::copy_from_slice(&id),
        time: time.as_millis(),
        order: Some(order.to_wire()),
        dry_run: false,
    }
}

fn signed_command(command: wire::Command, key: &SigningKey) -> wire::SignedCommand {
    let command = command.encode_to_vec();
    let signature = key.sign(&signed_bytes(purpose::COMMAND, &command));
    wire::SignedCommand { command: command.into(), key: key.public().id().to_wire(), signature: signature.into() }
}

/// What the bytes of a command order, whoever signed them: for a person who is to confirm just these.
pub fn ordered_by(command: &[u8]) -> Result<Order, Malformed> {
    within("the command", command.len(), MAX_SIGNED_BYTES)?;
    let read: wire::Command = decode_canonical(command, "Command")?;
    Order::parse(read.order.ok_or_else(|| rule("the order", "", "the command must hold one order"))?)
}

/// A command, read: well formed, and nothing more is known of it.
#[derive(Debug)]
pub struct ReceivedCommand {
    order: Order,
    dry_run: bool,
    instance: InstanceId,
    id: CommandId,
    time: Time,
    key: KeyId,
    bytes: Bytes,
    signature: Bytes,
}

impl ReceivedCommand {
    /// Reads a command.
    pub fn parse(command: wire::SignedCommand) -> Result<Self, Malformed> {
        within("the command", command.command.len(), MAX_SIGNED_BYTES)?;
        let read: wire::Command = decode_canonical(&command.command, "Command")?;
        let wanted = || rule("the order", "", "the command must hold one order that this registry knows");
        Ok(Self {
            order: Order::parse(read.order.ok_or_else(wanted)?)?,
            dry_run: read.dry_run,
            instance: read.instance.parse()?,
            id: read.id[..]
                .try_into()
                .map_err(|_| rule("the command's id", &hex::encode(&read.id), "it is 16 bytes"))?,
            time: Time::from_millis(read.time),
            key: Digest::try_from(&command.key[..])
                .map_err(|_| rule("the admin key's name", &hex::encode(&command.key), "it is 32 bytes"))?,
            bytes: command.command,
            signature: command.signature,
        })
    }

    /// The key that is said to have signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// When it says that it was signed: what a kept command is judged by, long after.
    pub fn time(&self) -> Time {
        self.time
    }
}

/// A command that the holder of this key signed for this instance at about this time. Not yet known to be new.
#[derive(Debug)]
pub struct VerifiedCommand {
    order: Order,
    dry_run: bool,
    id: CommandId,
    time: Time,
    key: KeyId,
}

impl VerifiedCommand {
    /// Checks instance, signature and time.
    pub fn verify(
        received: ReceivedCommand,
        key: &PublicKey,
        instance: &InstanceId,
        now: Time,
    ) -> Result<Self, Malformed> {
        if received.instance != *instance {
            return Err(Malformed::OtherInstance { theirs: received.instance, ours: instance.clone() });
        }
        let signed = signed_bytes(purpose::COMMAND, &received.bytes);
        key.verify(&signed, &received.signature).map_err(|_| Malformed::Signature(received.key))?;
        let distance = received.time.distance(now);
        if distance > COMMAND_WINDOW {
            return Err(Malformed::Time(distance));
        }
        let ReceivedCommand { order, dry_run, id, time, .. } = received;
        Ok(Self { order, dry_run, id, time, key: key.id() })
    }

    /// What is ordered.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Whether it is only asked if it would be carried out.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Its name, accepted once.
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// When it was signed.
    pub fn time(&self) -> Time {
        self.time
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

impl Order {
    /// Whether it changes nothing and so stands in no journal.
    pub fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::ListRequests | Self::ListMembers | Self::ListProposals | Self::ListPurposes | Self::ListGrants(_)
        )
    }

    fn parse(order: wire::command::Order) -> Result<Self, Malformed> {
        use wire::command::Order as Wire;
        Ok(match order {
            Wire::Invite(invite) => Self::Invite(Invitation::parse(invite)?),
            Wire::Approve(approve) => Self::Approve(approve.request.parse()?),
            Wire::Reject(reject) => Self::Reject(reject.request.parse()?, reject.reason.parse()?),
            Wire::Suspend(suspend) => Self::Suspend(suspend.member.parse()?, suspend.reason.parse()?),
            Wire::Restore(restore) => Self::Restore(restore.member.parse()?),
            Wire::Revoke(revoke) => Self::Revoke(Revocation::parse(&revoke)?),
            Wire::Move(it) => Self::Move(it.server.parse()?, it.address.parse()?),
            Wire::Maintain(it) => Self::Maintain(it.server.parse()?, notice(&it.notice)?),
            Wire::Host(it) => Self::Host(it.subsystem.parse()?, it.server.parse()?),
            Wire::Unhost(it) => Self::Unhost(it.subsystem.parse()?, it.server.parse()?),
            Wire::Remove(it) => Self::Remove(Registered::parse(it.what)?, it.reason.parse()?),
            Wire::Confirm(it) => Self::Confirm(
                Digest::try_from(&it.proposal[..])
                    .map_err(|_| rule("the proposal", &hex::encode(&it.proposal), "it is 32 bytes"))?,
            ),
            Wire::SetPurpose(it) => Self::SetPurpose(PurposeDocument::parse(it)?),
            Wire::RemovePurpose(it) => Self::RemovePurpose(it.purpose.parse()?, it.reason.parse()?),
            Wire::ListPurposes(_) => Self::ListPurposes,
            Wire::ListProposals(_) => Self::ListProposals,
            Wire::ListRequests(_) => Self::ListRequests,
            Wire::ListMembers(_) => Self::ListMembers,
            Wire::ListGrants(it) => Self::ListGrants(GrantsWanted::parse(&it)?),
        })
    }

    fn to_wire(&self) -> wire::command::Order {
        use wire::command::Order as Wire;
        match self {
            Self::Invite(invitation) => Wire::Invite(wire::Invite {
                member: invitation.member.to_string(),
                name: invitation.name.as_ref().map(Text::to_string).unwrap_or_default(),
                server: invitation.server.to_string(),
                subsystems: invitation.subsystems.iter().map(SubsystemId::to_string).collect(),
                valid_seconds: invitation.valid.as_secs(),
            }),
            Self::Approve(request) => Wire::Approve(wire::Approve { request: request.to_string() }),
            Self::Reject(request, reason) => {
                Wire::Reject(wire::Reject { request: request.to_string(), reason: reason.to_string() })
            }
            Self::Suspend(member, reason) => {
                Wire::Suspend(wire::Suspend { member: member.to_string(), reason: reason.to_string() })
            }
            Self::Restore(member) => Wire::Restore(wire::Restore { member: member.to_string() }),
            Self::Revoke(revocation) => Wire::Revoke(wire::Revoke {
                key: revocation.key.to_wire(),
                reason: revocation.reason.to_string(),
                last_head: revocation.last_head.map(|head| head.to_text()).unwrap_or_default(),
            }),
            Self::Move(server, address) => {
                Wire::Move(wire::Move { server: server.to_string(), address: address.to_string() })
            }
            Self::Maintain(server, notice) => Wire::Maintain(wire::Maintain {
                server: server.to_string(),
                notice: notice.as_ref().map(Text::to_string).unwrap_or_default(),
            }),
            Self::Host(subsystem, server) => {
                Wire::Host(wire::Host { subsystem: subsystem.to_string(), server: server.to_string() })
            }
            Self::Unhost(subsystem, server) => {
                Wire::Unhost(wire::Unhost { subsystem: subsystem.to_string(), server: server.to_string() })
            }
            Self::Remove(what, reason) => {
                Wire::Remove(wire::Remove { what: Some(what.to_wire()), reason: reason.to_string() })
            }
            Self::Confirm(proposal) => Wire::Confirm(wire::Confirm { proposal: proposal.to_wire() }),
            Self::SetPurpose(purpose) => Wire::SetPurpose(purpose.to_wire()),
            Self::RemovePurpose(purpose, reason) => {
                Wire::RemovePurpose(wire::RemovePurpose { purpose: purpose.to_string(), reason: reason.to_string() })
            }
            Self::ListPurposes => Wire::ListPurposes(wire::ListPurposes {}),
            Self::ListProposals => Wire::ListProposals(wire::ListProposals {}),
            Self::ListRequests => Wire::ListRequests(wire::ListRequests {}),
            Self::ListMembers => Wire::ListMembers(wire::ListMembers {}),
            Self::ListGrants(wanted) => Wire::ListGrants(wanted.to_wire()),
        }
    }
}

impl Registered {
    fn parse(what: Option<wire::remove::What>) -> Result<Self, Malformed> {
        use wire::remove::What as Wire;
        Ok(match what.ok_or_else(|| rule("what is removed", "", "it is a member, a server or a subsystem"))? {
            Wire::Member(member) => Self::Member(member.parse()?),
            Wire::Server(server) => Self::Server(server.parse()?),
            Wire::Subsystem(subsystem) => Self::Subsystem(subsystem.parse()?),
        })
    }

    fn to_wire(&self) -> wire::remove::What {
        use wire::remove::What as Wire;
        match self {
            Self::Member(member) => Wire::Member(member.to_string()),
            Self::Server(server) => Wire::Server(server.to_string()),
            Self::Subsystem(subsystem) => Wire::Subsystem(subsystem.to_string()),
        }
    }
}

/// What a server in maintenance says; none: it is back.
pub(crate) fn notice(text: &str) -> Result<Option<Text>, Malformed> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

impl Revocation {
    fn parse(revoke: &wire::Revoke) -> Result<Self, Malformed> {
        let head = |text: &str| rule("the last head", text, "it is the three lines of a head, as a seal holds them");
        Ok(Self {
            key: Digest::try_from(&revoke.key[..])
                .map_err(|_| rule("the key's name", &hex::encode(&revoke.key), "it is 32 bytes"))?,
            reason: revoke.reason.parse()?,
            last_head: match revoke.last_head.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| head(text))?),
            },
        })
    }
}

impl Invitation {
    /// Longest time that a token is good.
    pub const MAX_VALID: Duration = Duration::from_secs(30 * 24 * 3600);

    fn parse(invite: wire::Invite) -> Result<Self, Malformed> {
        within("the list of subsystems", invite.subsystems.len(), MAX_SUBSYSTEMS)?;
        let valid = Duration::from_secs(invite.valid_seconds);
        if valid.is_zero() || valid > Self::MAX_VALID {
            let seconds = invite.valid_seconds.to_string();
            return Err(rule("the token's validity in seconds", &seconds, "it is 1 second to 30 days"));
        }
        let invitation = Self {
            member: invite.member.parse()?,
            name: if invite.name.is_empty() { None } else { Some(invite.name.parse()?) },
            server: invite.server.parse()?,
            subsystems: invite.subsystems.iter().map(|each| each.parse()).collect::<Result<_, _>>()?,
            valid,
        };
        belongs(&invitation.member, &invitation.member.instance(), &invitation.server, &invitation.subsystems)?;
        Ok(invitation)
    }
}

// ---- shared by both

/// What a key signs: the line that names the purpose, and the bytes.
pub(crate) fn signed_bytes(line: &str, bytes: &[u8]) -> Vec<u8> {
    [line.as_bytes(), bytes].concat()
}

pub(crate) fn within(what: &'static str, length: usize, limit: usize) -> Result<(), Malformed> {
    if length <= limit { Ok(()) } else { Err(Malformed::TooLong { what, length, limit }) }
}

pub(crate) fn key_of(what: &'static str, spki: &[u8]) -> Result<PublicKey, Malformed> {
    PublicKey::from_spki(spki).map_err(|_| rule(what, &hex::encode(spki), "it is a P-256 SubjectPublicKeyInfo in DER"))
}

/// Member, server and subsystems name the same member of this instance; no subsystem twice.
fn belongs(
    member: &MemberId,
    instance: &InstanceId,
    server: &ServerId,
    subsystems: &[SubsystemId],
) -> Result<(), Malformed> {
    if member.instance() != *instance {
        return Err(Malformed::OtherInstance { theirs: member.instance(), ours: instance.clone() });
    }
    if server.owner() != *member {
        return Err(rule("the server", server.as_str(), "its name must begin with its member's"));
    }
    let mut seen = std::collections::BTreeSet::new();
    for subsystem in subsystems {
        if subsystem.member() != *member {
            return Err(rule("the subsystem", subsystem.as_str(), "its name must begin with its member's"));
        }
        if !seen.insert(subsystem) {
            return Err(rule("the subsystem", subsystem.as_str(), "it must be named once"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::TreeName;

    fn instance() -> InstanceId {
        "VN".parse().unwrap()
    }

    fn applied() -> (Application, SigningKey, SigningKey) {
        let (authentication, _) = SigningKey::generate();
        let (signing, _) = SigningKey::generate();
        let application = Application {
            instance: instance(),
            member: "VN/GOV/moj".parse().unwrap(),
            server: "VN/GOV/moj/ss1".parse().unwrap(),
            address: "ss1.moj.example:5500".parse().unwrap(),
            subsystems: vec!["VN/GOV/moj/civil-registry".parse().unwrap()],
            token: Token::from_bytes([7; 32]),
            authentication_key: authentication.public().clone(),
            signing_key: signing.public().clone(),
        };
        (application, authentication, signing)
    }

    fn verify(request: wire::JoinRequest) -> Result<VerifiedApplication, Malformed> {
        VerifiedApplication::verify(ReceivedApplication::parse(request)?, &instance())
    }

    #[test]
    fn an_application_with_both_proofs_is_verified() {
        let (application, authentication, signing) = applied();
        let verified = verify(application.sign(&authentication, &signing)).unwrap();
        assert_eq!(*verified.application(), application);
    }

    #[test]
    fn a_proof_by_another_key_or_over_other_bytes_is_refused() {
        let (application, authentication, signing) = applied();
        let (other, _) = SigningKey::generate();
        assert_eq!(verify(application.sign(&other, &signing)).unwrap_err(), Malformed::Possession("authentication"));
        assert_eq!(verify(application.sign(&authentication, &other)).unwrap_err(), Malformed::Possession("signing"));
        let mut moved = application.clone();
        moved.address = "elsewhere.example:5500".parse().unwrap();
        let mut request = moved.sign(&authentication, &signing);
        let honest = application.sign(&authentication, &signing);
        request.authentication_proof = honest.authentication_proof;
        assert_eq!(verify(request).unwrap_err(), Malformed::Possession("authentication"));
    }

    #[test]
    fn one_key_for_both_purposes_is_refused() {
        let (mut application, authentication, _) = applied();
        application.signing_key = application.authentication_key.clone();
        let error = verify(application.sign(&authentication, &authentication)).unwrap_err();
        assert!(error.to_string().contains("another key"), "{error}");
    }

    #[test]
    fn a_server_or_subsystem_of_another_member_is_refused() {
        let (application, authentication, signing) = applied();
        let changes: [fn(&mut Application); 5] = [
            |it| it.server = "VN/GOV/tax/ss1".parse().unwrap(),
            |it| it.subsystems.push("VN/GOV/tax/portal".parse().unwrap()),
            |it| it.subsystems.push("VN/GOV/moj/civil-registry".parse().unwrap()),
            |it| it.member = "LA/GOV/moj".parse().unwrap(),
            |it| it.instance = "LA".parse().unwrap(),
        ];
        for change in changes {
            let mut changed = application.clone();
            change(&mut changed);
            assert!(verify(changed.sign(&authentication, &signing)).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn a_second_reading_of_an_application_is_refused() {
        let (application, authentication, signing) = applied();
        let mut request = application.sign(&authentication, &signing);
        // Field 15, unknown, one byte long.
        request.application = [&request.application[..], &[0x78, 1]].concat().into();
        assert!(matches!(ReceivedApplication::parse(request), Err(Malformed::NotCanonical(_))));
    }

    #[test]
    fn an_application_has_its_limits() {
        let (application, authentication, signing) = applied();
        let with = |count: usize| {
            let mut application = application.clone();
            application.subsystems = (0..count).map(|n| format!("VN/GOV/moj/s{n}").parse().unwrap()).collect();
            verify(application.sign(&authentication, &signing))
        };
        assert!(with(MAX_SUBSYSTEMS).is_ok());
        assert!(matches!(with(MAX_SUBSYSTEMS + 1), Err(Malformed::TooLong { .. })));
        let mut request = application.sign(&authentication, &signing);
        request.application = vec![0; MAX_SIGNED_BYTES + 1].into();
        assert!(matches!(ReceivedApplication::parse(request), Err(Malformed::TooLong { .. })));
    }

    #[test]
    fn a_token_reads_as_it_is_written_and_is_never_repeated() {
        let token = Token::from_bytes([200; 32]);
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        let error = token.reveal()[..40].parse::<Token>().unwrap_err().to_string();
        assert!(!error.contains(&token.reveal()[5..30]) && error.contains("invite"), "{error}");
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["a:1", "10.0.0.1:65535", "[::1]:5500", "ss-1.moj.gov.vn:5500"] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in
            ["", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "a b:1", "::1:5500", "a..b:1", "-a:1", "a/b:1", "u@h:1"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_cannot_forge_a_line() {
        assert!("Bộ Tư pháp".parse::<Text>().is_ok());
        assert!("a".repeat(MAX_TEXT_BYTES).parse::<Text>().is_ok());
        for bad in [String::new(), " ".into(), "a\nb".into(), "a\u{1b}[2J".into(), "a\u{202e}b".into(), "a".repeat(501)]
        {
            assert!(bad.parse::<Text>().is_err(), "{bad:?}");
        }
    }

    fn orders() -> Vec<Order> {
        let request = RequestId(7);
        vec![
            Order::Invite(Invitation {
                member: "VN/GOV/moj".parse().unwrap(),
                name: Some("Bộ Tư pháp".parse().unwrap()),
                server: "VN/GOV/moj/ss1".parse().unwrap(),
                subsystems: vec!["VN/GOV/moj/civil-registry".parse().unwrap()],
                valid: Duration::from_secs(60),
            }),
            Order::Approve(request),
            Order::Reject(request, "no mandate".parse().unwrap()),
            Order::Suspend("VN/GOV/moj".parse().unwrap(), "key lost".parse().unwrap()),
            Order::Restore("VN/GOV/moj".parse().unwrap()),
            Order::Revoke(Revocation {
                key: Digest::of(&[b"a key"]),
                reason: "stolen".parse().unwrap(),
                last_head: Some(Head { tree: TreeName(Digest::of(&[b"tree"])), size: 7, root: Digest::of(&[b"root"]) }),
            }),
            Order::Revoke(Revocation {
                key: Digest::of(&[b"another"]),
                reason: "lost".parse().unwrap(),
                last_head: None,
            }),
            Order::Move("VN/GOV/moj/ss1".parse().unwrap(), "new.moj.gov.vn:5500".parse().unwrap()),
            Order::Maintain("VN/GOV/moj/ss1".parse().unwrap(), Some("back at noon".parse().unwrap())),
            Order::Maintain("VN/GOV/moj/ss1".parse().unwrap(), None),
            Order::Host("VN/GOV/moj/births".parse().unwrap(), "VN/GOV/moj/ss2".parse().unwrap()),
            Order::Unhost("VN/GOV/moj/births".parse().unwrap(), "VN/GOV/moj/ss2".parse().unwrap()),
            Order::Remove(Registered::Member("VN/GOV/moj".parse().unwrap()), "merged".parse().unwrap()),
            Order::Remove(Registered::Server("VN/GOV/moj/ss1".parse().unwrap()), "old".parse().unwrap()),
            Order::Remove(Registered::Subsystem("VN/GOV/moj/births".parse().unwrap()), "old".parse().unwrap()),
            Order::SetPurpose(PurposeDocument {
                purpose: "birth-registration".parse().unwrap(),
                en: "To register a birth".into(),
                vi: "Đăng ký khai sinh".into(),
            }),
            Order::RemovePurpose("birth-registration".parse().unwrap(), "no law".parse().unwrap()),
            Order::ListPurposes,
            Order::Confirm(Digest::of(&[b"a command"])),
            Order::ListProposals,
            Order::ListRequests,
            Order::ListMembers,
            Order::ListGrants(GrantsWanted::default()),
            Order::ListGrants(GrantsWanted {
                provider: Some("VN/GOV/moj".parse().unwrap()),
                consumer: Some("VN/GOV/portal/one-stop".parse().unwrap()),
                purpose: Some("birth-registration".parse().unwrap()),
                expiring: true,
                unused: true,
                over: true,
            }),
        ]
    }

    #[test]
    fn a_command_reads_as_it_was_signed() {
        let (key, _) = SigningKey::generate();
        let now = Time::from_millis(1_000_000_000);
        for order in orders() {
            let received = ReceivedCommand::parse(sign_command(&order, &instance(), [1; 16], now, &key)).unwrap();
            let verified = VerifiedCommand::verify(received, key.public(), &instance(), now).unwrap();
            assert_eq!(*verified.order(), order);
            assert!(!verified.is_dry_run());
            let received = ReceivedCommand::parse(sign_dry_run(&order, &instance(), [1; 16], now, &key)).unwrap();
            let verified = VerifiedCommand::verify(received, key.public(), &instance(), now).unwrap();
            assert!(verified.is_dry_run() && *verified.order() == order);
        }
    }

    #[test]
    fn an_application_that_only_asks_is_known_by_its_mark_and_is_none_without_it() {
        let (application, authentication, signing) = applied();
        let asks = application.sign_dry_run(&authentication, &signing);
        assert!(verify(asks.clone()).unwrap().is_dry_run());
        let applies = application.sign(&authentication, &signing);
        assert!(!verify(applies.clone()).unwrap().is_dry_run());
        let stripped = wire::JoinRequest { application: applies.application, ..asks };
        assert!(matches!(verify(stripped), Err(Malformed::Possession(_))));
    }

    #[test]
    fn a_command_of_another_key_instance_or_time_is_refused() {
        let (key, _) = SigningKey::generate();
        let (other, _) = SigningKey::generate();
        let now = Time::from_millis(1_000_000_000);
        let signed =
            || ReceivedCommand::parse(sign_command(&Order::ListMembers, &instance(), [1; 16], now, &key)).unwrap();
        let verify = |key: &SigningKey, instance: &str, now| {
            VerifiedCommand::verify(signed(), key.public(), &instance.parse().unwrap(), now).map(|_| ())
        };
        assert!(matches!(verify(&other, "VN", now), Err(Malformed::Signature(_))));
        assert!(matches!(verify(&key, "LA", now), Err(Malformed::OtherInstance { .. })));
        let edge = now.plus(COMMAND_WINDOW);
        assert_eq!(verify(&key, "VN", edge), Ok(()));
        assert!(matches!(verify(&key, "VN", edge.plus(Duration::from_millis(1))), Err(Malformed::Time(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = ReceivedApplication::parse(wire::JoinRequest { application: bytes.clone(), ..Default::default() });
            let _ = ReceivedCommand::parse(wire::SignedCommand { command: bytes.clone(), key: bytes, ..Default::default() });
        }

        #[test]
        fn a_request_with_a_byte_changed_never_panics(at in any::<proptest::sample::Index>(), to in any::<u8>()) {
            let changed = |bytes: &Bytes| {
                let mut bytes = bytes.to_vec();
                let at = at.index(bytes.len());
                let same = bytes[at] == to;
                bytes[at] = to;
                (Bytes::from(bytes), same)
            };
            let (application, authentication, signing) = applied();
            let mut request = application.sign(&authentication, &signing);
            let (bytes, same) = changed(&request.application);
            request.application = bytes;
            prop_assert_eq!(verify(request).is_ok(), same);
            let now = Time::from_millis(1_800_000_000_000);
            let mut command = sign_command(&Order::ListMembers, &instance(), [1; 16], now, &signing);
            let (bytes, same) = changed(&command.command);
            command.command = bytes;
            let verified = ReceivedCommand::parse(command)
                .and_then(|received| VerifiedCommand::verify(received, signing.public(), &instance(), now));
            prop_assert_eq!(verified.is_ok(), same);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,80}") {
            let _ = (text.parse::<Token>(), text.parse::<Address>(), text.parse::<RequestId>(), text.parse::<Text>());
        }
    }
}
