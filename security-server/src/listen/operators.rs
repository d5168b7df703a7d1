//! The operators' door: health, readiness and counters for anyone who can reach it; grants, evidence and status for who
//! holds the operators' token. HTTP, on loopback unless the admin says otherwise.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::digest::Digest;
use proto::global_configuration::Freshness;
use proto::identifier::{ExchangeId, MethodPath, SubsystemId};
use proto::refusal::Language;
use proto::transport::MAX_SKEW;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::access_rights::{GrantNumber, NotGranted, Proposal, Question};
use crate::audit::{Actor, MAX_NAME_BYTES, Noted};

/// What the routes need.
#[derive(Clone)]
struct Door {
    server: Arc<SecurityServer>,
    /// SHA-256 of each token that opens the door, and the name that the audit log knows it by.
    tokens: Arc<HashMap<Digest, String>>,
    metrics: PrometheusHandle,
}

/// The routes. Several servers in one process share their counters.
pub(crate) fn door(server: Arc<SecurityServer>, tokens: HashMap<Digest, String>) -> Result<Router, String> {
    static METRICS: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let metrics = METRICS
        .get_or_init(|| PrometheusBuilder::new().install_recorder().map_err(|error| error.to_string()))
        .clone()?;
    Ok(Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(counters))
        .route("/v1/status", get(status))
        .route("/v1/grants", get(grants).post(grant))
        .route("/v1/grants/{number}/end", post(end))
        .route("/v1/access/why", get(why))
        .route("/v1/exchanges/{exchange}", get(exchange))
        .route("/v1/exchanges/{exchange}/evidence", get(evidence))
        .route("/v1/backup", post(backup))
        .layer(axum::middleware::from_fn(of_this_machine))
        .with_state(Door { server, tokens: Arc::new(tokens), metrics }))
}

/// A web page in a browser on this machine can make it ask here under a name of its own: such a name is refused.
async fn of_this_machine(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let loopback = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || name == "localhost" {
        next.run(request).await
    } else {
        Problem::new(StatusCode::FORBIDDEN, "ask by a loopback address or as localhost").into_response()
    }
}

/// Serves the door until it is told to stop.
pub(crate) async fn serve(door: Router, listener: TcpListener, stop: CancellationToken) {
    let door = door.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, door).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the operators' door closed");
    }
}

/// How the server is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Health {
    /// Whether it exchanges messages.
    pub ready: bool,
    /// `running`, or why the message log ended.
    pub message_log: String,
    /// `fresh`, `stale` or `expired`.
    pub configuration: String,
    /// The configuration's version.
    pub configuration_version: u64,
    /// When it expires, RFC 3339.
    pub configuration_expires: String,
    /// Whether a shutdown was asked for.
    pub draining: bool,
    /// By how many milliseconds the machine's clock is behind the last time that the log has. Messages are sealed with
    /// the log's time until the clock has caught up.
    pub clock_behind_ms: u64,
    /// For how many milliseconds more calls of peers are refused, because the server was put back from a backup.
    pub waits_after_restore_ms: u64,
    /// Alarms about peers' logs that the audit log holds; `status` shows the newest.
    pub alarms: u64,
}

impl SecurityServer {
    /// How this server is, now.
    pub fn health(&self) -> Health {
        let (clock, configuration) = (self.clock.now(), self.configuration.load());
        let now = self.message_log.not_before_last(clock);
        let behind = now.distance(clock);
        let freshness = configuration.freshness(now);
        let ended = self.message_log.ended();
        let waits = self.message_log.waits_after_restore(now);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Health {
            ready: ended.is_none()
                && freshness != Freshness::Expired
                && behind <= MAX_SKEW
                && waits.is_zero()
                && !self.is_draining(),
            message_log: ended.map_or("running".into(), |why| format!("ended: {why}")),
            configuration: match freshness {
                Freshness::Fresh => "fresh",
                Freshness::Stale => "stale",
                Freshness::Expired => "expired",
            }
            .into(),
            configuration_version: configuration.version,
            configuration_expires: configuration.expires_at.to_string(),
            draining: self.is_draining(),
            clock_behind_ms: millis(behind),
            waits_after_restore_ms: millis(waits),
            alarms: self.audit.alarms().1,
        }
    }
}

async fn health(State(door): State<Door>) -> Response {
    let health = door.server.health();
    // Alive and ill are two things: an ended log does not heal by a restart loop.
    (StatusCode::OK, Json(health)).into_response()
}

async fn ready(State(door): State<Door>) -> Response {
    let health = door.server.health();
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn counters(State(door): State<Door>) -> String {
    metrics::gauge!("causeway_exchanges_running", "server" => door.server.id.to_string())
        .set(door.server.running() as f64);
    door.metrics.render()
}

async fn status(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
    let server = &door.server;
    let (alarms, _) = server.audit.alarms();
    let status = serde_json::json!({
        "server": server.id, "health": server.health(), "running": server.running(),
        "grants": server.access_rights.list().len(), "alarms": alarms,
    });
    Ok(Json(status).into_response())
}

async fn grants(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
    let grants: Vec<_> = door.server.access_rights.list().iter().map(|grant| (**grant).clone()).collect();
    Ok(Json(grants).into_response())
}

async fn grant(
    State(door): State<Door>,
    Operator(by): Operator,
    Json(proposal): Json<Proposal>,
) -> Result<Response, Problem> {
    // In a task of its own: an operator who hangs up must not leave the log and what is in force apart.
    let now = door.server.clock.now();
    let granted = tokio::spawn(async move { door.server.access_rights.grant_for(by, proposal, now).await });
    let granted = granted.await??;
    Ok((StatusCode::CREATED, Json((*granted).clone())).into_response())
}

/// Why a grant is ended before its time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// For the audit log.
    pub reason: String,
}

async fn end(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(number): Path<u64>,
    Json(Ending { reason }): Json<Ending>,
) -> Result<Response, Problem> {
    let (server, number) = (door.server, GrantNumber(number));
    let now = server.clock.now();
    let ended = tokio::spawn(async move { server.access_rights.end_for(by, number, reason, now).await });
    let ended = ended.await??;
    Ok(Json((*ended).clone()).into_response())
}

/// Who would call what, for which purpose.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    consumer: SubsystemId,
    provider: SubsystemId,
    method: String,
    purpose: String,
}

async fn why(State(door): State<Door>, _: Operator, Query(why): Query<Why>) -> Result<Response, Problem> {
    let path: MethodPath =
        why.method.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let question = Question { consumer: &why.consumer, provider: &why.provider, path: &path, purpose: &why.purpose };
    let answer = match door.server.access_rights.decide(&question, door.server.clock.now()) {
        Ok(grant) => serde_json::json!({ "allowed": true, "grant": *grant }),
        Err(code) => serde_json::json!({
            "allowed": false, "code": code.as_str(),
            "title": code.title(Language::English), "remedy": code.remedy(Language::English),
        }),
    };
    Ok(Json(answer).into_response())
}

async fn exchange(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(exchange): Path<String>,
) -> Result<Response, Problem> {
    let records = found(&door, &exchange).await?;
    door.note_read(by, "exchange", exchange).await?;
    Ok(Json(crate::evidence::summary(&records)).into_response())
}

async fn evidence(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(exchange): Path<String>,
) -> Result<Response, Problem> {
    let records = found(&door, &exchange).await?;
    let id: ExchangeId = exchange.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let file = crate::evidence::file(&door.server, id, &records)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    door.note_read(by, "evidence", exchange).await?;
    Ok(([("content-type", "application/json")], file).into_response())
}

/// What a backup is to hold.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackingUp {
    /// Whether the signing keys are in it.
    pub signing_keys: bool,
}

/// Notes that a backup begins: whoever reads the directory with this server's own rights copies it then.
async fn backup(
    State(door): State<Door>,
    Operator(by): Operator,
    Json(BackingUp { signing_keys }): Json<BackingUp>,
) -> Result<Response, Problem> {
    let at = door.server.clock.now().as_millis();
    door.note(Noted::BackedUp { at, by, signing_keys }).await?;
    Ok(Json(serde_json::json!({ "noted": at })).into_response())
}

async fn found(door: &Door, exchange: &str) -> Result<Vec<journal::Entry>, Problem> {
    let exchange: ExchangeId =
        exchange.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let log = door.server.message_log.clone();
    let found = tokio::task::spawn_blocking(move || log.find(exchange)).await?;
    let found = found.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    if found.is_empty() {
        let why =
            format!("exchange {exchange} is not in this server's log: ask at the server that the call went through");
        return Err(Problem::new(StatusCode::NOT_FOUND, why));
    }
    Ok(found)
}

/// An error, in words: `{"error": ...}`.
struct Problem {
    status: StatusCode,
    why: String,
}

impl Problem {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<NotGranted> for Problem {
    fn from(not_granted: NotGranted) -> Self {
        let status = match not_granted {
            NotGranted::Rule(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotGranted::Unknown(_) => StatusCode::NOT_FOUND,
            NotGranted::Ended(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, not_granted.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.why }))).into_response()
    }
}

impl Door {
    /// Notes what an operator reads, before it is given out: what cannot be noted is not shown.
    async fn note_read(&self, by: Actor, what: &str, exchange: String) -> Result<(), Problem> {
        let at = self.server.clock.now().as_millis();
        self.note(Noted::Read { at, by, what: what.into(), exchange }).await
    }

    /// In a task of its own: who hangs up meanwhile is noted all the same.
    async fn note(&self, noted: Noted) -> Result<(), Problem> {
        let audit = Arc::clone(&self.server.audit);
        let noted = tokio::spawn(async move { audit.note(&noted).await }).await?;
        noted.map_err(|ended| NotGranted::Ended(ended.0).into())
    }
}

/// Whoever asks, with a token that opens the door.
struct Operator(Actor);

/// The field in which the asking program says who uses it.
pub(crate) const CALLS_ITSELF: &str = "causeway-operator";

impl FromRequestParts<Door> for Operator {
    type Rejection = Problem;

    /// The token is compared by its hash, so how long a comparison takes says nothing about it.
    async fn from_request_parts(request: &mut Parts, door: &Door) -> Result<Self, Problem> {
        let from = request.extensions.get::<ConnectInfo<SocketAddr>>();
        let from = from.map_or_else(|| "unknown".to_owned(), |ConnectInfo(address)| address.to_string());
        let field = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let token = field("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        match token.and_then(|token| door.tokens.get(&Digest::of(&[token.as_bytes()]))) {
            Some(token) => {
                let fits = |name: &&str| !name.is_empty() && name.len() <= MAX_NAME_BYTES;
                let calls_itself = field(CALLS_ITSELF).filter(fits).map(str::to_owned);
                Ok(Self(Actor { token: token.clone(), from, calls_itself }))
            }
            None => {
                metrics::counter!("causeway_operators_refused_total").increment(1);
                if let Err(error) = door.server.audit.note_refused(from, door.server.clock.now()).await {
                    tracing::error!(%error, "a refused attempt at the operators' door cannot be noted");
                }
                let why = "this route wants the operators' token: authorization: Bearer <content of operators.token>";
                Err(Problem::new(StatusCode::UNAUTHORIZED, why))
            }
        }
    }
}
