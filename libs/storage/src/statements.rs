use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use tracing::Span;

use crate::connections::{Connections, Taken};
use crate::database::{Attempt, Summary, failed, to_the_end};
use crate::sql::Dialect;
use crate::{BoxFuture, Database, StorageError, Transaction, wall};

/// A transaction that collided is run again this often, after growing waits.
const COLLISIONS: u32 = 4;
/// The first of these waits.
const COLLISION_WAIT: Duration = Duration::from_millis(5);
/// Broken connections of a pool are met one by one; more than this many in a row is a server that is away.
const BROKEN: u32 = 64;

/// Runs statements for a tenant, or for the service itself over all of them. Cheap to make and to clone.
///
/// On PostgreSQL the server is told for whom before each statement, and at the beginning of each transaction. On
/// SQLite both are the same.
#[derive(Debug, Clone)]
pub struct Statements {
    database: Database,
    /// A tenant's name, or [`wall::ALL`].
    whose: Arc<str>,
}

impl Statements {
    pub(crate) fn new(database: Database, whose: &str) -> Self {
        Self {
            database,
            whose: whose.into(),
        }
    }

    /// Which SQL they are in.
    pub fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    /// The rows of one reading statement, in a task of its own: a caller that goes away leaves a statement
    /// that still ends, never a connection in the middle of one. `sql`: as [`crate::Dialect`] tells.
    pub async fn query(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, StorageError> {
        let statement = self.database.translator.statement(sql, values);
        let reader = self.database.reader.clone();
        let told = self.told();
        let work = async move {
            // Reading is safe to repeat; each broken connection met is one less.
            let mut broken = 0;
            loop {
                let taken = reader.take();
                let query = rows(&taken.connection, told.as_deref(), statement.clone());
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
            otel.name = %Summary(sql), otel.kind = "client", db.namespace = &*self.database.namespace,
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
        // Connections for writing are for all from their start.
        let begin = Begin {
            connections: self.database.writer.clone(),
            options,
            told: self.told().filter(|whose| **whose != *wall::ALL),
        };
        let span = self.transaction("write");
        self.transact(begin, work, span).await
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
        let begin = Begin {
            connections: self.database.reader.clone(),
            options,
            told: self.told(),
        };
        let span = self.transaction("read");
        self.transact(begin, work, span).await
    }

    /// For whom, where there is a server to tell.
    fn told(&self) -> Option<Arc<str>> {
        (self.dialect() == Dialect::Postgres).then(|| self.whose.clone())
    }

    fn transaction(&self, operation: &'static str) -> Span {
        tracing::info_span!(
            target: "commonplace::db", "transaction",
            otel.name = operation, otel.kind = "client", db.namespace = &*self.database.namespace,
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

    async fn transact<F, T, E>(&self, begin: Begin, work: F, span: Span) -> Result<T, E>
    where
        F: for<'a> Fn(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let translator = self.database.translator.clone();
        let repeated = async move {
            let mut collisions = 0;
            loop {
                let (inner, taken) = begin.connection().await?;
                let transaction = Transaction::new(inner, taken, translator.clone());
                if let Some(whose) = begin.told.as_deref() {
                    transaction
                        .execute(wall::SET_LOCAL, vec![whose.into()])
                        .await?;
                }
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
}

/// How a transaction begins.
struct Begin {
    connections: Connections,
    options: TransactionOptions,
    /// For whom it is, where the server does not know.
    told: Option<Arc<str>>,
}

impl Begin {
    /// A connection that broke while it lay idle is dropped and the next one taken; nothing was done on it.
    async fn connection(&self) -> Result<(DatabaseTransaction, Taken), StorageError> {
        let mut broken = 0;
        loop {
            let options = TransactionOptions { ..self.options };
            let taken = self.connections.take();
            let begun = taken.connection.begin_with_options(options);
            match taken.within_limit(begun).await {
                Err(StorageError::Unavailable(error)) if broken < BROKEN && is_broken(&error) => {
                    broken += 1;
                }
                answer => return answer.map(|transaction| (transaction, taken)),
            }
        }
    }
}

async fn rows(
    connection: &DatabaseConnection,
    told: Option<&str>,
    statement: Statement,
) -> Result<Vec<QueryResult>, DbErr> {
    match told {
        None => connection.query_all_raw(statement).await,
        Some(whose) => {
            let pool = connection.get_postgres_connection_pool();
            wall::query(pool, whose, statement).await
        }
    }
}

/// Whether an established connection broke, unlike one that could not be made.
fn is_broken(error: &DbErr) -> bool {
    matches!(error, DbErr::Exec(_) | DbErr::Query(_))
}
