//! `cargo sandbox`, as a newcomer runs it; and a country that is kept.
//!
//! It makes a Python with `cryptography` beside the program, for the auditor: without python3 and PyPI it fails.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::path::Path;

use examples::agencies::synthetic_people::{MOTHER, OTHER_MOTHER};
use examples::sandbox::{AGENCIES, Agency, Country, INSURANCE, POPULATION, PORTAL, PURPOSE, story};
use examples::wire::population::GetRequest;
use examples::wire::population::people_client::PeopleClient;
use examples::wire::portal::one_stop_client::OneStopClient;
use examples::wire::portal::{MyData, MyDataRequest};
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
    let mut country = Country::start(&kept, &mut |line| said.push(line.to_owned())).await.unwrap();
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
    assert_eq!(
        grants, 3,
        "the civil registry's, social insurance's, and the portal's to tell people of their own data"
    );
    let mut people = PeopleClient::new(country.line(PORTAL, POPULATION, PURPOSE).unwrap().line());
    people.get(GetRequest { personal_number: MOTHER.into() }).await.unwrap_err();

    // Each story is of another child.
    let first = story::birth_once(&country, &mut |_| {}).await.unwrap();
    let second = story::birth_once(&country, &mut |_| {}).await.unwrap();
    assert_ne!(first.personal_number, second.personal_number);
    who_looked_is_shown_from_all_agencies_and_one_that_is_down_is_named(&mut country).await;
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

async fn who_looked_is_shown_from_all_agencies_and_one_that_is_down_is_named(country: &mut Country) {
    let mut portal = OneStopClient::connect(country.agency(PORTAL).uri()).await.unwrap();
    let asked = |number: &str| MyDataRequest { personal_number: number.into(), language: "vi".into() };
    let told = portal.who_looked_at_my_data(asked(MOTHER)).await.unwrap().into_inner();
    assert_eq!(
        (told.title.as_str(), told.coverage.as_str()),
        ("Ai đã xem dữ liệu của tôi", "3 trên 3 cơ quan đã trả lời")
    );
    let of = |told: &MyData, agency: Agency| {
        told.agencies.iter().find(|told| told.agency == agency.title).map(|told| told.looks.clone()).unwrap()
    };
    // The civil registry asked who the mother is, once for each of three births.
    let looks = of(&told, POPULATION);
    let by_civil: Vec<_> =
        looks.iter().filter(|look| look.who == "Ministry of Justice (VN/GOV/moj/civil-registry)").collect();
    assert_eq!(by_civil.len(), 3, "{looks:?}");
    let look = by_civil[0];
    assert_eq!(
        (look.purpose.as_str(), look.result.as_str()),
        ("Đăng ký khai sinh và các thủ tục liên thông", "đã trả lời")
    );
    assert_eq!(look.legal_basis, "the example country's law on civil status");
    assert!(look.elements.iter().any(|element| element == "person.number"), "{look:?}");
    // That she looked herself is there too: in the story, and not this very look.
    let own: Vec<_> = looks.iter().filter(|look| look.purpose.starts_with("Để người dân biết")).collect();
    assert_eq!(own.len(), 1, "{looks:?}");
    let again = portal.who_looked_at_my_data(asked(MOTHER)).await.unwrap().into_inner();
    assert_eq!(of(&again, POPULATION).len(), looks.len() + 1);
    let of_nobody = portal.who_looked_at_my_data(asked(OTHER_MOTHER)).await.unwrap().into_inner();
    assert!(of_nobody.agencies.iter().all(|told| told.looks.is_empty()), "{of_nobody:?}");
    let nobody = portal.who_looked_at_my_data(asked("")).await.unwrap_err();
    assert!(nobody.message().contains("nobody is logged in"), "{nobody}");

    let place = country.servers.iter().position(|server| server.agency == INSURANCE).unwrap();
    country.servers.remove(place).started.shutdown().await;
    let told = portal.who_looked_at_my_data(asked(MOTHER)).await.unwrap().into_inner();
    assert_eq!(told.not_answered, [INSURANCE.title]);
    assert_eq!(told.coverage, format!("2 trên 3 cơ quan đã trả lời; hiện chưa trả lời: {}", INSURANCE.title));
    assert_eq!(told.agencies.len(), 2);
}

async fn sandbox(arguments: &[&str]) -> Vec<u8> {
    let output = run(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn run(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_sandbox")).args(arguments).kill_on_drop(true).output().await.unwrap()
}
