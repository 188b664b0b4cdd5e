//! What the process tells about itself: logs, traces, metrics. Set up once, by the binary.
//!
//! Libraries only use `tracing` with fields, and register their metrics in [`Metrics`]. One layer ([`recorder`])
//! makes a record of every span of ours: it goes to [`Spans`], a bounded memory that `com trace` reads, and, when
//! an endpoint is set, to an OTLP collector from a thread of its own.
//!
//! Always true: a span's place in its trace is known from its start, and is what calls carry on; a field whose
//! name is not in [`names::ATTRIBUTES`] leaves nowhere; a span says whose data it was about, so that nobody else is
//! shown it; nothing here waits for a collector or a disk, and what does not fit is counted. Left out: metrics and
//! logs by OTLP, and the header `tracestate`, which is not passed on.

mod export;
mod lines;
mod metrics;
pub mod names;
mod options;
mod otlp;
pub mod process;
pub mod recorder;
pub mod samples;
mod span;
mod spans;
mod start;
mod steps;
mod trace;

pub use lines::Sink;
pub use metrics::{CallLabels, ClientCall, Metrics, latency_buckets};
pub use options::{LogFormat, Options, TelemetryError};
pub use recorder::{Recorder, follows, trace_of};
pub use span::{Attribute, Kind, Link, Span, Value};
pub use spans::{Spans, Summary};
pub use start::{Guard, Identity, start, subscriber};
pub use trace::Trace;
