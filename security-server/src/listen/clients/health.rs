//! `grpc.health.v1` at the clients' door: whether this server takes calls now, and calls of a service. Answered by this server
//! itself, and no exchange: how a provider is, only a call of it tells.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::Body;
use prost::Message;
use proto::identifier::{MethodPath, SubsystemId};
use proto::refusal::Code;
use proto::transport;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::frames::{Frames, Next};
use crate::body::{Outgoing, Sender, outgoing};
use crate::limits::{self, Limits};
use crate::listen::{Network, OPENING_TIMEOUT};
use crate::quota::{Share, Shares};
use crate::refusal::Refusal;
use crate::{SecurityServer, authorize, fields, listings};

/// Those who watch at once, at all doors together: strangers may, up to a half of them.
pub const MAX_WATCHES: usize = 256;
/// Questions that are read and answered at once, at all doors together; those of strangers are a half at the most.
pub const MAX_CHECKS: usize = 1024;
/// Longest question.
const MAX_QUESTION_BYTES: usize = 1024;
/// How often it is looked, for those who watch, at what nobody announces: the disk, the clock, the stamps.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A method of the service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// How it is now.
    Check,
    /// How it is now, and each time that it changes.
    Watch,
}

impl Method {
    /// The one that a path names.
    pub(super) fn asked(path: &MethodPath) -> Option<Self> {
        match path.as_str() {
            "/grpc.health.v1.Health/Check" => Some(Self::Check),
            "/grpc.health.v1.Health/Watch" => Some(Self::Watch),
            _ => None,
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// One of our systems.
    Client(SubsystemId),
    /// Nobody that is known, from there.
    Stranger(Network),
}

impl Asker {
    fn client(&self) -> Option<&SubsystemId> {
        match self {
            Self::Client(client) => Some(client),
            Self::Stranger(_) => None,
        }
    }
}

/// How many may ask.
pub(crate) struct Places {
    checks: OfKind,
    watches: OfKind,
}

struct OfKind {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    of_one: Arc<Shares<Asker>>,
}

/// One of them.
#[allow(dead_code, reason = "it is held, not read")]
struct Place(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>, Share<Asker>);

impl Places {
    pub(crate) fn within(limits: &Limits) -> Self {
        let of_one = limits::count(limits.health_of_one);
        let of_kind = |most: usize| OfKind {
            all: Arc::new(Semaphore::new(most)),
            strangers: Arc::new(Semaphore::new(most / 2)),
            of_one: Shares::of_each(of_one),
        };
        Self { checks: of_kind(MAX_CHECKS), watches: of_kind(MAX_WATCHES) }
    }
}

impl OfKind {
    fn take(&self, asker: &Asker) -> Option<Place> {
        let of_one = self.of_one.take(asker.clone())?;
        let strangers = match asker {
            Asker::Client(_) => None,
            Asker::Stranger(_) => Some(Arc::clone(&self.strangers).try_acquire_owned().ok()?),
        };
        Some(Place(Arc::clone(&self.all).try_acquire_owned().ok()?, strangers, of_one))
    }
}

/// grpc/health/v1/health.proto
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// grpc/health/v1/health.proto
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "Serving", tag = "1")]
    status: i32,
}

/// grpc/health/v1/health.proto, `ServingStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Serving {
    Unspecified = 0,
    Yes = 1,
    No = 2,
    ServiceUnknown = 3,
}

/// Answers a question: once, or as long as somebody listens.
pub(super) fn answer<B>(
    server: &Arc<SecurityServer>,
    method: Method,
    asker: Asker,
    question: B,
) -> Result<Response<Outgoing>, Refusal>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let places = match method {
        Method::Check => &server.health.checks,
        Method::Watch => &server.health.watches,
    };
    let too_many = || Refusal::new(Code::TooManyExchanges, "as many ask for this server's health as may");
    let place = places.take(&asker).ok_or_else(too_many)?;
    let (gone, server) = (CancellationToken::new(), Arc::clone(server));
    let hung_up = gone.clone();
    let (mut answers, body) = outgoing(Some(Box::new(move || hung_up.cancel())));
    tokio::spawn(async move {
        let _place = place;
        let telling = tell(&server, method, asker.client(), question, &mut answers);
        let code = tokio::select! { biased; () = gone.cancelled() => return, code = telling => code };
        let trailers = HeaderMap::from_iter([(fields::GRPC_STATUS, HeaderValue::from(i32::from(code)))]);
        // Nobody misses it who is gone.
        let _ = answers.finish(Some(trailers));
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, fields::GRPC);
    Ok(response)
}

/// Tells it, and with which status that ends.
async fn tell<B: Body<Data = Bytes> + Unpin>(
    server: &SecurityServer,
    method: Method,
    client: Option<&SubsystemId>,
    question: B,
    answers: &mut Sender,
) -> tonic::Code {
    let mut question = Frames::of(question, MAX_QUESTION_BYTES);
    let question = match tokio::time::timeout(OPENING_TIMEOUT, question.next()).await {
        Ok(Ok(Next::Message(question))) => HealthCheckRequest::decode(question),
        Ok(Ok(Next::End(_)) | Err(_)) => return tonic::Code::InvalidArgument,
        Err(_) => return tonic::Code::DeadlineExceeded,
    };
    let Ok(HealthCheckRequest { service }) = question else { return tonic::Code::InvalidArgument };
    let (mut told, mut versions) = (None, server.configuration.versions());
    let mut looked_up = None;
    loop {
        versions.mark_unchanged();
        let serving = serving(server, client, &service, &mut looked_up);
        if method == Method::Check && serving == Serving::ServiceUnknown {
            return tonic::Code::NotFound;
        }
        if told != Some(serving) {
            told = Some(serving);
            let answer = HealthCheckResponse { status: serving.into() };
            if answers.data(transport::encode_alone(&answer)).await.is_err() {
                return tonic::Code::Cancelled;
            }
        }
        match method {
            Method::Check => return tonic::Code::Ok,
            // Whoever watches does not keep a server from ending.
            Method::Watch if server.is_draining() => return tonic::Code::Unavailable,
            Method::Watch => tokio::select! {
                _ = versions.changed() => {}
                () = server.draining.cancelled() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            },
        }
    }
}

/// Of a service it is the same as of all, where the caller may see that there is one; what is closed to it is not told from what
/// is not there. The catalogue is looked through once for each version of the configuration: `looked_up` has what was found.
fn serving(
    server: &SecurityServer,
    client: Option<&SubsystemId>,
    service: &str,
    looked_up: &mut Option<(u64, bool)>,
) -> Serving {
    let moment = server.moment();
    // Without a configuration in force no call is taken, and nobody can be shown anything: the same of every name.
    let Ok(configuration) = moment.in_force() else { return Serving::No };
    let is_seen = |client: &SubsystemId| {
        let Ok(client) = authorize::at_home(&server.id, configuration, client.clone()) else { return false };
        let member = client.member();
        let mut listed = listings::seen(configuration, &member, None);
        server.bindings.contains_key(service) || listed.any(|listed| listed.service.as_str() == service)
    };
    let is_seen = match *looked_up {
        Some((version, is_seen)) if version == configuration.version => is_seen,
        _ => service.is_empty() || client.is_some_and(is_seen),
    };
    *looked_up = Some((configuration.version, is_seen));
    if !is_seen {
        return Serving::ServiceUnknown;
    }
    if server.takes_more().is_ok() { Serving::Yes } else { Serving::No }
}
