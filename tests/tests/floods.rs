//! Floods and hostile bytes at every door: what a server holds of whoever sends them is bounded, and everybody else's calls go on.
//! And each limit of `[limits]`: as many as may be, and one more.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::join_all;
use keystore::Passphrase;
use proto::certificate::public_key;
use proto::refusal::Code;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use security_server::keys::ring::{self, Use};
use security_server::limits::Limits;
use security_server::tls::{self, Identity, Own};
use tests::echo::{Parrot, said, says};
use tests::frames::{
    self, ACK, COMPRESSION_ERROR, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Ended,
    FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS, NO_ERROR, PING, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, beginning, frame, headed, until_ended,
};
use tests::processes::{Instance, Member, Process, client, reserved};
use tests::raw::{self, Answer};
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// What all floods together may add to the memory that a server ever had. One connection may hold 16 MiB unread.
const MAX_GROWTH: u64 = 128 << 20;
/// Calls of others that are answered while a flood goes on.
const OTHERS: usize = 10;
/// A method that nobody is granted, and a provider that nobody named: each call is refused at the door.
const REFUSED: &str = "/no.such.Service/Method";

/// Two servers that run as processes, with a door of each kind.
struct Doors {
    instance: Instance,
    portal: Member,
    moj: Member,
    portals: Process,
    mojs: Process,
    _registry: Process,
    /// The portal's clients' door with TLS.
    tls: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// The one that is bound to the portal's system.
    Bound,
    /// The one with TLS, by nobody who is known.
    Stranger,
    /// That of the civil registry's server for other servers, with the portal's key.
    Peer,
}

impl Doors {
    async fn open() -> Self {
        let (service, _heard) = Parrot::serve().await;
        let instance = Instance::founded().await;
        let registry = instance.serve_registry().await;
        let (portal, moj) = (Member::new("portal", "one-stop"), Member::new("moj", "civil-registry"));
        for (member, services) in [(&portal, &[][..]), (&moj, &[("echo.v1.Echo", service)])] {
            instance.join(member).await;
            member.configure(instance.directory.path(), services);
        }
        let tls = reserved();
        let hurried = "\n[limits]\nhandshake_seconds = 1\nbegin_seconds = 1\nconnections_of_address = 256\n";
        for (member, more) in
            [(&portal, format!("\n[[clients]]\nlisten = \"{tls}\"\ntls = true\n")), (&moj, String::new())]
        {
            let file = instance.path(&member.file());
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, format!("{text}{more}{hurried}")).unwrap();
        }
        let (portals, mojs) = (instance.serve(&portal).await, instance.serve(&moj).await);
        instance.grant(&portal, &moj, &["/echo.v1.Echo/Unary"]).await;
        Self { instance, portal, moj, portals, mojs, _registry: registry, tls }
    }

    /// The certificates of the key that this member's server shows.
    fn chain(&self, member: &Member) -> Vec<Vec<u8>> {
        let file = ring::certificate_in_use(&self.instance.path(member.name), Use::Authentication);
        let pem = std::fs::read(file).unwrap();
        CertificateDer::pem_slice_iter(&pem).map(|der| der.unwrap().to_vec()).collect()
    }

    async fn dial(&self, door: Door) -> Box<dyn Connection> {
        let (address, whose) = match door {
            Door::Bound => return Box::new(TcpStream::connect(self.portal.clients).await.unwrap()),
            Door::Stranger => (self.tls, &self.portal),
            Door::Peer => (self.moj.peers, &self.moj),
        };
        let own = (door == Door::Peer).then(|| {
            let directory = self.instance.path(self.portal.name);
            let passphrase = std::fs::read_to_string(self.instance.path("credentials").join(self.portal.name)).unwrap();
            let passphrase = Passphrase::new(passphrase.trim().to_owned()).unwrap();
            let key = keystore::open_pkcs8(&ring::key_in_use(&directory, Use::Authentication), &passphrase).unwrap();
            Own::new(&Identity { chain: self.chain(&self.portal), key }).unwrap()
        });
        let pin = public_key(&self.chain(whose)[0]).unwrap().id();
        let config = tls::to_service(pin, own).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Box::new(TlsConnector::from(config).connect(name, stream).await.unwrap())
    }

    /// Goes on until it is over, and at least until others had answers to so many calls. Each of theirs goes well.
    async fn beside<T>(&self, flood: impl Future<Output = T>) -> T {
        let mut client = client(&self.portal, &self.moj);
        let (mut flood, mut over, mut answered) = (pin!(flood), None, 0);
        while over.is_none() || answered < OTHERS {
            let mut call = pin!(client.unary(said("all the while")));
            let answer = if over.is_some() {
                call.await
            } else {
                tokio::select! {
                    answer = &mut call => answer,
                    done = &mut flood => { over = Some(done); call.await }
                }
            };
            assert_eq!(answer.unwrap().into_inner(), said("all the while"));
            answered += 1;
        }
        over.expect("it is over")
    }

    /// The same of what would go on for ever, unless the server ends it.
    async fn beside_endless(&self, flood: impl Future<Output = Ended>) {
        let (stop, mut stopped) = mpsc::channel::<()>(1);
        let endless = async move {
            tokio::select! { _ = stopped.recv() => {}, _ = flood => {} }
        };
        let calls = async move {
            let mut client = client(&self.portal, &self.moj);
            for _ in 0..OTHERS {
                let answer = client.unary(said("all the while")).await.unwrap();
                assert_eq!(answer.into_inner(), said("all the while"));
            }
            drop(stop);
        };
        tokio::join!(endless, calls);
    }

    /// The most memory that the two servers ever had, in bytes.
    fn peaks(&self) -> [u64; 2] {
        [&self.portals, &self.mojs].map(|process| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        })
    }
}

/// Says the beginning, and then this again and again, until the server has ended the connection; reads what it says.
async fn flood(stream: Box<dyn Connection>, begin: Vec<u8>, mut each: impl FnMut(u32) -> Vec<u8>) -> Ended {
    let (mut read, mut write) = tokio::io::split(stream);
    let says = async {
        write.write_all(&begin).await?;
        for round in 0.. {
            write.write_all(&each(round)).await?;
            write.flush().await?;
        }
        std::io::Result::Ok(())
    };
    let says = async {
        let _ = says.await;
        std::future::pending().await
    };
    tokio::select! { ended = until_ended(&mut read) => ended, () = says => unreachable!("it goes on") }
}

/// The same, and reads nothing.
async fn flood_deaf(mut stream: Box<dyn Connection>, begin: Vec<u8>, each: Vec<u8>) -> Ended {
    let _ = stream.write_all(&begin).await;
    while stream.write_all(&each).await.is_ok() && stream.flush().await.is_ok() {}
    Ended::default()
}

/// The last word of a server that had enough, where the flood let it through: a connection that is closed with bytes unread is
/// reset, and its last bytes with it.
fn is_ended(ended: &Ended, what: &str, with: &[u32]) {
    assert!(ended.goaway.is_none_or(|code| with.contains(&code)), "{what}: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_at_every_door_are_ended_or_go_nowhere_and_others_calls_go_on() {
    let doors = Doors::open().await;
    client(&doors.portal, &doors.moj).unary(said("warm")).await.unwrap();
    let before = doors.peaks();
    for door in [Door::Bound, Door::Stranger, Door::Peer] {
        rapid_resets(&doors, door).await;
        endless_heads(&doors, door).await;
        bombs(&doors, door).await;
        questions_and_answers(&doors, door).await;
        malformed(&doors, door).await;
    }
    let grown: Vec<_> = doors.peaks().iter().zip(before).map(|(after, before)| after - before).collect();
    println!("the servers' memory grew by {grown:?} bytes, from {before:?}");
    assert!(grown.iter().all(|bytes| *bytes < MAX_GROWTH), "{grown:?}");
}

/// CVE-2023-44487: calls that are taken back as soon as they are made.
async fn rapid_resets(doors: &Doors, door: Door) {
    let head = frames::call(REFUSED, &[]);
    let ended = flood(doors.dial(door).await, beginning(&[]), |round| {
        let calls = (0..200).flat_map(|each| {
            let stream = 2 * (200 * round + each) + 1;
            [frame(HEADERS, END_HEADERS, stream, &head), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        });
        calls.collect()
    });
    let ended = soon(doors.beside(ended)).await;
    is_ended(&ended, "rapid reset", &[ENHANCE_YOUR_CALM, NO_ERROR]);
}

/// CVE-2024-27316: a head that never ends.
async fn endless_heads(doors: &Doors, door: Door) {
    let mut begin = beginning(&[]);
    begin.extend(frame(HEADERS, 0, 1, &frames::call(REFUSED, &[])));
    let piece = frame(CONTINUATION, 0, 1, &frames::field("x-more", "and more"));
    let ended = flood(doors.dial(door).await, begin, |_| piece.repeat(100));
    is_ended(&soon(doors.beside(ended)).await, "endless head", &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR]);
}

/// A field of 4,000 bytes that is said once and pointed at 10,000 times, one byte each.
async fn bombs(doors: &Doors, door: Door) {
    let ended = flood(doors.dial(door).await, beginning(&[]), |round| {
        let mut head = frames::call(REFUSED, &[]);
        head.extend(frames::remembered("x-b", &"b".repeat(4000)));
        head.extend([0xbe; 10_000]);
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * round + 1, &head)
    });
    is_ended(&soon(doors.beside(ended)).await, "bomb", &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR]);
}

/// What wants an answer, or costs a look, again and again: heard, and not.
async fn questions_and_answers(doors: &Doors, door: Door) {
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    let ping = frame(PING, 0, 0, b"are you?");
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]);
    let window = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    let mut open = beginning(&[]);
    open.extend(frame(HEADERS, END_HEADERS, 1, &frames::call(REFUSED, &[])));
    for each in [settings, ping, priority, window, frame(DATA, 0, 1, b"")] {
        let each = each.repeat(500);
        let heard = flood(doors.dial(door).await, open.clone(), |_| each.clone());
        soon(doors.beside_endless(heard)).await;
        soon(doors.beside_endless(flood_deaf(doors.dial(door).await, open.clone(), each))).await;
    }
}

/// What no client may say. Each closes its connection with the code that the specification has for it; for a frame of a wrong size
/// the library has PROTOCOL_ERROR in places.
async fn malformed(doors: &Doors, door: Door) {
    let call = frames::call(REFUSED, &[]);
    let opened = frame(HEADERS, END_HEADERS, 1, &call);
    let too_wide = [frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()), vec![]].concat();
    let cases: Vec<(&str, Vec<u8>, &[u32])> = vec![
        ("data on no stream", frame(DATA, 0, 0, b"x"), &[PROTOCOL_ERROR]),
        ("data on a stream that is not open", frame(DATA, 0, 1, b"x"), &[PROTOCOL_ERROR]),
        ("a server's stream", frame(HEADERS, END_HEADERS, 2, &call), &[PROTOCOL_ERROR]),
        (
            "a stream that goes back",
            [frame(HEADERS, END_HEADERS, 5, &call), frame(HEADERS, END_HEADERS, 3, &call)].concat(),
            &[PROTOCOL_ERROR],
        ),
        (
            "a head without an end, and another frame",
            [frame(HEADERS, 0, 1, &call), frame(PING, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("a head that goes on and never began", frame(CONTINUATION, END_HEADERS, 1, &call), &[PROTOCOL_ERROR]),
        (
            "fields that cannot be read",
            frame(HEADERS, END_HEADERS, 1, &[0xff; 40]),
            &[PROTOCOL_ERROR, COMPRESSION_ERROR],
        ),
        ("a field that was never said", frame(HEADERS, END_HEADERS, 1, &[0xfe]), &[PROTOCOL_ERROR, COMPRESSION_ERROR]),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), &[PROTOCOL_ERROR]),
        ("a reset of nothing", frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()), &[PROTOCOL_ERROR]),
        (
            "a reset that is too short",
            [opened.clone(), frame(RST_STREAM, 0, 1, &[0])].concat(),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), &[PROTOCOL_ERROR]),
        ("a window beyond all bounds", too_wide, &[FLOW_CONTROL_ERROR]),
        ("settings of half a value", frame(SETTINGS, 0, 0, &[0, 4, 0]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        (
            "an acknowledgement that says something",
            frame(SETTINGS, ACK, 0, &[0, 4, 0, 0, 0, 1]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("a ping of another size", frame(PING, 0, 0, b"ping"), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("padding longer than its frame", [opened, frame(DATA, 8, 1, &[200, 0])].concat(), &[PROTOCOL_ERROR]),
        ("a frame longer than any", headed(0x00ff_ffff, DATA, 0, 1, b"x"), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("farewell on a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
    ];
    let mut otherwise = Vec::new();
    for (what, bytes, codes) in cases {
        let mut stream = doors.dial(door).await;
        stream.write_all(&[beginning(&[]), bytes].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let ended = soon(until_ended(&mut stream)).await;
        if !ended.goaway.is_some_and(|code| codes.contains(&code)) {
            otherwise.push((what, ended));
        }
    }
    assert!(otherwise.is_empty(), "{door:?}: {otherwise:#?}");
    client(&doors.portal, &doors.moj).unary(said("after all that")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slow_hold_no_more_than_their_own_and_others_calls_go_on() {
    let doors = Doors::open().await;
    client(&doors.portal, &doors.moj).unary(said("warm")).await.unwrap();
    let before = doors.peaks();
    silent_strangers(&doors).await;
    slow_heads(&doors).await;
    let bodies = slow_bodies(&doors).await;
    let readers = slow_readers(&doors).await;
    let grown: Vec<_> = doors.peaks().iter().zip(before).map(|(after, before)| after - before).collect();
    println!("the servers' memory grew by {grown:?} bytes, from {before:?}");
    assert!(grown.iter().all(|bytes| *bytes < MAX_GROWTH), "{grown:?}");
    drop((bodies, readers));
}

/// Who connects and says nothing, or the beginning of a handshake, is closed out.
async fn silent_strangers(doors: &Doors) {
    let hello = [0x16, 3, 1, 2, 0, 1];
    let connections = [doors.tls, doors.moj.peers, doors.portal.clients].into_iter().flat_map(|address| {
        [&b""[..], &hello[..3], &hello].into_iter().flat_map(move |says| (0..10).map(move |_| (address, says)))
    });
    let silent = join_all(connections.map(|(address, says)| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(says).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }));
    soon(doors.beside(silent)).await;
    // Neither is a stranger without a certificate let in where peers are.
    let pin = public_key(&doors.chain(&doors.moj)[0]).unwrap().id();
    let stream = TcpStream::connect(doors.moj.peers).await.unwrap();
    let connector = TlsConnector::from(tls::to_service(pin, None).unwrap());
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(soon(until_ended(&mut stream)).await, Ended::default());
}

/// Heads that come a byte at a time, or stop coming.
async fn slow_heads(doors: &Doors) {
    let head = "POST /no.such.Service/Method HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    let slow = join_all((0..20).map(|number| async move {
        let mut stream = TcpStream::connect(doors.portal.clients).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let writes = async {
            if number % 2 == 0 {
                // It goes no further.
                std::future::pending::<()>().await;
            }
            while write.write_all(b"y").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let mut heard = Vec::new();
        tokio::select! { _ = read.read_to_end(&mut heard) => {}, () = writes => {} }
    }));
    soon(doors.beside(slow)).await;
}

/// Bodies that never come, of calls by our own system and by a peer.
async fn slow_bodies(doors: &Doors) -> Vec<Box<dyn Connection>> {
    let mut held = Vec::new();
    let fields = [("causeway-service", doors.moj.subsystem.as_str()), ("causeway-purpose", tests::processes::PURPOSE)];
    for (door, head) in [
        (Door::Bound, frames::call("/echo.v1.Echo/Unary", &fields)),
        (Door::Peer, frames::call("/causeway.relay.v1.Relay/Exchange", &[])),
    ] {
        let mut stream = doors.dial(door).await;
        stream.write_all(&beginning(&[])).await.unwrap();
        // All at once would be more than a server takes in hand (`flow.rs`): it would refuse for a moment, and the others too.
        for some in [0..128, 128..256] {
            let heads: Vec<u8> = some.flat_map(|call| frame(HEADERS, END_HEADERS, 2 * call + 1, &head)).collect();
            stream.write_all(&heads).await.unwrap();
            stream.flush().await.unwrap();
            soon(doors.beside(async {})).await;
        }
        held.push(stream);
    }
    held
}

/// Answers that nobody takes: with a window of nothing no byte of them may be sent.
async fn slow_readers(doors: &Doors) -> Vec<Box<dyn Connection>> {
    let fields = [("causeway-service", doors.moj.subsystem.as_str()), ("causeway-purpose", tests::processes::PURPOSE)];
    let head = frames::call("/echo.v1.Echo/Unary", &fields);
    let message = raw::message(&Said { bytes: vec![7; 200 * 1024], ..Default::default() });
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = doors.dial(Door::Bound).await;
        stream.write_all(&beginning(&[(4, 0)])).await.unwrap();
        // The server's own windows count from their acknowledgement on.
        while soon(frames::next(&mut stream)).await.unwrap().0 != SETTINGS {}
        stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        for call in 0..8 {
            let stream_id = 2 * call + 1;
            stream.write_all(&frame(HEADERS, END_HEADERS, stream_id, &head)).await.unwrap();
            let pieces: Vec<_> = message.chunks(16 * 1024).collect();
            for (number, piece) in pieces.iter().enumerate() {
                let end = if number + 1 == pieces.len() { END_STREAM } else { 0 };
                stream.write_all(&frame(DATA, end, stream_id, piece)).await.unwrap();
            }
        }
        // Each is answered, and its head is all that may come.
        let mut heads = 0;
        while heads < 8 {
            let (kind, _) = soon(frames::next(&mut stream)).await.unwrap();
            assert_ne!(kind, DATA);
            heads += usize::from(kind == HEADERS);
        }
        held.push(stream);
    }
    soon(doors.beside(async {})).await;
    held
}

// ---- each limit: as many as may be, and one more

async fn limited(limits: Limits) -> World {
    let world = World::arranged(async |world| world.limits = limits).await;
    world.grant_all().await;
    world
}

/// Another connection, and what comes of a call on it. None: it is closed.
async fn served(address: SocketAddr) -> Option<raw::Client> {
    let mut client = raw::Client::to(address).await;
    let (sender, response) = client.open(http::Request::post("http://localhost/x").header("te", "trailers"));
    drop(sender);
    soon(response).await.ok().map(|_| client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_as_many_connections_as_may_be_and_one_more_is_closed() {
    let world = limited(Limits { connections_of_address: 16, ..Limits::default() }).await;
    let door = world.servers["portal"].clients[0];
    let mut held = Vec::new();
    for number in 0..16 {
        held.push(served(door).await.unwrap_or_else(|| panic!("the connection {number} is closed")));
    }
    assert!(served(door).await.is_none(), "one more");
    held.pop().unwrap().cut();
    soon(async { while served(door).await.is_none() {} }).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_has_as_many_connections_as_may_be_and_one_more_waits() {
    let world = limited(Limits { connections: 64, ..Limits::default() }).await;
    let door = world.servers["portal"].clients[0];
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(served(door).await.unwrap());
    }
    let mut more = Box::pin(served(door));
    for client in &mut held {
        let answer = soon(client.call(world.post("Unary"), raw::message(&said("")))).await;
        assert_eq!(answer.refusal(), None);
        assert!(futures_util::poll!(&mut more).is_pending(), "one more");
    }
    held.pop().unwrap().cut();
    assert!(more.await.is_some());
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_has_as_many_connections_to_a_peer_as_may_be_and_one_more_is_closed() {
    let world = limited(Limits { connections_of_peer: 4, ..Limits::default() }).await;
    let (rogue, other) = (Rogue::of(&world, "portal"), Rogue::of(&world, "moj"));
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = rogue.connect(&world, "moj").await;
        let answer = rogue::say(&mut client, &rogue.seal(rogue.opening(&world)).await).await;
        assert_eq!(answer.refusal(), None);
        held.push(client);
    }
    let mut more = rogue.connect(&world, "moj").await;
    let (_sender, response) = more.open(rogue::exchange());
    assert!(soon(response).await.is_err(), "one more");
    // Another key has its own.
    let answer = rogue::say(&mut other.connect(&world, "moj").await, &other.seal(other.opening(&world)).await).await;
    assert_eq!(answer.refusal(), Some("UNPROVEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_as_many_exchanges_as_may_be_and_one_more_is_refused_with_advice() {
    let world = limited(Limits { exchanges_of_client: 16, ..Limits::default() }).await;
    let mut client = world.raw().await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let (sender, response) = client.open(world.post("Both"));
        held.push((sender, soon(response).await.unwrap()));
    }
    assert!(held.iter().all(|(_, answer)| !answer.headers().contains_key("causeway-refusal")));
    let more = soon(client.call(world.post("Unary"), raw::message(&said("")))).await;
    assert_eq!(more.refusal(), Some("TOO_MANY_EXCHANGES"));
    assert!(waits_a_second(&more), "and when to ask again");
    let (sender, response) = held.pop().unwrap();
    drop(sender);
    assert_eq!(soon(Answer::read(response)).await.status(), 0);
    soon(async {
        loop {
            let again = client.call(world.post("Unary"), raw::message(&said(""))).await;
            if again.refusal().is_none() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_calls_too_often_is_refused_with_advice() {
    let world = limited(Limits { calls_of_client_per_second: 1, ..Limits::default() }).await;
    let mut client = world.raw().await;
    let first = soon(client.call(world.post("Unary"), raw::message(&said("")))).await;
    assert_eq!(first.refusal(), None);
    // Within a second there is no other, and these begin within one on any machine that a test can run on.
    let calls = (0..50).map(|_| {
        let mut client = client.clone();
        let request = world.post("Unary");
        async move { client.call(request, raw::message(&said(""))).await }
    });
    let answers = soon(join_all(calls)).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.refusal() == Some("CALLED_TOO_OFTEN")).collect();
    assert!(!refused.is_empty() && refused.iter().all(|answer| waits_a_second(answer)));
    assert!(answers.iter().all(|answer| matches!(answer.refusal(), None | Some("CALLED_TOO_OFTEN"))));
}

/// Whether a refusal's details say to ask again after a second: google.rpc.RetryInfo, which `raw::Answer` compared byte for byte.
fn waits_a_second(refused: &Answer) -> bool {
    let code: Code = refused.refusal().unwrap().parse().unwrap();
    refused.field("grpc-status-details-bin").is_some() && code.retry_after_seconds() == Some(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_ends_when_it_took_as_long_as_one_may_at_either_server() {
    for name in ["portal", "moj"] {
        let mut world = World::new().await;
        world.limits = Limits { exchange_seconds: 1, ..Limits::default() };
        world.restart(name).await;
        let (_sender, response) = world.raw().await.open(world.post("Both"));
        let answer = soon(Answer::read(soon(response).await.unwrap())).await;
        assert_eq!((answer.status(), answer.refusal()), (4, Some("DEADLINE_PASSED")), "{name}");
        world.quiet().await;
        // Nobody was told of a deadline that its caller did not set.
        let log = world.log_of("moj", answer.field("causeway-exchange").unwrap());
        assert_eq!(log.last().unwrap().end.as_deref(), Some("completed"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_as_many_bytes_as_may_be_and_one_more_is_refused() {
    const MOST: usize = 1 << 20;
    let service = raw::serve(|request| async {
        let (mut sender, response) = raw::answer();
        let bytes = request.headers().get("x-bytes").map_or(0, |bytes| bytes.to_str().unwrap().parse().unwrap());
        tokio::spawn(async move {
            let _ = raw::body_of(request).await;
            let _ = sender.send_data(Bytes::from(vec![0; bytes])).await;
            let _ = sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await;
        });
        response
    })
    .await;
    let mut world = World::with_service(service).await;
    world.limits = Limits { stream_bytes: MOST as u64, ..Limits::default() };
    world.restart("portal").await;
    world.restart("moj").await;
    let mut client = world.raw().await;
    for (says, hears, refused) in [
        (MOST, 0, None),
        (MOST + 1, 0, Some("MESSAGE_TOO_LARGE")),
        (0, MOST, None),
        (0, MOST + 1, Some("SERVICE_MALFORMED")),
    ] {
        let request = world.post("Both").header("x-bytes", hears.to_string());
        let answer = soon(client.call(request, vec![0; says].into())).await;
        assert_eq!(answer.refusal(), refused, "{says} and {hears}");
        assert!(refused.is_some() || answer.body.len() == hears, "{says} and {hears}");
    }
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_within_all_limits() {
    let world = limited(Limits { exchanges_of_client: 16, connections_of_peer: 4, ..Limits::default() }).await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    for number in 0..10 {
        sender.send(Said { number, ..said("on") }).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(Said { number, ..said("on") }));
    }
}
