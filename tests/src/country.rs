//! A country with a catalogue: a portal that asks a civil registry, whose echo service is listed there and granted.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use proto::refusal::{Code, Language};
use security_server::access_rights::Proposal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::echo::{Heard, Parrot};
use crate::plain::{Plain, ask};
use crate::processes::{Member, PURPOSE};
use crate::realm::Realm;
use crate::soon;

/// A portal that asks a civil registry, whose echo service is listed and granted.
pub struct Country {
    pub realm: Realm,
    pub portal: Member,
    pub moj: Member,
}

impl Country {
    /// It, and what its service hears.
    pub async fn new() -> (Self, mpsc::UnboundedReceiver<Heard>) {
        let (service, heard) = Parrot::serve().await;
        let (realm, portal, moj) = Realm::of_two(service).await;
        let country = Self { realm, portal, moj };
        country.list(&[]).await;
        let methods = ["ServerStream", "ClientStream", "SpeaksFirst", "Hang", "Fail"];
        let proposal = Proposal {
            consumer: country.portal.subsystem.parse().unwrap(),
            provider: country.moj.subsystem.parse().unwrap(),
            methods: methods.map(|method| format!("/echo.v1.Echo/{method}")).into(),
            purposes: [PURPOSE.to_owned()].into(),
            legal_basis: "a test".into(),
            valid_from: None,
            valid_days: 3650,
            per_second: None,
            priority: Default::default(),
            fields: Default::default(),
        };
        let rights = &country.realm.servers["moj"].server.access_rights;
        rights.dangerously_grant(proposal, country.realm.now()).await.unwrap();
        (country, heard)
    }

    /// Lists the service, open to these.
    pub async fn list(&self, open_to: &[&str]) {
        self.realm.list(&self.moj, open_to).await;
    }

    pub fn door(&self) -> SocketAddr {
        self.portal.clients
    }

    pub fn post(&self, method: &str) -> http::request::Builder {
        Request::post(format!("/echo.v1.Echo/{method}"))
            .header("content-type", "application/json")
            .header("causeway-service", &self.moj.subsystem)
            .header("causeway-purpose", PURPOSE)
    }

    pub async fn asked(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Plain {
        soon(ask(self.door(), request, body)).await
    }

    pub async fn said(&self, method: &str, body: impl Into<Bytes>) -> Plain {
        self.asked(self.post(method), body).await
    }

    /// How an exchange ended in a member's log: each message, and what closed it.
    pub fn log_of(&self, name: &str, exchange: &str) -> Vec<String> {
        let found = self.realm.servers[name].server.message_log.find(exchange.parse().unwrap()).unwrap();
        let lines = security_server::evidence::summary(&found);
        lines.iter().map(|line| format!("{} {}", line.kind, line.direction.unwrap_or_default())).collect()
    }

    pub async fn quiet(&self) {
        soon(async {
            while self.realm.servers.values().any(|started| started.server.running() > 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// What a problem document of ours says, held against its code.
pub fn is_problem(answer: &Plain, code: Code, language: Language) -> Value {
    let said = answer.json();
    assert_eq!(said["code"], code.as_str(), "{said}");
    assert_eq!(answer.field("causeway-refusal"), Some(code.as_str()), "{said}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!((u64::from(answer.status()), &said["status"]), (code.http_status().into(), &json!(code.http_status())));
    assert_eq!((&said["title"], &said["remedy"]), (&json!(code.title(language)), &json!(code.remedy(language))));
    assert_eq!(said["type"], format!("urn:causeway:refusal:{code}"));
    assert_eq!(answer.field("content-language"), Some(language.tag()));
    said
}
