//! What a clumsy hand is told: what was wrong in one line, what to do in another, and an exit code that says what kind of
//! mistake it was. Every code of the table is provoked here, through the real programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use central_registry::Settings;
use command_line::Exit;
use futures_util::{StreamExt, stream};
use keystore::Source;
use proto::registration::COMMAND_WINDOW;
use tests::echo::Parrot;
use tests::processes::{Instance, Member, PURPOSE, Said, Two};
use tests::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A command that cannot be carried out, how it ends, and what it must say.
struct Row {
    line: String,
    exit: Exit,
    named: &'static [&'static str],
}

fn row(line: impl Into<String>, exit: Exit, named: &'static [&'static str]) -> Row {
    Row { line: line.into(), exit, named }
}

/// Two lines: the program and what was wrong; what to do. Nothing that only a programmer reads.
fn complaint(row: &Row, said: &Said) -> Option<String> {
    let program = row.line.split_whitespace().next().unwrap();
    let lines: Vec<&str> = said.err.lines().collect();
    let wrong = match lines[..] {
        _ if said.code != Some(row.exit.code().into()) => format!("it ended with {:?}, not {:?}", said.code, row.exit),
        [what, _] if !what.starts_with(&format!("{program}: ")) || what.len() < program.len() + 10 => {
            "what?".to_owned()
        }
        [_, remedy] if !remedy.starts_with("  ") || remedy.trim().len() < 6 => "what to do?".to_owned(),
        [_, _] => {
            let missing = row.named.iter().find(|name| !said.err.contains(**name));
            let never = ["panicked", "BACKTRACE", "Some(", "Err(", "None", "Error {", " { ", "\u{1b}"];
            let debug = never.iter().find(|never| said.err.contains(**never));
            missing.map(|name| format!("{name:?} is missing")).or_else(|| debug.map(|it| format!("{it:?} is there")))?
        }
        _ => "not two lines".to_owned(),
    };
    Some(format!("{}: {wrong}\n{}{}", row.line, said.out, said.err))
}

/// Runs them all, some at a time; the exits seen.
async fn all_told(instance: &Instance, rows: impl IntoIterator<Item = Row>) -> BTreeSet<u8> {
    let run = |row: Row| async move {
        let said = instance.run(&row.line).await;
        complaint(&row, &said).map_or(Ok(row.exit.code()), Err)
    };
    let told: Vec<Result<u8, String>> = stream::iter(rows).map(run).buffer_unordered(4).collect().await;
    let complaints: Vec<&str> = told.iter().filter_map(|told| told.as_ref().err()).map(|it| &**it).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    told.into_iter().flatten().collect()
}

const AS_ADMIN: &str = "--passphrase credential:registry";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_is_told_in_two_lines_with_the_code_of_its_kind_and_every_code_is_seen() {
    let (address, _heard) = Parrot::serve().await;
    let (two, [registry, portals, mojs]) = Two::before(address).await;
    let instance = &two.instance;
    let tax = waiting(instance).await;

    let mut seen = BTreeSet::from([Exit::Waiting.code()]);
    seen.extend(all_told(instance, files(instance, &two)).await);
    seen.extend(all_told(instance, typed(&two)).await);
    seen.extend(all_told(instance, asked(&two)).await);
    seen.extend(all_told(instance, joining(instance, &tax).await).await);
    seen.extend(all_told(instance, commanded(instance)).await);
    seen.extend(all_told(instance, begun(instance, &tax).await).await);
    seen.extend(proved(&two).await);
    seen.extend(drained(&two, mojs).await);

    registry.stops().await;
    let gone = [
        row(format!("central-registry members {AS_ADMIN}"), Exit::Unreachable, &["127.0.0.1:", "firewall"]),
        row(join(instance, "late", &[]), Exit::Unreachable, &["127.0.0.1:", "firewall"]),
    ];
    seen.extend(all_told(instance, gone).await);
    portals.stops().await;
    assert_eq!(seen, Exit::ALL.iter().map(|exit| exit.code()).collect(), "each code is provoked");
}

/// A third member that is invited and asked, and is told that it has to wait.
async fn waiting(instance: &Instance) -> Member {
    let tax = Member::new("tax", "income");
    let mut told = instance.invite(&tax).await;
    told["address"] = tax.peers.to_string().into();
    fs::write(instance.path("invitation.json"), told.to_string()).unwrap();
    let waits = instance.run(&join(instance, "tax", &["--no-wait"])).await;
    assert_eq!(waits.code, Some(8), "{waits:?}");
    assert!(waits.out.contains("R-3 waits for approval") && waits.err.is_empty(), "{waits:?}");
    let waits = instance.run(&join(instance, "tax", &["--wait-seconds", "1", "--json"])).await;
    assert_eq!(waits.code, Some(8), "{waits:?}");
    assert!(waits.out.contains("\"standing\": \"waiting\""), "{waits:?}");
    assert_eq!(waits.err.lines().count(), 1, "one line of progress in a pipe, and no more: {waits:?}");
    tax
}

/// The command that the invitation of `tax` is for, into this directory, with some of it changed.
fn join(instance: &Instance, directory: &str, changed: &[&str]) -> String {
    let told: serde_json::Value = serde_json::from_slice(&fs::read(instance.path("invitation.json")).unwrap()).unwrap();
    let told = |key: &str| told[key].as_str().unwrap().to_owned();
    let mut options = [
        ("--registry", told("registry")),
        ("--fingerprint", told("fingerprint")),
        ("--anchor-digest", told("anchor_digest")),
        ("--server", told("server")),
        ("--address", told("address")),
        ("--token-file", "tax.token".into()),
        ("--passphrase", "credential:tax".into()),
    ];
    let mut line = format!("security-server join {directory}");
    let mut changed = changed.iter();
    while let Some(option) = changed.next() {
        match options.iter_mut().find(|(name, _)| name == option) {
            Some((_, value)) => *value = (*changed.next().unwrap()).to_owned(),
            None => line += &format!(" {option}"),
        }
    }
    options.iter().for_each(|(name, value)| line += &format!(" {name} {value}"));
    line
}

/// Files that are not there, are no files, are of another kind, or say something wrong.
fn files(instance: &Instance, two: &Two) -> Vec<Row> {
    let good = fs::read_to_string(instance.path(&two.moj.file())).unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = instance.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let line = |part: &str| good.lines().position(|line| line.starts_with(part)).unwrap() + 1;
    assert_eq!((line("server ="), line("unlock =")), (4, 11), "the lines that the rows below name");
    write("broken/s.toml", good.replace("server = \"", "server = ").as_bytes());
    write("typo/s.toml", good.replace("unlock", "unlok").as_bytes());
    write("door/s.toml", format!("{good}\n[[clients]]\nlisten = \"0.0.0.0:5591\"\n").as_bytes());
    write("latin/s.toml", b"# B\xf4 T\xb0 ph\xe1p\n");
    write("open/s.toml", good.as_bytes());
    write("open/operators.token", b"0");
    fs::set_permissions(instance.path("open/operators.token"), fs::Permissions::from_mode(0o644)).unwrap();
    write("never/s.toml", good.as_bytes());
    write("registry.broken/r.toml", b"directory = \".\"\nlisten = nowhere\n");
    write("registry.value/r.toml", b"directory = \".\"\nlisten = \"nowhere\"\nunlock = \"prompt\"\n");
    write("registry.empty/r.toml", b"directory = \".\"\nlisten = \"127.0.0.1:1\"\nunlock = \"credential:registry\"\n");
    let admin = fs::read_to_string(instance.path("registry/admin-admin.toml")).unwrap();
    write("admin.typo.toml", admin.replace("instance", "instanz").as_bytes());
    write("admin.instance.toml", admin.replace("\"VN\"", "\"V N\"").as_bytes());
    vec![
        row("security-server status --config nowhere.toml", Exit::Usage, &["nowhere.toml", "`security-server join`"]),
        row("security-server status --config moj", Exit::Usage, &["moj", "the file in it"]),
        row("security-server status --config latin/s.toml", Exit::Usage, &["UTF-8", "text file"]),
        row("security-server status --config broken/s.toml", Exit::Usage, &["broken/s.toml", "line 4, column 10"]),
        row("security-server serve --config typo/s.toml", Exit::Usage, &["line 11, column 1", "`unlok`", "`unlock`"]),
        row("security-server serve --config door/s.toml", Exit::Usage, &["0.0.0.0:5591", "tls = true"]),
        row("security-server status --config open/s.toml", Exit::Usage, &["operators.token", "chmod 600"]),
        row("security-server status --config never/s.toml", Exit::Unreachable, &["never ran", "serve"]),
        row("central-registry serve --config nowhere.toml", Exit::Usage, &["nowhere.toml", "`central-registry init`"]),
        row("central-registry serve --config registry", Exit::Usage, &["the file in it"]),
        row("central-registry serve --config registry.broken/r.toml", Exit::Usage, &["line 2, column 10"]),
        row("central-registry serve --config registry.value/r.toml", Exit::Usage, &["listen", "0.0.0.0:4001"]),
        row("central-registry serve --config registry.empty/r.toml", Exit::Usage, &["authority.pem", "`directory`"]),
        row("central-registry members --admin nowhere.toml", Exit::Usage, &["nowhere.toml", "first admin"]),
        row("central-registry members --admin admin.typo.toml", Exit::Usage, &["line 2, column 1", "instanz"]),
        row("central-registry members --admin admin.instance.toml", Exit::Usage, &["instance: ", "V N"]),
        row("security-server evidence verify nowhere --anchor registry/anchor.json", Exit::Usage, &["nowhere", "get"]),
        row("security-server evidence verify moj --anchor registry/anchor.json", Exit::Usage, &["the file in it"]),
    ]
}

/// Slips of the finger.
fn typed(two: &Two) -> Vec<Row> {
    let at = format!("--config {}", two.moj.file());
    vec![
        row("security-server sevre", Exit::Usage, &["'sevre'", "did you mean serve?"]),
        row("security-server access lits", Exit::Usage, &["'lits'", "did you mean list?"]),
        row("security-server status --cnfig x", Exit::Usage, &["'--cnfig'", "did you mean --config?"]),
        row("security-server status", Exit::Usage, &["--config <FILE>", "usage: security-server status"]),
        row("security-server explain GRANT_MISING", Exit::Usage, &["did you mean GRANT_MISSING?"]),
        row("security-server explain nonsense", Exit::Usage, &["`security-server explain`"]),
        row("security-server explain GRANT_MISSING --language fr", Exit::Usage, &["en, vi"]),
        row(format!("security-server exchange 3f1c {at}"), Exit::Usage, &["3f1c", "32 hexadecimal digits"]),
        row(format!("security-server access end one --reason x {at}"), Exit::Usage, &["one"]),
        row("security-server completions tcsh", Exit::Usage, &["bash, zsh, fish"]),
        row("central-registry aprove R-1", Exit::Usage, &["'aprove'", "did you mean approve?"]),
        row("central-registry approve 1", Exit::Usage, &["R- and a number"]),
        row("central-registry approve", Exit::Usage, &["<REQUEST>", "usage: central-registry approve"]),
        row("central-registry reqests", Exit::Usage, &["did you mean requests?"]),
        row("central-registry members --jsno", Exit::Usage, &["did you mean --json?"]),
        row("central-registry invite VN/GOV --server VN/GOV/a/ss1", Exit::Usage, &["VN/GOV"]),
        row("central-registry invite VN/GOV/a --server VN/GOV/a/ss1 --valid-hours 0", Exit::Usage, &["1..=720"]),
        row("central-registry serve --config x --unlock secret", Exit::Usage, &["credential:NAME"]),
        row("agency population-registre", Exit::Usage, &["did you mean population-register?"]),
        row("agency civil-registry", Exit::Failed, &["population", "--help"]),
        row("sandbox --onec", Exit::Usage, &["did you mean --once?"]),
    ]
}

/// What is asked of a running server that it does not know, or may not do.
fn asked(two: &Two) -> Vec<Row> {
    let (portal, moj, file) = (&two.portal.subsystem, &two.moj.subsystem, two.moj.file());
    let at = format!("--config {file}");
    let grant = |provider: &str, rest: &str| {
        format!(
            "security-server access grant {portal} --provider {provider} --method /echo.v1.Echo/Unary --purpose {PURPOSE} \
             {rest} {at}"
        )
    };
    let nobody = "0".repeat(32);
    vec![
        row(
            grant("VN/GOV/moj/civil-registri", "--days 1"),
            Exit::NotFound,
            &["civil-registri", "did you mean VN/GOV/moj/civil-registry?"],
        ),
        row(grant("VN/GOV/moj/civil-registri", "--days 1 --dry-run"), Exit::NotFound, &["civil-registry?"]),
        row(grant(portal, "--days 1"), Exit::NotFound, &["hosts no subsystem VN/GOV/portal/one-stop"]),
        row(grant(moj, "--days 0"), Exit::Refused, &["1 to 3660 days"]),
        row(grant(moj, "--days 0 --dry-run"), Exit::Refused, &["1 to 3660 days"]),
        row(grant(moj, "--days 1 --per-second 0"), Exit::Refused, &["at least 1 a second"]),
        row(grant(moj, "--days 1 --priority soon"), Exit::Usage, &["urgent, ordinary or bulk"]),
        row(
            format!("security-server access end 2 --reason x {at}"),
            Exit::NotFound,
            &["no grant 2", "did you mean 1?"],
        ),
        row(
            format!("security-server access end 777 --reason x --dry-run {at}"),
            Exit::NotFound,
            &["no grant 777", "access list"],
        ),
        row(format!("security-server exchange {nobody} {at}"), Exit::NotFound, &["not in this server's log"]),
        row(format!("security-server evidence get {nobody} {at}"), Exit::NotFound, &["not in this server's log"]),
        row(format!("security-server evidence find --result anwsered {at}"), Exit::Usage, &["did you mean answered?"]),
        row(format!("security-server evidence get {nobody} --out evidence {at}"), Exit::Usage, &[".zip or .json"]),
        row(format!("security-server evidence find --limit 0 {at}"), Exit::Usage, &["1 to 1000"]),
    ]
}

/// Joining with something wrong in the command.
async fn joining(instance: &Instance, tax: &Member) -> Vec<Row> {
    let zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    fs::write(instance.path("unknown.token"), format!("join_{}\n", "A".repeat(43))).unwrap();
    fs::write(instance.path("short.token"), "join_AAAA\n").unwrap();
    // Each into a directory of its own: they run at the same time.
    let into = || format!("new{}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    let with = |changed: &[&str]| join(instance, &into(), changed);
    let closed = tests::processes::reserved().to_string();
    let mut rows = vec![
        row(with(&["--fingerprint", zeros]), Exit::Refused, &["is not the registry", "new fingerprint"]),
        row(with(&["--fingerprint", "sha256:00"]), Exit::Usage, &["is no fingerprint"]),
        row(with(&["--anchor-digest", "00"]), Exit::Usage, &["sha256: and 64"]),
        row(with(&["--registry", &closed]), Exit::Unreachable, &["cannot be reached", "firewall"]),
        row(with(&["--registry", "here"]), Exit::Usage, &["host:port"]),
        row(with(&["--token-file", "nowhere"]), Exit::Usage, &["nowhere"]),
        row(with(&["--token-file", "moj"]), Exit::Usage, &["the file in it"]),
        row(with(&["--token-file", "short.token"]), Exit::Usage, &["join_", "43"]),
        row(with(&["--passphrase", "credential:nobody"]), Exit::Usage, &["credential:nobody"]),
        row(with(&["--passphrase", "secret"]), Exit::Usage, &["credential:NAME"]),
        row(
            with(&["--wait-seconds", "5", "--no-wait"]),
            Exit::Usage,
            &["--wait-seconds", "--no-wait", "cannot be used"],
        ),
        row(with(&["--server", "VN/GOV/moj"]), Exit::Usage, &["VN/GOV/moj"]),
        row(join(instance, "moj", &[]), Exit::Usage, &["joined already", "another directory"]),
    ];
    // With and without --dry-run the same rules are asked.
    for dry_run in [&["--dry-run"][..], &[]] {
        let with = |changed: &[&str]| join(instance, &into(), &[changed, dry_run].concat());
        rows.extend([
            row(with(&["--token-file", "unknown.token"]), Exit::Refused, &["token is not known"]),
            row(with(&["--server", "VN/GOV/moj/ss2"]), Exit::Refused, &["used already"]),
            row(with(&["--server", "LA/GOV/tax/ss1"]), Exit::Refused, &["instance LA, this is VN"]),
        ]);
    }
    let other = join(instance, "tax", &["--server", "VN/GOV/tax/ss2"]);
    all_told(instance, [row(other, Exit::Usage, &["a request of VN/GOV/tax/ss1"])]).await;
    // Its own request, approved; whose anchor is another one is told before anything is written.
    instance.run(&format!("central-registry approve R-3 {AS_ADMIN}")).await.well();
    let other = join(instance, "tax", &["--anchor-digest", zeros]);
    all_told(instance, [row(other, Exit::Refused, &["do not join"])]).await;
    instance.run(&join(instance, "tax", &[])).await.well();
    tax.configure(instance.directory.path(), &[]);
    rows
}

/// What an admin may not order, or orders of what there is not.
fn commanded(instance: &Instance) -> Vec<Row> {
    let zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let mut rows = vec![
        row(format!("central-registry members --fingerprint {zeros} {AS_ADMIN}"), Exit::Refused, &["not the registry"]),
        row(format!("central-registry members --instance LA {AS_ADMIN}"), Exit::Refused, &["instance LA, this is VN"]),
        row("central-registry members --passphrase credential:moj", Exit::Usage, &["admin-admin.pem", "passphrase"]),
        row("central-registry members --passphrase credential:nobody", Exit::Usage, &["credential:nobody"]),
        row(
            "central-registry members --admin-key moj/keys/signing.pem --passphrase credential:moj",
            Exit::Refused,
            &["no admin's"],
        ),
        row(
            format!("central-registry init moj --instance VN --name x --admin an --persons-threshold 1 {AS_ADMIN}"),
            Exit::Usage,
            &["moj is not empty"],
        ),
        row(
            format!(
                "central-registry init moj --instance VN --name x --admin an --persons-threshold 1 --dry-run {AS_ADMIN}"
            ),
            Exit::Usage,
            &["moj is not empty"],
        ),
        row(
            format!(
                "central-registry init new --instance VN --name x --admin an --persons-threshold 1 --root-threshold 4 {AS_ADMIN}"
            ),
            Exit::Usage,
            &["4 of 3 root keys"],
        ),
        row(
            format!("central-registry init new --instance VN --name x --persons-threshold 1 --admin a/b {AS_ADMIN}"),
            Exit::Usage,
            &["a/b"],
        ),
    ];
    for dry_run in ["", "--dry-run"] {
        let with = |order: &str| format!("central-registry {order} {AS_ADMIN} {dry_run}");
        rows.extend([
            row(with("approve R-9"), Exit::NotFound, &["no request R-9", "did you mean R-1?"]),
            row(with("approve R-4096"), Exit::NotFound, &["no request R-4096", "`central-registry requests`"]),
            row(with("reject R-1 --reason late"), Exit::Refused, &["R-1 was approved already"]),
            row(with("suspend VN/GOV/mjo --reason typo"), Exit::NotFound, &["did you mean VN/GOV/moj?"]),
            row(with("restore VN/GOV/moj"), Exit::Refused, &["active already"]),
            row(with("invite VN/GOV/new --server VN/GOV/new/ss1"), Exit::Refused, &["--name"]),
            row(with("invite VN/GOV/moj --name Other --server VN/GOV/moj/ss2"), Exit::Refused, &["leave --name out"]),
            row(with("invite VN/GOV/moj --server VN/GOV/moj/ss1"), Exit::Refused, &["registered already"]),
            row(with("invite VN/GOV/moj --server VN/GOV/tax/ss9"), Exit::Refused, &["VN/GOV/tax/ss9"]),
            row(with("invite LA/GOV/moj --name x --server LA/GOV/moj/ss1"), Exit::Refused, &["instance LA"]),
        ]);
    }
    let _ = instance;
    rows
}

/// Servers that cannot start, and doors that are not theirs.
async fn begun(instance: &Instance, tax: &Member) -> Vec<Row> {
    let good = fs::read_to_string(instance.path(&tax.file())).unwrap();
    let registry = fs::read_to_string(instance.path("registry/central-registry.toml")).unwrap();
    let moj = fs::read_to_string(instance.path("moj/security-server.toml")).unwrap();
    let door = |text: &str, section: &str| {
        let (_, after) = text.split_once(section).unwrap();
        after.split("listen = \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let (taken, registrys) = (door(&moj, "[operators]"), door(&registry, "directory"));
    let write = |name: &str, text: &str| fs::write(instance.path("tax").join(name), text).unwrap();
    write("port.toml", &good.replace(&door(&good, "[peers]"), &taken));
    write("wrong.toml", &good.replace("credential:tax", "credential:moj"));
    write("none.toml", &good.replace("credential:tax", "credential:nobody"));
    write("theirs.toml", &good.replace(&door(&good, "[operators]"), &taken));
    write("else.toml", &good.replace(&door(&good, "[operators]"), &registrys));
    write("operators.token", &"0".repeat(64));
    fs::set_permissions(instance.path("tax/operators.token"), fs::Permissions::from_mode(0o600)).unwrap();
    vec![
        row("security-server serve --config tax/port.toml", Exit::Failed, &["cannot listen on", "another address"]),
        row("security-server serve --config tax/wrong.toml", Exit::Usage, &["passphrase", "keys/"]),
        row("security-server serve --config tax/none.toml", Exit::Usage, &["credential:nobody"]),
        row("security-server serve --config moj/security-server.toml", Exit::Failed, &["another process", "stop"]),
        row("security-server status --config tax/security-server.toml", Exit::Unreachable, &["is it running?"]),
        row("security-server status --config tax/theirs.toml", Exit::Refused, &["another operators.token"]),
        row("security-server status --config tax/else.toml", Exit::Unreachable, &["is no security server"]),
        row(
            "central-registry serve --config registry/central-registry.toml",
            Exit::Failed,
            &["another process", "stop"],
        ),
        row(
            "central-registry serve --config registry/central-registry.toml --unlock credential:moj",
            Exit::Usage,
            &["passphrase", "keys/"],
        ),
    ]
}

/// Evidence that does not hold, and what is none.
async fn proved(two: &Two) -> BTreeSet<u8> {
    let instance = &two.instance;
    let answered = two.client().unary(wire::Said::default()).await.unwrap();
    let exchange = answered.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
    let get = format!("security-server evidence get {exchange} --config {}", two.portal.file());
    let evidence = instance.run(&get).await.well();
    fs::write(instance.path("evidence.json"), &evidence).unwrap();
    let changed = evidence.replacen(&exchange, &"0".repeat(32), 1);
    fs::write(instance.path("changed.json"), changed).unwrap();
    let verify = |file: &str, anchor: &str| format!("security-server evidence verify {file} --anchor {anchor}");
    instance.run(&verify("evidence.json", "registry/anchor.json")).await.well();
    // The report of what does not hold is the answer; standard error says that it does not, in two lines.
    let rows = vec![
        row(verify("changed.json", "registry/anchor.json"), Exit::EvidenceInvalid, &["does not hold", "rely"]),
        row(verify("evidence.json", "evidence.json"), Exit::EvidenceInvalid, &["does not hold"]),
        row(verify("moj/security-server.toml", "registry/anchor.json"), Exit::EvidenceInvalid, &["no evidence file"]),
    ];
    let told = all_told(instance, rows).await;
    told.into_iter().chain([Exit::Ok.code()]).collect()
}

/// A server that is told to stop while a stream runs is not ready, and says so with a code of its own.
async fn drained(two: &Two, mut server: tests::processes::Process) -> BTreeSet<u8> {
    let (says, asked) = mpsc::channel(1);
    says.send(wire::Said::default()).await.unwrap();
    let mut answers = two.client().both(ReceiverStream::new(asked)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let status = format!("security-server status --check --config {}", two.moj.file());
    assert!(two.instance.run(&status).await.well().contains("is ready"));
    server.terminate().await;
    server.says_that("shutting down").await;
    let said = two.instance.run(&status).await;
    assert_eq!(said.code, Some(7), "{said:?}");
    assert!(said.out.contains("NOT ready") && said.out.contains("shutting down"), "{said:?}");
    drop(says);
    while answers.message().await.unwrap().is_some() {}
    assert_eq!(server.ended().await.code(), Some(0));
    BTreeSet::from([Exit::CheckFailed.code()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_whose_clock_is_off_and_a_port_that_is_taken_are_told_by_name() {
    let instance = Instance::founded().await;
    let configuration =
        central_registry::configuration::Configuration::read(&instance.path("registry/central-registry.toml")).unwrap();
    let passphrase = fs::read_to_string(instance.path("credentials/registry")).unwrap();
    let off = COMMAND_WINDOW + Duration::from_secs(30);
    let machine = central_registry::system_clock();
    // The registry is the real one, and its clock is ahead of the one that the program reads.
    let running = central_registry::start(Settings {
        timestamping: Vec::new(),
        directory: configuration.directory.clone(),
        listen: configuration.listen,
        public: None,
        passphrase: keystore::Passphrase::new(passphrase).unwrap(),
        clock: Arc::new(move || machine().plus(off)),
    })
    .await
    .unwrap();
    let line = format!("central-registry members {AS_ADMIN}");
    all_told(&instance, [row(line, Exit::Refused, &["seconds away", "set the clock"])]).await;

    // Another instance's registry, whose file names the port of this one.
    let other = Instance::founded().await;
    let file = other.path("registry/central-registry.toml");
    let text = central_registry::configuration::Configuration::text(
        running.address(),
        &Source::Credential("registry".to_owned()),
    );
    fs::write(&file, text).unwrap();
    let line = "central-registry serve --config registry/central-registry.toml";
    all_told(&other, [row(line, Exit::Failed, &["cannot listen at", "another address"])]).await;
    running.shutdown().await;
}
