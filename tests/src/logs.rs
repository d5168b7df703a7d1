//! What is in a message log on disk, by exchange, read without the server's own views.

use std::collections::BTreeMap;
use std::path::Path;

use journal::{Directory, Entry};
use prost::Message;
use proto::digest::Digest;
use proto::identifier::ExchangeId;
use proto::message::{Direction, End, Header};
use proto::record::Kind;
use proto::seal;
use proto::signature::PublicKey;
use proto::wire::relay::{Beside, Closed};

/// A log, read whole.
#[derive(Default)]
pub struct Log {
    pub exchanges: BTreeMap<String, Exchange>,
    /// Heads whose signature was verified.
    pub heads: u64,
    /// What is not as it must be.
    pub wrong: Vec<String>,
}

/// The records of one exchange.
#[derive(Default, Debug)]
pub struct Exchange {
    pub closed: usize,
    pub request: OneWay,
    pub answer: OneWay,
}

/// The messages of one direction, in the order of the log.
#[derive(Default, Debug)]
pub struct OneWay {
    /// Digests of the headers that this server sealed.
    pub sent: Vec<Digest>,
    /// Digests of the headers that it received, withheld ones left out.
    pub received: Vec<Digest>,
    pub end: Option<End>,
}

impl OneWay {
    fn take(&mut self, header: &Header, sent: bool) -> Result<(), String> {
        let messages = if sent { &mut self.sent } else { &mut self.received };
        if header.position != messages.len() as u64 {
            return Err(format!("message {} stands where {} belongs", header.position, messages.len()));
        }
        if self.end.is_some() {
            return Err(format!("message {} stands behind its direction's end", header.position));
        }
        messages.push(header.digest());
        self.end.clone_from(&header.end);
        Ok(())
    }

    /// What this server has of the direction, whoever sealed it.
    pub fn messages(&self) -> &[Digest] {
        if self.sent.is_empty() { &self.received } else { &self.sent }
    }
}

impl Log {
    /// Reads the log in this directory; every commit's head must be signed by this key, or not at all.
    pub fn read(directory: &Path, key: &PublicKey) -> Self {
        let mut log = Self::default();
        let read = journal::read(&Directory(directory.to_owned()), None, &mut |entry| {
            if let Err(what) = log.take(&entry, key) {
                log.wrong.push(format!("{}, at {}: {what}", directory.display(), entry.position));
            }
        });
        log.wrong.extend(read.err().map(|error| error.to_string()));
        log
    }

    fn take(&mut self, entry: &Entry, key: &PublicKey) -> Result<(), String> {
        if let Some(seal) = &entry.seal {
            let walked = seal::walk_record(seal, &entry.record).map_err(|error| error.to_string())?;
            // A commit has one head.
            let remembered = entry.position.record > 0;
            walked.signed_by(key, |_, _| remembered).map_err(|error| error.to_string())?;
            self.heads += u64::from(!remembered);
        }
        let body = entry.record.body();
        let (header, sent) = match entry.record.kind() {
            Kind::Sent => (Header::parse(body), true),
            Kind::Received => {
                let beside = Beside::decode(entry.beside.clone()).map_err(|error| error.to_string())?;
                if !beside.withheld.is_empty() {
                    return Ok(());
                }
                (Header::parse(body.slice(32..)), false)
            }
            Kind::Closed => {
                let closed = Closed::decode(body).map_err(|error| error.to_string())?;
                let exchange = ExchangeId::try_from(closed.exchange.as_ref()).map_err(|error| error.to_string())?;
                self.exchanges.entry(exchange.to_string()).or_default().closed += 1;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let header = header.map_err(|error| error.to_string())?;
        let exchange = self.exchanges.entry(header.exchange.to_string()).or_default();
        let way = match header.direction {
            Direction::Request => &mut exchange.request,
            Direction::Answer => &mut exchange.answer,
        };
        way.take(&header, sent).map_err(|what| format!("{}: {what}", header.exchange))
    }
}

/// Reads another journal whole: how many entries it has.
pub fn count(directory: &Path) -> Result<u64, String> {
    let mut entries = 0;
    let read = journal::read(&Directory(directory.to_owned()), None, &mut |_| entries += 1);
    read.map(|()| entries).map_err(|error| error.to_string())
}
