//! The load: a system of a member's, which asks, and a service, which is asked. Each is a process of its own that may be
//! killed or stopped at any time, and keeps a ledger.
//!
//! Every message's content follows from its number, so that each side knows of every byte that comes what it must be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use proto::digest::Digest;
use proto::refusal::Code;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

use super::admin::now;
use super::chance::Chance;
use super::ledger::{Ledger, Line};
use crate::processes::PURPOSE;
use crate::wire::Said;
use crate::wire::echo_client::EchoClient;
use crate::wire::echo_server::{Echo, EchoServer};
use crate::world::{Client, Fields};

/// Calls of one client that are made at once.
const CALLERS: u64 = 6;
/// Connections that they share.
const CONNECTIONS: u64 = 3;
/// The deadline of a unary call.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// The deadline of a stream, and the longest wait for one of its messages.
const STREAM_DEADLINE: Duration = Duration::from_secs(20);
/// Messages of an answer to what is granted at times.
const LENT_ANSWERS: u64 = 5;
/// What a client says that hangs up in the middle of a stream, and how long it tries to.
const GOODBYE: &str = "goodbye";
const SAYS_GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// Most messages of a stream.
const MOST_MESSAGES: u64 = 16;
/// What a failed call's details hold of its content.
const MOST_DETAILS: usize = 512;
/// The longest pause of a caller: this is a load, no flood.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Each call's number and how many messages its request has, as the client says them beside the request.
const NUMBER: &str = "x-number";
const COUNT: &str = "x-count";

// ---- what is said

/// Which message of a call.
#[derive(Clone, Copy)]
enum Part {
    Question(u64),
    Answer(u64),
}

fn content(number: u64, part: Part) -> Vec<u8> {
    let (way, index) = match part {
        Part::Question(index) => (1, index),
        Part::Answer(index) => (2, index),
    };
    let mut chance = Chance::of(&[number, way, index]);
    let longest = match chance.below(16) {
        0..=11 => 2_000,
        12..=14 => 20_000,
        _ => 300_000,
    };
    let length = usize::try_from(chance.below(longest)).unwrap();
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&chance.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn message(number: u64, part: Part) -> Said {
    let text = match part {
        Part::Question(index) | Part::Answer(index) => index.to_string(),
    };
    Said { number, text, bytes: content(number, part) }
}

/// The digest over all messages of one way.
#[derive(Default)]
struct Sum(Vec<u8>);

impl Sum {
    fn add(&mut self, said: &Said) {
        self.0.extend_from_slice(Digest::of(&[&said.bytes]).as_bytes());
    }

    fn digest(&self) -> String {
        Digest::of(&[&self.0]).to_string()
    }

    fn of_questions(number: u64, count: u64) -> String {
        let mut sum = Self::default();
        (0..count).for_each(|index| sum.add(&message(number, Part::Question(index))));
        sum.digest()
    }
}

fn details(number: u64) -> Bytes {
    let mut details = content(number, Part::Answer(0));
    details.truncate(MOST_DETAILS);
    details.into()
}

fn field<T: std::str::FromStr>(metadata: &MetadataMap, name: &str) -> Option<T> {
    metadata.get(name)?.to_str().ok()?.parse().ok()
}

/// Resolves when standard input ends, as it does with whoever started this.
fn until_told_to_end() -> CancellationToken {
    let stop = CancellationToken::new();
    std::thread::spawn({
        let stop = stop.clone();
        move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            stop.cancel();
        }
    });
    stop
}

// ---- the client

/// What a client is told.
#[derive(clap::Args, Debug)]
pub struct ClientArguments {
    /// The clients' door.
    #[arg(long)]
    pub door: SocketAddr,
    /// The subsystem to ask.
    #[arg(long)]
    pub provider: String,
    /// Where its ledger stands.
    #[arg(long)]
    pub ledger: PathBuf,
    /// The numbers of its calls begin here.
    #[arg(long)]
    pub first: u64,
    /// What it draws its calls from.
    #[arg(long)]
    pub seed: u64,
}

/// Calls until its standard input ends.
pub async fn client(arguments: ClientArguments) {
    let ledger = Arc::new(Ledger::append(&arguments.ledger));
    let stop = until_told_to_end();
    let endpoint = Endpoint::from_shared(format!("http://{}", arguments.door)).unwrap();
    let channels: Vec<_> = (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect();
    let next = Arc::new(AtomicU64::new(arguments.first));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let channel = channels[usize::try_from(caller % CONNECTIONS).unwrap()].clone();
        let chance = Chance::of(&[arguments.seed, arguments.first, caller]);
        let caller = Caller::over(channel, &arguments.provider, Arc::clone(&ledger), Arc::clone(&next), chance);
        callers.spawn(caller.call_until(stop.clone()));
    }
    println!("calls");
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

/// One that calls, and keeps the ledger.
pub struct Caller {
    client: Client,
    ledger: Arc<Ledger>,
    next: Arc<AtomicU64>,
    chance: Chance,
}

/// How a call of ours ended.
enum Outcome {
    Answered {
        exchange: String,
        status: u32,
        digest: String,
    },
    Broken(String),
    /// Something that must never be.
    Wrong(String),
}

impl Caller {
    /// With a connection of its own.
    pub fn new(door: SocketAddr, provider: &str, ledger: Arc<Ledger>, next: Arc<AtomicU64>, chance: Chance) -> Self {
        let channel = Endpoint::from_shared(format!("http://{door}")).unwrap().connect_lazy();
        Self::over(channel, provider, ledger, next, chance)
    }

    fn over(channel: Channel, provider: &str, ledger: Arc<Ledger>, next: Arc<AtomicU64>, chance: Chance) -> Self {
        let fields = vec![("causeway-service", provider.to_owned()), ("causeway-purpose", PURPOSE.into())];
        Self { client: EchoClient::with_interceptor(channel, Fields(fields)), ledger, next, chance }
    }

    /// Asks once: whether it was answered.
    pub async fn asks(&mut self, deadline: Duration) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.ask(number, deadline).await
    }

    async fn call_until(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Each number is asked once, whatever comes of it.
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            match self.chance.below(20) {
                0..=9 => _ = self.ask(number, CALL_DEADLINE).await,
                10..=11 => self.ask_for_a_failure(number).await,
                12 => self.ask_and_hang_up(number).await,
                13..=14 => self.ask_what_nobody_granted(number).await,
                15..=16 => self.ask_what_is_lent(number).await,
                17 => self.converse(number, true).await,
                _ => self.converse(number, false).await,
            }
            tokio::select! {
                () = stop.cancelled() => {}
                // A person's pause, or a program's.
                () = tokio::time::sleep(self.chance.up_to(LONGEST_PAUSE)) => {}
            }
        }
    }

    fn begin<T>(&self, number: u64, kind: &'static str, count: u64, body: T, deadline: Duration) -> Request<T> {
        let line = Line::Sent { number, at: now(), kind: kind.into(), count, digest: Sum::of_questions(number, count) };
        self.ledger.note(&line);
        let mut request = Request::new(body);
        request.set_timeout(deadline);
        for (name, value) in [(NUMBER, number), (COUNT, count)] {
            request.metadata_mut().insert(name, MetadataValue::from(value));
        }
        request
    }

    /// Notes how it ended: whether it was answered.
    fn end(&self, number: u64, count: u64, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Answered { exchange, status, digest } => {
                self.ledger.note_for_ever(&Line::Answered { number, exchange, count, status, digest });
                return true;
            }
            Outcome::Broken(why) => self.ledger.note(&Line::Broken { number, at: now(), why }),
            Outcome::Wrong(what) => self.ledger.note_for_ever(&Line::Wrong { number, what }),
        }
        false
    }

    async fn ask(&mut self, number: u64, deadline: Duration) -> bool {
        let request = self.begin(number, "unary", 1, message(number, Part::Question(0)), deadline);
        let outcome = match self.client.unary(request).await {
            Ok(answer) => answered(number, answer),
            Err(status) => broken(&status),
        };
        self.end(number, 1, outcome)
    }

    async fn ask_for_a_failure(&mut self, number: u64) {
        let request = self.begin(number, "fail", 1, message(number, Part::Question(0)), CALL_DEADLINE);
        let outcome = match self.client.fail(request).await {
            Ok(_) => Outcome::Wrong("a call that fails was answered with a message".into()),
            Err(status) if is_of_the_bus(&status) => broken(&status),
            Err(status) => {
                let expected = (tonic::Code::Aborted, number.to_string(), details(number));
                let found = (status.code(), status.message().to_owned(), Bytes::copy_from_slice(status.details()));
                match field::<String>(status.metadata(), "causeway-exchange") {
                    Some(exchange) if found == expected => {
                        let digest = Digest::of(&[status.details()]).to_string();
                        Outcome::Answered { exchange, status: status.code() as u32, digest }
                    }
                    other => Outcome::Wrong(format!("another failure: {other:?}, {status}")),
                }
            }
        };
        self.end(number, 1, outcome);
    }

    /// Hangs up at some moment of the call.
    async fn ask_and_hang_up(&mut self, number: u64) {
        let request = self.begin(number, "unary", 1, message(number, Part::Question(0)), CALL_DEADLINE);
        let patience = self.chance.up_to(Duration::from_millis(60));
        let outcome = match timeout(patience, self.client.unary(request)).await {
            Ok(Ok(answer)) => answered(number, answer),
            Ok(Err(status)) => broken(&status),
            Err(_) => Outcome::Broken("hung up".into()),
        };
        self.end(number, 1, outcome);
    }

    async fn ask_what_nobody_granted(&mut self, number: u64) {
        let question = tokio_stream::once(message(number, Part::Question(0)));
        let request = self.begin(number, "forbidden", 1, question, CALL_DEADLINE);
        let outcome = match self.client.client_stream(request).await {
            Ok(_) => Outcome::Wrong("a call without a grant was answered".into()),
            Err(status) => broken(&status),
        };
        self.end(number, 1, outcome);
    }

    /// Granted at times. The answer is several messages.
    async fn ask_what_is_lent(&mut self, number: u64) {
        let request = self.begin(number, "lent", 1, message(number, Part::Question(0)), STREAM_DEADLINE);
        let outcome = match timeout(STREAM_DEADLINE, self.client.server_stream(request)).await {
            Err(_) => Outcome::Broken("no answer in time".into()),
            Ok(Err(status)) => broken(&status),
            Ok(Ok(response)) => all_of(number, response).await,
        };
        self.end(number, 1, outcome);
    }

    /// A stream both ways: all is said at once, or each message is answered before the next is said.
    async fn converse(&mut self, number: u64, hangs_up: bool) {
        let count = 1 + self.chance.below(MOST_MESSAGES);
        let at_once = self.chance.below(3) == 0;
        let stays_for = if hangs_up { self.chance.below(count) } else { count };
        let (says, said) = mpsc::channel(1);
        let request = self.begin(number, "stream", count, ReceiverStream::new(said), STREAM_DEADLINE);
        let question = Question(Some(says));
        let called = timeout(STREAM_DEADLINE, self.client.both(request)).await;
        let outcome = match called {
            Err(_) => Outcome::Broken("no answer in time".into()),
            Ok(Err(status)) => broken(&status),
            Ok(Ok(response)) => {
                Conversation { number, count, stays_for, at_once }.until_its_end(response, question).await
            }
        };
        self.end(number, count, outcome);
    }
}

/// A stream's request. Dropped, it has no good end: it stays open until the bus ends it.
struct Question(Option<mpsc::Sender<Said>>);

impl Question {
    async fn say(&self, number: u64, index: u64) -> Result<(), mpsc::error::SendError<Said>> {
        let says = self.0.clone().expect("it has not ended");
        says.send(message(number, Part::Question(index))).await
    }

    async fn say_goodbye(&self, number: u64) -> Result<(), mpsc::error::SendError<Said>> {
        let says = self.0.clone().expect("it has not ended");
        says.send(Said { number, text: GOODBYE.into(), bytes: Vec::new() }).await
    }

    fn end_well(mut self) {
        self.0 = None;
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(says) = self.0.take() {
            tokio::spawn(async move { says.closed().await });
        }
    }
}

struct Conversation {
    number: u64,
    count: u64,
    stays_for: u64,
    at_once: bool,
}

impl Conversation {
    async fn until_its_end(&self, response: Response<Streaming<Said>>, question: Question) -> Outcome {
        let Some(exchange) = field::<String>(response.metadata(), "causeway-exchange") else {
            return Outcome::Wrong("an answer that names no exchange".into());
        };
        let mut answers = response.into_inner();
        let (number, mut sum) = (self.number, Sum::default());
        if self.at_once {
            let (question, until) = (Question(question.0.clone()), self.stays_for);
            tokio::spawn(async move {
                for index in 0..until {
                    let _ = question.say(number, index).await;
                }
                question.end_well();
            });
        }
        for index in 0..self.stays_for {
            if !self.at_once && question.say(number, index).await.is_err() {
                return Outcome::Broken("the request was broken off".into());
            }
            match timeout(STREAM_DEADLINE, answers.message()).await {
                Err(_) => return Outcome::Broken("no message in time".into()),
                Ok(Err(status)) => return broken(&status),
                Ok(Ok(None)) => {
                    return Outcome::Wrong(format!("{exchange}: {index} of {} answers, and a good end", self.count));
                }
                Ok(Ok(Some(said))) if said == message(number, Part::Answer(index)) => sum.add(&said),
                Ok(Ok(Some(said))) => {
                    return Outcome::Wrong(format!("{exchange}: answer {index} is another: {}", summary(&said)));
                }
            }
        }
        if self.stays_for < self.count {
            // tonic cannot cancel a request that goes on: a client that hangs up ends it, and this one says so.
            drop(answers);
            if let Ok(Ok(())) = timeout(SAYS_GOODBYE_WITHIN, question.say_goodbye(number)).await {
                question.end_well();
            }
            return Outcome::Broken("hung up".into());
        }
        question.end_well();
        match timeout(STREAM_DEADLINE, answers.message()).await {
            Err(_) => Outcome::Broken("no end in time".into()),
            Ok(Err(status)) => broken(&status),
            Ok(Ok(Some(said))) => Outcome::Wrong(format!("{exchange}: an answer too many: {}", summary(&said))),
            Ok(Ok(None)) => Outcome::Answered { exchange, status: 0, digest: sum.digest() },
        }
    }
}

fn answered(number: u64, answer: Response<Said>) -> Outcome {
    let Some(exchange) = field::<String>(answer.metadata(), "causeway-exchange") else {
        return Outcome::Wrong("an answer that names no exchange".into());
    };
    if field::<u64>(answer.metadata(), NUMBER) != Some(number) {
        return Outcome::Wrong(format!(
            "{exchange}: the answer's metadata are another call's: {:?}",
            answer.metadata()
        ));
    }
    let said = answer.into_inner();
    if said != message(number, Part::Answer(0)) {
        return Outcome::Wrong(format!("{exchange}: another answer: {}", summary(&said)));
    }
    let mut sum = Sum::default();
    sum.add(&said);
    Outcome::Answered { exchange, status: 0, digest: sum.digest() }
}

async fn all_of(number: u64, response: Response<Streaming<Said>>) -> Outcome {
    let Some(exchange) = field::<String>(response.metadata(), "causeway-exchange") else {
        return Outcome::Wrong("an answer that names no exchange".into());
    };
    let (mut answers, mut sum, mut index) = (response.into_inner(), Sum::default(), 0);
    loop {
        match timeout(STREAM_DEADLINE, answers.message()).await {
            Err(_) => return Outcome::Broken("no message in time".into()),
            Ok(Err(status)) => return broken(&status),
            Ok(Ok(Some(said))) if said == message(number, Part::Answer(index)) => sum.add(&said),
            Ok(Ok(Some(said))) => {
                return Outcome::Wrong(format!("{exchange}: answer {index} is another: {}", summary(&said)));
            }
            Ok(Ok(None)) if index == LENT_ANSWERS => {
                return Outcome::Answered { exchange, status: 0, digest: sum.digest() };
            }
            Ok(Ok(None)) => return Outcome::Wrong(format!("{exchange}: {index} answers, and a good end")),
        }
        index += 1;
    }
}

/// Whether it is the bus that refuses, or the line to it that broke: not the service's own word.
fn is_of_the_bus(status: &Status) -> bool {
    let metadata = status.metadata();
    metadata.contains_key("causeway-refusal") || !metadata.contains_key("causeway-exchange")
}

/// No answer. Every refusal is of the closed list.
fn broken(status: &Status) -> Outcome {
    let Some(code) = status.metadata().get("causeway-refusal") else {
        return Outcome::Broken(format!("{:?}: {}", status.code(), status.message()));
    };
    match code.to_str().ok().and_then(|code| code.parse::<Code>().ok()) {
        Some(code) => Outcome::Broken(code.to_string()),
        None => Outcome::Wrong(format!("a refusal that is not of the closed list: {code:?}")),
    }
}

fn summary(said: &Said) -> String {
    format!("{} {:?}, {} bytes", said.number, said.text, said.bytes.len())
}

// ---- the service

/// What a service is told.
#[derive(clap::Args, Debug)]
pub struct ServiceArguments {
    /// Where it listens.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where its ledger stands.
    #[arg(long)]
    pub ledger: PathBuf,
}

/// Serves until its standard input ends.
pub async fn service(arguments: ServiceArguments) {
    let ledger = Arc::new(Ledger::append(&arguments.ledger));
    let stop = until_told_to_end();
    let listener = TcpListener::bind(arguments.listen).await.unwrap();
    println!("serves");
    let incoming =
        TcpListenerStream::new(listener).map(|stream| stream.inspect(|stream| stream.set_nodelay(true).unwrap()));
    let serving = tonic::transport::Server::builder()
        .layer(MapRequestLayer::new(watched))
        .add_service(EchoServer::new(Service { ledger }))
        .serve_with_incoming(incoming);
    tokio::select! {
        served = serving => served.unwrap(),
        () = stop.cancelled() => {}
    }
}

struct Service {
    ledger: Arc<Ledger>,
}

/// A request's body, which remembers that it was broken off: tonic takes a cancelled request for one that ended well.
struct Watched {
    body: tonic::body::Body,
    broken_off: BrokenOff,
}

#[derive(Clone, Default)]
struct BrokenOff(Arc<AtomicBool>);

fn watched(request: http::Request<tonic::body::Body>) -> http::Request<tonic::body::Body> {
    let broken_off = BrokenOff::default();
    let mut request = request.map(|body| tonic::body::Body::new(Watched { body, broken_off: broken_off.clone() }));
    request.extensions_mut().insert(broken_off);
    request
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &frame {
            self.broken_off.0.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

type Says = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;

/// One call, as the service heard it.
struct Heard {
    ledger: Arc<Ledger>,
    number: u64,
    count: u64,
    exchange: String,
    sum: Sum,
}

impl Service {
    /// It is in the ledger before anything is done.
    fn hear<T>(&self, kind: &str, request: &Request<T>) -> Result<Heard, Status> {
        let metadata = request.metadata();
        let heard = Heard {
            ledger: Arc::clone(&self.ledger),
            number: field(metadata, NUMBER).unwrap_or_default(),
            count: field(metadata, COUNT).unwrap_or_default(),
            exchange: field(metadata, "causeway-exchange").unwrap_or_default(),
            sum: Sum::default(),
        };
        self.ledger.note_for_ever(&Line::Heard {
            number: heard.number,
            at: now(),
            exchange: heard.exchange.clone(),
            kind: kind.into(),
            consumer: field(metadata, "causeway-consumer").unwrap_or_default(),
        });
        Ok(heard)
    }
}

impl Heard {
    fn take(&mut self, index: u64, said: &Said) -> Result<(), Status> {
        if *said == message(self.number, Part::Question(index)) {
            self.sum.add(said);
            return Ok(());
        }
        Err(self.wrong(format!("question {index} is another: {}", summary(said))))
    }

    fn wrong(&self, what: String) -> Status {
        let what = format!("{}: {what}", self.exchange);
        self.ledger.note_for_ever(&Line::Wrong { number: self.number, what: what.clone() });
        Status::data_loss(what)
    }

    fn whole(&self) {
        let (number, exchange, count) = (self.number, self.exchange.clone(), self.count);
        self.ledger.note_for_ever(&Line::Whole { number, exchange, count, digest: self.sum.digest() });
    }

    fn answer<T>(&self, body: T) -> Response<T> {
        let mut response = Response::new(body);
        response.metadata_mut().insert(NUMBER, MetadataValue::from(self.number));
        response
    }
}

#[tonic::async_trait]
impl Echo for Service {
    async fn unary(&self, request: Request<Said>) -> Result<Response<Said>, Status> {
        let mut heard = self.hear("unary", &request)?;
        heard.take(0, request.get_ref())?;
        heard.whole();
        Ok(heard.answer(message(heard.number, Part::Answer(0))))
    }

    async fn fail(&self, request: Request<Said>) -> Result<Response<Said>, Status> {
        let mut heard = self.hear("fail", &request)?;
        heard.take(0, request.get_ref())?;
        heard.whole();
        Err(Status::with_details(tonic::Code::Aborted, heard.number.to_string(), details(heard.number)))
    }

    type BothStream = Says;
    async fn both(&self, request: Request<Streaming<Said>>) -> Result<Response<Says>, Status> {
        let mut heard = self.hear("stream", &request)?;
        let (number, count) = (heard.number, heard.count);
        let (says, answers) = mpsc::channel(1);
        let BrokenOff(broken_off) = request.extensions().get().cloned().unwrap_or_default();
        let mut questions = request.into_inner();
        let answered = heard.answer(());
        tokio::spawn(async move {
            let mut index = 0;
            let broken = loop {
                match questions.message().await {
                    Err(status) => break Some(status),
                    Ok(None) if broken_off.load(Ordering::Relaxed) => return,
                    Ok(None) if index < count => {
                        break Some(heard.wrong(format!("{index} of {count} questions, and a good end")));
                    }
                    Ok(None) => break None,
                    Ok(Some(said)) if said.text == GOODBYE => return,
                    Ok(Some(_)) if index == count => break Some(heard.wrong("a question too many".into())),
                    Ok(Some(said)) => {
                        if let Err(status) = heard.take(index, &said) {
                            break Some(status);
                        }
                        if says.send(Ok(message(number, Part::Answer(index)))).await.is_err() {
                            return;
                        }
                        index += 1;
                    }
                }
            };
            match broken {
                None => heard.whole(),
                Some(status) => _ = says.send(Err(status)).await,
            }
        });
        Ok(answered.map(|()| Box::pin(ReceiverStream::new(answers)) as Says))
    }

    /// Nobody is granted this: that it is heard is what must never be.
    async fn client_stream(&self, request: Request<Streaming<Said>>) -> Result<Response<Said>, Status> {
        Err(self.hear("forbidden", &request)?.wrong("nobody granted this".into()))
    }

    async fn hang(&self, _: Request<Said>) -> Result<Response<Said>, Status> {
        Err(Status::unimplemented("nobody asks it"))
    }

    type ServerStreamStream = Says;
    async fn server_stream(&self, request: Request<Said>) -> Result<Response<Says>, Status> {
        let mut heard = self.hear("lent", &request)?;
        heard.take(0, request.get_ref())?;
        heard.whole();
        let number = heard.number;
        let answers = (0..LENT_ANSWERS).map(move |index| Ok(message(number, Part::Answer(index))));
        Ok(heard.answer(Box::pin(tokio_stream::iter(answers))))
    }

    type SpeaksFirstStream = Says;
    async fn speaks_first(&self, _: Request<Streaming<Said>>) -> Result<Response<Says>, Status> {
        Err(Status::unimplemented("nobody asks it"))
    }
}
