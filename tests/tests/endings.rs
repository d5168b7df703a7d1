//! Servers that go: in good order, suddenly, or with a log that has ended. What runs has its end, and the next call finds
//! the new connection.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests are read, not called")]

use journal::Options;
use journal::faulty::{Fault, Faulty};
use security_server::global_configuration::Store;
use tests::echo::{said, says};
use tests::raw::{self, Answer};
use tests::soon;
use tests::wire::Said;
use tests::world::World;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_lets_running_calls_end() {
    for name in ["portal", "moj"] {
        let mut world = World::new().await;
        let (sender, receiver) = mpsc::channel(1);
        let mut answers = soon(world.client().await.both(says(receiver))).await.unwrap().into_inner();
        sender.send(said("before")).await.unwrap();
        assert_eq!(soon(answers.message()).await.unwrap(), Some(said("before")));
        let shutdown = tokio::spawn(world.servers.remove(name).unwrap().shutdown());
        for number in 0..10 {
            sender.send(Said { number, ..said("during") }).await.unwrap();
            assert_eq!(soon(answers.message()).await.unwrap(), Some(Said { number, ..said("during") }), "{name}");
        }
        drop(sender);
        assert_eq!(soon(answers.message()).await.unwrap(), None, "{name}");
        soon(shutdown).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_is_found_again() {
    let mut world = World::new().await;
    let mut client = world.client().await;
    for _ in 0..3 {
        assert_eq!(client.unary(said("x")).await.unwrap().into_inner(), said("x"));
        world.restart("moj").await;
    }
    assert_eq!(client.unary(said("again")).await.unwrap().into_inner(), said("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_restarts_is_found_again() {
    // A service that serves one connection, answers one call on it, and goes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (goes, mut gone) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let speaks = tokio::spawn(raw::speak(stream, |request| async {
                let _ = raw::body_of(request).await;
                let (mut sender, response) = raw::answer();
                tokio::spawn(async move { sender.send_trailers(raw::fields(&[("grpc-status", "0")])).await });
                response
            }));
            goes.send(speaks.abort_handle()).unwrap();
        }
    });
    let world = World::with_service(address).await;
    for _ in 0..3 {
        let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("")))).await;
        assert_eq!((answer.status(), answer.refusal()), (0, None));
        soon(gone.recv()).await.unwrap().abort();
    }
}

#[test]
fn a_peer_that_dies_leaves_the_outcome_unknown_and_is_found_again() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    here.block_on(async {
        let mut world = World::new().await;
        // The civil registry's server on threads of its own, so that it can die alone.
        let started = world.servers.remove("moj").unwrap();
        let address = started.peers;
        started.shutdown().await;
        let (mut world, started) = there
            .spawn(async move {
                let settings = world.settings("moj", TcpListener::bind(address).await.unwrap(), false).await;
                let started = security_server::start(settings).await.unwrap();
                (world, started)
            })
            .await
            .unwrap();
        world.servers.insert("moj", started);

        let mut client = world.raw().await;
        let (mut sender, response) = client.open(world.post("Both"));
        let response = soon(response).await.unwrap();
        sender.send_data(raw::message(&said("before"))).await.unwrap();
        drop(world.servers.remove("moj"));
        there.shutdown_background();
        let answer = soon(Answer::read(response)).await;
        assert_eq!((answer.status(), answer.refusal()), (2, Some("OUTCOME_UNKNOWN")));
        world.quiet().await;
        let log = world.log_of("portal", answer.field("causeway-exchange").unwrap());
        assert_eq!(log.last().unwrap().end.as_deref(), Some("silent"));

        // Its directories are free when the last of its tasks is gone.
        let configuration = world.directory.path().join("moj/configuration");
        let started = soon(async {
            loop {
                tokio::task::yield_now().await;
                if Store::open(&configuration).is_ok() {
                    let listener = TcpListener::bind(address).await.unwrap();
                    if let Ok(started) = security_server::start(world.settings("moj", listener, false).await).await {
                        break started;
                    }
                }
            }
        })
        .await;
        world.servers.insert("moj", started);
        assert_eq!(soon(world.client().await.unary(said("again"))).await.unwrap().into_inner(), said("again"));
        let log = world.log_of("moj", answer.field("causeway-exchange").unwrap());
        assert_eq!(log.last().unwrap().kind, "closed", "what was left open has its end");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_recorded_is_withheld() {
    let mut world = World::new().await;
    let disk = Faulty::new();
    world.members.get_mut("portal").unwrap().log = disk.clone();
    let started = world.servers.remove("portal").unwrap();
    let address = started.peers;
    started.shutdown().await;
    std::fs::remove_dir_all(world.directory.path().join("portal/index")).unwrap();
    let mut settings = world.settings("portal", TcpListener::bind(address).await.unwrap(), false).await;
    settings.log_options = Options { first: true, ..Options::default() };
    world.servers.insert("portal", security_server::start(settings).await.unwrap());

    let (mut sender, response) = world.raw().await.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    disk.fail(0, Fault::Lost);
    sender.send_data(raw::message(&said("lost"))).await.unwrap();
    let answer = soon(Answer::read(response)).await;
    assert!(answer.body.is_empty(), "what is not on the disk is not answered");
    assert_eq!((answer.refusal(), answer.status()), (Some("ANSWER_UNRECORDED"), 14));
    // From here on nothing is exchanged.
    let answer = soon(world.raw().await.call(world.post("Unary"), raw::message(&said("")))).await;
    assert_eq!((answer.refusal(), answer.status()), (Some("LOG_ENDED"), 14));
}
