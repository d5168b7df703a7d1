//! The registry: its name, whether it answers with the key that was pinned, and what it gives whoever watches it.

use std::io;

use checks::{Found, Limit, failed, failed_by, ok, reach};
use proto::global_configuration::update::Files;
use proto::wire::registry::WatchRequest;
use registry_client::{GlobalConfigurationClient, MAX_ANSWER_BYTES, NoConnection};

use super::clock::Offset;
use super::{ANSWER, Here, Part, REGISTRY, Sheet};

/// What the registry gave.
pub(super) struct Told {
    /// The newest version that it has.
    pub version: u64,
    /// What that version changed of the one stored here.
    pub files: Files,
    /// This machine's clock against the registry's.
    pub offset: Option<Offset>,
}

/// Asks the registry as a server that follows it does.
pub(super) async fn ask(sheet: &Sheet, here: &Here) -> Found<Told> {
    let Here { clock, file, stored, .. } = here;
    let (address, at) = file.get().map_or_else(
        |_| Default::default(),
        |file| (file.configuration.registry.0.to_string(), file.at(&["registry", "address"])),
    );
    let [name, registry, answer] =
        ["registry's name", "registry", "registry's answer"].map(|name| sheet.line(Part::Registry, name, &address));
    let theirs = "ask the registry's admin whether it runs (there: central-registry doctor)";
    let name = name.says(match file.get() {
        Ok(_) => reach::name(&address, &at).await,
        Err(wrong) => Err(wrong),
    });
    let slow = Limit::new(REGISTRY, format!("{theirs}; look for a firewall between; or correct {at}: address"));
    let connected = async {
        name.get()?;
        let file = file.get()?;
        let (to, pinned) = &file.configuration.registry;
        match registry_client::connect(to, *pinned).await {
            Ok(channel) => Ok(ok(channel, "it answers with the key that is pinned")),
            Err(error @ NoConnection::OtherRegistry { .. }) => {
                let at = file.at(&["registry", "fingerprint"]);
                let remedy = format!("ask the registry's admin, over a way that you trust, for its fingerprint: {at}");
                Err(failed_by(error, remedy))
            }
            Err(NoConnection::Unreachable { reason, .. }) => {
                let remedy = format!(
                    "{theirs}; look for a firewall between: nc -vz {}; or correct {at}: address",
                    reach::apart(&address)
                );
                Err(failed(format!("it cannot be reached: {reason}"), remedy))
            }
        }
    };
    let channel = registry.looks(slow, connected).await;
    let older = "the registry may have been put back from an older copy, which no server takes: its admin is to run \
                 `central-registry doctor`";
    let watched = async {
        let (channel, stored) = (channel.get()?.clone(), stored.get()?);
        let mut client = GlobalConfigurationClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let broke = |status: tonic::Status| failed(format!("it broke off: {}", status.message()), theirs);
        let asked = clock.now();
        // From the version before ours it says something at once, also where there is nothing new.
        let request = WatchRequest { version: stored.version().saturating_sub(1), logged: stored.version() };
        let versions = client.watch(request).await.map_err(broke)?;
        let date = versions.metadata().get("date").and_then(|date| date.to_str().ok());
        let offset = date.and_then(|date| Offset::of(date, asked, clock.now()));
        let version = versions.into_inner().message().await.map_err(broke)?;
        let version =
            version.ok_or_else(|| broke(tonic::Status::unavailable(io::ErrorKind::UnexpectedEof.to_string())))?;
        let files: Files = version.files.into_iter().map(|file| (file.name, file.content)).collect();
        let found = format!("version {} is its newest", version.version);
        Ok(ok(Told { version: version.version, files, offset }, found))
    };
    answer.looks(Limit::new(ANSWER, older), watched).await
}
