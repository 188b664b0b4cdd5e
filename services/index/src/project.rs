//! One project's index while the service runs: its engine, which may be replaced, and how it is doing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use commonplace_types::{ProjectName, TenantName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::{Engine, Progress};
use crate::slots::Usage;
use crate::status::ProjectStatus;

/// The follower is at the journal's head, as far as that is known.
pub(crate) const FOLLOWING: &str = "following";
/// The follower has commits before it.
pub(crate) const BUILDING: &str = "building";
/// Its folder is closed until somebody needs it.
pub(crate) const RESTING: &str = "resting";

/// Requests to a follower that may wait.
const QUEUED: usize = 16;

/// Passages that may wait for their vectors without the project counting as being built.
const FEW_VECTORS: usize = 256;

/// Asks a follower to throw the folder away and start again; answered once it is gone.
pub(crate) type Rebuild = oneshot::Sender<()>;

/// A project that is followed.
pub(crate) struct Project {
    pub(crate) tenant: TenantName,
    pub(crate) name: ProjectName,
    pub(crate) folder: PathBuf,
    engine: watch::Sender<Option<Arc<Engine>>>,
    rebuilds: mpsc::Sender<Rebuild>,
    /// Number of the journal's newest commit plus 1, as far as it is known.
    journal_commits: AtomicU64,
    /// The engine has once held all there was.
    whole: AtomicBool,
    /// Who needs the engine, and when it may be closed.
    pub(crate) usage: Usage,
    /// How it stood when it went to rest; none while it does not rest.
    rested: Mutex<Option<ProjectStatus>>,
    standing: Mutex<String>,
}

impl Project {
    /// A project without an engine yet, and where its rebuilds are asked for.
    pub(crate) fn new(
        tenant: TenantName,
        name: ProjectName,
        folder: PathBuf,
    ) -> (Self, mpsc::Receiver<Rebuild>) {
        let (rebuilds, asked) = mpsc::channel(QUEUED);
        let project = Self {
            tenant,
            name,
            folder,
            engine: watch::Sender::new(None),
            rebuilds,
            journal_commits: AtomicU64::new(0),
            whole: AtomicBool::new(false),
            usage: Usage::default(),
            rested: Mutex::default(),
            standing: Mutex::new(BUILDING.to_owned()),
        };
        (project, asked)
    }

    /// The present engine; none while the folder is opened or built anew.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.borrow().clone()
    }

    /// Puts another engine in place.
    pub(crate) fn replace(&self, engine: Option<Arc<Engine>>) {
        self.whole.store(false, Ordering::Relaxed);
        self.engine.send_replace(engine);
    }

    /// Whether the engine has never yet held all there was: a few passages may wait for their vectors.
    /// `embeds`: whether there is a model.
    pub(crate) fn is_building(&self, embeds: bool) -> bool {
        let Some(engine) = self.engine() else {
            return true;
        };
        if self.whole.load(Ordering::Relaxed) {
            return false;
        }
        let snapshot = engine.snapshot();
        let waiting = snapshot
            .state
            .rows
            .len()
            .saturating_sub(snapshot.vectors.len());
        let whole = snapshot.progress.commits >= self.journal_commits()
            && (!embeds || waiting <= FEW_VECTORS);
        self.whole.store(whole, Ordering::Relaxed);
        !whole
    }

    /// Waits, without end, for an engine that has come far enough.
    pub(crate) async fn once(&self, enough: impl Fn(&Progress) -> bool) -> Arc<Engine> {
        let mut engines = self.engine.subscribe();
        loop {
            let engine = engines.borrow_and_update().clone();
            if let Some(engine) = engine {
                let mut progress = engine.watch();
                tokio::select! {
                    biased;
                    reached = progress.wait_for(&enough) => if reached.is_ok() {
                        drop(reached);
                        return engine;
                    },
                    _ = engines.changed() => continue,
                }
            }
            // The sender is part of `self`, so there is always a change to wait for.
            let _ = engines.changed().await;
        }
    }

    /// Has the folder thrown away and built again. False: nobody follows the project any more.
    pub(crate) async fn rebuild(&self) -> bool {
        let (done, gone) = oneshot::channel();
        self.rebuilds.send(done).await.is_ok() && gone.await.is_ok()
    }

    /// Asks for a rebuild without waiting for it.
    pub(crate) fn request_rebuild(&self) {
        let (done, _) = oneshot::channel();
        // A full queue means that one is coming anyway.
        let _ = self.rebuilds.try_send(done);
    }

    /// Notes how far the journal is; a project at rest wakes for what is new.
    pub(crate) fn saw_journal_at(&self, number: u64) {
        let before = self
            .journal_commits
            .fetch_max(number + 1, Ordering::Relaxed);
        if before <= number {
            self.usage.wake();
        }
    }

    /// Notes how it stands, to tell while it rests; or that it rests no more.
    pub(crate) fn set_rested(&self, status: Option<ProjectStatus>) {
        *self.rested.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// How it stood when it went to rest.
    pub(crate) fn rested(&self) -> Option<ProjectStatus> {
        let rested = self.rested.lock();
        rested.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a project at rest should be opened: somebody needs it, or the journal has more.
    pub(crate) fn is_wanted(&self) -> bool {
        let known = self.rested().map_or(0, |status| status.lexical_commits);
        self.usage.is_used() || self.journal_commits() > known
    }

    /// Commits that the journal is known to have.
    pub(crate) fn journal_commits(&self) -> u64 {
        self.journal_commits.load(Ordering::Relaxed)
    }

    /// Says what the follower is doing, or why it stands still.
    pub(crate) fn stand(&self, text: impl Into<String>) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// What the follower is doing: `following`, `building`, or why it stands still. `commits`: those taken
    /// in, none while there is no engine. The numbers decide, since they are newer than what was said last.
    pub(crate) fn standing(&self, commits: Option<u64>) -> String {
        let standing = self.standing.lock();
        let said = standing.unwrap_or_else(PoisonError::into_inner).clone();
        if said != FOLLOWING && said != BUILDING {
            return said;
        }
        let at_head = |commits| commits > 0 && commits >= self.journal_commits();
        let state = if commits.is_some_and(at_head) {
            FOLLOWING
        } else {
            BUILDING
        };
        state.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_decide_what_a_project_is_doing() {
        let name = ProjectName::new("default").unwrap();
        let (project, _asked) = Project::new(TenantName::default_tenant(), name, PathBuf::new());
        assert_eq!(project.standing(None), "building");
        assert_eq!(project.standing(Some(0)), "building");
        // Opened with all it had, and the journal has not told of more.
        assert_eq!(project.standing(Some(3)), "following");
        project.saw_journal_at(3);
        assert_eq!(project.standing(Some(3)), "building");
        assert_eq!(project.standing(Some(4)), "following");
        project.stand("the disk is full");
        assert_eq!(project.standing(Some(4)), "the disk is full");
        project.stand("building");
        assert_eq!(project.standing(Some(4)), "following");
    }
}
