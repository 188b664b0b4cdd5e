//! Where a command's calls go: to the services of this process, or to a server.

use std::sync::Arc;
use std::time::Duration;

use commonplace_node::{Channels, Node, NodeError, NodeOptions};
use commonplace_rpc::{Channel, RemoteOptions, context};
use commonplace_storage::StorageError;
use commonplace_types::SystemClock;

use crate::cli::Global;
use crate::failure::{self, Known};

/// Longest that one call of a command may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Reads the settings that are in force for a command.
pub fn settings(global: &Global) -> anyhow::Result<NodeOptions> {
    let mut flags = global.settings.clone();
    if let Some(folder) = &global.data_dir {
        flags.push(("data_dir".into(), folder.display().to_string()));
    }
    Ok(commonplace_config::load(global.config.as_deref(), &flags)?)
}

/// Says which folder could not be opened, and how to go on when a server holds it.
pub fn explain(error: NodeError, folder: &str) -> anyhow::Error {
    if matches!(error, NodeError::Storage(StorageError::InUse { .. })) {
        let known = Known {
            code: failure::FAILED,
            problem: error.to_string(),
            next_step:
                "if a server holds it, call that: --server and the address it printed when it \
                        started"
                    .into(),
        };
        return known.into();
    }
    anyhow::Error::from(error).context(format!("cannot open the data folder {folder}"))
}

/// Open channels to all services. Must be closed.
pub struct Session {
    /// To each service.
    pub channels: Channels,
    node: Option<Node>,
}

impl Session {
    /// Starts the services in this process, or connects to the server that was named.
    async fn open(global: &Global) -> anyhow::Result<Self> {
        if let Some(server) = &global.server {
            // Somebody is waiting to be told that there is no server.
            let remote = RemoteOptions {
                patience: Duration::from_secs(2),
                ..RemoteOptions::default()
            };
            let channel = Channel::remote(std::slice::from_ref(server), &remote)?;
            return Ok(Self {
                channels: Channels::all(channel),
                node: None,
            });
        }
        Self::start(&settings(global)?).await
    }

    /// Starts the services in this process.
    async fn start(options: &NodeOptions) -> anyhow::Result<Self> {
        let folder = options.data_dir.display().to_string();
        let node = Node::start(options, Arc::new(SystemClock))
            .await
            .map_err(|error| explain(error, &folder))?;
        Ok(Self {
            channels: node.channels().clone(),
            node: Some(node),
        })
    }

    /// Whether the services run in this process.
    pub fn is_embedded(&self) -> bool {
        self.node.is_some()
    }

    async fn close(self) {
        if let Some(node) = self.node {
            node.shutdown().await;
        }
    }
}

/// Runs a command's work with open channels, and closes them whatever comes of it.
pub async fn with<T>(
    global: &Global,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    run(Session::open(global).await?, work).await
}

/// As [`with`], in this process and by these settings alone.
pub async fn with_options<T>(
    options: &NodeOptions,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    run(Session::start(options).await?, work).await
}

async fn run<T>(
    session: Session,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let result = context::with_deadline(CALL_TIMEOUT, work(&session)).await;
    session.close().await;
    result
}
