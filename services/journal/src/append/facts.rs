//! What must be known of the journal to decide appends.

use std::collections::{BTreeSet, HashMap};

use commonplace_types::{Digest, EventId, LaneInterval, RecordId};

use super::{Apart, Prepared, PreparedEvent};

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
