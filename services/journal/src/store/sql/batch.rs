//! The rows of one transaction, written with few statements: a statement costs tens of microseconds
//! beside what it inserts, so rows go in by the hundred on SQLite, and a table at a time on PostgreSQL,
//! where each column is one array.

use commonplace_storage::{Dialect, Transaction};
use commonplace_types::{Draft, LaneInterval};
use sea_orm::Value;
use sea_orm::sea_query::ArrayType;

use super::rows::{RefRow, RequestRow};
use crate::JournalError;
use crate::append::{NewEvent, Prepared};
use crate::commit::Commit;
use crate::lane::{self, Lane};

/// Rows for one statement. A few fixed sizes, so that their statements stay prepared.
const ROWS: [usize; 4] = [128, 32, 8, 1];

/// Rows for one statement of arrays.
const ROWS_AT_ONCE: usize = 5_000;

/// Rows of one table.
struct Table {
    insert: &'static str,
    suffix: &'static str,
    columns: usize,
    values: Vec<Value>,
}

impl Table {
    fn new(insert: &'static str, columns: usize) -> Self {
        Self {
            insert,
            suffix: "",
            columns,
            values: Vec::new(),
        }
    }

    async fn write(&self, transaction: &Transaction) -> Result<(), JournalError> {
        match transaction.dialect() {
            Dialect::Sqlite => self.write_rows(transaction).await,
            Dialect::Postgres => self.write_columns(transaction).await,
        }
    }

    async fn write_rows(&self, transaction: &Transaction) -> Result<(), JournalError> {
        let mut left = &self.values[..];
        for size in ROWS {
            while let Some((chunk, rest)) = left.split_at_checked(size * self.columns) {
                let one = format!("({})", vec!["?"; self.columns].join(","));
                let rows = vec![one; size].join(",");
                let sql = format!("INSERT INTO {} VALUES {rows}{}", self.insert, self.suffix);
                transaction.execute(&sql, chunk.to_vec()).await?;
                left = rest;
            }
        }
        Ok(())
    }

    async fn write_columns(&self, transaction: &Transaction) -> Result<(), JournalError> {
        for rows in self.values.chunks(ROWS_AT_ONCE * self.columns) {
            let (mut kinds, mut values) = (Vec::new(), Vec::new());
            for column in 0..self.columns {
                let column = rows.iter().skip(column).step_by(self.columns);
                let (kind, array) = array(column)?;
                kinds.push(kind);
                values.push(array);
            }
            let sql = format!(
                "INSERT INTO {} SELECT * FROM unnest({}){}",
                self.insert,
                kinds.join(","),
                self.suffix
            );
            transaction.execute(&sql, values).await?;
        }
        Ok(())
    }
}

/// One column as an array, and its placeholder. A column holds values of one kind.
fn array<'a>(
    column: impl Iterator<Item = &'a Value>,
) -> Result<(&'static str, Value), JournalError> {
    let mut kind = None;
    let mut items = Vec::new();
    for value in column {
        let (found, item) = match value {
            Value::String(_) => (ArrayType::String, value.clone()),
            Value::Bytes(_) => (ArrayType::Bytes, value.clone()),
            Value::BigInt(_) => (ArrayType::BigInt, value.clone()),
            Value::Int(Some(number)) => (ArrayType::BigInt, i64::from(*number).into()),
            Value::Unsigned(Some(number)) => (ArrayType::BigInt, i64::from(*number).into()),
            other => return Err(JournalError::damaged(format!("{other:?} fits no column"))),
        };
        items.push(item);
        kind = Some(found);
    }
    let kind = kind.unwrap_or(ArrayType::BigInt);
    let placeholder = match kind {
        ArrayType::String => "?::text[]",
        ArrayType::Bytes => "?::bytea[]",
        _ => "?::bigint[]",
    };
    Ok((placeholder, Value::Array(kind, Some(Box::new(items)))))
}

/// All rows of one transaction.
pub(super) struct Batch {
    projects: Table,
    lanes: Table,
    events: Table,
    placements: Table,
    edges: Table,
    commits: Table,
    refs: Table,
    requests: Table,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut refs = Table::new("ref (project, kind, name, number, origin, lane, digest)", 7);
        refs.suffix = " ON CONFLICT (project, kind, name) DO UPDATE SET number = excluded.number, \
                       lane = excluded.lane, digest = excluded.digest";
        Self {
            projects: Table::new("project (key, tenant, name)", 3),
            lanes: Table::new("lane (project, lane, parent, fork_position, base)", 5),
            events: Table::new(
                "event (seq, project, event_id, record_id, event_time, recorded_time, artifact_type, agent, \
                 source, correlation_id, importance, pinned, checksum, body_hash, salt, traceparent, body)",
                17,
            ),
            placements: Table::new("placement (project, lane, position, seq)", 4),
            edges: Table::new("supersedes (project, lane, position, target)", 4),
            commits: Table::new(
                "\"commit\" (project, number, hash, branch, lane, first_position, last_position, parents, \
                 events_root, time, author, message, bytes)",
                13,
            ),
            refs,
            requests: Table::new(
                "request (tenant, request_id, project, request_hash, time, number, answer, digest)",
                8,
            ),
        }
    }

    /// Every write but that of a pure repeat changes a ref.
    pub(super) fn is_empty(&self) -> bool {
        self.refs.values.is_empty() && self.requests.values.is_empty()
    }

    /// In the order that foreign keys ask for.
    pub(super) async fn write(&self, transaction: &Transaction) -> Result<(), JournalError> {
        let tables = [
            &self.projects,
            &self.lanes,
            &self.events,
            &self.placements,
            &self.edges,
            &self.commits,
            &self.refs,
            &self.requests,
        ];
        for table in tables {
            table.write(transaction).await?;
        }
        Ok(())
    }

    pub(super) fn project(&mut self, key: i64, tenant: &str, name: &str) {
        self.projects
            .values
            .extend([key.into(), tenant.into(), name.into()]);
    }

    pub(super) fn lane(&mut self, project: i64, lane: &Lane) {
        self.lanes.values.extend([
            project.into(),
            lane.number.into(),
            lane.parent.into(),
            lane.fork_position.into(),
            lane::encode(&lane.base).into(),
        ]);
    }

    /// Takes the body out of the request.
    pub(super) fn event(
        &mut self,
        project: i64,
        commit: &Commit,
        new: &NewEvent,
        request: &mut Prepared,
    ) {
        let prepared = &mut request.events[new.index];
        let draft: &Draft = &request.append.events[new.index];
        self.events.values.extend([
            new.seq.into(),
            project.into(),
            new.id.as_bytes().to_vec().into(),
            prepared.record.as_str().into(),
            draft.event_time.unwrap_or(commit.time).as_micros().into(),
            commit.time.as_micros().into(),
            draft.artifact_type.as_str().into(),
            draft.agent.as_str().into(),
            draft.source.as_str().into(),
            draft.correlation_id.as_str().into(),
            draft.importance.millionths().into(),
            i32::from(draft.pinned).into(),
            prepared.checksum.as_bytes().to_vec().into(),
            new.body_hash.as_bytes().to_vec().into(),
            new.salt.to_vec().into(),
            request.append.traceparent.as_str().into(),
            std::mem::take(&mut prepared.body).into(),
        ]);
    }

    pub(super) fn placement(&mut self, project: i64, at: LaneInterval, seq: i64) {
        let (lane, position) = (at.lane.into(), at.position.into());
        self.placements
            .values
            .extend([project.into(), lane, position, seq.into()]);
    }

    pub(super) fn edge(&mut self, project: i64, at: LaneInterval, target: i64) {
        let (lane, position) = (at.lane.into(), at.position.into());
        self.edges
            .values
            .extend([project.into(), lane, position, target.into()]);
    }

    pub(super) fn commit(&mut self, project: i64, commit: &Commit) {
        let parents: Vec<u8> = commit
            .parents
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect();
        self.commits.values.extend([
            project.into(),
            (commit.number as i64).into(),
            commit.hash.as_bytes().to_vec().into(),
            commit.branch.as_str().into(),
            commit.lane.into(),
            commit.first_position.into(),
            commit.last_position.into(),
            parents.into(),
            commit.events_root.as_bytes().to_vec().into(),
            commit.time.as_micros().into(),
            commit.author.as_str().into(),
            commit.message.as_str().into(),
            (commit.bytes as i64).into(),
        ]);
    }

    pub(super) fn reference(&mut self, project: i64, row: &RefRow) {
        self.refs.values.extend([
            project.into(),
            row.kind.into(),
            row.name.as_str().into(),
            (row.number as i64).into(),
            (row.origin as i64).into(),
            row.lane.into(),
            row.digest(project).as_bytes().to_vec().into(),
        ]);
    }

    pub(super) fn request(&mut self, row: &RequestRow) {
        self.requests.values.extend([
            row.tenant.as_str().into(),
            row.request_id.clone().into(),
            row.project.into(),
            row.request_hash.as_bytes().to_vec().into(),
            row.time.as_micros().into(),
            (row.number as i64).into(),
            row.answer.clone().into(),
            row.digest().as_bytes().to_vec().into(),
        ]);
    }
}
