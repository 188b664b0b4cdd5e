//! Numbers about the process in the OpenMetrics text form.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the latency buckets in seconds: from 0.25 ms, doubling, to 8 s.
const BUCKETS: [f64; 16] = [
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048, 4.096, 8.192,
];

/// What calls are told apart by; few values each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RpcLabels {
    /// `package.Service/Method`, or `_OTHER`.
    pub rpc_method: String,
    /// Name of the gRPC status code, for example `OK`.
    pub rpc_status_code: &'static str,
}

/// The metrics of the process. Shared; each part registers what it counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<RpcLabels, Histogram, fn() -> Histogram>,
    refused: Counter,
}

impl Metrics {
    /// What kind of text [`Metrics::text`] is, for HTTP.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// An empty set with the metrics of calls in it.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("commonplace");
        let calls: Family<RpcLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "rpc_server_call_duration_seconds",
            "How long calls took, by method and status",
            calls.clone(),
        );
        let refused = Counter::default();
        registry.register(
            "rpc_server_refused",
            "Calls refused because too many ran",
            refused.clone(),
        );
        Arc::new(Self {
            registry: Mutex::new(registry),
            calls,
            refused,
        })
    }

    /// Adds metrics of a part.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts one answered call. `code` is the gRPC status code, 0 for success.
    pub fn call_answered(&self, method: &str, code: i32, took: Duration) {
        // Method names come from callers; only ours become labels, so that labels stay few.
        let known = method.starts_with("commonplace.") && code != 12;
        let rpc_method = if known { method } else { "_OTHER" }.to_owned();
        let labels = RpcLabels {
            rpc_method,
            rpc_status_code: code_name(code),
        };
        self.calls
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Counts one call that was refused because too many ran.
    pub fn call_refused(&self) {
        self.refused.inc();
    }

    /// Everything as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code))
        .copied()
        .unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_status() {
        let metrics = Metrics::new();
        metrics.call_answered(
            "commonplace.journal.v1.JournalService/Append",
            0,
            Duration::from_micros(300),
        );
        metrics.call_answered("made/up", 5, Duration::ZERO);
        let text = metrics.text();
        assert!(text.contains(
            "commonplace_rpc_server_call_duration_seconds_count{rpc_method=\"commonplace.journal.v1.JournalService/Append\",rpc_status_code=\"OK\"} 1"
        ), "{text}");
        assert!(
            text.contains("rpc_method=\"_OTHER\",rpc_status_code=\"NOT_FOUND\""),
            "{text}"
        );
        assert!(!text.contains("made/up"));
    }
}
