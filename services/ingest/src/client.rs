//! The journal, through its generated client: what one call appends there.

use std::time::Duration;

use commonplace_proto::common::Commit;
use commonplace_proto::ingest as proto;
use commonplace_proto::journal as journal_proto;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_rpc::{Channel, Code, Failure, context, convert as shared_convert, server};
use commonplace_types::{Draft, Invalid, Reference, limits};

use crate::adapter::{Refusal, cut_line};
use crate::convert::{self, Target};
use crate::error::IngestError;
use crate::intake::{self, Tally};
use crate::redact::{Receipts, Redactor};

/// Events that are fetched at once, so that even the largest fit a message.
const HELD_AT_ONCE: usize = 16;
/// How often an append is tried, always under the same request id.
const ATTEMPTS: u32 = 6;
/// Longest delay that is waited out here.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Appends the batches of one call and counts what became of them.
pub(crate) struct Appender {
    journal: JournalServiceClient<Channel>,
    target: Target,
    added: u64,
    duplicates: u64,
    /// Ids that the project holds with other content.
    pub(crate) refused: Vec<String>,
    /// The last commit that an append gave.
    commit: Option<String>,
}

impl Appender {
    /// Over a channel to the journal; author and message are masked.
    pub(crate) fn new(journal: Channel, redactor: &Redactor, target: Target) -> Self {
        let journal = JournalServiceClient::new(journal)
            .max_decoding_message_size(server::MESSAGE_BYTES)
            .max_encoding_message_size(server::MESSAGE_BYTES);
        let clean = |text: &str, most| cut_line(&redactor.text(text, &mut Receipts::new()), most);
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
    pub(crate) async fn append(&mut self, batch: Vec<Draft>) -> Result<(), IngestError> {
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
        let request_id = uuid::Uuid::new_v4().to_string();
        let answer = self.commit(request_id, String::new(), batch).await?;
        let duplicates = answer.events.iter().filter(|event| event.duplicate).count() as u64;
        self.duplicates += duplicates;
        self.added += (answer.events.len() as u64).saturating_sub(duplicates);
        let commit: Option<Commit> = answer.commit;
        self.commit = commit.map(|commit| commit.hash).or(self.commit.take());
        Ok(())
    }

    /// Appends as one commit. `request_id`: a UUID, empty for a new one; `expected_head`: empty for any. Repeated
    /// under the same request id while the journal says that it may succeed later.
    pub(crate) async fn commit(
        &mut self,
        request_id: String,
        expected_head: String,
        drafts: &[Draft],
    ) -> Result<journal_proto::AppendResponse, Failure> {
        let request_id = match request_id.is_empty() {
            true => uuid::Uuid::new_v4().to_string(),
            false => request_id,
        };
        let request = journal_proto::AppendRequest {
            request_id,
            project: self.target.project.to_string(),
            branch: self.target.branch.to_string(),
            expected_head,
            author: self.target.author.clone(),
            message: self.target.message.clone(),
            events: drafts.iter().map(shared_convert::draft_to_proto).collect(),
        };
        let mut attempt = 1;
        loop {
            match self.journal.append(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(refused) => {
                    let failure = Failure::from_status(&refused);
                    // A lost race is for the caller to decide about.
                    if failure.code == Code::Aborted && !request.expected_head.is_empty() {
                        return Err(failure);
                    }
                    wait_to_repeat(failure, attempt).await?;
                }
            }
            attempt += 1;
        }
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

    /// What became of everything that was appended.
    pub(crate) async fn summary(
        mut self,
        mut tally: Tally,
    ) -> Result<proto::IngestSummary, IngestError> {
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
