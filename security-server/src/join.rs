//! Joining an instance: keys are made on this machine, the registry is asked with a one-time token and proof that the
//! keys are held, and when its admins have approved, the server's directory is written.
//!
//! ```text
//! keys/                        both private keys, encrypted
//! join.json                    the request, while it waits; a later `join` goes on with it
//! certificates/                what the registry issued
//! global-configuration/        the anchor, and the first version that was verified from it
//! message-log/, audit-log/     the first, empty tree of each
//! security-server.toml         written last: with it the server has joined
//! ```
//!
//! A crash at any moment is taken up by calling [`join`] again: the same request gets the same answer.

mod arguments;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use command_line::{Exit, Foreseen, file_remedy};
use journal::{Directory, Journal, Owner, Tree};
use prost::Message;
use proto::certificate::{Authentication, Authority, NotACertificate, Signing, pem};
use proto::digest::Digest;
use proto::global_configuration::update::{Anchor, Files, Rejected, root_file};
use proto::identifier::{InstanceId, MemberId, NotAnIdentifier, ServerId, SubsystemId};
use proto::registration::{Address, Application, Malformed, ReceivedApplication, Token, VerifiedApplication};
use proto::signature::SigningKey;
use proto::wire::registry::join_state::State;
use proto::wire::registry::{Approved, JoinRequest, JoinStatusRequest, Version, WatchRequest};
use registry_client::{Fingerprint, GlobalConfigurationClient, MAX_ANSWER_BYTES, NoConnection, RegistrationClient};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

pub use arguments::{Arguments, run};

use crate::clock::Clock;
use crate::files;
use crate::global_configuration::{Store, StoreError};
use crate::keys::{Cost, KeyError, Keys, NoPassphrase, Passphrase, Source};

/// The configuration file: a server whose directory has it has joined.
pub const CONFIGURATION_FILE: &str = "security-server.toml";
/// Where the certificates stand.
pub const CERTIFICATES: &str = "certificates";
/// Where the global configuration stands.
pub const GLOBAL_CONFIGURATION: &str = "global-configuration";
/// Where the message log stands.
pub const MESSAGE_LOG: &str = "message-log";
/// Where the audit log of this server's own decisions stands.
pub const AUDIT_LOG: &str = "audit-log";
const PENDING: &str = "join.json";
/// The waits between attempts to reach a registry that is gone while a request waits.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What joining needs. Whoever joins was told the registry's address, its fingerprint, the anchor's digest and the token
/// over a way that both sides trust.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory to make.
    pub directory: PathBuf,
    /// Where the registry is.
    pub registry: Address,
    /// What its key must be.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the first root document.
    pub anchor_digest: Digest,
    /// The server's name; its member is the one that owns it.
    pub server: ServerId,
    /// Where other servers will reach this one.
    pub address: Address,
    /// The subsystems that it will host; none: all that the invitation names.
    pub subsystems: Vec<SubsystemId>,
    /// From the invitation.
    pub token: Token,
    /// Encrypts the keys.
    pub passphrase: Passphrase,
    /// How dear a try of the passphrase is.
    pub cost: Cost,
    /// Where the passphrase will come from at each start.
    pub unlock: Source,
    /// Tells the time.
    pub clock: Clock,
}

/// What joining brought.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The server's directory.
    pub directory: PathBuf,
    /// The instance.
    pub instance: InstanceId,
    /// The member that it speaks for.
    pub member: MemberId,
    /// The server.
    pub server: ServerId,
    /// Its subsystems, as registered.
    pub subsystems: Vec<SubsystemId>,
    /// Where other servers reach it.
    pub address: Address,
    /// Where the registry is.
    pub registry: Address,
    /// What the registry's key is.
    pub fingerprint: Fingerprint,
    /// The version of the configuration that it starts with.
    pub version: u64,
    /// Where the passphrase comes from.
    pub unlock: Source,
}

/// Why a server did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has.
    #[error("{0} holds a server that has joined already; give another directory, or start that server")]
    AlreadyJoined(PathBuf),
    /// Another request waits there.
    #[error("{directory} holds a request of {server} that waits; go on with that one, or give another directory")]
    OtherRequest {
        /// The directory.
        directory: PathBuf,
        /// Whose request it is.
        server: String,
    },
    /// A file that the command line names.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "give the path of the file that the registry's admin sent"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the server's directory.
    #[error("{}: {source}; {}", .path.display(), file_remedy(source, "check the disk and the directory, and join again"))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The waiting request cannot be read.
    #[error("{0} is no request that waits; delete it to join anew with another token")]
    Pending(PathBuf),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request contradicts itself.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The registry cannot be reached, or is another one.
    #[error(transparent)]
    Connection(#[from] NoConnection),
    /// The registry refused the request.
    #[error("the registry refused: {reason}")]
    Refused {
        /// Why, on the wire.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// An admin of the registry rejected the request.
    #[error("{request} was rejected: {reason}; settle that with the registry and ask it for a new token")]
    Rejected {
        /// The request.
        request: String,
        /// What the admin wrote.
        reason: String,
    },
    /// The registry's anchor is another one than the one that was told.
    #[error(
        "the registry's anchor has the digest sha256:{found}, not sha256:{told}: it is not the one that you were told of; \
         do not join, and ask the registry's admins over another way"
    )]
    OtherAnchor {
        /// The digest told.
        told: Digest,
        /// The digest found.
        found: Digest,
    },
    /// What the registry published is not right.
    #[error("the registry's configuration is not taken: {0}; tell its admins")]
    Configuration(#[from] Rejected),
    /// The configuration could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate is not one for this server.
    #[error("the registry issued a wrong certificate: {0}; tell its admins")]
    Certificate(String),
    /// A log could not begin.
    #[error("the log could not begin: {0}; check the disk, and join again")]
    Log(#[from] journal::OpenError),
    /// There is no passphrase for the keys.
    #[error(transparent)]
    Passphrase(#[from] NoPassphrase),
    /// The registry said something that this version does not know.
    #[error("the registry's answer is not one that this version knows; are both of the same version?")]
    Answer,
}

impl JoinError {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Connection(NoConnection::Unreachable { .. }) => Exit::Unreachable,
            Self::Refused { code: Code::Unavailable | Code::DeadlineExceeded, .. } => Exit::Unreachable,
            Self::Refused { code: Code::Internal | Code::Unknown | Code::DataLoss, .. } => Exit::Failed,
            Self::Refused { .. } | Self::Rejected { .. } | Self::OtherAnchor { .. } | Self::Connection(_) => {
                Exit::Refused
            }
            Self::AlreadyJoined(_) | Self::OtherRequest { .. } | Self::Unreadable { .. } => Exit::Usage,
            Self::Malformed(_) | Self::Passphrase(_) | Self::Key(KeyError::Passphrase { .. }) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

impl From<NotACertificate> for JoinError {
    fn from(error: NotACertificate) -> Self {
        Self::Certificate(error.to_string())
    }
}

impl From<NotAnIdentifier> for JoinError {
    fn from(error: NotAnIdentifier) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// Joins: asks, waits until an admin has decided, writes the directory. Called again it goes on where it was.
pub async fn join(options: Options) -> Result<Joined, JoinError> {
    let asked = ask(&options).await?;
    asked.wait(&options).await
}

/// What joining would do: everything is asked and checked, nothing is written here, nothing recorded at the registry.
pub async fn foresee(options: &Options) -> Result<Foreseen, JoinError> {
    is_free(&options.directory)?;
    let waits = Pending::read(options)?.is_some();
    let channel = registry_client::connect(&options.registry, options.fingerprint).await?;
    let (directory, server) = (options.directory.display(), &options.server);
    let asked = if waits {
        format!("go on with the request of {server} that waits in {directory}")
    } else {
        // Keys of the moment: whoever joins makes others.
        let ((authentication, _), (signing, _)) = (SigningKey::generate(), SigningKey::generate());
        let request = application(options, &authentication, &signing).sign_dry_run(&authentication, &signing);
        checked(options, &request)?;
        let receipt =
            RegistrationClient::new(channel.clone()).join(request).await.map_err(|status| refused(&status))?;
        format!("ask {} to let {server} join, as request {}", options.registry, receipt.into_inner().request)
    };
    let mut versions = watch(channel).await?;
    let mut files = Files::new();
    next_version(&mut versions, &mut files).await?;
    let trusted = anchor(options, &files)?.first(&files, options.clock.now())?;
    Ok(Foreseen::new(vec![
        asked,
        format!("make two keys in {directory}, and wait there for the decision of the registry's admins"),
        format!("begin with the global configuration, now of version {}, verified from the anchor", trusted.version()),
    ]))
}

/// A request that the registry has recorded.
#[derive(Debug)]
pub struct Asked {
    /// What the registry's admins call it.
    pub request: String,
    digest: Digest,
}

fn is_free(directory: &Path) -> Result<(), JoinError> {
    if directory.join(CONFIGURATION_FILE).exists() {
        Err(JoinError::AlreadyJoined(directory.to_owned()))
    } else {
        Ok(())
    }
}

/// Makes the keys, sends the request, and does not wait. [`join`] with the same options waits for the outcome.
pub async fn ask(options: &Options) -> Result<Asked, JoinError> {
    is_free(&options.directory)?;
    let request = match Pending::read(options)? {
        Some(request) => request,
        None => prepare(options)?,
    };
    let channel = registry_client::connect(&options.registry, options.fingerprint).await?;
    let digest = Digest::of(&[&request.application]);
    match RegistrationClient::new(channel).join(request).await {
        Ok(receipt) => Ok(Asked { request: receipt.into_inner().request, digest }),
        Err(status) => {
            let error = refused(&status);
            if error.exit() == Exit::Refused {
                // What was recorded is never refused: this was not, and another token makes another request.
                remove(&options.directory.join(PENDING))?;
            }
            Err(error)
        }
    }
}

/// Makes keys and request. The request is on disk before it is sent, so that an answer that is lost can be asked for
/// again: the token is good once, and this request has it.
fn prepare(options: &Options) -> Result<JoinRequest, JoinError> {
    let keys = Keys::make(&options.directory, &options.passphrase, options.cost)?;
    let authentication = keys.authentication_key();
    let request = application(options, &authentication, &keys.signing).sign(&authentication, &keys.signing);
    checked(options, &request)?;
    Pending::of(options, &request).write(&options.directory)?;
    Ok(request)
}

fn application(options: &Options, authentication: &SigningKey, signing: &SigningKey) -> Application {
    let member = options.server.owner();
    Application {
        instance: member.instance(),
        member,
        server: options.server.clone(),
        address: options.address.clone(),
        subsystems: options.subsystems.clone(),
        token: options.token.clone(),
        authentication_key: authentication.public().clone(),
        signing_key: signing.public().clone(),
    }
}

/// The registry's own checks: what it would refuse is not sent, and the token not used up.
fn checked(options: &Options, request: &JoinRequest) -> Result<(), JoinError> {
    let received = ReceivedApplication::parse(request.clone())?;
    VerifiedApplication::verify(received, &options.server.owner().instance())?;
    Ok(())
}

/// The request as it waits on disk. It holds the token: for the owner's eyes only.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    server: String,
    registry: String,
    request: String,
}

impl Pending {
    fn of(options: &Options, request: &JoinRequest) -> Self {
        Self {
            server: options.server.to_string(),
            registry: options.fingerprint.to_string(),
            request: hex::encode(request.encode_to_vec()),
        }
    }

    fn read(options: &Options) -> Result<Option<JoinRequest>, JoinError> {
        let path = options.directory.join(PENDING);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JoinError::File { path, source }),
        };
        let Some((pending, request)) = Self::parse(&bytes) else { return Err(JoinError::Pending(path)) };
        if pending.server != options.server.as_str() || pending.registry != options.fingerprint.to_string() {
            return Err(JoinError::OtherRequest { directory: options.directory.clone(), server: pending.server });
        }
        Ok(Some(request))
    }

    fn parse(bytes: &[u8]) -> Option<(Self, JoinRequest)> {
        let pending: Self = serde_json::from_slice(bytes).ok()?;
        let request = JoinRequest::decode(&hex::decode(&pending.request).ok()?[..]).ok()?;
        Some((pending, request))
    }

    fn write(&self, directory: &Path) -> Result<(), JoinError> {
        let text = serde_json::to_vec_pretty(self).expect("three texts");
        write(&directory.join(PENDING), &text, 0o600)
    }
}

/// A request that the registry's admins have approved.
#[derive(Debug)]
pub struct Decided(Approved);

impl Decided {
    /// Checks what the registry gave, and writes the server's directory.
    pub async fn establish(self, options: &Options) -> Result<Joined, JoinError> {
        establish(options, self.0).await
    }
}

impl Asked {
    /// Waits for the decision, and writes the server's directory when it is to approve.
    pub async fn wait(self, options: &Options) -> Result<Joined, JoinError> {
        self.decided(options, &mut || ()).await?.establish(options).await
    }

    /// Waits for the decision, and tells when it has to wait. Nothing is lost where nobody waits any more: the same command
    /// goes on.
    pub async fn decided(&self, options: &Options, waits: &mut impl FnMut()) -> Result<Decided, JoinError> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.decision(options, &mut wait, waits).await {
                Ok(approved) => return Ok(Decided(approved)),
                // A registry that is gone for a while is no answer: the request is recorded there.
                Err(error) if error.exit() == Exit::Unreachable => {
                    tracing::warn!(%error, "the registry is gone while the request waits; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(error) => {
                    if matches!(error, JoinError::Rejected { .. }) {
                        // Its token and keys are of no use any more; another attempt begins anew.
                        remove(&options.directory.join(PENDING))?;
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn decision(
        &self,
        options: &Options,
        wait: &mut Duration,
        waits: &mut impl FnMut(),
    ) -> Result<Approved, JoinError> {
        let channel = registry_client::connect(&options.registry, options.fingerprint).await?;
        let asked = JoinStatusRequest { application_digest: self.digest.to_wire() };
        let mut states =
            RegistrationClient::new(channel).join_status(asked).await.map_err(|status| refused(&status))?.into_inner();
        while let Some(state) = states.message().await.map_err(|status| refused(&status))? {
            *wait = FIRST_WAIT;
            match state.state.ok_or(JoinError::Answer)? {
                State::Waiting(_) => waits(),
                State::Rejected(rejected) => {
                    return Err(JoinError::Rejected { request: state.request, reason: rejected.reason });
                }
                State::Approved(approved) => return Ok(approved),
            }
        }
        Err(JoinError::Refused { code: Code::Unavailable, reason: "it closed while the request waited".to_owned() })
    }
}

/// Checks what the registry gave, and writes the directory; the configuration file last.
async fn establish(options: &Options, approved: Approved) -> Result<Joined, JoinError> {
    let keys = Keys::open(&options.directory, &options.passphrase)?;
    let channel = registry_client::connect(&options.registry, options.fingerprint).await?;
    let first = first_configuration(options, channel).await?;
    certified(options, &keys, &approved, &first.authorities)?;

    let directory = &options.directory;
    let certificates = directory.join(CERTIFICATES);
    create_directory(&certificates)?;
    let authentication = pem("CERTIFICATE", &approved.authentication_certificate);
    write(&certificates.join("authentication.pem"), authentication.as_bytes(), 0o644)?;
    write(&certificates.join("signing.pem"), pem("CERTIFICATE", &approved.signing_certificate).as_bytes(), 0o644)?;

    // What an earlier attempt left of these was never in use: the configuration file is written after them.
    for each in [GLOBAL_CONFIGURATION, MESSAGE_LOG, AUDIT_LOG] {
        remove(&directory.join(each))?;
    }
    let now = options.clock.now();
    drop(Store::create(&directory.join(GLOBAL_CONFIGURATION), first.anchor, &first.files, now)?);
    begin_log(&directory.join(MESSAGE_LOG), &options.server, &keys)?;
    begin_log(&directory.join(AUDIT_LOG), &options.server, &keys)?;

    let joined = Joined {
        directory: directory.clone(),
        instance: options.server.owner().instance(),
        member: options.server.owner(),
        server: options.server.clone(),
        subsystems: approved.subsystems.iter().map(|each| each.parse()).collect::<Result<_, _>>()?,
        address: options.address.clone(),
        registry: options.registry.clone(),
        fingerprint: options.fingerprint,
        version: first.version,
        unlock: options.unlock.clone(),
    };
    // The one moment at which the server has joined. The request with its token is not needed after it.
    write(&directory.join(CONFIGURATION_FILE), configuration_text(&joined).as_bytes(), 0o644)?;
    remove(&directory.join(PENDING))?;
    Ok(joined)
}

/// A configuration that was verified from the anchor.
struct First {
    anchor: Bytes,
    files: Files,
    version: u64,
    authorities: Vec<Vec<u8>>,
}

/// The first version in which this server stands.
async fn first_configuration(options: &Options, channel: Channel) -> Result<First, JoinError> {
    let mut files = Files::new();
    let mut versions = watch(channel).await?;
    loop {
        let version = next_version(&mut versions, &mut files).await?;
        let trusted = anchor(options, &files)?.first(&files, options.clock.now())?;
        let configuration = trusted.configuration();
        if configuration.servers.contains_key(&options.server) {
            return Ok(First {
                anchor: files.get(&root_file(1)).cloned().ok_or(JoinError::Answer)?,
                version: trusted.version(),
                authorities: configuration.authorities.clone(),
                files: trusted.files().clone(),
            });
        }
        tracing::info!(version, "approved, and not in the configuration yet");
    }
}

async fn watch(channel: Channel) -> Result<Streaming<Version>, JoinError> {
    let mut client = GlobalConfigurationClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let versions = client.watch(WatchRequest { version: 0, logged: 0 }).await.map_err(|status| refused(&status))?;
    Ok(versions.into_inner())
}

/// Takes the files of the version that comes next; its number.
async fn next_version(versions: &mut Streaming<Version>, files: &mut Files) -> Result<u64, JoinError> {
    let closed = || JoinError::Refused { code: Code::Unavailable, reason: "it closed the watch".to_owned() };
    let version = versions.message().await.map_err(|status| refused(&status))?.ok_or_else(closed)?;
    files.extend(version.files.into_iter().map(|file| (file.name, file.content)));
    Ok(version.version)
}

/// The anchor among the files, if it is the one that was told.
fn anchor(options: &Options, files: &Files) -> Result<Anchor, JoinError> {
    let anchor = Anchor::read(files.get(&root_file(1)).cloned().ok_or(JoinError::Answer)?)?;
    if anchor.digest() == options.anchor_digest {
        return Ok(anchor);
    }
    Err(JoinError::OtherAnchor { told: options.anchor_digest, found: anchor.digest() })
}

/// The certificates are for these keys, this server and this member, and by an authority of the instance.
fn certified(options: &Options, keys: &Keys, approved: &Approved, authorities: &[Vec<u8>]) -> Result<(), JoinError> {
    for certificate in [&approved.authentication_certificate, &approved.signing_certificate] {
        let issued = |authority: &Vec<u8>| Authority::parse(authority)?.issued(certificate);
        if !authorities.iter().any(|authority| issued(authority).is_ok()) {
            return Err(NotACertificate::Issuer.into());
        }
    }
    let authentication = Authentication::parse(&approved.authentication_certificate)?;
    let signing = Signing::parse(&approved.signing_certificate)?;
    let right = authentication.server == options.server
        && authentication.key == *keys.authentication_key().public()
        && signing.server == options.server
        && signing.member == options.server.owner()
        && signing.key == *keys.signing.public();
    if right { Ok(()) } else { Err(JoinError::Certificate("it names another server or key than asked for".to_owned())) }
}

/// A log's first tree: from now on a directory without a log is a lost disk, never a first use.
fn begin_log(directory: &Path, server: &ServerId, keys: &Keys) -> Result<(), JoinError> {
    create_directory(directory)?;
    let owner =
        Owner { instance: server.owner().instance(), member: server.owner().to_string(), server: server.to_string() };
    let trees = vec![Tree { owner, key: Arc::clone(&keys.signing) }];
    let options = journal::Options { first: true, ..journal::Options::default() };
    Journal::open(Arc::new(Directory(directory.to_owned())), trees, options, None, &mut |_| {})?.close();
    Ok(())
}

/// The commented configuration file of a server that has joined.
fn configuration_text(joined: &Joined) -> String {
    let port = joined.address.as_str().rsplit_once(':').map_or("5500", |(_, port)| port);
    let subsystems: Vec<String> = joined.subsystems.iter().map(|each| format!("\"{each}\"")).collect();
    format!(
        r#"# A security server of {member}, as it joined {instance}. Relative paths are meant from where this file stands.

# Who this server is, and the member that it speaks for.
server = "{server}"
member = "{member}"

# The subsystems that it hosts, as registered.
subsystems = [{subsystems}]

# Where the passphrase of the keys comes from, never the passphrase itself: credential:NAME, fd:NUMBER or prompt.
unlock = "{unlock}"

[registry]
# Where the central registry is, and what its key must be.
address = "{registry}"
fingerprint = "{fingerprint}"

[peers]
# Where other security servers reach this one; they are told {address}.
listen = "0.0.0.0:{port}"

[operators]
# Health, readiness and counters. For this machine only.
listen = "127.0.0.1:5580"
"#,
        instance = joined.instance,
        member = joined.member,
        server = joined.server,
        subsystems = subsystems.join(", "),
        unlock = joined.unlock,
        registry = joined.registry,
        fingerprint = joined.fingerprint,
        address = joined.address,
    )
}

fn refused(status: &tonic::Status) -> JoinError {
    JoinError::Refused { code: status.code(), reason: status.message().to_owned() }
}

// ---- files

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), JoinError> {
    files::write(path, bytes, mode).map_err(|source| JoinError::File { path: path.to_owned(), source })
}

fn create_directory(path: &Path) -> Result<(), JoinError> {
    fs::create_dir_all(path).map_err(|source| JoinError::File { path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), JoinError> {
    files::remove(path).map_err(|source| JoinError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_of_a_waiting_request_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pending::parse(&bytes);
            let request = hex::encode(&bytes);
            let pending = Pending { server: String::new(), registry: String::new(), request };
            let _ = Pending::parse(&serde_json::to_vec(&pending).unwrap());
        }
    }
}
