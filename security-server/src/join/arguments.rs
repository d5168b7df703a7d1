//! `security-server join`, as a person types it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use command_line::{Changing, Exit, Paint, Progress, show};
use proto::digest::Digest;
use proto::identifier::{ServerId, SubsystemId};
use proto::registration::{Address, Token};
use registry_client::Fingerprint;
use zeroize::Zeroizing;

use super::{Asked, Decided, JoinError, Joined, Options, ask, foresee};
use crate::clock::Clock;
use crate::keys::{Cost, Source};

/// Join an instance: makes keys here, asks the registry, waits for its admins, writes this server's directory.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The directory to make for this server.
    pub directory: PathBuf,
    /// Where the registry is.
    #[arg(long, value_name = "HOST:PORT")]
    pub registry: Address,
    /// What the registry's key must be, as its admin told you.
    #[arg(long)]
    pub fingerprint: Fingerprint,
    /// SHA-256 of the anchor, as the registry's admin told you.
    #[arg(long, required_unless_present = "anchor")]
    pub anchor_digest: Option<AnchorDigest>,
    /// The anchor itself, if you were given the file.
    #[arg(long, value_name = "FILE", conflicts_with = "anchor_digest")]
    pub anchor: Option<PathBuf>,
    /// This server's name, as it was invited.
    #[arg(long)]
    pub server: ServerId,
    /// Where other security servers will reach this one.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Address,
    /// A subsystem to host; may be given several times. None: all that the invitation names.
    #[arg(long = "subsystem")]
    pub subsystems: Vec<SubsystemId>,
    /// The one-time token. Others on this machine can read it here: --token-file is better.
    #[arg(long, required_unless_present = "token_file")]
    pub token: Option<Token>,
    /// A file that holds the token; -: standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Where the passphrase of the new keys comes from: credential:NAME, fd:NUMBER or prompt.
    #[arg(long, default_value = "prompt")]
    pub passphrase: Source,
    /// Where the server will get it from at each start; as --passphrase if not given.
    #[arg(long)]
    pub unlock: Option<Source>,
    /// Send the request, print its number and do not wait. The same command without this waits for the outcome.
    #[arg(long)]
    pub no_wait: bool,
    /// Wait so long for the decision; then end with 8. The same command goes on waiting.
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    pub wait_seconds: Option<u64>,
    /// Whether it is carried out, and how the outcome is shown.
    #[command(flatten)]
    pub changing: Changing,
}

/// `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct AnchorDigest(pub Digest);

impl FromStr for AnchorDigest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.map(Self).ok_or_else(|| {
            "it is no digest; it is sha256: and 64 lower-case hexadecimal digits, as `central-registry init` printed it".to_owned()
        })
    }
}

/// Joins as asked, and says how it goes.
pub async fn run(arguments: Arguments) -> Result<Exit, JoinError> {
    let wait = if arguments.no_wait { Some(0) } else { arguments.wait_seconds }.map(Duration::from_secs);
    let Changing { dry_run, json } = arguments.changing;
    let options = arguments.meant()?;
    if dry_run {
        let foreseen = foresee(&options).await?;
        show(json, &foreseen, || foreseen.to_string());
        return Ok(Exit::Ok);
    }
    let asked = ask(&options).await?;
    let decided = decided(&asked, &options, wait).await?;
    let Some(decided) = decided else {
        let waits = serde_json::json!({ "standing": "waiting", "request": asked.request, "server": options.server });
        show(json, &waits, || format!("{} waits for approval. The same command again goes on.", asked.request));
        return Ok(Exit::Waiting);
    };
    let joined = decided.establish(&options).await?;
    let has_joined = serde_json::json!({
        "standing": "joined", "request": asked.request, "server": joined.server, "instance": joined.instance,
        "version": joined.version, "configuration": joined.directory.join(super::CONFIGURATION_FILE),
    });
    show(json, &has_joined, || text(&joined));
    Ok(Exit::Ok)
}

/// The decision, if it is made while it is waited for.
async fn decided(asked: &Asked, options: &Options, wait: Option<Duration>) -> Result<Option<Decided>, JoinError> {
    let told = format!("{} is waiting for approval by the registry's admins", asked.request);
    let mut progress = None;
    let mut waits = || {
        progress.get_or_insert_with(|| Progress::waiting(&told));
    };
    match wait {
        Some(Duration::ZERO) => Ok(None),
        Some(wait) => tokio::time::timeout(wait, asked.decided(options, &mut waits)).await.ok().transpose(),
        None => asked.decided(options, &mut waits).await.map(Some),
    }
}

fn text(joined: &Joined) -> String {
    let file = |name| joined.directory.join(name).display().to_string();
    format!(
        "{} has joined {}.\n  {}  version {} of the global configuration, verified\n  {configuration}\n\n\
         Next: security-server serve --config {configuration}",
        Paint::out().name(joined.server.as_str()),
        joined.instance,
        file(super::GLOBAL_CONFIGURATION),
        joined.version,
        configuration = file(super::CONFIGURATION_FILE),
    )
}

impl Arguments {
    fn meant(self) -> Result<Options, JoinError> {
        // The command line asks for one of each pair, so that what is read here was given.
        let anchor_digest = match (self.anchor_digest, &self.anchor) {
            (Some(AnchorDigest(digest)), _) => digest,
            (None, anchor) => Digest::of(&[&read(anchor.as_deref().unwrap_or(Path::new("-")))?]),
        };
        let token = match (self.token, &self.token_file) {
            (Some(token), _) => token,
            (None, file) => {
                let bytes = Zeroizing::new(read(file.as_deref().unwrap_or(Path::new("-")))?);
                String::from_utf8_lossy(&bytes).trim().parse()?
            }
        };
        let passphrase = self.passphrase.read_new()?;
        Ok(Options {
            directory: self.directory,
            registry: self.registry,
            fingerprint: self.fingerprint,
            anchor_digest,
            server: self.server,
            address: self.address,
            subsystems: self.subsystems,
            token,
            passphrase,
            cost: Cost::FULL,
            unlock: self.unlock.unwrap_or(self.passphrase),
            clock: Clock::system(),
        })
    }
}

/// Longest file that is read: an anchor or a token.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

fn read(path: &Path) -> Result<Vec<u8>, JoinError> {
    let failed = |source| JoinError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    }
    Ok(bytes)
}
