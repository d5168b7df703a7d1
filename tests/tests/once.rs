//! Collected once, by the whole bus: an element has one source, people are not asked for it again without a public reason, and
//! everybody sees who carries what. The registry enforces it, whoever's client asks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::catalogue::{Entry, Part, ServiceName};
use proto::digest::Digest;
use proto::registration::{Order, Registered};
use proto::signature::SigningKey;
use proto::wire::registry::PublishRequest;
use registry_client::CatalogueClient;
use security_server::announce::{Announced, compiled, reflected};
use security_server::audit::Actor;
use security_server::listings::elements::AskedCounts;
use security_server::listings::{self, Announcement, Published, Unlisted};
use tests::processes::Member;
use tests::realm::{Realm, member_id, server_id};

/// The register of people: the source of who somebody is.
const PEOPLE: &str = r#"
service People { rpc Get(Asked) returns (Person); }
message Asked { string number = 1 [(causeway.element) = "person.number", (causeway.subject) = true]; }
message Person {
  string number = 1 [(causeway.element) = "person.number", (causeway.authoritative) = true];
  string born = 2 [(causeway.element) = "person.birth.date", (causeway.authoritative) = true];
}
"#;
/// A form that asks people for one thing that the register has, under another name, and for one that nobody has.
const FORM: &str = r#"
service Forms { rpc File(Form) returns (Filed); }
message Form {
  string birthday = 1 [(causeway.element) = "person.birth.date", (causeway.collected) = true];
  string school = 2 [(causeway.element) = "enrolment.school", (causeway.collected) = true];
  string number = 3 [(causeway.element) = "person.number"];
  string born = 4;
}
message Filed { string number = 1; }
"#;
const REASON: &str = ", (causeway.reason_to_collect) = \"Trẻ chưa có số định danh.\"";

fn with_reason(form: &str) -> String {
    form.replacen(
        "\"person.birth.date\", (causeway.collected) = true",
        &format!("\"person.birth.date\", (causeway.collected) = true{REASON}"),
        1,
    )
}

struct Country {
    realm: Realm,
    people: Member,
    school: Member,
}

impl Country {
    async fn new() -> Self {
        let mut realm = Realm::founded().await;
        let (people, school) = (Member::new("mps", "population"), Member::new("moet", "school"));
        for member in [&people, &school] {
            realm.join(member, &[]).await;
            realm.serve(member).await;
        }
        realm.settled().await;
        Self { realm, people, school }
    }

    /// Nobody here has `causeway/options.proto`.
    fn compiled(&self, member: &Member, text: &str) -> Announced {
        let directory = self.realm.path(&format!("protos-{}", member.name));
        std::fs::create_dir_all(&directory).unwrap();
        let package =
            format!("syntax = \"proto3\";\npackage {}.v1;\nimport \"causeway/options.proto\";\n", member.name);
        std::fs::write(directory.join("service.proto"), package + text).unwrap();
        compiled(&[directory.join("service.proto")], &[directory]).unwrap()
    }

    fn announcement(&self, member: &Member, text: &str) -> Announcement {
        let announced = self.compiled(member, text);
        Announcement {
            subsystem: member.subsystem.parse().unwrap(),
            descriptors: STANDARD.encode(&announced.descriptors),
            services: announced.services.iter().map(|name| name.parse().unwrap()).collect(),
            version: None,
            title: None,
            contact: format!("admin@{}.example", member.name).parse().unwrap(),
            open_to: Default::default(),
            deprecated: None,
        }
    }

    async fn publish(&self, member: &Member, text: &str) -> Result<Published, Unlisted> {
        let actor = Actor { token: "admin".into(), from: "127.0.0.1:1".into(), calls_itself: None };
        let server = &self.realm.servers[member.name].server;
        let published = listings::publish(server, self.announcement(member, text), actor).await?;
        self.realm.in_force(published.configuration_version).await;
        Ok(published)
    }

    async fn refused(&self, member: &Member, text: &str) -> String {
        let before = (self.realm.registry().version(), self.listed());
        let refused = self.publish(member, text).await.unwrap_err().to_string();
        assert_eq!((self.realm.registry().version(), self.listed()), before, "nothing was published, not even in part");
        refused
    }

    async fn foreseen(&self, member: &Member, text: &str) -> Result<Vec<String>, Unlisted> {
        listings::foresee(&self.realm.servers[member.name].server, self.announcement(member, text)).await
    }

    fn listed(&self) -> usize {
        listings::list(&self.realm.servers["moet"].server.store.current().load()).services.len()
    }

    /// Who carries this element, by the school's server.
    async fn carried(&self, element: &str) -> Vec<String> {
        match listings::elements::show(&self.realm.servers["moet"].server, &element.parse().unwrap()).await {
            Ok(shown) => {
                let line = |user: &listings::elements::ElementUser| format!("{} {}", user.part.word(), user.field);
                shown.services.iter().map(line).collect()
            }
            Err(Unlisted::UnknownElement { .. }) => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    async fn duplicates(&self) -> Vec<String> {
        let found = listings::elements::list(&self.realm.servers["moet"].server, String::new(), true).await.unwrap();
        let again = |line: &listings::elements::ElementLine| {
            let line_of = |offer: &listings::elements::OfferLine| {
                format!("{} {} {}", line.element, offer.field, offer.reason.as_deref().unwrap_or("-"))
            };
            line.asked_again.iter().map(line_of).collect::<Vec<_>>()
        };
        found.elements.iter().flat_map(again).collect()
    }

    fn key_of(&self, member: &Member) -> SigningKey {
        let directory = self.realm.path(member.name).join("keys");
        let mut held = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let signing = held.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("signing")).unwrap();
        keystore::open(&signing, &self.realm.passphrase).unwrap()
    }

    /// What a publisher's client that runs no lint sends.
    fn signed(&self, member: &Member, text: &str, change: impl Fn(&mut Entry)) -> PublishRequest {
        let announced = self.compiled(member, text);
        let descriptors = catalogue::reduced(&announced.descriptors, &announced.services).unwrap();
        let described = catalogue::Described::read(&descriptors).unwrap();
        let key = self.key_of(member);
        let entry = |service: &String| {
            let said = described.said_of(service).unwrap();
            let mut entry = Entry {
                subsystem: member.subsystem.parse().unwrap(),
                service: service.parse().unwrap(),
                version: "1.0".parse().unwrap(),
                server: server_id(member),
                time: self.realm.now(),
                form: proto::catalogue::ServiceForm::Grpc,
                descriptors: Digest::of(&[&descriptors]),
                title: "A title".parse().unwrap(),
                description: said.description,
                contact: "nobody@example".parse().unwrap(),
                open_to: Default::default(),
                deprecated: None,
                methods: said.methods,
                elements: said.elements,
                dry_run: false,
            };
            change(&mut entry);
            entry.sign(&key)
        };
        let entries = announced.services.iter().map(entry).collect();
        PublishRequest { entries, descriptors: descriptors.into() }
    }

    async fn registry(&self) -> CatalogueClient<tonic::transport::Channel> {
        let (address, key) = (&self.realm.admin.registry, self.realm.admin.fingerprint);
        CatalogueClient::new(registry_client::connect(address, key).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_is_the_source_of_is_asked_again_with_a_public_reason_only() {
    let country = Country::new().await;
    country.publish(&country.people, PEOPLE).await.unwrap();
    let refused = country.refused(&country.school, FORM).await;
    for named in [
        "ONCE001: moet.v1.Form.birthday asks people for person.birth.date",
        "VN/GOV/mps/population is its source (mps.v1.Person.born of mps.v1.People)",
        "ask admin@mps.example for access",
        "(causeway.reason_to_collect)",
    ] {
        assert!(refused.contains(named), "{named}: {refused}");
    }
    // What has the same name as the source's field and is another thing is not found.
    assert!(!refused.contains("Form.born"), "{refused}");
    // A rehearsal says the same, and with a reason warns.
    let foreseen = country.foreseen(&country.school, FORM).await.unwrap_err().to_string();
    assert_eq!(foreseen, refused);
    let foreseen = country.foreseen(&country.school, &with_reason(FORM)).await.unwrap().join("\n");
    assert!(foreseen.contains("ONCE001: moet.v1.Form.birthday asks people for person.birth.date again"), "{foreseen}");
    assert_eq!(country.listed(), 1);

    let published = country.publish(&country.school, &with_reason(FORM)).await.unwrap();
    assert!(published.remarks[0].contains("everybody can read why: Trẻ chưa có số định danh."), "{published:?}");
    // Everybody reads the reason in what the school signed.
    let people = &country.realm.servers["mps"].server;
    let entry = listings::entry(people, "moet.v1.Forms", None).await.unwrap();
    let field = entry.entry().elements.iter().find(|field| field.part == Part::Collects && field.reason.is_some());
    assert_eq!(field.unwrap().reason.as_ref().unwrap().as_str(), "Trẻ chưa có số định danh.");
    assert_eq!(country.duplicates().await, ["person.birth.date moet.v1.Form.birthday Trẻ chưa có số định danh."]);
    let carried = country.carried("person.birth.date").await;
    assert_eq!(carried, ["authoritative mps.v1.Person.born", "collects moet.v1.Form.birthday"]);
    let unknown = listings::elements::show(people, &"person.brith.date".parse().unwrap()).await.unwrap_err();
    assert!(unknown.to_string().contains("did you mean person.birth.date?"), "{unknown}");
    // The next version does without the field: it is asked again no more, and the report says since when.
    let without = FORM.replace(
        "string birthday = 1 [(causeway.element) = \"person.birth.date\", (causeway.collected) = true];",
        "string birthday = 1 [(causeway.element) = \"person.birth.date\"];",
    );
    country.publish(&country.school, &without).await.unwrap();
    assert_eq!(country.duplicates().await, Vec::<String>::new());
    let report = listings::elements::report(people, Some("moet.v1.Forms".parse().unwrap())).await.unwrap();
    assert_eq!(report.services[0].now, AskedCounts { reused: 2, first: 1, again: 0 });
    let then: Vec<_> = report.services[0].versions.iter().map(|each| (each.version.to_string(), each.asked)).collect();
    assert_eq!(
        then,
        [
            ("1.0".to_owned(), AskedCounts { reused: 1, first: 1, again: 1 }),
            ("1.1".to_owned(), AskedCounts { reused: 2, first: 1, again: 0 }),
        ]
    );
    let all = listings::elements::report(people, None).await.unwrap();
    assert_eq!(all.sum, AskedCounts { reused: 3, first: 1, again: 0 }, "the register takes a number too");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_element_has_one_source_until_that_one_gives_it_up_or_is_removed() {
    let mut country = Country::new().await;
    country.publish(&country.people, PEOPLE).await.unwrap();
    let refused = country.refused(&country.school, PEOPLE).await;
    assert!(
        refused.contains("ONCE002: moet.v1.Person.born is said to be authoritative for person.birth.date"),
        "{refused}"
    );
    assert!(
        refused.contains("ONCE002: moet.v1.Person.number") && refused.contains("VN/GOV/mps/population"),
        "{refused}"
    );
    // Its source is named by the field that gives it, and not by one that takes it.
    assert!(refused.contains("its source (mps.v1.Person.number of mps.v1.People)"), "{refused}");
    // No reason makes a second source of one.
    let excused = with_reason(&(PEOPLE.to_owned() + FORM)).replace(
        "message Filed {",
        "message Filed { string own = 2 [(causeway.element) = \"a.b\", (causeway.authoritative) = true];",
    );
    assert!(country.refused(&country.school, &excused).await.contains("ONCE002"));
    // The register's own next version is no second source; nor is it after a restart.
    country.publish(&country.people, &PEOPLE.replace("born = 2", "place = 3; string born = 2")).await.unwrap();
    country.realm.stop_registry().await;
    country.realm.serve_registry().await;
    country.realm.settled().await;
    assert!(country.refused(&country.school, PEOPLE).await.contains("ONCE002"), "a restart forgets no source");
    let report = listings::elements::report(&country.realm.servers["mps"].server, None).await.unwrap();
    assert_eq!(report.services[0].versions.len(), 2, "nor what versions asked for");
    // It gives one up.
    let gave_up = PEOPLE
        .replace("born = 2", "place = 3; string born = 2")
        .replace("\"person.birth.date\", (causeway.authoritative) = true", "\"person.birth.date\"");
    country.publish(&country.people, &gave_up).await.unwrap();
    let born_only = PEOPLE.replace("\"person.number\", (causeway.authoritative) = true", "\"person.number\"");
    country.publish(&country.school, &born_only).await.unwrap();
    assert_eq!(
        country.carried("person.birth.date").await,
        ["authoritative moet.v1.Person.born", "gives mps.v1.Person.born"]
    );
    // It is removed: what it was the source of is free.
    assert!(country.refused(&country.school, PEOPLE).await.contains("ONCE002"));
    let gone = Order::Remove(Registered::Member(member_id(&country.people)), "merged".parse().unwrap());
    let version = country.realm.decided(gone).await;
    country.realm.in_force(version).await;
    country.publish(&country.school, PEOPLE).await.unwrap();
    assert_eq!(country.carried("person.number").await[0], "authoritative moet.v1.Person.number");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_enforces_it_whatever_a_publishers_client_says() {
    let country = Country::new().await;
    country.publish(&country.people, PEOPLE).await.unwrap();
    let mut registry = country.registry().await;
    let form = with_reason(FORM);
    type Change = fn(&mut Entry);
    let lies: [(&str, Change, &str); 6] = [
        (FORM, |_| {}, "ONCE001"),
        (PEOPLE, |_| {}, "ONCE002"),
        // An entry that hides what its descriptors say of elements, or embellishes it.
        (FORM, |entry| entry.elements.clear(), "says otherwise than its descriptors"),
        (
            FORM,
            |entry| entry.elements.retain(|field| field.part != Part::Collects),
            "says otherwise than its descriptors",
        ),
        (
            &form,
            |entry| {
                entry
                    .elements
                    .iter_mut()
                    .for_each(|field| field.reason = field.reason.as_ref().and("because".parse().ok()))
            },
            "says otherwise than its descriptors",
        ),
        (
            FORM,
            |entry| {
                let collected = entry.elements.iter_mut().filter(|field| field.part == Part::Collects);
                collected.for_each(|field| field.reason = "because".parse().ok());
            },
            "says otherwise than its descriptors",
        ),
    ];
    for (text, change, why) in lies {
        let refused = registry.publish(country.signed(&country.school, text, change)).await.unwrap_err();
        assert!(refused.message().contains(why), "{why}: {refused}");
    }
    assert_eq!(country.listed(), 1);
    // Options that contradict each other, at the registry's door: they are refused where they are read.
    let honest = country.signed(&country.school, &form, |_| {});
    registry.publish(honest).await.unwrap();
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_become_authoritative_at_once_one_is_refused() {
    let country = Country::new().await;
    let text = |place: usize| format!("{PEOPLE}\nmessage N{place} {{}}");
    for round in 0..3 {
        let text = text(round).replace("\"person.", &format!("\"r{round}."));
        let renamed = text.replace("service People", &format!("service People{round}"));
        let [mut one, mut other] = [country.registry().await, country.registry().await];
        let (ours, theirs) =
            (country.signed(&country.people, &renamed, |_| {}), country.signed(&country.school, &renamed, |_| {}));
        let (first, second) = tokio::join!(one.publish(ours), other.publish(theirs));
        let (taken, refused): (Vec<_>, Vec<_>) = [first, second].into_iter().partition(Result::is_ok);
        assert_eq!(taken.len(), 1, "{refused:?}");
        assert!(refused[0].as_ref().unwrap_err().message().contains("ONCE002"), "{refused:?}");
    }
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_source_shows_who_asks_people_for_what_it_has_and_a_typing_error_is_noticed() {
    let country = Country::new().await;
    // Nobody has it yet: people are asked once.
    let published = country.publish(&country.school, FORM).await.unwrap();
    assert_eq!(published.remarks, Vec::<String>::new());
    let published = country.publish(&country.people, PEOPLE).await.unwrap();
    let remark = "1 services of others ask people for person.birth.date: `security-server elements show person.birth.date` names them";
    assert_eq!(published.remarks, [remark]);
    assert_eq!(country.duplicates().await, ["person.birth.date moet.v1.Form.birthday -"]);
    // The form's next version needs a reason, whatever else it changes.
    let refused =
        country.refused(&country.school, &FORM.replace("string born = 4;", "string born = 4; string more = 5;")).await;
    assert!(refused.contains("ONCE001"), "{refused}");
    let mistyped = with_reason(FORM).replace("\"enrolment.school\"", "\"enrolment.shcool\"");
    let published =
        country.publish(&country.school, &mistyped.replace("service Forms", "service Others")).await.unwrap();
    assert!(
        published.remarks[1].contains("nobody else has enrolment.shcool; did you mean enrolment.school?"),
        "{published:?}"
    );
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_as_text_is_published_again_without_the_options_file() {
    let country = Country::new().await;
    country.publish(&country.people, PEOPLE).await.unwrap();
    let school = &country.realm.servers["moet"].server;
    let entry = listings::entry(school, "mps.v1.People", None).await.unwrap();
    let source = listings::source(school, &entry).await.unwrap();
    let directory = country.realm.path("again");
    std::fs::create_dir_all(&directory).unwrap();
    let file: PathBuf = directory.join("people.proto");
    std::fs::write(&file, &source.files[0].text).unwrap();
    let again = compiled(&[file], &[directory]).unwrap();
    let again = catalogue::Described::read(&again.descriptors).unwrap().said_of("mps.v1.People").unwrap();
    assert_eq!(again.elements, entry.entry().elements);
    // The clients' door tells it by reflection, options and all.
    let door = country.school.clients.to_string().parse().unwrap();
    let seen = reflected(&door, &["mps.v1.People".to_owned()]).await.unwrap();
    let seen = catalogue::Described::read(&seen.descriptors).unwrap().said_of("mps.v1.People").unwrap();
    assert_eq!(seen.elements, entry.entry().elements);
    let name: ServiceName = "mps.v1.People".parse().unwrap();
    assert!(school.store.current().load().service_at(&entry.entry().subsystem, &name).is_some());
    country.realm.stops().await;
}
