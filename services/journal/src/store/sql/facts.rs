//! Gathers what deciding a group of appends needs to know, in a fixed number of statements.

use std::collections::{BTreeSet, HashMap};

use commonplace_storage::Statements;
use commonplace_types::{EventId, LaneInterval, RecordId, TenantName};

use super::rows::{RequestRow, column, digest, id, small, time};
use crate::JournalError;
use crate::append::{Apart, Facts, Known, Prepared, RequestId};

/// By event id, in request order of the ids.
pub(super) const KNOWN: &str = "SELECT e.event_id, e.seq, e.checksum, e.body_hash, {length(e.body)|length(e.body)::bigint}
     FROM {json_each(?) j CROSS JOIN|unnest(?::bytea[]) j (value) JOIN} event e {INDEXED BY event_by_id|}
     ON e.project = ? AND e.event_id = {unhex(j.value)|j.value}";
/// All events of records.
pub(super) const OF_RECORDS: &str =
    "SELECT e.record_id, e.event_id, e.seq, e.checksum, e.body_hash, {length(e.body)|length(e.body)::bigint}
     FROM {json_each(?) j CROSS JOIN|unnest(?::text[]) j (value) JOIN} event e {INDEXED BY event_by_record|}
     ON e.project = ? AND e.record_id = j.value";
/// Where events lie.
pub(super) const PLACEMENTS: &str = "SELECT p.seq, p.lane, p.position
     FROM {json_each(?) j CROSS JOIN|unnest(?::bigint[]) j (value) JOIN} placement p
       {INDEXED BY placement_of_event|} ON p.seq = j.value";
/// Where events are superseded.
pub(super) const SUPERSEDED: &str = "SELECT s.target, s.lane, s.position
     FROM {json_each(?) j CROSS JOIN|unnest(?::bigint[]) j (value) JOIN} supersedes s
       {INDEXED BY supersedes_of_target|} ON s.target = j.value";
/// Contents of events.
pub(super) const BODIES: &str = "SELECT e.seq, e.body
     FROM {json_each(?) j CROSS JOIN|unnest(?::bigint[]) j (value) JOIN} event e ON e.seq = j.value";
/// Answered requests.
pub(super) const REQUESTS: &str =
    "SELECT r.request_id, r.project, r.request_hash, r.time, r.number, r.answer
     FROM {json_each(?) j CROSS JOIN|unnest(?::bytea[]) j (value) JOIN} request r
       ON r.tenant = ? AND r.request_id = {unhex(j.value)|j.value}";

/// What a project holds about the events and records that some appends name.
pub(super) async fn gather<'a>(
    statements: &Statements,
    project: i64,
    appends: impl Iterator<Item = &'a Prepared> + Clone,
) -> Result<Facts, JournalError> {
    let mut facts = Facts::default();
    known(statements, project, appends.clone(), &mut facts).await?;
    of_records(statements, project, appends.clone(), &mut facts).await?;
    contents(statements, appends, &mut facts).await?;
    let mut wanted: BTreeSet<i64> = facts.by_id.values().map(|known| known.seq).collect();
    let heads: BTreeSet<i64> = facts
        .by_record
        .values()
        .flatten()
        .map(|(_, seq)| *seq)
        .collect();
    wanted.extend(&heads);
    places(statements, PLACEMENTS, &wanted, &mut facts.placements).await?;
    places(statements, SUPERSEDED, &heads, &mut facts.superseded).await?;
    Ok(facts)
}

async fn known<'a>(
    statements: &Statements,
    project: i64,
    appends: impl Iterator<Item = &'a Prepared>,
    facts: &mut Facts,
) -> Result<(), JournalError> {
    let mut ids: BTreeSet<EventId> = BTreeSet::new();
    for prepared in appends {
        ids.extend(prepared.events.iter().map(|event| event.id));
        ids.extend(
            prepared
                .append
                .events
                .iter()
                .flat_map(|draft| draft.supersedes.iter().copied()),
        );
    }
    if ids.is_empty() {
        return Ok(());
    }
    let ids = ids.iter().map(|id| id.as_bytes().as_slice());
    let list = statements.dialect().list_of_bytes(ids);
    for row in statements.query(KNOWN, vec![list, project.into()]).await? {
        let known = Known {
            seq: column(&row, 1)?,
            checksum: digest(&row, 2)?,
            body_hash: digest(&row, 3)?,
            bytes: column::<i64>(&row, 4)? as u64,
        };
        facts.by_id.insert(id(&row, 0)?, known);
    }
    Ok(())
}

async fn of_records<'a>(
    statements: &Statements,
    project: i64,
    appends: impl Iterator<Item = &'a Prepared>,
    facts: &mut Facts,
) -> Result<(), JournalError> {
    let over_heads = appends
        .flat_map(|prepared| &prepared.events)
        .filter(|event| event.over_heads);
    let records: BTreeSet<&str> = over_heads.map(|event| event.record.as_str()).collect();
    if records.is_empty() {
        return Ok(());
    }
    let list = statements.dialect().list_of_texts(records);
    for row in statements
        .query(OF_RECORDS, vec![list, project.into()])
        .await?
    {
        let record = RecordId::new(column::<String>(&row, 0)?)
            .map_err(|error| JournalError::damaged(error.to_string()))?;
        let (event, known) = (
            id(&row, 1)?,
            Known {
                seq: column(&row, 2)?,
                checksum: digest(&row, 3)?,
                body_hash: digest(&row, 4)?,
                bytes: column::<i64>(&row, 5)? as u64,
            },
        );
        facts.by_id.insert(event, known);
        let of_record = facts.by_record.entry(record).or_default();
        of_record.push((event, known.seq));
    }
    Ok(())
}

/// The contents of known events that appends bring with another checksum.
async fn contents<'a>(
    statements: &Statements,
    appends: impl Iterator<Item = &'a Prepared>,
    facts: &mut Facts,
) -> Result<(), JournalError> {
    let differing = facts.differing(appends);
    if differing.is_empty() {
        return Ok(());
    }
    let list = statements.dialect().list_of_numbers(differing);
    for row in statements.query(BODIES, vec![list]).await? {
        let content: Vec<u8> = column(&row, 1)?;
        let apart = Apart::of(&content)?;
        facts.apart.insert(column(&row, 0)?, apart);
    }
    Ok(())
}

async fn places(
    statements: &Statements,
    sql: &str,
    seqs: &BTreeSet<i64>,
    into: &mut HashMap<i64, Vec<LaneInterval>>,
) -> Result<(), JournalError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let list = statements.dialect().list_of_numbers(seqs.iter().copied());
    for row in statements.query(sql, vec![list]).await? {
        let place = LaneInterval {
            lane: small(&row, 1)?,
            position: small(&row, 2)?,
        };
        into.entry(column(&row, 0)?).or_default().push(place);
    }
    Ok(())
}

/// Requests of a tenant that were answered before.
pub(super) async fn requests(
    statements: &Statements,
    tenant: &TenantName,
    ids: impl Iterator<Item = RequestId>,
) -> Result<HashMap<RequestId, RequestRow>, JournalError> {
    let ids: BTreeSet<RequestId> = ids.collect();
    let mut found = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let ids = ids.iter().map(|id| id.as_slice());
    let list = statements.dialect().list_of_bytes(ids);
    let values = vec![list, tenant.as_str().into()];
    for row in statements.query(REQUESTS, values).await? {
        let request_id: Vec<u8> = column(&row, 0)?;
        let key = RequestId::try_from(request_id.as_slice())
            .map_err(|_| JournalError::damaged("a request id of another length"))?;
        let stored = RequestRow {
            tenant: tenant.to_string(),
            request_id,
            project: column(&row, 1)?,
            request_hash: digest(&row, 2)?,
            time: time(&row, 3)?,
            number: column::<i64>(&row, 4)? as u64,
            answer: column(&row, 5)?,
        };
        found.insert(key, stored);
    }
    Ok(found)
}
