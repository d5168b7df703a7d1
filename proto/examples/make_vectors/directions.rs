//! Sequences of headers: each rule of PROTOCOL.md 3.3 broken once.

use proto::digest::Digest;
use proto::identifier::ExchangeId;
use proto::message::{Answer, Cause, Directions, End, Facts, Header, Operation};
use serde_json::{Value, json};

use crate::headers::{answer, following, opening};
use crate::{accept, refuse};

pub fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    let mut add = |name: &str, headers: &[&Header], step: Option<&str>| {
        let mut directions = Directions::default();
        let judged = headers.iter().try_for_each(|header| directions.take(header)).err().map(|refused| refused.step());
        assert_eq!(judged, step, "{name}");
        let headers: Vec<String> = headers.iter().map(|header| hex::encode(header.as_bytes())).collect();
        let input = json!({ "headers": headers });
        cases.push(match step {
            None => accept(name, input, json!({})),
            Some(step) => refuse(name, input, step),
        });
    };
    let whole = Header::new(opening());
    let first = Header::new(Facts { end: None, ..opening() });
    let next = |before: &Header, change: &dyn Fn(&mut Facts)| {
        let mut facts = following(before);
        change(&mut facts);
        Header::new(facts)
    };
    let answering = |opening: &Header, change: &dyn Fn(&mut Facts)| {
        let mut facts = answer(opening);
        change(&mut facts);
        Header::new(facts)
    };
    let handed_on = |facts: &mut Facts, count: u64| {
        facts.answer = facts.answer.map(|answer| Answer { handed_on: count, ..answer });
    };
    let second = next(&first, &|_| ());
    let third = next(&second, &|facts| facts.end = Some(End::HalfClose));
    let begun = answering(&first, &|facts| facts.end = None);
    let goes_on = next(&begun, &|facts| handed_on(facts, 2));
    let ended = next(&goes_on, &|facts| {
        handed_on(facts, 3);
        facts.end = Some(End::Trailers { commitment: Digest::of(&[b"trailers"]), status: 0 });
    });

    add("a unary call", &[&whole, &answering(&whole, &|_| ())], None);
    add("a request alone", &[&first, &second, &third], None);
    add("a stream both ways", &[&first, &begun, &second, &goes_on, &third, &ended], None);
    add("an answer that ends before its request", &[&first, &answering(&first, &|_| ()), &second, &third], None);
    add("an answer before anything was handed on", &[&first, &answering(&first, &|facts| handed_on(facts, 0))], None);
    add(
        "an abort on both sides",
        &[
            &first,
            &answering(&first, &|facts| facts.end = Some(End::Abort(Cause::Forbidden))),
            &next(&first, &|facts| facts.end = Some(End::Abort(Cause::Answered))),
        ],
        None,
    );

    add("a message missing", &[&first, &third], Some("3.3.1"));
    add("a beginning missing", &[&second], Some("3.3.1"));
    add("the same message twice", &[&first, &first], Some("3.3.1"));
    add("a position left out", &[&first, &next(&first, &|facts| facts.position = 2)], Some("3.3.1"));
    add(
        "another message before it",
        &[&first, &next(&first, &|facts| facts.previous = Some(Digest::of(&[b"another"])))],
        Some("3.3.1"),
    );
    add(
        "the answer's message as the one before",
        &[&first, &begun, &next(&first, &|facts| facts.previous = Some(begun.digest()))],
        Some("3.3.1"),
    );
    add(
        "two messages at one position",
        &[&first, &second, &next(&first, &|facts| facts.pieces.clone_from(&begun.pieces))],
        Some("3.3.1"),
    );
    add(
        "another route in a later message",
        &[
            &first,
            &next(&first, &|facts| {
                facts.route.operation = Operation::Grpc("/civil.v1.Births/Remove".parse().expect("of the grammar"));
            }),
        ],
        Some("3.3.2"),
    );
    add(
        "another exchange in a later message",
        &[&first, &next(&first, &|facts| facts.exchange = ExchangeId::from_bytes([8; 16]))],
        Some("3.3.2"),
    );
    add("another attempt in a later message", &[&first, &next(&first, &|facts| facts.attempt = 2)], Some("3.3.2"));
    add(
        "another server in the answer",
        &[
            &first,
            &answering(&first, &|facts| {
                facts.route.provider_server = "VN/GOV/moj/ss2".parse().expect("of the grammar")
            }),
        ],
        Some("3.3.2"),
    );
    add("another attempt in the answer", &[&first, &answering(&first, &|facts| facts.attempt = 2)], Some("3.3.2"));
    add("an answer without its request", &[&answering(&first, &|_| ())], Some("3.3.3"));
    add("an answer to another opening", &[&first, &answering(&whole, &|_| ())], Some("3.3.3"));
    add("more handed on than was asked", &[&first, &answering(&first, &|facts| handed_on(facts, 2))], Some("3.3.3"));
    add("fewer handed on than before", &[&first, &begun, &next(&begun, &|facts| handed_on(facts, 0))], Some("3.3.3"));
    add(
        "a later message to another opening",
        &[
            &first,
            &begun,
            &next(&begun, &|facts| {
                facts.answer = facts.answer.map(|answer| Answer { opening: whole.digest(), ..answer });
            }),
        ],
        Some("3.3.3"),
    );
    add(
        "an answer that says handed on what comes after it",
        &[&first, &answering(&first, &|facts| handed_on(facts, 2)), &second],
        Some("3.3.3"),
    );
    add(
        "another attempt at a position left out",
        &[
            &first,
            &next(&first, &|facts| {
                facts.position = 2;
                facts.attempt = 2;
            }),
        ],
        Some("3.3.1"),
    );
    add(
        "another attempt and another opening in the answer",
        &[&first, &answering(&whole, &|facts| facts.attempt = 2)],
        Some("3.3.2"),
    );
    add("a later answer without its request", &[&goes_on], Some("3.3.1"));
    add("the last message twice", &[&whole, &whole], Some("3.3.4"));
    add("another attempt after the end", &[&whole, &next(&whole, &|facts| facts.attempt = 2)], Some("3.3.4"));
    add("a message after a half-close", &[&whole, &next(&whole, &|_| ())], Some("3.3.4"));
    let done = answering(&first, &|_| ());
    add("a message after the trailers", &[&first, &done, &next(&done, &|_| ())], Some("3.3.4"));
    let broken = next(&first, &|facts| facts.end = Some(End::Abort(Cause::Cancelled)));
    add(
        "an end after an abort",
        &[&first, &broken, &next(&broken, &|facts| (facts.pieces, facts.end) = (vec![], Some(End::HalfClose)))],
        Some("3.3.4"),
    );
    cases
}
