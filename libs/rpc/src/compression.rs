//! Messages made smaller on the way, by gzip or zstd, as both ends agree.
//!
//! It is done at the two ends of a connection and nowhere else: services, and calls within a process, never see a
//! compressed message. A caller names what it can read (`grpc-accept-encoding`); a server answers in that, and says
//! what it reads itself, after which the caller may send in it too. It is decided message by message, as gRPC has
//! it: one that is short, or that does not get smaller, goes as it is.
//!
//! Always true: nobody gets an encoding that they did not name; what is opened is never larger than
//! [`MESSAGE_BYTES`](crate::server::MESSAGE_BYTES), whatever a few bytes claim to be. Left out: gRPC-web and JSON.
//!
//! Source: gRPC's documents on compression and on its protocol over HTTP/2.

mod encoding;
mod inflow;
mod messages;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};
use tonic::body::Body;
use tower::Service;

use crate::{Code, Failure};
pub(crate) use encoding::Encoding;
pub(crate) use inflow::Inflow;
use messages::Messages;

/// What a body's compressed messages are compressed with.
const ENCODING: &str = "grpc-encoding";
/// What may be sent to whoever says this, in order of preference.
const ACCEPT: &str = "grpc-accept-encoding";
/// What we read.
const READ: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

/// With what calls between services are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// With nothing.
    #[default]
    None,
    /// With gzip.
    Gzip,
    /// With zstd: quicker, and smaller.
    Zstd,
}

impl Compression {
    fn encoding(self) -> Option<Encoding> {
        match self {
            Self::None => None,
            Self::Gzip => Some(Encoding::Gzip),
            Self::Zstd => Some(Encoding::Zstd),
        }
    }
}

/// Whether a peer has said that it reads what we would send it.
#[derive(Debug, Default)]
pub(crate) struct Reads(AtomicBool);

/// How a channel compresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    encoding: Option<Encoding>,
    floor: usize,
}

impl Asking {
    /// `floor`: shorter messages go as they are.
    pub(crate) fn new(compression: Compression, floor: usize) -> Self {
        Self {
            encoding: compression.encoding(),
            floor,
        }
    }

    /// Asks for a compressed answer, and compresses the request if the peer reads that.
    pub(crate) fn request(&self, mut request: Request<Body>, peer: &Reads) -> Request<Body> {
        let headers = request.headers_mut();
        headers.remove(ACCEPT);
        let Some(encoding) = self.encoding.filter(|_| !headers.contains_key(ENCODING)) else {
            return request;
        };
        headers.insert(ACCEPT, HeaderValue::from_static(encoding.as_str()));
        if !peer.0.load(Ordering::Relaxed) {
            return request;
        }
        headers.insert(ENCODING, HeaderValue::from_static(encoding.as_str()));
        request.map(|body| Body::new(Messages::shrink(body, encoding, self.floor)))
    }

    /// Opens an answer, and learns what the peer reads.
    pub(crate) fn answer(&self, mut answer: Response<Body>, peer: &Reads) -> Response<Body> {
        let reads = answer.headers_mut().remove(ACCEPT);
        if let Some(encoding) = self.encoding
            && reads.is_some_and(|reads| names(&reads, encoding))
        {
            peer.0.store(true, Ordering::Relaxed);
        }
        match encoding_of(answer.headers()) {
            Ok(Some(encoding)) => {
                answer.headers_mut().remove(ENCODING);
                answer.map(|body| Body::new(Messages::open(body, encoding, Inflow::default())))
            }
            Ok(None) => answer,
            Err(failure) => failure.into_status().into_http(),
        }
    }
}

/// A service for callers that may compress and may ask for compressed answers.
#[derive(Debug, Clone)]
pub(crate) struct Compressed<S> {
    inner: S,
    floor: Option<usize>,
}

impl<S> Compressed<S> {
    /// `floor`: shorter messages of answers go as they are; none: all do.
    pub(crate) fn new(inner: S, floor: Option<usize>) -> Self {
        Self { inner, floor }
    }

    /// What is called.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S> Service<Request<Body>> for Compressed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !is_plain_grpc(request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        // Whoever is called behind this is called on a hop of its own.
        let wanted = request.headers_mut().remove(ACCEPT);
        let wanted = wanted.and_then(|names| Encoding::preferred(&names));
        let request = match encoding_of(request.headers()) {
            Ok(None) => request,
            Ok(Some(encoding)) => {
                request.headers_mut().remove(ENCODING);
                let inflow = Inflow::default();
                request.extensions_mut().insert(inflow.clone());
                request.map(|body| Body::new(Messages::open(body, encoding, inflow)))
            }
            Err(failure) => {
                let mut answer = failure.into_status().into_http();
                answer.headers_mut().insert(ACCEPT, READ);
                return Box::pin(std::future::ready(Ok(answer)));
            }
        };
        let (answer, floor) = (self.inner.call(request), self.floor);
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert(ACCEPT, READ);
            Ok(match wanted.zip(floor) {
                Some((encoding, floor)) => shrunk(answer, encoding, floor),
                None => answer,
            })
        })
    }
}

fn shrunk(mut answer: Response<Body>, encoding: Encoding, floor: usize) -> Response<Body> {
    let headers = answer.headers_mut();
    // A failure in the head has no message.
    if headers.contains_key("grpc-status") || headers.contains_key(ENCODING) {
        return answer;
    }
    headers.insert(ENCODING, HeaderValue::from_static(encoding.as_str()));
    answer.map(|body| Body::new(Messages::shrink(body, encoding, floor)))
}

/// What a body's messages are compressed with. Error: something that we cannot read.
fn encoding_of(headers: &HeaderMap) -> Result<Option<Encoding>, Failure> {
    let Some(name) = headers.get(ENCODING) else {
        return Ok(None);
    };
    match name.as_bytes() {
        b"identity" => Ok(None),
        name => Encoding::parse(name).map(Some).ok_or_else(|| {
            let problem = "expected identity, gzip or zstd";
            Failure::new(Code::Unimplemented, "ENCODING_UNKNOWN")
                .field(ENCODING, problem)
                .message(format!(
                    "the messages cannot be read: `{ENCODING}`: {problem}, found `{}`",
                    name.escape_ascii()
                ))
        }),
    }
}

fn names(accepted: &HeaderValue, encoding: Encoding) -> bool {
    Encoding::all_in(accepted).any(|named| named == encoding)
}

/// gRPC as it is over HTTP/2; gRPC-web frames its trailers as a message.
pub(crate) fn is_plain_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

#[cfg(test)]
mod tests;
