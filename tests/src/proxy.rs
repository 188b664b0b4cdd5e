//! A TCP proxy that fails on demand: what networks and peers do, on purpose and at a known moment.
//!
//! It stands before one target on a port of its own. Its [`Rule`] may be changed at any time and counts at once,
//! for open connections too. What always holds: bytes come in order and none is made up; those held back by
//! [`Rule::BlackHole`] come once the rule changes; whatever loses bytes ends the connection with a reset, so that
//! no peer goes on with a torn stream.
//!
//! Left out: delivering a request twice. TCP cannot duplicate what it carries; a request comes twice only when
//! its caller sends it again, which [`Rule::DropAnswers`] makes a caller do after the first one was served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes read at once, and how many such pieces may be under way in one direction.
const PIECE: usize = 16 << 10;
const PIECES: usize = 256;
/// Pieces a second that a limited bandwidth is cut into.
const SLICES: u64 = 50;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the caller.
    ToServer,
    /// From the target.
    ToClient,
}

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing.
    Pass,
    /// Everything arrives so much later, in both directions; as much is under way at once as before.
    Delay(Duration),
    /// Connections are accepted and stay open, and nothing gets through.
    BlackHole,
    /// Nobody listens: new connections are refused, open ones are reset.
    Refuse,
    /// A connection is reset after so many more bytes in this direction.
    ResetAfter(Direction, u64),
    /// Requests get through and are served; answers do not, and so long after the first byte the connection is
    /// reset: what a caller sees when a peer dies between its commit and its answer.
    DropAnswers(Duration),
    /// At most so many bytes a second in each direction.
    Bandwidth(u64),
}

/// A running proxy; ends with this, and cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: watch::Sender<Rule>,
    accepted: Arc<AtomicUsize>,
    carried: Arc<Carried>,
}

/// Bytes that were passed on, in all.
#[derive(Debug, Default)]
struct Carried {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Proxy {
    /// Stands before a target, on a free port of 127.0.0.1. Error: no port can be had.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (rules, follow) = watch::channel(Rule::Pass);
        let accepted = Arc::new(AtomicUsize::new(0));
        let carried = Arc::<Carried>::default();
        let counts = (accepted.clone(), carried.clone());
        tokio::spawn(accept(listener, address, target, follow, counts));
        Ok(Self {
            address,
            rules,
            accepted,
            carried,
        })
    }

    /// Where callers are to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this counts.
    pub fn set(&self, rule: Rule) {
        self.rules.send_replace(rule);
    }

    /// Bytes passed on so far in a direction.
    pub fn carried(&self, direction: Direction) -> u64 {
        self.carried.of(direction).load(Ordering::Relaxed)
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Carried {
    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    mut rules: watch::Receiver<Rule>,
    (accepted, carried): (Arc<AtomicUsize>, Arc<Carried>),
) {
    let mut listening = Some(listener);
    loop {
        let refuse = *rules.borrow_and_update() == Rule::Refuse;
        if refuse {
            // Without a socket the system itself refuses.
            listening = None;
        } else if listening.is_none() {
            listening = TcpListener::bind(address).await.ok();
        }
        let connected = async {
            match &listening {
                Some(listener) => listener.accept().await,
                None if refuse => std::future::pending().await,
                None => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Err(io::ErrorKind::AddrInUse.into())
                }
            }
        };
        tokio::select! {
            connected = connected => if let Ok((client, _)) = connected {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(client, target, rules.clone(), carried.clone()));
            },
            changed = rules.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// One connection from its beginning to its end.
async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    rules: watch::Receiver<Rule>,
    carried: Arc<Carried>,
) {
    let mut waiting = rules.clone();
    let entered = waiting
        .wait_for(|rule| *rule != Rule::BlackHole)
        .await
        .is_ok();
    let server = match entered {
        true => TcpStream::connect(target).await,
        false => return,
    };
    let Ok(mut server) = server else {
        client.set_zero_linger().ok();
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let cut = Cut::default();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Flow::new(Direction::ToServer, &rules, &cut, &carried);
    let down = Flow::new(Direction::ToClient, &rules, &cut, &carried);
    let mut refused = rules.clone();
    let broken = tokio::select! {
        ended = async { tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client)) } => {
            ended.is_err()
        }
        () = cut.token.cancelled() => true,
        _ = refused.wait_for(|rule| *rule == Rule::Refuse) => true,
    };
    if broken {
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

/// Ends a connection, now or in a while.
#[derive(Debug, Default)]
struct Cut {
    token: CancellationToken,
    armed: AtomicBool,
}

impl Cut {
    fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    fn after(&self, span: Duration) {
        if !self.armed.swap(true, Ordering::Relaxed) {
            let token = self.token.clone();
            tokio::spawn(async move {
                tokio::time::sleep(span).await;
                token.cancel();
            });
        }
    }
}

/// One direction of a connection.
struct Flow<'a> {
    direction: Direction,
    rules: watch::Receiver<Rule>,
    cut: &'a Cut,
    carried: &'a Carried,
    /// Bytes passed on under the present rule.
    passed: (Rule, u64),
}

impl<'a> Flow<'a> {
    fn new(
        direction: Direction,
        rules: &watch::Receiver<Rule>,
        cut: &'a Cut,
        carried: &'a Carried,
    ) -> Self {
        Self {
            direction,
            rules: rules.clone(),
            cut,
            carried,
            passed: (Rule::Pass, 0),
        }
    }

    /// Carries bytes until their end, which it passes on too. Error: the connection is to be reset.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let (queue, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
        let rules = self.rules.clone();
        let read = async move {
            let mut buffer = vec![0; PIECE];
            loop {
                let count = from.read(&mut buffer).await?;
                if count == 0 {
                    return Ok::<(), io::Error>(());
                }
                let later = match *rules.borrow() {
                    Rule::Delay(span) => span,
                    _ => Duration::ZERO,
                };
                let piece = (Instant::now() + later, buffer[..count].to_vec());
                if queue.send(piece).await.is_err() {
                    return Ok(());
                }
            }
        };
        let write = async {
            while let Some((due, bytes)) = under_way.recv().await {
                tokio::time::sleep_until(due).await;
                self.deliver(&mut to, &bytes).await?;
            }
            to.shutdown().await
        };
        tokio::try_join!(read, write).map(|_| ())
    }

    async fn deliver(&mut self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<()> {
        let rule = *self
            .rules
            .wait_for(|rule| *rule != Rule::BlackHole)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        if self.passed.0 != rule {
            self.passed = (rule, 0);
        }
        if self.cut.is_armed() && self.direction == Direction::ToClient {
            // Something is missing already; the reset is to come before anything else.
            return Ok(());
        }
        match rule {
            Rule::DropAnswers(span) => {
                self.cut.after(span);
                if self.direction == Direction::ToServer {
                    to.write_all(bytes).await?;
                }
            }
            Rule::ResetAfter(direction, most) if direction == self.direction => {
                let left = usize::try_from(most - self.passed.1.min(most)).unwrap_or(usize::MAX);
                to.write_all(&bytes[..bytes.len().min(left)]).await?;
                if bytes.len() >= left {
                    // What was passed on must arrive before the reset overtakes it.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
            Rule::Bandwidth(rate) => slowly(to, bytes, rate.max(SLICES)).await?,
            _ => to.write_all(bytes).await?,
        }
        self.passed.1 += bytes.len() as u64;
        let carried = self.carried.of(self.direction);
        carried.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

async fn slowly(to: &mut WriteHalf<'_>, bytes: &[u8], rate: u64) -> io::Result<()> {
    let slice = usize::try_from(rate / SLICES).unwrap_or(usize::MAX);
    for part in bytes.chunks(slice) {
        to.write_all(part).await?;
        tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
