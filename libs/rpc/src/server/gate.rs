//! What every call to a port passes: the door, then health, then whether we are open, then who may call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Frame;
use hyper::body::Incoming;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::Readiness;
use super::readiness::Answers;
use crate::allow::AllowList;
use crate::audit::Recorder;
use crate::compression::is_plain_grpc;
use crate::methods::method;
use crate::principal;
use crate::remote::NOT_BEGUN;
use crate::tls::PeerIdentity;
use crate::{Code, Failure};

pub(crate) type Routed =
    tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Refuses gRPC calls before anything is done for them.
pub trait Door: std::fmt::Debug + Send + Sync {
    /// The head of the answer to a call that goes no further; none: it may go on. It is asked of every call but those
    /// that come while the port is not open.
    fn turn_away(&self, path: &str, headers: &HeaderMap) -> Option<HeaderMap>;
}

/// The health service has this path and no other.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// How long calls on connections that are going away are still served: GOAWAY is on its way meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// The way in.
pub(crate) struct Gate {
    open: OnceLock<Routed>,
    door: OnceLock<Arc<dyn Door>>,
    allow: Option<AllowList>,
    health: tonic_health::pb::health_server::HealthServer<Answers>,
    draining: CancellationToken,
    closed: CancellationToken,
    recorder: OnceLock<Recorder>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Gate(open: {})", self.open.get().is_some())
    }
}

impl Gate {
    pub(crate) fn new(allow: Option<AllowList>, readiness: &Readiness) -> Self {
        Self {
            open: OnceLock::new(),
            door: OnceLock::new(),
            allow,
            health: readiness.service(),
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
            recorder: OnceLock::new(),
        }
    }

    pub(crate) fn open(&self, service: Routed) {
        let _ = self.open.set(service);
    }

    pub(crate) fn guard(&self, door: Arc<dyn Door>) {
        let _ = self.door.set(door);
    }

    pub(crate) fn record_denials(&self, recorder: Recorder) {
        let _ = self.recorder.set(recorder);
    }

    /// Ends streams now, and refuses new calls shortly after.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
        let closed = self.closed.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            closed.cancel();
        });
    }

    pub(crate) fn service(self: Arc<Self>) -> Guarded {
        Guarded(self)
    }

    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        if let Err(failure) = self.let_in(&mut request) {
            if let Some(recorder) = self.recorder.get() {
                let (headers, path) = (request.headers(), request.uri().path());
                recorder.refused(headers, path, request.extensions(), &failure);
            }
            return refused(&request, failure);
        }
        if request.uri().path().starts_with(HEALTH) {
            return into_response(self.health.clone().oneshot(request).await);
        }
        if self.closed.is_cancelled() {
            return not_begun(&request, draining());
        }
        let Some(service) = self.open.get() else {
            return not_begun(&request, starting());
        };
        let streams = method(request.uri().path()).server_streaming && is_grpc(&request);
        let answer = into_response(service.clone().oneshot(request).await);
        if streams {
            self.until_drain(answer)
        } else {
            answer
        }
    }

    /// Services are asked for their certificate, and believed whom they call for. Anybody else may only claim
    /// to be somebody, which is taken away.
    fn let_in(&self, request: &mut Request<Body>) -> Result<(), Failure> {
        let Some(allow) = &self.allow else {
            principal::strip(request);
            return Ok(());
        };
        let peer = request.extensions().get::<PeerIdentity>();
        allow.check(request.uri().path(), peer)?;
        principal::receive(request)
    }

    /// Streams have no end of their own; a drain ends them between two messages, and says so.
    fn until_drain(&self, answer: Response<Body>) -> Response<Body> {
        let draining = Box::pin(self.draining.clone().cancelled_owned());
        answer.map(|body| {
            Body::new(UntilDrain {
                body,
                draining,
                ended: false,
            })
        })
    }
}

fn into_response(answer: Result<Response<Body>, Infallible>) -> Response<Body> {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

fn starting() -> Failure {
    Failure::new(Code::Unavailable, "STARTING")
        .retry_after(Duration::from_millis(200))
        .message("the server is starting; try again shortly")
}

fn draining() -> Failure {
    Failure::new(Code::Unavailable, "DRAINING")
        .retry_after(Duration::from_millis(200))
        .message("the server is stopping; call another, or try again shortly")
}

fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A refusal that says that nothing was begun, so that the call may go elsewhere.
fn not_begun(request: &Request<Body>, failure: Failure) -> Response<Body> {
    let mut answer = refused(request, failure);
    answer
        .headers_mut()
        .insert(NOT_BEGUN, HeaderValue::from_static("1"));
    answer
}

fn refused(request: &Request<Body>, failure: Failure) -> Response<Body> {
    if is_grpc(request) {
        return failure.into_status().into_http();
    }
    let mut answer = Response::new(Body::new(http_body_util::Full::from(format!(
        "{{\"error\":{{\"reason\":\"{}\",\"message\":\"{}\"}}}}",
        failure.reason, failure.message
    ))));
    *answer.status_mut() = match failure.code {
        Code::Unauthenticated => http::StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => http::StatusCode::FORBIDDEN,
        _ => http::StatusCode::SERVICE_UNAVAILABLE,
    };
    answer
}

/// The service over a [`Gate`].
#[derive(Clone)]
pub(crate) struct Guarded(Arc<Gate>);

impl Guarded {
    /// The answer to a call that goes no further, by the door. The rest of the call was not read yet.
    pub(crate) fn turn_away(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let Self(gate) = self;
        let door = gate.door.get()?;
        let native = request.version() == Version::HTTP_2
            && request.method() == Method::POST
            && is_plain_grpc(request.headers());
        if !native || gate.open.get().is_none() || gate.closed.is_cancelled() {
            return None;
        }
        let mut answer = Response::new(Body::empty());
        *answer.headers_mut() = door.turn_away(request.uri().path(), request.headers())?;
        Some(answer)
    }
}

impl Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let gate = self.0.clone();
        Box::pin(async move { Ok(gate.answer(request).await) })
    }
}

struct UntilDrain {
    body: Body,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl http_body::Body for UntilDrain {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.draining.as_mut().poll(context).is_ready() {
            self.ended = true;
            self.body = Body::empty();
            return Poll::Ready(Some(Ok(Frame::trailers(
                crate::serve::trailers(draining()),
            ))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
