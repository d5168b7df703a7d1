//! JSON at the clients' door: the same exchange as a gRPC call, for systems that have no gRPC; and no door for web pages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use proto::refusal::{Code, Language};
use serde_json::{Value, json};
use tests::country::{Country, is_problem};
use tests::echo::Heard;
use tests::plain::begin;
use tests::processes::PURPOSE;
use tests::raw;
use tests::soon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_json_is_the_same_exchange_as_a_grpc_call() {
    let (country, mut heard) = Country::new().await;
    let request = country.post("Unary").header("x-trace", "a").header("x-trace", "b").header("cookie", "c=d");
    let body = r#"{"text":"Xin chào","bytes":"AP8=","number":"18446744073709551615"}"#;
    let answer = country.asked(request, body).await;
    assert_eq!((answer.status(), answer.field("content-type")), (200, Some("application/json")), "{}", answer.text);
    assert_eq!(answer.json(), serde_json::from_str::<Value>(body).unwrap());
    let traces: Vec<_> = answer.head.headers.get_all("grpc-metadata-x-trace").iter().collect();
    assert_eq!(traces, ["a", "b"]);
    // What the service heard is what it hears of a gRPC client.
    let exchange = answer.field("causeway-exchange").unwrap().to_owned();
    let Heard::Call(method, fields) = heard.recv().await.unwrap() else { panic!("a call was expected") };
    let ours = [
        ("causeway-consumer", country.portal.subsystem.as_str()),
        ("causeway-exchange", exchange.as_str()),
        ("causeway-purpose", PURPOSE),
    ];
    assert_eq!(
        (method.as_str(), fields),
        ("Unary", ours.map(|(name, value)| (name.into(), value.to_owned())).to_vec())
    );
    country.quiet().await;
    for (name, messages) in
        [("portal", ["sent request", "received answer"]), ("moj", ["received request", "sent answer"])]
    {
        assert_eq!(country.log_of(name, &exchange), [messages[0], messages[1], "closed "], "{name}");
    }

    // As curl sends it where nothing else is asked of it, with a deadline, and over HTTP/2.
    let mut form = country.post("Unary").header("grpc-timeout", "20S");
    form.headers_mut().unwrap().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    assert_eq!(country.asked(form, r#"{"text":"curl"}"#).await.json(), json!({ "text": "curl" }));
    let (method, fields) = match heard.recv().await.unwrap() {
        Heard::Call(method, fields) => (method, fields),
        other => panic!("{other:?}"),
    };
    assert!(method == "Unary" && fields.iter().any(|(name, _)| name == "grpc-timeout"), "{fields:?}");
    let second = country.post("Unary").uri(format!("http://{}/echo.v1.Echo/Unary", country.door()));
    let answer = raw::Client::to(country.door()).await.call(second, Bytes::from_static(b"{\"number\":7}")).await;
    assert_eq!((answer.head.status.as_u16(), answer.body.as_ref()), (200, &br#"{"number":"7"}"#[..]));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_read_and_written_after_a_restart_while_the_registry_is_gone() {
    let (mut country, _heard) = Country::new().await;
    assert_eq!(country.said("Unary", r#"{"text":"before"}"#).await.status(), 200);
    country.realm.stop_registry().await;
    country.realm.restart(&country.portal).await;
    let answer = country.said("Unary", r#"{"text":"after"}"#).await;
    assert_eq!((answer.status(), answer.text.as_str()), (200, r#"{"text":"after"}"#));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_told_message_by_message_and_each_has_its_end() {
    let (country, mut heard) = Country::new().await;
    let counted = country.said("ServerStream", r#"{"number":3,"text":"a"}"#).await;
    assert_eq!(counted.field("content-type"), Some("application/x-ndjson"));
    let result = |number: &str| json!({ "result": { "text": "a", "number": number } });
    assert_eq!(counted.lines(), [json!({ "result": { "text": "a" } }), result("1"), result("2")]);
    assert!(!counted.broken && counted.field("causeway-exchange").is_some());

    let events = country.post("ServerStream").header("accept", "text/event-stream");
    let events = country.asked(events, r#"{"number":2}"#).await;
    assert_eq!(events.field("content-type"), Some("text/event-stream"));
    assert_eq!(events.text, "data: {}\n\ndata: {\"number\":\"1\"}\n\nevent: end\ndata: {}\n\n");

    let lines = |method: &str| {
        let mut request = country.post(method);
        request.headers_mut().unwrap().insert("content-type", "application/x-ndjson".parse().unwrap());
        request
    };
    let summed = country.asked(lines("ClientStream"), "{\"number\":1}\n\n{\"number\":2,\"text\":\"x\"}").await;
    assert_eq!(summed.json(), json!({ "text": "x", "number": "3" }));
    let both = country.asked(lines("Both"), "{\"number\":1}\n{\"number\":2}\n").await;
    assert_eq!(both.lines(), [json!({ "result": { "number": "1" } }), json!({ "result": { "number": "2" } })]);

    // Each answer comes while the requests still go on, and a wrong line breaks the whole off, by name.
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
    let mut response = soon(begin(country.door(), lines("SpeaksFirst").body(body).unwrap())).await;
    let mut next = async || {
        let frame = soon(response.body_mut().frame()).await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    };
    assert_eq!(next().await, "{\"result\":{\"text\":\"first\"}}\n");
    sender.send_data(Bytes::from_static(b"{\"text\":\"sec")).await.unwrap();
    sender.send_data(Bytes::from_static(b"ond\"}\n")).await.unwrap();
    assert_eq!(next().await, "{\"result\":{\"text\":\"second\"}}\n");
    sender.send_data(Bytes::from_static(b"{\"txt\":\"third\"}\n")).await.unwrap();
    let error: Value = serde_json::from_str(&next().await).unwrap();
    assert_eq!(error["error"]["code"], "MESSAGE_MALFORMED", "{error}");
    assert!(error["error"]["detail"].as_str().unwrap().starts_with("line 2: \"txt\" is no field of echo.v1.Said"));
    drop(sender);
    country.quiet().await;

    // The same of a stream that is answered at its end.
    while heard.try_recv().is_ok() {}
    let wrong = country.asked(lines("ClientStream"), "{\"number\":1}\n{\"number\":-1}\n{\"number\":2}\n").await;
    let said = is_problem(&wrong, Code::MessageMalformed, Language::English);
    assert!(said["detail"].as_str().unwrap().starts_with("line 2: at number: "), "{said}");
    country.quiet().await;
    let mut all = Vec::new();
    while let Ok(next) = heard.try_recv() {
        all.push(next);
    }
    assert!(!all.contains(&Heard::Whole), "a stream of which a part is missing is never taken for whole: {all:?}");
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_with_what_there_is_instead_in_the_callers_language() {
    let (country, _heard) = Country::new().await;
    let with = |name: &'static str, value: Option<&str>| {
        let mut request = country.post("Unary");
        let headers = request.headers_mut().unwrap();
        headers.remove(name);
        value.into_iter().for_each(|value| _ = headers.insert(name, value.parse().unwrap()));
        request
    };
    let other = |path: &str| country.post("Unary").uri(path);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for (request, body, code, detail) in [
        (
            with("x-a", None),
            r#"{"txt":"a"}"#,
            Code::MessageMalformed,
            "\"txt\" is no field of echo.v1.Said; did you mean text?",
        ),
        (with("x-a", None), r#"{"wholly":"a"}"#, Code::MessageMalformed, "there are text, bytes, number"),
        (with("x-a", None), r#"{"number":1e30}"#, Code::MessageMalformed, "at number: "),
        (with("x-a", None), r#"{"text":"a","text":"b"}"#, Code::MessageMalformed, "\"text\" stands twice"),
        (with("x-a", None), "text=a", Code::MessageMalformed, "it is no JSON"),
        (with("x-a", None), "", Code::MessageMalformed, "it is no JSON"),
        (with("x-a", None), &deep, Code::MessageMalformed, "more than 64 levels deep"),
        (
            other("/echo.v1.Echo/Unari"),
            "{}",
            Code::MethodUnknown,
            "echo.v1.Echo has no method Unari; did you mean Unary?",
        ),
        (other("/echo.v1.Eco/Unary"), "{}", Code::MethodUnknown, "did you mean echo.v1.Echo?"),
        (
            with("causeway-service", Some("VN/GOV/moj/civil-registri")),
            "{}",
            Code::MethodUnknown,
            "VN/GOV/moj/civil-registry lists it",
        ),
        (other("/echo.v1.Echo/Unary?a=b"), "{}", Code::PathMalformed, ""),
        (with("causeway-service", Some("moj")), "{}", Code::IdentifierMalformed, "causeway-service: "),
        (with("causeway-service", None), "{}", Code::ServiceNotNamed, ""),
        (with("causeway-purpose", None), "{}", Code::PurposeMissing, ""),
        (with("causeway-pupose", Some("a")), "{}", Code::MetadataReserved, "did you mean causeway-purpose?"),
        (with("causeway-token", Some("a")), "{}", Code::MetadataReserved, ""),
        (with("grpc-timeout", Some("soon")), "{}", Code::MetadataMalformed, "grpc-timeout"),
        (with("content-type", None), "{}", Code::ContentTypeUnknown, "there is no Content-Type"),
        (with("content-type", Some("text/plain")), "{}", Code::ContentTypeUnknown, "send application/json"),
        (with("content-type", Some("application/grpc")), "{}", Code::ContentTypeUnknown, "gRPC is spoken over HTTP/2"),
        (with("content-type", Some("application/json; charset=utf-16")), "{}", Code::ContentTypeUnknown, "charset"),
        (with("content-encoding", Some("gzip")), "{}", Code::ContentTypeUnknown, "Content-Encoding"),
        (with("x-a", None).method("PUT"), "{}", Code::MethodNotPost, ""),
        (with("causeway-purpose", Some("curiosity")), "{}", Code::GrantPurpose, ""),
        (with("causeway-service", Some(&country.portal.subsystem)), "{}", Code::MethodUnknown, "lists no echo.v1.Echo"),
    ] {
        let answer = country.asked(request, body.to_owned()).await;
        let said = is_problem(&answer, code, Language::English);
        assert!(said["detail"].as_str().unwrap_or_default().contains(detail), "{detail}: {said}");
        assert_eq!(answer.field("allow"), (code == Code::MethodNotPost).then_some("POST"));
    }
    let vietnamese = country.post("Unary").header("accept-language", "vi-VN, en;q=0.5");
    is_problem(&country.asked(vietnamese, "[]").await, Code::MessageMalformed, Language::Vietnamese);
    let refused = with("causeway-purpose", Some("curiosity")).header("accept-language", "vi");
    let answer = country.asked(refused, "{}").await;
    let said = is_problem(&answer, Code::GrantPurpose, Language::Vietnamese);
    assert_eq!((&said["side"], &said["saidBy"]), (&json!("caller"), &json!("provider-server")));
    assert_eq!(said["exchange"], answer.field("causeway-exchange").unwrap());

    // The provider's own status: told as its own, with its words and its details.
    for (number, status, title) in
        [(5, 404, "NOT_FOUND"), (1, 499, "CANCELLED"), (9, 400, "FAILED_PRECONDITION"), (16, 401, "UNAUTHENTICATED")]
    {
        let answer = country.said("Fail", format!(r#"{{"number":{number},"text":"chưa đủ: 100 %"}}"#)).await;
        let said = answer.json();
        assert_eq!((answer.status(), answer.field("causeway-refusal")), (status, None), "{said}");
        assert_eq!(
            (&said["title"], &said["detail"], &said["saidBy"], &said["grpcStatus"]),
            (&json!(title), &json!("chưa đủ: 100 %"), &json!("service"), &json!(number))
        );
    }
    // google.rpc.Status with a google.protobuf.Any of the service's own type.
    let mut details = vec![0x1a, 0];
    let any = [&b"\x0a\x20type.googleapis.com/echo.v1.Said\x12\x03\x0a\x01x"[..]].concat();
    details[1] = u8::try_from(any.len()).unwrap();
    details.extend(any);
    let answer = country.said("Fail", json!({ "number": 3, "bytes": STANDARD.encode(details) }).to_string()).await;
    assert_eq!(answer.json()["details"], json!([{ "@type": "type.googleapis.com/echo.v1.Said", "text": "x" }]));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_closed_to_a_caller_is_as_if_it_were_not_there() {
    let (country, _heard) = Country::new().await;
    country.list(&["VN/COM"]).await;
    let closed = is_problem(&country.said("Unary", "{}").await, Code::MethodUnknown, Language::English);
    let nothing = country.asked(country.post("Unary").uri("/echo.v1.Nothing/Unary"), "{}").await;
    let nothing = is_problem(&nothing, Code::MethodUnknown, Language::English);
    let told = |said: &Value| said["detail"].as_str().unwrap().replace("echo.v1.Nothing", "echo.v1.Echo");
    assert_eq!(told(&closed), told(&nothing));
    // What is listed grants nothing: that is asked where it always is.
    country.list(&["VN/GOV/portal"]).await;
    assert_eq!(country.said("Unary", "{}").await.status(), 200);
    let rights = &country.realm.servers["moj"].server.access_rights;
    for grant in rights.list() {
        rights.end(grant.number, "a test".into(), country.realm.now()).await.unwrap();
    }
    is_problem(&country.said("Unary", "{}").await, Code::GrantMissing, Language::English);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_web_page_calls_whatever_name_it_gave_the_door() {
    let (country, mut heard) = Country::new().await;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
        ("host", "evil.example"),
        ("host", "localhost.evil.example:80"),
    ] {
        let request = country.post("Unary").header(name, value);
        let answer = country.asked(request, "{}").await;
        is_problem(&answer, Code::BrowserRefused, Language::English);
        assert_eq!(answer.field("access-control-allow-origin"), None);
        let get = country.asked(Request::get("/").header(name, value), "").await;
        is_problem(&get, Code::BrowserRefused, Language::English);
    }
    // The same in gRPC: the name that HTTP/2 calls the door by.
    let grpc = |authority: &str| {
        let request = country.post("Unary").uri(format!("http://{authority}/echo.v1.Echo/Unary"));
        let mut request = request.header("te", "trailers");
        request.headers_mut().unwrap().insert("content-type", "application/grpc".parse().unwrap());
        request
    };
    let empty = || raw::flagged(0, b"");
    let answer = raw::Client::to(country.door()).await.call(grpc("evil.example"), empty()).await;
    assert_eq!(answer.refusal(), Some("BROWSER_REFUSED"));
    // Asked for before a page may call: there is no such thing here.
    let preflight = Request::options("/echo.v1.Echo/Unary").header("access-control-request-method", "POST");
    let answer = country.asked(preflight, "").await;
    is_problem(&answer, Code::MethodNotPost, Language::English);
    assert!(heard.try_recv().is_err(), "nothing of it left the house");
    for host in ["localhost", "127.0.0.1", "[::1]:80"] {
        assert_eq!(country.asked(country.post("Unary").header("host", host), "{}").await.status(), 200, "{host}");
        let answer = raw::Client::to(country.door()).await.call(grpc(host), empty()).await;
        assert_eq!(answer.status(), 0, "{host}");
    }
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_of_the_file_holds_on_both_sides() {
    let (mut country, mut heard) = Country::new().await;
    country.realm.stop(&country.portal).await;
    let file = country.realm.path(&country.portal.file());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "\n[json]\nmessage_bytes = 1024\ndepth = 1\ncalls = 1\n").unwrap();
    country.realm.serve(&country.portal).await;
    country.realm.settled().await;

    let long = |bytes: usize| format!("{{\"text\":\"{}\"}}", "a".repeat(bytes - 11));
    assert_eq!(country.said("Unary", long(1024)).await.status(), 200);
    let over = is_problem(&country.said("Unary", long(1025)).await, Code::MessageTooLarge, Language::English);
    assert_eq!(over["detail"], "a message of at most 1024 bytes is translated");
    let mut lines = country.post("ClientStream");
    lines.headers_mut().unwrap().insert("content-type", "application/x-ndjson".parse().unwrap());
    let over = country.asked(lines, format!("{}\n{}\n", long(1024), long(1026))).await;
    is_problem(&over, Code::MessageTooLarge, Language::English);
    // An answer has the same limit: it was made, and cannot be told.
    let deep = is_problem(&country.said("Unary", r#"{"text":[]}"#).await, Code::MessageMalformed, Language::English);
    assert!(deep["detail"].as_str().unwrap().contains("more than 1 levels deep"), "{deep}");

    // One at once: a second is refused while the first runs, and taken when its caller has gone.
    while heard.try_recv().is_ok() {}
    let hangs = country.post("Hang").body(http_body_util::Full::new(Bytes::from_static(b"{}"))).unwrap();
    let door = country.door();
    let hanging = tokio::spawn(async move { begin(door, hangs).await });
    assert!(matches!(soon(heard.recv()).await, Some(Heard::Call(method, _)) if method == "Hang"));
    is_problem(&country.said("Unary", "{}").await, Code::TooManyExchanges, Language::English);
    hanging.abort();
    let _ = hanging.await;
    country.quiet().await;
    assert_eq!(heard.recv().await, Some(Heard::Gone), "a client that hangs up cancels");
    soon(async { while country.said("Unary", "{}").await.status() != 200 {} }).await;

    // The catalogue is not at hand: what was never read cannot be translated, and says so.
    country.realm.stop(&country.portal).await;
    std::fs::remove_dir_all(file.with_file_name("content")).unwrap();
    country.realm.serve(&country.portal).await;
    country.realm.stop_registry().await;
    is_problem(&country.said("Unary", "{}").await, Code::DescriptionUnavailable, Language::English);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_may_see_is_told_as_openapi_and_what_is_closed_is_not_there() {
    let (country, mut heard) = Country::new().await;
    let get = |path: &str| country.asked(Request::get(path), "");
    let list = get("/openapi").await;
    assert_eq!((list.status(), list.field("content-type")), (200, Some("application/json")));
    let (version, path) = ("1.0", format!("/openapi/{}/echo.v1.Echo", country.moj.subsystem));
    assert_eq!(
        list.json()["services"],
        json!([{ "service": "echo.v1.Echo", "version": version, "provider": country.moj.subsystem, "openapi": path }])
    );
    let whole = get(&path).await.json();
    assert_eq!(whole, get("/openapi/echo.v1.Echo").await.json());
    assert_eq!((&whole["openapi"], &whole["info"]["version"]), (&json!("3.1.0"), &json!(version)));
    assert_eq!(whole["servers"][0]["url"], format!("http://{}", country.door()));
    assert_eq!(
        whole["paths"]["/echo.v1.Echo/SpeaksFirst"]["post"]["summary"],
        "Says one thing before it hears anything."
    );
    let stream = &whole["paths"]["/echo.v1.Echo/Both"]["post"];
    assert!(stream["requestBody"]["content"]["application/x-ndjson"].is_object(), "{stream}");
    assert!(stream["responses"]["200"]["content"]["text/event-stream"].is_object(), "{stream}");
    let said = &whole["components"]["schemas"]["echo.v1.Said"]["properties"];
    assert_eq!(said["number"], json!({ "type": "string", "format": "uint64" }));

    for (path, code, detail) in [
        ("/openapi/echo.v1.Eco", Code::MethodUnknown, "did you mean echo.v1.Echo?"),
        ("/openapi/VN/GOV/moj/other/echo.v1.Echo", Code::MethodUnknown, "did you mean echo.v1.Echo?"),
        ("/openapi/moj/echo.v1.Echo", Code::IdentifierMalformed, "in the path: "),
        ("/openapi/../etc", Code::IdentifierMalformed, "in the path: "),
        ("/openapi/%65cho.v1.Echo", Code::MethodUnknown, "echo.v1.Echo"),
        ("/openapi?all", Code::PathMalformed, "no query"),
        ("/openapis", Code::MethodNotPost, ""),
    ] {
        let said = is_problem(&get(path).await, code, Language::English);
        assert!(said["detail"].as_str().unwrap_or_default().contains(detail), "{path}: {said}");
    }
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")]
    {
        let page = country.asked(Request::get("/openapi").header(name, value), "").await;
        is_problem(&page, Code::BrowserRefused, Language::English);
    }
    let told = |said: Value| said["detail"].as_str().unwrap().replace("echo.v1.Nothing", "echo.v1.Echo");
    country.list(&["VN/COM"]).await;
    assert_eq!(get("/openapi").await.json(), json!({ "services": [] }));
    for path in [path.as_str(), "/openapi/echo.v1.Echo"] {
        let closed = is_problem(&get(path).await, Code::MethodUnknown, Language::English);
        let nothing = get(&path.replace("echo.v1.Echo", "echo.v1.Nothing")).await;
        assert_eq!(told(closed), told(is_problem(&nothing, Code::MethodUnknown, Language::English)));
    }
    assert!(heard.try_recv().is_err(), "nobody was asked");
    country.realm.stops().await;
}

/// The echo service with routes, as its member compiles it.
fn routed(country: &Country, of_unary: &str) -> Vec<u8> {
    let echo = include_str!("../protos/echo/v1/echo.proto");
    let echo = echo.replace("package echo.v1;", "package echo.v1;\nimport \"google/api/annotations.proto\";").replace(
        "rpc Unary(Said) returns (Said);",
        &format!("rpc Unary(Said) returns (Said) {{ option (google.api.http) = {{ {of_unary} }}; }}"),
    );
    let http = "message HttpRule { string get = 2; string post = 4; string body = 7; string response_body = 12; \
                repeated HttpRule additional_bindings = 11; }";
    let annotations = "import \"google/api/http.proto\"; import \"google/protobuf/descriptor.proto\"; \
                       extend google.protobuf.MethodOptions { HttpRule http = 72295728; }";
    let api = |text: &str| format!("syntax = \"proto3\"; package google.api; {text}");
    for (name, text) in [
        ("echo/v1/echo.proto", echo),
        ("google/api/http.proto", api(http)),
        ("google/api/annotations.proto", api(annotations)),
    ] {
        let path = country.realm.path("protos").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let protos = country.realm.path("protos");
    security_server::announce::compiled(&[protos.join("echo/v1/echo.proto")], &[protos]).unwrap().descriptors
}

const ROUTES: &str =
    r#"get: "/v1/said/{text}" additional_bindings { post: "/v1/said" body: "*" response_body: "text" }"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_route_is_the_method_that_it_stands_for() {
    let (country, mut heard) = Country::new().await;
    let get = |path: &str| country.post("Unary").method("GET").uri(path);
    is_problem(&country.asked(get("/v1/said/a"), "").await, Code::MethodNotPost, Language::English);
    // Nobody publishes routes that lead astray; what was listed before stays.
    for (rule, why) in [
        (r#"get: "/v1/../{text}""#, "a segment of dots"),
        (r#"get: "/v1/said/{txt}""#, "is no field of echo.v1.Said"),
        (
            r#"get: "/v1/a" additional_bindings { get: "/v1/{text}" }"#,
            "would be echo.v1.Echo.Unary and echo.v1.Echo.Unary",
        ),
    ] {
        let refused = country.realm.list_as(&country.moj, &routed(&country, rule), &[]).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(country.said("Unary", "{}").await.status(), 200);
    country.realm.list_as(&country.moj, &routed(&country, ROUTES), &["VN/GOV"]).await.unwrap();
    while heard.try_recv().is_ok() {}
    let answer = country.asked(get("/v1/said/H%C3%A0%20N%E1%BB%99i%2F..?number=7"), "").await;
    assert_eq!((answer.status(), answer.json()), (200, json!({ "text": "Hà Nội/..", "number": "7" })));
    assert!(matches!(heard.recv().await, Some(Heard::Call(method, _)) if method == "Unary"));
    let exchange = answer.field("causeway-exchange").unwrap();
    country.quiet().await;
    assert_eq!(country.log_of("moj", exchange), ["received request", "sent answer", "closed "], "an exchange like any");
    let post = |path: &str| country.post("Unary").uri(path);
    assert_eq!(country.asked(post("/v1/said"), r#"{"text":"whole","number":1}"#).await.json(), json!("whole"));
    assert_eq!(country.asked(post("/v1/said"), r#"{"number":1}"#).await.json(), json!(""));
    assert_eq!(country.said("Unary", r#"{"text":"by name"}"#).await.json(), json!({ "text": "by name" }));

    while heard.try_recv().is_ok() {}
    for (request, body, code, detail) in [
        (get("/v1/said/a?numbre=7"), "", Code::MessageMalformed, "is no field of echo.v1.Said; did you mean number?"),
        (get("/v1/said/a?number=x"), "", Code::MessageMalformed, "at number: "),
        (get("/v1/said/a?text=b"), "", Code::MessageMalformed, "\"text\" is said twice"),
        (get("/v1/said/%ff"), "", Code::MessageMalformed, "is not percent-encoded UTF-8"),
        (get("/v1/said/a"), "{}", Code::MessageMalformed, "takes no body"),
        (get("/v1/said/a/b"), "", Code::MethodNotPost, "no route"),
        (get("/v1/../v1/said/a"), "", Code::MethodNotPost, ""),
        (post("/v1/said?number=1"), "{}", Code::MessageMalformed, "leave out the query"),
        (post("/v1/said"), r#"{"text":"a","text":"b"}"#, Code::MessageMalformed, "stands twice"),
        (post("/v1/said"), "[]", Code::MessageMalformed, "no JSON object"),
        (post("/v1/sed"), "{}", Code::MethodUnknown, ""),
        (get("/v1/said/a").header("origin", "https://evil.example"), "", Code::BrowserRefused, ""),
        (get("/v1/said/a").header("host", "evil.example"), "", Code::BrowserRefused, ""),
    ] {
        let said = is_problem(&country.asked(request, body).await, code, Language::English);
        assert!(said["detail"].as_str().unwrap_or_default().contains(detail), "{detail}: {said}");
    }
    // Nobody is found by a route but whom the call names.
    let with = |name: &'static str, value: Option<&str>| {
        let mut request = get("/v1/said/a");
        let headers = request.headers_mut().unwrap();
        headers.remove(name);
        value.into_iter().for_each(|value| _ = headers.insert(name, value.parse().unwrap()));
        request
    };
    for (request, code) in [
        (with("causeway-service", None), Code::MethodNotPost),
        (with("causeway-service", Some(&country.portal.subsystem)), Code::MethodNotPost),
        (with("causeway-service", Some("moj")), Code::IdentifierMalformed),
        (with("causeway-purpose", None), Code::PurposeMissing),
        (with("causeway-purpose", Some("curiosity")), Code::GrantPurpose),
    ] {
        is_problem(&country.asked(request, "").await, code, Language::English);
    }
    assert!(heard.try_recv().is_err(), "the service heard nothing of it");

    let openapi = country.asked(Request::get("/openapi/echo.v1.Echo"), "").await.json();
    let by_route = &openapi["paths"]["/v1/said/{text}"]["get"];
    let parameters: Vec<_> =
        by_route["parameters"].as_array().unwrap().iter().filter_map(|each| each["name"].as_str()).collect();
    assert!(parameters.ends_with(&["text", "bytes", "number"]) && by_route["requestBody"].is_null(), "{by_route}");
    assert!(openapi["paths"]["/v1/said"]["post"]["requestBody"].is_object(), "{openapi}");
    // What is closed is not there.
    country.realm.list_as(&country.moj, &routed(&country, ROUTES), &["VN/COM"]).await.unwrap();
    is_problem(&country.asked(get("/v1/said/a"), "").await, Code::MethodNotPost, Language::English);
    country.realm.stops().await;
}
