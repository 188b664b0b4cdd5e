//! Starts the services of one process, in the order in which they call each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commonplace_embed::Model;
use commonplace_proto::gateway::gateway_service_server::SERVICE_NAME as GATEWAY;
use commonplace_proto::index::index_service_server::SERVICE_NAME as INDEX;
use commonplace_proto::ingest::ingest_service_server::SERVICE_NAME as INGEST;
use commonplace_proto::journal::journal_service_server::SERVICE_NAME as JOURNAL;
use commonplace_proto::policy::policy_service_server::SERVICE_NAME as POLICY;
use commonplace_proto::retrieval::retrieval_service_server::SERVICE_NAME as RETRIEVAL;
use commonplace_rpc::{Channel, Layered, Limits};
use commonplace_storage::{DataFolder, StorageError};
use commonplace_telemetry::Metrics;
use commonplace_types::Clock;
use tonic::service::Routes;

use crate::NodeOptions;

/// The version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A node could not be started; the first service that failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be had.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A service's folder cannot be made.
    #[error("cannot create `{}`; check the permissions of the data folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The journal did not start.
    #[error(transparent)]
    Journal(#[from] commonplace_journal::JournalError),
    /// The policy service did not start.
    #[error(transparent)]
    Policy(#[from] commonplace_policy::PolicyError),
    /// The ingest service did not start.
    #[error(transparent)]
    Ingest(#[from] commonplace_ingest::IngestError),
    /// The index did not start.
    #[error(transparent)]
    Index(#[from] commonplace_index::IndexError),
    /// The retrieval service did not start.
    #[error(transparent)]
    Retrieval(#[from] commonplace_retrieval::RetrievalError),
}

/// A channel to each service, of this process or of a server.
#[derive(Debug, Clone)]
pub struct Channels {
    /// To ingest.
    pub ingest: Channel,
    /// To the journal.
    pub journal: Channel,
    /// To the index.
    pub index: Channel,
    /// To the policy service.
    pub policy: Channel,
    /// To retrieval.
    pub retrieval: Channel,
    /// To the gateway's own service.
    pub gateway: Channel,
}

impl Channels {
    /// All services behind one address.
    pub fn all(channel: Channel) -> Self {
        Self {
            ingest: channel.clone(),
            journal: channel.clone(),
            index: channel.clone(),
            policy: channel.clone(),
            retrieval: channel.clone(),
            gateway: channel,
        }
    }
}

/// The running services of this process.
pub struct Node {
    channels: Channels,
    metrics: Arc<Metrics>,
    gateway: commonplace_gateway::Options,
    retrieval: commonplace_retrieval::Retrieval,
    index: commonplace_index::Index,
    policy: commonplace_policy::Policies,
    journal: commonplace_journal::Journal,
    // Dropped last: nobody else may take the folder before the services are done with it.
    _folder: DataFolder,
}

impl Node {
    /// Takes the data folder and starts every service on it.
    /// Error: the folder is in use or of a newer version, or a store in it is damaged.
    pub async fn start(options: &NodeOptions, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        let folder = DataFolder::lock(&options.data_dir)?;
        // Each service has a folder of its own, and looks into no other.
        let own = |service: &str| own_folder(folder.path(), service);
        let metrics = Metrics::new();
        let limits = Limits {
            concurrent_calls: options.concurrent_calls,
            ..Limits::default()
        };
        let channel = |routes: Routes| {
            Channel::in_process(Layered::new(
                routes.prepare(),
                limits.clone(),
                metrics.clone(),
            ))
        };

        let journal =
            commonplace_journal::start(options.journal.clone(), &own("journal")?, clock.clone())
                .await?;
        let to_journal = channel(Routes::new(journal.service()));
        let policy =
            commonplace_policy::start(options.policy.clone(), &own("policy")?, clock.clone())
                .await?;
        let to_policy = channel(Routes::new(policy.service()));
        let ingest = commonplace_ingest::start(options.ingest.clone(), to_journal.clone()).await?;
        let to_ingest = channel(Routes::new(ingest.service()));
        let model = load_model(options).await;
        let index = commonplace_index::start(
            options.index.clone(),
            folder.path(),
            to_journal.clone(),
            model,
            clock.clone(),
        )
        .await?;
        let to_index = channel(Routes::new(index.service()));
        let retrieval = commonplace_retrieval::start(
            options.retrieval.clone(),
            &own("retrieval")?,
            to_index.clone(),
            to_policy.clone(),
            clock,
        )
        .await?;
        let to_retrieval = channel(Routes::new(retrieval.service()));
        let names = [GATEWAY, INDEX, INGEST, JOURNAL, POLICY, RETRIEVAL]
            .map(str::to_owned)
            .to_vec();
        let to_gateway = channel(Routes::new(commonplace_gateway::service::Info::server(
            VERSION, names,
        )));

        let channels = Channels {
            ingest: to_ingest,
            journal: to_journal,
            index: to_index,
            policy: to_policy,
            retrieval: to_retrieval,
            gateway: to_gateway,
        };
        let gateway = options.gateway.clone();
        Ok(Self {
            channels,
            metrics,
            gateway,
            retrieval,
            index,
            policy,
            journal,
            _folder: folder,
        })
    }

    /// A channel to each service.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// What a port offers: the gateway over this node's services, gRPC health and reflection.
    pub async fn routes(&self) -> Routes {
        let Channels {
            ingest,
            journal,
            index,
            policy,
            retrieval,
            gateway,
        } = self.channels.clone();
        let backends = BTreeMap::from([
            (INGEST.to_owned(), ingest),
            (JOURNAL.to_owned(), journal),
            (INDEX.to_owned(), index),
            (POLICY.to_owned(), policy),
            (RETRIEVAL.to_owned(), retrieval),
            (GATEWAY.to_owned(), gateway),
        ]);
        let (reporter, health) = tonic_health::server::health_reporter();
        for name in backends.keys() {
            reporter
                .set_service_status(name, tonic_health::ServingStatus::Serving)
                .await;
        }
        let router = commonplace_gateway::start(&self.gateway, backends, self.metrics.clone());
        let routes = Routes::from(router).add_service(health);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(commonplace_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1();
        match reflection {
            Ok(reflection) => routes.add_service(reflection),
            Err(error) => {
                tracing::warn!(%error, "reflection is off: the contracts cannot be described");
                routes
            }
        }
    }

    /// Stops every service, callers first. What was acknowledged is on disk when this returns.
    pub async fn shutdown(self) {
        if let Err(error) = self.retrieval.shutdown().await {
            tracing::error!(%error, "not every pack could be kept");
        }
        self.index.shutdown().await;
        if let Err(error) = self.policy.shutdown().await {
            tracing::error!(%error, "the policy service did not stop well");
        }
        if let Err(error) = self.journal.shutdown().await {
            tracing::error!(%error, "the journal did not stop well");
        }
    }
}

fn own_folder(data: &Path, service: &str) -> Result<PathBuf, NodeError> {
    let path = data.join(service);
    std::fs::create_dir_all(&path).map_err(|cause| NodeError::Folder {
        path: path.clone(),
        cause,
    })?;
    Ok(path)
}

/// Loads the embedding model; without it dense search is off, and the reason is told with every answer.
async fn load_model(options: &NodeOptions) -> Result<Arc<Model>, String> {
    let folder = options.model_dir.clone();
    let loaded = tokio::task::spawn_blocking(move || Model::load(&folder)).await;
    match loaded {
        Ok(Ok(model)) => Ok(Arc::new(model)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the embedding model could not be loaded".into()),
    }
}
