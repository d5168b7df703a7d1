//! Asks the peers whether their logs still contain what they signed (PROTOCOL.md 5.6), now and then and never on the message
//! path: one question at a time, a few of each log, each answer within a limit of bytes and of time.
//!
//! What it finds is an alarm, and no refusal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::consistency::{Joined, Verdict};
use proto::record::TreeName;
use proto::seal::Sender;
use proto::wire::relay as wire;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::relay::{NotAnswered, Target};
use crate::witness::{Answer, Asked, LogOwner};

/// How often every peer is asked.
pub const ASK_INTERVAL: Duration = Duration::from_secs(300);

/// What one question came to.
#[derive(Debug)]
pub struct Told {
    /// Whose log.
    pub owner: LogOwner,
    /// The tree of the head that was asked about.
    pub tree: TreeName,
    /// That head's size.
    pub size: u64,
    /// What the log answered, judged; or why there is no answer, or none that proves anything.
    pub answer: Result<Verdict, String>,
}

/// Why nothing is proved.
#[derive(Debug, thiserror::Error)]
enum NotProved {
    /// There is nobody to ask now.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer, or its answer is none.
    #[error("{0}")]
    Answer(String),
}

impl From<&str> for NotProved {
    fn from(why: &str) -> Self {
        Self::Answer(why.to_owned())
    }
}

/// Asks again and again, until the last.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    loop {
        tokio::select! {
            () = last.cancelled() => return,
            () = tokio::time::sleep(ASK_INTERVAL) => {}
        }
        tokio::select! {
            () = last.cancelled() => return,
            _ = server.ask_the_peers() => {}
        }
    }
}

impl SecurityServer {
    /// Asks every peer once about what is held of its log and not proved yet.
    pub async fn ask_the_peers(self: &Arc<Self>) -> Vec<Told> {
        let mut told = Vec::new();
        for (owner, asked) in self.verified_heads.witness.to_ask() {
            let mut newest = BTreeMap::new();
            let mut answers = self.ask_about(&owner, &asked, &mut newest).await;
            if newest.len() > 1 {
                // It has perhaps just started again. Two servers say it again.
                newest.clear();
                answers = self.ask_about(&owner, &asked, &mut newest).await;
            }
            if let [(one, exchange), (other, _)] = newest.into_iter().collect::<Vec<_>>()[..].as_ref() {
                let now = self.moment().now();
                self.verified_heads.witness.shows_two(&owner, [*one, *other], exchange, now);
            }
            told.extend(answers);
        }
        told
    }

    async fn ask_about(
        self: &Arc<Self>,
        owner: &LogOwner,
        asked: &[Asked],
        newest: &mut BTreeMap<TreeName, String>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for asked in asked {
            let answer = self.ask(owner, asked).await;
            if let Ok((Verdict::Contained, tree)) = &answer {
                newest.insert(*tree, asked.exchange.clone());
            }
            let (owner, head) = (owner.clone(), asked.held.head);
            let unreachable = matches!(answer, Err(NotProved::Unreachable(_)));
            let answer = answer.map(|(verdict, _)| verdict).map_err(|error| error.to_string());
            if let Err(why) = &answer {
                metrics::counter!("causeway_peer_logs_not_proved_total").increment(1);
                tracing::warn!(member = owner.member, server = owner.server, tree = %head.tree, why, "a peer's log proves nothing");
            }
            told.push(Told { owner, tree: head.tree, size: head.size, answer });
            if unreachable {
                break;
            }
        }
        told
    }

    async fn ask(self: &Arc<Self>, owner: &LogOwner, asked: &Asked) -> Result<(Verdict, TreeName), NotProved> {
        let witness = &self.verified_heads.witness;
        let sender = owner.sender().ok_or("its name is none of the grammar")?;
        let address = {
            let moment = self.moment();
            let configuration = moment.in_force().map_err(|_| "the configuration expired")?;
            let registered = configuration.servers.get(&sender.server);
            registered.map(|server| server.address.clone()).ok_or("its server is not registered any more")?
        };
        let target = Target { server: sender.server.clone(), address };
        let answered = self.peers.ask_to_join(&target, &asked.held.to_wire()).await;
        let now = self.moment().now();
        let joined = match answered {
            Ok(joined) => joined,
            Err(NotAnswered::Unreachable(error)) => return Err(NotProved::Unreachable(error.to_string())),
            Err(NotAnswered::Malformed(why)) => {
                witness.proves_nothing(owner, asked, why.clone(), now);
                return Err(NotProved::Answer(why));
            }
            // It may be stopped, older than this question, or asked too often: that is no word about its log.
            Err(error) => return Err(NotProved::Answer(error.to_string())),
        };
        match self.judged_answer(&sender, asked, joined) {
            Ok(answer) => {
                let (verdict, newest) = (answer.verdict, answer.newest.head.tree);
                witness.answered(owner, asked, answer, now);
                Ok((verdict, newest))
            }
            Err(why) => {
                witness.proves_nothing(owner, asked, why.clone(), now);
                Err(NotProved::Answer(why))
            }
        }
    }

    fn judged_answer(&self, owner: &Sender, asked: &Asked, joined: wire::Joined) -> Result<Answer, String> {
        let read = Joined::parse(&joined).map_err(|error| error.to_string())?;
        let moment = self.moment();
        let configuration = moment.in_force().map_err(|_| "the configuration expired")?;
        let key = configuration.signing_key(&owner.member, &owner.server, &read.newest().key, moment.now());
        let key = key.ok_or("its newest head is signed by no good key of its own")?;
        read.newest().signed_by(key).map_err(|_| "the signature of its newest head does not hold")?;
        let verdict = read.judge(owner, &asked.held.head).map_err(|error| error.to_string())?;
        let (newest, genesis) = (read.newest().clone(), read.newest_genesis());
        Ok(Answer { joined, verdict, newest, genesis: genesis.map(|genesis| genesis.record.as_bytes().clone()) })
    }
}
