//! The chains on disk.
//!
//! Every change of a tenant's chain begins with its row in `audit_chain`, which it holds until it ends: so records
//! get their numbers one after the other, whichever process keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonplace_access::audit::{Head, Record, canonical};
use commonplace_rpc::audit::Entry;
use commonplace_storage::{Database, StorageError, Transaction};
use commonplace_types::{Digest, Invalid, TenantName, Timestamp};
use sea_orm::{QueryResult, TryGetable, Value};

use super::{AuditError, Ends};

/// Records that are removed in one transaction.
const PRUNED_AT_ONCE: u64 = 1_000;

/// Where a chain begins and ends.
pub(super) const ENDS: &str =
    "SELECT start_sequence, start_hash, sequence, hash FROM audit_chain WHERE tenant = ?";

/// Records by number.
pub(super) const BETWEEN: &str =
    "SELECT sequence, id, time_micros, previous_hash, hash, body FROM audit_record
    WHERE tenant = ? AND sequence >= ? AND sequence <= ? ORDER BY sequence";

/// Tenants whose first record is older than a moment.
const STALE: &str = "SELECT c.tenant FROM audit_chain c JOIN audit_record r
    ON r.tenant = c.tenant AND r.sequence = c.start_sequence + 1
    WHERE r.time_micros < ? ORDER BY c.tenant";

/// The first of some records that is too young to go.
pub(super) const YOUNG: &str = "SELECT min(sequence) FROM audit_record
    WHERE tenant = ? AND sequence > ? AND sequence <= ? AND time_micros >= ?";

/// The part of the policy database that is the audit log.
#[derive(Debug, Clone)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Adds entries to the chains of their tenants; those that are there by their ids already are passed over.
    pub(super) async fn append(
        &self,
        entries: BTreeMap<TenantName, Vec<Entry>>,
    ) -> Result<(), AuditError> {
        let entries = Arc::new(entries);
        self.database
            .for_all()
            .write(move |transaction| {
                let entries = entries.clone();
                Box::pin(async move {
                    // In the order of tenants, so that two processes cannot wait for each other in a circle.
                    for (tenant, entries) in entries.iter() {
                        let mut head = hold(transaction, tenant).await?.head;
                        for entry in entries {
                            let record = Record::after(&head, entry.clone());
                            if insert(transaction, tenant, &record).await? {
                                head = record.head();
                            }
                        }
                        set_head(transaction, tenant, &head).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Where a tenant's chain begins and ends.
    pub(super) async fn ends(&self, tenant: &TenantName) -> Result<Ends, AuditError> {
        let row = self
            .database
            .for_tenant(tenant)
            .query_one(ENDS, vec![tenant.as_str().into()])
            .await?;
        row.as_ref().map_or(Ok(EMPTY), ends)
    }

    /// The records of some numbers that are there, by number.
    pub(super) async fn between(
        &self,
        tenant: &TenantName,
        first: u64,
        last: u64,
    ) -> Result<Vec<Record>, AuditError> {
        let values = vec![tenant.as_str().into(), whole(first), whole(last)];
        let rows = self
            .database
            .for_tenant(tenant)
            .query(BETWEEN, values)
            .await?;
        rows.iter().map(|row| record(row, tenant)).collect()
    }

    /// Every tenant whose first record is older than a moment, sorted.
    pub(super) async fn stale(&self, oldest: Timestamp) -> Result<Vec<TenantName>, AuditError> {
        let values = vec![oldest.as_micros().into()];
        let rows = self.database.for_all().query(STALE, values).await?;
        rows.iter()
            .map(|row| Ok(TenantName::new(get::<String>(row, 0)?)?))
            .collect()
    }

    /// Removes records from the beginning on that are older than a moment, some at a time. Gives how many.
    pub(super) async fn prune(
        &self,
        tenant: TenantName,
        oldest: Timestamp,
    ) -> Result<u64, AuditError> {
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let tenant = tenant.clone();
                Box::pin(async move {
                    let Ends { start, head } = hold(transaction, &tenant).await?;
                    let end = head.sequence.min(start.sequence + PRUNED_AT_ONCE);
                    let name = || Value::from(tenant.as_str());
                    let values = vec![
                        name(),
                        whole(start.sequence),
                        whole(end),
                        oldest.as_micros().into(),
                    ];
                    let young = transaction.query_one(YOUNG, values).await?;
                    let young: Option<i64> = young.map(|row| get(&row, 0)).transpose()?.flatten();
                    let end = match young {
                        Some(young) => number(young)?.saturating_sub(1),
                        None => end,
                    };
                    if end <= start.sequence {
                        return Ok(0);
                    }
                    let hash = hash_of(transaction, &tenant, end).await?;
                    let sql = "DELETE FROM audit_record WHERE tenant = ? AND sequence <= ?";
                    transaction.execute(sql, vec![name(), whole(end)]).await?;
                    let sql = "UPDATE audit_chain SET start_sequence = ?, start_hash = ? WHERE tenant = ?";
                    let values = vec![whole(end), bytes(&hash), name()];
                    transaction.execute(sql, values).await?;
                    Ok(end - start.sequence)
                })
            })
            .await
    }
}

/// A chain without records.
const EMPTY: Ends = Ends {
    start: Head::START,
    head: Head::START,
};

/// Keeps other changes of the tenant's chain waiting until this one ends. Gives where it begins and ends.
async fn hold(transaction: &Transaction, tenant: &TenantName) -> Result<Ends, AuditError> {
    let sql = "INSERT INTO audit_chain (tenant, sequence, hash, start_sequence, start_hash)
        VALUES (?, 0, ?, 0, ?) ON CONFLICT (tenant) DO UPDATE SET sequence = audit_chain.sequence";
    let zero = || bytes(&Digest::ZERO);
    let values = vec![tenant.as_str().into(), zero(), zero()];
    transaction.execute(sql, values).await?;
    let row = transaction
        .query_one(ENDS, vec![tenant.as_str().into()])
        .await?;
    row.as_ref().map_or(Ok(EMPTY), ends)
}

/// False: a record of its id is there.
async fn insert(
    transaction: &Transaction,
    tenant: &TenantName,
    record: &Record,
) -> Result<bool, AuditError> {
    let sql = "INSERT INTO audit_record
        (tenant, sequence, id, time_micros, previous_hash, hash, body)
        VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, id) DO NOTHING";
    let values = vec![
        tenant.as_str().into(),
        whole(record.sequence),
        record.entry.id.as_str().into(),
        record.entry.time.as_micros().into(),
        bytes(&record.previous),
        bytes(&record.hash),
        canonical::write(record.sequence, &record.entry).into(),
    ];
    Ok(transaction.execute(sql, values).await? == 1)
}

async fn set_head(
    transaction: &Transaction,
    tenant: &TenantName,
    head: &Head,
) -> Result<(), AuditError> {
    let sql = "UPDATE audit_chain SET sequence = ?, hash = ? WHERE tenant = ?";
    let values = vec![
        whole(head.sequence),
        bytes(&head.hash),
        tenant.as_str().into(),
    ];
    transaction.execute(sql, values).await?;
    Ok(())
}

async fn hash_of(
    transaction: &Transaction,
    tenant: &TenantName,
    sequence: u64,
) -> Result<Digest, AuditError> {
    let sql = "SELECT hash FROM audit_record WHERE tenant = ? AND sequence = ?";
    let values = vec![tenant.as_str().into(), whole(sequence)];
    let row = transaction.query_one(sql, values).await?;
    let row = row.ok_or_else(|| AuditError::Damaged {
        sequence,
        problem: "it is not there".into(),
    })?;
    Ok(Digest::from_slice(&get::<Vec<u8>>(&row, 0)?)?)
}

fn ends(row: &QueryResult) -> Result<Ends, AuditError> {
    let head = |sequence, hash| -> Result<Head, AuditError> {
        Ok(Head {
            sequence: number(get(row, sequence)?)?,
            hash: Digest::from_slice(&get::<Vec<u8>>(row, hash)?)?,
        })
    };
    Ok(Ends {
        start: head(0, 1)?,
        head: head(2, 3)?,
    })
}

/// A record, if what is kept beside its bytes is what they say.
fn record(row: &QueryResult, tenant: &TenantName) -> Result<Record, AuditError> {
    let sequence = number(get(row, 0)?)?;
    let damaged = |problem: String| AuditError::Damaged { sequence, problem };
    let invalid = |invalid: Invalid| damaged(invalid.to_string());
    let (stated, entry) = canonical::read(&get::<Vec<u8>>(row, 5)?).map_err(invalid)?;
    let beside = (
        sequence,
        get::<String>(row, 1)?,
        get::<i64>(row, 2)?,
        tenant.clone(),
    );
    let says = (
        stated,
        entry.id.clone(),
        entry.time.as_micros(),
        entry.tenant.clone(),
    );
    if beside != says {
        return Err(damaged("it is in the place of another".into()));
    }
    Ok(Record {
        sequence,
        entry,
        previous: Digest::from_slice(&get::<Vec<u8>>(row, 3)?).map_err(invalid)?,
        hash: Digest::from_slice(&get::<Vec<u8>>(row, 4)?).map_err(invalid)?,
    })
}

fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn number(number: i64) -> Result<u64, AuditError> {
    u64::try_from(number).map_err(|_| AuditError::Damaged {
        sequence: 0,
        problem: format!("a number of {number}"),
    })
}

fn bytes(digest: &Digest) -> Value {
    digest.as_bytes().to_vec().into()
}

fn get<T: TryGetable>(row: &QueryResult, column: usize) -> Result<T, StorageError> {
    Ok(row.try_get_by_index(column)?)
}
