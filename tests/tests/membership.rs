//! The life of a member, of its servers and of their keys, decided at the registry and in force on the whole bus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::sync::Arc;
use std::time::Duration;

use checks::Outcome;
use checks::keys::Unlock;
use command_line::Paint;
use journal::Directory;
use prost::Message;
use proto::head::Head;
use proto::record::Kind;
use proto::registration::{Order, Revocation};
use proto::signature::KeyId;
use proto::wire::registry as wire;
use proto::wire::relay::KeyChange;
use security_server::audit::Actor;
use security_server::keys::ring::Use;
use security_server::listen::operators;
use security_server::renewal::KeyState;
use security_server::{Started, doctor, evidence, shown};
use tests::echo::{Parrot, said, says};
use tests::processes::{Instance, Member, client};
use tests::realm::{Realm, member_id, server_id, shown_by};
use tests::soon;
use tests::wire::Said;
use tokio::sync::{RwLock, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

fn refusal(status: &Status) -> &str {
    status.metadata().get("causeway-refusal").expect("a refusal").to_str().unwrap()
}

/// A stream that has been heard once.
async fn stream(consumer: &Member, provider: &Member) -> (mpsc::Sender<Said>, Streaming<Said>) {
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(client(consumer, provider).both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("before")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));
    (sender, answers)
}

fn key(listed: &wire::Key) -> KeyId {
    KeyId::try_from(&listed.key[..]).unwrap()
}

fn revoked(key: KeyId) -> Order {
    Order::Revoke(Revocation { key, reason: "stolen".parse().unwrap(), last_head: None })
}

/// A unary call; its exchange's id.
async fn called(consumer: &Member, provider: &Member) -> String {
    let answer = soon(client(consumer, provider).unary(said("a call"))).await.unwrap();
    answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_registry_revokes_stops_open_streams_and_opens_no_other_while_the_clock_stands_still() {
    let (address, _heard) = Parrot::serve().await;
    let cases = [
        ("portal", "authentication", "UNPROVEN"),
        ("portal", "signing", "UNPROVEN"),
        ("moj", "authentication", "PROVIDER_UNREACHABLE"),
        ("moj", "signing", "ACCESS_ENDED"),
    ];
    futures_util::future::join_all(cases.map(async |(whose, what, refused)| {
        let (realm, portal, moj) = Realm::of_two(address).await;
        let (_sender, mut answers) = stream(&portal, &moj).await;
        let registered = realm.registered(if whose == "moj" { &moj } else { &portal }).await;
        let listed = if what == "signing" { &registered.signing[0] } else { &registered.servers[0].authentication[0] };
        let version = realm.decided(revoked(key(listed))).await;
        // Nobody says anything any more, and no time passes: the revocation itself stops it.
        let status = soon(answers.message()).await.unwrap_err();
        assert_eq!(refusal(&status), "ACCESS_ENDED", "{whose} {what}");
        realm.in_force(version).await;
        let status = soon(client(&portal, &moj).unary(said("after"))).await.unwrap_err();
        assert_eq!(refusal(&status), refused, "{whose} {what}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_the_registry_suspends_is_stopped_everywhere_in_what_runs_while_the_clock_stands_still() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    for (whose, refused) in [(&portal, "MEMBER_SUSPENDED"), (&moj, "PROVIDER_SUSPENDED")] {
        let (_sender, mut answers) = stream(&portal, &moj).await;
        let member = member_id(whose);
        let version = realm.decided(Order::Suspend(member.clone(), "a test".parse().unwrap())).await;
        let status = soon(answers.message()).await.unwrap_err();
        assert_eq!(refusal(&status), "ACCESS_ENDED", "{member}");
        realm.in_force(version).await;
        // The connection is up still: it is the next message that is refused.
        let status = soon(client(&portal, &moj).unary(said("after"))).await.unwrap_err();
        assert_eq!(refusal(&status), refused, "{member}");
        let version = realm.decided(Order::Restore(member)).await;
        realm.in_force(version).await;
        called(&portal, &moj).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_replaced_and_is_revoked_before_it_ends_stops_what_runs_on_it_and_nothing_else() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let started = &realm.servers["portal"];
    let renewal = started.server.renewal.as_ref().unwrap();
    for what in Use::ALL {
        let stolen = realm.in_use(&portal)[what as usize].clone();
        let (_sender, mut old) = stream(&portal, &moj).await;
        renewal.rotate(&started.server, what, true, operator()).await.unwrap();
        let number = |key: &KeyState| key.what != what || key.number == 2;
        realm.keys_are(started, |keys| keys.iter().all(number)).await;
        realm.settled().await;
        let (sender, mut new) = stream(&portal, &moj).await;
        realm.in_force(realm.decided(revoked(stolen.parse().unwrap())).await).await;
        let status = soon(old.message()).await.unwrap_err();
        assert_eq!(refusal(&status), "ACCESS_ENDED", "{what:?}");
        sender.send(said("still")).await.unwrap();
        assert_eq!(soon(new.message()).await.unwrap(), Some(said("still")), "{what:?}");
    }
    // A stream that was sealed with two keys rests on both: it stops though it began under the one that stays.
    let (sender, mut answers) = stream(&portal, &moj).await;
    renewal.rotate(&started.server, Use::Signing, true, operator()).await.unwrap();
    realm.keys_are(started, |keys| keys.iter().all(|key| key.what != Use::Signing || key.number == 3)).await;
    realm.settled().await;
    sender.send(said("under the next")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("under the next")));
    let stolen = realm.in_use(&portal)[1].clone();
    realm.in_force(realm.decided(revoked(stolen.parse().unwrap())).await).await;
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&status), "ACCESS_ENDED");
    looked(started).await;
    assert_eq!(started.server.health().raised, ["keys_unusable"]);
    assert!(!started.server.health().ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_signed_with_the_key_in_use_whatever_key_sealed_its_messages_and_never_with_a_revoked_one() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let exchange = called(&portal, &moj).await.parse().unwrap();
    // With it the first one's seals are on disk.
    called(&portal, &moj).await;
    let anchor = std::fs::read(realm.path("registry/anchor.json")).unwrap();
    let started = &realm.servers["moj"];
    let server = &started.server;
    let made = || {
        let file = evidence::file(server, exchange, &server.message_log.find(exchange).unwrap()).unwrap();
        evidence::container(server, &file)
    };
    let signed = |container: &[u8]| {
        let report = proto::evidence::verify(container, &anchor).unwrap();
        assert!(report.holds(), "{report}");
        report.proven.last().unwrap().clone()
    };
    // Enough keys that one is of a shard of revocations which the evidence alone does not show.
    let mut keys = vec![realm.in_use(&moj)[1].clone()];
    for number in 2..4 {
        server.renewal.as_ref().unwrap().rotate(server, Use::Signing, true, operator()).await.unwrap();
        realm.keys_are(started, |keys| keys.iter().all(|key| key.what != Use::Signing || key.number == number)).await;
        realm.settled().await;
        keys.push(realm.in_use(&moj)[1].clone());
        let said = signed(&made().unwrap());
        assert!(said.contains(&keys[keys.len() - 1]) && !said.contains(&keys[keys.len() - 2]), "{said}");
    }
    let container = made().unwrap();
    realm.in_force(realm.decided(revoked(keys[2].parse().unwrap())).await).await;
    let refused = made().unwrap_err().to_string();
    assert!(refused.contains("the container is not signed: its key is none of the holder's"), "{refused}");
    // What it says of revocations it says of its own version, as all evidence does.
    signed(&container);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sealed_under_the_last_head_of_a_revoked_key_stays_proven_and_nothing_else() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let exchanges = [called(&portal, &moj).await, called(&portal, &moj).await];
    let anchor = std::fs::read(realm.path("registry/anchor.json")).unwrap();
    let server = &realm.servers["moj"].server;
    let file = |exchange: &String| {
        let exchange = exchange.parse().unwrap();
        evidence::file(server, exchange, &server.message_log.find(exchange).unwrap())
    };
    // What the provider holds of the second request, sealed by the portal: its end may have come as a message of its own.
    let read: serde_json::Value = serde_json::from_slice(&file(&exchanges[1]).unwrap()).unwrap();
    let heads = read["messages"].as_array().unwrap().iter().map(|message| {
        let seal =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, message["seal"].as_str().unwrap());
        let seal: proto::wire::relay::Seal = prost::Message::decode(&seal.unwrap()[..]).unwrap();
        Head::parse(&seal.head).unwrap()
    });
    let heads: Vec<Head> = heads.collect();
    let of_the_portal = heads.iter().filter(|head| head.tree == heads[0].tree);
    let last_head = *of_the_portal.max_by_key(|head| head.size).unwrap();

    let stolen = key(&realm.registered(&portal).await.signing[0]);
    let verified = |exchange: &String| {
        let report = proto::evidence::verify(&file(exchange).unwrap(), &anchor).unwrap();
        report.refused().map(|finding| finding.step)
    };
    assert_eq!(exchanges.each_ref().map(verified), [None, None]);
    realm.in_force(realm.decided(revoked(stolen)).await).await;
    assert_eq!(exchanges.each_ref().map(verified), [Some("5.4.6"); 2]);
    // Its last head is found out later.
    let with_head =
        Revocation { key: stolen, reason: "the log was saved".parse().unwrap(), last_head: Some(last_head) };
    realm.in_force(realm.decided(Order::Revoke(with_head)).await).await;
    assert_eq!(exchanges.each_ref().map(verified), [Some("5.4.6"), None]);
    let status = soon(client(&portal, &moj).unary(said("after"))).await.unwrap_err();
    assert_eq!(refusal(&status), "UNPROVEN", "nothing more is exchanged with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_order_would_take_is_said_before_it_and_a_dry_run_takes_nothing() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let (sender, mut answers) = stream(&portal, &moj).await;
    let stolen = key(&realm.registered(&moj).await.servers[0].authentication[0]);
    let before = realm.registry().version();
    let foreseen = realm.admin.foresee(&revoked(stolen)).await.unwrap().changes.join("\n");
    let server = server_id(&moj).to_string();
    for word in [&server, &moj.subsystem, "1 other active members, with 1 subsystems", "not known here"] {
        assert!(foreseen.contains(word), "{word} is missing in\n{foreseen}");
    }
    assert_eq!(realm.registry().version(), before, "nothing was published");
    sender.send(said("still")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("still")));
    // A refusal is foreseen too.
    realm.order(revoked(stolen)).await.unwrap();
    let refused = realm.admin.foresee(&revoked(stolen)).await.unwrap_err();
    assert!(refused.to_string().contains("is revoked, for good"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_revokes_and_suspends_from_the_command_line_after_having_seen_what_it_takes() {
    let instance = Instance::founded().await;
    let registry = instance.serve_registry().await;
    let moj = Member::new("moj", "civil-registry");
    instance.join(&moj).await;
    let order =
        async |line: &str| instance.run(&format!("central-registry {line} --passphrase credential:registry")).await;
    let members = order("members --json").await.json();
    let listed = &members["members"][0]["servers"][0]["authentication"][0];
    let key = listed["key"].as_str().unwrap().to_owned();
    assert!(listed["revoked"].is_null() && listed["not_after"].is_string(), "{listed}");

    // Nobody is at a terminal, so nobody can be asked.
    let suspend = "suspend VN/GOV/moj --reason audit";
    let shown = order(&format!("{suspend} --dry-run")).await;
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for word in ["VN/GOV/moj", &moj.subsystem, "not known here", "nothing was changed"] {
        assert!(shown.out.contains(word), "{word} is missing in\n{}", shown.out);
    }
    let asked = order(suspend).await;
    assert_eq!(asked.code, Some(2), "{}", asked.err);
    assert!(asked.err.contains(&moj.subsystem) && asked.err.contains("add --yes"), "{}", asked.err);
    assert_eq!(order("members --json").await.json()["members"][0]["standing"], "active");
    order(&format!("{suspend} --yes")).await.well();
    assert_eq!(order("members --json").await.json()["members"][0]["standing"], "suspended");

    let unknown = order(&format!("revoke {} --reason stolen --yes", "0".repeat(64))).await;
    assert_eq!(unknown.code, Some(6), "{}", unknown.err);
    std::fs::write(instance.path("head"), "no head").unwrap();
    let headless = order(&format!("revoke {key} --reason stolen --last-head head --yes")).await;
    assert_eq!(headless.code, Some(2), "{}", headless.err);
    order(&format!("revoke {key} --reason stolen --yes")).await.well();
    let again = order(&format!("revoke {key} --reason stolen --yes")).await;
    assert_eq!(again.code, Some(3), "{}", again.err);
    let members = order("members").await;
    assert!(members.out.contains("REVOKED: stolen"), "{}", members.out);
    registry.stops().await;
}

// ---- renewal

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_each_day_by_themselves_and_nothing_stops_meanwhile() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let first = realm.in_use(&moj);
    let (sender, mut answers) = stream(&portal, &moj).await;
    for day in 1..=8 {
        realm.day().await;
        called(&portal, &moj).await;
        let [authentication, signing] = realm.in_use(&moj);
        // The next key is used when no configuration that is valid anywhere can lack it: three days and an hour.
        assert_eq!(authentication == first[0], day < 5, "day {day}");
        assert_eq!(signing, first[1], "it holds for a year");
        assert_eq!(shown_by(&moj).await, authentication, "new connections show the key in use");
        let listed = realm.registered(&moj).await.servers[0].authentication.len();
        assert_eq!(listed, usize::min(day + 1, 8), "day {day}: each stays as long as its certificate holds");
        let kept = std::fs::read_dir(realm.path("moj/keys")).unwrap().count();
        assert_eq!(kept, usize::min(day + 1, 5) + 1, "day {day}: the one in use, those that wait, the signing key");
        if day < 8 {
            sender.send(said("still")).await.unwrap();
            let heard = soon(answers.message()).await.unwrap();
            assert_eq!(heard, Some(said("still")), "day {day}: the connection of the first day goes on");
        }
    }
    // Its certificates have ended, and left the configuration.
    let ended = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&ended), "ACCESS_ENDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_gone_for_the_whole_validity_costs_no_call_and_is_asked_when_it_is_back() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    realm.day().await;
    realm.stop_registry().await;
    for _ in 0..5 {
        realm.pass(Duration::from_secs(14 * 3600));
        called(&portal, &moj).await;
    }
    // What is due is known from the disk: a restart changes nothing of it.
    realm.restart(&moj).await;
    realm.restart(&portal).await;
    called(&portal, &moj).await;
    let waited = realm.in_use(&moj);
    realm.serve_registry().await;
    realm.settled().await;
    for member in [&portal, &moj] {
        let since = realm.now().minus(Duration::from_secs(3600)).to_string();
        let renewed = |keys: &[KeyState]| keys.iter().any(|key| key.not_before.as_ref().is_some_and(|it| *it > since));
        realm.keys_are(&realm.servers[member.name], renewed).await;
    }
    assert_eq!(realm.in_use(&moj), waited, "and used when it has settled");
    called(&portal, &moj).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_off_until_its_certificate_ended_comes_back_by_itself() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    realm.stop(&moj).await;
    for _ in 0..12 {
        realm.day().await;
    }
    realm.serve(&moj).await;
    realm.settled().await;
    let started = &realm.servers["moj"];
    let renewed = |keys: &[KeyState]| keys.iter().any(|key| key.number == 2 && key.state == "in use");
    realm.keys_are(started, |keys| renewed(keys) && keys.len() == 2).await;
    let health = started.server.health();
    assert!(health.ready && health.keys == "good", "{health:?}");
    // The portal hears of it as the server itself did.
    realm.settled().await;
    called(&portal, &moj).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_is_refused_or_fails_is_alarmed_days_before_the_certificate_ends() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    let [before, _] = realm.in_use(&moj);
    let started = &realm.servers["moj"];
    let renewal = started.server.renewal.as_ref().unwrap();
    // So many good keys, and no more, does the registry give a server.
    for _ in 1..12 {
        renewal.rotate(&started.server, Use::Authentication, false, operator()).await.unwrap();
    }
    assert_eq!(started.server.health().keys_not_renewed, None);
    realm.pass(Duration::from_secs(24 * 3600));
    realm.settled().await;
    let why = realm.renewal(started, true).await;
    assert!(why.contains("authentication: the registry refused") && why.contains("good keys already"), "{why}");
    let health = started.server.health();
    assert!(health.ready, "six days before the end: {health:?}");
    assert_eq!((health.keys.as_str(), health.keys_not_renewed.as_ref()), ("good", Some(&why)));
    let (server, alarms, payloads) = (server_id(&moj), Vec::new(), Vec::new());
    let status = operators::Status { server, health, running: 0, grants: 1, alarms, payloads, payloads_hindered: None };
    let status = shown::status(&status, Paint::none());
    assert!(status.contains("not renewed") && status.contains("good keys already"), "{status}");
    let examined = doctor::Options {
        file: realm.path("moj/security-server.toml"),
        unlock: Unlock::With(realm.passphrase.clone()),
        clock: realm.clock(),
    };
    let report = doctor::examine(&examined).await;
    let line = report.checks.iter().find(|check| check.name == "renewal").unwrap();
    assert_eq!(line.outcome, Outcome::Warning, "{report}");
    assert!(line.finding.contains("good keys already"), "{report}");
    called(&portal, &moj).await;
    looked(started).await;
    assert_eq!(started.server.health().raised, [""; 0], "it was due a moment ago");
    // When the first keys have ended there is room again, and it is used by itself.
    for _ in 2..=7 {
        realm.pass(Duration::from_secs(24 * 3600));
        realm.settled().await;
        let began = realm.now().minus(Duration::from_secs(12 * 3600)).to_string();
        let renewed = |keys: &[KeyState]| keys.iter().any(|key| key.not_before.as_ref().is_some_and(|at| *at > began));
        realm.keys_are(&realm.servers["portal"], renewed).await;
    }
    looked(started).await;
    assert_eq!(started.server.health().raised, ["keys_not_renewed"], "for days");
    realm.pass(Duration::from_secs(60));
    realm.settled().await;
    realm.renewal(started, false).await;
    let another = |keys: &[KeyState]| keys.iter().any(|key| key.number == 13 && key.state == "in use");
    realm.keys_are(started, another).await;
    assert_ne!(realm.in_use(&moj)[0], before);
    looked(started).await;
    assert_eq!(started.server.health().raised, [""; 0]);
    realm.settled().await;
    called(&portal, &moj).await;

    // Out of reach is told in the same way, and heals in the same way.
    realm.stop_registry().await;
    realm.pass(Duration::from_secs(26 * 3600));
    let why = realm.renewal(&realm.servers["portal"], true).await;
    assert!(why.contains("cannot be reached"), "{why}");
    called(&portal, &moj).await;
    realm.serve_registry().await;
    realm.settled().await;
    realm.renewal(&realm.servers["portal"], false).await;
    assert_eq!(realm.servers["portal"].server.health().keys_not_renewed, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_keys_change_under_load_without_a_failed_call_and_both_sides_of_the_change_stay_proven() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let before = [realm.in_use(&portal), realm.in_use(&moj)];
    let (sender, mut answers) = stream(&portal, &moj).await;
    let old = called(&portal, &moj).await;
    // The next keys are made now, and used when everybody knows them: in 73 hours.
    for member in [&portal, &moj] {
        let started = &realm.servers[member.name];
        for what in Use::ALL {
            started.server.renewal.as_ref().unwrap().rotate(&started.server, what, false, operator()).await.unwrap();
        }
    }
    let (done, clock) = (CancellationToken::new(), Arc::new(RwLock::new(())));
    let load = (0..4).map(|_| {
        let (portal, moj, done, clock) = (portal.clone(), moj.clone(), done.clone(), Arc::clone(&clock));
        tokio::spawn(async move {
            let (mut client, mut calls) = (client(&portal, &moj), 0);
            while !done.is_cancelled() {
                let _the_clock_goes = clock.read().await;
                client.unary(said("load")).await.unwrap_or_else(|status| panic!("call {calls} failed: {status:?}"));
                calls += 1;
            }
            calls
        })
    });
    let load: Vec<_> = load.collect();
    for hours in [36, 36, 2] {
        realm.settled().await;
        // The test's clock jumps, and what was under way would be as old: nobody calls in that moment.
        let _nobody_calls = clock.write().await;
        realm.pass(Duration::from_secs(hours * 3600));
    }
    realm.settled().await;
    for member in [&portal, &moj] {
        let in_use = |keys: &[KeyState], what| {
            keys.iter().find(|key| key.what == what).is_some_and(|key| key.number == 2 && key.state == "in use")
        };
        let taken_up = |keys: &[KeyState]| Use::ALL.into_iter().all(|what| in_use(keys, what));
        realm.keys_are(&realm.servers[member.name], taken_up).await;
        // The stream that began under the first keys goes on under the second.
        sender.send(said("changed")).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(said("changed")));
    }
    let new = called(&portal, &moj).await;
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    done.cancel();
    let mut calls = 0;
    for each in load {
        calls += soon(each).await.unwrap();
    }
    assert!(calls > 0);

    let after = [realm.in_use(&portal), realm.in_use(&moj)];
    let anchor = std::fs::read(realm.path("registry/anchor.json")).unwrap();
    for (member, place) in [(&portal, 0), (&moj, 1)] {
        let server = &realm.servers[member.name].server;
        for (exchange, signed) in [(&old, &before), (&new, &after)] {
            let exchange = exchange.parse().unwrap();
            let file = evidence::file(server, exchange, &server.message_log.find(exchange).unwrap()).unwrap();
            let report = proto::evidence::verify(&file, &anchor).unwrap();
            assert!(report.holds(), "{report}");
            for key in [&signed[0][1], &signed[1][1]] {
                assert!(report.findings.iter().any(|finding| finding.explanation.contains(key.as_str())), "{report}");
            }
        }
        // The log's tree goes on, and says which key followed which.
        let change = KeyChange { before: named(&before[place][1]), after: named(&after[place][1]) };
        for log in ["message-log", "audit-log"] {
            let mut changes = Vec::new();
            journal::read(&Directory(realm.path(member.name).join(log)), None, &mut |entry| {
                if entry.record.kind() == Kind::Key {
                    let seal = entry.seal.expect("its own commit is signed");
                    changes.push((KeyChange::decode(entry.record.body()).unwrap(), seal.key));
                }
            })
            .unwrap();
            assert_eq!(changes, [(change.clone(), change.before.clone())], "{log}: signed by the key before");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_died_when_it_had_taken_up_a_key_goes_on_with_that_key_and_its_log_names_both() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    let before = realm.in_use(&moj);
    let started = &realm.servers["moj"];
    let renewal = started.server.renewal.as_ref().unwrap();
    for what in Use::ALL {
        renewal.rotate(&started.server, what, false, operator()).await.unwrap();
    }
    let waiting = renewal.keys(&started.server.store.current().load());
    realm.settled().await;
    realm.stop(&moj).await;
    // As a crash leaves it right after the step on disk: the certificates have their names, and nothing was recorded.
    for what in Use::ALL {
        let certificates = realm.path("moj/certificates");
        let name = |end: &str| certificates.join(format!("{}-2{end}.pem", what.word()));
        std::fs::rename(name(".next"), name("")).unwrap();
    }
    realm.serve(&moj).await;
    let started = &realm.servers["moj"];
    realm.keys_are(started, |keys| keys.len() == 2).await;
    let after = realm.in_use(&moj);
    for (what, place) in [(Use::Authentication, 0), (Use::Signing, 1)] {
        let second = waiting.iter().find(|key| key.what == what && key.number == 2).unwrap();
        assert_eq!((&after[place], second.state.as_str()), (&second.key, "waiting"));
    }
    called(&portal, &moj).await;
    let mut changes = Vec::new();
    journal::read(&Directory(realm.path("moj/message-log")), None, &mut |entry| {
        if entry.record.kind() == Kind::Key {
            changes.push(KeyChange::decode(entry.record.body()).unwrap());
        }
    })
    .unwrap();
    assert_eq!(changes, [KeyChange { before: named(&before[1]), after: named(&after[1]) }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_use_that_is_revoked_is_followed_at_once_by_one_that_waits() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let started = &realm.servers["moj"];
    let renewal = started.server.renewal.as_ref().unwrap();
    for what in Use::ALL {
        renewal.rotate(&started.server, what, false, operator()).await.unwrap();
    }
    realm.settled().await;
    for stolen in realm.in_use(&moj) {
        realm.decided(revoked(stolen.parse().unwrap())).await;
    }
    realm.keys_are(started, |keys| keys.len() == 2 && keys.iter().all(|key| key.number == 2)).await;
    realm.settled().await;
    assert!(started.server.health().ready);
    called(&portal, &moj).await;
}

/// The lookout's look, now.
async fn looked(started: &Started) {
    let server = Arc::clone(&started.server);
    tokio::task::spawn_blocking(move || server.look_around()).await.unwrap();
}

fn operator() -> Actor {
    Actor { token: "the test".into(), from: "here".into(), calls_itself: None }
}

fn named(key: &str) -> bytes::Bytes {
    key.parse::<KeyId>().unwrap().to_wire()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_the_keys_and_lets_another_follow_from_the_command_line() {
    let instance = Instance::founded().await;
    let registry = instance.serve_registry().await;
    let moj = Member::new("moj", "civil-registry");
    instance.join(&moj).await;
    moj.configure(instance.directory.path(), &[]);
    let mut server = instance.serve(&moj).await;
    let keys = async |line: &str| instance.run(&format!("security-server keys {line} --config {}", moj.file())).await;
    let listed = keys("list --json").await.json();
    let states: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["in use", "in use"], "{listed}");
    let foreseen = keys("rotate signing --dry-run").await.well();
    assert!(foreseen.contains("make another signing key") && foreseen.contains("73 hours"), "{foreseen}");
    let made = keys("rotate signing --json").await.json();
    assert_eq!(made["keys"][1]["state"], "waiting", "{made}");
    server.says_that("a new key was certified").await;
    keys("rotate signing --now").await.well();
    server.says_that("another key is in use").await;
    let audited = instance.run(&format!("security-server audit list --config {}", moj.file())).await.well();
    for noted in [
        "wanted another signing key, in use when everybody knows it",
        "by the token operators.token",
        "the registry certified the signing key",
        "wanted another signing key, in use as soon as it is published",
        "took the signing key",
        "the last head of the one before: causeway.v1/",
    ] {
        assert!(audited.contains(noted), "{noted:?} is missing in\n{audited}");
    }
    instance.run(&format!("security-server audit verify --config {}", moj.file())).await.well();
    let shown = keys("list").await.well();
    assert!(shown.contains("signing 2  in use") && !shown.contains("signing 1"), "{shown}");
    server.stops().await;
    registry.stops().await;
}
