//! The outermost layer: every request gets a place in a trace, an id, and a measurement, and its answer says which.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use commonplace_rpc::context::{self, Call, Trace};
use commonplace_rpc::methods;
use commonplace_telemetry::{Metrics, latency_buckets, names, trace_of};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tracing::{Instrument, Span};

use crate::grpc::is_grpc;

/// Says on every answer which trace the request was.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest id of a call that is taken over.
const ID_BYTES: usize = 128;

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// `package.Service/Method`, or a JSON path with names in place of values, or `_OTHER`.
    route: String,
    /// `grpc` or `json`.
    surface: &'static str,
    /// `ok`, `refused` for what the caller should change, `failed` for what is our fault.
    outcome: &'static str,
}

/// How long requests took, as their callers saw it.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    routes: Arc<[String]>,
}

impl Requests {
    /// `routes`: the JSON paths with names in place of values.
    pub(crate) fn new(metrics: &Metrics, mut routes: Vec<String>) -> Self {
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(latency_buckets()));
        metrics.register(|registry| {
            registry.register(
                "gateway_request_duration_seconds",
                "How long requests took until their answer began, by route, surface and outcome",
                durations.clone(),
            );
        });
        // A path without names is more to the point than one with.
        routes.sort_by_key(|route| route.contains('{'));
        Self {
            durations,
            routes: routes.into(),
        }
    }

    /// The JSON path that a request fits.
    fn route(&self, path: &str) -> &str {
        let found = self.routes.iter().find(|route| fits(route, path));
        found.map_or("_OTHER", String::as_str)
    }

    fn count(&self, labels: Labels, took: Duration) {
        let histogram = self.durations.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
    }
}

/// Whether a path is one of a route like `/packs/{id}`.
fn fits(route: &str, path: &str) -> bool {
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given || part.starts_with('{') => {}
            _ => return false,
        }
    }
}

/// The layer.
pub(crate) async fn follow(
    State(requests): State<Requests>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let mut call = call_of(request.headers());
    let arrived = Arrived::new(&request, &requests);
    let span = arrived.span(request.headers(), &call.request_id);
    if let Some(trace) = trace_of(&span) {
        call.trace = trace;
    }
    let trace = call.trace;
    let work = context::scope(call, next.run(request));
    let mut answer = work.instrument(span.clone()).await;
    let outcome = arrived.outcome(&span, &answer);
    let Arrived { route, surface, .. } = arrived;
    let labels = Labels {
        route,
        surface,
        outcome,
    };
    requests.count(labels, started.elapsed());
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        answer.headers_mut().insert(TRACEPARENT, value);
    }
    answer
}

/// The call as the headers describe it, but for its deadline, which each surface reads by itself.
fn call_of(headers: &HeaderMap) -> Call {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut call = Call::root(None);
    if let Some(id) = header("x-request-id").filter(|id| !id.is_empty() && id.len() <= ID_BYTES) {
        call.request_id = id.to_owned();
    }
    if let Some(trace) = header("traceparent").and_then(Trace::parse) {
        call.trace = trace.child();
    }
    call
}

/// A request by what few values tell of it.
struct Arrived {
    route: String,
    surface: &'static str,
    method: http::Method,
}

impl Arrived {
    fn new(request: &Request, requests: &Requests) -> Self {
        let (surface, route) = match is_grpc(request.headers()) {
            true => ("grpc", methods::name(request.uri().path()).to_owned()),
            false => ("json", requests.route(request.uri().path()).to_owned()),
        };
        Self {
            route,
            surface,
            method: request.method().clone(),
        }
    }

    fn span(&self, headers: &HeaderMap, request_id: &str) -> Span {
        let parent = headers.get(TRACEPARENT).and_then(|v| v.to_str().ok());
        if self.surface == "grpc" {
            return tracing::info_span!(
                target: "commonplace::rpc", "request",
                otel.name = self.route, otel.kind = "server", service = "gateway", parent,
                rpc.system.name = "grpc", rpc.method = self.route,
                commonplace.request_id = request_id,
                rpc.response.status_code = tracing::field::Empty,
                "error.type" = tracing::field::Empty,
            );
        }
        // A made-up method is no name.
        let method = match self.method.as_str() {
            known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => known,
            _ => "_OTHER",
        };
        tracing::info_span!(
            target: "commonplace::rpc", "request",
            otel.name = format!("{method} {}", self.route), otel.kind = "server",
            service = "gateway", parent,
            http.request.method = method, http.route = self.route,
            commonplace.request_id = request_id,
            http.response.status_code = tracing::field::Empty,
            "error.type" = tracing::field::Empty,
        )
    }

    /// Completes the span, and says how it went.
    fn outcome(&self, span: &Span, answer: &Response) -> &'static str {
        let http = answer.status();
        if self.surface == "json" {
            span.record("http.response.status_code", http.as_u16());
            if http.is_server_error() && http != StatusCode::NOT_IMPLEMENTED {
                span.record("error.type", http.as_str());
                return "failed";
            }
            return if http.is_client_error() || http.is_server_error() {
                "refused"
            } else {
                "ok"
            };
        }
        let code = answer.headers().get("grpc-status");
        let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
        let code = code.unwrap_or(if http.is_success() { 0 } else { 2 });
        span.record("rpc.response.status_code", names::status_code(code));
        // What is not offered is the caller's mistake here, where anybody may call.
        match code {
            0 => "ok",
            12 => "refused",
            code if names::is_server_fault(code) => {
                span.record("error.type", names::status_code(code));
                "failed"
            }
            _ => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_by_its_route() {
        let routes = ["/packs/{id}", "/packs/verify", "/events"];
        let requests = Requests::new(&Metrics::new(), routes.map(String::from).to_vec());
        for (path, route) in [
            ("/packs/blake3:0", "/packs/{id}"),
            ("/packs/verify", "/packs/verify"),
            ("/events", "/events"),
            ("/events/", "_OTHER"),
            ("/made/up", "_OTHER"),
        ] {
            assert_eq!(requests.route(path), route, "{path}");
        }
    }
}
