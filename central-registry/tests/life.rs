//! The life of a member at the registry: what its servers may ask for, what its admins may order, and what is never taken.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

#[allow(dead_code, reason = "an office does more than this")]
#[path = "registration/office.rs"]
mod office;

use std::fs;
use std::path::Path;
use std::time::Duration;

use central_registry::audit;
use central_registry::configuration::Configuration;
use proto::registration::{Order, Registered, Revocation, Text};
use proto::server_request::{ServerRequest, Wish};
use proto::signature::SigningKey;
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use registry_client::RegistrationClient;
use security_server::join::{self, JoinError};
use tonic::{Code, Status};

use office::{Applicant, Office, invitation, refusal};

const MOJ: &str = "VN/GOV/moj";
const SERVER: &str = "VN/GOV/moj/ss1";
const BIRTHS: &str = "VN/GOV/moj/births";

fn text(text: &str) -> Text {
    text.parse().unwrap()
}

/// A server of this name that joined with births, and its keys.
async fn joined(office: &Office, server: &str, subsystems: &[&str]) -> Applicant {
    let invited = office.invite(MOJ, server, subsystems).await;
    let mut applicant = Applicant::new(&invited.token);
    applicant.application.server = server.parse().unwrap();
    let receipt = office.apply(applicant.request()).await.unwrap();
    office.approve(&receipt.request).await;
    applicant
}

async fn ask(office: &Office, wish: Wish, by: &SigningKey, new: Option<&SigningKey>) -> Result<(), Status> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).unwrap();
    let (instance, server) = ("VN".parse().unwrap(), SERVER.parse().unwrap());
    let request = ServerRequest { instance, server, id, time: (office.admin.clock)(), wish }.sign(by, new);
    RegistrationClient::new(office.channel().await).ask(request).await.map(drop)
}

async fn members(office: &Office) -> Vec<wire::Member> {
    let Ok(Answer::Members(members)) = office.admin.submit(&Order::ListMembers).await else {
        panic!("they are listed")
    };
    members.members
}

fn holds(directory: &Path) {
    let configuration = Configuration::read(&directory.join("central-registry.toml")).unwrap();
    audit::verify(&configuration, None, &[]).unwrap().holds().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_for_itself_with_the_key_that_this_wants_and_for_nobody_else() {
    let office = Office::open().await;
    let server = joined(&office, SERVER, &[BIRTHS]).await;
    let (stranger, _) = SigningKey::generate();
    let moves = Wish::Move("new.moj.gov.vn:5500".parse().unwrap());
    let maintains = Wish::Maintain(Some(text("back at noon")));
    let leaves = Wish::Leave(MOJ.parse().unwrap(), text("merged"));
    let foreign = Wish::Leave("VN/GOV/tax".parse().unwrap(), text("merged"));
    for (wish, by) in [
        (&moves, &server.signing),
        (&moves, &stranger),
        (&maintains, &server.signing),
        (&maintains, &stranger),
        (&leaves, &server.authentication),
        (&leaves, &stranger),
        (&foreign, &server.signing),
    ] {
        let status = ask(&office, wish.clone(), by, None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{wish:?}: {}", status.message());
    }
    let before = members(&office).await;
    ask(&office, moves.clone(), &server.authentication, None).await.unwrap();
    ask(&office, maintains, &server.authentication, None).await.unwrap();
    ask(&office, leaves, &server.signing, None).await.unwrap();
    let after = members(&office).await;
    assert_ne!(before, after);
    assert_eq!(after[0].servers[0].address, "new.moj.gov.vn:5500");
    assert_eq!((after[0].servers[0].maintenance.as_str(), after[0].leaving.as_str()), ("back at noon", "merged"));
    let same = ask(&office, moves, &server.authentication, None).await.unwrap_err();
    assert!(same.message().contains("nothing is to be done"), "{}", same.message());
    holds(&office.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_people_take_for_another_is_not_given() {
    let office = Office::open().await;
    let invite = async |member: &str, name: &str, server: &str, subsystems: &[&str]| {
        office.admin.invite(&invitation(member, Some(name), server, subsystems)).await
    };
    let invited = invite("VN/GOV/moit", "Ministry of Industry", "VN/GOV/moit/ss1", &[]).await.unwrap();
    let mut applicant = Applicant::new(&invited.token);
    applicant.application.member = "VN/GOV/moit".parse().unwrap();
    applicant.application.server = "VN/GOV/moit/ss1".parse().unwrap();
    applicant.application.subsystems = Vec::new();
    office.apply(applicant.request()).await.unwrap();
    office.approve("R-1").await;
    for (member, name, other) in [
        ("VN/GOV/MOIT", "Another", "VN/GOV/moit"),
        ("VN/GOV/m0it", "Another", "VN/GOV/moit"),
        ("VN/GOV/molt", "Another", "VN/GOV/moit"),
        ("VN/GOV/mo-it", "Another", "VN/GOV/moit"),
        ("VN/GOV/other", "ministry of industry", "Ministry of Industry"),
        // A Cyrillic letter, a wide space, a letter of full width.
        ("VN/GOV/other", "\u{41c}inistry \u{43e}f Industry", "Ministry of Industry"),
        ("VN/GOV/other", "Ministry\u{2003}of Industry", "Ministry of Industry"),
        ("VN/GOV/other", "\u{ff2d}inistry of Industry", "Ministry of Industry"),
    ] {
        let why = invite(member, name, &format!("{member}/ss1"), &[]).await.unwrap_err().to_string();
        assert!(why.contains("looks like") && why.contains(other), "{member} {name:?}: {why}");
    }
    for server in ["VN/GOV/moit/SS1", "VN/GOV/moit/ssl", "VN/GOV/moit/ss_1"] {
        let order = invitation("VN/GOV/moit", None, server, &[]);
        let (code, why) = refusal(office.admin.submit(&order).await);
        assert!(code == Code::AlreadyExists && why.contains("looks like VN/GOV/moit/ss1"), "{why}");
    }
    // What only begins alike is another name.
    invite("VN/GOV/moit2", "Ministry of Industry 2", "VN/GOV/moit2/ss1", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_somebody_who_is_removed_is_rejected_with_the_reason_and_no_token_of_before_is_good() {
    let office = Office::open().await;
    joined(&office, SERVER, &[BIRTHS]).await;
    let unused = office.invite(MOJ, "VN/GOV/moj/ss3", &[]).await;
    let invited = office.invite(MOJ, "VN/GOV/moj/ss2", &[]).await;
    let options = office.joining("ss2", &invited, "VN/GOV/moj/ss2");
    let asked = join::ask(&options).await.unwrap();
    let waiting = tokio::spawn({
        let options = options.clone();
        async move { asked.wait(&options).await }
    });
    let remove = Order::Remove(Registered::Member(MOJ.parse().unwrap()), text("merged with the interior"));
    office.admin.submit(&remove).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(&error, JoinError::Rejected { reason, .. } if reason == "merged with the interior"), "{error}");
    let mut applicant = Applicant::new(&unused.token);
    applicant.application.server = "VN/GOV/moj/ss3".parse().unwrap();
    let late = office.apply(applicant.request()).await.unwrap_err();
    assert!(late.message().contains("not known"), "{}", late.message());
    let (code, why) = refusal(office.admin.submit(&remove).await);
    assert!(code == Code::NotFound && why.contains("no member VN/GOV/moj"), "{why}");
    let (code, why) = refusal(office.admin.submit(&invitation(MOJ, Some("A"), SERVER, &[])).await);
    assert!(code == Code::AlreadyExists && why.contains("the member VN/GOV/moj was removed"), "{why}");
    holds(&office.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_or_subsystem_that_was_removed_is_never_again_anybodys() {
    let office = Office::open().await;
    joined(&office, SERVER, &[BIRTHS]).await;
    joined(&office, "VN/GOV/moj/ss2", &[BIRTHS]).await;
    let remove = async |what| office.admin.submit(&Order::Remove(what, text("old"))).await;
    remove(Registered::Server("VN/GOV/moj/ss2".parse().unwrap())).await.unwrap();
    remove(Registered::Subsystem(BIRTHS.parse().unwrap())).await.unwrap();
    let left = &members(&office).await[0];
    assert!(left.subsystems.is_empty() && left.servers.len() == 1 && left.signing.len() == 1, "{left:?}");
    let host = Order::Host(BIRTHS.parse().unwrap(), SERVER.parse().unwrap());
    for order in
        [invitation(MOJ, None, "VN/GOV/moj/ss2", &[]), invitation(MOJ, None, "VN/GOV/moj/ss3", &[BIRTHS]), host]
    {
        let (code, why) = refusal(office.admin.submit(&order).await);
        assert!(code == Code::AlreadyExists && why.contains("was removed, for good"), "{why}");
    }
    // It stands so in the journal: a registry that starts from it alone knows it too.
    let office = office.restarted(|directory| fs::remove_dir_all(directory.join("view")).unwrap()).await;
    let (_, why) = refusal(office.admin.submit(&invitation(MOJ, None, "VN/GOV/moj/ss2", &[])).await);
    assert!(why.contains("was removed, for good"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dry_run_of_a_revocation_names_the_keys_that_the_stolen_one_had_certified() {
    let office = Office::open().await;
    let server = joined(&office, SERVER, &[BIRTHS]).await;
    let keys: Vec<SigningKey> = (0..3).map(|_| SigningKey::generate().0).collect();
    let mut by = &server.authentication;
    for new in &keys {
        office.pass(Duration::from_secs(1));
        ask(&office, Wish::RenewAuthentication(new.public().clone()), by, Some(new)).await.unwrap();
        by = new;
    }
    let foresee = async |key: &SigningKey| {
        let (key, reason) = (key.public().id(), text("stolen"));
        office
            .admin
            .foresee(&Order::Revoke(Revocation { key, reason, last_head: None }))
            .await
            .unwrap()
            .changes
            .join("\n")
    };
    let of_the_first = foresee(&server.authentication).await;
    assert!(keys.iter().all(|key| of_the_first.contains(&key.public().id().to_string())), "{of_the_first}");
    assert!(of_the_first.contains("whoever stole this one may have had it certified"), "{of_the_first}");
    let of_the_second = foresee(&keys[1]).await;
    let named: Vec<bool> = keys.iter().map(|key| of_the_second.contains(&key.public().id().to_string())).collect();
    assert_eq!(named, [false, true, true], "{of_the_second}");
    assert!(!foresee(&keys[2]).await.contains("may have had it certified"));
    holds(&office.path());
}

/// Killed between the record and the files: the files are of before, the journal of after.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_killed_between_the_record_and_the_files_says_all_of_it_after_the_start() {
    let mut office = Office::open().await;
    joined(&office, SERVER, &[BIRTHS]).await;
    joined(&office, "VN/GOV/moj/ss2", &[]).await;
    let (second, births) = ("VN/GOV/moj/ss2".parse().unwrap(), BIRTHS.parse().unwrap());
    let orders = [
        Order::Host(births, second),
        Order::Unhost(BIRTHS.parse().unwrap(), "VN/GOV/moj/ss2".parse().unwrap()),
        Order::Move(SERVER.parse().unwrap(), "new.moj.gov.vn:5500".parse().unwrap()),
        Order::Maintain(SERVER.parse().unwrap(), Some(text("back at noon"))),
        Order::Remove(Registered::Server("VN/GOV/moj/ss2".parse().unwrap()), text("old")),
        Order::Remove(Registered::Member(MOJ.parse().unwrap()), text("merged")),
    ];
    for order in orders {
        let (public, copy) = (office.path().join("public"), office.directory.path().join("before"));
        copied(&public, &copy);
        office.admin.submit(&order).await.unwrap();
        let (said, version) = (members(&office).await, office.running.version());
        office = office
            .restarted(|directory| {
                fs::remove_dir_all(directory.join("public")).unwrap();
                fs::rename(&copy, directory.join("public")).unwrap();
            })
            .await;
        assert_eq!(members(&office).await, said, "{order:?}");
        assert!(office.running.version() > version, "a version is never signed twice: {order:?}");
        holds(&office.path());
    }
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copied(&path, &to) } else { _ = fs::copy(&path, &to).unwrap() }
    }
}
