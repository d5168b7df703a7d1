//! A tap on a TCP connection: forwards what comes, counts it, can hold it back, and can let befall it what befalls bytes
//! on their way. Everything that a server gives to a socket is seen here, whatever it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes that are forwarded at once.
const RUN: usize = 64 * 1024;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toward {
    /// To the side that was connected to.
    Target,
    /// Back to the side that connected.
    Origin,
}

/// What befalls the bytes of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weather {
    /// Nothing: they arrive.
    #[default]
    Fair,
    /// They arrive later by so much.
    Late(Duration),
    /// So many arrive in a second.
    Slow(u32),
    /// None arrives, nor does the end of a connection, until the weather changes; then all do, in their order.
    HeldBack,
    /// None ever arrives, and nobody is told: as where a machine vanished. A connection that lost bytes is reset when the
    /// weather changes, for nothing could go on in it.
    Swallowed,
    /// Every connection is reset at once, and so is each that is made.
    Reset,
    /// The connection that carries the byte that many bytes on is closed there, as if its sender had.
    CutAfter(u64),
    /// One bit of the byte that many bytes on is another.
    FlippedAfter(u64),
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
    weather: watch::Sender<Weather>,
}

/// Both ways of a connection are over.
enum Broken {
    /// As by a firewall: both sides are told that it is reset.
    Reset,
    /// Both sides see its end.
    Cut,
}

impl Tap {
    /// Forwards every connection to this target.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flow = || Arc::new(Flow { given: watch::Sender::new(0), weather: watch::Sender::new(Weather::Fair) });
        let (to_target, to_origin) = (flow(), flow());
        let connections = Arc::new(watch::Sender::new(0));
        let tap = Self { address, to_target, to_origin, connections };
        let (out, back) = (Arc::clone(&tap.to_target), Arc::clone(&tap.to_origin));
        let connections = Arc::clone(&tap.connections);
        tokio::spawn(async move {
            while let Ok((origin, _)) = listener.accept().await {
                let (out, back, connections) = (Arc::clone(&out), Arc::clone(&back), Arc::clone(&connections));
                tokio::spawn(async move {
                    let Ok(target) = TcpStream::connect(target).await else { return reset(origin) };
                    let (mut origin, mut target) = (quick(origin), quick(target));
                    connections.send_modify(|count| *count += 1);
                    let broken = tokio::try_join!(
                        out.forward(&mut origin.0, &mut target.1),
                        back.forward(&mut target.0, &mut origin.1)
                    );
                    if let Err(Broken::Reset) = broken {
                        for (read, write) in [origin, target] {
                            reset(read.reunite(write).expect("both are of one socket"));
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
        self.befall(toward, Weather::HeldBack);
    }

    /// Everything that was held back arrives.
    pub fn let_on(&self, toward: Toward) {
        self.befall(toward, Weather::Fair);
    }

    /// What befalls the bytes of this direction from now on. What is said of so many bytes on befalls once.
    pub fn befall(&self, toward: Toward, weather: Weather) {
        let flow = self.flow(toward);
        let given = *flow.given.borrow();
        flow.weather.send_replace(match weather {
            Weather::CutAfter(bytes) => Weather::CutAfter(given + bytes),
            Weather::FlippedAfter(bytes) => Weather::FlippedAfter(given + bytes),
            other => other,
        });
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
    async fn forward(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> Result<(), Broken> {
        let mut bytes = vec![0; RUN];
        let mut weather = self.weather.subscribe();
        let (mut lost, mut ended) = (false, false);
        loop {
            let now = *weather.borrow_and_update();
            let most = match now {
                Weather::Reset => return Err(Broken::Reset),
                Weather::Swallowed => RUN,
                _ if lost => return Err(Broken::Reset),
                Weather::Slow(per_second) => (per_second as usize / 10).clamp(1, RUN),
                _ => RUN,
            };
            // An end is held back, or swallowed, like all that comes before it.
            let passes = !matches!(now, Weather::HeldBack | Weather::Swallowed);
            if ended && passes {
                let _ = to.shutdown().await;
                return Ok(());
            }
            let count = tokio::select! {
                _ = weather.changed() => continue,
                read = from.read(&mut bytes[..most]), if !ended => match read {
                    Ok(0) => { ended = true; continue }
                    Ok(count) => count,
                    Err(_) if passes => return Err(Broken::Reset),
                    Err(_) => { (ended, lost) = (true, true); continue }
                },
            };
            let given = self.give(count);
            let passed_on = match self.at(now, given, count) {
                At::Flipped(at) => {
                    bytes[at] ^= 1;
                    count
                }
                At::Cut(at) => at,
                At::Nothing => count,
            };
            match now {
                Weather::Swallowed => {
                    lost = true;
                    continue;
                }
                Weather::Late(by) => until(&mut weather, Instant::now() + by).await,
                Weather::Slow(per_second) => {
                    let takes = Duration::from_secs_f64(count as f64 / f64::from(per_second));
                    until(&mut weather, Instant::now() + takes).await;
                }
                _ => {}
            }
            // A way that is closed now takes no more of what was on it.
            let passes = weather
                .wait_for(|weather| *weather != Weather::HeldBack)
                .await
                .map_or(Weather::Fair, |weather| *weather);
            if passes == Weather::Swallowed {
                lost = true;
                continue;
            }
            if to.write_all(&bytes[..passed_on]).await.is_err() {
                return Err(Broken::Reset);
            }
            if passed_on < count {
                return Err(Broken::Cut);
            }
        }
    }

    /// Counts what came, and says how much came before it.
    fn give(&self, count: usize) -> u64 {
        let mut before = 0;
        self.given.send_modify(|given| {
            before = *given;
            *given += count as u64;
        });
        before
    }

    /// Whether it befalls one of these bytes; it befalls once.
    fn at(&self, weather: Weather, given: u64, count: usize) -> At {
        let within = |at: u64| at.checked_sub(given).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < count);
        let (at, befalls): (_, fn(usize) -> At) = match weather {
            Weather::CutAfter(at) => (within(at), At::Cut),
            Weather::FlippedAfter(at) => (within(at), At::Flipped),
            _ => return At::Nothing,
        };
        let once = |at| {
            self.weather
                .send_if_modified(|now| {
                    let first = *now == weather;
                    if first {
                        *now = Weather::Fair;
                    }
                    first
                })
                .then(|| befalls(at))
        };
        at.and_then(once).unwrap_or(At::Nothing)
    }
}

/// What befalls one run of bytes.
enum At {
    Nothing,
    Cut(usize),
    Flipped(usize),
}

/// Waits so long, or until the weather changes.
async fn until(weather: &mut watch::Receiver<Weather>, when: Instant) {
    tokio::select! {
        () = tokio::time::sleep_until(when) => {}
        _ = weather.changed() => {}
    }
}

fn quick(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.set_nodelay(true).unwrap();
    stream.into_split()
}

/// Closed so that the other side is told of a reset.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}
