//! Private keys at rest, for both servers and for admins: PKCS#8 in PEM, encrypted so that openssl opens it, readable by
//! the owner only, unlocked by a passphrase that stands in no configuration file.

mod passphrase;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use pkcs8::der::Decode;
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument, pkcs5::pbes2::Parameters};
use proto::signature::SigningKey;
use zeroize::Zeroizing;

pub use passphrase::{MIN_PASSPHRASE_BYTES, NoPassphrase, Passphrase, Source};

/// Longest key file, in bytes.
pub const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// How often PBKDF2 runs for one try of a passphrase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost(u32);

impl Cost {
    /// About 30 milliseconds a try.
    pub const FULL: Cost = Cost(100_000);

    /// Almost nothing a try: for keys that vanish with their directory, and passphrases drawn at random.
    pub const fn dangerously_cheap() -> Self {
        Cost(1_000)
    }
}

/// Why a key file is not written or not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; put the key file there, for this user to read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("{path} has mode {mode:03o}, and a private key must be for its owner only; chmod 600 {path}")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not an encrypted PKCS#8 document in PEM.
    #[error("{path} is no encrypted private key; give a PEM file that begins with -----BEGIN {LABEL}-----")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open it.
    #[error("{path} cannot be opened with this passphrase; give the one that it was made with")]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// It holds another kind of key.
    #[error("{path} holds no P-256 key; make one with `security-server join` or `central-registry init`")]
    Kind {
        /// The file.
        path: PathBuf,
    },
}

/// Writes a new key file: encrypted, mode 0600, never over another. It is on disk when this returns; after a crash
/// before that there may be a file that nothing opens, and whoever makes the key again removes it first.
pub fn create(path: &Path, pkcs8: &[u8], passphrase: &Passphrase, cost: Cost) -> Result<(), KeyError> {
    let pem = encrypt(pkcs8, passphrase, cost).ok_or_else(|| KeyError::Kind { path: path.to_owned() })?;
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        fs::File::open(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| KeyError::File { path: path.to_owned(), source })
}

/// Opens a key file that only its owner can read.
pub fn open(path: &Path, passphrase: &Passphrase) -> Result<SigningKey, KeyError> {
    let pkcs8 = open_pkcs8(path, passphrase)?;
    SigningKey::from_pkcs8(&pkcs8).map_err(|_| KeyError::Kind { path: path.to_owned() })
}

/// The same, as the unencrypted PKCS#8 document that a TLS library takes.
pub fn open_pkcs8(path: &Path, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    for_its_owner_only(path)?;
    let pem = Zeroizing::new(fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?);
    decrypt(&pem, passphrase).map_err(|refused| match refused {
        Locked::Format => KeyError::Format { path: path.to_owned() },
        Locked::Passphrase => KeyError::Passphrase { path: path.to_owned() },
    })
}

/// Whether a key file is there, of a key file's length, and readable by nobody but its owner. Opens nothing.
pub fn for_its_owner_only(path: &Path) -> Result<(), KeyError> {
    let metadata = fs::metadata(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_KEY_FILE_BYTES {
        return Err(KeyError::Format { path: path.to_owned() });
    }
    Ok(())
}

/// How dear a try of the passphrase is at a key file that is there.
pub fn cost_of(path: &Path) -> Result<Cost, KeyError> {
    let pem = fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    let rounds = || {
        let (_, document) = SecretDocument::from_pem(std::str::from_utf8(&pem).ok()?).ok()?;
        let encrypted = EncryptedPrivateKeyInfo::from_der(document.as_bytes()).ok()?;
        Some(encrypted.encryption_algorithm.pbes2()?.kdf.pbkdf2()?.iteration_count)
    };
    rounds().map(Cost).ok_or_else(|| KeyError::Format { path: path.to_owned() })
}

/// PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC, named explicitly: openssl does not open the crate's default (scrypt).
fn encrypt(pkcs8: &[u8], passphrase: &Passphrase, cost: Cost) -> Option<Zeroizing<String>> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut iv)).expect("the system's random source works");
    let parameters = Parameters::pbkdf2_sha256_aes256cbc(cost.0, &salt, &iv).ok()?;
    let key = PrivateKeyInfo::from_der(pkcs8).ok()?;
    key.encrypt_with_params(parameters, passphrase.reveal()).ok()?.to_pem(LABEL, LineEnding::LF).ok()
}

enum Locked {
    Format,
    Passphrase,
}

fn decrypt(pem: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, Locked> {
    let text = std::str::from_utf8(pem).map_err(|_| Locked::Format)?;
    let (label, document) = SecretDocument::from_pem(text).map_err(|_| Locked::Format)?;
    if label != LABEL {
        return Err(Locked::Format);
    }
    let encrypted = EncryptedPrivateKeyInfo::from_der(document.as_bytes()).map_err(|_| Locked::Format)?;
    let opened = encrypted.decrypt(passphrase.reveal()).map_err(|_| Locked::Passphrase)?;
    Ok(Zeroizing::new(opened.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).unwrap()
    }

    fn made() -> (tempfile::TempDir, PathBuf, SigningKey) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.pem");
        let (key, pkcs8) = SigningKey::generate();
        create(&path, &pkcs8, &passphrase("correct horse"), Cost::dangerously_cheap()).unwrap();
        (directory, path, key)
    }

    #[test]
    fn a_key_opens_with_its_passphrase_only() {
        let (_directory, path, key) = made();
        assert_eq!(open(&path, &passphrase("correct horse")).unwrap().public(), key.public());
        assert!(matches!(open(&path, &passphrase("correct house")), Err(KeyError::Passphrase { .. })));
        assert_eq!(cost_of(&path).unwrap(), Cost::dangerously_cheap());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_directory, path, _) = made();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = open(&path, &passphrase("correct horse")).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let (_directory, path, _) = made();
        let (_, other) = SigningKey::generate();
        assert!(create(&path, &other, &passphrase("correct horse"), Cost::dangerously_cheap()).is_err());
    }

    #[test]
    fn openssl_opens_the_key_of_full_cost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let (key, pkcs8) = SigningKey::generate();
        create(&path, &pkcs8, &passphrase("correct horse"), Cost::FULL).unwrap();
        let output = Command::new("openssl")
            .args(["pkey", "-passin", "pass:correct horse", "-pubout", "-outform", "DER", "-in"])
            .arg(&path)
            .stderr(Stdio::inherit())
            .output()
            .expect("openssl must be installed for this test");
        assert_eq!(output.stdout, key.public().to_spki());
    }

    #[test]
    fn an_unencrypted_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let (_, pkcs8) = SigningKey::generate();
        let pem = PrivateKeyInfo::from_der(&pkcs8).unwrap();
        let pem = SecretDocument::encode_msg(&pem).unwrap().to_pem("PRIVATE KEY", LineEnding::LF).unwrap();
        fs::write(&path, pem.as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(open(&path, &passphrase("correct horse")), Err(KeyError::Format { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decrypt(&bytes, &passphrase("correct horse"));
        }
    }
}
