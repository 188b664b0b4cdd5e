//! What went wrong, in a form that a caller can act on, and its one mapping to and from a gRPC status.

use std::collections::BTreeMap;
use std::time::Duration;

use commonplace_types::Invalid;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The `domain` of every `ErrorInfo` we send.
pub const DOMAIN: &str = "commonplace";

/// Facts about a limit that was reached: whose it is, and what it allows.
const QUOTA: [&str; 2] = ["quota_subject", "quota_allows"];

/// The kind of a failure: what a caller should do next. Names and meaning are those of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A named field is wrong; repeating the call will not help.
    InvalidArgument,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists with other content.
    AlreadyExists,
    /// Lost a race; start over from the current state.
    Aborted,
    /// The system is not in the state that the call needs.
    FailedPrecondition,
    /// Past the end of what there is.
    OutOfRange,
    /// Too much at once; try again after the given delay.
    ResourceExhausted,
    /// Not now; safe to try again.
    Unavailable,
    /// The caller's time ran out.
    DeadlineExceeded,
    /// Stored data is damaged or belongs elsewhere.
    DataLoss,
    /// The caller may not do this.
    PermissionDenied,
    /// The caller is not known.
    Unauthenticated,
    /// The call is not offered here.
    Unimplemented,
    /// The caller gave up.
    Cancelled,
    /// A fault of ours.
    Internal,
}

/// One failure, ready to be sent: code, stable reason, message, and details where they apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the caller should do next.
    pub code: Code,
    /// Stable UPPER_SNAKE word, documented in `docs/errors/`.
    pub reason: String,
    /// For people; filled in from the error's text by [`status()`].
    pub message: String,
    /// Wrong fields, each with its problem.
    pub fields: Vec<Invalid>,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// Facts to act on, for example the current head.
    pub metadata: BTreeMap<String, String>,
}

impl Failure {
    /// A failure with nothing but its code and reason.
    pub fn new(code: Code, reason: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: String::new(),
            fields: Vec::new(),
            retry_after: None,
            metadata: BTreeMap::new(),
        }
    }

    /// A wrong field: INVALID_ARGUMENT with reason `FIELD_INVALID`.
    pub fn invalid(invalid: &Invalid) -> Self {
        Self::new(Code::InvalidArgument, "FIELD_INVALID")
            .field(&invalid.field, &invalid.problem)
            .message(invalid.to_string())
    }

    /// Adds a wrong field.
    pub fn field(mut self, field: &str, problem: &str) -> Self {
        self.fields.push(Invalid::new(field, problem));
        self
    }

    /// Says when to try again.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a fact.
    pub fn metadata(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Names a limit that was reached: whose it is, for example `project:acme/shop`, and what it allows, for people.
    pub fn quota(self, subject: &str, allows: &str) -> Self {
        self.metadata(QUOTA[0], subject).metadata(QUOTA[1], allows)
    }

    /// The limit that was reached, if one was.
    pub fn exceeded(&self) -> Option<(&str, &str)> {
        let [subject, allows] = QUOTA.map(|key| self.metadata.get(key));
        Some((subject?, allows?))
    }

    /// Sets the text for people.
    pub fn message(mut self, text: impl Into<String>) -> Self {
        self.message = text.into();
        self
    }

    /// Reads back what a service sent. A status from elsewhere gets the reason `UPSTREAM`.
    pub fn from_status(status: &tonic::Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let fields = details
            .bad_request()
            .map(|bad| &bad.field_violations[..])
            .unwrap_or_default();
        Self {
            code: code_of(status.code()),
            reason: info.map_or_else(|| "UPSTREAM".to_owned(), |info| info.reason.clone()),
            message: status.message().to_owned(),
            fields: fields
                .iter()
                .map(|v| Invalid::new(&v.field, &v.description))
                .collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            metadata: info
                .map(|i| i.metadata.clone().into_iter().collect())
                .unwrap_or_default(),
        }
    }

    /// The failure as a gRPC status with its details.
    pub fn into_status(self) -> tonic::Status {
        let mut details = ErrorDetails::new();
        if let Some((subject, allows)) = self.exceeded() {
            details.add_quota_failure_violation(subject, allows);
        }
        let metadata: std::collections::HashMap<_, _> = self.metadata.into_iter().collect();
        details.set_error_info(self.reason, DOMAIN, metadata);
        if !self.fields.is_empty() {
            let violation = |invalid: Invalid| FieldViolation::new(invalid.field, invalid.problem);
            details.set_bad_request(self.fields.into_iter().map(violation).collect::<Vec<_>>());
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        tonic::Status::with_error_details(grpc_code(self.code), self.message, details)
    }
}

/// An error that knows what its caller should be told. Each service's error enum implements it by one
/// exhaustive `match`.
pub trait Reason: std::error::Error {
    /// Code, reason and details; the message may stay empty, it is then the error's own text.
    fn failure(&self) -> Failure;
}

impl Reason for Invalid {
    fn failure(&self) -> Failure {
        Failure::invalid(self)
    }
}

/// Turns an error into the status that leaves the service, and logs what operators should see.
pub fn status<E: Reason + 'static>(error: E) -> tonic::Status {
    let mut failure = error.failure();
    if failure.message.is_empty() {
        failure.message = error.to_string();
    }
    if matches!(failure.code, Code::Internal | Code::DataLoss) {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, reason = failure.reason, "call failed");
    }
    failure.into_status()
}

fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::Aborted => tonic::Code::Aborted,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Cancelled => tonic::Code::Cancelled,
        Code::Internal => tonic::Code::Internal,
    }
}

fn code_of(code: tonic::Code) -> Code {
    match code {
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        let sent = Failure::new(Code::Aborted, "HEAD_MOVED")
            .field("expected_head", "is no longer the head")
            .retry_after(Duration::from_millis(20))
            .metadata("head", "abc")
            .message("branch `main` has moved");
        let received = Failure::from_status(&sent.clone().into_status());
        assert_eq!(received, sent);
    }

    #[test]
    fn a_limit_that_was_reached_is_a_quota_failure() {
        let sent = Failure::new(Code::ResourceExhausted, "QUOTA_EXCEEDED")
            .quota("project:acme/shop", "at most 10 events");
        let status = sent.clone().into_status();
        let failure = status.get_details_quota_failure().unwrap();
        assert_eq!(failure.violations.len(), 1);
        assert_eq!(failure.violations[0].subject, "project:acme/shop");
        let received = Failure::from_status(&status);
        assert_eq!(
            received.exceeded(),
            Some(("project:acme/shop", "at most 10 events"))
        );
    }

    #[test]
    fn a_foreign_status_is_still_a_failure() {
        let failure = Failure::from_status(&tonic::Status::unavailable("gone"));
        assert_eq!(
            (failure.code, failure.reason.as_str()),
            (Code::Unavailable, "UPSTREAM")
        );
    }
}
