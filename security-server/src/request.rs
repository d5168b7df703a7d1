//! A request on a connection that is kept and shared, and that may close just when it is used. What the connection never
//! took is given to another one; what the other side says it never took is told from what nobody knows.

use std::error::Error;
use std::fmt::Display;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;

use crate::body::Outgoing;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum NoResponse {
    /// Not a byte of the request left.
    #[error("the connection closed before it took the request, and there is no other: {0}")]
    NotSent(String),
    /// The other side says that it took nothing of the request.
    #[error("the other side closes the connection, and took nothing of the request")]
    NotTaken,
    /// Nobody knows what became of it.
    #[error("{0}")]
    Broke(String),
}

/// Makes a request. Where the connection closed before it took it, the one that `again` finds is tried, and no third.
pub(crate) async fn ask<E: Display>(
    mut connection: SendRequest<Outgoing>,
    request: Request<Outgoing>,
    again: impl AsyncFnOnce() -> Result<SendRequest<Outgoing>, E> + Send,
) -> Result<Response<Incoming>, NoResponse> {
    let request = match connection.try_send_request(request).await {
        Ok(response) => return Ok(response),
        Err(mut error) => error.take_message().ok_or_else(|| NoResponse::of(error.into_error()))?,
    };
    let mut another = again().await.map_err(|error| NoResponse::NotSent(error.to_string()))?;
    another.send_request(request).await.map_err(NoResponse::of)
}

impl NoResponse {
    fn of(error: hyper::Error) -> Self {
        let said = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        let says = |reason| said.is_some_and(|said| said.is_remote() && said.reason() == Some(reason));
        let goes_away = says(h2::Reason::NO_ERROR) && said.is_some_and(h2::Error::is_go_away);
        if error.is_canceled() {
            Self::NotSent(error.to_string())
        } else if goes_away || says(h2::Reason::REFUSED_STREAM) {
            // RFC 9113, 8.7: a request that was refused so, or that comes after what GOAWAY says was taken, was not processed.
            Self::NotTaken
        } else {
            Self::Broke(error.to_string())
        }
    }
}
