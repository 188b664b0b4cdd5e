//! Which events a search takes.

use commonplace_rpc::convert::Filter;
use commonplace_types::{EventId, RecordId};

use crate::bitmap::Bitmap;
use crate::state::{EventRow, Facts, NO_STRING, State};

/// A filter in terms of a state's numbers. What no event has can match none.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    never: bool,
    kinds: Option<Vec<u32>>,
    tags: Option<Vec<u32>>,
    agents: Option<Vec<u32>>,
    sources: Option<Vec<u32>>,
    records: Option<Records>,
    from: i64,
    to: Option<i64>,
    importance: u32,
    pinned_only: bool,
    attributes: Vec<(u32, u32)>,
    correlation: Option<u32>,
    /// Some condition is about more than an event's facts.
    looks_closer: bool,
}

/// Record names: those that some event states, and those of events that are their own record.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) named: Vec<u32>,
    pub(crate) own: Vec<EventId>,
}

impl Records {
    /// Names as a state sees them.
    pub(crate) fn new(state: &State, records: &[RecordId]) -> Self {
        let number = |record: &RecordId| state.string_number(record.as_str());
        let own = |record: &RecordId| record.as_str().parse().ok();
        Self {
            named: records.iter().filter_map(number).collect(),
            own: records.iter().filter_map(own).collect(),
        }
    }

    fn holds(&self, event: &EventRow) -> bool {
        match event.record {
            NO_STRING => self.own.contains(&event.id),
            number => self.named.contains(&number),
        }
    }
}

impl Matcher {
    /// A filter as a state sees it.
    pub(crate) fn new(state: &State, filter: &Filter) -> Self {
        let number = |text: &str| state.string_number(text);
        let numbers = |texts: Vec<&str>| {
            let found = texts.iter().filter_map(|text| number(text)).collect();
            (!texts.is_empty()).then_some(found)
        };
        let mut matcher = Self {
            kinds: numbers(filter.artifact_types.iter().map(|a| a.as_str()).collect()),
            tags: numbers(filter.tags_any.iter().map(String::as_str).collect()),
            agents: numbers(filter.agents.iter().map(String::as_str).collect()),
            sources: numbers(filter.sources.iter().map(String::as_str).collect()),
            from: filter.from_time.map_or(0, |time| time.as_micros()),
            to: filter.to_time.map(|time| time.as_micros()),
            importance: filter.min_importance.map_or(0, |least| least.millionths()),
            pinned_only: filter.pinned_only,
            ..Self::default()
        };
        if !filter.record_ids.is_empty() {
            matcher.records = Some(Records::new(state, &filter.record_ids));
        }
        if !filter.correlation_id.is_empty() {
            matcher.correlation = number(&filter.correlation_id);
            matcher.never |= matcher.correlation.is_none();
        }
        for attribute in &filter.attributes {
            match (number(&attribute.key), number(&attribute.value)) {
                (Some(key), Some(value)) => matcher.attributes.push((key, value)),
                _ => matcher.never = true,
            }
        }
        matcher.looks_closer = matcher.tags.is_some()
            || matcher.records.is_some()
            || matcher.correlation.is_some()
            || !matcher.attributes.is_empty();
        matcher
    }

    /// The rows of `among` whose events are taken.
    pub(crate) fn rows(&self, state: &State, among: &Bitmap) -> Bitmap {
        let mut taken = Bitmap::with_rows(state.rows.len() as u32);
        if self.never {
            return taken;
        }
        for (start, chunk) in state.facts.chunks(state.facts.len()) {
            for (event, facts) in (start..).zip(chunk) {
                let (first, rows) = (facts.first_row, u32::from(facts.rows));
                // The rows of an event live and die together.
                if rows > 0 && among.get(first) && self.takes(state, event, facts) {
                    taken.set_range(first, first + rows);
                }
            }
        }
        taken
    }

    fn takes(&self, state: &State, event: usize, facts: &Facts) -> bool {
        let among = |list: &Option<Vec<u32>>, value: u32| {
            list.as_ref().is_none_or(|list| list.contains(&value))
        };
        facts.time >= self.from
            && self.to.is_none_or(|to| facts.time < to)
            && facts.importance >= self.importance
            && (facts.pinned || !self.pinned_only)
            && among(&self.kinds, facts.kind)
            && among(&self.agents, facts.agent)
            && among(&self.sources, facts.source)
            && (!self.looks_closer || self.takes_event(state, state.events.at(event)))
    }

    fn takes_event(&self, state: &State, event: &EventRow) -> bool {
        let tagged = |wanted: &Vec<u32>| state.tags_of(event).any(|tag| wanted.contains(&tag));
        let has = |wanted: &(u32, u32)| state.attributes_of(event).any(|found| found == *wanted);
        self.correlation
            .is_none_or(|wanted| wanted == event.correlation)
            && self
                .records
                .as_ref()
                .is_none_or(|records| records.holds(event))
            && self.tags.as_ref().is_none_or(tagged)
            && self.attributes.iter().all(has)
    }
}
