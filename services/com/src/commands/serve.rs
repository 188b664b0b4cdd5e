//! `com serve`.

use std::sync::Arc;
use std::time::Duration;

use commonplace_node::{Node, VERSION};
use commonplace_rpc::server::Server;
use commonplace_types::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Global, Serve};
use crate::{output, session};

/// Binds, starts, becomes ready, and serves until it is told to stop. A second signal ends it at once.
pub async fn run(global: &Global, arguments: Serve) -> anyhow::Result<()> {
    let mut options = session::settings(global)?;
    if let Some(listen) = arguments.listen {
        options.listen = listen;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::bind(&options.listen).await?;
    let folder = options.data_dir.display().to_string();
    let node = Node::start(&options, Arc::new(SystemClock))
        .await
        .map_err(|error| session::explain(error, &folder))?;
    server.open(node.routes().await);
    let address = server.address();
    tracing::info!(%address, data = folder, version = VERSION, "serving");
    if global.json {
        output::json(&serde_json::json!({"address": address.to_string(), "version": VERSION}));
    } else {
        output::line(&format!(
            "serving http://{address} (gRPC, gRPC-web, JSON) over {folder}; stop with Ctrl-C"
        ));
    }
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("draining");
    let stop = async {
        if !server
            .drain(Duration::from_secs(options.drain_seconds))
            .await
        {
            tracing::warn!("some calls did not end in time and were cut");
        }
        node.shutdown().await;
    };
    tokio::select! {
        () = stop => {}
        _ = tokio::signal::ctrl_c() => anyhow::bail!("stopped at once by a second signal"),
        _ = terminate.recv() => anyhow::bail!("stopped at once by a second signal"),
    }
    tracing::info!("stopped");
    Ok(())
}
