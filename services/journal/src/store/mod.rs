//! What is kept, and the one contract for keeping it.
//!
//! A [`Store`] holds projects, lanes, events, placements, supersede edges, commits, refs and answered
//! requests. Whatever the backend:
//!
//! - [`Store::apply`] decides and writes a group of requests as one durable transaction. It answers each
//!   request on its own: one that is refused does not hinder the others, and one that is answered with
//!   success is on disk. It is called by one task at a time.
//! - Reads see whole groups or nothing of them, and never wait for a writer.
//! - What was written is never changed, but for the refs.
//!
//! One store speaks to SQLite and to PostgreSQL; what differs between them is in `libs/storage`, in the
//! tables (`sql/schema.rs`) and in braces in the statements. `tests/conformance.rs` states the contract
//! from outside and runs over both.

mod sql;

use std::sync::Arc;

use commonplace_types::{
    BranchName, CommitHash, Digest, Event, EventId, Operation, ProjectName, RecordId, Reference,
    TagName, TenantName, Timestamp, Visible,
};

use crate::append::{Appended, Prepared, RequestId};
use crate::commit::{Commit, Parts, Salt};

pub use sql::{FILE, MIGRATIONS, WALL};

pub(crate) use sql::SqlStore as Store;

/// A branch or a tag, by name. Sorts branches first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefName {
    /// Moves with each commit on it.
    Branch(BranchName),
    /// Never moves.
    Tag(TagName),
}

impl RefName {
    /// `branch` or `tag`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Branch(_) => "branch",
            Self::Tag(_) => "tag",
        }
    }

    /// The name alone.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Branch(name) => name.as_str(),
            Self::Tag(name) => name.as_str(),
        }
    }
}

/// A branch or tag and the commit it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefEntry {
    /// What names it.
    pub name: RefName,
    /// What it names.
    pub commit: Arc<Commit>,
}

/// A ref to make.
#[derive(Debug, Clone)]
pub struct CreateRef {
    /// Whose project.
    pub tenant: TenantName,
    /// Must exist.
    pub project: ProjectName,
    /// Absent: a repeat is only recognised by its name and point.
    pub request_id: Option<RequestId>,
    /// What to make.
    pub name: RefName,
    /// Where.
    pub at: Reference,
}

/// One request to write.
pub(crate) enum Write {
    Append(Prepared),
    /// The commit is what `at` resolved to.
    Ref(CreateRef, Arc<Commit>),
}

impl Write {
    pub(crate) fn project(&self) -> (&TenantName, &ProjectName) {
        match self {
            Self::Append(prepared) => (&prepared.append.tenant, &prepared.append.project),
            Self::Ref(create, _) => (&create.tenant, &create.project),
        }
    }

    pub(crate) fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Append(prepared) => prepared.append.request_id,
            Self::Ref(create, _) => create.request_id,
        }
    }

    /// Bytes it holds while it waits.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Append(prepared) => prepared.bytes,
            Self::Ref(..) => 0,
        }
    }

    /// Events it brings.
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::Append(prepared) => prepared.events.len(),
            Self::Ref(..) => 0,
        }
    }
}

/// What a write did.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    Appended(Appended),
    Ref(RefEntry),
}

/// A commit with what leads a reader through it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The commit.
    pub commit: Arc<Commit>,
    /// Hash of the commit with the number below; none for commit 0.
    pub previous: Option<CommitHash>,
    /// What it sees, itself included.
    pub visible: Visible,
    /// Its events in order of position.
    pub events: Vec<Event>,
}

/// Consecutive commits whose frames are read together.
#[derive(Debug)]
pub(crate) struct FramePage {
    /// Hash of the commit before the first.
    pub(crate) previous: Option<CommitHash>,
    pub(crate) commits: Vec<Arc<Commit>>,
}

impl FramePage {
    /// What its frames take in memory, about: contents, and for each event its names and numbers.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |commit: &Arc<Commit>| commit.bytes + 512 * (u64::from(commit.event_count()) + 1);
        self.commits.iter().map(of).sum()
    }
}

/// Where a page of events ended: the time and id of its last.
pub(crate) type EventPlace = (Timestamp, EventId);

/// A stored placement with all that its hash is made of.
pub(crate) struct AuditedEvent {
    pub(crate) id: EventId,
    pub(crate) record: RecordId,
    pub(crate) operation: Operation,
    pub(crate) salt: Salt,
    pub(crate) body_hash: Digest,
    pub(crate) checksum: Digest,
    pub(crate) recorded: Timestamp,
    pub(crate) traceparent: String,
    pub(crate) body: Vec<u8>,
    /// What its placement supersedes, sorted.
    pub(crate) supersedes: Vec<EventId>,
    /// The columns that repeat what the body says agree with it.
    pub(crate) columns_agree: bool,
}

/// A stored ref.
pub(crate) struct AuditedRef {
    pub(crate) name: String,
    pub(crate) is_branch: bool,
    pub(crate) number: u64,
    pub(crate) origin: u64,
    /// 0 for none.
    pub(crate) lane: u32,
    /// The row is as it was written.
    pub(crate) intact: bool,
}

/// How many rows a project has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) lanes: u64,
    pub(crate) placements: u64,
    pub(crate) edges: u64,
    /// Events that lie nowhere.
    pub(crate) unplaced: u64,
}

impl CreateRef {
    /// Of the whole request, to tell a repeat from another request with the same id.
    pub(crate) fn request_hash(&self) -> Digest {
        let mut parts = Parts::new("commonplace ref request v1");
        parts.put(self.project.as_str().as_bytes());
        parts.put(self.name.kind().as_bytes());
        parts.put(self.name.as_str().as_bytes());
        parts.put(self.at.to_string().as_bytes());
        Digest::of(&[&parts.0])
    }
}
