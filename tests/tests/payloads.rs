//! Payloads are kept where the configuration says so, encrypted, for as long as it says, and are proven by evidence; what is erased
//! is erased, and the proof of all else stays (proto/journal/FORMAT.md 9).

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use journal::faulty::Faulty;
use journal::{Disk, Entry};
use prost::Message;
use proto::message::{Direction, Header};
use proto::refusal::Code;
use proto::time::Time;
use proto::wire::relay as wire;
use security_server::access_rights::Proposal;
use security_server::evidence::MAX_PAYLOADS_BYTES;
use security_server::payloads::{Keep, PAYLOAD_KEYS, Policy};
use serde_json::{Value, json};
use tests::echo::{Parrot, said, says};
use tests::processes::{SOON, Two};
use tests::wire::Said;
use tests::world::World;
use tests::{operator, raw, soon};
use tokio::sync::mpsc;

const BOTH: [&str; 2] = ["portal", "moj"];
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world in which these members' servers keep what is exchanged with the echo service.
async fn keeping(names: &[&'static str], keep: Keep) -> World {
    let world = World::arranged(async |world| names.iter().for_each(|name| world.keep(name, Some(keep)))).await;
    world.grant_all().await;
    world
}

/// The exchange in which this was said and said back.
async fn exchanged(world: &World, text: &str) -> String {
    let answer = soon(world.client().await.unary(said(text))).await.unwrap();
    let exchange = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    assert_eq!(answer.into_inner(), said(text));
    world.quiet().await;
    exchange
}

async fn ask(world: &World, name: &str, path: &str) -> Value {
    soon(operator::get(world.servers[name].operators, path)).await
}

/// Its evidence out of this member's log, with both ends, verified with the anchor alone.
async fn evidence(world: &World, name: &str, exchange: &str, payloads: bool) -> (Value, proto::evidence::Report) {
    for _ in 0..20 {
        let file = ask(world, name, &format!("/v1/exchanges/{exchange}/evidence?payloads={payloads}")).await;
        let messages = file["messages"].as_array().into_iter().flatten();
        if messages.filter(|message| header(message).end.is_some()).count() == 2 {
            let report = proto::evidence::verify(&serde_json::to_vec(&file).unwrap(), world.anchor()).unwrap();
            assert!(report.holds(), "{report}");
            return (file, report);
        }
        // The seal of a message is on disk when the next commit is.
        exchanged(world, "more").await;
    }
    panic!("the log of {name} never had both ends of {exchange}");
}

fn header(message: &Value) -> Header {
    Header::parse(STANDARD.decode(message["header"].as_str().unwrap()).unwrap().into()).unwrap()
}

/// The bodies of request and answer as the payloads in the file have them. None: there is no payload in it.
fn bodies(file: &Value) -> Option<[Bytes; 2]> {
    let (mut bodies, mut some) = ([Vec::new(), Vec::new()], false);
    for message in file["messages"].as_array().unwrap() {
        let Some(payload) = message["payload"].as_str() else { continue };
        let payload = wire::Payload::decode(&STANDARD.decode(payload).unwrap()[..]).unwrap();
        let body = &mut bodies[usize::from(header(message).direction == Direction::Answer)];
        payload.pieces.iter().for_each(|piece| body.extend_from_slice(piece));
        some = true;
    }
    some.then(|| bodies.map(Bytes::from))
}

/// What was said both ways, as the evidence with payloads has it.
async fn kept(world: &World, name: &str, exchange: &str) -> Option<[Vec<Said>; 2]> {
    let (file, report) = evidence(world, name, exchange, true).await;
    let bodies = bodies(&file)?;
    let carrying = file["messages"].as_array().unwrap().iter().filter(|message| message["payload"].is_string()).count();
    let proven = format!("What was said is proven of {carrying} messages; {carrying} commit to something.");
    assert!(report.proven.contains(&proven), "{report}");
    Some(bodies.map(raw::messages::<Said>))
}

/// What is told of each message that carries something.
async fn told(world: &World, name: &str, exchange: &str) -> Vec<String> {
    let shown = ask(world, name, &format!("/v1/exchanges/{exchange}")).await;
    let lines = shown["records"].as_array().unwrap().iter();
    lines.filter_map(|line| Some(line["payload"].as_str()?.to_owned())).collect()
}

async fn erase(world: &World, name: &str, exchange: &str, more: &str) -> (u16, Value) {
    let path = format!("/v1/exchanges/{exchange}/payloads/erase{more}");
    soon(operator::post(world.servers[name].operators, &path, &json!({ "reason": "the court says so" }))).await
}

fn entries(world: &World, name: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    journal::read(&*world.members[name].log, None, &mut |entry| entries.push(entry)).unwrap();
    entries
}

/// Whether these bytes stand in any file of this member's server.
fn stands_on_disk(world: &World, name: &str, text: &str) -> bool {
    fn any(path: &std::path::Path, text: &[u8]) -> bool {
        if path.is_dir() {
            return std::fs::read_dir(path).unwrap().any(|entry| any(&entry.unwrap().path(), text));
        }
        std::fs::read(path).unwrap_or_default().windows(text.len()).any(|window| window == text)
    }
    any(&world.directory.path().join(name), text.as_bytes())
}

fn blocks(world: &World, name: &str) -> Vec<std::path::PathBuf> {
    let directory = world.directory.path().join(name).join(PAYLOAD_KEYS);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "keys")).collect()
}

/// Moves the time on, and signs the configuration again, so that it is in force then.
fn go_on(world: &mut World, duration: Duration) {
    let at = world.now().plus(duration);
    world.set_time(at);
    world.publish(|_| {}, Vec::new());
    for started in world.servers.values() {
        started.server.turn_payload_keys().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_proven_at_both_sides_and_nobody_reads_it_in_the_files() {
    let mut world = keeping(&BOTH, Keep::Always).await;
    let exchange = exchanged(&world, "Nguyễn Thị Mẫu").await;
    for round in 0..2 {
        for name in BOTH {
            let (file, _) = evidence(&world, name, &exchange, false).await;
            assert!(bodies(&file).is_none(), "it was not asked for");
            let wanted = [vec![said("Nguyễn Thị Mẫu")], vec![said("Nguyễn Thị Mẫu")]];
            assert_eq!(kept(&world, name, &exchange).await.unwrap(), wanted, "{name}, round {round}");
            let told = told(&world, name, &exchange).await;
            assert!(told.len() >= 2 && told.iter().all(|line| line == "kept"), "{told:?}");
            assert!(!stands_on_disk(&world, name, "Nguyễn Thị Mẫu"), "{name}");
            let status = ask(&world, name, "/v1/status").await;
            assert_eq!(status["payloads"][0]["service"], "echo.v1.Echo", "{status}");
            assert_eq!(status["payloads"][0]["keep"], "always");
            world.restart(name).await;
        }
    }
    let read = ask(&world, "moj", "/v1/status").await;
    assert!(read["payloads_hindered"].is_null(), "{read}");
    let mut noted = Vec::new();
    let audit = journal::Directory(world.directory.path().join("moj/audit"));
    journal::read(&audit, None, &mut |entry| noted.extend_from_slice(&entry.record.body())).unwrap();
    assert!(String::from_utf8_lossy(&noted).contains("\"evidence with payloads\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_side_keeps_and_the_other_does_not_and_by_default_neither_does() {
    let world = keeping(&["portal"], Keep::Days(30)).await;
    let exchange = exchanged(&world, "Trần Văn Thử").await;
    assert!(kept(&world, "portal", &exchange).await.is_some());
    assert_eq!(kept(&world, "moj", &exchange).await, None);
    let (file, report) = evidence(&world, "moj", &exchange, true).await;
    assert!(bodies(&file).is_none() && report.to_string().contains("What was said is proven of 0 messages"));
    let told_there = told(&world, "moj", &exchange).await;
    assert!(!told_there.is_empty() && told_there.iter().all(|line| line == "never kept"), "{told_there:?}");
    let until = told(&world, "portal", &exchange).await;
    assert!(until.iter().all(|line| line.starts_with("kept until 2027-02-15T00:00:00")), "{until:?}");
    let (status, refused) = erase(&world, "moj", &exchange, "").await;
    assert!(status == 422 && refused["error"].as_str().unwrap().contains("none ever was"), "{refused}");

    let world = World::new().await;
    let before = entries(&world, "portal").len();
    exchanged(&world, "nothing is kept").await;
    for entry in &entries(&world, "portal")[before..] {
        let beside = wire::Beside::decode(entry.beside.clone()).unwrap();
        assert!(beside.kept.is_none() && beside.payload.is_none());
    }
    assert!(!world.directory.path().join("portal").join(PAYLOAD_KEYS).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_of_a_stream_is_kept_however_large_and_an_answer_as_it_was_minimised() {
    let world = keeping(&BOTH, Keep::Always).await;
    let (sender, receiver) = mpsc::channel(1);
    let response = soon(world.client().await.both(says(receiver))).await.unwrap();
    let exchange = response.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let mut answers = response.into_inner();
    let mut wanted = Vec::new();
    for number in 0..30 {
        let length = if number == 7 { 700_000 } else { 10 };
        let message = Said { number, bytes: vec![u8::try_from(number).unwrap(); length], ..said("một") };
        sender.send(message.clone()).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(message.clone()));
        wanted.push(message);
    }
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    world.quiet().await;
    for name in BOTH {
        assert_eq!(kept(&world, name, &exchange).await.unwrap(), [wanted.clone(), wanted.clone()], "{name}");
        // One key for all of it.
        let (status, erased) = erase(&world, name, &exchange, "").await;
        assert!(status == 200 && erased["messages"].as_u64().unwrap() > 30, "{erased}");
        assert_eq!(kept(&world, name, &exchange).await, None);
    }

    let world = World::arranged(async |world| BOTH.iter().for_each(|name| world.keep(name, Some(Keep::Always)))).await;
    let fields = [("/echo.v1.Echo/Unary".to_owned(), ["1".to_owned()].into())].into();
    world.grant_as(Proposal { fields, ..world.proposal(&["Unary"]) }).await;
    let asked = Said { bytes: b"the secret of the service".to_vec(), number: 7, ..said("tên") };
    let answer = soon(world.client().await.unary(asked.clone())).await.unwrap();
    let exchange = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    world.quiet().await;
    for name in BOTH {
        let found = kept(&world, name, &exchange).await.unwrap();
        assert_eq!(found, [vec![asked.clone()], vec![said("tên")]], "{name} keeps what was received, and no more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_end_with_their_time_also_after_restarts_and_never_come_back() {
    let mut world = keeping(&BOTH, Keep::Days(1)).await;
    let first = exchanged(&world, "on the first day").await;
    let until = Keep::Days(1).until(world.now()).unwrap();
    let there = |world: &World| {
        blocks(world, "moj")
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(&until.to_string()[..10]))
            .count()
    };
    assert_eq!(there(&world), 2);
    world.restart("moj").await;
    go_on(&mut world, DAY);
    let second = exchanged(&world, "on the second day").await;
    let last = Time::from_millis(until.as_millis() - 1);
    let left = last.distance(world.now());
    go_on(&mut world, left);
    assert!(kept(&world, "moj", &first).await.is_some(), "not a moment early");
    assert_eq!(there(&world), 4, "a start makes its own");

    // By the clock it is over, and its block is there still: nothing of it is shown.
    world.set_time(until);
    assert_eq!(kept(&world, "moj", &first).await, None);
    go_on(&mut world, Duration::ZERO);
    assert_eq!(there(&world), 0, "its keys are erased");
    assert_eq!(kept(&world, "moj", &first).await, None);
    let lines = told(&world, "moj", &first).await;
    assert!(lines.iter().all(|line| *line == format!("expired {until}")), "{lines:?}");
    assert!(kept(&world, "moj", &second).await.is_some());
    let (status, refused) = erase(&world, "moj", &first, "").await;
    assert!(status == 422 && refused["error"].as_str().unwrap().contains("expired"), "{refused}");

    // A clock that is set back brings nothing back, and one that jumps ahead erases nothing.
    world.set_time(Time::from_millis(until.as_millis() - 30_000));
    world.restart("moj").await;
    assert_eq!(kept(&world, "moj", &first).await, None);
    assert!(kept(&world, "moj", &second).await.is_some());
    let here = world.now();
    for ahead in [DAY, 2 * DAY, 3650 * DAY] {
        world.set_time(here.plus(ahead));
        world.servers["moj"].server.turn_payload_keys().unwrap();
    }
    world.set_time(until);
    world.restart("moj").await;
    world.publish(|_| {}, Vec::new());
    assert!(kept(&world, "moj", &second).await.is_some(), "neither a day nor ten years were believed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_by_hand_is_gone_and_the_proof_stays_and_others_are_kept() {
    let mut world = keeping(&BOTH, Keep::Always).await;
    let (first, second) = (exchanged(&world, "erase this").await, exchanged(&world, "and not this").await);
    let before: Vec<Bytes> = entries(&world, "moj").into_iter().map(|entry| entry.beside).collect();
    let (status, foreseen) = erase(&world, "moj", &first, "?dry_run=true").await;
    assert!(status == 200 && foreseen["changes"][0].as_str().unwrap().contains(&first), "{foreseen}");
    assert!(kept(&world, "moj", &first).await.is_some(), "nothing was changed");
    let (status, erased) = erase(&world, "moj", &first, "").await;
    assert_eq!((status, &erased["exchange"]), (200, &json!(first)), "{erased}");
    for _ in 0..2 {
        assert_eq!(kept(&world, "moj", &first).await, None);
        let lines = told(&world, "moj", &first).await;
        assert!(!lines.is_empty() && lines.iter().all(|line| line == "erased"), "{lines:?}");
        assert!(kept(&world, "moj", &second).await.is_some());
        let after: Vec<Bytes> = entries(&world, "moj").into_iter().map(|entry| entry.beside).collect();
        assert_eq!(after[..before.len()], before, "the log, and any copy of it, is as it was: nothing of it opens");
        world.restart("moj").await;
    }
    assert!(kept(&world, "portal", &first).await.is_some(), "the other member's is its own");
    let (status, refused) = erase(&world, "moj", &first, "").await;
    assert!(status == 422 && refused["error"].as_str().unwrap().contains("erased before"), "{refused}");
    assert_eq!(erase(&world, "moj", &"0".repeat(32), "").await.0, 404);
    assert_eq!(erase(&world, "moj", "nothing", "").await.0, 400);
    let mut noted = Vec::new();
    let audit = journal::Directory(world.directory.path().join("moj/audit"));
    journal::read(&audit, None, &mut |entry| noted.push(String::from_utf8_lossy(&entry.record.body()).into_owned()))
        .unwrap();
    let noted: Vec<_> = noted.iter().filter(|entry| entry.contains("payloads_erased")).collect();
    assert!(noted.len() == 1 && noted[0].contains(&first) && noted[0].contains("the court says so"), "{noted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_damaged_or_gone_is_named_and_everything_else_goes_on() {
    let mut world = keeping(&["moj"], Keep::Always).await;
    let exchange = exchanged(&world, "a").await;
    let there = blocks(&world, "moj");
    let whole: Vec<_> = there.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for (path, bytes) in there.iter().zip(&whole) {
        let mut damaged = bytes.clone();
        damaged[1000] ^= 1;
        std::fs::write(path, damaged).unwrap();
    }
    let lost = async |world: &World, why: &str| {
        assert_eq!(kept(world, "moj", &exchange).await, None);
        let lines = told(world, "moj", &exchange).await;
        assert!(
            !lines.is_empty() && lines.iter().all(|line| line.starts_with("lost: ") && line.contains(why)),
            "{lines:?}"
        );
        let (status, refused) = erase(world, "moj", &exchange, "").await;
        assert!(status == 500 && refused["error"].as_str().unwrap().contains(why), "{refused}");
    };
    lost(&world, "is damaged").await;
    there.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    lost(&world, "is not there").await;
    world.restart("moj").await;
    lost(&world, "is not there").await;
    let next = exchanged(&world, "b").await;
    assert!(kept(&world, "moj", &next).await.is_some());
    for (path, bytes) in there.iter().zip(whole) {
        std::fs::write(path, bytes).unwrap();
    }
    assert!(kept(&world, "moj", &exchange).await.is_some(), "it was put back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_an_exchange_is_refused_by_name_and_those_of_which_nothing_is_kept_go_on() {
    for name in BOTH {
        let disk = Faulty::new();
        disk.limit(1000, 0);
        let mut world = World::arranged(async |world| {
            let kept = (world.members["moj"].subsystem.clone(), "echo.v1.Echo".to_owned(), Keep::Days(3));
            world.payloads.insert(name, (Policy::of([kept]), Arc::clone(&disk) as Arc<dyn Disk>));
        })
        .await;
        world.grant_all().await;
        world.enroll("tax", "income").await;
        world.grant_to("tax").await;
        let answer = soon(async { world.raw().await.call(world.post("Unary"), raw::message(&said(""))).await }).await;
        assert_eq!(answer.refusal(), Some(Code::PayloadKeysMissing.as_str()), "{name}");
        assert!(!entries(&world, "moj").iter().any(|entry| entry.record.kind() == proto::record::Kind::Received));
        soon(world.client_to("tax").await.unary(said("goes on"))).await.unwrap();
        world.servers[name].server.look_around();
        let status = ask(&world, name, "/v1/status").await;
        assert!(status["payloads_hindered"].as_str().unwrap().contains("cannot be made"), "{status}");
        assert!(status["health"]["raised"].to_string().contains("payload_keys_missing"), "{status}");

        disk.limit(1 << 30, 0);
        world.servers[name].server.turn_payload_keys().unwrap();
        let exchange = exchanged(&world, "again").await;
        assert!(kept(&world, name, &exchange).await.is_some());
        world.servers[name].server.look_around();
        let status = ask(&world, name, "/v1/status").await;
        assert!(status["payloads_hindered"].is_null() && status["health"]["raised"] == json!([]), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_call_that_is_refused_the_provider_keeps_nothing() {
    let world = World::arranged(async |world| BOTH.iter().for_each(|name| world.keep(name, Some(Keep::Always)))).await;
    let answer = soon(async { world.raw().await.call(world.post("Unary"), raw::message(&said("no"))).await }).await;
    assert_eq!(answer.refusal(), Some("GRANT_MISSING"));
    world.quiet().await;
    let exchange = answer.field("causeway-exchange").unwrap();
    for (name, wanted) in [("moj", "never kept"), ("portal", "kept")] {
        let lines = told(&world, name, exchange).await;
        assert!(!lines.is_empty() && lines.iter().all(|line| line == wanted), "{name}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_that_are_longer_than_a_file_takes_are_not_left_out_in_silence() {
    let world = keeping(&["moj"], Keep::Always).await;
    let each = 1 << 20;
    let (sender, receiver) = mpsc::channel(1);
    let response = soon(world.client().await.both(says(receiver))).await.unwrap();
    let exchange = response.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let mut answers = response.into_inner();
    // There and back.
    for number in 0..=(MAX_PAYLOADS_BYTES / each / 2) as u64 {
        sender.send(Said { number: number as _, bytes: vec![7; each], ..said("") }).await.unwrap();
        soon(answers.message()).await.unwrap().unwrap();
    }
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    world.quiet().await;
    let token = format!("Bearer {}", tests::world::OPERATORS_TOKEN);
    let path = format!("/v1/exchanges/{exchange}/evidence?payloads=true");
    let request = http::Request::get(path).header("host", "localhost").header("authorization", token);
    let (status, why) = soon(operator::ask(world.servers["moj"].operators, request, String::new())).await;
    assert!(status == 422 && why.contains("without --with-payloads"), "{status} {why}");
    evidence(&world, "moj", &exchange, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_command_lines_and_files_payloads_are_kept_put_into_evidence_and_erased() {
    let (address, _heard) = Parrot::serve().await;
    let (two, [registry, portal, moj]) = Two::before(address).await;
    let (instance, file) = (&two.instance, two.moj.file());
    moj.stops().await;
    let path = instance.path(&file);
    let text = std::fs::read_to_string(&path).unwrap();
    let subsystem = &two.moj.subsystem;
    let keep =
        |keep: &str| format!("{text}\n[[payloads]]\nsubsystem = \"{subsystem}\"\nservice = \"echo.v1.Echo\"\n{keep}\n");
    std::fs::write(&path, keep("keep = \"days\"\ndays = 0")).unwrap();
    let refused = instance.run(&format!("security-server serve --config {file}")).await;
    assert!(refused.code == Some(2) && refused.err.contains("payloads.days"), "{refused:?}");
    std::fs::write(&path, keep("keep = \"days\"\ndays = 90")).unwrap();
    let moj = instance.serve(&two.moj).await;

    let at = format!("--config {file}");
    let answered = two.client().unary(said("by command lines")).await.unwrap();
    let exchange = answered.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let show = format!("security-server exchange {exchange} {at}");
    let closed = async { while !instance.run(&show).await.well().contains("closed") {} };
    tokio::time::timeout(SOON, closed).await.unwrap();
    assert!(instance.run(&show).await.well().contains("its payload: kept until "));
    let status = instance.run(&format!("security-server status {at}")).await.well();
    assert!(status.contains("of echo.v1.Echo at VN/GOV/moj/civil-registry: kept 90 days"), "{status}");
    let get = format!("security-server evidence get {exchange} {at} --with-payloads");
    let made = instance.run(&format!("{get} --out evidence.zip")).await.well();
    assert!(made.contains("payload of request 0: kept until ") && made.contains("payload of answer 0: kept"), "{made}");
    let verify = "security-server evidence verify evidence.zip --anchor registry/anchor.json";
    let proven = instance.run(verify).await.well();
    assert!(proven.contains("proven") && !proven.contains("What was said is proven of 0"), "{proven}");
    let made = instance.run(&get).await;
    assert!(made.err.contains("payload of request 0: kept until "), "{made:?}");
    assert!(bodies(&made.json()).is_some());
    let without = instance.run(&get.replace(" --with-payloads", "")).await;
    assert!(without.err.is_empty() && bodies(&without.json()).is_none());

    let erase = format!("security-server payloads erase {exchange} --reason ordered {at}");
    let foreseen = instance.run(&format!("{erase} --dry-run")).await.well();
    assert!(foreseen.contains("nothing was changed") && foreseen.contains("erase the payloads of"), "{foreseen}");
    let erased = instance.run(&format!("{erase} --json")).await.json();
    assert!(erased["exchange"] == exchange.as_str() && erased["messages"].as_u64().unwrap() >= 2, "{erased}");
    let again = instance.run(&erase).await;
    assert!(again.code == Some(3) && again.err.contains("erased before"), "{again:?}");
    let object = instance.run(&format!("{get} --out evidence.json --json")).await.json();
    assert_eq!(object["payloads"][0], json!({ "direction": "request", "number": 0, "payload": "erased" }), "{object}");
    let proven = instance.run(&verify.replace(".zip", ".json")).await.well();
    assert!(proven.contains("What was said is proven of 0 messages"), "{proven}");
    let noted = instance.run(&format!("security-server audit list --last 4 {at}")).await.well();
    assert!(noted.contains("had the payloads of") && noted.contains("read the evidence with payloads of"), "{noted}");
    let secret = std::fs::read_to_string(instance.path("moj").join(PAYLOAD_KEYS).join("secret.pem")).unwrap();
    assert!(secret.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));

    // The secret is lost: what is to be kept is refused, and the server runs.
    moj.stops().await;
    std::fs::remove_file(instance.path("moj").join(PAYLOAD_KEYS).join("secret.pem")).unwrap();
    let moj = instance.serve(&two.moj).await;
    let refused = two.client().unary(said("no key")).await.unwrap_err();
    assert_eq!(refused.metadata().get("causeway-refusal").unwrap(), "PAYLOAD_KEYS_MISSING", "{refused}");
    let status = instance.run(&format!("security-server status {at}")).await.well();
    assert!(status.contains("HINDERED") && status.contains("secret.pem"), "{status}");
    for process in [registry, portal, moj] {
        process.stops().await;
    }
}
