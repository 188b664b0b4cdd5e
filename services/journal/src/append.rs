//! What an append asks for, what must be known to decide it, and the decision. No storage in here: the
//! store gathers [`Facts`], [`plan`] decides, the store writes what was decided.

use std::collections::HashMap;
use std::sync::Arc;

use commonplace_types::{
    BranchName, CommitHash, Digest, Draft, EventId, Invalid, LaneInterval, Operation, ProjectName,
    RecordId, TenantName, Timestamp, Visible, limits,
};

use crate::JournalError;
use crate::commit::{Commit, Parts, Salt, body_hash, event_leaf};
use crate::merkle;

/// Longest message of a commit, in bytes.
const MESSAGE_BYTES: usize = 1_024;

/// Names a request, so that its repeat gets the first answer.
pub type RequestId = [u8; 16];

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
}

/// An append with everything computed that needs no knowledge of the journal.
pub(crate) struct Prepared {
    pub(crate) append: Append,
    pub(crate) events: Vec<PreparedEvent>,
    /// Of the whole request, to tell a repeat from another request with the same id.
    pub(crate) request_hash: Digest,
    pub(crate) bytes: u64,
}

pub(crate) struct PreparedEvent {
    pub(crate) id: EventId,
    pub(crate) record: RecordId,
    pub(crate) checksum: Digest,
    pub(crate) body: Vec<u8>,
    /// Whether it supersedes what its record's heads turn out to be.
    pub(crate) over_heads: bool,
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
            let event = prepare_event(draft)?;
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

fn prepare_event(draft: &mut Draft) -> Result<PreparedEvent, JournalError> {
    let body = draft.canonical_bytes();
    let id = match draft.id {
        Some(id) => id,
        None => EventId::derive(&[b"content", &body]),
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
        over_heads: draft.supersede_heads || draft.operation == Operation::Retract,
    })
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
    for event in events {
        parts.put(event.id.as_bytes());
        parts.put(event.checksum.as_bytes());
        parts.put(&[u8::from(event.over_heads)]);
    }
    Digest::of(&[&parts.0])
}

/// An event as far as deciding needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its row.
    pub(crate) seq: i64,
    pub(crate) checksum: Digest,
    pub(crate) body_hash: Digest,
}

/// What the journal holds about the events and records that appends name.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) by_id: HashMap<EventId, Known>,
    /// All events of the records whose heads are wanted.
    pub(crate) by_record: HashMap<RecordId, Vec<(EventId, i64)>>,
    /// Where an event (by row) lies.
    pub(crate) placements: HashMap<i64, Vec<LaneInterval>>,
    /// Where an event (by row) is superseded.
    pub(crate) superseded: HashMap<i64, Vec<LaneInterval>>,
}

impl Facts {
    /// Takes over what a decided append adds, so that the next append of the group sees it.
    pub(crate) fn absorb(&mut self, newer: Facts) {
        self.by_id.extend(newer.by_id);
        for (record, events) in newer.by_record {
            self.by_record.entry(record).or_default().extend(events);
        }
        for (seq, places) in newer.placements {
            self.placements.entry(seq).or_default().extend(places);
        }
        for (seq, places) in newer.superseded {
            self.superseded.entry(seq).or_default().extend(places);
        }
    }
}

/// Where an append goes.
pub(crate) struct Target<'a> {
    pub(crate) branch: &'a BranchName,
    pub(crate) lane: u32,
    /// The last position taken in the lane.
    pub(crate) last_position: u32,
    /// What the head sees.
    pub(crate) visible: Visible,
    pub(crate) now: Timestamp,
    /// The row of the next new event.
    pub(crate) next_seq: i64,
}

/// A row for an event that is not stored yet.
pub(crate) struct NewEvent {
    pub(crate) seq: i64,
    /// Which of the append's events.
    pub(crate) index: usize,
    pub(crate) salt: Salt,
    pub(crate) body_hash: Digest,
}

/// What an append comes to. Nothing to write when `placements` is empty.
pub(crate) struct Plan {
    pub(crate) new_events: Vec<NewEvent>,
    /// Position and event row.
    pub(crate) placements: Vec<(u32, i64)>,
    /// Position and superseded event row.
    pub(crate) edges: Vec<(u32, i64)>,
    pub(crate) answers: Vec<AppendedEvent>,
    pub(crate) events_root: Digest,
    /// What it adds to the facts.
    pub(crate) facts: Facts,
}

/// Decides an append.
///
/// An event that is visible already is a duplicate; one that is known elsewhere is placed again; else it
/// is new. Superseded events must be visible. `salts`: one for each event.
/// Errors: [`JournalError::EventConflict`], a wrong `events[i].supersedes`, a full lane.
pub(crate) fn plan(
    request: &Prepared,
    target: &Target<'_>,
    facts: &Facts,
    salts: &[Salt],
) -> Result<Plan, JournalError> {
    let mut planner = Planner {
        request,
        target,
        facts,
        next_seq: target.next_seq,
        leaves: Vec::with_capacity(request.events.len()),
        plan: Plan {
            new_events: Vec::new(),
            placements: Vec::new(),
            edges: Vec::new(),
            answers: Vec::with_capacity(request.events.len()),
            events_root: Digest::ZERO,
            facts: Facts::default(),
        },
    };
    for (index, event) in request.events.iter().enumerate() {
        let salt = salts.get(index).copied().unwrap_or_default();
        planner.decide(index, event, salt)?;
    }
    planner.plan.events_root = merkle::root(&planner.leaves);
    Ok(planner.plan)
}

struct Planner<'a> {
    request: &'a Prepared,
    target: &'a Target<'a>,
    facts: &'a Facts,
    next_seq: i64,
    leaves: Vec<Digest>,
    plan: Plan,
}

impl Planner<'_> {
    fn decide(
        &mut self,
        index: usize,
        event: &PreparedEvent,
        salt: Salt,
    ) -> Result<(), JournalError> {
        let known = self.known(&event.id);
        if let Some(known) = known {
            if known.checksum != event.checksum {
                return Err(JournalError::EventConflict { id: event.id });
            }
            if let Some(place) = self.visible_place(known.seq) {
                self.answer(event.id, true, place.position);
                return Ok(());
            }
        }
        let superseded = self.superseded(index, event)?;
        let position = self.next_position()?;
        let known = match known {
            Some(known) => known,
            None => self.store(index, event, salt),
        };
        self.place(event, &known, position, &superseded);
        self.answer(event.id, false, position);
        let ids: Vec<EventId> = superseded.iter().map(|(id, _)| *id).collect();
        let operation = self.request.append.events[index].operation;
        self.leaves.push(event_leaf(
            operation,
            &event.id,
            &event.record,
            &known.body_hash,
            &ids,
        ));
        Ok(())
    }

    fn known(&self, id: &EventId) -> Option<Known> {
        self.plan
            .facts
            .by_id
            .get(id)
            .or_else(|| self.facts.by_id.get(id))
            .copied()
    }

    /// Where the branch sees an event; what this append placed is seen too.
    fn visible_place(&self, seq: i64) -> Option<LaneInterval> {
        let own = self
            .plan
            .facts
            .placements
            .get(&seq)
            .and_then(|places| places.first());
        let seen = |place: &&LaneInterval| self.target.visible.sees(place.lane, place.position);
        own.or_else(|| self.facts.placements.get(&seq)?.iter().find(seen))
            .copied()
    }

    fn is_superseded(&self, seq: i64) -> bool {
        let seen = |place: &LaneInterval| self.target.visible.sees(place.lane, place.position);
        self.plan.facts.superseded.contains_key(&seq)
            || self
                .facts
                .superseded
                .get(&seq)
                .is_some_and(|places| places.iter().any(seen))
    }

    /// What the event supersedes: the stated events and, if wanted, its record's visible heads; by id.
    fn superseded(
        &self,
        index: usize,
        event: &PreparedEvent,
    ) -> Result<Vec<(EventId, i64)>, JournalError> {
        let mut superseded = Vec::new();
        for id in &self.request.append.events[index].supersedes {
            let seq = self.known(id).map(|known| known.seq);
            match seq.filter(|seq| self.visible_place(*seq).is_some()) {
                Some(seq) => superseded.push((*id, seq)),
                None => {
                    let problem = format!("`{id}` is not visible on `{}`", self.target.branch);
                    return Err(Invalid::new(format!("events[{index}].supersedes"), problem).into());
                }
            }
        }
        if event.over_heads {
            let of = |facts: &Facts| {
                facts
                    .by_record
                    .get(&event.record)
                    .cloned()
                    .unwrap_or_default()
            };
            for (id, seq) in of(self.facts).into_iter().chain(of(&self.plan.facts)) {
                if self.visible_place(seq).is_some() && !self.is_superseded(seq) {
                    superseded.push((id, seq));
                }
            }
        }
        superseded.sort_unstable();
        superseded.dedup();
        Ok(superseded)
    }

    fn next_position(&self) -> Result<u32, JournalError> {
        let taken = self.plan.placements.len() as u32 + 1;
        // The last number stays free, so that one past the end can still be named.
        match self.target.last_position.checked_add(taken) {
            Some(position) if position < u32::MAX => Ok(position),
            _ => Err(JournalError::Exhausted { what: "the branch" }),
        }
    }

    fn store(&mut self, index: usize, event: &PreparedEvent, salt: Salt) -> Known {
        let trace = &self.request.append.traceparent;
        let known = Known {
            seq: self.next_seq,
            checksum: event.checksum,
            body_hash: body_hash(&salt, &event.id, self.target.now, trace, &event.body),
        };
        self.next_seq += 1;
        self.plan.new_events.push(NewEvent {
            seq: known.seq,
            index,
            salt,
            body_hash: known.body_hash,
        });
        self.plan.facts.by_id.insert(event.id, known);
        let of_record = self
            .plan
            .facts
            .by_record
            .entry(event.record.clone())
            .or_default();
        of_record.push((event.id, known.seq));
        known
    }

    fn place(
        &mut self,
        event: &PreparedEvent,
        known: &Known,
        position: u32,
        superseded: &[(EventId, i64)],
    ) {
        let place = LaneInterval {
            lane: self.target.lane,
            position,
        };
        self.plan.placements.push((position, known.seq));
        self.plan.facts.by_id.insert(event.id, *known);
        self.plan
            .facts
            .placements
            .entry(known.seq)
            .or_default()
            .push(place);
        for (_, seq) in superseded {
            self.plan.edges.push((position, *seq));
            self.plan
                .facts
                .superseded
                .entry(*seq)
                .or_default()
                .push(place);
        }
    }

    fn answer(&mut self, id: EventId, duplicate: bool, position: u32) {
        self.plan.answers.push(AppendedEvent {
            id,
            duplicate,
            position,
        });
    }
}
