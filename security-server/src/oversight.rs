//! What the registry is told of our grants (PROTOCOL.md 20): the signed documents, and of their use the day of the last one. At a
//! start, at each change and once a day; no exchange waits for it, and nothing is allowed or refused by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::digest::Digest;
use proto::identifier::ServerId;
use proto::oversight::{Day, Documents, GrantsReport, MAX_REPORTED, Reported};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::{ReportTaken, SignedReport};
use registry_client::{NoConnection, OversightClient};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::access_rights::{GrantNumber, NotGranted};
use crate::global_configuration::{Registry, jittered};
use crate::{SecurityServer, files};

/// How often it is looked whether the registry is to be told something, besides at each change.
pub const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// How long the registry may take for one report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of documents in one report: with their names they are below the limit of a report.
const MAX_DOCUMENTS: usize = 256 * 1024;
const DAY_MILLIS: u64 = 86_400_000;

/// What is told, what was told, and when grants were used.
pub(crate) struct Oversight {
    /// None: there is nobody to tell.
    registry: Option<Registry>,
    last_used: LastUsed,
    told: tokio::sync::Mutex<Told>,
}

/// What the registry has taken, since this server's day began.
#[derive(Default)]
struct Told {
    day: Option<u64>,
    of: HashMap<Digest, Standing>,
}

/// What of a grant is told as soon as it is so. The day of its last use alone waits until that day is over.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    ended: bool,
    countersigned: bool,
    used: bool,
}

/// A grant with all that may be told of it.
struct Known {
    told: Reported,
    documents: Documents,
}

impl Known {
    fn standing(&self) -> Standing {
        let Reported { ended, countersigned, last_used, .. } = self.told;
        Standing { ended, countersigned, used: last_used.is_some() }
    }

    fn bytes(&self) -> usize {
        let Documents { grant, end, acceptance, .. } = &self.documents;
        [Some(grant), end.as_ref(), acceptance.as_ref()].into_iter().flatten().map(|it| it.document.len() + 512).sum()
    }
}

/// Why the registry was not told.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// It cannot be reached.
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    /// It refuses.
    #[error("the registry does not take the report: {}", .0.message())]
    Refused(#[from] tonic::Status),
    /// It does not answer.
    #[error("the registry did not answer within {REPORT_TIMEOUT:?}")]
    Silent,
    /// There is no key to sign with.
    #[error(transparent)]
    NoKey(#[from] NotGranted),
}

impl NotTold {
    /// What the registry said of one part, after which the next may be told. What failed on the way to it is the end of all parts.
    fn of_this_part(self) -> Result<Self, Self> {
        match &self {
            Self::Refused(status) if std::error::Error::source(status).is_none() => Ok(self),
            _ => Err(self),
        }
    }
}

impl Oversight {
    /// With the days that were kept, of the grants that there are.
    pub fn of(registry: Option<Registry>, kept: PathBuf, grants: &[(GrantNumber, Digest)]) -> Self {
        Self { registry, last_used: LastUsed::open(kept, grants), told: tokio::sync::Mutex::default() }
    }

    /// An exchange under this grant began.
    pub fn used(&self, grant: GrantNumber, now: Time) {
        self.last_used.note(grant, Day::of(now));
    }
}

/// The day of each grant's last use: kept in memory, and in a file at the next tick. A crash before it forgets what was used first
/// on this day in the minute before, and no more; the registry keeps what it was told. The file is trusted for nothing else.
struct LastUsed {
    path: PathBuf,
    days: Mutex<Days>,
}

#[derive(Default)]
struct Days {
    of: HashMap<GrantNumber, Day>,
    changed: bool,
}

impl LastUsed {
    fn open(path: PathBuf, grants: &[(GrantNumber, Digest)]) -> Self {
        let kept: BTreeMap<String, Day> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "when grants were used last cannot be read, and is known from now on");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        let of = grants.iter().filter_map(|(number, name)| Some((*number, *kept.get(&name.to_string())?)));
        Self { path, days: Mutex::new(Days { of: of.collect(), changed: false }) }
    }

    fn days(&self) -> std::sync::MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, grant: GrantNumber, day: Day) {
        let mut days = self.days();
        if days.of.get(&grant).is_none_or(|last| *last < day) {
            days.of.insert(grant, day);
            days.changed = true;
        }
    }

    fn of(&self, grant: GrantNumber) -> Option<Day> {
        self.days().of.get(&grant).copied()
    }

    /// Written whole, where a day is another. Where that fails, it is tried again at the next tick.
    fn save(&self, grants: &[(GrantNumber, Digest)]) -> io::Result<()> {
        let kept: BTreeMap<String, Day> = {
            let mut days = self.days();
            if !std::mem::take(&mut days.changed) {
                return Ok(());
            }
            grants.iter().filter_map(|(number, name)| Some((name.to_string(), *days.of.get(number)?))).collect()
        };
        let written =
            serde_json::to_vec(&kept).map_err(io::Error::from).and_then(|it| files::write(&self.path, &it, 0o600));
        if written.is_err() {
            self.days().changed = true;
        }
        written
    }
}

impl SecurityServer {
    /// Tells the registry what it was not told yet today.
    pub async fn report_grants(&self) -> Result<(), NotTold> {
        let Some(registry) = &self.oversight.registry else { return Ok(()) };
        let mut told = self.oversight.told.lock().await;
        let today = own_day(&self.id, self.moment().now());
        if told.day != Some(today) {
            *told = Told { day: Some(today), of: HashMap::new() };
        }
        let mut due = self.known_grants();
        due.retain(|known| told.of.get(&known.told.name) != Some(&known.standing()));
        if due.is_empty() {
            return Ok(());
        }
        due.sort_by_key(|known| known.told.name);
        let key = self.access_rights.key_of(&self.id.owner())?;
        let channel = registry_client::connect(&registry.address, registry.key).await?;
        let mut client = OversightClient::new(channel);
        // What the registry refuses of one part keeps no other part from it.
        let mut refused = None;
        for part in due.chunks(MAX_REPORTED) {
            match self.report_part(&mut client, &key, part).await {
                Ok(()) => told.of.extend(part.iter().map(|known| (known.told.name, known.standing()))),
                Err(error) => refused = refused.or(Some(error.of_this_part()?)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// By name, and then with the documents that the registry lacks.
    async fn report_part(
        &self,
        client: &mut OversightClient<Channel>,
        key: &SigningKey,
        part: &[Known],
    ) -> Result<(), NotTold> {
        let names = part.iter().map(|known| known.told.clone()).collect();
        let taken = self.report(client, key, names).await?;
        let lacks: BTreeSet<Digest> = taken.lacks.iter().filter_map(|it| Digest::try_from(&it[..]).ok()).collect();
        let wanted: Vec<&Known> = part.iter().filter(|known| lacks.contains(&known.told.name)).collect();
        let whole = |known: &&Known| Reported { documents: Some(known.documents.clone()), ..known.told.clone() };
        let mut refused = None;
        for documents in by_size(&wanted) {
            if let Err(error) = self.report(client, key, documents.iter().map(whole).collect()).await {
                refused = refused.or(Some(error.of_this_part()?));
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn report(
        &self,
        client: &mut OversightClient<Channel>,
        key: &SigningKey,
        grants: Vec<Reported>,
    ) -> Result<ReportTaken, NotTold> {
        let instance = self.configuration.load().instance.clone();
        let report = GrantsReport { instance, server: self.id.clone(), time: self.moment().now(), grants };
        let signed: SignedReport = report.sign(key);
        let taken =
            tokio::time::timeout(REPORT_TIMEOUT, client.report(signed)).await.map_err(|_| NotTold::Silent)??;
        let taken = taken.into_inner();
        for refused in &taken.not_believed {
            let grant = hex::encode(&refused.grant);
            tracing::warn!(grant, why = refused.why, "the registry does not believe what it is told of a grant");
        }
        Ok(taken)
    }

    /// The grants of providers that are hosted here, and the ends of those whose time is not over.
    fn known_grants(&self) -> Vec<Known> {
        let (now, configuration) = (self.moment().now(), self.configuration.load());
        let signed = self.access_rights.signed(now);
        let hosted = signed.iter().filter(|(_, spread)| configuration.hosts(&self.id, &spread.read.provider));
        let requests = self.access_rights.requests();
        let known = hosted.map(|(number, spread)| {
            let name = spread.grant.digest();
            let acceptance = spread.read.request.and_then(|request| requests.accepted(&request, name));
            Known {
                told: Reported {
                    name,
                    ended: spread.end.is_some(),
                    countersigned: acceptance.is_some(),
                    last_used: self.oversight.last_used.of(*number),
                    documents: None,
                },
                documents: Documents {
                    server: spread.server.clone(),
                    grant: spread.grant.clone(),
                    end: spread.end.clone(),
                    acceptance,
                },
            }
        });
        known.collect()
    }

    /// Writes when grants were used last, where that changed.
    fn save_last_used(&self) {
        if let Err(error) = self.oversight.last_used.save(&self.access_rights.names(self.moment().now())) {
            tracing::warn!(%error, "when grants were used last cannot be written; trying again");
        }
    }
}

/// Which day it is for this server: it begins at a time that follows from its name, so that not all tell the registry at midnight.
fn own_day(server: &ServerId, now: Time) -> u64 {
    let name = Digest::of(&[server.as_str().as_bytes()]);
    let drawn = name.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
    (now.as_millis() + u64::from(drawn) % DAY_MILLIS) / DAY_MILLIS
}

/// As many as fit in a report, each time.
fn by_size<'k>(known: &'k [&'k Known]) -> Vec<&'k [&'k Known]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, each) in known.iter().enumerate() {
        bytes += each.bytes();
        if bytes > MAX_DOCUMENTS && at > from {
            parts.push(&known[from..at]);
            (from, bytes) = (at, each.bytes());
        }
    }
    if from < known.len() {
        parts.push(&known[from..]);
    }
    parts
}

/// Tells again and again, until the last.
pub(crate) async fn watch(server: Arc<SecurityServer>, last: CancellationToken) {
    let mut changes = server.access_rights.changes();
    while !last.is_cancelled() {
        tokio::select! {
            () = last.cancelled() => {}
            told = server.report_grants() => {
                if let Err(error) = told {
                    tracing::warn!(%error, "the registry does not hear of grants now; trying again");
                }
                tokio::select! {
                    () = last.cancelled() => {}
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(jittered(TELL_INTERVAL)) => {}
                }
            }
        }
        let saving = Arc::clone(&server);
        let _ = tokio::task::spawn_blocking(move || saving.save_last_used()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Day = Day(20_000);

    fn names() -> Vec<(GrantNumber, Digest)> {
        (1..4).map(|number: u64| (GrantNumber(number), Digest::of(&[&number.to_be_bytes()]))).collect()
    }

    #[test]
    fn the_day_of_a_grants_last_use_is_found_again_under_its_name_and_never_goes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("last-used.json");
        let kept = LastUsed::open(path.clone(), &names());
        kept.save(&names()).unwrap();
        assert!(!path.exists(), "nothing was used: nothing is written");
        kept.note(GrantNumber(2), DAY);
        kept.note(GrantNumber(2), Day(DAY.0 - 1));
        kept.save(&names()).unwrap();
        // Numbers are this server's own; the documents are the same wherever they are.
        let renumbered: Vec<_> = names().into_iter().map(|(number, name)| (GrantNumber(number.0 + 7), name)).collect();
        let again = LastUsed::open(path.clone(), &renumbered);
        assert_eq!((again.of(GrantNumber(9)), again.of(GrantNumber(2))), (Some(DAY), None));
        std::fs::remove_file(&path).unwrap();
        again.note(GrantNumber(9), DAY);
        again.save(&renumbered).unwrap();
        assert!(!path.exists(), "the same day again writes nothing");
        std::fs::write(&path, "{").unwrap();
        assert_eq!(LastUsed::open(path, &names()).of(GrantNumber(2)), None);
    }

    #[test]
    fn each_server_tells_once_in_a_day_and_all_of_them_in_no_one_hour() {
        const HOUR: Duration = Duration::from_secs(3600);
        let midnight = Time::from_millis(20_000 * DAY_MILLIS);
        let hours: Vec<Time> = (0..=24u32).map(|hour| midnight.plus(hour * HOUR)).collect();
        let mut begun = [0; 24];
        for number in 0..2_400 {
            let server: ServerId = format!("VN/GOV/moj/ss{number}").parse().unwrap();
            let days: Vec<u64> = hours.iter().map(|at| own_day(&server, *at)).collect();
            assert_eq!(days[24], days[0] + 1, "{server}");
            begun[days.windows(2).position(|two| two[0] != two[1]).unwrap()] += 1;
        }
        assert!(begun.iter().all(|servers| (50..=150).contains(servers)), "{begun:?}");
    }

    #[test]
    fn what_the_registry_refuses_of_one_part_ends_no_other_and_a_lost_connection_does() {
        let refused = NotTold::Refused(tonic::Status::resource_exhausted("too many"));
        assert!(refused.of_this_part().is_ok());
        let lost = tonic::Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(NotTold::Refused(lost).of_this_part().is_err());
        assert!(NotTold::Silent.of_this_part().is_err());
    }

    #[test]
    fn what_cannot_be_written_is_written_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not-there/last-used.json");
        let kept = LastUsed::open(path.clone(), &names());
        kept.note(GrantNumber(1), DAY);
        kept.save(&names()).unwrap_err();
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        kept.save(&names()).unwrap();
        assert_eq!(LastUsed::open(path, &names()).of(GrantNumber(1)), Some(DAY));
    }
}
