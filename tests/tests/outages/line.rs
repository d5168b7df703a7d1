//! The line to a peer or to a service is gone, without a word or with one; a name is not resolved, or means another place.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use security_server::listen::{KEEP_ALIVE, MAX_EXCHANGES_OF_SERVICE, MAX_EXCHANGES_WITH_PEER};
use security_server::names::{NAME_TIMEOUT, Names};
use security_server::relay::CONNECT_TIMEOUT;
use security_server::services::{PING_INTERVAL, Service, Services};
use tests::echo::{Heard, Parrot, said, says};
use tests::raw::{self, Answer};
use tests::soon;
use tests::tap::{Tap, Toward, Weather};
use tests::wire::Said;
use tests::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::held_time::HeldTime;
use crate::seen::{assert_none_is_lost, call, call_once, code};

const WAYS: [Toward; 2] = [Toward::Target, Toward::Origin];

/// The world, with a tap between the servers and one before the service.
async fn tapped() -> (World, Tap, Tap) {
    let mut taps = None;
    let world = World::arranged(async |world| {
        let moj = &mut world.members.get_mut("moj").unwrap().document.servers[0];
        let listens: SocketAddr = moj.address.parse().unwrap();
        let (line, service) = (Tap::before(listens).await, Tap::before(world.service).await);
        (moj.address, world.service) = (line.address.to_string(), service.address);
        taps = Some((line, service));
    })
    .await;
    world.grant_all().await;
    let (line, service) = taps.unwrap();
    (world, line, service)
}

/// A call that the service never answers: when it returns, the service has heard it.
async fn hanging(world: &mut World, time: &HeldTime) -> JoinHandle<Result<String, String>> {
    let mut client = world.client().await;
    let call = tokio::spawn(async move {
        let refused = client.hang(said("hangs")).await.unwrap_err();
        let exchange = refused.metadata().get("causeway-exchange");
        let exchange = exchange.map(|exchange| exchange.to_str().unwrap().to_owned()).unwrap_or_default();
        Err::<String, _>(format!("{} {exchange}", code(&refused)))
    });
    while time.comes(world.heard.recv()).await.unwrap() == Heard::Gone {}
    call
}

/// Its code and its exchange.
async fn refused(call: JoinHandle<Result<String, String>>, time: &HeldTime) -> (String, String) {
    let refused = time.comes(call).await.unwrap().unwrap_err();
    let (code, exchange) = refused.split_once(' ').unwrap();
    (code.to_owned(), exchange.to_owned())
}

/// Second by second; and two more, because what one timer begins another measures.
async fn pass_by_seconds(time: &HeldTime, whole: Duration) {
    for _ in 0..whole.as_secs() + 2 {
        time.pass(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_is_found_in_twice_the_keep_alive_and_heals_with_the_line() {
    let time = HeldTime::begin();
    let (mut world, line, _service) = tapped().await;
    let mut client = world.client().await;
    let acknowledged = time.comes(call(&mut client)).await.unwrap();
    assert!(matches!(world.heard.recv().await, Some(Heard::Call(..))));
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = time.comes(client.both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("before")).await.unwrap();
    assert_eq!(time.comes(answers.message()).await.unwrap(), Some(said("before")));
    assert!(matches!(world.heard.recv().await, Some(Heard::Call(..))));
    let unary = hanging(&mut world, &time).await;

    for way in WAYS {
        line.hold_back(way);
    }
    pass_by_seconds(&time, KEEP_ALIVE).await;
    assert!(!unary.is_finished(), "silence is no end yet");
    pass_by_seconds(&time, KEEP_ALIVE).await;
    let (code_of_unary, exchange) = refused(unary, &time).await;
    assert_eq!(code_of_unary, "OUTCOME_UNKNOWN");
    assert_eq!(code(&time.comes(answers.message()).await.unwrap_err()), "OUTCOME_UNKNOWN");
    // At the other side too: the service hears that nobody listens, and both logs have the end.
    while time.comes(world.heard.recv()).await.unwrap() != Heard::Gone {}
    time.comes(quiet(&world)).await;
    assert_eq!(world.log_of("portal", &exchange).last().unwrap().end.as_deref(), Some("silent"));
    assert_eq!(world.log_of("moj", &exchange).last().unwrap().kind, "closed");

    // While it is gone nothing is sent, and a caller waits for no longer than a dial.
    let (mut another, before) = (world.client().await, line.given(Toward::Target));
    let waiting = tokio::spawn(async move { call(&mut another).await });
    time.comes(async {
        while line.given(Toward::Target) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    pass_by_seconds(&time, CONNECT_TIMEOUT).await;
    assert_eq!(time.comes(waiting).await.unwrap(), Err("PROVIDER_UNREACHABLE".into()));

    for way in WAYS {
        line.let_on(way);
    }
    let again = time.comes(call(&mut client)).await.expect("the first call after it healed");
    time.comes(quiet(&world)).await;
    assert_none_is_lost(&world, &[acknowledged, again]);
}

/// Nobody calls meanwhile: the dead connection must not cost the next caller its call.
#[tokio::test]
async fn a_peer_that_vanishes_while_nobody_calls_is_found_all_the_same() {
    let time = HeldTime::begin();
    let (world, line, _service) = tapped().await;
    let mut client = world.client().await;
    time.comes(call(&mut client)).await.unwrap();
    for way in WAYS {
        line.hold_back(way);
    }
    pass_by_seconds(&time, 2 * KEEP_ALIVE).await;
    for way in WAYS {
        line.let_on(way);
    }
    time.comes(call(&mut client)).await.expect("a new connection was made for it");
}

/// The provider acted, and its answer is on the way for ever.
#[tokio::test]
async fn where_answers_are_lost_the_consumer_says_it_does_not_know_and_the_provider_that_it_answered() {
    let time = HeldTime::begin();
    let (mut world, line, _service) = tapped().await;
    let mut client = world.client().await;
    time.comes(call(&mut client)).await.unwrap();
    world.heard.recv().await.unwrap();
    line.hold_back(Toward::Origin);
    let waiting = tokio::spawn(async move {
        let refused = client.unary(said("acts")).await.unwrap_err();
        let exchange = refused.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        (code(&refused), exchange)
    });
    assert!(matches!(time.comes(world.heard.recv()).await, Some(Heard::Call(..))), "it acted");
    time.settle().await;
    pass_by_seconds(&time, 2 * KEEP_ALIVE).await;
    let (code, exchange) = time.comes(waiting).await.unwrap();
    assert_eq!(code, "OUTCOME_UNKNOWN");
    time.comes(quiet(&world)).await;
    assert_eq!(world.log_of("portal", &exchange).last().unwrap().end.as_deref(), Some("silent"));
    let answered = world.log_of("moj", &exchange);
    let sealed = answered.iter().find(|line| line.kind == "sent" && line.end.is_some()).unwrap();
    assert_eq!(sealed.end.as_deref(), Some("status 0"), "{answered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_reset_or_garbled_leaves_the_outcome_unknown_and_the_next_call_passes() {
    let (mut world, line, _service) = tapped().await;
    for garbled in [false, true] {
        let mut client = world.client().await;
        soon(client.unary(said("first"))).await.unwrap();
        let (sender, receiver) = mpsc::channel(1);
        let mut answers = soon(client.both(says(receiver))).await.unwrap().into_inner();
        sender.send(said("before")).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));
        while world.heard.try_recv().is_ok() {}
        let mut another = world.client().await;
        let unary = tokio::spawn(async move { another.hang(said("hangs")).await.unwrap_err() });
        while soon(world.heard.recv()).await.unwrap() == Heard::Gone {}

        if garbled {
            // TLS finds it: a byte that was changed is no byte of the peer's. The first of a record is not looked at: its
            // type is a constant (RFC 8446 5.2), so what is flipped lies after its header.
            line.befall(Toward::Origin, Weather::FlippedAfter(5));
            let _ = sender.send(said("provokes an answer")).await;
        } else {
            line.befall(Toward::Origin, Weather::Reset);
        }
        let ended: Status = soon(unary).await.unwrap();
        assert_eq!(code(&ended), "OUTCOME_UNKNOWN", "garbled: {garbled}");
        assert_eq!(code(&soon(answers.message()).await.unwrap_err()), "OUTCOME_UNKNOWN", "garbled: {garbled}");
        world.quiet().await;
        let exchange = ended.metadata().get("causeway-exchange").unwrap().to_str().unwrap();
        assert_eq!(world.log_of("portal", exchange).last().unwrap().end.as_deref(), Some("silent"));
        line.befall(Toward::Origin, Weather::Fair);
        call_once(&world).await.expect("the first call after it healed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_line_is_reset_or_garbled_in_the_middle_of_its_answer_is_named_and_found_again() {
    let (mut world, _line, service) = tapped().await;
    for garbled in [false, true] {
        let (sender, receiver) = mpsc::channel(1);
        let answer = soon(world.client().await.both(says(receiver))).await.unwrap();
        let exchange = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
        let mut answers = answer.into_inner();
        sender.send(said("well")).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(said("well")), "it had said that all is well");
        while world.heard.try_recv().is_ok() {}
        if garbled {
            service.befall(Toward::Origin, Weather::FlippedAfter(0));
            sender.send(said("provokes an answer")).await.unwrap();
        } else {
            service.befall(Toward::Origin, Weather::Reset);
        }
        let ended = soon(answers.message()).await.unwrap_err();
        assert_eq!(code(&ended), "SERVICE_MALFORMED", "garbled: {garbled}");
        world.quiet().await;
        for name in ["portal", "moj"] {
            // Sealed at the provider, so that both know whose fault it was.
            let log = world.log_of(name, &exchange);
            let end = log.iter().find(|line| line.direction == Some("answer") && line.end.is_some()).unwrap();
            assert!(end.end.as_deref().unwrap().starts_with("abort"), "{name}: {log:?}");
        }
        service.befall(Toward::Origin, Weather::Fair);
        call_once(&world).await.expect("the first call after it healed");
    }
}

#[tokio::test]
async fn a_service_that_vanishes_costs_its_caller_its_deadline_and_nobody_more_than_the_next_ping() {
    let time = HeldTime::begin();
    let (mut world, _line, service) = tapped().await;
    time.comes(call(&mut world.client().await)).await.unwrap();
    world.heard.recv().await.unwrap();
    let unbounded = hanging(&mut world, &time).await;
    let mut client = world.raw().await;
    let request = world.post("Hang").header("grpc-timeout", "7S");
    let bounded = tokio::spawn(async move { client.call(request, raw::message(&said("hangs"))).await });
    time.comes(world.heard.recv()).await.unwrap();
    for way in WAYS {
        service.hold_back(way);
    }
    pass_by_seconds(&time, Duration::from_secs(8)).await;
    assert_eq!(time.comes(bounded).await.unwrap().refusal(), Some("DEADLINE_PASSED"));
    for _ in 0..(PING_INTERVAL + 2 * KEEP_ALIVE).as_secs() / 5 {
        time.pass(Duration::from_secs(5)).await;
    }
    let (code, _) = refused(unbounded, &time).await;
    assert_eq!(code, "SERVICE_MALFORMED");
    for way in WAYS {
        service.let_on(way);
    }
    time.comes(call(&mut world.client().await)).await.expect("the first call after it healed");
}

/// The gRPC libraries close a connection on which they are asked more often than every five minutes whether they live:
/// an honest slow call would die of it.
#[tokio::test]
async fn a_service_that_takes_long_is_not_asked_so_often_that_it_takes_offence() {
    let time = HeldTime::begin();
    let (service, mut frames) = counting_service().await;
    let mut world = World::with_service(service).await;
    world.service = service;
    let mut client = world.client().await;
    let call = tokio::spawn(async move { client.hang(said("takes long")).await });
    while time.comes(frames.recv()).await.unwrap() != HEADERS {}
    for _ in 0..60 {
        time.pass(Duration::from_secs(5)).await;
    }
    let mut pings = 0;
    while let Ok(frame) = frames.try_recv() {
        pings += usize::from(frame == PING);
    }
    assert_eq!(pings, 0, "in five minutes");
    for _ in 0..4 {
        time.pass(Duration::from_secs(5)).await;
    }
    assert_eq!(time.comes(frames.recv()).await, Some(PING), "and then it is asked");
    assert!(!call.is_finished());
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// A service of HTTP/2 that answers settings and nothing else, and tells the type of each frame that it gets.
async fn counting_service() -> (SocketAddr, mpsc::UnboundedReceiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await?;
                stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).await?;
                    let [high, middle, low, kind, flags, ..] = head;
                    let mut body = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
                    stream.read_exact(&mut body).await?;
                    if kind == SETTINGS && flags == 0 {
                        stream.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]).await?;
                    }
                    let _ = tell.send(kind);
                    if kind == PING {
                        stream.write_all(&[0, 0, 8, PING, 1, 0, 0, 0, 0]).await?;
                        stream.write_all(&body).await?;
                    }
                }
                #[allow(unreachable_code, reason = "says what the errors above are")]
                Ok::<_, std::io::Error>(())
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn a_service_may_answer_after_an_hour_where_its_caller_waits() {
    let time = HeldTime::begin();
    let (go_on, wait) = tokio::sync::watch::channel(false);
    let service = raw::serve(move |request| {
        let mut wait = wait.clone();
        async move {
            let _ = raw::body_of(request).await;
            wait.wait_for(|go_on| *go_on).await.unwrap();
            let (mut sender, response) = raw::answer();
            tokio::spawn(async move {
                sender.send_data(raw::message(&said("at last"))).await.unwrap();
                sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await
            });
            response
        }
    })
    .await;
    let world = World::with_service(service).await;
    let mut client = world.client().await;
    let call = tokio::spawn(async move { client.unary(said("patient")).await.unwrap().into_inner() });
    time.settle().await;
    for _ in 0..120 {
        time.pass(Duration::from_secs(30)).await;
    }
    assert!(!call.is_finished());
    go_on.send(true).unwrap();
    assert_eq!(time.comes(call).await.unwrap(), said("at last"));
}

// ---- others are left alone

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_takes_its_own_share_of_a_consumers_exchanges_and_no_other() {
    let mut world = World::new().await;
    let hangs = hanging_service().await;
    world.enroll_before(hangs, "tax", "register", |_| {}).await;
    world.grant_to("tax").await;
    let to_tax = |world: &World| {
        let mut request = world.post("Hang");
        request.headers_mut().unwrap().insert("causeway-service", "VN/GOV/tax/register".parse().unwrap());
        request
    };
    let mut client = world.raw().await;
    let mut hang = Vec::new();
    for _ in 0..MAX_EXCHANGES_WITH_PEER {
        let (mut sender, response) = client.open(to_tax(&world));
        let _ = sender.send_data(raw::message(&said("hangs"))).await;
        hang.push((sender, tokio::spawn(response)));
        one_more_runs(&world, "portal", hang.len()).await;
    }
    soon(async {
        while world.servers["tax"].server.running() < MAX_EXCHANGES_WITH_PEER {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let one_more = soon(world.raw().await.call(to_tax(&world), raw::message(&said("one more")))).await;
    assert_eq!(one_more.refusal(), Some("TOO_MANY_EXCHANGES"));
    for _ in 0..10 {
        call_once(&world).await.expect("the other provider is there");
    }
    client.cut();
    world.quiet().await;
    // Its share is free again.
    let mut client = world.client_to("tax").await;
    let again = tokio::spawn(async move { client.unary(said("hangs")).await });
    soon(async {
        while world.servers["tax"].server.running() == 0 {
            assert!(!again.is_finished());
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_takes_its_own_share_of_a_providers_exchanges_and_no_other() {
    let mut world = World::new().await;
    let (parrot, _heard) = Parrot::serve().await;
    world.enroll_before(parrot, "tax", "register", |_| {}).await;
    let hangs = hanging_service().await;
    restart_with_services(&mut world, hangs).await;
    for consumer in ["portal", "tax"] {
        let mut proposal = world.proposal(&["Unary"]);
        proposal.consumer = world.members[consumer].subsystem.clone();
        proposal.methods.insert("/slow.v1.Slow/Hang".into());
        world.grant_as(proposal).await;
    }
    let (to_slow, well) = (|world: &World| world.post("x").uri("http://bus/slow.v1.Slow/Hang"), "Unary");
    let mut clients = Vec::new();
    let mut hang = Vec::new();
    for (consumer, count) in [("portal", 600), ("tax", MAX_EXCHANGES_OF_SERVICE - 600)] {
        let mut client = raw::Client::to(world.servers[consumer].clients[0]).await;
        for _ in 0..count {
            let (mut sender, response) = client.open(to_slow(&world));
            let _ = sender.send_data(raw::message(&said("hangs"))).await;
            hang.push((sender, tokio::spawn(response)));
            one_more_runs(&world, "moj", hang.len()).await;
        }
        clients.push(client);
    }
    soon(async {
        while world.servers["moj"].server.running() < MAX_EXCHANGES_OF_SERVICE {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for consumer in ["portal", "tax"] {
        let mut client = raw::Client::to(world.servers[consumer].clients[0]).await;
        let refused = soon(client.call(to_slow(&world), raw::message(&said("one more")))).await;
        assert_eq!(refused.refusal(), Some("TOO_MANY_EXCHANGES"), "{consumer}");
        let answer: Answer = soon(client.call(world.post(well), raw::message(&said("well")))).await;
        assert_eq!((answer.status(), answer.refusal()), (0, None), "{consumer}: the other service is there");
    }
    clients.iter().for_each(raw::Client::cut);
    world.quiet().await;
}

/// At the pace at which a server takes them, so that no more are in hand at once than may be.
async fn one_more_runs(world: &World, name: &str, count: usize) {
    soon(async {
        while world.servers[name].server.running() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn hanging_service() -> SocketAddr {
    raw::serve(|_| std::future::pending()).await
}

async fn restart_with_services(world: &mut World, slow: SocketAddr) {
    let started = world.servers.remove("moj").unwrap();
    let address = started.peers;
    started.shutdown().await;
    let mut settings = world.settings("moj", TcpListener::bind(address).await.unwrap(), false).await;
    let subsystem = world.members["moj"].subsystem.clone();
    let services = [("echo.v1.Echo", world.service), ("slow.v1.Slow", slow)]
        .map(|(name, at)| Service::new(subsystem.clone(), name.into(), at.to_string(), None));
    settings.services = Services::new(services).unwrap();
    world.servers.insert("moj", security_server::start(settings).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_read_nothing_stop_themselves_and_nobody_else() {
    let world = World::new().await;
    let (sender, receiver) = mpsc::channel(1);
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let mut client = world.raw().await;
        let (mut sender, response) = client.open(world.post("ServerStream"));
        let large = Said { number: 1_000_000, bytes: vec![7; 16 * 1024], ..said("endless") };
        sender.send_data(raw::message(&large)).await.unwrap();
        drop(sender);
        // Answered, and never read.
        stalled.push((client, soon(response).await.unwrap()));
    }
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    for number in 0..50 {
        call_once(&world).await.unwrap();
        sender.send(Said { number, ..said("on") }).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().number, number);
    }
    stalled.iter().for_each(|(client, _)| client.cut());
    drop((sender, stalled));
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    world.quiet().await;
}

// ---- names

type Places = Arc<Mutex<HashMap<String, SocketAddr>>>;

/// The civil registry's server is found by a name that the test resolves.
async fn world_of_names() -> (World, Places, SocketAddr) {
    let places = Places::default();
    let resolver = Arc::clone(&places);
    let mut listens = None;
    let world = World::arranged(async |world| {
        world.names = Names::from_fn(move |name| match resolver.lock().unwrap().get(name) {
            Some(place) => Ok(vec![*place]),
            None => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such host")),
        });
        let moj = &mut world.members.get_mut("moj").unwrap().document.servers[0];
        listens = Some(moj.address.parse().unwrap());
        moj.address = "moj.example:5500".into();
    })
    .await;
    world.grant_all().await;
    (world, places, listens.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_resolved_is_out_of_reach_and_nothing_was_sent() {
    let (mut world, places, listens) = world_of_names().await;
    let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("never sent")))).await;
    assert_eq!(answer.refusal(), Some("PROVIDER_UNREACHABLE"));
    world.quiet().await;
    let exchange = answer.field("causeway-exchange").unwrap();
    let log = world.log_of("portal", exchange);
    assert_eq!(log.last().unwrap().end.as_deref(), Some("not_sent"), "provably: {log:?}");
    assert!(world.log_of("moj", exchange).is_empty());

    places.lock().unwrap().insert("moj.example:5500".into(), listens);
    let mut acknowledged = vec![call_once(&world).await.unwrap()];
    // It is gone again, and so is the connection: the peer is where it was.
    places.lock().unwrap().clear();
    world.restart("moj").await;
    acknowledged.push(call_once(&world).await.unwrap());
    world.quiet().await;
    assert_none_is_lost(&world, &acknowledged);
}

#[tokio::test]
async fn a_resolver_that_does_not_answer_is_waited_for_no_longer_than_it_is_said() {
    let time = HeldTime::begin();
    let (held, until_dropped) = std::sync::mpsc::channel::<()>();
    let (until_dropped, (asks, mut asked)) = (Mutex::new(until_dropped), mpsc::unbounded_channel());
    let world = World::arranged(async |world| {
        world.names = Names::from_fn(move |_| {
            let _ = asks.send(());
            let _ = until_dropped.lock().unwrap().recv();
            Err(std::io::ErrorKind::TimedOut.into())
        });
        world.members.get_mut("moj").unwrap().document.servers[0].address = "moj.example:5500".into();
    })
    .await;
    for (deadline, passes, expected) in
        [("10S", NAME_TIMEOUT, "PROVIDER_UNREACHABLE"), ("1S", Duration::from_secs(1), "DEADLINE_PASSED")]
    {
        let mut client = world.raw().await;
        let request = world.post("Unary").header("grpc-timeout", deadline);
        let call = tokio::spawn(async move { client.call(request, raw::message(&said("waits"))).await });
        // The log's thread is waited for, not time.
        time.comes(asked.recv()).await.unwrap();
        assert!(!call.is_finished());
        pass_by_seconds(&time, passes).await;
        assert_eq!(time.comes(call).await.unwrap().refusal(), Some(expected));
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_moves_is_found_at_its_new_address_while_what_runs_ends_at_the_old() {
    let (mut world, line, _service) = tapped().await;
    let mut acknowledged = vec![call_once(&world).await.unwrap()];
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
    sender.send(said("before")).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));

    let moved = Tap::before(world.servers["moj"].peers).await;
    let address = moved.address.to_string();
    world.publish(|members| members.get_mut("moj").unwrap().document.servers[0].address = address, Vec::new());
    let (at_old, at_new) = (line.given(Toward::Target), moved.given(Toward::Target));
    assert_eq!(at_new, 0);
    acknowledged.push(call_once(&world).await.unwrap());
    assert!(moved.given(Toward::Target) > 0, "the next call goes to the new address");
    for number in 0..10 {
        sender.send(Said { number, ..said("on") }).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().number, number);
    }
    assert!(line.given(Toward::Target) > at_old, "what ran goes on where it began");
    drop(sender);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    world.quiet().await;
    assert_none_is_lost(&world, &acknowledged);
}

async fn quiet(world: &World) {
    while world.servers.values().any(|started| started.server.running() > 0) {
        tokio::task::yield_now().await;
    }
}
