//! One call, two openings.

use std::sync::Arc;
use security_server::listen::Call;
use security_server::message_log::{Claimed, Committing, Concluded, Handed, Opened, Recorded, Sealed};
use security_server::refusal::Refusal;
use security_server::{Running, SecurityServer, authenticate, authorize, forward, relay, resolve, verify};

pub fn consume(server: &Arc<SecurityServer>, call: Call) -> Result<Running, Refusal> {
    let call = server.judged(call);
    let call = authenticate::client(&server.clients, call)?;
    let call = authorize::departure(&server.id, call)?;
    let call = resolve::provider(&server.peers, call)?;
    let exchange = server.message_log.seal_opening(call)?; let _again = server.message_log.seal_opening(call)?; // twin: let exchange = server.message_log.seal_opening(call)?;
    Ok(server.detach(exchange, carry))
}

async fn carry(server: Arc<SecurityServer>, exchange: Opened) -> Concluded {
    let ended = exchange
        .ours(|message| seal(&server, message), relay::send)
        .theirs(|message| record(&server, message), forward::hand_on)
        .until_both_ended()
        .await;
    server.message_log.conclude(ended).await
}

fn seal<'m>(server: &SecurityServer, message: Handed<'m>) -> Committing<'m, Sealed> {
    let message = server.judged(message);
    let message = authorize::may_go_on(&server.access_rights, message);
    server.message_log.seal(message)
}

fn record<'m>(server: &SecurityServer, message: Claimed<'m>) -> Committing<'m, Recorded> {
    let message = server.judged(message);
    let message = verify::message(&server.verified_heads, message);
    let message = authorize::may_be_handed_on(&server.access_rights, message);
    server.message_log.record(message)
}
