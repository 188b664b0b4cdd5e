use std::time::Duration;

use commonplace_rpc::{Code, Failure, Reason};
use commonplace_storage::StorageError;
use commonplace_types::Invalid;

/// How long a caller waits before it asks again for a pack to be kept.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Why a call to the retrieval service failed.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The index or the policy service refused.
    #[error("{}", .0.message)]
    Upstream(Box<Failure>),
    /// Another service answered what its contract does not allow.
    #[error("{service} answered amiss: {invalid}")]
    Amiss {
        /// Which service.
        service: &'static str,
        /// What is wrong.
        invalid: Invalid,
    },
    /// Nothing fits the budget.
    #[error("`budget_tokens`: {budget} tokens are less than the smallest item takes ({smallest})")]
    BudgetTooSmall {
        /// What there is.
        budget: u32,
        /// What the smallest item takes.
        smallest: u32,
    },
    /// No such pack is kept.
    #[error("pack `{0}` not found")]
    UnknownPack(String),
    /// The pack was made from more than the caller may see.
    #[error("the pack was made from more of its project than you may see")]
    BeyondView,
    /// A kept pack is not what its id says.
    #[error("kept pack `{id}` is damaged: {problem}")]
    Damaged {
        /// The pack.
        id: String,
        /// What does not fit.
        problem: String,
    },
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The pack could not be put on disk.
    #[error("pack `{id}` was made but not kept: {problem}")]
    NotKept {
        /// The pack.
        id: String,
        /// Why not.
        problem: String,
    },
    /// The service is shutting down.
    #[error("retrieval is shutting down")]
    ShuttingDown,
}

impl Reason for RetrievalError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::Upstream(failure) => (**failure).clone(),
            Self::Amiss { .. } => Failure::new(Code::Internal, "UPSTREAM_AMISS"),
            Self::BudgetTooSmall { budget, smallest } => {
                Failure::new(Code::FailedPrecondition, "BUDGET_TOO_SMALL")
                    .field(
                        "budget_tokens",
                        &format!("expected at least {smallest}, found {budget}"),
                    )
                    .metadata("budget_tokens", budget)
                    .metadata("smallest_item_tokens", smallest)
            }
            Self::UnknownPack(_) => Failure::new(Code::NotFound, "PACK_NOT_FOUND"),
            Self::BeyondView => Failure::new(Code::PermissionDenied, "ACCESS_DENIED"),
            Self::Damaged { .. } => Failure::new(Code::DataLoss, "PACK_DAMAGED"),
            Self::Storage(error) => error.failure(),
            Self::NotKept { .. } => {
                Failure::new(Code::Unavailable, "PACK_NOT_KEPT").retry_after(TRY_AGAIN)
            }
            Self::ShuttingDown => Failure::new(Code::Unavailable, "SHUTTING_DOWN"),
        }
    }
}
