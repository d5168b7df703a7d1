//! An exchange whose opening is in the log, and its two directions. The only place of an exchange that waits.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::ControlFlow;

use journal::Pending;
use proto::message::Cause;

use super::{
    Claimed, Committing, Handed, LogEnded, MessageLog, OurDirection, Recorded, Release, Sealed, TheirDirection,
};
use crate::flow::InHand;
use crate::forward::{HandedOn, OwnArrived, OwnSource, TheirEnd};
use crate::listen::Permit;
use crate::relay::{LineArrived, LineSource, OurEnd, Sent};
use crate::way::Way;

/// Messages of one direction whose commits may be in flight at once.
pub const WINDOW_MESSAGES: usize = 16;
/// Bytes of one direction whose commits may be in flight at once.
pub const WINDOW_BYTES: usize = 1024 * 1024;

/// Only `seal_opening` and `record_opening` make one. Never gives out a half: it takes what is to be done with a
/// message.
#[must_use]
pub struct Opened {
    held: Held,
    ours: Half<OwnSource, OurDirection, Sealed>,
    theirs: Half<LineSource, TheirDirection, Recorded>,
}

/// What an exchange holds until it is concluded. Dropped without it, as by a panic or a shutdown, it writes
/// `closed: abandoned` into the log's queue, without waiting.
struct Held {
    way: Way,
    log: MessageLog,
    permit: Option<Permit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.log.abandon(&self.way);
        }
    }
}

/// Our half has its steps. Both halves are boxed here, where they are made: what holds them is moved from hand to hand until it
/// runs, and was 54 KB. With what `running.rs` spares, 157 KB are allocated for a call and not 373 (`tests/tests/cost.rs`).
#[must_use]
pub struct Departing<D> {
    held: Held,
    ours: D,
    theirs: Half<LineSource, TheirDirection, Recorded>,
}

/// Both halves have their steps.
#[must_use]
pub struct BothWays<D, A> {
    held: Held,
    ours: D,
    theirs: A,
}

/// Each direction has had its one end, or the log has. Only `until_both_ended` makes one.
#[must_use]
pub struct BothEnded {
    held: Held,
    ends: Result<(OurEnd, TheirEnd), LogEnded>,
}

impl Opened {
    pub(super) fn by_us(
        log: MessageLog,
        way: Way,
        mut permit: Permit,
        sources: (OwnSource, LineSource),
        direction: OurDirection,
        opening: Committing<'static, Sealed>,
    ) -> Self {
        let in_hand = permit.take_in_hand();
        let mut opened = Self::new(log, way, permit, sources, direction, TheirDirection::default());
        opened.ours.in_hand = in_hand;
        opened.ours.push(opening);
        opened
    }

    pub(super) fn by_them(
        log: MessageLog,
        way: Way,
        mut permit: Permit,
        sources: (OwnSource, LineSource),
        direction: TheirDirection,
        opening: Committing<'static, Recorded>,
    ) -> Self {
        let in_hand = permit.take_in_hand();
        let mut opened = Self::new(log, way, permit, sources, OurDirection::default(), direction);
        opened.theirs.in_hand = in_hand;
        opened.theirs.push(opening);
        opened
    }

    fn new(
        log: MessageLog,
        way: Way,
        permit: Permit,
        (ours, theirs): (OwnSource, LineSource),
        our_direction: OurDirection,
        their_direction: TheirDirection,
    ) -> Self {
        Self {
            ours: Half::new(ours, our_direction, way.clone()),
            theirs: Half::new(theirs, their_direction, way.clone()),
            held: Held { way, log, permit: Some(permit) },
        }
    }

    /// The way that both directions share.
    pub fn way(&self) -> &Way {
        &self.held.way
    }

    /// Our own system says no more than so many bytes in it.
    pub(crate) fn says_at_most(mut self, bytes: u64) -> Self {
        self.ours.source.says_at_most(bytes);
        self
    }

    /// What is done with each message of ours: `each` puts it into the log's queue, `send` takes it when it is durable.
    pub fn ours<F: Future<Output = ControlFlow<OurEnd, Sent>>>(
        self,
        mut each: impl for<'m> FnMut(Handed<'m>) -> Committing<'m, Sealed>,
        send: impl FnMut(Sealed) -> F,
    ) -> Departing<impl Future<Output = Result<(OurEnd, OwnSource), LogEnded>>> {
        let ours = self
            .ours
            .run(move |way, direction, arrived: OwnArrived| each(Handed::new(way, direction, arrived)).apart(), send);
        Departing { held: self.held, ours: Box::pin(ours), theirs: self.theirs }
    }
}

impl<D: Future<Output = Result<(OurEnd, OwnSource), LogEnded>>> Departing<D> {
    /// What is done with each message of theirs: `each` puts it into the log's queue, `hand_on` takes it when it is
    /// durable.
    pub fn theirs<F: Future<Output = ControlFlow<TheirEnd, HandedOn>>>(
        self,
        mut each: impl for<'m> FnMut(Claimed<'m>) -> Committing<'m, Recorded>,
        hand_on: impl FnMut(Recorded) -> F,
    ) -> BothWays<D, impl Future<Output = Result<(TheirEnd, LineSource), LogEnded>>> {
        let theirs = self.theirs.run(
            move |way, direction, arrived: LineArrived| each(Claimed::new(way, direction, arrived)).apart(),
            hand_on,
        );
        BothWays { held: self.held, ours: self.ours, theirs: Box::pin(theirs) }
    }
}

impl<D, A> BothWays<D, A>
where
    D: Future<Output = Result<(OurEnd, OwnSource), LogEnded>>,
    A: Future<Output = Result<(TheirEnd, LineSource), LogEnded>>,
{
    /// Runs both directions until each has had its end. The caller's deadline stops both.
    pub async fn until_both_ended(self) -> BothEnded {
        let Self { held, ours, theirs } = self;
        let way = held.way.clone();
        let mut both = std::pin::pin!(async { tokio::try_join!(ours, theirs) });
        let ends = match way.deadline {
            None => both.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, &mut both).await {
                Ok(ends) => ends,
                Err(_) => {
                    way.stop(Cause::Deadline);
                    both.await
                }
            },
        };
        let ends = match ends {
            Err(ended) => Err(ended),
            Ok(((ours, _), (theirs, line))) => {
                line.drain().await;
                Ok((ours, theirs))
            }
        };
        BothEnded { held, ends }
    }
}

impl BothEnded {
    pub(super) fn way(&self) -> &Way {
        &self.held.way
    }

    pub(super) fn spent(self) -> (Result<(OurEnd, TheirEnd), LogEnded>, Option<Permit>) {
        let Self { mut held, ends } = self;
        (ends, held.permit.take())
    }
}

/// Where a direction's messages come from. `next` is asked again where it left off when it is dropped half-way.
pub(crate) trait Source {
    type Arrived;
    fn next(&mut self, way: &Way) -> impl Future<Output = Self::Arrived> + Send;
}

/// One direction: where its messages come from, and those on their way to the disk.
struct Half<S, D, Out> {
    source: S,
    direction: D,
    way: Way,
    window: VecDeque<Committing<'static, Out>>,
    bytes_in_flight: usize,
    ended: bool,
    /// Of the direction that opened, until its opening is durable.
    in_hand: Option<InHand>,
}

impl<S: Source, D, Out: Release> Half<S, D, Out> {
    fn new(source: S, direction: D, way: Way) -> Self {
        // Nearly every direction has one message: it is not given room for a full window.
        let window = VecDeque::new();
        Self { source, direction, way, window, bytes_in_flight: 0, ended: false, in_hand: None }
    }

    fn push(&mut self, committing: Committing<'static, Out>) {
        self.ended = committing.last;
        self.bytes_in_flight += committing.bytes;
        self.window.push_back(committing);
    }

    async fn run<Last, Gone, F: Future<Output = ControlFlow<Last, Gone>>>(
        mut self,
        mut each: impl FnMut(Way, &mut D, S::Arrived) -> Committing<'static, Out>,
        mut release: impl FnMut(Out) -> F,
    ) -> Result<(Last, S), LogEnded> {
        loop {
            let reads_on = !self.ended && self.window.len() < WINDOW_MESSAGES && self.bytes_in_flight < WINDOW_BYTES;
            tokio::select! { biased;
                // In order: the oldest first, when it and so every earlier commit is durable.
                durable = oldest(&mut self.window), if !self.window.is_empty() => {
                    let released = durable?;
                    // From here on it waits for others than us.
                    if let Some(in_hand) = self.in_hand.take() {
                        in_hand.carried();
                    }
                    let committing = self.window.pop_front().expect("the oldest was just awaited");
                    self.bytes_in_flight -= committing.bytes;
                    let Some(message) = committing.released(released) else { continue };
                    if let ControlFlow::Break(end) = release(message).await {
                        return Ok((end, self.source));
                    }
                }
                // A full window reads no further.
                arrived = self.source.next(&self.way), if reads_on => {
                    let committing = each(self.way.clone(), &mut self.direction, arrived);
                    self.push(committing);
                }
            }
        }
    }
}

async fn oldest<Out>(window: &mut VecDeque<Committing<'static, Out>>) -> Result<Option<journal::Committed>, LogEnded> {
    match window.front_mut().and_then(|oldest| oldest.pending.as_mut()) {
        Some(pending) => durable(pending).await.map(Some),
        None => Ok(None),
    }
}

async fn durable(pending: &mut Pending) -> Result<journal::Committed, LogEnded> {
    pending.await.map_err(LogEnded::from)
}
