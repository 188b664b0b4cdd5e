//! Opening, writing and refusing, on real files and a real server.

use std::path::Path;

use commonplace_storage::{DataFolder, Database, Migration, StorageError};
use commonplace_testkit::{Backend, Site, each_backend};

each_backend!(
    migrations_run_once_and_in_order,
    a_failed_migration_leaves_no_trace,
    a_newer_database_is_refused_unless_it_was_only_expanded,
    pending_migrations_are_told_and_nothing_is_changed,
    readers_do_not_write,
    a_cancelled_call_leaves_the_writer_usable,
    an_error_rolls_back,
    lists_are_read_back,
);

const FILE: &str = "x.sqlite";

const FIRST: Migration = Migration {
    version: 1,
    name: "first",
    oldest: 1,
    sqlite: &[
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",
        "CREATE INDEX note_by_text ON note (text)",
    ],
    postgres: &[
        "CREATE TABLE note (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text TEXT NOT NULL)",
        "CREATE INDEX note_by_text ON note (text)",
    ],
};
const SECOND: Migration = Migration {
    version: 2,
    name: "second's",
    oldest: 1,
    sqlite: &["ALTER TABLE note ADD COLUMN tag TEXT"],
    postgres: &["ALTER TABLE note ADD COLUMN tag TEXT"],
};
const BROKEN: Migration = Migration {
    version: 3,
    name: "broken",
    oldest: 3,
    sqlite: &["CREATE TABLE half (id INTEGER)", "NO SUCH STATEMENT"],
    postgres: &["CREATE TABLE half (id INTEGER)", "NO SUCH STATEMENT"],
};
/// Programs that know only the steps before do not work any more.
const CONTRACTING: Migration = Migration {
    version: 3,
    name: "contracting",
    oldest: 3,
    sqlite: &["ALTER TABLE note DROP COLUMN tag"],
    postgres: &["ALTER TABLE note DROP COLUMN tag"],
};

async fn open(site: &Site, migrations: &[Migration]) -> Result<Database, StorageError> {
    Database::open(&site.place("notes"), FILE, migrations).await
}

async fn count(database: &Database, sql: &str) -> i64 {
    let row = database.for_all().query_one(sql, Vec::new()).await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn add(database: &Database, text: &'static str) -> Result<(), StorageError> {
    database
        .for_all()
        .write(move |transaction| {
            Box::pin(async move {
                let insert = "INSERT INTO note (text) VALUES (?)";
                transaction.execute(insert, vec![text.into()]).await?;
                Ok(())
            })
        })
        .await
}

async fn migrations_run_once_and_in_order(backend: Backend) {
    let site = Site::new(backend);
    let database = open(&site, &[FIRST]).await.unwrap();
    add(&database, "kept").await.unwrap();
    database.close().await.unwrap();
    let database = open(&site, &[FIRST, SECOND]).await.unwrap();
    let kept = "SELECT count(*) FROM note WHERE tag IS NULL";
    assert_eq!(count(&database, kept).await, 1);
    let steps = "SELECT count(*) FROM schema_migration";
    assert_eq!(count(&database, steps).await, 2);
}

async fn a_failed_migration_leaves_no_trace(backend: Backend) {
    let site = Site::new(backend);
    let opened = open(&site, &[FIRST, SECOND, BROKEN]).await;
    assert!(
        matches!(opened, Err(StorageError::Database(_))),
        "{opened:?}"
    );
    let database = open(&site, &[FIRST]).await.unwrap();
    let steps = "SELECT CAST(max(version) AS BIGINT) FROM schema_migration";
    assert_eq!(count(&database, steps).await, 1);
    database
        .run_script("CREATE TABLE half (id INTEGER)")
        .await
        .unwrap();
}

async fn a_newer_database_is_refused_unless_it_was_only_expanded(backend: Backend) {
    let site = Site::new(backend);
    let newer = open(&site, &[FIRST, SECOND]).await.unwrap();
    // A program of the release before works beside it.
    let older = open(&site, &[FIRST]).await;
    if backend == Backend::Postgres {
        add(&newer, "by the newer").await.unwrap();
    }
    add(older.as_ref().unwrap(), "by the older").await.unwrap();
    older.unwrap().close().await.unwrap();
    newer.close().await.unwrap();
    open(&site, &[FIRST, SECOND, CONTRACTING])
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let error = open(&site, &[FIRST, SECOND]).await.unwrap_err();
    let StorageError::Newer { found, known, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*found, *known), (3, 2));
    let place = match backend {
        Backend::Sqlite => FILE.to_owned(),
        Backend::Postgres => site.schema("notes"),
    };
    assert!(error.to_string().contains(&place), "{error}");
}

async fn pending_migrations_are_told_and_nothing_is_changed(backend: Backend) {
    let mut site = Site::new(backend);
    let state = async |site: &Site| {
        Database::schema_state(&site.place("notes"), FILE, &[FIRST, SECOND])
            .await
            .unwrap()
    };
    let new = state(&site).await;
    assert_eq!((new.found, new.known, new.pending.len()), (0, 2, 2));
    assert_eq!(state(&site).await, new);
    open(&site, &[FIRST]).await.unwrap().close().await.unwrap();
    let behind = state(&site).await;
    assert_eq!(behind.found, 1);
    assert_eq!(behind.pending, [(2, "second's".to_owned())]);
    if backend == Backend::Postgres {
        site.options().migrate = false;
        let error = open(&site, &[FIRST, SECOND]).await.unwrap_err();
        assert!(
            matches!(
                error,
                StorageError::Pending {
                    found: 1,
                    known: 2,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(state(&site).await, behind);
        site.options().migrate = true;
    }
    open(&site, &[FIRST, SECOND]).await.unwrap();
    assert!(state(&site).await.pending.is_empty());
}

async fn readers_do_not_write(backend: Backend) {
    let site = Site::new(backend);
    let database = open(&site, &[FIRST]).await.unwrap();
    let insert = "INSERT INTO note (text) VALUES (?)";
    let written = database.for_all().query(insert, vec!["x".into()]).await;
    assert!(written.is_err(), "a reading connection wrote");
    assert_eq!(
        database
            .for_all()
            .execute(insert, vec!["x".into()])
            .await
            .unwrap(),
        1
    );
}

async fn a_cancelled_call_leaves_the_writer_usable(backend: Backend) {
    let site = Site::new(backend);
    let database = open(&site, &[FIRST]).await.unwrap();
    for _ in 0..20 {
        let call = add(&database, "cancelled");
        let _ = tokio::time::timeout(std::time::Duration::from_micros(50), call).await;
    }
    add(&database, "after").await.unwrap();
    let after = "SELECT count(*) FROM note WHERE text = 'after'";
    assert_eq!(count(&database, after).await, 1);
}

async fn an_error_rolls_back(backend: Backend) {
    let site = Site::new(backend);
    let database = open(&site, &[FIRST]).await.unwrap();
    let failed: Result<(), StorageError> = database
        .for_all()
        .write(|transaction| {
            Box::pin(async move {
                let insert = "INSERT INTO note (text) VALUES ('x')";
                transaction.execute(insert, Vec::new()).await?;
                Err(StorageError::Aborted)
            })
        })
        .await;
    assert!(matches!(failed, Err(StorageError::Aborted)));
    assert_eq!(count(&database, "SELECT count(*) FROM note").await, 0);
}

async fn lists_are_read_back(backend: Backend) {
    let site = Site::new(backend);
    let database = open(&site, &[FIRST]).await.unwrap();
    let dialect = database.dialect();
    let texts = dialect.list_of_texts(["a\"b", "é", ""]);
    let sql = "SELECT count(*) FROM {json_each(?) j|unnest(?::text[]) j (value)}
        WHERE j.value IN (?, ?, '')";
    let values = vec![texts, "a\"b".into(), "é".into()];
    let row = database
        .for_all()
        .query_one(sql, values)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 3);
    let bytes: [&[u8]; 2] = [&[0, 255], &[]];
    let sql = "SELECT count(*) FROM {json_each(?) j|unnest(?::bytea[]) j (value)}
        WHERE {unhex(j.value)|j.value} = ?";
    let values = vec![dialect.list_of_bytes(bytes), vec![0_u8, 255].into()];
    let row = database
        .for_all()
        .query_one(sql, values)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 1);
    let sql =
        "SELECT CAST(sum(j.value) AS BIGINT) FROM {json_each(?) j|unnest(?::bigint[]) j (value)}";
    let values = vec![dialect.list_of_numbers([1, -3, 1 << 40])];
    let row = database
        .for_all()
        .query_one(sql, values)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), (1 << 40) - 2);
}

async fn open_file(path: &Path, migrations: &[Migration]) -> Result<Database, StorageError> {
    let place = path.parent().unwrap().into();
    let file = path.file_name().unwrap().to_str().unwrap();
    Database::open(&place, file, migrations).await
}

#[tokio::test]
async fn odd_file_names_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b?%.sqlite");
    open_file(&path, &[FIRST]).await.unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn a_refused_file_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sqlite");
    let all = [FIRST, SECOND, CONTRACTING];
    open_file(&path, &all).await.unwrap().close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    open_file(&path, &[FIRST]).await.unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_the_first_release_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sqlite");
    let database = open_file(&path, &[FIRST]).await.unwrap();
    let before = "ALTER TABLE schema_migration DROP COLUMN oldest";
    database.run_script(before).await.unwrap();
    database.close().await.unwrap();
    open_file(&path, &[FIRST])
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let database = open_file(&path, &[FIRST, SECOND]).await.unwrap();
    let steps = "SELECT count(*) FROM schema_migration WHERE coalesce(oldest, 1) = 1";
    assert_eq!(count(&database, steps).await, 2);
}

#[tokio::test]
async fn the_durable_settings_hold() {
    let folder = tempfile::tempdir().unwrap();
    let database = open_file(&folder.path().join("x.sqlite"), &[FIRST])
        .await
        .unwrap();
    let shown = database
        .for_all()
        .write::<_, _, StorageError>(|transaction| {
            Box::pin(async move {
                let mut shown = Vec::new();
                for pragma in ["synchronous", "foreign_keys"] {
                    let sql = format!("PRAGMA {pragma}");
                    let row = transaction.query_one(&sql, Vec::new()).await?.unwrap();
                    shown.push(row.try_get_by_index::<i64>(0)?);
                }
                Ok(shown)
            })
        })
        .await;
    assert_eq!(shown.unwrap(), [2, 1]);
    let mode = database
        .for_all()
        .query_one("PRAGMA journal_mode", Vec::new())
        .await;
    let mode: String = mode.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(mode, "wal");
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
        let database = open_file(&path, &[FIRST]).await.unwrap();
        add(&database, "one").await.unwrap();
        database.close().await.unwrap();
        let before = damage(&path, from);
        let error = open_file(&path, &[FIRST]).await.unwrap_err();
        let StorageError::Corrupt { file, .. } = &error else {
            panic!("at {from}: {error:?}");
        };
        assert_eq!(file, &path);
        assert!(error.to_string().contains("backup"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "at {from}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let database = open_file(&folder.path().join("x.sqlite"), &[FIRST])
        .await
        .unwrap();
    database
        .run_script("PRAGMA max_page_count = 8")
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
