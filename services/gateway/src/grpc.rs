//! gRPC and gRPC-web calls, passed on untouched to the service that their path names.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use commonplace_rpc::{Code, Failure};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{Backends, Options};

/// Calls that only services make of each other: appending here would bypass the masking of secrets.
const FOR_SERVICES: [(&str, &str); 1] = [(
    "/commonplace.journal.v1.JournalService/Append",
    "`commonplace.ingest.v1.IngestService/Commit`, which masks secrets first",
)];

/// The service behind every path that is not JSON: speaks gRPC and gRPC-web, and says so to whoever does not.
pub(crate) fn proxy(
    backends: Backends,
) -> impl Service<Request<axum::body::Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let web = tonic_web::GrpcWebLayer::new().layer(Proxy {
        backends,
        for_services: false,
    });
    let answer = tower::service_fn(move |request: Request<axum::body::Body>| {
        let (web, request) = (web.clone(), request.map(Body::new));
        async move {
            if is_grpc(&request) {
                web.oneshot(request).await
            } else {
                Ok(unknown(&request))
            }
        }
    });
    answer.map_response(|response: Response<Body>| response.map(Body::new))
}

/// Whether a request speaks gRPC or gRPC-web.
fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Lets the browsers of the allowed origins call, and read what they need of an answer.
pub(crate) fn cors(options: &Options) -> CorsLayer {
    let origins: Vec<HeaderValue> = options
        .allowed_origins
        .iter()
        .filter_map(|o| o.parse().ok())
        .collect();
    let readable = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "traceparent",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers(tower_http::cors::Any)
        .expose_headers(readable.map(HeaderName::from_static))
}

/// The services behind their paths, for other services.
pub(crate) fn pass_on(
    backends: Backends,
) -> impl Service<Request<axum::body::Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let proxy = Proxy {
        backends,
        for_services: true,
    };
    tower::service_fn(move |request: Request<axum::body::Body>| {
        proxy.clone().oneshot(request.map(Body::new))
    })
}

#[derive(Clone)]
struct Proxy {
    backends: Backends,
    /// Also takes calls that only services make of each other.
    for_services: bool,
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let refused = FOR_SERVICES.iter().filter(|_| !self.for_services);
        if let Some((_, instead)) = refused.into_iter().find(|(call, _)| *call == path) {
            let text = format!("`{path}` is for services only; call {instead}");
            let failure = Failure::new(Code::PermissionDenied, "FOR_SERVICES_ONLY").message(text);
            return Box::pin(std::future::ready(Ok(failure.into_status().into_http())));
        }
        let service = path.split('/').nth(1).unwrap_or_default();
        let Some(channel) = self.backends.get(service).cloned() else {
            let answer = unknown(&request);
            return Box::pin(std::future::ready(Ok(answer)));
        };
        Box::pin(async move {
            Ok(channel
                .oneshot(request)
                .await
                .unwrap_or_else(|error| tonic::Status::from_error(error).into_http()))
        })
    }
}

fn unknown(request: &Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if is_grpc(request) {
        let text = format!("no service answers `{path}`");
        return Failure::new(Code::Unimplemented, "UNKNOWN_METHOD")
            .message(text)
            .into_status()
            .into_http();
    }
    use axum::response::IntoResponse;
    let text = format!(
        "nothing at `{} {path}`; the JSON paths are listed in docs/http.md",
        request.method()
    );
    let failure = Failure::new(Code::NotFound, "UNKNOWN_PATH").message(text);
    crate::http_error::HttpError(failure)
        .into_response()
        .map(Body::new)
}
