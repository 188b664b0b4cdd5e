//! What the store holds of a passage.

use commonplace_types::{EventId, ProjectName, TenantName};

use crate::engine::Snapshot;
use crate::passages::PassageKey;
use crate::vectors::unit;

/// Lanes from this number on would make keys that a float cannot hold exactly.
const MOST_LANES: u64 = 1 << 21;

/// Whose points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantName,
    pub(crate) project: ProjectName,
}

/// Names a point: 16 bytes shown as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PointId(pub(crate) [u8; 16]);

impl PointId {
    /// The id of a passage's point: BLAKE3 over all that names the passage, as a UUID of version 8 (RFC 9562).
    pub(crate) fn of(owner: &Owner, key: PassageKey) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("commonplace 2026 qdrant point id v1");
        for part in [
            owner.tenant.as_str().as_bytes(),
            owner.project.as_str().as_bytes(),
            key.event.as_bytes(),
            &key.passage.to_le_bytes(),
        ] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// As a UUID.
    pub(crate) fn text(&self) -> String {
        let digits = hex::encode(self.0);
        let parts = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        parts.join("-")
    }

    /// Reads a UUID.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|&letter| letter != '-').collect();
        let mut bytes = [0; 16];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// What filters and checks read of a point.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    /// Number of the row that the passage has in every index of the project.
    pub(crate) row: u32,
    pub(crate) event: String,
    pub(crate) passage: u32,
    /// Names title and text, 32 hex digits.
    pub(crate) content: String,
    /// Lane keys, sorted.
    pub(crate) born: Vec<u64>,
    pub(crate) died: Vec<u64>,
    pub(crate) kind: String,
    pub(crate) agent: String,
    pub(crate) source: String,
    pub(crate) record: String,
    pub(crate) correlation: String,
    pub(crate) tags: Vec<String>,
    /// Each a key and a value, joined by [`attribute`].
    pub(crate) attributes: Vec<String>,
    /// In microseconds.
    pub(crate) time: i64,
    /// In millionths.
    pub(crate) importance: u32,
    pub(crate) pinned: bool,
}

/// A point to be written.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) id: PointId,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: Payload,
    /// Commits that were known when it was built: a point of fewer never replaces it.
    pub(crate) built_at: u64,
}

/// A point as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: PointId,
    pub(crate) payload: Payload,
}

/// An attribute as one text. The separator is in no key.
pub(crate) fn attribute(key: &str, value: &str) -> String {
    format!("{key}\u{1f}{value}")
}

/// The first lane key that is too great for the store, if there is one.
pub(crate) fn key_too_great(payload: &Payload) -> Option<u64> {
    let keys = payload.born.iter().chain(&payload.died);
    keys.copied().find(|key| key >> 32 >= MOST_LANES)
}

/// Rows of commits below a number.
pub(crate) fn rows_stored(snapshot: &Snapshot, commits: u64) -> usize {
    let last = (commits as usize).checked_sub(1);
    last.map_or(0, |last| snapshot.state.commits.at(last).rows as usize)
}

/// Events that commits from a number on placed or superseded, each once. Their older rows may be seen at other
/// commits than the store knows.
pub(crate) fn touched(snapshot: &Snapshot, from: u64, to: u64) -> Vec<u32> {
    let state = &snapshot.state;
    let before = |column: fn(&crate::state::CommitRow) -> u32, commits: u64| {
        let last = (commits as usize).checked_sub(1);
        last.map_or(0, |last| column(state.commits.at(last)) as usize)
    };
    let placed = before(|commit| commit.placements, from)..before(|commit| commit.placements, to);
    let buried = before(|commit| commit.deaths, from)..before(|commit| commit.deaths, to);
    let placed = state.placements.range(placed.start, placed.end);
    let buried = state.deaths.range(buried.start, buried.end);
    let mut events: Vec<u32> = placed.chain(buried).copied().collect();
    events.sort_unstable();
    events.dedup();
    events
}

/// The passage of a row.
pub(crate) fn key_of(snapshot: &Snapshot, row: u32) -> PassageKey {
    let state = &snapshot.state;
    let event = state.rows.at(row as usize).event as usize;
    PassageKey {
        event: state.events.at(event).id,
        passage: row - state.facts.at(event).first_row,
    }
}

/// The payload of a row's point, from all commits that the snapshot knows.
pub(crate) fn payload_of(snapshot: &Snapshot, row: u32) -> Payload {
    let state = &snapshot.state;
    let stored = state.rows.at(row as usize);
    let (facts, event) = (
        state.facts.at(stored.event as usize),
        state.events.at(stored.event as usize),
    );
    let text = |number: u32| state.string(number).to_owned();
    let id: EventId = event.id;
    Payload {
        row,
        event: id.to_string(),
        passage: row - facts.first_row,
        content: hex::encode(stored.content),
        born: state.born.of(stored.event),
        died: state.died.of(stored.event),
        kind: text(facts.kind),
        agent: text(facts.agent),
        source: text(facts.source),
        record: state.record_name(event),
        correlation: text(event.correlation),
        tags: state.tags_of(event).map(text).collect(),
        attributes: state
            .attributes_of(event)
            .map(|(key, value)| attribute(state.string(key), state.string(value)))
            .collect(),
        time: facts.time,
        importance: facts.importance,
        pinned: facts.pinned,
    }
}

/// The points of rows, which must have vectors. Error: a vector cannot be read.
pub(crate) fn points_of(
    snapshot: &Snapshot,
    owner: &Owner,
    rows: &[u32],
) -> std::io::Result<Vec<Point>> {
    let built_at = snapshot.state.commits.len() as u64;
    let mut points = Vec::with_capacity(rows.len());
    for &row in rows {
        let mut vector = Vec::new();
        let place = row as usize;
        snapshot.vectors.read(place..place + 1, |_, codes| {
            vector = codes.first().map(unit).unwrap_or_default();
        })?;
        points.push(Point {
            id: PointId::of(owner, key_of(snapshot, row)),
            vector,
            payload: payload_of(snapshot, row),
            built_at,
        });
    }
    Ok(points)
}
