//! The ingest service: receive, read, append.

use std::sync::Arc;

use commonplace_proto::ingest as proto;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_server::{IngestService, IngestServiceServer};
use commonplace_rpc::{Channel, server, status};
use commonplace_types::Invalid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

use crate::adapter::Stopped;
use crate::cancel::{Cancel, CancelOnDrop};
use crate::client::{Appender, with_places};
use crate::config::Options;
use crate::convert::{self, Header, Taken, Target};
use crate::error::IngestError;
use crate::intake::{self, Placed};
use crate::redact::Redactor;

/// Most bytes of one chunk of a report.
const CHUNK_BYTES: usize = 1 << 20;
/// Most events of one call.
const CALL_EVENTS: usize = 5_000;
/// Batches that are read ahead of the journal.
const BATCHES_AHEAD: usize = 2;

/// The running service; clones share it.
#[derive(Debug, Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    redactor: Redactor,
    journal: Channel,
    /// Memory for reports, in KiB.
    memory: Arc<Semaphore>,
    /// Calls that may be read and masked at once.
    readers: Arc<Semaphore>,
}

/// Starts the service over a channel to the journal. Nothing runs in the background, so there is nothing to
/// stop. Error: a wrong setting or redaction pattern; names it.
pub async fn start(options: Options, journal: Channel) -> Result<Ingest, IngestError> {
    let options = options.checked()?;
    let redactor = Redactor::new(&options.redaction)?;
    let memory = Arc::new(Semaphore::new(options.max_buffered_bytes.div_ceil(1_024)));
    let readers = Arc::new(Semaphore::new(options.max_readers));
    let shared = Shared {
        options,
        redactor,
        journal,
        memory,
        readers,
    };
    Ok(Ingest {
        shared: Arc::new(shared),
    })
}

impl Ingest {
    /// The service as a server, ready to be routed.
    pub fn service(&self) -> IngestServiceServer<Self> {
        IngestServiceServer::new(self.clone())
            .max_decoding_message_size(server::MESSAGE_BYTES)
            .max_encoding_message_size(server::MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn ingest_events(
        &self,
        request: Request<proto::IngestEventsRequest>,
    ) -> Result<Response<proto::IngestEventsResponse>, Status> {
        let answer = self.events(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(answer))
    }

    async fn ingest_report(
        &self,
        request: Request<Streaming<proto::IngestReportRequest>>,
    ) -> Result<Response<proto::IngestReportResponse>, Status> {
        let mut stream = request.into_inner();
        let header = match stream.message().await? {
            Some(proto::IngestReportRequest {
                part: Some(Part::Header(header)),
            }) => header,
            _ => {
                return Err(status(Invalid::new(
                    "header",
                    "expected the header as the first message",
                )));
            }
        };
        let header = convert::header_from_proto(header).map_err(status)?;
        let report = self.receive(&mut stream).await?;
        let summary = self.report(header, report).await.map_err(status)?;
        Ok(Response::new(proto::IngestReportResponse {
            summary: Some(summary),
        }))
    }

    async fn commit(
        &self,
        request: Request<proto::CommitRequest>,
    ) -> Result<Response<proto::CommitResponse>, Status> {
        let answer = self.one_commit(request.into_inner()).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn list_formats(
        &self,
        _request: Request<proto::ListFormatsRequest>,
    ) -> Result<Response<proto::ListFormatsResponse>, Status> {
        Ok(Response::new(convert::formats_to_proto()))
    }
}

/// A report in memory, with its share of the memory for reports.
struct Report {
    bytes: Vec<u8>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Ingest {
    /// Takes in the chunks of a report; refuses as soon as it grows beyond a limit.
    async fn receive(
        &self,
        stream: &mut Streaming<proto::IngestReportRequest>,
    ) -> Result<Report, Status> {
        let mut report = Report {
            bytes: Vec::new(),
            _memory: None,
        };
        let limit = self.shared.options.max_report_bytes;
        while let Some(message) = stream.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(status(Invalid::new(
                    "chunk",
                    "expected only chunks after the header",
                )));
            };
            if chunk.len() > CHUNK_BYTES {
                let problem = format!(
                    "expected at most {CHUNK_BYTES} bytes, found {}",
                    chunk.len()
                );
                return Err(status(Invalid::new("chunk", problem)));
            }
            if report.bytes.len() + chunk.len() > limit {
                return Err(status(IngestError::ReportTooLarge { limit }));
            }
            let share = self.memory_for(chunk.len()).map_err(status)?;
            match &mut report._memory {
                Some(memory) => memory.merge(share),
                none => *none = Some(share),
            }
            report.bytes.extend_from_slice(&chunk);
        }
        Ok(report)
    }

    fn memory_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, IngestError> {
        let kib = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
        let memory = self.shared.memory.clone();
        memory
            .try_acquire_many_owned(kib)
            .map_err(|_| IngestError::Busy)
    }

    /// Does work of some length on a thread of its own, a few such at once. When the call ends early, the work
    /// is told; what it was given, memory included, is held until it has ended.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, Cancel) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<Reading<T>, IngestError> {
        let readers = self.shared.readers.clone();
        let turn = readers.acquire_owned().await;
        let turn = turn.map_err(|_| IngestError::Interrupted)?;
        let (shared, cancel) = (self.shared.clone(), Cancel::default());
        let told = cancel.on_drop();
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&shared, cancel);
            drop(turn);
            done
        });
        Ok(Reading { task, _told: told })
    }

    /// Reads a report as a whole, then again to append it batch by batch as the journal takes them.
    async fn report(
        &self,
        header: Header,
        report: Report,
    ) -> Result<proto::IngestSummary, IngestError> {
        let Header {
            target,
            format,
            origin,
            validate_only,
        } = header;
        let (sender, mut batches) = mpsc::channel::<Vec<Placed>>(BATCHES_AHEAD);
        let reading = self
            .read(move |shared, cancel| {
                // All of the report moves here: its share of the memory is free when reading has ended.
                let report = report;
                intake::check(&report.bytes, format, &shared.options, &cancel)?;
                intake::read(
                    &report.bytes,
                    format,
                    origin,
                    &shared.redactor,
                    &shared.options,
                    &cancel,
                    &mut |batch| sender.blocking_send(batch).map_err(|_| Stopped),
                )
            })
            .await?;
        let appender = self.appender(target);
        let mut appender = appender.of_report(format.names_commits, validate_only);
        while let Some(batch) = batches.recv().await {
            appender.append(batch).await?;
        }
        let tally = reading.done().await?;
        let most = self.shared.options.max_refusals;
        appender.summary(tally, most).await
    }

    fn appender(&self, target: Target) -> Appender {
        let Shared {
            journal, redactor, ..
        } = &*self.shared;
        Appender::new(journal.clone(), redactor, target)
    }

    /// Takes drafts as a whole and appends them as one commit.
    async fn one_commit(
        &self,
        request: proto::CommitRequest,
    ) -> Result<proto::CommitResponse, IngestError> {
        let proto::CommitRequest {
            request_id,
            project,
            branch,
            expected_head,
            author,
            message,
            events,
        } = request;
        check_count(events.len())?;
        let target = convert::target_from_proto(&project, &branch, &author, message)?;
        let taking = self
            .read(move |shared, cancel| {
                let Shared {
                    redactor, options, ..
                } = shared;
                convert::commit_from_proto(events, author, redactor, options, cancel)
            })
            .await?;
        let taken = taking.done().await?;
        let mut appender = self.appender(target);
        let answer = appender
            .commit(request_id, expected_head, taken.drafts.iter())
            .await
            .map_err(|failure| IngestError::Journal(with_places(failure, &taken.sent)))?;
        Ok(convert::commit_to_proto(answer, taken))
    }

    /// Takes drafts one by one and appends those that hold.
    async fn events(
        &self,
        request: proto::IngestEventsRequest,
    ) -> Result<proto::IngestEventsResponse, IngestError> {
        let proto::IngestEventsRequest {
            project,
            branch,
            author,
            message,
            events,
        } = request;
        check_count(events.len())?;
        let target = convert::target_from_proto(&project, &branch, &author, message)?;
        let taking = self
            .read(move |shared, cancel| {
                let Shared {
                    redactor, options, ..
                } = shared;
                convert::events_from_proto(events, author, redactor, options, cancel)
            })
            .await?;
        let mut taken = taking.done().await?;
        let mut appender = self.appender(target).of_events();
        let firsts = taken.take_firsts();
        for batch in taken.batches {
            appender.append(batch).await?;
        }
        let event_ids = Taken::ids(&firsts, std::mem::take(&mut appender.ids));
        let most = self.shared.options.max_refusals;
        let summary = appender.summary(taken.tally, most).await?;
        Ok(proto::IngestEventsResponse {
            summary: Some(summary),
            event_ids,
        })
    }
}

/// Work on another thread.
struct Reading<T> {
    task: JoinHandle<Result<T, IngestError>>,
    /// Dropped with the call, whether it waits for the end or not.
    _told: CancelOnDrop,
}

impl<T> Reading<T> {
    async fn done(self) -> Result<T, IngestError> {
        self.task.await.map_err(|_| IngestError::Interrupted)?
    }
}

fn check_count(events: usize) -> Result<(), Invalid> {
    if (1..=CALL_EVENTS).contains(&events) {
        return Ok(());
    }
    let problem = format!("expected 1 to {CALL_EVENTS} events, found {events}");
    Err(Invalid::new("events", problem))
}
