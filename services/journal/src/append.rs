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

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use commonplace_types::{
    BranchName, CommitHash, Digest, Draft, EventId, Invalid, LaneInterval, Operation, ProjectName,
    RecordId, TenantName, Timestamp, Visible, limits,
};

use crate::commit::{Commit, Parts, Salt, body_hash, event_leaf};
use crate::{JournalError, body, merkle};

/// Longest message of a commit, in bytes.
const MESSAGE_BYTES: usize = 1_024;

/// Names a request, so that its repeat gets the first answer.
pub type RequestId = [u8; 16];

/// Most events of one append that are named when they are refused: the answer has to fit the trailers of a
/// call.
const NAMED_REFUSALS: usize = 16;

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

/// The id of a state that returns: from the id of its content and the heads it replaces, in order.
fn returned_id(content: &EventId, heads: &[EventId]) -> EventId {
    let heads: Vec<u8> = heads.iter().flat_map(|id| *id.as_bytes()).collect();
    EventId::derive(&[b"return", content.as_bytes(), &heads])
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

/// An event as far as deciding needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its row.
    pub(crate) seq: i64,
    pub(crate) checksum: Digest,
    pub(crate) body_hash: Digest,
    /// Bytes of its content.
    pub(crate) bytes: u64,
}

/// What the journal holds about the events and records that appends name.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) by_id: HashMap<EventId, Known>,
    /// All events of the records whose heads are wanted; they are in `by_id` too.
    pub(crate) by_record: HashMap<RecordId, Vec<(EventId, i64)>>,
    /// Content apart from its origin, of events (by row) that appends bring with another checksum.
    pub(crate) apart: HashMap<i64, Apart>,
    /// Where an event (by row) lies.
    pub(crate) placements: HashMap<i64, Vec<LaneInterval>>,
    /// Where an event (by row) is superseded.
    pub(crate) superseded: HashMap<i64, Vec<LaneInterval>>,
}

impl Facts {
    /// The rows of known events that the appends bring with another checksum, as from another source; their
    /// contents have to be compared.
    pub(crate) fn differing<'a>(
        &self,
        appends: impl Iterator<Item = &'a Prepared>,
    ) -> BTreeSet<i64> {
        let differs = |event: &PreparedEvent| {
            let known = self.by_id.get(&event.id)?;
            let states_all = event.states_source && event.states_author;
            (!states_all && known.checksum != event.checksum).then_some(known.seq)
        };
        appends
            .flat_map(|prepared| prepared.events.iter().filter_map(differs))
            .collect()
    }

    /// Takes over what a decided append adds, so that the next append of the group sees it.
    pub(crate) fn absorb(&mut self, newer: Facts) {
        self.by_id.extend(newer.by_id);
        self.apart.extend(newer.apart);
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
    pub(crate) id: EventId,
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
    /// Bytes of the content of what is placed.
    pub(crate) bytes: u64,
    /// What it adds to the facts.
    pub(crate) facts: Facts,
}

/// Decides an append.
///
/// An event that is visible already is a duplicate, but for a state that is no longer the one head of its
/// record; one that is known elsewhere is placed again; else it is new. Superseded events must be visible.
/// `salts`: one for each event.
/// Errors: [`JournalError::EventConflict`], a wrong `events[i].supersedes`, [`JournalError::Events`] when
/// several events are refused, a full lane.
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
            bytes: 0,
            facts: Facts::default(),
        },
    };
    let settled = planner.settled();
    let mut refused = Vec::new();
    for (index, event) in request.events.iter().enumerate() {
        let salt = salts.get(index).copied().unwrap_or_default();
        let decided = match settled.contains(&index) {
            true => planner.keep(event),
            false => planner.decide(index, event, salt),
        };
        match decided {
            Ok(()) => {}
            Err(error @ (JournalError::EventConflict { .. } | JournalError::Invalid(_))) => {
                refused.push(error);
                if refused.len() == NAMED_REFUSALS {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    if !refused.is_empty() {
        return Err(JournalError::of_events(refused));
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
    /// States that come to what memory says already: an append that takes a record through several states
    /// and leaves it where it is, through nothing but states that were seen before, was sent before.
    fn settled(&self) -> HashSet<usize> {
        let events = &self.request.events;
        let mut by_record: HashMap<&RecordId, Vec<usize>> = HashMap::new();
        for (index, event) in events.iter().enumerate().filter(|(_, e)| e.is_state) {
            by_record.entry(&event.record).or_default().push(index);
        }
        by_record.retain(|_, indices| indices.len() > 1);
        if by_record.is_empty() {
            return HashSet::new();
        }
        for event in events.iter().filter(|event| !event.is_state) {
            by_record.remove(&event.record);
        }
        let was_sent = |indices: &&Vec<usize>| {
            let last = indices.last().map(|index| &events[*index]);
            let stands = last.is_some_and(|last| self.stands(last, &self.heads(&last.record)));
            stands && indices.iter().all(|i| self.is_visible(&events[*i].id))
        };
        let sent = by_record.values().filter(was_sent);
        sent.flatten().copied().collect()
    }

    /// Answers a state that is there already.
    fn keep(&mut self, event: &PreparedEvent) -> Result<(), JournalError> {
        let heads = self.heads(&event.record);
        let id = match heads.first() {
            Some((head, _)) if self.stands(event, &heads) => *head,
            _ => event.id,
        };
        let place = self.known(&id).and_then(|k| self.visible_place(k.seq));
        self.answer(id, event, true, place.map_or(0, |place| place.position));
        Ok(())
    }

    fn decide(
        &mut self,
        index: usize,
        event: &PreparedEvent,
        salt: Salt,
    ) -> Result<(), JournalError> {
        let heads = match event.over_heads {
            true => self.heads(&event.record),
            false => Vec::new(),
        };
        let id = match event.is_state {
            true => self.state_id(event, &heads),
            false => event.id,
        };
        let known = self.known(&id);
        if let Some(known) = known {
            if !self.is_content_of(event, &known) {
                return Err(JournalError::EventConflict { id, place: index });
            }
            if let Some(place) = self.visible_place(known.seq) {
                self.answer(id, event, true, place.position);
                return Ok(());
            }
        }
        let superseded = self.superseded(index, heads)?;
        let position = self.next_position()?;
        let known = match known {
            Some(known) => known,
            None => self.store(index, id, event, salt),
        };
        self.place(id, &known, position, &superseded);
        self.answer(id, event, false, position);
        let ids: Vec<EventId> = superseded.iter().map(|(id, _)| *id).collect();
        let operation = self.request.append.events[index].operation;
        self.leaves.push(event_leaf(
            operation,
            &id,
            &event.record,
            &known.body_hash,
            &ids,
        ));
        Ok(())
    }

    /// Which event a state is: the head that says so already, the event of its content where the branch does
    /// not see that yet, or else a new one.
    fn state_id(&self, event: &PreparedEvent, heads: &[(EventId, i64)]) -> EventId {
        if let [(head, _)] = heads
            && self.stands(event, heads)
        {
            return *head;
        }
        let replaced: Vec<EventId> = heads.iter().map(|(id, _)| *id).collect();
        let mut id = event.id;
        while self.is_visible(&id) {
            id = returned_id(&id, &replaced);
        }
        id
    }

    /// Whether a state is what the record's one head says.
    fn stands(&self, event: &PreparedEvent, heads: &[(EventId, i64)]) -> bool {
        let [(head, seq)] = heads else { return false };
        let equal = || {
            self.known(head)
                .is_some_and(|known| known.checksum == event.checksum)
        };
        *head == event.id
            || equal()
            || *head == returned_id(&event.id, &self.replaced_by(event, *seq))
    }

    /// The events of the record that one of them took the place of, by id.
    fn replaced_by(&self, event: &PreparedEvent, seq: i64) -> Vec<EventId> {
        let Some(place) = self.visible_place(seq) else {
            return Vec::new();
        };
        let there = |facts: &Facts, target: i64| {
            let places = facts.superseded.get(&target);
            places.is_some_and(|places| places.contains(&place))
        };
        let replaced = self
            .of_record(&event.record)
            .filter(|(_, target)| there(self.facts, *target) || there(&self.plan.facts, *target));
        let mut ids: Vec<EventId> = replaced.map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether a known event has the content of this one, whatever origin was put on either.
    fn is_content_of(&self, event: &PreparedEvent, known: &Known) -> bool {
        if known.checksum == event.checksum {
            return true;
        }
        let seq = &known.seq;
        let stored = self.plan.facts.apart.get(seq);
        let stored = stored.or_else(|| self.facts.apart.get(seq));
        // A state that returned is recognised by its id; its content is that of the event it is derived from.
        let returned = event.is_state && self.known(&event.id).is_none_or(|own| own.seq != *seq);
        returned || stored.is_some_and(|stored| event.is(stored))
    }

    fn is_visible(&self, id: &EventId) -> bool {
        let known = self.known(id);
        known.is_some_and(|known| self.visible_place(known.seq).is_some())
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

    /// Every event of a record that is known, in no order; some may come twice.
    fn of_record(&self, record: &RecordId) -> impl Iterator<Item = (EventId, i64)> {
        let of = |facts: &'_ Facts| facts.by_record.get(record).cloned().unwrap_or_default();
        of(self.facts).into_iter().chain(of(&self.plan.facts))
    }

    /// The visible heads of a record, by id.
    fn heads(&self, record: &RecordId) -> Vec<(EventId, i64)> {
        let is_head = |(_, seq): &(EventId, i64)| {
            self.visible_place(*seq).is_some() && !self.is_superseded(*seq)
        };
        let mut heads: Vec<(EventId, i64)> = self.of_record(record).filter(is_head).collect();
        heads.sort_unstable();
        heads.dedup();
        heads
    }

    /// What the event supersedes: the stated events and the given heads; by id.
    fn superseded(
        &self,
        index: usize,
        heads: Vec<(EventId, i64)>,
    ) -> Result<Vec<(EventId, i64)>, JournalError> {
        let mut superseded = heads;
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

    fn store(&mut self, index: usize, id: EventId, event: &PreparedEvent, salt: Salt) -> Known {
        let trace = &self.request.append.traceparent;
        let known = Known {
            seq: self.next_seq,
            checksum: event.checksum,
            body_hash: body_hash(&salt, &id, self.target.now, trace, &event.body),
            bytes: event.body.len() as u64,
        };
        self.next_seq += 1;
        self.plan.new_events.push(NewEvent {
            seq: known.seq,
            id,
            index,
            salt,
            body_hash: known.body_hash,
        });
        self.plan.facts.by_id.insert(id, known);
        // The next append of the group may bring it from elsewhere.
        if let Some(apart) = event.apart().filter(|_| event.has_origin) {
            self.plan.facts.apart.insert(known.seq, apart);
        }
        let of_record = self
            .plan
            .facts
            .by_record
            .entry(event.record.clone())
            .or_default();
        of_record.push((id, known.seq));
        known
    }

    fn place(&mut self, id: EventId, known: &Known, position: u32, superseded: &[(EventId, i64)]) {
        let place = LaneInterval {
            lane: self.target.lane,
            position,
        };
        self.plan.placements.push((position, known.seq));
        self.plan.bytes += known.bytes;
        self.plan.facts.by_id.insert(id, *known);
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

    fn answer(&mut self, id: EventId, event: &PreparedEvent, duplicate: bool, position: u32) {
        self.plan.answers.push(AppendedEvent {
            id,
            duplicate,
            position,
            returned: id != event.id,
        });
    }
}
