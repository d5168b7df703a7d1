//! Writing a backup, part by part, a chunk in memory at a time.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use aws_lc_rs::digest;
use keystore::Passphrase;

use crate::sealed::{ITERATIONS, Sealing};
use crate::{ABOUT, About, Listed, MAX_MANIFEST_BYTES, MAX_PARTS, Manifest, PartName};

/// A backup being written. Without [`Writer::finish`] it is none.
pub struct Writer<W: Write> {
    to: Sealing<W>,
    manifest: Manifest,
    names: BTreeSet<PartName>,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn begin(to: W, passphrase: &Passphrase, about: About) -> io::Result<Self> {
        Self::with_cost(to, passphrase, about, ITERATIONS)
    }

    pub(crate) fn with_cost(to: W, passphrase: &Passphrase, about: About, iterations: u32) -> io::Result<Self> {
        let said = serde_json::to_vec(&about)?;
        let manifest = Manifest { about, parts: Vec::new() };
        let to = Sealing::begin(to, passphrase, iterations)?;
        let mut writer = Self { to, manifest, names: BTreeSet::new() };
        let name = ABOUT.parse().expect("a name like any other");
        writer.part(&name, said.len() as u64, &mut &said[..])?;
        Ok(writer)
    }

    /// Adds a part of exactly this length.
    pub fn part(&mut self, name: &PartName, length: u64, content: &mut dyn Read) -> io::Result<()> {
        let twice = || io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is there twice"));
        if !self.names.insert(name.clone()) {
            return Err(twice());
        }
        if self.names.len() > MAX_PARTS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it has more than {MAX_PARTS} parts")));
        }
        let name_length = u16::try_from(name.as_str().len()).expect("names are short");
        self.to.write_all(&name_length.to_be_bytes())?;
        self.to.write_all(name.as_str().as_bytes())?;
        self.to.write_all(&length.to_be_bytes())?;
        let mut hashed = Hashed { to: &mut self.to, hash: digest::Context::new(&digest::SHA256) };
        let written = io::copy(&mut content.take(length), &mut hashed)?;
        let sha256 = hex::encode(hashed.hash.finish());
        if written != length {
            let short = format!("{name} became shorter while it was read: {written} bytes instead of {length}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
        }
        self.manifest.parts.push(Listed { name: name.clone(), bytes: length, sha256 });
        Ok(())
    }

    /// Ends it with its manifest.
    pub fn finish(mut self) -> io::Result<(W, Manifest)> {
        let manifest = serde_json::to_vec(&self.manifest)?;
        assert!(manifest.len() <= MAX_MANIFEST_BYTES, "65,536 parts are listed in less than 16 MiB");
        self.to.write_all(&0u16.to_be_bytes())?;
        self.to.write_all(&u32::try_from(manifest.len()).expect("it was just compared").to_be_bytes())?;
        self.to.write_all(&manifest)?;
        Ok((self.to.finish()?, self.manifest))
    }
}

/// Passes on, and hashes what passes.
struct Hashed<'w, W> {
    to: &'w mut W,
    hash: digest::Context,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
