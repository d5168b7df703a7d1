//! A refusal as `google.rpc.Status`, for `grpc-status-details-bin`: what any gRPC library's error-details reader knows.
//!
//! The messages are declared by hand: they are frozen upstream, and a dependency would bring forty more.

use std::collections::BTreeMap;

use prost::Message;

use super::{Code, Language, Speaker};
use crate::identifier::ExchangeId;

/// The `domain` of every ErrorInfo of ours: a `reason` is one of our codes only beside it.
pub const DOMAIN: &str = "causeway";

/// The bytes of `grpc-status-details-bin` for a refusal that this server said, before base64.
pub fn status_details(code: Code, language: Language, exchange: &ExchangeId, said_by: Speaker) -> Vec<u8> {
    let said_by = code.speaker_or(said_by);
    let reason = ErrorInfo {
        reason: code.as_str().into(),
        domain: DOMAIN.into(),
        metadata: BTreeMap::from([
            ("exchange".into(), exchange.to_string()),
            ("said-by".into(), said_by.as_str().into()),
            ("side".into(), code.side_when(said_by).as_str().into()),
        ]),
    };
    let text = LocalizedMessage { locale: language.tag().into(), message: code.message(language) };
    let mut details = vec![Any::of("google.rpc.ErrorInfo", &reason), Any::of("google.rpc.LocalizedMessage", &text)];
    if let Some(seconds) = code.retry_after_seconds() {
        let retry_delay = Some(Duration { seconds: seconds.into() });
        details.push(Any::of("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
    }
    // `message` as in `grpc-message`: readers of rich errors refuse details whose message is another one.
    Status { code: code.grpc_status() as i32, message: code.message(language), details }.encode_to_vec()
}

/// Which server said the refusal with these details. None: they are no refusal's.
pub fn said_by(details: &[u8]) -> Option<Speaker> {
    let status = Status::decode(details).ok()?;
    let reason = ErrorInfo::decode(status.details.first()?.value.as_slice()).ok()?;
    let said_by = reason.metadata.get("said-by").filter(|_| reason.domain == DOMAIN)?;
    [Speaker::ConsumerServer, Speaker::ProviderServer].into_iter().find(|speaker| speaker.as_str() == said_by)
}

/// google/rpc/status.proto
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// The gRPC status.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// For programs.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// google/protobuf/any.proto
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// Its type's name stands behind the last slash.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, encoded.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    fn of(name: &str, message: &impl Message) -> Any {
        Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
    }
}

/// google/rpc/error_details.proto
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    // Ordered, so that one refusal always has the same bytes.
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// google/rpc/error_details.proto
#[derive(Clone, PartialEq, Message)]
struct LocalizedMessage {
    #[prost(string, tag = "1")]
    locale: String,
    #[prost(string, tag = "2")]
    message: String,
}

/// google/rpc/error_details.proto
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

/// google/protobuf/duration.proto, in whole seconds
#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: ExchangeId = ExchangeId::from_bytes([7; 16]);
    /// What a gRPC server lets through in trailers by default is 8 KiB; ours is to stay far below.
    const MAX_DETAILS_BYTES: usize = 1536;

    #[test]
    fn details_name_the_code_the_domain_the_exchange_and_the_readers_language() {
        let bytes = status_details(Code::GrantMissing, Language::Vietnamese, &EXCHANGE, Speaker::ProviderServer);
        let status = Status::decode(bytes.as_slice()).unwrap();
        assert_eq!(status.code, 7);
        assert_eq!(status.message, Code::GrantMissing.message(Language::Vietnamese));

        assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.ErrorInfo");
        let reason = ErrorInfo::decode(status.details[0].value.as_slice()).unwrap();
        assert_eq!((reason.reason.as_str(), reason.domain.as_str()), ("GRANT_MISSING", "causeway"));
        assert_eq!(reason.metadata["exchange"], "07".repeat(16));
        assert_eq!((&*reason.metadata["side"], &*reason.metadata["said-by"]), ("provider-server", "provider-server"));

        assert_eq!(status.details[1].type_url, "type.googleapis.com/google.rpc.LocalizedMessage");
        let text = LocalizedMessage::decode(status.details[1].value.as_slice()).unwrap();
        assert_eq!(text.locale, "vi");
        assert!(text.message.contains(Code::GrantMissing.remedy(Language::Vietnamese)));
    }

    #[test]
    fn who_is_to_wait_is_told_how_long() {
        for &code in Code::ALL {
            let bytes = status_details(code, Language::English, &EXCHANGE, Speaker::ConsumerServer);
            let details = Status::decode(bytes.as_slice()).unwrap().details;
            let told = details.iter().find(|any| any.type_url == "type.googleapis.com/google.rpc.RetryInfo");
            // Field 1, a message of two bytes: field 1, the seconds.
            let seconds = told.map(|told| {
                assert_eq!((told.value.len(), &told.value[..3]), (4, &[0x0a, 2, 0x08][..]));
                u32::from(told.value[3])
            });
            assert_eq!(seconds, code.retry_after_seconds(), "{code}");
            // Whoever is limited by load is told; what is too large stays so, however long one waits.
            let is_too_large = code.http_status() != 429;
            assert_eq!(code.grpc_status() == 8 && !is_too_large, seconds.is_some(), "{code}");
        }
    }

    #[test]
    fn details_of_every_refusal_fit_into_trailers() {
        for &code in Code::ALL {
            for language in Language::ALL {
                let bytes = status_details(code, language, &EXCHANGE, Speaker::ConsumerServer);
                assert!(bytes.len() <= MAX_DETAILS_BYTES, "{code}: {} bytes", bytes.len());
                assert_eq!(bytes, status_details(code, language, &EXCHANGE, Speaker::ConsumerServer));
            }
        }
    }

    #[test]
    fn what_either_server_can_say_says_which_of_them_it_was() {
        for (said_by, side) in
            [(Speaker::ConsumerServer, "consumer-server"), (Speaker::ProviderServer, "provider-server")]
        {
            let bytes = status_details(Code::LogEnded, Language::English, &EXCHANGE, said_by);
            let status = Status::decode(bytes.as_slice()).unwrap();
            let reason = ErrorInfo::decode(status.details[0].value.as_slice()).unwrap();
            assert_eq!((&*reason.metadata["side"], &*reason.metadata["said-by"]), (side, side));
            assert_eq!(super::said_by(&bytes), Some(said_by));
        }
    }
}
