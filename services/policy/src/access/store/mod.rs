//! Keys, grants and policies on disk.
//!
//! Every change of a tenant begins with its row in `access_revision`, which a change of rules raises and any
//! other change only holds: so changes of one tenant come one after the other, whichever process makes them,
//! and a count that was taken within bounds stays within them.

mod keys;
mod rules;
#[cfg(test)]
mod tests;

use commonplace_storage::{Database, StorageError, Transaction};
use commonplace_types::{Invalid, TenantName, Timestamp};
use sea_orm::{QueryResult, TryGetable, Value};

use super::AccessError;

/// What a tenant's rules are before their first change.
const FIRST_REVISION: i64 = 1;

/// The part of the policy database that is about access.
#[derive(Debug, Clone)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

/// Keeps other changes of the tenant waiting until this one ends.
async fn hold(transaction: &Transaction, tenant: &TenantName) -> Result<(), StorageError> {
    let sql = "INSERT INTO access_revision (tenant, revision) VALUES (?, ?)
        ON CONFLICT (tenant) DO UPDATE SET revision = access_revision.revision";
    let values = vec![tenant.as_str().into(), FIRST_REVISION.into()];
    transaction.execute(sql, values).await?;
    Ok(())
}

/// Tells whoever knows the rules that they are others now.
async fn raise(transaction: &Transaction, tenant: &TenantName) -> Result<(), StorageError> {
    let sql = "UPDATE access_revision SET revision = revision + 1 WHERE tenant = ?";
    transaction
        .execute(sql, vec![tenant.as_str().into()])
        .await?;
    Ok(())
}

/// The only number of the only row.
async fn count(
    transaction: &Transaction,
    sql: &str,
    tenant: &TenantName,
) -> Result<usize, AccessError> {
    let row = transaction
        .query_one(sql, vec![tenant.as_str().into()])
        .await?;
    let count: i64 = row
        .as_ref()
        .map(|row| get(row, 0))
        .transpose()?
        .unwrap_or(0);
    usize::try_from(count).map_err(|_| AccessError::Damaged(format!("a count of {count}")))
}

fn whole(number: usize) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn micros(time: Timestamp) -> Value {
    time.as_micros().into()
}

fn optional_micros(time: Option<Timestamp>) -> Value {
    time.map(Timestamp::as_micros).into()
}

fn get<T: TryGetable>(row: &QueryResult, column: usize) -> Result<T, StorageError> {
    Ok(row.try_get_by_index(column)?)
}

fn time(row: &QueryResult, column: usize) -> Result<Timestamp, AccessError> {
    Timestamp::from_micros(get(row, column)?).map_err(damaged)
}

fn optional_time(row: &QueryResult, column: usize) -> Result<Option<Timestamp>, AccessError> {
    let micros: Option<i64> = get(row, column)?;
    micros
        .map(Timestamp::from_micros)
        .transpose()
        .map_err(damaged)
}

/// What was written through the same types cannot be wrong unless somebody else wrote it.
fn damaged(invalid: Invalid) -> AccessError {
    AccessError::Damaged(invalid.to_string())
}
