//! Recomputes every hash of a project from what is stored: contents, salted contents, roots, commits; and
//! checks that numbers and positions are dense, that lanes begin where their forks saw, that refs name
//! what they should, and that nothing is left over.

use std::collections::HashMap;
use std::sync::Arc;

use commonplace_types::{
    CommitHash, Digest, EventId, LaneInterval, ProjectName, TenantName, Timestamp, Visible,
};

use crate::commit::{Commit, body_hash, event_leaf};
use crate::lane::Lane;
use crate::state::Project;
use crate::store::{AuditedEvent, AuditedRef, Totals};
use crate::{Journal, JournalError, merkle};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Commits that are as they should be, up to the first break.
    pub commits_checked: u64,
    /// Events that are as they should be, up to the first break.
    pub events_checked: u64,
    /// What does not match and where; none when all is intact.
    pub first_break: Option<String>,
    /// The newest commit.
    pub head: Digest,
}

/// Why checking ended early: a break, or a failure to read.
enum Stop {
    Broken(String),
    Failed(JournalError),
}

impl From<JournalError> for Stop {
    /// Data that cannot be read back is a break, not a failure.
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Damaged { what } => Self::Broken(what),
            JournalError::Storage(cause) if is_damage(&cause) => Self::Broken(cause.to_string()),
            other => Self::Failed(other),
        }
    }
}

fn is_damage(error: &commonplace_storage::StorageError) -> bool {
    matches!(error, commonplace_storage::StorageError::Corrupt { .. })
}

fn broken<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Broken(what.into()))
}

impl Journal {
    /// Checks a project's stored history against its hashes, up to the newest commit at the call.
    pub async fn verify(
        &self,
        tenant: &TenantName,
        project: &ProjectName,
    ) -> Result<Report, JournalError> {
        let project = self.store().projects()?.get(tenant, project)?;
        let head = project.read().last.clone();
        let mut audit = Audit::default();
        let first_break = match audit.all(self, &project, &head).await {
            Ok(()) => None,
            Err(Stop::Broken(what)) => Some(what),
            Err(Stop::Failed(error)) => return Err(error),
        };
        Ok(Report {
            commits_checked: audit.next,
            events_checked: audit.events,
            first_break,
            head: head.hash,
        })
    }
}

/// What has been read so far.
#[derive(Default)]
struct Audit {
    /// The number of the next commit.
    next: u64,
    events: u64,
    edges: u64,
    newest_time: Option<Timestamp>,
    /// Lane, last position and number of each commit.
    commits: HashMap<CommitHash, (LaneInterval, u64)>,
    hash_of: Vec<CommitHash>,
    lanes: Vec<Lane>,
    /// The newest commit of each lane.
    tips: HashMap<u32, (CommitHash, u32)>,
}

impl Audit {
    async fn all(
        &mut self,
        journal: &Journal,
        project: &Project,
        head: &Commit,
    ) -> Result<(), Stop> {
        let store = journal.store();
        let (tenant, name) = names(store.audit_names(project.key).await?)?;
        self.lanes = store.audit_lanes(project.key).await?;
        while self.next <= head.number {
            let (commits, mut events) = store.audit_page(project.key, self.next).await?;
            if commits.is_empty() {
                return broken(format!("commit {} is missing", self.next));
            }
            for commit in commits
                .into_iter()
                .filter(|commit| commit.number <= head.number)
            {
                self.commit(&tenant, &name, &commit, &mut events)?;
            }
        }
        if self.hash_of.last() != Some(&head.hash) {
            return broken(format!(
                "commit {} is not the head that was acknowledged",
                head.number
            ));
        }
        // Only a project at rest can be counted: appends go on while it is checked.
        let totals = store.audit_totals(project.key).await?;
        let refs = store.audit_refs(project.key).await?;
        let at_rest = project.read().last.number == head.number;
        self.refs(&refs, at_rest)?;
        if at_rest {
            self.totals(totals)?;
        }
        match store.audit_rest(project.key).await? {
            Some(what) => broken(what),
            None => Ok(()),
        }
    }

    fn commit(
        &mut self,
        tenant: &TenantName,
        project: &ProjectName,
        commit: &Arc<Commit>,
        events: &mut HashMap<LaneInterval, AuditedEvent>,
    ) -> Result<(), Stop> {
        let number = commit.number;
        if number != self.next {
            return broken(format!("commit {} is missing", self.next));
        }
        if commit.computed_hash(tenant, project) != commit.hash {
            return broken(format!(
                "commit {number}: its hash does not match its content"
            ));
        }
        if self.newest_time.is_some_and(|newest| commit.time < newest) {
            return broken(format!("commit {number}: it is older than the one before"));
        }
        self.place(commit)?;
        let (mut leaves, mut bytes) = (Vec::new(), 0);
        for position in commit.first_position..=commit.last_position {
            let at = LaneInterval {
                lane: commit.lane,
                position,
            };
            let Some(event) = events.remove(&at) else {
                let lane = commit.lane;
                return broken(format!(
                    "commit {number}: lane {lane} position {position} is missing"
                ));
            };
            leaves.push(leaf(number, &event)?);
            bytes += event.body.len() as u64;
            self.edges += event.supersedes.len() as u64;
        }
        if merkle::root(&leaves) != commit.events_root {
            return broken(format!("commit {number}: its events do not match its root"));
        }
        if bytes != commit.bytes {
            return broken(format!(
                "commit {number}: it holds {bytes} bytes, not {}",
                commit.bytes
            ));
        }
        self.events += leaves.len() as u64;
        self.newest_time = Some(commit.time);
        self.next += 1;
        Ok(())
    }

    /// Checks where a commit stands: after its parent, at the end of its lane.
    fn place(&mut self, commit: &Commit) -> Result<(), Stop> {
        let number = commit.number;
        let parents: Vec<LaneInterval> = commit
            .parents
            .iter()
            .filter_map(|parent| self.commits.get(parent))
            .map(|(at, _)| *at)
            .collect();
        if parents.len() != commit.parents.len() || parents.is_empty() != (number == 0) {
            return broken(format!("commit {number}: a parent is missing"));
        }
        let last_position = match self.tips.get(&commit.lane) {
            Some((tip, last)) if commit.parents.first() == Some(tip) => *last,
            Some(_) => return broken(format!("commit {number}: it does not follow its lane")),
            None => {
                self.fork(commit, parents.first().copied())?;
                0
            }
        };
        if commit.first_position != last_position + 1
            || commit.last_position + 1 < commit.first_position
        {
            return broken(format!("commit {number}: its positions are not dense"));
        }
        let at = LaneInterval {
            lane: commit.lane,
            position: commit.last_position,
        };
        self.commits.insert(commit.hash, (at, number));
        self.hash_of.push(commit.hash);
        self.tips
            .insert(commit.lane, (commit.hash, commit.last_position));
        Ok(())
    }

    /// Checks that a new lane begins with what its fork saw.
    fn fork(&self, commit: &Commit, parent: Option<LaneInterval>) -> Result<(), Stop> {
        let number = commit.lane;
        let Some(lane) = self.lane(number) else {
            return broken(format!("lane {number} is missing"));
        };
        let (fork, base) = match parent {
            None => ((0, 0), Visible::default()),
            Some(at) => match self.lane(at.lane) {
                Some(parent) => ((at.lane, at.position), parent.visible(at.position)),
                None => return broken(format!("lane {} is missing", at.lane)),
            },
        };
        if (lane.parent, lane.fork_position) != fork || lane.base != base {
            return broken(format!("lane {number}: it does not begin where it forked"));
        }
        Ok(())
    }

    fn lane(&self, number: u32) -> Option<&Lane> {
        self.lanes.get((number as usize).checked_sub(1)?)
    }

    fn refs(&self, refs: &[AuditedRef], at_rest: bool) -> Result<(), Stop> {
        for found in refs {
            let name = &found.name;
            if !found.intact {
                return broken(format!("ref `{name}`: the row was changed"));
            }
            let hash = self.hash_of.get(found.number as usize);
            if (hash.is_none() && at_rest) || found.origin > found.number {
                return broken(format!("ref `{name}`: commit {} is missing", found.number));
            }
            let tip = self.tips.get(&found.lane).map(|(tip, _)| tip);
            if at_rest && found.is_branch && found.lane > 0 && tip != hash {
                return broken(format!("branch `{name}`: it is not at the end of its lane"));
            }
        }
        let branch_lanes = refs
            .iter()
            .filter(|found| found.is_branch && found.lane > 0)
            .count();
        if at_rest && branch_lanes != self.tips.len() {
            return broken(format!(
                "{} lanes have {branch_lanes} branches",
                self.tips.len()
            ));
        }
        Ok(())
    }

    fn totals(&self, found: Totals) -> Result<(), Stop> {
        let counts = [
            ("lanes", found.lanes, self.tips.len() as u64),
            ("placements", found.placements, self.events),
            ("supersede edges", found.edges, self.edges),
            ("events that lie nowhere", found.unplaced, 0),
        ];
        for (what, found, expected) in counts {
            if found != expected {
                return broken(format!(
                    "{found} {what} are stored, commits name {expected}"
                ));
            }
        }
        Ok(())
    }
}

fn names((tenant, project): (String, String)) -> Result<(TenantName, ProjectName), Stop> {
    match (TenantName::new(tenant), ProjectName::new(project)) {
        (Ok(tenant), Ok(project)) => Ok((tenant, project)),
        (Err(error), _) | (_, Err(error)) => broken(format!("the project's row: {error}")),
    }
}

/// Recomputes an event's hashes, up to its leaf.
fn leaf(number: u64, event: &AuditedEvent) -> Result<Digest, Stop> {
    let id: EventId = event.id;
    if Digest::of(&[&event.body]) != event.checksum {
        return broken(format!(
            "commit {number}, event {id}: its checksum does not match"
        ));
    }
    if !event.columns_agree {
        return broken(format!(
            "commit {number}, event {id}: its columns differ from its content"
        ));
    }
    let trace = &event.traceparent;
    if body_hash(&event.salt, &id, event.recorded, trace, &event.body) != event.body_hash {
        return broken(format!(
            "commit {number}, event {id}: its content hash does not match"
        ));
    }
    let hash = &event.body_hash;
    Ok(event_leaf(
        event.operation,
        &id,
        &event.record,
        hash,
        &event.supersedes,
    ))
}
