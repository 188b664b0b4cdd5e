//! Messages get smaller where both ends agree, and pass as they are where they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use commonplace_rpc::server::{MESSAGE_BYTES, Server, ServerOptions};
use commonplace_rpc::{Channel, Compression, RemoteOptions, context};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tower::ServiceExt;

use crate::common::{READ, TAIL, options};

/// What one message holds.
const LENGTH: usize = 200_000;

/// A message of a length that gets much smaller.
fn message(length: usize) -> Bytes {
    let head = [&[0][..], &(length as u32).to_be_bytes()].concat();
    let text = b"the flaky test fails now and then "
        .iter()
        .copied()
        .cycle();
    head.into_iter().chain(text.take(length)).collect()
}

/// Answers a unary call with what was sent, and a stream with three messages.
async fn echo(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let times = if request.uri().path() == TAIL { 3 } else { 1 };
    for hidden in ["grpc-encoding", "grpc-accept-encoding"] {
        assert!(
            !request.headers().contains_key(hidden),
            "a service sees no {hidden}"
        );
    }
    let body = request.into_body().collect().await;
    let mut trailers = HeaderMap::new();
    let frames: Vec<_> = match body {
        Ok(body) => {
            let sent = body.to_bytes();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frame = |_| Ok::<_, tonic::Status>(Frame::data(sent.clone()));
            (0..times).map(frame).collect()
        }
        Err(status) => return Ok(status.into_http()),
    };
    let frames = frames.into_iter().chain([Ok(Frame::trailers(trailers))]);
    let body = Body::new(StreamBody::new(tokio_stream::iter(frames)));
    let mut answer = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", kind);
    Ok(answer)
}

/// Passes bytes on and counts them.
struct Wire {
    address: String,
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl Wire {
    async fn to(server: &Server) -> Self {
        let (target, listener) = (
            server.address(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let wire = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            up: Arc::default(),
            down: Arc::default(),
        };
        let (up, down) = (wire.up.clone(), wire.down.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (from_near, to_near) = near.into_split();
                let (from_far, to_far) = TcpStream::connect(target).await.unwrap().into_split();
                tokio::spawn(pass(from_near, to_far, up.clone()));
                tokio::spawn(pass(from_far, to_near, down.clone()));
            }
        });
        wire
    }

    /// Bytes up and down since they were last asked for.
    fn counted(&self) -> (u64, u64) {
        let taken = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (taken(&self.up), taken(&self.down))
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: Arc<AtomicU64>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        count.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

async fn server(compress_from: Option<usize>) -> Server {
    let options = ServerOptions {
        compress_from,
        ..ServerOptions::default()
    };
    let server = Server::bind_with("127.0.0.1:0", options).await.unwrap();
    server.open(tower::service_fn(echo));
    server
}

fn channel(wire: &Wire, compression: Compression) -> Channel {
    let options = RemoteOptions {
        compression,
        compress_from: 1_000,
        ..options()
    };
    Channel::remote(std::slice::from_ref(&wire.address), &options).unwrap()
}

/// Sends a body and gives the answer's.
async fn call(channel: &Channel, path: &str, body: Bytes) -> Result<Bytes, tonic::Status> {
    let body = http_body_util::Full::from(body);
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .unwrap();
    context::with_deadline(Duration::from_secs(20), async {
        let answer = channel.clone().oneshot(request).await;
        let answer = answer.map_err(tonic::Status::from_error)?;
        if let Some(status) = tonic::Status::from_header_map(answer.headers()) {
            return Err(status);
        }
        assert!(!answer.headers().contains_key("grpc-encoding"));
        Ok(answer.into_body().collect().await?.to_bytes())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_compressed_both_ways_once_both_ends_agree() {
    let server = server(Some(1_000)).await;
    for compression in [Compression::Gzip, Compression::Zstd] {
        let wire = Wire::to(&server).await;
        let channel = channel(&wire, compression);
        let sent = message(LENGTH);
        // Before the first answer nothing is known of the peer.
        assert_eq!(call(&channel, READ, sent.clone()).await.unwrap(), sent);
        let (up, down) = wire.counted();
        assert!(up > LENGTH as u64, "{compression:?}: {up}");
        assert!(down < LENGTH as u64 / 20, "{compression:?}: {down}");
        assert_eq!(call(&channel, READ, sent.clone()).await.unwrap(), sent);
        let (up, down) = wire.counted();
        assert!(up < LENGTH as u64 / 20, "{compression:?}: {up}");
        assert!(down < LENGTH as u64 / 20, "{compression:?}: {down}");
        // A stream, message by message.
        let answer = call(&channel, TAIL, sent.clone()).await.unwrap();
        assert_eq!(answer, [&sent[..]; 3].concat());
        assert!(wire.counted().1 < LENGTH as u64 / 10);
        // What is short is not worth it.
        let short = message(999);
        assert_eq!(call(&channel, READ, short.clone()).await.unwrap(), short);
        let (up, down) = wire.counted();
        assert!(up > 999 && down > 999, "{up} and {down}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_ask_gets_messages_as_they_are() {
    let sent = message(LENGTH);
    for (compress_from, compression) in
        [(Some(1_000), Compression::None), (None, Compression::Zstd)]
    {
        let server = server(compress_from).await;
        let wire = Wire::to(&server).await;
        let channel = channel(&wire, compression);
        for _ in 0..2 {
            assert_eq!(call(&channel, READ, sent.clone()).await.unwrap(), sent);
        }
        assert!(wire.counted().1 > 2 * LENGTH as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_bytes_cannot_become_more_than_a_message_may_hold() {
    let server = server(None).await;
    let bomb = {
        let zeros = vec![0_u8; MESSAGE_BYTES + 1];
        zstd::bulk::compress(&zeros, 1).unwrap()
    };
    let framed = [&[1][..], &(bomb.len() as u32).to_be_bytes(), &bomb].concat();
    let request = Request::post(READ)
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "zstd")
        .body(Body::new(http_body_util::Full::from(framed)))
        .unwrap();
    let channel = Channel::remote(&[format!("http://{}", server.address())], &options()).unwrap();
    let answer = context::with_deadline(Duration::from_secs(20), channel.oneshot(request)).await;
    let answer = answer.unwrap();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    let failure = commonplace_rpc::Failure::from_status(&status);
    assert_eq!(failure.reason, "MESSAGE_TOO_LARGE");
}
