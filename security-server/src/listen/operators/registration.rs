//! At the operators' door: what this server asks of the registry for itself and its member, besides keys.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use command_line::Foreseen;
use proto::identifier::ServerId;
use proto::registration::{Address, Text};
use proto::server_request::Wish;
use serde::{Deserialize, Serialize};

use super::{Asked, Door, Operator, Problem};
use crate::audit::Actor;
use crate::renewal::NotRenewed;

/// Where the server is reached from now on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moving {
    /// Its peers' door.
    pub address: Address,
}

/// Whether the server is in maintenance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintaining {
    /// What whoever asks it is told; none: it is back.
    pub notice: Option<Text>,
}

/// That the member wants to be removed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaving {
    /// Why.
    pub reason: Text,
}

/// What the registry recorded.
#[derive(Debug, Serialize, Deserialize)]
pub struct Registered {
    /// The version of the configuration that says so; none: it is not published.
    pub version: Option<u64>,
}

pub(super) fn routes() -> Router<Door> {
    Router::new()
        .route("/v1/registration/move", post(moves))
        .route("/v1/registration/maintenance", post(maintains))
        .route("/v1/registration/leave", post(leaves))
}

async fn moves(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(Moving { address }): Json<Moving>,
) -> Result<Response, Problem> {
    asks(door, by, asked.dry_run, Wish::Move(address)).await
}

async fn maintains(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(Maintaining { notice }): Json<Maintaining>,
) -> Result<Response, Problem> {
    asks(door, by, asked.dry_run, Wish::Maintain(notice)).await
}

async fn leaves(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(Leaving { reason }): Json<Leaving>,
) -> Result<Response, Problem> {
    let member = door.server.id.owner();
    asks(door, by, asked.dry_run, Wish::Leave(member, reason)).await
}

async fn asks(door: Door, by: Actor, dry_run: bool, wish: Wish) -> Result<Response, Problem> {
    if door.server.renewal.is_none() {
        return Err(NotRenewed::NoRegistry.into());
    }
    if dry_run {
        return Ok(Json(Foreseen::new(foreseen(&door.server.id, &wish))).into_response());
    }
    // In a task of its own: an operator who hangs up must not leave it noted and not asked.
    let server = door.server.clone();
    let asked = tokio::spawn(async move {
        let Some(renewal) = &server.renewal else { return Err(NotRenewed::NoRegistry) };
        renewal.wish(&server, wish, by).await
    });
    let version = asked.await??;
    Ok(Json(Registered { version: (version > 0).then_some(version) }).into_response())
}

fn foreseen(server: &ServerId, wish: &Wish) -> Vec<String> {
    match wish {
        Wish::Move(address) => vec![
            format!("have the registry publish that {server} is reached at {address}"),
            "have every peer make its new connections there; what runs goes on where it runs".to_owned(),
        ],
        Wish::Maintain(Some(notice)) => vec![
            format!("have the registry publish that {server} is in maintenance: \"{notice}\""),
            "have every peer turn to another server of the provider, or refuse its calls by name; what runs goes on"
                .to_owned(),
        ],
        Wish::Maintain(None) => vec![format!("have the registry publish that {server} is back from maintenance")],
        Wish::Leave(member, reason) => vec![
            format!("tell the registry's admins that {member} asks to be removed: \"{reason}\""),
            "change nothing until they remove it, for good".to_owned(),
        ],
        Wish::RenewAuthentication(_) | Wish::RenewSigning(..) => Vec::new(),
    }
}
