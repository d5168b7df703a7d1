//! The birth, with every server and agency a process of its own, by command lines and files alone.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is wanted")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use examples::agencies::synthetic_people::{FATHER, MOTHER};
use examples::agencies::{Line, Peer};
use examples::wire::insurance::health_cards_client::HealthCardsClient;
use examples::wire::insurance::{Answer, Question};
use examples::wire::population::GetRequest;
use examples::wire::population::people_client::PeopleClient;
use examples::wire::portal::one_stop_client::OneStopClient;
use examples::wire::portal::{BirthFiled, BirthForm, Origin};
use serde_json::Value;
use tests::processes::{Instance, Member, PURPOSE, Process, SOON};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// The day on which the agencies are, and the child is born.
const TODAY: &str = "2026-03-02";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_birth_is_registered_by_programs_command_lines_and_files_alone() {
    let mut country = Country::founded().await;
    let filed = country.file_birth().await;
    let count = |origin: Origin| filed.entries.iter().filter(|entry| entry.origin() == origin).count();
    assert_eq!(count(Origin::Typed), 6, "the parent types each field of the form once");
    assert!(count(Origin::Reused) >= 6, "{filed:?}");
    assert_eq!(filed.card_number, "TE1000000000001");

    let exchange = country.conversation(&filed.personal_number).await.concluded().await;
    let (instance, portal, vss) = (&country.instance, country.portal.file(), country.vss.file());
    for (file, mine) in [(&portal, "request"), (&vss, "answer")] {
        let line = format!("security-server exchange {exchange} --json --config {file}");
        let records = until_closed(instance, &line).await;
        assert_eq!(records[0]["number"], 0);
        assert_eq!(records[0]["direction"], "request");
        for record in records.iter().filter(|record| record["kind"] != "closed") {
            let sent = record["kind"] == "sent";
            assert_eq!(sent, record["direction"] == mine, "{record}");
        }
        let ends: Vec<_> = records.iter().filter_map(|record| record["end"].as_str()).collect();
        assert_eq!(ends.len(), 3, "both directions and the exchange end once: {ends:?}");
        assert!(ends.contains(&"half-close") && ends.contains(&"status 0"), "{ends:?}");
    }
    proved(instance, &exchange, &portal).await;
    proved(instance, &exchange, &vss).await;

    // Why the portal may, and why it may not: the code that the call itself is refused with.
    let why = async |consumer: &Member, provider: &Member, method: &str| {
        let (consumer, provider, file) = (&consumer.subsystem, &provider.subsystem, provider.file());
        let line = format!(
            "security-server access why {consumer} --provider {provider} --method {method} --purpose {PURPOSE} --json --config {file}"
        );
        instance.run(&line).await.json()
    };
    let allowed = why(&country.portal, &country.vss, "/insurance.v1.HealthCards/CheckEligibility").await;
    assert_eq!(allowed["allowed"], true, "{allowed}");
    let denied = why(&country.portal, &country.mps, "/population.v1.People/Get").await;
    assert_eq!(denied["allowed"], false, "{denied}");
    let mut people = PeopleClient::new(country.line(&country.portal, &country.mps));
    let refused = people.get(GetRequest { personal_number: MOTHER.into() }).await.unwrap_err();
    assert_eq!(refused.metadata().get("causeway-refusal").unwrap().to_str().unwrap(), denied["code"]);
    country.instance.grant(&country.portal, &country.mps, &["/population.v1.People/Get"]).await;
    people.get(GetRequest { personal_number: MOTHER.into() }).await.unwrap();

    let status = instance.run(&format!("security-server status --json --config {portal}")).await.json();
    assert_eq!(status["server"], "VN/GOV/portal/ss1");
    assert_eq!((&status["health"]["ready"], &status["health"]["configuration"]), (&true.into(), &"fresh".into()));

    // Exit codes tell a script what happened.
    let nowhere = "0".repeat(32);
    let code = async |line: String| instance.run(&line).await.code;
    assert_eq!(code(format!("security-server exchange {nowhere} --config {portal}")).await, Some(6));
    assert_eq!(code("security-server status --config nowhere.toml".into()).await, Some(2));
    country.servers.remove("portal").unwrap().stops().await;
    assert_eq!(code(format!("security-server status --config {portal}")).await, Some(4));
    country.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_stop_lets_a_running_stream_end_and_goes_on_after_its_next_start() {
    let mut country = Country::founded().await;
    let child = country.file_birth().await.personal_number;

    // The provider's server alone: the consumer's has a connection to it, and must notice.
    let mut running = country.conversation(&child).await;
    let mut stopping = country.servers.remove("vss").unwrap();
    stopping.terminate().await;
    stopping.says_that("shutting down").await;
    let refused = country.begin_conversation(&child).await.err().unwrap();
    assert!(refused.metadata().contains_key("causeway-refusal"), "a new call is refused by name: {refused}");
    running.asks(&child, "covered").await;
    let exchange = running.concluded().await;
    assert_eq!(stopping.ended().await.code(), Some(0));
    country.serve("vss").await;
    country.conversation(&child).await.concluded().await;
    proved(&country.instance, &exchange, &country.vss.file()).await;

    // Both at once.
    let mut running = country.conversation(&child).await;
    let mut stopping = Vec::new();
    for name in ["vss", "portal"] {
        let mut server = country.servers.remove(name).unwrap();
        server.terminate().await;
        server.says_that("shutting down").await;
        stopping.push(server);
        running.asks(&child, "covered").await;
    }
    let exchange = running.concluded().await;
    for server in stopping {
        assert_eq!(server.ended().await.code(), Some(0));
    }
    country.serve("vss").await;
    country.serve("portal").await;
    country.conversation(&child).await.concluded().await;
    proved(&country.instance, &exchange, &country.portal.file()).await;
    country.stop().await;
}

/// The evidence of an exchange out of this server's log holds, and no longer when a byte of it is another.
async fn proved(instance: &Instance, exchange: &str, file: &str) {
    let evidence = instance.run(&format!("security-server evidence get {exchange} --config {file}")).await.well();
    let verify = async |evidence: &[u8]| {
        std::fs::write(instance.path("evidence.json"), evidence).unwrap();
        instance.run("security-server evidence verify evidence.json --anchor registry/anchor.json --json").await
    };
    let report = verify(evidence.as_bytes()).await.json();
    assert!(!report["findings"].as_array().unwrap().is_empty(), "{report}");
    let digits: Vec<usize> =
        evidence.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at).collect();
    for part in 1..8 {
        let mut changed = evidence.clone().into_bytes();
        let at = digits[digits.len() * part / 8];
        changed[at] = if changed[at] == b'7' { b'3' } else { b'7' };
        let said = verify(&changed).await;
        let around = String::from_utf8_lossy(&changed[at.saturating_sub(60)..(at + 60).min(changed.len())]);
        assert_eq!(said.code, Some(5), "byte {at}, in {around}: {said:?}");
    }
}

/// The records of an exchange, as the command shows them, once its end is there: a caller has its answer a moment before.
async fn until_closed(instance: &Instance, line: &str) -> Vec<Value> {
    let shown = async {
        loop {
            let records = instance.run(line).await.json()["records"].as_array().unwrap().clone();
            if records.iter().any(|record| record["kind"] == "closed") {
                return records;
            }
        }
    };
    tokio::time::timeout(SOON, shown).await.unwrap()
}

// ---- the country

/// Four members, and a process for each server and each agency.
struct Country {
    instance: Instance,
    mps: Member,
    moj: Member,
    vss: Member,
    portal: Member,
    registry: Process,
    servers: BTreeMap<&'static str, Process>,
    agencies: Vec<Process>,
    one_stop: String,
}

impl Country {
    async fn founded() -> Self {
        let instance = Instance::founded().await;
        let registry = instance.serve_registry().await;
        let (mps, moj) = (Member::new("mps", "population-register"), Member::new("moj", "civil-registry"));
        let (vss, portal) = (Member::new("vss", "social-insurance"), Member::new("portal", "one-stop"));
        for member in [&mps, &moj, &vss, &portal] {
            instance.join(member).await;
        }

        // Each agency calls the others at its own server's door, with two fields, and knows no more of the bus.
        let peer = |name: &str, from: &Member, to: &Member| {
            format!(
                " --peer {name}=http://{} --metadata {name}:causeway-service={} --metadata {name}:causeway-purpose={PURPOSE}",
                from.clients, to.subsystem
            )
        };
        let (population, people) = agency(&instance, "population-register").await;
        let (civil, births) = agency(&instance, &format!("civil-registry{}", peer("population", &moj, &mps))).await;
        let (insurance, cards) =
            agency(&instance, &format!("social-insurance{}", peer("population", &vss, &mps))).await;
        let peers = peer("civil", &portal, &moj) + &peer("insurance", &portal, &vss);
        let (desk, one_stop) = agency(&instance, &format!("portal{peers}")).await;

        for (member, service) in [
            (&mps, Some(("population.v1.People", people))),
            (&moj, Some(("civil.v1.Births", births))),
            (&vss, Some(("insurance.v1.HealthCards", cards))),
            (&portal, None),
        ] {
            member.configure(instance.directory.path(), service.as_slice());
        }
        let mut country = Self {
            instance,
            mps,
            moj,
            vss,
            portal,
            registry,
            servers: BTreeMap::new(),
            agencies: vec![population, civil, insurance, desk],
            one_stop: format!("http://{one_stop}"),
        };
        for name in ["mps", "moj", "vss", "portal"] {
            country.serve(name).await;
        }
        let Self { instance, mps, moj, vss, portal, .. } = &country;
        instance.grant(portal, moj, &["/civil.v1.Births/Register"]).await;
        let cards = ["/insurance.v1.HealthCards/IssueChildCard", "/insurance.v1.HealthCards/CheckEligibility"];
        instance.grant(portal, vss, &cards).await;
        instance.grant(moj, mps, &["/population.v1.People/Get", "/population.v1.People/IssueNumber"]).await;
        instance.grant(vss, mps, &["/population.v1.People/Get"]).await;
        country
    }

    async fn serve(&mut self, name: &'static str) {
        let members = [&self.mps, &self.moj, &self.vss, &self.portal];
        let member = members.into_iter().find(|member| member.name == name).unwrap();
        let server = self.instance.serve(member).await;
        self.servers.insert(name, server);
    }

    async fn file_birth(&self) -> BirthFiled {
        let form = BirthForm {
            child_name: "Trần Mẫu Minh Tâm".into(),
            child_sex: "female".into(),
            date_of_birth: TODAY.into(),
            place_of_birth: "Bệnh viện Mẫu, Hà Nội".into(),
            mother_number: MOTHER.into(),
            father_number: FATHER.into(),
        };
        let mut one_stop = OneStopClient::connect(self.one_stop.clone()).await.unwrap();
        one_stop.file_birth(form).await.unwrap().into_inner()
    }

    /// How a system of `from` calls the services of `to`.
    fn line(&self, from: &Member, to: &Member) -> Line {
        let fields = [("causeway-service", to.subsystem.as_str()), ("causeway-purpose", PURPOSE)]
            .map(|(k, v)| (k.into(), v.into()));
        Peer::new(&format!("http://{}", from.clients), &fields).unwrap().line()
    }

    /// A stream both ways, on which the child was found to be insured.
    async fn conversation(&self, child: &str) -> Conversation {
        self.begin_conversation(child).await.unwrap()
    }

    async fn begin_conversation(&self, child: &str) -> Result<Conversation, Status> {
        let mut cards = HealthCardsClient::new(self.line(&self.portal, &self.vss));
        let (questions, asked) = mpsc::channel(1);
        questions.send(Question { personal_number: child.into() }).await.unwrap();
        let answers = cards.check_eligibility(ReceiverStream::new(asked)).await?;
        let exchange = answers.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        let mut conversation = Conversation { exchange, questions, answers: answers.into_inner() };
        conversation.hears("covered").await;
        Ok(conversation)
    }

    async fn stop(self) {
        for process in self.agencies.into_iter().chain(self.servers.into_values()).chain([self.registry]) {
            process.stops().await;
        }
    }
}

/// Starts an agency, and reads where it listens.
async fn agency(instance: &Instance, flags: &str) -> (Process, SocketAddr) {
    let mut agency = instance.start(&format!("agency {flags} --today {TODAY}"));
    let said: Value = serde_json::from_str(&agency.says_that("\"address\"").await).unwrap();
    (agency, said["address"].as_str().unwrap().parse().unwrap())
}

struct Conversation {
    exchange: String,
    questions: mpsc::Sender<Question>,
    answers: Streaming<Answer>,
}

impl Conversation {
    async fn asks(&mut self, person: &str, verdict: &str) {
        self.questions.send(Question { personal_number: person.into() }).await.unwrap();
        self.hears(verdict).await;
    }

    async fn hears(&mut self, verdict: &str) {
        assert_eq!(self.answers.message().await.unwrap().unwrap().verdict, verdict);
    }

    /// Ends it; its exchange.
    async fn concluded(mut self) -> String {
        drop(self.questions);
        assert_eq!(self.answers.message().await.unwrap(), None);
        self.exchange
    }
}
