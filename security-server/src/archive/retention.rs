//! Segments are kept here for a time and then in the archive only. One is removed when it was archived, is read back once more and is
//! the same, is old enough, and nothing that is not over stands in it: no exchange without an end, nothing without a timestamp. Before
//! it goes, what is left of it stands beside it, the audit log tells of it, and so does the message log itself. The lowest goes first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use journal::{Finished, ReadError, Remains};
use proto::digest::Digest;
use proto::global_configuration::Freshness;
use proto::time::Time;
use proto::transport::MAX_SKEW;

use super::store::{Object, Unavailable};
use super::{ALARM_AFTER, Archive};
use crate::SecurityServer;
use crate::audit::Noted;
use crate::message_log::OpenError;
use crate::message_log::retained::Content;

/// Segments that are removed in one pass: what is finished meanwhile is archived before the next.
pub const MAX_REMOVED_IN_A_PASS: usize = 16;

/// For how many days a segment stays here at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepLocal(u32);

impl KeepLocal {
    /// The fewest days: far more than an opening may be repeated within.
    pub const LEAST_DAYS: u32 = 1;
    /// The most: a hundred years.
    pub const MOST_DAYS: u32 = 36_500;

    /// So many days; none where they are too few or too many.
    pub fn days(days: u32) -> Option<Self> {
        (Self::LEAST_DAYS..=Self::MOST_DAYS).contains(&days).then_some(Self(days))
    }

    /// As a time.
    pub fn lasts(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 86_400)
    }

    fn age(self, newest: Time, now: Time) -> Age {
        match newest {
            newest if newest > now.plus(MAX_SKEW) => Age::Ahead,
            newest if newest < now && now.distance(newest) > self.lasts() => Age::Over,
            _ => Age::Young,
        }
    }
}

/// How old a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Age {
    /// It is to stay.
    Young,
    /// It has been here for as long as it was to be.
    Over,
    /// What is in it is of a time that has not come. By itself it would stay until then, and nobody would know why.
    Ahead,
}

impl fmt::Display for KeepLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} days", self.0)
    }
}

/// How keeping goes, beside what is archived.
#[derive(Default)]
pub(super) struct Kept {
    /// Segments that are here, the last among them.
    pub here: u64,
    /// Segments that were removed.
    pub removed: u64,
    /// The newest time in the lowest segment, once it was read.
    newest: Option<(u64, Time)>,
    /// Why the lowest stays though it is old enough, and since when.
    pub held: Option<(String, Time)>,
}

/// Why a segment that is old enough was not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It stays for a reason that may pass by itself, or that somebody must look after.
    #[error("segment {segment} stays, though archive.keep_local_days would have it removed: {why}")]
    Held {
        /// Its number.
        segment: u64,
        /// Why.
        why: String,
    },
    /// The store.
    #[error("a segment stays: {0}")]
    Store(#[from] Unavailable),
    /// The message log.
    #[error("the message log: {0}")]
    Read(#[from] ReadError),
    /// The message log, or its index.
    #[error("the message log: {0}")]
    Log(#[from] OpenError),
    /// The segment was not removed after all.
    #[error("the message log: {0}")]
    Disk(#[from] journal::NotRemoved),
    /// The audit log.
    #[error("the audit log: {0}")]
    Audit(#[from] journal::Ended),
    /// A task.
    #[error("it ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A segment that may go.
struct Leaving {
    segment: Finished,
    content: Content,
    sha256: Digest,
    /// SHA-256 of the keys that open it in the archive; none: it is not encrypted.
    recipients: Vec<bytes::Bytes>,
}

impl Archive {
    /// Whether what should have been removed stays for so long that somebody should be told.
    pub fn is_held(&self, now: Time) -> bool {
        let state = self.state();
        state.kept.held.as_ref().is_some_and(|(_, since)| *since < now && now.distance(*since) > ALARM_AFTER)
    }
}

impl SecurityServer {
    /// Removes segments that may be removed, up to [`MAX_REMOVED_IN_A_PASS`]. Returns how many were.
    pub async fn remove_segments(self: &Arc<Self>) -> Result<usize, NotRemoved> {
        let Some(archive) = &self.archive else { return Ok(0) };
        let _passing = archive.passing.lock().await;
        // The registry signs its configuration each minute: by a clock that jumped ahead, or while it is away, nothing is old enough.
        if self.freshness() != Freshness::Fresh {
            self.note_kept(archive).await?;
            return Ok(0);
        }
        let mut removed = 0;
        let ended = loop {
            // A pass is long: that the clock was right when it began says little.
            if removed == MAX_REMOVED_IN_A_PASS || self.freshness() != Freshness::Fresh {
                break Ok(removed);
            }
            match self.remove_the_lowest(archive).await {
                Ok(true) => {
                    removed += 1;
                    metrics::counter!("causeway_removed_segments_total", "server" => self.id.to_string()).increment(1);
                }
                Ok(false) => break Ok(removed),
                Err(error) => break Err(error),
            }
        };
        let held = ended.as_ref().err().map(ToString::to_string);
        {
            let mut state = archive.state();
            let since = state.kept.held.as_ref().map_or(self.clock.now(), |(_, since)| *since);
            state.kept.held = held.map(|why| (why, since));
        }
        self.note_kept(archive).await?;
        ended
    }

    async fn note_kept(&self, archive: &Archive) -> Result<(), NotRemoved> {
        let log = self.message_log.clone();
        let (here, removed) = tokio::task::spawn_blocking(move || log.segments_here()).await??;
        let mut state = archive.state();
        (state.kept.here, state.kept.removed) = (here as u64, removed.len() as u64);
        let server = self.id.to_string();
        metrics::gauge!("causeway_log_segments_here", "server" => server.clone()).set(here as f64);
        metrics::gauge!("causeway_log_segments_removed", "server" => server).set(removed.len() as f64);
        Ok(())
    }

    /// Whether there was one that might go, and it is gone.
    async fn remove_the_lowest(self: &Arc<Self>, archive: &Archive) -> Result<bool, NotRemoved> {
        let Some(keep) = archive.settings.keep_local else { return Ok(false) };
        let Some(leaving) = self.oldest(archive, keep).await? else { return Ok(false) };
        let leaving = Arc::new(self.read_back(archive, leaving).await?);
        let now = self.clock.now();
        // A crash after this: it is written once more.
        let remains = self.leave_remains(archive, &leaving).await?;
        let noted = Noted::Removing {
            at: now.as_millis(),
            to: archive.settings.store.to(),
            segment: remains.number,
            bytes: remains.bytes,
            sha256: remains.sha256.to_string(),
            kept_days: keep.0,
        };
        // A crash after this: the segment is there, though it is noted, and the next attempt notes it once more.
        self.audit.note(&noted).await?;
        // A crash after this: the segment is there, though the log says that it is not, and the next attempt removes it.
        self.message_log.note_cut(&leaving.segment, &leaving.content, &remains, now).await?;
        let log = self.message_log.clone();
        // A crash in here: it is there, or gone as noted.
        tokio::task::spawn_blocking(move || log.remove_segment(&remains)).await??;
        tracing::info!(segment = leaving.segment.number, archive = %archive.settings.store, "a segment is kept in the archive only");
        Ok(true)
    }

    /// The lowest segment, where it is finished, archived, old enough and nothing that is not over stands in it.
    async fn oldest(self: &Arc<Self>, archive: &Archive, keep: KeepLocal) -> Result<Option<Leaving>, NotRemoved> {
        let log = self.message_log.clone();
        let Some(number) = tokio::task::spawn_blocking(move || log.finished_segments()).await??.first().copied() else {
            return Ok(None);
        };
        let (known, noted) = {
            let state = archive.state();
            (state.kept.newest.filter(|(of, _)| *of == number), state.archived.get(&number).cloned())
        };
        let now = self.clock.now();
        let held = |why: String| Err(NotRemoved::Held { segment: number, why });
        let ahead = |newest: Time| {
            held(format!("a record in it bears the time {newest}, later than now; look after the clock"))
        };
        match known.map(|(_, newest)| (keep.age(newest, now), newest)) {
            Some((Age::Young, _)) => return Ok(None),
            Some((Age::Ahead, newest)) => return ahead(newest),
            Some((Age::Over, _)) | None => {}
        }
        let stamped = !self.configuration.load().timestamping.is_empty();
        let log = self.message_log.clone();
        let judge = move || {
            let segment = log.finished_segment(number)?;
            // Where nobody said anything, as between two starts, there is nothing to wait for.
            let content = Content::of(&segment, now);
            let sha256 = Digest::of(&[&segment.bytes]);
            let stays = match keep.age(content.newest, now) {
                Age::Over => log.stays(&segment, &content, stamped)?,
                Age::Young | Age::Ahead => None,
            };
            Ok::<_, NotRemoved>((Leaving { segment, content, sha256, recipients: Vec::new() }, stays))
        };
        let (leaving, stays) = tokio::task::spawn_blocking(judge).await??;
        let newest = leaving.content.newest;
        archive.state().kept.newest = Some((number, newest));
        match keep.age(newest, now) {
            Age::Young => return Ok(None),
            Age::Ahead => return ahead(newest),
            Age::Over => {}
        }
        match (stays, noted) {
            (Some(stays), _) => held(stays.to_string()),
            (None, None) => held("it is not archived yet".into()),
            (None, Some(noted)) if noted != leaving.sha256.to_string() => {
                held("it is not what the audit log says was archived".into())
            }
            (None, Some(_)) => Ok(Some(leaving)),
        }
    }

    /// The same, if the archive gives it back now, by the same bytes or by those that were announced as its encryption.
    async fn read_back(&self, archive: &Archive, mut leaving: Leaving) -> Result<Leaving, NotRemoved> {
        let (store, number) = (&archive.settings.store, leaving.segment.number);
        if let Some((there, _)) = store.digest(&Object::of(number, false, 0)).await? {
            return if there == leaving.sha256 { Ok(leaving) } else { Err(differs(archive, number, &there)) };
        }
        let Some(object) = store.get(&Object::of(number, true, 0)).await? else {
            let why =
                format!("it is not in {store}, though the audit log says that it was archived; ask who runs the store");
            return Err(NotRemoved::Held { segment: number, why });
        };
        let there = Digest::of(&[&object]);
        let is_ours = archive.state().sealed.get(&number).is_some_and(|ours| ours.contains(&there.to_string()));
        let recipients = backup::recipients(&object[..]);
        match recipients {
            Ok(recipients) if is_ours => {
                leaving.recipients = recipients.iter().map(Digest::to_wire).collect();
                Ok(leaving)
            }
            _ => Err(differs(archive, number, &there)),
        }
    }

    async fn leave_remains(&self, archive: &Archive, leaving: &Arc<Leaving>) -> Result<Remains, NotRemoved> {
        let (log, leaving, to) = (self.message_log.clone(), Arc::clone(leaving), archive.settings.store.to());
        let leave = move || {
            let said = (to, leaving.recipients.clone());
            log.leave_remains(&leaving.segment, &leaving.content, said)
        };
        Ok(tokio::task::spawn_blocking(leave).await??)
    }
}

fn differs(archive: &Archive, number: u64, there: &Digest) -> NotRemoved {
    let why = format!("something else is in {} under its name now, sha256 {there}", archive.settings.store);
    archive.state().differs.get_or_insert_with(|| why.clone());
    NotRemoved::Held { segment: number, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_within_bounds_and_over_only_after_the_last_of_them() {
        assert_eq!([0, 1, 36_500, 36_501].map(|days| KeepLocal::days(days).is_some()), [false, true, true, false]);
        let (keep, newest) = (KeepLocal::days(2).unwrap(), Time::from_millis(1_800_000_000_000));
        assert_eq!(keep.age(newest, newest.plus(keep.lasts())), Age::Young);
        assert_eq!(keep.age(newest, newest.plus(keep.lasts() + Duration::from_millis(1))), Age::Over);
        // A clock that was set back removes nothing, and what is ahead of it is told.
        assert_eq!(keep.age(newest, newest.minus(MAX_SKEW)), Age::Young);
        assert_eq!(keep.age(newest, newest.minus(MAX_SKEW + Duration::from_millis(1))), Age::Ahead);
    }
}
