use std::path::Path;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};

use crate::StorageError;

/// One step of a schema: applied once, in order, never changed after it was released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1, 2, 3, … without holes.
    pub version: u32,
    /// A few words, kept beside the version.
    pub name: &'static str,
    /// SQL statements, run in order.
    pub statements: &'static [&'static str],
}

/// The newest version the database has, 0 when it is new.
pub(crate) async fn version(connection: &impl ConnectionTrait) -> Result<u32, StorageError> {
    let backend = connection.get_database_backend();
    let known =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migration'";
    let row = connection
        .query_one_raw(Statement::from_string(backend, known))
        .await?;
    let tables: i64 = row
        .map(|row| row.try_get_by_index(0))
        .transpose()?
        .unwrap_or(0);
    if tables == 0 {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM schema_migration";
    let row = connection
        .query_one_raw(Statement::from_string(backend, newest))
        .await?;
    let found: i64 = row
        .map(|row| row.try_get_by_index(0))
        .transpose()?
        .unwrap_or(0);
    Ok(u32::try_from(found).unwrap_or(u32::MAX))
}

/// Refuses a database that is newer than every migration known.
pub(crate) fn refuse_newer(
    path: &Path,
    found: u32,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let known = migrations.last().map_or(0, |newest| newest.version);
    if found <= known {
        return Ok(());
    }
    Err(StorageError::Newer {
        path: path.into(),
        found,
        known,
    })
}

/// Applies what is missing, all of it or nothing.
pub(crate) async fn apply(
    connection: &DatabaseConnection,
    found: u32,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let missing: Vec<&Migration> = migrations
        .iter()
        .filter(|step| step.version > found)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.begin().await?;
    transaction
        .execute_unprepared(
            "CREATE TABLE IF NOT EXISTS schema_migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
        )
        .await?;
    for step in missing {
        for statement in step.statements {
            transaction.execute_unprepared(statement).await?;
        }
        let values = [step.version.into(), step.name.into()];
        let record = "INSERT INTO schema_migration (version, name) VALUES (?, ?)";
        let backend = transaction.get_database_backend();
        transaction
            .execute_raw(Statement::from_sql_and_values(backend, record, values))
            .await?;
        tracing::info!(version = step.version, name = step.name, "schema migrated");
    }
    transaction.commit().await?;
    Ok(())
}
