//! What the registry has published of a member and its servers, and the whole bus acts on: another address, maintenance, a
//! subsystem at several servers, leaving, removal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use central_registry::audit;
use central_registry::command::Failed;
use proto::identifier::ServerId;
use proto::registration::{Invitation, Order, Registered, Text};
use proto::server_request::Wish;
use security_server::Started;
use security_server::audit::Actor;
use tests::echo::{Parrot, said, says};
use tests::processes::{Member, client};
use tests::realm::{Realm, member_id, server_id};
use tests::soon;
use tests::wire::Said;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status, Streaming};

fn refusal(status: &Status) -> &str {
    status.metadata().get("causeway-refusal").expect("a refusal").to_str().unwrap()
}

fn text(text: &str) -> Text {
    text.parse().unwrap()
}

async fn calls(consumer: &Member, provider: &Member) -> Result<(), Status> {
    soon(client(consumer, provider).unary(said("a call"))).await.map(drop)
}

/// A stream that has been heard once.
async fn stream(consumer: &Member, provider: &Member) -> (mpsc::Sender<Said>, Streaming<Said>) {
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(client(consumer, provider).both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("before")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));
    (sender, answers)
}

/// The server's operator has the registry asked; the version that says so.
async fn asks(started: &Started, wish: Wish) -> u64 {
    let by = Actor { token: "operators.token".into(), from: "127.0.0.1".into(), calls_itself: None };
    started.server.renewal.as_ref().unwrap().wish(&started.server, wish, by).await.unwrap()
}

fn refused(answer: Result<impl std::fmt::Debug, Failed>) -> (Code, String) {
    match answer {
        Err(Failed::Refused { code, reason }) => (code, reason),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

/// The registry's journal, verified; what `audit list` would show of it.
async fn journal_holds(realm: Realm) -> Realm {
    let mut realm = realm;
    realm.stop_registry().await;
    let configuration = realm.path("registry/central-registry.toml");
    let configuration = central_registry::configuration::Configuration::read(&configuration).unwrap();
    audit::verify(&configuration, None, &[]).unwrap().holds().unwrap();
    realm.serve_registry().await;
    realm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_maintenance_is_asked_nothing_and_the_caller_is_told_by_name_while_what_runs_goes_on() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let (sender, mut answers) = stream(&portal, &moj).await;
    let before = realm.servers["moj"].server.message_log.end();
    let notice = text("back at noon");
    realm.in_force(asks(&realm.servers["moj"], Wish::Maintain(Some(notice.clone()))).await).await;
    assert_eq!(realm.registered(&moj).await.servers[0].maintenance, "back at noon");
    let status = calls(&portal, &moj).await.unwrap_err();
    assert_eq!((refusal(&status), status.code()), ("PROVIDER_IN_MAINTENANCE", Code::Unavailable));
    assert_eq!(realm.servers["moj"].server.message_log.end(), before, "nothing was sent");
    sender.send(said("still")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("still")));
    // The same twice would be a mistake, and is told.
    let by_an_admin = Order::Maintain(server_id(&moj), Some(notice));
    let (code, why) = refused(realm.order(by_an_admin).await);
    assert!(code == Code::FailedPrecondition && why.contains("says so already"), "{why}");
    // Who sent it there does not matter: the registry's admin brings it back.
    realm.in_force(realm.decided(Order::Maintain(server_id(&moj), None)).await).await;
    calls(&portal, &moj).await.unwrap();
    journal_holds(realm).await.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_providers_servers_the_one_in_maintenance_is_passed_over_and_one_that_hosts_no_more_is_not_asked() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    let second = Member { subsystem: moj.subsystem.clone(), ..Member::new("second", "nothing") };
    let server: ServerId = "VN/GOV/moj/ss2".parse().unwrap();
    let subsystem: proto::identifier::SubsystemId = moj.subsystem.parse().unwrap();
    let invited = Invitation {
        member: member_id(&moj),
        name: None,
        server: server.clone(),
        subsystems: Vec::new(),
        valid: Duration::from_secs(3600),
    };
    realm.join_as(&second, invited, &[("echo.v1.Echo", address)]).await;
    // It speaks for the subsystem by the admin's order, and not by having joined.
    let hosted = realm.decided(Order::Host(subsystem.clone(), server.clone())).await;
    realm.serve(&second).await;
    realm.in_force(hosted).await;
    realm.grant(&portal, &second).await;
    let maintained = asks(&realm.servers["moj"], Wish::Maintain(Some(text("a new disk")))).await;
    realm.in_force(maintained).await;
    // Nobody asks it: it may as well be gone.
    realm.stop(&moj).await;
    for _ in 0..3 {
        calls(&portal, &moj).await.unwrap();
    }
    let again = realm.order(Order::Host(subsystem.clone(), server.clone())).await;
    assert!(refused(again).1.contains("hosts"), "it does already");
    realm.in_force(realm.decided(Order::Unhost(subsystem.clone(), server.clone())).await).await;
    let status = calls(&portal, &moj).await.unwrap_err();
    assert_eq!(refusal(&status), "PROVIDER_IN_MAINTENANCE", "{status}");
    // A member has no signing key at another's server, so that one cannot speak for it.
    let foreign = realm.order(Order::Host(subsystem, server_id(&portal))).await;
    assert!(refused(foreign).1.contains("no signing key"));
    realm.stops().await;
}

/// Hands every connection on; how many came.
async fn forwards_to(member: &Member) -> (std::net::SocketAddr, watch::Receiver<u32>) {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), member.peers);
    let (address, (count, counted)) = (listener.local_addr().unwrap(), watch::channel(0));
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            count.send_modify(|count| *count += 1);
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    (address, counted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_moved_is_reached_at_its_new_address_and_what_runs_goes_on() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let (sender, mut answers) = stream(&portal, &moj).await;
    let (new_door, mut came) = forwards_to(&moj).await;
    let to: proto::registration::Address = new_door.to_string().parse().unwrap();
    realm.in_force(asks(&realm.servers["moj"], Wish::Move(to.clone())).await).await;
    assert_eq!(realm.registered(&moj).await.servers[0].address, to.as_str());
    calls(&portal, &moj).await.unwrap();
    assert_eq!(*came.borrow_and_update(), 1, "the call went to the new address");
    sender.send(said("still")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("still")));
    let back: proto::registration::Address = moj.peers.to_string().parse().unwrap();
    realm.in_force(realm.decided(Order::Move(server_id(&moj), back)).await).await;
    calls(&portal, &moj).await.unwrap();
    assert_eq!(*came.borrow_and_update(), 1, "and back at the old one by the admin's order");
    journal_holds(realm).await.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_asks_to_leave_stays_until_it_is_removed_and_then_is_stopped_everywhere_and_for_good() {
    let (address, _heard) = Parrot::serve().await;
    let (realm, portal, moj) = Realm::of_two(address).await;
    let leave = Wish::Leave(member_id(&moj), text("merged with the interior"));
    assert_eq!(asks(&realm.servers["moj"], leave.clone()).await, 0, "nothing is published of it");
    assert_eq!(realm.registered(&moj).await.leaving, "merged with the interior");
    calls(&portal, &moj).await.unwrap();
    // It may stay after all, and ask again.
    realm.decided(Order::Restore(member_id(&moj))).await;
    assert_eq!(realm.registered(&moj).await.leaving, "");
    asks(&realm.servers["moj"], leave).await;

    let (_sender, mut answers) = stream(&portal, &moj).await;
    let remove = Order::Remove(Registered::Member(member_id(&moj)), text("as it asked"));
    let foreseen = realm.admin.foresee(&remove).await.unwrap().changes.join("\n");
    for named in ["remove the member VN/GOV/moj for good", "VN/GOV/moj/ss1 off", "leave VN/GOV/moj/civil-registry"] {
        assert!(foreseen.contains(named), "{named} is not in\n{foreseen}");
    }
    calls(&portal, &moj).await.unwrap();
    let version = realm.decided(remove).await;
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&status), "ACCESS_ENDED");
    realm.in_force(version).await;
    assert_eq!(refusal(&calls(&portal, &moj).await.unwrap_err()), "PROVIDER_UNKNOWN");
    // Neither it nor another gets the name again, whatever its case: the portal may still have grants for it.
    for member in ["VN/GOV/moj", "VN/GOV/MOJ"] {
        let invitation = Invitation {
            member: member.parse().unwrap(),
            name: Some(text("Another ministry")),
            server: format!("{member}/ss1").parse().unwrap(),
            subsystems: Vec::new(),
            valid: Duration::from_secs(60),
        };
        let (code, why) = refused(realm.order(Order::Invite(invitation)).await);
        let named = if member == "VN/GOV/moj" { "was removed, for good" } else { "looks like VN/GOV/moj" };
        assert!(code == Code::AlreadyExists && why.contains(named), "{why}");
    }
    journal_holds(realm).await.stops().await;
}
