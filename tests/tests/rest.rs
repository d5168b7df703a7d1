//! X-Road's REST protocol, from an application of one member to a REST service of another: the same exchange as a gRPC call,
//! with rights by operation, matched on the bytes that the service is sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use proto::refusal::{Code, Language};
use serde_json::{Value, json};
use tests::pets::{AskedPet, PETS, PetTown};
use tests::plain::{Plain, ask, begin};
use tests::processes::PURPOSE;
use tests::raw;
use tests::soon;

/// An error as X-Road says it.
fn is_error(answer: &Plain, kind: &str) {
    assert_eq!(answer.status(), 500, "{}", answer.text);
    assert_eq!(answer.field("x-road-error"), Some(kind), "{}", answer.text);
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let said = answer.json();
    assert_eq!(said["type"], kind);
    assert!(said["message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
    assert!(said["detail"].as_str().is_some_and(|detail| detail.len() >= 32), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_of_x_road_works_by_changing_its_base_url() {
    let mut town = PetTown::new().await;
    let request = town
        .request("POST", "/pets?tag=a%20b&x=1")
        .header("Content-Type", "application/json")
        .header("X-Road-Id", "an-id")
        .header("X-Road-UserId", "EE12345678901")
        .header("X-Road-Issue", "case 7")
        .header("X-Road-Represented-Party", "COM/123")
        .header("X-Road-Request-Id", "forged")
        .header("Authorization", "Bearer of-the-service")
        .header("Accept", "application/json")
        .header("X-Two", "1")
        .header("X-Two", "2")
        .header("User-Agent", "old/1.0");
    let answer = town.ask(request, r#"{"name":"Miu"}"#).await;
    assert_eq!(answer.status(), 200, "{}", answer.text);
    assert_eq!(answer.json(), json!({ "verb": "POST", "target": "/town/pets?tag=a%20b&x=1", "bytes": 14 }));
    assert_eq!(answer.field("x-road-id"), Some("an-id"));
    assert_eq!(answer.field("x-road-client"), Some(town.portal.subsystem.as_str()));
    assert_eq!(answer.field("x-road-service"), Some(format!("{}/{PETS}", town.moj.subsystem).as_str()));
    let request_id = answer.field("x-road-request-id").unwrap().to_owned();
    assert!(request_id.len() == 36 && answer.field("x-road-error").is_none());
    let exchange = answer.field("causeway-exchange").unwrap().to_owned();

    let heard = town.heard().unwrap();
    assert_eq!((heard.verb.as_str(), heard.target.as_str()), ("POST", "/town/pets?tag=a%20b&x=1"));
    assert_eq!(heard.body, r#"{"name":"Miu"}"#);
    for (name, values) in [
        ("x-road-id", vec!["an-id"]),
        ("x-road-userid", vec!["EE12345678901"]),
        ("x-road-issue", vec!["case 7"]),
        ("x-road-represented-party", vec!["COM/123"]),
        ("x-road-client", vec![town.portal.subsystem.as_str()]),
        ("authorization", vec!["Bearer of-the-service"]),
        ("content-type", vec!["application/json"]),
        ("content-length", vec!["14"]),
        ("x-two", vec!["1", "2"]),
        ("x-road-request-id", vec![request_id.as_str()]),
        ("user-agent", vec![]),
        ("x-road-request-hash", vec![]),
        ("transfer-encoding", vec![]),
        ("causeway-purpose", vec![PURPOSE]),
        ("causeway-consumer", vec![town.portal.subsystem.as_str()]),
        ("causeway-exchange", vec![exchange.as_str()]),
        ("causeway-target", vec![]),
    ] {
        assert_eq!(heard.all(name), values, "{name}");
    }
    // The hash that X-Road gives back: of the request as it was carried.
    let carried: Vec<(String, String)> = [
        ("x-road-client", town.portal.subsystem.as_str()),
        ("content-type", "application/json"),
        ("x-road-id", "an-id"),
        ("x-road-userid", "EE12345678901"),
        ("x-road-issue", "case 7"),
        ("x-road-represented-party", "COM/123"),
        ("authorization", "Bearer of-the-service"),
        ("accept", "application/json"),
        ("x-two", "1"),
        ("x-two", "2"),
        ("x-road-request-id", &request_id),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let target = format!("{}/pets?tag=a%20b&x=1", town.base());
    let hash = x_road_hash("POST", &target, &carried, Some(br#"{"name":"Miu"}"#));
    assert_eq!(answer.field("x-road-request-hash"), Some(hash.as_str()));

    // Signed and recorded like any other, at both servers, under the operation's name.
    for (name, first) in [("portal", "sent"), ("moj", "received")] {
        let log = &town.realm.servers[name].server.message_log;
        let lines = soon(async {
            loop {
                let found = log.find(exchange.parse().unwrap()).unwrap();
                let lines = security_server::evidence::summary(&found);
                if lines.iter().any(|line| line.kind == "closed") {
                    break lines;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!((lines[0].kind, lines[0].direction), (first, Some("request")));
        let ends: Vec<_> = lines.iter().filter_map(|line| line.end.as_deref()).collect();
        assert!(ends.iter().any(|end| end.contains("200")), "{ends:?}");
    }
    town.realm.stops().await;
}

fn x_road_hash(verb: &str, target: &str, fields: &[(String, String)], body: Option<&[u8]>) -> String {
    use aws_lc_rs::digest::{SHA512, digest};
    use base64::Engine;
    let fields: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
    let mut hash = digest(&SHA512, format!("{verb}\r\n{target}\r\n{fields}").as_bytes()).as_ref().to_vec();
    if let Some(body) = body {
        hash.extend_from_slice(digest(&SHA512, body).as_ref());
        hash = digest(&SHA512, &hash).as_ref().to_vec();
    }
    base64::engine::general_purpose::STANDARD.encode(hash)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_status_and_body_goes_through_as_it_is() {
    let mut town = PetTown::new().await;
    for (verb, path, body) in [
        ("GET", "/pets", &b""[..]),
        ("GET", "", b""),
        ("GET", "/", b""),
        ("GET", "?q=1", b""),
        ("PUT", "/pets/7", b"\x00\xff"),
        ("PATCH", "/pets/%C3%A9", b"{}"),
        ("GET", "/pets/7?x=%2F..%2f&y", b""),
        ("GET", "/pets/a%20b", b"a body though it is a GET"),
    ] {
        let answer = town.ask(town.request(verb, path), body).await;
        assert_eq!(answer.status(), 200, "{verb} {path}: {}", answer.text);
        let heard = town.heard().unwrap();
        // As HTTP has it, no path at all is the root's.
        assert_eq!((heard.verb.as_str(), &*heard.target), (verb, &*format!("/town{path}")), "byte for byte");
        assert_eq!(heard.body, body);
        assert!(body.is_empty() == heard.all("content-length").is_empty(), "{heard:?}");
    }
    // A GET with a body that comes later.
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let later = town.request("GET", "/pets/7").header("transfer-encoding", "chunked").body(body).unwrap();
    let door = town.door();
    let later = tokio::spawn(async move { Plain::read(begin(door, later).await).await });
    for half in ["one half", " and the other"] {
        sender.send_data(Bytes::from_static(half.as_bytes())).await.unwrap();
        soon(async {
            while town.realm.servers["moj"].server.running() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    drop(sender);
    assert_eq!(soon(later).await.unwrap().status(), 200);
    assert_eq!(town.heard().unwrap().body, "one half and the other");
    // As much as may stand in a head, and one byte more than that.
    let long = |bytes: usize| format!("/pets?{}", "x".repeat(bytes));
    assert_eq!(town.ask(town.request("GET", &long(15_000)), "").await.status(), 200);
    let _ = town.heard();
    is_error(&town.ask(town.request("GET", &long(16_384)), "").await, "server.clientproxy.invalid_rest");
    assert_eq!(town.heard(), None);
    let head = town.ask(town.request("HEAD", "/pets/7"), "").await;
    assert_eq!((head.status(), head.text.as_str()), (200, ""));
    for status in [201, 204, 301, 304, 400, 401, 404, 409, 418, 500, 503] {
        let answer = town.ask(town.request("GET", &format!("/status/{status}")), "").await;
        assert_eq!(answer.status(), status);
        let twice: Vec<_> = answer.head.headers.get_all("x-a").iter().collect();
        assert_eq!(twice, ["1", "2"]);
        assert_eq!(answer.field("location"), Some("http://elsewhere/"), "a redirect is told, and not followed");
        assert_eq!(answer.field("x-road-error"), None, "which only X-Road itself says");
        assert_eq!(answer.field("server"), None);
        assert!(answer.field("x-road-request-hash").is_some() && answer.field("x-road-id").is_some());
    }
    // Over HTTP/2 too, and a long body, streamed.
    let mut client = raw::Client::to(town.door()).await;
    let long = Bytes::from(vec![7; 3 << 20]);
    let request = town.request("POST", "/pets").uri(format!("http://{}{}/pets", town.door(), town.base()));
    let answer = soon(client.call(request, long.clone())).await;
    assert_eq!((answer.head.status.as_u16(), answer.body.is_empty()), (200, false));
    let heard: Vec<AskedPet> = std::iter::from_fn(|| town.heard()).collect();
    assert_eq!(heard.last().unwrap().body, long);
    town.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_told_as_it_comes_and_one_that_is_cut_is_cut() {
    let town = PetTown::new().await;
    for whole in [true, false] {
        let request = town.request("GET", "/stream").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let mut response = soon(begin(town.door(), request)).await;
        assert_eq!(response.status(), 200);
        let first = soon(response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one half, ");
        town.halves.send(whole).unwrap();
        let rest = soon(Plain::read(response)).await;
        assert_eq!((rest.text.as_str(), rest.broken), if whole { ("and the other", false) } else { ("", true) });
    }
    // A request that is broken off is told to nobody as whole.
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let request = town.request("POST", "/pets").body(body).unwrap();
    let door = town.door();
    let asking = tokio::spawn(begin(door, request));
    sender.send_data(Bytes::from_static(b"half")).await.unwrap();
    asking.abort();
    drop(sender);
    soon(async {
        while town.realm.servers.values().any(|started| started.server.running() > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    town.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_by_operation_and_no_other_spelling_of_a_path_gets_past_them() {
    let mut town = PetTown::new().await;
    for (verb, path, kind) in [
        ("DELETE", "/pets/7", "server.serverproxy.access_denied"),
        ("GET", "/pets/secret", "server.serverproxy.access_denied"),
        ("GET", "/pets/%73ecret", "server.clientproxy.invalid_rest"),
        ("GET", "/pets/Secret", "server.clientproxy.invalid_rest"),
        ("GET", "/pets/secret;x=1", "server.clientproxy.invalid_rest"),
        ("GET", "/pets/7%2F..%2Fsecret", "server.clientproxy.invalid_rest"),
        ("GET", "/pets/..", "server.clientproxy.invalid_rest"),
        ("GET", "/pets/%2e%2e", "server.clientproxy.invalid_rest"),
        ("GET", "/pets//secret", "server.clientproxy.invalid_rest"),
        ("GET", "/pets/secret/", "server.clientproxy.unknown_service"),
        ("GET", "/other", "server.clientproxy.unknown_service"),
        ("POST", "/pets/7", "server.clientproxy.unknown_service"),
    ] {
        let answer = town.ask(town.request(verb, path), "").await;
        is_error(&answer, kind);
        assert_eq!(town.heard(), None, "{verb} {path}");
    }
    let other = town.ask(town.request("POST", "/pets/7"), "").await;
    assert!(other.text.contains("this path has only GET, HEAD, PUT, PATCH, DELETE"), "{}", other.text);
    let unknown = town.ask(town.request("GET", "/other"), "").await;
    assert!(unknown.text.contains("GET /pets/{petId}") && !unknown.text.contains("/other"), "{}", unknown.text);
    for name in ["X-HTTP-Method-Override", "X-Original-URL"] {
        let answer = town.ask(town.request("GET", "/pets/7").header(name, "DELETE"), "").await;
        is_error(&answer, "server.clientproxy.invalid_rest");
        assert_eq!(town.heard(), None);
    }
    // Names that some services read as others.
    for (name, value) in [("X_Road_Client", "VN/GOV/other/x"), ("X_HTTP_Method_Override", "DELETE")] {
        let answer = town.ask(town.request("GET", "/pets/7").header(name, value), "").await;
        is_error(&answer, "server.clientproxy.invalid_rest");
        assert_eq!(town.heard(), None);
    }
    // What is granted in one form is not to be had in the other.
    let grpc = Request::post(format!("http://{}/{PETS}/getPet", town.door()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("causeway-service", &town.moj.subsystem)
        .header("causeway-purpose", PURPOSE);
    let answer = soon(raw::Client::to(town.door()).await.call(grpc, Bytes::from_static(b"\0\0\0\0\0"))).await;
    assert_eq!(answer.head.headers.get("causeway-refusal").unwrap(), "SERVICE_UNKNOWN", "{answer:?}");
    assert_eq!(town.heard(), None);
    town.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_says_wrong_is_told_by_name() {
    let mut town = PetTown::new().await;
    let base = town.base();
    let client = town.portal.subsystem.clone();
    let get = |uri: &str| Request::get(uri.to_owned());
    let with = |uri: &str| get(uri).header("X-Road-Client", &client);
    for (request, kind, says) in [
        (get(&format!("{base}/pets")), "server.clientproxy.missing_header", "there is no X-Road-Client"),
        (
            get(&format!("{base}/pets")).header("X-Road-Client", "VN/GOV/moj/civil-registry"),
            "server.clientproxy.ssl_authentication_failed",
            "X-Road-Client is not the subsystem",
        ),
        (
            with(&format!("{base}/pets")).header("X-Road-Client", "VN/GOV/moj/civil-registry"),
            "server.clientproxy.invalid_rest",
            "more than once",
        ),
        (
            with("/r1/VN/GOV/moj/pets.v1"),
            "server.clientproxy.invalid_rest",
            "/r1/INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE",
        ),
        (
            with("/r1/VN/GOV/nobody/civil-registry/pets.v1/pets"),
            "server.clientproxy.unknown_service",
            "lists no such service",
        ),
        (
            with(&format!("/r1/{}/pets.v2/pets", town.moj.subsystem)),
            "server.clientproxy.unknown_service",
            "did you mean pets.v1?",
        ),
        (
            with(&format!("{base}/pets")).header("X-Road-Security-Server", "VN/GOV/moj/ss9"),
            "server.clientproxy.unknown_member",
            "not hosted at the server",
        ),
        (
            with(&format!("{base}/pets")).header("X-Road-Security-Server", "VN/GOV/moj"),
            "server.clientproxy.invalid_client_identifier",
            "X-Road-Security-Server",
        ),
        (
            with(&format!("{base}/pets")).header("causeway-exchange", "1"),
            "server.clientproxy.invalid_rest",
            "callers may not set",
        ),
        (with(&format!("{base}/pets")).header("Origin", "http://page"), "server.clientproxy.invalid_rest", "Origin"),
        (
            with(&format!("{base}/pets")).header("causeway-purpose", "something-else"),
            "server.serverproxy.access_denied",
            "purpose",
        ),
    ] {
        let answer = town.ask(request, "").await;
        is_error(&answer, kind);
        assert!(answer.text.contains(says), "{says}: {}", answer.text);
        assert_eq!(town.heard(), None);
    }
    let right = with(&format!("{base}/pets")).header("X-Road-Security-Server", "VN/GOV/moj/ss1");
    assert_eq!(town.ask(right, "").await.status(), 200);
    let xml = town.ask(get(&format!("{base}/pets")).header("Accept", "text/xml"), "").await;
    assert_eq!((xml.status(), xml.field("content-type")), (500, Some("text/xml;charset=utf-8")));
    assert!(xml.text.starts_with("<error><type>server.clientproxy.missing_header</type><message>"), "{}", xml.text);
    let vietnamese = get(&format!("{base}/pets")).header("Accept-Language", "vi");
    let title = Code::MetadataMalformed.title(Language::Vietnamese);
    assert!(town.ask(vietnamese, "").await.json()["message"].as_str().unwrap().starts_with(title));
    town.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_and_what_is_allowed_is_told_as_x_road_tells_it() {
    let mut town = PetTown::new().await;
    let metaservice = |town: &PetTown, name: &str| {
        let uri = format!("/r1/{}/{name}", town.moj.subsystem);
        Request::get(uri).header("X-Road-Client", &town.portal.subsystem)
    };
    let listed = town.ask(metaservice(&town, "listMethods"), "").await;
    let said = listed.json();
    let service = &said["service"][0];
    for (name, value) in [
        ("xroad_instance", "VN"),
        ("member_class", "GOV"),
        ("member_code", "moj"),
        ("subsystem_code", "civil-registry"),
        ("service_code", PETS),
        ("service_type", "OPENAPI"),
        ("object_type", "SERVICE"),
    ] {
        assert_eq!(service[name], value);
    }
    let endpoints = |said: &Value| said["service"][0]["endpoint_list"].as_array().unwrap().clone();
    let has =
        |said: &Value, method: &str, path: &str| endpoints(said).contains(&json!({ "method": method, "path": path }));
    assert!(has(&said, "DELETE", "/pets/*") && has(&said, "GET", "/pets/secret"), "{said}");
    let allowed = town.ask(metaservice(&town, "allowedMethods"), "").await.json();
    assert!(has(&allowed, "GET", "/pets/*") && !has(&allowed, "DELETE", "/pets/*"), "{allowed}");
    assert!(!has(&allowed, "GET", "/pets/secret"), "{allowed}");

    let document = town.ask(metaservice(&town, &format!("getOpenAPI?serviceCode={PETS}")), "").await;
    assert_eq!(document.json()["paths"]["/pets"]["get"]["operationId"], "listPets");
    assert!(!document.text.contains("10.0.0.7"), "no internal address is told");
    is_error(&town.ask(metaservice(&town, "getOpenAPI"), "").await, "server.clientproxy.invalid_rest");
    is_error(
        &town.ask(metaservice(&town, "getOpenAPI?serviceCode=other"), "").await,
        "server.clientproxy.unknown_service",
    );

    let clients = Request::get("/listClients").header("Accept", "application/json");
    let clients = town.ask(clients, "").await.json();
    let codes: Vec<_> =
        clients["member"].as_array().unwrap().iter().map(|member| &member["id"]["member_code"]).collect();
    assert_eq!(codes, ["moj", "portal"]);
    assert_eq!(clients["member"][1]["id"]["object_type"], "SUBSYSTEM");
    let xml = town.ask(Request::get("/listClients"), "").await;
    assert!(xml.text.contains("<id:memberCode>portal</id:memberCode>"), "{}", xml.text);
    let foreign = Request::get("/listClients?xRoadInstance=EE").header("Accept", "application/json");
    assert_eq!(town.ask(foreign, "").await.json(), json!({ "member": [] }));
    assert_eq!(town.heard(), None);
    town.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_out_of_reach_and_a_restart_without_the_registry_are_told_apart() {
    let mut town = PetTown::new().await;
    assert_eq!(town.ask(town.request("GET", "/pets"), "").await.status(), 200);
    town.realm.stop_registry().await;
    for member in [&town.portal, &town.moj] {
        town.realm.restart(member).await;
    }
    assert_eq!(town.ask(town.request("GET", "/pets"), "").await.status(), 200, "what its operations are is on disk");
    town.realm.stop(&town.moj).await;
    let path = town.realm.path(&town.moj.file());
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("address = \"http://127.0.0.1:").unwrap();
    let nowhere = tests::processes::reserved().port();
    let (_, rest) = rest.split_once('/').unwrap();
    std::fs::write(&path, format!("{before}address = \"http://127.0.0.1:{nowhere}/{rest}")).unwrap();
    town.realm.serve(&town.moj).await;
    let answer = soon(ask(town.door(), town.request("GET", "/pets"), "")).await;
    is_error(&answer, "server.serverproxy.service_failed.network_error");
    town.realm.stop(&town.moj).await;
    let answer = soon(ask(town.door(), town.request("GET", "/pets"), "")).await;
    is_error(&answer, "server.clientproxy.network_error");
    town.realm.servers.clear();
}
