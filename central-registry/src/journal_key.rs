//! The public half of the key that signs the audit journal, in a file of its own: who verifies the journal needs no
//! passphrase, and compares the key's name with what was noted elsewhere.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use proto::certificate;
use proto::signature::PublicKey;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// The file: a SubjectPublicKeyInfo in PEM.
pub const JOURNAL_KEY: &str = "journal-key.pem";
/// Writes it where it is not there yet, or says another key. A crash leaves the file as it was, or whole.
pub(crate) fn write(directory: &Path, key: &PublicKey) -> io::Result<()> {
    let (path, new) = (directory.join(JOURNAL_KEY), directory.join("journal-key.new"));
    let text = pem(key);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    fs::File::open(directory)?.sync_all()
}

/// Reads it.
pub fn read(directory: &Path) -> io::Result<PublicKey> {
    parse(&fs::read(directory.join(JOURNAL_KEY))?)
}

/// Reads its text.
pub(crate) fn parse(pem: &[u8]) -> io::Result<PublicKey> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|error| wrong(error.to_string()))?;
    PublicKey::from_spki(&spki).map_err(|error| wrong(error.to_string()))
}

/// Its text.
pub(crate) fn pem(key: &PublicKey) -> String {
    certificate::pem("PUBLIC KEY", &key.to_spki())
}

#[cfg(test)]
mod tests {
    use proto::signature::SigningKey;

    use super::*;

    #[test]
    fn a_key_reads_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let (key, _) = SigningKey::generate();
            write(directory.path(), key.public()).unwrap();
            assert_eq!(read(directory.path()).unwrap(), *key.public());
        }
        assert!(parse(b"x").is_err());
    }
}
