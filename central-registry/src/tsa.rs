//! The registry's own timestamping authority (PROTOCOL.md 16), for instances that bring none: a key of its own, which signs
//! tokens and nothing else, certified by the instance's authority. It keeps no list: what it stamped is in the tokens.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use keystore::{Cost, Passphrase};
use proto::certificate::{pem, public_key};
use proto::global_configuration::document::{Der, TimestampingDocument};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::timestamp::{Authority, NoQuery, Signer, Statement};

use crate::authority::{CertificateAuthority, TIMESTAMPING_VALIDITY};
use crate::init::KEYS;
use crate::serve::{self, StartError};

/// Its key's name, and what its certificate's file is called before `.pem`.
pub(crate) const TSA: &str = "tsa";
/// What servers know it by.
pub const NAME: &str = "registry";

/// See the module.
pub struct TimestampingAuthority {
    key: SigningKey,
    certificate: Der,
    /// The last time that it put its name to. It names none before it.
    last: AtomicU64,
    random: SystemRandom,
}

impl TimestampingAuthority {
    /// Takes up its key. A registry of an earlier version has none, and gets one; a certificate that is not there, not the
    /// key's or in its last year is made anew: servers know it by the authority's, and look at each token's own.
    pub(crate) fn open(
        directory: &Path,
        passphrase: &Passphrase,
        authority: &CertificateAuthority,
        now: Time,
    ) -> Result<Self, StartError> {
        let path = directory.join(KEYS).join(format!("{TSA}.pem"));
        if !path.exists() {
            let (_, pkcs8) = SigningKey::generate();
            keystore::create(&path, &pkcs8, passphrase, Cost::FULL)?;
        }
        let key = keystore::open(&path, passphrase)?;
        let path = directory.join(format!("{TSA}.pem"));
        let kept = serve::certificate(&path).ok().filter(|der| {
            let last_year = now.plus(TIMESTAMPING_VALIDITY / 5);
            let lasts = Signer::read(der.as_bytes()).is_ok_and(|read| read.not_after() > last_year);
            lasts && public_key(der.as_bytes()).is_ok_and(|found| found == *key.public())
        });
        let certificate = match kept {
            Some(certificate) => certificate,
            None => {
                let made = authority.timestamping(key.public(), now)?;
                write(&path, pem("CERTIFICATE", made.as_bytes()).as_bytes())
                    .map_err(|source| StartError::File { path: path.clone(), source })?;
                made
            }
        };
        Ok(Self { key, certificate, last: AtomicU64::new(0), random: SystemRandom::new() })
    }

    /// The answer to a query, in time order; what is no query is answered too, with a refusal.
    pub fn answer(&self, query: &[u8], now: Time) -> Vec<u8> {
        let last = self.last.fetch_max(now.as_millis(), Ordering::Relaxed);
        let mut serial = [0; 16];
        self.random.fill(&mut serial).expect("the system's random source works, or nothing does");
        match Statement::answering(query, serial, now.max(Time::from_millis(last))) {
            Ok(statement) => Authority { key: &self.key, certificate: self.certificate.as_bytes() }.answer(&statement),
            Err(NoQuery(refusal)) => refusal,
        }
    }
}

/// How the configuration names the registry's own: by the instance's authority, under which it stands.
pub fn own(authority: &Der) -> TimestampingDocument {
    let name = NAME.parse().expect("it is a text");
    TimestampingDocument { name, address: None, certificate: authority.clone(), policy: None }
}

/// A crash leaves the file before, or the file after.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
