//! Settings of the index service.

use serde::{Deserialize, Serialize};

use crate::qdrant::QdrantOptions;

/// Settings of the index service. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How often the journal is asked for new projects.
    pub poll_interval_ms: u64,
    /// Projects that are open at once; the one that was used longest ago rests on disk when another is needed.
    pub open_projects: usize,
    /// How long what was taken in may stay in memory only; a crash makes it be read from the journal again.
    pub commit_interval_ms: u64,
    /// Passages in memory that make the index commit at once.
    pub commit_passages: usize,
    /// Most events taken in at once.
    pub batch_events: usize,
    /// Shortest and longest wait before the journal's feed is asked for again after a failure.
    pub retry_ms: (u64, u64),
    /// Searches that run at the same time; 0 means one for each processor.
    pub searches: usize,
    /// Searches that may wait for their turn; more are refused.
    pub queued_searches: usize,
    /// How long a call waits for the index to catch up, if its own deadline is not sooner.
    pub longest_wait_ms: u64,
    /// Threads that cut and analyse events; 0 means one for each processor.
    pub indexing_threads: usize,
    /// Threads that make vectors in the background, at least 1.
    pub embedding_threads: usize,
    /// Vectors of queries that are kept.
    pub cached_queries: usize,
    /// Where dense candidates come from.
    pub vectors: VectorStore,
    /// The Qdrant cluster, for `vectors = "qdrant"`.
    pub qdrant: QdrantOptions,
}

/// Where dense candidates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorStore {
    /// An exact scan of vectors in memory.
    #[default]
    Local,
    /// A Qdrant cluster; scores are computed here all the same.
    Qdrant,
}

impl VectorStore {
    /// Its name in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Qdrant => "qdrant",
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            poll_interval_ms: 1_000,
            open_projects: 32,
            commit_interval_ms: 1_000,
            commit_passages: 20_000,
            batch_events: 5_000,
            retry_ms: (50, 5_000),
            searches: 0,
            queued_searches: 256,
            longest_wait_ms: 30_000,
            indexing_threads: 0,
            embedding_threads: 1,
            cached_queries: 4_096,
            vectors: VectorStore::Local,
            qdrant: QdrantOptions::default(),
        }
    }
}

impl Options {
    /// Most vectors of a project held in memory.
    pub(crate) fn held_vectors(&self) -> usize {
        match self.vectors {
            VectorStore::Local => usize::MAX,
            VectorStore::Qdrant => self.qdrant.held_vectors,
        }
    }
}

/// `count`, or the number of processors for 0.
pub(crate) fn or_processors(count: usize) -> usize {
    match count {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
