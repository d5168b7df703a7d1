//! THE LIFE OF A REGISTRATION: receive, verify, review, decide, record. Read this file from the top.
//!
//! ```text
//! applicant                     registry                                      admin
//!                               invite: a token, good once      <----------  order
//! join  ----------------------> receive, verify, review, record
//! wait  <---------------------- waiting
//!                               authenticate, decide, record, publish <----  order
//! certificates <--------------- approved, and in the configuration
//! server
//! ask    ----------------------> receive, recognise, grant, record, publish
//! ```
//!
//! Each step takes what only an earlier step can make. Nothing is answered before it is durable. Each call runs in a
//! task of its own to its end: whoever hangs up in between finds the outcome when asking again.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use proto::certificate::{Authentication, Signing};
use proto::digest::Digest;
use proto::global_configuration::document::{Der, MemberDocument, SigningDocument};
use proto::identifier::ServerId;
use proto::purposes::PurposeDocument;
use proto::registration::{
    Application, Invitation, Order, ReceivedApplication, ReceivedCommand, RequestId, Revocation, Text, Token,
    VerifiedApplication, VerifiedCommand,
};
use proto::server_request::{ReceivedServerRequest, ServerRequest, Signer, VerifiedServerRequest, Wish};
use proto::signature::KeyId;
use proto::time::Time;
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use proto::wire::registry::join_state::State as Standing;

use crate::oversight;
use crate::persons::{may_order, needs_all};
use crate::register::{
    Admitted, Applied, Asked as AskedBy, By, Entry, Event, Hex, KeyUse, PROPOSAL_WAITS, Proposal, Refused, Register,
    Request, State, standing_word,
};
use crate::registry::{Desk, Registry};
use crate::spread;

/// A server asks to join.
pub(crate) async fn join(
    registry: Arc<Registry>,
    request: wire::JoinRequest,
    from: String,
) -> Result<wire::JoinReceipt, Refused> {
    let application = receive(request)?;
    let application = verify(&registry, application)?;
    let dry_run = application.is_dry_run();
    // One at a time from here: however often a token comes at once, one of them uses it.
    let mut desk = registry.desk.lock().await;
    let request = match review(&desk, application, from, registry.now(&desk))? {
        Reviewed::Repeated(request) => request,
        // The same rules, and no record.
        Reviewed::New(request, _) if dry_run => return Ok(wire::JoinReceipt { request: request.to_string() }),
        // A crash before this is durable leaves the token unused; after it the same application is `Repeated`.
        Reviewed::New(request, admitted) => {
            desk.record(*admitted).await?;
            request
        }
    };
    registry.changed.send_replace(());
    tracing::info!(%request, "a server asks to join");
    Ok(wire::JoinReceipt { request: request.to_string() })
}

/// An admin orders something.
pub(crate) async fn order(
    registry: Arc<Registry>,
    command: wire::SignedCommand,
    from: String,
) -> Result<wire::CommandResult, Refused> {
    let asked = Asked { signed: (command.command.clone(), command.signature.clone()), from };
    let command = ReceivedCommand::parse(command)?;
    let mut desk = registry.desk.lock().await;
    let now = registry.now(&desk);
    let command = authenticate(&registry, &mut desk, command, now)?;
    let dry_run = command.0.is_dry_run();
    let answer = match decide(&registry, &desk, command, asked, now)? {
        // The same rules, and no record.
        Decided::Unpublished(admitted, _) if dry_run => foreseen(&desk.register, &admitted),
        Decided::Published(admitted) if dry_run => foreseen(&desk.register, &admitted),
        Decided::Waiting(_, mut proposal) if dry_run => {
            let (there, wanted) = (proposal.by.len(), proposal.wanted);
            proposal.changes.push(format!("wait until {wanted} persons ordered it: this is number {there}"));
            Answer::Foreseen(wire::Foreseen { changes: proposal.changes })
        }
        Decided::Nothing(answer) => answer,
        // A crash after the record: it waits, as after an answer that was lost.
        Decided::Waiting(admitted, proposal) => {
            desk.record(admitted).await?;
            Answer::Proposed(wire::Proposed { proposal: Some(proposal) })
        }
        Decided::Unpublished(admitted, answer) => {
            desk.record(admitted).await?;
            answer
        }
        // A crash after the record and before it is published: the next start publishes what the register says.
        Decided::Published(admitted) => {
            desk.record(admitted).await?;
            desk.unpublished = true;
            let version = spread::publish(&registry, &mut desk, now).await?;
            Answer::Decided(wire::Decided { version })
        }
    };
    registry.changed.send_replace(());
    Ok(wire::CommandResult { result: Some(answer) })
}

/// A registered server asks something for itself (PROTOCOL.md 14).
pub(crate) async fn ask(
    registry: Arc<Registry>,
    request: wire::SignedServerRequest,
    from: String,
) -> Result<wire::ServerAnswer, Refused> {
    let came = Came { signed: request.clone(), from };
    let request = ReceivedServerRequest::parse(request, &registry.instance)?;
    let mut desk = registry.desk.lock().await;
    let now = registry.now(&desk);
    let request = match recognise(&desk, request, now)? {
        Recognised::Certified(certificate) => return Ok(wire::ServerAnswer { version: 0, certificate }),
        Recognised::New(request) => request,
    };
    let Granted { admitted, certificate } = grant(&registry, &desk, &request, came, now)?;
    // A crash before the record leaves nothing: the server asks again with the same key. After it, the next start publishes.
    let is_published = !matches!(admitted.entry().event, Event::Leaving { .. });
    desk.record(admitted).await?;
    if !is_published {
        registry.changed.send_replace(());
        return Ok(wire::ServerAnswer { version: 0, certificate });
    }
    desk.unpublished = true;
    let version = spread::publish(&registry, &mut desk, now).await?;
    registry.changed.send_replace(());
    tracing::info!(server = %request.request().server, version, "a server was given what it asked for itself");
    Ok(wire::ServerAnswer { version, certificate })
}

/// Where the request stands that this application made. Asked under the desk's lock, so that what is said to be approved
/// was published.
pub(crate) async fn standing(registry: &Registry, application: Digest) -> Result<wire::JoinState, Refused> {
    let desk = registry.desk.lock().await;
    let (id, request) = desk.register.request_of(application).ok_or(Refused::NoApplication)?;
    let state = match &request.state {
        State::Waiting => Standing::Waiting(wire::Waiting {}),
        // Decided, and not yet in any configuration: a server that went on now would be known to nobody.
        State::Approved { .. } if desk.unpublished => Standing::Waiting(wire::Waiting {}),
        State::Rejected { reason } => Standing::Rejected(wire::Rejected { reason: reason.to_string() }),
        State::Approved { authentication, signing } => Standing::Approved(wire::Approved {
            authentication_certificate: authentication.as_bytes().to_vec().into(),
            signing_certificate: signing.as_bytes().to_vec().into(),
            subsystems: request.application.subsystems.iter().map(ToString::to_string).collect(),
        }),
    };
    Ok(wire::JoinState { request: id.to_string(), state: Some(state) })
}

// ---- the steps of joining

/// Reads the request: well formed, within its limits, one reading only.
fn receive(request: wire::JoinRequest) -> Result<ReceivedApplication, Refused> {
    Ok(ReceivedApplication::parse(request)?)
}

/// Checks what needs no register: this instance, one member, two keys that the applicant holds.
fn verify(registry: &Registry, received: ReceivedApplication) -> Result<VerifiedApplication, Refused> {
    Ok(VerifiedApplication::verify(received, &registry.instance)?)
}

enum Reviewed {
    /// The applicant lost our answer and asks again.
    Repeated(RequestId),
    New(RequestId, Box<Admitted>),
}

/// Holds the application against the register: invited, with a token that is good and unused, as the server that was
/// invited, with keys that nobody has.
fn review(desk: &Desk, verified: VerifiedApplication, from: String, now: Time) -> Result<Reviewed, Refused> {
    let digest = verified.digest();
    if let Some((request, _)) = desk.register.request_of(digest) {
        return Ok(Reviewed::Repeated(request));
    }
    let application = verified.application();
    let token = application.token.digest();
    let invitation = desk.register.invited(token, now)?;
    let request = desk.register.next_request();
    let application = applied(application, digest, invitation);
    let event = Event::Applied { request, token: Hex(token), application };
    let admitted = desk.admit_from(from, now, None, event)?;
    Ok(Reviewed::New(request, Box::new(admitted)))
}

fn applied(asked: &Application, digest: Digest, invitation: &Invitation) -> Applied {
    let subsystems = if asked.subsystems.is_empty() { &invitation.subsystems } else { &asked.subsystems };
    Applied {
        digest: Hex(digest),
        member: asked.member.clone(),
        server: asked.server.clone(),
        address: asked.address.clone(),
        subsystems: subsystems.clone(),
        authentication_key: asked.authentication_key.to_spki().into(),
        signing_key: asked.signing_key.to_spki().into(),
    }
}

// ---- the steps of an order

/// What the journal keeps of how an order came: its bytes, the signature over them, and from where.
struct Asked {
    signed: (Bytes, Bytes),
    from: String,
}

/// A command that an admin of this instance signed just now, and that was not carried out yet. Only [`authenticate`]
/// makes one.
struct Authenticated(VerifiedCommand);

fn authenticate(
    registry: &Registry,
    desk: &mut Desk,
    received: ReceivedCommand,
    now: Time,
) -> Result<Authenticated, Refused> {
    let key = desk.register.admin(received.key())?;
    let verified = VerifiedCommand::verify(received, &key, &registry.instance, now)?;
    desk.is_new(verified.id())?;
    if verified.is_dry_run() || verified.order().only_reads() {
        desk.remember(verified.id(), now)?;
    } else if let Some(until) = desk.register.lost_commands_until().filter(|until| verified.time() <= *until) {
        return Err(Refused::AfterRestore(until));
    }
    Ok(Authenticated(verified))
}

enum Decided {
    /// It only reads.
    Nothing(Answer),
    /// It is recorded, and concerns nobody else.
    Unpublished(Admitted, Answer),
    /// It is recorded, and everybody is to know.
    Published(Admitted),
    /// It is recorded, and not carried out before other persons confirm it.
    Waiting(Admitted, wire::Proposal),
}

/// What becomes of the order, by the register's rules.
fn decide(
    registry: &Registry,
    desk: &Desk,
    command: Authenticated,
    asked: Asked,
    now: Time,
) -> Result<Decided, Refused> {
    let Authenticated(command) = command;
    let by = By::new(command.key(), command.id()).signed(&asked.signed.0, &asked.signed.1);
    let register = &desk.register;
    register.has_role(command.key(), may_order(command.order()))?;
    Ok(match command.order() {
        Order::Invite(invitation) => {
            register.is_not_a_look_alike(invitation)?;
            let token = drawn();
            let event = Event::Invited { token: Hex(token.digest()), invitation: invitation.clone() };
            let admitted = desk.admit_from(asked.from, now, Some(by), event)?;
            Decided::Unpublished(admitted, Answer::Invited(invited(registry, &token, invitation, now)))
        }
        Order::Confirm(command) => confirm(registry, desk, Hex(*command), by, asked.from, now)?,
        Order::ListRequests => {
            let requests = register.requests().map(|(id, each)| listed_request(register, id, each));
            Decided::Nothing(Answer::Requests(wire::Requests { requests: requests.collect() }))
        }
        Order::ListMembers => {
            let members = register.members().map(|member| listed_member(register, member));
            Decided::Nothing(Answer::Members(wire::Members { members: members.collect() }))
        }
        Order::ListPurposes => {
            let purposes = register.purposes().iter().map(PurposeDocument::to_wire);
            Decided::Nothing(Answer::Purposes(wire::Purposes { purposes: purposes.collect() }))
        }
        Order::ListGrants(wanted) => Decided::Nothing(Answer::Grants(oversight::grants(register, wanted, now))),
        Order::ListProposals => {
            let waiting = register.proposals(now).into_iter();
            let proposals = waiting.map(|(_, proposal)| listed_proposal(registry, desk, proposal, now)).collect();
            Decided::Nothing(Answer::Proposals(wire::Proposals { proposals }))
        }
        order if needs_all(order) && register.persons_needed() > 1 => {
            propose(registry, desk, order, by, asked.from, now)?
        }
        order => {
            let event = event_of(registry, register, order, now)?;
            carried_out(desk.admit_from(asked.from, now, Some(by), event)?)
        }
    })
}

/// What was admitted is published, where it changes what everybody is to know.
fn carried_out(admitted: Admitted) -> Decided {
    match admitted.entry().event {
        Event::Rejected { .. } => Decided::Unpublished(admitted, Answer::Decided(wire::Decided { version: 0 })),
        _ => Decided::Published(admitted),
    }
}

/// What the order makes of the register.
fn event_of(registry: &Registry, register: &Register, order: &Order, now: Time) -> Result<Event, Refused> {
    Ok(match order {
        Order::Approve(request) => {
            let (authentication, signing) = certify(registry, register, *request, now)?;
            Event::Approved { request: *request, authentication, signing }
        }
        Order::Reject(request, reason) => Event::Rejected { request: *request, reason: reason.clone() },
        Order::Suspend(member, reason) => Event::Suspended { member: member.clone(), reason: reason.clone() },
        Order::Restore(member) => Event::Restored { member: member.clone() },
        Order::Revoke(Revocation { key, reason, last_head }) => {
            Event::Revoked { key: Hex(*key), reason: reason.clone(), last_head: last_head.map(|head| head.to_text()) }
        }
        Order::Move(server, address) => Event::Moved { server: server.clone(), address: address.clone() },
        Order::Maintain(server, notice) => Event::Maintained { server: server.clone(), notice: notice.clone() },
        Order::Host(subsystem, server) => Event::Hosted { subsystem: subsystem.clone(), server: server.clone() },
        Order::Unhost(subsystem, server) => Event::Unhosted { subsystem: subsystem.clone(), server: server.clone() },
        Order::Remove(what, reason) => Event::Removed { what: what.clone(), reason: reason.clone() },
        Order::SetPurpose(purpose) => Event::PurposeSet { purpose: purpose.clone() },
        Order::RemovePurpose(purpose, reason) => {
            Event::PurposeRemoved { purpose: purpose.clone(), reason: reason.clone() }
        }
        Order::Invite(_)
        | Order::Confirm(_)
        | Order::ListRequests
        | Order::ListMembers
        | Order::ListProposals
        | Order::ListPurposes
        | Order::ListGrants(_) => return Err(Refused::OutOfPlace),
    })
}

// ---- more than one person

/// The first person orders it: recorded with the signature, once it is clear that it could be carried out now.
fn propose(
    registry: &Registry,
    desk: &Desk,
    order: &Order,
    by: By,
    from: String,
    now: Time,
) -> Result<Decided, Refused> {
    let event = event_of(registry, &desk.register, order, now)?;
    let changes = desk.register.foreseen_if_confirmed(Entry::of(now.as_millis(), Some(by.clone()), event))?;
    let (number, expires) = (desk.register.next_proposal(), now.plus(PROPOSAL_WAITS).as_millis());
    let proposal = Proposal { number, by: vec![by.clone()], expires };
    let admitted = desk.admit_from(from, now, Some(by), Event::Proposed { number, expires })?;
    Ok(Decided::Waiting(admitted, proposal_in_words(&desk.register, &proposal, changes)))
}

/// Another person confirms just the bytes that the first one signed. Enough persons, and it is carried out as they say.
fn confirm(
    registry: &Registry,
    desk: &Desk,
    command: Hex,
    by: By,
    from: String,
    now: Time,
) -> Result<Decided, Refused> {
    let register = &desk.register;
    let proposal = register.proposal(command, now)?;
    if proposal.by.len() + 1 < register.persons_needed() {
        let admitted = desk.admit_from(from, now, Some(by.clone()), Event::Confirmed { command })?;
        let by = proposal.by.iter().cloned().chain([by]).collect();
        let proposal = Proposal { by, ..proposal.clone() };
        let waiting = listed_proposal(registry, desk, &proposal, now);
        return Ok(Decided::Waiting(admitted, waiting));
    }
    let event = event_of(registry, register, &proposed(registry, register, proposal)?, now)?;
    Ok(carried_out(desk.admit_confirmed(from, now, by, command, event)?))
}

/// What the first person signed.
fn proposed(registry: &Registry, register: &Register, proposal: &Proposal) -> Result<Order, Refused> {
    let first = proposal.by.first().ok_or(Refused::OutOfPlace)?;
    let order = first.order(&register.admin(first.admin.0)?, &registry.instance).ok_or(Refused::OutOfPlace)?;
    let order = order.map_err(|error| Refused::Failed(error.to_string()))?;
    // A later root may have taken the role away.
    register.has_role(first.admin.0, may_order(&order))?;
    Ok(order)
}

fn listed_proposal(registry: &Registry, desk: &Desk, proposal: &Proposal, now: Time) -> wire::Proposal {
    let register = &desk.register;
    let foreseen = || {
        let event = event_of(registry, register, &proposed(registry, register, proposal)?, now)?;
        register.foreseen_if_confirmed(Entry::of(now.as_millis(), None, event))
    };
    let changes = foreseen().unwrap_or_else(|refused| vec![format!("nothing now: {refused}")]);
    proposal_in_words(register, proposal, changes)
}

fn proposal_in_words(register: &Register, proposal: &Proposal, changes: Vec<String>) -> wire::Proposal {
    let name = |by: &By| register.admin_name(by.admin.0).map(ToString::to_string).unwrap_or_default();
    wire::Proposal {
        proposal: format!("P-{}", proposal.number),
        command: proposal.by.first().and_then(By::bytes).unwrap_or_default().into(),
        by: proposal.by.iter().map(name).collect(),
        wanted: register.persons_needed() as u64,
        expires: proposal.expires,
        changes,
    }
}

/// Makes the certificates of a waiting request: the keys are the applicant's, all else is the register's.
fn certify(registry: &Registry, register: &Register, request: RequestId, now: Time) -> Result<(Der, Der), Refused> {
    let applied = &register.waiting(request)?.application;
    let failed = |error: crate::authority::NotCertified| Refused::Certificate { request, reason: error.to_string() };
    let authentication = registry.authority.authentication(applied, now).map_err(failed)?;
    let signing = registry.authority.signing(applied, now).map_err(failed)?;
    Ok((authentication, signing))
}

// ---- the steps of what a server asks

enum Recognised {
    /// The server lost our answer and asks again: its new key was certified, and it holds it.
    Certified(Bytes),
    /// A request that a key of this server signed just now, and that was not carried out yet.
    New(VerifiedServerRequest),
}

/// Who asks: a key that is registered for this server and for this use (PROTOCOL.md 14.3).
fn recognise(desk: &Desk, received: ReceivedServerRequest, now: Time) -> Result<Recognised, Refused> {
    let request = received.request();
    let for_what = use_wanted(request);
    if let Some(certificate) = request.wish.new_key().and_then(|key| desk.register.certified_as(&for_what, key.id())) {
        return Ok(Recognised::Certified(Bytes::copy_from_slice(certificate.as_bytes())));
    }
    let key = desk.register.asks_with(&for_what, received.key(), now)?;
    let verified = VerifiedServerRequest::verify(received, &key, now)?;
    desk.is_new(verified.request().id)?;
    Ok(Recognised::New(verified))
}

fn use_wanted(request: &ServerRequest) -> KeyUse {
    let server = request.server.clone();
    match request.wish.signer() {
        Signer::Authentication => KeyUse::Authentication { server },
        Signer::Signing(member) => KeyUse::Signing { member, server },
    }
}

/// A request as it came, and from where.
struct Came {
    signed: wire::SignedServerRequest,
    from: String,
}

/// What may follow, and the certificate where one was made.
struct Granted {
    admitted: Admitted,
    certificate: Bytes,
}

fn grant(
    registry: &Registry,
    desk: &Desk,
    request: &VerifiedServerRequest,
    came: Came,
    now: Time,
) -> Result<Granted, Refused> {
    let asked = request.request();
    let by = AskedBy::new(asked.server.clone(), request.key(), asked.id).signed(&came.signed);
    let server = asked.server.clone();
    let event = match &asked.wish {
        // PROTOCOL.md 15.2: "everything but the key comes from the register."
        Wish::RenewAuthentication(key) | Wish::RenewSigning(_, key) => {
            let for_what = use_wanted(asked);
            let certificate = registry.authority.certify(&for_what, key, now).map_err(|error| {
                Refused::WrongCertificate { for_what: for_what.to_string(), reason: error.to_string() }
            })?;
            Event::Renewed { for_what, certificate }
        }
        Wish::Move(address) => Event::Moved { server, address: address.clone() },
        Wish::Maintain(notice) => Event::Maintained { server, notice: notice.clone() },
        Wish::Leave(member, reason) => Event::Leaving { member: member.clone(), reason: reason.clone() },
    };
    let certificate = match &event {
        Event::Renewed { certificate, .. } => Bytes::copy_from_slice(certificate.as_bytes()),
        _ => Bytes::new(),
    };
    let admitted = desk.admit_asked(came.from, now, by, event)?;
    Ok(Granted { admitted, certificate })
}

fn drawn() -> Token {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the system's random source works, or nothing does");
    Token::from_bytes(bytes)
}

// ---- what is shown

fn foreseen(register: &Register, admitted: &Admitted) -> Answer {
    Answer::Foreseen(wire::Foreseen { changes: register.foreseen(admitted) })
}

fn invited(registry: &Registry, token: &Token, invitation: &Invitation, now: Time) -> wire::Invited {
    let anchor = Digest::of(&[registry.published.borrow().anchor()]);
    wire::Invited {
        token: token.as_bytes().to_vec().into(),
        expires: now.plus(invitation.valid).as_millis(),
        anchor_digest: anchor.to_wire(),
    }
}

fn listed_request(register: &Register, id: RequestId, request: &Request) -> wire::Request {
    let asked = &request.application;
    let key = |spki: &[u8]| Digest::of(&[spki]).to_wire();
    let reason = match &request.state {
        State::Rejected { reason } => reason.to_string(),
        _ => String::new(),
    };
    wire::Request {
        request: id.to_string(),
        member: asked.member.to_string(),
        name: request.name.as_ref().map(Text::to_string).unwrap_or_default(),
        server: asked.server.to_string(),
        address: asked.address.to_string(),
        subsystems: asked.subsystems.iter().map(ToString::to_string).collect(),
        authentication_key: key(asked.authentication_key.as_bytes()),
        signing_key: key(asked.signing_key.as_bytes()),
        received: request.received,
        standing: request.state.word().to_owned(),
        new_member: !register.members().any(|member| member.member == asked.member),
        reason,
    }
}

fn listed_member(register: &Register, member: &MemberDocument) -> wire::Member {
    wire::Member {
        member: member.member.to_string(),
        name: member.name.clone(),
        standing: standing_word(member.standing).to_owned(),
        subsystems: member
            .subsystems
            .iter()
            .map(|each| wire::Subsystem {
                subsystem: each.subsystem.to_string(),
                servers: each.servers.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        servers: member
            .servers
            .iter()
            .map(|each| wire::Server {
                server: each.server.to_string(),
                address: each.address.clone(),
                authentication: each
                    .authentication
                    .iter()
                    .filter_map(|der| listed_authentication(register, der))
                    .collect(),
                maintenance: each.maintenance.as_ref().map(ToString::to_string).unwrap_or_default(),
            })
            .collect(),
        signing: member.signing.iter().filter_map(|each| listed_signing(register, each)).collect(),
        leaving: register.leaves(&member.member).map(ToString::to_string).unwrap_or_default(),
    }
}

fn listed_authentication(register: &Register, der: &Der) -> Option<wire::Key> {
    let read = Authentication::parse(der.as_bytes()).ok()?;
    Some(listed_key(register, read.key.id(), &read.server, (read.not_before, read.not_after), None))
}

fn listed_signing(register: &Register, listed: &SigningDocument) -> Option<wire::Key> {
    let read = Signing::parse(listed.certificate.as_bytes()).ok()?;
    Some(listed_key(register, read.key.id(), &read.server, (read.not_before, read.not_after), listed.until))
}

fn listed_key(
    register: &Register,
    key: KeyId,
    server: &ServerId,
    (not_before, not_after): (Time, Time),
    until: Option<u64>,
) -> wire::Key {
    wire::Key {
        key: key.to_wire(),
        server: server.to_string(),
        not_before: not_before.as_millis(),
        not_after: not_after.as_millis(),
        until: until.unwrap_or_default(),
        revoked: register.revoked(key).map(|revoked| revoked.reason.to_string()).unwrap_or_default(),
    }
}
