//! Refusals and failures as HTTP says them: problem documents (RFC 9457), with the code, the remedy and the language that a gRPC
//! caller gets.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use prost::Message;
use prost_reflect::DescriptorPool;
use proto::refusal::{Any, Code, Language, Speaker, Status, said_by};
use serde_json::{Map, Value, json};

use crate::body::{Outgoing, outgoing};
use crate::fields;
use crate::refusal::Refusal;

/// The content type of a problem document.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Longest detail of a status that is written as JSON.
const MAX_DETAIL_BYTES: usize = 64 * 1024;
/// Most details of a status that are told.
const MAX_DETAILS: usize = 16;

/// gRPC's statuses by number: the name, and the HTTP status that google.rpc.Code gives to it.
const STATUSES: [(&str, StatusCode); 17] = [
    ("OK", StatusCode::OK),
    // 499, which has no name.
    ("CANCELLED", StatusCode::BAD_REQUEST),
    ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
    ("INVALID_ARGUMENT", StatusCode::BAD_REQUEST),
    ("DEADLINE_EXCEEDED", StatusCode::GATEWAY_TIMEOUT),
    ("NOT_FOUND", StatusCode::NOT_FOUND),
    ("ALREADY_EXISTS", StatusCode::CONFLICT),
    ("PERMISSION_DENIED", StatusCode::FORBIDDEN),
    ("RESOURCE_EXHAUSTED", StatusCode::TOO_MANY_REQUESTS),
    ("FAILED_PRECONDITION", StatusCode::BAD_REQUEST),
    ("ABORTED", StatusCode::CONFLICT),
    ("OUT_OF_RANGE", StatusCode::BAD_REQUEST),
    ("UNIMPLEMENTED", StatusCode::NOT_IMPLEMENTED),
    ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR),
    ("UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
    ("DATA_LOSS", StatusCode::INTERNAL_SERVER_ERROR),
    ("UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
];

/// What went wrong, told in HTTP.
pub(super) struct Problem {
    status: StatusCode,
    code: Option<Code>,
    language: Language,
    exchange: Option<HeaderValue>,
    said: Map<String, Value>,
}

impl Problem {
    /// A refusal at this door.
    pub(super) fn refused(refusal: &Refusal, language: Language, exchange: Option<HeaderValue>) -> Self {
        tracing::info!(code = %refusal.code(), %refusal, "refused");
        metrics::counter!("causeway_refusals_total", "code" => refusal.code().as_str()).increment(1);
        Self::of_code(refusal.code(), language, exchange, Speaker::ConsumerServer, refusal.detail())
    }

    /// What the end of a gRPC answer says. None: it ended well.
    pub(super) fn of_end(
        trailers: &HeaderMap,
        exchange: Option<HeaderValue>,
        language: Language,
        pool: &DescriptorPool,
    ) -> Option<Self> {
        let exchange = trailers.get(fields::EXCHANGE).cloned().or(exchange);
        let details = trailers.get(fields::GRPC_DETAILS).and_then(|details| {
            STANDARD_NO_PAD.decode(details.as_bytes().trim_ascii_end()).or(STANDARD.decode(details.as_bytes())).ok()
        });
        // Only our own server writes this field: what comes of peers and services is rid of it.
        let code = trailers.get(fields::REFUSAL).and_then(|code| code.to_str().ok()?.parse::<Code>().ok());
        if let Some(code) = code {
            let said_by = details.as_deref().and_then(said_by).unwrap_or(Speaker::ConsumerServer);
            return Some(Self::of_code(code, language, exchange, said_by, None));
        }
        let number = fields::grpc_status(trailers).unwrap_or(2);
        if number == 0 {
            return None;
        }
        let (name, status) = STATUSES
            .get(number as usize)
            .map_or(("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR), |(name, status)| (*name, *status));
        let status = if number == 1 { StatusCode::from_u16(499).unwrap_or(status) } else { status };
        let mut said = Map::new();
        said.insert("type".into(), "about:blank".into());
        said.insert("title".into(), name.into());
        said.insert("status".into(), status.as_u16().into());
        said.insert("detail".into(), fields::grpc_message(trailers).into());
        said.insert("grpcStatus".into(), number.into());
        said.insert("saidBy".into(), "service".into());
        let details = details.and_then(|details| Status::decode(details.as_slice()).ok()).unwrap_or_default().details;
        if !details.is_empty() {
            said.insert("details".into(), details.iter().take(MAX_DETAILS).map(|any| told(any, pool)).collect());
        }
        Some(Self { status, code: None, language, exchange, said })
    }

    fn of_code(
        code: Code,
        language: Language,
        exchange: Option<HeaderValue>,
        said_by: Speaker,
        detail: Option<&str>,
    ) -> Self {
        let said_by = code.speaker_or(said_by);
        let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut said = Map::new();
        said.insert("type".into(), format!("urn:causeway:refusal:{code}").into());
        said.insert("title".into(), code.title(language).into());
        said.insert("status".into(), status.as_u16().into());
        if let Some(detail) = detail {
            said.insert("detail".into(), detail.into());
        }
        said.insert("code".into(), code.as_str().into());
        said.insert("remedy".into(), code.remedy(language).into());
        said.insert("side".into(), code.side_when(said_by).as_str().into());
        said.insert("saidBy".into(), said_by.as_str().into());
        said.insert("grpcStatus".into(), code.grpc_status().into());
        Self { status, code: Some(code), language, exchange, said }
    }

    /// As an answer of its own.
    pub(super) fn response(self) -> Response<Outgoing> {
        let mut response = whole(self.status, PROBLEM, self.text());
        let headers = response.headers_mut();
        if let Some(code) = self.code {
            headers.insert(fields::REFUSAL, HeaderValue::from_static(code.as_str()));
            headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(self.language.tag()));
            if let Some(seconds) = code.retry_after_seconds() {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(exchange) = self.exchange {
            headers.insert(fields::EXCHANGE, exchange);
        }
        response
    }

    /// As a line of a stream whose head was sent.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut said = self.said.clone();
        if let Some(exchange) = self.exchange.as_ref().and_then(|exchange| exchange.to_str().ok()) {
            said.insert("exchange".into(), exchange.into());
        }
        Value::Object(said).to_string().into_bytes()
    }
}

/// Which server says the refusal in these trailers.
pub(super) fn said_of(trailers: &HeaderMap) -> Speaker {
    let details = trailers.get(fields::GRPC_DETAILS).and_then(|details| STANDARD_NO_PAD.decode(details).ok());
    details.as_deref().and_then(said_by).unwrap_or(Speaker::ConsumerServer)
}

/// The same, for as long as this is held: until it was read, or nobody reads it any more.
pub(super) fn whole_while(
    held: impl Send + Sync + 'static,
    status: StatusCode,
    kind: HeaderValue,
    text: Vec<u8>,
) -> Response<Outgoing> {
    let (sender, body) = outgoing(Some(Box::new(move || drop(held))));
    sender.whole(Bytes::from(text));
    let mut response = whole(status, kind, Vec::new());
    *response.body_mut() = body;
    response
}

/// A whole answer. None is kept by whoever stands between, and none is taken for something else.
pub(super) fn whole(status: StatusCode, kind: HeaderValue, text: Vec<u8>) -> Response<Outgoing> {
    let (sender, body) = outgoing(None);
    sender.whole(Bytes::from(text));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A detail as JSON writes it; in base64 where the service's descriptors do not say what it is.
fn told(any: &Any, pool: &DescriptorPool) -> Value {
    let kind = any.type_url.rsplit('/').next().and_then(|name| pool.get_message_by_name(name));
    let written = kind.and_then(|kind| catalogue::json::write(&kind, &any.value, MAX_DETAIL_BYTES).ok());
    match written.and_then(|text| serde_json::from_slice(&text).ok()) {
        Some(Value::Object(mut said)) => {
            said.insert("@type".into(), any.type_url.clone().into());
            Value::Object(said)
        }
        Some(value) => json!({ "@type": any.type_url, "value": value }),
        None => json!({ "@type": any.type_url, "value": STANDARD.encode(&any.value) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_wait_is_told_how_long() {
        for (code, seconds) in
            [(Code::CalledTooOften, Some("1")), (Code::TooManyExchanges, Some("1")), (Code::PurposeMissing, None)]
        {
            let response = Problem::refused(&Refusal::new(code, "a test"), Language::English, None).response();
            assert_eq!(response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap()), seconds, "{code}");
        }
    }
}
