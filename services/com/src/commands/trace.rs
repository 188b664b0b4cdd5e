//! `com trace`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use commonplace_node::told_spans;
use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_proto::telemetry::{
    GetTraceRequest, ListTracesRequest, ListTracesResponse, Process, Span,
};
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_rpc::{Channel, context};
use commonplace_telemetry::{Spans, Trace as Place};

use crate::cli::Global;
use crate::cli::sight::Trace;
use crate::failure::{self, Known};
use crate::{hint, output, session, tree};

/// How long a server may take to say what it remembers of a command that is done.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows one trace as a tree, or lists the newest.
pub async fn run(global: &Global, arguments: Trace) -> anyhow::Result<()> {
    needs_server(global, "trace")?;
    session::with(global, async |session| {
        let client = client(&session.channels.telemetry);
        match &arguments.id {
            Some(id) => show(global, client, &trace_id(id)).await,
            None => listed(global, client, &arguments).await,
        }
    })
    .await
}

/// Shows on standard error where the time of the present command went: what this process remembers, and what the
/// server does. A server that cannot be asked is passed over: the command itself has told why.
pub async fn own(global: &Global, spans: &Arc<Spans>, trace: Place, ended: Span) {
    let id = trace.trace_id();
    let mut told = told_spans(spans, trace.trace());
    if let Some(server) = &global.server
        && let Ok(channel) = session::remote(global, server)
    {
        let request = GetTraceRequest {
            trace_id: id.clone(),
            ..GetTraceRequest::default()
        };
        let asking = async { client(&channel).get_trace(request).await };
        if let Ok(answer) = context::with_deadline(PATIENCE, asking).await {
            told.extend(answer.into_inner().spans);
        }
    }
    // What the command leaves behind, such as a connection that is being closed, keeps its span from ending.
    if told.iter().all(|span| span.span_id != ended.span_id) {
        told.push(Span {
            process: spans.process().to_owned(),
            ..ended
        });
    }
    tree::shown(&id, &told)
        .iter()
        .for_each(|line| output::note(line));
}

/// The present command as a span.
pub fn ended(name: &str, trace: Place, started: SystemTime) -> Span {
    let now = SystemTime::now();
    Span {
        trace_id: trace.trace_id(),
        span_id: format!("{:016x}", trace.span()),
        name: name.to_owned(),
        service: "com".to_owned(),
        start: Some(started.into()),
        duration_nanos: now
            .duration_since(started)
            .map_or(0, |took| took.as_nanos() as u64),
        ..Span::default()
    }
}

/// The id itself, or the one in a whole `traceparent`.
fn trace_id(text: &str) -> String {
    let whole = Place::parse(text);
    whole.map_or_else(|| text.to_ascii_lowercase(), |place| place.trace_id())
}

/// What is told about a process is told by a running one.
pub fn needs_server(global: &Global, command: &str) -> anyhow::Result<()> {
    if global.server.is_some() {
        return Ok(());
    }
    let known = Known {
        code: failure::REFUSED,
        problem: format!("{command} asks a running server, and none is named"),
        next_step: format!(
            "start one with `{0} serve` and name it: `{0} --server localhost:8083 {command}`; any command shows its \
             own trace with --trace",
            hint::program()
        ),
    };
    Err(known.into())
}

/// A client with room for long answers.
pub fn client(channel: &Channel) -> TelemetryServiceClient<Channel> {
    TelemetryServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
}

async fn show(
    global: &Global,
    mut client: TelemetryServiceClient<Channel>,
    id: &str,
) -> anyhow::Result<()> {
    let request = GetTraceRequest {
        trace_id: id.to_owned(),
        local: false,
        tenant: global.tenant.clone().unwrap_or_default(),
    };
    let answer = client.get_trace(request).await?.into_inner();
    if global.json {
        output::message(&answer)?;
    } else if !answer.spans.is_empty() {
        tree::shown(id, &answer.spans)
            .iter()
            .for_each(|line| output::line(line));
    }
    complain_of_missing(&answer.processes);
    if answer.spans.is_empty() {
        let known = Known {
            code: failure::FAILED,
            problem: format!("nobody remembers trace {id}"),
            next_step: format!(
                "see which ones there are: {}; a larger telemetry.trace_mebibytes remembers more",
                hint::command(global, "trace")
            ),
        };
        return Err(known.into());
    }
    Ok(())
}

async fn listed(
    global: &Global,
    mut client: TelemetryServiceClient<Channel>,
    arguments: &Trace,
) -> anyhow::Result<()> {
    let request = ListTracesRequest {
        limit: if arguments.last { 1 } else { arguments.limit },
        failed: arguments.failed,
        min_duration_micros: arguments.slow.unwrap_or(0).saturating_mul(1_000),
        local: false,
        tenant: global.tenant.clone().unwrap_or_default(),
    };
    let answer = client.list_traces(request).await?.into_inner();
    match answer.traces.first() {
        Some(newest) if arguments.last => {
            let id = newest.trace_id.clone();
            return show(global, client, &id).await;
        }
        _ if global.json => output::message(&answer)?,
        None => output::line("no such trace is remembered"),
        Some(_) => print(&answer),
    }
    complain_of_missing(&answer.processes);
    Ok(())
}

fn print(answer: &ListTracesResponse) {
    let heading = ["TRACE", "BEGAN", "TOOK", "SPANS", "SERVICE", "WHAT", ""];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for trace in &answer.traces {
        let name = match trace.name.rsplit_once(".v1.") {
            Some((_, short)) => short,
            None => &trace.name,
        };
        rows.push(vec![
            trace.trace_id.clone(),
            output::time(trace.start.as_ref()),
            tree::duration(trace.duration_nanos),
            trace.spans.to_string(),
            trace.service.clone(),
            output::short(name, 50),
            if trace.failed {
                "failed".into()
            } else {
                String::new()
            },
        ]);
    }
    output::table(&rows);
}

/// Says on standard error whom the answer lacks.
pub fn complain_of_missing(processes: &[Process]) {
    for process in processes
        .iter()
        .filter(|process| !process.problem.is_empty())
    {
        let roles = process.roles.join(",");
        let place = match process.endpoint.as_str() {
            "" => String::new(),
            endpoint => format!(" at {endpoint}"),
        };
        output::note(&format!("not asked: {roles}{place}: {}", process.problem));
    }
}
