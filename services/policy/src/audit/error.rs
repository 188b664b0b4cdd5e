use commonplace_rpc::{Code, Failure, Reason};
use commonplace_storage::StorageError;
use commonplace_types::Invalid;

/// Why a call about the audit log failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What is kept of a record cannot be read, or is in another's place.
    #[error("audit record {sequence} is damaged: {problem}")]
    Damaged {
        /// Its number.
        sequence: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Reason for AuditError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::Damaged { sequence, .. } => {
                Failure::new(Code::DataLoss, "AUDIT_DAMAGED").metadata("sequence", sequence)
            }
            Self::Storage(error) => error.failure(),
        }
    }
}
