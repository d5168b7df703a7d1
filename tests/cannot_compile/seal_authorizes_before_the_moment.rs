//! Whether a message of ours may still go on is asked before its moment is known.

use security_server::message_log::{Committing, Handed, Sealed};
use security_server::{SecurityServer, authorize};

fn seal<'m>(server: &SecurityServer, message: Handed<'m>) -> Committing<'m, Sealed> {
    let message = authorize::may_go_on(&server.access_rights, message); let message = server.judged(message); // twin: let message = server.judged(message); let message = authorize::may_go_on(&server.access_rights, message);
    server.message_log.seal(message)
}
