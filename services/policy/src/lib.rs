//! Policies of two kinds: which rules a pack is made by, in versions that never change; and who may do what
//! ([`access`]: keys, grants, authorization policies). Beside them, how much tenants may do ([`limits`]), and the
//! audit log of all services ([`audit`]).
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
//! - The active and the newest versions are in memory; a look-up of the active one touches no disk. Where
//!   several processes share a database, each looks for changes every `policy.refresh_ms`, so that is how
//!   old an active version may be; versions are numbered by the database.
//!
//! Left out: applying a policy (that is retrieval's), trying one against another, and deciding who may do what
//! (every process does, by libs/access).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod access;
pub mod audit;
pub mod builtin;
pub mod catalog;
mod config;
mod convert;
mod error;
pub mod limits;
pub mod parse;
pub mod rules;
mod schema;
pub mod service;
mod store;
mod yaml;

use std::sync::Arc;
use std::time::Duration;

use commonplace_access::credential::key::{Randomness, SystemRandomness};
use commonplace_proto::policy::access_service_server::AccessServiceServer;
use commonplace_proto::policy::audit_service_server::AuditServiceServer;
use commonplace_proto::policy::limits_service_server::LimitsServiceServer;
use commonplace_proto::policy::policy_service_server::PolicyServiceServer;
use commonplace_storage::{Database, Place, SchemaState, StorageError, WallState};
use commonplace_types::Clock;
use futures::future::LocalBoxFuture;

pub use access::AccessError;
pub use audit::AuditError;
pub use config::Options;
pub use error::PolicyError;
pub use limits::LimitsError;

/// A running policy service.
#[derive(Clone)]
pub struct Policies {
    service: service::Service,
    access: access::service::Service,
    limits: limits::service::Service,
    audit: audit::service::Service,
}

/// How the schema at a place stands beside what this program knows.
pub async fn schema_state(place: &Place) -> Result<SchemaState, StorageError> {
    store::Store::schema_state(place).await
}

/// How the wall between tenants stands at a place.
pub async fn wall_state(place: &Place) -> Result<WallState, StorageError> {
    store::Store::wall_state(place).await
}

/// Brings the schema at a place up to date.
pub async fn migrate(place: &Place) -> Result<(), PolicyError> {
    store::Store::open(place).await?.close().await
}

/// Opens `policy.db` in a folder, or a schema, and reads the active policies into memory.
pub fn start(
    options: Options,
    place: impl Into<Place>,
    clock: Arc<dyn Clock>,
) -> LocalBoxFuture<'static, Result<Policies, PolicyError>> {
    started(options, place.into(), clock, Arc::new(SystemRandomness))
}

/// [`start`] with a given source of the ids and secrets of keys.
pub fn start_with(
    options: Options,
    place: impl Into<Place>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
) -> LocalBoxFuture<'static, Result<Policies, PolicyError>> {
    started(options, place.into(), clock, randomness)
}

/// In a box, so that all that the service runs is compiled here, and not again by each program that starts one.
fn started(
    options: Options,
    place: Place,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
) -> LocalBoxFuture<'static, Result<Policies, PolicyError>> {
    Box::pin(open(options, place, clock, randomness))
}

async fn open(
    options: Options,
    place: Place,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
) -> Result<Policies, PolicyError> {
    let catalog = catalog::Catalog::open(options.clone(), &place, clock.clone()).await?;
    let limits = limits::Keeper::new(catalog.database().clone(), &options, clock.clone());
    let limits = limits.map_err(PolicyError::from)?;
    let keep = match options.audit_keep_days {
        0 => None,
        days => Some(Duration::from_secs(u64::from(days) * 86_400)),
    };
    let log = audit::Log::start(catalog.database().clone(), clock.clone(), keep);
    let surroundings = access::Surroundings {
        options,
        clock,
        randomness,
    };
    let keeper = access::Keeper::new(catalog.database().clone(), surroundings);
    Ok(Policies {
        service: service::Service { catalog },
        access: access::service::Service { keeper },
        limits: limits::service::Service { keeper: limits },
        audit: audit::service::Service { log },
    })
}

impl Policies {
    /// The generated server.
    pub fn service(&self) -> PolicyServiceServer<service::Service> {
        PolicyServiceServer::new(self.service.clone())
    }

    /// The generated server for keys, grants and authorization policies.
    pub fn access_service(&self) -> AccessServiceServer<access::service::Service> {
        AccessServiceServer::new(self.access.clone())
    }

    /// What policies, keys and grants are kept in.
    pub fn database(&self) -> &Database {
        self.service.catalog.database()
    }

    /// The generated server for limits.
    pub fn limits_service(&self) -> LimitsServiceServer<limits::service::Service> {
        LimitsServiceServer::new(self.limits.clone())
    }

    /// The generated server for the audit log.
    pub fn audit_service(&self) -> AuditServiceServer<audit::service::Service> {
        AuditServiceServer::new(self.audit.clone())
            .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES)
    }

    /// Ends what is under way and closes the database.
    pub async fn shutdown(self) -> Result<(), PolicyError> {
        self.audit.log.end();
        self.service.catalog.close().await
    }
}
