//! Durable storage, opened once and opened carefully.
//!
//! Each service keeps its own database: a SQLite file in the data folder, or a schema of its own on a
//! PostgreSQL server. This crate opens it so that what is acknowledged is on disk and what is damaged is
//! left alone. What always holds:
//!
//! - **Acknowledged means durable.** SQLite runs with a write-ahead log and `synchronous = FULL`, and only
//!   with a library version that does not lose committed log frames ([`MINIMUM_SQLITE`]). PostgreSQL
//!   answers a commit when it is on disk, whatever its own default is.
//! - **Readers and writers have connections of their own**, so neither waits for the other's. On SQLite
//!   there is one writer.
//! - **A cancelled call harms nobody.** Every statement and every transaction runs in a task of its own
//!   ([`Statements::query`], [`Statements::write`]): a caller that goes away leaves one that still ends, never
//!   a connection stuck inside one.
//! - **Every statement is for somebody**: for a tenant or for all ([`Database::for_tenant`],
//!   [`Database::for_all`]). PostgreSQL is told, and shows nothing of other tenants ([`Guarded`]).
//! - **A server may go away.** Broken and silent connections are dropped and made anew; what was under way fails with
//!   [`StorageError::Unavailable`], which callers pass on as safe to try again.
//! - **One leader** where a service needs it, and none that can write after its successor
//!   ([`Leadership`]).
//! - **Nothing is overwritten by accident.** A database of a newer version, a damaged one, a folder in use
//!   by another process: each is refused with its place and the next step, before anything is written.
//!
//! SQL is written once for both ([`Dialect`]). Left out: queries; callers bring their own.

mod connections;
mod database;
mod error;
mod failure;
mod folder;
mod leadership;
mod metrics;
mod migration;
mod options;
mod postgres;
mod sql;
mod sqlite;
mod statements;
mod wall;

pub use database::{Backend, Database, Transaction};
pub use error::StorageError;
pub use folder::DataFolder;
pub use leadership::{LEADERSHIP_TABLE, Leadership, Lease, Term};
pub use metrics::{PoolMetrics, PoolUse};
pub use migration::{Migration, SchemaState};
pub use options::{Options, Place, Postgres};
pub use sql::Dialect;
pub use sqlite::MINIMUM_SQLITE;
pub use statements::Statements;
pub use wall::{Guarded, WallState};

/// A boxed future, as the closures of [`Statements::write`] and [`Statements::read`] return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
