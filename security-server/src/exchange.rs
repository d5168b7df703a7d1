//! The life of one exchange, in the order it happens. Read this file first.
//!
//! ```text
//! client ─▶ consume() ═══ mutual TLS ═══▶ provide() ─▶ service
//!        ◀─ carry()   ◀══════════════════ carry()   ◀─
//! ```
//!
//! An exchange is opened once: judged, put into the message log, and from then on it runs by itself. What follows
//! is messages, ours and theirs, both ways at once, until each direction has had its one end. A message holds
//! whatever had arrived: the opening, a run of pieces, the end, or all three. A unary call is an exchange whose
//! messages are few; nothing here knows the four kinds of call apart.
//!
//! Each step takes what only an earlier step can make, so a step that is skipped, moved or done twice does not
//! compile. Each message brings its own moment (clock and configuration, read together when it was taken up) and
//! its own way (the line to the peer, the service), so it can neither be judged nor sent by another's. `'m` is one
//! message: what comes out of its steps was made of what went in.
//!
//! Nothing waits between a message's first step and its place in the log's queue: no cancel can fall in between, and
//! the queue has the messages in their order. All waiting is in `Opened`, with a window of 16 commits each way.

use std::sync::Arc;

use crate::listen::{Call, ClaimedOpening};
use crate::message_log::{Claimed, Committing, Concluded, Handed, Opened, Recorded, Sealed};
use crate::refusal::{BareRefusal, Refusal};
use crate::{Running, SecurityServer, authenticate, authorize, forward, relay, resolve, verify};

/// The consumer's side: one of our own systems calls a service of another member.
pub fn consume(server: &Arc<SecurityServer>, call: Call) -> Result<Running, Refusal> {
    let call = server.judged(call);
    let call = authenticate::client(&server.clients, call)?;
    let call = authorize::departure(&server.id, call)?; // may it ask at all?
    let call = resolve::provider(&server.peers, call)?; // names the server too: the seal binds the route

    // From here each path ends in the log. A crash leaves an opening, which the next start closes: outcome unknown.
    let exchange = server.message_log.seal_opening(call)?;
    Ok(server.detach(exchange, carry))
}

/// The provider's side: a peer calls one of our services, for its client.
pub fn provide(server: &Arc<SecurityServer>, opening: ClaimedOpening) -> Result<Running, BareRefusal> {
    let opening = server.judged(opening);
    let opening = authenticate::peer(opening)?;
    let opening = verify::opening(server, opening)?; // hosted by this peer, addressed to me, signed, fresh

    // From here a refusal is an answer: an exchange whose service says only why not, within this peer's quota.
    let opening = authorize::arrival(opening).or_else(|refused| refused.within(&server.quotas))?;

    // A request already in the log is a replay, and stops here.
    let exchange = server.message_log.record_opening(opening)?;
    Ok(server.detach(exchange, carry))
}

/// Both sides, after the opening: messages both ways at once, until each direction has had its one end.
///
/// It holds the exchange's permit, and nobody waits for it: a client that hangs up, a peer out of reach, an answer
/// that proves nothing, a deadline, a configuration that expired meanwhile are all ends of a direction, sealed and
/// recorded like any other. What stops one direction stops the other (`Cause`, in the way that both share).
async fn carry(server: Arc<SecurityServer>, exchange: Opened) -> Concluded {
    let ended = exchange
        .ours(|message| seal(&server, message), relay::send)
        .theirs(|message| record(&server, message), forward::hand_on)
        .until_both_ended()
        .await;
    server.message_log.conclude(ended).await
}

/// One message of ours. It leaves when it is signed, and it and all before it are durable.
fn seal<'m>(server: &SecurityServer, message: Handed<'m>) -> Committing<'m, Sealed> {
    let message = server.judged(message);
    let message = authorize::may_go_on(&server.access_rights, message); // a grant or configuration that ended makes it an abort
    server.message_log.seal(message) // names the last request message handed to the service
}

/// One message of theirs. It is handed on when it, and all before it, are durable.
fn record<'m>(server: &SecurityServer, message: Claimed<'m>) -> Committing<'m, Recorded> {
    let message = server.judged(message);
    let message = verify::message(&server.verified_heads, message); // next in its direction, key still good, signed: or disproved
    let message = authorize::may_be_handed_on(&server.access_rights, message);
    server.message_log.record(message) // keeps what was disproved, too: the one proof that a peer cheats
}
