//! One side of a call as a span and a measurement, whatever ends it.

use std::sync::Arc;
use std::time::Instant;

use commonplace_telemetry::{ClientCall, Metrics, Trace, names, trace_of};
use http::{HeaderMap, HeaderValue};
use tracing::Span;

use crate::context::Call;

/// The header that tells a call's place in its trace, on requests and on answers.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A call that runs. One that is given up counts as CANCELLED.
pub(crate) struct Measure {
    metrics: Option<Arc<Metrics>>,
    side: Side,
    method: &'static str,
    started: Instant,
    span: Span,
    trace: Option<Trace>,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client { repeats: u32 },
}

impl Measure {
    /// A call that is served here. `call` gets the span's place in the trace.
    pub(crate) fn server(
        metrics: Arc<Metrics>,
        method: &'static str,
        headers: &HeaderMap,
        call: &mut Call,
    ) -> Self {
        let parent = headers.get(TRACEPARENT).and_then(|v| v.to_str().ok());
        let span = tracing::info_span!(
            target: "commonplace::rpc", "call",
            otel.name = method, otel.kind = "server", service = service(method), parent,
            tenant = tracing::field::Empty,
            rpc.system.name = "grpc", rpc.method = method,
            commonplace.request_id = call.request_id,
            rpc.response.status_code = tracing::field::Empty, "error.type" = tracing::field::Empty,
        );
        let trace = trace_of(&span);
        if let Some(trace) = trace {
            call.trace = trace;
        }
        Self::new(Some(metrics), Side::Server, method, span, trace)
    }

    /// A call that is made from here. The headers get the span's place in the trace. A call that is only passed on,
    /// as at the port for services, is left as it came and measured where it is served.
    pub(crate) fn client(
        metrics: Option<Arc<Metrics>>,
        method: &'static str,
        call: Option<&Call>,
        headers: &mut HeaderMap,
    ) -> Self {
        if call.is_none() && headers.contains_key(TRACEPARENT) {
            return Self::nothing(method);
        }
        // A task that was given the call but not its span still makes calls of the same trace.
        let alone = trace_of(&Span::current()).is_none();
        let parent = call.filter(|_| alone).map(|call| call.trace.to_string());
        let span = tracing::info_span!(
            target: "commonplace::rpc", "call",
            otel.name = method, otel.kind = "client", parent,
            rpc.system.name = "grpc", rpc.method = method,
            server.address = tracing::field::Empty, server.port = tracing::field::Empty,
            rpc.response.status_code = tracing::field::Empty, "error.type" = tracing::field::Empty,
        );
        let trace = trace_of(&span);
        if let Some(trace) = trace {
            put(trace, headers);
        }
        Self::new(metrics, Side::Client { repeats: 0 }, method, span, trace)
    }

    /// A call that others measure.
    pub(crate) fn nothing(method: &'static str) -> Self {
        let side = Side::Client { repeats: 0 };
        Self::new(None, side, method, Span::none(), None)
    }

    fn new(
        metrics: Option<Arc<Metrics>>,
        side: Side,
        method: &'static str,
        span: Span,
        trace: Option<Trace>,
    ) -> Self {
        Self {
            metrics,
            side,
            method,
            started: Instant::now(),
            span,
            trace,
            ended: false,
        }
    }

    /// What the call's work runs in.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The call was sent so often beyond the first time.
    pub(crate) fn repeated(&mut self, times: u32) {
        self.side = Side::Client { repeats: times };
    }

    /// The call was answered with a gRPC status code.
    pub(crate) fn end(mut self, code: i32) {
        self.finish(code);
    }

    fn finish(&mut self, code: i32) {
        self.ended = true;
        let (method, took) = (self.method, self.started.elapsed());
        let failed = match self.side {
            Side::Server => names::is_server_fault(code),
            Side::Client { .. } => code != 0,
        };
        let name = names::status_code(code);
        self.span.record("rpc.response.status_code", name);
        if failed {
            self.span.record("error.type", name);
        }
        let Some(metrics) = &self.metrics else {
            return;
        };
        match self.side {
            Side::Server => metrics.call_answered(method, code, took, self.trace),
            Side::Client { repeats } => {
                let call = ClientCall {
                    method,
                    code,
                    took,
                    repeats,
                };
                metrics.call_made(call, self.trace);
            }
        }
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(tonic::Code::Cancelled as i32);
        }
    }
}

/// Tells a place in a trace in headers.
pub(crate) fn put(trace: Trace, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The role in `commonplace.<role>.v1.…`.
fn service(method: &str) -> &str {
    method.split('.').nth(1).unwrap_or_default()
}
