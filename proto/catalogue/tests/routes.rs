//! Routes that services declare: which paths are theirs, what is refused at publishing, and what a path and a query say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use catalogue::routes::{
    Body, InPath, MAX_NAME_DEPTH, MAX_ROUTES, MAX_SEGMENTS, MAX_TEMPLATE_BYTES, Misrouted, Route, request, routes_of,
};
use catalogue::{Described, reduced};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const ANNOTATIONS: &str = r#"
syntax = "proto3";
package google.api;
import "google/api/http.proto";
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { HttpRule http = 72295728; }
"#;
const HTTP: &str = r#"
syntax = "proto3";
package google.api;
message HttpRule {
  string selector = 1;
  oneof pattern {
    string get = 2; string put = 3; string post = 4; string delete = 5; string patch = 6; CustomHttpPattern custom = 8;
  }
  string body = 7;
  string response_body = 12;
  repeated HttpRule additional_bindings = 11;
}
message CustomHttpPattern { string kind = 1; string path = 2; }
"#;
const MESSAGES: &str = r#"
message Asked {
  string name = 1;
  int64 number = 2;
  Book book = 3;
  repeated string tags = 4;
  bool full_text = 5;
  map<string, string> notes = 6;
  google.protobuf.Timestamp since = 7;
  Kind kind = 8;
  google.protobuf.BoolValue sure = 9;
  repeated Book books = 10;
}
message Book { string title = 1; Book next = 2; }
enum Kind { ANY = 0; PAPER = 1; }
"#;

struct InMemory(String);

impl protox::file::FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        let source = match name {
            "google/api/annotations.proto" => ANNOTATIONS,
            "google/api/http.proto" => HTTP,
            "lib.proto" => &self.0,
            _ => return Err(protox::Error::file_not_found(name)),
        };
        protox::file::File::from_source(name, source)
    }
}

/// A library whose service has these methods, as it is published.
fn library(methods: &str) -> Described {
    let head = "syntax = \"proto3\"; package lib.v1; import \"google/api/annotations.proto\"; \
                import \"google/protobuf/timestamp.proto\"; import \"google/protobuf/wrappers.proto\"; \
                import \"google/protobuf/empty.proto\";";
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(InMemory(format!("{head} service Library {{ {methods} }} {MESSAGES}")));
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true).open_file("lib.proto").unwrap();
    let set = reduced(&compiler.encode_file_descriptor_set(), &["lib.v1.Library".to_owned()]).unwrap();
    Described::read(&set).unwrap()
}

fn method(name: &str, rule: &str) -> String {
    format!("rpc {name}(Asked) returns (Book) {{ option (google.api.http) = {{ {rule} }}; }}")
}

/// The routes of one method with this rule.
fn routes(rule: &str) -> Vec<Route> {
    routes_of(&library(&method("Get", rule)).service("lib.v1.Library").unwrap().methods().next().unwrap())
}

fn judged(methods: &str) -> Result<(), String> {
    library(methods).routable(["lib.v1.Library"].into_iter()).map_err(|error| error.to_string())
}

#[test]
fn a_path_is_matched_segment_by_segment_and_decoded_only_within_one() {
    let get = routes(
        r#"get: "/v1/{name=shelves/*/books/*}"
           additional_bindings { get: "/v1/books/{number}:read" }
           additional_bindings { custom: { kind: "SEARCH" path: "/v1/all/{name=**}" } response_body: "title" }"#,
    );
    assert_eq!(get.len(), 3);
    for (route, verb, path, said) in [
        (0, "GET", "/v1/shelves/a/books/b", Some("shelves/a/books/b")),
        (0, "GET", "/v1/shelves/a%2Fb/books/%2e%2e", Some("shelves/a%2Fb/books/%2e%2e")),
        (0, "GET", "/v1/%73helves/a/books/b", Some("%73helves/a/books/b")),
        (0, "POST", "/v1/shelves/a/books/b", None),
        (0, "get", "/v1/shelves/a/books/b", None),
        (0, "GET", "/v1/shelves/a/books/b/", None),
        (0, "GET", "/v1/shelves//books/b", None),
        (0, "GET", "/v1/shelves/a/books", None),
        (0, "GET", "/v1/shelves/a/books/b/c", None),
        (0, "GET", "/v1/Shelves/a/books/b", None),
        (0, "GET", "//v1/shelves/a/books/b", None),
        (0, "GET", "/v1/./shelves/a/books/b", None),
        (0, "GET", "/x/../v1/shelves/a/books/b", None),
        (0, "GET", "/v1%2Fshelves/a/books/b", None),
        (0, "GET", "v1/shelves/a/books/b", None),
        (0, "GET", "/v1/shelves/a/books/b:read", None),
        (0, "GET", "", None),
        (1, "GET", "/v1/books/7:read", Some("7")),
        (1, "GET", "/v1/books/urn%3A7:read", Some("urn%3A7")),
        (1, "GET", "/v1/books/7", None),
        (1, "GET", "/v1/books/7:write", None),
        (1, "GET", "/v1/books/:read", None),
        (2, "SEARCH", "/v1/all/a/b/c", Some("a/b/c")),
        (2, "SEARCH", "/v1/all/a", Some("a")),
        (2, "SEARCH", "/v1/all/a//c", None),
        (2, "SEARCH", "/v1/all/", None),
        (2, "SEARCH", "/v1/all", None),
    ] {
        let found = get[route].matched(verb, path).map(|found| found[0].value.clone());
        assert_eq!(found.as_deref(), said, "{verb} {path}");
    }
    assert_eq!((get[2].answer(), get[0].body()), (Some("title"), &Body::None));
    assert_eq!(routes(r#"put: "/v1/books/{book.title}" body: "book""#)[0].body(), &Body::Field("book".into()));
    assert_eq!(routes(r#"post: "/v1/books" body: "*""#)[0].body(), &Body::Whole);
    assert_eq!(routes("")[..], []);
}

#[test]
fn a_hostile_template_is_refused_at_publishing_by_name_and_is_no_route() {
    let long = format!("/v1/{}", "a".repeat(MAX_TEMPLATE_BYTES));
    let deep = format!("/v1{}", "/a".repeat(MAX_SEGMENTS));
    let many = format!(
        "get: \"/v1/a\" {}",
        (0..MAX_ROUTES).map(|n| format!("additional_bindings {{ get: \"/v1/b{n}\" }} ")).collect::<String>()
    );
    let get = |template: &str| format!("get: \"{template}\"");
    for (rule, why) in [
        (get("v1/books"), "does not begin with a slash"),
        (get("/"), "is no segment"),
        (get("/v1//books"), "is no segment"),
        (get("/v1/books/"), "is no segment"),
        (get("/v1/../books"), "a segment of dots"),
        (get("/v1/%2e%2e/books"), "is no segment"),
        (get("/v1/{name=../*}"), "a segment of dots"),
        (get("/v1/books?all=true"), "is no segment"),
        (get("/v1/books#top"), "is no segment"),
        (get("/v1/bo oks"), "is no segment"),
        (get("/v1/sách"), "is no segment"),
        (get("/v1/{name"), "a brace is not closed"),
        (get("/v1/{name}x"), "within a segment"),
        (get("/v1/x{name}"), "is no segment"),
        (get("/v1/{name={number}}"), "is no segment"),
        (get("/v1/{name=**}/more"), "** stands at the end only"),
        (get("/v1/**/more"), "** stands at the end only"),
        (get("/{name}"), "no word of its own"),
        (get("/**"), "no word of its own"),
        (get("/openapi/{name}"), "the door's own"),
        (get("/v1/books:"), "no word"),
        (get("/v1/books:a/b"), "no word"),
        (get("/v1/{}"), "is no field of lib.v1.Asked"),
        (get("/v1/{nmae}"), "\"nmae\" is no field of lib.v1.Asked"),
        (get("/v1/{book.titel}"), "is no field"),
        (get("/v1/{name.title}"), "is no field"),
        (get("/v1/{books.title}"), "is no field"),
        (get("/v1/{book}"), "a list, a map or a message"),
        (get("/v1/{tags}"), "a list, a map or a message"),
        (get("/v1/{notes}"), "a list, a map or a message"),
        (get("/v1/{name}/{name}"), "stands in it twice"),
        (get(&long), "longer than 512 bytes"),
        (get(&deep), "more than 32 segments"),
        (many, "at most 16 routes"),
        (format!("{} body: \"*\"", get("/v1/books")), "GET has no body"),
        ("post: \"/v1/books\" body: \"boook\"".into(), "its body \"boook\" is no field"),
        ("post: \"/v1/books\" body: \"*\" response_body: \"x\"".into(), "its response_body \"x\" is no field"),
        ("custom: { kind: \"OPTIONS\" path: \"/v1/books\" }".into(), "none that a route may have"),
        ("custom: { kind: \"get it\" path: \"/v1/books\" }".into(), "none that a route may have"),
        ("body: \"*\"".into(), "says no HTTP method and path"),
    ] {
        let refused = judged(&method("Get", &rule)).expect_err(&rule);
        assert!(refused.contains(why) && refused.contains("lib.v1.Library.Get"), "{rule}: {refused}");
        assert!(routes(&rule).len() <= MAX_ROUTES, "{rule}");
        assert!(routes(&rule).iter().all(|route| route.verb() == "GET" && rule.contains("additional")), "{rule}");
    }
    let just = format!("/v1{}", "/a".repeat(MAX_SEGMENTS - 1));
    let as_long = format!("/v1/{}", "a".repeat(MAX_TEMPLATE_BYTES - 4));
    for rule in [get(&just), get(&as_long), get("/v1/{book.title}:x"), get("/v1/{kind}/{since}/{sure}"), get("/v1/*/a")]
    {
        judged(&method("Get", &rule)).unwrap();
    }
    let streams = |rule: &str| {
        judged(&format!("rpc Put(stream Asked) returns (Book) {{ option (google.api.http) = {{ {rule} }}; }}"))
    };
    assert!(streams("post: \"/v1/{name}\" body: \"*\"").unwrap_err().contains("takes a stream"));
    streams("post: \"/v1/books\" body: \"*\"").unwrap();
}

#[test]
fn what_json_writes_without_names_of_fields_is_asked_for_none() {
    let of = |input: &str, output: &str, rule: &str| {
        judged(&format!("rpc Get({input}) returns ({output}) {{ option (google.api.http) = {{ {rule} }}; }}"))
    };
    for (input, output, rule, why) in [
        (
            "Asked",
            "google.protobuf.Timestamp",
            r#"get: "/v1/a" response_body: "seconds""#,
            "leave out its response_body",
        ),
        ("google.protobuf.BoolValue", "Book", r#"get: "/v1/{value}""#, "its path says no field"),
        ("google.protobuf.BoolValue", "Book", r#"get: "/v1/a""#, "its body is \"*\""),
        ("google.protobuf.Timestamp", "Book", r#"post: "/v1/a" body: "seconds""#, "its body is \"*\""),
    ] {
        let refused = of(input, output, rule).expect_err(rule);
        assert!(refused.contains(why), "{refused}");
    }
    of("Asked", "google.protobuf.Timestamp", r#"get: "/v1/a""#).unwrap();
    of("google.protobuf.BoolValue", "Book", r#"post: "/v1/a" body: "*""#).unwrap();
    of("google.protobuf.Empty", "Book", r#"get: "/v1/a""#).unwrap();
}

#[test]
fn no_two_operations_of_a_document_have_one_id_and_a_methods_own_path_stays_its_own() {
    let methods = [
        method("Get", r#"get: "/v1/{name}" additional_bindings { post: "/lib.v1.Library/Get" body: "book" }"#),
        "rpc Get_1(Asked) returns (Book); rpc Get_1_(Asked) returns (Book);".to_owned(),
    ];
    let about = catalogue::openapi::About {
        title: "A library".into(),
        version: "1.0".into(),
        description: String::new(),
        contact: "a desk".into(),
        provider: "VN/GOV/moj/library".into(),
        deprecated: None,
        door: None,
    };
    let document = catalogue::openapi::document(&library(&methods.concat()).service("lib.v1.Library").unwrap(), &about);
    let verbs = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let mut ids: Vec<&str> = verbs.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["Get", "Get_1", "Get_1_", "Get_1__"]);
    assert_eq!(document["paths"]["/lib.v1.Library/Get"]["post"]["operationId"], "Get");
}

#[test]
fn no_path_is_of_two_routes() {
    let two = |one: &str, other: &str| judged(&format!("{} {}", method("One", one), method("Two", other)));
    for (one, other, path) in [
        ("/v1/books", "/v1/books", "/v1/books"),
        ("/v1/{name}", "/v1/books", "/v1/books"),
        ("/v1/{name}/a", "/v1/books/{number}", "/v1/books/a"),
        ("/v1/{name=**}", "/v1/books/{number}/x", "/v1/books/x/x"),
        ("/v1/books/{number}/x", "/v1/{name=**}", "/v1/books/x/x"),
        ("/v1/a/{name=**}", "/v1/{name=**}", "/v1/a/x"),
        ("/v1/{name}:read", "/v1/{number}:read", "/v1/x:read"),
    ] {
        let rule = |template: &str| format!("get: \"{template}\"");
        let refused = two(&rule(one), &rule(other)).expect_err(one);
        let said = format!("{path} would be lib.v1.Library.One and lib.v1.Library.Two, GET both");
        assert!(refused.starts_with(&said), "{refused}");
        // What is said to be of both is.
        assert!(routes(&rule(one))[0].matched("GET", path).is_some(), "{path}");
        assert!(routes(&rule(other))[0].matched("GET", path).is_some(), "{path}");
    }
    for (one, other) in [
        (r#"get: "/v1/{name}""#, r#"delete: "/v1/{name}""#),
        (r#"get: "/v1/{name}""#, r#"get: "/v1/{name}:read""#),
        (r#"get: "/v1/{name}""#, r#"get: "/v1/{name}/a""#),
        (r#"get: "/v1/a/{name}""#, r#"get: "/v1/b/{name}""#),
        (r#"get: "/v1/{name=**}""#, r#"get: "/v1""#),
    ] {
        two(one, other).unwrap();
    }
    // Nor is it a method's own.
    for path in ["/lib.v1.Library/Two", "/lib.v1.Library/{name}", "/lib.v1.Library/{name=**}", "/lib.v1.Library/One"] {
        let with = |rule: String| judged(&format!("{} rpc Two(Asked) returns (Book);", method("One", &rule)));
        let refused = with(format!("post: \"{path}\" body: \"*\"")).expect_err(path);
        assert!(refused.contains("/lib.v1.Library/") && refused.contains("POST both"), "{refused}");
        with(format!("get: \"{path}\"")).unwrap();
    }
    assert!(
        judged(&method("One", r#"get: "/v1/a" additional_bindings { get: "/v1/{name}" }"#)).is_err(),
        "of one method"
    );
}

#[test]
fn path_query_and_body_make_one_request() {
    let kind = library(&method("Get", "")).pool().get_message_by_name("lib.v1.Asked").unwrap();
    let one = |field: &str, value: &str| InPath { field: field.into(), value: value.into(), several: false };
    let said = |variables: &[InPath], query: &str| request(&kind, variables, query, Map::new()).map(Value::Object);
    // By its template, and not by what it says: `**` is several, though the path has one.
    for (template, path, name) in [
        ("/v1/{name}", "/v1/a%2Fb", "a/b"),
        ("/v1/{name=*}", "/v1/a%2Fb", "a/b"),
        ("/v1/{name=shelves/*}", "/v1/shelves/a%2Fb%20c", "shelves/a%2Fb c"),
        ("/v1/{name=**}", "/v1/shelves/a%2Fb%20c/%2f", "shelves/a%2Fb c/%2f"),
        ("/v1/{name=**}", "/v1/a%2Fb", "a%2Fb"),
    ] {
        let found = routes(&format!("get: \"{template}\""))[0].matched("GET", path).unwrap();
        assert_eq!(said(&found, "").unwrap(), json!({ "name": name }), "{template} {path}");
    }
    let query = "number=7&tags=x&tags=y+z&full_text=true&book.title=H%E1%BB%99&since=2027-01-15T08:00:00Z&kind=PAPER&sure=false";
    assert_eq!(
        said(&[], query).unwrap(),
        json!({
            "number": "7", "tags": ["x", "y z"], "fullText": true, "book": { "title": "Hộ" },
            "since": "2027-01-15T08:00:00Z", "kind": "PAPER", "sure": false
        })
    );
    assert_eq!(said(&[], "fullText=false").unwrap(), json!({ "fullText": false }), "in either writing");
    let next = |deep: usize| format!("book.{}title=a", "next.".repeat(deep - 2));
    said(&[], &next(MAX_NAME_DEPTH)).unwrap();
    let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let all = known(&["name", "number", "book", "tags", "fullText", "notes", "since", "kind", "sure", "books"]);
    for (variables, query, wrong) in [
        (&[][..], "nam=a", Misrouted::NoField { name: "nam".into(), message: "lib.v1.Asked".into(), known: all }),
        (
            &[],
            "book.titl=a",
            Misrouted::NoField { name: "titl".into(), message: "lib.v1.Book".into(), known: known(&["title", "next"]) },
        ),
        (&[], "book=a", Misrouted::NotPlain("book".into())),
        (&[], "notes=a", Misrouted::NotPlain("notes".into())),
        (&[], "books=a", Misrouted::NotPlain("books".into())),
        (&[], "tags.a=b", Misrouted::NotPlain("tags".into())),
        (&[], "since.seconds=1", Misrouted::NotPlain("since".into())),
        (&[], "name=a&name=b", Misrouted::Twice("name".into())),
        (&[one("name", "a")], "name=b", Misrouted::Twice("name".into())),
        (&[], "full_text=true&fullText=true", Misrouted::Twice("fullText".into())),
        (&[], "name=%zz", Misrouted::Encoding("name".into())),
        (&[one("name", "%ff")], "", Misrouted::Encoding("name".into())),
        (&[], &next(MAX_NAME_DEPTH + 1), Misrouted::Deep),
        (&[], &next(6_000), Misrouted::Deep),
    ] {
        assert_eq!(said(variables, query).unwrap_err(), wrong, "{query}");
    }
    let body = || json!({ "full_text": true }).as_object().unwrap().clone();
    assert_eq!(request(&kind, &[one("full_text", "true")], "", body()), Err(Misrouted::Twice("full_text".into())));
}

proptest! {
    // Each compiles a file.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_path_and_no_query_make_the_reader_panic(path in "[/a-z%:{}=*.]{0,40}|.{0,40}", query in "[a-z_.&=%+]{0,60}|.{0,40}") {
        let library = library(&method("Get", r#"get: "/v1/{name=a/*}/b/{number}" additional_bindings { get: "/c/{name=**}:x" }"#));
        let method = library.service("lib.v1.Library").unwrap().methods().next().unwrap();
        for route in routes_of(&method) {
            let _ = route.matched(route.verb(), &path);
        }
        let kind = library.pool().get_message_by_name("lib.v1.Asked").unwrap();
        for several in [false, true] {
            let said = InPath { field: "name".into(), value: path.clone(), several };
            let _ = request(&kind, &[said], &query, Map::new());
        }
    }

    #[test]
    fn no_template_makes_the_reader_panic_and_what_is_taken_has_one_reading(template in "/[a-z]{1,2}(/[a-z.{}=*:]{1,8}){0,4}") {
        let rule = format!("get: \"{template}\"");
        prop_assert_eq!(judged(&method("Get", &rule)).is_ok(), routes(&rule).len() == 1);
    }
}
