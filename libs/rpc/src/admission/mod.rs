//! Which calls from outside run now, wait a little, or are refused, so that what is let in is served in time.
//!
//! One [`Admission`] stands at the edge of a process, around all services together: services behind it call each other
//! without being asked again, so that work that was let in is not refused halfway. How it decides is in
//! `state.rs` and `limit.rs`.
//!
//! What always holds: what runs and what waits is bounded; nobody waits for longer than the bound or past a deadline;
//! a refusal says when to come back; whoever gives up, in the queue or running, gives the place back.

mod limit;
mod state;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use commonplace_telemetry::Metrics;
use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;
use tonic::body::Body;

use crate::methods::Method;
use crate::{Code, Failure};
use limit::AdaptiveLimit;
use state::{Arrival, Bounds, Call, Running, State};

/// How soon a refused call may come again: the first of these milliseconds that suffices, or the last.
const AGAIN: [u64; 8] = [50, 100, 200, 400, 800, 1_600, 3_200, 5_000];
/// How often it is looked, while somebody waits, whether places are held by calls that wait for something else.
const STIR: Duration = Duration::from_millis(100);
/// Refused callers are told so many different spans, so that they do not come back together.
const SPREAD: usize = 8;

/// What refused calls are told, by how soon they may come again, and by their place in the spread.
static REFUSALS: LazyLock<Vec<(Failure, HeaderMap)>> = LazyLock::new(|| {
    let waits = AGAIN.iter().flat_map(|wait| {
        let wait = Duration::from_millis(*wait);
        (0..SPREAD as u32).map(move |place| wait + wait / SPREAD as u32 * place)
    });
    let refusal = |wait| {
        let failure = Failure::new(Code::ResourceExhausted, "OVERLOADED")
            .retry_after(wait)
            .message("more calls than can be served in time; try again after the given delay");
        let answer = failure.clone().into_status().into_http::<Body>();
        (failure, answer.into_parts().0.headers)
    };
    waits.map(refusal).collect()
});

/// What an edge lets in.
#[derive(Debug, Clone)]
pub struct AdmissionOptions {
    /// Calls that run at once are at most this many; how many of them may is found out.
    pub concurrent_calls: usize,
    /// Calls of one cost that wait at most.
    pub waiting_calls: usize,
    /// How long a call waits at most.
    pub wait: Duration,
    /// Calls at once that do not slow each other down; the limit is never less than 32 times that.
    pub cores: usize,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            concurrent_calls: 1_024,
            waiting_calls: 256,
            wait: Duration::from_secs(2),
            cores: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// Decides which calls run. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State<oneshot::Sender<Permit>>>,
    gauges: Gauges,
    refused: AtomicUsize,
    turned_away: Counter,
    /// Somebody looks, see [`STIR`].
    stirring: AtomicBool,
}

#[derive(Debug, Default)]
struct Gauges {
    limit: Gauge,
    running: Gauge,
    waiting: Gauge,
}

impl Admission {
    /// Nothing runs yet.
    pub fn new(options: &AdmissionOptions, metrics: &Metrics) -> Self {
        // Fewer would be enough to keep the cores busy, but not the disk, nor services behind this one.
        let least = 32 * options.cores.max(1);
        let limit = AdaptiveLimit::new(least, options.concurrent_calls, options.cores);
        let bounds = Bounds {
            waiting: options.waiting_calls,
            wait: options.wait,
        };
        let (gauges, turned_away) = (Gauges::default(), Counter::default());
        metrics.register(|registry| {
            registry.register(
                "admission_turned_away",
                "Calls from outside that were refused at the door, before anything was done for them",
                turned_away.clone(),
            );
            for (name, help, gauge) in [
                (
                    "admission_limit",
                    "Calls from outside that may run at once",
                    &gauges.limit,
                ),
                (
                    "admission_running",
                    "Calls from outside that run",
                    &gauges.running,
                ),
                (
                    "admission_waiting",
                    "Calls from outside that wait to run",
                    &gauges.waiting,
                ),
            ] {
                registry.register(name, help, gauge.clone());
            }
        });
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State::new(limit, bounds)),
                gauges,
                refused: AtomicUsize::new(0),
                turned_away,
                stirring: AtomicBool::new(false),
            }),
        }
    }

    /// Lets a call run, at once or after a wait. Error: RESOURCE_EXHAUSTED (`OVERLOADED`) with the time to wait.
    pub async fn admit(
        &self,
        method: &'static Method,
        deadline: Option<Instant>,
    ) -> Result<Permit, Failure> {
        let call = Call {
            cost: method.cost,
            method: &method.name,
            now: Instant::now(),
            deadline,
        };
        let (tell, told) = oneshot::channel();
        let arrival = self.inner.lock().arrive(call, tell);
        self.inner.show();
        match arrival {
            Arrival::Runs(running) => Ok(self.permit(running)),
            Arrival::Refused => Err(self.inner.overloaded(method)),
            Arrival::Waits { number, until } => {
                let waiting = Waiting {
                    inner: self.inner.clone(),
                    call,
                    number,
                };
                self.wait(waiting, told, until, method).await
            }
        }
    }

    /// The answer to a call that would be refused now whoever makes it, so that nothing needs to be done for it.
    pub(crate) fn turn_away(&self, method: &Method) -> Option<&'static HeaderMap> {
        let away = self.inner.lock().turns_away(method.cost, Instant::now());
        let (_, head) = away.then(|| self.inner.refusal(method)).flatten()?;
        self.inner.turned_away.inc();
        Some(head)
    }

    async fn wait(
        &self,
        waiting: Waiting,
        mut told: oneshot::Receiver<Permit>,
        until: Instant,
        method: &Method,
    ) -> Result<Permit, Failure> {
        self.inner.clone().keep_stirring();
        match tokio::time::timeout_at(until.into(), &mut told).await {
            Ok(Ok(permit)) => return Ok(permit),
            Ok(Err(_)) => return Err(self.inner.overloaded(method)),
            Err(_) => {}
        }
        // Between the end of the wait and this line it may have been let in after all.
        drop(waiting);
        told.try_recv().map_err(|_| self.inner.overloaded(method))
    }

    fn permit(&self, running: Running) -> Permit {
        Permit {
            inner: self.inner.clone(),
            running: Some(running),
        }
    }

    /// Calls that may run, that run, and that wait.
    pub fn numbers(&self) -> (usize, usize, usize) {
        let state = self.inner.lock();
        (state.limit(), state.running(), state.waiting())
    }
}

impl Inner {
    /// Stirs as long as somebody waits.
    fn keep_stirring(self: Arc<Self>) {
        if self.stirring.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STIR).await;
                let served = self.lock().stir(Instant::now());
                self.clone().tell(served);
                if self.lock().waiting() > 0 {
                    continue;
                }
                self.stirring.store(false, Ordering::Release);
                // Whoever came to wait meanwhile may have seen that somebody looks.
                if self.lock().waiting() == 0 || self.stirring.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }

    /// Tells those who may run.
    fn tell(self: Arc<Self>, served: Vec<(oneshot::Sender<Permit>, Running)>) {
        for (tell, running) in served {
            let permit = Permit {
                inner: self.clone(),
                running: Some(running),
            };
            // Whoever gave up meanwhile gives its place to the next, as this permit is dropped.
            drop(tell.send(permit));
        }
        self.show();
    }

    fn lock(&self) -> MutexGuard<'_, State<oneshot::Sender<Permit>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self) {
        let (limit, running, waiting) = {
            let state = self.lock();
            (state.limit(), state.running(), state.waiting())
        };
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.gauges.limit.set(whole(limit));
        self.gauges.running.set(whole(running));
        self.gauges.waiting.set(whole(waiting));
    }

    /// The refusal of a call, as a failure and as the head of an answer. Nothing is made for it: under overload there
    /// are many.
    fn refusal(&self, method: &Method) -> Option<&'static (Failure, HeaderMap)> {
        let wait = self.lock().expected_wait(method.cost).as_millis();
        let mut steps = AGAIN.iter();
        let step = steps.position(|step| u128::from(*step) >= wait);
        let step = step.unwrap_or(AGAIN.len() - 1);
        let place = self.refused.fetch_add(1, Ordering::Relaxed) % SPREAD;
        REFUSALS.get(step * SPREAD + place)
    }

    fn overloaded(&self, method: &Method) -> Failure {
        let refusal = self.refusal(method);
        refusal.map_or_else(crate::serve::too_many, |(failure, _)| failure.clone())
    }
}

/// A place among the calls that run. Given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    running: Option<Running>,
}

impl Permit {
    /// Gives it back after an answer: how long that took is learned from.
    pub fn answered(mut self) {
        self.end(true);
    }

    fn end(&mut self, answered: bool) {
        let Some(running) = self.running.take() else {
            return;
        };
        let served = self.inner.lock().leave(&running, Instant::now(), answered);
        self.inner.clone().tell(served);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// A place in the queue. Given up when it is dropped.
struct Waiting {
    inner: Arc<Inner>,
    call: Call,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inner.lock().give_up(self.call.cost, self.number);
    }
}
