//! Routes that a service declares with `google.api.http`: an HTTP method and a path instead of the gRPC method's name. A path is cut
//! into segments as it came, and only then is what is percent-encoded in one of them decoded: no dot and no slash in it moves
//! anything. No path is of two routes: a service whose routes overlap is not published.

use prost_reflect::{
    DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage, ServiceDescriptor, Value,
};
use serde_json::Map;

/// Most routes of one method.
pub const MAX_ROUTES: usize = 16;
/// Most routes of services that are published together: each is held against each other.
pub const MAX_ROUTES_AT_ONCE: usize = 4096;
/// Most segments of a route.
pub const MAX_SEGMENTS: usize = 32;
/// Longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 512;
/// How deep a name in a path or a query may lead into messages.
pub const MAX_NAME_DEPTH: usize = 16;
/// The extension of google.protobuf.MethodOptions.
const HTTP: &str = "google.api.http";
const HTTP_NUMBER: u32 = 72_295_728;
/// Where paths of the door's own begin.
const OF_THE_DOOR: &str = "openapi";

/// A route of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    verb: String,
    segments: Vec<Segment>,
    /// What stands behind the last segment's colon.
    action: Option<String>,
    variables: Vec<Variable>,
    body: Body,
    answer: Option<String>,
}

/// Which part of the request the body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All that the path does not say.
    Whole,
    /// This field.
    Field(String),
    /// None: the query says what the path does not.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    /// Whatever is left, and that is at least one segment.
    Rest,
}

/// A field that some segments of the path say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    field: String,
    from: usize,
    /// None: to the end.
    to: Option<usize>,
}

/// What a path says of a field, percent-encoded still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPath {
    /// The field.
    pub field: String,
    /// As it came.
    pub value: String,
    /// Whether the template gives it several segments, or any number: a slash that is none between them stays as it was written.
    pub several: bool,
}

/// Why a service is not published with its routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// A template that is none, or hostile.
    #[error("the route {template:?} of {method}: {why}; mend its google.api.http option")]
    Template {
        /// The method.
        method: String,
        /// The template.
        template: String,
        /// What is wrong with it.
        why: String,
    },
    /// More routes than are held against each other.
    #[error("services that are published together have at most {MAX_ROUTES_AT_ONCE} routes; publish them apart")]
    TooMany,
    /// Routes of which both match one path.
    #[error("{path} would be {one} and {other}, {verb} both; change one of their google.api.http options")]
    Ambiguous {
        /// The HTTP method.
        verb: String,
        /// A path of both.
        path: String,
        /// A method.
        one: String,
        /// Another, or the same.
        other: String,
    },
}

/// Why what came by a route is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misrouted {
    /// A name that is no field.
    #[error("{name:?} is no field of {message}")]
    NoField {
        /// The name.
        name: String,
        /// The type that has no such field.
        message: String,
        /// The fields that there are.
        known: Vec<String>,
    },
    /// A field that a path or a query cannot say.
    #[error("{0:?} is a message, a map or a list of messages: a query cannot say it")]
    NotPlain(String),
    /// Said twice.
    #[error("{0:?} is said twice")]
    Twice(String),
    /// No UTF-8, or a percent sign that begins nothing.
    #[error("{0:?} is not percent-encoded UTF-8")]
    Encoding(String),
    /// A name that leads too deep.
    #[error("a name leads more than {MAX_NAME_DEPTH} messages deep")]
    Deep,
}

/// The routes of a method, and those rules of its option that are none: read whatever they say, as they stand in what others published.
fn read(method: &MethodDescriptor) -> (Vec<Route>, Vec<Unroutable>) {
    let (mut routes, mut wrong) = (Vec::new(), Vec::new());
    let Some(extension) = method.parent_pool().get_extension_by_name(HTTP) else { return (routes, wrong) };
    let options = method.options();
    let is_it = extension.number() == HTTP_NUMBER && extension.containing_message() == options.descriptor();
    if !is_it || !options.has_extension(&extension) {
        return (routes, wrong);
    }
    let rule = options.get_extension(&extension);
    let Some(rule) = rule.as_message() else { return (routes, wrong) };
    let more = rule.get_field_by_name("additional_bindings");
    let more = more.as_ref().and_then(|more| more.as_list()).unwrap_or_default();
    let rules = std::iter::once(rule).chain(more.iter().filter_map(Value::as_message));
    for (number, rule) in rules.enumerate() {
        let read = if number < MAX_ROUTES {
            route(method, rule)
        } else {
            Err((String::new(), format!("a method has at most {MAX_ROUTES} routes")))
        };
        match read {
            Ok(route) => routes.push(route),
            Err((template, why)) => {
                wrong.push(Unroutable::Template { method: method.full_name().to_owned(), template, why });
                if number >= MAX_ROUTES {
                    break;
                }
            }
        }
    }
    (routes, wrong)
}

/// The routes that a method has. What is no route is left out: it was published before there were any, or is no one's to publish.
pub fn routes_of(method: &MethodDescriptor) -> Vec<Route> {
    read(method).0
}

/// Whether these services may be published together as far as their routes go.
pub fn judged<'a>(services: impl Iterator<Item = &'a ServiceDescriptor>) -> Result<(), Unroutable> {
    let (mut all, mut methods): (Vec<(String, Route)>, Vec<MethodDescriptor>) = Default::default();
    for method in services.flat_map(ServiceDescriptor::methods) {
        let (routes, wrong) = read(&method);
        if let Some(wrong) = wrong.into_iter().next() {
            return Err(wrong);
        }
        all.extend(routes.into_iter().map(|route| (method.full_name().to_owned(), route)));
        if all.len() > MAX_ROUTES_AT_ONCE {
            return Err(Unroutable::TooMany);
        }
        methods.push(method);
    }
    for method in methods {
        let own = Route::of_its_name(&method);
        let meeting = all.iter().find_map(|(other, route)| Some((other, own.meets(route)?)));
        if let Some((other, path)) = meeting {
            let (verb, one, other) = (own.verb, method.full_name().to_owned(), other.clone());
            return Err(Unroutable::Ambiguous { verb, path, one, other });
        }
    }
    for (at, (one, route)) in all.iter().enumerate() {
        for (other, another) in &all[at + 1..] {
            if let Some(path) = route.meets(another) {
                let (verb, one, other) = (route.verb.clone(), one.clone(), other.clone());
                return Err(Unroutable::Ambiguous { verb, path, one, other });
            }
        }
    }
    Ok(())
}

fn text(rule: &DynamicMessage, name: &str) -> Option<String> {
    let text = rule.get_field_by_name(name)?.as_str()?.to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// A rule as a route; else its template, and what is wrong.
fn route(method: &MethodDescriptor, rule: &DynamicMessage) -> Result<Route, (String, String)> {
    let plain = ["get", "put", "post", "delete", "patch"];
    let custom = rule.get_field_by_name("custom").and_then(|custom| {
        let custom = custom.as_message()?.clone();
        Some((text(&custom, "kind")?, text(&custom, "path")?))
    });
    let named = plain.iter().find_map(|verb| Some((verb.to_uppercase(), text(rule, verb)?)));
    let none = || (String::new(), "it says no HTTP method and path".to_owned());
    let (verb, path) = named.or(custom).ok_or_else(none)?;
    let told = |why: String| (path.chars().take(MAX_TEMPLATE_BYTES).collect::<String>(), why);
    let is_verb = verb.len() <= 16 && verb.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_verb || matches!(verb.as_str(), "CONNECT" | "OPTIONS" | "TRACE" | "HEAD") {
        return Err(told("its HTTP method is none that a route may have".to_owned()));
    }
    let (segments, variables, action) = template(&path).map_err(told)?;
    let (input, output) = (method.input(), method.output());
    for (at, Variable { field, .. }) in variables.iter().enumerate() {
        let found =
            field_at(&input, field).ok_or_else(|| told(format!("{field:?} is no field of {}", input.full_name())))?;
        if found.is_list() || found.is_map() || !is_plain(&found.kind()) {
            return Err(told(format!("{field:?} is a list, a map or a message, which a path cannot say")));
        }
        if variables[..at].iter().any(|earlier| earlier.field == *field) {
            return Err(told(format!("{field:?} stands in it twice")));
        }
    }
    let body = match text(rule, "body") {
        None => Body::None,
        Some(all) if all == "*" => Body::Whole,
        Some(field) if input.get_field_by_name(&field).is_some() => Body::Field(field),
        Some(field) => return Err(told(format!("its body {field:?} is no field of {}", input.full_name()))),
    };
    if is_no_object(&input) && (body != Body::Whole || !variables.is_empty()) {
        return Err(told(format!(
            "JSON writes {} with no names of fields: its body is \"*\" and its path says no field",
            input.full_name()
        )));
    }
    if body != Body::None && matches!(verb.as_str(), "GET" | "DELETE") {
        return Err(told(format!("{verb} has no body")));
    }
    if method.is_client_streaming() && (body != Body::Whole || !variables.is_empty()) {
        return Err(told("the method takes a stream: its body is \"*\" and its path says no field".to_owned()));
    }
    let answer = text(rule, "response_body");
    if answer.is_some() && is_no_object(&output) {
        return Err(told(format!(
            "JSON writes {} with no names of fields: leave out its response_body",
            output.full_name()
        )));
    }
    if let Some(field) = &answer
        && (method.is_server_streaming() || output.get_field_by_name(field).is_none())
    {
        return Err(told(format!("its response_body {field:?} is no field of one {}", output.full_name())));
    }
    Ok(Route { verb, segments, action, variables, body, answer })
}

/// "/v1/{name=shelves/*}/books/{book}:read"
#[allow(clippy::type_complexity, reason = "the three parts of a template, taken apart at once")]
fn template(path: &str) -> Result<(Vec<Segment>, Vec<Variable>, Option<String>), String> {
    if path.len() > MAX_TEMPLATE_BYTES {
        return Err(format!("it is longer than {MAX_TEMPLATE_BYTES} bytes"));
    }
    let inner = path.strip_prefix('/').ok_or("it does not begin with a slash")?;
    let behind = inner.rfind('}').map_or(0, |end| end + 1);
    let (inner, action) = match inner[behind..].rfind(':') {
        Some(colon) => (&inner[..behind + colon], Some(inner[behind + colon + 1..].to_owned())),
        None => (inner, None),
    };
    if action.as_ref().is_some_and(|action| !is_literal(action)) {
        return Err("what stands behind its colon is no word".to_owned());
    }
    let (mut segments, mut variables, mut rest) = (Vec::new(), Vec::new(), inner);
    loop {
        let behind = match rest.strip_prefix('{') {
            Some(variable) => {
                let (variable, behind) = variable.split_once('}').ok_or("a brace is not closed")?;
                let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
                let from = segments.len();
                for part in pattern.split('/') {
                    segments.push(segment(part)?);
                }
                let open = segments.last() == Some(&Segment::Rest);
                variables.push(Variable { field: field.to_owned(), from, to: (!open).then_some(segments.len()) });
                behind
            }
            None => {
                let end = rest.find('/').unwrap_or(rest.len());
                segments.push(segment(&rest[..end])?);
                &rest[end..]
            }
        };
        match behind.strip_prefix('/') {
            Some(next) => rest = next,
            None if behind.is_empty() => break,
            None => return Err("a brace is closed within a segment".to_owned()),
        }
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(format!("it has more than {MAX_SEGMENTS} segments"));
    }
    if segments[..segments.len() - 1].contains(&Segment::Rest) {
        return Err("** stands at the end only".to_owned());
    }
    match &segments[0] {
        Segment::Literal(first) if first != OF_THE_DOOR => Ok((segments, variables, action)),
        Segment::Literal(_) => Err(format!("/{OF_THE_DOOR} is the door's own")),
        Segment::One | Segment::Rest => {
            Err("it begins with no word of its own, and would take paths of others".to_owned())
        }
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    match text {
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        "." | ".." => Err("a segment of dots leads elsewhere for whoever mends paths".to_owned()),
        literal if is_literal(literal) => Ok(Segment::Literal(literal.to_owned())),
        other => Err(format!("{other:?} is no segment: words of letters, digits, '-', '_', '.' and '~', * or **")),
    }
}

/// What stands in a path for itself, however it is written or read: RFC 3986's unreserved characters.
fn is_literal(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'))
}

/// The field that a name with dots leads to, through single messages only.
pub(crate) fn field_at(message: &MessageDescriptor, path: &str) -> Option<prost_reflect::FieldDescriptor> {
    let (mut message, mut rest) = (message.clone(), path);
    for _ in 0..MAX_NAME_DEPTH {
        let Some((first, behind)) = rest.split_once('.') else { return message.get_field_by_name(rest) };
        let field = message.get_field_by_name(first)?;
        match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => (message, rest) = (inner, behind),
            _ => return None,
        }
    }
    None
}

/// Whether it has fields, and JSON does not write it as an object of them.
fn is_no_object(message: &MessageDescriptor) -> bool {
    crate::openapi::well_known(message.full_name()).is_some() && message.fields().len() > 0
}

/// Whether a word can say a value of it.
pub(crate) fn is_plain(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name().strip_prefix("google.protobuf.").is_some_and(|name| {
            matches!(name, "Timestamp" | "Duration" | "FieldMask")
                || (name.ends_with("Value") && name != "Value" && name != "ListValue")
        }),
        _ => true,
    }
}

impl Route {
    /// The path by which every method is called.
    fn of_its_name(method: &MethodDescriptor) -> Self {
        let words = [method.parent_service().full_name(), method.name()].map(|word| Segment::Literal(word.to_owned()));
        let (segments, variables) = (words.into(), Vec::new());
        Self { verb: "POST".to_owned(), segments, action: None, variables, body: Body::Whole, answer: None }
    }

    /// The HTTP method.
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// Which part of the request the body is.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The field that is the answer, where it is not all of it.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }

    /// The fields that the path says.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field.as_str())
    }

    /// As OpenAPI writes it, where it can: each segment that is not fixed by a name, and those names with the fields that they are
    /// of. A field that stands in several segments has several names.
    pub fn template(&self) -> (String, Vec<(String, Option<&str>)>) {
        let (mut path, mut names) = (String::new(), Vec::new());
        for (at, segment) in self.segments.iter().enumerate() {
            path.push('/');
            if let Segment::Literal(text) = segment {
                path.push_str(text);
                continue;
            }
            let of = self.variables.iter().find(|variable| variable.from <= at && variable.to.is_none_or(|to| at < to));
            let open = |each: &&Segment| !matches!(each, Segment::Literal(_));
            let name = match of {
                Some(variable) => {
                    let to = variable.to.unwrap_or(self.segments.len());
                    let parts = self.segments[variable.from..to].iter().filter(open).count();
                    let before = self.segments[variable.from..at].iter().filter(open).count();
                    if parts == 1 { variable.field.clone() } else { format!("{}.{}", variable.field, before + 1) }
                }
                None => format!("segment.{}", at + 1),
            };
            path.push_str(&format!("{{{name}}}"));
            names.push((name, of.map(|variable| variable.field.as_str())));
        }
        self.action.iter().for_each(|action| path.push_str(&format!(":{action}")));
        (path, names)
    }

    /// What the fields of the path are, as they came, if it is one of this route.
    pub fn matched(&self, verb: &str, path: &str) -> Option<Vec<InPath>> {
        if verb != self.verb {
            return None;
        }
        let path = path.strip_prefix('/')?;
        // Of the last segment only: a colon that belongs to a value is written %3A.
        let last = path.rfind('/').map_or(0, |slash| slash + 1);
        let (path, action) = match path[last..].rfind(':') {
            Some(colon) => (&path[..last + colon], Some(&path[last + colon + 1..])),
            None => (path, None),
        };
        if action != self.action.as_deref() {
            return None;
        }
        let mut starts = Vec::new();
        let mut at = 0;
        for segment in path.split('/') {
            let is_it = match self.segments.get(starts.len().min(self.segments.len() - 1))? {
                Segment::Literal(text) => decoded(segment, Spaces::Percent).is_some_and(|segment| segment == *text),
                Segment::One | Segment::Rest => !segment.is_empty(),
            };
            let beyond = starts.len() >= self.segments.len() && self.segments.last() != Some(&Segment::Rest);
            if !is_it || beyond {
                return None;
            }
            starts.push(at);
            at += segment.len() + 1;
        }
        if starts.len() < self.segments.len() {
            return None;
        }
        let end = |to: usize| starts.get(to).map_or(path.len(), |start| start - 1);
        let said = |variable: &Variable| InPath {
            field: variable.field.clone(),
            value: path[starts[variable.from]..variable.to.map_or(path.len(), end)].to_owned(),
            several: variable.to.is_none_or(|to| to - variable.from > 1),
        };
        Some(self.variables.iter().map(said).collect())
    }

    /// A path that is of both, if there is one.
    fn meets(&self, other: &Self) -> Option<String> {
        if self.verb != other.verb || self.action != other.action {
            return None;
        }
        let (mut path, mut at) = (String::new(), 0);
        loop {
            let (one, another) = (self.segments.get(at), other.segments.get(at));
            let word = match (one, another) {
                (None, None) => break,
                (None, Some(_)) | (Some(_), None) => return None,
                (Some(Segment::Literal(one)), Some(Segment::Literal(other))) if one != other => return None,
                (Some(Segment::Literal(text)), _) | (_, Some(Segment::Literal(text))) => text.as_str(),
                _ => "x",
            };
            path.push('/');
            path.push_str(word);
            // Whatever is left of the one is what is left of the other.
            let longer = match (one, another) {
                (Some(Segment::Rest), _) => &other.segments[at + 1..],
                (_, Some(Segment::Rest)) => &self.segments[at + 1..],
                _ => {
                    at += 1;
                    continue;
                }
            };
            for segment in longer {
                path.push('/');
                path.push_str(if let Segment::Literal(text) = segment { text } else { "x" });
            }
            break;
        }
        self.action.iter().for_each(|action| path.push_str(&format!(":{action}")));
        Some(path)
    }
}

/// The request that a path and a query say, as JSON, on top of what the body says.
pub fn request(
    kind: &MessageDescriptor,
    variables: &[InPath],
    query: &str,
    mut body: Map<String, serde_json::Value>,
) -> Result<Map<String, serde_json::Value>, Misrouted> {
    for InPath { field, value, several } in variables {
        let value = if *several { value.replace("%2F", "%252F").replace("%2f", "%252f") } else { value.clone() };
        let value = decoded(&value, Spaces::Percent).ok_or_else(|| Misrouted::Encoding(field.clone()))?;
        say(kind, field, value, &mut body, MAX_NAME_DEPTH)?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let encoding = || Misrouted::Encoding(name.to_owned());
        let name = decoded(name, Spaces::Plus).ok_or_else(encoding)?;
        let value = decoded(value, Spaces::Plus).ok_or_else(encoding)?;
        say(kind, &name, value, &mut body, MAX_NAME_DEPTH)?;
    }
    Ok(body)
}

/// How a space is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spaces {
    Percent,
    /// As forms write it: a plus, too.
    Plus,
}

fn decoded(text: &str, spaces: Spaces) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = &tail[2..];
            }
            b'+' if spaces == Spaces::Plus => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn say(
    kind: &MessageDescriptor,
    name: &str,
    value: String,
    into: &mut Map<String, serde_json::Value>,
    depth: usize,
) -> Result<(), Misrouted> {
    if depth == 0 {
        return Err(Misrouted::Deep);
    }
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let field = kind.get_field_by_name(first).or_else(|| kind.get_field_by_json_name(first));
    let field = field.ok_or_else(|| Misrouted::NoField {
        name: first.chars().take(64).collect(),
        message: kind.full_name().to_owned(),
        known: kind.fields().take(24).map(|field| field.json_name().to_owned()).collect(),
    })?;
    // By one name, in whatever writing a body says it.
    if field.name() != field.json_name() && into.contains_key(field.name()) {
        return Err(Misrouted::Twice(first.to_owned()));
    }
    let key = field.json_name().to_owned();
    match (rest, field.kind()) {
        (Some(rest), Kind::Message(inner)) if !field.is_list() && !field.is_map() && !is_plain(&field.kind()) => {
            let inside = into.entry(key).or_insert_with(|| Map::new().into());
            let inside = inside.as_object_mut().ok_or_else(|| Misrouted::Twice(first.to_owned()))?;
            say(&inner, rest, value, inside, depth - 1)
        }
        (Some(_), _) => Err(Misrouted::NotPlain(first.to_owned())),
        (None, kind) if field.is_map() || !is_plain(&kind) => Err(Misrouted::NotPlain(first.to_owned())),
        (None, kind) => {
            let is_bool = match &kind {
                Kind::Bool => true,
                Kind::Message(message) => message.full_name() == "google.protobuf.BoolValue",
                _ => false,
            };
            let value = match value.as_str() {
                "true" if is_bool => true.into(),
                "false" if is_bool => false.into(),
                _ => value.into(),
            };
            if field.is_list() {
                let items = into.entry(key).or_insert_with(|| serde_json::Value::Array(Vec::new()));
                items.as_array_mut().ok_or_else(|| Misrouted::Twice(first.to_owned()))?.push(value);
            } else if into.insert(key, value).is_some() {
                return Err(Misrouted::Twice(first.to_owned()));
            }
            Ok(())
        }
    }
}
