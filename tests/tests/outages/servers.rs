//! Servers that stop while calls go on, are started twice, or move.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use journal::{Directory, Journal, OpenError, Options, Owner, Tree};
use security_server::global_configuration::{Store, StoreError};
use tests::echo::{Heard, Parrot, said};
use tests::raw;
use tests::rogue::{self, Rogue};
use tests::soon;
use tests::world::World;
use tokio::net::TcpListener;

use crate::seen::{assert_none_is_lost, call, call_once, code, health};

/// What says that nothing was done, so that a caller may simply ask again.
const SAFE_TO_REPEAT: [&str; 2] = ["SHUTTING_DOWN", "PROVIDER_UNREACHABLE"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_lose_no_call_and_what_is_refused_was_not_done() {
    let mut world = World::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = futures_util::future::join_all((0..4).map(|_| world.client())).await;
    let callers: Vec<_> = callers
        .into_iter()
        .map(|mut client| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match call(&mut client).await {
                        Ok(exchange) => acknowledged.push(exchange),
                        Err(code) => refused.push(code),
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..4 {
        for _ in 0..20 {
            soon(world.heard.recv()).await.unwrap();
        }
        // Counted below: those that are taken out here are given back.
        world.restart("moj").await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for caller in callers {
        let (well, ill) = soon(caller).await.unwrap();
        acknowledged.extend(well);
        refused.extend(ill);
    }
    world.quiet().await;
    let mut heard = 4 * 20;
    while let Ok(Heard::Call(..)) = world.heard.try_recv() {
        heard += 1;
    }
    assert!(refused.iter().all(|code| SAFE_TO_REPEAT.contains(&code.as_str())), "{refused:?}");
    assert_eq!(heard, acknowledged.len(), "what was refused was not done, and nothing was done twice");
    assert_none_is_lost(&world, &acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_a_provider_with_two_servers_fails_no_call_that_is_repeated_once() {
    let mut world = World::new().await;
    let (service, _heard) = Parrot::serve().await;
    world.service = service;
    world.second_server("moj", "moj2").await;
    world.grant_to("moj2").await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = futures_util::future::join_all((0..4).map(|_| world.client())).await;
    let callers: Vec<_> = callers
        .into_iter()
        .map(|mut client| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    if let Err(refused) = call(&mut client).await {
                        assert!(SAFE_TO_REPEAT.contains(&refused.as_str()), "{refused}");
                        call(&mut client).await.expect("the other server answers");
                    }
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for name in ["moj", "moj2", "moj"] {
        world.restart(name).await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(soon(caller).await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_avoided_where_its_member_has_another() {
    let mut world = World::new().await;
    let (service, mut heard_by_second) = Parrot::serve().await;
    let first = std::mem::replace(&mut world.service, service);
    world.second_server("moj", "moj2").await;
    world.grant_to("moj2").await;
    world.service = first;
    let mut client = world.client().await;
    soon(client.unary(said("to the first"))).await.unwrap();
    world.heard.recv().await.unwrap();
    world.servers.remove("moj").unwrap().shutdown().await;
    // Its connection closed: nobody has to try it in vain.
    soon(client.unary(said("to the second"))).await.unwrap();
    assert!(matches!(heard_by_second.recv().await, Some(Heard::Call(..))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_server() {
    let world = World::new().await;
    call_once(&world).await.unwrap();
    let directory = world.directory.path().join("moj");
    let before = files(&directory);
    let error = Store::open(&directory.join("configuration")).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    let member = &world.members["moj"];
    let owner = Owner {
        instance: world.instance.instance.clone(),
        member: member.subsystem.member().to_string(),
        server: member.server.to_string(),
    };
    for log in ["log", "audit"] {
        let trees = vec![Tree { owner: owner.clone(), key: Arc::clone(&member.signing) }];
        let disk = Arc::new(Directory(directory.join(log)));
        let error = Journal::open(disk, trees, Options::default(), None, &mut |_| {}).unwrap_err();
        assert!(matches!(error, OpenError::Locked(_)), "{error}");
    }
    assert_eq!(files(&directory), before, "nothing was written");
    call_once(&world).await.unwrap();
}

/// The names and lengths of all files but the index's, which changes by itself.
fn files(directory: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for part in ["configuration", "log", "audit"] {
        for file in std::fs::read_dir(directory.join(part)).unwrap().map(Result::unwrap) {
            found.push((format!("{part}/{}", file.file_name().display()), file.metadata().unwrap().len()));
        }
    }
    found.sort();
    found.retain(|(name, _)| !name.starts_with("log/"));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_moved_is_the_same_server_at_its_new_address() {
    let mut world = World::new().await;
    let rogue = Rogue::of(&world, "portal");
    let opening = rogue.seal(rogue.opening(&world)).await;
    assert_eq!(rogue::say(&mut rogue.connect(&world, "moj").await, &opening).await.refusal(), None);
    let mut acknowledged = vec![call_once(&world).await.unwrap()];
    world.quiet().await;
    world.servers.remove("moj").unwrap().shutdown().await;

    // Another machine: a copy of the directory, and nothing else of it.
    let (here, there) = (world.directory.path().join("moj"), world.directory.path().join("moved"));
    copy(&here, &there);
    std::fs::remove_dir_all(&here).unwrap();
    copy(&there, &here);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    world.start("moj", listener, false).await;
    assert_eq!(call_once(&world).await, Err("PROVIDER_UNREACHABLE".into()), "nobody knows yet");
    world.publish(|members| members.get_mut("moj").unwrap().document.servers[0].address = address, Vec::new());
    acknowledged.push(call_once(&world).await.expect("its grants moved with it"));
    let replayed = rogue::say(&mut rogue.connect(&world, "moj").await, &opening).await;
    assert_eq!(replayed.refusal(), Some("REPLAYED"), "so did what it remembers");
    world.quiet().await;
    assert!(health(&world, "moj").ready);
    assert_none_is_lost(&world, &acknowledged);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}

/// While it drains it says so, to who has a connection still; the call that runs has its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_while_a_server_drains_is_refused_by_name_and_its_running_ones_end() {
    let mut world = World::new().await;
    let mut client = world.raw().await;
    let (running, response) = client.open(world.post("Both"));
    let response = soon(response).await.unwrap();
    let draining = tokio::spawn(world.servers.remove("moj").unwrap().shutdown());
    let refused = soon(async {
        loop {
            let mut client = world.client().await;
            match client.unary(said("comes late")).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(refused) => return code(&refused),
            }
        }
    })
    .await;
    assert!(SAFE_TO_REPEAT.contains(&refused.as_str()), "{refused}");
    drop(running);
    assert_eq!(soon(raw::Answer::read(response)).await.status(), 0, "what ran has its end");
    soon(draining).await.unwrap();
}
