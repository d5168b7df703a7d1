//! What the message log costs: to record, beside a bare `fdatasync` of the same disk; to be opened, verified whole, indexed and
//! searched. Prints; asserts nothing but that it holds and that what is there is found.
//!
//! The log is made of unary exchanges as a consumer's server logs them (request sent, answer received, end), through two real
//! journals in the temporary directory, with every seal a real one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use journal::{Directory, Journal, Options, Owner, Position, Tree, TreeIndex};
use prost::Message;
use proto::identifier::ExchangeId;
use proto::message::Header;
use proto::record::{Kind, Record};
use proto::seal;
use proto::wire::relay as wire;
use security_server::log_keys::LogKeys;
use security_server::message_log::Index;
use security_server::message_log::exchanges::Search;
use security_server::whole_log::verify_log;

use super::figures;
use crate::rogue::{Rogue, answer_to};
use crate::world::{Member, World};

/// Length of what is recorded: as that of most headers.
const HEADER_BYTES: usize = 350;
/// Nothing is read again from here on.
const BEHIND_ALL: Position = Position { segment: u64::MAX, offset: 0, record: 0 };

/// How large a log, and how it is made.
#[derive(Args)]
pub struct Arguments {
    /// Records of the log that is opened, verified and searched.
    #[arg(long, default_value_t = 1_000_000)]
    records: u32,
    /// Exchanges at once while it is made.
    #[arg(long, default_value_t = 256)]
    at_once: u32,
    /// How long records are made, for each number of them that wait.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Runs all of it.
pub async fn run(arguments: Arguments) {
    let Arguments { records, at_once, seconds } = arguments;
    let world = World::new().await;
    recorded(&world, Duration::from_secs(seconds)).await;
    let rogue = Rogue::of(&world, "portal");
    let directory = tempfile::tempdir().unwrap();
    let [portal, moj] = ["portal", "moj"].map(|name| {
        let member = &world.members[name];
        Arc::new(opened(&directory.path().join(name), member, true))
    });
    let began = Instant::now();
    let template = rogue.opening(&world);
    let mut made = 0;
    while made < records / 3 {
        let batch: Vec<_> = (made..made + at_once)
            .map(|number| {
                let mut opening = template.clone();
                let mut id = [0; 16];
                id[12..].copy_from_slice(&number.to_be_bytes());
                opening.facts.exchange = ExchangeId::from_bytes(id);
                let (portal, moj) = (Arc::clone(&portal), Arc::clone(&moj));
                tokio::spawn(async move { exchange(&portal, &moj, Header::new(opening.facts), number).await })
            })
            .collect();
        for exchange in batch {
            exchange.await.unwrap();
        }
        made += at_once;
    }
    drop((portal, moj));
    println!("made {} records in {:.1?}", made * 3, began.elapsed());
    reopened(&world, &directory.path().join("portal"), made).await;
    let configuration = world.servers["portal"].server.store.current().load();
    let keys = LogKeys::of(&world.members["portal"].server, &configuration, []);
    let began = Instant::now();
    let found = verify_log(&Directory(directory.path().join("portal")), &keys, &configuration).unwrap();
    let took = began.elapsed();
    assert!(found.faults.is_empty(), "{found}");
    println!("{found}");
    let (records, bytes) = (found.journal.records, found.journal.bytes);
    let per_second = records as f64 / took.as_secs_f64();
    println!("verified {records} records, {} MB, in {took:.1?}: {per_second:.0} a second", bytes / 1_000_000);
    println!("{:.0} bytes on disk of each exchange, at the consumer's server", bytes as f64 / f64::from(made));
    searched(&directory.path().join("portal"), &directory.path().join("index"), made);
}

fn opened(path: &Path, member: &Member, first: bool) -> Journal {
    std::fs::create_dir_all(path).unwrap();
    let owner = Owner {
        instance: member.subsystem.member().instance(),
        member: member.subsystem.member().to_string(),
        server: member.server.to_string(),
    };
    let trees = vec![Tree { owner, key: Arc::clone(&member.signing) }];
    let options = Options { first, ..Options::default() };
    Journal::open(Arc::new(Directory(path.to_owned())), trees, options, Some(BEHIND_ALL), &mut |_| {}).unwrap()
}

/// Records a second, and how long each waits to be durable, with so many that wait at once. Each is of the length of a message's
/// header, and unlike every other; its head is signed, as that of what leaves is.
async fn recorded(world: &World, time: Duration) {
    println!("{:>12} {:>12} {:>10} {:>10} {:>12}", "waiting", "records/s", "p50 us", "p99 us", "records/sync");
    for waiting in [1, 16, 128, 1024] {
        let directory = tempfile::tempdir().unwrap();
        let journal = Arc::new(opened(directory.path(), &world.members["portal"], true));
        let (began, before) = (Instant::now(), journal.counts());
        let makers: Vec<_> = (0..waiting)
            .map(|maker: u64| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move {
                    let mut waits = Vec::new();
                    while began.elapsed() < time {
                        let mut body = [7; HEADER_BYTES];
                        body[..8].copy_from_slice(&maker.to_be_bytes());
                        body[8..16].copy_from_slice(&(waits.len() as u64).to_be_bytes());
                        let record = Record::new(Kind::Sent, &[7; 16], &[&body]);
                        let asked = Instant::now();
                        journal.append(TreeIndex(0), record, Bytes::new(), true).await.unwrap();
                        waits.push(asked.elapsed().as_secs_f64() * 1e6);
                    }
                    waits
                })
            })
            .collect();
        let mut waits = Vec::new();
        for maker in makers {
            waits.extend(maker.await.unwrap());
        }
        let (took, after) = (began.elapsed().as_secs_f64(), journal.counts());
        waits.sort_by(f64::total_cmp);
        let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
        let of_each = (after.records - before.records) as f64 / (after.syncs - before.syncs) as f64;
        println!("{waiting:>12} {:>12.0} {p50:>10.0} {p99:>10.0} {of_each:>12.1}", waits.len() as f64 / took);
    }
    println!("a bare write of 4 KiB and fdatasync, one after the other: {:.0} us", figures::sync_us());
}

/// As a start does it: with an index that has everything, and so with nothing to be read again but the last segment.
async fn reopened(world: &World, path: &Path, exchanges: u32) {
    let before = figures::own_resident_mb();
    let began = Instant::now();
    let end = journal::tail(&Directory(path.to_owned()), &mut |_| {}).unwrap();
    let scanned = began.elapsed();
    let began = Instant::now();
    let journal = opened(path, &world.members["portal"], false);
    println!(
        "opened a log of {} records in {:.1?} (its last segment is read in {scanned:.1?}); memory grew by {:.1} MB",
        exchanges * 3,
        began.elapsed(),
        figures::own_resident_mb() - before
    );
    assert!(end.is_some());
    drop(journal);
}

/// Builds the index as a start does, and searches it as an operator does.
fn searched(log: &Path, place: &Path, exchanges: u32) {
    let index = Index::open(place).unwrap();
    let began = Instant::now();
    journal::read(&Directory(log.to_owned()), None, &mut |entry| index.add(&entry).unwrap()).unwrap();
    println!("indexed {} records in {:.1?}", exchanges * 3, began.elapsed());
    drop(index);
    // As after a restart: what the searches read is not in sled's memory.
    let index = Index::open(place).unwrap();
    let id = |number: u32| ExchangeId::from_bytes([&[0; 12][..], &number.to_be_bytes()].concat().try_into().unwrap());
    let newest = Search { limit: 50, ..Search::default() };
    let nobody = Search { peer: Some("VN/GOV/nobody".parse().unwrap()), ..newest.clone() };
    for (what, search, found) in [
        ("the newest 50", newest.clone(), 50),
        ("one by its id", Search { exchange: Some(id(exchanges / 2)), ..newest.clone() }, 1),
        ("refused ones, of which there are none", Search { result: "refused".parse().ok(), ..newest.clone() }, 0),
        ("a peer that was never there", nobody, 0),
        (
            "the newest 1000 of a method",
            Search { method: "/echo.v1.Echo/Unary".parse().ok(), limit: 1000, ..newest },
            1000,
        ),
    ] {
        let began = Instant::now();
        let exchanges = index.search(&search).unwrap().exchanges;
        println!("searched for {what} in {:.1?}", began.elapsed());
        assert_eq!(exchanges.len(), found, "{what}");
    }
}

async fn exchange(portal: &Journal, moj: &Journal, opening: Header, number: u32) {
    let mut nonce = [0; 16];
    nonce[..4].copy_from_slice(&number.to_be_bytes());
    let record = Record::new(Kind::Sent, &nonce, &[opening.as_bytes()]);
    portal.append(TreeIndex(0), record, Bytes::new(), true).await.unwrap();
    let asked = wire::Frame { header: opening.as_bytes().clone(), ..Default::default() };
    let answer = Header::new(answer_to(&asked).facts);
    let record = Record::new(Kind::Sent, &nonce, &[answer.as_bytes()]);
    let seal = moj.append(TreeIndex(0), record, Bytes::new(), true).await.unwrap().seal().unwrap();
    let digest = seal::digest(&seal);
    let genesis = moj.genesis(TreeIndex(0)).as_bytes().clone();
    let beside = wire::Beside { seal: Some(seal), genesis, ..Default::default() };
    let record = Record::new(Kind::Received, &nonce, &[digest.as_bytes(), answer.as_bytes()]);
    portal.append(TreeIndex(0), record, beside.encode_to_vec().into(), false).await.unwrap();
    let closed = wire::Closed {
        exchange: opening.exchange.as_bytes().to_vec().into(),
        attempt: 1,
        outcome: wire::Outcome::Completed as i32,
        side: wire::Side::Consumer as i32,
        opening: opening.digest().to_wire(),
    };
    let record = Record::new(Kind::Closed, &nonce, &[&closed.encode_to_vec()]);
    portal.append(TreeIndex(0), record, Bytes::new(), false).await.unwrap();
}
