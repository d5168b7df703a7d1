//! An admin's commands: signed with the admin's own key, sent to the registry, answered in words or as JSON.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use command_line::{Exit, Foreseen, did_you_mean, file_remedy, read_toml};
use proto::digest::Digest;
use proto::head::Head;
use proto::identifier::InstanceId;
use proto::registration::{Address, CommandId, Malformed, Order, Token, ordered_by, sign_command, sign_dry_run};
use proto::signature::SigningKey;
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use registry_client::{AdministrationClient, Fingerprint, NoConnection, connect};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonic::Code;

use crate::Clock;

/// An admin's file: which registry, and with which key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminFile {
    /// The instance that is administered.
    pub instance: InstanceId,
    /// Where its registry is.
    pub registry: Address,
    /// What is pinned.
    pub fingerprint: Fingerprint,
    /// The admin's key.
    pub key: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdminFile {
    instance: String,
    registry: String,
    fingerprint: String,
    key: PathBuf,
}

/// Why an admin's file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NoAdminFile {
    /// It cannot be read.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "`central-registry init` writes one for the first admin"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not of its form.
    #[error("{path}: {reason}; the keys are instance, registry, fingerprint and key")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl AdminFile {
    /// Reads an admin's file. A relative key is meant from where the file stands.
    pub fn read(path: &Path) -> Result<Self, NoAdminFile> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| NoAdminFile::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, NoAdminFile> {
        let form = |reason: String| NoAdminFile::Form { path: path.to_owned(), reason };
        let raw: RawAdminFile = read_toml(text).map_err(form)?;
        Ok(Self {
            instance: raw.instance.parse().map_err(|error| form(format!("instance: {error}")))?,
            registry: raw.registry.parse().map_err(|error| form(format!("registry: {error}")))?,
            fingerprint: raw.fingerprint.parse().map_err(|error| form(format!("fingerprint: {error}")))?,
            key: path.parent().unwrap_or(Path::new("")).join(raw.key),
        })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let raw = RawAdminFile {
            instance: self.instance.to_string(),
            registry: self.registry.to_string(),
            fingerprint: self.fingerprint.to_string(),
            key: self.key.clone(),
        };
        format!(
            "# Who commands a central registry: keep it with the key, which is encrypted.\n{}",
            toml::to_string(&raw).expect("four texts")
        )
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The registry cannot be reached.
    #[error(transparent)]
    Connection(#[from] NoConnection),
    /// The registry refused it.
    #[error("{reason}")]
    Refused {
        /// Why, on the wire.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// The registry answered something else.
    #[error("the registry's answer is not one to this command; are both of the same version?")]
    Answer,
}

impl Failed {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Connection(NoConnection::OtherRegistry { .. }) => Exit::Refused,
            Self::Connection(NoConnection::Unreachable { .. }) => Exit::Unreachable,
            Self::Refused { code, .. } => match code {
                Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
                Code::NotFound => Exit::NotFound,
                Code::Internal | Code::Unknown | Code::DataLoss => Exit::Failed,
                _ => Exit::Refused,
            },
            Self::Answer => Exit::Failed,
        }
    }
}

/// An admin with the key in hand, and the registry that is commanded.
pub struct Admin {
    /// The instance.
    pub instance: InstanceId,
    /// Where its registry is.
    pub registry: Address,
    /// What is pinned.
    pub fingerprint: Fingerprint,
    /// The admin's own key.
    pub key: SigningKey,
    /// The admin's clock.
    pub clock: Clock,
}

impl Admin {
    /// Signs the order, sends it, and returns the answer.
    pub async fn submit(&self, order: &Order) -> Result<Answer, Failed> {
        self.send(sign_command(order, &self.instance, drawn(), (self.clock)(), &self.key)).await
    }

    /// Asks whether the order would be carried out, and what it would change. Nothing is.
    pub async fn foresee(&self, order: &Order) -> Result<Foreseen, Failed> {
        let command = sign_dry_run(order, &self.instance, drawn(), (self.clock)(), &self.key);
        let Answer::Foreseen(wire::Foreseen { changes }) = self.send(command).await? else {
            return Err(Failed::Answer);
        };
        Ok(Foreseen::new(changes))
    }

    /// What waits under this name for other persons.
    pub async fn waiting(&self, proposal: &str) -> Result<wire::Proposal, Failed> {
        let Answer::Proposals(wire::Proposals { proposals }) = self.submit(&Order::ListProposals).await? else {
            return Err(Failed::Answer);
        };
        let known: Vec<String> = proposals.iter().map(|each| each.proposal.clone()).collect();
        proposals.into_iter().find(|each| each.proposal == proposal).ok_or_else(|| {
            let remedy = did_you_mean(proposal, known, "`central-registry proposals` shows what does");
            Failed::Refused { code: Code::NotFound, reason: format!("nothing waits as {proposal}; {remedy}") }
        })
    }

    async fn send(&self, command: wire::SignedCommand) -> Result<Answer, Failed> {
        let channel = connect(&self.registry, self.fingerprint).await?;
        let answer = AdministrationClient::new(channel)
            .max_decoding_message_size(registry_client::MAX_ANSWER_BYTES)
            .submit(command)
            .await
            .map_err(|status| Failed::Refused { code: status.code(), reason: status.message().to_owned() })?;
        answer.into_inner().result.ok_or(Failed::Answer)
    }

    /// Invites, and returns what the invited server's admin is told.
    pub async fn invite(&self, order: &Order) -> Result<Invitation, Failed> {
        let Answer::Invited(invited) = self.submit(order).await? else { return Err(Failed::Answer) };
        Ok(Invitation {
            registry: self.registry.clone(),
            fingerprint: self.fingerprint,
            token: Token::from_bytes(invited.token[..].try_into().map_err(|_| Failed::Answer)?),
            anchor_digest: Digest::try_from(&invited.anchor_digest[..]).map_err(|_| Failed::Answer)?,
            expires: proto::time::Time::from_millis(invited.expires),
        })
    }
}

/// What a person signed who orders something that others are to confirm: read from the very bytes, and not from what the
/// registry says of them.
pub struct SignedOrder {
    digest: Digest,
    /// What it orders.
    pub words: String,
}

impl SignedOrder {
    /// The order by which another person confirms it.
    pub fn confirmed(&self) -> Order {
        Order::Confirm(self.digest)
    }
}

/// Reads what was signed from a proposal.
pub fn signed(proposal: &wire::Proposal) -> Result<SignedOrder, Malformed> {
    let words = match ordered_by(&proposal.command)? {
        Order::Approve(request) => format!("approve {request}"),
        Order::Host(subsystem, server) => format!("let {server} speak for {subsystem}"),
        Order::Restore(member) => format!("restore {member}"),
        Order::Remove(what, reason) => format!("remove {what}, for good: {reason}"),
        Order::SetPurpose(it) => format!("put the purpose {} on the list: \"{}\", \"{}\"", it.purpose, it.en, it.vi),
        Order::RemovePurpose(purpose, reason) => format!("take the purpose {purpose} off the list: {reason}"),
        other => format!("{other:?}"),
    };
    Ok(SignedOrder { digest: Digest::of(&[&proposal.command]), words })
}

/// How the program ends with this answer.
pub fn exit(answer: &Answer) -> Exit {
    if matches!(answer, Answer::Proposed(_)) { Exit::Waiting } else { Exit::Ok }
}

/// A file holds no head.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}; it is the text of a head, as a seal holds it", .path.display())]
pub struct NoHead {
    path: PathBuf,
    reason: String,
}

/// Reads a head from a file.
pub fn read_head(path: &Path) -> Result<Head, NoHead> {
    let no_head = |reason: String| NoHead { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| no_head(error.to_string()))?;
    Head::parse(&text).map_err(|error| no_head(error.to_string()))
}

fn drawn() -> CommandId {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).expect("the system's random source works, or nothing does");
    id
}

/// What the admin of an invited server is told, over a way that both trust.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Where the registry is.
    pub registry: Address,
    /// What is pinned.
    pub fingerprint: Fingerprint,
    /// Good once.
    pub token: Token,
    /// SHA-256 of the anchor.
    pub anchor_digest: Digest,
    /// Until when the token is good.
    pub expires: proto::time::Time,
}

// ---- answers for people and for programs

/// The answer as JSON.
pub fn to_json(answer: &Answer) -> Value {
    let key = |bytes: &[u8]| hex::encode(bytes);
    match answer {
        Answer::Invited(invited) => json!({ "expires": invited.expires, "anchor_digest": key(&invited.anchor_digest) }),
        Answer::Decided(decided) => json!({ "version": decided.version }),
        Answer::Foreseen(wire::Foreseen { changes }) => json!(Foreseen::new(changes.clone())),
        Answer::Proposed(wire::Proposed { proposal }) => {
            json!({ "waiting": proposal.as_ref().map(proposal_to_json) })
        }
        Answer::Proposals(wire::Proposals { proposals }) => {
            json!({ "proposals": proposals.iter().map(proposal_to_json).collect::<Vec<_>>() })
        }
        Answer::Purposes(wire::Purposes { purposes }) => {
            let each = purposes.iter().map(|it| json!({ "purpose": it.purpose, "en": it.en, "vi": it.vi }));
            json!({ "purposes": each.collect::<Vec<_>>() })
        }
        Answer::Grants(wire::Grants { grants, more }) => {
            json!({ "grants": grants.iter().map(grant_to_json).collect::<Vec<_>>(), "more": more })
        }
        Answer::Requests(wire::Requests { requests }) => {
            let each = requests.iter().map(|each| {
                json!({
                    "request": each.request, "standing": each.standing, "member": each.member, "name": each.name,
                    "server": each.server, "address": each.address, "subsystems": each.subsystems,
                    "authentication_key": key(&each.authentication_key), "signing_key": key(&each.signing_key),
                    "received": proto::time::Time::from_millis(each.received).to_string(),
                    "new_member": each.new_member, "reason": each.reason,
                })
            });
            json!({ "requests": each.collect::<Vec<_>>() })
        }
        Answer::Members(wire::Members { members }) => {
            let each = members.iter().map(|each| {
                let subsystems = each.subsystems.iter();
                let servers = each.servers.iter();
                json!({
                    "member": each.member, "name": each.name, "standing": each.standing,
                    "leaving": (!each.leaving.is_empty()).then_some(&each.leaving),
                    "subsystems": subsystems
                        .map(|it| json!({ "subsystem": it.subsystem, "servers": it.servers }))
                        .collect::<Vec<_>>(),
                    "servers": servers
                        .map(|it| json!({
                            "server": it.server, "address": it.address,
                            "maintenance": (!it.maintenance.is_empty()).then_some(&it.maintenance),
                            "authentication": it.authentication.iter().map(key_to_json).collect::<Vec<_>>(),
                        }))
                        .collect::<Vec<_>>(),
                    "signing": each.signing.iter().map(key_to_json).collect::<Vec<_>>(),
                })
            });
            json!({ "members": each.collect::<Vec<_>>() })
        }
    }
}

fn grant_to_json(grant: &wire::OverseenGrant) -> Value {
    let time = |millis: u64| proto::time::Time::from_millis(millis).to_string();
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "grant": hex::encode(&grant.grant), "standing": grant.standing, "consumer": grant.consumer,
        "provider": grant.provider, "services": services_of(grant), "methods": grant.methods,
        "purposes": grant.purposes, "unlisted_purposes": grant.unlisted, "legal_basis": grant.legal_basis,
        "valid_from": time(grant.valid_from), "valid_until": time(grant.valid_until),
        "per_second": (grant.per_second > 0).then_some(grant.per_second), "server": grant.server,
        "number": grant.number, "request": said(&grant.request), "countersigned": grant.countersigned,
        "ended": (grant.ended > 0).then(|| time(grant.ended)), "reason": said(&grant.reason),
        "last_used": said(&grant.last_used), "expiring": grant.expiring, "unused": grant.unused,
        "told": time(grant.told),
    })
}

/// The services whose methods it names, each once.
fn services_of(grant: &wire::OverseenGrant) -> BTreeSet<&str> {
    let services = grant.methods.iter().filter_map(|method| method.strip_prefix('/')?.split_once('/'));
    services.map(|(service, _)| service).collect()
}

fn grant_in_words(grant: &wire::OverseenGrant) -> String {
    let time = |millis: u64| proto::time::Time::from_millis(millis).to_string();
    let ended = format!("ENDED {}: {}", time(grant.ended), grant.reason);
    let marks = [
        (grant.standing == "ended").then_some(ended.as_str()),
        (grant.standing == "expired").then_some("EXPIRED"),
        (grant.standing == "to come").then_some("to come"),
        grant.expiring.then_some("EXPIRING within 30 days"),
        grant.unused.then_some("UNUSED for 90 days"),
    ];
    let marks: String = marks.into_iter().flatten().map(|mark| format!("  {mark}")).collect();
    let how = match (grant.request.as_str(), grant.countersigned) {
        ("", _) => "the provider's own: nobody asked over the bus".to_owned(),
        (request, true) => format!("asked for as {}, countersigned", request.get(..12).unwrap_or(request)),
        (request, false) => format!("asked for as {}, not countersigned", request.get(..12).unwrap_or(request)),
    };
    let rate = if grant.per_second > 0 { format!(", {} a second", grant.per_second) } else { String::new() };
    let unlisted = match &grant.unlisted[..] {
        [] => String::new(),
        unlisted => format!("  (not on the list now: {})", unlisted.join(", ")),
    };
    let last_used = if grant.last_used.is_empty() { "no use is known" } else { &grant.last_used };
    let basis = if grant.legal_basis.is_empty() { "none is said" } else { &grant.legal_basis };
    format!(
        "{} may call {}{marks}\n  services     {}\n  methods      {}\n  purposes     {}{unlisted}\n  legal basis  {basis}\n  \
         valid        {} until {}{rate}\n  last used    {last_used}\n  grant        {} at {}, {how}\n",
        grant.consumer,
        grant.provider,
        services_of(grant).into_iter().collect::<Vec<_>>().join(", "),
        grant.methods.join(", "),
        grant.purposes.join(", "),
        time(grant.valid_from),
        time(grant.valid_until),
        grant.number,
        grant.server,
    )
}

fn proposal_to_json(proposal: &wire::Proposal) -> Value {
    json!({
        "proposal": proposal.proposal, "by": proposal.by, "wanted": proposal.wanted,
        "expires": proto::time::Time::from_millis(proposal.expires).to_string(), "changes": proposal.changes,
        "order": signed(proposal).map_or_else(|error| error.to_string(), |signed| signed.words),
        "command_sha256": Digest::of(&[&proposal.command]).to_string(),
    })
}

fn proposal_in_words(proposal: &wire::Proposal) -> String {
    let order = signed(proposal).map_or_else(|error| error.to_string(), |signed| signed.words);
    let (wanted, there) = (proposal.wanted, proposal.by.len());
    format!(
        "{}  {order}\n  by {}: {there} of {wanted} persons, until {}\n  would {}\n",
        proposal.proposal,
        proposal.by.join(", "),
        proto::time::Time::from_millis(proposal.expires),
        proposal.changes.join("\n  would "),
    )
}

fn key_to_json(key: &wire::Key) -> Value {
    let time = |millis: u64| proto::time::Time::from_millis(millis).to_string();
    json!({
        "key": hex::encode(&key.key), "server": key.server, "not_before": time(key.not_before),
        "not_after": time(key.not_after), "until": (key.until > 0).then(|| time(key.until)),
        "revoked": (!key.revoked.is_empty()).then_some(&key.revoked),
    })
}

fn key_in_words(what: &str, key: &wire::Key) -> String {
    let end = if key.until > 0 { key.until } else { key.not_after };
    let end = match key.revoked.as_str() {
        "" => format!("until {}", proto::time::Time::from_millis(end)),
        reason => format!("REVOKED: {reason}"),
    };
    format!("    {what} {} {end}\n", hex::encode(&key.key))
}

/// The answer in words.
pub fn to_text(answer: &Answer) -> String {
    match answer {
        Answer::Invited(_) => String::new(),
        Answer::Foreseen(wire::Foreseen { changes }) => Foreseen::new(changes.clone()).to_string(),
        Answer::Decided(wire::Decided { version: 0 }) => "Recorded.".to_owned(),
        Answer::Decided(decided) => {
            format!("Recorded, and published as version {} of the configuration.", decided.version)
        }
        Answer::Proposed(wire::Proposed { proposal: None }) => String::new(),
        Answer::Proposed(wire::Proposed { proposal: Some(proposal) }) => format!(
            "Recorded, and waiting for other persons:\n\n{}\nNext, another person: central-registry confirm {}",
            proposal_in_words(proposal),
            proposal.proposal
        ),
        Answer::Proposals(wire::Proposals { proposals }) if proposals.is_empty() => {
            "Nothing waits for another person.".to_owned()
        }
        Answer::Proposals(wire::Proposals { proposals }) => {
            proposals.iter().map(proposal_in_words).collect::<String>().trim_end().to_owned()
        }
        Answer::Purposes(wire::Purposes { purposes }) if purposes.is_empty() => {
            "No list of purposes yet: providers name any. Begin one: central-registry purposes set --help".to_owned()
        }
        Answer::Purposes(wire::Purposes { purposes }) => {
            let lines = purposes.iter().map(|it| format!("{}\n  {}\n  {}\n", it.purpose, it.en, it.vi));
            lines.collect::<String>().trim_end().to_owned()
        }
        Answer::Grants(wire::Grants { grants, .. }) if grants.is_empty() => {
            "No such grant is known. Providers' servers tell of theirs at each change and every day.".to_owned()
        }
        Answer::Grants(wire::Grants { grants, more }) => {
            let mut text: String = grants.iter().map(grant_in_words).collect();
            let count = |is: fn(&wire::OverseenGrant) -> bool| grants.iter().filter(|grant| is(grant)).count();
            text += &format!(
                "\n{} grants: {} expiring within 30 days, {} unused for 90 days",
                grants.len(),
                count(|grant| grant.expiring),
                count(|grant| grant.unused)
            );
            if *more > 0 {
                text += &format!(". {more} others are not shown: narrow it with --provider or --consumer");
            }
            text
        }
        Answer::Requests(wire::Requests { requests }) if requests.is_empty() => {
            "No request yet. Invite a member: central-registry invite --help".to_owned()
        }
        Answer::Requests(wire::Requests { requests }) => {
            let mut text = String::new();
            for each in requests {
                text += &format!(
                    "{}  {}  {}{}\n  server      {} at {}\n  subsystems  {}\n  keys        authentication {}\n              \
                     signing        {}\n  received    {}\n",
                    each.request,
                    each.standing,
                    each.member,
                    if each.new_member { format!("  \"{}\" (new member)", each.name) } else { String::new() },
                    each.server,
                    each.address,
                    if each.subsystems.is_empty() { "none".to_owned() } else { each.subsystems.join(", ") },
                    hex::encode(&each.authentication_key),
                    hex::encode(&each.signing_key),
                    proto::time::Time::from_millis(each.received),
                );
                if !each.reason.is_empty() {
                    text += &format!("  rejected    {}\n", each.reason);
                }
            }
            if let Some(waiting) = requests.iter().find(|each| each.standing == "waiting") {
                text += &format!("\nNext: central-registry approve {0}, or reject {0} --reason TEXT", waiting.request);
            }
            text.trim_end().to_owned()
        }
        Answer::Members(wire::Members { members }) if members.is_empty() => "No member yet.".to_owned(),
        Answer::Members(wire::Members { members }) => {
            let mut text = String::new();
            for each in members {
                text += &format!("{}  {}  \"{}\"\n", each.member, each.standing, each.name);
                if !each.leaving.is_empty() {
                    let member = &each.member;
                    text += &format!("  ASKS TO LEAVE: {}\n", each.leaving);
                    text += &format!(
                        "  Next: central-registry remove member {member} --reason TEXT, or restore {member}\n"
                    );
                }
                for subsystem in &each.subsystems {
                    text += &format!("  {} at {}\n", subsystem.subsystem, subsystem.servers.join(", "));
                }
                for server in &each.servers {
                    text += &format!("  {} answers at {}\n", server.server, server.address);
                    if !server.maintenance.is_empty() {
                        text += &format!("    IN MAINTENANCE: {}\n", server.maintenance);
                    }
                    text.extend(server.authentication.iter().map(|key| key_in_words("authentication", key)));
                    let signing = each.signing.iter().filter(|key| key.server == server.server);
                    text.extend(signing.map(|key| key_in_words("signing       ", key)));
                }
            }
            text.trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_admins_file_reads_as_it_is_written() {
        let file = AdminFile {
            instance: "VN".parse().unwrap(),
            registry: "registry.example:4001".parse().unwrap(),
            fingerprint: Fingerprint(Digest::ZERO),
            key: "/keys/admin.pem".into(),
        };
        let path = Path::new("/etc/admin.toml");
        assert_eq!(AdminFile::parse(path, &file.text()).unwrap(), file);
        for (from, to, named) in
            [("VN", "V N", "instance"), ("sha256:", "sha1:", "fingerprint"), (":4001", "", "registry")]
        {
            let error = AdminFile::parse(path, &file.text().replace(from, to)).unwrap_err().to_string();
            assert!(error.contains("/etc/admin.toml") && error.contains(named), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = AdminFile::parse(Path::new("a"), &text);
            let _ = text.parse::<Fingerprint>();
        }
    }
}
