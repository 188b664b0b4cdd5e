use commonplace_rpc::{Code, Failure, Reason};
use commonplace_storage::StorageError;
use commonplace_types::{Invalid, PolicyId};

use crate::parse::Problem;

/// Why a call to the policy service failed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The YAML of a policy is wrong.
    #[error("policy refused: {0}")]
    Source(#[from] Problem),
    /// There is no policy of that id.
    #[error("policy `{id}` not found, expected one of {}", listed(known))]
    UnknownPolicy {
        /// What was asked for.
        id: String,
        /// What there is, sorted.
        known: Vec<PolicyId>,
    },
    /// There is no such version of the policy.
    #[error("policy `{id}` has no version {version}, expected 1 to {newest}")]
    UnknownVersion {
        /// The policy.
        id: PolicyId,
        /// What was asked for.
        version: u64,
        /// The newest there is.
        newest: u64,
    },
    /// As many policies as allowed.
    #[error("expected at most {most} policies of one's own, which there are already")]
    TooMany {
        /// The bound.
        most: usize,
    },
    /// What is stored does not fit its hash or the rules of this program.
    #[error("stored policy `{id}` version {version} is damaged: {problem}")]
    Damaged {
        /// The policy.
        id: String,
        /// The version.
        version: u64,
        /// What does not fit.
        problem: String,
    },
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Others kept putting versions of the same policy in between.
    #[error("other versions of the policy were put at the same time: try again")]
    Contended,
    /// The work ended before it answered.
    #[error("the work was broken off")]
    Interrupted,
}

fn listed(ids: &[PolicyId]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    quoted.join(", ")
}

impl Reason for PolicyError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::Source(problem) => {
                let text = problem.to_string();
                Failure::new(Code::InvalidArgument, "POLICY_INVALID")
                    .field("source", &text)
                    .metadata("line", problem.line)
                    .metadata("key", &problem.key)
            }
            Self::UnknownPolicy { known, .. } => Failure::new(Code::NotFound, "POLICY_NOT_FOUND")
                .metadata(
                    "known",
                    known
                        .iter()
                        .map(PolicyId::as_str)
                        .collect::<Vec<_>>()
                        .join(","),
                ),
            Self::UnknownVersion { newest, .. } => {
                Failure::new(Code::NotFound, "POLICY_VERSION_NOT_FOUND").metadata("newest", newest)
            }
            Self::TooMany { most } => {
                Failure::new(Code::ResourceExhausted, "POLICY_LIMIT").metadata("limit", most)
            }
            Self::Damaged { .. } => Failure::new(Code::DataLoss, "POLICY_DAMAGED"),
            Self::Storage(error) => error.failure(),
            Self::Contended => Failure::new(Code::Aborted, "POLICY_CONTENDED"),
            Self::Interrupted => Failure::new(Code::Internal, "INTERRUPTED"),
        }
    }
}
