//! What can go wrong, and what the caller is told.

use std::sync::Arc;
use std::time::Duration;

use commonplace_rpc::{Code, Failure, Reason};
use commonplace_storage::StorageError;
use commonplace_types::{BranchName, CommitHash, EventId, Invalid, ProjectName};
use sea_orm::DbErr;

/// How long a caller waits after it met a full queue: about two group commits.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// How long a caller waits before it asks a standby again.
const TAKE_OVER: Duration = Duration::from_millis(200);

/// Why the journal refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// A named field is wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The project has no commit yet.
    #[error("project `{project}` not found: it is made by the first append to its branch `main`")]
    ProjectNotFound {
        /// As asked for.
        project: ProjectName,
    },
    /// The project has no such branch or tag.
    #[error("{kind} `{name}` not found")]
    RefNotFound {
        /// `branch` or `tag`.
        kind: &'static str,
        /// As asked for.
        name: String,
    },
    /// The project has no such commit.
    #[error("commit `{commit}` not found")]
    CommitNotFound {
        /// The hash or prefix asked for.
        commit: String,
    },
    /// The event does not exist, or is not visible at the point that was asked.
    #[error("event `{id}` not found at this point")]
    EventNotFound {
        /// As asked for.
        id: EventId,
    },
    /// Another append came first.
    #[error("branch `{branch}` has moved: its head is now {head}")]
    HeadMoved {
        /// The branch.
        branch: BranchName,
        /// The present head.
        head: CommitHash,
    },
    /// The id belongs to an event with other content.
    #[error("event id `{id}` is taken by other content")]
    EventConflict {
        /// The id that is taken.
        id: EventId,
        /// Which of the append's events has it, from 0.
        place: usize,
    },
    /// Several events of an append are refused; nothing of it was written.
    #[error("{first}; {} further events are refused", others.len())]
    Events {
        /// Why the first is refused.
        first: Box<JournalError>,
        /// The others, each with its field, in order; those behind the first few are not listed.
        others: Vec<Invalid>,
    },
    /// The branch or tag exists, at another point.
    #[error("{kind} `{name}` exists at another point ({commit})")]
    RefConflict {
        /// `branch` or `tag`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it was made.
        commit: CommitHash,
    },
    /// The tenant or the project would hold more than its quota.
    #[error("{subject} may hold {most} {unit}: it holds {stored}, and {new} more do not fit")]
    QuotaExceeded {
        /// Whose quota.
        subject: String,
        /// `events` or `bytes`.
        unit: &'static str,
        /// The quota.
        most: u64,
        /// What there is.
        stored: u64,
        /// What would be added.
        new: u64,
    },
    /// More appends wait than the queue holds.
    #[error("too many appends are waiting: try again")]
    QueueFull,
    /// The service is shutting down.
    #[error("the journal is stopping")]
    Stopping,
    /// Another process leads, or this one is not sure that it does. Nothing was done.
    #[error("this journal stands by: another one leads, or the database is away")]
    Standby,
    /// The cursor names a commit that this journal does not have yet.
    #[error("the cursor is at commit {number}, this journal ends at {head}")]
    CursorAhead {
        /// The cursor's commit number.
        number: u64,
        /// The newest commit number.
        head: u64,
    },
    /// The cursor was made by a journal with another history.
    #[error("the cursor belongs to another history: start again from the first commit")]
    CursorForked,
    /// A project has as many lanes, or a lane as many positions, as can be numbered.
    #[error("{what} is full")]
    Exhausted {
        /// What is full.
        what: &'static str,
    },
    /// Stored data does not read back as it was written.
    #[error("stored data is damaged: {what}")]
    Damaged {
        /// What was read, and what was expected.
        what: String,
    },
    /// The disk is full, the file is damaged, and the like.
    #[error("{0}")]
    Storage(Arc<StorageError>),
}

impl JournalError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// One error of those of several events, in order of the events; at least one.
    pub(crate) fn of_events(errors: Vec<Self>) -> Self {
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else {
            return Self::damaged("an append was refused for no reason");
        };
        let others: Vec<Invalid> = errors.filter_map(|error| error.field()).collect();
        match others.is_empty() {
            true => first,
            false => Self::Events {
                first: Box::new(first),
                others,
            },
        }
    }

    /// The wrong field, where one is.
    fn field(&self) -> Option<Invalid> {
        match self {
            Self::Invalid(invalid) => Some(invalid.clone()),
            Self::EventConflict { id, place } => Some(Invalid::new(
                format!("events[{place}].id"),
                format!("`{id}` is taken by other content"),
            )),
            _ => None,
        }
    }
}

impl From<StorageError> for JournalError {
    fn from(error: StorageError) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<DbErr> for JournalError {
    fn from(error: DbErr) -> Self {
        StorageError::from(error).into()
    }
}

impl Reason for JournalError {
    fn failure(&self) -> Failure {
        let not_found = |reason| Failure::new(Code::NotFound, reason);
        match self {
            Self::Invalid(invalid) => Failure::invalid(invalid),
            Self::ProjectNotFound { project } => {
                not_found("PROJECT_NOT_FOUND").metadata("project", project)
            }
            Self::RefNotFound { kind, name } => not_found(match *kind {
                "tag" => "TAG_NOT_FOUND",
                _ => "BRANCH_NOT_FOUND",
            })
            .metadata("name", name),
            Self::CommitNotFound { commit } => {
                not_found("COMMIT_NOT_FOUND").metadata("commit", commit)
            }
            Self::EventNotFound { id } => not_found("EVENT_NOT_FOUND").metadata("id", id),
            Self::HeadMoved { branch, head } => Failure::new(Code::Aborted, "HEAD_MOVED")
                .metadata("branch", branch)
                .metadata("head", head),
            Self::EventConflict { id, place } => {
                Failure::new(Code::AlreadyExists, "EVENT_ID_TAKEN")
                    .field(&format!("events[{place}].id"), "is taken by other content")
                    .metadata("id", id)
            }
            Self::Events { first, others } => {
                let mut failure = first.failure();
                failure.message = self.to_string();
                failure.fields.extend(others.iter().cloned());
                failure
            }
            Self::RefConflict { kind, name, commit } => {
                let reason = match *kind {
                    "tag" => "TAG_EXISTS",
                    _ => "BRANCH_EXISTS",
                };
                Failure::new(Code::AlreadyExists, reason)
                    .metadata("name", name)
                    .metadata("commit", commit)
            }
            Self::QuotaExceeded {
                subject,
                unit,
                most,
                stored,
                new,
            } => Failure::new(Code::ResourceExhausted, "QUOTA_EXCEEDED")
                .quota(subject, &format!("at most {most} {unit} stored"))
                .metadata("unit", unit)
                .metadata("limit", most)
                .metadata("stored", stored)
                .metadata("new", new),
            Self::QueueFull => {
                Failure::new(Code::ResourceExhausted, "APPEND_QUEUE_FULL").retry_after(RETRY_AFTER)
            }
            Self::Stopping => Failure::new(Code::Unavailable, "STOPPING").retry_after(RETRY_AFTER),
            Self::CursorAhead { head, .. } => {
                Failure::new(Code::OutOfRange, "CURSOR_AHEAD").metadata("head_number", head)
            }
            Self::CursorForked => Failure::new(Code::DataLoss, "CURSOR_FORKED"),
            Self::Exhausted { .. } => Failure::new(Code::FailedPrecondition, "JOURNAL_FULL"),
            Self::Damaged { .. } => Failure::new(Code::DataLoss, "JOURNAL_DAMAGED"),
            Self::Standby => {
                Failure::new(Code::Unavailable, "JOURNAL_STANDBY").retry_after(TAKE_OVER)
            }
            Self::Storage(error) => match error.as_ref() {
                StorageError::Corrupt { .. } => Failure::new(Code::DataLoss, "JOURNAL_DAMAGED"),
                error => error.failure(),
            },
        }
    }
}
