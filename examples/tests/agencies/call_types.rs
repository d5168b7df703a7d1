//! The four call types, each by the service that needs it.

use examples::agencies::civil_registry::MAX_REJECTIONS_NAMED;
use examples::agencies::synthetic_people::{CHILD, FATHER, MOTHER, NOBODY, OTHER_MOTHER, SCHOOLCHILD};
use examples::wire::civil::HistoricBirth;
use examples::wire::insurance::{Answer, IssueChildCardRequest, Question};
use examples::wire::population::{Change, ChangesRequest, FamilyMember, FamilyRequest};
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use crate::country::{Country, form};

#[tokio::test]
async fn unary_a_number_brings_the_childs_card_and_brings_it_again() {
    let country = Country::start().await;
    let asked = IssueChildCardRequest { personal_number: CHILD.into() };
    let mut cards = country.cards().await;
    let card = cards.issue_child_card(asked.clone()).await.unwrap().into_inner();
    assert_eq!(card.valid_until, "2027-11-30");
    assert_eq!(cards.issue_child_card(asked).await.unwrap().into_inner(), card);
}

#[tokio::test]
async fn server_streaming_a_family_comes_member_by_member() {
    let country = Country::start().await;
    let family = async |number: &str| {
        let asked = FamilyRequest { personal_number: number.into() };
        let answers: Vec<FamilyMember> = all(country.people().await.family(asked).await.unwrap().into_inner()).await;
        let named = |member: FamilyMember| (member.relation, member.person.unwrap().personal_number);
        answers.into_iter().map(named).collect::<Vec<_>>()
    };
    let member = |relation: &str, number: &str| (relation.to_owned(), number.to_owned());
    assert_eq!(family(CHILD).await, [member("father", FATHER), member("mother", MOTHER)]);
    assert_eq!(family(MOTHER).await, [member("child", CHILD)]);
    let siblings = family(SCHOOLCHILD).await;
    assert_eq!(siblings, [member("mother", OTHER_MOTHER), member("sibling", "000223000001")]);
}

#[tokio::test]
async fn server_streaming_changes_are_followed_as_they_happen() {
    let country = Country::start().await;
    let mut people = country.people().await;
    let known: Vec<Change> =
        all(people.changes(ChangesRequest { since: 0, follow: false }).await.unwrap().into_inner()).await;
    assert_eq!(known.iter().map(|change| change.sequence).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    let asked = ChangesRequest { since: 11, follow: true };
    let mut changes = people.changes(asked).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap(), known[11]);

    // The stream stands open, and brings what happens now.
    let filed = country.one_stop().await.file_birth(form()).await.unwrap().into_inner();
    let born = changes.message().await.unwrap().unwrap();
    assert_eq!((born.sequence, born.kind.as_str(), born.personal_number), (13, "born", filed.personal_number));
}

#[tokio::test]
async fn client_streaming_old_books_are_imported_and_summed_up() {
    let country = Country::start().await;
    let good = |line| HistoricBirth {
        book: "1987/2".into(),
        line,
        child_name: "Phạm Mẫu Quý".into(),
        child_sex: "male".into(),
        date_of_birth: "1987-06-05".into(),
        mother_name: "Phạm Thị Mẫu Sen".into(),
        father_name: String::new(),
    };
    let mut entries: Vec<_> = (1..=1000).map(good).collect();
    entries.push(good(7));
    entries.push(HistoricBirth { date_of_birth: "1987-02-30".into(), ..good(1001) });
    entries.push(HistoricBirth { father_name: "?".into(), ..good(1002) });
    entries.push(good(0));
    let summary = country.births().await.import(stream::iter(entries)).await.unwrap().into_inner();
    assert_eq!((summary.received, summary.imported, summary.already_known, summary.rejected), (1004, 1000, 1, 3));
    let reasons: Vec<_> = summary.first_rejections.iter().map(|one| (one.position, field(&one.reason))).collect();
    assert_eq!(reasons, [(1002, "date_of_birth"), (1003, "father_name"), (1004, "line")]);
}

#[tokio::test]
async fn client_streaming_a_summary_names_only_the_first_rejections() {
    let country = Country::start().await;
    let bad = vec![HistoricBirth::default(); MAX_REJECTIONS_NAMED + 1];
    let summary = country.births().await.import(stream::iter(bad)).await.unwrap().into_inner();
    assert_eq!(summary.rejected as usize, MAX_REJECTIONS_NAMED + 1);
    assert_eq!(summary.first_rejections.len(), MAX_REJECTIONS_NAMED);
}

#[tokio::test]
async fn bidirectional_each_answer_is_there_before_the_next_question_is_asked() {
    let country = Country::start().await;
    let asked = IssueChildCardRequest { personal_number: CHILD.into() };
    let card = country.cards().await.issue_child_card(asked).await.unwrap().into_inner().card_number;
    let mut talk = Conversation::begin(&country).await;
    for (number, verdict, card) in [
        (CHILD, "covered", card.as_str()),
        ("000223000001", "eligible", ""),
        (SCHOOLCHILD, "not eligible", ""),
        (NOBODY, "unknown person", ""),
        (CHILD, "covered", card.as_str()),
    ] {
        let answer = talk.ask(number).await;
        assert_eq!((answer.personal_number.as_str(), answer.verdict.as_str()), (number, verdict));
        assert_eq!(answer.card_number, card);
    }
    assert_eq!(talk.end().await, None);
}

#[tokio::test]
async fn bidirectional_a_malformed_question_ends_the_conversation_after_the_answers_before_it() {
    let country = Country::start().await;
    let mut talk = Conversation::begin(&country).await;
    assert_eq!(talk.ask(SCHOOLCHILD).await.verdict, "not eligible");
    talk.questions.send(Question { personal_number: "12".into() }).await.unwrap();
    let refused = talk.answers.message().await.unwrap_err();
    assert_eq!((refused.code(), field(refused.message())), (Code::InvalidArgument, "personal_number"));
}

#[tokio::test]
async fn open_streams_end_when_the_agency_shuts_down() {
    let country = Country::start().await;
    let mut talk = Conversation::begin(&country).await;
    talk.ask(CHILD).await;
    let follow = ChangesRequest { since: 12, follow: true };
    let mut changes = country.people().await.changes(follow).await.unwrap().into_inner();
    country.insurance.shutdown().await;
    country.population.shutdown().await;
    assert_eq!(talk.answers.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(changes.message().await.unwrap_err().code(), Code::Unavailable);
}

struct Conversation {
    questions: mpsc::Sender<Question>,
    answers: Streaming<Answer>,
}

impl Conversation {
    async fn begin(country: &Country) -> Conversation {
        let (questions, asked) = mpsc::channel(1);
        let asked = stream::unfold(asked, |mut asked| async { Some((asked.recv().await?, asked)) });
        let answers = country.cards().await.check_eligibility(asked).await.unwrap().into_inner();
        Conversation { questions, answers }
    }

    async fn ask(&mut self, number: &str) -> Answer {
        self.questions.send(Question { personal_number: number.into() }).await.unwrap();
        self.answers.message().await.unwrap().unwrap()
    }

    /// Says that nothing more is asked, and brings what still comes.
    async fn end(mut self) -> Option<Answer> {
        drop(self.questions);
        self.answers.message().await.unwrap()
    }
}

async fn all<T>(mut answers: Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        all.push(answer);
    }
    all
}

fn field(message: &str) -> &str {
    message.split(':').next().unwrap()
}
