//! What the layer around a service does to record a call.

use commonplace_telemetry::names;
use http::{Extensions, Response};
use tonic::body::Body;

use super::entry::{Entry, Who};
use super::hop::{Hop, OPERATOR};
use super::recorder::{Recorder, Slot, is_denial, refusal};
use crate::again::Again;
use crate::context::Call;
use crate::serve::grpc_status;
use crate::{Code, Failure};

/// Policies that a record names at most: a tenant may grant the same in thousands of ways.
const POLICIES: usize = 64;

/// A call that comes in.
pub(crate) struct Watch {
    recorder: Option<Recorder>,
    /// It is part of a call that is recorded.
    within: bool,
}

impl Watch {
    pub(crate) fn new(
        recorder: Option<Recorder>,
        extensions: &Extensions,
        call: &mut Call,
    ) -> Self {
        let hop = Hop::of(extensions);
        call.peer = hop.caller;
        Self {
            recorder,
            within: hop.within,
        }
    }

    /// Records that the call was not let in, if that is a denial.
    pub(crate) fn refused(&self, call: &Call, failure: &Failure) {
        if let Some(recorder) = &self.recorder {
            refused(recorder, call, failure);
        }
    }

    /// Also records that a call's answer was ended while it went on, if that is a denial.
    pub(crate) fn over(&self, again: Again, call: &Call) -> Again {
        let Some(recorder) = self.recorder.clone() else {
            return again;
        };
        let call = call.clone();
        again.telling(move |failure| refused(&recorder, &call, failure))
    }

    /// The call is let in. Error: what it changes could not be recorded.
    pub(crate) fn let_in(self, call: &Call) -> Result<Pending, Failure> {
        let Some(recorder) = self.recorder else {
            return Ok(Pending(None));
        };
        let slot = match changes(call) && !self.within {
            true => Some(recorder.begin()?),
            false => None,
        };
        Ok(Pending(Some(Served {
            call: call.clone(),
            // The time is that of being let in.
            blank: slot.is_some().then(|| recorder.blank()),
            recorder,
            slot,
        })))
    }
}

/// A call that is served. A mutation is recorded whatever becomes of it: dropped, as given up.
pub(crate) struct Pending(Option<Served>);

struct Served {
    recorder: Recorder,
    call: Call,
    blank: Option<Entry>,
    slot: Option<Slot>,
}

impl Pending {
    /// Records how the call ended, and gives its answer: a mutation's once its record is where the settings say.
    pub(crate) async fn answered(mut self, answer: Response<Body>) -> Response<Body> {
        let Some(mut served) = self.0.take() else {
            return answer;
        };
        let code = grpc_status(answer.headers());
        let failure = (code != 0).then(|| failure_of(&answer));
        let recorder = served.recorder.clone();
        if let Some(failure) = failure.as_ref().filter(|failure| is_denial(failure)) {
            recorder.denied(refusal(served.entry(), failure));
            return answer;
        }
        let Some(slot) = served.slot.take() else {
            return answer;
        };
        let mut entry = served.entry();
        entry.code = names::status_code(code).to_owned();
        entry.reason = failure.map_or_else(String::new, |failure| failure.reason);
        let Some(kept) = recorder.ended(slot, entry) else {
            return answer;
        };
        match recorder.kept(kept).await {
            Ok(()) => answer,
            Err(failure) => failure.into_status().into_http(),
        }
    }
}

impl Served {
    fn entry(&mut self) -> Entry {
        let blank = self.blank.take();
        fill(blank.unwrap_or_else(|| self.recorder.blank()), &self.call)
    }
}

impl Drop for Pending {
    /// Whoever called is gone, or out of time; what was begun may still happen.
    fn drop(&mut self) {
        let Some(mut served) = self.0.take() else {
            return;
        };
        if let Some(slot) = served.slot.take() {
            let mut entry = served.entry();
            entry.code = names::status_code(1).to_owned();
            entry.reason = "GIVEN_UP".into();
            served.recorder.ended(slot, entry);
        }
    }
}

/// Whether a call that is let in may change something: by its contract, or as an operator's by an rpc that is
/// otherwise for services, which do by it what is part of their work.
fn changes(call: &Call) -> bool {
    let Some(method) = call.method else {
        return false;
    };
    let principal = call.principal.as_deref();
    let by_operator = principal
        .is_some_and(|principal| principal.is_service() && principal.subject.as_str() == OPERATOR);
    method.mutates() || by_operator && method.for_services() && !method.reads_only
}

fn refused(recorder: &Recorder, call: &Call, failure: &Failure) {
    if is_denial(failure) {
        recorder.denied(refusal(fill(recorder.blank(), call), failure));
    }
}

fn failure_of(answer: &Response<Body>) -> Failure {
    match tonic::Status::from_header_map(answer.headers()) {
        Some(status) => Failure::from_status(&status),
        None => Failure::new(Code::Internal, "UPSTREAM"),
    }
}

fn fill(blank: Entry, call: &Call) -> Entry {
    let asked = call.asked.as_deref();
    let principal = call.principal.as_deref();
    let method = call.method.map(|method| method.name.clone());
    Entry {
        tenant: principal.map_or(blank.tenant, |principal| principal.tenant.clone()),
        request_id: call.request_id.clone(),
        trace_id: call.trace.trace_id(),
        who: principal.map(Who::of),
        method: method.unwrap_or_default(),
        right: asked.map(|asked| asked.right),
        project: asked.and_then(|asked| asked.project.clone()),
        policies: asked.map_or_else(Vec::new, |asked| {
            let policies = asked.because.policies.iter();
            policies.take(POLICIES).cloned().collect()
        }),
        rules: asked.and_then(|asked| asked.because.rules),
        peer: call.peer.map_or_else(String::new, |peer| peer.to_string()),
        ..blank
    }
}
