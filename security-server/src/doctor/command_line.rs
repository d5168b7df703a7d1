//! `security-server doctor`, as a person types it.

use std::path::PathBuf;

use checks::keys::Unlock;

use super::{Options, examine};
use crate::clock::Clock;
use crate::config::Configuration;
use crate::keys::Source;

/// Look at this server and at all that it rests on, and name the first cause of what is wrong. Changes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The server's configuration file.
    #[arg(long, env = "CAUSEWAY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Where the passphrase of the keys comes from, instead of what the file says.
    #[arg(long, value_name = "SOURCE")]
    pub unlock: Option<Source>,
    /// Ask for no passphrase: whatever needs the keys is skipped.
    #[arg(long, conflicts_with = "unlock")]
    pub no_passphrase: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  security-server doctor --config moj/security-server.toml
  security-server doctor --config moj/security-server.toml --no-passphrase --json

Exit codes: 0 nothing failed, 7 a check failed, 2 wrong usage.";

/// Examines as asked, tells, and ends the program.
pub async fn run(arguments: Arguments) -> ! {
    let Arguments { config: file, unlock, no_passphrase, json } = arguments;
    let read = file.clone();
    let told = move || Configuration::read(&read).ok().map(|configuration| configuration.unlock);
    let unlock = if no_passphrase { Unlock::unasked() } else { Unlock::read(unlock, told).await };
    examine(&Options { file, unlock, clock: Clock::system() }).await.told(json)
}
