//! Who is it? A client by its credential, a peer by the certificate of its connection.

use std::collections::HashMap;

use proto::digest::Digest;
use proto::identifier::{ServerId, SubsystemId};
use proto::refusal::Code;
use proto::signature::KeyId;

use crate::listen::{Call, ClaimedOpening, Credential};
use crate::moment::Judged;
use crate::refusal::{BareRefusal, Refusal};

/// Our own systems and what they are known by.
#[derive(Debug, Default)]
pub struct Clients {
    /// SHA-256 of each token.
    pub tokens: HashMap<Digest, SubsystemId>,
    /// Keys of client certificates.
    pub certificates: HashMap<KeyId, SubsystemId>,
}

/// A call or an opening whose sender is known. Only this module makes one.
#[must_use]
pub struct Authenticated<T, Who> {
    who: Who,
    message: T,
}

impl<T, Who> Authenticated<T, Who> {
    /// The sender, and what it sent.
    pub(crate) fn spent(self) -> (Who, T) {
        (self.who, self.message)
    }
}

/// The subsystem that calls: by its certificate, its token, or the loopback listener that is bound to it. The client's
/// credential is compared by its hash and goes no further.
pub fn client(clients: &Clients, call: Judged<Call>) -> Result<Authenticated<Judged<Call>, SubsystemId>, Refusal> {
    let who = known(clients, &call.message().credential)?;
    Ok(Authenticated { who, message: call })
}

/// The subsystem with this credential.
pub(crate) fn known(clients: &Clients, credential: &Credential) -> Result<SubsystemId, Refusal> {
    let known = match credential {
        Credential::Bound(subsystem) => Some(subsystem.clone()),
        Credential::Certificate(key) => clients.certificates.get(key).cloned(),
        Credential::Token(digest) => clients.tokens.get(digest).cloned(),
        Credential::None => None,
    };
    let unlisted = "no credential that the configuration file lists under [[client]]";
    known.ok_or_else(|| Refusal::new(Code::ClientUnknown, unlisted))
}

/// The security server at the other end of the connection: the one for which the certificate's key is registered now,
/// not when the connection was made (PROTOCOL.md 6.2, step 1).
pub fn peer(opening: Judged<ClaimedOpening>) -> Result<Authenticated<Judged<ClaimedOpening>, ServerId>, BareRefusal> {
    let configuration = opening
        .in_force()
        .map_err(|_| BareRefusal::new(Code::ConfigurationExpired, "the global configuration has expired"))?;
    match configuration.authenticated(&opening.message().connection_key) {
        Some(server) => Ok(Authenticated { who: server.clone(), message: opening }),
        None => Err(BareRefusal::unproven("the connection's certificate is that of no registered server")),
    }
}
