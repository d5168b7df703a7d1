//! The catalogue: what a member publishes is found, read and believed by every other, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::catalogue::{Entry, Method};
use proto::digest::Digest;
use proto::global_configuration::update::target_file;
use proto::registration::{Order, Registered};
use proto::signature::SigningKey;
use proto::time::Time;
use proto::wire::registry::{FetchRequest, PublishRequest};
use registry_client::CatalogueClient;
use security_server::announce::{Announced, compiled, reflected};
use security_server::audit::Actor;
use security_server::listings::{self, Announcement, Published, Unlisted};
use tests::echo::Parrot;
use tests::processes::{Member, reserved};
use tests::realm::{Realm, member_id, server_id};
use tests::soon;
use tests::world::{Fields, TOKEN, World};
use tonic::Code;
use tonic::transport::Channel;

const BIRTHS: &str = r#"
syntax = "proto3";
package civil.v1;
import "civil/v1/people.proto";
// Hộ tịch: births, as they are registered.
service Births {
  // Khai sinh.
  rpc Register(Birth) returns (Receipt);
}
// Kết hôn.
service Marriages {
  rpc Register(Marriage) returns (Receipt);
}
message Birth { Person child = 1; string town = 2; }
message Marriage { repeated Person people = 1; }
message Receipt { string number = 1; }
"#;
const PEOPLE: &str = "syntax = \"proto3\";\npackage civil.v1;\nmessage Person { string name = 1; string born = 2; }\n";

/// Two members whose servers run, and the .proto files of one.
struct Country {
    realm: Realm,
    portal: Member,
    moj: Member,
}

impl Country {
    async fn new() -> Self {
        let mut realm = Realm::founded().await;
        let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
        for member in [&portal, &moj] {
            realm.join(member, &[]).await;
            realm.serve(member).await;
        }
        realm.settled().await;
        Self { realm, portal, moj }
    }

    /// The services of this text, compiled as an admin's files.
    fn compiled(&self, births: &str) -> Announced {
        let directory = self.realm.path("protos/civil/v1");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("births.proto"), births).unwrap();
        std::fs::write(directory.join("people.proto"), PEOPLE).unwrap();
        compiled(&[directory.join("births.proto")], &[self.realm.path("protos")]).unwrap()
    }

    fn announcement(&self, announced: &Announced) -> Announcement {
        Announcement {
            subsystem: self.moj.subsystem.parse().unwrap(),
            form: proto::catalogue::ServiceForm::Grpc,
            descriptors: STANDARD.encode(&announced.descriptors),
            services: announced.services.iter().map(|name| name.parse().unwrap()).collect(),
            version: None,
            title: Some("Đăng ký hộ tịch".parse().unwrap()),
            contact: "births@moj.example".parse().unwrap(),
            open_to: ["VN/GOV".parse().unwrap()].into(),
            deprecated: None,
        }
    }

    async fn publish(&self, announcement: Announcement) -> Result<Published, Unlisted> {
        let actor = Actor { token: "admin".into(), from: "127.0.0.1:1".into(), calls_itself: None };
        let published = listings::publish(&self.realm.servers["moj"].server, announcement, actor).await?;
        self.realm.in_force(published.configuration_version).await;
        Ok(published)
    }

    async fn published(&self, births: &str) -> Result<Vec<String>, Unlisted> {
        let published = self.publish(self.announcement(&self.compiled(births))).await?;
        Ok(published.services.iter().map(|line| format!("{} {}", line.service, line.version)).collect())
    }

    /// What the portal's server is told, line by line.
    fn listed(&self) -> Vec<String> {
        let listed = listings::list(&self.realm.servers["portal"].server.store.current().load()).services;
        listed.iter().map(|line| format!("{} {} {}", line.subsystem, line.service, line.version)).collect()
    }

    async fn found(&self, query: &str) -> Vec<String> {
        let found = listings::search(&self.realm.servers["portal"].server, query).await.unwrap().services;
        found.into_iter().map(|line| line.service.to_string()).collect()
    }

    async fn registry(&self) -> CatalogueClient<Channel> {
        let (address, key) = (&self.realm.admin.registry, self.realm.admin.fingerprint);
        CatalogueClient::new(registry_client::connect(address, key).await.unwrap())
    }

    /// The key with which a member seals.
    fn key_of(&self, member: &Member) -> SigningKey {
        let directory = self.realm.path(member.name).join("keys");
        let mut held = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let signing = held.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("signing")).unwrap();
        keystore::open(&signing, &self.realm.passphrase).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_publishes_is_found_and_verified_by_every_other() {
    let country = Country::new().await;
    assert_eq!(country.listed(), Vec::<String>::new());
    assert_eq!(country.published(BIRTHS).await.unwrap(), ["civil.v1.Births 1.0", "civil.v1.Marriages 1.0"]);
    let at = "VN/GOV/moj/civil-registry";
    assert_eq!(country.listed(), [format!("{at} civil.v1.Births 1.0"), format!("{at} civil.v1.Marriages 1.0")]);

    for query in ["ho tich", "HO TICH", "Hộ tịch khai sinh", "births"] {
        assert_eq!(country.found(query).await[0], "civil.v1.Births", "{query}");
    }
    assert_eq!(country.found("ket hon").await, ["civil.v1.Marriages"]);
    assert_eq!(country.found("ho chieu").await, Vec::<String>::new());

    let portal = &country.realm.servers["portal"].server;
    let entry = listings::entry(portal, "civil.v1.Births", None).await.unwrap();
    let shown = listings::shown(&entry);
    assert_eq!(shown.description, "Hộ tịch: births, as they are registered.");
    assert_eq!((shown.contact.as_str(), shown.methods[0].description.as_str()), ("births@moj.example", "Khai sinh."));
    assert_eq!(shown.signed_with, country.key_of(&country.moj).public().id().to_string());

    // What is written as text compiles to what was published.
    let source = listings::source(portal, &entry).await.unwrap();
    let directory = country.realm.path("again");
    let mut files = Vec::<PathBuf>::new();
    for file in &source.files {
        let path = directory.join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &file.text).unwrap();
        files.push(path);
    }
    assert_eq!(files.len(), 2);
    let again = compiled(&files[..1], &[directory]).unwrap();
    assert_eq!(again.services, ["civil.v1.Births", "civil.v1.Marriages"]);
    assert!(matches!(country.publish(country.announcement(&again)).await, Ok(_) | Err(Unlisted::Refused(_))));

    let unknown = listings::entry(portal, "civil.v1.Birth", None).await.unwrap_err();
    assert!(unknown.to_string().contains("did you mean civil.v1.Births?"), "{unknown}");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_describes_itself_is_published_from_its_own_words() {
    let country = Country::new().await;
    let address = Parrot::serve_reflected().await.to_string().parse().unwrap();
    let announced = reflected(&address, &[]).await.unwrap();
    assert_eq!(announced.services, ["echo.v1.Echo"]);
    country.publish(country.announcement(&announced)).await.unwrap();
    let portal = &country.realm.servers["portal"].server;
    let entry = listings::entry(portal, "echo.v1.Echo", None).await.unwrap();
    let methods: Vec<_> = entry.entry().methods.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(methods[..3], ["Unary", "ServerStream", "ClientStream"]);
    let unknown = reflected(&address, &["echo.v1.Nothing".to_owned()]).await.err().unwrap();
    assert!(unknown.to_string().contains("does not describe itself"), "{unknown}");
    let silent = tests::processes::reserved().to_string().parse().unwrap();
    assert!(reflected(&silent, &[]).await.err().unwrap().to_string().contains("does not describe itself"));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_consumers_rely_on_breaks_with_a_new_major_version_only_and_never_in_part() {
    let country = Country::new().await;
    country.published(BIRTHS).await.unwrap();
    let before = country.listed();
    let said = country.published(BIRTHS).await.unwrap_err().to_string();
    assert!(said.contains("listed so already"), "{said}");

    // One of two breaks: neither is listed.
    let broken = BIRTHS.replace("string town = 2;", "string town = 3;").replace("// Kết hôn.", "// Hôn nhân.");
    let said = country.published(&broken).await.unwrap_err().to_string();
    assert!(said.contains("field civil.v1.Birth.town (2) is gone") && said.contains("--version 2.0"), "{said}");
    assert_eq!(country.listed(), before);

    let added = BIRTHS.replace("string town = 2;", "string town = 2; string ward = 3;");
    assert_eq!(country.published(&added).await.unwrap(), ["civil.v1.Births 1.1", "civil.v1.Marriages 1.1"]);
    // What breaks is judged against what is listed, not against what once was.
    let said = country.published(BIRTHS).await.unwrap_err().to_string();
    assert!(said.contains("field civil.v1.Birth.ward (3) is gone"), "{said}");

    let of = |version: &str| {
        let announcement = country.announcement(&country.compiled(&broken));
        Announcement { version: Some(version.parse().unwrap()), ..announcement }
    };
    for old in ["1.1", "1.0", "0.9"] {
        let said = country.publish(of(old)).await.unwrap_err().to_string();
        assert!(said.contains("is not newer"), "{old}: {said}");
    }
    country.publish(of("2.0")).await.unwrap();
    assert!(country.listed().contains(&"VN/GOV/moj/civil-registry civil.v1.Births 2.0".to_owned()));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_asks_the_same_rules_and_changes_nothing() {
    let country = Country::new().await;
    let version = country.realm.registry().version();
    let moj = &country.realm.servers["moj"].server;
    let foreseen = listings::foresee(moj, country.announcement(&country.compiled(BIRTHS))).await.unwrap();
    assert_eq!(foreseen[0], "list civil.v1.Births 1.0 of VN/GOV/moj/civil-registry, 1 methods, open to VN/GOV");
    assert_eq!((country.realm.registry().version(), country.found("").await.len()), (version, 0));
    country.published(BIRTHS).await.unwrap();
    let broken = BIRTHS.replace("string town = 2;", "");
    let refused = listings::foresee(moj, country.announcement(&country.compiled(&broken))).await.unwrap_err();
    assert!(refused.to_string().contains("field civil.v1.Birth.town (2) is gone"), "{refused}");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_member_lists_its_services_with_its_own_key_at_its_own_server_and_now() {
    let country = Country::new().await;
    country.published(BIRTHS).await.unwrap();
    let (before, version) = (country.listed(), country.realm.registry().version());
    let announced = country.compiled(BIRTHS);
    let names = announced.services.clone();
    let descriptors = catalogue::reduced(&announced.descriptors, &names).unwrap();
    let said = catalogue::Described::read(&descriptors).unwrap().said_of("civil.v1.Births").unwrap();
    let catalogue::Said { description, methods, elements } = said;
    let entry = Entry {
        subsystem: country.moj.subsystem.parse().unwrap(),
        service: "civil.v1.Births".parse().unwrap(),
        version: "1.7".parse().unwrap(),
        server: server_id(&country.moj),
        time: country.realm.now(),
        form: proto::catalogue::ServiceForm::Grpc,
        descriptors: Digest::of(&[&descriptors]),
        title: "Another title".parse().unwrap(),
        description,
        contact: "thief@example".parse().unwrap(),
        open_to: Default::default(),
        deprecated: None,
        methods,
        elements,
        dry_run: false,
    };
    let (moj, portal, (nobody, _)) =
        (country.key_of(&country.moj), country.key_of(&country.portal), SigningKey::generate());
    let at_the_portal = Entry { server: server_id(&country.portal), ..entry.clone() };
    let of_the_portal = Entry { subsystem: country.portal.subsystem.parse().unwrap(), ..entry.clone() };
    let old = Entry { time: Time::from_millis(entry.time.as_millis() - 61_000), ..entry.clone() };
    let not_newer = Entry { version: "1.0".parse().unwrap(), ..entry.clone() };
    let embellished = Entry { description: "Asks for nothing at all.".into(), ..entry.clone() };
    let secret = Method { name: "Secret".into(), ..entry.methods[0].clone() };
    let more = Entry { methods: vec![entry.methods[0].clone(), secret], ..entry.clone() };
    let another = Entry { service: "civil.v1.Deaths".parse().unwrap(), ..entry.clone() };
    let mut registry = country.registry().await;
    for (entry, key, code, why) in [
        (&entry, &portal, Code::Unauthenticated, "none with which"),
        (&entry, &nobody, Code::Unauthenticated, "none with which"),
        (&at_the_portal, &portal, Code::PermissionDenied, "does not host"),
        (&of_the_portal, &moj, Code::PermissionDenied, "does not host"),
        (&old, &moj, Code::Unauthenticated, "61 seconds"),
        (&not_newer, &moj, Code::AlreadyExists, "not newer"),
        (&embellished, &moj, Code::InvalidArgument, "says otherwise than its descriptors"),
        (&more, &moj, Code::InvalidArgument, "says otherwise than its descriptors"),
        (&another, &moj, Code::InvalidArgument, "no service civil.v1.Deaths"),
    ] {
        let request = PublishRequest { entries: vec![entry.sign(key)], descriptors: descriptors.clone().into() };
        let refused = registry.publish(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{why}: {refused}");
        assert!(refused.message().contains(why), "{why}: {refused}");
    }
    // A signature of another entry, and descriptors that nobody signed for.
    let mut swapped = entry.sign(&moj);
    swapped.signature = not_newer.sign(&moj).signature;
    let other = catalogue::reduced(&announced.descriptors, &names[..1]).unwrap();
    let hostile = b"\x0a\x0b\x0a\x01a\x1a\x01b\x22\x03".to_vec();
    for (signed, descriptors, why) in [
        (swapped, descriptors.clone(), "signature does not hold"),
        (Entry { descriptors: Digest::ZERO, ..entry.clone() }.sign(&moj), other, "says otherwise"),
        (entry.sign(&moj), hostile, "FileDescriptorSet"),
    ] {
        let request = PublishRequest { entries: vec![signed], descriptors: descriptors.into() };
        let refused = registry.publish(request).await.unwrap_err();
        assert!(refused.message().contains(why), "{why}: {refused}");
    }
    assert_eq!((country.listed(), country.realm.registry().version()), (before, version), "nothing was listed");

    // The right one is taken, once; and the key that signed it is its member's.
    let request = PublishRequest { entries: vec![entry.sign(&moj)], descriptors: descriptors.into() };
    let listed = registry.publish(request.clone()).await.unwrap().into_inner().version;
    country.realm.in_force(listed).await;
    assert_eq!(registry.publish(request).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(country.found("another title").await, ["civil.v1.Births"]);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_publication_moves_kilobytes_and_no_descriptors() {
    let country = Country::new().await;
    let (portal, before) = (&country.realm.servers["portal"].server, country.realm.settled().await);
    let had = portal.store.files();
    country.published(BIRTHS).await.unwrap();
    let files = portal.store.files();
    let new: Vec<_> = files.iter().filter(|(name, bytes)| had.get(*name) != Some(*bytes)).collect();
    let moved: usize = new.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(before > 0 && moved < 64 * 1024, "{moved} bytes moved");
    let names: Vec<_> = new.iter().map(|(name, _)| name.as_str()).collect();
    // The member's document, its bin, snapshot, the ledger's checkpoint and timestamp.
    assert_eq!(new.len(), 5, "{names:?}");
    let document = new.iter().find(|(name, _)| name.starts_with("catalogue/VN/GOV/")).unwrap();
    let path = format!("catalogue/{}.json", member_id(&country.moj));
    assert_eq!(**document.0, target_file(&path, &Digest::of(&[document.1])));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_outlive_restarts_and_lost_files_and_nobody_can_change_one() {
    let mut country = Country::new().await;
    country.published(BIRTHS).await.unwrap();
    let listed = country.listed();
    let content = country.realm.path("registry/public/content");
    let files = || {
        let directories = std::fs::read_dir(&content).unwrap().map(|entry| entry.unwrap().path());
        directories
            .flat_map(|each| std::fs::read_dir(each).unwrap().map(|file| file.unwrap().path()))
            .collect::<Vec<_>>()
    };
    assert_eq!(files().len(), 3, "two entries, and one descriptor set for both");

    // A changed file is no file.
    let mut registry = country.registry().await;
    for file in files() {
        let digest: Digest = file.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let asked = || FetchRequest { digest: digest.to_wire() };
        assert_eq!(Digest::of(&[&registry.fetch(asked()).await.unwrap().into_inner().content]), digest);
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(registry.fetch(asked()).await.unwrap_err().code(), Code::NotFound);
    }
    // Some are gone, some are changed: the journal has all of it.
    std::fs::remove_file(&files()[0]).unwrap();
    country.realm.stop_registry().await;
    country.realm.serve_registry().await;
    country.realm.settled().await;
    assert_eq!(country.listed(), listed);
    assert_eq!(country.found("ho tich").await[0], "civil.v1.Births");
    let portal = &country.realm.servers["portal"].server;
    let entry = listings::entry(portal, "civil.v1.Births", None).await.unwrap();
    assert_eq!(listings::source(portal, &entry).await.unwrap().files.len(), 2);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_reach_the_registry_reads_the_catalogue_at_a_mirror_and_then_alone() {
    let mut country = Country::new().await;
    country.published(BIRTHS).await.unwrap();
    let path = country.realm.directory.path().join(country.portal.file());
    let (door, reached) = (country.realm.registry().public().unwrap(), country.realm.registry().address());
    let text = std::fs::read_to_string(&path).unwrap();
    let gone = format!("address = \"{}\"\nmirrors = [\"http://{door}\"]", reserved());
    std::fs::write(&path, text.replace(&format!("address = \"{reached}\""), &gone)).unwrap();
    country.realm.restart(&country.portal).await;
    let read = async |country: &Country| {
        let portal = &country.realm.servers["portal"].server;
        let entry = listings::entry(portal, "civil.v1.Births", None).await?;
        listings::source(portal, &entry).await.map(|source| source.files.len())
    };
    assert_eq!(read(&country).await.unwrap(), 2);
    country.realm.stop_registry().await;
    country.realm.restart(&country.portal).await;
    assert_eq!(read(&country).await.unwrap(), 2, "what was read once is on disk");
    let kept = country.realm.path(&country.portal.file()).with_file_name("content");
    std::fs::remove_dir_all(kept).unwrap();
    country.realm.restart(&country.portal).await;
    let said = read(&country).await.unwrap_err().to_string();
    assert!(said.contains("registry"), "{said}");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_members_services_are_not_listed_until_it_is_back_and_a_removed_ones_never() {
    let country = Country::new().await;
    country.published(BIRTHS).await.unwrap();
    let (moj, reason) = (member_id(&country.moj), "a test".parse().unwrap());
    let version = country.realm.decided(Order::Suspend(moj.clone(), reason)).await;
    country.realm.in_force(version).await;
    assert_eq!(country.listed(), Vec::<String>::new());
    assert_eq!(country.found("ho tich").await, Vec::<String>::new());
    let version = country.realm.decided(Order::Restore(moj.clone())).await;
    country.realm.in_force(version).await;
    assert_eq!(country.listed().len(), 2);
    let removed = Order::Remove(Registered::Member(moj), "it is gone".parse().unwrap());
    let version = country.realm.decided(removed).await;
    country.realm.in_force(version).await;
    let portal = &country.realm.servers["portal"].server;
    assert!(portal.store.current().load().catalogue.is_empty(), "its document is gone");
    assert_eq!(country.found("").await, Vec::<String>::new());
    country.realm.stops().await;
}

#[test]
fn files_that_do_not_compile_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.proto");
    let said = |text: &str, include: &[PathBuf]| {
        std::fs::write(&file, text).unwrap();
        compiled(std::slice::from_ref(&file), include).err().unwrap().to_string()
    };
    let missing = said("syntax = \"proto3\"; import \"b.proto\";", &[]);
    assert!(missing.contains("b.proto") && missing.contains("--include"), "{missing}");
    let broken = said("syntax = \"proto3\"; message M { string a = 1; string b = 1; }", &[]);
    assert!(broken.contains("do not compile"), "{broken}");
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = said("syntax = \"proto3\";", &[elsewhere.path().to_owned()]);
    assert!(outside.contains("is below none of the directories"), "{outside}");
}

// ---- reflection at the clients' door

/// The services that a client of this member's door is told of, in both versions of reflection.
async fn told(member: &Member, fields: &[(&'static str, &str)]) -> Result<Vec<String>, tonic::Status> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", member.clients)).unwrap();
    told_at(endpoint.connect().await.unwrap(), fields).await
}

async fn told_at(channel: Channel, fields: &[(&'static str, &str)]) -> Result<Vec<String>, tonic::Status> {
    use tonic_reflection::pb::{v1, v1alpha};
    let fields = Fields(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
    let asked = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::with_interceptor(channel.clone(), fields.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(asked)).await?.into_inner();
    let answer = soon(answers.message()).await?.unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(listed) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(soon(answers.message()).await?.is_none(), "the conversation ends well");

    let asked = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::with_interceptor(channel, fields);
    let mut answers = client.server_reflection_info(tokio_stream::once(asked)).await?.into_inner();
    let answer = soon(answers.message()).await?.unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(listed) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(listed.service.into_iter().map(|service| service.name).collect::<Vec<_>>(), names);
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_shows_each_caller_what_its_member_may_ask_for() {
    let country = Country::new().await;
    let announced = country.compiled(BIRTHS);
    let open_to = |audience: &str| Announcement {
        open_to: [audience.parse().unwrap()].into(),
        ..country.announcement(&announced)
    };
    country.publish(open_to("VN/COM")).await.unwrap();
    assert_eq!(told(&country.portal, &[]).await.unwrap(), Vec::<String>::new(), "it is open to companies only");
    assert_eq!(told(&country.moj, &[]).await.unwrap(), ["civil.v1.Births", "civil.v1.Marriages"], "it is its own");
    let portal = country.portal.clients.to_string().parse().unwrap();
    let hidden = reflected(&portal, &["civil.v1.Births".to_owned()]).await.err().unwrap().to_string();
    assert!(hidden.contains("civil.v1.Births is of no service that may be seen here"), "{hidden}");

    country.publish(open_to("VN/GOV/portal")).await.unwrap();
    assert_eq!(told(&country.portal, &[]).await.unwrap(), ["civil.v1.Births", "civil.v1.Marriages"]);
    for (provider, shown) in [(&country.moj, 2), (&country.portal, 0)] {
        let told = told(&country.portal, &[("causeway-service", &provider.subsystem)]).await.unwrap();
        assert_eq!(told.len(), shown, "{}", provider.subsystem);
    }
    // The whole way of a reflection client: list, then each file and what it imports.
    let seen = reflected(&portal, &[]).await.unwrap();
    assert_eq!(seen.services, announced.services);
    let (seen, published) =
        (catalogue::Described::read(&seen.descriptors), catalogue::Described::read(&announced.descriptors));
    let (seen, published) = (seen.unwrap(), published.unwrap());
    for service in &announced.services {
        assert_eq!(seen.said_of(service).unwrap(), published.said_of(service).unwrap());
        assert_eq!(
            catalogue::source::files(&seen, &seen.service(service).unwrap()),
            catalogue::source::files(&published, &published.service(service).unwrap())
        );
    }
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_call_is_told_of_no_service() {
    let world = World::without_grants().await;
    let door = format!("http://{}", world.servers["portal"].clients[0]);
    let channel = tonic::transport::Endpoint::from_shared(door).unwrap().connect().await.unwrap();
    let refusal =
        |status: tonic::Status| status.metadata().get("causeway-refusal").unwrap().to_str().unwrap().to_owned();
    let token = ("causeway-token", TOKEN);
    assert_eq!(told_at(channel.clone(), &[token]).await.unwrap(), Vec::<String>::new());
    for (fields, code) in [
        (vec![], "CLIENT_UNKNOWN"),
        (vec![("causeway-token", "another")], "CLIENT_UNKNOWN"),
        (vec![token, ("origin", "https://example.org")], "BROWSER_REFUSED"),
        (vec![token, ("causeway-service", "nobody")], "IDENTIFIER_MALFORMED"),
    ] {
        let refused = told_at(channel.clone(), &fields).await.unwrap_err();
        assert_eq!(refusal(refused), code, "{fields:?}");
    }
}
