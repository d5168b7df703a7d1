//! The clock of one server, or of all, is wrong.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use journal::Directory;
use serde_json::Value;
use tests::echo::{said, says};
use tests::raw::Answer;
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::world::{OPERATORS_TOKEN, World};
use tokio::sync::mpsc;

use crate::seen::{assert_none_is_lost, call_once, health, look};

const SERVERS: [&str; 2] = ["portal", "moj"];
const MINUTE: i64 = 60;
const DAY: i64 = 24 * 3600;

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

/// Calls go on all the time: before, while the clock is wrong, and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_is_named_and_when_it_is_right_calls_pass_again() {
    for name in SERVERS {
        let world = World::new().await;
        let mut acknowledged = Vec::new();
        for wrong in [61, -61, 10 * MINUTE, -10 * MINUTE, 2 * DAY, -2 * DAY, 400 * DAY] {
            acknowledged.push(call_once(&world).await.unwrap());
            world.skew(name, wrong);
            let refused = call_once(&world).await.unwrap_err();
            let named = match (name, wrong) {
                // It has sealed by the right time: it knows that it is behind.
                (_, ..0) => "NOT_READY",
                (_, wrong) if wrong == 400 * DAY => "CONFIGURATION_EXPIRED",
                _ => "NOT_FRESH",
            };
            assert_eq!(refused, named, "{name} is wrong by {wrong} s");
            look(&world, name).await;
            world.skew(name, 0);
            if wrong == 400 * DAY {
                // It is expired for good, until it is signed again.
                assert_eq!(call_once(&world).await, Err("CONFIGURATION_EXPIRED".into()), "{name}");
                break;
            }
            // What was sealed by a clock that was ahead counts: this server waits until its clock is there.
            if name == "portal" && wrong > 0 {
                assert_eq!(call_once(&world).await, Err("NOT_READY".into()), "{name} was ahead by {wrong} s");
                look(&world, name).await;
                let ill = health(&world, name);
                assert!(!ill.ready && ill.raised.contains(&"clock_behind".to_owned()), "{:?}", ill.raised);
                assert_eq!(ill.clock_behind_ms, wrong.unsigned_abs() * 1000);
                world.set_time(world.now().plus(seconds(wrong)));
            }
        }
        world.quiet().await;
        assert_none_is_lost(&world, &acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_within_a_minute_of_each_other_disturb_nobody() {
    let world = World::new().await;
    for (portal, moj) in [(30, -30), (-30, 30), (0, 60), (60, 0)] {
        world.set_time(world.now().plus(seconds(120)));
        world.skew("portal", portal);
        world.skew("moj", moj);
        call_once(&world).await.unwrap();
    }
}

/// What is sealed though the configuration expired is an end, and an end does not hold the clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_years_under_load_and_back_is_forgotten_with_the_next_configuration() {
    for restarted in [false, true] {
        let mut world = World::new().await;
        let acknowledged = call_once(&world).await.unwrap();
        let began = world.now();
        let (sender, receiver) = mpsc::channel(1);
        let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
        sender.send(said("before")).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));

        world.set_time(began.plus(seconds(400 * DAY)));
        sender.send(said("after")).await.unwrap();
        soon(answers.message()).await.unwrap_err();
        world.quiet().await;
        for name in SERVERS {
            if restarted {
                world.restart(name).await;
            }
            look(&world, name).await;
        }
        world.set_time(began);
        if restarted {
            for name in SERVERS {
                world.restart(name).await;
            }
        }
        assert_eq!(call_once(&world).await, Err("CONFIGURATION_EXPIRED".into()));
        world.publish(|_| {}, Vec::new());
        let again = call_once(&world).await.unwrap();
        world.quiet().await;
        assert_none_is_lost(&world, &[acknowledged, again]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stands_still_is_noticed_and_so_is_that_it_goes_again() {
    let world = World::new().await;
    call_once(&world).await.unwrap();
    world.machines_run(seconds(60));
    look(&world, "portal").await;
    call_once(&world).await.unwrap();
    world.machines_run(seconds(1));
    for name in SERVERS {
        look(&world, name).await;
    }
    assert_eq!(call_once(&world).await, Err("NOT_READY".into()));
    let ill = health(&world, "portal");
    assert_eq!((ill.ready, ill.raised), (false, vec!["clock_stuck".to_owned()]));

    world.set_time(world.now().plus(seconds(122)));
    for name in SERVERS {
        look(&world, name).await;
    }
    call_once(&world).await.unwrap();
}

/// Both servers were two days ahead, and exchanged messages. The operators' word brings them back, and what was received
/// meanwhile, before and after, is received once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_accept_a_clock_that_was_wrong_and_no_opening_is_taken_twice_for_it() {
    let mut world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let began = world.now();
    let ahead = began.plus(seconds(2 * DAY));
    let opening = async |world: &World| rogue.seal(rogue.opening(world)).await;
    let say = async |world: &World, frame: &_| {
        let answer: Answer = rogue::say(&mut rogue.connect(world, "moj").await, frame).await;
        answer.refusal().map(ToOwned::to_owned)
    };
    let before = opening(&world).await;
    assert_eq!(say(&world, &before).await, None);
    world.set_time(ahead);
    let meanwhile = opening(&world).await;
    assert_eq!(say(&world, &meanwhile).await, None);
    let acknowledged = call_once(&world).await.unwrap();
    world.quiet().await;

    // Not by a restart either does the first come back into its minute.
    world.restart("moj").await;
    world.set_time(began);
    for name in SERVERS {
        world.restart(name).await;
        look(&world, name).await;
        let ill = health(&world, name);
        assert_eq!((ill.ready, ill.clock_behind_ms), (false, 2 * 24 * 3600 * 1000), "{name}");
    }
    assert_eq!(call_once(&world).await, Err("NOT_READY".into()));
    assert_eq!(say(&world, &before).await.as_deref(), Some("NOT_READY"));

    for name in SERVERS {
        let (status, accepted) = accept(&world, name, "the NTP server was wrong; now by the radio clock").await;
        assert_eq!((status, accepted["clock"].as_str()), (200, Some(began.to_string().as_str())), "{name}: {accepted}");
    }
    let again = call_once(&world).await.unwrap();
    assert_eq!(say(&world, &before).await.as_deref(), Some("REPLAYED"));
    assert_eq!(say(&world, &meanwhile).await.as_deref(), Some("NOT_FRESH"));
    world.quiet().await;

    // It is kept, and the index is a view of it.
    for name in SERVERS {
        let started = world.servers.remove(name).unwrap();
        let address = started.peers;
        started.shutdown().await;
        let index = world.directory.path().join(name).join("index");
        if name == SERVERS[0] {
            std::fs::write(index.join("conf"), b"no parameters of sled's").unwrap();
        } else {
            std::fs::remove_dir_all(index).unwrap();
        }
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        world.start(name, listener, false).await;
        assert!(health(&world, name).ready, "{name}");
    }
    assert_eq!(say(&world, &before).await.as_deref(), Some("REPLAYED"));
    let last = call_once(&world).await.unwrap();

    // When its minute has truly come, what was received then is known.
    world.set_time(ahead);
    world.publish(|_| {}, Vec::new());
    assert_eq!(say(&world, &meanwhile).await.as_deref(), Some("REPLAYED"));
    world.restart("moj").await;
    assert_eq!(say(&world, &meanwhile).await.as_deref(), Some("REPLAYED"));
    world.quiet().await;
    assert_none_is_lost(&world, &[acknowledged, again, last]);

    let mut entries = Vec::new();
    let audit = Directory(world.directory.path().join("portal/audit"));
    journal::read(&audit, None, &mut |entry| entries.push(String::from_utf8_lossy(&entry.record.body()).into_owned()))
        .unwrap();
    let recorded = entries.iter().filter(|entry| entry.contains("clock_accepted") && entry.contains("radio clock"));
    assert_eq!(recorded.count(), 1, "{entries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_is_not_accepted_without_a_reason_without_need_or_where_it_is_wrong_still() {
    let mut world = World::new().await;
    let refused = async |world: &World, reason: &str, why: &str| {
        let (status, answer) = accept(world, "portal", reason).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    };
    refused(&world, "for nothing", "nothing to accept").await;
    let began = world.now();
    world.set_time(began.plus(seconds(2 * DAY)));
    call_once(&world).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    world.set_time(began);
    refused(&world, " ", "--reason").await;
    refused(&world, "it runs", "1 exchanges still run").await;
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    world.quiet().await;
    world.set_time(began.minus(seconds(DAY)));
    refused(&world, "it is right, I think", "set the clock first").await;
    world.set_time(began.plus(seconds(4 * DAY)));
    refused(&world, "it is right, I think", "restore the connection to the registry").await;
    // Who has no token says nothing.
    let (status, _) = post(&world, "portal", "no token", "it is right").await;
    assert_eq!(status, 401);

    world.set_time(began);
    let (status, _) = accept(&world, "portal", "the radio clock says so").await;
    assert_eq!(status, 200);
    // The other's clock was right all the time, as far as it knows: it has its own operator.
    assert_eq!(call_once(&world).await, Err("NOT_READY".into()));
    accept(&world, "moj", "the radio clock says so").await;
    call_once(&world).await.unwrap();
    world.restart("portal").await;
    call_once(&world).await.unwrap();
}

async fn accept(world: &World, name: &str, reason: &str) -> (u16, Value) {
    post(world, name, OPERATORS_TOKEN, reason).await
}

async fn post(world: &World, name: &str, token: &str, reason: &str) -> (u16, Value) {
    let door = world.servers[name].operators;
    let stream = tokio::net::TcpStream::connect(door).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("/v1/clock/accept")
        .header("host", door.to_string())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::<bytes::Bytes>::from(serde_json::json!({ "reason": reason }).to_string()))
        .unwrap();
    let response = requests.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}
