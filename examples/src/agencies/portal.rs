//! The one-stop portal: people see here who looked at their data, and a parent files a birth here, once. It asks each agency for its part, and says of every line of
//! every document whether the parent typed it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use super::my_data::Agencies;
use super::{Line, Peer, Running, peer_failed, question, serve};
use crate::wire::civil::births_client::BirthsClient;
use crate::wire::civil::{BirthCertificate, BirthNotice};
use crate::wire::insurance::health_cards_client::HealthCardsClient;
use crate::wire::insurance::{Card, IssueChildCardRequest};
use crate::wire::portal::one_stop_server::{OneStop, OneStopServer};
use crate::wire::portal::{BirthFiled, BirthForm, Entry, MyData, MyDataRequest, Origin};

/// Filings that stopped half way and wait to be filed again.
pub const MAX_UNFINISHED: usize = 10_000;

const CIVIL_REGISTRY: &str = "civil registry";
const SOCIAL_INSURANCE: &str = "social insurance";

/// Whom the portal calls.
#[derive(Clone)]
pub struct Peers {
    /// The civil registry.
    pub civil: Peer,
    /// Social insurance.
    pub insurance: Peer,
    /// Who tells people who received what about them: each agency's name, and how it is asked for that.
    pub disclosures: Vec<(String, Peer)>,
}

/// Starts the portal.
pub async fn start(listener: TcpListener, peers: Peers) -> std::io::Result<Running> {
    let portal = Portal {
        civil: BirthsClient::new(peers.civil.line()),
        insurance: HealthCardsClient::new(peers.insurance.line()),
        agencies: Agencies::of(peers.disclosures),
        unfinished: Mutex::new(Unfinished::default()),
    };
    serve(listener, CancellationToken::new(), Routes::new(OneStopServer::new(portal)))
}

struct Portal {
    civil: BirthsClient<Line>,
    insurance: HealthCardsClient<Line>,
    agencies: Agencies,
    unfinished: Mutex<Unfinished>,
}

#[tonic::async_trait]
impl OneStop for Portal {
    async fn file_birth(&self, request: Request<BirthForm>) -> Result<Response<BirthFiled>, Status> {
        let notice = notice(request.into_inner());
        let known = self.unfinished().begin(&notice)?;
        let certificate = match known {
            Some(certificate) => certificate,
            None => self.registered(&notice).await?,
        };
        // Kept before the next step: whoever hangs up now finds the certificate when they file again.
        self.unfinished().keep(&notice, &certificate);
        let card = self.insured(&certificate.personal_number).await?;
        self.unfinished().finish(&notice);
        Ok(Response::new(filed(certificate, card)))
    }

    async fn who_looked_at_my_data(&self, request: Request<MyDataRequest>) -> Result<Response<MyData>, Status> {
        self.agencies.tell(request.into_inner()).await.map(Response::new)
    }
}

impl Portal {
    fn unfinished(&self) -> MutexGuard<'_, Unfinished> {
        self.unfinished.lock().expect("nothing panics while it holds the filings")
    }

    async fn registered(&self, notice: &BirthNotice) -> Result<BirthCertificate, Status> {
        match self.civil.clone().register(question(notice.clone())).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(about_the_form(CIVIL_REGISTRY, status)),
        }
    }

    async fn insured(&self, personal_number: &str) -> Result<Card, Status> {
        let asked = question(IssueChildCardRequest { personal_number: personal_number.into() });
        let answer = self.insurance.clone().issue_child_card(asked).await;
        answer.map(Response::into_inner).map_err(|status| peer_failed(SOCIAL_INSURANCE, &status))
    }
}

/// What the registry says of the notice is what the parent must know of the form: their fields have the same names.
fn about_the_form(peer: &str, status: Status) -> Status {
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::Aborted => {
            Status::new(status.code(), status.message())
        }
        _ => peer_failed(peer, &status),
    }
}

fn notice(form: BirthForm) -> BirthNotice {
    let BirthForm { child_name, child_sex, date_of_birth, place_of_birth, mother_number, father_number } = form;
    BirthNotice { child_name, child_sex, date_of_birth, place_of_birth, mother_number, father_number }
}

fn filed(certificate: BirthCertificate, card: Card) -> BirthFiled {
    let of_certificate = certificate.entries.into_iter().map(|entry| {
        let (origin, source) = match entry.source.as_str() {
            "notice" => (Origin::Typed, "form".into()),
            CIVIL_REGISTRY => (Origin::Issued, entry.source),
            _ => (Origin::Reused, entry.source),
        };
        (("birth certificate", entry.field, entry.value), (origin, source))
    });
    let of_card = card.entries.into_iter().map(|entry| {
        let origin = if entry.source == SOCIAL_INSURANCE { Origin::Issued } else { Origin::Reused };
        (("health-insurance card", entry.field, entry.value), (origin, entry.source))
    });
    let entries = of_certificate.chain(of_card).map(|((document, field, value), (origin, source))| Entry {
        document: document.into(),
        field,
        value,
        origin: origin.into(),
        source,
    });
    BirthFiled {
        registration_number: certificate.registration_number,
        personal_number: certificate.personal_number,
        card_number: card.card_number,
        card_valid_until: card.valid_until,
        entries: entries.collect(),
    }
}

/// Births that are registered, but not yet insured: what was filed, and the certificate that came of it.
#[derive(Default)]
struct Unfinished(HashMap<Vec<u8>, BirthCertificate>);

impl Unfinished {
    /// The certificate, if this notice got so far before. Refused here, where nothing is registered yet.
    fn begin(&self, notice: &BirthNotice) -> Result<Option<BirthCertificate>, Status> {
        match self.0.get(&key(notice)) {
            Some(certificate) => Ok(Some(certificate.clone())),
            None if self.0.len() < MAX_UNFINISHED => Ok(None),
            None => Err(Status::resource_exhausted("too many filings wait to be finished: finish some of them first")),
        }
    }

    fn keep(&mut self, notice: &BirthNotice, certificate: &BirthCertificate) {
        self.0.insert(key(notice), certificate.clone());
    }

    fn finish(&mut self, notice: &BirthNotice) {
        self.0.remove(&key(notice));
    }
}

fn key(notice: &BirthNotice) -> Vec<u8> {
    prost::Message::encode_to_vec(notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filings_that_wait_are_limited() {
        let notice = |place: usize| BirthNotice { place_of_birth: place.to_string(), ..BirthNotice::default() };
        let mut unfinished = Unfinished::default();
        for place in 0..MAX_UNFINISHED {
            assert_eq!(unfinished.begin(&notice(place)).unwrap(), None);
            unfinished.keep(&notice(place), &BirthCertificate::default());
        }
        let full = unfinished.begin(&notice(MAX_UNFINISHED)).unwrap_err();
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert!(unfinished.begin(&notice(0)).unwrap().is_some());
        unfinished.finish(&notice(0));
        assert_eq!(unfinished.begin(&notice(MAX_UNFINISHED)).unwrap(), None);
    }
}
