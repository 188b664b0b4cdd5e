//! Limits on disk: one row for each tenant that has its own.

use std::sync::Arc;

use commonplace_limits::Limits;
use commonplace_storage::{Database, StorageError, Transaction};
use commonplace_types::{TenantName, Timestamp};
use sea_orm::{QueryResult, TryGetable, Value};

use super::{Kept, LimitsError};

const COLUMNS: &str = "tenant, limits, updated_micros";

/// The part of the policy database that is about limits.
#[derive(Debug, Clone)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// The limits of a tenant, if it has its own.
    pub(super) async fn get(&self, tenant: &TenantName) -> Result<Option<Kept>, LimitsError> {
        let sql = format!("SELECT {COLUMNS} FROM tenant_limits WHERE tenant = ?");
        let statements = self.database.for_tenant(tenant);
        let row = statements.query_one(&sql, of(tenant)).await?;
        row.as_ref().map(kept).transpose()
    }

    /// Puts limits, or removes those that are there, if what is there fits. Error: that of `fits`.
    pub(super) async fn put(
        &self,
        tenant: TenantName,
        put: Option<Kept>,
        fits: impl Fn(Option<&Kept>) -> Result<(), LimitsError> + Send + Sync + 'static,
    ) -> Result<(), LimitsError> {
        let fits = Arc::new(fits);
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, put, fits) = (tenant.clone(), put.clone(), fits.clone());
                Box::pin(async move {
                    // The row of the tenant's rules keeps other changes of the tenant waiting, as for access.
                    hold(transaction, &tenant).await?;
                    let sql = format!("SELECT {COLUMNS} FROM tenant_limits WHERE tenant = ?");
                    let row = transaction.query_one(&sql, of(&tenant)).await?;
                    fits(row.as_ref().map(kept).transpose()?.as_ref())?;
                    match put {
                        Some(put) => write(transaction, &put).await,
                        None => {
                            let sql = "DELETE FROM tenant_limits WHERE tenant = ?";
                            transaction.execute(sql, of(&tenant)).await?;
                            Ok(())
                        }
                    }
                })
            })
            .await
    }

    /// The limits of tenants whose names come after one, by name.
    pub(super) async fn list(&self, after: &str, count: usize) -> Result<Vec<Kept>, LimitsError> {
        let sql =
            format!("SELECT {COLUMNS} FROM tenant_limits WHERE tenant > ? ORDER BY tenant LIMIT ?");
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![after.into(), count.into()];
        let rows = self.database.for_all().query(&sql, values).await?;
        rows.iter().map(kept).collect()
    }
}

async fn hold(transaction: &Transaction, tenant: &TenantName) -> Result<(), StorageError> {
    let sql = "INSERT INTO access_revision (tenant, revision) VALUES (?, 1)
        ON CONFLICT (tenant) DO UPDATE SET revision = access_revision.revision";
    transaction.execute(sql, of(tenant)).await?;
    Ok(())
}

async fn write(transaction: &Transaction, put: &Kept) -> Result<(), LimitsError> {
    let text = serde_json::to_string(&put.limits);
    let text = text.map_err(|error| LimitsError::Damaged(error.to_string()))?;
    let sql = "INSERT INTO tenant_limits (tenant, limits, updated_micros) VALUES (?, ?, ?)
        ON CONFLICT (tenant) DO UPDATE SET
        limits = excluded.limits, updated_micros = excluded.updated_micros";
    let values = vec![
        put.tenant.as_str().into(),
        text.into(),
        put.updated.as_micros().into(),
    ];
    transaction.execute(sql, values).await?;
    Ok(())
}

fn of(tenant: &TenantName) -> Vec<Value> {
    vec![tenant.as_str().into()]
}

fn kept(row: &QueryResult) -> Result<Kept, LimitsError> {
    let damaged = |problem: String| LimitsError::Damaged(problem);
    let tenant = TenantName::new(get::<String>(row, 0)?);
    let limits: Result<Limits, _> = serde_json::from_str(&get::<String>(row, 1)?);
    let updated = Timestamp::from_micros(get(row, 2)?);
    Ok(Kept {
        tenant: tenant.map_err(|invalid| damaged(invalid.to_string()))?,
        limits: limits.map_err(|error| damaged(error.to_string()))?,
        updated: updated.map_err(|invalid| damaged(invalid.to_string()))?,
    })
}

fn get<T: TryGetable>(row: &QueryResult, column: usize) -> Result<T, StorageError> {
    Ok(row.try_get_by_index(column)?)
}
