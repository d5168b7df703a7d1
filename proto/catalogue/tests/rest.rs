//! OpenAPI documents of REST services: what they say, what they break, and what hostile ones are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use catalogue::rest::breaking::breaks;
use catalogue::rest::{MAX_GIVEN_BYTES, MAX_MARKS, MAX_NAME_BYTES, MAX_VALUES, OpenApi, Undocumented, published};
use proptest::prelude::*;
use proto::catalogue::{MAX_DESCRIPTORS_BYTES, MAX_METHODS, Part};
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
    let values = refused(|d| d["much"] = vec![0; MAX_VALUES].into());
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

#[test]
fn long_names_and_many_marks_are_refused_before_they_are_copied() {
    let named = |length: usize| refused(|d| at(d, PET)["properties"]["a".repeat(length)] = json!({ "$ref": "x" }));
    assert!(named(MAX_NAME_BYTES).contains("\"x\": it refers"));
    let long = named(MAX_NAME_BYTES + 1);
    assert!(long.contains("is longer than 1024 bytes") && long.len() < 400, "{long}");
    let parameter = refused(|d| at(d, GET)["parameters"][0]["name"] = "a".repeat(MAX_NAME_BYTES + 1).into());
    assert!(parameter.contains("is longer than 1024 bytes"), "{parameter}");
    let marked = |count: usize| {
        let properties: serde_json::Map<String, Value> =
            (0..count).map(|n| (format!("p{n}"), json!({ "x-causeway-element": "a.b" }))).collect();
        changed(|d| {
            at(d, "/components/schemas/Person")["properties"] = json!({});
            d["components"]["schemas"]["Unused"] = json!({ "properties": properties });
        })
    };
    assert!(read(&marked(MAX_MARKS)).is_ok());
    let many = read(&marked(MAX_MARKS + 1)).unwrap_err().to_string();
    assert!(many.contains("2049 places with an element, at most 2048"), "{many}");
    let below = refused(|d| {
        let deep = json!({ "properties": { "b".repeat(300): { "x-causeway-element": "a.b" } } });
        at(d, PET)["properties"]["a".repeat(300)] = deep;
    });
    assert!(below.contains("is longer than 400 bytes"), "{below}");
}

#[test]
fn no_refusal_is_as_long_as_what_it_refuses() {
    let much = "x".repeat(100_000);
    for change in [
        &(|d: &mut Value| at(d, PET)["properties"]["owner"]["$ref"] = much.clone().into()) as &dyn Fn(&mut Value),
        &|d| at(d, PET)["properties"]["owner"]["$ref"] = format!("#/components/schemas/{much}").into(),
        &|d| at(d, PET)["x-causeway-element"] = much.clone().into(),
        &|d| at(d, GET)["parameters"][0] = json!({ "name": much, "in": much }),
        &|d| {
            let twice = json!({ "name": much, "in": "query" });
            at(d, GET)["parameters"] = json!([twice, twice]);
        },
        &|d| d["openapi"] = much.clone().into(),
        &|d| d["paths"]["/a"] = json!({ much.clone(): 1 }),
    ] {
        let told = refused(change);
        assert!(told.len() < 600, "{} bytes: {}", told.len(), &told[..200]);
    }
}

#[test]
fn what_holds_together_is_counted_whatever_it_is() {
    let all_of = |count: usize| changed(|d| at(d, PET)["properties"]["a"] = json!({ "allOf": vec![true; count] }));
    assert!(read(&all_of(255)).is_ok());
    let many = read(&all_of(256)).unwrap_err().to_string();
    assert!(many.contains("hold together of one value, at most 256"), "{many}");
}

#[test]
fn long_values_are_counted_as_long_as_they_are() {
    let with = |values: &Value| {
        let each: serde_json::Map<String, Value> =
            (0..150).map(|n| (format!("p{n}"), json!({ "allOf": [{ "$ref": "#/components/schemas/Big" }] }))).collect();
        read(&changed(|d| {
            d["components"]["schemas"]["Big"] = json!({ "enum": values });
            at(d, PET)["properties"]["many"] = json!({ "properties": each });
        }))
        .unwrap()
    };
    let few = with(&json!(["a"]));
    assert_eq!(breaks(&few, &few).unwrap(), Vec::<String>::new());
    let much = with(&json!(["a".repeat(500_000)]));
    let refused = breaks(&much, &much).unwrap_err().to_string();
    assert!(refused.contains("words of schemas to compare, at most"), "{refused}");
}

#[test]
fn a_mark_that_would_never_be_listed_is_refused() {
    let mark = || json!({ "x-causeway-element": "a.b" });
    let told = |change: &dyn Fn(&mut Value)| read(&changed(change)).map(|_| ()).unwrap_err().to_string();
    for change in [
        &(|d: &mut Value| at(d, PET)["not"] = mark()) as &dyn Fn(&mut Value),
        &|d| d["components"]["requestBodies"]["A"] = json!({ "content": { "a/b": { "schema": mark() } } }),
        &|d| d["components"]["responses"]["None"]["x-causeway-element"] = "a.b".into(),
        &|d| d["components"]["headers"]["A"] = mark(),
        &|d| {
            d["components"]["parameters"]["A"] =
                json!({ "$ref": "#/components/parameters/B", "x-causeway-element": "a.b" });
        },
    ] {
        let told = told(change);
        assert!(told.contains("says nothing here"), "{told}");
    }
    // What no operation reaches counts when one does; and what is read only is in no request.
    for change in [
        &(|d: &mut Value| d["components"]["schemas"]["A"] = json!({ "properties": { "a": mark() } }))
            as &dyn Fn(&mut Value),
        &|d| d["components"]["parameters"]["A"] = json!({ "name": "a", "in": "query", "x-causeway-element": "a.b" }),
        &|d| {
            let body = json!({ "properties": { "id": { "readOnly": true, "x-causeway-element": "a.b" } } });
            at(d, PUT)["requestBody"]["content"]["application/json"]["schema"] = body;
        },
    ] {
        assert!(read(&changed(change)).is_ok());
    }
    // Unless one that it reaches says by a discriminator that any other may stand there.
    let told = told(&|d| {
        d["components"]["schemas"]["A"] = json!({ "properties": { "a": mark() } });
        at(d, PET)["discriminator"] = json!({ "propertyName": "kind" });
    });
    assert!(told.contains("a discriminator may lead here"), "{told}");
}

#[test]
fn elements_are_found_in_headers_and_whatever_has_data() {
    let fields = |change: &dyn Fn(&mut Value)| -> Vec<String> {
        let openapi = read(&changed(change)).unwrap();
        openapi.said().elements.iter().map(|each| format!("{} {}", each.field, each.part.word())).collect()
    };
    let header = || json!({ "schema": { "x-causeway-element": "a.b" } });
    for (change, field) in [
        (
            &(|d: &mut Value| at(d, GET)["responses"]["200"]["headers"] = json!({ "X-Owner": header() }))
                as &dyn Fn(&mut Value),
            "getPet.response.X_Owner gives",
        ),
        (
            &|d| {
                d["components"]["headers"] = json!({ "A": { "x-causeway-element": "a.b" } });
                at(d, GET)["responses"]["200"]["headers"] = json!({ "a": { "$ref": "#/components/headers/A" } });
            },
            "getPet.response.a gives",
        ),
        (
            &|d| {
                let content = &mut at(d, PUT)["requestBody"]["content"];
                content["multipart/form-data"] = json!({ "encoding": { "file": { "headers": { "h": header() } } } });
            },
            "put_pets_petId.request.h takes",
        ),
        (&|d| at(d, PUT)["requestBody"]["content"]["x-form/json"] = header(), "put_pets_petId.request takes"),
        (
            &|d| at(d, PET)["properties"]["a"] = json!({ "contains": { "x-causeway-element": "a.b" } }),
            "getPet.response.a gives",
        ),
        (
            &|d| at(d, PET)["properties"]["a"] = json!({ "contentSchema": { "x-causeway-element": "a.b" } }),
            "getPet.response.a gives",
        ),
        (
            &|d| {
                let header = json!({ "name": "X-A", "in": "header", "x-causeway-element": "a.b" });
                at(d, GET)["parameters"].as_array_mut().unwrap().push(header);
            },
            "getPet.header.X_A takes",
        ),
    ] {
        let fields = fields(change);
        assert!(fields.iter().any(|each| each == field), "{fields:?}\nhas no: {field}");
    }
}

#[test]
fn words_of_vendors_are_left_out_and_names_are_not() {
    let address = "http://10.0.0.12";
    let document = changed(|d| {
        d["x-google-backend"] = json!({ "address": address });
        d["paths"]["x-kong-a"] = address.into();
        d["paths"]["/pets/{petId}"]["x-a"] = address.into();
        at(d, GET)["x-amazon-apigateway-integration"] = json!({ "uri": address });
        at(d, GET)["responses"]["x-a"] = address.into();
        at(d, PET)["x-a"] = address.into();
        at(d, PET)["properties"]["x-name"] = json!({ "type": "string", "x-a": address });
        at(d, PET)["example"] = json!({ "x-name": "Mi" });
        d["components"]["securitySchemes"] =
            json!({ "x-api-key": { "type": "apiKey", "name": "x-api-key", "in": "header", "x-a": address } });
        d["security"] = json!([{ "x-api-key": [] }]);
    });
    let bytes = published(document.to_string().as_bytes()).unwrap();
    assert!(!String::from_utf8(bytes.clone()).unwrap().contains("10.0.0."), "no address of the provider's network");
    let kept = OpenApi::read(&bytes).unwrap().served_at("");
    for (place, value) in [
        ("/components/schemas/Pet/properties/x-name", json!({ "type": "string" })),
        ("/components/schemas/Pet/example/x-name", json!("Mi")),
        ("/components/securitySchemes/x-api-key/name", json!("x-api-key")),
        ("/security/0/x-api-key", json!([])),
        ("/components/schemas/Person/properties/birthDate/x-causeway-element", json!("person.birth.date")),
    ] {
        assert_eq!(kept.pointer(place), Some(&value), "{place}");
    }
    let mut with_a_word = kept;
    with_a_word.as_object_mut().unwrap().remove("servers");
    with_a_word["info"]["x-logo"] = address.into();
    assert_eq!(OpenApi::read(with_a_word.to_string().as_bytes()).unwrap_err(), Undocumented::NotAsPublished);
}

#[test]
fn a_document_is_as_long_as_it_is_published() {
    let mut spaced = serde_json::to_vec_pretty(&pets()).unwrap();
    spaced.extend(vec![b' '; MAX_DESCRIPTORS_BYTES]);
    assert_eq!(published(&spaced).unwrap(), published(pets().to_string().as_bytes()).unwrap());
    let mut longest = pets().to_string().into_bytes();
    longest.resize(MAX_GIVEN_BYTES, b' ');
    assert!(published(&longest).is_ok());
    longest.push(b' ');
    assert!(matches!(published(&longest), Err(Undocumented::Limit { most: MAX_GIVEN_BYTES, .. })));
    let long = changed(|d| d["info"]["description"] = "x".repeat(MAX_DESCRIPTORS_BYTES).into());
    let refused = published(long.to_string().as_bytes()).unwrap_err();
    assert!(matches!(refused, Undocumented::Limit { most: MAX_DESCRIPTORS_BYTES, .. }), "{refused}");
}

/// What one version breaks of the one before.
fn broken(old: impl FnOnce(&mut Value), new: impl FnOnce(&mut Value)) -> Vec<String> {
    breaks(&read(&changed(old)).unwrap(), &read(&changed(new)).unwrap()).unwrap()
}

#[track_caller]
fn assert_broken(found: &[String], words: &str) {
    assert!(found.iter().any(|each| each.contains(words)), "{found:?}\nhas no: {words}");
}

fn asked(document: &mut Value, schema: Value) {
    at(document, PUT)["requestBody"]["content"]["application/json"]["schema"] = schema;
}

#[test]
fn a_parameter_is_told_from_another_of_its_name() {
    let query = json!({ "name": "petId", "in": "query", "required": true });
    let found = broken(|_| {}, |d| at(d, GET)["parameters"].as_array_mut().unwrap().push(query));
    assert_broken(&found, "parameter getPet.query.petId is new, and required");
    let header = |name: &str| json!([{ "name": name, "in": "header" }]);
    let found = broken(|d| at(d, GET)["parameters"] = header("X-Id"), |d| at(d, GET)["parameters"] = header("x-ID"));
    assert_eq!(found, Vec::<String>::new());
    let twice = refused(|d| {
        at(d, GET)["parameters"] = json!([{ "name": "X-Id", "in": "header" }, { "name": "x-id", "in": "header" }]);
    });
    assert!(twice.contains("stands twice"), "{twice}");
}

#[test]
fn what_is_not_taken_any_more_is_found() {
    let object = |further: Value| json!({ "type": "object", "additionalProperties": further });
    let closed = "put_pets_petId.request takes no further properties any more";
    for before in [json!({ "type": "object" }), object(true.into()), object(json!({ "type": "string" }))] {
        let found = broken(|d| asked(d, before.clone()), |d| asked(d, object(false.into())));
        assert_broken(&found, closed);
        let opened = broken(|d| asked(d, object(false.into())), |d| asked(d, before));
        assert_eq!(opened, Vec::<String>::new());
    }
    let list = |items: Value| json!({ "type": "array", "items": items });
    let found = broken(|d| asked(d, list(json!({}))), |d| asked(d, list(false.into())));
    assert_broken(&found, "put_pets_petId.request takes no items any more");
    let narrowed = broken(|d| asked(d, json!({ "type": "array" })), |d| asked(d, list(json!({ "type": "string" }))));
    assert_broken(&narrowed, "put_pets_petId.request was anything, and is string");
    let with = |property: Value| json!({ "properties": { "a": property } });
    let found = broken(|d| asked(d, with(json!({}))), |d| asked(d, with(false.into())));
    assert_broken(&found, "put_pets_petId.request.a is gone");
    let found = broken(|d| asked(d, with(json!({}))), |d| asked(d, with(json!({ "allOf": [false] }))));
    assert_broken(&found, "put_pets_petId.request.a cannot be there any more");
    let lists = |a: bool, b: bool| json!({ "oneOf": [{ "items": { "oneOf": [a] } }, { "items": { "oneOf": [b] } }] });
    let found = broken(|d| asked(d, lists(true, true)), |d| asked(d, lists(true, false)));
    assert_broken(&found, "put_pets_petId.request cannot be there any more");
    let closed_answer = broken(
        |_| {},
        |d| {
            at(d, GET)["responses"]["200"]["content"]["application/json"]["schema"] =
                json!({ "$ref": "#/components/schemas/Pet", "additionalProperties": false });
        },
    );
    assert_eq!(closed_answer, Vec::<String>::new());
}

#[test]
fn what_may_be_null_now_is_found() {
    let owner = || json!({ "$ref": "#/components/schemas/Person" });
    let person = "getPet.response.owner may be null now";
    for word in ["allOf", "oneOf"] {
        let with = |d: &mut Value, is_nullable: bool| {
            at(d, "/components/schemas/Person")["type"] = "object".into();
            at(d, PET)["properties"]["owner"] = json!({ "nullable": is_nullable, word: [owner()] });
        };
        assert_broken(&broken(|d| with(d, false), |d| with(d, true)), person);
        let asked = broken(|d| with(d, true), |d| with(d, false));
        assert_broken(&asked, "put_pets_petId.request.owner may not be null any more");
        assert_eq!(broken(|d| with(d, true), |d| with(d, true)), Vec::<String>::new());
    }
}

#[test]
fn alternatives_are_known_by_what_they_say_and_by_what_they_are_called() {
    let (cat, dog, fish) = (json!({ "type": "string" }), json!({ "type": "integer" }), json!({ "type": "boolean" }));
    let compare = |old: Value, new: Value| broken(|d| asked(d, old), |d| asked(d, new));
    let none = Vec::<String>::new();
    assert_eq!(compare(json!({ "oneOf": [cat, dog] }), json!({ "oneOf": [dog, cat] })), none);
    let titled = json!({ "type": "string", "title": "Cat", "description": "A cat." });
    assert_eq!(compare(json!({ "oneOf": [cat, dog] }), json!({ "oneOf": [dog, titled] })), none);
    assert_eq!(compare(json!({ "oneOf": [cat, dog] }), json!({ "oneOf": [fish, cat, dog] })), none);
    let both = |any_of: &Value| json!({ "oneOf": [cat], "anyOf": [any_of] });
    assert_broken(&compare(both(&dog), both(&fish)), "was integer, and is boolean");
    let same =
        |second: &str| json!({ "oneOf": [{ "title": "A", "type": "string" }, { "title": "A", "type": second }, dog] });
    assert_broken(&compare(same("number"), same("boolean")), "was number, and is boolean");
    assert_broken(&compare(json!({ "oneOf": [cat, dog] }), json!({ "oneOf": [dog] })), "the alternative 1 is gone");
}

#[test]
fn what_takes_the_place_of_a_default_answer_is_compared_with_it() {
    let answer = |kind: &str| json!({ "content": { "application/json": { "schema": { "type": kind } } } });
    let answers = |status: &str, kind: &str| {
        let responses = json!({ status: answer(kind) });
        move |d: &mut Value| at(d, GET)["responses"] = responses
    };
    let same = broken(answers("default", "string"), answers("200", "string"));
    assert_eq!(same, Vec::<String>::new());
    let other = broken(answers("default", "string"), answers("200", "integer"));
    assert_broken(&other, "getPet.response was string, and is integer");
    let none = broken(answers("default", "string"), answers("404", "string"));
    assert_broken(&none, "getPet: status default is gone");
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
