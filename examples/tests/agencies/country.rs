//! The whole example country on loopback, each agency on a port of its own, on a day that the test holds.

use std::net::SocketAddr;

use examples::agencies::synthetic_people::{FATHER, MOTHER};
use examples::agencies::{Calendar, Peer, Running, civil_registry, population_register, portal, social_insurance};
use examples::wire::civil::births_client::BirthsClient;
use examples::wire::insurance::health_cards_client::HealthCardsClient;
use examples::wire::population::people_client::PeopleClient;
use examples::wire::portal::BirthForm;
use examples::wire::portal::one_stop_client::OneStopClient;
use time::macros::date;
use tokio::net::TcpListener;
use tonic::transport::Channel;

pub struct Country {
    pub population: Running,
    pub civil: Running,
    pub insurance: Running,
    pub portal: Running,
}

impl Country {
    pub async fn start() -> Country {
        let population = population_register::start(free_port().await, calendar()).await.unwrap();
        let peers = civil_registry::Peers { population: direct(&population) };
        let civil = civil_registry::start(free_port().await, peers, calendar()).await.unwrap();
        let insurance = insurance_at(free_port().await, &population).await;
        let peers = portal::Peers { civil: direct(&civil), insurance: direct(&insurance), disclosures: Vec::new() };
        let portal = portal::start(free_port().await, peers).await.unwrap();
        Country { population, civil, insurance, portal }
    }

    pub async fn people(&self) -> PeopleClient<Channel> {
        PeopleClient::connect(self.population.uri()).await.unwrap()
    }

    pub async fn births(&self) -> BirthsClient<Channel> {
        BirthsClient::connect(self.civil.uri()).await.unwrap()
    }

    pub async fn cards(&self) -> HealthCardsClient<Channel> {
        HealthCardsClient::connect(self.insurance.uri()).await.unwrap()
    }

    pub async fn one_stop(&self) -> OneStopClient<Channel> {
        OneStopClient::connect(self.portal.uri()).await.unwrap()
    }
}

pub async fn insurance_at(listener: TcpListener, population: &Running) -> Running {
    let peers = social_insurance::Peers { population: direct(population) };
    social_insurance::start(listener, peers, calendar()).await.unwrap()
}

pub fn direct(agency: &Running) -> Peer {
    Peer::new(&agency.uri(), &[]).unwrap()
}

pub fn calendar() -> Calendar {
    Calendar::fixed(date!(2026 - 03 - 02))
}

pub async fn free_port() -> TcpListener {
    listening("127.0.0.1:0".parse().unwrap()).await
}

pub async fn listening(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

/// What a parent types for a child born yesterday.
pub fn form() -> BirthForm {
    BirthForm {
        child_name: "Trần Mẫu Minh Tâm".into(),
        child_sex: "female".into(),
        date_of_birth: "2026-03-01".into(),
        place_of_birth: "Bệnh viện Mẫu, Hà Nội".into(),
        mother_number: MOTHER.into(),
        father_number: FATHER.into(),
    }
}
