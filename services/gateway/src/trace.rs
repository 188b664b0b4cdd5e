//! The outermost layer: every request gets a place in a trace, an id, and a measurement, and its answer says which.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use commonplace_rpc::audit::PeerAddress;
use commonplace_rpc::context::{self, Call};
use commonplace_rpc::methods::{self, Method};
use commonplace_telemetry::{Metrics, latency_buckets, names, trace_of};
use commonplace_types::Right;
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

/// Routes of the JSON surface that no contract names, and whether they only read.
const FURTHER: [(&str, &str, bool); 3] = [
    ("POST", "/ingest/{format}", false),
    ("GET", "/health", true),
    ("GET", "/metrics", true),
];

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// `package.Service/Method`, or verb and path of JSON with names in place of values, or `_OTHER`.
    route: Cow<'static, str>,
    /// `read`, or `write` for what asks for the right to write, or for more and changes something.
    class: &'static str,
    /// `grpc` or `json`.
    surface: &'static str,
    /// `ok`, `refused` for what the caller should change, `failed` for what is our fault.
    outcome: &'static str,
}

/// How long requests took, as their callers saw it.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    routes: Arc<[Route]>,
}

/// A call of the JSON surface.
#[derive(Debug)]
struct Route {
    verb: &'static str,
    /// With names in place of values.
    path: String,
    class: &'static str,
}

impl Requests {
    /// `calls`: verb and path of each JSON call, and the path of its rpc.
    pub(crate) fn new(metrics: &Metrics, calls: Vec<(&'static str, String, String)>) -> Self {
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(latency_buckets()));
        metrics.register(|registry| {
            registry.register(
                "gateway_request_duration_seconds",
                "How long requests took until their answer began, by route, class, surface and outcome",
                durations.clone(),
            );
        });
        let calls = calls.into_iter().map(|(verb, path, rpc)| Route {
            verb,
            path,
            class: class(methods::method(&rpc)),
        });
        let further = FURTHER.into_iter().map(|(verb, path, reads)| Route {
            verb,
            path: path.to_owned(),
            class: if reads { "read" } else { "write" },
        });
        let mut routes: Vec<Route> = calls.chain(further).collect();
        // A path without names is more to the point than one with.
        routes.sort_by_key(|route| route.path.contains('{'));
        Self {
            durations,
            routes: routes.into(),
        }
    }

    /// Counts a gRPC call that was refused before anything was done for it.
    pub(crate) fn turned_away(&self, method: &'static Method) {
        let labels = Labels {
            route: method.name.as_str().into(),
            class: class(method),
            surface: "grpc",
            outcome: "refused",
        };
        self.count(labels, Duration::ZERO);
    }

    /// The JSON call that a request fits.
    fn route(&self, verb: &str, path: &str) -> Option<&Route> {
        let mut routes = self.routes.iter();
        routes.find(|route| route.verb == verb && fits(&route.path, path))
    }

    fn count(&self, labels: Labels, took: Duration) {
        let histogram = self.durations.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
    }
}

fn class(method: &Method) -> &'static str {
    let asks = method.access.as_ref().and_then(|access| access.right);
    match method.reads_only || asks.is_none_or(|right| right <= Right::Read) {
        true => "read",
        false => "write",
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
    call.peer = request.extensions().get::<PeerAddress>().map(|at| at.0);
    let arrived = Arrived::new(&request, &requests);
    let span = arrived.span(request.headers(), &call.request_id);
    if let Some(trace) = trace_of(&span) {
        call.trace = trace;
    }
    let trace = call.trace;
    let work = context::scope(call, next.run(request));
    let mut answer = work.instrument(span.clone()).await;
    let outcome = arrived.outcome(&span, &answer);
    let labels = Labels {
        route: arrived.route,
        class: arrived.class,
        surface: arrived.surface,
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
    call.follow(headers);
    call
}

/// A request by what few values tell of it.
struct Arrived {
    route: Cow<'static, str>,
    class: &'static str,
    surface: &'static str,
    /// Of HTTP; a made-up one is no name.
    verb: &'static str,
    /// The path of the route, for JSON.
    path: Option<String>,
}

impl Arrived {
    fn new(request: &Request, requests: &Requests) -> Self {
        let (path, verb) = (request.uri().path(), verb(request.method()));
        if is_grpc(request.headers()) {
            return Self {
                route: methods::name(path).into(),
                class: class(methods::method(path)),
                surface: "grpc",
                verb,
                path: None,
            };
        }
        let route = requests.route(verb, path);
        Self {
            route: match route {
                Some(route) => format!("{verb} {}", route.path).into(),
                None => "_OTHER".into(),
            },
            class: route.map_or("read", |route| route.class),
            surface: "json",
            verb,
            path: route.map(|route| route.path.clone()),
        }
    }

    fn span(&self, headers: &HeaderMap, request_id: &str) -> Span {
        let parent = headers.get(TRACEPARENT).and_then(|v| v.to_str().ok());
        if self.surface == "grpc" {
            return tracing::info_span!(
                target: "commonplace::rpc", "request",
                otel.name = &*self.route, otel.kind = "server", service = "gateway", parent,
                tenant = tracing::field::Empty,
                rpc.system.name = "grpc", rpc.method = &*self.route,
                commonplace.request_id = request_id,
                rpc.response.status_code = tracing::field::Empty,
                "error.type" = tracing::field::Empty,
            );
        }
        tracing::info_span!(
            target: "commonplace::rpc", "request",
            otel.name = &*self.route, otel.kind = "server", service = "gateway", parent,
            tenant = tracing::field::Empty,
            http.request.method = self.verb, http.route = self.path,
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

/// The verb of a request, as labels and spans may name it.
fn verb(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_by_its_route() {
        let call =
            |verb, path: &str, rpc: &str| (verb, path.to_owned(), format!("/commonplace.{rpc}"));
        let calls = vec![
            call(
                "GET",
                "/packs/{id}",
                "retrieval.v1.RetrievalService/GetPack",
            ),
            call(
                "POST",
                "/packs/verify",
                "retrieval.v1.RetrievalService/VerifyPack",
            ),
            call("POST", "/events", "ingest.v1.IngestService/IngestEvents"),
            call("GET", "/events", "journal.v1.JournalService/QueryEvents"),
            call("GET", "/keys", "policy.v1.AccessService/ListKeys"),
            call(
                "POST",
                "/retrieve",
                "retrieval.v1.RetrievalService/Retrieve",
            ),
        ];
        let requests = Requests::new(&Metrics::new(), calls);
        for (verb, path, route, class) in [
            ("GET", "/packs/blake3:0", "/packs/{id}", "read"),
            ("POST", "/packs/verify", "/packs/verify", "read"),
            ("POST", "/events", "/events", "write"),
            ("GET", "/events", "/events", "read"),
            ("GET", "/keys", "/keys", "read"),
            ("POST", "/retrieve", "/retrieve", "read"),
            ("POST", "/ingest/junit", "/ingest/{format}", "write"),
        ] {
            let found = requests.route(verb, path).unwrap();
            assert_eq!(
                (found.path.as_str(), found.class),
                (route, class),
                "{verb} {path}"
            );
        }
        for (verb, path) in [("GET", "/events/"), ("PUT", "/events"), ("GET", "/made/up")] {
            assert!(requests.route(verb, path).is_none(), "{verb} {path}");
        }
    }
}
