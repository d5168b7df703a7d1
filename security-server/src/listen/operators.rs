//! The operators' door: health, readiness and counters for anyone who can reach it; grants, evidence and status for who
//! holds the operators' token. HTTP, on loopback unless the admin says otherwise.

pub mod access;
pub mod keys;
pub mod payloads;
pub mod registration;
pub mod services;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use command_line::{Foreseen, did_you_mean};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::digest::Digest;
use proto::global_configuration::Freshness;
use proto::identifier::{ExchangeId, MemberId, MethodPath, ServerId, SubsystemId};
use proto::refusal::{Code, Language};
use proto::registration::Text;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::SecurityServer;
use crate::accepted_clock::NotAccepted;
use crate::access_rights::{Grant, GrantNumber, NotGranted, Proposal, Question};
use crate::archive::{Archive, ArchiveHealth};
use crate::audit::{Actor, Alarm, MAX_NAME_BYTES, Noted};
use crate::disclosures::{Asking, NotAsked};
use crate::evidence::{Line, NoEvidence};
use crate::keys::ring::Use;
use crate::lookout::Room;
use crate::message_log::exchanges::{MAX_FOUND, Search};
use crate::renewal::Renewal;

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
        .route("/v1/clock/accept", post(accept_clock))
        .route("/v1/exchanges", get(search).post(search_about))
        .route("/v1/exchanges/{exchange}", get(exchange))
        .route("/v1/exchanges/{exchange}/evidence", get(evidence))
        .merge(payloads::routes())
        .route("/v1/disclosures", post(disclosures))
        .merge(access::routes())
        .merge(keys::routes())
        .merge(services::routes())
        .merge(registration::routes())
        .route("/v1/backup", post(backup))
        .route("/v1/traffic", post(traffic))
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
    /// `good`, or what is wrong with this server's own keys in use.
    #[serde(default)]
    pub keys: String,
    /// Why a key of this server is not renewed, where that failed the last time. What is in use goes on meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_not_renewed: Option<String>,
    /// Why what the registry sent last is not in force, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_refused: Option<String>,
    /// Whether a shutdown was asked for.
    pub draining: bool,
    /// By how many milliseconds the machine's clock is behind the last time that the log has. Messages are sealed with
    /// the log's time until the clock has caught up.
    pub clock_behind_ms: u64,
    /// How much room the disk of the logs has.
    pub disk: Room,
    /// Bytes that are free on it.
    pub disk_free_bytes: u64,
    /// The alarms that are raised: what needs somebody, as the last look found it.
    pub raised: Vec<String>,
    /// For how many milliseconds more calls of peers are refused, because the server was put back from a backup.
    pub waits_after_restore_ms: u64,
    /// Alarms about peers' logs that the audit log holds; `status` shows the newest.
    pub alarms: u64,
    /// How archiving the message log goes, where an archive is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveHealth>,
}

impl SecurityServer {
    /// How this server is, now.
    pub fn health(&self) -> Health {
        let (configuration, freshness) = (self.configuration.load(), self.freshness());
        let ended = self.message_log.ended();
        let waits = self.message_log.waits_after_restore(self.message_log.not_before_last(self.clock.now()));
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let keys = self.keys_in_use();
        let running = if self.lookout.hangs() { "waiting for the disk" } else { "running" };
        Health {
            ready: self.takes_more().is_ok()
                && freshness != Freshness::Expired
                && waits.is_zero()
                && keys == GOOD
                && !self.lookout.hangs(),
            message_log: ended.map_or(running.into(), |why| format!("ended: {why}")),
            configuration: match freshness {
                Freshness::Fresh => "fresh",
                Freshness::Stale => "stale",
                Freshness::Expired => "expired",
            }
            .into(),
            configuration_version: configuration.version,
            configuration_expires: configuration.expires_at.to_string(),
            keys: keys.into(),
            keys_not_renewed: self.renewal.as_ref().and_then(Renewal::failing),
            configuration_refused: self.configuration.refused().map(|why| why.to_string()),
            draining: self.is_draining(),
            clock_behind_ms: millis(self.clock_behind()),
            disk: self.lookout.room(),
            disk_free_bytes: self.lookout.free_bytes(),
            raised: self.lookout.raised(),
            waits_after_restore_ms: millis(waits),
            alarms: self.audit.alarms().1,
            archive: self.archive.as_ref().map(Archive::health),
        }
    }
}

/// What health says of keys with which peers speak.
const GOOD: &str = "good";

impl SecurityServer {
    /// Whether peers speak with this server's keys in use at this moment, or why not.
    fn keys_in_use(&self) -> &'static str {
        let (configuration, own) = (self.configuration.load(), self.own.key());
        let now = self.message_log.not_before_last(self.clock.now());
        let signs = self.renewal.as_ref().is_none_or(|renewal| renewal.is_good(&configuration, Use::Signing, now));
        if configuration.revoked.contains(&own) {
            "the authentication key is revoked: ask the registry for an invitation to replace the keys"
        } else if !configuration.authenticates(&self.id, &own) {
            "the authentication key is not registered: ask the registry"
        } else if now > self.own.not_after() {
            "the authentication certificate has ended: is the registry reachable? It is renewed as soon as it is"
        } else if !signs {
            "the signing key is revoked, or its certificate has ended: ask the registry"
        } else {
            GOOD
        }
    }

    /// Whether nobody speaks with this server's keys in use.
    pub(crate) fn keys_are_unusable(&self) -> bool {
        self.keys_in_use() != GOOD
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
    let server = || door.server.id.to_string();
    metrics::gauge!("causeway_exchanges_running", "server" => server()).set(door.server.running() as f64);
    metrics::gauge!("causeway_exchanges_in_hand", "server" => server()).set(door.server.flow.in_hand() as f64);
    metrics::gauge!("causeway_exchanges_in_hand_bound", "server" => server()).set(door.server.flow.bound() as f64);
    let journal::Counts { syncs, records, heads_signed } = door.server.message_log.counts();
    metrics::counter!("causeway_log_syncs_total", "server" => server()).absolute(syncs);
    metrics::counter!("causeway_log_records_total", "server" => server()).absolute(records);
    metrics::counter!("causeway_log_heads_signed_total", "server" => server()).absolute(heads_signed);
    if let Some(renewal) = &door.server.renewal {
        for what in Use::ALL {
            let of = [("server", server()), ("use", what.word().to_owned())];
            metrics::gauge!("causeway_certificate_ends_seconds", &of)
                .set(renewal.ends(what).as_millis() as f64 / 1000.0);
        }
    }
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
    /// The newest alarms about peers' logs.
    pub alarms: Vec<Alarm>,
    /// Of which services payloads are kept.
    #[serde(default)]
    pub payloads: Vec<payloads::KeptService>,
    /// Why they cannot be kept, or keys that are over not be erased, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payloads_hindered: Option<String>,
}

async fn status(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
    let server = &door.server;
    let (health, running) = (server.health(), server.running());
    let grants = server.access_rights.list().len();
    let (alarms, _) = server.audit.alarms();
    let (payloads, payloads_hindered) = (payloads::kept_services(server), server.payloads.hindered());
    let id = server.id.clone();
    Ok(Json(Status { server: id, health, running, grants, alarms, payloads, payloads_hindered }).into_response())
}

/// The grants in force or to come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Grants {
    /// In the order of their numbers.
    pub grants: Vec<Grant>,
}

async fn grants(State(door): State<Door>, _: Operator) -> Result<Response, Problem> {
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
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(proposal): Json<Proposal>,
) -> Result<Response, Problem> {
    door.hosts(&proposal.provider)?;
    let note = door.unknown(&proposal.consumer);
    let fields = door.server.meant(&proposal.provider, &proposal.fields).await?;
    let proposal = proposal.listed(&door.server.configuration.load(), fields)?;
    if asked.dry_run {
        let grant = door.server.access_rights.foreseen_grant(proposal, door.server.clock.now()).await?;
        return Ok(
            Json(Foreseen::new([Some(format!("make {grant}")), note].into_iter().flatten().collect())).into_response()
        );
    }
    // In a task of its own: an operator who hangs up must not leave the log and what is in force apart.
    let now = door.server.clock.now();
    let granted = tokio::spawn(async move { door.server.access_rights.grant_for(by, proposal, now).await });
    let grant = (*granted.await??).clone();
    Ok((StatusCode::CREATED, Json(Changed { grant, note })).into_response())
}

/// Why a grant is ended before its time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// For the audit log, and the member's other servers.
    pub reason: Text,
}

async fn end(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(number): Path<u64>,
    Query(asked): Query<Asked>,
    Json(Ending { reason }): Json<Ending>,
) -> Result<Response, Problem> {
    let (server, number) = (door.server, GrantNumber(number));
    if asked.dry_run {
        let grant = server.access_rights.foreseen_end(number).await?;
        return Ok(Json(Foreseen::new(vec![format!("end {grant}, for running exchanges too")])).into_response());
    }
    let now = server.clock.now();
    let ended = tokio::spawn(async move { server.access_rights.end_for(by, number, reason.to_string(), now).await });
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
    Operator(by): Operator,
    Query(asked): Query<Asked>,
    Json(Accepting { reason }): Json<Accepting>,
) -> Result<Response, Problem> {
    if asked.dry_run {
        let would = door.server.may_accept_clock(&reason)?;
        let line = format!("accept {} as the time, though the log holds {}", would.clock, would.log_had);
        return Ok(Json(Foreseen::new(vec![line])).into_response());
    }
    let accepted = tokio::spawn(async move { door.server.accept_clock(reason, by).await });
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

async fn why(State(door): State<Door>, _: Operator, Query(why): Query<Why>) -> Result<Response, Problem> {
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

/// Which exchanges are looked for, as texts of a query. What is absent asks nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Searching {
    id: Option<String>,
    since: Option<String>,
    until: Option<String>,
    before: Option<String>,
    peer: Option<String>,
    method: Option<String>,
    result: Option<String>,
    limit: Option<usize>,
}

impl Searching {
    /// In words, for the audit log.
    fn asked(&self) -> String {
        let given = [
            ("id", &self.id),
            ("since", &self.since),
            ("until", &self.until),
            ("before", &self.before),
            ("peer", &self.peer),
            ("method", &self.method),
            ("result", &self.result),
        ];
        let words = given.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let asked = words.collect::<Vec<_>>().join(", ");
        if asked.is_empty() { "all".to_owned() } else { asked }
    }

    fn read(&self) -> Result<Search, Problem> {
        fn parsed<T: FromStr<Err: Display>>(name: &str, text: Option<&String>) -> Result<Option<T>, Problem> {
            let wrong = |error| Problem::new(StatusCode::BAD_REQUEST, format!("{name}: {error}"));
            text.map(|text| text.parse().map_err(wrong)).transpose()
        }
        let limit = self.limit.unwrap_or(MAX_FOUND);
        if !(1..=MAX_FOUND).contains(&limit) {
            let why = format!("limit: {limit} is not from 1 to {MAX_FOUND}; go on with `before`");
            return Err(Problem::new(StatusCode::BAD_REQUEST, why));
        }
        Ok(Search {
            exchange: parsed("id", self.id.as_ref())?,
            subject: None,
            provider: None,
            since: parsed("since", self.since.as_ref())?,
            until: parsed("until", self.until.as_ref())?,
            before: parsed("before", self.before.as_ref())?,
            peer: parsed("peer", self.peer.as_ref())?,
            method: parsed("method", self.method.as_ref())?,
            result: parsed("result", self.result.as_ref())?,
            limit,
        })
    }
}

async fn search(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(searching): Query<Searching>,
) -> Result<Response, Problem> {
    door.search(by, searching.asked(), searching.read()?).await
}

/// Whom exchanges are to be about.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The identifier, as requests name it. It is not written down anywhere.
    pub subject: String,
}

/// The same of the exchanges about a person: the identifier comes in the body.
async fn search_about(
    State(door): State<Door>,
    Operator(by): Operator,
    Query(searching): Query<Searching>,
    Json(About { subject }): Json<About>,
) -> Result<Response, Problem> {
    let subject = door.server.subjects.of(&subject);
    let asked = format!("subject {subject}, {}", searching.asked());
    door.search(by, asked, Search { subject: Some(subject), ..searching.read()? }).await
}

/// Who received what about a person. The identifier comes in the body, and stays nowhere: the audit log has the keyed hash.
async fn disclosures(
    State(door): State<Door>,
    Operator(by): Operator,
    Json(asking): Json<Asking>,
) -> Result<Response, Problem> {
    let wrong = |error: NotAsked| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    let asked = door.server.asked_about(&asking).map_err(wrong)?;
    let (server, question) = (Arc::clone(&door.server), asked.clone());
    let told = tokio::task::spawn_blocking(move || server.disclosures(&question)).await?;
    let told = told.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    door.note_read(by, "disclosures", asked.subject().to_string()).await?;
    Ok(Json(told).into_response())
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
    Operator(by): Operator,
    Path(exchange): Path<String>,
) -> Result<Response, Problem> {
    let (server, found) = (Arc::clone(&door.server), found(&door, &exchange).await?);
    let records = tokio::task::spawn_blocking(move || crate::evidence::lines(&server, &found)).await?;
    door.note_read(by, "exchange", exchange.clone()).await?;
    Ok(Json(Records { exchange, records }).into_response())
}

async fn evidence(
    State(door): State<Door>,
    Operator(by): Operator,
    Path(exchange): Path<String>,
    Query(Formed { archive, container, payloads }): Query<Formed>,
) -> Result<Response, Problem> {
    if archive && container {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "evidence is an archive or a container: ask for one of them",
        ));
    }
    let records = found(&door, &exchange).await?;
    let id: ExchangeId = exchange.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let server = Arc::clone(&door.server);
    let file = tokio::task::spawn_blocking(move || {
        let file = match payloads {
            true => crate::evidence::file_with_payloads(&server, id, &records)?,
            false => crate::evidence::file(&server, id, &records)?,
        };
        match (archive, container) {
            (true, _) => crate::evidence::archive(&server, &file),
            (_, true) => crate::evidence::container(&server, &file),
            _ => Ok(file),
        }
    });
    let file = file.await?.map_err(|error| match error {
        NoEvidence::Archive(_) | NoEvidence::Container(_) | NoEvidence::NoKey(_) | NoEvidence::TooLong(_) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        error => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    let what = match (container, payloads) {
        (false, false) => "evidence",
        (false, true) => "evidence with payloads",
        (true, false) => "container",
        (true, true) => "container with payloads",
    };
    // Its signature leaves this server only after that.
    door.note_read(by, what, exchange).await?;
    let kind = match (archive, container) {
        (true, _) => "application/zip",
        (_, true) => proto::evidence::container::ASIC_E,
        _ => "application/json",
    };
    Ok(([("content-type", kind)], file).into_response())
}

/// In which form evidence is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Formed {
    /// As an archive.
    #[serde(default)]
    archive: bool,
    /// As a container, signed by its holder.
    #[serde(default)]
    container: bool,
    /// With the payloads that are kept.
    #[serde(default)]
    payloads: bool,
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

/// With whom the exchanges were that are exported.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exporting {
    /// The member.
    pub peer: MemberId,
}

/// Notes that messages are exported: whoever reads the directory with this server's own rights copies them then.
async fn traffic(
    State(door): State<Door>,
    Operator(by): Operator,
    Json(Exporting { peer }): Json<Exporting>,
) -> Result<Response, Problem> {
    door.note_read(by, "traffic", peer.to_string()).await?;
    Ok(Json(serde_json::json!({ "noted": door.server.clock.now().as_millis() })).into_response())
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
            NotGranted::Rule(_) | NotGranted::Unlisted { .. } | NotGranted::Reason(_) | NotGranted::NotAsked(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            NotGranted::Unknown { .. } | NotGranted::NoRequest { .. } => StatusCode::NOT_FOUND,
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
            NotAccepted::Audit(_) => StatusCode::SERVICE_UNAVAILABLE,
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

    async fn search(&self, by: Actor, asked: String, search: Search) -> Result<Response, Problem> {
        let log = self.server.message_log.clone();
        let found = tokio::task::spawn_blocking(move || log.search(&search)).await?;
        let found = found.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        self.note_read(by, "search", asked).await?;
        Ok(Json(found).into_response())
    }

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
                let why = "this route wants the operators' token; send authorization: Bearer, and the content of operators.token";
                Err(Problem::new(StatusCode::UNAUTHORIZED, why))
            }
        }
    }
}
