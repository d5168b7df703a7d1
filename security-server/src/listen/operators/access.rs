//! At the operators' door: access requests. A consumer's admin asks, a provider's admin decides, and both see where it stands.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use command_line::Foreseen;
use proto::registration::Text;
use proto::time::Time;
use serde::{Deserialize, Serialize};

use super::{Asked, Changed, Door, Operator, Problem};
use crate::access_requests::{Asking, LOOK_WAITS};
use crate::access_rights::{NamedFields, Narrowed};

/// For how long what a request asks is granted, and how much of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approving {
    /// Until when, in milliseconds since 1970: not longer than was asked. None: as long.
    #[serde(default)]
    pub until: Option<u64>,
    /// By method, the fields of its response that may be received, by name or number. Of a method that is not here, all may.
    #[serde(default, skip_serializing_if = "NamedFields::is_empty")]
    pub fields: NamedFields,
}

/// Why what a request asks is not granted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejecting {
    /// The consumer reads it.
    pub reason: Text,
}

pub(super) fn routes() -> Router<Door> {
    Router::new()
        .route("/v1/access/requests", get(received).post(ask))
        .route("/v1/access/requests/sent", get(sent))
        .route("/v1/access/requests/{request}", get(show))
        .route("/v1/access/requests/{request}/approve", post(approve))
        .route("/v1/access/requests/{request}/reject", post(reject))
}

async fn received(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
    Ok(Json(door.server.requests_received()).into_response())
}

/// Whoever looks wants to know what became of it: the providers are asked first, and not waited for without end.
async fn sent(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
    let server = Arc::clone(&door.server);
    let carried = tokio::spawn(async move { server.carry_requests().await });
    if let Ok(carried) = tokio::time::timeout(LOOK_WAITS, carried).await {
        carried?;
    }
    Ok(Json(door.server.requests_sent()).into_response())
}

async fn show(State(door): State<Door>, _: Operator, Path(request): Path<String>) -> Result<Response, Problem> {
    let found = door.server.request_named(&request)?;
    if let Ok(id) = found.request.parse() {
        let server = Arc::clone(&door.server);
        tokio::spawn(async move { server.carry_request(id).await }).await?;
    }
    Ok(Json(door.server.request_named(&found.request)?).into_response())
}

async fn ask(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(asking): Json<Asking>,
) -> Result<Response, Problem> {
    let server = Arc::clone(&door.server);
    if asked.dry_run {
        let would = server.may_ask_for_access(asking).await?;
        return Ok(Json(Foreseen::new(vec![format!("send this to the provider: {would}")])).into_response());
    }
    // In a task of its own: an operator who hangs up must not leave the log and what is known of it apart.
    let shown = tokio::spawn(async move { server.ask_for_access(by, asking).await }).await??;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

async fn approve(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(request): Path<String>,
    Query(asked): Query<Asked>,
    Json(Approving { until, fields }): Json<Approving>,
) -> Result<Response, Problem> {
    let (server, now) = (Arc::clone(&door.server), door.server.clock.now());
    let (_, waiting) = server.access_rights.requests().open(&request, now)?;
    let fields = server.meant(&waiting.provider, &fields).await?;
    let narrowed = Narrowed { until: until.map(Time::from_millis), fields };
    let configuration = server.configuration.load();
    if asked.dry_run {
        let grant = server.access_rights.foreseen_approval(&configuration, &request, narrowed, now).await?;
        return Ok(Json(Foreseen::new(vec![format!("make {grant}")])).into_response());
    }
    let approved =
        tokio::spawn(async move { server.access_rights.approve(&configuration, by, &request, narrowed, now).await });
    let grant = (*approved.await??).clone();
    let note = door.unknown(&grant.consumer);
    Ok((StatusCode::CREATED, Json(Changed { grant, note })).into_response())
}

async fn reject(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(request): Path<String>,
    Query(asked): Query<Asked>,
    Json(Rejecting { reason }): Json<Rejecting>,
) -> Result<Response, Problem> {
    let (server, now) = (Arc::clone(&door.server), door.server.clock.now());
    if asked.dry_run {
        let (_, asked) = server.access_rights.requests().open(&request, now)?;
        let would = format!("reject that {asked}; the consumer reads \"{reason}\"");
        return Ok(Json(Foreseen::new(vec![would])).into_response());
    }
    let rejected = tokio::spawn(async move { server.access_rights.reject(by, &request, reason, now).await });
    let (id, _) = rejected.await??;
    Ok(Json(door.server.request_named(&id.to_string())?).into_response())
}
