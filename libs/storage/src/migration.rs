use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

use crate::StorageError;
use crate::sql::Dialect;

/// One step of a schema: applied once, in order, never changed after it was released.
///
/// Steps expand first and contract later. A release *expands*: it adds tables and columns that programs of
/// the release before work beside (`oldest` is then their version). A later release, when none of those
/// programs run any more, *contracts* (`oldest` is then the step's own version, or the newest that did
/// without what goes). So the programs of two releases in a row run on one schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1, 2, 3, … without holes.
    pub version: u32,
    /// A few words, kept beside the version.
    pub name: &'static str,
    /// The oldest program that works once this step is done, as the newest step that it knows.
    pub oldest: u32,
    /// SQL statements for SQLite, run in order.
    pub sqlite: &'static [&'static str],
    /// The same for PostgreSQL.
    pub postgres: &'static [&'static str],
}

impl Migration {
    fn statements(&self, dialect: Dialect) -> &'static [&'static str] {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}

/// How a schema stands beside what a program knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaState {
    /// The newest step that was done, 0 for none.
    pub found: u32,
    /// The newest step that the program knows.
    pub known: u32,
    /// The oldest program that works with what was done, as the newest step that it knows.
    pub oldest: u32,
    /// What is known and not done: version and name.
    pub pending: Vec<(u32, String)>,
}

impl SchemaState {
    pub(crate) fn of(found: Found, migrations: &[Migration]) -> Self {
        let missing = migrations
            .iter()
            .filter(|step| step.version > found.version);
        Self {
            found: found.version,
            known: newest(migrations),
            oldest: found.oldest,
            pending: missing
                .map(|step| (step.version, step.name.to_owned()))
                .collect(),
        }
    }
}

/// What a database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) version: u32,
    pub(crate) oldest: u32,
}

fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |newest| newest.version)
}

/// What the database has; nothing when it is new.
pub(crate) async fn found(connection: &impl ConnectionTrait) -> Result<Found, StorageError> {
    let (known, column) = match connection.get_database_backend() {
        sea_orm::DbBackend::Sqlite => (
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migration'",
            "SELECT count(*) FROM pragma_table_info('schema_migration') WHERE name = 'oldest'",
        ),
        _ => (
            "SELECT count(*) FROM information_schema.tables
             WHERE table_schema = current_schema() AND table_name = 'schema_migration'",
            "SELECT 1::bigint",
        ),
    };
    if number(connection, known).await? == 0 {
        return Ok(Found::default());
    }
    let version = number(
        connection,
        "SELECT CAST(coalesce(max(version), 0) AS BIGINT) FROM schema_migration",
    )
    .await?;
    // A step that does not say works with nothing older.
    let oldest = match number(connection, column).await? {
        0 => version,
        _ => {
            let sql = "SELECT CAST(coalesce(max(coalesce(oldest, version)), 0) AS BIGINT) FROM schema_migration";
            number(connection, sql).await?
        }
    };
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Found {
        version: small(version),
        oldest: small(oldest),
    })
}

async fn number(connection: &impl ConnectionTrait, sql: &str) -> Result<i64, StorageError> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await?;
    Ok(row
        .map(|row| row.try_get_by_index(0))
        .transpose()?
        .unwrap_or(0))
}

/// Refuses a database that this program is too old for. One that was only expanded is not.
pub(crate) fn refuse_newer(
    place: &str,
    found: Found,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let known = newest(migrations);
    if found.version <= known || found.oldest <= known {
        return Ok(());
    }
    Err(StorageError::Newer {
        path: place.into(),
        found: found.version,
        known,
    })
}

/// Applies what is missing, in the caller's transaction.
pub(crate) async fn apply(
    transaction: &DatabaseTransaction,
    dialect: Dialect,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let found = found(transaction).await?;
    let mut missing = migrations
        .iter()
        .filter(|step| step.version > found.version)
        .peekable();
    if missing.peek().is_none() {
        return Ok(());
    }
    transaction
        .execute_unprepared(
            "CREATE TABLE IF NOT EXISTS schema_migration
             (version INTEGER PRIMARY KEY, name TEXT NOT NULL, oldest INTEGER)",
        )
        .await?;
    if dialect == Dialect::Sqlite {
        add_oldest(transaction).await?;
    }
    for step in missing {
        for statement in step.statements(dialect) {
            transaction.execute_unprepared(statement).await?;
        }
        let record = format!(
            "INSERT INTO schema_migration (version, name, oldest) VALUES ({}, '{}', {})",
            step.version,
            step.name.replace('\'', "''"),
            step.oldest
        );
        transaction.execute_unprepared(&record).await?;
        tracing::info!(version = step.version, name = step.name, "schema migrated");
    }
    Ok(())
}

/// The first release's table has no such column.
async fn add_oldest(transaction: &DatabaseTransaction) -> Result<(), StorageError> {
    let sql = "SELECT count(*) FROM pragma_table_info('schema_migration') WHERE name = 'oldest'";
    if number(transaction, sql).await? == 0 {
        let add = "ALTER TABLE schema_migration ADD COLUMN oldest INTEGER";
        transaction.execute_unprepared(add).await?;
    }
    Ok(())
}
