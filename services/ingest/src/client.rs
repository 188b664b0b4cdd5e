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
use crate::intake::{self, Placed, Tally};
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
    /// The places of drafts are those of a call's events, whose ids are wanted.
    are_events: bool,
    /// Ids come from git's own digests.
    names_commits: bool,
    validate_only: bool,
    added: u64,
    duplicates: u64,
    /// What the journal did not take: its place, its artifact type, and why.
    refused: Vec<(usize, String, Refusal)>,
    /// Of a call's events: place and id of each that was taken.
    pub(crate) ids: Vec<(usize, String)>,
    /// The last commit that an append gave.
    commit: Option<String>,
}

impl Appender {
    /// Over a channel to the journal; what is written beside the drafts is masked.
    pub(crate) fn new(journal: Channel, redactor: &Redactor, target: Target) -> Self {
        let journal = JournalServiceClient::new(journal)
            .max_decoding_message_size(server::MESSAGE_BYTES)
            .max_encoding_message_size(server::MESSAGE_BYTES);
        let clean = |text: &str, most| cut_line(&redactor.text(text, &mut Receipts::new()), most);
        let target = Target {
            author: clean(&target.author, limits::ACTOR_BYTES),
            source: clean(&target.source, limits::ACTOR_BYTES),
            message: clean(&target.message, limits::TITLE_BYTES),
            ..target
        };
        Self {
            journal,
            target,
            are_events: false,
            names_commits: false,
            validate_only: false,
            added: 0,
            duplicates: 0,
            refused: Vec::new(),
            ids: Vec::new(),
            commit: None,
        }
    }

    /// For the events of one call.
    pub(crate) fn of_events(self) -> Self {
        Self {
            are_events: true,
            ..self
        }
    }

    /// For a report. `validate_only`: decide, but write nothing.
    pub(crate) fn of_report(self, names_commits: bool, validate_only: bool) -> Self {
        Self {
            names_commits,
            validate_only,
            ..self
        }
    }

    /// Appends a batch. What the journal refuses is set aside with its place, the others are appended.
    pub(crate) async fn append(&mut self, mut batch: Vec<Placed>) -> Result<(), IngestError> {
        let mut compared = false;
        while !batch.is_empty() {
            let Err(failure) = self.try_append(&batch).await else {
                return Ok(());
            };
            let refused = refused_events(&failure, batch.len());
            if refused.is_empty() {
                return Err(IngestError::Journal(failure));
            }
            let taken = failure.code == Code::AlreadyExists;
            if taken && self.names_commits && !compared {
                compared = true;
                batch = self.without_known_commits(batch).await?;
                continue;
            }
            // From the last on, so that the places before stay what they are.
            for (index, problem) in refused.into_iter().rev() {
                self.set_aside(batch.remove(index), problem);
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, (place, draft): Placed, problem: Invalid) {
        let location = match self.are_events {
            true => format!("events[{place}]"),
            false => format!("event {place}"),
        };
        let refusal = Refusal {
            location,
            field: problem.field,
            reason: problem.problem,
        };
        let kind = draft.artifact_type.to_string();
        self.refused.push((place, kind, refusal));
    }

    /// Drops the commits that the branch holds as another version of git printed them.
    async fn without_known_commits(
        &mut self,
        batch: Vec<Placed>,
    ) -> Result<Vec<Placed>, IngestError> {
        let held = self.held(&batch).await?;
        let mut fresh = Vec::with_capacity(batch.len());
        for ((place, draft), held) in batch.into_iter().zip(held) {
            match held {
                Some(held) if intake::is_same_commit(&draft, &held) => self.duplicates += 1,
                _ => fresh.push((place, draft)),
            }
        }
        Ok(fresh)
    }

    /// One append, repeated under the same request id while the journal says that it may succeed later.
    async fn try_append(&mut self, batch: &[Placed]) -> Result<(), Failure> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let drafts = batch.iter().map(|(_, draft)| draft);
        let answer = self.commit(request_id, String::new(), drafts).await?;
        let duplicates = answer.events.iter().filter(|event| event.duplicate).count() as u64;
        self.duplicates += duplicates;
        self.added += (answer.events.len() as u64).saturating_sub(duplicates);
        if self.are_events {
            let ids = answer.events.into_iter().map(|event| event.id);
            let places = batch.iter().map(|(place, _)| *place);
            self.ids.extend(places.zip(ids));
        }
        if !self.validate_only {
            let commit: Option<Commit> = answer.commit;
            self.commit = commit.map(|commit| commit.hash).or(self.commit.take());
        }
        Ok(())
    }

    /// Appends as one commit. `request_id`: a UUID, empty for a new one; `expected_head`: empty for any. Repeated
    /// under the same request id while the journal says that it may succeed later.
    pub(crate) async fn commit(
        &mut self,
        request_id: String,
        expected_head: String,
        drafts: impl Iterator<Item = &Draft>,
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
            events: drafts.map(shared_convert::draft_to_proto).collect(),
            origin: Some(journal_proto::EventOrigin {
                source: self.target.source.clone(),
                author: self.target.author.clone(),
            }),
            validate_only: self.validate_only,
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
    async fn held(&mut self, drafts: &[Placed]) -> Result<Vec<Option<Draft>>, IngestError> {
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
    async fn get(&mut self, drafts: &[Placed]) -> Result<Option<Vec<Draft>>, IngestError> {
        let branch = Reference::Branch(self.target.branch.clone());
        let request = journal_proto::GetEventsRequest {
            project: self.target.project.to_string(),
            as_of: Some(shared_convert::reference_to_proto(&branch)),
            ids: drafts
                .iter()
                .filter_map(|(_, draft)| draft.id)
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

    /// What became of everything that was appended. `most_refusals`: how many are listed.
    pub(crate) async fn summary(
        mut self,
        mut tally: Tally,
        most_refusals: usize,
    ) -> Result<proto::IngestSummary, IngestError> {
        self.refused.sort_by_key(|(place, ..)| *place);
        for (_, kind, refusal) in std::mem::take(&mut self.refused) {
            tally.take_back(&kind);
            match tally.refusals.len() < most_refusals {
                true => tally.refusals.push(refusal),
                false => tally.refusals_unlisted += 1,
            }
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

/// The events of an append that a failure names, in order, each with the field and what is wrong with it.
/// `count`: how many were sent.
fn refused_events(failure: &Failure, count: usize) -> Vec<(usize, Invalid)> {
    if !matches!(failure.code, Code::InvalidArgument | Code::AlreadyExists) {
        return Vec::new();
    }
    let named = |invalid: &Invalid| {
        let (index, field) = place_in(&invalid.field)?;
        let problem = Invalid::new(field, invalid.problem.as_str());
        (index < count).then_some((index, problem))
    };
    let mut named: Vec<(usize, Invalid)> = failure.fields.iter().filter_map(named).collect();
    named.sort_by_key(|(index, _)| *index);
    named.dedup_by_key(|(index, _)| *index);
    named
}

/// Takes `events[3].title` apart.
fn place_in(field: &str) -> Option<(usize, &str)> {
    let (index, rest) = field.strip_prefix("events[")?.split_once(']')?;
    Some((index.parse().ok()?, rest.strip_prefix('.').unwrap_or(rest)))
}

/// The same failure with the places that the caller knows. `places`: of each event that was sent.
pub(crate) fn with_places(mut failure: Failure, places: &[usize]) -> Failure {
    for invalid in &mut failure.fields {
        let moved = place_in(&invalid.field).and_then(|(index, rest)| {
            let place = places.get(index)?;
            Some(format!("events[{place}].{rest}"))
        });
        if let Some(field) = moved {
            failure.message = failure.message.replace(&invalid.field, &field);
            invalid.field = field;
        }
    }
    failure
}
