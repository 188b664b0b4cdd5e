//! Reads everything that hashes are made of, straight from the file: nothing in here trusts memory. It reads for
//! all, since a row that was given to another tenant is a finding too.

use std::collections::HashMap;
use std::sync::Arc;

use commonplace_types::{LaneInterval, RecordId};
use sea_orm::{QueryResult, Value};

use super::read::{cut, page_of_commits, run_edges, runs, sorted};
use super::rows::{RefRow, RequestRow, column, digest, id, setting_digest, small, time};
use super::{SqlStore, load};
use crate::commit::Commit;
use crate::lane::Lane;
use crate::store::{AuditedEvent, AuditedRef, Totals};
use crate::{JournalError, body};

const RUN: &str = "SELECT p.position, e.event_id, e.record_id, e.event_time, e.recorded_time, e.artifact_type,
         e.agent, e.source, e.correlation_id, e.importance, e.pinned, e.checksum, e.body_hash, e.salt,
         e.traceparent, e.body
     FROM placement p {CROSS|} JOIN event e ON e.seq = p.seq
     WHERE p.project = ? AND p.lane = ? AND p.position BETWEEN ? AND ?";

/// The rows of a request, less its tenant and id.
const REQUESTS: &str = "SELECT tenant, request_id, request_hash, time, number, answer, digest
     FROM request WHERE project = ?";

impl SqlStore {
    /// A project's tenant and name.
    pub(crate) async fn audit_names(&self, project: i64) -> Result<(String, String), JournalError> {
        let sql = "SELECT tenant, name FROM project WHERE key = ?";
        let row = self
            .database
            .for_all()
            .query_one(sql, vec![project.into()])
            .await?;
        let row = row.ok_or_else(|| JournalError::damaged("the project's row is missing"))?;
        Ok((column(&row, 0)?, column(&row, 1)?))
    }

    /// Commits from a number on, at least one if there is one, with the events they hold.
    pub(crate) async fn audit_page(
        &self,
        project: i64,
        from: u64,
    ) -> Result<(Vec<Arc<Commit>>, HashMap<LaneInterval, AuditedEvent>), JournalError> {
        let statements = self.database.for_all();
        let commits = page_of_commits(&statements, project, from).await?;
        let from_here = commits.iter().position(|commit| commit.number >= from);
        let page = cut(&commits[from_here.unwrap_or(commits.len())..]).to_vec();
        let mut events = HashMap::new();
        for (lane, (first, last)) in runs(&page) {
            let values: Vec<Value> = vec![project.into(), lane.into(), first.into(), last.into()];
            let mut superseded = run_edges(&statements, values.clone()).await?;
            for row in statements.query(RUN, values).await? {
                let position = small(&row, 0)?;
                let mut event = audited(&row)?;
                event.supersedes = sorted(superseded.remove(&position).unwrap_or_default());
                events.insert(LaneInterval { lane, position }, event);
            }
        }
        Ok((page, events))
    }

    /// Lanes by number.
    pub(crate) async fn audit_lanes(&self, project: i64) -> Result<Vec<Lane>, JournalError> {
        load::lanes(&self.database.for_all(), project).await
    }

    /// Refs by kind and name.
    pub(crate) async fn audit_refs(&self, project: i64) -> Result<Vec<AuditedRef>, JournalError> {
        let sql = "SELECT kind, name, number, origin, lane, digest FROM ref
             WHERE project = ? ORDER BY kind, name";
        let rows = self
            .database
            .for_all()
            .query(sql, vec![project.into()])
            .await?;
        let read = |row: &QueryResult| {
            let stored = RefRow {
                kind: column(row, 0)?,
                name: column(row, 1)?,
                number: column::<i64>(row, 2)? as u64,
                origin: column::<i64>(row, 3)? as u64,
                lane: small(row, 4)?,
            };
            Ok(AuditedRef {
                intact: stored.digest(project) == digest(row, 5)?,
                is_branch: stored.kind == 1,
                name: stored.name,
                number: stored.number,
                origin: stored.origin,
                lane: stored.lane,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The first answered request or setting that is not as it was written.
    pub(crate) async fn audit_rest(&self, project: i64) -> Result<Option<String>, JournalError> {
        let statements = self.database.for_all();
        let rows = statements.query(REQUESTS, vec![project.into()]).await?;
        for row in rows {
            let stored = RequestRow {
                tenant: column(&row, 0)?,
                request_id: column(&row, 1)?,
                project,
                request_hash: digest(&row, 2)?,
                time: time(&row, 3)?,
                number: column::<i64>(&row, 4)? as u64,
                answer: column(&row, 5)?,
            };
            if stored.digest() != digest(&row, 6)? {
                let id = hex::encode(&stored.request_id);
                return Ok(Some(format!("request {id}: the row was changed")));
            }
        }
        for row in statements
            .query(
                "SELECT name, value, digest FROM setting ORDER BY name",
                Vec::new(),
            )
            .await?
        {
            let name: String = column(&row, 0)?;
            if setting_digest(&name, &column::<Vec<u8>>(&row, 1)?) != digest(&row, 2)? {
                return Ok(Some(format!("setting `{name}`: the row was changed")));
            }
        }
        Ok(None)
    }

    /// How many rows there are.
    pub(crate) async fn audit_totals(&self, project: i64) -> Result<Totals, JournalError> {
        let sql = "SELECT (SELECT count(*) FROM lane WHERE project = ?1),
                 (SELECT count(*) FROM placement WHERE project = ?1),
                 (SELECT count(*) FROM supersedes WHERE project = ?1),
                 (SELECT count(*) FROM event e WHERE e.project = ?1
                     AND NOT EXISTS (SELECT 1 FROM placement p WHERE p.seq = e.seq))";
        let row = self
            .database
            .for_all()
            .query_one(sql, vec![project.into()])
            .await?;
        let row = row.ok_or_else(|| JournalError::damaged("nothing can be counted"))?;
        Ok(Totals {
            lanes: column::<i64>(&row, 0)? as u64,
            placements: column::<i64>(&row, 1)? as u64,
            edges: column::<i64>(&row, 2)? as u64,
            unplaced: column::<i64>(&row, 3)? as u64,
        })
    }
}

fn audited(row: &QueryResult) -> Result<AuditedEvent, JournalError> {
    let id = id(row, 1)?;
    let record: String = column(row, 2)?;
    let recorded = time(row, 4)?;
    let salt: Vec<u8> = column(row, 13)?;
    let body: Vec<u8> = column(row, 15)?;
    let draft = body::decode(&body).map_err(|_| {
        JournalError::damaged(format!("event {id}: its content does not read back"))
    })?;
    let stated = draft
        .record_id
        .as_ref()
        .map_or_else(|| id.to_string(), ToString::to_string);
    let columns_agree = record == stated
        && column::<i64>(row, 3)? == draft.event_time.unwrap_or(recorded).as_micros()
        && column::<String>(row, 5)? == draft.artifact_type.as_str()
        && column::<String>(row, 6)? == draft.agent
        && column::<String>(row, 7)? == draft.source
        && column::<String>(row, 8)? == draft.correlation_id
        && small(row, 9)? == draft.importance.millionths()
        && column::<i64>(row, 10)? == i64::from(draft.pinned);
    Ok(AuditedEvent {
        id,
        record: RecordId::new(record)
            .map_err(|error| JournalError::damaged(format!("event {id}: {error}")))?,
        operation: draft.operation,
        salt: salt.try_into().map_err(|_| {
            JournalError::damaged(format!("event {id}: its salt has another length"))
        })?,
        body_hash: digest(row, 12)?,
        checksum: digest(row, 11)?,
        recorded,
        traceparent: column(row, 14)?,
        body,
        supersedes: Vec::new(),
        columns_agree,
    })
}
