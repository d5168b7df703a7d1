//! Why the register refuses something, in words that name the thing, the rule and the remedy.

use catalogue::{Undescribed, Undocumented};
use proto::catalogue::{ServiceName, Version};
use proto::digest::Digest;
use proto::identifier::{MemberId, ServerId, SubsystemId};
use proto::purposes::PurposeCode;
use proto::registration::{Malformed, Registered, RequestId, Text};
use proto::signature::KeyId;
use proto::time::Time;

/// Why something is refused. One closed list; `serve` maps it to the wire once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not well formed, or not signed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The key that signed is no admin's.
    #[error("key {0} is no admin's of this instance; use the key file that `init` made")]
    NoAdmin(KeyId),
    /// The admin's role is another.
    #[error("{name} is {has} here, and this is for a {wanted}; ask one of those")]
    NotTheRole {
        /// Who.
        name: Text,
        /// What this person is.
        has: String,
        /// Who may.
        wanted: String,
    },
    /// It needs more persons.
    #[error("this needs {needed} persons; the first one orders it, and others confirm it: `central-registry confirm`")]
    OnePerson {
        /// How many.
        needed: usize,
    },
    /// The same person again.
    #[error("this person is among those of P-{number} already, and counts once; let another one confirm it")]
    SamePerson {
        /// The proposal.
        number: u64,
    },
    /// Nothing waits with this digest.
    #[error("nothing that was ordered so waits here; `central-registry proposals` shows what does")]
    NoProposal,
    /// It waited too long.
    #[error("P-{number} waited until {expires} and is no more; order it again")]
    ProposalExpired {
        /// The proposal.
        number: u64,
        /// Until when.
        expires: Time,
    },
    /// The command was carried out already.
    #[error("command {0} was received already; sign a new one")]
    CommandRepeated(String),
    /// No invitation has this token.
    #[error("the token is not known here; check that all of it was copied, and ask the registry for a new one if so")]
    TokenUnknown,
    /// The token brought in another request.
    #[error("the token was used already, and is good once; ask the registry for a new one")]
    TokenUsed,
    /// The token is too old.
    #[error("the token expired at {0}; ask the registry for a new one")]
    TokenExpired(Time),
    /// The applicant is not the one invited.
    #[error("the invitation is for {what} {invited}, not {asked}; join as invited, or ask for another invitation")]
    NotAsInvited {
        /// What differs.
        what: &'static str,
        /// As invited.
        invited: String,
        /// As asked.
        asked: String,
    },
    /// The invitation does not name this subsystem.
    #[error("the invitation does not name the subsystem {0}; leave it out, or ask for another invitation")]
    SubsystemNotInvited(SubsystemId),
    /// The key belongs to another registration.
    #[error("key {0} is registered or applied for already, and a key has one use; make new ones with `join`")]
    KeyInUse(KeyId),
    /// The key is revoked.
    #[error("key {0} is revoked, for good; make a new one")]
    RevokedAlready(KeyId),
    /// No registered key has this name.
    #[error("no registered key has the name {0}; `central-registry members` shows all that are")]
    NoKey(KeyId),
    /// The key waits with a request.
    #[error("key {key} is not registered yet, it waits with {request}; reject that one")]
    KeyWaits {
        /// The key.
        key: KeyId,
        /// The request.
        request: RequestId,
    },
    /// A last head where there is none.
    #[error(
        "key {0} signs no log, or the text is no head; give --last-head for a signing key, as its member's log has it"
    )]
    NoHeadOf(KeyId),
    /// There is no such server.
    #[error("there is no server {server}; {remedy}")]
    NoServer {
        /// As asked.
        server: ServerId,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// The purpose is not on the list.
    #[error("there is no purpose {purpose} on the list; {remedy}")]
    NoPurpose {
        /// As asked.
        purpose: PurposeCode,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// Without a list any text is a purpose.
    #[error("{0} is the only purpose on the list, and without a list any text is a purpose; set another one first")]
    LastPurpose(PurposeCode),
    /// The purpose lacks a text.
    #[error("{0}")]
    PurposeUntold(String),
    /// There is no such subsystem.
    #[error("there is no subsystem {subsystem}; {remedy}")]
    NoSubsystem {
        /// As asked.
        subsystem: SubsystemId,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// Entries that are not of one publication.
    #[error(
        "1 to 64 entries are published at once, of one subsystem, one server and one descriptor set; publish them apart"
    )]
    EntriesDiffer,
    /// A server that does not speak for the subsystem.
    #[error("{server} does not host {subsystem}; publish at a server that does")]
    NotHosted {
        /// The subsystem.
        subsystem: SubsystemId,
        /// The server.
        server: ServerId,
    },
    /// A version that is not newer.
    #[error("{service} is listed as version {listed}, and {offered} is not newer; give a higher --version")]
    VersionNotNewer {
        /// The service.
        service: ServiceName,
        /// As it is listed.
        listed: Version,
        /// As it was offered.
        offered: Version,
    },
    /// Descriptors that are none, or hostile.
    #[error(transparent)]
    Descriptors(#[from] Undescribed),
    /// An OpenAPI document that is none, or hostile.
    #[error(transparent)]
    OpenApi(#[from] Undocumented),
    /// A service that was of the other kind.
    #[error("{service} was {was}, and is {is}; give it a new major version, --version {next}.0, or a name of its own")]
    OtherForm {
        /// The service.
        service: ServiceName,
        /// As it is listed.
        was: &'static str,
        /// As it was offered.
        is: &'static str,
        /// The major version that it needs.
        next: u32,
    },
    /// An entry that says otherwise than the descriptors.
    #[error(
        "the entry of {service} says otherwise than its descriptors or OpenAPI document; let `security-server services publish` make it"
    )]
    NotAsDescribed {
        /// The service.
        service: ServiceName,
    },
    /// Something that consumers rely on.
    #[error(
        "{service} {offered} breaks what consumers of {listed} rely on: {}; give it a new major version, --version {}.0, or \
         leave that as it was",
        .findings.join(", "), .listed.major + 1
    )]
    Breaks {
        /// The service.
        service: ServiceName,
        /// As it is listed.
        listed: Version,
        /// As it was offered.
        offered: Version,
        /// What breaks.
        findings: Vec<String>,
    },
    /// A second source of an element, or people who would be asked again for what somebody has.
    #[error("{}", .0.join("; "))]
    NotOnce(Vec<String>),
    /// Nothing of this name is kept.
    #[error("nothing with the SHA-256 {0} is kept here; ask for what the newest configuration names")]
    NoContent(Digest),
    /// A subsystem's member has no signing key at the server.
    #[error("{member} has no signing key at {server}; host its subsystems at a server that it joined with")]
    SealsNothingThere {
        /// The member.
        member: MemberId,
        /// The server.
        server: ServerId,
    },
    /// Nothing would change.
    #[error("{0}; nothing is to be done")]
    SoAlready(String),
    /// The name was somebody's, and is nobody's again.
    #[error("{0} was removed, for good: others may still trust that name; choose another")]
    Removed(Registered),
    /// A name that people would take for another.
    #[error("{name} looks like {other}, which is registered; choose a name that nobody takes for another")]
    LooksLike {
        /// As asked.
        name: String,
        /// The one that it looks like.
        other: String,
    },
    /// The key is none with which this may be asked.
    #[error(
        "key {key} is none with which {server} may ask for this: it was replaced or revoked, or ended too long ago; ask the \
         registry's admins for an invitation to replace the server's keys"
    )]
    NotTheServersKey {
        /// The server.
        server: ServerId,
        /// The key.
        key: KeyId,
    },
    /// Too many keys of one use.
    #[error("{for_what} has {limit} good keys already; wait until the first of them ends, or have one revoked")]
    KeysEnough {
        /// What they are for.
        for_what: String,
        /// How many there may be.
        limit: usize,
    },
    /// A certificate that is not what the register says it must be.
    #[error("the certificate made for {for_what} is wrong: {reason}; see the registry's diagnostics")]
    WrongCertificate {
        /// What it is for.
        for_what: String,
        /// What is wrong.
        reason: String,
    },
    /// The server is registered.
    #[error("the server {0} is registered already; give the new one another name")]
    ServerRegistered(ServerId),
    /// Another request for the same server waits.
    #[error("{request} for the server {server} is waiting; decide it first")]
    ServerWaiting {
        /// The server.
        server: ServerId,
        /// The request.
        request: RequestId,
    },
    /// A new member needs a name.
    #[error("{0} is not registered yet and needs a name for people; add --name")]
    NameWanted(MemberId),
    /// The name is not the registered one.
    #[error("{member} is registered as {registered:?}; leave --name out")]
    NameDiffers {
        /// The member.
        member: MemberId,
        /// Its name.
        registered: String,
    },
    /// There is no such request.
    #[error("there is no request {request}; {remedy}")]
    NoRequest {
        /// As asked.
        request: RequestId,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// No request has this digest.
    #[error("no request came from this application; send it again")]
    NoApplication,
    /// The request was decided.
    #[error(
        "{request} was {decided} already, and a decision is not taken back; suspend the member or revoke a key instead"
    )]
    Decided {
        /// The request.
        request: RequestId,
        /// What became of it.
        decided: &'static str,
    },
    /// There is no such member.
    #[error("there is no member {member}; {remedy}")]
    NoMember {
        /// As asked.
        member: MemberId,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// The member is suspended, or active, already.
    #[error("{member} is {standing} already; nothing is to be done")]
    StandingAlready {
        /// The member.
        member: MemberId,
        /// Its standing.
        standing: &'static str,
    },
    /// It may have been carried out by what was lost since the backup.
    #[error(
        "the registry was put back from a backup, and a command that was signed up to {0} may have been carried out \
         before; sign a new one after that"
    )]
    AfterRestore(Time),
    /// A limit of the register.
    #[error("the register takes at most {limit} {what}; ask those who govern the instance")]
    Limit {
        /// What there would be too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A certificate is not what the register says it must be.
    #[error("the certificate made for {request} is wrong: {reason}; see the registry's diagnostics")]
    Certificate {
        /// The request.
        request: RequestId,
        /// What is wrong.
        reason: String,
    },
    /// The register begins once, and with that.
    #[error(
        "the register begins with its founding, once, and this entry is out of place; see the registry's diagnostics"
    )]
    OutOfPlace,
    /// A version would be published twice.
    #[error("version {0} was published already; a version is never published with another content")]
    VersionPublished(u64),
    /// A checkpoint that is not the one which follows from what was recorded.
    #[error(
        "the checkpoint of version {0} is not the one that follows from the journal: nothing is published; restart the registry"
    )]
    OtherCheckpoint(u64),
    /// The journal has ended: nothing can be recorded, so nothing is decided.
    #[error("the registry cannot record anything: {0}; see its diagnostics, mend the disk and start it again")]
    NotRecorded(String),
    /// The registry could not carry it out.
    #[error("the registry failed: {0}; see its diagnostics")]
    Failed(String),
}
