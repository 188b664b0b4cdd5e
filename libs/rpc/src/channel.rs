//! The one channel that generated clients run over: a service of this process or a remote one.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use commonplace_telemetry::Metrics;
use commonplace_types::{Invalid, Principal, TenantName};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::watch;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use crate::audit::Hop;
use crate::context::{self, Call};
use crate::edge::Guarded;
use crate::measure::Measure;
use crate::methods;
use crate::remote::{self, Endpoint, Pool, RemoteOptions, Resolver};
use crate::serve::grpc_status;
use crate::tls::PeerIdentity;
use crate::{Code, Failure};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Local = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What is kept back of a call's time at each hop, at most: for the way of the answer.
const MARGIN: Duration = Duration::from_millis(10);

/// Carries calls to one service. Cheap to clone; clones share the connections.
///
/// Each call takes along what is left of the present call's deadline (`grpc-timeout`), its id
/// (`x-request-id`) and its trace (`traceparent`). A call whose time is up is refused without being sent.
#[derive(Clone)]
pub struct Channel {
    to: To,
    /// The service that calls in its own name, where a call is made for nobody.
    own_name: Option<Arc<str>>,
    metrics: Option<Arc<Metrics>>,
}

#[derive(Clone)]
enum To {
    Local(Local),
    Remote {
        pool: Arc<Pool>,
        only: Option<Arc<Endpoint>>,
    },
    /// Another channel, behind what lets calls in.
    Guarded(Arc<Guarded>),
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
        Self {
            to: To::Local(Local::new(service)),
            own_name: None,
            metrics: None,
        }
    }

    /// The channel behind what lets calls in. Only the channel itself measures them.
    pub(crate) fn guarded(guarded: Guarded) -> Self {
        Self {
            to: To::Guarded(Arc::new(guarded)),
            own_name: None,
            metrics: None,
        }
    }

    /// A channel to a remote service, balanced over its endpoints. Addresses are `http://host:port` or
    /// `https://host:port`, each one endpoint, and `http+dns://name:port` or `https+dns://name:port`, each
    /// as many endpoints as the name has addresses. Connects at once and keeps connected; must be called
    /// within a tokio runtime. Error: an address that is none, `https` without certificates, or a token or key
    /// for an address to which it would travel in the open.
    pub fn remote(addresses: &[String], options: &RemoteOptions) -> Result<Self, Invalid> {
        if addresses.is_empty() {
            return Err(Invalid::new(
                "server",
                "expected at least one address like http://127.0.0.1:8083",
            ));
        }
        let parsed = addresses.iter().map(|address| remote::parse(address));
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let known = options.tls.is_some() || options.trust.is_some();
        if !known && parsed.iter().any(remote::Address::is_secure) {
            let problem = "an https address needs certificates; set tls.certificate, tls.key and tls.authority \
                           (`com certs dev` makes them)";
            return Err(Invalid::new("server", problem));
        }
        for address in &parsed {
            options
                .bearer
                .iter()
                .try_for_each(|bearer| bearer.check(address))?;
        }
        Ok(Self::resolved(Arc::new(remote::Several(parsed)), options))
    }

    /// A channel to the endpoints that a resolver finds. Must be called within a tokio runtime.
    pub fn resolved(resolver: Arc<dyn Resolver>, options: &RemoteOptions) -> Self {
        let pool = Pool::start(resolver, options.clone());
        Self {
            to: To::Remote { pool, only: None },
            own_name: None,
            metrics: None,
        }
    }

    /// The same channel for a service: calls that are made for nobody are made in its own name, about the
    /// tenant of the present call.
    pub fn in_name_of(&self, service: &str) -> Self {
        Self {
            own_name: Some(service.into()),
            ..self.clone()
        }
    }

    /// The same, with its calls measured.
    pub fn measured(self, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// The same service at one endpoint only. A call over it fails at once with UNAVAILABLE
    /// (`PEER_UNREACHABLE`, `sent` = `no`) when the endpoint is down, so that the caller can choose another.
    pub fn to(&self, endpoint: &Endpoint) -> Self {
        match &self.to {
            To::Local(_) => self.clone(),
            To::Remote { pool, .. } => Self {
                to: To::Remote {
                    pool: pool.clone(),
                    only: Some(Arc::new(endpoint.clone())),
                },
                own_name: self.own_name.clone(),
                metrics: self.metrics.clone(),
            },
            To::Guarded(guarded) => guarded.to(endpoint),
        }
    }

    /// The endpoints that take calls at the moment, sorted. A service of this process has none.
    pub fn endpoints(&self) -> Arc<[Endpoint]> {
        match &self.to {
            To::Local(_) => Arc::from([]),
            To::Remote { pool, .. } => pool.shared.watch().borrow().clone(),
            To::Guarded(guarded) => guarded.channel.endpoints(),
        }
    }

    /// The same, and each change of it. Nothing for a service of this process.
    pub fn watch_endpoints(&self) -> Option<watch::Receiver<Arc<[Endpoint]>>> {
        match &self.to {
            To::Local(_) => None,
            To::Remote { pool, .. } => Some(pool.shared.watch()),
            To::Guarded(guarded) => guarded.channel.watch_endpoints(),
        }
    }

    /// Who a call is made for: whoever the present call is made for, else the service that this channel was
    /// given to. Neither: the request may say so itself.
    fn principal(&self, call: Option<&Call>) -> Option<Arc<Principal>> {
        if let Some(principal) = call.and_then(|call| call.principal.clone()) {
            return Some(principal);
        }
        let tenant = call.map_or_else(TenantName::default_tenant, |call| call.tenant.clone());
        let service = self.own_name.as_deref()?;
        Some(Arc::new(Principal::service(service, tenant)))
    }

    /// Whether the service runs in this process.
    pub fn is_in_process(&self) -> bool {
        match &self.to {
            To::Local(_) => true,
            To::Remote { .. } => false,
            To::Guarded(guarded) => guarded.channel.is_in_process(),
        }
    }
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
        let call = context::current();
        if let Some(call) = &call {
            send_on(call, request.headers_mut());
        }
        if let Some(principal) = self.principal(call.as_ref()) {
            request.extensions_mut().insert(principal);
        }
        let method = methods::name(request.uri().path());
        let metrics = self.metrics.clone();
        let mut measure = match &self.to {
            To::Guarded(_) => Measure::nothing(method),
            _ => Measure::client(metrics, method, call.as_ref(), request.headers_mut()),
        };
        let span = measure.span().clone();
        let hop = Hop::next(call.as_ref(), request.extensions());
        request.extensions_mut().insert(hop);
        let deadline = call.and_then(|call| call.deadline);
        let to = self.to.clone();
        Box::pin(async move {
            let mut repeats = 0;
            let answer = async {
                match to {
                    To::Local(service) => local(service, request, deadline).await,
                    To::Remote { pool, only } => {
                        let only = only.as_deref();
                        remote::send(&pool.shared, only, request, deadline, &mut repeats).await
                    }
                    To::Guarded(guarded) => Ok(guarded.answer(request).await),
                }
            };
            let answer = within(deadline, answer.instrument(span)).await;
            measure.repeated(repeats);
            measure.end(match &answer {
                Ok(answer) => grpc_status(answer.headers()),
                Err(status) => status.code() as i32,
            });
            Ok(answer?)
        })
    }
}

/// Waits for an answer until the deadline. Error: that of the answer, or the time is up.
async fn within<T>(
    deadline: Option<Instant>,
    answer: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, tonic::Status> {
    let Some(deadline) = deadline else {
        return answer.await;
    };
    match tokio::time::timeout_at(deadline.into(), answer).await {
        Ok(answer) => answer,
        Err(_) => Err(out_of_time().into_status()),
    }
}

async fn local(
    service: Local,
    mut request: Request<Body>,
    deadline: Option<Instant>,
) -> Result<Response<Body>, tonic::Status> {
    deadline_header(deadline, request.headers_mut())?;
    // The caller is this process now, not whoever called it.
    request.extensions_mut().remove::<PeerIdentity>();
    match service.oneshot(request).await {
        Ok(answer) => Ok(answer),
        Err(never) => match never {},
    }
}

/// Writes what is left of the time, less a margin for the way of the answer. Error: nothing is left.
pub(crate) fn deadline_header(
    deadline: Option<Instant>,
    headers: &mut HeaderMap,
) -> Result<(), tonic::Status> {
    let Some(deadline) = deadline else {
        return Ok(());
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(out_of_time().into_status());
    }
    let left = left - (left / 20).min(MARGIN);
    if let Ok(value) = HeaderValue::from_str(&grpc_timeout(left)) {
        headers.insert("grpc-timeout", value);
    }
    Ok(())
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
    match &call.trace_state {
        Some(state) => drop(headers.insert("tracestate", state.clone())),
        // Of another trace than the one that goes on.
        None => drop(headers.remove("tracestate")),
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
pub fn parse_grpc_timeout(value: &str) -> Option<Duration> {
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
    fn a_hop_keeps_a_margin_and_refuses_what_is_spent() {
        let sent = |left: Duration| {
            let mut headers = HeaderMap::new();
            deadline_header(Some(Instant::now() + left), &mut headers)?;
            let value = headers["grpc-timeout"]
                .to_str()
                .unwrap_or_default()
                .to_owned();
            Ok::<_, tonic::Status>(parse_grpc_timeout(&value).unwrap())
        };
        assert!(sent(Duration::from_secs(10)).unwrap() <= Duration::from_millis(9_990));
        assert!(sent(Duration::from_millis(20)).unwrap() <= Duration::from_millis(19));
        assert_eq!(
            sent(Duration::ZERO).unwrap_err().code(),
            tonic::Code::DeadlineExceeded
        );
    }

    #[test]
    fn a_wrong_address_names_what_was_expected() {
        let options = RemoteOptions::default();
        for (addresses, expected) in [
            (&["localhost:1".to_owned()][..], "http://127.0.0.1:8083"),
            (&[], "at least one address"),
            (&["https://localhost:1".to_owned()], "tls.certificate"),
        ] {
            let error = Channel::remote(addresses, &options)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
