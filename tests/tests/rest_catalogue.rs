//! REST services in the catalogue: published from an OpenAPI document, found, shown, and held to the rules that gRPC services are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::catalogue::{Entry, ServiceForm};
use proto::digest::Digest;
use proto::identifier::SubsystemId;
use proto::wire::registry::PublishRequest;
use registry_client::CatalogueClient;
use security_server::announce;
use security_server::audit::Actor;
use security_server::listings::{self, Announcement, Published, Unlisted};
use serde_json::{Value, json};
use tests::processes::{Member, PURPOSE};
use tests::realm::{Realm, server_id};
use tests::{operator, soon};
use tonic::Code;

fn pets() -> Value {
    let person = json!({ "type": "object", "properties": { "birthDate": {
        "type": "string", "format": "date",
        "x-causeway-element": "person.birth.date", "x-causeway-authoritative": true,
    } } });
    let owner = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Person" } } });
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Sổ thú nuôi", "version": "7", "description": "Thú nuôi: pets and their owners." },
        "servers": [{ "url": "http://10.0.0.7:8080" }],
        "paths": {
            "/pets/{petId}": { "get": {
                "operationId": "getPet", "summary": "One pet.",
                "responses": { "200": { "description": "It.", "content": owner } },
            } },
            "/pets": { "post": { "operationId": "addPet", "responses": { "201": { "description": "Kept." } } } },
        },
        "components": { "schemas": { "Person": person } },
    })
}

const SERVICE: &str = "pets.v1";

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

    fn announcement(&self, member: &Member, document: &Value) -> Announcement {
        Announcement {
            subsystem: member.subsystem.parse().unwrap(),
            form: ServiceForm::Rest,
            descriptors: STANDARD.encode(document.to_string()),
            services: vec![SERVICE.parse().unwrap()],
            version: None,
            title: None,
            contact: "pets@moj.example".parse().unwrap(),
            open_to: Default::default(),
            deprecated: None,
        }
    }

    async fn publish(&self, member: &Member, announcement: Announcement) -> Result<Published, Unlisted> {
        let actor = Actor { token: "admin".into(), from: "127.0.0.1:1".into(), calls_itself: None };
        let published = listings::publish(&self.realm.servers[member.name].server, announcement, actor).await?;
        self.realm.in_force(published.configuration_version).await;
        Ok(published)
    }

    async fn refused(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut document = pets();
        change(&mut document);
        self.publish(&self.moj, self.announcement(&self.moj, &document)).await.unwrap_err().to_string()
    }
}

/// The services whose descriptors reflection gives at this door.
async fn described(door: SocketAddr) -> Vec<String> {
    announce::reflected(&door.to_string().parse().unwrap(), &[]).await.unwrap().services
}

#[test]
fn a_document_in_yaml_is_published_as_the_same_json_and_one_that_grows_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("openapi.yaml");
    let documented = |text: &str| {
        std::fs::write(&path, text).unwrap();
        announce::documented(&path).map_err(|error| error.to_string())
    };
    let yaml = "openapi: 3.0.3\ninfo: {title: Pets, version: 1.0}\npaths:\n  /pets:\n    get:\n      summary: no\n      responses:\n        \
                200: &given {description: Them.}\n        '404': *given\n";
    let json = r#"{"openapi":"3.0.3","info":{"title":"Pets","version":1.0},"paths":{"/pets":{"get":{"summary":"no",
        "responses":{"200":{"description":"Them."},"404":{"description":"Them."}}}}}}"#;
    assert_eq!(documented(yaml).unwrap(), documented(json).unwrap());
    let mut grows = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let before = vec![format!("*a{}", level - 1); 10].join(",");
        grows += &format!("a{level}: &a{level} [{before}]\n");
    }
    for (hostile, why) in [
        (grows.as_str(), "budget"),
        ("a: 1\na: 2\n", "duplicate mapping key"),
        ("a: 1\n---\nb: 2\n", "multiple YAML documents"),
        ("\t- [", "neither JSON nor YAML"),
        ("openapi: 3.0.3\npaths: {}\n", "has 0 operations"),
    ] {
        let refused = documented(hostile).unwrap_err();
        assert!(refused.contains(why) && !refused.contains('\n'), "{why}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_service_is_published_from_its_openapi_document_and_found_by_every_member() {
    let country = Country::new().await;
    let (moj, portal) = (&country.realm.servers["moj"].server, &country.realm.servers["portal"].server);
    let foreseen = listings::foresee(moj, country.announcement(&country.moj, &pets())).await.unwrap();
    assert_eq!(foreseen, ["list pets.v1 1.0 of VN/GOV/moj/civil-registry, 2 operations, open to every member"]);
    country.publish(&country.moj, country.announcement(&country.moj, &pets())).await.unwrap();

    let found = listings::search(portal, "thu nuoi").await.unwrap().services;
    assert_eq!(found[0].service.as_str(), SERVICE);
    let entry = listings::entry(portal, SERVICE, None).await.unwrap();
    let shown = listings::shown(&entry);
    assert_eq!(shown.line.title.as_deref(), Some("Sổ thú nuôi"));
    let text = security_server::shown::service(&shown, command_line::Paint::none());
    for line in ["addPet  POST /pets", "getPet  GET /pets/{petId}", "One pet.", "getPet.response.birthDate"] {
        assert!(text.contains(line), "{line}\n{text}");
    }

    // The document is the one that was published, called at the consumer's own door, and says nothing of the provider's network.
    let written = listings::openapi(portal, &entry, Some("http://localhost:7001".to_owned())).await.unwrap();
    let document: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(document["servers"][0]["url"], "http://localhost:7001/r1/VN/GOV/moj/civil-registry/pets.v1");
    assert!(!String::from_utf8(written).unwrap().contains("10.0.0.7"));
    let none = listings::source(portal, &entry).await.unwrap_err().to_string();
    assert!(none.contains("pets.v1 is a REST service") && none.contains("services openapi pets.v1"), "{none}");

    // At the clients' door it is no gRPC service, and its document is there.
    let door = country.portal.clients;
    let at_the_door = async |request: http::request::Builder| {
        let request = request.header("host", "localhost");
        let request = request.header("causeway-service", &country.moj.subsystem).header("causeway-purpose", PURPOSE);
        soon(operator::ask(door, request, "{}".to_owned())).await
    };
    let (status, refused) = at_the_door(http::Request::post("/pets.v1/getPet")).await;
    assert!(status == 404 && refused.contains("below /r1/VN/GOV/moj/civil-registry/pets.v1"), "{status} {refused}");
    let (status, document) = at_the_door(http::Request::get("/openapi/pets.v1")).await;
    assert!(status == 200 && document.contains("http://localhost/r1/VN/GOV/moj/civil-registry/pets.v1"), "{document}");
    assert_eq!(described(door).await, Vec::<String>::new(), "reflection has no descriptors of it, and ends well");

    // Its operations are granted like methods, and whole.
    let token = std::fs::read_to_string(country.realm.directory.path().join("moj/operators.token")).unwrap();
    let grant = async |fields: Value| {
        let request = http::Request::post("/v1/grants").header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", token.trim()));
        let asked = json!({
            "consumer": country.portal.subsystem, "provider": country.moj.subsystem, "purposes": [PURPOSE], "valid_days": 30,
            "methods": ["/pets.v1/getPet"], "fields": fields,
        });
        soon(operator::ask(country.realm.servers["moj"].operators, request, asked.to_string())).await
    };
    let (status, refused) = grant(json!({ "/pets.v1/getPet": ["birthDate"] })).await;
    assert!(status == 422 && refused.contains("no fields are taken out"), "{status} {refused}");
    assert_eq!(grant(json!({})).await.0, 201);

    // The provider's own server knows its operations.
    let provider: SubsystemId = country.moj.subsystem.parse().unwrap();
    let known = moj.subjects.operations(&moj.store.current().load(), &provider, SERVICE).unwrap().unwrap();
    assert_eq!(known.asked("GET", "/pets/7").unwrap().as_str(), "/pets.v1/getPet");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_service_keeps_to_the_rules_of_the_catalogue() {
    let country = Country::new().await;
    country.publish(&country.moj, country.announcement(&country.moj, &pets())).await.unwrap();
    let again = country.refused(|_| ()).await;
    assert!(again.contains("listed so already"), "{again}");
    let broken = country.refused(|document| _ = document["paths"].as_object_mut().unwrap().remove("/pets")).await;
    assert!(broken.contains("operation addPet (POST /pets) is gone") && broken.contains("--version 2.0"), "{broken}");
    let unclear = country.refused(|document| document["paths"]["/pets/{x}"] = json!({ "get": {} })).await;
    assert!(unclear.contains("have paths in common"), "{unclear}");
    let second = country.publish(&country.portal, country.announcement(&country.portal, &pets())).await;
    let second = second.unwrap_err().to_string();
    assert!(second.contains("ONCE002") && second.contains("leave x-causeway-authoritative out"), "{second}");

    // A gRPC service of the same name.
    let file = country.realm.path("pets.proto");
    let text = "syntax = \"proto3\"; package pets; service v1 { rpc getPet(A) returns (A); } message A {}";
    std::fs::write(&file, text).unwrap();
    let compiled = announce::compiled(std::slice::from_ref(&file), &[]).unwrap();
    let grpc = Announcement {
        form: ServiceForm::Grpc,
        descriptors: STANDARD.encode(compiled.descriptors),
        ..country.announcement(&country.moj, &pets())
    };
    let other = country.publish(&country.moj, grpc).await.unwrap_err().to_string();
    assert!(other.contains("pets.v1 was a REST service, and is a gRPC service") && other.contains("2.0"), "{other}");

    // An entry that hides an operation, one of another form, and a document that says where the provider's machines are.
    let directory = country.realm.path(country.moj.name).join("keys");
    let mut held = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let signing = held.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("signing")).unwrap();
    let key = keystore::open(&signing, &country.realm.passphrase).unwrap();
    let document = catalogue::rest::published(pets().to_string().as_bytes()).unwrap();
    let said = catalogue::OpenApi::read(&document).unwrap().said().clone();
    let entry = Entry {
        subsystem: country.moj.subsystem.parse().unwrap(),
        service: SERVICE.parse().unwrap(),
        version: "1.7".parse().unwrap(),
        server: server_id(&country.moj),
        time: country.realm.now(),
        form: ServiceForm::Rest,
        descriptors: Digest::of(&[&document]),
        title: "Pets".parse().unwrap(),
        description: said.description,
        contact: "pets@moj.example".parse().unwrap(),
        open_to: Default::default(),
        deprecated: None,
        methods: said.methods,
        elements: said.elements,
        dry_run: false,
    };
    let hiding = Entry { methods: entry.methods[..1].to_vec(), ..entry.clone() };
    let open = pets().to_string().into_bytes();
    let addressed = Entry { descriptors: Digest::of(&[&open]), ..entry.clone() };
    let (address, admin) = (&country.realm.admin.registry, country.realm.admin.fingerprint);
    let mut registry = CatalogueClient::new(registry_client::connect(address, admin).await.unwrap());
    for (entry, descriptors, why) in [
        (&hiding, &document, "says otherwise than its descriptors or OpenAPI document"),
        (&addressed, &open, "not as it is published"),
    ] {
        let request = PublishRequest { entries: vec![entry.sign(&key)], descriptors: descriptors.clone().into() };
        let refused = registry.publish(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
    let taken = PublishRequest { entries: vec![entry.sign(&key)], descriptors: document.into() };
    assert!(registry.publish(taken).await.is_ok());
    country.realm.stops().await;
}
