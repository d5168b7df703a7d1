//! The registry is gone for as long as the configuration is valid, and longer.

use std::time::Duration;

use proto::global_configuration::STALE_AFTER;
use tests::echo::{said, says};
use tests::soon;
use tests::world::World;
use tokio::sync::mpsc;

use crate::seen::{call_once, code, health, look};

const SERVERS: [&str; 2] = ["portal", "moj"];
const INSTANT: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_a_configuration_survives_restarts_and_calls_go_on_to_its_last_instant() {
    let mut world = World::new().await;
    let configuration = world.servers["portal"].server.store.current().load();
    let (signed, expires) = (configuration.signed_at, configuration.expires_at);
    for (now, age) in [
        (signed.plus(STALE_AFTER).minus(INSTANT), "fresh"),
        (signed.plus(STALE_AFTER), "stale"),
        (expires.minus(INSTANT), "stale"),
    ] {
        world.set_time(now);
        for name in SERVERS {
            world.restart(name).await;
            assert_eq!(health(&world, name).configuration, age, "{name}");
            assert!(health(&world, name).ready, "{name}");
        }
        call_once(&world).await.unwrap();
    }

    world.set_time(expires);
    for name in SERVERS {
        world.restart(name).await;
        let ill = health(&world, name);
        assert_eq!((ill.ready, ill.configuration.as_str()), (false, "expired"), "{name}");
        assert_eq!(ill.raised, ["configuration_stale", "configuration_expired"], "{name}: from the first moment on");
    }
    assert_eq!(call_once(&world).await, Err("CONFIGURATION_EXPIRED".into()));

    // It is back, a day later.
    world.set_time(expires.plus(Duration::from_secs(24 * 3600)));
    world.publish(|_| {}, Vec::new());
    call_once(&world).await.unwrap();
    for name in SERVERS {
        look(&world, name).await;
        assert!(health(&world, name).raised.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_by_name_when_the_configuration_does() {
    let world = World::new().await;
    let expires = world.servers["portal"].server.store.current().load().expires_at;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("before")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));
    world.set_time(expires);
    sender.send(said("after")).await.unwrap();
    let ended = soon(answers.message()).await.unwrap_err();
    assert_eq!(code(&ended), "CONFIGURATION_EXPIRED");
    world.quiet().await;
}

/// What a clock once said is kept: it cannot be unsaid by setting it back, not even while the server is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_configuration_is_not_in_force_again_when_the_clock_is_set_back() {
    let mut world = World::new().await;
    let began = world.now();
    let expires = world.servers["portal"].server.store.current().load().expires_at;
    world.set_time(expires);
    // Nobody calls: the servers themselves find it.
    for name in SERVERS {
        look(&world, name).await;
    }
    world.set_time(began);
    assert_eq!(call_once(&world).await, Err("CONFIGURATION_EXPIRED".into()));
    for name in SERVERS {
        world.restart(name).await;
        let ill = health(&world, name);
        assert_eq!((ill.ready, ill.configuration.as_str()), (false, "expired"), "{name}");
    }
    assert_eq!(call_once(&world).await, Err("CONFIGURATION_EXPIRED".into()));
    // Only one that was signed again is.
    world.publish(|_| {}, Vec::new());
    call_once(&world).await.unwrap();
    for name in SERVERS {
        world.restart(name).await;
        assert!(health(&world, name).ready);
    }
    call_once(&world).await.unwrap();
}
