//! Calls by a route that the provider's service declares (`google.api.http`): which method it is, and what of the request the path
//! and the query say. The provider is always named by the call: whoever else declares the same route is never asked instead.

use bytes::Bytes;
use catalogue::json;
use catalogue::routes::{self, Body, InPath, Misrouted, Route};
use command_line::did_you_mean;
use http::Method;
use http::request::Parts;
use prost_reflect::MessageDescriptor;
use proto::catalogue::ServiceName;
use proto::identifier::MethodPath;
use proto::refusal::Code;
use serde_json::{Map, Value};

use super::json::{malformed, undescribed};
use super::{Line, credential, named};
use crate::refusal::Refusal;
use crate::{SecurityServer, authenticate, authorize, listings};

/// A call that came by a route.
pub(super) struct Routed {
    /// The method.
    pub path: MethodPath,
    route: Route,
    variables: Vec<InPath>,
    query: String,
}

/// The route that a call came by. None: it calls a method by its name, or nothing at all.
pub(super) async fn routed(server: &SecurityServer, line: &Line, head: &Parts) -> Result<Option<Routed>, Refusal> {
    let Some(provider) = named(&head.headers)? else { return Ok(None) };
    let moment = server.moment();
    let configuration = moment
        .in_force()
        .map_err(|_| Refusal::new(Code::ConfigurationExpired, "the configuration is past its validity"))?;
    let client = authenticate::known(&server.clients, &credential(&line.showed, &head.headers)?)?;
    let member = authorize::at_home(&server.id, configuration, client)?.member();
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if head.method == Method::POST
        && let Ok(path) = target.parse::<MethodPath>()
        && let Ok(service) = path.service().parse::<ServiceName>()
        && configuration.service_at(&provider, &service).is_some_and(|listed| listings::is_seen(listed, &member))
    {
        return Ok(None);
    }
    let (mut found, mut unread): (Option<Routed>, _) = (None, None);
    for listed in configuration.services_of(&provider).filter(|listed| listings::is_seen(listed, &member)) {
        let routes = match listings::routes(server, configuration, listed).await {
            Ok(routes) => routes,
            // One that cannot be read now takes away no route of another.
            Err(why) => {
                unread.get_or_insert(why);
                continue;
            }
        };
        for (path, route) in routes.iter() {
            let Some(variables) = route.matched(head.method.as_str(), head.uri.path()) else { continue };
            if let Some(other) = &found {
                let detail = format!("{} and {path} declare this route; call one by its name", other.path);
                return Err(Refusal::new(Code::MethodUnknown, "a route of several methods").telling(detail));
            }
            let query = head.uri.query().unwrap_or_default().to_owned();
            found = Some(Routed { path: path.clone(), route: route.clone(), variables, query });
        }
    }
    match unread {
        Some(why) if found.is_none() => Err(undescribed(why)),
        _ => Ok(found),
    }
}

impl Routed {
    /// Whether a body is a part of the request.
    pub(super) fn has_body(&self) -> bool {
        *self.route.body() != Body::None
    }

    /// The field that is told of the answer, where it is not all of it.
    pub(super) fn answer(&self) -> Option<&str> {
        self.route.answer()
    }

    /// The request that the path, the query and the body say together, as JSON.
    pub(super) fn said(&self, kind: &MessageDescriptor, text: &[u8], depth: usize) -> Result<Bytes, Refusal> {
        let value = || json::value(text, depth).map_err(|misread| malformed(&misread));
        let (body, query) = match self.route.body() {
            Body::Whole if !self.query.is_empty() => {
                return Err(wrong("the body says all of this request: leave out the query".to_owned()));
            }
            Body::Whole => match value()? {
                Value::Object(members) => (members, ""),
                _ => return Err(wrong("the body is no JSON object".to_owned())),
            },
            Body::Field(name) => {
                let name = kind.get_field_by_name(name).map_or(name.clone(), |field| field.json_name().to_owned());
                (Map::from_iter([(name, value()?)]), self.query.as_str())
            }
            Body::None if !text.trim_ascii().is_empty() => {
                return Err(wrong("this route takes no body: its path and query say the request".to_owned()));
            }
            Body::None => (Map::new(), self.query.as_str()),
        };
        let request = routes::request(kind, &self.variables, query, body).map_err(|misrouted| {
            let nearest = match &misrouted {
                Misrouted::NoField { name, known, .. } => {
                    format!("; {}", did_you_mean(name, known, &format!("there are {}", known.join(", "))))
                }
                _ => String::new(),
            };
            wrong(format!("{misrouted}{nearest}"))
        })?;
        Ok(Value::Object(request).to_string().into())
    }
}

fn wrong(why: String) -> Refusal {
    Refusal::new(Code::MessageMalformed, "the path, the query and the body make no request").telling(why)
}
