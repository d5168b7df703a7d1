//! Asks the peers whether their logs still contain what they signed (PROTOCOL.md 5.6), now and then and never on the message
//! path: one question at a time, a few of each log, each answer within a limit of bytes and of time.
//!
//! And whether the registry shows them what it shows this server (PROTOCOL.md 8.5): each whose log was seen in each round, and at
//! once whoever names another digest of a version that was in force here.
//!
//! What it finds is an alarm, and no refusal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::consistency::{Joined, Verdict};
use proto::global_configuration::ledger::{CheckpointFile, Shown, Signers, Standing};
use proto::identifier::ServerId;
use proto::record::TreeName;
use proto::seal::Sender;
use proto::split_view::{self, SplitViewFile};
use proto::transport::{MAX_CHECKPOINTS, MAX_CHECKPOINTS_BYTES};
use proto::wire::relay as wire;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::global_configuration::Doubt;
use crate::relay::{NotAnswered, Target};
use crate::witness::{Answer, Asked, LogOwner, Split};

/// How often every peer is asked.
pub const ASK_INTERVAL: Duration = Duration::from_secs(300);
/// Peers whose checkpoints are compared with ours in one round.
const COMPARED_IN_A_ROUND: usize = 256;

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
            // Peers that are down hold up neither of the two for the other.
            _ = async { tokio::join!(server.ask_the_peers(), server.compare_with_the_peers()) } => {}
        }
    }
}

/// Asks each suspect for its checkpoints, and judges what the registry showed this server itself, until the last.
pub(crate) async fn watch_the_views(server: Arc<SecurityServer>, last: CancellationToken) {
    loop {
        let suspects = tokio::select! {
            () = last.cancelled() => return,
            suspects = server.verified_heads.witness.suspects() => suspects,
            doubts = server.configuration.doubts() => {
                doubts.into_iter().for_each(|doubt| server.judge_the_registry(doubt));
                continue;
            }
        };
        for (peer, version) in suspects {
            if !server.views_asked.within(&peer) {
                continue;
            }
            tracing::warn!(%peer, version, "a peer names another configuration of a version that was in force here");
            tokio::select! {
                () = last.cancelled() => return,
                _ = server.compare_views(&peer, version) => {}
            }
        }
    }
}

/// What comparing checkpoints with a peer came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// So many versions are known to both, and both were shown the same of each.
    Same(usize),
    /// The registry signed two histories: the version of which it said two things.
    Split(u64),
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

    /// Compares checkpoints with the peers whose messages were seen: at most so many in a round, and for no longer than until the
    /// next, which goes on after them.
    pub async fn compare_with_the_peers(self: &Arc<Self>) -> Vec<(ServerId, Result<Compared, String>)> {
        let (mut compared, began) = (Vec::new(), Instant::now());
        let version = self.configuration.load().version;
        let witness = &self.verified_heads.witness;
        for peer in witness.next_to_compare(COMPARED_IN_A_ROUND).into_iter().filter(|peer| *peer != self.id) {
            if began.elapsed() >= ASK_INTERVAL {
                break;
            }
            witness.compared_with(&peer);
            let came_to = self.compare_views(&peer, version).await;
            compared.push((peer, came_to));
        }
        compared
    }

    /// Asks this peer for its checkpoints, that of this version among them, and holds them against ours (PROTOCOL.md 8.5).
    pub async fn compare_views(self: &Arc<Self>, peer: &ServerId, version: u64) -> Result<Compared, String> {
        let compared = self.compared_views(peer, version).await;
        if let Err(why) = &compared {
            tracing::debug!(%peer, why, "checkpoints could not be compared with a peer");
        }
        compared
    }

    async fn compared_views(self: &Arc<Self>, peer: &ServerId, version: u64) -> Result<Compared, String> {
        let configuration = self.configuration.load();
        let address = configuration.servers.get(peer).map(|server| server.address.clone());
        let address = address.ok_or("its server is not registered any more")?;
        let target = Target { server: peer.clone(), address };
        let asked = wire::CheckpointsAsked { version };
        let answer = self.peers.ask_for_checkpoints(&target, &asked).await.map_err(|error| error.to_string())?;
        if answer.checkpoints.len() > MAX_CHECKPOINTS {
            return Err(format!("{} checkpoints, and at most {MAX_CHECKPOINTS} are read", answer.checkpoints.len()));
        }
        // Loaded again: a version may have come into force while the peer was asked.
        let configuration = self.configuration.load();
        let standing = configuration.ledger.as_ref().ok_or("no ledger was shown to this server")?;
        let signers = self.store.ledger_signers().map_err(|error| error.to_string())?;
        let (mut known, mut unverified) = (0, None);
        for theirs in answer.checkpoints {
            // One that does not verify, by another root perhaps, hides no other.
            let Ok(theirs) = Shown::verify(theirs, &signers).map_err(|error| unverified = Some(error)) else {
                continue;
            };
            match self.held_against(standing, peer, &theirs, &signers) {
                Some(Compared::Split(version)) => return Ok(Compared::Split(version)),
                Some(Compared::Same(more)) => known += more,
                None => {}
            }
        }
        match (known, unverified) {
            (0, Some(error)) => Err(error.to_string()),
            (0, None) => Err("no version is known to both".to_owned()),
            _ => Ok(Compared::Same(known)),
        }
    }

    /// Holds a signed checkpoint against what is held here. None: the two cannot be compared.
    fn held_against(&self, standing: &Standing, by: &ServerId, theirs: &Shown, signers: &Signers) -> Option<Compared> {
        let same = standing.seen().iter().find(|seen| seen.version == theirs.version());
        // Versions that were passed over here have their leaves, and so the ledger as it was then.
        let between = if same.is_some() { None } else { standing.between(&theirs.checkpoint) };
        let ours = same.or(standing.seen().last())?;
        let ours = Shown::verify(ours.checkpoint.clone(), signers).ok()?;
        let Ok(version) = split_view::contradict(&ours, theirs, between.as_ref()) else {
            return (same.is_some() || between.is_some()).then_some(Compared::Same(1));
        };
        let now = self.clock.now();
        let files = [ours.file.clone(), theirs.file.clone()];
        let file = SplitViewFile::new(&self.id, by, now, &self.store.files(), files).with(between);
        let checkpoints = [ours.checkpoint.to_text(), theirs.checkpoint.to_text()];
        let split = Split { signers: standing.signers, version, checkpoints };
        self.verified_heads.witness.split_view(by, split, STANDARD.encode(file.to_bytes()), now);
        Some(Compared::Split(version))
    }

    /// What the registry showed this server itself. Such a finding names this server in the place of a peer.
    fn judge_the_registry(&self, doubt: Doubt) {
        let configuration = self.configuration.load();
        let Some(standing) = configuration.ledger.as_ref() else { return };
        match doubt {
            Doubt::Refused(checkpoint) => {
                let Ok(signers) = self.store.ledger_signers() else { return };
                let Ok(shown) = Shown::verify(checkpoint, &signers) else { return };
                self.held_against(standing, &self.id, &shown, &signers);
            }
            Doubt::Lost(version, held, tail) => {
                let held = CheckpointFile::parse(&held).map(|file| file.checkpoint).unwrap_or_default();
                let now = self.clock.now();
                self.verified_heads.witness.lost_end(&self.id, version, held, tail, now);
            }
        }
    }

    /// Whether the audit log holds that the registry showed two histories, signed by the keys that sign now. Only a root that
    /// replaces those keys ends it: whoever has them begins as many ledgers as they like.
    pub(crate) fn sees_a_split_view(&self) -> bool {
        let configuration = self.configuration.load();
        let standing = configuration.ledger.as_ref();
        standing.is_some_and(|standing| self.verified_heads.witness.knows_a_split_by(&standing.signers))
    }

    /// The checkpoints that a peer is shown: that of this version, if it was in force here, and the newest.
    pub(crate) fn checkpoints_of(&self, version: u64) -> wire::CheckpointsShown {
        let configuration = self.configuration.load();
        let seen = configuration.ledger.as_ref().map(|standing| standing.seen()).unwrap_or_default();
        let (older, newest) = seen.split_at(seen.len().saturating_sub(MAX_CHECKPOINTS - 1));
        let asked = older.iter().filter(|seen| seen.version == version);
        let mut left = MAX_CHECKPOINTS_BYTES / 2;
        let shown = asked.chain(newest.iter().rev()).map(|seen| seen.checkpoint.clone());
        let shown = shown.take_while(|file| left.checked_sub(file.len()).map(|less| left = less).is_some());
        wire::CheckpointsShown { checkpoints: shown.collect() }
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
