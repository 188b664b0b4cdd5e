use std::path::{Path, PathBuf};

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};

use crate::{BoxFuture, Migration, StorageError, sqlite};

/// What a closure of [`Database::write`] or [`Database::read`] runs its statements on.
pub type Transaction = DatabaseTransaction;

/// Where the data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// One file on this machine.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
}

/// An open database: one writing connection, a few reading ones. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    backend: Backend,
    reader: DatabaseConnection,
    writer: DatabaseConnection,
}

impl Database {
    /// Opens or creates a SQLite file and brings its schema up to the last migration.
    ///
    /// Errors: [`StorageError::Corrupt`], [`StorageError::Newer`], [`StorageError::OldLibrary`] before
    /// anything is written; [`StorageError::Full`] and others when a migration fails, which then left no trace.
    pub async fn open_sqlite(path: &Path, migrations: &[Migration]) -> Result<Self, StorageError> {
        let (writer, reader) = sqlite::open(path, migrations)
            .await
            .map_err(|error| error.in_file(path))?;
        let backend = Backend::Sqlite { path: path.into() };
        Ok(Self {
            backend,
            reader,
            writer,
        })
    }

    /// Where the data lives.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// For single reading statements; each may run on another connection. Refuses to write.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// For single writing statements. Several that belong together go into [`Database::write`].
    pub fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Runs a transaction on the writing connection: committed when `work` is `Ok`, else rolled back.
    ///
    /// It runs in a task of its own, so it ends even when the caller is cancelled. Writers queue.
    /// A commit that fails is an error; whether its effects are kept is then unknown unless the error is
    /// [`StorageError::Full`], so callers read again instead of assuming.
    pub async fn write<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: for<'a> FnOnce(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        self.transact(self.writer.clone(), SqliteTransactionMode::Immediate, work)
            .await
    }

    /// Runs several reading statements on one unchanging state of the database, in a task of its own.
    pub async fn read<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: for<'a> FnOnce(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        self.transact(self.reader.clone(), SqliteTransactionMode::Deferred, work)
            .await
    }

    async fn transact<F, T, E>(
        &self,
        connection: DatabaseConnection,
        mode: SqliteTransactionMode,
        work: F,
    ) -> Result<T, E>
    where
        F: for<'a> FnOnce(&'a Transaction) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(mode),
            ..TransactionOptions::default()
        };
        let task = tokio::spawn(async move {
            let storage = |error| E::from(StorageError::from(error));
            let transaction = connection
                .begin_with_options(options)
                .await
                .map_err(storage)?;
            match work(&transaction).await {
                Ok(answer) => transaction.commit().await.map_err(storage).map(|()| answer),
                Err(error) => {
                    // SQLite rolls back by itself on some errors (a full disk); the first error is the one to tell.
                    if let Err(second) = transaction.rollback().await {
                        tracing::debug!(error = %second, "rollback after an error failed");
                    }
                    Err(error)
                }
            }
        });
        task.await
            .unwrap_or_else(|_| Err(E::from(StorageError::Aborted)))
    }

    /// Closes the connections after refreshing the planner's statistics; the log is folded into the file.
    pub async fn close(self) -> Result<(), StorageError> {
        sqlite::refresh_statistics(&self.writer).await?;
        self.reader.close().await?;
        self.writer.close().await?;
        Ok(())
    }
}
