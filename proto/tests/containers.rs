//! Evidence as a container (PROTOCOL.md 7.22, 7.23): who can sign one, what the verifier takes and refuses of it, and that
//! `openssl` and `verify.sh` in it agree. A missing shell or `openssl` fails these tests; nothing here is ever skipped.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::digest::Digest;
use proto::evidence::archive::{EVIDENCE, MANIFEST, NotArchived, pack};
use proto::evidence::container::{ASIC_E, ASIC_MANIFEST, MIMETYPE, SIGNATURE, Unsigned};
use proto::evidence::{self, EvidenceFile};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::zip::{self, Files};
use serde_json::Value;

const GOOD: [&str; 3] = ["unary.json", "stream.json", "stamped.json"];

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)).unwrap()
}

fn evidence_of(name: &str) -> (Vec<u8>, Vec<u8>) {
    (vector(&format!("evidence/{name}")), vector("evidence/anchor.json"))
}

fn key(name: &str) -> SigningKey {
    let keys: Value = serde_json::from_slice(&vector("keys.json")).unwrap();
    let found = keys["cases"].as_array().unwrap().iter().find(|each| each["name"] == name).unwrap();
    SigningKey::from_pkcs8(&hex::decode(found["pkcs8"].as_str().unwrap()).unwrap()).unwrap()
}

/// The key of the holder of this evidence, and that of the other party.
fn keys(json: &[u8]) -> (SigningKey, SigningKey) {
    let holder = EvidenceFile::parse(json).unwrap().holder().member.to_string();
    let (consumer, provider) = (key("consumer"), key("provider"));
    if holder == "VN/GOV/portal" { (consumer, provider) } else { (provider, consumer) }
}

/// After the messages of the vectors.
fn at(json: &[u8], anchor: &[u8]) -> Time {
    let report = evidence::verify(json, anchor).unwrap();
    let time = report.findings.iter().rev().find_map(|finding| finding.explanation.split_once("signed "));
    time.unwrap().1.split(',').next().unwrap().parse().unwrap()
}

fn contained(name: &str) -> Files {
    let (json, anchor) = evidence_of(name);
    let (holder, _) = keys(&json);
    let unsigned = Unsigned::of(&json, &anchor, holder.public().id(), at(&json, &anchor)).unwrap();
    zip::read(&unsigned.signed_with(&holder).unwrap().into()).unwrap()
}

/// The step that refuses these files, and what of them.
fn refused(files: &Files) -> Option<(String, String)> {
    match evidence::verify(&zip::write(files).unwrap(), &vector("evidence/anchor.json")) {
        Err(error) => Some((error.step().to_owned(), error.to_string())),
        Ok(report) => {
            assert_eq!(report.holds(), !report.proven.is_empty());
            report.refused().map(|finding| (finding.step.to_owned(), finding.subject.clone()))
        }
    }
}

fn unpacked(files: &Files) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    directory
}

fn told(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr)
}

/// What `verify.sh` says of these files.
fn script(files: &Files) -> (i32, String) {
    let directory = unpacked(files);
    let ran = Command::new("sh").arg(directory.path().join("verify.sh")).output().unwrap();
    (ran.status.code().unwrap(), told(&ran))
}

/// Whether `openssl cms` takes the signature over the manifest.
fn openssl_takes(files: &Files) -> bool {
    let directory = unpacked(files);
    let mut openssl = Command::new("openssl");
    openssl.current_dir(&directory).args(["cms", "-verify", "-binary", "-noverify", "-inform", "DER"]);
    let ran = openssl.args(["-in", SIGNATURE, "-content", ASIC_MANIFEST, "-out", "/dev/null"]).output().unwrap();
    ran.status.success()
}

#[test]
fn a_container_proves_what_its_evidence_does_and_who_gave_it_out() {
    for name in GOOD {
        let (json, anchor) = evidence_of(name);
        let (file, archive) = (evidence::verify(&json, &anchor).unwrap(), pack(&json, &anchor).unwrap());
        let files = contained(name);
        let packed = zip::write(&files).unwrap();
        assert!(
            packed[30..].starts_with(format!("{MIMETYPE}{ASIC_E}").as_bytes()),
            "others know it by its first bytes"
        );
        let report = evidence::verify(&packed, &anchor).unwrap();
        assert!(report.holds(), "{report}");
        let (last, same) = report.proven.split_last().unwrap();
        assert_eq!(same, file.proven);
        assert!(
            last.contains("gave out this container") && last.contains(&keys(&json).0.public().id().to_string()),
            "{last}"
        );
        assert!(report.not_proven.iter().any(|each| each.contains("the container was signed at")), "{report}");
        let steps: Vec<_> = report.findings.iter().rev().take(3).map(|finding| finding.step).collect();
        assert_eq!(steps, ["7.23", "7.22", "7.21"]);
        // All but its own three files are the archive's, and all but the signature is the same each time.
        let own = [MIMETYPE, ASIC_MANIFEST, SIGNATURE];
        let rest: Files = files
            .iter()
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .map(|(n, b)| (n.clone(), b.clone()))
            .collect();
        assert_eq!(rest, zip::read(&archive.into()).unwrap());
        let differs: Vec<_> = contained(name).into_iter().filter(|(name, bytes)| files[name] != bytes).collect();
        assert!(differs.iter().all(|(name, _)| name == SIGNATURE), "{differs:?}");
        assert!(openssl_takes(&files));
        let (code, said) = script(&files);
        assert!(code == 0 && said.contains("gave out this container as it is"), "{said}");
    }
}

#[test]
fn only_the_holders_own_key_signs_it_and_only_while_it_is_good() {
    let (json, anchor) = evidence_of("unary.json");
    let (holder, other) = keys(&json);
    let now = at(&json, &anchor);
    let refuses =
        |key: &SigningKey, at| matches!(Unsigned::of(&json, &anchor, key.public().id(), at), Err(NotArchived::Key(_)));
    assert!(refuses(&other, now), "the other party's key is good, and not the holder's");
    for at in [Time::from_millis(0), Time::from_millis(4_000_000_000_000)] {
        assert!(refuses(&holder, at), "its certificate is not good at {at}");
    }
    // A stranger's key: the evidence does not even say whether it is revoked, or says that nobody has it.
    assert!(Unsigned::of(&json, &anchor, SigningKey::generate().0.public().id(), now).is_err());
    let unsigned = Unsigned::of(&json, &anchor, holder.public().id(), now).unwrap();
    assert!(matches!(unsigned.signed_with(&other), Err(NotArchived::Key(_))), "another key than it was prepared for");
    let broken = String::from_utf8(json).unwrap().replacen("VN/GOV/portal", "VN/GOV/another", 1);
    let broken = Unsigned::of(broken.as_bytes(), &anchor, holder.public().id(), now);
    assert!(matches!(broken, Err(NotArchived::Refused(_))), "what proves nothing is not signed");
}

#[test]
fn each_file_of_a_container_changed_cut_missing_more_or_renamed_is_refused_and_openssl_sees_what_is_signed() {
    let good = contained("stamped.json");
    assert_eq!(refused(&good), None);
    let with = |name: &str, bytes: &[u8]| {
        let mut files = good.clone();
        files.insert(name.to_owned(), Bytes::copy_from_slice(bytes));
        files
    };
    // A manifest that lists what is there, under the old signature: whoever changes a file has to change it too.
    let relisted = |files: &Files| {
        let mut text = String::from_utf8(good[ASIC_MANIFEST].to_vec()).unwrap();
        for (name, bytes) in files {
            let (before, after) = (good.get(name).map(|before| Digest::of(&[before])), Digest::of(&[bytes]));
            let base64 = |digest: Digest| STANDARD.encode(digest.as_bytes());
            text = before.map_or(text.clone(), |before| text.replace(&base64(before), &base64(after)));
        }
        let mut files = files.clone();
        files.insert(ASIC_MANIFEST.into(), text.into());
        files
    };
    for (number, (name, bytes)) in good.iter().enumerate() {
        let mut changed = bytes.to_vec();
        let at = number * 7919 % changed.len();
        changed[at] ^= 1 << (number % 8);
        let mut tampered = vec![
            ("changed", with(name, &changed)),
            ("cut", with(name, &bytes[..bytes.len() - 1])),
            ("longer", with(name, &[bytes, &b"\n"[..]].concat())),
        ];
        let mut without = good.clone();
        let removed = without.remove(name).unwrap();
        tampered.push(("missing", without.clone()));
        without.insert(format!("{name}.bak"), removed.clone());
        tampered.push(("renamed", without));
        let next = good.values().find(|other| **other != removed).unwrap();
        tampered.push(("another's", with(name, next)));
        for (what, files) in tampered {
            assert!(refused(&files).is_some(), "{name} {what}");
            if name == ASIC_MANIFEST {
                assert!(!openssl_takes(&files), "{name} {what}");
            } else if name != SIGNATURE && name != MIMETYPE && files.contains_key(name) {
                let relisted = relisted(&files);
                assert!(refused(&relisted).is_some() && !openssl_takes(&relisted), "{name} {what}, and listed");
            }
        }
    }
    for surplus in ["META-INF/manifest.xml", "META-INF/signature002.p7s", "META-INF/timestamp001.tst", "README.txt"] {
        assert_eq!(refused(&with(surplus, b"trust me")), Some(("7.21".into(), surplus.into())));
    }
    assert_eq!(refused(&with(MIMETYPE, b"application/vnd.etsi.asic-e+zip\n")), Some(("7.22".into(), MIMETYPE.into())));
    assert_eq!(refused(&with(ASIC_MANIFEST, b"")), Some(("7.22".into(), ASIC_MANIFEST.into())));
    for signature in [&b""[..], b"\x30\x80", &[0x30; 10_000]] {
        assert_eq!(refused(&with(SIGNATURE, signature)), Some(("7.23".into(), SIGNATURE.into())));
    }
    // Without its type it is an archive, and has two files too many.
    let mut archive = good.clone();
    archive.remove(MIMETYPE);
    assert_eq!(refused(&archive).unwrap().0, "7.21");
}

#[test]
fn a_signature_of_another_key_time_or_container_is_none_of_this_one() {
    let good = contained("stamped.json");
    let (json, _) = evidence_of("stamped.json");
    let resigned = |bytes: &[u8]| {
        let mut files = good.clone();
        files.insert(SIGNATURE.into(), Bytes::copy_from_slice(bytes));
        refused(&files)
    };
    let bad = Some(("7.23".to_owned(), SIGNATURE.to_owned()));
    assert_eq!(resigned(&contained("unary.json")[SIGNATURE]), bad, "of another container");
    // A byte that nobody signed is one of the form.
    for at in (0..good[SIGNATURE].len()).step_by(5) {
        let mut changed = good[SIGNATURE].to_vec();
        changed[at] ^= 1;
        assert_eq!(resigned(&changed), bad, "byte {at}");
    }
    // The same attributes, signed by the holder once more, by the other party, and by a stranger.
    let cms = &good[SIGNATURE];
    let algorithm = hex::decode("300a06082a8648ce3d040302").unwrap();
    let end = cms.windows(algorithm.len()).rposition(|part| part == algorithm).unwrap();
    let begin = (0..end).find(|at| cms[*at..].starts_with(&[0xa0, 0x81]) && at + 3 + usize::from(cms[at + 2]) == end);
    let attributes = [&[0x31], &cms[begin.unwrap() + 1..end]].concat();
    let length = cms.len() - end - algorithm.len() - 2;
    let (holder, other) = keys(&json);
    for (key, step) in [(&holder, None), (&other, bad.clone()), (&SigningKey::generate().0, bad)] {
        // Of the same length, so that nothing around it changes.
        let mut signatures = std::iter::repeat_with(|| key.sign(&attributes));
        let signature = signatures.find(|signature| signature.len() == length).unwrap();
        assert_eq!(resigned(&[&cms[..cms.len() - length], &signature].concat()), step);
    }
}

#[test]
fn the_shells_verifier_sees_what_is_wrong_with_a_container() {
    let good = contained("stamped.json");
    let mut tampered: Vec<(&str, Files)> = Vec::new();
    let mut add = |what, change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        tampered.push((what, files));
    };
    let changed = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    for own in [MIMETYPE, ASIC_MANIFEST, SIGNATURE] {
        add("without one of its files", &|files| _ = files.remove(own));
    }
    add("another type", &|files| _ = files.insert(MIMETYPE.into(), changed(&good[MIMETYPE], 5)));
    add("another manifest", &|files| _ = files.insert(ASIC_MANIFEST.into(), changed(&good[ASIC_MANIFEST], 900)));
    let last = good[SIGNATURE].len() - 5;
    add("another signature", &|files| _ = files.insert(SIGNATURE.into(), changed(&good[SIGNATURE], last)));
    add("a file more", &|files| _ = files.insert("META-INF/signature002.p7s".into(), Bytes::from_static(b"x")));
    add("another list", &|files| _ = files.insert(MANIFEST.into(), Bytes::from([&good[MANIFEST][..], b"\n"].concat())));
    add("a message changed", &|files| {
        files.insert("messages/00000/header.bin".into(), changed(&good["messages/00000/header.bin"], 40));
    });
    add("other evidence", &|files| _ = files.insert(EVIDENCE.into(), evidence_of("unary.json").0.into()));
    for (what, files) in tampered {
        let (code, said) = script(&files);
        assert!(code == 5 && said.contains("REFUSED by step") && !said.contains("All that"), "{what}: {code}\n{said}");
        assert!(refused(&files).is_some(), "{what}");
    }
}
