//! `com serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use commonplace_node::{Node, NodeOptions, Ports, Role, Surroundings, VERSION};
use commonplace_telemetry::Spans;
use commonplace_types::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Global, Serve};
use crate::{open_files, output, session};

/// Binds, starts, becomes ready, and serves until it is told to stop. A second signal ends it at once.
pub async fn run(global: &Global, arguments: Serve, spans: &Arc<Spans>) -> anyhow::Result<()> {
    let mut options = session::settings(global)?;
    if let Some(listen) = arguments.listen {
        options.listen = listen;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    if !arguments.roles.is_empty() {
        options.roles = arguments.roles.into_iter().collect();
    }
    options.gateway.max_connections =
        open_files::connections(options.gateway.max_connections, open_files::raise());
    let surroundings = Surroundings::new(&options)?.with_spans(spans.clone());
    let ports = Ports::bind(&options, &surroundings).await?;
    let folder = options.data_dir.display().to_string();
    let node = Node::start_in(&options, Arc::new(SystemClock), surroundings)
        .await
        .map_err(|error| session::explain(error, &folder))?;
    ports.open(&node);
    say(global, &options, &ports);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("draining");
    let stop = async {
        if !ports
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

fn say(global: &Global, options: &NodeOptions, ports: &Ports) {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let roles: Vec<String> = options.roles.iter().map(ToString::to_string).collect();
    let roles = roles.join(",");
    let address = text(ports.address()).unwrap_or_default();
    let folder = options.data_dir.display().to_string();
    tracing::info!(address, roles, data = folder, version = VERSION, "serving");
    if global.json {
        output::json(&serde_json::json!({
            "address": address,
            "service_address": text(ports.service_address()),
            "health_address": text(ports.health_address()),
            "roles": options.roles,
            "version": VERSION,
        }));
        return;
    }
    let scheme = |on: bool| if on { "https" } else { "http" };
    output::line(&match options.roles.contains(&Role::Gateway) {
        true => {
            let scheme = scheme(options.gateway_tls.is_on());
            format!(
                "serving {scheme}://{address} (gRPC, gRPC-web, JSON) over {folder}; stop with Ctrl-C"
            )
        }
        false => {
            let scheme = scheme(options.tls.is_on());
            format!("serving {roles} to other services on {scheme}://{address}; stop with Ctrl-C")
        }
    });
}
