//! The connections of one kind, and what to do when one of them hears nothing any more.
//!
//! A server that is cut off sends no word: what was asked of it waits, and so would the pool, which tries a
//! connection before it takes it back. So every answer is waited for a little longer than the server may
//! take for it; after that the whole pool is left behind, and a new one stands in its place.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr, SqlxError, SqlxPostgresConnector};

use crate::StorageError;
use crate::metrics::PoolUse;

/// A pool that can be replaced. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    current: Arc<RwLock<Current>>,
    renewal: Option<Arc<Renewal>>,
}

#[derive(Debug)]
struct Current {
    generation: u64,
    connection: DatabaseConnection,
}

/// How to make another pool, and when.
#[derive(Debug)]
struct Renewal {
    pool: PgPoolOptions,
    options: PgConnectOptions,
    /// No answer takes longer.
    limit: Duration,
}

/// A pool as it was taken; work on it is limited in time.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) connection: DatabaseConnection,
    generation: u64,
    connections: Connections,
}

impl Connections {
    /// To a file: they answer always.
    pub(crate) fn lasting(connection: DatabaseConnection) -> Self {
        Self::of(connection, None)
    }

    /// To a server. `limit`: no answer takes longer.
    pub(crate) async fn to_server(
        pool: PgPoolOptions,
        options: PgConnectOptions,
        limit: Duration,
    ) -> Result<Self, StorageError> {
        let first = pool.clone().connect_with(options.clone()).await?;
        let renewal = Renewal {
            pool,
            options,
            limit,
        };
        Ok(Self::of(connection(first), Some(Arc::new(renewal))))
    }

    fn of(connection: DatabaseConnection, renewal: Option<Arc<Renewal>>) -> Self {
        let current = Current {
            generation: 0,
            connection,
        };
        Self {
            current: Arc::new(RwLock::new(current)),
            renewal,
        }
    }

    pub(crate) fn take(&self) -> Taken {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Taken {
            connection: current.connection.clone(),
            generation: current.generation,
            connections: self.clone(),
        }
    }

    /// How the present pool is used.
    pub(crate) fn usage(&self) -> PoolUse {
        let connection = self.take().connection;
        let (size, idle, most) = match connection.get_database_backend() {
            DbBackend::Postgres => {
                let pool = connection.get_postgres_connection_pool();
                (
                    pool.size(),
                    pool.num_idle(),
                    pool.options().get_max_connections(),
                )
            }
            _ => {
                let pool = connection.get_sqlite_connection_pool();
                (
                    pool.size(),
                    pool.num_idle(),
                    pool.options().get_max_connections(),
                )
            }
        };
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
        PoolUse {
            used: size - idle,
            idle,
            most,
        }
    }

    pub(crate) async fn close(&self) -> Result<(), StorageError> {
        let closing = self.take().connection.close();
        match &self.renewal {
            None => Ok(closing.await?),
            // A server that is cut off cannot say good-bye.
            Some(renewal) => match tokio::time::timeout(renewal.limit, closing).await {
                Ok(closed) => Ok(closed?),
                Err(_) => Ok(()),
            },
        }
    }

    /// Leaves the pool of a generation behind, unless somebody did already.
    fn renew(&self, renewal: &Renewal, generation: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation != generation {
            return;
        }
        tracing::warn!("the database server does not answer any more: connecting anew");
        let fresh = renewal
            .pool
            .clone()
            .connect_lazy_with(renewal.options.clone());
        let left = std::mem::replace(&mut current.connection, connection(fresh));
        current.generation += 1;
        tokio::spawn(left.close());
    }
}

impl Taken {
    /// Whether the pool has not been left behind.
    pub(crate) fn stands(&self) -> bool {
        let current = &self.connections.current;
        let current = current.read().unwrap_or_else(PoisonError::into_inner);
        current.generation == self.generation
    }

    /// Waits for an answer as long as one may take.
    pub(crate) async fn within_limit<T>(
        &self,
        work: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, StorageError> {
        let Some(renewal) = &self.connections.renewal else {
            return Ok(work.await?);
        };
        match tokio::time::timeout(renewal.limit, work).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                self.connections.renew(renewal, self.generation);
                Err(StorageError::Unavailable(silence()))
            }
        }
    }
}

fn connection(pool: PgPool) -> DatabaseConnection {
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}

/// Not a broken connection, which would be a reason to take the next one at once.
fn silence() -> DbErr {
    let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
    DbErr::Conn(RuntimeErr::SqlxError(SqlxError::Io(error).into()))
}
