//! Connections that come in: taken, secured, served over HTTP/1 or HTTP/2, and ended.
//!
//! Written out rather than taken from tonic, because a drain must be able to end what is left: connections,
//! and the handlers that run for them.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::gate::Answer;
use super::opening::Opening;
use super::{CONNECTION_WINDOW, FRAME_BYTES, ListenAddress, STREAM_WINDOW};
use crate::access;
use crate::audit::PeerAddress;
use crate::tls::{PeerIdentity, Tls};

/// Streams at the same time on one connection. Above the limits of services, which refuse with a reason.
const STREAMS: u32 = 4_096;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the first bytes may take, and the head of a request on HTTP/1; an idle connection is closed when
/// no next head came for that long.
const HEAD: Duration = Duration::from_secs(30);
/// What a connection too many is told.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    connection: close\r\n\r\n\
    {\"error\":{\"code\":\"UNAVAILABLE\",\"reason\":\"TOO_MANY_CONNECTIONS\",\
    \"message\":\"too many connections; try again in a second\"}}\n";

/// A port that is served.
#[derive(Debug)]
pub(crate) struct Listening {
    /// No new connections; those there are end when their calls have.
    stop: CancellationToken,
    /// Everything ends.
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// What answers the calls of a port.
pub(crate) trait Entry: Send + Sync {
    /// The answer to a call that goes no further, though the rest of it was not read yet.
    fn turn_away(&self, _: &Request<Incoming>) -> Option<Response<Body>> {
        None
    }

    /// Answers what may go on.
    fn answer(&self, request: Request<Body>) -> Answer;
}

struct Port {
    address: ListenAddress,
    tls: Option<Tls>,
    service: Arc<dyn Entry>,
    stop: CancellationToken,
    tasks: Tasks,
}

/// Runs the tasks of connections so that they can be counted and cut.
#[derive(Clone)]
struct Tasks {
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            cut.run_until_cancelled(future).await;
        });
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.spawn(async move {
            future.await;
        });
    }
}

impl Listening {
    /// Serves what comes in on `listener`, whose own address is `address`.
    pub(crate) fn start(
        listener: TcpListener,
        address: ListenAddress,
        tls: Option<Tls>,
        max_connections: usize,
        service: Arc<dyn Entry>,
    ) -> Self {
        let (stop, cut, tracker) = (
            CancellationToken::new(),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        let tasks = Tasks {
            cut: cut.clone(),
            tracker: tracker.clone(),
        };
        let port = Arc::new(Port {
            address,
            tls,
            service,
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(take(listener, port, max_connections));
        Self {
            stop,
            cut,
            tasks: tracker,
        }
    }

    /// Lets what runs end, at most for `cap`. Says whether it did.
    pub(crate) async fn drain(self, cap: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(cap, self.tasks.wait()).await.is_ok();
        self.cut.cancel();
        self.tasks.wait().await;
        ended
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// Takes connections until told to stop; the port is free again when this ends.
async fn take(listener: TcpListener, port: Arc<Port>, max_connections: usize) {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = port.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    tracing::debug!(%address, "a connection too many was refused");
                    refuse(stream, port.tls.is_some());
                    continue;
                };
                let serving = port.clone();
                port.tasks.spawn(async move {
                    let _place = place;
                    let peer = PeerAddress(address.ip().to_canonical());
                    if let Err(problem) = serving.secure(stream, peer).await {
                        tracing::warn!(%address, problem, "a connection was refused");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: connections that end will make room.
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Says that there is no room, if that can be said at once, and closes.
fn refuse(stream: TcpStream, secured: bool) {
    let Ok(mut stream) = stream.into_std() else {
        return;
    };
    if !secured {
        let _ = std::io::Write::write(&mut stream, BUSY);
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

impl Port {
    async fn secure(&self, stream: TcpStream, caller: PeerAddress) -> Result<(), String> {
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            self.serve(stream, caller, None).await;
            return Ok(());
        };
        let loaded = tls.current();
        let accepting = tokio_rustls::TlsAcceptor::from(loaded.server()).accept(stream);
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(HANDSHAKE, accepting) => accepted,
            () = self.stop.cancelled() => return Ok(()),
        };
        let stream = accepted
            .map_err(|_| "the TLS handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let peer = certificate.map(|certificate| loaded.identity(certificate));
        self.serve(stream, caller, peer).await;
        Ok(())
    }

    async fn serve<I>(&self, stream: I, caller: PeerAddress, peer: Option<PeerIdentity>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(Opening::new(stream, HEAD));
        let mut builder = Builder::new(self.tasks.clone());
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(15))
            .max_concurrent_streams(STREAMS);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD);
        let calls = Calls {
            address: self.address,
            caller,
            peer,
            service: self.service.clone(),
        };
        let connection = builder.serve_connection(stream, calls);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection broke");
        }
    }
}

/// The calls of one connection.
struct Calls {
    address: ListenAddress,
    caller: PeerAddress,
    peer: Option<PeerIdentity>,
    service: Arc<dyn Entry>,
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        if let Some(answer) = self.service.turn_away(&request) {
            let rest = request.into_body();
            return Box::pin(async move {
                access::drain_body(rest).await;
                Ok(answer)
            });
        }
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(self.address);
        extensions.insert(self.caller);
        extensions.remove::<PeerIdentity>();
        if let Some(peer) = &self.peer {
            extensions.insert(peer.clone());
        }
        self.service.answer(request)
    }
}
