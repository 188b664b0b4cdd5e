//! What is a candidate whatever its score.

use crate::filter::Records;
use crate::ranking::Place;
use crate::search::{Always, MOST_ALWAYS};

/// The live rows that `always` names, at most [`MOST_ALWAYS`]: the most important first, then the newest,
/// then by event id and passage.
pub(crate) fn rows(place: &Place, always: &Always) -> Vec<u32> {
    let state = &place.snapshot.state;
    let mut events = named_events(place, always);
    events.sort_unstable();
    events.dedup();
    let mut rows: Vec<u32> = Vec::new();
    for event in events {
        let facts = state.facts.at(event as usize);
        let own = facts.first_row..facts.first_row + u32::from(facts.rows);
        rows.extend(own.filter(|&row| place.view.live.get(row)));
    }
    let facts = |row: u32| state.facts.at(place.event_of(row).0);
    rows.sort_unstable_by(|&a, &b| {
        let (first, second) = (facts(a), facts(b));
        let by_importance = second.importance.cmp(&first.importance);
        let by_time = second.time.cmp(&first.time);
        by_importance.then(by_time).then_with(|| place.tie(a, b))
    });
    rows.truncate(MOST_ALWAYS);
    rows
}

fn named_events(place: &Place, always: &Always) -> Vec<u32> {
    let state = &place.snapshot.state;
    let mut events = Vec::new();
    if always.pinned {
        events.extend(state.pinned.iter().copied());
    }
    let records = Records::new(state, &always.records);
    for id in records.own {
        let own = state.event_number(id);
        events.extend(own.filter(|&event| state.is_own_record(event)));
    }
    let tags = always
        .tags
        .iter()
        .filter_map(|tag| state.string_number(tag));
    let tags: Vec<u32> = tags.collect();
    let directory = state.directory();
    for record in records.named {
        events.extend(directory.of_record.get(&record).into_iter().flatten());
    }
    for tag in tags {
        events.extend(directory.tagged.get(&tag).into_iter().flatten());
    }
    // The directory may know events that came after this state.
    events.retain(|&event| (event as usize) < state.events.len());
    events
}
