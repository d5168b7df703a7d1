//! The processes beside the registry. Each tells what it measured in lines of JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proto::global_configuration::update::Files;
use proto::time::Time;
use proto::wire::registry::{Version, WatchRequest};
use registry_client::{Fingerprint, GlobalConfigurationClient, MAX_ANSWER_BYTES};
use security_server::global_configuration::Store;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::Streaming;

use super::{epoch_us, milliseconds};
use crate::bench::figures::{resident_mb, rounded};

/// Handshakes at a time.
const CONNECTING: usize = 64;

/// Which one.
#[derive(clap::Subcommand)]
pub enum Part {
    /// A security server's store: it begins with nothing, and follows.
    Server {
        /// Where the registry is.
        registry: SocketAddr,
        /// Its key.
        fingerprint: Fingerprint,
        /// The anchor's file.
        anchor: PathBuf,
        /// Where the store is made.
        store: PathBuf,
    },
    /// Starts from what a store holds.
    Restart {
        /// The store.
        store: PathBuf,
    },
    /// Connections that watch.
    Watchers {
        /// Where the registry is.
        registry: SocketAddr,
        /// Its key.
        fingerprint: Fingerprint,
        /// How many.
        count: usize,
    },
}

/// Does what this part is for, until it is killed.
pub async fn run(part: Part) {
    match part {
        Part::Server { registry, fingerprint, anchor, store } => server(registry, fingerprint, anchor, store).await,
        Part::Restart { store } => restart(store),
        Part::Watchers { registry, fingerprint, count } => watchers(registry, fingerprint, count).await,
    }
}

fn tell(name: &str, what: &Value) {
    println!("{}", json!({ name: what }));
}

fn now() -> Time {
    Time::from_millis(epoch_us() / 1000)
}

async fn watch(registry: SocketAddr, fingerprint: Fingerprint, version: u64) -> Streaming<Version> {
    let channel = registry_client::connect(&registry.to_string().parse().unwrap(), fingerprint).await.unwrap();
    let mut client = GlobalConfigurationClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    client.watch(WatchRequest { version, logged: version }).await.unwrap().into_inner()
}

fn taken(pushed: Version) -> Files {
    pushed.files.into_iter().map(|file| (file.name, file.content)).collect()
}

fn bytes_of(pushed: &Version) -> usize {
    prost::Message::encoded_len(pushed)
}

async fn server(registry: SocketAddr, fingerprint: Fingerprint, anchor: PathBuf, directory: PathBuf) {
    let (empty, began) = (resident_mb(std::process::id()), Instant::now());
    let mut versions = watch(registry, fingerprint, 0).await;
    let pushed = versions.message().await.unwrap().unwrap();
    let (bytes, fetched) = (bytes_of(&pushed), began.elapsed());
    let store = Store::create(&directory, std::fs::read(anchor).unwrap().into(), &taken(pushed), now()).unwrap();
    let whole = began.elapsed();
    let id = std::process::id();
    tell(
        "started",
        &json!({
            "bytes": bytes,
            "fetch_ms": milliseconds(fetched),
            "verify_and_keep_ms": milliseconds(whole - fetched),
            "memory_before_mb": rounded(empty),
            "memory_mb": rounded(resident_mb(id)),
            "memory_peak_mb": rounded(peak_mb()),
        }),
    );
    while let Some(pushed) = versions.message().await.unwrap() {
        let (version, bytes, began) = (pushed.version, bytes_of(&pushed), Instant::now());
        store.apply(&taken(pushed), now()).unwrap();
        let (took, at_us) = (began.elapsed(), epoch_us());
        tell(
            "applied",
            &json!({
                "version": version,
                "bytes": bytes,
                "apply_ms": milliseconds(took),
                "at_us": at_us,
                "memory_mb": rounded(resident_mb(id)),
            }),
        );
    }
}

fn restart(directory: PathBuf) {
    let began = Instant::now();
    let store = Store::open(&directory).unwrap();
    let took = began.elapsed();
    tell(
        "started",
        &json!({
            "version": store.current().load().version,
            "open_ms": milliseconds(took),
            "memory_mb": rounded(resident_mb(std::process::id())),
            "memory_peak_mb": rounded(peak_mb()),
        }),
    );
}

/// The most that this process ever had in memory.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

async fn watchers(registry: SocketAddr, fingerprint: Fingerprint, count: usize) {
    // Everybody has what is newest: a first one asks for what that is.
    let newest = watch(registry, fingerprint, 0).await.message().await.unwrap().unwrap().version;
    let arrived = Arc::new(Arrivals { of: count, at: Mutex::default() });
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    let connected: Vec<_> = (0..count)
        .map(|_| {
            let (connecting, arrived) = (Arc::clone(&connecting), Arc::clone(&arrived));
            tokio::spawn(async move {
                let permit = connecting.acquire_owned().await.unwrap();
                let mut versions = watch(registry, fingerprint, newest).await;
                drop(permit);
                tokio::spawn(async move {
                    let mut has = newest;
                    while let Some(pushed) = versions.message().await.unwrap() {
                        arrived.note(has + 1..=pushed.version);
                        has = pushed.version;
                    }
                });
            })
        })
        .collect();
    for each in connected {
        each.await.unwrap();
    }
    tell("watching", &json!(count));
    std::future::pending().await
}

/// When each version arrived at each watcher. Whoever reads slowly gets several as one.
struct Arrivals {
    of: usize,
    at: Mutex<BTreeMap<u64, Vec<u64>>>,
}

impl Arrivals {
    fn note(&self, versions: std::ops::RangeInclusive<u64>) {
        let now = epoch_us();
        for version in versions {
            let mut at = self.at.lock().unwrap();
            let of_it = at.entry(version).or_default();
            of_it.push(now);
            if of_it.len() == self.of {
                let at_us = at.remove(&version);
                drop(at);
                tell("arrived", &json!({ "version": version, "at_us": at_us }));
            }
        }
    }
}
