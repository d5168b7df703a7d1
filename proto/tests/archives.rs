//! Evidence as an archive: what the verifier takes and refuses of it, and that `verify.sh` in it agrees wherever it can judge.
//! A missing shell or `openssl` fails these tests; nothing here is ever skipped.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::digest::Digest;
use proto::evidence::archive::{EVIDENCE, MANIFEST, SCRIPT, files, pack};
use proto::evidence::{self, EvidenceFile};
use proto::global_configuration::excerpt::{Excerpt, Subjects};
use proto::message::Header;
use proto::time::Time;
use proto::zip::{self, Files};
use serde_json::Value;

#[path = "support/changes.rs"]
mod changes;

const GOOD: [&str; 3] = ["unary.json", "stream.json", "stamped.json"];

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/evidence").join(name)).unwrap()
}

fn packed(name: &str) -> Files {
    zip::read(&pack(&vector(name), &vector("anchor.json")).unwrap().into()).unwrap()
}

/// The step that refuses these files as an archive, and what of it.
fn refused(files: &Files) -> Option<(String, String)> {
    match evidence::verify(&zip::write(files).unwrap(), &vector("anchor.json")) {
        Err(error) => Some((error.step().to_owned(), error.to_string())),
        Ok(report) => {
            assert_eq!(report.holds(), !report.proven.is_empty());
            report.refused().map(|finding| (finding.step.to_owned(), finding.subject.clone()))
        }
    }
}

/// With a manifest that lists what is there.
fn listed(mut files: Files) -> Files {
    files.remove(MANIFEST);
    let manifest: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(&[bytes]))).collect();
    files.insert(MANIFEST.into(), manifest.into());
    files
}

/// What `verify.sh` says of these files, unpacked: its exit code, and all that it printed.
fn script(files: &Files) -> (i32, String) {
    script_as(files, |_| ())
}

/// The same, called so.
fn script_as(files: &Files, called: impl FnOnce(&mut Command)) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    // The script of the tree, whatever stands in the archive.
    let mut command = Command::new("sh");
    called(command.arg(directory.path().join(SCRIPT)));
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code().unwrap(), said)
}

/// Each is judged, several at a time; what is wrong with any is told together.
fn each<T: Send>(all: Vec<T>, judge: impl Fn(T) -> Result<(), String> + Sync) {
    let (queue, wrong) = (Mutex::new(all.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some(next) = next else { break };
                    wrong.lock().unwrap().extend(judge(next).err());
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn evidence_verifies_as_an_archive_as_it_does_as_a_file_and_there_is_one_archive_of_it() {
    let anchor = vector("anchor.json");
    for name in GOOD {
        let file = evidence::verify(&vector(name), &anchor).unwrap();
        let archive = pack(&vector(name), &anchor).unwrap();
        assert_eq!(archive, pack(&vector(name), &anchor).unwrap());
        let report = evidence::verify(&archive, &anchor).unwrap();
        assert!(report.holds(), "{report}");
        assert_eq!((&report.proven, &report.not_proven), (&file.proven, &file.not_proven));
        assert_eq!(report.findings.last().unwrap().step, "7.21");
    }
    let other = String::from_utf8(vector("unary.json")).unwrap().replacen("VN/GOV/portal", "VN/GOV/another", 1);
    assert!(
        pack(other.as_bytes(), &anchor).unwrap_err().to_string().contains("7.3"),
        "what proves nothing is not packed"
    );
}

#[test]
fn an_archive_says_nothing_that_its_evidence_file_does_not() {
    let good = packed("stamped.json");
    for name in good.keys() {
        let mut files = good.clone();
        let removed = files.remove(name).unwrap();
        let without = if name == MANIFEST { files.clone() } else { listed(files.clone()) };
        let step = if name == EVIDENCE { "7.20" } else { "7.21" };
        assert_eq!(refused(&without).unwrap().0, step, "without {name}");
        if name != EVIDENCE {
            files.insert(name.clone(), [&removed[..], b"\n"].concat().into());
            assert_eq!(refused(&files), Some(("7.21".into(), name.clone())), "a line more in {name}");
        }
    }
    for surplus in ["README.txt", "messages/00000/note.txt", "messages/00002/header.bin", "configuration/9.root.json"] {
        let mut files = good.clone();
        files.insert(surplus.into(), Bytes::from_static(b"trust me"));
        assert_eq!(refused(&listed(files)), Some(("7.21".into(), surplus.into())));
    }
    let archive = zip::write(&good).unwrap();
    for (what, bytes) in [
        ("a byte more", [&archive[..], b"x"].concat()),
        ("cut off", archive[..archive.len() - 1].to_vec()),
        ("its list alone", b"PK\x03\x04".to_vec()),
    ] {
        let error = evidence::verify(&bytes, &vector("anchor.json")).unwrap_err();
        assert_eq!(error.step(), "7.20", "{what}: {error}");
    }
}

#[test]
fn the_shells_verifier_says_of_the_corpus_what_this_one_says_wherever_it_can_judge() {
    let cases: Value = serde_json::from_slice(&vector("cases.json")).unwrap();
    let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // What the configuration's own rules refuse, and what is said of parties and payloads, it says that it does not check.
    let unseen =
        ["3.2", "3.3.4", "3.5", "5.4.2", "5.4.6", "7.1", "7.3", "7.4", "7.6", "8.", "16.3.3", "16.3.5", "16.3.7"];
    each(cases["cases"].as_array().unwrap().iter().collect(), |case| {
        let (name, expected) = (&case["name"], case["expected"]["refused"].as_str());
        let changes = case["input"]["changes"].as_array();
        // What differs in the configuration alone, or in whose file it is, is not the script's to judge.
        let judges = |change: &Value| matches!(change["at"][0].as_str(), Some("messages" | "timestamps"));
        let Some(changes) = changes.filter(|changes| changes.iter().all(judges)) else { return Ok(()) };
        if !case["input"]["anchor"].is_null() {
            return Ok(());
        }
        let mut file: Value = serde_json::from_slice(&vector(case["input"]["file"].as_str().unwrap())).unwrap();
        changes.iter().for_each(|change| changes::apply(&mut file, change));
        let json = serde_json::to_vec_pretty(&file).unwrap();
        let Some(files) = derived(&json) else {
            return expected.map(|_| ()).ok_or_else(|| format!("{name}: it is accepted, and no archive"));
        };
        let (code, said) = script(&files);
        match (expected, code) {
            (None, 0) => _ = accepted.fetch_add(1, Ordering::Relaxed),
            (Some(_), 5) if said.contains("REFUSED by step") && said.contains("Nothing is proven.") => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
            (Some(step), 0) if unseen.iter().any(|not| step.starts_with(not)) => {}
            _ => return Err(format!("{name}: {expected:?} expected, it ended with {code}\n{said}")),
        }
        Ok(())
    });
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    assert!(accepted >= 10 && refused >= 30, "it judged {accepted} good and {refused} bad ones");
}

/// The archive's files of evidence that nobody verified, with the certificates of a configuration that is right.
fn derived(json: &[u8]) -> Option<Files> {
    let file = EvidenceFile::parse(json).ok()?;
    let read: Value = serde_json::from_slice(json).unwrap();
    let bytes = |text: &Value| -> Bytes { STANDARD.decode(text.as_str().unwrap()).unwrap().into() };
    let kept = read["configuration"].as_object().unwrap().iter().map(|(name, text)| (name.clone(), bytes(text)));
    let header = Header::parse(bytes(&read["messages"][0]["header"])).ok()?;
    let members = [header.route.consumer.member(), header.route.provider.member()].into();
    let subjects = Subjects { members, keys: Default::default() };
    let now = Time::from_millis(header.time.as_millis());
    let excerpt = Excerpt::verify(&vector("anchor.json").into(), &kept.collect(), &subjects, now).ok()?;
    files(json, &file, excerpt.configuration()).ok()
}

#[test]
fn the_shells_verifier_sees_each_change_of_what_it_checks() {
    let good = packed("stamped.json");
    let (code, said) = script(&good);
    assert_eq!(code, 0, "{said}");
    for sentence in
        ["All that a shell and openssl can check", "not checked that the keys were those of the members", "proven"]
    {
        assert!(said.contains(sentence), "{sentence:?} is missing in\n{said}");
    }
    let mut tampered: Vec<(String, Files)> = Vec::new();
    for (number, name) in good.keys().enumerate() {
        // Not itself, and not what it says that it does not check: evidence.json, and the configuration's metadata.
        let metadata = name.starts_with("configuration/") && name.split(['/', '.']).all(|part| part.len() < 64);
        if [SCRIPT, EVIDENCE, MANIFEST].contains(&name.as_str()) || metadata {
            continue;
        }
        let mut bytes = good[name].to_vec();
        let at = number * 7919 % bytes.len();
        bytes[at] ^= 1 << (number % 8);
        let mut files = good.clone();
        files.insert(name.clone(), bytes.into());
        if number % 15 == 0 {
            tampered.push((format!("a bit of {name}"), files.clone()));
        }
        tampered.push((format!("a bit of {name}, listed"), listed(files.clone())));
        files.remove(name);
        if name.starts_with("messages/00001/p") {
            tampered.push((format!("without {name}, listed"), listed(files)));
        }
    }
    let mut swap = |what: &str, one: &str, other: &str| {
        let mut files = good.clone();
        let (left, right) = (good[one].clone(), good[other].clone());
        assert_ne!(left, right, "{what}");
        files.insert(one.into(), right);
        files.insert(other.into(), left);
        tampered.push((format!("{what} swapped"), listed(files)));
    };
    for part in
        ["header.bin", "seal.bin", "nonce.bin", "path.txt", "head.txt", "signature.der", "place.bin", "place.txt"]
    {
        swap(part, &format!("messages/00000/{part}"), &format!("messages/00001/{part}"));
    }
    for part in ["stamp.bin", "head.txt", "token.der"] {
        swap(part, &format!("timestamps/00000/{part}"), &format!("timestamps/00001/{part}"));
    }
    let keys: Vec<&String> = good.keys().filter(|name| name.starts_with("keys/")).collect();
    swap("certificates", keys[0], keys[1]);
    let nobodys = format!("keys/{}.pem", "0".repeat(64));
    for surplus in
        ["README.txt", "messages/00000/note.txt", "messages/00002/header.bin", "timestamps/00002/token.der", &nobodys]
    {
        let mut files = good.clone();
        files.insert(surplus.into(), Bytes::from_static(b"trust me"));
        if surplus != nobodys {
            tampered.push((format!("{surplus} more, and listed"), listed(files.clone())));
        }
        tampered.push((format!("{surplus} more"), files));
    }
    // The last line of the authorities is one, whether it has its end or not.
    let mut files = good.clone();
    let mut authorities = good["timestamping.pem"].to_vec();
    let at = authorities.len() / 2;
    authorities[at] = if authorities[at] == b'A' { b'B' } else { b'A' };
    authorities.pop_if(|last| *last == b'\n');
    files.insert("timestamping.pem".into(), authorities.into());
    tampered.push(("timestamping.pem without its last line's end, listed".into(), listed(files)));
    let mut evidence = good.clone();
    evidence.insert(EVIDENCE.into(), vector("unary.json").into());
    tampered.push(("another evidence.json, listed".into(), listed(evidence)));
    assert!(tampered.len() > 50, "{}", tampered.len());
    each(tampered, |(what, files)| {
        let (code, said) = script(&files);
        let seen = code == 5 && said.contains("REFUSED by step") && !said.contains("All that");
        seen.then_some(()).ok_or_else(|| format!("{what}: it ended with {code}\n{said}"))
    });
}

/// One element of DER, and those that stand in its content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match content.len() {
        0..128 => vec![length[1]],
        128..256 => vec![0x81, length[1]],
        _ => vec![0x82, length[0], length[1]],
    };
    [&[tag][..], &length, content].concat()
}

fn elements(mut content: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [tag, first, rest @ ..] = content {
        let more = usize::from(first & 0x7f) * usize::from(first >> 7);
        let length = rest[..more].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let length = if more == 0 { usize::from(*first) } else { length };
        found.push((*tag, &rest[more..more + length]));
        content = &rest[more + length..];
    }
    found
}

fn whole(elements: &[(u8, &[u8])]) -> Vec<u8> {
    elements.iter().flat_map(|(tag, content)| der(*tag, content)).collect()
}

/// A token to which its holder added another time, where no signature is over it: among the parameters of its digest, which stand
/// before what is signed, or among its signer's unsigned attributes.
fn with_another_time(token: &[u8], among_parameters: bool) -> Vec<u8> {
    let outer = elements(elements(token)[0].1);
    let signed = elements(elements(outer[1].1)[0].1);
    let [version, digests, content, certificates, signers] = signed[..] else { panic!("a token of another form") };
    let (kind, said) = (elements(content.1)[0], elements(elements(content.1)[1].1)[0].1);
    let at = said.windows(2).position(|tag| tag == [0x18, 0x0f]).unwrap() + 2;
    let forged = [&said[..at], b"2001", &said[at + 4..]].concat();
    let (digests, signers) = if among_parameters {
        let algorithm = elements(elements(digests.1)[0].1)[0];
        let parameters = whole(&[kind, (0x04, &forged)]);
        (der(0x30, &whole(&[algorithm, (0x30, &parameters)])), signers.1.to_vec())
    } else {
        let attribute = der(0x30, &whole(&[kind, (0x31, &der(0x04, &forged))]));
        let signer = [elements(signers.1)[0].1, &der(0xa1, &attribute)].concat();
        (digests.1.to_vec(), der(0x30, &signer))
    };
    let signed = whole(&[version, (0x31, &digests), content, certificates, (0x31, &signers)]);
    der(0x30, &whole(&[outer[0], (0xa0, &der(0x30, &signed))]))
}

#[test]
fn a_time_that_no_authority_signed_is_not_told_wherever_a_token_has_it() {
    let good = packed("stamped.json");
    let (code, said) = script(&good);
    let told =
        |said: &str| said.lines().find(|line| line.contains("timestamps/00000: its head was")).map(str::to_owned);
    let time = told(&said).filter(|_| code == 0).unwrap();
    let [stamp, token] = ["stamp.bin", "token.der"].map(|name| format!("timestamps/00000/{name}"));
    assert_eq!(with_same_parts(&good[&token]), good[&token], "what takes a token apart puts it together again");
    for among_parameters in [true, false] {
        let mut files = good.clone();
        let forged = with_another_time(&good[&token], among_parameters);
        let length = u16::try_from(forged.len()).unwrap();
        let length = [length as u8 & 0x7f | 0x80, (length >> 7) as u8];
        let head = good[&stamp].strip_suffix(&good[&token][..]).unwrap();
        let stamped = [&head[..head.len() - 2], &length, &forged].concat();
        let evidence = String::from_utf8(good[EVIDENCE].to_vec()).unwrap();
        let (before, after) = (STANDARD.encode(&good[&stamp]), STANDARD.encode(&stamped));
        assert!(evidence.contains(&before));
        files.insert(EVIDENCE.into(), evidence.replace(&before, &after).into());
        files.insert(token.clone(), forged.into());
        files.insert(stamp.clone(), stamped.into());
        let (code, said) = script(&listed(files));
        // What is beside the signature does not spoil it: the time is the signed one, or there is none.
        assert!(
            matches!((code, told(&said)), (0, Some(line)) | (5, Some(line)) if line == time) || code == 5,
            "{said}"
        );
        assert!(!said.contains("at 2001"), "{said}");
    }
}

fn with_same_parts(token: &[u8]) -> Vec<u8> {
    let outer = elements(elements(token)[0].1);
    let signed = elements(elements(outer[1].1)[0].1);
    der(0x30, &whole(&[outer[0], (0xa0, &der(0x30, &whole(&signed)))]))
}

#[test]
fn a_certificate_that_no_seal_names_is_not_told_and_none_is_added_to_the_authorities() {
    let good = packed("stamped.json");
    let mut keys = good.keys().filter(|name| name.starts_with("keys/"));
    let used = keys.next().unwrap();
    // Under a name of its own: nobody looks at it, and nobody says that it proves anything.
    let (mut files, unused) = (good.clone(), format!("keys/{}.pem", "0".repeat(64)));
    files.insert(unused.clone(), good[used].clone());
    let (code, said) = script(&listed(files));
    assert!(code == 0 && said.contains(used) && !said.contains(&unused), "{said}");
    for certificates in [[&good["timestamping.pem"][..], &good[used]], [&good[used], &good["timestamping.pem"][..]]] {
        let mut files = good.clone();
        files.insert("timestamping.pem".into(), certificates.concat().into());
        let (code, said) = script(&listed(files));
        assert!(code == 5 && said.contains("step 8.3: timestamping.pem"), "{said}");
    }
}

#[test]
fn who_issued_the_certificates_is_asked_of_the_authority_that_was_given_and_of_no_other() {
    // The vectors' keys certify themselves: the first message's has issued its own, and who stamps is a stranger to it.
    let good = packed("stamped.json");
    let path = String::from_utf8(good["messages/00000/path.txt"].to_vec()).unwrap();
    let key = path.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
    let trusted = tempfile::tempdir().unwrap();
    let [given, stranger] = ["issuer.pem", "stranger.pem"].map(|name| trusted.path().join(name));
    std::fs::write(&given, &good[&format!("keys/{key}.pem")]).unwrap();
    std::fs::write(&stranger, &good["timestamping.pem"]).unwrap();
    // Where openssl looks by itself: a directory of certificates, each under the hash of its name.
    let hash = Command::new("openssl").args(["x509", "-noout", "-hash", "-in"]).arg(&given).output().unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    std::fs::copy(&given, trusted.path().join(format!("{}.0", hash.trim()))).unwrap();
    let asked = |files: &Files, authority: &Path| {
        script_as(files, |command| {
            command.arg(authority).env("SSL_CERT_DIR", trusted.path()).env("SSL_CERT_FILE", &given);
        })
    };
    let first_holds = |said: &str| said.contains("holds  5.4   messages/00000");
    assert!(first_holds(&asked(&good, &given).1));
    let (code, said) = asked(&good, &stranger);
    assert!(code == 5 && said.contains("step 10:") && !first_holds(&said), "{said}");
    // It is these words of the script that hold it: without them openssl finds what its environment names.
    let script = String::from_utf8(good[SCRIPT].to_vec()).unwrap();
    let without = script.replace("-no-CApath ", "");
    assert_ne!(script, without);
    let mut files = good.clone();
    files.insert(SCRIPT.into(), without.into());
    let (_, said) = asked(&listed(files), &stranger);
    assert!(first_holds(&said), "{said}");
}

#[test]
fn the_specification_names_the_shells_verifier_by_its_digest() {
    let digest = Digest::of(&[evidence::archive::SCRIPT_BYTES]).to_string();
    let specification = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    assert!(specification.contains(&digest), "PROTOCOL.md 7.21 names another verify.sh than {digest}");
}
