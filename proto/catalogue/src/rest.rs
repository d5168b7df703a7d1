//! A REST service's OpenAPI document, read: its operations, and the data elements that they carry (PROTOCOL.md 17.9). However
//! hostile the document is: what it refers to is followed within itself only, and as far as the limits of this module go.

pub mod breaking;
mod schema;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use proto::catalogue::element::MAX_ELEMENT_FIELDS;
use proto::catalogue::{ElementField, MAX_DESCRIPTORS_BYTES, MAX_METHODS, MAX_SERVICE_BYTES, Method, Part, shortened};
use proto::identifier::MethodPath;
use proto::registration::Malformed;
use proto::rest::{Ambiguous, Operations, Place, Template, Verb};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::Said;
use crate::marks::Mark;
use schema::{Schema, Side, address, child, names};

/// Largest document that is taken in, before it is written as it is published: with spaces, and words that are left out.
pub const MAX_GIVEN_BYTES: usize = 4 * MAX_DESCRIPTORS_BYTES;
/// Longest name of a member of an object.
pub const MAX_NAME_BYTES: usize = 1024;
/// Most places that say which element they carry, whether an operation reaches them or not.
pub const MAX_MARKS: usize = 4 * MAX_ELEMENT_FIELDS;
/// Most values of a document: objects, lists, texts, numbers.
pub const MAX_VALUES: usize = 150_000;
/// Most schemas, and words of schemas, that are looked at: each once for each operation that reaches it, by the request and by the
/// response; and each once with each that it is compared with.
pub const MAX_STEPS: usize = 1_000_000;
/// How many references may lead from one to the next.
const MAX_REFERENCES: usize = 8;
/// Longest name of a field that carries an element: `getPet.response.owner.birthDate`.
const MAX_FIELD_BYTES: usize = 2 * MAX_SERVICE_BYTES;
/// Most letters of a word of the document that a refusal tells.
const MAX_QUOTED: usize = 100;
/// Most letters of a place that a refusal tells.
const MAX_PLACE: usize = 600;

/// An OpenAPI document that was read whole. Only [`OpenApi::read`] makes one.
#[derive(Clone, Debug)]
pub struct OpenApi {
    document: Arc<Value>,
    said: Said,
}

/// Why an OpenAPI document is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undocumented {
    /// Over one of the limits of this module.
    #[error("the OpenAPI document has {found} {what}, at most {most} are taken; make several services of it")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// Most that are taken.
        most: usize,
    },
    /// Neither one nor the other.
    #[error("this is no OpenAPI document: {0}; mend it")]
    Unreadable(String),
    /// Another version of OpenAPI.
    #[error("the document says that it is OpenAPI {0}, and 3.0 and 3.1 are read; convert it")]
    Version(String),
    /// Not in the one form that is published.
    #[error(
        "the OpenAPI document is not as it is published: its keys in order, without spaces, and without servers, callbacks, links, \
         webhooks and other people's x-… words; let `security-server services publish` write it"
    )]
    NotAsPublished,
    /// Something in it is wrong.
    #[error("{at}: {why}")]
    Wrong {
        /// Where: an operation, a field of it, or a place of the document.
        at: String,
        /// What, and what to do.
        why: String,
    },
    /// A path that no template is.
    #[error("{place} cannot be published: {why}; change it")]
    Path {
        /// The operation.
        place: String,
        /// Why.
        why: Malformed,
    },
    /// Two operations of one name.
    #[error("{one} and {other} are both called {name}; give each an operationId of its own")]
    SameName {
        /// The name.
        name: String,
        /// An operation.
        one: String,
        /// Another.
        other: String,
    },
    /// Two operations of one path.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// A service that the catalogue has no room for.
    #[error("the document has {0} operations, and a service of the catalogue has 1 to {MAX_METHODS}")]
    Operations(usize),
}

fn wrong(at: impl fmt::Display, why: impl Into<String>) -> Undocumented {
    Undocumented::Wrong { at: at.to_string().chars().take(MAX_PLACE).collect(), why: why.into() }
}

/// A word of the document, as a refusal tells it.
fn quoted(word: &str) -> String {
    match word.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &word[..end]),
        None => format!("{word:?}"),
    }
}

fn limit(what: &'static str, found: usize, most: usize) -> Result<(), Undocumented> {
    if found > most { Err(Undocumented::Limit { what, found, most }) } else { Ok(()) }
}

/// JSON, or what else is read as it, in which no name of an object stands twice: whoever reads it reads the same.
#[derive(Debug)]
pub struct OneReading(pub Value);

impl<'de> Deserialize<'de> for OneReading {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                let number = serde_json::Number::from_f64(value).map(Value::Number);
                number.ok_or_else(|| E::custom(format!("JSON has no number {value}")))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
                from.deserialize_any(Self)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(OneReading(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(values.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut values = Map::new();
                while let Some(name) = members.next_key::<String>()? {
                    if values.contains_key(&name) {
                        return Err(A::Error::custom(format!("{} stands twice in one object", quoted(&name))));
                    }
                    let OneReading(value) = members.next_value()?;
                    values.insert(name, value);
                }
                Ok(values.into())
            }
        }
        from.deserialize_any(Reads).map(Self)
    }
}

fn parsed(bytes: &[u8], most: usize) -> Result<Value, Undocumented> {
    limit("bytes", bytes.len(), most)?;
    let OneReading(value) =
        serde_json::from_slice(bytes).map_err(|error| Undocumented::Unreadable(error.to_string()))?;
    Ok(value)
}

/// The document as it is published: what says where its provider's own machines are is left out, and it has one form.
pub fn published(given: &[u8]) -> Result<Vec<u8>, Undocumented> {
    let mut document = parsed(given, MAX_GIVEN_BYTES)?;
    without_addresses(&mut document);
    without_words_of_others(&mut document, false);
    let mut bytes = document.to_string().into_bytes();
    // A fraction may read as its neighbour once: then it stays.
    for _ in 0..4 {
        let again = parsed(&bytes, MAX_DESCRIPTORS_BYTES)?.to_string().into_bytes();
        if again == bytes {
            break;
        }
        bytes = again;
    }
    Ok(bytes)
}

/// Servers; and what calls back to, or leads to, other places than the operations.
fn without_addresses(document: &mut Value) {
    fn remove(from: Option<&mut Value>, names: &[&str]) {
        if let Some(object) = from.and_then(Value::as_object_mut) {
            names.iter().for_each(|name| _ = object.remove(*name));
        }
    }
    fn below(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
        value.and_then(Value::as_object_mut).into_iter().flat_map(|object| object.values_mut())
    }
    fn of_others(from: Option<&mut Value>) {
        from.and_then(Value::as_object_mut).into_iter().for_each(|object| object.retain(|name, _| !is_of_others(name)));
    }
    remove(Some(document), &["servers", "webhooks"]);
    of_others(document.get_mut("paths"));
    remove(document.get_mut("components"), &["callbacks", "links", "pathItems"]);
    let components = document.get_mut("components").and_then(|components| components.get_mut("responses"));
    below(components).for_each(|response| remove(Some(response), &["links"]));
    for item in below(document.get_mut("paths")) {
        remove(Some(item), &["servers"]);
        for operation in below(Some(item)) {
            remove(Some(operation), &["servers", "callbacks"]);
            of_others(operation.get_mut("responses"));
            below(operation.get_mut("responses")).for_each(|response| remove(Some(response), &["links"]));
        }
    }
}

/// A vendor's word, such as what a gateway writes into what it exports: where the provider's machines are, more often than not.
fn is_of_others(word: &str) -> bool {
    word.starts_with("x-") && !word.starts_with("x-causeway-")
}

fn without_words_of_others(value: &mut Value, are_names: bool) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| without_words_of_others(value, false)),
        Value::Object(members) => {
            if !are_names {
                members.retain(|name, _| !is_of_others(name));
            }
            let is_data = |name: &str| !are_names && DATA.contains(&name);
            for (name, value) in members.iter_mut().filter(|(name, _)| !is_data(name)) {
                without_words_of_others(value, !are_names && NAMES.contains(&name.as_str()));
            }
        }
        _ => {}
    }
}

impl OpenApi {
    /// Reads a document in the form that is published, however hostile.
    pub fn read(bytes: &[u8]) -> Result<Self, Undocumented> {
        let document = parsed(bytes, MAX_DESCRIPTORS_BYTES)?;
        if published(bytes)? != bytes {
            return Err(Undocumented::NotAsPublished);
        }
        version(&document)?;
        let said = Document(&document).said()?;
        Ok(Self { document: Arc::new(document), said })
    }

    /// What an entry says of the service.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// Its name for people, as it says itself.
    pub fn title(&self) -> &str {
        self.document.pointer("/info/title").and_then(Value::as_str).unwrap_or_default()
    }

    /// The same document, called where this says: `http://HOST:PORT/r1/VN/GOV/moj/pets/pets.v1`.
    pub fn served_at(&self, url: &str) -> Value {
        let mut document = Value::clone(&self.document);
        document["servers"] = serde_json::json!([{ "url": url }]);
        document
    }

    fn as_document(&self) -> Document<'_> {
        Document(&self.document)
    }
}

fn version(document: &Value) -> Result<(), Undocumented> {
    let of = |name: &str| document.get(name).and_then(Value::as_str);
    match (of("openapi"), of("swagger")) {
        (Some(said), _) if said.starts_with("3.0.") || said.starts_with("3.1.") => Ok(()),
        (Some(said), _) | (None, Some(said)) => Err(Undocumented::Version(said.chars().take(20).collect())),
        (None, None) => Err(Undocumented::Unreadable("it does not say which version of OpenAPI it is".to_owned())),
    }
}

/// A document, while it is read.
#[derive(Clone, Copy)]
struct Document<'d>(&'d Value);

type Object<'d> = &'d Map<String, Value>;

/// An operation of it.
struct Operation<'d> {
    name: String,
    place: Place,
    description: String,
    /// By where they stand, and their names; those of headers in small letters.
    parameters: BTreeMap<(&'d str, String), Object<'d>>,
    body: Option<Object<'d>>,
    /// By their status.
    responses: BTreeMap<&'d str, Object<'d>>,
}

impl Operation<'_> {
    /// The name of a parameter's field.
    fn field(&self, place: &str, parameter: Object<'_>) -> String {
        child(&format!("{}.{place}", self.name), text(parameter, "name"))
    }
}

/// Where an object says which data element it carries.
struct Marked<'d> {
    at: String,
    /// The kind and the name of the schema or parameter of the components that it is in.
    component: Option<(&'d str, &'d str)>,
    mark: Mark,
    asked: bool,
    answered: bool,
    /// It is in a property that is no part of this side: `readOnly` in a request, `writeOnly` in a response.
    aside: bool,
}

impl Marked<'_> {
    fn reach(&mut self, side: Side) {
        self.asked |= side == Side::Asked;
        self.answered |= side == Side::Answered;
    }
}

fn object<'d>(value: &'d Value, at: impl fmt::Display) -> Result<Object<'d>, Undocumented> {
    value.as_object().ok_or_else(|| wrong(at, "it is no object; mend the document"))
}

/// The members of what has this name, which may be missing.
fn members<'d>(
    of: Object<'d>,
    name: &str,
    at: &str,
) -> Result<impl Iterator<Item = (&'d str, &'d Value)>, Undocumented> {
    let members = of.get(name).map(|value| object(value, format_args!("{at}, {name}"))).transpose()?;
    let members = members.into_iter().flatten();
    Ok(members.filter(|(name, _)| !name.starts_with("x-")).map(|(name, value)| (name.as_str(), value)))
}

fn text<'d>(of: Object<'d>, name: &str) -> &'d str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl<'d> Document<'d> {
    fn said(self) -> Result<Said, Undocumented> {
        let mut marked = BTreeMap::new();
        survey(self.0, false, &mut Vec::new(), &mut 0, &mut marked)?;
        let operations = self.operations()?;
        named_once(&operations)?;
        let elements = self.elements(&operations, marked)?;
        let methods = operations.into_iter().map(|operation| Method {
            name: operation.name,
            description: operation.description,
            request: String::new(),
            response: String::new(),
            client_streaming: false,
            server_streaming: false,
            place: Some(operation.place),
        });
        let description = self.0.pointer("/info/description").and_then(Value::as_str).unwrap_or_default();
        Ok(Said { description: shortened(description), methods: methods.collect(), elements })
    }

    /// What `#/components/KIND/NAME` is, of this kind.
    fn target(self, reference: &str, kind: &str, at: &str) -> Result<&'d Value, Undocumented> {
        let Some(within) = reference.strip_prefix("#/components/") else {
            let why = "it refers to what is not in the document's components; take it into them, or write it where it is used";
            return Err(wrong(at, format!("{}: {why}", quoted(reference))));
        };
        let name = within.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
        let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let found = name.filter(is_name).and_then(|name| self.0.get("components")?.get(kind)?.get(name));
        found.ok_or_else(|| {
            wrong(at, format!("{} is not there, among the components' {kind}; add it", quoted(reference)))
        })
    }

    /// A parameter, a body or a response, where it is written.
    fn followed(self, mut value: &'d Value, kind: &str, at: &str) -> Result<Object<'d>, Undocumented> {
        for _ in 0..MAX_REFERENCES {
            let found = object(value, at)?;
            match found.get("$ref") {
                None => return Ok(found),
                Some(reference) => value = self.target(reference.as_str().unwrap_or_default(), kind, at)?,
            }
        }
        Err(wrong(
            at,
            format!("more than {MAX_REFERENCES} references lead from one to the next; write it where it is used"),
        ))
    }

    /// In the order of their paths and verbs.
    fn operations(self) -> Result<Vec<Operation<'d>>, Undocumented> {
        let root = object(self.0, "the document")?;
        let mut operations = Vec::new();
        for (path, item) in members(root, "paths", "the document")? {
            let item = object(item, path)?;
            if item.contains_key("$ref") {
                return Err(wrong(
                    path,
                    "a path that refers to another place is not followed; write its operations here",
                ));
            }
            for (name, _) in item.iter().filter(|(name, _)| !name.starts_with("x-")) {
                let known = Verb::ALL.iter().any(|verb| verb.as_str().to_lowercase() == *name);
                if !known && !["summary", "description", "parameters"].contains(&name.as_str()) {
                    let why = "it is no operation that is carried: get, head, post, put, patch, delete or options";
                    return Err(wrong(path, format!("{}: {why}; leave it out", quoted(name))));
                }
            }
            for verb in Verb::ALL {
                let Some(operation) = item.get(&verb.as_str().to_lowercase()) else { continue };
                limit("operations", operations.len() + 1, MAX_METHODS)?;
                operations.push(self.operation(verb, path, item, operation)?);
            }
        }
        if operations.is_empty() {
            return Err(Undocumented::Operations(0));
        }
        Ok(operations)
    }

    fn operation(
        self,
        verb: Verb,
        path: &str,
        item: Object<'d>,
        operation: &'d Value,
    ) -> Result<Operation<'d>, Undocumented> {
        let at = format!("{verb} {path}");
        let unfit = |why| Undocumented::Path { place: at.clone(), why };
        let place = Place { verb, path: path.parse::<Template>().map_err(unfit)? };
        let said = object(operation, &at)?;
        let name = name(said, &place).ok_or_else(|| {
            wrong(&at, format!("its name is longer than {MAX_SERVICE_BYTES} bytes; give it a shorter operationId"))
        })?;
        let mut parameters = BTreeMap::new();
        for given in [item, said] {
            let given = given
                .get("parameters")
                .map(|list| list.as_array().ok_or_else(|| wrong(&at, "its parameters are no list; mend the document")));
            let mut here = BTreeSet::new();
            for parameter in given.transpose()?.into_iter().flatten() {
                let parameter = self.followed(parameter, "parameters", &at)?;
                let (place, name) = (text(parameter, "in"), text(parameter, "name"));
                if !["path", "query", "header", "cookie"].contains(&place) || name.is_empty() {
                    let why = "a parameter has a name, and is in a path, a query, a header or a cookie";
                    let (name, place) = (quoted(name), quoted(place));
                    return Err(wrong(&at, format!("{name} in {place}: {why}; mend the document")));
                }
                if name.len() > MAX_NAME_BYTES {
                    let why = format!("the name {} is longer than {MAX_NAME_BYTES} bytes; shorten it", quoted(name));
                    return Err(wrong(&at, why));
                }
                // Headers have one name, however it is written.
                let is_header = place == "header";
                let key = (place, if is_header { name.to_ascii_lowercase() } else { name.to_owned() });
                if !here.insert(key.clone()) {
                    let name = quoted(name);
                    return Err(wrong(&at, format!("its parameter {name} in the {place} stands twice; leave one out")));
                }
                parameters.insert(key, parameter);
            }
        }
        let body = said.get("requestBody").map(|body| self.followed(body, "requestBodies", &at)).transpose()?;
        let mut responses = BTreeMap::new();
        for (status, response) in members(said, "responses", &at)? {
            responses.insert(status, self.followed(response, "responses", &format!("{at}, {status}"))?);
        }
        let description = [text(said, "summary"), text(said, "description")].join("\n");
        Ok(Operation { name, place, description: shortened(&description), parameters, body, responses })
    }

    /// The fields of requests and responses that carry an element: each once, as an entry has them.
    fn elements(
        self,
        operations: &[Operation<'d>],
        marked: BTreeMap<usize, Marked<'d>>,
    ) -> Result<Vec<ElementField>, Undocumented> {
        let mut search = Search {
            document: self,
            marked,
            found: Found::new(),
            reached: BTreeSet::new(),
            aside: BTreeMap::new(),
            discriminates: false,
            steps: 0,
        };
        for operation in operations {
            let asked = search.asked(operation)?;
            search.walk(asked, Side::Asked)?;
            let answered = search.answered(operation)?;
            search.walk(answered, Side::Answered)?;
        }
        search.walk_aside()?;
        search.each_mark_says_something()?;
        limit("fields with an element", search.found.len(), MAX_ELEMENT_FIELDS)?;
        Ok(search.found.into_values().collect())
    }

    /// What a parameter, or a header, may be.
    fn parameter(self, parameter: Object<'d>, at: &str) -> Result<Vec<&'d Value>, Undocumented> {
        let contents = self.contents(parameter, at)?;
        Ok(parameter.get("schema").into_iter().chain(contents.into_values().flatten()).collect())
    }

    /// The schemas of a body, by their media types.
    fn contents(self, of: Object<'d>, at: &str) -> Result<BTreeMap<&'d str, Option<&'d Value>>, Undocumented> {
        let mut contents = BTreeMap::new();
        for (media, content) in names(of, "content", at)? {
            contents.insert(media, object(content, format_args!("{at}, {media}"))?.get("schema"));
        }
        Ok(contents)
    }

    /// The headers of a response, and of the parts of a body, with the names of their fields.
    fn headers(self, of: Object<'d>, at: &str) -> Result<Vec<(String, Object<'d>)>, Undocumented> {
        let (mut with_headers, mut headers) = (vec![of], Vec::new());
        for (_, content) in names(of, "content", at)? {
            for (_, encoding) in names(object(content, at)?, "encoding", at)? {
                with_headers.push(object(encoding, at)?);
            }
        }
        for each in with_headers {
            for (name, header) in names(each, "headers", at)? {
                headers.push((child(at, name), self.followed(header, "headers", at)?));
            }
        }
        Ok(headers)
    }
}

/// Schemas, and the names of what they are of.
type Places<'d> = Vec<(String, &'d Value)>;

/// The search for elements.
struct Search<'d> {
    document: Document<'d>,
    marked: BTreeMap<usize, Marked<'d>>,
    found: Found,
    /// Where each stands that it came to.
    reached: BTreeSet<usize>,
    /// Properties that are no part of a side, by where they stand.
    aside: BTreeMap<usize, &'d Value>,
    /// A schema that it came to says by a discriminator which other one stands there.
    discriminates: bool,
    steps: usize,
}

impl<'d> Search<'d> {
    fn step(&mut self, steps: usize) -> Result<(), Undocumented> {
        self.steps += steps;
        limit("schemas that its operations reach", self.steps, MAX_STEPS)
    }

    /// Where the schemas of a request begin.
    fn asked(&mut self, operation: &Operation<'d>) -> Result<Places<'d>, Undocumented> {
        let mut asked = Vec::new();
        for ((place, _), parameter) in &operation.parameters {
            asked.extend(self.parameter(parameter, &operation.field(place, parameter), Side::Asked)?);
        }
        if let Some(body) = operation.body {
            asked.extend(self.body(body, &format!("{}.request", operation.name), Side::Asked)?);
        }
        Ok(asked)
    }

    /// Where those of its responses begin.
    fn answered(&mut self, operation: &Operation<'d>) -> Result<Places<'d>, Undocumented> {
        let (mut answered, mut seen) = (Vec::new(), BTreeSet::new());
        for response in operation.responses.values().filter(|response| seen.insert(address(response))) {
            answered.extend(self.body(response, &format!("{}.response", operation.name), Side::Answered)?);
        }
        Ok(answered)
    }

    fn body(&mut self, body: Object<'d>, at: &str, side: Side) -> Result<Places<'d>, Undocumented> {
        let (contents, headers) = (self.document.contents(body, at)?, self.document.headers(body, at)?);
        self.step(1 + contents.len() + headers.len())?;
        let mut schemas: Places<'d> = contents.into_values().flatten().map(|schema| (at.to_owned(), schema)).collect();
        for (at, header) in headers {
            schemas.extend(self.parameter(header, &at, side)?);
        }
        Ok(schemas)
    }

    /// A parameter, or a header.
    fn parameter(&mut self, parameter: Object<'d>, at: &str, side: Side) -> Result<Places<'d>, Undocumented> {
        self.reached.insert(address(parameter));
        if let Some(said) = self.marked.get_mut(&address(parameter)) {
            said.reach(side);
            keep(&mut self.found, at, said.mark.clone(), side)?;
        }
        let schemas = self.document.parameter(parameter, at)?;
        self.step(1 + schemas.len())?;
        Ok(schemas.into_iter().map(|schema| (at.to_owned(), schema)).collect())
    }

    /// Each schema once, the nearest place first.
    fn walk(&mut self, begin: Places<'d>, side: Side) -> Result<(), Undocumented> {
        let mut seen = BTreeSet::new();
        let mut waiting: VecDeque<(String, &Value)> = begin.into();
        while let Some((at, value)) = waiting.pop_front() {
            let schema = Schema::of(self.document, &[value], &at)?;
            self.step(schema.read)?;
            let mut mark = Mark::default();
            for part in &schema.parts {
                if let Some(said) = self.marked.get_mut(&address(part)) {
                    mark = joined(mark, &said.mark)
                        .ok_or_else(|| wrong(&at, "it is marked as two elements; leave one out"))?;
                    said.reach(side);
                }
            }
            keep(&mut self.found, &at, mark, side)?;
            for part in schema.parts.into_iter().filter(|part| seen.insert(address(part))) {
                self.reached.insert(address(part));
                self.discriminates |= part.contains_key("discriminator");
                waiting.extend(schema::below(part, &at, side)?);
                let aside = schema::aside(part, &at, side)?;
                self.step(aside.len())?;
                self.aside.extend(aside);
            }
        }
        Ok(())
    }

    /// Properties that are no part of a side carry nothing there; what marks them stands where it may.
    fn walk_aside(&mut self) -> Result<(), Undocumented> {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&Value> = std::mem::take(&mut self.aside).into_values().collect();
        while let Some(value) = waiting.pop() {
            let schema = Schema::of(self.document, &[value], "components")?;
            self.step(schema.read)?;
            for part in schema.parts.into_iter().filter(|part| seen.insert(address(part))) {
                if let Some(said) = self.marked.get_mut(&address(part)) {
                    said.aside = true;
                }
                for side in [Side::Asked, Side::Answered] {
                    waiting.extend(schema::below(part, "components", side)?.into_iter().map(|(_, schema)| schema));
                }
            }
        }
        Ok(())
    }

    /// No mark is taken that would never be listed.
    fn each_mark_says_something(&self) -> Result<(), Undocumented> {
        for Marked { at, component, mark, asked, answered, aside } in self.marked.values() {
            let mean = |why: &str| Err(wrong(at, why));
            let is_unused = component.is_some_and(|component| self.is_unused(component));
            let of_schema = component.is_some_and(|(kind, _)| kind == "schemas");
            if !asked && !answered && !aside && is_unused && of_schema && self.discriminates {
                return mean(
                    "a discriminator may lead here, and no operation does; name the schema in oneOf or anyOf beside the discriminator",
                );
            }
            if !asked && !answered && !aside && !is_unused {
                return mean(
                    "x-causeway-… says nothing here; write it on a property, a schema or a parameter of an operation",
                );
            }
            if mark.authoritative && *asked && !answered {
                return mean("x-causeway-authoritative: it is in requests only, and a source answers; leave it out");
            }
            if mark.collected && *answered && !asked {
                return mean(
                    "x-causeway-collected: it is in responses only, and people are asked in requests; leave it out",
                );
            }
        }
        Ok(())
    }

    /// Whether no operation reaches a schema or parameter of the components at all: its marks count when one does.
    fn is_unused(&self, (kind, name): (&str, &str)) -> bool {
        let whole = self.document.0.get("components").and_then(|all| all.get(kind)?.get(name)?.as_object());
        // Of a parameter that is another one, only the other one is reached.
        let is_itself = |whole: Object<'_>| kind == "schemas" || !whole.contains_key("$ref");
        whole.is_some_and(|whole| is_itself(whole) && !self.reached.contains(&address(whole)))
    }
}

/// By element, name and part.
type Found = BTreeMap<(String, String, Part), ElementField>;

fn keep(found: &mut Found, at: &str, mark: Mark, side: Side) -> Result<(), Undocumented> {
    if mark == Mark::default() {
        return Ok(());
    }
    let field = marked_field(at, mark, side)?;
    let key = (field.element.to_string(), field.field.clone(), field.part);
    match found.insert(key, field.clone()) {
        Some(before) if before != field => Err(wrong(at, "it gives two reasons to ask people; leave one out")),
        _ => Ok(()),
    }
}

/// Both, where they do not contradict one another.
fn joined(one: Mark, other: &Mark) -> Option<Mark> {
    let same = match (&one.element, &other.element) {
        (Some(element), Some(other)) => element == other,
        _ => true,
    };
    same.then(|| Mark {
        element: one.element.or_else(|| other.element.clone()),
        authoritative: one.authoritative || other.authoritative,
        subject: false,
        collected: one.collected || other.collected,
        reason: one.reason.or_else(|| other.reason.clone()),
    })
}

fn marked_field(at: &str, mark: Mark, side: Side) -> Result<ElementField, Undocumented> {
    if let Some(what) = mark.contradiction() {
        return Err(wrong(at, what));
    }
    let Mark { element: Some(element), authoritative, collected, reason, .. } = mark else {
        return Err(wrong(at, "it is marked, and not with its x-causeway-element; say which it is"));
    };
    if at.len() > MAX_FIELD_BYTES {
        let shown: String = at.chars().take(60).collect();
        return Err(wrong(
            shown,
            format!("the name of this field is longer than {MAX_FIELD_BYTES} bytes; shorten the names that lead to it"),
        ));
    }
    let part = match (side, collected, authoritative) {
        (Side::Asked, true, _) => Part::Collects,
        (Side::Asked, false, _) => Part::Takes,
        (Side::Answered, _, true) => Part::Authoritative,
        (Side::Answered, _, false) => Part::Gives,
    };
    let reason = reason.filter(|_| part == Part::Collects);
    Ok(ElementField { element, field: at.to_owned(), part, reason })
}

/// What rights on an operation are given by: its operationId, or its verb and path.
fn name(operation: Object<'_>, place: &Place) -> Option<String> {
    let given = text(operation, "operationId");
    let written = match given {
        "" => format!("{}{}", place.verb.as_str().to_lowercase(), place.path.as_str().trim_end_matches('/')),
        given => given.to_owned(),
    };
    let braces = |letter: &char| !given.is_empty() || !matches!(letter, '{' | '}');
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let name: String = written.chars().filter(braces).map(plain).collect();
    let name = if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name };
    (name.len() <= MAX_SERVICE_BYTES).then_some(name)
}

fn named_once(operations: &[Operation<'_>]) -> Result<(), Undocumented> {
    let mut named: BTreeMap<&str, &Place> = BTreeMap::new();
    for Operation { name, place, .. } in operations {
        if let Some(before) = named.insert(name, place) {
            let (one, other) = (before.to_string(), place.to_string());
            return Err(Undocumented::SameName { name: name.clone(), one, other });
        }
    }
    let path = |operation: &Operation<'_>| format!("/a/{}", operation.name).parse::<MethodPath>();
    let named = operations.iter().map(|operation| {
        let path = path(operation).map_err(|error| wrong(&operation.place, error.to_string()))?;
        Ok((operation.place.clone(), path))
    });
    Operations::new(named.collect::<Result<Vec<_>, Undocumented>>()?)?;
    Ok(())
}

/// Names under which a document has values of its users, which mean nothing to it.
const DATA: [&str; 10] =
    ["example", "examples", "default", "enum", "const", "value", "security", "scopes", "mapping", "dependentRequired"];
/// What has members of any name, none of which is a word of OpenAPI.
const NAMES: [&str; 14] = [
    "properties",
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
    "schemas",
    "securitySchemes",
    "responses",
    "parameters",
    "requestBodies",
    "headers",
    "content",
    "encoding",
    "paths",
];
/// What would give a schema's references another meaning than they have here.
const OTHER_REFERENCES: [&str; 4] = ["$id", "$dynamicRef", "$recursiveRef", "$anchor"];

/// Counts its values, and finds what is marked, wherever it stands.
fn survey<'d>(
    value: &'d Value,
    is_names: bool,
    place: &mut Vec<&'d str>,
    count: &mut usize,
    marked: &mut BTreeMap<usize, Marked<'d>>,
) -> Result<(), Undocumented> {
    *count += 1;
    limit("values", *count, MAX_VALUES)?;
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| survey(value, false, place, count, marked)),
        Value::Object(members) => {
            if !is_names {
                own_words(members, place, marked)?;
            }
            for (name, value) in members {
                if name.len() > MAX_NAME_BYTES {
                    let why = format!("the name {} is longer than {MAX_NAME_BYTES} bytes; shorten it", quoted(name));
                    return Err(wrong(place.join("/"), why));
                }
                let is_data = !is_names && (DATA.contains(&name.as_str()) || name.starts_with("x-"));
                place.push(name);
                if is_data {
                    counted(value, count)?;
                } else {
                    let are_names = !is_names && NAMES.contains(&name.as_str());
                    survey(value, are_names, place, count, marked)?;
                }
                place.pop();
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn counted(value: &Value, count: &mut usize) -> Result<(), Undocumented> {
    *count += 1;
    limit("values", *count, MAX_VALUES)?;
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| counted(value, count)),
        Value::Object(members) => members.values().try_for_each(|value| counted(value, count)),
        _ => Ok(()),
    }
}

fn own_words<'d>(
    object: Object<'d>,
    place: &[&'d str],
    marked: &mut BTreeMap<usize, Marked<'d>>,
) -> Result<(), Undocumented> {
    let at = || place.join("/").chars().take(MAX_PLACE).collect::<String>();
    if let Some(Value::String(reference)) = object.get("$ref")
        && !reference.starts_with("#/components/")
    {
        let why =
            "it refers to what is not in the document's components; take it into them, or write it where it is used";
        return Err(wrong(at(), format!("{}: {why}", quoted(reference))));
    }
    if let Some(name) = OTHER_REFERENCES.iter().find(|name| object.contains_key(**name)) {
        return Err(wrong(at(), format!("{name} is not read; refer to the document's components by $ref")));
    }
    let mut mark = Mark::default();
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-causeway-")) {
        let unfit = |why: String| {
            let shown: String = name.chars().take(MAX_QUOTED).collect();
            wrong(at(), format!("{shown}: {why}"))
        };
        let text = || value.as_str().ok_or_else(|| unfit("it is a text; mend it".to_owned()));
        let flag = || value.as_bool().ok_or_else(|| unfit("it is true or false; mend it".to_owned()));
        match name.as_str() {
            "x-causeway-element" => {
                mark.element = Some(text()?.parse().map_err(|error: Malformed| unfit(error.to_string()))?)
            }
            "x-causeway-authoritative" => mark.authoritative = flag()?,
            "x-causeway-collected" => mark.collected = flag()?,
            "x-causeway-reason-to-collect" => {
                mark.reason = Some(text()?.parse().map_err(|error: Malformed| unfit(error.to_string()))?);
            }
            "x-causeway-subject" => {
                let why = "exchanges of REST services are not found by the person whom they are about; leave it out, or offer a \
                           gRPC service whose requests name the person";
                return Err(unfit(why.to_owned()));
            }
            _ => return Err(unfit("there is no such word; leave it out".to_owned())),
        }
    }
    if mark != Mark::default() {
        limit("places with an element", marked.len() + 1, MAX_MARKS)?;
        let component = match place {
            ["components", kind @ ("schemas" | "parameters"), name, ..] => Some((*kind, *name)),
            _ => None,
        };
        let marks = Marked { at: at(), component, mark, asked: false, answered: false, aside: false };
        marked.insert(address(object), marks);
    }
    Ok(())
}
