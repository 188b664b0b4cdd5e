//! A PostgreSQL server: a schema for each service, connections that are cheap to lose.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::{ConnectOptions, Connection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr, SqlxPostgresConnector, Statement,
    TransactionTrait,
};
use tokio::time::Instant;

use crate::connections::Connections;
use crate::migration::{self, Found};
use crate::options::Postgres;
use crate::sql::Dialect;
use crate::wall::{self, Guarded};
use crate::{Migration, StorageError};

/// The oldest server: it ends idle sessions by itself, which a stalled leader's place depends on.
const MINIMUM_VERSION: i64 = 140_000;
/// Writing connections of a service. The journal has one writer; others write little.
const WRITERS: u32 = 2;
/// A connection that lay idle for longer is tried before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// Idle connections beyond the first are closed after this.
const IDLE: Duration = Duration::from_secs(300);
/// Connections are replaced after this, so that a server behind a changed name is found.
const LIFETIME: Duration = Duration::from_secs(1_800);
/// A transaction may wait this long for another's row.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The server ends a statement that takes too long; its word takes this long to come at most.
const SLACK: Duration = Duration::from_secs(1);
/// Between attempts to reach a server that is away while a service starts.
const RETRY: Duration = Duration::from_millis(200);
/// Statements that stay prepared on a connection.
const PREPARED: usize = 256;

/// Opens the writing and the reading connections; the schema is up to date before.
pub(crate) async fn open(
    place: &Postgres,
    migrations: &[Migration],
    tables: &[Guarded],
) -> Result<(Connections, Connections), StorageError> {
    let base = connect_options(place)?;
    let end = Instant::now() + place.start_timeout();
    let relaxed_commit = loop {
        match prepare(place, &base, migrations, tables).await {
            Err(StorageError::Unavailable(_) | StorageError::Busy(_)) if Instant::now() < end => {
                tracing::warn!(database = ?place.options, "the database does not answer yet");
                tokio::time::sleep(RETRY).await;
            }
            prepared => break prepared?,
        }
    };
    let timeout = |length: Duration| length.as_millis().to_string();
    let mut limits = base.options([
        (
            "statement_timeout",
            place.options.statement_timeout_ms.to_string(),
        ),
        ("lock_timeout", timeout(LOCK_TIMEOUT)),
        // A stalled process must not hold the rows that guard its successor for longer than its place.
        (
            "idle_in_transaction_session_timeout",
            timeout(place.lease()),
        ),
    ]);
    let role = place.options.role.as_str();
    if !role.is_empty() {
        limits = limits.options([("role", role)]);
    }
    // For all, unless a transaction says otherwise. Those for reading are for nobody until they are told.
    let mut writing = limits.clone().options([(wall::VARIABLE, wall::ALL)]);
    if relaxed_commit {
        writing = writing.options([("synchronous_commit", "on")]);
    }
    let reading = limits.options([("default_transaction_read_only", "on")]);
    let limit = Duration::from_millis(place.options.statement_timeout_ms) + SLACK;
    let writer = Connections::to_server(pool(place, WRITERS), writing, limit).await?;
    let readers = pool(place, place.options.max_connections);
    let reader = Connections::to_server(readers, reading, limit).await?;
    Ok((writer, reader))
}

/// What the schema has, without changing it.
pub(crate) async fn probe(place: &Postgres) -> Result<Found, StorageError> {
    let connection = single(place, &connect_options(place)?).await?;
    let found = migration::found(&connection).await;
    connection.close().await?;
    found
}

/// Runs statements as they are, over a connection of their own, as the login.
pub(crate) async fn script(place: &Postgres, sql: &str) -> Result<(), StorageError> {
    let connection = single(place, &connect_options(place)?).await?;
    let done = connection.execute_unprepared(sql).await;
    connection.close().await?;
    done?;
    Ok(())
}

/// A connection of its own that the server ends when it hears nothing for a leader's lease.
pub(crate) async fn session(place: &Postgres) -> Result<PgConnection, StorageError> {
    let lease = place.lease().as_millis().to_string();
    let options = connect_options(place)?.options([
        ("idle_session_timeout", lease.clone()),
        ("statement_timeout", lease),
    ]);
    match tokio::time::timeout(place.acquire_timeout(), options.connect()).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(sea_orm::SqlxError::PoolTimedOut.into()),
    }
}

pub(crate) fn connect_options(place: &Postgres) -> Result<PgConnectOptions, StorageError> {
    let mut options: PgConnectOptions = place
        .options
        .url
        .parse()
        .map_err(|error: sea_orm::SqlxError| StorageError::setting("url", error.to_string()))?;
    let file = &place.options.password_file;
    if !file.as_os_str().is_empty() {
        let password = std::fs::read_to_string(file).map_err(StorageError::file("read", file))?;
        options = options.password(password.trim_end_matches(['\n', '\r']));
    }
    Ok(options
        .application_name(&format!("commonplace {}", place.schema))
        .statement_cache_capacity(PREPARED)
        .disable_statement_logging()
        // Compiling a statement takes longer than any of ours.
        .options([("search_path", place.schema.as_str()), ("jit", "off")]))
}

fn pool(place: &Postgres, most: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .min_connections(1)
        .max_connections(most)
        .acquire_timeout(place.acquire_timeout())
        .idle_timeout(IDLE)
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

pub(crate) async fn single(
    place: &Postgres,
    options: &PgConnectOptions,
) -> Result<DatabaseConnection, StorageError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(place.acquire_timeout())
        .connect_with(options.clone())
        .await
        .map_err(|error| named(place, error))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

/// A refused login or a missing database is told with the place.
fn named(place: &Postgres, error: sea_orm::SqlxError) -> StorageError {
    let refused = match &error {
        sea_orm::SqlxError::Database(cause) => cause
            .code()
            .is_some_and(|code| code.starts_with("28") || code == "3D000" || code == "42501"),
        _ => false,
    };
    if refused {
        return unfit(place, error.to_string());
    }
    DbErr::Conn(RuntimeErr::SqlxError(error.into())).into()
}

pub(crate) fn unfit(place: &Postgres, problem: String) -> StorageError {
    StorageError::Unfit {
        place: crate::Place::Postgres(place.clone()).shown(""),
        problem,
    }
}

/// Checks the server, brings the schema up to date and puts the wall between tenants up. Says whether the server, left to itself, answers
/// before a commit is on disk.
async fn prepare(
    place: &Postgres,
    base: &PgConnectOptions,
    migrations: &[Migration],
    tables: &[Guarded],
) -> Result<bool, StorageError> {
    let connection = single(place, base).await?;
    let relaxed = check_server(place, &connection).await?;
    let mut result = migrate(place, &connection, migrations).await;
    if result.is_ok() {
        result = wall::prepare(place, &connection, tables).await;
    }
    connection.close().await?;
    result.map(|()| relaxed)
}

async fn check_server(
    place: &Postgres,
    connection: &DatabaseConnection,
) -> Result<bool, StorageError> {
    let sql =
        "SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'),
             current_setting('synchronous_commit'), current_setting('fsync'), pg_is_in_recovery()";
    let row = connection
        .query_one_raw(Statement::from_string(
            connection.get_database_backend(),
            sql,
        ))
        .await?
        .ok_or(StorageError::Aborted)?;
    let version: i64 = row.try_get_by_index(0)?;
    if version < MINIMUM_VERSION {
        let problem = format!(
            "its version is {}, use {} or newer",
            version / 10_000,
            MINIMUM_VERSION / 10_000
        );
        return Err(unfit(place, problem));
    }
    let encoding: String = row.try_get_by_index(1)?;
    if encoding != "UTF8" {
        let problem = format!("its encoding is {encoding}, make a database with encoding UTF8");
        return Err(unfit(place, problem));
    }
    if row.try_get_by_index(4)? {
        let problem = "it is a standby server, `database.url` must lead to the primary";
        return Err(unfit(place, problem.into()));
    }
    if row.try_get_by_index::<String>(3)? == "off" {
        tracing::warn!(
            "the database server runs with fsync = off: a crash of its machine loses data"
        );
    }
    Ok(row.try_get_by_index::<String>(2)? == "off")
}

async fn migrate(
    place: &Postgres,
    connection: &DatabaseConnection,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let shown = || crate::Place::Postgres(place.clone()).shown("");
    let found = migration::found(connection).await?;
    let known = migrations.last().map_or(0, |newest| newest.version);
    migration::refuse_newer(&shown(), found, migrations)?;
    if found.version >= known {
        return Ok(());
    }
    if !place.options.migrate {
        return Err(StorageError::Pending {
            place: shown(),
            found: found.version,
            known,
        });
    }
    let transaction = connection.begin().await?;
    // Whoever comes second waits here and then finds nothing left to do.
    // Steps may change rows of all tenants, behind the wall as well.
    let (variable, all) = (wall::VARIABLE, wall::ALL);
    transaction
        .execute_unprepared(&format!("SELECT set_config('{variable}', '{all}', true)"))
        .await?;
    let lock = lock_key("migrate", &place.schema);
    transaction
        .execute_unprepared(&format!("SELECT pg_advisory_xact_lock({lock})"))
        .await?;
    let exists = Statement::from_sql_and_values(
        transaction.get_database_backend(),
        "SELECT count(*) FROM pg_namespace WHERE nspname = $1",
        [place.schema.as_str().into()],
    );
    let row = transaction.query_one_raw(exists).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    if count == 0 {
        let create = format!("CREATE SCHEMA {}", place.schema);
        transaction.execute_unprepared(&create).await?;
    }
    let found = migration::found(&transaction).await?;
    migration::refuse_newer(&shown(), found, migrations)?;
    migration::apply(&transaction, Dialect::Postgres, migrations).await?;
    transaction.commit().await?;
    Ok(())
}

/// The number of an advisory lock: 64-bit FNV-1a over what it is for. Such locks are shared by a whole
/// database, so the schema's name is part of it.
pub(crate) fn lock_key(purpose: &str, schema: &str) -> i64 {
    let text = format!("commonplace {purpose} {schema}");
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    hash as i64
}

#[cfg(test)]
mod tests {
    use super::lock_key;

    #[test]
    fn locks_differ_by_purpose_and_schema() {
        let keys = [
            lock_key("migrate", "journal"),
            lock_key("lead", "journal"),
            lock_key("migrate", "policy"),
        ];
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
    }
}
