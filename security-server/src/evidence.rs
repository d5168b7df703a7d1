//! Evidence out of this server's log: what it sealed and what it received in one exchange, for anyone to verify.

use journal::Entry;
use proto::evidence::{EvidenceFile, Kept};
use proto::identifier::{ExchangeId, ServerId};
use proto::message::{Direction, End, Header};
use proto::record::Kind;
use proto::seal::Sender;
use proto::wire::relay as wire;
use serde::Serialize;

use crate::SecurityServer;
use crate::message_log::is_withheld;

/// A message out of the log, with what proves it.
struct Logged {
    header: Header,
    seal: wire::Seal,
    genesis: bytes::Bytes,
    sent: bool,
}

/// Reads a record of the log. None for what is no message, and for a message whose seal is not on this disk.
fn logged(entry: &Entry, geneses: &[(proto::record::TreeName, bytes::Bytes)]) -> Option<Logged> {
    let body = entry.record.body();
    match entry.record.kind() {
        Kind::Sent => {
            let genesis = geneses.iter().find(|(tree, _)| *tree == entry.tree)?.1.clone();
            Some(Logged { header: Header::parse(body).ok()?, seal: entry.seal.clone()?, genesis, sent: true })
        }
        Kind::Received if body.len() > 32 && is_withheld(entry).is_none() => {
            let beside = <wire::Frame as prost::Message>::decode(entry.beside.clone()).ok()?;
            let header = Header::parse(body.slice(32..)).ok()?;
            Some(Logged { header, seal: beside.seal?, genesis: beside.genesis, sent: false })
        }
        _ => None,
    }
}

/// What this server sealed in an exchange with `peer`, as frames without their payload.
pub(crate) fn sealed_frames(records: Vec<Entry>, peer: &ServerId) -> Vec<wire::Frame> {
    let geneses = geneses(&records);
    let ours = records.iter().filter_map(|entry| logged(entry, &geneses)).filter(|logged| logged.sent);
    ours.filter(|logged| {
        let other = match logged.header.direction {
            Direction::Request => &logged.header.route.provider_server,
            Direction::Answer => &logged.header.route.consumer_server,
        };
        other == peer
    })
    .map(|logged| wire::Frame {
        exchange: bytes::Bytes::copy_from_slice(logged.header.exchange.as_bytes()),
        header: logged.header.as_bytes().clone(),
        seal: Some(logged.seal),
        payload: None,
        genesis: logged.genesis,
    })
    .collect()
}

fn geneses(records: &[Entry]) -> Vec<(proto::record::TreeName, bytes::Bytes)> {
    let mut geneses: Vec<(proto::record::TreeName, bytes::Bytes)> = Vec::new();
    for entry in records {
        if !geneses.iter().any(|(tree, _)| *tree == entry.tree) {
            geneses.push((entry.tree, entry.genesis.record.as_bytes().clone()));
        }
    }
    geneses
}

/// Why there is no evidence file.
#[derive(Debug, thiserror::Error)]
pub enum NoEvidence {
    /// The log's messages of this exchange are not all signed on disk yet.
    #[error("the log holds no sealed message of exchange {0}: its first commit is perhaps a second old, ask again")]
    NotSealed(ExchangeId),
    /// The file cannot be made.
    #[error(transparent)]
    File(#[from] proto::evidence::NoEvidence),
}

/// The evidence file of an exchange (PROTOCOL.md 7).
pub fn file(server: &SecurityServer, exchange: ExchangeId, records: &[Entry]) -> Result<Vec<u8>, NoEvidence> {
    let geneses = geneses(records);
    let logged: Vec<_> = records.iter().filter_map(|entry| logged(entry, &geneses)).collect();
    let first = logged.first().ok_or(NoEvidence::NotSealed(exchange))?;
    let member = match (first.sent, first.header.direction) {
        (true, Direction::Request) | (false, Direction::Answer) => first.header.route.consumer.member(),
        (true, Direction::Answer) | (false, Direction::Request) => first.header.route.provider.member(),
    };
    let holder = Sender { member, server: server.id.clone() };
    let messages =
        logged.into_iter().map(|logged| Kept::new(&logged.header, &logged.seal, logged.genesis, None)).collect();
    Ok(EvidenceFile::new(exchange, holder, &server.store.files(), messages)?.to_bytes())
}

/// One record of an exchange, for a screen.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Where it stands in the log.
    pub position: String,
    /// `sent`, `received`, `withheld` (received, and kept from our system) or `closed`.
    pub kind: &'static str,
    /// `request` or `answer`.
    pub direction: Option<&'static str>,
    /// Its place in the direction.
    pub number: Option<u64>,
    /// The sender's clock, RFC 3339.
    pub time: Option<String>,
    /// How it ends, if it does; for `closed`, the outcome.
    pub end: Option<String>,
}

/// The records of an exchange, one line each.
pub fn summary(records: &[Entry]) -> Vec<Line> {
    records.iter().filter_map(line).collect()
}

fn line(entry: &Entry) -> Option<Line> {
    let body = entry.record.body();
    let (kind, header) = match entry.record.kind() {
        Kind::Sent => ("sent", Header::parse(body).ok()?),
        Kind::Received if is_withheld(entry).is_some() => {
            let position = entry.position.to_string();
            return Some(Line { position, kind: "withheld", direction: None, number: None, time: None, end: None });
        }
        Kind::Received if body.len() > 32 => ("received", Header::parse(body.slice(32..)).ok()?),
        Kind::Closed => {
            let closed = <wire::Closed as prost::Message>::decode(body).ok()?;
            let end = Some(closed.outcome().as_str_name().to_lowercase());
            let position = entry.position.to_string();
            return Some(Line { position, kind: "closed", direction: None, number: None, time: None, end });
        }
        _ => return None,
    };
    Some(Line {
        position: entry.position.to_string(),
        kind,
        direction: Some(match header.direction {
            Direction::Request => "request",
            Direction::Answer => "answer",
        }),
        number: Some(header.position),
        time: Some(header.time.to_string()),
        end: header.end.as_ref().map(|end| match end {
            End::HalfClose => "half-close".into(),
            End::Trailers { status, .. } => format!("status {status}"),
            End::Abort(cause) => format!("abort {}", cause.as_str_name().to_lowercase()),
            End::Refused(code) => format!("refused {code}"),
        }),
    })
}
