//! Opening, writing and refusing, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use commonplace_storage::{DataFolder, Database, Migration, StorageError};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

const FIRST: Migration = Migration {
    version: 1,
    name: "first",
    statements: &[
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",
        "CREATE INDEX note_by_text ON note (text)",
    ],
};
const SECOND: Migration = Migration {
    version: 2,
    name: "second",
    statements: &["ALTER TABLE note ADD COLUMN tag TEXT"],
};
const BROKEN: Migration = Migration {
    version: 3,
    name: "broken",
    statements: &["CREATE TABLE half (id INTEGER)", "NO SUCH STATEMENT"],
};

async fn count(database: &Database, sql: &str) -> i64 {
    let row = database
        .reader()
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
        .await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn add(database: &Database, text: &'static str) -> Result<(), StorageError> {
    database
        .write(move |transaction| {
            Box::pin(async move {
                let insert = Statement::from_sql_and_values(
                    DbBackend::Sqlite,
                    "INSERT INTO note (text) VALUES (?)",
                    [text.into()],
                );
                transaction.execute_raw(insert).await?;
                Ok(())
            })
        })
        .await
}

#[tokio::test]
async fn migrations_run_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b?%.sqlite");
    let database = Database::open_sqlite(&path, &[FIRST]).await.unwrap();
    add(&database, "kept").await.unwrap();
    database.close().await.unwrap();
    let database = Database::open_sqlite(&path, &[FIRST, SECOND])
        .await
        .unwrap();
    assert_eq!(
        count(&database, "SELECT count(*) FROM note WHERE tag IS NULL").await,
        1
    );
    assert_eq!(
        count(&database, "SELECT count(*) FROM schema_migration").await,
        2
    );
    assert!(path.exists());
}

#[tokio::test]
async fn a_failed_migration_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sqlite");
    let opened = Database::open_sqlite(&path, &[FIRST, SECOND, BROKEN]).await;
    assert!(
        matches!(opened, Err(StorageError::Database(_))),
        "{opened:?}"
    );
    let database = Database::open_sqlite(&path, &[FIRST]).await.unwrap();
    assert_eq!(
        count(
            &database,
            "SELECT count(*) FROM sqlite_schema WHERE name = 'half'"
        )
        .await,
        0
    );
    assert_eq!(
        count(&database, "SELECT max(version) FROM schema_migration").await,
        1
    );
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sqlite");
    Database::open_sqlite(&path, &[FIRST, SECOND])
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Database::open_sqlite(&path, &[FIRST]).await.unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("x.sqlite"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn the_durable_settings_hold() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_sqlite(&folder.path().join("x.sqlite"), &[FIRST])
        .await
        .unwrap();
    for (pragma, expected) in [("synchronous", 2_i64), ("foreign_keys", 1)] {
        let statement = Statement::from_string(DbBackend::Sqlite, format!("PRAGMA {pragma}"));
        let row = database
            .writer()
            .query_one_raw(statement)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            row.try_get_by_index::<i64>(0).unwrap(),
            expected,
            "{pragma}"
        );
    }
    let mode = Statement::from_string(DbBackend::Sqlite, "PRAGMA journal_mode");
    let row = database
        .writer()
        .query_one_raw(mode)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "wal");
    let write = database
        .reader()
        .execute_unprepared("INSERT INTO note (text) VALUES ('x')")
        .await;
    assert!(write.is_err(), "a reading connection wrote");
}

fn damage(path: &Path, from: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[from..from + 64].fill(0xa5);
    std::fs::write(path, &bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_alone() {
    for from in [0, 100, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let database = Database::open_sqlite(&path, &[FIRST]).await.unwrap();
        add(&database, "one").await.unwrap();
        database.close().await.unwrap();
        let before = damage(&path, from);
        let error = Database::open_sqlite(&path, &[FIRST]).await.unwrap_err();
        let StorageError::Corrupt { file, .. } = &error else {
            panic!("at {from}: {error:?}");
        };
        assert_eq!(file, &path);
        assert!(error.to_string().contains("backup"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "at {from}");
    }
}

#[tokio::test]
async fn a_cancelled_call_leaves_the_writer_usable() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_sqlite(&folder.path().join("x.sqlite"), &[FIRST])
        .await
        .unwrap();
    for _ in 0..20 {
        let call = add(&database, "cancelled");
        let _ = tokio::time::timeout(std::time::Duration::from_micros(50), call).await;
    }
    add(&database, "after").await.unwrap();
    assert_eq!(
        count(&database, "SELECT count(*) FROM note WHERE text = 'after'").await,
        1
    );
}

#[tokio::test]
async fn an_error_rolls_back() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_sqlite(&folder.path().join("x.sqlite"), &[FIRST])
        .await
        .unwrap();
    let failed: Result<(), StorageError> = database
        .write(|transaction| {
            Box::pin(async move {
                transaction
                    .execute_unprepared("INSERT INTO note (text) VALUES ('x')")
                    .await?;
                Err(StorageError::Aborted)
            })
        })
        .await;
    assert!(matches!(failed, Err(StorageError::Aborted)));
    assert_eq!(count(&database, "SELECT count(*) FROM note").await, 0);
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_sqlite(&folder.path().join("x.sqlite"), &[FIRST])
        .await
        .unwrap();
    database
        .writer()
        .execute_unprepared("PRAGMA max_page_count = 8")
        .await
        .unwrap();
    let long: &'static str = Box::leak("x".repeat(100_000).into_boxed_str());
    assert!(matches!(
        add(&database, long).await,
        Err(StorageError::Full(_))
    ));
    add(&database, "small").await.unwrap();
    assert_eq!(count(&database, "SELECT count(*) FROM note").await, 1);
}

#[test]
fn a_folder_has_one_user() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deep/data");
    let folder = DataFolder::lock(&path).unwrap();
    let error = DataFolder::lock(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    drop(folder);
    DataFolder::lock(&path).unwrap();
}

#[test]
fn a_folder_of_a_newer_or_unknown_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("format"), "9\n").unwrap();
    let error = DataFolder::lock(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Newer {
                found: 9,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    std::fs::write(folder.path().join("format"), "soup").unwrap();
    let error = DataFolder::lock(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::Format { .. }), "{error}");
}
