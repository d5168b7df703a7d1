//! A server's keys on disk, from the day each is made to the day it is erased, with their certificates.
//!
//! ```text
//! keys/signing.pem                   the first, made when the server joined
//! keys/signing-2.pem                 the second; and so on
//! certificates/signing-2.next.pem    its certificate, while the key waits to be taken into use
//! certificates/signing-2.pem         its certificate, from then on
//! ```
//!
//! Of each use the highest number whose certificate is not `next` is in use. Nothing else says so: each step makes one file,
//! gives one another name or removes one, so a crash between any two leaves the key that was in use or the one that follows
//! it, and never none. The directory is trusted: whoever has it and the passphrase is the server.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keystore::{Cost, KeyError, Passphrase};
use proto::certificate::{Authentication, NotACertificate, Signing, pem};
use proto::signature::{KeyId, PublicKey, SigningKey};
use proto::time::Time;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::files;
use crate::join::CERTIFICATES;
use crate::keys::KEYS;

/// What a key is for.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// The server is known by it in TLS.
    Authentication,
    /// The server's member seals with it here.
    Signing,
}

impl Use {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Authentication, Self::Signing];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Signing => "signing",
        }
    }

    fn name(self, number: u32) -> String {
        match number {
            1 => self.word().to_owned(),
            number => format!("{}-{number}", self.word()),
        }
    }

    /// The use and the number that a file of this name is of.
    fn numbered(name: &str) -> Option<(Self, u32)> {
        let stem = name.strip_suffix(".pem")?;
        Self::ALL.into_iter().find_map(|what| {
            let number = match stem.strip_prefix(what.word())? {
                "" => 1,
                rest => rest.strip_prefix('-')?.parse().ok().filter(|number| *number > 1)?,
            };
            (what.name(number) == stem).then_some((what, number))
        })
    }
}

/// A key of the ring.
pub struct HeldKey {
    /// What it is for.
    pub what: Use,
    /// Which one, counted from 1.
    pub number: u32,
    /// The key.
    pub key: Arc<SigningKey>,
    /// The same as the PKCS#8 document that rustls takes.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// Its certificate; none: it was asked for, or is yet to be.
    pub certificate: Option<HeldCertificate>,
}

/// A certificate of the ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldCertificate {
    /// DER; those of authorities between it and the instance's own may follow it.
    pub chain: Vec<Vec<u8>>,
    /// First instant of its validity.
    pub not_before: Time,
    /// Last instant of its validity.
    pub not_after: Time,
    /// Whether its key was taken into use.
    pub taken_up: bool,
}

impl HeldKey {
    /// The key's name.
    pub fn id(&self) -> KeyId {
        self.key.public().id()
    }

    fn is_taken_up(&self) -> bool {
        self.certificate.as_ref().is_some_and(|certificate| certificate.taken_up)
    }
}

/// Why the ring cannot be used, or a step of it was not made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another file.
    #[error("{}: {source}; check the disk and who may write there", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate.
    #[error("{} is no certificate of its key: {reason}; put the directory back from a backup", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No key is in use.
    #[error("{} holds no {word} key with a certificate; put the directory back from a backup, or join anew", .directory.display())]
    None {
        /// The server's directory.
        directory: PathBuf,
        /// Of which use.
        word: &'static str,
    },
}

/// The file of the key in use, as the names of the certificates say it: for whoever only looks.
pub fn key_in_use(directory: &Path, what: Use) -> PathBuf {
    key_file(directory, what, number_in_use(directory, what))
}

/// The file of its certificate.
pub fn certificate_in_use(directory: &Path, what: Use) -> PathBuf {
    certificate_file(directory, what, number_in_use(directory, what))
}

/// Every key file that is there.
pub fn key_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let found = numbered(&directory.join(KEYS))?;
    Ok(found.into_iter().map(|(what, number)| key_file(directory, what, number)).collect())
}

/// Where no certificate is there: the first, whose file is then missed by name.
fn number_in_use(directory: &Path, what: Use) -> u32 {
    let found = numbered(&directory.join(CERTIFICATES)).unwrap_or_default();
    found.into_iter().filter(|(of, _)| *of == what).map(|(_, number)| number).max().unwrap_or(1)
}

fn numbered(directory: &Path) -> io::Result<Vec<(Use, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        found.extend(entry?.file_name().to_str().and_then(Use::numbered));
    }
    found.sort_unstable();
    Ok(found)
}

fn key_file(directory: &Path, what: Use, number: u32) -> PathBuf {
    directory.join(KEYS).join(format!("{}.pem", what.name(number)))
}

fn certificate_file(directory: &Path, what: Use, number: u32) -> PathBuf {
    directory.join(CERTIFICATES).join(format!("{}.pem", what.name(number)))
}

/// The keys of a server.
pub struct Ring {
    directory: PathBuf,
    passphrase: Passphrase,
    cost: Cost,
    held: BTreeMap<(Use, u32), Arc<HeldKey>>,
}

impl Ring {
    /// Reads the keys and their certificates. What a crash left half made is passed over, and made anew when its turn comes.
    pub fn open(directory: &Path, passphrase: &Passphrase) -> Result<Self, RingError> {
        let keys = directory.join(KEYS);
        let numbered = numbered(&keys).map_err(|source| RingError::File { path: keys, source })?;
        let mut ring = Self {
            directory: directory.to_owned(),
            passphrase: passphrase.clone(),
            cost: Cost::FULL,
            held: BTreeMap::new(),
        };
        for (what, number) in numbered {
            ring.take_in(what, number)?;
        }
        for what in Use::ALL {
            ring.check_in_use(what)?;
        }
        // A new key is as dear to try as the ones that are there.
        ring.cost = keystore::cost_of(&ring.key_file(Use::Signing, ring.in_use(Use::Signing).number))?;
        Ok(ring)
    }

    fn take_in(&mut self, what: Use, number: u32) -> Result<(), RingError> {
        let path = self.key_file(what, number);
        let certificate = self.certificate(what, number)?;
        let pkcs8 = match keystore::open_pkcs8(&path, &self.passphrase) {
            Ok(pkcs8) => pkcs8,
            // A crash while it was made: nobody was ever told of it.
            Err(KeyError::Format { .. }) if certificate.is_none() && number > 1 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let key = SigningKey::from_pkcs8(&pkcs8).map_err(|_| KeyError::Kind { path })?;
        let certificate = match certificate {
            Some((path, der)) => Some(read(&path, what, der, key.public())?),
            None => None,
        };
        self.held.insert((what, number), Arc::new(HeldKey { what, number, key: Arc::new(key), pkcs8, certificate }));
        Ok(())
    }

    /// The certificate of this number, and the file that it stands in.
    fn certificate(&self, what: Use, number: u32) -> Result<Option<(PathBuf, Vec<u8>)>, RingError> {
        for path in [self.certificate_file(what, number), self.next_file(what, number)] {
            match fs::read(&path) {
                Ok(pem) => return Ok(Some((path, pem))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(RingError::File { path, source }),
            }
        }
        Ok(None)
    }

    fn check_in_use(&self, what: Use) -> Result<(), RingError> {
        let found = self.of(what).any(|held| held.certificate.is_some());
        let none = || RingError::None { directory: self.directory.clone(), word: what.word() };
        if found { Ok(()) } else { Err(none()) }
    }

    fn of(&self, what: Use) -> impl DoubleEndedIterator<Item = &Arc<HeldKey>> {
        self.held.range((what, 0)..=(what, u32::MAX)).map(|(_, held)| held)
    }

    /// How dear a try of the passphrase is at these keys.
    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    /// Every key, by use and number.
    pub fn all(&self) -> impl Iterator<Item = &Arc<HeldKey>> {
        self.held.values()
    }

    /// The key in use.
    pub fn in_use(&self, what: Use) -> &Arc<HeldKey> {
        let taken_up = self.of(what).rev().find(|held| held.is_taken_up());
        // A copy of the directory that was made while the key changed may hold the next one only, which waited.
        let in_use = taken_up.or_else(|| self.of(what).find(|held| held.certificate.is_some()));
        in_use.expect("checked when it was opened, and never erased")
    }

    /// The newest key, whatever became of it.
    pub fn newest(&self, what: Use) -> &Arc<HeldKey> {
        self.of(what).next_back().expect("there is one in use")
    }

    /// Keys that were certified and not taken into use yet, the oldest first.
    pub fn waiting(&self, what: Use) -> impl DoubleEndedIterator<Item = &Arc<HeldKey>> {
        let in_use = self.in_use(what).number;
        self.of(what).filter(move |held| held.number > in_use && held.certificate.is_some())
    }

    /// Keys that another one took the place of.
    pub fn replaced(&self, what: Use) -> impl Iterator<Item = &Arc<HeldKey>> {
        let in_use = self.in_use(what).number;
        self.of(what).filter(move |held| held.number < in_use)
    }

    /// Makes the next key. A crash leaves it without a certificate: it is asked for again, or, half written, removed.
    pub fn make(&mut self, what: Use) -> Result<Arc<HeldKey>, RingError> {
        let number = self.last_number(what)? + 1;
        let (key, pkcs8) = SigningKey::generate();
        let pkcs8 = Zeroizing::new(pkcs8);
        let path = self.key_file(what, number);
        files::remove(&path).map_err(|source| RingError::File { path: path.clone(), source })?;
        keystore::create(&path, &pkcs8, &self.passphrase, self.cost)?;
        Ok(self.insert(HeldKey { what, number, key: Arc::new(key), pkcs8, certificate: None }))
    }

    /// A number is given once: where a key is gone and its certificate is not, as in a directory that was put back from a
    /// backup, the next key must not stand under its name.
    fn last_number(&self, what: Use) -> Result<u32, RingError> {
        let place = self.directory.join(CERTIFICATES);
        let listed = fs::read_dir(&place).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
            names.collect::<io::Result<Vec<_>>>()
        });
        let listed = listed.map_err(|source| RingError::File { path: place, source })?;
        let numbers = listed.iter().filter_map(|name| Use::numbered(&name.replace(".next.pem", ".pem")));
        let numbers = numbers.filter(|(of, _)| *of == what).map(|(_, number)| number);
        Ok(numbers.chain([self.newest(what).number]).max().unwrap_or(1))
    }

    /// Keeps the certificate that came for a key. A crash before it is there: it is asked for again, and is the same.
    pub fn certify(&mut self, held: &HeldKey, der: &[u8]) -> Result<Arc<HeldKey>, RingError> {
        let path = self.next_file(held.what, held.number);
        let pem = pem("CERTIFICATE", der);
        let certificate = read(&path, held.what, pem.clone().into_bytes(), held.key.public())?;
        files::write(&path, pem.as_bytes(), 0o644).map_err(|source| RingError::File { path, source })?;
        Ok(self.insert(held.with(certificate)))
    }

    /// Takes a key into use that was certified. A crash leaves the one before in use, or this one.
    pub fn take_up(&mut self, held: &HeldKey) -> Result<Arc<HeldKey>, RingError> {
        let (from, to) = (self.next_file(held.what, held.number), self.certificate_file(held.what, held.number));
        files::rename(&from, &to).map_err(|source| RingError::File { path: to, source })?;
        let certificate = held.certificate.clone().expect("only a certified key waits");
        Ok(self.insert(held.with(HeldCertificate { taken_up: true, ..certificate })))
    }

    /// Erases a key that is not in use. A crash leaves it to be erased again. Certificates of signing keys are kept: this
    /// server's logs are verified with them.
    pub fn erase(&mut self, held: &HeldKey) -> Result<(), RingError> {
        assert!(held.number != self.in_use(held.what).number, "the key in use is not erased");
        let mut gone = vec![self.key_file(held.what, held.number), self.next_file(held.what, held.number)];
        if held.what == Use::Authentication {
            gone.push(self.certificate_file(held.what, held.number));
        }
        for path in gone {
            let removed = files::remove(&path).and_then(|()| files::sync(path.parent().unwrap_or(Path::new("."))));
            removed.map_err(|source| RingError::File { path, source })?;
        }
        self.held.remove(&(held.what, held.number));
        Ok(())
    }

    fn insert(&mut self, held: HeldKey) -> Arc<HeldKey> {
        let held = Arc::new(held);
        self.held.insert((held.what, held.number), Arc::clone(&held));
        held
    }

    fn key_file(&self, what: Use, number: u32) -> PathBuf {
        key_file(&self.directory, what, number)
    }

    fn certificate_file(&self, what: Use, number: u32) -> PathBuf {
        certificate_file(&self.directory, what, number)
    }

    fn next_file(&self, what: Use, number: u32) -> PathBuf {
        self.directory.join(CERTIFICATES).join(format!("{}.next.pem", what.name(number)))
    }
}

impl HeldKey {
    fn with(&self, certificate: HeldCertificate) -> Self {
        let (key, pkcs8) = (Arc::clone(&self.key), self.pkcs8.clone());
        Self { what: self.what, number: self.number, key, pkcs8, certificate: Some(certificate) }
    }
}

fn read(path: &Path, what: Use, pem: Vec<u8>, key: &PublicKey) -> Result<HeldCertificate, RingError> {
    let wrong = |reason: String| RingError::Certificate { path: path.to_owned(), reason };
    let chain: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).map(|der| der.to_vec()).collect();
    let leaf = chain.first().ok_or_else(|| wrong("no certificate in PEM is there".to_owned()))?;
    let not_one = |error: NotACertificate| wrong(error.to_string());
    let (of, not_before, not_after) = match what {
        Use::Authentication => {
            let read = Authentication::parse(leaf).map_err(not_one)?;
            (read.key, read.not_before, read.not_after)
        }
        Use::Signing => {
            let read = Signing::parse(leaf).map_err(not_one)?;
            (read.key, read.not_before, read.not_after)
        }
    };
    if of.id() != key.id() {
        return Err(wrong("it is another key's".to_owned()));
    }
    let taken_up = !path.to_str().is_some_and(|path| path.ends_with(".next.pem"));
    Ok(HeldCertificate { chain, not_before, not_after, taken_up })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::certificate::{MEMBER_URI, SERVER_URI, dns_name};
    use proto::identifier::ServerId;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    /// A certificate of this key for this use, signed by itself: who issued it is not the ring's to say.
    fn certificate(what: Use, pkcs8: &[u8]) -> Vec<u8> {
        let server: ServerId = "VN/GOV/moj/ss1".parse().unwrap();
        let uri = |text: String| SanType::URI(text.try_into().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match what {
            Use::Authentication => {
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
                params.subject_alt_names =
                    vec![SanType::DnsName(dns_name(&server).try_into().unwrap()), uri(format!("{SERVER_URI}{server}"))];
            }
            Use::Signing => {
                params.subject_alt_names =
                    vec![uri(format!("{MEMBER_URI}VN/GOV/moj")), uri(format!("{SERVER_URI}{server}"))];
            }
        }
        params.self_signed(&KeyPair::try_from(pkcs8).unwrap()).unwrap().der().to_vec()
    }

    /// A directory as joining leaves it.
    fn joined() -> (tempfile::TempDir, Passphrase) {
        let (directory, passphrase) = (tempfile::tempdir().unwrap(), Passphrase::random());
        let keys = crate::keys::Keys::make(directory.path(), &passphrase, Cost::dangerously_cheap()).unwrap();
        fs::create_dir(directory.path().join(CERTIFICATES)).unwrap();
        drop(keys);
        for what in Use::ALL {
            let file = format!("{}.pem", what.word());
            let pkcs8 = keystore::open_pkcs8(&directory.path().join(KEYS).join(&file), &passphrase).unwrap();
            let pem = pem("CERTIFICATE", &certificate(what, &pkcs8));
            fs::write(directory.path().join(CERTIFICATES).join(&file), pem).unwrap();
        }
        (directory, passphrase)
    }

    fn copied(from: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for part in [KEYS, CERTIFICATES] {
            fs::create_dir(copy.path().join(part)).unwrap();
            for entry in fs::read_dir(from.join(part)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), copy.path().join(part).join(entry.file_name())).unwrap();
            }
        }
        copy
    }

    #[test]
    fn a_key_is_made_certified_taken_up_and_the_one_before_erased() {
        let (directory, passphrase) = joined();
        for what in Use::ALL {
            let mut ring = Ring::open(directory.path(), &passphrase).unwrap();
            let first = ring.in_use(what).id();
            let made = ring.make(what).unwrap();
            assert_eq!((made.number, ring.in_use(what).id()), (2, first));
            let waiting = ring.certify(&made, &certificate(what, &made.pkcs8)).unwrap();
            assert_eq!((ring.waiting(what).count(), ring.in_use(what).id()), (1, first));
            ring.take_up(&waiting).unwrap();
            assert_eq!((ring.in_use(what).id(), ring.replaced(what).count()), (made.id(), 1));
            let before = ring.replaced(what).next().unwrap().clone();
            ring.erase(&before).unwrap();
            let ring = Ring::open(directory.path(), &passphrase).unwrap();
            assert_eq!((ring.in_use(what).id(), ring.of(what).count()), (made.id(), 1));
            let kept = directory.path().join(CERTIFICATES).join(format!("{}.pem", what.word())).exists();
            assert_eq!(kept, what == Use::Signing, "a log outlives its keys");
        }
    }

    /// What is on disk after each write of a rotation, and in the middle of each, is taken up again: the key before or the new
    /// one is in use, and the rotation goes on from there to its end.
    #[test]
    fn a_crash_at_any_write_leaves_the_key_before_or_the_new_one_in_use() {
        for what in Use::ALL {
            let (directory, passphrase) = joined();
            let mut ring = Ring::open(directory.path(), &passphrase).unwrap();
            let first = ring.in_use(what).id();
            // Each state that a crash can leave, and which key is in use in it.
            let mut states = vec![("nothing yet", copied(directory.path()), false)];
            let made = ring.make(what).unwrap();
            let torn = copied(directory.path());
            let key = torn.path().join(KEYS).join(format!("{}.pem", what.name(2)));
            let whole = fs::read(&key).unwrap();
            fs::write(&key, &whole[..whole.len() / 2]).unwrap();
            states.push(("half a key", torn, false));
            let empty = copied(directory.path());
            fs::write(empty.path().join(KEYS).join(format!("{}.pem", what.name(2))), b"").unwrap();
            states.push(("an empty key", empty, false));
            states.push(("a key", copied(directory.path()), false));
            let torn = copied(directory.path());
            fs::write(torn.path().join(CERTIFICATES).join(format!("{}.next.new", what.name(2))), b"-----BEG").unwrap();
            states.push(("half a certificate", torn, false));
            let issued = certificate(what, &made.pkcs8);
            let waiting = ring.certify(&made, &issued).unwrap();
            states.push(("a certificate", copied(directory.path()), false));
            ring.take_up(&waiting).unwrap();
            states.push(("taken up", copied(directory.path()), true));
            fs::remove_file(directory.path().join(KEYS).join(format!("{}.pem", what.word()))).unwrap();
            states.push(("the key before is gone", copied(directory.path()), true));
            if what == Use::Authentication {
                fs::remove_file(directory.path().join(CERTIFICATES).join("authentication.pem")).unwrap();
                states.push(("its certificate too", copied(directory.path()), true));
            }

            for (state, left, taken_up) in states {
                let mut ring = Ring::open(left.path(), &passphrase).unwrap_or_else(|error| panic!("{state}: {error}"));
                let in_use = ring.in_use(what).id();
                assert_eq!(in_use == first, !taken_up, "{what:?}, {state}");
                assert!(taken_up == (in_use == made.id()), "{what:?}, {state}");
                // On to the end, by the steps that are left.
                if !taken_up {
                    let waiting = ring.waiting(what).next_back().cloned();
                    let next = match waiting {
                        Some(waiting) => waiting,
                        None => {
                            let newest = ring.newest(what).clone();
                            let asked = if newest.certificate.is_some() { ring.make(what).unwrap() } else { newest };
                            let issued = certificate(what, &asked.pkcs8);
                            ring.certify(&asked, &issued).unwrap()
                        }
                    };
                    ring.take_up(&next).unwrap();
                }
                let before: Vec<_> = ring.replaced(what).cloned().collect();
                before.iter().for_each(|before| ring.erase(before).unwrap());
                let ring = Ring::open(left.path(), &passphrase).unwrap();
                assert_ne!(ring.in_use(what).id(), first, "{what:?}, {state}");
                assert_eq!(ring.of(what).count(), 1, "{what:?}, {state}");
            }
        }
    }

    #[test]
    fn a_copy_that_was_made_while_the_key_changed_goes_on_with_the_key_that_waited() {
        let (directory, passphrase) = joined();
        let mut ring = Ring::open(directory.path(), &passphrase).unwrap();
        let made = ring.make(Use::Signing).unwrap();
        ring.certify(&made, &certificate(Use::Signing, &made.pkcs8)).unwrap();
        // The certificates were copied before the change, the keys after it.
        fs::remove_file(directory.path().join(KEYS).join("signing.pem")).unwrap();
        let mut ring = Ring::open(directory.path(), &passphrase).unwrap();
        assert_eq!((ring.in_use(Use::Signing).id(), ring.waiting(Use::Signing).count()), (made.id(), 0));
        let third = ring.make(Use::Signing).unwrap();
        let third = ring.certify(&third, &certificate(Use::Signing, &third.pkcs8)).unwrap();
        ring.take_up(&third).unwrap();
        assert_eq!(ring.in_use(Use::Signing).id(), third.id());
    }

    #[test]
    fn a_key_that_is_gone_leaves_its_number_to_nobody() {
        let (directory, passphrase) = joined();
        let mut ring = Ring::open(directory.path(), &passphrase).unwrap();
        let made = ring.make(Use::Signing).unwrap();
        ring.certify(&made, &certificate(Use::Signing, &made.pkcs8)).unwrap();
        fs::remove_file(directory.path().join(KEYS).join("signing-2.pem")).unwrap();
        let mut ring = Ring::open(directory.path(), &passphrase).unwrap();
        assert_eq!(ring.make(Use::Signing).unwrap().number, 3);
        assert_eq!(ring.make(Use::Authentication).unwrap().number, 2);
        assert!(Ring::open(directory.path(), &passphrase).is_ok());
    }

    #[test]
    fn a_directory_without_a_key_or_with_anothers_certificate_is_named() {
        let (directory, passphrase) = joined();
        let name = |part: &str, name: &str| directory.path().join(part).join(name);
        let swapped = fs::read(name(CERTIFICATES, "signing.pem")).unwrap();
        let (other, other_passphrase) = joined();
        fs::copy(other.path().join(CERTIFICATES).join("signing.pem"), name(CERTIFICATES, "signing.pem")).unwrap();
        let error = Ring::open(directory.path(), &passphrase).err().unwrap();
        assert!(matches!(error, RingError::Certificate { .. }), "{error}");
        fs::remove_file(name(CERTIFICATES, "signing.pem")).unwrap();
        let error = Ring::open(directory.path(), &passphrase).err().unwrap();
        assert!(matches!(error, RingError::None { word: "signing", .. }), "{error}");
        fs::write(name(CERTIFICATES, "signing.pem"), swapped).unwrap();
        let error = Ring::open(directory.path(), &other_passphrase).err().unwrap();
        assert!(matches!(error, RingError::Key(KeyError::Passphrase { .. })), "{error}");
        assert!(Ring::open(directory.path(), &passphrase).is_ok(), "nothing was touched");
    }

    proptest! {
        #[test]
        fn a_name_has_one_number(name in "(authentication|signing)?-?[0-9]{0,12}(.pem)?") {
            if let Some((what, number)) = Use::numbered(&name) {
                prop_assert_eq!(format!("{}.pem", what.name(number)), name);
            }
        }
    }
}
