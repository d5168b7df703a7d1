//! The operators' door: what is told and done there is for who holds the operators' token, on this machine.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use journal::Directory;
use proto::record::Kind;
use tests::echo::said;
use tests::operator;
use tests::world::{OPERATORS_TOKEN, PURPOSE, World};

/// Asks the civil registry's server; gives the status and the body.
async fn ask(world: &World, route: (&str, &str, String), authorization: Option<&str>, host: &str) -> (u16, String) {
    let (method, path, body) = route;
    let mut request = http::Request::builder().method(method).uri(path).header("host", host);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    operator::ask(world.servers["moj"].operators, request, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_operators_token_nothing_is_told_or_done() {
    let world = World::new().await;
    let called = world.client().await.unary(said("")).await.unwrap();
    let exchange = called.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    world.quiet().await;
    let (consumer, provider) = (&world.members["portal"].subsystem, &world.members["moj"].subsystem);
    let why =
        format!("/v1/access/why?consumer={consumer}&provider={provider}&method=/echo.v1.Echo/Unary&purpose={PURPOSE}");
    let grant = serde_json::to_string(&world.proposal(&["Unary"])).unwrap();
    let (record, evidence) = (format!("/v1/exchanges/{exchange}"), format!("/v1/exchanges/{exchange}/evidence"));
    let archive = format!("{evidence}?archive=true");
    let routes = [
        ("GET", "/v1/status", String::new(), 200),
        ("GET", "/v1/grants", String::new(), 200),
        ("POST", "/v1/grants", grant, 201),
        ("POST", "/v1/grants/1/end", r#"{"reason":"a test"}"#.to_owned(), 200),
        ("GET", why.as_str(), String::new(), 200),
        ("GET", "/v1/exchanges?result=answered", String::new(), 200),
        ("GET", record.as_str(), String::new(), 200),
        ("GET", evidence.as_str(), String::new(), 200),
        ("GET", archive.as_str(), String::new(), 200),
        ("POST", "/v1/backup", r#"{"signing_keys":false}"#.to_owned(), 200),
    ];
    let basic = format!("Basic {OPERATORS_TOKEN}");
    let shorter = format!("Bearer {}", &OPERATORS_TOKEN[1..]);
    for (method, path, body, _) in &routes {
        let before = world.servers["moj"].server.access_rights.list();
        for shown in [None, Some("Bearer "), Some(OPERATORS_TOKEN), Some(&basic), Some(&shorter)] {
            let (status, said) = ask(&world, (method, path, body.clone()), shown, "localhost").await;
            assert_eq!(status, 401, "{method} {path} with {shown:?}: {said}");
            assert!(!said.contains("VN/") && !said.contains(OPERATORS_TOKEN), "{method} {path}: {said}");
        }
        assert_eq!(world.servers["moj"].server.access_rights.list(), before, "{method} {path}: nothing was done");
    }
    let token = format!("Bearer {OPERATORS_TOKEN}");
    for (method, path, body, good) in routes {
        let (status, said) = ask(&world, (method, path, body), Some(&token), "localhost").await;
        assert_eq!(status, good, "{method} {path}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_this_machines_is_refused() {
    let world = World::without_grants().await;
    let token = format!("Bearer {OPERATORS_TOKEN}");
    for (host, good) in [
        ("localhost", true),
        ("localhost:4000", true),
        ("127.0.0.1", true),
        ("127.0.0.1:4000", true),
        ("[::1]:4000", true),
        ("bus.example", false),
        ("localhost.example:4000", false),
        ("127.0.0.1.example", false),
        ("192.0.2.1:4000", false),
        ("", false),
    ] {
        for path in ["/health", "/metrics", "/v1/grants"] {
            let (status, said) = ask(&world, ("GET", path, String::new()), Some(&token), host).await;
            assert_eq!(status, if good { 200 } else { 403 }, "{host:?} {path}: {said}");
        }
    }
}

/// What the audit log of the civil registry's server holds of this kind.
fn noted(world: &World, entry: &str) -> Vec<serde_json::Value> {
    let disk = Directory(world.directory.path().join("moj/audit"));
    let mut noted = Vec::new();
    journal::read(&disk, None, &mut |record| {
        if record.record.kind() == Kind::Entry {
            noted.push(serde_json::from_slice::<serde_json::Value>(&record.record.body()).unwrap());
        }
    })
    .unwrap();
    noted.retain(|noted| noted["entry"] == entry);
    noted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_who_is_refused_is_noted() {
    let world = World::new().await;
    let called = world.client().await.unary(said("")).await.unwrap();
    let exchange = called.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    world.quiet().await;
    let token = format!("Bearer {OPERATORS_TOKEN}");
    for (what, path) in [
        ("exchange", format!("/v1/exchanges/{exchange}")),
        ("evidence", format!("/v1/exchanges/{exchange}/evidence")),
        ("container", format!("/v1/exchanges/{exchange}/evidence?container=true")),
    ] {
        let (status, told) = ask(&world, ("GET", &path, String::new()), Some(&token), "localhost").await;
        assert_eq!(status, 200, "{told}");
        let read =
            noted(&world, "read").into_iter().find(|noted| noted["what"] == what).expect("noted before it is told");
        assert_eq!((&read["exchange"], &read["by"]["token"]), (&exchange.as_str().into(), &"operators.token".into()));
        assert!(read["by"]["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{read}");
    }
    let (status, told) =
        ask(&world, ("GET", "/v1/exchanges?peer=VN/GOV/portal&limit=5", String::new()), Some(&token), "localhost")
            .await;
    assert_eq!(status, 200, "{told}");
    let search =
        noted(&world, "read").into_iter().find(|noted| noted["what"] == "search").expect("noted before it is told");
    assert_eq!(search["exchange"], "peer VN/GOV/portal");
    assert!(noted(&world, "refused").is_empty());
    ask(&world, ("GET", "/v1/status", String::new()), Some("Bearer wrong"), "localhost").await;
    assert_eq!(noted(&world, "refused")[0]["attempts"], 1);
}
