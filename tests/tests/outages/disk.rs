//! The disk of the logs: low, full, failing at each write and each sync, hanging, read-only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use journal::Options;
use journal::faulty::{Fault, Faulty, Moment, Operation, Survival};
use security_server::lookout::{Alarm, LOOKS_UNTIL_IT_HANGS, LOOKS_UNTIL_REFUSED, Room};
use security_server::start;
use tests::echo::{Parrot, said, says};
use tests::raw::{self, Answer};
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::seen::{Diagnostics, ask, assert_none_is_lost, call, call_once, health, look, until};

const DISK_BYTES: u64 = 100 << 20;
const SERVERS: [&str; 2] = ["portal", "moj"];

type Disks = BTreeMap<&'static str, Arc<Faulty>>;

/// A world whose message logs are on disks of the test, with segments that are small beside them.
async fn world_on_disks(options: Options) -> (World, Disks) {
    let disks = Disks::from(SERVERS.map(|name| (name, Faulty::new())));
    let world = World::arranged(async |world| {
        world.log_options = options;
        for (name, disk) in &disks {
            disk.limit(DISK_BYTES, 0);
            world.members.get_mut(name).unwrap().log = Arc::clone(disk) as _;
        }
    })
    .await;
    world.grant_all().await;
    (world, disks)
}

fn small_segments() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::default() }
}

/// So much of it is used: by something else, but for what the log has, which is nothing beside it.
fn fill(disk: &Faulty, per_mille: u64) {
    disk.limit(DISK_BYTES, DISK_BYTES / 1000 * per_mille);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_nothing_new_lets_what_runs_end_and_is_used_again_when_it_has_room() {
    for name in SERVERS {
        let (world, disks) = world_on_disks(small_segments()).await;
        let disk = &disks[name];
        let mut acknowledged = vec![call_once(&world).await.unwrap()];
        fill(disk, 890);
        look(&world, name).await;
        assert_eq!(health(&world, name).disk, Room::Ample);

        // Nobody looks but the server itself.
        fill(disk, 900);
        until(&world, name, |health| health.disk == Room::Low && health.raised == ["disk_low"]).await;
        assert!(health(&world, name).ready, "a warning, and nothing else");
        acknowledged.push(call_once(&world).await.unwrap());

        let (sender, receiver) = mpsc::channel(1);
        let answer = soon(world.client().await.both(says(receiver))).await.unwrap();
        let running = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        let mut answers = answer.into_inner();
        fill(disk, 970);
        until(&world, name, |health| health.raised == ["disk_low", "disk_full"]).await;
        assert_eq!(call_once(&world).await, Err("LOG_FULL".into()));
        let (status, _) = ask(world.servers[name].operators, "/ready").await;
        assert_eq!(status, 503);

        // What ran goes on to its end.
        for number in 0..20 {
            sender.send(Said { number, ..said("on") }).await.unwrap();
            assert_eq!(soon(answers.message()).await.unwrap().unwrap().number, number);
        }
        drop(sender);
        assert_eq!(soon(answers.message()).await.unwrap(), None);
        world.quiet().await;
        for server in SERVERS {
            assert_eq!(world.log_of(server, &running).last().unwrap().end.as_deref(), Some("completed"), "{server}");
        }
        // So can access be taken away: an operator is not refused.
        let grant = world.grant(&["Unary"]).await;
        world.servers["moj"].server.access_rights.end(grant, "a test".into(), world.now()).await.unwrap();

        fill(disk, 100);
        until(&world, name, |health| health.ready && health.raised.is_empty()).await;
        acknowledged.push(call_once(&world).await.unwrap());
        assert_none_is_lost(&world, &acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_half_of_the_reserve_is_gone_what_runs_is_stopped_and_its_ends_are_written() {
    for (name, told) in [("portal", "LOG_FULL"), ("moj", "SHUTTING_DOWN")] {
        let (world, disks) = world_on_disks(small_segments()).await;
        let mut client = world.raw().await;
        let mut running = Vec::new();
        for _ in 0..100 {
            let (sender, response) = client.open(world.post("Both"));
            running.push((sender, soon(response).await.unwrap()));
        }
        fill(&disks[name], 986);
        look(&world, name).await;
        assert_eq!(health(&world, name).disk, Room::Spent);
        let mut exchanges = Vec::new();
        for (_sender, response) in running {
            let answer = soon(Answer::read(response)).await;
            assert_eq!(answer.refusal(), Some(told), "{name}");
            exchanges.push(answer.field("causeway-exchange").unwrap().to_owned());
        }
        world.quiet().await;
        for (exchange, server) in exchanges.iter().flat_map(|exchange| SERVERS.map(|server| (exchange, server))) {
            let log = world.log_of(server, exchange);
            assert_eq!(log.last().unwrap().kind, "closed", "{server}: {log:?}");
        }
        assert_eq!(health(&world, name).message_log, "running", "the disk was never full");
        fill(&disks[name], 0);
        look(&world, name).await;
        call_once(&world).await.unwrap();
    }
}

/// The reserve was not enough, or something else took it: the log ends as after any failed write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_does_not_fit_ends_the_log_and_a_start_with_room_recovers_it() {
    for name in SERVERS {
        let (mut world, disks) = world_on_disks(small_segments()).await;
        let mut acknowledged = vec![call_once(&world).await.unwrap()];
        world.quiet().await;
        // As much room as takes the beginning of a commit.
        let refused = loop {
            let used = DISK_BYTES - journal::Disk::space(&*disks[name]).unwrap().free;
            disks[name].limit(DISK_BYTES, DISK_BYTES - used - 100);
            match call_once(&world).await.unwrap_err() {
                // The server had looked just then.
                looked if looked == "LOG_FULL" => {
                    fill(&disks[name], 0);
                    look(&world, name).await;
                }
                refused => break refused,
            }
        };
        assert!(["LOG_ENDED", "OUTCOME_UNKNOWN"].contains(&refused.as_str()), "{refused}");
        until(&world, name, |health| health.raised.contains(&"log_ended".into())).await;
        assert_eq!(call_once(&world).await, Err("LOG_ENDED".into()));

        // Without room there is no start: it says so, and changes nothing.
        let started = world.servers.remove(name).unwrap();
        let address = started.peers;
        started.shutdown().await;
        let settings = world.settings(name, TcpListener::bind(address).await.unwrap(), false).await;
        let error = start(settings).await.err().expect("there is no room for its beginning");
        assert!(error.to_string().contains("the message log"), "{error}");
        fill(&disks[name], 0);
        world.start(name, TcpListener::bind(address).await.unwrap(), false).await;
        acknowledged.push(call_once(&world).await.unwrap());
        world.quiet().await;
        assert_none_is_lost(&world, &acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumers_disk_may_fail_at_each_write_and_each_sync() {
    fails_at_each_operation("portal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_disk_may_fail_at_each_write_and_each_sync() {
    fails_at_each_operation("moj").await;
}

/// Each commit begins a segment of its own, so that a call's life has all that a disk is ever asked for.
async fn fails_at_each_operation(name: &'static str) {
    for fault in [Fault::Lost, Fault::Kept] {
        let each_its_own = Options { segment_bytes: 1, tail_signed_within: None, ..Options::default() };
        let (mut world, mut disks) = world_on_disks(each_its_own).await;
        // The marks would see three segments of one byte: no matter here.
        let mut acknowledged = vec![call_once(&world).await.unwrap()];
        let mut tried = 0;
        loop {
            world.quiet().await;
            let before = disks[name].operations();
            disks[name].fail(tried, fault);
            let outcome = call_once(&world).await;
            world.quiet().await;
            if disks[name].operations() <= before + tried {
                break;
            }
            match outcome {
                Ok(exchange) => acknowledged.push(exchange),
                Err(code) => {
                    let expected = ["LOG_ENDED", "OUTCOME_UNKNOWN", "ANSWER_UNRECORDED"];
                    assert!(expected.contains(&code.as_str()), "{fault:?} at {tried}: {code}");
                }
            }
            until(&world, name, |health| health.raised.contains(&"log_ended".into()) && !health.ready).await;
            assert_eq!(call_once(&world).await, Err("LOG_ENDED".into()), "{fault:?} at {tried}");

            let left = match tried % 2 {
                0 => disks[name].kill(),
                _ => disks[name].power_cut(Survival::Nothing),
            };
            world.members.get_mut(name).unwrap().log = Arc::clone(&left) as _;
            disks.insert(name, left);
            world.restart(name).await;
            acknowledged.push(call_once(&world).await.unwrap_or_else(|code| panic!("{fault:?} at {tried}: {code}")));
            tried += 1;
        }
        assert!(tried >= 3 * 7, "{fault:?}: a call has three commits, each with five operations to begin its segment");
        assert_none_is_lost(&world, &acknowledged);
        for name in SERVERS {
            let open =
                acknowledged.iter().filter(|exchange| world.log_of(name, exchange).last().unwrap().kind != "closed");
            assert_eq!(open.count(), 0, "{fault:?}: each has its end at {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_hangs_what_runs_waits_and_nothing_new_joins_it() {
    for name in SERVERS {
        let (world, disks) = world_on_disks(small_segments()).await;
        call_once(&world).await.unwrap();
        world.quiet().await;
        let mut client = world.raw().await;
        let mut running = Vec::new();
        for _ in 0..200 {
            let (sender, response) = client.open(world.post("Both"));
            running.push((sender, soon(response).await.unwrap()));
        }
        let (held, until_dropped) = std::sync::mpsc::channel::<()>();
        let (arrive, mut arrived) = mpsc::unbounded_channel();
        let until_dropped = Mutex::new(until_dropped);
        disks[name].observe(move |operation, moment| {
            if matches!((operation, moment), (Operation::Sync(_), Moment::Before)) && arrive.send(()).is_ok() {
                let _ = until_dropped.lock().unwrap().recv();
            }
        });

        for (sender, _) in &mut running {
            sender.send_data(raw::message(&said("waits"))).await.unwrap();
        }
        arrived.recv().await.unwrap();
        for _ in 0..=LOOKS_UNTIL_IT_HANGS {
            look(&world, name).await;
        }
        assert!(health(&world, name).raised.contains(&"log_hangs".into()));
        for _ in 0..LOOKS_UNTIL_REFUSED {
            look(&world, name).await;
        }
        let ill = health(&world, name);
        assert_eq!((ill.ready, ill.message_log.as_str()), (false, "waiting for the disk"));
        for _ in 0..3 {
            let refused = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("later")))).await;
            // Where the provider's disk hangs, the consumer's does not.
            assert_eq!(refused.refusal(), Some("NOT_READY"));
        }
        assert_eq!(world.servers[name].server.running(), 200, "what waits goes on waiting, and nothing joins it");

        // It was slow, and no more: of what waited nothing is lost.
        drop(held);
        for (sender, response) in running {
            drop(sender);
            let answer = soon(Answer::read(response)).await;
            assert_eq!((answer.status(), answer.refusal()), (0, None));
            assert_eq!(raw::messages::<Said>(answer.body.clone()), [said("waits")]);
        }
        world.quiet().await;
        look(&world, name).await;
        assert!(health(&world, name).ready);
        call_once(&world).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_read_only_ends_the_log_and_is_no_beginning_until_it_is_writable() {
    for name in SERVERS {
        let (mut world, disks) = world_on_disks(small_segments()).await;
        let mut client = world.client().await;
        let mut acknowledged = vec![call(&mut client).await.unwrap()];
        let (sender, receiver) = mpsc::channel(1);
        let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
        sender.send(said("before")).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));

        disks[name].mount_read_only(true);
        sender.send(said("after")).await.unwrap();
        let ended = soon(answers.message()).await.unwrap_err();
        assert!(["ANSWER_UNRECORDED", "OUTCOME_UNKNOWN"].contains(&crate::seen::code(&ended).as_str()), "{ended}");
        until(&world, name, |health| health.raised.contains(&"log_ended".into())).await;
        assert_eq!(call(&mut client).await, Err("LOG_ENDED".into()));

        let started = world.servers.remove(name).unwrap();
        let address = started.peers;
        started.shutdown().await;
        let before = journal::Disk::list(&*disks[name]).unwrap();
        let settings = world.settings(name, TcpListener::bind(address).await.unwrap(), false).await;
        let error = start(settings).await.err().expect("nothing can be written").to_string();
        assert!(error.contains("read-only"), "{error}");
        assert_eq!(journal::Disk::list(&*disks[name]).unwrap(), before, "it is left as it was");

        disks[name].mount_read_only(false);
        world.start(name, TcpListener::bind(address).await.unwrap(), false).await;
        acknowledged.push(call_once(&world).await.unwrap());
        world.quiet().await;
        assert_none_is_lost(&world, &acknowledged);
    }
}

/// Health, metrics and diagnostics tell of each alarm when it begins, once, and when it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alarm_is_raised_once_and_taken_back() {
    let diagnostics = Diagnostics::of_this_process();
    let disk = Faulty::new();
    disk.limit(DISK_BYTES, 0);
    let mut world = World::new().await;
    world.log_options = small_segments();
    let (service, _heard) = Parrot::serve().await;
    world.enroll_before(service, "lighthouse", "lamp", |member| member.log = Arc::clone(&disk) as _).await;
    let began = world.now();
    let expires = world.servers["lighthouse"].server.store.current().load().expires_at;
    let minutes = |minutes: u64| std::time::Duration::from_secs(60 * minutes);

    let is = async |world: &World, raised: &[Alarm]| {
        look(world, "lighthouse").await;
        look(world, "lighthouse").await;
        let names: Vec<_> = raised.iter().map(|alarm| alarm.as_str()).collect();
        assert_eq!(health(world, "lighthouse").raised, names);
        let (_, metrics) = ask(world.servers["lighthouse"].operators, "/metrics").await;
        for alarm in Alarm::ALL {
            let line = metrics.lines().find(|line| {
                line.starts_with("causeway_alarm{")
                    && line.contains("VN/GOV/lighthouse/ss1")
                    && line.contains(&format!("\"{}\"", alarm.as_str()))
            });
            let says = line.unwrap_or_else(|| panic!("no {alarm:?} in\n{metrics}")).ends_with(" 1");
            assert_eq!(says, raised.contains(&alarm), "{alarm:?}");
        }
    };
    let cried = |alarm: Alarm| diagnostics.lines_with(&["VN/GOV/lighthouse/ss1", alarm.cry()]);
    let over = |alarm: Alarm| {
        diagnostics.lines_with(&["VN/GOV/lighthouse/ss1", &format!("\"{}\"", alarm.as_str()), "is over"])
    };

    is(&world, &[]).await;
    fill(&disk, 900);
    is(&world, &[Alarm::DiskLow]).await;
    fill(&disk, 970);
    is(&world, &[Alarm::DiskLow, Alarm::DiskFull]).await;
    fill(&disk, 0);
    is(&world, &[]).await;

    world.machines_run(minutes(2));
    is(&world, &[Alarm::ClockStuck]).await;
    world.set_time(began.plus(minutes(2)));
    is(&world, &[]).await;

    world.set_time(began.plus(minutes(11)));
    is(&world, &[Alarm::ConfigurationStale]).await;
    world.set_time(expires);
    is(&world, &[Alarm::ConfigurationStale, Alarm::ConfigurationExpired]).await;
    world.publish(|_| {}, Vec::new());
    is(&world, &[]).await;

    // Something is sealed, then the clock is set back.
    world.grant_to("lighthouse").await;
    call_once_to(&world, "lighthouse").await;
    world.quiet().await;
    world.set_time(expires.minus(minutes(2)));
    is(&world, &[Alarm::ClockBehind]).await;
    world.set_time(expires);
    is(&world, &[]).await;

    disk.fail(0, Fault::Lost);
    let refused = world.client_to("lighthouse").await.unary(said("lost")).await.unwrap_err();
    assert!(["OUTCOME_UNKNOWN", "LOG_ENDED"].contains(&crate::seen::code(&refused).as_str()), "{refused}");
    is(&world, &[Alarm::LogFinished]).await;

    let not_here = [
        Alarm::LogHangs,
        Alarm::AuditFinished,
        Alarm::LogNotStamped,
        Alarm::LogStampOverdue,
        Alarm::LogNotArchived,
        Alarm::ArchiveDiffers,
        Alarm::SegmentsNotRemoved,
        Alarm::KeysNotRenewed,
        Alarm::KeysUnusable,
        Alarm::PayloadKeysMissing,
        Alarm::SplitView,
    ];
    for alarm in Alarm::ALL.into_iter().filter(|alarm| !not_here.contains(alarm)) {
        assert_eq!(cried(alarm), 1, "{alarm:?}");
        assert_eq!(over(alarm), usize::from(alarm != Alarm::LogFinished), "{alarm:?}");
    }
}

async fn call_once_to(world: &World, provider: &str) {
    soon(world.client_to(provider).await.unary(said("hello"))).await.unwrap();
}
