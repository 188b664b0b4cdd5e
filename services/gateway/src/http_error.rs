//! Failures as HTTP answers.

use axum::response::{IntoResponse, Response};
use commonplace_rpc::{Code, Failure};
use http::StatusCode;
use http::header::CONTENT_TYPE;

/// A failure that answers as `{"error": {…}}` with the fitting HTTP status.
#[derive(Debug)]
pub(crate) struct HttpError(pub(crate) Failure);

impl From<tonic::Status> for HttpError {
    fn from(status: tonic::Status) -> Self {
        Self(Failure::from_status(&status))
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let Failure {
            code,
            reason,
            message,
            fields,
            retry_after,
            metadata,
        } = self.0;
        let fields: Vec<_> = fields
            .iter()
            .map(|wrong| serde_json::json!({"field": wrong.field, "problem": wrong.problem}))
            .collect();
        let mut error = serde_json::json!({
            "code": name(code), "reason": &reason, "message": message, "fields": fields, "metadata": metadata,
        });
        // Set by the layer around every request; whoever reports the error can name the trace.
        if let Some(call) = commonplace_rpc::context::current() {
            error["trace_id"] = call.trace.trace_id().into();
            error["request_id"] = call.request_id.into();
        }
        let mut response_headers = vec![(CONTENT_TYPE, "application/json".to_owned())];
        if let Some(delay) = retry_after {
            error["retry_after_ms"] = (delay.as_millis() as u64).into();
            let seconds = delay.as_secs_f64().ceil() as u64;
            response_headers.push((http::header::RETRY_AFTER, seconds.to_string()));
        }
        let body = serde_json::json!({ "error": error }).to_string() + "\n";
        let mut response = (http_status(code, &reason), body).into_response();
        for (name, value) in response_headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

// The mapping is that of google.rpc.Code; what HTTP has a status of its own for gets that.
fn http_status(code: Code, reason: &str) -> StatusCode {
    match reason {
        "METHOD_NOT_ALLOWED" => return StatusCode::METHOD_NOT_ALLOWED,
        "CONTENT_TYPE_INVALID" => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "BODY_TOO_SLOW" => return StatusCode::REQUEST_TIMEOUT,
        _ => {}
    }
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Cancelled | Code::DataLoss | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::Aborted => "ABORTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::DataLoss => "DATA_LOSS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Cancelled => "CANCELLED",
        Code::Internal => "INTERNAL",
    }
}
