//! Exchanges are found in the message log by what an operator knows of them, at both servers, and the newest first.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use serde_json::Value;
use tests::echo::{said, says};
use tests::operator;
use tests::soon;
use tests::wire::Said;
use tests::world::{OPERATORS_TOKEN, World};
use tokio::sync::mpsc;

/// What the operators' door of this member's server finds.
async fn search(world: &World, name: &str, query: &str) -> Value {
    operator::get(world.servers[name].operators, &format!("/v1/exchanges?{query}")).await
}

/// The operations and results of what is found.
async fn lines(world: &World, name: &str, query: &str) -> Vec<String> {
    let found = search(world, name, query).await;
    let line = |line: &Value| {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let more = line["status"].as_u64().filter(|status| *status > 0).map(|status| status.to_string());
        let more = more.unwrap_or_else(|| text("code") + &text("cause"));
        format!("{} {} {}", text("operation").rsplit('/').next().unwrap(), text("result"), more).trim().to_owned()
    };
    found["exchanges"].as_array().unwrap().iter().map(line).collect()
}

/// Four exchanges, a second apart: answered, refused, failed at the service, and one that goes on.
async fn four_exchanges() -> (World, mpsc::Sender<Said>, tonic::Streaming<Said>) {
    let world = World::without_grants().await;
    world.grant(&["Unary", "Fail", "Both"]).await;
    let client = world.client().await;
    let later = || world.set_time(world.now().plus(std::time::Duration::from_secs(1)));
    client.clone().unary(said("")).await.unwrap();
    later();
    client.clone().server_stream(said("")).await.unwrap_err();
    later();
    client.clone().fail(Said { number: 5, ..said("") }).await.unwrap_err();
    later();
    world.quiet().await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(client.clone().both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("ping")).await.unwrap();
    soon(answers.message()).await.unwrap();
    (world, sender, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_are_found_by_time_peer_method_result_and_id_the_newest_first() {
    let (mut world, sender, mut answers) = four_exchanges().await;
    let all = ["Both open", "Fail answered 5", "ServerStream refused GRANT_MISSING", "Unary answered"];
    for name in ["portal", "moj"] {
        assert_eq!(lines(&world, name, "").await, all, "{name}");
        assert_eq!(lines(&world, name, "result=open").await, all[..1]);
        assert_eq!(lines(&world, name, "result=answered").await, [all[1], all[3]]);
        assert_eq!(lines(&world, name, "result=refused").await, all[2..3]);
        assert_eq!(lines(&world, name, "result=GRANT_MISSING").await, all[2..3]);
        assert_eq!(lines(&world, name, "result=GRANT_PURPOSE").await, [""; 0]);
        assert_eq!(lines(&world, name, "method=/echo.v1.Echo/Fail").await, all[1..2]);
        assert_eq!(lines(&world, name, "method=/echo.v1.Echo/Fai").await, [""; 0]);
        let (own, peer) = if name == "portal" { ("portal", "moj") } else { ("moj", "portal") };
        let subsystem = &world.members[peer].subsystem;
        assert_eq!(lines(&world, name, &format!("peer=VN/GOV/{peer}")).await, all);
        assert_eq!(lines(&world, name, &format!("peer={subsystem}&result=open")).await, all[..1]);
        assert_eq!(lines(&world, name, &format!("peer=VN/GOV/{own}")).await, [""; 0]);
        assert_eq!(lines(&world, name, &format!("peer={subsystem}s")).await, [""; 0]);
        // The third began two seconds after the first.
        let found = search(&world, name, "").await;
        let time = |at: usize| found["exchanges"][at]["time"].as_str().unwrap().to_owned();
        assert_eq!(lines(&world, name, &format!("since={}", time(1))).await, all[..2], "its own time is in a span");
        assert_eq!(lines(&world, name, &format!("until={}", time(1))).await, all[2..], "its end is not");
        assert_eq!(lines(&world, name, &format!("since={}&until={}", time(2), time(0))).await, all[1..3]);
        assert_eq!(lines(&world, name, &format!("since={0}&until={0}", time(2))).await, [""; 0]);
        for (at, line) in all.iter().enumerate() {
            let id = found["exchanges"][at]["exchange"].as_str().unwrap();
            assert_eq!(lines(&world, name, &format!("id={id}")).await, [*line]);
            assert_eq!(lines(&world, name, &format!("id={id}&result=unanswered")).await, [""; 0]);
        }
        assert_eq!(lines(&world, name, &format!("id={}", "0".repeat(32))).await, [""; 0]);
        // Page by page, each one once.
        let (mut paged, mut before) = (Vec::new(), String::new());
        loop {
            let query = format!("limit=1{before}");
            paged.extend(lines(&world, name, &query).await);
            match search(&world, name, &query).await["next"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        assert_eq!(paged, all);
    }
    drop(sender);
    while soon(answers.message()).await.unwrap().is_some() {}
    world.quiet().await;
    let mut ended = all;
    ended[0] = "Both answered";
    for name in ["portal", "moj"] {
        assert_eq!(lines(&world, name, "").await, ended, "{name}");
        assert_eq!(lines(&world, name, "result=open").await, [""; 0]);
    }
    // The rows are a view: gone, they come again of the log.
    let before = search(&world, "moj", "").await;
    let started = world.servers.remove("moj").unwrap();
    let address = started.peers;
    started.shutdown().await;
    std::fs::remove_dir_all(world.directory.path().join("moj/index")).unwrap();
    world.start("moj", tokio::net::TcpListener::bind(address).await.unwrap(), false).await;
    assert_eq!(search(&world, "moj", "").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_version_indexed_is_listed_too() {
    let mut world = World::new().await;
    world.client().await.unary(said("")).await.unwrap();
    world.quiet().await;
    let before = search(&world, "moj", "").await;
    assert_eq!(before["exchanges"].as_array().unwrap().len(), 1);
    let started = world.servers.remove("moj").unwrap();
    let address = started.peers;
    started.shutdown().await;
    let index = sled::open(world.directory.path().join("moj/index")).unwrap();
    for key in index.scan_prefix(b"f").keys() {
        index.remove(key.unwrap()).unwrap();
    }
    index.insert(b"v", b"4").unwrap();
    index.flush().unwrap();
    drop(index);
    world.start("moj", tokio::net::TcpListener::bind(address).await.unwrap(), false).await;
    assert_eq!(search(&world, "moj", "").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_means_nothing_is_named() {
    let world = World::without_grants().await;
    let token = format!("Bearer {OPERATORS_TOKEN}");
    for (query, named) in [
        ("id=xyz", "id: "),
        ("since=yesterday", "since: "),
        ("until=2026", "until: "),
        ("before=00", "before: "),
        ("peer=VN/GOV", "peer: "),
        ("method=Unary", "method: "),
        ("result=anwsered", "did you mean answered?"),
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=many", "limit"),
        ("pear=VN/GOV/moj", "pear"),
    ] {
        let path = format!("/v1/exchanges?{query}");
        let request = http::Request::get(path).header("host", "localhost").header("authorization", &token);
        let (status, told) = operator::ask(world.servers["moj"].operators, request, String::new()).await;
        assert_eq!(status, 400, "{query}: {told}");
        assert!(told.contains(named), "{query}: {told}");
    }
}
