//! Sends spans to an OTLP collector, from a thread of its own.
//!
//! Whoever ends a span hands it into a bounded queue and goes on; what does not fit is counted and dropped. The
//! thread has a runtime of its own with nothing else on it, so that a collector that refuses or stays silent costs
//! the services nothing, whatever number of threads they have.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use crate::options::TelemetryError;
use crate::otlp::{self, Resource};
use crate::span::Span;
use crate::spans::Spans;

/// Most spans of one message.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A batch is sent again this often when the collector was away, after growing waits.
const TRIES: u32 = 3;
/// What is still held at the end is sent within this.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where ended spans are handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    queue: mpsc::Sender<Arc<Span>>,
    spans: Arc<Spans>,
}

impl Outlet {
    /// Hands a span in, if there is room.
    pub(crate) fn offer(&self, span: &Arc<Span>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(span.clone()) {
            self.spans.dropped.inc();
        }
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: Option<oneshot::Sender<()>>,
    ended: std::sync::mpsc::Receiver<()>,
}

impl Exporter {
    /// Starts the thread. Error: the address is none, or no thread can be had.
    pub(crate) fn start(
        endpoint: &str,
        queue: usize,
        resource: Resource,
        spans: Arc<Spans>,
    ) -> Result<(Self, Outlet), TelemetryError> {
        let unusable = |problem: &str| TelemetryError::Otlp(problem.to_owned());
        if !endpoint.starts_with("http://") {
            return Err(unusable(
                "expected an address like http://127.0.0.1:4317; a collector beside this process sends on with TLS",
            ));
        }
        let endpoint = Endpoint::from_shared(endpoint.to_owned());
        let endpoint = endpoint.map_err(|error| TelemetryError::Otlp(error.to_string()))?;
        let (queue, waiting) = mpsc::channel(queue.max(1));
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel();
        let outlet = Outlet {
            queue,
            spans: spans.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TelemetryError::Thread)?;
        let work = move || {
            let sender = Sender {
                endpoint,
                resource,
                spans,
            };
            runtime.block_on(sender.run(waiting, stopped));
            // Nobody may wait for it any more.
            let _ = end.send(());
        };
        let thread = std::thread::Builder::new().name("otlp".into());
        thread.spawn(work).map_err(TelemetryError::Thread)?;
        let exporter = Self {
            stop: Some(stop),
            ended,
        };
        Ok((exporter, outlet))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = self
            .ended
            .recv_timeout(GOODBYE + Duration::from_millis(100));
    }
}

struct Sender {
    endpoint: Endpoint,
    resource: Resource,
    spans: Arc<Spans>,
}

impl Sender {
    async fn run(self, mut waiting: mpsc::Receiver<Arc<Span>>, mut stopped: oneshot::Receiver<()>) {
        let channel = self
            .endpoint
            .clone()
            .connect_timeout(TIMEOUT)
            .connect_lazy();
        let client = TraceServiceClient::new(channel).send_compressed(CompressionEncoding::Gzip);
        let mut batch = Vec::new();
        loop {
            let sending = async {
                if waiting.recv_many(&mut batch, BATCH).await == 0 {
                    return;
                }
                tokio::time::sleep(PERIOD).await;
                while batch.len() < BATCH
                    && let Ok(span) = waiting.try_recv()
                {
                    batch.push(span);
                }
                self.send(client.clone(), &batch, TRIES).await;
                batch.clear();
            };
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = sending => {}
            }
        }
        let rest = async {
            // What was taken and perhaps not sent, and what still waits.
            while let Ok(span) = waiting.try_recv() {
                batch.push(span);
            }
            for part in batch.chunks(BATCH) {
                self.send(client.clone(), part, 1).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, rest).await;
    }

    async fn send(&self, client: TraceServiceClient<Channel>, batch: &[Arc<Span>], tries: u32) {
        let request = otlp::request(&self.resource, batch);
        let count = batch.len() as u64;
        for attempt in 1..=tries {
            let mut message = tonic::Request::new(request.clone());
            message.set_timeout(TIMEOUT);
            let mut client = client.clone();
            let sent = tokio::time::timeout(TIMEOUT, client.export(message)).await;
            let problem = match sent {
                Ok(Ok(answer)) => {
                    let partial = answer.into_inner().partial_success;
                    let refused = partial.map_or(0, |partial| partial.rejected_spans.max(0) as u64);
                    let refused = refused.min(count);
                    self.spans.sent.inc_by(count - refused);
                    self.spans.failed.inc_by(refused);
                    return;
                }
                Ok(Err(status)) if !may_repeat(status.code()) => {
                    tracing::warn!(problem = status.message(), "the collector refuses spans");
                    break;
                }
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
            };
            tracing::debug!(problem, attempt, "spans could not be sent");
            if attempt < tries {
                tokio::time::sleep(PERIOD * 2_u32.pow(attempt)).await;
            }
        }
        self.spans.failed.inc_by(count);
    }
}

/// Source: OTLP 1.9, "OTLP/gRPC response": which codes a client may send again after.
fn may_repeat(code: tonic::Code) -> bool {
    use tonic::Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, Unavailable};
    matches!(
        code,
        Aborted | Cancelled | DataLoss | DeadlineExceeded | OutOfRange | Unavailable
    )
}
