//! The Causeway exchange protocol: all that two strangers must agree on.
//!
//! Nothing here does IO, reads a clock or waits: bytes and times are arguments, so a court's expert can replay any of
//! it. `PROTOCOL.md` beside this crate is the specification; code that carries out one of its steps names the step.

pub mod access;
mod cades;
pub mod catalogue;
pub mod certificate;
pub mod commitment;
pub mod consistency;
pub mod contradiction;
pub mod digest;
pub mod evidence;
pub mod global_configuration;
pub mod head;
pub mod identifier;
pub mod merkle;
pub mod message;
pub mod minimise;
pub mod oversight;
pub mod purposes;
pub mod record;
pub mod refusal;
pub mod registration;
pub mod rest;
pub mod seal;
pub mod server_request;
pub mod signature;
pub mod split_view;
pub mod time;
pub mod timestamp;
pub mod traffic;
pub mod transport;
pub mod zip;

/// The messages of `causeway/**/*.proto`, as generated: raw, to be parsed into meant values at the door.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    /// Between two security servers.
    pub mod relay {
        include!(concat!(env!("OUT_DIR"), "/causeway.relay.v1.rs"));
    }
    /// Between a server or an admin and the central registry.
    pub mod registry {
        include!(concat!(env!("OUT_DIR"), "/causeway.registry.v1.rs"));
    }
    /// What an agency tells people of their own data.
    pub mod disclosures {
        include!(concat!(env!("OUT_DIR"), "/causeway.disclosures.v1.rs"));
    }
}
