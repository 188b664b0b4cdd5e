//! A node behind its ports, and HTTP/1.1 written by hand.

use std::sync::Arc;

use commonplace_node::{Node, NodeOptions, Ports, Surroundings};
use commonplace_types::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node over a folder of its own.
pub struct Served {
    pub address: String,
    _ports: Ports,
    _node: Node,
    _folder: tempfile::TempDir,
}

impl Served {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut commonplace_node::NodeOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = NodeOptions {
            data_dir: folder.path().to_owned(),
            model_dir: folder.path().join("no model"),
            listen: "127.0.0.1:0".into(),
            ..NodeOptions::default()
        };
        change(&mut options);
        let surroundings = Surroundings::new(&options).unwrap();
        let ports = Ports::bind(&options, &surroundings).await.unwrap();
        let node = Node::start_in(&options, Arc::new(SystemClock), surroundings);
        let node = node.await.unwrap();
        ports.open(&node);
        Self {
            address: ports.address().unwrap().to_string(),
            _ports: ports,
            _node: node,
            _folder: folder,
        }
    }

    /// Sends bytes as they are, and gives what comes back until the connection ends.
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        // Who refuses may close before everything is sent.
        let _ = stream.write_all(bytes).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        Answer(String::from_utf8_lossy(&text).into_owned())
    }

    /// A call as an HTTP client that keeps to the rules makes it; `headers` are whole lines.
    pub async fn call(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut head = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("host:")) {
            head += "host: localhost\r\n";
        }
        for header in headers {
            head += &format!("{header}\r\n");
        }
        let length = body.len();
        head += &format!("content-length: {length}\r\n\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let json = ["content-type: application/json"];
        self.call(&format!("POST {path}"), &json, body.as_bytes())
            .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), &[], b"").await
    }
}

/// An HTTP answer as it came.
#[derive(Debug)]
pub struct Answer(pub String);

impl Answer {
    pub fn status(&self) -> u16 {
        let status = self.0.split(' ').nth(1);
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub fn json(&self) -> serde_json::Value {
        let body = self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {}", self.0))
    }

    pub fn reason(&self) -> String {
        self.json()["error"]["reason"].as_str().unwrap_or("").into()
    }

    /// The first wrong field.
    pub fn field(&self) -> String {
        let field = self.json()["error"]["fields"][0]["field"].clone();
        field.as_str().unwrap_or("").into()
    }
}
