//! Who changed what, when and from where: both servers' own records of it, and what they are worth when somebody rewrites
//! them.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use journal::{Directory, Journal, Options, Owner, Tree, TreeIndex};
use keystore::Passphrase;
use proto::digest::Digest;
use proto::record::{Kind, Record};
use proto::signature::{SigningKey, purpose};
use serde_json::Value;
use tests::processes::{Instance, Member, PURPOSE};
use tokio::net::TcpStream;

async fn noted(instance: &Instance, file: &str) -> Vec<Value> {
    let listed = instance.run(&format!("security-server audit list --json --config {file}")).await.json();
    listed["entries"].as_array().unwrap().iter().map(|entry| entry["noted"].clone()).collect()
}

fn of<'n>(noted: &'n [Value], entry: &str) -> Vec<&'n Value> {
    noted.iter().filter(|noted| noted["entry"] == entry).collect()
}

/// Asks at the operators' door with this token, and returns the status.
async fn ask(member: &Member, path: &str, token: &str) -> u16 {
    let stream = TcpStream::connect(member.operators).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", member.operators.to_string())
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = requests.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    drop(response.into_body().collect().await.unwrap());
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_doings_are_noted_with_who_when_and_from_where() {
    let instance = Instance::founded().await;
    let registry = instance.serve_registry().await;
    let moj = Member::new("moj", "civil-registry");
    instance.join(&moj).await;
    moj.configure(instance.directory.path(), &[]);
    registry.stops().await;
    let (file, path) = (moj.file(), instance.path(&moj.file()));
    let token = "a token of nguyen's own, and nobody else's";
    let digest = Digest::of(&[token.as_bytes()]);
    let add = |more: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{more}")).unwrap();
    };
    add(&format!("[[operator]]\nname = \"nguyen\"\ntoken_sha256 = \"{digest}\"\n"));
    std::fs::write(instance.path("nguyen.token"), token).unwrap();
    std::fs::set_permissions(instance.path("nguyen.token"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();

    // Two operators, each by a token of their own, and one says who it is.
    let server = instance.serve(&moj).await;
    let grant = format!(
        "security-server access grant VN/GOV/portal/one-stop --provider {} --method /a.B/C --purpose {PURPOSE} --days 1 --config {file}",
        moj.subsystem
    );
    let mut own = instance.command(&grant);
    own.env("CAUSEWAY_OPERATOR_TOKEN", instance.path("nguyen.token"))
        .env_remove("SUDO_USER")
        .env("USER", "nguyen-at-home");
    assert!(own.output().await.unwrap().status.success());
    let end = format!("security-server access end 1 --reason over --config {file}");
    let mut other = instance.command(&end);
    for name in ["SUDO_USER", "USER", "LOGNAME"] {
        other.env_remove(name);
    }
    assert!(other.output().await.unwrap().status.success());
    let told = noted(&instance, &file).await;
    let (granted, ended) = (of(&told, "granted")[0], of(&told, "ended")[0]);
    assert_eq!((&granted["by"]["token"], &granted["by"]["calls_itself"]), (&"nguyen".into(), &"nguyen-at-home".into()));
    assert_eq!((&ended["by"]["token"], &ended["by"]["calls_itself"]), (&"operators.token".into(), &Value::Null));
    for each in [granted, ended] {
        assert!(each["by"]["from"].as_str().unwrap().starts_with("127.0.0.1:") && each["at"].is_u64(), "{each}");
    }
    assert_eq!((&ended["number"], &ended["reason"]), (&1.into(), &"over".into()));

    // Whoever knows no token is refused, noted, and cannot fill the log.
    for _ in 0..40 {
        assert_eq!(ask(&moj, "/v1/status", "wrong").await, 401);
    }
    assert_eq!(ask(&moj, "/v1/status", token).await, 200);
    let told = noted(&instance, &file).await;
    let refused = of(&told, "refused");
    assert!((1..=11).contains(&refused.len()), "{refused:?}");
    assert!(
        refused[0]["attempts"] == 1 && refused[0]["from"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{refused:?}"
    );
    server.stops().await;

    // A start says how its settings differ from those of the start before: all of them, then nothing, then just that.
    instance.serve(&moj).await.stops().await;
    add("[bind]\n\"population.v1.People\" = \"VN/GOV/mps/population-register\"\n");
    let text = std::fs::read_to_string(&path).unwrap();
    let subject = format!("token_sha256 = \"{digest}\"");
    std::fs::write(&path, text.replace(&subject, &subject.replace(&digest.to_string()[..4], "0000"))).unwrap();
    instance.serve(&moj).await.stops().await;
    let told = noted(&instance, &file).await;
    let starts = of(&told, "started");
    assert_eq!(starts.len(), 3);
    let settings: Vec<&str> =
        starts[0]["changed"].as_array().unwrap().iter().map(|change| change["setting"].as_str().unwrap()).collect();
    for setting in ["server", "peers.listen", "operator nguyen", "key authentication", "key signing VN/GOV/moj"] {
        assert!(settings.contains(&setting), "{setting} is not in {settings:?}");
    }
    assert_eq!(starts[1]["changed"].as_array().unwrap().len(), 0, "{}", starts[1]);
    let changed = starts[2]["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert_eq!((&changed[0]["setting"], &changed[0]["before"]), (&"bind population.v1.People".into(), &Value::Null));
    assert_eq!(changed[0]["after"], "VN/GOV/mps/population-register");
    assert_eq!(changed[1]["setting"], "operator nguyen");
    assert!(changed[1]["before"] != changed[1]["after"]);

    // No secret is in it, not even one that a guess could be tried against.
    for segment in std::fs::read_dir(instance.path("moj/audit-log")).unwrap() {
        let bytes = std::fs::read(segment.unwrap().path()).unwrap();
        for secret in [token.to_owned(), digest.to_string(), hex::encode(token)] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
    let words = instance.run(&format!("security-server audit list --config {file}")).await.well();
    for word in
        ["granted 1", "ended grant 1: over", "by the token nguyen", "calls itself nguyen-at-home", "-> VN/GOV/mps"]
    {
        assert!(words.contains(word), "{word} is not in\n{words}");
    }
    let newest = instance.run(&format!("security-server audit list --last 1 --json --config {file}")).await.json();
    let newest = newest["entries"].as_array().unwrap();
    assert_eq!((newest.len(), &newest[0]["noted"]["entry"]), (1, &"started".into()));
    instance.run(&format!("security-server audit verify --config {file}")).await.well();

    rewritten(&instance, &moj).await;
}

/// Whoever can write the directory writes another log: without the member's key, and with it.
async fn rewritten(instance: &Instance, moj: &Member) {
    let verify = format!("security-server audit verify --config {}", moj.file());
    let refused = async |why: &str| {
        let said = instance.run(&verify).await;
        assert_eq!(said.code, Some(5), "{said:?}");
        assert!(said.err.contains(why), "{}", said.err);
    };
    let directory = instance.path("moj/audit-log");
    let granted = |key: &SigningKey, signed: &[u8]| {
        let document = br#"{"number":1}"#;
        let signature = key.sign(&[purpose::GRANT.as_bytes(), signed].concat());
        serde_json::json!({
            "entry": "granted", "grant": STANDARD.encode(document), "key": key.public().id().to_string(),
            "signature": STANDARD.encode(signature),
        })
    };
    let (other, _) = SigningKey::generate();
    write(&directory, other, &[]);
    refused("signed by a key whose certificate is here").await;

    let passphrase = std::fs::read_to_string(instance.path("credentials/moj")).unwrap();
    let passphrase = Passphrase::new(passphrase.trim().to_owned()).unwrap();
    let own = || keystore::open(&instance.path("moj/keys/signing.pem"), &passphrase).unwrap();
    write(&directory, own(), &[granted(&own(), br#"{"number":1}"#)]);
    instance.run(&verify).await.well();
    write(&directory, own(), &[granted(&own(), br#"{"number":2}"#)]);
    refused("a grant whose signature does not hold").await;
    let (other, _) = SigningKey::generate();
    write(&directory, own(), &[granted(&other, br#"{"number":1}"#)]);
    refused("of which no certificate is here").await;
    let settings = serde_json::json!({ "entry": "started", "at": 1, "version": "0", "settings": "00", "changed": [] });
    write(&directory, own(), &[settings]);
    refused("the settings of a start").await;
    write(&directory, own(), &[serde_json::json!({ "entry": "made up" })]);
    refused("no entry that this program knows").await;
}

/// The registry's journal: whoever has the directory rewrites it, and whoever has the journal's key too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registrys_journal_that_was_rewritten_does_not_hold() {
    let instance = Instance::founded().await;
    let registry = instance.serve_registry().await;
    for name in ["moj", "mps"] {
        let invite = format!(
            "central-registry invite VN/GOV/{name} --name {name} --server VN/GOV/{name}/ss1 --passphrase credential:registry"
        );
        instance.run(&invite).await.well();
    }
    let verify = "central-registry audit verify --config registry/central-registry.toml";
    let found = instance.run(&format!("{verify} --json")).await.json();
    assert_eq!((&found["orders"], &found["orders_without_signature"]), (&2.into(), &0.into()), "{found}");
    let key = found["trees"][0]["by"][0].as_str().unwrap();
    instance.run(&format!("{verify} --key sha256:{key}")).await.well();
    let words = instance.run("central-registry audit list --config registry/central-registry.toml").await.well();
    for word in [
        "founded VN",
        "started, version",
        "key journal: nothing -> ",
        "invited VN/GOV/moj/ss1",
        "by admin (key ",
        "from 127.0.0.1:",
        "the journal was opened",
    ] {
        assert!(words.contains(word), "{word} is not in\n{words}");
    }
    registry.stops().await;

    let directory = instance.path("registry/journal");
    changed_cut_or_in_another_order(&instance, &directory, verify).await;
    let mut entries = Vec::new();
    journal::read(&Directory(directory.clone()), None, &mut |entry| {
        if entry.record.kind() == Kind::Entry {
            entries.push(serde_json::from_slice::<Value>(&entry.record.body()).unwrap());
        }
    })
    .unwrap();
    let invited: Vec<usize> = (0..entries.len()).filter(|at| !entries[*at]["event"]["invited"].is_null()).collect();
    let passphrase = std::fs::read_to_string(instance.path("credentials/registry")).unwrap();
    let passphrase = Passphrase::new(passphrase.trim().to_owned()).unwrap();
    let own = || keystore::open(&instance.path("registry/keys/journal.pem"), &passphrase).unwrap();
    let refused = async |why: &str, more: &str| {
        let said = instance.run(&format!("{verify}{more}")).await;
        assert_eq!(said.code, Some(5), "{said:?}");
        assert!(said.err.contains(why), "{why}: {}", said.err);
    };
    let owner = |member: &str| Owner { instance: "VN".parse().unwrap(), member: member.into(), server: member.into() };
    let rewrite = |key: SigningKey, change: &dyn Fn(&mut Vec<Value>)| {
        let mut changed = entries.clone();
        change(&mut changed);
        write_as(&directory, key, owner("central-registry"), &changed);
    };
    rewrite(own(), &|_| {});
    instance.run(verify).await.well();
    rewrite(own(), &|entries| {
        entries[invited[0]]["event"]["invited"]["invitation"]["server"] = "VN/GOV/moj/ss9".into()
    });
    refused("orders something else", "").await;
    rewrite(own(), &|entries| entries[invited[0]]["by"] = entries[invited[1]]["by"].clone());
    refused("orders something else", "").await;
    rewrite(own(), &|entries| {
        let signature = entries[invited[1]]["by"]["signed"]["signature"].clone();
        entries[invited[0]]["by"]["signed"]["signature"] = signature;
    });
    refused("signature", "").await;
    rewrite(own(), &|entries| drop(entries[invited[1]]["by"].as_object_mut().unwrap().remove("signed")));
    refused("an order without its signature, after others", "").await;
    rewrite(own(), &|entries| {
        entries[invited[1]]["event"] = serde_json::json!({ "restored": { "member": "VN/GOV/tax" } })
    });
    refused("there is no member VN/GOV/tax", "").await;
    // What was published tells of an end that was cut off, and of a version that was signed twice.
    let last = entries.iter().rposition(|entry| !entry["event"]["published"].is_null()).unwrap();
    rewrite(own(), &|entries| entries.truncate(last));
    refused("the end was cut off", "").await;
    rewrite(own(), &|entries| entries[last]["event"]["published"]["timestamp"] = "0".repeat(64).into());
    refused("with another content than the one recorded here", "").await;
    rewrite(own(), &|entries| entries[last]["event"]["published"]["version"] = 1_000.into());
    refused("the checkpoint of version 1000 is not the one that follows from the journal", "").await;
    rewrite(own(), &|entries| entries.swap(invited[0], invited[1]));
    refused("this entry is out of place", "").await;
    let (other, _) = SigningKey::generate();
    rewrite(other, &|_| {});
    refused("is signed by the key of journal-key.pem", "").await;
    refused("find out who changed it", &format!(" --key sha256:{}", "0".repeat(64))).await;
}

/// Whoever has no key can change bytes, cut them off and exchange them.
async fn changed_cut_or_in_another_order(instance: &Instance, directory: &Path, verify: &str) {
    let mut segments: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .collect();
    segments.sort();
    let [first, .., last] = &segments[..] else { panic!("the founding and the start have a segment each") };
    let (early, late) = (std::fs::read(first).unwrap(), std::fs::read(last).unwrap());
    let found = async |case: &str, code: i32| {
        let said = instance.run(verify).await;
        assert_eq!(said.code, Some(code), "{case}: {said:?}");
    };
    found("as it is", 0).await;
    for at in [0, early.len() / 3, early.len() / 2, early.len() - 1] {
        let mut changed = early.clone();
        changed[at] ^= 1;
        std::fs::write(first, changed).unwrap();
        found(&format!("a bit at {at} is another"), 5).await;
    }
    std::fs::write(first, &early[..early.len() - 1]).unwrap();
    found("the first segment is cut", 5).await;
    std::fs::write(first, &late).unwrap();
    std::fs::write(last, &early).unwrap();
    found("the segments stand in another order", 5).await;
    std::fs::write(first, &early).unwrap();
    std::fs::write(last, &late[..late.len() / 3]).unwrap();
    found("the end is cut off", 5).await;
    std::fs::remove_file(last).unwrap();
    found("the last segment is gone", 5).await;
    std::fs::write(last, &late).unwrap();
    found("as it was", 0).await;
}

/// A log of these entries, under this key.
fn write(directory: &Path, key: SigningKey, entries: &[Value]) {
    let owner = Owner { instance: "VN".parse().unwrap(), member: "VN/GOV/moj".into(), server: "VN/GOV/moj/ss1".into() };
    write_as(directory, key, owner, entries);
}

fn write_as(directory: &Path, key: SigningKey, owner: Owner, entries: &[Value]) {
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::create_dir(directory).unwrap();
    let trees = vec![Tree { owner, key: Arc::new(key) }];
    let options = Options { first: true, ..Options::default() };
    let journal = Journal::open(Arc::new(Directory(directory.to_owned())), trees, options, None, &mut |_| {}).unwrap();
    for entry in entries {
        let record = Record::new(Kind::Entry, &[7; 16], &[entry.to_string().as_bytes()]);
        drop(journal.append(TreeIndex(0), record, Bytes::new(), false));
    }
    journal.close();
}
