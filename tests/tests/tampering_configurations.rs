//! The global configuration in bad hands: what a security server is pushed by whoever stands in the registry's place, and
//! what each of the registry's keys can do alone. The server keeps the version that is good, says why, and goes on.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use central_registry::command::Admin;
use central_registry::publish::{Publication, RoleKeys, Thresholds, View};
use proto::digest::Digest;
use proto::global_configuration::Freshness;
use proto::global_configuration::document::{InstanceDocument, MemberDocument, RevokedDocument};
use proto::global_configuration::ledger::{CheckpointFile, Ledger, Signature, checkpoint_file};
use proto::global_configuration::update::{Files, MAX_FILES, MAX_ROLE_BYTES, MAX_ROOTS, TIMESTAMP, target_file};
use proto::identifier::MemberId;
use proto::registration::{Invitation, Order};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry as registry_wire;
use security_server::global_configuration::Store;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;
use tests::attack::{self, AtProvider, end_of, told};
use tests::echo::said;
use tests::forged_log::Owner;
use tests::matrix::{Came, Family};
use tests::raw;
use tests::rogue::{self, Rogue, answer_to};
use tests::rogue_registry::RogueRegistry;
use tests::soon;
use tests::world::{Member, World};
use tokio::net::TcpListener;

const HOUR: Duration = Duration::from_secs(3600);

// ---- forging

/// Metadata changed, and signed by `keys` under the names that the file gives its signers, as the best forger would.
fn signed(file: &Bytes, keys: &[SigningKey], change: impl Fn(&mut Value)) -> Bytes {
    let mut file: Value = serde_json::from_slice(file).unwrap();
    change(&mut file["signed"]);
    let canonical = to_canonical_bytes(&file["signed"]).unwrap();
    for (signature, key) in file["signatures"].as_array_mut().unwrap().iter_mut().zip(keys) {
        signature["sig"] = json!(hex::encode(key.sign(&canonical)));
    }
    serde_json::to_vec(&file).unwrap().into()
}

/// The file of a role in these files, and its version.
fn role_file(files: &Files, role: &str) -> String {
    if role == "timestamp" {
        return TIMESTAMP.into();
    }
    let end = format!(".{role}.json");
    let version = |name: &String| name.strip_suffix(&end).and_then(|version| version.parse::<u64>().ok());
    files.keys().filter(|name| version(name).is_some()).max_by_key(|name| version(name)).unwrap().clone()
}

/// A role of these files changed, and signed by these keys.
fn change(files: &mut Files, role: &str, keys: &[SigningKey], change: impl Fn(&mut Value)) {
    let file = role_file(files, role);
    let bytes = signed(&files[&file], keys, change);
    files.insert(file, bytes);
}

/// Lets snapshot and timestamp say what the files are now, signed by these keys.
fn fit(files: &mut Files, snapshot: &[SigningKey], timestamp: &[SigningKey]) {
    let digest = |bytes: &Bytes| Digest::of(&[bytes]).to_string();
    let file = role_file(files, "snapshot");
    let pinned: Value = serde_json::from_slice(&files[&file]).unwrap();
    let pinned = pinned["signed"]["meta"].as_object().unwrap().iter().filter_map(|(name, pin)| {
        let bytes = files.get(&format!("{}.{name}", pin["version"].as_u64().unwrap()))?;
        Some((name.strip_suffix(".json").unwrap().to_owned(), bytes.clone()))
    });
    let roles: BTreeMap<String, Bytes> = pinned.collect();
    change(files, "snapshot", snapshot, |signed| {
        for (role, bytes) in &roles {
            if let Some(pin) = signed["meta"].get_mut(format!("{role}.json"))
                && pin.get("hashes").is_some()
            {
                pin["hashes"]["sha256"] = json!(digest(bytes));
            }
        }
        if signed.get("roles_sha256").is_some() {
            let lines: String = roles.iter().map(|(role, bytes)| format!("{role} {}\n", digest(bytes))).collect();
            signed["roles_sha256"] = json!(Digest::of(&[lines.as_bytes()]).to_string());
        }
    });
    let pinned = files[&file].clone();
    change(files, "timestamp", timestamp, |signed| {
        signed["meta"]["snapshot.json"]["length"] = json!(pinned.len());
        signed["meta"]["snapshot.json"]["hashes"]["sha256"] = json!(digest(&pinned));
    });
}

/// A document in the place of another, or of none, in the role that names it; `keys` sign the role.
fn put(files: &mut Files, role: &str, path: &str, document: Vec<u8>, keys: &[SigningKey]) {
    let digest = Digest::of(&[&document]);
    let target = json!({ "length": document.len(), "hashes": { "sha256": digest.to_string() } });
    change(files, role, keys, |signed| signed["targets"][path] = target.clone());
    files.insert(target_file(path, &digest), document.into());
}

fn bin_of(member: &MemberId) -> String {
    format!("m-{}", &Digest::of(&[MemberDocument::path_of(member).as_bytes()]).to_string()[..2])
}

fn portals_bin() -> String {
    bin_of(&"VN/GOV/portal".parse().unwrap())
}

fn stranger() -> Vec<SigningKey> {
    vec![SigningKey::generate().0]
}

fn stamp(time: Time) -> Value {
    json!(Time::from_millis(time.as_millis() / 1000 * 1000).to_jiff().to_string())
}

// ---- a server that follows a rogue

/// The civil registry's server, which follows a registry's door in the attacker's hands.
struct Following {
    world: World,
    registry: RogueRegistry,
}

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It is in force.
    InForce,
    /// It is not, and why.
    Refused(String),
    /// It is not looked at: its timestamp is the one in force.
    Known,
}

impl Following {
    /// `arrange` is at the registry's keys before anything is published.
    async fn new(arrange: impl FnOnce(&mut World)) -> Self {
        let mut world = World::arranged(async |world| arrange(world)).await;
        world.grant_all().await;
        let registry = RogueRegistry::open().await;
        world.registry = Some(registry.registry.clone());
        world.restart("moj").await;
        registry.asked_more_often_than(0).await;
        Self { world, registry }
    }

    /// What the server has.
    fn files(&self) -> &Files {
        self.world.publication.files()
    }

    fn version(&self) -> u64 {
        self.world.servers["moj"].server.store.current().load().version
    }

    /// What the honest registry would publish next.
    fn next(&self, change: impl FnOnce(&mut View)) -> Publication {
        let mut view = self.world.view();
        change(&mut view);
        self.world.publication.next(&self.world.keys, &view, self.world.now()).unwrap().0
    }

    /// What comes of these bytes in the place of a version.
    async fn pushed_bytes(&self, bytes: Bytes) -> Taken {
        let store = &self.world.servers["moj"].server.store;
        let (asked, before) = (self.registry.asked(), store.current().load().version);
        let mut versions = store.current().versions();
        versions.mark_unchanged();
        self.registry.push_bytes(bytes);
        // Either it is in force, or the server has broken off and asks again.
        tokio::select! {
            version = self.registry.asked_more_often_than(asked) => assert!([0, before].contains(&version)),
            changed = soon(versions.changed()) => changed.unwrap(),
        }
        if store.current().load().version == before {
            let why = self.world.servers["moj"].server.health().configuration_refused;
            Taken::Refused(why.unwrap_or_default())
        } else {
            Taken::InForce
        }
    }

    async fn pushed(&self, files: &Files) -> Taken {
        let kept = self.world.servers["moj"].server.store.files();
        if files.get(TIMESTAMP) == kept.get(TIMESTAMP) {
            // Nothing tells when it was read; what is pushed next is read behind it.
            self.registry.push_bytes(version_of(files));
            return Taken::Known;
        }
        self.pushed_bytes(version_of(files)).await
    }

    /// The honest registry goes on: its next version is taken, and nothing is said against it any more.
    async fn goes_on(&mut self) -> Result<(), String> {
        let next = self.next(|_| {});
        let taken = self.pushed(next.files()).await;
        if taken != Taken::InForce {
            return Err(format!("the honest version: {taken:?}"));
        }
        self.world.publication = next;
        let health = self.world.servers["moj"].server.health();
        if health.configuration_refused.is_some() || !health.ready {
            return Err(format!("after the honest version: {health:?}"));
        }
        if self.world.servers["moj"].server.store.files() != *self.files() {
            return Err("what is in force is not what the honest registry published".to_owned());
        }
        Ok(())
    }

    /// Whether a call passes as before.
    async fn calls(&mut self) -> Result<(), String> {
        let answer = soon(self.world.raw().await.call(self.world.post("Unary"), raw::message(&said("")))).await;
        let heard = std::iter::from_fn(|| self.world.heard.try_recv().ok()).count();
        if told(&answer) == "status 0" && heard == 1 { Ok(()) } else { Err(format!("a call: {}", told(&answer))) }
    }

    /// What comes of a call by the portal's server, whatever that one thinks of its own configuration.
    async fn a_peer_calls(&mut self) -> Came {
        let (owner, rogue) = (Owner::of(&self.world, "portal"), Rogue::of(&self.world, "portal"));
        let frame = owner.frame(rogue.opening(&self.world));
        let mut client = rogue.connect(&self.world, "moj").await;
        let answer = soon(rogue::say(&mut client, &frame)).await;
        self.world.quiet().await;
        let reached = std::iter::from_fn(|| self.world.heard.try_recv().ok()).count();
        Came { end: end_of(&answer), recorded: Vec::new(), reached }
    }

    /// An attack that changes nothing: refused for this reason, calls go on, and so does the honest registry.
    async fn refuses(&mut self, why: &str, bytes: Bytes) -> Result<(), String> {
        let configuration = self.world.servers["moj"].server.store.current().load();
        match self.pushed_bytes(bytes).await {
            Taken::Refused(said) if said.contains(why) => {}
            other => return Err(format!("wanted {why:?}, came {other:?}")),
        }
        let after = self.world.servers["moj"].server.store.current().load();
        if after.digest != configuration.digest {
            return Err("another configuration is in force".into());
        }
        self.calls().await?;
        self.goes_on().await
    }
}

/// A version as the watch pushes it.
fn version_of(files: &Files) -> Bytes {
    let file =
        |(name, content): (&String, &Bytes)| registry_wire::File { name: name.clone(), content: content.clone() };
    let version = files.get(TIMESTAMP).and_then(|bytes| {
        serde_json::from_slice::<Value>(bytes).ok().and_then(|file| file["signed"]["version"].as_u64())
    });
    raw::message(&registry_wire::Version {
        version: version.unwrap_or_default(),
        files: files.iter().map(file).collect(),
    })
}

/// Another member, with keys that a thief made.
fn intruder(world: &World) -> MemberDocument {
    let like = &world.members["portal"].document;
    MemberDocument {
        member: "VN/GOV/intruder".parse().unwrap(),
        subsystems: Vec::new(),
        servers: Vec::new(),
        signing: Vec::new(),
        ..like.clone()
    }
}

// ---- forged, old, mixed, endless

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_the_good_configuration_whatever_it_is_pushed() {
    let mut family = Family::of(
        "a_server_keeps_the_good_configuration_whatever_it_is_pushed",
        "whoever has the key of the registry's door",
    );
    // The timestamp wants two keys.
    let two_keys = |world: &mut World| {
        world.keys.timestamp.push(SigningKey::generate().0);
        world.thresholds = Thresholds { timestamp: 2, ..Thresholds::SANDBOX };
    };
    let mut at = Following::new(two_keys).await;
    type Forge = fn(&Following) -> Files;
    let rows: Vec<(&str, &str, Forge)> = vec![
        // Forged.
        ("another root", "1.root.json has other bytes", |at| elsewhere(at).files().clone()),
        ("everything but the root signed by others", "good signatures", |at| {
            let mut files = elsewhere(at).files().clone();
            files.insert("1.root.json".into(), at.files()["1.root.json"].clone());
            files
        }),
        ("a next root that the last one's keys did not sign", "root bears 0 good signatures", |at| {
            let mut files = at.next(|_| {}).files().clone();
            let root = signed(&files["1.root.json"], &stranger(), |signed| signed["version"] = json!(2));
            files.insert("2.root.json".into(), root);
            files
        }),
        ("a root that is not the next", "the root after version 1 must be the next one, and this is version 3", |at| {
            let mut files = at.next(|_| {}).files().clone();
            let root = signed(&files["1.root.json"], &at.world.keys.root, |signed| signed["version"] = json!(3));
            files.insert("2.root.json".into(), root);
            files
        }),
        ("a member added by a stranger", "bears 0 good signatures", |at| with_intruder(at, None, &stranger())),
        ("a member added by the catalogue's key", "bears 0 good signatures", |at| {
            with_intruder(at, None, &at.world.keys.catalogue)
        }),
        ("a timestamp that nobody signed", "timestamp bears 0 good signatures", |at| {
            let mut files = at.next(|_| {}).files().clone();
            change(&mut files, "timestamp", &[], |signed| signed["version"] = json!(1000));
            files
        }),
        ("a document changed on the way", "is not the file that was signed for", |at| {
            let mut files = moved(at).files().clone();
            let of_it = |name: &&String| name.ends_with(".portal.json") && !at.files().contains_key(*name);
            let name = files.keys().find(of_it).unwrap().clone();
            let changed = String::from_utf8(files[&name].to_vec()).unwrap().replace("127.0.0.1:1\"", "127.0.0.1:2\"");
            files.insert(name, changed.into());
            files
        }),
        // Older.
        ("the version before", "goes back from version", |at| {
            // What was in force before the last honest version.
            let before = Publication::first(&at.world.keys, &at.world.thresholds, &at.world.view(), at.world.now());
            let mut files = before.unwrap().files().clone();
            files.insert("1.root.json".into(), at.files()["1.root.json"].clone());
            files
        }),
        ("a snapshot of before under a new timestamp", "goes back from version", |at| {
            let mut files = moved(at).files().clone();
            change(&mut files, "timestamp", &at.world.keys.timestamp, |signed| {
                signed["meta"]["snapshot.json"]["version"] = json!(0);
            });
            files
        }),
        ("a bin of before under a new snapshot", "goes back from version", |at| {
            let mut files = moved(at).files().clone();
            let bin = portals_bin();
            change(&mut files, "snapshot", &at.world.keys.snapshot, |signed| {
                signed["meta"][format!("{bin}.json")]["version"] = json!(0);
            });
            fit(&mut files, &at.world.keys.snapshot, &at.world.keys.timestamp);
            files
        }),
        // Expired.
        ("a timestamp past its time", "timestamp expired", |at| expired(at, "timestamp")),
        ("a snapshot past its time", "snapshot expired", |at| expired(at, "snapshot")),
        ("targets past their time", "targets expired", |at| expired(at, "targets")),
        ("a delegated role past its time", "members expired", |at| expired(at, "members")),
        ("a bin past its time", "expired", |at| expired(at, &portals_bin())),
        ("the revoked keys past their time", "revoked expired", |at| expired(at, "revoked")),
        // Mixed.
        ("a new timestamp over the old snapshot", "is not the file that was signed for", |at| {
            let (old, mut files) = (at.files(), moved(at).files().clone());
            let elder = old[&role_file(old, "snapshot")].clone();
            let name = newest(&files, old, "snapshot");
            files.insert(name, elder);
            files
        }),
        ("a new snapshot over an old bin", "is not the file that was signed for", |at| {
            let (old, mut files) = (at.files(), moved(at).files().clone());
            let bin = portals_bin();
            let elder = old[&role_file(old, &bin)].clone();
            let name = newest(&files, old, &bin);
            files.insert(name, elder);
            files
        }),
        ("a snapshot of one version with the targets of another", "is not the file that was signed for", |at| {
            let (old, mut files) = (at.files(), renamed(at).files().clone());
            let elder = old[&role_file(old, "targets")].clone();
            let name = newest(&files, old, "targets");
            files.insert(name, elder);
            files
        }),
        // Split: both views are signed by the right keys.
        ("another view of the version in force", "one version was signed twice", |at| {
            let before = at.files();
            let mut files = before.clone();
            change(&mut files, "timestamp", &at.world.keys.timestamp, |signed| {
                signed["signed_at"] = stamp(at.world.now().minus(Duration::from_secs(60)));
            });
            files
        }),
        ("the next version of another view", "has other bytes than the file of that name that is trusted", |at| {
            // It rests on a bin of the version in force that says something else there.
            let mut files = at.next(|_| {}).files().clone();
            let name = role_file(&files, &portals_bin());
            files.insert(name.clone(), signed(&files[&name], &at.world.keys.members, |signed| signed["x"] = json!(1)));
            files
        }),
        ("another instance, by the same keys", "is no member of the instance EE", |at| {
            let mut files = renamed(at).files().clone();
            let instance = InstanceDocument { instance: "EE".parse().unwrap(), ..at.world.instance.clone() };
            put(&mut files, "targets", "instance.json", instance.to_bytes(), &at.world.keys.targets);
            fit(&mut files, &at.world.keys.snapshot, &at.world.keys.timestamp);
            files
        }),
        // Truncated.
        ("no file", "timestamp.json is named by the version and missing", |_| Files::new()),
        ("a timestamp cut short", "is no metadata of its kind", |at| cut(at, "timestamp")),
        ("a snapshot cut short", "is not the file that was signed for", |at| cut(at, "snapshot")),
        ("a bin cut short", "is no metadata of its kind", |at| cut(at, &portals_bin())),
        ("the snapshot left out", "snapshot.json is named by the version and missing", |at| without(at, ".snapshot.")),
        ("a bin left out", "is named by the version and missing", |at| without(at, &format!(".{}.", portals_bin()))),
        ("a document left out", "is named by the version and missing", |at| without(at, ".portal.json")),
        (
            "a bin that the snapshot does not pin",
            "is not the file that was signed for: snapshot removes m-42.json",
            |at| {
                let mut files = moved(at).files().clone();
                change(&mut files, "snapshot", &at.world.keys.snapshot, |signed| {
                    signed["meta"].as_object_mut().unwrap().remove("m-42.json");
                });
                fit(&mut files, &at.world.keys.snapshot, &at.world.keys.timestamp);
                files
            },
        ),
        // Endless.
        ("a timestamp of more than 16 KiB", "timestamp.json: ", |at| padded(at, "timestamp", 16 * 1024 + 1)),
        ("a role of more than 1 MiB", "at most 1048576 are taken", |at| padded(at, &portals_bin(), MAX_ROLE_BYTES + 1)),
        ("more files than any version has", "files: 200001, at most 200000 are taken", |at| {
            let mut files = moved(at).files().clone();
            let more = MAX_FILES + 1 - files.len();
            files.extend((0..more).map(|number| (format!("unnamed-{number}"), Bytes::new())));
            files
        }),
        ("more roots than any version has", "roots: ", |at| {
            let mut files = at.next(|_| {}).files().clone();
            let mut root = files["1.root.json"].clone();
            for version in 2..=MAX_ROOTS + 2 {
                root = signed(&root, &at.world.keys.root, |signed| signed["version"] = json!(version));
                files.insert(format!("{version}.root.json"), root.clone());
            }
            files
        }),
        // A threshold of two, met by one.
        (
            "a timestamp by one of its two keys",
            "timestamp bears 1 good signatures of its keys, and 2 are needed",
            |at| by_one_key(at, |signatures| drop(signatures.pop())),
        ),
        ("a timestamp signed twice by one key", "signed twice by the key", |at| {
            by_one_key(at, |signatures| signatures[1] = signatures[0].clone())
        }),
        ("one signature under both keys", "timestamp bears 1 good signatures of its keys, and 2 are needed", |at| {
            by_one_key(at, |signatures| signatures[1]["sig"] = signatures[0]["sig"].clone())
        }),
    ];
    for (what, why, forge) in rows {
        let forged = forge(&at);
        let judged = at.refuses(why, version_of(&forged)).await;
        if judged.is_err() {
            at = Following::new(two_keys).await;
        }
        family.judged(what, judged);
    }
    // What is no version at all ends the watch, and it begins anew.
    let announced = {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::MAX);
        bytes.freeze()
    };
    for (what, bytes) in [
        ("a message that never ends", announced),
        ("no message of the protocol", raw::flagged(0, &[0xff; 64])),
        ("a message that says it is compressed", raw::flagged(1, &[0; 64])),
    ] {
        let judged = at.refuses("", bytes).await;
        family.judged(what, judged);
    }
    // A name is never a path: what else is in a version is not looked at.
    let next = at.next(|_| {});
    let mut files = next.files().clone();
    for name in ["../../escaped", "/tmp/escaped", "current", "lock", "9.0.pack"] {
        files.insert(name.into(), Bytes::from_static(b"escaped"));
    }
    let taken = at.pushed(&files).await;
    at.world.publication = next;
    let kept = at.world.servers["moj"].server.store.files();
    let judged = if taken == Taken::InForce && kept == *at.files() { Ok(()) } else { Err(format!("{taken:?}")) };
    family.judged_to_pass("files of other names beside a good version", judged);
    let calls = at.calls().await;
    family.judged_to_pass("a call, after all of it", calls);
    family.holds();
}

/// The same country as somebody else would publish it.
fn elsewhere(at: &Following) -> Publication {
    let key = || vec![SigningKey::generate().0];
    let keys = RoleKeys {
        root: key(),
        targets: key(),
        members: key(),
        catalogue: key(),
        revoked: key(),
        snapshot: key(),
        timestamp: key(),
    };
    let first = Publication::first(&keys, &Thresholds::SANDBOX, &at.world.view(), at.world.now()).unwrap();
    let mut publication = first;
    while publication.version() <= at.version() {
        publication = publication.next(&keys, &at.world.view(), at.world.now()).unwrap().0;
    }
    publication
}

/// The honest next version, in which the portal's server has another address.
fn moved(at: &Following) -> Publication {
    at.next(|view| {
        let portal = view.members.iter_mut().find(|member| member.member.as_str() == "VN/GOV/portal").unwrap();
        portal.servers[0].address = "127.0.0.1:1".into();
    })
}

/// The honest next version, in which the instance has another name: `targets` says so.
fn renamed(at: &Following) -> Publication {
    at.next(|view| view.instance.name = "Another name".into())
}

/// The file of a role that the next version brings.
fn newest(files: &Files, old: &Files, role: &str) -> String {
    let end = format!(".{role}.json");
    files.keys().find(|name| name.ends_with(&end) && !old.contains_key(*name)).unwrap().clone()
}

/// The honest next version, and in it a member that nobody admitted: these keys sign the role that names it.
fn with_intruder(at: &Following, role: Option<&str>, keys: &[SigningKey]) -> Files {
    let mut files = moved(at).files().clone();
    let document = intruder(&at.world);
    let role = role.map_or_else(|| bin_of(&document.member), str::to_owned);
    anew(at, &mut files, &role, keys);
    put(&mut files, &role, &MemberDocument::path_of(&document.member), document.to_bytes(), keys);
    fit(&mut files, &at.world.keys.snapshot, &at.world.keys.timestamp);
    files
}

/// The honest next version but for one role, which its keys signed long ago.
fn expired(at: &Following, role: &str) -> Files {
    let keys = &at.world.keys;
    let mut files = moved(at).files().clone();
    let (past, before) = (stamp(at.world.now().minus(HOUR)), stamp(at.world.now().minus(2 * HOUR)));
    match role {
        "timestamp" => change(&mut files, role, &keys.timestamp, |signed| {
            signed["expires"] = past.clone();
            signed["signed_at"] = before.clone();
        }),
        "snapshot" => {
            change(&mut files, role, &keys.snapshot, |signed| signed["expires"] = past.clone());
            fit(&mut files, &keys.snapshot, &keys.timestamp);
        }
        _ => {
            let signers = match role {
                "targets" => &keys.targets,
                "revoked" => &keys.revoked,
                _ => &keys.members,
            };
            anew(at, &mut files, role, signers);
            change(&mut files, role, signers, |signed| signed["expires"] = past.clone());
            fit(&mut files, &keys.snapshot, &keys.timestamp);
        }
    }
    files
}

/// Signs a role again in a version that the server has not, and has the snapshot's key say so.
fn anew(at: &Following, files: &mut Files, role: &str, keys: &[SigningKey]) {
    let (name, version) = (role_file(files, role), at.version() + 1);
    let bytes = signed(&files.remove(&name).unwrap(), keys, |signed| signed["version"] = json!(version));
    files.insert(format!("{version}.{role}.json"), bytes);
    change(files, "snapshot", &at.world.keys.snapshot, |signed| {
        signed["meta"][format!("{role}.json")]["version"] = json!(version);
    });
}

fn cut(at: &Following, role: &str) -> Files {
    let mut files = moved(at).files().clone();
    let name = if role == "timestamp" { TIMESTAMP.to_owned() } else { newest(&files, at.files(), role) };
    let half = files[&name].slice(..files[&name].len() / 2);
    files.insert(name, half);
    files
}

fn without(at: &Following, part: &str) -> Files {
    let mut files = moved(at).files().clone();
    files.retain(|name, _| !name.contains(part) || at.files().contains_key(name));
    files
}

fn padded(at: &Following, role: &str, length: usize) -> Files {
    let mut files = moved(at).files().clone();
    let name = if role == "timestamp" { TIMESTAMP.to_owned() } else { newest(&files, at.files(), role) };
    let mut bytes = files[&name].to_vec();
    bytes.resize(length, b' ');
    files.insert(name, bytes.into());
    files
}

fn by_one_key(at: &Following, change: impl Fn(&mut Vec<Value>)) -> Files {
    let mut files = at.next(|_| {}).files().clone();
    let mut file: Value = serde_json::from_slice(&files[TIMESTAMP]).unwrap();
    change(file["signatures"].as_array_mut().unwrap());
    files.insert(TIMESTAMP.into(), serde_json::to_vec(&file).unwrap().into());
    files
}

// ---- one key each

/// What a thief of one key makes of a version: of the one that everybody has, or of the next one, which he holds back and
/// gives on otherwise.
type Theft = fn(&Following, &[SigningKey]) -> Files;

/// What a server makes of files that follow on what it has, and what one that joins makes of them.
async fn both(at: &Following, files: &Files) -> (Taken, Taken) {
    let following = at.pushed(files).await;
    let directory = tempfile::tempdir().unwrap();
    let joining = Store::create(directory.path(), at.world.publication.anchor().clone(), files, at.world.now());
    let joining = match joining {
        Ok(_) => Taken::InForce,
        Err(error) => Taken::Refused(error.to_string()),
    };
    (following, joining)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_single_key_of_a_role_changes_what_a_server_reads() {
    let mut family = Family::of(
        "no_single_key_of_a_role_changes_what_a_server_reads",
        "whoever has one key of the registry, and its door",
    );
    let mut at = Following::new(|_| {}).await;
    let thefts: [(&str, Theft); 8] = [
        ("a member of its own, in the bin that everybody has", |at, thief| {
            let mut files = at.files().clone();
            let document = intruder(&at.world);
            let path = MemberDocument::path_of(&document.member);
            put(&mut files, &bin_of(&document.member), &path, document.to_bytes(), thief);
            files
        }),
        ("another key for a member, in the bin that the next version changes", |at, thief| {
            let mut files = moved(at).files().clone();
            let mut document = at.world.members["portal"].document.clone();
            let address = "127.0.0.1:1".parse().unwrap();
            document.signing = Member::certified(&at.world, &at.world.members["portal"], address).document.signing;
            let (bin, path) = (bin_of(&document.member), MemberDocument::path_of(&document.member));
            let name = newest(&files, at.files(), &bin);
            let digest = Digest::of(&[&document.to_bytes()]);
            let target = json!({ "length": document.to_bytes().len(), "hashes": { "sha256": digest.to_string() } });
            let bytes = signed(&files[&name], thief, |signed| signed["targets"][&path] = target.clone());
            files.insert(name, bytes);
            files.insert(target_file(&path, &digest), document.to_bytes().into());
            files
        }),
        ("a member gone, in the bin that the next version changes", |at, thief| {
            let mut files = moved(at).files().clone();
            let document = &at.world.members["portal"].document;
            let name = newest(&files, at.files(), &bin_of(&document.member));
            let path = MemberDocument::path_of(&document.member);
            let bytes = signed(&files[&name], thief, |signed| {
                signed["targets"].as_object_mut().unwrap().remove(&path);
            });
            files.insert(name, bytes);
            files
        }),
        ("delegations to its own key, in the targets that everybody has", |at, thief| {
            let mut files = at.files().clone();
            delegate(&mut files, &role_file(at.files(), "targets"), thief);
            files
        }),
        ("delegations to its own key, in the targets that the next version changes", |at, thief| {
            let mut files = renamed(at).files().clone();
            let name = newest(&files, at.files(), "targets");
            delegate(&mut files, &name, thief);
            files
        }),
        ("a revocation left out of the version that brings it", |at, thief| {
            let key = at.world.members["portal"].signing.public().id();
            let mut files = at.next(|view| view.revoked.push(key.into())).files().clone();
            let old = at.files()[&role_file(at.files(), "revoked")].clone();
            let name = newest(&files, at.files(), "revoked");
            let version: u64 = name.split('.').next().unwrap().parse().unwrap();
            files.insert(name, signed(&old, thief, |signed| signed["version"] = json!(version)));
            files.extend(
                at.files()
                    .iter()
                    .map(|(name, bytes)| (name.clone(), bytes.clone()))
                    .filter(|(name, _)| name.starts_with("revoked/")),
            );
            files
        }),
        ("a revocation of its own, in the list that everybody has", |at, thief| {
            let mut files = at.files().clone();
            let key = at.world.members["portal"].signing.public().id();
            let path = RevokedDocument::path_of(RevokedDocument::shard_of(&key));
            put(
                &mut files,
                "revoked",
                &path,
                RevokedDocument { keys: vec![key], ..Default::default() }.to_bytes(),
                thief,
            );
            files
        }),
        ("the version that everybody has, put together otherwise", |at, thief| {
            let mut files = moved(at).files().clone();
            let name = newest(&files, at.files(), "snapshot");
            let bin = format!("{}.json", portals_bin());
            let old: Value = serde_json::from_slice(&at.files()[&role_file(at.files(), "snapshot")]).unwrap();
            let elder = old["signed"]["meta"][&bin].clone();
            let bytes = signed(&files[&name], thief, |signed| signed["meta"][&bin] = elder.clone());
            files.insert(name, bytes);
            files
        }),
    ];
    for role in ["targets", "members", "catalogue", "revoked", "snapshot"] {
        for (what, theft) in &thefts {
            // The thief signs everything with the one key that he has.
            let keys = &at.world.keys;
            let stolen = match role {
                "targets" => &keys.targets,
                "members" => &keys.members,
                "catalogue" => &keys.catalogue,
                "revoked" => &keys.revoked,
                _ => &keys.snapshot,
            };
            let files = theft(&at, stolen);
            let (following, joining) = both(&at, &files).await;
            let judged = match (&following, &joining) {
                (Taken::Refused(_) | Taken::Known, Taken::Refused(_)) => at.goes_on().await,
                _ => Err(format!("a server that follows: {following:?}; one that joins: {joining:?}")),
            };
            if judged.is_err() {
                at = Following::new(|_| {}).await;
            }
            family.judged(&format!("{what}, with the key of {role}"), judged);
        }
    }
    let calls = at.calls().await;
    family.judged_to_pass("a call, after all of it", calls);
    let next = moved(&at).files().clone();
    let (following, joining) = both(&at, &next).await;
    let taken = following == Taken::InForce && joining == Taken::InForce;
    family.judged_to_pass("the next version, untouched", if taken { Ok(()) } else { Err(format!("{following:?}")) });
    family.holds();
}

/// Lets `targets` delegate the members to a key of the thief's, too.
fn delegate(files: &mut Files, name: &str, keys: &[SigningKey]) {
    let own = pem(&SigningKey::generate().0);
    let bytes = signed(&files[name], keys, |signed| {
        let delegations = &mut signed["delegations"];
        let members = delegations["roles"].as_array().unwrap().iter().position(|role| role["name"] == "members");
        let delegated = &mut delegations["roles"][members.unwrap()];
        let id = delegated["keyids"][0].as_str().unwrap().to_owned();
        delegated["keyids"] = json!([id, "00"]);
        let mut key = delegations["keys"][&id].clone();
        key["keyval"]["public"] = json!(own);
        delegations["keys"]["00"] = key;
    });
    files.insert(name.into(), bytes);
}

fn pem(key: &SigningKey) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(key.public().to_spki());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timestamps_key_alone_holds_back_for_a_while_and_changes_nothing() {
    let mut family = Family::of(
        "the_timestamps_key_alone_holds_back_for_a_while_and_changes_nothing",
        "whoever has the timestamp's key, and the registry's door",
    );
    let mut at = Following::new(|_| {}).await;
    let began = at.world.now();
    let again = |at: &Following, version: u64, now: Time| {
        let mut files = at.files().clone();
        // The thief's key signs checkpoints, too: of what the server holds, or of another ledger after it.
        let held = at.world.servers["moj"].server.store.current().load().ledger.clone().unwrap();
        let ledger = Ledger::awaiting(Some(&held.ledger), held.ledger.instance(), version);
        change(&mut files, "timestamp", &at.world.keys.timestamp, |signed| {
            signed["version"] = json!(version);
            signed["ledger"] = json!(ledger.name().to_string());
            signed["signed_at"] = stamp(now);
            signed["expires"] = stamp(now.plus(1000 * HOUR));
        });
        in_the_ledger(&mut files, ledger, version, &at.world.keys.timestamp[0]);
        files
    };
    // Another content wants another snapshot.
    let mut files = moved(&at).files().clone();
    change(&mut files, "snapshot", &at.world.keys.timestamp, |signed| {
        signed["meta"]["x.json"] = json!({ "version": 1 })
    });
    fit(&mut files, &at.world.keys.timestamp, &at.world.keys.timestamp);
    let judged = at.refuses("snapshot bears 0 good signatures", version_of(&files)).await;
    family.judged("another snapshot", judged);

    // It can say that nothing is new, and make that look fresh, as long as what it holds back would be good.
    let mut held = 0;
    for hours in [1, 24, 72, 143] {
        let now = began.plus(hours * HOUR);
        at.world.set_time(now);
        let files = again(&at, at.version() + 1, now);
        if at.pushed(&files).await == Taken::InForce {
            held += 1;
        }
    }
    let configuration = at.world.servers["moj"].server.store.current().load();
    let fresh = configuration.freshness(at.world.now()) == Freshness::Fresh;
    let judged = if held == 4 && fresh { Ok(()) } else { Err(format!("{held} times, fresh: {fresh}")) };
    family.judged_to_pass("what everybody has, until the snapshot ends", judged);
    at.world.set_time(began.plus(144 * HOUR));
    let files = again(&at, at.version() + 1, at.world.now());
    let taken = at.pushed(&files).await;
    let expired = at.world.servers["moj"].server.store.current().load().freshness(at.world.now());
    let refused = matches!(&taken, Taken::Refused(why) if why.contains("expired at"));
    let judged = if refused && expired == Freshness::Expired { Ok(()) } else { Err(format!("{taken:?}, {expired:?}")) };
    family.judged("what everybody has, after the snapshot's 144 hours", judged);
    family.refused("a call under what expired", "CONFIGURATION_EXPIRED", &[], at.a_peer_calls().await);

    // It can run ahead, so that the honest registry's versions are old; the root's keepers end that with another key.
    let mut at = Following::new(|_| {}).await;
    let files = again(&at, 1 << 40, at.world.now());
    let ahead = at.pushed(&files).await;
    let honest = at.next(|_| {});
    let behind = at.pushed(honest.files()).await;
    let held =
        ahead == Taken::InForce && matches!(&behind, Taken::Refused(why) if why.contains("goes back from version"));
    family.judged_to_pass("a version far ahead", if held { Ok(()) } else { Err(format!("{ahead:?}, {behind:?}")) });
    let calls = at.calls().await;
    family.judged_to_pass("a call meanwhile", calls);
    let fresh_key = SigningKey::generate().0;
    let mut files = honest.files().clone();
    let mut root: Value = serde_json::from_slice(&files["1.root.json"]).unwrap();
    let id = root["signed"]["roles"]["timestamp"]["keyids"][0].as_str().unwrap().to_owned();
    let mut key = root["signed"]["keys"].as_object_mut().unwrap().remove(&id).unwrap();
    key["keyval"]["public"] = json!(pem(&fresh_key));
    root["signed"]["keys"]["00"] = key;
    root["signed"]["roles"]["timestamp"]["keyids"] = json!(["00"]);
    root["signed"]["version"] = json!(2);
    let root = signed(&serde_json::to_vec(&root).unwrap().into(), &at.world.keys.root, |_| {});
    let mut timestamp: Value = serde_json::from_slice(&files[TIMESTAMP]).unwrap();
    timestamp["signatures"][0]["keyid"] = json!("00");
    let (version, named) = (honest.version(), [fresh_key]);
    let timestamp = signed(&serde_json::to_vec(&timestamp).unwrap().into(), &named, |_| {});
    files.insert("2.root.json".into(), root);
    files.insert(TIMESTAMP.into(), timestamp);
    // The registry's own ledger, which does not continue what the thief signed.
    let began = at.world.publication.trusted().configuration().ledger.clone().unwrap().ledger.clone();
    in_the_ledger(&mut files, began, version, &named[0]);
    let taken = at.pushed(&files).await;
    let recovered = taken == Taken::InForce && at.version() == honest.version();
    family.judged_to_pass("the next root replaces the key", if recovered { Ok(()) } else { Err(format!("{taken:?}")) });
    let stolen = again(&at, 1 << 41, at.world.now());
    let why = at.pushed(&stolen).await;
    let refused = matches!(&why, Taken::Refused(why) if why.contains("good signatures"));
    family.judged("the stolen key after that", if refused { Ok(()) } else { Err(format!("{why:?}")) });
    family.holds();
}

/// The files with the timestamp as the ledger's next leaf, and the checkpoint of it signed by this key under the name that
/// the timestamp's signature has.
fn in_the_ledger(files: &mut Files, mut ledger: Ledger, version: u64, key: &SigningKey) {
    files.retain(|name, _| !name.ends_with(".checkpoint.json"));
    let timestamp: Value = serde_json::from_slice(&files[TIMESTAMP]).unwrap();
    let keyid = timestamp["signatures"][0]["keyid"].as_str().unwrap().to_owned();
    let path = ledger.append(&Digest::of(&[&files[TIMESTAMP]]));
    let checkpoint = ledger.checkpoint().to_text();
    let sig = hex::encode(key.sign(checkpoint.as_bytes()));
    let geneses = ledger.geneses().to_vec();
    let file = CheckpointFile { checkpoint, geneses, path, signatures: vec![Signature { keyid, sig }] };
    files.insert(checkpoint_file(version), file.to_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_duty_keys_together_may_only_deny() {
    let mut family = Family::of(
        "three_duty_keys_together_may_only_deny",
        "whoever has the keys of revoked, snapshot and timestamp, and the registry's door",
    );
    let mut at = Following::new(|_| {}).await;
    let files = with_intruder(&at, None, &at.world.keys.revoked);
    let judged = at.refuses("bears 0 good signatures", version_of(&files)).await;
    family.judged("a member of its own, in its bin", judged);
    for (what, role) in [
        ("a member of its own, among the revoked keys", "revoked"),
        ("with the catalogue's key too: a member of its own, in the catalogue", "catalogue"),
    ] {
        let keys = if role == "revoked" { &at.world.keys.revoked } else { &at.world.keys.catalogue };
        let files = with_intruder(&at, Some(role), keys);
        let judged = at.refuses("no delegation allows it", version_of(&files)).await;
        family.judged(what, judged);
    }
    // Deny it can, and what it denied is denied for good.
    let key = at.world.members["portal"].signing.public().id();
    let revoking = at.next(|view| view.revoked.push(key.into()));
    let taken = at.pushed(revoking.files()).await;
    let answer = soon(at.world.raw().await.call(at.world.post("Unary"), raw::message(&said("")))).await;
    let denied = taken == Taken::InForce && told(&answer) == "UNPROVEN";
    family.judged_to_pass("a key revoked", if denied { Ok(()) } else { Err(format!("{taken:?}, {}", told(&answer))) });
    at.world.publication = revoking;
    let next = at.next(|view| {
        view.revoked.push(key.into());
        view.members[0].name = "Another name".into();
    });
    let mut files = next.files().clone();
    anew(&at, &mut files, "revoked", &at.world.keys.revoked);
    let path = RevokedDocument::path_of(RevokedDocument::shard_of(&key));
    put(&mut files, "revoked", &path, RevokedDocument::default().to_bytes(), &at.world.keys.revoked);
    fit(&mut files, &at.world.keys.snapshot, &at.world.keys.timestamp);
    let taken = at.pushed(&files).await;
    let refused = matches!(&taken, Taken::Refused(why) if why.contains("a revoked key never comes back"));
    family.judged("the revocation taken back", if refused { Ok(()) } else { Err(format!("{taken:?}")) });
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_authority_and_journal_alone_open_no_door() {
    let mut family = Family::of(
        "the_keys_of_authority_and_journal_alone_open_no_door",
        "whoever has the authority's key, or the audit journal's",
    );
    let mut at = AtProvider::of(attack::world().await).await;
    let draft = |at: &AtProvider| at.rogue.opening(&at.world);
    let frame = at.owner.frame(draft(&at));
    family.passes(
        "the member itself",
        "status 0",
        &["received request 0 half-close", "closed completed"],
        at.came_of(&[frame]).await,
    );

    // Certificates that the authority signed, and that no configuration lists.
    let certified = certified(&at.world, "portal");
    at.world.members.insert("thief", certified);
    let thief = Owner::of(&at.world, "thief");
    let mut own_line = Rogue::of(&at.world, "thief").connect(&at.world, "moj").await;
    let frame = at.owner.frame(draft(&at));
    let body = proto::transport::encode(&frame);
    family.refused(
        "an authentication certificate in the portal's name, and the portal's message",
        "UNPROVEN",
        &[],
        at.came_by(&mut own_line, body).await,
    );
    let frame = thief.frame(draft(&at));
    let body = proto::transport::encode(&frame);
    family.refused(
        "a signing certificate in the portal's name too",
        "UNPROVEN",
        &[],
        at.came_by(&mut own_line, body.clone()).await,
    );
    family.refused("the same, on the portal's own line", "UNPROVEN", &[], at.came(body).await);

    // The journal's key signs heads, as a member's does: of the registry's own journal.
    let journal = Owner { key: std::sync::Arc::new(SigningKey::generate().0), ..at.owner.clone() };
    let frame = journal.frame(draft(&at));
    family.refused("a head signed by the journal's key", "UNPROVEN", &[], at.came_of(&[frame]).await);
    let following = Following::new(|_| {}).await;
    let mut files = following.files().clone();
    change(&mut files, "timestamp", &stranger(), |signed| signed["version"] = json!(1000));
    let taken = following.pushed(&files).await;
    let refused = matches!(&taken, Taken::Refused(why) if why.contains("good signatures"));
    family.judged("a timestamp signed by the journal's key", if refused { Ok(()) } else { Err(format!("{taken:?}")) });

    // In the provider's place, with a certificate of the authority's for its name.
    let mut world = attack::world().await;
    let certified = self::certified(&world, "moj");
    world.members.insert("thief", certified);
    let started = world.servers.remove("moj").unwrap();
    let address = started.peers;
    started.shutdown().await;
    let owner = Owner::of(&world, "moj");
    let answer = move |request| {
        let owner = owner.clone();
        async move { rogue::streamed(vec![owner.frame(answer_to(&rogue::first_frame(request).await))]) }
    };
    Rogue::of(&world, "thief").serve(&world, TcpListener::bind(address).await.unwrap(), answer).await;
    let known = world.records("portal");
    let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("asked")))).await;
    world.quiet().await;
    let recorded = world.recorded("portal", known).into_iter().filter(|line| line.starts_with("closed")).collect();
    let came = Came { end: told(&answer), recorded, reached: attack::messages(&answer.body) };
    let what = "the provider's place, with a certificate in its name";
    family.refused(what, "PROVIDER_UNREACHABLE", &["closed not_sent"], came);
    family.holds();
}

/// This member's server again, with keys of a thief's, and certificates of them that the authority signed.
fn certified(world: &World, name: &str) -> Member {
    let address = "127.0.0.1:1".parse().unwrap();
    Member::certified(world, &world.members[name], address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_the_registrys_door_alone_holds_back_and_misleads_an_invitation() {
    let mut family = Family::of(
        "the_key_of_the_registrys_door_alone_holds_back_and_misleads_an_invitation",
        "whoever has the key of the registry's door",
    );
    let mut at = Following::new(|_| {}).await;
    let began = at.world.now();
    let calls = at.calls().await;
    family.judged_to_pass("a call before", calls);
    // Silence: an alarm after ten minutes, and the end after 72 hours.
    let mut stood = Vec::new();
    for after in [Duration::ZERO, Duration::from_secs(600), 71 * HOUR, 72 * HOUR] {
        at.world.set_time(began.plus(after));
        stood.push(at.world.servers["moj"].server.health().configuration);
    }
    let judged = if stood == ["fresh", "stale", "stale", "expired"] { Ok(()) } else { Err(format!("{stood:?}")) };
    family.judged("silence", judged);
    family.refused("a call after 72 hours of silence", "CONFIGURATION_EXPIRED", &[], at.a_peer_calls().await);

    // An admin that invites through that door is answered by the thief: what the invited server is told to trust is his.
    let theirs = elsewhere(&at);
    let digest = Digest::of(&[theirs.anchor()]);
    let invited = registry_wire::Invited { token: vec![1; 32].into(), expires: 0, anchor_digest: digest.to_wire() };
    let result = registry_wire::command_result::Result::Invited(invited);
    at.registry.answer_commands(&registry_wire::CommandResult { result: Some(result) });
    let now = at.world.now();
    let admin = Admin {
        instance: "VN".parse().unwrap(),
        registry: at.registry.registry.address.clone(),
        fingerprint: at.registry.registry.key,
        key: SigningKey::generate().0,
        clock: std::sync::Arc::new(move || now),
    };
    let order = Order::Invite(Invitation {
        member: "VN/GOV/tax".parse().unwrap(),
        name: None,
        server: "VN/GOV/tax/ss1".parse().unwrap(),
        subsystems: Vec::new(),
        valid: HOUR,
    });
    let invitation = admin.invite(&order).await.unwrap();
    let misled = invitation.anchor_digest == digest;
    // A finding, not a promise: the admin compares the digest with the one that `init` printed, or is misled.
    family.judged("an invitation with the thief's anchor", if misled { Ok(()) } else { Err("it is noticed".into()) });
    family.holds();
}
