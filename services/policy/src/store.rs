//! Policies on disk: every version ever put, and which one is active.

use commonplace_storage::{
    Database, Dialect, Place, SchemaState, StorageError, Transaction, WallState,
};
use commonplace_types::{PolicyId, TenantName, Timestamp};
use sea_orm::{DbErr, QueryResult, Value};

use crate::catalog::Version;
use crate::error::PolicyError;
use crate::schema::{FILE, MIGRATIONS, WALL};

const COLUMNS: &str = "tenant, id, version, hash, source, created_micros";

/// The policy database.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

/// What is stored about one id: its newest version, and which one is active, as far as there is any.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) newest: Option<Version>,
    pub(crate) active: Option<u64>,
}

impl Store {
    /// Opens or creates it: `policy.db` in a folder, or a schema.
    pub(crate) async fn open(place: &Place) -> Result<Self, StorageError> {
        let database = Database::open_walled(place, FILE, MIGRATIONS, WALL).await?;
        Ok(Self { database })
    }

    /// How its schema stands.
    pub(crate) async fn schema_state(place: &Place) -> Result<SchemaState, StorageError> {
        Database::schema_state(place, FILE, MIGRATIONS).await
    }

    /// How the wall between tenants stands in it.
    pub(crate) async fn wall_state(place: &Place) -> Result<WallState, StorageError> {
        Database::wall_state(place, WALL).await
    }

    /// The database, for what else is kept in it.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Grows with every write of any process; none where this process is the only one.
    pub(crate) async fn changes(&self) -> Result<Option<u64>, StorageError> {
        if self.database.dialect() == Dialect::Sqlite {
            return Ok(None);
        }
        let sql = "SELECT counter FROM change WHERE id = 1";
        let row = self.database.for_all().query_one(sql, Vec::new()).await?;
        row.map(|row| number(&row, 0)).transpose()
    }

    /// Every id there is something about, sorted.
    pub(crate) async fn ids(&self) -> Result<Vec<(TenantName, PolicyId)>, PolicyError> {
        let sql = "SELECT DISTINCT tenant, id FROM policy_version UNION SELECT tenant, id FROM active_policy ORDER BY 1, 2";
        let rows = self.database.for_all().query(sql, Vec::new()).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    TenantName::new(text(row, 0)?)?,
                    PolicyId::new(text(row, 1)?)?,
                ))
            })
            .collect()
    }

    /// The newest stored version of an id and the stored choice of the active one.
    pub(crate) async fn kept(
        &self,
        tenant: &TenantName,
        id: &PolicyId,
    ) -> Result<Kept, PolicyError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM policy_version WHERE tenant = ? AND id = ? ORDER BY version DESC LIMIT 1"
        );
        let statements = self.database.for_tenant(tenant);
        let rows = statements.query(&sql, key(tenant, id)).await?;
        let newest = rows.first().map(version).transpose()?;
        let sql = "SELECT version FROM active_policy WHERE tenant = ? AND id = ?";
        let rows = statements.query(sql, key(tenant, id)).await?;
        let active = rows.first().map(|row| number(row, 0)).transpose()?;
        Ok(Kept { newest, active })
    }

    /// One stored version.
    pub(crate) async fn version(
        &self,
        tenant: &TenantName,
        id: &PolicyId,
        number: u64,
    ) -> Result<Option<Version>, PolicyError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM policy_version WHERE tenant = ? AND id = ? AND version = ?"
        );
        let mut values = key(tenant, id);
        values.push(whole(number));
        let row = self
            .database
            .for_tenant(tenant)
            .query_one(&sql, values)
            .await?;
        row.as_ref().map(version).transpose()
    }

    /// Keeps a version, and makes it the active one if asked. False: there is one of that number already,
    /// from another process; nothing was kept.
    pub(crate) async fn put(
        &self,
        tenant: TenantName,
        version: Version,
        activate: bool,
    ) -> Result<bool, PolicyError> {
        let values = [
            whole(version.number),
            version.hash.clone().into(),
            version.source.clone().into(),
            version.created.map_or(0, Timestamp::as_micros).into(),
        ];
        let values = [key(&tenant, &version.id), values.to_vec()].concat();
        let (id, number) = (version.id, version.number);
        let sql = format!(
            "INSERT INTO policy_version ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        );
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (sql, values) = (sql.clone(), values.clone());
                let (tenant, id) = (tenant.clone(), id.clone());
                Box::pin(async move {
                    raise(transaction).await?;
                    let kept = transaction.execute(&sql, values).await? == 1;
                    if kept && activate {
                        set_active(transaction, &tenant, &id, number).await?;
                    }
                    Ok(kept)
                })
            })
            .await
    }

    /// Makes a version the active one.
    pub(crate) async fn activate(
        &self,
        tenant: TenantName,
        id: PolicyId,
        number: u64,
    ) -> Result<(), PolicyError> {
        self.database
            .for_tenant(&tenant)
            .write(move |transaction| {
                let (tenant, id) = (tenant.clone(), id.clone());
                Box::pin(async move {
                    raise(transaction).await?;
                    Ok(set_active(transaction, &tenant, &id, number).await?)
                })
            })
            .await
    }

    /// Closes the database.
    pub(crate) async fn close(&self) -> Result<(), PolicyError> {
        Ok(self.database.clone().close().await?)
    }
}

/// Tells other processes that something is written. First in each transaction, so that writers of several
/// processes queue here and cannot wait for each other in a circle.
async fn raise(transaction: &Transaction) -> Result<(), StorageError> {
    if transaction.dialect() == Dialect::Postgres {
        let sql = "UPDATE change SET counter = counter + 1 WHERE id = 1";
        transaction.execute(sql, Vec::new()).await?;
    }
    Ok(())
}

async fn set_active(
    transaction: &Transaction,
    tenant: &TenantName,
    id: &PolicyId,
    number: u64,
) -> Result<(), StorageError> {
    let sql = "INSERT INTO active_policy (tenant, id, version) VALUES (?, ?, ?)
        ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version";
    let mut values = key(tenant, id);
    values.push(whole(number));
    transaction.execute(sql, values).await?;
    Ok(())
}

fn key(tenant: &TenantName, id: &PolicyId) -> Vec<Value> {
    vec![tenant.as_str().into(), id.as_str().into()]
}

fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn version(row: &QueryResult) -> Result<Version, PolicyError> {
    let created = row.try_get_by_index::<i64>(5).map_err(StorageError::from)?;
    Version::stored(
        PolicyId::new(text(row, 1)?)?,
        number(row, 2)?,
        &text(row, 3)?,
        text(row, 4)?,
        Timestamp::from_micros(created)?,
    )
}

fn text(row: &QueryResult, column: usize) -> Result<String, StorageError> {
    Ok(row.try_get_by_index::<String>(column)?)
}

fn number(row: &QueryResult, column: usize) -> Result<u64, StorageError> {
    let number: i64 = row.try_get_by_index(column)?;
    u64::try_from(number).map_err(|_| DbErr::Type(format!("negative version {number}")).into())
}
