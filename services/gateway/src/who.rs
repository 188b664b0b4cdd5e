//! Who calls: asked once, at the door, and passed on with the call.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use commonplace_access::credential::Authenticator;
use commonplace_access::{Access, Mode};
use commonplace_rpc::audit::Recorder;
use commonplace_rpc::methods::method;
use commonplace_rpc::{Again, Authorize, Code, Failure, PeerIdentity};
use commonplace_types::Principal;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

use crate::http_error::HttpError;

/// Answered to whoever reaches the port.
const FOR_ALL: &str = "/health";
/// Tells about all tenants.
const FOR_OPERATORS: &str = "/metrics";

/// Tells who calls, and records whom it does not know.
#[derive(Debug, Clone)]
pub struct Who {
    authenticator: Authenticator,
    access: Access,
    recorder: Recorder,
}

impl Who {
    /// By what callers show, and by what holds for those who show nothing.
    pub fn new(authenticator: Authenticator, access: Access, recorder: Recorder) -> Self {
        Self {
            authenticator,
            access,
            recorder,
        }
    }

    /// What records denials.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn refuse(&self, request: &Request, failure: &Failure) {
        refused(&self.recorder, request, failure);
    }

    /// Error: UNAUTHENTICATED, or UNAVAILABLE if it cannot be found out.
    async fn of(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerIdentity>,
    ) -> Result<Arc<Principal>, Failure> {
        match self.authenticator.authenticate(headers, peer).await? {
            Some(principal) => Ok(principal),
            None => self.access.nobody(),
        }
    }
}

/// Records what a stream is ended for.
fn refusing(recorder: &Recorder, request: &Request) -> impl Fn(&Failure) + Send + Sync + use<> {
    let path = request.uri().path();
    recorder.refusing(request.headers(), path, request.extensions())
}

/// Records that a request was refused, under the rpc that it stands for.
pub(crate) fn refused(recorder: &Recorder, request: &Request, failure: &Failure) {
    let path = request.uri().path();
    let path = crate::json::rpc_of(request.method(), path).unwrap_or(path);
    recorder.refused(request.headers(), path, request.extensions(), failure);
}

/// The layer around every route: puts the principal among the request's extensions, and takes the credential
/// away, so that no service behind sees it.
pub(crate) async fn identify(State(who): State<Who>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == FOR_ALL {
        return next.run(request).await;
    }
    if path == FOR_OPERATORS && who.access.mode() == Mode::Required {
        let failure = Failure::new(Code::PermissionDenied, "FOR_OPERATORS_ONLY")
            .message("metrics tell about all tenants; they are served at `health_listen`");
        who.refuse(&request, &failure);
        return HttpError(failure).into_response();
    }
    // A request cannot be looked at by two threads, so that only what is needed of it is.
    let (headers, peer) = (
        request.headers().clone(),
        request.extensions().get::<PeerIdentity>().cloned(),
    );
    let found = who.of(&headers, peer.as_ref()).await;
    match found {
        Ok(principal) => {
            request.headers_mut().remove(AUTHORIZATION);
            request.headers_mut().remove("x-api-key");
            tracing::Span::current().record("tenant", principal.tenant.as_str());
            request.extensions_mut().insert(principal);
            let streams = method(request.uri().path()).server_streaming;
            if streams && crate::grpc::is_grpc(request.headers()) {
                let tell = refusing(&who.recorder, &request);
                let again = again(who, headers, peer).telling(tell);
                request.extensions_mut().insert(again);
            }
            next.run(request).await
        }
        Err(failure) if crate::grpc::is_grpc(request.headers()) => {
            who.refuse(&request, &failure);
            failure.into_status().into_http::<Body>()
        }
        Err(failure) => {
            who.refuse(&request, &failure);
            let unknown = failure.code == Code::Unauthenticated;
            let mut answer = HttpError(failure).into_response();
            if unknown {
                let scheme = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            answer
        }
    }
}

/// Asks whether what a caller showed is still good.
fn again(who: Who, headers: HeaderMap, peer: Option<PeerIdentity>) -> Again {
    let shown = Arc::new((who, headers, peer));
    Again::new(move || {
        let shown = shown.clone();
        async move {
            let (who, headers, peer) = &*shown;
            who.of(headers, peer.as_ref()).await.map(drop)
        }
    })
}
