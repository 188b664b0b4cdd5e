//! Limits of tenants: kept here, counted by gateways and the journal (libs/limits).
//!
//! What always holds: limits that are kept have been checked; who puts limits may say which ones they replace; tokens
//! that gateways share are granted once. What is shared is in memory only: after a restart each bucket is full again.

mod error;
pub mod service;
mod shares;
mod store;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use commonplace_limits::{LeaseAsk, Limits};
use commonplace_storage::Database;
use commonplace_types::{Clock, Digest, Invalid, TenantName, Timestamp};

use crate::config::Options;
pub use error::LimitsError;
use shares::Shares;
use store::Store;

/// Asks in one call at most.
const ASKS: usize = 1_000;

/// Keeps limits of every tenant. Cheap to clone; clones are one.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Store,
    /// Of tenants without limits of their own.
    usual: Arc<Limits>,
    clock: Arc<dyn Clock>,
    shares: Arc<Mutex<Shares>>,
}

/// Limits as they hold for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) etag: String,
    pub(crate) limits: Limits,
    /// When they were put; none: they are those of the settings.
    pub(crate) updated: Option<Timestamp>,
}

/// A tenant's own limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) tenant: TenantName,
    pub(crate) limits: Limits,
    pub(crate) updated: Timestamp,
}

impl Keeper {
    /// Over an open database. Error: the limits of the settings are wrong.
    pub(crate) fn new(
        database: Database,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Invalid> {
        let usual = options.limits.clone().checked();
        let usual = usual.map_err(|invalid| invalid.under("policy.limits"))?;
        Ok(Self {
            store: Store::new(database),
            usual: Arc::new(usual),
            clock,
            shares: Arc::default(),
        })
    }

    /// The limits of a tenant.
    pub(crate) async fn get(&self, tenant: &TenantName) -> Result<Holding, LimitsError> {
        let kept = self.store.get(tenant).await?;
        Ok(self.holding(kept))
    }

    /// Puts limits in place of those that a tenant has; none: those of the settings. Gives the new etag.
    /// Error: [`LimitsError::Changed`] if the present ones are others than expected.
    pub(crate) async fn put(
        &self,
        tenant: TenantName,
        limits: Option<Limits>,
        expected: Option<String>,
    ) -> Result<String, LimitsError> {
        let limits = limits.map(Limits::checked).transpose()?;
        let now = self.clock.now();
        let put = limits.map(|limits| Kept {
            tenant: tenant.clone(),
            limits,
            updated: now,
        });
        let etag = self.holding(put.clone()).etag;
        let usual = etag_of(&self.usual);
        let fits = move |kept: Option<&Kept>| {
            let present = kept.map_or_else(|| usual.clone(), |kept| etag_of(&kept.limits));
            match &expected {
                Some(expected) if *expected != present => Err(LimitsError::Changed { present }),
                _ => Ok(()),
            }
        };
        self.store.put(tenant, put, fits).await?;
        Ok(etag)
    }

    /// Tenants with limits of their own whose names come after one, by name.
    pub(crate) async fn list(&self, after: &str, count: usize) -> Result<Vec<Kept>, LimitsError> {
        self.store.list(after, count).await
    }

    /// Grants tokens to a gateway; gives how many for each ask, and how many gateways there are.
    pub(crate) fn lease(
        &self,
        gateway: &str,
        asks: &[LeaseAsk],
    ) -> Result<(Vec<u64>, u32), LimitsError> {
        if asks.len() > ASKS {
            let problem = format!("expected at most {ASKS}, found {}", asks.len());
            return Err(Invalid::new("asks", problem).into());
        }
        let now = Instant::now();
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = asks.iter().map(|ask| shares.grant(gateway, ask, now));
        let granted = granted.collect();
        Ok((granted, shares.gateways(gateway, now)))
    }

    fn holding(&self, kept: Option<Kept>) -> Holding {
        match kept {
            Some(kept) => Holding {
                etag: etag_of(&kept.limits),
                limits: kept.limits,
                updated: Some(kept.updated),
            },
            None => Holding {
                etag: etag_of(&self.usual),
                limits: Limits::clone(&self.usual),
                updated: None,
            },
        }
    }
}

/// Equal limits have equal etags, on any machine.
fn etag_of(limits: &Limits) -> String {
    // Texts and numbers alone can always be written.
    let text = serde_json::to_string(limits).unwrap_or_default();
    Digest::of(&[text.as_bytes()]).to_string()
}
