//! Context packs: what an agent needs to know, within a token budget, with the proof of where it comes from.
//!
//! A retrieval is a row of pure steps: [`plan`] says what to ask the index; [`fusion`] and [`ranking`] score
//! what it found and put it in one order; [`packing`] fills the budget; [`pack`] writes the bytes. The same
//! commit, policy version, request, embedder and clock give the same bytes on any machine, after any number
//! of later writes: [`verify`] makes them anew and says where they differ.
//!
//! What always holds:
//! - A pack's id is the hash of its bytes, and its bytes hold everything needed to make them again.
//! - Every candidate is in the pack or has exactly one reason why it is not.
//! - Scores are whole millionths; ties go by event, then passage. No clock, chance, hash order or order of
//!   arrival reaches the bytes.
//! - Items take at most the budget.
//! - Texts that earlier packs held come from memory, since passages never change; a check fetches all of them anew.
//! - A pack is served from memory until it is on disk; `durable` waits for the disk.
//!
//! Left out: finding candidates and counting tokens (the index does), the rules (the policy service keeps
//! them), reranking by a model, expiry of packs, and who may see what.

pub mod candidate;
mod client;
mod config;
mod convert;
pub mod engine;
mod error;
pub mod fusion;
pub mod json;
pub mod knapsack;
mod metrics;
pub mod pack;
pub mod packing;
pub mod plan;
pub mod ranking;
pub mod recipe;
mod reuse;
pub mod rules;
pub mod service;
mod store;
#[doc(hidden)]
pub mod testing;
mod texts;
pub mod verify;

use std::sync::Arc;

use commonplace_proto::retrieval::retrieval_service_server::RetrievalServiceServer;
use commonplace_rpc::Channel;
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_storage::{Database, Place, SchemaState, StorageError, WallState};
use commonplace_telemetry::Metrics;
use commonplace_types::Clock;
use futures::future::LocalBoxFuture;

pub use config::Options;
pub use error::RetrievalError;

/// A running retrieval service.
#[derive(Clone)]
pub struct Retrieval {
    service: service::Service,
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
pub async fn migrate(place: &Place) -> Result<(), StorageError> {
    store::Store::migrate(place).await
}

/// Opens `packs.db` in a folder, or a schema, and starts to write behind. `index` and `policy` lead to these
/// services.
pub fn start(
    options: Options,
    place: impl Into<Place>,
    index: Channel,
    policy: Channel,
    clock: Arc<dyn Clock>,
) -> LocalBoxFuture<'static, Result<Retrieval, RetrievalError>> {
    started(options, place.into(), index, policy, clock)
}

/// In a box, so that all that the service runs is compiled here, and not again by each program that starts one.
fn started(
    options: Options,
    place: Place,
    index: Channel,
    policy: Channel,
    clock: Arc<dyn Clock>,
) -> LocalBoxFuture<'static, Result<Retrieval, RetrievalError>> {
    Box::pin(open(options, place, index, policy, clock))
}

async fn open(
    options: Options,
    place: Place,
    index: Channel,
    policy: Channel,
    clock: Arc<dyn Clock>,
) -> Result<Retrieval, RetrievalError> {
    let store = store::Store::open(&place, &options).await?;
    let client = client::Upstream::new(index, policy);
    let engine = Arc::new(engine::Engine::new(&options, clock, client, store));
    Ok(Retrieval {
        service: service::Service { engine },
    })
}

impl Retrieval {
    /// The generated server.
    pub fn service(&self) -> RetrievalServiceServer<service::Service> {
        RetrievalServiceServer::new(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Tells what is counted here with the metrics of the process.
    pub fn register(&self, metrics: &Metrics) {
        self.service.engine.numbers().register(metrics);
    }

    /// What packs are kept in.
    pub fn database(&self) -> &Database {
        self.service.engine.database()
    }

    /// Writes every pack that waits, then closes the database.
    pub async fn shutdown(self) -> Result<(), RetrievalError> {
        self.service.engine.shutdown().await
    }
}
