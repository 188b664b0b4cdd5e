//! From an endpoint to a connection that answers: TCP, TLS, HTTP/2, and the peer's first bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;

use super::{Endpoint, RemoteOptions};
use crate::server::{CONNECTION_WINDOW, FRAME_BYTES, STREAM_WINDOW};

/// A connection over which the peer has said something.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Body>,
    /// Ends when no more calls can be sent over it.
    pub(crate) ended: JoinHandle<()>,
    pub(crate) heard: Arc<Heard>,
}

/// When bytes last came in.
#[derive(Debug)]
pub(crate) struct Heard {
    start: Instant,
    last_micros: AtomicU64,
    first: watch::Sender<bool>,
}

impl Heard {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            last_micros: AtomicU64::new(0),
            first: watch::Sender::new(false),
        })
    }

    fn now(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Zero means never.
        let before = self.last_micros.swap(micros.max(1), Ordering::Relaxed);
        if before == 0 {
            self.first.send_replace(true);
        }
    }

    /// Whether anything came in after `moment`.
    pub(crate) fn since(&self, moment: Instant) -> bool {
        let moment = moment.saturating_duration_since(self.start).as_micros();
        u128::from(self.last_micros.load(Ordering::Relaxed)) > moment
    }
}

/// Connects within the timeout. A peer that takes the connection but says nothing counts as unreachable.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    options: &RemoteOptions,
) -> io::Result<Connection> {
    let connected = tokio::time::timeout(options.connect_timeout, dial(endpoint, options)).await;
    connected.unwrap_or_else(|_| {
        let text = format!("no answer within {:?}", options.connect_timeout);
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

async fn dial(endpoint: &Endpoint, options: &RemoteOptions) -> io::Result<Connection> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    if !endpoint.secure {
        return handshake(stream, options).await;
    }
    let config = match (&options.tls, &options.trust) {
        (Some(tls), _) => {
            let config = tls.current().client(options.peer_role.as_deref());
            config.map_err(io::Error::other)?
        }
        (None, Some(trust)) => trust.client(),
        (None, None) => {
            let text = "https needs certificates (tls.certificate, tls.key, tls.authority)";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    let host = endpoint.name.as_ref().unwrap_or(&endpoint.host).clone();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let secured = connector.connect(name, stream).await;
    handshake(secured.map_err(crate::tls::explain)?, options).await
}

async fn handshake<I>(stream: I, options: &RemoteOptions) -> io::Result<Connection>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let heard = Heard::new();
    let mut first = heard.first.subscribe();
    let stream = Listening {
        stream,
        heard: heard.clone(),
    };
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(options.keep_alive_timeout)
        // An idle connection to a dead peer must not be the one that the next call waits on.
        .keep_alive_while_idle(true)
        .max_header_list_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut ended = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection broke");
        }
    });
    // HTTP/2 servers greet at once; until then the peer may be a black hole, or hang up.
    let greeted = tokio::select! {
        greeted = first.wait_for(|heard| *heard) => greeted.is_ok(),
        _ = &mut ended => false,
    };
    if !greeted || sender.is_closed() {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the peer hung up",
        ));
    }
    Ok(Connection {
        sender,
        ended,
        heard,
    })
}

/// Notes when bytes come in.
struct Listening<I> {
    stream: I,
    heard: Arc<Heard>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Listening<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.now();
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Listening<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
