//! The population register: who a person is. It issues personal numbers, and tells who asks what it has recorded.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{Stream, StreamExt, stream};
use time::Date;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::field::{self, FullName, Invalid, PersonalNumber, Sex};
use super::synthetic_people::PEOPLE;
use super::{Calendar, Running, serve, until_stopped};
use crate::wire::population::people_server::{People, PeopleServer};
use crate::wire::population::{
    Change, ChangesRequest, FamilyMember, FamilyRequest, GetRequest, IssueNumberRequest, IssuedNumber, Person,
};

/// Numbers that one series (sex and year of birth) can hold: its serial has six digits.
pub const MAX_SERIAL: u32 = 999_999;
/// Characters of a registration number, at most.
pub const MAX_REGISTRATION_CHARS: usize = 40;

/// Starts the register, with its synthetic people.
pub async fn start(listener: TcpListener, calendar: Calendar) -> std::io::Result<Running> {
    let stop = CancellationToken::new();
    let register = PopulationRegister {
        records: Arc::new(Mutex::new(Records::with_synthetic_people())),
        latest: watch::Sender::new(()),
        calendar,
        stop: stop.clone(),
    };
    serve(listener, stop, Routes::new(PeopleServer::new(register)))
}

struct PopulationRegister {
    records: Arc<Mutex<Records>>,
    /// Wakes who follows the changes.
    latest: watch::Sender<()>,
    calendar: Calendar,
    stop: CancellationToken,
}

impl PopulationRegister {
    fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.records)
    }
}

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().expect("nothing panics while it holds the records")
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl People for PopulationRegister {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Person>, Status> {
        let number = PersonalNumber::parse("personal_number", &request.into_inner().personal_number)?;
        let records = self.records();
        Ok(Response::new(records.person("personal_number", &number)?.to_wire()))
    }

    async fn issue_number(&self, request: Request<IssueNumberRequest>) -> Result<Response<IssuedNumber>, Status> {
        let newborn = Newborn::parse(request.into_inner(), self.calendar.today())?;
        let number = self.records().issue(newborn)?;
        self.latest.send_replace(());
        Ok(Response::new(IssuedNumber { personal_number: number.to_string() }))
    }

    type FamilyStream = Answers<FamilyMember>;

    async fn family(&self, request: Request<FamilyRequest>) -> Result<Response<Self::FamilyStream>, Status> {
        let number = PersonalNumber::parse("personal_number", &request.into_inner().personal_number)?;
        let members = self.records().family(&number)?;
        let answers = stream::iter(members.into_iter().map(Ok));
        Ok(Response::new(until_stopped(answers, self.stop.clone()).boxed()))
    }

    type ChangesStream = Answers<Change>;

    async fn changes(&self, request: Request<ChangesRequest>) -> Result<Response<Self::ChangesStream>, Status> {
        let ChangesRequest { since, follow } = request.into_inner();
        let (records, latest) = (self.records.clone(), self.latest.subscribe());
        let answers = stream::unfold((since, records, latest), move |(known, records, mut latest)| async move {
            loop {
                let next = lock(&records).change_after(known);
                match next {
                    Some(change) => return Some((Ok(change.clone()), (change.sequence, records, latest))),
                    // A change between the look above and this wait wakes it at once.
                    None if follow => latest.changed().await.ok()?,
                    None => return None,
                }
            }
        });
        Ok(Response::new(until_stopped(answers, self.stop.clone()).boxed()))
    }
}

// ---- what is recorded, and its rules

/// One person, as recorded.
#[derive(Clone)]
struct Record {
    number: PersonalNumber,
    name: FullName,
    sex: Sex,
    born: Date,
    ethnicity: String,
    residence: String,
    mother: Option<PersonalNumber>,
    father: Option<PersonalNumber>,
}

impl Record {
    fn to_wire(&self) -> Person {
        let text = |number: &Option<PersonalNumber>| number.as_ref().map(ToString::to_string).unwrap_or_default();
        Person {
            personal_number: self.number.to_string(),
            full_name: self.name.as_str().into(),
            sex: self.sex.as_str().into(),
            date_of_birth: field::written(self.born),
            ethnicity: self.ethnicity.clone(),
            nationality: "Việt Nam".into(),
            residence: self.residence.clone(),
            mother_number: text(&self.mother),
            father_number: text(&self.father),
        }
    }
}

/// A child whose birth was registered, as the civil registry reports it.
#[derive(Clone, PartialEq)]
struct Newborn {
    registration: String,
    name: FullName,
    sex: Sex,
    born: Date,
    mother: PersonalNumber,
    father: Option<PersonalNumber>,
}

impl Newborn {
    fn parse(request: IssueNumberRequest, today: Date) -> Result<Newborn, Invalid> {
        let registration = request.registration_number;
        let is_plain = !registration.is_empty() && registration.chars().all(|c| c.is_ascii_graphic());
        if !is_plain || registration.len() > MAX_REGISTRATION_CHARS {
            return Err(Invalid::new("registration_number", "it is 1 to 40 letters, digits or marks"));
        }
        let born = field::date("date_of_birth", &request.date_of_birth)?;
        if born > today {
            return Err(Invalid::new("date_of_birth", "it is in the future"));
        }
        Ok(Newborn {
            registration,
            name: FullName::parse("full_name", &request.full_name)?,
            sex: Sex::parse("sex", &request.sex)?,
            born,
            mother: PersonalNumber::parse("mother_number", &request.mother_number)?,
            father: PersonalNumber::parse_optional("father_number", &request.father_number)?,
        })
    }
}

#[derive(Default)]
struct Records {
    people: BTreeMap<PersonalNumber, Record>,
    changes: Vec<Change>,
    /// The last serial of each series.
    serials: HashMap<(Sex, i32), u32>,
    /// What was issued for a registration, so that a question repeated gets the same answer.
    issued: HashMap<String, (Newborn, PersonalNumber)>,
}

impl Records {
    fn with_synthetic_people() -> Records {
        let mut records = Records::default();
        let mut numbers: Vec<PersonalNumber> = Vec::new();
        for person in &PEOPLE {
            let number = records.next_number(person.sex, person.born).expect("twelve people fit into any series");
            numbers.push(number.clone());
            let record = Record {
                number,
                name: FullName::parse("name", person.name).expect("the synthetic people have names"),
                sex: person.sex,
                born: person.born,
                ethnicity: person.ethnicity.into(),
                residence: person.residence.into(),
                mother: person.mother.map(|place| numbers[place].clone()),
                father: person.father.map(|place| numbers[place].clone()),
            };
            records.add("recorded", record);
        }
        records
    }

    fn person(&self, field: &str, number: &PersonalNumber) -> Result<&Record, Status> {
        self.people.get(number).ok_or_else(|| Status::not_found(format!("{field}: no person has this number")))
    }

    /// The child's number. Nationality, ethnicity and residence follow the parents: nobody is asked for them.
    fn issue(&mut self, newborn: Newborn) -> Result<PersonalNumber, Status> {
        if let Some((before, number)) = self.issued.get(&newborn.registration) {
            return if *before == newborn {
                Ok(number.clone())
            } else {
                Err(Status::already_exists("registration_number: another child's number was issued for it"))
            };
        }
        let mother = self.person("mother_number", &newborn.mother)?;
        if let Some(father) = &newborn.father {
            self.person("father_number", father)?;
        }
        let (ethnicity, residence) = (mother.ethnicity.clone(), mother.residence.clone());
        let number = self.next_number(newborn.sex, newborn.born)?;
        self.issued.insert(newborn.registration.clone(), (newborn.clone(), number.clone()));
        let Newborn { name, sex, born, mother, father, .. } = newborn;
        let mother = Some(mother);
        self.add("born", Record { number: number.clone(), name, sex, born, ethnicity, residence, mother, father });
        Ok(number)
    }

    fn next_number(&mut self, sex: Sex, born: Date) -> Result<PersonalNumber, Status> {
        let serial = self.serials.entry((sex, born.year())).or_default();
        if *serial == MAX_SERIAL {
            return Err(Status::resource_exhausted("all numbers of this year are issued"));
        }
        *serial += 1;
        Ok(PersonalNumber::synthetic(sex, born, *serial))
    }

    fn add(&mut self, kind: &str, record: Record) {
        let sequence = self.changes.len() as u64 + 1;
        self.changes.push(Change { sequence, kind: kind.into(), personal_number: record.number.to_string() });
        self.people.insert(record.number.clone(), record);
    }

    fn change_after(&self, known: u64) -> Option<Change> {
        usize::try_from(known).ok().and_then(|known| self.changes.get(known)).cloned()
    }

    fn family(&self, number: &PersonalNumber) -> Result<Vec<FamilyMember>, Status> {
        let of = self.person("personal_number", number)?;
        let shared = |one: &Option<PersonalNumber>, other: &Option<PersonalNumber>| one.is_some() && one == other;
        let relation = |other: &Record| {
            if of.mother.as_ref() == Some(&other.number) {
                Some("mother")
            } else if of.father.as_ref() == Some(&other.number) {
                Some("father")
            } else if other.number == of.number {
                None
            } else if shared(&other.mother, &of.mother) || shared(&other.father, &of.father) {
                Some("sibling")
            } else if [&other.mother, &other.father].into_iter().any(|parent| parent.as_ref() == Some(number)) {
                Some("child")
            } else {
                None
            }
        };
        let mut members: Vec<_> = self.people.values().filter_map(|other| Some((relation(other)?, other))).collect();
        members.sort_by_key(|(_, other)| other.born);
        Ok(members
            .into_iter()
            .map(|(relation, other)| FamilyMember { relation: relation.into(), person: Some(other.to_wire()) })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::super::synthetic_people::{CHILD, FATHER, MOTHER, NOBODY, OTHER_MOTHER, SCHOOLCHILD};
    use super::*;

    #[test]
    fn the_synthetic_people_have_the_numbers_that_are_told() {
        let records = Records::with_synthetic_people();
        let name = |number: &str| {
            let number = PersonalNumber::parse("number", number).unwrap();
            records.people.get(&number).map(|person| person.name.as_str().to_owned())
        };
        assert_eq!(name(MOTHER).as_deref(), Some("Nguyễn Thị Mẫu An"));
        assert_eq!(name(FATHER).as_deref(), Some("Trần Văn Mẫu Bình"));
        assert_eq!(name(CHILD).as_deref(), Some("Trần Mẫu Minh Khoa"));
        assert_eq!(name(OTHER_MOTHER).as_deref(), Some("Lê Thị Thử Chi"));
        assert_eq!(name(SCHOOLCHILD).as_deref(), Some("Lê Thử Bảo Ngọc"));
        assert_eq!(name(NOBODY), None);
        assert_eq!(records.people.len(), PEOPLE.len());
    }

    #[test]
    fn every_synthetic_person_can_be_told_from_a_real_one() {
        for (number, person) in &Records::with_synthetic_people().people {
            assert!(number.as_str().starts_with("000"));
            assert!(person.name.as_str().contains(" Mẫu ") || person.name.as_str().contains(" Thử "));
        }
    }

    #[test]
    fn a_series_ends_with_its_last_serial() {
        let mut records = Records::default();
        records.serials.insert((Sex::Female, 2026), MAX_SERIAL - 1);
        assert_eq!(records.next_number(Sex::Female, date!(2026 - 01 - 01)).unwrap().as_str(), "000326999999");
        let full = records.next_number(Sex::Female, date!(2026 - 01 - 01)).unwrap_err();
        assert_eq!(full.code(), tonic::Code::ResourceExhausted);
        assert_eq!(records.next_number(Sex::Male, date!(2026 - 01 - 01)).unwrap().as_str(), "000226000001");
    }
}
