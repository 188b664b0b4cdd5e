//! The layer around every handler: context, deadline, limit, span, measurements.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use commonplace_telemetry::Metrics;
use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::Service;
use tracing::Instrument;

use crate::channel::{out_of_time, parse_grpc_timeout};
use crate::context::{self, Call, Trace};
use crate::{Code, Failure};

/// What a service lets in.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Calls served at the same time; more are refused with RESOURCE_EXHAUSTED.
    pub concurrent_calls: usize,
    /// The deadline of calls that bring none.
    pub default_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_calls: 1_024,
            default_timeout: Duration::from_secs(60),
        }
    }
}

/// A service with the layers around it.
#[derive(Clone)]
pub struct Layered<S> {
    inner: S,
    permits: Arc<Semaphore>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl<S> Layered<S> {
    /// Puts the layers around `inner`.
    pub fn new(inner: S, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            permits: Arc::new(Semaphore::new(limits.concurrent_calls)),
            limits,
            metrics,
        }
    }
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
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let metrics = self.metrics.clone();
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            metrics.call_refused();
            metrics.call_answered(
                &method,
                tonic::Code::ResourceExhausted as i32,
                started.elapsed(),
            );
            return Box::pin(std::future::ready(Ok(too_many().into_status().into_http())));
        };
        let mut call = read_call(request.headers(), &self.limits);
        let deadline = call.deadline;
        let span = tracing::info_span!(
            target: "commonplace::rpc", "rpc",
            otel.name = method, rpc.system.name = "grpc", rpc.method = method,
            trace_id = call.trace.trace_id(), request_id = call.request_id,
        );
        if let Some(caller) = request
            .headers()
            .get("traceparent")
            .and_then(|v| v.to_str().ok())
        {
            commonplace_telemetry::adopt(&span, caller);
        }
        if let Some(own) = commonplace_telemetry::traceparent_of(&span)
            .as_deref()
            .and_then(Trace::parse)
        {
            call.trace = own;
        }
        let inner = self.inner.call(request);
        let served = context::scope(call, inner).instrument(span);
        Box::pin(async move {
            // The permit is held until the head of the answer is there; streams are bounded by themselves.
            let _permit = permit;
            let deadline = deadline.unwrap_or(started + Duration::from_secs(3_600));
            let answer = match tokio::time::timeout_at(deadline.into(), served).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => out_of_time().into_status().into_http(),
            };
            metrics.call_answered(&method, grpc_status(answer.headers()), started.elapsed());
            Ok(answer)
        })
    }
}

fn too_many() -> Failure {
    Failure::new(Code::ResourceExhausted, "TOO_MANY_CALLS")
        .retry_after(Duration::from_millis(100))
        .message("too many calls at once; try again shortly")
}

/// A failed unary call carries its status in the head of the answer; without one it is a success.
fn grpc_status(headers: &HeaderMap) -> i32 {
    let value = headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn read_call(headers: &HeaderMap, limits: &Limits) -> Call {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let timeout = header("grpc-timeout").and_then(parse_grpc_timeout);
    let mut call = Call::root(Some(timeout.unwrap_or(limits.default_timeout)));
    if let Some(id) = header("x-request-id").filter(|id| !id.is_empty() && id.len() <= 128) {
        call.request_id = id.to_owned();
    }
    if let Some(trace) = header("traceparent").and_then(Trace::parse) {
        call.trace = trace.child();
    }
    call
}
