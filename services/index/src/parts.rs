//! Searches of parts of a project: what a caller may see, by the type or the author of events.
//!
//! A search within parts sees the rows of their events and nothing else: candidates, statistics and reports are those of
//! an index that holds no other rows. That an event is superseded is a fact about it, whoever may see by what.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use commonplace_rpc::Parts;

use crate::bitmap::Bitmap;
use crate::engine::Snapshot;
use crate::visibility::View;

/// Sets kept for each project.
const MOST_KEPT: usize = 16;

/// The rows of some parts, as far as events were looked at.
#[derive(Debug, Clone)]
struct Members {
    parts: Arc<Parts>,
    events: usize,
    rows: Arc<Bitmap>,
}

/// The rows of the parts that were asked for last. Events do not change, so a set only grows.
#[derive(Debug, Default)]
pub(crate) struct KeptParts {
    /// Most recently used last.
    kept: Mutex<Vec<Members>>,
}

impl KeptParts {
    /// The rows of some parts among all of a snapshot's. Error: authors cannot be read.
    pub(crate) fn rows(&self, snapshot: &Snapshot, parts: &Arc<Parts>) -> io::Result<Arc<Bitmap>> {
        let mut members = self.take(parts).unwrap_or_else(|| Members {
            parts: Arc::clone(parts),
            events: 0,
            rows: Arc::default(),
        });
        members.grow(snapshot)?;
        let rows = Arc::clone(&members.rows);
        self.keep(members);
        Ok(rows)
    }

    fn take(&self, parts: &Arc<Parts>) -> Option<Members> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|members| members.parts == *parts).cloned()
    }

    fn keep(&self, members: Members) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.parts != members.parts);
        if kept.len() >= MOST_KEPT {
            kept.remove(0);
        }
        kept.push(members);
    }
}

impl Members {
    /// Looks at the events that came since.
    fn grow(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let state = &snapshot.state;
        if self.events >= state.events.len() {
            return Ok(());
        }
        let rows = Arc::make_mut(&mut self.rows);
        for number in self.events..state.events.len() {
            let (facts, event) = (state.facts.at(number), state.events.at(number));
            // An event that withdraws has no rows, and no text.
            if facts.rows == 0 {
                continue;
            }
            let kind = state.string(facts.kind);
            let held = match self.parts.authors.is_empty() {
                true => self.parts.hold(kind, ""),
                false => self.parts.hold(kind, &snapshot.texts.head(event)?.author),
            };
            if held {
                rows.set_range(facts.first_row, facts.first_row + u32::from(facts.rows));
            }
        }
        self.events = state.events.len();
        Ok(())
    }
}

/// A view of what a commit sees of some rows.
pub(crate) fn within(view: &View, rows: &Bitmap, lengths: &[u32]) -> View {
    let (mut visible, mut live) = (view.visible.clone(), (*view.live).clone());
    visible.and(rows);
    live.and(rows);
    let length = |row: u32| lengths.get(row as usize).copied().unwrap_or(0);
    View {
        number: view.number,
        intervals: view.intervals.clone(),
        passages: u64::from(live.count_ones()),
        total_length: live.iter().map(|row| u64::from(length(row))).sum(),
        visible,
        live: Arc::new(live),
    }
}
