//! REST services (PROTOCOL.md 22): which operation a request asks for. Rights are given by operation, so what a path may be is
//! decided on the very bytes that are forwarded. Nothing is normalised: a path that a service might read in another way than
//! this does is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::identifier::{MethodPath, SubsystemId};
use crate::registration::{Malformed, rule};

/// Longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 512;
/// The first field of a request's metadata: the target as the caller wrote it, which [`RestTarget`] reads.
pub const TARGET_FIELD: &str = "causeway-target";
/// The first field of an answer's metadata, and the one of its trailers: the HTTP status, three digits.
pub const STATUS_FIELD: &str = "causeway-status";
/// What a target begins with: X-Road's REST protocol, version 1.
pub const TARGET_PREFIX: &str = "/r1/";
/// Most segments of a template, and of a path that can match one.
pub const MAX_SEGMENTS: usize = 32;

/// What an operation does, as HTTP names it (RFC 9110 section 9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "they are HTTP's")]
pub enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 7] = [Verb::Get, Verb::Head, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete, Verb::Options];

    /// As HTTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Head => "HEAD",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            Verb::Options => "OPTIONS",
        }
    }
}

impl FromStr for Verb {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let found = Verb::ALL.into_iter().find(|verb| verb.as_str() == text);
        found.ok_or_else(|| rule("the verb", text, "it is GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The paths of an operation, as OpenAPI writes them: `/pets/{id}/photos`. At most one `{name}` in a segment; it stands for
/// one byte or more, and never for a `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Segment {
    Literal(String),
    /// What stands before a parameter and behind it, in the same segment.
    Parameter(String, String),
}

impl Template {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments where they are literal, without its parameters' names: `pets`, none, `photos`.
    pub fn literals(&self) -> impl Iterator<Item = Option<&str>> {
        self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(text.as_str()),
            Segment::Parameter(..) => None,
        })
    }

    fn takes(&self, path: &RestPath<'_>, like: fn(&Segment, &str) -> bool) -> bool {
        self.segments.len() == path.segments.len()
            && self.segments.iter().zip(&path.segments).all(|(segment, text)| like(segment, text))
    }

    /// Whether some path is of both.
    fn meets(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|(one, other)| one.meets(other))
    }

    /// Whether it says at least as much as the other in each segment: of two that a path is of, this one is meant.
    fn is_narrower(&self, other: &Self) -> bool {
        self.segments.iter().zip(&other.segments).all(|(one, other)| one.is_narrower(other))
    }
}

impl Segment {
    fn is(&self, text: &str) -> bool {
        match self {
            Segment::Literal(literal) => literal == text,
            Segment::Parameter(before, behind) => {
                let rest = text.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(behind.as_str()));
                rest.is_some_and(|rest| !rest.is_empty())
            }
        }
    }

    /// As a service might read it that decodes, does not tell `a` from `A`, or leaves dots and spaces at the end out.
    fn might_be(&self, text: &str) -> bool {
        let decoded = percent_decode_str(text).decode_utf8_lossy().to_lowercase();
        let decoded = decoded.trim_end_matches(['.', ' ']);
        let without = |end: &str| end.to_lowercase().trim_end_matches('.').to_owned();
        match self {
            Segment::Literal(literal) => without(literal) == decoded,
            Segment::Parameter(before, behind) => {
                Segment::Parameter(before.to_lowercase(), without(behind)).is(decoded)
            }
        }
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            (Segment::Literal(literal), parameter) | (parameter, Segment::Literal(literal)) => parameter.is(literal),
            (Segment::Parameter(before, behind), Segment::Parameter(other_before, other_behind)) => {
                (before.starts_with(other_before.as_str()) || other_before.starts_with(before.as_str()))
                    && (behind.ends_with(other_behind.as_str()) || other_behind.ends_with(behind.as_str()))
            }
        }
    }

    fn is_narrower(&self, other: &Self) -> bool {
        match (self, other) {
            (Segment::Literal(_), _) => true,
            (Segment::Parameter(..), Segment::Literal(_)) => false,
            (Segment::Parameter(before, behind), Segment::Parameter(other_before, other_behind)) => {
                before.starts_with(other_before.as_str()) && behind.ends_with(other_behind.as_str())
            }
        }
    }
}

impl FromStr for Template {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |rules: &'static str| rule("the path", text, rules);
        let rest = text.strip_prefix('/').ok_or_else(|| wrong("it begins with /"))?;
        if text.len() > MAX_TEMPLATE_BYTES || rest.split('/').count() > MAX_SEGMENTS {
            return Err(wrong("it has at most 512 bytes and 32 segments"));
        }
        let count = rest.split('/').count();
        let segments = rest.split('/').enumerate().map(|(at, segment)| {
            if segment.is_empty() && at + 1 < count {
                return Err(wrong("no segment but the last is empty"));
            }
            let Some((before, behind)) = segment.split_once('{') else { return literal(segment, wrong) };
            let (name, behind) = behind.split_once('}').ok_or_else(|| wrong("each { has its }"))?;
            let named =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            if !named {
                return Err(wrong("a parameter is {name}, of letters, digits, '_', '-' and '.'"));
            }
            if behind.contains('{') {
                return Err(wrong("a segment has one parameter at most"));
            }
            literal(before, wrong)?;
            literal(behind, wrong)?;
            Ok(Segment::Parameter(before.to_owned(), behind.to_owned()))
        });
        Ok(Self { text: text.to_owned(), segments: segments.collect::<Result<_, _>>()? })
    }
}

fn literal(text: &str, wrong: impl Fn(&'static str) -> Malformed) -> Result<Segment, Malformed> {
    if !text.bytes().all(is_plain) {
        return Err(wrong("its words are of letters, digits and -._~!$&'()*+,:@="));
    }
    if matches!(text, "." | "..") {
        return Err(wrong("no segment is . or .."));
    }
    Ok(Segment::Literal(text.to_owned()))
}

/// What may stand in a path for itself (RFC 3986 section 3.3), but `;`: what is behind it some services leave out.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,:@=".contains(&byte)
}

impl TryFrom<String> for Template {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where an operation stands: verb and path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    /// What it does.
    pub verb: Verb,
    /// To what.
    pub path: Template,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.path)
    }
}

/// Two operations of which nobody could say which one a path asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} and {1} have paths in common, and neither says more than the other in each segment; change one of them")]
pub struct Ambiguous(pub Place, pub Place);

/// The operations of one service, each with the name that rights are given by: `/pets.v1/getPet`.
#[derive(Clone, Default, Debug)]
pub struct Operations(Vec<(Place, MethodPath)>);

/// Why a request asks for no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoOperation {
    /// The path has more than one reading.
    #[error("the path {0}")]
    Unclear(&'static str),
    /// It is of none.
    #[error("no operation of the service has this path")]
    Path,
    /// It is, and not with this verb.
    #[error("this path has only {}", .0.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", "))]
    Verb(BTreeSet<Verb>),
}

impl Operations {
    /// Of these operations: of any two that have a path and the verb in common, one says more.
    pub fn new(operations: impl IntoIterator<Item = (Place, MethodPath)>) -> Result<Self, Ambiguous> {
        let operations: Vec<_> = operations.into_iter().collect();
        for (at, (one, _)) in operations.iter().enumerate() {
            for (other, _) in &operations[..at] {
                let clear = one.verb != other.verb
                    || !one.path.meets(&other.path)
                    || one.path.is_narrower(&other.path) != other.path.is_narrower(&one.path);
                if !clear {
                    return Err(Ambiguous(other.clone(), one.clone()));
                }
            }
        }
        Ok(Self(operations))
    }

    /// The operation that is asked for (PROTOCOL.md 22.3).
    pub fn asked(&self, verb: &str, path: &str) -> Result<&MethodPath, NoOperation> {
        let path = RestPath::read(path)?;
        let meant = self.narrowest(verb, &path, Segment::is);
        match (meant, self.narrowest(verb, &path, Segment::might_be)) {
            (Some(meant), Some(read)) if meant == read => Ok(meant),
            (Some(_), _) => Err(NoOperation::Unclear("might be read as another operation's")),
            (None, _) => {
                let verbs: BTreeSet<Verb> = self.of(&path, Segment::is).map(|(place, _)| place.verb).collect();
                Err(if verbs.is_empty() { NoOperation::Path } else { NoOperation::Verb(verbs) })
            }
        }
    }

    fn of(&self, path: &RestPath<'_>, like: fn(&Segment, &str) -> bool) -> impl Iterator<Item = &(Place, MethodPath)> {
        self.0.iter().filter(move |(place, _)| place.path.takes(path, like))
    }

    fn narrowest(&self, verb: &str, path: &RestPath<'_>, like: fn(&Segment, &str) -> bool) -> Option<&MethodPath> {
        let of_verb = || self.of(path, like).filter(|(place, _)| place.verb.as_str() == verb);
        let is_narrowest = |one: &Place| of_verb().all(|(other, _)| one.path.is_narrower(&other.path));
        of_verb().find(|(place, _)| is_narrowest(place)).map(|(_, method)| method)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(Place, MethodPath)> {
        self.0.iter()
    }
}

/// A path that has one reading, whoever reads it.
struct RestPath<'p> {
    segments: Vec<&'p str>,
}

impl<'p> RestPath<'p> {
    fn read(path: &'p str) -> Result<Self, NoOperation> {
        let rest = path.strip_prefix('/').ok_or(NoOperation::Unclear("does not begin with /"))?;
        let segments: Vec<&str> = rest.split('/').collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(NoOperation::Unclear("has more than 32 segments"));
        }
        let (last, others) = segments.split_last().expect("a split gives one at least");
        if others.iter().any(|segment| segment.is_empty()) {
            return Err(NoOperation::Unclear("has an empty segment"));
        }
        others.iter().chain([last]).try_for_each(|segment| is_clear(segment).map_err(NoOperation::Unclear))?;
        Ok(Self { segments })
    }
}

fn is_clear(segment: &str) -> Result<(), &'static str> {
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            if !is_plain(*first) {
                return Err("holds a character that belongs percent-encoded, or a ';'");
            }
            continue;
        }
        let digits = tail.first_chunk::<2>().and_then(|digits| std::str::from_utf8(digits).ok());
        let byte =
            digits.filter(|digits| !digits.starts_with('+')).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let byte = byte.ok_or("holds a % without its two hexadecimal digits")?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Err("encodes a character that stands for itself");
        }
        if byte.is_ascii_control() || b"/\\;%".contains(&byte) {
            return Err("encodes a slash, a backslash, a semicolon, a percent sign or a control character");
        }
        rest = &tail[2..];
    }
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| "is not UTF-8")?;
    if matches!(text.as_ref(), "." | "..") { Err("has a segment . or ..") } else { Ok(()) }
}

/// What a caller asks for, as X-Road's REST protocol writes it: `/r1/INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE[/path][?query]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestTarget<'t> {
    /// Whom.
    pub provider: SubsystemId,
    /// Its service.
    pub service: String,
    /// As it is forwarded behind the service's address: empty, or beginning with `/`. Never decoded.
    pub path: &'t str,
    /// Without its `?`.
    pub query: Option<&'t str>,
}

impl<'t> RestTarget<'t> {
    /// Reads a target (PROTOCOL.md 22.4). What is wrong is said without quoting what may hold personal data.
    pub fn parse(text: &'t str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix(TARGET_PREFIX).ok_or("it does not begin with /r1/")?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte)) {
            return Err("it holds a character that belongs percent-encoded");
        }
        let (named, query) = rest.split_once('?').map_or((rest, None), |(named, query)| (named, Some(query)));
        let mut parts = named.splitn(6, '/');
        let mut next = || {
            let part = parts.next().filter(|part| !part.is_empty());
            let part = part.ok_or("it is /r1/INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE and the service's own path")?;
            let decoded = percent_decode_str(part).decode_utf8().map_err(|_| "a name in it is not UTF-8")?;
            if decoded.contains('/') { Err("a name in it holds an encoded slash") } else { Ok(decoded) }
        };
        let provider = [next()?, next()?, next()?, next()?].join("/");
        let service = next()?.into_owned();
        let provider = provider.parse().map_err(|_| "it names no subsystem: INSTANCE/CLASS/MEMBER/SUBSYSTEM")?;
        let path = parts.next().map_or("", |path| &named[named.len() - path.len() - 1..]);
        Ok(Self { provider, service, path, query })
    }

    /// The path that rights are given by: that of a service's root is `/`.
    pub fn path_of_operation(&self) -> &'t str {
        if self.path.is_empty() { "/" } else { self.path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(places: &[&str]) -> Result<Operations, Ambiguous> {
        let place = |text: &&str| {
            let (verb, path) = text.split_once(' ').unwrap();
            Place { verb: verb.parse().unwrap(), path: path.parse().unwrap() }
        };
        let named = places.iter().enumerate().map(|(at, text)| (place(text), format!("/p.v1/m{at}").parse().unwrap()));
        Operations::new(named)
    }

    #[test]
    fn the_narrowest_operation_is_meant() {
        let of =
            operations(&["GET /users/{id}", "GET /users/me", "POST /users", "GET /", "GET /users/{id}.json"]).unwrap();
        for (verb, path, meant) in [
            ("GET", "/users/7", 0),
            ("GET", "/users/%C3%A9%20x", 0),
            ("GET", "/users/me", 1),
            ("POST", "/users", 2),
            ("GET", "/", 3),
            ("GET", "/users/7.json", 4),
            ("GET", "/users/.json", 0),
        ] {
            assert_eq!(of.asked(verb, path).unwrap().as_str(), format!("/p.v1/m{meant}"), "{verb} {path}");
        }
        assert_eq!(of.asked("DELETE", "/users"), Err(NoOperation::Verb([Verb::Post].into())));
        for none in ["/users/", "/Users", "/users/7/x", "/x"] {
            assert_eq!(of.asked("GET", none), Err(NoOperation::Path), "{none}");
        }
    }

    #[test]
    fn a_path_that_has_two_readings_is_none() {
        let of = operations(&["GET /users/{id}", "GET /users/admin", "GET /a@b/{x}", "GET /{y}/{z}"]).unwrap();
        for unclear in [
            "",
            "users/7",
            "//users/7",
            "/users//7",
            "/users/.",
            "/users/..",
            "/users/%2e%2E",
            "/users/%2E.",
            "/users/7%2Fadmin",
            "/users/7%2fadmin",
            "/users/a%5Cb",
            "/users/a\\b",
            "/users/a;b",
            "/users/a%3Bb",
            "/users/%00",
            "/users/%7F",
            "/users/%0d%0a",
            "/users/%61dmin",
            "/users/%252e",
            "/users/%",
            "/users/%4",
            "/users/%+1",
            "/users/%zz",
            "/users/%FF",
            "/users/a b",
            "/users/\u{e9}",
            "/users/ADMIN",
            "/users/Admin",
            "/users/admin.",
            "/users/admin%20",
            "/a%40b/b",
        ] {
            assert!(matches!(of.asked("GET", unclear), Err(NoOperation::Unclear(_))), "{unclear}");
        }
        let many = "/x".repeat(MAX_SEGMENTS + 1);
        assert!(matches!(of.asked("GET", &many), Err(NoOperation::Unclear(_))));
    }

    #[test]
    fn of_two_operations_that_share_a_path_one_says_more() {
        for clear in [
            &["GET /a/{x}", "GET /a/b"][..],
            &["GET /a/{x}", "POST /a/{y}"],
            &["GET /a/{x}", "GET /a/{x}/b"],
            &["GET /a/{x}", "GET /a/p{x}"],
            &["GET /a/p{x}", "GET /a/q{x}"],
        ] {
            assert!(operations(clear).is_ok(), "{clear:?}");
        }
        for unclear in [
            &["GET /a/{x}", "GET /a/{y}"][..],
            &["GET /a/{x}", "GET /{y}/b"],
            &["GET /a/b", "GET /a/b"],
            &["GET /a/p{x}", "GET /a/{x}q"],
        ] {
            assert!(operations(unclear).is_err(), "{unclear:?}");
        }
    }

    #[test]
    fn a_template_is_as_openapi_writes_it_and_has_one_reading() {
        for good in ["/", "/pets", "/pets/", "/pets/{petId}/photos", "/report-{year}.pdf", "/a@b/c:d"] {
            let template: Template = good.parse().unwrap();
            assert_eq!(template.as_str(), good);
        }
        for bad in [
            "", "pets", "//", "/a//b", "/{}", "/{a", "/a}", "/{a}{b}", "/{a/b}", "/../x", "/.", "/a%20b", "/a;b",
            "/a?b", "/é", "/{a b}",
        ] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
        assert!(format!("/{}", "a".repeat(MAX_TEMPLATE_BYTES)).parse::<Template>().is_err());
    }

    #[test]
    fn a_target_names_a_service_and_its_path_stays_as_it_is() {
        let all = "/r1/VN/GOV/moj/civil-registry/pets.v1/a%2Fb/c?x=%2F&y";
        let target = RestTarget::parse(all).unwrap();
        assert_eq!((target.provider.as_str(), &*target.service), ("VN/GOV/moj/civil-registry", "pets.v1"));
        assert_eq!((target.path, target.query), ("/a%2Fb/c", Some("x=%2F&y")));
        let root = RestTarget::parse("/r1/VN/GOV/moj/civil%2dregistry/pets").unwrap();
        assert_eq!(
            (root.provider.as_str(), root.path, root.path_of_operation()),
            ("VN/GOV/moj/civil-registry", "", "/")
        );
        assert_eq!(RestTarget::parse("/r1/VN/GOV/moj/a/pets/").unwrap().path, "/");
        assert_eq!(RestTarget::parse("/r1/VN/GOV/moj/a/pets//x").unwrap().path, "//x");
        for none in [
            "",
            "/r1/",
            "/r2/VN/GOV/moj/a/pets",
            "/r1/VN/GOV/moj/pets",
            "/r1/VN/GOV/moj/a/",
            "/r1/VN/GOV//a/pets",
            "/r1/VN/GOV/moj%2Fa/b/pets",
            "/r1/VN/GOV/moj/%FF/pets",
            "/r1/VN/GOV/moj/a/pets/ ",
            "/r1/VN/GOV/moj/a/pets#x",
            "/r1/VN/GOV/moj/a/pets/\u{e9}",
            "/r1/VN/G?V/moj/a/pets",
        ] {
            assert!(RestTarget::parse(none).is_err(), "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic_and_what_is_found_has_one_reading(path in ".{0,64}", verb in "[A-Z]{0,8}") {
            let of = operations(&["GET /users/{id}", "GET /users/admin", "GET /a{x}z", "GET /"]).unwrap();
            if of.asked(&verb, &path).is_ok() {
                proptest::prop_assert!(path.starts_with('/') && !path.contains("/..") && !path.contains(';'));
            }
            let _ = path.parse::<Template>();
            let all = format!("/r1/VN/GOV/moj/a/pets/{path}");
            if let Ok(target) = RestTarget::parse(&all) {
                let query = target.query.map(|query| format!("?{query}")).unwrap_or_default();
                proptest::prop_assert_eq!(format!("{}{query}", target.path), format!("/{path}"));
            }
        }
    }
}
