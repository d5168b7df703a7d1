//! What was changed on the way, or made wrong by whoever made it: each field, each byte, each place in a stream, alone.
//! The service hears nothing of it, and the caller gets no answer that is not proven.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use prost::Message;
use proto::digest::Digest;
use proto::message::{Contents, End, Facts, Header};
use proto::transport::encode;
use proto::wire::relay as wire;
use tests::attack::{self, Answers, AtConsumer, AtProvider, end_of, told};
use tests::echo::said;
use tests::forged_log::{Owner, der, malleated, numbers};
use tests::matrix::{Came, Family, page};
use tests::raw;
use tests::rogue::{self, Draft, Speech, answer_to, beginning, ending, saying};
use tests::soon;
use tokio::sync::{Barrier, mpsc};

/// What is recorded of a request that is answered, and of one that is refused with a seal.
const ANSWERED: [&str; 2] = ["received request 0 half-close", "closed completed"];
/// What is recorded of an answer that is taken.
const TAKEN: [&str; 2] = ["received answer 0 status 0", "closed completed"];
/// What is recorded of an answer that is not: that there was none.
const WITHHELD: [&str; 1] = ["closed silent"];

// ---- rows

/// A change of one thing, and what it is called.
type Row<T> = (String, Arc<dyn Fn(&mut T) + Send + Sync>);
type Rows<T> = Vec<Row<T>>;

fn row<T>(what: String, change: impl Fn(&mut T) + Send + Sync + 'static) -> Row<T> {
    (what, Arc::new(change))
}

/// The rows of a message of the wire: at least one for each field. A field that is added to the wire is missed here, and
/// does not compile. `besides` has what is no part of what is proven: whatever it says, the message is the same one.
macro_rules! rows {
    ($message:ident: $($field:ident { $($what:literal => $change:expr),+ $(,)? })+ $(; besides $($besides:ident),+)?) => {{
        let wire::$message { $($field: _,)+ $($($besides: _),+)? } = wire::$message::default();
        let mut rows: Rows<wire::$message> = Vec::new();
        $($(rows.push(row::<wire::$message>(format!("{}: {}", stringify!($field), $what), $change));)+)+
        rows
    }};
}

/// Rows of what is within something, as rows of that.
fn within<T: 'static, U: 'static>(of: &str, rows: Rows<U>, find: fn(&mut T) -> &mut U) -> Rows<T> {
    let within = rows.into_iter().map(|(what, change)| row(format!("{of}.{what}"), move |it| change(find(it))));
    within.collect()
}

fn flip(bytes: &mut Bytes) {
    let mut flipped = bytes.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    *bytes = flipped.into();
}

fn short(bytes: &mut Bytes) {
    bytes.truncate(bytes.len() - 1);
}

/// What a field says instead: there where it was not, and gone where it was.
fn toggle<T: Default>(field: &mut Option<T>, there: T) {
    *field = if field.is_some() { None } else { Some(there) };
}

/// An end of this kind. One that is added to the wire is missed here, and does not compile.
fn ending_so(how: wire::end::How) -> Option<wire::End> {
    match how {
        wire::end::How::HalfClose(_)
        | wire::end::How::Trailers(_)
        | wire::end::How::Abort(_)
        | wire::end::How::Refused(_) => Some(wire::End { how: Some(how) }),
    }
}

/// Each field of a header, whichever way it goes.
fn header_rows(sample: &wire::Header) -> Rows<wire::Header> {
    let abort = |cause: i32| ending_so(wire::end::How::Abort(wire::Abort { cause }));
    let refused = |code: &str| ending_so(wire::end::How::Refused(wire::Refused { code: code.into() }));
    let trailers = wire::end::How::Trailers(wire::Trailers { commitment: vec![1; 32].into(), status: 0 });
    let mut rows = rows!(Header:
        route { "absent" => |header| header.route = None }
        exchange {
            "another" => |header| flip(&mut header.exchange),
            "a byte short" => |header| short(&mut header.exchange),
            "absent" => |header| header.exchange.clear(),
        }
        attempt { "the next" => |header| header.attempt += 1, "none" => |header| header.attempt = 0 }
        direction {
            "the other" => |header| header.direction = 3 - header.direction,
            "none" => |header| header.direction = 0,
            "of no list" => |header| header.direction = 3,
        }
        position { "the next" => |header| header.position += 1 }
        time {
            "a millisecond later" => |header| header.time += 1,
            "an hour earlier" => |header| header.time -= 3_600_000,
            "an hour later" => |header| header.time += 3_600_000,
        }
        configuration { "absent" => |header| header.configuration = None }
        opening { "toggled" => |header| toggle(&mut header.opening, wire::Opening::default()) }
        answer {
            "toggled" => |header| {
                toggle(&mut header.answer, wire::Answer { opening: vec![1; 32].into(), handed_on: 0 });
            },
        }
        previous {
            "added" => |header| header.previous = vec![1; 32].into(),
            "of 31 bytes" => |header| header.previous = vec![1; 31].into(),
        }
        metadata {
            "flipped" => |header| flip(&mut header.metadata),
            "a byte short" => |header| short(&mut header.metadata),
            "absent" => |header| header.metadata.clear(),
        }
        pieces {
            "the first flipped" => |header| flip(&mut header.pieces[0]),
            "a byte short" => |header| short(&mut header.pieces[0]),
            "exchanged" => |header| header.pieces.swap(0, 1),
            "one more" => |header| header.pieces.push(header.pieces[0].clone()),
            "one less" => |header| drop(header.pieces.pop()),
            "none" => |header| header.pieces.clear(),
        }
        removed { "of 31 bytes" => |header| header.removed = vec![1; 31].into() }
        end {
            "absent" => |header| header.end = None,
            "of no kind" => |header| header.end = Some(wire::End { how: None }),
            "a half-close" => move |header| header.end = ending_so(wire::end::How::HalfClose(wire::HalfClose {})),
            "trailers" => move |header| header.end = ending_so(trailers.clone()),
            "an abort" => move |header| header.end = abort(1),
            "an abort of no cause" => move |header| header.end = abort(0),
            "a refusal" => move |header| header.end = refused("GRANT_MISSING"),
            "a refusal that is no text" => move |header| header.end = refused(&"X".repeat(65)),
        }
    );
    let route = rows!(Route:
        instance { "another" => |route| route.instance = "EE".into(), "none" => |route| route.instance.clear() }
        consumer {
            "another of its member" => |route| route.consumer = "VN/GOV/portal/ghost".into(),
            "another member's" => |route| route.consumer = "VN/GOV/moj/civil-registry".into(),
            "no identifier" => |route| route.consumer = "VN/GOV/portal/../x".into(),
        }
        consumer_server {
            "another of its member" => |route| route.consumer_server = "VN/GOV/portal/ss2".into(),
            "another member's" => |route| route.consumer_server = "VN/GOV/moj/ss1".into(),
        }
        provider {
            "another of its member" => |route| route.provider = "VN/GOV/moj/ghost".into(),
            "another member's" => |route| route.provider = "VN/GOV/portal/one-stop".into(),
        }
        provider_server {
            "another of its member" => |route| route.provider_server = "VN/GOV/moj/ss2".into(),
            "another member's" => |route| route.provider_server = "VN/GOV/portal/ss1".into(),
        }
        operation {
            "another method" => |route| {
                route.operation = Some(wire::route::Operation::GrpcPath("/echo.v1.Echo/Other".into()));
            },
            "a path that is none" => |route| {
                route.operation = Some(wire::route::Operation::GrpcPath("/echo.v1.Echo/Unary/".into()));
            },
            "HTTP" => |route| {
                let http = wire::HttpOperation { verb: "POST".into(), target: "/echo.v1.Echo/Unary".into() };
                route.operation = Some(wire::route::Operation::Http(http));
            },
            "none" => |route| route.operation = None,
        }
    );
    rows.extend(within("route", route, |header: &mut wire::Header| header.route.as_mut().unwrap()));
    let configuration = rows!(ConfigurationVersion:
        version { "the next" => |it| it.version += 1 }
        digest { "flipped" => |it| flip(&mut it.digest), "a byte short" => |it| short(&mut it.digest) }
    );
    let find: fn(&mut wire::Header) -> &mut wire::ConfigurationVersion = |it| it.configuration.as_mut().unwrap();
    rows.extend(within("configuration", configuration, find));
    if sample.opening.is_some() {
        let opening = rows!(Opening:
            purpose {
                "another" => |it| it.purpose = "curiosity".into(),
                "none" => |it| it.purpose.clear(),
                "a line end in it" => |it| it.purpose = "testing\n".into(),
            }
            legal_basis { "another" => |it| it.legal_basis = "another law".into() }
            subject { "another" => |it| it.subject = "somebody else".into() }
            represented_party { "another" => |it| it.represented_party = "somebody else".into() }
            timeout_ms { "another" => |it| it.timeout_ms = 60_000 }
        );
        rows.extend(within("opening", opening, |header: &mut wire::Header| header.opening.as_mut().unwrap()));
    }
    if sample.answer.is_some() {
        let answer = rows!(Answer:
            opening { "flipped" => |it| flip(&mut it.opening), "a byte short" => |it| short(&mut it.opening) }
            handed_on { "more than were sent" => |it| it.handed_on = 1000 }
        );
        rows.extend(within("answer", answer, |header: &mut wire::Header| header.answer.as_mut().unwrap()));
        let trailers = rows!(Trailers:
            commitment { "flipped" => |it| flip(&mut it.commitment), "a byte short" => |it| short(&mut it.commitment) }
            status { "another" => |it| it.status = 7 }
        );
        let find: fn(&mut wire::Header) -> &mut wire::Trailers = |header| match &mut header.end {
            Some(wire::End { how: Some(wire::end::How::Trailers(trailers)) }) => trailers,
            _ => panic!("it ends so"),
        };
        rows.extend(within("end.trailers", trailers, find));
    }
    changing(rows, sample)
}

/// Those of the rows that change the sample: a half-close changes no request that ends so.
fn changing<T: Clone + PartialEq>(rows: Rows<T>, sample: &T) -> Rows<T> {
    let changes = |(_, change): &Row<T>| {
        let mut changed = sample.clone();
        change(&mut changed);
        changed != *sample
    };
    let field = |what: &str| what.split(':').next().unwrap().to_owned();
    let fields: Vec<String> = rows.iter().map(|(what, _)| field(what)).collect();
    let rows: Rows<T> = rows.into_iter().filter(changes).collect();
    for each in fields {
        assert!(rows.iter().any(|(what, _)| field(what) == each), "{each} is changed by no row");
    }
    rows
}

/// Each field of a seal.
fn seal_rows(owner: &Owner, other: &Owner) -> Rows<wire::Seal> {
    let by = |key: &Arc<proto::signature::SigningKey>| {
        let key = Arc::clone(key);
        move |seal: &mut wire::Seal| seal.signature = key.sign(&seal.head).into()
    };
    let and_named = |key: &Arc<proto::signature::SigningKey>| {
        let (key, sign) = (Arc::clone(key), by(key));
        move |seal: &mut wire::Seal| {
            sign(seal);
            seal.key = key.public().id().to_wire();
        }
    };
    let signed = |text: fn(&str) -> String| {
        let sign = by(&owner.key);
        move |seal: &mut wire::Seal| {
            seal.head = text(std::str::from_utf8(&seal.head).unwrap()).into();
            sign(seal);
        }
    };
    rows!(Seal:
        nonce {
            "flipped" => |seal| flip(&mut seal.nonce),
            "a byte short" => |seal| short(&mut seal.nonce),
            "absent" => |seal| seal.nonce.clear(),
        }
        record {
            "the one before" => |seal| seal.record -= 1,
            "the one after" => |seal| seal.record += 1,
            "past the commit" => |seal| seal.record = seal.records,
            "with a high bit" => |seal| seal.record |= 1 << 31,
        }
        records {
            "one more" => |seal| seal.records += 1,
            "one less" => |seal| seal.records -= 1,
            "none" => |seal| seal.records = 0,
            "more than a commit holds" => |seal| seal.records = 65_537,
        }
        record_path {
            "the first hash flipped" => |seal| flip(&mut seal.record_path[0]),
            "the last hash flipped" => |seal| flip(seal.record_path.last_mut().unwrap()),
            "exchanged" => |seal| seal.record_path.reverse(),
            "a byte short" => |seal| short(&mut seal.record_path[0]),
            "one hash more" => |seal| seal.record_path.push(vec![0; 32].into()),
            "one hash less" => |seal| drop(seal.record_path.pop()),
            "none" => |seal| seal.record_path.clear(),
        }
        commit {
            "the one before" => |seal| seal.commit -= 1,
            "past the tree" => |seal| seal.commit += 1,
            "with a high bit" => |seal| seal.commit |= 1 << 63,
        }
        commit_path {
            "the first hash flipped" => |seal| flip(&mut seal.commit_path[0]),
            "the last hash flipped" => |seal| flip(seal.commit_path.last_mut().unwrap()),
            "a byte short" => |seal| short(&mut seal.commit_path[0]),
            "one hash more" => |seal| seal.commit_path.push(vec![0; 32].into()),
            "none" => |seal| seal.commit_path.clear(),
        }
        head {
            "flipped" => |seal| flip(&mut seal.head),
            "a line end short" => |seal| short(&mut seal.head),
            "absent" => |seal| seal.head.clear(),
            "with one more line, signed" => signed(|head| format!("{head}more\n")),
            "of another origin, signed" => signed(|head| head.replacen("causeway.v1", "causeway.v2", 1)),
            "of one more commit, signed" => signed(|head| head.replacen("\n3\n", "\n4\n", 1)),
            "with a zero before its size, signed" => signed(|head| head.replacen("\n3\n", "\n03\n", 1)),
        }
        key {
            "flipped" => |seal| flip(&mut seal.key),
            "a byte short" => |seal| short(&mut seal.key),
            "absent" => |seal| seal.key.clear(),
            "that of TLS, and its signature" => and_named(&owner.tls),
            "another member's, and its signature" => and_named(&other.key),
        }
        signature {
            "flipped in r" => |seal| seal.signature = with(&seal.signature, 10),
            "flipped in s" => |seal| seal.signature = with(&seal.signature, 60),
            "absent" => |seal| seal.signature.clear(),
            "cut" => |seal| short(&mut seal.signature),
            "with a byte behind it" => |seal| seal.signature = [&seal.signature[..], &[0]].concat().into(),
            "of 73 bytes" => |seal| seal.signature = [&seal.signature[..], &[0, 0]].concat().into(),
            "with a zero before r" => |seal| seal.signature = padded(&seal.signature),
            "with a long form of its length" => |seal| seal.signature = long_form(&seal.signature),
            "r and s without DER" => |seal| seal.signature = numbers(&seal.signature).concat().into(),
            "r and s exchanged" => |seal| {
                let [r, s] = numbers(&seal.signature);
                seal.signature = der([s, r]);
            },
            "two zeros" => |seal| seal.signature = der([[0; 32]; 2]),
            "by the key of TLS" => by(&owner.tls),
            "by another member's key" => by(&other.key),
        }
    )
}

fn with(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

/// The same signature, its r with a zero that DER does not have.
fn padded(signature: &[u8]) -> Bytes {
    [&[0x30, signature[1] + 1, 2, signature[3] + 1, 0], &signature[4..]].concat().into()
}

/// The same signature, its length in two bytes where one would do.
fn long_form(signature: &[u8]) -> Bytes {
    [&[0x30, 0x81], &signature[1..]].concat().into()
}

/// Each field of a frame, of its payload and of the genesis record beside them, changed on the way.
fn frame_rows(sample: &wire::Frame, other: &wire::Frame) -> Rows<wire::Frame> {
    let others = |change: fn(&mut wire::Frame, &wire::Frame)| {
        let other = other.clone();
        move |frame: &mut wire::Frame| change(frame, &other)
    };
    let mut rows = rows!(Frame:
        exchange {
            "flipped" => |frame| flip(&mut frame.exchange),
            "a byte short" => |frame| short(&mut frame.exchange),
            "absent" => |frame| frame.exchange.clear(),
        }
        header {
            "absent" => |frame| frame.header.clear(),
            "cut" => |frame| short(&mut frame.header),
            "with a field of no list" => |frame| frame.header = [&frame.header[..], &[0xa8, 6, 1]].concat().into(),
            "with its attempt twice" => |frame| frame.header = [&frame.header[..], &[0x18, 1]].concat().into(),
            "with a long varint" => |frame| {
                let at = frame.header.windows(2).position(|pair| pair == [0x18, 1]).unwrap();
                frame.header = [&frame.header[..at], &[0x18, 0x81, 0], &frame.header[at + 2..]].concat().into();
            },
            "of another message" => others(|frame, other| frame.header = other.header.clone()),
        }
        seal {
            "absent" => |frame| frame.seal = None,
            "of another message" => others(|frame, other| frame.seal = other.seal.clone()),
        }
        payload {
            "absent" => |frame| frame.payload = None,
            "of another message" => others(|frame, other| frame.payload = other.payload.clone()),
        }
        genesis {
            "absent" => |frame| frame.genesis.clear(),
            "flipped" => |frame| flip(&mut frame.genesis),
            "cut" => |frame| short(&mut frame.genesis),
            "of another kind" => |frame| frame.genesis = [&[2], &frame.genesis[1..]].concat().into(),
            "of another tree" => others(|frame, other| frame.genesis = other.genesis.clone()),
        }
        // A hint that orders who waits at the consumer's own door (PROTOCOL.md 19.8).
        ; besides priority
    );
    let payload = rows!(Payload:
        secret {
            "flipped" => |payload| flip(&mut payload.secret),
            "a byte short" => |payload| short(&mut payload.secret),
            "absent" => |payload| payload.secret.clear(),
        }
        metadata {
            "flipped" => |payload| flip(&mut payload.metadata),
            "one field more" => |payload| {
                payload.metadata = [&payload.metadata[..], b"\x0a\x06\x0a\x01x\x12\x01y"].concat().into();
            },
            "absent" => |payload| payload.metadata.clear(),
        }
        pieces {
            "the first flipped" => |payload| flip(&mut payload.pieces[0]),
            "the last flipped" => |payload| flip(payload.pieces.last_mut().unwrap()),
            "a byte short" => |payload| short(&mut payload.pieces[0]),
            "exchanged" => |payload| payload.pieces.swap(0, 1),
            "one doubled" => |payload| payload.pieces.insert(0, payload.pieces[0].clone()),
            "one more" => |payload| payload.pieces.push(raw::message(&said("forged"))),
            "one less" => |payload| drop(payload.pieces.pop()),
            "none" => |payload| payload.pieces.clear(),
            "the same bytes in one" => |payload| payload.pieces = vec![payload.pieces.concat().into()],
            "the same bytes cut elsewhere" => |payload| {
                let last = payload.pieces[0].len() - 1;
                let moved = payload.pieces[0].split_off(last);
                payload.pieces[1] = [&moved[..], &payload.pieces[1]].concat().into();
            },
        }
        trailers {
            "another list" => |payload| payload.trailers = Bytes::from_static(b"\x0a\x06\x0a\x01x\x12\x01y"),
            "absent" => |payload| payload.trailers.clear(),
        }
    );
    rows.extend(within("payload", payload, |frame: &mut wire::Frame| frame.payload.as_mut().unwrap()));
    changing(rows, sample)
}

/// Each field of the genesis with which a tree begins that is sealed well.
fn genesis_rows() -> Rows<wire::Genesis> {
    rows!(Genesis:
        instance { "another" => |it| it.instance = "EE".into(), "none" => |it| it.instance.clear() }
        member { "another" => |it| it.member = "VN/GOV/tax".into(), "none" => |it| it.member.clear() }
        server { "another" => |it| it.server = "VN/GOV/tax/ss1".into(), "none" => |it| it.server.clear() }
        random { "a byte short" => |it| short(&mut it.random), "absent" => |it| it.random.clear() }
        before { "of 31 bytes" => |it| it.before = vec![1; 31].into() }
        before_size { "with a long name" => |it| {
            it.before_size = 7;
            it.before = vec![1; 33].into();
        } }
        before_root { "of 31 bytes" => |it| it.before_root = vec![1; 31].into() }
        cut_bytes { "in a record of 1 KiB" => |it| {
            it.cut_bytes = 7;
            it.member = "x".repeat(1024);
        } }
        why { "none" => |it| it.why = 0, "of no list" => |it| it.why = 5 }
    )
}

// ---- the makers

/// A good request or answer of two pieces.
fn of_two_pieces(draft: Draft, end: Option<End>) -> Draft {
    let facts = Facts { metadata: None, pieces: Vec::new(), end: None, ..draft.facts };
    let contents = beginning(&["one", "two"]);
    match end {
        Some(end) => Speech::of(facts).says(contents, Some(end)),
        None => Speech::of(facts).says(ending(contents, "0"), None),
    }
}

fn request(at: &AtProvider) -> Draft {
    of_two_pieces(at.rogue.opening(&at.world), Some(End::HalfClose))
}

fn answer(opening: &wire::Frame) -> Draft {
    of_two_pieces(answer_to(opening), None)
}

fn wired(draft: &Draft) -> wire::Header {
    wire::Header::decode(Header::new(draft.facts.clone()).as_bytes().clone()).unwrap()
}

/// Sealed well, and its header changed behind that.
fn changed_on_the_way(owner: &Owner, draft: Draft, change: &dyn Fn(&mut wire::Header)) -> wire::Frame {
    let mut header = wired(&draft);
    change(&mut header);
    wire::Frame { header: header.encode_to_vec().into(), ..owner.frame(draft) }
}

/// The changed header, sealed well.
fn sealed_so(owner: &Owner, draft: Draft, change: &dyn Fn(&mut wire::Header)) -> wire::Frame {
    let mut header = wired(&draft);
    let exchange = header.exchange.clone();
    change(&mut header);
    owner.log().frame_of(&exchange, header.encode_to_vec().into(), draft.payload)
}

fn seal(frame: &mut wire::Frame) -> &mut wire::Seal {
    frame.seal.as_mut().unwrap()
}

/// An answer that any opening gets, to read its fields from.
async fn sample_answer(at: &AtConsumer) -> Draft {
    let rogue = rogue::Rogue::of(&at.world, "portal");
    answer(&Owner::of(&at.world, "portal").frame(rogue.opening(&at.world)))
}

// ---- headers

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_of_a_request_is_changed_on_the_way() {
    let mut family = Family::of("no_field_of_a_request_is_changed_on_the_way", "whoever holds a member's connection");
    let mut at = AtProvider::new().await;
    for (what, change) in header_rows(&wired(&request(&at))) {
        let frame = changed_on_the_way(&at.owner, request(&at), &*change);
        family.refused(&what, "UNPROVEN", &[], at.came_of(&[frame]).await);
    }
    let frame = changed_on_the_way(&at.owner, request(&at), &|_| {});
    family.passes("nothing", "status 0", &ANSWERED, at.came_of(&[frame]).await);
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_seals_what_is_its_own_to_say_and_nothing_else() {
    let mut family = Family::of("a_member_seals_what_is_its_own_to_say_and_nothing_else", "a member with all its keys");
    let mut at = AtProvider::new().await;
    // A member that does not end its request, or breaks it off, harms itself: that is about streams.
    let elsewhere = ["end: absent", "end: an abort"];
    let its_own = [
        "attempt: the next",
        "time: a millisecond later",
        "configuration.version: the next",
        "opening.legal_basis: another",
        "opening.subject: another",
        "opening.represented_party: another",
        "opening.timeout_ms: another",
    ];
    let ends = BTreeMap::from([
        ("time: an hour earlier", "NOT_FRESH"),
        ("time: an hour later", "NOT_FRESH"),
        ("route.operation: another method", "refused GRANT_MISSING"),
        ("route.operation: HTTP", "refused GRANT_MISSING"),
        ("opening.purpose: another", "refused GRANT_PURPOSE"),
        ("opening.purpose: none", "refused GRANT_PURPOSE"),
    ]);
    let rows = header_rows(&wired(&request(&at)));
    for named in elsewhere.iter().chain(&its_own).chain(ends.keys()) {
        assert!(rows.iter().any(|(what, _)| what == named), "{named} is a row");
    }
    for (what, change) in rows.into_iter().filter(|(what, _)| !elsewhere.contains(&what.as_str())) {
        let frame = sealed_so(&at.owner, request(&at), &*change);
        let came = at.came_of(&[frame]).await;
        if its_own.contains(&what.as_str()) {
            family.passes(&what, "status 0", &ANSWERED, came);
        } else {
            let end = ends.get(what.as_str()).unwrap_or(&"UNPROVEN");
            let recorded: &[&str] = if end.starts_with("refused") { &ANSWERED } else { &[] };
            family.refused(&what, end, recorded, came);
        }
    }
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_of_an_answer_is_changed_on_the_way() {
    let mut family = Family::of("no_field_of_an_answer_is_changed_on_the_way", "whoever holds a member's connection");
    let mut at = AtConsumer::new().await;
    let owner = at.owner.clone();
    let rows = header_rows(&wired(&sample_answer(&at).await));
    let count = rows.len();
    for (what, change) in rows {
        let owner = owner.clone();
        let changed = move |opening| vec![encode(&changed_on_the_way(&owner, answer(&opening), &*change))];
        family.refused(&what, "PROVIDER_UNPROVEN", &WITHHELD, at.came(changed).await);
    }
    let good = move |opening| vec![encode(&changed_on_the_way(&owner, answer(&opening), &|_| {}))];
    let came = at.came(good).await;
    family.passes("nothing", "status 0", &TAKEN, Came { reached: came.reached / 2, ..came });
    // Of one peer's unproven answers 16 an hour are kept: each of the first was.
    assert!(count > 16 && at.withheld >= 16, "{} are kept", at.withheld);
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_answers_what_was_asked_and_nothing_else() {
    let mut family = Family::of("a_provider_answers_what_was_asked_and_nothing_else", "a provider with all its keys");
    let mut at = AtConsumer::new().await;
    let owner = at.owner.clone();
    // An answer without an end, broken off or refused is the provider's to give.
    let elsewhere = ["end: absent", "end: an abort", "end: a refusal"];
    let its_own = ["time: a millisecond later", "configuration.version: the next"];
    let rows = header_rows(&wired(&sample_answer(&at).await));
    for named in elsewhere.iter().chain(&its_own) {
        assert!(rows.iter().any(|(what, _)| what == named), "{named} is a row");
    }
    for (what, change) in rows.into_iter().filter(|(what, _)| !elsewhere.contains(&what.as_str())) {
        let owner = owner.clone();
        let came = at.came(move |opening| vec![encode(&sealed_so(&owner, answer(&opening), &*change))]).await;
        if its_own.contains(&what.as_str()) {
            family.passes(&what, "status 0", &TAKEN, Came { reached: came.reached / 2, ..came });
        } else {
            family.refused(&what, "PROVIDER_UNPROVEN", &WITHHELD, came);
        }
    }
    family.holds();
}

// ---- seals

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_of_a_requests_seal_is_another() {
    let mut family = Family::of("no_field_of_a_requests_seal_is_another", "whoever holds a member's connection");
    let mut at = AtProvider::new().await;
    for (what, change) in seal_rows(&at.owner, &Owner::of(&at.world, "moj")) {
        let mut frame = at.owner.frame(request(&at));
        change(seal(&mut frame));
        family.refused(&what, "UNPROVEN", &[], at.came_of(&[frame]).await);
    }
    // The other form of a signature is a signature of the same bytes by the same key.
    let mut frame = at.owner.frame(request(&at));
    let signature = malleated(&seal(&mut frame).signature);
    seal(&mut frame).signature = signature;
    family.passes("signature: r and n - s", "status 0", &ANSWERED, at.came_of(&[frame]).await);
    family.holds();
}

/// A head whose signature held is remembered: the next message under it is not taken on trust.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remembered_head_makes_no_signature_good() {
    let mut family = Family::of("a_remembered_head_makes_no_signature_good", "a member with all its keys");
    let mut at = AtProvider::new().await;
    let changed = ["key", "signature"];
    let rows = seal_rows(&at.owner, &Owner::of(&at.world, "moj"));
    for (what, change) in rows.into_iter().filter(|(what, _)| changed.contains(&what.split(':').next().unwrap())) {
        let drafts = vec![request(&at), request(&at)];
        let mut frames = at.owner.log().frames_of_one_commit(drafts);
        let mut second = frames.pop().unwrap();
        family.passes("the first under its head", "status 0", &ANSWERED, at.came_of(&frames).await);
        change(seal(&mut second));
        family.refused(&what, "UNPROVEN", &[], at.came_of(&[second]).await);
    }
    // What is taken is evidence: anyone can verify it.
    let drafts = vec![request(&at), request(&at)];
    let frames = at.owner.log().frames_of_one_commit(drafts);
    for mut frame in frames {
        let signature = malleated(&seal(&mut frame).signature);
        seal(&mut frame).signature = signature;
        let exchange = Header::parse(frame.header.clone()).unwrap().exchange;
        family.passes("both, malleated", "status 0", &ANSWERED, at.came_of(&[frame]).await);
        assert!(attack::evidence(&at.world, "moj", exchange).unwrap() >= 2);
    }
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_of_an_answers_seal_is_another() {
    let mut family = Family::of("no_field_of_an_answers_seal_is_another", "whoever holds a member's connection");
    let mut at = AtConsumer::new().await;
    let owner = at.owner.clone();
    for (what, change) in seal_rows(&owner, &Owner::of(&at.world, "portal")) {
        let owner = owner.clone();
        let changed = move |opening| {
            let mut frame = owner.frame(answer(&opening));
            change(seal(&mut frame));
            vec![encode(&frame)]
        };
        // A key that is not good is a matter of standing: it may have been good when it signed.
        let end = if is_other_key(&what) { "ACCESS_ENDED" } else { "PROVIDER_UNPROVEN" };
        family.refused(&what, end, &WITHHELD, at.came(changed).await);
    }
    let malleated = move |opening| {
        let mut frame = owner.frame(answer(&opening));
        let signature = malleated(&seal(&mut frame).signature);
        seal(&mut frame).signature = signature;
        vec![encode(&frame)]
    };
    let came = at.came(malleated).await;
    family.passes("signature: r and n - s", "status 0", &TAKEN, Came { reached: came.reached / 2, ..came });
    family.holds();
}

fn is_other_key(what: &str) -> bool {
    ["key: flipped", "key: that of TLS, and its signature", "key: another member's, and its signature"].contains(&what)
}

// ---- frames

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_beside_a_requests_header_is_another() {
    let mut family = Family::of("nothing_beside_a_requests_header_is_another", "whoever holds a member's connection");
    let mut at = AtProvider::new().await;
    let (sample, other) = (at.owner.frame(request(&at)), at.owner.frame(request(&at)));
    for (what, change) in frame_rows(&sample, &other) {
        let mut frame = at.owner.frame(request(&at));
        change(&mut frame);
        family.refused(&what, "UNPROVEN", &[], at.came_of(&[frame]).await);
    }
    for (what, change) in genesis_rows() {
        let frame = at.owner.log_that_begins(|genesis| change(genesis)).frame(request(&at));
        family.refused(&format!("genesis.{what}"), "UNPROVEN", &[], at.came_of(&[frame]).await);
    }
    family.passes("nothing", "status 0", &ANSWERED, at.came_of(&[sample]).await);
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_beside_an_answers_header_is_another() {
    let mut family = Family::of("nothing_beside_an_answers_header_is_another", "whoever holds a member's connection");
    let mut at = AtConsumer::new().await;
    let owner = at.owner.clone();
    let sample = owner.frame(sample_answer(&at).await);
    let other = owner.frame(sample_answer(&at).await);
    for (what, change) in frame_rows(&sample, &other) {
        let owner = owner.clone();
        let changed = move |opening| {
            let mut frame = owner.frame(answer(&opening));
            change(&mut frame);
            vec![encode(&frame)]
        };
        family.refused(&what, "PROVIDER_UNPROVEN", &WITHHELD, at.came(changed).await);
    }
    for (what, change) in genesis_rows() {
        let owner = owner.clone();
        let begun =
            move |opening| vec![encode(&owner.log_that_begins(|genesis| change(genesis)).frame(answer(&opening)))];
        family.refused(&format!("genesis.{what}"), "PROVIDER_UNPROVEN", &WITHHELD, at.came(begun).await);
    }
    let came = at.came(move |opening| vec![encode(&owner.frame(answer(&opening)))]).await;
    family.passes("nothing", "status 0", &TAKEN, Came { reached: came.reached / 2, ..came });
    family.holds();
}

// ---- bytes

/// Of each byte one bit: another one from byte to byte.
fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 1 << (at % 8);
    flipped.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bit_of_a_captured_request_is_another() {
    let mut family =
        Family::of("no_bit_of_a_captured_request_is_another", "the peer that holds the connection, before and after");
    let mut at = AtProvider::new().await;
    let captured = encode(&at.owner.frame(request(&at)));
    let known = at.world.records("moj");
    for (when, ends) in [("before", vec!["UNPROVEN"]), ("after", vec!["UNPROVEN", "REPLAYED"])] {
        for byte in 0..captured.len() {
            let answer = soon(at.client.call(rogue::exchange(), flipped(&captured, byte))).await;
            let end = end_of(&answer);
            let judged = if ends.contains(&end.as_str()) { Ok(()) } else { Err(end) };
            family.judged(&format!("byte {byte}, {when} the original"), judged);
        }
        at.world.quiet().await;
        assert_eq!(at.heard(), 0, "{when}");
        if when == "before" {
            assert_eq!(at.world.records("moj"), known, "nothing of it is recorded");
            family.passes("the original", "status 0", &ANSWERED, at.came(captured.clone()).await);
        } else {
            assert_eq!(at.came(captured.clone()).await.end, "REPLAYED", "and not a second time");
        }
    }
    family.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bit_of_an_answer_is_another() {
    let mut family = Family::of("no_bit_of_an_answer_is_another", "whoever holds a member's connection");
    let mut at = AtConsumer::new().await;
    let owner = at.owner.clone();
    let length = encode(&owner.frame(sample_answer(&at).await)).len();
    let next = Arc::new(AtomicUsize::new(0));
    let answers: Answers = {
        let (owner, next) = (owner.clone(), Arc::clone(&next));
        Arc::new(move |opening| {
            let byte = next.fetch_add(1, Ordering::Relaxed);
            let frame = encode(&owner.frame(answer(&opening)));
            assert_eq!(frame.len(), length, "each answer is as long as the sample");
            Box::pin(std::future::ready(vec![flipped(&frame, byte)]))
        })
    };
    at.answer(answers);
    for first in (0..length).step_by(16) {
        let calls = (first..length.min(first + 16)).map(|_| {
            let (mut client, post) = (at.client.clone(), at.world.post("Unary"));
            async move { client.call(post, raw::message(&said("asked"))).await }
        });
        for answer in soon(futures_util::future::join_all(calls)).await {
            // Where the length is another, it is no frame, and the answer never ended.
            let known = ["PROVIDER_UNPROVEN", "ACCESS_ENDED", "OUTCOME_UNKNOWN"].contains(&told(&answer).as_str());
            let judged = if known && answer.body.is_empty() { Ok(()) } else { Err(told(&answer)) };
            family.judged("some byte of an answer", judged);
        }
    }
    at.world.quiet().await;
    assert_eq!(next.load(Ordering::Relaxed), length);
    let came = at.came(move |opening| vec![encode(&owner.frame(answer(&opening)))]).await;
    family.passes("the original", "status 0", &TAKEN, Came { reached: came.reached / 2, ..came });
    family.holds();
}

// ---- streams

/// The bytes of each exchange, and whether they had their good end.
type HeardOf = BTreeMap<String, (Vec<u8>, bool)>;

/// A service that tells what it heard: of each exchange the bytes, and whether they had their good end.
struct Ear {
    address: SocketAddr,
    heard: Arc<Mutex<HeardOf>>,
    begun: Arc<AtomicUsize>,
    told: mpsc::UnboundedReceiver<()>,
}

impl Ear {
    async fn open() -> Self {
        let heard = Arc::new(Mutex::new(HeardOf::new()));
        let begun = Arc::new(AtomicUsize::new(0));
        let (tell, told) = mpsc::unbounded_channel();
        let (hears, begins) = (Arc::clone(&heard), Arc::clone(&begun));
        let address = raw::serve(move |request| {
            let (hears, tell) = (Arc::clone(&hears), tell.clone());
            begins.fetch_add(1, Ordering::SeqCst);
            async move {
                let (mut sender, response) = raw::answer();
                tokio::spawn(async move {
                    let exchange = request.headers()["causeway-exchange"].to_str().unwrap().to_owned();
                    let (mut body, mut bytes) = (request.into_body(), BytesMut::new());
                    let ended = loop {
                        match body.frame().await {
                            None => break true,
                            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
                            Some(Err(_)) => break false,
                        }
                    };
                    hears.lock().unwrap().insert(exchange, (bytes.to_vec(), ended));
                    let _ = tell.send(());
                    if ended {
                        let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
                    }
                });
                response
            }
        })
        .await;
        Self { address, heard, begun, told }
    }

    /// Everything that was ever heard, when each request has had its end.
    async fn all(mut self) -> HeardOf {
        for _ in 0..self.begun.load(Ordering::SeqCst) {
            soon(self.told.recv()).await.unwrap();
        }
        assert!(self.told.try_recv().is_err(), "each tells once");
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

const TEXTS: [&str; 4] = ["zero", "one", "two", "three"];

/// A row about a stream of four messages: what goes instead, how many of them are good, and how it ends.
struct Splice {
    what: &'static str,
    parts: Vec<Bytes>,
    good: usize,
    end: &'static str,
}

/// The four messages of a stream otherwise: whole frames in another order, cut, or from elsewhere. `other` is the same
/// direction of another exchange, `back` what the other side said, `tree` the frames sealed in another tree of the same log.
fn spliced(good: &[wire::Frame], other: &[wire::Frame], back: &wire::Frame) -> Vec<Splice> {
    let parts = |frames: &[&wire::Frame]| frames.iter().map(|frame| encode(frame)).collect::<Vec<_>>();
    let [zero, one, two, three] = good else { panic!("four messages") };
    let cut = |bytes: Bytes| bytes.slice(..bytes.len() / 2);
    let changed = |change: &dyn Fn(&mut wire::Frame)| {
        let mut frame = one.clone();
        change(&mut frame);
        frame
    };
    let payload = |frame: &wire::Frame| frame.payload.clone().unwrap();
    let disproved = "disproved";
    let mut rows = vec![
        ("a message left out", parts(&[zero, two, three]), 1, disproved),
        ("two messages left out", parts(&[zero, three]), 1, disproved),
        ("two messages in the other order", parts(&[zero, two, one, three]), 1, disproved),
        ("the end before the rest", parts(&[zero, three, one, two]), 1, disproved),
        ("a message twice", parts(&[zero, one, one, two, three]), 2, disproved),
        ("the first message twice", parts(&[zero, zero, one, two, three]), 1, disproved),
        ("the first message again in the middle", parts(&[zero, one, zero, two, three]), 2, disproved),
        ("a message of another exchange", parts(&[zero, &other[1], two, three]), 1, disproved),
        ("a message of another exchange put in", parts(&[zero, one, &other[2], two, three]), 2, disproved),
        ("the rest of another exchange", parts(&[zero, one, &other[2], &other[3]]), 2, disproved),
        ("the end of another exchange", parts(&[zero, one, two, &other[3]]), 3, disproved),
        ("a message of the other direction", parts(&[zero, back, one, two, three]), 1, disproved),
        (
            "a message of another exchange under this one's name",
            parts(&[zero, &wire::Frame { exchange: zero.exchange.clone(), ..other[1].clone() }, two, three]),
            1,
            disproved,
        ),
        (
            "a message that nobody sealed",
            parts(&[zero, &changed(&|frame| frame.seal = None), two, three]),
            1,
            disproved,
        ),
        (
            "a message with the seal of the next",
            parts(&[zero, &changed(&|frame| frame.seal = two.seal.clone()), two, three]),
            1,
            disproved,
        ),
        (
            "a message with the payload of the next",
            parts(&[zero, &changed(&|frame| frame.payload = two.payload.clone()), two, three]),
            1,
            disproved,
        ),
        (
            "a message without its payload",
            parts(&[zero, &changed(&|frame| frame.payload = None), two, three]),
            1,
            disproved,
        ),
        (
            "a message with a piece of the next",
            parts(&[
                zero,
                &changed(&|frame| {
                    frame.payload.as_mut().unwrap().pieces.extend(payload(two).pieces);
                }),
                two,
                three,
            ]),
            1,
            disproved,
        ),
        (
            "a piece cut short",
            parts(&[zero, &changed(&|frame| short(&mut frame.payload.as_mut().unwrap().pieces[0])), two, three]),
            1,
            disproved,
        ),
        (
            "the secret a second time",
            parts(&[
                zero,
                &changed(&|frame| frame.payload.as_mut().unwrap().secret = payload(zero).secret),
                two,
                three,
            ]),
            1,
            disproved,
        ),
        ("a message cut short", [parts(&[zero]), vec![cut(encode(one))]].concat(), 1, "silent"),
        ("the end cut short", [parts(&[zero, one, two]), vec![cut(encode(three))]].concat(), 3, "silent"),
        ("the end left out", parts(&[zero, one, two]), 3, "silent"),
        ("all but the beginning left out", parts(&[zero]), 1, "silent"),
        ("a message and then no frame", [parts(&[zero]), vec![raw::flagged(0, &[0xff; 40])]].concat(), 1, disproved),
        (
            "a message that says it is compressed",
            [parts(&[zero]), vec![raw::flagged(1, &encode(one)[5..])]].concat(),
            1,
            disproved,
        ),
    ];
    // What comes behind the end is nothing.
    rows.push(("a message behind the end", parts(&[zero, one, two, three, one]), 4, "good"));
    rows.push(("another exchange behind the end", parts(&[zero, one, two, three, &other[0]]), 4, "good"));
    rows.into_iter().map(|(what, parts, good, end)| Splice { what, parts, good, end }).collect()
}

/// The second message as its own sender seals it otherwise, and the rest chained to it.
fn sealed_otherwise(owner: &Owner, drafts: &[Draft]) -> Vec<(&'static str, Vec<wire::Frame>)> {
    let hour = std::time::Duration::from_secs(3600);
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut log = owner.log();
        let mut drafts = drafts.to_vec();
        change(&mut drafts[1].facts);
        drafts.into_iter().map(|draft| log.frame(draft)).collect::<Vec<_>>()
    };
    let mut in_two_trees = owner.frames(drafts.to_vec());
    in_two_trees[1] = owner.frame(drafts[1].clone());
    vec![
        ("another attempt", with(&|facts| facts.attempt = 2)),
        ("another route", with(&|facts| facts.route.operation = "/echo.v1.Echo/Hang".parse().map(grpc).unwrap())),
        ("the position after the next", with(&|facts| facts.position = 2)),
        ("another message before it", with(&|facts| facts.previous = Some(Digest::ZERO))),
        ("an hour before the beginning", with(&|facts| facts.time = facts.time.minus(hour))),
        ("an hour that has not come", with(&|facts| facts.time = facts.time.plus(hour))),
        ("another configuration of the version in force", with(&|f| f.configuration.digest = Digest::ZERO)),
        ("another tree of its log", in_two_trees),
    ]
}

fn grpc(path: proto::identifier::MethodPath) -> proto::message::Operation {
    proto::message::Operation::Grpc(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_hears_no_piece_past_the_first_that_is_not_proven() {
    let mut family = Family::of(
        "a_service_hears_no_piece_past_the_first_that_is_not_proven",
        "a member with all its keys, and whoever holds its connection",
    );
    let ear = Ear::open().await;
    let world = attack::world_with(ear.address).await;
    let mut at = AtProvider::of(world).await;
    let whole: Vec<Bytes> = TEXTS.iter().map(|text| raw::message(&said(text))).collect();
    let stream = |at: &AtProvider| at.rogue.stream(&at.world, &TEXTS);
    let back = Owner::of(&at.world, "moj").frame(answer_to(&at.owner.frame(request(&at))));

    let mut rows = Vec::new();
    let count = spliced(&at.owner.frames(stream(&at)), &at.owner.frames(stream(&at)), &back).len();
    for number in 0..count {
        // Each attack has an exchange of its own, and what it was made of went nowhere.
        let (drafts, other) = (stream(&at), stream(&at));
        let exchange = drafts[0].facts.exchange.to_string();
        let mut made = spliced(&at.owner.frames(drafts), &at.owner.frames(other), &back);
        rows.push((exchange, made.swap_remove(number)));
    }
    let count = sealed_otherwise(&at.owner, &stream(&at)).len();
    for number in 0..count {
        let drafts = stream(&at);
        let exchange = drafts[0].facts.exchange.to_string();
        let (what, frames) = sealed_otherwise(&at.owner, &drafts).swap_remove(number);
        rows.push((exchange, Splice { what, parts: frames.iter().map(encode).collect(), good: 1, end: "disproved" }));
    }
    let drafts = stream(&at);
    let exchange = drafts[0].facts.exchange.to_string();
    let parts = at.owner.frames(drafts).iter().map(encode).collect();
    rows.push((exchange, Splice { what: "nothing", parts, good: 4, end: "good" }));

    let mut came = Vec::new();
    for (exchange, row) in rows {
        let ended = at.came(row.parts.concat().into()).await;
        came.push((exchange, row, ended));
    }
    // Only when the servers are gone has each request at the service had its end, whatever was on its way.
    for (_, started) in at.world.servers.drain() {
        started.shutdown().await;
    }
    let heard = ear.all().await;
    for (exchange, row, ended) in came {
        let (bytes, well) = heard.get(&exchange).cloned().unwrap_or_default();
        let mut recorded: Vec<String> = (0..row.good).map(|number| format!("received request {number}")).collect();
        let (end, closed) = match row.end {
            "good" => ("status 0", "closed completed"),
            "silent" => ("abort disconnected", "closed silent"),
            _ => ("abort disproved", "closed silent"),
        };
        if row.good == TEXTS.len() {
            recorded.last_mut().unwrap().push_str(" half-close");
        }
        recorded.push(closed.to_owned());
        let expected = Came { end: end.to_owned(), recorded, reached: 0 };
        let allowed = whole[..row.good].concat();
        let judged = if ended != expected {
            Err(format!("expected {expected:?}, came {ended:?}"))
        } else if well != (row.end == "good") || !allowed.starts_with(&bytes) || (well && bytes != allowed) {
            Err(format!("the service heard {} of {} bytes, its good end: {well}", bytes.len(), allowed.len()))
        } else {
            Ok(())
        };
        match row.what {
            "nothing" => family.judged_to_pass(row.what, judged),
            _ => family.judged(row.what, judged),
        }
    }
    family.holds();
}

/// The four messages of an answer: three say a text, the last one ends it.
fn answered(opening: &wire::Frame) -> Vec<Draft> {
    let mut speech = Speech::answering(opening);
    let [zero, one, two, _] = TEXTS;
    vec![
        speech.says(beginning(&[zero]), None),
        speech.says(saying(&[one]), None),
        speech.says(saying(&[two]), None),
        speech.says(ending(Contents::default(), "0"), None),
    ]
}

/// The last message of an answer otherwise, by its own sender.
fn ended_otherwise(owner: &Owner, opening: &wire::Frame) -> Vec<(&'static str, Vec<wire::Frame>, &'static str)> {
    let with = |change: &dyn Fn(&mut Draft)| {
        let mut drafts = answered(opening);
        change(drafts.last_mut().unwrap());
        owner.frames(drafts)
    };
    let field = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    let trailers = |fields: Vec<(String, Bytes)>| {
        let mut speech = Speech::answering(opening);
        let [zero, one, two, _] = TEXTS;
        let mut drafts: Vec<Draft> = vec![
            speech.says(beginning(&[zero]), None),
            speech.says(saying(&[one]), None),
            speech.says(saying(&[two]), None),
        ];
        drafts.push(speech.says(Contents { trailers: Some(fields), ..Default::default() }, None));
        owner.frames(drafts)
    };
    let status_in_the_head = || {
        let mut speech = Speech::answering(opening);
        let mut contents = beginning(&[TEXTS[0]]);
        contents.metadata.as_mut().unwrap().push(field("grpc-status", "0"));
        let mut drafts = vec![speech.says(contents, None)];
        drafts.push(speech.says(ending(Contents::default(), "0"), None));
        owner.frames(drafts)
    };
    let refused = |code: &'static str| {
        let mut drafts = answered(opening);
        let last = drafts.last_mut().unwrap();
        last.facts.end = Some(End::Refused(code.to_owned()));
        last.payload = None;
        owner.frames(drafts)
    };
    vec![
        ("no trailers beside the end", with(&|draft| draft.payload = None), "PROVIDER_UNPROVEN"),
        (
            "no fields in the trailers",
            with(&|draft| draft.payload.as_mut().unwrap().trailers.clear()),
            "PROVIDER_UNPROVEN",
        ),
        (
            "another status than the trailers'",
            with(&|draft| {
                if let Some(End::Trailers { status, .. }) = &mut draft.facts.end {
                    *status = 5;
                }
            }),
            "PROVIDER_UNPROVEN",
        ),
        (
            "two statuses in the trailers",
            trailers(vec![field("grpc-status", "0"), field("grpc-status", "7")]),
            "PROVIDER_UNPROVEN",
        ),
        ("a status that is written otherwise", trailers(vec![field("grpc-status", "00")]), "PROVIDER_UNPROVEN"),
        ("a status in the head too", status_in_the_head(), "PROVIDER_UNPROVEN"),
        (
            "a half-close",
            with(&|draft| {
                draft.facts.end = Some(End::HalfClose);
                draft.payload = None;
            }),
            "PROVIDER_UNPROVEN",
        ),
        // Words of our own server, in another's mouth.
        ("a refusal that only our own server says", refused("PROVIDER_UNREACHABLE"), "OUTCOME_UNKNOWN"),
        ("a refusal that is only said without a seal", refused("REPLAYED"), "OUTCOME_UNKNOWN"),
        ("a refusal of no list", refused("NO_SUCH_CODE"), "OUTCOME_UNKNOWN"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_gets_no_piece_past_the_first_that_is_not_proven() {
    let mut family = Family::of(
        "a_caller_gets_no_piece_past_the_first_that_is_not_proven",
        "a provider with all its keys, and whoever holds its connection",
    );
    let mut at = AtConsumer::new().await;
    let owner = at.owner.clone();
    let elsewhere = {
        let rogue = rogue::Rogue::of(&at.world, "portal");
        Owner::of(&at.world, "portal").frame(rogue.opening(&at.world))
    };
    let rows = spliced(&owner.frames(answered(&elsewhere)), &owner.frames(answered(&elsewhere)), &elsewhere);
    for (number, row) in rows.into_iter().enumerate() {
        let (owner, elsewhere) = (owner.clone(), elsewhere.clone());
        let came = at.came(move |opening| {
            let (good, other) = (owner.frames(answered(&opening)), owner.frames(answered(&elsewhere)));
            spliced(&good, &other, &opening).swap_remove(number).parts
        });
        let (end, closed) = match row.end {
            "good" => ("status 0", "closed completed"),
            "silent" => ("OUTCOME_UNKNOWN", "closed silent"),
            _ => ("PROVIDER_UNPROVEN", "closed silent"),
        };
        let good = row.good.min(3);
        let recorded = received(row.good, " status 0", closed);
        let recorded: Vec<&str> = recorded.iter().map(String::as_str).collect();
        family.stopped(row.what, end, &recorded, good, came.await);
    }
    let rows = sealed_otherwise(&owner, &answered(&elsewhere));
    for (number, (what, _)) in rows.into_iter().enumerate() {
        let owner = owner.clone();
        let came = at.came(move |opening| {
            let (_, frames) = sealed_otherwise(&owner, &answered(&opening)).swap_remove(number);
            frames.iter().map(encode).collect()
        });
        family.stopped(what, "PROVIDER_UNPROVEN", &["received answer 0", "closed silent"], 1, came.await);
    }
    let rows = ended_otherwise(&owner, &elsewhere);
    for (number, (what, frames, end)) in rows.into_iter().enumerate() {
        let (owner, messages) = (owner.clone(), frames.len());
        let came = at.came(move |opening| {
            let (_, frames, _) = ended_otherwise(&owner, &opening).swap_remove(number);
            frames.iter().map(encode).collect()
        });
        let came = came.await;
        let recorded = match (end, what) {
            ("OUTCOME_UNKNOWN", _) => {
                assert!(came.recorded.last().is_some_and(|line| line == "closed completed"), "{what}: it is an answer");
                came.recorded.clone()
            }
            (_, "a status in the head too") => received(0, "", "closed silent"),
            _ => received(messages - 1, "", "closed silent"),
        };
        let recorded: Vec<&str> = recorded.iter().map(String::as_str).collect();
        family.stopped(what, end, &recorded, messages - 1, came);
    }
    let came = at.came(move |opening| owner.frames(answered(&opening)).iter().map(encode).collect()).await;
    let recorded = received(4, " status 0", "closed completed");
    let recorded: Vec<&str> = recorded.iter().map(String::as_str).collect();
    family.passes("nothing", "status 0", &recorded, Came { reached: came.reached / 3, ..came });
    family.holds();
}

/// What is recorded where so many messages of an answer were good, all of them or not.
fn received(good: usize, end: &str, closed: &str) -> Vec<String> {
    let mut recorded: Vec<String> = (0..good).map(|number| format!("received answer {number}")).collect();
    if good == TEXTS.len() {
        recorded.last_mut().unwrap().push_str(end);
    }
    recorded.push(closed.to_owned());
    recorded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_call_is_no_answer() {
    let mut family = Family::of("an_answer_to_another_call_is_no_answer", "a provider with all its keys");
    let at = AtConsumer::new().await;
    let owner = at.owner.clone();
    // What a call is answered with: from its own opening, and that of the other call, which was made at the same time.
    type Crossed = fn(&Owner, &wire::Frame, &wire::Frame) -> wire::Frame;
    let crossed: [(&str, Crossed, &str); 6] = [
        ("its own answer", |owner, own, _| owner.frame(answer_to(own)), "status 0"),
        ("the other's answer", |owner, _, other| owner.frame(answer_to(other)), "PROVIDER_UNPROVEN"),
        (
            "the other's answer in a frame of this one",
            |owner, own, other| wire::Frame { exchange: own.exchange.clone(), ..owner.frame(answer_to(other)) },
            "PROVIDER_UNPROVEN",
        ),
        (
            "the other's payload under its own header",
            |owner, own, other| {
                let other = owner.frame(answer_to(other));
                wire::Frame { payload: other.payload, ..owner.frame(answer_to(own)) }
            },
            "PROVIDER_UNPROVEN",
        ),
        (
            "the other's header under its own seal",
            |owner, own, other| {
                let other = owner.frame(answer_to(other));
                wire::Frame { header: other.header, payload: other.payload, ..owner.frame(answer_to(own)) }
            },
            "PROVIDER_UNPROVEN",
        ),
        (
            "an answer of its own exchange that names the other's opening",
            |owner, own, other| {
                let mut draft = answer_to(own);
                draft.facts.answer = answer_to(other).facts.answer;
                owner.frame(draft)
            },
            "PROVIDER_UNPROVEN",
        ),
    ];
    for (what, make, end) in crossed {
        let (openings, both) = (Arc::new(Mutex::new(Vec::<wire::Frame>::new())), Arc::new(Barrier::new(2)));
        let owner = owner.clone();
        at.answer(Arc::new(move |own| {
            let (openings, both, owner) = (Arc::clone(&openings), Arc::clone(&both), owner.clone());
            Box::pin(async move {
                openings.lock().unwrap().push(own.clone());
                both.wait().await;
                let other = openings.lock().unwrap().iter().find(|opening| **opening != own).cloned().unwrap();
                vec![encode(&make(&owner, &own, &other))]
            })
        }));
        let known = at.world.records("portal");
        let call = || {
            let mut client = at.client.clone();
            let post = at.world.post("Unary");
            async move { client.call(post, raw::message(&said("asked"))).await }
        };
        let (one, other) = soon(async { tokio::join!(call(), call()) }).await;
        at.world.quiet().await;
        let answers = at.world.recorded("portal", known).iter().filter(|line| line.starts_with("received")).count();
        for answer in [one, other] {
            let passes = end == "status 0";
            let reached = attack::messages(&answer.body);
            let judged = if told(&answer) == end && reached == usize::from(passes) && answers == 2 * usize::from(passes)
            {
                Ok(())
            } else {
                Err(format!("{}, {reached} messages, {answers} answers recorded", told(&answer)))
            };
            if passes { family.judged_to_pass(what, judged) } else { family.judged(what, judged) }
        }
    }
    family.holds();
}

/// An honest server does not pass on what another must take for a lie: a status that is said twice, in another form, or
/// before the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_says_its_status_otherwise_makes_no_liar_of_its_server() {
    for (head, trailers) in [(None, vec!["00"]), (None, vec!["0", "7"]), (None, vec![]), (Some("0"), vec!["0"])] {
        let statuses = trailers.clone();
        let service = raw::serve(move |_| {
            let trailers = statuses.clone();
            async move {
                let (mut sender, mut response) = raw::answer();
                if let Some(status) = head {
                    response.headers_mut().insert("grpc-status", status.parse().unwrap());
                }
                tokio::spawn(async move {
                    let _ = sender.send_data(raw::message(&said("answered"))).await;
                    let mut fields = http::HeaderMap::new();
                    for status in trailers {
                        fields.append("grpc-status", status.parse().unwrap());
                    }
                    let _ = sender.send_trailers(fields).await;
                });
                response
            }
        })
        .await;
        let world = attack::world_with(service).await;
        let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("asked")))).await;
        assert_eq!(told(&answer), "SERVICE_MALFORMED", "{head:?}, {trailers:?}");
        world.quiet().await;
    }
}

// ---- the sum

/// The files whose tests are families.
const FAMILIES: [(&str, &str); 3] = [
    ("tampering", include_str!("tampering.rs")),
    ("tampering_senders", include_str!("tampering_senders.rs")),
    ("tampering_configurations", include_str!("tampering_configurations.rs")),
];

#[test]
fn every_family_is_on_the_page_and_nothing_unauthorised_passed_in_any() {
    let page = page();
    let mut named = 0;
    for (file, source) in FAMILIES {
        let bodies = source.split("\nasync fn ").skip(1).map(|test| test.split("\n}\n").next().unwrap());
        for body in bodies.filter(|body| body.contains("Family::of(")) {
            let name = body.split('(').next().unwrap();
            // A family that never asks whether it holds, or under another's name, would prove nothing.
            assert!(body.contains(&format!("\"{name}\"")), "{file}: {name} names its family after itself");
            assert!(body.contains("family.holds();"), "{file}: {name} asks whether it holds");
            assert!(page.contains_key(name), "{name} is on the page");
            named += 1;
        }
    }
    assert_eq!(named, page.len(), "each line of the page is a family");
    let (attacks, passed) =
        page.values().fold((0, 0), |(attacks, passed), line| (attacks + line.attacks, passed + line.passed));
    let text = std::fs::read_to_string(tests::programs::repository().join(tests::matrix::PAGE)).unwrap();
    let sum = format!("{attacks} attacks in {named} families, {passed} rows that must pass, 0 unauthorised calls");
    assert!(text.contains(&sum), "{} says: {sum}", tests::matrix::PAGE);
}
