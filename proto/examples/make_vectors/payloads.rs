//! Commitments and payloads.

use bytes::Bytes;
use prost::Message;
use proto::commitment::{Committer, Kind, Secret};
use proto::digest::Digest;
use proto::message::{Commitments, Contents, End, Facts, Fields, Header};
use proto::wire::relay as wire;
use serde_json::{Value, json};

use crate::headers::{answer, following, opening};
use crate::{accept, refuse};

/// The contents of a message, committed to: the header that says so, and the payload beside it.
pub fn committed(
    commitments: &mut Commitments,
    secret: [u8; 32],
    mut facts: Facts,
    contents: &Contents,
) -> (Header, Option<wire::Payload>) {
    let committed = commitments.commit(contents, || Secret::from_bytes(secret));
    (facts.metadata, facts.pieces) = (committed.metadata, committed.pieces);
    if let (Some(commitment), Some(End::Trailers { status, .. })) = (committed.trailers, &facts.end) {
        facts.end = Some(End::Trailers { commitment, status: *status });
    }
    (Header::new(facts), committed.payload)
}

pub fn field(name: &str, value: &str) -> (String, Bytes) {
    (name.into(), Bytes::copy_from_slice(value.as_bytes()))
}

pub fn piece(text: &str) -> Bytes {
    [&[0][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat().into()
}

type Messages = Vec<(Header, Option<wire::Payload>)>;

/// A request of three messages: metadata and two pieces, nothing, one piece and the end.
fn request() -> Messages {
    let mut commitments = Commitments::default();
    let secret = *Digest::of(&[b"secret of the request"]).as_bytes();
    let contents = Contents {
        metadata: Some(vec![field("x-trace", "1"), field("x-trace", "2")]),
        pieces: vec![piece("first"), Bytes::new()],
        trailers: None,
    };
    let first = committed(&mut commitments, secret, Facts { end: None, ..opening() }, &contents);
    let contents = Contents { metadata: None, pieces: vec![piece("second")], trailers: None };
    let second = committed(&mut commitments, secret, following(&first.0), &contents);
    let end = Facts { end: Some(End::HalfClose), ..following(&second.0) };
    let third = committed(&mut commitments, secret, end, &Contents::default());
    vec![first, second, third]
}

/// An answer of one message, with empty metadata and with trailers.
fn unary_answer() -> Messages {
    let contents = Contents {
        metadata: Some(Fields::new()),
        pieces: vec![piece("done")],
        trailers: Some(vec![field("grpc-status", "0")]),
    };
    let secret = *Digest::of(&[b"secret of the answer"]).as_bytes();
    vec![committed(&mut Commitments::default(), secret, answer(&Header::new(opening())), &contents)]
}

pub fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    let secret = Secret::from_bytes(*Digest::of(&[b"a secret"]).as_bytes());
    for (kind, bytes) in [
        (Kind::Metadata, &b""[..]),
        (Kind::Piece, b"\0\0\0\0\x05hello"),
        (Kind::Piece, b"123456789"),
        (Kind::Trailers, b"123456789"),
    ] {
        for n in [0, 1, 300] {
            let mut committer = Committer::new(&secret);
            let commitment = (0..=n).map(|_| committer.commit(kind, bytes)).last().expect("at least one");
            cases.push(accept(
                &format!("number {n}, flags {}, {} bytes", kind as u8, bytes.len()),
                json!({ "commitment": {
                    "secret": hex::encode(secret.as_bytes()), "n": n, "flags": kind as u8, "bytes": hex::encode(bytes),
                } }),
                json!({ "commitment": commitment.to_string() }),
            ));
        }
    }
    directions(&mut cases);
    cases
}

fn directions(cases: &mut Vec<Value>) {
    let mut add = |name: &str, messages: &Messages, step: Option<&str>| {
        let mut commitments = Commitments::default();
        let judged = messages
            .iter()
            .try_for_each(|(header, payload)| commitments.check(header, payload.clone()).map(|_| ()))
            .err()
            .map(|refused| refused.step());
        assert_eq!(judged, step, "{name}");
        let input: Vec<Value> = messages
            .iter()
            .map(|(header, payload)| {
                json!({
                    "header": hex::encode(header.as_bytes()),
                    "payload": payload.as_ref().map(|payload| hex::encode(payload.encode_to_vec())),
                })
            })
            .collect();
        let input = json!({ "direction": input });
        cases.push(match step {
            None => accept(name, input, json!({})),
            Some(step) => refuse(name, input, step),
        });
    };
    add("a request of three messages", &request(), None);
    add("an answer with empty metadata", &unary_answer(), None);
    add("a direction that commits to nothing", &vec![request().remove(2)], None);

    let mut changed =
        |name: &str, step: &str, base: fn() -> Messages, at: usize, change: &dyn Fn(&mut wire::Payload)| {
            let mut messages = base();
            change(messages[at].1.get_or_insert_default());
            add(name, &messages, Some(step));
        };
    changed("a piece too few", "3.5.1", request, 0, &|payload| _ = payload.pieces.pop());
    changed("a piece too many", "3.5.1", request, 0, &|payload| payload.pieces.push(Bytes::new()));
    changed("metadata where the header has none", "3.5.1", request, 1, &|payload| {
        payload.metadata = request()[0].1.clone().expect("it has one").metadata;
    });
    changed("trailers where the header has none", "3.5.1", request, 1, &|payload| {
        payload.trailers = request()[0].1.clone().expect("it has one").metadata;
    });
    changed("a piece where the header commits to nothing", "3.5.1", request, 2, &|payload| {
        payload.pieces.push(piece("more"));
    });
    changed("no secret", "3.5.2", request, 0, &|payload| payload.secret = Bytes::new());
    changed("a secret of 31 bytes", "3.5.2", request, 0, &|payload| payload.secret = vec![1; 31].into());
    changed("the secret once more", "3.5.2", request, 1, &|payload| {
        payload.secret = request()[0].1.clone().expect("it has one").secret;
    });
    changed("a secret where nothing is committed to", "3.5.2", request, 2, &|payload| {
        payload.secret = vec![1; 32].into()
    });
    changed("another secret", "3.5.3", request, 0, &|payload| payload.secret = vec![1; 32].into());
    changed("a byte of a piece changed", "3.5.3", request, 0, &|payload| payload.pieces[0] = piece("First"));
    changed("two pieces exchanged", "3.5.3", request, 0, &|payload| payload.pieces.swap(0, 1));
    changed("a later piece changed", "3.5.3", request, 1, &|payload| payload.pieces[0] = piece("third"));
    changed("fields in another order", "3.5.3", request, 0, &|payload| {
        payload.metadata = encoded(&[("x-trace", b"2"), ("x-trace", b"1")]);
    });
    changed("metadata withheld", "3.5.3", request, 0, &|payload| payload.metadata = Bytes::new());
    changed("trailers changed", "3.5.3", unary_answer, 0, &|payload| {
        payload.trailers = encoded(&[("grpc-status", b"5")]);
    });
    changed("metadata and trailers exchanged", "3.5.3", unary_answer, 0, &|payload| {
        std::mem::swap(&mut payload.metadata, &mut payload.trailers);
    });

    // Malformed, and committed to all the same: the commitments hold, 3.4 is broken.
    let mut committed_to = |name: &str, metadata: Bytes, pieces: Vec<Bytes>| {
        let secret = Secret::from_bytes([3; 32]);
        let mut committer = Committer::new(&secret);
        let facts = Facts {
            metadata: Some(committer.commit(Kind::Metadata, &metadata)),
            pieces: pieces.iter().map(|piece| committer.commit(Kind::Piece, piece)).collect(),
            ..opening()
        };
        let secret = Bytes::copy_from_slice(secret.as_bytes());
        let payload = wire::Payload { secret, metadata, pieces, trailers: Bytes::new() };
        add(name, &vec![(Header::new(facts), Some(payload))], Some("3.4"));
    };
    committed_to("a field's name in upper case", encoded(&[("X-Trace", b"1")]), vec![]);
    committed_to("an empty name of a field", encoded(&[("", b"1")]), vec![]);
    committed_to("a field's name with a colon", encoded(&[(":path", b"1")]), vec![]);
    committed_to("a field's name with a space", encoded(&[("x trace", b"1")]), vec![]);
    committed_to("a value with a line end", encoded(&[("x-trace", b"1\r\nx: 2")]), vec![]);
    committed_to("a value with a zero byte", encoded(&[("x-trace", b"1\0")]), vec![]);
    committed_to("a value with a DEL", encoded(&[("x-trace", b"\x7f")]), vec![]);
    committed_to("101 fields", encoded(&[("x-trace", &b"1"[..]); 101]), vec![]);
    committed_to("metadata of more than 16,384 bytes", encoded(&[("x-trace", &[b'a'; 16_384])]), vec![]);
    committed_to("metadata with trailing bytes", [&encoded(&[("x-trace", b"1")])[..], &[0]].concat().into(), vec![]);
    committed_to("metadata with an unknown field", Bytes::from_static(&[0x10, 0x01]), vec![]);
    committed_to("a piece of 65,537 bytes", Bytes::new(), vec![Bytes::from_static(&[0; 65_537])]);
}

fn encoded(fields: &[(&str, &[u8])]) -> Bytes {
    let fields = fields
        .iter()
        .map(|(name, value)| wire::Field { name: (*name).into(), value: Bytes::copy_from_slice(value) })
        .collect();
    wire::Metadata { fields }.encode_to_vec().into()
}
