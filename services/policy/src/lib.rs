//! Retrieval policies: which rules a pack is made by, in versions that never change.
//!
//! A pack names the policy version and the hash of its rules, and can be made again only if that version
//! still says the same years later. So a version is never edited: a put adds the next one, and choosing
//! the active one is a step of its own.
//!
//! What always holds:
//! - A policy that is kept has been read whole: every key known, every value within its bounds. What is
//!   refused is refused with line, key and what was expected, and nothing of it is kept.
//! - The hash is over the rules, not over how they were written: equal rules, equal hash, on any machine.
//! - The shipped policies are version 1 of their ids; a tenant's own versions follow, and never show to
//!   another tenant.
//! - The active and the newest versions are in memory; a look-up of the active one touches no disk.
//!
//! Left out: applying a policy (that is retrieval's), trying one against another, and authorization.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod builtin;
pub mod catalog;
mod config;
mod convert;
mod error;
pub mod parse;
pub mod rules;
pub mod service;
mod store;
mod yaml;

use std::path::Path;
use std::sync::Arc;

use commonplace_proto::policy::policy_service_server::PolicyServiceServer;
use commonplace_types::Clock;

pub use config::Options;
pub use error::PolicyError;

/// A running policy service.
#[derive(Clone)]
pub struct Policies {
    service: service::Service,
}

/// Opens `policy.db` in the folder, and reads the active policies into memory.
pub async fn start(
    options: Options,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Policies, PolicyError> {
    let catalog = catalog::Catalog::open(options, data_dir, clock).await?;
    Ok(Policies {
        service: service::Service { catalog },
    })
}

impl Policies {
    /// The generated server.
    pub fn service(&self) -> PolicyServiceServer<service::Service> {
        PolicyServiceServer::new(self.service.clone())
    }

    /// Ends what is under way and closes the database.
    pub async fn shutdown(self) -> Result<(), PolicyError> {
        self.service.catalog.close().await
    }
}
