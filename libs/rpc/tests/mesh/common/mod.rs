//! Servers that do as they are told, a proxy that breaks what passes through it, and a plain client.

#![allow(dead_code)]

pub mod certificates;
pub mod proxy;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use commonplace_rpc::remote::RetryOptions;
use commonplace_rpc::remote::WatchedList;
use commonplace_rpc::server::{Server, ServerOptions};
use commonplace_rpc::{Channel, Code, Endpoint, Failure, RemoteOptions, context};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Notify, watch};
use tonic::body::Body;
use tower::ServiceExt;

/// Its contract says that it may be repeated.
pub const READ: &str = "/commonplace.journal.v1.JournalService/ListProjects";
/// Its contract says nothing.
pub const WRITE: &str = "/commonplace.policy.v1.PolicyService/PutPolicy";
/// A stream without end.
pub const TAIL: &str = "/commonplace.journal.v1.JournalService/Tail";
/// The service of [`READ`].
pub const JOURNAL: &str = "commonplace.journal.v1.JournalService";

/// One empty message.
pub const MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

/// What a server does with the calls it gets.
#[derive(Clone)]
pub enum Act {
    Answer,
    After(Duration),
    Hang,
    Fail(Failure),
    /// Answers all but the first so many, which hang.
    HangFirst(usize),
    /// Answers all but the first so many, which fail.
    FailFirst(usize, Failure),
}

/// A server that counts.
pub struct Peer {
    pub server: Server,
    pub seen: Arc<AtomicUsize>,
    /// Told at each call that begins.
    pub began: Arc<Notify>,
    pub running: Arc<AtomicUsize>,
    act: watch::Sender<Act>,
}

impl Peer {
    pub async fn start(act: Act) -> Self {
        Self::start_at("127.0.0.1:0", act, ServerOptions::default()).await
    }

    pub async fn start_at(address: &str, act: Act, options: ServerOptions) -> Self {
        let server = bind(address, options).await;
        let (seen, began, running) = (Arc::default(), Arc::default(), Arc::default());
        let act = watch::Sender::new(act);
        let peer = Self {
            server,
            seen,
            began,
            running,
            act,
        };
        peer.server.open(peer.service());
        peer.server.readiness().set(JOURNAL, true);
        peer
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.url()).unwrap()
    }

    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    pub fn act(&self, act: Act) {
        self.act.send_replace(act);
    }

    fn service(
        &self,
    ) -> tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Infallible> {
        let (seen, began, running) = (self.seen.clone(), self.began.clone(), self.running.clone());
        let act = self.act.subscribe();
        tower::util::BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
            let (seen, began, running) = (seen.clone(), began.clone(), running.clone());
            let act = act.borrow().clone();
            async move {
                let _counted = Counted::new(running);
                let path = request.uri().path().to_owned();
                let _ = request.into_body().collect().await;
                let number = seen.fetch_add(1, Ordering::SeqCst);
                began.notify_waiters();
                Ok(answer(act, number, &path).await)
            }
        }))
    }
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(act: Act, number: usize, path: &str) -> Response<Body> {
    match act {
        Act::Answer => {}
        Act::After(span) => tokio::time::sleep(span).await,
        Act::Hang => std::future::pending().await,
        Act::Fail(failure) => return failure.into_status().into_http(),
        Act::HangFirst(count) if number < count => std::future::pending().await,
        Act::FailFirst(count, failure) if number < count => {
            return failure.into_status().into_http();
        }
        Act::HangFirst(_) | Act::FailFirst(..) => {}
    }
    if path == TAIL { endless() } else { message() }
}

/// An answer of one empty message.
pub fn message() -> Response<Body> {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames: [Result<Frame<Bytes>, Infallible>; 2] = [
        Ok(Frame::data(Bytes::from_static(MESSAGE))),
        Ok(Frame::trailers(trailers)),
    ];
    grpc(Body::new(StreamBody::new(tokio_stream::iter(frames))))
}

/// A message every 5 ms, for ever.
pub fn endless() -> Response<Body> {
    let frames = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(MESSAGE))),
            (),
        ))
    });
    grpc(Body::new(StreamBody::new(frames)))
}

fn grpc(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let kind = http::HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", kind);
    answer
}

/// Binds; the port may still be held for a moment by a server that just ended.
pub async fn bind(address: &str, options: ServerOptions) -> Server {
    for _ in 0..200 {
        match Server::bind_with(address, options.clone()).await {
            Ok(server) => return server,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{address} stays taken")
}

pub fn request(path: &str) -> Request<Body> {
    let body = http_body_util::Full::from(Bytes::from_static(MESSAGE));
    Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body))
        .unwrap()
}

/// Makes a call within the time, and reads its answer whole.
pub async fn call(channel: &Channel, path: &str, time: Duration) -> Result<(), Failure> {
    context::with_deadline(time, async {
        let answer = channel.clone().oneshot(request(path)).await;
        let answer =
            answer.map_err(|error| Failure::from_status(&tonic::Status::from_error(error)))?;
        let (head, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|status| Failure::from_status(&status))?;
        let headers = body.trailers().unwrap_or(&head.headers);
        match tonic::Status::from_header_map(headers) {
            Some(status) if status.code() != tonic::Code::Ok => Err(Failure::from_status(&status)),
            _ => Ok(()),
        }
    })
    .await
}

pub async fn read(channel: &Channel) -> Result<(), Failure> {
    call(channel, READ, Duration::from_secs(20)).await
}

pub async fn write(channel: &Channel) -> Result<(), Failure> {
    call(channel, WRITE, Duration::from_secs(20)).await
}

/// Short delays, so that tests are quick; nothing else differs from the defaults.
pub fn options() -> RemoteOptions {
    RemoteOptions {
        connect_timeout: Duration::from_secs(2),
        resolve_every: Duration::from_secs(60),
        resolve_spacing: Duration::from_millis(50),
        patience: Duration::from_secs(5),
        retry: RetryOptions {
            first_delay: Duration::from_millis(5),
            ..RetryOptions::default()
        },
        seed: Some(7),
        ..RemoteOptions::default()
    }
}

/// A channel over a list that the test changes.
pub fn listed(
    endpoints: Vec<Endpoint>,
    options: &RemoteOptions,
) -> (Channel, watch::Sender<Vec<Endpoint>>) {
    let (sender, receiver) = watch::channel(endpoints);
    (
        Channel::resolved(Arc::new(WatchedList::new(receiver)), options),
        sender,
    )
}

/// Waits until the channel has these endpoints live.
pub async fn live(channel: &Channel, mut wanted: Vec<Endpoint>) {
    wanted.sort();
    let mut endpoints = channel.watch_endpoints().unwrap();
    let reached = endpoints.wait_for(|live| **live == *wanted);
    let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
    assert!(
        reached.is_ok(),
        "wanted {wanted:?}, have {:?}",
        channel.endpoints()
    );
}

/// Waits until something is true.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    for _ in 0..2_000 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}")
}

pub fn unavailable() -> Failure {
    Failure::new(Code::Unavailable, "TEST").message("not now")
}
