//! Timestamping authorities: one that is wrong in anything, all of them gone, and back.

use std::sync::Arc;
use std::time::Duration;

use journal::Entry;
use proto::digest::Digest;
use proto::evidence::Report;
use proto::global_configuration::document::TimestampingDocument;
use proto::head::Head;
use proto::record::{Kind, decode_canonical};
use proto::timestamp::{self, Stamped};
use proto::wire::relay as wire;
use registry_client::timestamping::{NoToken, token};
use security_server::lookout::Alarm;
use security_server::stamping::{ALARM_AFTER, ToleratedOutage};
use tests::echo::{Parrot, said};
use tests::processes;
use tests::realm::Realm;
use tests::soon;
use tests::tsa::{Fault, Tsa};
use tests::world::World;
use tokio::net::TcpListener;

use crate::seen::{call_once, health, look};

const SECOND: Duration = Duration::from_secs(1);

/// A world that approves these authorities, named in this order.
async fn world_with(names: &[&'static str]) -> (World, Vec<Tsa>) {
    let mut world = World::new().await;
    let mut authorities = Vec::new();
    for name in names {
        authorities.push(Tsa::serve(&world, name).await);
    }
    world.approve(authorities.iter().map(Tsa::approved).collect());
    (world, authorities)
}

async fn stamp(world: &World, name: &str) -> usize {
    soon(world.servers[name].server.stamp_the_heads()).await.unwrap()
}

/// The timestamps in a member's log: the head, and what its token says.
fn stamps(world: &World, name: &str) -> Vec<(Head, Stamped)> {
    let configuration = world.servers[name].server.store.current().load();
    let approved = configuration.approved_for_timestamps();
    let mut found = Vec::new();
    let mut read = |entry: Entry| {
        if entry.record.kind() == Kind::Stamp {
            let stamp: wire::Stamp = decode_canonical(&entry.record.body(), "Stamp").unwrap();
            let stamped = timestamp::verify(&stamp.token, &Digest::of(&[&stamp.head]), &approved, &|_| false).unwrap();
            found.push((Head::parse(&stamp.head).unwrap(), stamped));
        }
    };
    journal::read(&*world.members[name].log, None, &mut read).unwrap();
    found
}

fn raised(world: &World, name: &str) -> Vec<String> {
    let stamping = [Alarm::LogNotStamped, Alarm::LogStampOverdue].map(Alarm::as_str);
    health(world, name).raised.into_iter().filter(|alarm| stamping.contains(&alarm.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_exchanged_is_stamped_at_both_ends_and_an_idle_log_is_not() {
    let (world, authorities) = world_with(&["tsa"]).await;
    assert_eq!(stamp(&world, "portal").await, 0, "nothing was exchanged");
    call_once(&world).await.unwrap();
    world.quiet().await;
    for name in ["portal", "moj"] {
        assert_eq!(stamp(&world, name).await, 1, "{name}");
        assert_eq!(stamp(&world, name).await, 0, "{name}: a timestamp wants none");
        let [(_, stamped)] = &stamps(&world, name)[..] else { panic!("{name}: one timestamp is there") };
        assert_eq!((stamped.authority.as_str(), stamped.time), ("tsa", world.now()), "{name}");
        assert_eq!(stamped.key, authorities[0].key.public().id());
    }
    call_once(&world).await.unwrap();
    world.quiet().await;
    assert_eq!(stamp(&world, "portal").await, 1, "it waits again");
    assert_eq!(authorities[0].asked(), 3);
}

/// What a stranger finds in the evidence of an exchange out of this member's log.
fn evidence(world: &World, name: &str, exchange: &str) -> Report {
    let (server, id) = (&world.servers[name].server, exchange.parse().unwrap());
    let file = security_server::evidence::file(server, id, &server.message_log.find(id).unwrap()).unwrap();
    let report = proto::evidence::verify(&file, world.anchor()).unwrap();
    assert!(report.holds(), "{report}");
    report
}

/// The sentences of these that say this.
fn saying<'r>(sentences: &'r [String], what: &str) -> Vec<&'r String> {
    sentences.iter().filter(|sentence| sentence.contains(what)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_says_by_when_each_message_existed_and_plainly_where_nobody_has_stamped_it() {
    let (mut world, authorities) = world_with(&["first", "second"]).await;
    let exchange = call_once(&world).await.unwrap();
    call_once(&world).await.unwrap();
    world.quiet().await;
    for name in ["portal", "moj"] {
        let report = evidence(&world, name, &exchange);
        assert!(saying(&report.proven, "timestamp").is_empty(), "{report}");
        assert_eq!(saying(&report.not_proven, "no timestamp over them").len(), 1, "{report}");
    }
    let stamped_at = world.now();
    for name in ["portal", "moj"] {
        assert_eq!(stamp(&world, name).await, 1);
    }
    world.set_time(world.now().plus(SECOND * 7200));
    world.publish(|_| {}, Vec::new());
    let by = |report: &Report, authority: &str, at: proto::time::Time| {
        let said = saying(&report.proven, "existed at or before");
        let all = report.findings.iter().filter(|finding| finding.step == "5.4").count();
        let wanted = format!("{all} of {all} messages existed at or before {at}, by a timestamp of {authority}, ");
        assert!(said.len() == 1 && said[0].starts_with(&wanted), "{wanted}\n{report}");
        assert!(saying(&report.not_proven, "no timestamp").is_empty(), "{report}");
    };
    for name in ["portal", "moj"] {
        by(&evidence(&world, name, &exchange), "first", stamped_at);
    }

    // A tree that ended is under the end that the next one names; what the index knew of it is read from the log again.
    let unstamped = call_once(&world).await.unwrap();
    call_once(&world).await.unwrap();
    world.quiet().await;
    let stopped = world.servers.remove("moj").unwrap();
    let address = stopped.peers;
    stopped.shutdown().await;
    std::fs::remove_dir_all(world.directory.path().join("moj/index")).unwrap();
    world.start("moj", TcpListener::bind(address).await.unwrap(), false).await;
    assert_eq!(stamp(&world, "moj").await, 1);
    by(&evidence(&world, "moj", &exchange), "first", stamped_at);
    by(&evidence(&world, "moj", &unstamped), "first", world.now());

    // An authority that is approved no more proves nothing: the first token over a later head that holds does.
    let second = authorities[1].approved();
    world.approve(vec![second]);
    let report = evidence(&world, "portal", &exchange);
    assert_eq!(saying(&report.not_proven, "no timestamp over them").len(), 1, "{report}");
    world.set_time(world.now().plus(SECOND));
    assert_eq!(stamp(&world, "portal").await, 1);
    by(&evidence(&world, "portal", &exchange), "second", world.now());
    by(&evidence(&world, "portal", &unstamped), "second", world.now());
    world.publish(|_| {}, vec![authorities[1].key.public().id()]);
    let report = evidence(&world, "portal", &exchange);
    assert_eq!(saying(&report.not_proven, "no timestamp over them").len(), 1, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_wrong_in_anything_is_passed_over_for_the_next() {
    let (world, authorities) = world_with(&["first", "second"]).await;
    let [first, second] = &authorities[..] else { panic!("two were served") };
    for fault in
        [Fault::Refuses, Fault::OtherNonce, Fault::OtherImprint, Fault::HourAhead, Fault::OtherKey, Fault::Page]
    {
        call_once(&world).await.unwrap();
        world.quiet().await;
        first.goes_wrong(fault);
        second.goes_wrong(fault);
        assert_eq!(stamp(&world, "portal").await, 0, "{fault:?}");
        second.goes_wrong(Fault::None);
        assert_eq!(stamp(&world, "portal").await, 1, "{fault:?}");
        let stamps = stamps(&world, "portal");
        assert_eq!(stamps.last().unwrap().1.authority, "second", "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_authority_stamps_nothing() {
    let (mut world, authorities) = world_with(&["tsa"]).await;
    call_once(&world).await.unwrap();
    world.quiet().await;
    world.publish(|_| {}, vec![authorities[0].key.public().id()]);
    assert_eq!(stamp(&world, "portal").await, 0);
    assert!(stamps(&world, "portal").is_empty());
}

/// Time goes by itself here where nobody does anything: the limit comes at once.
#[tokio::test(start_paused = true)]
async fn an_authority_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let approved = timestamp::Approved { name: "silent".into(), certificate: Vec::new(), policy: None };
    let authority =
        proto::global_configuration::TimestampingAuthority { approved, address: Some(address.parse().unwrap()) };
    let now = || proto::time::Time::from_millis(0);
    let refused = token(&authority, Digest::ZERO, None, &|_| false, &now).await.unwrap_err();
    assert!(matches!(refused, NoToken::Late), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_tolerated_then_refused_by_name_whatever_is_restarted_and_ends_by_itself() {
    let (mut world, authorities) = world_with(&["tsa"]).await;
    authorities[0].goes_wrong(Fault::Refuses);
    let began = world.now();
    let tolerated = SECOND * 3600 * ToleratedOutage::HOURS;
    call_once(&world).await.unwrap();
    world.quiet().await;
    let at = async |world: &mut World, since: Duration| {
        world.set_time(began.plus(since));
        world.publish(|_| {}, Vec::new());
        assert_eq!(stamp(world, "portal").await, 0);
        look(world, "portal").await;
    };
    at(&mut world, ALARM_AFTER).await;
    assert!(raised(&world, "portal").is_empty());
    at(&mut world, ALARM_AFTER + SECOND).await;
    assert_eq!(raised(&world, "portal"), ["log_not_stamped"]);
    at(&mut world, tolerated).await;
    call_once(&world).await.unwrap();
    world.quiet().await;
    at(&mut world, tolerated + SECOND).await;
    assert_eq!(call_once(&world).await, Err("NOT_STAMPED".into()));
    assert_eq!(raised(&world, "portal"), ["log_not_stamped", "log_stamp_overdue"]);

    // A restart begins nothing anew, and neither does an index that is read again from the log.
    world.restart("portal").await;
    assert_eq!(call_once(&world).await, Err("NOT_STAMPED".into()));
    let stopped = world.servers.remove("portal").unwrap();
    let address = stopped.peers;
    stopped.shutdown().await;
    std::fs::remove_dir_all(world.directory.path().join("portal/index")).unwrap();
    world.start("portal", TcpListener::bind(address).await.unwrap(), false).await;
    assert_eq!(call_once(&world).await, Err("NOT_STAMPED".into()));

    // What the tree before the restarts still waits for is under the end that the next one names.
    authorities[0].goes_wrong(Fault::None);
    assert_eq!(stamp(&world, "portal").await, 1);
    look(&world, "portal").await;
    assert!(raised(&world, "portal").is_empty());
    call_once(&world).await.unwrap();
    let [(head, _)] = stamps(&world, "portal")[..] else { panic!("one timestamp is there") };
    let mut trees = Vec::new();
    journal::read(&*world.members["portal"].log, None, &mut |entry| {
        if entry.record.kind() == Kind::Sent {
            trees.push((entry.tree, entry.commit));
        }
    })
    .unwrap();
    assert!(trees.iter().take(2).all(|(tree, commit)| *tree == head.tree && *commit < head.size), "{trees:?} {head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registrys_own_authority_stamps_for_an_instance_that_brings_none() {
    let (service, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(service).await;
    let server = Arc::clone(&realm.servers[portal.name].server);
    let configuration = server.store.current().load();
    let [own] = &configuration.timestamping[..] else { panic!("one authority is approved") };
    assert_eq!((own.approved.name.as_str(), &own.address), ("registry", &None));

    soon(processes::client(&portal, &moj).unary(said("hello"))).await.unwrap();
    while server.running() > 0 {
        tokio::task::yield_now().await;
    }
    realm.stop_registry().await;
    assert_eq!(soon(server.stamp_the_heads()).await.unwrap(), 0, "there is nobody to ask");
    realm.serve_registry().await;
    assert_eq!(soon(server.stamp_the_heads()).await.unwrap(), 1);
    drop(server);
    realm.stop(&portal).await;

    let mut kept = None;
    let log = journal::Directory(realm.path(portal.name).join("message-log"));
    journal::read(&log, None, &mut |entry| {
        if entry.record.kind() == Kind::Stamp {
            kept = Some(decode_canonical::<wire::Stamp>(&entry.record.body(), "Stamp").unwrap());
        }
    })
    .unwrap();
    let stamp = kept.expect("the log keeps it");
    let approved = configuration.approved_for_timestamps();
    let stamped = timestamp::verify(&stamp.token, &Digest::of(&[&stamp.head]), &approved, &|_| false).unwrap();
    assert_eq!(stamped.time, realm.now());
    openssl_agrees(&realm, &stamp, &approved[0].certificate);
    realm.stops().await;
}

/// `openssl ts -verify`, where the machine has it: this one promise is skipped, loudly, where it has not.
fn openssl_agrees(realm: &Realm, stamp: &wire::Stamp, authority: &[u8]) {
    use base64::Engine;
    let certificate = base64::engine::general_purpose::STANDARD.encode(authority);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
    let wrapped: Vec<String> = pem
        .lines()
        .flat_map(|line| line.as_bytes().chunks(64).map(|part| String::from_utf8_lossy(part).into_owned()))
        .collect();
    for (name, bytes) in [
        ("head.txt", stamp.head.as_ref()),
        ("token.der", stamp.token.as_ref()),
        ("authority.pem", wrapped.join("\n").as_bytes()),
    ] {
        std::fs::write(realm.path(name), bytes).unwrap();
    }
    let at = (realm.now().as_millis() / 1000).to_string();
    let verifies = |data: &str| {
        let verify = [
            "ts",
            "-verify",
            "-data",
            data,
            "-in",
            "token.der",
            "-token_in",
            "-CAfile",
            "authority.pem",
            "-attime",
            &at,
        ];
        std::process::Command::new("openssl").args(verify).current_dir(realm.directory.path()).output()
    };
    match verifies("head.txt") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: no openssl here, so nobody else than we has verified a token");
        }
        Err(error) => panic!("{error}"),
        Ok(ended) => {
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            assert!(!verifies("token.der").unwrap().status.success(), "it accepts anything");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_approves_what_stamps_nothing_is_refused_whole() {
    let mut world = World::new().await;
    let tsa = Tsa::serve(&world, "tsa").await;
    let good = tsa.approved();
    let publishes = |world: &mut World, document: TimestampingDocument| {
        world.instance.timestamping = vec![document];
        world.publication.next(&world.keys, &world.view(), world.now()).is_ok()
    };
    assert!(publishes(&mut world, good.clone()));
    for (what, document) in [
        ("no certificate", TimestampingDocument { certificate: vec![0x30].into(), ..good.clone() }),
        ("https", TimestampingDocument { address: Some("https://a/".into()), ..good.clone() }),
        ("no host", TimestampingDocument { address: Some("http:///tsr".into()), ..good.clone() }),
        ("no policy", TimestampingDocument { policy: Some("one.two".into()), ..good.clone() }),
    ] {
        assert!(!publishes(&mut world, document), "{what}");
    }
    world.instance.timestamping = vec![good.clone(), good];
    assert!(world.publication.next(&world.keys, &world.view(), world.now()).is_err(), "twice");
}
