//! What a caller is told when storage fails: the same words from every service.

use std::time::Duration;

use commonplace_rpc::{Code, Failure, Reason};

use crate::StorageError;

/// How long a caller waits after it met a busy database: about two group commits.
const BUSY: Duration = Duration::from_millis(50);
/// How long a caller waits for a server that is away: a restart takes about a second.
const AWAY: Duration = Duration::from_millis(250);
/// How long a caller waits for room on a disk: somebody has to make it.
const FULL: Duration = Duration::from_secs(30);

impl Reason for StorageError {
    fn failure(&self) -> Failure {
        match self {
            Self::Full(_) => Failure::new(Code::ResourceExhausted, "DISK_FULL").retry_after(FULL),
            Self::Busy(_) | Self::Aborted | Self::Conflict(_) => {
                Failure::new(Code::Unavailable, "STORAGE_BUSY").retry_after(BUSY)
            }
            Self::Unavailable(_) | Self::Fenced { .. } => {
                Failure::new(Code::Unavailable, "STORAGE_UNAVAILABLE").retry_after(AWAY)
            }
            Self::Corrupt { .. } => Failure::new(Code::DataLoss, "STORAGE_DAMAGED"),
            Self::Newer { .. }
            | Self::Format { .. }
            | Self::InUse { .. }
            | Self::OldLibrary { .. }
            | Self::Setting { .. }
            | Self::Unfit { .. }
            | Self::Pending { .. } => Failure::new(Code::FailedPrecondition, "DATA_FOLDER_REFUSED"),
            Self::File { .. } | Self::Database(_) => Failure::new(Code::Internal, "STORAGE_FAILED"),
        }
    }
}
