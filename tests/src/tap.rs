//! A tap on a TCP connection: forwards what comes, counts it, and can hold it back. Everything that a server gives to a
//! socket is seen here, whatever it is.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toward {
    /// To the side that was connected to.
    Target,
    /// Back to the side that connected.
    Origin,
}

/// See the module. Connect to its address instead of the target's.
pub struct Tap {
    pub address: SocketAddr,
    to_target: Arc<Flow>,
    to_origin: Arc<Flow>,
    connections: Arc<watch::Sender<usize>>,
}

struct Flow {
    /// Bytes that came from the sender's socket, whether passed on or held back.
    given: watch::Sender<u64>,
    held_back: watch::Sender<bool>,
}

impl Tap {
    /// Forwards every connection to this target.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flow = || Arc::new(Flow { given: watch::Sender::new(0), held_back: watch::Sender::new(false) });
        let (to_target, to_origin) = (flow(), flow());
        let connections = Arc::new(watch::Sender::new(0));
        let tap = Self { address, to_target, to_origin, connections };
        let (out, back) = (Arc::clone(&tap.to_target), Arc::clone(&tap.to_origin));
        let connections = Arc::clone(&tap.connections);
        tokio::spawn(async move {
            while let Ok((origin, _)) = listener.accept().await {
                let (out, back, connections) = (Arc::clone(&out), Arc::clone(&back), Arc::clone(&connections));
                tokio::spawn(async move {
                    let Ok(target) = TcpStream::connect(target).await else { return };
                    let (origin, target) = (quick(origin), quick(target));
                    connections.send_modify(|count| *count += 1);
                    tokio::join!(out.forward(origin.0, target.1), back.forward(target.0, origin.1));
                    connections.send_modify(|count| *count -= 1);
                });
            }
        });
        tap
    }

    /// How many bytes the sender of this direction has given to its socket.
    pub fn given(&self, toward: Toward) -> u64 {
        *self.flow(toward).given.borrow()
    }

    /// From now on nothing of this direction arrives, until it is let on.
    pub fn hold_back(&self, toward: Toward) {
        self.flow(toward).held_back.send_replace(true);
    }

    /// Everything that was held back arrives.
    pub fn let_on(&self, toward: Toward) {
        self.flow(toward).held_back.send_replace(false);
    }

    /// Waits until no connection goes through it any more.
    pub async fn until_closed(&self) {
        self.connections.subscribe().wait_for(|count| *count == 0).await.unwrap();
    }

    fn flow(&self, toward: Toward) -> &Flow {
        match toward {
            Toward::Target => &self.to_target,
            Toward::Origin => &self.to_origin,
        }
    }
}

impl Flow {
    async fn forward(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut bytes = vec![0; 64 * 1024];
        let mut held_back = self.held_back.subscribe();
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            self.given.send_modify(|given| *given += count as u64);
            held_back.wait_for(|held_back| !held_back).await.unwrap();
            if to.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
}

fn quick(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.set_nodelay(true).unwrap();
    stream.into_split()
}
