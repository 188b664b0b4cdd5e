//! What an HTTP call brings along: its deadline, its id, its trace, who makes it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use commonplace_rpc::audit::PeerAddress;
use commonplace_rpc::context::{self, Call, Trace};
use commonplace_rpc::{Code, Failure, parse_grpc_timeout};
use commonplace_types::Principal;
use http::request::Parts;

use crate::http_error::HttpError;

/// Longest id of a call that is taken over.
const ID_BYTES: usize = 128;

/// Runs `answer` as the call that the head of a request describes; when its time is up, so is the answer.
/// Errors: those of `answer`, a malformed deadline, a deadline that passed.
pub(crate) async fn within<T>(
    head: &Parts,
    default_timeout: Duration,
    answer: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    let call = read(head, default_timeout)?;
    let deadline = call.deadline;
    let answer = context::scope(call, answer);
    let Some(deadline) = deadline else {
        return answer.await;
    };
    match tokio::time::timeout_at(deadline.into(), answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = "the call's time is up; what it asked for may still happen, so ask again with more time";
            let failure = Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED").message(text);
            Err(HttpError(failure))
        }
    }
}

fn read(head: &Parts, default_timeout: Duration) -> Result<Call, HttpError> {
    let headers = &head.headers;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let timeout = match headers.get("grpc-timeout") {
        None => default_timeout,
        Some(value) => {
            let parsed = value.to_str().ok().and_then(parse_grpc_timeout);
            parsed.ok_or_else(malformed_timeout)?
        }
    };
    let mut call = Call::root(Some(timeout));
    call.peer = head.extensions.get::<PeerAddress>().map(|peer| peer.0);
    if let Some(id) = header("x-request-id").filter(|id| !id.is_empty() && id.len() <= ID_BYTES) {
        call.request_id = id.to_owned();
    }
    if let Some(trace) = header("traceparent").and_then(Trace::parse) {
        call.trace = trace;
    }
    if let Some(principal) = head.extensions.get::<Arc<Principal>>() {
        call.tenant = principal.tenant.clone();
        call.principal = Some(principal.clone());
    }
    Ok(call)
}

fn malformed_timeout() -> HttpError {
    let problem = "expected up to 8 digits and a unit of H, M, S, m, u or n, for example `500m`";
    let failure = Failure::new(Code::InvalidArgument, "FIELD_INVALID")
        .field("grpc-timeout", problem)
        .message(format!("header `grpc-timeout`: {problem}"));
    HttpError(failure)
}
