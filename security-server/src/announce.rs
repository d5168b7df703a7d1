//! Where the descriptors of a service come from: its .proto files, compiled here, or the service itself, by gRPC reflection.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalogue::described::MAX_FILES;
use catalogue::rest::{MAX_GIVEN_BYTES, OneReading};
use catalogue::{Described, OPTIONS_FILE, OPTIONS_SOURCE, OpenApi, Undescribed, Undocumented};
use command_line::file_remedy;
use prost::Message;
use prost::bytes::{Bytes, BytesMut};
use proto::catalogue::MAX_DESCRIPTORS_BYTES;
use proto::registration::Address;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// How long a service may take to describe itself.
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Most letters of what is wrong with a file.
const MAX_REASON: usize = 300;

/// A descriptor set, and the services that it is about.
pub struct Announced {
    /// With all imports.
    pub descriptors: Vec<u8>,
    /// The services of the files that were named, and not those of imports.
    pub services: Vec<String>,
}

/// Why there is no descriptor set.
#[derive(Debug, thiserror::Error)]
pub enum NotAnnounced {
    /// The files do not compile.
    #[error(
        "the .proto files do not compile: {0}; mend them, or name the directory of what they import with --include"
    )]
    Compile(String),
    /// A file that is below none of the directories.
    #[error("{} is below none of the directories of --include; name the one that it belongs to", .0.display())]
    Elsewhere(PathBuf),
    /// No file to read.
    #[error("{}: {source}; {}", .path.display(), file_remedy(.source, "name the OpenAPI document's file"))]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Neither JSON nor YAML.
    #[error("{} is neither JSON nor YAML: {reason}; mend it", .path.display())]
    NotYaml {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An OpenAPI document that is not taken.
    #[error(transparent)]
    OpenApi(#[from] Undocumented),
    /// What they say is not taken.
    #[error(transparent)]
    Descriptors(#[from] Undescribed),
    /// The service does not describe itself.
    #[error(
        "the service at {address} does not describe itself: {reason}; start it with gRPC reflection v1, or give its .proto files"
    )]
    Reflection {
        /// Where.
        address: Address,
        /// Why.
        reason: String,
    },
}

/// Compiles .proto files. What they import is looked for below `include`; none: where the files are.
pub fn compiled(files: &[PathBuf], include: &[PathBuf]) -> Result<Announced, NotAnnounced> {
    let beside = || files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect::<BTreeSet<_>>();
    let include: Vec<PathBuf> = if include.is_empty() { beside().into_iter().collect() } else { include.to_vec() };
    let failed = |error: protox::Error| {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        NotAnnounced::Compile(format!("{error}{cause}"))
    };
    // The options first: a copy that somebody has among the files is of some other version.
    let mut resolver = with_options();
    include.iter().for_each(|directory| resolver.add(IncludeFileResolver::new(directory.clone())));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    let mut named = BTreeSet::new();
    for file in files {
        let relative = include.iter().find_map(|directory| file.strip_prefix(directory).ok());
        let relative = relative.filter(|_| file.exists()).ok_or_else(|| NotAnnounced::Elsewhere(file.clone()))?;
        compiler.open_file(relative).map_err(failed)?;
        named.insert(relative.to_string_lossy().replace('\\', "/"));
    }
    let descriptors = compiler.encode_file_descriptor_set();
    let services = Described::read(&descriptors)?.services_of(&named);
    Ok(Announced { descriptors, services })
}

/// Reads the OpenAPI document of a REST service, JSON or YAML, and gives it as it is published.
pub fn documented(path: &Path) -> Result<Vec<u8>, NotAnnounced> {
    let given = std::fs::read(path).map_err(|source| NotAnnounced::File { path: path.to_owned(), source })?;
    let is_json = given.trim_ascii_start().first() == Some(&b'{');
    let document = catalogue::rest::published(&if is_json { given } else { converted(path, &given)? })?;
    OpenApi::read(&document)?;
    Ok(document)
}

/// YAML 1.2 as JSON. What aliases grow to is bounded by the reader: 250,000 values.
fn converted(path: &Path, given: &[u8]) -> Result<Vec<u8>, NotAnnounced> {
    if given.len() > MAX_GIVEN_BYTES {
        return Err(Undocumented::Limit { what: "bytes", found: given.len(), most: MAX_GIVEN_BYTES }.into());
    }
    let not_yaml = |reason: String| {
        let reason = reason.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let reason = reason.chars().take(MAX_REASON).collect();
        NotAnnounced::NotYaml { path: path.to_owned(), reason }
    };
    let text = std::str::from_utf8(given).map_err(|error| not_yaml(error.to_string()))?;
    // `no` is a word, as in YAML 1.2, and not what YAML 1.1 took it for.
    let options = serde_saphyr::options! { strict_booleans: true };
    let OneReading(value) =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| not_yaml(error.to_string()))?;
    Ok(value.to_string().into_bytes())
}

/// `causeway/options.proto`, which nobody needs to have who imports it.
struct Options;

impl FileResolver for Options {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == OPTIONS_FILE {
            File::from_source(name, OPTIONS_SOURCE)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

fn with_options() -> ChainFileResolver {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Options);
    resolver
}

/// The files that a service which imports the options need not have: theirs, and what they import.
fn brought() -> Result<BTreeMap<String, Bytes>, protox::Error> {
    let mut resolver = with_options();
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(OPTIONS_FILE)?;
    let files = compiler.file_descriptor_set().file;
    Ok(files.into_iter().map(|file| (file.name().to_owned(), file.encode_to_vec().into())).collect())
}

/// Asks a service, over plain HTTP/2, what it is.
pub async fn reflected(address: &Address, services: &[String]) -> Result<Announced, NotAnnounced> {
    let failed = |reason: String| NotAnnounced::Reflection { address: address.clone(), reason };
    let asked = tokio::time::timeout(REFLECTION_TIMEOUT, asked(address, services)).await;
    asked.map_err(|_| failed(format!("no answer within {REFLECTION_TIMEOUT:?}")))?.map_err(failed)
}

async fn asked(address: &Address, services: &[String]) -> Result<Announced, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let mut client = ServerReflectionClient::new(channel).max_decoding_message_size(2 * MAX_DESCRIPTORS_BYTES);
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    // The first question is there before the call: some services answer nothing, not even their headers, before it.
    let question = |what| ServerReflectionRequest { host: String::new(), message_request: Some(what) };
    ask.send(question(MessageRequest::ListServices(String::new()))).await.map_err(|error| error.to_string())?;
    let answers = client.server_reflection_info(ReceiverStream::new(asked)).await;
    let mut answers = answers.map_err(|status| status.message().to_owned())?.into_inner();
    let mut next = async |what: Option<MessageRequest>| {
        if let Some(what) = what {
            ask.send(question(what)).await.map_err(|error| error.to_string())?;
        }
        let answer = answers.message().await.map_err(|status| status.message().to_owned())?;
        answer.and_then(|answer| answer.message_response).ok_or_else(|| "it ended the conversation".to_owned())
    };
    let MessageResponse::ListServicesResponse(listed) = next(None).await? else {
        return Err("it does not list its services".to_owned());
    };
    let own = |name: &String| !name.starts_with("grpc.reflection.") && !name.starts_with("grpc.health.");
    let services = match services {
        [] => listed.service.into_iter().map(|service| service.name).filter(own).collect(),
        named => named.to_vec(),
    };
    let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut wanted: Vec<MessageRequest> = services.iter().cloned().map(MessageRequest::FileContainingSymbol).collect();
    while let Some(what) = wanted.pop() {
        let given = match next(Some(what)).await? {
            MessageResponse::FileDescriptorResponse(given) => given.file_descriptor_proto,
            MessageResponse::ErrorResponse(error) => return Err(error.error_message),
            _ => return Err("it answers another question".to_owned()),
        };
        for bytes in given {
            let file = prost_types::FileDescriptorProto::decode(&bytes[..]).map_err(|error| error.to_string())?;
            if file.name() != OPTIONS_FILE {
                files.insert(file.name().to_owned(), bytes.into());
            }
            if file.dependency.iter().any(|import| import == OPTIONS_FILE) {
                files.extend(brought().map_err(|error| error.to_string())?);
            }
            let missing = file.dependency.into_iter().filter(|import| !files.contains_key(import));
            wanted.extend(missing.map(MessageRequest::FileByFilename));
        }
        if files.len() > MAX_FILES || files.values().map(Bytes::len).sum::<usize>() > MAX_DESCRIPTORS_BYTES {
            return Err(format!("it has more than {MAX_FILES} files, or {MAX_DESCRIPTORS_BYTES} bytes of them"));
        }
        wanted.retain(|what| !matches!(what, MessageRequest::FileByFilename(name) if files.contains_key(name)));
    }
    // Field 1 of a FileDescriptorSet, as often as there are files: their options stay as they came.
    let mut descriptors = BytesMut::new();
    for file in files.values() {
        prost::encoding::bytes::encode(1, file, &mut descriptors);
    }
    Ok(Announced { descriptors: descriptors.to_vec(), services })
}
