//! What processes tell about themselves is about all tenants: operators see it, and nobody else.

use std::collections::BTreeSet;
use std::time::Duration;

use commonplace_node::Role;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_proto::telemetry::{GetMetricsRequest, GetTraceRequest, Span, SpanKind};
use commonplace_rpc::context::{self, Trace};
use commonplace_rpc::{Bearer, Channel, Code, Failure, RemoteOptions, Tls, TransportOptions};
use commonplace_tests::mesh::{Form, Mesh, reserve_port};

use super::common::{House, Person, make_key, people};
use super::doors::http;

const COMMIT: &str = "commonplace.ingest.v1.IngestService/Commit";

#[tokio::test(flavor = "multi_thread")]
async fn administrators_of_a_tenant_are_no_operators() {
    let house = House::new().await;
    let people = people(&house).await;
    let mut operator = TelemetryServiceClient::new(house.operator.telemetry.clone());
    let told = operator.get_metrics(GetMetricsRequest::default()).await;
    assert!(!told.unwrap().into_inner().processes[0].metrics.is_empty());

    let mut admin = TelemetryServiceClient::new(house.channel(Some(&people["admin"])));
    let refused = admin.get_metrics(GetMetricsRequest::default()).await;
    let failure = Failure::from_status(&refused.unwrap_err());
    assert_eq!(failure.code, Code::PermissionDenied);
    assert_eq!(failure.reason, "FOR_OPERATORS_ONLY");
    for path in ["/traces", "/telemetry/metrics", "/telemetry/checks"] {
        let answer = http(&house, "GET", path, Some(&people["admin"])).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        assert!(answer.contains("FOR_OPERATORS_ONLY"), "{path}: {answer}");
    }
    house.close().await;
}

fn said<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|known| known.name == name);
    found.map(|known| known.value.as_str())
}

/// A gateway does not call others by its caller's name when it gathers: they would not believe it.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_follows_a_refused_call_through_the_mesh() {
    let port = format!("127.0.0.1:{}", reserve_port());
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("access.mode", "required")
        .set_for(Role::Gateway, "service_listen", &port)
        .start()
        .await;
    let certificates = mesh.certificates().unwrap();
    let tls = || Some(Tls::start(&certificates.options("operator"), None).unwrap());
    let reader = Person {
        name: "reader",
        roles: &["reader"],
        scopes: None,
    };
    let policy = mesh.replica(Role::Policy, 0).in_name_of("operator");
    let (_, key) = make_key(&policy, "acme", &reader).await;
    let caller = RemoteOptions {
        tls: tls(),
        bearer: Some(Bearer::new(&key).unwrap()),
        ..TransportOptions::default().remote()
    };
    let caller = Channel::remote(&[mesh.address(Role::Gateway, 0)], &caller).unwrap();
    let commit = CommitRequest {
        project: "shop".into(),
        ..CommitRequest::default()
    };
    let call = async { IngestServiceClient::new(caller).commit(commit).await };
    let refused = context::with_deadline(Duration::from_secs(20), call)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let told = refused.metadata().get("traceparent").unwrap();
    let trace = Trace::parse(told.to_str().unwrap()).unwrap();

    let operator = RemoteOptions {
        tls: tls(),
        peer_role: Some("gateway".into()),
        ..TransportOptions::default().remote()
    };
    let operator = Channel::remote(&[format!("https://{port}")], &operator).unwrap();
    let mut operator = TelemetryServiceClient::new(operator.in_name_of("operator"));
    let request = GetTraceRequest {
        trace_id: trace.trace_id(),
        local: false,
    };
    let call = async { operator.get_trace(request).await };
    let told = context::with_deadline(Duration::from_secs(20), call).await;
    let told = told.unwrap().into_inner();
    let problems: Vec<_> = told.processes.iter().map(|told| &told.problem).collect();
    assert!(problems.iter().all(|text| text.is_empty()), "{problems:?}");
    let roles = told.processes.iter().flat_map(|told| &told.roles);
    assert_eq!(roles.collect::<BTreeSet<_>>().len(), Role::ALL.len());
    let decided = told
        .spans
        .iter()
        .find(|span| span.service == "ingest" && span.kind() == SpanKind::Server);
    let decided = decided.unwrap_or_else(|| panic!("{:#?}", told.spans));
    assert_eq!(decided.name, COMMIT);
    assert_eq!(
        said(decided, "rpc.response.status_code"),
        Some("PERMISSION_DENIED")
    );
    mesh.shutdown().await;
}
