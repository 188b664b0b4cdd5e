//! What can go wrong with a call as a whole, and what its caller is told.

use std::time::Duration;

use commonplace_rpc::{Code, Failure, Reason};
use commonplace_types::Invalid;

use crate::adapter::{FORMATS, ReportError};

/// A call could not be served.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A field of the request or a setting is wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// No adapter has that name.
    #[error("format `{0}` is not known")]
    UnknownFormat(String),
    /// The report is not what its format says; nothing of it was written.
    #[error("the {format} report cannot be read: {cause}; nothing was written")]
    Unreadable {
        /// The format it was sent as.
        format: &'static str,
        /// Where and why.
        #[source]
        cause: ReportError,
    },
    /// The report has more bytes than are read.
    #[error(
        "the report is larger than {limit} bytes; split it, or raise `ingest.max_report_bytes`"
    )]
    ReportTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The report holds more events than are taken; nothing of it was written.
    #[error(
        "the report holds more than {limit} events; split it, or raise `ingest.max_report_events`"
    )]
    TooManyEvents {
        /// The limit.
        limit: usize,
    },
    /// Too many reports are being read at once.
    #[error("too many reports are being read at once; try again shortly")]
    Busy,
    /// The journal refused or could not be reached; what was appended before stays, and repeating is safe.
    #[error("the journal refused: {}", .0.message)]
    Journal(Failure),
    /// The task that read the report ended before its time.
    #[error("reading the report was interrupted")]
    Interrupted,
}

impl Reason for IngestError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::UnknownFormat(_) => {
                let known: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
                let problem = format!("expected one of {}", known.join(", "));
                Failure::new(Code::InvalidArgument, "FORMAT_UNKNOWN")
                    .field("header.format", &problem)
            }
            Self::Unreadable { cause, .. } => {
                Failure::new(Code::InvalidArgument, "REPORT_UNREADABLE")
                    .field("chunk", &cause.to_string())
            }
            Self::ReportTooLarge { limit } => {
                Failure::new(Code::ResourceExhausted, "REPORT_TOO_LARGE")
                    .metadata("limit_bytes", limit)
            }
            Self::TooManyEvents { limit } => {
                Failure::new(Code::ResourceExhausted, "REPORT_TOO_MANY_EVENTS")
                    .metadata("limit_events", limit)
            }
            Self::Busy => Failure::new(Code::ResourceExhausted, "INGEST_BUSY")
                .retry_after(Duration::from_secs(1)),
            Self::Journal(failure) => failure.clone(),
            Self::Interrupted => Failure::new(Code::Internal, "INGEST_INTERRUPTED"),
        }
    }
}
