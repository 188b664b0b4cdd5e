//! A server that speaks Qdrant's protocol, for tests.
//!
//! It exists so that tests can use the real client over a real connection, stop and kill the store, and make it
//! fail, without a Qdrant installation. It serves the message types of `qdrant-client` over an exact scan of its own.
//!
//! What always holds:
//! - A write is answered after it is in the log, so a killed process comes back with every acknowledged write.
//! - Searches are exact; equal scores come in an order of no meaning, on purpose, and a filter on a field without a
//!   payload index is refused, as in Qdrant's strict mode.
//! - With peers a write goes to every peer that answers, and a server copies what a peer holds before it serves.
//!
//! What it does not do: shards, consensus, consistency levels, approximate search, named or sparse vectors, snapshots.
//! Peers that miss a write have it only after their next start; writes of the same point at two
//! servers at the same time may leave them different.

#![allow(clippy::result_large_err)]

mod engine;
mod faults;
mod filter;
mod log;
mod peers;
mod service;
mod stubs;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server as Transport, ServerTlsConfig};

pub use faults::Faults;
use service::Service;

/// Largest message.
const MESSAGE_BYTES: usize = 64 << 20;

/// How a server is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where to listen; port 0 picks one.
    pub listen: Option<SocketAddr>,
    /// The folder that keeps the points; made if missing.
    pub data: PathBuf,
    /// What callers must send; empty for nothing.
    pub api_key: String,
    /// Addresses of servers that are to hold the same, such as `http://127.0.0.1:7001`.
    pub peers: Vec<String>,
    /// Certificate chain and key, PEM; none for plaintext.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Makes it fail.
    pub faults: Arc<Faults>,
    /// Its own, so that stopping also cuts connections.
    runtime: Option<Runtime>,
}

impl Server {
    /// Opens the folder, copies what a peer holds and serves. Error: the folder, the address or the certificate cannot
    /// be used.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listen = options
            .listen
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = std::net::TcpListener::bind(listen);
        let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::default());
        let service = Service::open(&options, Arc::clone(&faults))?;
        service.catch_up().await;
        let mut transport = Transport::builder();
        if let Some((certificate, key)) = &options.tls {
            let identity = Identity::from_pem(certificate, key);
            transport = transport.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let points = PointsServer::new(service.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let router = transport
            .add_service(points)
            .add_service(CollectionsServer::new(service.clone()))
            .add_service(QdrantServer::new(service));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.spawn(async move {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                let incoming = TcpListenerStream::new(listener);
                let _ = router.serve_with_incoming(incoming).await;
            }
        });
        Ok(Self {
            address,
            faults,
            runtime: Some(runtime),
        })
    }

    /// Its address as clients want it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops at once, as a crash would: connections are cut and the port is freed a moment later.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
