//! `security-server doctor`, as a person types it.

use checks::keys::Unlock;
use command_line::Reading;

use super::{Options, examine};
use crate::clock::Clock;
use crate::config::Configuration;
use crate::keys::Source;
use crate::usage::ConfigurationFile;

/// The doctor's options.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which server.
    #[command(flatten)]
    pub server: ConfigurationFile,
    /// Where the passphrase of the keys comes from, instead of what the file says.
    #[arg(long, value_name = "SOURCE")]
    pub unlock: Option<Source>,
    /// Ask for no passphrase: whatever needs the keys is skipped.
    #[arg(long, conflicts_with = "unlock")]
    pub no_passphrase: bool,
    /// How the report is shown.
    #[command(flatten)]
    pub reading: Reading,
}

/// Examines as asked, tells, and ends the program.
pub async fn run(arguments: Arguments) -> ! {
    let Arguments { server, unlock, no_passphrase, reading } = arguments;
    let file = server.config;
    let read = file.clone();
    let told = move || Configuration::read(&read).ok().map(|configuration| configuration.unlock);
    let unlock = if no_passphrase { Unlock::unasked() } else { Unlock::read(unlock, told).await };
    examine(&Options { file, unlock, clock: Clock::system() }).await.told(reading)
}
