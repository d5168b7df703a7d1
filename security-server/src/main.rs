//! `security-server`: the server and its own command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by a rule, 4 unreachable, 5 evidence invalid,
//! 6 not found.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use proto::digest::Digest;
use proto::identifier::{ExchangeId, MethodPath, SubsystemId};
use proto::refusal::{Code, Language};
use security_server::access_rights::Proposal;
use security_server::clock::Clock;
use security_server::config::Configuration;
use security_server::join;
use security_server::listen::operators::{Accepting, Ending};
use security_server::operate::{Failed, Operator, encoded};
use tokio::signal::unix::{SignalKind, signal};

/// A member's door to every other member.
#[derive(Parser)]
#[command(name = "security-server", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  security-server join moj --registry registry.gov.vn:4001 --fingerprint sha256:... \\
      --anchor-digest sha256:... --server VN/GOV/moj/ss1 --address ss1.moj.gov.vn:5500 \\
      --token-file token
  security-server serve --config moj/security-server.toml
  export CAUSEWAY_CONFIG=moj/security-server.toml
  security-server access grant VN/GOV/portal/one-stop --provider VN/GOV/moj/civil-registry \\
      --method /civil.v1.Births/Register --purpose birth-registration --days 365
  security-server evidence get 3f1c0d5e9a7b4c6d8e2f0a1b3c5d7e9f > evidence.json

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by a rule, 4 unreachable, 5 evidence invalid, 6 not found.";

#[derive(Subcommand)]
enum What {
    /// Join an instance: makes keys here, asks the registry, waits for its admins.
    Join(Box<join::Arguments>),
    /// Run the server until SIGTERM; then let what runs end.
    Serve {
        #[command(flatten)]
        server: ConfigurationFile,
        /// How diagnostics are written. They never hold payload, credentials or personal data.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        log_format: Format,
    },
    /// Say who may call what of ours.
    #[command(subcommand)]
    Access(Access),
    /// Show what the log holds of an exchange.
    Exchange {
        /// The id, from `causeway-exchange` in any answer.
        id: ExchangeId,
        #[command(flatten)]
        server: ConfigurationFile,
    },
    /// Get and verify proof of what was asked and answered.
    #[command(subcommand)]
    Evidence(Evidence),
    /// Show how the server is: its log, its configuration, what runs.
    Status {
        #[command(flatten)]
        server: ConfigurationFile,
    },
    /// Say that the clock is right, where it had been wrong.
    #[command(subcommand)]
    Clock(Clocks),
    /// Make a token for a system of ours: the token for the system, its SHA-256 for [[client]].
    Token,
    /// Say what a refusal's code means and what to do. Asks nobody.
    Explain {
        /// The code, from `causeway-refusal`; none: all of them.
        code: Option<Code>,
        /// In which language.
        #[arg(long, value_enum, default_value_t = Spoken::En)]
        language: Spoken,
    },
}

#[derive(clap::Args)]
struct ConfigurationFile {
    /// The server's configuration file.
    #[arg(long, env = "CAUSEWAY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Spoken {
    /// English.
    En,
    /// Tiếng Việt.
    Vi,
}

impl From<Spoken> for Language {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::En => Self::English,
            Spoken::Vi => Self::Vietnamese,
        }
    }
}

#[derive(Subcommand)]
enum Access {
    /// Grant a consumer methods of a service of ours. Signed, recorded, then in force at once.
    Grant {
        /// Who may call.
        consumer: SubsystemId,
        /// The subsystem of ours.
        #[arg(long)]
        provider: SubsystemId,
        /// An exact method, /package.Service/Method; may be given several times.
        #[arg(long = "method", required = true)]
        methods: Vec<MethodPath>,
        /// A purpose; may be given several times.
        #[arg(long = "purpose", required = true)]
        purposes: Vec<String>,
        /// The law that allows it.
        #[arg(long, default_value = "")]
        legal_basis: String,
        /// How many days it lasts: 1 to 3660.
        #[arg(long)]
        days: u32,
        /// Exchanges a second, with a burst of ten seconds' worth.
        #[arg(long)]
        per_second: Option<u32>,
        #[command(flatten)]
        server: ConfigurationFile,
    },
    /// End a grant before its time, for running exchanges too.
    End {
        /// Its number, as `access list` shows it.
        number: u64,
        /// Why: it is recorded.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: ConfigurationFile,
    },
    /// Show the grants.
    List {
        #[command(flatten)]
        server: ConfigurationFile,
    },
    /// Say whether a call would be allowed, and why: asks the very function that decides.
    Why {
        /// Who would call.
        consumer: SubsystemId,
        /// The subsystem of ours.
        #[arg(long)]
        provider: SubsystemId,
        /// The method.
        #[arg(long)]
        method: MethodPath,
        /// The purpose.
        #[arg(long)]
        purpose: String,
        #[command(flatten)]
        server: ConfigurationFile,
    },
}

#[derive(Subcommand)]
enum Clocks {
    /// Accept the clock as it is now, though the log holds later times: it was wrong then. Recorded in the audit log; what
    /// was received meanwhile is not taken a second time.
    Accept {
        /// How it is known that the clock is right now.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        server: ConfigurationFile,
    },
}

#[derive(Subcommand)]
enum Evidence {
    /// Write the evidence of an exchange to standard output.
    Get {
        /// The id, from `causeway-exchange` in any answer.
        id: ExchangeId,
        #[command(flatten)]
        server: ConfigurationFile,
    },
    /// Verify an evidence file with nothing but the anchor. Asks nobody.
    Verify {
        /// The evidence file.
        file: PathBuf,
        /// The instance's anchor: its first root document, as global-configuration/anchor.json of any server.
        #[arg(long, value_name = "FILE")]
        anchor: PathBuf,
        /// The findings as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(CommandLine::parse().what).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended { code, why }) => {
            let _ = writeln!(std::io::stderr(), "security-server: {why}");
            ExitCode::from(code)
        }
    }
}

/// Why the program ends otherwise than well.
struct Ended {
    code: u8,
    why: String,
}

impl Ended {
    fn new(code: u8, why: impl std::fmt::Display) -> Self {
        Self { code, why: why.to_string() }
    }
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Self {
        Self::new(failed.exit_code(), failed)
    }
}

async fn run(what: What) -> Result<(), Ended> {
    match what {
        What::Join(arguments) => {
            diagnostics(Format::Text);
            join::run(*arguments).await.map_err(|error| Ended::new(error.exit_code(), error))
        }
        What::Serve { server, log_format } => serve(server, log_format).await,
        What::Access(access) => self::access(access).await,
        What::Exchange { id, server } => show(&server, &format!("/v1/exchanges/{id}")).await,
        What::Status { server } => show(&server, "/v1/status").await,
        What::Evidence(Evidence::Get { id, server }) => {
            let evidence = Operator::of(&server.config)?.get(&format!("/v1/exchanges/{id}/evidence")).await?;
            say(&evidence);
            Ok(())
        }
        What::Evidence(Evidence::Verify { file, anchor, json }) => verify(&file, &anchor, json),
        What::Clock(Clocks::Accept { reason, server }) => {
            let accepted = Operator::of(&server.config)?.post("/v1/clock/accept", &Accepting { reason }).await?;
            say(pretty(&accepted).as_bytes());
            Ok(())
        }
        What::Token => token(),
        What::Explain { code, language } => explain(code, language.into()),
    }
}

async fn serve(server: ConfigurationFile, log_format: Format) -> Result<(), Ended> {
    diagnostics(log_format);
    let configuration = Configuration::read(&server.config).map_err(|error| Ended::new(2, error))?;
    let passphrase = configuration.unlock.read().map_err(|error| Ended::new(2, error))?;
    let settings = configuration.settings(&passphrase, Clock::system()).await.map_err(|error| Ended::new(2, error))?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| Ended::new(1, error))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| Ended::new(1, error))?;
    let started = security_server::start(settings).await.map_err(|error| Ended::new(1, error))?;
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
    Ok(())
}

fn diagnostics(format: Format) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CAUSEWAY_LOG").unwrap_or_else(|_| "info".into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => lines.json().init(),
    }
}

async fn access(access: Access) -> Result<(), Ended> {
    match access {
        Access::Grant { consumer, provider, methods, purposes, legal_basis, days, per_second, server } => {
            let proposal = Proposal {
                consumer,
                provider,
                methods: methods.iter().map(ToString::to_string).collect(),
                purposes: purposes.into_iter().collect(),
                legal_basis,
                valid_from: None,
                valid_days: days,
                per_second,
            };
            let granted = Operator::of(&server.config)?.post("/v1/grants", &proposal).await?;
            say(pretty(&granted).as_bytes());
            Ok(())
        }
        Access::End { number, reason, server } => {
            let ended =
                Operator::of(&server.config)?.post(&format!("/v1/grants/{number}/end"), &Ending { reason }).await?;
            say(pretty(&ended).as_bytes());
            Ok(())
        }
        Access::List { server } => show(&server, "/v1/grants").await,
        Access::Why { consumer, provider, method, purpose, server } => {
            let query = format!(
                "/v1/access/why?consumer={}&provider={}&method={}&purpose={}",
                encoded(consumer.as_str()),
                encoded(provider.as_str()),
                encoded(method.as_str()),
                encoded(&purpose)
            );
            show(&server, &query).await
        }
    }
}

async fn show(server: &ConfigurationFile, path: &str) -> Result<(), Ended> {
    let answer = Operator::of(&server.config)?.get(path).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|error| Ended::new(1, error))?;
    say(pretty(&answer).as_bytes());
    Ok(())
}

fn verify(file: &PathBuf, anchor: &PathBuf, json: bool) -> Result<(), Ended> {
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|error| Ended::new(2, format!("{}: {error}", path.display())));
    let (evidence, anchor) = (read(file)?, read(anchor)?);
    let report = proto::evidence::verify(&evidence, &anchor).map_err(|error| Ended::new(5, error))?;
    if json {
        let report = serde_json::to_value(&report).map_err(|error| Ended::new(1, error))?;
        say(pretty(&report).as_bytes());
    } else {
        say(report.to_string().as_bytes());
    }
    if report.holds() { Ok(()) } else { Err(Ended::new(5, "the evidence does not hold")) }
}

fn token() -> Result<(), Ended> {
    let token = security_server::config::random_token();
    say(format!(
        "Give this to the system, as causeway-token (it is not kept here):\n  {token}\n\n\
         Put this into security-server.toml:\n  [[client]]\n  subsystem = \"INSTANCE/CLASS/MEMBER/SUBSYSTEM\"\n  token_sha256 = \"{}\"\n",
        Digest::of(&[token.as_bytes()])
    )
    .as_bytes());
    Ok(())
}

fn explain(code: Option<Code>, language: Language) -> Result<(), Ended> {
    let codes = code.as_ref().map_or(Code::ALL, std::slice::from_ref);
    for code in codes {
        say(format!(
            "{code}  (gRPC {}, HTTP {})\n  {}\n  {}\n",
            code.grpc_status(),
            code.http_status(),
            code.title(language),
            code.remedy(language)
        )
        .as_bytes());
    }
    Ok(())
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Where nobody reads the output any more, the work was done all the same.
fn say(text: &[u8]) {
    let _ = std::io::stdout().write_all(text);
}
