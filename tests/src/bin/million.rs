//! How long a message log of a million records takes to be verified whole. Prints; asserts nothing but that it holds.
//!
//! `cargo run --release --package tests --bin million -- 1000000 256`: that many records, so many exchanges at once while they
//! are made. They are unary exchanges as a consumer's server logs them (request sent, answer received, end), made through
//! two real journals in the temporary directory, with every seal a real one.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

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
