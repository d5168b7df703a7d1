//! The four agencies, and what each of them needs to run: a listener, peers to call, and a calendar.
//!
//! "Birth, once": a parent files a birth at the portal. The civil registry registers it and asks the population
//! register who the parents are; the population register issues the child's number; social insurance needs no more
//! than that number to issue the child's card.
//!
//! The archive is no part of that story: it shows how a large document comes whole over lines that break.

pub mod archive;
pub mod civil_registry;
pub mod field;
pub mod my_data;
pub mod population_register;
pub mod portal;
pub mod social_insurance;
pub mod synthetic_people;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, future, stream};
use time::{Date, OffsetDateTime, UtcOffset};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::service::Interceptor;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Status};

/// How long an agency waits for a peer's answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agency waits for a connection to a peer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for calls that are running.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls at once on one connection.
pub const MAX_CALLS_PER_CONNECTION: u32 = 1024;

/// An agency that serves. Dropped, it is told to stop; `shutdown` also waits until it has.
pub struct Running {
    address: SocketAddr,
    stop: DropGuard,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a client writes it.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more calls, ends open streams, lets running calls finish.
    pub async fn shutdown(self) {
        drop(self.stop);
        // What is cut off after that time is a caller that does not read its answer.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.served).await;
    }
}

/// Serves an agency's services until it is stopped. Only the agencies' own `start` functions call it.
fn serve(listener: TcpListener, stop: CancellationToken, services: Routes) -> std::io::Result<Running> {
    let address = listener.local_addr()?;
    let stopped = stop.clone().cancelled_owned();
    let serving = Server::builder()
        .max_concurrent_streams(Some(MAX_CALLS_PER_CONNECTION))
        .add_routes(services)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped);
    Ok(Running { address, stop: stop.drop_guard(), served: tokio::spawn(serving) })
}

/// A stream that an agency's shutdown ends, so that a stream nobody closes does not keep the agency alive.
fn until_stopped<T>(
    answers: impl Stream<Item = Result<T, Status>>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<T, Status>> {
    let farewell = stop.clone();
    answers.take_until(stop.cancelled_owned()).chain(
        stream::once(future::lazy(move |_| farewell.is_cancelled().then(|| Err(shutting_down()))))
            .filter_map(future::ready),
    )
}

fn shutting_down() -> Status {
    Status::unavailable("this agency is shutting down: call again later")
}

// ---- calling others

/// Another agency, as configured: where it is reached, and metadata to attach to each call.
#[derive(Clone)]
pub struct Peer {
    endpoint: Endpoint,
    attach: Attach,
}

/// Why a peer cannot be called as configured.
#[derive(Debug, thiserror::Error)]
pub enum NotAPeer {
    /// The address is not one.
    #[error("peer address {uri:?} is not http://HOST:PORT (example: http://127.0.0.1:8080)")]
    Uri {
        /// As configured.
        uri: String,
    },
    /// A metadata pair cannot be sent.
    #[error(
        "metadata {name:?} cannot be sent: a name is lower-case letters, digits, '-', '_' or '.' and does not end in \
         -bin, a value is printable ASCII (example: purpose=birth-registration)"
    )]
    Metadata {
        /// The pair's name, as configured. Its value may be a credential, so it is not shown.
        name: String,
    },
}

impl Peer {
    /// A peer at `uri`, each call to which carries `metadata`.
    pub fn new(uri: &str, metadata: &[(String, String)]) -> Result<Peer, NotAPeer> {
        let endpoint = uri
            .starts_with("http://")
            .then(|| Endpoint::from_shared(uri.to_owned()).ok())
            .flatten()
            .ok_or_else(|| NotAPeer::Uri { uri: uri.to_owned() })?
            .connect_timeout(CONNECT_TIMEOUT);
        let pair = |(name, value): &(String, String)| {
            // The library would lower capitals in silence, and send bytes that no gRPC peer need take.
            let sendable = !name.bytes().any(|byte| byte.is_ascii_uppercase())
                && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            let name_and_value = name.parse::<AsciiMetadataKey>().ok().zip(value.parse::<AsciiMetadataValue>().ok());
            name_and_value.filter(|_| sendable).ok_or_else(|| NotAPeer::Metadata { name: name.clone() })
        };
        let pairs = metadata.iter().map(pair).collect::<Result<Arc<[_]>, _>>()?;
        Ok(Peer { endpoint, attach: Attach(pairs) })
    }

    /// A line to it, for a generated client. It connects at the first call, and again whenever it must.
    pub fn line(&self) -> Line {
        InterceptedService::new(self.endpoint.connect_lazy(), self.attach.clone())
    }
}

/// A connection on which each call carries the peer's metadata.
pub type Line = InterceptedService<Channel, Attach>;

/// The metadata that a peer's calls carry.
#[derive(Clone)]
pub struct Attach(Arc<[(AsciiMetadataKey, AsciiMetadataValue)]>);

impl Interceptor for Attach {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in self.0.iter() {
            request.metadata_mut().append(name.clone(), value.clone());
        }
        Ok(request)
    }
}

/// A question to a peer, with the time that its answer may take.
fn question<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// What a caller is told when a peer that we needed did not answer. That it refused *us* is not the caller's fault, so
/// codes that would say so do not pass.
fn peer_failed(peer: &str, status: &Status) -> Status {
    let code = match status.code() {
        code @ (Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted) => code,
        // What has a source was never said by the peer: the line broke.
        _ if status.source().is_some() => Code::Unavailable,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, format!("{peer} did not answer ({:?}): {}", status.code(), status.message()))
}

// ---- days

/// What day it is, as the agency sees it: days of Viet Nam.
#[derive(Clone)]
pub struct Calendar(Arc<dyn Fn() -> Date + Send + Sync>);

impl Calendar {
    /// The day that `today` says, asked each time.
    pub fn new(today: impl Fn() -> Date + Send + Sync + 'static) -> Calendar {
        Calendar(Arc::new(today))
    }

    /// Always the same day.
    pub fn fixed(day: Date) -> Calendar {
        Calendar::new(move || day)
    }

    /// The machine's clock.
    pub fn of_the_machine() -> Calendar {
        let hanoi = UtcOffset::from_hms(7, 0, 0).expect("seven hours are an offset");
        Calendar::new(move || OffsetDateTime::now_utc().to_offset(hanoi).date())
    }

    fn today(&self) -> Date {
        (self.0)()
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({})", self.today())
    }
}
