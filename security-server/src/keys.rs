//! This server's private keys: made on this machine, encrypted at rest, and nowhere else.

pub mod ring;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use proto::signature::SigningKey;
use zeroize::Zeroizing;

pub use keystore::{Cost, KeyError, NoPassphrase, Passphrase, Source};

use crate::keys::ring::Use;

/// Where the keys stand in the server's directory.
pub const KEYS: &str = "keys";
const AUTHENTICATION: &str = "authentication.pem";
const SIGNING: &str = "signing.pem";

/// The two keys with which a server joins.
pub struct Keys {
    /// The key by which the server is known in TLS, as the PKCS#8 document that rustls takes.
    pub authentication: Zeroizing<Vec<u8>>,
    /// The key by which its member seals messages here.
    pub signing: Arc<SigningKey>,
}

impl Keys {
    /// Makes both keys. Key files that are there are of an attempt to join that never sent anything: they are replaced.
    pub fn make(directory: &Path, passphrase: &Passphrase, cost: Cost) -> Result<Self, KeyError> {
        let keys = directory.join(KEYS);
        let file = |path: &Path, source| KeyError::File { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys).map_err(|error| file(&keys, error))?;
        let make = |name: &str| {
            let path = keys.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(&path, error)),
                _ => {}
            }
            let (key, pkcs8) = SigningKey::generate();
            let pkcs8 = Zeroizing::new(pkcs8);
            keystore::create(&path, &pkcs8, passphrase, cost)?;
            Ok((key, pkcs8))
        };
        let (_, authentication) = make(AUTHENTICATION)?;
        let (signing, _) = make(SIGNING)?;
        Ok(Self { authentication, signing: Arc::new(signing) })
    }

    /// Opens both keys, as joining made them.
    pub fn open(directory: &Path, passphrase: &Passphrase) -> Result<Self, KeyError> {
        let [authentication, signing] = [AUTHENTICATION, SIGNING].map(|name| directory.join(KEYS).join(name));
        let authentication = keystore::open_pkcs8(&authentication, passphrase)?;
        let signing = Arc::new(keystore::open(&signing, passphrase)?);
        Ok(Self { authentication, signing })
    }

    /// Opens the two keys in use, whatever certificates are beside them: for whoever only looks.
    pub(crate) fn in_use(directory: &Path, passphrase: &Passphrase) -> Result<Self, KeyError> {
        let [authentication, signing] = Use::ALL.map(|what| ring::key_in_use(directory, what));
        let authentication = keystore::open_pkcs8(&authentication, passphrase)?;
        let signing = Arc::new(keystore::open(&signing, passphrase)?);
        Ok(Self { authentication, signing })
    }

    /// The authentication key, to prove that it is held.
    pub(crate) fn authentication_key(&self) -> SigningKey {
        SigningKey::from_pkcs8(&self.authentication).expect("it was made or opened as one")
    }
}
