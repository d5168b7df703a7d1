//! Evidence as a container (PROTOCOL.md 7, "A container of evidence"): ASiC-E with CAdES, for offices that expect one. It holds
//! the files of the archive, a manifest of them, and the holder's signature over that manifest.
//!
//! What proves the exchange is the evidence in it. The signature says whose server gave it out, and that nothing changed since.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::archive::{self, EVIDENCE, NotArchived};
use super::{EvidenceFile, judged};
use crate::cades::{Claimed, MAX_BYTES, SignedAttributes};
use crate::certificate;
use crate::digest::Digest;
use crate::global_configuration::Configuration;
use crate::seal::Sender;
use crate::signature::{KeyId, SigningKey};
use crate::time::Time;
use crate::zip::{self, Files};

/// The file that says what a container is, the first of it.
pub const MIMETYPE: &str = zip::FIRST;
/// Its bytes.
pub const ASIC_E: &str = "application/vnd.etsi.asic-e+zip";
/// The manifest that is signed.
pub const ASIC_MANIFEST: &str = "META-INF/ASiCManifest001.xml";
/// The signature over it.
pub const SIGNATURE: &str = "META-INF/signature001.p7s";
/// What a container has beyond an archive.
const OWN: [&str; 3] = [MIMETYPE, ASIC_MANIFEST, SIGNATURE];

/// A container that lacks its signature: evidence that was verified, and what is to be signed over it. Only [`Unsigned::of`]
/// makes one.
pub struct Unsigned {
    files: Files,
    key: KeyId,
    attributes: SignedAttributes,
}

/// Who signed a container, once everything about its signature was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The key.
    pub key: KeyId,
    /// When, by the clock of who signed.
    pub at: Time,
}

impl Unsigned {
    /// Prepares a container of an evidence file, which is verified with this anchor first, to be signed at that time with the
    /// key of that name: one of the holder's, good then, whose revocation the evidence would say ([`EvidenceFile::about_also`]).
    pub fn of(json: &[u8], anchor: &[u8], key: KeyId, at: Time) -> Result<Self, NotArchived> {
        let file = EvidenceFile::parse(json)?;
        let (report, excerpt) = judged(&file, anchor, None, Some(key));
        let excerpt = excerpt.ok_or_else(|| NotArchived::of_report(&report))?;
        let mut files = archive::files(json, &file, excerpt.configuration()).map_err(NotArchived::Form)?;
        let manifest = manifest(&files);
        // The attribute has no fractions of a second.
        let at = Time::from_millis(at.as_millis() / 1000 * 1000);
        let attributes = attributes(&manifest, &file.holder, &key, at, excerpt.configuration());
        let attributes = attributes.map_err(|why| NotArchived::Key(why.into()))?;
        files.insert(MIMETYPE.into(), ASIC_E.into());
        files.insert(ASIC_MANIFEST.into(), manifest.into());
        Ok(Self { files, key, attributes })
    }

    /// The container, signed. Refused where the key is another than it was prepared for.
    pub fn signed_with(mut self, key: &SigningKey) -> Result<Vec<u8>, NotArchived> {
        if key.public().id() != self.key {
            return Err(NotArchived::Key("it was prepared for another signing key; ask again".into()));
        }
        self.files.insert(SIGNATURE.into(), self.attributes.sign(key).into());
        zip::write(&self.files).map_err(|error| NotArchived::Form(error.to_string()))
    }
}

/// Whether these files are a container's and no plain archive's.
pub(super) fn is_one(files: &Files) -> bool {
    files.contains_key(MIMETYPE)
}

/// The key with which a container says that it was signed, unproven: of this one a verifier asks whether it is revoked.
pub(super) fn claimed_key(files: &Files) -> Option<KeyId> {
    let claimed = Claimed::read(files.get(SIGNATURE).filter(|_| is_one(files))?)?;
    certificate::public_key(&claimed.certificate).ok().map(|key| key.id())
}

/// The files of the archive in a container.
pub(super) fn archived(files: &Files) -> Files {
    files
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect()
}

/// 7.22: "The type and the manifest are those of the other files." What is not so, and how.
pub(super) fn wrapped(files: &Files, archived: &Files) -> Result<(), (&'static str, &'static str)> {
    for (name, wanted) in [(MIMETYPE, ASIC_E), (ASIC_MANIFEST, &manifest(archived))] {
        match files.get(name) {
            None => return Err((name, "it is missing")),
            Some(bytes) if bytes != wanted => return Err((name, "it is not what the other files make it")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// 7.23: "The signature is of the one form, over the manifest, with a key of the holder's that was good then."
pub(super) fn signed(files: &Files, holder: &Sender, configuration: &Configuration) -> Result<Signed, &'static str> {
    let (Some(cms), Some(manifest)) = (files.get(SIGNATURE), files.get(ASIC_MANIFEST)) else {
        return Err("it is missing");
    };
    let other = "it is no CAdES signature of the one form";
    let claimed = Claimed::read(cms).ok_or(if cms.len() > MAX_BYTES { "it is too long" } else { other })?;
    let key = certificate::public_key(&claimed.certificate).map_err(|_| other)?;
    let made = attributes(manifest, holder, &key.id(), claimed.at, configuration)?;
    if made.with(&claimed.signature) != *cms {
        return Err("it is over another manifest, with another certificate, or of another form");
    }
    made.verify(&key, &claimed.signature).map_err(|_| "the key of its certificate did not make it")?;
    Ok(Signed { key: key.id(), at: claimed.at })
}

/// What the holder's key of that name signs over a manifest, if it is good then.
fn attributes(
    manifest: impl AsRef<[u8]>,
    holder: &Sender,
    key: &KeyId,
    at: Time,
    configuration: &Configuration,
) -> Result<SignedAttributes, &'static str> {
    let Sender { member, server } = holder;
    let no_key = "its key is none of the holder's that was registered and good when it was signed";
    configuration.signing_key(member, server, key, at).ok_or(no_key)?;
    let listed = configuration.members.get(member).and_then(|member| member.signing_keys.get(key)).ok_or(no_key)?;
    let made = SignedAttributes::over(manifest.as_ref(), &listed.certificate, &configuration.authorities, at);
    made.ok_or("its certificate cannot be read, or its time cannot be written")
}

/// The manifest (ETSI EN 319 162-1, annex A.4) of these files. No name of a file has a letter that XML would take otherwise
/// ([`zip::is_name`]).
fn manifest(archived: &Files) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <asic:ASiCManifest xmlns:asic=\"http://uri.etsi.org/02918/v1.2.1#\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">\n\
         <asic:SigReference URI=\"{SIGNATURE}\" MimeType=\"application/pkcs7-signature\"/>\n"
    );
    for (name, bytes) in archived {
        let root = if name == EVIDENCE { " MimeType=\"application/json\" Rootfile=\"true\"" } else { "" };
        let digest = STANDARD.encode(Digest::of(&[bytes]).as_bytes());
        text += &format!(
            "<asic:DataObjectReference URI=\"{name}\"{root}>\
             <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/>\
             <ds:DigestValue>{digest}</ds:DigestValue></asic:DataObjectReference>\n"
        );
    }
    text + "</asic:ASiCManifest>\n"
}
