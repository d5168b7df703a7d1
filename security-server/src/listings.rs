//! Services in the catalogue: ours are published with our member's key, and everybody's are found, fetched and believed only
//! as far as the configuration pins them and their members signed them. No exchange waits for any of it.

pub(crate) mod content;
pub mod elements;

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalogue::openapi::About;
use catalogue::routes::routes_of;
use catalogue::subjects::ServiceFacts;
use catalogue::{Described, OpenApi, Said, Undescribed, Undocumented, reduced};
use command_line::did_you_mean;
use prost_reflect::MethodDescriptor;
use proto::catalogue::{
    Audience, ElementField, ElementName, Entry, Method, NotListed, ReceivedEntry, ServiceForm, ServiceName,
    VerifiedEntry, Version, verify_listed,
};
use proto::digest::Digest;
use proto::global_configuration::Configuration;
use proto::global_configuration::listed::ListedService;
use proto::identifier::{MemberId, MethodPath, SubsystemId};
use proto::registration::Text;
use proto::rest::Operations;
use proto::wire::registry as wire;
use registry_client::{CatalogueClient, NoConnection};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;

use content::{Routes, fetched};

use crate::SecurityServer;
use crate::audit::{Actor, Noted};
use crate::global_configuration::Registry;
use crate::keys::ring::HeldKey;
use crate::renewal::{ASK_TIMEOUT, Renewal};
use crate::subjects::Subjects;

/// Longest answer of the registry about the catalogue.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// What an operator wants to be listed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The subsystem of ours that offers it.
    pub subsystem: SubsystemId,
    /// What describes them.
    #[serde(default)]
    pub form: ServiceForm,
    /// A descriptor set with all its imports, or an OpenAPI document as JSON, base64.
    pub descriptors: String,
    /// The services of it.
    pub services: Vec<ServiceName>,
    /// Their version; none: the first, or the one after what is listed.
    #[serde(default)]
    pub version: Option<Version>,
    /// Their name for people; none: as they are called.
    #[serde(default)]
    pub title: Option<Text>,
    /// Whom people ask.
    pub contact: Text,
    /// Who may ask for them; none: every member.
    #[serde(default)]
    pub open_to: BTreeSet<Audience>,
    /// What to use instead, where they are deprecated.
    #[serde(default)]
    pub deprecated: Option<Text>,
}

/// What was listed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    /// Each service with its version.
    pub services: Vec<ServiceLine>,
    /// The version of the configuration that says so.
    pub configuration_version: u64,
    /// What their publisher is to know: what people are asked again, and why.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// A service in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceLine {
    /// The subsystem that offers it.
    pub subsystem: SubsystemId,
    /// Its full name.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// Its name for people, where the entry was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to use instead, where it is deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
}

/// Services, as a search or the configuration gives them.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServiceLines {
    /// Them.
    pub services: Vec<ServiceLine>,
    /// There are others.
    pub more: bool,
}

/// All that an entry says.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServiceShown {
    /// Where, what, in which version.
    #[serde(flatten)]
    pub line: ServiceLine,
    /// What it is.
    pub description: String,
    /// Whom people ask.
    pub contact: String,
    /// Who may ask for it; none: every member.
    pub open_to: BTreeSet<Audience>,
    /// What describes it.
    #[serde(default)]
    pub form: ServiceForm,
    /// Its methods, or the operations of a REST service.
    pub methods: Vec<Method>,
    /// The fields of its requests and responses that carry a data element.
    #[serde(default)]
    pub elements: Vec<ElementField>,
    /// SHA-256 of its descriptor set or OpenAPI document.
    pub descriptors: String,
    /// SHA-256 of the signed entry.
    pub entry: String,
    /// Who signed it, by the key's SHA-256.
    pub signed_with: String,
    /// When, RFC 3339.
    pub signed_at: String,
}

/// A service's descriptors, for people and for compilers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    /// Its files as .proto text, its own first.
    pub files: Vec<SourceFile>,
    /// The descriptor set, base64.
    pub descriptors: String,
}

/// A .proto file.
#[derive(Debug, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name, as others import it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why something of the catalogue was not done.
#[derive(Debug, thiserror::Error)]
pub enum Unlisted {
    /// This server follows no registry.
    #[error(
        "this server follows no registry that keeps a catalogue; start it with a configuration file that names one"
    )]
    NoRegistry,
    /// The registry cannot be reached.
    #[error(transparent)]
    Connection(#[from] NoConnection),
    /// The registry refused.
    #[error("the registry refused: {}", .0.message())]
    Refused(Box<tonic::Status>),
    /// The registry says nothing.
    #[error("the registry does not answer within {ASK_TIMEOUT:?}; its admin is to run `central-registry doctor`")]
    Silent,
    /// What was asked for of the catalogue was not given by anybody.
    #[error(transparent)]
    NotFetched(Arc<Unlisted>),
    /// All who could be asked failed a moment ago.
    #[error(
        "neither the registry nor a mirror answered a moment ago; it is asked for again in some seconds. Their operators are to look at them"
    )]
    AllRest,
    /// It comes slowly.
    #[error("what was asked for of the catalogue has not come yet, and is still fetched; ask again")]
    NotYet,
    /// Too many wait for the catalogue.
    #[error("too many calls wait for the catalogue; ask again when the registry or a mirror answers")]
    Crowded,
    /// Descriptors that are none, or hostile.
    #[error(transparent)]
    Descriptors(#[from] Undescribed),
    /// An OpenAPI document that is none, or hostile.
    #[error(transparent)]
    OpenApi(#[from] Undocumented),
    /// What only a gRPC service has.
    #[error(
        "{0} is a REST service, and has no .proto files: `security-server services openapi {0}` writes its document"
    )]
    Rest(ServiceName),
    /// They are not base64.
    #[error("`descriptors` is no base64; let `security-server services publish` send it")]
    NotBase64,
    /// Nothing is named.
    #[error("no service is named; name at least one with --service")]
    NoServices,
    /// Another member's subsystem.
    #[error("{subsystem} belongs to {}, and this server signs for {member}; publish it at a server of its own member", .subsystem.member())]
    Foreign {
        /// The subsystem.
        subsystem: SubsystemId,
        /// For whom this server signs.
        member: MemberId,
    },
    /// Nobody lists it.
    #[error("nobody lists {service}; {remedy}")]
    Unknown {
        /// As asked.
        service: String,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// Nobody carries it.
    #[error("no service carries {element}; {remedy}")]
    UnknownElement {
        /// As asked.
        element: ElementName,
        /// One that is near, or where to look.
        remedy: String,
    },
    /// Several do.
    #[error("{service} is offered by {}; say which with --subsystem", .subsystems.join(" and "))]
    Several {
        /// The service.
        service: String,
        /// By whom.
        subsystems: Vec<String>,
    },
    /// What the registry gave is not what the configuration pins.
    #[error(transparent)]
    NotListed(#[from] NotListed),
    /// Nor has it the name that was asked for.
    #[error("the registry gave other bytes than those of {0}; tell its admins")]
    OtherContent(Digest),
    /// No key that is still good can sign.
    #[error("no signing key of this server is good any more; `security-server keys list` shows them")]
    NoGoodKey,
    /// What was to be done could not be noted.
    #[error("the audit log has ended ({0}): nothing was published; check the disk and restart the server")]
    NotNoted(#[from] journal::Ended),
}

impl From<tonic::Status> for Unlisted {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// What would be listed, ready to be signed.
struct Prepared {
    entries: Vec<Entry>,
    descriptors: Vec<u8>,
    key: Arc<HeldKey>,
}

/// What describes the services, read.
struct Words {
    /// As it is kept.
    kept: Vec<u8>,
    /// What it says of each of them.
    said: Vec<Said>,
    /// What it calls them all.
    title: Option<Text>,
}

impl Announcement {
    /// Reads the descriptors here, so that what is wrong with them is told by the one whose they are.
    fn prepared(&self, server: &SecurityServer, renewal: &Renewal, dry_run: bool) -> Result<Prepared, Unlisted> {
        let configuration = server.configuration.load();
        if self.subsystem.member() != server.id.owner() {
            return Err(Unlisted::Foreign { subsystem: self.subsystem.clone(), member: server.id.owner() });
        }
        if self.services.is_empty() {
            return Err(Unlisted::NoServices);
        }
        let key = renewal.good_signing_key(&configuration, server.clock.now()).ok_or(Unlisted::NoGoodKey)?;
        let given = STANDARD.decode(&self.descriptors).map_err(|_| Unlisted::NotBase64)?;
        let Words { kept: descriptors, said, title } = self.described(&given)?;
        let entry = |(service, said): (&ServiceName, Said)| -> Result<Entry, Unlisted> {
            let Said { description, methods, elements } = said;
            let listed = configuration.service_at(&self.subsystem, service);
            let called = service.as_str().rsplit('.').next().unwrap_or(service.as_str());
            let called = || title.clone().map_or_else(|| called.parse::<Text>().map_err(NotListed::from), Ok);
            Ok(Entry {
                subsystem: self.subsystem.clone(),
                service: service.clone(),
                version: self.version.unwrap_or(listed.map_or(Version::FIRST, |listed| listed.version.next())),
                server: server.id.clone(),
                time: server.clock.now(),
                form: self.form,
                descriptors: Digest::of(&[&descriptors]),
                title: self.title.clone().map_or_else(called, Ok)?,
                description,
                contact: self.contact.clone(),
                open_to: self.open_to.clone(),
                deprecated: self.deprecated.clone(),
                methods,
                elements,
                dry_run,
            })
        };
        let entries = self.services.iter().zip(said).map(entry).collect::<Result<_, _>>()?;
        Ok(Prepared { entries, descriptors, key })
    }

    fn described(&self, given: &[u8]) -> Result<Words, Unlisted> {
        match self.form {
            ServiceForm::Grpc => {
                let names: Vec<String> = self.services.iter().map(ServiceName::to_string).collect();
                let descriptors = reduced(given, &names)?;
                let described = Described::read(&descriptors)?;
                described.routable(names.iter().map(String::as_str))?;
                let said = names.iter().map(|name| described.said_of(name)).collect::<Result<_, _>>()?;
                Ok(Words { kept: descriptors, said, title: None })
            }
            ServiceForm::Rest => {
                let document = catalogue::rest::published(given)?;
                let openapi = OpenApi::read(&document)?;
                let said = vec![openapi.said().clone(); self.services.len()];
                Ok(Words { kept: document, said, title: openapi.title().parse().ok() })
            }
        }
    }
}

impl Prepared {
    /// Signs the entries and sends them. What they say of ours is kept first: the server that lists a service knows at once whom
    /// its requests are about.
    async fn send(&self, subjects: &Subjects, renewal: &Renewal) -> Result<wire::PublishAnswer, Unlisted> {
        let entries: Vec<_> = self.entries.iter().map(|entry| entry.sign(&self.key.key)).collect();
        if self.entries.iter().all(|entry| !entry.dry_run) {
            for (entry, signed) in self.entries.iter().zip(&entries) {
                let facts = match entry.form {
                    ServiceForm::Rest => ServiceFacts::of_rest(entry),
                    ServiceForm::Grpc => {
                        let described = Described::read(&self.descriptors)?;
                        ServiceFacts::of(&described, entry.service.as_str(), entry.title.as_str())?
                    }
                };
                subjects.foresee(Digest::of(&[&prost::Message::encode_to_vec(signed)]), facts);
            }
        }
        let request = wire::PublishRequest { entries, descriptors: self.descriptors.clone().into() };
        Ok(answered(client(renewal).await?.publish(request)).await?.into_inner())
    }

    fn lines(&self) -> Vec<ServiceLine> {
        self.entries.iter().map(line).collect()
    }
}

fn line(entry: &Entry) -> ServiceLine {
    ServiceLine {
        subsystem: entry.subsystem.clone(),
        service: entry.service.clone(),
        version: entry.version,
        title: Some(entry.title.to_string()),
        deprecated: entry.deprecated.as_ref().map(Text::to_string),
    }
}

async fn client(renewal: &Renewal) -> Result<CatalogueClient<Channel>, Unlisted> {
    client_of(renewal.registry()).await
}

async fn client_of(registry: &Registry) -> Result<CatalogueClient<Channel>, Unlisted> {
    let channel = registry_client::connect(&registry.address, registry.key).await?;
    Ok(CatalogueClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
}

async fn answered<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<tonic::Response<T>, Unlisted> {
    Ok(tokio::time::timeout(ASK_TIMEOUT, asked).await.map_err(|_| Unlisted::Silent)??)
}

fn renewal(server: &SecurityServer) -> Result<&Renewal, Unlisted> {
    server.renewal.as_ref().ok_or(Unlisted::NoRegistry)
}

/// Lists services of ours: noted, signed, sent, answered when the registry has published them.
pub async fn publish(server: &SecurityServer, announced: Announcement, by: Actor) -> Result<Published, Unlisted> {
    let renewal = renewal(server)?;
    let prepared = announced.prepared(server, renewal, false)?;
    let services = prepared.entries.iter().map(|entry| format!("{} {}", entry.service, entry.version)).collect();
    let (at, subsystem) = (server.clock.now().as_millis(), announced.subsystem.to_string());
    server.audit.note(&Noted::Publishing { at, by, subsystem, services }).await?;
    let wire::PublishAnswer { version, remarks } = prepared.send(&server.subjects, renewal).await?;
    Ok(Published { services: prepared.lines(), configuration_version: version, remarks })
}

/// Whether it would be listed, by the very rules of the registry, and nothing else.
pub async fn foresee(server: &SecurityServer, announced: Announcement) -> Result<Vec<String>, Unlisted> {
    let renewal = renewal(server)?;
    let prepared = announced.prepared(server, renewal, true)?;
    let remarks = prepared.send(&server.subjects, renewal).await?.remarks;
    let told = prepared.entries.iter().map(|entry| {
        let methods = entry.methods.len();
        let word = if entry.form == ServiceForm::Rest { "operations" } else { "methods" };
        let open_to = entry.open_to.iter().map(Audience::to_string).collect::<Vec<_>>().join(", ");
        let open_to = if open_to.is_empty() { "every member".to_owned() } else { open_to };
        let (service, version, subsystem) = (&entry.service, entry.version, &entry.subsystem);
        format!("list {service} {version} of {subsystem}, {methods} {word}, open to {open_to}")
    });
    Ok(told.chain(remarks).collect())
}

/// What the configuration lists.
pub fn list(configuration: &Configuration) -> ServiceLines {
    let services = configuration.services().map(|listed| ServiceLine {
        subsystem: listed.subsystem.clone(),
        service: listed.service.clone(),
        version: listed.version,
        title: None,
        deprecated: None,
    });
    ServiceLines { services: services.collect(), more: false }
}

/// Entries that have each word of the query. What the registry finds and the configuration does not pin is not told.
pub async fn search(server: &SecurityServer, query: &str) -> Result<ServiceLines, Unlisted> {
    let request = wire::FindRequest { query: query.to_owned(), element: String::new() };
    let (found, more) = pinned(server, request).await?;
    Ok(ServiceLines { services: found.iter().map(|entry| line(entry.entry())).collect(), more })
}

/// What the registry finds, as far as the configuration pins it and its members signed it; and whether there is more.
async fn pinned(server: &SecurityServer, request: wire::FindRequest) -> Result<(Vec<VerifiedEntry>, bool), Unlisted> {
    let found = answered(client(renewal(server)?).await?.find(request)).await?.into_inner();
    let configuration = server.configuration.load();
    let verified = |signed: wire::SignedEntry| {
        let bytes = prost::Message::encode_to_vec(&signed);
        let said = ReceivedEntry::parse(signed).ok()?.entry().clone();
        let listed = configuration.service_at(&said.subsystem, &said.service)?;
        verify_listed(&configuration, listed, &bytes).ok()
    };
    Ok((found.entries.into_iter().filter_map(verified).collect(), found.more))
}

/// Whether this member may ask for it, or it is its own. What is closed to it is to nobody's eye different from what is not
/// there.
pub(crate) fn is_seen(listed: &ListedService, member: &MemberId) -> bool {
    listed.is_open_to(member) || listed.subsystem.member() == *member
}

/// What this member sees: of this provider, or of everybody. Looks through all that is listed: not for every call.
pub(crate) fn seen<'a>(
    configuration: &'a Configuration,
    member: &'a MemberId,
    provider: Option<&'a SubsystemId>,
) -> impl Iterator<Item = &'a ListedService> {
    let meant = move |listed: &&ListedService| provider.is_none_or(|provider| listed.subsystem == *provider);
    configuration.services().filter(meant).filter(|listed| is_seen(listed, member))
}

/// The entry of a service, fetched and verified.
pub async fn entry(
    server: &SecurityServer,
    service: &str,
    subsystem: Option<&SubsystemId>,
) -> Result<VerifiedEntry, Unlisted> {
    let configuration = server.configuration.load();
    verified(server, &configuration, chosen(&configuration, service, subsystem)?).await
}

/// The entry that is listed.
pub(crate) async fn verified(
    server: &SecurityServer,
    configuration: &Configuration,
    listed: &ListedService,
) -> Result<VerifiedEntry, Unlisted> {
    let bytes = fetched(server, listed.entry).await?;
    Ok(verify_listed(configuration, listed, &bytes)?)
}

/// The operations of a REST service; none of a gRPC service. Kept: for whoever needs them with each call.
pub(crate) async fn operations(
    server: &SecurityServer,
    configuration: &Configuration,
    listed: &ListedService,
) -> Result<Option<Arc<Operations>>, Unlisted> {
    if let Some(kept) = server.content.operations(&listed.entry) {
        return Ok(kept);
    }
    let entry = verified(server, configuration, listed).await?;
    let operations = match entry.entry().form {
        ServiceForm::Grpc => None,
        // They were read when the entry was.
        ServiceForm::Rest => Some(Arc::new(entry.entry().operations().unwrap_or_default())),
    };
    server.content.keep_operations(listed.entry, &operations);
    Ok(operations)
}

/// What describes a service, as its member signed for it.
pub(crate) async fn document(server: &SecurityServer, entry: &VerifiedEntry) -> Result<Bytes, Unlisted> {
    fetched(server, entry.entry().descriptors).await
}

/// All that an entry says.
pub fn shown(entry: &VerifiedEntry) -> ServiceShown {
    let (said, received) = (entry.entry(), entry.received());
    ServiceShown {
        line: line(said),
        description: said.description.clone(),
        contact: said.contact.to_string(),
        open_to: said.open_to.clone(),
        form: said.form,
        methods: said.methods.clone(),
        elements: said.elements.clone(),
        descriptors: said.descriptors.to_string(),
        entry: Digest::of(&[&received.to_bytes()]).to_string(),
        signed_with: received.key().to_string(),
        signed_at: said.time.to_string(),
    }
}

/// The descriptors of a gRPC service, fetched and verified.
pub async fn descriptors(server: &SecurityServer, entry: &VerifiedEntry) -> Result<(Bytes, Described), Unlisted> {
    let said = entry.entry();
    if said.form == ServiceForm::Rest {
        return Err(Unlisted::Rest(said.service.clone()));
    }
    let bytes = fetched(server, said.descriptors).await?;
    let described = Described::read(&bytes)?;
    Ok((bytes, described))
}

/// The same, read once for as long as it is kept: for whoever needs it with each call.
pub(crate) async fn described(server: &SecurityServer, entry: &VerifiedEntry) -> Result<Described, Unlisted> {
    let digest = entry.entry().descriptors;
    if entry.entry().form == ServiceForm::Grpc
        && let Some(described) = server.content.read(&digest)
    {
        return Ok(described);
    }
    let (bytes, described) = descriptors(server, entry).await?;
    server.content.keep_read(digest, bytes.len(), &described);
    Ok(described)
}

/// What whoever tells people of its calls is to know of a service.
pub(crate) async fn facts(server: &SecurityServer, entry: &VerifiedEntry) -> Result<ServiceFacts, Unlisted> {
    let said = entry.entry();
    match said.form {
        ServiceForm::Rest => Ok(ServiceFacts::of_rest(said)),
        ServiceForm::Grpc => {
            let described = described(server, entry).await?;
            Ok(ServiceFacts::of(&described, said.service.as_str(), said.title.as_str())?)
        }
    }
}

/// Where a REST service is called at a door for clients (PROTOCOL.md 22).
pub(crate) fn rest_path(entry: &Entry) -> String {
    format!("/r1/{}/{}", entry.subsystem, entry.service)
}

/// The same as an OpenAPI document, of a door at this address if one is named: its text. Made aside, however long it is. Of a REST
/// service it is the document that was published, called at that door.
pub async fn openapi(
    server: &SecurityServer,
    entry: &VerifiedEntry,
    door: Option<String>,
) -> Result<Vec<u8>, Unlisted> {
    let said = entry.entry();
    if said.form == ServiceForm::Rest {
        let bytes = fetched(server, said.descriptors).await?;
        let url = format!("{}{}", door.unwrap_or_default(), rest_path(said));
        let written = move || Ok::<_, Undocumented>(OpenApi::read(&bytes)?.served_at(&url).to_string().into_bytes());
        let written = tokio::task::spawn_blocking(written).await;
        return Ok(written.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
    }
    let described = described(server, entry).await?;
    let service = described.service(said.service.as_str())?;
    let about = About {
        title: said.title.to_string(),
        version: said.version.to_string(),
        description: said.description.clone(),
        contact: said.contact.to_string(),
        provider: said.subsystem.to_string(),
        deprecated: said.deprecated.as_ref().map(Text::to_string),
        door,
    };
    let written = move || catalogue::openapi::document(&service, &about).to_string().into_bytes();
    let written = tokio::task::spawn_blocking(written).await;
    Ok(written.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
}

/// The same as .proto text.
pub async fn source(server: &SecurityServer, entry: &VerifiedEntry) -> Result<Source, Unlisted> {
    let (bytes, described) = descriptors(server, entry).await?;
    let files = catalogue::source::files(&described, &described.service(entry.entry().service.as_str())?);
    let files = files.into_iter().map(|(name, text)| SourceFile { name, text }).collect();
    Ok(Source { files, descriptors: STANDARD.encode(bytes) })
}

/// The routes of a service, with their methods. Read once for as long as they are kept.
pub(crate) async fn routes(
    server: &SecurityServer,
    configuration: &Configuration,
    listed: &ListedService,
) -> Result<Routes, Unlisted> {
    if listed.form == ServiceForm::Rest {
        // It is called by its own paths, and at its own place of the door.
        return Ok(Routes::default());
    }
    if let Some(routes) = server.content.routes(&listed.entry) {
        return Ok(routes);
    }
    let entry = verified(server, configuration, listed).await?;
    let service = described(server, &entry).await?.service(listed.service.as_str())?;
    let of_method = |method: MethodDescriptor| {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = path.parse::<MethodPath>().ok();
        routes_of(&method).into_iter().filter_map(move |route| Some((path.clone()?, route))).collect::<Vec<_>>()
    };
    let routes: Routes = service.methods().flat_map(of_method).collect();
    server.content.keep_routes(listed.entry, &routes);
    Ok(routes)
}

fn chosen<'a>(
    configuration: &'a Configuration,
    service: &str,
    subsystem: Option<&SubsystemId>,
) -> Result<&'a ListedService, Unlisted> {
    let of_it = |listed: &&ListedService| subsystem.is_none_or(|subsystem| listed.subsystem == *subsystem);
    let offered: Vec<_> =
        configuration.services().filter(|listed| listed.service.as_str() == service).filter(of_it).collect();
    match offered[..] {
        [one] => Ok(one),
        [] => {
            let known = configuration.services().filter(of_it).map(|listed| listed.service.as_str());
            let remedy = did_you_mean(service, known, "`security-server services list` shows those that there are");
            Err(Unlisted::Unknown { service: service.to_owned(), remedy })
        }
        _ => {
            let subsystems = offered.iter().map(|listed| listed.subsystem.to_string()).collect();
            Err(Unlisted::Several { service: service.to_owned(), subsystems })
        }
    }
}
