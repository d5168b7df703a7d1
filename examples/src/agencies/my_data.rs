//! Who has looked at my data: every agency is asked at once, each by itself, and what comes is shown in the citizen's language.
//! One that does not answer is named; nothing is kept here.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::{Request, Status};

use super::{Line, Peer};
use crate::wire::disclosures::disclosures_client::DisclosuresClient;
use crate::wire::disclosures::{Disclosure, ListRequest, Result as Ended};
use crate::wire::portal::{AgencyTold, Look, MyData, MyDataRequest};

/// How long one agency may take.
pub const AGENCY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most answers of one agency that are put together; what is older is said to be there.
const MAX_ANSWERS: usize = 10;

/// The agencies that are asked, by their names for people.
pub struct Agencies(Vec<(String, DisclosuresClient<Line>)>);

#[derive(Clone, Copy)]
enum Language {
    English,
    Vietnamese,
}

impl Language {
    fn of(tag: &str) -> Result<Self, Status> {
        match tag {
            "" | "en" => Ok(Self::English),
            "vi" => Ok(Self::Vietnamese),
            _ => Err(Status::invalid_argument("language: it is en or vi")),
        }
    }

    fn word<T>(self, english: T, vietnamese: T) -> T {
        match self {
            Self::English => english,
            Self::Vietnamese => vietnamese,
        }
    }
}

impl Agencies {
    /// Each with the line by which it is asked.
    pub fn of(peers: Vec<(String, Peer)>) -> Self {
        Self(peers.into_iter().map(|(name, peer)| (name, DisclosuresClient::new(peer.line()))).collect())
    }

    /// What all of them tell of the person who is logged in.
    pub async fn tell(&self, request: MyDataRequest) -> Result<MyData, Status> {
        let MyDataRequest { personal_number, language } = request;
        let language = Language::of(&language)?;
        if personal_number.is_empty() {
            return Err(Status::invalid_argument("personal_number: nobody is logged in"));
        }
        let asked = self.0.iter().map(|(name, client)| {
            let asked = of_agency(client.clone(), personal_number.clone(), language);
            async move { (name.clone(), tokio::time::timeout(AGENCY_TIMEOUT, asked).await) }
        });
        let (mut agencies, mut not_answered) = (Vec::new(), Vec::new());
        for (agency, told) in join_all(asked).await {
            match told {
                Ok(Ok(told)) => agencies.push(AgencyTold { agency, ..told }),
                Ok(Err(_)) | Err(_) => not_answered.push(agency),
            }
        }
        let (answered, all) = (agencies.len(), self.0.len());
        let coverage = match language {
            Language::English => format!("{answered} of {all} agencies answered"),
            Language::Vietnamese => format!("{answered} trên {all} cơ quan đã trả lời"),
        };
        let silent = not_answered.join(", ");
        let coverage = match language {
            _ if silent.is_empty() => coverage,
            Language::English => format!("{coverage}; not just now: {silent}"),
            Language::Vietnamese => format!("{coverage}; hiện chưa trả lời: {silent}"),
        };
        let title = language.word("Who has looked at my data", "Ai đã xem dữ liệu của tôi").into();
        Ok(MyData { title, coverage, agencies, not_answered })
    }
}

/// All that one agency tells, answer by answer.
async fn of_agency(
    mut client: DisclosuresClient<Line>,
    subject: String,
    language: Language,
) -> Result<AgencyTold, Status> {
    let mut told = AgencyTold::default();
    for _ in 0..MAX_ANSWERS {
        let asked = ListRequest { subject: subject.clone(), before: told.next.clone(), ..ListRequest::default() };
        let mut asked = Request::new(asked);
        asked.set_timeout(AGENCY_TIMEOUT);
        let answer = client.list(asked).await?.into_inner();
        told.looks.extend(answer.disclosures.into_iter().map(|disclosure| look(disclosure, language)));
        (told.not_covered, told.next) = (answer.not_covered, answer.next);
        if told.next.is_empty() {
            break;
        }
    }
    Ok(told)
}

fn look(told: Disclosure, language: Language) -> Look {
    let result = match told.result() {
        Ended::Answered => language.word("answered", "đã trả lời"),
        Ended::Refused => language.word("refused", "đã từ chối"),
        Ended::Aborted => language.word("broken off", "bị ngắt giữa chừng"),
        Ended::Unanswered => language.word("no answer", "không có trả lời"),
        Ended::Open | Ended::Unspecified => language.word("still running", "đang thực hiện"),
    };
    let purpose = language.word(told.purpose_en, told.purpose_vi);
    Look {
        when: told.time,
        who: format!("{} ({})", told.consumer_name, told.consumer),
        what: if told.description.is_empty() { told.method } else { told.description },
        elements: told.elements,
        purpose: if purpose.is_empty() { told.purpose } else { purpose },
        legal_basis: told.legal_basis,
        result: result.into(),
        exchange: told.exchange,
    }
}
