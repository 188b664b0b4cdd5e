//! Reads passages with their texts.

use commonplace_types::{EventId, Timestamp};

use crate::engine::Snapshot;
use crate::error::IndexError;
use crate::prepare::content_hash;
use crate::search::moment;

/// Names a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassageKey {
    /// The event.
    pub event: EventId,
    /// Which of its passages, from 0.
    pub passage: u32,
}

/// A passage with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// Its name.
    pub key: PassageKey,
    /// What the event is about.
    pub record: String,
    /// What kind of thing the event holds.
    pub artifact_type: String,
    /// The event's title.
    pub title: String,
    /// The passage's text.
    pub text: String,
    /// Where it stands in the event's text, in bytes.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// When the event happened.
    pub event_time: Timestamp,
    /// Through which system or file it came.
    pub source: String,
    /// On whose behalf.
    pub author: String,
    /// `sha256:` and 64 hex digits.
    pub checksum: String,
    /// Of title and text, by the budget tokenizer.
    pub tokens: u32,
}

/// Why passages cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// There is no such passage here.
    Missing(PassageKey),
    /// What was read is not what was written.
    Damaged,
}

impl From<PassageKey> for IndexError {
    fn from(key: PassageKey) -> Self {
        Self::PassageNotFound {
            event: key.event,
            passage: key.passage,
        }
    }
}

/// The passages of some names, in their order.
pub(crate) fn read_all(
    snapshot: &Snapshot,
    keys: &[PassageKey],
) -> Result<Vec<Passage>, ReadError> {
    keys.iter().map(|&key| read(snapshot, key)).collect()
}

fn read(snapshot: &Snapshot, key: PassageKey) -> Result<Passage, ReadError> {
    let state = &snapshot.state;
    let missing = || ReadError::Missing(key);
    let number = state.event_number(key.event).ok_or_else(missing)?;
    let (facts, event) = (
        state.facts.at(number as usize),
        state.events.at(number as usize),
    );
    if key.passage >= facts.rows.into() {
        return Err(missing());
    }
    let row = state.rows.at((facts.first_row + key.passage) as usize);
    let damaged = |_| ReadError::Damaged;
    let head = snapshot.texts.head(event).map_err(damaged)?;
    let text = snapshot
        .texts
        .text(event, row.start, row.end)
        .map_err(damaged)?;
    if content_hash(&head.title, &text) != row.content {
        return Err(ReadError::Damaged);
    }
    Ok(Passage {
        key,
        record: state.record_name(event),
        artifact_type: state.string(facts.kind).to_owned(),
        title: head.title,
        text,
        start: row.start,
        end: row.end,
        event_time: moment(facts.time),
        source: state.string(facts.source).to_owned(),
        author: head.author,
        checksum: format!("sha256:{}", head.checksum),
        tokens: row.tokens,
    })
}
