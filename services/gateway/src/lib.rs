//! The gateway: one port for every caller.
//!
//! It owns no data. It passes gRPC and gRPC-web calls on to the service they name, byte for byte, and
//! offers the same calls as JSON over HTTP on the paths that the contracts give them. It adds `/health`,
//! `/metrics`, and `POST /ingest/{format}`, which takes a report as a plain HTTP body.
//!
//! Always true: a call reaches a service only through the one [`commonplace_rpc::Channel`] it was given;
//! JSON and gRPC answers say the same; a body is read up to a size, within a time, and under the call's
//! deadline; what a caller gave is used or refused, never passed over; no web page calls unless its origin is
//! allowed; every call is passed on with who makes it. Left out: what the caller may do, which each service
//! decides for itself.

mod body;
pub mod config;
mod door;
mod grpc;
mod guard;
mod http_error;
mod json;
mod query;
mod report;
mod scalar;
pub mod service;
mod surroundings;
mod trace;
mod transcode;
mod who;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use commonplace_rpc::{Channel, Code, Edge, Failure};
use commonplace_telemetry::Metrics;

pub use config::Options;
pub use door::Door;
pub use who::Who;

/// The services behind the gateway: full service name, for example
/// `commonplace.journal.v1.JournalService`, to its channel.
pub type Backends = Arc<BTreeMap<String, Channel>>;

/// The gateway, to be served.
#[derive(Debug)]
pub struct Gateway {
    /// gRPC, gRPC-web, JSON, health and metrics together.
    pub routes: Router,
    requests: trace::Requests,
}

impl Gateway {
    /// What stands before the port: of what the edge behind it would refuse anyway, gRPC calls are refused there.
    pub fn door(&self, edge: Edge) -> Door {
        Door::new(edge, self.requests.clone())
    }
}

/// Builds the gateway.
pub fn start(
    options: &Options,
    backends: BTreeMap<String, Channel>,
    metrics: Arc<Metrics>,
    who: Who,
) -> Gateway {
    let backends: Backends = Arc::new(backends);
    let numbers = metrics.clone();
    let shared = json::Shared::new(options);
    let requests = trace::Requests::new(&metrics, json::calls(&backends));
    let recorder = who.recorder().clone();
    let routes = Router::new()
        .merge(json::routes(&backends, &shared))
        .merge(report::routes(&backends, &shared))
        .route(
            "/metrics",
            get(move || std::future::ready(metrics_page(&numbers))),
        )
        .route("/health", get(|| std::future::ready(HEALTHY)))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback_service(grpc::proxy(backends, recorder.clone()))
        // Learns who calls; nothing behind it is reached by somebody who shows what is no good.
        .layer(axum::middleware::from_fn_with_state(who, who::identify))
        // Answers the browsers of allowed origins.
        .layer(grpc::cors(options))
        // Refuses web pages of other origins, and names that are not ours.
        .layer(axum::middleware::from_fn_with_state(
            guard::Guard::new(options, recorder),
            guard::check,
        ))
        // Around all: a refusal belongs to a trace too.
        .layer(axum::middleware::from_fn_with_state(
            requests.clone(),
            trace::follow,
        ));
    Gateway { routes, requests }
}

async fn method_not_allowed(request: axum::extract::Request) -> http_error::HttpError {
    let (method, path) = (request.method(), request.uri().path());
    let text = format!(
        "`{path}` does not take {method}; the header `allow` says what it takes, docs/http.md what for"
    );
    let failure = Failure::new(Code::Unimplemented, "METHOD_NOT_ALLOWED").message(text);
    http_error::HttpError(failure)
}

/// The services of one process as they are, for other services: gRPC by path, nothing added or refused.
pub fn services(backends: BTreeMap<String, Channel>) -> Router {
    Router::new().fallback_service(grpc::pass_on(Arc::new(backends)))
}

type Page = ([(&'static str, &'static str); 1], String);

fn metrics_page(metrics: &Metrics) -> Page {
    ([("content-type", Metrics::CONTENT_TYPE)], metrics.text())
}

// Whoever gets this answer has been let through by a server that is ready.
const HEALTHY: ([(&str, &str); 1], &str) = (
    [("content-type", "application/json")],
    "{\"status\":\"SERVING\"}\n",
);
