//! The one task that writes. Requests wait in a bounded queue; whatever waits is written as one
//! transaction with one sync to disk, so the more clients append at once, the less a sync costs each.

use std::sync::Arc;
use std::time::Instant;

use commonplace_rpc::context;
use commonplace_types::TenantName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

use crate::metrics::Numbers;
use crate::store::{Store, Write, Written};
use crate::{JournalError, Options};

/// A group ends with the request that reaches one of these.
const GROUP_REQUESTS: usize = 1_024;
const GROUP_EVENTS: usize = 10_000;
const GROUP_BYTES: u64 = 16 << 20;

struct Job {
    write: Write,
    /// The call that waits, as its `traceparent`.
    trace: String,
    answer: oneshot::Sender<Result<Written, JournalError>>,
    /// Given back once the request is answered.
    _bytes: OwnedSemaphorePermit,
}

/// Where requests are handed in.
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
    /// Kibibytes that may still wait.
    room: Arc<Semaphore>,
    numbers: Numbers,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A handle that only hands in.
#[derive(Clone)]
pub(crate) struct Queue {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    numbers: Numbers,
}

impl Writer {
    pub(crate) fn start(store: Arc<Store>, options: &Options) -> Self {
        let (queue, jobs) = mpsc::channel(options.queue_appends);
        let (stop, stopped) = oneshot::channel();
        let numbers = Numbers::new();
        Self {
            queue,
            room: Arc::new(Semaphore::new(options.queue_mebibytes * 1_024)),
            stop,
            task: tokio::spawn(run(store, jobs, stopped, numbers.clone())),
            numbers,
        }
    }

    pub(crate) fn queue(&self) -> Queue {
        Queue {
            jobs: self.queue.clone(),
            room: self.room.clone(),
            numbers: self.numbers.clone(),
        }
    }

    /// Refuses what comes from now on, writes what waits, and returns when all is answered.
    pub(crate) async fn drain(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            tracing::error!("the writer task ended by itself");
        }
    }
}

impl Queue {
    /// Waits for the answer. Once handed in, a request is carried out even when its caller goes away.
    /// Errors: [`JournalError::QueueFull`], [`JournalError::Stopping`], and what the store answers.
    pub(crate) async fn write(&self, write: Write) -> Result<Written, JournalError> {
        let started = Instant::now();
        let answer = self.hand_in(write).await;
        self.numbers.answered(&answer, started.elapsed());
        answer
    }

    /// What is counted here.
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    async fn hand_in(&self, write: Write) -> Result<Written, JournalError> {
        let kibibytes = u32::try_from(write.bytes() / 1_024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kibibytes);
        let bytes = room.map_err(|_| JournalError::QueueFull)?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            write,
            trace: context::traceparent(),
            answer,
            _bytes: bytes,
        };
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => JournalError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => JournalError::Stopping,
        })?;
        let waiting = tracing::info_span!("wait for the group");
        let answer = answered.instrument(waiting).await;
        answer.unwrap_or(Err(JournalError::Stopping))
    }
}

async fn run(
    store: Arc<Store>,
    mut jobs: mpsc::Receiver<Job>,
    mut stop: oneshot::Receiver<()>,
    numbers: Numbers,
) {
    loop {
        let first = tokio::select! {
            biased;
            _ = &mut stop, if !jobs.is_closed() => {
                // What waits is still received and written.
                jobs.close();
                continue;
            }
            job = jobs.recv() => job,
        };
        match first {
            Some(first) => {
                let group = collect(first, &mut jobs);
                numbers.grouped(group.len());
                write_group(&store, group).await;
            }
            None => return,
        }
    }
}

/// The first request and those that wait behind it, within the bounds of a group.
fn collect(first: Job, jobs: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let (mut events, mut bytes) = (first.write.events(), first.write.bytes());
    let mut group = vec![first];
    while group.len() < GROUP_REQUESTS && events < GROUP_EVENTS && bytes < GROUP_BYTES {
        let Ok(job) = jobs.try_recv() else {
            break;
        };
        events += job.write.events();
        bytes += job.write.bytes();
        group.push(job);
    }
    group
}

async fn write_group(store: &Store, group: Vec<Job>) {
    let (mut writes, mut waiting) = (Vec::new(), Vec::new());
    let span = span_of(&group);
    for job in group {
        writes.push(job.write);
        waiting.push((job.answer, job._bytes));
    }
    let answers = store.apply(writes).instrument(span).await;
    for ((caller, _bytes), answer) in waiting.into_iter().zip(answers) {
        // A caller that went away is no error: its request is written all the same.
        let _ = caller.send(answer);
    }
}

/// A group belongs to the call that came first, and follows from the others that it answers. Where it holds what
/// several tenants wrote it is told to none of them.
fn span_of(group: &[Job]) -> Span {
    let of = |job: &Job| job.write.project().0.clone();
    let tenant = group.first().map(of);
    let tenant = tenant.filter(|tenant| group.iter().all(|job| job.write.project().0 == tenant));
    let parent = group.first().map(|job| job.trace.as_str());
    let others = group.iter().skip(1).map(|job| job.trace.as_str());
    let link = (group.len() > 1).then(|| others.collect::<Vec<_>>().join(" "));
    tracing::info_span!(
        "write a group",
        service = "journal",
        tenant = tenant.as_ref().map(TenantName::as_str),
        parent,
        link,
        commonplace.batch.size = group.len(),
    )
}
