//! gRPC and gRPC-web calls, passed on untouched to the service that their path names.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use commonplace_rpc::audit::Recorder;
use commonplace_rpc::{Again, Code, Failure};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::http_error::HttpError;
use crate::{Backends, Options};

/// Calls that only services make of each other: appending here would bypass the masking of secrets.
const FOR_SERVICES: [(&str, &str); 1] = [(
    "/commonplace.journal.v1.JournalService/Append",
    "`commonplace.ingest.v1.IngestService/Commit`, which masks secrets first",
)];

/// How gRPC-web calls say what they are.
const WEB_TYPES: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// The service behind every path that is not JSON: speaks gRPC and gRPC-web, and says so to whoever does not.
pub(crate) fn proxy(
    backends: Backends,
    recorder: Recorder,
) -> impl Service<Request<axum::body::Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let web = tonic_web::GrpcWebLayer::new().layer(Proxy {
        backends,
        outside: Some(recorder),
    });
    let answer = tower::service_fn(move |request: Request<axum::body::Body>| {
        let (web, request) = (web.clone(), request.map(Body::new));
        async move {
            match refusal(&request) {
                None => web.oneshot(request).await,
                Some(refusal) => Ok(refusal),
            }
        }
    });
    answer.map_response(|response: Response<Body>| response.map(Body::new))
}

/// Whether a request speaks gRPC or gRPC-web.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer to what is neither gRPC nor gRPC-web, though it may claim to be.
fn refusal(request: &Request<Body>) -> Option<Response<Body>> {
    if !is_grpc(request.headers()) {
        return Some(unknown(request));
    }
    let content_type = request.headers().get(http::header::CONTENT_TYPE)?;
    let essence = content_type
        .to_str()
        .unwrap_or("?")
        .split(';')
        .next()?
        .trim();
    let problem = match essence {
        _ if request.method() != Method::POST => "gRPC calls are POST requests",
        "application/grpc" | "application/grpc+proto" if request.version() == Version::HTTP_2 => {
            return None;
        }
        "application/grpc" | "application/grpc+proto" => {
            "expected HTTP/2 for application/grpc; gRPC-web and JSON go over HTTP/1.1 too"
        }
        _ if WEB_TYPES.contains(&essence) => return None,
        _ => {
            "expected application/grpc, application/grpc-web or application/grpc-web-text, with messages as +proto"
        }
    };
    let failure = Failure::new(Code::InvalidArgument, "CONTENT_TYPE_INVALID")
        .field("content-type", problem)
        .message(format!("the call cannot be read: {problem}"));
    Some(as_json(failure))
}

fn as_json(failure: Failure) -> Response<Body> {
    use axum::response::IntoResponse;
    HttpError(failure).into_response().map(Body::new)
}

/// Lets the browsers of the allowed origins call, and read what they need of an answer.
pub(crate) fn cors(options: &Options) -> CorsLayer {
    let origins = &options.allowed_origins;
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let origins: Vec<HeaderValue> = origins.iter().filter_map(|o| o.parse().ok()).collect();
        AllowOrigin::list(origins)
    };
    let readable = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "traceparent",
    ];
    CorsLayer::new()
        .allow_origin(origins)
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
        outside: None,
    };
    tower::service_fn(move |request: Request<axum::body::Body>| {
        proxy.clone().oneshot(request.map(Body::new))
    })
}

#[derive(Clone)]
struct Proxy {
    backends: Backends,
    /// Calls come from outside: those that only services make of each other are refused, and that is recorded.
    outside: Option<Recorder>,
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let again = request.extensions_mut().remove::<Again>();
        let path = request.uri().path();
        let closed = FOR_SERVICES.iter().find(|(call, _)| *call == path);
        if let (Some(recorder), Some((_, instead))) = (&self.outside, closed) {
            let text = format!("`{path}` is for services only; call {instead}");
            let failure = Failure::new(Code::PermissionDenied, "FOR_SERVICES_ONLY").message(text);
            recorder.refused(request.headers(), path, request.extensions(), &failure);
            return Box::pin(std::future::ready(Ok(failure.into_status().into_http())));
        }
        let service = path.split('/').nth(1).unwrap_or_default();
        let Some(channel) = self.backends.get(service).cloned() else {
            let answer = unknown(&request);
            return Box::pin(std::future::ready(Ok(answer)));
        };
        Box::pin(async move {
            let answer = channel.oneshot(request).await;
            let answer =
                answer.unwrap_or_else(|error| tonic::Status::from_error(error).into_http());
            Ok(match again {
                Some(again) => again.guard(answer),
                None => answer,
            })
        })
    }
}

fn unknown(request: &Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if is_grpc(request.headers()) {
        let text = format!("no service answers `{path}`");
        return Failure::new(Code::Unimplemented, "UNKNOWN_METHOD")
            .message(text)
            .into_status()
            .into_http();
    }
    let text = format!(
        "nothing at `{} {path}`; the JSON paths are listed in docs/http.md",
        request.method()
    );
    as_json(Failure::new(Code::NotFound, "UNKNOWN_PATH").message(text))
}
