//! A service as an OpenAPI 3.1 document: what the clients' door takes for it as JSON, for programs and people who read no .proto.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};
use serde_json::{Map, Value, json};

use crate::described::Comments;
use crate::routes::{Body, Route, field_at, is_plain, routes_of};

/// The schema of a refusal. No name of a message has a hyphen, so it is none's.
const PROBLEM: &str = "causeway-problem";

/// HTTP methods that OpenAPI has a place for.
const VERBS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];

/// What a caller sets: the name, what it is, and whether it must.
const FIELDS: [(&str, &str, bool); 7] = [
    ("causeway-service", "whom to ask: the provider's subsystem; not needed where the service is bound to it", false),
    ("causeway-purpose", "why: a purpose of the provider's grant", true),
    ("causeway-legal-basis", "on which legal basis", false),
    ("causeway-subject", "about whom, as a pseudonym", false),
    ("causeway-represented-party", "for whom the caller acts", false),
    ("grpc-timeout", "how long it may take: up to 8 digits and H, M, S, m, u or n", false),
    ("accept-language", "the language of refusals: en or vi", false),
];

/// What the descriptors do not say.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name for people.
    pub title: String,
    /// Its version.
    pub version: String,
    /// What it is.
    pub description: String,
    /// Whom people ask.
    pub contact: String,
    /// The subsystem that offers it.
    pub provider: String,
    /// Why it should be used no more.
    pub deprecated: Option<String>,
    /// Where the door is: `http://HOST:PORT`. None: it is not said.
    pub door: Option<String>,
}

/// The document of a service.
pub fn document(service: &ServiceDescriptor, about: &About) -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for method in service.methods() {
        let path = format!("/{}/{}", service.full_name(), method.name());
        paths.insert(path, json!({ "post": operation(&method, about, &mut schemas) }));
    }
    // No two operations of a document have one id.
    let mut ids: BTreeSet<String> = service.methods().map(|method| method.name().to_owned()).collect();
    // Of paths that differ in the names of their parameters only OpenAPI takes one.
    let mut shapes: BTreeMap<String, String> = BTreeMap::new();
    for method in service.methods() {
        let routes = routes_of(&method).into_iter().filter(|route| VERBS.contains(&route.verb()));
        for (number, route) in routes.enumerate() {
            let (path, names) = route.template();
            let shape = names.iter().fold(path.clone(), |path, (name, _)| path.replace(&format!("{{{name}}}"), "{}"));
            if shapes.entry(shape).or_insert_with(|| path.clone()) == &path {
                let mut id = format!("{}_{}", method.name(), number + 1);
                while !ids.insert(id.clone()) {
                    id.push('_');
                }
                let call = routed(&method, id, &route, about, &mut schemas);
                let at_path = paths.entry(path).or_insert_with(|| json!({}));
                // Where the path is a method's own, the method is called: a service that was listed before that was refused.
                if let Some(verbs) = at_path.as_object_mut() {
                    verbs.entry(route.verb().to_lowercase()).or_insert(call);
                }
            }
        }
    }
    schemas.finish();
    schemas.named.insert(PROBLEM.into(), problem());
    let mut description = about.description.clone();
    if let Some(why) = &about.deprecated {
        description = format!("Deprecated: {why}\n\n{description}");
    }
    let parameters = FIELDS.iter().map(|(name, description, required)| {
        let mut schema = json!({ "type": "string" });
        if *name == "causeway-service" {
            schema["default"] = about.provider.as_str().into();
        }
        let parameter =
            json!({ "name": name, "in": "header", "required": required, "description": description, "schema": schema });
        ((*name).to_owned(), parameter)
    });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": about.version,
            "description": description.trim(),
            "contact": { "name": about.contact },
        },
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "parameters": parameters.collect::<Map<_, _>>(),
            "schemas": schemas.named,
            "securitySchemes": { "token": {
                "type": "apiKey",
                "in": "header",
                "name": "causeway-token",
                "description": "who asks, at a door that is not bound to one subsystem and without a client's certificate",
            } },
        },
    });
    if let Some(door) = &about.door {
        document["servers"] = json!([{ "url": door }]);
    }
    document
}

fn operation(method: &MethodDescriptor, about: &About, schemas: &mut Schemas) -> Value {
    let said = schemas.comment(&method.parent_service().parent_file(), method.path());
    let (input, output) = (schemas.of_message(&method.input()), schemas.of_message(&method.output()));
    let problem = || json!({ "application/problem+json": { "schema": reference(PROBLEM) } });
    let answers = if method.is_server_streaming() {
        let line = json!({
            "type": "object",
            "description": "one line of the answer: a message; or, as the last line, why it does not end well",
            "properties": { "result": output, "error": reference(PROBLEM) },
            "maxProperties": 1,
        });
        json!({
            "application/x-ndjson": { "schema": line },
            "text/event-stream": { "schema": { "type": "string" } },
        })
    } else {
        json!({ "application/json": { "schema": output } })
    };
    let asks = if method.is_client_streaming() { "application/x-ndjson" } else { "application/json" };
    let mut operation = json!({
        "operationId": method.name(),
        "parameters": FIELDS.map(|(name, ..)| json!({ "$ref": format!("#/components/parameters/{name}") })),
        "requestBody": { "required": true, "content": { asks: { "schema": input } } },
        "responses": {
            "200": {
                "description": "the service's answer",
                "headers": { "causeway-exchange": {
                    "description": "the exchange, by which both agencies find its evidence",
                    "schema": { "type": "string" },
                } },
                "content": answers,
            },
            "default": {
                "description": "a refusal, with its code; or the service's own status, said by the service",
                "content": problem(),
            },
        },
    });
    if !said.is_empty() {
        operation["summary"] = said.lines().next().unwrap_or_default().trim().into();
        operation["description"] = said.into();
    }
    if about.deprecated.is_some() {
        operation["deprecated"] = true.into();
    }
    operation
}

/// The same method by a route: the path says some fields, the body some or none, and the query the rest.
fn routed(method: &MethodDescriptor, id: String, route: &Route, about: &About, schemas: &mut Schemas) -> Value {
    let (mut operation, input) = (operation(method, about, schemas), method.input());
    operation["operationId"] = id.into();
    let parameters = operation["parameters"].as_array_mut();
    // The provider is named by each call of a route.
    let named = parameters.and_then(|parameters| parameters.first_mut());
    if let Some(named) = named {
        let default = json!({ "type": "string", "default": about.provider });
        *named = json!({ "name": "causeway-service", "in": "header", "required": true, "schema": default });
    }
    let mut more = Vec::new();
    for (name, field) in route.template().1 {
        let field = field.and_then(|field| field_at(&input, field));
        let schema = field.map_or(json!({ "type": "string" }), |field| schemas.of_field(&field));
        more.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    let body = match route.body() {
        Body::Whole => None,
        Body::Field(name) => Some(input.get_field_by_name(name)),
        Body::None => Some(None),
    };
    if let Some(body) = body {
        let in_path = |name: &str| route.variables().any(|field| field.split('.').next() == Some(name));
        for field in input.fields() {
            if schemas.in_queries == MAX_IN_QUERIES {
                break;
            }
            if body.as_ref() != Some(&field) && is_plain(&field.kind()) && !field.is_map() && !in_path(field.name()) {
                schemas.in_queries += 1;
                let schema = schemas.of_field(&field);
                more.push(json!({ "name": field.json_name(), "in": "query", "schema": schema }));
            }
        }
        match body {
            Some(field) => operation["requestBody"]["content"]["application/json"]["schema"] = schemas.of_field(&field),
            None => operation.as_object_mut().into_iter().for_each(|operation| _ = operation.remove("requestBody")),
        }
    }
    if let Some(field) = route.answer().and_then(|answer| method.output().get_field_by_name(answer)) {
        let schema = schemas.of_field(&field);
        operation["responses"]["200"]["content"]["application/json"]["schema"] = schema;
    }
    operation["parameters"].as_array_mut().into_iter().for_each(|parameters| parameters.append(&mut more));
    operation
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Types by their full name, and those whose turn has not come: one after the other, however deep they stand in one another.
#[derive(Default)]
struct Schemas {
    named: Map<String, Value>,
    waiting: Vec<MessageDescriptor>,
    comments: BTreeMap<String, Comments>,
    /// Fields that queries were told to have.
    in_queries: usize,
}

/// Most fields that all queries of a document are told to have; what a route takes beyond them is not told. A message of many
/// fields that is the request of many routes makes no document that fills the memory.
const MAX_IN_QUERIES: usize = 16 * 1024;

impl Schemas {
    fn comment(&mut self, file: &prost_reflect::FileDescriptor, path: &[i32]) -> String {
        let comments = self.comments.entry(file.name().to_owned()).or_insert_with(|| Comments::of(file));
        comments.at(path).trim().to_owned()
    }

    fn of_message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(known) = well_known(message.full_name()) {
            return known;
        }
        let name = message.full_name();
        if !self.named.contains_key(name) {
            self.named.insert(name.to_owned(), Value::Null);
            self.waiting.push(message.clone());
        }
        reference(name)
    }

    fn finish(&mut self) {
        while let Some(message) = self.waiting.pop() {
            let file = message.parent_file();
            let (mut properties, mut required) = (Map::new(), Vec::new());
            for field in message.fields() {
                let mut schema = self.of_field(&field);
                let said = self.comment(&file, field.path());
                let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
                if let Some(members) = schema.as_object_mut() {
                    oneof.iter().for_each(|oneof| _ = members.insert("x-one-of".into(), oneof.name().into()));
                    if !said.is_empty() {
                        members.insert("description".into(), said.into());
                    }
                }
                if field.cardinality() == Cardinality::Required {
                    required.push(field.json_name().to_owned());
                }
                properties.insert(field.json_name().to_owned(), schema);
            }
            let mut schema = json!({ "type": "object", "properties": properties });
            let said = self.comment(&file, message.path());
            if !said.is_empty() {
                schema["description"] = said.into();
            }
            if !required.is_empty() {
                schema["required"] = required.into();
            }
            self.named.insert(message.full_name().to_owned(), schema);
        }
    }

    fn of_field(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                json!({ "type": "object", "additionalProperties": self.of_kind(&entry.map_entry_value_field().kind()) })
            }
            kind if field.is_list() => json!({ "type": "array", "items": self.of_kind(&kind) }),
            kind => self.of_kind(&kind),
        }
    }

    fn of_kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double => real("double"),
            Kind::Float => real("float"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "uint32", "minimum": 0 }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "string", "format": "int64" }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.of_message(message),
            Kind::Enum(values) => self.of_enum(values),
        }
    }

    fn of_enum(&mut self, values: &EnumDescriptor) -> Value {
        let name = values.full_name();
        if name == "google.protobuf.NullValue" {
            return json!({ "type": "null" });
        }
        if !self.named.contains_key(name) {
            let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
            self.named.insert(name.to_owned(), json!({ "type": "string", "enum": names }));
        }
        reference(name)
    }
}

/// A number, or one of those that JSON has no number for.
fn real(format: &str) -> Value {
    json!({ "anyOf": [{ "type": "number", "format": format }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
}

/// Types that JSON writes in a way of their own.
pub(crate) fn well_known(name: &str) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
        "FieldMask" => json!({ "type": "string" }),
        "Struct" => json!({ "type": "object" }),
        "Value" => json!({}),
        "ListValue" => json!({ "type": "array" }),
        "Empty" => json!({ "type": "object", "maxProperties": 0 }),
        "Any" => {
            json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] })
        }
        "DoubleValue" => real("double"),
        "FloatValue" => real("float"),
        "Int64Value" => json!({ "type": "string", "format": "int64" }),
        "UInt64Value" => json!({ "type": "string", "format": "uint64" }),
        "StringValue" => json!({ "type": "string" }),
        "BytesValue" => json!({ "type": "string", "contentEncoding": "base64" }),
        "Int32Value" => json!({ "type": "integer", "format": "int32" }),
        "UInt32Value" => json!({ "type": "integer", "format": "uint32", "minimum": 0 }),
        "BoolValue" => json!({ "type": "boolean" }),
        _ => return None,
    })
}

fn problem() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "description": "a problem document, RFC 9457",
        "properties": {
            "type": text("urn:causeway:refusal:CODE of a refusal; about:blank of the service's own status"),
            "title": text("what is the matter; of the service's own status, its name in gRPC"),
            "status": { "type": "integer" },
            "detail": text("what of this call it was; of the service's own status, its message"),
            "code": text("the refusal's code, which `security-server explain` explains"),
            "remedy": text("what to do next"),
            "side": text("who can do something about it"),
            "saidBy": text("consumer-server, provider-server or service"),
            "grpcStatus": { "type": "integer" },
            "exchange": text("the exchange, by which evidence is found"),
            "details": { "type": "array", "items": { "type": "object" } },
        },
        "required": ["type", "title", "status", "saidBy", "grpcStatus"],
    })
}
