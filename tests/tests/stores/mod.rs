//! The stores that a mesh shares, for tests: databases of a real PostgreSQL server, and servers of Qdrant's protocol.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use commonplace_node::NodeOptions;
use commonplace_qdrant_server::{Options, Server};
use commonplace_tests::mesh::reserve_port;

/// The URL of an empty database on a server.
pub async fn database(server: &commonplace_testkit::Server) -> String {
    server.url(&server.database(None).await)
}

/// The URL of a database that holds a journal as a SQLite file has it, row by row.
pub async fn database_of(server: &commonplace_testkit::Server, journal: &Path) -> String {
    let name = server.database(None).await;
    let mut options = NodeOptions::default();
    options.database.url = server.url(&name);
    commonplace_node::migrate(&options).await.unwrap();
    let file = journal.join("journal.sqlite");
    let rows = server.fill(&name, "journal", &file).await;
    assert!(rows > 100, "the journal is not empty");
    options.database.url
}

/// Servers of Qdrant's protocol, each of which holds everything, on ports that stay theirs.
pub struct Cluster {
    servers: Vec<Option<Server>>,
    addresses: Vec<SocketAddr>,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(count: usize) -> Self {
        let address = |_| SocketAddr::from(([127, 0, 0, 1], reserve_port()));
        let mut cluster = Self {
            servers: (0..count).map(|_| None).collect(),
            addresses: (0..count).map(address).collect(),
            folder: tempfile::tempdir().unwrap(),
        };
        for number in 0..count {
            cluster.start_again(number).await;
        }
        cluster
    }

    /// Where they are, for [`commonplace_tests::mesh::MeshBuilder::qdrant`].
    pub fn urls(&self) -> Vec<String> {
        let url = |address: &SocketAddr| format!("http://{address}");
        self.addresses.iter().map(url).collect()
    }

    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Writes that one of them did, those that others passed on to it included.
    pub fn writes(&self, number: usize) -> u64 {
        let server = self.servers[number].as_ref().unwrap();
        server
            .faults
            .writes
            .load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Searches that all of them together were asked for.
    pub fn searches(&self) -> u64 {
        let asked = |server: &Server| {
            server
                .faults
                .searches
                .load(std::sync::atomic::Ordering::SeqCst)
        };
        self.servers.iter().flatten().map(asked).sum()
    }

    /// Ends one as a crash does.
    pub fn stop(&mut self, number: usize) {
        self.servers[number].take().unwrap().stop();
    }

    /// Starts one; it copies what it missed from one that runs.
    pub async fn start_again(&mut self, number: usize) {
        let own = self.addresses[number];
        let others = self.addresses.iter().filter(|address| **address != own);
        let options = Options {
            listen: Some(own),
            data: self.folder.path().join(number.to_string()),
            peers: others.map(|address| format!("http://{address}")).collect(),
            ..Options::default()
        };
        // The port of one that was stopped is free a moment later.
        for _ in 0..500 {
            if let Ok(server) = Server::start(options.clone()).await {
                self.servers[number] = Some(server);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("server {number} does not start on {own}");
    }
}
