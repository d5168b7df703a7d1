//! gRPC-Web and health at the clients' door: the same calls for programs without HTTP/2's trailers, and what gRPC's own tools ask.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use http::Request;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use prost::Message;
use proto::refusal::{Code, Language};
use security_server::limits::Limits;
use tests::country::Country;
use tests::echo::{Heard, said};
use tests::plain::{self, Plain, ask, begin};
use tests::raw;
use tests::soon;
use tests::wire::Said;
use tests::world::{TOKEN, World};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

/// The messages of an answer, and what its last frame says.
fn read(mut body: Bytes) -> (Vec<Said>, String) {
    let mut messages = Vec::new();
    while body.has_remaining() {
        let (flag, length) = (body.get_u8(), body.get_u32() as usize);
        let frame = body.split_to(length);
        if flag == 0x80 {
            assert!(!body.has_remaining(), "nothing stands behind the trailers");
            return (messages, String::from_utf8(frame.to_vec()).unwrap());
        }
        messages.push(Said::decode(frame).unwrap());
    }
    (messages, String::new())
}

/// Base64 part by part, as it was written.
fn unpadded(text: &str) -> Bytes {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(4);
        bytes.extend(STANDARD.decode(part).unwrap());
        rest = behind;
    }
    bytes.into()
}

/// A call of the echo service in this form.
fn in_form(request: http::request::Builder, form: &'static str) -> http::request::Builder {
    let mut request = request.header("x-grpc-web", "1");
    let headers = request.headers_mut().unwrap();
    headers.insert("content-type", form.parse().unwrap());
    headers.remove("te");
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_web_client_makes_the_same_call_and_reads_its_trailers_in_the_body() {
    let (country, mut heard) = Country::new().await;
    let web = |method: &str| in_form(country.post(method), BINARY);
    let answer = country.asked(web("Unary").header("x-trace-bin", "AAE"), raw::message(&said("web"))).await;
    assert_eq!((answer.status(), answer.field("content-type")), (200, Some(BINARY)));
    assert_eq!(answer.field("access-control-allow-origin"), None);
    let (messages, trailers) = read(answer.body.clone());
    assert_eq!(messages, [said("web")]);
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    assert_eq!(answer.field("x-trace-bin"), Some("AAE"));
    let exchange = answer.field("causeway-exchange").unwrap();
    country.quiet().await;
    for (name, messages) in
        [("portal", ["sent request", "received answer"]), ("moj", ["received request", "sent answer"])]
    {
        assert_eq!(country.log_of(name, exchange), [messages[0], messages[1], "closed "], "it is an exchange like any");
    }

    let counted = country.asked(web("ServerStream"), raw::message(&Said { number: 3, ..said("a") })).await;
    let (messages, trailers) = read(counted.body);
    assert_eq!(messages.iter().map(|each| each.number).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    let none = country.asked(web("ServerStream"), raw::message(&said(""))).await;
    assert!(read(none.body).0.is_empty());

    // Each message comes when it is said, and whoever hangs up cancels.
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
    let mut response = soon(begin(country.door(), web("SpeaksFirst").body(body).unwrap())).await;
    let mut next = async || soon(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next().await, raw::message(&said("first")));
    sender.send_data(raw::message(&said("second"))).await.unwrap();
    assert_eq!(next().await, raw::message(&said("second")));
    drop(sender);
    assert!(read(next().await).1.contains("grpc-status: 0\r\n"));
    while heard.try_recv().is_ok() {}
    let hangs = web("Hang").body(http_body_util::Full::new(raw::message(&said("")))).unwrap();
    let door = country.door();
    let hanging = tokio::spawn(async move { begin(door, hangs).await });
    assert!(matches!(soon(heard.recv()).await, Some(Heard::Call(method, _)) if method == "Hang"));
    hanging.abort();
    assert_eq!(soon(heard.recv()).await, Some(Heard::Gone));

    // The same in base64, which may come in parts; and over HTTP/2.
    let text = |method: &str| in_form(country.post(method), TEXT);
    let frame = raw::message(&said("Xin chào"));
    let parts = format!("{}{}", STANDARD.encode(&frame[..4]), STANDARD.encode(&frame[4..]));
    assert!(parts.contains("==") && !parts.ends_with("=="));
    let answer = country.asked(text("Unary"), parts).await;
    assert_eq!(answer.field("content-type"), Some(TEXT));
    let (messages, trailers) = read(unpadded(&answer.text));
    assert_eq!(messages, [said("Xin chào")]);
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    let wanted = text("Unary").header("accept", "text/html, application/grpc-web+proto");
    let answer = country.asked(wanted, STANDARD.encode(&frame)).await;
    assert_eq!((answer.field("content-type"), read(answer.body.clone()).0), (Some(BINARY), vec![said("Xin chào")]));
    let second = web("Unary").uri(format!("http://{}/echo.v1.Echo/Unary", country.door()));
    let answer = raw::Client::to(country.door()).await.call(second, frame).await;
    assert!(answer.trailers.is_none() && read(answer.body).0 == [said("Xin chào")]);
    country.realm.stops().await;
}

/// The head of a refusal, which has no body.
fn is_refused(answer: &Plain, code: Code, language: Language) {
    assert_eq!((answer.status(), answer.field("causeway-refusal")), (200, Some(code.as_str())), "{answer:?}");
    assert_eq!(answer.field("grpc-status"), Some(code.grpc_status().to_string().as_str()));
    let message = answer.field("grpc-message").unwrap();
    let message = raw::unescaped(message);
    assert_eq!((message, answer.body.len()), (code.message(language), 0));
    assert_eq!(answer.field("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_in_grpc_web_is_refused_in_the_words_of_grpc() {
    let (mut country, mut heard) = Country::new().await;
    let frame = raw::message(&said("a"));
    let web = |name: &'static str, value: &str| {
        let mut request = in_form(country.post("Unary"), BINARY);
        request.headers_mut().unwrap().insert(name, value.parse().unwrap());
        request
    };
    // Like every web page's call: gRPC-Web opens this door to none.
    for (name, value) in [
        ("origin", "https://portal.example"),
        ("origin", "null"),
        ("sec-fetch-site", "same-origin"),
        ("host", "evil.example"),
    ] {
        for form in [BINARY, TEXT] {
            let mut request = web(name, value);
            request.headers_mut().unwrap().insert("content-type", form.parse().unwrap());
            let answer = country.asked(request, STANDARD.encode(&frame)).await;
            is_refused(&answer, Code::BrowserRefused, Language::English);
            assert_eq!(answer.field("content-type"), Some(form));
        }
    }
    for (request, code) in [
        (web("causeway-refusal", "NONE"), Code::MetadataReserved),
        (web("causeway-token", "a"), Code::MetadataReserved),
        (web("content-encoding", "gzip"), Code::ContentTypeUnknown),
        (web("x-a", "").uri("/echo.v1.Echo/Unary?a=b"), Code::PathMalformed),
        (web("x-a", "").method("PUT"), Code::MethodNotPost),
        (web("grpc-timeout", "soon"), Code::MetadataMalformed),
    ] {
        is_refused(&country.asked(request, frame.clone()).await, code, Language::English);
    }
    assert!(heard.try_recv().is_err(), "nothing of it left the house");
    let vietnamese = web("causeway-purpose", "curiosity").header("accept-language", "vi");
    let answer = country.asked(vietnamese, frame.clone()).await;
    is_refused(&answer, Code::GrantPurpose, Language::Vietnamese);
    assert!(answer.field("causeway-exchange").is_some(), "it is an answer of the provider's server");
    let other = country.asked(web("content-type", "application/grpc-web+json"), "{}").await;
    assert!(other.json()["detail"].as_str().unwrap().contains("application/grpc-web-text"), "{}", other.text);

    // The service's own status is its own, with no message before it or behind one.
    let fail = in_form(country.post("Fail"), BINARY);
    let failed = country.asked(fail, raw::message(&Said { number: 5, ..said("chưa có") })).await;
    let (status, message) = match failed.field("grpc-status") {
        Some(status) => (status.to_owned(), failed.field("grpc-message").unwrap().to_owned()),
        None => {
            let trailers = read(failed.body.clone()).1;
            let of = |name: &str| trailers.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
            (of("grpc-status: "), of("grpc-message: "))
        }
    };
    assert_eq!((status.as_str(), raw::unescaped(&message).as_str()), ("5", "chưa có"));
    assert_eq!(failed.field("causeway-refusal"), None);

    // Text is translated before there is an exchange: no base64, and more of it than the file allows.
    while heard.try_recv().is_ok() {}
    country.quiet().await;
    country.realm.stop(&country.portal).await;
    let file = country.realm.path(&country.portal.file());
    let configured = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, configured + "\n[json]\nmessage_bytes = 1024\n").unwrap();
    country.realm.serve(&country.portal).await;
    country.realm.settled().await;
    let text = |body: String| country.asked(in_form(country.post("Unary"), TEXT), body);
    for wrong in ["A", "AAAA=AAA", "{}", "AAAAAAA*"] {
        is_refused(&text(wrong.to_owned()).await, Code::MessageMalformed, Language::English);
    }
    assert!(heard.try_recv().is_err(), "nothing of it left the house");
    // Five bytes of a frame's head and three of a field's stand before what is said.
    let long = |bytes: usize| raw::message(&said(&"a".repeat(bytes - 8)));
    assert_eq!((long(1024).len(), long(1025).len()), (1024, 1025));
    assert_eq!(read(unpadded(&text(STANDARD.encode(long(1024))).await.text)).0.len(), 1);
    is_refused(&text(STANDARD.encode(long(1025))).await, Code::MessageTooLarge, Language::English);
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_says_nothing_to_what_reads_http_between_it_and_a_grpc_web_client() {
    let service = raw::serve(|_| async {
        let (mut sender, mut response) = raw::answer();
        let headers = response.headers_mut();
        for (name, value) in [
            ("set-cookie", "session=stolen"),
            ("access-control-allow-origin", "*"),
            ("content-encoding", "gzip"),
            ("location", "https://evil.example"),
            ("clear-site-data", "\"*\""),
            ("x-accel-redirect", "/internal"),
            ("x-kept", "1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        tokio::spawn(async move {
            sender.send_data(raw::message(&said("a"))).await.unwrap();
            sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await.unwrap();
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let door = world.servers["portal"].clients[0];
    let answer =
        soon(ask(door, in_form(world.post("Unary").uri("/echo.v1.Echo/Unary"), BINARY), raw::message(&said("")))).await;
    assert_eq!((answer.field("x-kept"), read(answer.body.clone()).0), (Some("1"), vec![said("a")]));
    for name in [
        "set-cookie",
        "access-control-allow-origin",
        "content-encoding",
        "location",
        "clear-site-data",
        "x-accel-redirect",
    ] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_its_end_is_never_taken_for_whole_in_grpc_web() {
    let service = raw::serve(|_| async {
        let (mut sender, response) = raw::answer();
        tokio::spawn(async move {
            sender.send_data(raw::message(&said("a"))).await.unwrap();
            // No trailers: its end is missing.
        });
        response
    })
    .await;
    let world = World::with_service(service).await;
    let door = world.servers["portal"].clients[0];
    for form in [BINARY, TEXT] {
        let request = in_form(world.post("Unary").uri("/echo.v1.Echo/Unary"), form);
        let body = if form == TEXT { STANDARD.encode(raw::message(&said(""))).into() } else { raw::message(&said("")) };
        let answer = soon(ask(door, request, body)).await;
        let body = if form == TEXT { unpadded(&answer.text) } else { answer.body.clone() };
        let trailers = read(body).1;
        assert!(answer.broken || trailers.contains("causeway-refusal: "), "{trailers}");
        assert!(!trailers.contains("grpc-status: 0"), "{trailers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_makes_a_call_in_grpc_web() {
    let (country, _heard) = Country::new().await;
    let asks = country.realm.path("asks");
    std::fs::write(&asks, raw::message(&said("curl"))).unwrap();
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["--fail-with-body", "--silent", "--show-error", "--noproxy", "*", "--data-binary"]);
    curl.arg(format!("@{}", asks.display())).args(["-H", &format!("content-type: {BINARY}")]);
    for (name, value) in [("service", country.moj.subsystem.as_str()), ("purpose", tests::processes::PURPOSE)] {
        curl.args(["-H", &format!("causeway-{name}: {value}")]);
    }
    let said_by = soon(curl.arg(format!("http://{}/echo.v1.Echo/Unary", country.door())).output()).await.unwrap();
    assert!(said_by.status.success(), "{said_by:?}");
    let (messages, trailers) = read(said_by.stdout.into());
    assert!(messages == [said("curl")] && trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    country.realm.stops().await;
}

// ---- health

const SERVING: &[u8] = &[0x08, 1];
const NOT_SERVING: &[u8] = &[0x08, 2];
const SERVICE_UNKNOWN: &[u8] = &[0x08, 3];

fn health(method: &str, token: Option<&str>) -> http::request::Builder {
    let request = Request::post(format!("http://localhost/grpc.health.v1.Health/{method}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    token.into_iter().fold(request, |request, token| request.header("causeway-token", token))
}

/// grpc.health.v1.HealthCheckRequest
fn about(service: &str) -> Bytes {
    let mut question = vec![0x0a, u8::try_from(service.len()).unwrap()];
    question.extend(service.bytes());
    raw::flagged(0, if service.is_empty() { &[] } else { &question })
}

async fn next(watching: &mut http::Response<Incoming>) -> Bytes {
    soon(watching.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap().slice(5..)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reaches_the_door_is_told_whether_it_takes_calls_until_it_takes_none() {
    let world = World::new().await;
    let mut client = world.raw().await;
    let well = soon(client.call(health("Check", None), about(""))).await;
    assert_eq!((well.status(), &well.body[5..]), (0, SERVING));
    for token in [None, Some(TOKEN)] {
        let unknown = soon(client.call(health("Check", token), about("echo.v1.Echo"))).await;
        assert_eq!((unknown.status(), unknown.body.len()), (5, 0), "NOT_FOUND: nobody lists it");
    }
    let stranger = soon(client.call(health("Check", Some("of nobody")), about(""))).await;
    assert_eq!(stranger.refusal(), Some("CLIENT_UNKNOWN"), "a wrong credential is none the less wrong");
    let page = health("Check", None).header("origin", "https://portal.example");
    assert_eq!(soon(client.call(page, about(""))).await.refusal(), Some("BROWSER_REFUSED"));
    for wrong in [raw::flagged(0, &[0xff]), raw::flagged(1, &[]), raw::flagged(0, &[0; 1025]), Bytes::new()] {
        assert_eq!(soon(client.call(health("Check", None), wrong)).await.status(), 3);
    }
    let long = [&[0x0a, 0xfd, 0x07][..], &[b'a'; 1021]].concat();
    assert_eq!(soon(client.call(health("Check", None), raw::flagged(0, &long))).await.status(), 5, "1024 are read");
    // Whoever names a provider asks that one, as with any call.
    let provider = health("Check", Some(TOKEN)).header("causeway-service", world.members["moj"].subsystem.as_str());
    let provider = provider.header("causeway-purpose", tests::world::PURPOSE);
    assert_eq!(soon(client.call(provider, about(""))).await.refusal(), Some("GRANT_MISSING"));
    let web = in_form(health("Check", None).uri("/grpc.health.v1.Health/Check"), BINARY);
    let web = soon(plain::ask(world.servers["portal"].clients[0], web.header("host", "localhost"), about(""))).await;
    assert_eq!(&web.body[5..7], SERVING);

    // Past its validity the configuration lets nobody call; and nobody is told which services there are.
    let (mut question, watching) = client.open(health("Watch", None));
    question.send_data(about("")).await.unwrap();
    let mut watching = soon(watching).await.unwrap();
    assert_eq!(next(&mut watching).await, SERVING);
    world.set_time(world.now().plus(std::time::Duration::from_secs(73 * 3600)));
    assert_eq!(next(&mut watching).await, NOT_SERVING);
    for service in ["echo.v1.Echo", "no.such.Service"] {
        let any = soon(client.call(health("Check", Some(TOKEN)), about(service))).await;
        assert_eq!((any.status(), &any.body[5..]), (0, NOT_SERVING));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_of_a_service_is_told_to_whom_it_is_open() {
    let (country, _heard) = Country::new().await;
    let mut client = raw::Client::to(country.door()).await;
    let well = soon(client.call(health("Check", None), about("echo.v1.Echo"))).await;
    assert_eq!((well.status(), &well.body[5..]), (0, SERVING));
    let (mut question, watching) = client.open(health("Watch", None));
    question.send_data(about("echo.v1.Echo")).await.unwrap();
    let mut watching = soon(watching).await.unwrap();
    assert_eq!(next(&mut watching).await, SERVING);
    country.list(&["VN/COM"]).await;
    assert_eq!(next(&mut watching).await, SERVICE_UNKNOWN);
    let closed = soon(client.call(health("Check", None), about("echo.v1.Echo"))).await;
    let nothing = soon(client.call(health("Check", None), about("echo.v1.Nothing"))).await;
    assert_eq!((closed.status(), nothing.status()), (5, 5));
    country.list(&["VN/GOV/portal"]).await;
    assert_eq!(next(&mut watching).await, SERVING);
    drop((question, watching));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_watch_as_may_of_one_and_each_is_told_of_the_end() {
    let mut world = World::new().await;
    let mut client = world.raw().await;
    let mut watching = Vec::new();
    let of_one = Limits::default().health_of_one;
    for _ in 0..of_one {
        let (mut question, watch) = client.open(health("Watch", None));
        question.send_data(about("")).await.unwrap();
        let mut watch = soon(watch).await.unwrap();
        assert_eq!(next(&mut watch).await, SERVING);
        watching.push((question, watch));
    }
    let more = soon(client.call(health("Watch", None), about(""))).await;
    assert_eq!(more.refusal(), Some("TOO_MANY_EXCHANGES"));
    // A system that shows who it is takes no stranger's place, and no stranger takes its own.
    let (mut question, watch) = client.open(health("Watch", Some(TOKEN)));
    question.send_data(about("")).await.unwrap();
    assert_eq!(next(&mut soon(watch).await.unwrap()).await, SERVING);
    assert_eq!(
        soon(client.call(health("Check", None), about(""))).await.status(),
        0,
        "they take nobody's place who asks"
    );
    drop(watching.pop());
    soon(async {
        loop {
            let (mut question, watch) = client.open(health("Watch", None));
            let _ = question.send_data(about("")).await;
            let watch = watch.await.unwrap();
            if !watch.headers().contains_key("causeway-refusal") {
                return;
            }
        }
    })
    .await;
    // Whoever watches is told of the end, and does not hold it up.
    let stopping = tokio::spawn(world.servers.remove("portal").unwrap().shutdown());
    let (_question, mut watch) = watching.swap_remove(0);
    assert_eq!(next(&mut watch).await, NOT_SERVING);
    let end = soon(watch.body_mut().frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(end["grpc-status"], "14");
    soon(stopping).await.unwrap();
}
