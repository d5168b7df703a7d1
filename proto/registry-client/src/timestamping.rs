//! Asks a timestamping authority (PROTOCOL.md 16) over HTTP, or the registry's own at the registry's door. What is returned was
//! checked; what an authority says of itself is believed nowhere.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use proto::digest::Digest;
use proto::global_configuration::{HttpAddress, TimestampingAuthority};
use proto::registration::Address;
use proto::signature::KeyId;
use proto::time::Time;
use proto::timestamp::{self, MAX_ANSWER_BYTES, Query, Stamped};
use proto::wire::registry as wire;
use tokio::net::TcpStream;

use crate::{Fingerprint, TimestampingClient};

/// How long one authority may take.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an authority gave no token that holds.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// It is asked at the registry, and there is none to ask.
    #[error("no registry is known here")]
    NoRegistry,
    /// It did not answer in time.
    #[error("no answer within {} seconds", ASK_TIMEOUT.as_secs())]
    Late,
    /// The registry.
    #[error(transparent)]
    Registry(#[from] crate::NoConnection),
    /// What the registry said.
    #[error("the registry answers {0}; has it a timestamping authority?")]
    Status(Box<tonic::Status>),
    /// The way to it.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It answered, and with no timestamp.
    #[error("it answers {0} and no timestamp")]
    Http(String),
    /// Its answer was checked.
    #[error("its answer is no timestamp of ours: {0}")]
    NotATimestamp(#[from] timestamp::NotATimestamp),
}

impl NoToken {
    /// What to do, once this machine's clock and its way to the registry are known to be good.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotATimestamp(timestamp::NotATimestamp::Time { .. }) => {
                "this machine's clock was found to be right: tell the authority's operator that theirs is not"
            }
            Self::NotATimestamp(_) => {
                "have the registry's admin compare certificate and policy in [[timestamping]] of central-registry.toml with what \
                 the authority's operator says"
            }
            _ => {
                "ask the authority's operator whether it runs; look for a firewall between; or have the registry's admin correct its address"
            }
        }
    }
}

/// A token of this authority over bytes with this digest, checked by the clock of its arrival. `registry`: where the registry's
/// own authority is asked.
pub async fn token(
    authority: &TimestampingAuthority,
    imprint: Digest,
    registry: Option<(&Address, Fingerprint)>,
    is_revoked: &(dyn Fn(&KeyId) -> bool + Sync),
    now: &(dyn Fn() -> Time + Sync),
) -> Result<(Bytes, Stamped), NoToken> {
    let mut nonce = [0; timestamp::NONCE_BYTES];
    SystemRandom::new().fill(&mut nonce).expect("the system's random source works, or nothing does");
    let query = Query::new(imprint, nonce);
    let asking = async {
        match &authority.address {
            Some(address) => over_http(address, query.to_der()).await,
            None => at_the_registry(registry.ok_or(NoToken::NoRegistry)?, query.to_der()).await,
        }
    };
    let answer = tokio::time::timeout(ASK_TIMEOUT, asking).await.map_err(|_| NoToken::Late)??;
    let approved = std::slice::from_ref(&authority.approved);
    let (token, stamped) = timestamp::accept(&answer, &query, approved, is_revoked, now())?;
    Ok((answer.slice_ref(token), stamped))
}

async fn at_the_registry((address, key): (&Address, Fingerprint), query: Vec<u8>) -> Result<Bytes, NoToken> {
    let channel = crate::connect(address, key).await?;
    let mut client = TimestampingClient::new(channel).max_decoding_message_size(2 * MAX_ANSWER_BYTES);
    let answered = client.stamp(wire::TimestampQuery { query: query.into() }).await;
    Ok(answered.map_err(|status| NoToken::Status(Box::new(status)))?.into_inner().answer)
}

/// RFC 3161 section 3.4.
async fn over_http(address: &HttpAddress, query: Vec<u8>) -> Result<Bytes, NoToken> {
    let unreachable = |error: &dyn fmt::Display| NoToken::Unreachable(error.to_string());
    let stream = TcpStream::connect(address.host.as_str()).await.map_err(|error| unreachable(&error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let request = http::Request::post(&address.path)
        .header(http::header::HOST, address.host.as_str())
        .header(http::header::CONTENT_TYPE, "application/timestamp-query")
        .body(Full::new(Bytes::from(query)))
        .map_err(|error| unreachable(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let kind = response.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if response.status() != http::StatusCode::OK || kind != Some("application/timestamp-reply") {
            let kind = kind.unwrap_or("without a content type").chars().take(80).collect::<String>();
            return Err(NoToken::Http(format!("{} ({kind})", response.status())));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| unreachable(&error))
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! { biased;
        answer = &mut exchange => answer,
        // It may have ended with the answer already there.
        _ = &mut connection => exchange.await,
    }
}
