use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions};
use sea_orm::sqlx::{ConnectOptions, Connection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, SqlxError, SqlxSqliteConnector, Statement,
    TransactionTrait,
};

use crate::migration::Found;
use crate::sql::Dialect;
use crate::{Migration, StorageError, migration};

/// The oldest SQLite that keeps committed frames when a write-ahead log is reset under a reader.
/// Source: the release notes of 3.51.3.
pub const MINIMUM_SQLITE: &str = "3.51.3";

/// Reading connections; each has a thread of its own, so more than the cores help little.
const READERS: u32 = 4;
/// How long a statement waits for another process's lock (a backup, a shell).
const BUSY: Duration = Duration::from_secs(5);
/// Up to this size the whole file is checked when it is opened; it takes about 0.3 s.
const FULL_CHECK_BYTES: u64 = 64 << 20;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Opens the writing and the reading connections.
pub(crate) async fn open(
    path: &Path,
    migrations: &[Migration],
) -> Result<(DatabaseConnection, DatabaseConnection), StorageError> {
    let found = probe(path).await?;
    migration::refuse_newer(&path.display().to_string(), found, migrations)?;
    let writer = connect(path, Role::Writer).await?;
    check_library(&writer).await?;
    let transaction = writer.begin().await?;
    migration::apply(&transaction, Dialect::Sqlite, migrations).await?;
    transaction.commit().await?;
    refresh_statistics(&writer).await?;
    let reader = connect(path, Role::Reader).await?;
    Ok((writer, reader))
}

/// Checks what is there without changing it, and gives its schema's version; nothing for a new file.
pub(crate) async fn probe(path: &Path) -> Result<Found, StorageError> {
    if !check_header(path)? {
        return Ok(Found::default());
    }
    // On a reading connection, since closing a writing one may already change the file.
    let probe = connect(path, Role::Probe).await?;
    let found = inspect(&probe, path).await;
    probe.close().await?;
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Probe,
    Reader,
    Writer,
}

async fn connect(path: &Path, role: Role) -> Result<DatabaseConnection, StorageError> {
    let base = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(256)
        .disable_statement_logging();
    let options = match role {
        Role::Probe => base.read_only(true),
        Role::Reader => base
            .pragma("query_only", "ON")
            .pragma("cache_size", "-8192"),
        Role::Writer => base
            .create_if_missing(true)
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", "FULL")
            .pragma("fullfsync", "ON")
            .pragma("checkpoint_fullfsync", "ON")
            // 16 MiB: fewer checkpoints, each of which writes and syncs the file itself.
            .pragma("wal_autocheckpoint", "4096")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-32768"),
    };
    let pool = SqlitePoolOptions::new()
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(30))
        .min_connections(1)
        .max_connections(if role == Role::Reader { READERS } else { 1 })
        .after_release(|connection, _| Box::pin(is_of_use(connection)))
        .connect_with(options)
        .await?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// Whether a connection may be used again: it stands in no transaction.
///
/// SQLite ends a transaction by itself when the disk is full, and then refuses to roll it back; the driver takes
/// that for a transaction that goes on. What is written over such a connection afterwards is written inside
/// savepoints that nobody ever commits: acknowledged, seen by no reader, and gone with the process.
async fn is_of_use(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    let stuck = connection.is_in_transaction();
    if stuck {
        tracing::warn!("a connection was left inside a transaction: it is closed");
    }
    Ok(!stuck)
}

/// Whether there is a database; an empty or absent file is a new one. Error: it is something else.
fn check_header(path: &Path) -> Result<bool, StorageError> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StorageError::file("open", path)(error)),
    };
    let length = file
        .metadata()
        .map_err(StorageError::file("read", path))?
        .len();
    if length == 0 {
        return Ok(false);
    }
    let mut magic = [0; 16];
    let read = file
        .read(&mut magic)
        .map_err(StorageError::file("read", path))?;
    if read == magic.len() && &magic == MAGIC {
        return Ok(true);
    }
    Err(StorageError::Corrupt {
        file: path.into(),
        problem: "it does not start like a database".into(),
    })
}

/// Checks what is there without changing it; gives its schema version.
async fn inspect(probe: &DatabaseConnection, path: &Path) -> Result<Found, StorageError> {
    check_library(probe).await?;
    let length = fs::metadata(path)
        .map_err(StorageError::file("read", path))?
        .len();
    if length <= FULL_CHECK_BYTES {
        let answer = text(probe, "PRAGMA quick_check(1)").await?;
        if answer != "ok" {
            return Err(StorageError::Corrupt {
                file: path.into(),
                problem: answer,
            });
        }
    }
    migration::found(probe).await
}

async fn check_library(connection: &DatabaseConnection) -> Result<(), StorageError> {
    let found = text(connection, "SELECT sqlite_version()").await?;
    if numbers(&found) >= numbers(MINIMUM_SQLITE) {
        return Ok(());
    }
    Err(StorageError::OldLibrary { found })
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

async fn text(connection: &DatabaseConnection, sql: &str) -> Result<String, StorageError> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await?;
    Ok(row
        .map(|row| row.try_get_by_index(0))
        .transpose()?
        .unwrap_or_default())
}

/// Samples each index, so that the planner does not walk a long table where a short index is at hand.
pub(crate) async fn refresh_statistics(writer: &DatabaseConnection) -> Result<(), StorageError> {
    writer
        .execute_unprepared("PRAGMA analysis_limit = 400; PRAGMA optimize = 0x10002")
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("3.51.10") > numbers("3.51.3"));
        assert!(numbers("3.51.2") < numbers("3.51.3"));
        assert!(numbers("4.0.0") > numbers("3.51.3"));
    }
}
