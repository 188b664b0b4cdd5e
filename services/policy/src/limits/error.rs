use commonplace_rpc::{Code, Failure, Reason};
use commonplace_storage::StorageError;
use commonplace_types::Invalid;

/// Why a call about limits failed.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The present limits are not those that were to be replaced.
    #[error("the limits were changed meanwhile: look at them, then put again")]
    Changed {
        /// What the present ones are known by.
        present: String,
    },
    /// What is stored cannot be read.
    #[error("what is stored of limits is damaged: {0}")]
    Damaged(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Reason for LimitsError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::Changed { present } => {
                Failure::new(Code::Aborted, "LIMITS_CHANGED").metadata("etag", present)
            }
            Self::Damaged(_) => Failure::new(Code::DataLoss, "LIMITS_DAMAGED"),
            Self::Storage(error) => error.failure(),
        }
    }
}
