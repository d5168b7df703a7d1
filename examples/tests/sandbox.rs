//! `cargo sandbox`, as a newcomer runs it; and a country that is kept.
//!
//! It makes a Python with `cryptography` beside the program, for the auditor: without python3 and PyPI it fails.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::path::Path;

use examples::agencies::synthetic_people::MOTHER;
use examples::sandbox::{AGENCIES, Country, INSURANCE, POPULATION, PORTAL, PURPOSE, story};
use examples::wire::population::GetRequest;
use examples::wire::population::people_client::PeopleClient;
use security_server::operate::Operator;
use serde_json::Value;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_command_runs_a_whole_country_and_kept_it_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("country");
    let told = sandbox(&["--once", "--json", "--dir", kept.to_str().unwrap()]).await;
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["refused"], "GRANT_MISSING");
    assert_eq!(told["granted"].as_str().map(str::len), Some(64), "an access request was made, and granted");
    assert_eq!(told["servers"].as_array().unwrap().len(), AGENCIES.len());
    for file in [&told["evidence"], &told["anchor"], &told["servers"][0]["operators_token"]] {
        assert!(Path::new(file.as_str().unwrap()).is_file(), "{file}");
    }
    let exchange = told["exchange"].as_str().unwrap();

    // The same country, started again in this process.
    let mut said = Vec::new();
    let country = Country::start(&kept, &mut |line| said.push(line.to_owned())).await.unwrap();
    assert_eq!(country.registry.fingerprint().to_string(), told["registry"]["fingerprint"]);
    assert_eq!(country.registry.address().to_string(), told["registry"]["address"]);
    for (server, told) in country.servers.iter().zip(told["servers"].as_array().unwrap()) {
        assert_eq!(server.started.server.id.to_string(), told["server"]);
        assert_eq!(server.started.peers.to_string(), told["peers"]);
    }
    // Both servers that took part still hold the exchange, and prove it with the evidence of then and of now.
    let anchor = std::fs::read(told["anchor"].as_str().unwrap()).unwrap();
    for agency in [PORTAL, INSURANCE] {
        let operator = Operator::of(&country.server(agency).configuration).unwrap();
        let records = operator.get(&format!("/v1/exchanges/{exchange}")).await.unwrap();
        let records: Value = serde_json::from_slice(&records).unwrap();
        let records = records["records"].as_array().unwrap();
        assert!(records.iter().any(|record| record["kind"] == "closed"), "{records:?}");
        let evidence = operator.get(&format!("/v1/exchanges/{exchange}/evidence")).await.unwrap();
        assert!(proto::evidence::verify(&evidence, &anchor).unwrap().holds());
    }
    let before = std::fs::read(told["evidence"].as_str().unwrap()).unwrap();
    assert!(proto::evidence::verify(&before, &anchor).unwrap().holds());
    // What was granted is granted once, and what was not is still refused.
    let grants = country.server(POPULATION).started.server.access_rights.list().len();
    assert_eq!(grants, 2, "the civil registry's and social insurance's");
    let mut people = PeopleClient::new(country.line(PORTAL, POPULATION, PURPOSE).unwrap().line());
    people.get(GetRequest { personal_number: MOTHER.into() }).await.unwrap_err();

    // Each story is of another child.
    let first = story::birth_once(&country, &mut |_| {}).await.unwrap();
    let second = story::birth_once(&country, &mut |_| {}).await.unwrap();
    assert_ne!(first.personal_number, second.personal_number);
    country.stop().await;
}

#[tokio::test]
async fn a_directory_that_holds_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
    let output = run(&["--once", "--dir", directory.path().to_str().unwrap()]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("not empty") && said.contains("--dir"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

async fn sandbox(arguments: &[&str]) -> Vec<u8> {
    let output = run(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn run(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_sandbox")).args(arguments).kill_on_drop(true).output().await.unwrap()
}
