//! Reads: commits, events by id, events by filter, frames. Each reads from one connection of the pool;
//! what is read never changes once written, so several statements see one history.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use commonplace_storage::{Dialect, Statements};
use commonplace_types::{CommitHash, Event, EventId, Invalid, LaneInterval, TenantName, Visible};
use sea_orm::{QueryResult, Value};

use super::SqlStore;
use super::rows::{COMMIT_COLUMNS, EVENT_COLUMNS, column, commit, event, id, seen, small};
use crate::JournalError;
use crate::commit::Commit;
use crate::query::Selection;
use crate::state::Project;
use crate::store::{EventPlace, Frame, FramePage};

/// Commits read at once for a tail.
const FRAME_COMMITS: u32 = 512;
/// A page of frames ends with the commit that reaches this many bytes of content or events.
const FRAME_BYTES: u64 = 1 << 20;
const FRAME_EVENTS: u64 = 2_000;

/// Events by id, with their place in what is visible.
pub(super) fn by_id_sql(seen: &str) -> String {
    format!(
        "SELECT p.lane, p.position, {EVENT_COLUMNS}
         FROM {{json_each(?) j CROSS JOIN|unnest(?::bytea[]) j (value) JOIN}} event e {{INDEXED BY event_by_id|}}
           ON e.project = ? AND e.event_id = {{unhex(j.value)|j.value}}
         {{CROSS|}} JOIN placement p {{INDEXED BY placement_of_event|}} ON p.seq = e.seq AND {seen}
         ORDER BY p.lane, p.position"
    )
}

/// The events of a run of positions.
pub(super) fn run_sql() -> String {
    format!(
        "SELECT p.position, {EVENT_COLUMNS} FROM placement p {{CROSS|}} JOIN event e ON e.seq = p.seq
         WHERE p.project = ? AND p.lane = ? AND p.position BETWEEN ? AND ? ORDER BY p.position"
    )
}

/// What the events of a run of positions supersede.
pub(super) const RUN_EDGES: &str = "SELECT s.position, t.event_id
     FROM supersedes s {CROSS|} JOIN event t ON t.seq = s.target
     WHERE s.project = ? AND s.lane = ? AND s.position BETWEEN ? AND ?";

/// What placements supersede; a list of places, lane in the upper and position in the lower 32 bits. Behind row-level
/// security PostgreSQL looks nothing up by what a function gives that might tell its arguments; `OFFSET 0` makes
/// columns of it first.
pub(super) const EDGES: &str = "SELECT s.lane, s.position, t.event_id
     FROM {json_each(?) j CROSS JOIN|(SELECT u.value >> 32 AS lane, u.value & 4294967295 AS position
             FROM unnest(?::bigint[]) u (value) OFFSET 0) j JOIN} supersedes s
       ON s.project = ? AND s.lane = {(j.value >> 32)|j.lane}
         AND s.position = {(j.value & 4294967295)|j.position}
     {CROSS|} JOIN event t ON t.seq = s.target";

impl SqlStore {
    /// For whoever asks about a project: the tenant that it was looked up by.
    fn within(&self, project: &Project) -> Statements {
        self.database.for_tenant(&project.tenant)
    }

    /// A commit of a tenant's project by its number.
    pub(crate) async fn commit_by_number(
        &self,
        tenant: &TenantName,
        project: i64,
        number: u64,
    ) -> Result<Commit, JournalError> {
        let sql =
            format!("SELECT {COMMIT_COLUMNS} FROM \"commit\" WHERE project = ? AND number = ?");
        match self
            .database
            .for_tenant(tenant)
            .query_one(&sql, vec![project.into(), (number as i64).into()])
            .await?
        {
            Some(row) => commit(&row),
            None => Err(JournalError::CommitNotFound {
                commit: number.to_string(),
            }),
        }
    }

    /// A commit by its hash.
    pub(crate) async fn commit_by_hash(
        &self,
        project: &Project,
        hash: &CommitHash,
    ) -> Result<Arc<Commit>, JournalError> {
        let recent = project.read().recent(hash);
        if let Some(commit) = recent {
            return Ok(commit);
        }
        let sql = format!(
            "SELECT {COMMIT_COLUMNS} FROM \"commit\" {{INDEXED BY commit_by_hash|}} WHERE project = ? AND hash = ?"
        );
        match self
            .within(project)
            .query_one(
                &sql,
                vec![project.key.into(), hash.as_bytes().to_vec().into()],
            )
            .await?
        {
            Some(row) => Ok(Arc::new(commit(&row)?)),
            None => Err(JournalError::CommitNotFound {
                commit: hash.to_string(),
            }),
        }
    }

    /// A commit by the first digits of its hash. Error: none, or several.
    pub(crate) async fn commit_by_prefix(
        &self,
        project: &Project,
        prefix: &str,
    ) -> Result<Arc<Commit>, JournalError> {
        let bound = |digit: &str| {
            let padded = format!("{prefix}{}", digit.repeat(64 - prefix.len().min(64)));
            hex::decode(padded).map_err(|_| Invalid::new("commit", "expected hex digits"))
        };
        let sql = format!(
            "SELECT {COMMIT_COLUMNS} FROM \"commit\" {{INDEXED BY commit_by_hash|}}
             WHERE project = ? AND hash BETWEEN ? AND ? LIMIT 2"
        );
        let values = vec![project.key.into(), bound("0")?.into(), bound("f")?.into()];
        let rows = self.within(project).query(&sql, values).await?;
        match &rows[..] {
            [] => Err(JournalError::CommitNotFound {
                commit: prefix.to_owned(),
            }),
            [only] => Ok(Arc::new(commit(only)?)),
            _ => {
                let problem = format!("`{prefix}` names several commits: give more digits");
                Err(Invalid::new("commit", problem).into())
            }
        }
    }

    /// The ancestors of a commit, itself included, with numbers up to `newest`, newest first.
    pub(crate) async fn ancestors(
        &self,
        project: &Project,
        visible: &[LaneInterval],
        newest: u64,
        limit: u32,
    ) -> Result<Vec<Commit>, JournalError> {
        let sql = format!(
            "SELECT {COMMIT_COLUMNS} FROM \"commit\" {{INDEXED BY commit_by_lane|}}
             WHERE project = ? AND lane = ? AND number <= ? AND last_position <= ?
             ORDER BY number DESC LIMIT ?"
        );
        let statements = self.within(project);
        let mut found = Vec::new();
        for interval in visible {
            let values = vec![
                project.key.into(),
                interval.lane.into(),
                (newest as i64).into(),
                interval.position.into(),
                limit.into(),
            ];
            for row in statements.query(&sql, values).await? {
                found.push(commit(&row)?);
            }
        }
        found.sort_by_key(|commit| std::cmp::Reverse(commit.number));
        found.truncate(limit as usize);
        Ok(found)
    }

    /// Visible events by id, in no order; what is not visible is left out.
    pub(crate) async fn events_by_id(
        &self,
        project: &Project,
        visible: &Visible,
        ids: &[EventId],
    ) -> Result<HashMap<EventId, Event>, JournalError> {
        let (condition, seen_values) = seen("p", visible);
        let ids = ids.iter().map(|id| id.as_bytes().as_slice());
        let list = self.database.dialect().list_of_bytes(ids);
        let mut values = vec![list, project.key.into()];
        values.extend(seen_values);
        let statements = self.within(project);
        let rows = statements.query(&by_id_sql(&condition), values).await?;
        let mut placed = Vec::with_capacity(rows.len());
        for row in &rows {
            placed.push(placed_event(row)?);
        }
        fill_edges(&statements, project, &mut placed).await?;
        let mut found = HashMap::with_capacity(placed.len());
        for (_, event) in placed {
            found.entry(event.id).or_insert(event);
        }
        Ok(found)
    }

    /// Visible events of a selection after a place, newest first: by event time, then id, both falling.
    /// What only the body tells (tags, attributes) is not looked at.
    pub(crate) async fn select(
        &self,
        project: &Project,
        visible: &Visible,
        selection: &Selection,
        after: Option<EventPlace>,
        limit: u32,
    ) -> Result<Vec<Event>, JournalError> {
        let statements = self.within(project);
        let dialect = statements.dialect();
        let (sql, values) = select_sql(dialect, project.key, visible, selection, after, limit);
        let rows = statements.query(&sql, values).await?;
        let mut placed = Vec::with_capacity(rows.len());
        for row in &rows {
            let place: i64 = column(row, 0)?;
            let at = LaneInterval {
                lane: (place >> 32) as u32,
                position: place as u32,
            };
            placed.push((at, event(row, 1)?));
        }
        fill_edges(&statements, project, &mut placed).await?;
        Ok(placed.into_iter().map(|(_, event)| event).collect())
    }

    /// Which commits the next page of frames holds, from a number on: at least one if there is one, up to about a
    /// megabyte. Their events are not read yet.
    pub(crate) async fn frame_page(
        &self,
        project: &Project,
        from: u64,
    ) -> Result<FramePage, JournalError> {
        let mut commits = page_of_commits(&self.within(project), project.key, from).await?;
        let previous = match commits.first() {
            Some(first) if first.number < from => Some(commits.remove(0).hash),
            _ => None,
        };
        commits.truncate(cut(&commits).len());
        Ok(FramePage { previous, commits })
    }

    /// The frames of a page.
    pub(crate) async fn frames(
        &self,
        project: &Project,
        page: &FramePage,
    ) -> Result<Vec<Frame>, JournalError> {
        let mut events = self.events_of(project, &page.commits).await?;
        let state = project.read();
        let mut previous = page.previous;
        let mut frames = Vec::with_capacity(page.commits.len());
        for commit in &page.commits {
            let held = (commit.first_position..=commit.last_position)
                .map(|position| {
                    let at = LaneInterval {
                        lane: commit.lane,
                        position,
                    };
                    let missing = || format!("lane {} position {position} is missing", commit.lane);
                    events
                        .remove(&at)
                        .ok_or_else(|| JournalError::damaged(missing()))
                })
                .collect::<Result<Vec<Event>, _>>()?;
            frames.push(Frame {
                visible: state.visible(commit)?,
                previous,
                commit: commit.clone(),
                events: held,
            });
            previous = Some(commit.hash);
        }
        Ok(frames)
    }

    /// The events of consecutive commits. Those of one lane lie side by side, so one run is read per lane.
    async fn events_of(
        &self,
        project: &Project,
        commits: &[Arc<Commit>],
    ) -> Result<HashMap<LaneInterval, Event>, JournalError> {
        let (key, statements) = (project.key, self.within(project));
        let mut events = HashMap::new();
        for (lane, (first, last)) in runs(commits) {
            let values: Vec<Value> = vec![key.into(), lane.into(), first.into(), last.into()];
            let mut superseded = run_edges(&statements, values.clone()).await?;
            for row in statements.query(&run_sql(), values).await? {
                let position = small(&row, 0)?;
                let mut event = event(&row, 1)?;
                event.draft.supersedes = sorted(superseded.remove(&position).unwrap_or_default());
                events.insert(LaneInterval { lane, position }, event);
            }
        }
        Ok(events)
    }
}

/// Sets what each event supersedes where it was placed.
async fn fill_edges(
    statements: &Statements,
    project: &Project,
    placed: &mut [(LaneInterval, Event)],
) -> Result<(), JournalError> {
    if placed.is_empty() {
        return Ok(());
    }
    let place = |at: &LaneInterval| i64::from(at.lane) << 32 | i64::from(at.position);
    let places = placed.iter().map(|(at, _)| place(at));
    let list = statements.dialect().list_of_numbers(places);
    let mut edges: HashMap<LaneInterval, Vec<EventId>> = HashMap::new();
    for row in statements
        .query(EDGES, vec![list, project.key.into()])
        .await?
    {
        let at = LaneInterval {
            lane: small(&row, 0)?,
            position: small(&row, 1)?,
        };
        edges.entry(at).or_default().push(id(&row, 2)?);
    }
    for (at, event) in placed {
        event.draft.supersedes = sorted(edges.remove(at).unwrap_or_default());
    }
    Ok(())
}

/// The commit before `from`, if any, and those from there on, by number.
pub(super) async fn page_of_commits(
    statements: &Statements,
    project: i64,
    from: u64,
) -> Result<Vec<Arc<Commit>>, JournalError> {
    let sql = format!(
        "SELECT {COMMIT_COLUMNS} FROM \"commit\" WHERE project = ? AND number >= ?
         ORDER BY number LIMIT ?"
    );
    let first = from.saturating_sub(1) as i64;
    let rows = statements
        .query(
            &sql,
            vec![project.into(), first.into(), FRAME_COMMITS.into()],
        )
        .await?;
    rows.iter().map(|row| commit(row).map(Arc::new)).collect()
}

/// What each position of a run supersedes.
pub(super) async fn run_edges(
    statements: &Statements,
    run: Vec<Value>,
) -> Result<HashMap<u32, Vec<EventId>>, JournalError> {
    let mut superseded: HashMap<u32, Vec<EventId>> = HashMap::new();
    for row in statements.query(RUN_EDGES, run).await? {
        superseded
            .entry(small(&row, 0)?)
            .or_default()
            .push(id(&row, 1)?);
    }
    Ok(superseded)
}

/// The run of positions in each lane that consecutive commits hold.
pub(super) fn runs(commits: &[Arc<Commit>]) -> BTreeMap<u32, (u32, u32)> {
    let mut runs: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for commit in commits.iter().filter(|commit| commit.event_count() > 0) {
        let run = (commit.first_position, commit.last_position);
        runs.entry(commit.lane)
            .and_modify(|found| found.1 = run.1)
            .or_insert(run);
    }
    runs
}

pub(super) fn sorted(mut ids: Vec<EventId>) -> Vec<EventId> {
    ids.sort_unstable();
    ids
}

fn placed_event(row: &QueryResult) -> Result<(LaneInterval, Event), JournalError> {
    let at = LaneInterval {
        lane: small(row, 0)?,
        position: small(row, 1)?,
    };
    Ok((at, event(row, 2)?))
}

/// The longest start of a page within the bounds, at least one commit.
pub(super) fn cut(page: &[Arc<Commit>]) -> &[Arc<Commit>] {
    let (mut bytes, mut events) = (0, 0);
    for (index, commit) in page.iter().enumerate() {
        bytes += commit.bytes;
        events += u64::from(commit.event_count());
        if bytes >= FRAME_BYTES || events >= FRAME_EVENTS {
            return &page[..=index];
        }
    }
    page
}

/// The statement behind [`SqlStore::select`]. PostgreSQL would turn `EXISTS` into a join and sort all that it
/// finds; `OFFSET 0` keeps it a question for each event, asked in the order of the index until the limit.
pub(super) fn select_sql(
    dialect: Dialect,
    project: i64,
    visible: &Visible,
    selection: &Selection,
    after: Option<EventPlace>,
    limit: u32,
) -> (String, Vec<Value>) {
    let filter = &selection.filter;
    let (placed, placed_values) = seen("p", visible);
    let mut sql =
        format!(
        "SELECT (SELECT p.lane << 32 | p.position FROM placement p {{INDEXED BY placement_of_event|}}
                 WHERE p.seq = e.seq AND {placed} ORDER BY p.lane LIMIT 1), {EVENT_COLUMNS}
         FROM event e {{INDEXED BY {}|}} WHERE e.project = ?",
        if filter.record_ids.is_empty() { "event_by_time" } else { "event_by_record" }
    );
    let mut values = placed_values.clone();
    values.push(project.into());
    let mut and = |condition: &str, value: Vec<Value>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.extend(value);
    };
    if let Some((time, id)) = after {
        let place = vec![time.as_micros().into(), id.as_bytes().to_vec().into()];
        and("(e.event_time, e.event_id) < (?, ?)", place);
    }
    if let Some(from) = filter.from_time {
        and("e.event_time >= ?", vec![from.as_micros().into()]);
    }
    if let Some(to) = filter.to_time {
        and("e.event_time < ?", vec![to.as_micros().into()]);
    }
    let texts = |items: Vec<&str>| (items.len(), dialect.list_of_texts(items));
    let strings = |items: &[String]| texts(items.iter().map(String::as_str).collect());
    let types = texts(
        filter
            .artifact_types
            .iter()
            .map(|kind| kind.as_str())
            .collect(),
    );
    let records = texts(
        filter
            .record_ids
            .iter()
            .map(|record| record.as_str())
            .collect(),
    );
    let shown = selection
        .view
        .parts()
        .filter(|_| !selection.names_authors());
    if let Some(parts) = shown {
        let types = parts.artifact_types.iter().map(|kind| kind.as_str());
        and(
            "e.artifact_type {IN (SELECT value FROM json_each(?))|= ANY(?)}",
            vec![dialect.list_of_texts(types)],
        );
    }
    let lists = [
        ("e.artifact_type", types),
        ("e.agent", strings(&filter.agents)),
        ("e.source", strings(&filter.sources)),
        ("e.record_id", records),
    ];
    for (name, (count, list)) in lists {
        if count > 0 {
            and(
                &format!("{name} {{IN (SELECT value FROM json_each(?))|= ANY(?)}}"),
                vec![list],
            );
        }
    }
    if let Some(least) = filter.min_importance {
        and("e.importance >= ?", vec![least.millionths().into()]);
    }
    if filter.pinned_only {
        and("e.pinned = 1", Vec::new());
    }
    if !filter.correlation_id.is_empty() {
        and(
            "e.correlation_id = ?",
            vec![filter.correlation_id.as_str().into()],
        );
    }
    let exists = format!(
        "EXISTS (SELECT 1 FROM placement p {{INDEXED BY placement_of_event|}}
         WHERE p.seq = e.seq AND {placed} {{|OFFSET 0}})"
    );
    and(&exists, placed_values);
    if !selection.include_superseded {
        let (edge, edge_values) = seen("s", visible);
        let live = format!(
            "NOT EXISTS (SELECT 1 FROM supersedes s {{INDEXED BY supersedes_of_target|}}
             WHERE s.target = e.seq AND {edge} {{|OFFSET 0}})"
        );
        and(&live, edge_values);
    }
    sql.push_str(" ORDER BY e.event_time DESC, e.event_id DESC LIMIT ?");
    values.push(limit.into());
    (sql, values)
}
