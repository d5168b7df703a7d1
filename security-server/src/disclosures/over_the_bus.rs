//! The same for whoever was granted it, over the bus: a service that this server answers itself (PROTOCOL.md 21.6). It is called
//! like any other of ours, by a connection within this process, so that who looked is recorded like any other call.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use proto::identifier::SubsystemId;
use proto::transport::encode_alone;
use proto::wire::disclosures as wire;
use tokio::io::DuplexStream;

use super::{Asking, Disclosure, Disclosures};
use crate::SecurityServer;
use crate::body::{self, Outgoing};
use crate::fields;
use crate::in_process::{self, Answering};
use crate::message_log::exchanges::ResultKind;
use crate::relay::read_alone;

/// Its name, under `[[service]]` and in grants.
pub const SERVICE: &str = "causeway.disclosures.v1.Disclosures";
/// Its one method.
pub const LIST: &str = "/causeway.disclosures.v1.Disclosures/List";
/// Where its requests name the person.
pub(crate) const SUBJECT_FIELD: u32 = 1;
/// Longest question.
const MAX_ASKED_BYTES: usize = 4 * 1024;

const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// A connection to the service as this subsystem offers it.
pub(crate) fn connect(here: &Answering, provider: &SubsystemId) -> DuplexStream {
    let (here, provider) = (here.clone(), provider.clone());
    in_process::connection(move |request| answered(here.server(), provider.clone(), request))
}

async fn answered(
    server: Option<Arc<SecurityServer>>,
    provider: SubsystemId,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let (mut sender, body) = body::outgoing(None);
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
    let trailers = match listed(server, provider, request).await {
        Ok(told) => {
            // There is room for one run; a reader that is gone misses nothing.
            let _ = sender.data(encode_alone(&told)).await;
            ended(0, "")
        }
        Err((status, why)) => ended(status, &why),
    };
    let _ = sender.finish(Some(trailers));
    response
}

fn ended(status: u32, why: &str) -> HeaderMap {
    let mut trailers = HeaderMap::from_iter([(fields::GRPC_STATUS, HeaderValue::from(status))]);
    if let Some(why) = HeaderValue::from_str(why).ok().filter(|why| !why.is_empty()) {
        trailers.insert(fields::GRPC_MESSAGE, why);
    }
    trailers
}

async fn listed(
    server: Option<Arc<SecurityServer>>,
    provider: SubsystemId,
    request: Request<Incoming>,
) -> Result<wire::ListResponse, (u32, String)> {
    let server = server.ok_or((UNAVAILABLE, "the server begins or ends".to_owned()))?;
    if request.uri().path() != LIST {
        return Err((UNIMPLEMENTED, format!("{SERVICE} has the method List only")));
    }
    let this = request.headers().get(fields::EXCHANGE).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let invalid = |error: &dyn std::fmt::Display| (INVALID_ARGUMENT, error.to_string());
    let asked = read_alone::<wire::ListRequest>(request.into_body(), MAX_ASKED_BYTES).await;
    let wire::ListRequest { subject, since, until, before, limit } = asked.map_err(|error| invalid(&error))?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let limit = (limit > 0).then_some(limit as usize);
    let asking = Asking { subject, since: given(since), until: given(until), before: given(before), limit };
    let asked = server.asked_about(&asking).map_err(|error| invalid(&error))?.of(provider);
    // Reading whole segments is dear: a few at a time, and whoever asks more waits.
    let turn = Arc::clone(&server.subjects.turns).acquire_owned().await;
    let told = tokio::task::spawn_blocking(move || {
        let told = server.disclosures(&asked);
        drop(turn);
        told
    });
    let told = told.await;
    let told = told.map_err(|error| error.to_string()).and_then(|told| told.map_err(|error| error.to_string()));
    let Disclosures { server, not_covered, disclosures, next } = told.map_err(|error| {
        tracing::error!(%error, "who received what about a person cannot be told");
        (INTERNAL, "the message log cannot be read".to_owned())
    })?;
    Ok(wire::ListResponse {
        server: server.to_string(),
        not_covered: not_covered.iter().map(ToString::to_string).collect(),
        // This very look has no end yet: the next one shows it.
        disclosures: disclosures.into_iter().filter(|each| each.exchange != this).map(to_wire).collect(),
        next: next.unwrap_or_default(),
    })
}

fn to_wire(told: Disclosure) -> wire::Disclosure {
    let (purpose_en, purpose_vi) = told.purpose_text.map(|text| (text.en, text.vi)).unwrap_or_default();
    let result = match told.result {
        ResultKind::Open => wire::Result::Open,
        ResultKind::Answered => wire::Result::Answered,
        ResultKind::Refused => wire::Result::Refused,
        ResultKind::Aborted => wire::Result::Aborted,
        ResultKind::Unanswered => wire::Result::Unanswered,
    };
    wire::Disclosure {
        time: told.time,
        exchange: told.exchange,
        consumer: told.consumer,
        consumer_name: told.consumer_name,
        method: told.method,
        service: told.service.unwrap_or_default(),
        description: told.description.unwrap_or_default(),
        elements: told.elements.iter().map(ToString::to_string).collect(),
        purpose: told.purpose,
        purpose_en,
        purpose_vi,
        legal_basis: told.legal_basis,
        result: result.into(),
    }
}
