//! `cargo sandbox`: a whole example country in one process, with a signed call made and proved.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use command_line::{Command, Does, Ended, Exit, LogFormat};
use examples::sandbox::{Country, INSURANCE, POPULATION, PORTAL, PURPOSE, story};

const SANDBOX: Command = Command {
    name: "",
    does: Does::Serves,
    examples: &[
        "cargo sandbox                   # stays up, and prints three things to try",
        "cargo sandbox --once            # ends with 0 only if every promise held",
        "cargo sandbox --dir country     # keeps the country, and goes on with it next time",
    ],
};

/// Runs a whole example country on loopback: a registry, four agencies, a security server each.
#[derive(Parser)]
#[command(name = "sandbox", version)]
struct Arguments {
    /// End when the story is told: 0 only if all of it held.
    #[arg(long)]
    once: bool,
    /// Print endpoints, credentials and ids as one JSON object, for a program.
    #[arg(long)]
    json: bool,
    /// Keep the country in this directory, and go on with it next time. Without it the country vanishes at the end.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match command_line::parse::<Arguments>(&[SANDBOX]) {
        Ok(arguments) => arguments,
        Err(ended) => return ended,
    };
    command_line::diagnostics(LogFormat::Text, "error");
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Ended::new(Exit::Failed, format!("a promise did not hold: {error:#}")).report("sandbox"),
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let vanishing = tempfile::tempdir()?;
    let directory = arguments.dir.clone().unwrap_or_else(|| vanishing.path().to_owned());
    let mut tell = |line: &str| {
        if !arguments.json {
            println!("{line}");
        }
    };
    let country = Country::start(&directory, &mut tell).await?;
    let told = story::tell(&country, &mut tell).await?;
    if arguments.json {
        println!("{:#}", description(&country, &told));
    } else if !arguments.once {
        println!("{}", things_to_try(&country, &told));
    }
    if !arguments.once {
        tokio::signal::ctrl_c().await?;
    }
    country.stop().await;
    Ok(())
}

fn things_to_try(country: &Country, told: &story::Told) -> String {
    let (portal, people) = (country.server(PORTAL), country.server(POPULATION));
    let security_server = "cargo run --quiet --bin security-server --";
    format!(
        "\nThe country stays up until Ctrl-C. Its keys' passphrase is random and stands in {passphrase}: a sandbox has no secrets.\n\
         Three things to try, in another terminal:\n\n\
         1. Verify the evidence yourself, then change a byte of it and verify again:\n   \
         {security_server} evidence verify {evidence} --anchor {anchor}\n\n\
         2. See what the portal's server recorded of that exchange:\n   \
         {security_server} exchange {exchange} --config {portal_file}\n\n\
         3. Ask why the portal may not read the population register, and grant it:\n   \
         {security_server} access why {one_stop} --provider {register} --method /population.v1.People/Get --purpose {PURPOSE} --config {people_file}\n   \
         {security_server} access grant {one_stop} --provider {register} --method /population.v1.People/Get --purpose {PURPOSE} --days 1 --config {people_file}\n",
        passphrase = country.directory.join("passphrase").display(),
        evidence = told.evidence.display(),
        anchor = told.anchor.display(),
        exchange = told.exchange,
        portal_file = portal.configuration.display(),
        people_file = people.configuration.display(),
        one_stop = PORTAL.subsystem(),
        register = POPULATION.subsystem(),
    )
}

fn description(country: &Country, told: &story::Told) -> serde_json::Value {
    let servers: Vec<_> = country
        .servers
        .iter()
        .map(|server| {
            serde_json::json!({
                "server": server.started.server.id,
                "subsystem": server.agency.subsystem(),
                "peers": server.started.peers.to_string(),
                "clients": server.started.clients[0].to_string(),
                "operators": server.started.operators.to_string(),
                "configuration": server.configuration,
                "operators_token": server.configuration.with_file_name("operators.token"),
                "agency": country.agency(server.agency).address().to_string(),
            })
        })
        .collect();
    serde_json::json!({
        "registry": { "address": country.registry.address().to_string(), "fingerprint": country.registry.fingerprint().to_string() },
        "directory": country.directory,
        "servers": servers,
        "purpose": PURPOSE,
        "birth": {
            "registration_number": told.filed.registration_number,
            "personal_number": told.filed.personal_number,
            "card_number": told.filed.card_number,
        },
        "exchange": told.exchange,
        "refused": told.refused.as_str(),
        "granted": told.granted,
        "evidence": told.evidence,
        "anchor": told.anchor,
        "eligibility": INSURANCE.subsystem(),
    })
}
