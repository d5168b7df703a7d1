//! A backup's file for recipients (FORMAT.md 5): whoever writes it knows the recipients' public keys only, and cannot read it
//! afterwards.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hkdf;
use keystore::Passphrase;
use proto::digest::Digest;
use proto::signature::{KeyId, NotAKey, PublicKey, SigningKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::sealed::TAKEN;
use crate::{About, NotABackup, Reader, Writer};

const MAGIC: &[u8; 20] = b"causeway.archive.v1\n";
/// Most recipients of one file.
pub const MAX_RECIPIENTS: usize = 8;
const POINT_BYTES: usize = 65;
/// 32 random bytes, in hexadecimal.
const SECRET_BYTES: usize = 64;
const WRAPPED_BYTES: usize = SECRET_BYTES + MAX_TAG_LEN;

/// Who may read: a public key of P-256.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient(PublicKey);

impl Recipient {
    /// From a public key in PEM, as `openssl pkey -pubout` writes it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotAKey> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| NotAKey)?;
        PublicKey::from_spki(&spki).map(Self)
    }

    /// SHA-256 of the key.
    pub fn id(&self) -> KeyId {
        self.0.id()
    }
}

/// The private key of a recipient.
pub struct RecipientKey {
    key: PrivateKey,
    id: KeyId,
}

impl RecipientKey {
    /// From a PKCS#8 document.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, NotAKey> {
        let key = PrivateKey::from_private_key_der(&ECDH_P256, pkcs8).map_err(|_| NotAKey)?;
        let id = SigningKey::from_pkcs8(pkcs8)?.public().id();
        Ok(Self { key, id })
    }

    /// SHA-256 of its public key.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// Begins a file that only these recipients open. There is at least one, and at most [`MAX_RECIPIENTS`].
pub fn seal_to<W: Write>(mut to: W, recipients: &[Recipient], about: About) -> io::Result<Writer<W>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
        return Err(wrong("there are one to eight recipients"));
    }
    let secret = Passphrase::random();
    let mut header = MAGIC.to_vec();
    header.push(u8::try_from(recipients.len()).expect("eight at the most"));
    for recipient in recipients {
        let own = PrivateKey::generate(&ECDH_P256).map_err(|_| wrong("no key could be drawn"))?;
        let point = own.compute_public_key().map_err(|_| wrong("no key could be drawn"))?;
        let said = said(&recipient.id(), point.as_ref());
        let key = wrapping(&own, recipient.0.point(), &said).ok_or_else(|| wrong("a recipient's key is none"))?;
        let mut wrapped = Zeroizing::new(secret.reveal().as_bytes().to_vec());
        // A key of its own for each recipient and file: its one nonce is never used twice.
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(&said), &mut *wrapped)
            .map_err(|_| wrong("the secret cannot be encrypted"))?;
        header.extend_from_slice(&said);
        header.extend_from_slice(&wrapped);
    }
    to.write_all(&header)?;
    // Nobody tries passphrases of 32 random bytes: the cheapest that a reader takes.
    let passphrase = bound(secret.reveal(), &header).ok_or_else(|| wrong("the secret is none"))?;
    Writer::with_cost(to, &passphrase, about, *TAKEN.start())
}

/// Who can open a file, as it says of itself: nothing of it is checked.
pub fn recipients<R: Read>(mut from: R) -> Result<Vec<KeyId>, NotABackup> {
    let mut magic = [0; MAGIC.len() + 1];
    from.read_exact(&mut magic).map_err(|_| NotABackup::None)?;
    let count = magic[MAGIC.len()];
    if !magic.starts_with(MAGIC) || count == 0 || usize::from(count) > MAX_RECIPIENTS {
        return Err(NotABackup::None);
    }
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut row = [0; 32 + POINT_BYTES + WRAPPED_BYTES];
        from.read_exact(&mut row)?;
        ids.push(KeyId::try_from(&row[..32]).map_err(|_| NotABackup::None)?);
    }
    Ok(ids)
}

/// Opens a file with the key of one of its recipients.
pub fn open_with<R: Read>(mut from: R, key: &RecipientKey) -> Result<Reader<R>, NotABackup> {
    let mut magic = [0; MAGIC.len() + 1];
    from.read_exact(&mut magic).map_err(|_| NotABackup::None)?;
    if !magic.starts_with(MAGIC) {
        return Err(NotABackup::None);
    }
    let recipients = magic[MAGIC.len()];
    if recipients == 0 || usize::from(recipients) > MAX_RECIPIENTS {
        return Err(NotABackup::Foreign("it has not one to eight recipients".into()));
    }
    let (mut secret, mut header) = (None, magic.to_vec());
    for _ in 0..recipients {
        let mut said = [0; 32 + POINT_BYTES];
        let mut wrapped = Zeroizing::new([0; WRAPPED_BYTES]);
        from.read_exact(&mut said)?;
        from.read_exact(&mut *wrapped)?;
        header.extend_from_slice(&said);
        header.extend_from_slice(&*wrapped);
        if said[..32] != key.id.as_bytes()[..] {
            continue;
        }
        let damaged = || NotABackup::Damaged("what its recipients open it with was changed".into());
        let wrapping = wrapping(&key.key, &said[32..], &said).ok_or_else(damaged)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let opened = wrapping.open_in_place(nonce, Aad::from(&said), &mut *wrapped).map_err(|_| damaged())?;
        secret = Some(Zeroizing::new(String::from_utf8(opened.to_vec()).map_err(|_| damaged())?));
    }
    let secret = secret.ok_or(NotABackup::OtherRecipient(key.id))?;
    let changed = || NotABackup::Damaged("its list of recipients was changed".into());
    let passphrase = bound(&secret, &header).ok_or_else(changed)?;
    Reader::open(from, &passphrase).map_err(|error| match error {
        NotABackup::Passphrase => changed(),
        error => error,
    })
}

/// The secret, bound to all that stands before what it opens: no recipient's line can be changed unseen by the others.
fn bound(secret: &str, header: &[u8]) -> Option<Passphrase> {
    Passphrase::new(format!("{secret}{}", Digest::of(&[header]))).ok()
}

/// Whom it is for, and the sender's key that was drawn for it.
fn said(recipient: &KeyId, point: &[u8]) -> [u8; 32 + POINT_BYTES] {
    let mut said = [0; 32 + POINT_BYTES];
    said[..32].copy_from_slice(recipient.as_bytes());
    said[32..].copy_from_slice(point);
    said
}

fn wrapping(own: &PrivateKey, other: &[u8], said: &[u8]) -> Option<LessSafeKey> {
    let other = UnparsedPublicKey::new(&ECDH_P256, other);
    agreement::agree(own, other, (), |shared| {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"causeway/v1/archive");
        let derived = salt.extract(shared);
        let said = [said];
        let derived = derived.expand(&said, &AES_256_GCM).map_err(|_| ())?;
        Ok(LessSafeKey::new(UnboundKey::from(derived)))
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;

    fn pair() -> (Recipient, RecipientKey) {
        let (key, pkcs8) = SigningKey::generate();
        (Recipient(key.public().clone()), RecipientKey::from_pkcs8(&pkcs8).unwrap())
    }

    fn about() -> About {
        About {
            format: crate::FORMAT.into(),
            program: Program::SecurityServer,
            version: "1".into(),
            instance: "VN".parse().unwrap(),
            server: "VN/GOV/moj/ss1".into(),
            made: 1,
            signing_keys: false,
            complete: false,
        }
    }

    fn sealed(recipients: &[Recipient], content: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = seal_to(Vec::new(), recipients, about())?;
        file.part(&"message-log/0000000001.segment".parse().unwrap(), content.len() as u64, &mut &*content)?;
        Ok(file.finish()?.0)
    }

    fn opened(file: &[u8], key: &RecipientKey) -> Result<Vec<u8>, NotABackup> {
        let mut reader = open_with(file, key)?;
        let content = reader.part()?.unwrap().whole(1 << 20)?;
        assert!(reader.part()?.is_none());
        Ok(content.to_vec())
    }

    #[test]
    fn each_recipient_opens_it_and_nobody_else() {
        let ((one, one_key), (two, two_key), (_, stranger)) = (pair(), pair(), pair());
        let content: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
        let file = sealed(&[one, two], &content).unwrap();
        assert_eq!(opened(&file, &one_key).unwrap(), content);
        assert_eq!(opened(&file, &two_key).unwrap(), content);
        let refused = opened(&file, &stranger).unwrap_err();
        assert!(matches!(refused, NotABackup::OtherRecipient(id) if id == stranger.id()), "{refused}");
        assert!(!file.windows(64).any(|window| window == &content[..64]), "it stands there in clear");
    }

    #[test]
    fn there_are_one_to_eight_recipients() {
        let many: Vec<_> = (0..=MAX_RECIPIENTS).map(|_| pair()).collect();
        let public = |count: usize| many[..count].iter().map(|(public, _)| public.clone()).collect::<Vec<_>>();
        assert!(sealed(&public(0), b"x").is_err());
        assert!(sealed(&public(MAX_RECIPIENTS + 1), b"x").is_err());
        let file = sealed(&public(MAX_RECIPIENTS), b"x").unwrap();
        assert_eq!(opened(&file, &many[MAX_RECIPIENTS - 1].1).unwrap(), b"x");
    }

    #[test]
    fn no_byte_of_it_can_be_changed_and_none_left_out() {
        let ((public, key), (other, _)) = (pair(), pair());
        let file = sealed(&[public, other], b"what a segment holds").unwrap();
        for at in 0..file.len() {
            // A try of the secret takes a while: one byte of so many.
            if at % 24 == 0 {
                let mut changed = file.clone();
                changed[at] ^= 1;
                assert!(opened(&changed, &key).is_err(), "byte {at}");
                assert!(opened(&file[..at], &key).is_err(), "{at} bytes");
            }
        }
    }

    #[test]
    fn a_recipients_key_is_read_from_pem() {
        let (key, _) = SigningKey::generate();
        let der = key.public().to_spki();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(&der));
        assert_eq!(Recipient::from_pem(pem.as_bytes()).unwrap().id(), key.public().id());
        for none in ["", "-----BEGIN PUBLIC KEY-----\nMAAA\n-----END PUBLIC KEY-----\n", "not a key"] {
            assert!(Recipient::from_pem(none.as_bytes()).is_err(), "{none:?}");
        }
    }

    fn base64(der: &[u8]) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(der)
    }
}
