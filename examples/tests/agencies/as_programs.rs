//! Each agency as a program of its own.

use std::process::Stdio;

use examples::wire::portal::one_stop_client::OneStopClient;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::country::form;

struct Program {
    process: Child,
    uri: String,
}

impl Program {
    async fn start(agency: &str, flags: &[String]) -> Program {
        let mut process = Command::new(env!("CARGO_BIN_EXE_agency"))
            .args([agency, "--today", "2026-03-02"])
            .args(flags)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let line = BufReader::new(process.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["agency"], agency);
        Program { process, uri: format!("http://{}", line["address"].as_str().unwrap()) }
    }

    fn as_peer(&self, name: &str) -> [String; 2] {
        ["--peer".into(), format!("{name}={}", self.uri)]
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(mut self) {
        let id = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        assert!(self.process.wait().await.unwrap().success(), "it ended with an error");
    }
}

#[tokio::test]
async fn a_birth_is_filed_between_four_processes() {
    let population = Program::start("population-register", &[]).await;
    let mut flags = population.as_peer("population").to_vec();
    flags.extend(["--metadata".into(), "population:purpose=birth-registration".into()]);
    let civil = Program::start("civil-registry", &flags).await;
    let insurance = Program::start("social-insurance", &population.as_peer("population")).await;
    let portal = Program::start("portal", &[civil.as_peer("civil"), insurance.as_peer("insurance")].concat()).await;

    let filed = OneStopClient::connect(portal.uri.clone()).await.unwrap().file_birth(form()).await.unwrap();
    assert_eq!(filed.into_inner().card_number, "TE1000000000001");
    for program in [portal, insurance, civil, population] {
        program.stop().await;
    }
}

#[tokio::test]
async fn a_flag_that_makes_no_sense_is_named_and_no_credential_is_shown() {
    let here = "population=http://127.0.0.1:1";
    for (flags, named) in [
        (vec!["tax-office"], "tax-office"),
        (vec!["civil-registry"], "--peer population="),
        (vec!["civil-registry", "--peer", "http://127.0.0.1:1"], "--peer"),
        (vec!["civil-registry", "--peer", here, "--peer", here], "twice"),
        (vec!["civil-registry", "--peer", "insurance=http://127.0.0.1:1"], "insurance"),
        (vec!["civil-registry", "--peer", "population=ftp://x"], "http://HOST:PORT"),
        (vec!["civil-registry", "--peer", here, "--metadata", "token=secret"], "--metadata"),
        (vec!["civil-registry", "--peer", here, "--metadata", "civil:token=secret"], "--metadata"),
        (vec!["civil-registry", "--peer", here, "--metadata", "population:Token=secret"], "Token"),
        (vec!["portal", "--today", "tomorrow"], "--today"),
        (vec!["population-register", "--listen", "nowhere"], "nowhere"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_agency")).args(&flags).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{flags:?}");
        assert!(said.contains(named) && !said.contains("secret"), "{flags:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}
