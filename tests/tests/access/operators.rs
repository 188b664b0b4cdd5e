//! What processes tell about themselves: a tenant's administrators see the traces of its own calls, operators see
//! everything, and nobody else sees anything.

use std::collections::BTreeSet;
use std::time::Duration;

use commonplace_node::Role;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_proto::telemetry::{
    GetMetricsRequest, GetTraceRequest, GetTraceResponse, ListTracesRequest, Span, SpanKind,
};
use commonplace_rpc::context::{self, Call, Trace};
use commonplace_rpc::{Bearer, Channel, Code, Failure, RemoteOptions, Tls, TransportOptions};
use commonplace_tests::mesh::{Form, Mesh, reserve_port};
use tonic::Status;

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
    for (who, path, expected) in [
        ("admin", "/telemetry/metrics", "FOR_OPERATORS_ONLY"),
        ("admin", "/telemetry/checks", "FOR_OPERATORS_ONLY"),
        ("admin", "/traces?tenant=rival", "FOR_OPERATORS_ONLY"),
        ("stranger", "/traces?tenant=acme", "FOR_OPERATORS_ONLY"),
        ("writer", "/traces", "ACCESS_DENIED"),
    ] {
        let answer = http(&house, "GET", path, Some(&people[who])).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        assert!(answer.contains(expected), "{path}: {answer}");
    }
    let own = http(&house, "GET", "/traces?tenant=acme", Some(&people["admin"])).await;
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    house.close().await;
}

/// A mesh that asks who calls, and the operator's way into it.
struct Watched {
    mesh: Mesh,
    inside: String,
}

impl Watched {
    async fn start() -> Self {
        let inside = format!("127.0.0.1:{}", reserve_port());
        let mesh = Mesh::builder(Form::PerRole)
            .tls()
            .set("access.mode", "required")
            .set_for(Role::Gateway, "service_listen", &inside)
            .start()
            .await;
        Self { mesh, inside }
    }

    fn tls(&self) -> Option<Tls> {
        let certificates = self.mesh.certificates().unwrap();
        Some(Tls::start(&certificates.options("operator"), None).unwrap())
    }

    /// A caller with a key of a tenant, through the port for everybody.
    async fn caller(&self, tenant: &str, roles: &'static [&'static str]) -> Channel {
        let who = Person {
            name: "caller",
            roles,
            scopes: None,
        };
        let policy = self.mesh.replica(Role::Policy, 0).in_name_of("operator");
        let (_, key) = make_key(&policy, tenant, &who).await;
        let options = RemoteOptions {
            tls: self.tls(),
            bearer: Some(Bearer::new(&key).unwrap()),
            ..TransportOptions::default().remote()
        };
        Channel::remote(&[self.mesh.address(Role::Gateway, 0)], &options).unwrap()
    }

    /// The operator, through the port for services.
    fn operator(&self) -> Channel {
        let options = RemoteOptions {
            tls: self.tls(),
            peer_role: Some("gateway".into()),
            ..TransportOptions::default().remote()
        };
        let channel = Channel::remote(&[format!("https://{}", self.inside)], &options).unwrap();
        channel.in_name_of("operator")
    }
}

/// Makes a call as part of a trace.
async fn within<T>(trace: Trace, work: impl Future<Output = T>) -> T {
    let call = Call {
        trace,
        ..Call::root(Some(Duration::from_secs(20)))
    };
    context::scope(call, work).await
}

/// Tries to write. Where somebody may not, that is a trace too.
async fn commit(channel: &Channel, trace: Trace) -> Result<(), Status> {
    let request = CommitRequest {
        project: "shop".into(),
        ..CommitRequest::default()
    };
    let mut client = IngestServiceClient::new(channel.clone());
    within(trace, client.commit(request)).await.map(drop)
}

async fn told(channel: &Channel, trace: Trace, tenant: &str) -> Result<GetTraceResponse, Status> {
    let request = GetTraceRequest {
        trace_id: trace.trace_id(),
        tenant: tenant.into(),
        local: false,
    };
    let mut client = TelemetryServiceClient::new(channel.clone());
    let answer = within(Trace::start(), client.get_trace(request)).await;
    answer.map(tonic::Response::into_inner)
}

async fn listed(channel: &Channel) -> BTreeSet<String> {
    let request = ListTracesRequest {
        limit: 1_000,
        ..ListTracesRequest::default()
    };
    let mut client = TelemetryServiceClient::new(channel.clone());
    let answer = within(Trace::start(), client.list_traces(request)).await;
    let traces = answer.unwrap().into_inner().traces;
    traces.into_iter().map(|trace| trace.trace_id).collect()
}

fn said<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|known| known.name == name);
    found.map(|known| known.value.as_str())
}

fn services(told: &GetTraceResponse) -> BTreeSet<&str> {
    told.spans
        .iter()
        .map(|span| span.service.as_str())
        .collect()
}

/// A gateway does not call others by its caller's name when it gathers: they would not believe it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_followed_by_operators_and_by_its_own_tenant_alone() {
    let watched = Watched::start().await;
    let reader = watched.caller("acme", &["reader"]).await;
    let (acme, rival) = (
        watched.caller("acme", &["admin"]).await,
        watched.caller("rival", &["admin"]).await,
    );
    let trace = Trace::start();
    let refused = commit(&reader, trace).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let header = refused.metadata().get("traceparent").unwrap();
    let named = Trace::parse(header.to_str().unwrap()).unwrap();
    assert_eq!(named.trace_id(), trace.trace_id());

    let seen = told(&watched.operator(), trace, "").await.unwrap();
    let problems: Vec<_> = seen.processes.iter().map(|told| &told.problem).collect();
    assert!(problems.iter().all(|text| text.is_empty()), "{problems:?}");
    let roles = seen.processes.iter().flat_map(|told| &told.roles);
    assert_eq!(roles.collect::<BTreeSet<_>>().len(), Role::ALL.len());
    let decided = seen
        .spans
        .iter()
        .find(|span| span.service == "ingest" && span.kind() == SpanKind::Server);
    let decided = decided.unwrap_or_else(|| panic!("{:#?}", seen.spans));
    assert_eq!(decided.name, COMMIT);
    assert_eq!(
        said(decided, "rpc.response.status_code"),
        Some("PERMISSION_DENIED")
    );

    let own = told(&acme, trace, "").await.unwrap();
    // The gateway asked, for the first time, how much the tenant may do.
    let expected = ["gateway", "ingest", "policy"].into();
    assert_eq!(services(&own), expected, "{own:#?}");
    assert!(
        own.spans.iter().all(|span| span.tenant == "acme"),
        "{own:#?}"
    );
    assert!(
        own.spans
            .iter()
            .all(|span| said(span, "server.address").is_none())
    );
    assert!(
        own.processes
            .iter()
            .all(|process| process.endpoint.is_empty())
    );
    assert!(listed(&acme).await.contains(&trace.trace_id()));

    assert_eq!(told(&rival, trace, "").await.unwrap().spans, []);
    assert!(!listed(&rival).await.contains(&trace.trace_id()));
    let asked = told(&rival, trace, "acme").await.unwrap_err();
    assert_eq!(Failure::from_status(&asked).reason, "FOR_OPERATORS_ONLY");

    // Whoever continues somebody else's trace sees its own part of it, and shows nothing else to that one.
    let _ = commit(&rival, trace.child()).await;
    let part = told(&rival, trace, "").await.unwrap();
    assert!(!part.spans.is_empty());
    assert!(
        part.spans.iter().all(|span| span.tenant == "rival"),
        "{part:#?}"
    );
    assert_eq!(told(&acme, trace, "").await.unwrap().spans, own.spans);
    let of_one = told(&watched.operator(), trace, "rival").await.unwrap();
    assert_eq!(of_one.spans.len(), part.spans.len());
    watched.mesh.shutdown().await;
}
