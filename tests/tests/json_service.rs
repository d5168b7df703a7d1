//! A service that speaks only JSON over HTTP/1.1 appears as a gRPC service: its callers see no difference, whatever they speak.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::country::Country;
use tests::echo::said;
use tests::processes::{PURPOSE, client, reserved};
use tests::raw;
use tests::soon;
use tests::wire::Said;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::Code;

type Body = BoxBody<Bytes, hyper::Error>;

/// The echo service of the other tests as a system writes it that knows JSON and no gRPC.
async fn serve() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hears, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let hears = hears.clone();
            let service = service_fn(move |request| {
                let hears = hears.clone();
                async move { Ok::<_, Infallible>(answer(request, hears).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, heard)
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}

async fn answer(request: Request<Incoming>, hears: mpsc::UnboundedSender<Vec<(String, String)>>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let _ = hears.send(fields.collect());
    let method = head.uri.path().strip_prefix("/api/echo.v1.Echo/").unwrap().to_owned();
    let mut response = Response::builder();
    for (name, value) in head.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        response = response.header(format!("grpc-metadata-{name}"), value);
    }
    if method == "Both" {
        // Each line back as it comes.
        let frames = body.into_data_stream();
        let back = futures_util::StreamExt::map(frames, |data| {
            let text = String::from_utf8(data?.to_vec()).unwrap();
            let back = text.lines().map(|line| format!("{{\"result\":{line}}}\n")).collect::<String>();
            Ok(Frame::data(Bytes::from(back)))
        });
        return response.body(BodyExt::boxed(StreamBody::new(back))).unwrap();
    }
    let text = body.collect().await.unwrap().to_bytes();
    if method == "ClientStream" {
        let said = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let said: Vec<Value> = said.map(|line| serde_json::from_slice(line).unwrap()).collect();
        let number = |said: &Value| said["number"].as_str().map_or(0, |number| number.parse::<u64>().unwrap());
        let text: String = said.iter().filter_map(|said| said["text"].as_str()).collect();
        let sum = json!({ "number": said.iter().map(number).sum::<u64>(), "text": text });
        return response.body(full(sum.to_string())).unwrap();
    }
    let said: Value = serde_json::from_slice(&text).unwrap();
    let number: u64 = said["number"].as_str().map_or(0, |number| number.parse().unwrap());
    match method.as_str() {
        "Unary" => response.body(full(text)).unwrap(),
        "ServerStream" => {
            let each = |number: u64| json!({ "result": { "text": said["text"], "number": number.to_string() } });
            response.body(full(lines((0..number).map(each)))).unwrap()
        }
        "Fail" => {
            let problem = json!({ "title": "no", "detail": said["text"], "status": 418, "grpcStatus": number });
            response
                .status(418)
                .header("content-type", "application/problem+json")
                .body(full(problem.to_string()))
                .unwrap()
        }
        // What the contract does not know: an answer of another form.
        "SpeaksFirst" => response.body(full("{\"result\":{\"text\":\"first\"}}\n{\"other\":1}\n")).unwrap(),
        _ => std::future::pending().await,
    }
}

/// A country whose civil registry has this service in its gRPC service's place.
async fn country() -> (Country, mpsc::UnboundedReceiver<Vec<(String, String)>>) {
    let (mut country, _) = Country::new().await;
    let (address, heard) = serve().await;
    point(&mut country, address).await;
    (country, heard)
}

async fn point(country: &mut Country, address: SocketAddr) {
    let path = country.realm.path(&country.moj.file());
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("address = \"http://").unwrap();
    let (_, rest) = rest.split_once("\"\n").unwrap();
    let rest = rest.trim_start_matches("speaks = \"json\"\n");
    std::fs::write(&path, format!("{before}address = \"http://{address}/api\"\nspeaks = \"json\"\n{rest}")).unwrap();
    country.realm.restart(&country.moj).await;
}

/// What the service promises, whatever it speaks.
async fn keeps_its_contract(country: &Country) {
    let mut client = client(&country.portal, &country.moj);
    let all = Said { text: "Xin chào".into(), bytes: vec![0, 255], number: u64::MAX };
    let mut request = tonic::Request::new(all.clone());
    request.metadata_mut().insert("x-trace", "7".parse().unwrap());
    let answer = soon(client.unary(request)).await.unwrap();
    assert_eq!(answer.metadata().get("x-trace").unwrap(), "7");
    assert_eq!(answer.into_inner(), all);

    let asked = Said { number: 3, ..said("a") };
    let mut answers = soon(client.server_stream(asked)).await.unwrap().into_inner();
    let mut numbers = Vec::new();
    while let Some(said) = soon(answers.message()).await.unwrap() {
        numbers.push((said.text, said.number));
    }
    assert_eq!(numbers, [("a".to_owned(), 0), ("a".to_owned(), 1), ("a".to_owned(), 2)]);

    let stream = tokio_stream::iter([Said { number: 3, ..said("a") }, Said { number: 4, ..said("b") }]);
    let sum = soon(client.client_stream(stream)).await.unwrap().into_inner();
    assert_eq!((sum.number, sum.text.as_str()), (7, "ab"));

    // Each is answered before the next is said.
    let (says, from) = mpsc::channel(1);
    says.send(said("first")).await.unwrap();
    let mut answers = soon(client.both(tests::echo::says(from))).await.unwrap().into_inner();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().text, "first");
    says.send(said("second")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().text, "second");
    drop(says);
    assert_eq!(soon(answers.message()).await.unwrap(), None);

    let failed = soon(client.fail(Said { number: 5, ..said("không có") })).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::NotFound, "không có"));
    let json = country.said("Unary", r#"{"text":"JSON"}"#).await;
    assert_eq!((json.status(), json.json()), (200, json!({ "text": "JSON" })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_speaks_json_keeps_the_contract_of_one_that_speaks_grpc() {
    let (mut country, _heard) = Country::new().await;
    keeps_its_contract(&country).await;
    let (address, mut heard) = serve().await;
    point(&mut country, address).await;
    keeps_its_contract(&country).await;
    let fields = heard.recv().await.unwrap();
    let field = |name: &str| fields.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str());
    assert_eq!(field("causeway-consumer"), Some(country.portal.subsystem.as_str()));
    assert_eq!((field("content-type"), field("accept")), (Some("application/json"), Some("application/json")));
    assert_eq!((field("te"), field("grpc-accept-encoding")), (None, None));
    country.realm.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_contract_s_is_told_as_the_service_s_failure() {
    let (mut country, _heard) = country().await;
    let mut asking = client(&country.portal, &country.moj);
    let mut answers = soon(asking.speaks_first(tokio_stream::iter([said("a")]))).await.unwrap().into_inner();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().text, "first");
    let failed = soon(answers.message()).await.unwrap_err();
    assert!(failed.code() == Code::Internal && failed.message().contains("neither"), "{failed}");
    // A compressed message is not translated, and says so.
    let request = Request::post(format!("http://{}/echo.v1.Echo/Unary", country.door()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("causeway-service", &country.moj.subsystem)
        .header("causeway-purpose", PURPOSE);
    let compressed = Bytes::from_static(b"\x01\0\0\0\x01a");
    let answer = soon(raw::Client::to(country.door()).await.call(request, compressed)).await;
    let ended = answer.trailers.as_ref().unwrap_or(&answer.head.headers);
    assert_eq!(ended["grpc-status"], "12", "{answer:?}");
    // Who hangs up is gone for the service too; and one that is not there is told.
    let hanging = tokio::spawn(async move { asking.hang(said("a")).await });
    soon(async {
        while country.realm.servers["moj"].server.running() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    hanging.abort();
    country.quiet().await;
    point(&mut country, reserved()).await;
    let failed = soon(client(&country.portal, &country.moj).unary(said("a"))).await.unwrap_err();
    assert!(failed.code() == Code::Unavailable && failed.message().contains("out of reach"), "{failed}");
    country.realm.stops().await;
}
