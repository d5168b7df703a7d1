//! The exchanges that run now. What changes for all of them (the configuration, the access rights, a shutdown, a full disk)
//! is listened for once and told to each: an exchange that ends after a millisecond listens to nothing.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use proto::message::Cause;
use proto::refusal::Code;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lookout::Room;
use crate::message_log::{Concluded, Opened};
use crate::way::{Side, Stop, Way};
use crate::{SecurityServer, authorize, lanes};

/// As many lanes may begin and end exchanges without waiting for each other.
const SHARDS: usize = 16;

/// The ways of the exchanges that run.
#[derive(Default)]
pub(crate) struct Ways([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    entered: u64,
    ways: HashMap<u64, Way>,
}

/// An exchange that is told what changes, until this is dropped.
struct Entered {
    server: Arc<SecurityServer>,
    shard: usize,
    number: u64,
}

impl Ways {
    fn shard(&self, shard: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.0[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = Way> {
        (0..SHARDS).flat_map(|shard| self.shard(shard).ways.values().cloned().collect::<Vec<_>>())
    }
}

impl Entered {
    fn new(server: Arc<SecurityServer>, way: Way) -> Self {
        let shard = lanes::current() % SHARDS;
        let number = {
            let mut shard = server.ways.shard(shard);
            shard.entered += 1;
            let number = shard.entered;
            shard.ways.insert(number, way);
            number
        };
        Self { server, shard, number }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.server.ways.shard(self.shard).ways.remove(&self.number);
    }
}

/// An exchange that runs by itself now. Only [`SecurityServer::detach`] makes one.
#[must_use]
pub struct Running {
    task: JoinHandle<Concluded>,
}

impl Running {
    /// Waits for its end. Nobody needs to: it runs on when this is dropped.
    pub async fn concluded(self) -> Option<Concluded> {
        self.task.await.ok()
    }
}

impl SecurityServer {
    /// A life begins with an exchange opened in the log and ends with one concluded there. It is judged again whenever
    /// the configuration or the access rights change: an open stream is not a way around a revocation.
    pub fn detach<F>(self: &Arc<Self>, exchange: Opened, life: impl FnOnce(Arc<Self>, Opened) -> F) -> Running
    where
        F: Future<Output = Concluded> + Send + 'static,
    {
        let way = exchange.way().clone();
        let entered = Entered::new(Arc::clone(self), way.clone());
        // What changed between its opening's judgement and its entry was told to others only.
        self.judge_again(&way);
        if let (Side::Provider, Some(grant)) = (way.side, &way.grant) {
            self.oversight.used(grant.number, self.moment().now());
        }
        let life = life(Arc::clone(self), exchange.says_at_most(self.limits.stream_bytes));
        let longest = self.limits.exchange();
        let task = self.exchanges.spawn(async move {
            let _entered = entered;
            let mut life = std::pin::pin!(life);
            match tokio::time::timeout(longest, &mut life).await {
                Ok(concluded) => concluded,
                Err(_) => {
                    way.stop(Cause::Deadline);
                    life.await
                }
            }
        });
        Running { task }
    }

    /// Exchanges that run now.
    pub fn running(&self) -> usize {
        self.exchanges.len()
    }

    fn judge_again(&self, way: &Way) {
        if self.stopping.is_cancelled() {
            way.stop(Cause::Shutdown);
        } else if self.lookout.room() == Room::Spent {
            way.stop(Stop::because(Cause::Shutdown, Code::LogFull));
        } else if let Err(stop) = authorize::still(&self.access_rights, &self.moment(), way) {
            way.stop(stop);
        }
    }
}

/// Tells the exchanges that run what changes. It listens from the moment of this call on.
pub(crate) fn watch(server: Arc<SecurityServer>, last: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
    let (mut versions, mut rights) = (server.configuration.versions(), server.access_rights.changes());
    let mut room = server.lookout.rooms();
    async move {
        loop {
            tokio::select! {
                () = last.cancelled() => return,
                () = server.stopping.cancelled(), if !server.stopping.is_cancelled() => {}
                Ok(()) = versions.changed() => {}
                Ok(()) = rights.changed() => {}
                Ok(()) = room.changed() => {}
            }
            for way in server.ways.all() {
                server.judge_again(&way);
            }
        }
    }
}
