//! The operators' door: of which services payloads are kept, and erasing those of an exchange.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use command_line::Foreseen;
use proto::identifier::ExchangeId;
use proto::registration::Text;
use serde::{Deserialize, Serialize};

use super::{Asked, Door, Operator, Problem};
use crate::SecurityServer;
use crate::payloads::{ErasedPayloads, NotErased};

/// A service of which payloads are kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptService {
    /// Who provides it.
    pub subsystem: String,
    /// Its name.
    pub service: String,
    /// For how long.
    pub keep: String,
}

/// Why payloads are erased.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasing {
    /// For the audit log.
    pub reason: Text,
}

pub(super) fn routes() -> Router<Door> {
    Router::new().route("/v1/exchanges/{exchange}/payloads/erase", post(erase))
}

pub(super) fn kept_services(server: &SecurityServer) -> Vec<KeptService> {
    let kept = server.payloads.policy().services().into_iter();
    let kept = kept.map(|(subsystem, service, keep)| KeptService {
        subsystem: subsystem.to_string(),
        service: service.to_owned(),
        keep: keep.to_string(),
    });
    kept.collect()
}

async fn erase(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(exchange): Path<String>,
    Query(asked): Query<Asked>,
    Json(Erasing { reason }): Json<Erasing>,
) -> Result<Response, Problem> {
    let exchange: ExchangeId =
        exchange.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let server = Arc::clone(&door.server);
    if asked.dry_run {
        let would = tokio::task::spawn_blocking(move || server.erasable_payloads(exchange)).await??;
        let ErasedPayloads { exchange, messages } = would;
        let line =
            format!("erase the payloads of {messages} messages of exchange {exchange}, for good: what it proves stays");
        return Ok(Json(Foreseen::new(vec![line])).into_response());
    }
    // In a task of its own: what is noted is carried out, also for an operator who hangs up.
    let erased = tokio::spawn(server.erase_payloads(exchange, reason.to_string(), by)).await??;
    Ok(Json(erased).into_response())
}

impl From<NotErased> for Problem {
    fn from(not_erased: NotErased) -> Self {
        let status = match not_erased {
            NotErased::Unknown(_) => StatusCode::NOT_FOUND,
            NotErased::NothingKept(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotErased::NotNoted(_) => StatusCode::SERVICE_UNAVAILABLE,
            NotErased::Block(_) | NotErased::Log(_) | NotErased::Thread(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, not_erased.to_string())
    }
}
