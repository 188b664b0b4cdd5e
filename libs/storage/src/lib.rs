//! Durable storage, opened once and opened carefully.
//!
//! Each service keeps its own database; this crate opens it so that what is acknowledged is on disk and
//! what is damaged is left alone. What always holds:
//!
//! - **Acknowledged means durable.** SQLite runs with a write-ahead log and `synchronous = FULL`, and only
//!   with a library version that does not lose committed log frames ([`MINIMUM_SQLITE`]).
//! - **One writer.** A [`Database`] has one writing connection and a few reading ones, so writers never
//!   meet a busy database and readers never wait for them.
//! - **A cancelled call harms nobody.** A transaction runs in a task of its own ([`Database::write`]): a
//!   caller that goes away leaves a transaction that still ends, never a connection stuck inside one.
//! - **Nothing is overwritten by accident.** A database of a newer version, a damaged one, a folder in use
//!   by another process: each is refused with the file and the next step, before anything is written.
//!
//! Left out: queries. Callers use `sea-orm` on the connections; a second backend is one more [`Backend`].

mod database;
mod error;
mod folder;
mod migration;
mod sqlite;

pub use database::{Backend, Database, Transaction};
pub use error::StorageError;
pub use folder::DataFolder;
pub use migration::Migration;
pub use sqlite::MINIMUM_SQLITE;

/// A boxed future, as the closures of [`Database::write`] and [`Database::read`] return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
