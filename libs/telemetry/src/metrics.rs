//! Numbers about the process in the OpenMetrics text form.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::names::status_code;
use crate::trace::Trace;

/// Upper bounds of the latency buckets in seconds: from 0.25 ms, doubling, to 8 s.
const BUCKETS: [f64; 16] = [
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048, 4.096, 8.192,
];

/// The buckets of every duration: from 0.25 ms, doubling, to 8 s.
pub fn latency_buckets() -> impl Iterator<Item = f64> {
    BUCKETS.into_iter()
}

/// What calls are told apart by; few values each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// `package.Service/Method`, or `_OTHER`.
    pub rpc_method: &'static str,
    /// Name of the gRPC status code, for example `OK`.
    pub rpc_response_status_code: &'static str,
}

/// The rpc that was called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    rpc_method: &'static str,
}

/// The trace that an observation belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exemplar(u128);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        use fmt::Write as _;
        use prometheus_client::encoding::EncodeLabelKey as _;
        let mut label = encoder.encode_label();
        let mut key = label.encode_label_key()?;
        "trace_id".encode(&mut key)?;
        let mut value = key.encode_label_value()?;
        write!(value, "{:032x}", self.0)?;
        value.finish()
    }
}

type Durations = Family<CallLabels, HistogramWithExemplars<Exemplar>, fn() -> Timed>;
type Timed = HistogramWithExemplars<Exemplar>;

/// A call that another process, or a service of this one, answered.
#[derive(Debug, Clone, Copy)]
pub struct ClientCall {
    /// `package.Service/Method`, or `_OTHER`.
    pub method: &'static str,
    /// The gRPC status code.
    pub code: i32,
    /// From the call until its answer.
    pub took: Duration,
    /// Times it was sent beyond the first.
    pub repeats: u32,
}

/// The metrics of the process. Shared; each part registers what it counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    served: Durations,
    made: Durations,
    refused: Family<MethodLabels, Counter>,
    repeated: Family<MethodLabels, Counter>,
}

impl Metrics {
    /// What kind of text [`Metrics::text`] is, for HTTP.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// An empty set with the metrics of calls in it.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("commonplace");
        let durations = || Durations::new_with_constructor(|| Timed::new(latency_buckets()));
        let (served, made) = (durations(), durations());
        registry.register(
            "rpc_server_call_duration_seconds",
            "How long calls took that were served here, by method and status",
            served.clone(),
        );
        registry.register(
            "rpc_client_call_duration_seconds",
            "How long calls took that were made from here, by method and status",
            made.clone(),
        );
        let (refused, repeated) = (counters(), counters());
        registry.register(
            "rpc_server_refused",
            "Calls refused because too many ran, by method",
            refused.clone(),
        );
        registry.register(
            "rpc_client_repeats",
            "Times that calls were sent again, by method",
            repeated.clone(),
        );
        Arc::new(Self {
            registry: Mutex::new(registry),
            served,
            made,
            refused,
            repeated,
        })
    }

    /// Adds metrics of a part.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts one answered call. `code` is the gRPC status code, 0 for success.
    pub fn call_answered(
        &self,
        method: &'static str,
        code: i32,
        took: Duration,
        trace: Option<Trace>,
    ) {
        observe(&self.served, method, code, took, trace);
    }

    /// Counts one call made from here.
    pub fn call_made(&self, call: ClientCall, trace: Option<Trace>) {
        observe(&self.made, call.method, call.code, call.took, trace);
        if call.repeats > 0 {
            let labels = MethodLabels {
                rpc_method: call.method,
            };
            let repeated = self.repeated.get_or_create(&labels);
            repeated.inc_by(call.repeats.into());
        }
    }

    /// Counts one call that was refused because too many ran.
    pub fn call_refused(&self, method: &'static str) {
        let labels = MethodLabels { rpc_method: method };
        self.refused.get_or_create(&labels).inc();
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

/// Counters with one at nothing, so that rates of them have a beginning.
fn counters() -> Family<MethodLabels, Counter> {
    let counters = Family::<MethodLabels, Counter>::default();
    let _ = counters.get_or_create(&MethodLabels {
        rpc_method: "_OTHER",
    });
    counters
}

fn observe(
    durations: &Durations,
    rpc_method: &'static str,
    code: i32,
    took: Duration,
    trace: Option<Trace>,
) {
    let labels = CallLabels {
        rpc_method,
        rpc_response_status_code: status_code(code),
    };
    let trace = trace.filter(Trace::is_sampled);
    let exemplar = trace.map(|trace| Exemplar(trace.trace()));
    let histogram = durations.get_or_create(&labels);
    histogram.observe(took.as_secs_f64(), exemplar, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_status() {
        let metrics = Metrics::new();
        let trace = Trace::start();
        metrics.call_answered(
            "commonplace.journal.v1.JournalService/Append",
            0,
            Duration::from_micros(300),
            Some(trace),
        );
        metrics.call_answered("_OTHER", 5, Duration::ZERO, None);
        let text = metrics.text();
        assert!(text.contains(
            "commonplace_rpc_server_call_duration_seconds_count{rpc_method=\"commonplace.journal.v1.JournalService/Append\",rpc_response_status_code=\"OK\"} 1"
        ), "{text}");
        assert!(
            text.contains("rpc_method=\"_OTHER\",rpc_response_status_code=\"NOT_FOUND\""),
            "{text}"
        );
        let exemplar = format!("# {{trace_id=\"{}\"}} 0.0003", trace.trace_id());
        assert!(text.contains(&exemplar), "{text}");
    }
}
