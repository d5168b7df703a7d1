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
    cuts: Arc<watch::Sender<u64>>,
}

struct Flow {
    /// Bytes that came from the sender's socket, whether passed on or held back.
    given: watch::Sender<u64>,
    held_back: watch::Sender<bool>,
    garbled: watch::Sender<bool>,
}

impl Tap {
    /// Forwards every connection to this target.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flow = || {
            Arc::new(Flow {
                given: watch::Sender::new(0),
                held_back: watch::Sender::new(false),
                garbled: watch::Sender::new(false),
            })
        };
        let (to_target, to_origin) = (flow(), flow());
        let connections = Arc::new(watch::Sender::new(0));
        let cuts = Arc::new(watch::Sender::new(0));
        let tap = Self { address, to_target, to_origin, connections, cuts };
        let (out, back) = (Arc::clone(&tap.to_target), Arc::clone(&tap.to_origin));
        let (connections, cuts) = (Arc::clone(&tap.connections), Arc::clone(&tap.cuts));
        tokio::spawn(async move {
            while let Ok((origin, _)) = listener.accept().await {
                let (out, back, connections) = (Arc::clone(&out), Arc::clone(&back), Arc::clone(&connections));
                let mut cuts = cuts.subscribe();
                tokio::spawn(async move {
                    let Ok(target) = TcpStream::connect(target).await else { return };
                    let (mut origin, mut target) = (quick(origin), quick(target));
                    connections.send_modify(|count| *count += 1);
                    let flows = async {
                        tokio::join!(
                            out.forward(&mut origin.0, &mut target.1),
                            back.forward(&mut target.0, &mut origin.1)
                        )
                    };
                    let is_cut = tokio::select! {
                        _ = flows => false,
                        _ = cuts.changed() => true,
                    };
                    if is_cut {
                        for stream in [&origin.1, &target.1] {
                            stream.as_ref().set_zero_linger().unwrap();
                        }
                    }
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

    /// From now on what arrives of this direction is not what was sent, or is again.
    pub fn garble(&self, toward: Toward, garbled: bool) {
        self.flow(toward).garbled.send_replace(garbled);
    }

    /// Resets every connection that goes through it.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
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
    async fn forward(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let mut bytes = vec![0; 64 * 1024];
        let mut held_back = self.held_back.subscribe();
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            self.given.send_modify(|given| *given += count as u64);
            held_back.wait_for(|held_back| !held_back).await.unwrap();
            if *self.garbled.borrow() {
                bytes[..count].fill(0xff);
            }
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
