//! The door: does the registry run, does it serve what stands here, and is it where its admins are told it is?

use std::net::SocketAddr;

use checks::reach::{self, Listening};
use checks::{Found, Limit, Looked, failed, ok, warning};
use proto::registration::Address;
use proto::wire::registry::WatchRequest;
use registry_client::{Fingerprint, GlobalConfigurationClient, MAX_ANSWER_BYTES, NoConnection};
use tonic::transport::Channel;

use super::keys::Keys;
use super::{ANSWER, File, Part, Sheet};
use crate::command::AdminFile;
use crate::publish::Publication;

/// Whether the registry runs.
pub(super) enum State {
    /// It does, and answers.
    Running(Channel),
    /// It does not.
    Stopped,
}

/// Whether it runs, and what it gives whoever watches.
pub(super) async fn serves(
    sheet: &Sheet,
    file: &Found<File>,
    keys: &Keys,
    published: &Found<Publication>,
) -> Found<State> {
    let listens = file.get().ok().map(|file| file.configuration.listen);
    let at = listens.map(|listens| listens.to_string()).unwrap_or_default();
    let line = sheet.line(Part::Door, "registry", &at);
    let hangs = Limit::new(2 * ANSWER, "look whether this machine is overloaded: uptime");
    let looked = async {
        let (file, fingerprint) = (file.get()?, keys.fingerprint.get()?);
        let (listens, at) = (file.configuration.listen, file.at("listen"));
        match reach::listening(listens).await {
            Listening::Nobody => {
                let free = reach::free(listens, &at).await?;
                Ok(warning(State::Stopped, format!("it does not run: {}", free.finding()), file.start()))
            }
            Listening::Somebody => match connect(reach::from_here(listens), *fingerprint).await {
                Err(Silent) => Err(reach::taken(listens, &at, "it does not answer: if it is the registry, it hangs")),
                Ok(Ok(channel)) => Ok(ok(State::Running(channel), "it runs, and answers with its own key")),
                Ok(Err(NoConnection::OtherRegistry { found, .. })) => {
                    Err(reach::taken(listens, &at, &format!("it answers with the key {found}")))
                }
                Ok(Err(NoConnection::Unreachable { reason, .. })) => {
                    Err(reach::taken(listens, &at, &format!("it is no registry: {reason}")))
                }
            },
        }
    };
    let state = line.looks(hangs, looked).await;

    let line = sheet.line(Part::Door, "what it gives", "");
    let older =
        Limit::new(ANSWER, "it runs on another directory, or on an older copy: systemctl restart central-registry");
    let looked = async {
        let (state, published) = (state.get()?, published.get()?);
        let State::Running(channel) = state else { return Err(checks::not_checked("the registry does not run")) };
        watched(channel.clone(), published).await
    };
    line.looks(older, looked).await;
    state
}

/// Nobody answered in time.
struct Silent;

async fn connect(address: SocketAddr, pinned: Fingerprint) -> Result<Result<Channel, NoConnection>, Silent> {
    let address: Address = address.to_string().parse().expect("an address and a port");
    tokio::time::timeout(ANSWER, registry_client::connect(&address, pinned)).await.map_err(|_| Silent)
}

async fn watched(channel: Channel, published: &Publication) -> Looked<()> {
    let broke = |status: tonic::Status| {
        failed(
            format!("a watch broke off: {}", status.message()),
            "look into its diagnostics; systemctl restart central-registry",
        )
    };
    let mut client = GlobalConfigurationClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    // From the version before, it says something at once.
    let request = WatchRequest { version: published.version().saturating_sub(1), logged: published.version() };
    let mut versions = client.watch(request).await.map_err(broke)?.into_inner();
    let version = versions.message().await.map_err(broke)?;
    match version {
        // One may have been signed meanwhile.
        Some(version) => Ok(ok((), format!("version {}; {} stands on disk", version.version, published.version()))),
        None => Err(broke(tonic::Status::unavailable("it said nothing"))),
    }
}

/// Whether each admin's file that is still here leads to this registry.
pub(super) fn admins(sheet: &Sheet, file: &Found<File>, fingerprint: &Found<Fingerprint>) {
    let directory = file.get().map(File::directory).unwrap_or_default();
    let is_admins = |name: &str| name.starts_with("admin-") && name.ends_with(".toml");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_admins))
        .collect();
    files.sort();
    let line = sheet.line(Part::Door, "admins' files", directory.display().to_string());
    let looked = || {
        let fingerprint = fingerprint.get()?;
        if files.is_empty() {
            return Ok(ok((), "not here: they are with their admins"));
        }
        for path in &files {
            let shown = path.display();
            let admin = AdminFile::read(path).map_err(|error| failed(error.to_string(), format!("correct {shown}")))?;
            if admin.fingerprint != *fingerprint {
                let finding = format!("{shown} pins {}, and the registry's key is {fingerprint}", admin.fingerprint);
                return Err(failed(finding, format!("correct {shown}: fingerprint")));
            }
        }
        let finding = format!("{} here: whoever takes one, and its key's passphrase, commands", files.len());
        Ok(warning((), finding, "move each file and its key to its admin's machine"))
    };
    line.says(looked());
}
