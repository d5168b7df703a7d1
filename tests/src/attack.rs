//! Where an attacker stands: on the line to the provider's server, with all that the consumer's server has; or in the
//! provider's place, before the consumer's server.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use journal::faulty::Faulty;
use proto::identifier::ExchangeId;
use proto::message::{End, Header};
use proto::transport::encode;
use proto::wire::relay as wire;

use crate::echo::said;
use crate::forged_log::Owner;
use crate::matrix::Came;
use crate::raw::{self, Answer};
use crate::rogue::{self, Rogue};
use crate::soon;
use crate::world::World;

/// What a rogue in the provider's place answers to an opening: bytes, a run at a time.
pub type Answers = Arc<dyn Fn(wire::Frame) -> Pin<Box<dyn Future<Output = Vec<Bytes>> + Send>> + Send + Sync>;

/// A world whose logs are in memory: nothing of it is about disks.
pub async fn world() -> World {
    arranged(|_| {}).await
}

/// The same, with this service in the echo service's place.
pub async fn world_with(service: SocketAddr) -> World {
    arranged(|world| world.service = service).await
}

async fn arranged(arrange: impl FnOnce(&mut World)) -> World {
    let world = World::arranged(async |world| {
        world.members.values_mut().for_each(|member| member.log = Faulty::new());
        arrange(world);
    })
    .await;
    world.grant_all().await;
    world
}

/// Takes the evidence of an exchange out of this member's log, and verifies it as a stranger does, with the anchor alone.
/// How many of the exchange's messages it holds.
pub fn evidence(world: &World, name: &str, exchange: ExchangeId) -> Result<usize, String> {
    let server = &world.servers[name].server;
    let records = server.message_log.find(exchange).unwrap();
    let file = security_server::evidence::file(server, exchange, &records).map_err(|error| error.to_string())?;
    let report = proto::evidence::verify(&file, world.anchor()).map_err(|error| error.to_string())?;
    match report.refused() {
        None => Ok(report.findings.iter().filter(|finding| finding.step == "5.4").count()),
        Some(_) => Err(report.to_string()),
    }
}

/// A rogue with the portal's keys, at the civil registry's door.
pub struct AtProvider {
    pub world: World,
    pub rogue: Rogue,
    pub owner: Owner,
    pub client: raw::Client,
    /// Messages that were kept as disproved.
    pub withheld: usize,
}

impl AtProvider {
    pub async fn new() -> Self {
        Self::of(world().await).await
    }

    pub async fn of(world: World) -> Self {
        let (rogue, owner) = (Rogue::of(&world, "portal"), Owner::of(&world, "portal"));
        let client = rogue.connect(&world, "moj").await;
        Self { world, rogue, owner, client, withheld: 0 }
    }

    /// What comes of a request of these frames.
    pub async fn came_of(&mut self, frames: &[wire::Frame]) -> Came {
        let body: Vec<u8> = frames.iter().flat_map(encode).collect();
        self.came(body.into()).await
    }

    /// What comes of a request of these bytes.
    pub async fn came(&mut self, body: Bytes) -> Came {
        let mut client = self.client.clone();
        self.came_by(&mut client, body).await
    }

    /// The same on another connection.
    pub async fn came_by(&mut self, client: &mut raw::Client, body: Bytes) -> Came {
        let known = self.world.records("moj");
        let answer = soon(client.call(rogue::exchange(), body)).await;
        self.world.quiet().await;
        let recorded = self.world.recorded("moj", known);
        Came { end: end_of(&answer), recorded: theirs(recorded, &mut self.withheld), reached: self.heard() }
    }

    /// How many calls the civil registry's service has heard since it was asked last.
    pub fn heard(&mut self) -> usize {
        std::iter::from_fn(|| self.world.heard.try_recv().ok()).count()
    }
}

/// A rogue with the civil registry's keys and in its place, asked by the portal's server for a client.
pub struct AtConsumer {
    pub world: World,
    pub owner: Owner,
    pub client: raw::Client,
    answers: Arc<Mutex<Answers>>,
    /// Messages that were kept as disproved.
    pub withheld: usize,
}

impl AtConsumer {
    pub async fn new() -> Self {
        let mut world = world().await;
        let silent: Answers = Arc::new(|_| Box::pin(ready(Vec::new())));
        let answers = Arc::new(Mutex::new(silent));
        let answering = Arc::clone(&answers);
        Rogue::takes_over(&mut world, "moj", move |request| {
            let answering = Arc::clone(&answering);
            async move {
                let opening = rogue::first_frame(request).await;
                let answer = Arc::clone(&answering.lock().unwrap());
                rogue::streamed_bytes(answer(opening).await)
            }
        })
        .await;
        let (owner, client) = (Owner::of(&world, "moj"), world.raw().await);
        Self { world, owner, client, answers, withheld: 0 }
    }

    /// From now on it answers so.
    pub fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    /// What comes of a call that is answered so.
    pub async fn came(&mut self, answer: impl Fn(wire::Frame) -> Vec<Bytes> + Send + Sync + 'static) -> Came {
        self.answer(Arc::new(move |opening| Box::pin(ready(answer(opening)))));
        let known = self.world.records("portal");
        let answer = soon(self.client.call(self.world.post("Unary"), raw::message(&said("asked")))).await;
        self.world.quiet().await;
        let recorded = self.world.recorded("portal", known);
        Came { end: told(&answer), recorded: theirs(recorded, &mut self.withheld), reached: messages(&answer.body) }
    }
}

/// How an answer ended, as a peer gets it. A refusal without a seal is a code and no word more.
pub fn end_of(answer: &Answer) -> String {
    if let Some(code) = answer.refusal() {
        assert!(answer.field("grpc-message").is_none() && answer.body.is_empty(), "{code} is said bare");
        return code.to_owned();
    }
    let last = rogue::frames(answer).pop().map(|frame| Header::parse(frame.header).unwrap().end.clone());
    match last {
        Some(Some(End::Refused(code))) => format!("refused {code}"),
        Some(Some(End::Abort(cause))) => format!("abort {}", cause.as_str_name().to_lowercase()),
        Some(Some(End::Trailers { status, .. })) => format!("status {status}"),
        Some(Some(End::HalfClose) | None) | None => "no end".to_owned(),
    }
}

/// How an answer ended, as a client is told.
pub fn told(answer: &Answer) -> String {
    answer.refusal().map_or_else(|| format!("status {}", answer.status()), str::to_owned)
}

/// How many gRPC messages these bytes hold, the last perhaps not whole.
pub fn messages(body: &Bytes) -> usize {
    let (mut body, mut count) = (body.clone(), 0);
    while body.has_remaining() {
        let length =
            body.get(1..5).map_or(usize::MAX, |length| u32::from_be_bytes(length.try_into().unwrap()) as usize);
        body.advance(body.remaining().min(length.saturating_add(5)));
        count += 1;
    }
    count
}

/// Of what was recorded, what the other side said and how it ended. Our own messages depend on who was faster; of what
/// was disproved a few are kept of a peer and hour, and they are counted.
fn theirs(recorded: Vec<String>, withheld: &mut usize) -> Vec<String> {
    *withheld += recorded.iter().filter(|line| *line == "withheld").count();
    recorded.into_iter().filter(|line| line != "withheld" && !line.starts_with("sent ")).collect()
}
