//! Results that do not say when they were found.

use std::collections::HashMap;

use commonplace_types::{Draft, RecordId};

use super::{Found, record_id};

/// Makes states of the results of one report that have no time: each takes the place of what was said of its
/// record before, because nothing else tells which of the two is newer.
#[derive(Debug, Default)]
pub(crate) struct Untimed {
    /// How often each record came.
    seen: HashMap<String, u32>,
}

impl Untimed {
    /// The finding for a result. Several results of one report under one name are several things: from the
    /// second on the record's name ends with a number.
    pub(crate) fn found(&mut self, mut draft: Draft) -> Found {
        let record = draft.record_id.as_ref().map(|id| id.as_str().to_owned());
        let Some(record) = record.filter(|_| draft.event_time.is_none()) else {
            return Found::Draft(Box::new(draft));
        };
        let count = self.seen.entry(record.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            draft.record_id = Some(numbered(&record, *count));
        }
        draft.supersede_heads = true;
        Found::State(Box::new(draft))
    }
}

fn numbered(record: &str, count: u32) -> RecordId {
    let name = format!("{record} ({count})");
    let (kind, rest) = name.split_once(':').unwrap_or(("record", &name));
    RecordId::new(name.as_str()).unwrap_or_else(|_| record_id(kind, &[rest]))
}
