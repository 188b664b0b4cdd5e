//! Sends spans to an OTLP collector, from a thread of its own.
//!
//! Whoever ends a span hands it into a bounded queue and goes on; what does not fit is counted and dropped. The
//! thread has a runtime of its own with nothing else on it, so that a collector that refuses or stays silent costs
//! the services nothing, whatever number of threads they have.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

use crate::options::TelemetryError;
use crate::otlp::{About, Exporters};
use crate::span::Span;
use crate::spans::Spans;

/// Most spans of one message.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a collector may take for one message. The exporter sends again within this, and no longer.
const TIMEOUT: Duration = Duration::from_secs(5);
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
        about: About,
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
            runtime.block_on(async {
                // Opened within the runtime whose threads it uses.
                let connection = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
                let exporters = Exporters::new(connection.connect_lazy(), about, TIMEOUT);
                Sender { exporters, spans }.run(waiting, stopped).await;
            });
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
    exporters: Exporters,
    spans: Arc<Spans>,
}

impl Sender {
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<Arc<Span>>,
        mut stopped: oneshot::Receiver<()>,
    ) {
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
                self.send(&mut batch).await;
            };
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = sending => {}
            }
        }
        waiting.close();
        let rest = async {
            // What was taken and not sent, and what still waits.
            self.send(&mut batch).await;
            while waiting.recv_many(&mut batch, BATCH).await > 0 {
                self.send(&mut batch).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, rest).await;
    }

    /// Sends a batch and empties it. Broken off, it keeps what was not sent for sure: that may come twice.
    async fn send(&mut self, batch: &mut Vec<Arc<Span>>) {
        for (service, spans) in self.exporters.apart(batch) {
            let count = spans.len() as u64;
            let sending = self.exporters.send(service, spans);
            // The exporter's own time ends between two tries, never within one.
            let sent = tokio::time::timeout(2 * TIMEOUT, sending).await;
            match sent.unwrap_or_else(|_| Err("the collector does not answer".to_owned())) {
                Ok(()) => {
                    self.spans.sent.inc_by(count);
                }
                Err(problem) => {
                    self.spans.failed.inc_by(count);
                    tracing::debug!(problem, service, count, "spans could not be sent");
                }
            }
            batch.retain(|span| span.service != service);
        }
    }
}
