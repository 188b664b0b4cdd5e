//! Calls over one HTTP/2 connection, each sent and read by its caller's own task.
//!
//! The connection is a task that moves frames; a call hands it head and message at once, so that they leave in one
//! write, and is woken by what comes for it. A task of its own for each body, as general HTTP clients have it, costs a
//! small call more than all else. Left out: when a call is sent again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use super::RemoteOptions;
use super::connect::Heard;
use crate::server::{CONNECTION_WINDOW, FRAME_BYTES, STREAM_WINDOW};

/// Bytes of messages that a connection holds for its peer before their senders wait.
const SEND_BUFFER: usize = 1 << 20;
/// Longest head of an answer.
const HEAD_BYTES: u32 = 64 << 10;
/// Streams before the peer has said how many it takes.
const FIRST_STREAMS: usize = 100;

/// Sends calls over a connection. Cheap to clone. The connection ends when the last clone and the last call have.
#[derive(Clone)]
pub(crate) struct Sender {
    calls: SendRequest<Bytes>,
    over: CancellationToken,
}

/// Why a call was not answered.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: h2::Error,
    /// The peer has seen nothing of it.
    pub(crate) unsent: bool,
}

impl Sender {
    /// Begins a connection and keeps it moving, until it ends or its peer answers no ping in time.
    pub(crate) async fn start<I>(
        stream: I,
        heard: Arc<Heard>,
        options: &RemoteOptions,
    ) -> io::Result<Self>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (calls, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEAD_BYTES)
            .initial_max_send_streams(FIRST_STREAMS)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let over = CancellationToken::new();
        let pings = connection.ping_pong();
        let (interval, patience) = (options.keep_alive, options.keep_alive_timeout);
        let ended = over.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = ended;
            tokio::select! {
                () = run(connection) => {}
                () = until_silent(pings, heard, interval, patience) => {
                    tracing::debug!("a connection's peer answers no ping");
                }
            }
        });
        Ok(Self { calls, over })
    }

    /// No more calls can be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Returns when no more calls can be sent.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.over.clone()
    }

    /// Sends a call and waits for the head of its answer. Given up, it is cancelled.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Unanswered> {
        let mut calls = self.calls.clone();
        let closed = |error| {
            self.over.cancel();
            Unanswered {
                error,
                unsent: true,
            }
        };
        poll_fn(|context| calls.poll_ready(context))
            .await
            .map_err(closed)?;
        let (mut head, body) = request.into_parts();
        strip(&mut head.headers);
        let whole = body.is_end_stream();
        let (answer, stream) = calls
            .send_request(Request::from_parts(head, ()), whole)
            .map_err(|error| Unanswered {
                unsent: error.is_go_away() || error.is_io(),
                error,
            })?;
        let pump = match whole {
            true => None,
            false => pour_or_pump(body, stream).await,
        };
        let answered = answer.await;
        // An answer may begin before all of a stream was sent.
        pump.into_iter().for_each(Pump::go_on);
        let answer = answered.map_err(|error| Unanswered {
            error,
            unsent: false,
        })?;
        Ok(answer.map(|stream| {
            Body::new(Incoming {
                stream,
                read: false,
            })
        }))
    }
}

/// Moves frames until the connection ends.
async fn run<I>(connection: Connection<I, Bytes>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Asks a peer that was silent for an interval whether it is there; returns when it does not say so in time.
async fn until_silent(
    pings: Option<PingPong>,
    heard: Arc<Heard>,
    interval: Duration,
    patience: Duration,
) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        let since = Instant::now();
        tokio::time::sleep(interval).await;
        if heard.since(since) {
            continue;
        }
        let pong = tokio::time::timeout(patience, pings.ping(Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}

/// Takes out what belongs to the connection that a request came over.
/// Source: RFC 9113, section 8.2.2.
fn strip(headers: &mut HeaderMap) {
    if let Some(named) = headers.remove(CONNECTION)
        && let Ok(named) = named.to_str()
    {
        for name in named.split(',') {
            headers.remove(name.trim());
        }
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

/// Sends what there is of a body; a task sends the rest, if there is more to come.
async fn pour_or_pump(body: Body, stream: SendStream<Bytes>) -> Option<Pump> {
    let mut pouring = Box::pin(pour(body, stream));
    let more = poll_fn(|context| Poll::Ready(pouring.as_mut().poll(context).is_pending())).await;
    more.then(|| Pump(Some(tokio::spawn(pouring).abort_handle())))
}

/// Sends the rest of a body; stops when its call is given up.
struct Pump(Option<tokio::task::AbortHandle>);

impl Pump {
    /// Lets it end by itself.
    fn go_on(mut self) {
        self.0 = None;
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Sends a body to its end, or until the peer wants no more of it. The first message goes at once: it is in memory
/// already. Each further one waits for room.
async fn pour(mut body: Body, mut stream: SendStream<Bytes>) {
    let mut first = true;
    while let Some(piece) = next(&mut body, &mut stream).await {
        let frame = match piece {
            Some(Ok(frame)) => frame,
            // Errors of the stream are told by the answer.
            Some(Err(_)) => return stream.send_reset(Reason::INTERNAL_ERROR),
            None => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if !first && !data.is_empty() && !room(&mut stream).await {
                    return;
                }
                first = false;
                if stream.send_data(data, last).is_err() || last {
                    return;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    let _ = stream.send_trailers(trailers);
                }
                return;
            }
        }
    }
}

type Piece = Option<Result<Frame<Bytes>, tonic::Status>>;

/// The next piece of a body. Nothing: the peer has reset the stream.
async fn next(body: &mut Body, stream: &mut SendStream<Bytes>) -> Option<Piece> {
    poll_fn(|context| {
        if stream.poll_reset(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut *body).poll_frame(context).map(Some)
    })
    .await
}

/// Waits until something can be sent. False: nothing ever can.
async fn room(stream: &mut SendStream<Bytes>) -> bool {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return false,
        }
    }
    true
}

/// The body of an answer, as it comes in.
struct Incoming {
    stream: RecvStream,
    /// Nothing but trailers is left.
    read: bool,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.read {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // What was read makes room; a stream that has ended needs none.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(broken(error)),
                None => self.read = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => broken(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A peer that has said all may reset the stream, to be sent no more.
fn broken<T>(error: h2::Error) -> Option<Result<T, h2::Error>> {
    match error.reason() {
        Some(Reason::NO_ERROR | Reason::CANCEL) => None,
        _ => Some(Err(error)),
    }
}

/// The same as a service, for calls of the channel itself.
pub(crate) struct Plain(pub(crate) Sender);

impl Service<Request<Body>> for Plain {
    type Response = Response<Body>;
    type Error = h2::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, h2::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sender = self.0.clone();
        Box::pin(async move { sender.send(request).await.map_err(|failed| failed.error) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http_body_util::{BodyExt, Full};
    use tokio::io::{DuplexStream, ReadBuf, duplex};

    use super::*;

    /// Keeps what is written, write by write.
    struct Noted {
        stream: DuplexStream,
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl AsyncRead for Noted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.lock().unwrap().push(bytes.to_vec());
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }

    /// Answers every call with what it said.
    async fn echo(stream: DuplexStream) {
        let mut server = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = server.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    answer.send_data(data, false).unwrap();
                }
                answer.send_data(Bytes::new(), true).unwrap();
            });
        }
    }

    fn call(text: &'static str) -> Request<Body> {
        let body = Body::new(Full::new(Bytes::from_static(text.as_bytes())));
        Request::post("http://peer/a.B/C").body(body).unwrap()
    }

    /// The types of the frames in some bytes.
    fn frames(mut bytes: &[u8]) -> Vec<u8> {
        let mut types = Vec::new();
        while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
            types.push(*kind);
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            bytes = &rest[length..];
        }
        types
    }

    #[tokio::test]
    async fn head_and_message_leave_in_one_write() {
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(echo(theirs));
        let writes = Arc::new(Mutex::new(Vec::new()));
        let stream = Noted {
            stream: ours,
            writes: writes.clone(),
        };
        let options = RemoteOptions::default();
        let sender = Sender::start(stream, Heard::new(), &options).await.unwrap();
        for text in ["one", "two"] {
            writes.lock().unwrap().clear();
            let answer = sender.send(call(text)).await.unwrap();
            let said = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(said, text);
            let writes = writes.lock().unwrap();
            let told = |write: &&Vec<u8>| write.windows(3).any(|part| part == text.as_bytes());
            let write = writes.iter().find(told).unwrap();
            let (head, data) = (1, 0);
            let types = frames(write.strip_prefix(PREFACE).unwrap_or(write));
            let ours: Vec<u8> = types.into_iter().filter(|kind| *kind <= 1).collect();
            assert_eq!(ours[..2], [head, data], "in one write");
        }
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_no_ping_is_given_up() {
        let (ours, _theirs) = duplex(1 << 16);
        let options = RemoteOptions::default();
        let sender = Sender::start(ours, Heard::new(), &options).await.unwrap();
        let waiting = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(call("is anybody there")).await.map(drop) }
        });
        let started = tokio::time::Instant::now();
        sender.closed().cancelled().await;
        let (least, most) = (options.keep_alive, options.keep_alive * 2);
        let took = started.elapsed();
        assert!(took > least && took <= most + options.keep_alive_timeout);
        let unanswered = waiting.await.unwrap().unwrap_err();
        assert!(!unanswered.unsent, "the peer may have seen it");
        let unsent = sender.send(call("again")).await.map(drop).unwrap_err();
        assert!(unsent.unsent);
    }

    #[test]
    fn what_belongs_to_another_connection_is_not_sent_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("x-request-id", "7"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip(&mut headers);
        let left: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(left, ["x-request-id"]);
        headers.insert(TE, "trailers".parse().unwrap());
        strip(&mut headers);
        assert_eq!(headers[TE], "trailers");
    }
}
