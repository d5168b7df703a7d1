//! The programs at work on a running instance: words for people, the objects that the page promises for programs, and
//! rehearsals that change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bytes::Bytes;
use command_line::Does;
use journal::{Directory, Finished, Remains, remains_name, segment_name};
use serde_json::Value;
use tests::echo::Parrot;
use tests::processes::{Instance, Member, PURPOSE, SOON, Two};
use tests::programs::{program, repository};
use tests::wire;

use crate::both;

const AS_ADMIN: &str = "--passphrase credential:registry";

/// The objects of the page, by the command that says them.
fn page() -> BTreeMap<String, Value> {
    let page = fs::read_to_string(repository().join("deploy/COMMANDS.md")).unwrap();
    let blocks = page.split("\n```json ").skip(1).map(|block| {
        let (command, rest) = block.split_once('\n').unwrap();
        let object = rest.split("\n```").next().unwrap();
        (command.to_owned(), serde_json::from_str(object).unwrap_or_else(|error| panic!("{command}: {error}")))
    });
    blocks.collect()
}

/// Whether both have the same keys and kinds of values, all the way down. What is null on one side has its kind there.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Object(one), Value::Object(other)) => {
            one.keys().eq(other.keys()) && one.iter().all(|(key, value)| alike(value, &other[key]))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.iter().zip(other.iter().cycle()).all(|(one, other)| alike(one, other))
        }
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

#[test]
fn objects_are_alike_by_keys_and_kinds() {
    let alike = |one, other| alike(&serde_json::from_str(one).unwrap(), &serde_json::from_str(other).unwrap());
    assert!(alike(r#"{"a":[{"b":1}],"c":null}"#, r#"{"a":[{"b":2},{"b":3}],"c":"x"}"#));
    for (one, other) in
        [(r#"{"a":1}"#, r#"{"a":"1"}"#), (r#"{"a":1}"#, "{}"), ("{}", r#"{"a":1}"#), ("[{}]", r#"[{"a":1}]"#)]
    {
        assert!(!alike(one, other), "{one} {other}");
    }
}

/// What an instance holds that a dry run could change: who is who, what is granted, and every file but the registry's,
/// which signs its configuration again each minute.
async fn holds(two: &Two) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let instance = &two.instance;
    let mut shown = Vec::new();
    for line in [
        format!("central-registry members --json {AS_ADMIN}"),
        format!("central-registry requests --json {AS_ADMIN}"),
        format!("security-server access list --json --config {}", two.moj.file()),
    ] {
        shown.push(instance.run(&line).await.well());
    }
    let mut files = BTreeMap::new();
    for directory in ["moj/keys", "credentials"] {
        for entry in fs::read_dir(instance.path(directory)).unwrap() {
            let path = entry.unwrap().path();
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    let audit = journal::Directory(instance.path("moj/audit-log"));
    let mut entries = Vec::new();
    journal::read(&audit, None, &mut |entry| entries.extend_from_slice(entry.record.as_bytes())).unwrap();
    files.insert("moj/audit-log".to_owned(), entries);
    for entry in fs::read_dir(instance.directory.path()).unwrap() {
        files.insert(entry.unwrap().path().display().to_string(), Vec::new());
    }
    (shown, files)
}

/// `join` as the invitation says, into a directory.
fn join(told: &Value, address: &Member) -> String {
    let told = |key: &str| told[key].as_str().unwrap();
    format!(
        "security-server join tax --registry {} --fingerprint {} --anchor-digest {} --server {} --address {} \
         --token-file tax.token --passphrase credential:tax",
        told("registry"),
        told("fingerprint"),
        told("anchor_digest"),
        told("server"),
        address.peers
    )
}

fn grant(two: &Two) -> String {
    let (portal, moj, file) = (&two.portal.subsystem, &two.moj.subsystem, two.moj.file());
    format!(
        "security-server access grant {portal} --provider {moj} --method /echo.v1.Echo/Server --purpose {PURPOSE} --days 2 \
         --config {file}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_is_judged_by_the_rules_and_changes_nothing_and_each_answer_is_as_the_page_says() {
    let (address, _heard) = Parrot::serve().await;
    let (two, processes) = Two::before(address).await;
    let (instance, moj) = (&two.instance, &two.moj);
    let (tax, at) = (Member::new("tax", "income"), format!("--config {}", moj.file()));
    let mut said = Said { page: page(), seen: BTreeSet::new(), instance };

    let invitation = instance.invite(&tax).await;
    let other = Member::new("lost", "nothing");
    let lost = instance.invite(&other).await;
    let (member, server) = ("VN/GOV/new", "VN/GOV/new/ss1");
    let join = join(&invitation, &tax);
    let person = format!("central-registry person chi {AS_ADMIN}");
    let init =
        format!("central-registry init fresh --instance VN --name Fresh --admin an --person binh:registrar {AS_ADMIN}");
    let asks =
        |line: &str| line.replace(" tax ", " lost ").replace("/tax/", "/lost/").replace("tax.token", "lost.token");
    let rejected = asks(&join).replace(invitation["token"].as_str().unwrap(), lost["token"].as_str().unwrap());
    assert_eq!(instance.run(&format!("{rejected} --no-wait")).await.code, Some(8));
    let invite = format!("central-registry invite {member} --name New --server {server} {AS_ADMIN}");
    let (end, suspend) = (
        format!("security-server access end 1 --reason done {at}"),
        format!("central-registry suspend VN/GOV/moj --reason holidays --yes {AS_ADMIN}"),
    );
    let restore = format!("central-registry restore VN/GOV/moj {AS_ADMIN}");
    let (approve, reject) = (
        format!("central-registry approve R-3 {AS_ADMIN}"),
        format!("central-registry reject R-3 --reason lost {AS_ADMIN}"),
    );

    let rotate = format!("security-server keys rotate signing {at}");
    let its_own = [
        (format!("security-server move {} {at}", other.peers), "is reached at"),
        (format!("security-server maintenance --notice noon {at}"), "is in maintenance: \"noon\""),
        (format!("security-server leave --reason merged {at}"), "asks to be removed: \"merged\""),
    ];
    let (tax_server, income) = ("VN/GOV/tax/ss1", "VN/GOV/tax/income");
    let by_admins = [
        (format!("central-registry move VN/GOV/moj/ss1 {} {AS_ADMIN}", moj.peers), "have everybody reach"),
        (format!("central-registry maintenance VN/GOV/moj/ss1 --over {AS_ADMIN}"), "back from maintenance"),
        (format!("central-registry unhost {income} {tax_server} --yes {AS_ADMIN}"), "no more"),
        (format!("central-registry host {income} {tax_server} {AS_ADMIN}"), "speak for VN/GOV/tax/income"),
        (
            format!("central-registry remove subsystem {income} --reason old --yes {AS_ADMIN}"),
            "nobody ever gets its name again",
        ),
    ];

    let proto = r#"
syntax = "proto3";
package births.v1;
import "causeway/options.proto";
// Births.
service Births {
  rpc Count(Asked) returns (Counted);
}
message Asked { string place = 1 [(causeway.element) = "birth.place", (causeway.collected) = true]; }
message Counted { uint64 number = 1 [(causeway.element) = "birth.count", (causeway.authoritative) = true]; }
"#;
    fs::write(instance.path("births.proto"), proto).unwrap();
    let publish = format!(
        "security-server services publish births.proto --subsystem {} --contact births@moj.example --title Hộ-tịch {at}",
        moj.subsystem
    );

    // Rehearsed: what may be done now. `restore` may not, as long as nobody is suspended.
    let before = holds(&two).await;
    for (line, foreseen) in [
        (&join, "request R-4"),
        (&init, "3 root keys in fresh/offline"),
        (&person, "admin-chi.pem, encrypted"),
        (&invite, "let VN/GOV/new/ss1 join once"),
        (&approve, "add the member VN/GOV/lost, \"lost\""),
        (&reject, "its applicant reads \"lost\""),
        (&suspend, "suspend VN/GOV/moj: from the next message on it calls nobody"),
        (&grant(&two), "make grant 2: VN/GOV/portal/one-stop may call"),
        (&end, "end grant 1: VN/GOV/portal/one-stop may call"),
        (&rotate, "make another signing key here"),
        (&publish, "list births.v1.Births 1.0 of VN/GOV/moj/civil-registry, 1 methods, open to every member"),
    ]
    .into_iter()
    .chain(its_own.iter().map(|(line, foreseen)| (line, *foreseen)))
    {
        let text = instance.run(&format!("{line} --dry-run")).await.well();
        assert!(text.contains("nothing was changed") && text.contains(foreseen), "{line}\n{text}");
        let object = instance.run(&format!("{line} --dry-run --json")).await.json();
        assert!(alike(&object, &said.page["--dry-run"]), "{line}\n{object}");
        assert!(object.to_string().replace("\\\"", "\"").contains(foreseen), "{line}\n{object}");
    }
    assert_eq!(holds(&two).await, before, "nothing was changed");

    // Carried out: a rehearsal used nothing up.
    said.object("central-registry person", &format!("central-registry person binh {AS_ADMIN}")).await;
    let binhs = format!("{init} --person dung:security-officer@nobodys.pem");
    assert_eq!(instance.run(&binhs).await.code, Some(2));
    let init = init.replace("binh:registrar", "binh:registrar@admin-binh.pub.pem");
    said.object("central-registry init", &init).await;
    assert!(!instance.path("fresh/admin-binh.pem").exists(), "nobody else has had it");
    assert!(instance.path("fresh/admin-binh.toml").exists());
    said.object("central-registry invite", &invite).await;
    said.words(&format!("central-registry requests {AS_ADMIN}"), &["R-3", "waiting", "approve R-3"]).await;
    said.object("central-registry requests", &format!("central-registry requests {AS_ADMIN}")).await;
    said.object("central-registry reject", &reject).await;
    let waits = instance.run(&format!("{join} --no-wait --json")).await;
    assert_eq!(waits.code, Some(8), "{waits:?}");
    said.object("central-registry approve", &format!("central-registry approve R-4 {AS_ADMIN}")).await;
    said.object("security-server join", &join).await;
    said.object("central-registry suspend", &suspend).await;
    let again = instance.run(&format!("{restore} --dry-run")).await.well();
    assert!(again.contains("restore VN/GOV/moj"), "{again}");
    said.object("central-registry restore", &restore).await;
    said.words(&format!("central-registry members {AS_ADMIN}"), &["VN/GOV/tax", "active", "answers at"]).await;
    said.object("central-registry members", &format!("central-registry members {AS_ADMIN}")).await;

    said.object("security-server access grant", &grant(&two)).await;
    let urgent = format!("{} --priority urgent --dry-run", grant(&two));
    said.words(&urgent, &["nothing was changed", "as urgent calls"]).await;
    let unknown = grant(&two).replace("VN/GOV/portal/one-stop", "VN/GOV/portal/one-step");
    said.words(&unknown, &["Granted, and in force", "did you mean VN/GOV/portal/one-stop?"]).await;
    said.words(&format!("security-server access list {at}"), &["1  VN/GOV/portal/one-stop may call", "purposes"]).await;
    said.object("security-server access list", &format!("security-server access list {at}")).await;
    let why = format!(
        "security-server access why {} --provider {} --method /echo.v1.Echo/Unary --purpose",
        two.portal.subsystem, moj.subsystem
    );
    said.words(&format!("{why} {PURPOSE} {at}"), &["allowed by", "1  VN/GOV/portal/one-stop"]).await;
    said.words(&format!("{why} marriage {at}"), &["not allowed: GRANT_PURPOSE"]).await;
    said.object("security-server access why", &format!("{why} marriage {at}")).await;
    asked_for(&two, &mut said).await;
    said.object("security-server access end", &end).await;
    said.words(&format!("{why} {PURPOSE} {at}"), &["not allowed: GRANT_MISSING"]).await;

    said.words(&format!("security-server status {at}"), &["VN/GOV/moj/ss1 is ready", "fresh: version", "grants"]).await;
    said.object("security-server status", &format!("security-server status {at}")).await;
    said.words(&format!("security-server keys list {at}"), &["authentication 1  in use", "signing 1  in use"]).await;
    said.object("security-server keys list", &format!("security-server keys list {at}")).await;
    said.object("security-server keys rotate", &rotate).await;
    catalogued(&two, &mut said, &publish).await;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    for (line, _) in &its_own {
        said.object(&name(line), line).await;
    }
    for (line, foreseen) in &by_admins {
        let text = instance.run(&format!("{line} --dry-run")).await.well();
        assert!(text.contains("nothing was changed") && text.contains(foreseen), "{line}\n{text}");
        said.object(&name(line), line).await;
    }
    let left = format!("central-registry members {AS_ADMIN}");
    said.words(&left, &["ASKS TO LEAVE: merged", "central-registry remove member VN/GOV/moj"]).await;
    said.words(&format!("central-registry proposals {AS_ADMIN}"), &["Nothing waits"]).await;
    said.object("central-registry proposals", &format!("central-registry proposals {AS_ADMIN}")).await;
    exchanged(&two, &mut said).await;
    let about = format!("security-server disclosures --subject 079185001234 {at}");
    said.words(&about, &["nobody asked this server about this person"]).await;
    said.words(&format!("{about} --language vi"), &["chưa có ai hỏi"]).await;
    said.object("security-server disclosures", &about).await;
    said.words("security-server token", &["token_sha256"]).await;
    said.object("security-server token", "security-server token").await;
    said.words("security-server explain", &["GRANT_MISSING", "REPLAYED"]).await;
    said.words("security-server explain grant_missing --language vi", &["Bên cung cấp"]).await;
    said.object("security-server explain", "security-server explain GRANT_MISSING").await;
    said.every_command();
    let invitation = instance.invite(&Member::new("late", "something")).await;
    let waits = self::join(&invitation, &tax).replace(" tax ", " late ").replace(".tax", ".late");
    painted(instance, &at, &waits.replace("tax.token", "late.token").replace(":tax", ":late"));
    for process in processes {
        process.stops().await;
    }
}

/// A purpose is listed, access is asked for over the bus, granted, and refused.
async fn asked_for(two: &Two, said: &mut Said<'_>) {
    let (at, portal) = (format!("--config {}", two.moj.file()), format!("--config {}", two.portal.file()));
    let list = format!("central-registry purposes list {AS_ADMIN}");
    said.words(&list, &["No list of purposes yet"]).await;
    let set = |code: &str| format!("central-registry purposes set {code} --en Testing --vi Kiểm-thử {AS_ADMIN}");
    let silent = two.instance.run(&format!("central-registry purposes set {PURPOSE} --en Testing {AS_ADMIN}")).await;
    assert!(silent.code == Some(2) && silent.err.contains("no text in Vietnamese"), "{silent:?}");
    let foreseen = two.instance.run(&format!("{} --dry-run", set(PURPOSE))).await.well();
    assert!(foreseen.contains("let data be asked for the purpose"), "{foreseen}");
    said.words(&list, &["No list of purposes yet"]).await;
    said.object("central-registry purposes set", &set(PURPOSE)).await;
    two.instance.run(&set("marriage")).await.well();
    said.object("central-registry purposes list", &list).await;
    let remove = format!("central-registry purposes remove marriage --reason over {AS_ADMIN}");
    said.object("central-registry purposes remove", &remove).await;
    let gone = two.instance.run(&remove).await;
    assert_eq!(gone.code, Some(6), "{gone:?}");

    let request = |method: &str| {
        format!(
            "security-server access request /echo.v1.Echo/{method} --provider {} --purpose {PURPOSE} --legal-basis law {portal}",
            two.moj.subsystem
        )
    };
    let foreseen = two.instance.run(&format!("{} --dry-run", request("Both"))).await.well();
    assert!(foreseen.contains("VN/GOV/portal/one-stop asks to call"), "{foreseen}");
    said.words(&format!("security-server access list --sent {portal}"), &["Nothing was asked of others"]).await;
    said.object("security-server access request", &request("Both")).await;
    let asked = two.instance.run(&format!("{} --json", request("Hang"))).await.json();
    let id = asked["request"].as_str().unwrap().to_owned();
    let came = two.instance.run(&format!("security-server access list --json {at}")).await.json();
    let other = came["requests"].as_array().unwrap().iter().find(|each| each["request"] != id.as_str()).unwrap();
    let other = other["request"].as_str().unwrap().to_owned();
    said.words(&format!("security-server access list {at}"), &["waiting", "access approve", &id[..12]]).await;
    said.object("security-server access list", &format!("security-server access list {at}")).await;
    said.object("security-server access show", &format!("security-server access show {id} {portal}")).await;
    let approve = format!("security-server access approve {id} {at}");
    let foreseen = two.instance.run(&format!("{approve} --dry-run")).await.well();
    assert!(foreseen.contains("make grant"), "{foreseen}");
    said.object("security-server access approve", &approve).await;
    let reject = format!("security-server access reject {other} --reason no-law {at}");
    let foreseen = two.instance.run(&format!("{reject} --dry-run")).await.well();
    assert!(foreseen.contains("the consumer reads \"no-law\""), "{foreseen}");
    said.object("security-server access reject", &reject).await;
    let sent = format!("security-server access list --sent {portal}");
    said.words(&sent, &["granted", "countersigned by the consumer", "rejected", "no-law"]).await;
    let late = two.instance.run(&approve).await;
    assert!(late.code == Some(6) && late.err.contains("granted already"), "{late:?}");
    // What is granted is told to the registry by itself.
    let overseen = format!("central-registry grants --provider {} {AS_ADMIN}", two.moj.subsystem);
    let known = |shown: &Value| shown["grants"].as_array().unwrap().iter().any(|grant| grant["request"] == id.as_str());
    let told = async {
        while !known(&two.instance.run(&format!("{overseen} --json")).await.json()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("the registry hears of a grant");
    said.words(&overseen, &["may call", "last used", "asked for as", &id[..12], "expiring within 30 days"]).await;
    said.object("central-registry grants", &overseen).await;
    let others = two.instance.run(&format!("central-registry grants --consumer VN/GOV/tax {AS_ADMIN}")).await.well();
    assert!(others.contains("No such grant is known"), "{others}");
    let none = two.instance.run(&format!("security-server access approve 000000000000 {at}")).await;
    assert!(none.code == Some(6) && none.err.contains("access list"), "{none:?}");
}

/// A service is published, found and read.
async fn catalogued(two: &Two, said: &mut Said<'_>, publish: &str) {
    said.object("security-server services publish", publish).await;
    let again = two.instance.run(publish).await;
    assert_eq!(again.code, Some(3), "{again:?}");
    let at = format!("--config {}", two.portal.file());
    let list = format!("security-server services list {at}");
    let listed = async { while !two.instance.run(&list).await.well().contains("births.v1.Births 1.0") {} };
    tokio::time::timeout(SOON, listed).await.unwrap();
    said.object("security-server services list", &list).await;
    let search = format!("security-server services search ho-tich {at}");
    said.words(&search, &["births.v1.Births 1.0  VN/GOV/moj/civil-registry  Hộ-tịch"]).await;
    said.object("security-server services search", &search).await;
    let show = format!("security-server services show births.v1.Births {at}");
    said.words(&show, &["Count(births.v1.Asked) returns (births.v1.Counted)", "births@moj.example", "every member"])
        .await;
    said.object("security-server services show", &show).await;
    let proto = format!("security-server services proto births.v1.Births {at}");
    said.words(
        &proto,
        &["package births.v1;", "// Births.", "rpc Count(.births.v1.Asked) returns (.births.v1.Counted);"],
    )
    .await;
    said.object("security-server services proto", &proto).await;
    let openapi = format!("security-server services openapi births.v1.Births {at}");
    let document = two.instance.run(&format!("{openapi} --json")).await.json();
    assert_eq!(two.instance.run(&openapi).await.json(), document, "it is JSON either way");
    assert_eq!((&document["openapi"], &document["info"]["version"]), (&"3.1.0".into(), &"1.0".into()));
    assert_eq!(document["servers"][0]["url"], format!("http://{}", two.portal.clients));
    assert!(document["paths"]["/births.v1.Births/Count"]["post"].is_object(), "{document}");
    two.instance.run(&format!("{proto} --descriptors births.binpb")).await.well();
    let written = fs::read(two.instance.path("births.binpb")).unwrap();
    assert_eq!(catalogue::Described::read(&written).unwrap().services(), ["births.v1.Births"]);
    let snippet = format!("security-server snippet births.v1.Births/Count --purpose births --lang go {at}");
    said.words(&snippet, &["/births.v1.Births/Count", "VN/GOV/moj/civil-registry", "http.NewRequest"]).await;
    said.object("security-server snippet", &snippet).await;
    let unknown = two.instance.run(&snippet.replace("/Count", "/Cuont")).await;
    assert!(unknown.code == Some(6) && unknown.err.contains("did you mean /births.v1.Births/Count?"), "{unknown:?}");
    let foreign = two.instance.run(&format!("{snippet} --client VN/GOV/tax/income")).await;
    assert!(foreign.code == Some(2) && foreign.err.contains("no door for VN/GOV/tax/income"), "{foreign:?}");

    let elements = format!("security-server elements list {at}");
    said.words(&elements, &["birth.count  VN/GOV/moj/civil-registry", "birth.place  no source", "collected 1"]).await;
    said.object("security-server elements list", &elements).await;
    let element = format!("security-server elements show birth.place {at}");
    said.words(&element, &["collects", "births.v1.Asked.place"]).await;
    said.object("security-server elements show", &element).await;
    let unknown = two.instance.run(&format!("security-server elements show birth.plaice {at}")).await;
    assert!(unknown.code == Some(6) && unknown.err.contains("did you mean birth.place?"), "{unknown:?}");
    let duplicates = format!("security-server elements duplicates {at}");
    said.words(&duplicates, &["Nobody is asked for what a service is the source of."]).await;
    said.object("security-server elements duplicates", &duplicates).await;
    let report = format!("security-server elements report {at}");
    said.words(&report, &["all services: 0 reused, 1 asked once, 0 asked again", "1.0"]).await;
    said.object("security-server elements report", &report).await;
    let unknown = format!("security-server services show births.v1.Birth {at}");
    let unknown = two.instance.run(&unknown).await;
    assert!(unknown.code == Some(6) && unknown.err.contains("did you mean births.v1.Births?"), "{unknown:?}");
}

/// What an exchange left, and its proof.
async fn exchanged(two: &Two, said: &mut Said<'_>) {
    two.instance.run(&grant(two).replace("Server", "Unary")).await.well();
    let answered = two.client().unary(wire::Said::default()).await.unwrap();
    let exchange = answered.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let at = format!("--config {}", two.portal.file());
    let show = format!("security-server exchange {exchange} {at}");
    let closed = async { while !two.instance.run(&show).await.well().contains("closed") {} };
    tokio::time::timeout(SOON, closed).await.unwrap();
    said.words(&show, &[&exchange, "sent", "received", "half-close", "status 0"]).await;
    said.object("security-server exchange", &show).await;
    let find = format!("security-server evidence find --peer VN/GOV/moj --id {exchange} {at}");
    said.words(&find, &[&exchange, "to   VN/GOV/moj/civil-registry", "/echo.v1.Echo/Unary  answered"]).await;
    said.object("security-server evidence find", &find).await;
    let get = format!("security-server evidence get {exchange} {at}");
    let file = two.instance.run(&get).await.well();
    let object = two.instance.run(&format!("{get} --json")).await.json();
    assert!(object.is_object() && serde_json::from_str::<Value>(&file).is_ok_and(|file| alike(&file, &object)));
    fs::write(two.instance.path("evidence.json"), file).unwrap();
    let archive = format!("{get} --out evidence.zip");
    said.words(&archive, &["evidence.zip: ", " bytes"]).await;
    said.object("security-server evidence get", &archive).await;
    let verify = "security-server evidence verify evidence.zip --anchor registry/anchor.json";
    said.words(verify, &["proven", &exchange]).await;
    said.words(&format!("{get} --out evidence.asice"), &["evidence.asice: ", " bytes"]).await;
    let verify = "security-server evidence verify evidence.asice --anchor registry/anchor.json";
    said.words(verify, &["proven", &exchange, "VN/GOV/portal/ss1 gave out this container as it is"]).await;
    let verify = "security-server evidence verify evidence.json --anchor registry/anchor.json";
    said.words(verify, &["proven", &exchange]).await;
    said.object("security-server evidence verify", verify).await;
    let contradiction = format!("security-server evidence contradiction {at}");
    said.words(&contradiction, &["No peer's log"]).await;
    said.object("security-server evidence contradiction", &contradiction).await;
    let verify = format!("security-server log verify {at}");
    said.words(&verify, &["It holds.", " 0 withheld, 1 ends, 0 exchanges without one"]).await;
    said.object("security-server log verify", &verify).await;
    archived(two, said).await;
    for (holder, peer) in [(&two.portal, "VN/GOV/moj"), (&two.moj, "VN/GOV/portal")] {
        let export = format!("security-server evidence traffic {peer} --config {}", holder.file());
        let file = two.instance.run(&export).await.well();
        assert!(file.lines().count() > 2 && file.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        fs::write(two.instance.path(&format!("{}.traffic", peer.rsplit('/').next().unwrap())), file).unwrap();
    }
    let reconcile = "security-server evidence reconcile moj.traffic portal.traffic --anchor registry/anchor.json";
    said.words(reconcile, &["agreed", "Neither log"]).await;
    said.object("security-server evidence reconcile", reconcile).await;
    let missed = "security-server evidence reconcile moj.traffic moj.traffic --anchor registry/anchor.json";
    assert_eq!(two.instance.run(missed).await.code, Some(2));
    let none = "security-server evidence reconcile moj.traffic evidence.json --anchor registry/anchor.json";
    assert_eq!(two.instance.run(none).await.code, Some(5));
    assert_eq!(two.instance.run(&format!("security-server evidence contradiction 1 {at}")).await.code, Some(6));
}

/// An archive with what is finished of the portal's log, put there by hand: the server that runs has none.
async fn archived(two: &Two, said: &mut Said<'_>) {
    let (at, instance) = (format!("--config {}", two.portal.file()), &two.instance);
    let none = instance.run(&format!("security-server archive list {at}")).await;
    assert!(none.code == Some(2) && none.err.contains("names no archive"), "{none:?}");
    let place = instance.path("evidence-store");
    let objects = place.join("VN/GOV/portal/ss1/message-log");
    fs::create_dir_all(&objects).unwrap();
    let path = instance.path(&two.portal.file());
    let text = fs::read_to_string(&path).unwrap();
    let keep = "keep_local_days = 30";
    fs::write(&path, format!("{text}\n[archive]\nto = \"file://{}\"\n{keep}\n", place.display())).unwrap();
    let segment = "0000000001.segment";
    fs::copy(instance.path("portal/message-log").join(segment), objects.join(segment)).unwrap();

    let list = format!("security-server archive list {at}");
    said.words(&list, &[segment, "the audit log does not know it"]).await;
    said.object("security-server archive list", &list).await;
    let verify = format!("security-server archive verify {at}");
    said.words(&verify, &["It holds."]).await;
    said.object("security-server archive verify", &verify).await;
    let doctor = format!("security-server doctor --no-passphrase {at}");
    let looked = instance.run(&doctor).await;
    assert!(looked.out.contains("1 segments; what is written is read back"), "{looked:?}");
    assert_eq!(fs::read_dir(&objects).unwrap().count(), 1, "the doctor left its word there");
    assert!(looked.out.contains("0 are in the archive only"), "{looked:?}");
    removed(two, &objects, &doctor).await;
    let fetch = format!("security-server archive fetch fetched {at}");
    let foreseen = instance.run(&format!("{fetch} --dry-run")).await.well();
    assert!(foreseen.contains("write fetched/0000000001.segment") && !instance.path("fetched").exists(), "{foreseen}");
    assert!(alike(&instance.run(&format!("{fetch} --dry-run --json")).await.json(), &said.page["--dry-run"]));
    said.object("security-server archive fetch", &fetch).await;
    said.words(&fetch, &["1 segments", &format!("{segment}: the audit log does not know it")]).await;
    assert_eq!(fs::read(instance.path("fetched").join(segment)).unwrap(), fs::read(objects.join(segment)).unwrap());
    assert_eq!(instance.run(&format!("{fetch} --from 7")).await.code, Some(6));
    fs::write(instance.path("fetched").join(segment), "mine").unwrap();
    assert_eq!(instance.run(&fetch).await.code, Some(3));

    let mut torn = fs::read(objects.join(segment)).unwrap();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    fs::write(objects.join(segment), torn).unwrap();
    let wrong = instance.run(&verify).await;
    assert!(wrong.code == Some(5) && wrong.err.contains(segment), "{wrong:?}");
    fs::remove_dir_all(&place).unwrap();
    let away = instance.run(&list).await;
    assert!(away.code == Some(1) && away.err.contains("nothing is made in its place"), "{away:?}");
    let looked = instance.run(&doctor).await;
    assert!(looked.code == Some(7) && looked.out.contains("evidence-store cannot be used"), "{looked:?}");
    assert!(!place.exists(), "the doctor made what is missing");
    fs::write(&path, text).unwrap();
}

/// The first segment is in the archive only, as a server leaves it but for the log's own word of it: it is verified there, the missing word
/// is told, and the doctor looks after what is left of it.
async fn removed(two: &Two, objects: &Path, doctor: &str) {
    let (instance, log) = (&two.instance, two.instance.path("portal/message-log"));
    let remains = Remains::of(&Finished::read(&Directory(log.clone()), 1).unwrap(), Bytes::new()).unwrap();
    let (here, left) = (log.join(segment_name(1)), log.join(remains_name(1)));
    let segment = fs::read(&here).unwrap();
    fs::write(&left, remains.encode()).unwrap();
    fs::remove_file(&here).unwrap();
    let looked = instance.run(doctor).await;
    assert!(looked.out.contains("1 are in the archive only, and what is left of them here is right"), "{looked:?}");
    let verify = format!("security-server log verify --config {}", two.portal.file());
    let found = instance.run(&verify).await;
    let read = "segments 1 to 1 were removed here: they were read where they are kept";
    assert!(found.code == Some(5) && found.out.contains(read), "{found:?}");
    assert!(
        found.out.contains("segment 1 was removed, and the log does not say so: somebody else took it out"),
        "{found:?}"
    );
    let told: Value = serde_json::from_str(&instance.run(&format!("{verify} --json")).await.out).unwrap();
    assert_eq!(told["removed"], serde_json::json!({ "first": 1, "last": 1, "unread": null }));
    // A backup has what is left of it.
    fs::write(instance.path("credentials").join("backup"), "correct horse battery staple\n").unwrap();
    let (named, config) = ("removed.backup --passphrase credential:backup --json", two.portal.file());
    let made = instance.run(&format!("security-server backup create {named} --config {config}")).await.json();
    let parts = made["parts"].to_string();
    assert!(
        parts.contains("message-log/0000000001.removed") && !parts.contains("message-log/0000000001.segment"),
        "{parts}"
    );
    instance.run(&format!("security-server backup verify {named}")).await.well();
    fs::remove_file(instance.path("removed.backup")).unwrap();
    fs::remove_file(instance.path("credentials").join("backup")).unwrap();

    let aside = objects.join("aside");
    fs::rename(objects.join(segment_name(1)), &aside).unwrap();
    let found = instance.run(&verify).await;
    assert!(found.out.contains("segments 1 to 1 were removed here and NOT READ"), "{found:?}");
    let looked = instance.run(doctor).await;
    let gone = "segment 1 was removed here and is not in the archive";
    assert!(looked.code == Some(7) && looked.out.contains(gone), "{looked:?}");
    fs::rename(&aside, objects.join(segment_name(1))).unwrap();

    fs::write(&left, &remains.encode()[1..]).unwrap();
    let looked = instance.run(doctor).await;
    assert!(looked.code == Some(7) && looked.out.contains("0000000001.removed is damaged"), "{looked:?}");
    fs::write(&here, segment).unwrap();
    fs::remove_file(&left).unwrap();
}

/// What the commands said, held against the page.
struct Said<'i> {
    page: BTreeMap<String, Value>,
    seen: BTreeSet<String>,
    instance: &'i Instance,
}

impl Said<'_> {
    /// Under `--json`: one object, with the keys of the page.
    async fn object(&mut self, command: &str, line: &str) {
        let object = self.instance.run(&format!("{line} --json")).await.json();
        let page = self.page.get(command).unwrap_or_else(|| panic!("the page has no object of {command}:\n{object:#}"));
        assert!(object.is_object() && alike(&object, page), "{command}: the page does not say\n{object:#}");
        self.seen.insert(command.to_owned());
    }

    /// Without: words, and no JSON.
    async fn words(&self, line: &str, named: &[&str]) {
        let text = self.instance.run(line).await.well();
        assert!(serde_json::from_str::<Value>(&text).is_err() && !text.contains('\u{1b}'), "{line}\n{text}");
        for name in named {
            assert!(text.contains(name), "{line}: {name:?} is missing in\n{text}");
        }
    }

    /// The page has what each command says, and nothing else.
    fn every_command(&self) {
        let mut known = BTreeSet::new();
        for of in both() {
            let speak = of.commands.iter().filter(|each| matches!(each.does, Does::Reads | Does::Changes));
            known.extend(speak.map(|each| format!("{} {}", of.name(), each.name)));
        }
        // A file of traffic has a page of its own.
        known.remove("security-server evidence traffic");
        // OpenAPI is a format of its own.
        known.remove("security-server services openapi");
        // Doctors, audits, backups, kept payloads, ceremonies, revocations, wrong clocks and second persons have tests of their own.
        let elsewhere =
            [" doctor", " audit ", " backup ", " payloads ", " ceremony ", " revoke", " clock ", " confirm"];
        known.retain(|command| !elsewhere.iter().any(|part| command.contains(part)));
        assert_eq!(self.seen, known, "every command was asked");
        known.insert("--dry-run".to_owned());
        assert_eq!(
            self.page.keys().cloned().collect::<BTreeSet<_>>(),
            known,
            "every object of the page is a command's"
        );
    }
}

/// On a terminal the word that matters is coloured, and who waits sees how long.
fn painted(instance: &Instance, at: &str, join: &str) {
    let on_a_terminal = |line: &str| {
        let mut words = line.split_whitespace();
        let mut python = std::process::Command::new("python3");
        python.args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]);
        python.arg(program(words.next().unwrap())).args(words).env("TERM", "xterm").env_remove("NO_COLOR");
        python.stdin(std::process::Stdio::null()).current_dir::<&Path>(instance.directory.path());
        python.env("CREDENTIALS_DIRECTORY", instance.path("credentials"));
        String::from_utf8(python.output().unwrap().stdout).unwrap()
    };
    let status = on_a_terminal(&format!("security-server status {at}"));
    assert!(status.contains("\u{1b}[32mready\u{1b}[0m"), "{status:?}");
    let waits = on_a_terminal(&format!("{join} --wait-seconds 1"));
    assert!(waits.contains("\r\u{1b}[KR-5 is waiting for approval by the registry's admins, 0 s"), "{waits:?}");
}
