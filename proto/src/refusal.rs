//! Refusals (PROTOCOL.md, "Refusals"): the closed list of reasons why an exchange does not happen, each mapped to the outside once.
//!
//! Two audiences. The caller learns the code, a title and what to do next, in a language it reads; the operator finds
//! the particulars in the diagnostics of the server that refused. So a text here never holds an address, a name or a
//! value of the exchange, and never says what another member may do.

mod details;

use std::fmt;
use std::str::FromStr;

pub use details::{Any, DOMAIN, Status, said_by, status_details};

/// Most characters of a title or a remedy, in either language.
pub const MAX_TEXT_CHARS: usize = 300;

/// Whose side a refusal lies on: who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The calling system.
    Caller,
    /// The security server of the agency that asks.
    ConsumerServer,
    /// The central registry.
    Registry,
    /// The security server of the agency that is asked, and who grants there.
    ProviderServer,
    /// The service of the agency that is asked.
    Service,
    /// The security server that says it: either can be in such a state.
    Speaker,
    /// Neither server alone.
    Between,
}

impl Side {
    /// As it stands in the details of a refusal.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Caller => "caller",
            Side::ConsumerServer => "consumer-server",
            Side::Registry => "registry",
            Side::ProviderServer => "provider-server",
            Side::Service => "service",
            Side::Speaker => "speaker",
            Side::Between => "between",
        }
    }

    /// As people say it.
    pub fn name(self, language: Language) -> &'static str {
        let (english, vietnamese) = match self {
            Side::Caller => ("the calling system", "hệ thống gọi"),
            Side::ConsumerServer => ("the asking agency's security server", "máy chủ bảo mật của cơ quan gửi yêu cầu"),
            Side::Registry => ("the central registry", "hệ thống đăng ký trung tâm"),
            Side::ProviderServer => ("the provider's security server", "máy chủ bảo mật của bên cung cấp"),
            Side::Service => ("the provider's own service", "dịch vụ của bên cung cấp"),
            Side::Speaker => ("the security server that says it", "chính máy chủ bảo mật đưa ra từ chối"),
            Side::Between => (
                "both security servers, or what is between them",
                "cả hai máy chủ bảo mật hoặc đường truyền giữa chúng",
            ),
        };
        match language {
            Language::English => english,
            Language::Vietnamese => vietnamese,
        }
    }
}

/// Which security server says a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// That of the agency that asks, to its own system.
    ConsumerServer,
    /// That of the agency that is asked.
    ProviderServer,
    /// The same rule holds at both. What a caller gets says which of them it was.
    Either,
}

impl Speaker {
    /// As it stands in the details of a refusal.
    pub fn as_str(self) -> &'static str {
        match self {
            Speaker::ConsumerServer => "consumer-server",
            Speaker::ProviderServer => "provider-server",
            Speaker::Either => "either",
        }
    }
}

/// Whether the other side can prove that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Said by a server to its own member's system: nothing crosses the border between members.
    Local,
    /// An answer like any other: signed, recorded at both servers.
    Sealed,
    /// Said to a peer without a seal. A consumer's server believes of it only that it got no answer. Before a request's
    /// signature holds, the provider's server says `UNPROVEN` and nothing else about the request.
    Bare,
}

/// A language that titles and remedies are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// English, where nothing else was asked for.
    #[default]
    English,
    /// Vietnamese.
    Vietnamese,
}

impl Language {
    /// Every language, so that a test can ask for each text in each of them.
    pub const ALL: [Language; 2] = [Language::English, Language::Vietnamese];

    /// The BCP 47 tag.
    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Vietnamese => "vi",
        }
    }

    /// The first language of an `accept-language` value that we have. Weights are not weighed: clients list the
    /// languages in their order, and a wrong guess here only costs a translation.
    pub fn preferred(accept_language: &str) -> Language {
        accept_language
            .split(',')
            .filter_map(|range| range.split([';', '-']).next())
            .find_map(|primary| Language::ALL.into_iter().find(|ours| ours.tag().eq_ignore_ascii_case(primary.trim())))
            .unwrap_or_default()
    }
}

/// A text that is no code of the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no refusal code; it is one of a closed list, written as causeway-refusal bears it (example: GRANT_MISSING)"
)]
pub struct NotACode {
    text: String,
}

impl Code {
    /// The code on the wire, in logs and on screens.
    pub fn as_str(self) -> &'static str {
        self.row().wire
    }

    /// Whose side it lies on.
    pub fn side(self) -> Side {
        self.row().side
    }

    /// Whose side it lies on when this server says it.
    pub fn side_when(self, said_by: Speaker) -> Side {
        match (self.side(), said_by) {
            (Side::Speaker, Speaker::ConsumerServer) => Side::ConsumerServer,
            (Side::Speaker, Speaker::ProviderServer) => Side::ProviderServer,
            (side, _) => side,
        }
    }

    /// Which server says it.
    pub fn speaker(self) -> Speaker {
        self.row().speaker
    }

    /// Which server said it, where only one does so; else the one that is known to have.
    pub fn speaker_or(self, known: Speaker) -> Speaker {
        match self.speaker() {
            Speaker::Either => known,
            only => only,
        }
    }

    /// In which form it reaches the other side.
    pub fn form(self) -> Form {
        self.row().form
    }

    /// Title and remedy: what a caller reads as `grpc-message`, and again in the details.
    pub fn message(self, language: Language) -> String {
        format!("{} {}", self.title(language), self.remedy(language))
    }

    /// What is the matter, in one sentence.
    pub fn title(self, language: Language) -> &'static str {
        match language {
            Language::English => self.row().english.0,
            Language::Vietnamese => self.row().vietnamese.0,
        }
    }

    /// What to do next.
    pub fn remedy(self, language: Language) -> &'static str {
        match language {
            Language::English => self.row().english.1,
            Language::Vietnamese => self.row().vietnamese.1,
        }
    }

    /// The gRPC status that a caller gets.
    pub fn grpc_status(self) -> u32 {
        self.row().grpc_status
    }

    /// After how many seconds to ask again, where waiting is what helps.
    pub fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Code::TooManyExchanges | Code::CalledTooOften | Code::RateExceeded => Some(1),
            Code::OverQuota => Some(60),
            _ => None,
        }
    }

    /// The HTTP status that a caller of the REST door gets.
    pub fn http_status(self) -> u16 {
        self.row().http_status
    }
}

impl FromStr for Code {
    type Err = NotACode;
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let found = Code::ALL.iter().copied().find(|code| code.as_str() == text);
        found.ok_or_else(|| NotACode { text: text.chars().take(60).collect() })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One row of the table below.
struct Row {
    wire: &'static str,
    side: Side,
    speaker: Speaker,
    form: Form,
    grpc_status: u32,
    http_status: u16,
    english: (&'static str, &'static str),
    vietnamese: (&'static str, &'static str),
}

/// Makes the enum and its rows of one table, so that neither can have an entry that the other lacks.
macro_rules! refusals {
    ($(
        $variant:ident $wire:literal $side:ident $speaker:ident $form:ident $grpc:ident $http:literal
        en $en_title:literal $en_remedy:literal
        vi $vi_title:literal $vi_remedy:literal
    )*) => {
        /// Why an exchange does not happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $en_title] $variant,)*
        }

        impl Code {
            /// The whole list, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            fn row(self) -> &'static Row {
                match self {
                    $(Code::$variant => &Row {
                        wire: $wire,
                        side: Side::$side,
                        speaker: Speaker::$speaker,
                        form: Form::$form,
                        grpc_status: grpc::$grpc,
                        http_status: $http,
                        english: ($en_title, $en_remedy),
                        vietnamese: ($vi_title, $vi_remedy),
                    },)*
                }
            }
        }
    };
}

/// The gRPC status codes that refusals use, by the names of the gRPC specification.
mod grpc {
    pub const UNKNOWN: u32 = 2;
    pub const INVALID_ARGUMENT: u32 = 3;
    pub const DEADLINE_EXCEEDED: u32 = 4;
    pub const NOT_FOUND: u32 = 5;
    pub const ALREADY_EXISTS: u32 = 6;
    pub const PERMISSION_DENIED: u32 = 7;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const FAILED_PRECONDITION: u32 = 9;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const INTERNAL: u32 = 13;
    pub const UNAVAILABLE: u32 = 14;
    pub const DATA_LOSS: u32 = 15;
    pub const UNAUTHENTICATED: u32 = 16;
}

refusals! {
    // ---- the consumer's server, at its own systems' door

    ClientUnknown "CLIENT_UNKNOWN" Caller ConsumerServer Local UNAUTHENTICATED 401
    en "This security server does not know the calling system."
       "Send the system's causeway-token, or connect with its registered client certificate. If it has neither, ask your agency's admin to register the system."
    vi "Máy chủ bảo mật này không nhận ra hệ thống đang gọi."
       "Hãy gửi causeway-token của hệ thống, hoặc kết nối bằng chứng thư máy khách đã đăng ký. Nếu chưa có, hãy nhờ quản trị viên của cơ quan đăng ký hệ thống."

    BrowserRefused "BROWSER_REFUSED" Caller ConsumerServer Local PERMISSION_DENIED 403
    en "A web page may not use this door."
       "Call from the system's own program, without an Origin header and with the door's own name as Host."
    vi "Trang web không được phép dùng cổng này."
       "Hãy gọi từ chương trình của chính hệ thống, không kèm tiêu đề Origin và với Host là tên của chính cổng này."

    MethodNotPost "METHOD_NOT_POST" Caller ConsumerServer Local INVALID_ARGUMENT 405
    en "A gRPC call is an HTTP POST, and this is another method."
       "Call with a gRPC client, or set the HTTP method to POST."
    vi "Lời gọi gRPC phải là HTTP POST, nhưng đây là phương thức khác."
       "Hãy gọi bằng máy khách gRPC, hoặc đổi phương thức HTTP thành POST."

    ContentTypeUnknown "CONTENT_TYPE_UNKNOWN" Caller ConsumerServer Local INVALID_ARGUMENT 415
    en "The content type is not one that this door speaks."
       "Send application/grpc over HTTP/2, or application/json; application/x-ndjson for a stream of messages."
    vi "Cổng này không hỗ trợ kiểu nội dung đã gửi."
       "Hãy gửi application/grpc qua HTTP/2, hoặc application/json; nếu gửi một luồng thông điệp thì dùng application/x-ndjson."

    PathMalformed "PATH_MALFORMED" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "The path is not that of a method or of a REST service's operation."
       "Call /package.Service/Method, without a query and without percent signs, at most 256 bytes; or a REST service by /r1/INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE and a path that has one reading."
    vi "Đường dẫn không phải là của một phương thức hay một thao tác REST."
       "Hãy gọi /gói.DịchVụ/PhươngThức, không có phần truy vấn, không có dấu phần trăm, tối đa 256 byte; hoặc gọi dịch vụ REST bằng /r1/INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE và một đường dẫn chỉ có một cách đọc."

    IdentifierMalformed "IDENTIFIER_MALFORMED" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "An identifier in the call is not well formed."
       "Write causeway-service as INSTANCE/CLASS/MEMBER/SUBSYSTEM, for example VN/GOV/moj/civil-registry. Capital and small letters differ."
    vi "Một mã định danh trong lời gọi không đúng định dạng."
       "Hãy viết causeway-service theo dạng INSTANCE/CLASS/MEMBER/SUBSYSTEM, ví dụ VN/GOV/moj/civil-registry. Chữ hoa và chữ thường là khác nhau."

    MetadataReserved "METADATA_RESERVED" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "The call carries a causeway- field that only security servers set."
       "Remove it. A system may set causeway-service, causeway-purpose and the other fields listed for callers, each once."
    vi "Lời gọi có trường causeway- mà chỉ máy chủ bảo mật mới được đặt."
       "Hãy bỏ trường đó. Hệ thống chỉ được đặt causeway-service, causeway-purpose và các trường dành cho bên gọi, mỗi trường một lần."

    MetadataMalformed "METADATA_MALFORMED" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "A metadata field of the call cannot be read."
       "Check grpc-timeout, and that fields whose names end in -bin hold base64 and all others printable ASCII."
    vi "Không đọc được một trường siêu dữ liệu của lời gọi."
       "Hãy kiểm tra grpc-timeout; trường có tên kết thúc bằng -bin phải là base64, các trường khác chỉ gồm ký tự ASCII in được."

    MetadataTooLarge "METADATA_TOO_LARGE" Caller ConsumerServer Local RESOURCE_EXHAUSTED 431
    en "The metadata of the call is larger than the limit."
       "Send less metadata. Large values belong into the message."
    vi "Siêu dữ liệu của lời gọi vượt quá giới hạn."
       "Hãy gửi ít siêu dữ liệu hơn. Giá trị lớn nên đặt trong thông điệp."

    ServiceNotNamed "SERVICE_NOT_NAMED" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "The call does not say which agency's subsystem is asked."
       "Set causeway-service to the provider's subsystem, or ask your agency's admin to bind this gRPC service to a provider."
    vi "Lời gọi không cho biết cần hỏi hệ thống con của cơ quan nào."
       "Hãy đặt causeway-service là hệ thống con của bên cung cấp, hoặc nhờ quản trị viên của cơ quan gắn dịch vụ gRPC này với một bên cung cấp."

    PurposeMissing "PURPOSE_MISSING" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "The call does not say for which purpose the data is asked."
       "Set causeway-purpose to the purpose that the provider granted, for example birth-registration."
    vi "Lời gọi không nêu mục đích sử dụng dữ liệu."
       "Hãy đặt causeway-purpose là mục đích đã được bên cung cấp cho phép, ví dụ birth-registration."

    MethodUnknown "METHOD_UNKNOWN" Caller ConsumerServer Local UNIMPLEMENTED 404
    en "The catalogue shows your agency no such method of this provider."
       "Check the names of the provider, the service and the method in the catalogue. What is not listed there can be called with gRPC only."
    vi "Danh mục không có phương thức này của bên cung cấp dành cho cơ quan của bạn."
       "Hãy kiểm tra tên bên cung cấp, dịch vụ và phương thức trong danh mục. Dịch vụ không có trong danh mục chỉ gọi được bằng gRPC."

    DescriptionUnavailable "DESCRIPTION_UNAVAILABLE" Registry ConsumerServer Local UNAVAILABLE 503
    en "The description of the service cannot be had now, so JSON cannot be translated."
       "Call again later, or with gRPC. If it persists, ask your agency's admin to run the doctor of the security server."
    vi "Hiện không lấy được mô tả của dịch vụ nên không thể chuyển đổi JSON."
       "Hãy gọi lại sau, hoặc gọi bằng gRPC. Nếu lỗi vẫn còn, hãy nhờ quản trị viên của cơ quan chạy lệnh doctor của máy chủ bảo mật."

    MessageMalformed "MESSAGE_MALFORMED" Caller ConsumerServer Local INVALID_ARGUMENT 400
    en "The message is not what the method takes."
       "Write it as the service's description says: the names of its fields, numbers that fit, at most the depth that the door allows."
    vi "Thông điệp không đúng với dạng mà phương thức nhận."
       "Hãy viết theo mô tả của dịch vụ: đúng tên trường, số trong phạm vi cho phép, độ lồng không quá giới hạn của cổng."

    MessageTooLarge "MESSAGE_TOO_LARGE" Caller ConsumerServer Local RESOURCE_EXHAUSTED 413
    en "What the call sends is larger than this door takes."
       "Send less in one call, or in gRPC what is too large for JSON; or ask your agency's admin to raise the limit."
    vi "Dữ liệu mà lời gọi gửi lớn hơn mức cổng này tiếp nhận."
       "Hãy gửi ít hơn trong mỗi lời gọi, dùng gRPC cho những gì quá lớn đối với JSON, hoặc nhờ quản trị viên của cơ quan nâng giới hạn."

    CalledTooOften "CALLED_TOO_OFTEN" Caller ConsumerServer Local RESOURCE_EXHAUSTED 429
    en "The system calls more often than its own agency's security server lets it."
       "Wait a second, then spread the calls. If the system needs more, ask your agency's admin to raise the limit."
    vi "Hệ thống gọi thường xuyên hơn mức mà máy chủ bảo mật của chính cơ quan cho phép."
       "Hãy chờ một giây rồi giãn cách các lời gọi. Nếu hệ thống cần nhiều hơn, hãy nhờ quản trị viên của cơ quan nâng giới hạn."

    AnswerUntranslatable "ANSWER_UNTRANSLATABLE" Service ConsumerServer Local INTERNAL 502
    en "The provider has answered, and its answer cannot be written as JSON."
       "Do not repeat the call blindly: it was carried out. Call with gRPC, and tell the provider if its answers are not as its catalogue entry says."
    vi "Bên cung cấp đã trả lời nhưng không thể viết câu trả lời dưới dạng JSON."
       "Đừng gọi lại khi chưa rõ: yêu cầu đã được thực hiện. Hãy gọi bằng gRPC và báo cho bên cung cấp nếu câu trả lời không đúng với mô tả trong danh mục."

    MemberSuspended "MEMBER_SUSPENDED" Registry ConsumerServer Local PERMISSION_DENIED 403
    en "The asking agency is suspended from the exchange."
       "Your agency's admin is to ask the central registry for the reason, and what is needed to lift the suspension."
    vi "Cơ quan gửi yêu cầu đang bị tạm ngừng tham gia trao đổi."
       "Quản trị viên của cơ quan cần hỏi hệ thống đăng ký trung tâm về lý do và việc cần làm để được tham gia trở lại."

    ProviderUnknown "PROVIDER_UNKNOWN" Caller ConsumerServer Local NOT_FOUND 404
    en "No security server in the configuration serves this subsystem."
       "Check the spelling of causeway-service. If it is right, the provider has not registered the subsystem yet: ask the provider."
    vi "Không có máy chủ bảo mật nào trong cấu hình phục vụ hệ thống con này."
       "Hãy kiểm tra lại causeway-service. Nếu đã viết đúng thì bên cung cấp chưa đăng ký hệ thống con: hãy liên hệ bên cung cấp."

    ProviderSuspended "PROVIDER_SUSPENDED" Registry ConsumerServer Local PERMISSION_DENIED 403
    en "The agency that is asked is suspended from the exchange."
       "Wait until the central registry lifts the suspension. For the reason, ask the registry."
    vi "Cơ quan được hỏi đang bị tạm ngừng tham gia trao đổi."
       "Hãy chờ đến khi hệ thống đăng ký trung tâm cho phép trở lại. Muốn biết lý do, hãy hỏi cơ quan vận hành hệ thống đăng ký."

    ProviderInMaintenance "PROVIDER_IN_MAINTENANCE" ProviderServer ConsumerServer Local UNAVAILABLE 503
    en "The provider's security server is in maintenance. Nothing was sent."
       "Try again later: repeating is safe. Your agency's admin can read what the provider announced in the server's diagnostics."
    vi "Máy chủ bảo mật của bên cung cấp đang được bảo trì. Chưa có gì được gửi đi."
       "Hãy thử lại sau; gọi lại là an toàn. Quản trị viên của cơ quan có thể đọc thông báo của bên cung cấp trong nhật ký chẩn đoán của máy chủ."

    ProviderUnreachable "PROVIDER_UNREACHABLE" ProviderServer ConsumerServer Local UNAVAILABLE 502
    en "The provider's security server cannot be reached. Nothing was sent."
       "Try again later: repeating is safe. If it lasts, tell the provider's admin."
    vi "Không kết nối được với máy chủ bảo mật của bên cung cấp. Chưa có gì được gửi đi."
       "Hãy thử lại sau; gọi lại là an toàn. Nếu tình trạng kéo dài, hãy báo quản trị viên của bên cung cấp."

    ProviderUnproven "PROVIDER_UNPROVEN" ProviderServer ConsumerServer Local DATA_LOSS 502
    en "The provider's answer could not be verified and is withheld."
       "Do not repeat the call unless it may run twice. Give the exchange id to your agency's admin: the unproven answer is kept as evidence."
    vi "Không xác minh được câu trả lời của bên cung cấp nên câu trả lời bị giữ lại."
       "Đừng gọi lại nếu thao tác không được phép chạy hai lần. Hãy gửi mã trao đổi cho quản trị viên của cơ quan: câu trả lời chưa xác minh được lưu làm chứng cứ."

    ProtocolUnsupported "PROTOCOL_UNSUPPORTED" ProviderServer ConsumerServer Local UNIMPLEMENTED 502
    en "The provider's security server does not speak this version of the protocol."
       "Ask both agencies' admins to compare the versions of their security servers. The older one is to be updated."
    vi "Máy chủ bảo mật của bên cung cấp không hỗ trợ phiên bản giao thức này."
       "Hãy nhờ quản trị viên hai cơ quan so sánh phiên bản máy chủ bảo mật. Máy chủ cũ hơn cần được nâng cấp."

    OutcomeUnknown "OUTCOME_UNKNOWN" Between ConsumerServer Local UNKNOWN 504
    en "The request was sent, but the connection broke before the answer: whether it took effect is not known."
       "Ask the service whether the request took effect before you repeat it. Both agencies' admins can look up the exchange id."
    vi "Yêu cầu đã được gửi, nhưng kết nối bị đứt trước khi có câu trả lời: chưa rõ yêu cầu đã được thực hiện hay chưa."
       "Trước khi gọi lại, hãy hỏi dịch vụ xem yêu cầu đã được thực hiện chưa. Quản trị viên hai bên có thể tra cứu theo mã trao đổi."

    AnswerUnrecorded "ANSWER_UNRECORDED" ConsumerServer ConsumerServer Local UNAVAILABLE 503
    en "The answer could not be recorded here and is withheld. The request may have taken effect."
       "Tell your agency's admin that the message log cannot write. Ask the service whether the request took effect before you repeat it."
    vi "Không ghi được câu trả lời vào nhật ký nên câu trả lời bị giữ lại. Yêu cầu có thể đã được thực hiện."
       "Hãy báo quản trị viên của cơ quan rằng nhật ký thông điệp không ghi được. Trước khi gọi lại, hãy hỏi dịch vụ xem yêu cầu đã được thực hiện chưa."

    // ---- either server, about itself

    ConfigurationExpired "CONFIGURATION_EXPIRED" Speaker Either Bare FAILED_PRECONDITION 503
    en "The security server's global configuration has expired, so it trusts nobody."
       "Ask the admin of the server that refused to restore its connection to the central registry. The call can be repeated after that."
    vi "Cấu hình chung của máy chủ bảo mật đã hết hạn nên máy chủ không tin cậy bên nào."
       "Hãy nhờ quản trị viên của máy chủ đã từ chối khôi phục kết nối tới hệ thống đăng ký trung tâm. Sau đó có thể gọi lại."

    NotReady "NOT_READY" Speaker Either Bare UNAVAILABLE 503
    en "The security server is not ready to exchange messages. Nothing was recorded or sent on."
       "Try again later: repeating is safe. If it lasts, the server's admin is to look at its status and alarms, which name the cause."
    vi "Máy chủ bảo mật chưa sẵn sàng trao đổi thông điệp. Chưa có gì được ghi lại hay gửi đi tiếp."
       "Hãy thử lại sau; gọi lại là an toàn. Nếu tình trạng kéo dài, quản trị viên của máy chủ cần xem trạng thái và các cảnh báo, trong đó có nêu nguyên nhân."

    ShuttingDown "SHUTTING_DOWN" Speaker Either Bare UNAVAILABLE 503
    en "The security server is shutting down and takes no new calls."
       "Try again: a second server of the agency may answer at once, otherwise wait until this one is back."
    vi "Máy chủ bảo mật đang dừng và không nhận lời gọi mới."
       "Hãy thử lại: máy chủ khác của cơ quan có thể trả lời ngay, nếu không hãy chờ máy chủ này hoạt động trở lại."

    TooManyExchanges "TOO_MANY_EXCHANGES" Speaker Either Bare RESOURCE_EXHAUSTED 429
    en "The security server carries as many exchanges at once as it may."
       "Wait for calls that are running to end, then try again with growing pauses."
    vi "Máy chủ bảo mật đang xử lý số lượt trao đổi đồng thời tối đa."
       "Hãy chờ các lời gọi đang chạy kết thúc, rồi thử lại với khoảng chờ tăng dần."

    DeadlinePassed "DEADLINE_PASSED" Caller Either Bare DEADLINE_EXCEEDED 504
    en "The caller's deadline passed before the answer was there."
       "Allow more time. If the call changes something, ask the service whether it took effect before you repeat it."
    vi "Thời hạn của bên gọi đã hết trước khi có câu trả lời."
       "Hãy cho phép thời gian dài hơn. Nếu lời gọi làm thay đổi dữ liệu, hãy hỏi dịch vụ xem đã được thực hiện chưa trước khi gọi lại."

    LogEnded "LOG_ENDED" Speaker Either Bare UNAVAILABLE 503
    en "The security server's message log stopped after a failed write, so it exchanges nothing."
       "The server's admin is to check the disk and restart the server. The call can be repeated after that."
    vi "Nhật ký thông điệp của máy chủ bảo mật đã dừng do lỗi ghi nên máy chủ ngừng trao đổi."
       "Quản trị viên của máy chủ cần kiểm tra ổ đĩa và khởi động lại máy chủ. Sau đó có thể gọi lại."

    LogFull "LOG_FULL" Speaker Either Bare UNAVAILABLE 503
    en "The disk of the security server's message log is nearly full: the rest is kept for the ends of running exchanges."
       "The server's admin is to archive old segments or enlarge the disk. The call can be repeated after that."
    vi "Ổ đĩa chứa nhật ký thông điệp của máy chủ bảo mật gần đầy: phần còn lại dành để kết thúc các lượt trao đổi đang chạy."
       "Quản trị viên của máy chủ cần lưu trữ các phân đoạn cũ hoặc mở rộng ổ đĩa. Sau đó có thể gọi lại."

    NotStamped "NOT_STAMPED" Speaker Either Bare UNAVAILABLE 503
    en "No timestamping authority has stamped the security server's message log for longer than is tolerated."
       "The server's admin is to see that an approved timestamping authority answers: `doctor` says which does not. The call can be repeated after that."
    vi "Nhật ký thông điệp của máy chủ bảo mật chưa được cấp dấu thời gian lâu hơn mức cho phép."
       "Quản trị viên của máy chủ cần bảo đảm có tổ chức cấp dấu thời gian được phê duyệt trả lời: lệnh `doctor` cho biết nơi nào không trả lời. Sau đó có thể gọi lại."

    PayloadKeysMissing "PAYLOAD_KEYS_MISSING" Speaker Either Bare UNAVAILABLE 503
    en "What is exchanged with this service is to be kept, and the security server has no key to encrypt it with."
       "Try again later: repeating is safe. If it lasts, the server's admin is to look at its status, which says why keys cannot be made."
    vi "Dữ liệu trao đổi với dịch vụ này phải được lưu giữ, nhưng máy chủ bảo mật không có khóa để mã hóa."
       "Hãy thử lại sau; gọi lại là an toàn. Nếu tình trạng kéo dài, quản trị viên của máy chủ cần xem trạng thái, trong đó nêu lý do không tạo được khóa."

    AccessEnded "ACCESS_ENDED" Between Either Sealed PERMISSION_DENIED 403
    en "The right to this exchange ended while it was running."
       "What arrived before is valid. To go on, renew the grant, key or membership that ended, then call again."
    vi "Quyền thực hiện lượt trao đổi này đã chấm dứt khi đang chạy."
       "Dữ liệu đã nhận trước đó vẫn có giá trị. Để tiếp tục, hãy gia hạn quyền truy cập, khóa hoặc tư cách thành viên đã hết, rồi gọi lại."

    // ---- the provider's server, after verification: sealed and recorded

    GrantMissing "GRANT_MISSING" ProviderServer ProviderServer Sealed PERMISSION_DENIED 403
    en "The provider has not granted your subsystem this method."
       "Ask the provider's admin for a grant. Name your subsystem, the service, the method, the purpose and the legal basis."
    vi "Bên cung cấp chưa cấp cho hệ thống con của bạn quyền gọi phương thức này."
       "Hãy đề nghị quản trị viên của bên cung cấp cấp quyền. Nêu rõ hệ thống con của bạn, dịch vụ, phương thức, mục đích và căn cứ pháp lý."

    GrantExpired "GRANT_EXPIRED" ProviderServer ProviderServer Sealed PERMISSION_DENIED 403
    en "Your subsystem's grant for this method is not valid at this time."
       "Ask the provider's admin to renew the grant, or wait for the day on which it begins."
    vi "Quyền gọi phương thức này của hệ thống con của bạn hiện không có hiệu lực."
       "Hãy đề nghị quản trị viên của bên cung cấp gia hạn quyền, hoặc chờ đến ngày quyền bắt đầu có hiệu lực."

    GrantPurpose "GRANT_PURPOSE" Caller ProviderServer Sealed PERMISSION_DENIED 403
    en "Your subsystem's grant does not cover this purpose."
       "Call with the purpose that your grant names. If you need the data for another purpose, ask the provider's admin for a grant that says so."
    vi "Quyền của hệ thống con của bạn không bao gồm mục đích này."
       "Hãy gọi với mục đích ghi trong quyền đã được cấp. Nếu cần dữ liệu cho mục đích khác, hãy đề nghị bên cung cấp cấp quyền cho mục đích đó."

    RateExceeded "RATE_EXCEEDED" Caller ProviderServer Sealed RESOURCE_EXHAUSTED 429
    en "Your subsystem calls more often than its grant allows, or your server has more half-sent messages open than it may."
       "Slow down and spread the calls. If you need more, ask the provider's admin for a higher rate."
    vi "Hệ thống con của bạn gọi nhiều hơn mức được cấp, hoặc máy chủ của bạn đang gửi dở quá nhiều thông điệp."
       "Hãy gọi chậm lại và giãn cách các lời gọi. Nếu cần nhiều hơn, hãy đề nghị quản trị viên của bên cung cấp tăng hạn mức."

    ServiceUnknown "SERVICE_UNKNOWN" ProviderServer ProviderServer Sealed UNIMPLEMENTED 404
    en "The provider's subsystem offers no such service."
       "Check the gRPC service's full name and causeway-service. If both are right, ask the provider whether the service is published."
    vi "Hệ thống con của bên cung cấp không có dịch vụ này."
       "Hãy kiểm tra tên đầy đủ của dịch vụ gRPC và causeway-service. Nếu cả hai đều đúng, hãy hỏi bên cung cấp xem dịch vụ đã được công bố chưa."

    SubjectMissing "SUBJECT_MISSING" Caller ProviderServer Sealed INVALID_ARGUMENT 400
    en "The request does not say whom it is about, and is about a person. The service has not seen this message, nor any after it."
       "Fill in the field that the catalogue marks as the subject, in every message: the person's identifier, neither empty nor 0."
    vi "Yêu cầu liên quan đến một cá nhân nhưng không nêu đó là ai. Dịch vụ chưa nhận được thông điệp này và các thông điệp sau nó."
       "Hãy điền trường được danh mục đánh dấu là đối tượng (subject) trong mọi thông điệp: mã định danh của cá nhân, không để trống và không bằng 0."

    SubjectUnreadable "SUBJECT_UNREADABLE" Caller ProviderServer Sealed INVALID_ARGUMENT 400
    en "The provider's server cannot read whom the request is about. The service has not seen this message, nor any after it."
       "Send each message uncompressed, whole, at most 1 MiB and about at most 1000 persons, a request about at most 4096, as the service's description says."
    vi "Máy chủ bảo mật của bên cung cấp không đọc được yêu cầu liên quan đến ai. Dịch vụ chưa nhận được thông điệp này và các thông điệp sau nó."
       "Hãy gửi từng thông điệp không nén, trọn vẹn, tối đa 1 MiB và về tối đa 1000 cá nhân, cả yêu cầu về tối đa 4096 cá nhân, theo đúng mô tả của dịch vụ."

    ServiceUnreachable "SERVICE_UNREACHABLE" Service ProviderServer Sealed UNAVAILABLE 502
    en "The provider's own service does not answer its security server. It has not seen the request."
       "Try again later: repeating is safe. If it lasts, tell the provider's admin."
    vi "Dịch vụ của bên cung cấp không trả lời máy chủ bảo mật của họ. Dịch vụ chưa nhận được yêu cầu."
       "Hãy thử lại sau; gọi lại là an toàn. Nếu tình trạng kéo dài, hãy báo quản trị viên của bên cung cấp."

    ServiceMalformed "SERVICE_MALFORMED" Service ProviderServer Sealed INTERNAL 502
    en "The provider's own service broke the HTTP/2 or gRPC protocol in its answer."
       "Give the exchange id to the provider's admin. Ask the service whether the request took effect before you repeat it."
    vi "Dịch vụ của bên cung cấp vi phạm giao thức HTTP/2 hoặc gRPC khi trả lời."
       "Hãy gửi mã trao đổi cho quản trị viên của bên cung cấp. Trước khi gọi lại, hãy hỏi dịch vụ xem yêu cầu đã được thực hiện chưa."

    NotMinimised "NOT_MINIMISED" Service ProviderServer Sealed INTERNAL 502
    en "Your grant names fields of the answer, and the service answered in a form from which the others cannot be removed."
       "Give the exchange id to the provider's admin: the service must answer uncompressed, in well-formed protobuf. Ask it whether the request took effect before you repeat it."
    vi "Quyền của bạn chỉ nêu một số trường của câu trả lời, nhưng dạng câu trả lời của dịch vụ không cho phép loại bỏ các trường khác."
       "Hãy gửi mã trao đổi cho quản trị viên của bên cung cấp: dịch vụ phải trả lời không nén và đúng dạng protobuf. Hãy hỏi xem yêu cầu đã được thực hiện chưa trước khi gọi lại."

    TooLargeToMinimise "TOO_LARGE_TO_MINIMISE" Service ProviderServer Sealed RESOURCE_EXHAUSTED 502
    en "A message of the answer is larger than the provider's security server can take fields out of."
       "Ask for less at once, for example page by page. Ask the service whether the request took effect before you repeat it."
    vi "Một thông điệp của câu trả lời lớn hơn mức mà máy chủ bảo mật của bên cung cấp có thể loại bỏ trường."
       "Hãy yêu cầu ít dữ liệu hơn mỗi lần, ví dụ theo từng trang. Hãy hỏi dịch vụ xem yêu cầu đã được thực hiện chưa trước khi gọi lại."

    // ---- the provider's server, to a peer, without a seal

    Unproven "UNPROVEN" ConsumerServer ProviderServer Bare UNAUTHENTICATED 401
    en "The provider's security server could not verify the request."
       "Give the exchange id to your agency's admin: the provider's admin can look up the reason. Until it is found, repeating will not help."
    vi "Máy chủ bảo mật của bên cung cấp không xác minh được yêu cầu."
       "Hãy gửi mã trao đổi cho quản trị viên của cơ quan: quản trị viên của bên cung cấp có thể tra cứu lý do. Khi chưa rõ lý do, gọi lại cũng không có kết quả."

    NotFresh "NOT_FRESH" Between ProviderServer Bare FAILED_PRECONDITION 400
    en "The clocks of the two security servers differ by more than 60 seconds."
       "Ask both agencies' admins to check the time synchronisation of their security servers, then call again."
    vi "Đồng hồ của hai máy chủ bảo mật lệch nhau quá 60 giây."
       "Hãy nhờ quản trị viên hai cơ quan kiểm tra việc đồng bộ thời gian của máy chủ bảo mật, rồi gọi lại."

    Replayed "REPLAYED" ConsumerServer ProviderServer Bare ALREADY_EXISTS 409
    en "The provider's security server has seen this very request before."
       "Look up the first answer by its exchange id. To ask again, make a new call: each call gets an exchange id of its own."
    vi "Máy chủ bảo mật của bên cung cấp đã nhận chính yêu cầu này trước đó."
       "Hãy tra cứu câu trả lời đầu tiên theo mã trao đổi. Muốn hỏi lại, hãy tạo lời gọi mới: mỗi lời gọi có một mã trao đổi riêng."

    OverQuota "OVER_QUOTA" ConsumerServer ProviderServer Bare RESOURCE_EXHAUSTED 429
    en "Your security server has been refused too often in a short time."
       "Stop repeating calls that are refused. Mend the first refusal's cause, wait a minute, then call again."
    vi "Máy chủ bảo mật của bạn bị từ chối quá nhiều lần trong thời gian ngắn."
       "Hãy ngừng gọi lại các lời gọi đã bị từ chối. Khắc phục nguyên nhân của lần từ chối đầu tiên, chờ một phút rồi gọi lại."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Each title and remedy, with where it stands.
    fn texts() -> impl Iterator<Item = (Code, Language, &'static str)> {
        Code::ALL.iter().flat_map(|&code| {
            Language::ALL.into_iter().flat_map(move |language| {
                [(code, language, code.title(language)), (code, language, code.remedy(language))]
            })
        })
    }

    #[test]
    fn a_code_names_one_refusal_and_reads_back() {
        let wire: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(wire.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(code.to_string(), screaming_snake(&format!("{code:?}")));
        }
    }

    fn screaming_snake(variant: &str) -> String {
        let mut wire = String::new();
        for letter in variant.chars() {
            if letter.is_uppercase() && !wire.is_empty() {
                wire.push('_');
            }
            wire.extend(letter.to_uppercase());
        }
        wire
    }

    #[test]
    fn what_is_not_on_the_list_is_no_code() {
        for text in ["", "grant_missing", "GRANT_MISSING ", "GrantMissing", "OK", &"A".repeat(1000)] {
            let error = text.parse::<Code>().unwrap_err().to_string();
            assert!(error.len() < 300 && error.contains("GRANT_MISSING"), "{error}");
        }
    }

    #[test]
    fn every_refusal_says_what_is_the_matter_and_what_to_do_in_both_languages() {
        for (code, language, text) in texts() {
            let length = text.chars().count();
            assert!((20..=MAX_TEXT_CHARS).contains(&length), "{code} {language:?}: {length} characters");
            assert!(text.ends_with('.') && text.trim() == text && !text.contains("  "), "{code}: {text}");
            assert_ne!(code.title(language), code.remedy(language));
        }
        let different: BTreeSet<_> = Code::ALL.iter().map(|code| code.title(Language::Vietnamese)).collect();
        assert_eq!(different.len(), Code::ALL.len(), "two refusals with one Vietnamese title");
    }

    #[test]
    fn vietnamese_is_written_with_its_diacritics_and_english_without() {
        for (code, language, text) in texts() {
            let marked = text.chars().filter(|letter| !letter.is_ascii()).count();
            match language {
                Language::English => assert_eq!(marked, 0, "{code}: {text}"),
                Language::Vietnamese => {
                    let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
                    assert!(marked * 10 > letters, "{code}: {marked} of {letters} letters are marked: {text}");
                }
            }
        }
    }

    #[test]
    fn no_text_holds_an_address_or_a_placeholder() {
        for (code, _, text) in texts() {
            for pattern in ["://", "localhost", "www.", "{", "}", "[", "]", "@", "%"] {
                assert!(!text.contains(pattern), "{code}: {pattern} in {text}");
            }
            let bytes = text.as_bytes();
            let address_like = bytes.windows(3).any(|three| match three {
                [before, b'.', after] => before.is_ascii_digit() && after.is_ascii_digit(),
                [before, b':', after] => before.is_ascii_alphanumeric() && after.is_ascii_digit(),
                _ => false,
            });
            assert!(!address_like, "{code}: {text}");
        }
    }

    #[test]
    fn statuses_are_errors_and_agree_in_kind() {
        for code in Code::ALL {
            assert!((1..=16).contains(&code.grpc_status()), "{code}");
            assert!((400..=511).contains(&code.http_status()), "{code}");
            // A gRPC client repeats UNAVAILABLE on its own: what says so must say so over HTTP, too.
            if code.grpc_status() == grpc::UNAVAILABLE {
                assert!(code.http_status() >= 500, "{code}");
            }
        }
    }

    #[test]
    fn a_refusal_before_the_seal_holds_is_bare_and_a_local_one_never_leaves() {
        assert_eq!(Code::Unproven.form(), Form::Bare);
        assert_eq!(Code::GrantMissing.form(), Form::Sealed);
        for code in Code::ALL {
            assert_eq!(code.form() == Form::Local, code.speaker() == Speaker::ConsumerServer, "{code}");
        }
    }

    #[test]
    fn a_caller_always_learns_whose_side_it_is() {
        for code in Code::ALL {
            for known in [Speaker::ConsumerServer, Speaker::ProviderServer] {
                let said_by = code.speaker_or(known);
                assert_ne!(said_by, Speaker::Either, "{code}");
                assert_ne!(code.side_when(said_by), Side::Speaker, "{code}");
            }
            // What either can say lies with who says it, or between the two; and only that.
            let of_speaker = matches!(code.side(), Side::Speaker);
            assert!(!of_speaker || code.speaker() == Speaker::Either, "{code}");
        }
        assert_eq!(Code::LogEnded.side_when(Speaker::ProviderServer), Side::ProviderServer);
        assert_eq!(Code::GrantMissing.side_when(Speaker::ProviderServer), Side::ProviderServer);
        assert_eq!(Code::PathMalformed.side_when(Speaker::ConsumerServer), Side::Caller);
    }

    #[test]
    fn a_caller_gets_the_first_language_that_we_have() {
        for (header, language) in [
            ("vi", Language::Vietnamese),
            ("vi-VN,vi;q=0.9,en;q=0.8", Language::Vietnamese),
            ("fr-FR, VI;q=0.5", Language::Vietnamese),
            ("en-GB,vi", Language::English),
            ("", Language::English),
            ("fr,,;;-", Language::English),
        ] {
            assert_eq!(Language::preferred(header), language, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[A-Z_]{0,40}|.{0,40}") {
            if let Ok(code) = text.parse::<Code>() {
                prop_assert_eq!(code.as_str(), text.as_str());
            }
            let _ = Language::preferred(&text);
        }
    }
}
