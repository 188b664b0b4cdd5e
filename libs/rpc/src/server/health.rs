//! A port for probes and scrapes that cannot do TLS: health and metrics, and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use commonplace_telemetry::{Metrics, OPENMETRICS};
use http::{Request, Response, StatusCode};
use tonic::body::Body;
use tower::ServiceExt;

use super::accept::Listening;
use super::{ListenAddress, Readiness, Routed, ServerError, listen};

/// Connections at the same time: probes and scrapes are few.
const HEALTH_CONNECTIONS: usize = 256;

/// A plaintext port that answers `grpc.health.v1` and `GET /health` (ready), `GET /live` (alive), and `GET /metrics`.
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
        let service = tower::service_fn(move |request: Request<Body>| {
            answer(readiness.clone(), metrics.clone(), request)
        });
        Ok(Self {
            address: local,
            listening: Listening::start(
                listener,
                ListenAddress(local),
                None,
                HEALTH_CONNECTIONS,
                Routed::new(service),
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

async fn answer(
    readiness: Readiness,
    metrics: Arc<Metrics>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        "/health" => Ok(report(&readiness)),
        "/live" => Ok(json(StatusCode::OK, "{\"status\":\"alive\"}".to_owned())),
        "/metrics" => Ok(answered(StatusCode::OK, OPENMETRICS, metrics.text())),
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
    let text = format!(
        "{{\"status\":\"{}\",\"services\":{{{}}}}}",
        word(serves),
        services.join(",")
    );
    let status = if serves {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, text)
}

fn word(serves: bool) -> &'static str {
    if serves { "serving" } else { "not_serving" }
}

fn json(status: StatusCode, text: String) -> Response<Body> {
    answered(status, "application/json", text)
}

fn answered(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut answer = Response::new(Body::new(http_body_util::Full::from(text)));
    *answer.status_mut() = status;
    let content_type = http::HeaderValue::from_static(content_type);
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, content_type);
    answer
}
