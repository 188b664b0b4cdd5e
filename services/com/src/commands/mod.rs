//! One module for each group of commands.

mod audit;
mod authz;
mod certs;
mod demo;
mod doctor;
mod events;
mod grants;
mod index;
mod ingest;
mod keys;
mod limits;
mod metrics;
mod migrate;
mod model;
mod policy;
mod refs;
mod retrieve;
mod serve;
mod token;
mod trace;

use commonplace_node::VERSION;
use commonplace_proto::common::{Reference, reference::Point};
use commonplace_proto::gateway::GetServerInfoRequest;
use commonplace_proto::gateway::gateway_service_client::GatewayServiceClient;
use commonplace_telemetry::{Identity, trace_of};
use tracing::Instrument;

use crate::cli::{AsOf, Cli, Command, Config, Global};
use crate::{output, session};

/// Does what was asked for.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let global = cli.global.clone();
    let telemetry = match &cli.command {
        Command::Config(_) | Command::Certs(_) | Command::Token(_) => None,
        command => Some(start_telemetry(
            &global,
            matches!(command, Command::Serve(_)),
        )?),
    };
    let Some(telemetry) = telemetry else {
        return dispatch(&global, cli.command).await;
    };
    let spans = telemetry.spans();
    if let Command::Serve(arguments) = cli.command {
        return serve::run(&global, arguments, spans).await;
    }
    let (name, started) = (cli.command.name(), std::time::SystemTime::now());
    let span = tracing::info_span!(
        target: "commonplace::rpc", "command", otel.name = name, service = "com",
    );
    let trace = trace_of(&span);
    let done = dispatch(&global, cli.command).instrument(span).await;
    if let Some(trace) = trace.filter(|_| global.show_trace) {
        let ended = trace::ended(name, trace, started);
        trace::own(&global, spans, trace, ended).await;
    }
    done
}

async fn dispatch(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(global, arguments).await,
        // It has no end that its trace could be shown at; see `run`.
        Command::Serve(_) => Ok(()),
        Command::Ingest(arguments) => ingest::run(global, arguments).await,
        Command::Events(arguments) => events::list(global, arguments).await,
        Command::Log(arguments) => events::log(global, arguments).await,
        Command::Branch(arguments) => refs::branch(global, arguments).await,
        Command::Tag(arguments) => refs::tag(global, arguments).await,
        Command::Journal(arguments) => events::journal(global, arguments).await,
        Command::Search(arguments) => retrieve::search(global, arguments).await,
        Command::Retrieve(arguments) => retrieve::retrieve(global, arguments).await,
        Command::Pack(arguments) => retrieve::preview(global, arguments).await,
        Command::Verify(arguments) => retrieve::verify(global, arguments).await,
        Command::Policy(arguments) => policy::run(global, arguments).await,
        Command::Index(arguments) => index::run(global, arguments).await,
        Command::Migrate(arguments) => migrate::run(global, arguments).await,
        Command::Model(arguments) => model::run(global, arguments).await,
        Command::Keys(arguments) => keys::run(global, arguments).await,
        Command::Grants(arguments) => grants::run(global, arguments).await,
        Command::Authz(arguments) => authz::run(global, arguments).await,
        Command::Limits(command) => limits::run(global, command).await,
        Command::Audit(arguments) => audit::run(global, arguments).await,
        Command::Token(arguments) => token::run(global, arguments),
        Command::Certs(command) => certs::run(global, command),
        Command::Config(Config::Dump) => dump(global),
        Command::Health => health(global).await,
        Command::Trace(arguments) => trace::run(global, arguments).await,
        Command::Metrics => metrics::run(global).await,
        Command::Top(arguments) => metrics::top(global, arguments).await,
        Command::Doctor => doctor::run(global).await,
    }
}

/// One-shot commands log warnings only, unless the settings say otherwise.
fn start_telemetry(global: &Global, serving: bool) -> anyhow::Result<commonplace_telemetry::Guard> {
    let mut options = session::settings(global)?.telemetry;
    if !serving && options.log == commonplace_telemetry::Options::default().log {
        options.log = "warn".into();
    }
    let identity = Identity {
        version: VERSION.to_owned(),
    };
    Ok(commonplace_telemetry::start(&options, &identity)?)
}

fn dump(global: &Global) -> anyhow::Result<()> {
    let settings = session::settings(global)?;
    if global.json {
        output::json(&serde_json::to_value(&settings)?);
    } else {
        output::line(commonplace_config::dump(&settings)?.trim_end());
    }
    Ok(())
}

async fn health(global: &Global) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = GatewayServiceClient::new(session.channels.gateway.clone());
        let info = client
            .get_server_info(GetServerInfoRequest {})
            .await?
            .into_inner();
        if global.json {
            return output::message(&info);
        }
        let place = global.server.as_deref().unwrap_or("this process");
        output::line(&format!(
            "{} com {} at {place}",
            output::paint(output::GREEN, "serving"),
            info.version
        ));
        for service in &info.services {
            output::line(&format!("  {service}"));
        }
        Ok(())
    })
    .await
}

/// The point in history that the arguments name; nothing named means the head of `main`.
fn reference(as_of: &AsOf) -> Option<Reference> {
    let point = match as_of {
        AsOf {
            branch: Some(name), ..
        } => Point::Branch(name.clone()),
        AsOf {
            tag: Some(name), ..
        } => Point::Tag(name.clone()),
        AsOf {
            commit: Some(hash), ..
        } => Point::Commit(hash.clone()),
        AsOf { .. } => return None,
    };
    Some(Reference { point: Some(point) })
}
