//! The program itself, as an admin runs it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_central-registry"));
    command.env("CREDENTIALS_DIRECTORY", directory).env_remove("CAUSEWAY_ADMIN").current_dir(directory);
    command
}

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(directory).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn begun() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("registry"), "correct horse battery\n").unwrap();
    let (code, out, err) = run(directory.path(), &INIT);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("sha256:") && out.contains("offline") && out.contains("central-registry serve"), "{out}");
    directory
}

const INIT: [&str; 16] = [
    "init",
    "bus",
    "--instance",
    "VN",
    "--name",
    "A bus",
    "--admin",
    "admin",
    "--persons-threshold",
    "1",
    "--listen",
    "127.0.0.1:0",
    "--passphrase",
    "credential:registry",
    "--unlock",
    "credential:registry",
];

/// A registry that is ended with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(directory: &Path) -> (Serving, String) {
    let mut child = program(directory)
        .args(["serve", "--config", "bus/central-registry.toml"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split(' ').nth(1).expect("it says where it listens").to_owned();
    (Serving(child), address)
}

#[test]
fn an_instance_begins_once_and_its_keys_are_for_the_owner_only() {
    let directory = begun();
    use std::os::unix::fs::PermissionsExt;
    for key in ["bus/keys/authority.pem", "bus/keys/timestamp.pem", "bus/offline/root-3.pem", "bus/admin-admin.pem"] {
        let path = directory.path().join(key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{key}");
    }
    let (code, _, err) = run(directory.path(), &INIT);
    assert_eq!(code, Some(2));
    assert!(err.contains("not empty"), "{err}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing half made is left");
}

#[test]
fn help_says_what_there_is_with_examples() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, _) = run(directory.path(), &["--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "init",
        "serve",
        "invite",
        "requests",
        "approve",
        "reject",
        "members",
        "suspend",
        "Examples:",
        "3  refused by a rule",
    ] {
        assert!(out.contains(word), "{word} is missing in\n{out}");
    }
}

#[test]
fn wrong_usage_is_told_by_name_and_ends_with_2() {
    let directory = begun();
    let write = |text: &str| fs::write(directory.path().join("bad.toml"), text).unwrap();
    write("directory = \"bus\"\nlisten = \"nowhere\"\nunlock = \"prompt\"\n");
    let (code, _, err) = run(directory.path(), &["serve", "--config", "bad.toml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("bad.toml") && err.contains("listen") && err.contains("0.0.0.0:4001"), "{err}");
    for wrong in [
        &["approve", "42"][..],
        &["approve"],
        &["invite", "VN/GOV", "--server", "VN/GOV/moj/ss1"],
        &["invite", "VN/GOV/moj", "--server", "VN/GOV/moj/ss1", "--valid-hours", "0"],
        &["requests"],
        &["requests", "--admin", "nothing.toml"],
        &["serve", "--config", "nothing.toml"],
        &["no-such-thing"],
    ] {
        let (code, _, err) = run(directory.path(), wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {err}");
    }
}

#[test]
fn an_admin_works_from_the_command_line() {
    let directory = begun();
    let (serving, address) = serve(directory.path());
    let path = directory.path();
    let admin = ["--admin", "bus/admin-admin.toml", "--registry", &address, "--passphrase", "credential:registry"];
    let order = |arguments: &[&str]| run(path, &[arguments, &admin].concat());

    let (code, out, err) = order(&[
        "invite",
        "VN/GOV/moj",
        "--name",
        "Bộ Tư pháp",
        "--server",
        "VN/GOV/moj/ss1",
        "--subsystem",
        "VN/GOV/moj/births",
    ]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("security-server join") && out.contains("--token join_") && out.contains(&address), "{out}");
    let (code, out, _) = order(&["requests", "--json"]);
    assert_eq!((code, out.split_whitespace().collect::<String>()), (Some(0), "{\"requests\":[]}".to_owned()));
    let (code, _, err) = order(&["approve", "R-7"]);
    assert_eq!(code, Some(6), "{err}");
    let (code, _, err) = order(&["invite", "VN/GOV/tax", "--server", "VN/GOV/tax/ss1"]);
    assert!(err.contains("--name"), "{err}");
    assert_eq!(code, Some(3));

    drop(serving);
    let (code, _, err) = order(&["members"]);
    assert_eq!(code, Some(4), "{err}");
}
