//! Evidence files: two good ones, and each step of PROTOCOL.md 7 and 8.2 broken.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use proto::digest::Digest;
use proto::evidence::{self, EvidenceFile, Kept};
use proto::global_configuration::update::Files;
use proto::head::Head;
use proto::message::{Answer, Commitments, ConfigurationVersion, Contents, End, Facts, Header};
use proto::record::TreeName;
use proto::seal::Sender;
use proto::time::Time;
use proto::wire::relay as wire;
use serde_json::{Value, json};

use crate::configuration::{Draft, bin_of, certificate, delegation, ids, root, sign};
use crate::headers::{answer, following, opening};
use crate::logs::{Log, other, received, sent};
use crate::payloads::{committed, field, piece};
use crate::seals::malleated;
use crate::timestamps::Tsa;
use crate::{accept, key, refuse};

/// The files of the corpus by name, and the cases.
pub struct Corpus {
    pub anchor: Bytes,
    pub unary: Value,
    pub stream: Value,
    pub stamped: Value,
    pub cases: Vec<Value>,
}

/// Messages with what is beside them, before they are put into a file.
type Messages = Vec<(Header, wire::Seal, Bytes, Option<wire::Payload>)>;

pub fn corpus() -> Corpus {
    let (anchor, files) = Draft::new().signed();
    let unary = file(&files, unary_messages(&version_of(&files)));
    let stream = file(&files, stream_messages(&version_of(&files)));
    let stamped = stamped_file(&stamping(&Draft::new()).signed().1);
    let mut corpus = Corpus { anchor, unary, stream, stamped, cases: Vec::new() };
    corpus.add("a unary call", None, "unary.json", |_| ());
    corpus.add("a stream in its second attempt, its answer erased", None, "stream.json", |_| ());
    corpus.add("a unary call under two timestamps", None, "stamped.json", |_| ());
    forms(&mut corpus);
    headers_and_order(&mut corpus);
    configurations(&mut corpus);
    seals(&mut corpus);
    payloads(&mut corpus);
    timestamps(&mut corpus);
    corpus
}

impl Corpus {
    /// A case that differs from a good file in what `change` does. `step` is that which refuses it.
    fn add(&mut self, name: &str, step: Option<&str>, base: &str, change: impl FnOnce(&mut Value)) {
        let anchor = self.anchor.clone();
        self.add_with_anchor(name, step, base, &anchor, change);
    }

    fn add_with_anchor(
        &mut self,
        name: &str,
        step: Option<&str>,
        base: &str,
        anchor: &Bytes,
        change: impl FnOnce(&mut Value),
    ) {
        let good = match base {
            "unary.json" => &self.unary,
            "stream.json" => &self.stream,
            _ => &self.stamped,
        };
        let mut file = good.clone();
        change(&mut file);
        let mut changes = Vec::new();
        difference(good, &file, &mut Vec::new(), &mut changes);
        let mut input = json!({ "file": base, "changes": changes });
        if *anchor != self.anchor {
            input["anchor"] = json!(STANDARD.encode(anchor));
        }
        self.judge(name, step, input, file.to_string().as_bytes(), anchor);
    }

    fn judge(&mut self, name: &str, step: Option<&str>, input: Value, file: &[u8], anchor: &Bytes) {
        let judged = match evidence::verify(file, anchor) {
            Err(refused) => Some((refused.step(), refused.to_string())),
            Ok(report) => report.refused().map(|finding| (finding.step, finding.explanation.clone())),
        };
        let found = judged.as_ref().map(|(found, _)| *found);
        assert!(
            found == step || (found == Some("3.1") && step.is_some_and(|step| step.starts_with("3.1"))),
            "{name}: {judged:?}"
        );
        self.cases.push(match step {
            None => accept(name, input, json!({})),
            Some(step) => refuse(name, input, step),
        });
    }

    /// A unary call under another configuration.
    fn under(&mut self, name: &str, step: Option<&str>, draft: &Draft) {
        self.under_files(name, step, draft.signed());
    }

    fn under_files(&mut self, name: &str, step: Option<&str>, (anchor, files): (Bytes, Files)) {
        self.add_with_anchor(name, step, "unary.json", &anchor, |file| {
            file["configuration"] = based(&kept_of(file, &files));
        });
    }

    /// A unary call with other messages.
    fn with(&mut self, name: &str, step: Option<&str>, change: impl FnOnce(&mut Messages)) {
        let (_, files) = Draft::new().signed();
        let mut messages = unary_messages(&version_of(&files));
        change(&mut messages);
        self.add(name, step, "unary.json", |file| file["messages"] = json!(kept(messages)));
    }
}

fn forms(corpus: &mut Corpus) {
    let step = Some("7.1");
    corpus.add("another format", step, "unary.json", |file| file["format"] = json!("causeway/v2/evidence"));
    corpus.add("an exchange in upper case", step, "unary.json", |file| {
        file["exchange"] = json!("ABCDEF00ABCDEF00ABCDEF00ABCDEF00");
    });
    corpus.add("an unknown field", step, "unary.json", |file| file["note"] = json!("trust me"));
    corpus.add("an unknown field in a message", step, "unary.json", |file| file["messages"][0]["time"] = json!(0));
    corpus.add("a message without a seal", step, "unary.json", |file| {
        _ = fields(&mut file["messages"][0]).remove("seal")
    });
    corpus.add("no holder", step, "unary.json", |file| _ = fields(file).remove("holder"));
    corpus.add("a holder's server of three segments", step, "unary.json", |file| {
        file["holder"]["server"] = json!("VN/GOV/portal");
    });
    corpus.add("no message", step, "unary.json", |file| file["messages"] = json!([]));
    corpus.add("base64 without padding", step, "unary.json", |file| file["messages"][0]["seal"] = json!("AA"));
    corpus.add("base64 in the alphabet for URLs", step, "unary.json", |file| {
        file["messages"][0]["seal"] = json!("-_-_");
    });
    let anchor = corpus.anchor.clone();
    for (name, text) in
        [("no bytes", ""), ("a file cut off", r#"{"format": "causeway/v1/evidence", "exch"#), ("a list", "[]")]
    {
        corpus.judge(name, step, json!({ "text": text }), text.as_bytes(), &anchor);
    }
}

fn headers_and_order(corpus: &mut Corpus) {
    corpus.add("another exchange in the file", Some("7.2"), "unary.json", |file| {
        file["exchange"] = json!("08".repeat(16));
    });
    corpus.add("a repeated field in a header", Some("3.1.2"), "unary.json", |file| {
        append(&mut file["messages"][1]["header"], &[0x6a, 0x00]);
    });
    corpus.with("a header of attempt 0", Some("3.2.1"), |messages| {
        let mut header = wire::Header::decode(messages[0].0.as_bytes().clone()).expect("a good one");
        header.attempt = 0;
        let opening = Header::new(Facts { attempt: 0, ..(*messages[0].0).clone() });
        assert_eq!(opening.as_bytes()[..], header.encode_to_vec());
        messages[0].0 = opening;
    });
    corpus.add("an answer before its request", Some("7.3"), "unary.json", |file| list(file).swap(0, 1));
    corpus.add("a later attempt before an earlier one", Some("7.3"), "stream.json", |file| list(file).swap(0, 1));
    corpus.add("a holder who is no party", Some("7.3"), "unary.json", |file| {
        file["holder"] = json!({ "member": "VN/GOV/police", "server": "VN/GOV/police/ss1" });
    });
    corpus.add("a holder at a server that is no party", Some("7.3"), "unary.json", |file| {
        file["holder"]["server"] = json!("VN/GOV/portal/ss2");
    });
    corpus.add("the provider as the holder", None, "unary.json", |file| {
        file["holder"] = json!({ "member": "VN/GOV/moj", "server": "VN/GOV/moj/ss1" });
    });
    let (_, files) = Draft::new().signed();
    let elsewhere = {
        let facts = stream_messages(&version_of(&files))[1].0.clone();
        let mut facts = (*facts).clone();
        facts.route.provider = "VN/GOV/moj/land-registry".parse().expect("of the grammar");
        STANDARD.encode(Header::new(facts).as_bytes())
    };
    corpus.add("a second attempt at another provider", Some("7.3"), "stream.json", |file| {
        file["messages"][1]["header"] = json!(elsewhere);
    });
    corpus.add("an answer alone", Some("3.3.3"), "unary.json", |file| _ = list(file).remove(0));
    corpus.add("a request alone", None, "unary.json", |file| _ = list(file).remove(1));
    corpus.add("a message missing in the middle", Some("3.3.1"), "stream.json", |file| _ = list(file).remove(2));
    corpus.add("a message missing at the beginning", Some("3.3.1"), "stream.json", |file| _ = list(file).remove(1));
    corpus.add("the last message missing", None, "stream.json", |file| _ = list(file).pop());
    corpus.add("two messages of a direction exchanged", Some("3.3.1"), "stream.json", |file| list(file).swap(1, 2));
    corpus.add("the direction's messages apart", Some("7.3"), "stream.json", |file| list(file).swap(3, 4));
    corpus.add("a message twice", Some("3.3.4"), "unary.json", |file| {
        let first = file["messages"][0].clone();
        list(file).insert(1, first);
    });
}

fn configurations(corpus: &mut Corpus) {
    let (good_anchor, good_files) = Draft::new().signed();
    let changed = |change: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new();
        change(&mut draft);
        draft
    };
    let signers = |role: &'static str, signers: &[&'static str]| {
        let signers = signers.to_vec();
        changed(&move |draft: &mut Draft| _ = draft.signers.insert(role.into(), signers.clone()))
    };
    let expired = |role: &str| changed(&|draft| draft.role(role)["expires"] = json!("2027-01-15T08:00:00Z"));
    let without = |file: &str| {
        let mut files = good_files.clone();
        files.remove(&name_of(&files, file)).expect("a file of this name");
        (good_anchor.clone(), files)
    };
    let with_bytes = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let mut files = good_files.clone();
        let name = name_of(&files, file);
        let bytes = change(files[&name].to_vec());
        files.insert(name, bytes.into());
        (good_anchor.clone(), files)
    };
    let portal = bin_of("members/VN/GOV/portal.json");

    // The root.
    let step = Some("8.2.1");
    let with_anchor = |anchor: Bytes| (anchor, good_files.clone());
    corpus.under_files("an anchor that is no root", step, with_anchor(good_files["timestamp.json"].clone()));
    corpus.under_files("an anchor that is no JSON", step, with_anchor(Bytes::from_static(b"-----BEGIN")));
    corpus.under("an anchor that one of two signed", step, &signers("root", &["root 1"]));
    corpus.under("an anchor that one signed for two", step, &signers("root", &["root 1", "root 1"]));
    corpus.under("an anchor that a stranger signed with one", step, &signers("root", &["root 1", "stranger"]));
    corpus.under("a root that expired", step, &expired("root"));
    let under_two_names = changed(&|draft| {
        let root = draft.role("root");
        let first = ids(&["timestamp"])[0].clone();
        root["keys"]["another"] = root["keys"][&first].clone();
    });
    corpus.under("one key under two names", step, &under_two_names);
    corpus.under(
        "a key of another scheme",
        step,
        &changed(&|draft| {
            let first = ids(&["timestamp"])[0].clone();
            draft.role("root")["keys"][&first]["scheme"] = json!("ed25519");
        }),
    );
    corpus.under(
        "another major version of TUF",
        step,
        &changed(&|draft| draft.role("root")["spec_version"] = json!("2.0")),
    );
    let second = |version: u64, signers: &[&'static str]| {
        let signers = signers.to_vec();
        changed(&move |draft: &mut Draft| {
            draft.second_root = Some((root(version, &["timestamp 2"]), signers.clone()));
            draft.signers.insert("timestamp".into(), vec!["timestamp 2"]);
            draft.role("timestamp")["version"] = json!(4);
        })
    };
    corpus.under("a second root with another key of the timestamp", None, &second(2, &["root 2", "root 3"]));
    corpus.under("a second root that one of two signed", step, &second(2, &["root 3"]));
    corpus.under("a second root that jumps a version", step, &second(3, &["root 2", "root 3"]));
    corpus.under("a second root that is the first again", step, &second(1, &["root 2", "root 3"]));
    corpus.under("a second root, and a timestamp of the first one's key", Some("8.2.2"), &{
        let mut draft = second(2, &["root 2", "root 3"]);
        draft.signers.insert("timestamp".into(), vec!["timestamp"]);
        draft
    });

    // The timestamp.
    let step = Some("8.2.2");
    let stranger = sign(&root(1, &["stranger"]), &["root 1", "root 2"]);
    corpus.under_files("another anchor", step, with_anchor(stranger));
    corpus.under_files("no timestamp", step, without("timestamp.json"));
    corpus.under("a timestamp of a stranger", step, &signers("timestamp", &["stranger"]));
    corpus.under("a timestamp that nobody signed", step, &signers("timestamp", &[]));
    corpus.under(
        "a timestamp that expired in that moment",
        step,
        &changed(&|draft| {
            // The greatest time of the messages, to the millisecond.
            draft.role("timestamp")["expires"] = json!("2027-01-15T08:00:00.040Z");
        }),
    );
    corpus.under(
        "a timestamp that expires a millisecond later, of another version",
        None,
        &changed(&|draft| {
            draft.role("timestamp")["expires"] = json!("2027-01-15T08:00:00.041Z");
            draft.role("timestamp")["version"] = json!(4);
        }),
    );
    corpus.under(
        "a timestamp without its time of signing",
        step,
        &changed(&|draft| {
            _ = fields(draft.role("timestamp")).remove("signed_at");
        }),
    );
    corpus.under(
        "a timestamp of another kind",
        step,
        &changed(&|draft| draft.role("timestamp")["_type"] = json!("snapshot")),
    );
    corpus.under_files(
        "a version in the timestamp raised after signing",
        step,
        with_bytes("timestamp.json", &|bytes| {
            let text = String::from_utf8(bytes).expect("JSON");
            text.replace(r#""version":3}}"#, r#""version":4}}"#).replace(r#""version":3}"#, r#""version":4}"#).into()
        }),
    );
    corpus.under_files(
        "white space in the timestamp: the same when read",
        Some("7.4"),
        with_bytes("timestamp.json", &|bytes| [b" ", &bytes[..]].concat()),
    );

    // The snapshot.
    let step = Some("8.2.3");
    corpus.under_files("no snapshot", step, without("3.snapshot.json"));
    corpus.under_files(
        "a byte more in the snapshot",
        step,
        with_bytes("3.snapshot.json", &|bytes| [&bytes[..], b"\n"].concat()),
    );
    corpus.under("a snapshot of a stranger", step, &signers("snapshot", &["stranger"]));
    corpus.under("a snapshot that expired", step, &expired("snapshot"));
    corpus.under_files(
        "a timestamp that pins no SHA-256",
        step,
        Draft::new().signed_with(|roles| {
            role(roles, "timestamp")["meta"] = json!({ "snapshot.json": { "version": 3 } });
        }),
    );

    // Targets and the instance.
    let step = Some("8.2.4");
    corpus.under_files("no targets", step, without("1.targets.json"));
    corpus.under("targets that one of two signed", step, &signers("targets", &["person 1"]));
    corpus.under("targets that one signed twice", step, &signers("targets", &["person 1", "person 1", "person 2"]));
    corpus.under("targets that expired", step, &expired("targets"));
    corpus.under_files(
        "a snapshot that pins another version of targets",
        step,
        Draft::new().signed_with(|roles| {
            role(roles, "snapshot")["meta"]["targets.json"]["version"] = json!(2);
        }),
    );
    corpus.under_files(
        "a snapshot that does not pin targets",
        step,
        Draft::new().signed_with(|roles| {
            fields(&mut role(roles, "snapshot")["meta"]).remove("targets.json");
        }),
    );
    corpus.under_files("no document of the instance", step, without(".instance.json"));
    corpus.under_files(
        "another name in the instance's document",
        step,
        with_bytes(".instance.json", &|bytes| {
            String::from_utf8(bytes).expect("JSON").replace("Vectors", "vectors").into()
        }),
    );
    corpus.under(
        "an unknown field in the instance's document",
        step,
        &changed(&|draft| {
            draft.document("instance.json")["note"] = json!("x");
        }),
    );

    // Members.
    let step = Some("8.2.5");
    corpus.under_files("no members", step, without("1.members.json"));
    corpus.under("members that the duty officer signed", step, &signers("members", &["duty", "person 1"]));
    corpus.under("members that expired", step, &expired("members"));
    corpus.under_files("no bin of the consumer", step, without(&format!(".{portal}.json")));
    corpus.under("a bin that one of two signed", step, &{
        let mut draft = Draft::new();
        draft.signers.insert(portal.clone(), vec!["person 2"]);
        draft
    });
    corpus.under("a bin that expired", step, &expired(&portal));
    corpus.under_files(
        "a bin that does not name the consumer",
        step,
        Draft::new().signed_with(|roles| {
            role(roles, &portal)["targets"] = json!({});
        }),
    );
    corpus.under(
        "a bin whose hash prefix is another",
        step,
        &changed(&|draft| {
            for bin in array(&mut draft.role("members")["delegations"]["roles"]) {
                if bin["name"] == json!(portal) {
                    bin["path_hash_prefixes"] = json!(["zz"]);
                }
            }
        }),
    );
    corpus.under(
        "two bins for one path",
        step,
        &changed(&|draft| {
            let second = delegation("m-all", &["person 1", "person 2"], 2, json!({ "path_hash_prefixes": [""] }));
            array(&mut draft.role("members")["delegations"]["roles"]).push(second);
        }),
    );
    corpus.under(
        "members that may not speak of members",
        step,
        &changed(&|draft| {
            draft.role("targets")["delegations"]["roles"][1]["paths"] = json!(["catalogue/*/*/*.json"]);
        }),
    );
    corpus.under(
        "members whose pattern has too few segments",
        step,
        &changed(&|draft| {
            draft.role("targets")["delegations"]["roles"][1]["paths"] = json!(["members/*"]);
        }),
    );
    corpus.under(
        "no delegation to members",
        step,
        &changed(&|draft| {
            array(&mut draft.role("targets")["delegations"]["roles"]).remove(1);
        }),
    );
    corpus.under(
        "a threshold of 0",
        step,
        &changed(&|draft| {
            draft.role("targets")["delegations"]["roles"][1]["threshold"] = json!(0);
        }),
    );
    corpus.under_files("no document of the provider", step, without(".moj.json"));
    corpus.under_files(
        "a byte more in the consumer's document",
        step,
        with_bytes(".portal.json", &|bytes| [&bytes[..], b" "].concat()),
    );
    corpus.under(
        "the provider's document under the consumer's path",
        step,
        &changed(&|draft| {
            *draft.document("members/VN/GOV/portal.json") = draft.document("members/VN/GOV/moj.json").clone();
        }),
    );

    // Revoked keys.
    let step = Some("8.2.6");
    let consumer = key("consumer").public().id().to_string();
    let shard = format!("revoked/{}.json", &consumer[..1]);
    corpus.under_files("no role of revoked keys", step, without("3.revoked.json"));
    corpus.under("revoked keys that a person of members signed", step, &signers("revoked", &["person 1"]));
    corpus.under("revoked keys that expired", step, &expired("revoked"));
    corpus.under(
        "no delegation to revoked",
        step,
        &changed(&|draft| {
            array(&mut draft.role("targets")["delegations"]["roles"]).remove(0);
        }),
    );
    corpus.under_files(
        "the consumer's shard of revoked keys not named",
        step,
        Draft::new().signed_with(|roles| {
            fields(&mut role(roles, "revoked")["targets"]).remove(&shard);
        }),
    );
    corpus.under(
        "a revoked key in another shard",
        step,
        &changed(&|draft| {
            let other = if shard == "revoked/0.json" { "1" } else { "0" };
            draft.document(&shard)["keys"] = json!([format!("{other}{}", &consumer[1..])]);
        }),
    );
    let sealed_under = Head::parse(&unary_messages(&version_of(&good_files))[0].1.head).expect("a good one");
    let last_head = |head: &Head| {
        let (key, text) = (consumer.clone(), head.to_text());
        let shard = shard.clone();
        changed(&move |draft: &mut Draft| {
            draft.role("timestamp")["version"] = json!(4);
            *draft.document(&shard) = json!({ "keys": [key], "last_heads": [{ "key": key, "head": text }] });
        })
    };
    corpus.under(
        "a last head of a key that is not listed",
        step,
        &changed(&|draft| {
            draft.document(&shard)["last_heads"] = json!([{ "key": consumer, "head": sealed_under.to_text() }]);
        }),
    );
    corpus.under(
        "two last heads of a key",
        step,
        &changed(&|draft| {
            let last = json!({ "key": consumer, "head": sealed_under.to_text() });
            *draft.document(&shard) = json!({ "keys": [consumer], "last_heads": [last, last] });
        }),
    );
    corpus.under(
        "a last head that is none",
        step,
        &changed(&|draft| {
            let last = json!({ "key": consumer, "head": "a head" });
            *draft.document(&shard) = json!({ "keys": [consumer], "last_heads": [last] });
        }),
    );

    // What it means.
    let later = |change: &dyn Fn(&mut Draft)| {
        changed(&|draft| {
            draft.role("timestamp")["version"] = json!(4);
            change(draft);
        })
    };
    corpus.under(
        "the header's version with other bytes",
        Some("7.4"),
        &changed(&|draft| {
            draft.role("timestamp")["signed_at"] = json!("2027-01-15T07:58:00Z");
        }),
    );
    corpus.under("a later version", None, &later(&|_| ()));
    let step = Some("5.4.6");
    corpus.under(
        "the consumer's key revoked",
        step,
        &later(&|draft| draft.document(&shard)["keys"] = json!([consumer])),
    );
    corpus.under("the consumer's key revoked, its last head that of the message", None, &last_head(&sealed_under));
    for (name, other) in [
        ("another size", Head { size: sealed_under.size + 1, ..sealed_under }),
        ("another root", Head { root: Digest::of(&[b"another root"]), ..sealed_under }),
        ("another tree", Head { tree: TreeName(Digest::of(&[b"another tree"])), ..sealed_under }),
    ] {
        corpus.under(&format!("the consumer's key revoked, its last head of {name}"), step, &last_head(&other));
    }
    let asked_at = unary_messages(&version_of(&good_files))[0].0.time.as_millis();
    let used_until = |until: serde_json::Value| {
        later(&move |draft: &mut Draft| {
            draft.document("members/VN/GOV/portal.json")["signing"][0]["until"] = until.clone();
        })
    };
    corpus.under("the consumer's key in use until that very moment", None, &used_until(json!(asked_at)));
    corpus.under("the consumer's key in use until a moment before", step, &used_until(json!(asked_at - 1)));
    corpus.under("the consumer's key in use until a text", Some("8.2.5"), &used_until(json!("noon")));
    corpus.under("the consumer's key in use until a moment before 1970", Some("8.2.5"), &used_until(json!(-1)));
    corpus.under(
        "the provider's server in maintenance",
        None,
        &later(&|draft| {
            draft.document("members/VN/GOV/moj.json")["servers"][0]["maintenance"] = json!("back at noon");
        }),
    );
    corpus.under(
        "the provider's server in maintenance, without a text",
        Some("8.2.5"),
        &later(&|draft| {
            draft.document("members/VN/GOV/moj.json")["servers"][0]["maintenance"] = json!(true);
        }),
    );
    corpus.under(
        "the provider suspended",
        step,
        &later(&|draft| {
            draft.document("members/VN/GOV/moj.json")["standing"] = json!("suspended");
        }),
    );
    corpus.under(
        "the consumer's key at another server",
        step,
        &later(&|draft| {
            draft.document("members/VN/GOV/portal.json")["signing"][0]["server"] = json!("VN/GOV/portal/ss2");
        }),
    );
    corpus.under(
        "the consumer's certificate of the year before",
        step,
        &later(&|draft| {
            draft.document("members/VN/GOV/portal.json")["signing"][0]["certificate"] =
                json!(certificate("consumer", (2026, 2027)));
        }),
    );
    corpus.under(
        "the consumer's key replaced",
        step,
        &later(&|draft| {
            draft.document("members/VN/GOV/portal.json")["signing"][0]["certificate"] =
                json!(certificate("stranger", (2027, 2028)));
        }),
    );
}

fn seals(corpus: &mut Corpus) {
    corpus.add("a genesis of the other party", Some("5.4.2"), "unary.json", |file| {
        file["messages"][1]["genesis"] = file["messages"][0]["genesis"].clone();
    });
    corpus.add("a seal of the other message", Some("5.4.3"), "unary.json", |file| {
        file["messages"][1]["seal"] = file["messages"][0]["seal"].clone();
    });
    corpus.add("an unknown field in a seal", Some("5.4.3"), "unary.json", |file| {
        append(&mut file["messages"][0]["seal"], &[0xa8, 0x06, 0x01]);
    });
    corpus.with("a path one hash too long", Some("5.4.4"), |messages| {
        messages[0].1.record_path.push(Bytes::from_static(&[1; 32]));
    });
    corpus.with("a hash of a path changed", Some("5.4.5"), |messages| {
        messages[1].1.commit_path[0] = Bytes::from_static(&[1; 32]);
    });
    corpus.with("a header changed after it was sealed", Some("5.4.5"), |messages| {
        let facts = Facts { time: Time::from_millis(messages[1].0.time.as_millis() - 1), ..(*messages[1].0).clone() };
        messages[1].0 = Header::new(facts);
    });
    corpus.with("a head with another root, signed by a stranger", Some("5.4.5"), |messages| {
        let mut head = Head::parse(&messages[0].1.head).expect("a good one");
        head.root = Digest::of(&[b"another root"]);
        messages[0].1.head = head.to_text().into_bytes().into();
        messages[0].1.signature = key("stranger").sign(&messages[0].1.head).into();
    });
    corpus.with("a stranger's key, of which the file says not whether it is revoked", Some("8.2.6"), |messages| {
        messages[0].1.key = key("stranger").public().id().to_wire();
        messages[0].1.signature = key("stranger").sign(&messages[0].1.head).into();
    });
    corpus.with("a stranger's signature", Some("5.4.7"), |messages| {
        messages[1].1.signature = key("stranger").sign(&messages[1].1.head).into();
    });
    corpus.with("the signature's other form", None, |messages| {
        messages[1].1.signature = malleated(&messages[1].1.signature).into();
    });
    let (_, files) = Draft::new().signed();
    let mut messages = stream_messages(&version_of(&files));
    let mut fork = Log::new("VN/GOV/portal", "VN/GOV/portal/ss1", key("consumer"));
    fork.commit(vec![other(99)]);
    let commit = fork.commit(vec![sent(messages[2].0.as_bytes())]);
    // The size under which the message before it was sealed, and another root.
    let size = Head::parse(&messages[1].1.head).expect("a good one").size as usize;
    assert_eq!(size, commit + 1);
    messages[2].1 = fork.seal(commit, 0, size);
    corpus.add("two roots of one size", Some("7.7"), "stream.json", |file| file["messages"] = json!(kept(messages)));
}

fn payloads(corpus: &mut Corpus) {
    corpus.add("every payload erased", None, "unary.json", |file| {
        for message in list(file) {
            fields(message).remove("payload");
        }
    });
    corpus.with("a piece changed", Some("3.5.3"), |messages| payload(messages, 0).pieces[0] = piece("another"));
    corpus.with("trailers changed", Some("3.5.3"), |messages| {
        let status = wire::Field { name: "grpc-status".into(), value: Bytes::from_static(b"7") };
        payload(messages, 1).trailers = wire::Metadata { fields: vec![status] }.encode_to_vec().into();
    });
    corpus.with("a piece left out", Some("3.5.1"), |messages| payload(messages, 1).pieces.clear());
    corpus.with("the secret left out", Some("3.5.2"), |messages| payload(messages, 1).secret = Bytes::new());
    corpus.add("the payload of the other message", Some("3.5.1"), "unary.json", |file| {
        file["messages"][0]["payload"] = file["messages"][1]["payload"].clone();
    });
    corpus.add("an unknown field in a payload", Some("7.6"), "unary.json", |file| {
        append(&mut file["messages"][0]["payload"], &[0xa8, 0x06, 0x01]);
    });
    corpus.add("a payload after one that was erased", Some("7.6"), "stream.json", |file| {
        fields(&mut file["messages"][1]).remove("payload");
    });
    corpus.add("the last payloads of a direction erased", None, "stream.json", |file| {
        fields(&mut file["messages"][2]).remove("payload");
    });
}

fn timestamps(corpus: &mut Corpus) {
    let base = "stamped.json";
    let step = Some("7.1");
    corpus.add("no timestamps in a list of them", step, "unary.json", |file| file["timestamps"] = json!([]));
    corpus.add("more timestamps than messages", step, base, |file| {
        let again = file["timestamps"][1].clone();
        array(&mut file["timestamps"]).push(again);
    });
    corpus.add("a timestamp that is no base64", step, base, |file| file["timestamps"][0] = json!("a token"));
    corpus.add("both timestamps left out, with their places", None, base, |file| {
        _ = fields(file).remove("timestamps");
        list(file).iter_mut().for_each(|message| _ = fields(message).remove("place"));
    });
    corpus.add("the second timestamp left out, with its place", None, base, |file| {
        array(&mut file["timestamps"]).pop();
        fields(&mut file["messages"][1]).remove("place");
    });
    let step = Some("7.18");
    corpus.add("a timestamp over no message", step, base, |file| _ = fields(&mut file["messages"][1]).remove("place"));
    corpus.add("a place without its timestamp", step, base, |file| _ = array(&mut file["timestamps"]).pop());
    corpus.add("the timestamps exchanged", step, base, |file| array(&mut file["timestamps"]).swap(0, 1));
    corpus.add("an unknown field in a timestamp", step, base, |file| {
        append(&mut file["timestamps"][0], &[0xa8, 0x06, 0x01])
    });
    corpus.add("an unknown field in a place", step, base, |file| {
        append(&mut file["messages"][0]["place"], &[0xa8, 0x06, 0x01])
    });
    corpus.add("the places exchanged", step, base, |file| {
        let (one, other) = (file["messages"][0]["place"].clone(), file["messages"][1]["place"].clone());
        (file["messages"][0]["place"], file["messages"][1]["place"]) = (other, one);
    });
    type Change = fn(&mut wire::Place);
    let changes: [(&str, Change); 12] = [
        ("the record of a message sent as one received", |place| place.received = !place.received),
        ("a nonce of 15 bytes", |place| place.nonce.truncate(15)),
        ("another nonce", |place| place.nonce = vec![1; 16].into()),
        ("another record", |place| place.record ^= 1),
        ("another number of records", |place| place.records += 1),
        ("a record past its commit", |place| place.record = place.records),
        ("more records than a commit holds", |place| place.records = 65_537),
        ("another commit", |place| place.commit ^= 1),
        ("a commit past the head", |place| place.commit = 9),
        ("a hash in the commit's path of 31 bytes", |place| place.commit_path[0].truncate(31)),
        ("a hash of the commit's path changed", |place| place.commit_path[0] = vec![1; 32].into()),
        ("a hash too many", |place| place.commit_path.push(vec![1; 32].into())),
    ];
    for (what, change) in changes {
        corpus.add(&format!("a place with {what}"), step, base, |file| {
            changed::<wire::Place>(&mut file["messages"][0]["place"], change);
        });
    }
    corpus.add("a place in a log that received it, said to have sent it", step, base, |file| {
        changed::<wire::Place>(&mut file["messages"][1]["place"], |place| place.received = false);
    });
    corpus.add("the other form of a signature that the log received", step, base, |file| {
        changed::<wire::Seal>(&mut file["messages"][1]["seal"], |seal| {
            seal.signature = malleated(&seal.signature).into()
        });
    });
    corpus.add("the other form of our own signature, which is in no record", None, base, |file| {
        changed::<wire::Seal>(&mut file["messages"][0]["seal"], |seal| {
            seal.signature = malleated(&seal.signature).into()
        });
    });
    corpus.add("a timestamp whose head is none", step, base, |file| {
        changed::<wire::Stamp>(&mut file["timestamps"][0], |stamp| stamp.head = Bytes::from_static(b"a head"));
    });
    corpus.add("a timestamp over a head of another root", step, base, |file| {
        changed::<wire::Stamp>(&mut file["timestamps"][0], |stamp| {
            let mut head = Head::parse(&stamp.head).expect("a good one");
            head.root = Digest::of(&[b"another root"]);
            stamp.head = head.to_text().into();
        });
    });
    corpus.add("the token of the other head", Some("16.3.2"), base, |file| {
        let mut other = None;
        changed::<wire::Stamp>(&mut file["timestamps"][1], |stamp| other = Some(stamp.token.clone()));
        changed::<wire::Stamp>(&mut file["timestamps"][0], |stamp| stamp.token = other.unwrap_or_default());
    });
    corpus.add("a token cut off", Some("16.3.1"), base, |file| {
        changed::<wire::Stamp>(&mut file["timestamps"][0], |stamp| stamp.token.truncate(stamp.token.len() - 1));
    });
    corpus.add("a token with another signature", Some("16.3.6"), base, |file| {
        changed::<wire::Stamp>(&mut file["timestamps"][0], |stamp| {
            let mut token = stamp.token.to_vec();
            *token.last_mut().expect("not empty") ^= 1;
            stamp.token = token.into();
        });
    });
    let tsa = key("tsa").public().id().to_string();
    let shard = format!("revoked/{}.json", &tsa[..1]);
    let mut under = |name: &str, step: &str, change: &dyn Fn(&mut Draft)| {
        let mut draft = stamping(&Draft::new());
        draft.role("timestamp")["version"] = json!(4);
        change(&mut draft);
        let (anchor, files) = draft.signed();
        corpus.add_with_anchor(name, Some(step), base, &anchor, |file| {
            file["configuration"] = based(&kept_of(file, &files));
        });
    };
    under("the timestamping authority's key revoked", "16.3.7", &|draft| {
        draft.document(&shard)["keys"] = json!([tsa]);
    });
    under("no timestamping authority approved", "16.3.5", &|draft| {
        fields(draft.document("instance.json")).remove("timestamping");
    });
    under("another timestamping authority approved", "16.3.5", &|draft| {
        draft.document("instance.json")["timestamping"][0]["certificate"] =
            json!(certificate("authority", (2026, 2030)));
    });
    under("another policy approved", "16.3.3", &|draft| {
        draft.document("instance.json")["timestamping"][0]["policy"] = json!("1.2.3");
    });
    let (anchor, files) = stamping(&Draft::new()).signed_with(|roles| {
        fields(&mut role(roles, "revoked")["targets"]).remove(&shard);
    });
    let missing = Some("8.2.6");
    corpus.add_with_anchor("the authority's shard of revoked keys not named", missing, base, &anchor, |file| {
        file["configuration"] = based(&kept_of(file, &files));
    });
}

/// A message in base64, with something of it changed.
fn changed<M: Message + Default>(text: &mut Value, change: impl FnOnce(&mut M)) {
    let bytes = STANDARD.decode(text.as_str().expect("base64")).expect("base64");
    let mut message = M::decode(&bytes[..]).expect("a good one");
    change(&mut message);
    *text = json!(STANDARD.encode(message.encode_to_vec()));
}

/// The same, and a timestamping authority is approved.
fn stamping(draft: &Draft) -> Draft {
    let mut draft = draft.clone();
    let root = STANDARD.encode(Tsa::once().root.clone());
    draft.document("instance.json")["timestamping"] = json!([{ "name": "tsa", "certificate": root }]);
    draft
}

/// A unary call as the consumer's log has it, its request under one timestamp and the answer under a later one.
fn stamped_file(files: &Files) -> Value {
    let mut messages = unary_messages(&version_of(files));
    let mut portal = Log::new("VN/GOV/portal", "VN/GOV/portal/ss1", key("consumer"));
    messages[0].1 = portal.sent(&messages[0].0);
    portal.commit(vec![other(2)]);
    let first = portal.head(3);
    let commit = portal.commit(vec![received(messages[1].0.as_bytes(), &messages[1].1), other(3), other(4)]);
    portal.commit(vec![other(5)]);
    let second = portal.head(5);
    let tsa = Tsa::once();
    let place = |received: bool, commit: usize, record: usize, head: &Head| {
        let seal = portal.seal(commit, record, head.size as usize);
        wire::Place {
            timestamp: 0,
            received,
            nonce: seal.nonce,
            record: seal.record,
            records: seal.records,
            record_path: seal.record_path,
            commit: seal.commit,
            commit_path: seal.commit_path,
        }
    };
    let stamp = |head: &Head, seconds| wire::Stamp {
        head: head.to_text().into(),
        token: tsa.token(head.to_text().as_bytes(), seconds).into(),
    };
    let stamped =
        [(stamp(&first, 30), place(false, 1, 1, &first)), (stamp(&second, 90), place(true, commit, 0, &second))];
    let (exchange, holder) = (messages[0].0.exchange, Sender::of(&messages[0].0));
    let (anchor, _) = Draft::new().signed();
    let mut files = files.clone();
    files.insert("1.root.json".into(), anchor);
    let kept = messages.iter().zip(stamped).map(|((header, seal, genesis, payload), (stamp, place))| {
        Kept::new(header, seal, genesis.clone(), payload.as_ref()).stamped(stamp, place)
    });
    let file = EvidenceFile::new(exchange, holder, &files, kept.collect()).expect("a good one");
    serde_json::to_value(&file).expect("JSON")
}

/// A call and its answer in one message each.
fn unary_messages(configuration: &ConfigurationVersion) -> Messages {
    let mut portal = Log::new("VN/GOV/portal", "VN/GOV/portal/ss1", key("consumer"));
    let mut ministry = Log::new("VN/GOV/moj", "VN/GOV/moj/ss1", key("provider"));
    let (request, asked) = committed(
        &mut Commitments::default(),
        *Digest::of(&[b"request"]).as_bytes(),
        Facts { configuration: *configuration, ..opening() },
        &Contents {
            metadata: Some(vec![field("content-type", "application/grpc")]),
            pieces: vec![piece("a child was born")],
            trailers: None,
        },
    );
    let (answer, answered) = committed(
        &mut Commitments::default(),
        *Digest::of(&[b"answer"]).as_bytes(),
        Facts { time: Time::from_millis(request.time.as_millis() + 40), ..answer(&request) },
        &Contents {
            metadata: Some(vec![field("content-type", "application/grpc")]),
            pieces: vec![piece("registered")],
            trailers: Some(vec![field("grpc-status", "0")]),
        },
    );
    ministry.commit(vec![other(1)]);
    let (asking, answering) = (portal.sent(&request), ministry.sent(&answer));
    vec![
        (request, asking, portal.genesis.as_bytes().clone(), asked),
        (answer, answering, ministry.genesis.as_bytes().clone(), answered),
    ]
}

/// A first attempt that was not sent, and a second over another server: three messages each way, the answer's payloads
/// erased.
fn stream_messages(configuration: &ConfigurationVersion) -> Messages {
    let mut portal = Log::new("VN/GOV/portal", "VN/GOV/portal/ss1", key("consumer"));
    let mut ministry = Log::new("VN/GOV/moj", "VN/GOV/moj/ss2", key("provider's second"));
    let start = Facts { configuration: *configuration, end: None, ..opening() };
    let contents = |text: &str, first: bool| Contents {
        metadata: first.then(|| vec![field("content-type", "application/grpc")]),
        pieces: vec![piece(text)],
        trailers: None,
    };
    let secret = |text: &str| *Digest::of(&[b"stream", text.as_bytes()]).as_bytes();
    let mut asked = |commitments: &mut Commitments, facts: Facts, contents: &Contents| {
        let (header, payload) = committed(commitments, secret("request"), facts, contents);
        let seal = portal.sent(&header);
        (header, seal, portal.genesis.as_bytes().clone(), payload)
    };
    let first = asked(&mut Commitments::default(), start.clone(), &contents("one", true));
    let mut again = Facts { attempt: 2, time: Time::from_millis(start.time.as_millis() + 10), ..start };
    again.route.provider_server = "VN/GOV/moj/ss2".parse().expect("of the grammar");
    let mut commitments = Commitments::default();
    let one = asked(&mut commitments, again, &contents("one", true));
    let two = asked(&mut commitments, following(&one.0), &contents("two", false));
    let end = Facts { end: Some(End::HalfClose), ..following(&two.0) };
    let three = asked(&mut commitments, end, &Contents::default());

    let mut commitments = Commitments::default();
    let mut answered = |facts: Facts, handed_on: u64, contents: &Contents| {
        let answer = facts.answer.map(|answer| Answer { handed_on, ..answer });
        let time = Time::from_millis(facts.time.as_millis() + 1);
        let (header, _) = committed(&mut commitments, secret("answer"), Facts { answer, time, ..facts }, contents);
        let seal = ministry.sent(&header);
        (header, seal, ministry.genesis.as_bytes().clone(), None)
    };
    let begun = answered(Facts { end: None, ..answer(&one.0) }, 1, &contents("first", true));
    let goes_on = answered(following(&begun.0), 2, &contents("second", false));
    let end = End::Trailers { commitment: Digest::ZERO, status: 0 };
    let trailers = Contents { trailers: Some(vec![field("grpc-status", "0")]), ..Contents::default() };
    let ended = answered(Facts { end: Some(end), ..following(&goes_on.0) }, 3, &trailers);
    vec![first, one, two, three, begun, goes_on, ended]
}

fn file(files: &Files, messages: Messages) -> Value {
    let exchange = messages[0].0.exchange;
    let holder = Sender::of(&messages[0].0);
    let (anchor, _) = Draft::new().signed();
    let mut files = files.clone();
    files.insert("1.root.json".into(), anchor);
    let kept = messages
        .iter()
        .map(|(header, seal, genesis, payload)| Kept::new(header, seal, genesis.clone(), payload.as_ref()))
        .collect();
    let file = EvidenceFile::new(exchange, holder, &files, kept).expect("a good one");
    serde_json::to_value(&file).expect("JSON")
}

fn kept(messages: Messages) -> Vec<Kept> {
    messages
        .into_iter()
        .map(|(header, seal, genesis, payload)| Kept::new(&header, &seal, genesis, payload.as_ref()))
        .collect()
}

fn version_of(files: &Files) -> ConfigurationVersion {
    ConfigurationVersion { version: 3, digest: Digest::of(&[&files["timestamp.json"]]) }
}

/// Of these files those that the good file has too, whatever their version or digest, and later roots.
fn kept_of(file: &Value, files: &Files) -> Files {
    let plain = |name: &str| {
        let (directory, name) = name.rsplit_once('/').unwrap_or(("", name));
        let name = name.split_once('.').map_or(name, |(first, rest)| if rest == "json" { first } else { rest });
        format!("{directory}/{name}")
    };
    let wanted: Vec<String> =
        file["configuration"].as_object().expect("it is one").keys().map(|name| plain(name)).collect();
    let belongs = |name: &str| wanted.contains(&plain(name)) || name.ends_with(".root.json");
    files.iter().filter(|(name, _)| belongs(name)).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

fn based(files: &Files) -> Value {
    files
        .iter()
        .map(|(name, bytes)| (name.clone(), json!(STANDARD.encode(bytes))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The whole name of the file that ends so.
fn name_of(files: &Files, end: &str) -> String {
    files.keys().find(|name| name.ends_with(end)).expect("a file of this name").clone()
}

fn payload(messages: &mut Messages, at: usize) -> &mut wire::Payload {
    messages[at].3.as_mut().expect("the base keeps it")
}

fn append(text: &mut Value, bytes: &[u8]) {
    let whole = STANDARD.decode(text.as_str().expect("base64")).expect("base64");
    *text = json!(STANDARD.encode([&whole[..], bytes].concat()));
}

fn list(file: &mut Value) -> &mut Vec<Value> {
    array(&mut file["messages"])
}

fn array(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("an array")
}

fn fields(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    value.as_object_mut().expect("an object")
}

fn role<'a>(roles: &'a mut std::collections::BTreeMap<String, Value>, name: &str) -> &'a mut Value {
    roles.get_mut(name).expect("the draft has this role")
}

/// The places in which two files differ: each is set, or removed.
fn difference(from: &Value, to: &Value, at: &mut Vec<Value>, changes: &mut Vec<Value>) {
    match (from, to) {
        _ if from == to => (),
        (Value::Object(old), Value::Object(new)) => {
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                let place = [&at[..], &[json!(name)]].concat();
                changes.push(json!({ "at": place, "remove": true }));
            }
            for (name, value) in new {
                at.push(json!(name));
                match old.get(name) {
                    Some(before) => difference(before, value, at, changes),
                    None => changes.push(json!({ "at": at, "set": value })),
                }
                at.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (n, (before, value)) in old.iter().zip(new).enumerate() {
                at.push(json!(n));
                difference(before, value, at, changes);
                at.pop();
            }
        }
        _ => changes.push(json!({ "at": at, "set": to })),
    }
}
