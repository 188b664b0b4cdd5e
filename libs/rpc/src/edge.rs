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
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use commonplace_telemetry::{Metrics, Trace};
use commonplace_types::{Principal, ProjectName};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use tonic::body::Body;
use tower::ServiceExt;

use crate::access;
use crate::admission::Admission;
use crate::channel::{out_of_time, parse_grpc_timeout};
use crate::compression::Inflow;
use crate::intake::{Claim, Intake, IntakeOptions};
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
    intake: Arc<Intake>,
}

impl Edge {
    /// `intake`: what may be read, wait or run at most.
    pub fn new(
        admission: Admission,
        rates: Option<Arc<dyn Rates>>,
        metrics: Arc<Metrics>,
        intake: IntakeOptions,
    ) -> Self {
        Self {
            admission,
            rates,
            metrics,
            intake: Intake::new(intake),
        }
    }

    /// The channel with this before it.
    pub fn before(&self, channel: &Channel) -> Channel {
        Channel::guarded(Guarded {
            edge: self.clone(),
            channel: channel.clone(),
        })
    }

    /// The method and the head of the answer of a gRPC call that would be refused whoever makes it: found out before
    /// anybody asks who that is, without a span, for a small part of what a call costs that is looked at.
    pub fn turn_away(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<(&'static Method, HeaderMap)> {
        let method = method(path);
        method.access.as_ref()?;
        let mut head = self.admission.turn_away(method)?.clone();
        let code = tonic::Code::ResourceExhausted as i32;
        self.metrics.call_refused(&method.name);
        self.metrics
            .call_answered(&method.name, code, Duration::ZERO, None);
        let parent = headers.get(TRACEPARENT);
        let parent = parent.and_then(|parent| Trace::parse(parent.to_str().ok()?));
        let trace = parent.map_or_else(Trace::start, Trace::child).unsampled();
        if let Ok(mut trace) = HeaderValue::from_str(&trace.to_string()) {
            // No two are the same: to remember them for the next answer would only cost.
            trace.set_sensitive(true);
            head.insert(TRACEPARENT, trace);
        }
        Some((method, head))
    }

    async fn answer(
        &self,
        channel: Channel,
        request: Request<Body>,
    ) -> Result<Response<Body>, Refused> {
        let method = method(request.uri().path());
        let principal = request.extensions().get::<Arc<Principal>>().cloned();
        let claim = match self.intake.enter(principal.as_deref()) {
            Ok(claim) => claim,
            Err(failure) => return Err(Refused::new(failure, request)),
        };
        let metered = principal.filter(|principal| !principal.is_service());
        let meter = self.rates.clone().zip(metered);
        if let Some((rates, principal)) = &meter {
            let asked = match method.access.is_none() {
                true => rates.take(principal, method, None, 0).await,
                false => rates.check(principal, method).await,
            };
            if let Err(failure) = asked {
                return Err(Refused::new(failure, request));
            }
        }
        if method.access.is_none() {
            return Ok(pass(channel, request).await);
        }
        let deadline = deadline_of(request.headers());
        // However long a caller would wait for its answer, it does not hold a place with half a message for as long.
        let patience = Instant::now() + Limits::default().default_timeout;
        let patience = deadline.map_or(patience, |deadline| deadline.min(patience));
        let request = read(method, request, patience, (&claim, meter)).await?;
        let permit = match self.admission.admit(method, deadline).await {
            Ok(permit) => permit,
            Err(failure) => return Err(Refused::new(failure, request)),
        };
        if method.client_streaming || method.server_streaming {
            drop((permit, claim));
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

/// A call that goes no further, and what was not read of it.
struct Refused {
    failure: Box<Failure>,
    rest: Box<Request<Body>>,
}

impl Refused {
    fn new(failure: Failure, rest: Request<Body>) -> Self {
        Self {
            failure: Box::new(failure),
            rest: Box::new(rest),
        }
    }
}

type Meter = Option<(Arc<dyn Rates>, Arc<Principal>)>;

/// Reads the first message, and counts the call. Error: it cannot be read in time, or is one too many.
async fn read(
    method: &'static Method,
    mut request: Request<Body>,
    patience: Instant,
    (claim, meter): (&Arc<Claim>, Meter),
) -> Result<Request<Body>, Refused> {
    let inflow = Inflow::of(request.extensions()).cloned();
    if let Some(inflow) = &inflow {
        inflow.counted(claim);
    }
    let opened = access::open_within(request.body_mut(), |bytes| claim.hold(bytes));
    let opened = tokio::time::timeout_at(patience.into(), opened);
    let opened = match opened.await.unwrap_or_else(|_| Err(out_of_time())) {
        Ok(opened) => opened,
        Err(failure) => return Err(Refused::new(failure, request)),
    };
    *request.body_mut() = opened.body;
    let bytes = opened.message.len() as u64;
    let (project, meter) = match count(method, &opened.message, meter).await {
        Ok(counted) => counted,
        Err(failure) => return Err(Refused::new(failure, request)),
    };
    if !method.client_streaming {
        return Ok(request);
    }
    if let Some(inflow) = inflow {
        inflow.at_most(STREAMED_BYTES);
    }
    let count: Box<dyn Fn(u64) + Send> = match meter {
        Some((rates, principal)) => {
            Box::new(move |bytes| rates.more(&principal, method, project.as_ref(), bytes))
        }
        None => Box::new(|_| {}),
    };
    Ok(request.map(|body| {
        Body::new(Counted {
            body,
            known: bytes,
            count,
            lengths: Lengths::default(),
        })
    }))
}

/// Counts a call by its first message. Gives over which project, and who counts what comes after.
async fn count(
    method: &'static Method,
    message: &[u8],
    meter: Meter,
) -> Result<(Option<ProjectName>, Meter), Failure> {
    let Some((rates, principal)) = meter else {
        return Ok((None, None));
    };
    let project = match method.access.as_ref().map(|access| &access.over) {
        Some(Over::Project(path)) => Some(access::project_of(message, path)?),
        _ => None,
    };
    let bytes = message.len() as u64;
    let taken = rates.take(&principal, method, project.as_ref(), bytes);
    taken.await?;
    Ok((project, Some((rates, principal))))
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

/// Longest message of a stream after its first: they are made in pieces of a megabyte.
const STREAMED_BYTES: usize = 2 << 20;

/// The messages of a stream, whose bytes are counted as they come.
struct Counted {
    body: Body,
    /// Of these bytes it is known already that they come.
    known: u64,
    count: Box<dyn Fn(u64) + Send>,
    lengths: Lengths,
}

/// Follows the messages of a stream by their heads.
#[derive(Debug, Default)]
struct Lengths {
    head: Vec<u8>,
    /// Bytes of the present message that are to come.
    left: usize,
    /// The first message was seen.
    begun: bool,
}

impl Lengths {
    /// Looks at the next bytes. Error: they begin a message that is too long.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = bytes.len().min(self.left);
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let missing = 5 - self.head.len();
            let (head, rest) = bytes.split_at(bytes.len().min(missing));
            self.head.extend_from_slice(head);
            bytes = rest;
            let Some((_, mut length)) = self.head.split_first().filter(|_| self.head.len() == 5)
            else {
                return Ok(());
            };
            self.left = length.get_u32() as usize;
            self.head.clear();
            if std::mem::replace(&mut self.begun, true) && self.left > STREAMED_BYTES {
                return Err(too_long());
            }
        }
        Ok(())
    }
}

fn too_long() -> Failure {
    Failure::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        .metadata("limit_bytes", STREAMED_BYTES)
        .message(format!(
            "a message of the stream is larger than {STREAMED_BYTES} bytes; send it in parts"
        ))
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
            let followed = self.lengths.follow(data);
            if let Err(failure) = followed {
                self.body = Body::empty();
                return Poll::Ready(Some(Err(failure.into_status())));
            }
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
            match edge.answer(channel, request).await {
                Ok(answer) => answer,
                Err(refused) => {
                    access::drain(*refused.rest).await;
                    edge.refuse(method, &head, *refused.failure)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(lengths: &[usize]) -> Vec<u8> {
        let frame = |length: &usize| {
            let head = [&[0][..], &(*length as u32).to_be_bytes()].concat();
            [head, vec![7; *length]].concat()
        };
        lengths.iter().flat_map(frame).collect()
    }

    #[test]
    fn messages_of_a_stream_after_its_first_are_short() {
        let whole = framed(&[STREAMED_BYTES + 1, 0, 3, STREAMED_BYTES, 9]);
        for piece in [1_000, 4_097, whole.len()] {
            let mut lengths = Lengths::default();
            let followed = whole
                .chunks(piece)
                .try_for_each(|part| lengths.follow(part));
            followed.unwrap();
        }
        let mut lengths = Lengths::default();
        lengths.follow(&framed(&[4])).unwrap();
        let head = framed(&[STREAMED_BYTES + 1]);
        lengths.follow(&head[..4]).unwrap();
        let failure = lengths.follow(&head[4..5]).unwrap_err();
        assert_eq!(failure.reason, "MESSAGE_TOO_LARGE");
    }
}
