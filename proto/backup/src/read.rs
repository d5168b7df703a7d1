//! Reading a backup, part by part. What is read was authenticated; whether the backup is whole is known at its end only, so
//! nothing is made of it before.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use aws_lc_rs::digest;
use bytes::Bytes;
use keystore::Passphrase;
use proto::signature::KeyId;

use crate::sealed::{Changed, Opening, TAKEN};
use crate::{
    ABOUT, About, FORMAT, Listed, MAX_ABOUT_BYTES, MAX_MANIFEST_BYTES, MAX_NAME_BYTES, MAX_PARTS, Manifest, PartName,
};

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum NotABackup {
    /// It cannot be read.
    #[error("it cannot be read: {0}; check the path")]
    Unreadable(io::Error),
    /// It is something else.
    #[error("it is no backup; `backup create` makes one")]
    None,
    /// It is of a version that this program does not know.
    #[error("it is a backup of another version; use the program that made it")]
    OtherVersion,
    /// It does not open.
    #[error(
        "it cannot be opened with this passphrase, or its first bytes were changed; give the one that it was made with"
    )]
    Passphrase,
    /// It is for others.
    #[error("it is not for the key {0}; give the key of a recipient that the configuration named when it was written")]
    OtherRecipient(KeyId),
    /// It is not as it was written.
    #[error("it is damaged: {0}; take another backup")]
    Damaged(String),
    /// It holds what this program's do not hold.
    #[error("it is not one that this program makes: {0}; use the program that made it")]
    Foreign(String),
}

impl From<io::Error> for NotABackup {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Changed>()) {
            Some(changed) => Self::Damaged(changed.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".into()),
            None => Self::Unreadable(error),
        }
    }
}

/// A backup being read.
pub struct Reader<R> {
    from: Opening<R>,
    /// None only while it is being opened.
    about: Option<About>,
    seen: Vec<Listed>,
    names: BTreeSet<PartName>,
    reading: Option<Reading>,
    manifest: Option<Manifest>,
}

struct Reading {
    name: PartName,
    length: u64,
    left: u64,
    hash: digest::Context,
}

/// A part that is being read. What is not read of it is skipped, and hashed all the same.
pub struct Part<'r, R> {
    reader: &'r mut Reader<R>,
}

impl<R: Read> Reader<R> {
    /// Opens one with its passphrase.
    pub fn open(from: R, passphrase: &Passphrase) -> Result<Self, NotABackup> {
        Self::taking(from, passphrase, &TAKEN)
    }

    pub(crate) fn taking(from: R, passphrase: &Passphrase, taken: &RangeInclusive<u32>) -> Result<Self, NotABackup> {
        let from = Opening::begin(from, passphrase, taken)?;
        let (seen, names) = (Vec::new(), BTreeSet::new());
        let mut reader = Self { from, about: None, seen, names, reading: None, manifest: None };
        let first = reader.part()?.filter(|first| first.name().as_str() == ABOUT);
        let first = first.ok_or_else(|| NotABackup::Foreign("it does not begin with what it is about".into()))?;
        let said = first.whole(MAX_ABOUT_BYTES)?;
        let about: About = serde_json::from_slice(&said).map_err(|error| NotABackup::Foreign(error.to_string()))?;
        if about.format != FORMAT {
            return Err(NotABackup::OtherVersion);
        }
        reader.about = Some(about);
        Ok(reader)
    }

    /// What it says of itself. Authenticated: whoever made it had the passphrase.
    pub fn about(&self) -> &About {
        self.about.as_ref().expect("read when it was opened")
    }

    /// The next part; none after the last, and then the manifest and the file's end held.
    pub fn part(&mut self) -> Result<Option<Part<'_, R>>, NotABackup> {
        self.skip()?;
        if self.manifest.is_some() {
            return Ok(None);
        }
        let length = usize::from(u16::from_be_bytes(self.array()?));
        if length == 0 {
            self.manifest = Some(self.end()?);
            return Ok(None);
        }
        if length > MAX_NAME_BYTES || self.names.len() >= MAX_PARTS {
            return Err(NotABackup::Foreign("a name is too long, or there are too many parts".into()));
        }
        let mut name = vec![0; length];
        self.from.read_exact(&mut name)?;
        let name: PartName = std::str::from_utf8(&name)
            .ok()
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| NotABackup::Foreign(crate::NotAPartName.to_string()))?;
        if !self.names.insert(name.clone()) {
            return Err(NotABackup::Foreign(format!("{name} is there twice")));
        }
        let length = u64::from_be_bytes(self.array()?);
        let hash = digest::Context::new(&digest::SHA256);
        self.reading = Some(Reading { name, length, left: length, hash });
        Ok(Some(Part { reader: self }))
    }

    /// What it holds, after its last part.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    fn end(&mut self) -> Result<Manifest, NotABackup> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        if length > MAX_MANIFEST_BYTES {
            return Err(NotABackup::Foreign("its manifest is too long".into()));
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| NotABackup::Foreign(error.to_string()))?;
        if Some(&manifest.about) != self.about.as_ref() || manifest.parts != self.seen {
            return Err(NotABackup::Damaged("its parts are not those that its manifest lists".into()));
        }
        if self.from.read(&mut [0])? != 0 {
            return Err(NotABackup::Foreign("something follows its manifest".into()));
        }
        Ok(manifest)
    }

    fn skip(&mut self) -> Result<(), NotABackup> {
        if self.reading.is_some() {
            io::copy(&mut Part { reader: self }, &mut io::sink())?;
        }
        let Some(read) = self.reading.take() else { return Ok(()) };
        if read.left > 0 {
            return Err(NotABackup::Damaged("it ends too early".into()));
        }
        let sha256 = hex::encode(read.hash.finish());
        self.seen.push(Listed { name: read.name, bytes: read.length, sha256 });
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotABackup> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl<R: Read> Part<'_, R> {
    fn reading(&self) -> &Reading {
        self.reader.reading.as_ref().expect("there is one as long as its part is read")
    }

    /// Its name.
    pub fn name(&self) -> &PartName {
        &self.reading().name
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.reading().length
    }

    /// All of it, which must not be longer than this.
    pub fn whole(mut self, limit: u64) -> Result<Bytes, NotABackup> {
        if self.length() > limit {
            return Err(NotABackup::Foreign(format!("{} is longer than {limit} bytes", self.name())));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != self.length() {
            return Err(NotABackup::Damaged("it ends too early".into()));
        }
        Ok(bytes.into())
    }

    /// Writes all of it there.
    pub fn copy_to(mut self, to: &mut impl Write) -> Result<(), NotABackup> {
        let length = self.length();
        if io::copy(&mut self, to)? != length {
            return Err(NotABackup::Damaged("it ends too early".into()));
        }
        Ok(())
    }
}

impl<R: Read> Read for Part<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let reading = self.reader.reading.as_mut().expect("there is one as long as its part is read");
        let wanted = into.len().min(usize::try_from(reading.left).unwrap_or(usize::MAX));
        let read = self.reader.from.read(&mut into[..wanted])?;
        reading.hash.update(&into[..read]);
        reading.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Program, Writer};

    const ANY: RangeInclusive<u32> = 1..=u32::MAX;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).unwrap()
    }

    fn about() -> About {
        About {
            format: FORMAT.into(),
            program: Program::SecurityServer,
            version: "0.1.0".into(),
            instance: "VN".parse().unwrap(),
            server: "VN/GOV/moj/ss1".into(),
            made: 1_800_000_000_000,
            signing_keys: false,
            complete: true,
        }
    }

    fn made(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::with_cost(Vec::new(), &passphrase("correct horse"), about(), 1).unwrap();
        for (name, content) in parts {
            writer.part(&name.parse().unwrap(), content.len() as u64, &mut &content[..]).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn read(file: &[u8], with: &str) -> Result<Vec<(String, Vec<u8>)>, NotABackup> {
        let mut reader = Reader::taking(file, &passphrase(with), &ANY)?;
        assert_eq!(*reader.about(), about());
        let mut parts = Vec::new();
        while let Some(part) = reader.part()? {
            parts.push((part.name().to_string(), part.whole(u64::MAX)?.to_vec()));
        }
        assert!(reader.part()?.is_none() && reader.manifest().unwrap().parts.len() == parts.len() + 1);
        Ok(parts)
    }

    #[test]
    fn parts_come_back_as_they_went_in_and_for_the_passphrase_only() {
        let long = vec![7; 200_000];
        // Contents that end just before, at and after the end of a chunk.
        let edges: Vec<Vec<u8>> = (64_400..65_536).map(|length| vec![1; length]).collect();
        let parts: &[(&str, &[u8])] = &[("empty", b""), ("keys/authentication.pem", b"x"), ("long", &long)];
        let file = made(parts);
        let back = read(&file, "correct horse").unwrap();
        assert_eq!(
            back,
            parts.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect::<Vec<_>>()
        );
        assert!(matches!(read(&file, "correct house"), Err(NotABackup::Passphrase)));
        for edge in &edges {
            assert_eq!(read(&made(&[("a", edge)]), "correct horse").unwrap()[0].1, *edge);
        }
    }

    /// Three chunks: every byte changed, every length cut, chunks swapped, repeated and left out, something added.
    #[test]
    fn no_changed_file_is_read_to_its_end() {
        let content: Vec<u8> = (0..150_000u32).map(|n| n as u8).collect();
        let file = made(&[("message-log/0000000001.segment", &content)]);
        assert!(read(&file, "correct horse").is_ok());
        let refused = |file: &[u8]| read(file, "correct horse").is_err();
        for at in (0..100).chain((100..file.len()).step_by(641)).chain(file.len() - 20..file.len()) {
            let mut changed = file.clone();
            changed[at] ^= 0x40;
            // Another number of iterations would only make this test slow: the preamble's own check is the next byte's.
            if !(19..23).contains(&at) {
                assert!(refused(&changed), "byte {at}");
            }
        }
        for length in (0..120).chain((120..file.len()).step_by(997)) {
            assert!(refused(&file[..length]), "cut to {length}");
        }
        assert!(refused(&[&file[..], b"x"].concat()));
        assert!(refused(&[&file[..], &file[..]].concat()));
        let (preamble, sealed) = (87, 65_536 + 16);
        let chunk =
            |number: usize| &file[preamble + number * sealed..(preamble + (number + 1) * sealed).min(file.len())];
        assert_eq!([&file[..preamble], chunk(0), chunk(1), chunk(2)].concat(), file);
        for other in [&[1, 0, 2][..], &[0, 0, 1, 2], &[0, 2], &[0, 1], &[2]] {
            let chunks: Vec<u8> = other.iter().flat_map(|number| chunk(*number)).copied().collect();
            assert!(refused(&[&file[..preamble], &chunks].concat()), "chunks {other:?}");
        }
        let other = made(&[("message-log/0000000001.segment", &content)]);
        assert!(refused(&[&file[..preamble], &other[preamble..]].concat()), "each file has a key of its own");
    }

    #[test]
    fn a_file_of_our_own_cost_opens_and_a_cheap_one_does_not() {
        let writer = Writer::begin(Vec::new(), &passphrase("correct horse"), about()).unwrap();
        let (file, _) = writer.finish().unwrap();
        assert!(Reader::open(&file[..], &passphrase("correct horse")).is_ok());
        assert!(matches!(Reader::open(&made(&[])[..], &passphrase("correct horse")), Err(NotABackup::Passphrase)));
        let newer = [b"causeway.backup.v2\n", &file[19..]].concat();
        assert!(matches!(Reader::open(&newer[..], &passphrase("correct horse")), Err(NotABackup::OtherVersion)));
        assert!(matches!(Reader::open(&b"PK"[..], &passphrase("correct horse")), Err(NotABackup::None)));
    }

    #[test]
    fn a_part_that_shrinks_or_stands_twice_makes_no_backup() {
        let begin = || Writer::with_cost(Vec::new(), &passphrase("correct horse"), about(), 1).unwrap();
        let name: PartName = "a".parse().unwrap();
        assert!(begin().part(&name, 3, &mut &b"ab"[..]).unwrap_err().to_string().contains("shorter"));
        let mut writer = begin();
        writer.part(&name, 1, &mut &b"abc"[..]).unwrap();
        assert!(writer.part(&name, 1, &mut &b"a"[..]).is_err());
    }

    proptest! {
        /// Whoever has the passphrase and another program still makes nothing of it that reads as a path or runs on.
        #[test]
        fn no_content_makes_the_reader_panic(content in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut sealing = crate::sealed::Sealing::begin(Vec::new(), &passphrase("correct horse"), 1).unwrap();
            sealing.write_all(&content).unwrap();
            let file = sealing.finish().unwrap();
            if let Ok(mut reader) = Reader::taking(&file[..], &passphrase("correct horse"), &ANY) {
                while let Ok(Some(_)) = reader.part() {}
            }
        }
    }
}
