//! gRPC-Web at the clients' door: the same call, for programs that cannot read HTTP/2's trailers. Of the answer they come as the
//! last frame of its body. It is for programs: a web page is refused here as everywhere at this door (`page.rs`).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::refusal::Code;
use tokio_util::sync::CancellationToken;

use super::json::{arrived, too_large};
use super::{Line, call, credential, is_a_call, language, refused};
use crate::body::{Outgoing, Sender, outgoing};
use crate::forward::OwnSource;
use crate::refusal::Refusal;
use crate::{SecurityServer, authenticate, fields};

/// What stands before the trailers in place of a message's flag.
const TRAILERS: u8 = 0x80;
/// Fields of HTTP/1.1 and of this form, which say nothing of the call.
const OF_HTTP: [HeaderName; 5] =
    [ACCEPT, header::ACCEPT_ENCODING, header::COOKIE, header::EXPECT, HeaderName::from_static("x-grpc-web")];
/// Fields to which HTTP, or what stands in front of a server, gives a meaning: a service that says one of them would speak to what
/// reads HTTP, and not to its caller.
const MEAN_MORE: [&str; 21] = [
    "age",
    "allow",
    "alt-svc",
    "cdn-cache-control",
    "clear-site-data",
    "etag",
    "expires",
    "last-modified",
    "link",
    "location",
    "pragma",
    "refresh",
    "retry-after",
    "server-timing",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "trailer",
    "vary",
    "www-authenticate",
    "x-sendfile",
];
/// How the names of more of them begin.
const MEAN_MORE_BY_FAMILY: [&str; 6] = ["access-control-", "content-", "cross-origin-", "proxy-", "sec-", "x-accel-"];

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As gRPC writes them.
    Binary,
    /// The same in base64: a call of one message, and its answer part by part.
    Text,
}

impl Form {
    /// That of a request. None: it is not gRPC-Web, or carries messages that are not protobuf's.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::named(headers.get(CONTENT_TYPE)?.to_str().ok()?)
    }

    fn named(kind: &str) -> Option<Self> {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/grpc-web" | "application/grpc-web+proto" => Some(Self::Binary),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => Some(Self::Text),
            _ => None,
        }
    }

    /// That in which the answer is wanted, where it is said.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        accepted.flat_map(|value| value.split(',')).find_map(Self::named)
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        })
    }

    fn written(self, bytes: Bytes) -> Bytes {
        match self {
            Self::Binary => bytes,
            Self::Text => STANDARD.encode(bytes).into(),
        }
    }
}

/// Answers a call, in the form that the caller accepts: the one it speaks, if it does not say.
pub(super) async fn answer(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<Incoming>,
    spoken: Form,
) -> Response<Outgoing> {
    let (language, form) = (language(request.headers()), Form::accepted(request.headers()).unwrap_or(spoken));
    let (head, body) = request.into_parts();
    // Before a field of the request's is left out, and before its body is read.
    let answer = match is_a_call(line, &head).and_then(|()| is_plain(&head.headers)) {
        Err(refusal) => Err(refusal),
        Ok(()) => match spoken {
            Form::Binary => {
                Ok(call(server, line, Request::from_parts(as_grpc(head), body), OwnSource::of_client).await)
            }
            Form::Text => match of_text(server, line, &head, body).await {
                Ok(body) => {
                    Ok(call(server, line, Request::from_parts(as_grpc(head), body), OwnSource::translated).await)
                }
                Err(refusal) => Err(refusal),
            },
        },
    };
    told(answer.unwrap_or_else(|refusal| refused(&refusal, language)), form)
}

/// A body that is compressed as a whole is none of gRPC's, whose messages may be so each.
fn is_plain(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
        return Err(Refusal::new(Code::ContentTypeUnknown, "a gRPC-Web body with a Content-Encoding"));
    }
    Ok(())
}

/// The call as gRPC says it.
fn as_grpc(mut head: Parts) -> Parts {
    OF_HTTP.iter().for_each(|name| _ = head.headers.remove(name));
    head.headers.insert(CONTENT_TYPE, fields::GRPC);
    head
}

/// Of a stranger no body is read whole: only in the binary form may it ask what is nobody's.
async fn of_text(server: &SecurityServer, line: &Line, head: &Parts, body: Incoming) -> Result<Outgoing, Refusal> {
    authenticate::known(&server.clients, &credential(&line.showed, &head.headers)?)?;
    decoded(server, body).await
}

/// The one message of a call out of base64. What is wrong with it is told before there is an exchange.
async fn decoded(server: &SecurityServer, body: Incoming) -> Result<Outgoing, Refusal> {
    let _permit = server.translation.permit()?;
    let most = server.translation.message_bytes();
    let text = arrived(body, most.saturating_add(most / 3).saturating_add(4)).await?;
    let message = unpadded(&text)?;
    if message.len() > most {
        return Err(too_large(most));
    }
    let (sender, body) = outgoing(None);
    sender.whole(message.into());
    Ok(body)
}

/// Parts of base64, one behind the other: where one ends within three bytes, padding says so.
fn unpadded(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len() / 4 * 3), text);
    while !rest.is_empty() {
        let padded = rest.iter().position(|byte| *byte == b'=');
        let end = padded.map_or(rest.len(), |at| (at / 4 * 4 + 4).min(rest.len()));
        let (part, behind) = rest.split_at(end);
        STANDARD
            .decode_vec(part, &mut bytes)
            .map_err(|error| Refusal::new(Code::MessageMalformed, format!("gRPC-Web's text is no base64: {error}")))?;
        rest = behind;
    }
    Ok(bytes)
}

/// The answer as gRPC-Web says it. One of trailers only stays one: what it says stands in its head.
fn told(response: Response<Outgoing>, form: Form) -> Response<Outgoing> {
    let (mut head, answer) = response.into_parts();
    let reads_http = |name: &HeaderName| {
        let name = name.as_str();
        MEAN_MORE.contains(&name) || MEAN_MORE_BY_FAMILY.iter().any(|family| name.starts_with(family))
    };
    let meant: Vec<_> = head.headers.keys().filter(|name| reads_http(name)).cloned().collect();
    meant.iter().for_each(|name| _ = head.headers.remove(name));
    head.headers.insert(CONTENT_TYPE, form.content_type());
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if head.headers.contains_key(fields::GRPC_STATUS) {
        return Response::from_parts(head, answer);
    }
    let gone = CancellationToken::new();
    let hung_up = gone.clone();
    let (sender, body) = outgoing(Some(Box::new(move || hung_up.cancel())));
    tokio::spawn(async move {
        // Dropped with what is left of the answer, the exchange is cancelled.
        tokio::select! { biased; () = gone.cancelled() => {} () = hand_on(answer, sender, form) => {} }
    });
    Response::from_parts(head, body)
}

/// Hands on what comes, no faster than it is read. What has no end is given none: its sender is dropped, and so it breaks off.
async fn hand_on(mut answer: Outgoing, mut sender: Sender, form: Form) {
    while let Some(Ok(frame)) = answer.frame().await {
        let (bytes, is_end) = match frame.into_data() {
            Ok(data) => (data, false),
            Err(frame) => (framed(&frame.into_trailers().unwrap_or_default()), true),
        };
        if sender.data(form.written(bytes)).await.is_err() {
            return;
        }
        if is_end {
            // Nobody misses it who is gone.
            let _ = sender.finish(None);
            return;
        }
    }
}

/// Trailers as a last frame: a field a line, as HTTP/1.1 writes them.
fn framed(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        text.put_slice(name.as_str().as_bytes());
        text.put_slice(b": ");
        text.put_slice(value.as_bytes());
        text.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(5 + text.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(text.len()).expect("metadata has its limit"));
    frame.unsplit(text);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_what_the_content_type_says_and_nothing_near_it() {
        for (kind, form) in [
            ("application/grpc-web", Some(Form::Binary)),
            ("Application/gRPC-Web+proto; charset=utf-8", Some(Form::Binary)),
            ("application/grpc-web-text", Some(Form::Text)),
            ("application/grpc-web-text+proto", Some(Form::Text)),
            ("application/grpc-web+json", None),
            ("application/grpc-webs", None),
            ("application/grpc", None),
            ("application/json", None),
        ] {
            assert_eq!(Form::named(kind), form, "{kind}");
        }
    }

    #[test]
    fn text_is_base64_in_parts_and_whatever_else_is_refused() {
        let read = |text: &str| unpadded(text.as_bytes()).ok();
        for (text, bytes) in
            [("", &b""[..]), ("AQID", b"\x01\x02\x03"), ("AQ==AgM=", b"\x01\x02\x03"), ("AQ==", b"\x01")]
        {
            assert_eq!(read(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["A", "AQ", "AQ=", "====", "AQ==A", "=AQ=", "AQ=A", "AR==", "AQID\n", "AQI_", "A=ID"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
