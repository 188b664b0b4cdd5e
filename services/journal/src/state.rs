//! What is kept in memory about each project: its refs, heads and lanes. This process is the only writer,
//! so what is here is what is stored (the store sees to it); resolving a branch or tag touches no storage.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Add;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use commonplace_types::{BranchName, CommitHash, ProjectName, TagName, TenantName, Visible};
use tokio::sync::watch;

use crate::commit::Commit;
use crate::lane::Lane;
use crate::quota::Stored;
use crate::{JournalError, RefEntry, RefName};

/// Commits kept by hash for resolving, beside the heads.
const RECENT_COMMITS: usize = 4_096;

/// Where a branch stands.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) head: Arc<Commit>,
    /// None until its first own commit.
    pub(crate) lane: Option<u32>,
    /// The number of the commit it was made at.
    pub(crate) origin: u64,
}

/// A project: its names never change, its state does.
#[derive(Debug)]
pub(crate) struct Project {
    /// Its row.
    pub(crate) key: i64,
    pub(crate) tenant: TenantName,
    pub(crate) name: ProjectName,
    state: RwLock<State>,
    /// The newest commit's number; wakes tails.
    pub(crate) newest: watch::Sender<u64>,
}

/// What changes as a project grows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) opened: Arc<Commit>,
    pub(crate) last: Arc<Commit>,
    pub(crate) branches: BTreeMap<BranchName, Branch>,
    pub(crate) tags: BTreeMap<TagName, Arc<Commit>>,
    /// Lane n is at n - 1.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) event_count: u64,
    /// Of the contents that its commits place.
    pub(crate) bytes: u64,
    recent: Recent,
}

#[derive(Debug, Default)]
struct Recent {
    by_hash: HashMap<CommitHash, Arc<Commit>>,
    order: VecDeque<CommitHash>,
}

impl State {
    pub(crate) fn new(opened: Arc<Commit>, last: Arc<Commit>) -> Self {
        Self {
            opened,
            last,
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            lanes: Vec::new(),
            event_count: 0,
            bytes: 0,
            recent: Recent::default(),
        }
    }

    pub(crate) fn lane(&self, number: u32) -> Result<&Lane, JournalError> {
        let index = (number as usize).checked_sub(1);
        index
            .and_then(|index| self.lanes.get(index))
            .ok_or_else(|| JournalError::damaged(format!("lane {number} is missing")))
    }

    /// What is stored.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            events: self.event_count,
            bytes: self.bytes,
        }
    }

    /// What a commit sees.
    pub(crate) fn visible(&self, commit: &Commit) -> Result<Visible, JournalError> {
        Ok(self.lane(commit.lane)?.visible(commit.last_position))
    }

    pub(crate) fn recent(&self, hash: &CommitHash) -> Option<Arc<Commit>> {
        self.recent.by_hash.get(hash).cloned()
    }

    /// Remembers a commit, forgetting the oldest beyond the bound.
    pub(crate) fn remember(&mut self, commit: &Arc<Commit>) {
        if self
            .recent
            .by_hash
            .insert(commit.hash, commit.clone())
            .is_some()
        {
            return;
        }
        self.recent.order.push_back(commit.hash);
        if self.recent.order.len() > RECENT_COMMITS
            && let Some(oldest) = self.recent.order.pop_front()
        {
            self.recent.by_hash.remove(&oldest);
        }
    }

    /// Branches, then tags, each by name.
    pub(crate) fn refs(&self) -> Vec<RefEntry> {
        let branch = |(name, branch): (&BranchName, &Branch)| RefEntry {
            name: RefName::Branch(name.clone()),
            commit: branch.head.clone(),
        };
        let tag = |(name, commit): (&TagName, &Arc<Commit>)| RefEntry {
            name: RefName::Tag(name.clone()),
            commit: commit.clone(),
        };
        self.branches
            .iter()
            .map(branch)
            .chain(self.tags.iter().map(tag))
            .collect()
    }
}

impl Project {
    pub(crate) fn new(key: i64, tenant: TenantName, name: ProjectName, state: State) -> Self {
        let newest = watch::Sender::new(state.last.number);
        Self {
            key,
            tenant,
            name,
            state: RwLock::new(state),
            newest,
        }
    }

    /// Held for moments only, never across a wait.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for moments only, by the writer.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All projects.
#[derive(Debug, Default)]
pub(crate) struct Projects {
    all: RwLock<BTreeMap<(TenantName, ProjectName), Arc<Project>>>,
}

impl Projects {
    pub(crate) fn find(&self, tenant: &TenantName, name: &ProjectName) -> Option<Arc<Project>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(tenant.clone(), name.clone())).cloned()
    }

    pub(crate) fn get(
        &self,
        tenant: &TenantName,
        name: &ProjectName,
    ) -> Result<Arc<Project>, JournalError> {
        self.find(tenant, name)
            .ok_or_else(|| JournalError::ProjectNotFound {
                project: name.clone(),
            })
    }

    pub(crate) fn insert(&self, project: Arc<Project>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((project.tenant.clone(), project.name.clone()), project);
    }

    /// A tenant's projects by name, those after `after` only, at most `limit`.
    pub(crate) fn list(
        &self,
        tenant: &TenantName,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Vec<Arc<Project>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = |project: &&Arc<Project>| {
            &project.tenant == tenant && after.is_none_or(|after| &project.name > after)
        };
        all.values().filter(wanted).take(limit).cloned().collect()
    }

    /// What a tenant stores in all its projects.
    pub(crate) fn stored(&self, tenant: &TenantName) -> Stored {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let own = all.values().filter(|project| &project.tenant == tenant);
        own.map(|project| project.read().stored())
            .fold(Stored::default(), Stored::add)
    }

    /// The tenants that have projects by name, those after `after` only, at most `limit`.
    pub(crate) fn tenants(&self, after: Option<&TenantName>, limit: usize) -> Vec<TenantName> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<TenantName> = all
            .keys()
            .map(|(tenant, _)| tenant)
            .filter(|tenant| after.is_none_or(|after| *tenant > after))
            .cloned()
            .collect();
        names.dedup();
        names.truncate(limit);
        names
    }

    pub(crate) fn next_key(&self) -> i64 {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|project| project.key).max().unwrap_or(0) + 1
    }
}

impl Project {
    /// Only the state, to put it in the place of another.
    pub(crate) fn into_state(self) -> State {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
