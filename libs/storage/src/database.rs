use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, IsolationLevel, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use tracing::{Instrument, Span};

use crate::connections::{Connections, Taken};
use crate::metrics::PoolUse;
use crate::options::{Place, Postgres};
use crate::sql::{Dialect, Translator};
use crate::{BoxFuture, Migration, SchemaState, StorageError, migration, postgres, sqlite};

/// A transaction that collided is run again this often, after growing waits.
const COLLISIONS: u32 = 4;
/// The first of these waits.
const COLLISION_WAIT: Duration = Duration::from_millis(5);
/// Broken connections of a pool are met one by one; more than this many in a row is a server that is away.
const BROKEN: u32 = 64;

/// Where the data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// One file on this machine.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A schema on a PostgreSQL server.
    Postgres(Postgres),
}

/// An open database: connections for writing and for reading. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    backend: Arc<Backend>,
    /// Whose data it is, for spans.
    namespace: Arc<str>,
    translator: Arc<Translator>,
    reader: Connections,
    writer: Connections,
}

impl Database {
    /// Opens or creates what a service keeps at a place, and brings its schema up to the last migration.
    /// `file`: the name of the SQLite file, where it is one.
    ///
    /// Errors: [`StorageError::Corrupt`], [`StorageError::Newer`], [`StorageError::OldLibrary`],
    /// [`StorageError::Unfit`], [`StorageError::Pending`] before anything is written;
    /// [`StorageError::Unavailable`] when the server does not answer for the time it is given;
    /// [`StorageError::Full`] and others when a migration fails, which then left no trace.
    pub async fn open(
        place: &Place,
        file: &str,
        migrations: &[Migration],
    ) -> Result<Self, StorageError> {
        let (backend, dialect, writer, reader) = match place {
            Place::Folder(folder) => {
                let path = folder.join(file);
                let (writer, reader) = sqlite::open(&path, migrations)
                    .await
                    .map_err(|error| error.in_file(&path))?;
                let (writer, reader) = (Connections::lasting(writer), Connections::lasting(reader));
                (Backend::Sqlite { path }, Dialect::Sqlite, writer, reader)
            }
            Place::Postgres(postgres) => {
                let (writer, reader) = postgres::open(postgres, migrations).await?;
                let backend = Backend::Postgres(postgres.clone());
                (backend, Dialect::Postgres, writer, reader)
            }
        };
        Ok(Self {
            backend: Arc::new(backend),
            namespace: place.namespace().into(),
            translator: Arc::new(Translator::new(dialect)),
            reader,
            writer,
        })
    }

    /// How the schema at a place stands beside the migrations known; changes nothing.
    pub async fn schema_state(
        place: &Place,
        file: &str,
        migrations: &[Migration],
    ) -> Result<SchemaState, StorageError> {
        let found = match place {
            Place::Folder(folder) => {
                let path = folder.join(file);
                sqlite::probe(&path)
                    .await
                    .map_err(|error| error.in_file(&path))?
            }
            Place::Postgres(postgres) => postgres::probe(postgres).await?,
        };
        migration::refuse_newer(&place.shown(file), found, migrations)?;
        Ok(SchemaState::of(found, migrations))
    }

    /// Where the data lives.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        self.translator.dialect()
    }

    /// How the connections for writing and for reading are used at the moment.
    pub fn pools(&self) -> [(&'static str, PoolUse); 2] {
        [
            ("write", self.writer.usage()),
            ("read", self.reader.usage()),
        ]
    }

    /// The rows of one reading statement, in a task of its own: a caller that goes away leaves a statement
    /// that still ends, never a connection in the middle of one. `sql`: as [`crate::Dialect`] tells.
    pub async fn query(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, StorageError> {
        let statement = self.statement(sql, values);
        let reader = self.reader.clone();
        let work = async move {
            // Reading is safe to repeat; each broken connection met is one less.
            let mut broken = 0;
            loop {
                let taken = reader.take();
                let query = taken.connection.query_all_raw(statement.clone());
                match taken.within_limit(query).await {
                    Err(StorageError::Unavailable(error))
                        if broken < BROKEN && is_broken(&error) =>
                    {
                        broken += 1;
                    }
                    answer => return answer.inspect_err(failed),
                }
            }
        };
        let span = tracing::info_span!(
            target: "commonplace::db", "query",
            otel.name = %Summary(sql), otel.kind = "client", db.namespace = &*self.namespace,
            db.system.name = self.system(), db.query.summary = %Summary(sql),
            "error.type" = tracing::field::Empty,
        );
        to_the_end(work, span).await
    }

    /// The first row of one reading statement.
    pub async fn query_one(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<QueryResult>, StorageError> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// One writing statement, in a transaction of its own. Gives the number of rows it changed.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, StorageError> {
        let sql = sql.to_owned();
        self.write(move |transaction| {
            let (sql, values) = (sql.clone(), values.clone());
            Box::pin(async move { transaction.execute(&sql, values).await })
        })
        .await
    }

    /// Runs statements as they are, without values: for tools and tests.
    pub async fn run_script(&self, sql: &str) -> Result<(), StorageError> {
        let (writer, sql) = (self.writer.clone(), sql.to_owned());
        let script = async move {
            // As long as it takes: nothing here is asked in a call's time.
            writer.take().connection.execute_unprepared(&sql).await?;
            Ok(())
        };
        to_the_end(script, tracing::Span::current()).await
    }

    /// Runs a transaction on a writing connection: committed when `work` is `Ok`, else rolled back.
    ///
    /// It runs in a task of its own, so it ends even when the caller is cancelled. `work` is run again when
    /// the transaction collided with another, which then left no trace. On SQLite writers queue.
    /// A commit that fails is an error; whether its effects are kept is then unknown unless the error is
    /// [`StorageError::Full`] or [`StorageError::Conflict`], so callers read again instead of assuming.
    pub async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: for<'a> Fn(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let span = self.transaction("write");
        self.transact(self.writer.clone(), options, work, span)
            .await
    }

    /// Runs several reading statements on one unchanging state of the database, in a task of its own.
    pub async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: for<'a> Fn(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let snapshot =
            (self.dialect() == Dialect::Postgres).then_some(IsolationLevel::RepeatableRead);
        let options = TransactionOptions {
            isolation_level: snapshot,
            sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
            ..TransactionOptions::default()
        };
        let span = self.transaction("read");
        self.transact(self.reader.clone(), options, work, span)
            .await
    }

    fn transaction(&self, operation: &'static str) -> Span {
        tracing::info_span!(
            target: "commonplace::db", "transaction",
            otel.name = operation, otel.kind = "client", db.namespace = &*self.namespace,
            db.system.name = self.system(), db.operation.name = operation,
            "error.type" = tracing::field::Empty,
        )
    }

    fn system(&self) -> &'static str {
        match self.dialect() {
            Dialect::Sqlite => "sqlite",
            Dialect::Postgres => "postgresql",
        }
    }

    async fn transact<F, T, E>(
        &self,
        connections: Connections,
        options: TransactionOptions,
        work: F,
        span: Span,
    ) -> Result<T, E>
    where
        F: for<'a> Fn(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let translator = self.translator.clone();
        let repeated = async move {
            let mut collisions = 0;
            loop {
                let (inner, taken) = begin(&connections, &options).await?;
                let transaction = Transaction {
                    inner,
                    taken,
                    translator: translator.clone(),
                    collided: AtomicBool::new(false),
                };
                let attempt = transaction.run(&work).await;
                match attempt {
                    Attempt::Collided if collisions < COLLISIONS => {
                        collisions += 1;
                        tokio::time::sleep(COLLISION_WAIT * (1 << collisions)).await;
                    }
                    Attempt::Collided => {
                        let gave_up = DbErr::Custom(format!("it collided {COLLISIONS} times"));
                        return Err(E::from(StorageError::Conflict(gave_up)));
                    }
                    Attempt::Ended(answer) => return answer,
                }
            }
        };
        to_the_end(repeated, span).await
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.translator.statement(sql, values)
    }

    /// Closes the connections. On SQLite the planner's statistics are refreshed before, and the log is
    /// folded into the file.
    pub async fn close(self) -> Result<(), StorageError> {
        if self.dialect() == Dialect::Sqlite {
            sqlite::refresh_statistics(&self.writer.take().connection).await?;
        }
        self.reader.close().await?;
        self.writer.close().await?;
        Ok(())
    }
}

/// What a closure of [`Database::write`] or [`Database::read`] runs its statements on.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    taken: Taken,
    translator: Arc<Translator>,
    /// A statement was refused because of another transaction; all of it may be run again.
    collided: AtomicBool,
}

/// How a run of a transaction ended.
enum Attempt<T, E> {
    Ended(Result<T, E>),
    Collided,
}

impl Transaction {
    /// The rows of a statement.
    pub async fn query(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, StorageError> {
        let statement = self.translator.statement(sql, values);
        let query = self.inner.query_all_raw(statement);
        self.noted(self.taken.within_limit(query).await)
    }

    /// The first row of a statement.
    pub async fn query_one(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Option<QueryResult>, StorageError> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// Runs a statement; gives the number of rows it changed.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, StorageError> {
        let statement = self.translator.statement(sql, values);
        let execution = self.inner.execute_raw(statement);
        let done = self.noted(self.taken.within_limit(execution).await)?;
        Ok(done.rows_affected())
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        self.translator.dialect()
    }

    fn noted<T>(&self, answer: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Conflict(_)) = &answer {
            self.collided.store(true, Ordering::Relaxed);
        }
        answer.inspect_err(failed)
    }

    async fn run<F, T, E>(self, work: &F) -> Attempt<T, E>
    where
        F: for<'a> Fn(&'a Transaction) -> BoxFuture<'a, Result<T, E>>,
        E: From<StorageError>,
    {
        match work(&self).await {
            Ok(answer) => match self.taken.within_limit(self.inner.commit()).await {
                Ok(()) => Attempt::Ended(Ok(answer)),
                Err(StorageError::Conflict(_)) => Attempt::Collided,
                Err(error) => {
                    failed(&error);
                    Attempt::Ended(Err(E::from(error)))
                }
            },
            Err(error) => {
                let collided = self.collided.load(Ordering::Relaxed);
                // SQLite rolls back by itself on some errors (a full disk); the first error is the one to tell.
                // A server that went silent is not asked again: it rolls back when it notices.
                if self.taken.stands()
                    && let Err(second) = self.taken.within_limit(self.inner.rollback()).await
                {
                    tracing::debug!(error = %second, "rollback after an error failed");
                }
                match collided {
                    true => Attempt::Collided,
                    false => Attempt::Ended(Err(error)),
                }
            }
        }
    }
}

impl Translator {
    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        let text = self.translate(sql);
        Statement::from_sql_and_values(self.dialect().backend(), &*text, values)
    }
}

/// Begins a transaction. A connection that broke while it lay idle is dropped and the next one taken;
/// nothing was done on it.
async fn begin(
    connections: &Connections,
    options: &TransactionOptions,
) -> Result<(DatabaseTransaction, Taken), StorageError> {
    let mut broken = 0;
    loop {
        let options = TransactionOptions { ..*options };
        let taken = connections.take();
        let begun = taken.connection.begin_with_options(options);
        match taken.within_limit(begun).await {
            Err(StorageError::Unavailable(error)) if broken < BROKEN && is_broken(&error) => {
                broken += 1;
            }
            answer => return answer.map(|transaction| (transaction, taken)),
        }
    }
}

/// Whether an established connection broke, unlike one that could not be made.
fn is_broken(error: &DbErr) -> bool {
    matches!(error, DbErr::Exec(_) | DbErr::Query(_))
}

/// Notes in the present span that the database failed; what the work itself refuses is no failure of it.
fn failed(error: &StorageError) {
    let kind = match error {
        StorageError::Unavailable(_) => "unavailable",
        StorageError::Conflict(_) => "conflict",
        StorageError::Full(_) => "full",
        StorageError::Corrupt { .. } => "corrupt",
        _ => "_OTHER",
    };
    Span::current().record("error.type", kind);
}

/// Runs work in a task of its own. `span`: what it is part of.
async fn to_the_end<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
    span: Span,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StorageError> + Send + 'static,
{
    tokio::spawn(work.instrument(span))
        .await
        .unwrap_or_else(|_| Err(E::from(StorageError::Aborted)))
}

/// A statement by its operation and the first table it names, as `SELECT event`: no values, few words.
struct Summary<'a>(&'a str);

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = self.0.split_ascii_whitespace();
        let operation = words.next().unwrap_or_default();
        formatter.write_str(operation)?;
        let before_table = |word: &&str| {
            ["FROM", "INTO", "UPDATE"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(word))
        };
        let table = match operation.eq_ignore_ascii_case("UPDATE") {
            true => words.next(),
            false => words.find(before_table).and_then(|_| words.next()),
        };
        let table = table.unwrap_or_default();
        let name = table
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        match name.filter(|name| !name.is_empty()) {
            Some(name) => write!(formatter, " {name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn a_statement_is_told_without_its_values() {
        for (sql, summary) in [
            ("SELECT a, b\n FROM event e WHERE id = 'x'", "SELECT event"),
            ("INSERT INTO pack (tenant) VALUES (?)", "INSERT pack"),
            ("UPDATE lease SET epoch = ?", "UPDATE lease"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a"),
            ("SELECT 1", "SELECT"),
            ("", ""),
        ] {
            assert_eq!(Summary(sql).to_string(), summary, "{sql}");
        }
    }
}
