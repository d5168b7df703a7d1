//! Whether a message of theirs may be handed on is asked before it is proven.

use security_server::message_log::{Claimed, Committing, Recorded};
use security_server::{SecurityServer, authorize, verify};

fn record<'m>(server: &SecurityServer, message: Claimed<'m>) -> Committing<'m, Recorded> {
    let message = server.judged(message);
    let message = authorize::may_be_handed_on(&server.access_rights, message); let message = verify::message(&server.verified_heads, message); // twin: let message = verify::message(&server.verified_heads, message); let message = authorize::may_be_handed_on(&server.access_rights, message);
    server.message_log.record(message)
}
