//! Long streams through each stack, down and up: megabytes a second, and by how much memory grows meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::figures::{self, Row, medians, ratio, rounded};
use super::load::Door;
use super::relay::served_by;
use super::stacks::Stack;
use crate::processes::programs_stand_in;
use crate::raw::{self, Body, BodySender};
use crate::wire::Said;

/// What is said first where the caller says the rest. Where the service does, it is how long each message is.
const UP: &str = "up";
/// How often memory is looked at in a stream.
const LOOKS: u64 = 16;
/// Bytes of a stream that counts for nothing, until buffers have grown.
const WARM: u64 = 1 << 20;

/// What is measured of streaming.
#[derive(clap::Args)]
pub struct Arguments {
    /// MiB of a stream, a row of the table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024])]
    mib: Vec<u64>,
    /// Bytes of a message, a row for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 65_536, 1_048_576])]
    bytes: Vec<u64>,
    /// How often each stack has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these of causeway, nginx and haproxy.
    #[arg(long, value_delimiter = ',', default_value = "causeway,nginx")]
    stacks: Vec<String>,
    /// Where `security-server` and `central-registry` stand. They are built, unless it is said.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Which side says the long part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Toward {
    Down,
    Up,
}

/// One row: where the messages go, how many MiB, bytes of each message.
type Kind = (Toward, u64, u64);
type Rounds = BTreeMap<Kind, Vec<(&'static str, Vec<Row>)>>;

/// Measures, and prints.
pub async fn run(arguments: Arguments, itself: PathBuf) {
    if let Some(programs) = arguments.programs.clone() {
        programs_stand_in(programs);
    }
    let (_service, address) = served_by(itself).await;
    let stacks = Stack::each(&arguments.stacks, address).await;
    let mut rounds = Rounds::new();
    for toward in [Toward::Down, Toward::Up] {
        for (mib, bytes) in arguments.mib.iter().flat_map(|mib| arguments.bytes.iter().map(move |bytes| (*mib, *bytes)))
        {
            let rows = rounds.entry((toward, mib, bytes)).or_default();
            rows.extend(stacks.iter().map(|stack| (stack.name, Vec::new())));
            for round in 1..=arguments.rounds {
                for (stack, (name, of_stack)) in stacks.iter().zip(rows.iter_mut()) {
                    eprintln!("{} {mib} MiB in messages of {bytes}, round {round}: {name}", toward.word());
                    of_stack.push(turn(stack, toward, mib << 20, bytes).await);
                }
            }
        }
    }
    if arguments.json {
        println!("{}", as_json(&rounds));
    } else {
        print!("{}", as_table(&rounds));
    }
}

impl Toward {
    fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

async fn turn(stack: &Stack, toward: Toward, bytes: u64, of_message: u64) -> Row {
    let mut requests = connect(&stack.door).await;
    let messages = |bytes: u64| (bytes / of_message).max(1);
    pass(&mut requests, &stack.door, toward, messages(WARM), of_message, |_| {}).await;
    let mut resident = stack.processes().map(figures::resident_mb);
    let (before, each) = (resident, (messages(bytes) / LOOKS).max(1));
    let began = Instant::now();
    pass(&mut requests, &stack.door, toward, messages(bytes), of_message, |number| {
        if number % each == 0 {
            let now = stack.processes().map(figures::resident_mb);
            resident = [resident[0].max(now[0]), resident[1].max(now[1])];
        }
    })
    .await;
    let took = began.elapsed().as_secs_f64();
    Row::from([
        ("mb_per_second", (messages(bytes) * of_message) as f64 / 1e6 / took),
        ("grew_mb_consumer", resident[0] - before[0]),
        ("grew_mb_provider", resident[1] - before[1]),
    ])
}

async fn connect(door: &Door) -> SendRequest<Body> {
    let stream = TcpStream::connect(door.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_connection_window_size(16 << 20).initial_stream_window_size(1 << 20);
    let (requests, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    requests
}

/// One stream of so many messages, each held against its number.
async fn pass(
    requests: &mut SendRequest<Body>,
    door: &Door,
    toward: Toward,
    messages: u64,
    of_message: u64,
    mut passed: impl FnMut(u64),
) {
    let mut request = Request::post(format!("http://{}/echo.v1.Echo/Both", door.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in &door.fields {
        request = request.header(*name, value);
    }
    let (mut sender, body) = Body::new(16);
    requests.ready().await.unwrap();
    let response = tokio::spawn(requests.send_request(request.body(body).unwrap()));
    let text = match toward {
        Toward::Down => of_message.to_string(),
        Toward::Up => UP.to_owned(),
    };
    sender.send_data(raw::message(&Said { number: messages, text, ..Default::default() })).await.unwrap();
    if toward == Toward::Up {
        for number in 0..messages {
            let bytes = vec![7; of_message as usize];
            sender.send_data(raw::message(&Said { number, bytes, ..Default::default() })).await.unwrap();
            passed(number);
        }
    }
    drop(sender);
    let mut heard = Messages::of(response.await.unwrap().unwrap().into_body());
    if toward == Toward::Up {
        let counted = heard.next().await.expect("it is counted").number;
        assert_eq!(counted, messages * of_message, "the service has heard another number of bytes");
    } else {
        for number in 0..messages {
            let said = heard
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ends at {number} of {messages}: {:?}", heard.status));
            assert!(said.number == number && said.bytes.len() as u64 == of_message, "message {number} is another one");
            passed(number);
        }
    }
    assert!(heard.next().await.is_none(), "more is said than was asked");
    assert_eq!(heard.status.as_deref(), Some("0"), "the stream did not end well");
}

/// The service's side of such a stream.
pub(super) fn served(request: Request<Incoming>) -> Response<Body> {
    let (sender, response) = raw::answer();
    tokio::spawn(say(Messages::of(request.into_body()), sender));
    response
}

/// A caller that goes is no fault of the service's: it says no more.
async fn say(mut heard: Messages, mut sender: BodySender) {
    let Some(asked) = heard.next().await else { return };
    if asked.text == UP {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(said) = heard.next().await {
            assert_eq!(said.number, messages, "a message came in another's place");
            (messages, bytes) = (messages + 1, bytes + said.bytes.len() as u64);
        }
        let _ = sender.send_data(raw::message(&Said { number: bytes, ..Default::default() })).await;
    } else {
        let of_message = asked.text.parse().expect("how long a message is");
        for number in 0..asked.number {
            let said = Said { number, bytes: vec![7; of_message], ..Default::default() };
            if sender.send_data(raw::message(&said)).await.is_err() {
                return;
            }
        }
    }
    let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
}

/// The messages of a body as they come, and its status behind them.
struct Messages {
    body: Incoming,
    come: BytesMut,
    status: Option<String>,
}

impl Messages {
    fn of(body: Incoming) -> Self {
        Self { body, come: BytesMut::new(), status: None }
    }

    async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(length) = self.come.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.come.len() >= 5 + length {
                    self.come.advance(5);
                    return Some(Said::decode(self.come.split_to(length)).unwrap());
                }
                self.come.reserve(length);
            }
            match self.body.frame().await?.ok()?.into_data() {
                Ok(data) => self.come.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok()?;
                    self.status =
                        trailers.get("grpc-status").and_then(|status| status.to_str().ok()).map(str::to_owned);
                }
            }
        }
    }
}

fn of<'r>(rows: &'r [(&'static str, Vec<Row>)], name: &str) -> Option<&'r [Row]> {
    rows.iter().find(|(is, _)| *is == name).map(|(_, rows)| rows.as_slice())
}

/// Of a stack, its speed beside nginx's of the same round.
fn beside_nginx(rows: &[(&'static str, Vec<Row>)], of_stack: &[Row]) -> Option<f64> {
    of(rows, "nginx").map(|theirs| rounded(ratio(of_stack, theirs, "mb_per_second")))
}

fn as_json(rounds: &Rounds) -> Value {
    let streams = rounds.iter().flat_map(|((toward, mib, bytes), rows)| {
        rows.iter().map(move |(stack, of_stack)| {
            let mut told = json!({
                "stack": stack, "way": toward.word(), "mib": mib, "message_bytes": bytes,
                "times_nginx": beside_nginx(rows, of_stack),
            });
            for (name, value) in medians(of_stack) {
                told[name] = json!(rounded(value));
            }
            told
        })
    });
    json!({ "streams": streams.collect::<Vec<_>>(), "machine": figures::machine() })
}

fn as_table(rounds: &Rounds) -> String {
    let mut table = format!(
        "{:<5} {:>6} {:>9} {:<9} {:>9} {:>8} {:>13} {:>13}\n",
        "way", "MiB", "message", "stack", "MB/s", "x nginx", "grew MB cons.", "grew MB prov."
    );
    for ((toward, mib, bytes), rows) in rounds {
        for (stack, of_stack) in rows {
            let row = medians(of_stack).into_iter().map(|(name, value)| (name, rounded(value))).collect::<Row>();
            let times = beside_nginx(rows, of_stack).map(|times| times.to_string()).unwrap_or_default();
            table += &format!(
                "{:<5} {mib:>6} {bytes:>9} {stack:<9} {:>9} {times:>8} {:>13} {:>13}\n",
                toward.word(),
                row["mb_per_second"],
                row["grew_mb_consumer"],
                row["grew_mb_provider"]
            );
        }
    }
    table
}
