//! What the process tells about itself: logs, traces, metrics. Set up once, by the binary.
//!
//! Libraries only use `tracing` with fields and register their metrics in [`Metrics`]. Logs go to standard
//! error as text or JSON. Traces leave by OTLP when an endpoint is configured, on a runtime thread of their
//! own, so that a dead collector cannot slow a call. Left out: metrics by OTLP, sampling rules.

mod metrics;
mod trace;

pub use metrics::{Metrics, RpcLabels};
pub use trace::{Guard, LogFormat, Options, TelemetryError, adopt, start, traceparent_of};
