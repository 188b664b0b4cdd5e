//! The index finds passages by words and by meaning, as of any commit.
//!
//! It exists because the journal, the record of truth, answers only questions about ids and order. It is fed by
//! the journal's feed alone, so it can be thrown away at any time and comes back the same.
//!
//! What always holds:
//! - Rows are numbered in the order of the feed, so their numbers, their digest and every answer follow
//!   from the journal alone: equal questions at equal commits get equal answers after later writes, a
//!   restart, a rebuild, or on another machine.
//! - A commit sees what the journal says it sees, on every branch; statistics are exact at the commit.
//! - An answer is complete at the commit that it names: a call waits until the index has caught up.
//! - Nothing that is found wrong on disk reaches a caller: the folder is built again.
//!
//! How it hangs together: [`Projects`](projects) finds a project's engine and waits for it; a `follow`er
//! feeds the engine; the `engine` keeps `state` (rows, events, commits as columns), [`lexical`] (words),
//! `vectors` and `texts`; `visibility` says which rows a commit sees; `search` ranks.
//!
//! Left out: fusing signals into one order, budgets and packs (retrieval's part), and any write.

mod always;
pub mod analyzer;
mod best;
pub mod bitmap;
mod blocking;
pub mod budget;
mod client;
mod codec;
mod column;
mod config;
mod convert;
mod embedding;
mod engine;
mod error;
mod feed;
mod filter;
mod follow;
mod guesses;
mod helper;
mod keys;
pub mod lexical;
mod log;
mod metrics;
mod parts;
pub mod passage;
mod passages;
mod prepare;
mod project;
mod projects;
mod qdrant;
mod ranking;
mod record;
mod search;
mod service;
mod shelf;
mod slots;
mod state;
mod status;
#[cfg(test)]
mod testing;
mod texts;
mod vectors;
mod visibility;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use commonplace_embed::Model;
use commonplace_proto::index::index_service_server::IndexServiceServer;
use commonplace_rpc::Channel;
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_telemetry::Metrics;
use commonplace_types::Clock;
use futures::future::BoxFuture;

use client::Journal;
use embedding::Embedding;
use metrics::IndexMetrics;
use projects::Projects;
use qdrant::Store;

pub use config::{Options, VectorStore};
pub use error::IndexError;
pub use feed::Frame;
pub use passages::{Passage, PassageKey};
pub use qdrant::{QdrantOptions, Quantization, Secret, StoreError};
pub use search::{Always, Answer, Candidate, Eligibility, MOST_ALWAYS, Query, Recorded};
pub use service::Service;
pub use status::{ProjectStatus, Standing, StoreStatus};
pub use vectors::{Codes, DIMENSION, Embedder};

/// The running index.
pub struct Index {
    projects: Arc<Projects>,
    embedding: Option<JoinHandle<()>>,
}

/// Starts the index on `<data_dir>/index` and follows every project of the journal.
///
/// `model`: the embedder, or why there is none: dense search is then off and every answer says so.
/// `clock` is not asked for anything that reaches an answer.
/// Errors: the folder cannot be made; the vector store's settings cannot be used.
pub fn start(
    options: Options,
    data_dir: &Path,
    journal: Channel,
    model: Result<Arc<Model>, String>,
    clock: Arc<dyn Clock>,
) -> BoxFuture<'static, Result<Index, IndexError>> {
    let embedder = model.map(|model| -> Arc<dyn Embedder> { model });
    start_with(options, data_dir, journal, embedder, clock)
}

/// Starts like [`start`] with any embedder.
// In a box, so that all that an index runs is compiled here, and not again by each program that starts one.
pub fn start_with(
    options: Options,
    data_dir: &Path,
    journal: Channel,
    embedder: Result<Arc<dyn Embedder>, String>,
    _clock: Arc<dyn Clock>,
) -> BoxFuture<'static, Result<Index, IndexError>> {
    Box::pin(open(options, data_dir.join("index"), journal, embedder))
}

async fn open(
    options: Options,
    folder: PathBuf,
    journal: Channel,
    embedder: Result<Arc<dyn Embedder>, String>,
) -> Result<Index, IndexError> {
    let made = tokio::fs::create_dir_all(&folder).await;
    made.map_err(|cause| IndexError::Folder {
        path: folder.display().to_string(),
        cause,
    })?;
    let store = vector_store(&options, &embedder)?;
    let embedding = Arc::new(Embedding::new(embedder, options.cached_queries));
    let threads = options.embedding_threads;
    let projects = Projects::new(options, folder, Journal::new(journal), embedding, store);
    let projects = Arc::new(projects);
    projects.keep_store();
    projects.follow_folders();
    projects.poll();
    Ok(Index {
        embedding: embed_in_background(&projects, threads),
        projects,
    })
}

/// The vector store, if one is configured and there is an embedder. Error: its settings cannot be used.
fn vector_store(
    options: &Options,
    embedder: &Result<Arc<dyn Embedder>, String>,
) -> Result<Option<Arc<Store>>, IndexError> {
    match (options.vectors, embedder) {
        (VectorStore::Qdrant, Ok(embedder)) => {
            let store = Store::new(options.qdrant.clone(), embedder.fingerprint())?;
            Ok(Some(Arc::new(store)))
        }
        _ => Ok(None),
    }
}

fn embed_in_background(projects: &Arc<Projects>, threads: usize) -> Option<JoinHandle<()>> {
    let projects = Arc::clone(projects);
    let work = move || projects.embedding.run(threads, || projects.engines());
    let thread = std::thread::Builder::new().name("index-embed".into());
    let started = thread.spawn(work);
    started
        .inspect_err(
            |error| tracing::error!(%error, "no thread for vectors: dense search stands still"),
        )
        .ok()
}

impl Index {
    /// The service, to be routed to.
    pub fn service(&self) -> IndexServiceServer<Service> {
        IndexServiceServer::new(Service::new(Arc::clone(&self.projects)))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Tells how projects are doing for as long as the process runs.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.projects))
    }

    /// Tells what is held here with the metrics of the process.
    pub fn register(&self, metrics: &Metrics) {
        let numbers = IndexMetrics(Arc::clone(&self.projects));
        metrics.register(|registry| registry.register_collector(Box::new(numbers)));
    }

    /// Stops following; everything taken in is on disk when this returns.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.projects.embedding.stop();
            self.projects.shutdown().await;
            if let Some(thread) = self.embedding {
                let _ = tokio::task::spawn_blocking(|| thread.join()).await;
            }
        })
    }
}

/// Tells operators how the projects of all tenants are doing. Cheap to clone.
#[derive(Clone)]
pub struct Watch(Arc<Projects>);

impl Watch {
    /// Every project that is followed here, by tenant and name.
    pub fn standings(&self) -> Vec<Standing> {
        self.0.standings()
    }

    /// Names the embedder. Error: why there is none.
    pub fn embedder(&self) -> Result<&str, &str> {
        self.0.embedding.fingerprint()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Index")
    }
}
