//! The ceremony of the root, as `deploy/KEY_CEREMONY.md` tells people to hold it, and what goes wrong in one.
// A test tells what went wrong by panicking, wherever it does so.
#![allow(clippy::unwrap_used)]

use std::fs;

use command_line::Exit;
use proto::global_configuration::update::Trusted;
use security_server::global_configuration::Store;
use serde_json::Value;
use tests::processes::{Instance, Member, program};
use tests::programs::repository;

/// An instance, and credentials for holders.
async fn founded() -> Instance {
    let instance = Instance::founded().await;
    for holder in ["an", "binh", "chi", "dung"] {
        fs::write(instance.path("credentials").join(holder), format!("the passphrase of {holder}\n")).unwrap();
    }
    instance
}

/// Runs the page's blocks of this kind, one after another, as they stand there.
async fn page(instance: &Instance, kind: &str) -> String {
    let text = fs::read_to_string(repository().join("deploy/KEY_CEREMONY.md")).unwrap();
    let fence = format!("```sh {kind}\n");
    let blocks: Vec<&str> = text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "the page has no block of {kind}");
    let directory = program("central-registry").parent().unwrap().to_owned();
    let mut bash = tokio::process::Command::new("bash");
    bash.env("PATH", format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()));
    bash.env("CREDENTIALS_DIRECTORY", instance.path("credentials")).current_dir(instance.directory.path());
    let output = bash.args(["-euo", "pipefail", "-c", &blocks.concat()]).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", blocks.concat());
    out.into_owned()
}

fn trusted(instance: &Instance, member: &Member) -> Trusted {
    Store::read(&instance.path(member.name).join("global-configuration")).unwrap()
}

#[tokio::test]
async fn the_root_passes_to_its_holders_as_the_page_says_and_everybody_follows() {
    let instance = founded().await;
    let registry = instance.serve_registry().await;
    let early = Member::new("portal", "one-stop");
    instance.join(&early).await;
    early.configure(instance.directory.path(), &[]);
    let portal = instance.serve(&early).await;
    let said = page(&instance, "ceremony").await;
    assert!(
        said.contains("2 of 3 holders must sign the root after it") && said.contains("It may be finished."),
        "{said}"
    );
    registry.stops().await;
    let registry = instance.serve_registry().await;
    let said = page(&instance, "ceremony-again").await;
    assert!(said.contains("root version 3"), "{said}");
    registry.stops().await;
    let registry = instance.serve_registry().await;
    // Who joins now begins with the first root, and is led to the last one.
    let late = Member::new("moj", "civil-registry");
    instance.join(&late).await;
    assert_eq!(trusted(&instance, &late).next_root(), "4.root.json");
    let followed = async {
        while trusted(&instance, &early).next_root() != "4.root.json" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(tests::processes::SOON, followed).await.expect("a server that runs is given the new roots");
    portal.stops().await;
    registry.stops().await;
}

/// What was said with this code, whole.
async fn refused(instance: &Instance, line: &str, exit: Exit, named: &[&str]) {
    let said = instance.run(line).await;
    assert_eq!(said.code, Some(i32::from(exit.code())), "{line}: {}{}", said.out, said.err);
    for name in named {
        assert!(said.err.contains(name), "{line}: {name:?} is missing in\n{}", said.err);
    }
}

const OLD: [&str; 2] = [
    "--key registry/offline/root-1.pem --passphrase credential:registry",
    "--key registry/offline/root-2.pem --passphrase credential:registry",
];
const FINISH: &str = "central-registry ceremony finish root-2.json --config registry/central-registry.toml";

#[tokio::test]
async fn half_a_ceremony_is_named_and_goes_on_and_no_version_is_signed_twice() {
    let instance = founded().await;
    let run = async |line: &str| instance.run(line).await.well();
    let sign = |file: &str, holder: &str| format!("central-registry ceremony sign {file} {holder}");
    for holder in ["an", "chi"] {
        run(&format!("central-registry ceremony key {holder}.pem --passphrase credential:{holder}")).await;
    }
    let begin =
        "central-registry ceremony begin root-2.json --from registry/public --replace --add an.pem.pub --threshold 1";
    run(begin).await;
    refused(&instance, begin, Exit::Usage, &["holds a ceremony already, for root version 2", "sign or finish"]).await;
    refused(&instance, FINISH, Exit::Refused, &["half finished", "0 of 2 signatures", "0 of 1 signatures"]).await;
    run(&sign("root-2.json", OLD[0])).await;
    refused(&instance, &sign("root-2.json", OLD[0]), Exit::Refused, &["has signed this root already"]).await;
    let chi = "--key chi.pem --passphrase credential:chi";
    refused(&instance, &sign("root-2.json", chi), Exit::Refused, &["neither the present root's nor"]).await;

    // A second ceremony for the same version, with another holder: who signed the first one signs no other.
    run(&begin.replace("root-2.json", "other.json").replace("an.pem", "chi.pem")).await;
    let twice = ["has signed another root as version 2", "signed once"];
    refused(&instance, &sign("other.json", OLD[0]), Exit::Refused, &twice).await;
    refused(&instance, &format!("{} --dry-run", sign("other.json", OLD[0])), Exit::Refused, &twice).await;

    // Killed after the record and before the signature: the same root is signed, from a copy without it.
    let an = "--key an.pem --passphrase credential:an";
    fs::copy(instance.path("root-2.json"), instance.path("copy.json")).unwrap();
    run(&sign("copy.json", an)).await;
    refused(&instance, FINISH, Exit::Refused, &["half finished", "1 of 2 signatures", "0 of 1 signatures"]).await;
    run(&sign("root-2.json", an)).await;
    // A record that cannot be read stops its key.
    let record = instance.path("registry/offline/root-2.pem.signed");
    fs::write(&record, "2 ab").unwrap();
    refused(&instance, &sign("root-2.json", OLD[1]), Exit::Usage, &["root-2.pem.signed", "do not delete"]).await;
    fs::remove_file(&record).unwrap();
    run(&sign("root-2.json", OLD[1])).await;

    // What was signed is what is published: another expiry under the same signatures is half a ceremony at the most.
    let whole = fs::read_to_string(instance.path("root-2.json")).unwrap();
    let mut changed: Value = serde_json::from_str(&whole).unwrap();
    changed["next"]["signed"]["expires"] = "2100-01-01T00:00:00Z".into();
    fs::write(instance.path("root-2.json"), changed.to_string()).unwrap();
    refused(&instance, FINISH, Exit::Refused, &["half finished", "0 of 2 signatures", "0 of 1 signatures"]).await;
    assert!(!instance.path("registry/public/2.root.json").exists(), "nothing is published by half a ceremony");
    // Whoever signs sees what else differs: the persons who may order, and the keys of the other roles.
    changed["next"]["signed"]["persons"]["threshold"] = 7.into();
    changed["next"]["signed"]["roles"]["snapshot"]["threshold"] = 2.into();
    fs::write(instance.path("root-2.json"), changed.to_string()).unwrap();
    let shown = run("central-registry ceremony show root-2.json").await;
    assert!(shown.contains("persons CHANGES") && shown.contains("OTHER KEYS SIGN snapshot"), "{shown}");
    fs::write(instance.path("root-2.json"), whole).unwrap();
    run(&format!("{FINISH} --dry-run")).await;
    assert!(!instance.path("registry/public/2.root.json").exists(), "a dry run publishes nothing");
    run(FINISH).await;
    refused(&instance, FINISH, Exit::Refused, &["not the one that is published, version 2", "--from"]).await;
    // The present root has one holder now, and those of before sign nothing.
    run("central-registry ceremony begin root-3.json --from registry/public").await;
    refused(&instance, &sign("root-3.json", OLD[0]), Exit::Refused, &["neither the present root's nor"]).await;
    run(&sign("root-3.json", an)).await;
    assert!(run("central-registry ceremony show root-3.json").await.contains("It may be finished."));
}
