//! From an endpoint to a connection that answers: TCP, TLS, HTTP/2, and the peer's first bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::wire::Sender;
use super::{Endpoint, RemoteOptions};

/// A connection over which the peer has said something.
pub(crate) struct Connection {
    pub(crate) sender: Sender,
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
    pub(crate) fn new() -> Arc<Self> {
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
    let tls = options.tls.as_ref().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "https needs certificates (tls.certificate, tls.key, tls.authority)",
        )
    })?;
    let config = tls
        .current()
        .client(options.peer_role.as_deref())
        .map_err(io::Error::other)?;
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
    let sender = Sender::start(stream, heard.clone(), options).await?;
    let closed = sender.closed();
    // HTTP/2 servers greet at once; until then the peer may be a black hole, or hang up.
    let greeted = tokio::select! {
        greeted = first.wait_for(|heard| *heard) => greeted.is_ok(),
        () = closed.cancelled() => false,
    };
    if !greeted || sender.is_closed() {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the peer hung up",
        ));
    }
    Ok(Connection { sender, heard })
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
