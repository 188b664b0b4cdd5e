use commonplace_access::decide::Complaint;
use commonplace_rpc::{Code, Failure, Reason};
use commonplace_storage::StorageError;
use commonplace_types::Invalid;

/// Text of complaints that an error carries at most, in bytes: it travels in headers, three times and escaped.
const TOLD_BYTES: usize = 1_500;

/// Why a call about keys, grants or authorization policies failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A policy does not parse, or does not fit the schema or the tenant's other policies.
    #[error("authorization policy refused: {}", told(.0).join("; "))]
    Refused(Vec<Complaint>),
    /// The tenant has no such key.
    #[error("key `{0}` not found")]
    UnknownKey(String),
    /// The tenant has no such grant.
    #[error("grant `{0}` not found")]
    UnknownGrant(String),
    /// The tenant has no such policy of its own.
    #[error("authorization policy `{0}` not found")]
    UnknownPolicy(String),
    /// The contracts have no such method.
    #[error("no rpc ends in `{0}`; expected for example `JournalService/Append`")]
    UnknownMethod(String),
    /// The key is revoked or has expired.
    #[error("key `{id}` {how}; make another one")]
    KeyEnded {
        /// Which key.
        id: String,
        /// `is revoked` or `has expired`.
        how: &'static str,
    },
    /// The credential of the caller covers less than what is to be given away.
    #[error("`{field}`: more than the caller's own credential covers: {what}")]
    Exceeds {
        /// The field of the request.
        field: &'static str,
        /// What is not covered.
        what: String,
    },
    /// As many as allowed.
    #[error("expected at most {most} {what} of a tenant, which there are already")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// Others kept changing the same in between.
    #[error("others changed the same at the same time: try again")]
    Contended,
    /// What is stored cannot be read.
    #[error("what is stored of access is damaged: {0}")]
    Damaged(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The work ended before it answered.
    #[error("the work was broken off")]
    Interrupted,
}

impl Reason for AccessError {
    fn failure(&self) -> Failure {
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::Refused(complaints) => {
                let failure = Failure::new(Code::InvalidArgument, "ACCESS_POLICY_INVALID");
                let told = told(complaints).into_iter();
                told.fold(failure, |failure, text| failure.field("source", &text))
            }
            Self::UnknownKey(_) => Failure::new(Code::NotFound, "KEY_NOT_FOUND"),
            Self::UnknownGrant(_) => Failure::new(Code::NotFound, "GRANT_NOT_FOUND"),
            Self::UnknownPolicy(_) => Failure::new(Code::NotFound, "ACCESS_POLICY_NOT_FOUND"),
            Self::UnknownMethod(_) => Failure::new(Code::NotFound, "METHOD_NOT_FOUND"),
            Self::KeyEnded { .. } => Failure::new(Code::FailedPrecondition, "KEY_ENDED"),
            Self::Exceeds { field, what } => {
                Failure::new(Code::PermissionDenied, "SCOPE_EXCEEDED").field(field, what)
            }
            Self::TooMany { most, .. } => {
                Failure::new(Code::ResourceExhausted, "ACCESS_LIMIT").metadata("limit", most)
            }
            Self::Contended => Failure::new(Code::Aborted, "ACCESS_CONTENDED"),
            Self::Damaged(_) => Failure::new(Code::DataLoss, "ACCESS_DAMAGED"),
            Self::Storage(error) => error.failure(),
            Self::Interrupted => Failure::new(Code::Internal, "INTERRUPTED"),
        }
    }
}

/// Each complaint as a text, as far as an error can carry them.
fn told(complaints: &[Complaint]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut left = TOLD_BYTES;
    for (place, complaint) in complaints.iter().enumerate() {
        let mut text = format!("`{}`: {}", complaint.id, complaint.problem);
        text.truncate(text.floor_char_boundary(TOLD_BYTES / 2));
        if text.len() > left {
            texts.push(format!("and {} more", complaints.len() - place));
            break;
        }
        left -= text.len();
        texts.push(text);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_fit_into_a_header_and_say_how_many_are_left_out() {
        let complaint = |problem: String| Complaint {
            id: "mine".into(),
            problem,
        };
        let many: Vec<Complaint> = (0..200)
            .map(|n| complaint(format!("{n} {}", "ä".repeat(300))))
            .collect();
        let texts = told(&many);
        assert!(texts.iter().map(String::len).sum::<usize>() < TOLD_BYTES + 100);
        assert_eq!(
            texts.last().unwrap(),
            &format!("and {} more", 200 - (texts.len() - 1))
        );
        assert_eq!(told(&[complaint("x".into())]), ["`mine`: x"]);
    }
}
