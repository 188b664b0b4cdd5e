//! Compares what the store holds of a project with what follows from the journal, and puts it right.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outside::Outside;
use super::point::{Payload, PointId, key_of, payload_of, points_of, rows_stored, touched};
use super::store::StoreError;
use crate::engine::Snapshot;
use crate::passages::PassageKey;

/// Stands for a row's payload.
type Mark = [u8; 16];

/// What a check found. Rows and ids are in order.
pub(crate) struct Findings {
    /// The state compared with.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Commits compared.
    pub(crate) commits: u64,
    pub(crate) expected: u64,
    /// Points of the owner, leaving out those newer than the commits compared.
    pub(crate) found: u64,
    pub(crate) expected_digest: String,
    pub(crate) found_digest: String,
    pub(crate) missing: Vec<u32>,
    pub(crate) different: Vec<u32>,
    pub(crate) extra: Vec<PointId>,
}

impl Findings {
    /// The first commit with a row that is missing or different.
    pub(crate) fn first_commit(&self) -> Option<u64> {
        let first = self.missing.iter().chain(&self.different).min()?;
        let commits = self.snapshot.state.commits.iter().zip(0..);
        let mut holding = commits.filter(|(commit, _)| commit.rows > *first);
        holding.next().map(|(_, number)| number)
    }
}

/// Reads every point of a project. `fresh`: the newest state, asked for when some points seem different, since the
/// store may have been told of newer commits meanwhile.
pub(crate) async fn check(
    outside: &Outside,
    snapshot: Arc<Snapshot>,
    fresh: impl Fn() -> Option<Arc<Snapshot>>,
) -> Result<Findings, StoreError> {
    let commits = snapshot.progress.stored;
    let rows = rows_stored(&snapshot, commits);
    let unsettled = changed_rows(&snapshot);
    let mut marks: Vec<Option<Mark>> = vec![None; rows];
    let mut suspects: Vec<(u32, Payload)> = Vec::new();
    let mut extra = Vec::new();
    let mut from = None;
    loop {
        let (points, next) = outside.store.page(&outside.owner, from).await?;
        for point in points {
            match place(outside, &snapshot, rows, &point.payload, point.id) {
                Place::Row(row) => {
                    let expected = payload_of(&snapshot, row);
                    let same = point.payload == expected || unsettled.contains(&row);
                    let shown = if same { &expected } else { &point.payload };
                    marks[row as usize] = Some(mark(shown));
                    if !same {
                        suspects.push((row, point.payload));
                    }
                }
                Place::Newer => {}
                Place::None => extra.push(point.id),
            }
        }
        from = next;
        if from.is_none() {
            break;
        }
    }
    let newest = fresh().unwrap_or_else(|| Arc::clone(&snapshot));
    let unsettled = changed_rows(&newest);
    suspects.retain(|(row, payload)| {
        let settled = payload == &payload_of(&newest, *row) || unsettled.contains(row);
        if settled {
            marks[*row as usize] = Some(mark(&payload_of(&snapshot, *row)));
        }
        !settled
    });
    let mut different: Vec<u32> = suspects.into_iter().map(|(row, _)| row).collect();
    different.sort_unstable();
    extra.sort_unstable();
    let missing = (0..)
        .zip(&marks)
        .filter(|(_, mark)| mark.is_none())
        .map(|(row, _)| row);
    let expected = (0..rows as u32).map(|row| mark(&payload_of(&snapshot, row)));
    Ok(Findings {
        commits,
        expected: rows as u64,
        found: (marks.iter().flatten().count() + extra.len()) as u64,
        expected_digest: digest(expected),
        found_digest: digest(
            marks
                .iter()
                .flatten()
                .copied()
                .chain(extra.iter().map(|id| id.0)),
        ),
        missing: missing.collect(),
        different,
        extra,
        snapshot,
    })
}

/// Writes what is missing or different, then deletes what is extra. Error: what kept it from being done; it can
/// be repeated.
pub(crate) async fn repair(outside: &Outside, findings: &Findings) -> Result<(), String> {
    let rows: BTreeSet<u32> = findings
        .missing
        .iter()
        .chain(&findings.different)
        .copied()
        .collect();
    let rows: Vec<u32> = rows.into_iter().collect();
    let most = outside.store.options.batch_points.max(1) as usize;
    for rows in rows.chunks(most) {
        let points = points_of(&findings.snapshot, &outside.owner, rows);
        let points = points.map_err(|error| format!("vectors cannot be read: {error}"))?;
        let written = outside.store.upsert(&outside.owner, &points, true).await;
        written.map_err(|error| error.to_string())?;
    }
    for ids in findings.extra.chunks(most) {
        let deleted = outside.store.delete(ids).await;
        deleted.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Where a point belongs.
enum Place {
    Row(u32),
    /// Among rows beyond those compared.
    Newer,
    None,
}

fn place(
    outside: &Outside,
    snapshot: &Snapshot,
    rows: usize,
    payload: &Payload,
    id: PointId,
) -> Place {
    let row = payload.row as usize;
    let known = snapshot.state.rows.len();
    let belongs = row < known && PointId::of(&outside.owner, key_of(snapshot, payload.row)) == id;
    if belongs {
        return if row < rows {
            Place::Row(payload.row)
        } else {
            Place::Newer
        };
    }
    // Another index of the same project may be ahead of this one.
    let event = payload.event.parse().ok();
    let own = event.map(|event| PassageKey {
        event,
        passage: payload.passage,
    });
    let foreign = own.filter(|key| {
        row >= known
            && PointId::of(&outside.owner, *key) == id
            && snapshot.state.event_number(key.event).is_none()
    });
    foreign.map_or(Place::None, |_| Place::Newer)
}

/// Rows whose visibility changed since the store was told.
fn changed_rows(snapshot: &Snapshot) -> BTreeSet<u32> {
    let state = &snapshot.state;
    let events = touched(
        snapshot,
        snapshot.progress.stored,
        state.commits.len() as u64,
    );
    let rows = events.into_iter().flat_map(|event| {
        let facts = state.facts.at(event as usize);
        facts.first_row..facts.first_row + u32::from(facts.rows)
    });
    rows.collect()
}

fn mark(payload: &Payload) -> Mark {
    let hash = blake3::hash(format!("{payload:?}").as_bytes());
    let mut mark = [0; 16];
    mark.copy_from_slice(&hash.as_bytes()[..16]);
    mark
}

fn digest(marks: impl Iterator<Item = Mark>) -> String {
    let mut hasher = blake3::Hasher::new();
    marks.for_each(|mark| {
        hasher.update(&mark);
    });
    hasher.finalize().to_hex().to_string()
}
