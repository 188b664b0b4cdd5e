//! The layer around every handler: context, deadline, limit, who may call, span, measurements.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use commonplace_telemetry::Metrics;
use commonplace_types::{Principal, ProjectName, Right};
use http::{HeaderMap, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tower::Service;
use tracing::Instrument;

use crate::access::{self, Action, Asked, Authorize};
use crate::again::Again;
use crate::audit::{Recorder, Watch};
use crate::channel::{out_of_time, parse_grpc_timeout};
use crate::context::{self, Call, Trace};
use crate::measure::{self, Measure};
use crate::methods::{self, Method, Over, method};
use crate::view::View;
use crate::{Code, Failure};

/// What a service lets in.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Calls served at the same time; more are refused with RESOURCE_EXHAUSTED.
    pub concurrent_calls: usize,
    /// Streams answered at the same time, apart from the calls; more are refused likewise.
    pub concurrent_streams: usize,
    /// The deadline of calls that bring none.
    pub default_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_calls: 1_024,
            concurrent_streams: 256,
            default_timeout: Duration::from_secs(60),
        }
    }
}

/// A service with the layers around it.
#[derive(Clone)]
pub struct Layered<S> {
    inner: S,
    permits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    limits: Limits,
    metrics: Arc<Metrics>,
    authorize: Option<Arc<dyn Authorize>>,
    recorder: Option<Recorder>,
}

impl<S> Layered<S> {
    /// Puts the layers around `inner`.
    pub fn new(inner: S, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            permits: Arc::new(Semaphore::new(limits.concurrent_calls)),
            streams: Arc::new(Semaphore::new(limits.concurrent_streams)),
            limits,
            metrics,
            authorize: None,
            recorder: None,
        }
    }

    /// Has every call decided on before it is served. Without this everybody may call everything.
    pub fn authorized(mut self, authorize: Arc<dyn Authorize>) -> Self {
        self.authorize = Some(authorize);
        self
    }

    /// Has what is changed and what is refused recorded. Only where calls are decided on.
    pub fn audited(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Calls and streams that could be let in now.
    pub fn room(&self) -> (usize, usize) {
        (
            self.permits.available_permits(),
            self.streams.available_permits(),
        )
    }

    /// A call needs a permit until its answer begins, a stream one of its own until it ends: long streams
    /// cannot keep calls out.
    fn admit(&self, path: &str) -> Option<Permit> {
        let streams = method(path).server_streaming && path.starts_with("/commonplace.");
        let from = if streams {
            &self.streams
        } else {
            &self.permits
        };
        let permit = from.clone().try_acquire_owned().ok()?;
        Some(Permit { permit, streams })
    }
}

struct Permit {
    permit: OwnedSemaphorePermit,
    streams: bool,
}

impl Permit {
    /// Keeps the permit of a stream until its last message; gives that of a call back.
    fn hold(self, answer: Response<Body>, deadline: Option<Instant>) -> Response<Body> {
        if !self.streams {
            return answer;
        }
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        answer.map(|body| {
            Body::new(Held {
                body,
                _permit: self.permit,
                deadline,
            })
        })
    }
}

/// A streamed answer with its permit, cut at the deadline that its caller set.
struct Held {
    body: Body,
    _permit: OwnedSemaphorePermit,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Held {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        match self
            .deadline
            .as_mut()
            .map(|deadline| deadline.as_mut().poll(context))
        {
            Some(Poll::Ready(())) => {
                self.deadline = None;
                self.body = Body::empty();
                Poll::Ready(Some(Ok(http_body::Frame::trailers(
                    trailers(out_of_time()),
                ))))
            }
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A failure as the trailers that end a stream.
pub(crate) fn trailers(failure: Failure) -> HeaderMap {
    failure
        .into_status()
        .into_http::<Body>()
        .into_parts()
        .0
        .headers
}

impl<S> Service<Request<Body>> for Layered<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let method = methods::name(request.uri().path());
        let metrics = self.metrics.clone();
        let mut call = read_call(request.headers(), &self.limits);
        let Some(permit) = self.admit(request.uri().path()) else {
            metrics.call_refused(method);
            let measure = Measure::server(metrics, method, request.headers(), &mut call);
            return Box::pin(async move {
                access::drain(request).await;
                let answer = too_many().into_status().into_http();
                Ok(traced(answer, measure, call.trace))
            });
        };
        let deadline = call.deadline;
        // A stream without a deadline of its own goes on; only its head must come in time.
        let stream_deadline = deadline.filter(|_| request.headers().contains_key("grpc-timeout"));
        let measure = Measure::server(metrics, method, request.headers(), &mut call);
        let trace = call.trace;
        // The one that is ready is used up; its clone takes the next call.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let guards = (self.authorize.clone(), self.recorder.clone());
        // Whoever may not call is answered within the span, so that a refusal is seen where it happened.
        let served = serve(inner, request, call, guards);
        let served = served.instrument(measure.span().clone());
        Box::pin(async move {
            let deadline = deadline.unwrap_or(started + Duration::from_secs(3_600));
            let answer = match tokio::time::timeout_at(deadline.into(), served).await {
                Ok(Ok(Served::Answer(answer))) => answer,
                Ok(Ok(Served::Refusal(failure, request))) => {
                    // Whoever is refused keeps nobody out while the rest of the call is read.
                    drop(permit);
                    access::drain(*request).await;
                    let answer = failure.into_status().into_http();
                    return Ok(traced(answer, measure, trace));
                }
                Ok(Err(never)) => match never {},
                Err(_) => out_of_time().into_status().into_http(),
            };
            Ok(permit.hold(traced(answer, measure, trace), stream_deadline))
        })
    }
}

/// Ends the measurement by what is answered, and tells the caller which trace it was.
pub(crate) fn traced(mut answer: Response<Body>, measure: Measure, trace: Trace) -> Response<Body> {
    measure.end(grpc_status(answer.headers()));
    measure::put(trace, answer.headers_mut());
    answer
}

/// What became of a call.
enum Served {
    Answer(Response<Body>),
    /// It was not let in; there may be more of it to be read.
    Refusal(Box<Failure>, Box<Request<Body>>),
}

/// Asks who calls and whether they may, then serves.
async fn serve<S>(
    mut inner: S,
    mut request: Request<Body>,
    mut call: Call,
    (authorize, recorder): (Option<Arc<dyn Authorize>>, Option<Recorder>),
) -> Result<Served, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let Some(authorize) = authorize else {
        if let Some(principal) = request.extensions().get::<Arc<Principal>>() {
            call.tenant = principal.tenant.clone();
            call.principal = Some(principal.clone());
        }
        let answer = context::scope(call, inner.call(request)).await?;
        return Ok(Served::Answer(answer));
    };
    let watch = Watch::new(recorder, request.extensions(), &mut call);
    let admitted = admit(&authorize, &mut request, &mut call).await;
    if let Err(failure) = &admitted {
        watch.refused(&call, failure);
    }
    let let_in = admitted.and_then(|again| {
        let again = again.map(|again| watch.over(again, &call));
        Ok((watch.let_in(&call)?, again))
    });
    let (pending, again) = match let_in {
        Ok(let_in) => let_in,
        Err(failure) => return Ok(Served::Refusal(Box::new(failure), Box::new(request))),
    };
    call.authorize = Some(authorize);
    let answer = context::scope(call, inner.call(request)).await?;
    let answer = pending.answered(answer).await;
    Ok(Served::Answer(match again {
        Some(again) => again.guard(answer),
        None => answer,
    }))
}

/// Gives what to ask again while a stream goes on.
/// Error: UNIMPLEMENTED for a method that no contract knows, UNAUTHENTICATED, PERMISSION_DENIED.
async fn admit(
    authorize: &Arc<dyn Authorize>,
    request: &mut Request<Body>,
    call: &mut Call,
) -> Result<Option<Again>, Failure> {
    let path = request.uri().path();
    let method = method(path);
    let Some(access) = &method.access else {
        return Err(access::unknown(path));
    };
    call.method = Some(method);
    let principal = match request.extensions_mut().remove::<Arc<Principal>>() {
        Some(principal) => principal,
        None => authorize.nobody()?,
    };
    call.tenant = principal.tenant.clone();
    // What services alone may ask is about more than one tenant.
    if access.right.is_some() {
        tracing::Span::current().record("tenant", call.tenant.as_str());
    }
    call.principal = Some(principal.clone());
    let Some(right) = access.right else {
        return for_services(&principal, method).map(|()| None);
    };
    let (right, parts, project) = match &access.over {
        Over::Tenant => (right, false, None),
        Over::Service => (Right::Member, false, None),
        Over::Project(path) => {
            let opened = access::open(request.body_mut()).await?;
            *request.body_mut() = opened.body;
            let project = access::project_of(&opened.message, path)?;
            (right, access.parts, Some(project))
        }
    };
    let action = access::action(method, right, parts);
    let decision = authorize.decide(&principal, action, project.as_ref());
    let decision = decision.await?;
    call.asked = Some(Arc::new(Asked {
        right,
        project: project.clone(),
        because: decision.because,
    }));
    call.view = decision.answer?;
    debug_assert!(access.parts || call.view == View::Whole);
    let streams = method.server_streaming;
    Ok(streams.then(|| again(authorize.clone(), principal, action, project)))
}

/// Asks as at the beginning of the call.
fn again(
    authorize: Arc<dyn Authorize>,
    principal: Arc<Principal>,
    action: Action,
    project: Option<ProjectName>,
) -> Again {
    Again::new(move || {
        let (authorize, principal) = (authorize.clone(), principal.clone());
        let project = project.clone();
        async move {
            let decided = authorize.decide(&principal, action, project.as_ref());
            decided.await?.answer.map(drop)
        }
    })
}

fn for_services(principal: &Principal, method: &Method) -> Result<(), Failure> {
    if principal.is_service() {
        return Ok(());
    }
    let text = format!("`{}` is for services only", method.name);
    Err(Failure::new(Code::PermissionDenied, "FOR_SERVICES_ONLY").message(text))
}

pub(crate) fn too_many() -> Failure {
    Failure::new(Code::ResourceExhausted, "TOO_MANY_CALLS")
        .retry_after(Duration::from_millis(100))
        .message("too many calls at once; try again shortly")
}

/// A failed unary call carries its status in the head of the answer; without one it is a success.
pub(crate) fn grpc_status(headers: &HeaderMap) -> i32 {
    let value = headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

pub(crate) fn read_call(headers: &HeaderMap, limits: &Limits) -> Call {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let timeout = header("grpc-timeout").and_then(parse_grpc_timeout);
    let mut call = Call::root(Some(timeout.unwrap_or(limits.default_timeout)));
    if let Some(id) = header("x-request-id").filter(|id| !id.is_empty() && id.len() <= 128) {
        call.request_id = id.to_owned();
    }
    call.follow(headers);
    call
}
