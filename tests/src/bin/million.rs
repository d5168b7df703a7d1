//! How long a message log of a million records takes to be verified whole, to be indexed, and to be searched. Prints; asserts
//! nothing but that it holds and that what is there is found.
//!
//! `cargo run --release --package tests --bin million -- 1000000 256`: that many records, so many exchanges at once while they
//! are made. They are unary exchanges as a consumer's server logs them (request sent, answer received, end), made through
//! two real journals in the temporary directory, with every seal a real one.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use journal::{Directory, Journal, Options, Owner, Tree, TreeIndex};
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
use tests::rogue::{Rogue, answer_to};
use tests::world::World;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>().unwrap());
    let (records, at_once) = (arguments.next().unwrap_or(1_000_000), arguments.next().unwrap_or(256));
    let world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let directory = tempfile::tempdir().unwrap();
    let [portal, moj] = ["portal", "moj"].map(|name| {
        let member = &world.members[name];
        let owner = Owner {
            instance: world.instance.instance.clone(),
            member: member.subsystem.member().to_string(),
            server: member.server.to_string(),
        };
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let trees = vec![Tree { owner, key: Arc::clone(&member.signing) }];
        let options = Options { first: true, ..Options::default() };
        Arc::new(Journal::open(Arc::new(Directory(path)), trees, options, None, &mut |_| {}).unwrap())
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
    let configuration = world.servers["portal"].server.store.current().load();
    let keys = LogKeys::of(&world.members["portal"].server, &configuration, []);
    let began = Instant::now();
    let found = verify_log(&Directory(directory.path().join("portal")), &keys, &configuration).unwrap();
    let took = began.elapsed();
    assert!(found.faults.is_empty(), "{found}");
    println!("{found}");
    let (records, bytes) = (found.journal.records, found.journal.bytes);
    println!("verified {records} records, {} MB, in {took:.1?}", bytes / 1_000_000);
    searched(&directory.path().join("portal"), &directory.path().join("index"), made);
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
