//! Rows to nouns and back. A row that does not read back is damage, never a panic.

use commonplace_types::{
    BranchName, Digest, Event, EventId, LaneInterval, RecordId, Timestamp, Visible,
};
use sea_orm::{QueryResult, TryGetable, Value};

use crate::JournalError;
use crate::append::AppendedEvent;
use crate::body;
use crate::commit::{Commit, Parts};

/// The columns that [`commit`] reads, in its order.
pub(super) const COMMIT_COLUMNS: &str = "number, hash, branch, lane, first_position, last_position, \
     parents, events_root, time, author, message, bytes";
/// The columns that [`event`] reads, in its order.
pub(super) const EVENT_COLUMNS: &str =
    "e.event_id, e.record_id, e.recorded_time, e.traceparent, e.checksum, e.body";

pub(super) fn column<T: TryGetable>(row: &QueryResult, index: usize) -> Result<T, JournalError> {
    row.try_get_by_index(index)
        .map_err(|error| JournalError::damaged(format!("a column does not read back: {error}")))
}

pub(super) fn digest(row: &QueryResult, index: usize) -> Result<Digest, JournalError> {
    let bytes: Vec<u8> = column(row, index)?;
    Digest::from_slice(&bytes).map_err(|_| JournalError::damaged("a hash of another length"))
}

pub(super) fn id(row: &QueryResult, index: usize) -> Result<EventId, JournalError> {
    let bytes: Vec<u8> = column(row, index)?;
    EventId::from_slice(&bytes).map_err(|_| JournalError::damaged("an event id of another length"))
}

pub(super) fn small(row: &QueryResult, index: usize) -> Result<u32, JournalError> {
    let value: i64 = column(row, index)?;
    u32::try_from(value).map_err(|_| JournalError::damaged(format!("number {value} out of range")))
}

pub(super) fn time(row: &QueryResult, index: usize) -> Result<Timestamp, JournalError> {
    let micros: i64 = column(row, index)?;
    Timestamp::from_micros(micros)
        .map_err(|_| JournalError::damaged(format!("time {micros} out of range")))
}

/// Reads [`COMMIT_COLUMNS`].
pub(super) fn commit(row: &QueryResult) -> Result<Commit, JournalError> {
    let branch: String = column(row, 2)?;
    let parents: Vec<u8> = column(row, 6)?;
    let (hashes, rest) = parents.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(JournalError::damaged("a commit's parents do not read back"));
    }
    Ok(Commit {
        number: column::<i64>(row, 0)? as u64,
        hash: digest(row, 1)?,
        branch: BranchName::new(branch)
            .map_err(|error| JournalError::damaged(format!("commit: {error}")))?,
        lane: small(row, 3)?,
        first_position: small(row, 4)?,
        last_position: small(row, 5)?,
        parents: hashes
            .iter()
            .map(|bytes| Digest::from_bytes(*bytes))
            .collect(),
        events_root: digest(row, 7)?,
        time: time(row, 8)?,
        author: column(row, 9)?,
        message: column(row, 10)?,
        bytes: column::<i64>(row, 11)? as u64,
    })
}

/// Reads [`EVENT_COLUMNS`] from a column on. What it supersedes is as its writer stated it.
pub(super) fn event(row: &QueryResult, from: usize) -> Result<Event, JournalError> {
    let id = id(row, from)?;
    let record: String = column(row, from + 1)?;
    let content: Vec<u8> = column(row, from + 5)?;
    let mut draft = body::decode(&content)?;
    draft.id = Some(id);
    Ok(Event {
        id,
        record_id: RecordId::new(record)
            .map_err(|error| JournalError::damaged(format!("event {id}: {error}")))?,
        draft,
        recorded_time: time(row, from + 2)?,
        traceparent: column(row, from + 3)?,
        checksum: digest(row, from + 4)?,
    })
}

/// A condition that a placement of the given alias lies in what is visible, with its values.
pub(super) fn seen(alias: &str, visible: &Visible) -> (String, Vec<Value>) {
    let intervals = visible.intervals();
    if intervals.is_empty() {
        return ("FALSE".into(), Vec::new());
    }
    let one = format!("({alias}.lane = ? AND {alias}.position <= ?)");
    let condition = format!("({})", vec![one; intervals.len()].join(" OR "));
    let pair = |interval: &LaneInterval| [interval.lane.into(), interval.position.into()];
    (condition, intervals.iter().flat_map(pair).collect())
}

/// In an answer's flags: the event was a duplicate.
const DUPLICATE: u8 = 1;
/// In an answer's flags: the event's id follows, because the request does not tell it.
const RETURNED: u8 = 2;

/// Of each event: position, four bytes; flags, one byte; its id, 16 bytes, where it is a state that returned.
pub(super) fn encode_answer(events: &[AppendedEvent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len() * 5);
    for event in events {
        bytes.extend_from_slice(&event.position.to_le_bytes());
        let returned = if event.returned { RETURNED } else { 0 };
        bytes.push(u8::from(event.duplicate) | returned);
        if event.returned {
            bytes.extend_from_slice(event.id.as_bytes());
        }
    }
    bytes
}

/// Reads an answer for the events that asked.
pub(super) fn decode_answer(
    bytes: &[u8],
    ids: impl ExactSizeIterator<Item = EventId>,
) -> Result<Vec<AppendedEvent>, JournalError> {
    let damaged = || JournalError::damaged("an answered request does not read back");
    let mut events = Vec::with_capacity(ids.len());
    let mut rest = bytes;
    for id in ids {
        let (entry, behind) = rest.split_first_chunk::<5>().ok_or_else(damaged)?;
        let returned = entry[4] & RETURNED != 0;
        let (own, behind) = behind
            .split_at_checked(if returned { 16 } else { 0 })
            .ok_or_else(damaged)?;
        events.push(AppendedEvent {
            id: match returned {
                true => EventId::from_slice(own).map_err(|_| damaged())?,
                false => id,
            },
            duplicate: entry[4] & DUPLICATE != 0,
            position: u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]),
            returned,
        });
        rest = behind;
    }
    match rest.is_empty() {
        true => Ok(events),
        false => Err(damaged()),
    }
}

/// A row of `ref`.
pub(super) struct RefRow {
    pub(super) kind: i64,
    pub(super) name: String,
    pub(super) number: u64,
    pub(super) origin: u64,
    pub(super) lane: u32,
}

impl RefRow {
    /// What the row's `digest` holds, so that damage to a name is found.
    pub(super) fn digest(&self, project: i64) -> Digest {
        let mut parts = Parts::new("commonplace ref v1");
        for number in [project, self.kind, self.number as i64, self.origin as i64] {
            parts.put(&number.to_le_bytes());
        }
        parts.put(&self.lane.to_le_bytes());
        parts.put(self.name.as_bytes());
        Digest::of(&[&parts.0])
    }
}

/// A row of `request`.
#[derive(Clone)]
pub(super) struct RequestRow {
    pub(super) tenant: String,
    pub(super) request_id: Vec<u8>,
    pub(super) project: i64,
    pub(super) request_hash: Digest,
    pub(super) time: Timestamp,
    pub(super) number: u64,
    pub(super) answer: Vec<u8>,
}

impl RequestRow {
    /// What the row's `digest` holds.
    pub(super) fn digest(&self) -> Digest {
        let mut parts = Parts::new("commonplace request v1");
        parts.put(self.tenant.as_bytes());
        parts.put(&self.request_id);
        for number in [self.project, self.time.as_micros(), self.number as i64] {
            parts.put(&number.to_le_bytes());
        }
        parts.put(self.request_hash.as_bytes());
        parts.put(&self.answer);
        Digest::of(&[&parts.0])
    }
}

/// What a setting's `digest` holds.
pub(super) fn setting_digest(name: &str, value: &[u8]) -> Digest {
    let mut parts = Parts::new("commonplace setting v1");
    parts.put(name.as_bytes());
    parts.put(value);
    Digest::of(&[&parts.0])
}
