//! OpenAPI documents of REST services: what they say, what they break, and what hostile ones are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use catalogue::rest::breaking::breaks;
use catalogue::rest::{MAX_VALUES, OpenApi, Undocumented, published};
use proptest::prelude::*;
use proto::catalogue::{MAX_METHODS, Part};
use serde_json::{Value, json};

fn pets() -> Value {
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Sổ thú nuôi", "version": "7", "description": "Pets and their owners." },
        "servers": [{ "url": "http://10.0.0.7:8080/internal" }],
        "paths": {
            "/pets/{petId}": {
                "servers": [{ "url": "http://10.0.0.8" }],
                "parameters": [{ "name": "petId", "in": "path", "required": true, "schema": { "type": "integer" } }],
                "get": {
                    "operationId": "getPet",
                    "summary": "One pet.",
                    "description": "By its chip.",
                    "servers": [{ "url": "http://10.0.0.9" }],
                    "callbacks": { "changed": { "http://10.0.0.10": {} } },
                    "parameters": [{ "name": "fields", "in": "query", "schema": { "type": "string" } }],
                    "responses": {
                        "200": {
                            "description": "It.",
                            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Pet" } } },
                            "links": { "owner": { "operationId": "getPet", "server": { "url": "http://10.0.0.11" } } },
                        },
                        "404": { "$ref": "#/components/responses/None" },
                    },
                },
                "put": {
                    "requestBody": {
                        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Pet" } } },
                    },
                    "responses": { "204": { "description": "Kept." } },
                },
            },
        },
        "components": {
            "responses": { "None": { "description": "There is none." } },
            "schemas": {
                "Pet": {
                    "type": "object",
                    "required": ["name", "owner"],
                    "properties": {
                        "name": { "type": "string" },
                        "kind": { "type": "string", "enum": ["cat", "dog"] },
                        "owner": { "$ref": "#/components/schemas/Person" },
                        "mother": { "$ref": "#/components/schemas/Pet" },
                    },
                },
                "Person": {
                    "type": "object",
                    "properties": {
                        "birthDate": { "type": "string", "format": "date", "x-causeway-element": "person.birth.date" },
                    },
                },
            },
        },
    })
}

fn read(document: &Value) -> Result<OpenApi, Undocumented> {
    OpenApi::read(&published(document.to_string().as_bytes())?)
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = pets();
    change(&mut document);
    document
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    read(&changed(change)).unwrap_err().to_string()
}

const GET: &str = "/paths/~1pets~1{petId}/get";
const PUT: &str = "/paths/~1pets~1{petId}/put";
const PET: &str = "/components/schemas/Pet";

fn at<'v>(document: &'v mut Value, pointer: &str) -> &'v mut Value {
    document.pointer_mut(pointer).unwrap()
}

#[test]
fn a_document_says_its_operations_and_where_its_provider_is_is_left_out() {
    let bytes = published(pets().to_string().as_bytes()).unwrap();
    assert!(!String::from_utf8(bytes.clone()).unwrap().contains("10.0.0."), "no address of the provider's network");
    assert_eq!(published(&bytes).unwrap(), bytes, "it has one form");
    let openapi = OpenApi::read(&bytes).unwrap();
    assert_eq!(openapi.title(), "Sổ thú nuôi");
    let said = openapi.said();
    assert_eq!(said.description, "Pets and their owners.");
    let methods: Vec<_> =
        said.methods.iter().map(|method| (method.name.as_str(), method.place.as_ref().unwrap().to_string())).collect();
    let place = |verb: &str| format!("{verb} /pets/{{petId}}");
    assert_eq!(methods, [("getPet", place("GET")), ("put_pets_petId", place("PUT"))]);
    assert_eq!(said.methods[0].description, "One pet.\nBy its chip.");
    let elements: Vec<_> = said.elements.iter().map(|each| (each.field.as_str(), each.part)).collect();
    assert_eq!(
        elements,
        [("getPet.response.owner.birthDate", Part::Gives), ("put_pets_petId.request.owner.birthDate", Part::Takes)]
    );
    let served = openapi.served_at("http://localhost:7001/r1/VN/GOV/moj/pets/pets.v1");
    assert_eq!(served["servers"][0]["url"], "http://localhost:7001/r1/VN/GOV/moj/pets/pets.v1");
}

#[test]
fn only_the_published_form_is_read() {
    let bytes = published(pets().to_string().as_bytes()).unwrap();
    let mut spaced = bytes.clone();
    spaced.insert(1, b' ');
    assert_eq!(OpenApi::read(&spaced).unwrap_err(), Undocumented::NotAsPublished);
    let mut served = OpenApi::read(&bytes).unwrap().served_at("http://10.0.0.7");
    assert_eq!(OpenApi::read(served.to_string().as_bytes()).unwrap_err(), Undocumented::NotAsPublished);
    served.as_object_mut().unwrap().remove("servers");
    assert!(OpenApi::read(served.to_string().as_bytes()).is_ok());
    let twice =
        String::from_utf8(bytes).unwrap().replacen("{\"components\"", "{\"openapi\":\"3.0.0\",\"components\"", 1);
    assert!(OpenApi::read(twice.as_bytes()).unwrap_err().to_string().contains("\"openapi\" stands twice"));
}

#[test]
fn a_hostile_document_is_refused_by_name() {
    let no_json = published(b"openapi: 3.0.0").unwrap_err().to_string();
    assert!(no_json.contains("this is no OpenAPI document"), "{no_json}");
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(matches!(published(deep.as_bytes()), Err(Undocumented::Unreadable(_))));
    for (change, word) in [
        (&(|d: &mut Value| d["openapi"] = "2.0".into()) as &dyn Fn(&mut Value), "3.0 and 3.1 are read"),
        (&|d| _ = d.as_object_mut().unwrap().remove("openapi"), "which version of OpenAPI"),
        (&|d| d["paths"] = json!({}), "has 0 operations"),
        (&|d| d["paths"] = json!([]), "paths: it is no object"),
        (&|d| d["paths"]["/a"] = json!({ "$ref": "http://evil/x.json" }), "evil"),
        (&|d| d["paths"]["/a"] = json!({ "$ref": "#/components/pathItems/A" }), "/a: a path that refers"),
        (&|d| d["paths"]["/a"] = json!({ "trace": {} }), "/a: \"trace\": it is no operation"),
        (&|d| d["paths"]["/a/../b"] = json!({ "get": {} }), "GET /a/../b cannot be published"),
        (&|d| d["paths"]["/pets/{other}"] = json!({ "get": {} }), "have paths in common"),
        (&|d| at(d, PUT)["operationId"] = "getPet".into(), "PUT /pets/{petId} are both called getPet"),
        (&|d| at(d, PUT)["operationId"] = "x".repeat(300).into(), "its name is longer"),
        (&|d| at(d, PET)["properties"]["owner"]["$ref"] = "other.json#/A".into(), "\"other.json#/A\": it refers"),
        (&|d| at(d, PET)["properties"]["owner"]["$ref"] = "#/components/schemas/No".into(), "is not there"),
        (&|d| at(d, PET)["properties"]["owner"]["$ref"] = "#/components/responses/None".into(), "components' schemas"),
        (&|d| at(d, PET)["$id"] = "http://evil".into(), "$id is not read"),
        (&|d| at(d, PET)["properties"] = json!([]), "properties: it is no object"),
        (&|d| at(d, PET)["allOf"] = json!({}), "allOf is no list"),
        (&|d| at(d, GET)["parameters"][0]["in"] = "body".into(), "a parameter has a name, and is in a path"),
        (&|d| d["components"]["responses"]["None"] = json!({ "$ref": "#/components/responses/None" }), "lead from one"),
        (&|d| at(d, PET)["x-causeway-subject"] = true.into(), "are not found by the person"),
        (&|d| at(d, PET)["x-causeway-elemnt"] = "a.b".into(), "x-causeway-elemnt: there is no such word"),
        (&|d| at(d, PET)["x-causeway-element"] = "Name".into(), "x-causeway-element: "),
        (&|d| at(d, PET)["x-causeway-collected"] = "yes".into(), "it is true or false"),
        (&|d| at(d, PET)["x-causeway-authoritative"] = true.into(), "authoritative for nothing"),
        (&|d| d["info"]["x-causeway-element"] = "a.b".into(), "says nothing here"),
    ] {
        let told = refused(change);
        assert!(told.contains(word), "{told}\nhas no: {word}");
    }
    let many = refused(|d| (0..=MAX_METHODS).for_each(|n| d["paths"][format!("/a{n}")] = json!({ "get": {} })));
    assert!(many.contains("257 operations, at most 256"), "{many}");
    let values = refused(|d| d["x-much"] = vec![0; MAX_VALUES].into());
    assert!(values.contains("values, at most"), "{values}");
}

#[test]
fn schemas_that_hold_one_another_end() {
    // Each holds the next twice: as many ways lead down as there are leaves of a tree of 60 levels.
    let schemas: serde_json::Map<String, Value> = (0..60)
        .map(|n| {
            let next = json!({ "$ref": format!("#/components/schemas/S{}", (n + 1) % 60) });
            (format!("S{n}"), json!({ "allOf": [next], "properties": { "a": next, "b": next } }))
        })
        .collect();
    let mut document = pets();
    document["components"]["schemas"]["S"] = json!({});
    document["components"]["schemas"].as_object_mut().unwrap().extend(schemas);
    at(&mut document, PET)["properties"]["deep"] = json!({ "$ref": "#/components/schemas/S0" });
    let one = read(&document).unwrap();
    assert_eq!(breaks(&one, &one).unwrap(), Vec::<String>::new());
}

#[test]
fn no_combination_of_schemas_is_compared_for_long() {
    let big: serde_json::Map<String, Value> = (0..1_000).map(|n| (format!("p{n}"), json!(true))).collect();
    let with_big = json!({ "allOf": [{ "$ref": "#/components/schemas/Big" }, {}] });
    let many: serde_json::Map<String, Value> = (0..1_500).map(|n| (format!("q{n}"), with_big.clone())).collect();
    let one = read(&changed(|d| {
        d["components"]["schemas"]["Big"] = json!({ "properties": big });
        at(d, PET)["properties"]["many"] = json!({ "properties": many });
    }));
    let one = one.unwrap();
    let refused = breaks(&one, &one).unwrap_err().to_string();
    assert!(refused.contains("words of schemas to compare, at most"), "{refused}");
}

#[test]
fn what_is_called_like_a_word_of_openapi_is_read_all_the_same() {
    let marked = json!({ "type": "string", "x-causeway-element": "pet.name" });
    let document = changed(|d| {
        let named = json!({ "properties": { "properties": marked, "default": marked, "x-name": marked } });
        at(d, GET)["responses"]["default"] = json!({ "content": { "example": { "schema": named } } });
    });
    let openapi = read(&document).unwrap();
    let found: Vec<_> = openapi.said().elements.iter().map(|each| each.field.as_str()).collect();
    for name in ["default", "properties", "x_name"] {
        assert!(found.contains(&format!("getPet.response.{name}").as_str()), "{name}: {found:?}");
    }
    let refused = refused(|d| at(d, PET)["properties"]["properties"] = json!({ "x-causeway-subject": true }));
    assert!(refused.contains("are not found by the person"), "{refused}");
}

#[test]
fn elements_are_found_in_parameters_requests_and_responses() {
    let elements = |document: &Value| {
        let row =
            |each: &proto::catalogue::ElementField| format!("{} {} {}", each.element, each.field, each.part.word());
        read(document).unwrap().said().elements.iter().map(row).collect::<Vec<_>>()
    };
    let document = changed(|d| {
        at(d, GET)["parameters"][0]["x-causeway-element"] = "pet.search".into();
        at(d, PUT)["requestBody"]["content"]["application/json"]["schema"] = json!({ "properties": {
            "born": {
                "type": "string", "x-causeway-element": "person.birth.date", "x-causeway-collected": true,
                "x-causeway-reason-to-collect": "Nobody else knows.",
            },
        } });
        at(d, "/components/schemas/Person/properties/birthDate")["x-causeway-authoritative"] = true.into();
    });
    assert_eq!(
        elements(&document),
        [
            "person.birth.date getPet.response.owner.birthDate authoritative",
            "person.birth.date put_pets_petId.request.born collects",
            "pet.search getPet.query.fields takes",
        ]
    );
    let in_requests_only = refused(|d| {
        at(d, PUT)["requestBody"]["content"]["application/json"]["schema"] =
            json!({ "properties": { "a": { "x-causeway-element": "a.b", "x-causeway-authoritative": true } } });
    });
    assert!(in_requests_only.contains("it is in requests only"), "{in_requests_only}");
}

#[test]
fn what_consumers_rely_on_is_found_and_what_is_added_is_not() {
    let found =
        |change: &dyn Fn(&mut Value)| breaks(&read(&pets()).unwrap(), &read(&changed(change)).unwrap()).unwrap();
    let added: &[&dyn Fn(&mut Value)] = &[
        &|_| {},
        &|d| d["paths"]["/dogs"] = json!({ "get": {} }),
        &|d| at(d, GET)["parameters"][0]["description"] = "Which.".into(),
        &|d| at(d, GET)["parameters"].as_array_mut().unwrap().push(json!({ "name": "a", "in": "query" })),
        &|d| at(d, PET)["properties"]["age"] = json!({ "type": "integer" }),
        &|d| at(d, GET)["responses"]["202"] = json!({}),
    ];
    for change in added {
        assert_eq!(found(*change), Vec::<String>::new());
    }
    for (change, words) in [
        (
            &(|d: &mut Value| _ = d["paths"]["/pets/{petId}"].as_object_mut().unwrap().remove("put"))
                as &dyn Fn(&mut Value),
            "operation put_pets_petId (PUT /pets/{petId}) is gone",
        ),
        (
            &|d| {
                let item = d["paths"].as_object_mut().unwrap().remove("/pets/{petId}").unwrap();
                d["paths"]["/animals/{petId}"] = item;
                d["paths"]["/animals/{petId}"]["put"]["operationId"] = "put_pets_petId".into();
            },
            "operation getPet was GET /pets/{petId}, and is GET /animals/{petId}",
        ),
        (&|d| at(d, GET)["parameters"][0]["required"] = true.into(), "parameter getPet.query.fields is required now"),
        (&|d| at(d, GET)["parameters"] = json!([]), "parameter getPet.query.fields is gone"),
        (&|d| at(d, GET)["parameters"][0]["in"] = "header".into(), "was in the query, and is in the header"),
        (&|d| at(d, GET)["parameters"][0]["style"] = "pipeDelimited".into(), "is written in another way now"),
        (
            &|d| at(d, GET)["parameters"][0]["schema"]["type"] = "integer".into(),
            "getPet.query.fields was string, and is integer",
        ),
        (
            &|d| {
                let new = json!({ "name": "a", "in": "query", "required": true });
                at(d, GET)["parameters"].as_array_mut().unwrap().push(new);
            },
            "parameter getPet.query.a is new, and required",
        ),
        (&|d| at(d, PUT)["requestBody"]["required"] = true.into(), "put_pets_petId.request is required now"),
        (
            &|d| at(d, GET)["requestBody"] = json!({ "required": true, "content": {} }),
            "getPet.request is new, and required",
        ),
        (&|d| at(d, PET)["required"] = json!(["kind", "name", "owner"]), "put_pets_petId.request.kind is required now"),
        (&|d| at(d, PET)["required"] = json!(["owner"]), "getPet.response.name is not always there any more"),
        (&|d| _ = at(d, PET)["properties"].as_object_mut().unwrap().remove("kind"), "getPet.response.kind is gone"),
        (
            &|d| at(d, "/components/schemas/Person/properties/birthDate")["format"] = "date-time".into(),
            "getPet.response.owner.birthDate was string (date), and is string (date-time)",
        ),
        (
            &|d| at(d, PET)["properties"]["kind"]["enum"] = json!(["cat", "dog", "fish"]),
            "getPet.response.kind: the value \"fish\" is new",
        ),
        (
            &|d| at(d, PET)["properties"]["kind"]["enum"] = json!(["cat"]),
            "put_pets_petId.request.kind: the value \"dog\" is gone",
        ),
        (
            &|d| {
                let responses = at(d, GET)["responses"].as_object_mut().unwrap();
                responses.remove("200");
                responses.insert("203".into(), json!({}));
            },
            "getPet: status 200 is gone",
        ),
        (
            &|d| at(d, GET)["responses"]["200"]["content"] = json!({ "text/xml": {} }),
            "getPet.response: application/json is gone",
        ),
        (
            &|d| {
                at(d, PET)["properties"]["name"] = json!({ "oneOf": [{ "type": "string" }, { "type": "null" }] });
            },
            "getPet.response.name was string, and is anything",
        ),
    ] {
        let found = found(change);
        assert!(found.iter().any(|each| each.contains(words)), "{found:?}\nhas no: {words}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = published(&bytes);
        let _ = OpenApi::read(&bytes);
    }

    #[test]
    fn no_change_of_a_document_makes_it_panic(place in 0usize..4000, with in "[\\]\\[{}\",:a0/#~]{0,3}", cut in 0usize..4) {
        let text = pets().to_string();
        let begin = (0..=place.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let end = (0..=(begin + cut).min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap().max(begin);
        let text = format!("{}{with}{}", &text[..begin], &text[end..]);
        if let Ok(bytes) = published(text.as_bytes())
            && let Ok(one) = OpenApi::read(&bytes)
        {
            prop_assert_eq!(breaks(&one, &one).unwrap(), Vec::<String>::new());
        }
    }
}
