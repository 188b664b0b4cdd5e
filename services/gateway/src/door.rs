//! The way in: under overload, calls that would be refused whoever makes them go no further.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use commonplace_rpc::Edge;
use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::grpc::is_native;
use crate::trace::Requests;

/// A service behind the door. JSON and gRPC-web are let through: what they call, and how they are answered, is found
/// out further in.
#[derive(Debug, Clone)]
pub struct Door<S> {
    inner: S,
    edge: Option<Edge>,
    requests: Requests,
}

impl<S> Door<S> {
    pub(crate) fn new(inner: S, edge: Option<Edge>, requests: Requests) -> Self {
        Self {
            inner,
            edge,
            requests,
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Door<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let Some(edge) = self.edge.as_ref().filter(|_| is_native(&request)) else {
            return Box::pin(self.inner.call(request));
        };
        match edge.turn_away(request) {
            Ok(request) => Box::pin(self.inner.call(request)),
            Err(away) => {
                self.requests.turned_away(away.method());
                Box::pin(async move { Ok(away.answer().await) })
            }
        }
    }
}
