//! Who received what about a person, by the whole bus: found for that person and for nobody else, with the identifier in no file,
//! and refused before the service hears of it where nobody could be found (PROTOCOL.md 21).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::identifier::ServerId;
use proto::purposes::PurposeDocument;
use proto::refusal::{Code, Language};
use proto::registration::{Invitation, Order};
use security_server::backup::{Wanted, would_create};
use security_server::disclosures::{Asking, Disclosures};
use security_server::message_log::exchanges::FoundExchanges;
use security_server::operate::Operator;
use security_server::shown;
use serde_json::json;
use tests::country::is_problem;
use tests::echo::{Heard, Parrot};
use tests::plain::ask;
use tests::processes::{Member, PURPOSE};
use tests::programs::{program, repository};
use tests::raw::{self, Answer, flagged};
use tests::realm::{Realm, member_id};
use tests::soon;
use tests::wire::Said;
use tokio::sync::mpsc;

/// Persons, by identifiers that stand nowhere by chance.
const LAN: &str = "079185001234";
const MINH: &str = "079185005678";
const HOA: &str = "079185009999";
/// One by a number.
const TUAN: u64 = 79_185_007_777;

/// The echo service, as its member marks it: requests name persons in a text, in texts that repeat, and in numbers.
const ECHO: &str = r#"
syntax = "proto3";
package echo.v1;
import "causeway/options.proto";
import "google/api/annotations.proto";
// Hears and says back.
service Echo {
  // What is heard of somebody.
  rpc Unary(Asked) returns (Told) { option (google.api.http) = { get: "/v1/told/{text}" }; }
  rpc Both(stream Asked) returns (stream Told);
  rpc SpeaksFirst(stream Plain) returns (stream Plain);
}
message Asked {
  string text = 1 [(causeway.element) = "person.number", (causeway.subject) = true];
  Others bytes = 2;
  uint64 number = 3;
}
message Others {
  repeated string texts = 1 [(causeway.subject) = true];
  repeated uint64 numbers = 2 [(causeway.subject) = true];
  Others more = 3;
}
message Told {
  string text = 1 [(causeway.element) = "person.number"];
  Home bytes = 2;
  uint64 number = 3;
}
message Home { string street = 1 [(causeway.element) = "person.residence"]; }
message Plain { string text = 1; bytes bytes = 2; uint64 number = 3; }
"#;

/// The message of field 2, for whoever reads it as bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Others {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
    #[prost(uint64, repeated, tag = "2")]
    numbers: Vec<u64>,
    #[prost(message, optional, boxed, tag = "3")]
    more: Option<Box<Others>>,
}

struct Country {
    realm: Realm,
    portal: Member,
    moj: Member,
    heard: mpsc::UnboundedReceiver<Heard>,
}

fn descriptors(realm: &Realm, echo: &str) -> Vec<u8> {
    let http = "message HttpRule { string get = 2; string post = 4; string body = 7; }";
    let annotations = "import \"google/api/http.proto\"; import \"google/protobuf/descriptor.proto\"; \
                       extend google.protobuf.MethodOptions { HttpRule http = 72295728; }";
    let api = |text: &str| format!("syntax = \"proto3\"; package google.api; {text}");
    for (name, text) in [
        ("echo/v1/echo.proto", echo.to_owned()),
        ("google/api/http.proto", api(http)),
        ("google/api/annotations.proto", api(annotations)),
    ] {
        let path = realm.path("protos").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let protos = realm.path("protos");
    security_server::announce::compiled(&[protos.join("echo/v1/echo.proto")], &[protos]).unwrap().descriptors
}

impl Country {
    async fn new() -> Self {
        let (service, heard) = Parrot::serve().await;
        let (realm, portal, moj) = Realm::of_two(service).await;
        let purpose =
            PurposeDocument {
                purpose: PURPOSE.parse().unwrap(), en: "For a test".into(), vi: "Để kiểm thử".into()
            };
        realm.decided(Order::SetPurpose(purpose)).await;
        let country = Self { realm, portal, moj, heard };
        let marked = descriptors(&country.realm, ECHO);
        country.realm.list_as(&country.moj, &marked, &[]).await.unwrap();
        country.realm.settled().await;
        country
    }

    fn grpc(&self, method: &str) -> http::request::Builder {
        http::Request::post(format!("http://{}/echo.v1.Echo/{method}", self.portal.clients))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("causeway-service", &self.moj.subsystem)
            .header("causeway-purpose", PURPOSE)
    }

    async fn called(&self, method: &str, body: impl Into<Bytes>) -> Answer {
        soon(async { raw::Client::to(self.portal.clients).await.call(self.grpc(method), body.into()).await }).await
    }

    fn json(&self, request: http::request::Builder) -> http::request::Builder {
        request
            .header("content-type", "application/json")
            .header("causeway-service", &self.moj.subsystem)
            .header("causeway-purpose", PURPOSE)
    }

    /// As the command asks it.
    async fn told_with(&self, asking: &Asking) -> Disclosures {
        let operator = Operator::of(&self.realm.path(&self.moj.file())).unwrap();
        soon(operator.post("/v1/disclosures", asking)).await.unwrap()
    }

    async fn told(&self, subject: &str) -> Disclosures {
        self.told_with(&about(subject)).await
    }

    async fn quiet(&self) {
        soon(async {
            while self.realm.servers.values().any(|started| started.server.running() > 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The service was not asked for anything.
    fn heard_nothing(&mut self) {
        assert_eq!(self.heard.try_recv().ok(), None);
    }
}

fn about(subject: &str) -> Asking {
    Asking { subject: subject.into(), since: None, until: None, before: None, limit: None }
}

fn said(text: &str) -> Said {
    Said { text: text.into(), ..Said::default() }
}

/// Every file under a directory.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn holds(content: &[u8], wanted: &[u8]) -> bool {
    content.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn the_page_shows_an_object_of_the_command() {
    let page = std::fs::read_to_string(repository().join("deploy/COMMANDS.md")).unwrap();
    let (_, block) = page.split_once("```json security-server disclosures\n").unwrap();
    let object: serde_json::Value = serde_json::from_str(block.split_once("\n```").unwrap().0).unwrap();
    let read: Disclosures = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), object);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_about_a_person_is_found_for_that_person_and_nobody_else() {
    let mut country = Country::new().await;
    // By gRPC, in JSON, by a route, and in messages within messages.
    let answer = country.called("Unary", raw::message(&said(LAN))).await;
    assert_eq!((answer.status(), answer.refusal()), (0, None));
    let exchange = answer.field("causeway-exchange").unwrap().to_owned();
    let in_json = country.json(http::Request::post("/echo.v1.Echo/Unary"));
    let in_json = soon(ask(country.portal.clients, in_json, json!({ "text": LAN }).to_string())).await;
    assert_eq!(in_json.status(), 200, "{}", in_json.text);
    let routed = country.json(http::Request::get(format!("/v1/told/{LAN}")));
    let routed = soon(ask(country.portal.clients, routed, "")).await;
    assert_eq!(routed.status(), 200, "{}", routed.text);
    let inner = Others { texts: vec![LAN.into()], ..Others::default() };
    let others =
        Others { texts: vec![MINH.into(), String::new()], numbers: vec![TUAN, 0], more: Some(Box::new(inner)) };
    let nested = Said { bytes: prost::Message::encode_to_vec(&others), ..Said::default() };
    assert_eq!(country.called("Unary", raw::message(&nested)).await.status(), 0);
    // A field that is there twice: parsers take the last, and both are found.
    let twice = [prost::Message::encode_to_vec(&said(MINH)), prost::Message::encode_to_vec(&said("somebody"))].concat();
    assert_eq!(country.called("Unary", flagged(0, &twice)).await.status(), 0);
    // A stream, whose messages are of two.
    let stream = [raw::message(&said(LAN)), raw::message(&said(MINH)), raw::message(&said(LAN))].concat();
    assert_eq!(country.called("Both", stream).await.status(), 0);
    country.quiet().await;

    let lan = country.told(LAN).await;
    let seen: Vec<_> = lan.disclosures.iter().map(|each| each.method.as_str()).collect();
    let (unary, both) = ("/echo.v1.Echo/Unary", "/echo.v1.Echo/Both");
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&unary, &both]));
    let first = lan.disclosures.iter().find(|each| each.exchange == exchange).unwrap();
    assert_eq!(
        (first.consumer.as_str(), first.provider.as_str()),
        (&*country.portal.subsystem, &*country.moj.subsystem)
    );
    assert_eq!((first.consumer_name.as_str(), first.purpose.as_str()), (country.portal.name, PURPOSE));
    assert_eq!((first.legal_basis.as_str(), first.grant, first.status), ("a test", 1, Some(0)));
    assert_eq!(first.description.as_deref(), Some("What is heard of somebody."));
    let elements: Vec<_> = first.elements.iter().map(ToString::to_string).collect();
    assert_eq!(elements, ["person.number", "person.residence"]);
    let paint = command_line::Paint::none();
    let english = shown::disclosures(&lan, Language::English, paint);
    assert!(english.contains("for: For a test") && english.contains("legal basis: a test"), "{english}");
    let vietnamese = shown::disclosures(&lan, Language::Vietnamese, paint);
    assert!(vietnamese.contains("mục đích: Để kiểm thử") && vietnamese.contains("đã trả lời"), "{vietnamese}");
    assert_eq!(country.told(MINH).await.disclosures.len(), 3);
    assert_eq!(country.told(&TUAN.to_string()).await.disclosures.len(), 1);
    for nobody in [HOA, "079185001", &format!("{LAN} "), &format!("0{LAN}"), PURPOSE] {
        assert_eq!(country.told(nobody).await.disclosures, [], "{nobody:?}");
    }

    // The command reads the identifier from standard input, and says what the server says.
    let config = country.realm.path(&country.moj.file());
    let arguments = ["disclosures", "--subject", "-", "--language", "vi", "--config"];
    let mut command = tokio::process::Command::new(program("security-server"));
    command.args(arguments).arg(&config).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut command = command.spawn().unwrap();
    let mut stdin = command.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, format!("{LAN}\n").as_bytes()).await.unwrap();
    drop(stdin);
    let output = soon(command.wait_with_output()).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), vietnamese);

    // Whoever looks for evidence finds the same exchanges.
    let find = ["evidence", "find", "--json", "--subject", LAN, "--method", both, "--config"];
    let found = tokio::process::Command::new(program("security-server")).args(find).arg(&config).output();
    let found: FoundExchanges = serde_json::from_slice(&soon(found).await.unwrap().stdout).unwrap();
    let of_both: Vec<_> =
        lan.disclosures.iter().filter(|each| each.method == both).map(|each| &each.exchange).collect();
    assert_eq!(found.exchanges.iter().map(|each| &each.exchange).collect::<Vec<_>>(), of_both);

    // Page by page there is the same, and nothing twice.
    let (mut before, mut paged) = (None, Vec::new());
    loop {
        let told = country.told_with(&Asking { before, limit: Some(2), ..about(LAN) }).await;
        assert!(told.disclosures.len() <= 2);
        paged.extend(told.disclosures);
        before = told.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(paged, lan.disclosures);
    let later = Asking { since: Some(country.realm.now().plus(Duration::from_secs(60)).to_string()), ..about(LAN) };
    assert_eq!(country.told_with(&later).await.disclosures, []);

    // After a restart, and with an index that is built again.
    country.realm.restart(&country.moj).await;
    assert_eq!(country.told(LAN).await, lan);
    country.realm.stop(&country.moj).await;
    std::fs::remove_dir_all(country.realm.path("moj").join("index")).unwrap();
    country.realm.serve(&country.moj).await;
    assert_eq!(country.told(LAN).await, lan);

    // Who looked is in the audit log, and about whom under the secret only.
    let backup = Wanted { signing_keys: false, whole_log: true };
    let parts = would_create(&config, backup, &country.realm.clock()).unwrap().parts;
    assert!(parts.iter().any(|(name, bytes)| name.as_str() == "subjects/secret" && *bytes == 32), "{parts:?}");
    let metrics = http::Request::get("/metrics").header("host", "localhost");
    let (_, metrics) = tests::operator::ask(country.moj.operators, metrics, String::new()).await;
    let (portal, moj) = (country.realm.path("portal"), country.realm.path("moj"));
    country.realm.stop(&country.portal).await;
    country.realm.stop(&country.moj).await;
    let mut all = files(&portal);
    all.extend(files(&moj));
    all.push(("metrics".into(), metrics.into_bytes()));
    assert!(all.iter().any(|(_, content)| holds(content, b"\"what\":\"disclosures\"")), "it is noted who looked");
    let mut varint = Vec::new();
    prost::encoding::encode_varint(TUAN, &mut varint);
    let number = TUAN.to_string();
    for (name, content) in &all {
        let forms =
            [LAN.as_bytes(), MINH.as_bytes(), number.as_bytes(), &TUAN.to_le_bytes(), &TUAN.to_be_bytes(), &varint];
        assert!(!forms.iter().any(|form| holds(content, form)), "{name} holds an identifier");
    }
    let secret = std::fs::metadata(moj.join("subjects/secret")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);
    // The whole log holds, the records of subjects included.
    let configuration = security_server::config::Configuration::read(&config).unwrap();
    let found = security_server::whole_log::verify(&configuration).unwrap();
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_names_nobody_is_refused_before_the_service_sees_it() {
    let mut country = Country::new().await;
    let long = [&[0][..], &(2u32 << 20).to_be_bytes(), &[0; 64]].concat();
    let deep = (0..102).fold(Others::default(), |more, _| Others { more: Some(Box::new(more)), ..Others::default() });
    let deep = Said { bytes: prost::Message::encode_to_vec(&deep), ..Said::default() };
    let many = Others { numbers: vec![TUAN; 1_001], ..Others::default() };
    let many = Said { bytes: prost::Message::encode_to_vec(&many), ..said(LAN) };
    let whole = raw::message(&said(LAN));
    let no_message = [&prost::Message::encode_to_vec(&said(LAN))[..], &[0x0f]].concat();
    for (what, body, code) in [
        ("nothing in it", raw::message(&Said::default()), Code::SubjectMissing),
        ("other fields", raw::message(&Said { number: 7, ..Said::default() }), Code::SubjectMissing),
        ("no message at all", Bytes::new(), Code::SubjectMissing),
        ("compressed", flagged(1, &prost::Message::encode_to_vec(&said(LAN))), Code::SubjectUnreadable),
        ("longer than may be held", long.into(), Code::SubjectUnreadable),
        ("cut off", whole.slice(..whole.len() - 1), Code::SubjectUnreadable),
        ("no protobuf", flagged(0, &no_message), Code::SubjectUnreadable),
        ("too deep", raw::message(&deep), Code::SubjectUnreadable),
        ("too many persons", raw::message(&many), Code::SubjectUnreadable),
    ] {
        let answer = country.called("Unary", body).await;
        assert_eq!(answer.refusal(), Some(code.as_str()), "{what}");
        country.quiet().await;
        country.heard_nothing();
    }
    // In Vietnamese, and as a problem document.
    let in_json = country.json(http::Request::post("/echo.v1.Echo/Unary")).header("accept-language", "vi");
    let said_so = soon(ask(country.portal.clients, in_json, r#"{"number":"7"}"#)).await;
    is_problem(&said_so, Code::SubjectMissing, Language::Vietnamese);
    let no_purpose = http::Request::post("/echo.v1.Echo/Unary")
        .header("content-type", "application/json")
        .header("causeway-service", &country.moj.subsystem);
    let no_purpose = soon(ask(country.portal.clients, no_purpose, json!({ "text": LAN }).to_string())).await;
    is_problem(&no_purpose, Code::PurposeMissing, Language::English);

    // The head first, and the message in pieces: held until it is whole, refused where it names nobody.
    for (message, refused) in [(said(MINH), None), (Said { number: 7, ..Said::default() }, Some("SUBJECT_MISSING"))] {
        let mut client = soon(raw::Client::to(country.portal.clients)).await;
        let (mut sender, response) = client.open(country.grpc("Unary"));
        let response = tokio::spawn(response);
        let opened = |country: &Country| country.realm.servers["moj"].server.running() > 0;
        soon(async {
            while !opened(&country) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        country.heard_nothing();
        let (first, rest) = {
            let mut whole = raw::message(&message);
            let rest = whole.split_off(6);
            (whole, rest)
        };
        sender.send_data(first).await.unwrap();
        sender.send_data(rest).await.unwrap();
        drop(sender);
        let answer = soon(async { Answer::read(response.await.unwrap().unwrap()).await }).await;
        assert_eq!(answer.refusal(), refused);
        country.quiet().await;
        match refused {
            None => assert!(matches!(country.heard.try_recv(), Ok(Heard::Call(..)))),
            Some(_) => country.heard_nothing(),
        }
    }
    assert_eq!(country.told(MINH).await.disclosures.len(), 1);

    // Each message of a stream: what came before is answered, and the one that names nobody is not handed on.
    let stream = [raw::message(&said(HOA)), raw::message(&Said { number: 7, ..Said::default() })].concat();
    let answer = country.called("Both", stream).await;
    assert_eq!(answer.refusal(), Some("SUBJECT_MISSING"));
    country.quiet().await;
    country.heard_nothing();
    let mut client = soon(raw::Client::to(country.portal.clients)).await;
    let (mut sender, response) = client.open(country.grpc("Both"));
    sender.send_data(raw::message(&said(HOA))).await.unwrap();
    let response = soon(response).await.unwrap();
    sender.send_data(raw::message(&Said { number: 7, ..Said::default() })).await.unwrap();
    let answer = soon(Answer::read(response)).await;
    assert_eq!(answer.refusal(), Some("SUBJECT_MISSING"));
    drop(sender);
    country.quiet().await;
    assert_eq!(country.told(HOA).await.disclosures.len(), 1);
    // A method of the same service whose requests name nobody goes its way, though the subjects of others are known.
    let plain = country.called("SpeaksFirst", BytesMut::new()).await;
    assert_eq!(plain.refusal(), Some("GRANT_MISSING"), "it is not granted, and that is all that is wrong with it");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_know_what_fields_mean_hands_nothing_on_and_another_server_has_its_own_list() {
    let mut country = Country::new().await;
    // What was known is known after a restart, though the registry is gone.
    country.realm.stop_registry().await;
    country.realm.restart(&country.moj).await;
    let answer = country.called("Unary", raw::message(&Said::default())).await;
    assert_eq!(answer.refusal(), Some("SUBJECT_MISSING"));
    // Nor does a backup lose it.
    let (config, wanted) = (country.realm.path(&country.moj.file()), Wanted { signing_keys: false, whole_log: true });
    let parts = would_create(&config, wanted, &country.realm.clock()).unwrap().parts;
    let there = std::fs::metadata(country.realm.path("moj").join("subjects/services.json")).unwrap().len();
    assert!(
        parts.iter().any(|(name, bytes)| name.as_str() == "subjects/services.json" && *bytes == there),
        "{parts:?}"
    );
    country.realm.stop(&country.moj).await;
    std::fs::remove_file(country.realm.path("moj").join("subjects/services.json")).unwrap();
    country.realm.serve(&country.moj).await;
    assert_eq!(country.called("Unary", raw::message(&said(LAN))).await.refusal(), Some("NOT_READY"));
    country.heard_nothing();
    country.realm.serve_registry().await;
    country.realm.settled().await;
    let passes = async |country: &Country| {
        soon(async {
            while country.called("Unary", raw::message(&said(LAN))).await.refusal() == Some("NOT_READY") {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    passes(&country).await;
    country.quiet().await;
    let here = country.told(LAN).await;
    assert_eq!((here.disclosures.len(), here.not_covered.len()), (1, 0));

    // Another server of the member learns the listing from the registry, and has a secret and a list of its own.
    let (service, mut heard) = Parrot::serve().await;
    let second = Member { subsystem: country.moj.subsystem.clone(), ..Member::new("second", "nothing") };
    let server: ServerId = "VN/GOV/moj/ss2".parse().unwrap();
    let invited = Invitation {
        member: member_id(&country.moj),
        name: None,
        server: server.clone(),
        subsystems: Vec::new(),
        valid: Duration::from_secs(3600),
    };
    country.realm.join_as(&second, invited, &[("echo.v1.Echo", service)]).await;
    let hosted = country.realm.decided(Order::Host(country.moj.subsystem.parse().unwrap(), server)).await;
    country.realm.serve(&second).await;
    country.realm.in_force(hosted).await;
    country.realm.stop(&country.moj).await;
    country.realm.grant(&country.portal, &second).await;
    passes(&country).await;
    assert!(matches!(soon(heard.recv()).await, Some(Heard::Call(..))));
    country.quiet().await;
    let operator = Operator::of(&country.realm.path(&second.file())).unwrap();
    let there: Disclosures = soon(operator.post("/v1/disclosures", &about(LAN))).await.unwrap();
    assert_eq!(there.disclosures.len(), 1);
    assert_eq!(there.not_covered.iter().map(ToString::to_string).collect::<Vec<_>>(), ["VN/GOV/moj/ss1"]);
    let secret = |name: &str| std::fs::read(country.realm.path(name).join("subjects/secret")).unwrap();
    assert_ne!(secret("moj"), secret("second"));
    country.realm.stops().await;
}
