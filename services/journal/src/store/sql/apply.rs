//! Decides and writes a group of requests as one transaction.

use std::collections::HashMap;
use std::ops::Add;
use std::sync::Arc;

use commonplace_types::{Digest, Invalid, ProjectName, TenantName, Timestamp};

use super::batch::Batch;
use super::rows::{RequestRow, decode_answer};
use super::working::Working;
use super::{Memory, SqlStore, facts};
use crate::JournalError;
use crate::append::{Appended, Facts, RequestId};
use crate::commit::Salt;
use crate::quota::Stored;
use crate::store::{RefEntry, Write, Written};

type Answer = Result<Written, JournalError>;

impl SqlStore {
    /// Decides each write in order and makes the group durable. One answer per write.
    ///
    /// Called by one task at a time; a refused write leaves the others alone. When the transaction
    /// fails, every write that would have changed something gets that error, and memory follows storage.
    pub(crate) async fn apply(&self, writes: Vec<Write>) -> Vec<Answer> {
        let count = writes.len();
        let mut memory = self.memory.lock().await;
        let refused = match self.leading() {
            Ok(()) => self.settle(&mut memory).await,
            Err(error) => Some(error),
        };
        if let Some(error) = refused {
            return vec![Err(error); count];
        }
        let mut group = Group {
            store: self,
            batch: Batch::new(),
            answers: (0..count).map(|_| None).collect(),
            projects: Vec::new(),
            next_key: self.projects.next_key(),
            requests: 0,
        };
        for (name, writes) in by_project(writes) {
            group.decide(name, writes).await;
        }
        let requests = group.requests;
        let answers = group.finish(&mut memory).await;
        let now = self.clock.now();
        self.sweep
            .after(requests, &self.database.for_all(), memory.epoch, now)
            .await;
        answers
    }
}

type Name = (TenantName, ProjectName);

/// Writes of each project with their place in the group, projects by first appearance.
fn by_project(writes: Vec<Write>) -> Vec<(Name, Vec<(usize, Write)>)> {
    let mut projects: Vec<(Name, Vec<(usize, Write)>)> = Vec::new();
    for (place, write) in writes.into_iter().enumerate() {
        let (tenant, project) = write.project();
        let found = projects
            .iter()
            .position(|((t, p), _)| t == tenant && p == project);
        match found {
            Some(index) => projects[index].1.push((place, write)),
            None => {
                let name = (tenant.clone(), project.clone());
                projects.push((name, vec![(place, write)]));
            }
        }
    }
    projects
}

struct Group<'a> {
    store: &'a SqlStore,
    batch: Batch,
    answers: Vec<Option<Answer>>,
    projects: Vec<Working>,
    next_key: i64,
    /// How many answers are to be remembered.
    requests: usize,
}

/// What is known about requests that were answered, in storage or earlier in the group.
#[derive(Default)]
struct Answered {
    stored: HashMap<RequestId, RequestRow>,
    in_group: HashMap<RequestId, (Digest, Written)>,
}

impl Group<'_> {
    async fn decide(&mut self, name: Name, writes: Vec<(usize, Write)>) {
        match self.gather(&name, &writes).await {
            Ok((mut working, mut facts, mut answered)) => {
                for (place, write) in writes {
                    let answer = self
                        .one(&mut working, &mut facts, &mut answered, write)
                        .await;
                    self.answers[place] = Some(answer);
                }
                working.write_refs(&mut self.batch);
                self.projects.push(working);
            }
            Err(error) => {
                for (place, _) in writes {
                    self.answers[place] = Some(Err(error.clone()));
                }
            }
        }
    }

    async fn gather(
        &mut self,
        (tenant, name): &Name,
        writes: &[(usize, Write)],
    ) -> Result<(Working, Facts, Answered), JournalError> {
        let existing = self.store.projects.find(tenant, name);
        let statements = self.store.database.for_tenant(tenant);
        let mut facts = Facts::default();
        if let Some(project) = &existing {
            let appends = writes.iter().filter_map(|(_, write)| match write {
                Write::Append(prepared) => Some(prepared),
                Write::Ref(..) => None,
            });
            facts = facts::gather(&statements, project.key, appends).await?;
        }
        let ids = writes.iter().filter_map(|(_, write)| write.request_id());
        let stored = facts::requests(&statements, tenant, ids).await?;
        let now = self.store.clock.now();
        let working = match existing {
            Some(project) => Working::of(project, now),
            None => {
                self.next_key += 1;
                Working::new(self.next_key - 1, tenant.clone(), name.clone(), now)
            }
        };
        Ok((
            working,
            facts,
            Answered {
                stored,
                ..Answered::default()
            },
        ))
    }

    async fn one(
        &mut self,
        working: &mut Working,
        facts: &mut Facts,
        answered: &mut Answered,
        write: Write,
    ) -> Answer {
        let request_hash = write.request_hash();
        let request_id = write.request_id();
        if let Some(answer) = self.repeated(working, answered, &write, request_hash).await {
            return answer;
        }
        let (written, wrote) = match write {
            Write::Append(mut prepared) => {
                if let Some(within) = &mut prepared.within
                    && within.asks_for_tenant()
                {
                    within.in_tenant = self.stored(working.tenant());
                }
                let salts = self.salts(prepared.events.len());
                let seq = self.store.next_seq();
                working.append(prepared, facts, &salts, seq, &mut self.batch)?
            }
            Write::Ref(create, commit) => working.create_ref(create, commit)?,
        };
        if let Written::Appended(appended) = &written
            && wrote
        {
            let new = appended
                .events
                .iter()
                .filter(|event| !event.duplicate)
                .count();
            self.store.advance_seq(new as i64);
        }
        // Also what wrote nothing is remembered: the same id with other content must not pass later.
        if let Some(id) = request_id {
            self.requests += 1;
            self.batch
                .request(&working.request_row(id, request_hash, &written));
            answered
                .in_group
                .insert(id, (request_hash, written.clone()));
        }
        Ok(written)
    }

    /// What a tenant stores, with what the group has added to its other projects so far.
    fn stored(&self, tenant: &TenantName) -> Stored {
        let group = self
            .projects
            .iter()
            .filter(|other| other.tenant() == tenant);
        group
            .map(Working::added)
            .fold(self.store.projects.stored(tenant), Stored::add)
    }

    /// The first answer, when the request was answered before.
    async fn repeated(
        &self,
        working: &Working,
        answered: &Answered,
        write: &Write,
        request_hash: Digest,
    ) -> Option<Answer> {
        let id = write.request_id()?;
        if let Some((hash, written)) = answered.in_group.get(&id) {
            return Some(same(*hash == request_hash).map(|()| written.clone()));
        }
        let row = answered.stored.get(&id)?;
        if let Err(error) = same(row.request_hash == request_hash && row.project == working.key()) {
            return Some(Err(error));
        }
        Some(self.first_answer(working, row, write).await)
    }

    async fn first_answer(&self, working: &Working, row: &RequestRow, write: &Write) -> Answer {
        let commit = Arc::new(
            self.store
                .commit_by_number(working.tenant(), working.key(), row.number)
                .await?,
        );
        match write {
            Write::Append(prepared) => {
                let ids = prepared.events.iter().map(|event| event.id);
                let events = decode_answer(&row.answer, ids)?;
                Ok(Written::Appended(Appended { commit, events }))
            }
            Write::Ref(create, _) => Ok(Written::Ref(RefEntry {
                name: create.name.clone(),
                commit,
            })),
        }
    }

    fn salts(&self, count: usize) -> Vec<Salt> {
        let mut bytes = vec![0; count * size_of::<Salt>()];
        self.store.entropy.fill(&mut bytes);
        bytes.as_chunks().0.to_vec()
    }

    async fn finish(self, memory: &mut Memory) -> Vec<Answer> {
        let mut failure = None;
        if !self.batch.is_empty() {
            let batch = Arc::new(self.batch);
            let epoch = memory.epoch;
            let written: Result<(), JournalError> = self
                .store
                .database
                .for_all()
                .write(move |transaction| {
                    let batch = batch.clone();
                    Box::pin(async move {
                        transaction.guard(epoch).await?;
                        batch.write(transaction).await
                    })
                })
                .await;
            failure = written.err();
        }
        match &failure {
            None => self
                .projects
                .into_iter()
                .for_each(|working| working.publish(&self.store.projects)),
            Some(error) => self.store.recover(memory, error).await,
        }
        let settle = |answer: Option<Answer>| match (answer, &failure) {
            (Some(Ok(_)), Some(error)) => Err(error.clone()),
            (Some(answer), _) => answer,
            (None, _) => Err(JournalError::Stopping),
        };
        self.answers.into_iter().map(settle).collect()
    }
}

fn same(same: bool) -> Result<(), JournalError> {
    if same {
        return Ok(());
    }
    let problem = "was used for a request with other content: use a new one";
    Err(Invalid::new("request_id", problem).into())
}

/// The time of a commit: now, but never before the commit below.
pub(super) fn not_before(now: Timestamp, last: Timestamp) -> Timestamp {
    now.max(last)
}

impl Write {
    fn request_hash(&self) -> Digest {
        match self {
            Self::Append(prepared) => prepared.request_hash,
            Self::Ref(create, _) => create.request_hash(),
        }
    }
}
