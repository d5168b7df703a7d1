//! What matters needs as many persons as the signed root states, and each person has a role.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

#[allow(dead_code, reason = "an office does more than this")]
#[path = "registration/office.rs"]
mod office;

use std::fs;
use std::path::Path;
use std::time::Duration;

use central_registry::command::{self, Admin};
use central_registry::configuration::Configuration;
use central_registry::{StartError, audit, start};
use proto::digest::Digest;
use proto::purposes::PurposeDocument;
use proto::registration::{Order, Registered, Revocation, Text};
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use tonic::Code;

use office::{Applicant, Office, invitation, refusal};

const MOJ: &str = "VN/GOV/moj";
const SERVER: &str = "VN/GOV/moj/ss1";
const PERSONS: [&str; 3] = ["binh:registrar", "dung:security-officer", "chi:auditor"];

fn text(text: &str) -> Text {
    text.parse().unwrap()
}

fn approve(request: &str) -> Order {
    Order::Approve(request.parse().unwrap())
}

fn remove() -> Order {
    Order::Remove(Registered::Member(MOJ.parse().unwrap()), text("merged"))
}

fn purpose(code: &str) -> PurposeDocument {
    PurposeDocument { purpose: code.parse().unwrap(), en: format!("For {code}"), vi: format!("Để {code}") }
}

async fn purposes(office: &Office) -> Vec<String> {
    let Ok(Answer::Purposes(listed)) = office.admin.submit(&Order::ListPurposes).await else {
        panic!("they are listed")
    };
    listed.purposes.into_iter().map(|each| each.purpose).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_purposes_is_published_as_two_persons_order_it() {
    let office = Office::of(&PERSONS, 2).await;
    let binh = office.person("binh");
    let published = async || {
        let version = office.watch(0).await.message().await.unwrap().unwrap();
        let read = version.files.into_iter().find(|file| file.name.ends_with("instance.json")).unwrap();
        String::from_utf8(read.content.to_vec()).unwrap()
    };
    assert!(
        purposes(&office).await.is_empty() && !published().await.contains("purposes"),
        "as before there was a list"
    );
    let version = office.running.version();
    for code in ["tax", "birth-registration"] {
        let proposal = proposed(&office.admin, &Order::SetPurpose(purpose(code))).await;
        let words = command::signed(&proposal).unwrap().words;
        assert!(words.contains(code) && words.contains("Để"), "{words}");
        binh.submit(&confirms(&proposal)).await.unwrap();
    }
    assert_eq!(purposes(&office).await, ["birth-registration", "tax"]);
    assert!(office.running.version() >= version + 2 && published().await.contains("Để tax"));

    let (code, why) = refusal(office.admin.submit(&Order::SetPurpose(purpose("tax"))).await);
    assert!(code == Code::FailedPrecondition && why.contains("says so already"), "{why}");
    let silent = PurposeDocument { vi: String::new(), ..purpose("marriage") };
    let (code, why) = refusal(office.admin.submit(&Order::SetPurpose(silent)).await);
    assert!(code == Code::InvalidArgument && why.contains("Vietnamese"), "{why}");
    let (code, why) = refusal(office.admin.submit(&Order::RemovePurpose("taxx".parse().unwrap(), text("why"))).await);
    assert!(code == Code::NotFound && why.contains("did you mean tax?"), "{why}");

    let other = PurposeDocument { en: "Taxes".into(), ..purpose("tax") };
    let changed = proposed(&office.admin, &Order::SetPurpose(other)).await;
    binh.submit(&confirms(&changed)).await.unwrap();
    assert!(published().await.contains("Taxes"));
    let gone = proposed(&office.admin, &Order::RemovePurpose("tax".parse().unwrap(), text("no law"))).await;
    assert_eq!(purposes(&office).await.len(), 2);
    binh.submit(&confirms(&gone)).await.unwrap();
    assert_eq!(purposes(&office).await, ["birth-registration"]);
    assert!(!published().await.contains("Taxes"));
    // Without any, everything would be a purpose: the last one stays.
    let last = Order::RemovePurpose("birth-registration".parse().unwrap(), text("no law"));
    let (code, why) = refusal(office.admin.submit(&last).await);
    assert!(code == Code::FailedPrecondition && why.contains("birth-registration is the only purpose"), "{why}");
    assert_eq!(purposes(&office).await, ["birth-registration"]);
    holds(&office.path());
}

/// A request that waits: R-1.
async fn asked(office: &Office) -> Applicant {
    let invited = office.invite(MOJ, SERVER, &["VN/GOV/moj/births"]).await;
    let applicant = Applicant::new(&invited.token);
    office.apply(applicant.request()).await.unwrap();
    applicant
}

async fn proposed(by: &Admin, order: &Order) -> wire::Proposal {
    let Answer::Proposed(proposed) = by.submit(order).await.unwrap() else { panic!("it waits for others") };
    proposed.proposal.unwrap()
}

fn confirms(proposal: &wire::Proposal) -> Order {
    command::signed(proposal).unwrap().confirmed()
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
async fn one_person_makes_nobody_a_member_and_removes_nobody_and_two_do() {
    let office = Office::of(&PERSONS, 2).await;
    let (binh, dung, chi) = (office.person("binh"), office.person("dung"), office.person("chi"));
    asked(&office).await;
    let version = office.running.version();
    let foreseen = office.admin.foresee(&approve("R-1")).await.unwrap().changes.join("\n");
    assert!(foreseen.contains("add the member VN/GOV/moj") && foreseen.contains("2 persons"), "{foreseen}");
    let proposal = proposed(&office.admin, &approve("R-1")).await;
    assert_eq!(
        (proposal.proposal.as_str(), &proposal.by[..], proposal.wanted),
        ("P-1", &["an.nguyen".to_owned()][..], 2)
    );
    assert!(proposal.changes[0].contains("add the member VN/GOV/moj"), "{:?}", proposal.changes);
    assert_eq!(command::signed(&proposal).unwrap().words, "approve R-1");
    assert!(members(&office).await.is_empty() && office.running.version() == version);
    // The same person counts once, and an auditor not at all.
    let (code, why) = refusal(office.admin.submit(&confirms(&proposal)).await);
    assert!(code == Code::PermissionDenied && why.contains("counts once"), "{why}");
    let (code, why) = refusal(chi.submit(&confirms(&proposal)).await);
    assert!(code == Code::PermissionDenied && why.contains("chi is auditor here"), "{why}");
    assert!(members(&office).await.is_empty());
    // A second person of either role carries it out.
    let foreseen = dung.foresee(&confirms(&proposal)).await.unwrap().changes.join("\n");
    assert!(foreseen.contains("add the member VN/GOV/moj"), "{foreseen}");
    let Answer::Decided(decided) = dung.submit(&confirms(&proposal)).await.unwrap() else { panic!("it is decided") };
    assert!(decided.version > version && members(&office).await.len() == 1);
    let (code, _) = refusal(binh.submit(&confirms(&proposal)).await);
    assert_eq!(code, Code::NotFound, "it is carried out once");

    // Taking off the road is urgent, and one person's; letting back is not.
    dung.submit(&Order::Suspend(MOJ.parse().unwrap(), text("a key was lost"))).await.unwrap();
    assert_eq!(members(&office).await[0].standing, "suspended");
    let back = proposed(&dung, &Order::Restore(MOJ.parse().unwrap())).await;
    assert_eq!(members(&office).await[0].standing, "suspended");
    binh.submit(&confirms(&back)).await.unwrap();
    assert_eq!(members(&office).await[0].standing, "active");
    let gone = proposed(&binh, &remove()).await;
    assert_eq!(members(&office).await.len(), 1);
    dung.submit(&confirms(&gone)).await.unwrap();
    assert!(members(&office).await.is_empty());
    holds(&office.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_orders_what_is_its_own_and_an_auditor_reads_all_and_changes_nothing() {
    let office = Office::of(&PERSONS, 2).await;
    asked(&office).await;
    let (member, server) = (MOJ.parse().unwrap(), SERVER.parse().unwrap());
    let births = || "VN/GOV/moj/births".parse().unwrap();
    let key = Digest::of(&[b"a key"]);
    let orders = [
        (invitation(MOJ, Some("A"), "VN/GOV/moj/ss2", &[]), [true, false]),
        (approve("R-1"), [true, false]),
        (Order::Reject("R-1".parse().unwrap(), text("no")), [true, true]),
        (Order::Suspend(member, text("why")), [false, true]),
        (Order::Restore(MOJ.parse().unwrap()), [true, true]),
        (Order::Revoke(Revocation { key, reason: text("why"), last_head: None }), [false, true]),
        (Order::Move(server, "a:1".parse().unwrap()), [true, false]),
        (Order::Maintain(SERVER.parse().unwrap(), None), [true, false]),
        (Order::Host(births(), SERVER.parse().unwrap()), [true, false]),
        (Order::Unhost(births(), SERVER.parse().unwrap()), [true, false]),
        (remove(), [true, false]),
        (Order::SetPurpose(purpose("tax")), [true, false]),
        (Order::RemovePurpose("tax".parse().unwrap(), text("why")), [true, false]),
        (Order::Confirm(key), [true, true]),
    ];
    let chi = office.person("chi");
    for (order, may) in &orders {
        for (name, may) in ["binh", "dung"].into_iter().zip(may) {
            let answer = office.person(name).foresee(order).await.map(|_| ());
            let is_refused = answer.is_err_and(|failed| failed.to_string().contains("and this is for a"));
            assert_eq!(is_refused, !may, "{name}: {order:?}");
        }
        let (code, why) = refusal(chi.submit(order).await);
        assert!(code == Code::PermissionDenied && why.contains("chi is auditor here"), "{order:?}: {why}");
        let foreseen = chi.foresee(order).await.unwrap_err().to_string();
        assert!(foreseen.contains("chi is auditor here"), "{foreseen}");
    }
    for order in [Order::ListMembers, Order::ListRequests, Order::ListProposals, Order::ListPurposes] {
        chi.submit(&order).await.unwrap();
    }
    assert!(members(&office).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_waits_a_day_through_a_restart_and_is_carried_out_as_it_was_signed_or_not_at_all() {
    let office = Office::of(&PERSONS, 2).await;
    asked(&office).await;
    let proposal = proposed(&office.admin, &approve("R-1")).await;
    // Other bytes are another order: nobody proposed it.
    let mut changed = proposal.clone();
    changed.command = command_with(&proposal.command, "R-1", "R-2").into();
    assert_eq!(command::signed(&changed).unwrap().words, "approve R-2");
    let (code, why) = refusal(office.person("binh").submit(&confirms(&changed)).await);
    assert!(code == Code::NotFound && why.contains("nothing that was ordered so"), "{why}");
    let office = office.restarted(|directory| fs::remove_dir_all(directory.join("view")).unwrap()).await;
    let waiting = office.person("chi").waiting("P-1").await.unwrap();
    assert_eq!(waiting.command, proposal.command);
    // Not carried out any more where it may not be: somebody rejected what it would approve.
    let dung = office.person("dung");
    dung.submit(&Order::Reject("R-1".parse().unwrap(), text("no mandate"))).await.unwrap();
    let (_, why) = refusal(office.person("binh").submit(&confirms(&proposal)).await);
    assert!(why.contains("R-1 was rejected already"), "{why}");
    let said = office.person("chi").waiting("P-1").await.unwrap().changes.join("");
    assert!(said.contains("nothing now: R-1 was rejected already"), "{said}");
    // Nor when a day is over, and then it is seen no more.
    office.pass(Duration::from_secs(24 * 3600));
    let (code, why) = refusal(office.person("binh").submit(&confirms(&proposal)).await);
    assert!(code == Code::FailedPrecondition && why.contains("P-1 waited until"), "{why}");
    assert!(office.person("chi").waiting("P-1").await.unwrap_err().to_string().contains("nothing waits as P-1"));
    holds(&office.path());
}

fn command_with(command: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = command.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut changed = command.to_vec();
    changed[at..at + to.len()].copy_from_slice(to.as_bytes());
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_root_states_three_the_second_one_is_not_enough() {
    let office = Office::of(&PERSONS, 3).await;
    asked(&office).await;
    let proposal = proposed(&office.admin, &approve("R-1")).await;
    let second = proposed(&office.person("binh"), &confirms(&proposal)).await;
    assert_eq!((second.by.len(), second.wanted), (2, 3));
    assert!(members(&office).await.is_empty());
    let (_, why) = refusal(office.person("binh").submit(&confirms(&proposal)).await);
    assert!(why.contains("counts once"), "{why}");
    let office = office.restarted(|directory| fs::remove_dir_all(directory.join("view")).unwrap()).await;
    let Answer::Decided(_) = office.person("dung").submit(&confirms(&proposal)).await.unwrap() else {
        panic!("it is decided")
    };
    assert_eq!(members(&office).await.len(), 1);
    holds(&office.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_persons_cannot_be_lowered_on_the_registrys_own_disk() {
    let office = Office::of(&PERSONS, 2).await;
    let (path, settings) = (office.path().join("public/1.root.json"), [office.settings(), office.settings()]);
    let [first, second] = settings;
    let honest = fs::read_to_string(&path).unwrap();
    assert!(honest.contains("\"persons\""), "{honest}");
    office.running.shutdown().await;
    let lowered = honest.replace("\"threshold\":2", "\"threshold\":1");
    assert_ne!(lowered, honest);
    fs::write(&path, lowered).unwrap();
    let refused = start(first).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, StartError::Published(_)), "a root that nobody signed: {refused}");
    // Nor by a whole configuration of one's own in its place: the journal knows the instance's root.
    let own = Office::of(&[], 1).await;
    own.running.shutdown().await;
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    fs::rename(own.directory.path().join("registry/public"), path.parent().unwrap()).unwrap();
    let refused = start(second).await.map(|_| ()).unwrap_err();
    // It is of another ledger than the journal's, where it is of the journal's version, and of another root always.
    let named = refused.to_string().contains("another checkpoint of the ledger than the audit journal knows");
    assert!(named || matches!(refused, StartError::OtherRoot), "{refused}");
}
