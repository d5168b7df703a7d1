//! Identifiers (PROTOCOL.md 2). Matched byte for byte, never normalised: what is not of the grammar is refused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest segment of an identifier, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 64;
/// Longest gRPC method path, in bytes.
pub const MAX_PATH_BYTES: usize = 256;

/// Why a text is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}; {rule} (example: {example})")]
pub struct NotAnIdentifier {
    text: String,
    kind: &'static str,
    rule: &'static str,
    example: &'static str,
}

impl NotAnIdentifier {
    fn new(text: &str, kind: &'static str, rule: &'static str, example: &'static str) -> Self {
        let text = text.chars().take(120).collect();
        Self { text, kind, rule, example }
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $segments:literal, $rule:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAnIdentifier;
            fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
                if text.split('/').count() == $segments && text.split('/').all(is_segment) {
                    Ok(Self(text.into()))
                } else {
                    Err(NotAnIdentifier::new(text, $kind, $rule, $example))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identifier!(
    /// A whole country's or sector's bus: one registry, one configuration.
    InstanceId, "instance", 1,
    "it is one segment of 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    "VN"
);
identifier!(
    /// An agency: `INSTANCE/CLASS/MEMBER`.
    MemberId, "member", 3,
    "it is three segments INSTANCE/CLASS/MEMBER, each of 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    "VN/GOV/moj"
);
identifier!(
    /// One system of a member: `INSTANCE/CLASS/MEMBER/SUBSYSTEM`.
    SubsystemId, "subsystem", 4,
    "it is four segments INSTANCE/CLASS/MEMBER/SUBSYSTEM, each of 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    "VN/GOV/moj/civil-registry"
);
identifier!(
    /// A security server: `INSTANCE/CLASS/MEMBER/SERVER`, named after the member that owns it.
    ServerId, "security server", 4,
    "it is four segments INSTANCE/CLASS/MEMBER/SERVER, each of 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
    "VN/GOV/moj/ss1"
);

fn is_segment(segment: &str) -> bool {
    segment.len() <= MAX_SEGMENT_BYTES
        && segment.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl MemberId {
    /// The instance it belongs to.
    pub fn instance(&self) -> InstanceId {
        InstanceId(self.0.split('/').next().unwrap_or_default().into())
    }
}

impl SubsystemId {
    /// The member it belongs to.
    pub fn member(&self) -> MemberId {
        MemberId(owner(&self.0).into())
    }
}

impl ServerId {
    /// The member that owns it. It may host others too.
    pub fn owner(&self) -> MemberId {
        MemberId(owner(&self.0).into())
    }
}

fn owner(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(owner, _)| owner)
}

/// A gRPC method as it stands in `:path`: `/package.Service/Method`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodPath(Arc<str>);

impl MethodPath {
    /// The path as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full name of the gRPC service.
    pub fn service(&self) -> &str {
        self.0[1..].split_once('/').map_or("", |(service, _)| service)
    }
}

impl FromStr for MethodPath {
    type Err = NotAnIdentifier;
    fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
        let name = |text: &str, dots: bool| {
            text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || (dots && byte == b'.'))
        };
        let of_grammar = text.len() <= MAX_PATH_BYTES
            && text
                .strip_prefix('/')
                .and_then(|rest| rest.split_once('/'))
                .is_some_and(|(service, method)| name(service, true) && name(method, false));
        if of_grammar {
            Ok(Self(text.into()))
        } else {
            Err(NotAnIdentifier::new(
                text,
                "gRPC method path",
                "it is /package.Service/Method of letters, digits, '_' and '.', at most 256 bytes",
                "/civil.v1.Births/Register",
            ))
        }
    }
}

impl fmt::Display for MethodPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MethodPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One exchange: 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId([u8; 16]);

impl ExchangeId {
    /// From 16 bytes that the caller drew at random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for ExchangeId {
    type Error = NotAnIdentifier;
    fn try_from(bytes: &[u8]) -> Result<Self, NotAnIdentifier> {
        bytes.try_into().map(ExchangeId).map_err(|_| not_an_exchange(&hex::encode(bytes)))
    }
}

impl FromStr for ExchangeId {
    type Err = NotAnIdentifier;
    fn from_str(text: &str) -> Result<Self, NotAnIdentifier> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| not_an_exchange(text))?;
        Ok(Self(bytes))
    }
}

fn not_an_exchange(text: &str) -> NotAnIdentifier {
    NotAnIdentifier::new(text, "exchange id", "it is 32 hexadecimal digits", "3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f")
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_never_normalised() {
        for bad in [
            "",
            "/",
            "//",
            "a.B/C",
            "/a.B",
            "/a.B/",
            "/a.B/C/",
            "/a.B//C",
            "/a.B/C?q",
            "/a.B/C%2e",
            "/a%2eB/C",
            "/../C",
            "/a.B/C\0",
            "/a.B/Ç",
            "/a.B/C D",
            "http://x/a.B/C",
            "/1a/C",
            "/a/1C",
            "/a/C.D",
        ] {
            assert!(bad.parse::<MethodPath>().is_err(), "{bad:?}");
        }
        assert!(format!("/{}/M", "a".repeat(MAX_PATH_BYTES - 3)).parse::<MethodPath>().is_ok());
        assert!(format!("/{}/M", "a".repeat(MAX_PATH_BYTES - 2)).parse::<MethodPath>().is_err());
    }

    #[test]
    fn a_segment_has_its_limit() {
        assert!(format!("VN/GOV/moj/{}", "a".repeat(64)).parse::<SubsystemId>().is_ok());
        for bad in [
            format!("VN/GOV/moj/{}", "a".repeat(65)),
            "VN/GOV/moj/".into(),
            "VN/GOV/moj/.a".into(),
            "VN/GOV/moj".into(),
        ] {
            assert!(bad.parse::<SubsystemId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subsystem_belongs_to_its_member() {
        let subsystem: SubsystemId = "VN/GOV/moj/civil-registry".parse().unwrap();
        assert_eq!(subsystem.member().as_str(), "VN/GOV/moj");
        assert_eq!(subsystem.member().instance().as_str(), "VN");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "[A-Za-z0-9./_-]{0,80}|.{0,80}") {
            if let Ok(id) = text.parse::<SubsystemId>() {
                prop_assert_eq!(id.member().instance().to_string(), text.split('/').next().unwrap());
            }
            if let Ok(id) = text.parse::<ServerId>() {
                prop_assert!(text.starts_with(id.owner().as_str()));
            }
            if let Ok(path) = text.parse::<MethodPath>() {
                prop_assert!(text[1..].starts_with(path.service()));
            }
            let _ = (text.parse::<InstanceId>(), text.parse::<MemberId>(), text.parse::<ExchangeId>());
        }
    }
}
