//! The register: who is invited, who applied, who is a member. The state and all of its rules, in one place, pure.
//!
//! It changes by entries only. [`Register::admit`] says whether an entry may follow, [`Register::apply`] makes it so;
//! between the two the entry becomes durable in the journal. Rebuilding the register after a start is the same two
//! calls. Nothing here reads a clock, a file or a socket.

mod foresight;
mod listed;
mod overseen;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalogue::once::Asked as FieldsAsked;
use command_line::did_you_mean;
use proto::catalogue::{Audience, ServiceForm, ServiceName, Version};
use proto::certificate::{Authentication, Authority, NotACertificate, Signing};
use proto::digest::{Digest, NotADigest};
use proto::global_configuration::Standing;
use proto::global_configuration::document::{
    Der, InstanceDocument, MAX_AUTHENTICATION, MAX_SERVERS, MAX_SIGNING, MAX_SUBSYSTEMS, MemberDocument,
    ServerDocument, SigningDocument, SubsystemDocument, TimestampingDocument,
};
use proto::global_configuration::ledger::{Genesis, Ledger};
use proto::head::Head;
use proto::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use proto::oversight::Checked;
use proto::purposes::{MAX_PURPOSES, PurposeCode, PurposeDocument};
use proto::registration::{
    Address, COMMAND_WINDOW, CommandId, Invitation, Malformed, Order, ReceivedCommand, Registered, RequestId, Text,
    VerifiedCommand,
};
use proto::server_request::{
    ENDED_AT_MOST, REPLACED_AFTER, ReceivedServerRequest, ServerRequest, VerifiedServerRequest, Wish,
};
use proto::signature::{KeyId, PublicKey};
use proto::time::Time;
use proto::wire::registry::{SignedCommand, SignedServerRequest};
use serde::{Deserialize, Serialize};
use unicode_security::confusable_detection::skeleton;

use crate::persons::{Appointed, Person, Persons, Role, may_order, needs_all};
use crate::publish::RevokedKey;

pub(crate) use listed::signed as listed_entries;
pub(crate) use overseen::reported;
pub use overseen::{EndedGrant, MAX_GRANT_BYTES_OF_PROVIDER, MAX_GRANTS_OF_PROVIDER, Overseen};
pub use refused::Refused;

/// Most members of one instance.
pub const MAX_MEMBERS: usize = 100_000;
/// Most invitations that are open at a time.
pub const MAX_OPEN_INVITATIONS: usize = 10_000;
/// Most signing keys of one member at one server that may sign at a time: the one in use, and those that wait.
pub const MAX_SIGNING_AT_ONCE: usize = 4;
/// Most revoked keys of which everybody is told.
pub const MAX_REVOKED: usize = 50_000;
/// Most proposals that wait for other persons at a time.
pub const MAX_PROPOSALS: usize = 1_000;
/// How long a proposal waits for other persons.
pub const PROPOSAL_WAITS: Duration = Duration::from_secs(24 * 3600);
/// A command's id is remembered twice as long as a command is fresh, so that no order of clocks lets one in again.
const COMMAND_REMEMBERED: Duration = Duration::from_secs(2 * COMMAND_WINDOW.as_secs());

/// One line of the register's history, as the journal keeps it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// By which admin's command; none: by an applicant, or by the registry itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// By which request of which server; none: not by a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// From which address it was asked, or by whom on the registry's own machine; none: the registry did it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of what needs more than one person: the SHA-256 of the command that proposed it, which `by` is the last one to confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirms: Option<Hex>,
    /// What.
    pub event: Event,
}

impl Entry {
    /// What happened, by an admin's command or by the registry itself.
    pub fn of(at: u64, by: Option<By>, event: Event) -> Self {
        Self { at, by, asked: None, from: None, confirms: None, event }
    }
}

/// The request of a registered server that an entry carries out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The server.
    pub server: ServerId,
    /// The key that signed the request.
    pub key: Hex,
    /// The request's id, in hexadecimal.
    pub request: String,
    /// The request as it was signed: whoever reads the journal need not believe the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRequest>,
}

/// A request's bytes, the signature over them, and the new key's proof where it brings one, base64.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest {
    /// The canonical bytes of `ServerRequest` (PROTOCOL.md 14).
    pub request: String,
    /// Over "causeway/v1/server\n" and them, by the key that asks.
    pub signature: String,
    /// The same by the new key; empty where it brings none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proof: String,
}

impl Asked {
    /// The server, its key, and the request that the key signed.
    pub fn new(server: ServerId, key: KeyId, request: CommandId) -> Self {
        Self { server, key: Hex(key), request: hex::encode(request), signed: None }
    }

    /// The same, with the request as it came.
    pub fn signed(self, request: &SignedServerRequest) -> Self {
        let signed = SignedRequest {
            request: STANDARD.encode(&request.request),
            signature: STANDARD.encode(&request.signature),
            proof: STANDARD.encode(&request.proof),
        };
        Self { signed: Some(signed), ..self }
    }

    /// Checks that the server asked with this key for just this event. None: the entry is of a version that kept no request.
    pub fn verify(&self, key: &PublicKey, instance: &InstanceId, event: &Event) -> Option<Result<(), NotOrdered>> {
        let signed = self.signed.as_ref()?;
        let check = || {
            let decode = |text: &str| STANDARD.decode(text).map(Bytes::from).map_err(|_| NotOrdered::Unreadable);
            let signed = SignedServerRequest {
                request: decode(&signed.request)?,
                key: self.key.0.to_wire(),
                signature: decode(&signed.signature)?,
                proof: decode(&signed.proof)?,
            };
            let received = ReceivedServerRequest::parse(signed, instance)?;
            let then = received.request().time;
            let verified = VerifiedServerRequest::verify(received, key, then)?;
            let request = verified.request();
            let is_it = hex::encode(request.id) == self.request && request.server == self.server;
            if is_it && event.grants(request) { Ok(()) } else { Err(NotOrdered::Another) }
        };
        Some(check())
    }
}

/// The command that an entry carries out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// The admin's key.
    pub admin: Hex,
    /// The command's id, in hexadecimal.
    pub command: String,
    /// The command as it was signed: whoever reads the journal need not believe the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedOrder>,
}

/// A command's bytes and the admin's signature over them, base64.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedOrder {
    /// The canonical bytes of `Command` (PROTOCOL.md 12).
    pub command: String,
    /// Over "causeway/v1/command\n" and them.
    pub signature: String,
}

impl By {
    /// The admin's key and the command that it signed.
    pub fn new(admin: KeyId, command: CommandId) -> Self {
        Self { admin: Hex(admin), command: hex::encode(command), signed: None }
    }

    /// The same, with the command as it came.
    pub fn signed(self, command: &[u8], signature: &[u8]) -> Self {
        let signed = SignedOrder { command: STANDARD.encode(command), signature: STANDARD.encode(signature) };
        Self { signed: Some(signed), ..self }
    }

    /// Checks that the admin with this key signed just this event. None: the entry is of a version that kept no command.
    pub fn verify(&self, key: &PublicKey, instance: &InstanceId, event: &Event) -> Option<Result<(), NotOrdered>> {
        let order = self.order(key, instance)?;
        let is_it = |order: Order| if event.carries_out(&order) { Ok(()) } else { Err(NotOrdered::Another) };
        Some(order.and_then(is_it))
    }

    /// Checks that the admin with this key confirmed this command.
    pub fn confirms(&self, key: &PublicKey, instance: &InstanceId, command: Hex) -> Result<(), NotOrdered> {
        let order = self.order(key, instance).ok_or(NotOrdered::Unreadable)??;
        if order == Order::Confirm(command.0) { Ok(()) } else { Err(NotOrdered::Another) }
    }

    /// The command's bytes, where they were kept.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.signed.as_ref()?.command).ok()
    }

    /// SHA-256 of the command's bytes, where they were kept.
    pub fn digest(&self) -> Option<Hex> {
        Some(Hex(Digest::of(&[&self.bytes()?])))
    }

    /// What the admin with this key signed.
    pub fn order(&self, key: &PublicKey, instance: &InstanceId) -> Option<Result<Order, NotOrdered>> {
        let signed = self.signed.as_ref()?;
        let check = || {
            let decode = |text: &str| STANDARD.decode(text).map(Bytes::from).map_err(|_| NotOrdered::Unreadable);
            let (command, signature) = (decode(&signed.command)?, decode(&signed.signature)?);
            let received = ReceivedCommand::parse(SignedCommand { command, key: self.admin.0.to_wire(), signature })?;
            let then = received.time();
            let verified = VerifiedCommand::verify(received, key, instance, then)?;
            let is_it = hex::encode(verified.id()) == self.command && !verified.is_dry_run();
            if is_it { Ok(verified.order().clone()) } else { Err(NotOrdered::Another) }
        };
        Some(check())
    }
}

/// Why a kept command does not show that an admin ordered what the entry says.
#[derive(Debug, thiserror::Error)]
pub enum NotOrdered {
    /// It is no base64.
    #[error("the command that is kept with it cannot be read")]
    Unreadable,
    /// It is no command, or not signed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It orders something else.
    #[error("the command that is kept with it orders something else")]
    Another,
}

/// What can happen to the register.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Event {
    /// The instance begins, with its first admin.
    Founded {
        /// The instance and its authorities.
        instance: InstanceDocument,
        /// Who may command first.
        admin: Text,
        /// The DER SubjectPublicKeyInfo of that admin's key.
        key: Der,
    },
    /// A server may join, once.
    Invited {
        /// The hash of the token.
        token: Hex,
        /// Who, and for how long.
        invitation: Invitation,
    },
    /// A server asked to join; its token is used with this very entry.
    Applied {
        /// The number that the request gets.
        request: RequestId,
        /// The hash of the token.
        token: Hex,
        /// What it asks.
        application: Applied,
    },
    /// A request was granted.
    Approved {
        /// Which.
        request: RequestId,
        /// The server's authentication certificate.
        authentication: Der,
        /// The member's signing certificate at that server.
        signing: Der,
    },
    /// A request was refused.
    Rejected {
        /// Which.
        request: RequestId,
        /// Why; the applicant reads it.
        reason: Text,
    },
    /// A member is off the road for a time.
    Suspended {
        /// Which.
        member: MemberId,
        /// Why.
        reason: Text,
    },
    /// A suspended member is back.
    Restored {
        /// Which.
        member: MemberId,
    },
    /// A key is revoked, for good (PROTOCOL.md 13). The same again may only add the last head, found out later.
    Revoked {
        /// Its name.
        key: Hex,
        /// Why.
        reason: Text,
        /// Of a signing key: the text of the last head that it may have signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_head: Option<String>,
    },
    /// A server renewed a key: another one is certified for the same use, beside those that are.
    Renewed {
        /// The use.
        for_what: KeyUse,
        /// The new key's certificate.
        certificate: Der,
    },
    /// A server is reached elsewhere.
    Moved {
        /// Which.
        server: ServerId,
        /// Its peers' door from now on.
        address: Address,
    },
    /// A server goes into maintenance, or comes back from it.
    Maintained {
        /// Which.
        server: ServerId,
        /// What its peers are told; none: it is back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notice: Option<Text>,
    },
    /// A server hosts a subsystem from now on.
    Hosted {
        /// The subsystem; it is new, or known at other servers.
        subsystem: SubsystemId,
        /// The server.
        server: ServerId,
    },
    /// A server hosts a subsystem no more. The subsystem stays registered.
    Unhosted {
        /// The subsystem.
        subsystem: SubsystemId,
        /// The server.
        server: ServerId,
    },
    /// A member lists services of a subsystem in the catalogue (PROTOCOL.md 17).
    Listed {
        /// The signed entries, base64.
        entries: Vec<String>,
        /// Their descriptor set, base64; none: an entry before had the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        descriptors: Option<String>,
        /// How much of what each of them asks for was reused, and how much asked again, when it was listed; none: of a version
        /// that did not know elements.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        asked: Vec<FieldsAsked>,
    },
    /// A provider's server told of its grants, and something of it was new (PROTOCOL.md 20).
    GrantsTold {
        /// The signed report, base64.
        report: String,
        /// Signatures of its documents that were checked before the desk was taken. Nobody records that.
        #[serde(skip)]
        checked: Checked,
    },
    /// A member asks to leave. It stays until it is removed.
    Leaving {
        /// Which.
        member: MemberId,
        /// Why.
        reason: Text,
    },
    /// Somebody or something is registered no more.
    Removed {
        /// What.
        what: Registered,
        /// Why.
        reason: Text,
    },
    /// These timestamping authorities are approved from here on, and no others.
    Timestamping {
        /// In the order in which servers ask them.
        approved: Vec<TimestampingDocument>,
    },
    /// A purpose is on the instance's list from here on, in these words.
    PurposeSet {
        /// The purpose.
        purpose: PurposeDocument,
    },
    /// A purpose is on the list no more.
    PurposeRemoved {
        /// Its code.
        purpose: PurposeCode,
        /// Why.
        reason: Text,
    },
    /// The signed root states who may order what.
    Governed {
        /// The root's version.
        root: u64,
        /// SHA-256 of the instance's first root.
        anchor: Hex,
        /// Who.
        persons: Persons,
    },
    /// Somebody ordered what needs other persons too: it waits for them.
    Proposed {
        /// What people call it.
        number: u64,
        /// Until when it waits, in milliseconds since 1970.
        expires: u64,
    },
    /// Another person confirmed what waits, and still another one is needed.
    Confirmed {
        /// SHA-256 of the command that proposed it.
        command: Hex,
    },
    /// The registry started with these settings and keys.
    Started {
        /// The program's version.
        program: String,
        /// How they differ from those of the start before.
        changed: Vec<Changed>,
    },
    /// Somebody on the registry's own machine began a backup: this entry is in it.
    BackedUp {
        /// Whether with the keys that sign.
        signing_keys: bool,
    },
    /// After the registry was put back from a backup: what was published of a member after the backup, and so was told to
    /// everybody, counts.
    Adopted {
        /// The version that said so.
        version: u64,
        /// The member.
        member: MemberId,
        /// What it said; none: that there is no such member.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        document: Option<Box<MemberDocument>>,
    },
    /// The same of a key that was revoked after the backup.
    AdoptedRevocation {
        /// The version that said so.
        version: u64,
        /// The key.
        key: Hex,
        /// Of a signing key: the text of the last head that it may have signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_head: Option<String>,
    },
    /// The same of the ledger of what was published: leaves that come after those that the journal has. Each entry has some of
    /// them, in their order.
    AdoptedLeaves {
        /// How their ledger began: the one that the journal has, or one that follows it.
        genesis: Genesis,
        /// The leaves; none, where a ledger follows of which they are not at hand.
        leaves: Vec<Hex>,
    },
    /// The registry was put back from a backup. What was decided between the two and not published is not in this journal.
    PutBack {
        /// From which backup.
        backup: String,
        /// The version that was taken up: what was published up to it counts.
        taken_up: u64,
        /// No version up to this one is ever signed again: one of them may have been signed since.
        passes_over: u64,
    },
    /// A version of the configuration was signed. It is given to nobody before this entry is durable.
    Published {
        /// The version.
        version: u64,
        /// SHA-256 of its timestamp document.
        timestamp: Hex,
        /// The checkpoint of the ledger with this version as its last leaf. None in entries of a registry that kept no ledger.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkpoint: Option<String>,
    },
}

/// A setting, or the name of a key, that changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// Which.
    pub setting: String,
    /// What it was; none: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is; none: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Event {
    /// Whether it is what the order asks for, and nothing else.
    fn carries_out(&self, order: &Order) -> bool {
        match (order, self) {
            (Order::Invite(asked), Self::Invited { invitation, .. }) => asked == invitation,
            (Order::Approve(asked), Self::Approved { request, .. }) => asked == request,
            (Order::Reject(asked, why), Self::Rejected { request, reason }) => asked == request && why == reason,
            (Order::Suspend(asked, why), Self::Suspended { member, reason }) => asked == member && why == reason,
            (Order::Restore(asked), Self::Restored { member }) => asked == member,
            (Order::Revoke(asked), Self::Revoked { key, reason, last_head }) => {
                let head = asked.last_head.map(|head| head.to_text());
                asked.key == key.0 && asked.reason == *reason && head == *last_head
            }
            (Order::Move(asked, to), Self::Moved { server, address }) => asked == server && to == address,
            (Order::Maintain(asked, words), Self::Maintained { server, notice }) => asked == server && words == notice,
            (Order::Host(asked, at), Self::Hosted { subsystem, server })
            | (Order::Unhost(asked, at), Self::Unhosted { subsystem, server }) => asked == subsystem && at == server,
            (Order::Remove(asked, why), Self::Removed { what, reason }) => asked == what && why == reason,
            (Order::SetPurpose(asked), Self::PurposeSet { purpose }) => asked == purpose,
            (Order::RemovePurpose(asked, why), Self::PurposeRemoved { purpose, reason }) => {
                asked == purpose && why == reason
            }
            (order, Self::Proposed { .. }) => needs_all(order),
            (Order::Confirm(asked), Self::Confirmed { command }) => *asked == command.0,
            _ => false,
        }
    }

    /// Whether only a person's order makes it so.
    pub(crate) fn is_ordered(&self) -> bool {
        !self.ordering_roles().is_empty()
    }

    /// The roles that may order it; none: it is nobody's order. A proposal's are those of what it proposes.
    fn ordering_roles(&self) -> &'static [Role] {
        match self {
            Self::Invited { .. } | Self::Approved { .. } | Self::Hosted { .. } | Self::Unhosted { .. } => {
                &[Role::Registrar]
            }
            Self::Removed { .. } | Self::Moved { .. } | Self::Maintained { .. } => &[Role::Registrar],
            Self::PurposeSet { .. } | Self::PurposeRemoved { .. } => &[Role::Registrar],
            Self::Suspended { .. } | Self::Revoked { .. } => &[Role::SecurityOfficer],
            Self::Rejected { .. } | Self::Restored { .. } => &[Role::Registrar, Role::SecurityOfficer],
            Self::Proposed { .. } | Self::Confirmed { .. } => &[Role::Registrar, Role::SecurityOfficer],
            _ => &[],
        }
    }

    /// Whether it needs as many persons as the root states.
    fn needs_all(&self) -> bool {
        matches!(
            self,
            Self::Approved { .. }
                | Self::Hosted { .. }
                | Self::Restored { .. }
                | Self::Removed { .. }
                | Self::PurposeSet { .. }
                | Self::PurposeRemoved { .. }
        )
    }

    /// Whether it is what the server asks for itself, and nothing else. Of a certificate: that it is of the key that was sent.
    fn grants(&self, request: &ServerRequest) -> bool {
        let certified = |certificate: &Der, key: &PublicKey| is_of(certificate, key.id());
        let at = |for_what: &KeyUse| for_what.server() == Some(&request.server);
        match (&request.wish, self) {
            (Wish::RenewAuthentication(key), Self::Renewed { for_what, certificate }) => {
                at(for_what) && matches!(for_what, KeyUse::Authentication { .. }) && certified(certificate, key)
            }
            (Wish::RenewSigning(asked, key), Self::Renewed { for_what, certificate }) => {
                let of_member = matches!(for_what, KeyUse::Signing { member, .. } if member == asked);
                at(for_what) && of_member && certified(certificate, key)
            }
            (Wish::Move(to), Self::Moved { server, address }) => *server == request.server && to == address,
            (Wish::Maintain(words), Self::Maintained { server, notice }) => {
                *server == request.server && words == notice
            }
            (Wish::Leave(asked, why), Self::Leaving { member, reason }) => asked == member && why == reason,
            _ => false,
        }
    }
}

/// What an applicant asks, as the register keeps it: without the token.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// SHA-256 of the application's bytes.
    pub digest: Hex,
    /// The member.
    pub member: MemberId,
    /// The server.
    pub server: ServerId,
    /// Its peers' door.
    pub address: Address,
    /// The subsystems that it will host.
    pub subsystems: Vec<SubsystemId>,
    /// DER SubjectPublicKeyInfo.
    pub authentication_key: Der,
    /// DER SubjectPublicKeyInfo.
    pub signing_key: Der,
}

/// What a key is for, and at which server it is held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum KeyUse {
    /// The server is known by it in TLS.
    Authentication {
        /// The server.
        server: ServerId,
    },
    /// The member seals with it at the server.
    Signing {
        /// The member.
        member: MemberId,
        /// The server.
        server: ServerId,
    },
    /// Of a registration that was lost with a part of the journal.
    Forgotten,
}

impl KeyUse {
    /// The server at which the key is held, if that is known.
    pub fn server(&self) -> Option<&ServerId> {
        match self {
            Self::Authentication { server } | Self::Signing { server, .. } => Some(server),
            Self::Forgotten => None,
        }
    }

    /// The key of a certificate for this use, and the certificate's last instant.
    pub fn read(&self, certificate: &Der) -> Result<(PublicKey, Time), NotACertificate> {
        let other =
            || NotACertificate::Profile { profile: "a certificate for this use", rule: "it names another holder" };
        match self {
            Self::Authentication { server } => {
                let read = Authentication::parse(certificate.as_bytes())?;
                if read.server == *server { Ok((read.key, read.not_after)) } else { Err(other()) }
            }
            Self::Signing { member, server } => {
                let read = Signing::parse(certificate.as_bytes())?;
                let same = read.member == *member && read.server == *server;
                if same { Ok((read.key, read.not_after)) } else { Err(other()) }
            }
            Self::Forgotten => Err(other()),
        }
    }
}

/// The certificate has ended, or another took its key's place.
fn has_ended(listed: &SigningDocument, at: u64) -> bool {
    let not_after = Signing::parse(listed.certificate.as_bytes()).map_or(0, |read| read.not_after.as_millis());
    listed.until.map_or(not_after, |until| until.min(not_after)) < at
}

fn is_of(certificate: &Der, key: KeyId) -> bool {
    proto::certificate::public_key(certificate.as_bytes()).is_ok_and(|read| read.id() == key)
}

/// A digest as text: a key of a JSON map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Digest);

impl TryFrom<String> for Hex {
    type Error = NotADigest;
    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse().map(Hex)
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        hex.0.to_string()
    }
}

/// An entry that may follow in the register as it is now. Only [`Register::admit`] makes one.
#[derive(Debug)]
pub struct Admitted(Entry);

impl Admitted {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.0
    }
}

/// An invitation as registered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Invited {
    invitation: Invitation,
    expires: u64,
    used_by: Option<RequestId>,
}

/// A request to join as registered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What it asks.
    pub application: Applied,
    /// The name of the member for people, if the member is new.
    pub name: Option<Text>,
    /// When it came, in milliseconds since 1970.
    pub received: u64,
    /// What became of it.
    pub state: State,
}

/// What became of a request: waiting, then one of the two others, for good.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// An admin has to decide.
    Waiting,
    /// Granted.
    Approved {
        /// The server's authentication certificate.
        authentication: Der,
        /// The member's signing certificate.
        signing: Der,
    },
    /// Refused.
    Rejected {
        /// Why.
        reason: Text,
    },
}

impl State {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// A key that is registered or applied for: it has one holder and one use.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    for_what: KeyUse,
    /// The request that waits with it; none: it is registered.
    waiting: Option<RequestId>,
}

/// A key that was revoked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// What it was for.
    pub for_what: KeyUse,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Why.
    pub reason: Text,
    /// The text of the last head that it may have signed.
    pub last_head: Option<String>,
    /// When its certificate ends.
    pub not_after: u64,
}

/// Versions that may have been signed and are not in the journal, since it was put back from a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// The last one that the journal in the backup knew.
    pub known: u64,
    /// The one that was taken up: what came later is forgotten.
    pub taken_up: u64,
    /// The last one that is passed over.
    pub passes_over: u64,
}

/// An admin as registered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Admin {
    name: Text,
    key: Der,
    /// What an older registry's one admin might do: everything.
    #[serde(default = "all_roles")]
    roles: BTreeSet<Role>,
}

fn all_roles() -> BTreeSet<Role> {
    Appointed::with_all_roles("admin".parse().expect("a text")).roles
}

/// Who may order what, as a root stated it last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governed {
    /// The root's version.
    pub root: u64,
    /// SHA-256 of the instance's first root.
    pub anchor: Hex,
    /// Who.
    pub persons: Persons,
}

/// An order that waits for other persons.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// What people call it.
    pub number: u64,
    /// Who ordered it, then who confirmed it.
    pub by: Vec<By>,
    /// Until when it waits, in milliseconds since 1970.
    pub expires: u64,
}

/// A service that a subsystem lists. Its entry and its descriptors are found by their names.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its version.
    pub version: Version,
    /// What describes it.
    #[serde(default, skip_serializing_if = "ServiceForm::is_grpc")]
    pub form: ServiceForm,
    /// SHA-256 of the signed entry.
    pub entry: Hex,
    /// SHA-256 of the descriptor set or the OpenAPI document.
    pub descriptors: Hex,
    /// Who may ask for it.
    pub open_to: BTreeSet<Audience>,
    /// What its versions asked for, when each was listed, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<AskedThen>,
}

/// What a version of a service asked for when it was listed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedThen {
    /// The version.
    pub version: Version,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How much was reused, and how much asked again.
    pub asked: FieldsAsked,
}

/// Who is who. Serialised as the view that saves reading the whole journal.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    instance: Option<InstanceDocument>,
    admins: BTreeMap<Hex, Admin>,
    members: BTreeMap<MemberId, MemberDocument>,
    invitations: BTreeMap<Hex, Invited>,
    requests: BTreeMap<RequestId, Request>,
    /// Keys that are listed in a member's document, or wait with a request.
    keys: BTreeMap<Hex, Held>,
    /// Keys that were revoked: never again anybody's.
    revoked: BTreeMap<Hex, Revoked>,
    /// Members that asked to leave, and why.
    #[serde(default)]
    leaving: BTreeMap<MemberId, Text>,
    /// What was removed: nobody ever gets these names again, for others may still have grants for who had them.
    #[serde(default)]
    removed: BTreeSet<Registered>,
    /// Who may order what; none: the one admin of a version that had no roles.
    #[serde(default)]
    governed: Option<Governed>,
    /// What waits for other persons, by the SHA-256 of the command.
    #[serde(default)]
    proposals: BTreeMap<Hex, Proposal>,
    /// How many proposals there were.
    #[serde(default)]
    proposed: u64,
    /// Of a key that was certified because another one asked for it: that other one.
    #[serde(default)]
    begotten: BTreeMap<Hex, Hex>,
    /// Ids of commands that changed something lately, and when.
    commands: BTreeMap<String, u64>,
    published: u64,
    /// What was published, since the registry keeps a ledger of it.
    #[serde(default)]
    ledger: Option<Ledger>,
    last: u64,
    /// When the registry was put back from a backup, the last time.
    #[serde(default)]
    put_back: u64,
    /// What each restore lost.
    #[serde(default)]
    lost: Vec<Lost>,
    /// What it was started with, the last time.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// What each subsystem lists.
    #[serde(default)]
    catalogue: BTreeMap<SubsystemId, BTreeMap<ServiceName, Listed>>,
    /// What providers told of their grants, by the SHA-256 of the grant.
    #[serde(default)]
    overseen: BTreeMap<Hex, Overseen>,
}

impl Register {
    // ---- what it says

    /// The instance and its authorities.
    pub fn instance(&self) -> Option<&InstanceDocument> {
        self.instance.as_ref()
    }

    /// The admin's key of this name.
    pub fn admin(&self, key: KeyId) -> Result<PublicKey, Refused> {
        let admin = self.admins.get(&Hex(key)).ok_or(Refused::NoAdmin(key))?;
        PublicKey::from_spki(admin.key.as_bytes()).map_err(|_| Refused::NoAdmin(key))
    }

    /// Who may order what, as the root states it.
    pub fn governed(&self) -> Option<&Governed> {
        self.governed.as_ref()
    }

    /// How many persons what matters needs.
    pub fn persons_needed(&self) -> usize {
        self.governed.as_ref().map_or(1, |governed| governed.persons.threshold)
    }

    /// Refuses an admin who has none of these roles.
    pub fn has_role(&self, key: KeyId, roles: &[Role]) -> Result<(), Refused> {
        let admin = self.admins.get(&Hex(key)).ok_or(Refused::NoAdmin(key))?;
        if roles.iter().any(|role| admin.roles.contains(role)) {
            return Ok(());
        }
        let words =
            |roles: &mut dyn Iterator<Item = &Role>| roles.map(|role| role.word()).collect::<Vec<_>>().join(" or ");
        Err(Refused::NotTheRole {
            name: admin.name.clone(),
            has: words(&mut admin.roles.iter()),
            wanted: words(&mut roles.iter()),
        })
    }

    /// What waits for other persons, the oldest first, by the SHA-256 of the command.
    pub fn proposals(&self, now: Time) -> Vec<(Hex, &Proposal)> {
        let waits = |(_, proposal): &(&Hex, &Proposal)| now.as_millis() < proposal.expires;
        let mut waiting: Vec<_> = self.proposals.iter().filter(waits).map(|(command, it)| (*command, it)).collect();
        waiting.sort_by_key(|(_, proposal)| proposal.number);
        waiting
    }

    /// What was proposed with this command, if it waits still.
    pub fn proposal(&self, command: Hex, now: Time) -> Result<&Proposal, Refused> {
        let proposal = self.proposals.get(&command).ok_or(Refused::NoProposal)?;
        let expires = Time::from_millis(proposal.expires);
        if now < expires { Ok(proposal) } else { Err(Refused::ProposalExpired { number: proposal.number, expires }) }
    }

    /// The number that the next proposal gets.
    pub fn next_proposal(&self) -> u64 {
        self.proposed + 1
    }

    /// How many names were removed, for good.
    pub fn removals(&self) -> usize {
        self.removed.len()
    }

    /// Every member's document.
    pub fn members(&self) -> impl Iterator<Item = &MemberDocument> {
        self.members.values()
    }

    /// Why a key was revoked, if it was.
    pub fn revoked(&self, key: KeyId) -> Option<&Revoked> {
        self.revoked.get(&Hex(key))
    }

    /// The revoked keys of which everybody is to know (PROTOCOL.md 13.2): "as long as its certificate is listed or has not
    /// ended."
    pub fn revoked_keys(&self) -> impl Iterator<Item = RevokedKey> {
        let told = |(key, revoked): &(&Hex, &Revoked)| self.keys.contains_key(*key) || revoked.not_after >= self.last;
        self.revoked.iter().filter(told).map(|(key, revoked)| RevokedKey {
            key: key.0,
            last_head: revoked.last_head.as_ref().and_then(|text| text.parse().ok()),
        })
    }

    /// The certificate of this key for this use, if it was certified for it already.
    pub fn certified_as(&self, for_what: &KeyUse, key: KeyId) -> Option<&Der> {
        let held = self.keys.get(&Hex(key)).filter(|held| held.for_what == *for_what && held.waiting.is_none());
        held.and_then(|_| self.listed(for_what).map(|(der, _)| der).find(|der| is_of(der, key)))
    }

    /// The key of this name, if its server may ask with it for what wants this use of it (PROTOCOL.md 14.3).
    pub fn asks_with(&self, for_what: &KeyUse, key: KeyId, now: Time) -> Result<PublicKey, Refused> {
        let server = for_what.server().ok_or(Refused::OutOfPlace)?;
        self.server(server)?;
        let not_its = || Refused::NotTheServersKey { server: server.clone(), key };
        if self.revoked.contains_key(&Hex(key)) {
            return Err(not_its());
        }
        let (der, until) = self.listed(for_what).find(|(der, _)| is_of(der, key)).ok_or_else(not_its)?;
        let (public, not_after) = for_what.read(der).map_err(|_| not_its())?;
        let asks = now <= not_after.plus(ENDED_AT_MOST) && until.is_none_or(|until| now.as_millis() <= until);
        if asks { Ok(public) } else { Err(not_its()) }
    }

    /// The certificates that are listed for this use, the oldest first, and until when each is used.
    fn listed(&self, for_what: &KeyUse) -> impl Iterator<Item = (&Der, Option<u64>)> {
        let (authentication, signing) = match for_what {
            KeyUse::Authentication { server } => (self.server(server).ok(), None),
            KeyUse::Signing { member, server } => (None, self.members.get(member).map(|member| (member, server))),
            KeyUse::Forgotten => (None, None),
        };
        let authentication = authentication.into_iter().flat_map(|server| &server.authentication);
        let signing = signing.into_iter().flat_map(|(member, server)| {
            member.signing.iter().filter(move |each| each.server == *server).map(|each| (&each.certificate, each.until))
        });
        authentication.map(|der| (der, None)).chain(signing)
    }

    /// The server as registered.
    pub fn server(&self, server: &ServerId) -> Result<&ServerDocument, Refused> {
        let owner = self.members.get(&server.owner());
        let found = owner.and_then(|member| member.servers.iter().find(|each| each.server == *server));
        found.ok_or_else(|| {
            let known = self.members.values().flat_map(|member| &member.servers).map(|each| each.server.as_str());
            let remedy = did_you_mean(server.as_str(), known, "`central-registry members` shows those that there are");
            Refused::NoServer { server: server.clone(), remedy }
        })
    }

    /// Every request, the oldest first.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        self.requests.iter().map(|(id, request)| (*id, request))
    }

    /// The request of this number.
    pub fn request(&self, id: RequestId) -> Result<&Request, Refused> {
        self.requests.get(&id).ok_or_else(|| {
            let known = self.requests.keys().map(RequestId::to_string);
            let remedy = did_you_mean(&id.to_string(), known, "`central-registry requests` shows those that there are");
            Refused::NoRequest { request: id, remedy }
        })
    }

    /// The request that this application made. Newest first: an applicant asks soon.
    pub fn request_of(&self, application: Digest) -> Option<(RequestId, &Request)> {
        self.requests
            .iter()
            .rev()
            .map(|(id, each)| (*id, each))
            .find(|(_, each)| each.application.digest.0 == application)
    }

    /// The request of this number, if nobody decided it yet.
    pub fn waiting(&self, id: RequestId) -> Result<&Request, Refused> {
        let request = self.request(id)?;
        match request.state {
            State::Waiting => Ok(request),
            _ => Err(Refused::Decided { request: id, decided: request.state.word() }),
        }
    }

    /// What the application asks, for the invitation that its token names.
    pub fn invited(&self, token: Digest, now: Time) -> Result<&Invitation, Refused> {
        let invited = self.invitations.get(&Hex(token)).ok_or(Refused::TokenUnknown)?;
        if invited.used_by.is_some() {
            return Err(Refused::TokenUsed);
        }
        let expires = Time::from_millis(invited.expires);
        if now >= expires { Err(Refused::TokenExpired(expires)) } else { Ok(&invited.invitation) }
    }

    /// The number that the next request gets.
    pub fn next_request(&self) -> RequestId {
        RequestId(self.requests.keys().next_back().map_or(1, |last| last.0 + 1))
    }

    /// The newest version that may have been given to anybody.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The ledger of what was published; none: of a registry that keeps none yet.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The ledger that began so: the one that is known, or one that follows it.
    fn ledger_of(&self, genesis: &Genesis) -> Option<Ledger> {
        let founded = &self.instance.as_ref()?.instance;
        let known = self.ledger.as_ref();
        match known.filter(|known| known.name() == genesis.name()) {
            Some(known) => Some(known.clone()),
            None => Ledger::begun(genesis, known).filter(|begun| begun.instance() == founded),
        }
    }

    /// The ledger with this version as its last leaf.
    fn ledger_with(&self, version: u64, timestamp: &Digest) -> Option<Ledger> {
        let mut ledger = Ledger::awaiting(self.ledger.as_ref(), &self.instance.as_ref()?.instance, version);
        ledger.append(timestamp);
        Some(ledger)
    }

    /// The admin's name.
    pub fn admin_name(&self, key: KeyId) -> Option<&Text> {
        self.admins.get(&Hex(key)).map(|admin| &admin.name)
    }

    /// How these settings differ from those that the registry was started with the last time.
    pub fn changed_to(&self, settings: &BTreeMap<String, String>) -> Vec<Changed> {
        let all: BTreeSet<&String> = self.settings.keys().chain(settings.keys()).collect();
        let differ = all.into_iter().filter(|setting| self.settings.get(*setting) != settings.get(*setting));
        let changed = differ.map(|setting| Changed {
            setting: setting.clone(),
            before: self.settings.get(setting).cloned(),
            after: settings.get(setting).cloned(),
        });
        changed.collect()
    }

    /// Up to when a command may have been signed that the lost part of the journal holds; none: no part was lost.
    pub fn lost_commands_until(&self) -> Option<Time> {
        (self.put_back > 0).then(|| Time::from_millis(self.put_back).plus(COMMAND_WINDOW))
    }

    /// The versions that each restore lost.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// The time of the last entry: the registry's time never goes below it.
    pub fn last(&self) -> Time {
        Time::from_millis(self.last)
    }

    /// The keys that were certified because the holder of this key asked, and those that their holders asked for in turn.
    pub fn descendants(&self, key: KeyId) -> Vec<KeyId> {
        let (mut found, mut parents) = (Vec::new(), BTreeSet::from([Hex(key)]));
        while !parents.is_empty() {
            let of_these = |(_, parent): &(&Hex, &Hex)| parents.contains(*parent);
            let children: BTreeSet<Hex> = self.begotten.iter().filter(of_these).map(|(child, _)| *child).collect();
            found.extend(children.iter().map(|child| child.0));
            parents = children;
        }
        found
    }

    /// Refuses names that people would take for others that there are or were. Asked of whoever invites, and not of what
    /// stands in a journal already.
    pub fn is_not_a_look_alike(&self, invitation: &Invitation) -> Result<(), Refused> {
        let Invitation { member, name, server, subsystems, .. } = invitation;
        let Some(registered) = self.members.get(member) else {
            let names = self.members.values().map(|each| (each.member.as_str(), Some(each.name.as_str())));
            let gone = self.removed.iter().filter_map(|each| match each {
                Registered::Member(member) => Some((member.as_str(), None)),
                _ => None,
            });
            for (other, called) in names.chain(gone) {
                look_alike(member.as_str(), other)?;
                if let (Some(name), Some(called)) = (name, called) {
                    look_alike(name.as_str(), called)?;
                }
            }
            return Ok(());
        };
        for other in &registered.servers {
            look_alike(server.as_str(), other.server.as_str())?;
        }
        for (subsystem, other) in subsystems.iter().flat_map(|it| registered.subsystems.iter().map(move |s| (it, s))) {
            look_alike(subsystem.as_str(), other.subsystem.as_str())?;
        }
        Ok(())
    }

    /// Refuses a name that was removed, or that begins with one.
    fn is_not_removed<'a>(&self, names: impl IntoIterator<Item = Registered> + 'a) -> Result<(), Refused> {
        names.into_iter().find(|name| self.removed.contains(name)).map_or(Ok(()), |name| Err(Refused::Removed(name)))
    }

    // ---- the rules

    /// Whether this entry may follow, as what it says, and ordered by those who may and by as many as it needs.
    pub fn admit(&self, entry: Entry) -> Result<Admitted, Refused> {
        self.may_follow(&entry)?;
        self.is_ordered(&entry)?;
        Ok(Admitted(entry))
    }

    /// What the entry would change if as many persons ordered it as it needs; or why it may not follow.
    pub fn foreseen_if_confirmed(&self, entry: Entry) -> Result<Vec<String>, Refused> {
        self.may_follow(&entry)?;
        Ok(self.foreseen(&Admitted(entry)))
    }

    /// Who orders has a role for it, and enough others confirmed what needs them.
    fn is_ordered(&self, entry: &Entry) -> Result<(), Refused> {
        // What nobody ordered is the registry's own doing: `audit verify` names what is nobody's to do.
        let Some(by) = &entry.by else { return Ok(()) };
        let now = Time::from_millis(entry.at);
        let needed = self.persons_needed();
        let Some(command) = entry.confirms else {
            if needed > 1 && entry.event.needs_all() {
                return Err(Refused::OnePerson { needed });
            }
            return self.has_role(by.admin.0, entry.event.ordering_roles());
        };
        self.has_role(by.admin.0, may_order(&Order::Confirm(command.0)))?;
        let proposal = self.proposal(command, now)?;
        let persons: BTreeSet<Hex> = proposal.by.iter().chain([by]).map(|by| by.admin).collect();
        self.is_another(proposal, by)?;
        if persons.len() < needed { Err(Refused::OnePerson { needed }) } else { Ok(()) }
    }

    /// Each person counts once, and only as long as it is one.
    fn is_another(&self, proposal: &Proposal, by: &By) -> Result<(), Refused> {
        if proposal.by.iter().any(|before| before.admin == by.admin) {
            return Err(Refused::SamePerson { number: proposal.number });
        }
        proposal.by.iter().try_for_each(|before| self.admin(before.admin.0).map(drop))
    }

    fn may_propose(&self, entry: &Entry, number: u64, expires: u64) -> Result<(), Refused> {
        let command = entry.by.as_ref().and_then(By::digest).ok_or(Refused::OutOfPlace)?;
        if number != self.next_proposal() || expires <= entry.at || self.proposals.contains_key(&command) {
            return Err(Refused::OutOfPlace);
        }
        if self.proposals(Time::from_millis(entry.at)).len() >= MAX_PROPOSALS {
            return Err(Refused::Limit { what: "proposals that wait", limit: MAX_PROPOSALS });
        }
        Ok(())
    }

    fn may_confirm(&self, entry: &Entry, command: Hex) -> Result<(), Refused> {
        let proposal = self.proposal(command, Time::from_millis(entry.at))?;
        self.is_another(proposal, entry.by.as_ref().ok_or(Refused::OutOfPlace)?)
    }

    /// Only a later root of the same instance says otherwise than the one before.
    fn may_govern(&self, root: u64, anchor: Hex, persons: &Persons) -> Result<(), Refused> {
        let before = self.governed.as_ref();
        let follows = before.is_none_or(|before| before.root < root && before.anchor == anchor);
        if !follows { Err(Refused::OutOfPlace) } else { persons.check().map_err(|_| Refused::OutOfPlace) }
    }

    /// Whether what the entry says may follow, whoever ordered it.
    fn may_follow(&self, entry: &Entry) -> Result<(), Refused> {
        let founded = matches!(entry.event, Event::Founded { .. });
        if founded != self.instance.is_none() || entry.at < self.last {
            return Err(Refused::OutOfPlace);
        }
        let now = Time::from_millis(entry.at);
        if let Some(by) = &entry.by {
            self.admin(by.admin.0)?;
            self.is_new(&by.command)?;
        }
        if let Some(asked) = &entry.asked {
            self.asker(asked, &entry.event, now)?;
            self.is_new(&asked.request)?;
        }
        match &entry.event {
            Event::Founded { key, .. } => self.may_found(key)?,
            Event::Invited { token, invitation } => self.may_invite(*token, invitation, now)?,
            Event::Applied { request, token, application } => self.may_apply(*request, *token, application, now)?,
            Event::Approved { request, authentication, signing } => {
                self.may_approve(*request, authentication, signing, now)?;
            }
            Event::Rejected { request, .. } => self.waiting(*request).map(drop)?,
            Event::Suspended { member, .. } => self.may_become(member, Standing::Suspended)?,
            // Who asked to leave may stay after all.
            Event::Restored { member } if self.leaving.contains_key(member) => {}
            Event::Restored { member } => self.may_become(member, Standing::Active)?,
            Event::Revoked { key, last_head, .. } => self.may_revoke(*key, last_head.as_deref())?,
            Event::Renewed { for_what, certificate } => self.may_renew(for_what, certificate, now)?,
            Event::Moved { server, address } => {
                let same = self.server(server)?.address == address.as_str();
                no_change(same, &format!("{server} is registered at {address} already"))?;
            }
            Event::Maintained { server, notice } => {
                let same = self.server(server)?.maintenance == *notice;
                no_change(same, &format!("{server} says so already"))?;
            }
            Event::Hosted { subsystem, server } => self.may_host(subsystem, server)?,
            Event::Unhosted { subsystem, server } => self.may_unhost(subsystem, server)?,
            Event::Listed { entries, asked, .. } => {
                if !asked.is_empty() && asked.len() != entries.len() {
                    return Err(Refused::OutOfPlace);
                }
                for entry in self.may_list(&listed::signed(entries)?, now)? {
                    if entry.entry().dry_run {
                        return Err(Refused::OutOfPlace);
                    }
                }
            }
            Event::GrantsTold { report, checked } => {
                let judged = self.judged_report(&overseen::reported(report)?, now, checked)?;
                no_change(judged.adds_nothing(), "all of it is known already")?;
            }
            Event::Leaving { member, .. } => {
                self.member(member)?;
                no_change(self.leaving.contains_key(member), &format!("{member} asked to leave already"))?;
            }
            Event::Removed { what, .. } => self.may_remove(what)?,
            Event::Governed { root, anchor, persons } => self.may_govern(*root, *anchor, persons)?,
            Event::Proposed { number, expires } => self.may_propose(entry, *number, *expires)?,
            Event::Confirmed { command } => self.may_confirm(entry, *command)?,
            Event::Published { version: next, .. } | Event::PutBack { passes_over: next, .. }
                if *next <= self.published =>
            {
                return Err(Refused::VersionPublished(self.published));
            }
            Event::Published { version, timestamp, checkpoint } => {
                let next = self.ledger_with(*version, &timestamp.0);
                let follows = match (checkpoint, &next, &self.ledger) {
                    (Some(text), Some(next), _) => next.checkpoint().to_text() == *text,
                    (None, _, None) => true,
                    (Some(_), None, _) | (None, _, Some(_)) => false,
                };
                if !follows {
                    return Err(Refused::OtherCheckpoint(*version));
                }
            }
            Event::Adopted { member, document: Some(document), .. } if document.member != *member => {
                return Err(Refused::OutOfPlace);
            }
            Event::AdoptedLeaves { genesis, .. } if self.ledger_of(genesis).is_none() => {
                return Err(Refused::OutOfPlace);
            }
            Event::AdoptedLeaves { .. } => {}
            Event::PutBack { .. } | Event::Adopted { .. } => {}
            Event::AdoptedRevocation { .. } | Event::BackedUp { .. } | Event::Started { .. } => {}
            Event::PurposeSet { purpose } => self.may_set_purpose(purpose)?,
            Event::PurposeRemoved { purpose, .. } => {
                if !self.purposes().iter().any(|each| each.purpose == *purpose) {
                    let known = self.purposes().iter().map(|each| each.purpose.as_str());
                    let look = "`central-registry purposes list` shows those that are";
                    let remedy = did_you_mean(purpose.as_str(), known, look);
                    return Err(Refused::NoPurpose { purpose: purpose.clone(), remedy });
                }
                if self.purposes().len() == 1 {
                    return Err(Refused::LastPurpose(purpose.clone()));
                }
            }
            Event::Timestamping { approved } => {
                let instance = self.instance.clone().ok_or(Refused::OutOfPlace)?;
                let instance = InstanceDocument { timestamping: approved.clone(), ..instance };
                InstanceDocument::parse(&instance.to_bytes()).map_err(|error| Refused::Failed(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// The purposes of the instance's list, by code.
    pub fn purposes(&self) -> &[PurposeDocument] {
        self.instance.as_ref().map_or(&[], |instance| &instance.purposes)
    }

    fn may_set_purpose(&self, purpose: &PurposeDocument) -> Result<(), Refused> {
        purpose.meaning().map_err(|missing| Refused::PurposeUntold(missing.to_string()))?;
        no_change(self.purposes().contains(purpose), &format!("the purpose {} says so already", purpose.purpose))?;
        let known = self.purposes().iter().any(|each| each.purpose == purpose.purpose);
        if !known && self.purposes().len() >= MAX_PURPOSES {
            return Err(Refused::Limit { what: "purposes", limit: MAX_PURPOSES });
        }
        Ok(())
    }

    /// A command changes the register once.
    pub fn is_new(&self, command: &str) -> Result<(), Refused> {
        if self.commands.contains_key(command) { Err(Refused::CommandRepeated(command.to_owned())) } else { Ok(()) }
    }

    fn may_found(&self, key: &Der) -> Result<(), Refused> {
        PublicKey::from_spki(key.as_bytes()).map(drop).map_err(|_| Refused::OutOfPlace)
    }

    fn may_invite(&self, token: Hex, invitation: &Invitation, now: Time) -> Result<(), Refused> {
        let open = self.invitations.values().filter(|each| each.used_by.is_none()).count();
        if open >= MAX_OPEN_INVITATIONS {
            return Err(Refused::Limit { what: "open invitations", limit: MAX_OPEN_INVITATIONS });
        }
        if self.invitations.contains_key(&token) {
            return Err(Refused::TokenUsed);
        }
        let member = &invitation.member;
        if self.instance().is_none_or(|own| own.instance != member.instance()) {
            return Err(self.of_another_instance(member));
        }
        let subsystems = invitation.subsystems.iter().cloned().map(Registered::Subsystem);
        let named = [Registered::Member(member.clone()), Registered::Server(invitation.server.clone())];
        self.is_not_removed(named.into_iter().chain(subsystems))?;
        self.is_free(&invitation.server, now)?;
        match (self.members.get(member), &invitation.name) {
            (None, None) => Err(Refused::NameWanted(member.clone())),
            (None, Some(_)) if self.members.len() >= MAX_MEMBERS => {
                Err(Refused::Limit { what: "members", limit: MAX_MEMBERS })
            }
            (Some(registered), Some(name)) if registered.name != name.as_str() => {
                Err(Refused::NameDiffers { member: member.clone(), registered: registered.name.clone() })
            }
            _ => Ok(()),
        }
    }

    fn of_another_instance(&self, member: &MemberId) -> Refused {
        let ours = self.instance().map(|own| own.instance.clone());
        match ours {
            Some(ours) => Malformed::OtherInstance { theirs: member.instance(), ours }.into(),
            None => Refused::OutOfPlace,
        }
    }

    fn may_apply(&self, id: RequestId, token: Hex, asked: &Applied, now: Time) -> Result<(), Refused> {
        let invitation = self.invited(token.0, now)?;
        if id != self.next_request() {
            return Err(Refused::OutOfPlace);
        }
        same("the member", &invitation.member, &asked.member)?;
        same("the server", &invitation.server, &asked.server)?;
        if let Some(foreign) = asked.subsystems.iter().find(|each| !invitation.subsystems.contains(each)) {
            return Err(Refused::SubsystemNotInvited(foreign.clone()));
        }
        let subsystems = asked.subsystems.iter().cloned().map(Registered::Subsystem);
        self.is_not_removed([Registered::Server(asked.server.clone())].into_iter().chain(subsystems))?;
        self.is_free(&asked.server, now)?;
        let same_server = |request: &Request| request.application.server == asked.server;
        if let Some((request, _)) =
            self.requests().find(|(_, each)| matches!(each.state, State::Waiting) && same_server(each))
        {
            return Err(Refused::ServerWaiting { server: asked.server.clone(), request });
        }
        for key in [&asked.authentication_key, &asked.signing_key] {
            self.is_unused(Digest::of(&[key.as_bytes()]))?;
        }
        Ok(())
    }

    fn is_unused(&self, key: KeyId) -> Result<(), Refused> {
        let id = Hex(key);
        if self.revoked.contains_key(&id) {
            return Err(Refused::RevokedAlready(key));
        }
        if self.keys.contains_key(&id) || self.admins.contains_key(&id) {
            return Err(Refused::KeyInUse(key));
        }
        Ok(())
    }

    fn may_revoke(&self, key: Hex, last_head: Option<&str>) -> Result<(), Refused> {
        let before = self.revoked.get(&key);
        let for_what = match (before, self.keys.get(&key)) {
            (Some(before), _) if before.last_head.is_some() || last_head.is_none() => {
                return Err(Refused::RevokedAlready(key.0));
            }
            (Some(before), _) => &before.for_what,
            (None, Some(Held { waiting: Some(request), .. })) => {
                return Err(Refused::KeyWaits { key: key.0, request: *request });
            }
            (None, Some(held)) => &held.for_what,
            (None, None) => return Err(Refused::NoKey(key.0)),
        };
        match (last_head, for_what) {
            (Some(text), KeyUse::Signing { .. }) if text.parse::<Head>().is_ok() => {}
            (Some(_), _) => return Err(Refused::NoHeadOf(key.0)),
            (None, _) => {}
        }
        if before.is_none() && self.revoked_keys().count() >= MAX_REVOKED {
            return Err(Refused::Limit { what: "revoked keys", limit: MAX_REVOKED });
        }
        Ok(())
    }

    fn may_approve(&self, id: RequestId, authentication: &Der, signing: &Der, now: Time) -> Result<(), Refused> {
        let request = &self.waiting(id)?.application;
        let subsystems = request.subsystems.iter().cloned().map(Registered::Subsystem);
        self.is_not_removed(subsystems)?;
        self.is_free(&request.server, now)?;
        let member = self.members.get(&request.member);
        let is_new = self.server(&request.server).is_err();
        if is_new && member.is_some_and(|member| member.servers.len() >= MAX_SERVERS) {
            return Err(Refused::Limit { what: "servers of one member", limit: MAX_SERVERS });
        }
        let new = |each: &&SubsystemId| {
            !member.is_some_and(|member| member.subsystems.iter().any(|known| known.subsystem == **each))
        };
        let subsystems =
            member.map_or(0, |member| member.subsystems.len()) + request.subsystems.iter().filter(new).count();
        if subsystems > MAX_SUBSYSTEMS {
            return Err(Refused::Limit { what: "subsystems of one member", limit: MAX_SUBSYSTEMS });
        }
        self.certified(request, authentication, signing)
            .map_err(|reason| Refused::Certificate { request: id, reason: reason.to_string() })
    }

    /// An authority of ours issued it.
    fn is_ours(&self, certificate: &Der) -> Result<(), NotACertificate> {
        let authorities = self.instance().map_or(&[][..], |instance| &instance.authorities);
        let issued = |authority: &Der| Authority::parse(authority.as_bytes())?.issued(certificate.as_bytes());
        let ours = authorities.iter().any(|authority| issued(authority).is_ok());
        if ours { Ok(()) } else { Err(NotACertificate::Issuer) }
    }

    /// The certificates say what the register says, of the keys that were applied for, by an authority of ours.
    fn certified(&self, request: &Applied, authentication: &Der, signing: &Der) -> Result<(), NotACertificate> {
        self.is_ours(authentication)?;
        self.is_ours(signing)?;
        let authentication = Authentication::parse(authentication.as_bytes())?;
        let signing = Signing::parse(signing.as_bytes())?;
        let right = authentication.server == request.server
            && authentication.key.to_spki() == request.authentication_key.as_bytes()
            && signing.member == request.member
            && signing.server == request.server
            && signing.key.to_spki() == request.signing_key.as_bytes();
        if right {
            Ok(())
        } else {
            Err(NotACertificate::Profile { profile: "what was applied for", rule: "names and keys must be the same" })
        }
    }

    /// The key with which a server asks: for itself, with a key of the use that this wants.
    pub fn asker(&self, asked: &Asked, event: &Event, now: Time) -> Result<PublicKey, Refused> {
        let server = asked.server.clone();
        let for_what = match event {
            Event::Renewed { for_what, .. } => for_what.clone(),
            Event::Moved { server, .. } | Event::Maintained { server, .. } => {
                KeyUse::Authentication { server: server.clone() }
            }
            Event::Leaving { member, .. } => KeyUse::Signing { member: member.clone(), server: server.clone() },
            _ => return Err(Refused::NotTheServersKey { server, key: asked.key.0 }),
        };
        if for_what.server() != Some(&server) {
            return Err(Refused::NotTheServersKey { server, key: asked.key.0 });
        }
        self.asks_with(&for_what, asked.key.0, now)
    }

    fn may_host(&self, subsystem: &SubsystemId, server: &ServerId) -> Result<(), Refused> {
        let member = self.member(&subsystem.member())?;
        self.server(server)?;
        self.is_not_removed([Registered::Subsystem(subsystem.clone())])?;
        let known = member.subsystems.iter().find(|each| each.subsystem == *subsystem);
        let hosted = known.is_some_and(|known| known.servers.contains(server));
        no_change(hosted, &format!("{server} hosts {subsystem} already"))?;
        if !member.signing.iter().any(|each| each.server == *server) {
            return Err(Refused::SealsNothingThere { member: member.member.clone(), server: server.clone() });
        }
        if known.is_none() && member.subsystems.len() >= MAX_SUBSYSTEMS {
            return Err(Refused::Limit { what: "subsystems of one member", limit: MAX_SUBSYSTEMS });
        }
        if known.is_some_and(|known| known.servers.len() >= MAX_SERVERS) {
            return Err(Refused::Limit { what: "servers of one subsystem", limit: MAX_SERVERS });
        }
        Ok(())
    }

    fn may_unhost(&self, subsystem: &SubsystemId, server: &ServerId) -> Result<(), Refused> {
        self.server(server)?;
        let listed = self.subsystem(subsystem)?;
        no_change(!listed.servers.contains(server), &format!("{server} does not host {subsystem}"))
    }

    fn may_remove(&self, what: &Registered) -> Result<(), Refused> {
        match what {
            Registered::Member(member) => self.member(member).map(drop),
            Registered::Server(server) => self.server(server).map(drop),
            Registered::Subsystem(subsystem) => self.subsystem(subsystem).map(drop),
        }
    }

    fn may_renew(&self, for_what: &KeyUse, certificate: &Der, now: Time) -> Result<(), Refused> {
        self.server(for_what.server().ok_or(Refused::OutOfPlace)?)?;
        let wrong = |error: NotACertificate| Refused::WrongCertificate {
            for_what: for_what.to_string(),
            reason: error.to_string(),
        };
        self.is_ours(certificate).map_err(wrong)?;
        let (key, _) = for_what.read(certificate).map_err(wrong)?;
        self.is_unused(key.id())?;
        let good = self.listed(for_what).filter(|(der, until)| {
            let holds = for_what
                .read(der)
                .is_ok_and(|(key, not_after)| now <= not_after && !self.revoked.contains_key(&Hex(key.id())));
            holds && until.is_none_or(|until| now.as_millis() <= until)
        });
        let limit = match for_what {
            KeyUse::Authentication { .. } => MAX_AUTHENTICATION,
            KeyUse::Signing { .. } => MAX_SIGNING_AT_ONCE,
            KeyUse::Forgotten => 0,
        };
        if good.count() >= limit || !self.has_room(for_what, now) {
            return Err(Refused::KeysEnough { for_what: for_what.to_string(), limit });
        }
        Ok(())
    }

    /// Whether the document takes one more signing certificate, perhaps in the place of one that has ended.
    fn has_room(&self, for_what: &KeyUse, now: Time) -> bool {
        let KeyUse::Signing { member, .. } = for_what else { return true };
        self.members.get(member).is_some_and(|member| {
            let ended = |each: &SigningDocument| has_ended(each, now.as_millis());
            member.signing.len() < MAX_SIGNING || member.signing.iter().any(ended)
        })
    }

    /// The member as registered.
    pub fn member(&self, member: &MemberId) -> Result<&MemberDocument, Refused> {
        self.members.get(member).ok_or_else(|| {
            let known = self.members.keys().map(MemberId::as_str);
            let remedy = did_you_mean(member.as_str(), known, "`central-registry members` shows those that there are");
            Refused::NoMember { member: member.clone(), remedy }
        })
    }

    /// Why a member asked to leave, if it did.
    pub fn leaves(&self, member: &MemberId) -> Option<&Text> {
        self.leaving.get(member)
    }

    fn subsystem(&self, subsystem: &SubsystemId) -> Result<&SubsystemDocument, Refused> {
        let member = self.member(&subsystem.member())?;
        member.subsystems.iter().find(|each| each.subsystem == *subsystem).ok_or_else(|| {
            let known = member.subsystems.iter().map(|each| each.subsystem.as_str());
            let otherwise = "`central-registry members` shows those that there are";
            let remedy = did_you_mean(subsystem.as_str(), known, otherwise);
            Refused::NoSubsystem { subsystem: subsystem.clone(), remedy }
        })
    }

    fn may_become(&self, member: &MemberId, standing: Standing) -> Result<(), Refused> {
        let registered = self.member(member)?;
        if registered.standing != standing {
            return Ok(());
        }
        Err(Refused::StandingAlready { member: member.clone(), standing: standing_word(standing) })
    }

    /// Nobody has this name; or a server has it that cannot ask for new keys any more, and is to be given some.
    fn is_free(&self, server: &ServerId, now: Time) -> Result<(), Refused> {
        let uses = [
            KeyUse::Authentication { server: server.clone() },
            KeyUse::Signing { member: server.owner(), server: server.clone() },
        ];
        let asks = uses.iter().all(|for_what| {
            let mut keys =
                self.listed(for_what).filter_map(|(der, _)| proto::certificate::public_key(der.as_bytes()).ok());
            keys.any(|key| self.asks_with(for_what, key.id(), now).is_ok())
        });
        if asks { Err(Refused::ServerRegistered(server.clone())) } else { Ok(()) }
    }

    // ---- what an entry changes

    /// Makes it so. The entry is durable by now, or is being read back.
    pub fn apply(&mut self, admitted: Admitted) {
        let Admitted(Entry { at, by, asked, from: _, confirms, event }) = admitted;
        self.last = at;
        let remembered = Time::from_millis(at).minus(COMMAND_REMEMBERED).as_millis();
        self.commands.retain(|_, time| *time >= remembered);
        if let Some(command) = confirms {
            self.proposals.remove(&command);
        }
        let ordered = by.clone();
        let signer = asked.as_ref().map(|asked| asked.key);
        let command = by.map(|by| by.command).into_iter().chain(asked.map(|asked| asked.request));
        self.commands.extend(command.map(|command| (command, at)));
        match event {
            Event::Founded { instance, admin, key } => {
                let id = Hex(Digest::of(&[key.as_bytes()]));
                self.instance = Some(instance);
                self.admins.insert(id, Admin { name: admin, key, roles: all_roles() });
            }
            Event::Invited { token, invitation } => {
                let expires = Time::from_millis(at).plus(invitation.valid).as_millis();
                // What expired unused a day ago is forgotten: who comes with its token then is told "not known".
                let forgotten = Time::from_millis(at).minus(Duration::from_secs(24 * 3600)).as_millis();
                self.invitations.retain(|_, each| each.used_by.is_some() || each.expires >= forgotten);
                self.invitations.insert(token, Invited { invitation, expires, used_by: None });
            }
            Event::Applied { request, token, application } => self.enter(request, token, application, at),
            Event::Approved { request, authentication, signing } => self.enrol(request, authentication, signing, at),
            Event::Rejected { request, reason } => {
                // Its keys are free again: nothing was ever certified for them.
                self.keys.retain(|_, held| held.waiting != Some(request));
                if let Some(request) = self.requests.get_mut(&request) {
                    request.state = State::Rejected { reason };
                }
            }
            Event::Suspended { member, .. } => self.stand(&member, Standing::Suspended),
            Event::Restored { member } => {
                self.leaving.remove(&member);
                self.stand(&member, Standing::Active);
            }
            Event::Revoked { key, reason, last_head } => self.revoke(key, reason, last_head, at),
            Event::Renewed { for_what, certificate } => {
                let read = proto::certificate::public_key(certificate.as_bytes());
                self.begotten.extend(signer.and_then(|signer| Some((Hex(read.ok()?.id()), signer))));
                self.renew(&for_what, certificate, at);
            }
            Event::Moved { server, address } => {
                if let Some(server) = self.server_mut(&server) {
                    server.address = address.to_string();
                }
            }
            Event::Maintained { server, notice } => {
                if let Some(server) = self.server_mut(&server) {
                    server.maintenance = notice;
                }
            }
            Event::Hosted { subsystem, server } => self.host(subsystem, &server),
            Event::Unhosted { subsystem, server } => {
                if let Some(listed) = self.subsystem_mut(&subsystem) {
                    listed.servers.retain(|each| *each != server);
                }
            }
            Event::Listed { entries, asked, .. } => self.list(&entries, &asked, at),
            Event::GrantsTold { report, checked } => self.oversee(&report, at, &checked),
            Event::Leaving { member, reason } => _ = self.leaving.insert(member, reason),
            Event::Removed { what, reason } => self.remove(what, &reason),
            Event::Governed { root, anchor, persons } => {
                let admin = |person: &Person| {
                    let Person { name, roles, key } = person.clone();
                    (Hex(person.id()), Admin { name, key, roles })
                };
                self.admins = persons.persons.iter().map(admin).collect();
                self.governed = Some(Governed { root, anchor, persons });
            }
            Event::Proposed { number, expires } => {
                self.proposals.retain(|_, before| before.expires > at);
                self.proposed = number;
                if let Some((command, by)) = ordered.and_then(|by| Some((by.digest()?, by))) {
                    self.proposals.insert(command, Proposal { number, by: vec![by], expires });
                }
            }
            Event::Confirmed { command } => {
                if let (Some(proposal), Some(by)) = (self.proposals.get_mut(&command), ordered) {
                    proposal.by.push(by);
                }
            }
            Event::BackedUp { .. } => {}
            Event::PurposeSet { purpose } => {
                if let Some(InstanceDocument { purposes, .. }) = &mut self.instance {
                    match purposes.binary_search_by(|each| each.purpose.cmp(&purpose.purpose)) {
                        Ok(at) => purposes[at] = purpose,
                        Err(at) => purposes.insert(at, purpose),
                    }
                }
            }
            Event::PurposeRemoved { purpose, .. } => {
                if let Some(instance) = &mut self.instance {
                    instance.purposes.retain(|each| each.purpose != purpose);
                }
            }
            Event::Timestamping { approved } => {
                if let Some(instance) = &mut self.instance {
                    instance.timestamping = approved;
                }
            }
            Event::Started { changed, .. } => {
                for Changed { setting, after, .. } in changed {
                    match after {
                        Some(value) => _ = self.settings.insert(setting, value),
                        None => _ = self.settings.remove(&setting),
                    }
                }
            }
            Event::Adopted { member, document, .. } => self.adopt(member, document.map(|document| *document)),
            Event::AdoptedRevocation { version, key, last_head } => self.adopt_revocation(version, key, last_head, at),
            Event::AdoptedLeaves { genesis, leaves } => {
                self.ledger = self.ledger_of(&genesis).map(|mut ledger| {
                    leaves.iter().for_each(|leaf| ledger.append_leaf(leaf.0));
                    ledger
                });
            }
            Event::PutBack { taken_up, passes_over, .. } => {
                self.lost.push(Lost { known: self.published, taken_up, passes_over });
                (self.published, self.put_back) = (passes_over, at);
            }
            Event::Published { version, timestamp, checkpoint } => {
                if checkpoint.is_some() {
                    self.ledger = self.ledger_with(version, &timestamp.0);
                }
                self.published = version;
            }
        }
    }

    fn enter(&mut self, id: RequestId, token: Hex, application: Applied, at: u64) {
        let Applied { member, server, .. } = &application;
        let authentication = KeyUse::Authentication { server: server.clone() };
        let signing = KeyUse::Signing { member: member.clone(), server: server.clone() };
        for (key, for_what) in [(&application.authentication_key, authentication), (&application.signing_key, signing)]
        {
            self.keys.insert(Hex(Digest::of(&[key.as_bytes()])), Held { for_what, waiting: Some(id) });
        }
        let invited = self.invitations.get_mut(&token);
        let name = invited.and_then(|invited| {
            invited.used_by = Some(id);
            invited.invitation.name.clone()
        });
        self.requests.insert(id, Request { application, name, received: at, state: State::Waiting });
    }

    fn enrol(&mut self, id: RequestId, authentication: Der, signing: Der, at: u64) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.state = State::Approved { authentication: authentication.clone(), signing: signing.clone() };
        for held in self.keys.values_mut().filter(|held| held.waiting == Some(id)) {
            held.waiting = None;
        }
        let Applied { member, server, address, subsystems, .. } = request.application.clone();
        let name = request.name.as_ref().map_or_else(|| member.to_string(), Text::to_string);
        let document = self.members.entry(member.clone()).or_insert_with(|| MemberDocument {
            member: member.clone(),
            name,
            standing: Standing::Active,
            subsystems: Vec::new(),
            servers: Vec::new(),
            signing: Vec::new(),
        });
        // A server that is given new keys: what its old ones may still do ends here.
        for before in document.signing.iter_mut().filter(|each| each.server == server) {
            before.until = Some(before.until.map_or(at, |until| until.min(at)));
        }
        document.signing.push(SigningDocument { server: server.clone(), certificate: signing, until: None });
        self.let_go(&KeyUse::Signing { member, server: server.clone() }, at);
        self.let_go(&KeyUse::Authentication { server: server.clone() }, at);
        let address = address.to_string();
        match self.server_mut(&server) {
            Some(known) => {
                known.address = address;
                known.authentication.push(authentication);
            }
            None => {
                let authentication = vec![authentication];
                let new = ServerDocument { server: server.clone(), address, authentication, maintenance: None };
                if let Some(document) = self.members.get_mut(&server.owner()) {
                    document.servers.push(new);
                }
            }
        }
        for subsystem in subsystems {
            self.host(subsystem, &server);
        }
    }

    fn host(&mut self, subsystem: SubsystemId, server: &ServerId) {
        if let Some(known) = self.subsystem_mut(&subsystem) {
            if !known.servers.contains(server) {
                known.servers.push(server.clone());
            }
            return;
        }
        let Some(document) = self.members.get_mut(&subsystem.member()) else { return };
        document.subsystems.push(SubsystemDocument { subsystem, servers: vec![server.clone()] });
        document.subsystems.sort_by(|a, b| a.subsystem.cmp(&b.subsystem));
    }

    fn subsystem_mut(&mut self, subsystem: &SubsystemId) -> Option<&mut SubsystemDocument> {
        let member = self.members.get_mut(&subsystem.member())?;
        member.subsystems.iter_mut().find(|each| each.subsystem == *subsystem)
    }

    /// With a server goes what others have there: no document names what is not registered. What waits for it is rejected, with
    /// this reason, and a token of before lets nobody in again.
    fn remove(&mut self, what: Registered, reason: &Text) {
        let servers: BTreeSet<ServerId> = match &what {
            Registered::Subsystem(subsystem) => {
                if let Some(document) = self.members.get_mut(&subsystem.member()) {
                    document.subsystems.retain(|each| each.subsystem != *subsystem);
                }
                self.catalogue.remove(subsystem);
                self.oversee_no_more(|provider| provider == subsystem);
                self.removed.insert(what);
                return;
            }
            Registered::Server(server) => BTreeSet::from([server.clone()]),
            Registered::Member(member) => self.retire(member),
        };
        let is_gone = |member: &MemberId, server: &ServerId| match &what {
            Registered::Member(gone) => member == gone,
            _ => servers.contains(server),
        };
        let invites = |each: &Invited| is_gone(&each.invitation.member, &each.invitation.server);
        self.invitations.retain(|_, each| each.used_by.is_some() || !invites(each));
        let mut rejected = BTreeSet::new();
        for (id, request) in &mut self.requests {
            if request.state == State::Waiting && is_gone(&request.application.member, &request.application.server) {
                request.state = State::Rejected { reason: reason.clone() };
                rejected.insert(*id);
            }
        }
        self.keys.retain(|_, held| held.waiting.is_none_or(|request| !rejected.contains(&request)));
        self.removed.extend(servers.iter().cloned().map(Registered::Server));
        self.removed.insert(what);
        for document in self.members.values_mut() {
            document.servers.retain(|each| !servers.contains(&each.server));
            document.signing.retain(|each| !servers.contains(&each.server));
            for subsystem in &mut document.subsystems {
                subsystem.servers.retain(|each| !servers.contains(each));
            }
        }
        let members = &self.members;
        self.keys.retain(|_, held| {
            held.waiting.is_some()
                || match &held.for_what {
                    KeyUse::Authentication { server } => !servers.contains(server),
                    KeyUse::Signing { member, server } => members.contains_key(member) && !servers.contains(server),
                    KeyUse::Forgotten => true,
                }
        });
    }

    /// A member goes, and every name below it with it. Returns its servers.
    fn retire(&mut self, member: &MemberId) -> BTreeSet<ServerId> {
        self.leaving.remove(member);
        self.catalogue.retain(|subsystem, _| subsystem.member() != *member);
        self.oversee_no_more(|provider| provider.member() == *member);
        self.removed.insert(Registered::Member(member.clone()));
        let Some(document) = self.members.remove(member) else { return BTreeSet::new() };
        self.removed.extend(document.subsystems.into_iter().map(|each| Registered::Subsystem(each.subsystem)));
        document.servers.into_iter().map(|each| each.server).collect()
    }

    /// PROTOCOL.md 13.2: "The certificate stays in its member's document until another takes its place."
    fn revoke(&mut self, key: Hex, reason: Text, last_head: Option<String>, at: u64) {
        if let Some(before) = self.revoked.get_mut(&key) {
            before.last_head = last_head;
            return;
        }
        let Some(Held { for_what, .. }) = self.keys.get(&key).cloned() else { return };
        let not_after = self.not_after(&for_what, key.0).unwrap_or(u64::MAX);
        self.revoked.insert(key, Revoked { for_what, at, reason, last_head, not_after });
    }

    fn not_after(&self, for_what: &KeyUse, key: KeyId) -> Option<u64> {
        let (_, not_after) = for_what.read(self.certified_as(for_what, key)?).ok()?;
        Some(not_after.as_millis())
    }

    /// PROTOCOL.md 15.5: "The certificates before it stay as long as they hold, and signing certificates as long as there is
    /// room, with the instant at which another took their place."
    fn renew(&mut self, for_what: &KeyUse, certificate: Der, at: u64) {
        let Ok((key, _)) = for_what.read(&certificate) else { return };
        match for_what {
            KeyUse::Authentication { server } => {
                self.let_go(for_what, at);
                if let Some(document) = self.server_mut(server) {
                    document.authentication.push(certificate);
                }
            }
            KeyUse::Signing { member, server } => {
                let replaced = Time::from_millis(at).plus(REPLACED_AFTER).as_millis();
                if let Some(document) = self.members.get_mut(member) {
                    for before in document.signing.iter_mut().filter(|each| each.server == *server) {
                        before.until = Some(before.until.map_or(replaced, |until| until.min(replaced)));
                    }
                    document.signing.push(SigningDocument { server: server.clone(), certificate, until: None });
                }
                self.let_go(for_what, at);
            }
            KeyUse::Forgotten => return,
        }
        self.keys.insert(Hex(key.id()), Held { for_what: for_what.clone(), waiting: None });
    }

    /// Certificates that are of no use any more leave the document, and their keys are forgotten.
    fn let_go(&mut self, for_what: &KeyUse, at: u64) {
        let mut gone = Vec::new();
        match for_what {
            KeyUse::Authentication { server } => {
                let revoked: BTreeSet<Hex> = self.revoked.keys().copied().collect();
                let Some(document) = self.server_mut(server) else { return };
                document.authentication.retain(|der| {
                    let holds = for_what
                        .read(der)
                        .is_ok_and(|(key, not_after)| at <= not_after.as_millis() && !revoked.contains(&Hex(key.id())));
                    if !holds {
                        gone.extend(proto::certificate::public_key(der.as_bytes()).ok());
                    }
                    holds
                });
            }
            KeyUse::Signing { member, .. } => {
                let Some(document) = self.members.get_mut(member) else { return };
                // What a replaced key sealed is proven by its certificate: the oldest goes only where there is no room.
                while document.signing.len() > MAX_SIGNING {
                    let Some(oldest) = document.signing.iter().position(|each| has_ended(each, at)) else { break };
                    let oldest = document.signing.remove(oldest);
                    gone.extend(proto::certificate::public_key(oldest.certificate.as_bytes()).ok());
                }
            }
            KeyUse::Forgotten => {}
        }
        for key in gone {
            self.keys.remove(&Hex(key.id()));
        }
    }

    fn server_mut(&mut self, server: &ServerId) -> Option<&mut ServerDocument> {
        self.members.get_mut(&server.owner())?.servers.iter_mut().find(|each| each.server == *server)
    }

    /// The keys of what was published are registered, whatever waited with them here.
    fn adopt(&mut self, member: MemberId, document: Option<MemberDocument>) {
        let Some(document) = document else {
            let servers = self.retire(&member);
            self.removed.extend(servers.into_iter().map(Registered::Server));
            return;
        };
        let authentication = document.servers.iter().flat_map(|listed| {
            let for_what = KeyUse::Authentication { server: listed.server.clone() };
            listed.authentication.iter().map(move |der| (der, for_what.clone()))
        });
        let signing = document.signing.iter().map(|listed| {
            let (member, server) = (document.member.clone(), listed.server.clone());
            (&listed.certificate, KeyUse::Signing { member, server })
        });
        for (der, for_what) in authentication.chain(signing) {
            if let Ok(key) = proto::certificate::public_key(der.as_bytes()) {
                self.keys.insert(Hex(key.id()), Held { for_what, waiting: None });
            }
        }
        self.members.insert(member, document);
    }

    fn adopt_revocation(&mut self, version: u64, key: Hex, last_head: Option<String>, at: u64) {
        if let Some(before) = self.revoked.get_mut(&key) {
            before.last_head = last_head;
            return;
        }
        let held = self.keys.get(&key).cloned();
        let for_what = held.map_or(KeyUse::Forgotten, |held| held.for_what);
        // Of a key that is listed nowhere any more it is not known how long its certificate would have held.
        let not_after = self.not_after(&for_what, key.0).unwrap_or(u64::MAX);
        let reason = format!("as version {version} said, before the restore");
        let reason = reason.parse().expect("a text of a line like any other");
        self.revoked.insert(key, Revoked { for_what, at, reason, last_head, not_after });
    }

    fn stand(&mut self, member: &MemberId, standing: Standing) {
        if let Some(document) = self.members.get_mut(member) {
            document.standing = standing;
        }
    }
}

/// What is so already is refused by name: whoever asked thinks that it is otherwise.
fn no_change(same: bool, why: &str) -> Result<(), Refused> {
    if same { Err(Refused::SoAlready(why.to_owned())) } else { Ok(()) }
}

/// Refuses a name that people would take for this other one: by case, by letters of other scripts, by digits for letters, by
/// what stands between words.
fn look_alike(name: &str, other: &str) -> Result<(), Refused> {
    if name != other && looks(name) == looks(other) {
        return Err(Refused::LooksLike { name: name.to_owned(), other: other.to_owned() });
    }
    Ok(())
}

/// What is left of a name for an eye that is in a hurry: the same for names that look alike.
fn looks(name: &str) -> String {
    let seen: String = skeleton(&skeleton(name).collect::<String>().to_lowercase()).collect();
    let between = |letter: &char| !matches!(letter, '-' | '_' | '.' | ' ') && !letter.is_whitespace();
    // Of l, I and 1, and of O and 0, the table makes one already; small i and big I are one by case.
    seen.to_lowercase().chars().filter(between).map(|letter| if letter == 'i' { 'l' } else { letter }).collect()
}

/// A member's standing in a word.
pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Active => "active",
        Standing::Suspended => "suspended",
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &'static str, invited: &T, asked: &T) -> Result<(), Refused> {
    if invited == asked {
        return Ok(());
    }
    Err(Refused::NotAsInvited { what, invited: invited.to_string(), asked: asked.to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::identifier::InstanceId;
    use proto::record::TreeName;
    use proto::signature::SigningKey;

    use super::foresight::Taken;
    use super::*;
    use crate::authority::CertificateAuthority;

    const NOW: u64 = 1_800_000_000_000;

    fn founded() -> (Register, By) {
        let (key, _) = SigningKey::generate();
        let instance = "VN".parse().unwrap();
        let event = Event::Founded {
            instance: InstanceDocument {
                instance,
                name: "A bus".into(),
                authorities: Vec::new(),
                timestamping: Vec::new(),
                purposes: Vec::new(),
            },
            admin: "an".parse().unwrap(),
            key: key.public().to_spki().into(),
        };
        let mut register = Register::default();
        let founded = register.admit(Entry::of(NOW, None, event)).unwrap();
        register.apply(founded);
        (register, By::new(key.public().id(), [1; 16]))
    }

    fn invited(token: u8) -> Event {
        let invitation = Invitation {
            member: "VN/GOV/moj".parse().unwrap(),
            name: Some("Justice".parse().unwrap()),
            server: "VN/GOV/moj/ss1".parse().unwrap(),
            subsystems: vec!["VN/GOV/moj/births".parse().unwrap()],
            valid: Duration::from_secs(60),
        };
        Event::Invited { token: Hex(Digest::of(&[&[token]])), invitation }
    }

    fn applied(token: u8, request: u64) -> Event {
        let key = || SigningKey::generate().0.public().to_spki().into();
        let application = Applied {
            digest: Hex(Digest::of(&[b"application", &[token]])),
            member: "VN/GOV/moj".parse().unwrap(),
            server: "VN/GOV/moj/ss1".parse().unwrap(),
            address: "a:1".parse().unwrap(),
            subsystems: Vec::new(),
            authentication_key: key(),
            signing_key: key(),
        };
        Event::Applied { request: RequestId(request), token: Hex(Digest::of(&[&[token]])), application }
    }

    fn follow(register: &mut Register, at: u64, by: Option<By>, event: Event) -> Result<(), Refused> {
        let admitted = register.admit(Entry::of(at, by, event))?;
        register.apply(admitted);
        Ok(())
    }

    #[test]
    fn nothing_comes_before_the_founding_and_it_comes_once() {
        let (mut register, by) = founded();
        let again = register.instance().unwrap().clone();
        let event = Event::Founded { instance: again, admin: "b".parse().unwrap(), key: Vec::new().into() };
        assert_eq!(follow(&mut register, NOW, None, event), Err(Refused::OutOfPlace));
        let early = follow(&mut Register::default(), NOW, Some(by), invited(1));
        assert_eq!(early, Err(Refused::OutOfPlace));
    }

    #[test]
    fn a_command_changes_the_register_once_and_is_remembered_twice_as_long_as_it_is_fresh() {
        let (mut register, by) = founded();
        follow(&mut register, NOW, Some(by.clone()), invited(1)).unwrap();
        let repeated = follow(&mut register, NOW + 120_000, Some(by.clone()), invited(2));
        assert!(matches!(repeated, Err(Refused::CommandRepeated(_))), "{repeated:?}");
        let other = By { command: "02".repeat(16), ..by.clone() };
        follow(&mut register, NOW + 120_001, Some(other), invited(2)).unwrap();
        // By now no command with this id would be fresh.
        assert_eq!(register.is_new(&by.command), Ok(()));
    }

    #[test]
    fn time_does_not_go_back() {
        let (mut register, by) = founded();
        assert_eq!(follow(&mut register, NOW - 1, Some(by), invited(1)), Err(Refused::OutOfPlace));
    }

    #[test]
    fn a_token_is_good_until_its_last_moment_and_once() {
        let (mut register, by) = founded();
        follow(&mut register, NOW, Some(by), invited(1)).unwrap();
        let late = follow(&mut register.clone(), NOW + 60_000, None, applied(1, 1));
        assert!(matches!(late, Err(Refused::TokenExpired(_))), "{late:?}");
        follow(&mut register, NOW + 59_999, None, applied(1, 1)).unwrap();
        assert_eq!(follow(&mut register, NOW + 59_999, None, applied(1, 2)), Err(Refused::TokenUsed));
    }

    #[test]
    fn a_rejection_is_final_and_frees_the_keys() {
        let (mut register, by) = founded();
        follow(&mut register, NOW, Some(by.clone()), invited(1)).unwrap();
        follow(&mut register, NOW, None, applied(1, 1)).unwrap();
        let reason: Text = "no".parse().unwrap();
        let reject = Event::Rejected { request: RequestId(1), reason };
        let by = |id: &str| Some(By { command: id.repeat(16), ..by.clone() });
        follow(&mut register, NOW, by("02"), reject.clone()).unwrap();
        assert!(register.keys.is_empty());
        let twice = follow(&mut register, NOW, by("03"), reject);
        assert_eq!(twice, Err(Refused::Decided { request: RequestId(1), decided: "rejected" }));
        let of_nothing = Event::Rejected { request: RequestId(2), reason: "no".parse().unwrap() };
        let unknown = follow(&mut register, NOW, by("04"), of_nothing).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no request R-2; did you mean R-1?");
    }

    #[test]
    fn a_certificate_that_no_authority_of_ours_issued_is_not_recorded() {
        let (mut register, by) = founded();
        follow(&mut register, NOW, Some(by.clone()), invited(1)).unwrap();
        follow(&mut register, NOW, None, applied(1, 1)).unwrap();
        let approved = Event::Approved {
            request: RequestId(1),
            authentication: vec![0x30, 0].into(),
            signing: vec![0x30, 0].into(),
        };
        let by = Some(By { command: "02".repeat(16), ..by });
        let refused = follow(&mut register, NOW, by, approved);
        assert!(matches!(refused, Err(Refused::Certificate { .. })), "{refused:?}");
    }

    /// An authority, and a register that knows it.
    fn governed() -> (CertificateAuthority, Register, By) {
        let now = Time::from_millis(NOW);
        let instance: InstanceId = "VN".parse().unwrap();
        let (key, pkcs8) = SigningKey::generate();
        let certificate = CertificateAuthority::found(&instance, key, now).unwrap();
        let authority = CertificateAuthority::open(&certificate, SigningKey::from_pkcs8(&pkcs8).unwrap()).unwrap();
        let (key, _) = SigningKey::generate();
        let event = Event::Founded {
            instance: InstanceDocument {
                instance,
                name: "A bus".into(),
                authorities: vec![certificate],
                timestamping: Vec::new(),
                purposes: Vec::new(),
            },
            admin: "an".parse().unwrap(),
            key: key.public().to_spki().into(),
        };
        let mut register = Register::default();
        follow(&mut register, NOW, None, event).unwrap();
        (authority, register, By::new(key.public().id(), [0; 16]))
    }

    /// Invited, applied and approved: a server of the Ministry of Justice that hosts births, with its two keys.
    fn enrol(authority: &CertificateAuthority, register: &mut Register, server: &str) -> [KeyId; 2] {
        let number = register.next_request();
        let token = Hex(Digest::of(&[b"token", server.as_bytes()]));
        let invitation = Invitation {
            member: "VN/GOV/moj".parse().unwrap(),
            name: Some("Justice".parse().unwrap()),
            server: server.parse().unwrap(),
            subsystems: vec!["VN/GOV/moj/births".parse().unwrap()],
            valid: Duration::from_secs(60),
        };
        let keys = [SigningKey::generate().0, SigningKey::generate().0];
        let application = Applied {
            digest: Hex(Digest::of(&[b"application", server.as_bytes()])),
            member: invitation.member.clone(),
            server: invitation.server.clone(),
            address: "a:1".parse().unwrap(),
            subsystems: invitation.subsystems.clone(),
            authentication_key: keys[0].public().to_spki().into(),
            signing_key: keys[1].public().to_spki().into(),
        };
        let now = register.last();
        let authentication = authority.authentication(&application, now).unwrap();
        let signing = authority.signing(&application, now).unwrap();
        for event in [
            Event::Invited { token, invitation },
            Event::Applied { request: number, token, application },
            Event::Approved { request: number, authentication, signing },
        ] {
            follow(register, now.as_millis(), None, event).unwrap();
        }
        keys.map(|key| key.public().id())
    }

    fn revoked(key: KeyId, last_head: Option<&str>) -> Event {
        let last_head = last_head.map(str::to_owned);
        Event::Revoked { key: Hex(key), reason: "stolen".parse().unwrap(), last_head }
    }

    fn head(size: u64) -> String {
        let (tree, root) = (TreeName(Digest::of(&[b"tree"])), Digest::of(&[b"root"]));
        Head { tree, size, root }.to_text()
    }

    #[test]
    fn a_key_is_revoked_for_good_and_only_its_last_head_may_follow() {
        let (authority, mut register, _) = governed();
        let [authentication, signing] = enrol(&authority, &mut register, "VN/GOV/moj/ss1");
        let unknown = follow(&mut register, NOW, None, revoked(Digest::ZERO, None));
        assert_eq!(unknown, Err(Refused::NoKey(Digest::ZERO)));
        let of_no_log = follow(&mut register, NOW, None, revoked(authentication, Some(&head(7))));
        assert_eq!(of_no_log, Err(Refused::NoHeadOf(authentication)));
        let no_head = follow(&mut register, NOW, None, revoked(signing, Some("a head")));
        assert_eq!(no_head, Err(Refused::NoHeadOf(signing)));

        follow(&mut register, NOW, None, revoked(authentication, None)).unwrap();
        follow(&mut register, NOW, None, revoked(signing, None)).unwrap();
        let again = follow(&mut register, NOW, None, revoked(signing, None));
        assert_eq!(again, Err(Refused::RevokedAlready(signing)));
        follow(&mut register, NOW, None, revoked(signing, Some(&head(7)))).unwrap();
        let moved = follow(&mut register, NOW, None, revoked(signing, Some(&head(8))));
        assert_eq!(moved, Err(Refused::RevokedAlready(signing)));
        let mut told: Vec<_> = register.revoked_keys().collect();
        told.sort_by_key(|revoked| revoked.last_head.is_some());
        let named =
            |key, last_head: Option<String>| RevokedKey { key, last_head: last_head.map(|head| head.parse().unwrap()) };
        assert_eq!(told, [named(authentication, None), named(signing, Some(head(7)))]);
        // Its certificate is long over, and it is listed still: it is not forgotten.
        register.last += 10 * 365 * 24 * 3_600_000;
        assert_eq!(register.revoked_keys().count(), 2);
    }

    #[test]
    fn a_key_that_only_waits_is_not_revoked_its_request_is_rejected() {
        let (mut register, by) = founded();
        follow(&mut register, NOW, Some(by), invited(1)).unwrap();
        let application = applied(1, 1);
        let Event::Applied { application: Applied { signing_key, .. }, .. } = &application else { panic!("it is") };
        let key = Digest::of(&[signing_key.as_bytes()]);
        follow(&mut register, NOW, None, application).unwrap();
        let refused = follow(&mut register, NOW, None, revoked(key, None));
        assert_eq!(refused, Err(Refused::KeyWaits { key, request: RequestId(1) }));
    }

    #[test]
    fn what_an_entry_would_take_is_what_it_takes_and_what_keeps_another_server_is_told_apart() {
        let (authority, mut register, _) = governed();
        let first = enrol(&authority, &mut register, "VN/GOV/moj/ss1");
        let second = enrol(&authority, &mut register, "VN/GOV/moj/ss2");
        let (ss1, ss2): (ServerId, ServerId) = ("VN/GOV/moj/ss1".parse().unwrap(), "VN/GOV/moj/ss2".parse().unwrap());
        let births: SubsystemId = "VN/GOV/moj/births".parse().unwrap();
        let foresee = |register: &Register, event: Event| {
            register.taken_by(&register.admit(Entry::of(NOW, None, event)).unwrap())
        };
        let nothing = Taken::default();
        let foreseen = foresee(&register, revoked(first[0], None));
        let thinned = vec![(births.clone(), ss1.clone())];
        assert_eq!(foreseen, Taken { servers: vec![ss1.clone()], thinned: thinned.clone(), ..nothing.clone() });
        // A server that cannot seal for the member is a server all the same.
        let foreseen = foresee(&register, revoked(first[1], None));
        assert_eq!(foreseen, Taken { thinned, ..nothing.clone() });

        follow(&mut register, NOW, None, revoked(first[1], None)).unwrap();
        let foreseen = foresee(&register, revoked(second[0], None));
        assert_eq!(foreseen, Taken { servers: vec![ss2], subsystems: vec![births.clone()], ..nothing.clone() });
        let member: MemberId = "VN/GOV/moj".parse().unwrap();
        let suspended = Event::Suspended { member: member.clone(), reason: "why".parse().unwrap() };
        let foreseen = foresee(&register, suspended);
        assert_eq!(foreseen, Taken { members: vec![member], subsystems: vec![births], ..nothing });
    }

    #[test]
    fn where_two_persons_are_needed_no_entry_of_one_is_admitted_and_the_number_follows_a_later_root_only() {
        let (mut register, _) = founded();
        let keys = [SigningKey::generate().0, SigningKey::generate().0];
        let person = |(key, name): (&SigningKey, &str)| Person {
            name: name.parse().unwrap(),
            roles: all_roles(),
            key: key.public().to_spki().into(),
        };
        let persons: Vec<Person> = keys.iter().zip(["an", "binh"]).map(person).collect();
        let governed = |root, threshold, anchor: &[u8]| {
            let persons = Persons { threshold, persons: persons.clone() };
            Event::Governed { root, anchor: Hex(Digest::of(&[anchor])), persons }
        };
        follow(&mut register, NOW, None, governed(1, 2, b"anchor")).unwrap();
        let by = |id| Some(By::new(keys[0].public().id(), [id; 16]));
        follow(&mut register, NOW, by(1), invited(1)).unwrap();
        let restored = Event::Restored { member: "VN/GOV/moj".parse().unwrap() };
        let mut with_member = register.clone();
        with_member.leaving.insert("VN/GOV/moj".parse().unwrap(), "why".parse().unwrap());
        let alone = follow(&mut with_member.clone(), NOW, by(2), restored.clone());
        assert_eq!(alone, Err(Refused::OnePerson { needed: 2 }));
        let confirms = Some(Hex(Digest::of(&[b"what nobody proposed"])));
        let entry = Entry { confirms, ..Entry::of(NOW, by(2), restored) };
        assert_eq!(with_member.admit(entry).map(|_| ()), Err(Refused::NoProposal));
        for (root, anchor) in [(1, &b"anchor"[..]), (2, b"another instance's")] {
            let lowered = follow(&mut register.clone(), NOW, None, governed(root, 1, anchor));
            assert_eq!(lowered, Err(Refused::OutOfPlace), "root {root}");
        }
        follow(&mut register, NOW, None, governed(2, 1, b"anchor")).unwrap();
        assert_eq!(register.persons_needed(), 1);
    }

    #[test]
    fn a_version_is_published_once() {
        let (mut register, _) = founded();
        let published = |version| Event::Published { version, timestamp: Hex(Digest::ZERO), checkpoint: None };
        follow(&mut register, NOW, None, published(3)).unwrap();
        assert_eq!(follow(&mut register, NOW, None, published(3)), Err(Refused::VersionPublished(3)));
        follow(&mut register, NOW, None, published(4)).unwrap();
    }

    #[test]
    fn only_the_checkpoint_that_follows_from_the_journal_is_published() {
        let (mut register, _) = founded();
        let instance = register.instance().unwrap().instance.clone();
        let published = |version, timestamp: Digest, ledger: Option<&Ledger>| {
            let checkpoint = ledger.map(|ledger| ledger.checkpoint().to_text());
            Event::Published { version, timestamp: Hex(timestamp), checkpoint }
        };
        // A registry that kept no ledger begins one with its next version.
        follow(&mut register, NOW, None, published(3, Digest::ZERO, None)).unwrap();
        let mut ledger = Ledger::awaiting(None, &instance, 4);
        ledger.append(&Digest::ZERO);
        let other = Digest::of(&[b"other"]);
        let refused = |version| Err(Refused::OtherCheckpoint(version));
        assert_eq!(follow(&mut register, NOW, None, published(4, other, Some(&ledger))), refused(4));
        follow(&mut register, NOW, None, published(4, Digest::ZERO, Some(&ledger))).unwrap();
        assert_eq!(register.ledger(), Some(&ledger));
        // And never publishes without one again.
        assert_eq!(follow(&mut register, NOW, None, published(5, Digest::ZERO, None)), refused(5));
        let before = ledger.clone();
        ledger.append(&Digest::ZERO);
        assert_eq!(follow(&mut register, NOW, None, published(5, Digest::ZERO, Some(&before))), refused(5));
        follow(&mut register, NOW, None, published(5, Digest::ZERO, Some(&ledger))).unwrap();
        // Put back, it begins another one that says how far this one was known.
        let adopted = |genesis: &Genesis, leaves: &[Digest]| Event::AdoptedLeaves {
            genesis: genesis.clone(),
            leaves: leaves.iter().copied().map(Hex).collect(),
        };
        follow(&mut register, NOW, None, adopted(&ledger.geneses()[0], &[other])).unwrap();
        ledger.append_leaf(other);
        // Of ledgers that were begun meanwhile only what follows what is known, and of no other instance.
        let (foreign, unknown) = (Ledger::awaiting(Some(&ledger), &"LA".parse().unwrap(), 9), before);
        for genesis in [&foreign.geneses()[0], &Ledger::awaiting(Some(&unknown), &instance, 9).geneses()[0]] {
            assert_eq!(follow(&mut register, NOW, None, adopted(genesis, &[])), Err(Refused::OutOfPlace));
        }
        ledger = Ledger::awaiting(Some(&ledger), &instance, 9);
        follow(&mut register, NOW, None, adopted(&ledger.geneses()[0], &[])).unwrap();
        follow(&mut register, NOW, None, adopted(&ledger.geneses()[0], &[other])).unwrap();
        ledger.append_leaf(other);
        assert_eq!(register.ledger(), Some(&ledger));
        let put_back = Event::PutBack { backup: "b".into(), taken_up: 9, passes_over: 1_000 };
        follow(&mut register, NOW, None, put_back).unwrap();
        let mut anew = Ledger::awaiting(Some(&ledger), &instance, 1_001);
        assert_eq!(anew.geneses().len(), 3);
        anew.append(&Digest::ZERO);
        ledger.append(&Digest::ZERO);
        assert_eq!(follow(&mut register, NOW, None, published(1_001, Digest::ZERO, Some(&ledger))), refused(1_001));
        follow(&mut register, NOW, None, published(1_001, Digest::ZERO, Some(&anew))).unwrap();
    }

    #[test]
    fn a_journal_without_a_ledger_takes_up_the_one_that_was_published() {
        let (mut register, _) = founded();
        let mut published = Ledger::awaiting(None, &register.instance().unwrap().instance, 4);
        let genesis = published.geneses()[0].clone();
        let leaves = vec![Hex(Digest::ZERO)];
        follow(&mut register, NOW, None, Event::AdoptedLeaves { genesis, leaves }).unwrap();
        published.append_leaf(Digest::ZERO);
        assert_eq!(register.ledger(), Some(&published));
    }

    #[test]
    fn register_and_entries_read_as_they_are_written() {
        let (mut register, by) = founded();
        for (by, event) in [(Some(by), invited(1)), (None, applied(1, 1))] {
            let entry = Entry::of(NOW, by, event);
            let read: Entry = serde_json::from_slice(&serde_json::to_vec(&entry).unwrap()).unwrap();
            assert_eq!(read, entry);
            let admitted = register.admit(read).unwrap();
            register.apply(admitted);
        }
        let read: Register = serde_json::from_slice(&serde_json::to_vec(&register).unwrap()).unwrap();
        assert_eq!(read, register);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_of_entries_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (register, _) = founded();
            if let Ok(entry) = serde_json::from_slice::<Entry>(&bytes) {
                let _ = register.admit(entry);
            }
        }
    }
}
