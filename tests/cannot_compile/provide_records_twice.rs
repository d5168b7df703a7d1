//! One opening, recorded twice: a replay by our own hand.

use std::sync::Arc;
use security_server::listen::ClaimedOpening;
use security_server::message_log::{Claimed, Committing, Concluded, Handed, Opened, Recorded, Sealed};
use security_server::refusal::BareRefusal;
use security_server::{Running, SecurityServer, authenticate, authorize, forward, relay, verify};

pub fn provide(server: &Arc<SecurityServer>, opening: ClaimedOpening) -> Result<Running, BareRefusal> {
    let opening = server.judged(opening);
    let opening = authenticate::peer(opening)?;
    let opening = verify::opening(server, opening)?;
    let opening = authorize::arrival(opening).or_else(|refused| refused.within(&server.quotas))?;
    let exchange = server.message_log.record_opening(opening)?; let _again = server.message_log.record_opening(opening)?; // twin: let exchange = server.message_log.record_opening(opening)?;
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
