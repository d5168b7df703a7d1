//! What a header says, as the vectors write it in JSON.

use proto::digest::Digest;
use proto::message::{Direction, End, Facts, Header, Operation};
use serde_json::{Value, json};

/// The facts of a header and its digest.
pub fn of(header: &Header) -> Value {
    let facts: &Facts = header;
    let route = &facts.route;
    let hex = |digest: &Digest| digest.to_string();
    let mut said = json!({
        "digest": hex(&header.digest()),
        "route": {
            "instance": route.instance.as_str(),
            "consumer": route.consumer.as_str(),
            "consumer_server": route.consumer_server.as_str(),
            "provider": route.provider.as_str(),
            "provider_server": route.provider_server.as_str(),
            "operation": match &route.operation {
                Operation::Grpc(path) => json!({ "grpc_path": path.as_str() }),
                Operation::Http { verb, target } => json!({ "http": { "verb": verb, "target": target } }),
            },
        },
        "exchange": facts.exchange.to_string(),
        "attempt": facts.attempt,
        "direction": match facts.direction { Direction::Request => 1, Direction::Answer => 2 },
        "position": facts.position,
        "time": facts.time.as_millis(),
        "configuration": { "version": facts.configuration.version, "digest": hex(&facts.configuration.digest) },
        "opening": facts.opening.as_ref().map(|opening| json!({
            "purpose": opening.purpose,
            "legal_basis": opening.legal_basis,
            "subject": opening.subject,
            "represented_party": opening.represented_party,
            "timeout_ms": opening.timeout_ms.unwrap_or(0),
        })),
        "answer": facts.answer.map(|answer| json!({
            "opening": hex(&answer.opening),
            "handed_on": answer.handed_on,
        })),
        "previous": facts.previous.as_ref().map(hex),
        "metadata": facts.metadata.as_ref().map(hex),
        "pieces": facts.pieces.iter().map(hex).collect::<Vec<_>>(),
        "end": facts.end.as_ref().map(|end| match end {
            End::HalfClose => json!({ "half_close": {} }),
            End::Trailers { commitment, status } => {
                json!({ "trailers": { "commitment": hex(commitment), "status": status } })
            }
            End::Abort(cause) => json!({ "abort": { "cause": *cause as i32 } }),
            End::Refused(code) => json!({ "refused": { "code": code } }),
        }),
    });
    if let Some(removed) = &facts.removed {
        said["removed"] = json!(hex(removed));
    }
    said
}
