//! Keys, grants and authorization policies of tenants: kept here, decided on by every process for itself.
//!
//! What always holds:
//! - A key's secret leaves once, in the answer that made it; kept is its hash.
//! - Nothing of a tenant is seen or changed from another: a key of another tenant is a key that is not there.
//! - Nobody gives away more than the credential that they came with covers.
//! - A policy that is kept parses and fits the schema.
//! - The revision of a tenant's rules grows in the transaction that changes them, so whoever knows a revision
//!   knows all that it stands for.
//!
//! Left out: asking what a caller may do (the layer around the service), and believing who they are.

mod convert;
mod error;
mod explain;
mod keys;
mod rules;
pub mod service;
mod store;
mod within;

use std::sync::Arc;

use commonplace_access::credential::key::Randomness;
use commonplace_storage::Database;
use commonplace_types::Clock;

use crate::config::Options;
use explain::Explained;
use store::Store;

pub use error::AccessError;

/// What the keeper of keys and rules needs of its surroundings.
pub(crate) struct Surroundings {
    /// Bounds.
    pub(crate) options: Options,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Makes ids and secrets.
    pub(crate) randomness: Arc<dyn Randomness>,
}

/// Keeps keys, grants and policies of every tenant. Cheap to clone; clones are one.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Store,
    surroundings: Arc<Surroundings>,
    explained: Arc<Explained>,
}

impl Keeper {
    /// Over an open database.
    pub(crate) fn new(database: Database, surroundings: Surroundings) -> Self {
        Self {
            store: Store::new(database),
            surroundings: Arc::new(surroundings),
            explained: Arc::default(),
        }
    }

    fn options(&self) -> &Options {
        &self.surroundings.options
    }
}

/// A page of a list, and whether there is more.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) more: bool,
}

impl<T> Page<T> {
    /// Of one item more than was asked for, if there is one.
    fn of(mut items: Vec<T>, count: usize) -> Self {
        let more = items.len() > count;
        items.truncate(count);
        Self { items, more }
    }
}
