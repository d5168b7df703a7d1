//! A registry that shows two servers two configurations is found out by one ordinary call between them, by name, with a proof
//! that a stranger verifies; and one that shows everybody the same never is, however late, restarted or out of step they are.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use central_registry::publish::{Publication, View};
use proto::global_configuration::update::{Anchor, Files, Rejected, Trusted, update};
use proto::identifier::ServerId;
use proto::signature::SigningKey;
use proto::split_view;
use security_server::SecurityServer;
use security_server::asking::Compared;
use security_server::audit::{Alarm, Finding, proved_alarms};
use security_server::global_configuration::{Applied, NotApplied};
use tests::echo::{Parrot, said};
use tests::processes::{Member, client, reserved};
use tests::realm::Realm;
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tonic::Request;

/// Waits until the server has noted so many alarms, and gives them.
async fn alarms(server: &SecurityServer, count: u64) -> Vec<Alarm> {
    soon(async {
        while server.audit.alarms().1 < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.audit.alarms().1, count, "{:?}", server.audit.alarms());
    server.audit.alarms().0
}

/// Two versions of one number that both follow from what everybody has, each rightly signed.
fn two_views(world: &World) -> [Publication; 2] {
    let mut other = world.view();
    other.instance.name = "Another country".into();
    let view = |view: &View| world.publication.next(&world.keys, view, world.now()).unwrap().0;
    [view(&world.view()), view(&other)]
}

fn shows(world: &World, name: &str, publication: &Publication) {
    let applied = world.servers[name].server.store.apply(publication.files(), world.now()).unwrap();
    assert_eq!(applied, Applied::InForce(publication.version()));
}

fn health(server: &SecurityServer) -> Vec<String> {
    server.look_around();
    server.health().raised
}

/// The split view is named everywhere, and its proof convinces a stranger who has the anchor, and nobody else.
fn is_named(server: &SecurityServer, peer: &str, version: u64, audit: &Path, anchor: &[u8]) {
    assert_eq!(health(server), ["split_view"]);
    let disk = journal::Directory(audit.to_owned());
    let proved = proved_alarms(&disk).unwrap();
    assert_eq!(proved.len(), 1, "{proved:?}");
    assert_eq!(proved[0].server, peer);
    let Finding::SplitView { version: of, .. } = &proved[0].finding else { panic!("{proved:?}") };
    assert_eq!(*of, version);
    let file = proved[0].proof().unwrap();
    assert!(split_view::is_one(&file));
    let report = split_view::verify(&file, anchor).unwrap();
    assert_eq!((report.version, report.peer.to_string()), (version, peer.to_owned()));

    let stranger = SigningKey::generate().0;
    assert!(split_view::verify(&file, stranger.public().point()).is_err());
    for part in ["held", "shown"] {
        let mut read: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let other = if part == "held" { read["shown"].clone() } else { read["held"].clone() };
        read[part] = other;
        let same = split_view::verify(&serde_json::to_vec(&read).unwrap(), anchor).unwrap_err();
        assert!(matches!(same, split_view::NotProved::NoContradiction(_)), "{same}");
        let text = read[part].as_str().unwrap().to_owned();
        read[part] = text[..text.len() - 8].into();
        assert!(split_view::verify(&serde_json::to_vec(&read).unwrap(), anchor).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_between_servers_that_are_shown_two_configurations_names_the_split() {
    let mut world = World::new().await;
    let [ours, theirs] = two_views(&world);
    shows(&world, "portal", &ours);
    shows(&world, "moj", &theirs);
    let refused = world.client().await.unary(Request::new(said("x"))).await.unwrap_err();
    assert!(refused.metadata().get("causeway-refusal").is_some(), "it names what moj does not have: {refused}");
    let found = alarms(&world.servers["moj"].server, 1).await;
    assert!(matches!(found[0].finding, Finding::SplitView { .. }), "{found:?}");
    let (audit, version) = (world.directory.path().join("moj/audit"), ours.version());
    is_named(&world.servers["moj"].server, "VN/GOV/portal/ss1", version, &audit, world.anchor());

    // It was said once, and stands after a restart.
    let _ = world.client().await.unary(Request::new(said("x"))).await;
    let server = Arc::clone(&world.servers["moj"].server);
    let peer: ServerId = "VN/GOV/portal/ss1".parse().unwrap();
    assert_eq!(soon(server.compare_views(&peer, version)).await, Ok(Compared::Split(version)));
    assert_eq!(server.audit.alarms().1, 1);
    drop(server);
    world.restart("moj").await;
    assert_eq!(health(&world.servers["moj"].server), ["split_view"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_an_older_version_that_was_another_here_is_answered_and_names_the_split() {
    let world = World::new().await;
    let [ours, theirs] = two_views(&world);
    shows(&world, "portal", &ours);
    shows(&world, "moj", &theirs);
    // The civil registry's server is a version further: the call names one that was in force there before.
    let (further, _) = theirs.re_signed(&world.keys, world.now()).unwrap();
    shows(&world, "moj", &further);
    let answer = world.client().await.unary(Request::new(said("x"))).await;
    answer.expect("a peer does not cut a member off by itself");
    alarms(&world.servers["moj"].server, 1).await;
    let audit = world.directory.path().join("moj/audit");
    is_named(&world.servers["moj"].server, "VN/GOV/portal/ss1", ours.version(), &audit, world.anchor());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_registry_is_never_accused_by_servers_that_are_late_out_of_step_or_restarted() {
    let mut world = World::new().await;
    let names = ["portal", "moj"];
    for round in 0..6u32 {
        let (next, _) = world.publication.re_signed(&world.keys, world.now()).unwrap();
        world.publication = next;
        // One of them is late by a version, in turn, and by several in the end.
        let now = world.now();
        let upto_date = &world.servers[names[round as usize % 2]].server.store;
        let pages = world.publication.since_checkpoint(0, upto_date.current().load().version);
        let files: Files = pages.iter().map(|file| (file.name.clone(), file.content.clone())).collect();
        upto_date.apply(&files, now).unwrap();
        world.client().await.unary(Request::new(said("x"))).await.unwrap();
        if round == 3 {
            world.restart("portal").await;
        }
        for name in names {
            let server = Arc::clone(&world.servers[name].server);
            for (_, compared) in soon(server.compare_with_the_peers()).await {
                assert!(!matches!(compared, Ok(Compared::Split(_))), "{compared:?}");
            }
            assert_eq!(health(&server), Vec::<String>::new());
            assert_eq!(server.audit.alarms().1, 0);
        }
    }
    // In step they know versions in common, and say so.
    let (next, _) = world.publication.re_signed(&world.keys, world.now()).unwrap();
    for name in names {
        let store = &world.servers[name].server.store;
        let given = next.since(store.current().load().version);
        let files: Files = given.iter().map(|file| (file.name.clone(), file.content.clone())).collect();
        let all = next.files().iter().map(|(name, bytes)| (name.clone(), bytes.clone()));
        store.apply(&all.chain(files).collect(), world.now()).unwrap();
    }
    world.client().await.unary(Request::new(said("x"))).await.unwrap();
    let server = Arc::clone(&world.servers["moj"].server);
    let compared = soon(server.compare_with_the_peers()).await;
    assert!(matches!(&compared[..], [(_, Ok(Compared::Same(same)))] if *same > 0), "{compared:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_takes_only_versions_whose_ledger_continues_what_it_holds() {
    let world = World::new().await;
    let [ours, theirs] = two_views(&world);
    shows(&world, "portal", &ours);
    let store = &world.servers["portal"].server.store;
    let held = store.current().load().ledger.clone().unwrap();
    let apply = |files: &Files| match store.apply(files, world.now()) {
        Err(NotApplied::Rejected(why)) => why,
        other => panic!("{other:?}"),
    };

    // What follows from the other view is rightly signed, and another history.
    let (further, _) = theirs.re_signed(&world.keys, world.now()).unwrap();
    let why = apply(further.files());
    assert!(matches!(why, Rejected::Ledger(_)), "{why}");

    // Rightly signed versions without their checkpoint, with that of another version, or without what lies in between.
    let (next, _) = ours.re_signed(&world.keys, world.now()).unwrap();
    let mut without = next.files().clone();
    let name = without.keys().find(|name| name.ends_with(".checkpoint.json")).unwrap().clone();
    without.remove(&name);
    assert_eq!(apply(&without), Rejected::Missing { file: name.clone() });
    let foreign: Bytes = further.files()[&name].clone();
    let why = apply(
        &next.files().iter().map(|(file, bytes)| (file.clone(), bytes.clone())).chain([(name, foreign)]).collect(),
    );
    assert!(matches!(why, Rejected::Ledger(_)), "{why}");
    let (after, _) = next.re_signed(&world.keys, world.now()).unwrap();
    let why = apply(after.files());
    assert!(matches!(&why, Rejected::Missing { file } if file.starts_with("ledger/")), "{why}");
    assert_eq!(store.current().load().ledger, Some(held), "nothing of all that is in force");

    // With the page that it lacks, it takes the version.
    let given = after.since_checkpoint(ours.version(), ours.version());
    let given: Files = given.iter().map(|file| (file.name.clone(), file.content.clone())).collect();
    assert!(given.len() < 8, "one version later, few files are given");
    assert_eq!(store.apply(&given, world.now()).unwrap(), Applied::InForce(after.version()));
}

fn given(world: &World, name: &str, publication: &Publication) {
    let store = &world.servers[name].server.store;
    let has = store.current().load().version;
    let files = publication.since_checkpoint(has, has);
    let files: Files = files.iter().map(|file| (file.name.clone(), file.content.clone())).collect();
    assert_eq!(store.apply(&files, world.now()).unwrap(), Applied::InForce(publication.version()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_never_shows_two_servers_the_same_version_is_found_out_by_the_leaves_between() {
    let world = World::new().await;
    let [ours, theirs] = two_views(&world);
    let next = |publication: &Publication| publication.re_signed(&world.keys, world.now()).unwrap().0;
    let shown_to_portal = next(&ours);
    given(&world, "portal", &shown_to_portal);
    given(&world, "moj", &theirs);
    given(&world, "moj", &next(&next(&theirs)));
    world.client().await.unary(Request::new(said("x"))).await.expect("a peer does not cut a member off by itself");
    let server = &world.servers["moj"].server;
    let version = shown_to_portal.version();
    assert!(server.store.current().load().ledger.as_ref().unwrap().seen().iter().all(|seen| seen.version != version));
    alarms(server, 1).await;
    let audit = world.directory.path().join("moj/audit");
    is_named(server, "VN/GOV/portal/ss1", version, &audit, world.anchor());
    // What lies between is part of the proof.
    let file = proved_alarms(&journal::Directory(audit)).unwrap()[0].proof().unwrap();
    let mut read: serde_json::Value = serde_json::from_slice(&file).unwrap();
    read["between"]["leaves"][0] = "00".repeat(32).into();
    assert!(split_view::verify(&serde_json::to_vec(&read).unwrap(), world.anchor()).is_err());
    read.as_object_mut().unwrap().remove("between");
    assert!(split_view::verify(&serde_json::to_vec(&read).unwrap(), world.anchor()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_shows_one_server_both_histories_is_named_by_that_server() {
    let world = World::new().await;
    let [ours, theirs] = two_views(&world);
    shows(&world, "portal", &ours);
    let server = &world.servers["portal"].server;
    let refused = server.store.apply(theirs.files(), world.now());
    assert!(matches!(refused, Err(NotApplied::Rejected(_))), "{refused:?}");
    alarms(server, 1).await;
    let audit = world.directory.path().join("portal/audit");
    is_named(server, "VN/GOV/portal/ss1", ours.version(), &audit, world.anchor());
}

/// A registry was upgraded before its servers: what they took since has no checkpoint in their stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_upgraded_after_its_registry_starts_and_holds_the_next_checkpoint() {
    let world = World::new().await;
    let mut stored = world.publication.files().clone();
    stored.retain(|name, _| !name.ends_with(".checkpoint.json"));
    let anchor = Anchor::read(Bytes::copy_from_slice(world.anchor())).unwrap();
    let joining = anchor.first(&stored, world.now()).unwrap_err();
    assert!(matches!(joining, Rejected::Missing { .. }), "nobody is given a version without it: {joining}");
    let loaded = Trusted::load(&anchor, &stored).unwrap();
    assert_eq!(loaded.configuration().ledger, None);
    let (next, _) = world.publication.re_signed(&world.keys, world.now()).unwrap();
    let given = next.since_checkpoint(loaded.version(), 0);
    let given: Files = given.iter().map(|file| (file.name.clone(), file.content.clone())).collect();
    let taken = update(&loaded, &given, world.now()).unwrap();
    assert_eq!(taken.configuration().ledger.as_ref().unwrap().ledger.next(), next.version() + 1);
}

async fn call(consumer: &Member, provider: &Member) -> Result<(), tonic::Status> {
    client(consumer, provider).unary(Said::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_serves_two_views_is_found_out_by_one_call() {
    let (service, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(service).await;
    call(&portal, &moj).await.unwrap();

    // The same registry twice from here on, each with what the other decides left out: two views, each rightly signed.
    realm.stop(&moj).await;
    realm.stop_registry().await;
    copy(&realm.path("registry"), &realm.path("other"));
    realm.serve_registry().await;
    let listen = reserved();
    let other = central_registry::start(central_registry::Settings {
        timestamping: Vec::new(),
        directory: realm.path("other"),
        listen,
        public: None,
        passphrase: realm.passphrase.clone(),
        clock: {
            let clock = realm.clock();
            Arc::new(move || clock.now())
        },
    })
    .await
    .unwrap();
    let file = realm.directory.path().join(moj.file());
    let text = fs::read_to_string(&file).unwrap();
    let of = realm.registry().address().to_string();
    assert_eq!(text.matches(&of).count(), 1, "{text}");
    fs::write(&file, text.replace(&of, &listen.to_string())).unwrap();
    realm.serve(&moj).await;
    let version = other.version();
    assert_eq!(version, realm.registry().version());
    realm.in_force(version).await;

    let _ = call(&portal, &moj).await;
    let server = &realm.servers[moj.name].server;
    alarms(server, 1).await;
    let (audit, anchor) = (realm.path(moj.name).join("audit-log"), realm.registry().anchor().to_vec());
    is_named(server, "VN/GOV/portal/ss1", version, &audit, &anchor);
    realm.stops().await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_long_follows_by_the_pages_of_the_ledger() {
    let (service, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(service).await;
    realm.stop(&portal).await;
    for _ in 0..20 {
        realm.registry().sign_again().await.unwrap();
    }
    // Also after a start of the registry, which reads the pages again, and without them from the journal.
    realm.stop_registry().await;
    fs::remove_dir_all(realm.path("registry").join("public/ledger")).unwrap();
    realm.serve_registry().await;
    realm.serve(&portal).await;
    let version = realm.settled().await;
    let ledger = realm.servers[portal.name].server.store.current().load().ledger.clone().unwrap();
    assert_eq!(ledger.ledger.next(), version + 1);
    call(&portal, &moj).await.unwrap();
    for started in realm.servers.values() {
        assert_eq!(health(&started.server), Vec::<String>::new());
    }
    realm.stops().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if from.is_file() {
            fs::copy(from, to).unwrap();
        }
    }
}
