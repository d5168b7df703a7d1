//! Which timestamping authorities the instance approves, as the registry's configuration names them. What it says at a start
//! is an entry of the journal, and from there in the global configuration.

use std::path::PathBuf;

use proto::global_configuration::HttpAddress;
use proto::global_configuration::document::{Der, MAX_CERTIFICATE_BYTES, MAX_TIMESTAMPING, TimestampingDocument};
use proto::registration::Text;
use proto::timestamp::{Signer, policy};

use crate::serve;
use crate::tsa;

/// `[[timestamping]]`: an authority that is approved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timestamping {
    /// What it is called.
    pub name: Text,
    /// Where it is asked, and the file of its certificate. None: the registry's own.
    pub external: Option<External>,
}

/// A timestamping authority of somebody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct External {
    /// `http://HOST[:PORT]/PATH`.
    pub address: HttpAddress,
    /// A file with its certificate in PEM, or that of the authority under which it stands.
    pub certificate: PathBuf,
    /// The policy that its tokens must name.
    pub policy: Option<String>,
}

/// Why the timestamping authorities of the configuration are not approved.
#[derive(Debug, thiserror::Error)]
pub enum NotApproved {
    /// Its certificate.
    #[error("{} is no certificate in PEM that a timestamping authority could be known by; get it from the authority {name}", .path.display())]
    Certificate {
        /// The authority's name.
        name: Text,
        /// The file.
        path: PathBuf,
    },
    /// Its policy.
    #[error(
        "the policy {policy:?} of the timestamping authority {name} is no object identifier, like 1.2.3.4; correct it"
    )]
    Policy {
        /// The authority's name.
        name: Text,
        /// What stands there.
        policy: String,
    },
    /// Twice the same name, or too many.
    #[error("timestamping authorities have a name each, and there are {MAX_TIMESTAMPING} at the most; name {0} once")]
    Names(Text),
}

/// As the global configuration is to have them.
pub(crate) fn approved(listed: &[Timestamping], authority: &Der) -> Result<Vec<TimestampingDocument>, NotApproved> {
    if listed.is_empty() {
        return Ok(vec![tsa::own(authority)]);
    }
    let mut approved: Vec<TimestampingDocument> = Vec::new();
    for Timestamping { name, external } in listed {
        if approved.len() == MAX_TIMESTAMPING || approved.iter().any(|each| each.name == *name) {
            return Err(NotApproved::Names(name.clone()));
        }
        approved.push(match external {
            None => TimestampingDocument { name: name.clone(), ..tsa::own(authority) },
            Some(External { address, certificate: path, policy: wanted }) => {
                let certificate = serve::certificate(path).ok().filter(|der| {
                    der.as_bytes().len() <= MAX_CERTIFICATE_BYTES && Signer::read(der.as_bytes()).is_ok()
                });
                let Some(certificate) = certificate else {
                    return Err(NotApproved::Certificate { name: name.clone(), path: path.clone() });
                };
                if let Some(wanted) = wanted.as_ref().filter(|wanted| policy(wanted).is_none()) {
                    return Err(NotApproved::Policy { name: name.clone(), policy: wanted.clone() });
                }
                let (address, policy) = (Some(address.to_string()), wanted.clone());
                TimestampingDocument { name: name.clone(), address, certificate, policy }
            }
        });
    }
    Ok(approved)
}
