use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use commonplace_types::TenantName;
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement, Value};
use tracing::{Instrument, Span};

use crate::connections::{Connections, Taken};
use crate::metrics::PoolUse;
use crate::options::{Place, Postgres};
use crate::sql::{Dialect, Translator};
use crate::statements::Statements;
use crate::wall::{self, Guarded, WallState};
use crate::{BoxFuture, Migration, SchemaState, StorageError, migration, postgres, sqlite};

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

/// An open database: connections for writing and for reading. It runs no statement by itself, but for a tenant or
/// for all. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    backend: Arc<Backend>,
    /// Whose data it is, for spans.
    pub(crate) namespace: Arc<str>,
    pub(crate) translator: Arc<Translator>,
    pub(crate) reader: Connections,
    pub(crate) writer: Connections,
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
        Self::open_walled(place, file, migrations, &[]).await
    }

    /// The same for a database that holds rows of tenants: on a server the wall between them stands on these
    /// tables, unless the settings say otherwise.
    pub async fn open_walled(
        place: &Place,
        file: &str,
        migrations: &[Migration],
        tables: &[Guarded],
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
                let (writer, reader) = postgres::open(postgres, migrations, tables).await?;
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

    /// How the wall between tenants stands at a place; changes nothing.
    pub async fn wall_state(place: &Place, tables: &[Guarded]) -> Result<WallState, StorageError> {
        match place {
            Place::Folder(_) => Ok(WallState::None),
            Place::Postgres(postgres) => wall::state(postgres, tables).await,
        }
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

    /// Runs statements for one tenant: they see and change nothing of another's, wherever the database has a
    /// wall between tenants.
    pub fn for_tenant(&self, tenant: &TenantName) -> Statements {
        Statements::new(self.clone(), tenant.as_str())
    }

    /// Runs statements for the service itself, over all tenants.
    pub fn for_all(&self) -> Statements {
        Statements::new(self.clone(), wall::ALL)
    }

    /// Runs statements as they are, without values, as the login: for tools and tests.
    pub async fn run_script(&self, sql: &str) -> Result<(), StorageError> {
        let (database, sql) = (self.clone(), sql.to_owned());
        let script = async move {
            // As long as it takes: nothing here is asked in a call's time.
            match &*database.backend {
                Backend::Sqlite { .. } => {
                    let writer = database.writer.take().connection;
                    writer.execute_unprepared(&sql).await?;
                    Ok(())
                }
                Backend::Postgres(place) => postgres::script(place, &sql).await,
            }
        };
        to_the_end(script, tracing::Span::current()).await
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

/// What a closure of [`Statements::write`] or [`Statements::read`] runs its statements on.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    taken: Taken,
    translator: Arc<Translator>,
    /// A statement was refused because of another transaction; all of it may be run again.
    collided: AtomicBool,
}

/// How a run of a transaction ended.
pub(crate) enum Attempt<T, E> {
    Ended(Result<T, E>),
    Collided,
}

impl Transaction {
    pub(crate) fn new(
        inner: DatabaseTransaction,
        taken: Taken,
        translator: Arc<Translator>,
    ) -> Self {
        Self {
            inner,
            taken,
            translator,
            collided: AtomicBool::new(false),
        }
    }

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

    pub(crate) async fn run<F, T, E>(self, work: &F) -> Attempt<T, E>
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
    pub(crate) fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        let text = self.translate(sql);
        Statement::from_sql_and_values(self.dialect().backend(), &*text, values)
    }
}

/// Notes in the present span that the database failed; what the work itself refuses is no failure of it.
pub(crate) fn failed(error: &StorageError) {
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
pub(crate) async fn to_the_end<T, E>(
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
pub(crate) struct Summary<'a>(pub(crate) &'a str);

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
