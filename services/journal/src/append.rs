//! What an append asks for, what must be known to decide it, and the decision. No storage in here: the
//! store gathers [`Facts`], [`plan`] decides, the store writes what was decided.
//!
//! Which event a draft is:
//!
//! - An *observation* is the same event wherever and whenever it is sent: a draft with an id of its own, with a
//!   time of its own, or one that leaves the heads of its record alone. Sent again it is a duplicate, also
//!   after it was superseded, so old reports can be sent again and add nothing.
//! - A *state* says how its record stands now: it names a record, takes the place of the record's heads
//!   (`supersede_heads`, or a retract), and has neither an id nor a time of its own. It is a duplicate only
//!   while it is the one head of its record. When it returns after something else was said, it is a new
//!   event, whose id is derived from its content and the heads that it replaces: the same request sent twice
//!   still is one event, because after the first it is what memory says.

mod facts;
mod plan;
mod states;

use std::sync::Arc;

use commonplace_types::{
    BranchName, CommitHash, Digest, Draft, EventId, Invalid, Operation, ProjectName, RecordId,
    TenantName, limits,
};

use crate::commit::{Commit, Parts};
use crate::quota::Within;
use crate::{JournalError, body};
pub(crate) use facts::{Facts, Known};
pub(crate) use plan::{NewEvent, Plan, Target, plan};

/// Longest message of a commit, in bytes.
const MESSAGE_BYTES: usize = 1_024;

/// Names a request, so that its repeat gets the first answer.
pub type RequestId = [u8; 16];

/// Where the events of an append come from. Put on those that state none; no part of which event they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Through which system or file; at most 256 bytes.
    pub source: String,
    /// On whose behalf; at most 256 bytes.
    pub author: String,
}

/// Events to add to a branch as one commit.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose project.
    pub tenant: TenantName,
    /// Made when it has no commit yet and the branch is `main`.
    pub project: ProjectName,
    /// Must exist, but for `main` of a new project.
    pub branch: BranchName,
    /// Absent: a repeat is only recognised by its events' ids.
    pub request_id: Option<RequestId>,
    /// Append only if this is still the head.
    pub expected_head: Option<CommitHash>,
    /// Who commits; at most 256 bytes.
    pub author: String,
    /// Why; at most 1,024 bytes.
    pub message: String,
    /// W3C trace context, stored on each new event.
    pub traceparent: String,
    /// Where the events come from.
    pub origin: Origin,
    /// Decide, but write nothing.
    pub validate_only: bool,
    /// [`Draft::checked`] drafts, 1 to 5,000, 16 MiB together.
    pub events: Vec<Draft>,
}

/// What an append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The commit that holds the events; the head when all were there already.
    pub commit: Arc<Commit>,
    /// One per draft, in order.
    pub events: Vec<AppendedEvent>,
}

/// What became of one draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedEvent {
    /// Its event.
    pub id: EventId,
    /// It was visible before; nothing was written.
    pub duplicate: bool,
    /// Where it lies in its lane.
    pub position: u32,
    /// It is a state that returned, so its id is not the one that its content alone gives.
    pub returned: bool,
}

/// An append with everything computed that needs no knowledge of the journal.
pub(crate) struct Prepared {
    pub(crate) append: Append,
    pub(crate) events: Vec<PreparedEvent>,
    /// Of the whole request, to tell a repeat from another request with the same id.
    pub(crate) request_hash: Digest,
    pub(crate) bytes: u64,
    /// What may be stored; none: as much as there is room for.
    pub(crate) within: Option<Box<Within>>,
}

pub(crate) struct PreparedEvent {
    pub(crate) id: EventId,
    pub(crate) record: RecordId,
    pub(crate) checksum: Digest,
    pub(crate) body: Vec<u8>,
    /// Whether it supersedes what its record's heads turn out to be.
    pub(crate) over_heads: bool,
    /// Whether it says how its record stands, and so may return.
    pub(crate) is_state: bool,
    /// Whether its writer stated them, so that they count as content.
    pub(crate) states_source: bool,
    pub(crate) states_author: bool,
    /// Whether the append's origin was put on it.
    pub(crate) has_origin: bool,
}

/// An event's content apart from its origin: what is compared when an event comes from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    content: Digest,
    source: String,
    author: String,
}

impl Apart {
    /// Of an event's content. Error: it does not read back.
    pub(crate) fn of(content: &[u8]) -> Result<Self, JournalError> {
        let mut draft = body::decode(content)?;
        let source = std::mem::take(&mut draft.source);
        let author = std::mem::take(&mut draft.author);
        Ok(Self {
            content: draft.checksum(),
            source,
            author,
        })
    }
}

impl PreparedEvent {
    fn apart(&self) -> Option<Apart> {
        Apart::of(&self.body).ok()
    }

    /// Whether a stored event says the same, whatever origin was put on either.
    fn is(&self, stored: &Apart) -> bool {
        let fits = |own: &Apart| {
            own.content == stored.content
                && (!self.states_source || own.source == stored.source)
                && (!self.states_author || own.author == stored.author)
        };
        self.apart().is_some_and(|own| fits(&own))
    }
}

impl Append {
    /// Checks the bounds and hashes. Error: names the field.
    pub(crate) fn prepare(mut self) -> Result<Prepared, JournalError> {
        let count = self.events.len();
        if count == 0 || count > limits::COMMIT_EVENTS {
            let problem = format!(
                "expected 1 to {} events, found {count}",
                limits::COMMIT_EVENTS
            );
            return Err(Invalid::new("events", problem).into());
        }
        if self.message.len() > MESSAGE_BYTES {
            return Err(bound("message", "bytes", MESSAGE_BYTES, self.message.len()));
        }
        if self.author.len() > limits::ACTOR_BYTES {
            return Err(bound(
                "author",
                "bytes",
                limits::ACTOR_BYTES,
                self.author.len(),
            ));
        }
        without_nul("message", &self.message)?;
        without_nul("author", &self.author)?;
        without_nul("traceparent", &self.traceparent)?;
        for (field, text) in [
            ("origin.source", &self.origin.source),
            ("origin.author", &self.origin.author),
        ] {
            if text.len() > limits::ACTOR_BYTES {
                return Err(bound(field, "bytes", limits::ACTOR_BYTES, text.len()));
            }
            without_nul(field, text)?;
        }
        let mut events = Vec::with_capacity(count);
        let mut bytes = 0;
        for (index, draft) in self.events.iter_mut().enumerate() {
            for (field, text) in [
                ("agent", &draft.agent),
                ("source", &draft.source),
                ("correlation_id", &draft.correlation_id),
            ] {
                without_nul(&format!("events[{index}].{field}"), text)?;
            }
            let event = prepare_event(draft, &self.origin)?;
            bytes += event.body.len();
            events.push(event);
        }
        if bytes > limits::COMMIT_BYTES {
            return Err(bound(
                "events",
                "bytes together",
                limits::COMMIT_BYTES,
                bytes,
            ));
        }
        Ok(Prepared {
            request_hash: request_hash(&self, &events),
            append: self,
            events,
            bytes: bytes as u64,
            within: None,
        })
    }
}

fn bound(field: &str, unit: &str, most: usize, found: usize) -> JournalError {
    Invalid::new(
        field,
        format!("expected at most {most} {unit}, found {found}"),
    )
    .into()
}

/// Texts that are columns hold no NUL: PostgreSQL cannot keep one, so SQLite does not either.
pub(crate) fn without_nul(field: &str, text: &str) -> Result<(), Invalid> {
    match text.find('\0') {
        None => Ok(()),
        Some(at) => Err(Invalid::new(
            field,
            format!("expected no NUL character, found one at byte {at}"),
        )),
    }
}

fn prepare_event(draft: &mut Draft, origin: &Origin) -> Result<PreparedEvent, JournalError> {
    let over_heads = draft.supersede_heads || draft.operation == Operation::Retract;
    let is_state =
        over_heads && draft.id.is_none() && draft.event_time.is_none() && draft.record_id.is_some();
    // The id is that of what was stated, whatever it was put on.
    let stated = draft.id.is_none().then(|| draft.canonical_bytes());
    let id = match (draft.id, &stated) {
        (Some(id), _) => id,
        (None, stated) => EventId::derive(&[b"content", stated.as_deref().unwrap_or_default()]),
    };
    let (states_source, states_author) = (!draft.source.is_empty(), !draft.author.is_empty());
    let has_origin = put_on(draft, origin);
    let body = match stated {
        Some(stated) if !has_origin => stated,
        _ => draft.canonical_bytes(),
    };
    let record = match &draft.record_id {
        Some(record) => record.clone(),
        None => RecordId::new(id.to_string())?,
    };
    // The body holds the text now; from here on the draft only says what kind of event it is.
    draft.text = String::new();
    Ok(PreparedEvent {
        id,
        record,
        checksum: Digest::of(&[&body]),
        body,
        over_heads,
        is_state,
        states_source,
        states_author,
        has_origin,
    })
}

/// Puts the origin on a draft where it states none; says whether anything was put on.
fn put_on(draft: &mut Draft, origin: &Origin) -> bool {
    let mut changed = false;
    let pairs = [
        (&mut draft.source, &origin.source),
        (&mut draft.author, &origin.author),
    ];
    for (stated, origin) in pairs {
        if stated.is_empty() && !origin.is_empty() {
            stated.clone_from(origin);
            changed = true;
        }
    }
    changed
}

fn request_hash(append: &Append, events: &[PreparedEvent]) -> Digest {
    let mut parts = Parts::new("commonplace append v1");
    parts.put(append.project.as_str().as_bytes());
    parts.put(append.branch.as_str().as_bytes());
    parts.put(
        append
            .expected_head
            .as_ref()
            .map_or(&[], |head| head.as_bytes()),
    );
    parts.put(append.author.as_bytes());
    parts.put(append.message.as_bytes());
    if append.origin != Origin::default() {
        parts.put(append.origin.source.as_bytes());
        parts.put(append.origin.author.as_bytes());
    }
    for event in events {
        parts.put(event.id.as_bytes());
        parts.put(event.checksum.as_bytes());
        parts.put(&[u8::from(event.over_heads)]);
    }
    Digest::of(&[&parts.0])
}
