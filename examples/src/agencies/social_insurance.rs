//! Social insurance: who is covered. It asks for a personal number and nothing else; what a card says of its bearer
//! comes from the population register.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{Stream, StreamExt};
use time::{Date, Month};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use super::field::{self, PersonalNumber};
use super::{Calendar, Line, Peer, Running, peer_failed, question, serve, until_stopped};
use crate::wire::insurance::health_cards_server::{HealthCards, HealthCardsServer};
use crate::wire::insurance::{Answer, Card, Entry, IssueChildCardRequest, Question};
use crate::wire::population::people_client::PeopleClient;
use crate::wire::population::{GetRequest, Person};

/// Children under this age have a card of their own.
pub const CHILD_CARD_YEARS: i32 = 6;
/// Cards that can be issued: a card's number has ten digits, and they are kept in memory.
pub const MAX_CARDS: usize = 1_000_000;

const POPULATION_REGISTER: &str = "population register";
const SOCIAL_INSURANCE: &str = "social insurance";

/// Whom social insurance calls.
#[derive(Clone)]
pub struct Peers {
    /// The population register.
    pub population: Peer,
}

/// Starts social insurance, without cards.
pub async fn start(listener: TcpListener, peers: Peers, calendar: Calendar) -> std::io::Result<Running> {
    let stop = CancellationToken::new();
    let office = Office {
        cards: Mutex::new(Cards::new(MAX_CARDS)),
        population: PeopleClient::new(peers.population.line()),
        calendar,
    };
    let service = SocialInsurance { office: Arc::new(office), stop: stop.clone() };
    serve(listener, stop, Routes::new(HealthCardsServer::new(service)))
}

struct SocialInsurance {
    office: Arc<Office>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl HealthCards for SocialInsurance {
    async fn issue_child_card(&self, request: Request<IssueChildCardRequest>) -> Result<Response<Card>, Status> {
        let number = PersonalNumber::parse("personal_number", &request.into_inner().personal_number)?;
        let unknown = || Status::not_found("personal_number: no person has this number");
        let child = self.office.person(&number).await?.ok_or_else(unknown)?;
        let born = self.office.born(&child)?;
        let until = child_card_until(born);
        if until < self.office.calendar.today() {
            return Err(Status::failed_precondition(
                "personal_number: a child's card is for children under six; an older child is insured through school",
            ));
        }
        let card_number = self.office.cards().issue(number, until)?;
        Ok(Response::new(card(card_number, until, &child)))
    }

    type CheckEligibilityStream = Pin<Box<dyn Stream<Item = Result<Answer, Status>> + Send>>;

    async fn check_eligibility(
        &self,
        request: Request<Streaming<Question>>,
    ) -> Result<Response<Self::CheckEligibilityStream>, Status> {
        let office = self.office.clone();
        // One question is read, answered, and only then the next: no answer waits for a later question.
        let answers = request.into_inner().then(move |asked| {
            let office = office.clone();
            async move { office.answer(asked?).await }
        });
        Ok(Response::new(until_stopped(answers, self.stop.clone()).boxed()))
    }
}

fn card(card_number: String, until: Date, child: &Person) -> Card {
    let valid_until = field::written(until);
    let entry = |field: &str, value: &str, source: &str| Entry {
        field: field.into(),
        value: value.into(),
        source: source.into(),
    };
    let entries = vec![
        entry("card_number", &card_number, SOCIAL_INSURANCE),
        entry("valid_until", &valid_until, SOCIAL_INSURANCE),
        entry("personal_number", &child.personal_number, POPULATION_REGISTER),
        entry("child_name", &child.full_name, POPULATION_REGISTER),
        entry("child_sex", &child.sex, POPULATION_REGISTER),
        entry("date_of_birth", &child.date_of_birth, POPULATION_REGISTER),
        entry("residence", &child.residence, POPULATION_REGISTER),
    ];
    Card { card_number, valid_until, entries }
}

/// The last day of a child's card: the end of the month in which the child turns six, but not before 30 September of
/// that year, when school has begun. Modelled on Viet Nam's rule; this is an example, not legal advice.
fn child_card_until(born: Date) -> Date {
    let year = born.year() + CHILD_CARD_YEARS;
    let day = |month: Month| {
        Date::from_calendar_date(year, month, month.length(year)).expect("the last day of a month exists")
    };
    day(Month::September).max(day(born.month()))
}

/// What both methods stand on: the cards issued, and the line to the population register.
struct Office {
    cards: Mutex<Cards>,
    population: PeopleClient<Line>,
    calendar: Calendar,
}

impl Office {
    fn cards(&self) -> MutexGuard<'_, Cards> {
        self.cards.lock().expect("nothing panics while it holds the cards")
    }

    async fn person(&self, number: &PersonalNumber) -> Result<Option<Person>, Status> {
        let asked = question(GetRequest { personal_number: number.to_string() });
        match self.population.clone().get(asked).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(peer_failed(POPULATION_REGISTER, &status)),
        }
    }

    fn born(&self, person: &Person) -> Result<Date, Status> {
        field::date("date_of_birth", &person.date_of_birth)
            .map_err(|invalid| Status::internal(format!("{POPULATION_REGISTER} answered nonsense: {invalid}")))
    }

    async fn answer(&self, asked: Question) -> Result<Answer, Status> {
        let number = PersonalNumber::parse("personal_number", &asked.personal_number)?;
        let answer = |verdict: &str, card_number: String, reason: &str| Answer {
            personal_number: number.to_string(),
            verdict: verdict.into(),
            card_number,
            reason: reason.into(),
        };
        let today = self.calendar.today();
        let held = self.cards().valid(&number, today);
        if let Some(card) = held {
            return Ok(answer("covered", card, "holds a valid child's card"));
        }
        let Some(person) = self.person(&number).await? else {
            return Ok(answer("unknown person", String::new(), "no person has this number"));
        };
        if child_card_until(self.born(&person)?) >= today {
            Ok(answer("eligible", String::new(), "under six, without a card"))
        } else {
            Ok(answer("not eligible", String::new(), "above the age of a child's card"))
        }
    }
}

// ---- what is issued, and its rules

struct Cards {
    cards: HashMap<PersonalNumber, (String, Date)>,
    limit: usize,
}

impl Cards {
    fn new(limit: usize) -> Cards {
        Cards { cards: HashMap::new(), limit }
    }

    /// The child's card: a child has one, however often it is asked for. TE is the group of children, place 00 does not
    /// exist: nobody has this number.
    fn issue(&mut self, number: PersonalNumber, until: Date) -> Result<String, Status> {
        if let Some((card, _)) = self.cards.get(&number) {
            return Ok(card.clone());
        }
        if self.cards.len() == self.limit {
            return Err(Status::resource_exhausted("all cards of this example are issued: start it anew"));
        }
        let card = format!("TE100{:010}", self.cards.len() + 1);
        self.cards.insert(number, (card.clone(), until));
        Ok(card)
    }

    fn valid(&self, number: &PersonalNumber, today: Date) -> Option<String> {
        self.cards.get(number).filter(|(_, until)| *until >= today).map(|(card, _)| card.clone())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_childs_card_ends_with_the_school_year_or_the_month_of_the_sixth_birthday() {
        for (born, until) in [
            (date!(2020 - 01 - 05), date!(2026 - 09 - 30)),
            (date!(2020 - 09 - 30), date!(2026 - 09 - 30)),
            (date!(2020 - 10 - 01), date!(2026 - 10 - 31)),
            (date!(2020 - 02 - 29), date!(2026 - 09 - 30)),
            (date!(2020 - 12 - 31), date!(2026 - 12 - 31)),
        ] {
            assert_eq!(child_card_until(born), until, "{born}");
        }
    }

    #[test]
    fn a_card_covers_on_its_last_day_and_no_longer() {
        let mut cards = Cards::new(1);
        let child = PersonalNumber::parse("number", "000221000001").unwrap();
        let card = cards.issue(child.clone(), date!(2026 - 09 - 30)).unwrap();
        assert_eq!(cards.valid(&child, date!(2026 - 09 - 30)), Some(card.clone()));
        assert_eq!(cards.valid(&child, date!(2026 - 10 - 01)), None);
        assert_eq!(cards.issue(child, date!(2026 - 09 - 30)).unwrap(), card);
        let other = PersonalNumber::parse("number", "000221000002").unwrap();
        assert_eq!(cards.issue(other, date!(2026 - 09 - 30)).unwrap_err().code(), Code::ResourceExhausted);
    }
}
