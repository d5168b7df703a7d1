//! Grants and their ends, among the servers of one member (PROTOCOL.md 19.7): what one of them grants, all that host the
//! provider honour, and what one ends, none honours. Each keeps them in its own audit log; one that was away hears of all of
//! it when it is back, at once and every minute, and no exchange waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::access::{Grant, GrantEnd, SignedDocument};
use proto::digest::Digest;
use proto::global_configuration::Configuration;
use proto::identifier::ServerId;
use proto::signature::purpose;
use proto::time::Time;
use proto::wire::relay as wire;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::refusal::BareRefusal;
use crate::relay::Target;

/// How often the servers of a member ask each other, besides at each change.
pub const SPREAD_INTERVAL: Duration = Duration::from_secs(60);
/// Most bytes of grants that are given at once.
const MAX_AT_ONCE_BYTES: usize = 1024 * 1024;
/// Most questions to one server at once.
const MAX_ROUNDS: usize = 64;

/// A grant as it was signed, and its end where it has one.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spread {
    /// Where it was made.
    pub(crate) server: ServerId,
    pub(crate) grant: SignedDocument,
    pub(crate) end: Option<SignedDocument>,
    /// What the document says.
    pub(crate) read: Grant,
}

/// What another server of the provider's member signed, of a provider that is hosted here. Only [`proven`] makes one.
pub(crate) struct Proven {
    spread: Spread,
    /// The grant was known here already: it was not proven again, and its end only is to be taken.
    is_known: bool,
}

impl Proven {
    /// With whether the grant was known here already.
    pub(crate) fn spent(self) -> (Spread, bool) {
        (self.spread, self.is_known)
    }
}

impl Spread {
    /// What names it and its end.
    fn digests(&self) -> impl Iterator<Item = Digest> {
        [Some(self.grant.digest()), self.end.as_ref().map(SignedDocument::digest)].into_iter().flatten()
    }

    fn to_wire(&self) -> wire::SpreadGrant {
        wire::SpreadGrant {
            server: self.server.to_string(),
            grant: Some(self.grant.to_wire()),
            end: self.end.as_ref().map(SignedDocument::to_wire),
        }
    }
}

/// Holds what came against the configuration: step by step as in PROTOCOL.md 19.7. `known`: the grants that are here already.
fn proven(
    configuration: &Configuration,
    here: &ServerId,
    known: &BTreeSet<Digest>,
    came: wire::SpreadGrant,
    now: Time,
) -> Option<Proven> {
    let server: ServerId = came.server.parse().ok()?;
    let grant = SignedDocument::parse(came.grant?).ok()?;
    let read: Grant = serde_json::from_slice(&grant.document).ok()?;
    let member = read.provider.member();
    if !configuration.hosts(here, &read.provider) || read.valid_until <= now.as_millis() {
        return None;
    }
    // Whatever became since of the key of a grant that counts here: its end must be heard of, and its name says which it is.
    let is_known = known.contains(&grant.digest());
    if !is_known {
        // A grant may last for years, and longer than the certificate of the key that signed it.
        grant.signed_by(purpose::GRANT, configuration.lasting_key(&member, &server, &grant.key)?).ok()?;
    }
    let end = match came.end {
        None => None,
        Some(end) => {
            let end = SignedDocument::parse(end).ok()?;
            let said = GrantEnd::parse(&end.document).ok()?;
            // A key that was revoked ended it all the same: what it ends would go on here otherwise.
            end.signed_by(purpose::GRANT_END, configuration.listed_key(&member, &said.server, &end.key)?).ok()?;
            (said.grant == grant.digest()).then_some(())?;
            Some(end)
        }
    };
    Some(Proven { spread: Spread { server, grant, end, read }, is_known })
}

impl SecurityServer {
    /// The other servers that host what a member of this one's offers.
    fn siblings(&self) -> Vec<Target> {
        let moment = self.moment();
        let Ok(configuration) = moment.in_force() else { return Vec::new() };
        let own = configuration.active_member(&self.id.owner()).map(|member| &member.subsystems);
        let hosts: BTreeSet<&ServerId> = own.into_iter().flat_map(|of| of.values()).flatten().collect();
        let others = hosts.into_iter().filter(|server| **server != self.id && server.owner() == self.id.owner());
        let target = |server: &ServerId| {
            let address = configuration.servers.get(server)?.address.clone();
            Some(Target { server: server.clone(), address })
        };
        others.filter_map(target).collect()
    }

    /// Gives the member's other servers what they lack, and takes what is lacking here, once.
    pub async fn spread_grants(self: &Arc<Self>) {
        for sibling in self.siblings() {
            if let Err(why) = self.spread_with(&sibling).await {
                tracing::warn!(server = %sibling.server, why, "another server of ours does not hear of grants now");
            }
        }
    }

    async fn spread_with(self: &Arc<Self>, sibling: &Target) -> Result<(), String> {
        let (mut brings, mut brought) = (Vec::new(), BTreeSet::new());
        for _ in 0..MAX_ROUNDS {
            let have = self
                .access_rights
                .spread(self.moment().now())
                .iter()
                .flat_map(|spread| spread.digests())
                .collect::<Vec<_>>();
            let have = have.iter().map(Digest::to_wire).collect();
            let asked = wire::GrantsAsked { have, brings: std::mem::take(&mut brings) };
            let given = self.peers.ask_about_grants(sibling, &asked).await.map_err(|error| error.to_string())?;
            let taken = self.take_grants(&sibling.server, given.grants).await?;
            let lacks: BTreeSet<Digest> = given.lacks.iter().filter_map(|it| Digest::try_from(&it[..]).ok()).collect();
            brings = self.given_to(&sibling.server, |spread| {
                spread.digests().any(|digest| lacks.contains(&digest))
                    && spread.digests().any(|digest| brought.insert(digest))
            });
            if brings.is_empty() && taken == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What this server may be given, as much as goes at once.
    fn given_to(&self, peer: &ServerId, mut wanted: impl FnMut(&Spread) -> bool) -> Vec<wire::SpreadGrant> {
        let configuration = self.configuration.load();
        let mut bytes = 0;
        let spread = self.access_rights.spread(self.moment().now());
        let hosted = spread.iter().filter(|spread| configuration.hosts(peer, &spread.read.provider));
        let fits = |spread: &&Arc<Spread>| {
            bytes += spread.grant.document.len() + spread.end.as_ref().map_or(0, |end| end.document.len()) + 1024;
            bytes <= MAX_AT_ONCE_BYTES
        };
        hosted.filter(|spread| wanted(spread)).take_while(fits).map(|spread| spread.to_wire()).collect()
    }

    async fn take_grants(&self, from: &ServerId, came: Vec<wire::SpreadGrant>) -> Result<usize, String> {
        let moment = self.moment();
        let configuration = moment.in_force().map_err(|_| "the configuration expired")?;
        let came_in = came.len();
        let known = self.access_rights.names(moment.now()).into_iter().map(|(_, name)| name).collect();
        let holds = |it| proven(configuration, &self.id, &known, it, moment.now());
        let proven: Vec<Proven> = came.into_iter().filter_map(holds).collect();
        if proven.len() < came_in {
            tracing::warn!(%from, refused = came_in - proven.len(), "grants that another server gave are not taken");
        }
        let taken = self.access_rights.take_spread(from, proven, moment.now()).await;
        taken.map_err(|ended| ended.to_string())
    }

    /// What another server of ours asks (PROTOCOL.md 19.7).
    pub(crate) async fn answer_about_grants(
        self: &Arc<Self>,
        peer: &ServerId,
        asked: wire::GrantsAsked,
    ) -> Result<wire::GrantsGiven, BareRefusal> {
        if peer.owner() != self.id.owner() {
            return Err(BareRefusal::unproven("grants are told to servers of the same member only"));
        }
        let have: BTreeSet<Digest> = asked.have.iter().filter_map(|it| Digest::try_from(&it[..]).ok()).collect();
        self.take_grants(peer, asked.brings).await.map_err(BareRefusal::unproven)?;
        let spread = self.access_rights.spread(self.moment().now());
        let own: BTreeSet<Digest> = spread.iter().flat_map(|spread| spread.digests()).collect();
        Ok(wire::GrantsGiven {
            lacks: have.difference(&own).map(Digest::to_wire).collect(),
            grants: self.given_to(peer, |spread| spread.digests().any(|digest| !have.contains(&digest))),
        })
    }
}

/// Spreads at each change, and now and then, until the last.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    let mut changes = server.access_rights.changes();
    loop {
        tokio::select! {
            () = last.cancelled() => return,
            () = server.spread_grants() => {}
        }
        tokio::select! {
            () = last.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(SPREAD_INTERVAL) => {}
        }
    }
}
