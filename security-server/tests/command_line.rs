//! The program itself, where it asks nobody: what it prints, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::path::Path;
use std::process::Command;

use proto::digest::Digest;
use proto::refusal::Code;

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_security-server"));
    let output = program.env_remove("CAUSEWAY_CONFIG").current_dir(directory).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn help_says_what_there_is_with_examples() {
    let (code, out, _) = run(Path::new("."), &["--help"]);
    assert_eq!(code, Some(0));
    for word in ["join", "serve", "access", "exchange", "evidence", "status", "token", "explain", "Examples:"] {
        assert!(out.contains(word), "{word} is missing in\n{out}");
    }
}

#[test]
fn every_refusal_is_explained_in_both_languages() {
    let (code, english, _) = run(Path::new("."), &["explain"]);
    assert_eq!(code, Some(0));
    let (_, vietnamese, _) = run(Path::new("."), &["explain", "--language", "vi"]);
    for each in Code::ALL {
        assert!(english.contains(each.as_str()) && vietnamese.contains(each.as_str()), "{each}");
    }
    assert_ne!(english, vietnamese);
    let (code, one, _) = run(Path::new("."), &["explain", "GRANT_MISSING"]);
    assert_eq!(code, Some(0));
    assert!(english.contains(&one) && one.len() < english.len() / 10, "{one}");
}

#[test]
fn a_token_is_printed_once_with_what_the_server_is_to_know_of_it() {
    let (code, out, _) = run(Path::new("."), &["token"]);
    assert_eq!(code, Some(0));
    let token = out.lines().nth(1).unwrap().trim();
    assert_eq!(token.len(), 64);
    assert!(out.contains(&format!("token_sha256 = \"{}\"", Digest::of(&[token.as_bytes()]))), "{out}");
}

#[test]
fn wrong_usage_is_told_by_name_and_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), "server = \"moj\"\n").unwrap();
    std::fs::write(directory.path().join("some.json"), "{}").unwrap();
    for (arguments, named) in [
        (&["serve"][..], "--config"),
        (&["serve", "--config", "nowhere.toml"], "nowhere.toml"),
        (&["serve", "--config", "bad.toml"], "bad.toml"),
        (&["status", "--config", "nowhere.toml"], "security-server join"),
        (&["exchange", "abc", "--config", "bad.toml"], "abc"),
        (&["explain", "NO_SUCH_CODE"], "NO_SUCH_CODE"),
        (&["evidence", "verify", "nowhere.json", "--anchor", "some.json"], "nowhere.json"),
        (&["evidence", "verify", "some.json"], "--anchor"),
        (&["access", "grant", "VN/GOV/moj/a", "--provider", "VN/GOV/moj/b"], "--method"),
        (&["no-such-thing"], "no-such-thing"),
    ] {
        let (code, _, err) = run(directory.path(), arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(named), "{arguments:?}: {err}");
    }
}

#[test]
fn what_is_no_evidence_does_not_hold_and_ends_with_5() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [("empty.json", ""), ("other.json", "{}"), ("random.json", "\u{1}\u{2}")] {
        std::fs::write(directory.path().join(name), content).unwrap();
        let (code, _, err) = run(directory.path(), &["evidence", "verify", name, "--anchor", name]);
        assert_eq!(code, Some(5), "{name}: {err}");
    }
}
