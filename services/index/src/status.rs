//! Tells how a project's index is doing.

use std::path::Path;

use commonplace_types::{ProjectName, TenantName};

use crate::project::{BUILDING, FOLLOWING, Project, RESTING};

/// How a project's index is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectStatus {
    /// The project.
    pub project: ProjectName,
    /// Commits that can be searched by words.
    pub lexical_commits: u64,
    /// Commits that have all their vectors.
    pub dense_commits: u64,
    /// Commits that the journal has, as far as it has told.
    pub journal_commits: u64,
    /// Passages held.
    pub passages: u64,
    /// Vectors held.
    pub vectors: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Depends on the commits taken in and on nothing else.
    pub digest: String,
    /// `following`, `building`, or why it stands still.
    pub state: String,
    /// The vector store, if dense candidates come from one.
    pub store: Option<StoreStatus>,
}

/// How the vector store is doing, as far as one project is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Commits whose vectors it has acknowledged.
    pub commits: u64,
    /// `serving`, or why it is not asked.
    pub state: String,
    /// Where the points are.
    pub collection: String,
}

/// How far a project of any tenant has come; what can be told without reading files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose it is.
    pub tenant: TenantName,
    /// The project.
    pub project: ProjectName,
    /// Commits that the journal has and that cannot be searched yet.
    pub behind: u64,
    /// `following`, `building`, `resting`, or why it stands still.
    pub state: String,
}

impl Standing {
    /// Whether it does what it should.
    pub fn is_well(&self) -> bool {
        [FOLLOWING, BUILDING, RESTING].contains(&self.state.as_str())
    }
}

/// How far it has come.
pub(crate) fn standing_of(project: &Project) -> Standing {
    let (commits, state) = match project.rested() {
        Some(rested) => (rested.lexical_commits, rested.state),
        None => {
            let engine = project.engine();
            let commits = engine.map(|engine| engine.snapshot().progress.commits);
            (commits.unwrap_or(0), project.standing(commits))
        }
    };
    Standing {
        tenant: project.tenant.clone(),
        project: project.name.clone(),
        behind: project.journal_commits().saturating_sub(commits),
        state,
    }
}

/// How it is doing now. Reads the sizes of its files.
pub(crate) fn status_of(project: &Project) -> ProjectStatus {
    if let Some(rested) = project.rested() {
        let journal_commits = project.journal_commits().max(rested.lexical_commits);
        return ProjectStatus {
            journal_commits,
            ..rested
        };
    }
    let engine = project.engine();
    let snapshot = engine.as_ref().map(|engine| engine.snapshot());
    let progress = snapshot.as_ref().map(|s| s.progress).unwrap_or_default();
    let outside = engine.as_ref().and_then(|engine| engine.outside().cloned());
    let store = outside.map(|outside| StoreStatus {
        commits: progress.stored,
        state: outside.state(),
        collection: outside.store.collection.clone(),
    });
    ProjectStatus {
        store,
        project: project.name.clone(),
        lexical_commits: progress.commits,
        dense_commits: progress.dense,
        journal_commits: project.journal_commits().max(progress.commits),
        passages: snapshot.as_ref().map_or(0, |s| s.state.rows.len() as u64),
        vectors: snapshot.as_ref().map_or(0, |s| s.vectors.len() as u64),
        size_bytes: bytes_in(&project.folder),
        digest: engine.map(|engine| engine.digest()).unwrap_or_default(),
        state: project.standing(snapshot.as_ref().map(|_| progress.commits)),
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_in(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
