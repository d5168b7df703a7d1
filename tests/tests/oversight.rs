//! The registry oversees grants (PROTOCOL.md 20): what providers' servers go by, with the consumer's acceptance, when it ended, and
//! on which day it was used last, whatever was down meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use proto::oversight::{Day, GrantsWanted};
use proto::registration::Order;
use proto::wire::registry as wire;
use proto::wire::registry::command_result::Result as Answer;
use security_server::access_requests::{Asking, Shown};
use security_server::listen::operators::access::Approving;
use security_server::listen::operators::{Changed, Ending};
use security_server::operate::Operator;
use tests::echo::{Parrot, said};
use tests::processes::{Member, PURPOSE, client};
use tests::realm::Realm;
use tests::soon;

fn operator(realm: &Realm, member: &Member) -> Operator {
    Operator::of(&realm.path(&member.file())).unwrap()
}

async fn call(consumer: &Member, provider: &Member) {
    soon(client(consumer, provider).unary(said("a call"))).await.unwrap();
}

/// The server tells now what it would tell within a minute.
async fn tells(realm: &Realm, member: &Member) {
    soon(realm.servers[member.name].server.report_grants()).await.unwrap();
}

/// What the registry shows, by the number of the grant.
async fn seen(realm: &Realm, number: u64) -> wire::OverseenGrant {
    let wanted = GrantsWanted { over: true, ..GrantsWanted::default() };
    let Ok(Answer::Grants(grants)) = realm.order(Order::ListGrants(wanted)).await else {
        panic!("grants were asked for")
    };
    grants.grants.into_iter().find(|grant| grant.number == number).unwrap_or_else(|| panic!("grant {number} is known"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_asked_for_is_overseen_with_its_acceptance_its_use_and_its_end() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    let asking = Asking {
        what: "/echo.v1.Echo/Server".into(),
        provider: Some(moj.subsystem.parse().unwrap()),
        consumer: None,
        purpose: PURPOSE.into(),
        legal_basis: "Law on civil status, article 13".parse().unwrap(),
        until: None,
    };
    let asked: Shown = operator(&realm, &portal).post("/v1/access/requests", &asking).await.unwrap();
    let decision = format!("/v1/access/requests/{}/approve", asked.request);
    let granted: Changed = operator(&realm, &moj).post(&decision, &Approving::default()).await.unwrap();
    let number = granted.grant.number.0;
    tells(&realm, &moj).await;
    let shown = seen(&realm, number).await;
    assert_eq!((shown.standing.as_str(), shown.request.as_str()), ("in force", asked.request.as_str()));
    assert_eq!((shown.consumer.as_str(), shown.provider.as_str()), (portal.subsystem.as_str(), moj.subsystem.as_str()));
    assert_eq!(
        (&shown.methods[..], &shown.purposes[..]),
        (&["/echo.v1.Echo/Server".to_owned()][..], &[PURPOSE.to_owned()][..])
    );
    assert_eq!(shown.legal_basis, "Law on civil status, article 13");
    assert_eq!((shown.server.as_str(), shown.countersigned, shown.last_used.as_str()), ("VN/GOV/moj/ss1", false, ""));
    // The answer is fetched, the countersignature brought, and told.
    let answer: Shown =
        operator(&realm, &portal).read(&format!("/v1/access/requests/{}", asked.request)).await.unwrap();
    assert!(answer.countersigned, "{answer:?}");
    tells(&realm, &moj).await;
    assert!(seen(&realm, number).await.countersigned);
    assert_eq!(seen(&realm, 1).await.request, "", "nobody asked for the other one");

    // The first use is told at once, a later one when its day is over; a restart forgets neither.
    call(&portal, &moj).await;
    tells(&realm, &moj).await;
    let first = Day::of(realm.now());
    assert_eq!(seen(&realm, 1).await.last_used, first.to_string());
    assert_eq!(seen(&realm, number).await.last_used, "", "the other one was not used");
    realm.day().await;
    tells(&realm, &moj).await;
    call(&portal, &moj).await;
    tells(&realm, &moj).await;
    assert_eq!(seen(&realm, 1).await.last_used, first.to_string(), "its day is not over");
    // A version that is just being taken would hold the directory.
    realm.settled().await;
    realm.restart(&moj).await;
    realm.settled().await;
    realm.day().await;
    tells(&realm, &moj).await;
    assert_eq!(seen(&realm, 1).await.last_used, Day(first.0 + 1).to_string());

    let ending = Ending { reason: "the law has changed".parse().unwrap() };
    let _: Changed = operator(&realm, &moj).post(&format!("/v1/grants/{number}/end"), &ending).await.unwrap();
    tells(&realm, &moj).await;
    let shown = seen(&realm, number).await;
    assert_eq!((shown.standing.as_str(), shown.reason.as_str()), ("ended", "the law has changed"));
    assert!(shown.countersigned && shown.ended >= realm.now().as_millis(), "{shown:?}");
    realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_was_gone_is_told_when_it_is_back_and_keeps_what_it_was_told_before() {
    let (address, _heard) = Parrot::serve().await;
    let (mut realm, portal, moj) = Realm::of_two(address).await;
    tells(&realm, &moj).await;
    let before = seen(&realm, 1).await;
    realm.stop_registry().await;
    realm.grant(&portal, &moj).await;
    call(&portal, &moj).await;
    soon(realm.servers["moj"].server.report_grants()).await.unwrap_err();
    // The server is started again before the registry is back: what it has to tell is on its disk.
    realm.restart(&moj).await;
    realm.serve_registry().await;
    assert_eq!(seen(&realm, 1).await.told, before.told, "the registry kept what it knew");
    tells(&realm, &moj).await;
    assert_eq!(seen(&realm, 2).await.standing, "in force");
    let used = [seen(&realm, 1).await.last_used, seen(&realm, 2).await.last_used];
    assert!(used.contains(&Day::of(realm.now()).to_string()), "{used:?}");
    realm.stops().await;
}
