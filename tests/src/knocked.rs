//! Clients' doors to knock at with whatever bytes there are: one behind which a gRPC service is, that is asked by JSON and
//! gRPC-Web too, and one of an application of X-Road's.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::country::Country;
use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, beginning, call, frame};
use crate::pets::PetTown;
use crate::processes::PURPOSE;

/// Longest wait for an answer. What takes longer waits for its caller, as streams do, and is hung up on.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many knocks are a second of the countries' clocks.
const KNOCKS_A_SECOND: u64 = 128;
/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// The doors, and the countries behind them.
pub struct Doors {
    doors: [SocketAddr; 2],
    _runtime: tokio::runtime::Runtime,
    country: Country,
    town: PetTown,
    knocked: AtomicU64,
}

impl Doors {
    pub fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (country, town) = runtime.block_on(async {
            let (country, mut heard) = Country::new().await;
            let mut town = PetTown::new().await;
            // Nobody asks what the services heard, and nothing holds the second half of a stream back.
            tokio::spawn(async move { while heard.recv().await.is_some() {} });
            let mut asked = std::mem::replace(&mut town.asked, tokio::sync::mpsc::unbounded_channel().1);
            tokio::spawn(async move { while asked.recv().await.is_some() {} });
            town.halves = tokio::sync::mpsc::unbounded_channel().0;
            (country, town)
        });
        let doors = [country.door(), town.door()];
        Self { doors, _runtime: runtime, country, town, knocked: AtomicU64::default() }
    }

    /// Says these bytes at the door that the first of them names, and hears the answer out.
    pub fn knock(&self, input: &[u8]) {
        let [which, said @ ..] = input else { return };
        // What is remembered for a time is forgotten in its time.
        if self.knocked.fetch_add(1, Ordering::Relaxed).is_multiple_of(KNOCKS_A_SECOND) {
            for realm in [&self.country.realm, &self.town.realm] {
                realm.pass(Duration::from_secs(1));
            }
        }
        let mut line =
            TcpStream::connect(self.doors[usize::from(*which) % self.doors.len()]).expect("the door is open");
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        line.set_nodelay(true).unwrap();
        // The door may hang up before it has heard all of it.
        _ = line.write_all(said);
        _ = line.shutdown(Shutdown::Write);
        _ = line.take(MAX_ANSWER_BYTES).read_to_end(&mut Vec::new());
    }
}

/// What is said to them in good order, to begin with.
pub fn knocks() -> Vec<Vec<u8>> {
    let (consumer, provider) = ("VN/GOV/portal/one-stop", "VN/GOV/moj/civil-registry");
    let ours = format!("Host: 127.0.0.1\r\ncauseway-service: {provider}\r\ncauseway-purpose: {PURPOSE}\r\n");
    let theirs = format!("Host: 127.0.0.1\r\nX-Road-Client: {consumer}\r\nX-Road-Id: 1\r\nX-Road-UserId: EE1\r\n");
    let base = format!("/r1/{provider}/pets.v1");
    let said = |door: u8, head: &str, fields: &str, body: &str| {
        let mut said = vec![door];
        said.extend(format!("{head} HTTP/1.1\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).bytes());
        said
    };
    let json = |method: &str, body: &str| {
        said(0, &format!("POST /echo.v1.Echo/{method}"), &format!("{ours}Content-Type: application/json\r\n"), body)
    };
    let web = format!("{ours}Content-Type: application/grpc-web-text\r\nX-Grpc-Web: 1\r\n");
    let chunked =
        format!("PUT {base}/pets/17 HTTP/1.1\r\n{theirs}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let mut grpc = vec![0];
    grpc.extend(beginning(&[]));
    let fields = [("causeway-service", provider), ("causeway-purpose", PURPOSE), ("grpc-timeout", "1S")];
    grpc.extend(frame(HEADERS, END_HEADERS, 1, &call("/echo.v1.Echo/Unary", &fields)));
    grpc.extend(frame(DATA, END_STREAM, 1, b"\0\0\0\0\x05\x0a\x03abc"));
    vec![
        json("Unary", r#"{"text":"a","number":"1","bytes":"AAA="}"#),
        json("ServerStream", r#"{"text":"a","number":"3"}"#),
        json("ClientStream", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n"),
        json("Fail", r#"{"text":"a","number":"5"}"#),
        said(0, "POST /echo.v1.Echo/Unary", &web, "AAAAAAUKA2FiYw=="),
        said(0, "POST /echo.v1.Echo/Unary", &web.replace("-text", ""), "\0\0\0\0\x05\n\x03abc"),
        said(0, "GET /openapi", &ours, ""),
        said(0, "GET /health", &ours, ""),
        said(1, &format!("GET {base}/pets/17?full=1"), &theirs, ""),
        said(
            1,
            &format!("POST {base}/pets"),
            &format!("{theirs}Content-Type: application/json\r\n"),
            r#"{"name":"a"}"#,
        ),
        said(1, "GET /listClients?xRoadInstance=VN", &theirs, ""),
        said(1, &format!("GET /r1/{provider}/listMethods"), &theirs, ""),
        said(1, &format!("GET /r1/{provider}/allowedMethods"), &theirs, ""),
        said(1, &format!("GET /r1/{provider}/getOpenAPI?serviceCode=pets.v1"), &theirs, ""),
        std::iter::once(1).chain(chunked.bytes()).collect(),
        grpc,
    ]
}
