//! One agency as a program of its own: `agency civil-registry --peer population=http://127.0.0.1:8080`.
//!
//! It prints where it listens as one line of JSON, and serves until it is told to stop (SIGTERM or Ctrl-C).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use command_line::{Command, Does, Ended, Exit};
use examples::agencies::{
    Calendar, Peer, Running, archive, civil_registry, field, population_register, portal, social_insurance,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const AGENCY: Command = Command {
    name: "",
    does: Does::Serves,
    examples: &[
        "agency population-register --listen 127.0.0.1:8080",
        "agency civil-registry --peer population=http://127.0.0.1:8080 --today 2026-03-02",
    ],
};

/// Runs one example agency.
#[derive(Parser)]
#[command(name = "agency", version)]
struct Flags {
    /// Which agency.
    agency: Agency,
    /// Where it listens. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A peer and where it is reached: NAME=http://HOST:PORT. Civil registry and social insurance need `population`, the
    /// portal `civil` and `insurance`.
    #[arg(long = "peer", value_name = "NAME=URI")]
    peers: Vec<String>,
    /// A metadata field that each call to a peer carries: NAME:KEY=VALUE. May be given several times.
    #[arg(long, value_name = "NAME:KEY=VALUE")]
    metadata: Vec<String>,
    /// The directory with the archive's documents.
    #[arg(long, value_name = "DIRECTORY", required_if_eq("agency", "archive"))]
    documents: Option<PathBuf>,
    /// The day it is, YYYY-MM-DD. Without it the machine's clock says so.
    #[arg(long)]
    today: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Agency {
    PopulationRegister,
    CivilRegistry,
    SocialInsurance,
    Portal,
    Archive,
}

impl Agency {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn peers(self) -> &'static [&'static str] {
        match self {
            Agency::PopulationRegister | Agency::Archive => &[],
            Agency::CivilRegistry | Agency::SocialInsurance => &["population"],
            Agency::Portal => {
                &["civil", "insurance", "civil-disclosures", "insurance-disclosures", "population-disclosures"]
            }
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match command_line::parse::<Flags>(&[AGENCY]) {
        Ok(flags) => flags,
        Err(ended) => return ended,
    };
    match run(&flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Ended::new(Exit::Failed, format!("{error:#}; see `agency --help`")).report("agency"),
    }
}

async fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let running = start(flags).await?;
    println!("{}", serde_json::json!({ "agency": flags.agency.name(), "address": running.address() }));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    running.shutdown().await;
    Ok(())
}

async fn start(flags: &Flags) -> anyhow::Result<Running> {
    let configured = Configured::read(flags)?;
    let calendar = match &flags.today {
        Some(day) => Calendar::fixed(field::date("--today", day)?),
        None => Calendar::of_the_machine(),
    };
    let listener =
        TcpListener::bind(flags.listen).await.with_context(|| format!("cannot listen at {}", flags.listen))?;
    Ok(match flags.agency {
        Agency::Archive => {
            let documents = flags.documents.as_deref().context("--documents DIRECTORY is missing")?;
            let read = format!("the documents in {} cannot be read", documents.display());
            archive::start(listener, documents).await.context(read)?
        }
        Agency::PopulationRegister => population_register::start(listener, calendar).await?,
        Agency::CivilRegistry => {
            let peers = civil_registry::Peers { population: configured.peer("population")? };
            civil_registry::start(listener, peers, calendar).await?
        }
        Agency::SocialInsurance => {
            let peers = social_insurance::Peers { population: configured.peer("population")? };
            social_insurance::start(listener, peers, calendar).await?
        }
        Agency::Portal => {
            let (civil, insurance) = (configured.peer("civil")?, configured.peer("insurance")?);
            let asked = ["civil", "insurance", "population"].map(|name| (name, format!("{name}-disclosures")));
            let asked = asked.into_iter().filter(|(_, peer)| configured.names(peer));
            let disclosures = asked.map(|(name, peer)| Ok((name.to_owned(), configured.peer(&peer)?)));
            let disclosures = disclosures.collect::<anyhow::Result<_>>()?;
            portal::start(listener, portal::Peers { civil, insurance, disclosures }).await?
        }
    })
}

/// The peers as the flags name them.
struct Configured<'a> {
    uris: Vec<(&'a str, &'a str)>,
    metadata: Vec<(&'a str, (String, String))>,
}

impl Configured<'_> {
    fn read(flags: &Flags) -> anyhow::Result<Configured<'_>> {
        let known = flags.agency.peers();
        let check = |flag: &str, name: &str| {
            if known.contains(&name) {
                return Ok(());
            }
            bail!("{flag} names the peer {name:?}, but {} calls only {known:?}", flags.agency.name())
        };
        let mut uris = Vec::new();
        for flag in &flags.peers {
            let (name, uri) = flag.split_once('=').with_context(|| format!("--peer {flag:?} is not NAME=URI"))?;
            check("--peer", name)?;
            uris.push((name, uri));
        }
        let mut metadata = Vec::new();
        for flag in &flags.metadata {
            // The flag may hold a credential: only its beginning is shown.
            let form =
                || format!("--metadata {:?}... is not NAME:KEY=VALUE", flag.split('=').next().unwrap_or_default());
            let (name, pair) = flag.split_once(':').with_context(form)?;
            let (key, value) = pair.split_once('=').with_context(form)?;
            check("--metadata", name)?;
            metadata.push((name, (key.to_owned(), value.to_owned())));
        }
        Ok(Configured { uris, metadata })
    }

    fn names(&self, name: &str) -> bool {
        self.uris.iter().any(|(of, _)| *of == name)
    }

    fn peer(&self, name: &str) -> anyhow::Result<Peer> {
        let mut named = self.uris.iter().filter(|(of, _)| *of == name);
        let Some((_, uri)) = named.next() else { bail!("--peer {name}=http://HOST:PORT is missing") };
        if named.next().is_some() {
            bail!("--peer {name}=... is given twice")
        }
        let pairs: Vec<_> = self.metadata.iter().filter(|(of, _)| *of == name).map(|(_, pair)| pair.clone()).collect();
        Ok(Peer::new(uri, &pairs)?)
    }
}
