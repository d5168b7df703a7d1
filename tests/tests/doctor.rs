//! What is wrong is named on the first line that failed, with what to do: each fault is injected for real, into files,
//! ports, keys and clocks, and both doctors are asked.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine;
use bytes::{BufMut, Bytes, BytesMut};
use central_registry::authority::CertificateAuthority;
use central_registry::command::Admin;
use central_registry::history::History;
use central_registry::publish::{Publication, RoleKeys, View};
use central_registry::register::{Applied, Hex};
use central_registry::timestamping::{External, Timestamping};
use checks::keys::Unlock;
use checks::{Check, Outcome, Report};
use command_line::Exit;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystore::{Cost, Passphrase, Source};
use prost::Message;
use proto::digest::Digest;
use proto::global_configuration::ledger;
use proto::global_configuration::update::Files;
use proto::registration::{Invitation, Order};
use proto::signature::{KeyId, SigningKey};
use proto::time::Time;
use proto::wire::registry::{File, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use security_server::Started;
use security_server::access_rights::Proposal;
use security_server::clock::Clock;
use security_server::config::{Configuration, OPERATORS_TOKEN};
use security_server::join::{self, join};
use tests::echo::Parrot;
use tests::processes::{Member, PURPOSE, Two, reserved};
use tests::tsa::{self, Tsa};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const DAY: i64 = 86_400_000;

// ---- healthy

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_server_passes_every_check_whether_it_runs_or_not() {
    let mut country = Country::founded().await;
    country.serve("moj").await;
    country.serve("portal").await;
    country.grant(&["Unary", "Both"]).await;
    let before = tree(&country.path("moj"));
    let running = country.examined("moj").await;
    assert!(running.checks.iter().all(|check| check.outcome == Outcome::Ok), "{running}");
    assert!(running.checks.len() >= 30, "{} checks", running.checks.len());
    assert!(finding(&running, "methods of echo.v1.Echo").contains("Unary, ServerStream"), "{running}");
    assert!(finding(&running, "peer VN/GOV/portal/one-stop").contains("takes our certificate"), "{running}");
    assert!(finding(&running, "clock").contains("within a second of the registry"), "{running}");

    country.stop("moj").await;
    let stopped = country.examined("moj").await;
    assert_eq!(stopped.first_failed(), None, "{stopped}");
    assert_eq!(check(&stopped, "server").outcome, Outcome::Warning, "{stopped}");
    assert!(check(&stopped, "server").remedy.as_ref().unwrap().contains("security-server serve --config"), "{stopped}");
    assert!(finding(&stopped, "peers' door").contains("free"), "{stopped}");

    // It looked, and that is all: the server runs on its directory, and afterwards nothing was made.
    let after = tree(&country.path("moj"));
    let made: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(made.iter().all(|path| !path.starts_with("keys")), "{made:?}");
    let rested = tree(&country.path("moj"));
    country.examined("moj").await;
    assert_eq!(tree(&country.path("moj")), rested, "a doctor changes nothing of a server that is stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_registry_passes_every_check_whether_it_runs_or_not() {
    let mut country = Country::founded().await;
    let running = country.registry_examined().await;
    assert_eq!(running.first_failed(), None, "{running}");
    assert!(running.checks.len() >= 20, "{} checks", running.checks.len());
    assert!(running.checks.iter().all(|check| check.outcome != Outcome::Skipped), "{running}");
    // What `init` made is to be taken away, and until it is, both lines say so.
    let warned: Vec<_> = names(&running, Outcome::Warning);
    assert_eq!(warned, ["root keys", "admins' files"], "{running}");

    country.registry.take().unwrap().shutdown().await;
    let rested = tree(&country.path("registry"));
    let stopped = country.registry_examined().await;
    assert_eq!(stopped.first_failed(), None, "{stopped}");
    assert_eq!(check(&stopped, "registry").outcome, Outcome::Warning, "{stopped}");
    assert_eq!(tree(&country.path("registry")), rested, "a doctor changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown_and_without_a_passphrase_the_rest_is_looked_at() {
    let mut country = Country::founded().await;
    country.serve("moj").await;
    country.serve("portal").await;
    let file = country.path("moj/security-server.toml");
    let without = security_server::doctor::Options {
        file: file.clone(),
        unlock: Unlock::NotHere("nobody was asked".into()),
        clock: Clock::system(),
    };
    let without = security_server::doctor::examine(&without).await;
    assert_eq!(without.first_failed(), None, "{without}");
    let skipped = names(&without, Outcome::Skipped);
    let wants_keys = ["passphrase", "keys", "TLS with peers", "registered address", "peer VN/GOV/portal/one-stop"];
    assert_eq!(skipped, wants_keys, "{without}");
    assert!(finding(&without, "keys").contains("\"passphrase\" was not checked"), "{without}");
    let with = country.examined("moj").await;
    let token = fs::read_to_string(country.path("moj").join(OPERATORS_TOKEN)).unwrap();
    for report in [&with, &without] {
        let told = format!("{report}{}", report.to_json());
        for secret in [token.trim(), country.passphrase.reveal()] {
            assert!(!told.contains(secret), "a secret is shown");
        }
    }
}

// ---- timestamping authorities

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamping_authority_that_is_not_right_is_named_by_both_doctors() {
    let mut country = Country::founded().await;
    let now = Time::from_millis(ahead(0).as_millis());
    let (key, pkcs8) = SigningKey::generate();
    let theirs = CertificateAuthority::found(&"EE".parse().unwrap(), key, now).unwrap();
    let authority = CertificateAuthority::open(&theirs, SigningKey::from_pkcs8(&pkcs8).unwrap()).unwrap();
    let mut tsa = Tsa::serve_under(&authority, "ministry", Arc::new(|| ahead(0))).await;
    let pem = |der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    // By the certificate of the authority under which it stands.
    fs::write(country.path("ministry.pem"), pem(theirs.as_bytes())).unwrap();
    country.registry.take().unwrap().shutdown().await;
    let external =
        External { address: tsa.address.parse().unwrap(), certificate: country.path("ministry.pem"), policy: None };
    let own = Timestamping { name: "registry".parse().unwrap(), external: None };
    let ministry = Timestamping { name: "ministry".parse().unwrap(), external: Some(external) };
    let settings = central_registry::Settings {
        directory: country.path("registry"),
        listen: country.address,
        timestamping: vec![ministry, own],
        public: None,
        passphrase: country.passphrase.clone(),
        clock: registrys_clock(&country.time),
    };
    country.registry = Some(central_registry::start(settings).await.unwrap());
    country.serve("moj").await;
    country.serve("portal").await;
    for name in ["timestamping authority ministry", "timestamping authority registry"] {
        for report in [country.examined("moj").await, country.registry_examined().await] {
            assert!(finding(&report, name).contains("approved certificate"), "{report}");
        }
    }
    let faults = [
        (Some(tsa::Fault::HourAhead), "more than 60 s apart", "operator that theirs is not"),
        (Some(tsa::Fault::OtherKey), "its signature does not hold", "[[timestamping]]"),
        (Some(tsa::Fault::OtherNonce), "another nonce", "[[timestamping]]"),
        (Some(tsa::Fault::Page), "no timestamp", "whether it runs"),
        (None, "Connection refused", "whether it runs"),
    ];
    for (fault, says, remedy) in faults {
        match fault {
            Some(fault) => tsa.goes_wrong(fault),
            None => tsa.is_gone().await,
        }
        for report in [country.examined("moj").await, country.registry_examined().await] {
            let wrong = names(&report, Outcome::Failed);
            assert_eq!(wrong, ["timestamping authority ministry"], "{report}");
            let found = check(&report, wrong[0]);
            assert!(found.finding.contains(says), "{report}");
            assert!(found.remedy.as_ref().unwrap().contains(remedy), "{report}");
        }
    }
}

// ---- faults in files: each is put into a copy of a server's directory, or the registry's

/// What is wrong: how it is put in, which check fails first, what that line says, and what it says to do.
type Fault<'f> = (&'f str, Box<dyn Fn(&Path) + 'f>, &'f str, &'f str, &'f str);

fn fault<'f>(
    what: &'f str,
    inject: impl Fn(&Path) + 'f,
    check: &'f str,
    finding: &'f str,
    remedy: &'f str,
) -> Fault<'f> {
    (what, Box::new(inject), check, finding, remedy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_a_servers_files_is_named_on_the_first_line_that_failed() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    country.serve("moj").await;
    country.grant(&["Unary"]).await;
    country.stop("moj").await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rude = speaks_http_1().await;
    let (service, clients) = (country.service, country.members["moj"].clients);
    let edit = |from: String, to: String| {
        move |moj: &Path| {
            let file = moj.join("security-server.toml");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(&from), "{from} is not in {text}");
            fs::write(file, text.replacen(&from, &to, 1)).unwrap();
        }
    };
    let mode = |path: &'static str, mode: u32| {
        move |moj: &Path| fs::set_permissions(moj.join(path), fs::Permissions::from_mode(mode)).unwrap()
    };
    let portals = country.path("portal");
    let instead = |path: &'static str| {
        let portals = portals.clone();
        move |moj: &Path| _ = fs::copy(portals.join(path), moj.join(path)).unwrap()
    };
    let foreign = country.foreign_certificate("moj");
    let last = |directory: &'static str| move |moj: &Path| segments(&moj.join(directory)).pop().unwrap();
    let registry = country.address.to_string();
    let faults: Vec<Fault<'_>> = vec![
        // The configuration file.
        fault(
            "a key that does not exist",
            edit("unlock".into(), "unlok".into()),
            "configuration file",
            "unlok",
            "deploy/security-server.toml",
        ),
        fault(
            "a value against its rule",
            edit(format!("http://{service}"), service.to_string()),
            "configuration file",
            "http://HOST:PORT",
            "security-server.toml:",
        ),
        fault(
            "no file",
            |moj| fs::remove_file(moj.join("security-server.toml")).unwrap(),
            "configuration file",
            "No such file",
            "--config",
        ),
        // The disk.
        fault(
            "a log that its owner cannot write",
            mode("message-log", 0o555),
            "directories",
            "mode 555",
            "chmod u+rwx",
        ),
        fault(
            "a log that is gone",
            |moj| fs::remove_dir_all(moj.join("message-log")).unwrap(),
            "directories",
            "No such file",
            "message-log back from a copy",
        ),
        fault("a key that others can read", mode("keys/signing.pem", 0o644), "key files", "mode 644", "chmod 600"),
        fault(
            "a token that others can read",
            mode(OPERATORS_TOKEN, 0o640),
            "operators' token",
            "mode 640",
            "chmod 600",
        ),
        // Keys.
        fault(
            "another's key under another passphrase",
            |moj| {
                let path = moj.join("keys/signing.pem");
                fs::remove_file(&path).unwrap();
                let (_, key) = SigningKey::generate();
                keystore::create(&path, &key, &Passphrase::random(), Cost::dangerously_cheap()).unwrap();
            },
            "keys",
            "cannot be opened with this passphrase",
            "passphrase that it was made with",
        ),
        // The global configuration on disk.
        fault(
            "a pack that was changed",
            |moj| {
                let packs = fs::read_dir(moj.join("global-configuration")).unwrap().map(|entry| entry.unwrap().path());
                let pack = packs.filter(|path| path.extension().is_some_and(|it| it == "pack")).max().unwrap();
                fs::write(pack, "another").unwrap();
            },
            "stored configuration",
            "its bytes are not those",
            "from a copy",
        ),
        // The registry.
        fault(
            "DNS: the registry's name",
            edit(registry.clone(), "registry.invalid:4001".into()),
            "registry's name",
            "DNS: the name registry.invalid does not resolve",
            "getent hosts registry.invalid",
        ),
        fault(
            "the registry's port",
            edit(registry.clone(), elsewhere.to_string()),
            "registry",
            "Connection refused",
            "security-server.toml:",
        ),
        fault(
            "another registry's key",
            edit("fingerprint = \"sha256:".into(), format!("fingerprint = \"sha256:{}\" # ", "0".repeat(64))),
            "registry",
            "not the registry that you were told of",
            "security-server.toml:",
        ),
        // The certificate.
        fault(
            "a wrong certificate: another server's",
            instead("certificates/authentication.pem"),
            "authentication certificate",
            "it is the certificate of VN/GOV/portal/ss1",
            "back from a copy",
        ),
        fault(
            "a wrong certificate: another authority's",
            move |moj| fs::write(moj.join("certificates/authentication.pem"), &foreign).unwrap(),
            "authentication certificate",
            "no authority of VN issued it",
            "back from a copy",
        ),
        fault(
            "a wrong certificate: for another key",
            |moj| {
                let path = moj.join("keys/authentication.pem");
                fs::remove_file(&path).unwrap();
                let (_, key) = SigningKey::generate();
                keystore::create(&path, &key, &country.passphrase, Cost::dangerously_cheap()).unwrap();
            },
            "authentication certificate",
            "another key than keys/authentication.pem",
            "back from a copy",
        ),
        fault(
            "a signing key that nobody registered",
            |moj| {
                let path = moj.join("keys/signing.pem");
                fs::remove_file(&path).unwrap();
                let (_, key) = SigningKey::generate();
                keystore::create(&path, &key, &country.passphrase, Cost::dangerously_cheap()).unwrap();
            },
            "signing key",
            "nobody takes its messages",
            "keys/ back",
        ),
        // Names.
        fault(
            "a subsystem with a mistake in it",
            edit(
                "subsystem = \"VN/GOV/moj/civil-registry\"".into(),
                "subsystem = \"VN/GOV/moj/civil-registri\"".into(),
            ),
            "subsystems",
            "did you mean VN/GOV/moj/civil-registry?",
            "security-server.toml:",
        ),
        fault(
            "a binding with a mistake in it",
            edit("= \"VN/GOV/portal/one-stop\"".into(), "= \"VN/GOV/portal/onestop\"".into()),
            "bindings",
            "did you mean VN/GOV/portal/one-stop?",
            "security-server.toml:",
        ),
        fault(
            "an address that is not this machine's",
            edit(format!("listen = \"{clients}\"\nsubsystem"), "listen = \"192.0.2.1:5590\"\ntls = true\n#".into()),
            "clients' door 1",
            "cannot listen here",
            "security-server.toml:",
        ),
        // Services.
        fault(
            "a service that is down",
            edit(service.to_string(), elsewhere.to_string()),
            "service echo.v1.Echo",
            "the service is down: nobody listens there",
            "security-server.toml:",
        ),
        fault(
            "DNS: a service's name",
            edit(service.to_string(), "echo.invalid:1".into()),
            "service echo.v1.Echo",
            "DNS: the name echo.invalid does not resolve",
            "security-server.toml:",
        ),
        fault(
            "a service that speaks something else",
            edit(service.to_string(), rude.to_string()),
            "service echo.v1.Echo",
            "does not speak HTTP/2",
            "look what listens there",
        ),
        fault(
            "schema drift: a service of another name",
            edit("name = \"echo.v1.Echo\"".into(), "name = \"echo.v1.Ehco\"".into()),
            "methods of echo.v1.Ehco",
            "there is no service echo.v1.Ehco there, but: echo.v1.Echo",
            "security-server.toml:",
        ),
        // The logs.
        fault(
            "a damaged message log",
            |moj| damage(&last("message-log")(moj)),
            "message log",
            "is damaged at offset",
            "back from a copy or the archive",
        ),
        fault(
            "a damaged audit log",
            |moj| damage(&last("audit-log")(moj)),
            "audit log",
            "is damaged at offset",
            "back from a copy or the archive",
        ),
        fault(
            "an emptied audit log",
            |moj| segments(&moj.join("audit-log")).into_iter().for_each(|segment| fs::remove_file(segment).unwrap()),
            "audit log",
            "there is no log, and `join` made one",
            "back from a copy",
        ),
    ];
    for (number, (what, inject, check, finding, remedy)) in faults.into_iter().enumerate() {
        let copy = country.path(&format!("moj-{number}"));
        copied(&country.path("moj"), &copy);
        inject(&copy);
        let report = country.examined(&format!("moj-{number}")).await;
        first_is(what, &report, check, finding, remedy);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_in_the_registrys_files_is_named_on_the_first_line_that_failed() {
    let mut country = Country::founded().await;
    let older = country.path("older");
    copied(&country.path("registry"), &older);
    country.registry.as_ref().unwrap().sign_again().await.unwrap();
    country.registry.take().unwrap().shutdown().await;
    let edit = |from: &'static str, to: &'static str| {
        move |registry: &Path| {
            let file = registry.join("central-registry.toml");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(file, text.replacen(from, to, 1)).unwrap();
        }
    };
    let mode = |path: &'static str, mode: u32| {
        move |registry: &Path| fs::set_permissions(registry.join(path), fs::Permissions::from_mode(mode)).unwrap()
    };
    let over = |from: &'static str, to: &'static str| {
        move |registry: &Path| _ = fs::copy(registry.join(from), registry.join(to)).unwrap()
    };
    let last = |registry: &Path| segments(&registry.join("journal")).pop().unwrap();
    let now = Time::from_millis(1_800_000_000_000);
    let other_authority = CertificateAuthority::found(&"VN".parse().unwrap(), SigningKey::generate().0, now).unwrap();
    let faults: Vec<Fault<'_>> = vec![
        fault(
            "a key that does not exist",
            edit("listen =", "lisen ="),
            "configuration file",
            "lisen",
            "deploy/central-registry.toml",
        ),
        fault(
            "a value against its rule",
            edit("listen = \"", "listen = \"localhost # "),
            "configuration file",
            "an IP address and a port",
            "central-registry.toml:7",
        ),
        fault(
            "a journal that its owner cannot write",
            mode("journal", 0o500),
            "directories",
            "mode 500",
            "chmod u+rwx",
        ),
        fault("a key that others can read", mode("keys/snapshot.pem", 0o604), "key files", "mode 604", "chmod 600"),
        fault(
            "a key that is gone",
            |registry| fs::remove_file(registry.join("keys/revoked.pem")).unwrap(),
            "key files",
            "revoked.pem",
            "back from a copy",
        ),
        fault(
            "a key under another passphrase",
            |registry| {
                let path = registry.join("keys/members.pem");
                fs::remove_file(&path).unwrap();
                let (_, key) = SigningKey::generate();
                keystore::create(&path, &key, &Passphrase::random(), Cost::dangerously_cheap()).unwrap();
            },
            "keys",
            "cannot be opened with this passphrase",
            "passphrase that it was made with",
        ),
        fault(
            "an authority of another key",
            over("keys/journal.pem", "keys/authority.pem"),
            "authority",
            "another key than keys/authority.pem",
            "from one copy",
        ),
        fault(
            "another authority",
            |registry| {
                let (key, pkcs8) = SigningKey::generate();
                let authority = CertificateAuthority::found(&"VN".parse().unwrap(), key, now).unwrap();
                fs::write(registry.join("authority.pem"), pem(authority.as_bytes())).unwrap();
                let path = registry.join("keys/authority.pem");
                fs::remove_file(&path).unwrap();
                keystore::create(&path, &pkcs8, &country.passphrase, Cost::dangerously_cheap()).unwrap();
            },
            "authority in force",
            "none of the authorities of the configuration",
            "from one copy",
        ),
        fault(
            "no authority",
            |registry| fs::write(registry.join("authority.pem"), "").unwrap(),
            "authority",
            "no certificate in PEM",
            "from one copy",
        ),
        fault(
            "a TLS certificate of another key",
            |registry| fs::write(registry.join("tls.pem"), pem(other_authority.as_bytes())).unwrap(),
            "TLS",
            "TLS does not take",
            "everybody pins this key",
        ),
        fault(
            "a role's key that is another's",
            over("keys/timestamp.pem", "keys/snapshot.pem"),
            "roles' keys",
            "keys/snapshot.pem is no key of the role snapshot",
            "keys/snapshot.pem back",
        ),
        fault(
            "a delegated role's key that is another's",
            over("keys/timestamp.pem", "keys/members.pem"),
            "roles' keys",
            "keys/members.pem is no key of the role members",
            "keys/members.pem back",
        ),
        fault(
            "a published file that is gone",
            |registry| fs::remove_file(registry.join("public/timestamp.json")).unwrap(),
            "published files",
            "timestamp.json",
            "back from a copy or a mirror",
        ),
        fault("another anchor", over("public/timestamp.json", "anchor.json"), "anchor", "not the first root", "cp "),
        fault(
            "a damaged journal",
            |registry| damage(&last(registry)),
            "audit journal",
            "is damaged at offset",
            "back from a copy",
        ),
        fault(
            "an older journal",
            |registry| {
                fs::remove_dir_all(registry.join("journal")).unwrap();
                copied(&older.join("journal"), &registry.join("journal"));
            },
            "published as recorded",
            "it is an older copy",
            "newest journal",
        ),
        fault(
            "an admin's file that pins another key",
            |registry| {
                let file = registry.join("admin-admin.toml");
                let text = fs::read_to_string(&file).unwrap();
                let at = text.find("sha256:").unwrap() + 7;
                fs::write(file, format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])).unwrap();
            },
            "admins' files",
            "and the registry's key is",
            "fingerprint",
        ),
    ];
    for (number, (what, inject, check, finding, remedy)) in faults.into_iter().enumerate() {
        let copy = country.path(&format!("registry-{number}"));
        copied(&country.path("registry"), &copy);
        inject(&copy);
        let file = copy.join("central-registry.toml");
        first_is(what, &registry_examined(file, &country.passphrase, 0).await, check, finding, remedy);
        // A mode that its owner cannot use is in the way of removing the copy.
        let _ = fs::set_permissions(copy.join("journal"), fs::Permissions::from_mode(0o700));
    }

    // By the clock: what was recorded is ahead of it, or holds no more.
    let file = country.path("registry/central-registry.toml");
    let at = async |offset: i64| registry_examined(file.clone(), &country.passphrase, offset).await;
    first_is(
        "a clock set back",
        &at(-3_600_000).await,
        "clock",
        "behind the last time that was recorded",
        "timedatectl",
    );
    first_is("nobody signed for three days", &at(4 * DAY).await, "freshness", "EXPIRED", "central-registry serve");
    let root = at(366 * DAY).await;
    let told = |name: &str| (check(&root, name).outcome, check(&root, name).finding.contains("EXPIRED"));
    assert_eq!(told("roles"), (Outcome::Failed, true), "{root}");

    // Something else where it is to listen.
    let _taken = TcpListener::bind(country.address).await.unwrap();
    let report = country.registry_examined().await;
    let port = country.address.port().to_string();
    first_is("a port that is taken", &report, "registry", "is taken", &format!("'sport = :{port}'"));
}

// ---- faults of others, and of time

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_and_then_hangs_is_the_first_that_failed() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    country.registry.take().unwrap().shutdown().await;
    let report = country.examined("moj").await;
    first_is("registry down", &report, "registry", "Connection refused", "ask the registry's admin");
    assert_eq!(check(&report, "clock").outcome, Outcome::Ok, "the peers tell the time: {report}");
    assert_eq!(check(&report, "newest configuration").outcome, Outcome::Skipped, "{report}");
    let silent = TcpListener::bind(country.address).await.unwrap();
    let report = country.examined("moj").await;
    first_is("registry hangs", &report, "registry", "no answer within 2s", "look for a firewall");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_down_hangs_or_is_another_is_named() {
    let mut country = Country::founded().await;
    country.serve("moj").await;
    country.grant(&["Unary"]).await;
    let peer = "peer VN/GOV/portal/one-stop";
    let report = country.examined("moj").await;
    first_is("peer down", &report, peer, "its server is down, or listens elsewhere", "nc -vz 127.0.0.1");

    // It accepts, and says nothing: cut by its limit, and everything else is told as ever.
    let address = country.members["portal"].peers;
    let silent = TcpListener::bind(address).await.unwrap();
    let report = country.examined("moj").await;
    first_is("peer hangs", &report, peer, "it says nothing within 3s", "hangs");
    assert_eq!(report.count(Outcome::Failed), 1, "nothing else is cut with it: {report}");
    drop(silent);

    // Another server at its address: moj's own, by its certificate.
    let tap = tests::tap::Tap::before(country.members["moj"].peers).await;
    let other = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let mut onward = tokio::net::TcpStream::connect(tap.address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut onward).await });
        }
    });
    let report = country.examined("moj").await;
    first_is("another at its address", &report, peer, "shows the certificate of another server", "ask VN/GOV/portal");

    // A consumer that is down harms nobody here.
    let file = country.path("moj/security-server.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.split("\n[bind]").next().unwrap()).unwrap();
    let report = country.examined("moj").await;
    assert_eq!(report.first_failed(), None, "{report}");
    assert_eq!(check(&report, peer).outcome, Outcome::Warning, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peers_name_that_does_not_resolve_is_told_as_dns() {
    let country = Country::founded_as(|options| {
        if options.server.as_str() == "VN/GOV/portal/ss1" {
            let (_, port) = options.address.as_str().rsplit_once(':').unwrap();
            options.address = format!("ss1.portal.invalid:{port}").parse().unwrap();
        }
    })
    .await;
    let report = country.examined("moj").await;
    let told = "DNS: the name ss1.portal.invalid does not resolve";
    first_is("DNS: a peer's name", &report, "peer VN/GOV/portal/one-stop", told, "getent hosts ss1.portal.invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_named_before_all_that_judges_by_it() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    for (offset, told) in [
        (94_000, "s ahead of the registry"),
        (-94_000, "s behind the registry"),
        // By so much that certificates and configurations are all past, or not yet.
        (400 * DAY, "ahead of the registry"),
        (-400 * DAY, "behind the registry"),
    ] {
        let report = country.examined_at("moj", offset).await;
        first_is("clock", &report, "clock", told, "timedatectl set-ntp true");
        assert_eq!(names(&report, Outcome::Failed), ["clock"], "what follows from it is not told as another: {report}");
    }
    let report = country.examined_at("moj", 20_000).await;
    assert_eq!((check(&report, "clock").outcome, report.first_failed()), (Outcome::Warning, None), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expired_is_named_before_the_peers_that_refuse_it() {
    let mut country = Country::founded_at(-91 * DAY, |_| {}).await;
    country.time.store(0, Ordering::Relaxed);
    country.registry.as_ref().unwrap().sign_again().await.unwrap();
    country.serve("moj").await;
    let report = country.examined("moj").await;
    first_is("expired", &report, "certificate's validity", "EXPIRED", "security-server join");
    assert_eq!(names(&report, Outcome::Failed), ["certificate's validity"], "{report}");
    for rests in ["peer VN/GOV/portal/one-stop", "registered address"] {
        assert!(finding(&report, rests).contains("because \"certificate's validity\" failed"), "{report}");
    }
    let ends = country.registry_examined().await;
    assert_eq!(check(&ends, "members' certificates").outcome, Outcome::Warning, "{ends}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_and_a_member_that_is_suspended_are_named() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    let admin = country.admin();
    let member: proto::identifier::MemberId = "VN/GOV/moj".parse().unwrap();
    admin.submit(&Order::Suspend(member.clone(), "a test".parse().unwrap())).await.unwrap();
    let report = country.examined("moj").await;
    first_is("suspended", &report, "member", "suspended", "central-registry restore VN/GOV/moj");
    admin.submit(&Order::Restore(member)).await.unwrap();

    // No command of the registry revokes one key yet: its keys sign a version that does.
    country.registry.take().unwrap().shutdown().await;
    for (file, check) in [("authentication", "authentication key"), ("signing", "signing key")] {
        let certificate = fs::read(country.path(&format!("moj/certificates/{file}.pem"))).unwrap();
        let certificate = CertificateDer::from_pem_slice(&certificate).unwrap();
        let revoked = proto::certificate::public_key(&certificate).unwrap().id();
        let publisher =
            publish(country.address, country.registrys_tls(), country.configuration_revoking(revoked)).await;
        let report = country.examined("moj").await;
        first_is("revoked", &report, check, "REVOKED", "join again");
        publisher.abort();
        let _ = publisher.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_nobody_signs_again_is_stale_and_then_expired_by_name() {
    // The registry's own clock stands still, and it signs by it.
    let mut country = Country::founded_at(-20 * 60_000, |_| {}).await;
    country.serve("moj").await;
    country.serve("portal").await;
    let report = country.examined("moj").await;
    // Its timestamps say so too.
    assert_eq!(names(&report, Outcome::Failed), ["timestamping authority registry"], "{report}");
    assert_eq!(check(&report, "freshness").outcome, Outcome::Warning, "{report}");
    assert!(finding(&report, "freshness").contains("from 2"), "it says until when: {report}");

    let mut country = Country::founded_at(-73 * 3_600_000, |_| {}).await;
    country.serve("moj").await;
    let report = country.examined("moj").await;
    first_is("expired", &report, "newest configuration", "expired at", "central-registry doctor");
    assert!(finding(&report, "freshness").contains("CONFIGURATION_EXPIRED"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_or_not_listened_at_is_named() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    let moj = country.members["moj"].clone();
    for (door, address) in [("peers' door", moj.peers), ("clients' door 1", moj.clients), ("server", moj.operators)] {
        let taken = TcpListener::bind(address).await.unwrap();
        let report = country.examined("moj").await;
        let command = format!("ss -ltnp 'sport = :{}'", address.port());
        first_is("taken", &report, door, "is taken: something else listens there", &command);
        drop(taken);
    }
    // Another security server at the operators' door.
    country.serve("moj").await;
    country.stop("moj").await;
    let file = country.path("moj/security-server.toml");
    let text = fs::read_to_string(&file).unwrap();
    let portals = country.members["portal"].operators.to_string();
    fs::write(&file, text.replace(&moj.operators.to_string(), &portals)).unwrap();
    let report = country.examined("moj").await;
    first_is(
        "another server",
        &report,
        "server",
        "does not know this server's operators.token",
        "security-server.toml:",
    );
    fs::write(&file, &text).unwrap();

    // It runs, and the file was changed since.
    country.serve("moj").await;
    fs::write(&file, text.replace(&moj.clients.to_string(), &reserved().to_string())).unwrap();
    let report = country.examined("moj").await;
    first_is(
        "not listening",
        &report,
        "clients' door 1",
        "was the file changed after it started?",
        "systemctl restart",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_names_a_method_that_the_service_lacks_is_drift() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    country.serve("moj").await;
    country.grant(&["Unary"]).await;
    country.grant(&["Unray"]).await;
    let report = country.examined("moj").await;
    let told = "grant 2 names /echo.v1.Echo/Unray, which the service does not have; did you mean Unary?";
    first_is("drift", &report, "methods of echo.v1.Echo", told, "security-server access end 2");

    // A service without reflection is not said to be well, nor ill.
    let (plain, _heard) = Parrot::serve().await;
    let file = country.path("moj/security-server.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&country.service.to_string(), &plain.to_string())).unwrap();
    let report = country.examined("moj").await;
    assert_eq!(report.first_failed(), None, "{report}");
    assert_eq!(finding(&report, "methods of echo.v1.Echo"), "not checked: the service has no reflection");

    // A grant for a service that the file does not list.
    fs::write(&file, &text).unwrap();
    country.grant_paths(&["/echo.v1.Ehco/Unary"]).await;
    let report = country.examined("moj").await;
    let named = check(&report, "grants");
    assert_eq!(named.outcome, Outcome::Failed, "{report}");
    assert!(named.finding.contains("did you mean echo.v1.Echo?"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_is_cut_by_its_limit_and_the_program_does_not_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("security-server.toml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    // Whoever reads it waits for a writer, who does not come.
    for program in ["security-server", "central-registry"] {
        let mut asked = tokio::process::Command::new(tests::processes::program(program));
        asked.args(["doctor", "--config"]).arg(&pipe).kill_on_drop(true);
        let said = tests::soon(asked.output()).await.unwrap();
        let told = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.status.code(), Some(7), "{told}");
        let first = told.lines().find(|line| line.contains("FAILED")).unwrap();
        assert!(first.contains("configuration file") && first.contains("no answer within 1.5s"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_is_cut_by_its_limit() {
    let mut country = Country::founded().await;
    country.serve("portal").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = country.path("moj/security-server.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&country.service.to_string(), &silent.local_addr().unwrap().to_string())).unwrap();
    let report = country.examined("moj").await;
    first_is("service hangs", &report, "service echo.v1.Echo", "no answer within 3s", "whether it hangs");
    assert_eq!(report.count(Outcome::Failed), 1, "{report}");
}

// ---- as people ask

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_tell_it_with_their_exit_codes() {
    let service = Parrot::serve_reflected().await;
    let (two, [registry, portals, mojs]) = Two::before(service).await;
    let instance = &two.instance;
    let ask = async |program: &str, options: &str| {
        let file = if program == "security-server" { two.moj.file() } else { "registry/central-registry.toml".into() };
        instance.run(&format!("{program} doctor --config {file}{options}")).await
    };
    let told = ask("security-server", "").await.well();
    assert!(told.contains("0 failed, 0 skipped") && told.contains("VN/GOV/moj/ss1 runs"), "{told}");
    assert!(told.is_ascii(), "it reads on any terminal, and in a pipe: {told}");
    let told = ask("security-server", " --json").await.json();
    assert_eq!((&told["healthy"], &told["first_failed"]), (&true.into(), &serde_json::Value::Null), "{told}");
    assert!(told["checks"].as_array().unwrap().len() >= 30, "{told}");
    let told = ask("central-registry", " --json").await.json();
    assert_eq!(told["healthy"], true, "{told}");

    // Without what opens the keys, as whoever comes by asks.
    let told = ask("security-server", " --no-passphrase").await.well();
    assert!(told.contains("not checked: --no-passphrase was given"), "{told}");
    let mut bare = instance.command(&format!("security-server doctor --config {}", two.moj.file()));
    let bare = bare.env_remove("CREDENTIALS_DIRECTORY").output().await.unwrap();
    let told = String::from_utf8(bare.stdout).unwrap();
    assert!(bare.status.success() && told.contains("systemd-run --pty -p LoadCredentialEncrypted=moj"), "{told}");

    registry.stops().await;
    let said = ask("security-server", "").await;
    assert_eq!(said.code, Some(7), "{said:?}");
    let first = said.out.lines().find(|line| line.contains("FAILED")).unwrap();
    assert!(first.contains(" registry ") && first.contains("Connection refused"), "{}", said.out);
    assert!(said.out.contains("Begin with \"registry\""), "{}", said.out);
    let told = ask("central-registry", "").await.well();
    assert!(told.contains("it does not run"), "{told}");
    let said = ask("security-server", " --nothing").await;
    assert_eq!(said.code, Some(2), "{said:?}");
    for process in [portals, mojs] {
        process.stops().await;
    }
}

// ---- what is examined

/// A registry and two members that have joined it: moj, which has a service and binds calls to the portal, and the portal.
struct Country {
    directory: tempfile::TempDir,
    passphrase: Passphrase,
    /// By how many milliseconds the registry's clock is ahead of the machine's.
    time: Arc<AtomicI64>,
    registry: Option<central_registry::Running>,
    address: SocketAddr,
    fingerprint: registry_client::Fingerprint,
    members: BTreeMap<&'static str, Member>,
    servers: BTreeMap<&'static str, Started>,
    service: SocketAddr,
}

impl Country {
    async fn founded() -> Self {
        Self::founded_as(|_| {}).await
    }

    async fn founded_as(change: impl Fn(&mut join::Options)) -> Self {
        Self::founded_at(0, change).await
    }

    /// As it was founded, with everybody's clock so much ahead of the machine's.
    async fn founded_at(offset: i64, change: impl Fn(&mut join::Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (passphrase, time, address) = (Passphrase::random(), Arc::new(AtomicI64::new(offset)), reserved());
        let begun = central_registry::init(
            &directory.path().join("registry"),
            central_registry::Options {
                instance: "VN".parse().unwrap(),
                name: "Country".parse().unwrap(),
                admin: "admin".parse().unwrap(),
                listen: address,
                address: address.to_string().parse().unwrap(),
                others: Vec::new(),
                persons_threshold: 1,
                root_keys: 1,
                root_threshold: 1,
                unlock: Source::Prompt,
                passphrase: passphrase.clone(),
                cost: Cost::dangerously_cheap(),
            },
            &registrys_clock(&time),
        )
        .unwrap();
        let settings = central_registry::Settings {
            timestamping: Vec::new(),
            directory: begun.directory.clone(),
            listen: address,
            public: None,
            passphrase: passphrase.clone(),
            clock: registrys_clock(&time),
        };
        let registry = central_registry::start(settings).await.unwrap();
        let service = Parrot::serve_reflected().await;
        let fingerprint = registry.fingerprint();
        let (members, servers) = (BTreeMap::new(), BTreeMap::new());
        let registry = Some(registry);
        let mut country =
            Self { directory, passphrase, time, registry, address, fingerprint, members, servers, service };
        for member in [Member::new("portal", "one-stop"), Member::new("moj", "civil-registry")] {
            country.join(member, &change).await;
        }
        let moj = &country.members["moj"];
        moj.configure(country.directory.path(), &[("echo.v1.Echo", service)]);
        let file = country.path("moj/security-server.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text + "\n[bind]\n\"portal.v1.OneStop\" = \"VN/GOV/portal/one-stop\"\n").unwrap();
        country.members["portal"].configure(country.directory.path(), &[]);
        country
    }

    async fn join(&mut self, member: Member, change: &impl Fn(&mut join::Options)) {
        let (id, admin) = (format!("VN/GOV/{}", member.name), self.admin());
        let invitation = Invitation {
            member: id.parse().unwrap(),
            name: Some(member.name.parse().unwrap()),
            server: format!("{id}/ss1").parse().unwrap(),
            subsystems: vec![member.subsystem.parse().unwrap()],
            valid: Duration::from_secs(3600),
        };
        let invitation = admin.invite(&Order::Invite(invitation)).await.unwrap();
        let time = self.time.clone();
        let mut options = join::Options {
            directory: self.path(member.name),
            registry: invitation.registry,
            fingerprint: invitation.fingerprint,
            anchor_digest: invitation.anchor_digest,
            server: format!("{id}/ss1").parse().unwrap(),
            address: member.peers.to_string().parse().unwrap(),
            subsystems: Vec::new(),
            token: invitation.token,
            passphrase: self.passphrase.clone(),
            cost: Cost::dangerously_cheap(),
            unlock: Source::Prompt,
            clock: Clock::from_fn(move || ahead(time.load(Ordering::Relaxed))),
        };
        change(&mut options);
        let asked = join::ask(&options).await.unwrap();
        admin.submit(&Order::Approve(asked.request.parse().unwrap())).await.unwrap();
        join(options).await.unwrap();
        self.members.insert(member.name, member);
    }

    fn admin(&self) -> Admin {
        Admin {
            instance: "VN".parse().unwrap(),
            registry: self.address.to_string().parse().unwrap(),
            fingerprint: self.fingerprint,
            key: keystore::open(&self.path("registry/admin-admin.pem"), &self.passphrase).unwrap(),
            clock: registrys_clock(&self.time),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a member's server, until it follows the registry.
    async fn serve(&mut self, name: &'static str) {
        let configuration = Configuration::read(&self.path(&format!("{name}/security-server.toml"))).unwrap();
        let settings = configuration.settings(&self.passphrase, Clock::system()).await.unwrap();
        let started = security_server::start(settings).await.unwrap();
        if self.time.load(Ordering::Relaxed) == 0 {
            let newest = self.registry.as_ref().unwrap().version();
            let mut versions = started.server.store.current().versions();
            tests::soon(versions.wait_for(|version| *version >= newest)).await.unwrap();
        }
        self.servers.insert(name, started);
    }

    async fn stop(&mut self, name: &str) {
        self.servers.remove(name).unwrap().shutdown().await;
    }

    /// Grants the portal methods of moj's service.
    async fn grant(&self, methods: &[&str]) {
        let paths: Vec<_> = methods.iter().map(|method| format!("/echo.v1.Echo/{method}")).collect();
        self.grant_paths(&paths.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    async fn grant_paths(&self, paths: &[&str]) {
        let proposal = Proposal {
            consumer: self.members["portal"].subsystem.parse().unwrap(),
            provider: self.members["moj"].subsystem.parse().unwrap(),
            methods: paths.iter().map(|path| (*path).to_owned()).collect(),
            purposes: [PURPOSE.to_owned()].into(),
            legal_basis: "a test".into(),
            valid_from: None,
            valid_days: 30,
            per_second: None,
            priority: Default::default(),
            fields: Default::default(),
        };
        self.servers["moj"].server.access_rights.dangerously_grant(proposal, ahead(0)).await.unwrap();
    }

    /// Asks the doctor of the server in this directory.
    async fn examined(&self, name: &str) -> Report {
        self.examined_at(name, 0).await
    }

    /// The same, on a machine whose clock is so much ahead.
    async fn examined_at(&self, name: &str, offset: i64) -> Report {
        security_server::doctor::examine(&security_server::doctor::Options {
            file: self.path(name).join("security-server.toml"),
            unlock: Unlock::With(self.passphrase.clone()),
            clock: Clock::from_fn(move || ahead(offset)),
        })
        .await
    }

    async fn registry_examined(&self) -> Report {
        registry_examined(self.path("registry/central-registry.toml"), &self.passphrase, 0).await
    }

    /// A certificate for a server's own key and name, by an authority that nobody knows. PEM.
    fn foreign_certificate(&self, name: &str) -> String {
        let key = |file: &str| {
            keystore::open(&self.path(&format!("{name}/keys/{file}.pem")), &self.passphrase).unwrap().public().to_spki()
        };
        let (authority, now) = (SigningKey::generate(), ahead(0));
        let der = CertificateAuthority::found(&"VN".parse().unwrap(), authority.0, now).unwrap();
        let authority = CertificateAuthority::open(&der, SigningKey::from_pkcs8(&authority.1).unwrap()).unwrap();
        let applied = Applied {
            digest: Hex(Digest::ZERO),
            address: "a:1".parse().unwrap(),
            subsystems: Vec::new(),
            member: format!("VN/GOV/{name}").parse().unwrap(),
            server: format!("VN/GOV/{name}/ss1").parse().unwrap(),
            authentication_key: key("authentication").into(),
            signing_key: key("signing").into(),
        };
        pem(authority.authentication(&applied, now).unwrap().as_bytes())
    }

    /// The next version of what the registry, which is stopped, has published, with this key revoked.
    fn configuration_revoking(&self, key: KeyId) -> Version {
        let directory = self.path("registry");
        let open = |name: &str| keystore::open(&directory.join(format!("keys/{name}.pem")), &self.passphrase).unwrap();
        let (history, register) = History::open(&directory, &"VN".parse().unwrap(), open("journal")).unwrap();
        drop(history);
        let view = View {
            instance: register.instance().unwrap().clone(),
            members: register.members().cloned().collect(),
            revoked: vec![key.into()],
            catalogue: Vec::new(),
        };
        let keys = RoleKeys {
            root: Vec::new(),
            targets: vec![open("targets")],
            members: vec![open("members")],
            catalogue: vec![open("catalogue")],
            revoked: vec![open("revoked")],
            snapshot: vec![open("snapshot")],
            timestamp: vec![open("timestamp")],
        };
        let public = directory.join("public");
        let files: Files = tree(&public).into_iter().map(|(name, (_, content))| (name, content.into())).collect();
        let publication = Publication::read(&files).unwrap().next(&keys, &view, ahead(0)).unwrap().0;
        let mut pushed = publication.since(0).to_vec();
        // The server lacks what the registry signed meanwhile: the page of the ledger that leads there, and this version's leaf.
        let (version, configuration) = (publication.version(), publication.trusted().configuration());
        let ledger = &configuration.ledger.as_ref().unwrap().ledger;
        let page = |leaves: u64| ledger::page_file(&ledger.name(), 0, leaves);
        let before = &files[&page(ledger.size() - 1)];
        let content = [&before[..], ledger::leaf(version, &configuration.digest).as_bytes()].concat().into();
        pushed.push(File { name: page(ledger.size()), content });
        Version { version, files: pushed }
    }

    fn registrys_tls(&self) -> rustls::ServerConfig {
        let certificate = fs::read(self.path("registry/tls.pem")).unwrap();
        let key = keystore::open_pkcs8(&self.path("registry/keys/tls.pem"), &self.passphrase).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
                PrivatePkcs8KeyDer::from(key.to_vec()).into(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        tls
    }
}

/// A registry's door that gives whoever watches this one version.
async fn publish(at: SocketAddr, tls: rustls::ServerConfig, version: Version) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(at).await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let message = version.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(&message);
    let frame = frame.freeze();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let frame = frame.clone();
            let service = hyper::service::service_fn(move |_| {
                let (mut pushes, body) = http_body_util::channel::Channel::<Bytes>::new(1);
                let frame = frame.clone();
                tokio::spawn(async move {
                    let _ = pushes.send_data(frame).await;
                    std::future::pending::<()>().await;
                });
                let response = http::Response::builder().header("content-type", "application/grpc").body(body).unwrap();
                std::future::ready(Ok::<_, std::convert::Infallible>(response))
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    })
}

async fn registry_examined(file: PathBuf, passphrase: &Passphrase, offset: i64) -> Report {
    central_registry::doctor::examine(&central_registry::doctor::Options {
        file,
        unlock: Unlock::With(passphrase.clone()),
        clock: Arc::new(move || ahead(offset)),
    })
    .await
}

/// The machine's time, and so many milliseconds.
fn ahead(offset: i64) -> Time {
    Time::from_millis(Clock::system().now().as_millis().saturating_add_signed(offset))
}

fn registrys_clock(time: &Arc<AtomicI64>) -> central_registry::Clock {
    let time = Arc::clone(time);
    Arc::new(move || ahead(time.load(Ordering::Relaxed)))
}

/// A web server of another age.
async fn speaks_http_1() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await });
        }
    });
    address
}

// ---- reports and files

/// The first line that failed is this one: its name, its finding and its remedy.
fn first_is(what: &str, report: &Report, name: &str, finding: &str, remedy: &str) {
    let Some(first) = report.first_failed() else { panic!("{what}: nothing failed\n{report}") };
    assert_eq!(first.name, name, "{what}\n{report}");
    assert!(first.finding.contains(finding), "{what}: {finding:?} is not in the finding\n{report}");
    let told = first.remedy.as_ref().unwrap();
    assert!(told.contains(remedy), "{what}: {remedy:?} is not in the remedy\n{report}");
    assert_eq!(report.exit(), Exit::CheckFailed, "{what}");
}

fn check<'r>(report: &'r Report, name: &str) -> &'r Check {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name} in\n{report}"))
}

fn finding<'r>(report: &'r Report, name: &str) -> &'r str {
    &check(report, name).finding
}

fn names(report: &Report, outcome: Outcome) -> Vec<&str> {
    report.checks.iter().filter(|check| check.outcome == outcome).map(|check| check.name.as_str()).collect()
}

/// Every file below a directory: its mode, and its content.
fn tree(directory: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let (mut files, mut directories) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(each) = directories.pop() {
        for entry in fs::read_dir(&each).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.is_file() {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                files.insert(name, (mode, fs::read(&path).unwrap()));
            }
        }
    }
    files
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &to);
        } else if from.components().any(|part| part.as_os_str() == "public") {
            // Of these there are hundreds, and nobody writes into one.
            fs::hard_link(&path, &to).unwrap();
        } else if path.is_file() {
            // Modes are copied too. The registry's socket is nothing to copy.
            fs::copy(&path, &to).unwrap();
        }
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = all.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect();
    segments.sort();
    segments
}

/// A byte early in a segment is another: damage with whole blocks behind it.
fn damage(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    bytes[40] ^= 1;
    fs::write(segment, bytes).unwrap();
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
