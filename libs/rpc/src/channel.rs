//! The one channel that generated clients run over: a service of this process or a remote one.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::transport::{Channel as Transport, Endpoint};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::context::{self, Call};
use crate::{Code, Failure};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Inner = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// How remote services are reached.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How often an idle connection is probed.
    pub keep_alive: Duration,
    /// When a connection that does not answer a probe is given up.
    pub keep_alive_timeout: Duration,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(15),
        }
    }
}

/// Carries calls to one service. Cheap to clone; clones share the connection.
///
/// Each call takes along what is left of the present call's deadline (`grpc-timeout`), its id
/// (`x-request-id`) and its trace (`traceparent`). A call whose time is up is refused without being sent.
#[derive(Clone)]
pub struct Channel {
    inner: Inner,
}

impl Channel {
    /// A channel to a service of this process.
    pub fn in_process<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let service = service.map_err(|never: Infallible| match never {});
        Self {
            inner: BoxCloneSyncService::new(service),
        }
    }

    /// A channel to a remote service at one or several addresses (`http://host:port`), balanced over them.
    /// Connects at the first call. Error: an address that is none.
    pub fn remote(
        addresses: &[String],
        options: &RemoteOptions,
    ) -> Result<Self, commonplace_types::Invalid> {
        let endpoints = addresses
            .iter()
            .map(|a| endpoint(a, options))
            .collect::<Result<Vec<_>, _>>()?;
        let transport = match <[Endpoint; 1]>::try_from(endpoints) {
            Ok([endpoint]) => endpoint.connect_lazy(),
            Err(endpoints) => Transport::balance_list(endpoints.into_iter()),
        };
        let service = transport.map_err(|error| -> BoxError { Box::new(unreachable_peer(&error)) });
        Ok(Self {
            inner: BoxCloneSyncService::new(service),
        })
    }
}

fn endpoint(
    address: &str,
    options: &RemoteOptions,
) -> Result<Endpoint, commonplace_types::Invalid> {
    let wrong = || {
        let problem = format!("expected an address like http://127.0.0.1:8083, found `{address}`");
        commonplace_types::Invalid::new("server", problem)
    };
    if !address.starts_with("http://") {
        return Err(wrong());
    }
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| wrong())?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(options.keep_alive_timeout)
        .http2_adaptive_window(true)
        .tcp_nodelay(true))
}

/// A peer that cannot be reached is UNAVAILABLE, which callers know how to treat.
fn unreachable_peer(error: &tonic::transport::Error) -> tonic::Status {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failure::new(Code::Unavailable, "PEER_UNREACHABLE")
        .message(text)
        .into_status()
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Channel")
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Readiness is awaited inside the call, where the deadline covers it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        let call = context::current();
        if let Some(call) = &call {
            send_on(call, request.headers_mut());
        }
        let deadline = call.and_then(|call| call.deadline);
        Box::pin(async move {
            let Some(deadline) = deadline else {
                return inner.oneshot(request).await;
            };
            match tokio::time::timeout_at(deadline.into(), inner.oneshot(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(Box::new(out_of_time().into_status()) as BoxError),
            }
        })
    }
}

pub(crate) fn out_of_time() -> Failure {
    Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED").message("the call's time is up")
}

fn send_on(call: &Call, headers: &mut HeaderMap) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("x-request-id", &call.request_id);
    put("traceparent", &call.trace.to_string());
    if let Some(left) = call
        .deadline
        .map(|d| d.saturating_duration_since(std::time::Instant::now()))
    {
        put("grpc-timeout", &grpc_timeout(left));
    }
}

/// A span as a `grpc-timeout` value: at most 8 digits and a unit.
fn grpc_timeout(span: Duration) -> String {
    let micros = span.as_micros();
    if micros < 100_000_000 {
        return format!("{micros}u");
    }
    let millis = span.as_millis();
    if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", span.as_secs().min(99_999_999))
    }
}

/// Reads a `grpc-timeout` value; anything malformed gives nothing.
pub(crate) fn parse_grpc_timeout(value: &str) -> Option<Duration> {
    let unit = value.chars().last()?;
    let digits = value.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(count * 3_600),
        'M' => Duration::from_secs(count * 60),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_written_and_read() {
        for span in [
            Duration::ZERO,
            Duration::from_micros(7),
            Duration::from_secs(90),
            Duration::from_secs(200_000),
        ] {
            assert_eq!(parse_grpc_timeout(&grpc_timeout(span)), Some(span));
        }
        for wrong in ["", "S", "12", "123456789S", "-1S", "1x"] {
            assert_eq!(parse_grpc_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_wrong_address_names_what_was_expected() {
        let error =
            Channel::remote(&["localhost:1".into()], &RemoteOptions::default()).unwrap_err();
        assert!(
            error.to_string().contains("http://127.0.0.1:8083"),
            "{error}"
        );
    }
}
