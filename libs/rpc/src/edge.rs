//! The layer around calls that come from outside: who calls too much is refused, the rest is let in as far as it can
//! be served.
//!
//! It stands before the channel to a service, so that it is the same for services of this process and for others. The
//! first message of a call is read before the call takes a place: a caller that sends slowly holds up nobody. Streams
//! take a place only for the moment in which they are let in, since how long they go on is their caller's doing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use commonplace_telemetry::Metrics;
use commonplace_types::{Principal, ProjectName};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Frame;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::ServiceExt;

use crate::access;
use crate::admission::Admission;
use crate::channel::{out_of_time, parse_grpc_timeout};
use crate::measure::{Measure, TRACEPARENT};
use crate::methods::{self, Method, Over, method};
use crate::serve::{grpc_status, read_call, traced};
use crate::{Channel, Code, Endpoint, Failure, Limits};

/// Knows how much everybody may call.
#[async_trait]
pub trait Rates: Send + Sync + fmt::Debug {
    /// Whether somebody may call at all at present; takes nothing. Error: RESOURCE_EXHAUSTED.
    async fn check(&self, principal: &Principal, method: &'static Method) -> Result<(), Failure>;

    /// Counts a call and the bytes of its first message, or nothing of it. Error: RESOURCE_EXHAUSTED.
    async fn take(
        &self,
        principal: &Principal,
        method: &'static Method,
        project: Option<&ProjectName>,
        bytes: u64,
    ) -> Result<(), Failure>;

    /// Counts further bytes of a call that was let in.
    fn more(
        &self,
        principal: &Principal,
        method: &'static Method,
        project: Option<&ProjectName>,
        bytes: u64,
    );
}

/// What is asked before calls from outside go on to a service. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Edge {
    admission: Admission,
    rates: Option<Arc<dyn Rates>>,
    metrics: Arc<Metrics>,
    /// Calls that are read, wait or run, all together.
    arriving: Arc<Semaphore>,
}

impl Edge {
    /// `most`: calls that are being read, wait or run at most.
    pub fn new(
        admission: Admission,
        rates: Option<Arc<dyn Rates>>,
        metrics: Arc<Metrics>,
        most: usize,
    ) -> Self {
        Self {
            admission,
            rates,
            metrics,
            arriving: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// The channel with this before it.
    pub fn before(&self, channel: &Channel) -> Channel {
        Channel::guarded(Guarded {
            edge: self.clone(),
            channel: channel.clone(),
        })
    }

    async fn answer(
        &self,
        channel: Channel,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let method = method(request.uri().path());
        if method.access.is_none() {
            return Ok(pass(channel, request).await);
        }
        let arriving = self.arriving.clone().try_acquire_owned();
        let _arriving = arriving.map_err(|_| crate::serve::too_many())?;
        let deadline = deadline_of(request.headers());
        // However long a caller would wait for its answer, it does not hold a place with half a message for as long.
        let patience = Instant::now() + Limits::default().default_timeout;
        let patience = deadline.map_or(patience, |deadline| deadline.min(patience));
        let principal = request.extensions().get::<Arc<Principal>>().cloned();
        let metered = principal.filter(|principal| !principal.is_service());
        let meter = self.rates.clone().zip(metered);
        if let Some((rates, principal)) = &meter {
            rates.check(principal, method).await?;
        }
        let request = read(method, request, patience, meter).await?;
        let permit = self.admission.admit(method, deadline).await?;
        if method.client_streaming || method.server_streaming {
            drop(permit);
            return Ok(pass(channel, request).await);
        }
        let answer = pass(channel, request).await;
        match says_something(grpc_status(answer.headers())) {
            true => permit.answered(),
            false => drop(permit),
        }
        Ok(answer)
    }

    /// The answer to a call that goes no further, which is counted and told of like one that was served.
    fn refuse(&self, method: &'static str, head: &HeaderMap, failure: Failure) -> Response<Body> {
        if failure.code == Code::ResourceExhausted {
            self.metrics.call_refused(method);
        }
        let mut call = read_call(head, &Limits::default());
        let measure = Measure::server(self.metrics.clone(), method, head, &mut call);
        traced(failure.into_status().into_http(), measure, call.trace)
    }
}

type Meter = Option<(Arc<dyn Rates>, Arc<Principal>)>;

/// Reads the first message, and counts the call. Error: it cannot be read in time, or is one too many.
async fn read(
    method: &'static Method,
    request: Request<Body>,
    patience: Instant,
    meter: Meter,
) -> Result<Request<Body>, Failure> {
    let (head, body) = request.into_parts();
    let opened = tokio::time::timeout_at(patience.into(), access::open(body));
    let opened = opened.await.map_err(|_| out_of_time())??;
    let Some((rates, principal)) = meter else {
        return Ok(Request::from_parts(head, opened.body));
    };
    let project = match method.access.as_ref().map(|access| &access.over) {
        Some(Over::Project(path)) => Some(access::project_of(&opened.message, path)?),
        _ => None,
    };
    let bytes = opened.message.len() as u64;
    rates
        .take(&principal, method, project.as_ref(), bytes)
        .await?;
    if !method.client_streaming {
        return Ok(Request::from_parts(head, opened.body));
    }
    let counted = Counted {
        body: opened.body,
        known: bytes,
        count: Box::new(move |bytes| rates.more(&principal, method, project.as_ref(), bytes)),
    };
    Ok(Request::from_parts(head, Body::new(counted)))
}

/// Of a call's headers what its span tells.
fn told(headers: &HeaderMap) -> HeaderMap {
    let names = [TRACEPARENT, "x-request-id"];
    let told = names.into_iter().filter_map(|name| {
        let value = headers.get(name)?.clone();
        Some((HeaderName::from_static(name), value))
    });
    told.collect()
}

async fn pass(channel: Channel, request: Request<Body>) -> Response<Body> {
    let answer = channel.oneshot(request).await;
    answer.unwrap_or_else(|error| tonic::Status::from_error(error).into_http())
}

/// A refusal takes no time, and one who went away does not say how long it would have taken.
fn says_something(code: i32) -> bool {
    let code = tonic::Code::from_i32(code);
    matches!(code, tonic::Code::Ok | tonic::Code::DeadlineExceeded)
}

/// When the caller stops waiting: as the call says, or as the present one does.
fn deadline_of(headers: &HeaderMap) -> Option<Instant> {
    let stated = headers
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok());
    let stated = stated.and_then(parse_grpc_timeout);
    let stated = stated.map(|span| Instant::now() + span);
    match (stated, crate::context::deadline()) {
        (Some(stated), Some(present)) => Some(stated.min(present)),
        (stated, present) => stated.or(present),
    }
}

/// The messages of a stream, whose bytes are counted as they come.
struct Counted {
    body: Body,
    /// Of these bytes it is known already that they come.
    known: u64,
    count: Box<dyn Fn(u64) + Send>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.len() as u64;
            let new = bytes.saturating_sub(self.known);
            self.known = self.known.saturating_sub(bytes);
            (self.count)(new);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A channel with an edge before it.
#[derive(Clone)]
pub(crate) struct Guarded {
    edge: Edge,
    pub(crate) channel: Channel,
}

impl Guarded {
    /// The same before one endpoint only.
    pub(crate) fn to(&self, endpoint: &Endpoint) -> Channel {
        self.edge.before(&self.channel.to(endpoint))
    }

    pub(crate) fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let Self { edge, channel } = self.clone();
        let method = methods::name(request.uri().path());
        let head = told(request.headers());
        async move {
            let answer = edge.answer(channel, request).await;
            answer.unwrap_or_else(|failure| edge.refuse(method, &head, failure))
        }
    }
}
