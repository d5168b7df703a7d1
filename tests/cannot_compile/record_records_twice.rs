//! One message, recorded twice.

use security_server::message_log::{Claimed, Committing, Recorded};
use security_server::{SecurityServer, authorize, verify};

fn record<'m>(server: &SecurityServer, message: Claimed<'m>) -> Committing<'m, Recorded> {
    let message = server.judged(message);
    let message = verify::message(&server.verified_heads, message);
    let message = authorize::may_be_handed_on(&server.access_rights, message);
    { let _first = server.message_log.record(message); server.message_log.record(message) } // twin: server.message_log.record(message)
}
