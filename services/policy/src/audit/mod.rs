//! The audit log of each tenant: kept here, recorded by every process.
//!
//! What always holds:
//! - A tenant's records are one chain: numbers without gaps, each hash over the one before. Numbers are given in the
//!   transaction that keeps the records, whichever process has recorded them.
//! - A record is kept once by its id, however often it is delivered.
//! - Nothing of a tenant is seen from another.
//! - What is no longer kept is a beginning of the chain, and its last hash stays.
//!
//! Left out: what is recorded (libs/rpc), and whether a chain is as it was (libs/access, where callers check it).

mod convert;
mod error;
mod filter;
mod prune;
pub mod service;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use commonplace_access::audit::{Head, Record};
use commonplace_rpc::audit::Entry;
use commonplace_storage::Database;
use commonplace_types::{Clock, TenantName};
use tokio::task::JoinHandle;

pub use error::AuditError;
use filter::Filter;
use store::Store;

/// Records that one page looks at, at most.
const LOOKED_AT: u64 = 10_000;
/// Records that are read at once.
const READ: u64 = 500;

/// Keeps the audit log. Cheap to clone; clones are one.
#[derive(Clone)]
pub(crate) struct Log {
    store: Store,
    clock: Arc<dyn Clock>,
    /// How long records are kept; none: for good.
    keep: Option<Duration>,
    pruning: Option<Arc<Pruning>>,
}

/// The task that prunes; it ends with the last who could ask it to.
struct Pruning(JoinHandle<()>);

impl Drop for Pruning {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a chain begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The last record that is no longer kept.
    pub(crate) start: Head,
    /// The newest.
    pub(crate) head: Head,
}

/// A page of records, and before which number to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    pub(crate) before: Option<u64>,
}

impl Log {
    /// Over an open database. Records are pruned now and then, if they are not kept for good.
    pub(crate) fn start(database: Database, clock: Arc<dyn Clock>, keep: Option<Duration>) -> Self {
        let log = Self {
            store: Store::new(database),
            clock,
            keep,
            pruning: None,
        };
        let pruning = keep.map(|_| tokio::spawn(prune::now_and_then(log.clone())));
        Self {
            pruning: pruning.map(|task| Arc::new(Pruning(task))),
            ..log
        }
    }

    /// Ends the task that prunes.
    pub(crate) fn end(&self) {
        if let Some(pruning) = &self.pruning {
            pruning.0.abort();
        }
    }

    /// Keeps what was recorded, in the order given, each once by its id.
    pub(crate) async fn keep(&self, entries: Vec<Entry>) -> Result<(), AuditError> {
        let mut by_tenant: BTreeMap<TenantName, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            by_tenant
                .entry(entry.tenant.clone())
                .or_default()
                .push(entry);
        }
        self.store.append(by_tenant).await
    }

    /// Where the tenant's chain begins and ends.
    pub(crate) async fn ends(&self, tenant: &TenantName) -> Result<Ends, AuditError> {
        self.store.ends(tenant).await
    }

    /// The records after one, by number, as many as are read at once; those before one that is damaged come first,
    /// so that whoever checks them finds the first break.
    pub(crate) async fn after(
        &self,
        tenant: &TenantName,
        after: u64,
        last: u64,
    ) -> Result<Vec<Record>, AuditError> {
        let last = last.min(after.saturating_add(READ));
        let first = after.saturating_add(1);
        match self.store.between(tenant, first, last).await {
            Err(AuditError::Damaged { sequence, .. }) if sequence > first => {
                self.store.between(tenant, first, sequence - 1).await
            }
            read => read,
        }
    }

    /// The newest records that a filter lets through, from before a number; 0: from the newest.
    pub(crate) async fn list(
        &self,
        tenant: &TenantName,
        filter: &Filter,
        before: u64,
        count: usize,
    ) -> Result<Page, AuditError> {
        let ends = self.store.ends(tenant).await?;
        let mut next = match before {
            0 => ends.head.sequence,
            before => ends.head.sequence.min(before - 1),
        };
        if let Some(only) = filter.sequence {
            next = next.min(only);
        }
        let lowest = next.saturating_sub(LOOKED_AT).max(ends.start.sequence);
        let mut records = Vec::new();
        while next > lowest && records.len() < count {
            let first = next.saturating_sub(READ).max(lowest) + 1;
            let mut read = self.store.between(tenant, first, next).await?;
            read.reverse();
            next = first - 1;
            for record in read.into_iter().filter(|record| filter.lets(record)) {
                if records.len() == count {
                    break;
                }
                records.push(record);
            }
        }
        let full = records.len() == count;
        // What was read and not given is read again.
        let last = records.last().map(|record: &Record| record.sequence);
        let next = last.filter(|_| full).map_or(next, |last| last - 1);
        let more = next > ends.start.sequence && filter.sequence.is_none();
        Ok(Page {
            records,
            before: more.then_some(next + 1),
        })
    }
}
