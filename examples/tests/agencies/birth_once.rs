//! Birth, once: what the parent types, each field once, becomes three documents.

use std::collections::{BTreeMap, BTreeSet};

use examples::agencies::civil_registry;
use examples::agencies::synthetic_people::{FATHER, MOTHER};
use examples::agencies::{Peer, population_register, portal};
use examples::wire::population::GetRequest;
use examples::wire::portal::one_stop_client::OneStopClient;
use examples::wire::portal::{BirthFiled, BirthForm, Origin};
use tonic::Code;

use crate::country::{Country, calendar, direct, form, free_port, insurance_at, listening};

#[tokio::test]
async fn a_birth_filed_once_becomes_a_registration_a_number_and_a_card() {
    let country = Country::start().await;
    let filed = country.one_stop().await.file_birth(form()).await.unwrap().into_inner();
    assert_eq!(filed.registration_number, "HT-2026-000001");
    assert_eq!(filed.personal_number, "000326000001");
    assert_eq!(filed.card_number, "TE1000000000001");
    assert_eq!(filed.card_valid_until, "2032-09-30");

    // The population register has the child now, and what it was never told it took from the mother.
    let asked = GetRequest { personal_number: filed.personal_number };
    let child = country.people().await.get(asked).await.unwrap().into_inner();
    assert_eq!(child.full_name, form().child_name);
    assert_eq!((child.mother_number.as_str(), child.father_number.as_str()), (MOTHER, FATHER));
    assert_eq!(child.residence, "12 phố Mẫu, phường Thử, Hà Nội");
}

#[tokio::test]
async fn the_parent_types_each_field_once_and_nothing_that_an_agency_knows() {
    let country = Country::start().await;
    let filed = country.one_stop().await.file_birth(form()).await.unwrap().into_inner();

    let typed = lines(&filed, Origin::Typed);
    let BirthForm { child_name, child_sex, date_of_birth, place_of_birth, mother_number, father_number } = form();
    let form = BTreeMap::from([
        ("child_name", child_name),
        ("child_sex", child_sex),
        ("date_of_birth", date_of_birth),
        ("place_of_birth", place_of_birth),
        ("mother_number", mother_number),
        ("father_number", father_number),
    ]);
    assert_eq!(typed.len(), form.len(), "a field was typed twice, or not at all: {typed:?}");
    for (document, field, value, source) in &typed {
        assert_eq!((document.as_str(), source.as_str()), ("birth certificate", "form"));
        assert_eq!(form.get(field.as_str()), Some(value), "{field}");
    }

    let reused: BTreeSet<_> =
        lines(&filed, Origin::Reused).into_iter().map(|(_, field, value, _)| (field, value)).collect();
    for (field, value) in [
        ("mother_name", "Nguyễn Thị Mẫu An"),
        ("father_name", "Trần Văn Mẫu Bình"),
        ("mother_ethnicity", "Kinh"),
        ("residence", "12 phố Mẫu, phường Thử, Hà Nội"),
        ("child_name", "Trần Mẫu Minh Tâm"),
        ("date_of_birth", "2026-03-01"),
    ] {
        assert!(reused.contains(&(field.to_owned(), value.to_owned())), "{field} {value}: {reused:?}");
    }
    assert!(lines(&filed, Origin::Reused).iter().all(|(.., source)| source == "population register"));
    assert_eq!(lines(&filed, Origin::Unspecified), []);
}

fn lines(filed: &BirthFiled, origin: Origin) -> Vec<(String, String, String, String)> {
    let of_origin = filed.entries.iter().filter(|entry| entry.origin() == origin).cloned();
    of_origin.map(|entry| (entry.document, entry.field, entry.value, entry.source)).collect()
}

#[tokio::test]
async fn a_father_who_is_not_recorded_appears_nowhere() {
    let country = Country::start().await;
    let form = BirthForm { father_number: String::new(), ..form() };
    let filed = country.one_stop().await.file_birth(form).await.unwrap().into_inner();
    assert_eq!(lines(&filed, Origin::Typed).len(), 5);
    assert!(!filed.entries.iter().any(|entry| entry.field.starts_with("father")));
}

#[tokio::test]
async fn twins_are_two_births() {
    let country = Country::start().await;
    let mut one_stop = country.one_stop().await;
    let first = one_stop.file_birth(form()).await.unwrap().into_inner();
    let twin = BirthForm { child_name: "Trần Mẫu Minh Châu".into(), ..form() };
    let second = one_stop.file_birth(twin).await.unwrap().into_inner();
    assert_eq!((first.personal_number.as_str(), second.personal_number.as_str()), ("000326000001", "000326000002"));
    assert_ne!(first.card_number, second.card_number);
}

#[tokio::test]
async fn a_filing_that_stopped_half_way_goes_on_where_it_stopped() {
    let country = Country::start().await;
    let address = country.insurance.address();
    country.insurance.shutdown().await;
    let mut one_stop = OneStopClient::connect(country.portal.uri()).await.unwrap();
    let stopped = one_stop.file_birth(form()).await.unwrap_err();
    assert_eq!(stopped.code(), Code::Unavailable, "{stopped}");
    assert!(stopped.message().starts_with("social insurance did not answer"), "{stopped}");

    let _insurance = insurance_at(listening(address).await, &country.population).await;
    let filed = one_stop.file_birth(form()).await.unwrap().into_inner();
    assert_eq!(
        (filed.registration_number.as_str(), filed.personal_number.as_str()),
        ("HT-2026-000001", "000326000001")
    );
    // Finished, it is a birth like any other: it is not registered again.
    assert_eq!(one_stop.file_birth(form()).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_registry_that_lost_the_register_registers_when_it_is_back() {
    let country = Country::start().await;
    let address = country.population.address();
    country.population.shutdown().await;
    let mut one_stop = OneStopClient::connect(country.portal.uri()).await.unwrap();
    let stopped = one_stop.file_birth(form()).await.unwrap_err();
    assert_eq!(stopped.code(), Code::Unavailable, "{stopped}");

    let _population = population_register::start(listening(address).await, calendar()).await.unwrap();
    assert_eq!(one_stop.file_birth(form()).await.unwrap().into_inner().personal_number, "000326000001");
}

#[tokio::test]
async fn the_metadata_that_a_peer_was_given_goes_with_each_call() {
    let country = Country::start().await;
    let (spy, mut seen) = spy::start().await;
    let pairs = [("purpose", "birth-registration"), ("to", "population"), ("to", "again")];
    let metadata = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let peers = civil_registry::Peers { population: Peer::new(&spy, &metadata).unwrap() };
    let civil = civil_registry::start(free_port().await, peers, calendar()).await.unwrap();
    let peers = portal::Peers { civil: direct(&civil), insurance: direct(&country.insurance), disclosures: Vec::new() };
    let portal = portal::start(free_port().await, peers).await.unwrap();

    let mut one_stop = OneStopClient::connect(portal.uri()).await.unwrap();
    let refused = one_stop.file_birth(form()).await.unwrap_err();
    // The registry was refused, not the parent: the parent's call is not the one that lacks a right.
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("only looking"), "{refused}");

    let asked = seen.recv().await.unwrap();
    assert_eq!(asked.get("purpose").unwrap(), "birth-registration");
    assert_eq!(asked.get_all("to").iter().collect::<Vec<_>>(), ["population", "again"]);
    assert!(asked.contains_key("grpc-timeout"), "a question without a deadline");
}

/// A population register that keeps the metadata of a call and refuses it.
mod spy {
    use std::convert::Infallible;

    use tokio::sync::mpsc::{Receiver, channel};
    use tonic::codegen::http::{HeaderMap, Request, Response};
    use tonic::service::Routes;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;
    use tonic::{Status, body::Body};

    use crate::country::free_port;

    pub async fn start() -> (String, Receiver<HeaderMap>) {
        let (kept, seen) = channel(8);
        let listener = free_port().await;
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let refuse = move |request: Request<axum::body::Body>| {
            let kept = kept.clone();
            async move {
                kept.send(request.headers().clone()).await.unwrap();
                Ok::<Response<Body>, Infallible>(Status::permission_denied("only looking").into_http())
            }
        };
        let routes = Routes::from(axum::Router::new().fallback_service(tower::service_fn(refuse)));
        tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
        (uri, seen)
    }
}
