//! One request is one trace, in every process that it goes through.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use commonplace_node::Role;
use commonplace_proto::retrieval::GetPackRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_proto::telemetry::{GetTraceRequest, GetTraceResponse, Span, SpanKind};
use commonplace_rpc::context::Trace;
use commonplace_tests::mesh::{Form, Mesh, program};
use commonplace_tests::sink::{Received, Sink};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;

use crate::common::{retrieve, traced, write};

const APPEND: &str = "commonplace.journal.v1.JournalService/Append";
const INGEST: &str = "commonplace.ingest.v1.IngestService/IngestEvents";
const RETRIEVE: &str = "commonplace.retrieval.v1.RetrievalService/Retrieve";
const SEARCH: &str = "commonplace.index.v1.IndexService/Search";

/// Each span's way up, by names with kinds, as far as it is in the trace; then who is above that.
fn way_up<'a>(spans: &'a [Received], of: &'a Received) -> (Vec<(String, Kind)>, Vec<u8>) {
    let by_id: BTreeMap<&[u8], &Received> = spans
        .iter()
        .map(|span| (span.span.span_id.as_slice(), span))
        .collect();
    let (mut way, mut at) = (Vec::new(), of);
    loop {
        way.push((at.span.name.clone(), at.span.kind()));
        match by_id.get(at.span.parent_span_id.as_slice()) {
            Some(above) => at = above,
            None => return (way, at.span.parent_span_id.clone()),
        }
    }
}

fn find<'a>(spans: &'a [Received], name: &str, kind: Kind) -> Option<&'a Received> {
    let mut found = spans.iter().filter(|span| span.span.name == name);
    found.find(|span| span.span.kind() == kind)
}

fn has_one_root(spans: &[Received], caller: Trace) {
    for span in spans {
        let (way, above) = way_up(spans, span);
        assert_eq!(
            above,
            caller.span().to_be_bytes(),
            "{way:?} leads to the caller"
        );
    }
    let ids: BTreeSet<&[u8]> = spans
        .iter()
        .map(|span| span.span.span_id.as_slice())
        .collect();
    assert_eq!(ids.len(), spans.len(), "each span is sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_in_every_process() {
    let sink = Sink::start().await;
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("telemetry.otlp_endpoint", &sink.address)
        .start()
        .await;
    let channels = mesh.channels();

    let (caller, written) = traced(write(&channels, "a test fails", "now and then")).await;
    let written = written.unwrap();
    let told = written
        .metadata()
        .get("traceparent")
        .expect("the answer names its trace");
    let told = Trace::parse(told.to_str().unwrap()).unwrap();
    assert_eq!(told.trace_id(), caller.trace_id());

    let whole = |spans: &[Received]| {
        find(spans, APPEND, Kind::Server).is_some()
            && find(spans, "write", Kind::Client).is_some()
            && find(spans, INGEST, Kind::Server)
                .is_some_and(|_| spans.iter().filter(|s| s.span.name == INGEST).count() == 3)
    };
    let spans = sink.trace(caller.trace(), whole).await;
    has_one_root(&spans, caller);
    let database = find(&spans, "write", Kind::Client).unwrap();
    assert_eq!(
        database.attribute("db.system.name").as_deref(),
        Some("sqlite")
    );
    assert_eq!(
        database.attribute("db.namespace").as_deref(),
        Some("journal")
    );
    let (way, _) = way_up(&spans, database);
    let expected = [
        ("write", Kind::Client),
        ("write a group", Kind::Internal),
        (APPEND, Kind::Server),
        (APPEND, Kind::Client),
        (INGEST, Kind::Server),
        (INGEST, Kind::Client),
        (INGEST, Kind::Server),
    ];
    assert_eq!(way, expected.map(|(name, kind)| (name.to_owned(), kind)));
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    // The gateway and the journal asked, for the first time, how much the tenant may do.
    let expected = [
        "commonplace-gateway",
        "commonplace-ingest",
        "commonplace-journal",
        "commonplace-policy",
    ];
    assert_eq!(services, expected.into());
    let made = find(&spans, APPEND, Kind::Client).unwrap();
    assert_eq!(made.attribute("rpc.system.name").as_deref(), Some("grpc"));
    assert_eq!(
        made.attribute("rpc.response.status_code").as_deref(),
        Some("OK")
    );
    assert!(mesh.address(Role::Journal, 0).ends_with(&format!(
        "{}:{}",
        made.attribute("server.address").unwrap(),
        made.attribute("server.port").unwrap()
    )));

    // The index takes the commit in later, in a trace of its own that says where it came from.
    let append = find(&spans, APPEND, Kind::Server)
        .unwrap()
        .span
        .span_id
        .clone();
    let started = Instant::now();
    let applied = loop {
        let follows = |span: &Received| span.span.links.iter().any(|link| link.span_id == append);
        if let Some(applied) = sink.received().into_iter().find(follows) {
            break applied;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "nothing follows from the append"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(applied.span.name, "process journal");
    assert_eq!(
        (applied.span.kind(), applied.service.as_str()),
        (Kind::Consumer, "commonplace-index")
    );
    assert_eq!(
        applied.attribute("messaging.destination.name").as_deref(),
        Some("journal")
    );

    let (caller, packed) = traced(retrieve(&channels, "which test fails?")).await;
    let pack = packed.unwrap().into_inner().pack.unwrap();
    let mut retrieval = RetrievalServiceClient::new(channels.retrieval.clone());
    let kept = retrieval
        .get_pack(GetPackRequest { id: pack.id })
        .await
        .unwrap()
        .into_inner();
    let made = Trace::parse(&kept.traceparent).expect("a pack knows the call that made it");
    assert_eq!(made.trace_id(), caller.trace_id());
    let whole = |spans: &[Received]| {
        let names: BTreeSet<&str> = spans.iter().map(|span| span.span.name.as_str()).collect();
        let steps = [
            "plan",
            "search",
            "search lexical",
            "fuse",
            "pack",
            "fetch texts",
            "keep",
            "write packs",
        ];
        let retrieves = spans
            .iter()
            .filter(|span| span.span.name == RETRIEVE)
            .count();
        steps.iter().all(|step| names.contains(step)) && retrieves == 3
    };
    let spans = sink.trace(caller.trace(), whole).await;
    has_one_root(&spans, caller);
    let (way, _) = way_up(
        &spans,
        find(&spans, "search lexical", Kind::Internal).unwrap(),
    );
    let expected = [
        ("search lexical", Kind::Internal),
        (SEARCH, Kind::Server),
        (SEARCH, Kind::Client),
        ("search", Kind::Internal),
        (RETRIEVE, Kind::Server),
        (RETRIEVE, Kind::Client),
        (RETRIEVE, Kind::Server),
    ];
    assert_eq!(way, expected.map(|(name, kind)| (name.to_owned(), kind)));

    let told = ask(&mesh, &caller.trace_id()).await;
    let asked: BTreeSet<String> = told
        .processes
        .iter()
        .flat_map(|p| p.roles.clone())
        .collect();
    assert_eq!(
        asked.len(),
        6,
        "every process was asked: {:?}",
        told.processes
    );
    assert!(
        told.processes
            .iter()
            .all(|process| process.problem.is_empty())
    );
    let own = told.spans.iter();
    let own = own.filter(|span| span.trace_id == caller.trace_id());
    let remembered: BTreeSet<Place> = own.map(remembered).collect();
    // What ended while the processes were asked is on its way.
    let again = |sent: &[Received]| sent.len() >= remembered.len();
    let sent = sink.trace(caller.trace(), again).await;
    assert_eq!(
        sent.iter().map(sent_to_sink).collect::<BTreeSet<_>>(),
        remembered
    );
    is_shown_as_a_tree(&mesh, caller);
}

/// A span by its place and its names: id, parent, name, service.
type Place = [String; 4];

fn remembered(span: &Span) -> Place {
    let (id, parent) = (span.span_id.clone(), span.parent_span_id.clone());
    [
        id,
        parent,
        span.name.clone(),
        format!("commonplace-{}", span.service),
    ]
}

fn sent_to_sink(received: &Received) -> Place {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let span = &received.span;
    let (id, parent) = (hex(&span.span_id), hex(&span.parent_span_id));
    [id, parent, span.name.clone(), received.service.clone()]
}

/// Asks the gateway by the program, as a person would.
fn is_shown_as_a_tree(mesh: &Mesh, trace: Trace) {
    let certificates = mesh.certificates().unwrap().options("operator");
    let mut com = std::process::Command::new(program());
    com.env("NO_COLOR", "1").env_remove("COM_SERVER");
    com.args(["--server", &mesh.address(Role::Gateway, 0)]);
    for (key, file) in [
        ("certificate", certificates.certificate),
        ("key", certificates.key),
        ("authority", certificates.authority),
    ] {
        com.args(["--set", &format!("tls.{key}={}", file.display())]);
    }
    let done = com.args(["trace", &trace.trace_id()]).output().unwrap();
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{shown}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains(" processes"), "{shown}");
    // Each lies one step deeper than the one before it.
    let mut deeper = 0;
    for (service, step) in [
        ("gateway", "RetrievalService/Retrieve"),
        ("retrieval", "└ RetrievalService/Retrieve"),
        ("retrieval", "search"),
        ("index", "IndexService/Search"),
        ("index", "search lexical"),
    ] {
        let found = lines.iter().position(|line| {
            let depth = line
                .chars()
                .skip(11)
                .take_while(|c| "│├└ ".contains(*c))
                .count();
            line.starts_with(service) && line.contains(step) && depth >= deeper
        });
        let found = found.unwrap_or_else(|| panic!("{service} {step} in\n{shown}"));
        let line = lines[found].chars().skip(11);
        deeper = line.take_while(|c| "│├└ ".contains(*c)).count() + 1;
    }
}

async fn ask(mesh: &Mesh, trace_id: &str) -> GetTraceResponse {
    let mut client = TelemetryServiceClient::new(mesh.channels().telemetry);
    let request = GetTraceRequest {
        trace_id: trace_id.into(),
        ..GetTraceRequest::default()
    };
    client.get_trace(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_is_found_by_the_trace_that_its_error_names() {
    let mut mesh = Mesh::builder(Form::PerRole).tls().start().await;
    write(&mesh.channels(), "a", "b").await.unwrap();
    mesh.kill9(Role::Index, 0);
    let call = retrieve_quickly(&mesh).await;
    let error = call.unwrap_err();
    let told = error
        .metadata()
        .get("traceparent")
        .expect("the error names its trace");
    let trace = Trace::parse(told.to_str().unwrap()).unwrap();
    let told = ask(&mesh, &trace.trace_id()).await;
    let failed: Vec<&str> = told
        .spans
        .iter()
        .filter(|span| span.failed && span.kind() == SpanKind::Server)
        .map(|span| span.service.as_str())
        .collect();
    assert!(
        failed.contains(&"gateway") && failed.contains(&"retrieval"),
        "{:#?}",
        told.spans
    );
    let missing: Vec<_> = told
        .processes
        .iter()
        .filter(|p| !p.problem.is_empty())
        .collect();
    assert_eq!(missing.len(), 1, "{:?}", told.processes);
    assert_eq!(missing[0].roles, ["index"]);
}

async fn retrieve_quickly(
    mesh: &Mesh,
) -> Result<tonic::Response<commonplace_proto::retrieval::RetrieveResponse>, tonic::Status> {
    let channels = mesh.channels();
    let call = retrieve(&channels, "which?");
    commonplace_rpc::context::with_deadline(Duration::from_secs(4), call).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_tells_the_same_trace() {
    let mesh = Mesh::builder(Form::OneProcess).start().await;
    let (caller, written) = traced(write(&mesh.channels(), "a", "b")).await;
    written.unwrap();
    let told = ask(&mesh, &caller.trace_id()).await;
    let services: BTreeSet<&str> = told
        .spans
        .iter()
        .filter(|span| span.trace_id == caller.trace_id())
        .map(|span| span.service.as_str())
        .collect();
    assert_eq!(
        services,
        ["gateway", "ingest", "journal", "policy"].into(),
        "{:#?}",
        told.spans
    );
    assert_eq!(told.processes.len(), 1);
}
