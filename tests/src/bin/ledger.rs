//! A client that remembers what was answered: it calls without pause, and writes each answered call into a file that is
//! synced before the next word is said. `ledger DOOR FILE PROVIDER PURPOSE`; it ends when its standard input does.
//!
//! Each line, in the file and on standard output, is the number of a call and its exchange.

#![allow(clippy::unwrap_used, reason = "a test's program that panics has failed, which is what is wanted")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::wire::Said;
use tests::wire::echo_client::EchoClient;
use tests::world::Fields;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Endpoint;

/// Calls at once.
const CALLERS: usize = 8;

#[tokio::main]
async fn main() {
    let [door, file, provider, purpose]: [String; 4] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("ledger DOOR FILE PROVIDER PURPOSE");
    let ledger = Arc::new(Mutex::new(File::options().append(true).create_new(true).open(file).unwrap()));
    let endpoint = Endpoint::from_shared(format!("http://{door}")).unwrap();
    let (next, refused) = (Arc::new(AtomicU64::new(1)), Arc::new(Mutex::new(BTreeMap::<String, u64>::new())));
    let stop = CancellationToken::new();
    std::thread::spawn({
        let stop = stop.clone();
        move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.cancel();
        }
    });
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let fields = vec![("causeway-service", provider.clone()), ("causeway-purpose", purpose.clone())];
        let mut client = EchoClient::with_interceptor(endpoint.connect_lazy(), Fields(fields));
        let (next, refused, ledger, stop) = (next.clone(), refused.clone(), ledger.clone(), stop.clone());
        callers.spawn(async move {
            while !stop.is_cancelled() {
                // Each number is asked once, whatever comes of it.
                let number = next.fetch_add(1, Ordering::Relaxed);
                let mut request = Request::new(Said { number, ..Said::default() });
                request.set_timeout(Duration::from_secs(10));
                match client.unary(request).await {
                    Ok(answer) => {
                        let exchange = answer.metadata().get("causeway-exchange").unwrap().to_str().unwrap().to_owned();
                        assert_eq!(answer.into_inner().number, number, "an answer to another question");
                        let line = format!("{number} {exchange}\n");
                        let mut ledger = ledger.lock().unwrap();
                        ledger.write_all(line.as_bytes()).and_then(|()| ledger.sync_data()).unwrap();
                        print!("{line}");
                    }
                    Err(status) => {
                        let code = status.metadata().get("causeway-refusal").and_then(|code| code.to_str().ok());
                        let why = match code {
                            Some(code) => code.to_owned(),
                            // No answer at all: the door is shut, or the line broke.
                            None => format!("{:?}, {}", status.code(), status.message()),
                        };
                        *refused.lock().unwrap().entry(why).or_default() += 1;
                        // A door that is shut is not hammered at.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    println!("ended, refused: {:?}", refused.lock().unwrap());
}
