//! Two persons at their terminals: what one orders waits, and the other carries it out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use tests::processes::{Instance, Member};

const REGISTRYS: &str = "--passphrase credential:registry";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_needs_two_ends_with_8_until_the_second_confirms_what_the_first_signed() {
    // What one person's passphrase opens is that person's: the key was made before the instance, and elsewhere.
    let persons = "--admin an --person binh:registrar@keys/admin-binh.pub.pem --person chi:auditor";
    let instance = Instance::founded_by(persons).await;
    let registry = instance.serve_registry().await;
    let line = |person: &str, rest: &str| {
        let own =
            if person == "binh" { "--admin-key keys/admin-binh.pem --passphrase credential:binh" } else { REGISTRYS };
        format!("central-registry {rest} --admin registry/admin-{person}.toml {own}")
    };
    let run = async |person: &str, rest: &str| instance.run(&line(person, rest)).await;
    let moj = Member::new("moj", "births");
    let invited = "invite VN/GOV/moj --name Justice --server VN/GOV/moj/ss1 --subsystem VN/GOV/moj/births --json";
    let told = run("an", invited).await.json();
    let told = |key: &str| told[key].as_str().unwrap();
    std::fs::write(instance.path("moj.token"), told("token")).unwrap();
    std::fs::write(instance.path("credentials/moj"), "a passphrase for tests\n").unwrap();
    let join = format!(
        "security-server join moj --registry {} --fingerprint {} --anchor-digest {} --server VN/GOV/moj/ss1 --address {} \
         --token-file moj.token --passphrase credential:moj --no-wait",
        told("registry"),
        told("fingerprint"),
        told("anchor_digest"),
        moj.peers
    );
    assert_eq!(instance.run(&join).await.code, Some(8));

    let foreseen = run("an", "approve R-1 --dry-run").await.well();
    assert!(foreseen.contains("wait until 2 persons ordered it: this is number 1"), "{foreseen}");
    let waits = run("an", "approve R-1").await;
    assert_eq!(waits.code, Some(8), "{waits:?}");
    assert!(waits.out.contains("another person: central-registry confirm P-1"), "{waits:?}");
    assert_eq!(instance.run(&format!("{join} --json")).await.code, Some(8), "the applicant waits still");
    let shown = run("chi", "proposals").await.well();
    assert!(shown.contains("P-1  approve R-1") && shown.contains("by an: 1 of 2 persons"), "{shown}");
    let listed = run("chi", "proposals --json").await.json();
    assert_eq!(listed["proposals"][0]["order"], "approve R-1");
    for (person, rest, code, named) in [
        ("chi", "confirm P-1 --yes", 3, "chi is auditor here"),
        ("an", "confirm P-1 --yes", 3, "counts once"),
        ("binh", "confirm P-1", 2, "add --yes"),
        ("binh", "confirm P-2 --yes", 6, "did you mean P-1?"),
        ("binh", "suspend VN/GOV/moj --reason no --yes", 3, "this is for a security-officer"),
    ] {
        let refused = run(person, rest).await;
        assert_eq!(refused.code, Some(code), "{person} {rest}: {refused:?}");
        assert!(refused.err.contains(named), "{person} {rest}: {refused:?}");
    }
    let foreseen = run("binh", "confirm P-1 --dry-run").await.well();
    assert!(foreseen.contains("add the member VN/GOV/moj"), "{foreseen}");
    let decided = run("binh", "confirm P-1 --yes --json").await;
    assert!(decided.err.contains("P-1 was ordered by an: approve R-1"), "{decided:?}");
    assert!(decided.json()["version"].as_u64().unwrap() > 1);
    instance.run(&join.replace(" --no-wait", "")).await.well();
    let journal = instance.run("central-registry audit list --config registry/central-registry.toml").await.well();
    for named in ["root 1 states: 2 persons", "proposed P-1", "approved R-1", "by binh", "confirming the command"] {
        assert!(journal.contains(named), "{named} is not in\n{journal}");
    }
    instance.run("central-registry audit verify --config registry/central-registry.toml").await.well();
    registry.stops().await;
}
