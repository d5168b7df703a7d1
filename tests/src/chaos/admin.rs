//! The admins, who go on with their work while everything is in trouble: a grant of each edge comes and goes, and guests are
//! invited. What was answered to them must be so from then on, whatever is killed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::schedule::EDGES;
use super::stage::Stage;
use crate::processes::PURPOSE;

/// The method whose grant comes and goes.
pub const LENT: &str = "/echo.v1.Echo/ServerStream";
/// The longest pause between two commands.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Now, in microseconds: comparable between the processes of this machine.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// What the admins know for sure.
#[derive(Default)]
pub struct Sure {
    /// Of an edge, from when to when nothing of [`LENT`] was granted, and to whom it was.
    pub denied: Vec<(usize, u64, u64)>,
    pub granted: Vec<(usize, u64, u64)>,
    /// Guests whose invitation was answered.
    pub invited: Vec<String>,
}

/// How the grant of one edge stands, and since when for sure.
#[derive(Clone, Copy)]
enum Lent {
    No(u64),
    As(u64, u64),
}

/// Commands until it is told to stop.
pub async fn work(stage: Arc<Stage>, mut chance: Chance, stop: CancellationToken) -> Sure {
    let mut sure = Sure::default();
    let mut lent = [Lent::No(now()); EDGES.len()];
    let mut guests = 0;
    while !stop.is_cancelled() {
        if chance.below(4) == 0 {
            guests += 1;
            sure.invited.extend(invite(&stage, guests).await);
        } else {
            let edge = usize::try_from(chance.below(EDGES.len() as u64)).unwrap();
            lent[edge] = flip(&stage, edge, lent[edge], &mut sure).await;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(chance.up_to(LONGEST_PAUSE)) => {}
        }
    }
    for (edge, lent) in lent.into_iter().enumerate() {
        match lent {
            Lent::No(since) => sure.denied.push((edge, since, now())),
            Lent::As(_, since) => sure.granted.push((edge, since, now())),
        }
    }
    sure
}

async fn invite(stage: &Stage, number: u64) -> Option<String> {
    let guest = format!("guest{number}");
    let line = format!(
        "central-registry invite VN/GOV/{guest} --name {guest} --server VN/GOV/{guest}/ss1 --subsystem VN/GOV/{guest}/a \
         --json --passphrase credential:registry"
    );
    (stage.instance.run(&line).await.code == Some(0)).then_some(guest)
}

/// Grants what is not granted, and ends what is. Where the answer did not come, it is ended until that was answered.
async fn flip(stage: &Stage, edge: usize, lent: Lent, sure: &mut Sure) -> Lent {
    let (consumer, provider) = (&stage.members[EDGES[edge].0], &stage.members[EDGES[edge].1]);
    let begun = now();
    match lent {
        Lent::No(since) => {
            sure.denied.push((edge, since, begun));
            let line = format!(
                "security-server access grant {} --provider {} --method {LENT} --purpose {PURPOSE} --days 1 --json --config {}",
                consumer.subsystem,
                provider.subsystem,
                provider.file()
            );
            let said = stage.instance.run(&line).await;
            if said.code == Some(0) {
                return Lent::As(said.json()["grant"]["number"].as_u64().unwrap(), now());
            }
        }
        Lent::As(number, since) => {
            sure.granted.push((edge, since, begun));
            if end(stage, edge, number).await {
                return Lent::No(now());
            }
        }
    }
    until_none(stage, edge).await;
    Lent::No(now())
}

async fn end(stage: &Stage, edge: usize, number: u64) -> bool {
    let provider = &stage.members[EDGES[edge].1];
    let line = format!("security-server access end {number} --reason over --config {}", provider.file());
    stage.instance.run(&line).await.code == Some(0)
}

/// Ends whatever of it the provider's server lists, until it lists nothing.
async fn until_none(stage: &Stage, edge: usize) {
    let (consumer, provider) = (&stage.members[EDGES[edge].0], &stage.members[EDGES[edge].1]);
    loop {
        let listed =
            stage.instance.run(&format!("security-server access list --json --config {}", provider.file())).await;
        if listed.code != Some(0) {
            continue;
        }
        let listed = listed.json();
        let lent = listed["grants"].as_array().unwrap().iter().filter(|grant| {
            grant["consumer"] == consumer.subsystem.as_str()
                && grant["methods"].as_array().unwrap().iter().any(|method| method == LENT)
        });
        let numbers: Vec<_> = lent.map(|grant| grant["number"].as_u64().unwrap()).collect();
        if numbers.is_empty() {
            return;
        }
        for number in numbers {
            end(stage, edge, number).await;
        }
    }
}

impl Sure {
    /// Invitations that were answered, and that the registry's journal does not hold.
    pub fn forgotten(&self, journal: &Path) -> Vec<String> {
        let mut held = String::new();
        let read = journal::read(&journal::Directory(journal.to_owned()), None, &mut |entry| {
            held += &String::from_utf8_lossy(&entry.record.body());
        });
        let mut found: Vec<_> = read.err().map(|error| error.to_string()).into_iter().collect();
        let forgotten = self.invited.iter().filter(|guest| !held.contains(&format!("VN/GOV/{guest}/ss1")));
        found
            .extend(forgotten.map(|guest| format!("{guest} was invited, and the registry's journal does not hold it")));
        found
    }

    /// A call of an edge that was asked and heard while it was surely not granted.
    pub fn was_denied(&self, edge: usize, sent: u64, heard: u64) -> bool {
        self.denied.iter().any(|(of, from, until)| *of == edge && *from <= sent && heard <= *until)
    }

    /// A call of an edge that was asked and refused while it surely was granted.
    pub fn was_granted(&self, edge: usize, sent: u64, refused: u64) -> bool {
        self.granted.iter().any(|(of, from, until)| *of == edge && *from <= sent && refused <= *until)
    }

    /// How much they did.
    pub fn summary(&self) -> String {
        let guests = self.invited.len();
        format!("{} grants came, {} were gone, {guests} guests were invited", self.granted.len(), self.denied.len())
    }
}
