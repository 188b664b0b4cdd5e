//! The queue of a process, and the task that delivers what is in it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use commonplace_telemetry::{Metrics, names};
use commonplace_types::{Clock, Invalid, Principal, TenantName};
use http::{Extensions, HeaderMap};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::denials::Denials;
use super::entry::{Entry, Verdict, Who, cut, new_id, rules_told};
use super::hop::Hop;
use super::options::{Answer, OnFull, Options};
use crate::context::{self, Trace};
use crate::methods::method;
use crate::{Code, Failure};

/// Records that are delivered at once.
const BATCH: usize = 200;
/// Records of denials that wait at the same time.
const DENIALS: usize = 2_000;
/// How often windows of denials are looked at.
const TICK: Duration = Duration::from_millis(500);
/// First and longest pause after a delivery that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long the last records may take when the process ends: longer than one delivery, so that there is a second.
const LAST: Duration = Duration::from_secs(8);

/// Keeps what is recorded.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// Keeps entries, each once by its id. Error: INVALID_ARGUMENT if one of them can never be kept.
    async fn keep(&self, entries: Vec<Entry>) -> Result<(), Failure>;
}

/// Records what is changed and what is refused. One for each process; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    /// Mutations are answered when their records are kept.
    waits: bool,
    strangers: TenantName,
    name: String,
    clock: Arc<dyn Clock>,
    queue: Mutex<VecDeque<Queued>>,
    wake: Arc<Notify>,
    /// For records of mutations.
    room: Arc<Semaphore>,
    /// For records of denials, apart: these never take the room of mutations.
    denials_room: Arc<Semaphore>,
    denials: Denials,
    /// Since when deliveries fail.
    failing: Mutex<Option<Instant>>,
    ending: AtomicBool,
    delivering: Mutex<Option<JoinHandle<()>>>,
    numbers: Numbers,
}

/// What waits to be delivered.
struct Queued {
    entry: Entry,
    /// Given back when it is kept.
    _room: OwnedSemaphorePermit,
    told: Option<oneshot::Sender<()>>,
}

/// Room for the record of one mutation; none: it will be counted as lost.
#[derive(Debug)]
pub(crate) struct Slot(Option<OwnedSemaphorePermit>);

#[derive(Debug, Default)]
struct Numbers {
    kept: Counter,
    lost: Counter,
    failures: Counter,
    waiting: Gauge,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Recorder({})", self.inner.name)
    }
}

impl Recorder {
    /// Starts to deliver to a sink, within a tokio runtime. `strict`: callers must show who they are, which is what
    /// [`Answer::Auto`] goes by. `name`: of the process. Error: a setting is out of its bounds.
    pub fn start(
        options: &Options,
        strict: bool,
        name: String,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, Invalid> {
        let strangers = options.check()?;
        let waits = match options.answer {
            Answer::Auto => strict,
            Answer::Kept => true,
            Answer::Queued => false,
        };
        let window = Duration::from_secs(options.window_seconds);
        let inner = Arc::new(Inner {
            waits,
            strangers,
            name,
            clock,
            queue: Mutex::default(),
            wake: Arc::new(Notify::new()),
            room: Arc::new(Semaphore::new(options.queue)),
            denials_room: Arc::new(Semaphore::new(DENIALS)),
            denials: Denials::new(window, options.distinct_denials),
            failing: Mutex::default(),
            ending: AtomicBool::new(false),
            delivering: Mutex::default(),
            numbers: Numbers::default(),
            options: options.clone(),
        });
        let delivering = deliver(Arc::downgrade(&inner), inner.wake.clone(), sink);
        *lock(&inner.delivering) = Some(tokio::spawn(delivering));
        Ok(Self { inner })
    }

    /// Adds what is counted here to the metrics of the process.
    pub fn measured(self, metrics: &Metrics) -> Self {
        let numbers = &self.inner.numbers;
        metrics.register(|registry| {
            for (name, help, counter) in [
                (
                    "audit_records_kept",
                    "Audit records that were kept",
                    &numbers.kept,
                ),
                (
                    "audit_records_lost",
                    "Audit records that could not be taken",
                    &numbers.lost,
                ),
                (
                    "audit_delivery_failures",
                    "Deliveries of audit records that failed",
                    &numbers.failures,
                ),
            ] {
                registry.register(name, help, counter.clone());
            }
            let help = "Audit records that wait to be kept";
            registry.register("audit_records_waiting", help, numbers.waiting.clone());
        });
        self
    }

    /// Delivers what is left, as far as that takes no longer than some seconds, and ends.
    pub async fn end(&self) {
        self.inner.ending.store(true, Ordering::Release);
        self.inner.wake.notify_one();
        let delivering = lock(&self.inner.delivering).take();
        if let Some(mut delivering) = delivering
            && tokio::time::timeout(LAST, &mut delivering).await.is_err()
        {
            delivering.abort();
            let left = self.inner.queue().len();
            self.inner.numbers.lost.inc_by(left as u64);
            tracing::error!(left, "audit records were not kept before the process ended");
        }
    }

    /// Records that somebody was refused before a service was asked. `path`: as it was called; other failures
    /// than denials are passed over.
    pub fn refused(
        &self,
        headers: &HeaderMap,
        path: &str,
        extensions: &Extensions,
        failure: &Failure,
    ) {
        if is_denial(failure) {
            self.denied(refusal(self.outer(headers, path, extensions), failure));
        }
    }

    /// The same for what becomes of a request later on.
    pub fn refusing(
        &self,
        headers: &HeaderMap,
        path: &str,
        extensions: &Extensions,
    ) -> impl Fn(&Failure) + Send + Sync + use<> {
        let (recorder, outer) = (self.clone(), self.outer(headers, path, extensions));
        move |failure| {
            if !is_denial(failure) {
                return;
            }
            let Entry {
                id,
                time,
                last_time,
                ..
            } = recorder.blank();
            let entry = Entry {
                id,
                time,
                last_time,
                ..outer.clone()
            };
            recorder.denied(refusal(entry, failure));
        }
    }

    /// What is known of a request that no service was asked about.
    fn outer(&self, headers: &HeaderMap, path: &str, extensions: &Extensions) -> Entry {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let principal = extensions.get::<Arc<Principal>>();
        let hop = Hop::of(extensions);
        let call = context::current();
        let trace = call.as_ref().map(|call| call.trace);
        let trace = trace.or_else(|| header("traceparent").and_then(Trace::parse));
        let request_id = header("x-request-id").filter(|id| id.len() <= 128);
        let mut entry = self.blank();
        if let Some(principal) = principal {
            entry.tenant = principal.tenant.clone();
            entry.who = Some(Who::of(principal));
        }
        entry.method.clone_from(&method(path).name);
        entry.request_id = match call {
            Some(call) => call.request_id,
            None => request_id.unwrap_or_default().to_owned(),
        };
        entry.trace_id = trace.map_or_else(String::new, |trace| trace.trace_id());
        entry.peer = hop
            .caller
            .map_or_else(String::new, |caller| caller.to_string());
        entry
    }

    /// An entry of nobody about nothing, now.
    pub(super) fn blank(&self) -> Entry {
        self.inner.blank()
    }

    /// Makes room for the record of a mutation. Error: UNAVAILABLE, there is none, and mutations without records
    /// are refused.
    pub(super) fn begin(&self) -> Result<Slot, Failure> {
        let inner = &self.inner;
        let refuse = inner.options.on_full == OnFull::Refuse;
        if refuse && inner.waits && inner.failing_for() > inner.patience() {
            return Err(unavailable("no", "nothing was done"));
        }
        match inner.room.clone().try_acquire_owned() {
            Ok(room) => Ok(Slot(Some(room))),
            Err(_) if refuse => Err(unavailable("no", "nothing was done")),
            Err(_) => Ok(Slot(None)),
        }
    }

    /// Takes the record of a mutation that has ended. Gives what [`Recorder::kept`] waits for.
    pub(super) fn ended(&self, slot: Slot, entry: Entry) -> Option<oneshot::Receiver<()>> {
        let Some(room) = slot.0 else {
            self.inner.lose(&entry);
            return None;
        };
        let (told, kept) = match self.inner.waits {
            true => {
                let (told, kept) = oneshot::channel();
                (Some(told), Some(kept))
            }
            false => (None, None),
        };
        self.inner.queue().push_back(Queued {
            entry,
            _room: room,
            told,
        });
        self.inner.wake.notify_one();
        kept
    }

    /// Waits until a record is kept. Error: UNAVAILABLE, it took too long; it will be, unless the process ends.
    pub(super) async fn kept(&self, kept: oneshot::Receiver<()>) -> Result<(), Failure> {
        match tokio::time::timeout(self.inner.patience(), kept).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(unavailable("yes", "the call was served")),
        }
    }

    /// Takes the record of a denial.
    pub(super) fn denied(&self, entry: Entry) {
        let inner = &self.inner;
        let Some(entry) = inner.denials.note(entry, Instant::now()) else {
            return;
        };
        match inner.denials_room.clone().try_acquire_owned() {
            Ok(room) => inner.push(entry, room),
            Err(_) => inner.denials.untold(&entry),
        }
    }
}

/// Whether a failure is a denial.
pub(super) fn is_denial(failure: &Failure) -> bool {
    matches!(failure.code, Code::PermissionDenied | Code::Unauthenticated)
}

/// The entry of a call that failed for whoever made it.
pub(super) fn refusal(mut entry: Entry, failure: &Failure) -> Entry {
    let code = failure.clone().into_status().code();
    entry.verdict = Verdict::Denied;
    entry.code = names::status_code(code.into()).to_owned();
    entry.reason = cut(&failure.reason);
    entry.rules = entry.rules.or_else(|| rules_told(&failure.metadata));
    entry
}

fn unavailable(served: &str, what: &str) -> Failure {
    Failure::new(Code::Unavailable, "AUDIT_UNAVAILABLE")
        .retry_after(Duration::from_secs(1))
        .metadata("served", served)
        .message(format!(
            "what is changed must be recorded, and cannot be at present: {what}; try again shortly"
        ))
}

impl Inner {
    fn blank(&self) -> Entry {
        let now = self.clock.now();
        Entry {
            id: new_id(),
            tenant: self.strangers.clone(),
            time: now,
            last_time: now,
            count: 1,
            request_id: String::new(),
            trace_id: String::new(),
            who: None,
            method: String::new(),
            right: None,
            project: None,
            verdict: Verdict::Allowed,
            policies: Vec::new(),
            rules: None,
            code: names::status_code(0).to_owned(),
            reason: String::new(),
            peer: String::new(),
            service: self.name.clone(),
        }
    }

    /// Counts a record as lost, in the log too.
    fn lose(&self, entry: &Entry) {
        self.numbers.lost.inc();
        let lost = Entry {
            verdict: Verdict::Lost,
            tenant: entry.tenant.clone(),
            reason: "AUDIT_UNAVAILABLE".into(),
            code: names::status_code(14).into(),
            ..self.blank()
        };
        self.denials.note(lost, Instant::now());
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Queued>> {
        lock(&self.queue)
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.options.patience_ms)
    }

    fn failing_for(&self) -> Duration {
        let failing = *lock(&self.failing);
        failing.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn push(&self, entry: Entry, room: OwnedSemaphorePermit) {
        self.queue().push_back(Queued {
            entry,
            _room: room,
            told: None,
        });
        self.wake.notify_one();
    }

    /// Queues what is to be told of denials whose windows have ended.
    fn queue_due(&self, all: bool) {
        let free = self.denials_room.available_permits();
        for entry in self.denials.due(Instant::now(), free, all) {
            match self.denials_room.clone().try_acquire_owned() {
                Ok(room) => self.push(entry, room),
                // Another denial came in between; it goes on being counted.
                Err(_) => {
                    if let Some(entry) = self.denials.note(entry, Instant::now()) {
                        self.denials.untold(&entry);
                    }
                }
            }
        }
    }

    /// Keeps one batch. Gives whether there is more to do at once. Error: it is to be tried again later.
    async fn keep_next(&self, sink: &dyn Sink, most: usize) -> Result<bool, Failure> {
        let batch: Vec<Entry> = {
            let queue = self.queue();
            self.numbers.waiting.set(queue.len() as i64);
            queue
                .iter()
                .take(most)
                .map(|queued| queued.entry.clone())
                .collect()
        };
        if batch.is_empty() {
            return Ok(false);
        }
        let count = batch.len();
        sink.keep(batch).await?;
        self.numbers.kept.inc_by(count as u64);
        *lock(&self.failing) = None;
        self.forget(count);
        Ok(true)
    }

    /// Takes the first ones off the queue. Only the delivering task does.
    fn forget(&self, count: usize) {
        let kept: Vec<Queued> = self.queue().drain(..count).collect();
        for queued in kept {
            if let Some(told) = queued.told {
                // Whoever waited may have gone.
                let _ = told.send(());
            }
        }
    }

    /// Takes the first one off the queue, which can never be kept. Whoever waits for it is told so, by nobody being
    /// there any more to tell that it is.
    fn give_up_first(&self) {
        let first = self.queue().pop_front();
        if let Some(first) = first {
            self.lose(&first.entry);
        }
    }

    fn failed(&self, failure: &Failure) {
        self.numbers.failures.inc();
        let mut failing = lock(&self.failing);
        if failing.is_none() {
            *failing = Some(Instant::now());
            tracing::warn!(
                problem = failure.message,
                "audit records cannot be kept; they wait"
            );
        }
    }
}

/// Delivers until the recorder is gone or ends.
async fn deliver(inner: Weak<Inner>, wake: Arc<Notify>, sink: Arc<dyn Sink>) {
    let (mut pause, mut most) = (None, BATCH);
    loop {
        match pause {
            // Nothing new makes a sink that fails work again.
            Some(pause) => tokio::time::sleep(pause).await,
            None => drop(tokio::time::timeout(TICK, wake.notified()).await),
        }
        let Some(inner) = inner.upgrade() else { return };
        let ending = inner.ending.load(Ordering::Acquire);
        inner.queue_due(ending);
        let failure = loop {
            match inner.keep_next(&*sink, most).await {
                Ok(true) => {
                    (pause, most) = (None, BATCH);
                    // Windows end also while there is always more to deliver.
                    inner.queue_due(false);
                }
                Ok(false) => break None,
                Err(failure) => break Some(failure),
            }
        };
        match failure {
            None if ending => return,
            None => {}
            Some(failure) if refuses_content(&failure) && most == 1 => {
                // It would keep all others from being kept.
                tracing::error!(
                    problem = failure.message,
                    "an audit record was refused for good"
                );
                inner.give_up_first();
                pause = Some(PAUSES.0);
            }
            Some(failure) if refuses_content(&failure) => {
                (pause, most) = (Some(PAUSES.0), 1);
            }
            Some(failure) => {
                inner.failed(&failure);
                let next = pause.map_or(PAUSES.0, |pause: Duration| pause * 2);
                pause = Some(next.min(PAUSES.1));
            }
        }
    }
}

/// Whether what was delivered is no good, however often it is delivered again.
fn refuses_content(failure: &Failure) -> bool {
    failure.code == Code::InvalidArgument || failure.reason == "MESSAGE_TOO_LARGE"
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
