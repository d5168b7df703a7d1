//! Every parser of bytes that somebody else chose, under one name each, so that a fuzzer and the tests reach them all. A
//! parser may refuse whatever it likes; it may not panic, and not take more time or memory than its limits say.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use catalogue::routes::{Route, request, routes_of};
use catalogue::subjects::SubjectFields;
use catalogue::{Described, OpenApi, openapi, rest, source};
use central_registry::ceremony::{Ceremony, Changes};
use prost::Message;
use proto::access::{AccessAcceptance, AccessDecision, AccessRequest, GrantEnd};
use proto::catalogue::ReceivedEntry;
use proto::consistency::{Joined, SignedHead};
use proto::digest::Digest;
use proto::global_configuration::document::{InstanceDocument, MemberDocument, RevokedDocument};
use proto::global_configuration::ledger::{Checkpoint, CheckpointFile};
use proto::global_configuration::listed::CatalogueDocument;
use proto::global_configuration::update::Anchor;
use proto::head::Head;
use proto::identifier::{ExchangeId, MemberId, MethodPath, ServerId, SubsystemId};
use proto::message::Header;
use proto::minimise::{FieldPath, Minimiser, Table};
use proto::oversight::ReceivedReport;
use proto::record::{Genesis, Record, TreeName, decode_canonical};
use proto::registration::{Order, ReceivedApplication, ReceivedCommand, ordered_by};
use proto::rest::{Operations, Place, RestTarget, Template, Verb};
use proto::server_request::ReceivedServerRequest;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::transport::{FrameReader, decode_alone};
use proto::wire::{registry, relay};
use proto::{
    certificate, contradiction, evidence, registration, seal, server_request, split_view, timestamp, traffic,
    transport, zip,
};
use serde_json::json;

/// One of them.
pub struct Parser {
    pub name: &'static str,
    /// Whether the bytes are what the parser takes; where they are, everything that may be asked of the result was asked.
    pub takes: fn(&[u8]) -> bool,
}

/// Longest input that is tried: above most limits, so that both sides of them are.
pub const MAX_INPUT_BYTES: usize = 1 << 17;

/// All of them. The order is that of the inputs kept by fuzzers, whose first byte says which is meant: new ones come last.
pub const ALL: &[Parser] = &[
    // ---- between two servers
    Parser { name: "frames", takes: frames },
    Parser { name: "header", takes: |bytes| header(bytes) },
    Parser { name: "record", takes: |bytes| Record::parse(owned(bytes)).is_ok_and(|record| is_whole(&record)) },
    Parser { name: "genesis", takes: |bytes| Genesis::parse(owned(bytes)).is_ok() },
    Parser { name: "head", takes: |bytes| Head::parse(bytes).is_ok_and(|head| head.to_text().as_bytes() == bytes) },
    Parser { name: "seal", takes: |bytes| sealed(bytes) },
    Parser {
        name: "signed head",
        takes: |bytes| decoded(bytes, |head: relay::SignedHead| SignedHead::parse(&head).is_ok()),
    },
    Parser { name: "joined", takes: |bytes| Joined::decode(bytes).is_ok() },
    Parser {
        name: "access request",
        takes: |bytes| AccessRequest::parse(bytes).is_ok_and(|read| read.to_bytes() == bytes),
    },
    Parser { name: "access decision", takes: |bytes| AccessDecision::parse(bytes).is_ok() },
    Parser { name: "access acceptance", takes: |bytes| AccessAcceptance::parse(bytes).is_ok() },
    Parser { name: "end of a grant", takes: |bytes| GrantEnd::parse(bytes).is_ok_and(|read| read.to_bytes() == bytes) },
    // ---- at the registry
    Parser { name: "application", takes: |bytes| decoded(bytes, |join| ReceivedApplication::parse(join).is_ok()) },
    Parser { name: "command", takes: |bytes| decoded(bytes, |command| ReceivedCommand::parse(command).is_ok()) },
    Parser { name: "order", takes: |bytes| ordered_by(bytes).is_ok() },
    Parser { name: "server request", takes: |bytes| decoded(bytes, server_request) },
    Parser { name: "catalogue entry", takes: |bytes| ReceivedEntry::from_bytes(bytes).is_ok() },
    Parser { name: "report of grants", takes: |bytes| ReceivedReport::from_bytes(bytes).is_ok() },
    // ---- the global configuration
    Parser { name: "anchor", takes: |bytes| Anchor::read(owned(bytes)).is_ok() },
    Parser { name: "instance document", takes: |bytes| InstanceDocument::parse(bytes).is_ok() },
    Parser { name: "member document", takes: member_document },
    Parser {
        name: "revoked document",
        takes: |bytes| shards().any(|shard| RevokedDocument::parse(&shard, bytes).is_ok()),
    },
    Parser { name: "catalogue document", takes: catalogue_document },
    // ---- certificates and timestamps
    Parser { name: "authentication certificate", takes: |bytes| certificate::Authentication::parse(bytes).is_ok() },
    Parser { name: "signing certificate", takes: |bytes| certificate::Signing::parse(bytes).is_ok() },
    Parser { name: "authority's certificate", takes: |bytes| certificate::Authority::parse(bytes).is_ok() },
    Parser { name: "timestamp token", takes: token },
    Parser { name: "timestamp answer", takes: timestamp_answer },
    Parser {
        name: "timestamp query",
        takes: |bytes| timestamp::Statement::answering(bytes, [1; 16], Time::from_millis(1)).is_ok(),
    },
    // ---- files that people hand each other
    Parser { name: "evidence", takes: |bytes| evidence::verify(bytes, anchor()).is_ok() },
    Parser {
        name: "zip",
        takes: |bytes| zip::read(&owned(bytes)).is_ok_and(|files| zip::write(&files).is_ok_and(|zip| zip == bytes)),
    },
    Parser { name: "traffic", takes: |bytes| traffic::Traffic::verify(bytes, anchor()).is_ok() },
    Parser { name: "contradiction", takes: |bytes| contradiction::verify(bytes, anchor()).is_ok() },
    Parser { name: "journal segment", takes: segment },
    Parser { name: "ceremony", takes: |bytes| Ceremony::read("it", bytes).is_ok() },
    Parser {
        name: "security server's configuration file",
        takes: |bytes| text(bytes, |text| security_server::config::Configuration::parse(Path::new("it"), text).is_ok()),
    },
    Parser {
        name: "registry's configuration file",
        takes: |bytes| {
            text(bytes, |text| central_registry::configuration::Configuration::parse(Path::new("it"), text).is_ok())
        },
    },
    Parser {
        name: "admin's file",
        takes: |bytes| text(bytes, |text| central_registry::command::AdminFile::parse(Path::new("it"), text).is_ok()),
    },
    // ---- what agencies publish, and what their systems say
    Parser { name: "descriptors", takes: descriptors },
    Parser { name: "OpenAPI", takes: open_api },
    Parser { name: "JSON message", takes: json_message },
    Parser { name: "JSON value", takes: |bytes| catalogue::json::value(bytes, 64).is_ok() },
    Parser { name: "message as JSON", takes: |bytes| catalogue::json::write(&asked(), bytes, MAX_INPUT_BYTES).is_ok() },
    Parser { name: "route", takes: |bytes| text(bytes, routed) },
    Parser { name: "REST path", takes: |bytes| text(bytes, |path| operations().asked("GET", path).is_ok()) },
    Parser { name: "REST target", takes: |bytes| text(bytes, |target| RestTarget::parse(target).is_ok()) },
    Parser { name: "subjects", takes: |bytes| SubjectFields::text(1).each(bytes, &mut |_| ()).is_ok() },
    Parser { name: "minimiser", takes: minimised },
    // ---- names
    Parser { name: "subsystem", takes: |bytes| named::<SubsystemId>(bytes) },
    Parser { name: "server", takes: |bytes| named::<ServerId>(bytes) },
    Parser { name: "method", takes: |bytes| named::<MethodPath>(bytes) },
    Parser { name: "exchange id", takes: |bytes| named::<ExchangeId>(bytes) },
    Parser { name: "time", takes: |bytes| named::<Time>(bytes) },
    Parser { name: "template", takes: |bytes| named::<Template>(bytes) },
    Parser { name: "digest", takes: |bytes| named::<Digest>(bytes) },
    Parser { name: "address", takes: |bytes| text(bytes, |text| proto::registration::Address::from_str(text).is_ok()) },
    Parser {
        name: "HTTP address",
        takes: |bytes| text(bytes, |text| proto::global_configuration::HttpAddress::from_str(text).is_ok()),
    },
    Parser {
        name: "text for people",
        takes: |bytes| text(bytes, |text| proto::registration::Text::from_str(text).is_ok()),
    },
    Parser {
        name: "data element",
        takes: |bytes| text(bytes, |text| proto::catalogue::ElementName::from_str(text).is_ok()),
    },
    // ---- the ledger of what was published
    Parser {
        name: "checkpoint",
        takes: |bytes| CheckpointFile::parse(bytes).is_ok_and(|read| read.to_bytes() == bytes),
    },
    Parser {
        name: "text of a checkpoint",
        takes: |bytes| text(bytes, |text| Checkpoint::parse(text).is_some_and(|read| read.to_text() == text)),
    },
    Parser {
        name: "split view",
        takes: |bytes| !matches!(split_view::verify(bytes, anchor()), Err(split_view::NotProved::Malformed(_))),
    },
];

fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(bytes: &[u8], takes: impl Fn(&str) -> bool) -> bool {
    std::str::from_utf8(bytes).is_ok_and(takes)
}

/// What is read as a name is written as that name.
fn named<T: FromStr + ToString>(bytes: &[u8]) -> bool {
    text(bytes, |text| T::from_str(text).is_ok_and(|read| T::from_str(&read.to_string()).is_ok()))
}

fn decoded<M: Message + Default>(bytes: &[u8], takes: impl Fn(M) -> bool) -> bool {
    M::decode(bytes).is_ok_and(takes)
}

/// The same bytes in one run and one by one make the same frames.
fn frames(bytes: &[u8]) -> bool {
    let read = |runs: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
        for run in runs {
            reader.take(owned(run));
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return None,
                }
            }
        }
        reader.finish().is_ok().then_some(frames)
    };
    let whole = read(&mut std::iter::once(bytes));
    assert_eq!(whole, read(&mut bytes.chunks(7)));
    assert!(
        whole.as_ref().is_none_or(|frames| frames.len() != 1) || decode_alone::<relay::Frame>(owned(bytes)).is_ok()
    );
    whole.is_some_and(|frames| !frames.is_empty())
}

/// What is taken has one encoding.
fn header(bytes: &[u8]) -> bool {
    let Ok(read) = Header::parse(owned(bytes)) else { return false };
    let facts: proto::message::Facts = (*read).clone();
    assert_eq!(Header::new(facts).as_bytes(), bytes);
    true
}

fn is_whole(record: &Record) -> bool {
    record.nonce().len() + record.body().len() < record.as_bytes().len()
}

/// The header is not the seal's, so the walk leads nowhere, or to another root.
fn sealed(bytes: &[u8]) -> bool {
    let Ok(seal) = decode_canonical::<relay::Seal>(bytes, "Seal") else { return false };
    _ = seal::walk(&seal, b"a header");
    Head::parse(&seal.head).is_ok()
}

fn server_request(request: registry::SignedServerRequest) -> bool {
    ReceivedServerRequest::parse(request, &"VN".parse().unwrap()).is_ok()
}

/// A document says whose it is; it is tried at the place where that one's belongs.
fn member_document(bytes: &[u8]) -> bool {
    let member = owner(bytes);
    member.is_some_and(|member| MemberDocument::parse(&MemberDocument::path_of(&member), bytes).is_ok())
}

fn catalogue_document(bytes: &[u8]) -> bool {
    let member = owner(bytes);
    member.is_some_and(|member| CatalogueDocument::parse(&CatalogueDocument::path_of(&member), bytes).is_ok())
}

fn owner(bytes: &[u8]) -> Option<MemberId> {
    serde_json::from_slice::<serde_json::Value>(bytes).ok()?["member"].as_str()?.parse().ok()
}

fn shards() -> impl Iterator<Item = String> {
    (0..16).map(RevokedDocument::path_of)
}

fn token(bytes: &[u8]) -> bool {
    let verified = timestamp::verify(bytes, &Digest::of(&[b"it"]), &[], &|_| false);
    assert!(verified.is_err(), "nobody is approved");
    timestamp::time_of(bytes).is_some() && timestamp::key_of(bytes).is_some()
}

fn timestamp_answer(bytes: &[u8]) -> bool {
    let query = timestamp::Query::new(Digest::of(&[b"it"]), [1; timestamp::NONCE_BYTES]);
    match timestamp::accept(bytes, &query, &[], &|_| false, Time::from_millis(1)) {
        Ok(_) => panic!("nobody is approved"),
        Err(timestamp::NotATimestamp::Form(_)) => false,
        Err(_) => true,
    }
}

fn anchor() -> &'static [u8] {
    static ANCHOR: OnceLock<Vec<u8>> = OnceLock::new();
    ANCHOR.get_or_init(|| std::fs::read(vectors().join("evidence/anchor.json")).unwrap())
}

/// Where the vectors of the protocol are.
fn vectors() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/vectors")
}

fn segment(bytes: &[u8]) -> bool {
    let mut verifier = journal::Verifier::new("it", |_| None);
    let read = verifier.segment("0000000001.segment", &owned(bytes), &mut |_| ());
    verifier.finish();
    read.is_ok()
}

/// Everything that is made of descriptors is made of these.
fn descriptors(bytes: &[u8]) -> bool {
    let Ok(described) = Described::read(bytes) else { return false };
    let services = described.services();
    for name in &services {
        let Ok(service) = described.service(name) else { continue };
        _ = described.said_of(name);
        _ = catalogue::reduced(bytes, std::slice::from_ref(name));
        _ = catalogue::subjects::ServiceFacts::of(&described, name, "title");
        _ = described.routable(std::iter::once(name.as_str()));
        _ = source::files(&described, &service);
        _ = openapi::document(&service, &about());
        assert!(catalogue::breaks(&service, &service).is_empty(), "nothing breaks itself");
    }
    !services.is_empty()
}

fn about() -> openapi::About {
    openapi::About {
        title: "Library".into(),
        version: "1.0".into(),
        description: "Books.".into(),
        contact: "desk@library.example".into(),
        provider: "VN/GOV/library/books".into(),
        deprecated: None,
        door: None,
    }
}

/// What is published is in the one form in which it is read: published again it is the same.
fn open_api(bytes: &[u8]) -> bool {
    let Ok(published) = rest::published(bytes) else { return false };
    assert_eq!(rest::published(&published).expect("it is JSON"), published);
    let Ok(read) = OpenApi::read(&published) else { return false };
    _ = (read.said(), read.title(), read.served_at("http://127.0.0.1:1"));
    true
}

/// What is read as a message is written as JSON, unless it grows too long.
fn json_message(bytes: &[u8]) -> bool {
    let Ok(message) = catalogue::json::read(&asked(), bytes, 64) else { return false };
    _ = catalogue::json::write(&asked(), &message, 4 * MAX_INPUT_BYTES);
    true
}

fn library() -> &'static Described {
    static LIBRARY: OnceLock<Described> = OnceLock::new();
    LIBRARY.get_or_init(|| Described::read(&library_descriptors()).unwrap())
}

fn library_descriptors() -> Vec<u8> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("protos");
    security_server::announce::compiled(&[protos.join("library/v1/library.proto")], &[protos]).unwrap().descriptors
}

fn asked() -> prost_reflect::MessageDescriptor {
    library().pool().get_message_by_name("library.v1.Asked").unwrap()
}

fn routed(target: &str) -> bool {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    let routes = ROUTES.get_or_init(|| {
        let service = library().service("library.v1.Library").unwrap();
        service.methods().flat_map(|method| routes_of(&method)).collect()
    });
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut matched = routes.iter().filter_map(|route| route.matched(route.verb(), path));
    matched.any(|variables| request(&asked(), &variables, query, Default::default()).is_ok())
}

fn operations() -> &'static Operations {
    static OPERATIONS: OnceLock<Operations> = OnceLock::new();
    OPERATIONS.get_or_init(|| {
        let place = |path: &str| Place { verb: Verb::Get, path: path.parse().unwrap() };
        let operation = |(path, name): (&str, &str)| (place(path), format!("/pets.v1/{name}").parse().unwrap());
        let of = [("/", "root"), ("/pets/{id}", "one"), ("/pets/secret", "secret"), ("/pets/{id}/toys/{toy}", "toy")];
        Operations::new(of.map(operation)).unwrap()
    })
}

fn minimised(bytes: &[u8]) -> bool {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let paths: Vec<FieldPath> = ["1", "2.1", "2.3", "9.2.2"].map(|path| path.parse().unwrap()).into();
        Arc::new(Table::of(&paths).unwrap())
    });
    let mut minimiser = Minimiser::new(Arc::clone(table));
    bytes.chunks(11).all(|run| minimiser.take(owned(run)).is_ok()) && minimiser.finish().is_ok()
}

/// Inputs that may be good: the vectors, a catalogue's documents, names; and every file below this directory, of a country that
/// ran there. For each parser those count that it takes.
pub fn seeds(country: &Path) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut found: Vec<Vec<u8>> = written();
    files(&vectors(), &mut found);
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy"), &mut found);
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/examples/make_vectors/tokens"), &mut found);
    files(country, &mut found);
    for at in 0..found.len() {
        within(&found[at].clone(), &mut found);
    }
    found.retain(|seed| seed.len() <= MAX_INPUT_BYTES);
    found.sort();
    found.dedup();
    let of = |parser: &Parser| {
        let mut taken: Vec<_> = found.iter().filter(|seed| (parser.takes)(seed)).cloned().collect();
        taken.sort_by_key(Vec::len);
        taken.truncate(MAX_SEEDS);
        (parser.name, taken)
    };
    ALL.iter().map(of).collect()
}

/// What stands in no file: messages as they are on the wire, and names.
fn written() -> Vec<Vec<u8>> {
    let (key, other) = (SigningKey::generate().0, SigningKey::generate().0);
    let spki = |key: &SigningKey| Bytes::from(key.public().to_spki());
    let (name, server) = (Bytes::from_static(&[7; 32]), "VN/GOV/moj/ss1".to_owned());
    let order = Order::Suspend("VN/GOV/moj".parse().unwrap(), "an audit".parse().unwrap());
    let instance = "VN".parse().unwrap();
    let command = registration::sign_command(&order, &instance, [1; 16], Time::from_millis(1), &key);
    let application = registry::Application {
        instance: "VN".into(),
        member: "VN/GOV/moj".into(),
        server: server.clone(),
        address: "ss1.moj.example:4001".into(),
        subsystems: vec!["VN/GOV/moj/civil-registry".into()],
        token: name.clone(),
        authentication_key: spki(&key),
        signing_key: spki(&other),
        dry_run: false,
    };
    let join = registry::JoinRequest { application: application.encode_to_vec().into(), ..Default::default() };
    let wish = server_request::Wish::Maintain(Some("a new disk".parse().unwrap()));
    let request = server_request::ServerRequest {
        instance: instance.clone(),
        server: server.parse().unwrap(),
        id: [1; 16],
        time: Time::from_millis(1),
        wish,
    };
    let signed = relay::SignedDocument { document: name.clone(), key: name.clone(), signature: name.clone() };
    let asked = relay::AccessRequest {
        instance: "VN".into(),
        consumer: "VN/GOV/portal/one-stop".into(),
        server: "VN/GOV/portal/ss1".into(),
        provider: "VN/GOV/moj/civil-registry".into(),
        methods: vec!["/civil.v1.Births/Register".into()],
        purpose: "birth-registration".into(),
        legal_basis: "Law 60/2014/QH13 art. 16".into(),
        until: 2,
        time: 1,
    };
    let decision =
        |how| relay::AccessDecision { request: name.clone(), server: server.clone(), time: 1, how: Some(how) };
    let acceptance =
        relay::AccessAcceptance { request: name.clone(), grant: name.clone(), server: server.clone(), time: 1 };
    let end = relay::GrantEnd { grant: name.clone(), server: server.clone(), time: 1, reason: "over".into() };
    let report = registry::GrantsReport {
        instance: "VN".into(),
        server: server.clone(),
        time: 1,
        grants: vec![registry::ReportedGrant { name: name.clone(), last_used: 20_000, ..Default::default() }],
    };
    let report =
        registry::SignedReport { report: report.encode_to_vec().into(), key: name.clone(), signature: name.clone() };
    let head = Head { tree: TreeName(Digest::of(&[b"genesis"])), size: 1, root: Digest::of(&[b"root"]) };
    let signed_head =
        relay::SignedHead { head: head.to_text().into(), key: name.clone(), signature: key.sign(b"head").into() };
    let joined = relay::Joined { newest: Some(signed_head.clone()), root: name.clone(), ..Default::default() };
    let frame = relay::Frame { exchange: Bytes::from_static(&[7; 16]), header: name.clone(), ..Default::default() };
    let query = timestamp::Query::new(Digest::of(&[b"it"]), [1; timestamp::NONCE_BYTES]).to_der();
    let mut written = vec![
        command.encode_to_vec(),
        command.command.to_vec(),
        join.encode_to_vec(),
        request.sign(&key, None).encode_to_vec(),
        asked.encode_to_vec(),
        decision(relay::access_decision::How::Rejected("no law".into())).encode_to_vec(),
        decision(relay::access_decision::How::Grant(signed)).encode_to_vec(),
        acceptance.encode_to_vec(),
        end.encode_to_vec(),
        report.encode_to_vec(),
        signed_head.encode_to_vec(),
        joined.encode_to_vec(),
        transport::encode(&frame).to_vec(),
        query,
        library_descriptors(),
        crate::pets::DOCUMENT.into(),
        Ceremony::begin(anchor(), &Changes::default(), Time::from_millis(1)).unwrap().to_bytes(),
        // A status, and no token.
        vec![0x30, 5, 0x30, 3, 2, 1, 2],
        zip::write(&[("a/b.txt".to_owned(), owned(b"text"))].into()).unwrap(),
    ];
    let texts = [
        r#"{"reader":"1","number":"-3","like":{"title":"a","next":{}},"tags":["x"],"notes":{"a":"b"},"since":"2026-01-01T00:00:00Z","kind":"PAPER","sure":true,"cover":"AAA=","weight":1e3,"author":"b"}"#,
        "{}",
        "/v1/readers/7/books/a/b%2Fc?like.title=x&tags=a&tags=b&since=2026-01-01T00:00:00Z",
        "/v1/books?kind=PAPER",
        "/pets/17",
        "/pets/17/toys/%C3%A1",
        "/r1/VN/GOV/moj/civil-registry/pets.v1/pets/17?full=1",
        "VN/GOV/moj/civil-registry",
        "VN/GOV/moj/ss1",
        "/civil.v1.Births/Register",
        "2026-11-22T21:27:00.123Z",
        "07070707070707070707070707070707",
        "/pets/{petId}/toys/{toy}",
        "ss1.moj.example:4001",
        "http://mirror.example:8080",
        "http://10.0.0.1:80/public",
        "person.birth.date",
        "Ministry of Justice",
    ];
    written.extend(texts.map(|text| text.as_bytes().to_vec()));
    written.extend(of_evidence());
    written.extend(["\x0a\x03abc\x12\x05hello", "\0\0\0\0\x05\x0a\x03abc", ""].map(|text| text.as_bytes().to_vec()));
    written
}

/// The same messages as evidence has them, as a file of traffic; and what would contradict their log.
fn of_evidence() -> Vec<Vec<u8>> {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let evidence = std::fs::read(vectors().join("evidence/unary.json")).unwrap();
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    let (messages, configuration) = (evidence["messages"].as_array().unwrap(), &evidence["configuration"]);
    let part = |message: usize, name: &str| engine.decode(messages[message][name].as_str().unwrap()).unwrap();
    let peer = Header::parse(part(0, "header").into()).unwrap().route.provider.member();
    let times = json!({ "since": 0, "until": u64::MAX, "made": u64::MAX });
    let mut begin = json!({ "format": "causeway/v1/traffic", "holder": evidence["holder"], "peer": peer.to_string() });
    begin.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
    let line = |message: &serde_json::Value| json!({ "header": message["header"], "seal": message["seal"], "genesis": message["genesis"] });
    let end = json!({ "messages": messages.len(), "configuration": configuration });
    let lines = std::iter::once(begin).chain(messages.iter().map(line)).chain([end]);
    let traffic: String = lines.map(|line| format!("{line}\n")).collect();
    let seal = relay::Seal::decode(&part(0, "seal")[..]).unwrap();
    let held = relay::SignedHead { head: seal.head, key: seal.key, signature: seal.signature };
    let joined = relay::Joined { newest: Some(held.clone()), ..Default::default() };
    let contradiction = json!({
        "format": "causeway/v1/contradiction",
        "holder": "VN/GOV/moj/ss1",
        "of": evidence["holder"],
        "at": 1,
        "configuration": configuration,
        "genesis": messages[0]["genesis"],
        "held": engine.encode(held.encode_to_vec()),
        "joined": engine.encode(joined.encode_to_vec()),
    });
    let split = json!({
        "format": split_view::FORMAT, "holder": "VN/GOV/moj/ss1", "peer": "VN/GOV/portal/ss1", "at": 1,
        "roots": configuration, "held": "AA==", "shown": "AA==",
    });
    vec![traffic.into(), contradiction.to_string().into(), split.to_string().into()]
}

/// Most seeds of one parser: the shortest.
const MAX_SEEDS: usize = 12;

fn files(directory: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else if entry.metadata().is_ok_and(|metadata| metadata.len() <= 4 * MAX_INPUT_BYTES as u64) {
            found.extend(std::fs::read(entry.path()));
        }
    }
}

/// The hexadecimal and base64 texts in a JSON document are inputs too.
fn within(document: &[u8], found: &mut Vec<Vec<u8>>) {
    use base64::Engine;
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(document) else { return };
    let mut rest = vec![document];
    while let Some(value) = rest.pop() {
        match value {
            serde_json::Value::Array(values) => rest.extend(values),
            serde_json::Value::Object(fields) => rest.extend(fields.into_iter().map(|(_, value)| value)),
            serde_json::Value::String(text) => {
                found.extend(hex::decode(&text));
                found.extend(base64::engine::general_purpose::STANDARD.decode(&text));
                found.push(text.into_bytes());
            }
            _ => {}
        }
    }
}
