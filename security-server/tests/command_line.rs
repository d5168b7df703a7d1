//! The program itself, as an admin runs it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = r#"
server = "VN/GOV/moj/ss1"
member = "VN/GOV/moj"
unlock = "credential:moj"
[registry]
address = "127.0.0.1:4001"
fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
[peers]
listen = "127.0.0.1:0"
[operators]
listen = "127.0.0.1:1"
"#;

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_security-server"));
    command.env_remove("CAUSEWAY_CONFIG").env_remove("CREDENTIALS_DIRECTORY").current_dir(directory);
    let Output { status, stdout, stderr } = command.args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn help_says_what_there_is_with_examples() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, _) = run(directory.path(), &["--help"]);
    assert_eq!(code, Some(0));
    for word in
        ["join", "serve", "access", "exchange", "evidence", "status", "token", "explain", "Examples:", "Exit codes"]
    {
        assert!(out.contains(word), "{word} is missing in\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
}

#[test]
fn wrong_usage_is_told_by_name_and_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("good.toml", GOOD);
    write("typo.toml", &GOOD.replace("unlock", "unlok"));
    write("door.toml", &format!("{GOOD}[[clients]]\nlisten = \"0.0.0.0:5590\"\n"));
    write("prompt.toml", &GOOD.replace("credential:moj", "the passphrase itself"));
    let bad_id = ["exchange", "3f1c", "--config", "good.toml"];
    for (wrong, named) in [
        (&["sevre"][..], "serve"),
        (&["status"], "--config"),
        (&["serve", "--config", "nothing.toml"], "nothing.toml"),
        (&["serve", "--config", "typo.toml"], "unlok"),
        (&["serve", "--config", "door.toml"], "tls = true"),
        (&["serve", "--config", "prompt.toml"], "credential:NAME, fd:NUMBER or prompt"),
        (&["serve", "--config", "good.toml"], "LoadCredentialEncrypted"),
        (&bad_id, "32"),
        (&["explain", "NO_SUCH_CODE"], "NO_SUCH_CODE"),
        (&["evidence", "verify", "nothing.json", "--anchor", "nothing.json"], "nothing.json"),
        (&["join", "there", "--server", "moj"], "moj"),
    ] {
        let (code, out, err) = run(directory.path(), wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {err}");
        assert!(err.contains(named) && !err.contains("panicked"), "{wrong:?}: {named} is missing in\n{err}");
        assert_eq!(out, "", "{wrong:?}");
    }
}

#[test]
fn a_server_that_does_not_run_is_told_apart_from_a_mistake() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("good.toml"), GOOD).unwrap();
    let (code, _, err) = run(directory.path(), &["status", "--config", "good.toml"]);
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("it never ran"), "{err}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "who asks makes nothing");
    fs::write(directory.path().join("operators.token"), "0".repeat(64)).unwrap();
    let (code, _, err) = run(directory.path(), &["status", "--config", "good.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("chmod 600"), "{err}");
    fs::set_permissions(directory.path().join("operators.token"), fs::Permissions::from_mode(0o600)).unwrap();
    let (code, _, err) = run(directory.path(), &["status", "--config", "good.toml"]);
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("is it running?"), "{err}");
}

#[test]
fn a_code_is_explained_without_asking_anybody() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, _) = run(directory.path(), &["explain", "GRANT_MISSING"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("Ask the provider's admin for a grant."), "{out}");
    assert!(out.contains("It lies with the provider's security server."), "{out}");
    let (_, all, _) = run(directory.path(), &["explain", "--language", "vi"]);
    assert!(all.contains("REPLAYED") && all.contains("Máy chủ"), "{all}");
    assert!(all.contains("Phía cần xử lý: hệ thống đăng ký trung tâm."), "{all}");
    let (_, json, _) = run(directory.path(), &["explain", "LOG_ENDED", "--json"]);
    assert!(json.contains("\"side\": \"speaker\"") && json.contains("\"said_by\": \"either\""), "{json}");
}

#[test]
fn a_token_is_shown_with_the_digest_that_the_configuration_wants() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, _) = run(directory.path(), &["token"]);
    assert_eq!(code, Some(0));
    let token = out.lines().nth(1).unwrap().trim();
    let digest = proto::digest::Digest::of(&[token.as_bytes()]);
    assert!(out.contains(&format!("token_sha256 = \"{digest}\"")), "{out}");
}
