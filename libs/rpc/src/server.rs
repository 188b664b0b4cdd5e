//! A listening server: binds early, is ready late, drains with a cap.

mod accept;
mod gate;
mod health;
mod opening;
mod readiness;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tonic::body::Body;
use tower::Service;

use crate::allow::AllowList;
use crate::audit::Recorder;
use crate::compression::Compressed;
use crate::tls::Tls;
use accept::{Entry, Listening};
pub use gate::Door;
use gate::{Answer, Gate, Guarded, Routed};
pub use health::HealthPort;
pub use readiness::Readiness;

/// Largest message that is read or written whole.
pub const MESSAGE_BYTES: usize = 64 << 20;

/// What a peer may send of one message before it is read: most answers without waiting. Growing windows start small
/// and learn only while data flows, which is too late for calls of some milliseconds.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// The same of all messages of a connection, which is at most what an unread connection holds in memory. HTTP/2 ends a
/// connection on which many small frames wait to be read, as many as fit half of this window at 251 bytes each: enough
/// for one of every stream.
pub(crate) const CONNECTION_WINDOW: u32 = 4 << 20;
/// Largest piece that a message is sent in.
pub(crate) const FRAME_BYTES: u32 = 128 << 10;

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {address}; is another server running there? choose another with --listen"
    )]
    Bind {
        /// What was asked for.
        address: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
}

/// Where the port that a request came in on listens; among the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// How a port is served.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Our certificate; without one the port is plaintext.
    pub tls: Option<Tls>,
    /// Who may call what; without one, everybody who gets through.
    pub allow: Option<AllowList>,
    /// What `grpc.health.v1` tells; the server answers it itself, from the moment it is bound.
    pub readiness: Readiness,
    /// Connections at the same time; more are told to come back, and closed.
    pub max_connections: usize,
    /// Messages of answers from so many bytes on are compressed for callers that name gzip or zstd; none: never.
    pub compress_from: Option<usize>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            allow: None,
            readiness: Readiness::default(),
            max_connections: 10_000,
            compress_from: None,
        }
    }
}

/// A bound port. Until [`Server::open`] every call but those to `grpc.health.v1` gets UNAVAILABLE.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    gate: Arc<Gate>,
    listening: Listening,
    readiness: Readiness,
}

impl Server {
    /// A plaintext port. Error: it cannot be had.
    pub async fn bind(address: &str) -> Result<Self, ServerError> {
        Self::bind_with(address, ServerOptions::default()).await
    }

    /// Takes the port and starts to answer, with UNAVAILABLE for now. Error: the port cannot be had.
    pub async fn bind_with(address: &str, options: ServerOptions) -> Result<Self, ServerError> {
        let (listener, local) = listen(address).await?;
        let gate = Arc::new(Gate::new(options.allow, &options.readiness));
        // Outermost: everything behind it sees messages as they are.
        let service = Compressed::new(gate.clone().service(), options.compress_from);
        let address = ListenAddress(local);
        let listening = Listening::start(
            listener,
            address,
            options.tls,
            options.max_connections,
            Arc::new(service),
        );
        Ok(Self {
            address: local,
            gate,
            listening,
            readiness: options.readiness,
        })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `grpc.health.v1` tells on this port.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Lets calls in: from now on they go to `service`. Only the first call of this has an effect. What
    /// `grpc.health.v1` tells is set by itself, see [`Server::readiness`].
    pub fn open<S>(&self, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.gate.open(Routed::new(service));
    }

    /// Asks `door` first about every gRPC call over HTTP/2. Only the first call of this has an effect.
    pub fn guard(&self, door: Arc<dyn Door>) {
        self.gate.guard(door);
    }

    /// Has recorded whom the port itself refuses. Only the first call of this has an effect.
    pub fn record_denials(&self, recorder: Recorder) {
        self.gate.record_denials(recorder);
    }

    /// Tells watchers that nothing serves any more, refuses new connections, sends GOAWAY, ends streams so
    /// that their callers go elsewhere, lets running calls end, and returns at the latest after `cap`, when
    /// what still runs is cut. Says whether everything ended in time.
    pub async fn drain(self, cap: Duration) -> bool {
        self.readiness.drain();
        self.gate.drain();
        self.listening.drain(cap).await
    }
}

impl Entry for Compressed<Guarded> {
    fn turn_away(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        self.inner().turn_away(request)
    }

    fn answer(&self, request: Request<Body>) -> Answer {
        self.clone().call(request)
    }
}

pub(crate) async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let bind = |cause| ServerError::Bind {
        address: address.to_owned(),
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    Ok((listener, local))
}
