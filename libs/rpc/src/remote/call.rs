//! One call over a channel that leaves the process: attempts until one is answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use commonplace_types::Principal;
use http::{HeaderMap, Request, Response, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use tonic::body::Body;
use tower::Service;

use super::Endpoint;
use super::member::{Link, Member, Running, chain};
use super::pick::{Picked, wait};
use super::pool::Shared;
use super::replay::Replay;
use super::retry::delay;
use crate::audit::Hop;
use crate::channel::{deadline_header, out_of_time};
use crate::compression::Asking;
use crate::methods::{Method, method};
use crate::principal;
use crate::server::MESSAGE_BYTES;
use crate::{Code, Failure};

/// Set by a server on the answer to a call that it did not begin with, because it starts or drains.
pub(crate) const NOT_BEGUN: &str = "x-commonplace-not-begun";

/// How long an endpoint rests that does not say how long.
const REST: Duration = Duration::from_millis(200);

/// How one attempt ended.
enum Attempt {
    Answered(Response<Body>),
    /// No server began with the call.
    NotBegun {
        problem: String,
        answer: Option<Response<Body>>,
        asked: Option<Duration>,
    },
    /// It may have been served, or be served still.
    Broken {
        problem: String,
        answer: Option<Response<Body>>,
        asked: Option<Duration>,
    },
}

/// Sends a call, again if that is allowed and helps. `repeats`: counts the times beyond the first.
/// Error: always a status with an `ErrorInfo`; transport failures are UNAVAILABLE, and RESOURCE_EXHAUSTED a call that
/// is not sent, since the server refuses most of its like.
pub(crate) async fn send(
    shared: &Shared,
    only: Option<&Endpoint>,
    request: Request<Body>,
    deadline: Option<Instant>,
    repeats: &mut u32,
) -> Result<Response<Body>, tonic::Status> {
    let cost = method(request.uri().path()).cost;
    let admitted = shared.throttle.admit(cost, &shared.random, Instant::now());
    admitted.map_err(Failure::into_status)?;
    let answer = attempts(shared, only, request, deadline, repeats).await;
    shared.throttle.ended(cost, &answer, Instant::now());
    answer
}

async fn attempts(
    shared: &Shared,
    only: Option<&Endpoint>,
    request: Request<Body>,
    deadline: Option<Instant>,
    repeats: &mut u32,
) -> Result<Response<Body>, tonic::Status> {
    let facts = method(request.uri().path());
    let (head, body) = request.into_parts();
    let options = &shared.options;
    let asking = Asking::new(options.compression, options.compress_from);
    let replay = Replay::new(body, shared.options.retry.buffer_bytes);
    let patience = Instant::now() + shared.options.patience;
    let until = deadline.map_or(patience, |deadline| deadline.min(patience));
    let (mut sent, mut refused) = (0, 0);
    shared.budget.deposit();
    loop {
        let Some(picked) = wait(shared, only, until).await else {
            return Err(nobody(shared, only, deadline));
        };
        let Some(body) = replay.body() else {
            return Err(
                unreachable("the request was too long to be sent again", false).into_status(),
            );
        };
        chosen(&picked.member.endpoint);
        let mut attempt = Request::from_parts(head.clone(), body);
        *attempt.uri_mut() = target(&picked.member.endpoint, head.uri.path());
        tell_principal(&mut attempt, picked.member.endpoint.secure);
        if let Some(bearer) = &shared.options.bearer {
            let shown = bearer.show(&picked.member.endpoint, attempt.headers_mut());
            shown.map_err(Failure::into_status)?;
        }
        deadline_header(deadline, attempt.headers_mut())?;
        let (answer, error, pause) =
            match attempt_once(&picked, asking, attempt, facts, deadline).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::NotBegun {
                    problem,
                    answer,
                    asked,
                } => {
                    if answer.is_some() {
                        picked.member.rest(asked.unwrap_or(REST));
                    }
                    refused += 1;
                    let again = Instant::now() < until && replay.can_repeat();
                    // An endpoint that rests is waited for by the choice itself.
                    let pause = match refused {
                        1 => Duration::ZERO,
                        count => delay(&shared.options.retry, &shared.random, count, None),
                    };
                    (answer, unreachable(&problem, false), again.then_some(pause))
                }
                Attempt::Broken {
                    problem,
                    answer,
                    asked,
                } => {
                    sent += 1;
                    let again = facts.repeatable
                        && sent < shared.options.retry.attempts
                        && replay.can_repeat()
                        && shared.budget.withdraw();
                    let pause = delay(&shared.options.retry, &shared.random, sent, asked);
                    (answer, unreachable(&problem, true), again.then_some(pause))
                }
            };
        let fits =
            |pause: &Duration| deadline.is_none_or(|deadline| Instant::now() + *pause < deadline);
        match (pause.filter(fits), answer) {
            (Some(pause), _) => {
                tracing::debug!(
                    method = head.uri.path(),
                    problem = error.message,
                    "a call is sent again"
                );
                *repeats += 1;
                tokio::time::sleep(pause).await;
            }
            (None, Some(answer)) => return Ok(answer),
            (None, None) => return Err(error.into_status()),
        }
    }
}

/// Says in the call's span where it goes; of several attempts the last remains.
fn chosen(endpoint: &Endpoint) {
    let span = tracing::Span::current();
    span.record("server.address", endpoint.host.as_str());
    span.record("server.port", endpoint.port);
}

/// A peer that does not see our certificate would not believe who the call is made for.
fn tell_principal(attempt: &mut Request<Body>, secure: bool) {
    let principal = attempt.extensions().get::<Arc<Principal>>().cloned();
    let hop = attempt.extensions().get::<Hop>().copied();
    principal::strip(attempt);
    if let Some(hop) = hop.filter(|_| secure) {
        hop.send_on(attempt.headers_mut());
    }
    if let Some(principal) = principal.filter(|_| secure) {
        principal::send_on(&principal, attempt.headers_mut());
    }
}

/// UNAVAILABLE, and whether a server may have begun with the call.
pub(crate) fn unreachable(problem: &str, maybe_sent: bool) -> Failure {
    let sent = if maybe_sent { "maybe" } else { "no" };
    Failure::new(Code::Unavailable, "PEER_UNREACHABLE")
        .metadata("sent", sent)
        .message(problem)
}

fn nobody(shared: &Shared, only: Option<&Endpoint>, deadline: Option<Instant>) -> tonic::Status {
    let problem = shared.problem(only);
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let text = format!("the call's time is up before an endpoint took it; {problem}");
        return out_of_time().message(text).into_status();
    }
    unreachable(&format!("no endpoint takes calls; {problem}"), false).into_status()
}

/// The scheme and authority of an endpoint.
pub(crate) fn origin(endpoint: &Endpoint) -> Uri {
    target(endpoint, "/")
}

fn target(endpoint: &Endpoint, path: &str) -> Uri {
    let uri = Uri::builder()
        .scheme(if endpoint.secure { "https" } else { "http" })
        .authority(endpoint.authority())
        .path_and_query(path)
        .build();
    // Checked when the address was read; a host that is none gives a call that fails by its path.
    uri.unwrap_or_default()
}

async fn attempt_once(
    picked: &Picked,
    asking: Asking,
    request: Request<Body>,
    facts: &'static Method,
    deadline: Option<Instant>,
) -> Attempt {
    let running = picked.member.enter();
    let mut waiting = Waiting::new(picked);
    let mut sender = picked.link.sender.clone();
    let request = asking.request(request, &picked.link.reads);
    let response = match sender.try_send_request(request).await {
        Ok(response) => asking.answer(response.map(Body::new), &picked.link.reads),
        Err(mut error) => {
            waiting.over = true;
            let unsent = error.take_message().is_some();
            return failed(picked, error.error(), unsent);
        }
    };
    if response.headers().contains_key(NOT_BEGUN) {
        waiting.over = true;
        let (problem, asked) = told(response.headers());
        return Attempt::NotBegun {
            problem,
            answer: Some(response),
            asked,
        };
    }
    if facts.server_streaming {
        waiting.over = true;
        let body = |body| Body::new(Answer::new(body, running, deadline));
        return judged(response.map(body));
    }
    let (head, body) = response.into_parts();
    let collected = collect(body).await;
    waiting.over = true;
    match collected {
        Ok(body) => judged(Response::from_parts(head, body)),
        Err(Collected::TooLarge) => Attempt::Answered(too_large().into_status().into_http()),
        Err(Collected::Broken(status)) => {
            let problem = format!(
                "{}: the answer broke off: {}",
                picked.member.endpoint,
                chain(&status)
            );
            Attempt::Broken {
                problem,
                answer: None,
                asked: None,
            }
        }
    }
}

/// An UNAVAILABLE that the server itself answered may be sent again; unless it comes from further behind,
/// where it was sent again already.
fn judged(response: Response<Body>) -> Attempt {
    let unavailable = tonic::Code::Unavailable as i32;
    if crate::serve::grpc_status(response.headers()) != unavailable {
        return Attempt::Answered(response);
    }
    let failure = tonic::Status::from_header_map(response.headers())
        .map(|status| Failure::from_status(&status));
    match failure {
        Some(failure) if failure.reason != "PEER_UNREACHABLE" => Attempt::Broken {
            problem: failure.message,
            asked: failure.retry_after,
            answer: Some(response),
        },
        _ => Attempt::Answered(response),
    }
}

fn told(headers: &HeaderMap) -> (String, Option<Duration>) {
    let failure =
        tonic::Status::from_header_map(headers).map(|status| Failure::from_status(&status));
    failure.map_or_else(Default::default, |failure| {
        (failure.message, failure.retry_after)
    })
}

fn failed(picked: &Picked, error: &hyper::Error, unsent: bool) -> Attempt {
    let problem = format!("{}: {}", picked.member.endpoint, chain(error));
    if unsent || was_refused(error) {
        Attempt::NotBegun {
            problem,
            answer: None,
            asked: None,
        }
    } else {
        Attempt::Broken {
            problem,
            answer: None,
            asked: None,
        }
    }
}

/// Whether the server said that it did not begin: a refused stream, or one after its last by GOAWAY.
/// Source: RFC 9113, sections 6.8 and 8.7.
fn was_refused(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let after_last = error.is_go_away()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || after_last);
        }
        cause = error.source();
    }
    false
}

fn too_large() -> Failure {
    Failure::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        .metadata("limit_bytes", MESSAGE_BYTES)
        .message(format!(
            "the answer is larger than {MESSAGE_BYTES} bytes; ask for less at once"
        ))
}

enum Collected {
    TooLarge,
    Broken(tonic::Status),
}

/// Reads an answer whole, so that a connection that breaks in it is noticed while the call can be repeated.
async fn collect(mut body: Body) -> Result<Body, Collected> {
    let (mut frames, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broken)?;
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        if bytes > MESSAGE_BYTES + (64 << 10) {
            return Err(Collected::TooLarge);
        }
        frames.push(frame);
    }
    Ok(Body::new(Whole(frames.into_iter())))
}

/// A message that is too large once it is opened is no reason to ask again.
fn broken(status: tonic::Status) -> Collected {
    match Failure::from_status(&status).reason == "MESSAGE_TOO_LARGE" {
        true => Collected::TooLarge,
        false => Collected::Broken(status),
    }
}

struct Whole(std::vec::IntoIter<Frame<bytes::Bytes>>);

impl http_body::Body for Whole {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, tonic::Status>>> {
        Poll::Ready(self.0.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.len() == 0
    }
}

/// Tells the endpoint if a call is given up while it waits.
struct Waiting {
    member: Arc<Member>,
    link: Link,
    sent: Instant,
    over: bool,
}

impl Waiting {
    fn new(picked: &Picked) -> Self {
        Self {
            member: picked.member.clone(),
            link: picked.link.clone(),
            sent: Instant::now(),
            over: false,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.member.gave_up(&self.link, self.sent);
        }
    }
}

/// A streamed answer: counted as running until it ends, cut at the deadline, its breaks told as UNAVAILABLE.
struct Answer {
    body: Body,
    _running: Running,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Answer {
    fn new(body: Body, running: Running, deadline: Option<Instant>) -> Self {
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        Self {
            body,
            _running: running,
            deadline,
        }
    }
}

impl http_body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, tonic::Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let broken =
                |status| unreachable(&format!("the stream broke off: {}", chain(&status)), true);
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|status| broken(status).into_status())),
            );
        }
        match self
            .deadline
            .as_mut()
            .map(|deadline| deadline.as_mut().poll(context))
        {
            Some(Poll::Ready(())) => {
                self.deadline = None;
                Poll::Ready(Some(Err(out_of_time().into_status())))
            }
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// One connection as a service, for calls of the channel itself.
pub(crate) struct Plain(pub(crate) SendRequest<Body>);

impl Service<Request<Body>> for Plain {
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.0.send_request(request);
        Box::pin(async move { Ok(sent.await?.map(Body::new)) })
    }
}
