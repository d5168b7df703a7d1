//! `GET /openapi` at the clients' door: the services that the caller's member may see, and each as an OpenAPI document. Answered by
//! this server itself, from verified entries: it is no exchange, and reaches no provider.

use std::collections::BTreeSet;
use std::sync::Arc;

use command_line::did_you_mean;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use proto::catalogue::ServiceName;
use proto::global_configuration::Configuration;
use proto::global_configuration::listed::ListedService;
use proto::identifier::{MemberId, SubsystemId};
use proto::refusal::Code;
use serde_json::json;

use super::json::undescribed;
use super::problem::whole;
use super::{Line, credential, page};
use crate::body::Outgoing;
use crate::listings;
use crate::refusal::Refusal;
use crate::{SecurityServer, authenticate, authorize};

/// Where the list stands, and below it each service.
const LIST: &str = "/openapi";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Whether this is what is asked for.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let below = request.uri().path().strip_prefix(LIST);
    request.method() == Method::GET && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// The list, or one of it.
pub(super) async fn answer(server: &SecurityServer, line: &Line, head: &Parts) -> Result<Response<Outgoing>, Refusal> {
    page::is_none(line.hosts.as_ref(), head)?;
    let _permit = server.translation.permit()?;
    let credential = credential(&line.showed, &head.headers)?;
    let client = authenticate::known(&server.clients, &credential)?;
    let moment = server.moment();
    let configuration = moment
        .in_force()
        .map_err(|_| Refusal::new(Code::ConfigurationExpired, "the configuration is past its validity"))?;
    let member = authorize::at_home(&server.id, configuration, client)?.member();
    if head.uri.query().is_some() {
        return Err(Refusal::new(Code::PathMalformed, "a query").telling("GET /openapi has no query"));
    }
    let text = match head.uri.path().strip_prefix("/openapi/").filter(|below| !below.is_empty()) {
        None => {
            // A country's services are many: looked through aside.
            let configuration = Arc::clone(configuration);
            let listing = tokio::task::spawn_blocking(move || list(&configuration, &member)).await;
            listing.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        }
        Some(below) => {
            let listed = found(server, configuration, &member, below)?;
            let entry = listings::verified(server, configuration, listed).await.map_err(undescribed)?;
            listings::openapi(server, &entry, Some(called(line, head))).await.map_err(undescribed)?
        }
    };
    Ok(whole(StatusCode::OK, JSON, text))
}

fn list(configuration: &Configuration, member: &MemberId) -> Vec<u8> {
    let services = listings::seen(configuration, member, None).map(|listed| {
        let (provider, service) = (listed.subsystem.as_str(), listed.service.as_str());
        let openapi = format!("{LIST}/{provider}/{service}");
        json!({ "service": service, "version": listed.version.to_string(), "provider": provider, "openapi": openapi })
    });
    json!({ "services": services.collect::<Vec<_>>() }).to_string().into_bytes()
}

/// `PROVIDER/package.Service`; or the service alone, where the admin bound it or one offers it.
fn found<'a>(
    server: &SecurityServer,
    configuration: &'a Configuration,
    member: &'a MemberId,
    below: &str,
) -> Result<&'a ListedService, Refusal> {
    let (provider, service) = below.rsplit_once('/').map_or((None, below), |(provider, name)| (Some(provider), name));
    let provider = match provider {
        Some(named) => Some(named.parse::<SubsystemId>().map_err(|error| {
            Refusal::new(Code::IdentifierMalformed, error.to_string()).telling(format!("in the path: {error}"))
        })?),
        None => server.bindings.get(service).cloned(),
    };
    let offered: Vec<_> = match (&provider, service.parse::<ServiceName>()) {
        (_, Err(_)) => Vec::new(),
        (Some(provider), Ok(service)) => {
            let listed = configuration.service_at(provider, &service);
            listed.filter(|listed| listings::is_seen(listed, member)).into_iter().collect()
        }
        (None, Ok(service)) => {
            listings::seen(configuration, member, None).filter(|listed| listed.service == service).collect()
        }
    };
    match offered[..] {
        [listed] => Ok(listed),
        [] => {
            let names: BTreeSet<_> =
                listings::seen(configuration, member, None).map(|listed| listed.service.as_str()).collect();
            let nearest = did_you_mean(service, names, "GET /openapi lists what there is");
            let detail = format!("no {below} is listed for your agency; {nearest}");
            Err(Refusal::new(Code::MethodUnknown, "no such service is listed").telling(detail))
        }
        _ => {
            let paths: Vec<_> = offered.iter().map(|listed| format!("{LIST}/{}/{service}", listed.subsystem)).collect();
            let detail = format!("several offer {service}: ask for {}", paths.join(" or "));
            Err(Refusal::new(Code::ServiceNotNamed, "several offer it").telling(detail))
        }
    }
}

/// The door, as the caller reached it.
fn called(line: &Line, head: &Parts) -> String {
    let said = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = head.uri.authority().map(Authority::as_str).or(said).unwrap_or("localhost");
    let scheme = if line.hosts.is_some() { "http" } else { "https" };
    format!("{scheme}://{host}")
}
