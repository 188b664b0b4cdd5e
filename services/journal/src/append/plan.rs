//! The decision: from an append and the facts to what is written and answered.

use commonplace_types::{
    BranchName, Digest, EventId, Invalid, LaneInterval, RecordId, Timestamp, Visible,
};

use super::facts::{Facts, Known};
use super::{AppendedEvent, Prepared, PreparedEvent};
use crate::commit::{Salt, body_hash, event_leaf};
use crate::{JournalError, merkle};

/// Most events of one append that are named when they are refused: the answer has to fit the trailers of a
/// call.
const NAMED_REFUSALS: usize = 16;

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

/// A decision being made.
pub(super) struct Planner<'a> {
    pub(super) request: &'a Prepared,
    target: &'a Target<'a>,
    pub(super) facts: &'a Facts,
    next_seq: i64,
    leaves: Vec<Digest>,
    pub(super) plan: Plan,
}

impl Planner<'_> {
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

    pub(super) fn is_visible(&self, id: &EventId) -> bool {
        let known = self.known(id);
        known.is_some_and(|known| self.visible_place(known.seq).is_some())
    }

    pub(super) fn known(&self, id: &EventId) -> Option<Known> {
        self.plan
            .facts
            .by_id
            .get(id)
            .or_else(|| self.facts.by_id.get(id))
            .copied()
    }

    /// Where the branch sees an event; what this append placed is seen too.
    pub(super) fn visible_place(&self, seq: i64) -> Option<LaneInterval> {
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
    pub(super) fn of_record(&self, record: &RecordId) -> impl Iterator<Item = (EventId, i64)> {
        let of = |facts: &'_ Facts| facts.by_record.get(record).cloned().unwrap_or_default();
        of(self.facts).into_iter().chain(of(&self.plan.facts))
    }

    /// The visible heads of a record, by id.
    pub(super) fn heads(&self, record: &RecordId) -> Vec<(EventId, i64)> {
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

    pub(super) fn answer(
        &mut self,
        id: EventId,
        event: &PreparedEvent,
        duplicate: bool,
        position: u32,
    ) {
        self.plan.answers.push(AppendedEvent {
            id,
            duplicate,
            position,
            returned: id != event.id,
        });
    }
}
