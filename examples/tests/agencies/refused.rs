//! What the agencies refuse, and that each refusal names the field.

use examples::agencies::Peer;
use examples::agencies::synthetic_people::{CHILD, FATHER, MOTHER, NOBODY, SCHOOLCHILD};
use examples::wire::insurance::IssueChildCardRequest;
use examples::wire::population::{FamilyRequest, GetRequest, IssueNumberRequest};
use examples::wire::portal::BirthForm;
use tonic::{Code, Status};

use crate::country::{Country, form};

#[tokio::test]
async fn a_birth_is_registered_once() {
    let country = Country::start().await;
    let mut one_stop = country.one_stop().await;
    one_stop.file_birth(form()).await.unwrap();
    assert_eq!(one_stop.file_birth(form()).await.unwrap_err().code(), Code::AlreadyExists);
    // Nor when the parent remembers another hospital.
    let elsewhere = BirthForm { place_of_birth: "Ở nhà".into(), ..form() };
    assert_eq!(one_stop.file_birth(elsewhere).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn an_unknown_parent_is_not_found() {
    let country = Country::start().await;
    let mut one_stop = country.one_stop().await;
    let mother = BirthForm { mother_number: NOBODY.into(), ..form() };
    refused(one_stop.file_birth(mother).await, Code::NotFound, "mother_number");
    let father = BirthForm { father_number: NOBODY.into(), ..form() };
    refused(one_stop.file_birth(father).await, Code::NotFound, "father_number");
    // What was refused left nothing behind.
    assert_eq!(one_stop.file_birth(form()).await.unwrap().into_inner().personal_number, "000326000001");
}

#[tokio::test]
async fn a_form_that_breaks_a_rule_is_told_which_field() {
    let country = Country::start().await;
    let mut one_stop = country.one_stop().await;
    for (field, form) in [
        ("child_name", BirthForm { child_name: String::new(), ..form() }),
        ("child_name", BirthForm { child_name: "Tâm".into(), ..form() }),
        ("child_sex", BirthForm { child_sex: "F".into(), ..form() }),
        ("date_of_birth", BirthForm { date_of_birth: "01/03/2026".into(), ..form() }),
        ("date_of_birth", BirthForm { date_of_birth: "2026-02-29".into(), ..form() }),
        ("date_of_birth", BirthForm { date_of_birth: "2026-03-03".into(), ..form() }),
        ("place_of_birth", BirthForm { place_of_birth: String::new(), ..form() }),
        ("mother_number", BirthForm { mother_number: String::new(), ..form() }),
        ("mother_number", BirthForm { mother_number: "1".into(), ..form() }),
        ("mother_number", BirthForm { mother_number: FATHER.into(), ..form() }),
        ("mother_number", BirthForm { date_of_birth: "1996-03-14".into(), ..form() }),
        ("father_number", BirthForm { father_number: "1".into(), ..form() }),
        ("father_number", BirthForm { father_number: MOTHER.into(), ..form() }),
        ("father_number", BirthForm { father_number: CHILD.into(), date_of_birth: "2020-01-01".into(), ..form() }),
    ] {
        refused(one_stop.file_birth(form).await, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn a_child_born_today_is_a_child_born() {
    let country = Country::start().await;
    let today = BirthForm { date_of_birth: "2026-03-02".into(), ..form() };
    country.one_stop().await.file_birth(today).await.unwrap();
}

#[tokio::test]
async fn who_has_no_number_is_not_found() {
    let country = Country::start().await;
    let mut people = country.people().await;
    let nobody = || NOBODY.to_owned();
    let get = people.get(GetRequest { personal_number: nobody() }).await;
    refused(get, Code::NotFound, "personal_number");
    let family = people.family(FamilyRequest { personal_number: nobody() }).await;
    refused(family, Code::NotFound, "personal_number");
    let card = country.cards().await.issue_child_card(IssueChildCardRequest { personal_number: nobody() }).await;
    refused(card, Code::NotFound, "personal_number");
    refused(people.get(GetRequest::default()).await, Code::InvalidArgument, "personal_number");
}

#[tokio::test]
async fn a_number_is_issued_once_for_a_registration() {
    let country = Country::start().await;
    let mut people = country.people().await;
    let asked = IssueNumberRequest {
        registration_number: "HT-1".into(),
        full_name: "Trần Mẫu Minh Tâm".into(),
        sex: "female".into(),
        date_of_birth: "2026-03-01".into(),
        mother_number: MOTHER.into(),
        father_number: String::new(),
    };
    let first = people.issue_number(asked.clone()).await.unwrap().into_inner();
    assert_eq!(people.issue_number(asked.clone()).await.unwrap().into_inner(), first);
    let other = IssueNumberRequest { full_name: "Trần Mẫu Minh Châu".into(), ..asked.clone() };
    refused(people.issue_number(other).await, Code::AlreadyExists, "registration_number");
    for (field, asked) in [
        ("registration_number", IssueNumberRequest { registration_number: String::new(), ..asked.clone() }),
        ("registration_number", IssueNumberRequest { registration_number: "x".repeat(41), ..asked.clone() }),
        ("date_of_birth", IssueNumberRequest { date_of_birth: "2026-03-03".into(), ..asked.clone() }),
        ("full_name", IssueNumberRequest { full_name: "Tâm".into(), ..asked.clone() }),
        ("sex", IssueNumberRequest { sex: String::new(), ..asked.clone() }),
        ("mother_number", IssueNumberRequest { mother_number: String::new(), ..asked }),
    ] {
        refused(people.issue_number(asked).await, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn a_schoolchild_gets_no_childs_card() {
    let country = Country::start().await;
    let asked = IssueChildCardRequest { personal_number: SCHOOLCHILD.into() };
    let answer = country.cards().await.issue_child_card(asked).await;
    refused(answer, Code::FailedPrecondition, "personal_number");
}

#[test]
fn a_peer_that_cannot_be_called_is_refused_at_the_start() {
    for uri in ["", "127.0.0.1:80", "https://a:1", "http://", "http:// a"] {
        assert!(Peer::new(uri, &[]).is_err(), "{uri:?}");
    }
    for (name, value) in [("", "v"), ("a b", "v"), ("Purpose", "v"), ("a-bin", "v"), ("a", "secret\n"), ("a", "bí mật")]
    {
        let error = Peer::new("http://127.0.0.1:1", &[(name.into(), value.into())]).err().unwrap().to_string();
        assert!(!error.contains("secret") && !error.contains("bí mật"), "a value may be a credential: {error}");
    }
}

fn refused<T>(answer: Result<T, Status>, code: Code, field: &str) {
    let refusal = answer.err().unwrap();
    assert_eq!((refusal.code(), refusal.message().split(':').next().unwrap()), (code, field), "{refusal}");
}
