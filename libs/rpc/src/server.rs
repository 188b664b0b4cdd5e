//! A listening server: binds early, is ready late, drains with a cap.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;
use tower::{Service, ServiceExt};

use crate::{Code, Failure};

/// Largest message that is read or written whole.
pub const MESSAGE_BYTES: usize = 64 << 20;

type Routed = tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

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

/// A bound port. Until [`Server::open`] every call gets UNAVAILABLE.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    gate: Gate,
    stop: CancellationToken,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Takes the port and starts to answer, with UNAVAILABLE for now. Error: the port cannot be had.
    pub async fn bind(address: &str) -> Result<Self, ServerError> {
        let bind = |cause| ServerError::Bind {
            address: address.to_owned(),
            cause,
        };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let local = listener.local_addr().map_err(bind)?;
        let (gate, stop) = (Gate::default(), CancellationToken::new());
        let stopped = stop.clone().cancelled_owned();
        let router = axum::Router::new().fallback_service(gate.clone().map_request(into_tonic));
        // Set here: the server's own setting does not reach connections of a listener that it did not bind.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = tonic::transport::Server::builder()
            .accept_http1(true)
            .http2_adaptive_window(Some(true))
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(15)))
            .max_concurrent_streams(Some(1_024))
            .add_routes(tonic::service::Routes::from(router))
            .serve_with_incoming_shutdown(incoming, stopped);
        Ok(Self {
            address: local,
            gate,
            stop,
            task: tokio::spawn(serving),
        })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Becomes ready: from now on calls go to `service`. Only the first call of this has an effect.
    pub fn open<S>(&self, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let _ = self.gate.0.set(Routed::new(service));
    }

    /// Refuses new connections, lets running calls end, and returns at the latest after `cap`.
    /// Says whether everything ended in time.
    pub async fn drain(mut self, cap: Duration) -> bool {
        self.stop.cancel();
        let ended = tokio::time::timeout(cap, &mut self.task).await.is_ok();
        self.task.abort();
        ended
    }
}

fn into_tonic(request: Request<axum::body::Body>) -> Request<Body> {
    request.map(Body::new)
}

#[derive(Clone, Default)]
struct Gate(Arc<OnceLock<Routed>>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Gate(open: {})", self.0.get().is_some())
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.0.get() {
            Some(service) => Box::pin(service.clone().oneshot(request)),
            None => Box::pin(std::future::ready(Ok(not_ready(&request)))),
        }
    }
}

fn not_ready(request: &Request<Body>) -> Response<Body> {
    let status = Failure::new(Code::Unavailable, "STARTING")
        .retry_after(Duration::from_millis(200))
        .message("the server is starting; try again shortly")
        .into_status();
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return status.into_http();
    }
    let mut response = Response::new(Body::new(http_body_util::Full::from(
        "{\"message\":\"starting\"}",
    )));
    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    response
}
