//! At the operators' door: the catalogue. What is published is noted first; what is shown was verified.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use command_line::Foreseen;
use proto::catalogue::{ElementName, ServiceName};
use proto::identifier::SubsystemId;
use registry_client::NoConnection;
use serde::Deserialize;
use tonic::Code;

use super::{Asked, Door, Operator, Problem};
use crate::listings::{self, Announcement, Unlisted};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Looking {
    query: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    subsystem: Option<SubsystemId>,
}

pub(super) fn routes() -> Router<Door> {
    Router::new()
        .route("/v1/services", get(services).post(publish))
        .route("/v1/services/{service}", get(service))
        .route("/v1/services/{service}/source", get(source))
        .route("/v1/services/{service}/openapi", get(openapi))
        .route("/v1/elements", get(elements))
        .route("/v1/elements/{element}", get(element))
        .route("/v1/reuse", get(reuse))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    query: String,
    #[serde(default)]
    duplicates: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfService {
    service: Option<ServiceName>,
}

async fn elements(State(door): State<Door>, _: Operator, Query(which): Query<Which>) -> Result<Response, Problem> {
    Ok(Json(listings::elements::list(&door.server, which.query, which.duplicates).await?).into_response())
}

async fn element(State(door): State<Door>, _: Operator, Path(element): Path<ElementName>) -> Result<Response, Problem> {
    Ok(Json(listings::elements::show(&door.server, &element).await?).into_response())
}

async fn reuse(State(door): State<Door>, _: Operator, Query(of): Query<OfService>) -> Result<Response, Problem> {
    Ok(Json(listings::elements::report(&door.server, of.service).await?).into_response())
}

async fn publish(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(announced): Json<Announcement>,
) -> Result<Response, Problem> {
    let server = door.server.clone();
    // In a task of its own: an operator who hangs up must not leave a publication that nobody noted the end of.
    if asked.dry_run {
        let foreseen = tokio::spawn(async move { listings::foresee(&server, announced).await }).await??;
        return Ok(Json(Foreseen::new(foreseen)).into_response());
    }
    let published = tokio::spawn(async move { listings::publish(&server, announced, by).await }).await??;
    Ok((StatusCode::CREATED, Json(published)).into_response())
}

async fn services(State(door): State<Door>, _: Operator, Query(looking): Query<Looking>) -> Result<Response, Problem> {
    let found = match looking.query {
        Some(query) => listings::search(&door.server, &query).await?,
        None => listings::list(&door.server.configuration.load()),
    };
    Ok(Json(found).into_response())
}

async fn service(
    State(door): State<Door>,
    _: Operator,
    Path(service): Path<String>,
    Query(of): Query<Of>,
) -> Result<Response, Problem> {
    let entry = listings::entry(&door.server, &service, of.subsystem.as_ref()).await?;
    Ok(Json(listings::shown(&entry)).into_response())
}

async fn source(
    State(door): State<Door>,
    _: Operator,
    Path(service): Path<String>,
    Query(of): Query<Of>,
) -> Result<Response, Problem> {
    let entry = listings::entry(&door.server, &service, of.subsystem.as_ref()).await?;
    Ok(Json(listings::source(&door.server, &entry).await?).into_response())
}

async fn openapi(
    State(door): State<Door>,
    _: Operator,
    Path(service): Path<String>,
    Query(of): Query<Of>,
) -> Result<Response, Problem> {
    let entry = listings::entry(&door.server, &service, of.subsystem.as_ref()).await?;
    let text = listings::openapi(&door.server, &entry, None).await?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

impl From<Unlisted> for Problem {
    fn from(error: Unlisted) -> Self {
        let reason = match &error {
            Unlisted::NotFetched(why) => why,
            why => why,
        };
        let status = match reason {
            Unlisted::AllRest | Unlisted::NotYet | Unlisted::Crowded => StatusCode::BAD_GATEWAY,
            Unlisted::Connection(NoConnection::Unreachable { .. }) | Unlisted::Silent => StatusCode::BAD_GATEWAY,
            Unlisted::Refused(status) if status.code() == Code::Unavailable => StatusCode::BAD_GATEWAY,
            Unlisted::Refused(status) if status.code() == Code::NotFound => StatusCode::NOT_FOUND,
            Unlisted::Unknown { .. } | Unlisted::UnknownElement { .. } => StatusCode::NOT_FOUND,
            Unlisted::NotBase64 | Unlisted::NoServices | Unlisted::Several { .. } => StatusCode::BAD_REQUEST,
            Unlisted::NotNoted(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}
