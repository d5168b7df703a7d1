//! What a service says that it offers, by gRPC reflection v1: the few fields that are asked and read here.

use std::future::Future;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Limited};
use prost::Message;

use crate::body;
use crate::fields;
use crate::services::Service;

const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// Longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What a service offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Offered {
    /// These methods.
    Methods(Vec<String>),
    /// The service is not there; these are.
    Others(Vec<String>),
    /// It does not say.
    Unsaid,
    /// What answers is no gRPC, but HTTP with this status.
    NoGrpc(u16),
}

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, optional, tag = "4")]
    file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Listed>,
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    descriptors: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Listed {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// A `FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Described>,
}

#[derive(Clone, PartialEq, Message)]
struct Described {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Named>,
}

/// Why a service gave no answer at all: it accepts connections, and does not speak HTTP/2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Mute(#[from] hyper::Error);

/// Asks on a connection of the service's own.
pub(super) fn ask(
    service: &Service,
    mut connection: hyper::client::conn::http2::SendRequest<body::Outgoing>,
) -> impl Future<Output = Result<Offered, Mute>> {
    let path = PATH.parse().expect("it is a method's path");
    let (mut sender, outgoing) = body::outgoing(None);
    let mut request = Request::new(outgoing);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = service.uri(&path);
    request.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
    request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    let name = service.name().to_owned();
    // The list first: some servers end the stream where they do not know the symbol.
    let both = [
        Asked { file_containing_symbol: None, list_services: Some(String::new()) },
        Asked { file_containing_symbol: Some(name.clone()), list_services: None },
    ];
    async move {
        for asked in both {
            let _ = sender.data(framed(&asked)).await;
        }
        let _ = sender.finish(None);
        let (head, body) = connection.send_request(request).await?.into_parts();
        if head.status != http::StatusCode::OK || !fields::is_grpc(&head.headers) {
            return Ok(Offered::NoGrpc(head.status.as_u16()));
        }
        // What breaks off, or is too long, is not said.
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(offered(&name, &answers(body)))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut framed = BytesMut::with_capacity(5 + bytes.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(bytes.len()).expect("a name is short"));
    framed.put_slice(&bytes);
    framed.freeze()
}

fn answers(mut body: Bytes) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((prefix, _)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if prefix[0] != 0 || body.len() - 5 < length {
            break;
        }
        let message = body.slice(5..5 + length);
        body = body.slice(5 + length..);
        answers.extend(Answer::decode(message));
    }
    answers
}

fn offered(service: &str, answers: &[Answer]) -> Offered {
    let files = answers.iter().filter_map(|answer| answer.files.as_ref()).flat_map(|files| &files.descriptors);
    for descriptor in files.filter_map(|bytes| Descriptor::decode(bytes.clone()).ok()) {
        let full = |name: &str| {
            if descriptor.package.is_empty() { name.to_owned() } else { format!("{}.{name}", descriptor.package) }
        };
        if let Some(described) = descriptor.services.iter().find(|described| full(&described.name) == service) {
            return Offered::Methods(described.methods.iter().map(|method| method.name.clone()).collect());
        }
    }
    match answers.iter().find_map(|answer| answer.services.as_ref()) {
        Some(listed) => Offered::Others(listed.services.iter().map(|service| service.name.clone()).collect()),
        None => Offered::Unsaid,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_offered_is_read_from_the_descriptor_of_the_very_service() {
        let named = |name: &str| Named { name: name.into() };
        let described = Described { name: "Births".into(), methods: vec![named("Register"), named("Find")] };
        let descriptor = Descriptor { package: "civil.v1".into(), services: vec![described] };
        let files = Files { descriptors: vec![descriptor.encode_to_vec().into()] };
        let listed = Listed { services: vec![named("civil.v1.Births")] };
        let body = [
            framed(&Answer { files: Some(files), services: None }),
            framed(&Answer { files: None, services: Some(listed) }),
        ];
        let answers = answers(body.concat().into());
        assert_eq!(offered("civil.v1.Births", &answers), Offered::Methods(vec!["Register".into(), "Find".into()]));
        assert_eq!(offered("civil.v1.Deaths", &answers), Offered::Others(vec!["civil.v1.Births".into()]));
        assert_eq!(offered("civil.v1.Births", &[]), Offered::Unsaid);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            offered("a.B", &answers(bytes.clone().into()));
            let framed = [&[0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()][..], &bytes].concat();
            offered("a.B", &answers(framed.into()));
        }
    }
}
