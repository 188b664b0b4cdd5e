//! What is logged, which traces are kept, and where they go.

use serde::{Deserialize, Serialize};

/// What is logged and where traces go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What to log, as `level` or `target=level,…`; for example `info` or `warn,commonplace=debug`.
    pub log: String,
    /// `text` for people, `json` for machines.
    pub log_format: LogFormat,
    /// Where traces are sent by OTLP over gRPC, for example `http://127.0.0.1:4317`. Empty: nowhere.
    pub otlp_endpoint: String,
    /// Spans that may wait to be sent; what does not fit is counted and left out.
    pub otlp_queue: usize,
    /// Share of the traces that begin here which are recorded, from 0 to 1. What a caller decided is kept to.
    pub trace_share: f64,
    /// Memory for the newest spans, for `com trace`; a quarter of it is for traces that failed or were slow. 0:
    /// none are kept.
    pub trace_mebibytes: usize,
    /// Calls from this long on count as slow, and their traces are kept longer.
    pub slow_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: "info".into(),
            log_format: LogFormat::Text,
            otlp_endpoint: String::new(),
            otlp_queue: 8_192,
            trace_share: 1.0,
            trace_mebibytes: 16,
            slow_ms: 250,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line for each entry.
    #[default]
    Text,
    /// One JSON object for each entry.
    Json,
}

/// Logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter cannot be read.
    #[error("`telemetry.log` is not a log filter: {0}; try `info`")]
    Filter(String),
    /// The exporter refused its settings.
    #[error("`telemetry.otlp_endpoint` cannot be used: {0}")]
    Otlp(String),
    /// A share is a number from 0 to 1.
    #[error("`telemetry.trace_share` is {0}; expected a number from 0 to 1")]
    Share(f64),
    /// The thread that sends traces could not be started.
    #[error("cannot start the trace exporter")]
    Thread(#[source] std::io::Error),
    /// Something else is set up already.
    #[error("telemetry is set up twice")]
    Twice,
}
