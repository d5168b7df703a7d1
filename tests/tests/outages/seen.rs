//! What an outage looks like from outside: refusals, health, counters, diagnostics, and what both logs hold.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use security_server::listen::operators::Health;
use tests::echo::said;
use tests::soon;
use tests::world::{Client, World};
use tonic::Status;
use tracing_subscriber::fmt::MakeWriter;

/// The refusal that a client got.
pub fn code(refused: &Status) -> String {
    let code = refused.metadata().get("causeway-refusal");
    code.unwrap_or_else(|| panic!("no refusal of the bus: {refused:?}")).to_str().unwrap().to_owned()
}

/// Calls once: the exchange that was answered, or the code of the refusal.
pub async fn call(client: &mut Client) -> Result<String, String> {
    match soon(client.unary(said("hello"))).await {
        Ok(answer) => Ok(answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned()),
        Err(refused) => Err(code(&refused)),
    }
}

/// The same, as a client does that gets a new connection for it.
pub async fn call_once(world: &World) -> Result<String, String> {
    call(&mut world.client().await).await
}

/// How this member's server is.
pub fn health(world: &World, name: &str) -> Health {
    world.servers[name].server.health()
}

/// Looks with this member's server, now.
pub async fn look(world: &World, name: &str) {
    let server = Arc::clone(&world.servers[name].server);
    tokio::task::spawn_blocking(move || server.look_around()).await.unwrap();
}

/// Waits until the server's own looking has found it so.
pub async fn until(world: &World, name: &str, so: impl Fn(&Health) -> bool) {
    soon(async {
        while !so(&health(world, name)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The ledger's check: both logs hold the request and the answer of each exchange that a caller was answered in.
pub fn assert_none_is_lost(world: &World, acknowledged: &[String]) {
    for exchange in acknowledged {
        for (name, request, answer) in [("portal", "sent", "received"), ("moj", "received", "sent")] {
            let log = world.log_of(name, exchange);
            for (kind, direction) in [(request, "request"), (answer, "answer")] {
                let whole = log.iter().any(|line| {
                    (line.kind, line.direction) == (kind, Some(direction))
                        && line.end.as_deref().is_some_and(|end| end == "half-close" || end == "status 0")
                });
                assert!(whole, "{exchange}: its {direction} is not in the log of {name}: {log:?}");
            }
        }
    }
}

/// Asks an operators' door.
pub async fn ask(door: SocketAddr, path: &str) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(door).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", door.to_string()).body(Empty::<Bytes>::new()).unwrap();
    let response = requests.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Diagnostics of every server in this process, from warnings on. Whoever reads them looks for a name of its own.
#[derive(Clone, Default)]
pub struct Diagnostics(Arc<Mutex<Vec<u8>>>);

impl Diagnostics {
    pub fn of_this_process() -> Self {
        static DIAGNOSTICS: LazyLock<Diagnostics> = LazyLock::new(|| {
            let diagnostics = Diagnostics::default();
            let lines = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
            lines.with_ansi(false).with_writer(diagnostics.clone()).init();
            diagnostics
        });
        DIAGNOSTICS.clone()
    }

    /// How many lines hold all of these.
    pub fn lines_with(&self, parts: &[&str]) -> usize {
        let bytes = self.0.lock().unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

impl io::Write for Diagnostics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Diagnostics {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
