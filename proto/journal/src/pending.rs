//! What the caller of an append holds: first a wait, then the proof that the record is durable.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::head::Head;
use proto::record::NONCE_BYTES;
use proto::wire::relay::Seal;
use tokio::sync::oneshot;

use crate::Position;
use crate::proof::CommitProof;
use crate::writer::Shared;

/// A record on its way to the disk. Resolves when it and everything before it is durable, or the journal has ended.
#[must_use = "the record is not durable before this resolves"]
pub struct Pending {
    pub(crate) released: oneshot::Receiver<Committed>,
    pub(crate) shared: Arc<Shared>,
}

impl Pending {
    /// Waits, blocking the thread. Not for use inside an async runtime.
    pub fn wait(self) -> Result<Committed, Ended> {
        self.released.blocking_recv().map_err(|_| self.shared.reason())
    }

    /// The outcome, if there is one yet.
    pub fn now(&mut self) -> Option<Result<Committed, Ended>> {
        match self.released.try_recv() {
            Ok(committed) => Some(Ok(committed)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(self.shared.reason())),
        }
    }
}

impl Future for Pending {
    type Output = Result<Committed, Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.released).poll(cx).map_err(|_| self.shared.reason())
    }
}

/// The journal has ended: a write or a sync failed, and nothing is retried as if it had not happened. Whether the
/// record will be found at the next start is not known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the journal has ended and takes no more records until the server is started again: {0}")]
pub struct Ended(pub Arc<str>);

/// A durable record; everything before it is durable too. Only the journal makes one, after the sync.
#[derive(Clone)]
pub struct Committed {
    pub(crate) commit: Arc<CommitProof>,
    pub(crate) position: Position,
    pub(crate) nonce: [u8; NONCE_BYTES],
}

impl Committed {
    /// Where it stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The head that its commit made.
    pub fn head(&self) -> Head {
        self.commit.head
    }

    /// Its seal under that head, if the head was signed: always for a record appended as leaving.
    pub fn seal(&self) -> Option<Seal> {
        self.commit.seal(self.position.record, self.nonce)
    }
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committed").field("position", &self.position).field("head", &self.commit.head).finish()
    }
}
