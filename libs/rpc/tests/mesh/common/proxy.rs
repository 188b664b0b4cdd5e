//! A TCP proxy that can be told to misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Nothing goes through any more, in either direction, but nothing is closed; new ones are taken.
    Hole,
    /// Connections are cut, new ones too.
    Cut,
}

pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    taken: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn start(target: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(mode);
        let modes = mode.clone();
        let taken = Arc::<AtomicUsize>::default();
        let count = taken.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(stream, target, modes.subscribe()));
            }
        });
        Self {
            address,
            mode,
            taken,
        }
    }

    /// Connections that were taken until now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Cut => return,
            Mode::Hole => {
                if mode.changed().await.is_err() {
                    return;
                }
            }
            Mode::Pass => {
                let alive = tokio::select! {
                    _ = mode.changed() => true,
                    read = near.read(&mut up) => forward(read, &up, &mut far).await,
                    read = far.read(&mut down) => forward(read, &down, &mut near).await,
                };
                if !alive {
                    return;
                }
            }
        }
    }
}

async fn forward(read: std::io::Result<usize>, bytes: &[u8], to: &mut TcpStream) -> bool {
    match read {
        Ok(0) | Err(_) => false,
        Ok(count) => to.write_all(&bytes[..count]).await.is_ok(),
    }
}
