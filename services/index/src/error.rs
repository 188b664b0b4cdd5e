//! What can go wrong with a call, and what its caller should be told.

use std::time::Duration;

use commonplace_rpc::{Code, Failure, Reason};
use commonplace_types::{EventId, Invalid};

use crate::qdrant::StoreError;

/// Why a call to the index failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The journal refused what the call needs of it.
    #[error("{}", .0.message)]
    Journal(Failure),
    /// No such passage.
    #[error("passage {passage} of event `{event}` not found")]
    PassageNotFound {
        /// The event asked for.
        event: EventId,
        /// The passage asked for.
        passage: u32,
    },
    /// The caller may not see all that it asks to search.
    #[error("you may see parts of the project only, and less than what `within` names")]
    BeyondView,
    /// The index did not come as far as the call needs within its time.
    #[error("the index of project `{project}` has not caught up with commit {wanted} in time")]
    Behind {
        /// The project.
        project: String,
        /// Number of the commit needed.
        wanted: u64,
    },
    /// The project is still being built here, and the caller asked not to wait for that.
    #[error("the index of project `{project}` is still being built here")]
    Building {
        /// The project.
        project: String,
    },
    /// Too many searches at once.
    #[error("{waiting} searches are waiting already")]
    Busy {
        /// Searches waiting.
        waiting: usize,
    },
    /// The vector store does not do what is asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service is stopping, or a task of it ended early.
    #[error("the index is stopping")]
    Stopping,
    /// The index folder cannot be used at all.
    #[error("cannot use the folder {path}; check its permissions and the free space")]
    Folder {
        /// The folder.
        path: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
}

impl Reason for IndexError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::Journal(failure) => failure.clone(),
            Self::PassageNotFound { event, passage } => {
                Failure::new(Code::NotFound, "PASSAGE_NOT_FOUND")
                    .metadata("event_id", event)
                    .metadata("passage", passage)
            }
            Self::BeyondView => Failure::new(Code::PermissionDenied, "ACCESS_DENIED"),
            Self::Behind { wanted, .. } => {
                Failure::new(Code::DeadlineExceeded, "INDEX_BEHIND").metadata("commit", wanted)
            }
            // Not UNAVAILABLE: repeating it here would not help.
            Self::Building { .. } => Failure::new(Code::FailedPrecondition, "INDEX_BUILDING"),
            Self::Busy { .. } => Failure::new(Code::ResourceExhausted, "SEARCHES_BUSY")
                .retry_after(Duration::from_millis(50)),
            Self::Store(_) => Failure::new(Code::Unavailable, "VECTOR_STORE_DOWN")
                .retry_after(Duration::from_secs(1)),
            Self::Stopping => Failure::new(Code::Unavailable, "INDEX_STOPPING")
                .retry_after(Duration::from_secs(1)),
            Self::Folder { .. } => Failure::new(Code::Internal, "INDEX_FOLDER"),
        }
    }
}
