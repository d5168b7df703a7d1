//! The operators' door: health, readiness and counters for anyone who can reach it; grants, evidence and status for who
//! holds the operators' token. HTTP, on loopback unless the admin says otherwise.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use command_line::{Foreseen, did_you_mean};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::digest::Digest;
use proto::global_configuration::Freshness;
use proto::identifier::{ExchangeId, MethodPath, ServerId, SubsystemId};
use proto::refusal::{Code, Language};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::accepted_clock::NotAccepted;
use crate::access_rights::{Grant, GrantNumber, NotGranted, Proposal, Question};
use crate::evidence::Line;
use crate::lookout::Room;

/// What the routes need.
#[derive(Clone)]
struct Door {
    server: Arc<SecurityServer>,
    token: Digest,
    metrics: PrometheusHandle,
}

/// The routes. Several servers in one process share their counters.
pub(crate) fn door(server: Arc<SecurityServer>, token: Digest) -> Result<Router, String> {
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
        .route("/v1/clock/accept", post(accept_clock))
        .route("/v1/exchanges/{exchange}", get(exchange))
        .route("/v1/exchanges/{exchange}/evidence", get(evidence))
        .layer(axum::middleware::from_fn(of_this_machine))
        .with_state(Door { server, token, metrics }))
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
    /// How much room the disk of the logs has.
    pub disk: Room,
    /// Bytes that are free on it.
    pub disk_free_bytes: u64,
    /// What needs somebody, as the last look found it.
    pub alarms: Vec<String>,
}

impl SecurityServer {
    /// How this server is, now.
    pub fn health(&self) -> Health {
        let (configuration, freshness) = (self.configuration.load(), self.freshness());
        let ended = self.message_log.ended();
        let running = if self.lookout.hangs() { "waiting for the disk" } else { "running" };
        Health {
            ready: self.takes_more().is_ok() && freshness != Freshness::Expired && !self.lookout.hangs(),
            message_log: ended.map_or(running.into(), |why| format!("ended: {why}")),
            configuration: match freshness {
                Freshness::Fresh => "fresh",
                Freshness::Stale => "stale",
                Freshness::Expired => "expired",
            }
            .into(),
            configuration_version: configuration.version,
            configuration_expires: configuration.expires_at.to_string(),
            draining: self.is_draining(),
            clock_behind_ms: u64::try_from(self.clock_behind().as_millis()).unwrap_or(u64::MAX),
            disk: self.lookout.room(),
            disk_free_bytes: self.lookout.free_bytes(),
            alarms: self.lookout.alarms(),
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

/// How the server is, and how much it does.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Who it is.
    pub server: ServerId,
    /// How it is.
    pub health: Health,
    /// How many exchanges run.
    pub running: usize,
    /// How many grants are in force or to come.
    pub grants: usize,
}

async fn status(State(door): State<Door>, headers: HeaderMap) -> Result<Response, Problem> {
    door.admit(&headers)?;
    let server = &door.server;
    let (health, running) = (server.health(), server.running());
    let grants = server.access_rights.list().len();
    Ok(Json(Status { server: server.id.clone(), health, running, grants }).into_response())
}

/// The grants in force or to come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Grants {
    /// In the order of their numbers.
    pub grants: Vec<Grant>,
}

async fn grants(State(door): State<Door>, headers: HeaderMap) -> Result<Response, Problem> {
    door.admit(&headers)?;
    let grants = door.server.access_rights.list().iter().map(|grant| (**grant).clone()).collect();
    Ok(Json(Grants { grants }).into_response())
}

/// How a change is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Whether it may be made, instead of making it.
    #[serde(default)]
    dry_run: bool,
}

/// A grant that was made or ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Which.
    pub grant: Grant,
    /// What the operator should look at: a name that nobody is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

async fn grant(
    State(door): State<Door>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    Json(proposal): Json<Proposal>,
) -> Result<Response, Problem> {
    door.admit(&headers)?;
    door.hosts(&proposal.provider)?;
    let note = door.unknown(&proposal.consumer);
    if asked.dry_run {
        let grant = door.server.access_rights.foreseen_grant(proposal, door.server.clock.now()).await?;
        return Ok(
            Json(Foreseen::new([Some(format!("make {grant}")), note].into_iter().flatten().collect())).into_response()
        );
    }
    // In a task of its own: an operator who hangs up must not leave the log and what is in force apart.
    let granted = tokio::spawn(async move { door.server.access_rights.grant(proposal, door.server.clock.now()).await });
    let grant = (*granted.await??).clone();
    Ok((StatusCode::CREATED, Json(Changed { grant, note })).into_response())
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
    Path(number): Path<u64>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    Json(Ending { reason }): Json<Ending>,
) -> Result<Response, Problem> {
    door.admit(&headers)?;
    let (server, number) = (door.server, GrantNumber(number));
    if asked.dry_run {
        let grant = server.access_rights.foreseen_end(number).await?;
        return Ok(Json(Foreseen::new(vec![format!("end {grant}, for running exchanges too")])).into_response());
    }
    let ended = tokio::spawn(async move { server.access_rights.end(number, reason, server.clock.now()).await });
    let grant = (*ended.await??).clone();
    Ok(Json(Changed { grant, note: None }).into_response())
}

/// How an operator knows that the clock is right.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepting {
    /// For the audit log.
    pub reason: String,
}

async fn accept_clock(
    State(door): State<Door>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    Json(Accepting { reason }): Json<Accepting>,
) -> Result<Response, Problem> {
    door.admit(&headers)?;
    if asked.dry_run {
        let would = door.server.may_accept_clock(&reason)?;
        let line = format!("accept {} as the time, though the log holds {}", would.clock, would.log_had);
        return Ok(Json(Foreseen::new(vec![line])).into_response());
    }
    let accepted = tokio::spawn(async move { door.server.accept_clock(reason).await });
    let accepted = accepted.await??;
    let accepted = Accepted { clock: accepted.clock.to_string(), log_had: accepted.log_had.to_string() };
    Ok(Json(accepted).into_response())
}

/// The clock that was accepted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// What it says.
    pub clock: String,
    /// The last time that the log had.
    pub log_had: String,
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

/// Whether a call would be allowed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it would.
    pub allowed: bool,
    /// The grant that allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// The code that it would be refused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the code means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What the operator should look at: a name that nobody is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

async fn why(State(door): State<Door>, headers: HeaderMap, Query(why): Query<Why>) -> Result<Response, Problem> {
    door.admit(&headers)?;
    let path: MethodPath =
        why.method.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let question = Question { consumer: &why.consumer, provider: &why.provider, path: &path, purpose: &why.purpose };
    let (server, moment) = (&door.server, door.server.moment());
    let decided = match moment.in_force() {
        Ok(_) => server.access_rights.why(&server.services, &question, moment.now()),
        Err(_) => Err(Code::ConfigurationExpired),
    };
    let refused = decided.as_ref().err();
    let verdict = Verdict {
        allowed: refused.is_none(),
        code: refused.map(ToString::to_string),
        title: refused.map(|code| code.title(Language::English).to_owned()),
        remedy: refused.map(|code| code.remedy(Language::English).to_owned()),
        note: door.unknown(&why.provider).or_else(|| door.unknown(&why.consumer)),
        grant: decided.ok().map(|grant| (*grant).clone()),
    };
    Ok(Json(verdict).into_response())
}

/// What the log holds of an exchange.
#[derive(Debug, Serialize, Deserialize)]
pub struct Records<L = Line> {
    /// Which.
    pub exchange: String,
    /// In the log's order.
    pub records: Vec<L>,
}

async fn exchange(
    State(door): State<Door>,
    Path(exchange): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    door.admit(&headers)?;
    let records = crate::evidence::summary(&found(&door, &exchange).await?);
    Ok(Json(Records { exchange, records }).into_response())
}

async fn evidence(
    State(door): State<Door>,
    Path(exchange): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    door.admit(&headers)?;
    let records = found(&door, &exchange).await?;
    let exchange: ExchangeId =
        exchange.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let file = crate::evidence::file(&door.server, exchange, &records)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([("content-type", "application/json")], file).into_response())
}

async fn found(door: &Door, exchange: &str) -> Result<Vec<journal::Entry>, Problem> {
    let exchange: ExchangeId =
        exchange.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let log = door.server.message_log.clone();
    let found = tokio::task::spawn_blocking(move || log.find(exchange)).await?;
    let found = found.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    if found.is_empty() {
        let why =
            format!("exchange {exchange} is not in this server's log; ask at the server that the call went through");
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
            NotGranted::Unknown { .. } => StatusCode::NOT_FOUND,
            NotGranted::Ended(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, not_granted.to_string())
    }
}

impl From<NotAccepted> for Problem {
    fn from(not_accepted: NotAccepted) -> Self {
        let status = match not_accepted {
            NotAccepted::NotBehind
            | NotAccepted::NoReason
            | NotAccepted::BeforeConfiguration { .. }
            | NotAccepted::Expired { .. }
            | NotAccepted::Running(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotAccepted::Audit(not_granted) => return not_granted.into(),
            NotAccepted::Log(_) | NotAccepted::Store(_) | NotAccepted::Thread(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, not_accepted.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.why }))).into_response()
    }
}

impl Door {
    /// A grant of what this server does not host would be in nobody's way and of no use: most likely the name is wrong.
    fn hosts(&self, provider: &SubsystemId) -> Result<(), Problem> {
        let configuration = self.server.configuration.load();
        let here = |(_, servers): &(&SubsystemId, &BTreeSet<ServerId>)| servers.contains(&self.server.id);
        let registered = configuration.members.values().flat_map(|member| &member.subsystems);
        let hosted: Vec<&str> = registered.filter(here).map(|(id, _)| id.as_str()).collect();
        if hosted.contains(&provider.as_str()) {
            return Ok(());
        }
        let remedy = did_you_mean(
            provider.as_str(),
            hosted,
            "`subsystems` in security-server.toml has those that were registered",
        );
        Err(Problem::new(StatusCode::NOT_FOUND, format!("this server hosts no subsystem {provider}; {remedy}")))
    }

    /// A word about a subsystem that is not in the configuration: not registered yet, or mistyped.
    fn unknown(&self, subsystem: &SubsystemId) -> Option<String> {
        let configuration = self.server.configuration.load();
        let known = configuration.members.values().flat_map(|member| member.subsystems.keys()).map(SubsystemId::as_str);
        if known.clone().any(|known| known == subsystem.as_str()) {
            return None;
        }
        let remedy = did_you_mean(subsystem.as_str(), known, "check the name, or wait until it has joined");
        Some(format!("nobody is registered as {subsystem}; {remedy}"))
    }

    /// The token is compared by its hash, so how long a comparison takes says nothing about it.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        let token = shown.and_then(|shown| shown.strip_prefix("Bearer "));
        match token {
            Some(token) if Digest::of(&[token.as_bytes()]) == self.token => Ok(()),
            Some(_) | None => {
                let why = "this route wants the operators' token; send authorization: Bearer, and the content of operators.token";
                Err(Problem::new(StatusCode::UNAUTHORIZED, why))
            }
        }
    }
}
