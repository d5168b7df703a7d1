//! Fetching from a mirror: any web server with a copy of the published files. It is asked while the registry cannot be
//! followed, and believed nothing: each file is named by a file that was verified before it, and the whole goes through
//! [`Store::apply`] like what the registry pushes. So plain HTTP does; a mirror can only be behind, and for no longer than
//! a version holds.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use proto::digest::Digest;
use proto::global_configuration::update::{
    Files, MAX_ROLE_BYTES, MAX_ROOTS, MAX_TIMESTAMP_BYTES, MAX_TOTAL_BYTES, Rejected, TIMESTAMP,
};
use proto::registration::Address;
use tokio::net::TcpStream;

use super::{Applied, NotApplied, Store};
use crate::clock::Clock;

/// How long a mirror may take to answer: for the connection, and for each file.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a copy of the published files stands: `http://HOST`, `http://HOST:PORT` or `http://HOST:PORT/DIRECTORY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    address: Address,
    /// Empty, or a directory with a slash before it and none behind.
    directory: String,
}

/// Not where a mirror is.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no mirror; it is http://HOST, http://HOST:PORT or http://HOST:PORT/DIRECTORY. All that it serves is signed, \
     so it needs no TLS"
)]
pub struct NotAMirror(String);

impl FromStr for Mirror {
    type Err = NotAMirror;
    fn from_str(text: &str) -> Result<Self, NotAMirror> {
        let wrong = || NotAMirror(text.chars().take(200).collect());
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, directory) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b'%');
        if !directory.bytes().all(plain) {
            return Err(wrong());
        }
        // An address has a port; of a mirror it is 80 unless it is said.
        let ported = host.parse().or_else(|_| format!("{host}:80").parse());
        Ok(Self { address: ported.map_err(|_| wrong())?, directory: directory.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.directory)
    }
}

/// Why nothing of a mirror is in force.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    /// Nobody answers, or not in time.
    #[error("the mirror {mirror} cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        mirror: Mirror,
        /// Why.
        reason: String,
    },
    /// It answers something else than a file.
    #[error("the mirror {mirror} does not give {file}: {reason}")]
    NoFile {
        /// Which.
        mirror: Mirror,
        /// What was asked for.
        file: String,
        /// What it said.
        reason: String,
    },
    /// What it gives is no next version: it is old, not of one version, or not what was signed.
    #[error("the mirror {mirror} is refused: {why}")]
    Refused {
        /// Which.
        mirror: Mirror,
        /// Why.
        why: Rejected,
    },
    /// What it gives could not be made durable.
    #[error(transparent)]
    NotApplied(NotApplied),
}

/// Fetches what the mirror has and this server has not, and puts it in force.
pub(super) async fn fetch(mirror: &Mirror, store: &Arc<Store>, clock: &Clock) -> Result<Applied, NotFetched> {
    let refused = |why: Rejected| NotFetched::Refused { mirror: mirror.clone(), why };
    let mut line = Line { mirror, sender: None, left: MAX_TOTAL_BYTES };
    let mut files = Files::new();
    let mut root = store.next_root();
    while let Some(bytes) = line.get(&root, MAX_ROLE_BYTES).await? {
        if files.len() >= MAX_ROOTS {
            return Err(refused(Rejected::TooLarge { what: "roots".into(), found: files.len() + 1, most: MAX_ROOTS }));
        }
        files.insert(root.clone(), bytes);
        root = after(&root);
    }
    loop {
        let (kept, now) = (Arc::clone(store), clock.now());
        // Verifying takes a while: it is done beside the calls.
        let looked = tokio::task::spawn_blocking(move || (kept.lacking(&files, now), files)).await;
        let (lacking, looked) = looked.expect("looking does not panic, and nothing aborts it");
        files = looked;
        let lacking = lacking.map_err(refused)?;
        if lacking.is_empty() {
            break;
        }
        for file in lacking {
            let most = if file == TIMESTAMP { MAX_TIMESTAMP_BYTES } else { MAX_ROLE_BYTES };
            let bytes = line.get(&file, most).await?;
            let bytes = bytes.ok_or_else(|| refused(Rejected::Missing { file: file.clone() }))?;
            files.insert(file, bytes);
        }
    }
    let (kept, now) = (Arc::clone(store), clock.now());
    let applied = tokio::task::spawn_blocking(move || kept.apply(&files, now)).await;
    applied.expect("apply does not panic, and nothing aborts it").map_err(|error| match error {
        NotApplied::Rejected(why) => refused(why),
        other => NotFetched::NotApplied(other),
    })
}

/// What this SHA-256 names of the catalogue, if the mirror has it and it is no longer than this.
pub(crate) async fn content_of(mirror: &Mirror, digest: Digest, most: usize) -> Result<Option<Bytes>, NotFetched> {
    let name = digest.to_string();
    let file = format!("content/{}/{name}", &name[..2]);
    let mut line = Line { mirror, sender: None, left: most };
    let bytes = line.get(&file, most).await?;
    if bytes.as_ref().is_some_and(|bytes| Digest::of(&[bytes]) != digest) {
        let reason = "the file has other bytes than those of its name".to_owned();
        return Err(NotFetched::NoFile { mirror: mirror.clone(), file, reason });
    }
    Ok(bytes)
}

/// The name of the root after this one.
fn after(root: &str) -> String {
    let version: u64 = root.split('.').next().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX);
    proto::global_configuration::update::root_file(version.saturating_add(1))
}

/// A connection to a mirror, made when it is needed and again when the mirror closed it.
struct Line<'a> {
    mirror: &'a Mirror,
    sender: Option<SendRequest<Empty<Bytes>>>,
    /// How many bytes may come yet.
    left: usize,
}

impl Line<'_> {
    /// The file, if the mirror has it.
    async fn get(&mut self, file: &str, most: usize) -> Result<Option<Bytes>, NotFetched> {
        let (place, mirror) = (self.mirror, self.mirror.clone());
        let most = most.min(self.left);
        let no_file = |reason: String| NotFetched::NoFile { mirror, file: file.to_owned(), reason };
        let late = format!("no answer within {} seconds", PATIENCE.as_secs());
        let got = tokio::time::timeout(PATIENCE, async {
            let sender = self.ready().await?;
            Ok(ask(sender, place, file, most).await)
        });
        match got.await {
            Err(_) => Err(no_file(late)),
            Ok(Err(unreachable)) => Err(unreachable),
            Ok(Ok(Err(reason))) => Err(no_file(reason)),
            Ok(Ok(Ok(bytes))) => {
                self.left -= bytes.as_ref().map_or(0, Bytes::len);
                Ok(bytes)
            }
        }
    }

    async fn ready(&mut self) -> Result<&mut SendRequest<Empty<Bytes>>, NotFetched> {
        let open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !open {
            let unreachable = |reason: String| NotFetched::Unreachable { mirror: self.mirror.clone(), reason };
            let stream = TcpStream::connect(self.mirror.address.as_str());
            let stream = stream.await.map_err(|error| unreachable(error.to_string()))?;
            let (sender, connection) =
                handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
            // It ends when the sender is dropped.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("it was made just before"))
    }
}

async fn ask(
    sender: &mut SendRequest<Empty<Bytes>>,
    mirror: &Mirror,
    file: &str,
    most: usize,
) -> Result<Option<Bytes>, String> {
    let request = Request::get(format!("{}/{file}", mirror.directory))
        .header(header::HOST, mirror.address.as_str())
        .header(header::CACHE_CONTROL, "no-cache")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    match answer.status() {
        StatusCode::OK => {
            let body = Limited::new(answer.into_body(), most).collect().await;
            body.map(|body| Some(body.to_bytes())).map_err(|error| error.to_string())
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        other => Err(format!("it answers {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_host_and_perhaps_a_port_and_a_directory() {
        for (written, meant) in [
            ("http://mirror.gov.vn", "http://mirror.gov.vn:80"),
            ("http://mirror.gov.vn/", "http://mirror.gov.vn:80"),
            ("http://10.0.0.1:8080/causeway/vn/", "http://10.0.0.1:8080/causeway/vn"),
        ] {
            assert_eq!(written.parse::<Mirror>().unwrap().to_string(), meant);
        }
        for wrong in
            ["", "mirror.gov.vn", "https://mirror.gov.vn", "http://", "http://a b", "http://a/?b", "http://a/\r\nb"]
        {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong}");
        }
    }
}
