//! The operators' command line: asks a running server at its operators' door, with its operators' token.

use std::path::Path;

use bytes::Bytes;
use command_line::Exit;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::audit::MAX_NAME_BYTES;
use crate::config::{Configuration, NoConfiguration, OPERATORS_TOKEN, operators_token, read_token};
use crate::listen::operators::CALLS_ITSELF;

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Names the file with an operator's own token, in place of `operators.token`: the audit log then says whose it is.
pub const OWN_TOKEN: &str = "CAUSEWAY_OPERATOR_TOKEN";

/// The login name, as it stands in the environment: told to the server as what this program says of its user, and no more.
fn calls_itself() -> Option<String> {
    let mut named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let name = named.find(|name| !name.is_empty())?;
    let fits = name.len() <= MAX_NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(name)
}

/// A running server, as its operator reaches it.
pub struct Operator {
    address: std::net::SocketAddr,
    token: String,
    calls_itself: Option<String>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The configuration file.
    #[error(transparent)]
    Configuration(#[from] NoConfiguration),
    /// The server does not answer.
    #[error("the server does not answer at {0}: {1}; is it running? `security-server serve` starts it")]
    Unreachable(std::net::SocketAddr, String),
    /// What answers is something else.
    #[error(
        "what answers at {0} is no security server of this version: {1}; check `operators.listen` in the configuration"
    )]
    Answer(std::net::SocketAddr, String),
    /// The server that answers has another token.
    #[error(
        "the server at {0} has another operators.token than this one; check `operators.listen`: another server is there"
    )]
    Token(std::net::SocketAddr),
    /// It answers with more than is taken.
    #[error(
        "the answer has more than {0} bytes, and no more are taken: ask for less at once; of an exchange that is so long, for \
         its evidence file rather than its archive"
    )]
    TooLong(usize),
    /// The server refused.
    #[error("{why}")]
    Refused {
        /// How.
        status: StatusCode,
        /// In its words.
        why: String,
    },
}

impl Failed {
    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Usage,
            Self::Unreachable(..) | Self::Answer(..) => Exit::Unreachable,
            Self::Token(_) => Exit::Refused,
            Self::TooLong(_) => Exit::Failed,
            Self::Refused { status, .. } => match *status {
                StatusCode::NOT_FOUND => Exit::NotFound,
                StatusCode::BAD_REQUEST => Exit::Usage,
                StatusCode::UNPROCESSABLE_ENTITY | StatusCode::FORBIDDEN => Exit::Refused,
                _ => Exit::Failed,
            },
        }
    }
}

impl Operator {
    /// Of the server with this configuration file.
    pub fn of(file: &Path) -> Result<Self, Failed> {
        let configuration = Configuration::read(file)?;
        if let Some(own) = std::env::var_os(OWN_TOKEN) {
            let token = read_token(Path::new(&own))?;
            return Ok(Self { address: configuration.operators, token, calls_itself: calls_itself() });
        }
        let token = operators_token(&configuration.directory)?.ok_or_else(|| {
            let why = format!("there is no {OPERATORS_TOKEN} beside {}: it never ran", file.display());
            Failed::Unreachable(configuration.operators, why)
        })?;
        Ok(Self { address: configuration.operators, token, calls_itself: calls_itself() })
    }

    /// Reads what is there, as it is.
    pub async fn get(&self, path: &str) -> Result<Bytes, Failed> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Reads an answer.
    pub async fn read<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failed> {
        self.answer(&self.get(path).await?)
    }

    /// Changes.
    pub async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, Failed> {
        let body = serde_json::to_vec(body).expect("what we ask has texts for keys");
        self.answer(&self.ask(Method::POST, path, body.into()).await?)
    }

    fn answer<A: DeserializeOwned>(&self, answer: &[u8]) -> Result<A, Failed> {
        serde_json::from_slice(answer).map_err(|error| self.other(error))
    }

    fn other(&self, why: impl std::fmt::Display) -> Failed {
        Failed::Answer(self.address, why.to_string())
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Failed {
        Failed::Unreachable(self.address, why.to_string())
    }

    async fn whole<B>(&self, body: B, most: usize) -> Result<Bytes, Failed>
    where
        B: hyper::body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let whole = Limited::new(body, most).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failed::TooLong(most),
            false => self.unreachable(error),
        });
        Ok(whole?.to_bytes())
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failed> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| self.unreachable(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut requests, connection) = handshake.map_err(|error| self.other(error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if let Some(name) = &self.calls_itself {
            request = request.header(CALLS_ITSELF, name);
        }
        let request = request
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.other(error))?;
        let response = requests.send_request(request).await.map_err(|error| self.other(error))?;
        let status = response.status();
        let body = self.whole(response.into_body(), MAX_ANSWER_BYTES).await?;
        if status.is_success() {
            return Ok(body);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(Failed::Token(self.address));
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = problem["error"].as_str().map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
        Err(Failed::Refused { status, why })
    }
}

/// A value in a query, percent-encoded.
pub fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_called_so_and_not_out_of_reach() {
        let address = "127.0.0.1:1".parse().unwrap();
        let operator = Operator { address, token: String::new(), calls_itself: None };
        let whole = async |bytes: usize| operator.whole(Full::new(Bytes::from(vec![0; bytes])), 10).await;
        assert_eq!(whole(10).await.unwrap().len(), 10);
        let failed = whole(11).await.unwrap_err();
        assert!(matches!(failed, Failed::TooLong(10)) && failed.exit() == Exit::Failed, "{failed}");
    }
}
