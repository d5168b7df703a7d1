//! A first call of a method, to be copied: in the caller's language, with its own door and names. Pure: facts in, text out.

use std::collections::BTreeSet;

use clap::ValueEnum;
use proto::identifier::MethodPath;
use serde_json::{Map, Value};

/// The longest that a snippet is, in lines.
pub const MAX_LINES: usize = 15;
/// How deep a sample goes: what lies deeper is left empty.
const MAX_DEPTH: usize = 3;
/// Most fields of one object in it.
const MAX_MEMBERS: usize = 16;
/// The environment variable with the token, at a door that is bound to nobody.
const TOKEN: &str = "CAUSEWAY_TOKEN";

/// The languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// JSON, in a shell.
    Curl,
    /// gRPC by reflection, in a shell.
    Grpcurl,
    /// gRPC, with grpcio and protobuf.
    Python,
    /// JSON, with requests.
    PythonRequests,
    /// gRPC, with @grpc/grpc-js and @grpc/proto-loader.
    Node,
    /// JSON, with the standard library.
    Go,
    /// JSON, with the standard library of Java 11 or later.
    Java,
    /// JSON, with the standard library of .NET 6 or later.
    Csharp,
}

/// What is called, and where.
#[derive(Clone, Debug)]
pub struct FirstCall {
    /// `http://HOST:PORT` of the door, or `https`.
    pub door: String,
    /// Whether it knows by itself who calls.
    pub bound: bool,
    /// What is called.
    pub method: MethodPath,
    /// The subsystem that is asked.
    pub provider: String,
    /// Why.
    pub purpose: String,
    /// The request, or the first of a stream of them.
    pub message: Value,
    /// Whether the method takes a stream.
    pub takes_stream: bool,
    /// Whether it answers with one.
    pub gives_stream: bool,
}

impl FirstCall {
    /// The call of this method that its service's OpenAPI document describes; none where it describes no such method.
    pub fn of(document: &Value, method: &MethodPath, door: String, bound: bool, purpose: String) -> Option<Self> {
        let asked = &document["paths"][method.as_str()]["post"];
        let (media, taken) = asked["requestBody"]["content"].as_object()?.iter().next()?;
        let given = asked["responses"]["200"]["content"].as_object()?;
        Some(Self {
            door,
            bound,
            method: method.clone(),
            provider: document["components"]["parameters"]["causeway-service"]["schema"]["default"]
                .as_str()?
                .to_owned(),
            purpose,
            message: of_schema(document, &taken["schema"], 0),
            takes_stream: media == NDJSON,
            gives_stream: given.contains_key(NDJSON),
        })
    }

    /// The text, in at most [`MAX_LINES`] lines.
    pub fn snippet(&self, language: Language) -> String {
        match language {
            Language::Curl => self.curl(),
            Language::Grpcurl => self.grpcurl(),
            Language::Python => self.python(),
            Language::PythonRequests => self.requests(),
            Language::Node => self.node(),
            Language::Go => self.go(),
            Language::Java => self.java(),
            Language::Csharp => self.csharp(),
        }
    }

    fn curl(&self) -> String {
        let headers = self.fields(|name, value| format!("  -H '{name}: {value}' \\\n"));
        let token = self.token(&format!("  -H \"causeway-token: ${TOKEN}\" \\\n"));
        let (url, media, body) = (self.url(), self.media(), self.body().replace('\'', "'\\''"));
        format!("curl -N --fail-with-body {url} \\\n{headers}{token}  -H 'content-type: {media}' \\\n  -d '{body}'\n")
    }

    fn grpcurl(&self) -> String {
        let headers = self.fields(|name, value| format!("  -H '{name}: {value}' \\\n"));
        let token = self.token(&format!("  -H \"causeway-token: ${TOKEN}\" \\\n"));
        let (plain, (door, method)) = (if self.tls() { "" } else { " -plaintext" }, (self.address(), self.name()));
        let body = self.body().replace('\'', "'\\''");
        format!("grpcurl{plain} \\\n{headers}{token}  -d '{body}' {door} {method}\n")
    }

    fn python(&self) -> String {
        let (door, service, name) = (self.address(), self.method.service(), self.method_name());
        let credentials = if self.tls() { "secure_channel(" } else { "insecure_channel(" };
        let credentials = (credentials, if self.tls() { ", grpc.ssl_channel_credentials()" } else { "" });
        let kind = |stream: bool| if stream { "stream" } else { "unary" };
        let kind = format!("{}_{}", kind(self.takes_stream), kind(self.gives_stream));
        let fields = self.fields(|name, value| format!("(\"{name}\", \"{value}\"), "));
        let (token, import) =
            (self.token(&format!("(\"causeway-token\", os.environ[\"{TOKEN}\"]), ")), self.token(", os"));
        let message = format!("json_format.Parse({}, request())", quoted(&self.message.to_string()));
        let message = if self.takes_stream { format!("iter([{message}])") } else { message };
        let printed = if self.gives_stream { "for each in answers:\n    print(each)\n" } else { "print(answers)\n" };
        format!(
            "# pip install grpcio protobuf; security-server services proto {service} --descriptors {file}\n\
             import grpc{import}\n\
             from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory\n\
             pool = descriptor_pool.DescriptorPool()\n\
             for each in descriptor_pb2.FileDescriptorSet.FromString(open(\"{file}\", \"rb\").read()).file:\n    \
             pool.Add(each)\n\
             method = pool.FindMethodByName(\"{service}.{name}\")\n\
             request, answer = map(message_factory.GetMessageClass, (method.input_type, method.output_type))\n\
             channel = grpc.{}\"{door}\"{})\n\
             call = channel.{kind}(\"{path}\", request.SerializeToString, answer.FromString)\n\
             fields = [{fields}{token}]\n\
             answers = call({message}, metadata=fields, timeout=10)\n\
             {printed}",
            credentials.0,
            credentials.1,
            file = self.descriptors(),
            path = self.method,
        )
    }

    fn requests(&self) -> String {
        let fields = self.fields(|name, value| format!("    \"{name}\": \"{value}\",\n"));
        let token = self.token(&format!("    \"causeway-token\": os.environ[\"{TOKEN}\"],\n"));
        let (import, media, url) = (self.token("import os\n"), self.media(), self.url());
        format!(
            "# pip install requests\n{import}import requests\nheaders = {{\n    \"content-type\": \"{media}\",\n\
             {fields}{token}}}\nbody = {}\n\
             answer = requests.post(\"{url}\", body.encode(), headers=headers, timeout=10)\n\
             print(answer.status_code, answer.text)\n",
            quoted(&self.body()),
        )
    }

    fn node(&self) -> String {
        let (door, service, name) = (self.address(), self.method.service(), self.method_name());
        let credentials = if self.tls() { "createSsl" } else { "createInsecure" };
        let fields = self.fields(|name, value| format!("fields.set(\"{name}\", \"{value}\");\n"));
        let token = self.token(&format!("fields.set(\"causeway-token\", process.env.{TOKEN});\n"));
        let said = "(error, answer) => console.log(error ? error.message : answer)";
        let message = self.message.to_string();
        let deadline = "{ deadline: Date.now() + 10000 }";
        let called = match (self.takes_stream, self.gives_stream) {
            (false, false) => format!("client.{name}({message}, fields, {deadline}, {said});\n"),
            (false, true) => format!("const call = client.{name}({message}, fields, {deadline});\n"),
            (true, false) => format!("const call = client.{name}(fields, {deadline}, {said});\ncall.end({message});\n"),
            (true, true) => format!("const call = client.{name}(fields, {deadline});\ncall.end({message});\n"),
        };
        let heard = if self.gives_stream {
            "call.on(\"data\", console.log).on(\"error\", (error) => console.log(error.message));\n"
        } else {
            ""
        };
        format!(
            "// npm install @grpc/grpc-js @grpc/proto-loader; security-server services proto {service} --descriptors {file}\n\
             const fs = require(\"fs\"), grpc = require(\"@grpc/grpc-js\"), loader = require(\"@grpc/proto-loader\");\n\
             const described = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(\"{file}\"));\n\
             const Service = grpc.makeClientConstructor(described[\"{service}\"], \"{service}\");\n\
             const client = new Service(\"{door}\", grpc.credentials.{credentials}());\n\
             const fields = new grpc.Metadata();\n{fields}{token}{called}{heard}",
            file = self.descriptors(),
        )
    }

    fn go(&self) -> String {
        let fields = self.fields(|name, value| format!("\task.Header.Set(\"{name}\", \"{value}\")\n"));
        let token = self.token(&format!("\task.Header.Set(\"causeway-token\", os.Getenv(\"{TOKEN}\"))\n"));
        let (import, media, url, body) = (self.token("; \"os\""), self.media(), self.url(), literal(&self.body()));
        format!(
            "package main\nimport (\"fmt\"; \"io\"; \"net/http\"; \"strings\"{import})\nfunc main() {{\n\
             \task, _ := http.NewRequest(\"POST\", \"{url}\", strings.NewReader({body}))\n\
             \task.Header.Set(\"content-type\", \"{media}\")\n{fields}{token}\
             \tanswer, err := http.DefaultClient.Do(ask)\n\tif err != nil {{ panic(err) }}\n\
             \tsaid, _ := io.ReadAll(answer.Body)\n\tfmt.Println(answer.Status, string(said))\n}}\n"
        )
    }

    fn java(&self) -> String {
        let fields = self.fields(|name, value| format!("        .header(\"{name}\", \"{value}\")\n"));
        let token = self.token(&format!("        .header(\"causeway-token\", System.getenv(\"{TOKEN}\"))\n"));
        let (media, url, body) = (self.media(), self.url(), literal(&self.body()));
        format!(
            "import java.net.URI;\nimport java.net.http.*;\nclass FirstCall {{\n  \
             public static void main(String[] none) throws Exception {{\n    \
             var ask = HttpRequest.newBuilder(URI.create(\"{url}\")).header(\"content-type\", \"{media}\")\n\
             {fields}{token}        .POST(HttpRequest.BodyPublishers.ofString({body})).build();\n    \
             var answer = HttpClient.newHttpClient().send(ask, HttpResponse.BodyHandlers.ofString());\n    \
             System.out.println(answer.statusCode() + \" \" + answer.body());\n  }}\n}}\n"
        )
    }

    fn csharp(&self) -> String {
        let fields = self.fields(|name, value| format!("ask.Headers.Add(\"{name}\", \"{value}\");\n"));
        let token = self
            .token(&format!("ask.Headers.Add(\"causeway-token\", Environment.GetEnvironmentVariable(\"{TOKEN}\"));\n"));
        let (media, url, body) = (self.media(), self.url(), literal(&self.body()));
        format!(
            "using System.Text;\nvar ask = new HttpRequestMessage(HttpMethod.Post, \"{url}\");\n{fields}{token}\
             ask.Content = new StringContent({body}, Encoding.UTF8, \"{media}\");\n\
             var answer = await new HttpClient().SendAsync(ask);\n\
             Console.WriteLine($\"{{answer.StatusCode}} {{await answer.Content.ReadAsStringAsync()}}\");\n"
        )
    }

    // ---- parts

    fn fields(&self, write: impl Fn(&str, &str) -> String) -> String {
        [("causeway-service", &self.provider), ("causeway-purpose", &self.purpose)]
            .map(|(name, value)| write(name, value))
            .concat()
    }

    /// This where a token is needed.
    fn token(&self, text: &str) -> String {
        if self.bound { String::new() } else { text.to_owned() }
    }

    fn url(&self) -> String {
        format!("{}{}", self.door, self.method)
    }

    fn tls(&self) -> bool {
        self.door.starts_with("https:")
    }

    fn address(&self) -> &str {
        self.door.split_once("://").map_or(&self.door, |(_, address)| address)
    }

    fn name(&self) -> &str {
        self.method.as_str().trim_start_matches('/')
    }

    fn method_name(&self) -> &str {
        self.name().rsplit('/').next().unwrap_or_default()
    }

    /// The file of descriptors that gRPC clients read: `births.binpb` of `civil.v1.Births`.
    fn descriptors(&self) -> String {
        format!("{}.binpb", self.method.service().rsplit('.').next().unwrap_or_default().to_lowercase())
    }

    fn media(&self) -> &'static str {
        if self.takes_stream { NDJSON } else { "application/json" }
    }

    fn body(&self) -> String {
        self.message.to_string()
    }
}

const NDJSON: &str = "application/x-ndjson";

/// As a string of Python or JavaScript.
fn quoted(text: &str) -> String {
    if text.contains(['\'', '\\']) { literal(text) } else { format!("'{text}'") }
}

/// As a string of any language that writes them as JSON does.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// A value of this schema, with one of its type for each field.
fn of_schema(document: &Value, schema: &Value, depth: usize) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/components/schemas/")) {
        return of_schema(document, &document["components"]["schemas"][name], depth);
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return of_schema(document, first, depth);
    }
    // An `Any` is of a type that nobody knows here: it is left out.
    if schema["required"][0] == "@type" {
        return Value::Null;
    }
    let kind = if schema["type"].is_array() { &schema["type"][0] } else { &schema["type"] };
    match (kind.as_str(), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => "2027-01-15T08:00:00Z".into(),
        (Some("string"), Some("int64" | "uint64")) => "0".into(),
        (Some("string"), None) if schema["pattern"].is_string() => "1s".into(),
        (Some("string"), _) => "".into(),
        (Some("integer" | "number"), _) => 0.into(),
        (Some("boolean"), _) => false.into(),
        (Some("array"), _) => Value::Array(Vec::new()),
        _ if depth >= MAX_DEPTH => Map::new().into(),
        _ => {
            let Some(properties) = schema["properties"].as_object() else { return Map::new().into() };
            let (mut members, mut stand) = (Map::new(), BTreeSet::new());
            for (name, schema) in properties.iter().take(MAX_MEMBERS) {
                // Of fields of which only one may stand, the first.
                if schema["x-one-of"].as_str().is_some_and(|one| !stand.insert(one)) {
                    continue;
                }
                match of_schema(document, schema, depth + 1) {
                    Value::Null => {}
                    value => _ = members.insert(name.clone(), value),
                }
            }
            Value::Object(members)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(takes: &str, gives: &str) -> Value {
        let fields = json!({
            "a": { "type": "string" }, "b": { "type": ["number", "string"] }, "c": { "type": "array" },
            "d": { "type": "string", "format": "int64" }, "e": { "$ref": "#/components/schemas/a.M" },
            "f": { "type": "boolean", "x-one-of": "o" }, "g": { "type": "string", "x-one-of": "o" },
            "h": { "type": "string", "enum": ["ANY", "ONE"] }, "i": { "anyOf": [{ "type": "number" }, { "enum": ["NaN"] }] },
            "j": { "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] },
        });
        json!({
            "paths": { "/a.v1.B/C": { "post": {
                "requestBody": { "content": { takes: { "schema": { "$ref": "#/components/schemas/a.M" } } } },
                "responses": { "200": { "content": { gives: {} } } },
            } } },
            "components": {
                "parameters": { "causeway-service": { "schema": { "default": "VN/GOV/moj/civil-registry" } } },
                "schemas": { "a.M": { "type": "object", "properties": fields } },
            },
        })
    }

    fn call(takes: &str, gives: &str, door: &str, bound: bool) -> FirstCall {
        let method = "/a.v1.B/C".parse().unwrap();
        FirstCall::of(&document(takes, gives), &method, door.into(), bound, "birth-registration".into()).unwrap()
    }

    #[test]
    fn a_snippet_is_short_in_every_language_and_holds_every_name() {
        let media = ["application/json", NDJSON];
        for language in Language::value_variants() {
            for (takes, gives) in media.iter().flat_map(|takes| media.map(|gives| (*takes, gives))) {
                for (door, bound) in [("http://127.0.0.1:5590", true), ("https://10.0.0.1:5590", false)] {
                    let text = call(takes, gives, door, bound).snippet(*language);
                    assert!(text.lines().count() <= MAX_LINES, "{language:?}:\n{text}");
                    for part in [&door[8..], "a.v1.B", "VN/GOV/moj/civil-registry", "birth-registration"] {
                        assert!(text.contains(part), "{language:?} without {part}:\n{text}");
                    }
                    assert_eq!(text.contains("causeway-token"), !bound, "{text}");
                    assert_eq!(text.contains("-plaintext") || text.contains("nsecure"), {
                        let grpc = [Language::Grpcurl, Language::Python, Language::Node].contains(language);
                        grpc && door.starts_with("http:")
                    });
                }
            }
        }
    }

    #[test]
    fn a_sample_has_a_value_of_its_type_for_each_field() {
        let called = call("application/json", NDJSON, "http://127.0.0.1:5590", true);
        assert_eq!((called.takes_stream, called.gives_stream), (false, true));
        let sample = called.message;
        assert_eq!((&sample["a"], &sample["b"], &sample["c"]), (&json!(""), &json!(0), &json!([])));
        assert_eq!(
            (&sample["d"], &sample["f"], &sample["h"], &sample["i"]),
            (&json!("0"), &json!(false), &json!("ANY"), &json!(0))
        );
        assert!(
            sample.get("g").is_none() && sample.get("j").is_none() && sample["e"]["e"]["e"].is_object(),
            "{sample}"
        );
        let other = "/a.v1.B/D".parse().unwrap();
        assert!(FirstCall::of(&document("a", "b"), &other, String::new(), true, String::new()).is_none());
    }

    #[test]
    fn a_text_with_quotes_is_one_string_of_each_language() {
        let mut called = call("application/json", "application/json", "http://127.0.0.1:5590", true);
        called.message = json!({ "a": "O'Hà \"x\"" });
        let written = r#""{\"a\":\"O'Hà \\\"x\\\"\"}""#;
        for language in [Language::PythonRequests, Language::Go, Language::Java, Language::Csharp] {
            assert!(called.snippet(language).contains(written), "{}", called.snippet(language));
        }
        assert!(called.snippet(Language::Curl).contains(r#"-d '{"a":"O'\''Hà \"x\""}'"#));
    }
}
