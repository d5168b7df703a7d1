//! What is published is what servers read, one change is small, and what an attacker can do with what he holds.
// A test tells what went wrong by panicking, wherever it does so.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use central_registry::publish::{Publication, RevokedKey, RoleKeys, Thresholds, Unpublishable, View};
use proptest::prelude::{any, prop};
use proptest::proptest;
use proto::digest::Digest;
use proto::global_configuration::document::{
    Der, InstanceDocument, MemberDocument, Refused, ServerDocument, SigningDocument, SubsystemDocument,
};
use proto::global_configuration::ledger::{Checkpoint, CheckpointFile, leaf};
use proto::global_configuration::update::{
    self, Anchor, Files, ROLES_SHA256, Rejected, TIMESTAMP, Trusted, digest_of_roles, update,
};
use proto::global_configuration::{Freshness, Standing};
use proto::head::Head;
use proto::identifier::MemberId;
use proto::merkle::root_of_path;
use proto::record::TreeName;
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::File;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

const NOW: Time = Time::from_millis(1_795_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn what_is_published_is_what_a_server_reads() {
    let country = Country::of(300);
    let trusted = country.joined();
    let configuration = trusted.configuration();
    assert_eq!(configuration.members.len(), 300);
    assert_eq!(configuration.servers.len(), 300);
    assert_eq!((configuration.version, configuration.instance.as_str()), (1, "VN"));
    assert_eq!(configuration.signed_at, NOW);
    assert_eq!(configuration.expires_at, NOW.plus(72 * HOUR));
    assert_eq!(configuration.digest, Digest::of(&[&trusted.files()[TIMESTAMP]]));
    let member = &configuration.members[&id("m7")];
    let (key, certificate) = member.signing_keys.first_key_value().unwrap();
    assert!(configuration.signing_key(&id("m7"), &certificate.server, key, NOW).is_some());
    assert!(configuration.hosts(&certificate.server, member.subsystems.first_key_value().unwrap().0));
}

#[test]
fn one_change_moves_few_bytes_and_signs_three_files() {
    let mut country = Country::of(300);
    let trusted = country.joined();
    country.view.members[42] = member("m42", "ss1.new.example:5500");
    let changed = country.publish(NOW.plus(HOUR));
    let bytes: usize = changed.iter().map(|file| file.name.len() + file.content.len()).sum();
    assert_eq!(changed.len(), 5, "bin, snapshot, timestamp, checkpoint and the document: {:?}", names(&changed));
    assert_eq!(changed.last().unwrap().name, TIMESTAMP);
    assert!(bytes < 20_000, "{bytes} bytes");
    let trusted = update(&trusted, &files(&changed), NOW.plus(HOUR)).unwrap();
    let server = "VN/GOV/m42/ss1".parse().unwrap();
    assert_eq!(trusted.configuration().servers[&server].address, "ss1.new.example:5500");
    assert_eq!(*trusted.files(), *country.publication.files());
}

#[test]
fn a_member_that_leaves_is_gone_and_a_revocation_denies() {
    let mut country = Country::of(3);
    let trusted = country.joined();
    country.view.members.remove(0);
    let key = *trusted.configuration().members[&id("m1")].signing_keys.first_key_value().unwrap().0;
    country.view.revoked.push(key.into());
    let changed = country.publish(NOW);
    let next = update(&trusted, &files(&changed), NOW).unwrap();
    assert!(!next.configuration().members.contains_key(&id("m0")));
    let server = "VN/GOV/m1/ss1".parse().unwrap();
    assert!(next.configuration().signing_key(&id("m1"), &server, &key, NOW).is_none());
    assert!(trusted.configuration().signing_key(&id("m1"), &server, &key, NOW).is_some());
}

#[test]
fn a_revoked_key_that_is_registered_never_comes_back() {
    let mut country = Country::of(2);
    let key = *country.joined().configuration().members[&id("m1")].signing_keys.first_key_value().unwrap().0;
    country.view.revoked.push(key.into());
    country.publish(NOW);
    let revoked = country.publication.clone();
    country.view.revoked.clear();
    let refused = revoked.next(&country.keys, &country.view, NOW).unwrap_err();
    assert!(matches!(refused, Unpublishable::Rejected(Rejected::Unrevoked { key: left }) if left == key), "{refused}");
    // With its holder it may go.
    country.view.members.remove(1);
    assert!(revoked.next(&country.keys, &country.view, NOW).is_ok());
}

#[test]
fn a_last_head_once_named_stays_as_long_as_its_key_is_registered() {
    let mut country = Country::of(2);
    let mut trusted = country.joined();
    let key = *trusted.configuration().members[&id("m1")].signing_keys.first_key_value().unwrap().0;
    let head = |size| Head { tree: TreeName(Digest::of(&[b"tree"])), size, root: Digest::of(&[b"root"]) };
    // Revoked in haste, its last head found out later.
    for last_head in [None, Some(head(7))] {
        country.view.revoked = vec![RevokedKey { key, last_head }];
        let changed = country.publish(NOW);
        trusted = update(&trusted, &files(&changed), NOW).unwrap();
        assert_eq!(trusted.configuration().last_heads.get(&key), last_head.as_ref());
    }
    for other in [None, Some(head(8))] {
        country.view.revoked = vec![RevokedKey { key, last_head: other }];
        let refused = country.publication.next(&country.keys, &country.view, NOW).unwrap_err();
        let Unpublishable::Rejected(Rejected::OtherLastHead { key: moved }) = refused else { panic!("{refused}") };
        assert_eq!(moved, key);
    }
}

#[test]
fn a_timestamp_signed_again_moves_a_few_hundred_bytes() {
    let mut country = Country::of(3);
    let trusted = country.joined();
    let (publication, changed) = country.publication.re_signed(&country.keys, NOW.plus(HOUR)).unwrap();
    country.publication = publication;
    assert_eq!(names(&changed), ["2.checkpoint.json", TIMESTAMP]);
    assert!(changed.iter().all(|file| file.content.len() < 1000), "{changed:?}");
    let next = update(&trusted, &files(&changed), NOW.plus(HOUR)).unwrap();
    assert_eq!(next.version(), 2);
    assert_eq!(next.configuration().signed_at, NOW.plus(HOUR));
    assert_eq!(next.configuration().expires_at, NOW.plus(73 * HOUR));
}

#[test]
fn a_registry_that_only_signs_again_never_lets_a_role_expire() {
    let mut country = Country::of(2);
    let mut trusted = country.joined();
    for hours in (30..=100 * 24).step_by(30) {
        let now = NOW.plus(hours * HOUR);
        let (publication, changed) = country.publication.re_signed(&country.keys, now).unwrap();
        country.publication = publication;
        trusted = update(&trusted, &files(&changed), now).unwrap();
        // Whenever the registry goes away, the last version holds for the whole validity.
        let configuration = trusted.configuration();
        assert_eq!(configuration.expires_at, now.plus(72 * HOUR), "hour {hours}");
        assert_eq!(configuration.freshness(now.plus(72 * HOUR).minus(Duration::from_millis(1))), Freshness::Stale);
    }
    assert_eq!(*trusted.files(), *country.publication.files());
}

#[test]
fn a_publication_is_taken_up_from_its_files() {
    let mut country = Country::of(5);
    let trusted = country.joined();
    let first = country.publish(NOW);
    country.publication = Publication::read(country.publication.files()).unwrap();
    country.view.members[1] = member("m1", "ss1.other.example:5500");
    let changed = country.publish(NOW.plus(HOUR));
    assert_eq!(changed.len(), 5);
    // From version 1 on, everything that a server lacks is in the list, and little of what it has.
    let before = update(&trusted, &files(&first), NOW).unwrap();
    let next = update(&before, &files(&country.publication.since(1)), NOW.plus(HOUR)).unwrap();
    assert_eq!(next.version(), 3);
    // A server that lacks the version between is given the page of the ledger, too, by a registry that has it.
    let refused = update(&trusted, &files(&country.publication.since(1)), NOW.plus(HOUR)).unwrap_err();
    assert!(matches!(&refused, Rejected::Missing { file } if file.starts_with("ledger/")), "{refused}");
    assert!(country.publication.since(1).len() < 10);
    assert!(country.publication.since(3).is_empty());
    assert_eq!(country.publication.since(0).len(), country.publication.files().len());
}

#[test]
fn a_restart_keeps_the_floor_even_when_all_is_expired() {
    let mut country = Country::of(3);
    let old = country.publication.files().clone();
    country.publish(NOW.plus(HOUR));
    let later = NOW.plus(400 * DAY);
    let trusted = Trusted::load(&country.anchor(), country.publication.files()).unwrap();
    assert_eq!(trusted.configuration().freshness(later), Freshness::Expired);
    assert_eq!(trusted.version(), 2);
    let refused = update(&trusted, &old, NOW.plus(HOUR)).unwrap_err();
    assert!(matches!(refused, Rejected::Rollback { trusted: 2, offered: 1, .. }), "{refused}");
}

#[test]
fn thresholds_of_two_need_two_keys() {
    let mut keys = role_keys();
    keys.members.push(SigningKey::generate().0);
    let thresholds = Thresholds { members: 2, ..Thresholds::SANDBOX };
    let view = view(3);
    let first = Publication::first(&keys, &thresholds, &view, NOW).unwrap();
    let mut changed = view.clone();
    changed.members[0] = member("m0", "ss1.other.example:5500");
    assert!(first.next(&keys, &changed, NOW).is_ok());
    keys.members.pop();
    let refused = first.next(&keys, &changed, NOW).unwrap_err();
    assert!(
        matches!(&refused, Unpublishable::Rejected(Rejected::Signatures { found: 1, threshold: 2, .. })),
        "{refused}"
    );
    keys.members.clear();
    assert!(matches!(first.next(&keys, &changed, NOW), Err(Unpublishable::NoKey(_))));
    // What does not change needs nobody.
    assert!(first.next(&keys, &view, NOW.plus(DAY)).is_ok());
}

// --- the register contradicts itself

#[test]
fn nobody_claims_anothers_key_server_subsystem_or_path() {
    let country = Country::of(3);
    let refused = |change: &dyn Fn(&mut View)| {
        let mut view = country.view.clone();
        change(&mut view);
        match country.publication.next(&country.keys, &view, NOW) {
            Err(Unpublishable::Rejected(Rejected::Document(refused))) => refused,
            other => panic!("{:?}", other.map(|(publication, _)| publication.version())),
        }
    };
    let stolen =
        |view: &mut View| view.members[0].signing[0].certificate = view.members[1].signing[0].certificate.clone();
    assert!(matches!(refused(&stolen), Refused::SharedKey { .. }));
    let stolen =
        |view: &mut View| view.members[0].servers[0].authentication = view.members[1].servers[0].authentication.clone();
    assert!(matches!(refused(&stolen), Refused::SharedKey { .. }));
    let both = |view: &mut View| {
        view.members[0].servers[0].authentication = vec![view.members[0].signing[0].certificate.clone()]
    };
    assert!(matches!(refused(&both), Refused::SharedKey { .. }));
    let taken = |view: &mut View| {
        let server = view.members[1].servers[0].clone();
        view.members[0].servers.push(server);
    };
    assert!(matches!(refused(&taken), Refused::ForeignServer { .. }));
    let taken = |view: &mut View| view.members[0].subsystems = view.members[1].subsystems.clone();
    assert!(matches!(refused(&taken), Refused::ForeignSubsystem { .. }));
    let nowhere = |view: &mut View| view.members[0].signing[0].server = "VN/GOV/m1/ss9".parse().unwrap();
    assert!(matches!(refused(&nowhere), Refused::UnknownServer { .. }));
    let address = |view: &mut View| view.members[0].servers[0].address = "https://ss1".into();
    assert!(matches!(refused(&address), Refused::Address { .. }));
    let foreign = |view: &mut View| {
        view.members.push(MemberDocument { member: "LA/GOV/x".parse().unwrap(), ..bare("m9") });
    };
    assert!(matches!(refused(&foreign), Refused::ForeignMember { .. }));
    let not_p256 = |view: &mut View| view.members[0].signing[0].certificate = certificate_of(&rcgen::PKCS_ED25519);
    assert!(matches!(refused(&not_p256), Refused::NotASigningKey { .. }));
    let broken = |view: &mut View| view.members[0].signing[0].certificate = vec![0x30, 0].into();
    assert!(matches!(refused(&broken), Refused::NotACertificate { .. }));
    let long = |view: &mut View| view.members[0].name = "n".repeat(513);
    assert!(matches!(refused(&long), Refused::Limit { found: 513, .. }));
}

#[test]
fn another_members_server_may_host() {
    let mut country = Country::of(2);
    country.view.members[0].subsystems[0].servers.push("VN/GOV/m1/ss1".parse().unwrap());
    country.publish(NOW);
    let configuration = country.publication.trusted().configuration();
    assert!(configuration.hosts(&"VN/GOV/m1/ss1".parse().unwrap(), &"VN/GOV/m0/registry".parse().unwrap()));
}

// --- an attacker on the way

#[test]
fn an_old_version_is_refused() {
    let mut country = Country::of(3);
    let old = country.publication.files().clone();
    let before = country.joined();
    country.publish(NOW);
    let trusted = update(&before, country.publication.files(), NOW).unwrap();
    let refused = update(&trusted, &old, NOW).unwrap_err();
    assert_eq!(refused, Rejected::Rollback { role: "timestamp".into(), trusted: 2, offered: 1 });
    assert_eq!(trusted.version(), 2);
    assert_eq!(update(&trusted, country.publication.files(), NOW).unwrap().version(), 2, "the same again is no fault");
}

#[test]
fn a_version_that_is_held_back_expires() {
    let country = Country::of(3);
    let late = NOW.plus(72 * HOUR);
    let refused = country.anchor().first(country.publication.files(), late).unwrap_err();
    assert!(matches!(refused, Rejected::Expired { .. }), "{refused}");
    let just = Time::from_millis(late.as_millis() - 1);
    assert!(country.anchor().first(country.publication.files(), just).is_ok());
}

#[test]
fn two_versions_do_not_mix() {
    let mut country = Country::of(3);
    let first = country.publication.files().clone();
    country.view.members[0] = member("m0", "ss1.other.example:5500");
    let changed = country.publish(NOW);
    // The new timestamp with the old rest, and each new file replaced by its elder.
    let mut mixed = first.clone();
    mixed.insert(TIMESTAMP.into(), country.publication.files()[TIMESTAMP].clone());
    let refused = country.anchor().first(&mixed, NOW).unwrap_err();
    assert_eq!(refused, Rejected::Missing { file: "2.snapshot.json".into() });
    let mut replaced = 0;
    for name in names(&changed) {
        let mut mixed = country.publication.files().clone();
        let role = name.split_once('.').unwrap().1;
        let Some(elder) = first.get(&format!("1.{role}")) else { continue };
        mixed.insert(name.clone(), elder.clone());
        let refused = country.anchor().first(&mixed, NOW).unwrap_err();
        assert!(matches!(refused, Rejected::OtherBytes { .. } | Rejected::Ledger(_)), "{name}: {refused}");
        replaced += 1;
    }
    assert_eq!(replaced, 3, "bin, snapshot and checkpoint");
}

#[test]
fn a_version_without_one_of_its_files_is_refused_whole() {
    let country = Country::of(2);
    let beyond_few = |name: &str| name.contains(".c-") || (name.contains(".m-") && !name.contains(".m-0"));
    for name in country.publication.files().keys().filter(|name| *name != "1.root.json" && !beyond_few(name)) {
        let mut files = country.publication.files().clone();
        files.remove(name);
        let refused = country.anchor().first(&files, NOW).unwrap_err();
        assert_eq!(refused, Rejected::Missing { file: name.clone() });
    }
}

#[test]
fn a_changed_byte_is_refused_in_whatever_file() {
    let country = Country::of(2);
    let beyond_few = |name: &str| name.contains(".c-") || (name.contains(".m-") && !name.contains(".m-0"));
    for (name, bytes) in country.publication.files().iter().filter(|(name, _)| !beyond_few(name)) {
        let mut broken = bytes.to_vec();
        let at = broken.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        broken[at] = if broken[at] == b'1' { b'2' } else { b'1' };
        let mut files = country.publication.files().clone();
        files.insert(name.clone(), broken.into());
        assert!(country.anchor().first(&files, NOW).is_err(), "{name}");
    }
}

#[test]
fn a_document_that_says_another_thing_at_the_same_length_is_refused() {
    let country = Country::of(2);
    let mut files = country.publication.files().clone();
    let said = |bytes: &Bytes, address: &str| String::from_utf8_lossy(bytes).contains(address);
    let (name, bytes) = files.iter().find(|(_, bytes)| said(bytes, "\"ss1.example:5500\"")).unwrap();
    let other = String::from_utf8_lossy(bytes).replace("ss1.example:5500", "ss2.example:5500");
    let name = name.clone();
    files.insert(name.clone(), other.into());
    let refused = country.anchor().first(&files, NOW).unwrap_err();
    assert!(matches!(&refused, Rejected::OtherBytes { file, .. } if *file == name), "{refused}");
}

#[test]
fn a_file_of_a_trusted_name_with_other_bytes_is_refused() {
    let mut country = Country::of(2);
    let trusted = country.joined();
    let elsewhere = Publication::first(&role_keys(), &Thresholds::SANDBOX, &country.view, NOW).unwrap();
    let refused = update(&trusted, elsewhere.files(), NOW).unwrap_err();
    assert_eq!(refused, Rejected::TwoOfOneName { file: "1.root.json".into() });
    let mut signed_twice = country.publication.files().clone();
    signed_twice.insert(TIMESTAMP.into(), resigned(&signed_twice[TIMESTAMP], &country.keys.timestamp, |_| {}));
    let refused = update(&trusted, &signed_twice, NOW).unwrap_err();
    assert_eq!(refused, Rejected::TwoOfOneName { file: TIMESTAMP.into() });
    let mut changed = files(&country.publish(NOW));
    changed.insert("1.m-00.json".into(), Bytes::from_static(b"{}"));
    let refused = update(&trusted, &changed, NOW).unwrap_err();
    assert_eq!(refused, Rejected::TwoOfOneName { file: "1.m-00.json".into() });
}

// --- an attacker with a key

#[test]
fn no_single_online_key_adds_a_member() {
    let country = Country::of(3);
    let path = MemberDocument::path_of(&id("intruder"));
    let document = member("intruder", "a.example:1").to_bytes();
    let bin = bin_of(&path);
    let keys = &country.keys;
    let online = [
        ("timestamp", &keys.timestamp),
        ("snapshot", &keys.snapshot),
        ("revoked", &keys.revoked),
        ("catalogue", &keys.catalogue),
    ];
    for (whose, stolen) in online {
        // He forges bin, snapshot and timestamp with the one key that he holds.
        let forged = country.with_target(&bin, &path, &document, [stolen, stolen, stolen]);
        assert!(country.anchor().first(&forged, NOW).is_err(), "{whose}");
        // Even with snapshot and timestamp in his hands, the bin is not his to sign.
        let forged = country.with_target(&bin, &path, &document, [stolen, &keys.snapshot, &keys.timestamp]);
        let refused = country.anchor().first(&forged, NOW).unwrap_err();
        assert_eq!(refused, Rejected::Signatures { role: bin.clone(), found: 0, threshold: 1 }, "{whose}");
    }
    // The roles that he may sign cannot speak of members.
    for (role, stolen) in [("revoked", &keys.revoked), ("catalogue", &keys.catalogue), ("c-00", &keys.catalogue)] {
        let forged = country.with_target(role, &path, &document, [stolen, &keys.snapshot, &keys.timestamp]);
        let refused = country.anchor().first(&forged, NOW).unwrap_err();
        assert_eq!(refused, Rejected::NotAllowed { role: role.into(), target: path.clone() });
    }
}

#[test]
fn no_role_signs_one_version_twice() {
    let mut country = Country::of(3);
    let before = country.joined();
    country.view.members[0] = member("m0", "ss1.other.example:5500");
    country.view.instance.name = "Another name".into();
    country.view.revoked.push(Digest::of(&[b"a key"]).into());
    let changed = files(&country.publish(NOW));
    let bin = bin_of(&MemberDocument::path_of(&id("m0")));
    for (role, keys) in
        [("targets", &country.keys.targets), ("revoked", &country.keys.revoked), (&bin, &country.keys.members)]
    {
        let mut forged = changed.clone();
        let name = format!("2.{role}.json");
        forged.insert(name.clone(), resigned(&forged[&name], keys, |signed| signed["x"] = json!(1)));
        // The role's own signature holds, and the version is the one that the snapshot pins.
        let refused = update(&before, &forged, NOW).unwrap_err();
        assert!(matches!(refused, Rejected::OtherRoles | Rejected::OtherBytes { .. }), "{role}: {refused}");
        let mut all = country.publication.files().clone();
        all.extend(forged);
        assert!(country.anchor().first(&all, NOW).is_err(), "{role}");
    }
    assert!(update(&before, &changed, NOW).is_ok());
    // What an older registry signed says nothing of its roles' bytes, and is taken.
    let mut older = country.publication.files().clone();
    let name = "2.snapshot.json";
    let bytes = resigned(&older[name], &country.keys.snapshot, |signed| {
        signed.as_object_mut().unwrap().remove(ROLES_SHA256);
    });
    let (length, digest) = (bytes.len(), Digest::of(&[&bytes]).to_string());
    older.insert(name.into(), bytes);
    let timestamp = resigned(&older[TIMESTAMP], &country.keys.timestamp, |signed| {
        signed["meta"]["snapshot.json"]["length"] = json!(length);
        signed["meta"]["snapshot.json"]["hashes"]["sha256"] = json!(digest);
    });
    older.insert(TIMESTAMP.into(), timestamp);
    in_the_ledger(&mut older, &country.keys.timestamp);
    assert!(country.anchor().first(&older, NOW).is_ok());
}

#[test]
fn no_delegation_lets_a_role_speak_of_another_kind() {
    let country = Country::of(1);
    let path = MemberDocument::path_of(&id("intruder"));
    let bin = bin_of(&path).replace("m-", "c-");
    let keys = &country.keys;
    let document = member("intruder", "a.example:1").to_bytes();
    let mut forged = country.with_target(&bin, &path, &document, [&keys.catalogue, &keys.snapshot, &keys.timestamp]);
    // Who signs `targets` says that the catalogue may speak of anything.
    let targets = resigned(&forged["1.targets.json"], &keys.targets, |signed| {
        let roles = signed["delegations"]["roles"].as_array_mut().unwrap();
        roles.iter_mut().filter(|role| role["name"] == "catalogue").for_each(|role| role["paths"] = json!(["*/*/*/*"]));
    });
    forged.insert("1.targets.json".into(), targets);
    fit(&mut forged, &keys.snapshot, &keys.timestamp);
    let refused = country.anchor().first(&forged, NOW).unwrap_err();
    assert_eq!(refused, Rejected::NotAllowed { role: bin, target: path });
}

#[test]
fn a_document_under_anothers_path_is_refused() {
    let country = Country::of(3);
    let path = MemberDocument::path_of(&id("victim"));
    let bin = bin_of(&path);
    let honest = [&country.keys.members, &country.keys.snapshot, &country.keys.timestamp];
    let forged = country.with_target(&bin, &path, &member("m9", "a.example:1").to_bytes(), honest);
    let refused = country.anchor().first(&forged, NOW).unwrap_err();
    assert!(matches!(refused, Rejected::Document(Refused::ElsewheresDocument { .. })), "{refused}");
    // The right document in a bin that its path does not hash to.
    let other = if bin == "m-00" { "m-01" } else { "m-00" };
    let forged = country.with_target(other, &path, &member("victim", "a.example:1").to_bytes(), honest);
    let refused = country.anchor().first(&forged, NOW).unwrap_err();
    assert_eq!(refused, Rejected::NotAllowed { role: other.into(), target: path });
}

#[test]
fn a_bin_that_the_snapshot_leaves_out_is_missed() {
    let country = Country::of(3);
    let files = country.forged("snapshot", &country.keys.snapshot, &country.keys.timestamp, |signed| {
        signed["meta"].as_object_mut().unwrap().remove("m-42.json");
    });
    let refused = country.anchor().first(&files, NOW).unwrap_err();
    assert_eq!(refused, Rejected::NotPinned { role: "m-42".into() });
}

#[test]
fn the_same_key_does_not_count_twice() {
    let country = Country::of(1);
    let mut files = country.publication.files().clone();
    let mut file: Value = serde_json::from_slice(&files[TIMESTAMP]).unwrap();
    let signature = file["signatures"][0].clone();
    file["signatures"].as_array_mut().unwrap().push(signature);
    files.insert(TIMESTAMP.into(), serde_json::to_vec(&file).unwrap().into());
    let refused = country.anchor().first(&files, NOW).unwrap_err();
    assert!(matches!(refused, Rejected::SignedTwice { .. }), "{refused}");
    // One key under a second name would meet a threshold of two.
    let root = resigned(country.publication.anchor(), &country.keys.root, |signed| {
        let key = signed["roles"]["timestamp"]["keyids"][0].as_str().unwrap().to_owned();
        let object = signed["keys"][&key].clone();
        signed["keys"]["00"] = object;
    });
    assert!(matches!(Anchor::read(root).unwrap_err(), Rejected::SameKeyTwice { .. }));
}

#[test]
fn a_new_root_is_followed_and_opens_no_way_back() {
    let mut country = Country::of(3);
    let old = country.publication.files().clone();
    country.publish(NOW);
    let trusted = country.joined();
    let next_root = resigned(country.publication.anchor(), &country.keys.root, |signed| signed["version"] = json!(2));
    // The true new root, and under it a timestamp that is older than the one trusted.
    let mut rolled_back = old.clone();
    rolled_back.insert("2.root.json".into(), next_root.clone());
    let refused = update(&trusted, &rolled_back, NOW).unwrap_err();
    assert_eq!(refused, Rejected::Rollback { role: "timestamp".into(), trusted: 2, offered: 1 });
    let mut honest = country.publication.files().clone();
    honest.insert("2.root.json".into(), next_root);
    let next = update(&trusted, &honest, NOW).unwrap();
    assert!(next.files().contains_key("2.root.json"));
    assert_eq!(Trusted::load(&country.anchor(), next.files()).unwrap().files(), next.files());
    // A root that the old one's keys did not sign.
    let stranger = [SigningKey::generate().0];
    let forged = resigned(country.publication.anchor(), &stranger, |signed| signed["version"] = json!(2));
    honest.insert("2.root.json".into(), forged);
    assert!(matches!(update(&trusted, &honest, NOW), Err(Rejected::Signatures { .. })));
}

#[test]
fn a_new_root_does_not_let_a_version_be_signed_twice() {
    let country = Country::of(2);
    let trusted = country.joined();
    let mut files = country.publication.files().clone();
    let root = resigned(country.publication.anchor(), &country.keys.root, |signed| signed["version"] = json!(2));
    files.insert("2.root.json".into(), root);
    assert!(update(&trusted, &files, NOW).is_ok());
    // The same version, signed once more: the root's state machine begins anew, and what is trusted does not.
    files.insert(TIMESTAMP.into(), resigned(&files[TIMESTAMP], &country.keys.timestamp, |_| {}));
    let refused = update(&trusted, &files, NOW).unwrap_err();
    assert_eq!(refused, Rejected::TwoOfOneName { file: TIMESTAMP.into() });
}

#[test]
fn a_version_without_revocations_is_refused() {
    let country = Country::of(2);
    let mut forged = country.forged("targets", &country.keys.targets, &country.keys.timestamp, |signed| {
        let roles = signed["delegations"]["roles"].as_array_mut().unwrap();
        roles.retain(|role| role["name"] != "revoked");
    });
    fit(&mut forged, &country.keys.snapshot, &country.keys.timestamp);
    let refused = country.anchor().first(&forged, NOW).unwrap_err();
    assert_eq!(refused, Rejected::NotDelegated { role: "revoked" });
}

#[test]
fn the_configuration_of_another_instance_is_refused() {
    let country = Country::of(0);
    let mut view = country.view.clone();
    view.instance.instance = "LA".parse().unwrap();
    let refused = country.publication.next(&country.keys, &view, NOW).unwrap_err();
    assert!(matches!(refused, Unpublishable::Rejected(Rejected::OtherInstance { .. })), "{refused}");
}

#[test]
fn a_signing_key_is_good_within_its_certificates_time_only() {
    let country = Country::of(1);
    let configuration = country.joined().configuration().clone();
    let (key, certificate) = configuration.members[&id("m0")].signing_keys.first_key_value().unwrap();
    let instant = Duration::from_millis(1);
    for (now, good) in [
        (certificate.not_before.minus(instant), false),
        (certificate.not_before, true),
        (certificate.not_after, true),
        (certificate.not_after.plus(instant), false),
    ] {
        let found = configuration.signing_key(&id("m0"), &certificate.server, key, now);
        assert_eq!(found.is_some(), good, "at {now}");
    }
}

#[test]
fn a_file_has_its_limit() {
    let country = Country::of(1);
    let mut files = country.publication.files().clone();
    let mut padded = files[TIMESTAMP].to_vec();
    padded.resize(16 * 1024, b' ');
    files.insert(TIMESTAMP.into(), padded.clone().into());
    in_the_ledger(&mut files, &country.keys.timestamp);
    assert!(country.anchor().first(&files, NOW).is_ok());
    padded.push(b' ');
    files.insert(TIMESTAMP.into(), padded.into());
    let refused = country.anchor().first(&files, NOW).unwrap_err();
    assert_eq!(refused, Rejected::TooLarge { what: TIMESTAMP.into(), found: 16 * 1024 + 1, most: 16 * 1024 });
}

#[test]
fn a_version_has_its_limits() {
    let country = Country::of(1);
    let first = |files: &Files| country.anchor().first(files, NOW);
    // In all.
    let whole: usize = country.publication.files().values().map(Bytes::len).sum();
    let mut files = country.publication.files().clone();
    let rest = update::MAX_TOTAL_BYTES - whole;
    let (part, parts) = (Bytes::from(vec![0; 1024 * 1024]), rest / (1024 * 1024));
    files.extend((0..parts).map(|number| (format!("unnamed-{number}"), part.clone())));
    files.insert("unnamed".into(), Bytes::from(vec![0; rest % (1024 * 1024)]));
    assert!(first(&files).is_ok());
    files.insert("one-more".into(), Bytes::from_static(b"x"));
    assert!(matches!(first(&files), Err(Rejected::TooLarge { found, .. }) if found == update::MAX_TOTAL_BYTES + 1));
    let mut files = country.publication.files().clone();
    let more = update::MAX_FILES - files.len();
    files.extend((0..more).map(|number| (format!("unnamed-{number}"), Bytes::new())));
    assert!(first(&files).is_ok());
    files.insert("one-more".into(), Bytes::new());
    assert!(matches!(first(&files), Err(Rejected::TooLarge { found, .. }) if found == update::MAX_FILES + 1));
    // One role.
    let mut files = country.publication.files().clone();
    let mut padded = files["1.m-00.json"].to_vec();
    padded.resize(update::MAX_ROLE_BYTES, b' ');
    files.insert("1.m-00.json".into(), padded.clone().into());
    assert_eq!(first(&files).unwrap_err(), Rejected::OtherRoles, "not the bytes that the snapshot was signed over");
    fit(&mut files, &country.keys.snapshot, &country.keys.timestamp);
    assert!(first(&files).is_ok());
    padded.push(b' ');
    files.insert("1.m-00.json".into(), padded.into());
    assert!(matches!(first(&files), Err(Rejected::TooLarge { .. })));
}

#[test]
fn delegations_go_so_deep_and_so_wide() {
    let country = Country::of(1);
    assert!(country.anchor().first(&country.delegating(&["x"], 1), NOW).is_ok());
    let refused = country.anchor().first(&country.delegating(&["x", "y"], 1), NOW).unwrap_err();
    assert!(matches!(&refused, Rejected::BadDelegation { role, .. } if role == "y"), "{refused}");
    for name in ["", "../x", "X", "x".repeat(33).as_str()] {
        let refused = country.anchor().first(&country.delegating(&[name], 1), NOW).unwrap_err();
        assert!(matches!(&refused, Rejected::BadDelegation { role, .. } if role == name), "{refused}");
    }
    for name in ["m-00", "members", "targets", "root"] {
        assert!(country.anchor().first(&country.delegating(&[name], 1), NOW).is_err(), "{name}");
    }
    // 516 roles are there already.
    let room = update::MAX_ROLES - 516;
    assert!(country.anchor().first(&country.delegating(&["x"], room), NOW).is_ok());
    let refused = country.anchor().first(&country.delegating(&["x"], room + 1), NOW).unwrap_err();
    assert!(matches!(refused, Rejected::TooLarge { found, .. } if found == update::MAX_ROLES + 1));
}

static SMALL: LazyLock<(Files, Trusted, Anchor)> = LazyLock::new(|| {
    let mut country = Country::of(2);
    let trusted = country.joined();
    country.view.members[0] = member("m0", "ss1.other.example:5500");
    (files(&country.publish(NOW)), trusted, country.anchor())
});

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        which in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (changed, trusted, anchor) = &*SMALL;
        let mut files = changed.clone();
        files.insert(names_of(&files)[which.index(files.len())].clone(), bytes.clone().into());
        assert!(update(trusted, &files, NOW).is_err());
        assert!(Anchor::read(bytes.into()).is_err());
        assert!(Trusted::load(anchor, &files).is_err());
    }

    #[test]
    fn a_cut_or_changed_file_never_panics(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let (changed, trusted, _) = &*SMALL;
        let mut files = changed.clone();
        let name = names_of(&files)[which.index(files.len())].clone();
        let mut bytes = files[&name].to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let same = files[&name] == bytes;
        files.insert(name, bytes.into());
        if same || update(trusted, &files, NOW).is_err() {
            return Ok(());
        }
        // What is taken all the same differs in a way that no signature covers, and says the same.
        assert_eq!(update(trusted, &files, NOW).unwrap().version(), 2);
    }
}

fn names_of(files: &Files) -> Vec<String> {
    files.keys().cloned().collect()
}

// --- the country

struct Country {
    keys: RoleKeys,
    view: View,
    publication: Publication,
}

impl Country {
    fn of(members: usize) -> Self {
        let (keys, view) = (role_keys(), view(members));
        let publication = Publication::first(&keys, &Thresholds::SANDBOX, &view, NOW).unwrap();
        Country { keys, view, publication }
    }

    fn anchor(&self) -> Anchor {
        Anchor::read(self.publication.anchor().clone()).unwrap()
    }

    fn joined(&self) -> Trusted {
        self.anchor().first(self.publication.files(), NOW).unwrap()
    }

    fn publish(&mut self, now: Time) -> Vec<File> {
        let (publication, changed) = self.publication.next(&self.keys, &self.view, now).unwrap();
        self.publication = publication;
        changed
    }

    /// The files with one role changed and signed by `keys`, and the timestamp made to fit by `timestamp`.
    fn forged(&self, role: &str, keys: &[SigningKey], timestamp: &[SigningKey], change: impl Fn(&mut Value)) -> Files {
        let mut files = self.publication.files().clone();
        let name = format!("1.{role}.json");
        files.insert(name.clone(), resigned(&files[&name], keys, change));
        pin_snapshot(&mut files, timestamp);
        files
    }

    /// The files with roles below `c-00`, one below the other; `wide` of the first.
    fn delegating(&self, names: &[&str], wide: usize) -> Files {
        let mut files = self.publication.files().clone();
        let of_catalogue: Value = serde_json::from_slice(&files["1.catalogue.json"]).unwrap();
        let (keys, like) =
            (&of_catalogue["signed"]["delegations"]["keys"], &of_catalogue["signed"]["delegations"]["roles"][0]);
        let empty = files["1.c-01.json"].clone();
        let mut above = "c-00".to_owned();
        let mut added = Vec::new();
        for (depth, name) in names.iter().enumerate() {
            let named = |number: usize| if number == 0 { (*name).to_owned() } else { format!("{name}-{number}") };
            let roles: Vec<String> = (0..if depth == 0 { wide } else { 1 }).map(named).collect();
            let delegated = roles.iter().map(|role| {
                let mut delegated = like.clone();
                delegated["name"] = json!(role);
                delegated
            });
            let delegations = json!({ "keys": keys, "roles": delegated.collect::<Vec<Value>>() });
            let file = format!("1.{above}.json");
            let bytes =
                resigned(&files[&file], &self.keys.catalogue, |signed| signed["delegations"] = delegations.clone());
            files.insert(file, bytes);
            for role in roles {
                let file = format!("1.{role}.json");
                files.entry(file).or_insert_with(|| {
                    added.push(format!("{role}.json"));
                    empty.clone()
                });
            }
            above = (*name).to_owned();
        }
        files.insert(
            "1.snapshot.json".into(),
            resigned(&files["1.snapshot.json"], &self.keys.snapshot, |signed| {
                added.iter().for_each(|file| signed["meta"][file] = json!({ "version": 1 }));
            }),
        );
        fit(&mut files, &self.keys.snapshot, &self.keys.timestamp);
        files
    }

    /// The files with a target added to a role. `keys` sign the role, the snapshot and the timestamp.
    fn with_target(&self, role: &str, path: &str, document: &[u8], keys: [&Vec<SigningKey>; 3]) -> Files {
        let digest = Digest::of(&[document]);
        let mut files = self.publication.files().clone();
        let role_file = format!("1.{role}.json");
        let bytes = resigned(&files[&role_file], keys[0], |signed| {
            signed["targets"][path] = json!({ "length": document.len(), "hashes": { "sha256": digest.to_string() } });
        });
        files.insert(role_file, bytes);
        let (directory, name) = path.rsplit_once('/').unwrap();
        files.insert(format!("{directory}/{digest}.{name}"), document.to_vec().into());
        fit(&mut files, keys[1], keys[2]);
        files
    }
}

/// Lets the snapshot say what the roles are now, and the timestamp what the snapshot is.
fn fit(files: &mut Files, snapshot: &[SigningKey], timestamp: &[SigningKey]) {
    let name = "1.snapshot.json";
    let meta: Value = serde_json::from_slice(&files[name]).unwrap();
    let roles = meta["signed"]["meta"]
        .as_object()
        .unwrap()
        .keys()
        .map(|file| (file.strip_suffix(".json").unwrap(), Digest::of(&[&files[&format!("1.{file}")]])));
    let roles: BTreeMap<&str, Digest> = roles.collect();
    let fitted = resigned(&files[name], snapshot, |signed| {
        for (role, digest) in &roles {
            if let Some(hashes) = signed["meta"][format!("{role}.json")].get_mut("hashes") {
                hashes["sha256"] = json!(digest.to_string());
            }
        }
        signed[ROLES_SHA256] = json!(digest_of_roles(&roles).to_string());
    });
    files.insert(name.into(), fitted);
    pin_snapshot(files, timestamp);
}

fn pin_snapshot(files: &mut Files, timestamp: &[SigningKey]) {
    let snapshot = files["1.snapshot.json"].clone();
    let fitted = resigned(&files[TIMESTAMP], timestamp, |signed| {
        signed["meta"]["snapshot.json"]["length"] = json!(snapshot.len());
        signed["meta"]["snapshot.json"]["hashes"]["sha256"] = json!(Digest::of(&[&snapshot]).to_string());
    });
    files.insert(TIMESTAMP.into(), fitted);
    in_the_ledger(files, timestamp);
}

/// Lets the checkpoint contain the timestamp as it is now, in the place of the one that it contains.
fn in_the_ledger(files: &mut Files, keys: &[SigningKey]) {
    let (name, bytes) = files.iter().find(|(name, _)| name.ends_with(".checkpoint.json")).unwrap();
    let (name, mut file) = (name.clone(), CheckpointFile::parse(bytes).unwrap());
    let before = Checkpoint::parse(&file.checkpoint).unwrap();
    let version = name.split_once('.').unwrap().0.parse().unwrap();
    let last = leaf(version, &Digest::of(&[&files[TIMESTAMP]]));
    let root = root_of_path(last, before.size - 1, before.size, &file.path).unwrap();
    file.checkpoint = Checkpoint { root, ..before }.to_text();
    for (signature, key) in file.signatures.iter_mut().zip(keys) {
        signature.sig = hex::encode(key.sign(file.checkpoint.as_bytes()));
    }
    files.insert(name, file.to_bytes());
}

/// The file changed, and signed by `keys` under the names that the file gives its signers, as the best forger would.
fn resigned(file: &Bytes, keys: &[SigningKey], change: impl Fn(&mut Value)) -> Bytes {
    let mut file: Value = serde_json::from_slice(file).unwrap();
    change(&mut file["signed"]);
    let canonical = to_canonical_bytes(&file["signed"]).unwrap();
    for (signature, key) in file["signatures"].as_array_mut().unwrap().iter_mut().zip(keys) {
        signature["sig"] = json!(hex::encode(key.sign(&canonical)));
    }
    serde_json::to_vec(&file).unwrap().into()
}

fn role_keys() -> RoleKeys {
    let key = || vec![SigningKey::generate().0];
    RoleKeys {
        root: key(),
        targets: key(),
        members: key(),
        catalogue: key(),
        revoked: key(),
        snapshot: key(),
        timestamp: key(),
    }
}

fn view(members: usize) -> View {
    let instance = InstanceDocument {
        instance: "VN".parse().unwrap(),
        name: "A country".into(),
        authorities: vec![certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256)],
        timestamping: Vec::new(),
        purposes: Vec::new(),
    };
    let members = (0..members).map(|number| member(&format!("m{number}"), "ss1.example:5500")).collect();
    View { instance, members, revoked: Vec::new(), catalogue: Vec::new() }
}

fn member(name: &str, address: &str) -> MemberDocument {
    let server: proto::identifier::ServerId = format!("VN/GOV/{name}/ss1").parse().unwrap();
    MemberDocument {
        subsystems: vec![SubsystemDocument {
            subsystem: format!("VN/GOV/{name}/registry").parse().unwrap(),
            servers: vec![server.clone()],
        }],
        servers: vec![ServerDocument {
            server: server.clone(),
            address: address.into(),
            authentication: vec![certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256)],
            maintenance: None,
        }],
        signing: vec![SigningDocument {
            server,
            certificate: certificate_of(&rcgen::PKCS_ECDSA_P256_SHA256),
            until: None,
        }],
        ..bare(name)
    }
}

fn bare(name: &str) -> MemberDocument {
    MemberDocument {
        member: id(name),
        name: format!("The agency {name}"),
        standing: Standing::Active,
        subsystems: Vec::new(),
        servers: Vec::new(),
        signing: Vec::new(),
    }
}

fn certificate_of(algorithm: &'static rcgen::SignatureAlgorithm) -> Der {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    certificate.der().to_vec().into()
}

fn id(name: &str) -> MemberId {
    format!("VN/GOV/{name}").parse().unwrap()
}

fn bin_of(path: &str) -> String {
    format!("m-{}", &Digest::of(&[path.as_bytes()]).to_string()[..2])
}

fn files(changed: &[File]) -> Files {
    changed.iter().map(|file| (file.name.clone(), file.content.clone())).collect()
}

fn names(changed: &[File]) -> Vec<String> {
    changed.iter().map(|file| file.name.clone()).collect()
}
