//! `central-registry`: the server and its own command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by a rule, 4 the registry cannot be reached,
//! 6 not found.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use central_registry::command::{self, Admin, AdminFile, Failed};
use central_registry::configuration::Configuration;
use central_registry::{Options, Settings, doctor, init, start, system_clock};
use clap::{Args, Parser, Subcommand, ValueEnum};
use keystore::{Cost, Source};
use proto::identifier::{InstanceId, MemberId, ServerId, SubsystemId};
use proto::registration::{Address, Order, RequestId, Text};
use registry_client::Fingerprint;

/// The governing authority's record of who is who.
#[derive(Parser)]
#[command(name = "central-registry", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  central-registry init registry --instance VN --name \"National data bus\" \\
      --address registry.gov.vn:4001
  central-registry serve --config registry/central-registry.toml
  export CAUSEWAY_ADMIN=registry/admin-admin.toml
  central-registry invite VN/GOV/moj --name \"Ministry of Justice\" \\
      --server VN/GOV/moj/ss1 --subsystem VN/GOV/moj/civil-registry
  central-registry requests
  central-registry approve R-1

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by a rule, 4 unreachable, 6 not found.";

#[derive(Subcommand)]
enum What {
    /// Begin an instance: keys, authority, first admin, first configuration.
    Init(Init),
    /// Run the registry.
    Serve(Serve),
    /// Look at this registry and all that it rests on, and name the first cause of what is wrong.
    Doctor(doctor::Arguments),
    /// Let a server join, once: prints a one-time token.
    Invite(Invite),
    /// Show requests to join.
    Requests(Reading),
    /// Grant what a request asks: certifies its keys and publishes the member.
    Approve {
        /// The request, like R-1.
        request: RequestId,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Refuse what a request asks.
    Reject {
        /// The request, like R-1.
        request: RequestId,
        /// Why: the applicant reads it.
        #[arg(long)]
        reason: Text,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show members.
    Members(Reading),
    /// Take a member off the road for a time: in force on the next message.
    Suspend {
        /// The member.
        member: MemberId,
        /// Why: stands in the audit journal.
        #[arg(long)]
        reason: Text,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Let a suspended member back.
    Restore {
        /// The member.
        member: MemberId,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Args)]
struct Init {
    /// The directory to make.
    directory: PathBuf,
    /// The instance, like VN.
    #[arg(long)]
    instance: InstanceId,
    /// Its name for people.
    #[arg(long)]
    name: Text,
    /// Who commands first; names the admin's files.
    #[arg(long, default_value = "admin")]
    admin: Text,
    /// Where the registry will listen.
    #[arg(long, default_value = "0.0.0.0:4001")]
    listen: SocketAddr,
    /// Where servers and admins will reach it.
    #[arg(long, default_value = "127.0.0.1:4001")]
    address: Address,
    /// How many root keys are made.
    #[arg(long, default_value_t = 3)]
    root_keys: usize,
    /// How many of them must sign a new root.
    #[arg(long, default_value_t = 2)]
    root_threshold: usize,
    /// Where the passphrase of the new keys comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt")]
    passphrase: Source,
    /// Where `serve` will get it from; as --passphrase if not given.
    #[arg(long)]
    unlock: Option<Source>,
}

#[derive(Args)]
struct Serve {
    /// The configuration file that `init` wrote.
    #[arg(long)]
    config: PathBuf,
    /// Where the passphrase comes from, instead of what the file says.
    #[arg(long)]
    unlock: Option<Source>,
    /// How diagnostics are written. They never hold credentials.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Args)]
struct Invite {
    /// The member, like VN/GOV/moj.
    member: MemberId,
    /// The member's name for people; leave it out for a member that is registered.
    #[arg(long)]
    name: Option<Text>,
    /// The server that may join, like VN/GOV/moj/ss1.
    #[arg(long)]
    server: ServerId,
    /// A subsystem that it may host; may be given several times.
    #[arg(long = "subsystem")]
    subsystems: Vec<SubsystemId>,
    /// How long the token is good, in hours.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=720))]
    valid_hours: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args)]
struct Reading {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args)]
struct AdminArgs {
    /// The admin's file, as `init` wrote it; the options below stand in for what it says.
    #[arg(long, env = "CAUSEWAY_ADMIN", value_name = "FILE")]
    admin: Option<PathBuf>,
    /// The instance.
    #[arg(long)]
    instance: Option<InstanceId>,
    /// Where the registry is.
    #[arg(long, value_name = "HOST:PORT")]
    registry: Option<Address>,
    /// What the registry's key must be: sha256:...
    #[arg(long)]
    fingerprint: Option<Fingerprint>,
    /// The admin's key file.
    #[arg(long, value_name = "FILE")]
    admin_key: Option<PathBuf>,
    /// Where the passphrase of the admin's key comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt")]
    passphrase: Source,
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    diagnostics(match &command_line.what {
        What::Serve(options) => options.log_format,
        _ => Format::Text,
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error.into()),
    };
    match runtime.block_on(run(command_line.what)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn diagnostics(format: Format) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CAUSEWAY_LOG").unwrap_or_else(|_| "info".into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => lines.json().init(),
    }
}

/// Something about the command line or a file that it names: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("central-registry: {error:#}");
    let code = if let Some(failed) = error.downcast_ref::<Failed>() {
        failed.exit_code()
    } else if error.is::<Usage>() {
        2
    } else {
        1
    };
    ExitCode::from(code)
}

async fn run(what: What) -> anyhow::Result<()> {
    match what {
        What::Init(options) => begin(options),
        What::Serve(options) => serve(options).await,
        What::Doctor(arguments) => doctor::run(arguments).await,
        What::Invite(options) => invite(options).await,
        What::Requests(options) => show(&Order::ListRequests, options).await,
        What::Members(options) => show(&Order::ListMembers, options).await,
        What::Approve { request, admin } => tell(&Order::Approve(request), admin).await,
        What::Reject { request, reason, admin } => tell(&Order::Reject(request, reason), admin).await,
        What::Suspend { member, reason, admin } => tell(&Order::Suspend(member, reason), admin).await,
        What::Restore { member, admin } => tell(&Order::Restore(member), admin).await,
    }
}

fn begin(options: Init) -> anyhow::Result<()> {
    let passphrase = options.passphrase.read_new()?;
    let made = init(
        &options.directory,
        Options {
            instance: options.instance,
            name: options.name,
            admin: options.admin,
            listen: options.listen,
            address: options.address,
            root_keys: options.root_keys,
            root_threshold: options.root_threshold,
            unlock: options.unlock.unwrap_or(options.passphrase),
            passphrase,
            cost: Cost::FULL,
        },
        &system_clock(),
    )?;
    let directory = made.directory.display();
    print(&format!(
        "The instance is there.\n\n\
         Tell everybody who joins, over a way that they trust:\n  \
           fingerprint    {}\n  \
           anchor digest  sha256:{}\n\n\
         Keep:\n  \
           {}/      take these root keys away now, each to another person; `serve` runs without them\n  \
           {directory}/keys/         the keys in use, encrypted; back them up with the audit journal\n  \
           {directory}/journal/      every decision; what is not in it did not happen\n  \
           {}  the first admin's file; move it and its key to that admin's machine\n  \
           {}   the anchor, public\n\n\
         Next:\n  \
           central-registry serve --config {directory}/{}\n",
        made.fingerprint,
        made.anchor_digest,
        made.offline.display(),
        made.admin.display(),
        made.anchor.display(),
        central_registry::init::CONFIGURATION,
    ))
}

async fn serve(options: Serve) -> anyhow::Result<()> {
    let configuration = Configuration::read(&options.config).map_err(|error| Usage(error.to_string()))?;
    let passphrase = options.unlock.as_ref().unwrap_or(&configuration.unlock).read()?;
    let running = start(Settings {
        directory: configuration.directory,
        listen: configuration.listen,
        passphrase,
        clock: system_clock(),
    })
    .await?;
    // For whoever started it and waits: the address, also where the port was 0.
    print(&format!("listening {} {}\n", running.address(), running.fingerprint()))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let ended = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
        reason = running.until_ended() => Some(reason),
    };
    running.shutdown().await;
    match ended {
        Some(reason) => anyhow::bail!("the audit journal has ended: {reason}"),
        None => Ok(()),
    }
}

async fn invite(options: Invite) -> anyhow::Result<()> {
    let order = Order::Invite(proto::registration::Invitation {
        member: options.member,
        name: options.name,
        server: options.server.clone(),
        subsystems: options.subsystems,
        valid: Duration::from_secs(options.valid_hours * 3600),
    });
    let invitation = admin(options.admin)?.invite(&order).await?;
    let (registry, fingerprint) = (&invitation.registry, invitation.fingerprint);
    let (token, anchor_digest) = (invitation.token.reveal(), invitation.anchor_digest);
    if options.json {
        return print(&format!(
            "{}\n",
            serde_json::json!({
                "token": token, "registry": registry.to_string(), "fingerprint": fingerprint.to_string(),
                "anchor_digest": format!("sha256:{anchor_digest}"), "server": options.server.to_string(),
                "expires": invitation.expires.to_string(),
            })
        ));
    }
    eprintln!(
        "Send this to the server's admin over a way that both of you trust. They put in where their \
         server will be reached, and its directory. The token is good once, until {}.\n",
        invitation.expires
    );
    print(&format!(
        "security-server join --registry {registry} --fingerprint {fingerprint} --anchor-digest sha256:{anchor_digest} \
         --server {} --token {token} --address HOST:PORT DIRECTORY\n",
        options.server
    ))
}

async fn show(order: &Order, options: Reading) -> anyhow::Result<()> {
    let answer = admin(options.admin)?.submit(order).await?;
    if options.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&command::to_json(&answer))?))
    } else {
        print(&format!("{}\n", command::to_text(&answer)))
    }
}

async fn tell(order: &Order, options: AdminArgs) -> anyhow::Result<()> {
    let answer = admin(options)?.submit(order).await?;
    print(&format!("{}\n", command::to_text(&answer)))
}

fn admin(options: AdminArgs) -> anyhow::Result<Admin> {
    let file = match &options.admin {
        Some(path) => Some(AdminFile::read(path).map_err(|error| Usage(error.to_string()))?),
        None => None,
    };
    let missing = |what: &str| Usage(format!("--{what} is missing: give it, or the admin's file with --admin FILE"));
    let (instance, registry, fingerprint, key) = match file {
        Some(file) => (Some(file.instance), Some(file.registry), Some(file.fingerprint), Some(file.key)),
        None => (None, None, None, None),
    };
    let key = options.admin_key.or(key).ok_or_else(|| missing("admin-key"))?;
    Ok(Admin {
        instance: options.instance.or(instance).ok_or_else(|| missing("instance"))?,
        registry: options.registry.or(registry).ok_or_else(|| missing("registry"))?,
        fingerprint: options.fingerprint.or(fingerprint).ok_or_else(|| missing("fingerprint"))?,
        key: keystore::open(&key, &options.passphrase.read()?)?,
        clock: system_clock(),
    })
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("the output cannot be written")
}
