//! The life of a member, of its servers and of their keys, decided at the registry and in force on the whole bus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use proto::head::Head;
use proto::registration::{Order, Revocation};
use proto::signature::KeyId;
use proto::wire::registry as wire;
use security_server::evidence;
use tests::echo::{Parrot, said, says};
use tests::processes::{Instance, Member, client};
use tests::realm::{Realm, server_id};
use tests::soon;
use tests::wire::Said;
use tokio::sync::mpsc;
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
    // What the provider holds of the second request, sealed by the portal.
    let read: serde_json::Value = serde_json::from_slice(&file(&exchanges[1]).unwrap()).unwrap();
    let seal = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        read["messages"][0]["seal"].as_str().unwrap(),
    );
    let seal: proto::wire::relay::Seal = prost::Message::decode(&seal.unwrap()[..]).unwrap();
    let last_head = Head::parse(&seal.head).unwrap();

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
