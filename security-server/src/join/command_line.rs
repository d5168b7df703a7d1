//! `security-server join`, as a person types it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proto::digest::Digest;
use proto::identifier::{ServerId, SubsystemId};
use proto::registration::{Address, Token};
use registry_client::Fingerprint;
use zeroize::Zeroizing;

use super::{JoinError, Options, ask, join};
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
}

/// `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct AnchorDigest(pub Digest);

impl FromStr for AnchorDigest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.map(Self).ok_or_else(|| {
            "it is sha256: and 64 lower-case hexadecimal digits, as `central-registry init` printed it".to_owned()
        })
    }
}

/// Joins as asked, and says how it goes.
pub async fn run(arguments: Arguments) -> Result<(), JoinError> {
    let no_wait = arguments.no_wait;
    let options = arguments.meant()?;
    if no_wait {
        let asked = ask(&options).await?;
        say(&format!("{} waits for approval. The same command without --no-wait goes on.\n", asked.request));
        return Ok(());
    }
    let joined = join(options).await?;
    say(&format!(
        "{} has joined {}.\n  {}  version {} of the global configuration, verified\n  {}\n\nNext: security-server serve --config {}\n",
        joined.server,
        joined.instance,
        joined.directory.join(super::GLOBAL_CONFIGURATION).display(),
        joined.version,
        joined.directory.join(super::CONFIGURATION_FILE).display(),
        joined.directory.join(super::CONFIGURATION_FILE).display(),
    ));
    Ok(())
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
    let failed = |source| JoinError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    }
    Ok(bytes)
}

/// Where nobody reads the output any more, joining was done all the same.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
