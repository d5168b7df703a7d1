//! Which keys may have signed this server's own logs: those of its signing certificates, which an authority of the global
//! configuration issued. From the anchor on, nothing in it is taken on the word of the directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use proto::certificate::{Authority, Signing};
use proto::global_configuration::Configuration;
use proto::identifier::ServerId;
use proto::signature::{KeyId, PublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Longest file of certificates, in bytes.
pub const MAX_CERTIFICATES_BYTES: u64 = 256 << 10;

/// The keys by name.
#[derive(Clone, Debug, Default)]
pub struct LogKeys(BTreeMap<KeyId, PublicKey>);

impl LogKeys {
    /// Of the signing certificates for this server that are registered or stand in one of these PEM files, expired or not: a
    /// log outlives its keys.
    pub fn of<'p>(
        server: &ServerId,
        configuration: &Configuration,
        certificates: impl IntoIterator<Item = &'p [u8]>,
    ) -> Self {
        let registered = configuration.members.values().flat_map(|member| member.signing_keys.values());
        let registered = registered.filter(|signing| signing.server == *server).map(|signing| signing.key.clone());
        let kept = certificates.into_iter().flat_map(|pem| {
            let certificates = CertificateDer::pem_slice_iter(pem);
            certificates.filter_map(Result::ok).map(|certificate| certificate.to_vec()).collect::<Vec<_>>()
        });
        let issued = |der: &[u8]| {
            let authorities = configuration.authorities.iter();
            authorities
                .filter_map(|authority| Authority::parse(authority).ok())
                .any(|authority| authority.issued(der).is_ok())
        };
        let kept = kept.filter(|der| issued(der)).filter_map(|der| Signing::parse(&der).ok());
        let kept = kept.filter(|signing| signing.server == *server).map(|signing| signing.key);
        Self(registered.chain(kept).map(|key| (key.id(), key)).collect())
    }

    /// The key of this name.
    pub fn find(&self, id: &KeyId) -> Option<PublicKey> {
        self.0.get(id).cloned()
    }
}

/// The PEM files in this directory, by name.
pub fn certificates(directory: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(".pem") && entry.metadata()?.len() <= MAX_CERTIFICATES_BYTES {
            found.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(found)
}
