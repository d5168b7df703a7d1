//! HTTP fields: which are carried, which are ours, and how ours are written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::identifier::ExchangeId;
use proto::message::Fields;
use proto::refusal::{Code, Language, Speaker, status_details};
use proto::transport::{MAX_FIELDS, MAX_METADATA_BYTES};

/// Which subsystem is asked. Set by the caller.
pub const SERVICE: HeaderName = HeaderName::from_static("causeway-service");
/// For which purpose. Set by the caller; the service gets it too.
pub const PURPOSE: HeaderName = HeaderName::from_static("causeway-purpose");
/// On which legal basis. Set by the caller.
pub const LEGAL_BASIS: HeaderName = HeaderName::from_static("causeway-legal-basis");
/// About whom, as a pseudonym. Set by the caller.
pub const SUBJECT: HeaderName = HeaderName::from_static("causeway-subject");
/// For whom the caller acts. Set by the caller.
pub const REPRESENTED_PARTY: HeaderName = HeaderName::from_static("causeway-represented-party");
/// The caller's credential. It never leaves the clients' door.
pub const TOKEN: HeaderName = HeaderName::from_static("causeway-token");
/// The exchange's id, in every answer and towards the service.
pub const EXCHANGE: HeaderName = HeaderName::from_static("causeway-exchange");
/// Who asks, towards the service.
pub const CONSUMER: HeaderName = HeaderName::from_static("causeway-consumer");
/// The code of a refusal.
pub const REFUSAL: HeaderName = HeaderName::from_static("causeway-refusal");
/// What is left of the caller's deadline.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How messages may be compressed that the caller is answered.
pub const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// The status of a call.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What a status says to people.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The details of a status, google.rpc.Status in base64.
pub const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// The content type of gRPC.
pub const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The fields that callers may set, each once. Every other `causeway-` field is refused.
pub const OF_CALLERS: [HeaderName; 6] = [SERVICE, PURPOSE, LEGAL_BASIS, SUBJECT, REPRESENTED_PARTY, TOKEN];

/// The most bytes that the encoding of one field adds to its name and value, within [`MAX_METADATA_BYTES`]: three tags,
/// and three lengths of two bytes.
const FIELD_OVERHEAD: usize = 9;

/// The fields that are carried: all but those of one hop and our own. None if they are beyond their limits.
pub fn from_headers(headers: &HeaderMap) -> Option<Fields> {
    let carried = headers.iter().filter(|(name, _)| !is_of_hop(name) && !is_ours(name));
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))
    };
    let fields: Fields = carried.map(field).collect();
    are_within(&fields).then_some(fields)
}

/// Whether so many fields are within their limits, those included that were added to what came.
pub fn are_within(fields: &Fields) -> bool {
    let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum();
    fields.len() <= MAX_FIELDS && bytes <= MAX_METADATA_BYTES
}

/// The fields as HTTP carries them. What crossed the border was checked there; a field that HTTP cannot carry is none.
pub fn to_headers(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_maybe_shared(value.clone());
        if let (Ok(name), Ok(value)) = (name, value)
            && !is_of_hop(&name)
            && !is_ours(&name)
        {
            headers.append(name, value);
        }
    }
    headers
}

/// Whether a field belongs to the bus.
pub fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("causeway-")
}

fn is_of_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "host"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "grpc-timeout"
            | "content-length"
    )
}

/// Whether the content type is gRPC's, with or without a suffix.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
    })
}

/// Whether the content type is gRPC's with messages of protobuf.
pub fn is_protobuf(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        let format = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(format.trim_ascii_end(), b"application/grpc" | b"application/grpc+proto")
    })
}

/// The gRPC status in trailers: said once, and in the one form of its number.
pub fn grpc_status(trailers: &HeaderMap) -> Option<u32> {
    let mut said = trailers.get_all(GRPC_STATUS).iter();
    let (Some(value), None) = (said.next(), said.next()) else { return None };
    let status: u32 = value.to_str().ok()?.parse().ok()?;
    (value.as_bytes() == status.to_string().as_bytes()).then_some(status)
}

/// What the status in trailers says to people, as it is meant.
pub fn grpc_message(trailers: &HeaderMap) -> String {
    let said = trailers.get(GRPC_MESSAGE).map(HeaderValue::as_bytes).unwrap_or_default();
    let (mut meant, mut rest) = (Vec::with_capacity(said.len()), said);
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                meant.push(byte);
                rest = &tail[2..];
            }
            // gRPC: what is no escape stands for itself.
            None => {
                meant.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&meant).into_owned()
}

/// The milliseconds of a `grpc-timeout`. `Err` where it is none; the gRPC specification allows eight digits.
pub fn timeout_ms(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(())?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    let number: u64 = digits.parse().map_err(|_| ())?;
    let ms = match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1_000,
        "m" => number,
        "u" => number.div_ceil(1_000),
        "n" => number.div_ceil(1_000_000),
        _ => return Err(()),
    };
    Ok(Some(ms.max(1)))
}

/// A `grpc-timeout` of at most eight digits that is never longer than what is left.
pub fn timeout_value(ms: u64) -> HeaderValue {
    let text = if ms <= 99_999_999 { format!("{ms}m") } else { format!("{}S", (ms / 1_000).min(99_999_999)) };
    HeaderValue::from_str(&text).expect("digits and a letter")
}

/// The exchange's id as a field's value.
pub fn exchange_value(exchange: &ExchangeId) -> HeaderValue {
    HeaderValue::from_str(&exchange.to_string()).expect("hexadecimal digits")
}

/// The trailers of a refusal that this server said (PROTOCOL.md 6.5). They are made of these four and of nothing else.
pub fn refusal(code: Code, language: Language, exchange: Option<&ExchangeId>, said_by: Speaker) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(6);
    let message = code.message(language);
    trailers.insert(GRPC_STATUS, HeaderValue::from(code.grpc_status()));
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_str(&percent_encoded(&message)).expect("it was just encoded"));
    trailers.insert(REFUSAL, HeaderValue::from_static(code.as_str()));
    let details = status_details(code, language, exchange.unwrap_or(&ExchangeId::from_bytes([0; 16])), said_by);
    let details = STANDARD_NO_PAD.encode(details);
    trailers.insert(GRPC_DETAILS, HeaderValue::from_str(&details).expect("base64"));
    if let Some(exchange) = exchange {
        trailers.insert(EXCHANGE, exchange_value(exchange));
    }
    trailers
}

/// The same without words: what a stranger is told.
pub fn bare_refusal(code: Code) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert(GRPC_STATUS, HeaderValue::from(code.grpc_status()));
    trailers.insert(REFUSAL, HeaderValue::from_static(code.as_str()));
    trailers
}

/// As gRPC writes `grpc-message`: everything but visible ASCII, and the percent sign, as %XX.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(value: &'static str) -> Result<Option<u64>, ()> {
        timeout_ms(&HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn what_is_protobuf_says_so_and_nothing_else() {
        let of = |kind: &'static str| {
            let value = HeaderValue::from_static(kind);
            is_protobuf(&HeaderMap::from_iter([(http::header::CONTENT_TYPE, value)]))
        };
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8"] {
            assert!(of(kind), "{kind}");
        }
        for kind in ["", "application/grpc+json", "application/grpc+proto2", "application/grpc-web", "application/json"]
        {
            assert!(!of(kind), "{kind}");
        }
        assert!(!is_protobuf(&HeaderMap::new()));
    }

    #[test]
    fn a_timeout_is_read_as_grpc_writes_it() {
        assert_eq!(timeout("1H"), Ok(Some(3_600_000)));
        assert_eq!(timeout("20S"), Ok(Some(20_000)));
        assert_eq!(timeout("1n"), Ok(Some(1)));
        for bad in ["", "S", "1", "-1S", "123456789S", "1x", "1.5S"] {
            assert_eq!(timeout(bad), Err(()), "{bad:?}");
        }
        assert_eq!(timeout_ms(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn duplicates_and_their_order_are_kept_and_ours_are_not_carried() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-a", "1"), ("te", "trailers"), ("x-a", "2"), ("causeway-token", "secret"), ("x-b-bin", "AAE")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let fields = from_headers(&headers).unwrap();
        let names: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        assert_eq!(names, [("x-a", &b"1"[..]), ("x-a", b"2"), ("x-b-bin", b"AAE")]);
        assert_eq!(to_headers(&fields).get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn a_status_is_said_once_and_in_one_form() {
        let status = |values: &[&'static str]| {
            let mut trailers = HeaderMap::new();
            values.iter().for_each(|value| _ = trailers.append(GRPC_STATUS, HeaderValue::from_static(value)));
            grpc_status(&trailers)
        };
        assert_eq!((status(&["0"]), status(&["16"])), (Some(0), Some(16)));
        for none in [&[][..], &["0", "7"], &["0", "0"], &["00"], &["+0"], &[" 0"], &["OK"], &["4294967296"]] {
            assert_eq!(status(none), None, "{none:?}");
        }
    }

    #[test]
    fn metadata_has_its_limits() {
        let with = |count: usize| {
            let mut headers = HeaderMap::new();
            (0..count).for_each(|n| _ = headers.append(HeaderName::from_static("x-a"), HeaderValue::from(n)));
            from_headers(&headers).is_some()
        };
        assert!(with(MAX_FIELDS));
        assert!(!with(MAX_FIELDS + 1));
    }

    #[test]
    fn a_message_is_read_as_grpc_writes_it_and_never_fails() {
        for text in ["", "100 % sicher", "Không tìm thấy\r\n", "%", "a%zz%4"] {
            let encoded = HeaderValue::from_str(&percent_encoded(text)).unwrap();
            assert_eq!(grpc_message(&HeaderMap::from_iter([(GRPC_MESSAGE, encoded)])), text);
        }
        for (said, meant) in
            [("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("a%20b", "a b"), ("%FF", "\u{fffd}"), ("%+1", "%+1")]
        {
            assert_eq!(grpc_message(&HeaderMap::from_iter([(GRPC_MESSAGE, HeaderValue::from_static(said))])), meant);
        }
    }

    #[test]
    fn a_refusal_is_readable_in_vietnamese() {
        let trailers = refusal(Code::GrantMissing, Language::Vietnamese, None, Speaker::ProviderServer);
        assert!(trailers[GRPC_MESSAGE].to_str().unwrap().contains("%E1%BA%A5"), "percent-encoded UTF-8");
    }
}
