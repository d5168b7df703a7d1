//! `security-server`: the server and its own command line.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory;
use command_line::{
    Changing, Ended, Exit, Foreseen, LogFormat, Paint, described, did_you_mean, file_remedy, say, show,
};
use proto::catalogue::{ServiceForm, ServiceName};
use proto::digest::Digest;
use proto::identifier::SubsystemId;
use proto::refusal::{Code, Language};
use proto::registration::Malformed;
use proto::time::Time;
use security_server::access_requests::{Asking as AskingForAccess, Shown, ShownRequests};
use security_server::access_rights::{NamedFields, Proposal};
use security_server::announce::Announced;
use security_server::clock::Clock;
use security_server::config::Configuration;
use security_server::disclosures::{Asking, Disclosures};
use security_server::lanes::Lanes;
use security_server::listen::operators::access::{Approving, Rejecting};
use security_server::listen::operators::payloads::Erasing;
use security_server::listen::operators::registration::{Leaving, Maintaining, Moving};
use security_server::listen::operators::{self, About, Accepting, Ending, Grants, Records, Status, Verdict};
use security_server::listings::elements::{ElementLines, ElementShown, Reuse};
use security_server::listings::{Announcement, ServiceLines, ServiceShown, Source};
use security_server::message_log::exchanges::FoundExchanges;
use security_server::operate::{Failed, Operator, encoded};
use security_server::shown::AccessList;
use security_server::snippet::FirstCall;
use security_server::usage::{
    Access, COMMANDS, CommandLine, ConfigurationFile, Elements, Evidence, Keys, MethodName, Publish, Services, Snippet,
    What, by_method,
};
use security_server::{announce, doctor, join, shown, usage};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let command_line = match command_line::parse::<CommandLine>(COMMANDS) {
        Ok(command_line) => command_line,
        Err(ended) => return ended,
    };
    match run(command_line.what).await {
        Ok(exit) => exit.into(),
        Err(ended) => ended.report("security-server"),
    }
}

/// Writes a file that its owner reads and nobody else, also where it was there before.
fn write_privately(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)
}

async fn run(what: What) -> Result<Exit, Ended> {
    match what {
        What::Join(arguments) => {
            command_line::diagnostics(LogFormat::Text, "warn");
            join::run(*arguments).await.map_err(|error| Ended::new(error.exit(), error))
        }
        What::Serve { server, log_format } => serve(server, log_format).await,
        What::Access(access) => self::access(access).await,
        What::Exchange { id, server, reading } => {
            let records: Records<shown::Line> = ask(&server, &format!("/v1/exchanges/{id}")).await?;
            show(reading.json, &records, || shown::records(&records, Paint::out()));
            Ok(Exit::Ok)
        }
        What::Disclosures { subject, since, until, before, limit, language, server, reading } => {
            let asking = Asking {
                subject: identifier(subject)?,
                since: since.map(|time| time.to_string()),
                until: until.map(|time| time.to_string()),
                before: before.map(|before| before.to_string()),
                limit: Some(limit),
            };
            let told: Disclosures = operator(&server)?.post("/v1/disclosures", &asking).await.map_err(failed)?;
            show(reading.json, &told, || shown::disclosures(&told, language.into(), Paint::out()));
            Ok(Exit::Ok)
        }
        What::Status { check, server, reading } => {
            let status: Status = ask(&server, "/v1/status").await?;
            show(reading.json, &status, || shown::status(&status, Paint::out()));
            Ok(if check && !status.health.ready { Exit::CheckFailed } else { Exit::Ok })
        }
        What::Evidence(Evidence::Find {
            id,
            subject,
            since,
            until,
            before,
            peer,
            method,
            result,
            limit,
            server,
            reading,
        }) => {
            let asked = [
                ("id", id.map(|id| id.to_string())),
                ("since", since.map(|time| time.to_string())),
                ("until", until.map(|time| time.to_string())),
                ("before", before.map(|before| before.to_string())),
                ("peer", peer.map(|peer| peer.to_string())),
                ("method", method.map(|method| method.to_string())),
                ("result", result.map(|result| result.to_string())),
                ("limit", Some(limit.to_string())),
            ];
            let asked = asked.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
            let query = format!("/v1/exchanges?{}", asked.collect::<Vec<_>>().join("&"));
            let found: FoundExchanges = match subject {
                None => ask(&server, &query).await?,
                // An identifier is in no address.
                Some(subject) => {
                    let about = About { subject: identifier(subject)? };
                    operator(&server)?.post(&query, &about).await.map_err(failed)?
                }
            };
            show(reading.json, &found, || shown::exchanges(&found, Paint::out()));
            Ok(Exit::Ok)
        }
        What::Evidence(Evidence::Get { id, out, with_payloads, server, reading }) => {
            let ends = |with: &str| out.as_ref().and_then(|out| out.extension()).is_some_and(|ending| ending == with);
            let (archive, container) = (ends("zip"), ends("asice"));
            let query = format!("archive={archive}&container={container}&payloads={with_payloads}");
            let path = format!("/v1/exchanges/{id}/evidence?{query}");
            let payloads = match with_payloads {
                true => shown::payloads(&ask(&server, &format!("/v1/exchanges/{id}")).await?),
                false => Vec::new(),
            };
            let evidence = operator(&server)?.get(&path).await.map_err(failed)?;
            let Some(out) = out else {
                say(&String::from_utf8_lossy(&evidence));
                // Beside the file, which is on standard output and has one form.
                let _ = write!(std::io::stderr(), "{}", shown::payload_lines(&payloads));
                return Ok(Exit::Ok);
            };
            let unwritten = |error| Ended::new(Exit::Failed, format!("{}: {error}", out.display()));
            // What was said stands in it as it was said: nobody else on this machine reads it.
            let put = if with_payloads { write_privately(&out, &evidence) } else { std::fs::write(&out, &evidence) };
            put.map_err(unwritten)?;
            let mut written = json!({ "file": out.display().to_string(), "bytes": evidence.len() });
            if with_payloads {
                written["payloads"] = json!(payloads);
            }
            show(reading.json, &written, || {
                format!("{}: {} bytes\n{}", out.display(), evidence.len(), shown::payload_lines(&payloads))
            });
            Ok(Exit::Ok)
        }
        What::Evidence(Evidence::Contradiction { number, server, reading }) => {
            let found = security_server::audit::contradictions(&server.config, number, reading.json);
            found.map_err(|error| Ended::new(error.exit(), error)).map(|()| Exit::Ok)
        }
        What::Evidence(Evidence::Traffic { peer, since, until, server, reading: _ }) => {
            let times = (since.unwrap_or_default(), until.unwrap_or(Time::from_millis(u64::MAX)));
            security_server::traffic::export(&server.config, peer, times).await
        }
        What::Evidence(Evidence::Reconcile { a, b, anchor, reading }) => {
            security_server::traffic::compare([&a, &b], &anchor, reading.json)
        }
        What::Evidence(Evidence::Verify { file, anchor, reading }) => verify(&file, &anchor, reading.json),
        What::Payloads(usage::Payloads::Erase { id, reason, server, changing }) => {
            let path = format!("/v1/exchanges/{id}/payloads/erase");
            change(&server, changing, &path, &Erasing { reason }, shown::payloads_erased).await
        }
        What::Keys(keys) => self::keys(keys).await,
        What::Snippet(asked) => snippet(*asked).await,
        What::Services(services) => self::services(services).await,
        What::Elements(elements) => self::elements(elements).await,
        What::Move { address, server, changing } => {
            change(&server, changing, "/v1/registration/move", &Moving { address }, shown::registered).await
        }
        What::Maintenance { notice, server, changing } => {
            let maintaining = Maintaining { notice: notice.notice };
            change(&server, changing, "/v1/registration/maintenance", &maintaining, shown::registered).await
        }
        What::Leave { reason, server, changing } => {
            change(&server, changing, "/v1/registration/leave", &Leaving { reason }, shown::registered).await
        }
        What::Clock(usage::Clock::Accept { reason, server, changing }) => {
            change(&server, changing, "/v1/clock/accept", &Accepting { reason }, shown::clock_accepted).await
        }
        What::Doctor(arguments) => doctor::run(arguments).await,
        What::Audit(command) => {
            security_server::audit::run(command).map_err(|error| Ended::new(error.exit(), error)).map(|()| Exit::Ok)
        }
        What::Log(command) => security_server::whole_log::run(command),
        What::Archive(command) => security_server::archive::run(command).await,
        What::Backup(command) => security_server::backup::run(command).await,
        What::Token { reading } => Ok(token(reading.json)),
        What::Explain { code, language, reading } => Ok(explain(code, language.into(), reading.json)),
        What::Completions { shell } => {
            say(&command_line::completions(shell, described(CommandLine::command(), COMMANDS)));
            Ok(Exit::Ok)
        }
    }
}

/// As it was given, or where that is `-` the first line of standard input.
fn identifier(given: String) -> Result<String, Ended> {
    if given != "-" {
        return Ok(given);
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| Ended::new(Exit::Usage, format!("standard input: {error}; give the identifier there")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn serve(server: ConfigurationFile, log_format: LogFormat) -> Result<Exit, Ended> {
    command_line::diagnostics(log_format, "info");
    let wrong = |error: &dyn std::fmt::Display| Ended::new(Exit::Usage, error);
    let configuration = Configuration::read(&server.config).map_err(|error| wrong(&error))?;
    let passphrase = configuration.unlock.read().map_err(|error| wrong(&error))?;
    let settings = configuration.settings(&passphrase, Clock::system()).await;
    let mut settings = settings.map_err(|error| Ended::new(error.exit(), error))?;
    settings.lanes = Lanes::one_per_core().map_err(|error| Ended::new(Exit::Failed, error))?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| Ended::new(Exit::Failed, error))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| Ended::new(Exit::Failed, error))?;
    let started = security_server::start(settings).await.map_err(|error| Ended::new(Exit::Failed, error))?;
    tracing::info!(
        server = %started.server.id, peers = %started.peers, clients = ?started.clients, operators = %started.operators,
        "the security server runs"
    );
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("shutting down: nothing new is taken, what runs goes on to its end");
    started.shutdown().await;
    Ok(Exit::Ok)
}

async fn access(access: Access) -> Result<Exit, Ended> {
    match access {
        Access::Grant {
            consumer,
            provider,
            methods,
            purposes,
            legal_basis,
            days,
            per_second,
            priority,
            fields,
            server,
            changing,
        } => {
            let methods = methods.iter().map(ToString::to_string).collect();
            let proposal = Proposal {
                consumer,
                provider,
                fields: by_method(&methods, fields).map_err(|why| Ended::new(Exit::Usage, why))?,
                methods,
                purposes: purposes.into_iter().collect(),
                legal_basis,
                valid_from: None,
                valid_days: days,
                per_second,
                priority,
            };
            change(&server, changing, "/v1/grants", &proposal, shown::granted).await
        }
        Access::End { number, reason, server, changing } => {
            change(&server, changing, &format!("/v1/grants/{number}/end"), &Ending { reason }, shown::ended).await
        }
        Access::List { sent: true, server, reading } => {
            let sent: ShownRequests = ask(&server, "/v1/access/requests/sent").await?;
            show(reading.json, &sent, || shown::requests_sent(&sent, Paint::out()));
            Ok(Exit::Ok)
        }
        Access::List { sent: false, server, reading } => {
            let Grants { grants } = ask(&server, "/v1/grants").await?;
            let ShownRequests { requests } = ask(&server, "/v1/access/requests").await?;
            let list = AccessList { grants, requests };
            show(reading.json, &list, || shown::access(&list, Paint::out()));
            Ok(Exit::Ok)
        }
        Access::Request { what, provider, consumer, purpose, legal_basis, until, server, changing } => {
            let until = until.map(Time::as_millis);
            let asking = AskingForAccess { what, provider, consumer, purpose, legal_basis, until };
            change(&server, changing, "/v1/access/requests", &asking, shown::request).await
        }
        Access::Show { request, server, reading } => {
            let shown: Shown = ask(&server, &format!("/v1/access/requests/{}", encoded(&request))).await?;
            show(reading.json, &shown, || shown::request(&shown, Paint::out()));
            Ok(Exit::Ok)
        }
        Access::Approve { request, until, fields, server, changing } => {
            let path = format!("/v1/access/requests/{}", encoded(&request));
            let fields = match fields.is_empty() {
                true => NamedFields::new(),
                false => by_method(&ask::<Shown>(&server, &path).await?.methods, fields)
                    .map_err(|why| Ended::new(Exit::Usage, why))?,
            };
            let approving = Approving { until: until.map(Time::as_millis), fields };
            change(&server, changing, &format!("{path}/approve"), &approving, shown::granted).await
        }
        Access::Reject { request, reason, server, changing } => {
            let path = format!("/v1/access/requests/{}/reject", encoded(&request));
            change(&server, changing, &path, &Rejecting { reason }, shown::request).await
        }
        Access::Why { consumer, provider, method, purpose, server, reading } => {
            let query = format!(
                "/v1/access/why?consumer={}&provider={}&method={}&purpose={}",
                encoded(consumer.as_str()),
                encoded(provider.as_str()),
                encoded(method.as_str()),
                encoded(&purpose)
            );
            let verdict: Verdict = ask(&server, &query).await?;
            show(reading.json, &verdict, || shown::verdict(&verdict, Paint::out()));
            Ok(Exit::Ok)
        }
    }
}

async fn keys(keys: Keys) -> Result<Exit, Ended> {
    match keys {
        Keys::List { server, reading } => {
            let keys: operators::keys::Keys = ask(&server, "/v1/keys").await?;
            show(reading.json, &keys, || shown::keys(&keys, Paint::out()));
            Ok(Exit::Ok)
        }
        Keys::Rotate { what, now, server, changing } => {
            let rotation = operators::keys::Rotation { what, now };
            change(&server, changing, "/v1/keys/rotate", &rotation, shown::rotated).await
        }
    }
}

async fn services(services: Services) -> Result<Exit, Ended> {
    let of = |subsystem: Option<SubsystemId>| subsystem.map(|it| format!("?subsystem={}", encoded(it.as_str())));
    match services {
        Services::Publish(publish) => self::publish(*publish).await,
        Services::List { server, reading } => {
            let found: ServiceLines = ask(&server, "/v1/services").await?;
            show(reading.json, &found, || shown::services(&found, Paint::out()));
            Ok(Exit::Ok)
        }
        Services::Search { query, server, reading } => {
            let found: ServiceLines = ask(&server, &format!("/v1/services?query={}", encoded(&query))).await?;
            show(reading.json, &found, || shown::services(&found, Paint::out()));
            Ok(Exit::Ok)
        }
        Services::Show { service, subsystem, server, reading } => {
            let path = format!("/v1/services/{service}{}", of(subsystem).unwrap_or_default());
            let found: ServiceShown = ask(&server, &path).await?;
            show(reading.json, &found, || shown::service(&found, Paint::out()));
            Ok(Exit::Ok)
        }
        Services::Proto { service, subsystem, descriptors, server, reading } => {
            let path = format!("/v1/services/{service}/source{}", of(subsystem).unwrap_or_default());
            let found: Source = ask(&server, &path).await?;
            if let Some(file) = descriptors {
                let failed =
                    |error: &dyn std::fmt::Display| Ended::new(Exit::Failed, format!("{}: {error}", file.display()));
                let bytes = STANDARD.decode(&found.descriptors).map_err(|error| failed(&error))?;
                std::fs::write(&file, bytes).map_err(|error| failed(&error))?;
                return Ok(Exit::Ok);
            }
            show(reading.json, &found, || shown::source(&found));
            Ok(Exit::Ok)
        }
        Services::Openapi { service, subsystem, server, reading } => {
            let path = format!("/v1/services/{service}/openapi{}", of(subsystem).unwrap_or_default());
            let mut document: Value = ask(&server, &path).await?;
            let configuration = Configuration::read(&server.config).map_err(|error| Ended::new(error.exit(), error))?;
            if let Some((door, _)) = configuration.door_of(None) {
                // A REST service stands below a path of its own.
                let below = document.pointer("/servers/0/url").and_then(Value::as_str).unwrap_or_default().to_owned();
                document["servers"] = json!([{ "url": format!("{door}{below}") }]);
            }
            show(reading.json, &document, || format!("{document:#}\n"));
            Ok(Exit::Ok)
        }
    }
}

async fn snippet(asked: Snippet) -> Result<Exit, Ended> {
    let Snippet { method: MethodName(method), subsystem, client, purpose, lang, server, reading } = asked;
    let configuration = Configuration::read(&server.config).map_err(|error| Ended::new(error.exit(), error))?;
    let Some((door, bound)) = configuration.door_of(client.as_ref()) else {
        let whose = client.map_or_else(String::new, |client| format!(" for {client}"));
        let file = server.config.display();
        return Err(Ended::new(
            Exit::Usage,
            format!("{file} has no door{whose}; name it under [[clients]] or [[client]]"),
        ));
    };
    let of = subsystem.map(|it| format!("?subsystem={}", encoded(it.as_str()))).unwrap_or_default();
    let document: Value = ask(&server, &format!("/v1/services/{}/openapi{of}", method.service())).await?;
    if let Some(below) = document.pointer("/servers/0/url").and_then(Value::as_str) {
        let service = method.service();
        return Err(Ended::new(
            Exit::Usage,
            format!(
                "{service} is a REST service, called at {door}{below}; `security-server services openapi {service}` writes \
                 the document from which any tool makes a call"
            ),
        ));
    }
    let Some(call) = FirstCall::of(&document, &method, door, bound, purpose.to_string()) else {
        let known: Vec<_> = document["paths"].as_object().into_iter().flat_map(|paths| paths.keys()).collect();
        let near = did_you_mean(method.as_str(), &known, "`security-server services show` lists its methods");
        return Err(Ended::new(Exit::NotFound, format!("there is no {method}; {near}")));
    };
    let text = call.snippet(lang);
    show(reading.json, &json!({ "door": call.door, "provider": call.provider, "snippet": text }), || text.clone());
    Ok(Exit::Ok)
}

async fn elements(elements: Elements) -> Result<Exit, Ended> {
    match elements {
        Elements::List { query, server, reading } => {
            let found: ElementLines = ask(&server, &format!("/v1/elements?query={}", encoded(&query))).await?;
            show(reading.json, &found, || shown::elements(&found, Paint::out()));
        }
        Elements::Show { element, server, reading } => {
            let found: ElementShown = ask(&server, &format!("/v1/elements/{element}")).await?;
            show(reading.json, &found, || shown::element(&found, Paint::out()));
        }
        Elements::Duplicates { server, reading } => {
            let found: ElementLines = ask(&server, "/v1/elements?duplicates=true").await?;
            show(reading.json, &found, || shown::duplicates(&found, Paint::out()));
        }
        Elements::Report { service, server, reading } => {
            let of = service.map(|service| format!("?service={}", encoded(service.as_str()))).unwrap_or_default();
            let found: Reuse = ask(&server, &format!("/v1/reuse{of}")).await?;
            show(reading.json, &found, || shown::reuse(&found, Paint::out()));
        }
    }
    Ok(Exit::Ok)
}

async fn publish(publish: Publish) -> Result<Exit, Ended> {
    let named: Vec<String> = publish.services.iter().map(ServiceName::to_string).collect();
    let form = if publish.openapi.is_some() { ServiceForm::Rest } else { ServiceForm::Grpc };
    let announced = match (&publish.openapi, &publish.reflection) {
        (Some(file), _) => {
            announce::documented(file).map(|descriptors| Announced { descriptors, services: Vec::new() })
        }
        (None, Some(address)) => announce::reflected(address, &named).await,
        (None, None) => announce::compiled(&publish.files, &publish.include),
    };
    let announced = announced.map_err(|error| Ended::new(Exit::Usage, error))?;
    let named = if named.is_empty() { announced.services } else { named };
    let services = named.iter().map(|name| name.parse()).collect::<Result<_, _>>();
    let announcement = Announcement {
        subsystem: publish.subsystem,
        form,
        descriptors: STANDARD.encode(announced.descriptors),
        services: services.map_err(|error: Malformed| Ended::new(Exit::Usage, error))?,
        version: publish.version,
        title: publish.title,
        contact: publish.contact,
        open_to: publish.open_to.into_iter().collect(),
        deprecated: publish.deprecated,
    };
    change(&publish.server, publish.changing, "/v1/services", &announcement, shown::published).await
}

async fn change<A: DeserializeOwned + serde::Serialize>(
    server: &ConfigurationFile,
    changing: Changing,
    path: &str,
    body: &impl serde::Serialize,
    text: impl FnOnce(&A, Paint) -> String,
) -> Result<Exit, Ended> {
    let operator = operator(server)?;
    if changing.dry_run {
        let foreseen: Foreseen = operator.post(&format!("{path}?dry_run=true"), body).await.map_err(failed)?;
        show(changing.json, &foreseen, || foreseen.to_string());
    } else {
        let changed: A = operator.post(path, body).await.map_err(failed)?;
        show(changing.json, &changed, || text(&changed, Paint::out()));
    }
    Ok(Exit::Ok)
}

async fn ask<A: DeserializeOwned>(server: &ConfigurationFile, path: &str) -> Result<A, Ended> {
    operator(server)?.read(path).await.map_err(failed)
}

fn operator(server: &ConfigurationFile) -> Result<Operator, Ended> {
    Operator::of(&server.config).map_err(failed)
}

fn failed(failed: Failed) -> Ended {
    Ended::new(failed.exit(), failed)
}

fn verify(file: &Path, anchor: &Path, json: bool) -> Result<Exit, Ended> {
    let read = |path: &Path, maker| {
        let told =
            |error| Ended::new(Exit::Usage, format!("{}: {error}; {}", path.display(), file_remedy(&error, maker)));
        std::fs::read(path).map_err(told)
    };
    let evidence = read(file, "`security-server evidence get` writes one")?;
    let anchor = read(anchor, "it is global-configuration/anchor.json of any server's directory")?;
    if proto::contradiction::is_one(&evidence) {
        let report = proto::contradiction::verify(&evidence, &anchor);
        let report = report.map_err(|error| Ended::new(Exit::EvidenceInvalid, error))?;
        show(json, &report, || report.to_string());
        let holds = report.holds().then_some(Exit::Ok);
        return holds.ok_or_else(|| Ended::new(Exit::EvidenceInvalid, "the contradiction does not hold"));
    }
    if proto::split_view::is_one(&evidence) {
        let report = proto::split_view::verify(&evidence, &anchor);
        let report = report.map_err(|error| Ended::new(Exit::EvidenceInvalid, error))?;
        show(json, &report, || report.to_string());
        return Ok(Exit::Ok);
    }
    let report =
        proto::evidence::verify(&evidence, &anchor).map_err(|error| Ended::new(Exit::EvidenceInvalid, error))?;
    show(json, &report, || report.to_string());
    if report.holds() { Ok(Exit::Ok) } else { Err(Ended::new(Exit::EvidenceInvalid, "the evidence does not hold")) }
}

fn token(json: bool) -> Exit {
    let token = security_server::config::random_token();
    let digest = Digest::of(&[token.as_bytes()]);
    show(json, &serde_json::json!({ "token": token, "token_sha256": digest.to_string() }), || {
        format!(
            "Give this to the system, as causeway-token (it is not kept here):\n  {token}\n\n\
             Put this into security-server.toml:\n  [[client]]\n  subsystem = \"INSTANCE/CLASS/MEMBER/SUBSYSTEM\"\n  \
             token_sha256 = \"{digest}\""
        )
    });
    Exit::Ok
}

fn explain(code: Option<Code>, language: Language, json: bool) -> Exit {
    let codes = code.as_ref().map_or(Code::ALL, std::slice::from_ref);
    let values: Vec<_> = codes
        .iter()
        .map(|code| {
            serde_json::json!({
                "code": code.as_str(), "grpc_status": code.grpc_status(), "http_status": code.http_status(),
                "side": code.side().as_str(), "said_by": code.speaker().as_str(),
                "title": code.title(language), "remedy": code.remedy(language),
            })
        })
        .collect();
    show(json, &serde_json::json!({ "codes": values }), || {
        let line = |code: &Code| {
            let (title, remedy) = (code.title(language), code.remedy(language));
            let whose = code.side().name(language);
            let of = match language {
                Language::English => "It lies with",
                Language::Vietnamese => "Phía cần xử lý:",
            };
            let (grpc, http) = (code.grpc_status(), code.http_status());
            format!("{code}  (gRPC {grpc}, HTTP {http})\n  {title}\n  {remedy}\n  {of} {whose}.\n")
        };
        codes.iter().map(line).collect()
    });
    Exit::Ok
}
