//! Their message reaches our system as it came from the peer.

use std::sync::Arc;
use security_server::message_log::{Claimed, Committing, Concluded, Handed, Opened, Recorded, Sealed};
use security_server::{SecurityServer, authorize, forward, relay, verify};

async fn carry(server: Arc<SecurityServer>, exchange: Opened) -> Concluded {
    let ended = exchange
        .ours(|message| seal(&server, message), relay::send)
        .theirs(|message| message, forward::hand_on) // twin: .theirs(|message| record(&server, message), forward::hand_on)
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
