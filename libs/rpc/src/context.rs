//! What belongs to the call being served: its deadline, its ids, whose data it is about.
//!
//! Set by the layer around every handler, read by whoever needs it, sent on by [`crate::Channel`]. It
//! belongs to the task that serves the call; a task spawned from it takes it along with [`scope`].

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use commonplace_telemetry::Trace;
use commonplace_types::{Principal, ProjectName, Right, TenantName};
use http::{HeaderMap, HeaderValue};

use crate::access::{self, Asked, Authorize};
use crate::methods::Method;
use crate::view::View;
use crate::{Code, Failure};

/// Most bytes of `tracestate` that are passed on: what W3C asks of everybody.
const TRACE_STATE_BYTES: usize = 512;

tokio::task_local! {
    static CALL: Call;
}

/// The surroundings of one call.
#[derive(Debug, Clone)]
pub struct Call {
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Names the call in logs; made at the edge, the same in every service it reaches.
    pub request_id: String,
    /// Where it stands in its trace.
    pub trace: Trace,
    /// What other systems say of the trace (`tracestate` of W3C), passed on as it came.
    pub trace_state: Option<HeaderValue>,
    /// Whose data it is about.
    pub tenant: TenantName,
    /// Who it is made for; none where a service works in its own name.
    pub principal: Option<Arc<Principal>>,
    /// What of the project it may see.
    pub view: View,
    /// The rpc that is served.
    pub method: Option<&'static Method>,
    /// Decides about what the service learns only while it serves.
    pub authorize: Option<Arc<dyn Authorize>>,
    /// What was decided before it was let in.
    pub asked: Option<Arc<Asked>>,
    /// Where whoever called the gateway is, as far as it is known.
    pub peer: Option<IpAddr>,
}

impl Call {
    /// The surroundings of a call that starts here.
    pub fn root(deadline: Option<Duration>) -> Self {
        Self {
            deadline: deadline.map(|span| Instant::now() + span),
            request_id: uuid::Uuid::new_v4().to_string(),
            trace: Trace::start(),
            trace_state: None,
            tenant: TenantName::default_tenant(),
            principal: None,
            view: View::Whole,
            method: None,
            authorize: None,
            asked: None,
            peer: None,
        }
    }

    /// Goes on with the trace that the headers of a request name, if they name one.
    pub fn follow(&mut self, headers: &HeaderMap) {
        let parent = headers.get("traceparent").and_then(|v| v.to_str().ok());
        if let Some(trace) = parent.and_then(Trace::parse) {
            self.trace = trace.child();
            self.trace_state = trace_state(headers);
        }
    }
}

/// All of it in one value, as several headers may hold it; too much of it is left out.
fn trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let told = headers.get_all("tracestate").iter();
    let told: Vec<&[u8]> = told.map(HeaderValue::as_bytes).collect();
    let all = told.join(&b',');
    let fits = (1..=TRACE_STATE_BYTES).contains(&all.len());
    fits.then(|| HeaderValue::from_bytes(&all).ok()).flatten()
}

/// Runs a future as part of a call.
pub async fn scope<F: Future>(call: Call, future: F) -> F::Output {
    CALL.scope(call, future).await
}

/// Runs a future as a call of its own with that much time, or with what is left of the present call if
/// that is less.
pub async fn with_deadline<F: Future>(span: Duration, future: F) -> F::Output {
    let mut call = current().unwrap_or_else(|| Call::root(None));
    let wanted = Instant::now() + span;
    call.deadline = Some(
        call.deadline
            .map_or(wanted, |deadline| deadline.min(wanted)),
    );
    scope(call, future).await
}

/// The present call, if there is one.
pub fn current() -> Option<Call> {
    CALL.try_with(Clone::clone).ok()
}

/// When the present call's caller stops waiting.
pub fn deadline() -> Option<Instant> {
    CALL.try_with(|call| call.deadline).ok().flatten()
}

/// How long the present call may still take; zero when its time is up.
pub fn remaining() -> Option<Duration> {
    deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Whose data the present call is about.
pub fn tenant() -> TenantName {
    CALL.try_with(|call| call.tenant.clone())
        .unwrap_or_else(|_| TenantName::default_tenant())
}

/// Runs a future as a service's own work on a tenant's data: calls are made in the service's name.
pub async fn for_tenant<F: Future>(tenant: TenantName, future: F) -> F::Output {
    let call = Call {
        tenant,
        ..Call::root(None)
    };
    scope(call, future).await
}

/// Makes a call that belongs to this process and not to the caller who waits for it: about a tenant, in the service's
/// name, answered within `patience`. Error: what went wrong, also that the time is up.
pub async fn own_call<T>(
    tenant: &TenantName,
    patience: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    let call = with_deadline(patience, call);
    match for_tenant(tenant.clone(), call).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(Failure::from_status(&status)),
    }
}

/// Runs a future as part of the present call, but for its principal: calls are made in the service's name. For what
/// a service needs to know itself to answer somebody whose right is decided on already.
pub async fn in_own_name<F: Future>(future: F) -> F::Output {
    let call = current().unwrap_or_else(|| Call::root(None));
    let call = Call {
        principal: None,
        ..call
    };
    scope(call, future).await
}

/// What of the project that it names the present call may see; all of it outside a call.
pub fn view() -> View {
    CALL.try_with(|call| call.view.clone()).unwrap_or_default()
}

/// Who the present call is made for.
pub fn principal() -> Option<Arc<Principal>> {
    CALL.try_with(|call| call.principal.clone()).ok().flatten()
}

/// Asks what of a project the present call may do something to, where its contract leaves that to the service.
/// `parts`: to make do with parts of it. Outside a call, and where nobody decides, all of it.
/// Error: PERMISSION_DENIED, or what kept it from being decided.
pub async fn require(right: Right, project: &ProjectName, parts: bool) -> Result<View, Failure> {
    ask(right, Some(project), parts).await
}

/// Asks whether the present call may do something to its whole tenant, as [`require`] asks about a project.
/// Error: PERMISSION_DENIED, or what kept it from being decided.
pub async fn require_in_tenant(right: Right) -> Result<(), Failure> {
    ask(right, None, false).await.map(drop)
}

async fn ask(right: Right, project: Option<&ProjectName>, parts: bool) -> Result<View, Failure> {
    let Some(call) = current() else {
        return Ok(View::Whole);
    };
    let Some(authorize) = &call.authorize else {
        return Ok(View::Whole);
    };
    let (Some(principal), Some(method)) = (&call.principal, call.method) else {
        return Err(Failure::new(Code::Unauthenticated, "CREDENTIALS_MISSING")
            .message("nobody is known to have made this call"));
    };
    let action = access::action(method, right, parts);
    authorize.decide(principal, action, project).await?.answer
}

/// Whether the present call may do something to all of a project. Error: it cannot be decided.
pub async fn may(right: Right, project: &ProjectName) -> Result<bool, Failure> {
    match require(right, project, false).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.code == Code::PermissionDenied => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// The present call's place in its trace as a header; empty outside a call.
pub fn traceparent() -> String {
    CALL.try_with(|call| call.trace.to_string())
        .unwrap_or_default()
}

/// Names the present call; empty outside a call.
pub fn request_id() -> String {
    CALL.try_with(|call| call.request_id.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_of_a_trace_comes_along_with_it() {
        let parent = Trace::start().to_string();
        let follow = |parent: &str, state: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", parent.parse().unwrap());
            for one in state {
                headers.append("tracestate", one.parse().unwrap());
            }
            let mut call = Call::root(None);
            call.follow(&headers);
            let state = call.trace_state;
            (
                call.trace.trace_id(),
                state.map(|state| state.to_str().unwrap().to_owned()),
            )
        };
        let (id, state) = follow(&parent, &["a=1", "b=2,c=3"]);
        assert!(parent.contains(&id));
        assert_eq!(state.unwrap(), "a=1,b=2,c=3");
        assert_eq!(follow(&parent, &[&"a".repeat(513)]).1, None);
        let (id, state) = follow("no trace", &["a=1"]);
        assert!(!parent.contains(&id));
        assert_eq!(state, None);
    }

    #[tokio::test]
    async fn an_inner_deadline_never_outlasts_the_outer() {
        with_deadline(Duration::from_millis(50), async {
            with_deadline(Duration::from_secs(60), async {
                assert!(remaining().unwrap() <= Duration::from_millis(50));
            })
            .await;
        })
        .await;
        assert_eq!(remaining(), None);
    }
}
