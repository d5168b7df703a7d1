//! `central-registry`: the server and its own command line.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use central_registry::caution::{self, Caution};
use central_registry::command::{self, Admin, AdminFile, Failed};
use central_registry::configuration::Configuration;
use central_registry::usage::{AdminArgs, COMMANDS, CommandLine, Grants, Init, Invite, Purposes, Serve, What};
use central_registry::{Options, Settings, doctor, init, start, system_clock};
use clap::CommandFactory;
use command_line::{Changing, Ended, Exit, Foreseen, LogFormat, described, say, show};
use keystore::{Cost, Source};
use proto::oversight::GrantsWanted;
use proto::purposes::PurposeDocument;
use proto::registration::{Invitation, Order, Revocation, Text};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let command_line = match command_line::parse::<CommandLine>(COMMANDS) {
        Ok(command_line) => command_line,
        Err(ended) => return ended,
    };
    let (format, level) = match &command_line.what {
        What::Serve(options) => (options.log_format, "info"),
        _ => (LogFormat::Text, "warn"),
    };
    command_line::diagnostics(format, level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(command_line.what)),
        Err(error) => Err(Ended::new(Exit::Failed, error)),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(ended) => ended.report("central-registry"),
    }
}

async fn run(what: What) -> Result<Exit, Ended> {
    match what {
        What::Init(options) => begin(options),
        What::Person { name, directory, passphrase, changing } => person(&directory, &name, &passphrase, changing),
        What::Serve(options) => serve(options).await,
        What::Doctor(arguments) => doctor::run(arguments).await,
        What::Invite(options) => invite(options).await,
        What::Requests { admin, reading } => read(&Order::ListRequests, admin, reading.json).await,
        What::Proposals { admin, reading } => read(&Order::ListProposals, admin, reading.json).await,
        What::Members { admin, reading } => read(&Order::ListMembers, admin, reading.json).await,
        What::Approve { request, admin, changing } => change(&Order::Approve(request), admin, changing).await,
        What::Reject { request, reason, admin, changing } => {
            change(&Order::Reject(request, reason), admin, changing).await
        }
        What::Suspend { member, reason, caution, admin, changing } => {
            carefully(&Order::Suspend(member, reason), caution, admin, changing).await
        }
        What::Restore { member, admin, changing } => change(&Order::Restore(member), admin, changing).await,
        What::Revoke { key, reason, last_head, caution, admin, changing } => {
            let last_head = last_head.as_deref().map(command::read_head).transpose().map_err(wrong)?;
            let revocation = Revocation { key, reason, last_head };
            carefully(&Order::Revoke(revocation), caution, admin, changing).await
        }
        What::Move { server, address, admin, changing } => change(&Order::Move(server, address), admin, changing).await,
        What::Maintenance { server, notice, admin, changing } => {
            change(&Order::Maintain(server, notice.notice), admin, changing).await
        }
        What::Host { subsystem, server, admin, changing } => {
            change(&Order::Host(subsystem, server), admin, changing).await
        }
        What::Unhost { subsystem, server, caution, admin, changing } => {
            carefully(&Order::Unhost(subsystem, server), caution, admin, changing).await
        }
        What::Remove { kind, id, reason, caution, admin, changing } => {
            let what = kind.named(&id).map_err(wrong)?;
            carefully(&Order::Remove(what, reason), caution, admin, changing).await
        }
        What::Purposes(purposes) => self::purposes(purposes).await,
        What::Grants(Grants { provider, consumer, purpose, expiring, unused, over, admin, reading }) => {
            let wanted = GrantsWanted { provider, consumer, purpose, expiring, unused, over };
            read(&Order::ListGrants(wanted), admin, reading.json).await
        }
        What::Confirm { proposal, caution, admin, changing } => confirm(&proposal, caution, admin, changing).await,
        What::Audit(command) => {
            central_registry::audit::run(command).map_err(|error| Ended::new(error.exit(), error)).map(|()| Exit::Ok)
        }
        What::Backup(command) => central_registry::backup::run(command),
        What::Ceremony(command) => central_registry::ceremony::run(command),
        What::Completions { shell } => {
            say(&command_line::completions(shell, described(CommandLine::command(), COMMANDS)));
            Ok(Exit::Ok)
        }
    }
}

fn wrong(error: impl Display) -> Ended {
    Ended::new(Exit::Usage, error)
}

fn begin(arguments: Init) -> Result<Exit, Ended> {
    let passphrase = arguments.passphrase.read_new().map_err(wrong)?;
    let Changing { dry_run, json } = arguments.changing;
    let options = Options {
        instance: arguments.instance,
        name: arguments.name,
        admin: arguments.admin,
        others: arguments.persons,
        persons_threshold: arguments.persons_threshold,
        listen: arguments.listen,
        address: arguments.address,
        root_keys: arguments.root_keys,
        root_threshold: arguments.root_threshold,
        unlock: arguments.unlock.unwrap_or(arguments.passphrase),
        passphrase,
        cost: Cost::FULL,
    };
    let failed = |error: central_registry::InitError| Ended::new(error.exit(), error);
    if dry_run {
        let foreseen = central_registry::init::foresee(&arguments.directory, &options).map_err(failed)?;
        show(json, &foreseen, || foreseen.to_string());
        return Ok(Exit::Ok);
    }
    let made = init(&arguments.directory, options, &system_clock()).map_err(failed)?;
    let directory = made.directory.display();
    let configuration = made.directory.join(central_registry::init::CONFIGURATION);
    let value = serde_json::json!({
        "fingerprint": made.fingerprint.to_string(), "anchor_digest": format!("sha256:{}", made.anchor_digest),
        "directory": made.directory, "configuration": configuration, "admin": made.admin, "anchor": made.anchor,
        "offline": made.offline,
    });
    show(json, &value, || {
        format!(
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
               central-registry serve --config {}",
            made.fingerprint,
            made.anchor_digest,
            made.offline.display(),
            made.admin.display(),
            made.anchor.display(),
            configuration.display(),
        )
    });
    Ok(Exit::Ok)
}

fn person(directory: &Path, name: &Text, passphrase: &Source, changing: Changing) -> Result<Exit, Ended> {
    if changing.dry_run {
        let files =
            format!("make {}/admin-{name}.pem, encrypted, and admin-{name}.pub.pem beside it", directory.display());
        let foreseen = Foreseen::new(vec![files]);
        show(changing.json, &foreseen, || foreseen.to_string());
        return Ok(Exit::Ok);
    }
    let made = central_registry::init::person(directory, name, &passphrase.read_new().map_err(wrong)?, Cost::FULL);
    let [key, public] = made.map_err(|error| Ended::new(error.exit(), error))?;
    show(changing.json, &serde_json::json!({ "key": key, "public": public }), || {
        format!(
            "{} is {name}'s own: keep it, and give it to nobody.\n\nNext, whoever begins the instance:\n  \
             central-registry init DIRECTORY --person {name}:registrar@{} ...",
            key.display(),
            public.display()
        )
    });
    Ok(Exit::Ok)
}

async fn serve(options: Serve) -> Result<Exit, Ended> {
    let failed = |error: &dyn Display| Ended::new(Exit::Failed, error);
    let configuration = Configuration::read(&options.config).map_err(wrong)?;
    let passphrase = options.unlock.as_ref().unwrap_or(&configuration.unlock).read().map_err(wrong)?;
    let settings = Settings {
        directory: configuration.directory,
        listen: configuration.listen,
        timestamping: configuration.timestamping,
        public: configuration.public,
        passphrase,
        clock: system_clock(),
    };
    let running = start(settings).await.map_err(|error| Ended::new(error.exit(), error))?;
    // For whoever started it and waits: the address, also where the port was 0.
    say(&format!("listening {} {}", running.address(), running.fingerprint()));
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let ended = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        reason = running.until_ended() => Some(reason),
    };
    running.shutdown().await;
    ended.map_or(Ok(Exit::Ok), |reason| {
        Err(failed(&format!("the audit journal has ended: {reason}; mend the disk and start the registry again")))
    })
}

async fn invite(arguments: Invite) -> Result<Exit, Ended> {
    let order = Order::Invite(Invitation {
        member: arguments.member,
        name: arguments.name,
        server: arguments.server.clone(),
        subsystems: arguments.subsystems,
        valid: Duration::from_secs(arguments.valid_hours * 3600),
    });
    if arguments.changing.dry_run {
        return change(&order, arguments.admin, arguments.changing).await;
    }
    let invitation = admin(arguments.admin)?.invite(&order).await.map_err(failed)?;
    let (registry, fingerprint) = (&invitation.registry, invitation.fingerprint);
    let (token, anchor_digest) = (invitation.token.reveal(), invitation.anchor_digest);
    let value = serde_json::json!({
        "token": token, "registry": registry.to_string(), "fingerprint": fingerprint.to_string(),
        "anchor_digest": format!("sha256:{anchor_digest}"), "server": arguments.server.to_string(),
        "expires": invitation.expires.to_string(),
    });
    if !arguments.changing.json {
        eprintln!(
            "Send this to the server's admin over a way that both of you trust. They put in where their \
             server will be reached, and its directory. The token is good once, until {}.\n",
            invitation.expires
        );
    }
    show(arguments.changing.json, &value, || {
        format!(
            "security-server join --registry {registry} --fingerprint {fingerprint} --anchor-digest sha256:{anchor_digest} \
             --server {} --token {token} --address HOST:PORT DIRECTORY",
            arguments.server
        )
    });
    Ok(Exit::Ok)
}

async fn read(order: &Order, arguments: AdminArgs, json: bool) -> Result<Exit, Ended> {
    let answer = admin(arguments)?.submit(order).await.map_err(failed)?;
    show(json, &command::to_json(&answer), || command::to_text(&answer));
    Ok(Exit::Ok)
}

async fn change(order: &Order, arguments: AdminArgs, changing: Changing) -> Result<Exit, Ended> {
    let admin = admin(arguments)?;
    if changing.dry_run {
        let foreseen = admin.foresee(order).await.map_err(failed)?;
        show(changing.json, &foreseen, || foreseen.to_string());
    } else {
        let answer = admin.submit(order).await.map_err(failed)?;
        show(changing.json, &command::to_json(&answer), || command::to_text(&answer));
        return Ok(command::exit(&answer));
    }
    Ok(Exit::Ok)
}

/// Reads what waits, shows what the other person signed, and confirms just that.
async fn confirm(proposal: &str, caution: Caution, arguments: AdminArgs, changing: Changing) -> Result<Exit, Ended> {
    let admin = admin(arguments)?;
    let waiting = admin.waiting(proposal).await.map_err(failed)?;
    let signed = command::signed(&waiting).map_err(|error| Ended::new(Exit::Failed, error))?;
    eprintln!("{} was ordered by {}: {}", waiting.proposal, waiting.by.join(", "), signed.words);
    give(&signed.confirmed(), caution, &admin, changing).await
}

/// An order that takes somebody off the road: shown first, and asked.
async fn carefully(order: &Order, caution: Caution, arguments: AdminArgs, changing: Changing) -> Result<Exit, Ended> {
    give(order, caution, &admin(arguments)?, changing).await
}

async fn give(order: &Order, caution: Caution, admin: &Admin, changing: Changing) -> Result<Exit, Ended> {
    if changing.dry_run {
        let foreseen = admin.foresee(order).await.map_err(failed)?;
        show(changing.json, &foreseen, || foreseen.to_string());
        return Ok(Exit::Ok);
    }
    let answer = caution::give(admin, order, caution).await;
    let answer = answer.map_err(|not_done| Ended::new(not_done.exit(), not_done))?;
    show(changing.json, &command::to_json(&answer), || command::to_text(&answer));
    Ok(command::exit(&answer))
}

async fn purposes(purposes: Purposes) -> Result<Exit, Ended> {
    match purposes {
        Purposes::List { admin, reading } => read(&Order::ListPurposes, admin, reading.json).await,
        Purposes::Set { purpose, en, vi, admin, changing } => {
            let document = PurposeDocument { purpose, en: en.unwrap_or_default(), vi: vi.unwrap_or_default() };
            document.meaning().map_err(wrong)?;
            change(&Order::SetPurpose(document), admin, changing).await
        }
        Purposes::Remove { purpose, reason, admin, changing } => {
            change(&Order::RemovePurpose(purpose, reason), admin, changing).await
        }
    }
}

fn failed(failed: Failed) -> Ended {
    Ended::new(failed.exit(), failed)
}

fn admin(arguments: AdminArgs) -> Result<Admin, Ended> {
    let file = arguments.admin.as_deref().map(AdminFile::read).transpose().map_err(wrong)?;
    let missing = |what: &str| wrong(format!("--{what} is missing; give it, or the admin's file with --admin FILE"));
    let (instance, registry, fingerprint, key) = match file {
        Some(file) => (Some(file.instance), Some(file.registry), Some(file.fingerprint), Some(file.key)),
        None => (None, None, None, None),
    };
    let key = arguments.admin_key.or(key).ok_or_else(|| missing("admin-key"))?;
    Ok(Admin {
        instance: arguments.instance.or(instance).ok_or_else(|| missing("instance"))?,
        registry: arguments.registry.or(registry).ok_or_else(|| missing("registry"))?,
        fingerprint: arguments.fingerprint.or(fingerprint).ok_or_else(|| missing("fingerprint"))?,
        key: keystore::open(&key, &arguments.passphrase.read().map_err(wrong)?).map_err(wrong)?,
        clock: system_clock(),
    })
}
