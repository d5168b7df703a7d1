//! At the operators' door: this server's own keys, and another one where it is wanted before its time.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use command_line::Foreseen;
use proto::server_request::SETTLED_AFTER;
use registry_client::NoConnection;
use serde::{Deserialize, Serialize};
use tonic::Code;

use super::{Asked, Door, Operator, Problem};
use crate::keys::ring::Use;
use crate::renewal::{KeyState, NotRenewed, Renewal};

/// The keys of a server.
#[derive(Debug, Serialize, Deserialize)]
pub struct Keys {
    /// By use, the oldest first.
    pub keys: Vec<KeyState>,
}

/// Which key is to be followed by another one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Of which use.
    pub what: Use,
    /// Taken into use as soon as it is published, and not when everybody knows it.
    #[serde(default)]
    pub now: bool,
}

pub(super) fn routes() -> Router<Door> {
    Router::new().route("/v1/keys", get(keys)).route("/v1/keys/rotate", post(rotate))
}

fn renewal(door: &Door) -> Result<&Renewal, Problem> {
    door.server.renewal.as_ref().ok_or_else(|| NotRenewed::NoRegistry.into())
}

async fn keys(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
    let keys = renewal(&door)?.keys(&door.server.configuration.load());
    Ok(Json(Keys { keys }).into_response())
}

async fn rotate(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(Rotation { what, now }): Json<Rotation>,
) -> Result<Response, Problem> {
    renewal(&door)?;
    if asked.dry_run {
        let hours = SETTLED_AFTER.as_secs() / 3600;
        let when = if now { "as soon as it is published".to_owned() } else { format!("in {hours} hours") };
        let word = what.word();
        return Ok(Json(Foreseen::new(vec![
            format!("make another {word} key here, and have the registry certify and publish it"),
            format!("use it {when}, and erase the one before; nothing stops meanwhile"),
        ]))
        .into_response());
    }
    // In a task of its own: an operator who hangs up must not leave a key half made.
    let server = door.server.clone();
    let rotated = tokio::spawn(async move {
        let Some(renewal) = &server.renewal else { return Err(NotRenewed::NoRegistry) };
        renewal.rotate(&server, what, now, by).await.map(|()| renewal.keys(&server.configuration.load()))
    });
    let keys = rotated.await??.into_iter().filter(|key| key.what == what).collect();
    Ok((StatusCode::CREATED, Json(Keys { keys })).into_response())
}

impl From<NotRenewed> for Problem {
    fn from(error: NotRenewed) -> Self {
        let status = match &error {
            NotRenewed::Connection(NoConnection::Unreachable { .. }) | NotRenewed::Silent => StatusCode::BAD_GATEWAY,
            NotRenewed::Refused(status) if status.code() == Code::Unavailable => StatusCode::BAD_GATEWAY,
            NotRenewed::Refused(_) | NotRenewed::Connection(_) | NotRenewed::NoGoodKey(_) | NotRenewed::NoRegistry => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}
