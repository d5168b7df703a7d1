//! gRPC reflection at the clients' door, v1 and v1alpha: what the catalogue says of every service that the caller's member may
//! ask for. Answered by this server itself, from verified entries: it is no exchange, and reaches no provider.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::Body;
use prost::Message;
use prost_reflect::FileDescriptor;
use proto::catalogue::ServiceForm;
use proto::global_configuration::Configuration;
use proto::global_configuration::listed::ListedService;
use proto::identifier::{MemberId, MethodPath, SubsystemId};
use proto::transport;
use tonic::Code;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};

use super::frames::{Frames, Next, Unread};
use crate::SecurityServer;
use crate::body::{Gone, Outgoing, Sender, outgoing};
use crate::fields;
use crate::listen::Permit;
use crate::listings::{self, Unlisted};

/// Both versions, which differ in nothing but their names.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Longest question.
const MAX_QUESTION_BYTES: usize = 16 * 1024;
/// Most descriptor sets that are looked through for one symbol: those of its package first.
const MAX_LOOKED_THROUGH: usize = 64;

/// Whether this is a question about services, and no call of one.
pub(super) fn is_asked(path: &MethodPath) -> bool {
    PATHS.contains(&path.as_str())
}

/// Who asks about what.
pub(super) struct Conversation {
    /// The caller.
    pub client: SubsystemId,
    /// The one provider that is asked about; none: all.
    pub provider: Option<SubsystemId>,
    /// Its place among what runs.
    pub permit: Permit,
}

impl Conversation {
    /// Answers until the caller has no more questions.
    pub(super) fn answer<B>(self, server: Arc<SecurityServer>, questions: B) -> Response<Outgoing>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (answers, body) = outgoing(None);
        tokio::spawn(async move {
            let _permit = &self.permit;
            // A caller that is gone asks nothing more.
            let _ = self.converse(&server, questions, answers).await;
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(http::header::CONTENT_TYPE, fields::GRPC);
        response
    }

    async fn converse<B>(&self, server: &SecurityServer, questions: B, mut answers: Sender) -> Result<(), Gone>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut questions = Frames::of(questions, MAX_QUESTION_BYTES);
        let status = loop {
            let question = match questions.next().await {
                Ok(Next::Message(question)) => ServerReflectionRequest::decode(question),
                Ok(Next::End(_)) => break Code::Ok,
                Err(Unread::Compressed) => break Code::Unimplemented,
                Err(Unread::TooLong) => break Code::ResourceExhausted,
                Err(Unread::Cut) => break Code::InvalidArgument,
                Err(Unread::BrokenOff) => break Code::Cancelled,
            };
            let Ok(question) = question else { break Code::InvalidArgument };
            let answer = self.answered(server, question).await;
            answers.data(transport::encode_alone(&answer)).await?;
        };
        let mut trailers = HeaderMap::new();
        trailers.insert(fields::GRPC_STATUS, HeaderValue::from(i32::from(status)));
        answers.finish(Some(trailers))
    }

    async fn answered(&self, server: &SecurityServer, question: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &question.message_request {
            Some(asked) => self.found(server, asked).await,
            None => Err((Code::InvalidArgument, "nothing is asked".to_owned())),
        };
        let answer = answer.unwrap_or_else(|(code, error_message)| {
            MessageResponse::ErrorResponse(ErrorResponse { error_code: i32::from(code), error_message })
        });
        ServerReflectionResponse {
            valid_host: question.host.clone(),
            original_request: Some(question),
            message_response: Some(answer),
        }
    }

    async fn found(&self, server: &SecurityServer, asked: &MessageRequest) -> Result<MessageResponse, (Code, String)> {
        // Judged anew for each question: what was closed to the caller meanwhile is not told any more.
        let moment = server.moment();
        let configuration = moment
            .in_force()
            .map_err(|_| (Code::FailedPrecondition, "the global configuration has expired".to_owned()))?;
        let none = |what: &str| (Code::NotFound, format!("{what} is of no service that may be seen here"));
        let described = |found: Result<Option<FileDescriptor>, Unlisted>, what: &str| match found {
            Ok(Some(file)) => Ok(with_imports(&file)),
            Ok(None) => Err(none(what)),
            Err(error) => Err((Code::Unavailable, error.to_string())),
        };
        match asked {
            MessageRequest::ListServices(_) => {
                let member = self.client.member();
                let names: BTreeSet<&str> =
                    self.seen(configuration, &member).map(|listed| listed.service.as_str()).collect();
                let service = names.into_iter().map(|name| ServiceResponse { name: name.to_owned() }).collect();
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
            }
            MessageRequest::FileContainingSymbol(symbol) => {
                let symbol = symbol.trim_start_matches('.');
                let file = self.look(server, configuration, symbol, |set| set.file_of(symbol)).await;
                described(file, symbol)
            }
            MessageRequest::FileByFilename(name) => {
                let file = self.look(server, configuration, "", |set| set.pool().get_file_by_name(name)).await;
                described(file, name)
            }
            MessageRequest::FileContainingExtension(asked) => {
                let extended = asked.containing_type.trim_start_matches('.');
                let number = u32::try_from(asked.extension_number).unwrap_or_default();
                let extension = |set: &catalogue::Described| {
                    Some(set.pool().get_message_by_name(extended)?.get_extension(number)?.parent_file())
                };
                described(self.look(server, configuration, extended, extension).await, extended)
            }
            MessageRequest::AllExtensionNumbersOfType(extended) => {
                let extended = extended.trim_start_matches('.');
                let numbers = |set: &catalogue::Described| {
                    let message = set.pool().get_message_by_name(extended)?;
                    let numbers = message.extensions().filter_map(|each| i32::try_from(each.number()).ok());
                    Some(numbers.collect::<Vec<_>>())
                };
                let found = self.look(server, configuration, extended, numbers).await;
                let found = found.map_err(|error| (Code::Unavailable, error.to_string()))?;
                let extension_number = found.ok_or_else(|| none(extended))?;
                let base_type_name = extended.to_owned();
                Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name,
                    extension_number,
                }))
            }
        }
    }

    fn seen<'a>(
        &'a self,
        configuration: &'a Configuration,
        member: &'a MemberId,
    ) -> impl Iterator<Item = &'a ListedService> {
        // A REST service is described by no descriptors.
        listings::seen(configuration, member, self.provider.as_ref()).filter(|listed| listed.form == ServiceForm::Grpc)
    }

    /// The first thing found in a set that may be seen: those of the symbol's service first, then those of its package.
    async fn look<T>(
        &self,
        server: &SecurityServer,
        configuration: &Configuration,
        symbol: &str,
        find: impl Fn(&catalogue::Described) -> Option<T>,
    ) -> Result<Option<T>, Unlisted> {
        let distance = |listed: &&ListedService| {
            let service = listed.service.as_str();
            let package = service.rsplit_once('.').map_or("", |(package, _)| package);
            let below =
                |name: &str| symbol.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if below(service) { 0 } else { usize::from(package.is_empty() || !below(package)) + 1 }
        };
        let member = self.client.member();
        let mut seen: Vec<_> = self.seen(configuration, &member).collect();
        seen.sort_by_key(distance);
        let mut looked_through = BTreeSet::new();
        for listed in seen {
            let entry = listings::verified(server, configuration, listed).await?;
            if !looked_through.insert(entry.entry().descriptors) {
                continue;
            }
            if looked_through.len() > MAX_LOOKED_THROUGH {
                break;
            }
            let (_, described) = listings::descriptors(server, &entry).await?;
            if let Some(found) = find(&described) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The file and all that it imports: whoever asks each time anew needs no more.
fn with_imports(file: &FileDescriptor) -> MessageResponse {
    let mut files = vec![file.clone()];
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        next += 1;
        let new: Vec<_> = file.dependencies().filter(|import| !files.contains(import)).collect();
        files.extend(new);
    }
    let file_descriptor_proto = files.iter().map(FileDescriptor::encode_to_vec).collect();
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
}
