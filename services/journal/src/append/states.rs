//! States: which event one is, and whether memory says it already.

use std::collections::{HashMap, HashSet};

use commonplace_types::{EventId, RecordId};

use super::PreparedEvent;
use super::facts::Facts;
use super::plan::Planner;
use crate::JournalError;

/// The id of a state that returns: from the id of its content and the heads it replaces, in order.
fn returned_id(content: &EventId, heads: &[EventId]) -> EventId {
    let heads: Vec<u8> = heads.iter().flat_map(|id| *id.as_bytes()).collect();
    EventId::derive(&[b"return", content.as_bytes(), &heads])
}

impl Planner<'_> {
    /// States that come to what memory says already: an append that takes a record through several states
    /// and leaves it where it is, through nothing but states that were seen before, was sent before.
    pub(super) fn settled(&self) -> HashSet<usize> {
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
    pub(super) fn keep(&mut self, event: &PreparedEvent) -> Result<(), JournalError> {
        let heads = self.heads(&event.record);
        let id = match heads.first() {
            Some((head, _)) if self.stands(event, &heads) => *head,
            _ => event.id,
        };
        let place = self.known(&id).and_then(|k| self.visible_place(k.seq));
        self.answer(id, event, true, place.map_or(0, |place| place.position));
        Ok(())
    }

    /// Which event a state is: the head that says so already, the event of its content where the branch does
    /// not see that yet, or else a new one.
    pub(super) fn state_id(&self, event: &PreparedEvent, heads: &[(EventId, i64)]) -> EventId {
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
}
