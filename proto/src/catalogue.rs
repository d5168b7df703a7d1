//! The catalogue (PROTOCOL.md 17): what a member says of a service of its own, signed with its key. Which versions may follow
//! one another, what the words may be, and who said them are decided here; what the descriptors mean is not.

pub mod element;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use prost::Message;

pub use element::{ElementField, ElementName, Part};

use crate::digest::Digest;
use crate::global_configuration::Configuration;
use crate::global_configuration::listed::ListedService;
use crate::identifier::{MemberId, MethodPath, ServerId, SubsystemId};
use crate::record::decode_canonical;
use crate::registration::{MAX_SIGNED_BYTES, Malformed, Text, rule, signed_bytes, within};
use crate::rest::{Ambiguous, Operations, Place};
use crate::signature::{KeyId, PublicKey, SigningKey, purpose};
use crate::time::Time;
use crate::wire::registry as wire;

/// Most methods of one service.
pub const MAX_METHODS: usize = 256;
/// Longest comment of a service or a method that an entry carries, in bytes. The descriptors have the whole of it.
pub const MAX_DESCRIPTION_BYTES: usize = 2000;
/// Most classes and members that one entry is open to.
pub const MAX_OPEN_TO: usize = 64;
/// Longest full name of a service.
pub const MAX_SERVICE_BYTES: usize = 200;
/// Longest descriptor set.
pub const MAX_DESCRIPTORS_BYTES: usize = 1024 * 1024;
/// Most services that are published at once.
pub const MAX_AT_ONCE: usize = 64;

/// The full name of a service: `civil.v1.Births` of a gRPC service, `pets.v1` of a REST service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let holds = text.len() <= MAX_SERVICE_BYTES
            && format!("/{text}/Method").parse::<MethodPath>().is_ok_and(|path| path.service() == text);
        if holds {
            Ok(Self(text.to_owned()))
        } else {
            Err(rule("the service's name", text, "it is a service's full name, as civil.v1.Births"))
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service's version. What its consumers would notice as broken comes with a new major one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// Changes where something breaks.
    pub major: u32,
    /// Changes with everything else.
    pub minor: u32,
}

impl Version {
    /// Of a service that nobody knows yet.
    pub const FIRST: Version = Version { major: 1, minor: 0 };

    /// After this one, where nothing breaks.
    pub fn next(self) -> Self {
        Self { minor: self.minor.saturating_add(1), ..self }
    }
}

impl FromStr for Version {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let number = |digits: &str| {
            let read: u32 = digits.parse().ok()?;
            (read.to_string() == digits).then_some(read)
        };
        let read = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        let (major, minor) = read.ok_or_else(|| rule("the version", text, "it is MAJOR.MINOR, as 1.0"))?;
        Ok(Self { major, minor })
    }
}

impl TryFrom<String> for Version {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Who may ask for a service: a class of members (`VN/GOV`), or one of them (`VN/GOV/moj`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(String);

impl Audience {
    /// Whether this member belongs to it.
    pub fn takes_in(&self, member: &MemberId) -> bool {
        let rest = member.as_str().strip_prefix(&self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Audience {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let member = if text.matches('/').count() == 1 { format!("{text}/any") } else { text.to_owned() };
        match member.parse::<MemberId>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err(rule("the audience", text, "it is a class of members, as VN/GOV, or a member, as VN/GOV/moj"))
            }
        }
    }
}

impl TryFrom<String> for Audience {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Audience> for String {
    fn from(audience: Audience) -> Self {
        audience.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a member says of one service, in one version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where it is offered.
    pub subsystem: SubsystemId,
    /// Its full name.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// The server whose key signs.
    pub server: ServerId,
    /// When, by that server's clock.
    pub time: Time,
    /// What describes it.
    pub form: ServiceForm,
    /// SHA-256 of what describes it.
    pub descriptors: Digest,
    /// Its name for people.
    pub title: Text,
    /// Its comment in the .proto file.
    pub description: String,
    /// Whom people ask.
    pub contact: Text,
    /// Who may ask for it; none: every member.
    pub open_to: BTreeSet<Audience>,
    /// What to use instead, where it is deprecated.
    pub deprecated: Option<Text>,
    /// Its methods, as they stand in the descriptors.
    pub methods: Vec<Method>,
    /// The data elements in its requests and responses, as they stand in the descriptors.
    pub elements: Vec<ElementField>,
    /// Only whether it would be listed.
    pub dry_run: bool,
}

/// What describes a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceForm {
    /// A gRPC service: a descriptor set.
    #[default]
    Grpc,
    /// A REST service: an OpenAPI document.
    Rest,
}

impl ServiceForm {
    /// Whether it is the one that is meant where none is named.
    pub fn is_grpc(&self) -> bool {
        *self == Self::Grpc
    }
}

/// A method of a gRPC service, or an operation of a REST service.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Its comment in the .proto file.
    pub description: String,
    /// The full name of its request's type; empty for an operation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// The full name of its response's type; empty for an operation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub response: String,
    /// Whether requests stream.
    pub client_streaming: bool,
    /// Whether responses stream.
    pub server_streaming: bool,
    /// Where an operation stands; none for a method.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Entry {
    /// Signs it with its member's key at its server.
    pub fn sign(&self, key: &SigningKey) -> wire::SignedEntry {
        let entry = self.to_wire().encode_to_vec();
        let signature = key.sign(&signed_bytes(purpose::CATALOGUE, &entry)).into();
        wire::SignedEntry { entry: entry.into(), key: key.public().id().to_wire(), signature }
    }

    fn to_wire(&self) -> wire::CatalogueEntry {
        wire::CatalogueEntry {
            subsystem: self.subsystem.to_string(),
            service: self.service.to_string(),
            version: self.version.to_string(),
            server: self.server.to_string(),
            time: self.time.as_millis(),
            descriptors: self.descriptors.to_wire(),
            title: self.title.to_string(),
            description: self.description.clone(),
            contact: self.contact.to_string(),
            open_to: self.open_to.iter().map(Audience::to_string).collect(),
            deprecated: self.deprecated.as_ref().map(Text::to_string).unwrap_or_default(),
            methods: self.methods.iter().map(Method::to_wire).collect(),
            elements: self.elements.iter().map(ElementField::to_wire).collect(),
            form: match self.form {
                ServiceForm::Grpc => wire::CatalogueForm::Descriptors,
                ServiceForm::Rest => wire::CatalogueForm::Openapi,
            } as i32,
            dry_run: self.dry_run,
        }
    }

    /// The operations of a REST service; none of a gRPC service.
    pub fn operations(&self) -> Result<Operations, Ambiguous> {
        let path = |name: &str| format!("/{}/{name}", self.service).parse::<MethodPath>().ok();
        let of = |method: &Method| Some((method.place.clone()?, path(&method.name)?));
        Operations::new(self.methods.iter().filter_map(of))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the entry", bytes.len(), MAX_SIGNED_BYTES)?;
        let read: wire::CatalogueEntry = decode_canonical(bytes, "CatalogueEntry")?;
        let open_to: BTreeSet<Audience> = read.open_to.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        if open_to.len() > MAX_OPEN_TO || !open_to.iter().map(Audience::to_string).eq(read.open_to.iter().cloned()) {
            let rules = "it names at most 64, each once, in the order of their bytes";
            return Err(rule("the audience", &read.open_to.join(" "), rules));
        }
        if !(1..=MAX_METHODS).contains(&read.methods.len()) {
            let found = read.methods.len().to_string();
            return Err(rule("the number of methods", &found, "a service of the catalogue has 1 to 256"));
        }
        let deprecated = Some(&read.deprecated).filter(|text| !text.is_empty());
        let form = match wire::CatalogueForm::try_from(read.form) {
            Ok(wire::CatalogueForm::Descriptors) => ServiceForm::Grpc,
            Ok(wire::CatalogueForm::Openapi) => ServiceForm::Rest,
            Err(_) => return Err(rule("the form", &read.form.to_string(), "it is a descriptor set or OpenAPI")),
        };
        let entry = Self {
            subsystem: read.subsystem.parse()?,
            service: read.service.parse()?,
            version: read.version.parse()?,
            server: read.server.parse()?,
            time: Time::from_millis(read.time),
            descriptors: Digest::try_from(&read.descriptors[..])
                .map_err(|_| rule("the descriptors' name", &hex::encode(&read.descriptors), "it is 32 bytes"))?,
            title: read.title.parse()?,
            description: described("the description", read.description)?,
            contact: read.contact.parse()?,
            open_to,
            deprecated: deprecated.map(|text| text.parse()).transpose()?,
            form,
            methods: read.methods.into_iter().map(|method| Method::parse(method, form)).collect::<Result<_, _>>()?,
            elements: element::parse(read.elements)?,
            dry_run: read.dry_run,
        };
        // What rights are given by has one name each, and one reading.
        let names: BTreeSet<&str> = entry.methods.iter().map(|method| method.name.as_str()).collect();
        if names.len() != entry.methods.len() {
            return Err(rule("the methods", &entry.service.to_string(), "each has a name of its own"));
        }
        entry.operations().map_err(|error| rule("the operations", &error.to_string(), "each path is of one"))?;
        Ok(entry)
    }
}

impl Method {
    fn parse(read: wire::CatalogueMethod, form: ServiceForm) -> Result<Self, Malformed> {
        let types: &[&String] = match form {
            ServiceForm::Grpc => &[&read.name, &read.request, &read.response],
            ServiceForm::Rest => &[&read.name],
        };
        for name in types {
            let word =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
            if !word || name.len() > MAX_SERVICE_BYTES {
                return Err(rule("a method's name", name, "it is a name of Protocol Buffers"));
            }
        }
        if form == ServiceForm::Rest && format!("/a/{}", read.name).parse::<MethodPath>().is_err() {
            return Err(rule("an operation's name", &read.name, "it is of letters, digits and '_'"));
        }
        let of_grpc =
            !read.request.is_empty() || !read.response.is_empty() || read.client_streaming || read.server_streaming;
        let of_rest = !read.verb.is_empty() || !read.path.is_empty();
        let place = match form {
            ServiceForm::Grpc if of_rest => {
                return Err(rule("a method", &read.name, "a gRPC method has no verb and path"));
            }
            ServiceForm::Grpc => None,
            ServiceForm::Rest if of_grpc => {
                return Err(rule("an operation", &read.name, "it has a verb and a path only"));
            }
            ServiceForm::Rest => Some(Place { verb: read.verb.parse()?, path: read.path.parse()? }),
        };
        Ok(Self {
            description: described("a method's description", read.description)?,
            name: read.name,
            request: read.request,
            response: read.response,
            client_streaming: read.client_streaming,
            server_streaming: read.server_streaming,
            place,
        })
    }

    fn to_wire(&self) -> wire::CatalogueMethod {
        wire::CatalogueMethod {
            name: self.name.clone(),
            description: self.description.clone(),
            request: self.request.clone(),
            response: self.response.clone(),
            client_streaming: self.client_streaming,
            server_streaming: self.server_streaming,
            verb: self.place.as_ref().map(|place| place.verb.to_string()).unwrap_or_default(),
            path: self.place.as_ref().map(|place| place.path.to_string()).unwrap_or_default(),
        }
    }
}

/// Lines for people: no control character can play tricks with the screen of whoever reads them.
fn described(what: &'static str, text: String) -> Result<String, Malformed> {
    within(what, text.len(), MAX_DESCRIPTION_BYTES)?;
    if is_plain(&text) { Ok(text) } else { Err(rule(what, &text, "it has lines without control characters")) }
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(|letter| {
        (letter.is_control() && letter != '\n') || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// A comment as an entry carries it: trimmed, plain, and cut where it is too long.
pub fn shortened(comment: &str) -> String {
    let plain: String = comment.chars().map(|letter| if letter == '\t' { ' ' } else { letter }).collect();
    let plain: String = plain.chars().filter(|letter| is_plain(letter.encode_utf8(&mut [0; 4]))).collect();
    let lines: Vec<&str> = plain.lines().map(str::trim).collect();
    let text = lines.join("\n").trim().to_owned();
    let most = (0..=MAX_DESCRIPTION_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..most.unwrap_or(0)].to_owned()
}

/// An entry, read. Who signed it is not known yet.
#[derive(Clone, Debug)]
pub struct ReceivedEntry {
    entry: Entry,
    signed: wire::SignedEntry,
}

impl ReceivedEntry {
    /// Reads an entry (PROTOCOL.md 17.1).
    pub fn parse(signed: wire::SignedEntry) -> Result<Self, Malformed> {
        let entry = Entry::parse(&signed.entry)?;
        Digest::try_from(&signed.key[..])
            .map_err(|_| rule("the key's name", &hex::encode(&signed.key), "it is 32 bytes"))?;
        within("the signature", signed.signature.len(), 128)?;
        Ok(Self { entry, signed })
    }

    /// Reads one from the bytes that it is kept as.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        within("the signed entry", bytes.len(), MAX_SIGNED_BYTES + 1024)?;
        Self::parse(decode_canonical(bytes, "SignedEntry")?)
    }

    /// What it says.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The key that is said to have signed it.
    pub fn key(&self) -> KeyId {
        Digest::try_from(&self.signed.key[..]).expect("it was parsed")
    }

    /// As it is kept: its name is the SHA-256 of this.
    pub fn to_bytes(&self) -> Bytes {
        self.signed.encode_to_vec().into()
    }

    /// As it was signed.
    pub fn signed(&self) -> &wire::SignedEntry {
        &self.signed
    }

    /// Checks the signature. `key` is the one of the entry's member at the entry's server.
    pub fn verify(self, key: &PublicKey) -> Result<VerifiedEntry, Malformed> {
        let signed = signed_bytes(purpose::CATALOGUE, &self.signed.entry);
        key.verify(&signed, &self.signed.signature).map_err(|_| Malformed::Signature(self.key()))?;
        Ok(VerifiedEntry(self))
    }
}

/// An entry that its member signed. Only [`ReceivedEntry::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedEntry(ReceivedEntry);

impl VerifiedEntry {
    /// What it says.
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    /// As it was received.
    pub fn received(&self) -> &ReceivedEntry {
        &self.0
    }
}

/// Why an entry is not the one that the configuration lists.
#[derive(Debug, thiserror::Error)]
pub enum NotListed {
    /// It is no entry.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is another one.
    #[error("the entry of {service} at {subsystem} is not the one that the configuration pins; fetch it elsewhere")]
    Other {
        /// The service.
        service: ServiceName,
        /// Where it is offered.
        subsystem: SubsystemId,
    },
    /// Its key is not its member's.
    #[error(
        "the entry of {service} at {subsystem} is signed with a key that is not its member's any more; its member has to \
         publish it again"
    )]
    Key {
        /// The service.
        service: ServiceName,
        /// Where it is offered.
        subsystem: SubsystemId,
    },
}

/// Holds an entry against the configuration (PROTOCOL.md 17.4): the bytes that it pins, signed by a key of the member that
/// was good when it signed and is not revoked.
pub fn verify_listed(
    configuration: &Configuration,
    listed: &ListedService,
    bytes: &[u8],
) -> Result<VerifiedEntry, NotListed> {
    let other = || NotListed::Other { service: listed.service.clone(), subsystem: listed.subsystem.clone() };
    if Digest::of(&[bytes]) != listed.entry {
        return Err(other());
    }
    let received = ReceivedEntry::from_bytes(bytes)?;
    let entry = received.entry();
    let same = entry.subsystem == listed.subsystem
        && entry.service == listed.service
        && entry.version == listed.version
        && entry.form == listed.form
        && entry.open_to == listed.open_to
        && !entry.dry_run;
    if !same {
        return Err(other());
    }
    let member = configuration.members.get(&listed.subsystem.member());
    let key = member.and_then(|member| member.signing_keys.get(&received.key())).filter(|key| {
        let good = key.not_before <= entry.time && entry.time <= key.not_after;
        key.server == entry.server && good && !configuration.revoked.contains(&received.key())
    });
    let key =
        key.ok_or_else(|| NotListed::Key { service: listed.service.clone(), subsystem: listed.subsystem.clone() })?;
    Ok(received.verify(&key.key)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry {
            subsystem: "VN/GOV/moj/civil-registry".parse().unwrap(),
            service: "civil.v1.Births".parse().unwrap(),
            version: Version::FIRST,
            server: "VN/GOV/moj/ss1".parse().unwrap(),
            time: Time::from_millis(1_800_000_000_000),
            form: ServiceForm::Grpc,
            descriptors: Digest::of(&[b"descriptors"]),
            title: "Hộ tịch".parse().unwrap(),
            description: "Births.\nAnd nothing else.".into(),
            contact: "moj@example.vn".parse().unwrap(),
            open_to: ["VN/GOV".parse().unwrap()].into(),
            deprecated: None,
            methods: vec![Method {
                name: "Register".into(),
                description: String::new(),
                request: "civil.v1.Birth".into(),
                response: "civil.v1.Receipt".into(),
                client_streaming: false,
                server_streaming: false,
                place: None,
            }],
            elements: vec![ElementField {
                element: "birth.place".parse().unwrap(),
                field: "civil.v1.Birth.place".into(),
                part: Part::Collects,
                reason: Some("nobody knows it yet".parse().unwrap()),
            }],
            dry_run: false,
        }
    }

    #[test]
    fn an_entry_reads_as_it_was_signed_and_by_its_key_only() {
        let ((key, _), (other, _)) = (SigningKey::generate(), SigningKey::generate());
        let received = ReceivedEntry::parse(entry().sign(&key)).unwrap();
        assert_eq!(received.key(), key.public().id());
        assert!(matches!(received.clone().verify(other.public()), Err(Malformed::Signature(_))));
        let kept = ReceivedEntry::from_bytes(&received.to_bytes()).unwrap();
        assert_eq!(*kept.verify(key.public()).unwrap().entry(), entry());
    }

    #[test]
    fn what_no_entry_may_say_is_refused_by_name() {
        let (key, _) = SigningKey::generate();
        let refused = |change: fn(&mut wire::CatalogueEntry)| {
            let mut said = entry().to_wire();
            change(&mut said);
            let signed = wire::SignedEntry { entry: said.encode_to_vec().into(), ..entry().sign(&key) };
            ReceivedEntry::parse(signed).unwrap_err().to_string()
        };
        assert!(refused(|said| said.service = "Births/Register".into()).contains("the service's name"));
        assert!(refused(|said| said.version = "1".into()).contains("MAJOR.MINOR"));
        assert!(refused(|said| said.version = "01.0".into()).contains("MAJOR.MINOR"));
        assert!(refused(|said| said.title = String::new()).contains("the text"));
        assert!(refused(|said| said.description = "\u{1b}[2J".into()).contains("control characters"));
        assert!(refused(|said| said.description = "x".repeat(2001)).contains("2001 bytes"));
        assert!(refused(|said| said.open_to = vec!["VN".into()]).contains("the audience"));
        assert!(refused(|said| said.open_to = vec!["VN/GOV".into(); 2]).contains("each once"));
        assert!(refused(|said| said.methods.clear()).contains("1 to 256"));
        assert!(refused(|said| said.methods = vec![said.methods[0].clone(); 257]).contains("1 to 256"));
        assert!(refused(|said| said.methods[0].name = "a b".into()).contains("a method's name"));
        assert!(refused(|said| said.descriptors = Bytes::from_static(b"short")).contains("32 bytes"));
    }

    #[test]
    fn an_audience_takes_in_its_members_and_nobody_of_a_longer_name() {
        let takes_in =
            |audience: &str, member: &str| audience.parse::<Audience>().unwrap().takes_in(&member.parse().unwrap());
        assert!(takes_in("VN/GOV", "VN/GOV/moj"));
        assert!(takes_in("VN/GOV/moj", "VN/GOV/moj"));
        assert!(!takes_in("VN/GOV/moj", "VN/GOV/moj2"));
        assert!(!takes_in("VN/GOV", "VN/COM/moj"));
    }

    #[test]
    fn a_comment_is_cut_between_letters() {
        let long = "ộ".repeat(1000);
        assert!(shortened(&long).len() <= MAX_DESCRIPTION_BYTES);
        assert_eq!(shortened(" a\tb \n  c\u{1b}\n"), "a b\nc");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ReceivedEntry::from_bytes(&bytes);
            let _ = ReceivedEntry::parse(wire::SignedEntry { entry: bytes.into(), ..Default::default() });
        }
    }
}
