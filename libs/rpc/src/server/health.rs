//! A port for operators, whose probes cannot do TLS: health and metrics, and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use commonplace_telemetry::Metrics;
use http::{Request, Response, StatusCode};
use tonic::body::Body;
use tower::ServiceExt;

use super::accept::{Entry, Listening};
use super::gate::Answer;
use super::{ListenAddress, Readiness, ServerError, listen};

/// Connections at the same time: probes are few.
const HEALTH_CONNECTIONS: usize = 256;

/// A plaintext port that answers `grpc.health.v1`, `GET /health` (ready), `GET /live` (alive) and `GET /metrics`.
#[derive(Debug)]
pub struct HealthPort {
    address: SocketAddr,
    listening: Listening,
}

impl HealthPort {
    /// Takes the port. Error: it cannot be had.
    pub async fn bind(
        address: &str,
        readiness: &Readiness,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ServerError> {
        let (listener, local) = listen(address).await?;
        let (readiness, metrics) = (readiness.clone(), metrics.clone());
        let probes = Probes { readiness, metrics };
        Ok(Self {
            address: local,
            listening: Listening::start(
                listener,
                ListenAddress(local),
                None,
                HEALTH_CONNECTIONS,
                Arc::new(probes),
            ),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; to be called last, so that probes are answered through the drain.
    pub async fn close(self) {
        self.listening.drain(Duration::from_millis(100)).await;
    }
}

struct Probes {
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

impl Entry for Probes {
    fn answer(&self, request: Request<Body>) -> Answer {
        Box::pin(answer(
            self.readiness.clone(),
            self.metrics.clone(),
            request,
        ))
    }
}

async fn answer(
    readiness: Readiness,
    metrics: Arc<Metrics>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        "/health" => Ok(report(&readiness)),
        "/live" => Ok(json(StatusCode::OK, "{\"status\":\"alive\"}".to_owned())),
        "/metrics" => Ok(text(StatusCode::OK, Metrics::CONTENT_TYPE, metrics.text())),
        path if path.starts_with("/grpc.health.v1.Health/") => {
            readiness.service().oneshot(request).await
        }
        _ => Ok(json(
            StatusCode::NOT_FOUND,
            "{\"message\":\"here are /health, /live and /metrics\"}".to_owned(),
        )),
    }
}

fn report(readiness: &Readiness) -> Response<Body> {
    let serves = readiness.serves("").unwrap_or_default();
    let services: Vec<String> = readiness
        .all()
        .iter()
        .map(|(name, serves)| format!("\"{name}\":\"{}\"", word(*serves)))
        .collect();
    let body = format!(
        "{{\"status\":\"{}\",\"services\":{{{}}}}}",
        word(serves),
        services.join(",")
    );
    let status = if serves {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, body)
}

fn word(serves: bool) -> &'static str {
    if serves { "serving" } else { "not_serving" }
}

fn json(status: StatusCode, body: String) -> Response<Body> {
    text(status, "application/json", body)
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut answer = Response::new(Body::new(http_body_util::Full::from(body)));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    answer
}
