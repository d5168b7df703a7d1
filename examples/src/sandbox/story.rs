//! What the sandbox shows: birth, once; a form that would ask again; a conversation; a refusal that says why; who has looked at
//! a person's data; and proof that stands without us.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use proto::refusal::Code;
use security_server::access_requests::{Asking, Shown, ShownRequests};
use security_server::listen::operators::access::Approving;
use security_server::listen::operators::{Changed, Ending};
use security_server::listings::{self, Unlisted};
use security_server::operate::Operator;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{CIVIL, Country, INSURANCE, POPULATION, PORTAL, PURPOSE, auditor};
use crate::agencies::synthetic_people::{FATHER, MOTHER, NOBODY};
use crate::wire::insurance::Question;
use crate::wire::insurance::health_cards_client::HealthCardsClient;
use crate::wire::population::people_client::PeopleClient;
use crate::wire::population::{FamilyRequest, GetRequest};
use crate::wire::portal::one_stop_client::OneStopClient;
use crate::wire::portal::{BirthFiled, BirthForm, MyDataRequest, Origin};

/// Names of the example mother's children: a middle name and a given name.
const MIDDLE_NAMES: [&str; 6] = ["Minh", "Bảo", "Gia", "Ngọc", "Thu", "Hải"];
const GIVEN_NAMES: [&str; 6] = ["Tâm", "Châu", "Yến", "Hân", "Linh", "Vy"];

/// What was shown, for a program.
#[derive(Debug, Clone)]
pub struct Told {
    /// The birth, as filed.
    pub filed: BirthFiled,
    /// Why the catalogue does not list a form that asks for what the state has.
    pub asked_again: String,
    /// The conversation's exchange.
    pub exchange: String,
    /// The code of the refused call.
    pub refused: Code,
    /// The access request that was granted, and ended again.
    pub granted: String,
    /// The evidence file of the conversation.
    pub evidence: PathBuf,
    /// The anchor that it was verified with.
    pub anchor: PathBuf,
}

/// Tells the story; an error is a promise that did not hold.
pub async fn tell(country: &Country, tell: &mut dyn FnMut(&str)) -> Result<Told> {
    let filed = birth_once(country, tell).await?;
    let asked_again = collected_once(country, tell).await?;
    let exchange = conversation(country, &filed.personal_number, tell).await?;
    let refused = refusal(country, tell).await?;
    let granted = asked_for(country, tell).await?;
    who_looked(country, tell).await?;
    let (evidence, anchor) = proof(country, &exchange, tell).await?;
    Ok(Told { filed, asked_again, exchange, refused, granted, evidence, anchor })
}

/// A parent types each field once; what an agency knows is asked of that agency.
pub async fn birth_once(country: &Country, tell: &mut dyn FnMut(&str)) -> Result<BirthFiled> {
    let name = name_for_another_child(country).await?;
    let mut one_stop = OneStopClient::connect(country.agency(PORTAL).uri()).await?;
    let today = time::OffsetDateTime::now_utc().date();
    let form = BirthForm {
        child_name: name,
        child_sex: "female".into(),
        date_of_birth: format!("{}-{:02}-{:02}", today.year(), u8::from(today.month()), today.day()),
        place_of_birth: "Bệnh viện Mẫu, Hà Nội".into(),
        mother_number: MOTHER.into(),
        father_number: FATHER.into(),
    };
    let filed = one_stop.file_birth(form).await.context("a birth is filed through the bus")?.into_inner();
    let count = |origin: Origin| filed.entries.iter().filter(|entry| entry.origin() == origin).count();
    let (typed, reused) = (count(Origin::Typed), count(Origin::Reused));
    ensure!(typed == 6, "the parent types each of the form's six fields once, and typed {typed}");
    ensure!(reused >= 6, "what agencies know is reused, and {reused} fields were");
    tell("birth, once");
    tell(&format!(
        "  the parent typed {typed} fields; {reused} more were asked of the agency that is responsible for them"
    ));
    tell(&format!("  birth registered   {}  by the {}", filed.registration_number, CIVIL.title));
    tell(&format!("  personal number    {}  by the {}", filed.personal_number, POPULATION.title));
    tell(&format!("  insurance card     {}  by {}", filed.card_number, INSURANCE.title));
    Ok(filed)
}

/// The catalogue knows who has what: a form that asks people for it is not listed.
async fn collected_once(country: &Country, tell: &mut dyn FnMut(&str)) -> Result<String> {
    let server = &country.server(PORTAL).started.server;
    let announcement = Country::announcement(PORTAL, "school/v1/enrolment.proto")?;
    let refused = match listings::foresee(server, announcement).await {
        Err(Unlisted::Refused(refused)) => refused.message().to_owned(),
        other => anyhow::bail!("a form that asks again is refused, and this one was not: {other:?}"),
    };
    ensure!(refused.starts_with("ONCE001: ") && refused.contains(&POPULATION.subsystem().to_string()), "{refused}");
    let report = listings::elements::report(server, Some("portal.v1.OneStop".parse()?)).await?.sum;
    ensure!((report.first, report.again) == (4, 2), "two of six fields are asked again, with a reason: {report:?}");
    tell("a form that would ask again");
    tell(&format!("  {refused}"));
    tell(&format!(
        "  of the birth form's fields {} are asked once, and {} again: by the parents' numbers the rest is found",
        report.first, report.again
    ));
    Ok(refused)
}

/// A birth is registered once, so each story is of another child: one whose name none of the mother's children bears.
/// The agency itself is asked, as its own clerk would: this is no exchange.
async fn name_for_another_child(country: &Country) -> Result<String> {
    let mut people = PeopleClient::connect(country.agency(POPULATION).uri()).await?;
    let mut family = people.family(FamilyRequest { personal_number: MOTHER.into() }).await?.into_inner();
    let mut taken = HashSet::new();
    while let Some(member) = family.message().await? {
        taken.extend(member.person.map(|person| person.full_name));
    }
    let names = GIVEN_NAMES.iter().flat_map(|given| MIDDLE_NAMES.map(|middle| format!("Trần Mẫu {middle} {given}")));
    let mut free = names.filter(|name| !taken.contains(name));
    free.next().context("the example mother has as many children as there are names: start another country")
}

/// A bidirectional stream: each question is asked only after the answer before it came.
async fn conversation(country: &Country, child: &str, tell: &mut dyn FnMut(&str)) -> Result<String> {
    let mut cards = HealthCardsClient::new(country.line(PORTAL, INSURANCE, PURPOSE)?.line());
    let (questions, asked) = mpsc::channel(1);
    let question = |personal_number: &str| Question { personal_number: personal_number.into() };
    questions.send(question(child)).await?;
    let answers = cards.check_eligibility(ReceiverStream::new(asked)).await?;
    let exchange =
        answers.metadata().get("causeway-exchange").context("every answer names its exchange")?.to_str()?.to_owned();
    let mut answers = answers.into_inner();
    let first = answers.message().await?.context("an answer to the first question")?;
    ensure!(first.verdict == "covered", "the child has a card, and is {}", first.verdict);
    questions.send(question(NOBODY)).await?;
    let second = answers.message().await?.context("an answer to the second question")?;
    drop(questions);
    ensure!(answers.message().await?.is_none(), "nothing more is answered than was asked");
    tell("a conversation, both ways on one stream");
    tell(&format!("  is {child} insured?  {};  {NOBODY}?  {}", first.verdict, second.verdict));
    tell(&format!("  exchange {exchange}"));
    Ok(exchange)
}

/// A call that nobody granted: the caller learns why, and what to do.
async fn refusal(country: &Country, tell: &mut dyn FnMut(&str)) -> Result<Code> {
    let mut people = PeopleClient::new(country.line(PORTAL, POPULATION, PURPOSE)?.line());
    let asked = people.get(GetRequest { personal_number: MOTHER.into() }).await;
    let Err(refused) = asked else {
        anyhow::bail!("the portal has no grant to read the population register, and could")
    };
    let code = code_of(&refused)?;
    ensure!(code == Code::GrantMissing, "it is refused for want of a grant, and was for {code}");
    tell("a call that nobody granted");
    tell(&format!("  {code}: {}", refused.message()));
    Ok(code)
}

/// Access is asked for and granted over the bus; then the same call passes. It is ended again: another story begins as this
/// one did.
async fn asked_for(country: &Country, tell: &mut dyn FnMut(&str)) -> Result<String> {
    let portal = Operator::of(&country.server(PORTAL).configuration)?;
    let provider = Operator::of(&country.server(POPULATION).configuration)?;
    let asking = Asking {
        what: "/population.v1.People/Get".into(),
        provider: None,
        consumer: None,
        purpose: PURPOSE.into(),
        legal_basis: "the example country's law on civil status, article 7".parse()?,
        until: None,
    };
    let asked: Shown = portal.post("/v1/access/requests", &asking).await?;
    let inbox: ShownRequests = provider.read("/v1/access/requests").await?;
    let came = inbox.requests.iter().find(|request| request.request == asked.request);
    let came = came.context("the request is at the provider, whose admin decides")?;
    tell("access, asked for and granted");
    tell(&format!("  {} asks {} for {}: {}", came.consumer, came.provider, came.purpose, came.legal_basis));
    let decision = format!("/v1/access/requests/{}/approve", asked.request);
    let granted: Changed = provider.post(&decision, &Approving::default()).await?;
    let mut people = PeopleClient::new(country.line(PORTAL, POPULATION, PURPOSE)?.line());
    let father = people.get(GetRequest { personal_number: FATHER.into() }).await.context("what is granted passes")?;
    let shown: Shown = portal.read(&format!("/v1/access/requests/{}", asked.request)).await?;
    ensure!(
        shown.standing == "granted" && shown.countersigned,
        "the answer came back, and is countersigned: {shown:?}"
    );
    let name = father.into_inner().full_name;
    tell(&format!("  granted as asked, countersigned by the portal's server; the call passes: {name}"));
    let ending = Ending { reason: "the example is over".parse()? };
    provider.post::<Changed>(&format!("/v1/grants/{}/end", granted.grant.number.0), &ending).await?;
    Ok(asked.request)
}

/// The mother asks who has looked at her data, and sees it, in her language, from every agency.
async fn who_looked(country: &Country, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let mut portal = OneStopClient::connect(country.agency(PORTAL).uri()).await?;
    let asked = MyDataRequest { personal_number: MOTHER.into(), language: "en".into() };
    let told = portal.who_looked_at_my_data(asked).await.context("people see who looked at their data")?.into_inner();
    ensure!(told.not_answered.is_empty(), "all agencies answer, and these did not: {:?}", told.not_answered);
    tell("who has looked at my data, asks the mother");
    for agency in &told.agencies {
        let Some(look) = agency.looks.last() else { continue };
        tell(&format!("  of {}: {}, {}; {}", agency.agency, look.who, look.purpose, look.legal_basis));
    }
    tell(&format!("  {}", told.coverage));
    Ok(())
}

fn code_of(refused: &Status) -> Result<Code> {
    let code = refused.metadata().get("causeway-refusal").context("a refusal names its code")?;
    Ok(code.to_str()?.parse()?)
}

/// The evidence of the conversation, verified twice: by us, and by a program in another language that shares no code
/// with us.
async fn proof(country: &Country, exchange: &str, tell: &mut dyn FnMut(&str)) -> Result<(PathBuf, PathBuf)> {
    let server = country.server(PORTAL);
    let evidence = Operator::of(&server.configuration)?.get(&format!("/v1/exchanges/{exchange}/evidence")).await?;
    let (file, anchor) = (country.directory.join("evidence.json"), country.directory.join("anchor.json"));
    std::fs::write(&file, &evidence)?;
    std::fs::write(&anchor, country.registry.anchor())?;
    let ours = proto::evidence::verify(&evidence, country.registry.anchor())?;
    ensure!(ours.holds(), "the evidence holds, and was refused:\n{ours}");
    let (evidence_path, anchor_path) = (file.clone(), anchor.clone());
    let theirs = tokio::task::spawn_blocking(move || auditor::verify(&evidence_path, &anchor_path)).await??;
    ensure!(theirs["valid"] == true, "the auditor agrees, and did not: {theirs:#}");
    tell("proof that stands without us");
    tell(&format!(
        "  {} findings hold by our own verifier; the independent Python auditor agrees",
        ours.findings.len()
    ));
    for proven in &ours.proven {
        tell(&format!("  proven: {proven}"));
    }
    Ok((file, anchor))
}
