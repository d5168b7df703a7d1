//! Where a host is. The system's resolver is asked in threads that may hang, as many as are named here; what it said last
//! is kept for when it says nothing. Who is there is not asked here: TLS proves it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// How long the resolver is waited for.
pub const NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions to the resolver at once; one more waits. One that was given up counts until its thread is back.
pub const MAX_QUESTIONS: usize = 32;
/// Names whose last answer is kept. Beyond it all are forgotten, and asked for again.
pub const MAX_KEPT: usize = 4096;

/// Asks the resolver. Cheap to clone.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Inner {
    ask: Box<Ask>,
    questions: Arc<Semaphore>,
    kept: Mutex<HashMap<String, Vec<SocketAddr>>>,
}

impl Names {
    /// The system's resolver, the same for the whole process.
    pub fn system() -> Self {
        static SYSTEM: LazyLock<Names> =
            LazyLock::new(|| Names::from_fn(|address| address.to_socket_addrs().map(Iterator::collect)));
        SYSTEM.clone()
    }

    /// A resolver that a test holds: for a host and port, where it is.
    pub fn from_fn(ask: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        let questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Self(Arc::new(Inner { ask: Box::new(ask), questions, kept: Mutex::default() }))
    }

    /// A connection to a host and port.
    pub async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let found = match address.parse::<SocketAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.find(address).await?,
        };
        let stream = TcpStream::connect(&*found).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn find(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        let answered = tokio::time::timeout(NAME_TIMEOUT, self.ask(address)).await;
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {NAME_TIMEOUT:?}"));
        let answered = answered.unwrap_or_else(|_| Err(timed_out())).and_then(|found| match found.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
            false => Ok(found),
        });
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Ok(found) => {
                if kept.len() >= MAX_KEPT {
                    kept.clear();
                }
                kept.insert(address.to_owned(), found.clone());
                Ok(found)
            }
            Err(error) => match kept.get(address) {
                Some(found) => {
                    tracing::warn!(address, %error, "the name is not resolved: tried where it was last");
                    Ok(found.clone())
                }
                None => Err(io::Error::new(error.kind(), format!("the name {address} is not resolved: {error}"))),
            },
        }
    }

    /// In a thread of its own, which nobody can stop and no shutdown waits for.
    async fn ask(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        let permit = Arc::clone(&self.0.questions).acquire_owned().await.map_err(io::Error::other)?;
        let (answer, answered) = oneshot::channel();
        let (inner, address) = (Arc::clone(&self.0), address.to_owned());
        std::thread::Builder::new().name("names".into()).spawn(move || {
            let _ = answer.send((inner.ask)(&address));
            drop(permit);
        })?;
        answered.await.map_err(io::Error::other)?
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_was_found_last_is_tried_when_the_resolver_says_nothing() {
        let said = Arc::new(Mutex::new(true));
        let says = Arc::clone(&said);
        let there: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let names = Names::from_fn(move |name| match *says.lock().unwrap() && name == "peer:1" {
            true => Ok(vec![there]),
            false => Err(io::ErrorKind::HostUnreachable.into()),
        });
        assert_eq!(names.find("peer:1").await.unwrap(), [there]);
        *said.lock().unwrap() = false;
        assert_eq!(names.find("peer:1").await.unwrap(), [there]);
        let error = names.find("another:1").await.unwrap_err();
        assert!(error.to_string().contains("another:1"), "{error}");
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_takes_so_many_threads_and_no_more() {
        let (asked, asks) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let names = Names::from_fn(move |name| {
            asked.send(name.to_owned()).unwrap();
            let _ = wait.lock().unwrap().recv();
            Ok(vec!["127.0.0.1:1".parse().unwrap()])
        });
        // Given up at once: the threads go on.
        for number in 0..MAX_QUESTIONS {
            let name = format!("host-{number}:1");
            assert!(futures_util::poll!(std::pin::pin!(names.ask(&name))).is_pending());
            assert_eq!(asks.recv().unwrap(), name);
        }
        let mut one_more = std::pin::pin!(names.ask("one-more:1"));
        assert!(futures_util::poll!(&mut one_more).is_pending());
        assert!(asks.try_recv().is_err(), "nobody is asked");
        drop(go_on);
        assert_eq!(one_more.await.unwrap().len(), 1);
    }
}
