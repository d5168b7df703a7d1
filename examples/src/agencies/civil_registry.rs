//! The civil registry: births. It takes from the parents only what no agency knows yet, and asks the population
//! register for the rest.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use time::Date;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use super::field::{self, FullName, Invalid, PersonalNumber, Place, Sex};
use super::{Calendar, Line, Peer, Running, peer_failed, question, serve, shutting_down};
use crate::wire::civil::births_server::{Births, BirthsServer};
use crate::wire::civil::{BirthCertificate, BirthNotice, Entry, HistoricBirth, ImportSummary, Rejection};
use crate::wire::population::people_client::PeopleClient;
use crate::wire::population::{GetRequest, IssueNumberRequest, Person};

/// Births that the registry holds at most: it keeps them in memory.
pub const MAX_BIRTHS: usize = 1_000_000;
/// Rejections of an import that its summary names; the others are counted.
pub const MAX_REJECTIONS_NAMED: usize = 20;
/// Characters of a paper book's name, at most.
pub const MAX_BOOK_CHARS: usize = 40;

const NOTICE: &str = "notice";
const CIVIL_REGISTRY: &str = "civil registry";
const POPULATION_REGISTER: &str = "population register";

/// Whom the registry calls.
#[derive(Clone)]
pub struct Peers {
    /// The population register.
    pub population: Peer,
}

/// Starts the registry, without births.
pub async fn start(listener: TcpListener, peers: Peers, calendar: Calendar) -> std::io::Result<Running> {
    let stop = CancellationToken::new();
    let registry = CivilRegistry {
        books: Arc::new(Mutex::new(Books::new(MAX_BIRTHS))),
        population: PeopleClient::new(peers.population.line()),
        calendar,
        stop: stop.clone(),
    };
    serve(listener, stop, Routes::new(BirthsServer::new(registry)))
}

struct CivilRegistry {
    books: Arc<Mutex<Books>>,
    population: PeopleClient<Line>,
    calendar: Calendar,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Births for CivilRegistry {
    async fn register(&self, request: Request<BirthNotice>) -> Result<Response<BirthCertificate>, Status> {
        let today = self.calendar.today();
        let birth = Birth::parse(request.into_inner(), today)?;
        let mut claim = Books::claim(&self.books, birth, today)?;
        let mother = self.parent("mother_number", &claim.birth.mother, Sex::Female, claim.birth.born).await?;
        let father = match &claim.birth.father {
            Some(number) => Some(self.parent("father_number", number, Sex::Male, claim.birth.born).await?),
            None => None,
        };
        // If the answer to this is lost, the birth stays half registered, and the same notice goes on from here.
        claim.begin();
        let number = self.number_for(&claim).await?;
        let certificate = certificate(&claim, &number, &mother, father.as_ref());
        claim.conclude();
        Ok(Response::new(certificate))
    }

    async fn import(&self, request: Request<Streaming<HistoricBirth>>) -> Result<Response<ImportSummary>, Status> {
        let mut entries = request.into_inner();
        let mut summary = ImportSummary::default();
        loop {
            let entry = tokio::select! {
                entry = entries.message() => entry?,
                () = self.stop.cancelled() => return Err(shutting_down()),
            };
            let Some(entry) = entry else { return Ok(Response::new(summary)) };
            summary.received += 1;
            match Historic::parse(entry, self.calendar.today()) {
                Ok(entry) => match lock(&self.books).import(entry)? {
                    true => summary.imported += 1,
                    false => summary.already_known += 1,
                },
                Err(invalid) => {
                    summary.rejected += 1;
                    if summary.first_rejections.len() < MAX_REJECTIONS_NAMED {
                        let reason = invalid.to_string();
                        summary.first_rejections.push(Rejection { position: summary.received, reason });
                    }
                }
            }
        }
    }
}

impl CivilRegistry {
    /// What the population register knows of a parent, if they can be this child's.
    async fn parent(
        &self,
        field: &'static str,
        number: &PersonalNumber,
        sex: Sex,
        born: Date,
    ) -> Result<Person, Status> {
        let asked = question(GetRequest { personal_number: number.to_string() });
        let parent = match self.population.clone().get(asked).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => {
                return Err(Status::not_found(format!("{field}: no person has this number")));
            }
            Err(status) => return Err(peer_failed(POPULATION_REGISTER, &status)),
        };
        if parent.sex != sex.as_str() {
            let rule = match sex {
                Sex::Female => "it is not the number of a woman",
                Sex::Male => "it is not the number of a man",
            };
            return Err(Invalid::new(field, rule).into());
        }
        // Dates written YYYY-MM-DD are ordered as the days are.
        if parent.date_of_birth >= field::written(born) {
            return Err(Invalid::new(field, "this person was not born before the child").into());
        }
        Ok(parent)
    }

    async fn number_for(&self, claim: &Claim) -> Result<String, Status> {
        let Birth { name, sex, born, mother, father, .. } = &claim.birth;
        let asked = question(IssueNumberRequest {
            registration_number: claim.registration.clone(),
            full_name: name.as_str().into(),
            sex: sex.as_str().into(),
            date_of_birth: field::written(*born),
            mother_number: mother.to_string(),
            father_number: father.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        let issued = self.population.clone().issue_number(asked).await;
        issued
            .map(|answer| answer.into_inner().personal_number)
            .map_err(|status| peer_failed(POPULATION_REGISTER, &status))
    }
}

fn certificate(claim: &Claim, number: &str, mother: &Person, father: Option<&Person>) -> BirthCertificate {
    let birth = &claim.birth;
    let born = field::written(birth.born);
    let mut entries = vec![
        entry("registration_number", &claim.registration, CIVIL_REGISTRY),
        entry("child_name", birth.name.as_str(), NOTICE),
        entry("child_sex", birth.sex.as_str(), NOTICE),
        entry("date_of_birth", &born, NOTICE),
        entry("place_of_birth", birth.place.as_str(), NOTICE),
        entry("mother_number", birth.mother.as_str(), NOTICE),
        entry("mother_name", &mother.full_name, POPULATION_REGISTER),
        entry("mother_date_of_birth", &mother.date_of_birth, POPULATION_REGISTER),
        entry("mother_ethnicity", &mother.ethnicity, POPULATION_REGISTER),
        entry("mother_nationality", &mother.nationality, POPULATION_REGISTER),
        entry("mother_residence", &mother.residence, POPULATION_REGISTER),
    ];
    if let Some(father) = father {
        entries.extend([
            entry("father_number", &father.personal_number, NOTICE),
            entry("father_name", &father.full_name, POPULATION_REGISTER),
            entry("father_date_of_birth", &father.date_of_birth, POPULATION_REGISTER),
            entry("father_ethnicity", &father.ethnicity, POPULATION_REGISTER),
            entry("father_nationality", &father.nationality, POPULATION_REGISTER),
            entry("father_residence", &father.residence, POPULATION_REGISTER),
        ]);
    }
    entries.push(entry("personal_number", number, POPULATION_REGISTER));
    BirthCertificate { registration_number: claim.registration.clone(), personal_number: number.into(), entries }
}

fn entry(field: &str, value: &str, source: &str) -> Entry {
    Entry { field: field.into(), value: value.into(), source: source.into() }
}

// ---- what is registered, and its rules

/// A birth as noticed.
#[derive(Debug, Clone)]
struct Birth {
    name: FullName,
    sex: Sex,
    born: Date,
    place: Place,
    mother: PersonalNumber,
    father: Option<PersonalNumber>,
}

/// What makes two notices speak of one birth: twins differ in their names.
type Same = (PersonalNumber, Date, FullName);

impl Birth {
    fn parse(notice: BirthNotice, today: Date) -> Result<Birth, Invalid> {
        let name = FullName::parse("child_name", &notice.child_name)?;
        let sex = Sex::parse("child_sex", &notice.child_sex)?;
        let born = past_date(&notice.date_of_birth, today)?;
        let place = Place::parse("place_of_birth", &notice.place_of_birth)?;
        let mother = PersonalNumber::parse("mother_number", &notice.mother_number)?;
        let father = PersonalNumber::parse_optional("father_number", &notice.father_number)?;
        Ok(Birth { name, sex, born, place, mother, father })
    }

    fn same(&self) -> Same {
        (self.mother.clone(), self.born, self.name.clone())
    }
}

fn past_date(text: &str, today: Date) -> Result<Date, Invalid> {
    let date = field::date("date_of_birth", text)?;
    if date > today { Err(Invalid::new("date_of_birth", "it is in the future")) } else { Ok(date) }
}

/// A line of a paper book.
#[derive(Debug)]
struct Historic {
    book: String,
    line: u32,
}

impl Historic {
    /// Checks the whole entry. Of what it says only its place in the books is needed again.
    fn parse(entry: HistoricBirth, today: Date) -> Result<Historic, Invalid> {
        let chars = entry.book.chars().count();
        if chars == 0 || chars > MAX_BOOK_CHARS || entry.book.chars().any(char::is_control) {
            return Err(Invalid::new("book", "it is 1 to 40 characters (example: 1987/2)"));
        }
        if entry.line == 0 {
            return Err(Invalid::new("line", "lines of a book are counted from 1"));
        }
        FullName::parse("child_name", &entry.child_name)?;
        Sex::parse("child_sex", &entry.child_sex)?;
        past_date(&entry.date_of_birth, today)?;
        FullName::parse("mother_name", &entry.mother_name)?;
        if !entry.father_name.is_empty() {
            FullName::parse("father_name", &entry.father_name)?;
        }
        Ok(Historic { book: entry.book, line: entry.line })
    }
}

struct Books {
    births: HashMap<Same, Registration>,
    historic: HashSet<(String, u32)>,
    last_number: u64,
    limit: usize,
}

struct Registration {
    number: String,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// A call is at it.
    Claimed,
    /// A call began it and failed: the next one goes on, under the same registration number.
    Half,
    Done,
}

/// A birth that this call registers, and no other at the same time. Dropped before it began, it leaves no trace;
/// dropped before it is concluded, a birth half registered.
struct Claim {
    books: Arc<Mutex<Books>>,
    birth: Birth,
    registration: String,
    leaves: Option<Progress>,
}

impl Claim {
    fn begin(&mut self) {
        self.leaves = Some(Progress::Half);
    }

    fn conclude(mut self) {
        self.leaves = Some(Progress::Done);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut books = lock(&self.books);
        let same = self.birth.same();
        match self.leaves {
            None => drop(books.births.remove(&same)),
            Some(progress) => {
                books.births.insert(same, Registration { number: std::mem::take(&mut self.registration), progress });
            }
        }
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().expect("nothing panics while it holds the books")
}

impl Books {
    fn new(limit: usize) -> Books {
        Books { births: HashMap::new(), historic: HashSet::new(), last_number: 0, limit }
    }

    fn claim(books: &Arc<Mutex<Books>>, birth: Birth, today: Date) -> Result<Claim, Status> {
        let mut held = lock(books);
        let same = birth.same();
        let (number, leaves) = match held.births.get(&same) {
            Some(Registration { progress: Progress::Done, .. }) => {
                return Err(Status::already_exists("this birth is registered: ask for the certificate instead"));
            }
            Some(Registration { progress: Progress::Claimed, .. }) => {
                return Err(Status::aborted("this birth is just being registered: ask again in a moment"));
            }
            Some(Registration { progress: Progress::Half, number }) => (number.clone(), Some(Progress::Half)),
            None => {
                held.room()?;
                held.last_number += 1;
                (format!("HT-{}-{:06}", today.year(), held.last_number), None)
            }
        };
        held.births.insert(same, Registration { number: number.clone(), progress: Progress::Claimed });
        Ok(Claim { books: books.clone(), birth, registration: number, leaves })
    }

    /// Whether the entry is new.
    fn import(&mut self, entry: Historic) -> Result<bool, Status> {
        let place = (entry.book, entry.line);
        if self.historic.contains(&place) {
            return Ok(false);
        }
        self.room()?;
        Ok(self.historic.insert(place))
    }

    fn room(&self) -> Result<(), Status> {
        if self.births.len() + self.historic.len() < self.limit {
            Ok(())
        } else {
            Err(Status::resource_exhausted("the books of this example are full: start it anew"))
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    const TODAY: Date = date!(2026 - 03 - 02);

    fn birth(name: &str) -> Birth {
        let notice = BirthNotice {
            child_name: name.into(),
            child_sex: "female".into(),
            date_of_birth: "2026-03-01".into(),
            place_of_birth: "Bệnh viện Mẫu".into(),
            mother_number: "000196000001".into(),
            father_number: String::new(),
        };
        Birth::parse(notice, TODAY).unwrap()
    }

    fn code(claim: Result<Claim, Status>) -> Code {
        claim.err().unwrap().code()
    }

    #[test]
    fn two_calls_cannot_register_one_birth_at_once() {
        let books = Arc::new(Mutex::new(Books::new(10)));
        let first = Books::claim(&books, birth("Trần Mẫu Minh"), TODAY).unwrap();
        assert_eq!(code(Books::claim(&books, birth("Trần Mẫu Minh"), TODAY)), Code::Aborted);
        first.conclude();
        assert_eq!(code(Books::claim(&books, birth("Trần Mẫu Minh"), TODAY)), Code::AlreadyExists);
    }

    #[test]
    fn a_birth_half_registered_goes_on_under_its_number() {
        let books = Arc::new(Mutex::new(Books::new(10)));
        let mut first = Books::claim(&books, birth("Trần Mẫu Minh"), TODAY).unwrap();
        first.begin();
        let number = first.registration.clone();
        drop(first);
        let twin = Books::claim(&books, birth("Trần Mẫu Tâm"), TODAY).unwrap();
        assert_ne!(twin.registration, number);
        // Given up before it began anything anew: what was begun before is still there.
        drop(Books::claim(&books, birth("Trần Mẫu Minh"), TODAY).unwrap());
        assert_eq!(Books::claim(&books, birth("Trần Mẫu Minh"), TODAY).unwrap().registration, number);
    }

    #[test]
    fn a_birth_given_up_before_it_began_leaves_no_trace() {
        let books = Arc::new(Mutex::new(Books::new(1)));
        drop(Books::claim(&books, birth("Trần Mẫu Minh"), TODAY).unwrap());
        assert!(Books::claim(&books, birth("Trần Mẫu Tâm"), TODAY).is_ok());
    }

    #[test]
    fn full_books_take_no_new_birth_but_know_the_old_ones() {
        let books = Arc::new(Mutex::new(Books::new(2)));
        let historic = |line| Historic { book: "1987/2".into(), line };
        assert!(lock(&books).import(historic(1)).unwrap());
        Books::claim(&books, birth("Trần Mẫu Minh"), TODAY).unwrap().conclude();
        assert_eq!(lock(&books).import(historic(2)).unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(code(Books::claim(&books, birth("Trần Mẫu Tâm"), TODAY)), Code::ResourceExhausted);
        assert!(!lock(&books).import(historic(1)).unwrap());
        assert_eq!(code(Books::claim(&books, birth("Trần Mẫu Minh"), TODAY)), Code::AlreadyExists);
    }
}
