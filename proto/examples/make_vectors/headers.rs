//! Headers: each rule of PROTOCOL.md 3.1 and 3.2 broken once, alone.

use bytes::Bytes;
use prost::Message;
use proto::commitment;
use proto::digest::Digest;
use proto::identifier::ExchangeId;
use proto::message::{Answer, Cause, ConfigurationVersion, Direction, End, Facts, Header, Opening, Operation, Route};
use proto::time::Time;
use proto::wire::relay as wire;
use serde_json::{Value, json};

use crate::{accept, facts, refuse};

/// The opening of a birth's registration.
pub fn opening() -> Facts {
    Facts {
        route: Route {
            instance: "VN".parse().expect("of the grammar"),
            consumer: "VN/GOV/portal/one-stop".parse().expect("of the grammar"),
            consumer_server: "VN/GOV/portal/ss1".parse().expect("of the grammar"),
            provider: "VN/GOV/moj/civil-registry".parse().expect("of the grammar"),
            provider_server: "VN/GOV/moj/ss1".parse().expect("of the grammar"),
            operation: Operation::Grpc("/civil.v1.Births/Register".parse().expect("of the grammar")),
        },
        exchange: ExchangeId::from_bytes([7; 16]),
        attempt: 1,
        direction: Direction::Request,
        position: 0,
        time: Time::from_millis(1_800_000_000_000),
        configuration: ConfigurationVersion { version: 3, digest: Digest::of(&[b"timestamp"]) },
        opening: Some(Opening {
            purpose: "birth-registration".into(),
            legal_basis: "Law 60/2014/QH13 art. 16".into(),
            subject: "p-5f1c".into(),
            represented_party: String::new(),
            timeout_ms: Some(30_000),
        }),
        answer: None,
        previous: None,
        metadata: Some(Digest::of(&[b"metadata"])),
        pieces: vec![Digest::of(&[b"piece"])],
        end: Some(End::HalfClose),
        removed: None,
    }
}

/// A message after one in the same direction.
pub fn following(before: &Header) -> Facts {
    Facts {
        position: before.position + 1,
        opening: None,
        previous: Some(before.digest()),
        metadata: None,
        pieces: vec![Digest::of(&[b"next piece"])],
        end: None,
        ..(**before).clone()
    }
}

/// The answer to an opening, whole in one message.
pub fn answer(opening: &Header) -> Facts {
    Facts {
        direction: Direction::Answer,
        position: 0,
        opening: None,
        answer: Some(Answer { opening: opening.digest(), handed_on: 1 }),
        end: Some(End::Trailers { commitment: Digest::of(&[b"trailers"]), status: 0 }),
        ..(**opening).clone()
    }
}

pub fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    accepted(&mut cases);
    ambiguous(&mut cases);
    misshapen(&mut cases);
    cases
}

fn accepted(cases: &mut Vec<Value>) {
    let first = Header::new(opening());
    let mut add = |name: &str, facts: Facts| {
        let header = Header::new(facts);
        cases.push(accept(name, json!({ "header": hex::encode(header.as_bytes()) }), facts::of(&header)));
    };
    let with = |mut facts: Facts, change: &dyn Fn(&mut Facts)| {
        change(&mut facts);
        facts
    };
    add("the opening of a unary call", opening());
    add("an opening without a piece or end", with(opening(), &|facts| (facts.pieces, facts.end) = (vec![], None)));
    add(
        "an opening that says nothing is an empty message field",
        with(opening(), &|facts| facts.opening = Some(Opening::default())),
    );
    add(
        "an opening at time 0, version 0",
        with(opening(), &|facts| {
            (facts.time, facts.configuration.version) = (Time::from_millis(0), 0);
        }),
    );
    add(
        "an HTTP operation",
        with(opening(), &|facts| {
            facts.route.operation = Operation::Http { verb: "GET".into(), target: "/r1/births/9?x=%2F".into() };
        }),
    );
    add(
        "a second attempt, over another server",
        with(opening(), &|facts| {
            facts.attempt = 2;
            facts.route.provider_server = "VN/GOV/moj/ss2".parse().expect("of the grammar");
        }),
    );
    add(
        "texts of an opening in Vietnamese",
        with(opening(), &|facts| {
            facts.opening = Some(Opening { purpose: "khai sinh, đăng ký hộ tịch".into(), ..Default::default() });
        }),
    );
    add(
        "numbers at the ends of their ranges",
        with(following(&first), &|facts| {
            (facts.attempt, facts.position, facts.time) = (u32::MAX, u64::MAX, Time::from_millis(u64::MAX));
        }),
    );
    add("a later message with a piece", following(&first));
    add(
        "a later message with 64 pieces",
        with(following(&first), &|facts| {
            facts.pieces = (0..64u8).map(|n| Digest::of(&[&[n]])).collect();
        }),
    );
    add(
        "a later message with an end alone",
        with(following(&first), &|facts| {
            (facts.pieces, facts.end) = (vec![], Some(End::HalfClose));
        }),
    );
    add("an aborted request", with(following(&first), &|facts| facts.end = Some(End::Abort(Cause::Cancelled))));
    add("an answer in one message", answer(&first));
    add("an answer without metadata", with(answer(&first), &|facts| facts.metadata = None));
    add(
        "an aborted answer",
        with(answer(&first), &|facts| {
            (facts.pieces, facts.end) = (vec![], Some(End::Abort(Cause::Forbidden)));
        }),
    );
    add(
        "a minimised answer",
        with(answer(&first), &|facts| facts.removed = Some(commitment::removed(&[5; 32], b"what was removed"))),
    );
    add(
        "a refusal",
        with(answer(&first), &|facts| {
            (facts.metadata, facts.pieces, facts.end) = (None, vec![], Some(End::Refused("GRANT_MISSING".into())));
            facts.answer = facts.answer.map(|answer| Answer { handed_on: 0, ..answer });
        }),
    );
}

/// What has a second reading, or none (3.1).
fn ambiguous(cases: &mut Vec<Value>) {
    let header = Header::new(opening()).as_bytes().to_vec();
    let mut add = |name: &str, bytes: Vec<u8>, step: &str| {
        assert!(Header::parse(bytes.clone().into()).is_err(), "{name}");
        cases.push(refuse(name, json!({ "header": hex::encode(bytes) }), step));
    };
    let fields = fields_of(&header);
    let at = |number: u32| fields.iter().position(|(field, _)| *field == number).expect("the field is in this header");
    let join = |fields: &[(u32, Vec<u8>)]| fields.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>();
    let replaced = |number: u32, by: &[u8]| {
        let mut fields = fields.clone();
        fields[at(number)].1 = by.to_vec();
        join(&fields)
    };
    let twice = |number: u32| {
        let mut fields = fields.clone();
        fields.insert(at(number), fields[at(number)].clone());
        join(&fields)
    };
    let with_route = |route: Vec<u8>| replaced(1, &[&[0x0a], &length(route.len())[..], &route].concat());
    let mut route = &fields[at(1)].1[1..];
    varint(&mut route);

    let mut swapped = fields.clone();
    swapped.swap(at(3), at(4));
    add("fields out of order", join(&swapped), "3.1.1");
    let mut apart = fields.clone();
    apart.push(fields[at(12)].clone());
    add("entries of a repeated field apart", join(&apart), "3.1.1");
    let mut route_fields = fields_of(route);
    route_fields.swap(0, 1);
    add("fields out of order inside the route", with_route(join(&route_fields)), "3.1.1");
    add("an unknown field", [&header[..], &[0xa8, 0x06, 0x01]].concat(), "3.1.2");
    add("an unknown field inside the route", with_route([route, &[0xa8, 0x06, 0x01]].concat()), "3.1.2");
    add("a repeated scalar field: the attempt", twice(3), "3.1.2");
    add("a repeated bytes field: the exchange", twice(2), "3.1.2");
    add("a repeated message field: the route", twice(1), "3.1.2");
    add("a repeated message field: the end", twice(13), "3.1.2");
    let both = [route, &[0x3a, 0x08, 0x0a, 0x03, b'G', b'E', b'T', 0x12, 0x01, b'/']].concat();
    add("both fields of the operation's oneof", with_route(both), "3.1.2");
    add("a zero byte after the end", [&header[..], &[0]].concat(), "3.1.2");
    add(
        "the position 0, written",
        [join(&fields[..=at(4)]), vec![0x28, 0x00], join(&fields[at(4) + 1..])].concat(),
        "3.1.3",
    );
    add(
        "an empty previous, written",
        [join(&fields[..at(11)]), vec![0x52, 0x00], join(&fields[at(11)..])].concat(),
        "3.1.3",
    );
    add("a long varint as value", replaced(3, &[0x18, 0x81, 0x00]), "3.1.4");
    add("a long varint as tag", replaced(3, &[0x98, 0x00, 0x01]), "3.1.4");
    add("a long varint as length", replaced(2, &[&[0x12, 0x90, 0x00][..], &fields[at(2)].1[2..]].concat()), "3.1.4");
    add("an attempt of 2^32 + 1", replaced(3, &[0x18, 0x81, 0x80, 0x80, 0x80, 0x10]), "3.1.4");
    add("a header cut off", header[..header.len() - 3].to_vec(), "3.1.5");
    add("a field of another wire type", replaced(3, &[0x1d, 1, 0, 0, 0]), "3.1.5");
    add(
        "a text that is not UTF-8",
        {
            let mut bytes = header.clone();
            let purpose = bytes.windows(5).position(|five| five == b"birth").expect("the purpose is there");
            bytes[purpose] = 0xff;
            bytes
        },
        "3.1.5",
    );
    add(
        "a varint without an end",
        replaced(3, &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "3.1.5",
    );
}

/// What reads one way and breaks a rule of 3.2.
fn misshapen(cases: &mut Vec<Value>) {
    let first = Header::new(opening());
    let request = decoded(&opening());
    let later = decoded(&following(&first));
    let answer = decoded(&answer(&first));
    let mut add = |name: &str, step: &str, base: &wire::Header, change: &dyn Fn(&mut wire::Header)| {
        let mut header = base.clone();
        change(&mut header);
        let bytes = header.encode_to_vec();
        let refused = Header::parse(bytes.clone().into()).expect_err(name);
        assert_eq!(refused.step(), step, "{name}: {refused}");
        cases.push(refuse(name, json!({ "header": hex::encode(bytes) }), step));
    };
    fn route(header: &mut wire::Header) -> &mut wire::Route {
        header.route.as_mut().expect("the base has one")
    }
    fn of_opening(header: &mut wire::Header) -> &mut wire::Opening {
        header.opening.as_mut().expect("the base has one")
    }
    let http = |verb: &str, target: &str| {
        Some(wire::route::Operation::Http(wire::HttpOperation { verb: verb.into(), target: target.into() }))
    };
    let path = |path: &str| Some(wire::route::Operation::GrpcPath(path.into()));
    let ended = |how| Some(wire::End { how: Some(how) });
    let trailers = || wire::end::How::Trailers(wire::Trailers { commitment: vec![1; 32].into(), status: 0 });
    let refused = |code: &str| wire::end::How::Refused(wire::Refused { code: code.into() });
    let abort = |cause| wire::end::How::Abort(wire::Abort { cause });
    let some_answer = || Some(wire::Answer { opening: vec![1; 32].into(), handed_on: 0 });

    add("no bytes", "3.2.1", &wire::Header::default(), &|_| ());
    add("no route", "3.2.1", &request, &|header| header.route = None);
    add("no configuration", "3.2.1", &request, &|header| header.configuration = None);
    add("no exchange", "3.2.1", &request, &|header| header.exchange = Bytes::new());
    add("an exchange of 15 bytes", "3.2.1", &request, &|header| header.exchange = vec![7; 15].into());
    add("an exchange of 17 bytes", "3.2.1", &request, &|header| header.exchange = vec![7; 17].into());
    add("no direction", "3.2.1", &request, &|header| header.direction = 0);
    add("direction 3", "3.2.1", &request, &|header| header.direction = 3);
    add("no operation", "3.2.1", &request, &|header| route(header).operation = None);
    add("attempt 0", "3.2.1", &request, &|header| header.attempt = 0);
    for (name, subsystem) in [
        ("a consumer of three segments", "VN/GOV/portal"),
        ("a consumer of five segments", "VN/GOV/portal/one-stop/x"),
        ("a segment of 65 bytes", &format!("VN/GOV/portal/{}", "a".repeat(65))),
        ("an empty segment", "VN/GOV//one-stop"),
        ("a segment that begins with a dot", "VN/GOV/portal/.one-stop"),
        ("a segment with a letter beyond ASCII", "VN/GOV/portal/hộ-tịch"),
        ("a segment with a percent sign", "VN/GOV/portal/one%2Dstop"),
        ("a segment with a space at its end", "VN/GOV/portal/one-stop "),
        ("a segment with a line end at its end", "VN/GOV/portal/one-stop\n"),
    ] {
        add(name, "3.2.1", &request, &|header| route(header).consumer = subsystem.into());
    }
    add("an instance of two segments", "3.2.1", &request, &|header| route(header).instance = "VN/GOV".into());
    add("a consumer of another instance", "3.2.1", &request, &|header| {
        route(header).consumer = "EE/GOV/portal/one-stop".into();
    });
    add("a provider of an instance whose name is longer", "3.2.1", &request, &|header| {
        route(header).provider = "VN2/GOV/moj/civil-registry".into();
    });
    add("a server of an instance in other letters", "3.2.1", &request, &|header| {
        route(header).provider_server = "vn/GOV/moj/ss1".into();
    });
    for (name, bad) in [
        ("a path without a slash before", "civil.v1.Births/Register"),
        ("an empty path, written as a oneof's field is", ""),
        ("a path without a method", "/civil.v1.Births/"),
        ("a path with a slash at its end", "/civil.v1.Births/Register/"),
        ("a path with two slashes", "/civil.v1.Births//Register"),
        ("a path with a query", "/civil.v1.Births/Register?x"),
        ("a path with an escape", "/civil.v1.Births/Regis%74er"),
        ("a path with dots upwards", "/../Register"),
        ("a method that begins with a digit", "/civil.v1.Births/1Register"),
        ("a method with a dot", "/civil.v1.Births/Reg.ister"),
        ("a path with a line end at its end", "/civil.v1.Births/Register\n"),
        ("a path of 257 bytes", &format!("/{}/M", "a".repeat(254))),
    ] {
        add(name, "3.2.1", &request, &|header| route(header).operation = path(bad));
    }
    for (name, verb, target) in [
        ("an HTTP verb in lower case", "get", "/r1"),
        ("an empty HTTP verb", "", "/r1"),
        ("an HTTP verb of 17 letters", "GETGETGETGETGETGE", "/r1"),
        ("an HTTP target without a slash before", "GET", "r1"),
        ("an HTTP target with a space", "GET", "/r1 x"),
        ("an HTTP target with a letter beyond ASCII", "GET", "/hộ"),
        ("an HTTP target of 8,193 bytes", "GET", &format!("/{}", "a".repeat(8192))),
    ] {
        add(name, "3.2.1", &request, &|header| route(header).operation = http(verb, target));
    }
    add("an opening missing", "3.2.2", &request, &|header| header.opening = None);
    add("an opening past position 0", "3.2.2", &later, &|header| header.opening = Some(wire::Opening::default()));
    add("an opening in an answer", "3.2.2", &answer, &|header| header.opening = Some(wire::Opening::default()));
    add("an answer's facts in a request", "3.2.2", &request, &|header| header.answer = some_answer());
    add("an answer's facts missing in an answer", "3.2.2", &answer, &|header| header.answer = None);
    add("a previous at position 0", "3.2.3", &request, &|header| header.previous = vec![1; 32].into());
    add("no previous past position 0", "3.2.3", &later, &|header| header.previous = Bytes::new());
    add("metadata past position 0", "3.2.3", &later, &|header| header.metadata = vec![1; 32].into());
    add("no metadata in a request's message 0", "3.2.3", &request, &|header| header.metadata = Bytes::new());
    add("a later message that says nothing", "3.2.4", &later, &|header| header.pieces.clear());
    add("65 pieces", "3.2.4", &later, &|header| header.pieces = vec![Bytes::from_static(&[1; 32]); 65]);
    add("what was removed of a request", "3.2.4", &request, &|header| header.removed = vec![1; 32].into());
    add("what was removed of an answer without pieces", "3.2.4", &answer, &|header| {
        (header.pieces, header.removed) = (vec![], vec![1; 32].into());
    });
    add("an end that says not how", "3.2.5", &later, &|header| header.end = Some(wire::End { how: None }));
    add("trailers in a request", "3.2.5", &later, &|header| header.end = ended(trailers()));
    add("a refusal in a request", "3.2.5", &later, &|header| header.end = ended(refused("GRANT_MISSING")));
    add("a half-close in an answer", "3.2.5", &answer, &|header| {
        header.end = ended(wire::end::How::HalfClose(wire::HalfClose {}));
    });
    add("an abort without a cause", "3.2.5", &later, &|header| header.end = ended(abort(0)));
    add("an abort with a cause of no list", "3.2.5", &later, &|header| header.end = ended(abort(99)));
    add("a refusal's code of 65 bytes", "3.2.5", &answer, &|header| header.end = ended(refused(&"A".repeat(65))));
    add("a purpose of 257 bytes", "3.2.5", &request, &|header| of_opening(header).purpose = "a".repeat(257));
    add("a subject of 86 letters of 3 bytes", "3.2.5", &request, &|header| of_opening(header).subject = "ộ".repeat(86));
    add("a legal basis with a line end", "3.2.5", &request, &|header| of_opening(header).legal_basis = "a\nb".into());
    add("a represented party with a DEL", "3.2.5", &request, &|header| {
        of_opening(header).represented_party = "a\u{7f}".into();
    });
    add("a purpose with a control of U+0080 to U+009F", "3.2.5", &request, &|header| {
        of_opening(header).purpose = "a\u{85}".into();
    });
    add("a configuration's digest missing", "3.2.6", &request, &|header| {
        header.configuration.as_mut().expect("the base has one").digest = Bytes::new();
    });
    add("a configuration's digest of 31 bytes", "3.2.6", &request, &|header| {
        header.configuration.as_mut().expect("the base has one").digest = vec![1; 31].into();
    });
    add("a previous of 33 bytes", "3.2.6", &later, &|header| header.previous = vec![1; 33].into());
    add("a removed of 31 bytes", "3.2.6", &answer, &|header| header.removed = vec![1; 31].into());
    add("metadata of 20 bytes", "3.2.6", &request, &|header| header.metadata = vec![1; 20].into());
    add("an empty piece", "3.2.6", &request, &|header| header.pieces = vec![Bytes::new()]);
    add("an answered opening of 31 bytes", "3.2.6", &answer, &|header| {
        header.answer.as_mut().expect("the base has one").opening = vec![1; 31].into();
    });
    add("trailers without a commitment", "3.2.6", &answer, &|header| {
        header.end = ended(wire::end::How::Trailers(wire::Trailers::default()));
    });
    add("a header of more than 16,384 bytes", "3.2.7", &request, &|header| {
        route(header).operation = http("GET", &format!("/{}", "a".repeat(17_000)));
    });
}

fn decoded(facts: &Facts) -> wire::Header {
    wire::Header::decode(Header::new(facts.clone()).as_bytes().clone()).expect("it was just encoded")
}

/// The fields of a message as their numbers and whole bytes.
fn fields_of(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let start = bytes;
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => _ = varint(&mut bytes),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("short");
                bytes = &bytes[length..];
            }
            other => panic!("headers have no wire type {other}"),
        }
        fields.push((u32::try_from(tag >> 3).expect("small"), start[..start.len() - bytes.len()].to_vec()));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    prost::encoding::decode_varint(bytes).expect("it was just encoded")
}

fn length(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes
}
