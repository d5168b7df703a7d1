//! What the log still knows of segments that were removed because they are kept elsewhere, and what must not be removed: nothing that
//! a start, a proof over a tree or the refusal of a replay needs is lost with a segment.

use std::collections::BTreeMap;

use bytes::Bytes;
use journal::{Disk, Entry, Finished, Remains};
use prost::Message;
use proto::digest::Digest;
use proto::identifier::{ExchangeId, MemberId};
use proto::message::{Direction, End, Header};
use proto::record::{Kind, Record, TreeName};
use proto::time::Time;
use proto::transport::MAX_SKEW;
use proto::wire::relay as wire;

use super::index::stamp;
use super::{ClockAccepted, Index, MessageLog, OpenError, is_withheld, received_opening};

/// Bytes of an opening in a note: its exchange, its attempt and its time.
const OPENING_BYTES: usize = 16 + 4 + 8;

/// Why a segment stays, though it is old enough.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stays {
    /// An exchange that began in it runs, or its end is not in the log.
    #[error("exchange {0} has records in it and no end yet")]
    Open(ExchangeId),
    /// A commit in it is under no stamped head.
    #[error("no timestamp is over all of tree {0} in it yet")]
    Unstamped(TreeName),
    /// The index does not read beyond it.
    #[error("the index does not read beyond it yet")]
    NotRead,
}

/// What is kept with the remains of a removed segment (FORMAT.md 10.3). What is none says nothing.
pub(crate) fn note(remains: &Remains) -> wire::RemovedSegment {
    wire::RemovedSegment::decode(remains.note.clone()).unwrap_or_default()
}

/// The openings that a note names.
pub(super) fn openings(note: &wire::RemovedSegment) -> impl Iterator<Item = (ExchangeId, u32, Time)> + '_ {
    note.openings.chunks_exact(OPENING_BYTES).filter_map(|opening| {
        let (exchange, rest) = opening.split_first_chunk::<16>()?;
        let (attempt, time) = rest.split_first_chunk::<4>()?;
        let time = Time::from_millis(u64::from_be_bytes(time.try_into().ok()?));
        Some((ExchangeId::from_bytes(*exchange), u32::from_be_bytes(*attempt), time))
    })
}

/// Whether what the index would read next was removed.
pub(super) fn is_behind(disk: &dyn Disk, index: &Index) -> Result<bool, OpenError> {
    let last = journal::removed(disk)?.last().copied();
    Ok(last.is_some_and(|last| index.position().is_none_or(|position| position.segment <= last)))
}

/// The index, empty but for what is left of removed segments. A crash meanwhile: it has no position, and this is done again.
pub(super) fn begin(disk: &dyn Disk, index: &Index, accepted: Option<ClockAccepted>) -> Result<(), OpenError> {
    index.clear()?;
    index.accept(accepted)?;
    for number in journal::removed(disk)? {
        match Remains::read(disk, number) {
            Ok(Some(remains)) => index.add_remains(&remains)?,
            Ok(None) => {}
            // A start does without: proofs over these commits cannot be made here, and `log verify` says so.
            Err(error) => tracing::error!(%error, "what is left of a removed segment cannot be read"),
        }
    }
    Ok(())
}

/// Shows every opening that was received in a removed segment.
pub(super) fn removed_openings(disk: &dyn Disk, each: &mut dyn FnMut(ExchangeId, u32, Time)) -> Result<(), OpenError> {
    for number in journal::removed(disk)? {
        // In doubt nothing is forgotten: what cannot be read ends this.
        if let Some(remains) = Remains::read(disk, number)? {
            openings(&note(&remains)).for_each(|(exchange, attempt, time)| each(exchange, attempt, time));
        }
    }
    Ok(())
}

/// What is in a finished segment, as far as its removal depends on it.
#[derive(Default)]
pub(crate) struct Content {
    /// The newest time that a message, a timestamp or a cut in it names.
    pub newest: Time,
    openings: Vec<u8>,
    /// Whose its trees are.
    owners: BTreeMap<TreeName, Option<MemberId>>,
    /// The last commit of each tree in which a message stands: what a timestamp is to be over.
    last_messages: BTreeMap<TreeName, u64>,
}

impl Content {
    /// Of this segment, read now.
    pub fn of(segment: &Finished, now: Time) -> Self {
        let mut content = Self::default();
        segment.entries(&mut |entry| content.see(&entry, now));
        content
    }

    fn see(&mut self, entry: &Entry, now: Time) {
        self.owners.entry(entry.tree).or_insert_with(|| entry.genesis.content.member.parse().ok());
        let body = entry.record.body();
        let is_message = match entry.record.kind() {
            Kind::Sent => true,
            Kind::Received => is_withheld(entry).is_none(),
            _ => false,
        };
        if is_message {
            self.last_messages.insert(entry.tree, entry.commit);
        }
        // What was withheld says what a peer liked, and an end that we gave in another's place may be of a clock that was years ahead:
        // neither keeps a segment here for ever.
        let given_up = |header: &Header| matches!(header.end, Some(End::Abort(_) | End::Refused(_)));
        let counts = |header: &Header| !given_up(header) || header.time <= now.plus(MAX_SKEW);
        let time = match entry.record.kind() {
            Kind::Sent => Header::parse(body).ok().filter(counts).map(|header| header.time),
            Kind::Received if body.len() > 32 && is_withheld(entry).is_none() => {
                Header::parse(body.slice(32..)).ok().map(|header| header.time)
            }
            Kind::Stamp => stamp(&body).map(|(_, time)| time),
            Kind::Cut => wire::Cut::decode(body).ok().map(|cut| Time::from_millis(cut.time)),
            _ => None,
        };
        self.newest = self.newest.max(time.unwrap_or_default());
        if let Some((exchange, attempt, time)) = received_opening(entry) {
            self.openings.extend_from_slice(exchange.as_bytes());
            self.openings.extend_from_slice(&attempt.to_be_bytes());
            self.openings.extend_from_slice(&time.as_millis().to_be_bytes());
        }
    }
}

impl MessageLog {
    /// How many segments are here, and the numbers of those that were removed.
    pub(crate) fn segments_here(&self) -> Result<(usize, Vec<u64>), journal::ReadError> {
        let finished = journal::finished(&*self.0.disk)?;
        Ok((finished.len() + 1, journal::removed(&*self.0.disk)?))
    }

    /// Whether records of an exchange are in a segment that was removed. Reads the disk: not for the message path.
    pub(crate) fn is_elsewhere(&self, exchange: ExchangeId) -> Result<bool, OpenError> {
        self.catch_up()?;
        let Some(last) = journal::removed(&*self.0.disk)?.last().copied() else { return Ok(false) };
        Ok(self.0.index.find(exchange)?.iter().any(|position| position.segment <= last))
    }

    /// Whether what was found begins where an exchange does. Where the index knows nothing of removed segments, what is found may be
    /// the end of something, and nobody is shown half of it.
    pub(super) fn is_indexed(&self, found: &[Entry]) -> Result<(), OpenError> {
        let Some(last) = self.not_indexed()? else { return Ok(()) };
        let opens = |entry: &Entry| {
            let body = entry.record.body();
            let header = match entry.record.kind() {
                Kind::Sent => Header::parse(body).ok(),
                Kind::Received if body.len() > 32 => Header::parse(body.slice(32..)).ok(),
                _ => None,
            };
            header.is_some_and(|header| header.direction == Direction::Request && header.position == 0)
        };
        if found.iter().any(opens) { Ok(()) } else { Err(OpenError::NotIndexed(last)) }
    }

    /// The last of the removed segments of which the index does not know what stands in them, where there are any.
    pub(super) fn not_indexed(&self) -> Result<Option<u64>, OpenError> {
        Ok(Some(self.0.index.begins()? - 1).filter(|last| *last > 0))
    }

    /// Why a finished segment stays, if it does: something that is not over stands in it. `stamped`: whether timestamps are wanted. The
    /// index is on the disk when this returns. Reads the disk: not for the message path.
    pub(crate) fn stays(
        &self,
        segment: &Finished,
        content: &Content,
        stamped: bool,
    ) -> Result<Option<Stays>, OpenError> {
        self.catch_up()?;
        let index = &self.0.index;
        if index.position().is_none_or(|position| position.segment <= segment.number) {
            return Ok(Some(Stays::NotRead));
        }
        for open in index.open_exchanges()? {
            if index.find(open.exchange)?.first().is_some_and(|first| first.segment <= segment.number) {
                return Ok(Some(Stays::Open(open.exchange)));
            }
        }
        // By places, not by times: a token's time is later than messages that its head does not cover.
        for (tree, commit) in content.last_messages.iter().filter(|_| stamped) {
            if index.stamps_over(*tree, *commit).next().transpose()?.is_none() {
                return Ok(Some(Stays::Unstamped(*tree)));
            }
        }
        // A start after a power cut reads on where the index ends: that must not be in what was removed.
        index.flush()?;
        Ok(None)
    }

    /// Writes beside a segment what is left of it. A crash: whole or not at all, and the segment is there.
    pub(crate) fn leave_remains(
        &self,
        segment: &Finished,
        content: &Content,
        (archive, recipients): (String, Vec<Bytes>),
    ) -> Result<Remains, OpenError> {
        let seen = self.0.index.seen_trees()?;
        let note = wire::RemovedSegment {
            archive,
            recipients,
            openings: content.openings.clone().into(),
            seen: seen.iter().map(|(owner, tree)| tree.to_bytes(owner).into()).collect(),
            last_time: self.0.index.last_time()?.as_millis(),
        };
        let remains = Remains::of(segment, note.encode_to_vec().into()).map_err(journal::ReadError::from)?;
        remains.write(&*self.0.disk).map_err(journal::ReadError::from)?;
        Ok(remains)
    }

    /// Has each member's log say that a segment is taken out of it, where it does not say so yet (PROTOCOL.md 5.7). Resolves when that is
    /// durable. A crash before: none says so, or some do, and the next attempt says what is missing.
    pub(crate) async fn note_cut(
        &self,
        segment: &Finished,
        content: &Content,
        remains: &Remains,
        now: Time,
    ) -> Result<(), OpenError> {
        let mut of_log: BTreeMap<usize, Vec<wire::CutCommits>> = BTreeMap::new();
        for commits in &segment.trees {
            if self.0.index.is_cut(segment.number, commits.tree)? {
                continue;
            }
            let owner = content.owners.get(&commits.tree).cloned().flatten();
            // Of a member that is hosted no longer the first tree says it, as it says the ends of its exchanges.
            let tree = owner.and_then(|owner| self.0.trees.get(&owner)).map_or(0, |tree| tree.0);
            let cut = wire::CutCommits { tree: commits.tree.0.to_wire(), from: commits.from, to: commits.to };
            of_log.entry(tree).or_default().push(cut);
        }
        let cuts: Vec<_> = of_log
            .into_iter()
            .map(|(tree, commits)| {
                let cut = wire::Cut {
                    segment: segment.number,
                    bytes: remains.bytes,
                    sha256: Digest::to_wire(&remains.sha256),
                    commits,
                    why: wire::CutReason::Archived.into(),
                    time: now.as_millis(),
                };
                let record = Record::new(Kind::Cut, &self.draw(), &[&cut.encode_to_vec()]);
                self.append(journal::TreeIndex(tree), record, Bytes::new(), false)
            })
            .collect();
        for cut in cuts {
            cut.await.map_err(super::LogEnded::from)?;
        }
        Ok(())
    }

    /// Removes a segment of which the remains, the audit log and the log itself tell.
    pub(crate) fn remove_segment(&self, remains: &Remains) -> Result<(), journal::NotRemoved> {
        remains.remove_segment(&*self.0.disk)
    }
}
