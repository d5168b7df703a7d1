//! X-Road's REST protocol at the clients' door: `/r1/INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE/…`, as an application that was written
//! for an X-Road security server calls it (PROTOCOL.md 22.5). What comes of it is an exchange like any other, of a REST service's
//! operation; what is asked of this server itself (`listClients`, `listMethods`, `getOpenAPI`) is answered from the catalogue.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use command_line::did_you_mean;
use http::header::{ACCEPT, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use proto::catalogue::ServiceName;
use proto::global_configuration::{Configuration, Member};
use proto::identifier::{ServerId, SubsystemId};
use proto::message::Operation;
use proto::refusal::{Code, Language, Speaker};
use proto::rest::{NoOperation, Operations, Place, RestTarget, TARGET_FIELD, TARGET_PREFIX};
use proto::wire::relay as wire;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::problem::{said_of, whole, whole_while};
use super::{Line, Waiting, begin, carried, credential, may_set, one, page, why};
use crate::body::Outgoing;
use crate::forward::OwnSource;
use crate::listen::Asked;
use crate::listings;
use crate::refusal::Refusal;
use crate::relay::NotAnswered;
use crate::rest::{self, BodyHash, Hash512, WholeBody, X_ROAD_CLIENT, head_hash, request_hash};
use crate::{SecurityServer, authenticate, authorize, fields, resolve};

const ID: HeaderName = HeaderName::from_static("x-road-id");
const SERVICE: HeaderName = HeaderName::from_static("x-road-service");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-road-request-id");
const REQUEST_HASH: HeaderName = HeaderName::from_static("x-road-request-hash");
const SERVER: HeaderName = HeaderName::from_static("x-road-security-server");
const REPRESENTED_PARTY: HeaderName = HeaderName::from_static("x-road-represented-party");
const ERROR: HeaderName = HeaderName::from_static("x-road-error");
/// What callers may say once at most.
const ONCE: [HeaderName; 6] = [X_ROAD_CLIENT, ID, SERVER, REPRESENTED_PARTY, REQUEST_ID, REQUEST_HASH];
const LIST_CLIENTS: &str = "/listClients";
/// Lists of clients that are read at once.
static LISTS: Semaphore = Semaphore::const_new(4);
/// Most subsystems of a list of clients.
const MAX_LISTED: usize = 20_000;
/// Most operations that a refusal names.
const MAX_NAMED: usize = 10;

/// For what an application asks that was written for X-Road, which has no purposes: `[[xroad]]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedPurpose {
    /// The system that asks.
    pub subsystem: SubsystemId,
    /// Of which service, as `VN/GOV/moj/civil-registry/pets.v1`; none: of every service that has no line of its own.
    pub service: Option<String>,
    /// The purpose that its requests have.
    pub purpose: String,
    /// The law that allows it.
    pub legal_basis: String,
}

/// The line for this system and service.
fn assigned<'a>(
    lines: &'a [AssignedPurpose],
    client: &SubsystemId,
    target: &RestTarget<'_>,
) -> Option<&'a AssignedPurpose> {
    let service = format!("{}/{}", target.provider, target.service);
    let of_client = || lines.iter().filter(|line| line.subsystem == *client);
    of_client()
        .find(|line| line.service.as_ref() == Some(&service))
        .or_else(|| of_client().find(|line| line.service.is_none()))
}

/// Whether this door is meant.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    path.starts_with(TARGET_PREFIX) || path == LIST_CLIENTS
}

/// Answers an application of X-Road's.
pub(super) async fn answer(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<Incoming>,
    language: Language,
) -> Response<Outgoing> {
    let xml = wants_xml(request.headers());
    match open(server, line, request, language).await {
        Ok(Opened::Told(response)) => response,
        Ok(Opened::Asked(asked)) => asked.response(xml, language).await,
        Err(refusal) => {
            let code = refusal.code();
            tracing::info!(%code, %refusal, "refused");
            metrics::counter!("causeway_refusals_total", "code" => code.as_str()).increment(1);
            failed(code, Speaker::ConsumerServer, refusal.detail(), None, (xml, language))
        }
    }
}

enum Opened {
    /// This server said it itself.
    Told(Response<Outgoing>),
    /// An exchange runs.
    Asked(Box<AskedOperation>),
}

/// An exchange that runs, and what its answer says of the request.
struct AskedOperation {
    waiting: Waiting,
    head: Hash512,
    body: WholeBody,
    about: [(HeaderName, HeaderValue); 4],
}

async fn open(
    server: &Arc<SecurityServer>,
    line: &Line,
    request: Request<Incoming>,
    language: Language,
) -> Result<Opened, Refusal> {
    let permit = server.permit().map_err(|code| Refusal::new(code, "at the clients' door"))?;
    let (head, body) = request.into_parts();
    page::is_none(line.hosts.as_ref(), &head)?;
    let moment = server.moment();
    let configuration = moment
        .in_force()
        .map_err(|_| Refusal::new(Code::ConfigurationExpired, "the configuration is past its validity"))?;
    if head.uri.path() == LIST_CLIENTS {
        // Told to whoever asks, known or not: a few at once, until each has read it.
        let few = LISTS.try_acquire();
        let few =
            few.map_err(|_| Refusal::new(Code::TooManyExchanges, "as many lists of clients are read as may be"))?;
        let (status, kind, text) = list_clients(configuration, &head)?;
        return Ok(Opened::Told(whole_while(few, status, kind, text)));
    }
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).to_owned();
    let asked = RestTarget::parse(&target)
        .map_err(|why| Refusal::new(Code::PathMalformed, why).telling(format!("the path: {why}")))?;
    may_set(&head.headers)?;
    for name in &ONCE {
        one(&head.headers, name)?;
    }
    if head.version < http::Version::HTTP_11 {
        let why = "in an HTTP this old an answer that is cut cannot be told from a whole one";
        return Err(Refusal::new(Code::MetadataMalformed, why).telling(why));
    }
    if let Some(name) = head.headers.keys().find(|name| rest::misleads(name)) {
        let why = format!("{name} could have the service take the request, or who asks, for another");
        return Err(Refusal::new(Code::MetadataReserved, why.clone()).telling(why));
    }
    let credential = credential(&line.showed, &head.headers)?;
    let client = authenticate::known(&server.clients, &credential)?;
    let client = authorize::at_home(&server.id, configuration, client)?;
    is_client(&head.headers, &client)?;
    if let Some(told) = metaservice(server, configuration, &client, &asked, &head).await? {
        return Ok(Opened::Told(told));
    }

    let operations = operations(server, configuration, &client, &asked).await?;
    let named = operations
        .asked(head.method.as_str(), asked.path_of_operation())
        .map_err(|error| unknown_operation(&asked, &operations, &error))?
        .clone();
    let mut why = why(&head.headers)?;
    if let Some(line) = assigned(&server.xroad, &client, &asked).filter(|_| why.purpose.is_empty()) {
        why.purpose = line.purpose.clone();
        if why.legal_basis.is_empty() {
            why.legal_basis = line.legal_basis.clone();
        }
    }
    if why.purpose.is_empty() {
        let detail =
            "send causeway-purpose, or have your admin add [[xroad]] for this system to the configuration file";
        return Err(Refusal::new(Code::PurposeMissing, "no causeway-purpose and no [[xroad]]").telling(detail));
    }
    if let (Some(party), true) = (one(&head.headers, &REPRESENTED_PARTY)?, why.represented_party.is_empty()) {
        why.represented_party = party;
    }
    let by_server = named_server(&head.headers)?;

    let mut carried = carried(&rest::carried(&head.headers))?;
    carried.retain(|(name, _)| name != REQUEST_ID.as_str() && name != REQUEST_HASH.as_str());
    let fresh = || Uuid::new_v4().to_string();
    let (id, request_id) = (one(&head.headers, &ID)?, fresh());
    carried.push((REQUEST_ID.as_str().to_owned(), Bytes::from(request_id.clone())));
    let id = id.unwrap_or_else(|| {
        let id = format!("{}-{}", configuration.instance, fresh());
        carried.push((ID.as_str().to_owned(), Bytes::from(id.clone())));
        id
    });
    let about = [
        (ID, value(&id)),
        (X_ROAD_CLIENT, value(client.as_str())),
        (SERVICE, value(&format!("{}/{}", asked.provider, asked.service))),
        (REQUEST_ID, value(&request_id)),
    ];

    let hash_of_head = head_hash(head.method.as_str(), &target, &carried);
    carried.insert(0, (TARGET_FIELD.to_owned(), Bytes::from(target.clone())));
    if !fields::are_within(&carried) {
        return Err(Refusal::new(Code::MetadataTooLarge, "the target and the fields are beyond 100 fields or 16 KiB"));
    }
    let (hash, whole) = BodyHash::begun();
    let operation = Operation::Http { verb: head.method.to_string(), target: named.to_string() };
    let asked = Asked { provider: asked.provider, server: by_server, operation, why, language };
    let source = OwnSource::of_client(carried, body).hashed(hash);
    let waiting = begin(server, permit, credential, asked, source, language).await?;
    Ok(Opened::Asked(Box::new(AskedOperation { waiting, head: hash_of_head, body: whole, about })))
}

/// `X-Road-Client` names whoever the connection shows: it proves nothing by itself.
fn is_client(headers: &HeaderMap, client: &SubsystemId) -> Result<(), Refusal> {
    let said = one(headers, &X_ROAD_CLIENT)?.ok_or_else(|| {
        let why = "there is no X-Road-Client";
        Refusal::new(Code::MetadataMalformed, why).telling(format!("{why}: send {client}"))
    })?;
    let decoded = percent_encoding::percent_decode_str(&said).decode_utf8_lossy();
    if decoded == client.as_str() {
        return Ok(());
    }
    let why = "X-Road-Client is not the subsystem that this connection or token belongs to";
    Err(Refusal::new(Code::ClientUnknown, why).telling(why))
}

fn named_server(headers: &HeaderMap) -> Result<Option<ServerId>, Refusal> {
    let named = one(headers, &SERVER)?.map(|named| named.parse());
    named.transpose().map_err(|error| {
        Refusal::new(Code::IdentifierMalformed, format!("{error}")).telling(format!("X-Road-Security-Server: {error}"))
    })
}

/// The operations of the service, as the catalogue lists it to this client. What is closed to it is not told from what is not
/// there.
async fn operations(
    server: &SecurityServer,
    configuration: &Configuration,
    client: &SubsystemId,
    asked: &RestTarget<'_>,
) -> Result<Arc<Operations>, Refusal> {
    let (member, name) = (client.member(), asked.service.parse::<ServiceName>().ok());
    let listed = name.and_then(|name| configuration.service_at(&asked.provider, &name));
    let listed = listed.filter(|listed| listings::is_seen(listed, &member)).ok_or_else(|| {
        let known = listings::seen(configuration, &member, Some(&asked.provider)).map(|each| each.service.as_str());
        let nearest = did_you_mean(&asked.service, known, "`security-server services list` shows what there is");
        let detail = format!("{} lists no such service for your agency; {nearest}", asked.provider);
        Refusal::new(Code::MethodUnknown, "no such service is listed").telling(detail)
    })?;
    let operations = listings::operations(server, configuration, listed).await.map_err(super::json::undescribed)?;
    operations.ok_or_else(|| {
        let detail =
            format!("{} is a gRPC service: call it by gRPC, or as JSON: POST /{}/METHOD", asked.service, asked.service);
        Refusal::new(Code::MethodUnknown, "it is no REST service").telling(detail)
    })
}

fn unknown_operation(asked: &RestTarget<'_>, operations: &Operations, why: &NoOperation) -> Refusal {
    let known: Vec<String> = operations.iter().take(MAX_NAMED).map(|(place, _)| place.to_string()).collect();
    let more = if operations.iter().count() > MAX_NAMED { " and others" } else { "" };
    let detail = format!("{why}: {} has {}{more}", asked.service, known.join(", "));
    let code = if matches!(why, NoOperation::Unclear(_)) { Code::PathMalformed } else { Code::MethodUnknown };
    Refusal::new(code, why.to_string()).telling(detail)
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl AskedOperation {
    async fn response(self, xml: bool, language: Language) -> Response<Outgoing> {
        let mut response = self.waiting.response(language).await;
        let headers = response.headers_mut();
        // Only our own server writes this field: what comes of peers and services is rid of it.
        let code = headers.get(fields::REFUSAL).and_then(|code| code.to_str().ok()?.parse::<Code>().ok());
        if let Some(code) = code {
            let (said_by, exchange) = (said_of(headers), headers.get(fields::EXCHANGE).cloned());
            return failed(code, said_by, None, exchange, (xml, language));
        }
        // Where it stands, X-Road said it and not the service.
        headers.remove(ERROR);
        headers.remove(REQUEST_HASH);
        for (name, value) in self.about {
            headers.insert(name, value);
        }
        // The body is whole here unless the service answered before it had read all of it.
        if let Some(body) = self.body.get() {
            headers.insert(REQUEST_HASH, value(&request_hash(&self.head, body.as_ref())));
        }
        response
    }
}

/// What X-Road itself answers of a provider: its REST services, and the document of one.
async fn metaservice(
    server: &SecurityServer,
    configuration: &Configuration,
    client: &SubsystemId,
    asked: &RestTarget<'_>,
    head: &http::request::Parts,
) -> Result<Option<Response<Outgoing>>, Refusal> {
    if head.method != Method::GET || !asked.path.is_empty() {
        return Ok(None);
    }
    if !["listMethods", "allowedMethods", "getOpenAPI"].contains(&asked.service.as_str()) {
        return Ok(None);
    }
    let (_share, _) = server.of_clients.take(client.clone())?;
    let member = client.member();
    match asked.service.as_str() {
        "listMethods" | "allowedMethods" => {
            let allowed = match asked.service.as_str() {
                "allowedMethods" => Some(allowed(server, configuration, client, &asked.provider).await?),
                _ => None,
            };
            let is_allowed = |name: &str| allowed.as_ref().is_none_or(|allowed| allowed.contains(name));
            let mut services = Vec::new();
            for listed in listings::seen(configuration, &member, Some(&asked.provider)) {
                // One that is not at hand hides none of the others.
                let operations = listings::operations(server, configuration, listed).await;
                let operations = operations.unwrap_or_else(|error| {
                    tracing::warn!(service = %listed.service, %error, "a service is not listed to a caller: its entry is not at hand");
                    None
                });
                let of_it = operations.iter().flat_map(|operations| operations.iter());
                let places: Vec<_> =
                    of_it.filter(|(_, name)| is_allowed(name.as_str())).map(|(place, _)| place).collect();
                if !places.is_empty() {
                    services.push(service_line(&asked.provider, listed.service.as_str(), &places));
                }
            }
            Ok(Some(told(&json!({ "service": services }))))
        }
        "getOpenAPI" => {
            let code = parameter(asked.query, "serviceCode");
            let code = code.ok_or_else(|| {
                let why = "the query has no serviceCode";
                Refusal::new(Code::PathMalformed, why).telling(why)
            })?;
            let of_code = RestTarget { provider: asked.provider.clone(), service: code, path: "", query: None };
            operations(server, configuration, client, &of_code).await?;
            let name = of_code.service.as_str();
            let entry = listings::entry(server, name, Some(&asked.provider)).await.map_err(super::json::undescribed)?;
            let text = listings::document(server, &entry).await.map_err(super::json::undescribed)?;
            Ok(Some(whole(StatusCode::OK, JSON, text.to_vec())))
        }
        _ => Ok(None),
    }
}

/// What this client may ask of the provider, as the provider's server says it.
async fn allowed(
    server: &SecurityServer,
    configuration: &Configuration,
    client: &SubsystemId,
    provider: &SubsystemId,
) -> Result<BTreeSet<String>, Refusal> {
    let target = resolve::target(&server.peers, configuration, provider, None)?;
    let asked = wire::AllowedAsked { consumer: client.to_string(), provider: provider.to_string() };
    let told = server.peers.ask_what_is_allowed(&target, &asked).await;
    let told = told.map_err(|error| match &error {
        NotAnswered::Refused(code) if code == Code::TooManyExchanges.as_str() => {
            Refusal::new(Code::TooManyExchanges, "the provider's server is asked too often what is allowed")
        }
        _ => Refusal::new(Code::ProviderUnreachable, error.to_string()),
    })?;
    Ok(told.paths.into_iter().collect())
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const XML: HeaderValue = HeaderValue::from_static("text/xml;charset=utf-8");

/// A parameter of a query, the first of its name.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(each, _)| each == name).map(|(_, value)| value.into_owned())
}

fn told(value: &Value) -> Response<Outgoing> {
    whole(StatusCode::OK, JSON, value.to_string().into_bytes())
}

/// A service as X-Road's metadata protocol lists it.
fn service_line(provider: &SubsystemId, service: &str, places: &[&Place]) -> Value {
    let endpoints: Vec<Value> = places
        .iter()
        .map(|place| json!({ "method": place.verb.as_str(), "path": with_stars(place.path.as_str()) }))
        .collect();
    let mut line = identifier(provider, "SERVICE");
    line["service_code"] = service.into();
    line["service_type"] = "OPENAPI".into();
    line["endpoint_list"] = endpoints.into();
    line
}

/// A template as X-Road writes it: a `*` for each parameter.
fn with_stars(template: &str) -> String {
    let segment = |segment: &str| if segment.contains('{') { "*".to_owned() } else { segment.to_owned() };
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn identifier(subsystem: &SubsystemId, kind: &str) -> Value {
    let mut parts = subsystem.as_str().split('/');
    let mut next = || parts.next().unwrap_or_default();
    json!({
        "xroad_instance": next(), "member_class": next(), "member_code": next(), "subsystem_code": next(), "object_type": kind,
    })
}

/// Everybody's subsystems: told to whoever reaches the door, as X-Road does.
fn list_clients(
    configuration: &Configuration,
    head: &http::request::Parts,
) -> Result<(StatusCode, HeaderValue, Vec<u8>), Refusal> {
    if head.method != Method::GET {
        let detail = "listClients is asked with GET";
        return Err(Refusal::new(Code::PathMalformed, "not with GET").telling(detail));
    }
    let instance = parameter(head.uri.query(), "xRoadInstance");
    let ours = instance.is_none_or(|instance| instance == configuration.instance.as_str());
    let members = configuration.members.values().filter(|_| ours);
    let clients = members.flat_map(|member| member.subsystems.keys().map(move |subsystem| (member, subsystem)));
    let clients = clients.take(MAX_LISTED);
    let accepts_json = head.headers.get_all(ACCEPT).iter().any(|kind| kind.as_bytes().starts_with(b"application/json"));
    if accepts_json {
        let line = |(member, subsystem): (&Arc<Member>, &SubsystemId)| json!({ "id": identifier(subsystem, "SUBSYSTEM"), "name": member.name });
        let text = json!({ "member": clients.map(line).collect::<Vec<_>>() }).to_string();
        return Ok((StatusCode::OK, JSON, text.into_bytes()));
    }
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<xrd:clientList xmlns:xrd=\"http://x-road.eu/xsd/xroad.xsd\" \
         xmlns:id=\"http://x-road.eu/xsd/identifiers\">",
    );
    for (member, subsystem) in clients {
        let id = identifier(subsystem, "SUBSYSTEM");
        let part =
            |name: &str, tag: &str| format!("<id:{tag}>{}</id:{tag}>", escaped(id[name].as_str().unwrap_or_default()));
        text.push_str(&format!(
            "<xrd:member><xrd:id id:objectType=\"SUBSYSTEM\">{}{}{}{}</xrd:id><xrd:name>{}</xrd:name></xrd:member>",
            part("xroad_instance", "xRoadInstance"),
            part("member_class", "memberClass"),
            part("member_code", "memberCode"),
            part("subsystem_code", "subsystemCode"),
            escaped(&member.name)
        ));
    }
    text.push_str("</xrd:clientList>\n");
    Ok((StatusCode::OK, XML, text.into_bytes()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether the caller would have an error as XML: what X-Road looks for in `Accept`.
fn wants_xml(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        ["text/xml", "application/xml", "text/*"].contains(&kind)
    })
}

/// A refusal as X-Road says it: HTTP status 500, `X-Road-Error`, and a body of type, message and detail. Ours stands beside it.
fn failed(
    code: Code,
    said_by: Speaker,
    detail: Option<&str>,
    exchange: Option<HeaderValue>,
    (xml, language): (bool, Language),
) -> Response<Outgoing> {
    let said_by = code.speaker_or(said_by);
    let kind = error_type(code, said_by);
    let message = match detail {
        Some(detail) => format!("{} ({detail})", code.message(language)),
        None => code.message(language),
    };
    let named = exchange.as_ref().and_then(|exchange| exchange.to_str().ok()).map(str::to_owned);
    let named = named.unwrap_or_else(|| Uuid::new_v4().to_string());
    let mut response = if xml {
        let text = format!(
            "<error><type>{kind}</type><message>{}</message><detail>{named}</detail></error>",
            escaped(&message)
        );
        whole(StatusCode::INTERNAL_SERVER_ERROR, XML, text.into_bytes())
    } else {
        let text = json!({ "type": kind, "message": message, "detail": named }).to_string();
        whole(StatusCode::INTERNAL_SERVER_ERROR, JSON, text.into_bytes())
    };
    let headers = response.headers_mut();
    headers.insert(ERROR, value(&kind));
    headers.insert(fields::REFUSAL, HeaderValue::from_static(code.as_str()));
    if let Some(seconds) = code.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(exchange) = exchange {
        headers.insert(fields::EXCHANGE, exchange);
    }
    response
}

/// A code of ours as X-Road names it: which server, and what.
fn error_type(code: Code, said_by: Speaker) -> String {
    let what = match code {
        Code::ClientUnknown => "ssl_authentication_failed",
        Code::IdentifierMalformed => "invalid_client_identifier",
        Code::MetadataMalformed | Code::PurposeMissing => "missing_header",
        Code::PathMalformed | Code::MetadataReserved | Code::MetadataTooLarge | Code::BrowserRefused => "invalid_rest",
        Code::MethodUnknown | Code::ServiceUnknown => "unknown_service",
        Code::ProviderUnknown | Code::ProviderSuspended | Code::MemberSuspended => "unknown_member",
        Code::ProviderInMaintenance => "service_disabled",
        Code::ProviderUnreachable | Code::ShuttingDown => "network_error",
        Code::ServiceUnreachable => "service_failed.network_error",
        Code::ServiceMalformed => "service_failed.invalid_response",
        Code::GrantMissing | Code::GrantExpired | Code::GrantPurpose | Code::AccessEnded => "access_denied",
        Code::ConfigurationExpired => "global_conf_outdated",
        Code::LogEnded | Code::LogFull | Code::PayloadKeysMissing | Code::AnswerUnrecorded => "logging_failed",
        Code::NotStamped => "timestamping_failed",
        Code::ProviderUnproven | Code::Unproven => "signature_verification.invalid_signature_value",
        _ => "internal_error",
    };
    let at = if said_by == Speaker::ProviderServer { "serverproxy" } else { "clientproxy" };
    format!("server.{at}.{what}")
}
