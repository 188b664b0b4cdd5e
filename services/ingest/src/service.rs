//! The ingest service: receive, read, append.

use std::sync::Arc;
use std::time::Duration;

use commonplace_proto::ingest as proto;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::ingest_service_server::{IngestService, IngestServiceServer};
use commonplace_proto::journal as journal_proto;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::{Channel, Code, Failure, context, convert as shared_convert, server, status};
use commonplace_types::{Draft, Invalid, Reference, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Request, Response, Status, Streaming};

use crate::adapter::{Refusal, Stopped, cut_line};
use crate::config::Options;
use crate::convert::{self, Header, Target};
use crate::error::IngestError;
use crate::intake::{self, Tally};
use crate::redact::{Receipts, Redactor};

/// Most bytes of one chunk of a report.
const CHUNK_BYTES: usize = 1 << 20;
/// Most events of one call.
const CALL_EVENTS: usize = 5_000;
/// Batches that are read ahead of the journal.
const BATCHES_AHEAD: usize = 2;
/// Events that are fetched at once, so that even the largest fit a message.
const HELD_AT_ONCE: usize = 16;
/// How often an append is tried, always under the same request id.
const ATTEMPTS: u32 = 6;
/// Longest delay that is waited out here.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

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
}

/// Starts the service over a channel to the journal. Nothing runs in the background, so there is nothing to
/// stop. Error: a wrong setting or redaction pattern; names it.
pub async fn start(options: Options, journal: Channel) -> Result<Ingest, IngestError> {
    let options = options.checked()?;
    let redactor = Redactor::new(&options.redaction)?;
    let memory = Arc::new(Semaphore::new(options.max_buffered_bytes.div_ceil(1_024)));
    let shared = Shared {
        options,
        redactor,
        journal,
        memory,
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
        let (sender, mut batches) = mpsc::channel::<Vec<Draft>>(BATCHES_AHEAD);
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || {
            intake::check(&report.bytes, format, &shared.options)?;
            let mut append = |batch| match validate_only {
                true => Ok(()),
                false => sender.blocking_send(batch).map_err(|_| Stopped),
            };
            intake::read(
                &report.bytes,
                format,
                origin,
                &shared.redactor,
                &shared.options,
                &mut append,
            )
        });
        let mut appender = Appender::new(&self.shared, target);
        while let Some(batch) = batches.recv().await {
            appender.append(batch).await?;
        }
        let tally = reading.await.map_err(|_| IngestError::Interrupted)??;
        appender.summary(tally).await
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
        if events.is_empty() || events.len() > CALL_EVENTS {
            let problem = format!("expected 1 to {CALL_EVENTS} events, found {}", events.len());
            return Err(Invalid::new("events", problem).into());
        }
        let target = convert::target_from_proto(&project, &branch, &author, message)?;
        let shared = self.shared.clone();
        let taking = tokio::task::spawn_blocking(move || {
            convert::events_from_proto(events, author, &shared.redactor, &shared.options)
        });
        let taken = taking.await.map_err(|_| IngestError::Interrupted)?;
        let mut appender = Appender::new(&self.shared, target);
        for batch in taken.batches {
            appender.append(batch).await?;
        }
        let mut event_ids = taken.ids;
        for id in &mut event_ids {
            if appender.refused.contains(id) {
                id.clear();
            }
        }
        let summary = appender.summary(taken.tally).await?;
        Ok(proto::IngestEventsResponse {
            summary: Some(summary),
            event_ids,
        })
    }
}

/// Appends the batches of one call and counts what became of them.
struct Appender {
    journal: JournalServiceClient<Channel>,
    target: Target,
    added: u64,
    duplicates: u64,
    /// Ids that the project holds with other content.
    refused: Vec<String>,
    /// The last commit that an append gave.
    commit: Option<String>,
}

impl Appender {
    fn new(shared: &Shared, target: Target) -> Self {
        let journal = JournalServiceClient::new(shared.journal.clone())
            .max_decoding_message_size(server::MESSAGE_BYTES)
            .max_encoding_message_size(server::MESSAGE_BYTES);
        let clean =
            |text: &str, most| cut_line(&shared.redactor.text(text, &mut Receipts::new()), most);
        let target = Target {
            author: clean(&target.author, limits::ACTOR_BYTES),
            message: clean(&target.message, limits::TITLE_BYTES),
            ..target
        };
        Self {
            journal,
            target,
            added: 0,
            duplicates: 0,
            refused: Vec::new(),
            commit: None,
        }
    }

    /// Appends a batch. Events that the branch holds already, even from another source, count as duplicates;
    /// an id that the project holds with other content is refused, the others are appended.
    async fn append(&mut self, batch: Vec<Draft>) -> Result<(), IngestError> {
        match self.try_append(&batch).await {
            Ok(()) => return Ok(()),
            Err(failure) if failure.code == Code::AlreadyExists => {}
            Err(failure) => return Err(IngestError::Journal(failure)),
        }
        let held = self.held(&batch).await?;
        let mut fresh = Vec::with_capacity(batch.len());
        for (draft, held) in batch.into_iter().zip(held) {
            match held {
                None => fresh.push(draft),
                Some(held) if intake::says_the_same(&draft, &held) => self.duplicates += 1,
                Some(_) => self.refused.extend(draft.id.map(|id| id.to_string())),
            }
        }
        self.append_apart(fresh).await
    }

    /// Appends drafts of which some may be refused because another branch holds their ids: halves what is
    /// refused until the refused ones stand alone.
    async fn append_apart(&mut self, drafts: Vec<Draft>) -> Result<(), IngestError> {
        let mut open = vec![drafts];
        while let Some(mut part) = open.pop() {
            if part.is_empty() {
                continue;
            }
            match self.try_append(&part).await {
                Ok(()) => {}
                Err(failure) if failure.code != Code::AlreadyExists => {
                    return Err(IngestError::Journal(failure));
                }
                Err(_) if part.len() == 1 => {
                    self.refused.extend(part[0].id.map(|id| id.to_string()));
                }
                Err(_) => {
                    let second = part.split_off(part.len() / 2);
                    open.extend([second, part]);
                }
            }
        }
        Ok(())
    }

    /// One append, repeated under the same request id while the journal says that it may succeed later.
    async fn try_append(&mut self, batch: &[Draft]) -> Result<(), Failure> {
        let request = journal_proto::AppendRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            project: self.target.project.to_string(),
            branch: self.target.branch.to_string(),
            expected_head: String::new(),
            author: self.target.author.clone(),
            message: self.target.message.clone(),
            events: batch.iter().map(shared_convert::draft_to_proto).collect(),
        };
        let mut attempt = 1;
        let answer = loop {
            match self.journal.append(request.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(refused) => wait_to_repeat(Failure::from_status(&refused), attempt).await?,
            }
            attempt += 1;
        };
        let duplicates = answer.events.iter().filter(|event| event.duplicate).count() as u64;
        self.duplicates += duplicates;
        self.added += (answer.events.len() as u64).saturating_sub(duplicates);
        self.commit = answer
            .commit
            .map(|commit| commit.hash)
            .or(self.commit.take());
        Ok(())
    }

    /// What the branch holds under the ids of the drafts, one for each.
    async fn held(&mut self, drafts: &[Draft]) -> Result<Vec<Option<Draft>>, IngestError> {
        let mut held = Vec::with_capacity(drafts.len());
        // A report that came before under another name is there as a whole; few enough to fit a message.
        for group in drafts.chunks(HELD_AT_ONCE) {
            match self.get(group).await? {
                Some(events) => held.extend(events.into_iter().map(Some)),
                None => {
                    for draft in group.chunks(1) {
                        held.push(self.get(draft).await?.and_then(|mut events| events.pop()));
                    }
                }
            }
        }
        Ok(held)
    }

    /// The events with the ids of the drafts as the branch holds them; nothing when one of them is missing.
    async fn get(&mut self, drafts: &[Draft]) -> Result<Option<Vec<Draft>>, IngestError> {
        let branch = Reference::Branch(self.target.branch.clone());
        let request = journal_proto::GetEventsRequest {
            project: self.target.project.to_string(),
            as_of: Some(shared_convert::reference_to_proto(&branch)),
            ids: drafts
                .iter()
                .filter_map(|draft| draft.id)
                .map(|id| id.to_string())
                .collect(),
        };
        match self.journal.get_events(request).await {
            Ok(found) => {
                let events = found.into_inner().events.into_iter();
                let drafts = events.map(|event| Ok(shared_convert::event_from_proto(event)?.draft));
                Ok(Some(drafts.collect::<Result<_, Invalid>>()?))
            }
            Err(refused) => match Failure::from_status(&refused) {
                failure if failure.code == Code::NotFound => Ok(None),
                failure => Err(IngestError::Journal(failure)),
            },
        }
    }

    async fn summary(mut self, mut tally: Tally) -> Result<proto::IngestSummary, IngestError> {
        for id in &self.refused {
            let reason = format!(
                "`{id}` is the id of an event with other content, or of one that another branch got from another source"
            );
            tally.refusals.push(Refusal {
                location: id.clone(),
                field: "id".into(),
                reason,
            });
        }
        let commit = match self.commit.take() {
            Some(commit) => commit,
            None => self.head().await?,
        };
        Ok(convert::summary_to_proto(
            tally,
            self.added,
            self.duplicates,
            commit,
        ))
    }

    /// The branch's newest commit; empty when the branch does not exist yet.
    async fn head(&mut self) -> Result<String, IngestError> {
        let reference = Reference::Branch(self.target.branch.clone());
        let request = journal_proto::ResolveRequest {
            project: self.target.project.to_string(),
            reference: Some(shared_convert::reference_to_proto(&reference)),
        };
        match self.journal.resolve(request).await {
            Ok(answer) => Ok(answer
                .into_inner()
                .commit
                .map(|commit| commit.hash)
                .unwrap_or_default()),
            Err(refused) => match Failure::from_status(&refused) {
                failure if failure.code == Code::NotFound => Ok(String::new()),
                failure => Err(IngestError::Journal(failure)),
            },
        }
    }
}

/// Waits before an append is repeated. Error: repeating will not help, or there is no time for it.
async fn wait_to_repeat(failure: Failure, attempt: u32) -> Result<(), Failure> {
    let passing = matches!(
        failure.code,
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted
    );
    let delay = failure
        .retry_after
        .unwrap_or(Duration::from_millis(20) * 2_u32.pow(attempt.min(8)));
    let in_time = context::remaining().is_none_or(|left| left > delay);
    // A long delay, such as that of a full disk, is for the caller to wait out, who can do something about it.
    if !passing || attempt >= ATTEMPTS || !in_time || delay > LONGEST_DELAY {
        return Err(failure);
    }
    tokio::time::sleep(delay).await;
    Ok(())
}
