//! The registry may be gone for as long as the configuration is valid; while it is there, what it publishes is in force
//! within a second.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use central_registry::command::Admin;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use keystore::{Cost, Passphrase, Source};
use proto::global_configuration::{STALE_AFTER, Standing};
use proto::registration::{Invitation, Order};
use proto::time::Time;
use security_server::clock::Clock;
use security_server::config::Configuration;
use security_server::join::{self, join};
use serde_json::Value;
use tests::echo::Parrot;
use tests::processes::{Member, SOON, Two, client};
use tests::wire::Said;
use tests::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_the_registry_is_gone_and_its_word_is_heard_when_it_is_back() {
    let (address, _heard) = Parrot::serve().await;
    let (two, [registry, mut portals, mojs]) = Two::before(address).await;
    let (instance, moj) = (&two.instance, &two.moj);
    portals.has_said("watching the registry").await;

    registry.kill().await;
    portals.says_that("the registry is not being followed").await;
    let mut client = two.client();
    client.unary(Said::default()).await.unwrap();

    // A server that starts while it is gone starts with what it has.
    mojs.stops().await;
    let mojs = instance.serve(moj).await;
    client.unary(Said::default()).await.unwrap();
    let status = instance.run(&format!("security-server status --json --config {}", moj.file())).await.json();
    assert_eq!(status["health"]["configuration"], "fresh", "{status}");

    let registry = instance.serve_registry().await;
    portals.says_that("a new global configuration is in force").await;
    client.unary(Said::default()).await.unwrap();
    for process in [portals, mojs, registry] {
        process.stops().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_fresh_then_stale_then_expired_by_the_clock_and_expired_nothing_is_exchanged() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    let configuration = world.servers["portal"].server.store.current().load();
    let (signed, expires) = (configuration.signed_at, configuration.expires_at);
    let instant = Duration::from_millis(1);
    for (now, freshness) in [
        (signed.plus(STALE_AFTER).minus(instant), "fresh"),
        (signed.plus(STALE_AFTER), "stale"),
        (expires.minus(instant), "stale"),
    ] {
        world.set_time(now);
        client.unary(Said::default()).await.unwrap();
        for started in world.servers.values() {
            let (status, health) = ask(started.operators, "/ready").await;
            assert_eq!((status, &health["configuration"]), (200, &freshness.into()), "{health}");
        }
    }

    world.set_time(expires);
    let refused = client.unary(Said::default()).await.unwrap_err();
    assert_eq!(refused.metadata().get("causeway-refusal").unwrap(), "CONFIGURATION_EXPIRED", "{refused}");
    for started in world.servers.values() {
        let (status, health) = ask(started.operators, "/ready").await;
        assert_eq!((status, &health["configuration"]), (503, &"expired".into()), "{health}");
        let (status, _) = ask(started.operators, "/health").await;
        assert_eq!(status, 200, "it lives, and says what it lacks");
    }

    // Signed again: in force at once, nothing was restarted.
    world.publish(|_| {}, Vec::new());
    client.unary(Said::default()).await.unwrap();
    for started in world.servers.values() {
        let (status, health) = ask(started.operators, "/ready").await;
        assert_eq!((status, &health["configuration"]), (200, &"fresh".into()), "{health}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_is_in_force_within_a_second_on_a_connected_server_while_the_clock_stands_still() {
    let directory = tempfile::tempdir().unwrap();
    let now = Time::from_millis(1_800_000_000_000);
    let (passphrase, clock) = (Passphrase::random(), Arc::new(move || now) as central_registry::Clock);
    let begun = central_registry::init(
        &directory.path().join("registry"),
        central_registry::Options {
            instance: "VN".parse().unwrap(),
            name: "Country".parse().unwrap(),
            admin: "admin".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
            others: Vec::new(),
            persons_threshold: 1,
            root_keys: 1,
            root_threshold: 1,
            unlock: Source::Prompt,
            passphrase: passphrase.clone(),
            cost: Cost::dangerously_cheap(),
        },
        &clock,
    )
    .unwrap();
    let registry = central_registry::start(central_registry::Settings {
        timestamping: Vec::new(),
        directory: begun.directory.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        public: None,
        passphrase: passphrase.clone(),
        clock: clock.clone(),
    })
    .await
    .unwrap();
    let admin = Admin {
        instance: "VN".parse().unwrap(),
        registry: registry.address().to_string().parse().unwrap(),
        fingerprint: registry.fingerprint(),
        key: keystore::open(&begun.directory.join("admin-admin.pem"), &passphrase).unwrap(),
        clock,
    };

    let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
    for member in [&portal, &moj] {
        let id = format!("VN/GOV/{}", member.name);
        let invitation = admin
            .invite(&Order::Invite(Invitation {
                member: id.parse().unwrap(),
                name: Some(member.name.parse().unwrap()),
                server: format!("{id}/ss1").parse().unwrap(),
                subsystems: vec![member.subsystem.parse().unwrap()],
                valid: Duration::from_secs(3600),
            }))
            .await
            .unwrap();
        let options = join::Options {
            directory: directory.path().join(member.name),
            registry: invitation.registry,
            fingerprint: invitation.fingerprint,
            anchor_digest: invitation.anchor_digest,
            server: format!("{id}/ss1").parse().unwrap(),
            address: member.peers.to_string().parse().unwrap(),
            subsystems: Vec::new(),
            token: invitation.token,
            passphrase: passphrase.clone(),
            cost: Cost::dangerously_cheap(),
            unlock: Source::Prompt,
            clock: Clock::from_fn(move || now),
        };
        let asked = join::ask(&options).await.unwrap();
        admin.submit(&Order::Approve(asked.request.parse().unwrap())).await.unwrap();
        join(options).await.unwrap();
        member.configure(directory.path(), &[]);
    }
    let configuration = Configuration::read(&directory.path().join(portal.file())).unwrap();
    let settings = configuration.settings(&passphrase, Clock::from_fn(move || now)).await.unwrap();
    let server = security_server::start(settings).await.unwrap();
    let mut versions = server.server.store.current().versions();
    let signed = registry.sign_again().await.unwrap();
    let connected = tokio::time::timeout(SOON, versions.wait_for(|version| *version >= signed)).await;
    connected.unwrap().unwrap();

    let suspended = "VN/GOV/moj".parse().unwrap();
    let began = Instant::now();
    admin.submit(&Order::Suspend(suspended, "a test".parse().unwrap())).await.unwrap();
    let in_force = tokio::time::timeout(SOON, versions.wait_for(|version| *version > signed)).await;
    in_force.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let configuration = server.server.store.current().load();
    assert_eq!(configuration.members[&"VN/GOV/moj".parse().unwrap()].standing, Standing::Suspended);
    assert_eq!(configuration.signed_at, now, "the clock stood still");
    let refused = client(&portal, &moj).unary(Said::default()).await.unwrap_err();
    assert_eq!(refused.metadata().get("causeway-refusal").unwrap(), "PROVIDER_SUSPENDED", "{refused}");
    server.shutdown().await;
    registry.shutdown().await;
}

/// Asks an operators' door: status and answer.
async fn ask(door: std::net::SocketAddr, path: &str) -> (u16, Value) {
    let stream = tokio::net::TcpStream::connect(door).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", door.to_string()).body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = requests.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}
