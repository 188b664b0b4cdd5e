//! A server in this process, and what shows that it is well.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use commonplace_access::Mode;
use commonplace_node::{Node, NodeOptions, Ports, Surroundings};
use commonplace_types::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Panics of any task of this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);
static LAST: Mutex<String> = Mutex::new(String::new());

/// How much more memory the process may have held after a test than before.
const MORE_MEMORY: u64 = 1 << 30;

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            *LAST
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = panic.to_string();
            before(panic);
        }));
    });
}

/// Most memory that the process held so far.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap() * 1_024
}

/// A node behind its ports.
pub struct Served {
    pub address: SocketAddr,
    memory: u64,
    ports: Ports,
    node: Node,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Asks nobody who calls, so that what is sent gets far.
    pub async fn open() -> Self {
        Self::start(Mode::Development).await
    }

    pub async fn asking() -> Self {
        Self::start(Mode::Required).await
    }

    async fn start(mode: Mode) -> Self {
        count_panics();
        let folder = tempfile::tempdir().unwrap();
        let mut options = NodeOptions {
            data_dir: folder.path().join("data"),
            model_dir: "/nonexistent".into(),
            listen: "127.0.0.1:0".into(),
            ..NodeOptions::default()
        };
        options.access.mode = mode;
        options.gateway.body_seconds = 2;
        let surroundings = Surroundings::new(&options).unwrap();
        let ports = Ports::bind(&options, &surroundings).await.unwrap();
        let node = Node::start_in(&options, Arc::new(SystemClock), surroundings)
            .await
            .unwrap();
        ports.open(&node);
        Self {
            address: ports.address().unwrap(),
            memory: most_memory(),
            ports,
            node,
            _folder: folder,
        }
    }

    /// Sends bytes on a connection of their own, and gives what comes back until it ends, or says no more for a
    /// while. Whoever refuses may close before everything is sent.
    pub async fn raw(&self, bytes: &[u8], patience: Duration) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let send = async {
            let _ = write.write_all(bytes).await;
        };
        let receive = async {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(Ok(count)) = tokio::time::timeout(patience, read.read(&mut buffer)).await {
                if count == 0 {
                    break;
                }
                answer.extend_from_slice(&buffer[..count]);
            }
        };
        tokio::join!(send, receive);
        answer
    }

    /// An HTTP call; `headers` are whole lines. Gives its status, if it is answered, and the answer.
    pub async fn call(
        &self,
        line: &str,
        headers: &[Vec<u8>],
        body: &[u8],
    ) -> (Option<u16>, Vec<u8>) {
        let mut bytes = format!("{line} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
        let has = |name: &str| {
            let mut lines = headers.iter();
            lines.any(|line| line.to_ascii_lowercase().starts_with(name.as_bytes()))
        };
        if !has("host:") {
            bytes.extend_from_slice(b"host: localhost\r\n");
        }
        if !has("content-length:") {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        for header in headers {
            bytes.extend_from_slice(header);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        let answer = self.raw(&bytes, Duration::from_secs(10)).await;
        (status(&answer), answer)
    }

    /// It still answers, nothing in it panicked, and it did not take more memory than it may.
    pub async fn is_well(&self, what: &str) {
        let (status, answer) = self.call("GET /health", &[], b"").await;
        assert_eq!(
            status,
            Some(200),
            "after {what}: {}",
            String::from_utf8_lossy(&answer)
        );
        self.did_not_panic(what);
    }

    pub fn did_not_panic(&self, what: &str) {
        let last = LAST
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{what}: {last}");
    }

    pub async fn close(self, what: &str) {
        self.is_well(what).await;
        let more = most_memory().saturating_sub(self.memory);
        println!("{what}: {} MiB more memory at most", more >> 20);
        assert!(more < MORE_MEMORY, "{what}: {more} bytes more");
        assert!(
            self.ports.drain(Duration::from_secs(10)).await,
            "{what}: a call stands still"
        );
        self.node.shutdown().await;
    }
}

/// The status of an HTTP answer.
pub fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}
