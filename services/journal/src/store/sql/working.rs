//! A project while a group is being decided: what it was, and what the group has changed so far. Nothing
//! of it is seen by readers before [`Working::publish`].

use std::collections::BTreeMap;
use std::sync::Arc;

use commonplace_types::{
    BranchName, Digest, LaneInterval, ProjectName, TagName, TenantName, Timestamp, Visible,
};

use super::apply::not_before;
use super::batch::Batch;
use super::rows::{RefRow, RequestRow, encode_answer};
use crate::append::{self, Appended, Facts, Plan, Prepared, RequestId, Target};
use crate::commit::{Commit, Salt};
use crate::lane::Lane;
use crate::quota::Stored;
use crate::state::{Branch, Project, Projects, State};
use crate::store::{CreateRef, RefEntry, RefName, Written};
use crate::{JournalError, append::AppendedEvent};

pub(super) struct Working {
    key: i64,
    tenant: TenantName,
    name: ProjectName,
    now: Timestamp,
    existing: Option<Arc<Project>>,
    /// The newest commit; none while a new project has no successful append.
    last: Option<Arc<Commit>>,
    branches: BTreeMap<BranchName, Branch>,
    tags: BTreeMap<TagName, Arc<Commit>>,
    lane_count: u32,
    lanes: Vec<Lane>,
    commits: Vec<Arc<Commit>>,
    new_events: u64,
}

impl Working {
    pub(super) fn of(project: Arc<Project>, now: Timestamp) -> Self {
        let (last, lane_count) = {
            let state = project.read();
            (state.last.clone(), state.lanes.len() as u32)
        };
        Self {
            lane_count,
            last: Some(last),
            existing: Some(project.clone()),
            ..Self::new(
                project.key,
                project.tenant.clone(),
                project.name.clone(),
                now,
            )
        }
    }

    pub(super) fn new(key: i64, tenant: TenantName, name: ProjectName, now: Timestamp) -> Self {
        Self {
            key,
            tenant,
            name,
            now,
            existing: None,
            last: None,
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            lane_count: 0,
            lanes: Vec::new(),
            commits: Vec::new(),
            new_events: 0,
        }
    }

    pub(super) fn key(&self) -> i64 {
        self.key
    }

    /// Decides an append and adds its rows. Also says whether anything is written.
    pub(super) fn append(
        &mut self,
        mut request: Prepared,
        facts: &mut Facts,
        salts: &[Salt],
        next_seq: i64,
        batch: &mut Batch,
    ) -> Result<(Written, bool), JournalError> {
        let opening = self.opening(&request)?;
        let (branch, last) = match &opening {
            Some(genesis) => (main_at(genesis), genesis.clone()),
            None => (self.branch(&request.append.branch)?, self.last()?),
        };
        let expected = request.append.expected_head.unwrap_or(branch.head.hash);
        if expected != branch.head.hash {
            return Err(JournalError::HeadMoved {
                branch: request.append.branch.clone(),
                head: branch.head.hash,
            });
        }
        let (lane, is_new) = match (branch.lane, &opening) {
            (None, _) => (self.fork(&branch.head)?, true),
            (Some(_), Some(_)) => (Lane::first(), true),
            (Some(number), None) => (self.lane(number)?, false),
        };
        let time = not_before(self.now, last.time);
        let last_position = if is_new { 0 } else { branch.head.last_position };
        let target = Target {
            branch: &request.append.branch,
            lane: lane.number,
            last_position,
            visible: lane.visible(last_position),
            now: time,
            next_seq,
        };
        let plan = append::plan(&request, &target, facts, salts)?;
        self.check_room(&request, &plan)?;
        if plan.placements.is_empty() || request.append.validate_only {
            let appended = Appended {
                commit: branch.head,
                events: plan.answers,
            };
            return Ok((Written::Appended(appended), false));
        }
        if let Some(genesis) = opening {
            batch.project(self.key, self.tenant.as_str(), self.name.as_str());
            self.add_commit(&genesis, batch);
        }
        if is_new {
            batch.lane(self.key, &lane);
            self.lane_count = self.lane_count.max(lane.number);
            self.lanes.push(lane.clone());
        }
        let commit = self.commit(
            &request,
            &plan,
            &branch.head,
            &last,
            lane.number,
            last_position,
        );
        self.add_rows(&commit, &plan, &mut request, batch);
        self.add_commit(&commit, batch);
        let branch = Branch {
            head: commit.clone(),
            lane: Some(lane.number),
            origin: branch.origin,
        };
        self.branches.insert(request.append.branch.clone(), branch);
        let events: Vec<AppendedEvent> = plan.answers;
        facts.absorb(plan.facts);
        Ok((Written::Appended(Appended { commit, events }), true))
    }

    /// Error: the append would go beyond a quota.
    fn check_room(&self, request: &Prepared, plan: &Plan) -> Result<(), JournalError> {
        let Some(within) = &request.within else {
            return Ok(());
        };
        let existing = self.existing.as_ref();
        let stored = existing.map_or_else(Stored::default, |project| project.read().stored());
        let new = Stored {
            events: plan.new_events.len() as u64,
            bytes: plan.bytes,
        };
        within.check((&self.tenant, &self.name), stored, self.added(), new)
    }

    /// What the group has added so far.
    pub(super) fn added(&self) -> Stored {
        Stored {
            events: self.new_events,
            bytes: self.commits.iter().map(|commit| commit.bytes).sum(),
        }
    }

    pub(super) fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// The commit that opens the project, when this append is its first.
    fn opening(&self, request: &Prepared) -> Result<Option<Arc<Commit>>, JournalError> {
        if self.last.is_some() {
            return Ok(None);
        }
        if request.append.branch != BranchName::main() || request.append.expected_head.is_some() {
            return Err(JournalError::ProjectNotFound {
                project: self.name.clone(),
            });
        }
        Ok(Some(Arc::new(Commit::genesis(
            &self.tenant,
            &self.name,
            self.now,
        ))))
    }

    fn last(&self) -> Result<Arc<Commit>, JournalError> {
        self.last
            .clone()
            .ok_or_else(|| JournalError::ProjectNotFound {
                project: self.name.clone(),
            })
    }

    fn branch(&self, name: &BranchName) -> Result<Branch, JournalError> {
        let stored = || self.existing.as_ref()?.read().branches.get(name).cloned();
        let found = self.branches.get(name).cloned().or_else(stored);
        found.ok_or_else(|| JournalError::RefNotFound {
            kind: "branch",
            name: name.to_string(),
        })
    }

    fn lane(&self, number: u32) -> Result<Lane, JournalError> {
        if let Some(lane) = self.lanes.iter().find(|lane| lane.number == number) {
            return Ok(lane.clone());
        }
        match &self.existing {
            Some(project) => project.read().lane(number).cloned(),
            None => Err(JournalError::damaged(format!("lane {number} is missing"))),
        }
    }

    fn fork(&self, head: &Commit) -> Result<Lane, JournalError> {
        let base: Visible = self.lane(head.lane)?.visible(head.last_position);
        let fork = LaneInterval {
            lane: head.lane,
            position: head.last_position,
        };
        Lane::fork(self.lane_count + 1, fork, base)
    }

    fn commit(
        &self,
        request: &Prepared,
        plan: &Plan,
        parent: &Commit,
        last: &Commit,
        lane: u32,
        last_position: u32,
    ) -> Arc<Commit> {
        let commit = Commit {
            hash: Digest::ZERO,
            number: last.number + 1,
            branch: request.append.branch.clone(),
            lane,
            first_position: last_position + 1,
            last_position: last_position + plan.placements.len() as u32,
            parents: vec![parent.hash],
            events_root: plan.events_root,
            time: not_before(self.now, last.time),
            author: request.append.author.clone(),
            message: request.append.message.clone(),
            bytes: plan.bytes,
        };
        Arc::new(commit.sealed(&self.tenant, &self.name))
    }

    fn add_rows(
        &mut self,
        commit: &Commit,
        plan: &Plan,
        request: &mut Prepared,
        batch: &mut Batch,
    ) {
        let at = |position| LaneInterval {
            lane: commit.lane,
            position,
        };
        for new in &plan.new_events {
            batch.event(self.key, commit, new, request);
        }
        for (position, seq) in &plan.placements {
            batch.placement(self.key, at(*position), *seq);
        }
        for (position, target) in &plan.edges {
            batch.edge(self.key, at(*position), *target);
        }
        self.new_events += plan.new_events.len() as u64;
    }

    fn add_commit(&mut self, commit: &Arc<Commit>, batch: &mut Batch) {
        batch.commit(self.key, commit);
        self.commits.push(commit.clone());
        self.last = Some(commit.clone());
    }

    /// Makes a branch or tag. Also says whether anything is written.
    pub(super) fn create_ref(
        &mut self,
        create: CreateRef,
        commit: Arc<Commit>,
    ) -> Result<(Written, bool), JournalError> {
        let present = self.present(&create.name)?;
        if let Some((entry, origin)) = present {
            if origin == commit.number {
                return Ok((Written::Ref(entry), false));
            }
            return Err(JournalError::RefConflict {
                kind: create.name.kind(),
                name: create.name.as_str().into(),
                commit: entry.commit.hash,
            });
        }
        match &create.name {
            RefName::Tag(name) => {
                self.tags.insert(name.clone(), commit.clone());
            }
            RefName::Branch(name) => {
                let branch = Branch {
                    head: commit.clone(),
                    lane: None,
                    origin: commit.number,
                };
                self.branches.insert(name.clone(), branch);
            }
        }
        let entry = RefEntry {
            name: create.name,
            commit,
        };
        Ok((Written::Ref(entry), true))
    }

    /// A ref of that name, and the number of the commit it was made at.
    fn present(&self, name: &RefName) -> Result<Option<(RefEntry, u64)>, JournalError> {
        let found = match name {
            RefName::Branch(branch) => match self.branch(branch) {
                Ok(found) => Some((found.head, found.origin)),
                Err(JournalError::RefNotFound { .. }) => None,
                Err(error) => return Err(error),
            },
            RefName::Tag(tag) => {
                let stored = || self.existing.as_ref()?.read().tags.get(tag).cloned();
                let commit = self.tags.get(tag).cloned().or_else(stored);
                commit.map(|commit| (commit.clone(), commit.number))
            }
        };
        let entry = |(commit, origin)| {
            let name = name.clone();
            (RefEntry { name, commit }, origin)
        };
        Ok(found.map(entry))
    }

    pub(super) fn request_row(
        &self,
        id: RequestId,
        request_hash: Digest,
        written: &Written,
    ) -> RequestRow {
        let (number, answer) = match written {
            Written::Appended(appended) => {
                (appended.commit.number, encode_answer(&appended.events))
            }
            Written::Ref(entry) => (entry.commit.number, Vec::new()),
        };
        RequestRow {
            tenant: self.tenant.to_string(),
            request_id: id.to_vec(),
            project: self.key,
            request_hash,
            time: self.now,
            number,
            answer,
        }
    }

    /// One row for each ref that the group moved or made.
    pub(super) fn write_refs(&self, batch: &mut Batch) {
        for (name, branch) in &self.branches {
            let row = RefRow {
                kind: 1,
                name: name.to_string(),
                number: branch.head.number,
                origin: branch.origin,
                lane: branch.lane.unwrap_or(0),
            };
            batch.reference(self.key, &row);
        }
        for (name, commit) in &self.tags {
            let row = RefRow {
                kind: 2,
                name: name.to_string(),
                number: commit.number,
                origin: commit.number,
                lane: 0,
            };
            batch.reference(self.key, &row);
        }
    }

    /// Shows readers what is now stored, and wakes who waits for commits.
    pub(super) fn publish(self, projects: &Projects) {
        let Some(last) = self.last.clone() else {
            return;
        };
        let project = match (self.existing.clone(), self.commits.first()) {
            (Some(project), _) => {
                self.extend(&mut project.write());
                project
            }
            (None, Some(genesis)) => {
                let mut state = State::new(genesis.clone(), last.clone());
                let (tenant, name) = (self.tenant.clone(), self.name.clone());
                let key = self.key;
                self.extend(&mut state);
                let project = Arc::new(Project::new(key, tenant, name, state));
                projects.insert(project.clone());
                project
            }
            (None, None) => return,
        };
        project.newest.send_replace(last.number);
    }

    fn extend(self, state: &mut State) {
        if let Some(last) = self.last {
            state.last = last;
        }
        state.lanes.extend(self.lanes);
        state.branches.extend(self.branches);
        state.tags.extend(self.tags);
        state.event_count += self.new_events;
        state.bytes += self.commits.iter().map(|commit| commit.bytes).sum::<u64>();
        for commit in &self.commits {
            state.remember(commit);
        }
    }
}

fn main_at(genesis: &Arc<Commit>) -> Branch {
    Branch {
        head: genesis.clone(),
        lane: Some(1),
        origin: 0,
    }
}
